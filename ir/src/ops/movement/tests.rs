//! Tests of the operators that only move elements.

use super::*;
use crate::ops::Op;
use crate::types::DType;
use proptest::prelude::*;

fn run(op: impl Into<Op>, inputs: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    op.into().eval(&inputs.iter().copied().map(Some).collect::<Vec<_>>(), &|_| None)
}

fn run1(op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
    run(op, inputs).unwrap().remove(0)
}

fn extents(values: &[i64]) -> Vec<Extent> {
    values.iter().map(|&v| v.into()).collect()
}

/// `0, 1, 2, ...`, modulo 16 so that 4-bit types hold it.
fn iota(dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<i128> = (0..shape.iter().product::<usize>()).map(|v| v as i128 % 16).collect();
    Tensor::from_ints_wrapping(dtype, shape, &values)
}

fn pad(mode: PadMode, before: &[i64], after: &[i64]) -> Pad {
    Pad { mode, before: extents(before), after: extents(after) }
}

fn slice(axis: usize, start: i64, size: i64, step: i64) -> Slice {
    Slice { axes: vec![axis], starts: extents(&[start]), sizes: extents(&[size]), steps: vec![step] }
}

#[test]
fn slice_table() {
    let x = iota(DType::I32, &[2, 4]);
    type Case = (usize, i64, i64, i64, Option<&'static [i64]>);
    let cases: &[Case] = &[
        (1, 1, 2, 1, Some(&[1, 2, 5, 6])),
        (1, 3, 2, -2, Some(&[3, 1, 7, 5])),
        (1, 0, 2, 3, Some(&[0, 3, 4, 7])),
        (0, 1, 1, 1, Some(&[4, 5, 6, 7])),
        (1, 9, 0, 1, Some(&[])),
        (1, 3, 2, 1, None),
        (1, -1, 1, 1, None),
        (1, 1, 3, -1, None),
        (1, 0, 1, 0, None),
        (1, 0, -1, 1, None),
        (2, 0, 1, 1, None),
        (1, i64::MAX, 2, 1 << 31, None),
    ];
    for &(axis, start, size, step, expected) in cases {
        let found = run(slice(axis, start, size, step), &[&x]);
        assert_eq!(found.ok().map(|r| r[0].to_i64()).as_deref(), expected, "{axis} {start} {size} {step}");
    }
}

/// Expected values from ONNX Runtime 1.32.
#[test]
fn pad_table() {
    let x = iota(DType::F32, &[4]);
    let cases: &[(PadMode, i64, i64, Option<&[i64]>)] = &[
        (PadMode::Reflect, -1, 2, Some(&[1, 2, 3, 2, 1])),
        (PadMode::Reflect, 1, -2, Some(&[1, 0, 1])),
        (PadMode::Reflect, 3, 3, Some(&[3, 2, 1, 0, 1, 2, 3, 2, 1, 0])),
        (PadMode::Reflect, 4, 4, None),
        (PadMode::Reflect, 3, -1, None),
        (PadMode::Edge, -1, 2, Some(&[1, 2, 3, 3, 3])),
        (PadMode::Edge, 1, -2, Some(&[0, 0, 1])),
        (PadMode::Wrap, 5, 0, Some(&[3, 0, 1, 2, 3, 0, 1, 2, 3])),
        (PadMode::Wrap, -1, 2, Some(&[1, 2, 3, 1, 2])),
        (PadMode::Wrap, 0, 6, Some(&[0, 1, 2, 3, 0, 1, 2, 3, 0, 1])),
        (PadMode::Constant, 1, 2, Some(&[0, 0, 1, 2, 3, 0, 0])),
        (PadMode::Constant, -3, -1, Some(&[])),
        (PadMode::Constant, -5, 3, None),
    ];
    for &(mode, before, after, expected) in cases {
        let found = run(pad(mode, &[before], &[after]), &[&x]);
        assert_eq!(found.ok().map(|r| r[0].to_i64()).as_deref(), expected, "{mode} {before} {after}");
    }
    let value = Tensor::from_f32(&[], &[-0.0]);
    let padded = run1(pad(PadMode::Constant, &[1], &[0]), &[&Tensor::zeros(DType::F32, &[0]), &value]);
    assert_eq!(padded, Tensor::from_f32(&[1], &[-0.0]));
    assert!(run(pad(PadMode::Edge, &[1], &[0]), &[&Tensor::zeros(DType::F32, &[0])]).is_err());
    let scalar = Tensor::from_f32(&[], &[3.0]);
    assert_eq!(run1(pad(PadMode::Wrap, &[], &[]), &[&scalar]), scalar);
}

/// Expected values from ONNX Runtime 1.32.
#[test]
fn space_and_depth() {
    let x = Tensor::from_ints(DType::I32, &[1, 8, 1, 2], &(0..16).collect::<Vec<_>>());
    let dcr = run1(DepthToSpace { block: 2, crd: false }, &[&x]);
    assert_eq!(dcr.shape(), [1, 2, 2, 4]);
    assert_eq!(dcr.to_i64(), [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15]);
    let crd = run1(DepthToSpace { block: 2, crd: true }, &[&x]);
    assert_eq!(crd.to_i64(), [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15]);
    assert_eq!(run1(SpaceToDepth { block: 2, crd: false }, &[&dcr]), x);
    assert!(run(DepthToSpace { block: 3, crd: false }, &[&x]).is_err());
    assert!(run(SpaceToDepth { block: 0, crd: false }, &[&x]).is_err());
}

#[test]
fn expand_tile_trilu() {
    let x = iota(DType::U4, &[3, 1]);
    assert_eq!(run1(Expand { shape: extents(&[2, 3, 2]) }, &[&x]).to_i64(), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    assert!(run(Expand { shape: extents(&[1]) }, &[&x]).is_err());
    assert_eq!(run1(Expand { shape: extents(&[3, 0]) }, &[&x]).shape(), [3, 0]);
    assert_eq!(run1(Tile { repeats: extents(&[2, 2]) }, &[&x]).to_i64(), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    assert_eq!(run1(Tile { repeats: extents(&[0, 2]) }, &[&x]).shape(), [0, 2]);
    let square = Tensor::from_ints(DType::I8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
    let cases: &[(i64, bool, [i64; 6])] = &[
        (0, false, [1, 2, 3, 0, 5, 6]),
        (1, false, [0, 2, 3, 0, 0, 6]),
        (0, true, [1, 0, 0, 4, 5, 0]),
        (-1, true, [0, 0, 0, 4, 0, 0]),
        (i64::MAX, true, [1, 2, 3, 4, 5, 6]),
        (i64::MIN, true, [0; 6]),
    ];
    for &(k, lower, expected) in cases {
        assert_eq!(run1(Trilu { k, lower }, &[&square]).to_i64(), expected, "{k} {lower}");
    }
}

#[test]
fn symbolic_shapes() {
    let n = || Extent::sym("n");
    let x = TensorType::new(DType::F32, vec![n(), 6.into()]);
    let infer = |op: Op, inputs: &[&TensorType]| {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        op.infer(&inputs).map(|types| types.iter().map(|t| show(&t.shape)).collect::<Vec<_>>().join(" "))
    };
    let cases: Vec<(Op, Option<&str>)> = vec![
        (Reshape { shape: vec![n() * 2.into(), 3.into()] }.into(), Some("[2*n,3]")),
        (Reshape { shape: vec![Extent::sym("m"), 6.into()] }.into(), None),
        (Transpose { perm: vec![1, 0] }.into(), Some("[6,n]")),
        (Transpose { perm: vec![0, 0] }.into(), None),
        (Split { axis: 0, sizes: vec![2.into(), n() - 2.into()] }.into(), Some("[2,6] [(n - 2),6]")),
        (Split { axis: 0, sizes: vec![2.into(), n()] }.into(), None),
        (Pad { mode: PadMode::Edge, before: extents(&[1, 0]), after: extents(&[1, -6]) }.into(), Some("[(n + 2),0]")),
        (Expand { shape: vec![4.into(), n(), 6.into()] }.into(), Some("[4,n,6]")),
        (Expand { shape: vec![5.into(), 6.into()] }.into(), None),
        (Tile { repeats: vec![n(), 2.into()] }.into(), Some("[n*n,12]")),
        (Tile { repeats: extents(&[-1, 2]) }.into(), None),
        (slice(1, 2, 4, 1).into(), Some("[n,4]")),
        (slice(1, 3, 4, 1).into(), None),
    ];
    for (op, expected) in cases {
        assert_eq!(infer(op.clone(), &[&x]).ok().as_deref(), expected, "{op}");
    }
    assert_eq!(infer(Concat { axis: 0 }.into(), &[&x, &x]).ok().as_deref(), Some("[2*n,6]"));
    assert!(infer(Concat { axis: 1 }.into(), &[&x, &TensorType::fixed(DType::F32, &[3, 6])]).is_err());
    let nhwc = infer(Relayout { layout: Layout::channels_last(4) }.into(), &[&x]);
    assert!(nhwc.is_err_and(|e| e.to_string().contains("rank 2")));
}

fn tensors() -> impl Strategy<Value = Tensor> {
    let dtypes = prop::sample::select(vec![DType::U4, DType::I8, DType::F16, DType::F32, DType::F64]);
    (dtypes, prop::collection::vec(0usize..4, 1..4)).prop_map(|(dtype, shape)| iota(dtype, &shape))
}

proptest! {
    #[test]
    fn transpose_undoes_its_inverse(x in tensors(), seed: u64) {
        let mut perm: Vec<usize> = (0..x.shape().len()).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut perm);
        let mut inverse = perm.clone();
        perm.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
        let there = run1(Transpose { perm }, &[&x]);
        prop_assert_eq!(run1(Transpose { perm: inverse }, &[&there]), x);
    }

    #[test]
    fn slice_of_concat_is_the_part(x in tensors(), seed: usize) {
        let axis = seed % x.shape().len();
        let mut shape = x.shape().to_vec();
        shape[axis] = seed % 3;
        let y = iota(x.dtype(), &shape);
        let both = run1(Concat { axis }, &[&x, &y, &x]);
        let (a, b) = (x.shape()[axis] as i64, shape[axis] as i64);
        prop_assert_eq!(&run1(slice(axis, a, b, 1), &[&both]), &y);
        let parts = run(Split { axis, sizes: extents(&[a, b, a]) }, &[&both]).unwrap();
        prop_assert_eq!(parts, vec![x.clone(), y, x]);
    }

    #[test]
    fn padding_is_cropped_away(x in tensors(), before in 0i64..3, after in 0i64..3, wrap: bool) {
        let rank = x.shape().len();
        let mode = if wrap && !x.shape().contains(&0) { PadMode::Wrap } else { PadMode::Constant };
        let there = run1(pad(mode, &vec![before; rank], &vec![after; rank]), &[&x]);
        let back = run1(pad(PadMode::Constant, &vec![-before; rank], &vec![-after; rank]), &[&there]);
        prop_assert_eq!(&back, &x);
        let sizes: Vec<Extent> = x.shape().iter().map(|&len| len.into()).collect();
        let slice = Slice { axes: (0..rank).collect(), starts: extents(&vec![before; rank]), sizes, steps: vec![1; rank] };
        prop_assert_eq!(run1(slice, &[&there]), x);
    }

    #[test]
    fn reversing_twice_is_nothing(x in tensors()) {
        let len = x.shape()[0] as i64;
        let reverse = slice(0, (len - 1).max(0), len, -1);
        let there = run1(reverse.clone(), &[&x]);
        prop_assert_eq!(run1(reverse, &[&there]), x);
    }
}
