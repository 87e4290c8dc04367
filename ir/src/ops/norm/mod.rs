//! Normalisations and functions of whole rows.

mod eval;
mod rows;

use super::op;

use crate::attrs::F64;

pub(super) use rows::softmax;

op! {
    /// `exp(x - max) / Σ exp(x - max)` over axes `axis..`, or one axis. Source: ONNX `Softmax`, opsets 1, 11, 13.
    pub struct Softmax = "softmax" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// Opsets below 13: all axes from `axis` on form one row.
        flatten: bool,
    }
}

op! {
    /// `x - max - ln Σ exp(x - max)`; axes as for [`Softmax`]. Source: ONNX `LogSoftmax`.
    pub struct LogSoftmax = "log_softmax" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// All axes from `axis` on form one row.
        flatten: bool,
    }
}

op! {
    /// 1 at the first largest element of each row, else 0; axes as for [`Softmax`]. Source: ONNX `Hardmax`.
    pub struct Hardmax = "hardmax" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// All axes from `axis` on form one row.
        flatten: bool,
    }
}

op! {
    /// `(x - mean) / √(var + epsilon) · scale + bias`, per channel (axis 1); operands `x, scale, bias, mean, var`.
    ///
    /// Source: ONNX `BatchNormalization` in inference mode.
    pub struct BatchNorm = "batch_norm" (5..=5) {
        /// Added to the variance.
        epsilon: F64,
    }
}

op! {
    /// Normalises over axes `axis..`, then `· scale + bias`; operands `x, scale, bias?`; one result.
    ///
    /// Source: ONNX `LayerNormalization` (opset 17) without its `Mean` and `InvStdDev` outputs.
    pub struct LayerNorm = "layer_norm" (2..=3) {
        /// Non-negative.
        axis: usize,
        /// Added to the variance.
        epsilon: F64,
    }
}

op! {
    /// `x / √(mean(x²) + epsilon) · scale` over axes `axis..`; operands `x, scale`. Source: ONNX `RMSNormalization` (opset 23).
    pub struct RmsNorm = "rms_norm" (2..=2) {
        /// Non-negative.
        axis: usize,
        /// Added to the mean square.
        epsilon: F64,
    }
}

op! {
    /// Normalises each `[n, c]` slice; operands `x, scale, bias`. Source: ONNX `InstanceNormalization`.
    pub struct InstanceNorm = "instance_norm" (3..=3) {
        /// Added to the variance.
        epsilon: F64,
    }
}

op! {
    /// Normalises groups of channels; operands `x, scale[c], bias[c]`. Source: ONNX `GroupNormalization` (opset 21).
    pub struct GroupNorm = "group_norm" (3..=3) {
        /// Added to the variance.
        epsilon: F64,
        /// Divides the channels.
        groups: i64,
    }
}

op! {
    /// `x / (Σ |x|^p)^(1/p)` along an axis, 0 where the norm is 0. Source: ONNX `LpNormalization`.
    pub struct LpNorm = "lp_norm" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// 1 or 2.
        p: i64,
    }
}

op! {
    /// `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` neighbouring channels. Source: ONNX `LRN`.
    pub struct Lrn = "lrn" (1..=1) {
        /// Scale.
        alpha: F64,
        /// Exponent.
        beta: F64,
        /// Offset.
        bias: F64,
        /// Channels in the sum.
        size: i64,
    }
}

#[cfg(test)]
mod tests;
