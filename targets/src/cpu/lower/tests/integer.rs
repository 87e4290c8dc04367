//! Sums of bytes: always the reference's bits.

use adze_ir::ops::{
    Binary, BinaryFn, BodyRef, BodyStep, Cast, Clip, ConvInteger, Fused, MatMulInteger, MatMulStored, Op, QLinearConv,
    QLinearMatMul,
};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use proptest::prelude::*;

use super::{Case, Given, random};
use crate::cpu::Machine;
use crate::cpu::emit::x86;

pub(super) fn bytes(rng: &mut fastrand::Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let (lo, hi) = dtype.int_range().unwrap();
    let range = i32::try_from(lo).unwrap()..=i32::try_from(hi).unwrap();
    let values: Vec<i128> = (0..shape.iter().product()).map(|_| i128::from(rng.i32(range.clone()))).collect();
    Tensor::from_ints(dtype, shape, &values)
}

pub(super) fn number(dtype: DType, value: i128) -> Option<Given> {
    Some(Given::constant(Tensor::from_ints(dtype, &[], &[value])))
}

pub(super) fn scale(value: f32) -> Option<Given> {
    Some(Given::constant(Tensor::from_f32(&[], &[value])))
}

/// Scales per channel whose sums of `terms` products fill the bytes of the result without all of them saturating.
fn scales(rng: &mut fastrand::Rng, contract: Requantize, channels: usize, terms: usize) -> Option<Given> {
    // Sometimes so large that nearly all do, where there is code for that.
    let size =
        if rng.u8(..8) == 0 && contract != Requantize::MulshiftTflite { 5e4 } else { 0.02 / (terms as f32).sqrt() };
    let values: Vec<f32> = (0..channels).map(|_| size * (0.5 + rng.f32())).collect();
    Some(Given::constant(Tensor::from_f32(&[channels], &values)))
}

fn bias(rng: &mut fastrand::Rng, channels: usize) -> Option<Given> {
    // Channels without weights may have any bias.
    let range = if rng.u8(..4) == 0 { -1_400_000_000..1_400_000_000 } else { -9000..9000 };
    let values: Vec<i128> = (0..channels).map(|_| i128::from(rng.i32(range.clone()))).collect();
    Some(Given::constant(Tensor::from_ints(DType::I32, &[channels], &values)))
}

/// Flags from this on pick the dtype of weights.
const WEIGHTS: usize = 256;

/// Dtypes of activations, weights and result, and zero points at both ends and in the middle.
fn formats(flags: u32) -> ([DType; 3], [i128; 2]) {
    let pick = |bit: u32| if flags & bit == 0 { DType::I8 } else { DType::U8 };
    let weights = [DType::I8, DType::I4, DType::I2, DType::I8][flags as usize / WEIGHTS % 4];
    let dtypes = [pick(1), weights, pick(2)];
    let zero = |dtype: DType, at: u32| {
        let (lo, hi) = dtype.int_range().unwrap();
        [lo, hi, lo + 119][at as usize % 3]
    };
    (dtypes, [zero(dtypes[0], flags >> 2), zero(dtypes[2], flags >> 4)])
}

fn contract(flags: u32) -> Requantize {
    match flags >> 10 {
        1 => Requantize::MulshiftHalfUp,
        2 => Requantize::MulshiftTflite,
        _ => Requantize::F32Rne,
    }
}

struct Conv {
    channels: (usize, usize),
    group: usize,
    kernel: (usize, usize),
    strides: usize,
    dilation: usize,
    pads: i64,
}

/// A convolution with channels last, clipped at the end.
fn conv(rng: &mut fastrand::Rng, conv: &Conv, flags: u32) -> Case {
    let ([x_dtype, w_dtype, y_dtype], [x_zero, y_zero]) = formats(flags);
    let (ci, co) = conv.channels;
    let reach = |k: usize| (k - 1) * conv.dilation + 1;
    let image = [2, ci, reach(conv.kernel.0) + 3, reach(conv.kernel.1) + 6];
    let w = bytes(rng, w_dtype, &[co, ci / conv.group, conv.kernel.0, conv.kernel.1]);
    let op = QLinearConv {
        strides: vec![conv.strides as i64; 2],
        pads: vec![conv.pads, 0, conv.pads, conv.pads],
        dilations: vec![conv.dilation as i64; 2],
        group: conv.group as i64,
        contract: contract(flags),
    };
    let inputs = vec![
        Some(Given::plain(bytes(rng, x_dtype, &image)).last()),
        scale(0.5),
        number(x_dtype, x_zero),
        Some(Given::constant(w)),
        scales(rng, contract(flags), co, ci / conv.group * conv.kernel.0 * conv.kernel.1),
        number(w_dtype, 0),
        scale(0.7),
        number(y_dtype, y_zero),
        if flags & 64 == 0 { bias(rng, co) } else { None },
    ];
    Case::new(finished(op, inputs.len(), flags), inputs).last(4)
}

/// The operator, with an upper bound in the stored type or without.
fn finished(op: impl Into<Op>, operands: usize, flags: u32) -> Op {
    if flags & 128 == 0 { op.into() } else { clipped(op, operands) }
}

