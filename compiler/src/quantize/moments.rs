//! Means and products of the operands of products, over the samples: what rounded weights are judged by.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::{Conv, Op};
use adze_ir::tensor::Tensor;

use super::Progress;
use super::plan::Product;
use super::ranges::floats;
use super::samples::Samples;
use super::taps::Taps;
use super::weights::Rows;
use crate::build::BuildOptions;
use crate::error::Error;

/// Operand vectors that are looked at per number of a row: more hardly change the sums.
const VECTORS_PER_NUMBER: usize = 16;
/// Longest row that feedback is computed for; its matrices are this number squared.
pub const MAX_LEN: usize = 2048;

/// What is known of the operand vectors of a product, per group of channels.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Length of a vector, which is that of a row of weights.
    pub len: usize,
    /// `Σ x·xᵀ`, row-major; the lower triangle is filled. None for vectors that are too long.
    pub matrices: Vec<Vec<f64>>,
    sums: Vec<Vec<f64>>,
    count: f64,
}

/// Moments of the operand of every product, with matrices if asked for.
///
/// # Errors
/// What compiling and running gives.
pub fn moments(
    graph: &Graph,
    products: &[Product],
    samples: &Samples,
    build: &BuildOptions,
    matrices: bool,
    progress: &mut Progress<'_>,
) -> Result<BTreeMap<NodeId, Moments>, Error> {
    let mut found: Vec<(NodeId, Moments)> = Vec::new();
    let mut operands: Vec<ValueId> = Vec::new();
    for product in products {
        let node = graph.node(product.node);
        let (Some(operand), Some(shape)) = (node.inputs[0], graph.ty(product.weights).fixed_shape()) else { continue };
        let len = shape.iter().product::<usize>() / shape[product.axis].max(1);
        let groups = if let Op::Conv(conv) = &node.op { usize::try_from(conv.group).unwrap_or(1) } else { 1 };
        if len > 0 {
            found.push((product.node, Moments::new(len, groups, matrices)));
            operands.push(operand);
        }
    }
    if operands.is_empty() || samples.inputs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let taps = Taps::new(graph, &operands, samples, build)?;
    taps.run(samples, &mut |index, tensors| {
        progress("moments of operands", index, samples.inputs.len());
        for ((node, moments), tensor) in found.iter_mut().zip(tensors) {
            let most = (VECTORS_PER_NUMBER * moments.len).div_ceil(samples.inputs.len()).max(64);
            let node = graph.node(*node);
            match (&node.op, node.inputs[1].and_then(|w| graph.ty(w).fixed_shape())) {
                (Op::Conv(conv), Some(weights)) => moments.take_windows(conv, &weights, tensor, most),
                _ => moments.take_rows(tensor, most),
            }
        }
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}

impl Moments {
    /// Of no vectors.
    pub fn new(len: usize, groups: usize, matrices: bool) -> Self {
        let matrices = if matrices && len <= MAX_LEN { vec![vec![0.0; len * len]; groups] } else { Vec::new() };
        Self { len, matrices, sums: vec![vec![0.0; len]; groups], count: 0.0 }
    }

    /// How much an error at each position of a row weighs, per group.
    pub fn diagonals(&self) -> Option<Vec<Vec<f64>>> {
        let diagonal = |matrix: &Vec<f64>| (0..self.len).map(|i| matrix[i * self.len + i]).collect();
        (!self.matrices.is_empty()).then(|| self.matrices.iter().map(diagonal).collect())
    }

    /// Takes the means out of the matrices: an error that is the same for all vectors is one that a bias makes up for.
    pub fn centre(&mut self) {
        let (len, count) = (self.len, self.count.max(1.0));
        for (matrix, sums) in self.matrices.iter_mut().zip(&self.sums) {
            for i in 0..len {
                let row = &mut matrix[i * len..][..=i];
                row.iter_mut().zip(sums).for_each(|(m, s)| *m -= sums[i] * s / count);
                row[i] = row[i].max(0.0);
            }
        }
    }

    /// Adds to every bias what the rounded weights of its row lose in the mean.
    pub fn correct_bias(&self, bias: &mut [f64], rows: &Rows, rounded: &[f64]) {
        let each = rows.count() / self.sums.len().max(1);
        for (row, bias) in bias.iter_mut().enumerate().take(rows.count()) {
            let means = self.sums[row / each.max(1)].iter().map(|sum| sum / self.count.max(1.0));
            let lost = rows.row(row).iter().zip(&rounded[row * rows.len..]).map(|(w, r)| w - r);
            *bias += lost.zip(means).map(|(lost, mean)| lost * mean).sum::<f64>();
        }
    }

    /// Adds one operand vector of a group.
    pub fn add(&mut self, group: usize, x: &[f64]) {
        let len = self.len;
        self.sums[group].iter_mut().zip(x).for_each(|(sum, v)| *sum += v);
        self.count += if group == 0 { 1.0 } else { 0.0 };
        let Some(matrix) = self.matrices.get_mut(group) else { return };
        for (i, &xi) in x.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            let row = &mut matrix[i * len..][..=i];
            row.iter_mut().zip(x).for_each(|(sum, xj)| *sum += xi * xj);
        }
    }

    /// The rows of the operand of a matrix product, at most so many of them.
    fn take_rows(&mut self, tensor: &Tensor, most: usize) {
        let values: Vec<f64> = floats(tensor).collect();
        let rows = values.len() / self.len;
        for row in spread(rows, most) {
            self.add(0, &values[row * self.len..][..self.len]);
        }
    }

    /// The windows of the operand of a convolution, at most so many of them.
    fn take_windows(&mut self, conv: &Conv, weights: &[usize], tensor: &Tensor, most: usize) {
        let values: Vec<f64> = floats(tensor).collect();
        let shape = tensor.shape();
        let (channels, kernel) = (weights[1], &weights[2..]);
        let rank = kernel.len();
        let out: Vec<usize> = (0..rank).map(|axis| outputs(conv, kernel, shape, axis)).collect();
        let places = shape[0] * out.iter().product::<usize>();
        let spatial: usize = shape[2..].iter().product();
        for place in spread(places, most) {
            let (image, at) = (place / (places / shape[0]).max(1), place % (places / shape[0]).max(1));
            let window = window(conv, kernel, &shape[2..], &position(at, &out));
            for group in 0..self.sums.len() {
                let channel = |c: usize| (image * shape[1] + group * channels + c) * spatial;
                let number = |c: usize, offset: &Option<usize>| offset.map_or(0.0, |o| values[channel(c) + o]);
                let x: Vec<f64> =
                    (0..channels).flat_map(|c| window.iter().map(move |o| (c, o))).map(|(c, o)| number(c, o)).collect();
                self.add(group, &x);
            }
        }
    }
}

/// At most `most` of `0..all`: one of each equal part, at a place drawn with a fixed seed, since parts of a fixed length
/// would see the same columns of an image in every row.
fn spread(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = all.min(most);
    let mut random = fastrand::Rng::with_seed(all as u64);
    (0..count).map(move |i| random.usize(i * all / count..(i + 1) * all / count))
}

fn outputs(conv: &Conv, kernel: &[usize], shape: &[usize], axis: usize) -> usize {
    let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let padded = signed(shape[axis + 2]) + conv.pads[axis] + conv.pads[axis + kernel.len()];
    let reach = conv.dilations[axis] * (signed(kernel[axis]) - 1) + 1;
    usize::try_from((padded - reach) / conv.strides[axis].max(1) + 1).unwrap_or(0)
}

/// The coordinates of a position in row-major order.
fn position(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut position = vec![0; shape.len()];
    for (axis, &extent) in shape.iter().enumerate().rev() {
        position[axis] = at % extent.max(1);
        at /= extent.max(1);
    }
    position
}

/// Offsets of a window's elements in a channel; nothing for those in the padding.
fn window(conv: &Conv, kernel: &[usize], shape: &[usize], at: &[usize]) -> Vec<Option<usize>> {
    let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let elems: usize = kernel.iter().product();
    let offset = |k: usize| {
        position(k, kernel).iter().enumerate().try_fold(0, |offset, (axis, &k)| {
            let x = signed(at[axis]) * conv.strides[axis] - conv.pads[axis] + signed(k) * conv.dilations[axis];
            let x = usize::try_from(x).ok().filter(|&x| x < shape[axis])?;
            Some(offset * shape[axis] + x)
        })
    };
    (0..elems).map(offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_see_their_own_means() {
        let rows = Rows { values: vec![1.0, 2.0, 3.0, 4.0], len: 2 };
        let mut moments = Moments::new(2, 2, true);
        for (a, b) in [(8.0, 100.0), (12.0, 50.0)] {
            moments.add(0, &[a, 1.0]);
            moments.add(1, &[1.0, b]);
        }
        let mut bias = [0.5, 0.5];
        moments.correct_bias(&mut bias, &rows, &[0.0, 2.0, 3.0, 3.0]);
        assert_eq!(bias, [10.5, 75.5]);
        moments.centre();
        assert_eq!(moments.diagonals().unwrap(), [vec![8.0, 0.0], vec![0.0, 1250.0]]);
    }

    #[test]
    fn windows_are_those_of_the_convolution() {
        let conv = Conv { strides: vec![2, 1], pads: vec![1, 0, 0, 1], dilations: vec![1, 2], group: 1 };
        let (kernel, shape) = ([2, 2], [1, 1, 3, 4]);
        assert_eq!((outputs(&conv, &kernel, &shape, 0), outputs(&conv, &kernel, &shape, 1)), (2, 3));
        assert_eq!(window(&conv, &kernel, &shape[2..], &[0, 0]), [None, None, Some(0), Some(2)]);
        assert_eq!(window(&conv, &kernel, &shape[2..], &[1, 2]), [Some(6), None, Some(10), None]);
    }
}
