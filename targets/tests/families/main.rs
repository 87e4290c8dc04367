//! Every family of kernels on random small leaves, by all emitters: what the interpreter makes of a kernel are the bits that
//! machine code and C have to make of it, and lies within the family's bound of the reference evaluation.
//!
//! A family is a row of [`table::FAMILIES`]. The interpreter refuses what lies outside of an operand's memory; under emulators
//! operands lie side by side, and all are compared.
//! `ADZE_FAMILIES=100 cargo test -p adze-targets --test families` takes so many leaves of each family instead of a few.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../cc/mod.rs"]
mod cc;
#[path = "../qemu/mod.rs"]
mod qemu;
mod table;

use std::collections::BTreeSet;

use adze_ir::extent::{Dims, Extent};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_targets::cpu::emit::{Emitter, KernelCode, a64, rvv, x86};
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::interp::{self, Options};
use adze_targets::cpu::kernel::{Kernel, text, verify};
use adze_targets::cpu::lower::{LeafCx, Lowered, Operand, PtrRole, lower_leaf};
use adze_targets::cpu::object::ObjectBuilder;
use adze_targets::cpu::{Arch, Machine};
use table::{FAMILIES, Family, Within};

/// An operand of a leaf.
#[derive(Clone, Debug)]
struct Given {
    tensor: Tensor,
    /// Channels last in memory.
    last: bool,
    /// Known at compile time.
    constant: bool,
}

impl Given {
    /// Elements from one index to the next, per axis.
    fn strides(&self) -> Vec<usize> {
        let shape = self.tensor.shape();
        let rank = shape.len();
        let order: Vec<usize> = match self.last && rank > 2 {
            true => std::iter::once(0).chain(2..rank).chain([1]).collect(),
            false => (0..rank).collect(),
        };
        let (mut strides, mut step) = (vec![1; rank], 1);
        for &axis in order.iter().rev() {
            strides[axis] = step;
            step *= shape[axis];
        }
        strides
    }

    fn operand(&self) -> Operand {
        Operand {
            dtype: self.tensor.dtype(),
            shape: self.tensor.shape().iter().map(|&n| n.into()).collect(),
            strides: self.strides().into_iter().map(Extent::from).collect(),
            offset: Extent::ZERO,
            bounds: None,
            constant: self.constant.then(|| self.tensor.clone()),
        }
    }

    /// Place of every element in memory.
    fn places(&self) -> Vec<usize> {
        let (shape, strides) = (self.tensor.shape(), self.strides());
        let place = |mut flat: usize| {
            let mut at = 0;
            for axis in (0..shape.len()).rev() {
                at += flat % shape[axis] * strides[axis];
                flat /= shape[axis];
            }
            at
        };
        (0..self.tensor.elems()).map(place).collect()
    }

    /// Memory for the tensor, all ones where it is still to be written.
    fn memory(&self, written: bool) -> Vec<u8> {
        let width = self.tensor.dtype().bytes_for(1);
        let mut bytes = vec![0xff; self.tensor.elems() * width];
        for (flat, at) in self.places().into_iter().enumerate().filter(|_| written) {
            bytes[at * width..][..width].copy_from_slice(&self.tensor.bytes()[flat * width..][..width]);
        }
        bytes
    }

    fn read(&self, memory: &[u8]) -> Tensor {
        let width = self.tensor.dtype().bytes_for(1);
        let bytes = self.places().into_iter().flat_map(|at| memory[at * width..][..width].to_vec()).collect();
        Tensor::new(self.tensor.dtype(), self.tensor.shape().to_vec(), bytes).unwrap()
    }
}

/// A leaf with its operands.
struct Leaf {
    op: Op,
    inputs: Vec<Option<Given>>,
    /// Results with channels last.
    last: bool,
}

impl Leaf {
    fn eval(&self, of: impl Fn(&Tensor) -> Tensor) -> Vec<Tensor> {
        let given: Vec<Option<Tensor>> = self.inputs.iter().map(|i| i.as_ref().map(|g| of(&g.tensor))).collect();
        let given: Vec<Option<&Tensor>> = given.iter().map(Option::as_ref).collect();
        self.op.eval(&given, &|_| None).unwrap_or_else(|e| panic!("{}: {e}", self.op))
    }

