//! Random networks of bytes on the BM1684X: compiled, through the package and back, run on the simulator, equal to the
//! interpreter; and streams whose waits were tampered with are found out. Cycles are held against the vendor's estimator.

#[path = "bm1684x/library.rs"]
mod library;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use adze_ir::eval::eval_graph;
use adze_ir::graph::{ConstEntry, Graph, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{
    ArgReduce, Binary, BinaryFn, Clip, Concat, CoordMode, Dequantize, MaxPool, NearestMode, PRelu, Pad, PadMode,
    QLinearConv, QLinearMatMul, Quantize, ReduceFn, Reshape, Resize, ResizeMode, Slice, Transpose, Unary, UnaryFn,
};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};
use adze_targets::bm1684x::Program;
use adze_targets::bm1684x::cost;
use adze_targets::bm1684x::hazard::{Hazard, check};
use adze_targets::bm1684x::isa::{Command, Engine};
use fastrand::Rng;

/// A network in the making; all tensors are of one type of bytes.
struct Net<'a> {
    rng: &'a mut Rng,
    graph: Graph,
    dtype: DType,
    count: usize,
}

impl Net<'_> {
    fn loc(&mut self) -> Loc {
        self.count += 1;
        Loc::named(format!("node{}", self.count))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.consts.push(ConstEntry::new("", tensor));
        self.graph.add_const(id, Loc::default())
    }

    fn scale(&mut self, low: f32, high: f32) -> ValueId {
        let value = low + self.rng.f32() * (high - low);
        // Powers of two have ties.
        let value = if self.rng.u32(..3) == 0 { 2f32.powf(value.log2().round()) } else { value };
        self.constant(Tensor::from_f32(&[], &[value]))
    }

    fn zero(&mut self) -> ValueId {
        let (lo, hi) = self.dtype.int_range().expect("bytes");
        let value = if self.rng.bool() { lo.max(0) } else { lo + self.rng.i128(0..=hi - lo) };
        self.constant(Tensor::from_ints(self.dtype, &[], &[value]))
    }

    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.ty(value).fixed_shape().expect("fixed")
    }

    fn weights(&mut self, shape: &[usize]) -> ValueId {
        let count = shape.iter().product();
        let values: Vec<i128> = (0..count).map(|_| self.rng.i128(-127..=127)).collect();
        self.constant(Tensor::from_ints(DType::I8, shape, &values))
    }

    /// Operands of a product behind the first one: scales and zero points, weights, bias.
    fn product(&mut self, x: ValueId, weights: ValueId, channels: usize, sum: usize) -> Vec<Option<ValueId>> {
        let (x_scale, x_zero) = (self.scale(0.01, 0.1), self.zero());
        let typical = (sum as f32).sqrt();
        let w_scales: Vec<f32> = (0..channels).map(|_| 0.001 + self.rng.f32() * 0.02).collect();
        let w_scale = self.constant(Tensor::from_f32(&[channels], &w_scales));
        let w_zero = self.constant(Tensor::zeros(DType::I8, &[channels]));
        let y_scale = self.scale(0.01 * typical, 0.1 * typical);
        let y_zero = self.zero();
        let bias: Vec<i128> = (0..channels).map(|_| self.rng.i128(-20_000..20_000)).collect();
        let bias = self.rng.bool().then(|| self.constant(Tensor::from_ints(DType::I32, &[channels], &bias)));
        let operands = [x, x_scale, x_zero, weights, w_scale, w_zero, y_scale, y_zero].map(Some);
        operands.into_iter().chain(bias.map(Some)).collect()
    }

    fn conv(&mut self, x: ValueId, depthwise: bool) -> ValueId {
        let [_, c, h, w] = self.shape(x)[..] else { return x };
        let (kh, kw) = (self.rng.usize(1..=3.min(h)), self.rng.usize(1..=5.min(w)));
        // Depthwise ones, and now and then other groups.
        let few: Vec<usize> = (1..=c).filter(|groups| c % groups == 0).collect();
        let groups = match (depthwise, self.rng.u32(..4)) {
            (true, _) => c,
            (false, 0) => few[self.rng.usize(..few.len())],
            _ => 1,
        };
        let out = if depthwise { c } else { groups * self.rng.usize(1..=(90 / groups).max(1)) };
        let weights = self.weights(&[out, c / groups, kh, kw]);
        let sum = kh * kw * c / groups;
        let operands = self.product(x, weights, out, sum);
        let small = |rng: &mut Rng, most: i64| rng.i64(0..=most);
        let op = QLinearConv {
            strides: (0..2).map(|_| 1 + small(self.rng, 1)).collect(),
            pads: (0..4).map(|_| small(self.rng, 2)).collect(),
            dilations: [(kh, h), (kw, w)].map(|(k, d)| if 2 * k <= d { self.rng.i64(1..=2) } else { 1 }).to_vec(),
            group: groups as i64,
            contract: Requantize::F32Rne,
        };
        let loc = self.loc();
        self.graph.add(op, &operands, loc).expect("well typed")[0]
    }

    /// A convolution whose rows reach further than commands do.
    fn wide_conv(&mut self, x: ValueId, depthwise: bool) -> ValueId {
        let c = self.shape(x)[1];
        let (out, group) = if depthwise { (c, c) } else { (9, 1) };
        let weights = self.weights(&[out, c / group, 3, 3]);
        let operands = self.product(x, weights, out, 9 * c / group);
        let dilation = self.rng.i64(14..=18);
        let op = QLinearConv {
            strides: vec![1, 2],
            pads: vec![dilation, self.rng.i64(0..20), dilation, 1],
            dilations: vec![dilation, 1],
            group: group as i64,
            contract: Requantize::F32Rne,
        };
        let loc = self.loc();
        self.graph.add(op, &operands, loc).expect("well typed")[0]
    }

    /// A slope, a factor and a summand per channel, between bytes.
    fn by_channel(&mut self, x: ValueId) -> ValueId {
        let c = self.shape(x)[1];
        let (scale, zero) = (self.scale(0.01, 0.1), self.zero());
        let loc = self.loc();
        let mut y =
            self.graph.add1(Dequantize { axis: 0, block: 0 }, &[x, scale, zero], loc.clone()).expect("well typed");
        for step in 0..3 {
            let values: Vec<f32> = (0..c).map(|_| self.rng.f32() * 3.0 - 1.0).collect();
            let by = self.constant(Tensor::from_f32(&[c, 1, 1], &values));
            let made = match step {
                0 => self.graph.add1(Binary { function: BinaryFn::Mul }, &[y, by], loc.clone()),
                1 => self.graph.add1(Binary { function: BinaryFn::Add }, &[by, y], loc.clone()),
                _ => self.graph.add1(PRelu {}, &[y, by], loc.clone()),
            };
            y = made.expect("well typed");
        }
        let (scale, zero) = (self.scale(0.02, 0.1), self.zero());
        self.graph.add1(Quantize { axis: 0, block: 0, to: self.dtype }, &[y, scale, zero], loc).expect("well typed")
    }

    /// Where the extremes of bounded bytes are.
    fn extreme(&mut self, x: ValueId) -> ValueId {
        let (lo, _) = self.dtype.int_range().expect("bytes");
        let bounds = Clip { min: Some((lo as f64 + 90.0).into()), max: Some((lo as f64 + 160.0).into()) };
        let loc = self.loc();
        let x = self.graph.add1(bounds, &[x], loc.clone()).expect("well typed");
        let op = ArgReduce {
            function: if self.rng.bool() { ReduceFn::Max } else { ReduceFn::Min },
            axis: self.rng.usize(1..4),
            keep_dims: self.rng.bool(),
            last: self.rng.bool(),
        };
        self.graph.add1(op, &[x], loc).expect("well typed")
    }

    /// Bytes resampled to the nearest point.
    fn nearest(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let scales = [1.0, 1.0, [0.5, 2.0, 3.0][self.rng.usize(..3)], [0.4, 1.5, 2.0][self.rng.usize(..3)]];
        let sizes = shape.iter().zip(scales).map(|(&d, scale)| ((d as f64 * scale).floor() as i64).into()).collect();
        let op = Resize {
            mode: ResizeMode::Nearest,
            coords: CoordMode::Asymmetric,
            nearest: NearestMode::Floor,
            cubic_a: (-0.75).into(),
            exclude_outside: false,
            sizes,
            scales: scales.map(Into::into).to_vec(),
        };
        let loc = self.loc();
        self.graph.add1(op, &[x], loc).expect("well typed")
    }

    fn elementwise(&mut self, x: ValueId, y: Option<ValueId>) -> ValueId {
        let loc = self.loc();
        let float = |net: &mut Self, x: ValueId| {
            let (scale, zero) = (net.scale(0.01, 0.1), net.zero());
            net.graph.add1(Dequantize { axis: 0, block: 0 }, &[x, scale, zero], loc.clone()).expect("well typed")
        };
        let mut value = float(self, x);
        if let Some(y) = y {
            let other = float(self, y);
            let function = if self.rng.bool() { BinaryFn::Add } else { BinaryFn::Sub };
            value = self.graph.add1(Binary { function }, &[value, other], loc.clone()).expect("well typed");
        } else {
            let function = [UnaryFn::Sigmoid, UnaryFn::Relu, UnaryFn::HardSwish][self.rng.usize(..3)];
            value = self.graph.add1(Unary { function }, &[value], loc.clone()).expect("well typed");
        }
        let (scale, zero) = (self.scale(0.02, 0.1), self.zero());
        let op = Quantize { axis: 0, block: 0, to: self.dtype };
        self.graph.add1(op, &[value, scale, zero], loc).expect("well typed")
    }

    fn step(&mut self, x: ValueId) -> ValueId {
        let loc = self.loc();
        match self.rng.u32(..12) {
            0..=2 => self.conv(x, false),
            3 => self.conv(x, true),
            4 => self.elementwise(x, None),
            5 => {
                let [_, c, _, _] = self.shape(x)[..] else { return x };
                let kernel = if self.rng.bool() { 1 } else { 3 };
                let weights = self.weights(&[c, c, kernel, kernel]);
                let operands = self.product(x, weights, c, c * kernel * kernel);
                let pads = vec![kernel as i64 / 2; 4];
                let op = QLinearConv {
                    strides: vec![1; 2],
                    pads,
                    dilations: vec![1; 2],
                    group: 1,
                    contract: Requantize::F32Rne,
                };
                let y = self.graph.add(op, &operands, loc).expect("well typed")[0];
                self.elementwise(x, Some(y))
            }
            6 => {
                let (lo, _) = self.dtype.int_range().expect("bytes");
                let op = Clip { min: Some((lo as f64 + 20.0).into()), max: Some((lo as f64 + 200.0).into()) };
                self.graph.add1(op, &[x], loc).expect("well typed")
            }
            7 => {
                let (top, right) = (self.rng.i64(0..3), self.rng.i64(0..3));
                let op = Pad {
                    mode: PadMode::Constant,
                    before: [0, 2 * i64::from(self.rng.bool()), top, 1].map(Into::into).to_vec(),
                    after: [0, 0, 0, right].map(Into::into).to_vec(),
                };
                let value = self.zero();
                self.graph.add1(op, &[x, value], loc).expect("well typed")
            }
            8 => {
                let shape = self.shape(x);
                let starts: Vec<usize> = shape.iter().map(|&d| self.rng.usize(..d)).collect();
                let steps = [1, 1, self.rng.usize(1..3), self.rng.usize(1..3)];
                let most = |axis: usize| (shape[axis] - starts[axis]).div_ceil(steps[axis]);
                let sizes: Vec<usize> = (0..4).map(|axis| self.rng.usize(1..=most(axis))).collect();
                let extents = |values: &[usize]| values.iter().map(|&v| (v as i64).into()).collect();
                let op = Slice {
                    axes: vec![0, 1, 2, 3],
                    starts: extents(&starts),
                    sizes: extents(&sizes),
                    steps: steps.map(|step| step as i64).to_vec(),
                };
                self.graph.add1(op, &[x], loc).expect("well typed")
            }
            9 => {
                let y = self.elementwise(x, None);
                let axis = self.rng.usize(1..4);
                self.graph.add1(Concat { axis }, &[x, y], loc).expect("well typed")
            }
            10 => {
                let perms = [[0, 1, 3, 2], [0, 3, 2, 1], [0, 2, 3, 1], [3, 1, 0, 2]];
                let perm = perms[self.rng.usize(..perms.len())].to_vec();
                self.graph.add1(Transpose { perm }, &[x], loc).expect("well typed")
            }
            _ => {
                let [_, _, h, w] = self.shape(x)[..] else { return x };
                if h < 2 || w < 2 {
                    return x;
                }
                let op =
                    MaxPool { kernel: vec![2, 2], strides: vec![2, 1], pads: vec![1, 0, 1, 1], dilations: vec![1, 1] };
                self.graph.add1(op, &[x], loc).expect("well typed")
            }
        }
    }

    /// The classifier's end: everything flattened, a matrix product.
    fn finish(&mut self, x: ValueId) {
        let shape = self.shape(x);
        let features = shape[1..].iter().product::<usize>();
        let mut x = x;
        if features < 800 && self.rng.bool() {
            let loc = self.loc();
            let flat = [shape[0], features].map(|d| (d as i64).into()).to_vec();
            x = self.graph.add1(Reshape { shape: flat }, &[x], loc).expect("well typed");
            let weights = self.weights(&[features, 10]);
            let operands = self.product(x, weights, 10, features);
            let loc = self.loc();
            let op = QLinearMatMul { contract: Requantize::F32Rne };
            x = self.graph.add(op, &operands, loc).expect("well typed")[0];
        }
        self.graph.add_output("y", x);
    }
}

