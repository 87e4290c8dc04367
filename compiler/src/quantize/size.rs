//! Bytes of weights: what a product has in an object, and what the numbers of a float network take.

use std::collections::BTreeSet;

use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;

use super::plan::{Kind, Product};
use super::store::Consts;

/// Bytes of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bytes {
    /// Weights, with their scales.
    pub weights: f64,
    /// The bias, or what sums start with.
    pub bias: f64,
}

impl Bytes {
    /// All of them.
    pub fn all(self) -> f64 {
        self.weights + self.bias
    }
}

/// Bytes that a product has in an object.
pub fn bytes(graph: &Graph, product: &Product, consts: &Consts) -> Bytes {
    let elems = |value: ValueId| graph.constant(value).and_then(|c| c.data()).map_or(0, Tensor::elems) as f64;
    let Some((_, weights)) = consts.first() else {
        let bias = product.bias.and_then(|(id, index)| graph.node(id).inputs[index]);
        return Bytes { weights: 4.0 * elems(product.weights), bias: 4.0 * bias.map_or(0.0, elems) };
    };
    // A cell's biases stay floats, whatever its weights are.
    let starts = if product.kind == Kind::Sum { weights.data.shape()[product.axis] as f64 } else { 0.0 };
    // Every channel of a depthwise convolution has bytes of its own.
    let depthwise =
        matches!(&graph.node(product.node).op, Op::Conv(conv) if conv.group > 1) && weights.data.shape()[1] == 1;
    let rows = if depthwise { weights.data.shape()[0].max(1) } else { 1 };
    let bits = weights.data.elems() / rows * usize::try_from(weights.data.dtype().bits()).unwrap_or(8);
    let packed = (rows * bits.div_ceil(8)) as f64;
    Bytes { weights: packed + 4.0 * weights.scales.elems() as f64, bias: 4.0 * starts }
}

/// Bytes of the float constants of a network, each once. Its object may have more: some kernels want weights transformed.
pub fn constant_bytes(graph: &Graph) -> f64 {
    let used: BTreeSet<ValueId> = graph.nodes().flat_map(|(_, node)| node.inputs.iter().flatten().copied()).collect();
    let mut seen = BTreeSet::new();
    let own = |&value: &ValueId| {
        let (_, node) = graph.producer(value)?;
        let Op::Constant(constant) = &node.op else { return None };
        let data = graph.constant(value)?.data()?;
        (data.dtype().is_float() && seen.insert(constant.id)).then_some(data.bytes().len() as f64)
    };
    used.iter().filter_map(own).sum()
}
