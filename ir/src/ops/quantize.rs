//! Integer forms; scales and zero points are operands and may be computed.

use super::shape::{Around, attribute, need_axis, need_dtype, need_rank, need_rank_from, need_shape};
use super::{Conv, EvalError, MatMul, Op, OpDef, Operands, TypeError, op};

use crate::extent::Extent;
use crate::quant::Requantize;
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

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
    /// Quantized matrix product; operands `a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, bias?`.
    ///
    /// The bias, `i32[n]` in units of `a_scale · b_scale`, is that of `QLinearConv`. Source: ONNX `QLinearMatMul`, which has none.
    pub struct QLinearMatMul = "qlinear_matmul" (8..=9) {
        /// How the accumulator is requantized.
        contract: Requantize,
    }
}

op! {
    /// `A · dequantize(W)` with weights that stay as they are stored; operands `a, w, scale, zero_point?`.
    ///
    /// - `a`: `T[..., m, k]`, `w`: integers `[k, n]`, scale and zero point on it as for [`Dequantize`]; result `T[..., m, n]`.
    ///
    /// Source: ONNX `DequantizeLinear` before `MatMul`; `MatMulNBits` of `com.microsoft`.
    pub struct MatMulStored = "matmul_stored" (3..=4) {
        /// `w` is `[n, k]`.
        trans_b: bool,
        /// Axis of the scales (irrelevant per tensor).
        axis: usize,
        /// Elements that share a scale along the axis; 0 when not blocked.
        block: usize,
    }
}

op! {
    /// Convolution with weights that stay as they are stored: [`Conv`] of `x` and `dequantize(w)`, where a channel's weights
    /// share a scale; operands `x, w, scale, zero_point?, bias?`.
    ///
    /// - `x`: `T[n, ci, in...]`, `w`: integers `[co, ci / group, kernel...]`, scale and zero point one or `[co]`; result as of [`Conv`].
    ///
    /// Source: ONNX `DequantizeLinear` before `Conv`.
    pub struct ConvStored = "conv_stored" (4..=5) {
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one. May be negative (cropping).
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Divides channels in and out.
        group: i64,
    }
}

impl ConvStored {
    /// The scales of `w`.
    const SCALES: Dequantize = Dequantize { axis: 0, block: 0 };

    /// The convolution of floats that it is.
    pub fn conv(&self) -> Conv {
        let Self { strides, pads, dilations, group } = self.clone();
        Conv { strides, pads, dilations, group }
    }
}

impl MatMulStored {
    fn parts(&self) -> (Dequantize, MatMul) {
        let product = MatMul { trans_a: false, trans_b: self.trans_b };
        (Dequantize { axis: self.axis, block: self.block }, product)
    }
}

/// How scales lie on the quantized tensor.
enum Grain {
    Tensor,
    Axis,
    Block,
}

/// Checks scale and zero point against the quantized tensor `x` (operands 1 and 2) and tells how they lie on it.
fn grain(inputs: Operands<'_, TensorType>, axis: usize, block: usize) -> Result<Grain, TypeError> {
    let (x, scale) = (inputs.need(0)?, inputs.need(1)?);
    if let Some(zero) = inputs.get(2) {
        need_shape("zero point", zero, &scale.shape)?;
    }
    if scale.rank() <= 1 && scale.elems() == Extent::ONE {
        return Ok(Grain::Tensor);
    }
    need_axis("axis", axis, x)?;
    if block == 0 {
        need_shape("scale", scale, &x.shape[axis..=axis])?;
        return Ok(Grain::Axis);
    }
    let mut accepted = x.shape.clone();
    accepted[axis] = accepted[axis].ceildiv(&block.into());
    need_shape("scale", scale, &accepted)?;
    Ok(Grain::Block)
}

/// Position of the scale of every element of `shape`, in row-major order.
fn scale_positions(grain: Grain, shape: &[usize], axis: usize, block: usize) -> Vec<usize> {
    let elems = 0..shape.iter().product();
    match grain {
        Grain::Tensor => elems.map(|_| 0).collect(),
        Grain::Axis => {
            let Around { len, inner, .. } = Around::axis(shape, axis);
            elems.map(|at| at / inner % len).collect()
        }
        Grain::Block => {
            let Around { len, inner, .. } = Around::axis(shape, axis);
            let blocks = len.div_ceil(block);
            elems.map(|at| (at / inner / len * blocks + at / inner % len / block) * inner + at % inner).collect()
        }
    }
}

