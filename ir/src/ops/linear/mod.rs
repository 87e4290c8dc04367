//! Convolutions and matrix products.

mod conv;
mod einsum;
mod product;
mod winograd;

use super::op;

pub(super) use conv::{convolve, infer_conv};
pub use einsum::EinsumAxes;
pub(super) use product::{infer_product, multiply};
pub use winograd::WINDOW as WINOGRAD_WINDOW;

use std::sync::Arc;

use crate::attrs::F64;

op! {
    /// Convolution over any number of spatial axes (cross-correlation: the kernel is not flipped).
    ///
    /// - `x`: `T[n, ci, spatial...]`, `w`: `T[co, ci / group, kernel...]`, `bias` (optional): `T[co]`.
    /// - result: `T[n, co, out...]`, `out = (in + pads[i] + pads[i + r] - dilation · (kernel - 1) - 1) / stride + 1`.
    /// - rounding: floating sums in `f64` in the interpreter, one rounding at the end.
    ///
    /// Source: ONNX `Conv`, opsets 1, 11, 22; `auto_pad` is resolved at import.
    pub struct Conv = "conv" (2..=3) {
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one. May be negative (cropping).
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Divides `ci` and `co`.
        group: i64,
    }
}

op! {
    /// Convolution of 3x3 windows, stride 1, by minimal filtering: fewer multiplications, larger rounding errors.
    ///
    /// - `x`: `f32[n, ci, h, w]`, `w`: `f32[co, ci, 3, 3]`, as of [`Conv`], not transformed; `bias` (optional): `f32[co]`.
    /// - result: that of the [`Conv`] with these pads.
    /// - rounding: that of kernels is [`NORM_WINOGRAD`](crate::exact::NORM_WINOGRAD); the interpreter sums in `f64` and rounds
    ///   once. What is infinite makes all outputs of its tiles NaN.
    ///
    /// Source: Lavin and Gray, arXiv 1509.09308.
    pub struct WinogradConv = "winograd_conv" (2..=3) {
        /// Outputs of a tile along each axis: 2 or 4.
        tile: i64,
        /// Begin of both spatial axes, then end. May be negative (cropping).
        pads: Vec<i64>,
    }
}

op! {
    /// Transposed convolution.
    ///
    /// - `x`: `T[n, ci, spatial...]`, `w`: `T[ci, co / group, kernel...]`, `bias` (optional): `T[co]`.
    /// - result: `T[n, co, out...]`, `out = stride · (in - 1) + output_padding + dilation · (kernel - 1) + 1 - pads`.
    ///
    /// Source: ONNX `ConvTranspose`; `auto_pad` and `output_shape` are resolved at import.
    pub struct ConvTranspose = "conv_transpose" (2..=3) {
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Added at the end of every spatial axis of the result.
        output_padding: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Divides `ci` and `co`.
        group: i64,
    }
}

op! {
    /// Matrix product with NumPy's rules: rank 1 operands get a unit axis, leading axes broadcast.
    ///
    /// - `a`: `T[..., m, k]`, `b`: `T[..., k, n]` (or with the last two axes swapped), result `T[..., m, n]`.
    ///
    /// Source: ONNX `MatMul`; the flags come from rewrites (a transpose that moved in).
    pub struct MatMul = "matmul" (2..=2) {
        /// `a` is `[..., k, m]`; then its rank is at least 2.
        trans_a: bool,
        /// `b` is `[..., n, k]`; then its rank is at least 2.
        trans_b: bool,
    }
}

op! {
    /// `alpha · A·B + beta · C` on matrices; `c` (optional) broadcasts to `[m, n]`. Source: ONNX `Gemm`.
    pub struct Gemm = "gemm" (2..=3) {
        /// Scale of the product.
        alpha: F64,
        /// Scale of `c`.
        beta: F64,
        /// `a` is `[k, m]`.
        trans_a: bool,
        /// `b` is `[n, k]`.
        trans_b: bool,
    }
}

op! {
    /// Sum of products in Einstein's notation. Source: ONNX `Einsum`.
    pub struct Einsum = "einsum" (1..=64) {
        /// Lower-case letters, `...` allowed, blanks removed, the result written out (`ij,jk->ik`).
        equation: Arc<str>,
    }
}

#[cfg(test)]
mod tests;
