//! Normalisations and softmax.

use adze_ir::extent::Extent;
use adze_ir::ops::{
    BatchNorm, BinaryFn, Expand, GroupNorm, Hardmax, InstanceNorm, LayerNorm, LogSoftmax, LpNorm, Lrn, Op, ReduceFn,
    RmsNorm, Softmax, UnaryFn,
};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axes_in, axis_in, fixed_dim};
use super::super::value::Value;
use super::elementwise::cast_to;
use super::legacy::expect_inference;
use super::linear::operands;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("BatchNormalization", OLDEST..=NEWEST, batch_norm),
    ("GroupNormalization", 18..=NEWEST, group_norm),
    ("Hardmax", OLDEST..=NEWEST, |cx| rows(cx, |axis, flatten| Hardmax { axis, flatten }.into())),
    ("InstanceNormalization", OLDEST..=NEWEST, instance_norm),
    ("LRN", OLDEST..=NEWEST, lrn),
    ("LayerNormalization", 17..=NEWEST, layer_norm),
    ("LogSoftmax", OLDEST..=NEWEST, |cx| rows(cx, |axis, flatten| LogSoftmax { axis, flatten }.into())),
    ("LpNormalization", OLDEST..=NEWEST, lp_norm),
    ("MeanVarianceNormalization", 9..=NEWEST, mean_variance_norm),
    ("RMSNormalization", 23..=NEWEST, rms_norm),
    ("Softmax", OLDEST..=NEWEST, |cx| rows(cx, |axis, flatten| Softmax { axis, flatten }.into())),
];

/// Before opset 13 all axes from `axis` on formed one row, and the default was 1.
fn rows(cx: &mut NodeCx<'_, '_>, op: fn(usize, bool) -> Op) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let old = cx.opset < 13;
    let given = cx.attrs.int("axis")?.unwrap_or(if old { 1 } else { -1 });
    let rank = x.rank();
    let axis = axis_in(given, rank)?;
    // From the last axis on is the last axis.
    let flatten = old && axis + 1 != rank;
    Ok(vec![cx.emit1(op(axis, flatten), &[&x])?])
}

fn batch_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.ignore("momentum");
    cx.attrs.expect_int("training_mode", 0, 0)?;
    expect_inference(cx)?;
    if cx.opset < 9 {
        cx.attrs.expect_int("spatial", 1, 1)?;
    }
    cx.at_most(5)?;
    let values = (0..5).map(|index| cx.input(index)).collect::<Result<Vec<_>, _>>()?;
    let epsilon = cx.f64("epsilon", 1e-5)?;
    Ok(vec![cx.emit1(BatchNorm { epsilon }, &values.iter().collect::<Vec<_>>())?])
}

fn layer_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.expect_int("stash_type", 1, 1)?;
    cx.at_most(3)?;
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(-1), x.rank())?;
    let epsilon = cx.f64("epsilon", 1e-5)?;
    let mut results = cx.emit(LayerNorm { axis, epsilon }, &operands(&[&x, &scale], bias.as_ref()))?;
    if cx.wants(1) || cx.wants(2) {
        results.extend(statistics(cx, &x, axis, epsilon.get())?);
    }
    Ok(results)
}

/// Mean and `1 / √(variance + epsilon)` over the axes from `axis` on, in single precision at least.
fn statistics(cx: &mut NodeCx<'_, '_>, x: &Value, axis: usize, epsilon: f64) -> Result<[Value; 2], Fault> {
    let wide = if x.ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let x = cast_to(cx, x.clone(), wide)?;
    let axes: Vec<usize> = (axis..x.rank()).collect();
    let (mean, variance) = moments(cx, &x, axes)?;
    let sum = cx.with_number(BinaryFn::Add, &variance, epsilon)?;
    let root = cx.unary(UnaryFn::Sqrt, &sum)?;
    Ok([mean, cx.unary(UnaryFn::Reciprocal, &root)?])
}

