//! Kernel IR to AArch64 machine code with 128-bit vectors (NEON; dot products of bytes where the CPU has them).
//!
//! Instructions are selected in the kernel's order (`body.rs`), those of straight lines moved apart for cores that start
//! them in order (`schedule.rs`), registers given out by the shared allocator, and words made by `code.rs`. A kernel value
//! is a row of *parts*: vector registers with consecutive lanes; scalars of integers are in general registers, those of
//! floats in the first lane of a vector register. Masks of vectors are vectors of ones and zeros, scalar masks 0 or 1 in a
//! general register. Lanes past the end of a value, and bits past the end of a scalar, hold anything.
//!
//! There is code for every operation; a function too large for one branch to cross is refused as
//! [`CodegenError::Unsupported`], and the caller takes Cranelift for the kernel.

mod arith;
mod body;
mod code;
mod convert;
mod encode;
mod inst;
mod lanes;
mod ops;
mod scalar;
mod schedule;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text;

use adze_ir::extent::Extent;

use super::KernelCode;
use super::alloc::{Info, Reg};
use super::registers::{self, Frame, Registers, Stats};
use crate::cpu::kernel::first;
use crate::cpu::kernel::ir::Kernel;
use crate::cpu::machine::{Arch, CodegenError, Machine};
use inst::{Class, Inst};

/// What this emitter needs to know of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Whether it has `sdot`.
    pub dot: bool,
    /// Whether it has `usdot` too.
    pub mixed_dot: bool,
    /// Whether a load of a whole vector keeps the core from starting anything else.
    pub narrow_loads: bool,
}

impl Cpu {
    /// The CPU of a machine; `None` for another instruction set.
    pub fn of(machine: &Machine) -> Option<Cpu> {
        let own = machine.arch == Arch::Aarch64;
        own.then_some(Cpu {
            dot: machine.has_dot,
            mixed_dot: machine.has_mixed_dot,
            narrow_loads: machine.narrow_loads,
        })
    }
}

/// General registers, those of the caller last. `x18` is the platform's, `x29` a frame pointer, `x30` where to return to.
const GPRS: [u8; 28] =
    [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 0, 1, 2, 3, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28];
/// Of the last eight the lower halves are the caller's.
const VECTORS: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12, 13, 14,
    15,
];

/// Bytes of a vector register.
const VECTOR_BYTES: u32 = 16;
/// Bytes of code and constants up to which both are certain to be in reach of conditional branches and reads of constants, a
/// mebibyte: loops are aligned, which adds to them.
const REACH: usize = 700 << 10;

/// A kernel with virtual registers.
type Selected = registers::Selected<Inst>;

impl Registers for Cpu {
    type Inst = Inst;

    fn files(&self) -> Vec<&[u8]> {
        vec![&GPRS, &VECTORS]
    }

    fn slot_bytes(&self, _class: usize) -> i32 {
        // Whole registers need whole multiples of their size to be in reach.
        VECTOR_BYTES as i32
    }

    fn transfer(&self, class: usize, reg: Reg, disp: i32, store: bool) -> Inst {
        let class = if class == Class::Gpr as usize { Class::Gpr } else { Class::Vec };
        Inst::Frame { reg, class, disp, store }
    }
}

/// Machine code of a verified kernel.
///
/// # Errors
/// [`CodegenError::Unsupported`] for what has no code here, [`CodegenError::Malformed`] for a kernel with undefined symbols,
/// [`CodegenError::Generator`] when the encoder refuses.
pub fn compile(kernel: &Kernel, cpu: Cpu) -> Result<KernelCode, CodegenError> {
    compile_with_stats(kernel, cpu).map(|(code, _)| code)
}

/// [`compile`], and what it took.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_with_stats(kernel: &Kernel, cpu: Cpu) -> Result<(KernelCode, Stats), CodegenError> {
    let unsupported =
        |op: &str| CodegenError::Unsupported { kernel: kernel.name.clone(), op: op.into(), machine: "AArch64".into() };
    let whole = first::split(kernel, |_, _| false);
    let mut selected = body::select(&whole, cpu)?;
    if cpu.narrow_loads {
        schedule::split_loads(&mut selected);
    }
    let in_order = Selected { code: selected.code.clone(), regs: selected.regs.clone(), pool: Vec::new(), ..selected };
    schedule::schedule(&mut selected);
    if !cpu.narrow_loads {
        schedule::pair_accesses(&mut selected);
    }
    let placed = |selected: &mut Selected| {
        let mut frame = Frame::new(0);
        frame.give_out(&cpu, selected).map(|regs| (frame, regs))
    };
    let mut found = placed(&mut selected);
    // Instructions apart need more registers: too many where a hot loop has to use the frame.
    if found.as_ref().is_none_or(|(frame, _)| frame.stats.hot_spills > 0) {
        let mut original = Selected { pool: selected.pool.clone(), ..in_order };
        let other = placed(&mut original);
        let hot = |found: &Option<(Frame, _)>| found.as_ref().map_or(usize::MAX, |(frame, _)| frame.stats.hot_spills);
        if hot(&other) < hot(&found) {
            (selected, found) = (original, other);
        }
    }
    let (frame, regs) = found.ok_or_else(|| unsupported("a value that fits no register"))?;
    if 4 * selected.code.len() + selected.pool.len() > REACH {
        return Err(unsupported("so much straight code"));
    }
    let function = encode::Function { code: &selected.code, regs: &regs, frame: frame.bytes(), pool: &selected.pool };
    let bytes = encode::encode(&function, selected.labels)
        .map_err(|problem| CodegenError::Generator { function: kernel.name.clone(), problem })?;
    Ok((KernelCode { bytes, align: 64 }, frame.stats))
}

/// Whether a loop of known bounds has an iteration.
fn runs(lo: &Extent, hi: &Extent) -> Option<bool> {
    lo.as_const().zip(hi.as_const()).map(|(lo, hi)| lo < hi)
}

fn info(class: Class) -> Info {
    Info { class: class as usize, fixed: None, short: false }
}
