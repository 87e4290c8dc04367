use adze_ir::ops::{Conv, ConvTranspose, Op};
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};

/// A convolution of any rank, with one attribute tuple per spatial axis.
#[derive(Clone, Debug)]
struct Shape {
    batch: usize,
    group: usize,
    depth: usize,
    columns: usize,
    /// Input, kernel, stride, dilation, pad before, pad after.
    axes: Vec<[usize; 6]>,
}

impl Shape {
    fn valid(&self) -> bool {
        self.axes.iter().all(|&[n, k, _, d, before, after]| n + before + after > d * (k - 1))
    }

    fn op(&self) -> Conv {
        let each = |i: usize| self.axes.iter().map(move |a| a[i] as i64);
        Conv {
            strides: each(2).collect(),
            pads: each(4).chain(each(5)).collect(),
            dilations: each(3).collect(),
            group: self.group as i64,
        }
    }

    fn check(&self, seed: u64, flags: u32, dtype: DType) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let x: Vec<usize> =
            [self.batch, self.group * self.depth].into_iter().chain(self.axes.iter().map(|a| a[0])).collect();
        let w: Vec<usize> =
            [self.group * self.columns, self.depth].into_iter().chain(self.axes.iter().map(|a| a[1])).collect();
        let x = Given::plain(random(&mut rng, dtype, &x));
        let x = if flag(0) { x.last() } else { x };
        let w = random(&mut rng, dtype, &w);
        let w = if flag(1) { Given::plain(w) } else { Given::constant(w) };
        let bias = flag(2).then(|| Given::plain(random(&mut rng, dtype, &[self.group * self.columns])));
        let mut case = Case::new(self.op(), vec![Some(x), Some(w), bias]);
        if flag(3) {
            case = case.last(self.axes.len() + 2);
        }
        case.check(4.0);
    }
}

fn axis(max: usize) -> impl Strategy<Value = [usize; 6]> {
    (1..max, 1usize..4, 1usize..3, 1usize..3, 0usize..3, 0usize..3).prop_map(|(n, k, s, d, b, a)| [n, k, s, d, b, a])
}

fn shape(axes: std::ops::Range<usize>, max: usize) -> impl Strategy<Value = Shape> {
    let axes = prop::collection::vec(axis(max), axes);
    (1usize..3, 1usize..3, 1usize..6, 1usize..12, axes)
        .prop_map(|(batch, group, depth, columns, axes)| Shape { batch, group, depth, columns, axes })
        .prop_filter("an output", Shape::valid)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn conv_agrees(seed: u64, shape in shape(2..3, 14), flags in 0u32..16) {
        shape.check(seed, flags, DType::F32);
    }

    #[test]
    fn conv_of_other_ranks_agrees(seed: u64, shape in prop_oneof![shape(1..2, 40), shape(3..4, 6)], flags in 0u32..16) {
        shape.check(seed, flags, DType::F32);
    }

    #[test]
    fn conv_of_other_dtypes_agrees(seed: u64, shape in shape(2..3, 8), flags in 0u32..16, dtype in 0usize..3) {
        shape.check(seed, flags, [DType::F16, DType::Bf16, DType::F64][dtype]);
    }

    /// Depthwise.
    #[test]
    fn depthwise_conv_agrees(seed: u64, shape in shape(2..3, 20), channels in 1usize..40, flags in 0u32..16) {
        Shape { group: channels, depth: 1, columns: 1, ..shape }.check(seed, flags, DType::F32);
    }

    /// Padding as a view that reaches beyond its buffer.
    #[test]
    fn conv_of_a_view_with_a_border_agrees(seed: u64, shape in shape(2..3, 14), last: bool) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pads = shape.axes.clone();
        let mut inner = shape.clone();
        for a in &mut inner.axes {
            a[0] += a[4] + a[5];
            (a[4], a[5]) = (0, 0);
        }
        let x: Vec<usize> = [shape.batch, shape.group * shape.depth].into_iter().chain(inner.axes.iter().map(|a| a[0])).collect();
        let mut tensor = random(&mut rng, DType::F32, &x).to_f64();
        let mut given = Given::plain(adze_ir::tensor::Tensor::zeros(DType::F32, &x));
        given.border = Some(([(0, 0), (0, 0)].into_iter().chain(pads.iter().map(|a| (a[4], a[5]))).collect(), 0.0));
        for (value, at) in tensor.iter_mut().zip(given.positions()) {
            if at.is_none() {
                *value = 0.0;
            }
        }
        given.tensor = adze_ir::tensor::Tensor::from_f64(DType::F32, &x, &tensor);
        let given = if last { given.last() } else { given };
        let w: Vec<usize> = [shape.group * shape.columns, shape.depth].into_iter().chain(shape.axes.iter().map(|a| a[1])).collect();
        let w = Given::constant(random(&mut rng, DType::F32, &w));
        let case = Case::new(inner.op(), vec![Some(given), Some(w)]);
        case.check(4.0);
    }

    /// A sequence whose length is known at run time only.
    #[test]
    fn conv_of_a_named_length_agrees(seed: u64, shape in shape(1..2, 40), last: bool) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let [n, k, s, d, before, after] = shape.axes[0];
        let x = Given::plain(random(&mut rng, DType::F32, &[shape.batch, shape.group * shape.depth, n])).named(2, "t");
        let x = if last { x.last() } else { x };
        let w = Given::constant(random(&mut rng, DType::F32, &[shape.group * shape.columns, shape.depth, k]));
        let out = (n + before + after - d * (k - 1) - 1) / s + 1;
        let mut case = Case::new(shape.op(), vec![Some(x), Some(w)]);
        case.dims = [("o", out as i64), ("t", n as i64)].into();
        case.named = vec![(2, "o")];
        if last {
            case = case.last(3);
        }
        case.check(4.0);
    }

    #[test]
    fn conv_transpose_agrees(seed: u64, shape in prop_oneof![shape(2..3, 7), shape(1..2, 20)], extra in 0usize..2, flags in 0u32..16) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let conv = shape.op();
        let padding = |a: &[usize; 6]| extra.min(a[2] - 1) as i64;
        let op = ConvTranspose {
            strides: conv.strides,
            pads: conv.pads,
            output_padding: shape.axes.iter().map(padding).collect(),
            dilations: conv.dilations,
            group: conv.group,
        };
        let x: Vec<usize> =
            [shape.batch, shape.group * shape.depth].into_iter().chain(shape.axes.iter().map(|a| a[0])).collect();
        let w: Vec<usize> =
            [shape.group * shape.depth, shape.columns].into_iter().chain(shape.axes.iter().map(|a| a[1])).collect();
        let x = Given::plain(random(&mut rng, DType::F32, &x));
        let x = if flag(0) { x.last() } else { x };
        let w = Given::constant(random(&mut rng, DType::F32, &w));
        let bias = flag(1).then(|| Given::plain(random(&mut rng, DType::F32, &[shape.group * shape.columns])));
        let rank = shape.axes.len() + 2;
        let types: Vec<_> = [Some(&x), Some(&w), bias.as_ref()].into_iter().map(|g| g.map(|g| g.tensor.ty())).collect();
        let refs: Vec<_> = types.iter().map(Option::as_ref).collect();
        let inferred = Op::from(op.clone()).infer(&refs);
        prop_assume!(inferred.is_ok_and(|t| t[0].fixed_shape().is_some_and(|s| s.iter().all(|&n| n > 0))));
        let mut case = Case::new(op, vec![Some(x), Some(w), bias]);
        if flag(3) {
            case = case.last(rank);
        }
        case.check(4.0);
    }
}
