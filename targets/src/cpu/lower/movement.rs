//! Leaves that only move elements: strided copies, and copies whose source index is computed.

use adze_ir::extent::Extent;
use adze_ir::ops::{Op, PadMode};
use adze_ir::types::DType;

use super::elementwise::{compute_elem, is_vector_dtype};
use super::nest::{Nest, broadcast_strides};
use super::nibble::{self, is_nibble};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use super::transpose::Transposed;
use crate::cpu::kernel::{Access, Cmp, Cond, Elem, KernelBuilder, Type};

/// Lowers a movement operator.
///
/// # Errors
/// [`Unsupported`] for sub-byte elements and operators of other families.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let need = |i: usize| cx.inputs[i].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    match cx.op {
        // The bits are loaded and stored as the result's dtype.
        Op::BitCast(_) => Ok(vec![copy(cx, "bits", 0, need(0).strides.clone(), out, 0, Extent::ZERO, Extent::ZERO)]),
        Op::Relayout(_) => Ok(vec![copy(cx, "copy", 0, need(0).strides.clone(), out, 0, Extent::ZERO, Extent::ZERO)]),
        Op::Transpose(op) => {
            let strides = op.perm.iter().map(|&axis| need(0).strides[axis].clone()).collect();
            Ok(vec![copy(cx, "transpose", 0, strides, out, 0, Extent::ZERO, Extent::ZERO)])
        }
        Op::Expand(_) => {
            let strides = broadcast_strides(need(0), out.rank());
            Ok(vec![copy(cx, "expand", 0, strides, out, 0, Extent::ZERO, Extent::ZERO)])
        }
        Op::Slice(op) => {
            let mut strides = need(0).strides.clone();
            let mut start = Extent::ZERO;
            for (position, &axis) in op.axes.iter().enumerate() {
                start = start + op.starts[position].clone() * strides[axis].clone();
                strides[axis] = strides[axis].clone() * op.steps[position].into();
            }
            Ok(vec![copy(cx, "slice", 0, strides, out, 0, start, Extent::ZERO)])
        }
        Op::Concat(op) => Ok(concat(cx, op.axis)),
        Op::Split(op) => Ok(split(cx, op.axis)),
        Op::Pad(op) if op.mode == PadMode::Constant => Ok(pad_constant(cx, &op.before, &op.after)),
        Op::Reshape(_) => Ok(vec![reshape(cx)]),
        Op::DepthToSpace(op) => Ok(vec![depth_to_space(cx, op.block, op.crd)]),
        Op::SpaceToDepth(op) => Ok(vec![space_to_depth(cx, op.block, op.crd)]),
        _ => computed(cx),
    }
}

/// One strided copy between an operand and a result.
#[allow(clippy::too_many_arguments)]
pub(super) fn copy(
    cx: &LeafCx<'_>,
    name: &str,
    input: usize,
    strides: Vec<Extent>,
    out: &Operand,
    output: usize,
    source: Extent,
    target: Extent,
) -> Lowered {
    copy_shape(cx, name, input, &out.shape, strides, out.strides.clone(), output, source, target)
}

