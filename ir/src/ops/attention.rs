//! Attention and rotary position embedding as whole operators.

use super::op;

use crate::attrs::F64;

op! {
    /// `softmax(scale · Q·Kᵀ + mask) · V` over heads; operands `q[b, hq, s, d], k[b, hk, t, d], v[b, hk, t, dv], mask?`
    /// with `hk` dividing `hq`; result `[b, hq, s, dv]`.
    ///
    /// Source: ONNX `Attention` (opset 23) with rank-4 operands, without the KV-cache operands and extra results.
    pub struct Attention = "attention" (3..=4) {
        /// Factor of `Q·Kᵀ`.
        scale: F64,
        /// Position `s` sees only `t <= s`.
        causal: bool,
        /// `softcap · tanh(x / softcap)` on the scores; 0 for none.
        softcap: F64,
    }
}

op! {
    /// Rotates pairs of the last axis; operands `x[b, h, s, d], cos, sin, position_ids?`. Source: ONNX `RotaryEmbedding` (opset 23).
    pub struct RotaryEmbedding = "rotary_embedding" (3..=4) {
        /// Pairs are neighbours instead of halves.
        interleaved: bool,
        /// Leading elements of the last axis that are rotated; 0 for all.
        rotary_dim: i64,
    }
}
