//! Choosing elements by index.

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Gather, GatherElements, GatherNd, OneHot, ScatterElements, ScatterFn, ScatterNd};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in};
use super::elementwise::cast_to;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("Gather", OLDEST..=NEWEST, gather),
    ("GatherElements", 11..=NEWEST, gather_elements),
    ("GatherND", 11..=NEWEST, gather_nd),
    ("OneHot", 9..=NEWEST, one_hot),
    ("ReverseSequence", 10..=NEWEST, reverse_sequence),
    ("Scatter", 9..=10, scatter_elements),
    ("ScatterElements", 11..=NEWEST, scatter_elements),
    ("ScatterND", 11..=NEWEST, scatter_nd),
    ("TensorScatter", 24..=NEWEST, tensor_scatter),
];

fn gather(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(0), x.rank())?;
    Ok(vec![cx.emit1(Gather { axis }, &[&x, &indices])?])
}

fn gather_elements(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(0), x.rank())?;
    Ok(vec![cx.emit1(GatherElements { axis }, &[&x, &indices])?])
}

fn gather_nd(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let batch_dims = cx.attrs.int("batch_dims")?.unwrap_or(0);
    let batch_dims = usize::try_from(batch_dims)
        .map_err(|_| Fault::model(format!("attribute `batch_dims` = {batch_dims}"), "zero or more"))?;
    Ok(vec![cx.emit1(GatherNd { batch_dims }, &[&x, &indices])?])
}

fn reduction(cx: &NodeCx<'_, '_>) -> Result<ScatterFn, Fault> {
    let words = &[
        ("none", ScatterFn::None),
        ("add", ScatterFn::Add),
        ("mul", ScatterFn::Mul),
        ("max", ScatterFn::Max),
        ("min", ScatterFn::Min),
    ];
    cx.attrs.word("reduction", "none", words)
}

fn scatter_elements(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(0), x.rank())?;
    let function = reduction(cx)?;
    Ok(vec![cx.emit1(ScatterElements { axis, function }, &[&x, &indices, &updates])?])
}

fn scatter_nd(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let function = reduction(cx)?;
    Ok(vec![cx.emit1(ScatterNd { function }, &[&x, &indices, &updates])?])
}

/// The first elements of each row along one axis in reverse, as many as the row's length says.
fn reverse_sequence(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (x, lengths) = (cx.input(0)?, cx.input(1)?);
    let batch = axis_in(cx.attrs.int("batch_axis")?.unwrap_or(1), x.rank())?;
    let time = axis_in(cx.attrs.int("time_axis")?.unwrap_or(0), x.rank())?;
    if batch == time {
        return Err(Fault::model(format!("axis {time} for time and batch"), "two axes"));
    }
    let mut shape = vec![Extent::ONE; x.rank()];
    shape[batch] = x.ty.shape[batch].clone();
    let lengths = cast_to(cx, lengths, DType::I64)?;
    let lengths = cx.reshape(&lengths, shape)?;
    let at = cx.positions(&x.ty.shape[time], time, x.rank())?;
    let inside = cx.binary(BinaryFn::Less, &at, &lengths)?;
    let last = cx.with_number(BinaryFn::Sub, &lengths, 1.0)?;
    let mirrored = cx.sub(&last, &at)?;
    let from = cx.where_(&inside, &mirrored, &at)?;
    let from = cx.expand(&from, &x.ty.shape)?;
    Ok(vec![cx.emit1(GatherElements { axis: time }, &[&x, &from])?])
}

/// Writes a sequence into a cache from a position per batch on.
fn tensor_scatter(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (cache, update, start) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(-2), cache.rank())?;
    let circular = cx.attrs.word("mode", "linear", &[("linear", false), ("circular", true)])?;
    if axis == 0 || update.rank() != cache.rank() {
        let found = format!("axis {axis} of {} for {}", cache.ty, update.ty);
        return Err(Fault::model(found, "equal ranks, and an axis after the first"));
    }
    let mut at = cx.positions(&update.ty.shape[axis], axis, cache.rank())?;
    if let Some(start) = start {
        let mut shape = vec![Extent::ONE; cache.rank()];
        shape[0] = cache.ty.shape[0].clone();
        let start = cast_to(cx, start, DType::I64)?;
        let start = cx.reshape(&start, shape)?;
        at = cx.add(&at, &start)?;
    }
    if circular {
        let length = cx.shape_value(&[], vec![cache.ty.shape[axis].clone()]);
        at = cx.binary(BinaryFn::Mod, &at, &length)?;
    }
    let at = cx.expand(&at, &update.ty.shape)?;
    let op = ScatterElements { axis, function: ScatterFn::None };
    Ok(vec![cx.emit1(op, &[&cache, &at, &update])?])
}

fn one_hot(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (indices, values) = (cx.input(0)?, cx.input(2)?);
    let depth = match cx.input(1)?.as_tensor() {
        // The depth may come as a float.
        Some(tensor) if tensor.elems() == 1 => tensor.to_i64().first().copied().unwrap_or(0).into(),
        _ => match cx.extents(1)?.as_slice() {
            [depth] => depth.clone(),
            other => return Err(Fault::model(format!("depth of {} elements", other.len()), "one")),
        },
    };
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(-1), indices.rank() + 1)?;
    Ok(vec![cx.emit1(OneHot { axis, depth }, &[&indices, &values])?])
}
