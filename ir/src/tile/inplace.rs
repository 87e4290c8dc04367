//! Which leaves may write over an operand.

use super::{BufferId, Leaf, Program, View};
use crate::ops::{Fused, Op};

/// Whether result element `i` depends on element `i` of each operand only (operands that broadcast aside).
///
/// Targets have to read an element of such an operand before they write the result at its place, and never again.
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

/// The root buffers that the leaf's only result may take the place of: read here as the same box of the same kind of buffer
/// as is written, and by no other operand of the leaf in another way.
pub fn overwritable(program: &Program, leaf: &Leaf) -> Vec<BufferId> {
    let [output] = leaf.outputs.as_slice() else { return Vec::new() };
    if !is_elementwise(&leaf.op) {
        return Vec::new();
    }
    let same = |view: &View| {
        let (a, b) = (&program.buffers[view.buffer], &program.buffers[output.buffer]);
        let kind = (a.dtype, &a.shape, &a.layout, &a.window) == (b.dtype, &b.shape, &b.layout, &b.window);
        kind && a.alias.is_none() && view.offsets == output.offsets && view.sizes == output.sizes && view.fill.is_none()
    };
    let root = |view: &View| program.root(view.buffer);
    let inputs: Vec<&View> = leaf.inputs.iter().flatten().collect();
    let mut roots: Vec<BufferId> = inputs.iter().filter(|v| same(v)).map(|v| root(v)).collect();
    roots.retain(|&r| inputs.iter().filter(|v| root(v) == r).all(|v| same(v)));
    roots.sort();
    roots.dedup();
    roots
}
