//! Speed of the kernels of single layers, beside the fastest multiply-add loop that the same code generator makes.
//!
//! `cargo bench -p adze-targets --bench kernels [filter]`

use std::time::Instant;

use adze_ir::extent::{Dims, Extent};
use adze_ir::ops::{Conv, MatMul, Op};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_targets::cpu::Machine;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::{Access, Kernel, KernelBuilder};
use adze_targets::cpu::lower::{LeafCx, Operand, PtrRole, lower_leaf};
use adze_targets::cpu::object::ObjectBuilder;

/// Name, result, left and right operand in their logical order, operator, multiply-adds.
struct Layer {
    name: String,
    op: Op,
    x: Vec<usize>,
    w: Vec<usize>,
    y: Vec<usize>,
    macs: f64,
    dtype: DType,
    /// Axes in logical order instead of channels last.
    plain: bool,
    /// The right operand is known at compile time.
    constant: bool,
}

impl Layer {
    fn new(name: String, op: impl Into<Op>, [x, w, y]: [Vec<usize>; 3], macs: usize) -> Self {
        let macs = macs as f64;
        Self { name, op: op.into(), x, w, y, macs, dtype: DType::F32, plain: false, constant: true }
    }

    fn plain(self) -> Self {
        Self { plain: true, name: format!("{} plain", self.name), ..self }
    }

    fn dynamic(self) -> Self {
        Self { constant: false, name: format!("{} dynamic", self.name), ..self }
    }

    fn f16(self) -> Self {
        Self { dtype: DType::F16, name: format!("{} f16", self.name), ..self }
    }
}

fn conv(name: &str, [ci, co, h]: [usize; 3], k: usize, stride: usize, group: usize) -> Layer {
    let pad = (k / 2) as i64;
    let out = (h + 2 * (k / 2) - k) / stride + 1;
    let op = Conv { strides: vec![stride as i64; 2], pads: vec![pad; 4], dilations: vec![1; 2], group: group as i64 };
    let macs = out * out * co * k * k * ci / group;
    let shapes = [vec![1, ci, h, h], vec![co, ci / group, k, k], vec![1, co, out, out]];
    Layer::new(format!("{name} {h}x{h} {ci}->{co} k{k} s{stride}"), op, shapes, macs)
}

fn conv1d([ci, co, n]: [usize; 3], k: usize, stride: usize) -> Layer {
    let out = (n - k) / stride + 1;
    let op = Conv { strides: vec![stride as i64], pads: vec![0; 2], dilations: vec![1], group: 1 };
    let shapes = [vec![1, ci, n], vec![co, ci, k], vec![1, co, out]];
    Layer::new(format!("conv1d {n} {ci}->{co} k{k} s{stride}"), op, shapes, out * co * k * ci)
}

fn matmul(m: usize, k: usize, n: usize, trans_b: bool) -> Layer {
    let op = MatMul { trans_a: false, trans_b };
    let right = if trans_b { vec![n, k] } else { vec![k, n] };
    Layer::new(format!("matmul {m}x{k}x{n}"), op, [vec![m, k], right, vec![m, n]], m * n * k)
}

fn layers() -> Vec<Layer> {
    vec![
        conv("first", [3, 32, 224], 3, 2, 1),
        conv("depthwise", [32, 32, 112], 3, 1, 32),
        conv("project", [32, 16, 112], 1, 1, 1),
        conv("expand", [16, 96, 112], 1, 1, 1),
        conv("depthwise", [96, 96, 112], 3, 2, 96),
        conv("expand", [24, 144, 56], 1, 1, 1),
        conv("depthwise", [144, 144, 56], 3, 1, 144),
        conv("project", [144, 24, 56], 1, 1, 1),
        conv("expand", [64, 384, 14], 1, 1, 1),
        conv("depthwise", [384, 384, 14], 3, 1, 384),
        conv("project", [384, 64, 14], 1, 1, 1),
        conv("expand", [160, 960, 7], 1, 1, 1),
        conv("depthwise", [960, 960, 7], 3, 1, 960),
        conv("project", [960, 160, 7], 1, 1, 1),
        conv("last", [320, 1280, 7], 1, 1, 1),
        conv("resnet", [64, 64, 56], 3, 1, 1),
        conv("resnet", [128, 128, 28], 3, 1, 1),
        conv("resnet", [256, 256, 14], 3, 1, 1),
        conv("resnet", [512, 512, 7], 3, 1, 1),
        conv("first", [3, 32, 224], 3, 2, 1).plain(),
        conv("resnet", [64, 64, 56], 3, 1, 1).plain(),
        conv("depthwise", [144, 144, 56], 3, 1, 144).plain(),
        conv("project", [144, 24, 56], 1, 1, 1).f16(),
        conv("depthwise", [144, 144, 56], 3, 1, 144).f16(),
        conv1d([1, 258, 640], 256, 128).plain(),
        conv1d([129, 128, 64], 3, 1).plain(),
        conv1d([129, 128, 64], 3, 1),
        matmul(1, 1280, 1000, false),
        matmul(1, 128, 512, false),
        matmul(32, 384, 1536, false),
        matmul(128, 256, 256, false),
        matmul(128, 64, 128, true).dynamic(),
        matmul(128, 128, 64, false).dynamic(),
        matmul(1, 64, 128, true).dynamic(),
    ]
}

