//! How numbers become stored integers of at most 16 bits.

use adze_ir::quant::{Requantize, multiplier};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use crate::cpu::kernel::ir::Shift;
use crate::cpu::kernel::{BinOp, Cmp, Elem, KernelBuilder, Value};

/// Sums of products in units of both operands' scales, stored by a contract.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Requantized {
    /// How.
    pub contract: Requantize,
    /// Scale of the sum over that of the result: one, or one per column or channel.
    pub scales: Vec<f32>,
    /// What is added to sums before all else, per column or channel: the part of a large bias that they could not start with
    /// exactly. In `f32` that addition rounds as converting the whole sum would.
    pub bias: Option<Vec<f32>>,
    /// Zero point of the result.
    pub zero: i64,
    /// Dtype of the result.
    pub dtype: DType,
    /// What no scaled sum exceeds in magnitude.
    pub largest: f64,
}

impl Requantized {
    /// What sums are stored with, by name: one number each, or one per column or channel.
    pub fn parameters(&self) -> Vec<(&'static str, Tensor)> {
        let floats = |values: &[f32]| Tensor::from_f32(&[values.len()], values);
        if self.contract == Requantize::F32Rne {
            let bias = self.bias.as_ref().map(|bias| ("bias_f32", floats(bias)));
            return std::iter::once(("requantize_scales", floats(&self.scales))).chain(bias).collect();
        }
        let (multipliers, shifts): (Vec<i128>, Vec<i128>) = self.scales.iter().map(|&scale| mulshift(scale)).unzip();
        let ints = |values: &[i128]| Tensor::from_ints(DType::I32, &[values.len()], values);
        let bias = self.bias.as_ref().map(|bias| bias.iter().map(|&value| value as i128).collect::<Vec<_>>());
        let known = [("requantize_multipliers", ints(&multipliers)), ("requantize_shifts", ints(&shifts))];
        known.into_iter().chain(bias.map(|bias| ("bias_i32", ints(&bias)))).collect()
    }

    /// The stored integers as `i32` lanes for sums in `i32`, or in `f32` where that is exact; `parameters` are the values of
    /// [`Requantized::parameters`]. Where what stores them `saturates` anyway, they may be beyond the dtype's range.
    pub fn emit(&self, b: &mut KernelBuilder, sum: Value, parameters: &[Value], saturates: bool) -> Value {
        let range = self.dtype.int_range().unwrap_or((0, 0));
        if self.contract != Requantize::F32Rne {
            let sum = b.convert(sum, true, Elem::I32);
            let sum = parameters.get(2).map_or(sum, |&bias| b.add(sum, bias));
            return self.multiply_shift(b, [sum, parameters[0], parameters[1]], range);
        }
        let real = b.convert(sum, true, Elem::F32);
        let real = parameters.get(1).map_or(real, |&bias| b.add(real, bias));
        let scaled = b.mul(real, parameters[0]);
        if saturates && self.largest < f64::from(ROUNDABLE) {
            return round(b, scaled, self.zero);
        }
        saturate(b, scaled, Zero::Known(self.zero), range)
    }
}

impl Requantized {
    /// Sums times multipliers, shifted: lane by lane, since every lane has a shift of its own.
    fn multiply_shift(&self, b: &mut KernelBuilder, operands: [Value; 3], range: (i128, i128)) -> Value {
        let ty = b.ty(operands[0]);
        let mut all = b.zero(ty);
        for lane in 0..ty.lanes {
            let [sum, multiplier, shift] =
                operands.map(|value| if ty.lanes == 1 { value } else { b.extract(value, lane) });
            let [sum, multiplier] = [sum, multiplier].map(|value| b.convert(value, true, Elem::I64));
            let product = b.mul(sum, multiplier);
            let scaled = match self.contract {
                Requantize::MulshiftTflite => shift_tflite(b, product, shift),
                _ => shift_half_up(b, product, shift),
            };
            let stored = bounded(b, scaled, self.zero, range);
            all = if ty.lanes == 1 { stored } else { b.insert(all, lane, stored) };
        }
        all
    }
}

/// Whether the arithmetic here does for a contract and scale: products have 62 bits, and are shifted right by that many at most.
pub(super) fn has_code(contract: Requantize, scale: f32) -> bool {
    let least = match contract {
        Requantize::F32Rne => return true,
        Requantize::MulshiftHalfUp => 1,
        // It shifts sums to the left before, and saturates.
        Requantize::MulshiftTflite => 31,
    };
    multiplier(scale).is_none_or(|(_, shift)| shift >= least)
}

/// Multiplier and shift of a scale. What would be shifted by more than all bits of a product is 0, as is what is scaled by nothing.
fn mulshift(scale: f32) -> (i128, i128) {
    match multiplier(scale) {
        Some((multiplier, shift @ ..=62)) => (multiplier, shift.into()),
        _ => (0, 31),
    }
}

