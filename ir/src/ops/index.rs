//! Gather and scatter: addresses that come from data.

use super::op;

use crate::extent::Extent;
use crate::{word_attribute, word_enum};

op! {
    /// Slices of `x` along an axis chosen by `indices` (integers, negative ones count from the end); operands `x, indices`.
    ///
    /// - result: `x.shape[..axis] + indices.shape + x.shape[axis + 1..]`. Source: ONNX `Gather`.
    pub struct Gather = "gather" (2..=2) {
        /// Non-negative.
        axis: usize,
    }
}

op! {
    /// `out[i][j][k] = x[indices[i][j][k]][j][k]` for axis 0; operands `x, indices`. Source: ONNX `GatherElements`.
    pub struct GatherElements = "gather_elements" (2..=2) {
        /// Non-negative.
        axis: usize,
    }
}

op! {
    /// Slices of `x` chosen by index tuples in the last axis of `indices`; operands `x, indices`. Source: ONNX `GatherND`.
    pub struct GatherNd = "gather_nd" (2..=2) {
        /// Leading axes that both operands share.
        batch_dims: usize,
    }
}

word_enum! {
    /// How an update meets what is there.
    pub enum ScatterFn {
        /// Replaces it.
        None = "none",
        /// Is added.
        Add = "add",
        /// Is multiplied.
        Mul = "mul",
        /// The larger stays.
        Max = "max",
        /// The smaller stays.
        Min = "min",
    }
}
word_attribute!(ScatterFn);

op! {
    /// `x` with `out[indices[i][j]][j] = updates[i][j]` for axis 0; operands `x, indices, updates`. Source: ONNX `ScatterElements`.
    pub struct ScatterElements = "scatter_elements" (3..=3) {
        /// Non-negative.
        axis: usize,
        /// How updates combine.
        function: ScatterFn,
    }
}

op! {
    /// `x` with slices at index tuples replaced; operands `x, indices, updates`. Source: ONNX `ScatterND`.
    pub struct ScatterNd = "scatter_nd" (3..=3) {
        /// How updates combine.
        function: ScatterFn,
    }
}

op! {
    /// `values[1]` at the index, `values[0]` elsewhere, along a new axis; operands `indices, values[2]`. Source: ONNX `OneHot`.
    pub struct OneHot = "one_hot" (2..=2) {
        /// Position of the new axis in the result.
        axis: usize,
        /// Its extent.
        depth: Extent,
    }
}
