//! Type rules and evaluation of the integer matrix products and convolutions.
//!
//! Each is the sum of [`super::linear`] on operands shifted by their zero points, wrapped to `i32`; the quantized forms
//! then add the bias and requantize once.

use super::linear::{Conv, convolve, infer_conv, infer_product, multiply};
use super::quantize::{ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul, SCALES, is_scale};
use super::shape::{Around, broadcast_strides, concrete, mismatch, need_dtype, need_shape, show, walk};
use super::{EvalError, OpDef, Operands, TypeError};

use crate::extent::Extent;
use crate::quant::Requantize;
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// Along which axis of its tensor a scale or zero point may vary.
#[derive(Clone, Copy)]
enum Along {
    /// None: one value.
    Nothing,
    /// This one.
    Axis(usize),
    /// This one, by a vector or, for matrices in batches, by the tensor's shape with 1 on this (the summed) axis.
    Batched { varies: usize, summed: usize },
}

/// Refuses a scale or zero point (operand `input`) that does not lie on `ty` as `along` says.
fn need_parameter(input: usize, parameter: &TensorType, ty: &TensorType, along: Along) -> Result<(), TypeError> {
    let one = parameter.rank() <= 1 && parameter.elems() == Extent::ONE;
    let vector = |axis: usize| axis < ty.rank() && parameter.shape == ty.shape[axis..=axis];
    let fits = match along {
        Along::Nothing => false,
        Along::Axis(axis) => vector(axis),
        Along::Batched { varies, summed } => {
            let mut shape = ty.shape.clone();
            shape[summed] = Extent::ONE;
            varies != summed && (vector(varies) || parameter.shape == shape)
        }
    };
    if one || fits {
        return Ok(());
    }
    let found = format!("input {input} of shape {}", show(&parameter.shape));
    Err(mismatch("scale or zero point", found, format!("one value, or one per slice of {}", show(&ty.shape))))
}

/// The rows of the first operand of a matrix product, or the columns of the second.
fn batched(rank: usize, second: bool) -> Along {
    match (rank, second) {
        (0 | 1, _) => Along::Nothing,
        (_, false) => Along::Batched { varies: rank - 2, summed: rank - 1 },
        (_, true) => Along::Batched { varies: rank - 1, summed: rank - 2 },
    }
}

/// A parameter's value for each element of a tensor of shape `shape`, in row-major order.
fn spread<T: Copy>(values: &[T], parameter: &[usize], shape: &[usize], along: Along) -> Vec<T> {
    let mut steps = vec![0; shape.len()];
    match along {
        _ if values.len() == 1 => {}
        Along::Axis(axis) => steps[axis] = 1,
        Along::Batched { varies, .. } if parameter.len() == 1 => steps[varies] = 1,
        _ => steps = broadcast_strides(parameter, shape),
    }
    let mut spread = Vec::new();
    walk(shape, [&steps], |[at]| spread.push(values[at]));
    spread
}

/// The elements less their zero points.
fn shifted(x: &Tensor, zero: Option<&Tensor>, along: Along) -> Vec<i128> {
    let Some(zero) = zero else { return x.to_ints() };
    let zeros = spread(&zero.to_ints(), zero.shape(), x.shape(), along);
    x.to_ints().into_iter().zip(zeros).map(|(value, zero)| value - zero).collect()
}

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

fn need_bytes(input: usize, ty: &TensorType) -> Result<(), TypeError> {
    need_dtype(input, ty, is_byte, "i8 or u8")
}

/// Checks the second operand: weights may be of less than a byte.
fn need_weights(input: usize, ty: &TensorType) -> Result<(), TypeError> {
    let fits = |d: DType| is_byte(d) || matches!(d, DType::I2 | DType::U2 | DType::I4 | DType::U4);
    need_dtype(input, ty, fits, "an integer of at most 8 bits")
}

/// Checks an integer operand and its zero point.
fn need_shifted(inputs: Operands<'_, TensorType>, x: usize, zero: usize, along: Along) -> Result<(), TypeError> {
    let ty = inputs.need(x)?;
    if x == 0 {
        need_bytes(x, ty)?
    } else {
        need_weights(x, ty)?
    }
    let Some(found) = inputs.get(zero) else { return Ok(()) };
    need_dtype(zero, found, |d| d == ty.dtype, ty.dtype.name())?;
    need_parameter(zero, found, ty, along)
}

