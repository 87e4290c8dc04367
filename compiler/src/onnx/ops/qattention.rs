//! Attention of quantized operands in the domain `com.microsoft`: integer projections, attention in floats between them.

use adze_ir::extent::Extent;
use adze_ir::ops::{Attention, BinaryFn};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::super::value::Value;
use super::Row;
use super::attention::{join_heads, usual_scale};
use super::contrib::{scalar, zero_point};
use super::elementwise::cast_to;
use super::linear::operands;
use super::qlinear::{per_column, scaled_product};
use super::quantize::per_tensor;

pub(super) const ROWS: &[Row] = &[("QAttention", 1..=1, qattention)];

/// Operands `x[b, s, i], w[i, 3 · h · d], bias, x_scale, w_scale, mask?, x_zero?, w_zero?, past?[2, b, h, p, d]`; results
/// `y[b, s, h · d]` and `present[2, b, h, p + s, d]`.
fn qattention(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(9)?;
    for name in ["do_rotary", "past_present_share_buffer"] {
        if cx.attrs.flag(name, false)? {
            return Err(Fault::unsupported(format!("attribute `{name}` = 1"), "0"));
        }
    }
    let [q, k, v] = heads(cx)?;
    let (k, v, past) = match cx.opt(8).cloned() {
        None => (k, v, Extent::ZERO),
        Some(past) if past.rank() == 5 => {
            let (past_k, past_v) = (cx.element(&past, 0, 0)?, cx.element(&past, 0, 1)?);
            let length = past.ty.shape[3].clone();
            (cx.concat(2, &[&past_k, &k])?, cx.concat(2, &[&past_v, &v])?, length)
        }
        Some(past) => return Err(Fault::model(format!("past {}", past.ty), "rank 5")),
    };
    let causal = cx.attrs.flag("unidirectional", false)?;
    if causal && past != Extent::ZERO {
        return Err(Fault::unsupported("attribute `unidirectional` = 1 with a past", "one of them"));
    }
    let scale = match cx.attrs.float("scale")? {
        Some(scale) if scale != 0.0 => f64::from(scale),
        _ => usual_scale(&q)?,
    };
    let mask = mask(cx, &q, &k)?;
    let op = Attention { scale: scale.into(), causal, softcap: 0.0.into() };
    let results = cx.emit(op, &operands(&[&q, &k, &v], mask.as_ref()))?;
    let result = results.into_iter().next().ok_or_else(|| Fault::bug("attention without a result"))?;
    let result = join_heads(cx, &result)?;
    let present = if cx.wants(1) { Some(cx.stack(0, &[k, v])?) } else { None };
    Ok(std::iter::once(result).chain(present).collect())
}

/// `Q, K, V` of `[b, h, s, d]`, each a third of one scaled product.
fn heads(cx: &mut NodeCx<'_, '_>) -> Result<[Value; 3], Fault> {
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (x_scale, w_scale) = (cx.input(3)?, cx.input(4)?);
    let (x_scale, w_scale) = (scalar(cx, x_scale)?, per_tensor(cx, w_scale)?);
    let (x_zero, w_zero) = (zero_point(cx, 6)?, per_column(cx, 7)?);
    let zeros = [x_zero.as_ref(), w_zero.as_ref()];
    let mut product = scaled_product(cx, [&x, &w], [&x_scale, &w_scale], zeros, Some(&bias))?;
    let product = product.pop().ok_or_else(|| Fault::bug("a product without a result"))?;
    let [batch, length, _] =
        product.ty.shape.clone().try_into().map_err(|_| Fault::model(format!("operand {}", x.ty), "rank 3"))?;
    let width = fixed_dim(&product.ty, 2)?;
    let count = match cx.attrs.int("num_heads")? {
        Some(count @ 1..=65_536) if width % (3 * count) == 0 => count,
        other => {
            return Err(Fault::model(
                format!("`num_heads` = {other:?} of {width} columns"),
                "heads that divide a third",
            ));
        }
    };
    let shape = vec![batch, length, 3.into(), count.into(), (width / (3 * count)).into()];
    let split = cx.reshape(&product, shape)?;
    let split = cx.transpose(&split, &[2, 0, 3, 1, 4])?;
    Ok([cx.element(&split, 0, 0)?, cx.element(&split, 0, 1)?, cx.element(&split, 0, 2)?])
}

/// What is added to the scores: 0 where a key counts, `mask_filter_value` elsewhere. The operand is `[b]`, the number of keys that
/// count, or 1 where a key counts: `[b, t]` or `[b, s, t]`.
fn mask(cx: &mut NodeCx<'_, '_>, q: &Value, k: &Value) -> Result<Option<Value>, Fault> {
    let filter = f64::from(cx.attrs.float("mask_filter_value")?.unwrap_or(-10_000.0));
    let Some(given) = cx.opt(5).cloned() else { return Ok(None) };
    let (batch, length, total) = (q.ty.shape[0].clone(), q.ty.shape[2].clone(), k.ty.shape[2].clone());
    let given = cast_to(cx, given, DType::I64)?;
    let counts = match given.ty.shape.as_slice() {
        [rows] if *rows == batch => {
            let lengths = cx.reshape(&given, vec![batch, Extent::ONE, Extent::ONE, Extent::ONE])?;
            let at = cx.positions(&total, 3, 4)?;
            cx.binary(BinaryFn::Less, &at, &lengths)?
        }
        [_, _] => {
            let shown = cx.reshape(&given, vec![batch, Extent::ONE, Extent::ONE, total])?;
            cx.with_number(BinaryFn::Greater, &shown, 0.0)?
        }
        [_, _, _] => {
            let shown = cx.reshape(&given, vec![batch, Extent::ONE, length, total])?;
            cx.with_number(BinaryFn::Greater, &shown, 0.0)?
        }
        _ => return Err(Fault::unsupported(format!("mask {}", given.ty), "`[b]`, `[b, t]` or `[b, s, t]`")),
    };
    let (zero, filter) = (cx.scalar(q.ty.dtype, 0.0), cx.scalar(q.ty.dtype, filter));
    cx.where_(&counts, &zero, &filter).map(Some)
}
