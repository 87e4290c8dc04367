//! Integer forms; scales and zero points are operands and may be computed.

use super::op;

use crate::quant::Requantize;
use crate::types::DType;

op! {
    /// `sat(round_half_even(x / scale) + zero_point)`; operands `x, scale, zero_point?`.
    ///
    /// Scale and zero point are scalars (per tensor), `[x.shape[axis]]`, or have `x`'s rank with `axis` divided by `block`.
    /// Source: ONNX `QuantizeLinear`, opsets 10, 13, 19, 21, 23.
    pub struct Quantize = "quantize" (2..=3) {
        /// Axis of the scales (irrelevant per tensor).
        axis: usize,
        /// Elements that share a scale along the axis; 0 when not blocked.
        block: usize,
        /// Integer dtype of the result.
        to: DType,
    }
}

op! {
    /// `(x - zero_point) · scale`; operands as for [`Quantize`]; the result has the scale's dtype. Source: ONNX `DequantizeLinear`.
    pub struct Dequantize = "dequantize" (2..=3) {
        /// Axis of the scales (irrelevant per tensor).
        axis: usize,
        /// Elements that share a scale along the axis; 0 when not blocked.
        block: usize,
    }
}

op! {
    /// Results `y: u8`, `scale: f32[]`, `zero_point: u8[]` from the range of `x`. Source: ONNX `DynamicQuantizeLinear`.
    pub struct DynamicQuantize = "dynamic_quantize" (1..=1) {}
}

op! {
    /// `Σ (a - a_zero) · (b - b_zero)` in `i32` (wrapping); operands `a, b, a_zero?, b_zero?`. Source: ONNX `MatMulInteger`.
    pub struct MatMulInteger = "matmul_integer" (2..=4) {}
}

op! {
    /// Convolution of integers in `i32` (wrapping); operands `x, w, x_zero?, w_zero?`. Source: ONNX `ConvInteger`.
    pub struct ConvInteger = "conv_integer" (2..=4) {
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one; filled with `x_zero`.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Divides channels in and out.
        group: i64,
    }
}

op! {
    /// Quantized convolution; operands `x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias?`. Source: ONNX `QLinearConv`.
    pub struct QLinearConv = "qlinear_conv" (8..=9) {
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one; filled with `x_zero`.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Divides channels in and out.
        group: i64,
        /// How the accumulator is requantized.
        contract: Requantize,
    }
}

op! {
    /// Quantized matrix product; operands `a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero`. Source: ONNX `QLinearMatMul`.
    pub struct QLinearMatMul = "qlinear_matmul" (8..=8) {
        /// How the accumulator is requantized.
        contract: Requantize,
    }
}
