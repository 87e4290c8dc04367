//! What a budget is measured by: how far the first output of a network is from that of the float network, and how often it
//! says what is true.

use std::fmt;
use std::str::FromStr;

use adze_ir::tensor::Tensor;

use super::ranges::floats;

/// What is held against a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of samples whose largest class is the label: how much smaller it may get. Without labels, what it is to lose by the float
    /// network's own shares of classes: where another class is the largest one, how much less likely that is.
    Top1,
    /// Share of positions whose largest class is another than that of the float network: how large it may get.
    Flips,
    /// Signal to noise ratio in dB: how small it may get.
    Sqnr,
}

/// A metric and its bound: `top1=0.5%`, `flips=1%`, `sqnr=30dB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// What is measured.
    pub metric: Metric,
    /// A share, or dB.
    pub limit: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found `{text}`, accepted: `top1=0.5%`, `flips=1%` or `sqnr=30dB`");
        let (name, number) = text.split_once('=').ok_or_else(wrong)?;
        let (metric, unit) = match name {
            "top1" => (Metric::Top1, "%"),
            "flips" => (Metric::Flips, "%"),
            "sqnr" => (Metric::Sqnr, "dB"),
            _ => return Err(wrong()),
        };
        let value: f64 = number.strip_suffix(unit).and_then(|n| n.trim().parse().ok()).ok_or_else(wrong)?;
        let limit = if unit == "%" { value / 100.0 } else { value };
        if !limit.is_finite() || (unit == "%" && !(0.0..=1.0).contains(&limit)) {
            Err(wrong())
        } else {
            Ok(Self { metric, limit })
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(self.limit))
    }
}

impl Bound {
    /// A value of the metric, as text.
    pub fn show(&self, value: f64) -> String {
        match self.metric {
            Metric::Top1 => format!("top1={:.2}%", 100.0 * value),
            Metric::Flips => format!("flips={:.2}%", 100.0 * value),
            Metric::Sqnr => format!("sqnr={value:.1}dB"),
        }
    }

    /// A share of what may be lost, of noise where that is measured.
    pub fn share(&self, share: f64) -> Self {
        let limit = match self.metric {
            Metric::Sqnr => self.limit - 10.0 * share.log10(),
            Metric::Top1 | Metric::Flips => self.limit * share,
        };
        Self { limit, ..*self }
    }

    /// Whether outputs keep the bound. Counted samples and positions keep one of less than one of them by losing one at most: so few
    /// do not tell less.
    pub fn holds(&self, score: &Score) -> bool {
        let value = score.value(self.metric);
        match self.metric {
            Metric::Sqnr => value >= self.limit,
            Metric::Top1 | Metric::Flips => value <= self.limit.max(score.one(self.metric)),
        }
    }

    /// Whether the outputs that formats are chosen by keep the bound, and those of samples that are held back do not show that it is
    /// broken: what these lose of classes is beyond it by a standard error at most.
    pub fn kept_by(&self, [chosen, held]: &[Score; 2]) -> bool {
        let shows = held.value(self.metric) - held.error(self.metric) > self.limit;
        self.holds(chosen) && (self.holds(held) || (self.metric != Metric::Sqnr && !shows))
    }
}

/// Outputs held against those of a reference, sample after sample.
#[derive(Clone, Debug, Default)]
pub struct Score {
    signal: f64,
    noise: f64,
    entropy: f64,
    rows: f64,
    flips: f64,
    /// What is to lose by the reference's own shares, and its square.
    expected: f64,
    expected_squares: f64,
    /// Samples with a label.
    labelled: f64,
    right: [f64; 2],
    /// Samples that are right in one of both.
    changed: f64,
}

impl Score {
    /// Takes the outputs of a sample in; `axis` is that of the classes, the last one where it is none.
    pub fn take(&mut self, reference: &Tensor, found: &Tensor, axis: Option<usize>, label: Option<i64>) {
        for (a, b) in floats(reference).zip(floats(found)) {
            self.signal += a * a;
            self.noise += (a - b) * (a - b);
        }
        let (before, after) = (rows(reference, axis), rows(found, axis));
        for (a, b) in before.iter().zip(&after) {
            let (p, q) = (log_shares(a), log_shares(b));
            self.entropy += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            self.rows += 1.0;
            self.flips += f64::from(u8::from(largest(a) != largest(b)));
            let share = |row: &[f64]| largest(row).map_or(0.0, |class| p[class].exp());
            let lost = share(a) - share(b);
            self.expected += lost;
            self.expected_squares += lost * lost;
        }
        if let (Some(label), Some(a), Some(b)) = (label, before.first(), after.first()) {
            let right =
                |row: &[f64]| f64::from(u8::from(largest(row).and_then(|c| i64::try_from(c).ok()) == Some(label)));
            self.labelled += 1.0;
            let both = [right(a), right(b)];
            self.right = [self.right[0] + both[0], self.right[1] + both[1]];
            self.changed += (both[0] - both[1]).abs();
        }
    }

