//! Values without operands: constants, symbolic integers, ranges.

use super::op;

use crate::attrs::{AttrValue, Attribute};
use crate::extent::Extent;
use crate::types::DType;

/// Index of a constant in the table of its graph or program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstId(u32);
cranelift_entity::entity_impl!(ConstId, "const");

impl Attribute for ConstId {
    const ACCEPTS: &'static str = "the number of a constant";
    fn to_attr(&self) -> Option<AttrValue> {
        i64::from(self.0).to_attr()
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        i64::from_attr(value).and_then(|v| u32::try_from(v).ok()).map(ConstId::from_u32)
    }
}

op! {
    /// A constant of the graph's table; its type comes from there, so the type rule and evaluation live with the graph.
    pub struct Constant = "constant" (0..=0) {
        /// Which one.
        id: ConstId,
    }
}

op! {
    /// Integers that depend on named dimensions: what shape arithmetic leaves behind where a tensor is needed.
    ///
    /// - result: `dtype[len(values)]`, or `dtype[]` when `scalar`.
    pub struct ExtentValue = "extents" (0..=0) {
        /// The values.
        values: Vec<Extent>,
        /// Rank 0 instead of rank 1; then there is one value.
        scalar: bool,
        /// Integer dtype of the result.
        dtype: DType,
    }
}

op! {
    /// `start, start + step, ...`: `dtype[count]`.
    ///
    /// Source: ONNX `Range` (opset 11) with operands known from shape arithmetic.
    pub struct Iota = "iota" (0..=0) {
        /// First value.
        start: Extent,
        /// Difference of neighbours.
        step: Extent,
        /// Number of values.
        count: Extent,
        /// Integer or floating dtype of the result.
        dtype: DType,
    }
}
