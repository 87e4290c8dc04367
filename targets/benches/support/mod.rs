//! Layers of networks as leaves, their kernels in this process, and the fastest multiply-add loop to hold them against.
#![allow(dead_code, reason = "each bench uses a part")]

use std::time::Instant;

use adze_ir::attrs::F64;
use adze_ir::extent::Dims;
use adze_ir::ops::{
    Binary, BinaryFn, Conv, LayerNorm, MatMul, MaxPool, Op, Reduce, ReduceFn, Softmax, Transpose, Unary, UnaryFn,
};
use adze_ir::propose::{OpFacts, Schedule};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, Layout, TensorType};
use adze_targets::cpu::Machine;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::{Access, Kernel, KernelBuilder};
use adze_targets::cpu::lower::{Lowered, PtrRole, Unsupported};
use adze_targets::cpu::object::ObjectBuilder;
use adze_targets::cpu::propose::{Draft, schedules_of};

/// An operator on operands of these shapes, the second and later ones of which are constants if they are said to be.
pub struct Layer {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<TensorType>,
    pub outputs: Vec<TensorType>,
    /// Multiply-adds.
    pub macs: f64,
    /// Which operands are known at compile time.
    pub fixed: Vec<bool>,
}

impl Layer {
    /// A layer of `f32`: image operands channels last, everything after the first operand constant.
    pub fn new(name: String, op: impl Into<Op>, inputs: &[Vec<usize>], macs: usize) -> Self {
        let last = |ty: TensorType| {
            let layout = if ty.rank() > 2 { Layout::channels_last(ty.rank()) } else { Layout::PLAIN };
            ty.with_layout(layout)
        };
        let types: Vec<TensorType> = inputs.iter().map(|shape| TensorType::fixed(DType::F32, shape)).collect();
        let op = op.into();
        let given: Vec<Option<&TensorType>> = types.iter().map(Some).collect();
        let outputs: Vec<TensorType> =
            op.infer(&given).expect("layers are well formed").into_iter().map(last).collect();
        let fixed: Vec<bool> = (0..types.len()).map(|index| index > 0).collect();
        let place = |(ty, &fixed): (TensorType, &bool)| if fixed { ty } else { last(ty) };
        let inputs = types.into_iter().zip(&fixed).map(place).collect();
        Self { name, op, inputs, outputs, macs: macs as f64, fixed }
    }

    /// The same with all operands row-major.
    pub fn plain(mut self) -> Self {
        self.inputs.iter_mut().chain(&mut self.outputs).for_each(|ty| ty.layout = Layout::PLAIN);
        Self { name: format!("{} plain", self.name), ..self }
    }

    /// The same with operands that are computed.
    pub fn dynamic(mut self) -> Self {
        self.fixed.fill(false);
        Self { name: format!("{} dynamic", self.name), ..self }
    }

    /// The same in half precision.
    pub fn f16(mut self) -> Self {
        self.inputs.iter_mut().chain(&mut self.outputs).for_each(|ty| ty.dtype = DType::F16);
        Self { name: format!("{} f16", self.name), ..self }
    }

    /// The kernels of a schedule and what they do.
    pub fn draft(&self, machine: &Machine, schedule: Option<&Schedule>) -> Result<Draft, Unsupported> {
        let dims = Dims::new();
        let given: Vec<Option<&TensorType>> = self.inputs.iter().map(Some).collect();
        let facts = OpFacts { inputs: &given, fixed: &self.fixed, outputs: &self.outputs, dims: &dims };
        Draft::new(&self.op, &facts, machine, schedule)
    }

    /// The ways to compute it, by name.
    pub fn schedules(&self, machine: &Machine) -> Vec<(String, Option<Schedule>)> {
        let dims = Dims::new();
        let given: Vec<Option<&TensorType>> = self.inputs.iter().map(Some).collect();
        let facts = OpFacts { inputs: &given, fixed: &self.fixed, outputs: &self.outputs, dims: &dims };
        let named =
            |schedule: Option<Schedule>| (schedule.as_ref().map_or_else(String::new, ToString::to_string), schedule);
        schedules_of(&self.op, &facts, machine).into_iter().map(named).collect()
    }

