//! CPUs as data: instruction set, extensions, and what the emitters need to know of them.

use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::Triple;
use thiserror::Error;

/// What went wrong while making machine code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodegenError {
    /// The target is none that code can be made for.
    #[error("target `{found}`, accepted: {accepted}")]
    Target {
        /// As given.
        found: String,
        /// The names of [`Machine::NAMES`].
        accepted: String,
    },
    /// The machine has no code for an operation.
    #[error("kernel `{kernel}`: `{op}` has no code on {machine}")]
    Unsupported {
        /// The kernel.
        kernel: String,
        /// The operation.
        op: String,
        /// The machine.
        machine: String,
    },
    /// The kernel breaks an invariant of the kernel IR; a bug of whoever built it.
    #[error("kernel `{kernel}` is malformed: {problem}")]
    Malformed {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        problem: String,
    },
    /// The code generator refused; a bug of ours.
    #[error("code generator, in `{function}`: {problem}")]
    Generator {
        /// The function.
        function: String,
        /// What it said.
        problem: String,
    },
}

/// Instruction set of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// AArch64.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
    /// Source text for whatever a C compiler knows (see [`super::c99`]).
    C99,
}

/// A CPU that code is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Name among the targets, such as `x86_64-v3`.
    pub name: &'static str,
    /// Instruction set.
    pub arch: Arch,
    /// Target triple of objects.
    pub triple: Triple,
    /// Cranelift settings of the extensions it has.
    pub features: &'static [&'static str],
    /// Bytes of a vector register that the emitter uses; 0 without vectors.
    pub vector_bytes: u32,
    /// Vector registers (or floating-point registers without vectors).
    pub vector_registers: u32,
    /// Whether `a * b + c` is one instruction.
    pub has_fma: bool,
}

const X86_V2: &[&str] = &["has_cmpxchg16b", "has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];
const X86_V3: &[&str] = &[
    "has_cmpxchg16b",
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_avx",
    "has_avx2",
    "has_fma",
    "has_bmi1",
    "has_bmi2",
    "has_lzcnt",
];
const RV64GC: &[&str] = &["has_m", "has_a", "has_f", "has_d", "has_zicsr", "has_zifencei", "has_zca", "has_zcd"];
const RV64GCV: &[&str] =
    &["has_m", "has_a", "has_f", "has_d", "has_zicsr", "has_zifencei", "has_zca", "has_zcd", "has_v", "has_zvl128b"];

/// Rows of the table of machines: name, arch, operating system suffixes are accepted as aliases.
type Row = (&'static str, Arch, &'static str, &'static [&'static str], u32, u32, bool);

const MACHINES: &[Row] = &[
    ("x86_64-v2", Arch::X86_64, "x86_64-unknown-linux-gnu", X86_V2, 16, 16, false),
    ("x86_64-v3", Arch::X86_64, "x86_64-unknown-linux-gnu", X86_V3, 16, 16, true),
    ("aarch64", Arch::Aarch64, "aarch64-unknown-linux-gnu", &[], 16, 32, true),
    ("riscv64gc", Arch::Riscv64, "riscv64gc-unknown-linux-gnu", RV64GC, 0, 32, true),
    ("riscv64gcv", Arch::Riscv64, "riscv64gc-unknown-linux-gnu", RV64GCV, 16, 32, true),
    ("c99", Arch::C99, "unknown-unknown-unknown", &[], 0, 16, false),
    ("c99-simd", Arch::C99, "unknown-unknown-unknown", &[], 32, 16, false),
];

const ALIASES: &[(&str, &str)] = &[
    ("x86_64-linux", "x86_64-v3"),
    ("x86_64", "x86_64-v3"),
    ("aarch64-linux", "aarch64"),
    ("riscv64-linux", "riscv64gc"),
    ("riscv64", "riscv64gc"),
];

impl Machine {
    /// Names that [`Machine::from_name`] accepts, without aliases.
    pub const NAMES: &'static [&'static str] =
        &["x86_64-v2", "x86_64-v3", "aarch64", "riscv64gc", "riscv64gcv", "c99", "c99-simd"];

    /// Looks a machine up by name or alias (`x86_64-linux`).
    ///
    /// # Errors
    /// [`CodegenError::Target`] for an unknown name.
    pub fn from_name(name: &str) -> Result<Machine, CodegenError> {
        let full = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, full)| full);
        let row = MACHINES.iter().find(|row| row.0 == full);
        let Some(&(name, arch, triple, features, vector_bytes, vector_registers, has_fma)) = row else {
            return Err(CodegenError::Target { found: name.into(), accepted: Self::NAMES.join(", ") });
        };
        let triple = triple.parse().map_err(|_| CodegenError::Target {
            found: triple.into(),
            accepted: "a triple that Cranelift knows".into(),
        })?;
        Ok(Machine { name, arch, triple, features, vector_bytes, vector_registers, has_fma })
    }

    /// The machine this program runs on; `None` when it is none of ours.
    pub fn host() -> Option<Machine> {
        #[cfg(target_arch = "x86_64")]
        {
            let v3 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            let v2 = std::arch::is_x86_feature_detected!("sse4.2");
            let name = if v3 { "x86_64-v3" } else { "x86_64-v2" };
            (v2 || v3).then(|| Machine::from_name(name).ok()).flatten()
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            None
        }
    }

    /// What a package says it is for: the triple of objects, the language of source.
    pub fn target(&self) -> String {
        if self.arch == Arch::C99 { "c99".to_owned() } else { self.triple.to_string() }
    }

    /// Calling convention of kernels: the emitters know one per instruction set.
    pub fn kernel_call_conv(&self) -> CallConv {
        CallConv::SystemV
    }

    /// A code generator. `optimize`: for driver functions; kernels are scheduled by their author and compiled as they
    /// stand, because hoisted loads spill.
    ///
    /// # Errors
    /// [`CodegenError::Generator`] when Cranelift does not know a setting.
    pub fn isa(&self, optimize: bool) -> Result<OwnedTargetIsa, CodegenError> {
        let refused = |problem: String| CodegenError::Generator { function: self.name.into(), problem };
        let mut flags = settings::builder();
        let options = [
            ("opt_level", if optimize { "speed" } else { "none" }),
            ("is_pic", "false"),
            ("enable_probestack", "false"),
            ("unwind_info", "false"),
            ("preserve_frame_pointers", "false"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ];
        for (name, value) in options {
            flags.set(name, value).map_err(|e| refused(e.to_string()))?;
        }
        let mut builder = isa::lookup(self.triple.clone()).map_err(|e| refused(e.to_string()))?;
        for feature in self.features {
            builder.enable(feature).map_err(|e| refused(format!("{feature}: {e}")))?;
        }
        builder.finish(settings::Flags::new(flags)).map_err(|e| refused(e.to_string()))
    }
}
