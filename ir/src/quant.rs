//! Quantization parameters and requantize contracts.

use std::fmt;

use crate::attrs::F64;
use crate::{word_attribute, word_enum};

/// `real = scale · (stored - zero_point)`, per tensor, per slice of one axis, or per block along one axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuantParams {
    /// Axis of the scales; `None` per tensor.
    pub axis: Option<usize>,
    /// Elements of the axis that share a scale; 0 per tensor and per axis.
    pub block: usize,
    /// Scales, one per tensor, slice or block (row-major over the other axes).
    pub scale: Vec<F64>,
    /// Zero points, as many as scales, in the units of the stored type.
    pub zero_point: Vec<i64>,
}

impl fmt::Display for QuantParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("q(")?;
        if let Some(axis) = self.axis {
            write!(f, "axis={axis}, ")?;
        }
        if self.block != 0 {
            write!(f, "block={}, ", self.block)?;
        }
        f.write_str("s=[")?;
        for (index, scale) in self.scale.iter().enumerate() {
            write!(f, "{}{scale}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("], z=[")?;
        for (index, zero) in self.zero_point.iter().enumerate() {
            write!(f, "{}{zero}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("])")
    }
}

word_enum! {
    /// How an accumulator becomes a stored integer. Changing it is a named rule with a stated error, never silent.
    pub enum Requantize {
        /// `sat(round_half_even(f32(acc) · f32 scale) + zero_point)`, as ONNX and ONNX Runtime do.
        F32Rne = "f32_rne",
        /// Integer multiply and rounding shift, ties towards plus infinity.
        MulshiftHalfUp = "mulshift_half_up",
        /// TFLite's doubling high multiply and rounding shift.
        MulshiftTflite = "mulshift_tflite",
    }
}
word_attribute!(Requantize);

impl Requantize {
    /// The stored integer for an accumulator: `scale` is that of the accumulator over that of the result.
    ///
    /// `range` is that of the stored type. The integer contracts first turn `scale` into a 31-bit multiplier and a shift,
    /// as TFLite does; a scale that is not positive and finite gives `zero_point` there.
    pub fn apply(self, acc: i32, scale: f32, zero_point: i128, range: (i128, i128)) -> i128 {
        let scaled = match self {
            Self::F32Rne => {
                let value = acc as f32 * scale;
                if value.is_nan() {
                    return range.0;
                }
                value.round_ties_even() as i128
            }
            Self::MulshiftHalfUp => match multiplier(scale) {
                Some((multiplier, shift)) => half_up(i128::from(acc) * multiplier, shift),
                None => 0,
            },
            Self::MulshiftTflite => match multiplier(scale) {
                Some((multiplier, shift)) => tflite(acc, multiplier, shift),
                None => 0,
            },
        };
        scaled.saturating_add(zero_point).clamp(range.0, range.1)
    }
}

/// `scale = multiplier · 2^-shift` with `multiplier` in `2^30..2^31`, exactly; `None` where it is not positive and finite.
pub fn multiplier(scale: f32) -> Option<(i128, i32)> {
    if !(scale > 0.0 && scale.is_finite()) {
        return None;
    }
    let mut exponent = 0;
    let mut mantissa = f64::from(scale);
    while mantissa >= 1.0 {
        mantissa /= 2.0;
        exponent += 1;
    }
    while mantissa < 0.5 {
        mantissa *= 2.0;
        exponent -= 1;
    }
    // A mantissa of an `f32` has 24 bits, so this is exact.
    Some(((mantissa * f64::from(1u32 << 31)) as i128, 31 - exponent))
}

/// `floor(product · 2^-shift + 1/2)`.
fn half_up(product: i128, shift: i32) -> i128 {
    match shift {
        ..1 => product.checked_shl(shift.unsigned_abs()).filter(|_| shift > -60).unwrap_or(product.signum() << 100),
        1..=100 => (product + (1 << (shift - 1))) >> shift,
        _ => 0,
    }
}

