//! Resampling: source coordinates and weights are computed per axis while the result is walked.

use adze_ir::extent::Extent;
use adze_ir::ops::{CoordMode, NearestMode, Op, Resize, ResizeMode};

use super::movement::{coordinates, offset_of};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::kernel::{BinOp, Elem, KernelBuilder, Type, UnOp, Value};

/// Lowers nearest and linear resampling.
///
/// # Errors
/// [`Unsupported`] for cubic interpolation and dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let Op::Resize(op) = cx.op else { unreachable!("the family is chosen by operator") };
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    if Elem::of_memory(x.dtype).is_none() {
        return Err(Unsupported {
            found: format!("resize of {}", x.dtype),
            accepted: "elements of whole bytes".into(),
        });
    }
    match op.mode {
        ResizeMode::Nearest => Ok(vec![nearest(cx, op, x)]),
        ResizeMode::Linear if x.dtype.is_float() && !op.exclude_outside => Ok(vec![linear(cx, op, x)]),
        _ => Err(Unsupported {
            found: format!("`{op:?}` on {}", x.dtype),
            accepted: "nearest, or linear on floating point".into(),
        }),
    }
}

const F64: Type = Type::scalar(Elem::F64);

/// Source coordinate of a result index, as ONNX defines it.
fn coordinate(b: &mut KernelBuilder, op: &Resize, axis: usize, i: &Extent, x: &Operand, out: &Operand) -> Value {
    let int = b.extent(i.clone());
    let at = b.convert(int, true, Elem::F64);
    let float = |b: &mut KernelBuilder, e: &Extent| {
        let v = b.extent(e.clone());
        b.convert(v, true, Elem::F64)
    };
    let scale = b.number(op.scales[axis].get(), F64);
    let half = b.number(0.5, F64);
    let half_pixel = |b: &mut KernelBuilder| {
        let moved = b.add(at, half);
        let scaled = b.div(moved, scale);
        b.sub(scaled, half)
    };
    match op.coords {
        CoordMode::Asymmetric => b.div(at, scale),
        CoordMode::HalfPixel => half_pixel(b),
        CoordMode::PytorchHalfPixel if out.shape[axis] == Extent::ONE => b.zero(F64),
        CoordMode::PytorchHalfPixel => half_pixel(b),
        CoordMode::HalfPixelSymmetric => {
            let (size_in, size_out) = (float(b, &x.shape[axis]), float(b, &out.shape[axis]));
            let exact = b.mul(scale, size_in);
            let adjustment = b.div(size_out, exact);
            let centre = b.mul(size_in, half);
            let one = b.number(1.0, F64);
            let rest = b.sub(one, adjustment);
            let offset = b.mul(centre, rest);
            let moved = half_pixel(b);
            b.add(offset, moved)
        }
        CoordMode::AlignCorners if out.shape[axis] == Extent::ONE => b.zero(F64),
        CoordMode::AlignCorners => {
            let top = float(b, &(x.shape[axis].clone() - 1.into()));
            let bottom = float(b, &(out.shape[axis].clone() - 1.into()));
            let product = b.mul(at, top);
            b.div(product, bottom)
        }
    }
}

/// A float as an index inside the operand.
fn to_index(b: &mut KernelBuilder, value: Value, extent: &Extent) -> Extent {
    let int = b.convert(value, true, Elem::I64);
    let zero = b.zero(Type::scalar(Elem::I64));
    let last = b.extent(extent.clone() - 1.into());
    let low = b.bin(BinOp::MaxS, int, zero);
    let fit = b.bin(BinOp::MinS, low, last);
    b.index(fit)
}

/// Whether the axis keeps its extent and its coordinates.
fn is_identity(op: &Resize, axis: usize, x: &Operand, out: &Operand) -> bool {
    x.shape[axis] == out.shape[axis] && op.scales[axis].get() == 1.0
}

fn nearest(cx: &LeafCx<'_>, op: &Resize, x: &Operand) -> Lowered {
    let out = &cx.outputs[0];
    coordinates(cx, "resize_nearest", &[PtrRole::Input(0)], |b, params, index| {
        let mut source = index.to_vec();
        for axis in 0..source.len() {
            if is_identity(op, axis, x, out) {
                continue;
            }
            let at = coordinate(b, op, axis, &index[axis], x, out);
            let half = b.number(0.5, F64);
            let rounded = match op.nearest {
                NearestMode::Floor => b.un(UnOp::Floor, at),
                NearestMode::Ceil => b.un(UnOp::Ceil, at),
                NearestMode::RoundPreferFloor => {
                    let moved = b.sub(at, half);
                    b.un(UnOp::Ceil, moved)
                }
                NearestMode::RoundPreferCeil => {
                    let moved = b.add(at, half);
                    b.un(UnOp::Floor, moved)
                }
            };
            source[axis] = to_index(b, rounded, &x.shape[axis]);
        }
        b.load(params[0], offset_of(x, &source), 1)
    })
}

/// The two neighbours along each axis that changes, weighted.
fn linear(cx: &LeafCx<'_>, op: &Resize, x: &Operand) -> Lowered {
    let out = &cx.outputs[0];
    coordinates(cx, "resize_linear", &[PtrRole::Input(0)], |b, params, index| {
        let mut corners: Vec<(Vec<Extent>, Option<Value>)> = vec![(index.to_vec(), None)];
        for axis in 0..index.len() {
            if is_identity(op, axis, x, out) {
                continue;
            }
            let at = coordinate(b, op, axis, &index[axis], x, out);
            let (zero, last) = (b.zero(F64), b.extent(x.shape[axis].clone() - 1.into()));
            let last = b.convert(last, true, Elem::F64);
            let low = b.bin(BinOp::MaxSel, zero, at);
            let at = b.bin(BinOp::MinSel, last, low);
            let below = b.un(UnOp::Floor, at);
            let above_weight = b.sub(at, below);
            let one = b.number(1.0, F64);
            let below_weight = b.sub(one, above_weight);
            let above = b.add(below, one);
            let (first, second) = (to_index(b, below, &x.shape[axis]), to_index(b, above, &x.shape[axis]));
            let mut split = Vec::with_capacity(corners.len() * 2);
            for (corner, weight) in corners {
                for (source, part) in [(&first, below_weight), (&second, above_weight)] {
                    let mut corner = corner.clone();
                    corner[axis] = source.clone();
                    let weight = match weight {
                        Some(weight) => b.mul(weight, part),
                        None => part,
                    };
                    split.push((corner, Some(weight)));
                }
            }
            corners = split;
        }
        let mut sum = b.zero(F64);
        for (corner, weight) in corners {
            let value = b.load_as(params[0], offset_of(x, &corner), F64);
            sum = match weight {
                Some(weight) => b.muladd(value, weight, sum),
                None => b.add(sum, value),
            };
        }
        b.to_memory(sum, out.dtype)
    })
}
