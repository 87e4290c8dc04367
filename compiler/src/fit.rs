//! Whether a model fits a target: what runs where and why, what it takes, what would make it fit. Writes nothing.

use std::fmt;

use adze_ir::graph::Graph;
use adze_ir::tile::{Program, memory};
use adze_ir::types::DType;
use adze_passes::memory::{LimitError, plan_within};
use adze_targets::cpu::backend::{self, BackendError, CodegenOptions};
use adze_targets::cpu::driver::ARENA_HEADER_BYTES;
use adze_targets::cpu::{CpuModel, Machine};
use serde::Serialize;

use crate::build::{BuildOptions, finish};
use crate::error::Error;
use crate::report::{code_bytes, estimate, kib};
use crate::stage::{Artifact, Stage, Trace};

/// What a device offers; `None` is without limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// Working memory, bytes.
    pub arena: Option<u64>,
    /// Code and constant data, bytes.
    pub flash: Option<u64>,
}

/// Whether and how a model fits a target.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// The machine.
    pub target: String,
    /// Runs there, within the budget.
    pub fits: bool,
    /// Operators that run on each device, and why there.
    pub regions: Vec<Region>,
    /// Operators without code, all of them.
    pub unsupported: Vec<Missing>,
    /// Working memory, bytes; unknown while something is unsupported.
    pub arena_bytes: Option<u64>,
    /// Machine code, bytes.
    pub code_bytes: Option<u64>,
    /// Constant data, bytes.
    pub weights_bytes: Option<u64>,
    /// Estimated cycles of a call, from the proposals of the target.
    pub estimated_cycles: u64,
    /// What would make it fit, or how.
    pub advice: Vec<String>,
}

/// Operators on one device.
#[derive(Clone, Debug, Serialize)]
pub struct Region {
    /// The device.
    pub device: String,
    /// How many leaves of the tile program.
    pub leaves: usize,
    /// Why there.
    pub why: String,
    /// Nodes that would run on another device if it had code for them, and why it does not.
    pub nodes: Vec<Missing>,
}

/// An operator that the target has no code for.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// Operator with attributes.
    pub op: String,
    /// Source nodes.
    pub source: Vec<String>,
    /// What was found and what would be accepted.
    pub why: String,
}

/// Fits a graph, as it comes from import, to a machine.
///
/// # Errors
/// [`Error`] for a model that cannot be lowered; what has no code is part of the answer.
pub fn fit(graph: &Graph, machine: &Machine, budget: Budget) -> Result<Fit, Error> {
    let options = BuildOptions::new(machine.clone());
    let mut trace = Trace::default();
    let imported = Artifact::Graph(Box::new(graph.clone()), 0);
    let optimised = imported.advance(Stage::OPTIMISED, &options, &mut trace)?;
    let estimated_cycles = match &optimised {
        Artifact::Graph(graph, _) => estimate(graph, &CpuModel::new(machine.clone())).cycles,
        _ => 0,
    };
    let tile = optimised.advance(Stage::Tile, &options, &mut trace)?;
    let Artifact::Tile(unplanned) = tile.clone() else {
        return Err(Error::Bug("lowering gives a tile program".into()));
    };
    let planned = tile.advance(Stage::Planned, &options, &mut trace)?;
    let Artifact::Planned(program) = &planned else {
        return Err(Error::Bug("planning gives a planned program".into()));
    };
    let unsupported = unsupported(program, machine)?;
    let mut leaves = 0;
    program.for_each_leaf(&mut |_| leaves += 1);
    let why = "the target has no other device".to_owned();
    let regions = vec![Region { device: "cpu".into(), leaves: leaves - unsupported.len(), why, nodes: Vec::new() }];
    let mut fit = Fit {
        target: machine.name.to_owned(),
        fits: unsupported.is_empty(),
        regions,
        unsupported,
        arena_bytes: None,
        code_bytes: None,
        weights_bytes: None,
        estimated_cycles,
        advice: Vec::new(),
    };
    if fit.unsupported.is_empty() {
        let package = finish(planned, &options, &mut trace)?;
        fit.arena_bytes = Some(package.manifest.arena_bytes);
        fit.weights_bytes = Some(package.manifest.weights_bytes);
        fit.code_bytes = package.code.object().map(code_bytes).transpose()?;
        judge(&mut fit, &unplanned, &trace, budget);
    }
    Ok(fit)
}

