//! Inverse and hyperbolic functions, remainders and integer powers as kernel code, on any lane count.
//!
//! The `f32` forms are here, with polynomials of Cephes' single-precision library (S. Moshier); those of `f64` are in
//! [`math64`].

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, LN_2, PI};

use adze_ir::ops::UnaryFn;

use crate::cpu::kernel::ir::Shift;
use crate::cpu::kernel::{BinOp, Cmp, Cvt, Elem, KernelBuilder, Type, UnOp, Value, math, math64};

/// The function on floating-point lanes, if it is one of this file: at most 8 ulp in `f32`, [`math64::INVERSE_ULP`] in `f64`.
pub(super) fn inverse_or_hyperbolic(b: &mut KernelBuilder, function: UnaryFn, x: Value) -> Option<Value> {
    type Form = fn(&mut KernelBuilder, Value) -> Value;
    let (single, double): (Form, Form) = match function {
        UnaryFn::Asin => (asin, math64::asin),
        UnaryFn::Acos => (acos, math64::acos),
        UnaryFn::Atan => (atan, math64::atan),
        UnaryFn::Sinh => (sinh, math64::sinh),
        UnaryFn::Cosh => (cosh, math64::cosh),
        UnaryFn::Asinh => (asinh, math64::asinh),
        UnaryFn::Acosh => (acosh, math64::acosh),
        UnaryFn::Atanh => (atanh, math64::atanh),
        _ => return None,
    };
    Some(if b.ty(x).elem == Elem::F64 { double(b, x) } else { single(b, x) })
}

fn number(b: &mut KernelBuilder, like: Value, v: f64) -> Value {
    let ty = b.ty(like);
    b.number(v, ty)
}

/// Horner's scheme, highest power first.
fn poly(b: &mut KernelBuilder, x: Value, coefficients: &[f64]) -> Value {
    let mut sum = number(b, x, coefficients[0]);
    for &c in &coefficients[1..] {
        let c = number(b, x, c);
        sum = b.muladd(sum, x, c);
    }
    sum
}

/// `x + x · x² · p(x²)`.
fn odd(b: &mut KernelBuilder, x: Value, coefficients: &[f64]) -> Value {
    let square = b.mul(x, x);
    let p = poly(b, square, coefficients);
    let cube = b.mul(square, x);
    b.muladd(p, cube, x)
}

/// The magnitude with the sign of `x`; zeros keep theirs.
fn with_sign(b: &mut KernelBuilder, magnitude: Value, x: Value) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I32);
    let (bits, of) = (b.bitcast(magnitude, int), b.bitcast(x, int));
    let sign = b.int(i64::from(i32::MIN), int);
    let own = b.bin(BinOp::And, of, sign);
    let joined = b.bin(BinOp::Or, bits, own);
    b.bitcast(joined, ty)
}

const ASIN: &[f64] = &[4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1];

/// `asin` of 0..=1, and `π/2 - 2 asin √((1 - x) / 2)` above one half.
fn asin(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let small = odd(b, magnitude, ASIN);
    let half_root = root_of_rest(b, magnitude);
    let part = odd(b, half_root, ASIN);
    let twice = b.add(part, part);
    let right = number(b, x, FRAC_PI_2);
    let large = b.sub(right, twice);
    let half = number(b, x, 0.5);
    let is_large = b.cmp(Cmp::Gt, magnitude, half);
    let result = b.select(is_large, large, small);
    with_sign(b, result, x)
}

/// `√((1 - x) / 2)`; NaN above 1.
fn root_of_rest(b: &mut KernelBuilder, x: Value) -> Value {
    let (one, half) = (number(b, x, 1.0), number(b, x, 0.5));
    let rest = b.sub(one, x);
    let halved = b.mul(rest, half);
    b.un(UnOp::Sqrt, halved)
}

fn acos(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let near_zero = odd(b, x, ASIN);
    let (right, straight, half) = (number(b, x, FRAC_PI_2), number(b, x, PI), number(b, x, 0.5));
    let middle = b.sub(right, near_zero);
    let half_root = root_of_rest(b, magnitude);
    let part = odd(b, half_root, ASIN);
    let above = b.add(part, part);
    let below = b.sub(straight, above);
    let zero = b.zero(b.ty(x));
    let negative = b.cmp(Cmp::Lt, x, zero);
    let outer = b.select(negative, below, above);
    let is_outer = b.cmp(Cmp::Gt, magnitude, half);
    b.select(is_outer, outer, middle)
}

/// Reduced to |x| <= tan(π/8).
fn atan(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let (one, zero) = (number(b, x, 1.0), b.zero(b.ty(x)));
    let (low, high) = (number(b, x, 0.414_213_56), number(b, x, 2.414_213_6));
    let (is_middle, is_high) = (b.cmp(Cmp::Gt, magnitude, low), b.cmp(Cmp::Gt, magnitude, high));
    let (less, more) = (b.sub(magnitude, one), b.add(magnitude, one));
    let middle = b.div(less, more);
    let inverse = b.div(one, magnitude);
    let far = b.un(UnOp::Neg, inverse);
    let reduced = b.select(is_middle, middle, magnitude);
    let reduced = b.select(is_high, far, reduced);
    let (eighth, quarter) = (number(b, x, FRAC_PI_4), number(b, x, FRAC_PI_2));
    let base = b.select(is_middle, eighth, zero);
    let base = b.select(is_high, quarter, base);
    let part = odd(b, reduced, &[8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1]);
    let result = b.add(base, part);
    with_sign(b, result, x)
}