/// Checks a quantized operand `x` with its scale and zero point in the two positions behind it.
fn need_quantized(inputs: Operands<'_, TensorType>, x: usize, along: Along) -> Result<(), TypeError> {
    need_shifted(inputs, x, x + 2, along)?;
    let scale = inputs.need(x + 1)?;
    inputs.need(x + 2)?;
    need_dtype(x + 1, scale, is_scale, SCALES)?;
    need_parameter(x + 1, scale, inputs.need(x)?, along)
}

/// Checks the scale and zero point of the result, and gives its dtype.
fn need_result(inputs: Operands<'_, TensorType>) -> Result<DType, TypeError> {
    let (scale, zero) = (inputs.need(6)?, inputs.need(7)?);
    need_dtype(6, scale, is_scale, SCALES)?;
    need_bytes(7, zero)?;
    need_parameter(6, scale, scale, Along::Nothing)?;
    need_parameter(7, zero, zero, Along::Nothing)?;
    Ok(zero.dtype)
}

/// The scales as `f32`, exactly: none is wider.
fn scales(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f64().into_iter().map(|v| v as f32).collect()
}

fn wrap_i32(sum: i128) -> i32 {
    sum as i32
}

impl OpDef for MatMulInteger {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let shape = infer_product(a, b, false, false)?;
        need_shifted(inputs, 0, 2, batched(a.rank(), false))?;
        need_shifted(inputs, 1, 3, batched(b.rank(), true))?;
        Ok(vec![TensorType::new(DType::I32, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let sums = product(inputs.need(0)?, inputs.get(2), inputs.need(1)?, inputs.get(3));
        Ok(vec![Tensor::from_ints_wrapping(DType::I32, &concrete(&types[0])?, &sums)])
    }
}

fn product(a: &Tensor, a_zero: Option<&Tensor>, b: &Tensor, b_zero: Option<&Tensor>) -> Vec<i128> {
    let left = shifted(a, a_zero, batched(a.shape().len(), false));
    let right = shifted(b, b_zero, batched(b.shape().len(), true));
    multiply((&left, a.shape(), false), (&right, b.shape(), false))
}

impl OpDef for ConvInteger {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let operands = [inputs.need(0)?, inputs.need(1)?];
        let shape = infer_conv(operands, None, &self.strides, &self.pads, &self.dilations, self.group)?;
        need_shifted(inputs, 0, 2, Along::Nothing)?;
        need_shifted(inputs, 1, 3, Along::Axis(0))?;
        Ok(vec![TensorType::new(DType::I32, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (strides, pads, dilations) = (self.strides.clone(), self.pads.clone(), self.dilations.clone());
        let op = Conv { strides, pads, dilations, group: self.group };
        let out = concrete(&types[0])?;
        let sums = convolution(&op, [inputs.need(0)?, inputs.need(1)?], [inputs.get(2), inputs.get(3)], &out)?;
        Ok(vec![Tensor::from_ints_wrapping(DType::I32, &out, &sums)])
    }
}

/// Padding is filled with the zero point, which is 0 after the shift.
fn convolution(
    op: &Conv,
    [x, w]: [&Tensor; 2],
    [x_zero, w_zero]: [Option<&Tensor>; 2],
    out: &[usize],
) -> Result<Vec<i128>, TypeError> {
    let values = shifted(x, x_zero, Along::Nothing);
    let weights = shifted(w, w_zero, Along::Axis(0));
    convolve(op, (&values, x.shape()), (&weights, w.shape()), out)
}

impl OpDef for QLinearConv {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let operands = [inputs.need(0)?, inputs.need(3)?];
        let shape = infer_conv(operands, None, &self.strides, &self.pads, &self.dilations, self.group)?;
        need_quantized(inputs, 0, Along::Nothing)?;
        need_quantized(inputs, 3, Along::Axis(0))?;
        if let Some(bias) = inputs.get(8) {
            need_dtype(8, bias, |d| d == DType::I32, "i32")?;
            need_shape("bias", bias, &operands[1].shape[..1])?;
        }
        Ok(vec![TensorType::new(need_result(inputs)?, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (strides, pads, dilations) = (self.strides.clone(), self.pads.clone(), self.dilations.clone());
        let op = Conv { strides, pads, dilations, group: self.group };
        let out = concrete(&types[0])?;
        let mut sums = convolution(&op, [inputs.need(0)?, inputs.need(3)?], [inputs.get(2), inputs.get(5)], &out)?;
        if let Some(bias) = inputs.get(8) {
            let bias = spread(&bias.to_ints(), bias.shape(), &out, Along::Axis(1));
            sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        }
        let x_scale = scales(inputs.need(1)?)[0];
        let w_scale = spread(&scales(inputs.need(4)?), inputs.need(4)?.shape(), &out, Along::Axis(1));
        let products: Vec<f32> = w_scale.into_iter().map(|w| x_scale * w).collect();
        requantized(self.contract, &sums, &products, inputs, &types[0], &out)
    }
}

/// The result of a quantized form: operands 6 and 7 are its scale and zero point, `scales` those of the sums.
fn requantized(
    contract: Requantize,
    sums: &[i128],
    scales_of_sums: &[f32],
    inputs: Operands<'_, Tensor>,
    ty: &TensorType,
    out: &[usize],
) -> Result<Vec<Tensor>, EvalError> {
    let (scale, zero) = (scales(inputs.need(6)?)[0], inputs.need(7)?.to_ints()[0]);
    let range = ty.dtype.int_range().expect("the type rule has found an integer type");
    let values: Vec<i128> = sums
        .iter()
        .zip(scales_of_sums)
        .map(|(&sum, of_sum)| contract.apply(wrap_i32(sum), of_sum / scale, zero, range))
        .collect();
    Ok(vec![Tensor::from_ints(ty.dtype, out, &values)])
}

impl OpDef for QLinearMatMul {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.need(0)?, inputs.need(3)?);
        let shape: Shape = infer_product(a, b, false, false)?;
        need_quantized(inputs, 0, batched(a.rank(), false))?;
        need_quantized(inputs, 3, batched(b.rank(), true))?;
        if let Some(bias) = inputs.get(8) {
            need_dtype(8, bias, |d| d == DType::I32, "i32")?;
            let columns = if b.rank() >= 2 { &shape[shape.len() - 1..] } else { &[] };
            need_shape("bias", bias, columns)?;
        }
        Ok(vec![TensorType::new(need_result(inputs)?, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.need(0)?, inputs.need(3)?);
        let out = concrete(&types[0])?;
        let mut sums = product(a, inputs.get(2), b, inputs.get(5));
        if let Some(bias) = inputs.get(8).map(Tensor::to_ints).filter(|bias| !bias.is_empty()) {
            sums.iter_mut().zip(bias.iter().cycle()).for_each(|(sum, bias)| *sum += bias);
        }
        let left = leading_scales(inputs.need(1)?, a.shape(), false);
        let right = leading_scales(inputs.need(4)?, b.shape(), true);
        let products = multiply((&left, a.shape(), false), (&right, b.shape(), false));
        let products: Vec<f32> = products.into_iter().map(|scale| scale as f32).collect();
        requantized(self.contract, &sums, &products, inputs, &types[0], &out)
    }
}

/// The scales of an operand's rows (or columns) at position 0 of the summed axis and 0 elsewhere, so that the matrix
/// product of both operands' is the product of their scales, however they broadcast.
fn leading_scales(scale: &Tensor, operand: &[usize], second: bool) -> Vec<f64> {
    let summed = if second { operand.len().saturating_sub(2) } else { operand.len() - 1 };
    let Around { len, inner, .. } = Around::axis(operand, summed);
    let spread = spread(&scale.to_f64(), scale.shape(), operand, batched(operand.len(), second));
    spread.into_iter().enumerate().map(|(at, v)| if at / inner % len == 0 { v } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn run(op: impl Into<Op>, inputs: &[Option<&Tensor>]) -> Result<Tensor, EvalError> {
        op.into().eval(inputs, &|_| None).map(|mut r| r.remove(0))
    }

    fn ints(dtype: DType, shape: &[usize], values: &[i128]) -> Tensor {
        Tensor::from_ints(dtype, shape, values)
    }

    fn ramp(dtype: DType, shape: &[usize]) -> Tensor {
        let values: Vec<i128> = (0..shape.iter().product::<usize>()).map(|i| (i as i128 * 37) % 101).collect();
        ints(dtype, shape, &values)
    }

    fn scalar(dtype: DType, value: i128) -> Tensor {
        ints(dtype, &[], &[value])
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_f32(shape, values)
    }

    /// Expected values from ONNX Runtime 1.32.
    #[test]
    fn integer_sums() {
        let (a, b) = (ramp(DType::U8, &[2, 3]), ramp(DType::I8, &[3, 2]));
        let (za, zb) = (scalar(DType::U8, 7), ints(DType::I8, &[2], &[3, -5]));
        let y = run(MatMulInteger {}, &[Some(&a), Some(&b), Some(&za), Some(&zb)]).unwrap();
        assert_eq!((y.dtype(), y.shape(), y.to_i64()), (DType::I32, &[2, 2][..], vec![5099, 6119, 6219, 7579]));
        let by_column = ints(DType::I8, &[1, 2], &[3, -5]);
        assert_eq!(run(MatMulInteger {}, &[Some(&a), Some(&b), Some(&za), Some(&by_column)]), Ok(y));
        assert!(run(MatMulInteger {}, &[Some(&a), Some(&b), Some(&ints(DType::U8, &[3], &[0, 0, 0]))]).is_err());

        let op = ConvInteger { strides: vec![2, 1], pads: vec![1, 1, 0, 0], dilations: vec![1, 1], group: 1 };
        let (x, w) = (ramp(DType::U8, &[1, 2, 3, 3]), ramp(DType::U8, &[2, 2, 2, 2]));
        let zeros = (scalar(DType::U8, 9), scalar(DType::U8, 4));
        let y = run(op, &[Some(&x), Some(&w), Some(&zeros.0), Some(&zeros.1)]).unwrap();
        assert_eq!(y.to_i64(), [1059, 2948, 2960, 4752, 13871, 11427, 975, 2262, 1945, 4164, 11760, 12395]);
    }

    /// Expected values from ONNX Runtime 1.32.
    #[test]
    fn quantized_forms() {
        let contract = Requantize::F32Rne;
        let op = QLinearConv { strides: vec![2, 1], pads: vec![1, 1, 0, 0], dilations: vec![1, 1], group: 1, contract };
        let inputs = [
            ramp(DType::U8, &[1, 2, 3, 3]),
            floats(&[], &[0.02]),
            scalar(DType::U8, 9),
            ramp(DType::I8, &[2, 2, 2, 2]),
            floats(&[2], &[0.03, 0.011]),
            ints(DType::I8, &[2], &[0, 0]),
            floats(&[], &[0.07]),
            scalar(DType::U8, 30),
            ints(DType::I32, &[2], &[-9000, -10000]),
        ];
        let y = run(op, &inputs.each_ref().map(Some)).unwrap();
        assert_eq!(y.to_i64(), [0, 0, 0, 0, 83, 65, 2, 7, 7, 13, 40, 43]);

        let inputs = [
            ramp(DType::U8, &[2, 2, 3]),
            floats(&[], &[0.02]),
            scalar(DType::U8, 50),
            ramp(DType::I8, &[3, 2]),
            floats(&[2], &[0.03, 0.05]),
            ints(DType::I8, &[2], &[3, -5]),
            floats(&[], &[0.08]),
            scalar(DType::U8, 100),
        ];
        let y = run(QLinearMatMul { contract }, &inputs.each_ref().map(Some)).unwrap();
        assert_eq!((y.shape(), y.to_i64()), (&[2, 2, 2][..], vec![102, 98, 111, 116, 119, 135, 94, 40]));
    }

    #[test]
    fn vectors_and_rows() {
        let contract = Requantize::F32Rne;
        let (one, zero) = (floats(&[], &[1.0]), scalar(DType::U8, 0));
        let rows = (floats(&[2], &[1.0, 3.0]), ints(DType::U8, &[2], &[1, 0]));
        let (a, b) = (ints(DType::U8, &[2, 2], &[1, 2, 3, 4]), ints(DType::U8, &[2], &[5, 6]));
        let inputs = [&a, &rows.0, &rows.1, &b, &one, &zero, &one, &zero];
        let y = run(QLinearMatMul { contract }, &inputs.map(Some)).unwrap();
        assert_eq!((y.shape(), y.to_i64()), (&[2][..], vec![6, 117]));
        let empty = ints(DType::U8, &[2, 0], &[]);
        let none = ints(DType::U8, &[0], &[]);
        let inputs = [&empty, &one, &zero, &none, &one, &zero, &one, &zero];
        assert_eq!(run(QLinearMatMul { contract }, &inputs.map(Some)).unwrap().to_i64(), [0, 0]);
    }
}
