//! Elementwise functions of one operand without parameters.

use super::math::{Ring, erf, sigmoid, softplus};
use super::shape::need_dtype;
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::{word_attribute, word_enum};

word_enum! {
    /// A function of one element. Floating results are the correctly rounded value of the real function in the interpreter.
    pub enum UnaryFn {
        /// The operand itself.
        Identity = "identity",
        /// `-x`; integers wrap.
        Neg = "neg",
        /// `|x|`; integers wrap.
        Abs = "abs",
        /// `max(0, x)`, keeping NaN.
        Relu = "relu",
        /// `1 / (1 + exp(-x))`.
        Sigmoid = "sigmoid",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Exponential.
        Exp = "exp",
        /// Natural logarithm.
        Log = "log",
        /// Square root.
        Sqrt = "sqrt",
        /// `1 / x`.
        Reciprocal = "reciprocal",
        /// Error function.
        Erf = "erf",
        /// Towards minus infinity.
        Floor = "floor",
        /// Towards plus infinity.
        Ceil = "ceil",
        /// To nearest, ties to even.
        Round = "round",
        /// -1, 0 or 1; NaN stays.
        Sign = "sign",
        /// Sine.
        Sin = "sin",
        /// Cosine.
        Cos = "cos",
        /// Tangent.
        Tan = "tan",
        /// Inverse sine.
        Asin = "asin",
        /// Inverse cosine.
        Acos = "acos",
        /// Inverse tangent.
        Atan = "atan",
        /// Hyperbolic sine.
        Sinh = "sinh",
        /// Hyperbolic cosine.
        Cosh = "cosh",
        /// Inverse hyperbolic sine.
        Asinh = "asinh",
        /// Inverse hyperbolic cosine.
        Acosh = "acosh",
        /// Inverse hyperbolic tangent.
        Atanh = "atanh",
        /// `ln(1 + exp(x))`.
        Softplus = "softplus",
        /// `x / (1 + |x|)`.
        Softsign = "softsign",
        /// `x · max(0, min(1, x / 6 + 0.5))`.
        HardSwish = "hard_swish",
        /// `x · tanh(softplus(x))`.
        Mish = "mish",
        /// Logical not of `bool`.
        Not = "not",
        /// Bitwise not of integers.
        BitNot = "bit_not",
        /// Whether it is NaN: `bool`.
        IsNan = "is_nan",
    }
}
word_attribute!(UnaryFn);

op! {
    /// Applies a function to every element; `T[...]` to `T[...]` (`bool[...]` for `is_nan`).
    ///
    /// Source: the ONNX operator of the same name.
    pub struct Unary = "unary" (1..=1) {
        /// Which one.
        function: UnaryFn,
    }
}

impl UnaryFn {
    fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::Identity => true,
            Self::Neg | Self::Abs | Self::Relu | Self::Sign => dtype.is_number(),
            Self::Not => dtype == DType::Bool,
            Self::BitNot => dtype.is_int(),
            _ => dtype.is_float(),
        }
    }

    fn accepted(self) -> &'static str {
        match self {
            Self::Identity => "any type",
            Self::Neg | Self::Abs | Self::Relu | Self::Sign => "a floating-point or integer type",
            Self::Not => "bool",
            Self::BitNot => "an integer type",
            _ => "a floating-point type",
        }
    }

    /// The function on integers, for those that take them.
    fn on_int(self, x: i128) -> i128 {
        match self {
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Relu => x.max(0),
            Self::Sign => x.signum(),
            Self::Not => 1 - x,
            Self::BitNot => !x,
            _ => x,
        }
    }

    /// The function on `f64`, correct to a few units in its last place.
    fn on_f64(self, x: f64) -> f64 {
        match self {
            Self::Identity | Self::Not | Self::BitNot => x,
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Relu => x.larger(0.0),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Reciprocal => 1.0 / x,
            Self::Erf => erf(x),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Sign if x.is_nan() => x,
            Self::Sign => f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Asinh => x.asinh(),
            Self::Acosh => x.acosh(),
            Self::Atanh => x.atanh(),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::HardSwish => x * (x / 6.0 + 0.5).smaller(1.0).larger(0.0),
            Self::Mish => x * softplus(x).tanh(),
            Self::IsNan => f64::from(u8::from(x.is_nan())),
        }
    }
}

