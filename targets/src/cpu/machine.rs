//! CPUs as data: instruction set, extensions, and what the emitters need to know of them.

use adze_ir::types::DType;
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Architecture, Triple};
use thiserror::Error;

use super::kernel::MAX_LANES;

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
    /// The CPU is none that code can be made for.
    #[error("CPU `{found}`, accepted: {accepted}")]
    Cpu {
        /// As given.
        found: String,
        /// The names there are.
        accepted: String,
    },
    /// Versions that a program cannot choose between.
    #[error(
        "versions for {found}: no instruction tells a program which of them the CPU runs, accepted: CPUs of {accepted}"
    )]
    Versions {
        /// The machines.
        found: String,
        /// Instruction sets whose CPUs can be asked.
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
    /// Whether four products of bytes are added to 32-bit lanes in one instruction.
    pub has_dot: bool,
    /// Whether there is such an instruction for unsigned by signed bytes too, on AArch64.
    pub has_mixed_dot: bool,
    /// Whether a load of a whole vector register keeps the core from starting anything else, so that halves are better
    /// beside arithmetic.
    pub narrow_loads: bool,
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
const ARM_V8_2: &[&str] = &["has_lse", "has_fp16", "has_dotprod"];
const ARM_I8MM: &[&str] = &["has_lse", "has_fp16", "has_dotprod", "has_i8mm"];
const RV64GC: &[&str] = &["has_m", "has_a", "has_f", "has_d", "has_zicsr", "has_zifencei", "has_zca", "has_zcd"];
/// Whatever longer registers a machine has, Cranelift's code is of 128 bits.
const RV64GCV: &[&str] =
    &["has_m", "has_a", "has_f", "has_d", "has_zicsr", "has_zifencei", "has_zca", "has_zcd", "has_v", "has_zvl128b"];

/// A row of the table of machines: name, triple, Cranelift's features, bytes of a vector register, vector registers, FMA,
/// dot products.
type Row = (&'static str, &'static str, &'static [&'static str], u32, u32, bool, bool);

const X86_LINUX: &str = "x86_64-unknown-linux-gnu";
const ARM_LINUX: &str = "aarch64-unknown-linux-gnu";
const RISCV_LINUX: &str = "riscv64gc-unknown-linux-gnu";

const MACHINES: &[Row] = &[
    ("x86_64-v2", X86_LINUX, X86_V2, 16, 16, false, false),
    ("x86_64-v3", X86_LINUX, X86_V3, 32, 16, true, false),
    ("x86_64-v3-vnni", X86_LINUX, X86_V3, 32, 16, true, true),
    // Wider code than 256 bits is none of Cranelift's.
    ("x86_64-v4", X86_LINUX, X86_V3, 64, 32, true, false),
    ("x86_64-v4-vnni", X86_LINUX, X86_V3, 64, 32, true, true),
    ("aarch64", ARM_LINUX, &[], 16, 32, true, false),
    ("cortex-a55", ARM_LINUX, ARM_V8_2, 16, 32, true, true),
    ("cortex-a76", ARM_LINUX, ARM_V8_2, 16, 32, true, true),
    ("neoverse-v1", ARM_LINUX, ARM_I8MM, 16, 32, true, true),
    ("riscv64gc", RISCV_LINUX, RV64GC, 0, 32, true, false),
    // The register that selects lanes holds no values.
    ("riscv64gcv", RISCV_LINUX, RV64GCV, 16, 31, true, false),
    ("riscv64gcv_zvl256b", RISCV_LINUX, RV64GCV, 32, 31, true, false),
    ("riscv64gcv_zvl512b", RISCV_LINUX, RV64GCV, 64, 31, true, false),
    ("c99", "unknown-unknown-unknown", &[], 0, 16, false, false),
    ("c99-simd", "unknown-unknown-unknown", &[], 32, 16, false, false),
];