/// `MultiplyByQuantizedMultiplier` of TFLite: a doubling high multiply (ties up), then a rounding shift (ties
/// away from zero).
fn tflite(acc: i32, multiplier: i128, shift: i32) -> i128 {
    let exponent = 31 - shift;
    let fit = |v: i128| v.clamp(i32::MIN.into(), i32::MAX.into());
    let left = exponent.clamp(0, 40);
    let product = fit(i128::from(acc) << left) * multiplier;
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    let high = fit((product + nudge) / (1 << 31)); // towards zero, as C divides
    match -exponent {
        ..1 => high,
        right @ 1..=40 => {
            let mask = (1i128 << right) - 1;
            let threshold = (mask >> 1) + i128::from(high < 0);
            (high >> right) + i128::from(high & mask > threshold)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const I8: (i128, i128) = (-128, 127);

    #[test]
    fn ties() {
        let cases: &[(i32, f32, i128, [i128; 3])] = &[
            (5, 0.5, 0, [2, 3, 3]),
            (-5, 0.5, 0, [-2, -2, -2]),   // the high multiply takes ties up
            (-10, 0.25, 0, [-2, -2, -3]), // the shift takes them away from zero
            (3, 0.5, 10, [12, 12, 12]),
            (1000, 1.0, 0, [127, 127, 127]),
            (-1000, 1.0, 0, [-128, -128, -128]),
            (7, 0.0, 5, [5, 5, 5]),
            (i32::MAX, 1e30, 0, [127, 127, 127]),
            (i32::MIN, 1e30, 0, [-128, -128, -128]),
            (i32::MAX, 1e-30, 1, [1, 1, 1]),
        ];
        for &(acc, scale, zero, expected) in cases {
            let found = Requantize::ALL.iter().map(|c| c.apply(acc, scale, zero, I8)).collect::<Vec<_>>();
            assert_eq!(found, expected, "{acc} {scale}");
        }
        assert_eq!(Requantize::F32Rne.apply(0, f32::INFINITY, 0, I8), -128);
    }

    /// Accumulators at the ends of everything: zero, powers of two and their neighbours, both ends.
    fn edges() -> Vec<i32> {
        let powers = (0..31).flat_map(|bit| [-1, 0, 1].map(|near: i64| (1i64 << bit) + near));
        let all =
            powers.flat_map(|v| [v, -v]).chain([i64::from(i32::MIN), i64::from(i32::MAX), i64::from(i32::MIN) + 1]);
        all.filter_map(|v| i32::try_from(v).ok()).collect()
    }

    /// `mantissa · 2^exponent`, exactly: both are within the range of `f32`.
    fn scale_of(mantissa: u32, exponent: i32) -> f32 {
        (f64::from(mantissa) * f64::from(exponent).exp2()) as f32
    }

    /// Every accumulator at an edge times scales of all sizes against exact rationals: what is not beyond the ends of the type
    /// is nearest (the integer form of `half_up` exactly, ties up; the others within what their own roundings explain),
    /// and what is beyond them is the end.
    #[test]
    fn edges_agree_with_exact_rationals() {
        let mantissas = [1 << 23, (1 << 23) + 1, 0xc0_0000, 0xaa_aaab, (1 << 24) - 1];
        for (low, high) in [(-128, 127), (0, 255), (-32768, 32767), (i128::from(i32::MIN), i128::from(i32::MAX))] {
            for zero in [low, 0, high] {
                for (mantissa, exponent) in mantissas.iter().flat_map(|&m| (-70..20).map(move |e| (m, e))) {
                    let scale = scale_of(mantissa, exponent);
                    for acc in edges() {
                        check_edge(acc, (mantissa, exponent, scale), zero, (low, high));
                    }
                }
            }
        }
    }

    fn check_edge(acc: i32, (mantissa, exponent, scale): (u32, i32, f32), zero: i128, (low, high): (i128, i128)) {
        // The exact value is `num / den`.
        let den = 1i128 << (-exponent).max(0);
        let num = (i128::from(acc) * i128::from(mantissa)) << exponent.max(0);
        let up = (2 * num + den).div_euclid(2 * den);
        let exact = (up + zero).clamp(low, high);
        assert_eq!(Requantize::MulshiftHalfUp.apply(acc, scale, zero, (low, high)), exact, "{acc} {scale} {zero}");
        let rne = Requantize::F32Rne.apply(acc, scale, zero, (low, high));
        let tflite = Requantize::MulshiftTflite.apply(acc, scale, zero, (low, high));
        // Two roundings of `f32` move a value by at most a part in 2^23.
        let slack = 1 + up.abs() / (1 << 23);
        assert!((rne - exact).abs() <= slack, "{acc} {scale} {zero}: {rne} and {exact}");
        // What TFLite shifts to the left before it multiplies saturates at 32 bits, far beyond results of 16.
        let left = multiplier(scale).map_or(0, |(_, shift)| (31 - shift).max(0));
        let saturates = i32::try_from(i128::from(acc) << left).is_err() && high > 65535;
        assert!(saturates || (tflite - exact).abs() <= 1, "{acc} {scale} {zero}: {tflite} and {exact}");
        if up + zero > high + slack || up + zero < low - slack {
            assert!(rne == exact && (saturates || tflite == exact), "{acc} {scale} {zero}");
        }
    }

    /// Multiplier and shift stand for the scale itself, for every mantissa of an `f32` and every exponent: so `half_up` rounds
    /// an exact product once, whatever the accumulator.
    #[test]
    fn multipliers_are_exact() {
        let exact = |scale: f32| {
            let (multiplier, shift) = multiplier(scale).unwrap();
            assert!((1 << 30..1 << 31).contains(&multiplier), "{scale}");
            // The same 24 bits, with zeros below, and the exponent that makes up for them.
            let bits = scale.to_bits();
            let (fraction, stored) = (i128::from(bits & 0x7f_ffff), (bits >> 23).cast_signed());
            let (whole, exponent) = if stored == 0 { (fraction, -149) } else { (fraction | 1 << 23, stored - 150) };
            let zeros = multiplier.trailing_zeros().cast_signed() - whole.trailing_zeros().cast_signed();
            assert_eq!((multiplier >> multiplier.trailing_zeros()), whole >> whole.trailing_zeros(), "{scale}");
            assert_eq!(zeros - shift, exponent, "{scale}");
        };
        (0..1u32 << 23).for_each(|fraction| exact(f32::from_bits(125 << 23 | fraction)));
        for stored in 0..255u32 {
            for fraction in [1u32, 0x2a_aaab, 0x40_0000, 0x7f_ffff] {
                exact(f32::from_bits(stored << 23 | fraction));
            }
        }
    }

    proptest! {
        #[test]
        fn contracts_are_within_one_of_the_real_value(acc in -(1i32 << 23)..1 << 23, exponent in -24i32..1, mantissa in 0.5f32..1.0) {
            let scale = mantissa * 2f32.powi(exponent);
            let real = f64::from(acc) * f64::from(scale);
            for contract in Requantize::ALL {
                let found = contract.apply(acc, scale, 0, (i32::MIN.into(), i32::MAX.into())) as f64;
                prop_assert!((found - real).abs() <= 1.0, "{contract}: {found} for {real}");
            }
        }
    }
}