/// [`copy`] over a shape of its own: axes may be split differently from the result's.
#[allow(clippy::too_many_arguments)]
fn copy_shape(
    cx: &LeafCx<'_>,
    name: &str,
    input: usize,
    shape: &[Extent],
    from: Vec<Extent>,
    to: Vec<Extent>,
    output: usize,
    source: Extent,
    target: Extent,
) -> Lowered {
    let dtype = cx.outputs[output].dtype;
    let nest = Nest::new(shape, &[to, from], cx.dims);
    let mut b = cx.builder(&format!("{name}_{dtype}"));
    let y = b.param("y", dtype, written(dtype));
    let x = b.param("x", dtype, Access::In);
    let pointers = vec![PtrRole::Output(output), PtrRole::Input(input)];
    if is_nibble(dtype) {
        let base = |operand: Option<&Operand>| operand.map_or(Extent::ZERO, |o| o.offset.clone());
        let start = [base(cx.outputs.get(output)) + target, base(cx.inputs[input].as_ref()) + source];
        let (lo, hi) = b.range();
        b.loop_(lo, hi, 1, |b, _| {
            nest.emit_all(b, &start, 1, |b, at, _| {
                let value = nibble::load(b, x, at[1].clone(), 1);
                nibble::store(b, y, at[0].clone(), value);
            });
        });
        return Lowered { kernel: b.finish(), pointers, range: Extent::ONE };
    }
    if let Some(transposed) = Transposed::of(&nest, dtype, cx.machine) {
        transposed.emit(&mut b, [y, x], &[target, source]);
        return Lowered { kernel: b.finish(), pointers, range: transposed.range() };
    }
    let lanes = if nest.is_vector() { cx.machine.strip_lanes(dtype) } else { 1 };
    let repeats = nest.inner_stride(1) == Extent::ZERO;
    nest.emit(&mut b, lanes, |b, offsets, lanes| {
        let at = |i: usize| offsets.get(i).cloned().unwrap_or(Extent::ZERO);
        let value = b.load(x, at(1) + source.clone(), if repeats { 1 } else { lanes });
        let value = if repeats && lanes > 1 { b.splat(value, lanes) } else { value };
        b.store(y, at(0) + target.clone(), value);
    });
    Lowered { kernel: b.finish(), pointers, range: nest.range() }
}

fn concat(cx: &LeafCx<'_>, axis: usize) -> Vec<Lowered> {
    let out = &cx.outputs[0];
    let mut start = Extent::ZERO;
    let mut pieces = Vec::new();
    for (index, operand) in cx.inputs.iter().enumerate() {
        let Some(operand) = operand else { continue };
        let target = start.clone() * out.strides[axis].clone();
        start = start + operand.shape[axis].clone();
        let (from, to) = (operand.strides.clone(), out.strides.clone());
        pieces.push(copy_shape(cx, "concat", index, &operand.shape, from, to, 0, Extent::ZERO, target));
    }
    pieces
}

fn split(cx: &LeafCx<'_>, axis: usize) -> Vec<Lowered> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let mut start = Extent::ZERO;
    let mut pieces = Vec::new();
    for (index, out) in cx.outputs.iter().enumerate() {
        let source = start.clone() * x.strides[axis].clone();
        start = start + out.shape[axis].clone();
        pieces.push(copy(cx, "split", 0, x.strides.clone(), out, index, source, Extent::ZERO));
    }
    pieces
}

/// Fills the result, then copies what lies inside.
fn pad_constant(cx: &LeafCx<'_>, before: &[Extent], after: &[Extent]) -> Vec<Lowered> {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let value = cx.inputs.get(1).and_then(Option::as_ref);
    let mut pieces = Vec::new();
    if before.iter().chain(after).any(|p| p.range(cx.dims).hi > 0) {
        pieces.push(fill(cx, value));
    }
    let zero = Extent::ZERO;
    let (mut source, mut target) = (Extent::ZERO, Extent::ZERO);
    let mut shape = Vec::with_capacity(out.rank());
    for axis in 0..out.rank() {
        let (crop_before, crop_after) = ((-before[axis].clone()).maximum(&zero), (-after[axis].clone()).maximum(&zero));
        source = source + crop_before.clone() * x.strides[axis].clone();
        target = target + before[axis].maximum(&zero) * out.strides[axis].clone();
        shape.push(x.shape[axis].clone() - crop_before - crop_after);
    }
    pieces.push(copy_shape(cx, "pad", 0, &shape, x.strides.clone(), out.strides.clone(), 0, source, target));
    pieces
}

