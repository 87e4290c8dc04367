//! What weights learn from, end to end: samples in an order drawn with a fixed seed, mixtures of two among them, and what the
//! float network makes of them.
//!
//! A teacher that is a network has an answer to everything, also to a point between two samples (mixup; Beyer et al., 2022, "A good
//! teacher is patient and consistent"). So a few hundred samples are many lessons, where inputs are floats. Ids of tokens have
//! nothing between them: such samples stay as they are.

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::ranges::floats;
use super::samples::Samples;

/// Samples per step.
pub(super) const BATCH: usize = 8;
/// One of so many samples is held back.
const HELD: usize = 8;
/// Draws the order of samples, and mixtures.
const SEED: u64 = 1;

/// Samples to learn from, and those that are held back.
pub(super) fn halves(count: usize) -> [Vec<usize>; 2] {
    let (mut train, mut held): (Vec<usize>, Vec<usize>) = (0..count).partition(|index| index % HELD != HELD / 2);
    if held.is_empty() && train.len() > 1 {
        held.extend(train.pop());
    }
    [train, held]
}

/// The samples that weights are made from: all but those that are held back, which judge what layers had made of these too.
pub fn learners(samples: &Samples) -> Samples {
    let [train, _] = halves(samples.inputs.len());
    let inputs = train.iter().map(|&index| samples.inputs[index].clone()).collect();
    Samples { inputs, names: train.iter().filter_map(|&index| samples.names.get(index).cloned()).collect() }
}

/// A sample, or so much of it and the rest of another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lesson {
    pub(super) sample: usize,
    pub(super) other: Option<(usize, f64)>,
}

impl Lesson {
    /// A sample as it is.
    pub(super) fn plain(sample: usize) -> Self {
        Self { sample, other: None }
    }

    /// What the network is given.
    pub(super) fn inputs(&self, samples: &Samples) -> Vec<Tensor> {
        let own = &samples.inputs[self.sample];
        let Some((other, share)) = self.other else { return own.clone() };
        let mixed = |(a, b): (&Tensor, &Tensor)| {
            let values = floats(a).zip(floats(b)).map(|(a, b)| (share * a + (1.0 - share) * b) as f32);
            Tensor::from_f32(a.shape(), &values.collect::<Vec<_>>())
        };
        own.iter().zip(&samples.inputs[other]).map(mixed).collect()
    }
}

/// Draws lessons.
pub(super) struct Lessons {
    train: Vec<usize>,
    /// Those that are still to come in this round.
    order: Vec<usize>,
    random: fastrand::Rng,
    /// Whether there is something between two samples.
    mixes: bool,
}

impl Lessons {
    pub(super) fn new(samples: &Samples, train: Vec<usize>) -> Self {
        let mixable = |inputs: &Vec<Tensor>| {
            inputs.iter().zip(&samples.inputs[0]).all(|(a, b)| a.dtype() == DType::F32 && a.ty() == b.ty())
        };
        let mixes = samples.inputs.iter().all(mixable);
        Self { train, order: Vec::new(), random: fastrand::Rng::with_seed(SEED), mixes }
    }

    /// The lessons of a step: samples in an order that has each once before one comes again, half of them mixed with another one.
    pub(super) fn draw(&mut self) -> Vec<Lesson> {
        let mut batch: Vec<Lesson> = Vec::new();
        while batch.len() < BATCH.min(self.train.len()) {
            if self.order.is_empty() {
                self.order.clone_from(&self.train);
                self.random.shuffle(&mut self.order);
            }
            batch.extend(self.order.pop().map(Lesson::plain));
        }
        for lesson in batch.iter_mut().filter(|_| self.mixes) {
            let mixture = (self.train[self.random.usize(..self.train.len())], self.random.f64());
            lesson.other = self.random.bool().then_some(mixture);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(dtype: DType, count: usize) -> Samples {
        let sample = |i: usize| vec![Tensor::from_f64(dtype, &[2], &[i as f64, 10.0 * i as f64])];
        Samples { inputs: (0..count).map(sample).collect(), names: (0..count).map(|i| i.to_string()).collect() }
    }

    /// Every sample once before one comes again; a mixture lies between its two samples, none of which is held back.
    #[test]
    fn floats_are_mixed() {
        let samples = samples(DType::F32, 20);
        let [train, held] = halves(20);
        assert_eq!((train.len(), held.as_slice()), (18, [4, 12].as_slice()));
        assert_eq!(learners(&samples).inputs.len(), 18);
        let mut lessons = Lessons::new(&samples, train.clone());
        let drawn: Vec<Lesson> = (0..9).flat_map(|_| lessons.draw()).collect();
        for round in drawn.chunks(18) {
            let mut seen: Vec<usize> = round.iter().map(|lesson| lesson.sample).collect();
            seen.sort_unstable();
            assert_eq!(seen, train);
        }
        let mixed: Vec<_> = drawn.iter().filter_map(|lesson| Some((lesson, lesson.other?))).collect();
        assert!((24..48).contains(&mixed.len()), "{}", mixed.len());
        for (lesson, (other, share)) in mixed {
            let numbers = lesson.inputs(&samples)[0].to_f64();
            let wanted = share * lesson.sample as f64 + (1.0 - share) * other as f64;
            assert!(
                train.contains(&other)
                    && (numbers[0] - wanted).abs() < 1e-5
                    && (numbers[1] - 10.0 * wanted).abs() < 1e-4
            );
        }
    }

    #[test]
    fn tokens_and_other_lengths_are_not_mixed() {
        let tokens = samples(DType::I64, 8);
        let mut lengths = samples(DType::F32, 8);
        lengths.inputs[3] = vec![Tensor::from_f32(&[1], &[1.0])];
        for samples in [tokens, lengths] {
            let drawn = Lessons::new(&samples, (0..8).collect()).draw();
            assert!(drawn.len() == BATCH && drawn.iter().all(|lesson| lesson.other.is_none()));
            assert_eq!(drawn[0].inputs(&samples), samples.inputs[drawn[0].sample]);
        }
    }
}
