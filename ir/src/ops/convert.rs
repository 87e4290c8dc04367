//! Conversions and selection.

use super::op;

use crate::types::DType;

op! {
    /// Converts elements: float to integer truncates (out of range saturates; NaN gives 0), integer to narrower integer
    /// wraps, anything to `bool` is `x != 0`, to a float rounds to nearest even. Source: ONNX `Cast`.
    pub struct Cast = "cast" (1..=1) {
        /// Dtype of the result.
        to: DType,
    }
}

op! {
    /// `condition ? x : y` with broadcasting of all three. Source: ONNX `Where`.
    pub struct Where = "where" (3..=3) {}
}
