//! Attribute values: what stands between `{` and `}` after an operator in the text format.
//!
//! Every attribute derives `Eq + Ord + Hash`, so that operators can be e-nodes and map keys; floats are kept as bits.

use std::fmt;
use std::sync::Arc;

use crate::extent::Extent;
use crate::types::{DType, Layout};

/// An `f64` compared and hashed by its bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct F64(u64);

impl F64 {
    /// Wraps a value; every NaN becomes the one canonical NaN.
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { value.to_bits() })
    }

    /// The value.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for F64 {
    fn from(value: f64) -> Self {
        Self::new(value)
    }
}

impl From<f32> for F64 {
    fn from(value: f32) -> Self {
        Self::new(value.into())
    }
}

impl fmt::Display for F64 {
    /// The shortest text that reads back to the same bits; always with a point, an exponent, `inf` or `nan`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.get();
        if value.is_nan() { f.write_str("nan") } else { write!(f, "{value:?}") }
    }
}

impl fmt::Debug for F64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An attribute in its general form; [`Attribute`] converts it to and from the field types of operators.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttrValue {
    /// An integer or an expression over named dimensions; a bare word (a dtype, a mode, `true`) reads as a symbol.
    Extent(Extent),
    /// A floating-point number: has a point, an exponent, or is `inf`, `-inf`, `nan`.
    Float(F64),
    /// A quoted string.
    Str(Arc<str>),
    /// A bracketed list.
    List(Vec<AttrValue>),
}

impl AttrValue {
    /// A bare word.
    pub fn word(word: impl Into<Arc<str>>) -> Self {
        Self::Extent(Extent::sym(word))
    }

    /// The bare word, if it is one.
    pub fn as_word(&self) -> Option<&str> {
        match self {
            Self::Extent(extent) => extent.as_sym().map(|s| &**s),
            _ => None,
        }
    }
}

impl fmt::Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extent(extent) => write!(f, "{extent}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Str(text) => write!(f, "{:?}", &**text),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A type that can be an operator's field.
pub trait Attribute: Sized {
    /// What a reader is told is accepted.
    const ACCEPTS: &'static str;
    /// The general form; `None` leaves the attribute out (and reading back gives the same value).
    fn to_attr(&self) -> Option<AttrValue>;
    /// Reads the general form; `None` when it has another shape.
    fn from_attr(value: &AttrValue) -> Option<Self>;
    /// The value of an attribute that is left out, if it may be.
    fn absent() -> Option<Self> {
        None
    }
}

impl Attribute for i64 {
    const ACCEPTS: &'static str = "an integer";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::Extent((*self).into()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::Extent(extent) => extent.as_const(),
            _ => None,
        }
    }
}

impl Attribute for usize {
    const ACCEPTS: &'static str = "an integer of zero or more";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::Extent((*self).into()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        i64::from_attr(value).and_then(|v| usize::try_from(v).ok())
    }
}

impl Attribute for bool {
    const ACCEPTS: &'static str = "`true` (left out means false)";
    fn to_attr(&self) -> Option<AttrValue> {
        self.then(|| AttrValue::word("true"))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value.as_word() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        }
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl Attribute for F64 {
    const ACCEPTS: &'static str = "a number with a point";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::Float(*self))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::Float(value) => Some(*value),
            _ => None,
        }
    }
}

impl Attribute for Extent {
    const ACCEPTS: &'static str = "an integer expression";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::Extent(self.clone()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::Extent(extent) => Some(extent.clone()),
            _ => None,
        }
    }
}

impl Attribute for Arc<str> {
    const ACCEPTS: &'static str = "a quoted string";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::Str(self.clone()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::Str(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl Attribute for DType {
    const ACCEPTS: &'static str = "a dtype such as `f32`";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::word(self.name()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        DType::from_name(value.as_word()?)
    }
}

impl Attribute for Layout {
    const ACCEPTS: &'static str = "a quoted layout such as \"0,2,3,1\"";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::Str(self.to_string().into()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::Str(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl<T: Attribute> Attribute for Vec<T> {
    const ACCEPTS: &'static str = "a list";
    fn to_attr(&self) -> Option<AttrValue> {
        Some(AttrValue::List(self.iter().filter_map(Attribute::to_attr).collect()))
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::List(items) => items.iter().map(T::from_attr).collect(),
            _ => None,
        }
    }
}

impl<T: Attribute> Attribute for Option<T> {
    const ACCEPTS: &'static str = T::ACCEPTS;
    fn to_attr(&self) -> Option<AttrValue> {
        self.as_ref().and_then(Attribute::to_attr)
    }
    fn from_attr(value: &AttrValue) -> Option<Self> {
        T::from_attr(value).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Defines a field-less enum that is written as a bare word.
#[macro_export]
macro_rules! word_enum {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[$vmeta:meta])* $Variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name { $($(#[$vmeta])* $Variant),+ }

        impl $Name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [$Name] = &[$($Name::$Variant),+];

            /// The spelling in the text format.
            pub fn name(self) -> &'static str {
                match self { $($Name::$Variant => $word),+ }
            }

            /// Reads the spelling of the text format.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($word => Some($Name::$Variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// Lets a [`word_enum!`] be an operator's field.
#[macro_export]
macro_rules! word_attribute {
    ($($Name:ident),+) => { $(
        impl $crate::attrs::Attribute for $Name {
            const ACCEPTS: &'static str = concat!("a word of `", stringify!($Name), "`");
            fn to_attr(&self) -> Option<$crate::attrs::AttrValue> {
                Some($crate::attrs::AttrValue::word(self.name()))
            }
            fn from_attr(value: &$crate::attrs::AttrValue) -> Option<Self> {
                $Name::from_name(value.as_word()?)
            }
        }
    )+ };
}
