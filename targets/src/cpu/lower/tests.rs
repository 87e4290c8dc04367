//! Kernels of leaves against the reference evaluation, on random shapes and layouts.
//!
//! All memory that is not part of an operand is NaN, so that a read outside shows. Every kernel runs once over its whole
//! range and once in two parts, which must give the same bits.

mod code;
mod conv;
mod everywhere;
mod fused;
mod gemm;
mod integer;
mod pool;
mod recurrent;
mod resize;
mod riscv;
mod schedules;
mod winograd;

use std::collections::BTreeMap;

use adze_ir::attrs::F64;
use adze_ir::extent::{DimRange, Dims, Extent};
use adze_ir::ops::Op;
use adze_ir::propose::Schedule;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::{Bounds, LeafCx, Lowered, Operand, PtrRole, backwards, lower_leaf, schedules};
use crate::cpu::exec::{Buffer, Loaded};
use crate::cpu::kernel::{interp, verify};
use crate::cpu::object::ObjectBuilder;
use crate::cpu::{Arch, Machine};

/// Elements before and after every tensor.
const GUARD: usize = 64;

/// An operand of a case.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The value.
    pub tensor: Tensor,
    /// Axes from outermost to innermost in memory.
    pub order: Vec<usize>,
    /// Known at compile time.
    pub constant: bool,
    /// Axes whose extent is a named dimension.
    pub named: Vec<(usize, &'static str)>,
    /// Per axis, how far the view reaches before and after the buffer, and with which value; part of `tensor`.
    pub border: Option<(Vec<(usize, usize)>, f64)>,
}

impl Given {
    pub(super) fn plain(tensor: Tensor) -> Self {
        let order = (0..tensor.shape().len()).collect();
        Self { tensor, order, constant: false, named: Vec::new(), border: None }
    }

    pub(super) fn constant(tensor: Tensor) -> Self {
        Self { constant: true, ..Self::plain(tensor) }
    }

    pub(super) fn order(mut self, order: &[usize]) -> Self {
        self.order = order.to_vec();
        self
    }

    /// Channels last.
    pub(super) fn last(self) -> Self {
        let rank = self.tensor.shape().len();
        let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        self.order(&order)
    }

    pub(super) fn named(mut self, axis: usize, name: &'static str) -> Self {
        self.named.push((axis, name));
        self
    }

    fn extents(&self) -> Vec<Extent> {
        let mut shape: Vec<Extent> = self.tensor.shape().iter().map(|&n| n.into()).collect();
        for &(axis, name) in &self.named {
            shape[axis] = Extent::sym(name);
        }
        shape
    }

    /// Extents of the buffer, without the border.
    fn stored(&self) -> Vec<usize> {
        let border = self.border.as_ref().map(|b| b.0.clone()).unwrap_or_default();
        let cut = |axis: usize| border.get(axis).map_or(0, |&(before, after)| before + after);
        self.tensor.shape().iter().enumerate().map(|(axis, &n)| n - cut(axis)).collect()
    }

    fn before(&self, axis: usize) -> usize {
        self.border.as_ref().map_or(0, |(b, _)| b[axis].0)
    }

    fn operand(&self) -> Operand {
        let shape = self.extents();
        let stored: Vec<Extent> = match &self.border {
            Some(_) => self.stored().into_iter().map(Extent::from).collect(),
            None => shape.clone(),
        };
        let mut strides = vec![Extent::ONE; shape.len()];
        let mut step = Extent::ONE;
        for &axis in self.order.iter().rev() {
            strides[axis] = step.clone();
            step = step * stored[axis].clone();
        }
        let mut offset = Extent::from(GUARD);
        for (axis, stride) in strides.iter().enumerate() {
            offset = offset - stride.clone() * self.before(axis).into();
        }
        let bounds = self.border.as_ref().map(|(border, fill)| Bounds {
            starts: border.iter().map(|b| -Extent::from(b.0)).collect(),
            limits: stored,
            fill: F64::new(*fill),
        });
        let constant = self.constant.then(|| self.tensor.clone());
        Operand { dtype: self.tensor.dtype(), shape, strides, offset, bounds, constant }
    }

