//! Conversions of 8-bit floats as kernel code: codes in `i8` lanes to and from `f32`.

use adze_ir::minifloat::Minifloat;

use super::build::KernelBuilder;
use super::ir::{BinOp, Cmp, Cvt, Shift, UnOp, Value};
use super::types::Elem;

/// Bits of the mantissa of `f32`, and its bias.
const MANTISSA: u32 = 23;
const BIAS: i32 = 127;

/// `2^n` in every lane.
fn power(b: &mut KernelBuilder, like: Value, n: i32) -> Value {
    let ty = b.ty(like);
    b.number(2f64.powi(n), ty)
}

/// The numbers of codes: the fields moved to those of `f32` and the exponent put right. Codes of subnormal numbers become the
/// distance of normal ones, because the machine may take subnormal `f32` for zeros.
pub fn decode(b: &mut KernelBuilder, code: Value, format: Minifloat) -> Value {
    let wide = b.cvt(Cvt::UExt, code, Elem::I32);
    let int = b.ty(wide);
    let float = int.with_elem(Elem::F32);
    let (low, top) = (b.int(0x7f, int), b.int(0x80, int));
    let magnitude = b.bin(BinOp::And, wide, low);
    let bits = b.shift(Shift::Left, magnitude, MANTISSA - format.mantissa);
    let rebias = |b: &mut KernelBuilder, by: i32| {
        let by = b.int(i64::from(by) << MANTISSA, int);
        let moved = b.add(bits, by);
        b.bitcast(moved, float)
    };
    let normal = rebias(b, BIAS - format.bias);
    let above = rebias(b, BIAS - format.bias + 1);
    let least = power(b, above, 1 - format.bias);
    let subnormal = b.sub(above, least);
    let first = b.int(1 << format.mantissa, int);
    let is_small = b.cmp(Cmp::Lt, magnitude, first);
    let number = b.select(is_small, subnormal, normal);
    let sign = b.bin(BinOp::And, wide, top);
    let sign = b.shift(Shift::Left, sign, 24);
    let bits = b.bitcast(number, int);
    let bits = b.bin(BinOp::Or, bits, sign);
    let mut value = b.bitcast(bits, float);
    let nan = b.number(f64::NAN, float);
    if format.has_one_zero() {
        let is_nan = b.cmp(Cmp::Eq, wide, top);
        return b.select(is_nan, nan, value);
    }
    let largest = b.int(format.largest.into(), int);
    let beyond = b.cmp(Cmp::Gt, magnitude, largest);
    let signed_infinity = format.infinity.map(|code| {
        let infinity = b.int(f32::INFINITY.to_bits().into(), int);
        let bits = b.bin(BinOp::Or, infinity, sign);
        (code, b.bitcast(bits, float))
    });
    value = b.select(beyond, nan, value);
    if let Some((code, infinity)) = signed_infinity {
        let code = b.int(code.into(), int);
        let is_infinite = b.cmp(Cmp::Eq, magnitude, code);
        value = b.select(is_infinite, infinity, value);
    }
    value
}

/// The codes of the nearest numbers, ties to the even one. What is finite beyond the largest becomes the largest; so does
/// infinity where it has no code.
pub fn encode(b: &mut KernelBuilder, x: Value, format: Minifloat) -> Value {
    let float = b.ty(x);
    let int = float.with_elem(Elem::I32);
    let largest = b.number(format.decode(format.largest), float);
    let magnitude = b.un(UnOp::Abs, x);
    let magnitude = b.bin(BinOp::MinSel, largest, magnitude);
    let bits = b.bitcast(magnitude, int);
    // Normal numbers: half a unit of the last place that stays, less one where that is even, carries into it.
    let drop = MANTISSA - format.mantissa;
    let (one, half) = (b.int(1, int), b.int((1 << (drop - 1)) - 1, int));
    let last = b.shift(Shift::RightU, bits, drop);
    let odd = b.bin(BinOp::And, last, one);
    let up = b.add(half, odd);
    let rounded = b.add(bits, up);
    let rounded = b.shift(Shift::RightU, rounded, drop);
    let rebias = b.int(i64::from(BIAS - format.bias) << format.mantissa, int);
    let normal = b.sub(rounded, rebias);
    // Subnormal ones are multiples of one distance: a sum rounds to them.
    let least = 1 - format.bias;
    let shift = power(b, magnitude, least - format.mantissa as i32 + MANTISSA as i32);
    let sum = b.add(magnitude, shift);
    let (sum, base) = (b.bitcast(sum, int), b.bitcast(shift, int));
    let subnormal = b.sub(sum, base);
    let limit = power(b, magnitude, least);
    let is_small = b.cmp(Cmp::Lt, magnitude, limit);
    let mut code = b.select(is_small, subnormal, normal);
    if let Some(infinity) = format.infinity {
        let (infinity, size) = (b.int(infinity.into(), int), b.un(UnOp::Abs, x));
        let endless = b.number(f64::INFINITY, float);
        let is_infinite = b.cmp(Cmp::Eq, size, endless);
        code = b.select(is_infinite, infinity, code);
    }
    let sign = b.bitcast(x, int);
    let sign = b.shift(Shift::RightU, sign, 24);
    let top = b.int(0x80, int);
    let sign = b.bin(BinOp::And, sign, top);
    let signed = b.bin(BinOp::Or, code, sign);
    let code = if format.has_one_zero() {
        let zero = b.zero(int);
        let is_zero = b.cmp(Cmp::Eq, code, zero);
        b.select(is_zero, zero, signed)
    } else {
        signed
    };
    let nan = b.int(format.nan.into(), int);
    let is_nan = b.cmp(Cmp::Ne, x, x);
    let code = b.select(is_nan, nan, code);
    b.cvt(Cvt::Wrap, code, Elem::I8)
}

/// `f64` as `f32`, cut with an odd last bit where it was inexact: rounding that to a type of 22 bits or fewer gives what rounding
/// the `f64` once would give.
pub fn demote_to_odd(b: &mut KernelBuilder, x: Value) -> Value {
    let near = b.cvt(Cvt::Demote, x, Elem::F32);
    let back = b.cvt(Cvt::Promote, near, Elem::F64);
    let float = b.ty(near);
    let int = float.with_elem(Elem::I32);
    let (wanted, found) = (b.un(UnOp::Abs, x), b.un(UnOp::Abs, back));
    let short = |b: &mut KernelBuilder, mask: Value| b.mask_to(mask, Elem::M32);
    let (above, below) = (b.cmp(Cmp::Gt, wanted, found), b.cmp(Cmp::Lt, wanted, found));
    let (above, below) = (short(b, above), short(b, below));
    let bits = b.bitcast(near, int);
    let (one, zero) = (b.int(1, int), b.zero(int));
    let last = b.bin(BinOp::And, bits, one);
    let even = b.cmp(Cmp::Eq, last, zero);
    let (up, down) = (b.add(bits, one), b.sub(bits, one));
    // Infinity stands for finite numbers beyond: the largest number is odd, and below it.
    let (up_to, down_to) = (b.bin(BinOp::And, above, even), b.bin(BinOp::And, below, even));
    let bits = b.select(up_to, up, bits);
    let bits = b.select(down_to, down, bits);
    b.bitcast(bits, float)
}
