//! Words against LLVM's disassembler.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use super::super::disassemble::{Reader, disassembler};
use super::isa::{Code, Field, Instruction, ROUND_DYNAMIC, ROUND_TO_ZERO, vtype};

/// An immediate of that field, bounds more often than others.
fn immediate(rng: &mut fastrand::Rng, field: Field) -> Option<i64> {
    let mut of = |lo: i64, hi: i64| match rng.u8(..4) {
        0 => lo,
        1 => hi,
        _ => rng.i64(lo..=hi),
    };
    Some(match field {
        Field::Imm12 | Field::Mem | Field::MemStore => of(-2048, 2047),
        Field::Shift6 => of(0, 63),
        Field::Branch => 2 * of(-2048, 2047),
        Field::Jump => 2 * of(-(1 << 19), (1 << 19) - 1),
        Field::Upper => of(0, (1 << 20) - 1),
        Field::Signed5 => of(-16, 15),
        Field::Unsigned5 => of(0, 31),
        Field::Rounding => [ROUND_TO_ZERO, ROUND_DYNAMIC][of(0, 1) as usize],
        Field::Vtype => vtype(1 << of(0, 3), of(0, 3) as u8),
        Field::LanesVtype => of(0, 31) << 16 | vtype(1 << of(0, 3), of(0, 3) as u8),
        Field::Reg(..) | Field::Addr | Field::V0 => return None,
    })
}

/// So many instructions of every kind, with any registers and immediates; always the same ones.
fn instructions(of_each: usize) -> Vec<Instruction> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = Vec::new();
    for code in Code::ALL.iter().copied().flat_map(|code| std::iter::repeat_n(code, of_each)) {
        let has_reg = |f: &&Field| matches!(f, Field::Reg(..) | Field::Mem | Field::MemStore | Field::Addr);
        let regs = code.fields().iter().filter(has_reg).map(|_| rng.u8(..32)).collect();
        let imm = code.fields().iter().find_map(|field| immediate(&mut rng, *field)).unwrap_or(0);
        all.push(Instruction { code, regs, imm });
    }
    all
}

const READER: Reader = Reader {
    options: &["--triple=riscv64", "--mattr=+m,+a,+f,+d,+v", "-M", "no-aliases", "-M", "numeric"],
    comment: "#",
    between: (0x13, "addi x0, x0, 0"),
};

#[test]
fn llvm_reads_what_was_written() {
    let Some(program) = disassembler() else { return };
    let all = instructions(60);
    let words: Vec<u32> = all.iter().map(|i| i.encode().unwrap()).collect();
    let found = READER.read(program, &words);
    let mut different = BTreeMap::new();
    for ((instruction, word), found) in all.iter().zip(&words).zip(&found) {
        let wanted = instruction.to_string();
        if wanted != *found {
            different.insert(instruction.code.name(), format!("{word:#010x}: `{wanted}`, read as `{found}`"));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(all.len(), found.len());
}

/// Two instructions of every kind, for where there is no LLVM; the list was accepted with the test above.
#[test]
fn words_stay_what_they_are() {
    let line = |i: &Instruction| format!("{:08x}  {i}", i.encode().unwrap());
    let words: Vec<String> = instructions(2).iter().map(line).collect();
    insta::with_settings!({ prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("words", words.join("\n"));
    });
}

#[test]
fn what_does_not_fit_is_no_word() {
    let of = |code, regs: &[u8], imm| Instruction { code, regs: regs.to_vec(), imm }.encode();
    assert_eq!(of(Code::Addi, &[1, 2], 2047), Ok(0x7ff1_0093));
    for (code, regs, imm) in [
        (Code::Addi, &[1, 2][..], 2048),
        (Code::Addi, &[1, 2], -2049),
        (Code::Addi, &[1, 32], 0),
        (Code::Addi, &[1], 0),
        (Code::Addi, &[1, 2, 3], 0),
        (Code::Beq, &[1, 2], 4096),
        (Code::Beq, &[1, 2], 3),
        (Code::Jal, &[0], 1 << 20),
        (Code::VaddVi, &[1, 2], 16),
        (Code::VsllVi, &[1, 2], -1),
        (Code::Vsetivli, &[0], 32 << 16),
    ] {
        assert!(of(code, regs, imm).is_err(), "{code:?} {regs:?} {imm}");
    }
}
