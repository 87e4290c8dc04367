//! Kernel IR to machine code.
//!
//! Every verified kernel has code on every machine through [`clif`] (128-bit vectors or scalars, by Cranelift). Some
//! machines have an emitter of their own ([`x86`]: AVX2 and AVX-512, [`a64`]: NEON), which allocates registers and
//! encodes; a kernel with something it has no code for goes through Cranelift as a whole.

pub mod a64;
mod address;
mod alloc;
pub mod clif;
mod registers;
mod uses;
pub mod x86;

pub use registers::Stats;

use cranelift_codegen::ir::{self as ir, Signature};

use super::kernel::ir::Kernel;
use super::machine::{CodegenError, Machine};

/// Machine code of one kernel: position-independent, complete, without relocations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelCode {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Alignment they need, in bytes.
    pub align: u32,
}

/// A function without parameters that has to run before other code of an object, if the machine needs one: callers may
/// leave the upper halves of vector registers in use, which slows mixed code down by orders of magnitude.
pub fn entry_code(machine: &Machine) -> Option<KernelCode> {
    // vzeroupper; ret
    x86::Cpu::of(machine).map(|_| KernelCode { bytes: vec![0xc5, 0xf8, 0x77, 0xc3], align: 16 })
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
        let own = x86::Cpu::of(&self.machine).map(|cpu| x86::compile(kernel, cpu));
        match own.or_else(|| a64::Cpu::of(&self.machine).map(|cpu| a64::compile(kernel, cpu))) {
            Some(Err(CodegenError::Unsupported { .. })) | None => self.clif.compile(kernel),
            Some(done) => done,
        }
    }

    /// The instructions that Cranelift makes of a verified kernel as text, with virtual labels; for reading only.
    ///
    /// # Errors
    /// Those of [`Emitter::compile`].
    pub fn asm(&mut self, kernel: &Kernel) -> Result<String, CodegenError> {
        self.clif.asm(kernel)
    }
}
