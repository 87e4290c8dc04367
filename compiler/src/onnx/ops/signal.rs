//! Fourier transforms and what goes with them: windows and filter banks, which are constants.
//!
//! A transform is a product with a matrix: for the lengths of frames of sound it costs no more than what follows it.

use std::f64::consts::PI;

use adze_ir::ops::MatMul;
use adze_ir::types::{DType, Shape};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in, fixed_dim};
use super::super::tensor::dtype_of;
use super::super::value::Value;
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("BlackmanWindow", 17..=NEWEST, |cx| window(cx, &[0.42, -0.5, 0.08])),
    ("DFT", 17..=NEWEST, dft),
    ("HammingWindow", 17..=NEWEST, |cx| window(cx, &[25.0 / 46.0, -21.0 / 46.0])),
    ("HannWindow", 17..=NEWEST, |cx| window(cx, &[0.5, -0.5])),
    ("MelWeightMatrix", 17..=NEWEST, mel_weight_matrix),
    ("STFT", 17..=NEWEST, stft),
];

/// Most elements of a matrix or window that is made at import.
const MAX_ELEMS: i64 = 1 << 22;

/// A length as a count and as a number.
fn length(value: i64, what: &str) -> Result<(usize, f64), Fault> {
    match (usize::try_from(value), u32::try_from(value)) {
        (Ok(count), Ok(number)) if (1..=MAX_ELEMS).contains(&value) => Ok((count, f64::from(number))),
        _ => Err(Fault::unsupported(format!("{what} {value}"), format!("1 to {MAX_ELEMS}"))),
    }
}

/// A small index as a number.
fn number(index: usize) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(u32::MAX))
}

/// The dtype that an attribute names, `f32` where it is left out.
fn output_dtype(cx: &NodeCx<'_, '_>) -> Result<DType, Fault> {
    Ok(dtype_of(i32::try_from(cx.attrs.int("output_datatype")?.unwrap_or(1)).unwrap_or(-1))?)
}

/// `Σ c[k] cos(2 π k n / N)`, `N` being the length, or one less for a symmetric window.
fn window(cx: &mut NodeCx<'_, '_>, cosines: &[f64]) -> Outputs {
    cx.at_most(1)?;
    let (size, _) = length(cx.int(0)?, "a window of")?;
    let period = number(if cx.attrs.flag("periodic", true)? { size } else { size - 1 }).max(1.0);
    let at = |n: usize| {
        let terms = cosines.iter().enumerate();
        terms.map(|(k, c)| c * (2.0 * PI * number(k) * number(n) / period).cos()).sum::<f64>()
    };
    let values: Vec<f64> = (0..size).map(at).collect();
    let dtype = output_dtype(cx)?;
    Ok(vec![cx.made(dtype, &[size], &values)?])
}

/// What a transform does.
struct Transform {
    /// Number of points.
    length: i64,
    inverse: bool,
    onesided: bool,
    /// Whether the operand has imaginary parts.
    complex: bool,
}

impl Transform {
    /// Points of the operand that are used, of the result, and parts (real, imaginary) of a point of the result.
    fn sizes(&self) -> (i64, i64, i64) {
        let half = self.length / 2 + 1;
        match (self.inverse, self.onesided) {
            (true, true) => (half, self.length, 1),
            (false, true) => (self.length, half, 2),
            _ => (self.length, self.length, 2),
        }
    }

