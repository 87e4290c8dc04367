//! Pooling over windows of spatial axes.

use super::math::Ring;
use super::shape::{Window, concrete, need_float, need_number, need_rank, need_steps, windows};
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::tensor::Tensor;
use crate::types::TensorType;

op! {
    /// Largest element of each window; padding never wins; `x`: `T[n, c, spatial...]`.
    ///
    /// Source: ONNX `MaxPool` without the `Indices` output; `auto_pad` and `ceil_mode` are resolved into `pads` at import.
    pub struct MaxPool = "max_pool" (1..=1) {
        /// Window per spatial axis.
        kernel: Vec<i64>,
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
    }
}

op! {
    /// Mean of each window; `x`: `T[n, c, spatial...]`.
    ///
    /// Source: ONNX `AveragePool`. `pads` are what ONNX calls pads; the extra rows of `ceil_mode` are in `ceil_pads`,
    /// which never count towards the divisor.
    pub struct AveragePool = "average_pool" (1..=1) {
        /// Window per spatial axis.
        kernel: Vec<i64>,
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// Further padding at the end of every spatial axis.
        ceil_pads: Vec<i64>,
        /// Padding (not `ceil_pads`) counts towards the divisor.
        count_include_pad: bool,
    }
}

op! {
    /// `(Σ |x|^p)^(1/p)` over each window. Source: ONNX `LpPool`.
    pub struct LpPool = "lp_pool" (1..=1) {
        /// Window per spatial axis.
        kernel: Vec<i64>,
        /// Per spatial axis.
        strides: Vec<i64>,
        /// Begin of every spatial axis, then end of every one.
        pads: Vec<i64>,
        /// Per spatial axis.
        dilations: Vec<i64>,
        /// The exponent.
        p: i64,
    }
}

/// Shape of a pooling's result.
fn infer_pool(x: &TensorType, windows: &[Window]) -> Result<TensorType, TypeError> {
    need_rank(0, x, windows.len() + 2)?;
    let mut out = x.shape[..2].to_vec();
    for (window, len) in windows.iter().zip(&x.shape[2..]) {
        out.push(window.output(len)?);
    }
    Ok(TensorType::new(x.dtype, out))
}

/// Calls `each(plane, position)` for every window: the offset of its image's channel and its place in the result.
fn for_windows(shape: &[usize], out: &[usize], mut each: impl FnMut(usize, &[usize])) {
    let plane: usize = shape[2..].iter().product();
    let spatial = &out[2..];
    let mut position = vec![0usize; spatial.len()];
    let per_plane: usize = spatial.iter().product();
    for index in 0..out.iter().product::<usize>() {
        let mut rest = index % per_plane;
        for axis in (0..spatial.len()).rev() {
            position[axis] = rest % spatial[axis];
            rest /= spatial[axis];
        }
        each(index / per_plane * plane, &position);
    }
}

/// Folds the elements of a plane under one window, in row-major order.
fn fold_window<T: Copy, A>(
    plane: &[T],
    (shape, windows, position): (&[usize], &[Window], &[usize]),
    base: usize,
    acc: A,
    step: &mut impl FnMut(A, T) -> A,
) -> A {
    let ([len, inner @ ..], [window, windows @ ..], [out, position @ ..]) = (shape, windows, position) else {
        return step(acc, plane[base]);
    };
    let start = *out as i64 * window.stride - window.before;
    window.on_input(*out, *len).fold(acc, |acc, k| {
        let at = (start + k as i64 * window.dilation) as usize;
        fold_window(plane, (inner, windows, position), base * len + at, acc, step)
    })
}

/// One value per window, folded from `init`.
fn fold_windows<T: Copy, A: Copy>(
    values: &[T],
    shape: &[usize],
    windows: &[Window],
    out: &[usize],
    init: A,
    mut step: impl FnMut(A, T) -> A,
) -> Vec<A> {
    let mut results = Vec::with_capacity(out.iter().product());
    for_windows(shape, out, |plane, position| {
        results.push(fold_window(&values[plane..], (&shape[2..], windows, position), 0, init, &mut step));
    });
    results
}

impl OpDef for MaxPool {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_number(0, x)?;
        Ok(vec![infer_pool(x, &windows(&self.kernel, &self.strides, &self.pads, &self.dilations)?)?])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(&types[0])?);
        let windows = windows(&self.kernel, &self.strides, &self.pads, &self.dilations)?;
        Ok(vec![match x.dtype().int_range() {
            None => max_pool(x, &windows, &out, f64::NEG_INFINITY),
            Some((lowest, _)) => max_pool(x, &windows, &out, lowest),
        }])
    }
}

fn max_pool<T: Ring>(x: &Tensor, windows: &[Window], out: &[usize], lowest: T) -> Tensor {
    let values = fold_windows(&T::load(x), x.shape(), windows, out, lowest, |best, v: T| best.larger(v));
    T::store(x.dtype(), out, &values)
}

impl AveragePool {
    /// Windows with all padding, for the result's shape and the sums.
    fn all_windows(&self) -> Result<Vec<Window>, TypeError> {
        need_steps("ceil_pads", &self.ceil_pads, self.kernel.len(), 0)?;
        let mut windows = windows(&self.kernel, &self.strides, &self.pads, &self.dilations)?;
        for (window, extra) in windows.iter_mut().zip(&self.ceil_pads) {
            window.after += extra;
        }
        Ok(windows)
    }