/// `e^(|x| / 2)`, whose square does not overflow before the function does.
fn half_exponential(b: &mut KernelBuilder, magnitude: Value) -> Value {
    let half = number(b, magnitude, 0.5);
    let halved = b.mul(magnitude, half);
    math::exp(b, halved)
}

fn sinh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let small = odd(b, magnitude, &[2.03721912945e-4, 8.33028376239e-3, 1.66667160211e-1]);
    let (up, down) = halves(b, magnitude);
    let large = b.sub(up, down);
    let one = number(b, x, 1.0);
    let is_large = b.cmp(Cmp::Gt, magnitude, one);
    let result = b.select(is_large, large, small);
    with_sign(b, result, x)
}

fn cosh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let (up, down) = halves(b, magnitude);
    b.add(up, down)
}

/// `e^x / 2` and `e^-x / 2`.
fn halves(b: &mut KernelBuilder, magnitude: Value) -> (Value, Value) {
    let half = number(b, magnitude, 0.5);
    let root = half_exponential(b, magnitude);
    let scaled = b.mul(root, half);
    let up = b.mul(scaled, root);
    let inverse = b.div(half, root);
    (up, b.div(inverse, root))
}

/// `ln x + ln 2`, for arguments whose square would lose or overflow.
fn log_of_twice(b: &mut KernelBuilder, x: Value) -> Value {
    let (l, ln2) = (math::log(b, x), number(b, x, LN_2));
    b.add(l, ln2)
}

fn asinh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let small = odd(b, magnitude, &[2.0122003309e-2, -4.2699340972e-2, 7.4847586088e-2, -1.6666288134e-1]);
    let one = number(b, x, 1.0);
    let square = b.muladd(magnitude, magnitude, one);
    let root = b.un(UnOp::Sqrt, square);
    let sum = b.add(magnitude, root);
    let middle = math::log(b, sum);
    let far = log_of_twice(b, magnitude);
    let (half, limit) = (number(b, x, 0.5), number(b, x, 1500.0));
    let is_far = b.cmp(Cmp::Gt, magnitude, limit);
    let large = b.select(is_far, far, middle);
    let is_small = b.cmp(Cmp::Lt, magnitude, half);
    let result = b.select(is_small, small, large);
    with_sign(b, result, x)
}

fn acosh(b: &mut KernelBuilder, x: Value) -> Value {
    let one = number(b, x, 1.0);
    let rest = b.sub(x, one);
    let p = poly(
        b,
        rest,
        &[1.7596881071e-3, -7.5272886713e-3, 2.6454905019e-2, -1.1784741703e-1, std::f64::consts::SQRT_2],
    );
    let root = b.un(UnOp::Sqrt, rest);
    let small = b.mul(p, root);
    let above = b.add(x, one);
    let product = b.mul(rest, above);
    let root = b.un(UnOp::Sqrt, product);
    let sum = b.add(x, root);
    let middle = math::log(b, sum);
    let far = log_of_twice(b, x);
    let (half, limit) = (number(b, x, 0.5), number(b, x, 1500.0));
    let is_far = b.cmp(Cmp::Gt, x, limit);
    let large = b.select(is_far, far, middle);
    let is_small = b.cmp(Cmp::Lt, rest, half);
    let result = b.select(is_small, small, large);
    // Far below zero the sum cancels.
    let (outside, nan) = (b.cmp(Cmp::Lt, x, one), number(b, x, f64::NAN));
    b.select(outside, nan, result)
}

fn atanh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let small =
        odd(b, magnitude, &[1.81740078349e-1, 8.24370301058e-2, 1.46691431730e-1, 1.99782164500e-1, 3.33337300303e-1]);
    let (one, half) = (number(b, x, 1.0), number(b, x, 0.5));
    let (above, below) = (b.add(one, magnitude), b.sub(one, magnitude));
    let ratio = b.div(above, below);
    let l = math::log(b, ratio);
    let large = b.mul(l, half);
    let is_small = b.cmp(Cmp::Lt, magnitude, half);
    let result = b.select(is_small, small, large);
    with_sign(b, result, x)
}

/// Rounds that the exponents of two `f32` may differ by, over the bits that one round takes away.
const FMOD_ROUNDS: i64 = 13;

