//! Elementwise functions with parameters.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::binary::zip;
use super::math::{Ring, by_ring, erfc, map_f64, sigmoid};
use super::shape::{attribute, need_broadcast_to, need_float, need_number, need_same_dtype};
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::attrs::F64;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

op! {
    /// `min(max(x, min), max)`, keeping NaN. Bounds of any dtype are exact in `f64` up to 2^53.
    ///
    /// Source: ONNX `Clip` with constant bounds, opsets 6, 11, 12, 13.
    pub struct Clip = "clip" (1..=1) {
        /// Lower bound; none when left out.
        min: Option<F64>,
        /// Upper bound; none when left out.
        max: Option<F64>,
    }
}

op! {
    /// `x` where `x >= 0`, else `alpha · x`. Source: ONNX `LeakyRelu`.
    pub struct LeakyRelu = "leaky_relu" (1..=1) {
        /// Slope below zero.
        alpha: F64,
    }
}

op! {
    /// `x` where `x >= 0`, else `alpha · (exp(x) - 1)`. Source: ONNX `Elu`.
    pub struct Elu = "elu" (1..=1) {
        /// Limit below zero, negated.
        alpha: F64,
    }
}

op! {
    /// `max(0, x) + min(0, alpha · (exp(x / alpha) - 1))`. Source: ONNX `Celu`.
    pub struct Celu = "celu" (1..=1) {
        /// Limit below zero, negated.
        alpha: F64,
    }
}

op! {
    /// `gamma · x` where `x > 0`, else `gamma · alpha · (exp(x) - 1)`. Source: ONNX `Selu`.
    pub struct Selu = "selu" (1..=1) {
        /// Limit below zero, negated, before `gamma`.
        alpha: F64,
        /// Scale.
        gamma: F64,
    }
}

op! {
    /// `max(0, min(1, alpha · x + beta))`. Source: ONNX `HardSigmoid`; HardSwish is a [`UnaryFn`](crate::ops::UnaryFn).
    pub struct HardSigmoid = "hard_sigmoid" (1..=1) {
        /// Slope.
        alpha: F64,
        /// Offset.
        beta: F64,
    }
}

