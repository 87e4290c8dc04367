//! What rules have in common: readings of matches, small builders.

use adze_ir::attrs::F64;
use adze_ir::egraph::{EGraph, Match, add_const, add_op};
use adze_ir::extent::Extent;
use adze_ir::ops::{Binary, BinaryFn, Op, Reshape};
use adze_ir::tensor::Tensor;
use egg::{Id, Subst};

/// Constants whose values conditions read: vectors, not weights.
const READ_BYTES: usize = 1 << 18;

/// Adds a binary operator.
pub(super) fn binary(egraph: &mut EGraph, function: BinaryFn, a: Id, b: Id) -> Option<Id> {
    add_op(egraph, Binary { function }, &[a, b])
}

/// Adds a reshape; none where it changes nothing.
pub(super) fn reshape(egraph: &mut EGraph, x: Id, shape: Vec<Extent>) -> Option<Id> {
    if egraph[x].data.ty()?.shape == shape {
        return Some(x);
    }
    add_op(egraph, Reshape { shape }, &[x])
}

/// Adds a scalar constant with the dtype of a value.
pub(super) fn scalar(egraph: &mut EGraph, like: Id, value: f64) -> Option<Id> {
    let dtype = egraph[like].data.ty()?.dtype;
    Some(add_const(egraph, Tensor::from_f64(dtype, &[], &[value])))
}

/// The operator whose attributes a variable is, for makers.
pub(super) fn op(egraph: &EGraph, subst: &Subst, name: &str) -> Op {
    Match { egraph, subst }.op(name).clone()
}

/// The class of a variable.
pub(super) fn id(egraph: &EGraph, subst: &Subst, name: &str) -> Id {
    Match { egraph, subst }.id(name)
}

/// The class of a variable that only some left sides bind.
pub(super) fn find(egraph: &EGraph, subst: &Subst, name: &str) -> Option<Id> {
    Match { egraph, subst }.find(name)
}

/// Whether a constant is this one number, in the dtype's precision.
pub(super) fn is_number(m: &Match<'_>, name: &str, value: f64) -> bool {
    let Some(data) = m.data(name).filter(|d| d.elems() == 1 && d.dtype().is_float()) else { return false };
    let wanted = Tensor::from_f64(data.dtype(), &[], &[value]).to_f64()[0];
    // Exporters write 1.4142 in single precision or as a division: a few units in the last place are the same number.
    (data.to_f64()[0] - wanted).abs() <= wanted.abs() * 4.0 * f64::from(f32::EPSILON)
}

/// Whether an attribute is this number up to single precision.
pub(super) fn near(found: F64, wanted: f64) -> bool {
    (found.get() - wanted).abs() <= wanted.abs() * 4.0 * f64::from(f32::EPSILON)
}

/// Whether all elements of a constant are finite. Expressions of constants were made by rules from finite ones.
pub(super) fn finite(m: &Match<'_>, name: &str) -> bool {
    let test = |data: &Tensor, _: f64| data.bytes().len() <= READ_BYTES && data.to_f64().iter().all(|v| v.is_finite());
    match m.test(name, test, 0.0) {
        Some(finite) => finite,
        None => m.fixed(name) && m.egraph[m.id(name)].data.constant.is_none(),
    }
}

/// Whether a constant broadcasts along one axis of a value of that rank only; scalars do along any.
pub(super) fn along_axis(m: &Match<'_>, name: &str, rank: usize, axis: usize, len: &Extent) -> bool {
    let Some(ty) = m.ty(name) else { return false };
    let Some(missing) = rank.checked_sub(ty.rank()) else { return false };
    ty.shape.iter().enumerate().all(|(at, dim)| *dim == Extent::ONE || (at + missing == axis && dim == len))
}

/// Whether a value is floating-point.
pub(super) fn float(m: &Match<'_>, name: &str) -> bool {
    m.ty(name).is_some_and(|ty| ty.dtype.is_float())
}

/// A constant along one axis as a vector of that length, a scalar repeated.
pub(super) fn vector(egraph: &mut EGraph, c: Id, len: &Extent) -> Option<Id> {
    let elems = egraph[c].data.ty()?.elems();
    if elems == *len {
        return reshape(egraph, c, vec![len.clone()]);
    }
    let one = reshape(egraph, c, vec![Extent::ONE])?;
    add_op(egraph, adze_ir::ops::Expand { shape: vec![len.clone()] }, &[one])
}