/// Mean and variance over axes, which stay with extent 1.
fn moments(cx: &mut NodeCx<'_, '_>, x: &Value, axes: Vec<usize>) -> Result<(Value, Value), Fault> {
    let mean = cx.reduce(ReduceFn::Mean, x, axes.clone(), true)?;
    let centred = cx.sub(x, &mean)?;
    let square = cx.mul(&centred, &centred)?;
    let variance = cx.reduce(ReduceFn::Mean, &square, axes, true)?;
    Ok((mean, variance))
}

/// `(x - mean) / (√variance + 1e-9)`, the offset being that of ONNX's function.
fn mean_variance_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let mut axes = axes_in(cx.attrs.ints("axes")?.unwrap_or(&[0, 2, 3]), x.rank())?;
    axes.sort_unstable();
    let (mean, variance) = moments(cx, &x, axes)?;
    let centred = cx.sub(&x, &mean)?;
    let deviation = cx.unary(UnaryFn::Sqrt, &variance)?;
    let deviation = cx.with_number(BinaryFn::Add, &deviation, 1e-9)?;
    Ok(vec![cx.div(&centred, &deviation)?])
}

fn rms_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.expect_int("stash_type", 1, 1)?;
    cx.at_most(2)?;
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(-1), x.rank())?;
    let epsilon = cx.f64("epsilon", 1e-5)?;
    Ok(vec![cx.emit1(RmsNorm { axis, epsilon }, &[&x, &scale])?])
}

fn three(cx: &mut NodeCx<'_, '_>, op: Op) -> Outputs {
    cx.at_most(3)?;
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    Ok(vec![cx.emit1(op, &[&x, &scale, &bias])?])
}

fn instance_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let epsilon = cx.f64("epsilon", 1e-5)?;
    three(cx, InstanceNorm { epsilon }.into())
}

fn group_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    if cx.opset >= 21 {
        cx.attrs.expect_int("stash_type", 1, 1)?;
    }
    let epsilon = cx.f64("epsilon", 1e-5)?;
    let groups = cx.attrs.int("num_groups")?.ok_or_else(|| Fault::model("no attribute `num_groups`", "an integer"))?;
    if cx.opset < 21 {
        let x = cx.input(0)?;
        for index in [1, 2] {
            let per_group = cx.input(index)?;
            let per_channel = spread_groups(cx, &per_group, &x, groups)?;
            cx.inputs[index] = Some(per_channel);
        }
    }
    three(cx, GroupNorm { epsilon, groups }.into())
}

/// Before opset 21, scale and bias had one element per group: repeated for each channel of the group.
fn spread_groups(cx: &mut NodeCx<'_, '_>, value: &Value, x: &Value, groups: i64) -> Result<Value, Fault> {
    let channels = fixed_dim(&x.ty, 1)?;
    if groups < 1 || channels % groups != 0 {
        return Err(Fault::model(format!("{channels} channels in {groups} groups"), "groups that divide"));
    }
    let column = cx.reshape(value, vec![groups.into(), Extent::ONE])?;
    let repeated = cx.emit1(Expand { shape: vec![groups.into(), (channels / groups).into()] }, &[&column])?;
    cx.reshape(&repeated, vec![channels.into()])
}

fn lp_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(-1), x.rank())?;
    let p = cx.attrs.int("p")?.unwrap_or(2);
    Ok(vec![cx.emit1(LpNorm { axis, p }, &[&x])?])
}

fn lrn(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let op = Lrn {
        alpha: cx.f64("alpha", 1e-4)?,
        beta: cx.f64("beta", 0.75)?,
        bias: cx.f64("bias", 1.0)?,
        size: cx.attrs.int("size")?.ok_or_else(|| Fault::model("no attribute `size`", "an integer"))?,
    };
    Ok(vec![cx.emit1(op, &[&x])?])
}
