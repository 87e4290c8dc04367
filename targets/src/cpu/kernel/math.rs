//! Transcendental functions as kernel code, for floats of any lane count. No table, no branch, no call. What is here are the
//! functions and their `f32` forms; the `f64` forms and their bounds are in [`math64`].
//!
//! Each states its largest error in units in the last place of the result, over all finite inputs unless said otherwise,
//! and is tested over all exponents. NaN gives NaN; subnormal inputs and results are computed, not flushed.

use super::build::KernelBuilder;
use super::ir::{BinOp, Cmp, Cvt, Shift, UnOp, Value};
use super::math64;
use super::types::{Elem, Type};

/// Largest error of [`exp`].
pub const EXP_ULP: u32 = 2;
/// Largest error of [`log`].
pub const LOG_ULP: u32 = 2;
/// Largest error of [`tanh`].
pub const TANH_ULP: u32 = 3;
/// Largest error of [`sigmoid`].
pub const SIGMOID_ULP: u32 = 3;
/// Largest error of [`erf`].
pub const ERF_ULP: u32 = 7;
/// Largest error of [`sin`] and [`cos`] up to [`TRIG_LIMIT`].
pub const TRIG_ULP: u32 = 1;
/// Largest error of [`log1p`], of `f64` lanes too.
pub const LOG1P_ULP: u32 = 4;
/// Largest error of [`pow`].
pub const POW_ULP: u32 = 1;
/// Arguments of [`sin`] and [`cos`] beyond this lose accuracy.
pub const TRIG_LIMIT: f32 = 268_435_456.0;

/// `1.5 · 2^23`: adding it rounds to an integer, which then stands in the low bits.
const MAGIC_F32: f32 = 12_582_912.0;
/// `1.5 · 2^52`.
pub(super) const MAGIC_F64: f64 = 6_755_399_441_055_744.0;
/// `ln 2` in two parts, the first short enough for exact products with exponents (Cephes).
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// The form for the lanes' width.
fn by_width<T>(
    b: &mut KernelBuilder,
    x: Value,
    single: fn(&mut KernelBuilder, Value) -> T,
    double: fn(&mut KernelBuilder, Value) -> T,
) -> T {
    if b.ty(x).elem == Elem::F64 { double(b, x) } else { single(b, x) }
}

/// Horner's scheme, highest coefficient first.
pub(super) fn poly(b: &mut KernelBuilder, x: Value, coefficients: &[f64]) -> Value {
    let ty = b.ty(x);
    let mut sum = b.number(coefficients[0], ty);
    for &c in &coefficients[1..] {
        let c = b.number(c, ty);
        sum = b.muladd(sum, x, c);
    }
    sum
}

/// `x` limited to a range; NaN stays.
pub(super) fn clamp(b: &mut KernelBuilder, x: Value, lo: f64, hi: f64) -> Value {
    let ty = b.ty(x);
    let (lo, hi) = (b.number(lo, ty), b.number(hi, ty));
    let x = b.bin(BinOp::MaxSel, lo, x);
    b.bin(BinOp::MinSel, hi, x)
}

/// `2^n` of integer lanes (`i32` for `f32`, `i64` for `f64`) in the range of normal numbers.
pub(super) fn power_of_two(b: &mut KernelBuilder, n: Value) -> Value {
    let ty = b.ty(n);
    let (bias, mantissa, float) = if ty.elem == Elem::I32 { (127, 23, Elem::F32) } else { (1023, 52, Elem::F64) };
    let bias = b.int(bias, ty);
    let biased = b.add(n, bias);
    let bits = b.shift(Shift::Left, biased, mantissa);
    b.bitcast(bits, ty.with_elem(float))
}

/// `e^x`, at most [`EXP_ULP`]; infinity above 88.72, 0 below -103.97.
///
/// `x = n ln 2 + r`, a polynomial of degree 7 for `e^r` (Cephes), and two multiplications by powers of two, so that
/// subnormal results round once.
pub fn exp(b: &mut KernelBuilder, x: Value) -> Value {
    by_width(b, x, exp_f32, math64::exp)
}

