//! What a neural processor wants otherwise than a CPU: rewrites of graphs that pay there whatever they cost elsewhere.
//!
//! Both compute the same numbers: what is moved is moved before or after it is rounded.

#[cfg(test)]
mod tests;
mod transposed;

use std::collections::BTreeMap;

use adze_ir::graph::{ConstEntry, Graph, Node, NodeId, ValueId};
use adze_ir::ops::{Concat, Dequantize, MatMul, Op, QLinearMatMul, Quantize, ReduceFn, Transpose};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use crate::error::Error;

/// A graph being built from another one.
struct Rewrite<'a> {
    old: &'a Graph,
    new: Graph,
    map: BTreeMap<ValueId, ValueId>,
}

/// `quantize` of a transposed convolution by quantized weights as that of a convolution whose channels then move into space
/// ([`transposed`]). Runs while weights are as they were exported.
pub(super) fn untransposed(graph: &Graph) -> Result<Graph, Error> {
    rewritten(graph, |rewrite, node| match &node.op {
        Op::Quantize(op) => rewrite.phases(node, op),
        _ => Ok(None),
    })
}

/// `quantize` of a concatenation as one of each part: parts of other tensors are then lowered together with what makes them.
pub(super) fn quantized_parts(graph: &Graph) -> Result<Graph, Error> {
    rewritten(graph, |rewrite, node| match &node.op {
        Op::Quantize(op) => rewrite.parts(node, op),
        _ => Ok(None),
    })
}

/// `dequantize` behind what moves elements or takes the largest ones, and `quantize` of a product of two tensors of bytes as one
/// of integers: the left factor's bytes by the right one's, summed in 32 bits.
pub(super) fn bytes_first(graph: &Graph) -> Result<Graph, Error> {
    rewritten(graph, |rewrite, node| match &node.op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Expand(_) => rewrite.moved(node),
        Op::Reduce(op) if op.function == ReduceFn::Max => rewrite.moved(node),
        Op::Quantize(op) => rewrite.product(node, op),
        _ => Ok(None),
    })
}

