//! The stages of a build, each of which prints, parses back and goes on to the same bytes.
//!
//! Between two passes a graph is brought into its compact form, so that what a pass sees does not depend on whether the
//! graph was handed on or read from text.

use std::fmt;

use adze_ir::graph::{ConstEntry, Graph};
use adze_ir::propose::{CostModel, Pressed};
use adze_ir::tile::{Program, Role, memory};
use adze_ir::verify::verify_program;
use adze_passes::lower::{LowerOptions, lower};
use adze_passes::memory::{Depth, LimitError, Plan, cascade, plan, plan_within};
use adze_passes::pass::{Optimizer, PassError, PassOptions};
use adze_passes::pipeline::{self, Report, Runner};
use adze_targets::cpu::CpuModel;
use adze_targets::cpu::backend::{self, BackendError, CodegenOptions};
use adze_targets::cpu::driver::ARENA_HEADER_BYTES;
use adze_targets::cpu::module::Module;

use crate::build::BuildOptions;
use crate::error::Error;

/// A point of the pipeline, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A graph after so many passes of [`pipeline::DEFAULT`]; none of them after import.
    Graph(usize),
    /// A tile program, not planned.
    Tile,
    /// A tile program with every buffer placed.
    Planned,
    /// Kernels and the steps that call them.
    Kernel,
}

impl Stage {
    /// After all passes on the graph.
    pub const OPTIMISED: Stage = Stage::Graph(pipeline::DEFAULT.len());

    /// The names that [`Stage::from_name`] knows, in order; a pass that runs twice means its first run.
    pub fn names() -> Vec<&'static str> {
        let mut names = vec!["import"];
        for pass in pipeline::DEFAULT {
            if !names.contains(pass) {
                names.push(pass);
            }
        }
        names.extend(["graph", "tile", "planned", "kernel"]);
        names
    }

    /// The stage of that name.
    ///
    /// # Errors
    /// [`Error::Options`] with the names there are.
    pub fn from_name(name: &str) -> Result<Stage, Error> {
        let pass = || pipeline::DEFAULT.iter().position(|p| *p == name).map(|p| Stage::Graph(p + 1));
        let stage = match name {
            "import" => Some(Stage::Graph(0)),
            "graph" => Some(Stage::OPTIMISED),
            "tile" => Some(Stage::Tile),
            "planned" | "memory" => Some(Stage::Planned),
            "kernel" => Some(Stage::Kernel),
            _ => pass(),
        };
        let accepted = || Error::Options(format!("stage: found `{name}`, accepted: {}", Self::names().join(", ")));
        stage.ok_or_else(accepted)
    }
}

/// Cycles of 256 bytes of results under an arena limit, one after the other: reading them once from the second cache takes about 16.
const PRICES: [u64; 4] = [0, 16, 512, 16384];

/// What a build holds at a stage.
#[derive(Clone, Debug)]
pub enum Artifact {
    /// A graph and the number of passes of [`pipeline::DEFAULT`] that it went through, from the first on; 0 for a graph
    /// that was made in another way, which is to go through all of them.
    Graph(Box<Graph>, usize),
    /// A tile program, not planned.
    Tile(Box<Program>),
    /// A planned tile program.
    Planned(Box<Program>),
    /// Kernels and steps.
    Kernel(Box<Module>),
}

/// What happened on the way.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The passes.
    pub report: Report,
    /// The memory plan, once there is one.
    pub plan: Plan,
    /// Chances not taken in lowering.
    pub notes: Vec<String>,
}

impl Artifact {
    /// Where it stands.
    pub fn stage(&self) -> Stage {
        match self {
            Artifact::Graph(_, done) => Stage::Graph(*done),
            Artifact::Tile(_) => Stage::Tile,
            Artifact::Planned(_) => Stage::Planned,
            Artifact::Kernel(_) => Stage::Kernel,
        }
    }

    /// The constants that its text names by digest.
    pub fn constants(&self) -> Vec<&ConstEntry> {
        match self {
            Artifact::Graph(graph, _) => graph.consts.iter().map(|(_, entry)| entry).collect(),
            Artifact::Tile(program) | Artifact::Planned(program) => {
                program.consts.iter().map(|(_, entry)| entry).collect()
            }
            Artifact::Kernel(module) => module.constants.iter().map(|(_, entry)| entry).collect(),
        }
    }