fn exp_f32(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I32);
    let x = clamp(b, x, -104.0, 89.0);
    let magic = b.number(MAGIC_F32.into(), ty);
    let log2e = b.number(std::f64::consts::LOG2_E, ty);
    let shifted = b.muladd(x, log2e, magic);
    let n = b.sub(shifted, magic);
    let bits = b.bitcast(shifted, int);
    let magic_bits = b.int(MAGIC_F32.to_bits().into(), int);
    let n_int = b.sub(bits, magic_bits);
    let (high, low) = (b.number(-f64::from(LN2_HIGH), ty), b.number(-f64::from(LN2_LOW), ty));
    let r = b.muladd(n, high, x);
    let r = b.muladd(n, low, r);
    let p = poly(b, r, &[1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1]);
    let squared = b.mul(r, r);
    let p = b.muladd(p, squared, r);
    let one = b.number(1.0, ty);
    let p = b.add(p, one);
    let half = b.shift(Shift::RightS, n_int, 1);
    let rest = b.sub(n_int, half);
    let (first, second) = (power_of_two(b, half), power_of_two(b, rest));
    let p = b.mul(p, first);
    b.mul(p, second)
}

/// Natural logarithm, at most [`LOG_ULP`]; minus infinity at 0, NaN below.
///
/// `x = 2^e m` with `m` in `[√½, √2)`, a polynomial of degree 8 in `m - 1` (Cephes).
pub fn log(b: &mut KernelBuilder, x: Value) -> Value {
    by_width(b, x, log_f32, math64::log)
}

fn log_f32(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I32);
    let least = b.number(f32::MIN_POSITIVE.into(), ty);
    let subnormal = b.cmp(Cmp::Lt, x, least);
    let up = b.number(8_388_608.0, ty);
    let raised = b.mul(x, up);
    let scaled = b.select(subnormal, raised, x);
    let (low, zero) = (b.number(-23.0, ty), b.zero(ty));
    let offset = b.select(subnormal, low, zero);
    let bits = b.bitcast(scaled, int);
    let root_half = b.int(0x3f35_04f3, int);
    let above = b.sub(bits, root_half);
    let e_int = b.shift(Shift::RightS, above, 23);
    let e_bits = b.shift(Shift::Left, e_int, 23);
    let m_bits = b.sub(bits, e_bits);
    let m = b.bitcast(m_bits, ty);
    let e = b.cvt(Cvt::FromS, e_int, Elem::F32);
    let e = b.add(e, offset);
    let one = b.number(1.0, ty);
    let f = b.sub(m, one);
    let z = b.mul(f, f);
    let p = poly(
        b,
        f,
        &[
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333_1e-1,
        ],
    );
    let p = b.mul(p, f);
    let p = b.mul(p, z);
    let (ln2_low, ln2_high) = (b.number(LN2_LOW.into(), ty), b.number(LN2_HIGH.into(), ty));
    let p = b.muladd(e, ln2_low, p);
    let minus_half = b.number(-0.5, ty);
    let p = b.muladd(minus_half, z, p);
    let sum = b.add(f, p);
    let result = b.muladd(e, ln2_high, sum);
    // Infinity and NaN are their own logarithms; 0 and below have none.
    let infinity = b.number(f64::INFINITY, ty);
    let ordinary = b.cmp(Cmp::Lt, scaled, infinity);
    let result = b.select(ordinary, result, x);
    let minus_infinity = b.number(f64::NEG_INFINITY, ty);
    let is_zero = b.cmp(Cmp::Eq, x, zero);
    let result = b.select(is_zero, minus_infinity, result);
    let nan = b.number(f64::NAN, ty);
    let below = b.cmp(Cmp::Lt, x, zero);
    b.select(below, nan, result)
}

/// `ln(1 + x)`, at most [`LOG1P_ULP`], also near 0 (W. Kahan): the logarithm of the rounded sum, times how much the rounding
/// changed `x`.
pub fn log1p(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let (one, infinity) = (b.number(1.0, ty), b.number(f64::INFINITY, ty));
    let sum = b.add(x, one);
    let rounded = b.sub(sum, one);
    let logarithm = log(b, sum);
    let ratio = b.div(x, rounded);
    let result = b.mul(logarithm, ratio);
    let (is_tiny, is_infinite) = (b.cmp(Cmp::Eq, sum, one), b.cmp(Cmp::Eq, sum, infinity));
    let is_own = b.bin(BinOp::Or, is_tiny, is_infinite);
    b.select(is_own, x, result)
}

