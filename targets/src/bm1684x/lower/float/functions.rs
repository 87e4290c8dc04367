//! Functions of fp32 from the chip's arithmetic. Errors are those of fp32 with a few roundings; results go to 16 bits.

use super::super::super::isa::{Prec, Sfu};
use super::super::Lowering;
use super::super::build::{Home, Place};
use super::super::places::Source;
use super::pointwise::{ADD, DIV, MAX, MIN, MUL, SUB, bytes};
use super::select::{EQUAL, GREATER, LESS};

/// Coefficients of `exp(r)` for `r` of 0 to ln 2: the next one is below rounding.
const EXP_TERMS: usize = 10;
/// √½: fractions of what a logarithm is taken of lie between it and √2.
const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// Terms of artanh for numbers up to 0.172: the next one is below rounding.
const ARTANH_TERMS: u32 = 6;
/// Rounding down.
const FLOOR: u32 = 3;
/// ln 2 in two parts: multiples of the first by whole numbers below 2^8 are exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `erf(x) = 1 - t · (a1 + t · (a2 + ..)) · exp(-x²)` with `t = 1 / (1 + p · x)`, for x >= 0, to 1.5e-7 (Abramowitz and
/// Stegun, Handbook of Mathematical Functions, 7.1.26).
const ERF_P: f32 = 0.327_591_1;
const ERF_TERMS: [f32; 5] = [0.254_829_6, -0.284_496_72, 1.421_413_8, -1.453_152, 1.061_405_4];

