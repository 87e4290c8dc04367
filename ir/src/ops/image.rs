//! Resampling.

use super::elems::remap;
use super::shape::{Around, attribute, concrete, mismatch, need_extent, need_float, show};
use super::{EvalError, OpDef, Operands, TypeError, op};

use crate::attrs::F64;
use crate::extent::Extent;
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::{word_attribute, word_enum};

word_enum! {
    /// How samples between grid points are made.
    pub enum ResizeMode {
        /// The nearest point.
        Nearest = "nearest",
        /// Linear along every axis.
        Linear = "linear",
        /// Cubic along every axis.
        Cubic = "cubic",
    }
}
word_enum! {
    /// Where a point of the result lies in the operand.
    pub enum CoordMode {
        /// `(x + 0.5) / scale - 0.5`.
        HalfPixel = "half_pixel",
        /// As `half_pixel`, corrected for a rounded result extent.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As `half_pixel`, but 0 for a result extent of 1.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// `x · (in - 1) / (out - 1)`.
        AlignCorners = "align_corners",
        /// `x / scale`.
        Asymmetric = "asymmetric",
    }
}
word_enum! {
    /// Which neighbour is the nearest.
    pub enum NearestMode {
        /// Halves go down.
        RoundPreferFloor = "round_prefer_floor",
        /// Halves go up.
        RoundPreferCeil = "round_prefer_ceil",
        /// Always down.
        Floor = "floor",
        /// Always up.
        Ceil = "ceil",
    }
}
word_attribute!(ResizeMode, CoordMode, NearestMode);

op! {
    /// Resamples to another shape. Source: ONNX `Resize` (opsets 10 to 19, without antialiasing and cropping), `Upsample`.
    pub struct Resize = "resize" (1..=1) {
        /// Kind of interpolation.
        mode: ResizeMode,
        /// Coordinate transformation.
        coords: CoordMode,
        /// Rounding for `nearest`.
        nearest: NearestMode,
        /// Coefficient for `cubic`.
        cubic_a: F64,
        /// Weights outside the operand are set to zero and the rest rescaled.
        exclude_outside: bool,
        /// Shape of the result.
        sizes: Vec<Extent>,
        /// Result extent over operand extent per axis, as the model states it (it may differ from the ratio of extents).
        scales: Vec<F64>,
    }
}

