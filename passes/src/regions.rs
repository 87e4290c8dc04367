//! Regions: stretches of a graph that are optimised one by one.
//!
//! A cut stands where few values cross, best one that many operators share anyway: with one value crossing, its producer is an
//! articulation point of the graph. Stretches of the order are cut, not the undirected graph, so that operators keep their
//! order. As a cut depends on what is around it only, blocks that repeat are cut alike.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::{BinaryFn, Op};
use cranelift_entity::SecondaryMap;

/// Fewest nodes of a region, constants not counted; the last one may have fewer.
const MIN_NODES: usize = 40;
/// Most nodes of a region.
const MAX_NODES: usize = 240;

/// A stretch of the order and those of its values that are used elsewhere.
pub(crate) struct Part {
    pub nodes: Vec<NodeId>,
    pub outputs: Vec<ValueId>,
}

/// Where a value is made and used, by places in the order.
#[derive(Clone, Copy, Default)]
struct Span {
    made: usize,
    first: usize,
    last: usize,
    /// What rules would see across a cut of this value.
    seam: Seam,
}

/// What is lost where a value is cut.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Seam {
    /// Nothing: every user starts a pattern, or adds.
    #[default]
    Clean,
    /// The producer could move into a user.
    Moves,
    /// A user belongs to a pattern that the producer is part of.
    Inside,
}

/// Cuts the order.
pub(crate) fn regions(graph: &Graph) -> Vec<Part> {
    let nodes: Vec<NodeId> =
        graph.nodes().filter(|(_, n)| !matches!(n.op, Op::Constant(_))).map(|(id, _)| id).collect();
    let mut spans = spans(graph, &nodes);
    let shared = shared_weights(graph, &nodes, &mut spans);
    let costs = cut_costs(graph, &nodes, &spans, &shared);
    let (mut parts, mut start) = (Vec::new(), 0);
    while start < nodes.len() {
        let end = if nodes.len() - start <= MIN_NODES {
            nodes.len()
        } else {
            let window = start + MIN_NODES..=(start + MAX_NODES).min(nodes.len());
            // Rather than a cut that loses something, none.
            let cost = |at: usize| costs.get(at).copied().unwrap_or((Seam::Moves, 0, 0));
            window.min_by_key(|&at| (cost(at), at)).unwrap_or(nodes.len())
        };
        let results = nodes[start..end].iter().flat_map(|&id| graph.node(id).outputs.iter().copied());
        let outputs = results.filter(|&v| spans[v].last >= end).collect();
        parts.push(Part { nodes: nodes[start..end].to_vec(), outputs });
        start = end;
    }
    parts
}

fn spans(graph: &Graph, nodes: &[NodeId]) -> SecondaryMap<ValueId, Span> {
    let mut spans: SecondaryMap<ValueId, Span> = SecondaryMap::new();
    let mut users: SecondaryMap<ValueId, u32> = SecondaryMap::new();
    for (at, &id) in nodes.iter().enumerate() {
        let node = graph.node(id);
        for &value in &node.outputs {
            let moves =
                matches!(node.op, Op::Pad(_) | Op::Transpose(_) | Op::Dequantize(_) | Op::Concat(_) | Op::Slice(_));
            let seam = if moves { Seam::Moves } else { Seam::Clean };
            spans[value] = Span { made: at, first: usize::MAX, last: 0, seam };
        }
        for &value in node.inputs.iter().flatten() {
            users[value] += 1;
            let span = &mut spans[value];
            (span.first, span.last) = (span.first.min(at), at);
            // A sum of a value that others share is where branches meet again.
            let adds = matches!(&node.op, Op::Binary(op) if op.function == BinaryFn::Add) && users[value] > 1;
            if !starts(&node.op) && !adds {
                span.seam = Seam::Inside;
            }
        }
    }
    graph.outputs().iter().for_each(|output| spans[output.value].last = usize::MAX);
    spans
}