/// Machines that load 64 bits a cycle and start nothing beside a load of 128: Cortex-A55, as Arm's own kernels for it in
/// ONNX Runtime (pull request 10754) and those of ncnn (developer guide, "A53/A55 dual issue") have it.
const NARROW_LOADS: &[&str] = &["cortex-a55"];

const ALIASES: &[(&str, &str)] = &[
    ("x86_64-linux", "x86_64-v3"),
    ("x86_64", "x86_64-v3"),
    ("aarch64-linux", "aarch64"),
    ("riscv64-linux", "riscv64gc"),
    ("riscv64", "riscv64gc"),
];

/// Names of CPUs as GCC and LLVM spell them (`-march`, `-mcpu`), and the machine whose code is for them.
const CPUS: &[(&str, &str)] = &[
    ("x86-64-v2", "x86_64-v2"),
    ("nehalem", "x86_64-v2"),
    ("westmere", "x86_64-v2"),
    ("sandybridge", "x86_64-v2"),
    ("silvermont", "x86_64-v2"),
    ("goldmont", "x86_64-v2"),
    ("tremont", "x86_64-v2"),
    ("x86-64-v3", "x86_64-v3"),
    ("haswell", "x86_64-v3"),
    ("broadwell", "x86_64-v3"),
    ("skylake", "x86_64-v3"),
    ("znver1", "x86_64-v3"),
    ("znver2", "x86_64-v3"),
    ("znver3", "x86_64-v3"),
    ("alderlake", "x86_64-v3-vnni"),
    ("gracemont", "x86_64-v3-vnni"),
    ("raptorlake", "x86_64-v3-vnni"),
    ("x86-64-v4", "x86_64-v4"),
    ("skylake-avx512", "x86_64-v4"),
    ("cascadelake", "x86_64-v4-vnni"),
    ("icelake-client", "x86_64-v4-vnni"),
    ("icelake-server", "x86_64-v4-vnni"),
    ("tigerlake", "x86_64-v4-vnni"),
    ("rocketlake", "x86_64-v4-vnni"),
    ("sapphirerapids", "x86_64-v4-vnni"),
    ("znver4", "x86_64-v4-vnni"),
    ("znver5", "x86_64-v4-vnni"),
    ("cortex-a53", "aarch64"),
    ("cortex-a57", "aarch64"),
    ("cortex-a72", "aarch64"),
    ("cortex-a75", "cortex-a76"),
    ("cortex-a77", "cortex-a76"),
    ("cortex-a78", "cortex-a76"),
    ("cortex-x1", "cortex-a76"),
    ("neoverse-n1", "cortex-a76"),
    ("cortex-a510", "neoverse-v1"),
    ("cortex-a710", "neoverse-v1"),
    ("cortex-x2", "neoverse-v1"),
    ("neoverse-n2", "neoverse-v1"),
    ("generic-rv64", "riscv64gc"),
    ("sifive-u74", "riscv64gc"),
    ("sifive-p670", "riscv64gcv"),
    ("xiangshan-kunminghu", "riscv64gcv"),
    ("spacemit-x60", "riscv64gcv_zvl256b"),
    ("tt-ascalon-d8", "riscv64gcv_zvl256b"),
    ("sifive-x280", "riscv64gcv_zvl512b"),
];

impl Machine {
    /// Lanes of the strips in which elements of that type are worked on one after another: two registers, so that one chain of
    /// operations waits while the other goes on.
    pub fn strip_lanes(&self, dtype: DType) -> u16 {
        let bits = 16 * self.vector_bytes.max(16);
        u16::try_from(bits / dtype.bits().max(8)).unwrap_or(1).min(MAX_LANES)
    }

    /// Whether an instruction reads or writes only the first lanes of a vector, of words at least.
    pub fn has_masks(&self) -> bool {
        match self.arch {
            Arch::X86_64 => self.vector_bytes > 16,
            Arch::Riscv64 => self.vector_bytes > 0,
            Arch::Aarch64 | Arch::C99 => false,
        }
    }

