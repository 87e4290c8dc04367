//! Leaves whose addresses come from data: gather and its kin. Every index is checked.

use adze_ir::extent::Extent;
use adze_ir::ops::Op;
use adze_ir::types::DType;

use super::movement::{coordinates, nibble_base, offset_of};
use super::nest::Nest;
use super::nibble::{self, is_nibble};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::driver::status;
use crate::cpu::kernel::{Access, Cmp, Cond, Elem, KernelBuilder, Param, Type};

/// Lowers gathers and one-hot.
///
/// # Errors
/// [`Unsupported`] for operators and dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let narrow = is_nibble(cx.outputs[0].dtype);
    if narrow && matches!(cx.op, Op::OneHot(_)) {
        let found = format!("`{}` on {}", cx.op, cx.outputs[0].dtype);
        return Err(Unsupported { found, accepted: "elements of whole bytes".into() });
    }
    match cx.op {
        Op::Gather(op) if narrow => Ok(vec![gather_single(cx, op.axis)]),
        Op::Gather(op) => Ok(vec![gather(cx, op.axis)]),
        Op::GatherElements(op) => Ok(vec![gather_elements(cx, op.axis)]),
        Op::GatherNd(op) => Ok(vec![gather_nd(cx, op.batch_dims)]),
        Op::OneHot(op) => Ok(vec![one_hot(cx, op.axis, &op.depth)]),
        op => Err(Unsupported { found: format!("`{op}`"), accepted: "an operator with a kernel".into() }),
    }
}

fn operand<'a>(cx: &LeafCx<'a>, index: usize) -> &'a Operand {
    cx.inputs[index].as_ref().expect("the type rule asks for it")
}

/// Loads an index, counts negative ones from the end, and returns with a status when it is out of range.
pub(super) fn checked_index(
    b: &mut KernelBuilder,
    param: Param,
    offset: Extent,
    dtype: DType,
    extent: &Extent,
) -> Extent {
    let raw = b.load(param, offset, 1);
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let raw = b.convert(raw, signed, Elem::I64);
    let ty = Type::scalar(Elem::I64);
    let (zero, size) = (b.zero(ty), b.extent(extent.clone()));
    let negative = b.cmp(Cmp::Lt, raw, zero);
    let wrapped = b.add(raw, size);
    let index = b.select(negative, wrapped, raw);
    // One unsigned comparison rules out both ends.
    let inside = b.cmp(Cmp::LtU, index, size);
    b.guard(Cond::Value(inside), status::INDEX_RANGE);
    b.index(index)
}

/// Slices are copied whole: the loops after the index are a nest of their own.
fn gather(cx: &LeafCx<'_>, axis: usize) -> Lowered {
    let (x, indices, out) = (operand(cx, 0), operand(cx, 1), &cx.outputs[0]);
    let after = axis + indices.rank();
    let mut b = cx.builder(&format!("gather_{}", out.dtype));
    let y = b.param("y", out.dtype, Access::Out);
    let p = b.param("x", x.dtype, Access::In);
    let q = b.param("indices", indices.dtype, Access::In);
    // Loops over the indices outside, over the rest of the slice inside.
    let index_strides = [out.strides[axis..after].to_vec(), indices.strides.clone()];
    let outer = Nest::new(&indices.shape, &index_strides, cx.dims);
    let rest: Vec<usize> = (0..x.rank()).filter(|&a| a != axis).collect();
    let shape: Vec<Extent> = rest.iter().map(|&a| x.shape[a].clone()).collect();
    let to: Vec<Extent> =
        rest.iter().map(|&a| out.strides[if a < axis { a } else { a + indices.rank() - 1 }].clone()).collect();
    let from: Vec<Extent> = rest.iter().map(|&a| x.strides[a].clone()).collect();
    let inner = Nest::new(&shape, &[to, from], cx.dims);
    let lanes = if inner.is_vector() { u16::try_from(256 / out.dtype.bits().max(8)).unwrap_or(1) } else { 1 };
    outer.emit(&mut b, 1, |b, offsets, _| {
        let at = |i: usize| offsets.get(i).cloned().unwrap_or(Extent::ZERO);
        let index = checked_index(b, q, at(1), indices.dtype, &x.shape[axis]);
        let start = [at(0), index * x.strides[axis].clone()];
        inner.emit_all(b, &start, lanes, |b, offsets, lanes| {
            let value = b.load(p, offsets[1].clone(), lanes);
            b.store(y, offsets[0].clone(), value);
        });
    });
    let pointers = vec![PtrRole::Output(0), PtrRole::Input(0), PtrRole::Input(1)];
    Lowered { kernel: b.finish(), pointers, range: outer.range() }
}

