//! Scatters: a copy, then the updates one after the other, since two may meet at one place.

use adze_ir::extent::Extent;
use adze_ir::ops::{Op, ScatterFn};
use adze_ir::types::DType;

use super::elementwise::compute_elem;
use super::index::checked_index;
use super::leaf::{Leaf, unsupported};
use super::movement::{copy, walk};
use super::operand::{LeafCx, Lowered, Unsupported};
use super::walk::Source;
use crate::cpu::kernel::{BinOp, Elem, KernelBuilder, Value};

/// Lowers scatters.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let (function, out) = match cx.op {
        Op::ScatterElements(op) => (op.function, &cx.outputs[0]),
        Op::ScatterNd(op) => (op.function, &cx.outputs[0]),
        op => return Err(unsupported(format!("`{op}`"), "a scatter")),
    };
    let known = match function {
        ScatterFn::None => Elem::of_memory(out.dtype),
        _ => compute_elem(out.dtype).filter(|e| !e.is_mask()),
    };
    let Some(elem) = known else {
        return Err(unsupported(format!("`{}` on {}", cx.op, out.dtype), "elements of whole bytes"));
    };
    let x = super::leaf::input(cx, 0)?;
    let base = copy(cx, "scatter_base", 0, x.strides.clone(), out, 0, x.offset.clone(), out.offset.clone());
    Ok(vec![base, updates(cx, function, elem)?])
}

fn updates(cx: &LeafCx<'_>, function: ScatterFn, elem: Elem) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("{}_{}_{function}", cx.op.name(), cx.outputs[0].dtype));
    let (indices, news) = (Source::input(&mut leaf, 1)?, Source::input(&mut leaf, 2)?);
    let y = Source::in_out(&mut leaf, 0)?;
    let b = &mut leaf.b;
    let (lo, hi) = b.range();
    b.loop_(lo, hi, 1, |b, _| {
        let mut body = |b: &mut KernelBuilder, at: &[Extent]| {
            let target = match cx.op {
                Op::ScatterElements(op) => {
                    let mut target = at.to_vec();
                    target[op.axis] = position(b, &indices, at, &y.operand.shape[op.axis]);
                    target
                }
                _ => tuple(b, &indices, at, &y.operand.shape),
            };
            apply(b, &y, y.at(&target), &news, news.at(at), function, elem);
        };
        walk(b, &news.operand.shape, &mut Vec::new(), &mut body);
    });
    Ok(leaf.finish(Extent::ONE))
}

fn position(b: &mut KernelBuilder, indices: &Source<'_>, at: &[Extent], extent: &Extent) -> Extent {
    checked_index(b, indices.stream.param, indices.at(at), indices.dtype(), extent)
}

/// The index in the result of element `at` of the updates: a tuple of indices, then the place in the slice.
fn tuple(b: &mut KernelBuilder, indices: &Source<'_>, at: &[Extent], shape: &[Extent]) -> Vec<Extent> {
    let outer = indices.operand.rank() - 1;
    let len = indices.operand.shape[outer].as_const().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let mut target = Vec::with_capacity(shape.len());
    for (k, extent) in shape.iter().enumerate().take(len) {
        let mut place = at[..outer].to_vec();
        place.push(k.into());
        target.push(position(b, indices, &place, extent));
    }
    target.extend_from_slice(&at[outer..]);
    target
}

fn apply(
    b: &mut KernelBuilder,
    y: &Source<'_>,
    target: Extent,
    news: &Source<'_>,
    from: Extent,
    function: ScatterFn,
    elem: Elem,
) {
    if function == ScatterFn::None {
        let value = b.load(news.stream.param, from, 1);
        return b.store(y.stream.param, target, value);
    }
    let (old, new) = (y.load(b, target.clone(), elem), news.load(b, from, elem));
    let value = combine(b, function, old, new, y.dtype());
    y.store(b, target, value);
}

fn combine(b: &mut KernelBuilder, function: ScatterFn, old: Value, new: Value, dtype: DType) -> Value {
    let float = b.ty(old).elem.is_float();
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let pick = |of_float: BinOp, of_signed: BinOp, of_unsigned: BinOp| match (float, signed) {
        (true, _) => of_float,
        (false, true) => of_signed,
        (false, false) => of_unsigned,
    };
    let op = match function {
        ScatterFn::None => return new,
        ScatterFn::Add => BinOp::Add,
        ScatterFn::Mul => BinOp::Mul,
        ScatterFn::Max => pick(BinOp::Max, BinOp::MaxS, BinOp::MaxU),
        ScatterFn::Min => pick(BinOp::Min, BinOp::MinS, BinOp::MinU),
    };
    b.bin(op, old, new)
}
