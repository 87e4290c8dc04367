//! Rounding with error feedback: what rounding one weight costs is made up for by those that are rounded after it.
//!
//! For a row `w` and rounded `q`, the error of a product over operands `x` is `(w - q) · H · (w - q)` with `H = Σ x·xᵀ`.
//! Weights are rounded one by one, those with the largest operands first; the rest moves to where the error is least. With
//! `U` the upper Cholesky factor of `H⁻¹` that is `w[j] -= (w[i] - q[i]) / U[i][i] · U[i][j]`, as in GPTQ (Frantar et al., 2022).

use adze_ir::types::DType;

use super::moments::Moments;
use super::weights::{Rows, Stored, largest};

/// Share of the mean diagonal that is added to it, so that operands that never vary do no harm.
const DAMPING: f64 = 0.01;

/// Rounds rows to integers of these scales with error feedback.
pub fn round_feedback(rows: &Rows, moments: &Moments, scales: Vec<f32>, dtype: DType, block: usize) -> Stored {
    let (len, outputs) = (rows.len, rows.count());
    let blocks = len.div_ceil(block.max(1)).max(1);
    let high = largest(dtype);
    let mut ints = vec![0i128; rows.values.len()];
    let each = outputs / moments.matrices.len().max(1);
    for (group, matrix) in moments.matrices.iter().enumerate() {
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
    use proptest::prelude::*;

    use super::super::weights::{Scaling, round_nearest, scales_of};
    use super::*;

    /// `Σ (w·x - q·x)²` over rows, from the moments.
    fn loss(rows: &Rows, stored: &Stored, moments: &Moments) -> f64 {
        let real = stored.real(rows.len);
        let matrix = &moments.matrices[0];
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
        let mut moments = Moments::new(len, 1, true);
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
            let order = by_size(&moments.matrices[0], len);
            let upper = feedback_factor(&moments.matrices[0], len, &order);
            let at = |i: usize, j: usize| moments.matrices[0][i.max(j) * len + i.min(j)];
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
}
