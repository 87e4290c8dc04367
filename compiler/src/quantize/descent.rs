//! Rounding learned by reconstruction: integers and scales of a row that lose least on the operands that samples show.
//!
//! What a row loses is `d · H · d` for `d = w - s · q` and `H = Σ x·xᵀ` (see [`super::feedback`]), the error of the layer's output
//! that learned rounding (AdaRound, Nagel et al., 2020) descends along. With the integers of all other positions given, the best
//! one of a position is the nearest to where its slope ends; with all integers given, the best scale of a block is that of a
//! line. Taken in turns, neither ever loses.

use super::ranges::usable;

/// Turns of integers and scales.
const TURNS: usize = 3;
/// Passes over the integers of a row per turn.
const PASSES: usize = 8;

/// A row on its way.
pub struct Row<'a> {
    /// What it should be.
    pub aim: &'a [f64],
    /// `Σ x·xᵀ`, symmetric, row-major.
    pub matrix: &'a [f64],
    /// Numbers that share a scale.
    pub block: usize,
    /// Largest magnitude of an integer.
    pub high: f64,
    /// Smallest scale.
    pub floor: f64,
}

impl Row<'_> {
    /// Improves integers and scales.
    pub fn descend(&self, ints: &mut [i128], scales: &mut [f32]) {
        let len = self.aim.len();
        let mut q: Vec<f64> = ints.iter().map(|&q| q as f64).collect();
        for turn in 0..TURNS {
            let scale = |k: usize| f64::from(scales[k / self.block]);
            let errors: Vec<f64> = (0..len).map(|k| self.aim[k] - q[k] * scale(k)).collect();
            let mut slopes = self.times(&errors, 0..len);
            let moved = (0..PASSES).take_while(|_| self.step(&mut q, &mut slopes, &scale)).count() > 0;
            if turn + 1 == TURNS || (turn > 0 && !moved) {
                break;
            }
            self.fit(&q, &mut slopes, scales);
        }
        ints.iter_mut().zip(q).for_each(|(to, q)| *to = q as i128);
    }

    /// The matrix times a vector that is zero outside of `part`.
    fn times(&self, vector: &[f64], part: std::ops::Range<usize>) -> Vec<f64> {
        let len = self.aim.len();
        let mut sums = vec![0.0; len];
        for k in part.filter(|&k| vector[k] != 0.0) {
            let row = &self.matrix[k * len..][..len];
            sums.iter_mut().zip(row).for_each(|(sum, h)| *sum += vector[k] * h);
        }
        sums
    }

    /// Moves every integer to where its slope ends; whether one moved.
    fn step(&self, q: &mut [f64], slopes: &mut [f64], scale: &dyn Fn(usize) -> f64) -> bool {
        let len = self.aim.len();
        let mut moved = false;
        for k in 0..len {
            let (row, s) = (&self.matrix[k * len..][..len], scale(k));
            let best = (q[k] + slopes[k] / (row[k] * s)).round_ties_even().clamp(-self.high, self.high);
            if row[k] > 0.0 && best.is_finite() && best != q[k] {
                let change = (best - q[k]) * s;
                slopes.iter_mut().zip(row).for_each(|(slope, h)| *slope -= change * h);
                q[k] = best;
                moved = true;
            }
        }
        moved
    }

    /// Moves every scale to where it loses least.
    fn fit(&self, q: &[f64], slopes: &mut [f64], scales: &mut [f32]) {
        let len = self.aim.len();
        for (block, scale) in scales.iter_mut().enumerate() {
            let part = block * self.block..((block + 1) * self.block).min(len);
            let along = self.times(q, part.clone());
            let dot = |other: &[f64]| part.clone().map(|k| q[k] * other[k]).sum::<f64>();
            let (slope, bend) = (dot(slopes), dot(&along));
            let old = f64::from(*scale);
            let best = old + slope / bend;
            if bend > 0.0 && best.is_finite() && best >= self.floor && (0.5 * old..2.0 * old).contains(&best) {
                *scale = usable(best);
                let change = f64::from(*scale) - old;
                slopes.iter_mut().zip(&along).for_each(|(slope, h)| *slope -= change * h);
            }
        }
    }
}
