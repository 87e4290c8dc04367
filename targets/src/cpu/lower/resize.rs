//! Resampling: source coordinates and weights are computed per axis while the result is walked.

use adze_ir::extent::Extent;
use adze_ir::ops::{CoordMode, NearestMode, Op, Resize, ResizeMode};

use super::movement::{coordinates, offset_of};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::kernel::{BinOp, Cmp, Elem, KernelBuilder, Type, UnOp, Value};

/// Most axes that are interpolated together: each multiplies the taps by up to four.
const MAX_AXES: usize = 4;

/// Lowers resampling.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let Op::Resize(op) = cx.op else { unreachable!("the family is chosen by operator") };
    let x = cx.inputs[0].as_ref().expect("the type rule asks for it");
    if Elem::of_memory(x.dtype).is_none() {
        return Err(Unsupported {
            found: format!("resize of {}", x.dtype),
            accepted: "elements of whole bytes".into(),
        });
    }
    let out = &cx.outputs[0];
    let changed = (0..x.rank()).filter(|&axis| !is_identity(op, axis, x, out)).count();
    if op.mode != ResizeMode::Nearest && changed > MAX_AXES {
        let accepted = format!("{MAX_AXES} or less");
        return Err(Unsupported { found: format!("interpolation along {changed} axes"), accepted });
    }
    match op.mode {
        ResizeMode::Nearest => Ok(vec![nearest(cx, op, x)]),
        ResizeMode::Linear => Ok(vec![weighted(cx, op, x, "resize_linear", linear_taps)]),
        ResizeMode::Cubic => Ok(vec![weighted(cx, op, x, "resize_cubic", cubic_taps)]),
    }
}

const F32: Type = Type::scalar(Elem::F32);
const F64: Type = Type::scalar(Elem::F64);

/// Source coordinate of a result index, as ONNX defines it: in `f32`, operation by operation as the interpreter computes
/// it, since which neighbour is the nearest depends on it.
fn coordinate(b: &mut KernelBuilder, op: &Resize, axis: usize, i: &Extent, x: &Operand, out: &Operand) -> Value {
    let int = b.extent(i.clone());
    let at = b.convert(int, true, Elem::F32);
    let float = |b: &mut KernelBuilder, e: &Extent| {
        let v = b.extent(e.clone());
        b.convert(v, true, Elem::F32)
    };
    let scale = b.number(f64::from(op.scales[axis].get() as f32), F32);
    let half = b.number(0.5, F32);
    let half_pixel = |b: &mut KernelBuilder| {
        let moved = b.add(at, half);
        let scaled = b.div(moved, scale);
        b.sub(scaled, half)
    };
    match op.coords {
        CoordMode::Asymmetric => b.div(at, scale),
        CoordMode::HalfPixel => half_pixel(b),
        CoordMode::PytorchHalfPixel if out.shape[axis] == Extent::ONE => b.zero(F32),
        CoordMode::PytorchHalfPixel => half_pixel(b),
        CoordMode::HalfPixelSymmetric => {
            let (size_in, size_out) = (float(b, &x.shape[axis]), float(b, &out.shape[axis]));
            let exact = b.mul(scale, size_in);
            let adjustment = b.div(size_out, exact);
            let centre = b.mul(size_in, half);
            let one = b.number(1.0, F32);
            let rest = b.sub(one, adjustment);
            let offset = b.mul(centre, rest);
            let moved = b.add(at, half);
            let scaled = b.div(moved, scale);
            let sum = b.add(offset, scaled);
            b.sub(sum, half)
        }
        CoordMode::AlignCorners if out.shape[axis] == Extent::ONE => b.zero(F32),
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
            let half = b.number(0.5, F32);
            let rounded = match op.nearest {
                NearestMode::Floor => b.un(UnOp::Floor, at),
                NearestMode::Ceil => b.un(UnOp::Ceil, at),
                NearestMode::RoundPreferFloor => {
                    let moved = b.sub(at, half);
                    b.un(UnOp::Ceil, moved)
                }
                NearestMode::RoundPreferCeil => {
                    // Not by adding a half, which rounds.
                    let floor = b.un(UnOp::Floor, at);
                    let rest = b.sub(at, floor);
                    let up = b.cmp(Cmp::Ge, rest, half);
                    let one = b.number(1.0, F32);
                    let above = b.add(floor, one);
                    b.select(up, above, floor)
                }
            };
            source[axis] = to_index(b, rounded, &x.shape[axis]);
        }
        b.load(params[0], offset_of(x, &source), 1)
    })
}

