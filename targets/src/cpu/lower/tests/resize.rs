use adze_ir::attrs::F64;
use adze_ir::ops::{CoordMode, NearestMode, Resize, ResizeMode};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};

const MODES: [ResizeMode; 3] = [ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic];
const COORDS: [CoordMode; 4] =
    [CoordMode::Asymmetric, CoordMode::HalfPixel, CoordMode::AlignCorners, CoordMode::PytorchHalfPixel];
const NEAREST: [NearestMode; 4] =
    [NearestMode::Floor, NearestMode::Ceil, NearestMode::RoundPreferFloor, NearestMode::RoundPreferCeil];

fn case(shape: &[usize], sizes: &[usize], (mode, coords, nearest, exclude): (usize, usize, usize, bool)) -> Resize {
    let scale = |(&size, &len): (&usize, &usize)| F64::new(size as f64 / len as f64);
    Resize {
        mode: MODES[mode],
        coords: COORDS[coords],
        nearest: NEAREST[nearest],
        cubic_a: F64::new(-0.75),
        exclude_outside: exclude,
        sizes: sizes.iter().map(|&n| n.into()).collect(),
        scales: sizes.iter().zip(shape).map(scale).collect(),
    }
}

fn check(x: Tensor, op: Resize, last: bool, c: f64) {
    let rank = x.shape().len();
    let x = Given::plain(x);
    let case = if last { Case::new(op, vec![Some(x.last())]).last(rank) } else { Case::new(op, vec![Some(x)]) };
    case.check(c);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn resize_agrees(
        seed: u64,
        images in 1usize..3,
        channels in 1usize..40,
        from in [1usize..9, 1..9],
        to in [1usize..14, 1..14],
        modes in (0usize..3, 0usize..4, 0usize..4, any::<bool>()),
        last: bool,
    ) {
        let shape = [images, channels, from[0], from[1]];
        let op = case(&shape, &[images, channels, to[0], to[1]], modes);
        let mut rng = fastrand::Rng::with_seed(seed);
        check(random(&mut rng, DType::F32, &shape), op, last, if modes.0 == 0 { 0.0 } else { 4.0 });
    }

    #[test]
    fn resize_moves_any_dtype(seed: u64, channels in 1usize..70, last: bool, dtype in 0usize..4) {
        let dtype = [DType::U8, DType::I8, DType::F16, DType::I64][dtype];
        let shape = [1, channels, 3, 5];
        let values: Vec<f64> = {
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..channels * 15).map(|_| f64::from(rng.u8(..100))).collect()
        };
        let op = case(&shape, &[1, channels, 6, 10], (0, 0, 0, false));
        check(Tensor::from_f64(dtype, &shape, &values), op, last, 0.0);
    }
}

/// Every machine has code for it.
#[test]
fn everywhere() {
    let mut rng = fastrand::Rng::with_seed(3);
    for mode in 0..3 {
        let shape = [1, 5, 3, 4];
        let op = case(&shape, &[1, 5, 6, 7], (mode, 1, 2, false));
        Case::new(op, vec![Some(Given::plain(random(&mut rng, DType::F32, &shape)).last())])
            .last(4)
            .check_everywhere(4.0);
    }
}
