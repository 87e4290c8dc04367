//! Elementwise functions of one operand without parameters.

use super::op;
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
