//! Reductions, scans and selections along axes.

use super::op;

use crate::extent::Extent;
use crate::{word_attribute, word_enum};

word_enum! {
    /// What a [`Reduce`] computes.
    pub enum ReduceFn {
        /// Σ x.
        Sum = "sum",
        /// Arithmetic mean (integers: truncated quotient).
        Mean = "mean",
        /// Largest; NaN wins.
        Max = "max",
        /// Smallest; NaN wins.
        Min = "min",
        /// Π x.
        Prod = "prod",
        /// Σ |x|.
        L1 = "l1",
        /// √Σ x².
        L2 = "l2",
        /// ln Σ x.
        LogSum = "log_sum",
        /// ln Σ exp x, computed without overflow.
        LogSumExp = "log_sum_exp",
        /// Σ x².
        SumSquare = "sum_square",
    }
}
word_attribute!(ReduceFn);

op! {
    /// Reduction over axes. Source: ONNX `Reduce*`, and `GlobalAveragePool`/`GlobalMaxPool`, which are the same thing.
    pub struct Reduce = "reduce" (1..=1) {
        /// What is computed.
        function: ReduceFn,
        /// Sorted, non-negative; empty reduces nothing (the function is still applied to each element).
        axes: Vec<usize>,
        /// Reduced axes stay with extent 1.
        keep_dims: bool,
    }
}

op! {
    /// Position of the largest or smallest element along an axis: `i64`. Source: ONNX `ArgMax`, `ArgMin`.
    pub struct ArgReduce = "arg_reduce" (1..=1) {
        /// `max` or `min`.
        function: ReduceFn,
        /// Non-negative.
        axis: usize,
        /// The axis stays with extent 1.
        keep_dims: bool,
        /// The last of equals instead of the first.
        last: bool,
    }
}

op! {
    /// Running sum along an axis. Source: ONNX `CumSum` with a constant axis.
    pub struct CumSum = "cum_sum" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// The element itself does not count.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    }
}

op! {
    /// The `k` largest (or smallest) elements along an axis and their `i64` positions, ties by lower position; two results.
    ///
    /// Source: ONNX `TopK`; the order is always sorted, which `sorted = 0` permits.
    pub struct TopK = "top_k" (1..=1) {
        /// How many.
        k: Extent,
        /// Non-negative.
        axis: usize,
        /// Smallest instead of largest.
        smallest: bool,
    }
}
