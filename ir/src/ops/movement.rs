//! Operators that only move elements.

use super::op;

use crate::extent::Extent;
use crate::types::Layout;
use crate::{word_attribute, word_enum};

op! {
    /// The same elements in row-major order under another shape of equal size.
    ///
    /// Source: ONNX `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`; 0 and -1 are resolved at import.
    pub struct Reshape = "reshape" (1..=1) {
        /// Shape of the result.
        shape: Vec<Extent>,
    }
}

op! {
    /// Result axis `i` is operand axis `perm[i]`. Source: ONNX `Transpose`.
    pub struct Transpose = "transpose" (1..=1) {
        /// A permutation of the axes.
        perm: Vec<usize>,
    }
}

op! {
    /// Along `axes[i]`, elements `starts[i] + j · steps[i]` for `j` in `0..sizes[i]`, all inside the operand.
    ///
    /// Source: ONNX `Slice`; negative and out-of-range bounds are resolved at import.
    pub struct Slice = "slice" (1..=1) {
        /// Distinct, non-negative.
        axes: Vec<usize>,
        /// First element per axis.
        starts: Vec<Extent>,
        /// Extent of the result per axis.
        sizes: Vec<Extent>,
        /// Non-zero, may be negative.
        steps: Vec<i64>,
    }
}

op! {
    /// Operands one after the other along an axis. Source: ONNX `Concat`.
    pub struct Concat = "concat" (1..=4096) {
        /// Non-negative.
        axis: usize,
    }
}

op! {
    /// Pieces along an axis, one result per size; the sizes sum up to the axis. Source: ONNX `Split`.
    pub struct Split = "split" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// Extent of each piece.
        sizes: Vec<Extent>,
    }
}

word_enum! {
    /// What lies beyond the edge for [`Pad`].
    pub enum PadMode {
        /// The operand `value`, or 0.
        Constant = "constant",
        /// Mirrored without repeating the edge.
        Reflect = "reflect",
        /// The edge repeated.
        Edge = "edge",
        /// The tensor repeated.
        Wrap = "wrap",
    }
}
word_attribute!(PadMode);

op! {
    /// Adds elements at the edges (negative: removes them); operands `x, value?` with `value` a scalar. Source: ONNX `Pad`.
    pub struct Pad = "pad" (1..=2) {
        /// What is added.
        mode: PadMode,
        /// Per axis, at the start.
        before: Vec<Extent>,
        /// Per axis, at the end.
        after: Vec<Extent>,
    }
}

op! {
    /// Broadcasts to exactly this shape. Source: ONNX `Expand`, `ConstantOfShape` (of a scalar constant).
    pub struct Expand = "expand" (1..=1) {
        /// Shape of the result, the operand's shape already broadcast in.
        shape: Vec<Extent>,
    }
}

op! {
    /// Repeats the whole tensor along each axis. Source: ONNX `Tile`.
    pub struct Tile = "tile" (1..=1) {
        /// Per axis.
        repeats: Vec<Extent>,
    }
}

op! {
    /// The same logical tensor in another layout; the identity for the interpreter.
    pub struct Relayout = "relayout" (1..=1) {
        /// Layout of the result.
        layout: Layout,
    }
}

op! {
    /// Moves channels into blocks of space: `[n, c, h, w]` to `[n, c / b², h · b, w · b]`. Source: ONNX `DepthToSpace`.
    pub struct DepthToSpace = "depth_to_space" (1..=1) {
        /// `b`.
        block: i64,
        /// Channel order column-row-depth (`CRD`) instead of depth-column-row (`DCR`).
        crd: bool,
    }
}

op! {
    /// Moves blocks of space into channels: `[n, c, h, w]` to `[n, c · b², h / b, w / b]`. Source: ONNX `SpaceToDepth`.
    pub struct SpaceToDepth = "space_to_depth" (1..=1) {
        /// `b`.
        block: i64,
    }
}

op! {
    /// Keeps the upper (or lower) triangle of the last two axes, zero elsewhere. Source: ONNX `Trilu`.
    pub struct Trilu = "trilu" (1..=1) {
        /// Diagonal: 0 the main one, positive above it.
        k: i64,
        /// Keep the lower triangle.
        lower: bool,
    }
}
