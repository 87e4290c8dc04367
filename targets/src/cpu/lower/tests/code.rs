//! What the inner loops of sums of products look like as x86-64 code.

use adze_ir::ops::{Conv, MatMul, Op, QLinearMatMul, Softmax, Unary, UnaryFn};
use adze_ir::quant::Requantize;
use adze_ir::types::DType;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

use super::fused::{fused, half};
use super::integer::{bytes, number, scale};
use super::{Case, Given, random};
use crate::cpu::Machine;
use crate::cpu::emit::{Emitter, a64, x86};

fn instructions(case: &Case, machine: &str) -> Vec<Instruction> {
    let machine = Machine::from_name(machine).unwrap();
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
        fma && i.op0_register().is_vector_register()
    };
    instructions.iter().filter(vector).count()
}

/// Accesses to the stack: spilled registers.
fn spills(instructions: &[Instruction]) -> usize {
    instructions.iter().filter(|i| i.memory_base() == Register::RSP).count()
}

fn check(op: impl Into<Op>, x: Given, w: &[usize]) {
    let mut rng = fastrand::Rng::with_seed(1);
    let rank = x.tensor.shape().len();
    let w = Given::constant(random(&mut rng, DType::F32, w));
    let case = Case::new(op, vec![Some(x), Some(w)]);
    let case = if rank == 4 { case.last(4) } else { case };
    for (machine, wide) in [("x86_64-v3", Register::is_ymm as fn(Register) -> bool), ("x86_64-v4", Register::is_zmm)] {
        let all = instructions(&case, machine);
        let inner = inner_loop(&all);
        let sums = multiply_adds(inner);
        assert!(sums >= 16, "{machine}: {sums} multiply-adds");
        let vectors = inner.iter().filter(|i| i.op0_register().is_vector_register());
        assert!(vectors.clone().all(|i| wide(i.op0_register())), "{machine}: narrow registers");
        assert_eq!(spills(inner), 0, "{machine}");
        // Beside reads, which are fewer than multiply-adds, nothing but the loop itself.
        assert!(inner.len() <= 2 * sums + 8, "{machine}: {} instructions, {sums} multiply-adds", inner.len());
        let upper = |i: &Instruction| i.mnemonic() == Mnemonic::Vzeroupper;
        let returns = all.windows(2).filter(|pair| pair[1].mnemonic() == Mnemonic::Ret);
        assert!(returns.clone().count() > 0 && returns.clone().all(|pair| upper(&pair[0])), "{machine}");
    }
}

/// Kernels of all shapes of products and convolutions keep what their inner loops use in registers.
#[test]
fn hot_loops_do_not_spill() {
    let mut rng = fastrand::Rng::with_seed(5);
    for (rows, depth, cols) in [(49, 64, 96), (196, 24, 40), (7, 300, 24), (1, 256, 512), (64, 3, 12), (33, 128, 1000)]
    {
        let x = Given::plain(random(&mut rng, DType::F32, &[rows, depth]));
        let w = Given::constant(random(&mut rng, DType::F32, &[depth, cols]));
        no_hot_spills(&Case::new(MatMul { trans_a: false, trans_b: false }, vec![Some(x), Some(w)]));
    }
    for (channels, kernel, group) in [(24, 3, 1), (64, 5, 64), (16, 1, 1), (3, 3, 1), (32, 3, 4)] {
        let x = Given::plain(random(&mut rng, DType::F32, &[1, channels, 15, 14])).last();
        let w = Given::constant(random(&mut rng, DType::F32, &[32.max(group), channels / group, kernel, kernel]));
        let pad = kernel as i64 / 2;
        let op = Conv { strides: vec![1; 2], pads: vec![pad; 4], dilations: vec![1; 2], group: group as i64 };
        no_hot_spills(&Case::new(op, vec![Some(x), Some(w)]).last(4));
    }
    // The temporaries of a long epilogue give way to the sums that wait for it.
    for function in [UnaryFn::Tanh, UnaryFn::Erf, UnaryFn::Sigmoid, UnaryFn::HardSwish] {
        let x = Given::plain(random(&mut rng, DType::F32, &[49, 64]));
        let w = Given::constant(random(&mut rng, DType::F32, &[64, 96]));
        let residual = Given::plain(random(&mut rng, DType::F32, &[49, 96]));
        let channel = Given::plain(random(&mut rng, DType::F32, &[96]));
        let op = fused(MatMul { trans_a: false, trans_b: false }, 2, function);
        no_hot_spills(&Case::new(op, vec![Some(x), Some(w), Some(residual), Some(channel), Some(half())]));
    }
}