    /// Position in the buffer of every element of the view; `None` in the border.
    pub(super) fn positions(&self) -> Vec<Option<usize>> {
        let (shape, stored) = (self.tensor.shape(), self.stored());
        let mut strides = vec![1usize; shape.len()];
        let mut step = 1;
        for &axis in self.order.iter().rev() {
            strides[axis] = step;
            step *= stored[axis];
        }
        (0..self.tensor.elems())
            .map(|flat| {
                let (mut rest, mut at) = (flat, GUARD);
                for axis in (0..shape.len()).rev() {
                    let index = (rest % shape[axis]).checked_sub(self.before(axis))?;
                    if index >= stored[axis] {
                        return None;
                    }
                    at += index * strides[axis];
                    rest /= shape[axis];
                }
                Some(at)
            })
            .collect()
    }

    fn buffer(&self) -> Buffer {
        let dtype = self.tensor.dtype();
        let width = dtype.bytes_for(1);
        let elems = self.stored().iter().product::<usize>() + 2 * GUARD;
        let nan = Tensor::from_f64(dtype, &[elems], &vec![f64::NAN; elems]);
        let mut buffer = Buffer::from_bytes(nan.bytes());
        for (flat, at) in self.positions().into_iter().enumerate() {
            let Some(at) = at else { continue };
            let from = &self.tensor.bytes()[flat * width..][..width];
            buffer.as_mut()[at * width..][..width].copy_from_slice(from);
        }
        buffer
    }

    fn read(&self, buffer: &Buffer) -> Tensor {
        let dtype = self.tensor.dtype();
        let width = dtype.bytes_for(1);
        let mut bytes = Vec::new();
        for at in self.positions().into_iter().flatten() {
            bytes.extend_from_slice(&buffer.as_ref()[at * width..][..width]);
        }
        Tensor::new(dtype, self.tensor.shape().to_vec(), bytes).unwrap()
    }
}

/// Seeded values in -1..1.
pub(super) fn random(rng: &mut fastrand::Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.f32()) * 2.0 - 1.0).collect();
    Tensor::from_f64(dtype, shape, &values)
}

/// A leaf with its operands and where its results go.
pub(super) struct Case {
    pub op: Op,
    pub inputs: Vec<Option<Given>>,
    /// Order of axes in memory of each result; plain when empty.
    pub order: Vec<usize>,
    /// Axes of the result whose extent is a named dimension.
    pub named: Vec<(usize, &'static str)>,
    pub dims: BTreeMap<&'static str, i64>,
}

impl Case {
    pub(super) fn new(op: impl Into<Op>, inputs: Vec<Option<Given>>) -> Self {
        Self { op: op.into(), inputs, order: Vec::new(), named: Vec::new(), dims: BTreeMap::new() }
    }

    /// Result channels last.
    pub(super) fn last(mut self, rank: usize) -> Self {
        self.order = std::iter::once(0).chain(2..rank).chain([1]).collect();
        self
    }

    fn tensors(&self) -> Vec<Option<&Tensor>> {
        self.inputs.iter().map(|i| i.as_ref().map(|g| &g.tensor)).collect()
    }

    fn reference(&self) -> Vec<Tensor> {
        self.op.eval(&self.tensors(), &|_| None).unwrap()
    }

    /// The largest magnitude that a sum could have: the same operator on magnitudes.
    fn scale(&self) -> f64 {
        let magnitudes: Vec<Option<Tensor>> = self
            .tensors()
            .iter()
            .map(|t| {
                t.map(|t| {
                    Tensor::from_f64(t.dtype(), t.shape(), &t.to_f64().iter().map(|v| v.abs()).collect::<Vec<_>>())
                })
            })
            .collect();
        let refs: Vec<Option<&Tensor>> = magnitudes.iter().map(Option::as_ref).collect();
        let results = self.op.eval(&refs, &|_| None).unwrap();
        results.iter().flat_map(Tensor::to_f64).fold(1e-30, |max, v| max.max(v.abs()))
    }