/// Builds a graph anew; a rule gives what stands for the only result of a node, or nothing to keep it.
fn rewritten(
    graph: &Graph,
    mut rule: impl FnMut(&mut Rewrite<'_>, &Node) -> Result<Option<ValueId>, Error>,
) -> Result<Graph, Error> {
    let mut new = Graph::new(graph.name.clone());
    (new.dims, new.consts, new.states) = (graph.dims.clone(), graph.consts.clone(), graph.states.clone());
    let mut rewrite = Rewrite { old: graph, new, map: BTreeMap::new() };
    for &value in graph.inputs() {
        let name = graph.value(value).name.clone().unwrap_or_default();
        let input = rewrite.new.add_input(name, graph.ty(value).clone());
        rewrite.map.insert(value, input);
    }
    for (_, node) in graph.nodes() {
        match rule(&mut rewrite, node)? {
            Some(value) => {
                rewrite.new.set_name(value, graph.value(node.outputs[0]).name.clone());
                rewrite.map.insert(node.outputs[0], value);
            }
            None => rewrite.keep(node)?,
        }
    }
    for output in graph.outputs() {
        let value = rewrite.map[&output.value];
        rewrite.new.add_output(output.name.clone(), value);
    }
    Ok(rewrite.new.compact())
}

impl Rewrite<'_> {
    fn keep(&mut self, node: &Node) -> Result<(), Error> {
        if let Op::Constant(constant) = &node.op {
            let value = self.new.add_const(constant.id, node.loc.clone());
            self.map.insert(node.outputs[0], value);
            return Ok(());
        }
        let operands: Vec<Option<ValueId>> = node.inputs.iter().map(|v| v.map(|v| self.map[&v])).collect();
        let made = self.new.add(node.op.clone(), &operands, node.loc.clone());
        let made = made.map_err(|error| Error::Bug(format!("{}: {error}", node.loc)))?;
        for (&before, &after) in node.outputs.iter().zip(&made) {
            self.new.set_type(after, self.old.ty(before).clone());
            self.new.set_name(after, self.old.value(before).name.clone());
            self.map.insert(before, after);
        }
        Ok(())
    }

    fn add(&mut self, node: &Node, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, Error> {
        self.new.add1(op, operands, node.loc.clone()).map_err(|error| Error::Bug(format!("{}: {error}", node.loc)))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.new.consts.push(ConstEntry::new("", tensor));
        self.new.add_const(id, Default::default())
    }

    fn producer(&self, value: Option<ValueId>) -> Option<(NodeId, &Node)> {
        self.old.producer(value?)
    }

    /// The parameters of a `quantize` or `dequantize` if there is one of each.
    fn scalars(&self, node: &Node) -> Option<Vec<ValueId>> {
        let one = |value: &ValueId| self.old.ty(*value).elems().as_const() == Some(1);
        let by: Vec<ValueId> = node.inputs[1..].iter().flatten().copied().collect();
        by.iter().all(one).then_some(by)
    }

    /// The bytes behind a value of the new graph that a `dequantize` by one positive scale gives, with scale and zero point.
    fn bytes(&self, value: ValueId) -> Option<(ValueId, [ValueId; 2])> {
        let (_, node) = self.new.producer(value)?;
        let (Op::Dequantize(_), &[Some(x), Some(scale), Some(zero)]) = (&node.op, &node.inputs[..]) else {
            return None;
        };
        let byte = matches!(self.new.ty(x).dtype, DType::I8 | DType::U8) && self.new.constant(x).is_none();
        (byte && self.is_pair([scale, zero])).then_some((x, [scale, zero]))
    }

    /// Whether a scale and a zero point are constants for a whole tensor, and the scale is one that can be divided by.
    fn is_pair(&self, by: [ValueId; 2]) -> bool {
        let [scale, zero] = by.map(|value| self.new.constant(value)?.data().filter(|data| data.shape().is_empty()));
        let normal = |scale: f32| scale > 0.0 && scale.is_normal() && scale.recip().is_normal();
        zero.is_some() && scale.is_some_and(|data| data.dtype() == DType::F32 && normal(data.to_f64()[0] as f32))
    }

    /// What keeps or moves elements, of bytes. A positive scale keeps order.
    fn moved(&mut self, node: &Node) -> Result<Option<ValueId>, Error> {
        let operands: Vec<ValueId> = node.inputs.iter().flatten().map(|value| self.map[value]).collect();
        let (&[value], 1) = (&operands[..], node.outputs.len()) else { return Ok(None) };
        let Some((x, [scale, zero])) = self.bytes(value) else { return Ok(None) };
        let moved = self.add(node, node.op.clone(), &[x])?;
        self.add(node, Dequantize { axis: 0, block: 0 }, &[moved, scale, zero]).map(Some)
    }

    fn product(&mut self, node: &Node, op: &Quantize) -> Result<Option<ValueId>, Error> {
        let operands: Vec<ValueId> = node.inputs.iter().flatten().map(|value| self.map[value]).collect();
        let &[value, scale, zero] = &operands[..] else { return Ok(None) };
        let Some((_, product)) = self.new.producer(value) else { return Ok(None) };
        let product = product.clone();
        let (Op::MatMul(MatMul { trans_a: false, trans_b }), [Some(a), Some(b)]) = (&product.op, &product.inputs[..])
        else {
            return Ok(None);
        };
        let (Some((a, [a_scale, a_zero])), Some((b, [b_scale, b_zero]))) = (self.bytes(*a), self.bytes(*b)) else {
            return Ok(None);
        };
        let ranks = [a, b].map(|value| self.new.ty(value).rank());
        let inner = self.new.ty(a).shape.last().and_then(|extent| extent.as_const());
        let fits = inner.is_some_and(|inner| inner.saturating_mul(255 * 255) < i64::from(i32::MAX));
        let byte = matches!(op.to, DType::I8 | DType::U8);
        if ranks[0] < 2 || ranks[1] < 2 || !fits || !byte || !self.is_pair([scale, zero]) {
            return Ok(None);
        }
        let mut right = b;
        if *trans_b {
            let mut perm: Vec<usize> = (0..ranks[1]).collect();
            perm.swap(ranks[1] - 2, ranks[1] - 1);
            right = self.add(&product, Transpose { perm }, &[b])?;
        }
        let operands = [a, a_scale, a_zero, right, b_scale, b_zero, scale, zero];
        self.add(&product, QLinearMatMul { contract: Requantize::F32Rne }, &operands).map(Some)
    }

    fn parts(&mut self, node: &Node, op: &Quantize) -> Result<Option<ValueId>, Error> {
        let (Some((_, concat)), Some(by)) = (self.producer(node.inputs[0]), self.scalars(node)) else {
            return Ok(None);
        };
        let Op::Concat(Concat { axis }) = &concat.op else { return Ok(None) };
        let (axis, values) = (*axis, concat.inputs.clone());
        let by: Vec<ValueId> = by.iter().map(|v| self.map[v]).collect();
        let quantize = Quantize { axis: 0, ..op.clone() };
        let mut parts = Vec::new();
        for value in values.into_iter().flatten() {
            let operands: Vec<ValueId> = [self.map[&value]].into_iter().chain(by.iter().copied()).collect();
            parts.push(self.add(node, quantize.clone(), &operands)?);
        }
        self.add(node, Concat { axis }, &parts).map(Some)
    }
}
