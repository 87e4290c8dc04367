//! Type rules and evaluation of functions of whole rows: softmax and its kin.

use std::ops::Range;

use super::super::math::Ring;
use super::super::shape::{Around, attribute, need_axis, need_float};
use super::{Hardmax, LogSoftmax, LpNorm, Softmax};
use crate::ops::pool::root;
use crate::ops::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

fn infer_rows(inputs: Operands<'_, TensorType>, axis: usize, flatten: bool) -> Result<Vec<TensorType>, TypeError> {
    let x = inputs.need(0)?;
    need_float(0, x)?;
    // `flatten` may split behind the last axis: rows of one element.
    if !(flatten && axis == x.rank()) {
        need_axis("axis", axis, x)?;
    }
    Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
}

/// Applies `function` to every row along the axes, as a dense slice.
pub(super) fn map_rows(x: &Tensor, axes: Range<usize>, function: impl Fn(&mut [f64])) -> Tensor {
    let mut values = x.to_f64();
    let around = Around::axes(x.shape(), axes);
    let mut row = vec![0.0; around.len];
    for start in around.rows() {
        for (i, v) in row.iter_mut().enumerate() {
            *v = values[start + i * around.inner];
        }
        function(&mut row);
        for (i, v) in row.iter().enumerate() {
            values[start + i * around.inner] = *v;
        }
    }
    Tensor::from_f64(x.dtype(), x.shape(), &values)
}

fn row_axes(x: &Tensor, axis: usize, flatten: bool) -> Range<usize> {
    axis..if flatten { x.shape().len() } else { axis + 1 }
}

/// The largest element; NaN wins.
fn largest(row: &[f64]) -> f64 {
    row.iter().fold(f64::NEG_INFINITY, |best, &v| best.larger(v))
}

/// `exp(x - max) / Σ exp(x - max)` in place.
pub(in crate::ops) fn softmax(row: &mut [f64]) {
    let shift = largest(row);
    row.iter_mut().for_each(|v| *v = (*v - shift).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}

macro_rules! row_op {
    ($Name:ident, $row:expr) => {
        impl OpDef for $Name {
            fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
                infer_rows(inputs, self.axis, self.flatten)
            }

            fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
                let x = inputs.need(0)?;
                Ok(vec![map_rows(x, row_axes(x, self.axis, self.flatten), $row)])
            }
        }
    };
}

row_op!(Softmax, softmax);

row_op!(LogSoftmax, |row: &mut [f64]| {
    let shift = largest(row);
    let sum: f64 = row.iter().map(|v| (v - shift).exp()).sum();
    row.iter_mut().for_each(|v| *v = *v - shift - sum.ln());
});

row_op!(Hardmax, |row: &mut [f64]| {
    let top = largest(row);
    let first = row.iter().position(|v| *v == top || v.is_nan());
    row.iter_mut().enumerate().for_each(|(i, v)| *v = f64::from(u8::from(Some(i) == first)));
});

impl OpDef for LpNorm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        if !matches!(self.p, 1 | 2) {
            return Err(attribute("p", self.p, "1 or 2"));
        }
        infer_rows(inputs, self.axis, false)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let p = self.p as i32;
        Ok(vec![map_rows(inputs.need(0)?, self.axis..self.axis + 1, |row| {
            let norm = root(row.iter().map(|v| v.abs().powi(p)).sum(), f64::from(p));
            row.iter_mut().for_each(|v| *v = if norm == 0.0 { 0.0 } else { *v / norm });
        })])
    }
}
