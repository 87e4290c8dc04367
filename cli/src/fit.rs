//! `adze fit`.

use adze_compiler::fit::{Budget, fit as fit_one};
use adze_compiler::load::{load, supply_weights};
use adze_compiler::{Error, npu};
use adze_targets::cpu::Machine;
use clap::Args;

use crate::args::ModelArgs;
use crate::compile::{declare_states, parse_bytes};
use crate::diag::Failure;

/// Arguments of `fit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze fit model.onnx                                    every CPU, without limits
  adze fit model.onnx --target aarch64 --arena 256k --flash 2M
  adze fit model.onnx --target bm1684x                   whether the neural processor runs it, and what it does not

Exit code 3 says that no target fits, 77 that the model itself is not supported.")]
pub struct FitArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Machine to fit, can be given again; all CPUs without it
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Working memory of the device; `k` and `M` stand for KiB and MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    arena: Option<u64>,
    /// Memory for code and constant data
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    flash: Option<u64>,
    #[command(flatten)]
    npu: crate::npu::NpuArgs,
    /// Print one JSON object per target
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it; [`Failure::Threshold`] when no target fits.
pub fn fit(args: &FitArgs) -> Result<(), Failure> {
    let names: Vec<&str> = match args.targets.is_empty() {
        true => Machine::NAMES.to_vec(),
        false => args.targets.iter().map(String::as_str).collect(),
    };
    // A neural processor is asked about where it is named: most models are not quantized.
    let (npus, names): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| crate::npu::is_npu(Some(name)));
    if npus.is_empty() {
        args.npu.refuse()?;
    }
    let machines: Result<Vec<Machine>, _> = names.into_iter().map(Machine::from_name).collect();
    let machines = machines.map_err(|e| Error::Options(e.to_string()))?;
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    declare_states(&mut loaded.graph, &args.model)?;
    let budget = Budget { arena: args.arena, flash: args.flash };
    let mut any = false;
    let host = args.npu.host()?;
    let on_npus = npus.iter().map(|_| npu::fit::fit(&loaded.graph, args.npu.float(), budget, host.as_ref()));
    for fit in machines.iter().map(|machine| fit_one(&loaded.graph, machine, budget)).chain(on_npus) {
        let fit = fit?;
        any |= fit.fits;
        match args.json {
            true => println!("{}", serde_json::to_string(&fit).map_err(|e| Error::Bug(e.to_string()))?),
            false => print!("{fit}"),
        }
    }
    if any { Ok(()) } else { Err(Failure::Threshold) }
}
