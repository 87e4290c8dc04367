//! From observed numbers to a range, and from a range to scale and zero point.

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

/// Bins of a histogram: eight for each of the 256 steps that 8 bits have.
const BINS: usize = 2048;
/// Ranges that are tried per end.
const TRIALS: usize = 64;

/// How a range is read off the numbers that were seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Everything seen.
    MinMax,
    /// This percentage of what was seen, as much cut off at either end.
    Percentile(f64),
    /// The range whose rounded distribution is closest to the seen one, by relative entropy.
    Entropy,
    /// The range with the least mean squared error.
    Mse,
    /// The mean of the ends of each sample: a few samples of large numbers are cut off.
    Mean,
    /// [`Method::Mse`], unless the network's output clearly loses less by another one ([`Method::Entropy`] is not tried).
    Best,
}

/// A range of numbers; zero is always inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Smallest.
    pub lo: f64,
    /// Largest.
    pub hi: f64,
}

/// Scale and zero point of a whole tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Step; positive, normal, and so is its inverse.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero: i64,
    /// Stored type.
    pub dtype: DType,
}

impl Range {
    /// A range that has zero inside.
    pub fn new(lo: f64, hi: f64) -> Self {
        Self { lo: lo.min(0.0), hi: hi.max(0.0) }
    }

    /// The difference of its ends.
    pub fn width(&self) -> f64 {
        self.hi - self.lo
    }

    /// Scale and zero point. Symmetric ones have the middle of the type for zero.
    pub fn params(&self, dtype: DType, symmetric: bool) -> Params {
        let (low, high) = dtype.int_range().unwrap_or((-128, 127));
        let (low, high) = (low as f64, high as f64);
        if symmetric {
            let middle = ((low + high) / 2.0).ceil();
            let scale = usable(self.hi.max(-self.lo) / (high - middle));
            return Params { scale, zero: middle as i64, dtype };
        }
        let scale = usable(self.width() / (high - low));
        let zero = (low - self.lo / f64::from(scale)).round_ties_even().clamp(low, high);
        Params { scale, zero: zero as i64, dtype }
    }
}

/// A scale that can be divided by; what has no extent, or hardly any, gets 1.
pub fn usable(scale: f64) -> f32 {
    let scale = scale as f32;
    if scale.is_normal() && scale > 0.0 && scale.recip().is_normal() { scale } else { 1.0 }
}

impl Params {
    /// The number that a number is stored as.
    pub fn round_trip(&self, value: f64) -> f64 {
        let (low, high) = self.dtype.int_range().unwrap_or((-128, 127));
        let (scale, zero) = (f64::from(self.scale), self.zero as f64);
        let stored = ((value / scale).round_ties_even() + zero).clamp(low as f64, high as f64);
        (stored - zero) * scale
    }
}

/// What was seen of a value: first its ends, then how often which part of the range between them.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Smallest and largest number.
    pub ends: Range,
    /// Sums of the ends of every tensor.
    sums: Range,
    /// Tensors that were not empty.
    tensors: u64,
    /// Numbers seen; 0 for a value that is always empty.
    pub count: u64,
    bins: Vec<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        let none = Range { lo: 0.0, hi: 0.0 };
        Self { ends: none, sums: none, tensors: 0, count: 0, bins: Vec::new() }
    }
}

impl Seen {
    /// Takes the ends of a tensor in.
    ///
    /// # Errors
    /// Position and value of a number that is not finite.
    pub fn ends_of(&mut self, tensor: &Tensor) -> Result<(), (usize, f64)> {
        let mut at = 0;
        let mut own = Range { lo: 0.0, hi: 0.0 };
        for v in floats(tensor) {
            if !v.is_finite() {
                return Err((at, v));
            }
            own = Range { lo: own.lo.min(v), hi: own.hi.max(v) };
            at += 1;
        }
        self.ends = Range { lo: self.ends.lo.min(own.lo), hi: self.ends.hi.max(own.hi) };
        self.sums = Range { lo: self.sums.lo + own.lo, hi: self.sums.hi + own.hi };
        self.tensors += u64::from(at > 0);
        self.count += at as u64;
        Ok(())
    }

    /// Counts the numbers of a tensor whose ends were taken in.
    pub fn count_of(&mut self, tensor: &Tensor) {
        if self.bins.is_empty() {
            self.bins = vec![0; BINS];
        }
        let width = self.ends.width() / BINS as f64;
        if width > 0.0 {
            floats(tensor).for_each(|v| self.bins[bin(v, self.ends.lo, width)] += 1);
        }
    }

