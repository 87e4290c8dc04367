//! Layers against bars: the share of the machine's peak that each family of kernels has to reach.
//!
//! `cargo bench -p adze-targets --bench layers [filter]`
//!
//! Peaks are those of the same run, by loops of the same emitter. Every layer is timed many times and the fastest counts, as
//! for the peak: what else runs on the machine only adds. Exits with 1 when a layer stays below its bar.

mod support;

use adze_ir::extent::{Dims, Extent};
use adze_ir::ops::{Conv, MatMul, Op, QLinearConv, QLinearMatMul};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_targets::cpu::Machine;
use adze_targets::cpu::cost::Core;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::lower::{LeafCx, Lowered, Operand, PtrRole};
use adze_targets::cpu::object::ObjectBuilder;
use adze_targets::cpu::peak::{self, Peaks};
use adze_targets::cpu::propose::lower_best;
use support::{fastest, random};

/// Seconds per layer.
const WITHIN: f64 = 0.3;

/// What is computed.
#[derive(Clone, Copy)]
enum Work {
    /// Rows, steps of the sum, columns.
    Product([usize; 3]),
    /// Channels in and out, extent of the image, kernel, groups; stride 1, padded to the same extent.
    Image([usize; 5]),
}

/// Machine (`host`: the best one), layer, whether of bytes, percent of the peak.
type Row = (&'static str, &'static str, Work, bool, f64);

/// The bars of the wide emitter are shares of its machine's peak; `x86_64-v3` has its own peak, and code by Cranelift that of
/// the best machine.
const ROWS: &[Row] = &[
    ("host", "matmul 49x1024x1024", Work::Product([49, 1024, 1024]), false, 88.0),
    ("host", "matmul 196x256x256", Work::Product([196, 256, 256]), false, 90.0),
    ("host", "conv 1x1 14x14 64->384", Work::Image([64, 384, 14, 1, 1]), false, 90.0),
    ("host", "conv 1x1 7x7 320->1280", Work::Image([320, 1280, 7, 1, 1]), false, 90.0),
    ("host", "conv 3x3 56x56 64->64", Work::Image([64, 64, 56, 3, 1]), false, 90.0),
    ("host", "conv 3x3 28x28 128->128", Work::Image([128, 128, 28, 3, 1]), false, 90.0),
    ("host", "conv 3x3 14x14 256->256", Work::Image([256, 256, 14, 3, 1]), false, 90.0),
    ("host", "depthwise 3x3 28x28 144", Work::Image([144, 144, 28, 3, 144]), false, 50.0),
    ("host", "depthwise 3x3 14x14 384", Work::Image([384, 384, 14, 3, 384]), false, 50.0),
    ("host", "int8 matmul 784x64x64", Work::Product([784, 64, 64]), true, 75.0),
    ("host", "int8 matmul 196x256x256", Work::Product([196, 256, 256]), true, 90.0),
    ("host", "int8 conv 3x3 28x28 128->128", Work::Image([128, 128, 28, 3, 1]), true, 90.0),
    ("x86_64-v3", "matmul 196x256x256", Work::Product([196, 256, 256]), false, 95.0),
    ("x86_64-v3", "conv 1x1 14x14 64->384", Work::Image([64, 384, 14, 1, 1]), false, 95.0),
    ("x86_64-v3", "conv 3x3 28x28 128->128", Work::Image([128, 128, 28, 3, 1]), false, 95.0),
    ("clif", "matmul 196x256x256", Work::Product([196, 256, 256]), false, 22.0),
    ("clif", "conv 3x3 28x28 128->128", Work::Image([128, 128, 28, 3, 1]), false, 22.0),
];

impl Work {
    /// Multiply-adds.
    fn macs(self) -> f64 {
        let count = match self {
            Work::Product([m, k, n]) => m * k * n,
            Work::Image([ci, co, extent, kernel, groups]) => extent * extent * kernel * kernel * ci * co / groups,
        };
        count as f64
    }

    /// Shapes of image (or left operand), weights, result.
    fn shapes(self) -> [Vec<usize>; 3] {
        match self {
            Work::Product([m, k, n]) => [vec![m, k], vec![k, n], vec![m, n]],
            Work::Image([ci, co, extent, kernel, groups]) => {
                [vec![1, ci, extent, extent], vec![co, ci / groups, kernel, kernel], vec![1, co, extent, extent]]
            }
        }
    }

    fn op(self, bytes: bool) -> Op {
        let contract = Requantize::F32Rne;
        match self {
            Work::Product(_) if bytes => QLinearMatMul { contract }.into(),
            Work::Product(_) => MatMul { trans_a: false, trans_b: false }.into(),
            Work::Image([_, _, _, kernel, group]) => {
                let (strides, dilations, group) = (vec![1; 2], vec![1; 2], group as i64);
                // A border of zero points is part of what integers are read from.
                let pads = vec![if bytes { 0 } else { kernel as i64 / 2 }; 4];
                match bytes {
                    true => QLinearConv { strides, pads, dilations, group, contract }.into(),
                    false => Conv { strides, pads, dilations, group }.into(),
                }
            }
        }
    }
}

/// An operand as kernels see it, images channels last.
fn operand(tensor: &Tensor, constant: bool) -> Operand {
    let shape: Vec<Extent> = tensor.shape().iter().map(|&n| n.into()).collect();
    let mut order: Vec<usize> = (0..shape.len()).collect();
    if shape.len() == 4 && !constant {
        order = vec![0, 2, 3, 1];
    }
    let (mut strides, mut step) = (vec![Extent::ONE; shape.len()], Extent::ONE);
    for &axis in order.iter().rev() {
        strides[axis] = step.clone();
        step = step * shape[axis].clone();
    }
    let constant = constant.then(|| tensor.clone());
    Operand { dtype: tensor.dtype(), shape, strides, offset: Extent::ZERO, bounds: None, constant }
}

