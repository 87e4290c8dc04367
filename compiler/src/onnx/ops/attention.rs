//! Attention and its position encoding. The operators stay whole; the forms of their operands (heads side by side in
//! rank 3, a past in front) are brought to the one form of ours.

use adze_ir::extent::Extent;
use adze_ir::ops::{Attention, Binary, BinaryFn, Concat, Iota, RotaryEmbedding, Transpose, Where};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::super::value::Value;
use super::linear::operands;
use super::{NEWEST, Row};

mod explicit;

use explicit::Limits;

pub(super) const ROWS: &[Row] =
    &[("Attention", 23..=NEWEST, attention), ("RotaryEmbedding", 23..=NEWEST, rotary_embedding)];

/// Swaps heads and positions.
const SWAP: [usize; 4] = [0, 2, 1, 3];

/// `[b, s, h · d]` as `[b, h, s, d]`; rank 4 as it is.
fn split_heads(cx: &mut NodeCx<'_, '_>, x: &Value, heads: &'static str) -> Result<Value, Fault> {
    match x.ty.shape.as_slice() {
        [_, _, _, _] => Ok(x.clone()),
        [batch, length, _] => {
            let count = match cx.attrs.int(heads)? {
                Some(count @ 1..=65_536) => count,
                other => return Err(Fault::model(format!("attribute `{heads}` = {other:?}"), "1 to 65536")),
            };
            let width = fixed_dim(&x.ty, 2)?;
            if width % count != 0 {
                return Err(Fault::model(format!("{width} elements in {count} heads"), "heads that divide"));
            }
            let shape = vec![batch.clone(), length.clone(), count.into(), (width / count).into()];
            let split = cx.reshape(x, shape)?;
            cx.emit1(Transpose { perm: SWAP.to_vec() }, &[&split])
        }
        other => Err(Fault::model(format!("operand of rank {}", other.len()), "rank 3 or 4")),
    }
}

/// `[b, h, s, d]` as `[b, s, h · d]`.
pub(super) fn join_heads(cx: &mut NodeCx<'_, '_>, x: &Value) -> Result<Value, Fault> {
    let swapped = cx.emit1(Transpose { perm: SWAP.to_vec() }, &[x])?;
    let [batch, length, heads, width] = swapped.ty.shape.as_slice() else {
        return Err(Fault::bug("attention with a result of another rank"));
    };
    let shape = vec![batch.clone(), length.clone(), heads.clone() * width.clone()];
    cx.reshape(&swapped, shape)
}

fn attention(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(7)?;
    cx.attrs.ignore("softmax_precision");
    let joined = cx.input(0)?.rank() == 3;
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let q = split_heads(cx, &q, "q_num_heads")?;
    let mut k = split_heads(cx, &k, "kv_num_heads")?;
    let mut v = split_heads(cx, &v, "kv_num_heads")?;
    cx.attrs.ignore("q_num_heads");
    cx.attrs.ignore("kv_num_heads");
    let past = match (cx.opt(4).cloned(), cx.opt(5).cloned()) {
        (None, None) => Extent::ZERO,
        (Some(past_k), Some(past_v)) => {
            let length = past_k.ty.shape.get(2).cloned();
            k = cx.emit1(Concat { axis: 2 }, &[&past_k, &k])?;
            v = cx.emit1(Concat { axis: 2 }, &[&past_v, &v])?;
            length.ok_or_else(|| Fault::model(format!("past {}", past_k.ty), "rank 4"))?
        }
        _ => return Err(Fault::model("a past key without a past value", "both or neither")),
    };
    let scale = match cx.attrs.float("scale")? {
        Some(scale) => f64::from(scale),
        None => usual_scale(&q)?,
    };
    let softcap = cx.f64("softcap", 0.0)?;
    let causal = cx.attrs.flag("is_causal", false)?;
    let limits = Limits {
        causal,
        left: window_size(cx, "left_window_size")?,
        right: window_size(cx, "right_window_size")?,
        filled: cx.opt(6).cloned(),
        past,
    };
    let mode = cx.attrs.int("qk_matmul_output_mode")?.unwrap_or(0);
    let (result, scores) = if cx.wants(3) || limits.are_more_than_causal() {
        let (result, scores) = explicit::attention(cx, [&q, &k, &v], &limits, scale, softcap.get(), mode)?;
        (result, Some(scores))
    } else {
        let mask = cx.opt(3).cloned();
        let shifted = causal && limits.past != Extent::ZERO;
        let mask = if shifted { Some(causal_mask(cx, &q, &k, &limits.past, mask)?) } else { mask };
        let op = Attention { scale: scale.into(), causal: causal && !shifted, softcap };
        let results = cx.emit(op, &operands(&[&q, &k, &v], mask.as_ref()))?;
        (results.into_iter().next().ok_or_else(|| Fault::bug("attention without a result"))?, None)
    };
    let result = if joined { join_heads(cx, &result)? } else { result };
    Ok([result, k, v].into_iter().chain(scores).collect())
}

