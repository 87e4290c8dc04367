//! Where the time of a call goes: every kernel call timed and held against what the machine can do at best.

use std::collections::BTreeMap;

use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_targets::cpu::exec::Called;
use adze_targets::cpu::peak::{self, MEMORY, PeakError, Peaks};
use adze_targets::cpu::work::{Work, work};
use serde::Serialize;

use crate::build::{BuildOptions, Built, finish};
use crate::error::Error;
use crate::execute::Executable;
use crate::stage::{Artifact, Stage, Trace};

/// A kernel that reaches less than this share of every limit waits for something else.
const BOUND: f64 = 0.25;
/// What one core reads when the system does not say what its caches hold.
const CACHES: [(&str, u64); 3] = [("L1", 32 << 10), ("L2", 1 << 20), ("L3", 32 << 20)];
/// Most bytes that are read to see how fast memory is.
const MOST_BYTES: u64 = 512 << 20;

/// One step of the model.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Position in the manifest's `nodes`.
    pub node: u32,
    /// The kernel.
    pub kernel: String,
    /// Source nodes.
    pub source: Vec<String>,
    /// Calls in one run of the model.
    pub calls: u64,
    /// Seconds of all these calls, the median over the runs.
    pub seconds: f64,
    /// Floating-point operations; a multiply-add counts twice.
    pub flops: u64,
    /// Integer operations.
    pub int_ops: u64,
    /// Bytes that loads and stores move.
    pub moved_bytes: u64,
    /// Bytes of memory touched.
    pub touched_bytes: u64,
    /// Operations a second over the peak of their kind.
    pub peak_share: f64,
    /// The limit that is nearest: `compute`, a level of memory, or `latency` when none is near.
    pub limit: String,
    /// How near: the time that the limit allows over the time taken.
    pub limit_share: f64,
}

/// A profile of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Name of the model.
    pub model: String,
    /// Machine that code was made for.
    pub target: String,
    /// What it can do at best, measured in the same run.
    pub peaks: Peaks,
    /// Seconds of all steps.
    pub seconds: f64,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// Builds a graph for one thread of this machine and times every kernel call.
///
/// # Errors
/// [`Error`] of building and running; [`Error::Options`] for a target that is source.
pub fn profile(
    graph: &Graph,
    inputs: &[Tensor],
    options: &BuildOptions,
    (warmup, iters): (usize, usize),
) -> Result<Profile, Error> {
    let options = BuildOptions { max_threads: 1, ..options.clone() };
    let mut trace = Trace::default();
    let planned = Artifact::Graph(Box::new(graph.clone()), 0).advance(Stage::Planned, &options, &mut trace)?;
    let Artifact::Planned(program) = planned.clone() else {
        return Err(Error::Bug("planning gives a planned program".into()));
    };
    let kernels = planned.advance(Stage::Kernel, &options, &mut trace)?;
    let Artifact::Kernel(module) = kernels.clone() else { return Err(Error::Bug("no kernels".into())) };
    let package = finish(kernels, &options, &mut trace)?;
    if package.code.object().is_none() {
        return Err(Error::Options(format!("no profile of source: `{}` has no kernels to call", options.machine.name)));
    }
    let built = Built { program: *program, plan: trace.plan, notes: Vec::new(), package };
    let peaks = peak::measure(&options.machine, &levels()).map_err(|error| match error {
        PeakError::Codegen(error) => Error::Bug(error.to_string()),
        PeakError::Exec(error) => Error::Options(error.to_string()),
    })?;
    let executable = Executable::new(&built)?;
    let mut call = executable.prepare(inputs)?;
    let mut times: Vec<BTreeMap<u32, f64>> = Vec::new();
    for _ in 0..warmup.max(1) {
        executable.run(&mut call)?;
    }
    for _ in 0..iters.max(1) {
        let mut run = BTreeMap::new();
        let mut observe = |called: Called<'_>| *run.entry(called.node).or_insert(0.0) += called.seconds;
        executable.walk(&mut call, &module, &mut observe)?;
        times.push(run);
    }
    let mut counts: BTreeMap<u32, (u64, Work)> = BTreeMap::new();
    let mut count = |called: Called<'_>| {
        let one = work(&module.kernels[called.kernel], called.dims, called.range);
        let (calls, sum) = counts.entry(called.node).or_default();
        *calls += 1;
        sum.flops += one.flops;
        sum.int_ops += one.int_ops;
        sum.moved_bytes += one.moved_bytes;
        sum.touched_bytes += one.touched_bytes;
    };
    executable.walk(&mut call, &module, &mut count)?;
    let nodes = &built.package.manifest.nodes;
    let steps: Vec<Step> = counts
        .into_iter()
        .filter_map(|(node, (calls, work))| {
            let info = nodes.get(node as usize)?;
            let seconds = median(times.iter().filter_map(|run| run.get(&node).copied()).collect());
            let (kernel, source) = (info.kernel.clone(), info.source.clone());
            let (limit, limit_share) = limit(&work, calls, seconds, &peaks);
            let Work { flops, int_ops, moved_bytes, touched_bytes } = work;
            let peak_share = compute_seconds(&work, &peaks) / seconds;
            Some(Step {
                node,
                kernel,
                source,
                calls,
                seconds,
                flops,
                int_ops,
                moved_bytes,
                touched_bytes,
                peak_share,
                limit,
                limit_share,
            })
        })
        .collect();
    let manifest = &built.package.manifest;
    Ok(Profile {
        model: manifest.name.clone(),
        target: manifest.cpu.clone(),
        peaks,
        seconds: steps.iter().map(|s| s.seconds).sum(),
        steps,
    })
}

