//! The families: how a random leaf of each is made, and how exact it is.

use adze_ir::attrs::F64;
use adze_ir::ops::*;
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use fastrand::Rng;

use super::{Given, Leaf};

/// How far results may be from the reference, in roundings of the result's format.
#[derive(Clone, Copy, Debug)]
pub enum Within {
    /// Not at all.
    Bits,
    /// So many of the largest sum of magnitudes.
    Sums(f64),
    /// So many of the largest result, or of 1.
    Results(f64),
}

/// Percent of the kernels that the emitters of ours make code of, at least.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub x86: usize,
    pub a64: usize,
    pub rvv: usize,
}

/// A family of kernels.
pub struct Family {
    pub name: &'static str,
    pub make: fn(&mut Rng) -> Leaf,
    pub within: Within,
    pub own: Own,
}

const ALL: Own = Own { x86: 100, a64: 100, rvv: 100 };

const fn family(name: &'static str, make: fn(&mut Rng) -> Leaf, within: Within, own: Own) -> Family {
    Family { name, make, within, own }
}

pub const FAMILIES: &[Family] = &[
    family("gemm", gemm, Within::Sums(4.0), ALL),
    family("gemv", gemv, Within::Sums(4.0), ALL),
    family("conv_1x1", |rng| conv(rng, &Window { kernel: 1..2, pads: 0..1, ..DENSE }), Within::Sums(4.0), ALL),
    family("conv", |rng| conv(rng, &DENSE), Within::Sums(4.0), ALL),
    family("conv_few_channels", |rng| conv(rng, &Window { depth: 1..4, ..DENSE }), Within::Sums(4.0), ALL),
    family("conv_grouped", |rng| conv(rng, &Window { groups: 2..4, ..DENSE }), Within::Sums(4.0), ALL),
    family("conv_dilated", |rng| conv(rng, &Window { dilation: 2..4, ..DENSE }), Within::Sums(4.0), ALL),
    family("conv_depthwise", |rng| conv(rng, &DEPTHWISE), Within::Sums(4.0), ALL),
    family("conv_transposed", conv_transposed, Within::Sums(4.0), ALL),
    family("winograd", winograd, Within::Sums(64.0), ALL),
    family("conv_f16", |rng| conv(rng, &Window { dtype: DType::F16, ..DENSE }), Within::Sums(4.0), ALL),
    family("gemm_f16", gemm_f16, Within::Sums(4.0), ALL),
    family("conv_int8", |rng| conv_integer(rng, &UNPADDED, DType::I8), Within::Bits, ALL),
    family("conv_int4", |rng| conv_integer(rng, &UNPADDED, DType::I4), Within::Bits, ALL),
    family("conv_int2", |rng| conv_integer(rng, &UNPADDED, DType::I2), Within::Bits, ALL),
    family("depthwise_int8", |rng| conv_integer(rng, &DEPTHWISE, DType::I8), Within::Bits, ALL),
    family("depthwise_int4", |rng| conv_integer(rng, &DEPTHWISE, DType::I4), Within::Bits, ALL),
    family("depthwise_int2", |rng| conv_integer(rng, &DEPTHWISE, DType::I2), Within::Bits, ALL),
    family("gemm_int8", gemm_int8, Within::Bits, ALL),
    family("gemm_int8_dynamic", gemm_int8_dynamic, Within::Bits, ALL),
    family("weights_int8", |rng| stored_weights(rng, DType::I8), Within::Sums(64.0), ALL),
    family("weights_int4", |rng| stored_weights(rng, DType::U4), Within::Sums(64.0), ALL),
    family("conv_weights_int8", |rng| conv_stored(rng, DType::I8), Within::Sums(64.0), ALL),
    family("conv_weights_int4", |rng| conv_stored(rng, DType::U4), Within::Sums(64.0), ALL),
    family("conv_weights_int4_signed", |rng| symmetric(conv_stored(rng, DType::I4)), Within::Sums(64.0), ALL),
    family("conv_weights_int2_signed", |rng| symmetric(conv_stored(rng, DType::I2)), Within::Sums(64.0), ALL),
    family("weights_int4_signed", |rng| without_zeros(stored_weights(rng, DType::I4)), Within::Sums(64.0), ALL),
    family("weights_int2", |rng| stored_weights(rng, DType::U2), Within::Sums(64.0), ALL),
    family("weights_int2_signed", |rng| without_zeros(stored_weights(rng, DType::I2)), Within::Sums(64.0), ALL),
    family("pool", pool, Within::Sums(4.0), ALL),
    family("reduction", reduction, Within::Results(64.0), ALL),
    family("softmax", softmax, Within::Results(64.0), ALL),
    family("norm", norm, Within::Results(256.0), ALL),
    family("elementwise", elementwise, Within::Results(64.0), ALL),
    family("transpose", transpose, Within::Bits, ALL),
    family("gather", gather, Within::Bits, ALL),
    family("concat", concat, Within::Bits, ALL),
    family("pad", pad, Within::Bits, ALL),
    family("lstm", |rng| cell(rng, 4, None), Within::Results(512.0), ALL),
    family("gru", |rng| cell(rng, 3, None), Within::Results(512.0), ALL),
    family("lstm_int8", |rng| cell(rng, 4, Some(DType::I8)), Within::Results(512.0), ALL),
    family("gru_int8", |rng| cell(rng, 3, Some(DType::I8)), Within::Results(512.0), ALL),
    family("lstm_int4", |rng| cell(rng, 4, Some(DType::I4)), Within::Results(512.0), ALL),
    family("lstm_int2", |rng| cell(rng, 4, Some(DType::I2)), Within::Results(512.0), ALL),
    family("lstm_computed", lstm_computed, Within::Results(512.0), ALL),
];