impl OpDef for Resize {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        if self.mode != ResizeMode::Nearest {
            need_float(0, x)?;
        }
        if self.sizes.len() != x.rank() || self.scales.len() != x.rank() {
            let found = format!("{} sizes and {} scales", self.sizes.len(), self.scales.len());
            return Err(attribute("sizes", found, format!("{}, one per axis", x.rank())));
        }
        if let Some(scale) = self.scales.iter().find(|s| !(s.get() as f32 > 0.0 && (s.get() as f32).is_finite())) {
            return Err(attribute("scales", scale, "positive and finite as `f32`"));
        }
        if !self.cubic_a.get().is_finite() {
            return Err(attribute("cubic_a", self.cubic_a, "finite"));
        }
        for (size, len) in self.sizes.iter().zip(&x.shape) {
            need_extent("sizes", size)?;
            if len.as_const() == Some(0) && size.as_const() != Some(0) {
                return Err(mismatch("an empty axis resized", show(&self.sizes), show(&x.shape)));
            }
        }
        Ok(vec![TensorType::new(x.dtype, self.sizes.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, shape) = (inputs.need(0)?, concrete(&types[0])?);
        if self.mode == ResizeMode::Nearest {
            let tables: Vec<Vec<Option<usize>>> = (0..shape.len())
                .map(|axis| {
                    let len = x.shape()[axis];
                    (0..shape[axis])
                        .map(|out| Some(self.nearest.pick(self.coordinate(axis, out, len, shape[axis]), len)))
                        .collect()
                })
                .collect();
            return Ok(vec![remap(x, &tables, &[])]);
        }
        let (mut values, mut current) = (x.to_f64(), x.shape().to_vec());
        for (axis, &size) in shape.iter().enumerate() {
            let len = current[axis];
            if size == len && self.scales[axis].get() == 1.0 {
                continue;
            }
            let taps: Vec<Vec<(usize, f64)>> =
                (0..size).map(|out| self.taps(self.coordinate(axis, out, len, size), len)).collect();
            values = resample(&values, Around::axis(&current, axis), &taps);
            current[axis] = size;
        }
        Ok(vec![Tensor::from_f64(x.dtype(), &shape, &values)])
    }
}

impl Resize {
    /// Where element `out` of the result lies on an axis of `len` elements.
    ///
    /// In `f32`, operation by operation as ONNX Runtime computes it: which neighbour is the nearest depends on it.
    fn coordinate(&self, axis: usize, out: usize, len: usize, size: usize) -> f32 {
        let scale = self.scales[axis].get() as f32;
        let (x, len, size) = (out as f32, len as f32, size as f32);
        if scale == 1.0 && len == size {
            return x;
        }
        match self.coords {
            CoordMode::PytorchHalfPixel if size <= 1.0 => 0.0,
            CoordMode::HalfPixel | CoordMode::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
            CoordMode::HalfPixelSymmetric => {
                let adjustment = size / (scale * len);
                len / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
            CoordMode::AlignCorners if size <= 1.0 => 0.0,
            CoordMode::AlignCorners => x * (len - 1.0) / (size - 1.0),
            CoordMode::Asymmetric => x / scale,
        }
    }

    /// The elements that make the value at a coordinate, with weights that sum to one.
    fn taps(&self, coordinate: f32, len: usize) -> Vec<(usize, f64)> {
        let last = len as i64 - 1;
        if self.mode == ResizeMode::Linear {
            let at = f64::from(coordinate).clamp(0.0, last as f64);
            let (low, ratio) = (at.floor() as i64, at - at.floor());
            return vec![(low as usize, 1.0 - ratio), ((low + 1).min(last) as usize, ratio)];
        }
        // Further out, all four elements are the edge.
        let at = f64::from(coordinate).clamp(-4.0, len as f64 + 4.0);
        let (floor, ratio) = (at.floor(), at - at.floor());
        let mut taps: Vec<(i64, f64)> = (-1..=2)
            .map(|offset| (floor as i64 + offset, cubic((offset as f64 - ratio).abs(), self.cubic_a.get())))
            .collect();
        if self.exclude_outside {
            taps.retain(|(at, _)| (0..=last).contains(at));
            let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
            taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        taps.into_iter().map(|(at, weight)| (at.clamp(0, last) as usize, weight)).collect()
    }
}

/// Keys' cubic kernel at a distance. Source: R. Keys, Cubic convolution interpolation for digital image processing, 1981.
fn cubic(distance: f64, a: f64) -> f64 {
    let d = distance;
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

impl NearestMode {
    /// The element nearest to a coordinate.
    fn pick(self, coordinate: f32, len: usize) -> usize {
        let rounded = match self {
            // Halves of negative coordinates do not matter: they are clamped to 0 either way.
            NearestMode::RoundPreferFloor => (coordinate - 0.5).ceil(),
            NearestMode::RoundPreferCeil => coordinate.round(),
            NearestMode::Floor => coordinate.floor(),
            NearestMode::Ceil => coordinate.ceil(),
        };
        (rounded as i64).clamp(0, len as i64 - 1) as usize
    }
}

/// Weighted sums along an axis: one per element of `taps`.
fn resample(values: &[f64], around: Around, taps: &[Vec<(usize, f64)>]) -> Vec<f64> {
    let Around { outer, len, inner } = around;
    let mut result = Vec::with_capacity(outer * taps.len() * inner);
    for row in 0..outer {
        for taps in taps {
            let weighted =
                |i: usize| taps.iter().map(|(at, weight)| values[(row * len + at) * inner + i] * weight).sum::<f64>();
            result.extend((0..inner).map(weighted));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::types::DType;

    fn numbers<T: std::str::FromStr>(text: &str) -> Vec<T> {
        text.split(',').map(|part| part.parse().ok().expect("a number")).collect()
    }

    #[test]
    fn as_onnx_runtime() {
        let lines: Vec<&str> = include_str!("resize_cases.txt").lines().filter(|l| !l.starts_with('#')).collect();
        assert!(lines.len() >= 60);
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [mode, coords, nearest, a, exclude, shape, result, scales, values] = words[..] else {
                panic!("{line}")
            };
            let op = Resize {
                mode: ResizeMode::from_name(mode).expect("a mode"),
                coords: CoordMode::from_name(coords).expect("a mode"),
                nearest: NearestMode::from_name(nearest).expect("a mode"),
                cubic_a: a.parse::<f64>().unwrap().into(),
                exclude_outside: exclude == "1",
                sizes: numbers::<i64>(result).into_iter().map(Extent::from).collect(),
                scales: numbers::<f64>(scales).into_iter().map(F64::new).collect(),
            };
            let shape: Vec<usize> = numbers(shape);
            let x: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i * 7 % 11) as f32).collect();
            let found = Op::from(op).eval(&[Some(&Tensor::from_f32(&shape, &x))], &|_| None).unwrap();
            assert_eq!(found[0].shape(), numbers::<usize>(result), "{line}");
            for (found, expected) in found[0].to_f64().into_iter().zip(numbers::<f64>(values)) {
                assert!((found - expected).abs() <= 1e-5, "{found} for {expected}: {line}");
            }
        }
    }

    fn resize(mode: ResizeMode, sizes: &[i64], scales: &[f64]) -> Op {
        Op::from(Resize {
            mode,
            coords: CoordMode::Asymmetric,
            nearest: NearestMode::Floor,
            cubic_a: (-0.75).into(),
            exclude_outside: false,
            sizes: sizes.iter().map(|&s| s.into()).collect(),
            scales: scales.iter().map(|&s| s.into()).collect(),
        })
    }

    #[test]
    fn nearest_moves_any_dtype() {
        let x = Tensor::from_ints(DType::I4, &[3], &[-8, 0, 7]);
        let y = resize(ResizeMode::Nearest, &[6], &[2.0]).eval(&[Some(&x)], &|_| None).unwrap();
        assert_eq!(y[0].to_i64(), [-8, -8, 0, 0, 7, 7]);
        assert!(resize(ResizeMode::Linear, &[6], &[2.0]).eval(&[Some(&x)], &|_| None).is_err());
    }

    #[test]
    fn edges() {
        let empty = Tensor::zeros(DType::F32, &[0]);
        for mode in ResizeMode::ALL {
            assert!(resize(*mode, &[2], &[2.0]).eval(&[Some(&empty)], &|_| None).is_err());
            assert_eq!(resize(*mode, &[0], &[2.0]).eval(&[Some(&empty)], &|_| None).unwrap()[0].elems(), 0);
            let x = Tensor::from_f32(&[2], &[1.0, 2.0]);
            assert_eq!(resize(*mode, &[0], &[0.25]).eval(&[Some(&x)], &|_| None).unwrap()[0].elems(), 0);
            let scalar = Tensor::from_f32(&[], &[f32::NAN]);
            assert_eq!(resize(*mode, &[], &[]).eval(&[Some(&scalar)], &|_| None).unwrap()[0].elems(), 1);
            for scales in [&[0.0][..], &[f64::NAN], &[-1.0], &[1.0, 1.0]] {
                assert!(resize(*mode, &[2], scales).eval(&[Some(&x)], &|_| None).is_err());
            }
        }
    }
}
