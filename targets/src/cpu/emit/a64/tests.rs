//! Words against LLVM's disassembler.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::super::disassemble::{Reader, disassembler};
use super::code::{Code, reaches};
use super::ops::{Arr, ByLane, Cond, Size, V2, V3, VShift, X3};
use super::text::Listed;

/// An instruction of any kind with any registers; some have no word.
fn any_code() -> impl Strategy<Value = Code> {
    let arr = prop::sample::select(&Arr::ALL[..]);
    let size = prop::sample::select(&[Size::B, Size::H, Size::S, Size::D, Size::Q][..]);
    let cond = prop::sample::select(&Cond::ALL[..]);
    let disp =
        prop_oneof![-256..256i32, 0..4096i32, (0..4096i32).prop_map(|d| 16 * d), (-64..64i32).prop_map(|d| 16 * d)];
    let flag = any::<bool>();
    let first = prop_oneof![
        (prop::sample::select(V3::ALL), arr.clone()).prop_map(|(op, arr)| Code::V3(op, arr)),
        (prop::sample::select(V2::ALL), arr.clone()).prop_map(|(op, arr)| Code::V2(op, arr)),
        (prop::sample::select(&VShift::ALL[..]), arr.clone(), 0..65u8)
            .prop_map(|(op, arr, by)| Code::Shift(op, arr, by)),
        (prop::sample::select(&ByLane::ALL[..]), arr.clone(), 0..5u8)
            .prop_map(|(op, arr, at)| Code::ByLane(op, arr, at)),
        (arr.clone(), 0..17u8).prop_map(|(arr, at)| Code::Dup(arr, at)),
        arr.clone().prop_map(Code::DupX),
        (size.clone(), 0..17u8).prop_map(|(size, at)| Code::Lane(size, at)),
        (size.clone(), 0..17u8, 0..17u8).prop_map(|(size, to, from)| Code::Ins(size, to, from)),
        (size.clone(), 0..17u8).prop_map(|(size, at)| Code::InsX(size, at)),
        (size.clone(), 0..17u8).prop_map(|(size, at)| Code::Umov(size, at)),
        (0..17u8).prop_map(Code::Ext),
        prop::sample::select(&[Code::Tbl, Code::Tbx, Code::Zero, Code::Msub, Code::Cmp][..]),
        any::<u8>().prop_map(Code::Movi),
        flag.prop_map(Code::Fcmp),
        (flag, cond.clone()).prop_map(|(double, cond)| Code::Fcsel(double, cond)),
        (flag, flag, flag).prop_map(|(signed, double, wide)| Code::ToInt { signed, double, wide }),
        (flag, flag).prop_map(|(signed, double)| Code::FromInt { signed, double }),
        flag.prop_map(Code::ToX),
        flag.prop_map(Code::FromX),
    ];
    let second = prop_oneof![
        prop::sample::select(&X3::ALL[..]).prop_map(Code::X3),
        (0..4097u16, flag).prop_map(|(by, high)| Code::AddImm(by, high)),
        (0..4097u16, flag).prop_map(|(by, high)| Code::SubImm(by, high)),
        (0..4097u16).prop_map(Code::CmpImm),
        (0..4097u16).prop_map(Code::CmnImm),
        (0..65u8).prop_map(Code::LslImm),
        (0..65u8).prop_map(Code::LsrImm),
        (0..65u8).prop_map(Code::AsrImm),
        (0..65u8).prop_map(Code::Sbfx),
        (0..65u8).prop_map(Code::Ubfx),
        (any::<u16>(), 0..5u8).prop_map(|(imm, at)| Code::Movz(imm, at)),
        (any::<u16>(), 0..5u8).prop_map(|(imm, at)| Code::Movn(imm, at)),
        (any::<u16>(), 0..5u8).prop_map(|(imm, at)| Code::Movk(imm, at)),
        cond.clone().prop_map(Code::Csel),
        cond.prop_map(Code::Cset),
        (size.clone(), disp.clone()).prop_map(|(size, disp)| Code::LoadV(size, disp)),
        (size.clone(), disp.clone()).prop_map(|(size, disp)| Code::StoreV(size, disp)),
        (size.clone(), disp.clone()).prop_map(|(size, disp)| Code::LoadX(size, disp)),
        (size.clone(), disp.clone()).prop_map(|(size, disp)| Code::StoreX(size, disp)),
        disp.clone().prop_map(Code::LoadPair),
        disp.clone().prop_map(Code::StorePair),
        arr.prop_map(Code::LoadDup),
        (size, -0x4_0010..0x4_0010i32).prop_map(|(size, far)| Code::Literal(size, 4 * far)),
        disp.prop_map(Code::Prefetch),
    ];
    prop_oneof![first, second]
}

