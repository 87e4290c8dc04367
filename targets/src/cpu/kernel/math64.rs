//! Transcendental functions of `f64` lanes, the counterpart of the `f32` ones in `math`(super::math): no table, no
//! branch, no call.
//!
//! Coefficients are those of Taylor series, cut where the next term is below a tenth of a unit in the last place, except
//! for `erf` above 1. Each function states its largest error over all finite inputs, tested over all exponents. NaN gives
//! NaN; subnormal inputs and results are computed, not flushed.

use std::f64::consts::{FRAC_2_PI, FRAC_2_SQRT_PI, FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E};

use super::build::KernelBuilder;
use super::ir::{BinOp, Cmp, Shift, UnOp, Value};
use super::math::{MAGIC_F64, clamp, copy_sign, exponent_and_fraction, log1p, poly, power_cases, power_of_two};
use super::types::Elem;

/// Largest error of `exp`.
pub const EXP_ULP: u32 = 1;
/// Largest error of `log`.
pub const LOG_ULP: u32 = 1;
/// Largest error of `tanh`.
pub const TANH_ULP: u32 = 3;
/// Largest error of `sigmoid`(super::math::sigmoid) of `f64`.
pub const SIGMOID_ULP: u32 = 2;
/// Largest error of `erf`.
pub const ERF_ULP: u32 = 2;
/// Largest error of sine and cosine up to [`TRIG_LIMIT`](super::math::TRIG_LIMIT).
pub const TRIG_ULP: u32 = 2;
/// Largest error of `pow`.
pub const POW_ULP: u32 = 2;
/// Largest error of `atan`, `asin`, `acos`, `sinh`, `cosh`, `asinh`, `acosh` and `atanh`.
pub const INVERSE_ULP: u32 = 5;

/// `ln 2` in two parts, the first short enough for exact products with exponents.
const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

fn number(b: &mut KernelBuilder, like: Value, v: f64) -> Value {
    let ty = b.ty(like);
    b.number(v, ty)
}

/// `Σ sign^k z^k / f(k)` for `k` from 0, highest power first.
fn series(terms: u32, sign: f64, divisor: impl Fn(u32) -> f64) -> Vec<f64> {
    (0..terms).rev().map(|k| sign.powi(k as i32) / divisor(k)).collect()
}

fn factorial(n: u32) -> f64 {
    (1..=n).map(f64::from).product()
}

/// `x + x · z · p(z)` with `z = x²`: a series of odd powers that starts with `x`.
fn odd(b: &mut KernelBuilder, x: Value, terms: u32, sign: f64, divisor: impl Fn(u32) -> f64) -> Value {
    let z = b.mul(x, x);
    let p = poly(b, z, &series(terms - 1, sign, |k| sign * divisor(k + 1)));
    let p = b.mul(p, z);
    b.muladd(p, x, x)
}

/// An integer in the low bits of a number to which the magic number was added.
fn low_bits(b: &mut KernelBuilder, shifted: Value) -> Value {
    let int = b.ty(shifted).with_elem(Elem::I64);
    let bits = b.bitcast(shifted, int);
    let magic = b.int(MAGIC_F64.to_bits() as i64, int);
    b.sub(bits, magic)
}

/// `p · 2^n`, rounded once also where it is subnormal.
fn scale(b: &mut KernelBuilder, p: Value, n: Value) -> Value {
    let half = b.shift(Shift::RightS, n, 1);
    let rest = b.sub(n, half);
    let (first, second) = (power_of_two(b, half), power_of_two(b, rest));
    let p = b.mul(p, first);
    b.mul(p, second)
}

/// `e^r` for `|r| <= ln 2 / 2`.
fn exp_of_rest(b: &mut KernelBuilder, r: Value) -> Value {
    let p = poly(b, r, &series(12, 1.0, |k| factorial(k + 2)));
    let squared = b.mul(r, r);
    let p = b.muladd(p, squared, r);
    let one = number(b, r, 1.0);
    b.add(p, one)
}

