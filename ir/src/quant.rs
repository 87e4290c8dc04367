//! Quantization parameters and requantize contracts.

use std::fmt;

use crate::attrs::F64;
use crate::{word_attribute, word_enum};

/// `real = scale · (stored - zero_point)`, per tensor, per slice of one axis, or per block along one axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuantParams {
    /// Axis of the scales; `None` per tensor.
    pub axis: Option<usize>,
    /// Elements of the axis that share a scale; 0 per tensor and per axis.
    pub block: usize,
    /// Scales, one per tensor, slice or block (row-major over the other axes).
    pub scale: Vec<F64>,
    /// Zero points, as many as scales, in the units of the stored type.
    pub zero_point: Vec<i64>,
}

impl fmt::Display for QuantParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("q(")?;
        if let Some(axis) = self.axis {
            write!(f, "axis={axis}, ")?;
        }
        if self.block != 0 {
            write!(f, "block={}, ", self.block)?;
        }
        f.write_str("s=[")?;
        for (index, scale) in self.scale.iter().enumerate() {
            write!(f, "{}{scale}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("], z=[")?;
        for (index, zero) in self.zero_point.iter().enumerate() {
            write!(f, "{}{zero}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("])")
    }
}

word_enum! {
    /// How an accumulator becomes a stored integer. Changing it is a named rule with a stated error, never silent.
    pub enum Requantize {
        /// `sat(round_half_even(f32(acc) · f32 scale) + zero_point)`, as ONNX and ONNX Runtime do.
        F32Rne = "f32_rne",
        /// Integer multiply and rounding shift, ties towards plus infinity.
        MulshiftHalfUp = "mulshift_half_up",
        /// TFLite's doubling high multiply and rounding shift.
        MulshiftTflite = "mulshift_tflite",
    }
}
word_attribute!(Requantize);