/// `floor(product · 2^-shift + 1/2)` of an `i64` and an `i32`.
fn shift_half_up(b: &mut KernelBuilder, product: Value, shift: Value) -> Value {
    let one = b.int(1, b.ty(product));
    let less = b.int(-1, b.ty(shift));
    let below = b.add(shift, less);
    let half = b.shift_by(Shift::Left, one, below);
    let sum = b.add(product, half);
    b.shift_by(Shift::RightS, sum, shift)
}

/// TFLite's way: the high half of the doubled product, ties up, then the rest of the shift, ties away from zero.
fn shift_tflite(b: &mut KernelBuilder, product: Value, shift: Value) -> Value {
    let ty = b.ty(product);
    let [zero, one, half, all] = [0, 1, 1 << 30, (1 << 31) - 1].map(|number| b.int(number, ty));
    // A quotient towards zero: what is negative is raised by all that is cut off.
    let nudge = b.sub(one, half);
    let negative = b.cmp(Cmp::Lt, product, zero);
    let nudge = b.select(negative, nudge, half);
    let nudged = b.add(product, nudge);
    let negative = b.cmp(Cmp::Lt, nudged, zero);
    let raise = b.select(negative, all, zero);
    let raised = b.add(nudged, raise);
    let high = b.shift(Shift::RightS, raised, 31);
    let whole = b.int(31, b.ty(shift));
    let rest = b.sub(shift, whole);
    let ones = b.shift_by(Shift::Left, one, rest);
    let mask = b.sub(ones, one);
    let middle = b.shift(Shift::RightS, mask, 1);
    let negative = b.cmp(Cmp::Lt, high, zero);
    let beyond = b.add(middle, one);
    let threshold = b.select(negative, beyond, middle);
    let cut = b.bin(BinOp::And, high, mask);
    let up = b.cmp(Cmp::Gt, cut, threshold);
    let up = b.select(up, one, zero);
    let shifted = b.shift_by(Shift::RightS, high, rest);
    b.add(shifted, up)
}

/// `sat(x + zero)` of an `i64` as an `i32`.
fn bounded(b: &mut KernelBuilder, x: Value, zero: i64, range: (i128, i128)) -> Value {
    let ty = b.ty(x);
    let [zero, low, high] = [zero, range.0 as i64, range.1 as i64].map(|number| b.int(number, ty));
    let moved = b.add(x, zero);
    let raised = b.bin(BinOp::MaxS, moved, low);
    let within = b.bin(BinOp::MinS, raised, high);
    b.convert(within, true, Elem::I32)
}

/// A zero point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zero {
    /// Known at compile time.
    Known(i64),
    /// `i32` lanes.
    Computed(Value),
}

/// 1.5 · 2^23: numbers next to it are whole, so adding it rounds as the hardware does, half to even.
const ROUNDER: f32 = 12_582_912.0;
/// Magnitudes that [`ROUNDER`] rounds so: less than 2^22, with room for the roundings before.
const ROUNDABLE: f32 = 4_194_000.0;

/// `round_half_even(x) + zero` of small `f32` lanes as `i32` lanes.
fn round(b: &mut KernelBuilder, x: Value, zero: i64) -> Value {
    let ty = b.ty(x);
    let rounder = b.number(f64::from(ROUNDER), ty);
    let whole = b.add(x, rounder);
    let int = ty.with_elem(Elem::I32);
    let bits = b.bitcast(whole, int);
    let offset = b.int(zero - i64::from(ROUNDER.to_bits()), int);
    b.add(bits, offset)
}

/// `sat(round_half_even(x) + zero)` of `f32` lanes as `i32` lanes; NaN gives the smallest value. The range is that of a
/// dtype of at most 16 bits.
///
/// Bounds are whole, so they may come before the rounding; then all is small enough for [`ROUNDER`], whose sum has the
/// integer in its lowest bits. That is six instructions, where converting with saturation takes that many by itself.
pub(super) fn saturate(b: &mut KernelBuilder, x: Value, zero: Zero, range: (i128, i128)) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I32);
    let (low, high) = (range.0 as i64, range.1 as i64);
    let (low, high) = match zero {
        Zero::Known(zero) => (b.number((low - zero) as f64, ty), b.number((high - zero) as f64, ty)),
        Zero::Computed(zero) => {
            let mut bound = |bound: i64| {
                let bound = b.int(bound, int);
                let apart = b.sub(bound, zero);
                b.convert(apart, true, Elem::F32)
            };
            (bound(low), bound(high))
        }
    };
    // Of a NaN and a bound, the second operand is taken.
    let raised = b.bin(BinOp::MaxSel, x, low);
    let bounded = b.bin(BinOp::MinSel, raised, high);
    match zero {
        Zero::Known(zero) => round(b, bounded, zero),
        Zero::Computed(zero) => {
            let whole = round(b, bounded, 0);
            b.add(whole, zero)
        }
    }
}
