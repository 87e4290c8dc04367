//! Types of kernel values: scalars and vectors of explicit lane count.

use std::fmt;

use adze_ir::types::DType;
use adze_ir::word_enum;

/// Largest lane count of a vector.
pub const MAX_LANES: u16 = 64;

word_enum! {
    /// Element of a kernel value. Integers carry no sign; operations do.
    pub enum Elem {
        /// 8-bit integer.
        I8 = "i8",
        /// 16-bit integer; also the bits of an `f16` or `bf16`.
        I16 = "i16",
        /// 32-bit integer.
        I32 = "i32",
        /// 64-bit integer.
        I64 = "i64",
        /// IEEE 754 binary32.
        F32 = "f32",
        /// IEEE 754 binary64.
        F64 = "f64",
        /// Truth value beside 8-bit lanes.
        M8 = "m8",
        /// Truth value beside 16-bit lanes.
        M16 = "m16",
        /// Truth value beside 32-bit lanes.
        M32 = "m32",
        /// Truth value beside 64-bit lanes.
        M64 = "m64",
    }
}

impl Elem {
    /// Width in bits; a mask is as wide as the lanes it selects.
    pub fn bits(self) -> u32 {
        match self {
            Self::I8 | Self::M8 => 8,
            Self::I16 | Self::M16 => 16,
            Self::I32 | Self::F32 | Self::M32 => 32,
            Self::I64 | Self::F64 | Self::M64 => 64,
        }
    }

    /// Width in bytes.
    pub fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// Whether it is `f32` or `f64`.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is an integer (masks are none).
    pub fn is_int(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// Whether it is a mask.
    pub fn is_mask(self) -> bool {
        matches!(self, Self::M8 | Self::M16 | Self::M32 | Self::M64)
    }

    /// The mask of the same width.
    pub fn mask(self) -> Elem {
        match self.bits() {
            8 => Self::M8,
            16 => Self::M16,
            32 => Self::M32,
            _ => Self::M64,
        }
    }

    /// The integer of the same width.
    pub fn int(self) -> Elem {
        match self.bits() {
            8 => Self::I8,
            16 => Self::I16,
            32 => Self::I32,
            _ => Self::I64,
        }
    }

    /// The form in which a memory element is loaded and stored: integers and half floats as bits, `bool` as `i8`.
    /// `None` for sub-byte types, which kernels read as bytes.
    pub fn of_memory(dtype: DType) -> Option<Elem> {
        Some(match dtype {
            DType::F32 => Self::F32,
            DType::F64 => Self::F64,
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => Self::I16,
            DType::I8 | DType::U8 | DType::Bool => Self::I8,
            DType::F8E4m3fn | DType::F8E4m3fnuz | DType::F8E5m2 | DType::F8E5m2fnuz => Self::I8,
            DType::I32 | DType::U32 => Self::I32,
            DType::I64 | DType::U64 => Self::I64,
            DType::I2 | DType::U2 | DType::I4 | DType::U4 => return None,
        })
    }
}

/// Type of a kernel value: `lanes` elements; one lane is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type {
    /// Element.
    pub elem: Elem,
    /// Number of lanes: a power of two up to [`MAX_LANES`].
    pub lanes: u16,
}

impl Type {
    /// `f32`.
    pub const F32: Type = Type::scalar(Elem::F32);
    /// `f64`.
    pub const F64: Type = Type::scalar(Elem::F64);
    /// `i8`.
    pub const I8: Type = Type::scalar(Elem::I8);
    /// `i16`.
    pub const I16: Type = Type::scalar(Elem::I16);
    /// `i32`.
    pub const I32: Type = Type::scalar(Elem::I32);
    /// `i64`.
    pub const I64: Type = Type::scalar(Elem::I64);
    /// `f32x4`.
    pub const F32X4: Type = Type::vec(Elem::F32, 4);
    /// `f64x2`.
    pub const F64X2: Type = Type::vec(Elem::F64, 2);
    /// `i8x16`.
    pub const I8X16: Type = Type::vec(Elem::I8, 16);
    /// `i16x8`.
    pub const I16X8: Type = Type::vec(Elem::I16, 8);
    /// `i32x4`.
    pub const I32X4: Type = Type::vec(Elem::I32, 4);
    /// `i64x2`.
    pub const I64X2: Type = Type::vec(Elem::I64, 2);

    /// A scalar.
    pub const fn scalar(elem: Elem) -> Type {
        Type { elem, lanes: 1 }
    }

    /// A vector (a scalar for one lane).
    pub const fn vec(elem: Elem, lanes: u16) -> Type {
        Type { elem, lanes }
    }

    /// Whether it has one lane.
    pub fn is_scalar(self) -> bool {
        self.lanes == 1
    }

    /// The same lanes with another element.
    pub fn with_elem(self, elem: Elem) -> Type {
        Type { elem, ..self }
    }

    /// The same element with another lane count.
    pub fn with_lanes(self, lanes: u16) -> Type {
        Type { lanes, ..self }
    }

    /// The mask that a comparison of such values yields.
    pub fn mask(self) -> Type {
        self.with_elem(self.elem.mask())
    }

    /// Total width in bits.
    pub fn bits(self) -> u32 {
        self.elem.bits() * u32::from(self.lanes)
    }

    /// Reads the spelling of the text format, such as `f32` or `i8x16`.
    pub fn from_name(name: &str) -> Option<Type> {
        if let Some(elem) = Elem::from_name(name) {
            return Some(Type::scalar(elem));
        }
        let (elem, lanes) = name.split_once('x')?;
        let lanes: u16 = lanes.parse().ok().filter(|&l: &u16| l > 1 && l <= MAX_LANES)?;
        Some(Type { elem: Elem::from_name(elem)?, lanes })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.elem)?;
        if self.lanes != 1 {
            write!(f, "x{}", self.lanes)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
