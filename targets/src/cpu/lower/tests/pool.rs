use adze_ir::ops::{AveragePool, LpPool, MaxPool};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};

/// Input, kernel, stride, dilation, pad before, pad after, further padding, per axis.
type Axes = Vec<[usize; 7]>;

fn axes(max: usize) -> impl Strategy<Value = Axes> {
    let axis =
        (1..max, 1usize..8, 1usize..4, 1usize..3, 0usize..3, 0usize..3, 0usize..2).prop_map(|(n, k, s, d, b, a, c)| {
            // Padding smaller than the window, as ONNX asks: then every window has an element.
            [n, k, s, d, b.min(k - 1), a.min(k - 1), c.min(k - 1)]
        });
    prop::collection::vec(axis, 1..3).prop_filter("an output that has elements", |axes| {
        axes.iter().all(|&[n, k, s, d, b, a, c]| {
            let room = n + b + a + c;
            n + b + a > d * (k - 1) && (room - d * (k - 1) - 1) / s * s < n + b
        })
    })
}

fn each(axes: &Axes, i: usize) -> Vec<i64> {
    axes.iter().map(|a| a[i] as i64).collect()
}

fn check(op: impl Into<adze_ir::ops::Op>, axes: &Axes, x: Tensor, last: bool, c: f64) {
    let rank = axes.len() + 2;
    let x = Given::plain(x);
    let case = if last { Case::new(op, vec![Some(x.last())]).last(rank) } else { Case::new(op, vec![Some(x)]) };
    case.check(c);
}

fn shape(axes: &Axes, channels: usize) -> Vec<usize> {
    [2, channels].into_iter().chain(axes.iter().map(|a| a[0])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn max_pool_agrees(seed: u64, axes in axes(16), channels in 1usize..40, last: bool, dtype in 0usize..6) {
        let dtype = [DType::F32, DType::F16, DType::F64, DType::I8, DType::U8, DType::I32][dtype];
        let pads = [each(&axes, 4), each(&axes, 5)].concat();
        let op = MaxPool { kernel: each(&axes, 1), strides: each(&axes, 2), pads, dilations: each(&axes, 3) };
        let mut rng = fastrand::Rng::with_seed(seed);
        let shape = shape(&axes, channels);
        let x = random(&mut rng, DType::F32, &shape).to_f64();
        let scale = if dtype.is_int() { 100.0 } else { 1.0 };
        let x = Tensor::from_f64(dtype, &shape, &x.iter().map(|v| v * scale).collect::<Vec<_>>());
        check(op, &axes, x, last, 0.0);
    }

    #[test]
    fn average_pool_agrees(seed: u64, axes in axes(16), channels in 1usize..40, last: bool, include: bool) {
        let op = AveragePool {
            kernel: each(&axes, 1),
            strides: each(&axes, 2),
            pads: [each(&axes, 4), each(&axes, 5)].concat(),
            dilations: each(&axes, 3),
            ceil_pads: each(&axes, 6),
            count_include_pad: include,
        };
        // A window that has no element divides zero by zero; the filter leaves windows that start in the padding behind.
        let x = random(&mut fastrand::Rng::with_seed(seed), DType::F32, &shape(&axes, channels));
        let finite = adze_ir::ops::Op::from(op.clone()).eval(&[Some(&x)], &|_| None).unwrap();
        prop_assume!(finite[0].to_f64().iter().all(|v| v.is_finite()));
        check(op, &axes, x, last, 4.0);
    }

    #[test]
    fn lp_pool_agrees(seed: u64, axes in axes(16), channels in 1usize..40, last: bool, p in 1i64..3) {
        let pads = [each(&axes, 4), each(&axes, 5)].concat();
        let op = LpPool { kernel: each(&axes, 1), strides: each(&axes, 2), pads, dilations: each(&axes, 3), p };
        check(op, &axes, random(&mut fastrand::Rng::with_seed(seed), DType::F32, &shape(&axes, channels)), last, 16.0);
    }
}

#[test]
fn max_pool_keeps_nan() {
    let mut rng = fastrand::Rng::with_seed(3);
    let op = MaxPool { kernel: vec![2, 2], strides: vec![1, 1], pads: vec![0; 4], dilations: vec![1, 1] };
    let mut values = random(&mut rng, DType::F32, &[1, 8, 5, 5]).to_f64();
    values[37] = f64::NAN;
    values[90] = f64::NAN;
    check(op, &vec![[5, 2, 1, 1, 0, 0, 0]; 2], Tensor::from_f64(DType::F32, &[1, 8, 5, 5], &values), true, 0.0);
}
