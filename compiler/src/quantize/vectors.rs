//! Vectors that stay floats and can be learned: they cost no more bytes for it.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::{BinaryFn, ConstId, Op};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::ranges::floats;
use super::trial::At;

/// Vectors that stay floats and are worth learning: factors and terms that one node alone reads.
pub(super) fn vectors(graph: &Graph) -> BTreeSet<At> {
    let mut uses: BTreeMap<ConstId, usize> = BTreeMap::new();
    let held = |value: ValueId| match graph.producer(value)?.1.op {
        Op::Constant(ref constant) => Some(constant.id),
        _ => None,
    };
    let mut found = BTreeSet::new();
    for (id, node) in graph.nodes() {
        for (index, value) in node.inputs.iter().enumerate().filter_map(|(index, v)| Some((index, (*v)?))) {
            let Some(constant) = held(value) else { continue };
            *uses.entry(constant).or_default() += 1;
            let is_vector = |data: &Tensor| {
                let longest = data.shape().iter().copied().max().unwrap_or(1);
                data.dtype() == DType::F32 && longest > 1 && data.elems() == longest && floats(data).all(f64::is_finite)
            };
            let data = graph.constant(value).and_then(|entry| entry.data());
            if adds_or_scales(&node.op, index) && data.is_some_and(is_vector) {
                found.insert((id, index));
            }
        }
    }
    let alone = |&(id, index): &At| {
        let constant = graph.node(id).inputs[index].and_then(held);
        constant.is_some_and(|constant| uses[&constant] == 1)
    };
    found.retain(alone);
    found
}

/// Whether an operand is a factor or a term per channel.
fn adds_or_scales(op: &Op, index: usize) -> bool {
    match op {
        Op::Binary(op) => matches!(op.function, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul),
        Op::RmsNorm(_) => index == 1,
        Op::LayerNorm(_) | Op::BatchNorm(_) | Op::InstanceNorm(_) | Op::GroupNorm(_) => (1..=2).contains(&index),
        Op::Gemm(_) | Op::Conv(_) => index == 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use adze_ir::text::parse_graph;

    use super::*;

    #[test]
    fn factors_and_terms_of_one_reader_are_found() {
        let graph = parse_graph(
            r#"graph @g {
              input %0 "x" : f32[2,3]
              %1 = const "gain" [1.0, 2.0, 3.0] : f32[3]
              %2 = rms_norm %0, %1 {axis=1, epsilon=1e-5} : f32[2,3]
              %3 = const "bias" [0.5, 0.25, 0.125] : f32[1,3]
              %4 = add %2, %3 : f32[2,3]
              %5 = const "twice" [1.0, 2.0, 4.0] : f32[3]
              %6 = mul %4, %5 : f32[2,3]
              %7 = add %6, %5 : f32[2,3]
              %8 = const "one" [2.0] : f32[1]
              %9 = mul %7, %8 : f32[2,3]
              %10 = const "matrix" [1.0, 2.0, 4.0, 1.0, 2.0, 4.0] : f32[2,3]
              %11 = mul %9, %10 : f32[2,3]
              %12 = const "divisor" [1.0, 2.0, 4.0] : f32[3]
              %13 = div %11, %12 : f32[2,3]
              output "y" = %13
            }"#,
        )
        .unwrap();
        let name = |&(id, index): &At| {
            let value = graph.node(id).inputs[index].and_then(|v| graph.constant(v));
            value.map(|entry| entry.name.to_string()).unwrap_or_default()
        };
        assert_eq!(vectors(&graph).iter().map(name).collect::<Vec<_>>(), ["gain", "bias"]);
    }
}
