//! Attention and its position encoding.

use adze_ir::ops::{Attention, RotaryEmbedding};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::linear::operands;
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] =
    &[("Attention", 23..=NEWEST, attention), ("RotaryEmbedding", 23..=NEWEST, rotary_embedding)];

fn attention(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    cx.at_most_outputs(1)?;
    cx.attrs.ignore("softmax_precision");
    cx.attrs.expect_int("qk_matmul_output_mode", 0, 0)?;
    for window in ["left_window_size", "right_window_size"] {
        cx.attrs.expect_int(window, -1, -1)?;
    }
    let (q, k, v, mask) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.opt(3).cloned());
    for (name, value) in [("Q", &q), ("K", &k), ("V", &v)] {
        if value.rank() != 4 {
            return Err(Fault::unsupported(format!("{name} of rank {}", value.rank()), "rank 4"));
        }
    }
    // They only serve to split heads of rank-3 operands.
    cx.attrs.ignore("q_num_heads");
    cx.attrs.ignore("kv_num_heads");
    let scale = match cx.attrs.float("scale")? {
        Some(scale) => f64::from(scale),
        None => {
            let head = fixed_dim(&q.ty, 3)?;
            1.0 / f64::from(u32::try_from(head.max(1)).unwrap_or(u32::MAX)).sqrt()
        }
    };
    let causal = cx.attrs.flag("is_causal", false)?;
    let softcap = cx.f64("softcap", 0.0)?;
    cx.emit(Attention { scale: scale.into(), causal, softcap }, &operands(&[&q, &k, &v], mask.as_ref()))
}

fn rotary_embedding(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let (x, cos, sin, positions) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.opt(3).cloned());
    if x.rank() != 4 {
        return Err(Fault::unsupported(format!("input of rank {}", x.rank()), "rank 4"));
    }
    cx.attrs.ignore("num_heads");
    let interleaved = cx.attrs.flag("interleaved", false)?;
    let rotary_dim = cx.attrs.int("rotary_embedding_dim")?.unwrap_or(0);
    cx.emit(RotaryEmbedding { interleaved, rotary_dim }, &operands(&[&x, &cos, &sin], positions.as_ref()))
}
