//! Transcendental functions as kernel code, lane by lane, without tables or calls.
//!
//! Each takes and returns `f32` lanes (`f64` lanes are computed in `f32` precision only where stated) and keeps to the
//! error bound in its documentation, which the tests check over all exponents, infinities and NaN.

use super::build::KernelBuilder;
use super::ir::{BinOp, Cmp, Cvt, Shift, UnOp, Value};
use super::types::Elem;

/// Works in `f32`: wider lanes are narrowed, and the result widened again.
fn in_f32(b: &mut KernelBuilder, x: Value, f: impl FnOnce(&mut KernelBuilder, Value) -> Value) -> Value {
    if b.ty(x).elem == Elem::F64 {
        let narrow = b.cvt(Cvt::Demote, x, Elem::F32);
        let y = f(b, narrow);
        return b.cvt(Cvt::Promote, y, Elem::F64);
    }
    f(b, x)
}

fn polynomial(b: &mut KernelBuilder, x: Value, coefficients: &[f64]) -> Value {
    let ty = b.ty(x);
    let mut sum = b.number(coefficients[0], ty);
    for &c in &coefficients[1..] {
        let c = b.number(c, ty);
        sum = b.muladd(sum, x, c);
    }
    sum
}

/// `2^n` for integral `n` in -126..=127, as floats.
fn exp2_int(b: &mut KernelBuilder, n: Value) -> Value {
    let ty = b.ty(n);
    let int = b.cvt(Cvt::ToS, n, Elem::I32);
    let bias = b.int(127, ty.with_elem(Elem::I32));
    let biased = b.add(int, bias);
    let bits = b.shift(Shift::Left, biased, 23);
    b.bitcast(bits, ty)
}

/// Exponential of `f32` lanes: 2 ulp; 0 below about -103.97, infinity above 88.73, NaN stays.
///
/// Source: Cody and Waite's reduction, Taylor series of degree 7 on ±ln2/2.
pub fn exp(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| {
        let ty = b.ty(x);
        let (low, high) = (b.number(-104.0, ty), b.number(89.0, ty));
        // Written so that a NaN stays.
        let clamped = b.bin(BinOp::MaxSel, low, x);
        let clamped = b.bin(BinOp::MinSel, high, clamped);
        let log2e = b.number(std::f64::consts::LOG2_E, ty);
        let scaled = b.mul(clamped, log2e);
        let n = b.un(UnOp::Nearest, scaled);
        let (ln2_high, ln2_low) = (b.number(-0.693359375, ty), b.number(2.12194440e-4, ty));
        let r = b.muladd(n, ln2_high, clamped);
        let r = b.muladd(n, ln2_low, r);
        let p = polynomial(b, r, &[1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
        // Two steps, so that neither factor leaves the normal range.
        let half = b.number(0.5, ty);
        let halved = b.mul(n, half);
        let first = b.un(UnOp::Floor, halved);
        let second = b.sub(n, first);
        let (first, second) = (exp2_int(b, first), exp2_int(b, second));
        let scaled = b.mul(p, first);
        b.mul(scaled, second)
    })
}

/// Natural logarithm of `f32` lanes: 2 ulp; minus infinity at 0, NaN below 0.
///
/// Source: `log(1 + f)` on √½..√2 as in Cephes' `logf`.
pub fn log(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| {
        let ty = b.ty(x);
        let int_ty = ty.with_elem(Elem::I32);
        // Denormals are scaled up by 2^23 first.
        let (tiny, up) = (b.number(f64::from(f32::MIN_POSITIVE), ty), b.number(8_388_608.0, ty));
        let small = b.cmp(Cmp::Lt, x, tiny);
        let scaled = b.mul(x, up);
        let normal = b.select(small, scaled, x);
        let bits = b.bitcast(normal, int_ty);
        // Exponent and mantissa such that the mantissa lies in √½..√2.
        let offset = b.int(0x3f35_04f3, int_ty);
        let moved = b.bin(BinOp::Sub, bits, offset);
        let exponent = b.shift(Shift::RightS, moved, 23);
        let back = b.shift(Shift::Left, exponent, 23);
        let mantissa_bits = b.bin(BinOp::Sub, bits, back);
        let mantissa = b.bitcast(mantissa_bits, ty);
        let e = b.convert(exponent, true, Elem::F32);
        let (lift, zero) = (b.number(23.0, ty), b.zero(ty));
        let lifted = b.select(small, lift, zero);
        let e = b.sub(e, lifted);
        let one = b.number(1.0, ty);
        let f = b.sub(mantissa, one);
        let p = polynomial(
            b,
            f,
            &[
                7.0376836292e-2,
                -1.1514610310e-1,
                1.1676998740e-1,
                -1.2420140846e-1,
                1.4249322787e-1,
                -1.6668057665e-1,
                2.0000714765e-1,
                -2.4999993993e-1,
                3.3333331174e-1,
            ],
        );
        let square = b.mul(f, f);
        let cube = b.mul(square, f);
        let y = b.mul(p, cube);
        let (ln2_low, ln2_high, minus_half) =
            (b.number(-2.12194440e-4, ty), b.number(0.693359375, ty), b.number(-0.5, ty));
        let y = b.muladd(e, ln2_low, y);
        let y = b.muladd(square, minus_half, y);
        let y = b.add(f, y);
        let y = b.muladd(e, ln2_high, y);
        let infinity = b.number(f64::INFINITY, ty);
        let finite = b.cmp(Cmp::Lt, x, infinity);
        let y = b.select(finite, y, x);
        let (minus_infinity, nan) = (b.number(f64::NEG_INFINITY, ty), b.number(f64::NAN, ty));
        let is_zero = b.cmp(Cmp::Eq, x, zero);
        let y = b.select(is_zero, minus_infinity, y);
        let negative = b.cmp(Cmp::Lt, x, zero);
        b.select(negative, nan, y)
    })
}

