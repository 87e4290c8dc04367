//! The operator table: one vocabulary for graph, e-graph, tile IR, text and interpreter.
//!
//! Each family file holds, per operator: its attributes (`op!`), type rule and reference evaluation ([`OpDef`]).
//! A new operator is that, plus a row in the table at the end of this file.

mod activation;
mod attention;
mod binary;
mod choice;
mod convert;
mod decompose;
mod elems;
mod fused;
mod image;
mod index;
mod integer;
mod linear;
mod math;
mod movement;
mod norm;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod shape;
mod source;
mod unary;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use crate::attrs::AttrValue;
use crate::extent::Extent;
use crate::tensor::Tensor;
use crate::types::TensorType;

pub use activation::*;
pub use attention::*;
pub use binary::*;
pub use choice::*;
pub use convert::*;
pub use decompose::{DECOMPOSED, decompose};
pub use fused::*;
pub use image::*;
pub use index::*;
pub use linear::*;
pub use movement::*;
pub use norm::*;
pub use pool::*;
pub use quantize::*;
pub use recurrent::*;
pub use reduce::*;
pub use source::*;
pub use unary::*;

/// Attributes by name, as read from text.
pub type AttrMap = BTreeMap<String, AttrValue>;

/// Why a node's type rule refuses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// An input has the wrong rank.
    #[error("input {input} has rank {found}, accepted: {accepted}")]
    Rank {
        /// Position of the input.
        input: usize,
        /// Its rank.
        found: usize,
        /// What would be accepted.
        accepted: String,
    },
    /// An input has the wrong dtype.
    #[error("input {input} has dtype {found}, accepted: {accepted}")]
    DType {
        /// Position of the input.
        input: usize,
        /// Its dtype.
        found: crate::types::DType,
        /// What would be accepted.
        accepted: String,
    },
    /// Two shapes do not go together.
    #[error("{what}: found {found}, accepted: {accepted}")]
    Shape {
        /// Which dimension or pair.
        what: &'static str,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// An attribute's value makes no sense here.
    #[error("attribute `{name}`: found {found}, accepted: {accepted}")]
    Attribute {
        /// Its name.
        name: &'static str,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// The number of inputs is out of the operator's range, or a needed one is left out.
    #[error("found {found}, accepted: {accepted}")]
    Arity {
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
}

/// Why the interpreter cannot evaluate a node on these values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A value-dependent error, such as an index out of range.
    #[error("{0}")]
    Value(String),
    /// The types do not fit.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// The operator needs named dimensions that have no value here.
    #[error("dimension `{0}` has no value")]
    UnboundDim(String),
}

/// The operands of a node, by position; `None` where an optional one is left out.
pub struct Operands<'a, T>(pub &'a [Option<&'a T>]);

impl<T> Clone for Operands<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Operands<'_, T> {}

impl<'a, T> Operands<'a, T> {
    /// The operand, if it is there.
    pub fn get(&self, index: usize) -> Option<&'a T> {
        self.0.get(index).copied().flatten()
    }

    /// The operand at a position that the arity check has found present.
    ///
    /// # Errors
    /// [`TypeError::Arity`] when it is left out.
    pub fn need(&self, index: usize) -> Result<&'a T, TypeError> {
        self.get(index)
            .ok_or_else(|| TypeError::Arity { found: format!("input {index} left out"), accepted: "a value".into() })
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The operands that are there.
    pub fn present(&self) -> impl Iterator<Item = &'a T> {
        self.0.iter().copied().flatten()
    }
}

/// Attributes of an operator in their general form; written by `op!`.
pub trait OpAttrs: Sized {
    /// Spelling in the text format.
    const NAME: &'static str;
    /// How many inputs it takes, left-out ones counted.
    const INPUTS: RangeInclusive<usize>;
    /// Attributes that are not at their default, in order of declaration.
    fn attrs(&self) -> Vec<(&'static str, AttrValue)>;
    /// Reads the attributes and removes them from the map.
    ///
    /// # Errors
    /// [`TypeError::Attribute`] for a missing or misshapen one.
    fn from_attrs(attrs: &mut AttrMap) -> Result<Self, TypeError>;
}

/// Meaning of an operator: its type rule and its reference evaluation.
pub trait OpDef {
    /// Types of the results, with plain layouts.
    ///
    /// # Errors
    /// [`TypeError`] names what was found and what would be accepted.
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError>;

