//! `adze explain`.

use std::path::PathBuf;

use adze_compiler::Error;
use adze_compiler::explain::{Ran, dump, explain as explain_node, resolve, trace};
use adze_compiler::load::{load, supply_weights};
use adze_passes::solved::Solved;
use clap::{Args, ValueEnum};

use crate::args::ModelArgs;
use crate::compile::{BuildArgs, declare_states};
use crate::diag::Failure;
use crate::io::print;

/// Form of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Sorted classes, one e-node per line
    Text,
    /// What the crate egraph-serialize reads
    Json,
    /// A graph for Graphviz
    Dot,
    /// One page to browse, which needs nothing else
    Html,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Costs are what extraction minimises: estimated cycles, an eighth of the bytes moved whose time is not among them, and a
sixteenth of the bytes of constants.

Examples:
  adze explain model.onnx                                the regions of the e-graph stage
  adze explain model.onnx --node Conv_12                 rewrites, alternatives with costs, what later passes did
  adze explain model.onnx --node Conv_12 --dump html -o conv.html
                                                         the region of the node, to browse
  adze explain model.onnx --region 0 --dump text         every form of a region, one e-node per line")]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    build: BuildArgs,
    /// Node of the model: its ONNX name, or a part of it that no other name has
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Write every form of a region instead: that of --region, or the last one that the node is in
    #[arg(long, value_name = "FORM", value_enum)]
    dump: Option<Form>,
    /// Number of the region, as the list without --node has it
    #[arg(long, value_name = "N", requires = "dump", conflicts_with = "node")]
    region: Option<usize>,
    /// File for the text (standard output without it)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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
    let text = match (&args.node, args.dump) {
        (Some(node), None) => explain_node(&loaded.graph, node, &options)?,
        (node, form) => {
            let node = node.as_deref().map(|name| resolve(&loaded.graph, name)).transpose()?;
            let ran = trace(&loaded.graph, &options)?;
            let regions: Vec<&Solved> = ran.iter().flat_map(|Ran { solved, .. }| solved).collect();
            match form {
                None => dump::list(&regions),
                Some(form) => {
                    let number = choose(&regions, node.as_deref(), args.region)?;
                    let title = format!("{}, region {number}, {}", loaded.graph.name, regions[number].pass);
                    write_dump(regions[number], form, &title)
                }
            }
        }
    };
    match &args.output {
        Some(path) => std::fs::write(path, text).map_err(|source| Error::Write { path: path.clone(), source })?,
        None => print(&text),
    }
    Ok(())
}

fn write_dump(region: &Solved, form: Form, title: &str) -> String {
    match form {
        Form::Text => dump::text(region),
        Form::Json => dump::json(region),
        Form::Dot => dump::dot(region),
        Form::Html => dump::html(region, title),
    }
}

/// The region that is meant.
fn choose(regions: &[&Solved], node: Option<&str>, number: Option<usize>) -> Result<usize, Error> {
    if regions.is_empty() {
        return Err(Error::Options("--dump: found no region: the model has no operator".into()));
    }
    let holds = |region: &Solved, name: &str| {
        region.sources.iter().any(|source| source.loc.names().iter().any(|known| **known == *name))
    };
    let last = regions.len() - 1;
    match (node, number) {
        (Some(name), _) => regions.iter().rposition(|region| holds(region, name)).ok_or_else(|| {
            Error::Options(format!("--node: `{name}` is in no region any more when the e-graph stage begins"))
        }),
        (None, Some(number)) if number <= last => Ok(number),
        (None, Some(number)) => Err(Error::Options(format!("--region: found {number}, accepted: 0 to {last}"))),
        (None, None) if last == 0 => Ok(0),
        (None, None) => Err(Error::Options(format!("--dump: give --node, or --region with 0 to {last}"))),
    }
}