fn network(rng: &mut Rng) -> (Graph, Tensor) {
    network_of(rng, 9)
}

fn network_of(rng: &mut Rng, tallest: usize) -> (Graph, Tensor) {
    let dtype = if rng.bool() { DType::I8 } else { DType::U8 };
    let shape = [rng.usize(1..3), rng.usize(1..80), rng.usize(1..tallest), rng.usize(1..12)];
    let bytes = (0..shape.iter().product()).map(|_| rng.u8(..)).collect();
    let input = Tensor::new(dtype, shape.to_vec(), bytes).expect("as many bytes");
    let steps = rng.usize(1..6);
    let mut net = Net { rng, graph: Graph::new("net"), dtype, count: 0 };
    let mut x = net.graph.add_input("x", TensorType::fixed(dtype, &shape));
    for _ in 0..steps {
        x = net.step(x);
    }
    net.finish(x);
    (net.graph, input)
}

#[test]
fn networks_equal_the_interpreter() {
    let mut rng = Rng::with_seed(31);
    let (mut compiled, mut refused) = (0, 0);
    while compiled < 120 {
        let (graph, input) = network(&mut rng);
        let inputs = [input];
        let program = match Program::compile(&graph, None) {
            Ok(program) => program,
            Err(error) => {
                // Sums with ties may have no form.
                assert!(error.to_string().contains("accepted on bm1684x: sums"), "{error}\n{graph}");
                refused += 1;
                assert!(refused < 60, "too many refusals: {error}");
                continue;
            }
        };
        if !program.notes.is_empty() {
            refused += 1;
            continue;
        }
        compiled += 1;
        let expected = eval_graph(&graph, &inputs).expect("evaluates");
        assert_eq!(program.run(&inputs), Ok(expected.clone()), "{graph}");
        let file = program.to_bmodel().expect("encodes");
        let opened = Program::from_bmodel(&file).expect("reads what it wrote");
        assert_eq!(opened.run(&inputs), Ok(expected));
        assert_eq!(opened.to_bmodel().as_ref(), Ok(&file), "the package is stable");
    }
    println!("{compiled} networks, {refused} without an exact form");
}

