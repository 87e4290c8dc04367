//! One small case of each family on every machine: other register blocks, no vectors, no fused multiply-add.

use adze_ir::attrs::F64;
use adze_ir::ops::{
    AveragePool, Conv, ConvTranspose, Direction, GateFn, Gemm, Gru, Lstm, MatMul, MaxPool, Unary, UnaryFn,
};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::{Case, Given, random};

fn plain(rng: &mut fastrand::Rng, shape: &[usize]) -> Given {
    Given::plain(random(rng, DType::F32, shape))
}

fn constant(rng: &mut fastrand::Rng, shape: &[usize]) -> Given {
    Given::constant(random(rng, DType::F32, shape))
}

#[test]
fn products_on_every_machine() {
    let mut rng = fastrand::Rng::with_seed(11);
    let op = MatMul { trans_a: false, trans_b: false };
    for (m, n) in [(11, 19), (1, 35), (9, 3)] {
        let (a, b) = (plain(&mut rng, &[m, 6]), constant(&mut rng, &[6, n]));
        Case::new(op.clone(), vec![Some(a), Some(b)]).check_everywhere(4.0);
        let (a, b) = (plain(&mut rng, &[2, m, 6]), plain(&mut rng, &[2, 6, n]));
        Case::new(op.clone(), vec![Some(a), Some(b)]).check_everywhere(4.0);
        let (a, b) = (plain(&mut rng, &[m, 6]), plain(&mut rng, &[n, 6]));
        Case::new(MatMul { trans_b: true, ..op.clone() }, vec![Some(a), Some(b)]).check_everywhere(4.0);
    }
    let gemm = Gemm { alpha: F64::new(0.5), beta: F64::new(2.0), trans_a: true, trans_b: false };
    let (a, b, c) = (plain(&mut rng, &[6, 5]), plain(&mut rng, &[6, 7]), plain(&mut rng, &[7]));
    Case::new(gemm, vec![Some(a), Some(b), Some(c)]).check_everywhere(4.0);
}

#[test]
fn convolutions_on_every_machine() {
    let mut rng = fastrand::Rng::with_seed(12);
    let conv = |group| Conv { strides: vec![1, 2], pads: vec![1; 4], dilations: vec![1; 2], group };
    for last in [false, true] {
        let place = |g: Given| if last { g.last() } else { g };
        let result = |case: Case| if last { case.last(4) } else { case };
        let (x, w) = (place(plain(&mut rng, &[1, 3, 4, 9])), constant(&mut rng, &[18, 3, 3, 3]));
        let bias = plain(&mut rng, &[18]);
        result(Case::new(conv(1), vec![Some(x), Some(w), Some(bias)])).check_everywhere(4.0);
        let (x, w) = (place(plain(&mut rng, &[1, 13, 4, 11])), constant(&mut rng, &[13, 1, 3, 3]));
        result(Case::new(conv(13), vec![Some(x), Some(w)])).check_everywhere(4.0);
        let op = ConvTranspose {
            strides: vec![2; 2],
            pads: vec![0, 1, 1, 0],
            output_padding: vec![0; 2],
            dilations: vec![1; 2],
            group: 1,
        };
        let (x, w) = (place(plain(&mut rng, &[1, 3, 3, 5])), constant(&mut rng, &[3, 9, 3, 2]));
        result(Case::new(op, vec![Some(x), Some(w)])).check_everywhere(4.0);
    }
}

#[test]
fn pools_on_every_machine() {
    let mut rng = fastrand::Rng::with_seed(13);
    let max = MaxPool { kernel: vec![3, 2], strides: vec![2; 2], pads: vec![1; 4], dilations: vec![1; 2] };
    let average = AveragePool {
        kernel: vec![3, 2],
        strides: vec![2; 2],
        pads: vec![1; 4],
        dilations: vec![1; 2],
        ceil_pads: vec![0; 2],
        count_include_pad: false,
    };
    let x = plain(&mut rng, &[1, 21, 5, 7]);
    Case::new(max.clone(), vec![Some(x.clone())]).check_everywhere(0.0);
    Case::new(max, vec![Some(x.clone().last())]).last(4).check_everywhere(0.0);
    Case::new(average.clone(), vec![Some(x.clone())]).check_everywhere(4.0);
    Case::new(average, vec![Some(x.last())]).last(4).check_everywhere(4.0);
}

#[test]
fn cells_on_every_machine() {
    let mut rng = fastrand::Rng::with_seed(14);
    let (steps, features, hidden) = (3, 4, 11);
    let inputs = |rng: &mut fastrand::Rng, gates: usize| {
        let shapes = [vec![1, gates * hidden, features], vec![1, gates * hidden, hidden], vec![1, 2 * gates * hidden]];
        let x = plain(rng, &[steps, 2, features]);
        std::iter::once(Some(x)).chain(shapes.map(|s| Some(constant(rng, &s)))).collect::<Vec<_>>()
    };
    let lstm = Lstm {
        direction: Direction::Reverse,
        hidden: hidden as i64,
        activations: vec![GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh],
        clip: None,
        input_forget: false,
        w_block: None,
        r_block: None,
    };
    Case::new(lstm.clone(), inputs(&mut rng, 4)).check_everywhere(256.0);
    let mut stored = inputs(&mut rng, 4);
    let ints = |shape: &[usize], dtype: DType| {
        let values: Vec<i128> = (0..shape.iter().product::<usize>()).map(|i| (i * 7 % 16) as i128 - 8).collect();
        Some(Given::constant(Tensor::from_ints(dtype, shape, &values)))
    };
    (stored[1], stored[2]) = (ints(&[1, 44, features], DType::I4), ints(&[1, 44, hidden], DType::I8));
    stored.resize_with(8, || None);
    stored.extend([[1, 44, 2], [1, 44, 1]].map(|shape| Some(constant(&mut rng, &shape))));
    Case::new(Lstm { w_block: Some(2), r_block: Some(hidden), ..lstm }, stored).check_everywhere(256.0);
    for linear_before_reset in [false, true] {
        let gru = Gru {
            direction: Direction::Forward,
            hidden: hidden as i64,
            activations: vec![GateFn::Sigmoid, GateFn::Tanh],
            clip: None,
            linear_before_reset,
            w_block: None,
            r_block: None,
        };
        Case::new(gru, inputs(&mut rng, 3)).check_everywhere(256.0);
    }
}

/// All numbers of elements up to a few strips: what whole strips leave is done in narrower ones.
#[test]
fn any_number_of_elements_on_every_machine() {
    let mut rng = fastrand::Rng::with_seed(17);
    for length in 1..=72 {
        let x = vec![Some(plain(&mut rng, &[2, length]))];
        Case::new(Unary { function: UnaryFn::Tanh }, x).check_everywhere(4.0);
    }
}
