//! Comparing tensors with a reference. The numbers stand in [`adze_ir::exact`].

use adze_ir::exact::largest;
use adze_ir::tensor::Tensor;

pub use adze_ir::exact::Tolerance;

/// How far a tensor is from its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Largest `|d|`.
    pub max_abs: f64,
    /// Mean `|d|`.
    pub mean_abs: f64,
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
    let largest = largest(&reference);
    let mut result = Difference {
        max_abs: 0.0,
        mean_abs: 0.0,
        max_rel: 0.0,
        sqnr: f64::INFINITY,
        first: None,
        beyond: 0,
        elems: found.len(),
    };
    let (mut signal, mut noise, mut total) = (0.0f64, 0.0f64, 0.0f64);
    for (index, (&a, &b)) in found.iter().zip(&reference).enumerate() {
        if a == b || (a.is_nan() && b.is_nan()) {
            signal += if b.is_finite() { b * b } else { 0.0 };
            continue;
        }
        let d = (a - b).abs();
        let d = if d.is_nan() { f64::INFINITY } else { d };
        result.max_abs = result.max_abs.max(d);
        total += d;
        if b != 0.0 {
            result.max_rel = result.max_rel.max(d / b.abs());
        }
        signal += b * b;
        noise += d * d;
        if !tolerance.accepts(a, b, largest) {
            result.beyond += 1;
            result.first.get_or_insert(index);
        }
    }
    result.mean_abs = total / result.elems.max(1) as f64;
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
