//! Reductions along axes.

use adze_ir::ops::{ArgReduce, CumProd, CumSum, Reduce, ReduceFn, TopK};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axes_in, axis_in};
use super::elementwise::cast_to;
use super::{NEWEST, OLDEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("ArgMax", OLDEST..=NEWEST, |cx| arg_reduce(cx, ReduceFn::Max)),
    ("ArgMin", OLDEST..=NEWEST, |cx| arg_reduce(cx, ReduceFn::Min)),
    ("CumProd", 26..=NEWEST, cum_prod),
    ("CumSum", 11..=NEWEST, cum_sum),
    ("ReduceL1", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::L1, 18)),
    ("ReduceL2", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::L2, 18)),
    ("ReduceLogSum", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::LogSum, 18)),
    ("ReduceLogSumExp", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::LogSumExp, 18)),
    ("ReduceMax", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::Max, 18)),
    ("ReduceMean", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::Mean, 18)),
    ("ReduceMin", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::Min, 18)),
    ("ReduceProd", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::Prod, 18)),
    ("ReduceSum", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::Sum, 13)),
    ("ReduceSumSquare", OLDEST..=NEWEST, |cx| reduce(cx, ReduceFn::SumSquare, 18)),
    ("TopK", OLDEST..=NEWEST, top_k),
];

/// The axes are an attribute before the opset `axes_input`, an operand from then on.
fn reduce(cx: &mut NodeCx<'_, '_>, function: ReduceFn, axes_input: i64) -> Outputs {
    let x = cx.input(0)?;
    let (axes, empty_is_none) = if cx.opset >= axes_input {
        cx.at_most(2)?;
        (cx.opt_ints(1)?.unwrap_or_default(), cx.attrs.flag("noop_with_empty_axes", false)?)
    } else {
        cx.at_most(1)?;
        (cx.attrs.ints("axes")?.unwrap_or_default().to_vec(), false)
    };
    let keep_dims = cx.attrs.flag("keepdims", true)?;
    let mut axes = axes_in(&axes, x.rank())?;
    axes.sort_unstable();
    if axes.is_empty() {
        if empty_is_none {
            // Of one element, these give the element; the others still apply their function.
            let passes =
                matches!(function, ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min | ReduceFn::Prod);
            if passes {
                return Ok(vec![x]);
            }
        } else {
            axes = (0..x.rank()).collect();
        }
    }
    // The largest and the smallest truth value are those of 0 and 1.
    if x.ty.dtype == DType::Bool && matches!(function, ReduceFn::Max | ReduceFn::Min) {
        let x = cast_to(cx, x, DType::U8)?;
        let result = cx.reduce(function, &x, axes, keep_dims)?;
        return Ok(vec![cast_to(cx, result, DType::Bool)?]);
    }
    Ok(vec![cx.emit1(Reduce { function, axes, keep_dims }, &[&x])?])
}

fn arg_reduce(cx: &mut NodeCx<'_, '_>, function: ReduceFn) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(0), x.rank())?;
    let keep_dims = cx.attrs.flag("keepdims", true)?;
    let last = cx.attrs.flag("select_last_index", false)?;
    Ok(vec![cx.emit1(ArgReduce { function, axis, keep_dims, last }, &[&x])?])
}

fn cum_sum(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let axis = axis_in(cx.int(1)?, x.rank())?;
    let op = CumSum { axis, exclusive: cx.attrs.flag("exclusive", false)?, reverse: cx.attrs.flag("reverse", false)? };
    Ok(vec![cx.emit1(op, &[&x])?])
}

fn cum_prod(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let axis = axis_in(cx.int(1)?, x.rank())?;
    let op = CumProd { axis, exclusive: cx.attrs.flag("exclusive", false)?, reverse: cx.attrs.flag("reverse", false)? };
    Ok(vec![cx.emit1(op, &[&x])?])
}

fn top_k(cx: &mut NodeCx<'_, '_>) -> Outputs {
    // Sorted results are among those that `sorted = 0` allows.
    cx.attrs.ignore("sorted");
    let x = cx.input(0)?;
    let k = if cx.opset >= 10 {
        cx.at_most(2)?;
        match cx.extents(1)?.as_slice() {
            [k] => k.clone(),
            other => return Err(Fault::model(format!("`k` of {} elements", other.len()), "one")),
        }
    } else {
        cx.at_most(1)?;
        cx.attrs.int("k")?.ok_or_else(|| Fault::model("no attribute `k`", "an integer"))?.into()
    };
    let axis = axis_in(cx.attrs.int("axis")?.unwrap_or(-1), x.rank())?;
    let smallest = !cx.attrs.flag("largest", true)?;
    cx.emit(TopK { k, axis, smallest }, &[Some(&x)])
}