/// Each wait is there for a hazard: without it the checker finds a race.
/// Pads and dilations that commands have no room for, functions with a constant per channel, resampling, and positions of
/// extremes among many equals, on bytes.
#[test]
fn wide_windows_and_tables_by_channel_equal_the_interpreter() {
    let mut rng = Rng::with_seed(35);
    for round in 0..16 {
        let dtype = if rng.bool() { DType::I8 } else { DType::U8 };
        let mut net = Net { rng: &mut rng, graph: Graph::new("net"), dtype, count: 0 };
        let (batch, channels) = if round % 4 == 0 { (2, 70) } else { (1, 5) };
        let shape = [batch, channels, 20, 37];
        let x = net.graph.add_input("x", TensorType::fixed(dtype, &shape));
        let y = match round % 4 {
            0 => net.by_channel(x),
            1 => net.wide_conv(x, round % 8 == 1),
            2 => net.nearest(x),
            _ => net.extreme(x),
        };
        net.graph.add_output("y", y);
        let graph = net.graph;
        let bytes = (0..shape.iter().product()).map(|_| rng.u8(..)).collect();
        let inputs = [Tensor::new(dtype, shape.to_vec(), bytes).expect("as many bytes")];
        let program = Program::compile(&graph, None).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        let found = program.run(&inputs).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        assert_eq!(found, eval_graph(&graph, &inputs).expect("evaluates"), "{graph}");
    }
}

