//! Weights as integers: symmetric, a scale per output channel or per block of a channel.

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::ranges::usable;

/// A matrix of weights, one row per output channel: a product sums over the columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Row-major numbers.
    pub values: Vec<f64>,
    /// Numbers per row.
    pub len: usize,
}

impl Rows {
    /// The rows of a tensor whose output channels lie along `axis`.
    pub fn of(tensor: &Tensor, axis: usize) -> Self {
        let shape = tensor.shape();
        let (channels, all) = (shape[axis].max(1), tensor.to_f64());
        let inner: usize = shape[axis + 1..].iter().product();
        let len = all.len() / channels;
        let mut values = Vec::with_capacity(all.len());
        for channel in 0..channels {
            values.extend((0..len).map(|k| all[(k / inner * channels + channel) * inner + k % inner]));
        }
        Self { values, len }
    }

    /// Puts one item per number back to where it lies in a tensor of that shape.
    pub fn lay<T: Copy + Default>(items: &[T], shape: &[usize], axis: usize) -> Vec<T> {
        let channels = shape[axis].max(1);
        let inner: usize = shape[axis + 1..].iter().product();
        let len = items.len() / channels;
        let mut out = vec![T::default(); items.len()];
        for (at, &item) in items.iter().enumerate() {
            let (channel, k) = (at / len.max(1), at % len.max(1));
            out[(k / inner * channels + channel) * inner + k % inner] = item;
        }
        out
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len() / self.len.max(1)
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.len..][..self.len]
    }
}

/// Rows as integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Row-major integers.
    pub ints: Vec<i128>,
    /// Scales, those of a row together.
    pub scales: Vec<f32>,
    /// Numbers of a row that share a scale; the row's length when they all do.
    pub block: usize,
    /// Stored type.
    pub dtype: DType,
}

impl Stored {
    /// What the integers stand for.
    pub fn real(&self, len: usize) -> Vec<f64> {
        let blocks = len.div_ceil(self.block.max(1)).max(1);
        let scale = |at: usize| f64::from(self.scales[at / len * blocks + at % len / self.block]);
        self.ints.iter().enumerate().map(|(at, &q)| q as f64 * scale(at)).collect()
    }
}

/// Largest magnitude of a symmetric type.
pub fn largest(dtype: DType) -> f64 {
    dtype.int_range().map_or(127, |(_, high)| high) as f64
}

/// How scales are chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scaling<'a> {
    /// Smaller scales than that of the largest number are tried for the least squared error.
    pub search: bool,
    /// Smallest scale of each row.
    pub floor: &'a [f64],
    /// Per group of rows, how much an error at each position of a row weighs; all the same without.
    pub importance: Option<&'a [Vec<f64>]>,
}

/// A scale for numbers: that of the largest one, or a smaller one that loses less in the weighted mean square.
fn scale_for(values: &[f64], dtype: DType, search: bool, importance: Option<&[f64]>) -> f32 {
    let most = values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let high = largest(dtype);
    let square = |v: f64, scale: f64| (v - (v / scale).round_ties_even().clamp(-high, high) * scale).powi(2);
    let error = |scale: f64| -> f64 {
        match importance {
            Some(weights) => values.iter().zip(weights).map(|(&v, w)| w * square(v, scale)).sum(),
            None => values.iter().map(|&v| square(v, scale)).sum(),
        }
    };
    let mut best = usable(most / high);
    if search && most > 0.0 {
        let mut least = error(best.into());
        for step in 1..40 {
            let trial = usable(most / high * (1.0 - f64::from(step) / 64.0));
            let found = error(trial.into());
            if found < least {
                (least, best) = (found, trial);
            }
        }
    }
    best
}

/// Scales of rows, each row in blocks.
pub fn scales_of(rows: &Rows, dtype: DType, block: usize, scaling: Scaling<'_>) -> Vec<f32> {
    let mut scales = Vec::new();
    for index in 0..rows.count() {
        let least = scaling.floor.get(index).copied().unwrap_or(0.0);
        let group = scaling.importance.map(|groups| &groups[index * groups.len() / rows.count()]);
        for (at, part) in rows.row(index).chunks(block.max(1)).enumerate() {
            let importance = group.map(|group| &group[at * block.max(1)..]);
            let scale = scale_for(part, dtype, scaling.search, importance);
            scales.push(if f64::from(scale) < least { usable(least) } else { scale });
        }
    }
    scales
}

/// Rounds every number to the nearest integer of its scale.
pub fn round_nearest(rows: &Rows, scales: Vec<f32>, dtype: DType, block: usize) -> Stored {
    let high = largest(dtype);
    let blocks = rows.len.div_ceil(block.max(1)).max(1);
    let round = |(at, v): (usize, &f64)| {
        let scale = f64::from(scales[at / rows.len * blocks + at % rows.len / block.max(1)]);
        (v / scale).round_ties_even().clamp(-high, high) as i128
    };
    let ints = rows.values.iter().enumerate().map(round).collect();
    Stored { ints, scales, block: block.max(1), dtype }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_of_any_axis_go_back() {
        let tensor = Tensor::from_f32(&[2, 3, 2], &(0..12u8).map(f32::from).collect::<Vec<_>>());
        for axis in 0..3 {
            let rows = Rows::of(&tensor, axis);
            assert_eq!((rows.count(), rows.len), (tensor.shape()[axis], 12 / tensor.shape()[axis]));
            assert_eq!(Rows::lay(&rows.values, tensor.shape(), axis), tensor.to_f64());
        }
        assert_eq!(Rows::of(&tensor, 1).row(1), [2.0, 3.0, 8.0, 9.0]);
    }

    proptest! {
        #[test]
        fn rounding_stays_within_half_a_step(values in prop::collection::vec(-10.0f64..10.0, 1..40), block in 1usize..8) {
            let rows = Rows { len: values.len(), values };
            for dtype in [DType::I8, DType::I4, DType::I2] {
                let scales = scales_of(&rows, dtype, block, Scaling::default());
                let stored = round_nearest(&rows, scales, dtype, block);
                for (at, (v, real)) in rows.values.iter().zip(stored.real(rows.len)).enumerate() {
                    prop_assert!((v - real).abs() <= f64::from(stored.scales[at / block]) * 0.500001, "{v} {real}");
                }
            }
        }
    }

    #[test]
    fn channels_of_zeros_have_a_usable_scale() {
        let rows = Rows { values: vec![0.0; 6], len: 3 };
        let scales = scales_of(&rows, DType::I8, 3, Scaling { search: true, floor: &[0.0, 0.5], importance: None });
        assert_eq!(scales, [1.0, 1.0]);
        assert_eq!(scales_of(&Rows { values: vec![1e-44, 0.0], len: 2 }, DType::I8, 2, Scaling::default()), [1.0]);
    }
}