fn unsupported(program: &Program, machine: &Machine) -> Result<Vec<Missing>, Error> {
    let codegen = CodegenOptions { max_threads: 1, inline_weights_limit: usize::MAX, flush: true };
    match backend::select(program, machine, &codegen, &[]) {
        Ok(_) => Ok(Vec::new()),
        Err(BackendError::Unsupported(list)) => Ok(list
            .into_iter()
            .map(|(op, loc, why)| Missing {
                op,
                source: loc.names().iter().map(|n| n.to_string()).collect(),
                why: why.to_string(),
            })
            .collect()),
        Err(other) => Err(Error::Bug(other.to_string())),
    }
}

/// Holds what the model takes against the budget.
fn judge(fit: &mut Fit, unplanned: &Program, trace: &Trace, budget: Budget) {
    let (arena, weights) = (fit.arena_bytes.unwrap_or(0), fit.weights_bytes.unwrap_or(0));
    if let Some(limit) = budget.arena.filter(|limit| arena > *limit) {
        let over = arena.saturating_sub(u64::try_from(trace.plan.bytes(memory::ARENA)).unwrap_or(0));
        let rest = i64::try_from(limit.saturating_sub(over.max(ARENA_HEADER_BYTES as u64))).unwrap_or(i64::MAX);
        let mut trial = unplanned.clone();
        match plan_within(&mut trial, rest) {
            Ok(plan) => {
                let tiled = kib(u64::try_from(plan.bytes(memory::ARENA)).unwrap_or(0) + over);
                fit.advice.push(format!("arena: tiled with `--arena-limit {limit}` it takes about {tiled} KiB"));
            }
            Err(error @ (LimitError::Blocked { .. } | LimitError::Plan(_))) => {
                fit.fits = false;
                fit.advice.push(format!("arena: {} KiB more, or a smaller layer: {error}", kib(arena - limit)));
            }
        }
    }
    let flash = weights + fit.code_bytes.unwrap_or(0);
    if let Some(limit) = budget.flash.filter(|limit| flash > *limit) {
        fit.fits = false;
        let floats = |dtype: DType| -> u64 {
            let of = unplanned.consts.iter().filter(|(_, c)| c.ty().dtype == dtype);
            of.map(|(_, c)| u64::try_from(c.ty().max_bytes(&Default::default())).unwrap_or(0)).sum()
        };
        let wide = floats(DType::F32);
        fit.advice.push(format!(
            "flash: {} KiB more, or narrower weights: {} KiB of them are f32, 16-bit ones would save about {} KiB",
            kib(flash - limit),
            kib(wide),
            kib(wide / 2)
        ));
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.target, if self.fits { "fits" } else { "does not fit" })?;
        for region in &self.regions {
            writeln!(f, "  {} leaves on {}: {}", region.leaves, region.device, region.why)?;
            for node in &region.nodes {
                writeln!(f, "    `{}` at {}: {}", node.op, node.source.join(", "), node.why)?;
            }
        }
        if let (Some(arena), Some(code), Some(weights)) = (self.arena_bytes, self.code_bytes, self.weights_bytes) {
            writeln!(
                f,
                "  arena {} KiB, flash {} KiB (code {}, weights {})",
                kib(arena),
                kib(code + weights),
                kib(code),
                kib(weights)
            )?;
        }
        writeln!(
            f,
            "  about {} thousand cycles per call, by the plain cost model",
            self.estimated_cycles.div_ceil(1000)
        )?;
        for missing in &self.unsupported {
            writeln!(f, "  unsupported: `{}` at {}: {}", missing.op, missing.source.join(", "), missing.why)?;
        }
        self.advice.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