/// Extents of convolutions, half open.
struct Window {
    /// Channels that a sum runs over.
    depth: std::ops::Range<usize>,
    /// Channels in and out of a group are one each.
    depthwise: bool,
    groups: std::ops::Range<usize>,
    kernel: std::ops::Range<usize>,
    dilation: std::ops::Range<usize>,
    pads: std::ops::Range<usize>,
    dtype: DType,
}

const DENSE: Window =
    Window { depth: 1..9, depthwise: false, groups: 1..2, kernel: 1..4, dilation: 1..2, pads: 0..3, dtype: DType::F32 };
const UNPADDED: Window = Window { pads: 0..1, ..DENSE };
const DEPTHWISE: Window = Window { depth: 1..2, depthwise: true, groups: 1..40, dilation: 1..3, pads: 0..2, ..DENSE };

/// Values in -1..1.
fn random(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.f32()) * 2.0 - 1.0).collect();
    Tensor::from_f64(dtype, shape, &values)
}

fn plain(tensor: Tensor) -> Option<Given> {
    Some(Given { tensor, last: false, constant: false })
}

fn constant(tensor: Tensor) -> Option<Given> {
    Some(Given { tensor, last: false, constant: true })
}

fn placed(tensor: Tensor, last: bool) -> Option<Given> {
    Some(Given { tensor, last, constant: false })
}

fn leaf(op: impl Into<Op>, inputs: Vec<Option<Given>>) -> Leaf {
    Leaf { op: op.into(), inputs, last: false }
}

fn one_of<T: Copy>(rng: &mut Rng, items: &[T]) -> T {
    items[rng.usize(..items.len())]
}

fn product(rng: &mut Rng, [m, k, n]: [usize; 3], dtype: DType) -> Leaf {
    let (trans_a, trans_b) = (rng.u8(..4) == 0, rng.u8(..4) == 0);
    let batch = rng.usize(1..3);
    let shape = |batch: usize, a: usize, b: usize| if batch > 1 { vec![batch, a, b] } else { vec![a, b] };
    let a = if trans_a { shape(batch, k, m) } else { shape(batch, m, k) };
    let b = random(rng, dtype, &if trans_b { [n, k] } else { [k, n] });
    let b = if rng.bool() { constant(b) } else { plain(b) };
    leaf(MatMul { trans_a, trans_b }, vec![plain(random(rng, dtype, &a)), b])
}