/// `e^x`, at most [`EXP_ULP`]; infinity above 709.78, 0 below -745.13.
pub(super) fn exp(b: &mut KernelBuilder, x: Value) -> Value {
    let x = clamp(b, x, -746.0, 710.0);
    let (magic, log2e) = (number(b, x, MAGIC_F64), number(b, x, LOG2_E));
    let shifted = b.muladd(x, log2e, magic);
    let n = b.sub(shifted, magic);
    let (high, low) = (number(b, x, -LN2_HIGH), number(b, x, -LN2_LOW));
    let r = b.muladd(n, high, x);
    let r = b.muladd(n, low, r);
    let p = exp_of_rest(b, r);
    let n = low_bits(b, shifted);
    scale(b, p, n)
}

/// Natural logarithm, at most [`LOG_ULP`]; minus infinity at 0, NaN below.
///
/// `x = 2^e (1 + f)`, `ln(1 + f) = 2 atanh(s) = f - f²/2 + s (f²/2 + 2 (z/3 + z²/5 + ...))` with `s = f / (2 + f)`, `z = s²`.
pub(super) fn log(b: &mut KernelBuilder, x: Value) -> Value {
    let (e, m) = exponent_and_fraction(b, x);
    let (one, two, half) = (number(b, x, 1.0), number(b, x, 2.0), number(b, x, 0.5));
    let f = b.sub(m, one);
    let below = b.add(f, two);
    let s = b.div(f, below);
    let z = b.mul(s, s);
    let p = poly(b, z, &series(10, 1.0, |k| f64::from(2 * k + 3) / 2.0));
    let p = b.mul(p, z);
    let square = b.mul(f, f);
    let half_square = b.mul(square, half);
    let sum = b.add(half_square, p);
    let (high, low) = (number(b, x, LN2_HIGH), number(b, x, LN2_LOW));
    let small = b.mul(e, low);
    let small = b.muladd(s, sum, small);
    let rest = b.sub(half_square, small);
    let rest = b.sub(rest, f);
    let large = b.mul(e, high);
    let result = b.sub(large, rest);
    // Infinity and NaN are their own logarithms; 0 and below have none.
    let infinity = number(b, x, f64::INFINITY);
    let ordinary = b.cmp(Cmp::Lt, x, infinity);
    let result = b.select(ordinary, result, x);
    let (zero, minus_infinity, nan) = (number(b, x, 0.0), number(b, x, f64::NEG_INFINITY), number(b, x, f64::NAN));
    let is_zero = b.cmp(Cmp::Eq, x, zero);
    let result = b.select(is_zero, minus_infinity, result);
    let negative = b.cmp(Cmp::Lt, x, zero);
    b.select(negative, nan, result)
}

/// Hyperbolic tangent, at most [`TANH_ULP`]: the quotient of two series below 0.625, `1 - 2 / (e^2x + 1)` above.
pub(super) fn tanh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let z = b.mul(x, x);
    let (one, two) = (number(b, x, 1.0), number(b, x, 2.0));
    let top = odd(b, magnitude, 9, 1.0, |k| factorial(2 * k + 1));
    let bottom = poly(b, z, &series(9, 1.0, |k| factorial(2 * k)));
    let small = b.div(top, bottom);
    let twice = b.add(magnitude, magnitude);
    let e = exp(b, twice);
    let e = b.add(e, one);
    let q = b.div(two, e);
    let large = b.sub(one, q);
    let limit = number(b, x, 0.625);
    let is_small = b.cmp(Cmp::Lt, magnitude, limit);
    let result = b.select(is_small, small, large);
    copy_sign(b, result, x)
}

/// `e^(x²) erfc(x)` for `x` in `[1, 6]`, as a polynomial in `14.4 / (x + 3) - 2.6`: interpolated at 15 Chebyshev nodes with
/// 60 digits, relative error below 1e-16.
const ERFCX: &[f64] = &[
    6.085_791_590_687_092e-12,
    -6.047_405_945_991_704e-12,
    -2.571_511_429_603_255e-10,
    2.638_150_898_508_073_5e-10,
    1.133_953_806_174_470_6e-8,
    4.526_700_764_248_741e-9,
    -5.541_274_478_467_714e-7,
    -2.425_557_471_905_031_5e-6,
    1.956_358_324_613_711_2e-5,
    3.316_029_605_764_125e-4,
    2.479_314_697_078_186e-3,
    1.271_314_769_569_219_8e-2,
    4.969_844_540_339_464e-2,
    1.543_611_742_943_691_9e-1,
    2.079_832_913_334_288_5e-1,
];