/// Hyperbolic tangent of `f32` lanes: 4 ulp.
///
/// Near zero an odd polynomial, elsewhere `1 - 2 / (exp(2|x|) + 1)`.
pub fn tanh(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| {
        let ty = b.ty(x);
        let magnitude = b.un(UnOp::Abs, x);
        let square = b.mul(x, x);
        let p = polynomial(
            b,
            square,
            &[-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1],
        );
        let cube = b.mul(square, x);
        let small = b.muladd(p, cube, x);
        let twice = b.add(magnitude, magnitude);
        let e = exp(b, twice);
        let (one, two) = (b.number(1.0, ty), b.number(2.0, ty));
        let below = b.add(e, one);
        let part = b.div(two, below);
        let large = b.sub(one, part);
        let negative_large = b.un(UnOp::Neg, large);
        let zero = b.zero(ty);
        let is_negative = b.cmp(Cmp::Lt, x, zero);
        let large = b.select(is_negative, negative_large, large);
        let limit = b.number(0.625, ty);
        let is_small = b.cmp(Cmp::Lt, magnitude, limit);
        b.select(is_small, small, large)
    })
}

/// Logistic sigmoid of `f32` lanes, `1 / (1 + exp(-x))`: 4 ulp above the underflow of `exp`.
pub fn sigmoid(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| {
        let minus = b.un(UnOp::Neg, x);
        let e = exp(b, minus);
        let one = b.number(1.0, b.ty(x));
        let below = b.add(e, one);
        b.div(one, below)
    })
}

/// Error function of `f32` lanes: 1e-7 absolute, and 1e-6 relative near zero.
///
/// A series up to 1; beyond, `1 - exp(-x²) · q(1 / (1 + p x))` (Abramowitz and Stegun 7.1.26 with more terms, by W. J. Cody's
/// form for `erfc`).
pub fn erf(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| {
        let ty = b.ty(x);
        let magnitude = b.un(UnOp::Abs, x);
        let square = b.mul(x, x);
        // 2/√π Σ (-1)^n x^(2n+1) / (n! (2n+1)), to n = 10: below 1e-8 up to |x| = 1.
        let scale = std::f64::consts::FRAC_2_SQRT_PI;
        let mut factorial = 1.0;
        let mut series: Vec<f64> = Vec::new();
        for n in 0..=10 {
            if n > 0 {
                factorial *= f64::from(n);
            }
            let sign = if n % 2 == 0 { 1.0 } else { -1.0 };
            series.push(scale * sign / (factorial * f64::from(2 * n + 1)));
        }
        series.reverse();
        let p = polynomial(b, square, &series);
        let small = b.mul(p, x);
        // erfc(x) = t · exp(-x² + P(t)), t = 1 / (1 + x / 2); Numerical Recipes' `erfcc`, 1.2e-7 relative.
        let (half, one) = (b.number(0.5, ty), b.number(1.0, ty));
        let below = b.muladd(magnitude, half, one);
        let t = b.div(one, below);
        let q = polynomial(
            b,
            t,
            &[
                0.17087277,
                -0.82215223,
                1.48851587,
                -1.13520398,
                0.27886807,
                -0.18628806,
                0.09678418,
                0.37409196,
                1.00002368,
                -1.26551223,
            ],
        );
        let exponent = b.sub(q, square);
        let e = exp(b, exponent);
        let complement = b.mul(t, e);
        let large = b.sub(one, complement);
        let negative_large = b.un(UnOp::Neg, large);
        let zero = b.zero(ty);
        let is_negative = b.cmp(Cmp::Lt, x, zero);
        let large = b.select(is_negative, negative_large, large);
        let is_small = b.cmp(Cmp::Lt, magnitude, one);
        b.select(is_small, small, large)
    })
}