fn gemm(rng: &mut Rng) -> Leaf {
    let size = [rng.usize(2..18), rng.usize(1..24), rng.usize(1..40)];
    if rng.bool() {
        return product(rng, size, DType::F32);
    }
    let [m, k, n] = size;
    let op = Gemm { alpha: F64::new(0.5), beta: F64::new(0.25), trans_a: false, trans_b: rng.bool() };
    let b = random(rng, DType::F32, &if op.trans_b { [n, k] } else { [k, n] });
    let c = one_of(rng, &[[1, n], [m, 1], [m, n]]);
    leaf(op, vec![plain(random(rng, DType::F32, &[m, k])), constant(b), plain(random(rng, DType::F32, &c))])
}

fn gemv(rng: &mut Rng) -> Leaf {
    let size = [rng.usize(1..4), rng.usize(1..70), rng.usize(1..70)];
    product(rng, size, DType::F32)
}

fn gemm_f16(rng: &mut Rng) -> Leaf {
    let size = [rng.usize(1..10), rng.usize(1..20), rng.usize(1..40)];
    product(rng, size, DType::F16)
}

/// Image, kernel and attributes of a convolution.
struct Shapes {
    x: Vec<usize>,
    w: Vec<usize>,
    op: Conv,
}

fn shapes(rng: &mut Rng, window: &Window) -> Shapes {
    let range = |rng: &mut Rng, range: &std::ops::Range<usize>| rng.usize(range.clone());
    let (group, depth) = (range(rng, &window.groups), range(rng, &window.depth));
    let columns = if window.depthwise { 1 } else { rng.usize(1..24) };
    let mut x = vec![rng.usize(1..3), group * depth];
    let mut w = vec![group * columns, depth];
    let (mut strides, mut dilations, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        let (kernel, dilation) = (range(rng, &window.kernel), range(rng, &window.dilation));
        x.push((kernel - 1) * dilation + rng.usize(1..9));
        w.push(kernel);
        strides.push(rng.i64(1..3));
        dilations.push(dilation as i64);
        before.push(range(rng, &window.pads) as i64);
        after.push(range(rng, &window.pads) as i64);
    }
    before.extend(after);
    Shapes { x, w, op: Conv { strides, pads: before, dilations, group: group as i64 } }
}

fn conv(rng: &mut Rng, window: &Window) -> Leaf {
    let Shapes { x, w, op } = shapes(rng, window);
    let last = rng.u8(..3) > 0;
    let bias = rng.bool().then(|| plain(random(rng, window.dtype, &w[..1]))).flatten();
    let inputs =
        vec![placed(random(rng, window.dtype, &x), last), constant(random(rng, window.dtype, &w)), bias.clone()];
    let activation = rng.bool() && bias.is_some();
    Leaf { op: if activation { activated(op, 3) } else { op.into() }, inputs, last }
}

/// The operator and what bounds its result.
fn activated(op: impl Into<Op>, operands: usize) -> Op {
    let params = (0..operands as u32).map(|i| Some(BodyRef::Param(i))).collect();
    let clip = Clip { min: Some(F64::new(0.0)), max: Some(F64::new(6.0)) };
    let steps = [
        BodyStep { op: op.into(), inputs: params },
        BodyStep { op: clip.into(), inputs: vec![Some(BodyRef::Step(0))] },
    ];
    Fused { steps: steps.into() }.into()
}

/// A convolution by minimal filtering.
fn winograd(rng: &mut Rng) -> Leaf {
    let Shapes { x, w, op } = shapes(rng, &Window { depth: 1..20, kernel: 3..4, ..DENSE });
    let op = WinogradConv { tile: one_of(rng, &[2, 4]), pads: op.pads };
    let bias = rng.bool().then(|| plain(random(rng, DType::F32, &w[..1]))).flatten();
    let activation = rng.bool() && bias.is_some();
    let inputs = vec![placed(random(rng, DType::F32, &x), true), constant(random(rng, DType::F32, &w)), bias];
    Leaf { op: if activation { activated(op, 3) } else { op.into() }, inputs, last: true }
}

