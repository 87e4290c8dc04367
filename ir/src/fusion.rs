//! Which operators are computed together: what the pass `fuse` groups, and what extraction prices as grouped.

use crate::ops::{BinaryFn, Op, UnaryFn};
use crate::types::{DType, TensorType};

/// Operators that others can be computed after, while their result is in registers.
pub fn is_anchor(op: &Op) -> bool {
    is_sum(op) || is_elementwise(op)
}

/// Sums that stay in registers until all that follows is done.
pub fn is_sum(op: &Op) -> bool {
    let float = matches!(
        op,
        Op::Conv(_)
            | Op::ConvStored(_)
            | Op::WinogradConv(_)
            | Op::MatMul(_)
            | Op::MatMulStored(_)
            | Op::Gemm(_)
            | Op::AveragePool(_)
    );
    float || matches!(op, Op::MatMulInteger(_) | Op::ConvInteger(_) | Op::QLinearConv(_) | Op::QLinearMatMul(_))
}

/// Elementwise operators on numbers; `quantize` and `dequantize` unless their scales lie in blocks.
pub fn is_elementwise(op: &Op) -> bool {
    match op {
        Op::Unary(op) => !matches!(op.function, UnaryFn::Not | UnaryFn::IsNan | UnaryFn::BitNot),
        Op::Binary(op) => {
            use BinaryFn::{Add, Div, Max, Min, Mul, Pow, Sub};
            matches!(op.function, Add | Sub | Mul | Div | Min | Max | Pow)
        }
        Op::Clip(_) | Op::LeakyRelu(_) | Op::Elu(_) | Op::Celu(_) | Op::Selu(_) | Op::HardSigmoid(_) => true,
        Op::Gelu(_) | Op::Swish(_) | Op::ThresholdedRelu(_) | Op::Shrink(_) | Op::PRelu(_) => true,
        Op::BatchNorm(_) => true,
        Op::Quantize(op) => op.block == 0 && op.to.bits() >= 8,
        Op::Dequantize(op) => op.block == 0,
        _ => false,
    }
}

/// Whether an operator can be computed after another one, while the result of that is in registers.
pub fn is_epilogue(op: &Op, inputs: &[Option<&TensorType>], output: &TensorType) -> bool {
    let all = |holds: fn(&TensorType, DType) -> bool| inputs.iter().flatten().all(|ty| holds(ty, output.dtype));
    match op {
        Op::Quantize(_) | Op::Dequantize(_) => is_elementwise(op) && all(|ty, _| ty.dtype.bits() >= 8),
        // Sums of integers that are scaled.
        Op::Cast(_) => all(|ty, to| (ty.dtype, to) == (DType::I32, DType::F32)),
        // The bounds of a quantized activation.
        Op::Clip(_) if output.dtype.is_int() => true,
        // The bias of integers.
        Op::Binary(op) if op.function == BinaryFn::Add && output.dtype == DType::I32 => true,
        op => is_elementwise(op) && output.dtype.is_float() && all(|ty, to| ty.dtype == to),
    }
}