/// Copies the sign of `sign` to the magnitude `x`.
pub(super) fn copy_sign(b: &mut KernelBuilder, x: Value, sign: Value) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(ty.elem.int());
    let top = b.int(i64::MIN >> (64 - ty.elem.bits()), int);
    let (bits, sign) = (b.bitcast(x, int), b.bitcast(sign, int));
    let sign = b.bin(BinOp::And, sign, top);
    let bits = b.bin(BinOp::Or, bits, sign);
    b.bitcast(bits, ty)
}

/// Hyperbolic tangent, at most [`TANH_ULP`]: a polynomial below 0.625, `1 - 2 / (e^2x + 1)` above.
pub fn tanh(b: &mut KernelBuilder, x: Value) -> Value {
    by_width(b, x, tanh_f32, math64::tanh)
}

fn tanh_f32(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let magnitude = b.un(UnOp::Abs, x);
    let z = b.mul(x, x);
    let p = poly(b, z, &[-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1]);
    let p = b.mul(p, z);
    let small = b.muladd(p, magnitude, magnitude);
    let twice = b.add(magnitude, magnitude);
    let e = exp(b, twice);
    let (one, two) = (b.number(1.0, ty), b.number(2.0, ty));
    let e = b.add(e, one);
    let q = b.div(two, e);
    let large = b.sub(one, q);
    let limit = b.number(0.625, ty);
    let is_small = b.cmp(Cmp::Lt, magnitude, limit);
    let result = b.select(is_small, small, large);
    copy_sign(b, result, x)
}

/// `1 / (1 + e^-x)`, at most [`SIGMOID_ULP`], also far below zero.
pub fn sigmoid(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let magnitude = b.un(UnOp::Abs, x);
    let negative = b.un(UnOp::Neg, magnitude);
    let e = exp(b, negative);
    let (one, zero) = (b.number(1.0, ty), b.zero(ty));
    let denominator = b.add(e, one);
    let below = b.cmp(Cmp::Lt, x, zero);
    let numerator = b.select(below, e, one);
    b.div(numerator, denominator)
}

/// Error function, at most [`ERF_ULP`]: a rational function of degree 13 by 8, constant beyond 4.
pub fn erf(b: &mut KernelBuilder, x: Value) -> Value {
    by_width(b, x, erf_f32, math64::erf)
}

fn erf_f32(b: &mut KernelBuilder, x: Value) -> Value {
    let x = clamp(b, x, -4.0, 4.0);
    let z = b.mul(x, x);
    let p = poly(
        b,
        z,
        &[
            -2.726_142_258_013_06e-10,
            2.770_681_424_959_02e-8,
            -2.101_024_020_825_08e-6,
            -5.692_506_394_623_46e-5,
            -7.349_906_303_268_55e-4,
            -2.954_599_808_540_25e-3,
            -1.609_603_332_624_15e-2,
        ],
    );
    let q = poly(
        b,
        z,
        &[
            -1.456_607_184_649_96e-5,
            -2.133_740_552_789_05e-4,
            -1.682_826_974_382_03e-3,
            -7.373_329_167_204_68e-3,
            -1.426_473_905_141_89e-2,
        ],
    );
    // The quotient first: the product with a subnormal would lose bits that the division brings back up.
    let quotient = b.div(p, q);
    b.mul(quotient, x)
}

/// Sine, at most [`TRIG_ULP`] up to [`TRIG_LIMIT`]; NaN at infinity.
pub fn sin(b: &mut KernelBuilder, x: Value) -> Value {
    let result = by_width(b, x, |b, x| sin_quadrant(b, x, 0), |b, x| math64::sin_quadrant(b, x, 0));
    // Keeps the sign of zero.
    let zero = b.zero(b.ty(x));
    let is_zero = b.cmp(Cmp::Eq, x, zero);
    b.select(is_zero, x, result)
}

/// Cosine, at most [`TRIG_ULP`] up to [`TRIG_LIMIT`]; NaN at infinity.
pub fn cos(b: &mut KernelBuilder, x: Value) -> Value {
    by_width(b, x, |b, x| sin_quadrant(b, x, 1), |b, x| math64::sin_quadrant(b, x, 1))
}

