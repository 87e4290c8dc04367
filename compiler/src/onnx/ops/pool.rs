//! Pooling over windows and over all space.

use adze_ir::ops::{AveragePool, LpPool, MaxPool, Reduce, ReduceFn};
use adze_ir::types::TensorType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::super::value::Value;
use super::linear::{Window, pool_kernel, spatial_rank, window};
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("AveragePool", OLDEST..=NEWEST, average_pool),
    ("GlobalAveragePool", OLDEST..=NEWEST, |cx| global(cx, ReduceFn::Mean)),
    ("GlobalLpPool", 2..=NEWEST, global_lp),
    ("GlobalMaxPool", OLDEST..=NEWEST, |cx| global(cx, ReduceFn::Max)),
    ("LpPool", 2..=NEWEST, lp_pool),
    ("MaxPool", OLDEST..=NEWEST, max_pool),
];

/// Rows that `ceil_mode` adds at the end of each spatial axis.
fn ceil_pads(cx: &NodeCx<'_, '_>, x: &TensorType, kernel: &[i64], window: &Window) -> Result<Vec<i64>, Fault> {
    let rank = kernel.len();
    let mut extra = vec![0; rank];
    if !cx.attrs.flag("ceil_mode", false)? {
        return Ok(extra);
    }
    for axis in 0..rank {
        let stride = window.strides[axis];
        if stride == 1 {
            continue;
        }
        let extent = fixed_dim(x, axis + 2)?;
        let reach = window.dilations[axis] * (kernel[axis] - 1) + 1;
        let span = extent + window.pads[axis] + window.pads[axis + rank] - reach;
        if span < 0 {
            continue;
        }
        let steps = span / stride + i64::from(span % stride != 0);
        // A last window that would start in the padding at the end is left out.
        let steps = if steps * stride >= extent + window.pads[axis] { steps - 1 } else { steps };
        extra[axis] = (steps * stride - span).max(0);
    }
    Ok(extra)
}

fn max_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    // Order of the indices, which are not given.
    cx.attrs.ignore("storage_order");
    cx.at_most_outputs(1)?;
    let x = cx.input(0)?;
    let kernel = pool_kernel(cx, &x.ty)?;
    let mut window = window(cx, &x.ty, &kernel)?;
    let extra = ceil_pads(cx, &x.ty, &kernel, &window)?;
    for (axis, extra) in extra.iter().enumerate() {
        window.pads[axis + kernel.len()] += extra;
    }
    let Window { strides, pads, dilations } = window;
    Ok(vec![cx.emit1(MaxPool { kernel, strides, pads, dilations }, &[&x])?])
}

fn average_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    Ok(vec![average_pool_of(cx, &x)?])
}

/// The mean over the windows that the node's attributes describe.
pub(super) fn average_pool_of(cx: &mut NodeCx<'_, '_>, x: &Value) -> Result<Value, Fault> {
    let kernel = pool_kernel(cx, &x.ty)?;
    let window = window(cx, &x.ty, &kernel)?;
    let ceil_pads = ceil_pads(cx, &x.ty, &kernel, &window)?;
    let count_include_pad = cx.attrs.flag("count_include_pad", false)?;
    let Window { strides, pads, dilations } = window;
    cx.emit1(AveragePool { kernel, strides, pads, dilations, ceil_pads, count_include_pad }, &[x])
}

fn lp_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let kernel = pool_kernel(cx, &x.ty)?;
    let mut window = window(cx, &x.ty, &kernel)?;
    let extra = ceil_pads(cx, &x.ty, &kernel, &window)?;
    for (axis, extra) in extra.iter().enumerate() {
        window.pads[axis + kernel.len()] += extra;
    }
    let p = cx.attrs.int("p")?.unwrap_or(2);
    if !(1..=64).contains(&p) {
        return Err(Fault::unsupported(format!("attribute `p` = {p}"), "1 to 64"));
    }
    let Window { strides, pads, dilations } = window;
    Ok(vec![cx.emit1(LpPool { kernel, strides, pads, dilations, p }, &[&x])?])
}

fn global(cx: &mut NodeCx<'_, '_>, function: ReduceFn) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    spatial_rank(&x.ty)?;
    let axes = (2..x.rank()).collect();
    Ok(vec![cx.emit1(Reduce { function, axes, keep_dims: true }, &[&x])?])
}

fn global_lp(cx: &mut NodeCx<'_, '_>) -> Outputs {
    match cx.attrs.int("p")?.unwrap_or(2) {
        1 => global(cx, ReduceFn::L1),
        2 => global(cx, ReduceFn::L2),
        other => Err(Fault::unsupported(format!("attribute `p` = {other}"), "1, 2")),
    }
}
