//! Resampling.

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::ops::{CoordMode, NearestMode, Resize, ResizeMode};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axes_in, fixed_dim};
use super::super::value::Value;
use super::{NEWEST, Row};

mod resample;

pub(super) const ROWS: &[Row] =
    &[("Resize", 10..=10, resize_10), ("Resize", 11..=NEWEST, resize), ("Upsample", 7..=9, upsample)];

const MODES: &[(&str, ResizeMode)] =
    &[("nearest", ResizeMode::Nearest), ("linear", ResizeMode::Linear), ("cubic", ResizeMode::Cubic)];

/// Coordinate transformations; none where a region is cut out.
const COORDS: &[(&str, Option<CoordMode>)] = &[
    ("half_pixel", Some(CoordMode::HalfPixel)),
    ("half_pixel_symmetric", Some(CoordMode::HalfPixelSymmetric)),
    ("pytorch_half_pixel", Some(CoordMode::PytorchHalfPixel)),
    ("align_corners", Some(CoordMode::AlignCorners)),
    ("asymmetric", Some(CoordMode::Asymmetric)),
    ("tf_crop_and_resize", None),
];

const NEAREST: &[(&str, NearestMode)] = &[
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
];

/// Extents of the result where scales are given: `floor(extent · scale)`.
fn scaled(x: &Value, scales: &[f64]) -> Result<Vec<Extent>, Fault> {
    if scales.len() != x.rank() {
        return Err(Fault::model(format!("{} scales", scales.len()), format!("{}", x.rank())));
    }
    let mut sizes = Vec::with_capacity(scales.len());
    for (axis, &scale) in scales.iter().enumerate() {
        // Not a number, zero, negative or beyond any real image.
        if !(scale > 0.0 && scale < 65_536.0) {
            return Err(Fault::model(format!("scale {scale}"), "a positive number"));
        }
        let dim = &x.ty.shape[axis];
        let inverse = 1.0 / scale;
        let whole = |value: f64| (value.fract() == 0.0).then(|| Tensor64::whole(value));
        sizes.push(match (whole(scale), whole(inverse), dim.as_const()) {
            (Some(factor), _, _) => dim.clone() * factor.into(),
            (_, Some(divisor), _) => dim.floordiv(&divisor.into()),
            (_, _, Some(extent)) => Tensor64::floor_product(extent, scale)?.into(),
            _ => {
                let found = format!("dimension {dim} scaled by {scale}");
                return Err(Fault::unsupported(found, "a whole scale, its inverse, or a fixed dimension"));
            }
        });
    }
    Ok(sizes)
}

/// Conversions between extents and numbers, checked.
struct Tensor64;

impl Tensor64 {
    /// A whole number below 65536.
    fn whole(value: f64) -> i64 {
        adze_ir::tensor::Tensor::from_f64(adze_ir::types::DType::I64, &[], &[value])
            .to_i64()
            .first()
            .copied()
            .unwrap_or(0)
    }

    /// In single precision, as ONNX Runtime computes it.
    fn floor_product(extent: i64, scale: f64) -> Result<i64, Fault> {
        let extent =
            i32::try_from(extent).map_err(|_| Fault::unsupported(format!("dimension {extent}"), "below 2^31"))?;
        let tensor = adze_ir::tensor::Tensor::from_f64(adze_ir::types::DType::F32, &[2], &[f64::from(extent), scale]);
        let rounded = tensor.to_f64();
        let product = adze_ir::tensor::Tensor::from_f64(adze_ir::types::DType::F32, &[], &[rounded.iter().product()]);
        let floored: Vec<f64> = product.to_f64().iter().map(|v| v.floor()).collect();
        Ok(Self::whole(floored.first().copied().unwrap_or(0.0)))
    }
}

/// Scales where the result's extents are given.
fn ratios(x: &Value, sizes: &[Extent]) -> Result<Vec<F64>, Fault> {
    let mut scales = Vec::with_capacity(sizes.len());
    for (axis, size) in sizes.iter().enumerate() {
        if *size == x.ty.shape[axis] {
            scales.push(F64::new(1.0));
            continue;
        }
        let (from, to) = (fixed_dim(&x.ty, axis)?, size.as_const());
        let to = to.ok_or_else(|| Fault::unsupported(format!("size {size}"), "a fixed size"))?;
        let ratio = |from: i32, to: i32| f64::from(to) / f64::from(from);
        match (i32::try_from(from), i32::try_from(to)) {
            (Ok(from @ 1..), Ok(to @ 1..)) => scales.push(F64::new(ratio(from, to))),
            _ => return Err(Fault::model(format!("dimension {from} resized to {to}"), "positive dimensions")),
        }
    }
    Ok(scales)
}

/// The old meaning: coordinates are divided by the scale, nearest rounds down when enlarging.
fn resize_old(cx: &mut NodeCx<'_, '_>, x: &Value, scales: &[f64]) -> Outputs {
    let mode = cx.attrs.word("mode", "nearest", &MODES[..2])?;
    if mode == ResizeMode::Nearest
        && let Some(scale) = scales.iter().find(|&&scale| scale < 1.0)
    {
        return Err(Fault::unsupported(format!("scale {scale} with mode `nearest` before opset 11"), "1 or more"));
    }
    let op = Resize {
        mode,
        coords: CoordMode::Asymmetric,
        nearest: NearestMode::Floor,
        cubic_a: F64::new(-0.75),
        exclude_outside: false,
        sizes: scaled(x, scales)?,
        scales: scales.iter().map(|&scale| F64::new(scale)).collect(),
    };
    Ok(vec![cx.emit1(op, &[x])?])
}

