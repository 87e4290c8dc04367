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

/// How the weights of a cell are given.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Known,
    Computed,
    /// With so many numbers of a row to a scale.
    Stored(DType, usize),
}

fn weights() -> impl Strategy<Value = Weights> {
    prop_oneof![
        2 => Just(Weights::Known),
        1 => Just(Weights::Computed),
        4 => (prop::sample::select(vec![DType::I8, DType::U8, DType::I4, DType::U4, DType::I2]), 1usize..25)
            .prop_map(|(dtype, block)| Weights::Stored(dtype, block)),
    ]
}

/// A matrix, and its scales if it is stored: integers that stand for -1..1.
fn matrix(rng: &mut fastrand::Rng, shape: [usize; 3], how: Weights) -> (Given, Option<Given>) {
    let Weights::Stored(dtype, block) = how else {
        let values = random(rng, DType::F32, &shape);
        return (if matches!(how, Weights::Known) { Given::constant(values) } else { Given::plain(values) }, None);
    };
    let (low, high) = dtype.int_range().unwrap();
    let count = shape.iter().product();
    let ints: Vec<i128> = (0..count).map(|_| rng.i128(low..=high)).collect();
    let shape_of_scales = [shape[0], shape[1], shape[2].div_ceil(block)];
    let scales: Vec<f32> = (0..shape_of_scales.iter().product()).map(|_| rng.f32() / high as f32).collect();
    let scales = Tensor::from_f32(&shape_of_scales, &scales);
    (Given::constant(Tensor::from_ints(dtype, &shape, &ints)), Some(Given::constant(scales)))
}

/// Checks a cell with all of its optional operands, or with those that the flags choose.
fn check(op: Op, gates: usize, size: Size, directions: usize, seed: u64, flags: u32, how: [Weights; 2]) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let flag = |bit: u32| flags >> bit & 1 == 1;
    let Size { steps, batch, features, hidden } = size;
    let lens: Vec<i128> = (0..batch).map(|_| rng.usize(0..=steps) as i128).collect();
    let (w, w_scale) = matrix(&mut rng, [directions, gates * hidden, features], how[0]);
    let (r, r_scale) = matrix(&mut rng, [directions, gates * hidden, hidden], how[1]);
    let mut make = |shape: &[usize]| random(&mut rng, DType::F32, shape);
    let mut inputs = vec![
        Some(Given::plain(make(&[steps, batch, features]))),
        Some(w),
        Some(r),
        flag(0).then(|| Given::constant(make(&[directions, 2 * gates * hidden]))),
        flag(1).then(|| Given::plain(Tensor::from_ints(DType::I32, &[batch], &lens))),
        flag(2).then(|| Given::plain(make(&[directions, batch, hidden]))),
    ];
    if matches!(op, Op::Lstm(_)) {
        inputs.push(flag(3).then(|| Given::plain(make(&[directions, batch, hidden]))));
        inputs.push(flag(4).then(|| Given::constant(make(&[directions, 3 * hidden]))));
    }
    inputs.extend([w_scale, r_scale]);
    let op = op.with_cell_blocks(how.map(|how| if let Weights::Stored(_, block) = how { Some(block) } else { None }));
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
    fn lstm_agrees(seed: u64, size in size(), direction in 0usize..3, flags in 0u32..128, w in weights(), r in weights()) {
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let op = Lstm {
            direction,
            hidden: size.hidden as i64,
            activations: functions(&[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh], directions),
            clip: (flags & 32 != 0).then(|| F64::new(0.75)),
            input_forget: flags & 64 != 0,
            w_block: None,
            r_block: None,
        };
        check(op.into(), 4, size, directions, seed, flags, [w, r]);
    }

    #[test]
    fn gru_agrees(seed: u64, size in size(), direction in 0usize..3, flags in 0u32..128, w in weights(), r in weights()) {
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let op = Gru {
            direction,
            hidden: size.hidden as i64,
            activations: functions(&[GateFn::Sigmoid, GateFn::Tanh], directions),
            clip: (flags & 32 != 0).then(|| F64::new(0.75)),
            linear_before_reset: flags & 64 != 0,
            w_block: None,
            r_block: None,
        };
        check(op.into(), 3, size, directions, seed, flags, [w, r]);
    }

    #[test]
    fn rnn_agrees(seed: u64, size in size(), direction in 0usize..3, flags in 0u32..64, relu: bool, w in weights(), r in weights()) {
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let function = if relu { GateFn::Relu } else { GateFn::Tanh };
        let op = Rnn {
            direction,
            hidden: size.hidden as i64,
            activations: functions(&[function], directions),
            clip: (flags & 32 != 0).then(|| F64::new(0.75)),
            w_block: None,
            r_block: None,
        };
        check(op.into(), 1, size, directions, seed, flags, [w, r]);
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
        w in weights(),
        r in weights(),
    ) {
        let size = Size { steps, batch, features: 3, hidden: 5 };
        let direction = DIRECTIONS[direction];
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let (hidden, clip) = (size.hidden as i64, None);
        let usual = |one: &[GateFn]| one.repeat(directions);
        let (op, gates) = match kind {
            0 => {
                let activations = usual(&[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh]);
                (Lstm { direction, hidden, activations, clip, input_forget: false, w_block: None, r_block: None }.into(), 4)
            }
            1 => {
                let activations = usual(&[GateFn::Sigmoid, GateFn::Tanh]);
                (Gru { direction, hidden, activations, clip, linear_before_reset: seed % 2 == 0, w_block: None, r_block: None }.into(), 3)
            }
            _ => (Rnn { direction, hidden, activations: usual(&[GateFn::Tanh]), clip, w_block: None, r_block: None }.into(), 1),
        };
        check(op, gates, size, directions, seed, flags, [w, r]);
    }
}