/// The scalar operand (or zero) in every element.
fn fill(cx: &LeafCx<'_>, value: Option<&Operand>) -> Lowered {
    let out = &cx.outputs[0];
    let nest = Nest::new(&out.shape, std::slice::from_ref(&out.strides), cx.dims);
    let mut b = cx.builder(&format!("fill_{}", out.dtype));
    let y = b.param("y", out.dtype, written(out.dtype));
    let x = value.map(|_| b.param("value", out.dtype, Access::In));
    let lanes = if nest.is_vector() { cx.machine.strip_lanes(out.dtype) } else { 1 };
    let body = |b: &mut KernelBuilder, offsets: &[Extent], lanes: u16| {
        let scalar = match (x, value) {
            (Some(x), Some(value)) => nibble::load(b, x, value.offset.clone(), 1),
            _ => b.zero(Type::scalar(Elem::of_memory(out.dtype).unwrap_or(Elem::I8))),
        };
        let value = if lanes > 1 { b.splat(scalar, lanes) } else { scalar };
        nibble::store(b, y, offsets.first().cloned().unwrap_or(Extent::ZERO), value);
    };
    let mut range = nest.range();
    if is_nibble(out.dtype) {
        let (lo, hi) = b.range();
        b.loop_(lo, hi, 1, |b, _| nest.emit_all(b, std::slice::from_ref(&out.offset), 1, body));
        range = Extent::ONE;
    } else {
        nest.emit(&mut b, lanes, body);
    }
    let pointers = std::iter::once(PtrRole::Output(0)).chain(value.map(|_| PtrRole::Input(1))).collect();
    Lowered { kernel: b.finish(), pointers, range }
}

/// What a kernel does to a result: neighbours of less than a byte are read too.
fn written(dtype: DType) -> Access {
    if is_nibble(dtype) { Access::InOut } else { Access::Out }
}

/// Row-major order kept: a plain copy between dense views, else each index is taken apart and put together again.
fn reshape(cx: &LeafCx<'_>) -> Lowered {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let count = Extent::product(&out.shape);
    if x.is_dense() && out.is_dense() {
        let (from, to) = (vec![Extent::ONE], vec![Extent::ONE]);
        return copy_shape(cx, "reshape", 0, &[count], from, to, 0, Extent::ZERO, Extent::ZERO);
    }
    coordinates(cx, "reshape", &[PtrRole::Input(0)], |b, params, index| {
        let mut linear = Extent::ZERO;
        for (i, extent) in index.iter().zip(&out.shape) {
            linear = linear * extent.clone() + i.clone();
        }
        let mut offset = Extent::ZERO;
        for (extent, stride) in x.shape.iter().zip(&x.strides).rev() {
            offset = offset + linear.modulo(extent) * stride.clone();
            linear = linear.floordiv(extent);
        }
        nibble::load(b, params[0], offset + nibble_base(x), 1)
    })
}

/// `[n, c, h, w]` seen as `[n, b, b, c', h, w]` (or `[n, c', b, b, h, w]`), written as `[n, c', h, b, w, b]`.
fn depth_to_space(cx: &LeafCx<'_>, block: i64, crd: bool) -> Lowered {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let channels = out.shape[1].clone();
    let side = Extent::from(block);
    let shape =
        [x.shape[0].clone(), side.clone(), side.clone(), channels.clone(), x.shape[2].clone(), x.shape[3].clone()];
    let c = &x.strides[1];
    let (row, column, depth) = match crd {
        true => (c.clone() * side.clone(), c.clone(), c.clone() * side.clone() * side.clone()),
        false => (c.clone() * side.clone() * channels.clone(), c.clone() * channels, c.clone()),
    };
    let from = vec![x.strides[0].clone(), row, column, depth, x.strides[2].clone(), x.strides[3].clone()];
    let (h, w) = (&out.strides[2], &out.strides[3]);
    let to = vec![
        out.strides[0].clone(),
        h.clone(),
        w.clone(),
        out.strides[1].clone(),
        h.clone() * side.clone(),
        w.clone() * side,
    ];
    copy_shape(cx, "depth_to_space", 0, &shape, from, to, 0, Extent::ZERO, Extent::ZERO)
}