/// `sin(x + shift π/2)`: reduction to `[-π/4, π/4]` and polynomials in `f64` (as in FreeBSD's `sinf`).
fn sin_quadrant(b: &mut KernelBuilder, x: Value, shift: i64) -> Value {
    let x = b.cvt(Cvt::Promote, x, Elem::F64);
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I64);
    let two_over_pi = b.number(std::f64::consts::FRAC_2_PI, ty);
    let magic = b.number(MAGIC_F64, ty);
    let scaled = b.mul(x, two_over_pi);
    let rounded = b.add(scaled, magic);
    let n = b.sub(rounded, magic);
    let quadrant = b.bitcast(rounded, int);
    let shift = b.int(shift, int);
    let quadrant = b.add(quadrant, shift);
    let (high, low) = (b.number(-1.570_796_310_901_641_8, ty), b.number(-1.589_325_477_352_819_7e-8, ty));
    let r = b.muladd(n, high, x);
    let r = b.muladd(n, low, r);
    let z = b.mul(r, r);
    let s = poly(
        b,
        z,
        &[2.718_311_493_989_822e-6, -1.983_933_483_609_663_2e-4, 8.333_329_385_889_463e-3, -0.166_666_666_416_265_24],
    );
    let s = b.mul(s, z);
    let s = b.muladd(s, r, r);
    let c = poly(
        b,
        z,
        &[2.439_044_879_627_741e-5, -1.388_676_377_460_993e-3, 4.166_662_332_373_906e-2, -0.499_999_997_251_031, 1.0],
    );
    let (one, two) = (b.int(1, int), b.int(2, int));
    let zero = b.zero(int);
    let odd = b.bin(BinOp::And, quadrant, one);
    let odd = b.cmp(Cmp::Ne, odd, zero);
    let result = b.select(odd, c, s);
    let back = b.bin(BinOp::And, quadrant, two);
    let back = b.cmp(Cmp::Ne, back, zero);
    let negated = b.un(UnOp::Neg, result);
    let result = b.select(back, negated, result);
    b.cvt(Cvt::Demote, result, Elem::F32)
}

/// `x^y`, at most [`POW_ULP`], with the special cases of C's `pow`.
///
/// Computed as `2^(y log2 |x|)` in `f64`.
pub fn pow(b: &mut KernelBuilder, x: Value, y: Value) -> Value {
    if b.ty(x).elem == Elem::F64 {
        return math64::pow(b, x, y);
    }
    let (x, y) = (b.cvt(Cvt::Promote, x, Elem::F64), b.cvt(Cvt::Promote, y, Elem::F64));
    let magnitude = b.un(UnOp::Abs, x);
    let logarithm = log2_f64(b, magnitude);
    let exponent = b.mul(y, logarithm);
    let result = exp2_f64(b, exponent);
    let result = power_cases(b, x, y, result);
    b.cvt(Cvt::Demote, result, Elem::F32)
}

/// `x^y` of `f64` lanes from the power of `|x|`: signs, and the special cases of C's `pow`.
pub(super) fn power_cases(b: &mut KernelBuilder, x: Value, y: Value, result: Value) -> Value {
    let ty = b.ty(x);
    let magnitude = b.un(UnOp::Abs, x);
    let (one, zero, half) = (b.number(1.0, ty), b.zero(ty), b.number(0.5, ty));
    // 1^y and x^0 are 1 whatever the other is.
    let is_one = b.cmp(Cmp::Eq, magnitude, one);
    let is_flat = b.cmp(Cmp::Eq, y, zero);
    let positive_one = b.cmp(Cmp::Eq, x, one);
    let ordered = b.cmp(Cmp::Eq, y, y);
    let unit = b.bin(BinOp::And, is_one, ordered);
    let unit = b.bin(BinOp::Or, unit, is_flat);
    let unit = b.bin(BinOp::Or, unit, positive_one);
    let result = b.select(unit, one, result);
    let floor = b.un(UnOp::Floor, y);
    let whole = b.cmp(Cmp::Eq, floor, y);
    let halved = b.mul(y, half);
    let floor = b.un(UnOp::Floor, halved);
    let odd = b.cmp(Cmp::Ne, floor, halved);
    let odd = b.bin(BinOp::And, odd, whole);
    let negative = b.bitcast(x, ty.mask());
    let flip = b.bin(BinOp::And, odd, negative);
    let flipped = b.un(UnOp::Neg, result);
    let result = b.select(flip, flipped, result);
    // A finite number below zero has no broken power.
    let infinity = b.number(f64::INFINITY, ty);
    let below = b.cmp(Cmp::Lt, x, zero);
    let finite = b.cmp(Cmp::Lt, magnitude, infinity);
    let broken = b.un(UnOp::Not, whole);
    let undefined = b.bin(BinOp::And, below, finite);
    let undefined = b.bin(BinOp::And, undefined, broken);
    let nan = b.number(f64::NAN, ty);
    b.select(undefined, nan, result)
}

