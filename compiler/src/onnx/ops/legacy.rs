//! What operators said before opset 7, where it is not what they say now.

use adze_ir::extent::Extent;
use adze_ir::types::Shape;

use super::super::error::Fault;
use super::super::node::{NodeCx, axis_in};
use super::super::value::Value;

/// The first opset with today's broadcasting.
pub(super) const NUMPY_BROADCASTING: i64 = 7;

/// The second operand of a binary operator, shaped so that today's broadcasting does what `broadcast` and `axis` ask for: its
/// axes lie on those of `a` from `axis` on.
pub(super) fn aligned(cx: &mut NodeCx<'_, '_>, a: &Value, b: Value) -> Result<Value, Fault> {
    if cx.opset >= NUMPY_BROADCASTING {
        return Ok(b);
    }
    let (broadcast, axis) = (cx.attrs.flag("broadcast", false)?, cx.attrs.int("axis")?);
    let Some(axis) = axis.filter(|_| broadcast && b.rank() > 0) else { return Ok(b) };
    let axis = axis_in(axis, a.rank())?;
    match a.rank().checked_sub(axis + b.rank()) {
        Some(after) => {
            let shape: Shape = b.ty.shape.iter().cloned().chain((0..after).map(|_| Extent::ONE)).collect();
            cx.reshape(&b, shape)
        }
        None => {
            let found = format!("operand of rank {} at axis {axis} of rank {}", b.rank(), a.rank());
            Err(Fault::model(found, "axes that it has"))
        }
    }
}

/// The slope of `PRelu`: one for all, or one per channel (axis 1).
pub(super) fn slope(cx: &mut NodeCx<'_, '_>, x: &Value, slope: Value) -> Result<Value, Fault> {
    if cx.opset >= NUMPY_BROADCASTING || slope.rank() != 1 || slope.ty.shape[0] == Extent::ONE || x.rank() < 2 {
        return Ok(slope);
    }
    let shape: Shape = slope.ty.shape.iter().cloned().chain((2..x.rank()).map(|_| Extent::ONE)).collect();
    cx.reshape(&slope, shape)
}

/// Refuses what has to be told that it is not trained; `is_test` went away in opset 7.
pub(super) fn expect_inference(cx: &NodeCx<'_, '_>) -> Result<(), Fault> {
    if cx.opset < NUMPY_BROADCASTING { cx.attrs.expect_int("is_test", 0, 1) } else { Ok(()) }
}
