//! Products and convolutions of one operand, offered as one.
//!
//! No rule: pairs of pairs would multiply without end. Every group is offered once, whole, before rules run, where the
//! larger operator and the copies of its parts are cheaper; whether they are taken is for extraction to say.

use std::collections::BTreeMap;

use adze_ir::egraph::{EGraph, ENode, add_op};
use adze_ir::extent::Extent;
use adze_ir::ops::{Binary, BinaryFn, Concat, Op, Split};
use adze_ir::propose::{CostModel, OpFacts};
use adze_ir::types::TensorType;
use egg::Id;

use super::support::{give_results, op_of, sorted_classes, ty};

/// What the log calls it.
pub(crate) const NAME: &str = "parallel-products";
/// Operators of one group.
const MAX_PARTS: usize = 8;

/// Operators with the same key differ in their weights' outputs only: operand, operator, shape of the weights without the
/// outputs, rank of what is added, and whether that is by an `add` of its own.
type Key = (Id, Op, Vec<Extent>, Option<usize>, bool);

/// A member of a group.
#[derive(Clone)]
struct Part {
    /// The result.
    class: Id,
    weights: Id,
    /// A constant row that is added.
    bias: Option<Id>,
    /// How many outputs it has.
    outputs: Extent,
}

/// Offers every group that could pay; how many there are.
pub(crate) fn offer(egraph: &mut EGraph, costs: &dyn CostModel) -> usize {
    let mut groups: BTreeMap<Key, Vec<Part>> = BTreeMap::new();
    for class in sorted_classes(egraph) {
        for node in &egraph[class].nodes {
            let found = product(egraph, class, node).or_else(|| biased(egraph, class, node));
            if let Some((key, part)) = found.filter(|_| !read_elementwise(egraph, class)) {
                groups.entry(key).or_default().push(part);
            }
        }
    }
    let mut offered = 0;
    for (key, parts) in groups {
        let few = (2..=MAX_PARTS).contains(&parts.len());
        if few && pays(egraph, &key, &parts, costs).unwrap_or(false) && merge(egraph, &key, &parts).is_some() {
            offered += 1;
        }
    }
    egraph.rebuild();
    offered
}

/// Axes of the outputs: in the weights, and in a result of that rank.
fn axes(op: &Op, rank: usize) -> Option<(usize, usize)> {
    match op {
        Op::Conv(conv) if conv.group == 1 => Some((0, 1)),
        Op::MatMul(op) => Some((usize::from(!op.trans_b), rank.checked_sub(1)?)),
        Op::Gemm(op) => Some((usize::from(!op.trans_b), rank.checked_sub(1)?)),
        _ => None,
    }
}

/// A convolution or product with constant weights.
fn product(egraph: &EGraph, class: Id, node: &ENode) -> Option<(Key, Part)> {
    let op = op_of(egraph, node)?;
    let (x, weights) = (*node.children.get(1)?, *node.children.get(2)?);
    let bias = node.children.get(3).copied();
    let (at, _) = axes(op, ty(egraph, class)?.rank())?;
    let shape = &ty(egraph, weights)?.shape;
    let constant = |id: Id| egraph[id].data.fixed;
    // Products of matrices only; a bias is a row.
    let matrix = matches!(op, Op::Conv(_)) || shape.len() == 2;
    let row = bias.is_none_or(|b| constant(b) && ty(egraph, b).is_some_and(|ty| ty.shape == [shape[at].clone()]));
    if !constant(weights) || constant(x) || !matrix || !row {
        return None;
    }
    let mut rest = shape.clone();
    let outputs = rest.remove(at);
    let key = (egraph.find(x), op.clone(), rest, bias.map(|_| 1), false);
    Some((key, Part { class, weights, bias, outputs }))
}

/// A product and the constant row that is added to it.
fn biased(egraph: &EGraph, class: Id, node: &ENode) -> Option<(Key, Part)> {
    if !matches!(op_of(egraph, node)?, Op::Binary(op) if op.function == BinaryFn::Add) {
        return None;
    }
    let (a, b) = (node.children[1], node.children[2]);
    let (of, bias) = if egraph[b].data.fixed { (a, b) } else { (b, a) };
    let inner = egraph[of].nodes.iter().find_map(|node| product(egraph, of, node));
    let ((x, op, rest, None, _), part) = inner? else { return None };
    let row = egraph[bias].data.fixed && ty(egraph, bias)?.shape == [part.outputs.clone()];
    (row && !matches!(op, Op::Conv(_)))
        .then_some(((x, op, rest, Some(1), true), Part { class, bias: Some(bias), ..part }))
}