#[test]
fn every_wait_is_needed() {
    let mut rng = Rng::with_seed(32);
    let mut waits = 0;
    for _ in 0..30 {
        let (graph, _) = network(&mut rng);
        let Ok(program) = Program::compile(&graph, None) else { continue };
        let (tiu, gdma) = (&program.streams.tiu, &program.streams.gdma);
        assert_eq!(check(tiu, gdma), Ok(()));
        for (index, _) in tiu.iter().enumerate().filter(|(_, command)| command.dep != 0) {
            let mut without = tiu.clone();
            without[index].dep = 0;
            assert!(matches!(check(&without, gdma), Err(Hazard::Race { .. })), "compute command {index}");
            waits += 1;
        }
        for (index, _) in gdma.iter().enumerate().filter(|(_, command)| command.dep != 0) {
            let mut without = gdma.clone();
            without[index].dep = 0;
            assert!(matches!(check(tiu, &without), Err(Hazard::Race { .. })), "copy command {index}");
            waits += 1;
        }
        if tiu.iter().all(|command| command.dep == 0) {
            continue; // nothing is computed, so that nothing can wait in a circle
        }
        let mut circle = gdma.clone();
        circle[0].dep = tiu.len() as u32;
        assert!(matches!(check(tiu, &circle), Err(Hazard::Circle { .. })));
        circle[0].dep += 1;
        assert!(matches!(check(tiu, &circle), Err(Hazard::Id(_))));
    }
    assert!(waits > 50, "{waits} waits");
}

