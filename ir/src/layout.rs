//! How operators take and leave tensors in memory: what the pass `layout` assigns, and what extraction prices.

use crate::extent::Extent;
use crate::ops::Op;
use crate::tile::is_elementwise;
use crate::types::{Layout, TensorType};

/// What an operator does about layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Writes channels last, and reads channels last when there are channels enough.
    Window,
    /// Writes as it reads.
    Keeps,
    /// Reads any layout, writes row-major.
    Reads,
    /// Reads and writes row-major.
    Plain,
}

/// What an operator does about layouts.
pub fn habit(op: &Op) -> Habit {
    match op {
        Op::Fused(fused) => habit(&fused.anchor().op),
        Op::Conv(_) | Op::WinogradConv(_) | Op::ConvTranspose(_) => Habit::Window,
        Op::MaxPool(_) | Op::AveragePool(_) | Op::LpPool(_) => Habit::Window,
        op if is_integer_conv(op) => Habit::Window,
        op if is_elementwise(op) => Habit::Keeps,
        Op::Cast(_)
        | Op::BitCast(_)
        | Op::IsInf(_)
        | Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::BatchNorm(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Resize(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_) => Habit::Keeps,
        Op::Reduce(reduce) if reduce.keep_dims => Habit::Keeps,
        Op::Reduce(_) | Op::Transpose(_) | Op::DepthToSpace(_) | Op::SpaceToDepth(_) | Op::Relayout(_) => Habit::Reads,
        _ => Habit::Plain,
    }
}

/// Fewer channels than this are read row-major by a convolution: a copy would cost more than it gains.
const MIN_CHANNELS: i64 = 8;

/// Whether a window operator wants its first operand, of this type, channels last.
pub fn wants_channels_last(op: &Op, x: &TensorType) -> bool {
    // Kernels of integers sum neighbouring bytes, however few channels there are.
    let many = x.rank() >= 3 && x.shape[1].as_const().is_none_or(|channels| channels >= MIN_CHANNELS);
    many || is_integer_conv(op)
}

fn is_integer_conv(op: &Op) -> bool {
    match op {
        Op::Fused(fused) => is_integer_conv(&fused.anchor().op),
        op => matches!(op, Op::ConvInteger(_) | Op::QLinearConv(_)),
    }
}

/// Whether two layouts of a type put every element at the same place.
pub fn same_memory(ty: &TensorType, a: &Layout, b: &Layout) -> bool {
    let stay: Vec<usize> = (0..ty.rank()).collect();
    same_bytes(&ty.shape, (a, b), &stay)
}

/// Whether a result whose axis `i` is the operand's axis `perm[i]` has its elements in the same places, by the layouts of operand
/// and result.
pub fn same_bytes(shape: &[Extent], (from, to): (&Layout, &Layout), perm: &[usize]) -> bool {
    let (Some(from), Some(to)) = (from.order(shape.len()), to.order(perm.len())) else { return false };
    let matters = |axis: &usize| shape[*axis] != Extent::ONE;
    let to = to.into_iter().map(|axis| perm[axis]);
    from.into_iter().filter(matters).eq(to.filter(matters))
}
