//! Type rules and evaluation of normalisations.

use super::super::shape::{
    Around, attribute, broadcast_strides, need_axis, need_broadcast_to, need_float, need_rank_from, need_shape,
    need_steps, walk,
};
use super::rows::map_rows;
use super::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Lrn, RmsNorm};
use crate::ops::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// All operands floating-point (each of its own width), the result like the first.
fn infer_like_first(inputs: Operands<'_, TensorType>, rank: usize) -> Result<Vec<TensorType>, TypeError> {
    for (index, ty) in inputs.present().enumerate() {
        need_float(index, ty)?;
    }
    let x = inputs.need(0)?;
    need_rank_from(0, x, rank)?;
    Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
}

/// The operands from 1 on are vectors over the channels, axis 1.
fn need_per_channel(inputs: Operands<'_, TensorType>) -> Result<(), TypeError> {
    let channels = &inputs.need(0)?.shape[1..2];
    for index in 1..inputs.len() {
        need_shape("per-channel operand", inputs.need(index)?, channels)?;
    }
    Ok(())
}

/// Replaces every element by a function of it and its channel.
fn map_channels(values: &mut [f64], shape: &[usize], function: impl Fn(f64, usize) -> f64) {
    let around = Around::axis(shape, 1);
    if around.inner == 0 {
        return;
    }
    for (index, plane) in values.chunks_exact_mut(around.inner).enumerate() {
        plane.iter_mut().for_each(|v| *v = function(*v, index % around.len));
    }
}

impl OpDef for BatchNorm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let types = infer_like_first(inputs, 2)?;
        need_per_channel(inputs)?;
        Ok(types)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let [scale, bias, mean, var] = [inputs.need(1)?, inputs.need(2)?, inputs.need(3)?, inputs.need(4)?];
        let [scale, bias, mean, var] = [scale, bias, mean, var].map(Tensor::to_f64);
        let deviation: Vec<f64> = var.iter().map(|v| (v + self.epsilon.get()).sqrt()).collect();
        let mut values = x.to_f64();
        map_channels(&mut values, x.shape(), |v, c| (v - mean[c]) / deviation[c] * scale[c] + bias[c]);
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &values)])
    }
}

/// `(x - mean) / √(var + epsilon)` in place; the variance is the mean of squared differences.
fn standardise(row: &mut [f64], epsilon: f64) {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
    let deviation = (variance + epsilon).sqrt();
    row.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
}

/// `x · scale + bias` where the operands broadcast to `x`, all in `f64`, rounded once.
fn scale_and_shift(x: &Tensor, mut values: Vec<f64>, scale: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let mut apply = |operand: &Tensor, function: &dyn Fn(f64, f64) -> f64| {
        let (other, strides) = (operand.to_f64(), broadcast_strides(operand.shape(), x.shape()));
        let mut index = 0;
        walk(x.shape(), [&strides], |[offset]| {
            values[index] = function(values[index], other[offset]);
            index += 1;
        });
    };
    apply(scale, &|v, s| v * s);
    if let Some(bias) = bias {
        apply(bias, &|v, b| v + b);
    }
    Tensor::from_f64(x.dtype(), x.shape(), &values)
}

/// Rows of `x` along the axes, changed in `f64` and not rounded yet.
fn wide_rows(x: &Tensor, axes: std::ops::Range<usize>, function: impl Fn(&mut [f64])) -> Vec<f64> {
    let wide = Tensor::from_f64(crate::types::DType::F64, x.shape(), &x.to_f64());
    map_rows(&wide, axes, function).to_f64()
}

fn infer_layer(inputs: Operands<'_, TensorType>, axis: usize) -> Result<Vec<TensorType>, TypeError> {
    let types = infer_like_first(inputs, 1)?;
    let x = inputs.need(0)?;
    need_axis("axis", axis, x)?;
    need_broadcast_to("scale", &inputs.need(1)?.shape, &x.shape)?;
    if let Some(bias) = inputs.get(2) {
        need_broadcast_to("bias", &bias.shape, &x.shape)?;
    }
    Ok(types)
}

impl OpDef for LayerNorm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        infer_layer(inputs, self.axis)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let rows = wide_rows(x, self.axis..x.shape().len(), |row| standardise(row, self.epsilon.get()));
        Ok(vec![scale_and_shift(x, rows, inputs.need(1)?, inputs.get(2))])
    }
}

impl OpDef for RmsNorm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        infer_layer(inputs, self.axis)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let rows = wide_rows(x, self.axis..x.shape().len(), |row| {
            let square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
            let root = (square + self.epsilon.get()).sqrt();
            row.iter_mut().for_each(|v| *v /= root);
        });
        Ok(vec![scale_and_shift(x, rows, inputs.need(1)?, None)])
    }
}

/// Standardises `groups` equal parts of the channels of every image, then scales and shifts per channel.
fn normalise_groups(inputs: Operands<'_, Tensor>, groups: usize, epsilon: f64) -> Result<Vec<Tensor>, EvalError> {
    let (x, scale, bias) = (inputs.need(0)?, inputs.need(1)?.to_f64(), inputs.need(2)?.to_f64());
    let mut values = x.to_f64();
    let size = x.shape()[1..].iter().product::<usize>() / groups.max(1);
    if size > 0 {
        values.chunks_exact_mut(size).for_each(|group| standardise(group, epsilon));
    }
    map_channels(&mut values, x.shape(), |v, c| v * scale[c] + bias[c]);
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &values)])
}

impl OpDef for InstanceNorm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let types = infer_like_first(inputs, 2)?;
        need_per_channel(inputs)?;
        Ok(types)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let channels = inputs.need(0)?.shape()[1];
        normalise_groups(inputs, channels, self.epsilon.get())
    }
}

impl OpDef for GroupNorm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let types = infer_like_first(inputs, 2)?;
        need_per_channel(inputs)?;
        need_steps("groups", &[self.groups], 1, 1)?;
        let channels = &types[0].shape[1];
        if channels.modulo(&self.groups.into()).as_const() != Some(0) {
            return Err(attribute("groups", self.groups, format!("a divisor of the {channels} channels")));
        }
        Ok(types)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        normalise_groups(inputs, usize::try_from(self.groups).unwrap_or(1), self.epsilon.get())
    }
}

impl OpDef for Lrn {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        need_steps("size", &[self.size], 1, 1)?;
        infer_like_first(inputs, 2)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let (alpha, beta, bias) = (self.alpha.get(), self.beta.get(), self.bias.get());
        // ONNX: channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2).
        let (before, after) = ((self.size - 1) as usize / 2, self.size as usize / 2);
        Ok(vec![map_rows(x, 1..2, |row| {
            let squares: Vec<f64> = row.iter().map(|v| v * v).collect();
            for (c, v) in row.iter_mut().enumerate() {
                let sum: f64 = squares[c.saturating_sub(before)..squares.len().min(c + after + 1)].iter().sum();
                *v /= (bias + alpha / self.size as f64 * sum).powf(beta);
            }
        })])
    }
}
