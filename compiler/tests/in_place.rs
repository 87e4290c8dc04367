//! Rows are normalised where they lie, and so are numbers that are rounded to bytes and read again: one tensor's memory does for
//! a chain of them.

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::execute::Executable;
use adze_ir::eval::eval_graph;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_targets::cpu::Machine;

/// Extents that no vector divides; rows along the last axis, across it, and of several axes.
const CHAIN: &str = "graph @chain {
  input %0 \"x\" : f32[3,13,37]
  %1 = const \"three\" [3.0] : f32[]
  %2 = const \"scale\" [0.5, 1.5, -1.0, 2.0, 0.25, 1.0, 1.0, 3.0, -2.0, 0.5, 0.75, 1.25, 1.0] : f32[13]
  %3 = const \"unit\" [0.03125] : f32[]
  %4 = const \"zero\" [7] : i8[]
  %5 = mul %0, %1 : f32[3,13,37]
  %6 = softmax %5 {axis=2, flatten=false} : f32[3,13,37]
  %7 = softmax %6 {axis=1, flatten=false} : f32[3,13,37]
  %8 = instance_norm %7, %2, %2 {epsilon=0.001} : f32[3,13,37]
  %9 = quantize %8, %3, %4 {axis=0, block=0, to=i8} : i8[3,13,37]
  %10 = dequantize %9, %3, %4 {axis=0, block=0} : f32[3,13,37]
  %11 = log_softmax %10 {axis=1, flatten=true} : f32[3,13,37]
  %12 = neg %11 : f32[3,13,37]
  %13 = log_softmax %12 {axis=2, flatten=false} : f32[3,13,37]
  output \"y\" = %13
}
";

#[test]
fn one_tensor_of_memory_does() {
    let graph = parse_graph(CHAIN).unwrap();
    let numbers: Vec<f32> = (0..3 * 13 * 37).map(|i| (i * 29 % 101) as f32 / 25.0 - 2.0).collect();
    let input = Tensor::from_f32(&[3, 13, 37], &numbers);
    let expected = eval_graph(&graph, std::slice::from_ref(&input)).unwrap();
    for machine in Machine::runnable() {
        let built = build(&graph, &BuildOptions::new(machine.clone())).unwrap();
        let arena = built.plan.memories.iter().find(|memory| &*memory.memory == "arena").unwrap();
        assert_eq!(arena.bytes, 4 * 3 * 13 * 37, "{}: {}", machine.name, built.program);
        let executable = Executable::new(&built).unwrap();
        let mut call = executable.prepare(std::slice::from_ref(&input)).unwrap();
        executable.run(&mut call).unwrap();
        let found = executable.outputs(&mut call).unwrap();
        // A number beside a tie of the bytes is a unit off, which everything after it sees.
        let difference = compare(&found[0], &expected[0], Tolerance::F32.or_zero()).unwrap();
        assert!(difference.sqnr > 60.0, "{}: {difference:?}", machine.name);
    }
}
