//! Attention without a softmax: a state that every position updates.

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Conv, Swish, UnaryFn};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::super::value::Value;
use super::elementwise::cast_to;
use super::linear::operands;
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] =
    &[("CausalConvWithState", 27..=NEWEST, causal_conv), ("LinearAttention", 27..=NEWEST, linear_attention)];

/// Most positions that are written out.
const MAX_LENGTH: i64 = 1024;

/// How the state follows: with decay, and with the difference to what it already says.
const RULES: &[(&str, (bool, bool))] =
    &[("linear", (false, false)), ("gated", (true, false)), ("delta", (false, true)), ("gated_delta", (true, true))];

fn heads(cx: &NodeCx<'_, '_>, name: &'static str) -> Result<i64, Fault> {
    match cx.attrs.int(name)? {
        Some(count @ 1..=65_536) => Ok(count),
        other => Err(Fault::model(format!("attribute `{name}` = {other:?}"), "1 to 65536")),
    }
}

/// `[b, t, h · d]` as `[b, t, h, d]` in single precision.
fn split(cx: &mut NodeCx<'_, '_>, x: &Value, heads: i64, wide: DType) -> Result<Value, Fault> {
    let [batch, length, _] = x.ty.shape.as_slice() else {
        return Err(Fault::model(format!("operand of rank {}", x.rank()), "rank 3"));
    };
    let (batch, length) = (batch.clone(), length.clone());
    let width = fixed_dim(&x.ty, 2)?;
    if width % heads != 0 {
        return Err(Fault::model(format!("{width} elements in {heads} heads"), "heads that divide"));
    }
    let x = cast_to(cx, x.clone(), wide)?;
    cx.reshape(&x, vec![batch, length, heads.into(), (width / heads).into()])
}

/// Written out per position: `S = e^g S + k (β (v - S^T k))^T`, `o = scale q^T S`, without the factors that the rule leaves out.
fn linear_attention(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(6)?;
    cx.attrs.ignore("chunk_size");
    let (gated, corrected) = cx.attrs.word("update_rule", "gated_delta", RULES)?;
    let (queries, keys) = (heads(cx, "q_num_heads")?, heads(cx, "kv_num_heads")?);
    if queries % keys != 0 {
        return Err(Fault::model(format!("{queries} heads over {keys}"), "heads that divide"));
    }
    let dtype = cx.input(0)?.ty.dtype;
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (q, k, v) = (split(cx, &q, queries, wide)?, split(cx, &k, keys, wide)?, split(cx, &v, keys, wide)?);
    let mut factor = |index: usize, wanted: bool, name: &str| match (cx.opt(index).cloned(), wanted) {
        (Some(value), true) => {
            // One number for all heads, per head, or per element of a head.
            let heads = if fixed_dim(&value.ty, 2)? == 1 { 1 } else { keys };
            split(cx, &value, heads, wide).map(Some)
        }
        (None, false) => Ok(None),
        (found, _) => {
            let found = if found.is_some() { "an operand" } else { "no operand" };
            Err(Fault::model(format!("{found} `{name}`"), "one where `update_rule` uses it"))
        }
    };
    let (decay, beta) = (factor(4, gated, "decay")?, factor(5, corrected, "beta")?);
    let decay = match decay {
        None => None,
        Some(decay) => Some(cx.unary(UnaryFn::Exp, &decay)?),
    };
    let (width, depth) = (fixed_dim(&q.ty, 3)?, fixed_dim(&v.ty, 3)?);
    let scale = match cx.attrs.float("scale")?.unwrap_or(0.0) {
        0.0 => 1.0 / f64::from(u32::try_from(width.max(1)).unwrap_or(u32::MAX)).sqrt(),
        scale => f64::from(scale),
    };
    let length = fixed_dim(&q.ty, 1)?;
    if !(1..=MAX_LENGTH).contains(&length) {
        return Err(Fault::unsupported(format!("a sequence of {length}"), format!("1 to {MAX_LENGTH}")));
    }
    let batch = q.ty.shape[0].clone();
    let state_shape = [batch.clone(), keys.into(), width.into(), depth.into()];
    let (mut state, state_dtype) = match cx.opt(3).cloned() {
        None => (cx.filled(wide, 0.0, &state_shape)?, dtype),
        Some(past) => (cast_to(cx, past.clone(), wide)?, past.ty.dtype),
    };
    let mut results = Vec::new();
    for position in 0..length {
        let at = |cx: &mut NodeCx<'_, '_>, x: &Value| cx.element(x, 1, position);
        let (q, k, v) = (at(cx, &q)?, at(cx, &k)?, at(cx, &v)?);
        // Columns `[b, h, d, 1]`, rows `[b, h, 1, d]`.
        let column = cx.unsqueeze(&k, 3)?;
        let mut row = cx.unsqueeze(&v, 2)?;
        if let Some(decay) = &decay {
            let decay = at(cx, decay)?;
            let decay = cx.unsqueeze(&decay, 3)?;
            state = cx.mul(&state, &decay)?;
        }
        if let Some(beta) = &beta {
            let beta = at(cx, beta)?;
            let beta = cx.unsqueeze(&beta, 3)?;
            let key = cx.unsqueeze(&k, 2)?;
            let known = cx.matmul(&key, &state, false)?;
            let difference = cx.sub(&row, &known)?;
            row = cx.mul(&difference, &beta)?;
        }
        let product = cx.mul(&column, &row)?;
        state = cx.add(&state, &product)?;
        // The heads of a group share a state.
        let group = [batch.clone(), keys.into(), (queries / keys).into(), width.into()];
        let q = cx.reshape(&q, group.to_vec())?;
        let read = cx.matmul(&q, &state, false)?;
        let width = Extent::from(queries) * depth.into();
        results.push(cx.reshape(&read, vec![batch.clone(), width])?);
    }
    let result = cx.stack(1, &results)?;
    let result = cx.with_number(BinaryFn::Mul, &result, scale)?;
    Ok(vec![cast_to(cx, result, dtype)?, cast_to(cx, state, state_dtype)?])
}

/// A depthwise convolution along the last axis that sees the past only; the past comes from the call before.
fn causal_conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let swish = cx.attrs.word("activation", "none", &[("none", false), ("silu", true), ("swish", true)])?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2).cloned());
    let [batch, channels, _] = x.ty.shape.as_slice() else {
        return Err(Fault::model(format!("operand of rank {}", x.rank()), "rank 3"));
    };
    if w.rank() != 3 {
        return Err(Fault::model(format!("weights of rank {}", w.rank()), "rank 3"));
    }
    let (group, kernel) = (fixed_dim(&x.ty, 1)?, fixed_dim(&w.ty, 2)?);
    let reach = Extent::from((kernel - 1).max(0));
    let past = match cx.opt(3).cloned() {
        Some(past) => past,
        None => cx.filled(x.ty.dtype, 0.0, &[batch.clone(), channels.clone(), reach.clone()])?,
    };
    let padded = cx.concat(2, &[&past, &x])?;
    let op = Conv { strides: vec![1], pads: vec![0, 0], dilations: vec![1], group };
    let mut results = cx.emit(op, &operands(&[&padded, &w], bias.as_ref()))?;
    let mut result = results.pop().ok_or_else(|| Fault::bug("a convolution without a result"))?;
    if swish {
        result = cx.emit1(Swish { alpha: adze_ir::attrs::F64::new(1.0) }, &[&result])?;
    }
    let length = padded.ty.shape[2].clone();
    let present = cx.cut(&padded, 2, length - reach.clone(), reach)?;
    Ok(vec![result, present])
}
