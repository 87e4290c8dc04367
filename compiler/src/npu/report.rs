//! What is said about a network on a neural processor: whether it fits, what takes how long, and a timeline.

use std::fmt;

use adze_ir::graph::Graph;
use adze_targets::bm1684x::isa::Engine;
use adze_targets::bm1684x::machine::LANE_BYTES;
use adze_targets::bm1684x::profile::{events, rows};
use adze_targets::bm1684x::{CompileError, Program};
use serde::Serialize;
use serde_json::{Value, json};

use super::{BM1684X, Float, compile_error, lowered};
use crate::error::Error;
use crate::fit::{Budget, Fit, Missing, Region};

/// A network on the processor, by nodes.
#[derive(Clone, Debug, Serialize)]
pub struct NpuReport {
    /// The processor.
    pub target: String,
    /// Estimated cycles of a call, at 1 GHz.
    pub cycles: u64,
    /// Most bytes of local memory in use at once, per lane.
    pub lane_bytes: u32,
    /// Constants, bytes.
    pub constant_bytes: usize,
    /// Inputs, outputs and what does not fit into local memory, bytes.
    pub context_bytes: u64,
    /// A line for each set of nodes that commands are for, by when it begins.
    pub lines: Vec<Line>,
    /// Where results are not the model's bit for bit.
    pub notes: Vec<String>,
}

/// What is done for some nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The nodes; none for ends of streams.
    pub nodes: Vec<String>,
    /// Where they run.
    pub device: String,
    /// Number of commands.
    pub commands: usize,
    /// Cycles of the compute unit.
    pub compute: u64,
    /// Cycles of the copy engine.
    pub copies: u64,
    /// Bytes from and to DDR memory.
    pub ddr_bytes: u64,
    /// Share of the products that the compute unit could do in its cycles.
    pub utilisation: f64,
    /// First cycle, and the one behind the last.
    pub span: (u64, u64),
}

/// Reports on a compiled network.
pub fn report(program: &Program) -> NpuReport {
    let line = |row: &adze_targets::bm1684x::profile::Row| Line {
        nodes: row.names.iter().map(ToString::to_string).collect(),
        device: BM1684X.into(),
        commands: row.commands,
        compute: row.compute,
        copies: row.copies,
        ddr_bytes: row.ddr_bytes,
        utilisation: row.utilisation(),
        span: row.span,
    };
    NpuReport {
        target: BM1684X.into(),
        cycles: program.cycles(),
        lane_bytes: program.streams.peak_bytes,
        constant_bytes: program.coefficients.len(),
        context_bytes: program.context[1],
        lines: rows(program).iter().map(line).collect(),
        notes: program.notes.clone(),
    }
}