fn conv_transposed(rng: &mut Rng) -> Leaf {
    let group = rng.usize(1..3);
    let (depth, columns) = (rng.usize(1..5), rng.usize(1..14));
    let kernel = [rng.usize(1..4), rng.usize(1..4)];
    let strides = vec![rng.i64(1..3), rng.i64(1..3)];
    let op = ConvTranspose {
        strides,
        pads: vec![0; 4],
        output_padding: vec![0; 2],
        dilations: vec![1; 2],
        group: group as i64,
    };
    let x = [rng.usize(1..3), group * depth, rng.usize(1..7), rng.usize(1..7)];
    let last = rng.bool();
    let w = random(rng, DType::F32, &[group * depth, columns, kernel[0], kernel[1]]);
    Leaf { op: op.into(), inputs: vec![placed(random(rng, DType::F32, &x), last), constant(w)], last }
}

fn integers(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let (lo, hi) = dtype.int_range().unwrap();
    let range = i32::try_from(lo).unwrap()..=i32::try_from(hi).unwrap();
    let values: Vec<i128> = (0..shape.iter().product()).map(|_| rng.i32(range.clone()).into()).collect();
    Tensor::from_ints(dtype, shape, &values)
}

fn integer(dtype: DType, value: i128) -> Option<Given> {
    constant(Tensor::from_ints(dtype, &[], &[value]))
}

fn scale(value: f32) -> Option<Given> {
    constant(Tensor::from_f32(&[], &[value]))
}

/// Operands of a quantized product or convolution, `u8` or `s8` by `s8`, scaled per column; some of the results saturate.
fn quantized(
    rng: &mut Rng,
    x: &[usize],
    (w, weights): (&[usize], DType),
    columns: usize,
    last: bool,
) -> Vec<Option<Given>> {
    let (x_dtype, y_dtype) = (one_of(rng, &[DType::U8, DType::I8]), one_of(rng, &[DType::U8, DType::I8]));
    let zero = |rng: &mut Rng, dtype: DType| integer(dtype, integers(rng, dtype, &[1]).to_ints()[0]);
    let terms = w.iter().product::<usize>() / columns;
    let size = if rng.u8(..6) == 0 { 5e4 } else { 0.03 / (terms as f32).sqrt() };
    let scales: Vec<f32> = (0..columns).map(|_| size * (0.5 + rng.f32())).collect();
    let bias: Vec<i128> = (0..columns).map(|_| rng.i32(-9000..9000).into()).collect();
    let bias = rng.bool().then(|| constant(Tensor::from_ints(DType::I32, &[columns], &bias))).flatten();
    let mut inputs = vec![
        placed(integers(rng, x_dtype, x), last),
        scale(0.5),
        zero(rng, x_dtype),
        constant(integers(rng, weights, w)),
        constant(Tensor::from_f32(&[columns], &scales)),
        integer(weights, 0),
        scale(0.7),
        zero(rng, y_dtype),
    ];
    inputs.extend(bias.map(Some));
    inputs
}

fn conv_integer(rng: &mut Rng, window: &Window, weights: DType) -> Leaf {
    let Shapes { x, w, op } = shapes(rng, window);
    let Conv { strides, pads, dilations, group } = op;
    let op = QLinearConv { strides, pads, dilations, group, contract: Requantize::F32Rne };
    let inputs = quantized(rng, &x, (&w, weights), w[0], true);
    let op = if rng.u8(..4) == 0 { activated(op, inputs.len()) } else { op.into() };
    Leaf { op, inputs, last: true }
}

fn gemm_int8(rng: &mut Rng) -> Leaf {
    let [m, k, n] = [rng.usize(1..18), rng.usize(1..24), rng.usize(1..70)];
    let inputs = quantized(rng, &[m, k], (&[k, n], DType::I8), n, false);
    leaf(QLinearMatMul { contract: Requantize::F32Rne }, inputs)
}

/// A zero point that is known at run time only.
fn gemm_int8_dynamic(rng: &mut Rng) -> Leaf {
    let [m, k, n] = [rng.usize(1..10), rng.usize(1..24), rng.usize(1..40)];
    let dtype = one_of(rng, &[DType::U8, DType::I8]);
    let inputs = vec![
        plain(integers(rng, dtype, &[m, k])),
        constant(integers(rng, DType::I8, &[k, n])),
        plain(integers(rng, dtype, &[])),
        integer(DType::I8, 0),
    ];
    leaf(MatMulInteger {}, inputs)
}