/// The types of operands, for checks that evaluation repeats.
fn with_types<R>(inputs: Operands<'_, Tensor>, check: impl FnOnce(Operands<'_, TensorType>) -> R) -> R {
    let types: Vec<Option<TensorType>> = (0..inputs.len()).map(|i| inputs.get(i).map(Tensor::ty)).collect();
    let refs: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
    check(Operands(&refs))
}

/// Elements as `f32`, as ONNX Runtime reads them for quantization.
fn to_f32(x: &Tensor) -> Vec<f32> {
    if x.dtype().is_float() {
        x.to_f64().into_iter().map(|v| v as f32).collect()
    } else {
        x.to_ints().into_iter().map(|v| v as f32).collect()
    }
}

/// The zero points, 0 where there are none.
fn zeros_of(zero: Option<&Tensor>, len: usize) -> Vec<i128> {
    zero.map_or_else(|| vec![0; len], Tensor::to_ints)
}

fn is_quantized(dtype: DType) -> bool {
    dtype.is_int() && dtype.bits() <= 16
}

const QUANTIZED: &str = "an integer of at most 16 bits";
pub(super) const SCALES: &str = "f16, bf16 or f32";

pub(super) fn is_scale(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Bf16 | DType::F32)
}

impl OpDef for Quantize {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_dtype(0, x, |d| is_scale(d) || d == DType::I32, "f16, bf16, f32 or i32")?;
        need_dtype(1, inputs.need(1)?, is_scale, SCALES)?;
        if !is_quantized(self.to) {
            return Err(attribute("to", self.to, QUANTIZED));
        }
        if let Some(zero) = inputs.get(2) {
            need_dtype(2, zero, |d| d == self.to, self.to.name())?;
        }
        grain(inputs, self.axis, self.block)?;
        Ok(vec![TensorType::new(self.to, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let scales = to_f32(inputs.need(1)?);
        let zeros = zeros_of(inputs.get(2), scales.len());
        let grain = with_types(inputs, |types| grain(types, self.axis, self.block))?;
        let positions = scale_positions(grain, x.shape(), self.axis, self.block);
        let values: Vec<i128> = to_f32(x)
            .into_iter()
            .zip(positions)
            .map(|(value, at)| quantize(value / scales[at], zeros[at], self.to))
            .collect();
        Ok(vec![Tensor::from_ints(self.to, x.shape(), &values)])
    }
}

impl OpDef for MatMulStored {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (dequantize, product) = self.parts();
        let (a, w) = (inputs.need(0)?, inputs.need(1)?);
        need_rank(1, w, 2)?;
        need_rank_from(0, a, 1)?;
        let real = dequantize.infer(Operands(&[Some(w), Some(inputs.need(2)?), inputs.get(3)]))?;
        product.infer(Operands(&[Some(a), real.first()]))
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (dequantize, product) = self.parts();
        let real = Op::from(dequantize).eval(&[inputs.get(1), inputs.get(2), inputs.get(3)], &|_| None)?;
        product.eval(Operands(&[inputs.get(0), real.first()]), types)
    }
}

impl OpDef for ConvStored {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let scales = Operands(&[Some(inputs.need(1)?), Some(inputs.need(2)?), inputs.get(3)]);
        let real = Self::SCALES.infer(scales)?;
        self.conv().infer(Operands(&[Some(inputs.need(0)?), real.first(), inputs.get(4)]))
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let real = Op::from(Self::SCALES).eval(&[inputs.get(1), inputs.get(2), inputs.get(3)], &|_| None)?;
        self.conv().eval(Operands(&[inputs.get(0), real.first(), inputs.get(4)]), types)
    }
}

