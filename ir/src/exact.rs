//! How far a result may be from the reference: one type for rules, passes, kernels and tests, and the one file of numbers.

use std::fmt;

use crate::ops::{BinaryFn, Op, UnaryFn};
use crate::tensor::Tensor;
use crate::types::DType;

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

/// How far integers of a quantized network may be apart on average in two correct engines, in units: a rounding early on
/// moves a few later ones.
pub const MEAN_UNITS: f64 = 0.05;

/// Constant of [`Exactness::Norm`] for linear operators.
pub const NORM_LINEAR: u32 = 4;
/// Constant of [`Exactness::Norm`] for operators with transcendental functions.
pub const NORM_TRANSCENDENTAL: u32 = 16;
/// Constants of [`Exactness::Norm`] for [`crate::ops::WinogradConv`] with tiles of 2 and of 4.
pub const NORM_WINOGRAD: [u32; 2] = [8, 32];

/// Constant of [`Exactness::Norm`] for a tile of [`crate::ops::WinogradConv`].
fn norm_winograd(tile: i64) -> u32 {
    NORM_WINOGRAD[usize::from(tile > 2)]
}

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
            Op::WinogradConv(op) => Exactness::Norm(norm_winograd(op.tile)),
            Op::Conv(_)
            | Op::ConvStored(_)
            | Op::ConvTranspose(_)
            | Op::MatMul(_)
            | Op::MatMulStored(_)
            | Op::Gemm(_)
            | Op::Einsum(_)
            | Op::AveragePool(_)
            | Op::Reduce(_)
            | Op::CumSum(_)
            | Op::CumProd(_)
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

impl Exactness {
    /// The bound as numbers, for results of a dtype whose longest sum has that many terms. Nothing binds
    /// [`Exactness::Approx`]: `None`.
    pub fn tolerance(self, dtype: DType, terms: usize) -> Option<Tolerance> {
        let eps = epsilon(dtype);
        match self {
            Exactness::Exact => Some(Tolerance::EXACT),
            Exactness::Ulp(n) => Some(Tolerance { rel: f64::from(n) * eps, ..Tolerance::EXACT }),
            Exactness::Norm(c) => Some(Tolerance { abs: f64::from(c) * eps * terms.max(1) as f64, ..Tolerance::EXACT }),
            Exactness::Lsb(n) => Some(Tolerance { floor: f64::from(n), ..Tolerance::EXACT }),
            Exactness::Approx => None,
        }
    }

    /// Whether results agree, where sums have up to `terms` terms whose largest contribution is `scale` (or the
    /// reference's largest element, if that is more). [`Exactness::Exact`] means the bits, any NaN equal to any NaN.
    pub fn holds(self, found: &Tensor, reference: &Tensor, terms: usize, scale: f64) -> bool {
        if found.dtype() != reference.dtype() || found.shape() != reference.shape() {
            return false;
        }
        let Some(tolerance) = self.tolerance(reference.dtype(), terms) else { return true };
        let (found, reference) = (found.to_f64(), reference.to_f64());
        let largest = largest(&reference).max(scale);
        found.iter().zip(&reference).all(|(&a, &b)| match self {
            Exactness::Exact => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            _ => tolerance.accepts(a, b, largest),
        })
    }
}

/// Distance from 1 to the next number of a dtype; 0 where numbers are whole.
pub fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => half::f16::EPSILON.to_f64(),
        DType::Bf16 => half::bf16::EPSILON.to_f64(),
        _ => 0.0,
    }
}

/// Largest finite magnitude; 0 when there is none.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()))
}

/// `|d| <= max(abs · max|reference| + rel · |reference|, floor)` for each element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Share of the largest magnitude of the reference.
    pub abs: f64,
    /// Share of the element's own magnitude.
    pub rel: f64,
    /// Absolute difference that is accepted anyway: twice what another correct implementation shows on this case.
    pub floor: f64,
}

impl Tolerance {
    /// For results computed in `f32`, against another implementation.
    pub const F32: Tolerance = Tolerance { abs: 1e-4, rel: 1e-3, floor: 0.0 };
    /// For results computed in `f16` or `bf16`, against another implementation.
    pub const F16: Tolerance = Tolerance { abs: 1e-2, rel: 1e-2, floor: 0.0 };
    /// For integers and truth values: no difference.
    pub const EXACT: Tolerance = Tolerance { abs: 0.0, rel: 0.0, floor: 0.0 };

