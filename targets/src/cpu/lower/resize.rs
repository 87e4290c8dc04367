//! Resampling: source coordinates and weights are computed per axis while the result is walked.

use adze_ir::extent::Extent;
use adze_ir::ops::{CoordMode, NearestMode, Op, Resize, ResizeMode};

use super::leaf::lanes_of;
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::kernel::{Access, BinOp, Cmp, Elem, KernelBuilder, Param, Type, UnOp, Value};

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
    resample(cx, op, x, "resize_nearest", cx.machine.strip_lanes(out.dtype), &|b, axis, i| {
        let at = coordinate(b, op, axis, i, x, out);
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
        vec![(to_index(b, rounded, &x.shape[axis]), None)]
    })
}

/// A source index along an axis with its weight; without one where it is the only one.
type Tap = (Extent, Option<Value>);

/// The taps of a result's index along an axis that changes.
type TapsOf<'a> = dyn Fn(&mut KernelBuilder, usize, &Extent) -> Vec<Tap> + 'a;

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
    vec![(to_index(b, below, extent), Some(below_weight)), (to_index(b, above, extent), Some(above_weight))]
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
    taps.into_iter().map(|(place, weight)| (place, Some(weight))).collect()
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
    resample(cx, op, x, name, lanes_of(cx, Elem::F64), &|b, axis, i| {
        let at = coordinate(b, op, axis, i, x, &cx.outputs[0]);
        let at = b.convert(at, true, Elem::F64);
        taps(b, op, at, &x.shape[axis])
    })
}

/// The loops over the result. Taps are made outside of the loops that do not change them; an axis that stays as it is and
/// has neighbours in both operands comes last, in vectors.
fn resample(cx: &LeafCx<'_>, op: &Resize, x: &Operand, name: &str, lanes: u16, taps: &TapsOf<'_>) -> Lowered {
    let out = &cx.outputs[0];
    let mut b = cx.builder(&format!("{name}_{}", out.dtype));
    let params = [b.param("y", out.dtype, Access::Out), b.param("x", x.dtype, Access::In)];
    let neighbours = |operand: &Operand, axis: usize| operand.strides[axis] == Extent::ONE;
    let along = (0..out.rank())
        .find(|&axis| is_identity(op, axis, x, out) && neighbours(x, axis) && neighbours(out, axis))
        .filter(|&axis| out.shape[axis] != Extent::ONE && lanes > 1);
    let mut axes: Vec<usize> = (0..out.rank()).filter(|axis| Some(*axis) != along).collect();
    // The outermost loop is the range that threads share.
    let wide = axes.iter().position(|&axis| out.shape[axis] != Extent::ONE).unwrap_or(0);
    let wide = (wide + 1).min(axes.len());
    axes[..wide].rotate_right(1);
    let walk = Resample { op, x, out, params, taps, along, lanes, axes: &axes };
    let (lo, hi) = b.range();
    let mut range = Extent::ONE;
    b.loop_(lo, hi, 1, |b, i| {
        let mut places: Vec<Vec<Tap>> = vec![Vec::new(); out.rank()];
        let mut index = vec![Extent::ZERO; out.rank()];
        match axes.first() {
            Some(&axis) => {
                range = out.shape[axis].clone();
                walk.at(b, 0, i, &mut index, &mut places);
            }
            None => walk.point(b, &index, &places),
        }
    });
    Lowered { kernel: b.finish(), pointers: vec![PtrRole::Output(0), PtrRole::Input(0)], range }
}

/// What the loops of a resampling share.
struct Resample<'a> {
    op: &'a Resize,
    x: &'a Operand,
    out: &'a Operand,
    /// Result, operand.
    params: [Param; 2],
    taps: &'a TapsOf<'a>,
    /// The axis whose neighbours are lanes.
    along: Option<usize>,
    lanes: u16,
    /// The others, outermost first.
    axes: &'a [usize],
}

impl Resample<'_> {
    /// At an index of the axis of that depth: the loops inside.
    fn at(&self, b: &mut KernelBuilder, depth: usize, i: Extent, index: &mut [Extent], places: &mut [Vec<Tap>]) {
        let axis = self.axes[depth];
        places[axis] = match is_identity(self.op, axis, self.x, self.out) {
            true => vec![(i.clone(), None)],
            false => (self.taps)(b, axis, &i),
        };
        index[axis] = i;
        match self.axes.get(depth + 1).map(|&inner| self.out.shape[inner].clone()) {
            Some(extent) if extent == Extent::ONE => self.at(b, depth + 1, Extent::ZERO, index, places),
            Some(extent) => b.loop_(0, extent, 1, |b, i| self.at(b, depth + 1, i, index, places)),
            None => self.point(b, index, places),
        }
    }

    /// The element at an index, or all of them along the last axis.
    fn point(&self, b: &mut KernelBuilder, index: &[Extent], places: &[Vec<Tap>]) {
        let strides = &self.out.strides;
        let at = index.iter().zip(strides).fold(self.out.offset.clone(), |sum, (i, s)| sum + i.clone() * s.clone());
        let mut corners: Vec<Tap> = vec![(self.x.offset.clone(), None)];
        for (axis, taps) in places.iter().enumerate().filter(|(_, taps)| !taps.is_empty()) {
            let mut split = Vec::with_capacity(corners.len() * taps.len());
            for (corner, weight) in corners {
                for (place, part) in taps {
                    let corner = corner.clone() + place.clone() * self.x.strides[axis].clone();
                    let weight = match (weight, *part) {
                        (Some(weight), Some(part)) => Some(b.mul(weight, part)),
                        (weight, part) => weight.or(part),
                    };
                    split.push((corner, weight));
                }
            }
            corners = split;
        }
        let Some(axis) = self.along else { return self.sum(b, &at, &corners, &Extent::ZERO, 1) };
        let extent = self.out.shape[axis].clone();
        b.strips(0, extent, self.lanes, |b, i, lanes| self.sum(b, &at, &corners, &i, lanes));
    }

    /// Neighbouring elements, `i` past the given places.
    fn sum(&self, b: &mut KernelBuilder, at: &Extent, corners: &[Tap], i: &Extent, lanes: u16) {
        let [y, x] = self.params;
        let (at, from) = (at.clone() + i.clone(), |corner: &Extent| corner.clone() + i.clone());
        if let [(corner, None)] = corners {
            let value = b.load(x, from(corner), lanes);
            return b.store(y, at, value);
        }
        let ty = Type::vec(Elem::F64, lanes);
        let mut sum = b.zero(ty);
        for (corner, weight) in corners {
            let value = b.load_as(x, from(corner), ty);
            sum = match weight {
                Some(weight) => {
                    let weight = b.splat(*weight, lanes);
                    b.muladd(value, weight, sum)
                }
                None => b.add(sum, value),
            };
        }
        b.store_as(y, at, sum);
    }
}