/// `sat(round_half_even(scaled) + zero)`; NaN gives the smallest value, as in ONNX Runtime.
fn quantize(scaled: f32, zero: i128, to: DType) -> i128 {
    let (lo, hi) = to.int_range().expect("quantized types are integers");
    if scaled.is_nan() {
        return lo;
    }
    // A finite `f32` is below 2^128 in magnitude; beyond `i128` the conversion saturates.
    (scaled.round_ties_even() as i128).saturating_add(zero).clamp(lo, hi)
}

impl OpDef for Dequantize {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, scale) = (inputs.need(0)?, inputs.need(1)?);
        need_dtype(0, x, |d| is_quantized(d) || d == DType::I32, "an integer of at most 16 bits, or i32")?;
        need_dtype(1, scale, is_scale, SCALES)?;
        if let Some(zero) = inputs.get(2) {
            need_dtype(2, zero, |d| d == x.dtype, x.dtype.name())?;
        }
        grain(inputs, self.axis, self.block)?;
        Ok(vec![TensorType::new(scale.dtype, x.shape.clone())])
    }

    /// The product is rounded to `f32`, then to the scale's dtype, as in ONNX Runtime.
    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let scales = to_f32(inputs.need(1)?);
        let zeros = zeros_of(inputs.get(2), scales.len());
        let grain = with_types(inputs, |types| grain(types, self.axis, self.block))?;
        let positions = scale_positions(grain, x.shape(), self.axis, self.block);
        let values: Vec<f64> = x
            .to_ints()
            .into_iter()
            .zip(positions)
            .map(|(value, at)| ((value - zeros[at]) as f32 * scales[at]).into())
            .collect();
        Ok(vec![Tensor::from_f64(types[0].dtype, x.shape(), &values)])
    }
}