    /// Names that [`Machine::from_name`] accepts, without aliases.
    pub const NAMES: &'static [&'static str] = &[
        "x86_64-v2",
        "x86_64-v3",
        "x86_64-v3-vnni",
        "x86_64-v4",
        "x86_64-v4-vnni",
        "aarch64",
        "cortex-a55",
        "cortex-a76",
        "neoverse-v1",
        "riscv64gc",
        "riscv64gcv",
        "riscv64gcv_zvl256b",
        "riscv64gcv_zvl512b",
        "c99",
        "c99-simd",
    ];

    /// Looks a machine up by name or alias (`x86_64-linux`).
    ///
    /// # Errors
    /// [`CodegenError::Target`] for an unknown name.
    pub fn from_name(name: &str) -> Result<Machine, CodegenError> {
        let full = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, full)| full);
        let row = MACHINES.iter().find(|row| row.0 == full);
        let Some(&(name, triple, features, vector_bytes, vector_registers, has_fma, has_dot)) = row else {
            return Err(CodegenError::Target { found: name.into(), accepted: Self::NAMES.join(", ") });
        };
        let unknown =
            || CodegenError::Target { found: triple.into(), accepted: "a triple that Cranelift knows".into() };
        let triple: Triple = triple.parse().map_err(|_| unknown())?;
        let arch = match triple.architecture {
            Architecture::X86_64 => Arch::X86_64,
            Architecture::Aarch64(_) => Arch::Aarch64,
            Architecture::Riscv64(_) => Arch::Riscv64,
            Architecture::Unknown => Arch::C99,
            _ => return Err(unknown()),
        };
        let has_mixed_dot = features.contains(&"has_i8mm");
        Ok(Machine {
            name,
            arch,
            triple,
            features,
            vector_bytes,
            vector_registers,
            has_fma,
            has_dot,
            has_mixed_dot,
            narrow_loads: NARROW_LOADS.contains(&name),
        })
    }

    /// The machine for a CPU: `native`, a name as GCC and LLVM spell it (`cortex-a53`, `x86-64-v3`) or a machine's own.
    ///
    /// # Errors
    /// [`CodegenError::Cpu`] for an unknown name.
    pub fn from_cpu(cpu: &str) -> Result<Machine, CodegenError> {
        if cpu == "native"
            && let Some(host) = Self::host()
        {
            return Ok(host);
        }
        let name = CPUS.iter().find(|(known, _)| *known == cpu).map_or(cpu, |(_, name)| name);
        Self::from_name(name).map_err(|_| CodegenError::Cpu {
            found: cpu.into(),
            accepted: std::iter::once("native")
                .chain(Self::cpus())
                .chain(Self::NAMES.iter().copied())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The CPUs known by name.
    pub fn cpus() -> impl Iterator<Item = &'static str> {
        CPUS.iter().map(|(cpu, _)| *cpu)
    }

    /// The CPUs known by name that this machine's code is for.
    pub fn cpus_of(&self) -> impl Iterator<Item = &'static str> {
        let own = self.name;
        CPUS.iter().filter(move |(_, name)| *name == own).map(|(cpu, _)| *cpu)
    }

    /// How demanding it is among those of its instruction set.
    pub fn rank(&self) -> usize {
        Self::NAMES.iter().position(|name| *name == self.name).unwrap_or(0)
    }

    /// The machines whose code this computer runs, the best one last.
    pub fn runnable() -> Vec<Machine> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let v3 = has!("avx2") && has!("fma") && has!("bmi2") && has!("f16c");
            let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let rows = [
                ("x86_64-v2", has!("sse4.2")),
                ("x86_64-v3", v3),
                ("x86_64-v3-vnni", v3 && has!("avxvnni")),
                ("x86_64-v4", v4),
                ("x86_64-v4-vnni", v4 && has!("avx512vnni")),
            ];
            rows.iter().filter(|row| row.1).filter_map(|row| Machine::from_name(row.0).ok()).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            Vec::new()
        }
    }

    /// The machine this program runs on; `None` when it is none of ours.
    pub fn host() -> Option<Machine> {
        Self::runnable().pop()
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