/// Error function, at most [`ERF_ULP`]: a series up to 1, `1 - erfc(x)` above.
pub(super) fn erf(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let z = b.mul(x, x);
    let p = poly(b, z, &series(19, -1.0, |k| factorial(k) * f64::from(2 * k + 1) / FRAC_2_SQRT_PI));
    let small = b.mul(p, magnitude);
    let one = number(b, x, 1.0);
    let bounded = clamp(b, magnitude, 1.0, 6.0);
    let (three, width, middle) = (number(b, x, 3.0), number(b, x, 14.4), number(b, x, 2.6));
    let below = b.add(bounded, three);
    let w = b.div(width, below);
    let w = b.sub(w, middle);
    let p = poly(b, w, ERFCX);
    let e = exp_of_minus_square(b, bounded);
    let rest = b.mul(p, e);
    let large = b.sub(one, rest);
    let is_large = b.cmp(Cmp::Gt, magnitude, one);
    let result = b.select(is_large, large, small);
    copy_sign(b, result, x)
}

/// `e^(-x²)`: the square in two parts, so that its rounding is not multiplied by its size.
fn exp_of_minus_square(b: &mut KernelBuilder, x: Value) -> Value {
    let (high, low) = split(b, x);
    let square = b.mul(high, high);
    let square = b.un(UnOp::Neg, square);
    let e = exp(b, square);
    let sum = b.add(high, x);
    let d = b.mul(low, sum);
    // e^-d = 1 - d + d²/2 for d below 2^-22.
    let half = number(b, x, 0.5);
    let halved = b.mul(d, half);
    let correction = b.mul(halved, d);
    let correction = b.sub(correction, d);
    b.muladd(e, correction, e)
}

/// A number as its 26 leading bits and the rest.
fn split(b: &mut KernelBuilder, x: Value) -> (Value, Value) {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I64);
    let bits = b.bitcast(x, int);
    let mask = b.int(!((1 << 27) - 1), int);
    let kept = b.bin(BinOp::And, bits, mask);
    let high = b.bitcast(kept, ty);
    (high, b.sub(x, high))
}

/// `sin(x + shift π/2)`, at most [`TRIG_ULP`] up to [`TRIG_LIMIT`](super::math::TRIG_LIMIT).
///
/// `π/2` in parts of 25 bits, whose products with a number of quadrants below `2^28` are exact.
pub(super) fn sin_quadrant(b: &mut KernelBuilder, x: Value, shift: i64) -> Value {
    let int = b.ty(x).with_elem(Elem::I64);
    let (two_over_pi, magic) = (number(b, x, FRAC_2_PI), number(b, x, MAGIC_F64));
    let scaled = b.mul(x, two_over_pi);
    let rounded = b.add(scaled, magic);
    let n = b.sub(rounded, magic);
    let mut r = x;
    for part in
        [1.570_796_310_901_641_8, 1.589_325_471_229_585_7e-8, 6.123_233_932_053_594e-17, 6.368_317_163_510_95e-25]
    {
        let part = number(b, x, -part);
        r = b.muladd(n, part, r);
    }
    let s = odd(b, r, 10, -1.0, |k| factorial(2 * k + 1));
    let z = b.mul(r, r);
    let c = poly(b, z, &series(8, -1.0, |k| factorial(2 * k + 4)));
    let (one, half) = (number(b, x, 1.0), number(b, x, 0.5));
    let squared = b.mul(z, z);
    let c = b.mul(c, squared);
    let halved = b.mul(z, half);
    // 1 - z/2 rounds; what it lost is added to the rest.
    let head = b.sub(one, halved);
    let lost = b.sub(one, head);
    let lost = b.sub(lost, halved);
    let tail = b.add(lost, c);
    let c = b.add(head, tail);
    let quadrant = b.bitcast(rounded, int);
    let shift = b.int(shift, int);
    let quadrant = b.add(quadrant, shift);
    let (odd_bit, back_bit, zero) = (b.int(1, int), b.int(2, int), b.zero(int));
    let is_odd = b.bin(BinOp::And, quadrant, odd_bit);
    let is_odd = b.cmp(Cmp::Ne, is_odd, zero);
    let result = b.select(is_odd, c, s);
    let back = b.bin(BinOp::And, quadrant, back_bit);
    let back = b.cmp(Cmp::Ne, back, zero);
    let negated = b.un(UnOp::Neg, result);
    b.select(back, negated, result)
}