impl OpDef for Unary {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_dtype(0, x, |d| self.function.accepts(d), self.function.accepted())?;
        let dtype = if self.function == UnaryFn::IsNan { DType::Bool } else { x.dtype };
        Ok(vec![TensorType::new(dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let function = self.function;
        if function == UnaryFn::Identity {
            return Ok(vec![x.clone()]);
        }
        if x.dtype().is_float() {
            let values: Vec<f64> = x.to_f64().into_iter().map(|v| function.on_f64(v)).collect();
            return Ok(vec![Tensor::from_f64(types[0].dtype, x.shape(), &values)]);
        }
        let values: Vec<i128> = x.to_ints().into_iter().map(|v| function.on_int(v)).collect();
        Ok(vec![i128::store(x.dtype(), x.shape(), &values)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn apply(function: UnaryFn, x: &Tensor) -> Tensor {
        Op::from(Unary { function }).eval(&[Some(x)], &|_| None).unwrap().pop().unwrap()
    }

    #[test]
    fn floats() {
        use UnaryFn::*;
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let cases: &[(UnaryFn, &[f32], &[f32])] = &[
            (Relu, &[-1.0, -0.0, 2.0, nan, -inf], &[0.0, 0.0, 2.0, nan, 0.0]),
            (Sign, &[-3.0, 0.0, 5.0, nan], &[-1.0, 0.0, 1.0, nan]),
            (Round, &[0.5, 1.5, -2.5, 2.6], &[0.0, 2.0, -2.0, 3.0]),
            (Sigmoid, &[0.0, -200.0, 200.0], &[0.5, 0.0, 1.0]),
            (Sqrt, &[4.0, 2.0, -1.0], &[2.0, std::f32::consts::SQRT_2, nan]),
            (Erf, &[0.5, -1.0], &[0.520_499_9, -0.842_700_8]),
            (Softplus, &[0.0, 100.0], &[std::f32::consts::LN_2, 100.0]),
            (HardSwish, &[-4.0, 3.0, 1.0], &[0.0, 3.0, 0.666_666_7]),
            (Reciprocal, &[0.0, -0.0, 3.0], &[inf, -inf, 0.333_333_34]),
            (Mish, &[1.0], &[0.865_098_4]),
        ];
        for (function, x, expected) in cases {
            let found = apply(*function, &Tensor::from_f32(&[x.len()], x)).to_f64();
            for (f, e) in found.iter().zip(*expected) {
                assert!(*f == f64::from(*e) || (f.is_nan() && e.is_nan()), "{function}: {found:?}, not {expected:?}");
            }
        }
    }

    #[test]
    fn integers_wrap_and_bools_flip() {
        let x = Tensor::from_ints(DType::I8, &[3], &[-128, 5, 0]);
        assert_eq!(apply(UnaryFn::Neg, &x).to_ints(), [-128, -5, 0]);
        assert_eq!(apply(UnaryFn::Abs, &x).to_ints(), [-128, 5, 0]);
        assert_eq!(apply(UnaryFn::BitNot, &Tensor::from_ints(DType::U8, &[1], &[1])).to_ints(), [254]);
        assert_eq!(apply(UnaryFn::Not, &Tensor::from_ints(DType::Bool, &[2], &[0, 1])).to_ints(), [1, 0]);
        assert_eq!(apply(UnaryFn::IsNan, &Tensor::from_f32(&[2], &[f32::NAN, 1.0])).to_ints(), [1, 0]);
        assert!(Op::from(Unary { function: UnaryFn::Exp }).infer(&[Some(&x.ty())]).is_err());
    }
}