fn random(rng: &mut fastrand::Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.f32()) - 0.5).collect();
    Tensor::from_f64(dtype, shape, &values)
}

fn operand(dtype: DType, shape: &[usize], constant: Option<Tensor>, last: bool) -> Operand {
    let rank = shape.len();
    let order: Vec<usize> = match last && rank > 2 {
        true => std::iter::once(0).chain(2..rank).chain([1]).collect(),
        false => (0..rank).collect(),
    };
    let mut strides = vec![Extent::ONE; rank];
    let mut step = 1;
    for &axis in order.iter().rev() {
        strides[axis] = step.into();
        step *= shape[axis];
    }
    let shape = shape.iter().map(|&n| n.into()).collect();
    Operand { dtype, shape, strides, offset: Extent::ZERO, bounds: None, constant }
}

/// The fastest call of several, in seconds.
fn fastest(mut call: impl FnMut()) -> f64 {
    call();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.15 {
        let turn = Instant::now();
        call();
        best = best.min(turn.elapsed().as_secs_f64());
    }
    best
}

fn load(machine: &Machine, kernel: &Kernel) -> Loaded {
    let mut object = ObjectBuilder::new(machine).expect("the host is a machine");
    object.add_kernel(kernel).expect("the kernel compiles");
    Loaded::new(&object.finish().expect("the object is complete")).expect("the host runs its own objects")
}

/// Multiply-adds per second of twelve sums in registers as wide as the machine's.
fn peak(machine: &Machine) -> f64 {
    let lanes = u16::try_from(machine.vector_bytes / 4).expect("few lanes").max(1);
    let mut b = KernelBuilder::new("peak");
    let y = b.param("y", DType::F32, Access::InOut);
    let sums: Vec<_> = (0..12).map(|i| b.load(y, i * i64::from(lanes), lanes)).collect();
    let (lo, hi) = b.range();
    let sums = b.for_(lo, hi, 1, &sums, |b, _, sums| sums.iter().map(|&s| b.muladd(s, s, s)).collect());
    for (i, &sum) in sums.iter().enumerate() {
        b.store(y, i as i64 * i64::from(lanes), sum);
    }
    let kernel = b.finish();
    let loaded = load(machine, &kernel);
    let mut buffers = [Buffer::new(12 * 4 * usize::from(lanes))];
    let turns = 100_000;
    let seconds = fastest(|| {
        loaded.call_kernel("peak", &mut buffers, &[], 0, turns).expect("the kernel is there");
    });
    turns as f64 * 12.0 * f64::from(lanes) / seconds
}

fn main() {
    // ADZE_CPU: another machine than the best one, such as `x86_64-v3`.
    let wanted = std::env::var("ADZE_CPU").ok();
    let machine = match &wanted {
        Some(name) => Machine::runnable().into_iter().find(|m| m.name == name),
        None => Machine::host(),
    };
    let Some(machine) = machine else { return };
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let mut rng = fastrand::Rng::with_seed(1);
    let top = peak(&machine);
    println!("{}: peak {:.1} GFLOP/s", machine.name, top * 2e-9);
    for layer in layers().into_iter().filter(|l| l.name.contains(&filter)) {
        let w = random(&mut rng, layer.dtype, &layer.w);
        let place = |shape: &[usize]| operand(layer.dtype, shape, None, !layer.plain);
        let right = operand(layer.dtype, &layer.w, layer.constant.then_some(w), false);
        let inputs = [Some(place(&layer.x)), Some(right)];
        let outputs = [place(&layer.y)];
        let dims = Dims::new();
        let cx = LeafCx { op: &layer.op, inputs: &inputs, outputs: &outputs, dims: &dims, machine: &machine };
        let steps = lower_leaf(&cx).expect("the layer has kernels");
        let mut calls = Vec::new();
        for step in &steps {
            let buffers: Vec<Buffer> = step
                .pointers
                .iter()
                .map(|role| match role {
                    PtrRole::Input(0) => Buffer::from_bytes(random(&mut rng, layer.dtype, &layer.x).bytes()),
                    PtrRole::Input(_) => Buffer::from_bytes(random(&mut rng, layer.dtype, &layer.w).bytes()),
                    PtrRole::Output(_) => Buffer::from_bytes(random(&mut rng, layer.dtype, &layer.y).bytes()),
                    PtrRole::Packed(weight) => Buffer::from_bytes(weight.data.bytes()),
                    PtrRole::Scratch(bytes) => Buffer::new(usize::try_from(bytes.upper(&dims)).unwrap_or(0)),
                })
                .collect();
            calls.push((load(&machine, &step.kernel), &step.kernel.name, buffers, step.range.upper(&dims)));
        }
        let seconds = fastest(|| {
            for (loaded, name, buffers, range) in &mut calls {
                loaded.call_kernel(name, buffers, &[], 0, *range).expect("the kernel is there");
            }
        });
        let rate = layer.macs / seconds;
        println!("{:42} {:9.1} us {:6.1} GFLOP/s {:4.0} %", layer.name, seconds * 1e6, rate * 2e-9, 100.0 * rate / top);
    }
}
