//! LSTM, GRU and simple recurrent cells over a sequence.
//!
//! Weights may stay as they are stored: integers of at most a byte without zero points, with a scale operand and its attribute
//! `w_block` or `r_block`, as the last two operands. The scales of `w[d, g, i]` are `[d, g, ceil(i / w_block)]`: as
//! [`Dequantize`](super::Dequantize) along the last axis reads them.

mod eval;

use super::{Op, op};

use crate::attrs::F64;
use crate::{word_attribute, word_enum};

word_enum! {
    /// In which order a sequence is walked.
    pub enum Direction {
        /// From the start.
        Forward = "forward",
        /// From the end.
        Reverse = "reverse",
        /// Both; states and weights have a leading axis of 2.
        Bidirectional = "bidirectional",
    }
}
word_enum! {
    /// Function of a gate.
    pub enum GateFn {
        /// Logistic sigmoid.
        Sigmoid = "sigmoid",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// `max(0, x)`.
        Relu = "relu",
    }
}
word_attribute!(Direction, GateFn);

op! {
    /// Long short-term memory; operands `x[t, n, i], w[d, 4h, i], r[d, 4h, h], bias[d, 8h]?, lens[n]?, h0[d, n, h]?, c0[d, n, h]?,
    /// peephole[d, 3h]?, w_scale?, r_scale?`, gates in the order i, o, f, c; results `y[t, d, n, h], y_h[d, n, h], y_c[d, n, h]`.
    ///
    /// Source: ONNX `LSTM`, opsets 7, 14, 22, `layout = 0`.
    pub struct Lstm = "lstm" (3..=10) {
        /// Order of the walk.
        direction: Direction,
        /// `h`.
        hidden: i64,
        /// `f, g, h` per direction.
        activations: Vec<GateFn>,
        /// Bound on the cell's input, if any.
        clip: Option<F64>,
        /// The forget gate is `1 - i`.
        input_forget: bool,
        /// Elements of a row of `w` that share a scale; none where `w` is floats.
        w_block: Option<usize>,
        /// Elements of a row of `r` that share a scale; none where `r` is floats.
        r_block: Option<usize>,
    }
}

op! {
    /// Gated recurrent unit; operands `x[t, n, i], w[d, 3h, i], r[d, 3h, h], bias[d, 6h]?, lens[n]?, h0[d, n, h]?,
    /// w_scale?, r_scale?`, gates in the order z, r, h; results `y[t, d, n, h], y_h[d, n, h]`. Source: ONNX `GRU`, `layout = 0`.
    pub struct Gru = "gru" (3..=8) {
        /// Order of the walk.
        direction: Direction,
        /// `h`.
        hidden: i64,
        /// `f, g` per direction.
        activations: Vec<GateFn>,
        /// Bound on the cell's input, if any.
        clip: Option<F64>,
        /// The reset gate multiplies after the linear part.
        linear_before_reset: bool,
        /// Elements of a row of `w` that share a scale; none where `w` is floats.
        w_block: Option<usize>,
        /// Elements of a row of `r` that share a scale; none where `r` is floats.
        r_block: Option<usize>,
    }
}

op! {
    /// Simple recurrent cell; operands `x[t, n, i], w[d, h, i], r[d, h, h], bias[d, 2h]?, lens[n]?, h0[d, n, h]?,
    /// w_scale?, r_scale?`; results `y[t, d, n, h], y_h[d, n, h]`. Source: ONNX `RNN`, `layout = 0`.
    pub struct Rnn = "rnn" (3..=8) {
        /// Order of the walk.
        direction: Direction,
        /// `h`.
        hidden: i64,
        /// `f` per direction.
        activations: Vec<GateFn>,
        /// Bound on the cell's input, if any.
        clip: Option<F64>,
        /// Elements of a row of `w` that share a scale; none where `w` is floats.
        w_block: Option<usize>,
        /// Elements of a row of `r` that share a scale; none where `r` is floats.
        r_block: Option<usize>,
    }
}

/// How the weights of a cell are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellWeights {
    /// Elements of a row that share a scale, of `w` (operand 1) and `r` (operand 2); none for floats.
    pub blocks: [Option<usize>; 2],
    /// Operand that the scales of `w` are; those of `r` are the next one.
    pub scales: usize,
}

impl Op {
    /// How the weights of a recurrent cell are stored; none for other operators.
    pub fn cell_weights(&self) -> Option<CellWeights> {
        let (blocks, scales) = match self {
            Op::Lstm(op) => ([op.w_block, op.r_block], 8),
            Op::Gru(op) => ([op.w_block, op.r_block], 6),
            Op::Rnn(op) => ([op.w_block, op.r_block], 6),
            _ => return None,
        };
        Some(CellWeights { blocks, scales })
    }

    /// The recurrent cell with its weights stored in these blocks; other operators as they are.
    pub fn with_cell_blocks(self, [w_block, r_block]: [Option<usize>; 2]) -> Op {
        match self {
            Op::Lstm(op) => Lstm { w_block, r_block, ..op }.into(),
            Op::Gru(op) => Gru { w_block, r_block, ..op }.into(),
            Op::Rnn(op) => Rnn { w_block, r_block, ..op }.into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
