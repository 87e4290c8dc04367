//! Types of tensors: dtype, logical shape, layout, quantization.
//!
//! Dimensions are logical and stay in ONNX order for ever; how a tensor lies in memory is its [`Layout`].

use std::fmt;
use std::str::FromStr;

use crate::extent::{Dims, Extent};
use crate::quant::QuantParams;
use crate::word_enum;

word_enum! {
    /// Element type. The list is open for `f4` forms.
    pub enum DType {
        /// IEEE 754 binary16.
        F16 = "f16",
        /// 8-bit float of 4 exponent bits, without infinity; storage only, see [`crate::minifloat`].
        F8E4m3fn = "f8e4m3fn",
        /// 8-bit float of 4 exponent bits, one zero and no infinity; storage only.
        F8E4m3fnuz = "f8e4m3fnuz",
        /// 8-bit float of 5 exponent bits; storage only.
        F8E5m2 = "f8e5m2",
        /// 8-bit float of 5 exponent bits, one zero and no infinity; storage only.
        F8E5m2fnuz = "f8e5m2fnuz",
        /// bfloat16.
        Bf16 = "bf16",
        /// IEEE 754 binary32.
        F32 = "f32",
        /// IEEE 754 binary64.
        F64 = "f64",
        /// Signed 2-bit integer, four per byte, lowest bits first.
        I2 = "i2",
        /// Signed 4-bit integer, two per byte, low nibble first.
        I4 = "i4",
        /// Signed 8-bit integer.
        I8 = "i8",
        /// Signed 16-bit integer.
        I16 = "i16",
        /// Signed 32-bit integer.
        I32 = "i32",
        /// Signed 64-bit integer.
        I64 = "i64",
        /// Unsigned 2-bit integer, four per byte, lowest bits first.
        U2 = "u2",
        /// Unsigned 4-bit integer, two per byte, low nibble first.
        U4 = "u4",
        /// Unsigned 8-bit integer.
        U8 = "u8",
        /// Unsigned 16-bit integer.
        U16 = "u16",
        /// Unsigned 32-bit integer.
        U32 = "u32",
        /// Unsigned 64-bit integer.
        U64 = "u64",
        /// Truth value, one byte, 0 or 1.
        Bool = "bool",
    }
}

impl DType {
    /// Bits of one element in memory.
    pub fn bits(self) -> u32 {
        match self {
            Self::I2 | Self::U2 => 2,
            Self::I4 | Self::U4 => 4,
            Self::I8 | Self::U8 | Self::Bool => 8,
            Self::F8E4m3fn | Self::F8E4m3fnuz | Self::F8E5m2 | Self::F8E5m2fnuz => 8,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 16,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }

    /// Bytes that `elems` elements take; sub-byte types are rounded up to a whole byte.
    pub fn bytes_for(self, elems: usize) -> usize {
        (elems * self.bits() as usize).div_ceil(8)
    }

    /// Whether it is a floating-point type that is computed with.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// Whether it is an integer type (`bool` is none).
    pub fn is_int(self) -> bool {
        self != Self::Bool && self.int_range().is_some()
    }

    /// Whether it is computed with: neither `bool` nor a format for storage only.
    pub fn is_number(self) -> bool {
        self.is_float() || self.is_int()
    }

    /// Smallest and largest value of an integer type (`bool`: 0 and 1); `None` for floating point.
    pub fn int_range(self) -> Option<(i128, i128)> {
        let bits = self.bits();
        Some(match self {
            Self::Bool => (0, 1),
            Self::I2 | Self::I4 | Self::I8 | Self::I16 | Self::I32 | Self::I64 => {
                (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            }
            Self::U2 | Self::U4 | Self::U8 | Self::U16 | Self::U32 | Self::U64 => (0, (1 << bits) - 1),
            _ => return None,
        })
    }
}

/// Logical shape, outermost dimension first; empty for a scalar.
pub type Shape = Vec<Extent>;

/// One physical dimension of a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayoutDim {
    /// The logical axis it walks.
    pub axis: u8,
    /// Size of an inner block of that axis; 1 for the outer (or whole) part.
    pub block: u32,
}

/// How a tensor lies in memory: its physical dimensions from outermost to innermost.
///
/// Empty means dense row-major in logical order. `0,2,3,1` (spelt `nhwc`) puts channels last; `0,1,2,3,1:16` blocks
/// axis 1 by 16. Every logical axis has exactly one part without a block; blocked axes are padded up to whole blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layout(Vec<LayoutDim>);

impl Layout {
    /// Dense row-major in logical order.
    pub const PLAIN: Layout = Layout(Vec::new());

    /// A pure permutation: physical dimension `i` walks logical axis `order[i]`.
    pub fn permutation(order: &[usize]) -> Self {
        if order.iter().enumerate().all(|(i, &axis)| i == axis) {
            return Self::PLAIN;
        }
        Self(order.iter().map(|&axis| LayoutDim { axis: u8::try_from(axis).unwrap_or(u8::MAX), block: 1 }).collect())
    }