/// The inverse of [`depth_to_space`].
fn space_to_depth(cx: &LeafCx<'_>, block: i64, crd: bool) -> Lowered {
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    let out = &cx.outputs[0];
    let (side, channels) = (Extent::from(block), x.shape[1].clone());
    let shape =
        [x.shape[0].clone(), side.clone(), side.clone(), channels.clone(), out.shape[2].clone(), out.shape[3].clone()];
    let (h, w) = (&x.strides[2], &x.strides[3]);
    let from = vec![
        x.strides[0].clone(),
        h.clone(),
        w.clone(),
        x.strides[1].clone(),
        h.clone() * side.clone(),
        w.clone() * side.clone(),
    ];
    let c = &out.strides[1];
    let (row, column, depth) = match crd {
        true => (c.clone() * side.clone(), c.clone(), c.clone() * side.clone() * side),
        false => (c.clone() * side * channels.clone(), c.clone() * channels, c.clone()),
    };
    let to = vec![out.strides[0].clone(), row, column, depth, out.strides[2].clone(), out.strides[3].clone()];
    copy_shape(cx, "space_to_depth", 0, &shape, from, to, 0, Extent::ZERO, Extent::ZERO)
}

/// A kernel that walks the result element by element, given each element's index; the value is in memory form.
pub fn coordinates(
    cx: &LeafCx<'_>,
    name: &str,
    pointers: &[PtrRole],
    value: impl Fn(&mut KernelBuilder, &[crate::cpu::kernel::Param], &[Extent]) -> crate::cpu::kernel::Value,
) -> Lowered {
    let out = &cx.outputs[0];
    let mut b = cx.builder(&format!("{name}_{}", out.dtype));
    let y = b.param("y", out.dtype, written(out.dtype));
    let params: Vec<_> = pointers
        .iter()
        .enumerate()
        .map(|(k, role)| match role {
            PtrRole::Input(i) => {
                let dtype = cx.inputs[*i].as_ref().map_or(out.dtype, |o| o.dtype);
                b.param(&format!("x{i}"), dtype, Access::In)
            }
            PtrRole::Packed(weight) => b.param(&format!("w{k}"), weight.data.dtype(), Access::Weight),
            PtrRole::Output(_) | PtrRole::Scratch(_) => b.param(&format!("s{k}"), DType::U8, Access::Scratch),
        })
        .collect();
    let (lo, hi) = b.range();
    let mut body = |b: &mut KernelBuilder, index: &[Extent]| {
        let value = value(b, &params, index);
        let start = if is_nibble(out.dtype) { out.offset.clone() } else { Extent::ZERO };
        let offset = index.iter().zip(&out.strides).fold(start, |sum, (i, s)| sum + i.clone() * s.clone());
        nibble::store(b, y, offset, value);
    };
    if is_nibble(out.dtype) {
        // Neighbours share bytes: one thread writes them all.
        b.loop_(lo, hi, 1, |b, _| walk(b, &out.shape, &mut Vec::new(), &mut body));
        let pointers = std::iter::once(PtrRole::Output(0)).chain(pointers.iter().cloned()).collect();
        return Lowered { kernel: b.finish(), pointers, range: Extent::ONE };
    }
    match out.shape.as_slice() {
        [] => b.loop_(lo, hi, 1, |b, _| body(b, &[])),
        [_, inner @ ..] => b.loop_(lo, hi, 1, |b, i| walk(b, inner, &mut vec![i], &mut body)),
    }
    let range = out.shape.first().cloned().unwrap_or(Extent::ONE);
    let pointers = std::iter::once(PtrRole::Output(0)).chain(pointers.iter().cloned()).collect();
    Lowered { kernel: b.finish(), pointers, range }
}

/// The loops inside the outermost one.
pub(super) fn walk(
    b: &mut KernelBuilder,
    shape: &[Extent],
    index: &mut Vec<Extent>,
    body: &mut dyn FnMut(&mut KernelBuilder, &[Extent]),
) {
    match shape {
        [] => body(b, index),
        [outer, inner @ ..] => b.loop_(0, outer.clone(), 1, |b, i| {
            index.push(i);
            walk(b, inner, index, body);
            index.pop();
        }),
    }
}

