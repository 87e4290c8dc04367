//! Quantization: to and from integers, integer products, ONNX's `QLinear` operators.

use adze_ir::ops::{ConvInteger, Dequantize, DynamicQuantize, MatMulInteger, QLinearConv, QLinearMatMul, Quantize};
use adze_ir::quant::Requantize;
use adze_ir::types::{DType, TensorType};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in};
use super::super::tensor::dtype_of;
use super::linear::{Window, group, kernel_of, operands, window};
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("ConvInteger", 10..=NEWEST, conv_integer),
    ("DequantizeLinear", 10..=NEWEST, dequantize),
    ("DynamicQuantizeLinear", 11..=NEWEST, dynamic_quantize),
    ("MatMulInteger", 10..=NEWEST, matmul_integer),
    ("QLinearConv", 10..=NEWEST, qlinear_conv),
    ("QLinearMatMul", 10..=NEWEST, qlinear_matmul),
    ("QuantizeLinear", 10..=NEWEST, quantize),
];

/// Axis and block of the scales; the axis is 0 where it does not matter.
fn scales(cx: &NodeCx<'_, '_>, x: &TensorType, scale: &TensorType) -> Result<(usize, usize), Fault> {
    let given = if cx.opset >= 13 { cx.attrs.int("axis")?.unwrap_or(1) } else { 0 };
    let block = if cx.opset >= 21 { cx.attrs.int("block_size")?.unwrap_or(0) } else { 0 };
    let block = usize::try_from(block)
        .map_err(|_| Fault::model(format!("attribute `block_size` = {block}"), "zero or more"))?;
    if scale.rank() == 0 || (scale.fixed_shape() == Some(vec![1]) && block == 0) {
        return Ok((0, 0));
    }
    if cx.opset < 13 {
        return Err(Fault::model(format!("scale {scale}"), "a scalar before opset 13"));
    }
    Ok((axis_in(given, x.rank())?, block))
}

fn quantize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.ignore("saturate");
    cx.at_most(3)?;
    let (x, mut scale, zero) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let (axis, block) = scales(cx, &x.ty, &scale.ty)?;
    let stated = if cx.opset >= 21 { cx.attrs.int("output_dtype")?.unwrap_or(0) } else { 0 };
    let precision = if cx.opset >= 23 { cx.attrs.int("precision")?.unwrap_or(0) } else { 0 };
    if precision != 0 && dtype_of(i32::try_from(precision).unwrap_or(-1))? != scale.ty.dtype {
        return Err(Fault::unsupported(format!("attribute `precision` = {precision}"), "the scale's dtype"));
    }
    let to = match (&zero, stated) {
        (Some(zero), 0) => zero.ty.dtype,
        (None, 0) => DType::U8,
        (_, code) => dtype_of(i32::try_from(code).unwrap_or(-1))?,
    };
    if let Some(zero) = &zero
        && zero.ty.dtype != to
    {
        return Err(Fault::model(format!("zero point {}", zero.ty), format!("dtype {to}, as `output_dtype` says")));
    }
    let zero = zero.map(|zero| per_tensor(cx, zero)).transpose()?;
    scale = per_tensor(cx, scale)?;
    cx.emit(Quantize { axis, block, to }, &operands(&[&x, &scale], zero.as_ref()))
}

fn dequantize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (x, mut scale, zero) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let (axis, block) = scales(cx, &x.ty, &scale.ty)?;
    if cx.opset >= 23 {
        let stated = cx.attrs.int("output_dtype")?.unwrap_or(0);
        if stated != 0 && dtype_of(i32::try_from(stated).unwrap_or(-1))? != scale.ty.dtype {
            return Err(Fault::unsupported(format!("attribute `output_dtype` = {stated}"), "the scale's dtype"));
        }
    }
    let zero = zero.map(|zero| per_tensor(cx, zero)).transpose()?;
    scale = per_tensor(cx, scale)?;
    cx.emit(Dequantize { axis, block }, &operands(&[&x, &scale], zero.as_ref()))
}

/// A parameter of one element as a scalar; exporters write `[1]` for it.
pub(super) fn per_tensor(
    cx: &mut NodeCx<'_, '_>,
    value: super::super::value::Value,
) -> Result<super::super::value::Value, Fault> {
    if value.ty.fixed_shape() == Some(vec![1]) { cx.reshape(&value, Vec::new()) } else { Ok(value) }
}

fn dynamic_quantize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    cx.emit(DynamicQuantize {}, &[Some(&x)])
}

fn matmul_integer(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (a_zero, b_zero) = (cx.opt(2).cloned(), cx.opt(3).cloned());
    let mut inputs = vec![Some(&a), Some(&b), a_zero.as_ref(), b_zero.as_ref()];
    trim(&mut inputs);
    cx.emit(MatMulInteger {}, &inputs)
}

fn conv_integer(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (x_zero, w_zero) = (cx.opt(2).cloned(), cx.opt(3).cloned());
    let kernel = kernel_of(cx, &x.ty, &w.ty)?;
    let Window { strides, pads, dilations } = window(cx, &x.ty, &kernel)?;
    let mut inputs = vec![Some(&x), Some(&w), x_zero.as_ref(), w_zero.as_ref()];
    trim(&mut inputs);
    let op = ConvInteger { strides, pads, dilations, group: group(cx)? };
    cx.emit(op, &inputs)
}

/// Drops operands left out at the end.
fn trim<T>(inputs: &mut Vec<Option<T>>) {
    while inputs.last().is_some_and(Option::is_none) {
        inputs.pop();
    }
}

fn qlinear_conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(9)?;
    let mut values = (0..8).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    for index in [1, 2, 4, 5, 6, 7] {
        let scalar = per_tensor(cx, values[index].clone())?;
        values[index] = scalar;
    }
    let bias = cx.opt(8).cloned();
    let kernel = kernel_of(cx, &values[0].ty, &values[3].ty)?;
    let Window { strides, pads, dilations } = window(cx, &values[0].ty, &kernel)?;
    let op = QLinearConv { strides, pads, dilations, group: group(cx)?, contract: Requantize::F32Rne };
    cx.emit(op, &operands(&values.iter().collect::<Vec<_>>(), bias.as_ref()))
}

fn qlinear_matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(8)?;
    let mut values = (0..8).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    for index in [1, 2, 4, 5, 6, 7] {
        let scalar = per_tensor(cx, values[index].clone())?;
        values[index] = scalar;
    }
    cx.emit(QLinearMatMul { contract: Requantize::F32Rne }, &values.iter().map(Some).collect::<Vec<_>>())
}