/// The factor of scores of `[b, h, s, d]` queries where none is stated: `1 / sqrt(d)`.
pub(super) fn usual_scale(q: &Value) -> Result<f64, Fault> {
    let head = fixed_dim(&q.ty, 3)?;
    Ok(1.0 / f64::from(u32::try_from(head.max(1)).unwrap_or(u32::MAX)).sqrt())
}

/// A window's reach to one side; `None` where it is unlimited.
fn window_size(cx: &NodeCx<'_, '_>, name: &'static str) -> Result<Option<i64>, Fault> {
    match cx.attrs.int(name)?.unwrap_or(-1) {
        -1 => Ok(None),
        size if size >= 0 => Ok(Some(size)),
        other => Err(Fault::model(format!("attribute `{name}` = {other}"), "-1, or zero or more")),
    }
}

/// Position `i` after the past sees key `j` only if `j <= past + i`.
fn causal_mask(
    cx: &mut NodeCx<'_, '_>,
    q: &Value,
    k: &Value,
    past: &Extent,
    mask: Option<Value>,
) -> Result<Value, Fault> {
    let count = |count: &Extent, start: &Extent| Iota {
        start: start.clone(),
        step: Extent::ONE,
        count: count.clone(),
        dtype: DType::I64,
    };
    let (length, total) = (q.ty.shape[2].clone(), k.ty.shape[2].clone());
    let rows = cx.emit1(count(&length, past), &[])?;
    let rows = cx.reshape(&rows, vec![length, Extent::ONE])?;
    let columns = cx.emit1(count(&total, &Extent::ZERO), &[])?;
    let allowed = cx.emit1(Binary { function: BinaryFn::LessOrEqual }, &[&columns, &rows])?;
    match mask {
        None => Ok(allowed),
        Some(mask) if mask.ty.dtype == DType::Bool => cx.emit1(Binary { function: BinaryFn::And }, &[&allowed, &mask]),
        Some(mask) => {
            let never = cx.scalar(mask.ty.dtype, f64::NEG_INFINITY);
            cx.emit1(Where {}, &[&allowed, &mask, &never])
        }
    }
}

fn rotary_embedding(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let (x, cos, sin, positions) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.opt(3).cloned());
    let joined = x.rank() == 3;
    let x = split_heads(cx, &x, "num_heads")?;
    cx.attrs.ignore("num_heads");
    let interleaved = cx.attrs.flag("interleaved", false)?;
    let rotary_dim = cx.attrs.int("rotary_embedding_dim")?.unwrap_or(0);
    let results =
        cx.emit(RotaryEmbedding { interleaved, rotary_dim }, &operands(&[&x, &cos, &sin], positions.as_ref()))?;
    let result = results.into_iter().next().ok_or_else(|| Fault::bug("rotary embedding without a result"))?;
    Ok(vec![if joined { join_heads(cx, &result)? } else { result }])
}