/// Matrices that products share, by the place of the first one: a cut between such products would part what can be one.
fn shared_weights(
    graph: &Graph,
    nodes: &[NodeId],
    spans: &mut SecondaryMap<ValueId, Span>,
) -> BTreeMap<usize, ValueId> {
    let mut first: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (at, &id) in nodes.iter().enumerate() {
        let node = graph.node(id);
        let product = matches!(node.op, Op::MatMul(_) | Op::Gemm(_));
        let weights = node.inputs.get(1).copied().flatten().filter(|&v| product && graph.constant(v).is_some());
        if let Some(value) = weights {
            let made = *first.entry(value).or_insert(at);
            // Not among the values whose users a cut parts: what is lost is one thing.
            spans[value] = Span { made, first: usize::MAX, last: at, seam: Seam::Moves };
        }
    }
    first.into_iter().filter(|(value, at)| spans[*value].last > *at).map(|(value, at)| (at, value)).collect()
}

/// Operators that rules look down from, not up to.
fn starts(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::MatMul(_)
            | Op::Gemm(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::LayerNorm(_)
            | Op::Softmax(_)
            | Op::Dequantize(_)
    )
}

/// What a cut before each node costs: the worst seam, values whose users it parts, and values that cross. Values that live longer
/// than a region are cut wherever it ends.
fn cut_costs(
    graph: &Graph,
    nodes: &[NodeId],
    spans: &SecondaryMap<ValueId, Span>,
    shared: &BTreeMap<usize, ValueId>,
) -> Vec<(Seam, usize, usize)> {
    let mut alive: BTreeSet<(usize, ValueId)> = BTreeSet::new();
    let mut costs = Vec::with_capacity(nodes.len());
    for (at, &id) in nodes.iter().enumerate() {
        while let Some(&(last, value)) = alive.first().filter(|(last, _)| *last < at) {
            alive.remove(&(last, value));
        }
        let crossing = || alive.iter().map(|&(_, value)| spans[value]);
        let seam = crossing().map(|span| span.seam).max().unwrap_or_default();
        costs.push((seam, crossing().filter(|span| span.first < at).count(), alive.len()));
        let short = |span: Span| span.last.saturating_sub(span.made) <= MAX_NODES;
        let new = graph.node(id).outputs.iter().chain(shared.get(&at));
        alive.extend(new.filter(|&&v| short(spans[v])).map(|&v| (spans[v].last, v)));
    }
    costs
}

#[cfg(test)]
mod tests {
    use adze_ir::eval::eval_graph;
    use adze_ir::propose::PlainMachine;
    use adze_ir::tensor::Tensor;
    use adze_ir::text::parse_graph;
    use adze_ir::types::DType;

    use super::*;
    use crate::pass::PassOptions;
    use crate::pipeline::Runner;

