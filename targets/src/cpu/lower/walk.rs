//! What the element-by-element families share: loops over a shape, sums in loops, and places in operands.

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use super::leaf::{Leaf, Stream};
use super::movement::{offset_of, walk};
use super::nibble;
use super::operand::{Operand, Unsupported};
use crate::cpu::kernel::{Access, Cmp, Cond, Elem, KernelBuilder, Type, Value};

/// An operand with the parameter that points to it.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    /// The view.
    pub operand: &'a Operand,
    /// The pointer.
    pub stream: Stream,
}

impl<'a> Source<'a> {
    /// The leaf's operand of that position, which must be there.
    pub fn input(leaf: &mut Leaf<'a>, index: usize) -> Result<Self, Unsupported> {
        let stream = leaf.input(index)?;
        Ok(Self { operand: super::leaf::input(leaf.cx, index)?, stream })
    }

    /// The leaf's operand of that position, if it is there.
    pub fn optional(leaf: &mut Leaf<'a>, index: usize) -> Result<Option<Self>, Unsupported> {
        match leaf.cx.inputs.get(index) {
            Some(Some(_)) => Self::input(leaf, index).map(Some),
            _ => Ok(None),
        }
    }

    /// The leaf's result of that position.
    pub fn output(leaf: &mut Leaf<'a>, index: usize) -> Result<Self, Unsupported> {
        let stream = leaf.output(index)?;
        Ok(Self { operand: super::leaf::output(leaf.cx, index)?, stream })
    }

    /// The leaf's result of that position, read and written.
    pub fn in_out(leaf: &mut Leaf<'a>, index: usize) -> Result<Self, Unsupported> {
        let stream = leaf.result(index, Access::InOut)?;
        Ok(Self { operand: super::leaf::output(leaf.cx, index)?, stream })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.operand.dtype
    }

    /// Elements from the pointer to an index.
    pub fn at(&self, index: &[Extent]) -> Extent {
        self.stream.base.clone() + offset_of(self.operand, index)
    }

    /// Elements from the pointer to where these strides lead.
    pub fn by(&self, strides: &[Extent], index: &[Extent]) -> Extent {
        let steps = strides.iter().zip(index).map(|(s, i)| s.clone() * i.clone());
        steps.fold(self.stream.base.clone(), |sum, step| sum + step)
    }

    /// Reads a scalar.
    pub fn load(&self, b: &mut KernelBuilder, at: Extent, elem: Elem) -> Value {
        if nibble::is_nibble(self.operand.dtype) {
            let value = nibble::load(b, self.stream.param, at, 1);
            return b.convert(value, true, elem);
        }
        b.load_as(self.stream.param, at, Type::scalar(elem))
    }

    /// Writes by value.
    pub fn store(&self, b: &mut KernelBuilder, at: Extent, value: Value) {
        b.store_as(self.stream.param, at, value);
    }
}

/// Calls `body` at every index of a shape. The first axis is the tile range, whose end is returned.
pub(super) fn each(
    b: &mut KernelBuilder,
    shape: &[Extent],
    mut body: impl FnMut(&mut KernelBuilder, &[Extent]),
) -> Extent {
    let (lo, hi) = b.range();
    match shape {
        [] => b.loop_(lo, hi, 1, |b, _| body(b, &[])),
        [_, inner @ ..] => b.loop_(lo, hi, 1, |b, i| walk(b, inner, &mut vec![i], &mut body)),
    }
    shape.first().cloned().unwrap_or(Extent::ONE)
}

/// Updates the carried values from the offsets of the next elements.
type FoldStep<'a> = dyn FnMut(&mut KernelBuilder, &[Extent], &[Value]) -> Vec<Value> + 'a;

/// The accumulators after loops over a shape, in row-major order.
pub(super) fn fold(b: &mut KernelBuilder, shape: &[Extent], inits: &[Value], step: &mut FoldStep<'_>) -> Vec<Value> {
    fold_from(b, shape, &mut Vec::new(), inits, step)
}

fn fold_from(
    b: &mut KernelBuilder,
    shape: &[Extent],
    index: &mut Vec<Extent>,
    inits: &[Value],
    step: &mut FoldStep<'_>,
) -> Vec<Value> {
    match shape {
        [] => step(b, index, inits),
        [outer, inner @ ..] => b.for_(0, outer.clone(), 1, inits, |b, i, accs| {
            index.push(i);
            let accs = fold_from(b, inner, index, accs, step);
            index.pop();
            accs
        }),
    }
}

/// What `then` makes of a value where every index lies in `0..extent`, else the value itself.
pub(super) fn inside(
    b: &mut KernelBuilder,
    places: &[(Extent, Extent)],
    value: Value,
    then: &mut dyn FnMut(&mut KernelBuilder) -> Value,
) -> Value {
    let [(place, extent), rest @ ..] = places else { return then(b) };
    let from_zero = Cond::Extent(place.clone(), Cmp::Ge, Extent::ZERO);
    let found = b.if_else(
        from_zero,
        |b| {
            let below = Cond::Extent(place.clone(), Cmp::Lt, extent.clone());
            b.if_else(below, |b| vec![inside(b, rest, value, then)], |_| vec![value])
        },
        |_| vec![value],
    );
    found[0]
}