/// Sine of `f32` lanes: 2e-7 absolute for |x| up to 8192; the error grows with |x| beyond.
pub fn sin(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| sine(b, x, 0.0))
}

/// Cosine of `f32` lanes: 2e-7 absolute for |x| up to 8192; the error grows with |x| beyond.
pub fn cos(b: &mut KernelBuilder, x: Value) -> Value {
    in_f32(b, x, |b, x| sine(b, x, 1.0))
}

/// `sin(x + quarter · π/2)`: reduction by multiples of π/2 in three parts, then sine or cosine polynomial by quadrant.
fn sine(b: &mut KernelBuilder, x: Value, quarter: f64) -> Value {
    let ty = b.ty(x);
    let int_ty = ty.with_elem(Elem::I32);
    let two_over_pi = b.number(std::f64::consts::FRAC_2_PI, ty);
    let scaled = b.mul(x, two_over_pi);
    let n = b.un(UnOp::Nearest, scaled);
    let mut r = x;
    for part in [-1.5703125, -4.837512969970703e-4, -7.549789948768648e-8] {
        let part = b.number(part, ty);
        r = b.fma(n, part, r);
    }
    let int = b.cvt(Cvt::ToS, n, Elem::I32);
    let shift = b.int(quarter as i64, int_ty);
    let quadrant = b.add(int, shift);
    let square = b.mul(r, r);
    let s = polynomial(b, square, &[-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]);
    let cube = b.mul(square, r);
    let s = b.muladd(s, cube, r);
    let c = polynomial(b, square, &[2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]);
    let fourth = b.mul(square, square);
    let (minus_half, one) = (b.number(-0.5, ty), b.number(1.0, ty));
    let line = b.muladd(square, minus_half, one);
    let c = b.muladd(c, fourth, line);
    let (bit0, bit1, none) = (b.int(1, int_ty), b.int(2, int_ty), b.zero(int_ty));
    let odd = b.bin(BinOp::And, quadrant, bit0);
    let odd = b.cmp(Cmp::Ne, odd, none);
    let value = b.select(odd, c, s);
    let upper = b.bin(BinOp::And, quadrant, bit1);
    let upper = b.cmp(Cmp::Ne, upper, none);
    let negative = b.un(UnOp::Neg, value);
    b.select(upper, negative, value)
}

/// `x^y` of `f32` lanes, computed as `exp(y · log|x|)` in `f32`: relative error about `|y · log x| · 1e-7`.
///
/// Negative bases give NaN unless `y` is integral; `x^0` and `1^y` are 1.
pub fn pow(b: &mut KernelBuilder, x: Value, y: Value) -> Value {
    let wide = b.ty(x).elem == Elem::F64;
    let (x, y) = if wide { (b.cvt(Cvt::Demote, x, Elem::F32), b.cvt(Cvt::Demote, y, Elem::F32)) } else { (x, y) };
    let ty = b.ty(x);
    let magnitude = b.un(UnOp::Abs, x);
    let l = log(b, magnitude);
    let product = b.mul(l, y);
    let power = exp(b, product);
    let (zero, one, nan, half) = (b.zero(ty), b.number(1.0, ty), b.number(f64::NAN, ty), b.number(0.5, ty));
    // A negative base: the sign follows the parity of an integral exponent.
    let truncated = b.un(UnOp::Trunc, y);
    let integral = b.cmp(Cmp::Eq, truncated, y);
    let halved = b.mul(y, half);
    let half_truncated = b.un(UnOp::Trunc, halved);
    let odd = b.cmp(Cmp::Ne, half_truncated, halved);
    let minus = b.un(UnOp::Neg, power);
    let signed = b.select(odd, minus, power);
    let signed = b.select(integral, signed, nan);
    let negative = b.cmp(Cmp::Lt, x, zero);
    let result = b.select(negative, signed, power);
    let no_exponent = b.cmp(Cmp::Eq, y, zero);
    let unit_base = b.cmp(Cmp::Eq, x, one);
    let result = b.select(no_exponent, one, result);
    let result = b.select(unit_base, one, result);
    if wide { b.cvt(Cvt::Promote, result, Elem::F64) } else { result }
}
