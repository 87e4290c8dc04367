use super::*;
use crate::extent::Extent;
use crate::ops::{Op, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

fn eval(op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|t| Some(*t)).collect();
    op.into().eval(&inputs, &|_| None).unwrap().pop().unwrap()
}

fn close(found: &Tensor, expected: &[f64]) {
    let found = found.to_f64();
    assert_eq!(found.len(), expected.len());
    let near = |(f, e): (&f64, &f64)| (f - e).abs() <= 1e-6 * e.abs().max(1e-3);
    assert!(found.iter().zip(expected).all(near), "{found:?}, not {expected:?}");
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_f32(&[values.len()], values)
}

#[test]
fn softmax_and_its_kin() {
    let x = Tensor::from_f32(&[2, 2], &[0.0, 3f32.ln(), 1000.0, 1000.0]);
    close(&eval(Softmax { axis: 1, flatten: false }, &[&x]), &[0.25, 0.75, 0.5, 0.5]);
    close(
        &eval(LogSoftmax { axis: 1, flatten: false }, &[&x]),
        &[0.25f64.ln(), 0.75f64.ln(), 0.5f64.ln(), 0.5f64.ln()],
    );
    close(&eval(Hardmax { axis: 1, flatten: false }, &[&x]), &[0.0, 1.0, 1.0, 0.0]);
    let cube = Tensor::from_f32(&[1, 2, 2], &[0.0; 4]);
    close(&eval(Softmax { axis: 1, flatten: true }, &[&cube]), &[0.25; 4]);
    close(&eval(Softmax { axis: 1, flatten: false }, &[&cube]), &[0.5; 4]);
    let masked = vector(&[f32::NEG_INFINITY, 1.0]);
    close(&eval(Softmax { axis: 0, flatten: false }, &[&masked]), &[0.0, 1.0]);
    let nothing = Tensor::from_f32(&[0, 3], &[]);
    assert_eq!(eval(Softmax { axis: 0, flatten: false }, &[&nothing]).shape(), [0, 3]);
    assert!(Op::from(Softmax { axis: 2, flatten: false }).infer(&[Some(&x.ty())]).is_err());
}

#[test]
fn batch_norm_per_channel() {
    let x = Tensor::from_f32(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let [scale, bias, mean, var] = [[2.0, 1.0], [0.5, 0.0], [1.0, 2.0], [4.0, 0.25]].map(|v| vector(&v));
    close(&eval(BatchNorm { epsilon: 0.0.into() }, &[&x, &scale, &bias, &mean, &var]), &[0.5, 1.5, 2.0, 4.0]);
    let mut open = x.ty();
    open.shape[1] = Extent::sym("c");
    let v = TensorType::fixed(DType::F32, &[2]);
    let found =
        Op::from(BatchNorm { epsilon: 0.0.into() }).infer(&[Some(&open), Some(&v), Some(&v), Some(&v), Some(&v)]);
    assert!(matches!(found, Err(TypeError::Shape { .. })), "`c` is not proved to be 2");
}

#[test]
fn layer_rms_instance_and_group() {
    let x = Tensor::from_f32(&[1, 4], &[1.0, 3.0, 5.0, 7.0]);
    let (scale, bias) = (vector(&[1.0, 1.0, 2.0, 2.0]), vector(&[0.0, 0.0, 1.0, 1.0]));
    let s = 5f64.sqrt();
    close(
        &eval(LayerNorm { axis: 1, epsilon: 0.0.into() }, &[&x, &scale, &bias]),
        &[-3.0 / s, -1.0 / s, 2.0 / s + 1.0, 6.0 / s + 1.0],
    );
    let r = 21f64.sqrt();
    close(&eval(RmsNorm { axis: 1, epsilon: 0.0.into() }, &[&x, &scale]), &[1.0 / r, 3.0 / r, 10.0 / r, 14.0 / r]);
    close(&eval(GroupNorm { epsilon: 0.0.into(), groups: 2 }, &[&x, &scale, &bias]), &[-1.0, 1.0, -1.0, 3.0]);
    let planes = Tensor::from_f32(&[1, 2, 2], &[1.0, 3.0, 5.0, 5.0]);
    let (scale, bias) = (vector(&[1.0, 2.0]), vector(&[0.0, 1.0]));
    close(
        &eval(InstanceNorm { epsilon: 1.0.into() }, &[&planes, &scale, &bias]),
        &[-0.5f64.sqrt(), 0.5f64.sqrt(), 1.0, 1.0],
    );
    let op = Op::from(GroupNorm { epsilon: 0.0.into(), groups: 3 });
    assert!(op.infer(&[Some(&x.ty()), Some(&scale.ty()), Some(&bias.ty())]).is_err());
}

#[test]
fn lp_norm_and_lrn() {
    let x = Tensor::from_f32(&[2, 2], &[3.0, 0.0, 4.0, 0.0]);
    close(&eval(LpNorm { axis: 0, p: 2 }, &[&x]), &[0.6, 0.0, 0.8, 0.0]);
    close(&eval(LpNorm { axis: 0, p: 1 }, &[&x]), &[3.0 / 7.0, 0.0, 4.0 / 7.0, 0.0]);
    let channels = Tensor::from_f32(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let op = |size| Lrn { alpha: (size as f64).into(), beta: 1.0.into(), bias: 1.0.into(), size };
    close(&eval(op(3), &[&channels]), &[1.0 / 6.0, 2.0 / 15.0, 3.0 / 30.0, 4.0 / 26.0]);
    close(&eval(op(2), &[&channels]), &[1.0 / 6.0, 2.0 / 14.0, 3.0 / 26.0, 4.0 / 17.0]);
}