    /// Residual blocks of four nodes, whose constants are a number of the block; `odd` blocks have an infinite one.
    fn blocks(count: usize, odd: &[usize]) -> Graph {
        let mut text = String::from("graph @g { input %0 \"x\" : f32[1,2,3,3]\n");
        let (mut x, mut next) = (0, 1);
        for block in 0..count {
            let [w, scale, bias, mean, var, conv, norm, relu, sum] = std::array::from_fn(|at| next + at);
            let number = 0.25 + block as f64 / 64.0;
            let factor = if odd.contains(&block) { "inf".to_owned() } else { format!("{number:?}") };
            let values = format!("{number:?}, {:?}", number + 1.0);
            text += &format!("%{w} = const \"\" [{values}, 0.5, 0.5] : f32[2,2,1,1]\n");
            text += &format!("%{scale} = const \"\" [1.0, {factor}] : f32[2]\n");
            for constant in [bias, mean, var] {
                text += &format!("%{constant} = const \"\" [{values}] : f32[2]\n");
            }
            text += &format!(
                "%{conv} = conv %{x}, %{w} {{strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1}} : f32[1,2,3,3]\n"
            );
            text += &format!(
                "%{norm} = batch_norm %{conv}, %{scale}, %{bias}, %{mean}, %{var} {{epsilon=0.001}} : f32[1,2,3,3]\n"
            );
            text += &format!("%{relu} = relu %{norm} : f32[1,2,3,3]\n%{sum} = add %{relu}, %{x} : f32[1,2,3,3]\n");
            (x, next) = (sum, sum + 1);
        }
        parse_graph(&format!("{text} output \"y\" = %{x} }}")).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn cuts_are_where_one_shared_value_crosses() {
        let parts = regions(&blocks(60, &[]));
        let sizes: Vec<usize> = parts.iter().map(|part| part.nodes.len()).collect();
        assert_eq!(sizes, [40; 6]);
        assert!(parts.iter().all(|part| part.outputs.len() == 1), "one value crosses");
    }

    /// The graph after `saturate`, and what the pass says of its run.
    fn saturated(source: &Graph) -> (Graph, String) {
        let (options, mut graph) = (PassOptions::default(), source.clone());
        let runner = Runner { options: &options, costs: &PlainMachine, verify: true, stop_after: None };
        let report = runner.run(&mut graph, &["saturate"], &mut |_, _| {}).unwrap();
        (graph, report.runs[0].detail.clone())
    }

    #[test]
    fn repeated_blocks_are_solved_once_and_alike() {
        let source = blocks(60, &[]);
        let (graph, detail) = saturated(&source);
        // The first one reads the graph's input, which lies row-major.
        assert!(detail.starts_with("6 regions, 4 of them as before"), "{detail}");
        assert!(!graph.nodes().any(|(_, node)| matches!(node.op, Op::BatchNorm(_))));
        let x = [Tensor::from_f64(DType::F32, &[1, 2, 3, 3], &(0..18).map(|i| f64::from(i) / 9.0).collect::<Vec<_>>())];
        let (expected, found) = (eval_graph(&source, &x).unwrap(), eval_graph(&graph, &x).unwrap());
        for (found, expected) in found[0].to_f64().into_iter().zip(expected[0].to_f64()) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs(), "{found} instead of {expected}");
        }
    }

    /// A rule that would fold one term into another looks at terms: regions that differ in them only are solved together.
    #[test]
    fn blocks_that_differ_in_terms_are_solved_once() {
        let mut text = String::from("graph @g { input %0 \"x\" : f32[1,2,3,3]\n");
        let (mut x, mut next) = (0, 1);
        for block in 0..60 {
            let [w, term, conv, biased, sum, end] = std::array::from_fn(|at| next + at);
            let number = 0.25 + f64::from(block) / 64.0;
            text += &format!(
                "%{w} = const \"\" [{number:?}, 1.0, 0.5, 0.5] : f32[2,2,1,1]\n\
                 %{term} = const \"\" [{number:?}, 0.0] : f32[2,1,1]\n\
                 %{conv} = conv %{x}, %{w} {{strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1}} : f32[1,2,3,3]\n\
                 %{biased} = add %{conv}, %{term} : f32[1,2,3,3]\n\
                 %{sum} = add %{biased}, %{x} : f32[1,2,3,3]\n\
                 %{end} = relu %{sum} : f32[1,2,3,3]\n"
            );
            (x, next) = (end, end + 1);
        }
        let source = parse_graph(&format!("{text} output \"y\" = %{x} }}")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let (_, detail) = saturated(&source);
        assert!(detail.starts_with("6 regions, 4 of them as before"), "{detail}");
    }

    #[test]
    fn a_constant_that_rules_see_otherwise_is_solved_anew() {
        // Both odd regions give the same answers.
        let (graph, detail) = saturated(&blocks(60, &[13, 43]));
        assert!(detail.starts_with("6 regions, 3 of them as before"), "{detail}");
        assert_eq!(graph.nodes().filter(|(_, node)| matches!(node.op, Op::BatchNorm(_))).count(), 2);
    }
}
