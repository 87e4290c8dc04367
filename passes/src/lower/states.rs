//! In-place states: the order that lets the last read come before the write, or a copy at the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use adze_ir::graph::{Append, Graph, NodeId, State, ValueId};
use adze_ir::ops::Op;
use adze_ir::tile::is_elementwise;

use super::LowerError;
use super::alias::{alias_offsets, concat_offsets};

/// How each state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatePlan {
    /// The output's producer writes the state's buffer.
    Direct,
    /// The output is made elsewhere and copied at the end.
    Copied,
    /// The producer is a concatenation whose first part is the state.
    Appended(Append),
}

/// The order of the nodes and how each state is written.
pub(super) struct Order {
    pub(super) nodes: Vec<NodeId>,
    pub(super) states: Vec<StatePlan>,
    /// Results of concatenations whose parts are not made in place: what makes them reads what the result overwrites.
    pub(super) apart: BTreeSet<ValueId>,
    pub(super) notes: Vec<String>,
}

/// Plans all states.
///
/// # Errors
/// [`LowerError::State`] for a growing state that is not made by appending, or outgrows its capacity.
pub(super) fn plan_states(graph: &Graph) -> Result<Order, LowerError> {
    let mut edges: BTreeSet<(NodeId, NodeId)> = BTreeSet::new();
    let mut nodes = graph.order().to_vec();
    let (mut states, mut apart, mut notes) = (Vec::new(), BTreeSet::new(), Vec::new());
    for state in &graph.states {
        if let Some(append) = state.append {
            check_append(graph, state, append)?;
            states.push(StatePlan::Appended(append));
            continue;
        }
        let mut plan = try_direct(graph, state, &apart, &mut edges, &mut nodes);
        let output = graph.outputs()[state.output].value;
        if plan == StatePlan::Copied && graph.producer(output).is_some_and(|(_, n)| matches!(n.op, Op::Concat(_))) {
            // Its parts are copied to their places then, which costs no more than copying all of it.
            apart.insert(output);
            plan = try_direct(graph, state, &apart, &mut edges, &mut nodes);
            if plan == StatePlan::Copied {
                apart.remove(&output);
            }
        }
        if plan == StatePlan::Copied {
            let output = &graph.outputs()[state.output];
            let loc = graph.producer(output.value).map(|(_, node)| node.loc.to_string()).unwrap_or_default();
            notes.push(format!(
                "state `{}` {loc} is copied at the end: what makes it still reads the old one",
                output.name
            ));
        }
        states.push(plan);
    }
    Ok(Order { nodes, states, apart, notes })
}

fn check_append(graph: &Graph, state: &State, append: Append) -> Result<(), LowerError> {
    let output = &graph.outputs()[state.output];
    let input = graph.inputs()[state.input];
    let producer = graph.producer(output.value);
    let fail = |found: String, accepted: String| {
        let loc = producer.map(|(_, node)| node.loc.clone()).unwrap_or_default();
        Err(LowerError::State { state: output.name.to_string(), loc, found, accepted })
    };
    let accepted = || format!("a concatenation along axis {} that starts with the state", append.axis);
    let upper = graph.ty(output.value).shape.get(append.axis).map_or(i64::MAX, |e| e.upper(&graph.dims));
    if upper > append.capacity {
        return fail(
            format!("up to {upper} elements along axis {}", append.axis),
            format!("at most {}", append.capacity),
        );
    }
    if graph.ty(output.value).dtype.bits() < 8 || !graph.ty(output.value).layout.is_plain() {
        return fail(graph.ty(output.value).to_string(), "a plain layout of whole bytes".into());
    }
    match producer.map(|(_, node)| (&node.op, node)) {
        Some((Op::Concat(concat), node)) => {
            let again = node.inputs.iter().skip(1).any(|v| *v == Some(input));
            if concat.axis != append.axis || node.inputs.first() != Some(&Some(input)) || again {
                return fail(format!("`{}`", node.op), accepted());
            }
            Ok(())
        }
        Some((op, _)) => fail(format!("`{}`", op.name()), accepted()),
        None => fail("a graph input".into(), accepted()),
    }
}

