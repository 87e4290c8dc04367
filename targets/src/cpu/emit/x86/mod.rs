//! Kernel IR to x86-64 machine code with 256-bit (AVX2, FMA) or 512-bit (AVX-512 F, BW, DQ, VL) vectors.
//!
//! Instructions are selected in the kernel's order (`body.rs`), registers given out by the shared allocator, what does
//! not fit goes to the frame (`spill.rs`), and `iced-x86` encodes. A kernel value is a row of *parts*: vector registers
//! with consecutive lanes; scalars of integers are in general registers, those of floats in the first lane of a vector
//! register. Masks of vectors are mask registers with AVX-512 and vectors of ones and zeros without; scalar masks are 0 or
//! 1 in a general register. Lanes past the end of a value hold anything.
//!
//! What has no code here is refused as [`CodegenError::Unsupported`], and the caller takes Cranelift for the kernel.

mod arith;
mod body;
mod convert;
mod encode;
mod first;
mod inst;
mod lanes;
mod scalar;
mod table;

use adze_ir::extent::Extent;
use iced_x86::Code;

use super::KernelCode;
use super::alloc::{Info, Reg};
use super::registers::{self, Frame, Registers, Stats};
use crate::cpu::kernel::ir::Kernel;
use crate::cpu::kernel::{first as some, types::Type};
use crate::cpu::machine::{Arch, CodegenError, Machine};
use inst::{Base, Class, Inst, Mem, Op, Operand, Width};

/// What this emitter needs to know of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Whether it has AVX-512 (F, BW, DQ, VL): 32 registers of 512 bits, masks, operands broadcast from memory.
    pub evex: bool,
    /// Whether it has `vpdpbusd` in the encoding in use.
    pub dot: bool,
}

impl Cpu {
    /// The CPU of a machine; `None` where it has no wide vectors.
    pub fn of(machine: &Machine) -> Option<Cpu> {
        let wide = machine.arch == Arch::X86_64 && machine.vector_bytes > 16;
        wide.then_some(Cpu { evex: machine.vector_bytes == 64, dot: machine.has_dot })
    }

    /// Bytes of a vector register.
    fn vector_bytes(self) -> u32 {
        if self.evex { 64 } else { 32 }
    }
}

/// General registers, those of the caller last; `rsp` is the frame's.
const GPRS: [u8; 15] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 5, 12, 13, 14, 15];
const VECTORS: [u8; 32] = {
    let mut all = [0; 32];
    let mut at = 0;
    while at < 32 {
        all[at] = at as u8;
        at += 1;
    }
    all
};
/// `k0` cannot select lanes.
const MASKS: [u8; 7] = [1, 2, 3, 4, 5, 6, 7];

/// A kernel with virtual registers.
type Selected = registers::Selected<Inst>;

impl Registers for Cpu {
    type Inst = Inst;

    fn files(&self) -> Vec<&[u8]> {
        vec![&GPRS, if self.evex { &VECTORS } else { &VECTORS[..16] }, &MASKS]
    }

    fn slot_bytes(&self, class: usize) -> i32 {
        if class == Class::Vec as usize { self.vector_bytes() as i32 } else { 8 }
    }

    fn transfer(&self, class: usize, reg: Reg, disp: i32, store: bool) -> Inst {
        let mem = Operand::Mem(Mem { base: Base::Frame, disp, broadcast: false });
        let (load_code, store_code, width) = if class == Class::Gpr as usize {
            (Code::Mov_r64_rm64, Code::Mov_rm64_r64, Width::B8)
        } else if class == Class::Mask as usize {
            (Code::VEX_Kmovq_kr_km64, Code::VEX_Kmovq_m64_kr, Width::K)
        } else if self.evex {
            (table::MOVUPS.evex[2], table::MOVUPS_STORE.evex[2], Width::Z)
        } else {
            (table::MOVUPS.vex[1], table::MOVUPS_STORE.vex[1], Width::Y)
        };
        let reg = Operand::Reg(reg, width);
        let (code, operands) = if store { (store_code, vec![mem, reg]) } else { (load_code, vec![reg, mem]) };
        Inst::Op(Op { code, operands, writes: !store, reads: false, mask: None })
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
    let failed = |problem: String| CodegenError::Generator { function: kernel.name.clone(), problem };
    // AVX2 has instructions for words, but its stores of some lanes are slow on many CPUs.
    let native = |ty: Type, store: bool| ty.bits() >= 128 && (cpu.evex || (!store && ty.elem.bits() >= 32));
    let split = some::split(kernel, native);
    let mut selected = body::select(&split, cpu)?;
    let divides = selected.code.iter().any(|(inst, _)| matches!(inst, Inst::Div { .. }));
    let mut frame = Frame::new(if divides { encode::DIV_BYTES } else { 0 });
    let Some(regs) = frame.give_out(&cpu, &mut selected) else {
        return Err(CodegenError::Unsupported {
            kernel: kernel.name.clone(),
            op: "a value that fits no register".into(),
            machine: if cpu.evex { "AVX-512" } else { "AVX2" }.into(),
        });
    };
    let function = encode::Function { code: &selected.code, regs: &regs, frame: frame.bytes(), pool: &selected.pool };
    let bytes = encode::encode(&function, selected.labels).map_err(failed)?;
    Ok((KernelCode { bytes, align: 64 }, frame.stats))
}

/// Whether a loop of known bounds has an iteration.
fn runs(lo: &Extent, hi: &Extent) -> Option<bool> {
    lo.as_const().zip(hi.as_const()).map(|(lo, hi)| lo < hi)
}

fn info(class: Class) -> Info {
    Info { class: class as usize, fixed: None, short: false }
}