    fn shapes(&self) -> String {
        let shape = |g: &Given| format!("{}{:?}", g.tensor.dtype(), g.tensor.shape());
        let shapes: Vec<String> = self.inputs.iter().flatten().map(shape).collect();
        shapes.join(", ")
    }

    fn results(&self) -> Vec<Given> {
        let given = |tensor| Given { tensor, last: self.last, constant: false };
        self.eval(Tensor::clone).into_iter().map(given).collect()
    }

    /// How far a result may be from the reference.
    fn limit(&self, within: Within, results: &[Given]) -> f64 {
        let largest = |tensors: &[Tensor]| {
            let all = tensors.iter().flat_map(Tensor::to_f64).filter(|v| v.is_finite());
            all.fold(1e-30, |most: f64, v| most.max(v.abs()))
        };
        let magnitude = |t: &Tensor| {
            let values: Vec<f64> = t.to_f64().iter().map(|v| v.abs()).collect();
            if t.dtype().is_float() { Tensor::from_f64(t.dtype(), t.shape(), &values) } else { t.clone() }
        };
        let eps = match results[0].tensor.dtype() {
            DType::F16 => 2f64.powi(-11),
            _ => f64::from(f32::EPSILON),
        };
        match within {
            Within::Bits => 0.0,
            Within::Sums(c) => c * eps * largest(&self.eval(magnitude)),
            Within::Results(c) => {
                c * eps * largest(&results.iter().map(|r| r.tensor.clone()).collect::<Vec<_>>()).max(1.0)
            }
        }
    }

    fn lower(&self, machine: &Machine, results: &[Given]) -> Vec<Lowered> {
        let inputs: Vec<Option<Operand>> = self.inputs.iter().map(|g| g.as_ref().map(Given::operand)).collect();
        let outputs: Vec<Operand> = results.iter().map(Given::operand).collect();
        let cx =
            LeafCx { op: &self.op, inputs: &inputs, outputs: &outputs, dims: &Dims::new(), machine, schedule: None };
        lower_leaf(&cx).unwrap_or_else(|e| panic!("{}: {e}", self.op))
    }
}

/// A call of a kernel with memory before and, as the interpreter says, after.
struct Call {
    family: usize,
    kernel: Kernel,
    range: (i64, i64),
    before: Vec<Vec<u8>>,
    after: Vec<Vec<u8>>,
    /// Whether the memory means something afterwards.
    kept: Vec<bool>,
}

impl Call {
    fn check(&self, machine: &Machine, found: &[Vec<u8>]) {
        for (index, param) in self.kernel.params.values().enumerate().filter(|(index, _)| self.kept[*index]) {
            let bytes = |memory: &[u8]| canonical(memory, param.dtype);
            assert!(
                bytes(&found[index]) == bytes(&self.after[index]),
                "{} on {}: `{}` of\n{}",
                FAMILIES[self.family].name,
                machine.name,
                param.name,
                text::print(&self.kernel)
            );
        }
    }
}

/// Bytes with every NaN made the same.
fn canonical(bytes: &[u8], dtype: DType) -> Vec<u8> {
    let is_nan: fn(&[u8]) -> bool = match dtype {
        DType::F16 => |lane| u16::from_le_bytes([lane[0], lane[1]]) & 0x7fff > 0x7c00,
        DType::F32 => |lane| f32::from_le_bytes(lane.try_into().unwrap()).is_nan(),
        DType::F64 => |lane| f64::from_le_bytes(lane.try_into().unwrap()).is_nan(),
        _ => return bytes.to_vec(),
    };
    let width = dtype.bytes_for(1);
    bytes.chunks(width).flat_map(|lane| if is_nan(lane) { vec![0xff; width] } else { lane.to_vec() }).collect()
}