/// [`gather`] one element at a time.
fn gather_single(cx: &LeafCx<'_>, axis: usize) -> Lowered {
    let (x, indices) = (operand(cx, 0), operand(cx, 1));
    coordinates(cx, "gather", &[PtrRole::Input(0), PtrRole::Input(1)], |b, params, at| {
        let after = axis + indices.rank();
        let place = offset_of(indices, &at[axis..after]);
        let index = checked_index(b, params[1], place, indices.dtype, &x.shape[axis]);
        let source = [&at[..axis], &[index], &at[after..]].concat();
        nibble::load(b, params[0], nibble_base(x) + offset_of(x, &source), 1)
    })
}

fn gather_elements(cx: &LeafCx<'_>, axis: usize) -> Lowered {
    let (x, indices) = (operand(cx, 0), operand(cx, 1));
    coordinates(cx, "gather_elements", &[PtrRole::Input(0), PtrRole::Input(1)], |b, params, at| {
        let index = checked_index(b, params[1], offset_of(indices, at), indices.dtype, &x.shape[axis]);
        let mut source = at.to_vec();
        source[axis] = index;
        nibble::load(b, params[0], nibble_base(x) + offset_of(x, &source), 1)
    })
}

fn gather_nd(cx: &LeafCx<'_>, batch: usize) -> Lowered {
    let (x, indices) = (operand(cx, 0), operand(cx, 1));
    let tuple = indices.shape.last().and_then(Extent::as_const).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    coordinates(cx, "gather_nd", &[PtrRole::Input(0), PtrRole::Input(1)], |b, params, at| {
        let leading = &at[..indices.rank() - 1];
        let mut source = at[..batch].to_vec();
        for position in 0..tuple {
            let mut place = leading.to_vec();
            place.push(position.into());
            let extent = &x.shape[batch + position];
            source.push(checked_index(b, params[1], offset_of(indices, &place), indices.dtype, extent));
        }
        source.extend_from_slice(&at[indices.rank() - 1..]);
        nibble::load(b, params[0], nibble_base(x) + offset_of(x, &source), 1)
    })
}

/// Indices outside of `-depth..depth` give the off value, as ONNX says.
fn one_hot(cx: &LeafCx<'_>, axis: usize, depth: &Extent) -> Lowered {
    let (indices, values) = (operand(cx, 0), operand(cx, 1));
    coordinates(cx, "one_hot", &[PtrRole::Input(0), PtrRole::Input(1)], |b, params, at| {
        let mut place = at.to_vec();
        let here = place.remove(axis);
        let raw = b.load(params[0], offset_of(indices, &place), 1);
        let float = matches!(indices.dtype, DType::F16 | DType::Bf16 | DType::F32 | DType::F64);
        let raw = if float { b.from_memory(raw, indices.dtype, Elem::F64) } else { raw };
        let signed = !matches!(indices.dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64);
        let raw = b.convert(raw, signed, Elem::I64);
        let (zero, size) = (b.zero(Type::scalar(Elem::I64)), b.extent(depth.clone()));
        let negative = b.cmp(Cmp::Lt, raw, zero);
        let wrapped = b.add(raw, size);
        let index = b.select(negative, wrapped, raw);
        let position = b.extent(here);
        let hot = b.cmp(Cmp::Eq, index, position);
        let on = b.load(params[1], values.strides[0].clone(), 1);
        let off = b.load(params[1], 0, 1);
        let elem = b.ty(on).elem;
        let hot = b.mask_to(hot, elem.mask());
        b.select(hot, on, off)
    })
}