    /// Channels last for a tensor `[n, c, spatial...]`; plain below rank 3.
    pub fn channels_last(rank: usize) -> Self {
        if rank < 3 {
            return Self::PLAIN;
        }
        let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect();
        Self::permutation(&order)
    }

    /// Whether it is dense row-major in logical order.
    pub fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// The physical dimensions; empty when plain.
    pub fn dims(&self) -> &[LayoutDim] {
        &self.0
    }

    /// The order of axes when there are no blocks, also for the plain layout.
    pub fn order(&self, rank: usize) -> Option<Vec<usize>> {
        if self.is_plain() {
            return Some((0..rank).collect());
        }
        self.0.iter().map(|dim| (dim.block == 1).then_some(dim.axis as usize)).collect()
    }

    /// Whether it describes tensors of that rank.
    pub fn fits(&self, rank: usize) -> bool {
        self.is_plain()
            || (0..rank).all(|axis| self.0.iter().filter(|d| d.axis as usize == axis && d.block == 1).count() == 1)
                && self.0.iter().all(|dim| (dim.axis as usize) < rank && dim.block >= 1)
    }

    /// Stride in elements of each logical axis, for layouts without blocks.
    pub fn strides(&self, shape: &[Extent]) -> Option<Vec<Extent>> {
        let order = self.order(shape.len())?;
        let mut strides = vec![Extent::ONE; shape.len()];
        let mut step = Extent::ONE;
        for &axis in order.iter().rev() {
            strides[axis] = step.clone();
            step = step * shape[axis].clone();
        }
        Some(strides)
    }

    /// Elements in memory, padding of blocked axes included.
    pub fn elems(&self, shape: &[Extent]) -> Extent {
        let mut padded = shape.to_vec();
        for axis in 0..shape.len() {
            let block: i64 =
                self.0.iter().filter(|d| d.axis as usize == axis).map(|d| i64::from(d.block)).product::<i64>().max(1);
            if block > 1 {
                padded[axis] = shape[axis].ceildiv(&block.into()) * block.into();
            }
        }
        Extent::product(&padded)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Layout::channels_last(4) {
            return f.write_str("nhwc");
        }
        for (index, dim) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, dim.axis)?;
            if dim.block != 1 {
                write!(f, ":{}", dim.block)?;
            }
        }
        Ok(())
    }
}

impl FromStr for Layout {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Ok(Self::PLAIN);
        }
        if text == "nhwc" {
            return Ok(Self::channels_last(4));
        }
        let dims = text.split(',').map(|part| {
            let (axis, block) = part.split_once(':').unwrap_or((part, "1"));
            Ok(LayoutDim { axis: axis.parse().map_err(|_| ())?, block: block.parse().map_err(|_| ())? })
        });
        let layout = Self(dims.collect::<Result<_, _>>()?);
        let plain = layout.0.iter().enumerate().all(|(i, d)| d.block == 1 && d.axis as usize == i);
        Ok(if plain { Self::PLAIN } else { layout })
    }
}

/// Type of a tensor value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Logical shape in ONNX order.
    pub shape: Shape,
    /// Placement in memory.
    pub layout: Layout,
    /// Quantization, where it is constant and known.
    pub quant: Option<Box<QuantParams>>,
}

impl TensorType {
    /// A plain, unquantized tensor.
    pub fn new(dtype: DType, shape: Shape) -> Self {
        Self { dtype, shape, layout: Layout::PLAIN, quant: None }
    }

    /// A plain, unquantized tensor of static shape.
    pub fn fixed(dtype: DType, shape: &[usize]) -> Self {
        Self::new(dtype, shape.iter().map(|&d| d.into()).collect())
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of logical elements.
    pub fn elems(&self) -> Extent {
        Extent::product(&self.shape)
    }

    /// Bytes in memory, padding of blocked layouts included.
    pub fn bytes(&self) -> Extent {
        let elems = self.layout.elems(&self.shape);
        match self.dtype.bits() {
            bits @ (2 | 4) => elems.ceildiv(&i64::from(8 / bits).into()),
            bits => elems * i64::from(bits / 8).into(),
        }
    }

    /// Bytes in memory at the ends of the declared ranges.
    pub fn max_bytes(&self, dims: &Dims) -> i64 {
        self.bytes().upper(dims)
    }

    /// The shape, when it is static.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.as_const().and_then(|d| usize::try_from(d).ok())).collect()
    }

    /// The same type with another layout.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (index, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if index == 0 { "" } else { "," })?;
        }
        f.write_str("]")?;
        if !self.layout.is_plain() {
            write!(f, " layout(\"{}\")", self.layout)?;
        }
        if let Some(quant) = &self.quant {
            write!(f, " {quant}")?;
        }
        Ok(())
    }
}