op! {
    /// `x / 2 · (1 + erf(x / √2))`, or its tanh form. Source: ONNX `Gelu` (opset 20).
    pub struct Gelu = "gelu" (1..=1) {
        /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))` instead.
        tanh: bool,
    }
}

op! {
    /// `x · sigmoid(alpha · x)`. Source: ONNX `Swish` (opset 24).
    pub struct Swish = "swish" (1..=1) {
        /// Slope inside the sigmoid.
        alpha: F64,
    }
}

op! {
    /// `x` where `x > alpha`, else 0. Source: ONNX `ThresholdedRelu`.
    pub struct ThresholdedRelu = "thresholded_relu" (1..=1) {
        /// Threshold.
        alpha: F64,
    }
}

op! {
    /// `x + bias` where `x < -lambd`, `x - bias` where `x > lambd`, else 0. Source: ONNX `Shrink`.
    pub struct Shrink = "shrink" (1..=1) {
        /// Offset.
        bias: F64,
        /// Threshold.
        lambd: F64,
    }
}

op! {
    /// Whether `x` is infinite: `bool`. Source: ONNX `IsInf`.
    pub struct IsInf = "is_inf" (1..=1) {
        /// Do not count plus infinity.
        ignore_positive: bool,
        /// Do not count minus infinity.
        ignore_negative: bool,
    }
}

op! {
    /// `x` where `x >= 0`, else `slope · x`; `slope` broadcasts to `x` only. Source: ONNX `PRelu`.
    pub struct PRelu = "prelu" (2..=2) {}
}

/// One floating-point operand, a result like it.
fn infer_float(inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
    let x = inputs.need(0)?;
    need_float(0, x)?;
    Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
}

/// Operators on floating-point tensors that are a function of one element.
macro_rules! float_op {
    ($($Name:ident: |$op:ident, $x:ident| $value:expr;)*) => { $(
        impl OpDef for $Name {
            fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
                infer_float(inputs)
            }

            fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
                let $op = self;
                Ok(vec![map_f64(inputs.need(0)?, |$x| $value)])
            }
        }
    )* };
}

float_op! {
    LeakyRelu: |op, x| if x < 0.0 { op.alpha.get() * x } else { x };
    Elu: |op, x| if x < 0.0 { op.alpha.get() * x.exp_m1() } else { x };
    Celu: |op, x| if x < 0.0 { op.alpha.get() * (x / op.alpha.get()).exp_m1() } else { x };
    Selu: |op, x| op.gamma.get() * if x <= 0.0 { op.alpha.get() * x.exp_m1() } else { x };
    HardSigmoid: |op, x| (op.alpha.get() * x + op.beta.get()).smaller(1.0).larger(0.0);
    Gelu: |op, x| if op.tanh { gelu_tanh(x) } else { x / 2.0 * erfc(-x * FRAC_1_SQRT_2) };
    Swish: |op, x| x * sigmoid(op.alpha.get() * x);
    ThresholdedRelu: |op, x| if x > op.alpha.get() || x.is_nan() { x } else { 0.0 };
    Shrink: |op, x| shrink(op, x);
}

/// `x / 2 · (1 + tanh(y)) = x · sigmoid(2y)`, which does not cancel for negative `y`.
fn gelu_tanh(x: f64) -> f64 {
    x * sigmoid(2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x))
}

fn shrink(op: &Shrink, x: f64) -> f64 {
    if x < -op.lambd.get() {
        x + op.bias.get()
    } else if x > op.lambd.get() {
        x - op.bias.get()
    } else if x.is_nan() {
        x
    } else {
        0.0
    }
}

impl OpDef for Clip {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_number(0, x)?;
        for (name, bound) in [("min", self.min), ("max", self.max)] {
            if bound.is_some_and(|b| b.get().is_nan()) {
                return Err(attribute(name, "nan", "a number"));
            }
        }
        Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let Some((lowest, highest)) = x.dtype().int_range() else {
            let min = self.min.map_or(f64::NEG_INFINITY, F64::get);
            let max = self.max.map_or(f64::INFINITY, F64::get);
            return Ok(vec![map_f64(x, |v| v.larger(min).smaller(max))]);
        };
        // Bounds between integers move inwards; those outside the dtype do not bind.
        let bound = |b: f64| (b as i128).clamp(lowest, highest);
        let min = self.min.map_or(lowest, |b| bound(b.get().ceil()));
        let max = self.max.map_or(highest, |b| bound(b.get().floor()));
        let values: Vec<i128> = x.to_ints().into_iter().map(|v| v.max(min).min(max)).collect();
        Ok(vec![i128::store(x.dtype(), x.shape(), &values)])
    }
}

impl OpDef for IsInf {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let shape = infer_float(inputs)?.remove(0).shape;
        Ok(vec![TensorType::new(DType::Bool, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let counts = |v: f64| v.is_infinite() && !(if v > 0.0 { self.ignore_positive } else { self.ignore_negative });
        let values: Vec<i128> = x.to_f64().into_iter().map(|v| counts(v).into()).collect();
        Ok(vec![Tensor::from_ints(DType::Bool, x.shape(), &values)])
    }
}

impl OpDef for PRelu {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, slope) = (inputs.need(0)?, inputs.need(1)?);
        need_number(0, x)?;
        need_same_dtype(inputs)?;
        need_broadcast_to("slope", &slope.shape, &x.shape)?;
        Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![by_ring!(inputs.need(0)?.dtype(), prelu(inputs.need(0)?, inputs.need(1)?))])
    }
}

fn prelu<T: Ring>(x: &Tensor, slope: &Tensor) -> Tensor {
    let values = zip(x, slope, x.shape(), |x: T, slope: T| if x < T::ZERO { x.times(slope) } else { x });
    T::store(x.dtype(), x.shape(), &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn eval(op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|t| Some(*t)).collect();
        op.into().eval(&inputs, &|_| None).unwrap().pop().unwrap()
    }

    fn line(values: &[f32]) -> Tensor {
        Tensor::from_f32(&[values.len()], values)
    }

    #[test]
    fn floats() {
        let f = F64::new;
        let e = (-1f64).exp_m1();
        let cases: Vec<(Op, &[f32], &[f64])> = vec![
            (LeakyRelu { alpha: f(0.5) }.into(), &[-2.0, 3.0], &[-1.0, 3.0]),
            (Elu { alpha: f(2.0) }.into(), &[-1.0, 3.0], &[2.0 * -0.632_120_558_828_557_7, 3.0]),
            (Celu { alpha: f(2.0) }.into(), &[-2.0, 3.0], &[2.0 * -0.632_120_558_828_557_7, 3.0]),
            (Selu { alpha: f(1.5), gamma: f(2.0) }.into(), &[-1.0, 3.0], &[-1.896_361_676_485_673, 6.0]),
            (HardSigmoid { alpha: f(0.2), beta: f(0.5) }.into(), &[-9.0, 1.0, 9.0], &[0.0, 0.7, 1.0]),
            (
                Gelu { tanh: false }.into(),
                &[1.0, -1.0, -8.0],
                &[0.841_344_746_068_543, -0.158_655_253_931_457, -4.976_768_459e-15],
            ),
            (Gelu { tanh: true }.into(), &[1.0, -1.0], &[0.841_191_990_607_477, -0.158_808_009_392_523]),
            (Swish { alpha: f(1.0) }.into(), &[1.0], &[0.731_058_578_630_005]),
            (ThresholdedRelu { alpha: f(1.0) }.into(), &[1.0, 1.5, -2.0], &[0.0, 1.5, 0.0]),
            (Shrink { bias: f(0.5), lambd: f(1.0) }.into(), &[-2.0, 0.5, 2.0], &[-1.5, 0.0, 1.5]),
            (Clip { min: Some(f(-1.0)), max: None }.into(), &[-2.0, 9.0], &[-1.0, 9.0]),
        ];
        assert!((e + 0.632_120_558_828_557_7).abs() < 1e-16);
        for (op, x, expected) in cases {
            let found = eval(op.clone(), &[&line(x)]).to_f64();
            let near = |(f, e): (&f64, &f64)| (f - e).abs() <= 1.2e-7 * e.abs();
            assert!(found.iter().zip(expected).all(near), "{op}: {found:?}, not {expected:?}");
            assert!(eval(op.clone(), &[&line(&[f32::NAN])]).to_f64()[0].is_nan(), "{op} keeps NaN");
        }
    }

    #[test]
    fn clip_of_integers() {
        let x = Tensor::from_ints(DType::U8, &[4], &[0, 3, 7, 255]);
        let clip = |min: f64, max: f64| Clip { min: Some(min.into()), max: Some(max.into()) };
        assert_eq!(eval(clip(2.5, 6.5), &[&x]).to_ints(), [3, 3, 6, 6]);
        assert_eq!(eval(clip(-1e30, f64::INFINITY), &[&x]), x);
        assert_eq!(eval(clip(9.0, 5.0), &[&x]).to_ints(), [5; 4], "the upper bound wins");
        let nan = Op::from(Clip { min: Some(f64::NAN.into()), max: None });
        assert!(nan.infer(&[Some(&x.ty())]).is_err());
    }

    #[test]
    fn prelu_and_is_inf() {
        let x = Tensor::from_f32(&[1, 2, 2], &[-1.0, 2.0, -3.0, -4.0]);
        let slope = Tensor::from_f32(&[2, 1], &[0.5, 2.0]);
        assert_eq!(eval(PRelu {}, &[&x, &slope]).to_f64(), [-0.5, 2.0, -6.0, -8.0]);
        assert!(Op::from(PRelu {}).infer(&[Some(&slope.ty()), Some(&x.ty())]).is_err());
        let x = line(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        assert_eq!(eval(IsInf { ignore_positive: false, ignore_negative: true }, &[&x]).to_ints(), [1, 0, 0]);
    }
}
