use adze_ir::attrs::F64;
use adze_ir::ops::{Direction, GateFn, Gru, Lstm, Op, Rnn};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Reverse, Direction::Bidirectional];

/// Steps, batch, features, hidden units.
#[derive(Clone, Copy, Debug)]
struct Size {
    steps: usize,
    batch: usize,
    features: usize,
    hidden: usize,
}

/// Few steps: with functions in any order a cell may grow from step to step, and rounding with it, past the bound.
fn size() -> impl Strategy<Value = Size> {
    (1usize..5, 1usize..5, 1usize..7, 1usize..20).prop_map(|(steps, batch, features, hidden)| Size {
        steps,
        batch,
        features,
        hidden,
    })
}

/// Checks a cell with all of its optional operands, or with those that the flags choose.
fn check(op: Op, gates: usize, size: Size, directions: usize, seed: u64, flags: u32) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let flag = |bit: u32| flags >> bit & 1 == 1;
    let Size { steps, batch, features, hidden } = size;
    let lens: Vec<i128> = (0..batch).map(|_| rng.usize(0..=steps) as i128).collect();
    let mut make = |shape: &[usize]| random(&mut rng, DType::F32, shape);
    let mut inputs = vec![
        Some(Given::plain(make(&[steps, batch, features]))),
        Some(Given::constant(make(&[directions, gates * hidden, features]))),
        Some(Given::constant(make(&[directions, gates * hidden, hidden]))),
        flag(0).then(|| Given::constant(make(&[directions, 2 * gates * hidden]))),
        flag(1).then(|| Given::plain(Tensor::from_ints(DType::I32, &[batch], &lens))),
        flag(2).then(|| Given::plain(make(&[directions, batch, hidden]))),
    ];
    if matches!(op, Op::Lstm(_)) {
        inputs.push(flag(3).then(|| Given::plain(make(&[directions, batch, hidden]))));
        inputs.push(flag(4).then(|| Given::constant(make(&[directions, 3 * hidden]))));
    }
    Case::new(op, inputs).check(16.0 * (features + hidden + 2) as f64);
}

fn functions(wanted: &[GateFn], directions: usize) -> Vec<GateFn> {
    // The second direction's come in another order, so that a mix-up shows.
    (0..directions)
        .flat_map(|d| wanted.iter().cycle().skip(d).take(wanted.len()).copied().collect::<Vec<_>>())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn lstm_agrees(seed: u64, size in size(), direction in 0usize..3, flags in 0u32..128) {
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let op = Lstm {
            direction,
            hidden: size.hidden as i64,
            activations: functions(&[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh], directions),
            clip: (flags & 32 != 0).then(|| F64::new(0.75)),
            input_forget: flags & 64 != 0,
        };
        check(op.into(), 4, size, directions, seed, flags);
    }

    #[test]
    fn gru_agrees(seed: u64, size in size(), direction in 0usize..3, flags in 0u32..128) {
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let op = Gru {
            direction,
            hidden: size.hidden as i64,
            activations: functions(&[GateFn::Sigmoid, GateFn::Tanh], directions),
            clip: (flags & 32 != 0).then(|| F64::new(0.75)),
            linear_before_reset: flags & 64 != 0,
        };
        check(op.into(), 3, size, directions, seed, flags);
    }

    #[test]
    fn rnn_agrees(seed: u64, size in size(), direction in 0usize..3, flags in 0u32..64, relu: bool) {
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let function = if relu { GateFn::Relu } else { GateFn::Tanh };
        let op = Rnn {
            direction,
            hidden: size.hidden as i64,
            activations: functions(&[function], directions),
            clip: (flags & 32 != 0).then(|| F64::new(0.75)),
        };
        check(op.into(), 1, size, directions, seed, flags);
    }

    /// More steps than are multiplied with the input at once, with the usual functions, whose cells do not grow.
    #[test]
    fn long_sequences_agree(
        seed: u64,
        steps in 15usize..36,
        batch in 1usize..4,
        direction in 0usize..3,
        flags in 0u32..8,
        kind in 0usize..3,
    ) {
        let size = Size { steps, batch, features: 3, hidden: 5 };
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let (hidden, clip) = (size.hidden as i64, None);
        let usual = |one: &[GateFn]| one.repeat(directions);
        let (op, gates) = match kind {
            0 => {
                let activations = usual(&[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh]);
                (Lstm { direction, hidden, activations, clip, input_forget: false }.into(), 4)
            }
            1 => {
                let activations = usual(&[GateFn::Sigmoid, GateFn::Tanh]);
                (Gru { direction, hidden, activations, clip, linear_before_reset: seed % 2 == 0 }.into(), 3)
            }
            _ => (Rnn { direction, hidden, activations: usual(&[GateFn::Tanh]), clip }.into(), 1),
        };
        check(op, gates, size, directions, seed, flags);
    }
}
