//! Comparing tensors with a reference: the one place where tolerances stand.

use adze_ir::exact::Exactness;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

/// `|d| <= abs · max|reference| + rel · |reference|` for each element.
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
    /// For results computed in `f32`.
    pub const F32: Tolerance = Tolerance { abs: 1e-4, rel: 1e-3, floor: 0.0 };
    /// For results computed in `f16` or `bf16`.
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
    pub fn of_graph(graph: &Graph, dtype: DType) -> Tolerance {
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
}

/// How far results of one operator may be from those of the interpreter on the same operands, as `max|d|`.
///
/// `Norm(c)` is `c · eps` of the largest value that the operator gives on its operands' magnitudes: what its sums
/// would be if nothing cancelled.
pub fn kernel_bound(exactness: Exactness, reference: &Tensor, magnitudes: Option<&Tensor>) -> f64 {
    let largest = |t: &Tensor| t.to_f64().into_iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let eps = match reference.dtype() {
        DType::F16 => 9.765625e-4,
        DType::Bf16 => 7.8125e-3,
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    };
    let scale = largest(reference).max(magnitudes.map_or(0.0, largest));
    match exactness {
        Exactness::Exact => 0.0,
        Exactness::Ulp(n) => f64::from(n) * eps * scale,
        Exactness::Norm(c) => f64::from(c) * eps * scale,
        Exactness::Lsb(n) => f64::from(n),
        Exactness::Approx => f64::INFINITY,
    }
}

/// How far a tensor is from its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Largest `|d|`.
    pub max_abs: f64,
    /// Largest `|d| / |reference|` where the reference is not zero.
    pub max_rel: f64,
    /// Signal to noise ratio in dB; infinite when equal.
    pub sqnr: f64,
    /// Position of the first element beyond the tolerance.
    pub first: Option<usize>,
    /// Elements beyond the tolerance.
    pub beyond: usize,
    /// Number of elements.
    pub elems: usize,
}

/// Compares element by element; `None` when dtype or shape differ. Any NaN equals any NaN, an infinity only itself.
pub fn compare(found: &Tensor, reference: &Tensor, tolerance: Tolerance) -> Option<Difference> {
    if found.dtype() != reference.dtype() || found.shape() != reference.shape() {
        return None;
    }
    let (found, reference) = (found.to_f64(), reference.to_f64());
    let largest = reference.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let mut result =
        Difference { max_abs: 0.0, max_rel: 0.0, sqnr: f64::INFINITY, first: None, beyond: 0, elems: found.len() };
    let (mut signal, mut noise) = (0.0f64, 0.0f64);
    for (index, (&a, &b)) in found.iter().zip(&reference).enumerate() {
        if a == b || (a.is_nan() && b.is_nan()) {
            signal += if b.is_finite() { b * b } else { 0.0 };
            continue;
        }
        let d = (a - b).abs();
        let d = if d.is_nan() { f64::INFINITY } else { d };
        result.max_abs = result.max_abs.max(d);
        if b != 0.0 {
            result.max_rel = result.max_rel.max(d / b.abs());
        }
        signal += b * b;
        noise += d * d;
        if d > (tolerance.abs * largest + tolerance.rel * b.abs()).max(tolerance.floor) {
            result.beyond += 1;
            result.first.get_or_insert(index);
        }
    }
    if noise > 0.0 {
        result.sqnr = 10.0 * (signal / noise).log10();
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let a = Tensor::from_f32(&[3], &[1.0, 2.0, f32::NAN]);
        let b = Tensor::from_f32(&[3], &[1.0, 2.5, f32::NAN]);
        let d = compare(&b, &a, Tolerance::F32).unwrap();
        assert_eq!((d.beyond, d.first, d.max_abs), (1, Some(1), 0.5));
        assert_eq!(compare(&a, &a, Tolerance::EXACT).unwrap().beyond, 0);
        let infinite = Tensor::from_f32(&[3], &[1.0, f32::INFINITY, f32::NAN]);
        assert_eq!(compare(&infinite, &a, Tolerance::F32).unwrap().beyond, 1);
        assert!(compare(&a.reshaped(&[3, 1]), &a, Tolerance::F32).is_none());
    }
}
