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

/// `scale = multiplier · 2^-shift` with `multiplier` in `2^30..2^31`.
fn multiplier(scale: f32) -> Option<(i128, i32)> {
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