/// `log2` of a non-negative `f64` that is 0, infinity, NaN or normal; relative error about 1e-15.
///
/// `m` in `[√½, √2)`, `ln m = 2 atanh((m - 1) / (m + 1))` by its series.
fn log2_f64(b: &mut KernelBuilder, x: Value) -> Value {
    let ty: Type = b.ty(x);
    let (e, m) = normal_parts(b, x);
    let one = b.number(1.0, ty);
    let (top, bottom) = (b.sub(m, one), b.add(m, one));
    let s = b.div(top, bottom);
    let z = b.mul(s, s);
    let scale = 2.0 * std::f64::consts::LOG2_E;
    let series: Vec<f64> = (0..10).rev().map(|k| scale / f64::from(2 * k + 1)).collect();
    let p = poly(b, z, &series);
    let result = b.muladd(p, s, e);
    let (zero, infinity, minus_infinity) = (b.zero(ty), b.number(f64::INFINITY, ty), b.number(f64::NEG_INFINITY, ty));
    let ordinary = b.cmp(Cmp::Lt, x, infinity);
    let result = b.select(ordinary, result, x);
    let is_zero = b.cmp(Cmp::Eq, x, zero);
    b.select(is_zero, minus_infinity, result)
}

/// `e` and `m` in `[√½, √2)` with `x = 2^e m`, of a normal `f64` above zero.
fn normal_parts(b: &mut KernelBuilder, x: Value) -> (Value, Value) {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I64);
    let bits = b.bitcast(x, int);
    let root_half = b.int(0x3fe6_a09e_667f_3bcd, int);
    let above = b.sub(bits, root_half);
    let e_int = b.shift(Shift::RightS, above, 52);
    let e_bits = b.shift(Shift::Left, e_int, 52);
    let m_bits = b.sub(bits, e_bits);
    let m = b.bitcast(m_bits, ty);
    let magic_bits = b.int(MAGIC_F64.to_bits() as i64, int);
    let magic = b.number(MAGIC_F64, ty);
    let e = b.add(e_int, magic_bits);
    let e = b.bitcast(e, ty);
    (b.sub(e, magic), m)
}

/// As [`normal_parts`], of a subnormal number too.
pub(super) fn exponent_and_fraction(b: &mut KernelBuilder, x: Value) -> (Value, Value) {
    let ty = b.ty(x);
    let least = b.number(f64::MIN_POSITIVE, ty);
    let subnormal = b.cmp(Cmp::Lt, x, least);
    let up = b.number(2f64.powi(54), ty);
    let raised = b.mul(x, up);
    let scaled = b.select(subnormal, raised, x);
    let (e, m) = normal_parts(b, scaled);
    let (low, zero) = (b.number(-54.0, ty), b.zero(ty));
    let offset = b.select(subnormal, low, zero);
    (b.add(e, offset), m)
}

/// `2^x` in `f64` for results in the range of `f32`, saturating beyond; relative error about 1e-13.
fn exp2_f64(b: &mut KernelBuilder, x: Value) -> Value {
    let ty = b.ty(x);
    let int = ty.with_elem(Elem::I64);
    let x = clamp(b, x, -300.0, 300.0);
    let magic = b.number(MAGIC_F64, ty);
    let shifted = b.add(x, magic);
    let n = b.sub(shifted, magic);
    let bits = b.bitcast(shifted, int);
    let magic_bits = b.int(MAGIC_F64.to_bits() as i64, int);
    let n_int = b.sub(bits, magic_bits);
    let f = b.sub(x, n);
    let ln2 = b.number(std::f64::consts::LN_2, ty);
    let r = b.mul(f, ln2);
    let mut series = vec![1.0];
    for k in 1..=11u32 {
        series.push(series[k as usize - 1] / f64::from(k));
    }
    series.reverse();
    let p = poly(b, r, &series);
    let scale = power_of_two(b, n_int);
    b.mul(p, scale)
}