    /// The value of a metric: the loss in share for [`Metric::Top1`], a share, or dB.
    pub fn value(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Top1 if self.labelled > 0.0 => (self.right[0] - self.right[1]) / self.labelled,
            Metric::Top1 => self.expected / self.rows.max(1.0),
            Metric::Flips => self.flips / self.rows.max(1.0),
            Metric::Sqnr if self.noise == 0.0 => f64::INFINITY,
            Metric::Sqnr => 10.0 * (self.signal / self.noise).log10(),
        }
    }

    /// The standard error of the value of a metric of classes; none of dB.
    fn error(&self, metric: Metric) -> f64 {
        let (sum, squares, count) = match metric {
            Metric::Top1 if self.labelled > 0.0 => (self.right[0] - self.right[1], self.changed, self.labelled),
            Metric::Top1 => (self.expected, self.expected_squares, self.rows),
            Metric::Flips => (self.flips, self.flips, self.rows),
            Metric::Sqnr => return 0.0,
        };
        let count = count.max(1.0);
        ((squares / count - (sum / count).powi(2)).max(0.0) / count).sqrt()
    }

    /// What one of those that a metric counts is worth.
    fn one(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Top1 if self.labelled > 0.0 => 1.0 / self.labelled,
            Metric::Flips if self.rows > 0.0 => 1.0 / self.rows,
            _ => 0.0,
        }
    }

    /// A smooth loss that goes with a metric: the mean relative entropy for classes, otherwise noise over signal.
    pub fn loss(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Top1 | Metric::Flips => (self.entropy / self.rows.max(1.0)).max(0.0),
            Metric::Sqnr => self.noise / self.signal.max(f64::MIN_POSITIVE),
        }
    }
}

/// What outputs are judged by where nothing was asked for: the relative entropy where an axis of classes was named or all rows are
/// shares of classes, the noise otherwise.
pub fn judged_by(reference: &[Tensor], axis: Option<usize>) -> Metric {
    let shares = !reference.is_empty() && reference.iter().flat_map(|r| rows(r, axis)).all(|row| are_shares(&row));
    if axis.is_some() || shares { Metric::Flips } else { Metric::Sqnr }
}

/// The list of numbers with the least mean, where that is less than the mean of the first list by more than so many standard errors of
/// the difference, and otherwise the first.
pub fn clearly_least(lists: &[Vec<f64>], errors: f64) -> usize {
    let sum = |list: &Vec<f64>| list.iter().sum::<f64>();
    let least = (0..lists.len()).min_by(|&a, &b| sum(&lists[a]).total_cmp(&sum(&lists[b]))).unwrap_or(0);
    let gains: Vec<f64> = lists[0].iter().zip(&lists[least]).map(|(first, other)| first - other).collect();
    let count = gains.len().max(1) as f64;
    let mean = gains.iter().sum::<f64>() / count;
    let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    if mean > errors * (variance / count).sqrt() { least } else { 0 }
}

/// The numbers of a tensor with the classes last, a row per position.
fn rows(tensor: &Tensor, axis: Option<usize>) -> Vec<Vec<f64>> {
    let (shape, values) = (tensor.shape(), tensor.to_f64());
    let axis = axis.unwrap_or(shape.len().saturating_sub(1));
    let Some(&classes) = shape.get(axis) else { return vec![values] };
    let inner: usize = shape[axis + 1..].iter().product();
    let count = values.len().checked_div(classes).unwrap_or(0);
    let row = |r: usize| (0..classes).map(|c| values[(r / inner * classes + c) * inner + r % inner]).collect();
    (0..count).map(row).collect()
}

fn largest(row: &[f64]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)))
}

fn are_shares(row: &[f64]) -> bool {
    row.len() > 1 && row.iter().all(|v| *v >= 0.0) && (row.iter().sum::<f64>() - 1.0).abs() < 0.01
}

