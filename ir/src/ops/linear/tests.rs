use super::*;
use crate::extent::Extent;
use crate::ops::{Op, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use proptest::prelude::*;

fn eval(op: impl Into<Op>, inputs: &[Option<&Tensor>]) -> Tensor {
    op.into().eval(inputs, &|_| None).unwrap().pop().unwrap()
}

/// Small integers as floats, so that every sum is exact in any order.
fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = fastrand::Rng::with_seed(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.i32(-9..10))).collect();
    Tensor::from_f64(DType::F32, shape, &values)
}

fn at(t: &Tensor, values: &[f64], index: &[i64]) -> f64 {
    let mut flat = 0;
    for (&i, &dim) in index.iter().zip(t.shape()) {
        if i < 0 || i >= dim as i64 {
            return 0.0;
        }
        flat = flat * dim + i as usize;
    }
    values[flat]
}

/// The definition of a convolution over two spatial axes, term by term.
fn naive_conv(op: &Conv, x: &Tensor, w: &Tensor, out: &[usize]) -> Vec<f64> {
    let (xs, ws) = (x.to_f64(), w.to_f64());
    let (group_in, group_out) = (w.shape()[1] as i64, (out[1] as i64) / op.group);
    let mut result = Vec::new();
    for flat in 0..out.iter().product::<usize>() as i64 {
        let (ow, rest) = (flat % out[3] as i64, flat / out[3] as i64);
        let (oh, rest) = (rest % out[2] as i64, rest / out[2] as i64);
        let (co, n) = (rest % out[1] as i64, rest / out[1] as i64);
        let mut sum = 0.0;
        for ci in 0..group_in {
            for kh in 0..w.shape()[2] as i64 {
                for kw in 0..w.shape()[3] as i64 {
                    let h = oh * op.strides[0] + kh * op.dilations[0] - op.pads[0];
                    let v = ow * op.strides[1] + kw * op.dilations[1] - op.pads[1];
                    sum += at(x, &xs, &[n, co / group_out * group_in + ci, h, v]) * at(w, &ws, &[co, ci, kh, kw]);
                }
            }
        }
        result.push(sum);
    }
    result
}

proptest! {
    #[test]
    fn conv_is_its_definition(
        n in 1usize..3, group in 1i64..4, ci in 1usize..3, co in 1usize..3,
        size in prop::array::uniform2(4usize..8), kernel in prop::array::uniform2(1usize..4),
        strides in prop::collection::vec(1i64..4, 2), dilations in prop::collection::vec(1i64..3, 2),
        pads in prop::collection::vec(0i64..4, 4), seed: u64,
    ) {
        let g = group as usize;
        let (x, w) = (numbers(&[n, ci * g, size[0], size[1]], seed), numbers(&[co * g, ci, kernel[0], kernel[1]], !seed));
        let op = Conv { strides, pads, dilations, group };
        let Ok(types) = Op::from(op.clone()).infer(&[Some(&x.ty()), Some(&w.ty())]) else { return Ok(()) };
        let result = eval(op.clone(), &[Some(&x), Some(&w)]);
        prop_assert_eq!(Some(result.shape().to_vec()), types[0].fixed_shape());
        prop_assert_eq!(result.to_f64(), naive_conv(&op, &x, &w, result.shape()));
    }

    /// `<conv(x), y> = <x, conv_transpose(y)>`: the one is the other's adjoint.
    #[test]
    fn conv_transpose_is_the_adjoint(
        group in 1i64..3, ci in 1usize..3, co in 1usize..3,
        size in prop::array::uniform2(4usize..8), kernel in prop::array::uniform2(1usize..4),
        strides in prop::collection::vec(1i64..4, 2), dilations in prop::collection::vec(1i64..3, 2),
        pads in prop::collection::vec(0i64..3, 4), seed: u64,
    ) {
        let g = group as usize;
        let (x, w) = (numbers(&[2, ci * g, size[0], size[1]], seed), numbers(&[co * g, ci, kernel[0], kernel[1]], !seed));
        let conv = Conv { strides: strides.clone(), pads: pads.clone(), dilations: dilations.clone(), group };
        if Op::from(conv.clone()).infer(&[Some(&x.ty()), Some(&w.ty())]).is_err() { return Ok(()) }
        let y = eval(conv, &[Some(&x), Some(&w)]);
        let v = numbers(y.shape(), seed ^ 77);
        let rest = |i: usize| {
            let span = (kernel[i] as i64 - 1) * dilations[i] + 1;
            (size[i] as i64 + pads[i] + pads[i + 2] - span) % strides[i]
        };
        let back = ConvTranspose { output_padding: vec![rest(0), rest(1)], strides, pads, dilations, group };
        let u = eval(back, &[Some(&v), Some(&w)]);
        prop_assert_eq!(u.shape(), x.shape());
        let dot = |a: &Tensor, b: &Tensor| a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| a * b).sum::<f64>();
        prop_assert_eq!(dot(&y, &v), dot(&x, &u));
    }

    #[test]
    fn matmul_and_gemm_agree_with_einsum(m in 0usize..4, k in 0usize..4, n in 0usize..4, ta: bool, tb: bool, seed: u64) {
        let a = numbers(&if ta { [2, k, m] } else { [2, m, k] }, seed);
        let b = numbers(&if tb { [3, 1, n, k] } else { [3, 1, k, n] }, !seed);
        let product = eval(MatMul { trans_a: ta, trans_b: tb }, &[Some(&a), Some(&b)]);
        prop_assert_eq!(product.shape(), &[3, 2, m, n]);
        let equation = format!("...{},...{}->...ij", if ta { "ki" } else { "ik" }, if tb { "jk" } else { "kj" });
        prop_assert_eq!(&eval(Einsum { equation: equation.into() }, &[Some(&a), Some(&b)]), &product);
    }
}

