//! `adze explain`.

use adze_compiler::explain::explain as explain_node;
use adze_compiler::load::{load, supply_weights};
use clap::Args;

use crate::args::ModelArgs;
use crate::compile::{BuildArgs, declare_states};
use crate::diag::Failure;
use crate::io::print;

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Costs are what extraction minimises: estimated cycles, an eighth of the bytes moved whose time is not among them, and a
sixteenth of the bytes of constants.

Examples:
  adze explain model.onnx --node Conv_12                 rewrites, alternatives with costs, what later passes did")]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    build: BuildArgs,
    /// Node of the model: its ONNX name, or a part of it that no other name has
    #[arg(long, value_name = "NAME")]
    node: String,
}

/// Runs the command.
///
/// # Errors
/// What stopped it.
pub fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let options = args.build.single()?;
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    declare_states(&mut loaded.graph, &args.model)?;
    print(&explain_node(&loaded.graph, &args.node, &options)?);
    Ok(())
}