/// The operator with an upper bound in the stored type.
fn clipped(op: impl Into<Op>, operands: usize) -> Op {
    let clip = Clip { min: None, max: Some(adze_ir::attrs::F64::new(100.0)) };
    let params = (0..operands).map(|i| Some(BodyRef::Param(u32::try_from(i).unwrap()))).collect();
    let steps = [
        BodyStep { op: op.into(), inputs: params },
        BodyStep { op: clip.into(), inputs: vec![Some(BodyRef::Step(0))] },
    ];
    Fused { steps: steps.into() }.into()
}

/// Drops the operand that the fusion would refer to in vain.
fn without_bias(mut case: Case) -> Case {
    if case.inputs.last().is_some_and(Option::is_none) {
        case.inputs.pop();
        if let Op::Fused(fused) = &case.op {
            case.op = clipped(fused.anchor().op.clone(), case.inputs.len());
        }
    }
    case
}

fn kernel_of(case: &Case) -> String {
    case.lower(&Machine::host().unwrap(), &case.results())[0].kernel.name.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn dense_convolutions_agree(seed: u64, ci in 1usize..11, co in 2usize..24, kh in 1usize..4, kw in 1usize..4, stride in 1usize..3, dilation in 1usize..3, grouped: bool, flags in 0u32..3072) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let group = if grouped { 2 } else { 1 };
        let shape = Conv { channels: (ci * group, co * group), group, kernel: (kh, kw), strides: stride, dilation, pads: 0 };
        let case = without_bias(conv(&mut rng, &shape, flags));
        prop_assert!(kernel_of(&case).starts_with("conv_integer"));
        case.check(0.0);
    }

    #[test]
    fn depthwise_convolutions_agree(seed: u64, c in 2usize..40, k in 1usize..4, stride in 1usize..3, pads in 0i64..2, flags in 0u32..3072) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shape = Conv { channels: (c, c), group: c, kernel: (k, k), strides: stride, dilation: 1, pads };
        let case = without_bias(conv(&mut rng, &shape, flags));
        prop_assert!(kernel_of(&case).starts_with("depthwise_integer"));
        case.check(0.0);
    }

    #[test]
    fn products_agree(seed: u64, m in 1usize..9, n in 1usize..40, k in 1usize..23, batch in 1usize..3, flags in 0u32..3072) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ([x_dtype, w_dtype, y_dtype], [x_zero, y_zero]) = formats(flags);
        let op = QLinearMatMul { contract: contract(flags) };
        let inputs = vec![
            Some(Given::plain(bytes(&mut rng, x_dtype, &[batch, m, k]))), scale(0.5), number(x_dtype, x_zero),
            Some(Given::constant(bytes(&mut rng, w_dtype, &[k, n]))), scales(&mut rng, contract(flags), n, k), number(w_dtype, 0),
            scale(0.7), number(y_dtype, y_zero),
            if flags & 64 == 0 { bias(&mut rng, n) } else { None },
        ];
        let case = without_bias(Case::new(finished(op, inputs.len(), flags), inputs));
        prop_assert!(kernel_of(&case).starts_with("qlinear_matmul_"));
        case.check(0.0);
    }

    /// What dynamic quantization computes: a zero point that is known at run time only, the sum scaled.
    #[test]
    fn scaled_sums_agree(seed: u64, m in 1usize..9, n in 1usize..40, k in 1usize..23, flags in 0u32..4) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ([x_dtype, ..], _) = formats(flags);
        let param = |i: u32| Some(BodyRef::Param(i));
        let binary = |function| Op::from(Binary { function });
        let steps = [
            BodyStep { op: MatMulInteger {}.into(), inputs: (0..4).map(param).collect() },
            BodyStep { op: Cast { to: DType::F32 }.into(), inputs: vec![Some(BodyRef::Step(0))] },
            BodyStep { op: binary(BinaryFn::Mul), inputs: vec![Some(BodyRef::Step(1)), param(4)] },
            BodyStep { op: binary(BinaryFn::Add), inputs: vec![Some(BodyRef::Step(2)), param(5)] },
        ];
        let w_dtype = if flags & 2 == 0 { DType::I8 } else { DType::U8 };
        let inputs = vec![
            Some(Given::plain(bytes(&mut rng, x_dtype, &[m, k]))),
            Some(Given::constant(bytes(&mut rng, w_dtype, &[k, n]))),
            Some(Given::plain(bytes(&mut rng, x_dtype, &[]))),
            number(w_dtype, if flags & 2 == 0 { 0 } else { 128 }),
            Some(Given::plain(Tensor::from_f32(&[], &[0.25]))),
            Some(Given::plain(random(&mut rng, DType::F32, &[n]))),
        ];
        let case = Case::new(Fused { steps: steps.into() }, inputs);
        prop_assert!(kernel_of(&case).starts_with("matmul_integer_"));
        case.check(0.0);
    }

    /// Weights that stay as they are stored.
    #[test]
    fn products_of_stored_weights_agree(seed: u64, m in 1usize..6, n in 1usize..40, half in 1usize..7, blocks in 1usize..4, short in 0usize..12, which in 0usize..5, trans_b: bool, grain in 0usize..3) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dtype = [DType::U4, DType::I4, DType::I8, DType::U8, DType::U8][which];
        // The last block may be shorter.
        let (block, depth) = (2 * half, 2 * half * blocks - short % (2 * half));
        let turned = |k: usize| if trans_b { vec![n, k] } else { vec![k, n] };
        let shape = [Vec::new(), vec![n], turned(blocks)][grain].clone();
        let zeros = match which {
            3 => Tensor::from_ints(dtype, &shape, &vec![128; shape.iter().product()]),
            _ => bytes(&mut rng, dtype, &shape),
        };
        let scales: Vec<f32> = (0..shape.iter().product()).map(|_| rng.f32() + 0.1).collect();
        let axis = usize::from(trans_b) ^ usize::from(grain == 1);
        let op = MatMulStored { trans_b, axis, block: if grain == 2 { block } else { 0 } };
        let inputs = vec![
            Some(Given::plain(random(&mut rng, DType::F32, &[m, depth]))),
            Some(Given::constant(bytes(&mut rng, dtype, &turned(depth)))),
            Some(Given::constant(Tensor::from_f32(&shape, &scales))),
            Some(Given::constant(zeros)),
        ];
        Case::new(op, inputs).check(64.0);
    }

    /// Operands that have no fast kernel: computed weights, zero points per row, weights that fill nine bits.
    #[test]
    fn other_operands_agree(seed: u64, m in 1usize..5, n in 1usize..7, k in 1usize..9, which in 0usize..3) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let a = Given::plain(bytes(&mut rng, DType::U8, &[m, k]));
        let b = bytes(&mut rng, DType::U8, &[k, n]);
        let b = if which == 0 { Given::plain(b) } else { Given::constant(b) };
        let rows = Given::plain(bytes(&mut rng, DType::U8, &[m]));
        let a_zero = if which == 1 { Some(rows) } else { number(DType::U8, 3) };
        Case::new(MatMulInteger {}, vec![Some(a), Some(b), a_zero, number(DType::U8, 0)]).check(0.0);
        let x = Given::plain(bytes(&mut rng, DType::U8, &[1, 2, 4, 5]));
        let w = Given::constant(bytes(&mut rng, DType::I8, &[3, 2, 2, 3]));
        let op = ConvInteger { strides: vec![1, 2], pads: vec![1, 0, 0, 2], dilations: vec![1; 2], group: 1 };
        Case::new(op, vec![Some(x), Some(w), number(DType::U8, 7)]).check(0.0);
    }
}

