//! Kernel IR to RISC-V machine code with vectors: RV64GCV of a promised register length.
//!
//! Instructions are selected in the kernel's order (`body.rs`), put in order for cores that start them so (`ahead.rs`, `schedule.rs`), registers given out by the shared allocator, what does not
//! fit goes to the frame, vector types and lengths are set where they change (`vtype.rs`), and an encoder of
//! our own makes words (`isa.rs`, `encode.rs`).
//!
//! A kernel value is a row of *parts*: vector registers with consecutive lanes. Lengths are always stated and never derived
//! from the machine's, so registers may be longer than promised; lanes past the end of a value hold anything. A register is
//! never used together with its neighbours: what widens takes the lower part of one. Scalars stay in general and
//! floating-point registers and go into vector instructions as they are (`vfmacc.vf`), so that a repeated scalar takes no
//! vector register. Masks are one bit per lane in any vector register; `v0`, which alone can select, is set right before.
//!
//! Rounding is that of `fcsr`, which the calling convention keeps at "nearest, ties to even"; misaligned elements are left
//! to the machine (Zicclsm). What has no code here is refused as [`CodegenError::Unsupported`], and the caller takes
//! Cranelift for the kernel.

mod ahead;
mod arith;
mod body;
mod code;
mod convert;
mod dot;
mod encode;
mod find;
mod inst;
pub mod isa;
mod lanes;
mod scalar;
mod schedule;
#[cfg(test)]
mod tests;
mod vtype;

use adze_ir::extent::Extent;
use cranelift_entity::SecondaryMap;

use super::KernelCode;
use super::alloc::{Info, Reg};
use super::registers::{self, Frame, Registers, Stats};
use crate::cpu::kernel::ir::Kernel;
use crate::cpu::machine::{Arch, CodegenError, Machine};
use inst::{Class, Inst};

/// What this emitter needs to know of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Bytes of a vector register, at least: 16, 32 or 64.
    pub vector_bytes: u32,
}

impl Cpu {
    /// The CPU of a machine; `None` where it has no such vectors.
    pub fn of(machine: &Machine) -> Option<Cpu> {
        let vectors = machine.arch == Arch::Riscv64 && machine.vector_bytes >= 16;
        vectors.then_some(Cpu { vector_bytes: machine.vector_bytes })
    }
}

/// General registers, those of the caller last; `ra`, `sp`, `gp`, `tp` are not ours, `t6` is the encoder's.
const GPRS: [u8; 26] =
    [5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27];
/// Floating-point registers, those of the caller last.
const FPRS: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    27,
];
/// All but `v0`, which selects lanes.
const VECTORS: [u8; 31] = {
    let mut all = [0; 31];
    let mut at = 0;
    while at < 31 {
        all[at] = at as u8 + 1;
        at += 1;
    }
    all
};

/// How far ahead vector loads start, as far as there are registers.
const AHEAD: [usize; 2] = [28, 12];

/// A kernel with virtual registers.
type Selected = registers::Selected<Inst>;

impl Registers for Cpu {
    type Inst = Inst;

    fn files(&self) -> Vec<&[u8]> {
        vec![&GPRS, &FPRS, &VECTORS]
    }

    fn slot_bytes(&self, class: usize) -> i32 {
        if class == Class::Vec as usize { self.vector_bytes as i32 } else { 8 }
    }

    fn transfer(&self, class: usize, reg: Reg, disp: i32, store: bool) -> Inst {
        let class = [Class::Gpr, Class::Fpr, Class::Vec][class];
        let words = if class == Class::Vec { (self.vector_bytes / 8) as u16 } else { 0 };
        Inst::Frame { reg, class, disp, words, store }
    }
}

/// Machine code of a verified kernel.
///
/// # Errors
/// [`CodegenError::Unsupported`] for what has no code here, [`CodegenError::Malformed`] for a kernel with undefined symbols.
pub fn compile(kernel: &Kernel, cpu: Cpu) -> Result<KernelCode, CodegenError> {
    compile_with_stats(kernel, cpu).map(|(code, _)| code)
}

/// [`compile`], and what it took.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_with_stats(kernel: &Kernel, cpu: Cpu) -> Result<(KernelCode, Stats), CodegenError> {
    let done = instructions(kernel, cpu)?;
    // Only a kernel of a megabyte has distances that do not fit.
    let bytes = encode::encode(&done.instructions, &done.pool).map_err(|op| unsupported(kernel, cpu, op))?;
    Ok((KernelCode { bytes, align: 64 }, done.stats))
}

/// A kernel's instructions, for tests and listings too.
#[derive(Clone, Debug)]
pub struct Listing {
    /// All of them, in order.
    pub instructions: Vec<isa::Instruction>,
    /// Constants behind them.
    pub pool: Vec<u8>,
    /// What it took.
    pub stats: Stats,
}

/// The instructions of a verified kernel.
///
/// # Errors
/// Those of [`compile`].
pub fn instructions(kernel: &Kernel, cpu: Cpu) -> Result<Listing, CodegenError> {
    let mut selected = body::select(kernel, cpu)?;
    ahead::load_ahead(&mut selected.code);
    let Some((selected, frame, regs)) = place(&selected, cpu) else {
        return Err(unsupported(kernel, cpu, "a value that fits no register".into()));
    };
    let Selected { code, labels, pool, .. } = selected;
    let code = vtype::set_types(code);
    let function = encode::Function { code: &code, regs: &regs, frame: frame.bytes().into(), pool: &pool };
    let instructions = encode::instructions(&function, labels);
    Ok(Listing { instructions, pool, stats: frame.stats })
}

/// A machine register for every virtual one, in the best order of instructions that keeps what hot loops use in registers.
fn place(selected: &Selected, cpu: Cpu) -> Option<(Selected, Frame, SecondaryMap<Reg, u8>)> {
    let mut best: Option<(Selected, Frame, SecondaryMap<Reg, u8>)> = None;
    for ahead in AHEAD.map(Some).into_iter().chain([None]) {
        let mut selected = Selected {
            code: selected.code.clone(),
            regs: selected.regs.clone(),
            labels: selected.labels,
            pool: selected.pool.clone(),
        };
        if let Some(ahead) = ahead {
            schedule::schedule(&mut selected.code, ahead);
        }
        let mut frame = Frame::new(0);
        let Some(regs) = frame.give_out(&cpu, &mut selected) else { continue };
        let spills = frame.stats.hot_spills;
        if best.as_ref().is_none_or(|(_, best, _)| spills < best.stats.hot_spills) {
            best = Some((selected, frame, regs));
        }
        if spills == 0 {
            break;
        }
    }
    best
}

fn unsupported(kernel: &Kernel, cpu: Cpu, op: String) -> CodegenError {
    let machine = format!("RVV of {} bits", 8 * cpu.vector_bytes);
    CodegenError::Unsupported { kernel: kernel.name.clone(), op, machine }
}

/// Whether a loop of known bounds has an iteration.
fn runs(lo: &Extent, hi: &Extent) -> Option<bool> {
    lo.as_const().zip(hi.as_const()).map(|(lo, hi)| lo < hi)
}

fn info(class: Class) -> Info {
    Info { class: class as usize, fixed: None, short: false }
}
