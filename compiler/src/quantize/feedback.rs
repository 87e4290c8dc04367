//! Rounding with error feedback: what rounding one weight costs is made up for by those that are rounded after it.
//!
//! For a row `w` and rounded `q`, the error of a product over operands `x` is `(w - q) · H · (w - q)` with `H = Σ x·xᵀ`.
//! Weights are rounded one by one, those with the largest operands first; the rest moves to where the error is least. With
//! `U` the upper Cholesky factor of `H⁻¹` that is `w[j] -= (w[i] - q[i]) / U[i][i] · U[i][j]`, as in GPTQ (Frantar et al., 2022).

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::{Conv, Op};
use adze_ir::tensor::Tensor;

use super::Progress;
use super::plan::Product;
use super::ranges::floats;
use super::samples::Samples;
use super::taps::Taps;
use super::weights::{Rows, Stored, largest};
use crate::build::BuildOptions;
use crate::error::Error;

/// Share of the mean diagonal that is added to it, so that operands that never vary do no harm.
const DAMPING: f64 = 0.01;
/// Operand vectors that are looked at per number of a row: more hardly change the sums.
const VECTORS_PER_NUMBER: usize = 16;
/// Longest row that feedback is computed for; its matrices are this number squared.
pub const MAX_LEN: usize = 2048;

/// Sums of products of operands, a square matrix per group of channels.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Length of a row.
    pub len: usize,
    /// Row-major matrices; the lower triangle is filled.
    pub groups: Vec<Vec<f64>>,
}