fn bytes(rng: &mut fastrand::Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<i128> = (0..shape.iter().product::<usize>()).map(|_| rng.i8(..).into()).collect();
    let shift = if dtype == DType::U8 { 128 } else { 0 };
    Tensor::from_ints(dtype, shape, &values.iter().map(|v| v + shift).collect::<Vec<_>>())
}

/// Operands and result of a layer.
fn operands(work: Work, quantized: bool, rng: &mut fastrand::Rng) -> (Vec<(Tensor, bool)>, Tensor) {
    let [mut x, w, y] = work.shapes();
    if !quantized {
        let result = Tensor::from_f64(DType::F32, &y, &vec![0.0; y.iter().product()]);
        return (vec![(random(rng, DType::F32, &x), false), (random(rng, DType::F32, &w), true)], result);
    }
    if let Work::Image([_, _, _, kernel, _]) = work {
        x[2] += kernel - 1;
        x[3] += kernel - 1;
    }
    let columns = if w.len() == 4 { w[0] } else { w[1] };
    let float =
        |shape: &[usize], value: f64| (Tensor::from_f64(DType::F32, shape, &vec![value; shape.iter().product()]), true);
    let zero = |dtype: DType, value: i128| (Tensor::from_ints(dtype, &[], &[value]), true);
    let given = vec![
        (bytes(rng, DType::U8, &x), false),
        float(&[], 0.5),
        zero(DType::U8, 120),
        (bytes(rng, DType::I8, &w), true),
        float(&[columns], 0.01),
        zero(DType::I8, 0),
        float(&[], 0.7),
        zero(DType::U8, 130),
    ];
    (given, bytes(rng, DType::U8, &y))
}

/// Seconds of one run.
fn seconds(machine: &Machine, work: Work, quantized: bool) -> f64 {
    let mut rng = fastrand::Rng::with_seed(1);
    let (given, result) = operands(work, quantized, &mut rng);
    let inputs: Vec<Option<Operand>> = given.iter().map(|(t, constant)| Some(operand(t, *constant))).collect();
    let (op, outputs, dims) = (work.op(quantized), [operand(&result, false)], Dims::new());
    let cx = LeafCx { op: &op, inputs: &inputs, outputs: &outputs, dims: &dims, machine, schedule: None };
    let lowered = lower_best(&cx, &Core::of(machine)).expect("the layer has kernels");
    let mut object = ObjectBuilder::new(machine).expect("the host is a machine");
    for step in &lowered {
        object.add_kernel(&step.kernel).expect("the kernel compiles");
    }
    let loaded = Loaded::new(&object.finish().expect("the object is complete")).expect("the host runs its own objects");
    let buffer = |role: &PtrRole| match role {
        PtrRole::Input(index) => Buffer::from_bytes(given[*index].0.bytes()),
        PtrRole::Output(_) => Buffer::from_bytes(result.bytes()),
        PtrRole::Packed(weight) => Buffer::from_bytes(weight.data.bytes()),
        PtrRole::Scratch(bytes) => Buffer::new(usize::try_from(bytes.upper(&dims)).unwrap_or(0)),
    };
    let mut calls: Vec<(&Lowered, Vec<Buffer>)> =
        lowered.iter().map(|step| (step, step.pointers.iter().map(buffer).collect())).collect();
    fastest(WITHIN, || {
        for (step, buffers) in &mut calls {
            let range = step.range.upper(&dims);
            loaded.call_kernel(&step.kernel.name, buffers, &[], 0, range).expect("the kernel is there");
        }
    })
}

/// The machine of a row: the host's best, a named one, or one whose vectors Cranelift emits.
fn machine(name: &str) -> Option<Machine> {
    match name {
        "host" => Machine::host(),
        // Its costs are those of the machine whose code Cranelift makes.
        "clif" => machine("x86_64-v3").map(|machine| Machine { name: "x86_64-v2", vector_bytes: 16, ..machine }),
        name => Machine::runnable().into_iter().find(|m| m.name == name),
    }
}

fn peaks(machine: &Machine) -> Peaks {
    peak::measure(machine, &[]).expect("the host runs its own loops")
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let Some(host) = Machine::host() else { return };
    let best = peaks(&host);
    println!("{}: {:.0} GFLOP/s f32, {:.0} GOP/s int8\n", host.name, best.flops / 1e9, best.int_ops / 1e9);
    println!("| machine | layer | us | share of peak | bar | |\n|---|---|---:|---:|---:|---|");
    let mut low = 0;
    for &(name, layer, work, quantized, bar) in ROWS.iter().filter(|row| row.1.contains(&filter)) {
        let Some(machine) = machine(name) else { continue };
        let own = if name == "x86_64-v3" { peaks(&machine) } else { best.clone() };
        let peak = if quantized { own.int_ops } else { own.flops };
        let seconds = seconds(&machine, work, quantized);
        let share = 200.0 * work.macs() / seconds / peak;
        low += usize::from(share < bar);
        let mark = if share < bar { "below" } else { "" };
        println!("| {name} | {layer} | {:.1} | {share:.0} % | {bar:.0} % | {mark} |", seconds * 1e6);
    }
    if low > 0 {
        println!("\n{low} below their bar");
        std::process::exit(1);
    }
}
