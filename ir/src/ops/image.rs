//! Resampling.

use super::op;

use crate::attrs::F64;
use crate::extent::Extent;
use crate::{word_attribute, word_enum};

word_enum! {
    /// How samples between grid points are made.
    pub enum ResizeMode {
        /// The nearest point.
        Nearest = "nearest",
        /// Linear along every axis.
        Linear = "linear",
        /// Cubic along every axis.
        Cubic = "cubic",
    }
}
word_enum! {
    /// Where a point of the result lies in the operand.
    pub enum CoordMode {
        /// `(x + 0.5) / scale - 0.5`.
        HalfPixel = "half_pixel",
        /// As `half_pixel`, corrected for a rounded result extent.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As `half_pixel`, but 0 for a result extent of 1.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// `x · (in - 1) / (out - 1)`.
        AlignCorners = "align_corners",
        /// `x / scale`.
        Asymmetric = "asymmetric",
    }
}
word_enum! {
    /// Which neighbour is the nearest.
    pub enum NearestMode {
        /// Halves go down.
        RoundPreferFloor = "round_prefer_floor",
        /// Halves go up.
        RoundPreferCeil = "round_prefer_ceil",
        /// Always down.
        Floor = "floor",
        /// Always up.
        Ceil = "ceil",
    }
}
word_attribute!(ResizeMode, CoordMode, NearestMode);

op! {
    /// Resamples to another shape. Source: ONNX `Resize` (opsets 10 to 19, without antialiasing and cropping), `Upsample`.
    pub struct Resize = "resize" (1..=1) {
        /// Kind of interpolation.
        mode: ResizeMode,
        /// Coordinate transformation.
        coords: CoordMode,
        /// Rounding for `nearest`.
        nearest: NearestMode,
        /// Coefficient for `cubic`.
        cubic_a: F64,
        /// Weights outside the operand are set to zero and the rest rescaled.
        exclude_outside: bool,
        /// Shape of the result.
        sizes: Vec<Extent>,
        /// Result extent over operand extent per axis, as the model states it (it may differ from the ratio of extents).
        scales: Vec<F64>,
    }
}
