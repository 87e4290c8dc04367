//! Which leaves may write over an operand.

use super::{BufferId, Leaf, Program, View};
use crate::ops::{Fused, Op};

/// Whether result element `i` depends on element `i` of each operand only (operands that broadcast aside).
pub fn is_elementwise(op: &Op) -> bool {
    match op {
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Clip(_)
        | Op::LeakyRelu(_)
        | Op::Elu(_)
        | Op::Celu(_)
        | Op::Selu(_)
        | Op::HardSigmoid(_)
        | Op::Gelu(_)
        | Op::Swish(_)
        | Op::ThresholdedRelu(_)
        | Op::Shrink(_)
        | Op::PRelu(_)
        | Op::Where(_) => true,
        Op::Fused(Fused { steps }) => steps.iter().all(|step| is_elementwise(&step.op)),
        _ => false,
    }
}

/// Of how many of a leaf's first operands an element may be written over by the result's at its place: all where the operator
/// is elementwise, the first one where a row is read as a whole before the first element of the result is written.
///
/// Targets have to read an element of such an operand before they write the result at its place, and never again.
fn written_over(op: &Op) -> usize {
    let by_itself = |op: &Op| is_elementwise(op) || matches!(op, Op::Quantize(_) | Op::Dequantize(_));
    match op {
        Op::Softmax(_) | Op::LogSoftmax(_) | Op::LayerNorm(_) | Op::RmsNorm(_) | Op::InstanceNorm(_) => 1,
        Op::Fused(Fused { steps }) if steps.iter().all(|step| by_itself(&step.op)) => usize::MAX,
        op if by_itself(op) => usize::MAX,
        _ => 0,
    }
}

/// Whether a leaf may write its result over the operand at a position, if both are the same box of a buffer.
pub fn may_overwrite(op: &Op, operand: usize) -> bool {
    operand < written_over(op)
}

/// The root buffers that the leaf's only result may take the place of: read here as the same box of the same kind of buffer
/// as is written, and by no other operand of the leaf in another way.
pub fn overwritable(program: &Program, leaf: &Leaf) -> Vec<BufferId> {
    let [output] = leaf.outputs.as_slice() else { return Vec::new() };
    let over = written_over(&leaf.op);
    let same = |view: &View| {
        let (a, b) = (&program.buffers[view.buffer], &program.buffers[output.buffer]);
        let kind = (a.dtype, &a.shape, &a.layout, &a.window) == (b.dtype, &b.shape, &b.layout, &b.window);
        kind && a.alias.is_none() && view.offsets == output.offsets && view.sizes == output.sizes && view.fill.is_none()
    };
    let root = |view: &View| program.root(view.buffer);
    let inputs = || leaf.inputs.iter().enumerate().filter_map(|(index, view)| Some((index < over, view.as_ref()?)));
    let mut roots: Vec<BufferId> = inputs().filter(|(over, v)| *over && same(v)).map(|(_, v)| root(v)).collect();
    roots.retain(|&r| inputs().filter(|(_, v)| root(v) == r).all(|(over, v)| over && same(v)));
    roots.sort();
    roots.dedup();
    roots
}
