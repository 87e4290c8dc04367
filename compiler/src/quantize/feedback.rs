//! Rounding with error feedback: what rounding one weight costs is made up for by those that are rounded after it.
//!
//! For a row `w` and rounded `q`, the error of a product over operands `x` is `(w - q) · H · (w - q)` with `H = Σ x·xᵀ`.
//! Weights are rounded one by one, those with the largest operands first; the rest moves to where the error is least. With
//! `U` the upper Cholesky factor of `H⁻¹` that is `w[j] -= (w[i] - q[i]) / U[i][i] · U[i][j]`, as in GPTQ (Frantar et al., 2022).

use adze_ir::types::DType;

use super::descent::Row;
use super::moments::Moments;
use super::weights::{Rows, Stored, largest, round_nearest};

/// Share of the mean diagonal that is added to it, so that operands that never vary do no harm.
const DAMPING: f64 = 0.01;
/// The same where weights are moved to make up for earlier layers: less, and they follow the noise of the samples.
const AIM_DAMPING: f64 = 1.0;

/// Rounds rows to integers of these scales with error feedback; a row that loses less to nearest is rounded to nearest. With
/// `learn`, integers and scales descend from there ([`super::descent`]), no scale below the floor of its row.
pub fn round_feedback(
    rows: &Rows,
    moments: &Moments,
    scales: Vec<f32>,
    (dtype, block): (DType, usize),
    learn: Option<&[f64]>,
) -> Stored {
    let len = rows.len;
    let mut stored = round_nearest(rows, scales, dtype, block);
    let blocks = len.div_ceil(stored.block).max(1);
    let each = rows.count() / moments.matrices.len().max(1);
    for (group, matrix) in moments.matrices.iter().enumerate() {
        let order = by_size(matrix, len);
        let factor = feedback_factor(matrix, len, &order);
        let whole = learn.map(|_| symmetric(matrix, len));
        for row in group * each..(group + 1) * each {
            let scale = |k: usize| f64::from(stored.scales[row * blocks + k / stored.block]);
            let w = rows.row(row);
            let fed = feed_back(w, &factor, &order, &scale, largest(dtype));
            let lost = |ints: &[i128]| {
                let errors: Vec<f64> = (0..len).map(|k| w[k] - ints[k] as f64 * scale(k)).collect();
                loss(matrix, &errors)
            };
            if lost(&fed) < lost(&stored.ints[row * len..][..len]) {
                stored.ints[row * len..][..len].copy_from_slice(&fed);
            }
            if let (Some(floor), Some(matrix)) = (learn, &whole) {
                let floor = floor.get(row).copied().unwrap_or(0.0);
                let on_its_way = Row { aim: w, matrix, block: stored.block, high: largest(dtype), floor };
                let scales = &mut stored.scales[row * blocks..][..blocks];
                on_its_way.descend(&mut stored.ints[row * len..][..len], scales);
            }
        }
    }
    stored
}

/// The integers of one row, in its own order.
fn feed_back(row: &[f64], factor: &[f64], order: &[usize], scale: &dyn Fn(usize) -> f64, high: f64) -> Vec<i128> {
    let len = row.len();
    let mut ints = vec![0; len];
    let mut w: Vec<f64> = order.iter().map(|&k| row[k]).collect();
    for i in 0..len {
        let scale = scale(order[i]);
        let q = (w[i] / scale).round_ties_even().clamp(-high, high);
        ints[order[i]] = q as i128;
        let lost = (w[i] - q * scale) / factor[i * len + i];
        let (feedback, rest) = (&factor[i * len + i + 1..(i + 1) * len], &mut w[i + 1..]);
        rest.iter_mut().zip(feedback).for_each(|(w, f)| *w -= lost * f);
    }
    ints
}

/// What errors of a row cost: `d · H · d`, from the lower triangle.
fn loss(matrix: &[f64], errors: &[f64]) -> f64 {
    let len = errors.len();
    let term = |i: usize| {
        let row = &matrix[i * len..][..i];
        let below: f64 = row.iter().zip(errors).map(|(h, d)| h * d).sum();
        errors[i] * (2.0 * below + matrix[i * len + i] * errors[i])
    };
    (0..len).map(term).sum()
}

/// Where the rows of weights should be, for the operands of a rounded network to give what those of the float network give: the
/// least squares `(Σ x·xᵀ)⁻¹ · Σ x·yᵀ · w`, held near `w` where operands do not vary. None where `y` is `x`.
pub fn aims(rows: &Rows, moments: &Moments) -> Option<Rows> {
    let (len, groups) = (rows.len, moments.cross.len());
    let each = rows.count() / groups.max(1);
    let mut values = Vec::new();
    for (matrix, cross) in moments.matrices.iter().zip(&moments.cross) {
        let damping = damping_of(matrix, len, AIM_DAMPING);
        let lower = cholesky(&|i, j| matrix[i * len + j], len, damping);
        for row in values.len() / len..values.len() / len + each {
            let w = rows.row(row);
            let dot = |i: usize| cross[i * len..][..len].iter().zip(w).map(|(c, w)| c * w).sum::<f64>();
            values.extend(solve(&lower, (0..len).map(|i| dot(i) + damping * w[i]).collect()));
        }
    }
    (groups > 0 && values.iter().all(|v| v.is_finite())).then_some(Rows { values, len })
}