/// The calls that a leaf takes on a machine, after what the interpreter makes of them was held against the reference.
fn calls(machine: &Machine, family: usize, leaf: &Leaf) -> Vec<Call> {
    let results = leaf.results();
    let mut outputs: Vec<Vec<u8>> = results.iter().map(|given| given.memory(false)).collect();
    let mut calls = Vec::new();
    for step in leaf.lower(machine, &results) {
        assert_eq!(verify(&step.kernel), [], "{}", leaf.op);
        let memory = |role: &PtrRole| match role {
            PtrRole::Input(index) => leaf.inputs[*index].as_ref().unwrap().memory(true),
            PtrRole::Output(index) => outputs[*index].clone(),
            PtrRole::Packed(weight) => weight.data.bytes().to_vec(),
            PtrRole::Scratch(bytes) => vec![0; usize::try_from(bytes.as_const().unwrap()).unwrap()],
        };
        let before: Vec<Vec<u8>> = step.pointers.iter().map(memory).collect();
        let mut after = before.clone();
        let mut slices: Vec<&mut [u8]> = after.iter_mut().map(Vec::as_mut_slice).collect();
        let options = Options { fuse_muladd: machine.has_fma, ..Options::default() };
        let range = (0, step.range.as_const().unwrap());
        let status = interp::run(&step.kernel, &mut slices, &[], range, options);
        assert_eq!(status, Ok(0), "{} on {}\n{}", leaf.op, machine.name, text::print(&step.kernel));
        for (role, memory) in step.pointers.iter().zip(&after) {
            if let PtrRole::Output(index) = role {
                outputs[*index].clone_from(memory);
            }
        }
        let kept = step.pointers.iter().map(|role| !matches!(role, PtrRole::Scratch(_))).collect();
        calls.push(Call { family, kernel: step.kernel, range, before, after, kept });
    }
    let limit = leaf.limit(FAMILIES[family].within, &results);
    for (wanted, memory) in results.iter().zip(&outputs) {
        let found = wanted.read(memory).to_f64();
        for (at, (want, got)) in wanted.tensor.to_f64().into_iter().zip(found).enumerate() {
            let close = (want - got).abs() <= limit || want == got || (want.is_nan() && got.is_nan());
            let (name, op, shapes) = (FAMILIES[family].name, &leaf.op, leaf.shapes());
            assert!(close, "{name} on {}: {op} of {shapes} at {at}: {want} against {got}, limit {limit}", machine.name);
        }
    }
    calls
}

/// Leaves of every family: so many, or as many as the environment says.
fn all_calls(machine: &Machine, few: u64) -> Vec<Call> {
    let count = std::env::var("ADZE_FAMILIES").ok().map_or(few, |n| n.parse().expect("a number of leaves"));
    let each = |(index, family): (usize, &Family)| -> Vec<Call> {
        let leaf = |seed| (family.make)(&mut fastrand::Rng::with_seed(seed * 1000 + index as u64));
        (0..count).flat_map(|seed| calls(machine, index, &leaf(seed))).collect()
    };
    FAMILIES.iter().enumerate().flat_map(each).collect()
}

/// Kernels of each family that an emitter of ours made code of, and all of them.
struct Reached {
    counts: Vec<(usize, usize)>,
    /// Why there was none, by family.
    refused: BTreeSet<(usize, String)>,
}

impl Reached {
    fn new() -> Self {
        Self { counts: vec![(0, 0); FAMILIES.len()], refused: BTreeSet::new() }
    }

    fn count(&mut self, machine: &Machine, calls: &[Call]) {
        for call in calls {
            let own = match machine.arch {
                Arch::X86_64 => x86::Cpu::of(machine).map(|cpu| x86::compile(&call.kernel, cpu)),
                Arch::Aarch64 => a64::Cpu::of(machine).map(|cpu| a64::compile(&call.kernel, cpu)),
                Arch::Riscv64 => rvv::Cpu::of(machine).map(|cpu| rvv::compile(&call.kernel, cpu)),
                Arch::C99 => None,
            };
            let Some(own) = own else { continue };
            let (made, all) = &mut self.counts[call.family];
            *made += usize::from(own.is_ok());
            *all += 1;
            self.refused.extend(own.err().map(|error| (call.family, error.to_string())));
        }
    }