/// A sum of two numbers, the second small against the first: about 106 bits.
#[derive(Clone, Copy)]
struct Pair {
    high: Value,
    low: Value,
}

/// The exact product (Dekker, 1971).
fn product(b: &mut KernelBuilder, x: Value, y: Value) -> Pair {
    let high = b.mul(x, y);
    let ((xh, xl), (yh, yl)) = (split(b, x), split(b, y));
    let first = b.mul(xh, yh);
    let mut low = b.sub(first, high);
    for (x, y) in [(xh, yl), (xl, yh), (xl, yl)] {
        let part = b.mul(x, y);
        low = b.add(low, part);
    }
    Pair { high, low }
}

fn times(b: &mut KernelBuilder, x: Pair, y: Pair) -> Pair {
    let p = product(b, x.high, y.high);
    let low = b.muladd(x.high, y.low, p.low);
    let low = b.muladd(x.low, y.high, low);
    Pair { high: p.high, low }
}

/// `x + y` where `|x|` is not below `|y|`, or is zero.
fn plus(b: &mut KernelBuilder, x: Pair, y: Pair) -> Pair {
    let high = b.add(x.high, y.high);
    let lost = b.sub(x.high, high);
    let lost = b.add(lost, y.high);
    let low = b.add(x.low, y.low);
    Pair { high, low: b.add(lost, low) }
}

fn constant(b: &mut KernelBuilder, like: Value, high: f64, low: f64) -> Pair {
    Pair { high: number(b, like, high), low: number(b, like, low) }
}

/// `log2` of a finite number above zero, as a pair.
///
/// `x = 2^e m`, `log2 m = 2 / ln 2 · (s + s z/3 + s z²/5 + ...)` with `s = (m - 1) / (m + 1)`, `z = s²`.
fn log2(b: &mut KernelBuilder, x: Value) -> Pair {
    let (e, m) = exponent_and_fraction(b, x);
    let (one, zero) = (number(b, x, 1.0), number(b, x, 0.0));
    let top = b.sub(m, one);
    let bottom = b.add(m, one);
    let lost = b.sub(bottom, one);
    let lost = b.sub(m, lost);
    let quotient = b.div(top, bottom);
    let back = product(b, quotient, bottom);
    let rest = b.sub(top, back.high);
    let rest = b.sub(rest, back.low);
    let more = b.mul(quotient, lost);
    let rest = b.sub(rest, more);
    let s = Pair { high: quotient, low: b.div(rest, bottom) };
    let z = times(b, s, s);
    let tail = poly(b, z.high, &series(10, 1.0, |k| f64::from(2 * k + 5)));
    let squared = b.mul(z.high, z.high);
    let tail = Pair { high: b.mul(tail, squared), low: zero };
    let third = constant(b, x, 1.0 / 3.0, 1.850_371_707_708_594e-17);
    let sum = times(b, z, third);
    let sum = plus(b, sum, tail);
    let sum = times(b, sum, s);
    let sum = plus(b, s, sum);
    let factor = constant(b, x, 2.885_390_081_777_926_8, 4.071_054_748_186_206_6e-17);
    let sum = times(b, sum, factor);
    plus(b, Pair { high: e, low: zero }, sum)
}

