//! Classes of machine operations, and how many of each an operation of the kernel IR takes.

use crate::cpu::kernel::Type;
use crate::cpu::kernel::ir::{BinOp, Cvt, Op, UnOp, Value};
use crate::cpu::machine::{Arch, Machine};

/// A class of machine operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Multiply-add.
    Fma,
    /// Other arithmetic of one cycle or so.
    Arith,
    /// Division and square root.
    Divide,
    /// Moves between lanes.
    Shuffle,
    /// Conversions between formats.
    Convert,
    /// Loads.
    Load,
    /// Stores.
    Store,
    /// Scalar integers, addresses among them.
    Int,
    /// Iterations of loops.
    Turn,
    /// Branches.
    Branch,
}

/// Number of classes.
pub(super) const CLASSES: usize = 10;

/// Operations per class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ops(pub [f64; CLASSES]);

impl Ops {
    /// Counts more of a class.
    pub fn add(&mut self, class: Class, count: f64) {
        self.0[class as usize] += count;
    }

    /// Number of all.
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Number of a class.
    pub fn get(&self, class: Class) -> f64 {
        self.0[class as usize]
    }
}

/// Registers that a value takes.
pub(super) fn parts(ty: Type, machine: &Machine) -> f64 {
    if ty.lanes == 1 {
        return 1.0;
    }
    let bytes = u32::from(ty.lanes) * ty.elem.bytes();
    if machine.vector_bytes == 0 { f64::from(ty.lanes) } else { f64::from(bytes.div_ceil(machine.vector_bytes)) }
}

/// Whether the machine has an emitter of ours, which knows instructions that Cranelift does not.
pub(super) fn has_own_emitter(machine: &Machine) -> bool {
    match machine.arch {
        Arch::X86_64 => machine.vector_bytes > 16,
        Arch::Riscv64 => machine.vector_bytes > 0,
        Arch::Aarch64 => true,
        Arch::C99 => false,
    }
}

