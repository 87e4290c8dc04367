//! The hand-written GEMM kernel: right results, and an inner loop of vector FMAs without spills.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use adze_targets::cpu::Machine;
use adze_targets::cpu::emit::Emitter;
use adze_targets::cpu::exec::{Buffer, Loaded};
use adze_targets::cpu::kernel::interp::{self, Options};
use adze_targets::cpu::kernel::{Kernel, text, verify};
use adze_targets::cpu::object::ObjectBuilder;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};

const ROWS: usize = 8;
const COLUMNS: usize = 32;
const DEPTH: usize = 64;

fn gemm() -> Kernel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/kernel/gemm_f32_4x8_n32_k64.kernel");
    let source = std::fs::read_to_string(path).unwrap();
    let kernel = text::parse(&source).unwrap();
    assert_eq!(verify(&kernel), vec![]);
    assert_eq!(text::print(&kernel), source, "the file is in the printer's form");
    kernel
}

fn matrix(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn multiplies_matrices() {
    let (a, b) = (matrix(ROWS * DEPTH), matrix(DEPTH * COLUMNS));
    let packed: Vec<f32> = (0..COLUMNS / 16)
        .flat_map(|panel| (0..DEPTH * 16).map(move |i| (i / 16, panel * 16 + i % 16)))
        .map(|(k, n)| b[k * COLUMNS + n])
        .collect();
    let kernel = gemm();
    let mut memory = [bytes(&a), bytes(&packed), vec![0; 4 * ROWS * COLUMNS]];
    let mut buffers = memory.clone().map(|m| Buffer::from_bytes(&m));
    let [x, w, c] = &mut memory;
    interp::run(&kernel, &mut [x, w, c], &[], (0, 2), Options::default()).unwrap();
    for (i, found) in memory[2].chunks_exact(4).enumerate() {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        let exact: f64 = (0..DEPTH).map(|k| f64::from(a[row * DEPTH + k]) * f64::from(b[k * COLUMNS + column])).sum();
        let found = f64::from(f32::from_le_bytes(found.try_into().unwrap()));
        assert!((found - exact).abs() < 1e-4, "c[{row}][{column}] = {found}, exact {exact}");
    }
    let Some(machine) = Machine::host().filter(|m| m.has_fma) else { return };
    let mut object = ObjectBuilder::new(&machine).unwrap();
    object.add_kernel(&kernel).unwrap();
    let loaded = Loaded::new(&object.finish().unwrap()).unwrap();
    assert_eq!(loaded.call_kernel(&kernel.name, &mut buffers, &[], 0, 2).unwrap(), 0);
    assert_eq!(buffers[2].as_ref(), memory[2], "native code and interpreter differ");
}

/// Instructions of the smallest loop that holds a vector FMA.
fn inner_loop(code: &[u8]) -> Vec<Instruction> {
    let all: Vec<Instruction> = Decoder::new(64, code, DecoderOptions::NONE).iter().collect();
    let is_fma = |i: &Instruction| format!("{:?}", i.mnemonic()).starts_with("Vfmadd");
    let loops = all.iter().filter(|i| i.flow_control() == FlowControl::ConditionalBranch).filter_map(|branch| {
        let (start, end) = (branch.near_branch_target(), branch.ip());
        let body: Vec<Instruction> = all.iter().copied().filter(|i| i.ip() >= start && i.ip() <= end).collect();
        (start < end && body.iter().any(is_fma)).then_some(body)
    });
    loops.min_by_key(Vec::len).expect("a loop with FMAs")
}

#[test]
fn inner_loop_is_vector_fma_without_spills() {
    let machine = Machine::from_name("x86_64-v3").unwrap();
    let code = Emitter::new(&machine).unwrap().compile(&gemm()).unwrap();
    let body = inner_loop(&code.bytes);
    let fmas = body.iter().filter(|i| {
        format!("{:?}", i.mnemonic()).ends_with("ps") && format!("{:?}", i.mnemonic()).starts_with("Vfmadd")
    });
    // Four steps of k, four rows, two vectors of four columns.
    assert_eq!(fmas.count(), 32);
    let stack = |i: &&Instruction| [Register::RSP, Register::RBP].contains(&i.memory_base());
    assert_eq!(body.iter().filter(stack).count(), 0, "spills");
    let multiplies = body.iter().filter(|i| matches!(i.mnemonic(), Mnemonic::Imul | Mnemonic::Mul | Mnemonic::Mulx));
    assert_eq!(multiplies.count(), 0, "address arithmetic");
}
