//! Every recorded case of every model, compiled for this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use adze_compiler::Error;
use adze_compiler::build::Built;
use adze_compiler::compare::{Tolerance, compare};
use adze_ir::exact::MEAN_UNITS;
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::tile::Role;
use adze_ir::types::DType;

use crate::shared::{Case, Model, build_here, models, run};

/// Models that have to pass.
const BAR: usize = 36;

/// What came of a model.
struct Outcome {
    /// Cases that agree, or why there is none.
    cases: Result<Vec<(String, Agreement)>, String>,
    arithmetic: &'static str,
    /// Of a quantized model: what runs on bytes.
    shares: Option<String>,
    arena_bytes: u64,
}

/// How near the outputs of a case are to the recorded ones, the farthest counting.
struct Agreement {
    good: bool,
    max_abs: f64,
    max_rel: f64,
    sqnr: f64,
    /// Of a quantized model: the mean and the largest difference in units of the output.
    units: [f64; 2],
}

/// Per case of a quantized model, how far ONNX Runtime's optimised run is from the recorded outputs on average
/// (`testdata/ort_differences.json`, which `cli/benches/accuracy.py --differences` writes).
fn ort_differences() -> BTreeMap<String, Vec<f64>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/ort_differences.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// A unit of an output: 1 of an integer, of floats a step of 255 over the range of the recorded ones.
fn unit_of(reference: &Tensor) -> f64 {
    if reference.dtype().is_int() {
        return 1.0;
    }
    let values = reference.to_f64();
    let ends = values.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[lo, hi], &v| [lo.min(v), hi.max(v)]);
    (ends[1] - ends[0]).max(0.0) / 255.0
}

#[test]
fn recorded_cases() {
    let models = models();
    if models.is_empty() {
        return;
    }
    let mut table = String::new();
    let (mut status, mut quantized) = (String::new(), String::new());
    let mut passed = 0;
    for model in &models {
        let outcome = outcome(model);
        passed += usize::from(outcome.passes());
        outcome.print(model, &mut table);
        let _ = writeln!(status, "{:<34} {}", model.name, outcome.status());
        if let Some(shares) = &outcome.shares {
            let _ = writeln!(quantized, "{:<34} {shares}", model.name);
        }
    }
    eprintln!("{table}{passed} of {} models pass", models.len());
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("status", status);
        insta::assert_snapshot!("quantized", quantized);
    });
    assert!(passed >= BAR, "{passed} of {} models pass, the bar is {BAR}", models.len());
}

fn outcome(model: &Model) -> Outcome {
    let mut outcome = Outcome { cases: Ok(Vec::new()), arithmetic: "", shares: None, arena_bytes: 0 };
    for case in &model.cases {
        match (check(model, case, &mut outcome), &mut outcome.cases) {
            (Ok(agreement), Ok(cases)) => cases.push((case.case.clone(), agreement)),
            (Err(why), cases) => *cases = Err(why),
            _ => {}
        }
    }
    outcome
}

fn check(model: &Model, case: &Case, outcome: &mut Outcome) -> Result<Agreement, String> {
    let (inputs, recorded) = model.tensors(case);
    let (graph, inputs) = model.graph_for(&inputs).map_err(|e| reason(&e))?;
    let built = build_here(&graph).map_err(|e| reason(&e))?;
    (outcome.arithmetic, outcome.shares) = (arithmetic(&built), shares(&graph, &built));
    outcome.arena_bytes = outcome.arena_bytes.max(built.package.manifest.arena_bytes);
    let outputs = run(&built, &inputs).map_err(|e| reason(&e))?;
    let mut worst = Agreement {
        good: outputs.len() == recorded.len(),
        max_abs: 0.0,
        max_rel: 0.0,
        sqnr: f64::INFINITY,
        units: [0.0; 2],
    };
    let quantized = is_quantized(&graph);
    let theirs = ort_differences().remove(&format!("{}.{}", model.name, case.case)).unwrap_or_default();
    for (index, (found, reference)) in outputs.iter().zip(&recorded).enumerate() {
        let unit = unit_of(reference);
        let mut tolerance = Tolerance::of_graph(&graph, reference.dtype()).or_twice(case.max_abs_diff_ort_optimised);
        if reference.dtype().is_int() || rounds_values(&graph) {
            tolerance.floor = tolerance.floor.max(unit);
        }
        let Some(d) = compare(found, reference, tolerance) else {
            return Err(format!("found {}, recorded {}", found.ty(), reference.ty()));
        };
        // On average no farther than ONNX Runtime is from itself.
        let mean = (MEAN_UNITS * unit).max(theirs.get(index).copied().unwrap_or(0.0));
        worst.good &= d.beyond == 0 && (!quantized || d.mean_abs <= mean);
        if quantized && unit > 0.0 {
            worst.units = [worst.units[0].max(d.mean_abs / unit), worst.units[1].max(d.max_abs / unit)];
        }
        worst.max_abs = worst.max_abs.max(d.max_abs);
        worst.max_rel = worst.max_rel.max(d.max_rel);
        worst.sqnr = worst.sqnr.min(d.sqnr);
    }
    Ok(worst)
}

