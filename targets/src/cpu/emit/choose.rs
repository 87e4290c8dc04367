//! Code that finds out which of several versions of a model this CPU runs: by `cpuid` on x86-64; on AArch64 by identification
//! registers, which Linux reads for user programs (`HWCAP_CPUID`) and bare metal has at hand.

use iced_x86::{Code, Encoder, Instruction, Register};

use super::KernelCode;
use crate::cpu::machine::{Arch, CodegenError, Machine};

/// Bits that `cpuid` shows for a leaf and sub-leaf: Intel SDM volume 2A, table 3-8.
type Bits = (u32, u32, Register, u32);

/// SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT.
const V2: &[Bits] = &[(1, 0, Register::ECX, 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23)];
/// FMA, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT.
const V3: &[Bits] = &[
    (1, 0, Register::ECX, 1 << 12 | 1 << 27 | 1 << 28 | 1 << 29),
    (7, 0, Register::EBX, 1 << 3 | 1 << 5 | 1 << 8),
    (0x8000_0001, 0, Register::ECX, 1 << 5),
];
/// AVX-512 F, DQ, BW, VL.
const V4: &[Bits] = &[(7, 0, Register::EBX, 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31)];
const AVX_VNNI: &[Bits] = &[(7, 1, Register::EAX, 1 << 4)];
const AVX512_VNNI: &[Bits] = &[(7, 0, Register::ECX, 1 << 11)];

/// What a version needs: bits of `cpuid`, and the register state that the system saves (bits of XCR0).
struct Needs {
    cpuid: &'static [&'static [Bits]],
    saved: u32,
}

/// SSE and AVX state.
const AVX_STATE: u32 = 0b110;
/// Also masks, upper halves and upper registers of AVX-512.
const AVX512_STATE: u32 = 0b1110_0110;

fn needs(machine: &Machine) -> Option<Needs> {
    let (cpuid, saved): (&[&[Bits]], u32) = match machine.name {
        "x86_64-v2" => (&[V2], 0),
        "x86_64-v3" => (&[V2, V3], AVX_STATE),
        "x86_64-v3-vnni" => (&[V2, V3, AVX_VNNI], AVX_STATE),
        "x86_64-v4" => (&[V2, V3, V4], AVX512_STATE),
        "x86_64-v4-vnni" => (&[V2, V3, V4, AVX512_VNNI], AVX512_STATE),
        _ => return None,
    };
    Some(Needs { cpuid, saved })
}

/// A field of four bits of an identification register, and the least value that will do: Arm ARM, D23.2.
struct Field {
    /// `mrs x0, <register>`.
    read: u32,
    bit: u32,
    least: u32,
}

const ISAR0: u32 = 0xd538_0600;
const ISAR1: u32 = 0xd538_0620;
const PFR0: u32 = 0xd538_0400;
/// Atomics (LSE), dot products, half precision.
const V8_2: &[Field] = &[
    Field { read: ISAR0, bit: 20, least: 2 },
    Field { read: ISAR0, bit: 44, least: 1 },
    Field { read: PFR0, bit: 16, least: 1 },
];
const I8MM: &[Field] = &[Field { read: ISAR1, bit: 52, least: 1 }];

fn fields(machine: &Machine) -> Option<&'static [&'static [Field]]> {
    match machine.name {
        "aarch64" => Some(&[]),
        "cortex-a55" | "cortex-a76" => Some(&[V8_2]),
        "neoverse-v1" => Some(&[V8_2, I8MM]),
        _ => None,
    }
}

/// A function `uint32_t choose(void)`: the last of the versions that this CPU runs counted from 1, or 0 when it runs none.
/// The versions come with the most demanding one last.
///
/// # Errors
/// [`CodegenError::Versions`] where no instruction tells a program what the CPU has, or two versions need the same.
pub fn code(versions: &[Machine]) -> Result<KernelCode, CodegenError> {
    let names: Vec<&str> = versions.iter().map(|machine| machine.name).collect();
    let refused =
        || CodegenError::Versions { found: names.join(", "), accepted: "x86-64 or AArch64 that differ".into() };
    if versions.windows(2).any(|pair| pair[0].features == pair[1].features && pair[0].arch == Arch::Aarch64) {
        return Err(refused());
    }
    let bytes = match versions.first().map(|machine| machine.arch) {
        Some(Arch::X86_64) => x86(versions).ok_or_else(refused)?,
        Some(Arch::Aarch64) => Ok(aarch64(versions).ok_or_else(refused)?),
        _ => return Err(refused()),
    };
    let bytes = bytes.map_err(|problem| CodegenError::Generator { function: "choose".into(), problem })?;
    Ok(KernelCode { bytes, align: 16 })
}

