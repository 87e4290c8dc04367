//! Normalisations that are not a plain row each: by groups of channels, by a norm, by neighbouring channels; hardmax.

use adze_ir::extent::Extent;
use adze_ir::ops::{GroupNorm, Hardmax, LpNorm, Lrn, Op};
use adze_ir::types::DType;

use super::elementwise::compute_elem;
use super::leaf::{Leaf, unsupported};
use super::operand::{LeafCx, Lowered, Operand, Unsupported};
use super::rows::{Affine, normalise};
use super::walk::{Source, each, fold};
use crate::cpu::kernel::{BinOp, Cmp, Elem, KernelBuilder, Type, UnOp, Value, math};

/// Lowers these operators.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    match cx.op {
        Op::GroupNorm(op) => group_norm(cx, op),
        Op::LpNorm(op) => Ok(vec![lp_norm(cx, op)?]),
        Op::Lrn(op) => Ok(vec![lrn(cx, op)?]),
        Op::Hardmax(op) => Ok(vec![hardmax(cx, op)?]),
        op => Err(unsupported(format!("`{op}`"), "a normalisation")),
    }
}

fn float(dtype: DType, op: &Op) -> Result<Elem, Unsupported> {
    let elem = compute_elem(dtype).filter(|e| e.is_float());
    elem.ok_or_else(|| unsupported(format!("`{op}` on {dtype}"), "a floating-point dtype"))
}

/// Channels split into groups, each group a row; scale and bias broadcast over the rest.
fn group_norm(cx: &LeafCx<'_>, op: &GroupNorm) -> Result<Vec<Lowered>, Unsupported> {
    let groups = Extent::from(op.groups);
    let split = |operand: &Operand| {
        let mut view = operand.clone();
        let inside = operand.shape[1].floordiv(&groups);
        view.shape.splice(1..=1, [groups.clone(), inside.clone()]);
        let step = operand.strides[1].clone();
        view.strides.splice(1..=1, [step.clone() * inside, step]);
        view
    };
    let x = split(super::leaf::input(cx, 0)?);
    let along = |operand: &Operand| {
        let mut view = x.clone();
        let step = operand.strides[0].clone();
        view.dtype = operand.dtype;
        view.offset = operand.offset.clone();
        view.shape = vec![Extent::ONE; x.rank()];
        view.strides = vec![Extent::ZERO; x.rank()];
        view.shape[1..3].clone_from_slice(&x.shape[1..3]);
        view.strides[1] = step.clone() * x.shape[2].clone();
        view.strides[2] = step;
        view
    };
    let (scale, bias) = (along(super::leaf::input(cx, 1)?), along(super::leaf::input(cx, 2)?));
    let outputs = [split(&cx.outputs[0])];
    let axes: Vec<usize> = (2..x.rank()).collect();
    let inputs = [Some(x), Some(scale), Some(bias)];
    let inner = LeafCx { inputs: &inputs, outputs: &outputs, ..*cx };
    normalise(&inner, &axes, op.epsilon.get(), Affine::Row, true)
}

/// Extents of the rows' starts: those of a shape with 1 on the rows' axes.
fn starts(shape: &[Extent], axes: std::ops::Range<usize>) -> Vec<Extent> {
    shape.iter().enumerate().map(|(a, n)| if axes.contains(&a) { Extent::ONE } else { n.clone() }).collect()
}

/// The index of element `inner` of the row at `row`.
fn member(row: &[Extent], axes: std::ops::Range<usize>, inner: &[Extent]) -> Vec<Extent> {
    let mut index = row.to_vec();
    index[axes].clone_from_slice(inner);
    index
}

/// `x / ‖x‖` along an axis; 0 where the norm is 0.
fn lp_norm(cx: &LeafCx<'_>, op: &LpNorm) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("lp_norm{}_{}", op.p, cx.outputs[0].dtype));
    let (x, y) = (Source::input(&mut leaf, 0)?, Source::output(&mut leaf, 0)?);
    let elem = float(x.dtype(), cx.op)?;
    let (ty, axes) = (Type::scalar(elem), op.axis..op.axis + 1);
    let row_shape = &x.operand.shape[axes.clone()];
    let b = &mut leaf.b;
    let range = each(b, &starts(&x.operand.shape, axes.clone()), |b, row| {
        let zero = b.zero(ty);
        let sum = fold(b, row_shape, &[zero], &mut |b, inner, accs| {
            let v = x.load(b, x.at(&member(row, axes.clone(), inner)), elem);
            vec![match op.p {
                1 => {
                    let magnitude = b.un(UnOp::Abs, v);
                    b.add(accs[0], magnitude)
                }
                _ => b.muladd(v, v, accs[0]),
            }]
        })[0];
        let norm = if op.p == 1 { sum } else { b.un(UnOp::Sqrt, sum) };
        let nothing = b.cmp(Cmp::Eq, norm, zero);
        fold(b, row_shape, &[], &mut |b, inner, _| {
            let at = member(row, axes.clone(), inner);
            let v = x.load(b, x.at(&at), elem);
            let ratio = b.div(v, norm);
            let value = b.select(nothing, zero, ratio);
            y.store(b, y.at(&at), value);
            Vec::new()
        });
    });
    Ok(leaf.finish(range))
}

