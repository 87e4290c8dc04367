//! `adze check`.

use std::path::PathBuf;

use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::{Error, data};
use adze_ir::tensor::Tensor;
use clap::Args;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::io::InputArgs;
use crate::run::{evaluate, load_bound};

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Recorded case: an .npz with `in_0, in_1, ..` and `out_0, out_1, ..`
    #[arg(long = "case", value_name = "FILE", required = true)]
    cases: Vec<PathBuf>,
    /// Accept twice this absolute difference whatever the dtype's tolerance says
    #[arg(long, value_name = "D", default_value_t = 0.0)]
    accept_twice: f64,
    /// Evaluate with the reference interpreter instead of compiled code
    #[arg(long)]
    interpret: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it; [`Failure::Threshold`] when a difference is over the tolerance.
pub fn check(args: &CheckArgs) -> Result<(), Failure> {
    let mut good = true;
    for case in &args.cases {
        let input = InputArgs { files: vec![case.to_string_lossy().into_owned()], ..InputArgs::default() };
        let (graph, inputs) = load_bound(&args.model, &input)?;
        let outputs = evaluate(&graph, &inputs, args.interpret)?;
        let recorded = data::read(case).map_err(Error::from)?;
        for (index, (output, found)) in graph.outputs().iter().zip(&outputs).enumerate() {
            let reference = recorded.iter().find(|(name, _)| *name == format!("out_{index}")).map(|(_, t)| t);
            let Some(reference) = reference else { continue };
            let tolerance = Tolerance::of_graph(&graph, reference.dtype()).or_twice(args.accept_twice);
            good &= print_difference(&output.name, found, reference, tolerance);
        }
    }
    if good { Ok(()) } else { Err(Failure::Threshold) }
}

fn print_difference(name: &str, found: &Tensor, reference: &Tensor, tolerance: Tolerance) -> bool {
    let Some(d) = compare(found, reference, tolerance) else {
        println!("{name}: found {}, recorded {}", found.ty(), reference.ty());
        return false;
    };
    let verdict = if d.beyond == 0 { "ok" } else { "DIFFERS" };
    let first = d.first.map(|i| format!(", first at element {i}")).unwrap_or_default();
    println!(
        "{name}: {verdict}: max abs {:.3e}, max rel {:.3e}, SQNR {:.1} dB, {} of {} elements beyond tolerance{first}",
        d.max_abs, d.max_rel, d.sqnr, d.beyond, d.elems
    );
    d.beyond == 0
}