/// Orders all reads of the state before its write, if the graph allows that.
fn try_direct(
    graph: &Graph,
    state: &State,
    apart: &BTreeSet<ValueId>,
    edges: &mut BTreeSet<(NodeId, NodeId)>,
    nodes: &mut Vec<NodeId>,
) -> StatePlan {
    let (input, output) = (graph.inputs()[state.input], graph.outputs()[state.output].value);
    if input == output {
        return StatePlan::Direct;
    }
    let Some(writers) = writers(graph, output, apart) else { return StatePlan::Copied };
    let readers = readers(graph, input);
    // A view of the old state that leaves as an output would change under the caller's eyes.
    let escapes = graph.outputs().iter().any(|o| o.value != output && readers.values.contains(&o.value));
    let other_uses = graph.states.iter().filter(|s| graph.outputs()[s.output].value == output).count() != 1;
    let shared: Vec<NodeId> = readers.nodes.intersection(&writers).copied().collect();
    if escapes || other_uses || !shared.iter().all(|&node| writes_over(graph, node, output, &readers)) {
        return StatePlan::Copied;
    }
    let mut tried = edges.clone();
    let pairs = readers.nodes.iter().flat_map(|&r| writers.iter().map(move |&w| (r, w)));
    tried.extend(pairs.filter(|(r, w)| r != w));
    match sorted(graph, &tried) {
        Some(order) => {
            (*edges, *nodes) = (tried, order);
            StatePlan::Direct
        }
        None => StatePlan::Copied,
    }
}

/// Whether a node that reads the old state may write the new one over it: elementwise, on all of it.
fn writes_over(graph: &Graph, node: NodeId, output: ValueId, readers: &Readers) -> bool {
    let node = graph.node(node);
    let same = |v: &ValueId| graph.ty(*v) == graph.ty(output);
    node.outputs == [output]
        && is_elementwise(&node.op)
        && node.inputs.iter().flatten().filter(|v| readers.values.contains(v)).all(same)
}

/// The nodes that write the bytes of a value, if lowering makes it where it is told to.
fn writers(graph: &Graph, value: ValueId, apart: &BTreeSet<ValueId>) -> Option<BTreeSet<NodeId>> {
    let mut found = BTreeSet::new();
    let mut work = vec![value];
    while let Some(value) = work.pop() {
        let (id, node) = graph.producer(value)?;
        if matches!(node.op, Op::Constant(_)) {
            // Copied in by whoever needs it there; that happens where the user stands.
            return None;
        }
        found.insert(id);
        if alias_offsets(graph, node).is_some() {
            work.extend(node.inputs.iter().flatten().take(1));
        } else if !apart.contains(&value) && concat_offsets(graph, node).is_some() {
            for &part in node.inputs.iter().flatten() {
                let made = graph.producer(part).is_some_and(|(_, n)| !matches!(n.op, Op::Constant(_)));
                if made {
                    work.push(part);
                }
            }
        }
    }
    Some(found)
}

struct Readers {
    nodes: BTreeSet<NodeId>,
    /// Values that share the bytes, the input among them.
    values: BTreeSet<ValueId>,
}

/// The nodes that read the bytes of a value, through aliases too.
fn readers(graph: &Graph, value: ValueId) -> Readers {
    let mut readers = Readers { nodes: BTreeSet::new(), values: BTreeSet::from([value]) };
    for (id, node) in graph.nodes() {
        if !node.inputs.iter().flatten().any(|v| readers.values.contains(v)) {
            continue;
        }
        readers.nodes.insert(id);
        if alias_offsets(graph, node).is_some() {
            readers.values.extend(&node.outputs);
        }
    }
    readers
}

/// The present order, changed as little as extra edges ask for; nothing when they close a cycle.
fn sorted(graph: &Graph, extra: &BTreeSet<(NodeId, NodeId)>) -> Option<Vec<NodeId>> {
    let rank: BTreeMap<NodeId, usize> = graph.order().iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let mut successors: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let mut missing: BTreeMap<NodeId, usize> = BTreeMap::new();
    let data = graph.nodes().flat_map(|(id, node)| {
        node.inputs.iter().flatten().filter_map(move |&v| graph.producer(v).map(|(producer, _)| (producer, id)))
    });
    for (before, after) in data.chain(extra.iter().copied()) {
        successors.entry(before).or_default().push(after);
        *missing.entry(after).or_default() += 1;
    }
    let mut ready: BinaryHeap<Reverse<(usize, NodeId)>> =
        graph.order().iter().filter(|n| !missing.contains_key(n)).map(|&n| Reverse((rank[&n], n))).collect();
    let mut order = Vec::with_capacity(rank.len());
    while let Some(Reverse((_, node))) = ready.pop() {
        order.push(node);
        for &next in successors.get(&node).into_iter().flatten() {
            let left = missing.get_mut(&next)?;
            *left -= 1;
            if *left == 0 {
                ready.push(Reverse((rank[&next], next)));
            }
        }
    }
    (order.len() == rank.len()).then_some(order)
}