fn stored_weights(rng: &mut Rng, dtype: DType) -> Leaf {
    let (m, n, block, blocks) = (rng.usize(1..6), rng.usize(1..40), rng.usize(1..12), rng.usize(1..4));
    let k = block * blocks - rng.usize(0..block);
    let scales: Vec<f32> = (0..n * blocks).map(|_| rng.f32() * 0.1).collect();
    let inputs = vec![
        plain(random(rng, DType::F32, &[m, k])),
        constant(integers(rng, dtype, &[n, k])),
        constant(Tensor::from_f32(&[n, blocks], &scales)),
        constant(integers(rng, dtype, &[n, blocks])),
    ];
    leaf(MatMulStored { trans_b: true, axis: 1, block }, inputs)
}

/// Convolutions of floats, with weights that stay as they are stored.
fn conv_stored(rng: &mut Rng, dtype: DType) -> Leaf {
    let group = one_of(rng, &[1, 1, 2, 8]);
    let per = if group == 8 { 1 } else { rng.usize(1..9) };
    let [ci, co] = [group * per, group * if group == 8 { 1 } else { rng.usize(1..20) }];
    let kernel = [rng.usize(1..4), rng.usize(1..4)];
    let pads: Vec<i64> = [0, 1, 0, 1].iter().map(|&axis: &usize| rng.i64(0..kernel[axis] as i64)).collect();
    let x = [rng.usize(1..3), ci, kernel[0] + rng.usize(0..5), kernel[1] + rng.usize(0..9)];
    let last = rng.bool();
    let scales: Vec<f32> = (0..co).map(|_| rng.f32() * 0.1).collect();
    let inputs = vec![
        placed(random(rng, DType::F32, &x), last),
        constant(integers(rng, dtype, &[co, ci / group, kernel[0], kernel[1]])),
        constant(Tensor::from_f32(&[co], &scales)),
        constant(integers(rng, dtype, &[co])),
        plain(random(rng, DType::F32, &[co])),
    ];
    let strides = vec![rng.i64(1..3), rng.i64(1..3)];
    let op = ConvStored { strides, pads, dilations: vec![1; 2], group: group as i64 };
    Leaf { op: op.into(), inputs, last }
}

/// With zero points that are zero.
fn symmetric(mut leaf: Leaf) -> Leaf {
    if let Some(zeros) = &mut leaf.inputs[3] {
        zeros.tensor = Tensor::zeros(zeros.tensor.dtype(), zeros.tensor.shape());
    }
    leaf
}

/// Without zero points.
fn without_zeros(mut leaf: Leaf) -> Leaf {
    leaf.inputs.truncate(3);
    leaf
}

fn pool(rng: &mut Rng) -> Leaf {
    let kernel = vec![rng.i64(1..5), rng.i64(1..5)];
    let strides = vec![rng.i64(1..3), rng.i64(1..3)];
    let pads: Vec<i64> = [0, 1, 0, 1].iter().map(|&axis: &usize| rng.i64(0..kernel[axis].min(3))).collect();
    let x =
        [rng.usize(1..3), rng.usize(1..40), kernel[0] as usize + rng.usize(0..6), kernel[1] as usize + rng.usize(0..6)];
    let last = rng.bool();
    let op = if rng.bool() {
        MaxPool { kernel, strides, pads, dilations: vec![1; 2] }.into()
    } else {
        let (dilations, ceil_pads, count_include_pad) = (vec![1; 2], vec![0; 2], rng.bool());
        AveragePool { kernel, strides, pads, dilations, ceil_pads, count_include_pad }.into()
    };
    Leaf { op, inputs: vec![placed(random(rng, DType::F32, &x), last)], last }
}

