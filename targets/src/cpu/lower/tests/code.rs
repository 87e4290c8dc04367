//! What the inner loops of sums of products look like as x86-64 code.

use adze_ir::ops::{Conv, MatMul, Op};
use adze_ir::types::DType;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

use super::{Case, Given, random};
use crate::cpu::Machine;
use crate::cpu::emit::Emitter;

fn instructions(case: &Case) -> Vec<Instruction> {
    let machine = Machine::from_name("x86_64-v3").unwrap();
    let lowered = case.lower(&machine, &case.results());
    let code = Emitter::new(&machine).unwrap().compile(&lowered[0].kernel).unwrap();
    Decoder::with_ip(64, &code.bytes, 0, DecoderOptions::NONE).into_iter().collect()
}

/// The loop without loops inside that has the most multiply-adds.
fn inner_loop(instructions: &[Instruction]) -> &[Instruction] {
    let at = |ip: u64| instructions.iter().position(|i| i.ip() == ip);
    let back = |(end, i): (usize, &Instruction)| {
        let jump = i.is_jcc_short_or_near() || i.is_jmp_short_or_near();
        let start = at(i.near_branch_target()).filter(|&start| jump && start <= end)?;
        Some(&instructions[start..=end])
    };
    let loops: Vec<&[Instruction]> = instructions.iter().enumerate().filter_map(back).collect();
    let inner = |l: &&&[Instruction]| {
        let range = l.as_ptr_range();
        !loops.iter().any(|o| o.len() < l.len() && range.contains(&o.as_ptr()))
    };
    loops.iter().filter(inner).max_by_key(|l| multiply_adds(l)).expect("there is a loop")
}

fn multiply_adds(instructions: &[Instruction]) -> usize {
    let vector = |i: &&Instruction| {
        let fma = matches!(i.mnemonic(), Mnemonic::Vfmadd132ps | Mnemonic::Vfmadd213ps | Mnemonic::Vfmadd231ps);
        fma && i.op0_register().is_xmm()
    };
    instructions.iter().filter(vector).count()
}

/// Accesses to the stack: spilled registers.
fn spills(instructions: &[Instruction]) -> usize {
    instructions.iter().filter(|i| i.memory_base() == Register::RSP || i.memory_base() == Register::RBP).count()
}

fn check(op: impl Into<Op>, x: Given, w: &[usize]) {
    let mut rng = fastrand::Rng::with_seed(1);
    let rank = x.tensor.shape().len();
    let w = Given::constant(random(&mut rng, DType::F32, w));
    let case = Case::new(op, vec![Some(x), Some(w)]);
    let case = if rank == 4 { case.last(4) } else { case };
    let all = instructions(&case);
    let inner = inner_loop(&all);
    // Four steps of a 4x8 block.
    assert_eq!(multiply_adds(inner), 4 * 4 * 2, "{inner:?}");
    assert_eq!(spills(inner), 0);
    // Two reads of columns and four broadcasts per step, one copy per multiply-add, and the loop itself.
    assert!(inner.len() <= 4 * (8 * 2 + 2 + 4 * 2) + 12, "{} instructions", inner.len());
}

#[test]
fn the_inner_loop_of_a_product_multiplies_vectors() {
    let x = Given::plain(random(&mut fastrand::Rng::with_seed(2), DType::F32, &[64, 256]));
    check(MatMul { trans_a: false, trans_b: false }, x, &[256, 64]);
}

#[test]
fn the_inner_loop_of_a_convolution_multiplies_vectors() {
    let x = Given::plain(random(&mut fastrand::Rng::with_seed(3), DType::F32, &[1, 64, 12, 12])).last();
    let op = Conv { strides: vec![1; 2], pads: vec![1; 4], dilations: vec![1; 2], group: 1 };
    check(op, x, &[64, 64, 3, 3]);
}
