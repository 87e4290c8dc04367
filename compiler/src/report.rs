//! What a build costs, as a stable record: two of them can be compared, one can be kept as a snapshot.
//!
//! No time, path or name of this machine is in a report.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::propose::{Cost, CostModel, OpFacts};
use adze_ir::text::Spelling as _;
use adze_ir::tile::memory;
use adze_ir::types::TensorType;
use adze_targets::cpu::CpuModel;
use object::{Object as _, ObjectSection as _, SectionKind};
use serde::{Deserialize, Serialize};

use crate::build::{BuildOptions, finish};
use crate::error::Error;
use crate::stage::{Artifact, Stage, Trace};

/// A report of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// Machine of the code.
    pub target: String,
    /// Working memory of a call, bytes.
    pub arena_bytes: u64,
    /// The part of it that holds tensors, bytes.
    pub tensors_bytes: u64,
    /// What any plan of these tensors takes, bytes.
    pub bound_bytes: u64,
    /// Constant data, bytes.
    pub weights_bytes: u64,
    /// Machine code, bytes; nothing for source.
    pub code_bytes: Option<u64>,
    /// Estimated cycles of a call on one core, from the proposals of the target.
    pub estimated_cycles: u64,
    /// Operators of the optimised graph.
    pub ops: BTreeMap<String, u64>,
    /// Calls of each kernel, loops counted once.
    pub kernels: BTreeMap<String, u64>,
    /// Steps in order.
    pub layers: Vec<Layer>,
    /// Chances that were not taken.
    pub missed: Vec<String>,
}

/// A step of the compiled model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Source nodes.
    pub source: Vec<String>,
    /// Device it runs on.
    pub device: String,
    /// Kernel it runs.
    pub kernel: String,
}

/// Builds a graph and reports on it.
///
/// # Errors
/// As [`crate::build::build`].
pub fn report(graph: &Graph, options: &BuildOptions) -> Result<Report, Error> {
    let mut trace = Trace::default();
    let imported = Artifact::Graph(Box::new(graph.clone()), 0);
    let optimised = imported.advance(Stage::OPTIMISED, options, &mut trace)?;
    let Artifact::Graph(graph, _) = &optimised else {
        return Err(Error::Bug("a stage of graphs holds a graph".into()));
    };
    let (ops, cost) = (count_ops(graph), estimate(graph, &CpuModel::new(options.machine.clone())));
    let package = finish(optimised, options, &mut trace)?;
    let manifest = &package.manifest;
    let mut kernels = BTreeMap::new();
    for node in &manifest.nodes {
        *kernels.entry(node.kernel.clone()).or_insert(0) += 1;
    }
    let layer = |node: &crate::package::NodeInfo| Layer {
        source: node.source.clone(),
        device: "cpu".into(),
        kernel: node.kernel.clone(),
    };
    let bound = trace.plan.memories.iter().find(|m| &*m.memory == memory::ARENA).map_or(0, |m| m.bound);
    let missed = trace.report.missed.iter().map(ToString::to_string);
    Ok(Report {
        model: manifest.name.clone(),
        target: manifest.cpu.clone(),
        arena_bytes: manifest.arena_bytes,
        tensors_bytes: u64::try_from(trace.plan.bytes(memory::ARENA)).unwrap_or(0),
        bound_bytes: u64::try_from(bound).unwrap_or(0),
        weights_bytes: manifest.weights_bytes,
        code_bytes: package.code.object().map(code_bytes).transpose()?,
        estimated_cycles: cost.cycles,
        ops,
        kernels,
        layers: manifest.nodes.iter().map(layer).collect(),
        missed: trace.notes.iter().cloned().chain(missed).collect(),
    })
}

fn count_ops(graph: &Graph) -> BTreeMap<String, u64> {
    let mut ops = BTreeMap::new();
    for (_, node) in graph.nodes().filter(|(_, n)| !matches!(n.op, Op::Constant(_))) {
        *ops.entry(node.op.spelling().to_owned()).or_insert(0) += 1;
    }
    ops
}

/// Cost of all nodes, each by its cheapest proposal, at the upper ends of the declared ranges.
pub fn estimate(graph: &Graph, costs: &dyn CostModel) -> Cost {
    let mut sum = Cost::default();
    for (_, node) in graph.nodes() {
        let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
        let cost = OpFacts::in_graph(graph, &node.inputs, &outputs, |facts| costs.cost(&node.op, facts));
        sum = sum + cost.unwrap_or_default();
    }
    sum
}

