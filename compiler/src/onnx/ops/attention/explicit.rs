//! `Attention` in parts: where scores are a result, or more decides who sees whom than our operator knows.

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Pad, PadMode, ReduceFn, UnaryFn};
use adze_ir::types::DType;

use super::super::super::error::Fault;
use super::super::super::node::NodeCx;
use super::super::super::value::Value;
use super::super::elementwise::cast_to;

/// Which positions see which keys, besides the mask.
pub(super) struct Limits {
    pub(super) causal: bool,
    /// Most keys before and after a position.
    pub(super) left: Option<i64>,
    pub(super) right: Option<i64>,
    /// Keys that count, per batch: `[b]`.
    pub(super) filled: Option<Value>,
    /// Length of the past.
    pub(super) past: Extent,
}

impl Limits {
    pub(super) fn are_more_than_causal(&self) -> bool {
        self.left.is_some() || self.right.is_some() || self.filled.is_some()
    }
}

/// `softmax(softcap(scale Q K^T) + bias) V` of `[b, h, s, d]` operands, and the scores at the point that `mode` says: 0 scaled
/// products, 1 after the soft cap, 2 with bias, 3 probabilities.
///
/// Half floats are computed in single precision, as one kernel would. A position that sees nothing has the result 0.
pub(super) fn attention(
    cx: &mut NodeCx<'_, '_>,
    [q, k, v]: [&Value; 3],
    limits: &Limits,
    scale: f64,
    softcap: f64,
    mode: i64,
) -> Result<(Value, Value), Fault> {
    if !(0..=3).contains(&mode) {
        return Err(Fault::model(format!("attribute `qk_matmul_output_mode` = {mode}"), "0 to 3"));
    }
    let dtype = q.ty.dtype;
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let q = cast_to(cx, q.clone(), wide)?;
    let k = cast_to(cx, k.clone(), wide)?;
    let v = cast_to(cx, v.clone(), wide)?;
    let (k, v) = (repeat_heads(cx, &k, &q)?, repeat_heads(cx, &v, &q)?);
    let products = cx.matmul(&q, &k, true)?;
    let products = cx.with_number(BinaryFn::Mul, &products, scale)?;
    let capped = if softcap > 0.0 {
        let small = cx.with_number(BinaryFn::Div, &products, softcap)?;
        let small = cx.unary(UnaryFn::Tanh, &small)?;
        cx.with_number(BinaryFn::Mul, &small, softcap)?
    } else {
        products.clone()
    };
    let biased = biased(cx, &capped, limits)?;
    let probabilities = softmax(cx, &biased)?;
    let result = cx.matmul(&probabilities, &v, false)?;
    let scores = match mode {
        0 => products,
        1 => capped,
        2 => biased,
        _ => probabilities,
    };
    Ok((cast_to(cx, result, dtype)?, cast_to(cx, scores, dtype)?))
}

/// `[b, hk, t, d]` with every head as often as there are heads of `q` to it.
fn repeat_heads(cx: &mut NodeCx<'_, '_>, x: &Value, q: &Value) -> Result<Value, Fault> {
    let [batch, heads, length, width] = x.ty.shape.as_slice() else {
        return Err(Fault::model(format!("operand of rank {}", x.rank()), "rank 3 or 4"));
    };
    let [batch, heads, length, width] = [batch, heads, length, width].map(Clone::clone);
    let wanted = q.ty.shape.get(1).cloned().unwrap_or(Extent::ONE);
    if heads == wanted {
        return Ok(x.clone());
    }
    let times = wanted.floordiv(&heads);
    if times.clone() * heads.clone() != wanted {
        return Err(Fault::model(format!("{wanted} heads over {heads}"), "heads that divide"));
    }
    let column = cx.unsqueeze(x, 2)?;
    let repeated = cx.expand(&column, &[batch.clone(), heads, times, length.clone(), width.clone()])?;
    cx.reshape(&repeated, vec![batch, wanted, length, width])
}

/// The scores with the mask added, and minus infinity where a key is not seen.
fn biased(cx: &mut NodeCx<'_, '_>, scores: &Value, limits: &Limits) -> Result<Value, Fault> {
    let total = scores.ty.shape.last().cloned().unwrap_or(Extent::ONE);
    let mut scores = scores.clone();
    let mut allowed = visible(cx, &scores, limits)?;
    if let Some(mask) = cx.opt(3).cloned() {
        let mask = lengthened(cx, &mask, &total)?;
        if mask.ty.dtype == DType::Bool {
            allowed.push(mask);
        } else {
            let mask = cast_to(cx, mask, scores.ty.dtype)?;
            scores = cx.add(&scores, &mask)?;
        }
    }
    let never = cx.scalar(scores.ty.dtype, f64::NEG_INFINITY);
    for seen in allowed {
        scores = cx.where_(&seen, &scores, &never)?;
    }
    Ok(scores)
}