/// Cycles of commands by the vendor's estimator; `None` for what its functions do not emit.
fn vendor_cycles(folder: &Path, commands: &[Command]) -> Vec<Option<u64>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bm1684x/estimate.py");
    let mut process = Process::new("python3");
    process.arg(script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().expect("python3 starts");
    let lines: String = commands.iter().map(|command| format!("{command}\n")).collect();
    let mut requests = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut requests, lines.as_bytes()));
    let output = child.wait_with_output().expect("the vendor's estimator runs");
    writer.join().expect("joins").expect("the vendor's estimator reads");
    let said = String::from_utf8_lossy(&output.stderr);
    let answers: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().ok()).collect();
    assert_eq!(answers.len(), commands.len(), "{}: {said}", output.status);
    answers
}

/// The formulas are the vendor's estimator: to the cycle for computing, within a tenth for copies.
#[test]
fn cycles_agree_with_the_vendor() {
    let Some(folder) = library::folder_with("libbackend_bm1684x.so") else { return };
    let mut rng = Rng::with_seed(33);
    let mut commands = Vec::new();
    for _ in 0..60 {
        let (graph, _) = network(&mut rng);
        let Ok(program) = Program::compile(&graph, None) else { continue };
        commands.extend(program.streams.tiu);
        commands.extend(program.streams.gdma);
    }
    let theirs = vendor_cycles(&folder, &commands);
    let (mut counts, mut wrong) = (BTreeMap::new(), Vec::new());
    for (command, theirs) in commands.iter().zip(theirs) {
        let name = command.body.form().name;
        let Some(theirs) = theirs else { continue };
        *counts.entry(name).or_insert(0) += 1;
        let ours = cost::cycles(&command.body);
        let near = match command.engine() {
            Engine::Tiu => ours == theirs,
            Engine::Gdma => ours.abs_diff(theirs) <= 2 + theirs / 10,
        };
        if !near {
            wrong.push(format!("theirs {theirs}, ours {ours}: `{command}`"));
        }
    }
    assert!(wrong.is_empty(), "{} of {counts:?}:\n{}", wrong.len(), wrong.join("\n"));
    let covered = ["conv", "pool", "ar", "rq", "lookup", "dma"];
    assert!(covered.iter().all(|form| counts.get(form).is_some_and(|&count| count >= 10)), "{counts:?}");
}

