//! Quantized forms of single operators in the domain `com.microsoft`: the operator between `dequantize` and `quantize`,
//! which is what they mean, and products that are scaled. See [`super::contrib`] for the others.

use adze_ir::ops::{
    Binary, BinaryFn, Cast, Concat, DynamicQuantize, LeakyRelu, MatMulInteger, Op, Softmax, Unary, UnaryFn, Where,
};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in};
use super::super::value::Value;
use super::Row;
use super::contrib::{real, scalar, stored, zero_point};
use super::pool::average_pool_of;
use super::quantize::per_tensor;

pub(super) const ROWS: &[Row] = &[
    ("DynamicQuantizeMatMul", 1..=1, dynamic_quantize_matmul),
    ("MatMulIntegerToFloat", 1..=1, matmul_integer_to_float),
    ("QLinearAveragePool", 1..=1, average_pool),
    ("QLinearConcat", 1..=1, concat),
    ("QLinearLeakyRelu", 1..=1, leaky_relu),
    ("QLinearSigmoid", 1..=1, |cx| unary(cx, Unary { function: UnaryFn::Sigmoid }.into())),
    ("QLinearSoftmax", 1..=1, softmax),
    ("QLinearWhere", 1..=1, where_),
];

/// An operator on operand 0, whose result has the scale in operand 3 and the zero point in 4.
fn unary(cx: &mut NodeCx<'_, '_>, op: Op) -> Outputs {
    cx.at_most(5)?;
    let (x, dtype) = (real(cx, 0)?, cx.input(0)?.ty.dtype);
    let result = cx.emit1(op, &[&x])?;
    stored(cx, &result, 3, 4, dtype)
}

fn leaky_relu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let alpha = cx.f64("alpha", 0.01)?;
    unary(cx, LeakyRelu { alpha }.into())
}

fn softmax(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let rank = cx.input(0)?.rank();
    let opset = cx.attrs.int("opset")?.ok_or_else(|| Fault::model("no attribute `opset`", "one"))?;
    // Until opset 13 everything from the axis on is one row.
    let flatten = opset < 13;
    let axis = cx.attrs.int("axis")?.unwrap_or(-1);
    let axis = axis_in(axis, rank)?;
    unary(cx, Softmax { axis, flatten }.into())
}

fn average_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(5)?;
    if cx.attrs.flag("channels_last", false)? {
        return Err(Fault::unsupported("attribute `channels_last` = 1", "channels in axis 1"));
    }
    let (x, dtype) = (real(cx, 0)?, cx.input(0)?.ty.dtype);
    let result = average_pool_of(cx, &x)?;
    stored(cx, &result, 3, 4, dtype)
}

/// Operands: scale and zero point of the result, then a value, its scale and its zero point for every part.
fn concat(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let parts = (2..cx.inputs.len()).step_by(3).map(|at| real(cx, at)).collect::<Result<Vec<_>, _>>()?;
    let first = parts.first().ok_or_else(|| Fault::model("nothing to concatenate", "one value or more"))?;
    let axis = cx.attrs.int("axis")?.ok_or_else(|| Fault::model("no attribute `axis`", "one"))?;
    let axis = axis_in(axis, first.rank())?;
    let result = cx.emit1(Concat { axis }, &parts.iter().collect::<Vec<_>>())?;
    let dtype = cx.input(2)?.ty.dtype;
    stored(cx, &result, 0, 1, dtype)
}

fn where_(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(9)?;
    let condition = cx.input(0)?;
    let (x, y, dtype) = (real(cx, 1)?, real(cx, 4)?, cx.input(1)?.ty.dtype);
    let result = cx.emit1(Where {}, &[&condition, &x, &y])?;
    stored(cx, &result, 7, 8, dtype)
}

/// `Σ (a - a_zero) · (b - b_zero) · (a_scale · b_scale) + bias`.
pub(super) fn scaled_product(
    cx: &mut NodeCx<'_, '_>,
    [a, b]: [&Value; 2],
    [a_scale, b_scale]: [&Value; 2],
    [a_zero, b_zero]: [Option<&Value>; 2],
    bias: Option<&Value>,
) -> Outputs {
    let product = cx.emit(MatMulInteger {}, &[Some(a), Some(b), a_zero, b_zero])?;
    let product = product.into_iter().next().ok_or_else(|| Fault::bug("a product without a result"))?;
    let (mul, add) = (Binary { function: BinaryFn::Mul }, Binary { function: BinaryFn::Add });
    let scale = cx.emit1(mul.clone(), &[a_scale, b_scale])?;
    let sum = cx.emit1(Cast { to: DType::F32 }, &[&product])?;
    let mut result = cx.emit1(mul, &[&sum, &scale])?;
    if let Some(bias) = bias {
        result = cx.emit1(add, &[&result, bias])?;
    }
    Ok(vec![result])
}

/// Operands `a, b, a_scale, b_scale, a_zero?, b_zero?, bias?`.
fn matmul_integer_to_float(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(7)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (a_scale, b_scale) = (cx.input(2)?, cx.input(3)?);
    let (a_scale, b_scale) = (scalar(cx, a_scale)?, per_tensor(cx, b_scale)?);
    let (a_zero, b_zero) = (zero_point(cx, 4)?, per_column(cx, 5)?);
    let bias = cx.opt(6).cloned();
    scaled_product(cx, [&a, &b], [&a_scale, &b_scale], [a_zero.as_ref(), b_zero.as_ref()], bias.as_ref())
}

/// Operands `a, b, b_scale, b_zero?, bias?`; `a` is quantized by its range.
fn dynamic_quantize_matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(5)?;
    let (a, b, b_scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let b_scale = per_tensor(cx, b_scale)?;
    let (b_zero, bias) = (per_column(cx, 3)?, cx.opt(4).cloned());
    let quantized = cx.emit(DynamicQuantize {}, &[Some(&a)])?;
    let [a, scale, zero] = quantized.as_slice() else { return Err(Fault::bug("three results")) };
    scaled_product(cx, [a, &b], [scale, &b_scale], [Some(zero), b_zero.as_ref()], bias.as_ref())
}

/// A zero point per tensor or column, if it is there.
pub(super) fn per_column(cx: &mut NodeCx<'_, '_>, index: usize) -> Result<Option<Value>, Fault> {
    cx.opt(index).cloned().map(|zero| per_tensor(cx, zero)).transpose()
}
