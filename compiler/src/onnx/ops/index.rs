//! Choosing elements by index.

use adze_ir::ops::{Gather, GatherElements, GatherNd, OneHot, ScatterElements, ScatterFn, ScatterNd};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in};
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("Gather", OLDEST..=NEWEST, gather),
    ("GatherElements", 11..=NEWEST, gather_elements),
    ("GatherND", 11..=NEWEST, gather_nd),
    ("OneHot", 9..=NEWEST, one_hot),
    ("Scatter", 9..=10, scatter_elements),
    ("ScatterElements", 11..=NEWEST, scatter_elements),
    ("ScatterND", 11..=NEWEST, scatter_nd),
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