fn x86(versions: &[Machine]) -> Option<Result<Vec<u8>, String>> {
    let mut code = Assembly::default();
    code.push(Register::RBX);
    for (index, machine) in versions.iter().enumerate().rev() {
        let needs = needs(machine)?;
        let next = code.label();
        for &(leaf, sub_leaf, register, mask) in needs.cpuid.iter().copied().flatten() {
            // A leaf beyond the last one shows the bits of another.
            code.cpuid(leaf & 0x8000_0000, 0);
            code.compare(Register::EAX, leaf);
            code.branch(Code::Jb_rel32_64, next);
            code.cpuid(leaf, sub_leaf);
            code.all_of(register, mask, next);
        }
        if needs.saved != 0 {
            code.set(Register::ECX, 0);
            code.plain(Instruction::with(Code::Xgetbv));
            code.all_of(Register::EAX, needs.saved, next);
        }
        code.leave(index as u32 + 1);
        code.bind(next);
    }
    code.leave(0);
    Some(code.assemble())
}

fn aarch64(versions: &[Machine]) -> Option<Vec<u8>> {
    let leave = |result: u32| [0xd280_0000 | result << 5, 0xd65f_03c0];
    let mut words: Vec<u32> = Vec::new();
    for (index, machine) in versions.iter().enumerate().rev() {
        let fields: Vec<&Field> = fields(machine)?.iter().copied().flatten().collect();
        let count = fields.len() as u32;
        for (at, field) in (0..).zip(fields) {
            // To behind the two instructions that leave with this version.
            let skip = 4 * (count - 1 - at) + 3;
            words.extend([
                field.read,
                0xd340_0000 | field.bit << 16 | (field.bit + 3) << 10, // ubfx x0, x0, #bit, #4
                0xf100_001f | field.least << 10,                       // cmp x0, #least
                0x5400_0003 | skip << 5,                               // b.lo
            ]);
        }
        words.extend(leave(index as u32 + 1));
    }
    words.extend(leave(0));
    Some(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Instructions, and jumps to labels among them.
#[derive(Default)]
struct Assembly {
    code: Vec<(Instruction, Option<usize>)>,
    /// The instruction that a label stands before.
    labels: Vec<usize>,
}

impl Assembly {
    fn plain(&mut self, instruction: Instruction) {
        self.code.push((instruction, None));
    }

    fn push(&mut self, register: Register) {
        self.plain(Instruction::with1(Code::Push_r64, register).expect("a push of a register"));
    }

    fn set(&mut self, register: Register, value: u32) {
        self.plain(Instruction::with2(Code::Mov_r32_imm32, register, value).expect("a move to a register"));
    }

    fn compare(&mut self, register: Register, value: u32) {
        self.plain(Instruction::with2(Code::Cmp_rm32_imm32, register, value).expect("a comparison of a register"));
    }

    fn cpuid(&mut self, leaf: u32, sub_leaf: u32) {
        self.set(Register::EAX, leaf);
        self.set(Register::ECX, sub_leaf);
        self.plain(Instruction::with(Code::Cpuid));
    }

    /// Jumps when one of the bits is missing.
    fn all_of(&mut self, register: Register, mask: u32, missing: usize) {
        self.plain(Instruction::with2(Code::And_rm32_imm32, register, mask).expect("a mask of a register"));
        self.compare(register, mask);
        self.branch(Code::Jne_rel32_64, missing);
    }

    fn branch(&mut self, code: Code, label: usize) {
        self.code.push((Instruction::with_branch(code, 0).expect("a near jump"), Some(label)));
    }

    fn leave(&mut self, result: u32) {
        self.set(Register::EAX, result);
        self.plain(Instruction::with1(Code::Pop_r64, Register::RBX).expect("a pop to a register"));
        self.plain(Instruction::with(Code::Retnq));
    }

    fn label(&mut self) -> usize {
        self.labels.push(0);
        self.labels.len() - 1
    }

    fn bind(&mut self, label: usize) {
        self.labels[label] = self.code.len();
    }

    /// Twice: lengths do not depend on distances, so that the second time every target is known.
    fn assemble(mut self) -> Result<Vec<u8>, String> {
        let mut starts = vec![0u64; self.code.len() + 1];
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let mut encoder = Encoder::new(64);
            let mut at = 0;
            for (index, (instruction, label)) in self.code.iter_mut().enumerate() {
                starts[index] = at;
                if let Some(label) = label {
                    instruction.set_near_branch64(starts[self.labels[*label]]);
                }
                at += encoder.encode(instruction, at).map_err(|e| e.to_string())? as u64;
            }
            bytes = encoder.take_buffer();
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_machines_that_can_be_asked_are_chosen_between() {
        let versions =
            |names: &[&str]| -> Vec<Machine> { names.iter().map(|n| Machine::from_name(n).unwrap()).collect() };
        assert!(code(&versions(&["x86_64-v2", "x86_64-v3", "x86_64-v3-vnni", "x86_64-v4", "x86_64-v4-vnni"])).is_ok());
        assert!(code(&versions(&["aarch64", "cortex-a76", "neoverse-v1"])).is_ok());
        for names in [["riscv64gc", "riscv64gcv"], ["cortex-a55", "cortex-a76"]] {
            assert!(matches!(code(&versions(&names)), Err(CodegenError::Versions { .. })), "{names:?}");
        }
    }
}
