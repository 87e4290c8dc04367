//! Bias correction: rounded weights shift the mean of every output channel; the bias takes the shift back.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::Op;

use super::Progress;
use super::plan::Product;
use super::ranges::floats;
use super::samples::Samples;
use super::taps::Taps;
use super::weights::Rows;
use crate::build::BuildOptions;
use crate::error::Error;

/// The mean of every channel of the operand of every product that has a bias.
///
/// # Errors
/// What compiling and running gives.
pub fn means(
    graph: &Graph,
    products: &[Product],
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<BTreeMap<NodeId, Vec<f64>>, Error> {
    let biased: Vec<&Product> = products.iter().filter(|p| p.bias.is_some()).collect();
    let operands: Vec<ValueId> = biased.iter().filter_map(|p| graph.node(p.node).inputs[0]).collect();
    if operands.is_empty() || samples.inputs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let taps = Taps::new(graph, &operands, samples, build)?;
    let mut sums: Vec<(Vec<f64>, f64)> = vec![Default::default(); operands.len()];
    taps.run(samples, &mut |index, tensors| {
        progress("means of operands", index, samples.inputs.len());
        for ((sum, tensor), product) in sums.iter_mut().zip(tensors).zip(&biased) {
            // Channels of a convolution are its second axis, those of a matrix product the last one.
            let shape = tensor.shape();
            let conv = matches!(graph.node(product.node).op, Op::Conv(_));
            let axis = if conv { 1 } else { shape.len().saturating_sub(1) };
            let channels = shape.get(axis).copied().unwrap_or(1).max(1);
            let inner: usize = shape.get(axis + 1..).map_or(1, |rest| rest.iter().product());
            sum.0.resize(channels, 0.0);
            for (at, v) in floats(tensor).enumerate() {
                sum.0[at / inner.max(1) % channels] += v;
            }
            sum.1 += tensor.elems() as f64 / channels as f64;
        }
        Ok(())
    })?;
    let mean = |(sums, count): (Vec<f64>, f64)| sums.into_iter().map(|s| s / count.max(1.0)).collect();
    Ok(biased.iter().map(|p| p.node).zip(sums.into_iter().map(mean)).collect())
}

/// Adds to every bias what the rounded weights of its row lose on operands of these means.
///
/// A row has a window of numbers for each of `channels`, those of its group; with groups, `means` has those of all groups.
pub fn correct(bias: &mut [f64], rows: &Rows, rounded: &[f64], means: &[f64], channels: usize) {
    let (outputs, window) = (rows.count(), rows.len / channels.max(1));
    let groups = means.len() / channels.max(1);
    for (row, bias) in bias.iter_mut().enumerate().take(outputs) {
        let group = row * groups / outputs.max(1);
        let lost = rows.row(row).iter().zip(&rounded[row * rows.len..]).enumerate();
        *bias += lost.map(|(k, (w, r))| (w - r) * means[group * channels + k / window]).sum::<f64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_see_their_own_channels() {
        // Two groups of one channel with a window of two.
        let rows = Rows { values: vec![1.0, 2.0, 3.0, 4.0], len: 2 };
        let mut bias = [0.5, 0.5];
        correct(&mut bias, &rows, &[0.0, 2.0, 3.0, 3.0], &[10.0, 100.0], 1);
        assert_eq!(bias, [10.5, 100.5]);
        let mut bias = [0.0, 0.0];
        correct(&mut bias, &rows, &[0.0, 2.0, 3.0, 3.0], &[10.0, 100.0], 2);
        assert_eq!(bias, [10.0, 100.0]);
    }
}
