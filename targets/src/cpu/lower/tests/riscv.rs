//! What the inner loops of sums of products look like as RISC-V code.

use adze_ir::ops::{Conv, ConvInteger, MatMul, MatMulInteger, Op};
use adze_ir::types::DType;

use super::{Case, Given, random};
use crate::cpu::Machine;
use crate::cpu::emit::rvv;
use crate::cpu::emit::rvv::isa::{Code, Instruction};

const MACHINES: [&str; 3] = ["riscv64gcv", "riscv64gcv_zvl256b", "riscv64gcv_zvl512b"];

/// The code of every kernel on every machine.
fn listings(case: &Case) -> Vec<(String, rvv::Listing)> {
    let mut all = Vec::new();
    for name in MACHINES {
        let machine = Machine::from_name(name).unwrap();
        let cpu = rvv::Cpu::of(&machine).unwrap();
        for step in case.lower(&machine, &case.results()) {
            let listing = rvv::instructions(&step.kernel, cpu).unwrap_or_else(|e| panic!("{name}: {e}"));
            all.push((format!("{} of {} on {name}", step.kernel.name, case.op), listing));
        }
    }
    all
}

/// The loop without loops inside that has the most of these instructions.
fn inner_loop<'l>(all: &'l [Instruction], counted: &[Code]) -> &'l [Instruction] {
    let count = |l: &[Instruction]| l.iter().filter(|i| counted.contains(&i.code)).count();
    let is_branch = |i: &Instruction| matches!(i.code, Code::Beq | Code::Bne | Code::Blt | Code::Bge);
    let back = |(end, i): (usize, &Instruction)| {
        let start = end.checked_add_signed(isize::try_from(i.imm).ok()? / 4)?;
        (is_branch(i) && start <= end).then(|| &all[start..=end])
    };
    let loops: Vec<&[Instruction]> = all.iter().enumerate().filter_map(back).collect();
    let inner = |l: &&&[Instruction]| {
        let range = l.as_ptr_range();
        !loops.iter().any(|o| o.len() < l.len() && range.contains(&o.as_ptr()))
    };
    loops.iter().filter(inner).max_by_key(|l| count(l)).expect("there is a loop")
}

fn show(code: &[Instruction]) -> String {
    code.iter().map(|i| format!("{i}\n")).collect()
}

fn product(op: impl Into<Op>, dtype: DType, [rows, depth, cols]: [usize; 3]) -> Case {
    let mut rng = fastrand::Rng::with_seed(5);
    let x = Given::plain(random(&mut rng, dtype, &[rows, depth]));
    let w = Given::constant(random(&mut rng, dtype, &[depth, cols]));
    Case::new(op, vec![Some(x), Some(w)])
}

/// Kernels of all shapes of products and convolutions keep what their inner loops use in registers.
#[test]
fn hot_loops_do_not_spill() {
    let mut rng = fastrand::Rng::with_seed(5);
    let sizes = [[49, 64, 96], [196, 24, 40], [7, 300, 24], [1, 256, 512], [64, 3, 12], [33, 128, 1000]];
    let mut cases: Vec<Case> = Vec::new();
    for size in sizes {
        cases.push(product(MatMul { trans_a: false, trans_b: false }, DType::F32, size));
        cases.push(product(MatMulInteger {}, DType::I8, size));
    }
    for (channels, kernel, group) in [(24, 3, 1), (64, 5, 64), (16, 1, 1), (3, 3, 1), (32, 3, 4)] {
        let pad = kernel as i64 / 2;
        let (strides, pads, dilations) = (vec![1; 2], vec![pad; 4], vec![1; 2]);
        let shape = [32.max(group), channels / group, kernel, kernel];
        let group = group as i64;
        let x = Given::plain(random(&mut rng, DType::F32, &[1, channels, 15, 14])).last();
        let w = Given::constant(random(&mut rng, DType::F32, &shape));
        let op = Conv { strides: strides.clone(), pads: pads.clone(), dilations: dilations.clone(), group };
        cases.push(Case::new(op, vec![Some(x), Some(w)]).last(4));
        let x = Given::plain(random(&mut rng, DType::I8, &[1, channels, 15, 14])).last();
        let w = Given::constant(random(&mut rng, DType::I8, &shape));
        let op = ConvInteger { strides, pads: vec![0; 4], dilations, group };
        cases.push(Case::new(op, vec![Some(x), Some(w)]).last(4));
    }
    for case in &cases {
        for (name, listing) in listings(case) {
            assert_eq!(listing.stats.hot_spills, 0, "{name}\n{}", show(&listing.instructions));
        }
    }
}

#[test]
fn the_inner_loop_of_a_product_multiplies_vectors_by_scalars() {
    for (name, listing) in listings(&product(MatMul { trans_a: false, trans_b: false }, DType::F32, [64, 256, 64])) {
        let inner = inner_loop(&listing.instructions, &[Code::VfmaccVf]);
        let count = |code: Code| inner.iter().filter(|i| i.code == code).count();
        let sums = count(Code::VfmaccVf);
        assert!(sums >= 32, "{name}: {sums} multiply-adds\n{}", show(inner));
        assert_eq!(count(Code::Vsetivli) + count(Code::Vsetvli) + count(Code::Vmv1r), 0, "{name}\n{}", show(inner));
        // Beside reads, of which there are fewer, nothing but addresses and the loop itself.
        let reads = count(Code::Flw) + count(Code::Vle32);
        assert!(reads < sums && inner.len() <= sums + reads + count(Code::Vle32) + 10, "{name}\n{}", show(inner));
    }
}

#[test]
fn the_inner_loop_of_a_product_of_bytes_takes_words_apart_once() {
    for (name, listing) in listings(&product(MatMulInteger {}, DType::I8, [64, 256, 64])) {
        let inner = inner_loop(&listing.instructions, &[Code::VmaccVx]);
        let count = |code: Code| inner.iter().filter(|i| i.code == code).count();
        let sums = count(Code::VmaccVx);
        assert!(sums >= 32, "{name}: {sums} multiply-adds\n{}", show(inner));
        assert_eq!(count(Code::Vsetivli) + count(Code::Vsetvli) + count(Code::Vmv1r), 0, "{name}\n{}", show(inner));
        let apart = count(Code::VsraVi);
        assert!(2 * apart <= sums, "{name}: {apart} shifts, {sums} multiply-adds\n{}", show(inner));
    }
}
