//! What the caller says about a model's inputs.

use std::collections::BTreeMap;

use adze_ir::extent::{DimRange, Extent};
use adze_ir::tensor::Tensor;

/// Range of a named dimension that nothing was said about.
pub const DEFAULT_RANGE: DimRange = DimRange { lo: 1, hi: 65_536 };

/// Bindings of dimensions and inputs.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Named dimensions of the model: a range, fixed when both ends are equal. Others get [`DEFAULT_RANGE`].
    pub dims: BTreeMap<String, DimRange>,
    /// Shapes of inputs, which bind the dimensions that the model leaves open; symbols name a dimension.
    pub shapes: BTreeMap<String, Vec<Extent>>,
    /// Inputs that become constants.
    pub values: BTreeMap<String, InputValue>,
}

/// A constant in place of an input.
#[derive(Clone, Debug)]
pub enum InputValue {
    /// The number in every element, converted to the input's dtype.
    Splat(f64),
    /// A tensor of the input's dtype and shape.
    Tensor(Tensor),
}