/// The solution of `L·Lᵀ·x = b`.
fn solve(lower: &[f64], mut b: Vec<f64>) -> Vec<f64> {
    let len = b.len();
    for i in 0..len {
        let row = &lower[i * len..][..i];
        let sum: f64 = row.iter().zip(&b).map(|(l, x)| l * x).sum();
        b[i] = (b[i] - sum) / lower[i * len + i];
    }
    for i in (0..len).rev() {
        b[i] /= lower[i * len + i];
        let (x, row) = (b[i], &lower[i * len..][..i]);
        b.iter_mut().zip(row).for_each(|(b, l)| *b -= l * x);
    }
    b
}

/// A matrix of which the lower triangle is known, damped.
fn symmetric(matrix: &[f64], len: usize) -> Vec<f64> {
    let damping = damping_of(matrix, len, DAMPING);
    let at = |i: usize, j: usize| matrix[i.max(j) * len + i.min(j)] + if i == j { damping } else { 0.0 };
    (0..len * len).map(|k| at(k / len, k % len)).collect()
}

fn damping_of(matrix: &[f64], len: usize, share: f64) -> f64 {
    let damping = share * (0..len).map(|i| matrix[i * len + i]).sum::<f64>() / len.max(1) as f64;
    // Operands that are always zero leave nothing: any positive number keeps the matrix regular.
    if damping > 0.0 { damping } else { 1.0 }
}

/// The lower Cholesky factor of a damped matrix, of which `at` gives the lower triangle.
fn cholesky(at: &dyn Fn(usize, usize) -> f64, len: usize, damping: f64) -> Vec<f64> {
    let mut lower = vec![0.0; len * len];
    for i in 0..len {
        for j in 0..=i {
            let (head, tail) = lower.split_at(i * len);
            let row_j = if j == i { &tail[..j] } else { &head[j * len..][..j] };
            let sum: f64 = tail[..j].iter().zip(row_j).map(|(a, b)| a * b).sum();
            let value = at(i, j) - sum;
            lower[i * len + j] =
                if i == j { (value + damping).max(damping * 1e-3).sqrt() } else { value / lower[j * len + j] };
        }
    }
    lower
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
    // Backwards, so that the triangle comes out on the other side.
    let reversed = |i: usize| order[len - 1 - i];
    let lower = cholesky(&|i, j| at(reversed(i), reversed(j)), len, damping_of(matrix, len, DAMPING));
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

    use super::super::weights::{Scaling, scales_of};
    use super::*;

    /// `Σ (w·x - q·x)²` over rows.
    fn total(rows: &Rows, stored: &Stored, moments: &Moments) -> f64 {
        let real = stored.real(rows.len);
        let errors: Vec<f64> = rows.values.iter().zip(real).map(|(w, r)| w - r).collect();
        errors.chunks(rows.len).map(|errors| loss(&moments.matrices[0], errors)).sum()
    }

    fn of_vectors(vectors: &[Vec<f64>], len: usize) -> Moments {
        let mut moments = Moments::new(len, 1, true);
        vectors.iter().for_each(|x| moments.add(0, x, None));
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
            let nearest = total(&rows, &round_nearest(&rows, scales.clone(), dtype, block), &moments);
            let fed = total(&rows, &round_feedback(&rows, &moments, scales.clone(), (dtype, block), None), &moments);
            assert!(fed < 0.5 * nearest, "{dtype} {block}: {fed} and {nearest}");
            let learned = total(&rows, &round_feedback(&rows, &moments, scales, (dtype, block), Some(&[])), &moments);
            assert!(learned < 0.95 * fed, "{dtype} {block}: {learned} and {fed}");
        }
    }

    /// Operands that rounded layers have made half as large are made up for by larger weights.
    #[test]
    fn aims_make_up_for_what_was_lost_before() {
        let mut random = fastrand::Rng::with_seed(4);
        let rows = Rows { values: (0..6).map(|_| random.f64() - 0.5).collect(), len: 3 };
        let mut moments = Moments::new(3, 1, true);
        for _ in 0..60 {
            let y: Vec<f64> = (0..3).map(|_| random.f64() - 0.5).collect();
            let x: Vec<f64> = y.iter().map(|v| v / 2.0).collect();
            moments.add(0, &x, Some(&y));
        }
        // Halfway, since the damping is as large as the moments of operands that go their own ways.
        for (aim, w) in aims(&rows, &moments).unwrap().values.iter().zip(&rows.values) {
            assert!((aim - 1.5 * w).abs() < 0.1, "{aim} {w}");
        }
        assert!(aims(&rows, &of_vectors(&[vec![1.0; 3]], 3)).is_none());
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
                let stored = round_feedback(&rows, &moments, scales.clone(), (DType::I8, 6), None);
                let nearest = round_nearest(&rows, scales, DType::I8, 6);
                prop_assert!(total(&rows, &stored, &moments) <= total(&rows, &nearest, &moments) + 1e-9);
                prop_assert!(stored.ints.iter().all(|q| q.abs() <= 127));
            }
        }
    }
}