/// Instructions with registers that their text can spell.
fn any_instruction() -> impl Strategy<Value = (Code, Vec<u8>)> {
    (any_code(), prop::collection::vec(0..31u8, 4), any::<bool>()).prop_map(|(code, mut regs, high)| {
        regs.truncate(code.roles().len());
        for (at, reg) in regs.iter_mut().enumerate() {
            // The last vector register is used as well; of the general ones that is the stack pointer or zero.
            *reg += u8::from(high && !code.is_general(at));
        }
        // Reading a pair into one register is not an instruction.
        if matches!(code, Code::LoadPair(_)) && regs[0] == regs[1] {
            regs[1] = (regs[0] + 1) % 31;
        }
        (code, regs)
    })
}

const READER: Reader = Reader {
    options: &["--triple=aarch64", "--mattr=+v8.6a,+i8mm,+dotprod,+fullfp16"],
    comment: "//",
    between: (0xd503_201f, "nop"),
};

/// Random instructions that have words, always the same ones.
fn instructions(count: usize) -> Vec<(u32, String)> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = any_instruction();
    let all = (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current());
    all.filter_map(|(code, regs)| Some((code.word(&regs).ok()?, Listed(code, &regs).to_string()))).collect()
}

proptest! {
    /// Numbers that instructions put into a register.
    #[test]
    fn numbers_are_set(number in prop_oneof![any::<i64>(), -70_000..70_000i64, (0..64u32).prop_map(|at| 1 << at)]) {
        let mut regs = cranelift_entity::PrimaryMap::new();
        let to = regs.push(super::info(super::inst::Class::Gpr));
        let mut found = 0u64;
        for inst in super::scalar::number_insts(to, number) {
            let super::inst::Inst::Op(code, _) = inst else { unreachable!() };
            found = match code {
                Code::Movz(imm, at) => u64::from(imm) << (16 * u32::from(at)),
                Code::Movn(imm, at) => !(u64::from(imm) << (16 * u32::from(at))),
                Code::Movk(imm, at) => {
                    let shift = 16 * u32::from(at);
                    found & !(0xffff << shift) | u64::from(imm) << shift
                }
                code => panic!("{code:?}"),
            };
        }
        prop_assert_eq!(found as i64, number);
    }

    /// Accesses that are too far away are near to another register, which is as far away as they were.
    #[test]
    fn accesses_come_into_reach(
        disp in prop_oneof![-300..300i32, -10_000..80_000i32, any::<i32>().prop_map(|d| d / 2)],
        bytes in prop::sample::select(&[1u32, 2, 4, 8, 16][..]),
    ) {
        let size = Size::of_bytes(bytes);
        let (near, insts) = super::body::reached(disp, size);
        prop_assert!(reaches(near, size), "{near}");
        let mut added = 0i64;
        for code in insts {
            added += match code {
                Code::AddImm(by, high) => i64::from(by) << if high { 12 } else { 0 },
                Code::SubImm(by, high) => -(i64::from(by) << if high { 12 } else { 0 }),
                // Far away: from a number, which the test above is about.
                _ => return Ok(()),
            };
        }
        prop_assert_eq!(added + i64::from(near), i64::from(disp));
    }
}

fn name(text: &str) -> &str {
    text.split(' ').next().unwrap_or("")
}

#[test]
fn llvm_reads_what_was_written() {
    let Some(program) = disassembler() else { return };
    let known = instructions(20_000);
    assert!(known.len() > 10_000, "{} have words", known.len());
    let words: Vec<u32> = known.iter().map(|k| k.0).collect();
    let found = READER.read(program, &words);
    let pairs = known.iter().zip(&found).filter(|((_, wanted), found)| wanted != *found);
    let different: BTreeMap<&str, String> = pairs
        .map(|((word, wanted), found)| (name(wanted), format!("{word:#010x}: `{wanted}`, read as `{found}`")))
        .collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(known.len(), found.len());
}

/// Two instructions of every name, for where there is no LLVM; the list was accepted with the test above.
#[test]
fn words_stay_what_they_are() {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (word, text) in instructions(20_000) {
        let lines = seen.entry(name(&text).to_owned()).or_default();
        if lines.len() < 2 {
            lines.push(format!("{word:08x}  {text}"));
        }
    }
    let words = seen.into_values().flatten().collect::<Vec<_>>().join("\n");
    insta::with_settings!({ prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("words", words);
    });
}
