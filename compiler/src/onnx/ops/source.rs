//! Constants, shapes and ranges.

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Expand, Iota};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::fold::larger;
use super::super::node::{NodeCx, Outputs};
use super::super::tensor::dtype_of;
use super::super::value::Value;
use super::elementwise::cast_to;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("Constant", OLDEST..=NEWEST, constant),
    ("ConstantOfShape", 9..=NEWEST, constant_of_shape),
    ("EyeLike", 9..=NEWEST, eye_like),
    ("Range", 11..=NEWEST, range),
    ("Shape", OLDEST..=NEWEST, shape),
    ("Size", OLDEST..=NEWEST, size),
];

fn constant(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let name = cx.node.output.first().cloned().unwrap_or_default();
    let loc = cx.loc.clone();
    if let Some(proto) = cx.attrs.tensor("value")? {
        return Ok(vec![cx.importer.constant(proto, &name, loc)?]);
    }
    let tensor = if let Some(value) = cx.attrs.int("value_int")? {
        Tensor::from_ints(DType::I64, &[], &[value.into()])
    } else if let Some(values) = cx.attrs.ints("value_ints")? {
        Tensor::vec_i64(values)
    } else if let Some(value) = cx.attrs.float("value_float")? {
        Tensor::from_f32(&[], &[value])
    } else if let Some(values) = cx.attrs.floats("value_floats")? {
        Tensor::from_f32(&[values.len()], values)
    } else {
        let accepted = "`value`, `value_int`, `value_ints`, `value_float`, `value_floats`";
        return Err(Fault::unsupported("no attribute that is read", accepted));
    };
    Ok(vec![Value::tensor(tensor, &name, loc)])
}

fn constant_of_shape(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let shape = cx.extents(0)?;
    if let Some(negative) = shape.iter().find(|dim| dim.as_const().is_some_and(|dim| dim < 0)) {
        return Err(Fault::model(format!("dimension {negative}"), "dimensions of zero or more"));
    }
    let fill = match cx.attrs.tensor("value")? {
        None => Tensor::zeros(DType::F32, &[]),
        Some(proto) => {
            let value = cx.importer.constant(proto, "", cx.loc.clone())?;
            match value.as_tensor() {
                Some(tensor) if tensor.elems() == 1 => tensor.reshaped(&[]),
                _ => return Err(Fault::model(format!("attribute `value` of type {}", value.ty), "one element")),
            }
        }
    };
    let fill = Value::tensor(fill, "", cx.loc.clone());
    Ok(vec![cx.emit1(Expand { shape }, &[&fill])?])
}

/// Ones on a diagonal.
fn eye_like(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let dtype = match cx.attrs.int("dtype")? {
        None => x.ty.dtype,
        Some(code) => dtype_of(i32::try_from(code).unwrap_or(-1))?,
    };
    let k = cx.attrs.int("k")?.unwrap_or(0);
    let [rows, columns] = x.ty.shape.as_slice() else {
        return Err(Fault::model(format!("operand of rank {}", x.rank()), "rank 2"));
    };
    let (rows, columns) = (cx.positions(rows, 0, 2)?, cx.positions(columns, 1, 2)?);
    let k = cx.shape_value(&[], vec![k.into()]);
    let diagonal = cx.add(&rows, &k)?;
    let ones = cx.binary(BinaryFn::Equal, &columns, &diagonal)?;
    Ok(vec![cast_to(cx, ones, dtype)?])
}

fn shape(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let rank = i64::try_from(x.rank()).unwrap_or(i64::MAX);
    let (start, end) = if cx.opset >= 15 {
        (cx.attrs.int("start")?.unwrap_or(0), cx.attrs.int("end")?.unwrap_or(i64::MAX))
    } else {
        (0, i64::MAX)
    };
    let clamp = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(rank) } else { bound };
        usize::try_from(bound.clamp(0, rank)).unwrap_or(0)
    };
    let dims: Vec<Extent> = x.ty.shape.get(clamp(start)..clamp(end)).unwrap_or_default().to_vec();
    Ok(vec![cx.shape_value(&[dims.len()], dims)])
}

fn size(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let elems = cx.input(0)?.ty.elems();
    Ok(vec![cx.shape_value(&[], vec![elems])])
}

fn range(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    cx.attrs.ignore("stash_type");
    let dtype = cx.input(0)?.ty.dtype;
    let values = if dtype.is_int() { integer_range(cx, dtype)? } else { float_range(cx, dtype)? };
    Ok(vec![values])
}

fn integer_range(cx: &mut NodeCx<'_, '_>, dtype: DType) -> Result<Value, Fault> {
    let mut bounds = Vec::new();
    for index in 0..3 {
        match cx.extents(index)?.as_slice() {
            [bound] => bounds.push(bound.clone()),
            other => return Err(Fault::model(format!("input {index} of {} elements", other.len()), "one")),
        }
    }
    let [start, limit, step] = bounds.as_slice() else { return Err(Fault::bug("a range of other than three bounds")) };
    let step_range = step.range(cx.dims());
    let (span, stride) = if step_range.lo > 0 {
        (limit.clone() - start.clone(), step.clone())
    } else if step_range.hi < 0 {
        (start.clone() - limit.clone(), -step.clone())
    } else {
        return Err(Fault::unsupported(format!("step {step}"), "a step whose sign is known"));
    };
    let count = larger(&span.ceildiv(&stride), &Extent::ZERO, cx.dims());
    cx.emit1(Iota { start: start.clone(), step: step.clone(), count, dtype }, &[])
}

/// Bounds in floating point must be constant, since extents are integers.
fn float_range(cx: &mut NodeCx<'_, '_>, dtype: DType) -> Result<Value, Fault> {
    let mut bounds = [0.0; 3];
    for (index, bound) in bounds.iter_mut().enumerate() {
        *bound = cx.opt_number(index)?.ok_or_else(|| Fault::model(format!("input {index} left out"), "a number"))?;
    }
    let [start, limit, step] = bounds;
    let count = ((limit - start) / step).ceil().max(0.0);
    if !(0.0..=65_536.0).contains(&count) {
        return Err(Fault::unsupported(format!("a range of {count} floats"), "65536 at most"));
    }
    let mut values = Vec::new();
    while f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX)) < count {
        let index = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
        values.push(start + index * step);
    }
    let tensor = Tensor::from_f64(dtype, &[values.len()], &values);
    Ok(Value::tensor(tensor, "", cx.loc.clone()))
}
