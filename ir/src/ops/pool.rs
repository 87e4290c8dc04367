//! Pooling over windows of spatial axes.

use super::op;

op! {
    /// Largest element of each window; padding never wins; `x`: `T[n, c, spatial...]`.
    ///
    /// Source: ONNX `MaxPool` without the `Indices` output; `auto_pad` and `ceil_mode` are resolved into `pads` at import.
    pub struct MaxPool = "max_pool" (1..=1) {
        /// Window per spatial axis.
        kernel: Vec<i64>,
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
    }
}

op! {
    /// Mean of each window; `x`: `T[n, c, spatial...]`.
    ///
    /// Source: ONNX `AveragePool`. `pads` are what ONNX calls pads; the extra rows of `ceil_mode` are in `ceil_pads`,
    /// which never count towards the divisor.
    pub struct AveragePool = "average_pool" (1..=1) {
        /// Window per spatial axis.
        kernel: Vec<i64>,
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Further padding at the end of every spatial axis.
        ceil_pads: Vec<i64>,
        /// Padding (not `ceil_pads`) counts towards the divisor.
        count_include_pad: bool,
    }
}

op! {
    /// `(Σ |x|^p)^(1/p)` over each window. Source: ONNX `LpPool`.
    pub struct LpPool = "lp_pool" (1..=1) {
        /// Window per spatial axis.
        kernel: Vec<i64>,
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// The exponent.
        p: i64,
    }
}