    /// The kernels of a schedule, with random operands.
    pub fn calls(
        &self,
        machine: &Machine,
        schedule: Option<&Schedule>,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Call>, Unsupported> {
        let steps = self.draft(machine, schedule)?.lowered;
        let mut call = |step: &Lowered| {
            let kernel = load(machine, &step.kernel);
            let buffers = step.pointers.iter().map(|role| self.buffer(role, rng)).collect();
            Call { kernel, name: step.kernel.name.clone(), buffers, range: step.range.upper(&Dims::new()) }
        };
        Ok(steps.iter().map(&mut call).collect())
    }

    fn buffer(&self, role: &PtrRole, rng: &mut fastrand::Rng) -> Buffer {
        let filled = |ty: &TensorType, rng: &mut fastrand::Rng| {
            let shape = ty.fixed_shape().expect("layers are static");
            Buffer::from_bytes(random(rng, ty.dtype, &shape).bytes())
        };
        match role {
            PtrRole::Input(index) => filled(&self.inputs[*index], rng),
            PtrRole::Output(index) => filled(&self.outputs[*index], rng),
            PtrRole::Packed(weight) => {
                // The constants of proposals are zeros: the time does not depend on them, but subnormals would show.
                let shape = weight.data.shape().to_vec();
                Buffer::from_bytes(random(rng, weight.data.dtype(), &shape).bytes())
            }
            PtrRole::Scratch(bytes) => Buffer::new(usize::try_from(bytes.upper(&Dims::new())).unwrap_or(0)),
        }
    }
}

/// A kernel with its operands.
pub struct Call {
    kernel: Loaded,
    name: String,
    buffers: Vec<Buffer>,
    range: i64,
}

impl Call {
    /// Runs it once over its whole range.
    pub fn run(&mut self) {
        self.kernel.call_kernel(&self.name, &mut self.buffers, &[], 0, self.range).expect("the kernel is there");
    }
}

pub fn conv(name: &str, [ci, co, h]: [usize; 3], k: usize, stride: usize, group: usize) -> Layer {
    let pad = (k / 2) as i64;
    let out = (h + 2 * (k / 2) - k) / stride + 1;
    let op = Conv { strides: vec![stride as i64; 2], pads: vec![pad; 4], dilations: vec![1; 2], group: group as i64 };
    let macs = out * out * co * k * k * ci / group;
    let shapes = [vec![1, ci, h, h], vec![co, ci / group, k, k]];
    Layer::new(format!("{name} {h}x{h} {ci}->{co} k{k} s{stride}"), op, &shapes, macs)
}

pub fn conv1d([ci, co, n]: [usize; 3], k: usize, stride: usize) -> Layer {
    let out = (n - k) / stride + 1;
    let op = Conv { strides: vec![stride as i64], pads: vec![0; 2], dilations: vec![1], group: 1 };
    let shapes = [vec![1, ci, n], vec![co, ci, k]];
    Layer::new(format!("conv1d {n} {ci}->{co} k{k} s{stride}"), op, &shapes, out * co * k * ci)
}

pub fn matmul(m: usize, k: usize, n: usize, trans_b: bool) -> Layer {
    let op = MatMul { trans_a: false, trans_b };
    let right = if trans_b { vec![n, k] } else { vec![k, n] };
    Layer::new(format!("matmul {m}x{k}x{n}"), op, &[vec![m, k], right], m * n * k)
}

pub fn layers() -> Vec<Layer> {
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
        // Columns and channels that fill no vector.
        matmul(128, 64, 10, false),
        matmul(128, 64, 10, false).dynamic(),
        matmul(49, 32, 23, false).dynamic(),
        conv("depthwise", [18, 18, 28], 3, 1, 18),
        conv("depthwise", [30, 30, 28], 3, 1, 30),
        conv("project", [96, 14, 28], 1, 1, 1),
    ]
}

