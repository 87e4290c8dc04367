//! `adze report` and `adze diff`.

use std::path::{Path, PathBuf};

use adze_compiler::Error;
use adze_compiler::load::{load, supply_weights};
use adze_compiler::report::{Report, diff as differences, report as report_on};
use clap::Args;

use crate::args::ModelArgs;
use crate::compile::{BuildArgs, declare_states};
use crate::diag::Failure;

/// Arguments of `report`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze report model.onnx --target aarch64                for reading
  adze report model.onnx --target bm1684x                cycles, DDR bytes and use of the processor by nodes
  adze report model.onnx --json > model.report.json      for a snapshot; compare with `adze diff`")]
pub struct ReportArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    npu: crate::npu::NpuArgs,
    /// Print JSON, which `adze diff` reads
    #[arg(long)]
    json: bool,
}

/// Arguments of `diff`.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 3 says that the reports differ.")]
pub struct DiffArgs {
    /// Report in JSON
    before: PathBuf,
    /// Report in JSON
    after: PathBuf,
}

/// Runs `report`.
///
/// # Errors
/// What stopped it.
pub fn report(args: &ReportArgs) -> Result<(), Failure> {
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    declare_states(&mut loaded.graph, &args.model)?;
    if crate::npu::is_npu(args.build.target.as_deref()) {
        return crate::npu::print_report(&loaded.graph, &args.npu, args.json);
    }
    args.npu.refuse()?;
    let options = args.build.single()?;
    let report = report_on(&loaded.graph, &options)?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report).map_err(|e| Error::Bug(e.to_string()))?),
        false => print!("{report}"),
    }
    Ok(())
}

/// Runs `diff`.
///
/// # Errors
/// What stopped it; [`Failure::Threshold`] when the reports differ.
pub fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let text = differences(&read(&args.before)?, &read(&args.after)?);
    print!("{text}");
    if text.is_empty() { Ok(()) } else { Err(Failure::Threshold) }
}

fn read(path: &Path) -> Result<Report, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    serde_json::from_str(&text).map_err(|e| Error::Values(format!("`{}` is no report: {e}", path.display())))
}