/// `x^y`, at most [`POW_ULP`], with the special cases of C's `pow`: `2^(y log2 |x|)` with a logarithm of about 100 bits.
pub(super) fn pow(b: &mut KernelBuilder, x: Value, y: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let logarithm = log2(b, magnitude);
    // Beyond it every base but 1 gives 0 or infinity; products stay finite.
    let limit = 2f64.powi(64);
    let bounded = clamp(b, y, -limit, limit);
    let zero = number(b, x, 0.0);
    let exponent = times(b, logarithm, Pair { high: bounded, low: zero });
    // 0, infinity and NaN have no pair.
    let (infinity, minus_infinity) = (number(b, x, f64::INFINITY), number(b, x, f64::NEG_INFINITY));
    let is_zero = b.cmp(Cmp::Eq, magnitude, zero);
    let special = b.select(is_zero, minus_infinity, magnitude);
    let special = b.mul(special, bounded);
    let finite = b.cmp(Cmp::Lt, magnitude, infinity);
    let above = b.cmp(Cmp::Gt, magnitude, zero);
    let ordinary = b.bin(BinOp::And, finite, above);
    let high = b.select(ordinary, exponent.high, special);
    let size = b.un(UnOp::Abs, high);
    let range = number(b, x, 1100.0);
    let inside = b.cmp(Cmp::Lt, size, range);
    let inside = b.bin(BinOp::And, inside, ordinary);
    let low = b.select(inside, exponent.low, zero);
    let high = clamp(b, high, -1100.0, 1100.0);
    let (magic, ln2) = (number(b, x, MAGIC_F64), number(b, x, LN_2));
    let shifted = b.add(high, magic);
    let n = b.sub(shifted, magic);
    let rest = b.sub(high, n);
    let rest = b.add(rest, low);
    let r = b.mul(rest, ln2);
    let p = exp_of_rest(b, r);
    let n = low_bits(b, shifted);
    let result = scale(b, p, n);
    power_cases(b, x, y, result)
}

/// Arc tangent, at most [`INVERSE_ULP`]: reduced to `|x| <= tan(π/8)`.
pub fn atan(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let result = atan_of_magnitude(b, magnitude);
    copy_sign(b, result, x)
}

fn atan_of_magnitude(b: &mut KernelBuilder, x: Value) -> Value {
    let (one, zero) = (number(b, x, 1.0), number(b, x, 0.0));
    let (low, high) = (number(b, x, 0.414_213_562_373_095), number(b, x, 2.414_213_562_373_095));
    let (is_middle, is_high) = (b.cmp(Cmp::Gt, x, low), b.cmp(Cmp::Gt, x, high));
    let (less, more) = (b.sub(x, one), b.add(x, one));
    let middle = b.div(less, more);
    let inverse = b.div(one, x);
    let far = b.un(UnOp::Neg, inverse);
    let reduced = b.select(is_middle, middle, x);
    let reduced = b.select(is_high, far, reduced);
    let part = odd(b, reduced, 22, -1.0, |k| f64::from(2 * k + 1));
    let pick = |b: &mut KernelBuilder, quarter: f64, half: f64| {
        let (quarter, half) = (number(b, x, quarter), number(b, x, half));
        let base = b.select(is_middle, quarter, zero);
        b.select(is_high, half, base)
    };
    let base = pick(b, FRAC_PI_4, FRAC_PI_2);
    let rest = pick(b, 3.061_616_997_868_383e-17, 6.123_233_995_736_766e-17);
    let part = b.add(part, rest);
    b.add(base, part)
}

/// Arc sine, at most [`INVERSE_ULP`]: `atan(x / √((1 - x) (1 + x)))`.
pub fn asin(b: &mut KernelBuilder, x: Value) -> Value {
    let (magnitude, one) = (b.un(UnOp::Abs, x), number(b, x, 1.0));
    let (below, above) = (b.sub(one, magnitude), b.add(one, magnitude));
    let product = b.mul(below, above);
    let root = b.un(UnOp::Sqrt, product);
    let ratio = b.div(magnitude, root);
    let result = atan_of_magnitude(b, ratio);
    copy_sign(b, result, x)
}

