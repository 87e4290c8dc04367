//! Steps against a gradient whose lengths do not depend on its size (Adam, Kingma and Ba, 2015), shorter and shorter.

/// Shares of the past in Adam's means of gradients and of their squares.
const MEMORY: [f64; 2] = [0.9, 0.99];
/// How far a number goes at most, in scales. The steps that there are share it.
const WAY: f64 = 8.0;
/// First step of a number at most, in scales; steps go to zero along half a wave.
const RATE: f64 = 8e-3;
/// How strongly a number is drawn to the integer that it rounds to in the end, in steps for a scale's distance.
const PULL: f64 = 0.5;

/// Adam's means.
#[derive(Clone, Debug)]
pub(super) struct Past {
    mean: Vec<f64>,
    square: Vec<f64>,
}

impl Past {
    /// Of so many numbers.
    pub(super) fn new(count: usize) -> Self {
        Self { mean: vec![0.0; count], square: vec![0.0; count] }
    }

    /// Takes a gradient in and gives the direction, about one long.
    pub(super) fn step(&mut self, index: usize, g: f64, pace: &Pace) -> f64 {
        let [a, b] = MEMORY;
        let (mean, square) = (&mut self.mean[index], &mut self.square[index]);
        *mean = a * *mean + (1.0 - a) * g;
        *square = b * *square + (1.0 - b) * g * g;
        let root = (*square / pace.known[1]).sqrt();
        if root > 0.0 { *mean / pace.known[0] / root } else { 0.0 }
    }
}

/// What all numbers have in common in a step.
pub(super) struct Pace {
    /// How far it goes, in scales.
    pub(super) rate: f64,
    /// How much further it goes towards the integer that it rounds to, per scale between them. A number that belongs between two
    /// integers changes its mind all the time, and that noise is most of what is lost; drawn more and more, one after the other
    /// settles and the rest makes up for it (Nagel et al., 2022).
    pub(super) pull: f64,
    /// Shares of Adam's means that come from gradients, not from the zeros before the first.
    known: [f64; 2],
}

impl Pace {
    /// The `t`-th of so many steps, from 1 on.
    pub(super) fn of(t: usize, steps: usize) -> Self {
        let share = 0.5 * (1.0 + (std::f64::consts::PI * t as f64 / steps as f64).cos());
        let past = i32::try_from(t).unwrap_or(i32::MAX);
        Self {
            rate: share * RATE.min(2.0 * WAY / steps as f64),
            pull: PULL * (1.0 - share),
            known: MEMORY.map(|memory| 1.0 - memory.powi(past)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the gradient's size, numbers end within a step of where it is zero, and none goes further than its way.
    #[test]
    fn steps_end_where_the_gradient_does() {
        for (size, steps) in [(1e-9, 300), (1.0, 300), (1e9, 3000)] {
            let (mut past, mut numbers) = (Past::new(2), [0.4, 9.0]);
            for t in 1..=steps {
                let pace = Pace::of(t, steps);
                for (index, number) in numbers.iter_mut().enumerate() {
                    *number -= pace.rate * past.step(index, *number * size, &pace);
                }
            }
            assert!(numbers[0].abs() < 0.01, "{numbers:?}");
            let way = WAY.min(RATE * steps as f64 / 2.0);
            assert!(numbers[1] > 8.99 - way && numbers[1] < 9.0 - 0.9 * way, "{numbers:?}");
        }
    }

    #[test]
    fn few_steps_stay_short_and_no_gradient_is_no_step() {
        assert!(Pace::of(1, 3).rate < RATE && Pace::of(3, 3).rate < 1e-9);
        assert_eq!(Past::new(1).step(0, 0.0, &Pace::of(1, 3)), 0.0);
    }
}