#[test]
fn conv_in_one_and_three_axes_with_bias() {
    let x = Tensor::from_f32(&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let w = Tensor::from_f32(&[2, 1, 2], &[1.0, -1.0, 2.0, 0.0]);
    let bias = Tensor::from_f32(&[2], &[0.5, 10.0]);
    let op = Conv { strides: vec![2], pads: vec![1, 0], dilations: vec![1], group: 1 };
    let y = eval(op, &[Some(&x), Some(&w), Some(&bias)]);
    assert_eq!((y.shape(), y.to_f64()), (&[1, 2, 3][..], vec![-0.5, -0.5, -0.5, 10.0, 14.0, 18.0]));
    let cube = Tensor::from_f32(&[1, 1, 2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let op = Conv { strides: vec![1; 3], pads: vec![-1, 0, 0, 0, 0, 0], dilations: vec![1; 3], group: 1 };
    let ones = Tensor::from_f32(&[1, 1, 1, 2, 2], &[1.0; 4]);
    assert_eq!(eval(op, &[Some(&cube), Some(&ones)]).to_f64(), [26.0], "a negative padding crops");
}

#[test]
fn conv_refuses() {
    let op = |group, stride| Op::from(Conv { strides: vec![stride], pads: vec![0, 0], dilations: vec![1], group });
    let x = |c: usize, len: usize| TensorType::fixed(DType::F32, &[1, c, len]);
    let w = TensorType::fixed(DType::F32, &[4, 2, 3]);
    assert!(op(1, 1).infer(&[Some(&x(2, 5)), Some(&w)]).is_ok());
    assert!(matches!(
        op(1, 1).infer(&[Some(&x(3, 5)), Some(&w)]),
        Err(TypeError::Shape { what: "input channels", .. })
    ));
    assert!(matches!(op(1, 1).infer(&[Some(&x(2, 2)), Some(&w)]), Err(TypeError::Shape { what: "spatial axis", .. })));
    assert!(matches!(op(3, 1).infer(&[Some(&x(6, 5)), Some(&w)]), Err(TypeError::Attribute { name: "group", .. })));
    assert!(matches!(op(0, 1).infer(&[Some(&x(2, 5)), Some(&w)]), Err(TypeError::Attribute { name: "group", .. })));
    assert!(matches!(op(1, 0).infer(&[Some(&x(2, 5)), Some(&w)]), Err(TypeError::Attribute { name: "strides", .. })));
    let half = TensorType::fixed(DType::F16, &[1, 2, 5]);
    assert!(matches!(op(1, 1).infer(&[Some(&half), Some(&w)]), Err(TypeError::DType { input: 1, .. })));
    let mut open = x(2, 5);
    open.shape[2] = Extent::sym("t");
    assert_eq!(op(1, 2).infer(&[Some(&open), Some(&w)]).unwrap()[0].to_string(), "f32[1,4,(floordiv((t + 1), 2) - 1)]");
}

#[test]
fn gemm_scales_and_broadcasts() {
    let (a, b) = (numbers(&[2, 3], 1), numbers(&[2, 4], 2));
    let product =
        eval(Gemm { alpha: 1.0.into(), beta: 1.0.into(), trans_a: true, trans_b: false }, &[Some(&a), Some(&b)]);
    let c = Tensor::from_f32(&[3, 1], &[1.0, 2.0, 3.0]);
    let op = Gemm { alpha: 0.5.into(), beta: 2.0.into(), trans_a: true, trans_b: false };
    let scaled = eval(op.clone(), &[Some(&a), Some(&b), Some(&c)]);
    for (i, (s, p)) in scaled.to_f64().iter().zip(product.to_f64()).enumerate() {
        assert_eq!(*s, p / 2.0 + 2.0 * (i / 4 + 1) as f64);
    }
    let ints = TensorType::fixed(DType::I32, &[2, 3]);
    assert!(matches!(Op::from(op).infer(&[Some(&ints), Some(&ints)]), Err(TypeError::Attribute { name: "alpha", .. })));
}

#[test]
fn products_of_vectors_and_integers() {
    let op = || MatMul { trans_a: false, trans_b: false };
    let (v, m) = (numbers(&[3], 1), numbers(&[3, 2], 2));
    assert_eq!(eval(op(), &[Some(&v), Some(&v)]).shape(), [0usize; 0]);
    assert_eq!(eval(op(), &[Some(&v), Some(&m)]).shape(), [2]);
    let big = Tensor::from_ints(DType::U64, &[1, 1], &[u64::MAX.into()]);
    assert_eq!(eval(op(), &[Some(&big), Some(&big)]).to_ints(), [1]);
    assert!(Op::from(op()).infer(&[Some(&m.ty()), Some(&m.ty())]).is_err());
}

#[test]
fn einsum_diagonals_and_many_operands() {
    let einsum = |text: &str| Einsum { equation: text.into() };
    let a = Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(eval(einsum("ii->i"), &[Some(&a)]).to_f64(), [1.0, 4.0]);
    assert_eq!(eval(einsum("ij->"), &[Some(&a)]).to_f64(), [10.0]);
    assert_eq!(
        eval(einsum("ij,jk,k->i"), &[Some(&a), Some(&a), Some(&Tensor::from_f32(&[2], &[1.0, 1.0]))]).to_f64(),
        [17.0, 37.0]
    );
    for bad in ["ij", "ij->k", "i->i", "i j->ij", "ij->ii", "ij,jk->ik"] {
        assert!(Op::from(einsum(bad)).infer(&[Some(&a.ty())]).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn minimal_filtering_is_a_convolution(
        n in 1usize..3, ci in 1usize..4, co in 1usize..3, size in prop::array::uniform2(3usize..12),
        pads in prop::collection::vec(-1i64..3, 4), tile in 1i64..3, bias: bool, seed: u64,
    ) {
        let (x, w) = (numbers(&[n, ci, size[0], size[1]], seed), numbers(&[co, ci, 3, 3], !seed));
        let b = bias.then(|| numbers(&[co], seed / 2));
        let op = WinogradConv { tile: 2 * tile, pads };
        let operands = [Some(&x), Some(&w), b.as_ref()];
        let types = operands.map(|t| t.map(Tensor::ty));
        let types: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
        let conv = Op::from(op.conv()).infer(&types);
        prop_assert_eq!(&Op::from(op.clone()).infer(&types), &conv);
        if conv.is_ok() {
            let (found, expected) = (eval(op.clone(), &operands).to_f64(), eval(op.conv(), &operands).to_f64());
            // Integers, but for what a division by 24 rounds in `f64`.
            prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{:?} {:?}", found, expected);
        }
    }
}

#[test]
fn minimal_filtering_is_of_floats_and_3x3() {
    let infer = |tile: i64, dtype: DType, w: &[usize]| {
        let (x, w) = (TensorType::fixed(dtype, &[1, 2, 8, 8]), TensorType::fixed(dtype, w));
        Op::from(WinogradConv { tile, pads: vec![0; 4] }).infer(&[Some(&x), Some(&w)]).is_ok()
    };
    assert!(infer(2, DType::F32, &[4, 2, 3, 3]) && infer(4, DType::F32, &[4, 2, 3, 3]));
    assert!(!infer(3, DType::F32, &[4, 2, 3, 3]) && !infer(6, DType::F32, &[4, 2, 3, 3]));
    assert!(!infer(4, DType::F16, &[4, 2, 3, 3]) && !infer(4, DType::F32, &[4, 2, 3, 1]));
}
