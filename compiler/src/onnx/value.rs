//! What the importer knows about an ONNX value: computed by a node, or known now.
//!
//! Known values are constants and the integers of shape arithmetic. They become nodes only where a computed node needs
//! them as tensors; the rest (`Shape`, `Gather`, `Concat` before a `Reshape`) leaves no trace in the graph.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use adze_ir::extent::{Atom, Extent};
use adze_ir::graph::ValueId;
use adze_ir::loc::Loc;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

/// Most integers that shape arithmetic keeps in one value.
pub(super) const MAX_EXTENTS: usize = 1024;

/// Largest expression that shape arithmetic and types keep, in atoms and terms: bounds the work of a hostile model.
pub(super) const MAX_EXTENT_SIZE: usize = 256;

/// A value of the model.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) ty: TensorType,
    pub(super) source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A value of the graph.
    Computed(ValueId),
    /// Known at import.
    Known(Rc<Known>),
}

/// A value known at import.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) content: Content,
    /// Name of the ONNX tensor.
    pub(super) name: Arc<str>,
    /// The source nodes that were folded into it.
    pub(super) loc: Loc,
    /// The value of the graph, once something needed it there.
    pub(super) slot: Cell<Option<ValueId>>,
}

/// What is known.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// All elements.
    Tensor(Tensor),
    /// Integers, some of which depend on named dimensions; row-major.
    Extents(Vec<Extent>),
}

impl Value {
    pub(super) fn computed(id: ValueId, ty: TensorType) -> Self {
        Self { ty, source: Source::Computed(id) }
    }

    pub(super) fn tensor(tensor: Tensor, name: &str, loc: Loc) -> Self {
        Self::known(tensor.ty(), Content::Tensor(tensor), name, loc)
    }

    pub(super) fn known(ty: TensorType, content: Content, name: &str, loc: Loc) -> Self {
        let known = Known { content, name: name.into(), loc, slot: Cell::new(None) };
        Self { ty, source: Source::Known(Rc::new(known)) }
    }

    /// Integers of that shape; a plain constant when none depends on a dimension.
    pub(super) fn extents(dtype: DType, shape: &[usize], values: Vec<Extent>, name: &str, loc: Loc) -> Self {
        let ty = TensorType::fixed(dtype, shape);
        Self::known(ty, content_of(dtype, shape, values), name, loc)
    }

    pub(super) fn content(&self) -> Option<&Content> {
        match &self.source {
            Source::Computed(_) => None,
            Source::Known(known) => Some(&known.content),
        }
    }

    pub(super) fn loc(&self) -> Loc {
        match &self.source {
            Source::Computed(_) => Loc::default(),
            Source::Known(known) => known.loc.clone(),
        }
    }

    /// The constant, when every element is known.
    pub(super) fn as_tensor(&self) -> Option<&Tensor> {
        match self.content()? {
            Content::Tensor(tensor) => Some(tensor),
            Content::Extents(_) => None,
        }
    }

    /// The elements of a small integer value, when they are known.
    pub(super) fn as_extents(&self) -> Option<Vec<Extent>> {
        match self.content()? {
            Content::Extents(values) => Some(values.clone()),
            Content::Tensor(tensor) => {
                let small = tensor.dtype().is_int() && tensor.elems() <= MAX_EXTENTS;
                small.then(|| tensor.to_i64().into_iter().map(Extent::from).collect())
            }
        }
    }

    pub(super) fn rank(&self) -> usize {
        self.ty.rank()
    }
}

/// Extents as a constant where that is all they are.
pub(super) fn content_of(dtype: DType, shape: &[usize], values: Vec<Extent>) -> Content {
    let constants: Option<Vec<i128>> = values.iter().map(|v| v.as_const().map(i128::from)).collect();
    match constants {
        Some(constants) => Content::Tensor(Tensor::from_ints_wrapping(dtype, shape, &constants)),
        None => Content::Extents(values),
    }
}

/// Whether an expression has at most [`MAX_EXTENT_SIZE`] terms and atoms; stops counting there.
pub(super) fn is_small(extent: &Extent) -> bool {
    !extent.is_huge() && size_within(extent, MAX_EXTENT_SIZE).is_some()
}

/// Terms and atoms of an expression, shared parts counted as often as they occur; `None` when over the bound.
fn size_within(extent: &Extent, bound: usize) -> Option<usize> {
    let mut size = 1;
    for (atoms, _) in extent.terms().0 {
        for atom in atoms {
            size += match atom {
                Atom::Sym(_) => 1,
                Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    let first = size_within(a, bound.checked_sub(size)?)?;
                    first + size_within(b, bound.checked_sub(size + first)?)?
                }
            };
            if size > bound {
                return None;
            }
        }
    }
    Some(size)
}

impl Content {
    /// About how many bytes it takes in memory.
    pub(super) fn cost_bytes(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.bytes().len() + 128,
            Self::Extents(values) => {
                values.iter().map(|v| 64 * size_within(v, MAX_EXTENT_SIZE).unwrap_or(MAX_EXTENT_SIZE)).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_expressions_are_recognised() {
        let mut extent = Extent::sym("n");
        assert!(is_small(&extent));
        for _ in 0..40 {
            // Doubles when written out, though it is shared in memory.
            extent = extent.floordiv(&(extent.clone() + 1.into()));
        }
        assert!(!is_small(&extent));
    }
}
