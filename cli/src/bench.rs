//! `adze bench`.

use std::path::PathBuf;
use std::time::Instant;

use adze_compiler::Error;
use adze_compiler::build::build;
use adze_compiler::execute::Executable;
use adze_compiler::profile::{Profile, Step, profile};
use clap::Args;
use serde::Serialize;

use crate::args::ModelArgs;
use crate::compile::BuildArgs;
use crate::diag::Failure;
use crate::io::InputArgs;
use crate::roofline::roofline;
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
    /// Time every kernel and hold it against this machine's peaks, measured in the same run
    #[arg(long)]
    profile: bool,
    /// Write the profile as a roofline chart
    #[arg(long, value_name = "FILE.svg", requires = "profile")]
    roofline: Option<PathBuf>,
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

/// Prints a profile as a table or JSON, and draws it if asked to.
fn print_profile(args: &BenchArgs, profile: &Profile) -> Result<(), Failure> {
    if let Some(path) = &args.roofline {
        let written = std::fs::write(path, roofline(profile));
        written.map_err(|source| Error::Write { path: path.clone(), source })?;
    }
    if args.json {
        println!("{}", serde_json::to_string(profile).map_err(|e| Error::Bug(e.to_string()))?);
        return Ok(());
    }
    let peaks = &profile.peaks;
    println!("{} on {}, {:.1} us in kernels", profile.model, profile.target, profile.seconds * 1e6);
    let levels: Vec<String> =
        peaks.levels.iter().map(|l| format!("{} {:.1} GB/s", l.name, l.bytes_per_second / 1e9)).collect();
    println!(
        "peaks of one core: {:.1} GFLOP/s f32, {:.1} GOP/s int8, {}",
        peaks.flops / 1e9,
        peaks.int_ops / 1e9,
        levels.join(", ")
    );
    println!("      us    time   Gop/s   peak     KiB    GB/s   limit          kernel: nodes");
    let mut steps: Vec<&Step> = profile.steps.iter().collect();
    steps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then(a.node.cmp(&b.node)));
    for step in steps {
        let ops = (step.flops + step.int_ops) as f64;
        println!(
            "{:>8.1} {:>6.1}% {:>7.1} {:>5.1}% {:>7} {:>7.1}   {:<8}{:>4.0}%   {}: {}",
            step.seconds * 1e6,
            100.0 * step.seconds / profile.seconds,
            ops / step.seconds / 1e9,
            100.0 * step.peak_share,
            step.touched_bytes.div_ceil(1024),
            step.touched_bytes as f64 / step.seconds / 1e9,
            step.limit,
            100.0 * step.limit_share,
            step.kernel,
            step.source.join(", ")
        );
    }
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// What stopped it.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let options = args.build.single()?;
    let start = Instant::now();
    let (graph, inputs) = load_bound(&args.model, &args.input)?;
    if args.profile {
        let profile = profile(&graph, &inputs, &options, (args.warmup, args.iters))?;
        return print_profile(args, &profile);
    }
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