/// Offset of an index in a view.
pub fn offset_of(operand: &Operand, index: &[Extent]) -> Extent {
    index.iter().zip(&operand.strides).fold(Extent::ZERO, |sum, (i, s)| sum + i.clone() * s.clone())
}

/// Elements from the pointer to index 0 of a view whose elements are less than a byte; others' pointers say it.
pub(super) fn nibble_base(operand: &Operand) -> Extent {
    if is_nibble(operand.dtype) { operand.offset.clone() } else { Extent::ZERO }
}

/// Operators whose source index is an integer function of the result's index.
fn computed(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let out = &cx.outputs[0];
    let elem = Elem::of_memory(out.dtype).unwrap_or(Elem::I8);
    let lowered = match cx.op {
        Op::Pad(op) => {
            let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
            coordinates(cx, op.mode.name(), &[PtrRole::Input(0)], |b, params, index| {
                let index: Vec<Extent> = (0..index.len())
                    .map(|a| source_index(op.mode, index[a].clone() - op.before[a].clone(), &x.shape[a]))
                    .collect();
                nibble::load(b, params[0], nibble_base(x) + offset_of(x, &index), 1)
            })
        }
        Op::Tile(_) => {
            let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
            coordinates(cx, "tile", &[PtrRole::Input(0)], |b, params, index| {
                let index: Vec<Extent> = index.iter().zip(&x.shape).map(|(i, n)| i.modulo(n)).collect();
                nibble::load(b, params[0], nibble_base(x) + offset_of(x, &index), 1)
            })
        }
        Op::Trilu(op) => {
            let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
            coordinates(cx, "trilu", &[PtrRole::Input(0)], |b, params, index| {
                let (row, column) = (&index[index.len() - 2], &index[index.len() - 1]);
                let diagonal = row.clone() + op.k.into();
                let keep = Cond::Extent(column.clone(), if op.lower { Cmp::Le } else { Cmp::Ge }, diagonal);
                let load =
                    |b: &mut KernelBuilder| vec![nibble::load(b, params[0], nibble_base(x) + offset_of(x, index), 1)];
                b.if_else(keep, load, |b| vec![b.zero(Type::scalar(elem))])[0]
            })
        }
        Op::ExtentValue(op) => {
            let kernel_values = |b: &mut KernelBuilder, index: &[Extent]| {
                let mut value = b.extent(op.values.first().cloned().unwrap_or(Extent::ZERO));
                for (position, extent) in op.values.iter().enumerate().skip(1) {
                    let Some(i) = index.first() else { break };
                    let here = Cond::Extent(i.clone(), Cmp::Eq, position.into());
                    value = b.if_else(here, |b| vec![b.extent(extent.clone())], |_| vec![value])[0];
                }
                b.convert(value, true, elem)
            };
            coordinates(cx, "extents", &[], |b, _, index| kernel_values(b, index))
        }
        Op::Iota(op) => coordinates(cx, "iota", &[], |b, _, index| {
            let value = b.extent(op.start.clone() + op.step.clone() * index[0].clone());
            let to = compute_elem(op.dtype).unwrap_or(elem);
            let value = b.convert(value, true, to);
            b.to_memory(value, op.dtype)
        }),
        op => {
            return Err(Unsupported {
                found: format!("`{op}` on {}", out.dtype),
                accepted: "an operator with a kernel".into(),
            });
        }
    };
    let _ = is_vector_dtype;
    Ok(vec![lowered])
}

/// Where an index beyond the edge comes from.
fn source_index(mode: PadMode, i: Extent, extent: &Extent) -> Extent {
    let last = extent.clone() - 1.into();
    match mode {
        PadMode::Edge | PadMode::Constant => i.maximum(&Extent::ZERO).minimum(&last),
        PadMode::Wrap => i.modulo(extent),
        PadMode::Reflect => {
            // Mirror at 0, then at the last element; one fold each way, as ONNX requires pads below the extent.
            let up = i.maximum(&-i.clone());
            let over = last.clone() * 2.into() - up.clone();
            up.minimum(&over.maximum(&-over.clone()))
        }
    }
}