impl Lowering<'_> {
    /// A polynomial of a tensor of fp32.
    fn polynomial(&mut self, x: Home, terms: &[f32]) -> Home {
        let table = self.draft.table(Prec::Fp32, &bytes(terms, Prec::Fp32));
        let result = self.float(Prec::Fp32, x.shape);
        let sfu = Sfu { opd1_n: terms.len() as u32, ..sfu(12, x) };
        let places = vec![
            ("opd0_addr", Place::Local(x.buffer, 0)),
            ("opd1_addr", Place::Local(table, 0)),
            ("res0_addr", Place::Local(result.buffer, 0)),
        ];
        self.draft.push(sfu, places);
        result
    }

    /// `exp(x)`, between exp(-87) and exp(88); overwrites the operand.
    pub(super) fn exp(&mut self, x: Home) -> Home {
        self.with_in(MAX, x, -87.0);
        self.with_in(MIN, x, 88.0);
        let power = self.with(MUL, x, std::f32::consts::LOG2_E);
        self.draft.whole(power, 3);
        for part in LN2 {
            let multiple = self.with(MUL, power, part);
            self.draft.binary(SUB, x, multiple, x);
        }
        let small = self.draft.tensor(Prec::Int16, true, x.shape);
        self.draft.convert(power, small);
        let scale = self.draft.tensor(Prec::Int32, true, x.shape);
        // 2^k is the float whose exponent is k and whose fraction is 0.
        self.draft.add_and_shift(small, 127, 23, 0, scale);
        let factorials = (1..EXP_TERMS).scan(1f64, |product, i| {
            *product *= i as f64;
            Some((1.0 / *product) as f32)
        });
        let terms: Vec<f32> = std::iter::once(1.0).chain(factorials).collect();
        let result = self.polynomial(x, &terms);
        self.draft.binary(MUL, result, Home { prec: Prec::Fp32, ..scale }, result);
        result
    }

    /// The natural logarithm, for `x = 2^k · m` with `m` around 1 as `k · ln 2 + 2 · artanh((m - 1) / (m + 1))`.
    pub(super) fn log(&mut self, x: Home) -> Home {
        let prec = Prec::Fp32;
        let bits = Home { prec: Prec::Int32, ..x };
        let [power, scaled] = [(); 2].map(|()| self.draft.tensor(Prec::Int32, true, x.shape));
        // The fraction of what is below √½ counts to the next power.
        self.draft.add_and_shift(bits, HALF_ROOT.to_bits().wrapping_neg(), -23, FLOOR, power);
        self.draft.add_and_shift(power, 0, 23, 0, scaled);
        self.draft.binary(SUB, bits, scaled, scaled);
        let m = Home { prec, ..scaled };
        let (above, below) = (self.with(ADD, m, -1.0), self.with(ADD, m, 1.0));
        self.draft.arithmetic(DIV, [Source::dense(above), Source::dense(below)], above);
        let square = self.float(prec, x.shape);
        self.draft.binary(MUL, above, above, square);
        let terms: Vec<f32> = (0..ARTANH_TERMS).map(|i| (2.0 / f64::from(2 * i + 1)) as f32).collect();
        let series = self.polynomial(square, &terms);
        self.draft.binary(MUL, series, above, series);
        let mut result = self.float(prec, x.shape);
        self.draft.convert(power, result);
        self.with_in(MUL, result, std::f32::consts::LN_2);
        self.draft.binary(ADD, result, series, result);
        // What is no number, or too large to have a fraction, shows in the product with 0.
        let zero = self.with(MUL, x, 0.0);
        self.draft.binary(ADD, result, zero, result);
        let value = |value: f32| Source::Value(value.to_bits());
        for (code, bound, instead) in
            [(GREATER, f32::MAX, f32::INFINITY), (EQUAL, 0.0, f32::NEG_INFINITY), (LESS, 0.0, f32::NAN)]
        {
            let chosen = self.float(prec, x.shape);
            self.select(code, [Source::dense(x), value(bound), value(instead), Source::dense(result)], chosen);
            result = chosen;
        }
        result
    }

    /// `1 / x`.
    pub(super) fn inverse(&mut self, x: Home) -> Home {
        let result = self.float(x.prec, x.shape);
        self.draft.arithmetic(DIV, [Source::Value(1f32.to_bits()), Source::dense(x)], result);
        result
    }

    /// `1 / (1 + exp(-alpha · x))`; overwrites the operand.
    pub(super) fn sigmoid(&mut self, x: Home, alpha: f32) -> Home {
        self.with_in(MUL, x, -alpha);
        let exp = self.exp(x);
        self.with_in(ADD, exp, 1.0);
        self.inverse(exp)
    }

    /// `x · sigmoid(alpha · x)`.
    pub(super) fn swish(&mut self, x: Home, alpha: f32) -> Home {
        let copy = self.with(MUL, x, 1.0);
        let gate = self.sigmoid(copy, alpha);
        self.draft.binary(MUL, x, gate, gate);
        gate
    }

    /// `1 - 2 / (1 + exp(2 · x))`; overwrites the operand.
    pub(super) fn tanh(&mut self, x: Home) -> Home {
        self.with_in(MUL, x, 2.0);
        let exp = self.exp(x);
        self.with_in(ADD, exp, 1.0);
        let inverse = self.inverse(exp);
        self.with_in(MUL, inverse, -2.0);
        self.with_in(ADD, inverse, 1.0);
        inverse
    }

    /// The error function; overwrites the operand.
    pub(super) fn erf(&mut self, x: Home) -> Home {
        // The sign of x: of a product that is beyond 1 but for what is as good as 0.
        let sign = self.with(MUL, x, 1e30);
        self.with_in(MIN, sign, 1.0);
        self.with_in(MAX, sign, -1.0);
        self.draft.binary(MUL, x, sign, x);
        let denominator = self.with(MUL, x, ERF_P);
        self.with_in(ADD, denominator, 1.0);
        let t = self.inverse(denominator);
        let terms = [&[0.0][..], &ERF_TERMS].concat();
        let sum = self.polynomial(t, &terms);
        let square = self.with(MUL, x, -1.0);
        self.draft.binary(MUL, square, x, square);
        let exp = self.exp(square);
        self.draft.binary(MUL, sum, exp, sum);
        self.with_in(MUL, sum, -1.0);
        self.with_in(ADD, sum, 1.0);
        self.draft.binary(MUL, sum, sign, sum);
        sum
    }

    /// `x / 2 · (1 + erf(x / √2))`.
    pub(super) fn gelu(&mut self, x: Home) -> Home {
        let scaled = self.with(MUL, x, std::f32::consts::FRAC_1_SQRT_2);
        let gate = self.erf(scaled);
        self.gated(x, gate)
    }

    /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    pub(super) fn gelu_tanh(&mut self, x: Home) -> Home {
        let inner = self.with(MUL, x, 0.044_715);
        self.draft.binary(MUL, inner, x, inner);
        self.with_in(ADD, inner, 1.0);
        self.draft.binary(MUL, inner, x, inner);
        self.with_in(MUL, inner, (2.0 / std::f64::consts::PI).sqrt() as f32);
        let gate = self.tanh(inner);
        self.gated(x, gate)
    }

    /// `x / 2 · (1 + gate)`.
    fn gated(&mut self, x: Home, gate: Home) -> Home {
        self.with_in(ADD, gate, 1.0);
        self.with_in(MUL, gate, 0.5);
        self.draft.binary(MUL, x, gate, gate);
        gate
    }

    /// `√x` as `x / √x`, 0 for 0.
    pub(super) fn root(&mut self, x: Home) -> Home {
        let result = self.inverse_root(x);
        self.draft.binary(MUL, x, result, result);
        result
    }

    /// `1 / √x`.
    pub(super) fn inverse_root(&mut self, x: Home) -> Home {
        let result = self.float(Prec::Fp32, x.shape);
        let sfu = Sfu { opd2_n_str: 3, ..sfu(17, x) };
        let places = vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))];
        self.draft.push(sfu, places);
        result
    }

    /// Rounds in place to whole numbers.
    pub(super) fn whole(&mut self, x: Home, code: u32) -> Home {
        self.draft.whole(x, code);
        x
    }
}

/// What functions have in common.
fn sfu(eu: u32, x: Home) -> Sfu {
    let [n, c, h, w] = x.shape;
    let prec = x.prec.code();
    Sfu { eu, res0_prec: prec, opd0_prec: prec, res0_n: n, res0_c: c, res0_h: h, res0_w: w, ..Sfu::default() }
}
