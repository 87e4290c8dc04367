//! How far a result may be from the reference: one type for rules, passes, kernels and tests.

use std::fmt;

use crate::ops::{BinaryFn, Op, UnaryFn};

/// The bound a rewrite, a pass or a kernel keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exactness {
    /// The same bits (any NaN equals any NaN).
    Exact,
    /// Within that many units in the last place of each element.
    Ulp(u32),
    /// `max|d| ≤ c · eps · n · max|operands' contribution|`: a bound on the norm for sums whose order differs.
    Norm(u32),
    /// Within that many units of a stored integer.
    Lsb(u32),
    /// A different numeric method; never taken unless asked for.
    Approx,
}

/// Constant of [`Exactness::Norm`] for linear operators.
pub const NORM_LINEAR: u32 = 4;
/// Constant of [`Exactness::Norm`] for operators with transcendental functions.
pub const NORM_TRANSCENDENTAL: u32 = 16;

impl Exactness {
    /// What compiled code keeps to against [`Op::eval`] on the same operands.
    pub fn of_kernel(op: &Op) -> Exactness {
        match op {
            Op::Fused(fused) => fused.steps.iter().fold(Exactness::Exact, |sum, step| {
                match (sum, step.op.name()) {
                    // A sum on either side of a tie rounds apart.
                    (Exactness::Norm(_), "quantize") => Exactness::Lsb(1),
                    _ => sum.then(Exactness::of_kernel(&step.op)),
                }
            }),
            Op::Unary(unary) => match unary.function {
                UnaryFn::Identity
                | UnaryFn::Neg
                | UnaryFn::Abs
                | UnaryFn::Relu
                | UnaryFn::Sqrt
                | UnaryFn::Reciprocal
                | UnaryFn::Floor
                | UnaryFn::Ceil
                | UnaryFn::Round
                | UnaryFn::Sign => Exactness::Exact,
                _ => Exactness::Norm(NORM_TRANSCENDENTAL),
            },
            Op::Binary(binary) if binary.function == BinaryFn::Pow => Exactness::Norm(NORM_TRANSCENDENTAL),
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::MatMul(_)
            | Op::Gemm(_)
            | Op::Einsum(_)
            | Op::AveragePool(_)
            | Op::Reduce(_)
            | Op::CumSum(_)
            | Op::BatchNorm(_)
            | Op::Resize(_) => Exactness::Norm(NORM_LINEAR),
            Op::Elu(_)
            | Op::Celu(_)
            | Op::Selu(_)
            | Op::Gelu(_)
            | Op::Swish(_)
            | Op::HardSigmoid(_)
            | Op::LpPool(_)
            | Op::Softmax(_)
            | Op::LogSoftmax(_)
            | Op::LayerNorm(_)
            | Op::RmsNorm(_)
            | Op::InstanceNorm(_)
            | Op::GroupNorm(_)
            | Op::LpNorm(_)
            | Op::Lrn(_)
            | Op::Lstm(_)
            | Op::Gru(_)
            | Op::Rnn(_)
            | Op::Attention(_)
            | Op::RotaryEmbedding(_) => Exactness::Norm(NORM_TRANSCENDENTAL),
            // One rounding, or none: movement, indexing, comparisons, integers, sums and products of two.
            _ => Exactness::Exact,
        }
    }

    /// The weaker of two bounds in sequence: what a chain of both keeps to.
    pub fn then(self, other: Exactness) -> Exactness {
        use Exactness::{Approx, Exact, Lsb, Norm, Ulp};
        match (self, other) {
            (Exact, x) | (x, Exact) => x,
            (Ulp(a), Ulp(b)) => Ulp(a.saturating_add(b)),
            (Lsb(a), Lsb(b)) => Lsb(a.saturating_add(b)),
            (Norm(a), Norm(b) | Ulp(b)) | (Ulp(a), Norm(b)) => Norm(a.saturating_add(b)),
            (Approx, _) | (_, Approx) | (Lsb(_), _) | (_, Lsb(_)) => Approx,
        }
    }
}

impl fmt::Display for Exactness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exactness::Exact => f.write_str("exact"),
            Exactness::Ulp(n) => write!(f, "ulp({n})"),
            Exactness::Norm(c) => write!(f, "norm({c}·eps)"),
            Exactness::Lsb(n) => write!(f, "lsb({n})"),
            Exactness::Approx => f.write_str("approx"),
        }
    }
}