/// More of them, of every family, for fitting costs: sizes that divide blocks and sizes that do not.
pub fn fit_layers() -> Vec<Layer> {
    // Long calls are never left alone on a machine that others use.
    let mut all: Vec<Layer> = layers().into_iter().filter(|layer| layer.macs < 2.5e7).collect();
    for [m, k, n] in [
        [7, 64, 64],
        [49, 64, 64],
        [49, 256, 256],
        [64, 64, 64],
        [98, 320, 96],
        [112, 48, 136],
        [196, 128, 256],
        [3, 512, 40],
        [5, 100, 100],
        [16, 1024, 64],
        [256, 256, 256],
        [32, 64, 1000],
        [1, 256, 256],
        [1, 1024, 1024],
        [2, 768, 768],
        [400, 24, 24],
        [784, 40, 120],
        [12, 12, 12],
    ] {
        all.push(matmul(m, k, n, false));
    }
    for [ci, co, h, k, stride] in [
        [8, 16, 28, 3, 1],
        [16, 24, 30, 3, 2],
        [32, 32, 14, 5, 1],
        [64, 128, 28, 3, 2],
        [24, 40, 27, 3, 1],
        [3, 16, 96, 3, 2],
        [64, 64, 20, 3, 1],
        [40, 120, 14, 1, 1],
        [96, 24, 28, 1, 1],
        [16, 64, 56, 1, 2],
        [128, 20, 7, 3, 1],
    ] {
        all.push(conv("conv", [ci, co, h], k, stride, 1));
    }
    for [c, h, k, stride] in
        [[16, 48, 3, 1], [64, 28, 3, 2], [120, 14, 5, 1], [240, 7, 3, 1], [72, 28, 5, 2], [21, 30, 3, 1]]
    {
        all.push(conv("depthwise", [c, c, h], k, stride, c));
    }
    for (m, k, n) in [(64, 32, 64), (128, 64, 96), (17, 33, 65)] {
        all.push(matmul(m, k, n, true).dynamic());
        let product = matmul(m, k, n, false).dynamic();
        all.push(Layer { name: format!("{} by columns", product.name), ..product });
    }
    all.extend(others());
    all
}

/// Everything that is no sum of products.
fn others() -> Vec<Layer> {
    let mut all = Vec::new();
    let unary = |function: UnaryFn, shape: &[usize]| {
        Layer::new(
            format!("{} {shape:?}", function.name()),
            Unary { function },
            &[shape.to_vec()],
            shape.iter().product(),
        )
    };
    for shape in [vec![1, 32, 28, 28], vec![64, 300], vec![1, 64, 112, 112]] {
        for function in [UnaryFn::Relu, UnaryFn::Exp, UnaryFn::Tanh, UnaryFn::Sigmoid, UnaryFn::Erf, UnaryFn::Sqrt] {
            all.push(unary(function, &shape));
        }
        for function in [BinaryFn::Add, BinaryFn::Mul, BinaryFn::Div] {
            let name = format!("{} {shape:?}", function.name());
            all.push(
                Layer::new(name, Binary { function }, &[shape.clone(), shape.clone()], shape.iter().product())
                    .dynamic(),
            );
        }
    }
    for shape in [vec![64, 128], vec![197, 768], vec![12, 64, 64]] {
        let (axis, count) = (shape.len() - 1, shape.iter().product());
        all.push(
            Layer::new(
                format!("softmax {shape:?}"),
                Softmax { axis, flatten: false },
                std::slice::from_ref(&shape),
                count,
            )
            .plain(),
        );
        let norm = LayerNorm { axis, epsilon: F64::new(1e-5) };
        let operands = [shape.clone(), vec![shape[axis]], vec![shape[axis]]];
        all.push(Layer::new(format!("layer_norm {shape:?}"), norm, &operands, count).plain().dynamic());
        let mean = Reduce { function: ReduceFn::Mean, axes: vec![axis], keep_dims: true };
        all.push(Layer::new(format!("mean {shape:?}"), mean, std::slice::from_ref(&shape), count).plain());
    }
    for (c, h) in [(32, 28), (64, 57), (512, 7)] {
        let count = c * h * h;
        let pool = MaxPool { kernel: vec![3; 2], strides: vec![2; 2], pads: vec![1; 4], dilations: vec![1; 2] };
        all.push(Layer::new(format!("max_pool {c}x{h}"), pool, &[vec![1, c, h, h]], count));
        let mean = Reduce { function: ReduceFn::Mean, axes: vec![2, 3], keep_dims: true };
        all.push(Layer::new(format!("mean of images {c}x{h}"), mean, &[vec![1, c, h, h]], count));
        let perm = vec![0, 2, 3, 1];
        all.push(Layer::new(format!("transpose {c}x{h}"), Transpose { perm }, &[vec![1, c, h, h]], count).plain());
    }
    all
}

