//! Every operator through the whole compiler: native code against the reference evaluation, on seeded random values.
//!
//! `ops.txt` has a case per line: the operator, `|`, then its operands separated by `;`, each a type with an optional
//! range of values, `_` where one is left out. Every case runs twice: all operands given at run time (unless one is marked
//! `const`), and all but the first as constants.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::execute::Executable;
use adze_ir::exact::NORM_TRANSCENDENTAL;
use adze_ir::graph::{ConstEntry, Graph};
use adze_ir::loc::Loc;
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::text::{Cursor, parse_op_attrs, parse_type};
use adze_ir::types::{DType, TensorType};
use adze_targets::cpu::Machine;

struct Case {
    op: Op,
    operands: Vec<Option<(TensorType, (f64, f64))>>,
    needs_constants: bool,
}

fn parse(line: &str) -> Case {
    let (op, operands) = line.split_once('|').expect("`|` before the operands");
    let (word, _) = op.trim().split_once(' ').unwrap_or((op.trim(), ""));
    let mut cursor = Cursor::new(&op.trim()[word.len()..]).unwrap();
    let op = parse_op_attrs(&mut cursor, word).unwrap_or_else(|e| panic!("{line}: {e}"));
    let operand = |text: &str| {
        let text = text.trim().trim_start_matches("const ");
        if text == "_" {
            return None;
        }
        let (ty, range) = text.split_once(" in ").unwrap_or((text, ""));
        let ty = parse_type(&mut Cursor::new(ty).unwrap()).unwrap_or_else(|e| panic!("{line}: {e}"));
        let default = if ty.dtype.is_float() { (-2.0, 2.0) } else { (0.0, 7.0) };
        let range = range.split_once("..").map_or(default, |(lo, hi)| (lo.parse().unwrap(), hi.parse().unwrap()));
        Some((ty, range))
    };
    // Weights that stay as they are stored are constants by definition.
    let needs_constants = operands.contains("const ") || ["matmul_stored", "conv_stored"].contains(&op.name());
    Case { op, operands: operands.split(';').map(operand).collect(), needs_constants }
}

/// Floats anywhere in the range, integers of it (both ends included).
fn random(rng: &mut fastrand::Rng, ty: &TensorType, (lo, hi): (f64, f64)) -> Tensor {
    let shape = ty.fixed_shape().expect("a fixed shape");
    let count = shape.iter().product();
    if ty.dtype.is_float() {
        let values: Vec<f64> = (0..count).map(|_| lo + rng.f64() * (hi - lo)).collect();
        return Tensor::from_f64(ty.dtype, &shape, &values);
    }
    let hi = if ty.dtype == DType::Bool { 1.0 } else { hi };
    let values: Vec<i128> = (0..count).map(|_| i128::from(rng.i64(lo as i64..=hi as i64))).collect();
    Tensor::from_ints(ty.dtype, &shape, &values)
}

/// Runs the operator alone; operands from `constant_from` on are constants.
fn native(case: &Case, values: &[Option<Tensor>], constant_from: usize) -> Vec<Tensor> {
    let mut graph = Graph::new("case");
    let mut given = Vec::new();
    let mut operands = Vec::new();
    for (index, value) in values.iter().enumerate() {
        operands.push(value.as_ref().map(|tensor| {
            if index >= constant_from {
                let id = graph.consts.push(ConstEntry::new(format!("c{index}"), tensor.clone()));
                return graph.add_const(id, Loc::default());
            }
            given.push(tensor.clone());
            graph.add_input(format!("x{index}"), tensor.ty())
        }));
    }
    let results = graph.add(case.op.clone(), &operands, Loc::default()).unwrap_or_else(|e| panic!("{}: {e}", case.op));
    for (index, value) in results.into_iter().enumerate() {
        graph.add_output(format!("y{index}"), value);
    }
    let built =
        build(&graph, &BuildOptions::new(Machine::host().unwrap())).unwrap_or_else(|e| panic!("{}: {e}", case.op));
    let executable = Executable::new(&built).unwrap();
    let mut call = executable.prepare(&given).unwrap();
    executable.run(&mut call).unwrap_or_else(|e| panic!("{}: {e}", case.op));
    executable.outputs(&mut call).unwrap()
}

fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::Bf16 => 2f64.powi(-7),
        DType::F32 => f64::from(f32::EPSILON),
        DType::F64 => f64::EPSILON,
        _ => 0.0,
    }
}

/// The largest magnitude of a result, and of the same operator on magnitudes: what sums could have been.
fn scale(case: &Case, values: &[Option<Tensor>], wanted: &[Tensor]) -> f64 {
    let magnitude = |t: &Tensor| {
        let values: Vec<f64> = t.to_f64().iter().map(|v| v.abs()).collect();
        Tensor::from_f64(t.dtype(), t.shape(), &values)
    };
    let positive: Vec<Option<Tensor>> = values.iter().map(|t| t.as_ref().map(magnitude)).collect();
    let refs: Vec<Option<&Tensor>> = positive.iter().map(Option::as_ref).collect();
    let results = case.op.eval(&refs, &|_| None).unwrap_or_default();
    let all = results.iter().chain(wanted).filter(|t| t.dtype().is_float()).flat_map(Tensor::to_f64);
    all.filter(|v| v.is_finite()).fold(1e-30, |max, v| max.max(v.abs()))
}

fn check(line: &str, seed: u64) {
    let case = parse(line);
    let mut rng = fastrand::Rng::with_seed(seed);
    let values: Vec<Option<Tensor>> =
        case.operands.iter().map(|o| o.as_ref().map(|(ty, range)| random(&mut rng, ty, *range))).collect();
    let refs: Vec<Option<&Tensor>> = values.iter().map(Option::as_ref).collect();
    let wanted = case.op.eval(&refs, &|_| None).unwrap_or_else(|e| panic!("{line}: {e}"));
    let scale = scale(&case, &values, &wanted);
    let runs = if case.needs_constants { vec![1] } else { vec![values.len(), 1] };
    for constant_from in runs {
        let found = native(&case, &values, constant_from);
        assert_eq!(found.len(), wanted.len(), "{line}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!((found.dtype(), found.shape()), (wanted.dtype(), wanted.shape()), "{line}");
            if !wanted.dtype().is_float() {
                let same = found.bytes() == wanted.bytes();
                assert!(same, "{line}, seed {seed}, constants from {constant_from}: {found:?}, not {wanted:?}");
                continue;
            }
            let limit = f64::from(NORM_TRANSCENDENTAL) * epsilon(wanted.dtype()) * scale;
            for (index, (f, w)) in found.to_f64().into_iter().zip(wanted.to_f64()).enumerate() {
                let close = f == w || (f.is_nan() && w.is_nan()) || (f - w).abs() <= limit;
                assert!(close, "{line}, seed {seed}: element {index} is {f}, not {w}; limit {limit}");
            }
        }
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    include_str!("ops.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'))
}

#[test]
fn native_code_agrees_with_the_reference() {
    let mut failures = Vec::new();
    for line in lines() {
        for seed in 0..3 {
            if let Err(panic) = std::panic::catch_unwind(|| check(line, seed)) {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into());
                failures.push(text);
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), lines().count(), failures.join("\n"));
}

/// Whoever adds an operator adds a case.
#[test]
fn every_operator_has_a_case() {
    let covered: BTreeSet<&str> = lines().map(|line| parse(line).op.name()).collect();
    let not_alone = ["constant", "extents", "iota", "fused"];
    let missing: Vec<&&str> = Op::NAMES.iter().filter(|n| !covered.contains(**n) && !not_alone.contains(*n)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