fn reduction(rng: &mut Rng) -> Leaf {
    let function =
        one_of(rng, &[ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min, ReduceFn::L2, ReduceFn::LogSumExp]);
    let axes = one_of(rng, &[&[0][..], &[1], &[2], &[0, 2], &[1, 2], &[0, 1, 2]]).to_vec();
    let x = [rng.usize(1..5), rng.usize(1..40), rng.usize(1..100)];
    leaf(Reduce { function, axes, keep_dims: rng.bool() }, vec![plain(random(rng, DType::F32, &x))])
}

fn softmax(rng: &mut Rng) -> Leaf {
    let x = [rng.usize(1..6), rng.usize(1..12), rng.usize(1..100)];
    let axis = rng.usize(1..3);
    let op = match rng.bool() {
        true => Softmax { axis, flatten: false }.into(),
        false => Op::from(LogSoftmax { axis, flatten: false }),
    };
    leaf(op, vec![plain(random(rng, DType::F32, &x))])
}

fn norm(rng: &mut Rng) -> Leaf {
    let (rows, width) = (rng.usize(1..8), rng.usize(2..110));
    let epsilon = F64::new(1e-5);
    let x = plain(random(rng, DType::F32, &[rows, width]));
    let mut vector = |n: usize| plain(random(rng, DType::F32, &[n]));
    let (scale, bias) = (vector(width), vector(width));
    match rows % 3 {
        0 => leaf(LayerNorm { axis: 1, epsilon }, vec![x, scale, bias]),
        1 => leaf(RmsNorm { axis: 1, epsilon }, vec![x, scale]),
        _ => {
            let scale = vector(4);
            let bias = vector(4);
            let x = plain(random(rng, DType::F32, &[2, 4, rows, width]));
            leaf(GroupNorm { epsilon, groups: 2 }, vec![x, scale, bias])
        }
    }
}

/// A chain of functions on a tensor, with a vector that is repeated.
fn elementwise(rng: &mut Rng) -> Leaf {
    let shape = [rng.usize(1..5), rng.usize(1..100)];
    let functions = [
        UnaryFn::Sigmoid,
        UnaryFn::Tanh,
        UnaryFn::Exp,
        UnaryFn::Erf,
        UnaryFn::Sin,
        UnaryFn::HardSwish,
        UnaryFn::Softplus,
        UnaryFn::Atan,
    ];
    let step = |op: Op, inputs: Vec<BodyRef>| BodyStep { op, inputs: inputs.into_iter().map(Some).collect() };
    let mut unary = |of: BodyRef| step(Unary { function: one_of(rng, &functions) }.into(), vec![of]);
    let steps = [
        unary(BodyRef::Param(0)),
        step(Binary { function: BinaryFn::Mul }.into(), vec![BodyRef::Step(0), BodyRef::Param(1)]),
        unary(BodyRef::Step(1)),
        step(Binary { function: BinaryFn::Add }.into(), vec![BodyRef::Step(2), BodyRef::Param(0)]),
    ];
    let inputs = vec![plain(random(rng, DType::F32, &shape)), plain(random(rng, DType::F32, &shape[1..]))];
    leaf(Fused { steps: steps.into() }, inputs)
}

/// A tensor of any width: what is only moved.
fn moved(rng: &mut Rng, shape: &[usize]) -> Tensor {
    match one_of(rng, &[DType::F32, DType::F16, DType::I8, DType::I64]) {
        DType::I64 => Tensor::from_ints(
            DType::I64,
            shape,
            &(0..shape.iter().product()).map(|_| rng.i64(-1000..1000).into()).collect::<Vec<_>>(),
        ),
        DType::I8 => integers(rng, DType::I8, shape),
        dtype => random(rng, dtype, shape),
    }
}

fn transpose(rng: &mut Rng) -> Leaf {
    let mut perm = vec![0, 1, 2];
    rng.shuffle(&mut perm);
    // Tiles, halves of them, what is left over; streams of a few elements.
    let shape = [rng.usize(1..6), rng.usize(1..40), rng.usize(1..80)];
    leaf(Transpose { perm }, vec![plain(moved(rng, &shape))])
}

