use adze_ir::ops::{UnaryFn, WinogradConv};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use proptest::prelude::*;

use super::fused::{fused, half};
use super::{Case, Given, random};

/// How far results may be from the reference, in roundings of the largest sum of magnitudes.
const ROUNDINGS: f64 = 64.0;

#[derive(Clone, Debug)]
struct Shape {
    batch: usize,
    channels: [usize; 2],
    /// Rows and columns without padding, padding before and after.
    axes: [[i64; 3]; 2],
    tile: i64,
}

impl Shape {
    fn valid(&self) -> bool {
        self.axes.iter().all(|[n, before, after]| n + before + after >= 3)
    }

    fn op(&self) -> WinogradConv {
        let pads = (1..3).flat_map(|at| self.axes.iter().map(move |axis| axis[at])).collect();
        WinogradConv { tile: self.tile, pads }
    }

    fn operands(&self, rng: &mut fastrand::Rng) -> [Tensor; 3] {
        let [depth, columns] = self.channels;
        let x = [self.batch, depth, self.axes[0][0] as usize, self.axes[1][0] as usize];
        [&x[..], &[columns, depth, 3, 3], &[columns]].map(|shape| random(rng, DType::F32, shape))
    }

    fn result(&self) -> [usize; 4] {
        let len = |[n, before, after]: [i64; 3]| (n + before + after - 2) as usize;
        [self.batch, self.channels[1], len(self.axes[0]), len(self.axes[1])]
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let axis = (1i64..14, -1i64..3, -1i64..3).prop_map(|(n, before, after)| [n, before, after]);
    let channels = prop::array::uniform2(1usize..40);
    (1usize..3, channels, [axis.clone(), axis], 1i64..3)
        .prop_map(|(batch, channels, axes, half)| Shape { batch, channels, axes, tile: 2 * half })
        .prop_filter("an output", Shape::valid)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn winograd_agrees(seed: u64, shape in shape(), bias: bool) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let [x, w, b] = shape.operands(&mut rng);
        let bias = bias.then(|| Given::plain(b));
        Case::new(shape.op(), vec![Some(Given::plain(x).last()), Some(Given::constant(w)), bias])
            .last(4)
            .check(ROUNDINGS);
    }

    #[test]
    fn winograd_with_epilogues_agrees(seed: u64, shape in shape()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let [x, w, _] = shape.operands(&mut rng);
        let residual = Given::plain(random(&mut rng, DType::F32, &shape.result())).last();
        let channel = Given::plain(random(&mut rng, DType::F32, &[shape.channels[1], 1, 1]));
        let op = fused(shape.op(), 2, UnaryFn::Relu);
        let inputs = vec![Some(Given::plain(x).last()), Some(Given::constant(w)), Some(residual), Some(channel), Some(half())];
        // The last step bounds magnitudes, those of sums are larger.
        Case::new(op, inputs).last(4).check(ROUNDINGS * (9 * shape.channels[0]) as f64);
    }

    /// Padding as a view that reaches beyond its buffer.
    #[test]
    fn winograd_of_a_view_with_a_border_agrees(seed: u64, shape in shape()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let border: Vec<(usize, usize)> =
            shape.axes.iter().map(|[_, before, after]| ((*before).max(0) as usize, (*after).max(0) as usize)).collect();
        let mut inner = shape.clone();
        for (axis, (before, after)) in inner.axes.iter_mut().zip(&border) {
            *axis = [axis[0] + (before + after) as i64, axis[1].min(0), axis[2].min(0)];
        }
        let [x, w, _] = inner.operands(&mut rng);
        let mut given = Given::plain(Tensor::zeros(DType::F32, x.shape())).last();
        given.border = Some(([(0, 0); 2].into_iter().chain(border).collect(), 0.0));
        let mut values = x.to_f64();
        let outside = given.positions().into_iter().zip(&mut values).filter(|(at, _)| at.is_none());
        outside.for_each(|(_, value)| *value = 0.0);
        given.tensor = Tensor::from_f64(DType::F32, x.shape(), &values);
        Case::new(inner.op(), vec![Some(given), Some(Given::constant(w))]).last(4).check(ROUNDINGS);
    }
}

#[test]
fn winograd_is_the_same_everywhere() {
    for tile in [2, 4] {
        let shape = Shape { batch: 1, channels: [9, 7], axes: [[6, 1, 1], [9, 1, 0]], tile };
        let [x, w, b] = shape.operands(&mut fastrand::Rng::with_seed(3));
        let inputs = vec![Some(Given::plain(x).last()), Some(Given::constant(w)), Some(Given::plain(b))];
        Case::new(shape.op(), inputs).last(4).check_everywhere(ROUNDINGS);
    }
}

#[test]
fn every_schedule_of_winograd_gives_the_result() {
    let shape = Shape { batch: 2, channels: [70, 50], axes: [[29, 1, 1], [31, 1, 1]], tile: 4 };
    for machine in crate::cpu::Machine::runnable() {
        let [x, w, _] = shape.operands(&mut fastrand::Rng::with_seed(4));
        let case = Case::new(shape.op(), vec![Some(Given::plain(x).last()), Some(Given::constant(w))]).last(4);
        assert!(case.check_schedules(&machine, ROUNDINGS) > 2, "{}", machine.name);
    }
}
