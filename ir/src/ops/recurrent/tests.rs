use super::*;
use crate::ops::{EvalError, Op};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F64, shape, values)
}

fn single(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, shape, values)
}

fn eval(op: impl Into<Op>, inputs: &[Option<&Tensor>]) -> Vec<Tensor> {
    op.into().eval(inputs, &|_| None).unwrap()
}

fn near(found: &Tensor, expected: &[f64]) {
    let found = found.to_f64();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}, not {expected:?}");
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn rnn(direction: Direction) -> Rnn {
    let count = if direction == Direction::Bidirectional { 2 } else { 1 };
    Rnn { direction, hidden: 1, activations: vec![GateFn::Relu; count], clip: None, w_block: None, r_block: None }
}

#[test]
fn rnn_walks_both_ways_and_stops_at_lengths() {
    let x = tensor(&[3, 2, 1], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    let (w, r) = (tensor(&[2, 1, 1], &[1.0, 1.0]), tensor(&[2, 1, 1], &[1.0, 1.0]));
    let lens = Tensor::from_ints(DType::I32, &[2], &[3, 2]);
    let found = eval(rnn(Direction::Bidirectional), &[Some(&x), Some(&w), Some(&r), None, Some(&lens)]);
    near(&found[0], &[1.0, 10.0, 6.0, 30.0, 3.0, 30.0, 5.0, 20.0, 6.0, 0.0, 3.0, 0.0]);
    near(&found[1], &[6.0, 30.0, 6.0, 30.0]);
    let (w, r) = (tensor(&[1, 1, 1], &[1.0]), tensor(&[1, 1, 1], &[1.0]));
    let start = tensor(&[1, 2, 1], &[100.0, 0.0]);
    let bias = tensor(&[1, 2], &[0.5, 0.25]);
    let found = eval(rnn(Direction::Reverse), &[Some(&x), Some(&w), Some(&r), Some(&bias), None, Some(&start)]);
    near(&found[1], &[108.25, 62.25]);
    let long = Tensor::from_ints(DType::I32, &[2], &[4, 2]);
    let op = Op::from(rnn(Direction::Forward));
    let found = op.eval(&[Some(&x), Some(&w), Some(&r), None, Some(&long)], &|_| None);
    assert!(matches!(found, Err(EvalError::Value(_))));
    assert!(Op::from(rnn(Direction::Bidirectional)).infer(&[Some(&x.ty()), Some(&w.ty()), Some(&r.ty())]).is_err());
}

#[test]
fn lstm_step_by_hand() {
    let op = |clip: Option<f64>, input_forget| Lstm {
        direction: Direction::Forward,
        hidden: 1,
        activations: vec![GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh],
        clip: clip.map(F64::new),
        input_forget,
        w_block: None,
        r_block: None,
    };
    let (x, w, r) =
        (tensor(&[1, 1, 1], &[2.0]), tensor(&[1, 4, 1], &[0.1, 0.2, 0.3, 0.4]), tensor(&[1, 4, 1], &[1.0; 4]));
    let bias = tensor(&[1, 8], &[0.01, 0.02, 0.03, 0.04, 0.0, 0.0, 0.0, 0.0]);
    let (h0, c0) = (tensor(&[1, 1, 1], &[0.5]), tensor(&[1, 1, 1], &[-1.0]));
    let peephole = tensor(&[1, 3], &[0.7, 0.8, 0.9]);
    let inputs = [Some(&x), Some(&w), Some(&r), Some(&bias), None, Some(&h0), Some(&c0), Some(&peephole)];
    let (i, f, g) = (sigmoid(0.71 - 0.7), sigmoid(1.13 - 0.9), 1.34f64.tanh());
    let c = -f + i * g;
    let h = sigmoid(0.92 + 0.8 * c) * c.tanh();
    let found = eval(op(None, false), &inputs);
    near(&found[0], &[h]);
    near(&found[1], &[h]);
    near(&found[2], &[c]);
    near(&eval(op(None, true), &inputs)[2], &[i - 1.0 + i * g]);
    let (i, f, g) = (sigmoid(0.01), sigmoid(0.1), 0.1f64.tanh());
    near(&eval(op(Some(0.1), false), &inputs)[2], &[-f + i * g]);
}

#[test]
fn gru_step_by_hand() {
    let op = |linear_before_reset| Gru {
        direction: Direction::Forward,
        hidden: 1,
        activations: vec![GateFn::Sigmoid, GateFn::Tanh],
        clip: None,
        linear_before_reset,
        w_block: None,
        r_block: None,
    };
    let (x, w, r) =
        (tensor(&[1, 1, 1], &[2.0]), tensor(&[1, 3, 1], &[0.1, 0.2, 0.3]), tensor(&[1, 3, 1], &[1.0, 2.0, 3.0]));
    let bias = tensor(&[1, 6], &[0.01, 0.02, 0.03, 0.04, 0.05, 0.06]);
    let h0 = tensor(&[1, 1, 1], &[0.5]);
    let inputs = [Some(&x), Some(&w), Some(&r), Some(&bias), None, Some(&h0)];
    let (z, r) = (sigmoid(0.2 + 0.5 + 0.05), sigmoid(0.4 + 1.0 + 0.07));
    let plain = (0.6 + 0.03 + 3.0 * r * 0.5 + 0.06f64).tanh();
    near(&eval(op(false), &inputs)[0], &[(1.0 - z) * plain + z * 0.5]);
    let linear = (0.6 + 0.03 + r * (1.5 + 0.06f64)).tanh();
    near(&eval(op(true), &inputs)[1], &[(1.0 - z) * linear + z * 0.5]);
}

/// Weights as they are stored mean what `dequantize` makes of them, and come with scales of their blocks.
#[test]
fn stored_weights_are_read_in_blocks() {
    let x = single(&[2, 1, 3], &[1.0, -2.0, 0.5, 0.25, 3.0, -1.0]);
    let w = Tensor::from_ints(DType::I4, &[1, 2, 3], &[7, -8, 3, -1, 5, 2]);
    let scale = single(&[1, 2, 2], &[0.5, 0.25, 0.125, 1.0]);
    let r = single(&[1, 2, 2], &[0.5, 0.25, -0.5, 1.0]);
    let op = |w_block| Rnn { hidden: 2, w_block, ..rnn(Direction::Forward) };
    let real = single(&[1, 2, 3], &[3.5, -4.0, 0.75, -0.125, 0.625, 2.0]);
    let wanted = eval(op(None), &[Some(&x), Some(&real), Some(&r)]);
    let none = [None; 3];
    let inputs: Vec<Option<&Tensor>> =
        [Some(&x), Some(&w), Some(&r)].into_iter().chain(none).chain([Some(&scale)]).collect();
    assert_eq!(eval(op(Some(2)), &inputs), wanted);
    let types: Vec<Option<TensorType>> = inputs.iter().map(|t| t.map(Tensor::ty)).collect();
    let refs: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
    for (block, refused) in [(Some(2), false), (Some(1), true), (Some(0), true), (None, true)] {
        assert_eq!(Op::from(op(block)).infer(&refs).is_err(), refused, "{block:?}");
    }
    assert!(Op::from(op(Some(2))).infer(&refs[..3]).is_err(), "no scales");
}
