//! Which nodes the accelerator runs: by asking it, again and again, until it compiles all of what it is left with.
//!
//! A node that is refused goes to the CPU, with the reason. So do nodes that the accelerator could run but that only make what
//! crosses larger (a `dequantize` in front of a CPU phase), and phases that do nothing but move and convert: two crossings cost
//! more than they do.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_ir::tile;

use super::cut::{Cut, cut};
use super::{Device, Phases, Reason};
use crate::error::Error;

/// A node that an accelerator does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The node of the graph that was asked about.
    pub node: NodeId,
    /// What was found and what would be accepted.
    pub why: String,
}

/// What an accelerator makes of a graph.
#[derive(Clone, Debug)]
pub enum Answer<P> {
    /// Its program.
    Made(P),
    /// What stands in the way: at least one node.
    Refused(Vec<Refused>),
}

/// Nodes on the CPU, and why.
pub(super) type OnCpu = BTreeMap<NodeId, String>;

/// Cuts a graph into phases; gives with each phase what `compile` made of its graph, where it is one of the accelerator's.
///
/// # Errors
/// What `compile` gives; [`Error::Unsupported`] when no node is left for the accelerator.
pub fn partition<P>(
    graph: &Graph,
    accelerator: &str,
    compile: &mut dyn FnMut(&Graph) -> Result<Answer<P>, Error>,
) -> Result<(Phases, Vec<Option<P>>), Error> {
    let mut on_cpu = OnCpu::new();
    // What was made of a phase serves again where the phase stays as it is.
    let mut known: BTreeMap<String, P> = BTreeMap::new();
    loop {
        settle(graph, &mut on_cpu);
        let Cut { phases, origins } = cut(graph, accelerator, &on_cpu)?;
        if phases.phases.iter().all(|phase| phase.device == Device::Cpu) {
            return Err(nothing_left(graph, accelerator, &on_cpu));
        }
        let before = on_cpu.len();
        let mut made = Vec::new();
        for (phase, origin) in phases.phases.iter().zip(&origins) {
            if phase.device == Device::Cpu {
                made.push(None);
                continue;
            }
            let key = phase.graph.to_string();
            let answer = known.remove(&key).map_or_else(|| compile(&phase.graph), |program| Ok(Answer::Made(program)));
            match answer? {
                Answer::Made(program) => made.push(Some((key, program))),
                Answer::Refused(list) => {
                    on_cpu.extend(list.into_iter().filter_map(|one| Some((*origin.get(&one.node)?, one.why))));
                }
            }
        }
        if made.len() == phases.phases.len() {
            let programs = made.into_iter().map(|one| one.map(|(_, program)| program)).collect();
            return Ok((phases, programs));
        }
        if on_cpu.len() == before {
            return Err(Error::Bug("a phase was refused without a node of it".into()));
        }
        known = made.into_iter().flatten().collect();
    }
}

fn nothing_left(graph: &Graph, accelerator: &str, on_cpu: &OnCpu) -> Error {
    let all: Vec<String> = on_cpu.iter().map(|(&id, why)| format!("node {}", reason(graph, id, why))).collect();
    let accepted = format!("at least one that {accelerator} runs; `--target` with a CPU's name for none");
    Error::Unsupported(format!("{}\nno node is left for {accelerator}, accepted: {accepted}", all.join("\n")))
}

/// Why a node is on the CPU.
pub(super) fn reason(graph: &Graph, id: NodeId, why: &str) -> Reason {
    let node = graph.node(id);
    Reason { names: node.loc.names().to_vec(), op: node.op.name(), why: why.to_owned() }
}

/// Whether a node only moves or converts elements.
fn is_light(op: &Op) -> bool {
    let moves = matches!(
        op,
        Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Concat(_)
            | Op::Split(_)
            | Op::Expand(_)
            | Op::Pad(_)
            | Op::Gather(_)
            | Op::DepthToSpace(_)
            | Op::SpaceToDepth(_)
    );
    moves || tile::is_elementwise(op) || matches!(op, Op::Quantize(_) | Op::Dequantize(_) | Op::Cast(_))
}

/// Whether a node's results may have another size than its operands while it costs next to nothing.
fn resizes(op: &Op) -> bool {
    matches!(op, Op::Quantize(_) | Op::Dequantize(_) | Op::Cast(_) | Op::Slice(_) | Op::Expand(_))
}

/// What is computed: nodes that are no constants.
pub(super) fn computed(graph: &Graph) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
    graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_)))
}

/// Bytes of the operands that are no constants, and of the results.
pub(super) fn sizes(graph: &Graph, node: &Node) -> [i128; 2] {
    let bytes = |value: ValueId| i128::from(graph.ty(value).max_bytes(&graph.dims));
    let operands: BTreeSet<ValueId> =
        node.inputs.iter().flatten().copied().filter(|&value| graph.constant(value).is_none()).collect();
    [operands.into_iter().map(bytes).sum(), node.outputs.iter().copied().map(bytes).sum()]
}

/// Who reads each node's results.
pub(super) fn readers(graph: &Graph) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut readers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in computed(graph) {
        for (producer, _) in node.inputs.iter().flatten().filter_map(|&value| graph.producer(value)) {
            readers.entry(producer).or_default().push(id);
        }
    }
    readers
}

/// Moves to the CPU what it would be no use to do on the accelerator.
fn settle(graph: &Graph, on_cpu: &mut OnCpu) {
    let readers = readers(graph);
    let outputs: BTreeSet<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    while !on_cpu.is_empty() {
        let mut moved = OnCpu::new();
        for (id, node) in computed(graph).filter(|(id, node)| !on_cpu.contains_key(id) && resizes(&node.op)) {
            let [before, after] = sizes(graph, node);
            let leaves = node.outputs.iter().any(|value| outputs.contains(value));
            let all_read =
                !leaves && readers.get(&id).is_some_and(|all| all.iter().all(|other| on_cpu.contains_key(other)));
            let operands = node.inputs.iter().flatten().filter(|&&value| graph.constant(value).is_none());
            let made: Vec<_> = operands.map(|&value| graph.producer(value)).collect();
            let all_made = !made.is_empty()
                && made.iter().all(|maker| maker.is_some_and(|(maker, _)| on_cpu.contains_key(&maker)));
            if all_read && after > before {
                moved.insert(id, "only the CPU reads it, and its operands have fewer bytes".into());
            } else if all_made && after < before {
                moved.insert(id, "all of its operands are the CPU's, and it has fewer bytes".into());
            }
        }
        if moved.is_empty() {
            moved = idle(graph, on_cpu);
        }
        if moved.is_empty() {
            break;
        }
        on_cpu.extend(moved);
    }
}

/// The nodes of phases of the accelerator that only move and convert.
fn idle(graph: &Graph, on_cpu: &OnCpu) -> OnCpu {
    let levels = super::cut::levels(graph, on_cpu);
    let mut groups: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
    for (id, _) in computed(graph).filter(|(id, _)| !on_cpu.contains_key(id)) {
        groups.entry(levels[&id]).or_default().push(id);
    }
    let light = groups.into_values().filter(|group| group.iter().all(|&id| is_light(&graph.node(id).op)));
    let why = "what could be done here at once moves and converts only, which is not worth two crossings";
    light.flatten().map(|id| (id, why.to_owned())).collect()
}