#[test]
fn sums_of_bytes_on_every_machine() {
    let mut rng = fastrand::Rng::with_seed(21);
    for (k, blocks, depth) in [(6, 3, 18), (6, 3, 14), (6, 3, 13), (5, 1, 5)] {
        let op = MatMulStored { trans_b: true, axis: 1, block: k };
        let weights = bytes(&mut rng, DType::U4, &[19, depth]);
        let scales = Tensor::from_f32(&[19, blocks], &vec![0.25; 19 * blocks]);
        let inputs = vec![
            Some(Given::plain(random(&mut rng, DType::F32, &[3, depth]))),
            Some(Given::constant(weights)),
            Some(Given::constant(scales)),
            Some(Given::constant(bytes(&mut rng, DType::U4, &[19, blocks]))),
        ];
        Case::new(op, inputs).check_everywhere(64.0);
    }
    for flags in [0, 1, 2 + 4, 3 + 16, 128 + 1, 256, 256 + 1 + 16, 512, 1024 + 2, 2048 + 1] {
        let dense = Conv { channels: (7, 18), group: 1, kernel: (3, 2), strides: 1, dilation: 1, pads: 0 };
        conv(&mut rng, &dense, flags).check_everywhere(0.0);
        let depthwise = Conv { channels: (13, 13), group: 13, kernel: (3, 3), strides: 2, dilation: 1, pads: 1 };
        conv(&mut rng, &depthwise, flags).check_everywhere(0.0);
    }
}

/// Wide registers are the point of these kernels: no operation may send one of them to the emitter of 128-bit code.
#[test]
fn sums_of_bytes_have_wide_code() {
    let mut rng = fastrand::Rng::with_seed(22);
    for name in Machine::NAMES {
        let machine = Machine::from_name(name).unwrap();
        let Some(cpu) = x86::Cpu::of(&machine) else { continue };
        let shapes = [((7, 50), 1, (3, 3)), ((33, 33), 33, (3, 3)), ((16, 32), 1, (1, 1))];
        for ((channels, group, kernel), flags) in
            shapes.into_iter().flat_map(|shape| [0, 1, 256, 512 + 1].map(|flags| (shape, flags)))
        {
            let case = Conv { channels, group, kernel, strides: 1, dilation: 1, pads: 0 };
            let case = conv(&mut rng, &case, flags);
            for lowered in case.lower(&machine, &case.results()) {
                x86::compile(&lowered.kernel, cpu).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}