    /// The range for a stored type.
    pub fn range(&self, method: Method, dtype: DType, symmetric: bool) -> Range {
        if self.ends.width() <= 0.0 || self.bins.is_empty() {
            return self.ends;
        }
        match method {
            Method::MinMax => self.ends,
            Method::Percentile(percent) => self.percentile(percent),
            Method::Mse | Method::Best => self.search(|range| self.squared_error(&range.params(dtype, symmetric))),
            Method::Mean => {
                let tensors = self.tensors.max(1) as f64;
                Range { lo: self.sums.lo / tensors, hi: self.sums.hi / tensors }
            }
            Method::Entropy => self.search(|range| self.divergence(range, dtype)),
        }
    }

    fn middles(&self) -> impl Iterator<Item = (f64, f64)> {
        let width = self.ends.width() / BINS as f64;
        let middle = move |i: usize| self.ends.lo + (i as f64 + 0.5) * width;
        self.bins.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(i, &n)| (middle(i), n as f64))
    }

    fn percentile(&self, percent: f64) -> Range {
        let total: u64 = self.bins.iter().sum();
        let cut = (total as f64 * (100.0 - percent) / 200.0) as u64;
        let beyond = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            bins.take_while(|n| {
                sum += **n;
                sum <= cut
            })
            .count() as f64
        };
        let width = self.ends.width() / BINS as f64;
        let (low, high) = (beyond(&mut self.bins.iter()), beyond(&mut self.bins.iter().rev()));
        Range::new(self.ends.lo + low * width, self.ends.hi - high * width)
    }

    /// The best of shrunk ranges, one end after the other, twice.
    fn search(&self, cost: impl Fn(&Range) -> f64) -> Range {
        let mut best = (cost(&self.ends), self.ends);
        for _ in 0..2 {
            for upper in [true, false] {
                for step in 1..=TRIALS {
                    let part = step as f64 / TRIALS as f64;
                    let (lo, hi) =
                        if upper { (best.1.lo, self.ends.hi * part) } else { (self.ends.lo * part, best.1.hi) };
                    let trial = Range { lo, hi };
                    let found = cost(&trial);
                    if trial.width() > 0.0 && found < best.0 {
                        best = (found, trial);
                    }
                }
            }
        }
        best.1
    }

    fn squared_error(&self, params: &Params) -> f64 {
        self.middles().map(|(v, n)| n * (v - params.round_trip(v)).powi(2)).sum()
    }

    /// Relative entropy of the seen distribution, cut off at the range, to itself averaged over each step.
    fn divergence(&self, range: &Range, dtype: DType) -> f64 {
        let params = range.params(dtype, false);
        let steps = dtype.int_range().map_or(256, |(low, high)| usize::try_from(high - low + 1).unwrap_or(256));
        let step = |v: f64| bin(v, range.lo, f64::from(params.scale)).min(steps - 1);
        let (mut mass, mut kinds) = (vec![0.0; steps], vec![0.0; steps]);
        let total: f64 = self.middles().map(|(_, n)| n).sum();
        for (v, n) in self.middles().filter(|(v, _)| (range.lo..=range.hi).contains(v)) {
            mass[step(v)] += n;
            kinds[step(v)] += 1.0;
        }
        let mut cut = [0.0; 2];
        self.middles().for_each(|(v, n)| {
            if v < range.lo {
                cut[0] += n;
            } else if v > range.hi {
                cut[1] += n;
            }
        });
        let inside: f64 = mass.iter().sum();
        if inside <= 0.0 {
            return f64::INFINITY;
        }
        let mut inner: Vec<(f64, f64)> = self.middles().filter(|(v, _)| (range.lo..=range.hi).contains(v)).collect();
        // What is cut off piles up at the ends of the seen distribution, which the averaged one does not know of.
        if let Some(first) = inner.first_mut() {
            first.1 += cut[0];
        }
        if let Some(last) = inner.last_mut() {
            last.1 += cut[1];
        }
        let term = |&(v, n): &(f64, f64)| {
            let (p, q) = (n / total, mass[step(v)] / kinds[step(v)] / inside);
            p * (p / q).ln()
        };
        inner.iter().map(term).sum()
    }
}

fn bin(value: f64, lo: f64, width: f64) -> usize {
    // Saturates: a value at the upper end belongs to the last bin.
    (((value - lo) / width).max(0.0) as usize).min(BINS - 1)
}

