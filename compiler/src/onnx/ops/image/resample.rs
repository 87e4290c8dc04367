//! Resampling with weights that are known: where many elements make one, or a region is cut out. Each axis is a product with a
//! constant matrix.

use std::collections::BTreeMap;

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, CoordMode, MatMul, NearestMode, Resize, ResizeMode};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::super::error::Fault;
use super::super::super::node::{NodeCx, fixed_dim};
use super::super::super::value::Value;

/// Most elements of a matrix.
const MAX_ELEMS: i64 = 1 << 20;

/// Elements and their weights.
type Taps = Vec<(i64, f64)>;

/// An axis to resample: extents before and after.
struct Axis {
    from: i64,
    to: i64,
}

impl Axis {
    fn new(x: &Value, op: &Resize, axis: usize) -> Result<Self, Fault> {
        let to = op.sizes[axis].as_const().unwrap_or(-1);
        let (from, limit) = (fixed_dim(&x.ty, axis)?, 1 << 24);
        if !(1..=limit).contains(&from) || !(1..=limit).contains(&to) {
            return Err(Fault::unsupported(
                format!("dimension {from} resized to {to}"),
                "fixed dimensions of 1 or more",
            ));
        }
        if from * to > MAX_ELEMS {
            let found = format!("dimension {from} resized to {to}");
            return Err(Fault::unsupported(found, format!("a product of up to {MAX_ELEMS}")));
        }
        Ok(Self { from, to })
    }
}

/// A number of a dimension, which is below 2^24.
fn float(value: i64) -> f64 {
    i32::try_from(value).map_or(f64::MAX, f64::from)
}

/// A whole number within the range of dimensions, as an integer.
fn whole(value: f64) -> i64 {
    Tensor::from_f64(DType::I64, &[], &[value]).to_i64().first().copied().unwrap_or(0)
}

/// Downsampling with kernels as wide as the step, so that every element counts.
pub(super) fn antialiased(cx: &mut NodeCx<'_, '_>, x: &Value, op: &Resize) -> Result<Value, Fault> {
    let mut value = x.clone();
    for axis in 0..x.rank() {
        let scale = op.scales[axis].get();
        if op.sizes[axis] == x.ty.shape[axis] && scale == 1.0 {
            continue;
        }
        let extents = Axis::new(x, op, axis)?;
        let rows = (0..extents.to).map(|out| {
            let at = match op.coords {
                CoordMode::HalfPixel => (float(out) + 0.5) / scale - 0.5,
                CoordMode::PytorchHalfPixel if extents.to == 1 => 0.0,
                CoordMode::PytorchHalfPixel => (float(out) + 0.5) / scale - 0.5,
                CoordMode::HalfPixelSymmetric => {
                    let adjustment = float(extents.to) / (scale * float(extents.from));
                    float(extents.from) / 2.0 * (1.0 - adjustment) + (float(out) + 0.5) / scale - 0.5
                }
                CoordMode::AlignCorners if extents.to == 1 => 0.0,
                CoordMode::AlignCorners => float(out) * float(extents.from - 1) / float(extents.to - 1),
                CoordMode::Asymmetric => float(out) / scale,
            };
            kernel(op, at, scale.min(1.0), extents.from)
        });
        let rows = rows.collect();
        value = product(cx, &value, axis, &extents, rows)?;
    }
    Ok(value)
}

/// The elements around a coordinate, `scale` being how much narrower than the kernel their distance is.
fn kernel(op: &Resize, at: f64, scale: f64, extent: i64) -> Taps {
    let (floor, cubic) = (at.floor(), op.mode == ResizeMode::Cubic);
    let radius = if cubic { 2.0 } else { 1.0 };
    let reach = whole((radius / scale).ceil()) + 1;
    let base = whole(floor);
    let weight = |distance: f64| {
        let (d, a) = (distance.abs() * scale, op.cubic_a.get());
        match (cubic, d) {
            (false, d) => (1.0 - d).max(0.0),
            (true, d) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            (true, d) if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            _ => 0.0,
        }
    };
    let mut taps: Taps = (-reach..=reach).map(|i| (base + i, weight(float(i) - (at - floor)))).collect();
    if op.exclude_outside {
        taps.retain(|(index, _)| (0..extent).contains(index));
    }
    let sum: f64 = taps.iter().map(|tap| tap.1).sum();
    taps.into_iter().map(|(index, weight)| (index.clamp(0, extent - 1), weight / sum)).collect()
}