fn gather(rng: &mut Rng) -> Leaf {
    let (rows, width) = (rng.usize(1..12), rng.usize(1..40));
    let axis = rng.usize(0..2);
    let most = [rows, width][axis] as i64;
    let indices: Vec<i128> = (0..rng.usize(1..9)).map(|_| rng.i64(-most..most).into()).collect();
    let indices = Tensor::from_ints(DType::I64, &[indices.len()], &indices);
    leaf(Gather { axis }, vec![plain(moved(rng, &[rows, width])), plain(indices)])
}

fn concat(rng: &mut Rng) -> Leaf {
    let axis = rng.usize(0..3);
    let shape = [rng.usize(1..5), rng.usize(1..12), rng.usize(1..20)];
    let first = moved(rng, &shape);
    let mut inputs = vec![plain(first.clone())];
    for _ in 0..rng.usize(1..4) {
        let mut shape = shape;
        shape[axis] = rng.usize(1..9);
        let more = random(rng, DType::F32, &shape);
        let more: Vec<f64> = more.to_f64().iter().map(|v| (v * 100.0).round()).collect();
        inputs.push(plain(Tensor::from_f64(first.dtype(), &shape, &more)));
    }
    leaf(Concat { axis }, inputs)
}

fn pad(rng: &mut Rng) -> Leaf {
    let shape = [rng.usize(2..6), rng.usize(2..12), rng.usize(2..20)];
    let mode = one_of(rng, &[PadMode::Constant, PadMode::Reflect, PadMode::Edge]);
    let mut sides = || (0..3).map(|_| rng.i64(0..2).into()).collect();
    let (before, after) = (sides(), sides());
    leaf(Pad { mode, before, after }, vec![plain(moved(rng, &shape))])
}

/// LSTM or GRU, by the number of gates; with weights as they are stored, in blocks of any length.
fn cell(rng: &mut Rng, gates: usize, stored: Option<DType>) -> Leaf {
    let (steps, batch, features, hidden) = (rng.usize(1..4), rng.usize(1..4), rng.usize(1..7), rng.usize(1..20));
    let direction = one_of(rng, &[Direction::Forward, Direction::Reverse, Direction::Bidirectional]);
    let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
    let activations = |of: &[GateFn]| of.repeat(directions);
    let (clip, hidden_size) = (None, hidden as i64);
    let blocks = [features, hidden]
        .map(|len| stored.map(|_| if rng.bool() { len } else { rng.usize(1..len + 1).next_multiple_of(4) }));
    let [w_block, r_block] = blocks;
    let op: Op = if gates == 4 {
        let activations = activations(&[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh]);
        Lstm { direction, hidden: hidden_size, activations, clip, input_forget: false, w_block, r_block }.into()
    } else {
        let activations = activations(&[GateFn::Sigmoid, GateFn::Tanh]);
        let linear_before_reset = rng.bool();
        Gru { direction, hidden: hidden_size, activations, clip, linear_before_reset, w_block, r_block }.into()
    };
    let mut weights = |len: usize| {
        let shape = [directions, gates * hidden, len];
        constant(match stored {
            Some(dtype) => integers(rng, dtype, &shape),
            None => random(rng, DType::F32, &shape),
        })
    };
    let (w, r) = (weights(features), weights(hidden));
    let mut inputs = vec![
        plain(random(rng, DType::F32, &[steps, batch, features])),
        w,
        r,
        rng.bool().then(|| constant(random(rng, DType::F32, &[directions, 2 * gates * hidden]))).flatten(),
    ];
    if let Some(dtype) = stored {
        inputs.resize_with(op.cell_weights().unwrap().scales, || None);
        let most = dtype.int_range().unwrap().1 as f32;
        for (block, len) in blocks.into_iter().flatten().zip([features, hidden]) {
            let shape = [directions, gates * hidden, len.div_ceil(block)];
            let scales: Vec<f32> = (0..shape.iter().product()).map(|_| rng.f32() / most).collect();
            inputs.push(constant(Tensor::from_f32(&shape, &scales)));
        }
    }
    leaf(op, inputs)
}

/// Weights that are known at run time only.
fn lstm_computed(rng: &mut Rng) -> Leaf {
    let mut leaf = cell(rng, 4, None);
    leaf.inputs[1..3].iter_mut().flatten().for_each(|given| given.constant = false);
    leaf
}