    /// The matrix `[points · parts of the operand, points · parts of the result]`.
    fn matrix(&self, cx: &mut NodeCx<'_, '_>, dtype: DType) -> Result<Value, Fault> {
        let (from, to, parts) = self.sizes();
        let given = if self.complex { 2 } else { 1 };
        length(from * to * given * parts, "a transform matrix of")?;
        let ((rows, _), (columns, _)) = (length(from, "a transform of")?, length(to, "a transform of")?);
        let (count, points) = length(self.length, "a transform of")?;
        let mut values = Vec::new();
        let sign = if self.inverse { 1.0 } else { -1.0 };
        for n in 0..rows {
            // The other half of a one-sided spectrum is the conjugate of this one.
            let mirrored = self.inverse && self.onesided && n != 0 && 2 * n != count;
            let weight = if self.inverse { 1.0 / points } else { 1.0 } * if mirrored { 2.0 } else { 1.0 };
            for imaginary in [false, true].into_iter().take(if self.complex { 2 } else { 1 }) {
                for k in 0..columns {
                    let angle = sign * 2.0 * PI * number(n * k % count) / points;
                    let (re, im) = (weight * angle.cos(), weight * angle.sin());
                    values.push(if imaginary { -im } else { re });
                    if parts == 2 {
                        values.push(if imaginary { re } else { im });
                    }
                }
            }
        }
        let parts = if parts == 2 { 2 * columns } else { columns };
        cx.made(dtype, &[if self.complex { 2 * rows } else { rows }, parts], &values)
    }

    /// Transforms the axis before the last one, which holds the parts of each point.
    fn apply(&self, cx: &mut NodeCx<'_, '_>, x: &Value) -> Result<Value, Fault> {
        length(self.length, "a transform of")?;
        let axis = x.rank() - 2;
        let (from, to, parts) = self.sizes();
        let x = fit(cx, x, axis, from)?;
        let given = if self.complex { 2 } else { 1 };
        let mut shape: Shape = x.ty.shape[..axis].to_vec();
        shape.push((from * given).into());
        let flat = cx.reshape(&x, shape.clone())?;
        let matrix = self.matrix(cx, x.ty.dtype)?;
        let product = cx.emit1(MatMul { trans_a: false, trans_b: false }, &[&flat, &matrix])?;
        shape.pop();
        shape.extend([to.into(), parts.into()]);
        cx.reshape(&product, shape)
    }
}

/// The first `count` elements along an axis, zeros where there are fewer.
fn fit(cx: &mut NodeCx<'_, '_>, x: &Value, axis: usize, count: i64) -> Result<Value, Fault> {
    let extent = fixed_dim(&x.ty, axis)?;
    if extent >= count {
        return if extent == count { Ok(x.clone()) } else { cx.cut(x, axis, 0.into(), count.into()) };
    }
    let mut shape = x.ty.shape.clone();
    shape[axis] = (count - extent).into();
    let zeros = cx.filled(x.ty.dtype, 0.0, &shape)?;
    cx.concat(axis, &[x, &zeros])
}

fn parts_of(x: &Value) -> Result<bool, Fault> {
    match x.ty.shape.last().and_then(|dim| dim.as_const()) {
        Some(1) if x.rank() >= 2 => Ok(false),
        Some(2) if x.rank() >= 2 => Ok(true),
        _ => Err(Fault::model(format!("a signal {}", x.ty), "a last dimension of 1 or 2")),
    }
}

fn dft(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let complex = parts_of(&x)?;
    let axis = if cx.opset >= 20 {
        cx.at_most(3)?;
        if cx.opt(2).is_some() { cx.int(2)? } else { -2 }
    } else {
        cx.at_most(2)?;
        cx.attrs.int("axis")?.unwrap_or(1)
    };
    let (axis, last) = (axis_in(axis, x.rank())?, x.rank() - 1);
    if axis == last {
        return Err(Fault::model(format!("axis {axis}"), "an axis before the last"));
    }
    let (inverse, onesided) = (cx.attrs.flag("inverse", false)?, cx.attrs.flag("onesided", false)?);
    let length = match cx.opt(1).is_some() {
        true => cx.int(1)?,
        false if inverse && onesided => 2 * (fixed_dim(&x.ty, axis)? - 1),
        false => fixed_dim(&x.ty, axis)?,
    };
    let mut perm: Vec<usize> = (0..=last).filter(|&a| a != axis).collect();
    perm.insert(last - 1, axis);
    let moved = cx.transpose(&x, &perm)?;
    let result = Transform { length, inverse, onesided, complex }.apply(cx, &moved)?;
    let back: Vec<usize> = (0..=last).map(|a| perm.iter().position(|&p| p == a).unwrap_or(a)).collect();
    Ok(vec![cx.transpose(&result, &back)?])
}