/// The operators that are missing, by name, or what else went wrong.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    if !matches!(error.kind(), adze_compiler::onnx::ErrorKind::Unsupported) {
        return format!("{}: {}", error.stage(), text.lines().next().unwrap_or_default());
    }
    // Every line starts with the operator, in backquotes, after an import's `unsupported: `.
    let op = |line: &str| Some(line.split('`').nth(1)?.split(' ').next()?.to_owned());
    let ops: BTreeSet<String> = text.lines().filter_map(op).collect();
    let ops: Vec<String> = ops.into_iter().collect();
    format!("{} lacks {}", error.stage(), if ops.is_empty() { text } else { ops.join(", ") })
}

/// What the heavy operators compute in.
fn arithmetic(built: &Built) -> &'static str {
    let (mut integer, mut float, mut quantized) = (0, 0, false);
    let program = &built.program;
    program.for_each_leaf(&mut |leaf| {
        let dtype = |i: usize| -> Option<DType> { Some(program.buffers[leaf.inputs.get(i)?.as_ref()?.buffer].dtype) };
        match leaf.op.name() {
            "quantize" | "dequantize" | "dynamic_quantize" => quantized = true,
            "conv_integer" | "matmul_integer" | "qlinear_conv" | "qlinear_matmul" => integer += 1,
            "conv" | "winograd_conv" | "conv_transpose" | "gemm" | "matmul" | "lstm" | "gru" | "rnn" | "attention"
            | "fused" => match (dtype(0), dtype(1)) {
                (Some(a), Some(b)) if a.is_int() && b.is_int() => integer += 1,
                _ => float += 1,
            },
            _ => {}
        }
    });
    match (integer, float, quantized) {
        (0, _, false) => "float",
        (0, _, true) => "float, from QDQ",
        (_, 0, _) => "integer",
        _ => "integer and float",
    }
}

/// Whether the model came with integers, or operators that make them.
fn is_quantized(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| {
        matches!(
            node.op,
            Op::Quantize(_) | Op::Dequantize(_) | Op::MatMulInteger(_) | Op::ConvInteger(_) | Op::QLinearConv(_)
        )
    })
}

/// Whether values are rounded to integers while the model runs: where a sum lies near a tie, two correct engines go apart by a unit.
fn rounds_values(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| matches!(node.op, Op::Quantize(_) | Op::DynamicQuantize(_) | Op::QLinearConv(_)))
}

/// How many convolutions, products and other kernels of a quantized model read and write nothing wider than bytes but
/// constants and sums.
fn shares(graph: &Graph, built: &Built) -> Option<String> {
    if !is_quantized(graph) {
        return None;
    }
    let mut counts = [("convolutions", 0, 0), ("products", 0, 0), ("others", 0, 0)];
    let program = &built.program;
    program.for_each_leaf(&mut |leaf| {
        let op = match &leaf.op {
            Op::Fused(fused) => fused.steps.iter().map(|s| &s.op).find(|op| kind(op) < 2).unwrap_or(&fused.anchor().op),
            op => op,
        };
        let views = leaf.inputs.iter().flatten().chain(&leaf.outputs).map(|view| &program.buffers[view.buffer]);
        let mut moving = views.filter(|buffer| !matches!(buffer.role, Role::Weight(_)));
        let in_bytes = match kind(op) {
            2 => moving.all(|buffer| buffer.dtype.bits() <= 8),
            _ => moving.next().is_some_and(|first| first.dtype.bits() <= 8),
        };
        let count = &mut counts[kind(op)];
        count.1 += usize::from(in_bytes);
        count.2 += 1;
    });
    let text = counts.iter().filter(|c| c.2 > 0).map(|(what, bytes, all)| format!("{bytes} of {all} {what}"));
    Some(text.collect::<Vec<_>>().join(", ") + " in bytes")
}

/// 0 for convolutions, 1 for products, 2 for the rest.
fn kind(op: &Op) -> usize {
    match op.name() {
        "conv" | "winograd_conv" | "conv_transpose" | "conv_integer" | "qlinear_conv" => 0,
        "matmul" | "gemm" | "matmul_integer" | "qlinear_matmul" | "attention" => 1,
        _ => 2,
    }
}

impl Outcome {
    fn passes(&self) -> bool {
        self.cases.as_ref().is_ok_and(|cases| !cases.is_empty() && cases.iter().all(|(_, a)| a.good))
    }

    /// What is expected to stay: no numbers.
    fn status(&self) -> String {
        match &self.cases {
            Err(why) => why.clone(),
            Ok(cases) => {
                let good = cases.iter().filter(|(_, a)| a.good).count();
                format!("{good} of {} cases, {}", cases.len(), self.arithmetic)
            }
        }
    }

    fn print(&self, model: &Model, out: &mut String) {
        let name = &model.name;
        // Writing to a string cannot fail.
        let _ = match &self.cases {
            Err(why) => writeln!(out, "{name:<34} {why}"),
            Ok(cases) => cases.iter().try_for_each(|(case, a)| {
                let verdict = if a.good { "ok" } else { "DIFFERS" };
                let kib = self.arena_bytes.div_ceil(1024);
                writeln!(
                    out,
                    "{name:<34} {case:<14} {verdict:<8} abs {:<9.2e} rel {:<9.2e} SQNR {:<6.1} {:<17} units {:.4} {:.4} arena {kib} KiB",
                    a.max_abs, a.max_rel, a.sqnr, self.arithmetic, a.units[0], a.units[1]
                )
            }),
        };
    }
}
