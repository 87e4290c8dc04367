//! How numbers become stored integers of at most 16 bits.

use adze_ir::types::DType;

use crate::cpu::kernel::{BinOp, Elem, KernelBuilder, Value};

/// Sums of products in units of both operands' scales, stored by the contract `f32_rne`:
/// `sat(round_half_even(f32(sum) · scale) + zero)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Requantized {
    /// Scale of the sum over that of the result: one, or one per column or channel.
    pub scales: Vec<f32>,
    /// What is added to sums in `f32` before all else, per column or channel: the part of a large bias that they could not
    /// start with exactly. That addition rounds as converting the whole sum would.
    pub bias: Option<Vec<f32>>,
    /// Zero point of the result.
    pub zero: i64,
    /// Dtype of the result.
    pub dtype: DType,
    /// What no scaled sum exceeds in magnitude.
    pub largest: f64,
}

impl Requantized {
    /// The stored integers as `i32` lanes for sums in `i32`, or in `f32` where that is exact. Where what stores them
    /// `saturates` anyway, they may be beyond the dtype's range.
    pub fn emit(&self, b: &mut KernelBuilder, sum: Value, scale: Value, bias: Option<Value>, saturates: bool) -> Value {
        let real = b.convert(sum, true, Elem::F32);
        let real = bias.map_or(real, |bias| b.add(real, bias));
        let scaled = b.mul(real, scale);
        if saturates && self.largest < f64::from(ROUNDABLE) {
            return round(b, scaled, self.zero);
        }
        saturate(b, scaled, Zero::Known(self.zero), self.dtype.int_range().unwrap_or((0, 0)))
    }
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
