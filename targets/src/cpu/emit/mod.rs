//! Kernel IR to machine code.
//!
//! Every verified kernel has code on every machine through [`clif`] (128-bit vectors or scalars, by Cranelift). Some
//! machines have an emitter of their own ([`x86`]: AVX2 and AVX-512, [`a64`]: NEON, [`rvv`]: vectors of RISC-V), which
//! allocates registers and encodes; a kernel with something it has no code for goes through Cranelift as a whole.

pub mod a64;
mod address;
mod alloc;
pub mod choose;
pub mod clif;
#[cfg(test)]
mod disassemble;
mod registers;
pub mod rvv;
mod uses;
pub mod x86;

pub use registers::Stats;

use cranelift_codegen::ir::{self as ir, Signature};

use super::kernel::ir::Kernel;
use super::machine::{Arch, CodegenError, Machine};

/// Machine code of one kernel: position-independent, complete, without relocations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelCode {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Alignment they need, in bytes.
    pub align: u32,
}

/// What has to run around other code of an object.
#[derive(Clone, Debug)]
pub struct Around {
    /// `uint64_t enter(void)`: what it returns goes to `leave`.
    pub enter: KernelCode,
    /// `void leave(uint64_t)`.
    pub leave: KernelCode,
}

/// The code around that of a machine, if it needs any. Callers may leave the upper halves of vector registers in use, which
/// slows mixed code down by orders of magnitude. `flush`: subnormal numbers are taken for zeros and results below the
/// normal ones become zeros, where the machine can do so; x86 takes over a hundred cycles for each otherwise.
pub fn around(machine: &Machine, flush: bool) -> Option<Around> {
    let flush = flush && can_flush(machine);
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let (enter, leave) = match machine.arch {
        Arch::X86_64 => {
            let vzeroupper: &[u8] = if x86::Cpu::of(machine).is_some() { &[0xc5, 0xf8, 0x77] } else { &[] };
            if flush {
                // sub rsp, 8; stmxcsr [rsp]; mov eax, [rsp]; mov ecx, eax; or ecx, FTZ | DAZ; mov [rsp], ecx;
                // ldmxcsr [rsp]; add rsp, 8; ret
                let set = [
                    0x48, 0x83, 0xec, 0x08, 0x0f, 0xae, 0x1c, 0x24, 0x8b, 0x04, 0x24, 0x89, 0xc1, 0x81, 0xc9, 0x40,
                    0x80, 0x00, 0x00, 0x89, 0x0c, 0x24, 0x0f, 0xae, 0x14, 0x24, 0x48, 0x83, 0xc4, 0x08, 0xc3,
                ];
                // push rdi; ldmxcsr [rsp]; pop rdi; ret
                ([vzeroupper, &set].concat(), vec![0x57, 0x0f, 0xae, 0x14, 0x24, 0x5f, 0xc3])
            } else if vzeroupper.is_empty() {
                return None;
            } else {
                ([vzeroupper, &[0xc3]].concat(), vec![0xc3])
            }
        }
        // mrs x0, fpcr; orr x1, x0, FZ; msr fpcr, x1; ret; and msr fpcr, x0; ret
        Arch::Aarch64 if flush => {
            (words(&[0xd53b_4400, 0xb268_0001, 0xd51b_4401, 0xd65f_03c0]), words(&[0xd51b_4400, 0xd65f_03c0]))
        }
        _ => return None,
    };
    let code = |bytes| KernelCode { bytes, align: 16 };
    Some(Around { enter: code(enter), leave: code(leave) })
}

/// Whether a machine can take subnormal numbers for zeros.
pub fn can_flush(machine: &Machine) -> bool {
    matches!(machine.arch, Arch::X86_64 | Arch::Aarch64)
}

/// The error of an emitter that knows whole vectors only and was given some lanes of one.
fn unsplit(kernel: &Kernel) -> CodegenError {
    let problem = "some lanes of a vector, which are split before".into();
    CodegenError::Malformed { kernel: kernel.name.clone(), problem }
}

/// Emits kernels for one machine.
pub struct Emitter {
    machine: Machine,
    clif: clif::Emitter,
}

impl Emitter {
    /// An emitter for that machine.
    ///
    /// # Errors
    /// Those of [`Machine::isa`].
    pub fn new(machine: &Machine) -> Result<Self, CodegenError> {
        Ok(Self { machine: machine.clone(), clif: clif::Emitter::new(machine)? })
    }

    /// Signature of kernels: `fn(ptrs, dims, lo, hi) -> status`.
    pub fn signature(machine: &Machine) -> Signature {
        clif::Emitter::signature(machine)
    }

    /// The CLIF of a kernel, whatever else could emit it.
    ///
    /// # Errors
    /// [`CodegenError::Unsupported`] or [`CodegenError::Malformed`].
    pub fn clif(&mut self, kernel: &Kernel) -> Result<ir::Function, CodegenError> {
        self.clif.clif(kernel)
    }

    /// Machine code of a verified kernel.
    ///
    /// # Errors
    /// [`CodegenError`]; [`CodegenError::Generator`] when an encoder refuses or Cranelift wants to call a library.
    pub fn compile(&mut self, kernel: &Kernel) -> Result<KernelCode, CodegenError> {
        match Self::own(&self.machine, kernel) {
            Some(Err(CodegenError::Unsupported { .. })) | None => self.clif.compile(kernel),
            Some(done) => done,
        }
    }

    /// Machine code by the machine's own emitter, where it has one.
    fn own(machine: &Machine, kernel: &Kernel) -> Option<Result<KernelCode, CodegenError>> {
        let x86 = || x86::Cpu::of(machine).map(|cpu| x86::compile(kernel, cpu));
        let a64 = || a64::Cpu::of(machine).map(|cpu| a64::compile(kernel, cpu));
        rvv::Cpu::of(machine).map(|cpu| rvv::compile(kernel, cpu)).or_else(x86).or_else(a64)
    }

    /// The instructions that Cranelift makes of a verified kernel as text, with virtual labels; for reading only.
    ///
    /// # Errors
    /// Those of [`Emitter::compile`].
    pub fn asm(&mut self, kernel: &Kernel) -> Result<String, CodegenError> {
        self.clif.asm(kernel)
    }
}