    /// The same for filling in bytes.
    pub fn constants_mut(&mut self) -> Vec<&mut ConstEntry> {
        match self {
            Artifact::Graph(graph, _) => graph.consts.iter_mut().collect(),
            Artifact::Tile(program) | Artifact::Planned(program) => program.consts.iter_mut().collect(),
            Artifact::Kernel(module) => module.constants.iter_mut().map(|(_, entry)| entry).collect(),
        }
    }

    /// Goes on to a stage; does nothing when it is there or beyond. Where a graph finds no plan under an arena limit, forms that
    /// hold less are tried, at a price of memory that goes up.
    ///
    /// # Errors
    /// [`Error`] of the stages on the way; of a limit that is out of reach the one at the price of nothing.
    pub fn advance(self, until: Stage, options: &BuildOptions, trace: &mut Trace) -> Result<Artifact, Error> {
        let machine = &CpuModel::new(options.machine.clone());
        let chooses = matches!(self, Artifact::Graph(_, done) if done < pipeline::DEFAULT.len());
        if !chooses || until < Stage::Planned || options.arena_limit.is_none() {
            return self.walk(until, machine, options, trace);
        }
        let mut least = None;
        for price in PRICES {
            let mut own = trace.clone();
            match self.clone().walk(until, &Pressed { machine, price }, options, &mut own) {
                Err(error @ Error::Options(_)) => least = least.or(Some(error)),
                done => {
                    *trace = own;
                    return done;
                }
            }
        }
        Err(least.unwrap_or_else(|| Error::Bug("there is a price of memory".into())))
    }

    fn walk(
        mut self,
        until: Stage,
        model: &dyn CostModel,
        options: &BuildOptions,
        trace: &mut Trace,
    ) -> Result<Artifact, Error> {
        let passes = &options.passes;
        while self.stage() < until {
            self = match self {
                Artifact::Graph(graph, done) => match pipeline::DEFAULT.get(done) {
                    Some(pass) => Artifact::Graph(Box::new(run_pass(&graph, pass, passes, model, trace)?), done + 1),
                    None => Artifact::Tile(Box::new(to_tile(&graph, trace)?)),
                },
                Artifact::Tile(program) => Artifact::Planned(Box::new(to_planned(*program, model, options, trace)?)),
                Artifact::Planned(program) => Artifact::Kernel(Box::new(to_kernels(&program, options, &[])?)),
                Artifact::Kernel(_) => return Err(Error::Bug("no stage follows the kernels".into())),
            };
        }
        Ok(self)
    }
}

/// The text form. A graph in the middle of the pipeline says in a comment which passes it went through.
impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Artifact::Graph(graph, done) => {
                let names = pipeline::DEFAULT[..*done].join(", ");
                writeln!(f, "{}", format!("{DONE} {names}").trim_end())?;
                graph.compact().fmt(f)
            }
            Artifact::Tile(program) | Artifact::Planned(program) => program.fmt(f),
            Artifact::Kernel(module) => module.fmt(f),
        }
    }
}

/// Start of the line that names the passes which a graph went through.
pub const DONE: &str = "// passes done:";

/// The number of passes of the pipeline that a graph's text says were run; `None` for a text that does not say.
///
/// # Errors
/// [`Error::Options`] when it names passes that are not the start of the pipeline.
pub fn passes_done(text: &str) -> Result<Option<usize>, Error> {
    let Some(line) = text.lines().next().and_then(|line| line.strip_prefix(DONE)) else { return Ok(None) };
    let done: Vec<&str> = line.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if pipeline::DEFAULT.starts_with(&done) {
        return Ok(Some(done.len()));
    }
    Err(Error::Options(format!(
        "the graph went through `{}`, which is not how the pipeline starts ({}): name the passes to run with --passes",
        done.join(", "),
        pipeline::DEFAULT.join(", ")
    )))
}

/// Runs one pass on the compact form of a graph, at the costs of a machine.
///
/// # Errors
/// [`Error::Options`] for an unknown pass, [`Error::Bug`] for what it breaks.
pub fn run_pass(
    graph: &Graph,
    name: &str,
    options: &PassOptions,
    costs: &dyn CostModel,
    trace: &mut Trace,
) -> Result<Graph, Error> {
    let mut graph = graph.compact();
    let runner = Runner { options, costs, verify: true, stop_after: None };
    let report = runner.run(&mut graph, &[name], &mut |_, _| {}).map_err(|error| match error {
        PassError::Unknown { .. } => Error::Options(error.to_string()),
        _ => Error::Bug(error.to_string()),
    })?;
    trace.report.runs.extend(report.runs);
    trace.report.missed.extend(report.missed);
    trace.report.solved.extend(report.solved);
    trace.report.validated.extend(report.validated);
    Ok(graph)
}

