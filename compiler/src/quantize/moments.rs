//! Means and products of the operands of products, over the samples: what rounded weights are judged by.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::{Conv, Op};
use adze_ir::tensor::Tensor;

use super::Progress;
use super::plan::{Kind, Product};
use super::ranges::floats;
use super::samples::Samples;
use super::taps::Taps;
use super::trial::At;
use super::weights::Rows;
use crate::build::BuildOptions;
use crate::error::Error;

/// Operand vectors that are looked at per number of a row: more hardly change the sums.
const VECTORS_PER_NUMBER: usize = 16;
/// Longest row that feedback is computed for; its matrices are this number squared.
pub const MAX_LEN: usize = 2048;

/// What is known of the operand vectors `x` of a product, per group of channels; and, where `x` is what rounded layers before it
/// make, of the vectors `y` that the float network has in their place.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Length of a vector, which is that of a row of weights.
    pub len: usize,
    /// `Σ x·xᵀ`, row-major; the lower triangle is filled. None for vectors that are too long.
    pub matrices: Vec<Vec<f64>>,
    /// `Σ x·yᵀ`, whole; none where `y` is `x`.
    pub cross: Vec<Vec<f64>>,
    sums: Vec<Vec<f64>>,
    /// Of `y`; none where `y` is `x`.
    float_sums: Vec<Vec<f64>>,
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
) -> Result<BTreeMap<At, Moments>, Error> {
    let mut found: Vec<(&Product, Moments)> = Vec::new();
    let mut operands: Vec<ValueId> = Vec::new();
    for product in products {
        if let Some((operand, moments)) = Moments::of(graph, product, matrices) {
            found.push((product, moments));
            operands.push(operand);
        }
    }
    if operands.is_empty() || samples.inputs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let taps = Taps::new(graph, &operands, samples, build)?;
    taps.run(samples, &mut |index, tensors| {
        progress("moments of operands", index, samples.inputs.len());
        for ((product, moments), tensor) in found.iter_mut().zip(tensors) {
            moments.take(graph, product, (tensor, None), samples.inputs.len());
        }
        Ok(())
    })?;
    Ok(found.into_iter().map(|(product, moments)| (product.place(), moments)).collect())
}

impl Moments {
    /// Of no vectors.
    pub fn new(len: usize, groups: usize, matrices: bool) -> Self {
        let matrices = if matrices && len <= MAX_LEN { vec![vec![0.0; len * len]; groups] } else { Vec::new() };
        let sums = vec![vec![0.0; len]; groups];
        Self { len, matrices, cross: Vec::new(), sums, float_sums: Vec::new(), count: 0.0 }
    }

    /// Of no vectors yet, for a product, and its operand; none for a table.
    pub fn of(graph: &Graph, product: &Product, matrices: bool) -> Option<(ValueId, Self)> {
        let shape = graph.ty(product.weights).fixed_shape()?;
        let len = product.len(graph);
        let groups = match &graph.node(product.node).op {
            Op::Conv(conv) => usize::try_from(conv.group).unwrap_or(1),
            // Every direction of a cell has states of its own.
            _ if product.kind == Kind::Cell && product.at == 2 => shape[0],
            _ => 1,
        };
        let operand = product.data(graph).filter(|_| len > 0)?;
        Some((operand, Self::new(len, groups, matrices)))
    }

    /// Takes the operand of one of so many samples in; the second tensor is what the float network has in its place.
    pub fn take(&mut self, graph: &Graph, product: &Product, tensors: (&Tensor, Option<&Tensor>), samples: usize) {
        let most = (VECTORS_PER_NUMBER * self.len).div_ceil(samples.max(1)).max(64);
        let node = graph.node(product.node);
        match (&node.op, node.inputs[1].and_then(|w| graph.ty(w).fixed_shape())) {
            (Op::Conv(conv), Some(weights)) => self.take_windows(conv, &weights, tensors, most),
            _ if product.kind == Kind::Cell && product.at == 2 => self.take_states(tensors, most),
            _ => self.take_rows(tensors, most),
        }
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
        for ((matrix, sums), float_sums) in self.cross.iter_mut().zip(&self.sums).zip(&self.float_sums) {
            for (row, sum) in matrix.chunks_exact_mut(len).zip(sums) {
                row.iter_mut().zip(float_sums).for_each(|(m, s)| *m -= sum * s / count);
            }
        }
    }