/// Moments of the operand of every product that is not too large.
///
/// # Errors
/// What compiling and running gives.
pub fn moments(
    graph: &Graph,
    products: &[Product],
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<BTreeMap<NodeId, Moments>, Error> {
    let mut found: Vec<(NodeId, Moments)> = Vec::new();
    let mut operands: Vec<ValueId> = Vec::new();
    for product in products {
        let node = graph.node(product.node);
        let (Some(operand), Some(shape)) = (node.inputs[0], graph.ty(product.weights).fixed_shape()) else { continue };
        let len = shape.iter().product::<usize>() / shape[product.axis].max(1);
        let groups = if let Op::Conv(conv) = &node.op { usize::try_from(conv.group).unwrap_or(1) } else { 1 };
        if (1..=MAX_LEN).contains(&len) {
            found.push((product.node, Moments { len, groups: vec![vec![0.0; len * len]; groups] }));
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
    /// Mean squares of the operands, per group.
    pub fn diagonals(&self) -> Vec<Vec<f64>> {
        self.groups.iter().map(|matrix| (0..self.len).map(|i| matrix[i * self.len + i]).collect()).collect()
    }

    /// Adds one operand vector of a group.
    fn add(&mut self, group: usize, x: &[f64]) {
        let len = self.len;
        for (i, &xi) in x.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            let row = &mut self.groups[group][i * len..][..=i];
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
            for group in 0..self.groups.len() {
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

/// Rounds rows to integers of these scales with error feedback.
pub fn round_feedback(
    rows: &Rows,
    moments: &Moments,
    scales: Vec<f32>,
    dtype: adze_ir::types::DType,
    block: usize,
) -> Stored {
    let (len, outputs) = (rows.len, rows.count());
    let blocks = len.div_ceil(block.max(1)).max(1);
    let high = largest(dtype);
    let mut ints = vec![0i128; rows.values.len()];
    let each = outputs / moments.groups.len().max(1);
    for (group, matrix) in moments.groups.iter().enumerate() {
        let order = by_size(matrix, len);
        let factor = feedback_factor(matrix, len, &order);
        for row in group * each..(group + 1) * each {
            let mut w: Vec<f64> = order.iter().map(|&k| rows.row(row)[k]).collect();
            for i in 0..len {
                let scale = f64::from(scales[row * blocks + order[i] / block.max(1)]);
                let q = (w[i] / scale).round_ties_even().clamp(-high, high);
                ints[row * len + order[i]] = q as i128;
                let lost = (w[i] - q * scale) / factor[i * len + i];
                let (feedback, rest) = (&factor[i * len + i + 1..(i + 1) * len], &mut w[i + 1..]);
                rest.iter_mut().zip(feedback).for_each(|(w, f)| *w -= lost * f);
            }
        }
    }
    Stored { ints, scales, block: block.max(1), dtype }
}

/// Positions by the size of their operands, largest first.
fn by_size(matrix: &[f64], len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| matrix[b * len + b].total_cmp(&matrix[a * len + a]).then(a.cmp(&b)));
    order
}

/// The upper Cholesky factor of the inverse of a damped matrix, whose rows and columns are taken in an order.
///
/// With `P` the exchange of first and last, `P·H·P = L·Lᵀ` gives `H⁻¹ = (P·L⁻¹·P)ᵀ·(P·L⁻¹·P)`, whose parts are upper triangles.
fn feedback_factor(matrix: &[f64], len: usize, order: &[usize]) -> Vec<f64> {
    let at = |i: usize, j: usize| matrix[i.max(j) * len + i.min(j)];
    let damping = DAMPING * (0..len).map(|i| at(i, i)).sum::<f64>() / len.max(1) as f64;
    // Operands that are always zero leave nothing: any positive number keeps the matrix regular.
    let damping = if damping > 0.0 { damping } else { 1.0 };
    // Backwards, so that the triangle comes out on the other side.
    let reversed = |i: usize| order[len - 1 - i];
    let mut lower = vec![0.0; len * len];
    for i in 0..len {
        for j in 0..=i {
            let (head, tail) = lower.split_at(i * len);
            let row_j = if j == i { &tail[..j] } else { &head[j * len..][..j] };
            let sum: f64 = tail[..j].iter().zip(row_j).map(|(a, b)| a * b).sum();
            let value = at(reversed(i), reversed(j)) - sum;
            lower[i * len + j] =
                if i == j { (value + damping).max(damping * 1e-3).sqrt() } else { value / lower[j * len + j] };
        }
    }
    // H reversed = L·Lᵀ, so H⁻¹ reversed = L⁻ᵀ·L⁻¹, and reversing L⁻¹ both ways gives an upper triangle.
    let inverse = inverse_of_lower(&lower, len);
    let mut upper = vec![0.0; len * len];
    for i in 0..len {
        for j in 0..=i {
            upper[(len - 1 - i) * len + (len - 1 - j)] = inverse[i * len + j];
        }
    }
    upper
}

fn inverse_of_lower(lower: &[f64], len: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; len * len];
    for i in 0..len {
        let (done, row) = inverse.split_at_mut(i * len);
        let row = &mut row[..len];
        for k in 0..i {
            let factor = lower[i * len + k];
            if factor != 0.0 {
                row[..=k].iter_mut().zip(&done[k * len..][..=k]).for_each(|(sum, v)| *sum -= factor * v);
            }
        }
        row[i] = 1.0;
        let pivot = lower[i * len + i];
        row[..=i].iter_mut().for_each(|v| *v /= pivot);
    }
    inverse
}

#[cfg(test)]
mod tests {
    use adze_ir::types::DType;
    use proptest::prelude::*;

    use super::super::weights::{Scaling, round_nearest, scales_of};
    use super::*;

    /// `Σ (w·x - q·x)²` over rows, from the moments.
    fn loss(rows: &Rows, stored: &Stored, moments: &Moments) -> f64 {
        let real = stored.real(rows.len);
        let matrix = &moments.groups[0];
        let mut sum = 0.0;
        for row in 0..rows.count() {
            let d: Vec<f64> = (0..rows.len).map(|k| rows.row(row)[k] - real[row * rows.len + k]).collect();
            for i in 0..rows.len {
                sum += (0..rows.len).map(|j| d[i] * matrix[i.max(j) * rows.len + i.min(j)] * d[j]).sum::<f64>();
            }
        }
        sum
    }

    fn of_vectors(vectors: &[Vec<f64>], len: usize) -> Moments {
        let mut moments = Moments { len, groups: vec![vec![0.0; len * len]] };
        vectors.iter().for_each(|x| moments.add(0, x));
        moments
    }

    #[test]
    fn feedback_loses_less_than_rounding_to_nearest() {
        let mut random = fastrand::Rng::with_seed(3);
        let (len, outputs) = (24, 8);
        // Operands that go together, as those of networks do.
        let vectors: Vec<Vec<f64>> = (0..200)
            .map(|_| {
                let common = random.f64() * 2.0 - 0.5;
                (0..len).map(|k| common * (1.0 + k as f64 / 8.0) + random.f64() - 0.5).collect()
            })
            .collect();
        let rows = Rows { values: (0..len * outputs).map(|_| random.f64() - 0.5).collect(), len };
        let moments = of_vectors(&vectors, len);
        for (dtype, block) in [(DType::I8, len), (DType::I4, len), (DType::I4, 8), (DType::I2, 6)] {
            let scales = scales_of(&rows, dtype, block, Scaling::default());
            let nearest = loss(&rows, &round_nearest(&rows, scales.clone(), dtype, block), &moments);
            let fed = loss(&rows, &round_feedback(&rows, &moments, scales, dtype, block), &moments);
            assert!(fed < 0.5 * nearest, "{dtype} {block}: {fed} and {nearest}");
        }
    }

    proptest! {
        #[test]
        fn the_factor_is_that_of_the_inverse(values in prop::collection::vec(-2.0f64..2.0, 40)) {
            let len = 5;
            let moments = of_vectors(&values.chunks(len).map(<[f64]>::to_vec).collect::<Vec<_>>(), len);
            let order = by_size(&moments.groups[0], len);
            let upper = feedback_factor(&moments.groups[0], len, &order);
            let at = |i: usize, j: usize| moments.groups[0][i.max(j) * len + i.min(j)];
            let damping = DAMPING * (0..len).map(|i| at(i, i)).sum::<f64>() / len as f64;
            // H times the inverse is the identity.
            for i in 0..len {
                for j in 0..len {
                    let product: f64 = (0..len)
                        .map(|k| {
                            let h = at(order[i], order[k]) + if i == k { damping } else { 0.0 };
                            let inverse: f64 = (0..len).map(|m| upper[m * len + k] * upper[m * len + j]).sum();
                            h * inverse
                        })
                        .sum();
                    let wanted = f64::from(u8::from(i == j));
                    prop_assert!((product - wanted).abs() < 1e-6, "{product} at {i}, {j}");
                }
            }
        }

        #[test]
        fn operands_that_never_vary_do_no_harm(constant in -3.0f64..3.0, weights in prop::collection::vec(-1.0f64..1.0, 12)) {
            let rows = Rows { values: weights, len: 6 };
            for vector in [vec![constant; 6], vec![0.0; 6], vec![constant, 0.0, 0.0, 0.0, 0.0, 0.0]] {
                let moments = of_vectors(&vec![vector; 9], 6);
                let scales = scales_of(&rows, DType::I8, 6, Scaling::default());
                let stored = round_feedback(&rows, &moments, scales.clone(), DType::I8, 6);
                let nearest = round_nearest(&rows, scales, DType::I8, 6);
                prop_assert!(loss(&rows, &stored, &moments) <= loss(&rows, &nearest, &moments) + 1e-9);
                prop_assert!(stored.ints.iter().all(|q| q.abs() <= 127));
            }
        }
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