fn to_tile(graph: &Graph, trace: &mut Trace) -> Result<Program, Error> {
    let lowered = lower(&graph.compact(), LowerOptions::default()).map_err(|e| Error::Unsupported(e.to_string()))?;
    trace.notes.extend(lowered.notes);
    Ok(lowered.program)
}

/// Plans memory of the program in cascades; with a limit that they are over, of the program without them, cut into strips
/// until it fits. A program whose scratch memory comes on top is planned again under a lower one.
fn to_planned(
    program: Program,
    model: &dyn CostModel,
    options: &BuildOptions,
    trace: &mut Trace,
) -> Result<Program, Error> {
    let limit = match options.arena_limit {
        Some(limit) => i64::try_from(limit).unwrap_or(i64::MAX),
        None => i64::MAX,
    };
    if limit <= ARENA_HEADER_BYTES {
        let header = ARENA_HEADER_BYTES;
        return Err(Error::Options(format!("arena limit: found {limit} bytes, accepted: over {header}, its header")));
    }
    let mut deep = program.clone();
    let chains = match options.passes.optimizer {
        by if by.is_canonical() => 0,
        Optimizer::Greedy => cascade(&mut deep, model, Depth::Longest),
        _ => cascade(&mut deep, model, Depth::Priced),
    };
    if options.arena_limit.is_none() || chains > 0 {
        trace.plan = plan(&mut deep).map_err(|e| Error::Options(e.to_string()))?;
        let deep = verified(deep)?;
        if options.arena_limit.is_none() || to_kernels(&deep, options, &[])?.arena_bytes <= limit {
            return Ok(deep);
        }
    }
    let mut goal = limit - ARENA_HEADER_BYTES;
    // Another plan can have other scratch sizes, but they shrink with the strips: a few rounds settle it.
    for _ in 0..4 {
        let mut trial = program.clone();
        trace.plan = plan_within(&mut trial, goal).map_err(|e| match e {
            LimitError::Blocked { .. } | LimitError::Plan(_) => Error::Options(e.to_string()),
        })?;
        let trial = verified(trial)?;
        let over = to_kernels(&trial, options, &[])?.arena_bytes - limit;
        if over <= 0 {
            return Ok(trial);
        }
        goal -= over;
    }
    let arena = trace.plan.bytes(memory::ARENA);
    Err(Error::Options(format!("no plan under the arena limit: found {arena} bytes and scratch, accepted: {limit}")))
}

fn verified(program: Program) -> Result<Program, Error> {
    let wide = |b: &&adze_ir::tile::Buffer| b.bytes().upper(&program.dims) > adze_ir::extent::LIMIT;
    if let Some(buffer) = program.buffers.values().find(wide).filter(|_| !program.dims.is_empty()) {
        let ranges = program.dims.iter().map(|(name, r)| format!("{name} in {}..{}", r.lo, r.hi));
        return Err(Error::Options(format!(
            "tensor `{}` would take {} bytes with {}: narrow the named dimensions with --dim",
            buffer.name,
            buffer.bytes(),
            ranges.collect::<Vec<_>>().join(", ")
        )));
    }
    match verify_program(&program) {
        Ok(()) => Ok(program),
        Err(violations) => {
            let lines: Vec<String> = violations.iter().map(|v| format!("  {v}")).collect();
            Err(Error::Bug(format!("the tile program is broken after planning:\n{}", lines.join("\n"))))
        }
    }
}

/// Chooses kernels; `shared` as in [`backend::select`].
pub(crate) fn to_kernels(
    program: &Program,
    options: &BuildOptions,
    shared: &[(i64, ConstEntry)],
) -> Result<Module, Error> {
    let codegen = CodegenOptions {
        max_threads: options.max_threads,
        inline_weights_limit: options.inline_weights_limit,
        flush: options.flush,
    };
    backend::select(program, &options.machine, &codegen, shared).map_err(|error| match error {
        BackendError::Unsupported(_) => Error::Unsupported(error.to_string()),
        other => Error::Bug(other.to_string()),
    })
}

/// Whether every temporary buffer has a place.
pub fn is_planned(program: &Program) -> bool {
    program.buffers.values().all(|b| b.role != Role::Temp || b.alias.is_some() || b.offset.is_some())
}
