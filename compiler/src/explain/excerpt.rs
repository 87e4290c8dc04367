//! The lines of a graph that are about one source node, in the graph's own text form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_ir::text::{brief_const, print_node};

/// The nodes that stand for a source node of that name.
pub fn nodes_of(graph: &Graph, name: &str) -> Vec<NodeId> {
    let carries = |node: &Node| node.loc.names().iter().any(|known| **known == *name);
    graph.nodes().filter(|(_, node)| carries(node) && !matches!(node.op, Op::Constant(_))).map(|(id, _)| id).collect()
}

/// What a value is called: its name, that of its constant, or that of the node it comes from.
pub fn value_name(graph: &Graph, value: ValueId) -> String {
    let named = graph.value(value).name.clone();
    let constant = || graph.constant(value).map(|entry| entry.name.clone()).filter(|name| !name.is_empty());
    let source = || graph.producer(value).and_then(|(_, node)| node.loc.names().last().cloned());
    named.or_else(constant).or_else(source).map_or_else(String::new, |name| name.to_string())
}

/// These nodes as text, with what they read on top. Values are numbered from 0, so that two excerpts differ only where
/// what they show does.
pub fn excerpt(graph: &Graph, nodes: &[NodeId]) -> String {
    let shown: BTreeSet<NodeId> = nodes.iter().copied().collect();
    let mut numbers: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut out = String::new();
    for &id in nodes {
        for &value in graph.node(id).inputs.iter().flatten() {
            let outside = graph.producer(value).is_none_or(|(producer, _)| !shown.contains(&producer));
            if outside && !numbers.contains_key(&value) {
                let number = numbers.len();
                numbers.insert(value, number);
                // Writing to a string cannot fail.
                let _ = writeln!(out, "%{number} = {}", leaf(graph, value));
            }
        }
    }
    for &id in nodes {
        let node = graph.node(id);
        for &value in &node.outputs {
            let next = numbers.len();
            numbers.entry(value).or_insert(next);
        }
        let _ = writeln!(out, "{}", fmt::from_fn(|f| print_node(graph, node, &numbers, f)));
    }
    out
}

fn leaf(graph: &Graph, value: ValueId) -> String {
    match graph.constant(value) {
        Some(entry) => format!("{} : {}", brief_const(entry), graph.ty(value)),
        None => format!("input {:?} : {}", value_name(graph, value), graph.ty(value)),
    }
}