impl OpDef for DynamicQuantize {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_dtype(0, x, |d| d == DType::F32, "f32")?;
        let scalar = |dtype| TensorType::new(dtype, Shape::new());
        Ok(vec![TensorType::new(DType::U8, x.shape.clone()), scalar(DType::F32), scalar(DType::U8)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let values = to_f32(x);
        let low = values.iter().copied().fold(0f32, f32::min);
        let high = values.iter().copied().fold(0f32, f32::max);
        let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
        let zero = quantize((-low / scale).clamp(0.0, 255.0), 0, DType::U8);
        let values: Vec<i128> = values.into_iter().map(|v| quantize(v / scale, zero, DType::U8)).collect();
        Ok(vec![
            Tensor::from_ints(DType::U8, x.shape(), &values),
            Tensor::from_f32(&[], &[scale]),
            Tensor::from_ints(DType::U8, &[], &[zero]),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn run(op: impl Into<Op>, inputs: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
        op.into().eval(&inputs.iter().copied().map(Some).collect::<Vec<_>>(), &|_| None)
    }

    /// Expected values from ONNX Runtime 1.32.
    #[test]
    fn quantize_table() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let x = Tensor::from_f32(&[12], &[nan, inf, -inf, 0.5, 1.5, 2.5, -0.5, -1.5, 300.0, -300.0, 1e20, -1e20]);
        let scale = Tensor::from_f32(&[], &[1.0]);
        let cases: &[(DType, [i64; 12])] = &[
            (DType::U8, [0, 255, 0, 3, 5, 5, 3, 1, 255, 0, 255, 0]),
            (DType::I8, [-128, 127, -128, 3, 5, 5, 3, 1, 127, -128, 127, -128]),
            (DType::I16, [-32768, 32767, -32768, 3, 5, 5, 3, 1, 303, -297, 32767, -32768]),
        ];
        for (to, expected) in cases {
            let zero = Tensor::from_ints(*to, &[], &[3]);
            let found = run(Quantize { axis: 0, block: 0, to: *to }, &[&x, &scale, &zero]).unwrap();
            assert_eq!(found[0].to_i64(), expected, "{to}");
        }
        assert!(run(Quantize { axis: 0, block: 0, to: DType::I32 }, &[&x, &scale]).is_err());
    }

    #[test]
    fn the_division_is_in_f32() {
        let values: Vec<f32> = (0..2000).map(|step| step as f32 * 0.05).collect();
        let scale = 0.1f32;
        let op = Quantize { axis: 0, block: 0, to: DType::I16 };
        let inputs = [&Tensor::from_f32(&[2000], &values), &Tensor::from_f32(&[], &[scale])];
        let found = run(op, &inputs).unwrap()[0].to_i64();
        let expected: Vec<i64> = values.iter().map(|v| (v / scale).round_ties_even() as i64).collect();
        let exact: Vec<i64> =
            values.iter().map(|&v| (f64::from(v) / f64::from(scale)).round_ties_even() as i64).collect();
        assert_eq!(found, expected);
        assert_ne!(expected, exact, "the two ways differ somewhere");
    }

    #[test]
    fn grains() {
        let x = Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let op = |axis, block| Quantize { axis, block, to: DType::I8 };
        let by_axis = Tensor::from_f32(&[3], &[1.0, 0.5, 0.25]);
        assert_eq!(run(op(1, 0), &[&x, &by_axis]).unwrap()[0].to_i64(), [1, 4, 12, 4, 10, 24]);
        assert!(run(op(0, 0), &[&x, &by_axis]).is_err());
        let blocked = Tensor::from_f32(&[2, 2], &[1.0, 0.5, 2.0, 0.25]);
        assert_eq!(run(op(1, 2), &[&x, &blocked]).unwrap()[0].to_i64(), [1, 2, 6, 2, 2, 24]);
        assert!(run(op(1, 3), &[&x, &blocked]).is_err());
        let rows = Tensor::from_f32(&[1, 3], &[1.0, 0.5, 0.25]);
        assert_eq!(run(op(0, 2), &[&x, &rows]).unwrap()[0].to_i64(), [1, 4, 12, 4, 10, 24]);
        let one = Tensor::from_f32(&[1], &[2.0]);
        assert_eq!(run(op(7, 0), &[&x, &one]).unwrap()[0].to_i64(), [0, 1, 2, 2, 2, 3]);
        let empty = Tensor::zeros(DType::F32, &[0, 3]);
        assert_eq!(run(op(1, 0), &[&empty, &by_axis]).unwrap()[0].shape(), [0, 3]);
    }

    #[test]
    fn dequantize_undoes_quantize_on_the_grid() {
        let zero = Tensor::from_ints(DType::U4, &[2], &[3, 8]);
        let scale = Tensor::from_f64(DType::F16, &[2], &[0.5, 2.0]);
        let q = Tensor::from_ints(DType::U4, &[3, 2], &[0, 1, 15, 8, 7, 15]);
        let x = run(Dequantize { axis: 1, block: 0 }, &[&q, &scale, &zero]).unwrap().remove(0);
        assert_eq!((x.dtype(), x.to_f64()), (DType::F16, vec![-1.5, -14.0, 6.0, 0.0, 2.0, 14.0]));
        let back = run(Quantize { axis: 1, block: 0, to: DType::U4 }, &[&x, &scale, &zero]).unwrap().remove(0);
        assert_eq!(back, q);
        let big = Tensor::from_ints(DType::I32, &[1], &[(1 << 24) + 1]);
        let third = Tensor::from_f32(&[], &[3.0]);
        let found = run(Dequantize { axis: 0, block: 0 }, &[&big, &third]).unwrap();
        assert_eq!(found[0].to_f64(), [f64::from(16_777_216f32 * 3.0)]);
    }

    /// Expected values from ONNX Runtime 1.32.
    #[test]
    fn dynamic_quantize_table() {
        let cases: &[(&[f32], &[i64], f32, i64)] = &[
            (&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5], &[153, 255, 0, 26, 221, 179], 0.019_607_844, 153),
            (&[1.0, 2.0], &[127, 255], 0.007_843_138, 0),
            (&[-1.0, -4.0], &[191, 0], 0.015_686_275, 255),
            (&[0.0, -0.0], &[0, 0], 1.0, 0),
            (&[], &[], 1.0, 0),
        ];
        for (x, values, scale, zero) in cases {
            let found = run(DynamicQuantize {}, &[&Tensor::from_f32(&[x.len()], x)]).unwrap();
            assert_eq!(&found[0].to_i64(), values, "{x:?}");
            assert_eq!((found[1].to_f64(), found[2].to_i64()), (vec![f64::from(*scale)], vec![*zero]), "{x:?}");
        }
    }
}