/// The elements of an `f32` tensor, or of any other by way of `f64`.
pub fn floats(tensor: &Tensor) -> Box<dyn Iterator<Item = f64> + '_> {
    match tensor.dtype() {
        DType::F32 => Box::new(tensor.bytes().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into())),
        _ => Box::new(tensor.to_f64().into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(values: &[f32]) -> Seen {
        let tensor = Tensor::from_f32(&[values.len()], values);
        let mut seen = Seen::default();
        seen.ends_of(&tensor).unwrap();
        seen.count_of(&tensor);
        seen
    }

    const DTYPES: [DType; 4] = [DType::U8, DType::I8, DType::U16, DType::I16];
    const METHODS: [Method; 5] = [Method::MinMax, Method::Percentile(99.9), Method::Entropy, Method::Mse, Method::Mean];

    proptest! {
        #[test]
        fn numbers_of_a_range_come_back_within_half_a_step(
            lo in -1e3f64..10.0, width in 1e-6f64..1e4, at in 0.0f64..1.0, symmetric: bool,
        ) {
            let range = Range::new(lo, lo + width);
            for dtype in DTYPES {
                let params = range.params(dtype, symmetric);
                prop_assert_eq!(params.round_trip(0.0), 0.0);
                let v = range.lo + at * range.width();
                let step = f64::from(params.scale);
                // The zero point is rounded, so that an end may be half a step further out.
                prop_assert!((params.round_trip(v) - v).abs() <= step * 1.001, "{range:?} {params:?} {v}");
                let (low, high) = dtype.int_range().unwrap();
                prop_assert!((low..=high).contains(&params.zero.into()));
            }
        }

        #[test]
        fn ranges_lie_within_what_was_seen(values in prop::collection::vec(-5.0f32..7.0, 1..200)) {
            let seen = seen(&values);
            for method in METHODS {
                let range = seen.range(method, DType::U8, false);
                prop_assert!(range.lo <= 0.0 && range.hi >= 0.0, "{method:?} {range:?}");
                prop_assert!(range.lo >= seen.ends.lo && range.hi <= seen.ends.hi, "{method:?} {range:?}");
            }
        }
    }

    #[test]
    fn zero_points_at_both_ends() {
        let params = |lo, hi, dtype, symmetric| Range::new(lo, hi).params(dtype, symmetric);
        assert_eq!(params(0.0, 2.55, DType::U8, false).zero, 0);
        assert_eq!(params(-2.55, 0.0, DType::U8, false).zero, 255);
        assert_eq!(params(0.0, 2.55, DType::I8, false).zero, -128);
        assert_eq!(params(-2.55, -1.0, DType::I8, false).zero, 127);
        assert_eq!(params(-1.0, 0.5, DType::U8, true).zero, 128);
        assert_eq!(params(-1.0, 0.5, DType::I16, true).zero, 0);
        assert_eq!(params(0.0, 0.0, DType::U8, false), Params { scale: 1.0, zero: 0, dtype: DType::U8 });
        assert_eq!(params(0.0, 1e-44, DType::U8, false).scale, 1.0);
    }

    #[test]
    fn outliers_are_cut_off() {
        let mut values: Vec<f32> = (0..10_000).map(|i| (i % 100) as f32 / 100.0).collect();
        values.push(50.0);
        let seen = seen(&values);
        assert_eq!(seen.range(Method::MinMax, DType::U8, false).hi, 50.0);
        // One large number is worth many steps to the squared error, not to the distribution.
        for (method, most) in [(Method::Percentile(99.9), 1.1), (Method::Entropy, 40.0), (Method::Mse, 49.9)] {
            let range = seen.range(method, DType::U8, false);
            assert!(range.hi < most, "{method:?} {range:?}");
        }
    }

    #[test]
    fn a_sample_of_large_numbers_is_one_of_many() {
        let mut seen = Seen::default();
        for most in [1.0, 2.0, 1.0, 16.0] {
            let tensor = Tensor::from_f32(&[2], &[-most, most / 2.0]);
            seen.ends_of(&tensor).unwrap();
            seen.count_of(&tensor);
        }
        assert_eq!(seen.range(Method::Mean, DType::U8, false), Range { lo: -5.0, hi: 2.5 });
    }

    #[test]
    fn what_is_not_finite_is_found() {
        let tensor = Tensor::from_f32(&[3], &[1.0, f32::NEG_INFINITY, 2.0]);
        assert_eq!(Seen::default().ends_of(&tensor), Err((1, f64::NEG_INFINITY)));
    }
}
