//! Which nodes only give bytes another name.

use adze_ir::extent::Extent;
use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::layout;
use adze_ir::ops::{Op, UnaryFn};
use adze_ir::types::TensorType;

/// The byte offset of each result in the operand's dense bytes, when the node moves nothing.
pub(crate) fn alias_offsets(graph: &Graph, node: &Node) -> Option<Vec<Extent>> {
    let source = graph.ty((*node.inputs.first()?)?);
    let results: Vec<&TensorType> = node.outputs.iter().map(|&v| graph.ty(v)).collect();
    if source.dtype.bits() < 8 {
        return None;
    }
    let zero = Some(vec![Extent::ZERO]);
    // Moves of axes depend on how both sides lie; the rest is decided for row-major tensors only.
    match &node.op {
        Op::Transpose(op) => return same_bytes(source, results[0], &op.perm).then_some(vec![Extent::ZERO]),
        Op::Relayout(_) => {
            let stay: Vec<usize> = (0..source.rank()).collect();
            return same_bytes(source, results[0], &stay).then_some(vec![Extent::ZERO]);
        }
        _ => {}
    }
    if !source.layout.is_plain() || results.iter().any(|ty| !ty.layout.is_plain()) {
        return None;
    }
    match &node.op {
        Op::Reshape(_) => zero,
        Op::Unary(unary) if unary.function == UnaryFn::Identity => zero,
        Op::Expand(_) if results[0].shape == source.shape => zero,
        Op::Slice(op) => {
            let cut: Vec<usize> =
                (0..op.axes.len()).filter(|&i| results[0].shape[op.axes[i]] != source.shape[op.axes[i]]).collect();
            match cut.as_slice() {
                [] => op.steps.iter().all(|s| *s == 1).then_some(vec![Extent::ZERO]),
                &[i] if op.steps.iter().all(|s| *s == 1) && is_outermost(source, op.axes[i]) => {
                    Some(vec![row_bytes(source, op.axes[i]) * op.starts[i].clone()])
                }
                _ => None,
            }
        }
        Op::Split(op) if is_outermost(source, op.axis) => Some(prefix(&op.sizes, &row_bytes(source, op.axis))),
        _ => None,
    }
}

/// Whether a result whose axis `i` is the source's axis `perm[i]` has its elements in the same places.
fn same_bytes(source: &TensorType, result: &TensorType, perm: &[usize]) -> bool {
    layout::same_bytes(&source.shape, (&source.layout, &result.layout), perm)
}

/// The byte offset of each operand in the dense bytes of a concatenation, when each is one piece there.
pub(crate) fn concat_offsets(graph: &Graph, node: &Node) -> Option<Vec<Extent>> {
    let Op::Concat(op) = &node.op else { return None };
    let result = graph.ty(node.outputs[0]);
    let parts: Vec<ValueId> = node.inputs.iter().copied().collect::<Option<_>>()?;
    let plain = result.layout.is_plain() && parts.iter().all(|&v| graph.ty(v).layout.is_plain());
    if !plain || result.dtype.bits() < 8 || !is_outermost(result, op.axis) {
        return None;
    }
    let sizes: Vec<Extent> = parts.iter().map(|&v| graph.ty(v).shape[op.axis].clone()).collect();
    Some(prefix(&sizes, &row_bytes(result, op.axis)))
}

/// Every axis before is 1, so that an interval of the axis is one piece of memory.
fn is_outermost(ty: &TensorType, axis: usize) -> bool {
    ty.shape.iter().take(axis).all(|e| *e == Extent::ONE)
}

/// Bytes of one index of an axis that is the outermost.
fn row_bytes(ty: &TensorType, axis: usize) -> Extent {
    Extent::product(&ty.shape[axis + 1..]) * i64::from(ty.dtype.bits() / 8).into()
}

fn prefix(sizes: &[Extent], bytes: &Extent) -> Vec<Extent> {
    let mut at = Extent::ZERO;
    sizes
        .iter()
        .map(|size| {
            let offset = at.clone() * bytes.clone();
            at = at.clone() + size.clone();
            offset
        })
        .collect()
}