/// Counts an operation.
pub(super) fn classify(op: &Op, ty: Type, of: &dyn Fn(Value) -> Type, machine: &Machine, ops: &mut Ops) {
    let count = parts(ty, machine);
    let class = if ty.lanes == 1 && !ty.elem.is_float() { Class::Int } else { Class::Arith };
    let (x86, wide) = (machine.arch == Arch::X86_64, has_own_emitter(machine));
    let riscv = wide && machine.arch == Arch::Riscv64;
    // Multiply-adds take a lane of a register themselves.
    let by_lane = machine.arch == Arch::Aarch64 && ty.elem.is_float();
    match op {
        Op::Const(_) => {}
        Op::Extent(extent) => ops.add(Class::Int, extent.terms().0.len() as f64),
        // Operations of RISC-V take scalars as they are.
        Op::Splat(_) if ty.lanes == 1 || riscv || by_lane => {}
        Op::Splat(_) => ops.add(Class::Shuffle, 1.0),
        Op::Load(_) => ops.add(Class::Load, count),
        Op::LoadFirst(_, first) => {
            let pieces = if machine.has_masks() { 1.0 } else { f64::from(first.count_ones()) };
            ops.add(Class::Load, pieces.max(parts(ty.with_lanes(*first), machine)));
            ops.add(Class::Shuffle, pieces - 1.0);
        }
        Op::Un(UnOp::Sqrt, _) => ops.add(Class::Divide, 1.5 * count),
        Op::Un(..) => ops.add(class, count),
        Op::Bin(BinOp::Div | BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU, ..) => {
            // Vectors of integers are divided lane by lane.
            let lanes = if ty.elem.is_float() { count } else { ty.lanes.into() };
            ops.add(Class::Divide, lanes);
        }
        Op::Bin(BinOp::Min | BinOp::Max, ..) if ty.elem.is_float() && x86 => {
            ops.add(class, if wide { 5.0 * count } else { 8.0 * count });
        }
        // A comparison and a selection.
        Op::Bin(BinOp::MinSel | BinOp::MaxSel, ..) if machine.arch == Arch::Aarch64 => ops.add(class, 2.0 * count),
        Op::Bin(..) | Op::Shift(..) | Op::Cmp(..) => ops.add(class, count),
        Op::Select(..) => ops.add(class, if wide { count } else { 1.5 * count }),
        Op::MulAdd(..) if !machine.has_fma => {
            ops.add(Class::Fma, count);
            ops.add(Class::Arith, count);
        }
        // Exact without the instruction: a sequence in double precision.
        Op::Fma(..) if !machine.has_fma => ops.add(Class::Arith, 20.0 * count),
        Op::Fma(..) | Op::MulAdd(..) => ops.add(Class::Fma, count),
        Op::Cvt(Cvt::Bits, _) => {}
        Op::Cvt(Cvt::FromF16 | Cvt::ToF16 | Cvt::FromBf16 | Cvt::ToBf16, from) => {
            let each = match machine.arch {
                Arch::X86_64 if wide => 2.0,
                Arch::Aarch64 => 1.0,
                _ => 8.0,
            };
            ops.add(Class::Convert, each * count.max(parts(of(*from), machine)));
        }
        Op::Cvt(Cvt::ToS | Cvt::ToU, _) => {
            ops.add(Class::Convert, if machine.arch == Arch::Aarch64 { 1.0 } else { 5.0 } * count)
        }
        Op::Cvt(_, from) => ops.add(Class::Convert, count.max(parts(of(*from), machine))),
        Op::Reduce(_, from) => {
            let steps = f64::from(of(*from).lanes.max(1).ilog2());
            ops.add(Class::Shuffle, steps);
            ops.add(Class::Arith, steps);
        }
        Op::Extract(..) if by_lane => {}
        Op::Extract(..) | Op::Insert(..) => ops.add(Class::Shuffle, 1.0),
        Op::Shuffle(..) => ops.add(Class::Shuffle, count),
        Op::Dot4 { .. } if riscv => {
            // One multiply-add per byte of a word; the right operand's are taken apart once for all rows.
            ops.add(Class::Fma, 4.0 * count);
            ops.add(Class::Arith, count);
        }
        Op::Dot4 { .. } => {
            ops.add(Class::Fma, count);
            if !machine.has_dot {
                // Widened, multiplied and added in pairs.
                ops.add(Class::Arith, 6.0 * count);
            }
        }
    }
}

/// Cycles until the result of an operation can be used.
pub(super) fn latency(op: &Op, ty: Type, machine: &Machine) -> f64 {
    match op {
        Op::Const(_) | Op::Extent(_) | Op::Cvt(Cvt::Bits, _) => 0.0,
        Op::Load(_) => 5.0,
        Op::LoadFirst(..) => {
            if machine.has_masks() {
                6.0
            } else {
                9.0
            }
        }
        Op::Fma(..) | Op::MulAdd(..) => 4.0,
        Op::Bin(BinOp::Div, ..) | Op::Un(UnOp::Sqrt, _) => 12.0,
        Op::Bin(BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU, ..) => 20.0,
        Op::Bin(BinOp::Add | BinOp::Sub | BinOp::Mul, ..) if ty.elem.is_float() => 4.0,
        Op::Bin(BinOp::Mul, ..) => 4.0,
        Op::Bin(BinOp::Min | BinOp::Max, ..) if ty.elem.is_float() && machine.arch == Arch::X86_64 => {
            if has_own_emitter(machine) { 6.0 } else { 12.0 }
        }
        Op::Bin(..) if ty.elem.is_float() => 2.0,
        Op::Bin(..) | Op::Un(..) | Op::Shift(..) | Op::Cmp(..) | Op::Select(..) => 1.0,
        Op::Cvt(Cvt::FromF16 | Cvt::ToF16 | Cvt::FromBf16 | Cvt::ToBf16, _) => 10.0,
        Op::Cvt(..) => 4.0,
        // Two or three steps of a move and an operation.
        Op::Reduce(..) => 12.0,
        Op::Splat(_) | Op::Extract(..) | Op::Insert(..) | Op::Shuffle(..) => 2.0,
        Op::Dot4 { .. } => 5.0,
    }
}