pub fn random(rng: &mut fastrand::Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.f32()) - 0.5).collect();
    Tensor::from_f64(dtype, shape, &values)
}

/// The fastest call of all within a time, in seconds; three calls at least.
pub fn fastest(within_seconds: f64, mut call: impl FnMut()) -> f64 {
    call();
    let mut best = f64::INFINITY;
    let (start, mut calls) = (Instant::now(), 0);
    while calls < 3 || start.elapsed().as_secs_f64() < within_seconds {
        let turn = Instant::now();
        call();
        best = best.min(turn.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

pub fn load(machine: &Machine, kernel: &Kernel) -> Loaded {
    let mut object = ObjectBuilder::new(machine).expect("the host is a machine");
    object.add_kernel(kernel).expect("the kernel compiles");
    Loaded::new(&object.finish().expect("the object is complete")).expect("the host runs its own objects")
}

/// Ten independent sums in registers: the most multiply-adds that a core does.
pub struct Peak {
    loaded: Loaded,
    buffers: [Buffer; 1],
    lanes: u16,
    /// Vectors of multiply-adds that start in a cycle.
    per_cycle: f64,
}

/// Sums that are in flight: eight would do for four cycles of two each.
const SUMS: i64 = 10;

impl Peak {
    pub fn new(machine: &Machine) -> Self {
        let mut b = KernelBuilder::new("peak");
        let y = b.param("y", DType::F32, Access::InOut);
        let lanes = u16::try_from((machine.vector_bytes / 4).max(1)).expect("few lanes");
        let [left, right] = [SUMS, SUMS + 1].map(|i| b.load(y, i * i64::from(lanes), lanes));
        let sums: Vec<_> = (0..SUMS).map(|i| b.load(y, i * i64::from(lanes), lanes)).collect();
        let (lo, hi) = b.range();
        let step = |b: &mut KernelBuilder, sums: &[_]| sums.iter().map(|&s| b.muladd(left, right, s)).collect();
        let sums = b.for_(lo, hi, 1, &sums, |b, _, sums| step(b, sums));
        for (i, &sum) in (0i64..).zip(&sums) {
            b.store(y, i * i64::from(lanes), sum);
        }
        let kernel = b.finish();
        Self {
            loaded: load(machine, &kernel),
            buffers: [Buffer::new(16 * 4 * usize::from(lanes))],
            lanes,
            // A product and a sum on the same ports where there is no instruction for both.
            per_cycle: if machine.has_fma { 2.0 } else { 1.0 },
        }
    }

    /// Multiply-adds of one number per second.
    pub fn rate(&mut self, within_seconds: f64) -> f64 {
        let turns = 20_000;
        let (loaded, buffers) = (&self.loaded, &mut self.buffers);
        let seconds = fastest(within_seconds, || {
            loaded.call_kernel("peak", buffers, &[], 0, turns).expect("the kernel is there");
        });
        turns as f64 * SUMS as f64 * f64::from(self.lanes) / seconds
    }

    /// Cycles per second.
    pub fn cycles(&mut self, within_seconds: f64) -> f64 {
        self.rate(within_seconds) / f64::from(self.lanes) / self.per_cycle
    }
}