    /// The tolerance for results of a dtype.
    pub fn of(dtype: DType) -> Tolerance {
        match dtype {
            DType::F16 | DType::Bf16 => Self::F16,
            DType::F32 | DType::F64 => Self::F32,
            _ => Self::EXACT,
        }
    }

    /// The tolerance for results of a dtype that a graph computes: one that works in half floats anywhere is held to what
    /// half floats can do, also where its outputs are wider.
    pub fn of_graph(graph: &crate::graph::Graph, dtype: DType) -> Tolerance {
        let half = |d: DType| matches!(d, DType::F16 | DType::Bf16);
        let mut results = graph.nodes().flat_map(|(_, node)| &node.outputs);
        if dtype.is_float() && results.any(|&v| half(graph.ty(v).dtype)) { Self::F16 } else { Self::of(dtype) }
    }

    /// The same, accepting at least `2 · difference`.
    pub fn or_twice(self, difference: f64) -> Tolerance {
        Tolerance { floor: 2.0 * difference, ..self }
    }

    /// The same, accepting one unit in small integers: what floats were quantized to, where two correct sums on either
    /// side of a tie round apart.
    pub fn or_unit(self, dtype: DType) -> Tolerance {
        let unit = if dtype.is_int() && dtype.bits() <= 8 { 1.0 } else { 0.0 };
        Tolerance { floor: self.floor.max(unit), ..self }
    }

    /// The same, accepting a millionth: for references that may be zero throughout.
    pub fn or_zero(self) -> Tolerance {
        Tolerance { floor: self.floor.max(1e-6), ..self }
    }

    /// Whether an element is within the tolerance, `largest` being the largest finite magnitude of the reference. Any
    /// NaN equals any NaN, an infinity only itself.
    pub fn accepts(self, found: f64, reference: f64, largest: f64) -> bool {
        found == reference
            || (found.is_nan() && reference.is_nan())
            || (reference.is_finite()
                && (found - reference).abs() <= (self.abs * largest + self.rel * reference.abs()).max(self.floor))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_their_edge_and_not_beyond() {
        let eps = f64::from(f32::EPSILON);
        let reference = Tensor::from_f64(DType::F32, &[2], &[4.0, 1.0]);
        let off = |d: f64| Tensor::from_f64(DType::F32, &[2], &[4.0, 1.0 + d]);
        let holds = |e: Exactness, d: f64| e.holds(&off(d), &reference, 2, 0.0);
        assert!(holds(Exactness::Exact, 0.0) && !holds(Exactness::Exact, eps));
        assert!(holds(Exactness::Ulp(3), 3.0 * eps) && !holds(Exactness::Ulp(3), 4.0 * eps));
        assert!(holds(Exactness::Norm(4), 32.0 * eps) && !holds(Exactness::Norm(4), 33.0 * eps));
        assert!(
            holds(Exactness::Approx, 1.0) && !Exactness::Approx.holds(&off(0.0), &reference.reshaped(&[1, 2]), 1, 0.0)
        );
        let units = |n: f64| Tensor::from_f64(DType::I8, &[1], &[n]);
        assert!(Exactness::Lsb(1).holds(&units(3.0), &units(2.0), 1, 0.0));
        assert!(!Exactness::Lsb(1).holds(&units(4.0), &units(2.0), 1, 0.0));
    }

    #[test]
    fn zeros_infinities_and_nans() {
        let of = |v: f64| Tensor::from_f64(DType::F32, &[1], &[v]);
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        assert!(!Exactness::Exact.holds(&of(-0.0), &of(0.0), 1, 0.0), "the sign of zero is a bit");
        assert!(Exactness::Exact.holds(&of(nan), &of(-nan), 1, 0.0));
        for (found, reference) in [(inf, 1.0), (1.0, inf), (inf, -inf), (nan, 1.0), (1.0, nan)] {
            assert!(!Exactness::Norm(16).holds(&of(found), &of(reference), 9, 1.0), "{found} is not {reference}");
        }
    }
}