/// The exact remainder of `x / y` with the sign of `x`, as C's `fmod`, of `f32` lanes.
///
/// Each round takes away a multiple of `y` with a factor of 24 bits: product and difference are exact in `f64`.
pub(super) fn fmod(b: &mut KernelBuilder, x: Value, y: Value) -> Value {
    let (wide, by) = (b.cvt(Cvt::Promote, x, Elem::F64), b.cvt(Cvt::Promote, y, Elem::F64));
    let ty = b.ty(wide);
    let (magnitude, divisor) = (b.un(UnOp::Abs, wide), b.un(UnOp::Abs, by));
    let infinity = b.number(f64::INFINITY, ty);
    let unlimited = b.cmp(Cmp::Eq, divisor, infinity);
    let one = b.number(1.0, ty);
    let safe = b.select(unlimited, one, divisor);
    let rest = b.for_(0, FMOD_ROUNDS, 1, &[magnitude], |b, _, rest| {
        let ratio = b.div(rest[0], safe);
        let factor = leading_bits(b, ratio);
        let factor = b.un(UnOp::Trunc, factor);
        let part = b.mul(factor, safe);
        vec![b.sub(rest[0], part)]
    })[0];
    let rest = b.select(unlimited, magnitude, rest);
    let zero = b.zero(ty);
    let (finite, broken) = (b.cmp(Cmp::Lt, magnitude, infinity), b.cmp(Cmp::Eq, divisor, zero));
    let nan = b.number(f64::NAN, ty);
    let rest = b.select(finite, rest, nan);
    let rest = b.select(broken, nan, rest);
    let ordered = b.cmp(Cmp::Eq, divisor, divisor);
    let rest = b.select(ordered, rest, nan);
    let narrow = b.cvt(Cvt::Demote, rest, Elem::F32);
    with_sign(b, narrow, x)
}

/// An `f64` with all but its first 24 bits cut off, so that it is never above the argument.
fn leading_bits(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I64);
    let bits = b.bitcast(x, int);
    let mask = b.int(!((1 << 29) - 1), int);
    let kept = b.bin(BinOp::And, bits, mask);
    b.bitcast(kept, ty)
}

/// `x^y` of integer lanes, wrapping; a negative exponent gives the truncated quotient (0 for a base of 0).
pub(super) fn int_pow(b: &mut KernelBuilder, x: Value, y: Value, signs: (bool, bool)) -> Value {
    let (ty, of) = (b.ty(x), b.ty(y));
    let one = b.int(1, ty);
    let bits = i64::from(of.elem.bits());
    let (lowest, none) = (b.int(1, of), b.zero(of));
    let power = b.for_(0, bits, 1, &[one, x, y], |b, _, v| {
        let bit = b.bin(BinOp::And, v[2], lowest);
        let set = b.cmp(Cmp::Ne, bit, none);
        let set = b.mask_to(set, ty.elem.mask());
        let product = b.mul(v[0], v[1]);
        let rest = b.shift(Shift::RightU, v[2], 1);
        vec![b.select(set, product, v[0]), b.mul(v[1], v[1]), rest]
    })[0];
    if !signs.1 {
        return power;
    }
    // 1 and -1 have integral reciprocals, which repeat with the parity of the exponent as the power itself does.
    let unit = b.cmp(Cmp::Eq, x, one);
    let unit = if signs.0 {
        let minus = b.int(-1, ty);
        let other = b.cmp(Cmp::Eq, x, minus);
        b.bin(BinOp::Or, unit, other)
    } else {
        unit
    };
    let negative = b.cmp(Cmp::Lt, y, none);
    let negative = b.mask_to(negative, ty.elem.mask());
    let nothing = b.zero(ty);
    let inverse = b.select(unit, power, nothing);
    b.select(negative, inverse, power)
}

/// The remainder of `f32` lanes with the sign of `y`, also for zero.
pub(super) fn floor_rem(b: &mut KernelBuilder, x: Value, y: Value) -> Value {
    let rest = fmod(b, x, y);
    let zero = b.zero(b.ty(x));
    let (below, down) = (b.cmp(Cmp::Lt, rest, zero), b.cmp(Cmp::Lt, y, zero));
    let opposite = b.bin(BinOp::Xor, below, down);
    let moved = b.add(rest, y);
    let moved = b.select(opposite, moved, rest);
    let none = b.cmp(Cmp::Eq, rest, zero);
    let signed_zero = with_sign(b, zero, y);
    b.select(none, signed_zero, moved)
}

/// A scalar shifted by a scalar; by a count outside of its width only the sign (to the right) or nothing is left.
pub(super) fn shift(b: &mut KernelBuilder, x: Value, by: Value, left: bool, signed: bool) -> Value {
    let ty: Type = b.ty(x);
    let width = b.int(i64::from(ty.elem.bits()), ty);
    let inside = b.cmp(Cmp::LtU, by, width);
    let amount = b.convert(by, false, Elem::I32);
    let way = match (left, signed) {
        (true, _) => Shift::Left,
        (false, true) => Shift::RightS,
        (false, false) => Shift::RightU,
    };
    let shifted = b.shift_by(way, x, amount);
    let rest = if way == Shift::RightS { b.shift(way, x, ty.elem.bits() - 1) } else { b.zero(ty) };
    b.select(inside, shifted, rest)
}