    /// Divisor of the window at `position`: its elements on the input, or on the input with `pads`.
    fn divisor(&self, windows: &[Window], shape: &[usize], position: &[usize]) -> f64 {
        let mut count = 1;
        for (axis, window) in windows.iter().enumerate() {
            let len = shape[axis];
            count *= if self.count_include_pad {
                let (before, after) = (window.before, self.pads[axis + windows.len()]);
                let padded = Window { before: 0, ..*window };
                padded.on_input(position[axis], (len as i64 + before + after).max(0) as usize).len()
            } else {
                window.on_input(position[axis], len).len()
            };
        }
        count as f64
    }
}

impl OpDef for AveragePool {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_float(0, x)?;
        Ok(vec![infer_pool(x, &self.all_windows()?)?])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(&types[0])?);
        let windows = self.all_windows()?;
        let mut sums = fold_windows(&x.to_f64(), x.shape(), &windows, &out, 0.0, |sum, v: f64| sum + v);
        let mut index = 0;
        for_windows(x.shape(), &out, |_, position| {
            sums[index] /= self.divisor(&windows, &x.shape()[2..], position);
            index += 1;
        });
        Ok(vec![Tensor::from_f64(x.dtype(), &out, &sums)])
    }
}

impl OpDef for LpPool {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_float(0, x)?;
        need_steps("p", &[self.p], 1, 1)?;
        Ok(vec![infer_pool(x, &windows(&self.kernel, &self.strides, &self.pads, &self.dilations)?)?])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(&types[0])?);
        let windows = windows(&self.kernel, &self.strides, &self.pads, &self.dilations)?;
        let p = self.p as f64;
        let mut norms = fold_windows(&x.to_f64(), x.shape(), &windows, &out, 0.0, |sum, v: f64| sum + v.abs().powf(p));
        norms.iter_mut().for_each(|sum| *sum = root(*sum, p));
        Ok(vec![Tensor::from_f64(x.dtype(), &out, &norms)])
    }
}

/// `x^(1/p)`, exact to rounding for the usual norms.
pub(super) fn root(x: f64, p: f64) -> f64 {
    if p == 1.0 {
        x
    } else if p == 2.0 {
        x.sqrt()
    } else {
        x.powf(1.0 / p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::types::DType;

    fn eval(op: impl Into<Op>, x: &Tensor) -> Tensor {
        op.into().eval(&[Some(x)], &|_| None).unwrap().pop().unwrap()
    }

    fn line(values: &[f32]) -> Tensor {
        Tensor::from_f32(&[1, 1, values.len()], values)
    }

    #[test]
    fn max_ignores_padding_and_keeps_nan() {
        let op = MaxPool { kernel: vec![2], strides: vec![2], pads: vec![1, 1], dilations: vec![2] };
        assert_eq!(eval(op.clone(), &line(&[-3.0, -2.0, -4.0, -1.0])).to_f64(), [-2.0, -1.0]);
        assert!(eval(op.clone(), &line(&[0.0, f32::NAN, 1.0, 2.0])).to_f64()[0].is_nan());
        let bytes = Tensor::from_ints(DType::U8, &[1, 1, 4], &[3, 0, 200, 7]);
        assert_eq!(eval(op, &bytes).to_ints(), [0, 7]);
        let plane =
            Tensor::from_f32(&[1, 2, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0]);
        let op = MaxPool { kernel: vec![2, 2], strides: vec![1, 1], pads: vec![0; 4], dilations: vec![1, 1] };
        assert_eq!(eval(op, &plane).to_f64(), [5.0, 6.0, -1.0, -2.0]);
    }

    #[test]
    fn average_divisors() {
        let op = |include, ceil| AveragePool {
            kernel: vec![3],
            strides: vec![2],
            pads: vec![1, 1],
            dilations: vec![1],
            ceil_pads: vec![ceil],
            count_include_pad: include,
        };
        let x = line(&[6.0, 12.0, 18.0, 24.0]);
        assert_eq!(eval(op(false, 0), &x).to_f64(), [9.0, 18.0]);
        assert_eq!(eval(op(true, 0), &x).to_f64(), [6.0, 18.0]);
        assert_eq!(eval(op(true, 1), &x).to_f64(), [6.0, 18.0, 12.0], "the third window has one element and one pad");
        assert_eq!(eval(op(false, 1), &x).to_f64(), [9.0, 18.0, 24.0]);
    }

    #[test]
    fn lp_norm_and_refusals() {
        let op = |p| LpPool { kernel: vec![2], strides: vec![2], pads: vec![0, 0], dilations: vec![1], p };
        assert_eq!(eval(op(2), &line(&[3.0, -4.0, 0.0, 1.0])).to_f64(), [5.0, 1.0]);
        assert!(Op::from(op(0)).infer(&[Some(&line(&[1.0, 2.0]).ty())]).is_err());
        assert!(Op::from(op(1)).infer(&[Some(&line(&[1.0]).ty())]).is_err());
    }
}