fn upsample(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let scales = if cx.opset >= 9 {
        cx.at_most(2)?;
        cx.opt_tensor(1)?.map(|tensor| tensor.to_f64())
    } else {
        cx.at_most(1)?;
        cx.attrs.floats("scales")?.map(|scales| scales.iter().map(|&scale| scale.into()).collect())
    };
    let scales = scales.ok_or_else(|| Fault::model("no scales", "one per axis"))?;
    resize_old(cx, &x, &scales)
}

fn resize_10(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let x = cx.input(0)?;
    let scales = cx.opt_tensor(1)?.ok_or_else(|| Fault::model("no scales", "one per axis"))?;
    resize_old(cx, &x, &scales.to_f64())
}

/// What `keep_aspect_ratio_policy` makes of given sizes.
#[derive(Clone, Copy, PartialEq)]
enum Aspect {
    Stretch,
    NotLarger,
    NotSmaller,
}

const ASPECTS: &[(&str, Aspect)] =
    &[("stretch", Aspect::Stretch), ("not_larger", Aspect::NotLarger), ("not_smaller", Aspect::NotSmaller)];

/// The sizes of one scale for all axes: the smallest (or largest) that they ask for.
fn keep_aspect(x: &Value, axes: &[usize], sizes: &mut [Extent], aspect: Aspect) -> Result<Vec<F64>, Fault> {
    let asked: Vec<f64> = ratios(x, sizes)?.iter().map(|scale| scale.get()).collect();
    let of_axes = axes.iter().map(|&axis| asked[axis]);
    let scale = match aspect {
        Aspect::NotLarger => of_axes.fold(f64::INFINITY, f64::min),
        _ => of_axes.fold(0.0, f64::max),
    };
    let mut scales = vec![F64::new(1.0); sizes.len()];
    for &axis in axes {
        let extent = f64::from(u32::try_from(fixed_dim(&x.ty, axis)?).unwrap_or(u32::MAX));
        sizes[axis] = Tensor64::whole((extent * scale + 0.5).floor()).into();
        scales[axis] = F64::new(scale);
    }
    Ok(scales)
}

fn resize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let x = cx.input(0)?;
    let mode = cx.attrs.word("mode", "nearest", MODES)?;
    let coords = cx.attrs.word("coordinate_transformation_mode", "half_pixel", COORDS)?;
    let crop = coords.is_none();
    let coords = coords.unwrap_or(CoordMode::AlignCorners);
    let nearest = cx.attrs.word("nearest_mode", "round_prefer_floor", NEAREST)?;
    let outside = cx.attrs.float("extrapolation_value")?.unwrap_or(0.0);
    let cubic_a = cx.f64("cubic_coeff_a", -0.75)?;
    let exclude_outside = cx.attrs.flag("exclude_outside", false)?;
    let mut axes: Vec<usize> = (0..x.rank()).collect();
    let (mut antialias, mut aspect) = (false, Aspect::Stretch);
    if cx.opset >= 18 {
        antialias = cx.attrs.flag("antialias", false)? && mode != ResizeMode::Nearest;
        aspect = cx.attrs.word("keep_aspect_ratio_policy", "stretch", ASPECTS)?;
        if let Some(given) = cx.attrs.ints("axes")? {
            axes = axes_in(given, x.rank())?;
        }
    }
    let empty = |index: usize| cx.opt(index).is_none_or(|value| value.ty.shape == [Extent::ZERO]);
    let (sizes, scales) = match (empty(2), empty(3)) {
        (false, _) if crop => return Err(Fault::unsupported("a crop with scales", "a crop with sizes")),
        (false, _) => {
            let given = cx.opt_tensor(2)?.map(|tensor| tensor.to_f64()).unwrap_or_default();
            let scales = on_axes(&axes, &given, vec![1.0; x.rank()])?;
            (scaled(&x, &scales)?, scales.into_iter().map(F64::new).collect())
        }
        (true, false) => {
            let mut sizes = on_axes(&axes, &cx.extents(3)?, x.ty.shape.clone())?;
            let scales = match aspect {
                Aspect::Stretch => ratios(&x, &sizes)?,
                _ => keep_aspect(&x, &axes, &mut sizes, aspect)?,
            };
            (sizes, scales)
        }
        (true, true) => return Err(Fault::model("neither scales nor sizes", "one of them")),
    };
    let op = Resize { mode, coords, nearest, cubic_a, exclude_outside, sizes, scales };
    if crop {
        let roi = cx.opt_tensor(1)?.map(|tensor| tensor.to_f64()).unwrap_or_default();
        if roi.len() != 2 * axes.len() {
            return Err(Fault::model(format!("a region of {} numbers", roi.len()), format!("{}", 2 * axes.len())));
        }
        let region = axes.iter().enumerate().map(|(i, &axis)| (axis, (roi[i], roi[i + axes.len()]))).collect();
        return Ok(vec![resample::cropped(cx, &x, &op, &region, outside.into())?]);
    }
    if antialias {
        return Ok(vec![resample::antialiased(cx, &x, &op)?]);
    }
    Ok(vec![cx.emit1(op, &[&x])?])
}

/// Puts values given for some axes among the defaults of all.
fn on_axes<T: Clone>(axes: &[usize], given: &[T], mut all: Vec<T>) -> Result<Vec<T>, Fault> {
    if given.len() != axes.len() {
        return Err(Fault::model(format!("{} scales or sizes", given.len()), format!("{}", axes.len())));
    }
    for (&axis, value) in axes.iter().zip(given) {
        all[axis] = value.clone();
    }
    Ok(all)
}