/// A mask that ends before the keys hides the rest.
fn lengthened(cx: &mut NodeCx<'_, '_>, mask: &Value, total: &Extent) -> Result<Value, Fault> {
    let Some(length) = mask.ty.shape.last().cloned() else { return Ok(mask.clone()) };
    if length == *total || length == Extent::ONE {
        return Ok(mask.clone());
    }
    let (before, mut after) = (vec![Extent::ZERO; mask.rank()], vec![Extent::ZERO; mask.rank()]);
    if let Some(last) = after.last_mut() {
        *last = total.clone() - length;
    }
    let hidden = if mask.ty.dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    let hidden = cx.scalar(mask.ty.dtype, hidden);
    cx.emit1(Pad { mode: PadMode::Constant, before, after }, &[mask, &hidden])
}

/// Masks that broadcast to the scores `[b, h, s, t]`.
fn visible(cx: &mut NodeCx<'_, '_>, scores: &Value, limits: &Limits) -> Result<Vec<Value>, Fault> {
    let [_, _, length, total] = scores.ty.shape.as_slice() else {
        return Err(Fault::bug("attention scores of another rank"));
    };
    let (length, total) = (length.clone(), total.clone());
    let keys = cx.positions(&total, 3, 4)?;
    let mut masks = Vec::new();
    let filled = match &limits.filled {
        None => None,
        Some(filled) => {
            let filled = cast_to(cx, filled.clone(), DType::I64)?;
            let batch = filled.ty.shape.first().cloned().unwrap_or(Extent::ONE);
            Some(cx.reshape(&filled, vec![batch, Extent::ONE, Extent::ONE, Extent::ONE])?)
        }
    };
    if limits.causal || limits.left.is_some() || limits.right.is_some() {
        // Position of each row among the keys.
        let rows = cx.positions(&length, 2, 4)?;
        let start = match &filled {
            Some(filled) if limits.past == Extent::ZERO => {
                let length = cx.shape_value(&[], vec![length]);
                cx.sub(filled, &length)?
            }
            _ => cx.shape_value(&[], vec![limits.past.clone()]),
        };
        let rows = cx.add(&rows, &start)?;
        let before = cx.sub(&rows, &keys)?;
        let zero = cx.scalar(DType::I64, 0.0);
        if limits.causal {
            masks.push(cx.binary(BinaryFn::GreaterOrEqual, &before, &zero)?);
        }
        for (reach, sign) in [(limits.left, 1), (limits.right, -1)] {
            let Some(reach) = reach else { continue };
            let reach = cx.shape_value(&[], vec![(sign * reach).into()]);
            let function = if sign > 0 { BinaryFn::LessOrEqual } else { BinaryFn::GreaterOrEqual };
            masks.push(cx.binary(function, &before, &reach)?);
        }
    }
    if let Some(filled) = &filled {
        masks.push(cx.binary(BinaryFn::Less, &keys, filled)?);
    }
    Ok(masks)
}

/// Softmax over the last axis; zeros where every score is minus infinity.
fn softmax(cx: &mut NodeCx<'_, '_>, scores: &Value) -> Result<Value, Fault> {
    let (last, dtype) = (scores.rank().saturating_sub(1), scores.ty.dtype);
    let largest = cx.reduce(ReduceFn::Max, scores, vec![last], true)?;
    let (zero, one, never) = (cx.scalar(dtype, 0.0), cx.scalar(dtype, 1.0), cx.scalar(dtype, f64::NEG_INFINITY));
    let blind = cx.binary(BinaryFn::Equal, &largest, &never)?;
    let largest = cx.where_(&blind, &zero, &largest)?;
    let shifted = cx.sub(scores, &largest)?;
    let exp = cx.unary(UnaryFn::Exp, &shifted)?;
    let sum = cx.reduce(ReduceFn::Sum, &exp, vec![last], true)?;
    let sum = cx.where_(&blind, &one, &sum)?;
    cx.div(&exp, &sum)
}
