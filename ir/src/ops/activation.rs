//! Elementwise functions with parameters.

use super::op;

use crate::attrs::F64;

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
