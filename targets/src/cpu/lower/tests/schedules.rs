//! Every schedule of the families that have several gives the same result, and nothing else is one.

use std::collections::BTreeMap;

use adze_ir::ops::{Conv, MatMul, MaxPool, Unary, UnaryFn};
use adze_ir::propose::Schedule;
use adze_ir::types::DType;

use super::super::{LeafCx, lower_leaf, schedules};
use super::{Case, Given, random};
use crate::cpu::Machine;

fn matmul(rows: usize, depth: usize, cols: usize, constant: bool) -> Case {
    let mut rng = fastrand::Rng::with_seed(7);
    let (a, b) = (random(&mut rng, DType::F32, &[rows, depth]), random(&mut rng, DType::F32, &[depth, cols]));
    let b = if constant { Given::constant(b) } else { Given::plain(b) };
    Case::new(MatMul { trans_a: false, trans_b: false }, vec![Some(Given::plain(a)), Some(b)])
}

fn conv(channels: usize, group: usize, size: usize, stride: i64) -> Case {
    let mut rng = fastrand::Rng::with_seed(8);
    let x = Given::plain(random(&mut rng, DType::F32, &[1, channels, size, size + 1])).last();
    let w = Given::constant(random(&mut rng, DType::F32, &[24.max(group), channels / group, 3, 3]));
    let op = Conv { strides: vec![stride; 2], pads: vec![1; 4], dilations: vec![1; 2], group: group as i64 };
    Case::new(op, vec![Some(x), Some(w)]).last(4)
}

fn pool() -> Case {
    let x = Given::plain(random(&mut fastrand::Rng::with_seed(9), DType::F32, &[1, 20, 17, 33])).last();
    let op = MaxPool { kernel: vec![3; 2], strides: vec![1; 2], pads: vec![1; 4], dilations: vec![1; 2] };
    Case::new(op, vec![Some(x)]).last(4)
}

#[test]
fn every_schedule_gives_the_result() {
    let cases = [
        matmul(49, 30, 70, true),
        matmul(21, 17, 50, false),
        matmul(1, 64, 300, true),
        conv(16, 1, 15, 1),
        conv(16, 1, 14, 2),
        conv(36, 36, 19, 1),
        pool(),
    ];
    for machine in Machine::runnable() {
        for case in &cases {
            let count = case.check_schedules(&machine, 4.0);
            assert!(count > 1, "{} on {}: {count} schedules", case.op, machine.name);
        }
    }
}

fn stated(id: &str, params: &[(&str, i64)]) -> Schedule {
    let params: BTreeMap<_, _> = params.iter().map(|&(name, value)| (name.into(), value)).collect();
    Schedule { id: id.into(), params }
}

#[test]
fn what_is_no_schedule_is_refused() {
    let machine = Machine::from_name("x86_64-v3").unwrap();
    let block = |mr, vecs, order| stated("block", &[("mr", mr), ("vecs", vecs), ("panels_first", order)]);
    let relu = Case::new(Unary { function: UnaryFn::Relu }, vec![matmul(4, 4, 4, false).inputs[0].clone()]);
    let backwards = stated("block", &[("mr", 4), ("vecs", 2), ("panels_first", 1), ("backwards", 2)]);
    let refused: [(Case, Schedule); 8] = [
        (matmul(8, 8, 8, true), backwards),
        (matmul(8, 8, 8, true), stated("rows", &[("mr", 4)])),
        (matmul(8, 8, 8, true), stated("block", &[("mr", 4), ("vecs", 2)])),
        (matmul(8, 8, 8, true), block(0, 2, 1)),
        (matmul(8, 8, 8, true), block(4, 1000, 1)),
        (pool(), block(4, 2, 1)),
        (conv(36, 36, 9, 1), stated("window", &[("mr", -1)])),
        (relu, stated("window", &[("mr", 4)])),
    ];
    for (case, schedule) in refused {
        let lowered = case.with_cx(&machine, &case.results(), |cx| {
            lower_leaf(&LeafCx { schedule: Some(&schedule), ..*cx }).map(|lowered| lowered.len())
        });
        let error = lowered.expect_err("no such schedule").to_string();
        assert!(error.contains(&format!("schedule {schedule}")) && error.contains("accepted"), "{error}");
    }
}

#[test]
fn a_smaller_tile_takes_the_schedule_of_the_whole() {
    let machine = Machine::host().expect("tests run on x86-64");
    let whole = matmul(64, 24, 80, true);
    let listed = whole.with_cx(&machine, &whole.results(), schedules);
    let strip = matmul(3, 24, 80, true);
    for schedule in &listed {
        let lowered = strip.with_cx(&machine, &strip.results(), |cx| {
            lower_leaf(&LeafCx { schedule: Some(schedule), ..*cx }).map(|lowered| lowered.len())
        });
        assert_eq!(lowered, Ok(1), "{schedule}");
    }
}