    pub(super) fn lower(&self, machine: &Machine, results: &[Given]) -> Vec<Lowered> {
        self.with_cx(machine, results, lower_leaf).unwrap_or_else(|e| panic!("{}: {e}", self.op))
    }

    /// Hands the leaf to `ask`.
    pub(super) fn with_cx<R>(&self, machine: &Machine, results: &[Given], ask: impl FnOnce(&LeafCx<'_>) -> R) -> R {
        let inputs: Vec<Option<Operand>> = self.inputs.iter().map(|g| g.as_ref().map(Given::operand)).collect();
        let outputs: Vec<Operand> = results.iter().map(Given::operand).collect();
        let dims: Dims = self.dims.keys().map(|&name| (name.into(), DimRange { lo: 1, hi: 1000 })).collect();
        ask(&LeafCx { op: &self.op, inputs: &inputs, outputs: &outputs, dims: &dims, machine, schedule: None })
    }

    /// Runs every schedule that is listed for a machine, and compares. Returns their number.
    pub(super) fn check_schedules(&self, machine: &Machine, c: f64) -> usize {
        let wanted = self.results();
        let listed = self.with_cx(machine, &wanted, schedules);
        let backwards: Vec<Schedule> = listed.iter().filter_map(backwards).collect();
        for schedule in listed.iter().chain(&backwards) {
            let lowered = self.with_cx(machine, &wanted, |cx| lower_leaf(&LeafCx { schedule: Some(schedule), ..*cx }));
            let lowered = lowered.unwrap_or_else(|e| panic!("{} by {schedule}: {e}", self.op));
            let found = self.run(&Engine::Native(machine, 1), &lowered, &wanted).expect("machine code has no limit");
            self.compare(c, &wanted, &found);
        }
        listed.len()
    }

    pub(super) fn results(&self) -> Vec<Given> {
        self.reference()
            .into_iter()
            .map(|tensor| {
                let mut given = Given::plain(tensor);
                if self.order.len() == given.order.len() {
                    given.order.clone_from(&self.order);
                }
                given.named.clone_from(&self.named);
                given
            })
            .collect()
    }

    /// Lowers for this machine, runs and compares: no element farther from the reference than `c` times the rounding of the
    /// largest sum. The interpreter gives the bits that the machine code gives.
    pub(super) fn check(&self, c: f64) {
        let machine = Machine::host().expect("tests run on x86-64");
        let wanted = self.results();
        let lowered = self.lower(&machine, &wanted);
        let whole = self.run(&Engine::Native(&machine, 1), &lowered, &wanted).expect("machine code has no limit");
        let parts = self.run(&Engine::Native(&machine, 2), &lowered, &wanted).expect("machine code has no limit");
        self.compare(c, &wanted, &whole);
        for (found, parts) in whole.iter().zip(&parts) {
            assert_eq!(found.bytes(), parts.bytes(), "{}: ranges change bits", self.op);
        }
        if let Some(interpreted) = self.run(&Engine::Interpreter(machine.has_fma), &lowered, &wanted) {
            for (found, interpreted) in whole.iter().zip(&interpreted) {
                assert_eq!(found.bytes(), interpreted.bytes(), "{}: interpreter and code differ", self.op);
            }
        }
    }

    /// Lowers for every machine, compiles, and compares what the interpreter makes of the kernels.
    pub(super) fn check_everywhere(&self, c: f64) {
        let wanted = self.results();
        for name in Machine::NAMES {
            let machine = Machine::from_name(name).unwrap();
            let lowered = self.lower(&machine, &wanted);
            for step in lowered.iter().filter(|_| machine.arch != Arch::C99) {
                let mut object = ObjectBuilder::new(&machine).unwrap();
                object.add_kernel(&step.kernel).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            let found = self.run(&Engine::Interpreter(machine.has_fma), &lowered, &wanted).expect("a small case");
            self.compare(c, &wanted, &found);
        }
    }

    fn compare(&self, c: f64, wanted: &[Given], found: &[Tensor]) {
        let eps = match wanted[0].tensor.dtype() {
            DType::F16 => 2f64.powi(-11),
            DType::Bf16 => 2f64.powi(-8),
            DType::F64 => f64::EPSILON,
            DType::F32 => f64::from(f32::EPSILON),
            _ => 0.0,
        };
        let limit = c * eps * self.scale();
        for (wanted, found) in wanted.iter().zip(found) {
            let pairs = wanted.tensor.to_f64().into_iter().zip(found.to_f64());
            for (index, (want, got)) in pairs.enumerate() {
                let close = (want - got).abs() <= limit || want == got || (want.is_nan() && got.is_nan());
                assert!(close, "{} at {index}: {want} against {got}, limit {limit}, {:?}", self.op, self.shapes());
            }
        }
    }

    /// Shape, order in memory and whether it is constant, of every operand.
    fn shapes(&self) -> Vec<String> {
        let shape = |g: &Given| format!("{:?} {:?} {}", g.tensor.shape(), g.order, g.constant);
        self.inputs.iter().map(|i| i.as_ref().map_or_else(|| "none".into(), shape)).collect()
    }

    /// Runs the kernels one after the other; `None` when that takes the interpreter too long.
    fn run(&self, engine: &Engine<'_>, lowered: &[Lowered], results: &[Given]) -> Option<Vec<Tensor>> {
        let dims: Vec<i64> = self.dims.values().copied().collect();
        let lookup = |name: &str| self.dims.get(name).copied();
        let blank = |g: &Given| {
            let nan = Tensor::from_f64(g.tensor.dtype(), g.tensor.shape(), &vec![f64::NAN; g.tensor.elems()]);
            Given { tensor: nan, ..g.clone() }.buffer()
        };
        let mut outputs: Vec<Buffer> = results.iter().map(blank).collect();
        for step in lowered {
            assert_eq!(verify(&step.kernel), [], "{}", self.op);
            let mut buffers: Vec<Buffer> = Vec::new();
            for role in &step.pointers {
                buffers.push(match role {
                    PtrRole::Input(index) => self.inputs[*index].as_ref().unwrap().buffer(),
                    PtrRole::Output(index) => std::mem::replace(&mut outputs[*index], Buffer::new(0)),
                    PtrRole::Packed(weight) => Buffer::from_bytes(weight.data.bytes()),
                    PtrRole::Scratch(bytes) => Buffer::new(usize::try_from(bytes.eval(&lookup).unwrap()).unwrap()),
                });
            }
            let range = step.range.eval(&lookup).unwrap();
            engine.call(step, &mut buffers, &dims, range)?;
            for (role, buffer) in step.pointers.iter().zip(buffers) {
                if let PtrRole::Output(index) = role {
                    outputs[*index] = buffer;
                }
            }
        }
        Some(results.iter().zip(&outputs).map(|(g, buffer)| g.read(buffer)).collect())
    }
}

/// What runs a kernel.
enum Engine<'a> {
    /// Machine code, the range in so many parts.
    Native(&'a Machine, i64),
    /// The interpreter of the kernel IR; whether `muladd` rounds once.
    Interpreter(bool),
}

impl Engine<'_> {
    fn call(&self, step: &Lowered, buffers: &mut [Buffer], dims: &[i64], range: i64) -> Option<()> {
        match self {
            Engine::Native(machine, parts) => {
                let mut object = ObjectBuilder::new(machine).unwrap();
                object.add_kernel(&step.kernel).unwrap_or_else(|e| panic!("{e}"));
                let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
                for part in 0..*parts {
                    let (lo, hi) = (range * part / parts, range * (part + 1) / parts);
                    let status = loaded.call_kernel(&step.kernel.name, buffers, dims, lo, hi).unwrap();
                    assert_eq!(status, 0);
                }
            }
            Engine::Interpreter(fuse_muladd) => {
                let mut memory: Vec<&mut [u8]> = buffers.iter_mut().map(AsMut::as_mut).collect();
                let options = interp::Options { fuse_muladd: *fuse_muladd, max_steps: 300_000 };
                match interp::run(&step.kernel, &mut memory, dims, (0, range), options) {
                    Ok(status) => assert_eq!(status, 0),
                    Err(interp::InterpError::Steps(_)) => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        Some(())
    }
}