/// Arc cosine, at most [`INVERSE_ULP`]: `2 atan √((1 - x) / (1 + x))`.
pub fn acos(b: &mut KernelBuilder, x: Value) -> Value {
    let one = number(b, x, 1.0);
    let (below, above) = (b.sub(one, x), b.add(one, x));
    let ratio = b.div(below, above);
    let root = b.un(UnOp::Sqrt, ratio);
    let half = atan_of_magnitude(b, root);
    b.add(half, half)
}

/// `e^x / 2` and `e^-x / 2` of a magnitude: through `e^(x / 2)`, whose square does not overflow before the function does.
fn halves(b: &mut KernelBuilder, magnitude: Value) -> (Value, Value) {
    let half = number(b, magnitude, 0.5);
    let halved = b.mul(magnitude, half);
    let root = exp(b, halved);
    let scaled = b.mul(root, half);
    let up = b.mul(scaled, root);
    let inverse = b.div(half, root);
    (up, b.div(inverse, root))
}

/// Hyperbolic sine, at most [`INVERSE_ULP`].
pub fn sinh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let small = odd(b, magnitude, 10, 1.0, |k| factorial(2 * k + 1));
    let (up, down) = halves(b, magnitude);
    let large = b.sub(up, down);
    let one = number(b, x, 1.0);
    let is_large = b.cmp(Cmp::Gt, magnitude, one);
    let result = b.select(is_large, large, small);
    copy_sign(b, result, x)
}

/// Hyperbolic cosine, at most [`INVERSE_ULP`].
pub fn cosh(b: &mut KernelBuilder, x: Value) -> Value {
    let magnitude = b.un(UnOp::Abs, x);
    let (up, down) = halves(b, magnitude);
    b.add(up, down)
}

/// `ln x + ln 2` where `x` is large, else the other.
fn log_of_twice_or(b: &mut KernelBuilder, x: Value, other: Value) -> Value {
    let (l, ln2, limit) = (log(b, x), number(b, x, LN_2), number(b, x, 2f64.powi(28)));
    let far = b.add(l, ln2);
    let is_far = b.cmp(Cmp::Gt, x, limit);
    b.select(is_far, far, other)
}

/// Inverse hyperbolic sine, at most [`INVERSE_ULP`]: `ln(1 + x + x² / (1 + √(1 + x²)))`.
pub fn asinh(b: &mut KernelBuilder, x: Value) -> Value {
    let (magnitude, one) = (b.un(UnOp::Abs, x), number(b, x, 1.0));
    let square = b.mul(x, x);
    let above = b.add(square, one);
    let root = b.un(UnOp::Sqrt, above);
    let below = b.add(root, one);
    let ratio = b.div(square, below);
    let sum = b.add(magnitude, ratio);
    let near = log1p(b, sum);
    let result = log_of_twice_or(b, magnitude, near);
    copy_sign(b, result, x)
}

/// Inverse hyperbolic cosine, at most [`INVERSE_ULP`]: `ln(1 + t + √(2t + t²))` with `t = x - 1`.
pub fn acosh(b: &mut KernelBuilder, x: Value) -> Value {
    let one = number(b, x, 1.0);
    let t = b.sub(x, one);
    let twice = b.add(t, t);
    let square = b.muladd(t, t, twice);
    let root = b.un(UnOp::Sqrt, square);
    let sum = b.add(t, root);
    let near = log1p(b, sum);
    let result = log_of_twice_or(b, x, near);
    // Far below zero the sum cancels.
    let (outside, nan) = (b.cmp(Cmp::Lt, x, one), number(b, x, f64::NAN));
    b.select(outside, nan, result)
}

/// Inverse hyperbolic tangent, at most [`INVERSE_ULP`]: `ln(1 + 2x / (1 - x)) / 2`.
pub fn atanh(b: &mut KernelBuilder, x: Value) -> Value {
    let (magnitude, one, half) = (b.un(UnOp::Abs, x), number(b, x, 1.0), number(b, x, 0.5));
    let (twice, below) = (b.add(magnitude, magnitude), b.sub(one, magnitude));
    let ratio = b.div(twice, below);
    let l = log1p(b, ratio);
    let result = b.mul(l, half);
    copy_sign(b, result, x)
}