/// Whether an elementwise operator reads the value: it would join the operator that makes it, but not one that copies.
fn read_elementwise(egraph: &EGraph, class: Id) -> bool {
    egraph[class].parents().any(|parent| {
        egraph[parent].nodes.iter().any(|node| {
            let elementwise = op_of(egraph, node).is_some_and(|op| {
                matches!(
                    op,
                    Op::Unary(_)
                        | Op::Binary(_)
                        | Op::Clip(_)
                        | Op::LeakyRelu(_)
                        | Op::Elu(_)
                        | Op::HardSigmoid(_)
                        | Op::Gelu(_)
                        | Op::Swish(_)
                        | Op::PRelu(_)
                        | Op::Quantize(_)
                        | Op::BatchNorm(_)
                )
            });
            elementwise && node.children[1..].iter().any(|&child| egraph.find(child) == class)
        })
    })
}

/// Whether the operator of all parts and the copies cost less than the operators of the parts. What is added is left out of
/// both: it joins either.
fn pays(egraph: &EGraph, (x, op, rest, _, _): &Key, parts: &[Part], costs: &dyn CostModel) -> Option<bool> {
    let x = ty(egraph, *x)?;
    let (from, to) = axes(op, ty(egraph, parts.first()?.class)?.rank())?;
    let cost = |op: &Op, inputs: &[&TensorType]| {
        let inputs: Vec<Option<&TensorType>> = inputs.iter().copied().map(Some).collect();
        let outputs = op.infer(&inputs).ok()?;
        let fixed = [false, true];
        let facts =
            OpFacts { inputs: &inputs, fixed: &fixed[..inputs.len()], outputs: &outputs, dims: &egraph.analysis.dims };
        Some((costs.cost(op, &facts)?.weight(), outputs.into_iter().next()?))
    };
    let product = |outputs: &Extent| {
        let mut shape = rest.clone();
        shape.insert(from, outputs.clone());
        cost(op, &[x, &TensorType::new(x.dtype, shape)])
    };
    let all = parts.iter().fold(Extent::ZERO, |sum, part| sum + part.outputs.clone());
    let (whole, result) = product(&all)?;
    let split = Split { axis: to, sizes: parts.iter().map(|part| part.outputs.clone()).collect() };
    let (copies, _) = cost(&split.into(), &[&result])?;
    let apart = parts.iter().try_fold(0u64, |sum, part| Some(sum.saturating_add(product(&part.outputs)?.0)))?;
    Some(whole.saturating_add(copies) < apart)
}

/// Adds the operator of all parts, and its parts to their classes.
fn merge(egraph: &mut EGraph, (x, op, _, bias, own): &Key, parts: &[Part]) -> Option<()> {
    let rank = ty(egraph, parts[0].class)?.rank();
    let (from, to) = axes(op, rank)?;
    let weights: Vec<Id> = parts.iter().map(|part| part.weights).collect();
    let weights = add_op(egraph, Concat { axis: from }, &weights)?;
    let mut operands = vec![*x, weights];
    let rows: Vec<Id> = parts.iter().filter_map(|part| part.bias).collect();
    let row = if bias.is_some() { Some(add_op(egraph, Concat { axis: 0 }, &rows)?) } else { None };
    operands.extend(row.filter(|_| !own));
    let mut whole = add_op(egraph, op.clone(), &operands)?;
    if let Some(row) = row.filter(|_| *own) {
        whole = add_op(egraph, Binary { function: BinaryFn::Add }, &[whole, row])?;
    }
    let sizes = parts.iter().map(|part| part.outputs.clone()).collect();
    let split = add_op(egraph, Split { axis: to, sizes }, &[whole])?;
    give_results(egraph, split, parts.iter().map(|part| part.class), NAME);
    Some(())
}