fn no_hot_spills(case: &Case) {
    for machine in ["x86_64-v3", "x86_64-v4-vnni"].map(|name| Machine::from_name(name).unwrap()) {
        let cpu = x86::Cpu::of(&machine).unwrap();
        for step in case.lower(&machine, &case.results()) {
            let (_, stats) = x86::compile_with_stats(&step.kernel, cpu).unwrap();
            assert_eq!(stats.hot_spills, 0, "{} of {} on {}", step.kernel.name, case.op, machine.name);
        }
    }
    for machine in ["aarch64", "cortex-a55", "neoverse-v1"].map(|name| Machine::from_name(name).unwrap()) {
        let cpu = a64::Cpu::of(&machine).unwrap();
        for step in case.lower(&machine, &case.results()) {
            let (_, stats) = a64::compile_with_stats(&step.kernel, cpu).unwrap();
            assert_eq!(stats.hot_spills, 0, "{} of {} on {}", step.kernel.name, case.op, machine.name);
        }
    }
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

/// Elementwise functions and rows fill two registers, so that their chains of operations overlap, and keep all in registers.
#[test]
fn chains_of_elements_fill_two_registers() {
    let x = || vec![Some(Given::plain(random(&mut fastrand::Rng::with_seed(4), DType::F32, &[8, 512])))];
    let cases = [
        Case::new(Unary { function: UnaryFn::Tanh }, x()),
        Case::new(Unary { function: UnaryFn::Sigmoid }, x()),
        Case::new(Softmax { axis: 1, flatten: false }, x()),
    ];
    for case in &cases {
        for (machine, wide) in
            [("x86_64-v3", Register::is_ymm as fn(Register) -> bool), ("x86_64-v4", Register::is_zmm)]
        {
            let all = instructions(case, machine);
            let inner = inner_loop(&all);
            let sums = multiply_adds(inner);
            assert!(sums >= 8 && sums.is_multiple_of(2), "{} on {machine}: {sums} multiply-adds", case.op);
            let vectors = inner.iter().filter(|i| i.op0_register().is_vector_register());
            assert!(vectors.clone().all(|i| wide(i.op0_register())), "{} on {machine}: narrow registers", case.op);
        }
        no_hot_spills(case);
    }
}

/// Panels that do not fit the second cache are fetched while the ones before them are in use, by one instruction of the loop.
#[test]
fn large_weights_are_fetched_ahead() {
    let product = |depth: usize| {
        let mut rng = fastrand::Rng::with_seed(1);
        let x = Given::plain(random(&mut rng, DType::F32, &[56, depth]));
        let w = Given::constant(random(&mut rng, DType::F32, &[depth, 768]));
        Case::new(MatMul { trans_a: false, trans_b: false }, vec![Some(x), Some(w)])
    };
    let fetches = |case: &Case, machine: &str| {
        let all = instructions(case, machine);
        let inner = inner_loop(&all);
        assert!(inner.iter().all(|i| !matches!(i.mnemonic(), Mnemonic::Idiv | Mnemonic::Imul)), "{machine}");
        inner.iter().filter(|i| i.mnemonic() == Mnemonic::Prefetcht1).count()
    };
    let (large, small) = (product(400), product(60));
    large.check(4.0);
    for machine in ["x86_64-v3", "x86_64-v4"] {
        assert_eq!(fetches(&large, machine), 1, "{machine}");
        assert_eq!(fetches(&small, machine), 0, "{machine}");
    }
}

/// Sums whose size is known are requantized without bounds and narrowed by four registers at once; neither sums nor what
/// becomes of them touch the stack.
#[test]
fn requantized_sums_are_packed() {
    let mut rng = fastrand::Rng::with_seed(6);
    let inputs = vec![
        Some(Given::plain(bytes(&mut rng, DType::U8, &[56, 64]))),
        scale(0.5),
        number(DType::U8, 120),
        Some(Given::constant(bytes(&mut rng, DType::I8, &[64, 64]))),
        scale(0.01),
        number(DType::I8, 0),
        scale(0.7),
        number(DType::U8, 130),
    ];
    let case = Case::new(QLinearMatMul { contract: Requantize::F32Rne }, inputs);
    for machine in ["x86_64-v3-vnni", "x86_64-v4-vnni"] {
        let all = instructions(&case, machine);
        let count = |of: Mnemonic| all.iter().filter(|i| i.mnemonic() == of).count();
        let sums = count(Mnemonic::Vcvtdq2ps);
        assert!(sums >= 8, "{machine}: {sums} sums");
        assert_eq!(count(Mnemonic::Vpackssdw), sums / 2, "{machine}");
        assert_eq!(count(Mnemonic::Vpackuswb), sums / 4, "{machine}");
        assert_eq!(count(Mnemonic::Vmaxps) + count(Mnemonic::Vminps) + count(Mnemonic::Vpmovdb), 0, "{machine}");
        let stack = all.iter().filter(|i| i.memory_base() == Register::RSP && i.op0_register().is_vector_register());
        assert_eq!(stack.count(), 0, "{machine}");
    }
}