/// A source index along an axis with its weight.
type Tap = (Extent, Value);

/// The two neighbours, weighted by nearness.
fn linear_taps(b: &mut KernelBuilder, _: &Resize, at: Value, extent: &Extent) -> Vec<Tap> {
    let (zero, last) = (b.zero(F64), b.extent(extent.clone() - 1.into()));
    let last = b.convert(last, true, Elem::F64);
    let low = b.bin(BinOp::MaxSel, zero, at);
    let at = b.bin(BinOp::MinSel, last, low);
    let below = b.un(UnOp::Floor, at);
    let above_weight = b.sub(at, below);
    let one = b.number(1.0, F64);
    let below_weight = b.sub(one, above_weight);
    let above = b.add(below, one);
    vec![(to_index(b, below, extent), below_weight), (to_index(b, above, extent), above_weight)]
}

/// Four neighbours weighted by Keys' kernel; those outside are the edge, or do not count.
fn cubic_taps(b: &mut KernelBuilder, op: &Resize, at: Value, extent: &Extent) -> Vec<Tap> {
    let size = b.extent(extent.clone());
    let size = b.convert(size, true, Elem::F64);
    // Further out, all four are the edge.
    let (four, minus_four) = (b.number(4.0, F64), b.number(-4.0, F64));
    let high = b.add(size, four);
    let at = b.bin(BinOp::MaxSel, minus_four, at);
    let at = b.bin(BinOp::MinSel, high, at);
    let floor = b.un(UnOp::Floor, at);
    let ratio = b.sub(at, floor);
    let zero = b.zero(F64);
    let mut taps = Vec::with_capacity(4);
    let mut sum = zero;
    for offset in -1..=2 {
        let shift = b.number(f64::from(offset), F64);
        let place = b.add(floor, shift);
        let distance = b.sub(shift, ratio);
        let mut weight = keys(b, distance, op.cubic_a.get(), (0..=1).contains(&offset));
        if op.exclude_outside {
            let (from, to) = (b.cmp(Cmp::Ge, place, zero), b.cmp(Cmp::Lt, place, size));
            let inside = b.bin(BinOp::And, from, to);
            weight = b.select(inside, weight, zero);
            sum = b.add(sum, weight);
        }
        taps.push((to_index(b, place, extent), weight));
    }
    if op.exclude_outside {
        taps.iter_mut().for_each(|tap| tap.1 = b.div(tap.1, sum));
    }
    taps
}

/// Keys' cubic kernel at a distance; `near` for distances up to one. Source: R. Keys, Cubic convolution interpolation for
/// digital image processing, 1981.
fn keys(b: &mut KernelBuilder, distance: Value, a: f64, near: bool) -> Value {
    let d = b.un(UnOp::Abs, distance);
    let coefficients = if near { [a + 2.0, -(a + 3.0), 0.0, 1.0] } else { [a, -5.0 * a, 8.0 * a, -4.0 * a] };
    let mut sum = b.number(coefficients[0], F64);
    for &c in &coefficients[1..] {
        let c = b.number(c, F64);
        sum = b.muladd(sum, d, c);
    }
    sum
}

/// Weighted sums over the taps of every axis that changes.
fn weighted(
    cx: &LeafCx<'_>,
    op: &Resize,
    x: &Operand,
    name: &str,
    taps: impl Fn(&mut KernelBuilder, &Resize, Value, &Extent) -> Vec<Tap>,
) -> Lowered {
    let out = &cx.outputs[0];
    coordinates(cx, name, &[PtrRole::Input(0)], |b, params, index| {
        let mut corners: Vec<(Vec<Extent>, Option<Value>)> = vec![(index.to_vec(), None)];
        for axis in 0..index.len() {
            if is_identity(op, axis, x, out) {
                continue;
            }
            let at = coordinate(b, op, axis, &index[axis], x, out);
            let at = b.convert(at, true, Elem::F64);
            let taps = taps(b, op, at, &x.shape[axis]);
            let mut split = Vec::with_capacity(corners.len() * taps.len());
            for (corner, weight) in corners {
                for (source, part) in &taps {
                    let mut corner = corner.clone();
                    corner[axis] = source.clone();
                    let weight = weight.map_or(*part, |weight| b.mul(weight, *part));
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
