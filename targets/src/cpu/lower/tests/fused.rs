use adze_ir::attrs::F64;
use adze_ir::ops::{AveragePool, Binary, BinaryFn, BodyRef, BodyStep, Clip, Conv, Fused, MatMul, Op, Unary, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};

/// Anchor with two operands (or one), then: plus a value of its own shape, times a value per channel, a function, a bound.
pub(super) fn fused(anchor: impl Into<Op>, operands: u32, function: UnaryFn) -> Fused {
    let param = |i: u32| Some(BodyRef::Param(i));
    let step = |i: u32| Some(BodyRef::Step(i));
    let binary = |function| Op::from(Binary { function });
    let steps = vec![
        BodyStep { op: anchor.into(), inputs: (0..operands).map(param).collect() },
        BodyStep { op: binary(BinaryFn::Add), inputs: vec![step(0), param(operands)] },
        BodyStep { op: binary(BinaryFn::Mul), inputs: vec![param(operands + 1), step(1)] },
        BodyStep { op: Unary { function }.into(), inputs: vec![step(2)] },
        BodyStep { op: binary(BinaryFn::Mul), inputs: vec![step(3), param(operands + 2)] },
        BodyStep { op: Clip { min: Some(F64::new(-2.0)), max: Some(F64::new(1.5)) }.into(), inputs: vec![step(4)] },
    ];
    Fused { steps: steps.into() }
}

const FUNCTIONS: [UnaryFn; 4] = [UnaryFn::Relu, UnaryFn::Sigmoid, UnaryFn::HardSwish, UnaryFn::Neg];

pub(super) fn half() -> Given {
    Given::constant(Tensor::from_f32(&[], &[0.5]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn conv_with_epilogues_agrees(seed: u64, h in 1usize..9, ci in 1usize..5, co in 1usize..20, flags in 0u32..8, function in 0usize..4) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let conv = Conv { strides: vec![1; 2], pads: vec![1; 4], dilations: vec![1; 2], group: 1 };
        let x = Given::plain(random(&mut rng, DType::F32, &[2, ci, h, h + 2]));
        let x = if flags & 1 == 0 { x } else { x.last() };
        let w = Given::constant(random(&mut rng, DType::F32, &[co, ci, 3, 3]));
        let residual = Given::plain(random(&mut rng, DType::F32, &[2, co, h, h + 2]));
        let residual = if flags & 2 == 0 { residual } else { residual.last() };
        let channel = Given::plain(random(&mut rng, DType::F32, &[co, 1, 1]));
        let op = fused(conv, 2, FUNCTIONS[function]);
        let mut case = Case::new(op, vec![Some(x), Some(w), Some(residual), Some(channel), Some(half())]);
        if flags & 4 != 0 {
            case = case.last(4);
        }
        case.check(16.0);
    }

    #[test]
    fn matmul_with_epilogues_agrees(seed: u64, m in 1usize..9, n in 1usize..20, k in 1usize..9, constant: bool, function in 0usize..4) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let a = Given::plain(random(&mut rng, DType::F32, &[m, k]));
        let b = random(&mut rng, DType::F32, &[k, n]);
        let b = if constant { Given::constant(b) } else { Given::plain(b) };
        let residual = Given::plain(random(&mut rng, DType::F32, &[m, n]));
        let channel = Given::plain(random(&mut rng, DType::F32, &[n]));
        let op = fused(MatMul { trans_a: false, trans_b: false }, 2, FUNCTIONS[function]);
        Case::new(op, vec![Some(a), Some(b), Some(residual), Some(channel), Some(half())]).check(16.0);
    }

    #[test]
    fn sliding_windows_with_epilogues_agree(seed: u64, h in 2usize..9, c in 1usize..20, last: bool, pool: bool, function in 0usize..4) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let place = |g: Given| if last { g.last() } else { g };
        let x = place(Given::plain(random(&mut rng, DType::F32, &[1, c, h, h])));
        let residual = place(Given::plain(random(&mut rng, DType::F32, &[1, c, h, h])));
        let channel = Given::plain(random(&mut rng, DType::F32, &[c, 1, 1]));
        let mut inputs = vec![Some(x)];
        let op = if pool {
            let pool = AveragePool {
                kernel: vec![3; 2],
                strides: vec![1; 2],
                pads: vec![1; 4],
                dilations: vec![1; 2],
                ceil_pads: vec![0; 2],
                count_include_pad: false,
            };
            fused(pool, 1, FUNCTIONS[function])
        } else {
            inputs.push(Some(Given::constant(random(&mut rng, DType::F32, &[c, 1, 3, 3]))));
            let conv = Conv { strides: vec![1; 2], pads: vec![1; 4], dilations: vec![1; 2], group: c as i64 };
            fused(conv, 2, FUNCTIONS[function])
        };
        inputs.extend([Some(residual), Some(channel), Some(half())]);
        let case = Case::new(op, inputs);
        if last { case.last(4).check(16.0) } else { case.check(16.0) }
    }
}