impl fmt::Display for NpuReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} estimated cycles; every node runs there, none on a CPU", self.target, self.cycles)?;
        writeln!(
            f,
            "{} bytes of constants, {} of inputs, outputs and spills, {} of {LANE_BYTES} bytes of local memory per lane",
            self.constant_bytes, self.context_bytes, self.lane_bytes
        )?;
        writeln!(
            f,
            "{:>9} {:>9} {:>9} {:>9} {:>10} {:>5}  nodes",
            "from", "to", "compute", "copies", "DDR bytes", "MACs"
        )?;
        for line in &self.lines {
            writeln!(
                f,
                "{:>9} {:>9} {:>9} {:>9} {:>10} {:>4.0}%  {}",
                line.span.0,
                line.span.1,
                line.compute,
                line.copies,
                line.ddr_bytes,
                100.0 * line.utilisation,
                line.nodes.join(", ")
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// Whether a network fits.
///
/// # Errors
/// [`Error`] for a model that cannot be brought into the form that the target compiles; what has no commands is part of the answer.
pub fn fit(graph: &Graph, float: Option<Float>, budget: Budget) -> Result<Fit, Error> {
    let graph = lowered(graph, float)?;
    let nodes = graph.nodes().filter(|(_, node)| !node.inputs.is_empty()).count();
    let mut fit = Fit {
        target: BM1684X.into(),
        fits: false,
        regions: Vec::new(),
        unsupported: Vec::new(),
        arena_bytes: None,
        code_bytes: None,
        weights_bytes: None,
        estimated_cycles: 0,
        advice: Vec::new(),
    };
    match Program::compile(&graph, float.map(Float::prec)) {
        Ok(program) => {
            let code = super::package(&program)?.len().saturating_sub(program.coefficients.len()) as u64;
            let (arena, weights) = (program.context[1], program.coefficients.len() as u64);
            let why = "commands of the chip, without any of a CPU".into();
            fit.regions.push(Region { device: BM1684X.into(), leaves: nodes, why });
            (fit.arena_bytes, fit.code_bytes, fit.weights_bytes) = (Some(arena), Some(code), Some(weights));
            fit.estimated_cycles = program.cycles();
            for (what, need, limit) in [("arena", arena, budget.arena), ("flash", code + weights, budget.flash)] {
                if let Some(limit) = limit.filter(|&limit| need > limit) {
                    fit.advice.push(format!("{what}: needs {need} bytes, accepted: {limit}"));
                }
            }
            fit.fits = fit.advice.is_empty();
            fit.advice.extend(program.notes);
        }
        Err(CompileError::Unsupported(all)) => {
            let missing = |one: adze_targets::bm1684x::lower::Unsupported| Missing {
                op: one.place.replace('`', ""),
                source: match &one.names[..] {
                    [] => vec!["the model".to_owned()],
                    names => names.iter().map(ToString::to_string).collect(),
                },
                why: format!("found {}, accepted on {BM1684X}: {}", one.found, one.accepted),
            };
            fit.unsupported = all.0.into_iter().map(missing).collect();
        }
        Err(other) => return Err(compile_error(other)),
    }
    Ok(fit)
}

/// Commands in time as trace events in JSON, which Perfetto and Chrome open: a track for each engine, and two for each bank
/// of local memory with the commands of either engine that touch it. A cycle is a nanosecond.
pub fn timeline(program: &Program) -> String {
    let mut trace: Vec<Value> = Vec::new();
    let mut name = |kind: &str, pid: u32, tid: u32, name: String| {
        trace.push(json!({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}));
    };
    name("process_name", 1, 0, "engines".into());
    name("process_name", 2, 0, "banks of local memory".into());
    let engines = [(Engine::Tiu, "compute"), (Engine::Gdma, "copies")];
    for (track, (_, engine)) in engines.iter().enumerate() {
        let track = track as u32;
        name("thread_name", 1, track, (*engine).into());
        for bank in 0..LANE_BYTES / adze_targets::bm1684x::machine::BANK_BYTES {
            name("thread_name", 2, 2 * bank + track, format!("bank {bank:2}, {engine}"));
        }
    }
    for event in events(program).iter().filter(|event| event.span.start < event.span.end) {
        let track = engines.iter().position(|(engine, _)| *engine == event.command.engine()).unwrap_or(0) as u32;
        let form = event.command.body.form().name;
        let title = event.names.last().map_or_else(|| form.to_owned(), |node| format!("{node} ({form})"));
        let micros = |cycles: u64| cycles as f64 / 1000.0;
        let (start, length) = (micros(event.span.start), micros(event.span.end - event.span.start));
        let nodes: Vec<&str> = event.names.iter().map(AsRef::as_ref).collect();
        let args = json!({"command": event.command.to_string(), "nodes": nodes, "banks": event.banks});
        let places = event.banks.iter().map(|bank| (2, 2 * bank + track, json!({})));
        for (pid, tid, args) in std::iter::once((1, track, args)).chain(places) {
            let event =
                json!({"ph": "X", "name": title, "pid": pid, "tid": tid, "ts": start, "dur": length, "args": args});
            trace.push(event);
        }
    }
    json!({"displayTimeUnit": "ns", "traceEvents": trace}).to_string()
}
