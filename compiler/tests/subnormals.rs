//! Subnormal numbers are zeros in compiled code unless they are to be kept, and what the caller set stays as it was.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::hint::black_box;

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::execute::Executable;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::DType;
use adze_targets::cpu::Machine;

const HALVED: &str = "graph @halved {
  input %0 \"x\" : f32[4]
  %1 = const \"half\" [0.5] : f32[1]
  %2 = mul %0, %1 : f32[4]
  output \"y\" = %2
}
";
/// The smallest numbers of these types are normal in `f32`.
const HALVES: &str = "graph @halves {
  input %0 \"x\" : f16[4]
  %1 = cast %0 {to=f32} : f32[4]
  %2 = cast %1 {to=f16} : f16[4]
  output \"y\" = %2
}
";

fn output(graph: &str, machine: &Machine, flush: bool, input: &Tensor) -> Vec<f64> {
    let graph = parse_graph(graph).unwrap();
    let options = BuildOptions { flush, ..BuildOptions::new(machine.clone()) };
    let executable_of = build(&graph, &options).unwrap();
    let executable = Executable::new(&executable_of).unwrap();
    let mut call = executable.prepare(std::slice::from_ref(input)).unwrap();
    executable.run(&mut call).unwrap();
    assert!(black_box(f32::MIN_POSITIVE) * black_box(0.5) > 0.0, "the caller's own numbers are not flushed");
    executable.outputs(&mut call).unwrap()[0].to_f64()
}

#[test]
fn zeros_unless_kept() {
    let least = f64::from(f32::MIN_POSITIVE);
    let input = Tensor::from_f64(DType::F32, &[4], &[least, least / 2.0, -least, 3.0]);
    for machine in Machine::runnable() {
        let halved: Vec<f64> = input.to_f64().iter().map(|x| x / 2.0).collect();
        assert_eq!(output(HALVED, &machine, false, &input), halved, "{}", machine.name);
        assert_eq!(output(HALVED, &machine, true, &input), [0.0, 0.0, -0.0, 1.5], "{}", machine.name);
    }
}

#[test]
fn small_types_keep_theirs() {
    let input = Tensor::from_f64(DType::F16, &[4], &[2f64.powi(-24), -3.0 * 2f64.powi(-24), 2f64.powi(-15), 1.0]);
    for machine in Machine::runnable() {
        assert_eq!(output(HALVES, &machine, true, &input), input.to_f64(), "{}", machine.name);
    }
}