/// Logarithms of the shares that a row stands for, which is made of shares itself or of their logarithms up to a constant.
fn log_shares(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().sum();
    if are_shares(row) {
        return row.iter().map(|v| (v.max(1e-6) / sum).ln()).collect();
    }
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = row.iter().map(|v| (v - most).exp()).sum::<f64>().ln();
    row.iter().map(|v| v - most - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_read_and_print() {
        for text in ["top1=0.50%", "flips=1.00%", "sqnr=30.0dB"] {
            assert_eq!(text.parse::<Bound>().unwrap().to_string(), text);
        }
        for text in ["top1", "top1=1", "flips=101%", "flips=-1%", "sqnr=nandB", "auc=1%", "sqnr=3%"] {
            assert!(text.parse::<Bound>().unwrap_err().contains("accepted"), "{text}");
        }
    }

    #[test]
    fn scores_count_classes_along_their_axis() {
        let tensor = |values: &[f32]| Tensor::from_f32(&[1, 2, 3], values);
        let (a, b) = (tensor(&[1.0, 0.0, 5.0, 0.0, 2.0, 1.0]), tensor(&[1.0, 0.0, 0.0, 0.0, 2.0, 1.0]));
        let mut score = Score::default();
        score.take(&a, &b, Some(1), Some(0));
        assert_eq!(score.value(Metric::Flips), 1.0 / 3.0);
        assert_eq!(score.value(Metric::Top1), 0.0);
        assert!((score.value(Metric::Sqnr) - 10.0 * (31.0f64 / 25.0).log10()).abs() < 1e-12);
        let mut last = Score::default();
        last.take(&a, &b, None, Some(2));
        assert_eq!((last.value(Metric::Flips), last.value(Metric::Top1)), (0.5, 1.0));
        assert!(last.loss(Metric::Flips) > 0.0 && score.loss(Metric::Sqnr) > 0.8);
    }

    /// One flip of forty that are held back may be chance; one of the samples that formats are chosen by is beyond a bound of 1 % too.
    #[test]
    fn held_back_samples_break_a_bound_by_more_than_a_standard_error() {
        let (a, b) = (Tensor::from_f32(&[1, 2], &[0.8, 0.2]), Tensor::from_f32(&[1, 2], &[0.3, 0.7]));
        let scored = |flips: usize, label: Option<i64>| {
            let mut score = Score::default();
            (0..40).for_each(|at| score.take(&a, if at < flips { &b } else { &a }, None, label));
            score
        };
        let kept = |text: &str, chosen: usize, held: usize, label| {
            text.parse::<Bound>().unwrap().kept_by(&[scored(chosen, label), scored(held, label)])
        };
        for (text, label) in [("top1=1%", None), ("top1=1%", Some(0)), ("flips=1%", None)] {
            let held = [0, 1, 2, 3].map(|flips| kept(text, 0, flips, label));
            let few = text == "top1=1%" && label.is_none();
            assert_eq!(held, [true, true, few, false], "{text} {label:?}");
            // Counted ones allow one of them.
            assert_eq!(kept(text, 1, 0, label), !few);
            assert!(!kept(text, 2, 0, label));
        }
        assert!(!kept("sqnr=30dB", 0, 1, None) && kept("sqnr=30dB", 0, 0, None));
    }

    /// Of classes with shares of 0.6, 0.3 and 0.1 the second for the first costs 0.3 of a right answer; with labels, one is counted.
    #[test]
    fn what_is_lost_without_labels_is_what_the_reference_expects() {
        let tensor = |values: &[f32]| Tensor::from_f32(&[1, 3], values);
        let (a, b, same) = (tensor(&[0.6, 0.3, 0.1]), tensor(&[0.4, 0.5, 0.1]), tensor(&[0.5, 0.4, 0.1]));
        let scored = |label: Option<i64>| {
            let mut score = Score::default();
            score.take(&a, &same, None, label);
            score.take(&a, &b, None, label);
            score
        };
        let holds = |text: &str, label| text.parse::<Bound>().unwrap().holds(&scored(label));
        assert!((scored(None).value(Metric::Top1) - 0.15).abs() < 1e-6);
        assert!(holds("top1=16%", None) && !holds("top1=14%", None));
        // One of two is as little as two samples tell.
        assert!(holds("top1=1%", Some(0)) && holds("flips=1%", None));
        assert_eq!([Some(0), Some(1)].map(|label| scored(label).value(Metric::Top1)), [0.5, -0.5]);
        let mut worse = scored(Some(0));
        worse.take(&a, &b, None, Some(0));
        assert!(
            !"top1=34%".parse::<Bound>().unwrap().holds(&worse) && !"flips=1%".parse::<Bound>().unwrap().holds(&worse)
        );
    }

    #[test]
    fn shares_and_their_logarithms_are_the_same() {
        let shares = [0.7, 0.2, 0.1];
        let logs: Vec<f64> = shares.iter().map(|v: &f64| v.ln() + 3.0).collect();
        for (a, b) in log_shares(&shares).iter().zip(log_shares(&logs)) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_better_by_chance_is_not_taken() {
        let noisy = vec![vec![1.0, 1.2, 5.0, 0.9], vec![1.1, 1.1, 1.0, 1.0], vec![2.0; 4]];
        assert_eq!([clearly_least(&noisy, 2.0), clearly_least(&noisy, 0.5)], [0, 1]);
        let clear = vec![vec![1.0, 1.2, 5.0, 0.9], vec![2.0; 4], vec![0.1, 0.2, 2.0, 0.1]];
        assert_eq!(clearly_least(&clear, 2.0), 2);
        assert_eq!(clearly_least(&[vec![2.0], vec![1.0]], 2.0), 1);
        assert_eq!(clearly_least(&[vec![f64::NAN], vec![f64::NAN]], 2.0), 0);
    }
}
