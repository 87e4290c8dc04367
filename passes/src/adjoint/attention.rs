//! Attention, differentiated by its equal form in smaller operators, and rotary embedding.

use adze_ir::extent::Extent;
use adze_ir::graph::ValueId;
use adze_ir::ops::{Attention, BinaryFn, Iota, MatMul, RotaryEmbedding, Softmax, UnaryFn, Where};
use adze_ir::types::DType;

use super::Products;
use super::step::{Made, Step};

/// What is masked has this score instead of minus infinity: a row that is masked throughout has no numbers then that are none.
const MASKED: f64 = -1e30;

/// `softmax(scale · Q·Kᵀ + mask) · V`, heads that share keys below one another.
pub(super) fn equal_form(s: &mut Step<'_>, op: &Attention) -> Made {
    let [q, k, v] = [s.x(0)?, s.x(1)?, s.x(2)?];
    let [of_q, of_k, of_v] = [q, k, v].map(|value| s.shape(value));
    let rows = of_q[1].floordiv(&of_k[1]) * of_q[2].clone();
    let shared = |last: &Extent| vec![of_q[0].clone(), of_k[1].clone(), rows.clone(), last.clone()];
    let each = |last: &Extent| vec![of_q[0].clone(), of_q[1].clone(), of_q[2].clone(), last.clone()];
    let q = s.reshaped(q, shared(&of_q[3]))?;
    let scores = s.add(MatMul { trans_a: false, trans_b: true }, &[q, k])?;
    let scores = s.reshaped(scores, each(&of_k[2]))?;
    let mut scores = s.scaled(scores, op.scale.get())?;
    if op.softcap.get() > 0.0 {
        let inner = s.scaled(scores, 1.0 / op.softcap.get())?;
        let inner = s.unary(UnaryFn::Tanh, inner)?;
        scores = s.scaled(inner, op.softcap.get())?;
    }
    if let Some(mask) = s.node.inputs.get(3).copied().flatten() {
        scores = masked(s, scores, mask)?;
    }
    if op.causal {
        scores = causal(s, scores, [&of_q[2], &of_k[2]])?;
    }
    let shares = s.add(Softmax { axis: 3, flatten: false }, &[scores])?;
    let shares = s.reshaped(shares, shared(&of_k[2]))?;
    let sums = s.add(MatMul { trans_a: false, trans_b: false }, &[shares, v])?;
    s.reshaped(sums, each(&of_v[3]))
}

fn masked(s: &mut Step<'_>, scores: ValueId, mask: ValueId) -> Made {
    let least = s.scalar(scores, MASKED);
    if s.graph.ty(mask).dtype == DType::Bool {
        return s.add(Where {}, &[mask, scores, least]);
    }
    let bounded = s.binary(BinaryFn::Max, mask, least)?;
    s.binary(BinaryFn::Add, scores, bounded)
}

/// Keys behind a query are masked.
fn causal(s: &mut Step<'_>, scores: ValueId, [queries, keys]: [&Extent; 2]) -> Made {
    let mut count = |count: &Extent| {
        let iota = Iota { start: Extent::ZERO, step: Extent::ONE, count: count.clone(), dtype: DType::I64 };
        s.add(iota, &[])
    };
    let (rows, columns) = (count(queries)?, count(keys)?);
    let rows = s.reshaped(rows, vec![queries.clone(), Extent::ONE])?;
    let seen = s.binary(BinaryFn::LessOrEqual, columns, rows)?;
    let least = s.scalar(scores, MASKED);
    s.add(Where {}, &[seen, scores, least])
}

/// Turned back by the same angles.
pub(super) fn rotary(s: &mut Step<'_>, op: &RotaryEmbedding) -> Products {
    if s.wanted.iter().skip(1).any(|&wanted| wanted) {
        return Err(s.unsupported("angles that depend on weights".into(), "constant ones"));
    }
    let (cos, sin) = (s.x(1)?, s.x(2)?);
    let back = s.unary(UnaryFn::Neg, sin)?;
    let positions = s.node.inputs.get(3).copied().flatten();
    let operands: Vec<ValueId> = [s.g, cos, back].into_iter().chain(positions).collect();
    Ok(vec![Some(s.add(op.clone(), &operands)?)])
}
