//! `adze bench`.

use std::time::Instant;

use adze_compiler::build::build;
use adze_compiler::execute::Executable;
use clap::Args;
use serde::Serialize;

use crate::args::ModelArgs;
use crate::compile::BuildArgs;
use crate::diag::Failure;
use crate::io::InputArgs;
use crate::run::load_bound;

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    build: BuildArgs,
    /// Timed runs
    #[arg(long, default_value_t = 50, value_name = "N")]
    iters: usize,
    /// Runs before the timed ones
    #[arg(long, default_value_t = 5, value_name = "N")]
    warmup: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Distribution of a whole call's time, microseconds.
#[derive(Serialize)]
struct Latency {
    min: f64,
    p25: f64,
    median: f64,
    p95: f64,
    max: f64,
}

#[derive(Serialize)]
struct Report {
    model: String,
    target: String,
    iters: usize,
    build_ms: f64,
    arena_bytes: u64,
    weights_bytes: u64,
    latency_us: Latency,
}

/// Runs the command.
///
/// # Errors
/// What stopped it.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let options = args.build.options()?;
    let start = Instant::now();
    let (graph, inputs) = load_bound(&args.model, &args.input)?;
    let built = build(&graph, &options)?;
    let build_ms = start.elapsed().as_secs_f64() * 1e3;
    let executable = Executable::new(&built)?;
    let mut call = executable.prepare(&inputs)?;
    for _ in 0..args.warmup {
        executable.run(&mut call)?;
    }
    let mut times = Vec::with_capacity(args.iters.max(1));
    for _ in 0..args.iters.max(1) {
        let start = Instant::now();
        executable.run(&mut call)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let manifest = &built.package.manifest;
    let report = Report {
        model: manifest.name.clone(),
        target: manifest.cpu.clone(),
        iters: times.len(),
        build_ms,
        arena_bytes: manifest.arena_bytes,
        weights_bytes: manifest.weights_bytes,
        latency_us: Latency { min: at(0.0), p25: at(0.25), median: at(0.5), p95: at(0.95), max: at(1.0) },
    };
    if args.json {
        let text = serde_json::to_string(&report).map_err(|e| adze_compiler::Error::Bug(e.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    let l = &report.latency_us;
    println!(
        "{} on {}, {} runs after {:.1} ms of building",
        report.model, report.target, report.iters, report.build_ms
    );
    println!("  min {:.1} us, p25 {:.1}, median {:.1}, p95 {:.1}, max {:.1}", l.min, l.p25, l.median, l.p95, l.max);
    println!("  arena {} KiB, weights {} KiB", report.arena_bytes.div_ceil(1024), report.weights_bytes.div_ceil(1024));
    Ok(())
}
