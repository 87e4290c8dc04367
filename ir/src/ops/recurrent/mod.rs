//! LSTM, GRU and simple recurrent cells over a sequence.

mod eval;

use super::op;

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
    /// peephole[d, 3h]?`, gates in the order i, o, f, c; results `y[t, d, n, h], y_h[d, n, h], y_c[d, n, h]`.
    ///
    /// Source: ONNX `LSTM`, opsets 7, 14, 22, `layout = 0`.
    pub struct Lstm = "lstm" (3..=8) {
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
    }
}

op! {
    /// Gated recurrent unit; operands `x[t, n, i], w[d, 3h, i], r[d, 3h, h], bias[d, 6h]?, lens[n]?, h0[d, n, h]?`, gates in the
    /// order z, r, h; results `y[t, d, n, h], y_h[d, n, h]`. Source: ONNX `GRU`, `layout = 0`.
    pub struct Gru = "gru" (3..=6) {
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
    }
}

op! {
    /// Simple recurrent cell; operands `x[t, n, i], w[d, h, i], r[d, h, h], bias[d, 2h]?, lens[n]?, h0[d, n, h]?`;
    /// results `y[t, d, n, h], y_h[d, n, h]`. Source: ONNX `RNN`, `layout = 0`.
    pub struct Rnn = "rnn" (3..=6) {
        /// Order of the walk.
        direction: Direction,
        /// `h`.
        hidden: i64,
        /// `f` per direction.
        activations: Vec<GateFn>,
        /// Bound on the cell's input, if any.
        clip: Option<F64>,
    }
}

#[cfg(test)]
mod tests;
