//! Arithmetic of the reference evaluations: scalars, and element types to compute in.
//!
//! Floating-point values are computed in `f64` and rounded once; integers are exact modulo 2^128, which wraps to every
//! stored width.

use crate::tensor::Tensor;
use crate::types::DType;

/// A type to compute in: `f64` for floating-point tensors, `i128` for integers.
pub(super) trait Ring: Copy + PartialOrd {
    /// Neutral element of addition.
    const ZERO: Self;
    /// Neutral element of multiplication.
    const ONE: Self;
    /// `self + a · b`.
    fn add_product(self, a: Self, b: Self) -> Self;
    /// All elements of a tensor.
    fn load(tensor: &Tensor) -> Vec<Self>;
    /// A tensor of these elements: rounded to nearest even, or wrapped.
    fn store(dtype: DType, shape: &[usize], values: &[Self]) -> Tensor;
    /// The larger; NaN wins, and +0 over -0.
    fn larger(self, other: Self) -> Self;
    /// The smaller; NaN wins, and -0 over +0.
    fn smaller(self, other: Self) -> Self;

    /// `self + a`.
    fn plus(self, a: Self) -> Self {
        self.add_product(a, Self::ONE)
    }

    /// `self · a`.
    fn times(self, a: Self) -> Self {
        Self::ZERO.add_product(self, a)
    }
}

impl Ring for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;

    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }

    fn times(self, a: f64) -> f64 {
        self * a // keeps the sign of zero, which `0 + x` does not
    }

    fn load(tensor: &Tensor) -> Vec<f64> {
        tensor.to_f64()
    }

    fn store(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::from_f64(dtype, shape, values)
    }

    fn larger(self, other: f64) -> f64 {
        if self.is_nan() || self > other || (self == other && self.is_sign_positive()) { self } else { other }
    }

    fn smaller(self, other: f64) -> f64 {
        if self.is_nan() || self < other || (self == other && self.is_sign_negative()) { self } else { other }
    }
}

impl Ring for i128 {
    const ZERO: i128 = 0;
    const ONE: i128 = 1;

    fn add_product(self, a: i128, b: i128) -> i128 {
        self.wrapping_add(a.wrapping_mul(b))
    }

    fn load(tensor: &Tensor) -> Vec<i128> {
        tensor.to_ints()
    }

    fn store(dtype: DType, shape: &[usize], values: &[i128]) -> Tensor {
        // The low 64 bits decide what every stored width wraps to.
        let low: Vec<i128> = values.iter().map(|&v| i128::from(v as u64)).collect();
        Tensor::from_ints_wrapping(dtype, shape, &low)
    }

    fn larger(self, other: i128) -> i128 {
        self.max(other)
    }

    fn smaller(self, other: i128) -> i128 {
        self.min(other)
    }
}

/// Calls a generic function with `f64` for a floating-point dtype and `i128` for others.
macro_rules! by_ring {
    ($dtype:expr, $function:ident($($arg:expr),* $(,)?)) => {
        if $dtype.is_float() { $function::<f64>($($arg),*) } else { $function::<i128>($($arg),*) }
    };
}
pub(super) use by_ring;

/// A tensor with a function applied to every element in `f64`.
pub(super) fn map_f64(x: &Tensor, function: impl Fn(f64) -> f64) -> Tensor {
    let values: Vec<f64> = x.to_f64().into_iter().map(function).collect();
    Tensor::from_f64(x.dtype(), x.shape(), &values)
}

/// `1 / (1 + exp(-x))`, without overflow on either side.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// `ln(1 + exp(x))`, without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

/// Error function; relative error at most 1e-15 (tested against 40-digit values).
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() {
        x
    } else if a <= 2.0 {
        erf_series(x)
    } else {
        (1.0 - erfc_fraction(a)).copysign(x)
    }
}

/// `1 - erf(x)`; relative error at most 1e-13, worst at 2 where the methods meet.
pub(super) fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        x
    } else if x > 2.0 {
        erfc_fraction(x)
    } else {
        1.0 - erf(x)
    }
}

/// `exp(-x²)` for `x` of up to 27: the square is split so that its rounding does not grow in the exponent.
fn exp_minus_square(x: f64) -> f64 {
    let high = f64::from_bits(x.to_bits() & !0x07ff_ffff);
    (-high * high).exp() * (-(x - high) * (x + high)).exp()
}

/// `2/√π · exp(-x²) · Σ 2^n x^(2n+1) / (2n+1)!!`: all terms have one sign, so nothing cancels.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0f64, 1.0f64, 1.0f64);
    while term > sum * 1e-18 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * exp_minus_square(x) * (x * sum)
}

/// `erfc(x)` for `x > 2` by its continued fraction, evaluated from the far end.
fn erfc_fraction(x: f64) -> f64 {
    if x > 27.3 {
        return 0.0; // below the smallest subnormal
    }
    let tail = (1..=80).rev().fold(x, |tail, n| x + f64::from(n) / 2.0 / tail);
    exp_minus_square(x) * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_many_digits() {
        // x, erf(x), erfc(x), computed with 40 digits (mpmath).
        for (x, erf_x, erfc_x) in [
            (1e-12, 1.1283791670955126e-12, 0.9999999999988716),
            (0.1, 0.1124629160182849, 0.887537083981715),
            (0.5, 0.5204998778130465, 0.4795001221869535),
            (0.75, 0.7111556336535151, 0.28884436634648486),
            (1.0, 0.8427007929497149, 0.15729920705028513),
            (1.5, 0.9661051464753108, 0.033894853524689274),
            (1.9, 0.9927904292352575, 0.0072095707647425325),
            (2.0, 0.9953222650189527, 0.004677734981047266),
            (2.0625, 0.9964637508747902, 0.003536249125209789),
            (2.5, 0.999593047982555, 0.0004069520174449589),
            (3.0, 0.9999779095030014, 2.209049699858544e-05),
            (4.0, 0.9999999845827421, 1.541725790028002e-08),
            (5.0, 0.9999999999984626, 1.537459794428035e-12),
            (6.5, 1.0, 3.8421483271206475e-20),
        ] {
            assert!((erf(x) / erf_x - 1.0).abs() <= 1e-15, "erf({x}) = {:e}, not {erf_x:e}", erf(x));
            assert!((erfc(x) / erfc_x - 1.0).abs() <= 1e-13, "erfc({x}) = {:e}, not {erfc_x:e}", erfc(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert_eq!((erf(0.0), erf(f64::INFINITY), erfc(f64::NEG_INFINITY)), (0.0, 1.0, 2.0));
        assert!(erf(-0.0).is_sign_negative() && erf(f64::NAN).is_nan() && erfc(f64::NAN).is_nan());
    }

    #[test]
    fn extremes_of_floats_and_integers() {
        assert!(0.0f64.larger(-0.0).is_sign_positive() && (-0.0f64).larger(0.0).is_sign_positive());
        assert!(0.0f64.smaller(-0.0).is_sign_negative() && (-0.0f64).smaller(0.0).is_sign_negative());
        assert!(f64::NAN.larger(1.0).is_nan() && 1.0f64.smaller(f64::NAN).is_nan());
        assert_eq!((sigmoid(-1000.0), sigmoid(1000.0), softplus(1000.0)), (0.0, 1.0, 1000.0));
        assert!(sigmoid(f64::NAN).is_nan() && softplus(f64::NAN).is_nan());
        let max = i128::from(u64::MAX);
        assert_eq!(i128::store(DType::U64, &[1], &[max.times(max)]).to_ints(), [1]);
    }
}