    /// Adds to every bias what the rounded weights of its row lose in the mean.
    pub fn correct_bias(&self, bias: &mut [f64], rows: &Rows, rounded: &[f64]) {
        let each = rows.count() / self.sums.len().max(1);
        let count = self.count.max(1.0);
        for (row, bias) in bias.iter_mut().enumerate().take(rows.count()) {
            let sums = &self.sums[row / each.max(1)];
            let float_sums = self.float_sums.get(row / each.max(1)).unwrap_or(sums);
            let wanted: f64 = rows.row(row).iter().zip(float_sums).map(|(w, sum)| w * sum).sum();
            let found: f64 = rounded[row * rows.len..].iter().zip(sums).map(|(r, sum)| r * sum).sum();
            *bias += (wanted - found) / count;
        }
    }

    /// Adds one operand vector of a group, and what the float network has in its place.
    pub fn add(&mut self, group: usize, x: &[f64], y: Option<&[f64]>) {
        let len = self.len;
        self.sums[group].iter_mut().zip(x).for_each(|(sum, v)| *sum += v);
        self.count += if group == 0 { 1.0 } else { 0.0 };
        if let Some(y) = y {
            self.add_cross(group, x, y);
        }
        let Some(matrix) = self.matrices.get_mut(group) else { return };
        for (i, &xi) in x.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            let row = &mut matrix[i * len..][..=i];
            row.iter_mut().zip(x).for_each(|(sum, xj)| *sum += xi * xj);
        }
    }

    fn add_cross(&mut self, group: usize, x: &[f64], y: &[f64]) {
        let (len, groups) = (self.len, self.sums.len());
        if self.float_sums.is_empty() {
            self.float_sums = vec![vec![0.0; len]; groups];
            self.cross = if self.matrices.is_empty() { Vec::new() } else { vec![vec![0.0; len * len]; groups] };
        }
        self.float_sums[group].iter_mut().zip(y).for_each(|(sum, v)| *sum += v);
        let Some(matrix) = self.cross.get_mut(group) else { return };
        for (row, xi) in matrix.chunks_exact_mut(len).zip(x).filter(|(_, xi)| **xi != 0.0) {
            row.iter_mut().zip(y).for_each(|(sum, yj)| *sum += xi * yj);
        }
    }

    /// The rows of the operand of a matrix product, at most so many of them.
    fn take_rows(&mut self, (tensor, other): (&Tensor, Option<&Tensor>), most: usize) {
        let (values, others) = (floats(tensor).collect::<Vec<f64>>(), other.map(|t| floats(t).collect::<Vec<f64>>()));
        let rows = values.len() / self.len;
        for row in spread(rows, most) {
            let part = row * self.len..(row + 1) * self.len;
            self.add(0, &values[part.clone()], others.as_ref().map(|y| &y[part]));
        }
    }

    /// The states `[t, d, n, h]` of a recurrent cell, at most so many of them, a group for each direction.
    fn take_states(&mut self, (tensor, other): (&Tensor, Option<&Tensor>), most: usize) {
        let (values, others) = (floats(tensor).collect::<Vec<f64>>(), other.map(|t| floats(t).collect::<Vec<f64>>()));
        let &[steps, directions, batch, len] = tensor.shape() else { return };
        for place in spread(steps * batch, most) {
            for group in 0..directions {
                let at = ((place / batch * directions + group) * batch + place % batch) * len;
                self.add(group, &values[at..at + len], others.as_ref().map(|y| &y[at..at + len]));
            }
        }
    }

    /// The windows of the operand of a convolution, at most so many of them.
    fn take_windows(
        &mut self,
        conv: &Conv,
        weights: &[usize],
        (tensor, other): (&Tensor, Option<&Tensor>),
        most: usize,
    ) {
        let (values, others) = (floats(tensor).collect::<Vec<f64>>(), other.map(|t| floats(t).collect::<Vec<f64>>()));
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
                let places: Vec<Option<usize>> = (0..channels)
                    .flat_map(|c| window.iter().map(move |o| o.map(|o| (c, o))))
                    .map(|place| place.map(|(c, o)| channel(c) + o))
                    .collect();
                let vector = |values: &[f64]| places.iter().map(|p| p.map_or(0.0, |p| values[p])).collect::<Vec<f64>>();
                let y = others.as_deref().map(vector);
                self.add(group, &vector(&values), y.as_deref());
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
            moments.add(0, &[a, 1.0], None);
            moments.add(1, &[1.0, b], None);
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