/// 1 at the first largest element, else 0; NaN is the largest.
fn hardmax(cx: &LeafCx<'_>, op: &Hardmax) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("hardmax_{}", cx.outputs[0].dtype));
    let (x, y) = (Source::input(&mut leaf, 0)?, Source::output(&mut leaf, 0)?);
    let elem = float(x.dtype(), cx.op)?;
    let axes = if op.flatten { op.axis..x.operand.rank() } else { op.axis..op.axis + 1 };
    let row_shape = &x.operand.shape[axes.clone()];
    let int = Type::scalar(Elem::I64);
    let b = &mut leaf.b;
    let flat =
        |inner: &[Extent]| inner.iter().zip(row_shape).fold(Extent::ZERO, |sum, (i, n)| sum * n.clone() + i.clone());
    let range = each(b, &starts(&x.operand.shape, axes.clone()), |b, row| {
        let (low, first) = (b.number(f64::NEG_INFINITY, Type::scalar(elem)), b.int(-1, int));
        let top = fold(b, row_shape, &[low, first], &mut |b, inner, accs| {
            let v = x.load(b, x.at(&member(row, axes.clone(), inner)), elem);
            let place = b.extent(flat(inner));
            let start = b.zero(int);
            let empty = b.cmp(Cmp::Lt, accs[1], start);
            let more = larger(b, v, accs[0]);
            let more = b.mask_to(more, Elem::M64);
            let take = b.bin(BinOp::Or, more, empty);
            let narrow = b.mask_to(take, elem.mask());
            vec![b.select(narrow, v, accs[0]), b.select(take, place, accs[1])]
        })[1];
        fold(b, row_shape, &[], &mut |b, inner, _| {
            let place = b.extent(flat(inner));
            let hot = b.cmp(Cmp::Eq, place, top);
            let hot = b.mask_to(hot, elem.mask());
            let (one, zero) = (b.number(1.0, Type::scalar(elem)), b.zero(Type::scalar(elem)));
            let hot = b.select(hot, one, zero);
            y.store(b, y.at(&member(row, axes.clone(), inner)), hot);
            Vec::new()
        });
    });
    Ok(leaf.finish(range))
}

/// Whether a value is larger than the best so far, or the first NaN.
fn larger(b: &mut KernelBuilder, value: Value, best: Value) -> Value {
    let more = b.cmp(Cmp::Gt, value, best);
    let nan = b.cmp(Cmp::Ne, value, value);
    let number = b.cmp(Cmp::Eq, best, best);
    let first_nan = b.bin(BinOp::And, nan, number);
    b.bin(BinOp::Or, more, first_nan)
}

/// `x / (bias + alpha / size · Σ x²)^beta` over neighbouring channels.
fn lrn(cx: &LeafCx<'_>, op: &Lrn) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("lrn_{}", cx.outputs[0].dtype));
    let (x, y) = (Source::input(&mut leaf, 0)?, Source::output(&mut leaf, 0)?);
    let elem = float(x.dtype(), cx.op)?;
    let ty = Type::scalar(elem);
    let (before, after) = (Extent::from((op.size - 1) / 2), Extent::from(op.size / 2));
    let channels = &x.operand.shape[1];
    let b = &mut leaf.b;
    let range = each(b, &x.operand.shape, |b, index| {
        let first = (index[1].clone() - before.clone()).maximum(&Extent::ZERO);
        let end = (index[1].clone() + after.clone() + Extent::ONE).minimum(channels);
        let zero = b.zero(ty);
        let sum = b.for_(first, end, 1, &[zero], |b, channel, accs| {
            let mut at = index.to_vec();
            at[1] = channel;
            let v = x.load(b, x.at(&at), elem);
            vec![b.muladd(v, v, accs[0])]
        })[0];
        let (factor, bias) = (b.number(op.alpha.get() / op.size as f64, ty), b.number(op.bias.get(), ty));
        let base = b.muladd(sum, factor, bias);
        let exponent = b.number(op.beta.get(), ty);
        let power = math::pow(b, base, exponent);
        let v = x.load(b, x.at(index), elem);
        let value = b.div(v, power);
        y.store(b, y.at(index), value);
    });
    Ok(leaf.finish(range))
}