/// Bytes of machine code in an object.
///
/// # Errors
/// [`Error::Bug`] for bytes that are no object.
pub fn code_bytes(object: &[u8]) -> Result<u64, Error> {
    let file = object::File::parse(object).map_err(|e| Error::Bug(e.to_string()))?;
    Ok(file.sections().filter(|s| s.kind() == SectionKind::Text).map(|s| s.size()).sum())
}

/// KiB, rounded up.
pub fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} for {}", self.model, self.target)?;
        writeln!(f, "  arena     {:>8} KiB", kib(self.arena_bytes))?;
        writeln!(
            f,
            "    tensors {:>8} KiB, no plan takes less than {} KiB",
            kib(self.tensors_bytes),
            kib(self.bound_bytes)
        )?;
        writeln!(f, "  weights   {:>8} KiB", kib(self.weights_bytes))?;
        if let Some(code_bytes) = self.code_bytes {
            writeln!(f, "  code      {:>8} KiB", kib(code_bytes))?;
        }
        writeln!(f, "  cycles    {:>8} thousand, estimated", self.estimated_cycles.div_ceil(1000))?;
        writeln!(f, "operators")?;
        self.ops.iter().try_for_each(|(name, count)| writeln!(f, "  {count:>5} {name}"))?;
        writeln!(f, "kernels")?;
        self.kernels.iter().try_for_each(|(name, count)| writeln!(f, "  {count:>5} {name}"))?;
        writeln!(f, "layers")?;
        for layer in &self.layers {
            writeln!(f, "  {} {} <- {}", layer.device, layer.kernel, layer.source.join(", "))?;
        }
        if !self.missed.is_empty() {
            writeln!(f, "missed")?;
        }
        self.missed.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// The lines in which two reports differ; empty when there are none.
pub fn diff(a: &Report, b: &Report) -> String {
    let mut out = String::new();
    let mut text = |name: &str, a: &str, b: &str| {
        if a != b {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name}: {a} -> {b}");
        }
    };
    text("model", &a.model, &b.model);
    text("target", &a.target, &b.target);
    for (name, before, after) in [
        ("arena bytes", a.arena_bytes, b.arena_bytes),
        ("tensors bytes", a.tensors_bytes, b.tensors_bytes),
        ("bound bytes", a.bound_bytes, b.bound_bytes),
        ("weights bytes", a.weights_bytes, b.weights_bytes),
        ("code bytes", a.code_bytes.unwrap_or(0), b.code_bytes.unwrap_or(0)),
        ("estimated cycles", a.estimated_cycles, b.estimated_cycles),
    ] {
        let change = if before == 0 {
            String::new()
        } else {
            format!(" ({:+.1}%)", (after as f64 / before as f64 - 1.0) * 100.0)
        };
        text(name, &before.to_string(), &if before == after { after.to_string() } else { format!("{after}{change}") });
    }
    for (kind, before, after) in [("op", &a.ops, &b.ops), ("kernel", &a.kernels, &b.kernels)] {
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let count = |map: &BTreeMap<String, u64>| map.get(name).copied().unwrap_or(0).to_string();
            text(&format!("{kind} {name}"), &count(before), &count(after));
        }
    }
    for line in b.missed.iter().filter(|line| !a.missed.contains(line)) {
        let _ = writeln!(out, "missed now: {line}");
    }
    for line in a.missed.iter().filter(|line| !b.missed.contains(line)) {
        let _ = writeln!(out, "no longer missed: {line}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        Report {
            model: "m".into(),
            target: "t".into(),
            arena_bytes: 1000,
            tensors_bytes: 900,
            bound_bytes: 900,
            weights_bytes: 10,
            code_bytes: Some(20),
            estimated_cycles: 5,
            ops: BTreeMap::from([("relu".into(), 2)]),
            kernels: BTreeMap::new(),
            layers: Vec::new(),
            missed: vec!["x".into()],
        }
    }

    #[test]
    fn differences_are_named() {
        let a = sample();
        assert_eq!(diff(&a, &a), "");
        let b = Report { arena_bytes: 1500, ops: BTreeMap::from([("add".into(), 1)]), missed: Vec::new(), ..a.clone() };
        assert_eq!(
            diff(&a, &b),
            "arena bytes: 1000 -> 1500 (+50.0%)\nop add: 0 -> 1\nop relu: 2 -> 0\nno longer missed: x\n"
        );
    }

    #[test]
    fn json_is_read_back() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), sample());
    }
}