/// Frames of `[b, length, parts]` as `[b, frames, frame, parts]`, windowed and transformed.
fn stft(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let x = cx.input(0)?;
    let complex = parts_of(&x)?;
    if x.rank() != 3 {
        return Err(Fault::model(format!("a signal of rank {}", x.rank()), "rank 3"));
    }
    let window = cx.opt(2).cloned();
    let total = fixed_dim(&x.ty, 1)?;
    let frame = match (cx.opt(3).is_some(), &window) {
        (true, _) => cx.int(3)?,
        (false, Some(window)) => fixed_dim(&window.ty, 0)?,
        (false, None) => total,
    };
    let step = cx.int(1)?;
    if step < 1 || frame < 1 || frame > total {
        return Err(Fault::model(format!("frames of {frame} every {step} of {total}"), "frames inside the signal"));
    }
    let frames = (total - frame) / step + 1;
    let ((count, _), (width, _)) = (length(frames, "frames:")?, length(frame, "a frame of")?);
    length(frames.saturating_mul(frame), "elements of all frames:")?;
    let stride = usize::try_from(step).unwrap_or(usize::MAX);
    let positions: Vec<f64> = (0..count).flat_map(|f| (0..width).map(move |i| number(f * stride + i))).collect();
    let positions = cx.made(DType::I64, &[count, width], &positions)?;
    let mut framed = cx.gather(&x, &positions, 1)?;
    if let Some(window) = &window {
        let column = cx.reshape(window, vec![frame.into(), 1.into()])?;
        framed = cx.mul(&framed, &column)?;
    }
    let onesided = cx.attrs.flag("onesided", true)?;
    let transform = Transform { length: frame, inverse: false, onesided, complex };
    Ok(vec![transform.apply(cx, &framed)?])
}

/// Triangles in the mel scale `2595 log10(1 + f / 700)`, with corners at whole bins of the spectrum.
fn mel_weight_matrix(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(5)?;
    let ((bands, _), (points, _)) = (length(cx.int(0)?, "bands:")?, length(cx.int(1)?, "a transform of")?);
    let rate = cx.int(2)?;
    let mut edges = [0.0; 2];
    for (index, edge) in [3, 4].into_iter().zip(&mut edges) {
        *edge = cx.opt_number(index)?.ok_or_else(|| Fault::model(format!("input {index} left out"), "a number"))?;
    }
    let (_, rate) = length(rate, "a sample rate of")?;
    let mel = |f: f64| 2595.0 * (1.0 + f / 700.0).log10();
    let bins = points / 2 + 1;
    length(i64::try_from(bins.saturating_mul(bands)).unwrap_or(i64::MAX), "a matrix of")?;
    let (low, high) = (mel(edges[0]), mel(edges[1]));
    let step = (high - low) / number(bands + 2);
    let corner = |k: usize| {
        let hertz = 700.0 * (10f64.powf((low + number(k) * step) / 2595.0) - 1.0);
        ((number(points) + 1.0) * hertz / rate).floor()
    };
    let mut values = vec![0.0; bins * bands];
    for band in 0..bands {
        let (left, peak, right) = (corner(band), corner(band + 1), corner(band + 2));
        if !(left >= 0.0 && right <= number(bins)) {
            let found = format!("a band from bin {left} to {right}");
            return Err(Fault::model(found, format!("bins 0 to {bins}")));
        }
        for bin in 0..bins {
            let at = number(bin);
            let value = &mut values[bin * bands + band];
            if at >= left && at <= peak {
                *value = if peak == left { 1.0 } else { (at - left) / (peak - left) };
            }
            if at >= peak && at < right {
                *value = (right - at) / (right - peak);
            }
        }
    }
    let dtype = output_dtype(cx)?;
    Ok(vec![cx.made(dtype, &[bins, bands], &values)?])
}
