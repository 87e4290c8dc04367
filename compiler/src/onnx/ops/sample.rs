//! Sampling an image at computed places.
//!
//! A place is a number per spatial axis. The elements around it are looked up in the flattened image and summed with weights;
//! every element that is looked up is inside, those that should not count have weight 0.

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, Clip, Iota, ReduceFn, UnaryFn};
use adze_ir::types::{DType, Shape};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::super::value::Value;
use super::elementwise::cast_to;
use super::linear::{group, spatial_rank};
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("AffineGrid", 20..=NEWEST, affine_grid),
    ("DeformConv", 19..=NEWEST, deform_conv),
    ("GridSample", 16..=NEWEST, grid_sample),
    ("RoiAlign", 16..=NEWEST, roi_align),
];

type Made = Result<Value, Fault>;

/// What is found outside of the image.
#[derive(Clone, Copy, PartialEq)]
enum Outside {
    Zeros,
    Border,
    /// Mirrored at the edges, or at the centres of the outermost elements.
    Reflection {
        centres: bool,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// Coefficient of the cubic kernel, PyTorch's.
const CUBIC_A: f64 = -0.75;

/// A whole position along an axis and its weight; no weight is 1.
struct Tap {
    index: Value,
    weight: Option<Value>,
}

/// Numbers of a spatial axis.
fn count(x: &Value, axis: usize) -> Result<f64, Fault> {
    let extent = fixed_dim(&x.ty, axis)?;
    match u32::try_from(extent) {
        Ok(extent @ 1..) => Ok(f64::from(extent)),
        _ => Err(Fault::unsupported(format!("dimension {axis} = {extent}"), "1 to 2^32")),
    }
}

/// The elements around a coordinate along one axis.
fn taps(cx: &mut NodeCx<'_, '_>, at: &Value, mode: Mode) -> Result<Vec<Tap>, Fault> {
    if mode == Mode::Nearest {
        return Ok(vec![Tap { index: cx.unary(UnaryFn::Round, at)?, weight: None }]);
    }
    let floor = cx.unary(UnaryFn::Floor, at)?;
    let rest = cx.sub(at, &floor)?;
    let one = cx.scalar(at.ty.dtype, 1.0);
    let opposite = cx.sub(&one, &rest)?;
    if mode == Mode::Linear {
        let next = cx.with_number(BinaryFn::Add, &floor, 1.0)?;
        return Ok(vec![Tap { index: floor, weight: Some(opposite) }, Tap { index: next, weight: Some(rest) }]);
    }
    let mut taps = Vec::new();
    for offset in [-1.0, 0.0, 1.0, 2.0] {
        let index = cx.with_number(BinaryFn::Add, &floor, offset)?;
        // Distance from the coordinate; two taps on each side.
        let near = if offset <= 0.0 { &rest } else { &opposite };
        let far = offset == -1.0 || offset == 2.0;
        let distance = if far { cx.with_number(BinaryFn::Add, near, 1.0)? } else { near.clone() };
        let (a, coefficients) = (CUBIC_A, if far { [1.0, -5.0, 8.0, -4.0].map(|c| c * CUBIC_A) } else { [0.0; 4] });
        let coefficients = if far { coefficients } else { [a + 2.0, -(a + 3.0), 0.0, 1.0] };
        let mut weight = cx.scalar(at.ty.dtype, coefficients[0]);
        for c in &coefficients[1..] {
            weight = cx.mul(&weight, &distance)?;
            weight = cx.with_number(BinaryFn::Add, &weight, *c)?;
        }
        taps.push(Tap { index, weight: Some(weight) });
    }
    Ok(taps)
}

/// The tap with a position inside `0..extent`.
fn inside(cx: &mut NodeCx<'_, '_>, tap: Tap, extent: f64, outside: Outside) -> Result<Tap, Fault> {
    let clip = Clip { min: Some(0.0.into()), max: Some((extent - 1.0).into()) };
    let clipped = cx.emit1(clip.clone(), &[&tap.index])?;
    match outside {
        Outside::Border => Ok(Tap { index: clipped, weight: tap.weight }),
        Outside::Zeros => {
            let same = cx.binary(BinaryFn::Equal, &clipped, &tap.index)?;
            let counts = cast_to(cx, same, tap.index.ty.dtype)?;
            let weight = match &tap.weight {
                None => counts,
                Some(weight) => cx.mul(weight, &counts)?,
            };
            Ok(Tap { index: clipped, weight: Some(weight) })
        }
        Outside::Reflection { centres } => {
            let turn = if centres { extent - 1.0 } else { extent - 0.5 };
            let period = (2.0 * if centres { extent - 1.0 } else { extent }).max(1.0);
            // `p - period · floor(p / period)`, then the way back.
            let turns = cx.with_number(BinaryFn::Div, &tap.index, period)?;
            let turns = cx.unary(UnaryFn::Floor, &turns)?;
            let whole = cx.with_number(BinaryFn::Mul, &turns, period)?;
            let place = cx.sub(&tap.index, &whole)?;
            let back = cx.with_number(BinaryFn::Sub, &place, turn)?;
            let back = cx.unary(UnaryFn::Abs, &back)?;
            let turn = cx.scalar(tap.index.ty.dtype, turn);
            let place = cx.sub(&turn, &back)?;
            // A place that is no number has no element: any will do.
            Ok(Tap { index: cx.emit1(clip, &[&place])?, weight: tap.weight })
        }
    }
}

/// The image `[n, c, ...]` as rows of channels `[n, elements, c]`.
fn rows(cx: &mut NodeCx<'_, '_>, x: &Value) -> Made {
    let rank = x.rank();
    let perm: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    let last = cx.transpose(x, &perm)?;
    let shape = vec![x.ty.shape[0].clone(), Extent::product(&x.ty.shape[2..]), x.ty.shape[1].clone()];
    cx.reshape(&last, shape)
}

/// Weighted elements around places of the images `x: [n, c, ...]`: per combination of taps a `[n, places, c]`.
///
/// `places` holds per spatial axis the coordinates `[n, ...]`.
fn looked_up(
    cx: &mut NodeCx<'_, '_>,
    x: &Value,
    places: &[Value],
    mode: Mode,
    outside: Outside,
) -> Result<Vec<Value>, Fault> {
    let table = rows(cx, x)?;
    let mut combined: Vec<Tap> = Vec::new();
    for (axis, place) in places.iter().enumerate() {
        let extent = count(x, axis + 2)?;
        let mut next = Vec::new();
        for tap in taps(cx, place, mode)? {
            let tap = inside(cx, tap, extent, outside)?;
            let index = cast_to(cx, tap.index, DType::I64)?;
            if combined.is_empty() && axis == 0 {
                next.push(Tap { index, weight: tap.weight });
                continue;
            }
            for before in &combined {
                let stride = cx.shape_value(&[], vec![x.ty.shape[axis + 2].clone()]);
                let whole = cx.mul(&before.index, &stride)?;
                let index = cx.add(&whole, &index)?;
                let weight = match (&before.weight, &tap.weight) {
                    (Some(a), Some(b)) => Some(cx.mul(a, b)?),
                    (a, b) => a.clone().or_else(|| b.clone()),
                };
                next.push(Tap { index, weight });
            }
        }
        combined = next;
    }
    let mut parts = Vec::new();
    for tap in combined {
        let places: Shape = vec![tap.index.ty.shape[0].clone(), Extent::product(&tap.index.ty.shape[1..]), Extent::ONE];
        let index = cx.reshape(&tap.index, places.clone())?;
        let mut part = cx.gather_nd(&table, &index, 1)?;
        if let Some(weight) = &tap.weight {
            let weight = cx.reshape(weight, places)?;
            let weight = cast_to(cx, weight, part.ty.dtype)?;
            part = cx.mul(&part, &weight)?;
        }
        parts.push(part);
    }
    Ok(parts)
}

fn total(cx: &mut NodeCx<'_, '_>, parts: Vec<Value>, function: BinaryFn) -> Made {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().ok_or_else(|| Fault::bug("a sample of nothing"))?;
    for part in parts {
        sum = cx.binary(function, &sum, &part)?;
    }
    Ok(sum)
}

/// `[n, places, c]` as `[n, c, ...]`, the places having the shape of the coordinates `[n, ...]`.
fn image(cx: &mut NodeCx<'_, '_>, rows: &Value, places: &Value) -> Made {
    let channels = rows.ty.shape[2].clone();
    let turned = cx.transpose(rows, &[0, 2, 1])?;
    let mut shape: Shape = vec![turned.ty.shape[0].clone(), channels];
    shape.extend_from_slice(&places.ty.shape[1..]);
    cx.reshape(&turned, shape)
}

fn grid_sample(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let words = &[
        ("nearest", Mode::Nearest),
        ("linear", Mode::Linear),
        ("bilinear", Mode::Linear),
        ("cubic", Mode::Cubic),
        ("bicubic", Mode::Cubic),
    ];
    let mode = cx.attrs.word("mode", "linear", words)?;
    let centres = cx.attrs.flag("align_corners", false)?;
    let reflection = Outside::Reflection { centres };
    let words = &[("zeros", Outside::Zeros), ("border", Outside::Border), ("reflection", reflection)];
    let outside = cx.attrs.word("padding_mode", "zeros", words)?;
    let rank = spatial_rank(&x.ty)?;
    if grid.rank() != rank + 2 || fixed_dim(&grid.ty, rank + 1)? != i64::try_from(rank).unwrap_or(0) {
        return Err(Fault::model(format!("a grid {}", grid.ty), format!("rank {} with {rank} numbers last", rank + 2)));
    }
    let wide = if grid.ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let grid = cast_to(cx, grid, wide)?;
    let mut places = Vec::new();
    for axis in 0..rank {
        // The grid names the last axis first.
        let position = i64::try_from(rank - 1 - axis).unwrap_or(0);
        let at = cx.element(&grid, rank + 1, position)?;
        let extent = count(&x, axis + 2)?;
        // -1 and 1 are the outer edges, or the centres of the outermost elements.
        let (factor, offset) =
            if centres { ((extent - 1.0) / 2.0, (extent - 1.0) / 2.0) } else { (extent / 2.0, (extent - 1.0) / 2.0) };
        let scaled = cx.with_number(BinaryFn::Mul, &at, factor)?;
        places.push(cx.with_number(BinaryFn::Add, &scaled, offset)?);
    }
    let parts = looked_up(cx, &x, &places, mode, outside)?;
    let sum = total(cx, parts, BinaryFn::Add)?;
    Ok(vec![image(cx, &sum, &places[0])?])
}

/// `theta · (x, y, .., 1)` for places spread evenly over -1..1.
fn affine_grid(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let theta = cx.input(0)?;
    let centres = cx.attrs.flag("align_corners", false)?;
    let size = cx.opt_ints(1)?.ok_or_else(|| Fault::model("no size", "a size"))?;
    let rank = size.len().saturating_sub(2);
    if !(1..=3).contains(&rank) || theta.rank() != 3 {
        return Err(Fault::model(format!("{theta:?} for a size of {}", size.len()), "matrices, and 3 to 5 extents"));
    }
    let dtype = theta.ty.dtype;
    let spatial: Shape = size[2..].iter().map(|&extent| extent.into()).collect();
    let mut columns = Vec::new();
    for axis in (0..rank).rev() {
        let extent = match u32::try_from(size[axis + 2]) {
            Ok(extent @ 1..) => f64::from(extent),
            _ => return Err(Fault::model(format!("extent {}", size[axis + 2]), "1 to 2^32")),
        };
        let line = Iota { start: Extent::ZERO, step: Extent::ONE, count: spatial[axis].clone(), dtype };
        let line = cx.emit1(line, &[])?;
        let (factor, offset) =
            if centres { (2.0 / (extent - 1.0).max(1.0), -1.0) } else { (2.0 / extent, 1.0 / extent - 1.0) };
        let line = cx.with_number(BinaryFn::Mul, &line, factor)?;
        let line = cx.with_number(BinaryFn::Add, &line, offset)?;
        let mut shape: Shape = vec![Extent::ONE; rank];
        shape[axis] = spatial[axis].clone();
        let line = cx.reshape(&line, shape)?;
        columns.push(cx.expand(&line, &spatial)?);
    }
    columns.push(cx.filled(dtype, 1.0, &spatial)?);
    let places = cx.stack(rank, &columns)?;
    let flat = cx.reshape(&places, vec![Extent::product(&spatial), Extent::from(rank + 1)])?;
    let moved = cx.matmul(&flat, &theta, true)?;
    let mut shape: Shape = vec![theta.ty.shape[0].clone()];
    shape.extend(spatial);
    shape.push(rank.into());
    Ok(vec![cx.reshape(&moved, shape)?])
}

/// The kernel's elements are taken beside their places, by offsets per place, linearly and with zeros outside.
fn deform_conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(5)?;
    let (x, w, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (bias, mask) = (cx.opt(3).cloned(), cx.opt(4).cloned());
    let kernel = super::linear::kernel_of(cx, &x.ty, &w.ty)?;
    let super::linear::Window { strides, pads, dilations } = super::linear::window(cx, &x.ty, &kernel)?;
    let (groups, rank) = (group(cx)?, kernel.len());
    let offset_groups = cx.attrs.int("offset_group")?.unwrap_or(1);
    let (channels, outputs) = (fixed_dim(&x.ty, 1)?, fixed_dim(&w.ty, 0)?);
    if offset_groups < 1 || channels % offset_groups != 0 || channels % groups != 0 || outputs % groups != 0 {
        return Err(Fault::model(
            format!("{channels} channels in {offset_groups} and {groups} groups"),
            "groups that divide",
        ));
    }
    if offset.rank() != rank + 2 {
        return Err(Fault::model(format!("offsets of rank {}", offset.rank()), format!("rank {}", rank + 2)));
    }
    let spatial: Shape = offset.ty.shape[2..].to_vec();
    let elements = kernel.iter().try_fold(1i64, |n, &extent| n.checked_mul(extent)).filter(|&n| n <= 1 << 16);
    let elements = elements.ok_or_else(|| Fault::unsupported(format!("a kernel {kernel:?}"), "65536 elements"))?;
    let dims = i64::try_from(rank).unwrap_or(1);
    let batch = x.ty.shape[0].clone();
    // Offset groups are images of their own: `[n · g, c / g, ...]`, offsets `[n · g, elements, axes, ...]`.
    let images = batch.clone() * offset_groups.into();
    let mut shape: Shape = vec![images.clone(), (channels / offset_groups).into()];
    shape.extend_from_slice(&x.ty.shape[2..]);
    let image_of_group = cx.reshape(&x, shape)?;
    let mut shape: Shape = vec![images.clone(), elements.into(), dims.into()];
    shape.extend_from_slice(&spatial);
    let offsets = cx.reshape(&offset, shape)?;
    let mut places = Vec::new();
    for axis in 0..rank {
        let own = cx.element(&offsets, 2, i64::try_from(axis).unwrap_or(0))?;
        // Where the element lies without an offset: by place, and by element of the kernel.
        let start = Iota {
            start: (-pads[axis]).into(),
            step: strides[axis].into(),
            count: spatial[axis].clone(),
            dtype: own.ty.dtype,
        };
        let start = cx.emit1(start, &[])?;
        let mut shape: Shape = vec![Extent::ONE; rank + 2];
        shape[axis + 2] = spatial[axis].clone();
        let start = cx.reshape(&start, shape)?;
        let after: i64 = kernel[axis + 1..].iter().product();
        let steps: Vec<i128> = (0..elements).map(|e| i128::from(e / after % kernel[axis] * dilations[axis])).collect();
        let steps = adze_ir::tensor::Tensor::from_ints(DType::I64, &[steps.len()], &steps);
        let steps = Value::tensor(steps, "", cx.loc.clone());
        let steps = cast_to(cx, steps, own.ty.dtype)?;
        let mut shape: Shape = vec![Extent::ONE; rank + 2];
        shape[1] = elements.into();
        let steps = cx.reshape(&steps, shape)?;
        let place = cx.add(&own, &start)?;
        places.push(cx.add(&place, &steps)?);
    }
    let parts = looked_up(cx, &image_of_group, &places, Mode::Linear, Outside::Zeros)?;
    let sum = total(cx, parts, BinaryFn::Add)?;
    let mut columns = image(cx, &sum, &places[0])?;
    if let Some(mask) = &mask {
        let mut shape: Shape = vec![images, Extent::ONE, elements.into()];
        shape.extend_from_slice(&spatial);
        let mask = cx.reshape(mask, shape)?;
        columns = cx.mul(&columns, &mask)?;
    }
    // `[n, groups, c / groups · elements, places]` times `[groups, outputs / groups, c / groups · elements]`.
    let area = Extent::product(&spatial);
    let inner = Extent::from(channels / groups) * elements.into();
    let columns = cx.reshape(&columns, vec![batch.clone(), groups.into(), inner.clone(), area])?;
    let weights = cx.reshape(&w, vec![groups.into(), (outputs / groups).into(), inner])?;
    let product = cx.matmul(&weights, &columns, false)?;
    let mut shape: Shape = vec![batch, outputs.into()];
    shape.extend(spatial);
    let mut result = cx.reshape(&product, shape)?;
    if let Some(bias) = &bias {
        let mut shape: Shape = vec![Extent::ONE; rank + 1];
        shape[0] = outputs.into();
        let bias = cx.reshape(bias, shape)?;
        result = cx.add(&result, &bias)?;
    }
    Ok(vec![result])
}

/// Pools a fixed number of samples per bin of each region.
fn roi_align(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (x, rois, batches) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let largest = cx.attrs.word("mode", "avg", &[("avg", false), ("max", true)])?;
    let half_pixel = cx.opset >= 16
        && cx.attrs.word(
            "coordinate_transformation_mode",
            "half_pixel",
            &[("half_pixel", true), ("output_half_pixel", false)],
        )?;
    let scale = f64::from(cx.attrs.float("spatial_scale")?.unwrap_or(1.0));
    let samples = match cx.attrs.int("sampling_ratio")?.unwrap_or(0) {
        samples @ 1..=64 => samples,
        other => {
            let found = format!("attribute `sampling_ratio` = {other}");
            return Err(Fault::unsupported(found, "1 to 64: at 0 the number of samples depends on the regions"));
        }
    };
    if x.rank() != 4 || rois.rank() != 2 {
        return Err(Fault::model(format!("an image {} and regions {}", x.ty, rois.ty), "ranks 4 and 2"));
    }
    let regions = rois.ty.shape[0].clone();
    let own = cx.gather(&x, &batches, 0)?;
    let mut places = Vec::new();
    let mut counts: Option<Value> = None;
    for (axis, name) in ["output_height", "output_width"].into_iter().enumerate() {
        let bins = match cx.attrs.int(name)?.unwrap_or(1) {
            bins @ 1..=65_536 => bins,
            other => return Err(Fault::model(format!("attribute `{name}` = {other}"), "1 to 65536")),
        };
        let column = i64::try_from(1 - axis).unwrap_or(0);
        let edge = |cx: &mut NodeCx<'_, '_>, column: i64| {
            let edge = cx.element(&rois, 1, column)?;
            let edge = cx.with_number(BinaryFn::Mul, &edge, scale)?;
            cx.with_number(BinaryFn::Sub, &edge, if half_pixel { 0.5 } else { 0.0 })
        };
        let (start, end) = (edge(cx, column)?, edge(cx, column + 2)?);
        let mut size = cx.sub(&end, &start)?;
        if !half_pixel {
            size = cx.with_number(BinaryFn::Max, &size, 1.0)?;
        }
        // Samples at the middles of equal parts.
        let parts = bins * samples;
        let part = f64::from(u32::try_from(parts).unwrap_or(u32::MAX));
        let line = Iota { start: Extent::ZERO, step: Extent::ONE, count: parts.into(), dtype: rois.ty.dtype };
        let line = cx.emit1(line, &[])?;
        let line = cx.with_number(BinaryFn::Add, &line, 0.5)?;
        let line = cx.with_number(BinaryFn::Div, &line, part)?;
        let (size, start) = (cx.unsqueeze(&size, 1)?, cx.unsqueeze(&start, 1)?);
        let place = cx.mul(&line, &size)?;
        let place = cx.add(&place, &start)?;
        let extent = count(&x, axis + 2)?;
        // Up to one element outside the edge counts; further out is zero.
        let bounded = cx.emit1(Clip { min: Some((-1.0).into()), max: Some(extent.into()) }, &[&place])?;
        let counted = cx.binary(BinaryFn::Equal, &bounded, &place)?;
        let clamped = cx.emit1(Clip { min: Some(0.0.into()), max: Some((extent - 1.0).into()) }, &[&place])?;
        let mut shape: Shape = vec![Extent::ONE; 5];
        (shape[0], shape[2 * axis + 1], shape[2 * axis + 2]) = (regions.clone(), bins.into(), samples.into());
        places.push(cx.reshape(&clamped, shape.clone())?);
        let counted = cast_to(cx, counted, x.ty.dtype)?;
        let counted = cx.reshape(&counted, shape)?;
        counts = Some(match counts {
            None => counted,
            Some(other) => cx.mul(&other, &counted)?,
        });
    }
    let shape: Shape = places[0].ty.shape.iter().zip(&places[1].ty.shape).map(|(a, b)| a.maximum(b)).collect();
    for place in &mut places {
        *place = cx.expand(place, &shape)?;
    }
    let parts = looked_up(cx, &own, &places, Mode::Linear, Outside::Border)?;
    let sum = total(cx, parts, if largest { BinaryFn::Max } else { BinaryFn::Add })?;
    let sampled = image(cx, &sum, &places[0])?;
    let counts = counts.ok_or_else(|| Fault::bug("regions without axes"))?;
    let counts = cx.unsqueeze(&counts, 1)?;
    let sampled = cx.mul(&sampled, &counts)?;
    let function = if largest { ReduceFn::Max } else { ReduceFn::Mean };
    // `[regions, c, rows, samples, columns, samples]`.
    Ok(vec![cx.reduce(function, &sampled, vec![3, 5], false)?])
}