    fn check(&self, floor: impl Fn(&Family) -> usize) {
        for (family, (made, all)) in FAMILIES.iter().zip(&self.counts) {
            println!("{:20} {made:4} of {all:4} kernels by our emitter, {} % at least", family.name, floor(family));
        }
        let low = |(family, (made, all)): (&Family, &(usize, usize))| 100 * made / all.max(&1) < floor(family);
        let low = FAMILIES.iter().zip(&self.counts).any(low);
        assert!(!low, "too few; refused: {:#?}", self.refused);
    }
}

fn named(name: &str) -> Machine {
    Machine::from_name(name).unwrap()
}

#[test]
fn x86_64() {
    let mut reached = Reached::new();
    for machine in Machine::runnable() {
        let calls = all_calls(&machine, 4);
        for call in &calls {
            let mut object = ObjectBuilder::new(&machine).unwrap();
            object.add_kernel(&call.kernel).unwrap_or_else(|e| panic!("{e}\n{}", text::print(&call.kernel)));
            let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
            let mut buffers: Vec<Buffer> = call.before.iter().map(|m| Buffer::from_bytes(m)).collect();
            let (lo, hi) = call.range;
            assert_eq!(loaded.call_kernel(&call.kernel.name, &mut buffers, &[], lo, hi).unwrap(), 0);
            call.check(&machine, &buffers.iter().map(|b| b.as_ref().to_vec()).collect::<Vec<_>>());
        }
        reached.count(&machine, &calls);
    }
    reached.check(|family| family.own.x86);
}

/// All calls of a machine in one run of its emulator.
fn emulate(machine: &Machine, register_bits: u32, calls: &[Call]) {
    let compile = |call: &Call| Emitter::new(machine).unwrap().compile(&call.kernel);
    let codes: Vec<KernelCode> = calls.iter().map(|call| compile(call).unwrap()).collect();
    let listed: Vec<qemu::Call<'_>> = calls
        .iter()
        .zip(&codes)
        .map(|(call, code)| qemu::Call { code, memory: &call.before, dims: &[], range: call.range })
        .collect();
    let Some((status, after)) = qemu::run_all(machine, register_bits, &listed) else { return };
    assert_eq!(status, 0, "{}", machine.name);
    for (call, after) in calls.iter().zip(&after) {
        call.check(machine, after);
    }
}

#[test]
fn aarch64_under_qemu() {
    let mut reached = Reached::new();
    for machine in ["aarch64", "cortex-a55", "neoverse-v1"].map(named) {
        let calls = all_calls(&machine, 4);
        emulate(&machine, 0, &calls);
        reached.count(&machine, &calls);
    }
    reached.check(|family| family.own.a64);
}

#[test]
fn riscv64_under_qemu() {
    let mut reached = Reached::new();
    for machine in ["riscv64gc", "riscv64gcv", "riscv64gcv_zvl256b", "riscv64gcv_zvl512b"].map(named) {
        let calls = all_calls(&machine, 4);
        emulate(&machine, 8 * machine.vector_bytes, &calls);
        reached.count(&machine, &calls);
    }
    reached.check(|family| family.own.rvv);
}

#[test]
fn c99() {
    for machine in ["c99", "c99-simd"].map(named) {
        let calls = all_calls(&machine, 1);
        let listed: Vec<cc::Case<'_>> = calls
            .iter()
            .map(|call| cc::Case { kernel: &call.kernel, memory: &call.before, range: call.range })
            .collect();
        let Some(after) = cc::run(&listed, &["-O1", "-Wall", "-Wextra", "-Werror"]) else { return };
        for (call, (status, after)) in calls.iter().zip(&after) {
            assert_eq!(*status, 0, "{}", FAMILIES[call.family].name);
            call.check(&machine, after);
        }
    }
}
