//! What rules have in common: readings of matches, small builders.

use adze_ir::attrs::F64;
pub(super) use adze_ir::egraph::value;
use adze_ir::egraph::{EGraph, ENode, Match, add_const, add_op, unite};
use adze_ir::extent::Extent;
use adze_ir::ops::{Binary, BinaryFn, Op, Reshape, Transpose};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};
use egg::{Id, Subst};

/// Patterns of what stands around `(f ?a ..)` for every elementwise function that rules move other operators through.
macro_rules! each_unary {
    ($before:literal, $after:literal $(, $more:literal)*) => {
        each_unary!(
            @ $before, $after, "relu", "sigmoid", "tanh", "neg", "abs", "exp", "sqrt", "erf", "hard_swish", "clip",
            "leaky_relu", "elu", "hard_sigmoid", "gelu", "swish" $(, $more)*
        )
    };
    (@ $before:literal, $after:literal, $($function:literal),*) => { &[$(concat!($before, $function, $after)),*] };
}
pub(super) use each_unary;

/// The operator of an e-node.
pub(super) fn op_of<'a>(egraph: &'a EGraph, node: &ENode) -> Option<&'a Op> {
    let attr = node.children.first().filter(|_| node.is_op())?;
    Some(egraph.analysis.op(egraph[*attr].data.attr?))
}

/// `?x` through the operators of two variables, the first one first.
pub(super) fn through(egraph: &mut EGraph, subst: &Subst, first: &str, then: &str) -> Option<Id> {
    let (first, then, x) = (op(egraph, subst, first), op(egraph, subst, then), id(egraph, subst, "x"));
    let made = add_op(egraph, first, &[x])?;
    add_op(egraph, then, &[made])
}

/// All classes, in order.
pub(super) fn sorted_classes(egraph: &EGraph) -> Vec<Id> {
    let mut classes: Vec<Id> = egraph.classes().map(|class| class.id).collect();
    classes.sort_unstable();
    classes
}

/// Puts the results of an operator with several into these classes, one each.
pub(super) fn give_results(egraph: &mut EGraph, op: Id, classes: impl Iterator<Item = Id>, name: &'static str) {
    for (index, class) in (0..).zip(classes) {
        unite(egraph, class, ENode::get(index, op), name);
    }
}

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

/// The elements of a small value that is computed from constants.
pub(super) fn numbers(m: &Match<'_>, name: &str) -> Option<Vec<f64>> {
    Some(value(m.egraph, m.id(name))?.to_f64())
}

/// The one number that all elements of a small float constant are.
pub(super) fn number(m: &Match<'_>, name: &str) -> Option<f64> {
    if !float(m, name) {
        return None;
    }
    let alike = |data: &Tensor, _: f64| {
        let values = data.to_f64();
        values.first().is_some_and(|first| values.iter().all(|v| v == first))
    };
    // Vectors that differ in this only need not be the same.
    m.ask(name, alike, 0.0).filter(|alike| *alike)?;
    numbers(m, name)?.first().copied()
}

/// Whether a constant is this one number, in the dtype's precision.
pub(super) fn is_number(m: &Match<'_>, name: &str, value: f64) -> bool {
    let (Some(found), Some(ty)) = (number(m, name), m.ty(name)) else { return false };
    // Exporters write 1.4142 in single precision or as a division: a few units in the last place are the same number.
    near(F64::new(found), Tensor::from_f64(ty.dtype, &[], &[value]).to_f64()[0])
}

/// Whether an attribute is this number up to single precision.
pub(super) fn near(found: F64, wanted: f64) -> bool {
    (found.get() - wanted).abs() <= wanted.abs() * 4.0 * f64::from(f32::EPSILON)
}

/// Whether all elements of a small value that is computed from constants are finite.
pub(super) fn finite(m: &Match<'_>, name: &str) -> bool {
    m.ask(name, |data, _| data.to_f64().iter().all(|v| v.is_finite()), 0.0) == Some(true)
}

/// Whether all numbers are normal in a dtype: neither zero nor so small or large that digits are lost.
pub(super) fn all_normal(dtype: DType, values: &[f64]) -> bool {
    let (low, high) = match dtype {
        DType::F16 => (2f64.powi(-14), 65504.0),
        DType::F64 => (f64::MIN_POSITIVE, f64::MAX),
        _ => (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)),
    };
    values.iter().all(|v| (low..=high).contains(&v.abs()))
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

/// The type of a value with one result, for makers.
pub(super) fn ty(egraph: &EGraph, id: Id) -> Option<&TensorType> {
    egraph[id].data.ty()
}

/// Whether two shapes differ in axes of extent 1 only.
pub(super) fn moves_units(from: &[Extent], to: &[Extent]) -> bool {
    solid(from).into_iter().map(|axis| &from[axis]).eq(solid(to).into_iter().map(|axis| &to[axis]))
}

/// Axes whose extent is not 1.
pub(super) fn solid(shape: &[Extent]) -> Vec<usize> {
    (0..shape.len()).filter(|&axis| shape[axis] != Extent::ONE).collect()
}

/// The permutation that undoes one.
pub(crate) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    inverse
}

/// Whether a permutation changes nothing.
pub(super) fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(at, &axis)| at == axis)
}

/// Adds a transpose; none where it changes nothing.
pub(super) fn transpose(egraph: &mut EGraph, x: Id, perm: Vec<usize>) -> Option<Id> {
    if is_identity(&perm) {
        return Some(x);
    }
    add_op(egraph, Transpose { perm }, &[x])
}

/// A shape with axes of extent 1 in front up to a rank.
pub(super) fn padded(shape: &[Extent], rank: usize) -> Vec<Extent> {
    let missing = rank.saturating_sub(shape.len());
    std::iter::repeat_n(Extent::ONE, missing).chain(shape.iter().cloned()).collect()
}

/// Whether broadcasting an operand to a value leaves the value's shape as it is.
pub(super) fn broadcasts_to(operand: &[Extent], shape: &[Extent]) -> bool {
    let Some(missing) = shape.len().checked_sub(operand.len()) else { return false };
    operand.iter().zip(&shape[missing..]).all(|(dim, len)| *dim == Extent::ONE || dim == len)
}