    /// Values of the results. All extents are constants here; `types` are the static types that [`OpDef::infer`] gave.
    ///
    /// # Errors
    /// [`EvalError`] for values outside the operator's domain, such as an index out of range.
    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError>;
}

/// Declares an operator's attributes.
macro_rules! op {
    ($(#[$meta:meta])* pub struct $Name:ident = $text:literal ($inputs:expr) { $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name { $($(#[$fmeta])* pub $field: $ty),* }

        impl $crate::ops::OpAttrs for $Name {
            const NAME: &'static str = $text;
            const INPUTS: std::ops::RangeInclusive<usize> = $inputs;

            #[allow(clippy::vec_init_then_push)]
            fn attrs(&self) -> Vec<(&'static str, $crate::attrs::AttrValue)> {
                #[allow(unused_mut)]
                let mut attrs = Vec::new();
                $(if let Some(value) = $crate::attrs::Attribute::to_attr(&self.$field) {
                    attrs.push((stringify!($field), value));
                })*
                attrs
            }

            fn from_attrs(attrs: &mut $crate::ops::AttrMap) -> Result<Self, $crate::ops::TypeError> {
                let _ = &attrs;
                Ok(Self { $($field: $crate::ops::take_attr(attrs, stringify!($field))?),* })
            }
        }
    };
}
pub(crate) use op;

/// Reads one attribute for `op!`.
fn take_attr<T: crate::attrs::Attribute>(attrs: &mut AttrMap, name: &'static str) -> Result<T, TypeError> {
    let found = attrs.remove(name);
    let value = match &found {
        Some(value) => T::from_attr(value),
        None => T::absent(),
    };
    value.ok_or_else(|| TypeError::Attribute {
        name,
        found: found.map_or("nothing".into(), |v| v.to_string()),
        accepted: T::ACCEPTS.into(),
    })
}

macro_rules! op_table {
    ($($(#[$meta:meta])* $Name:ident,)*) => {
        /// An operator with its attributes.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Op { $($(#[$meta])* #[doc = concat!("See [`", stringify!($Name), "`](struct@", stringify!($Name), ").")] $Name($Name)),* }

        $(impl From<$Name> for Op {
            fn from(op: $Name) -> Op { Op::$Name(op) }
        })*

        impl Op {
            /// Spellings of all operators without a body, in table order.
            pub const NAMES: &'static [&'static str] = &[$(<$Name as OpAttrs>::NAME),*];

            /// Spelling in the text format.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$Name(_) => <$Name as OpAttrs>::NAME),* }
            }

            /// How many inputs it takes, left-out ones counted.
            pub fn input_range(&self) -> RangeInclusive<usize> {
                match self { $(Op::$Name(_) => <$Name as OpAttrs>::INPUTS),* }
            }

            /// Attributes that are not at their default, in order of declaration.
            pub fn attrs(&self) -> Vec<(&'static str, AttrValue)> {
                match self { $(Op::$Name(op) => op.attrs()),* }
            }

            /// The operator of that spelling with these attributes.
            ///
            /// # Errors
            /// [`TypeError::Attribute`] for an unknown operator, and for missing, misshapen or unknown attributes.
            pub fn from_parts(name: &str, mut attrs: AttrMap) -> Result<Op, TypeError> {
                let op = $(if name == <$Name as OpAttrs>::NAME {
                    Op::$Name(<$Name as OpAttrs>::from_attrs(&mut attrs)?)
                } else)* {
                    return Err(TypeError::Attribute { name: "operator", found: name.into(), accepted: "an operator of docs/ir.md".into() });
                };
                match attrs.pop_first() {
                    None => Ok(op),
                    Some((extra, _)) => Err(TypeError::Attribute { name: op.name(), found: extra, accepted: "the attributes of docs/ir.md".into() }),
                }
            }

            fn def(&self) -> &dyn OpDef {
                match self { $(Op::$Name(op) => op),* }
            }
        }
    };
}

op_table! {
    // sources
    Constant, ExtentValue, Iota,
    // elementwise
    Unary, Binary, Where, Cast, BitCast, Clip, LeakyRelu, Elu, Celu, Selu, HardSigmoid, Gelu, Swish, ThresholdedRelu, Shrink, IsInf, PRelu,
    // linear
    Conv, WinogradConv, ConvTranspose, MatMul, Gemm, Einsum,
    // pooling and reductions
    MaxPool, AveragePool, LpPool, Reduce, ArgReduce, CumSum, CumProd, TopK,
    // normalisation and rows
    Softmax, LogSoftmax, Hardmax, BatchNorm, LayerNorm, RmsNorm, InstanceNorm, GroupNorm, LpNorm, Lrn,
    // movement
    Reshape, Transpose, Slice, Concat, Split, Pad, Expand, Tile, Relayout, DepthToSpace, SpaceToDepth, Trilu,
    // indexing
    Gather, GatherElements, GatherNd, ScatterElements, ScatterNd, OneHot,
    // images
    Resize,
    // quantization
    Quantize, Dequantize, DynamicQuantize, MatMulInteger, ConvInteger, QLinearConv, QLinearMatMul,
    MatMulStored, ConvStored,
    // recurrent and attention
    Lstm, Gru, Rnn, Attention, RotaryEmbedding,
    // one of several
    Choice,
    // fusion
    Fused,
}

impl Op {
    /// Types of the results, with plain layouts.
    ///
    /// # Errors
    /// [`TypeError`] when the number of inputs or a type is not what the operator takes.
    pub fn infer(&self, inputs: &[Option<&TensorType>]) -> Result<Vec<TensorType>, TypeError> {
        let accepted = self.input_range();
        if !accepted.contains(&inputs.len()) {
            let accepted = format!("{} to {} inputs", accepted.start(), accepted.end());
            return Err(TypeError::Arity { found: format!("{} inputs", inputs.len()), accepted });
        }
        self.def().infer(Operands(inputs))
    }

    /// Values of the results; named dimensions are looked up in `dims`.
    ///
    /// # Errors
    /// [`EvalError`] for unbound dimensions, types that do not fit and values outside the operator's domain.
    pub fn eval(
        &self,
        inputs: &[Option<&Tensor>],
        dims: &dyn Fn(&str) -> Option<i64>,
    ) -> Result<Vec<Tensor>, EvalError> {
        let op = self.bind(dims)?;
        let types: Vec<Option<TensorType>> = inputs.iter().map(|i| i.map(Tensor::ty)).collect();
        let refs: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
        let results = op.infer(&refs)?;
        for ty in results.iter().chain(refs.iter().copied().flatten()) {
            // Empty tensors too: operators walk single axes.
            let fits = ty.fixed_shape().is_some_and(|shape| {
                shape
                    .iter()
                    .try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)))
                    .is_some_and(|n| n <= 1 << 32)
            });
            if !fits {
                return Err(EvalError::Value(format!("{ty} is too large to interpret")));
            }
        }
        op.def().eval(Operands(inputs), &results)
    }

    /// The operator with every extent among its attributes replaced by its value.
    ///
    /// # Errors
    /// [`EvalError::UnboundDim`] for a dimension without a value.
    pub fn bind(&self, dims: &dyn Fn(&str) -> Option<i64>) -> Result<Op, EvalError> {
        self.map_extents(&mut |extent| {
            if extent.as_const().is_some() {
                return Ok(extent.clone());
            }
            extent.eval(dims).map(Extent::from).ok_or_else(|| EvalError::UnboundDim(extent.to_string()))
        })
    }

    /// The operator with every integer expression among its attributes mapped; words (dtypes, modes) are left alone.
    ///
    /// # Errors
    /// What `map` returns.
    pub fn map_extents<E>(&self, map: &mut dyn FnMut(&Extent) -> Result<Extent, E>) -> Result<Op, E> {
        match self {
            Op::Fused(fused) => Ok(Op::Fused(fused.map_ops(&mut |op| op.map_extents(map))?)),
            Op::ExtentValue(op) => {
                Ok(ExtentValue { values: map_all(&op.values, map)?, scalar: op.scalar, dtype: op.dtype }.into())
            }
            Op::Iota(op) => {
                Ok(Iota { start: map(&op.start)?, step: map(&op.step)?, count: map(&op.count)?, dtype: op.dtype }
                    .into())
            }
            Op::Reshape(op) => Ok(Reshape { shape: map_all(&op.shape, map)? }.into()),
            Op::Expand(op) => Ok(Expand { shape: map_all(&op.shape, map)? }.into()),
            Op::Tile(op) => Ok(Tile { repeats: map_all(&op.repeats, map)? }.into()),
            Op::Slice(op) => Ok(Slice {
                axes: op.axes.clone(),
                starts: map_all(&op.starts, map)?,
                sizes: map_all(&op.sizes, map)?,
                steps: op.steps.clone(),
            }
            .into()),
            Op::Split(op) => Ok(Split { axis: op.axis, sizes: map_all(&op.sizes, map)? }.into()),
            Op::Pad(op) => {
                Ok(Pad { mode: op.mode, before: map_all(&op.before, map)?, after: map_all(&op.after, map)? }.into())
            }
            Op::OneHot(op) => Ok(OneHot { axis: op.axis, depth: map(&op.depth)? }.into()),
            Op::TopK(op) => Ok(TopK { k: map(&op.k)?, ..op.clone() }.into()),
            Op::Resize(op) => Ok(Resize { sizes: map_all(&op.sizes, map)?, ..op.clone() }.into()),
            other => Ok(other.clone()),
        }
    }
}

fn map_all<E>(extents: &[Extent], map: &mut dyn FnMut(&Extent) -> Result<Extent, E>) -> Result<Vec<Extent>, E> {
    extents.iter().map(map).collect()
}

impl fmt::Display for Op {
    /// The spelling and the attributes, as in the text format but without operands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let attrs = self.attrs();
        if !attrs.is_empty() {
            f.write_str(" {")?;
            for (index, (name, value)) in attrs.iter().enumerate() {
                write!(f, "{}{name}={value}", if index == 0 { "" } else { ", " })?;
            }
            f.write_str("}")?;
        }
        Ok(())
    }
}