/// The time that the peaks allow for the operations.
fn compute_seconds(work: &Work, peaks: &Peaks) -> f64 {
    work.flops as f64 / peaks.flops + work.int_ops as f64 / peaks.int_ops
}

/// The limit that allows the least, and its share of the time taken.
fn limit(work: &Work, calls: u64, seconds: f64, peaks: &Peaks) -> (String, f64) {
    let mut limits = vec![("compute".to_owned(), compute_seconds(work, peaks))];
    let mut levels = peaks.levels.iter();
    if let Some(nearest) = levels.next() {
        limits.push((nearest.name.clone(), work.moved_bytes as f64 / nearest.bytes_per_second));
    }
    // What a call touches comes from the nearest level that holds it all.
    let each = work.touched_bytes / calls.max(1);
    let holds = |level: &&peak::Level| each <= level.bytes || level.name == MEMORY;
    if let Some(level) = peaks.levels.iter().find(holds).filter(|l| l.name != "L1") {
        limits.push((level.name.clone(), work.touched_bytes as f64 / level.bytes_per_second));
    }
    let (name, least) = limits.into_iter().fold((String::new(), 0.0), |a, b| if b.1 > a.1 { b } else { a });
    let share = if seconds > 0.0 { least / seconds } else { 0.0 };
    if share < BOUND { ("latency".into(), share) } else { (name, share) }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// Name and bytes of the data caches of this machine's first core, then of what counts as memory.
fn levels() -> Vec<(String, u64)> {
    let mut levels: Vec<(String, u64)> = (0..8).filter_map(cache).collect();
    if levels.is_empty() {
        levels = CACHES.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
    }
    let last = levels.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    levels.push((MEMORY.into(), (2 * last).clamp(64 << 20, MOST_BYTES)));
    levels
}

fn cache(index: usize) -> Option<(String, u64)> {
    let read =
        |file: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}")).ok();
    let (kind, level, size) = (read("type")?, read("level")?, read("size")?);
    let kib: u64 = size.trim().strip_suffix('K')?.parse().ok()?;
    (kind.trim() != "Instruction").then(|| (format!("L{}", level.trim()), kib << 10))
}