/// A region per axis, its ends in 0..1 being the centres of the outermost elements; what lies outside has one value.
pub(super) fn cropped(
    cx: &mut NodeCx<'_, '_>,
    x: &Value,
    op: &Resize,
    region: &BTreeMap<usize, (f64, f64)>,
    outside: f64,
) -> Result<Value, Fault> {
    let mut value = x.clone();
    let mut inside: Option<Value> = None;
    for (&axis, &(start, end)) in region {
        let extents = Axis::new(x, op, axis)?;
        let last = float(extents.from - 1);
        let (mut rows, mut exists) = (Vec::new(), Vec::new());
        for out in 0..extents.to {
            let at = match extents.to {
                1 => (start + end) / 2.0 * last,
                to => start * last + float(out) * (end - start) * last / float(to - 1),
            };
            exists.push(i128::from(at >= 0.0 && at <= last));
            let at = at.clamp(0.0, last);
            rows.push(match op.mode {
                ResizeMode::Nearest => vec![(whole(pick(op.nearest, at)), 1.0)],
                _ => kernel(op, at, 1.0, extents.from),
            });
        }
        value = product(cx, &value, axis, &extents, rows)?;
        if exists.contains(&0) {
            let mut shape = vec![Extent::ONE; x.rank()];
            shape[axis] = extents.to.into();
            let exists = Tensor::from_ints(DType::Bool, &[exists.len()], &exists);
            let exists = Value::tensor(exists, "", cx.loc.clone());
            let exists = cx.reshape(&exists, shape)?;
            inside = Some(match inside {
                None => exists,
                Some(other) => cx.binary(BinaryFn::And, &other, &exists)?,
            });
        }
    }
    match inside {
        None => Ok(value),
        Some(inside) => {
            let outside = cx.scalar(value.ty.dtype, outside);
            cx.where_(&inside, &value, &outside)
        }
    }
}

fn pick(mode: NearestMode, at: f64) -> f64 {
    match mode {
        NearestMode::RoundPreferFloor => (at - 0.5).ceil(),
        NearestMode::RoundPreferCeil => (at + 0.5).floor(),
        NearestMode::Floor => at.floor(),
        NearestMode::Ceil => at.ceil(),
    }
}

/// Weighted sums along an axis, a list of taps per element of the result.
fn product(cx: &mut NodeCx<'_, '_>, x: &Value, axis: usize, extents: &Axis, rows: Vec<Taps>) -> Result<Value, Fault> {
    let size = |extent: i64| usize::try_from(extent).unwrap_or(usize::MAX);
    let (from, to) = (size(extents.from), size(extents.to));
    if !x.ty.dtype.is_float() {
        return Err(Fault::unsupported(format!("{} resampled with weights", x.ty.dtype), "floats"));
    }
    let mut matrix = vec![0.0; from * to];
    for (column, taps) in rows.iter().enumerate() {
        for &(row, weight) in taps {
            matrix[size(row).min(from - 1) * to + column] += weight;
        }
    }
    let matrix = cx.made(x.ty.dtype, &[from, to], &matrix)?;
    let last = x.rank() - 1;
    let mut perm: Vec<usize> = (0..x.rank()).collect();
    perm.swap(axis, last);
    let moved = cx.transpose(x, &perm)?;
    let resized = cx.emit1(MatMul { trans_a: false, trans_b: false }, &[&moved, &matrix])?;
    cx.transpose(&resized, &perm)
}