/// Every node that does not lower is named, with what follows it left out.
#[test]
fn all_that_is_unsupported_is_named() {
    let mut graph = Graph::new("net");
    let x = graph.add_input("x", TensorType::fixed(DType::I8, &[1, 3, 8, 8]));
    let pool = |dilation: i64| MaxPool {
        kernel: vec![2, 2],
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![dilation; 2],
    };
    let mut add =
        |op: MaxPool, x: ValueId, name: &str| graph.add1(op, &[x], Loc::named(name.to_owned())).expect("well typed");
    let first = add(pool(2), x, "first");
    let follows = add(pool(1), first, "follows");
    let fine = add(pool(1), x, "fine");
    let second = add(pool(3), fine, "second");
    for (name, value) in [("a", follows), ("b", fine), ("c", second)] {
        graph.add_output(name, value);
    }
    let found = Program::compile(&graph, None).expect_err("dilations of pools").to_string();
    let line = |name: &str, dilation: i64| {
        format!(
            "node `{name}` (max_pool): found pads [0, 0, 0, 0], strides [1, 1], dilations [{dilation}, {dilation}], \
             accepted on bm1684x: pads and strides up to 15, no dilation"
        )
    };
    assert_eq!(found, [line("first", 2), line("second", 3)].join("\n"));
}

/// Largest bytes along three axes, with pads and over several channels.
#[test]
fn pools_of_three_axes_equal_the_interpreter() {
    let mut rng = Rng::with_seed(35);
    for dtype in [DType::I8, DType::U8] {
        let text = format!(
            "graph @g {{ input %0 \"x\" : {dtype}[1,12,5,6]\n%1 = reshape %0 {{shape=[1, 3, 4, 5, 6]}} : {dtype}[1,3,4,5,6]\n\
             %2 = max_pool %1 {{kernel=[2, 2, 1], strides=[2, 1, 1], pads=[1, 0, 0, 1, 1, 0], dilations=[1, 1, 1]}} : \
             {dtype}[1,3,3,5,6]\n%3 = reshape %2 {{shape=[1, 9, 5, 6]}} : {dtype}[1,9,5,6]\noutput \"y\" = %3 }}"
        );
        let graph = adze_ir::text::parse_graph(&text).unwrap_or_else(|error| panic!("{error}"));
        let bytes = (0..360).map(|_| rng.u8(..)).collect();
        let inputs = [Tensor::new(dtype, vec![1, 12, 5, 6], bytes).expect("a byte for every element")];
        let program = Program::compile(&graph, None).expect("compiles");
        assert_eq!(program.run(&inputs), Ok(eval_graph(&graph, &inputs).expect("evaluates")), "{dtype}");
    }
}

/// In local memory that is too small networks are done in parts, with the same results.
#[test]
fn parts_equal_the_interpreter() {
    let mut rng = Rng::with_seed(34);
    let (mut cut, mut refused, mut slower) = (0, 0, Vec::new());
    while cut < 30 {
        let (graph, input) = network_of(&mut rng, 20);
        let inputs = [input];
        let Ok(whole) = Program::compile(&graph, None) else { continue };
        if !whole.notes.is_empty() {
            continue;
        }
        let limit = 64 * rng.u32(6..50);
        let program = match Program::compile_within(&graph, None, limit) {
            Ok(program) => program,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&format!("accepted on bm1684x: {limit} bytes of local memory")), "{text}");
                refused += 1;
                assert!(refused <= 40, "{refused} networks were refused, {cut} done in parts");
                continue;
            }
        };
        assert!(program.streams.peak_bytes <= limit, "{} of {limit} bytes", program.streams.peak_bytes);
        let expected = eval_graph(&graph, &inputs).expect("evaluates");
        assert_eq!(
            program.run(&inputs),
            Ok(expected),
            "{limit} bytes per lane of {}\n{graph}",
            whole.streams.peak_bytes
        );
        slower.push(program.cycles() as f64 / whole.cycles() as f64);
        cut += 1;
    }
    slower.sort_by(f64::total_cmp);
    let [middle, most] = [slower[cut / 2], slower[cut - 1]];
    println!(
        "{cut} networks in parts, {refused} refused; {middle:.2} times the cycles in the median, {most:.2} at most"
    );
}
