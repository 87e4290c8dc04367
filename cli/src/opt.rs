//! `adze opt`.

use std::path::PathBuf;

use adze_compiler::Error;
use adze_compiler::build::finish;
use adze_compiler::package::WriteOptions;
use adze_compiler::replay::{read_stage, supply};
use adze_compiler::stage::{Artifact, Stage, Trace, run_pass};
use adze_passes::pipeline;
use adze_targets::cpu::CpuModel;
use clap::Args;

use crate::compile::{BuildArgs, print_validated, write_files, write_stage};
use crate::diag::Failure;

/// Arguments of `opt`.
#[derive(Args, Debug)]
pub struct OptArgs {
    /// Text of a stage, as `adze compile --stop-after` writes it: a graph, a tile program or a module of kernels
    file: PathBuf,
    /// Tensors for constants that the text names by digest (.npz)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Run these passes on a graph, in this order, and write its text
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "stop_after")]
    passes: Option<Vec<String>>,
    /// Run what is left of the pipeline up to a stage and write its text
    #[arg(long, value_name = "STAGE")]
    stop_after: Option<String>,
    /// File for the text (standard output without it); without --passes and --stop-after, the folder for the package
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// Also write the constants that the text names by digest (.npz)
    #[arg(long, value_name = "FILE")]
    weights_out: Option<PathBuf>,
    #[command(flatten)]
    build: BuildArgs,
    /// Compare every region that rules rewrite with what it was, on random inputs through the interpreter, and say what came of
    /// it (standard error)
    #[arg(long)]
    validate: bool,
    /// Print what each pass did and what it missed
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it; nothing is written then.
pub fn opt(args: &OptArgs) -> Result<(), Failure> {
    let mut options = args.build.single()?;
    options.passes.validate = args.validate;
    let mut artifact = read_stage(&args.file, &options.machine)?;
    if let Some(weights) = &args.weights {
        supply(&mut artifact, Some(weights))?;
    }
    let mut trace = Trace::default();
    if let Some(passes) = &args.passes {
        let Artifact::Graph(graph, done) = artifact else {
            let found =
                "--passes: found no graph, accepted: a graph (tile programs and kernels go on with --stop-after)";
            return Err(Error::Options(found.into()).into());
        };
        let (mut graph, model) = (*graph, CpuModel::new(options.machine.clone()));
        for name in passes {
            graph = run_pass(&graph, name, &options.passes, &model, &mut trace)?;
        }
        print_trace(&trace, args.verbose);
        let next = pipeline::DEFAULT
            .get(done..)
            .is_some_and(|rest| rest.starts_with(&passes.iter().map(String::as_str).collect::<Vec<_>>()));
        let artifact = Artifact::Graph(Box::new(graph), if next { done + passes.len() } else { 0 });
        return Ok(write_stage(&artifact, args.output.as_deref(), args.weights_out.as_deref())?);
    }
    if let Some(name) = &args.stop_after {
        let stage = Stage::from_name(name)?;
        if artifact.stage() > stage {
            return Err(
                Error::Options(format!("--stop-after: `{}` is beyond `{name}` already", args.file.display())).into()
            );
        }
        if stage > Stage::OPTIMISED {
            supply(&mut artifact, None)?;
        }
        let artifact = artifact.advance(stage, &options, &mut trace)?;
        print_trace(&trace, args.verbose);
        return Ok(write_stage(&artifact, args.output.as_deref(), args.weights_out.as_deref())?);
    }
    let Some(folder) = &args.output else {
        return Err(
            Error::Options("--output: give a folder for the package, or --passes or --stop-after".into()).into()
        );
    };
    supply(&mut artifact, None)?;
    let package = finish(artifact, &options, &mut trace)?;
    print_trace(&trace, args.verbose);
    write_files(&package, folder, &WriteOptions::default(), args.verbose)
}

fn print_trace(trace: &Trace, verbose: bool) {
    print_validated(trace);
    if !verbose {
        return;
    }
    print_runs(trace);
    for missed in &trace.report.missed {
        eprintln!("missed: {missed}");
    }
    for note in &trace.notes {
        eprintln!("note: {note}");
    }
}

/// Prints what each pass did, and how long it took, to standard error.
pub fn print_runs(trace: &Trace) {
    for run in &trace.report.runs {
        let ([before, after], time) = (run.nodes, run.time.as_secs_f64() * 1e3);
        let detail = if run.detail.is_empty() { String::new() } else { format!(" ({})", run.detail) };
        eprintln!("{}: {:?}, {before} nodes -> {after}, {time:.1} ms{detail}", run.name, run.changed);
    }
}
