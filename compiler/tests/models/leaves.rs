//! Every leaf of some models by itself: the native kernel against [`Op::eval`](adze_ir::ops::Op::eval) on the operands
//! that the tile interpreter met it with.

use std::collections::{BTreeMap, BTreeSet};

use adze_compiler::build::{BuildOptions, Built, build, finish};
use adze_compiler::stage::{Artifact, Trace};
use adze_ir::eval::{LeafEvent, eval_program_observed};
use adze_ir::exact::{Exactness, largest};
use adze_ir::extent::Extent;
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::tile::{Binding, Buffer, Leaf, Program, Role, Stmt, View, memory};
use adze_passes::memory::Plan;

use crate::shared::{host, model, run};

/// A handful of every kind: convolutions, quantized forms, recurrences, attention, 16-bit floats.
const MODELS: [&str; 9] = [
    "mlperf_kws_dscnn_f32",
    "mlperf_vww_mobilenetv1_int8",
    "resnet20_cifar10_qoperator_int8",
    "lprnet_plate_ocr",
    "fastestdet_fp16",
    "dtln_stage1",
    "silero_vad_v6",
    "clinc_intent_bert_f32",
    "stories260k_llama_dynamic_int8",
];

#[test]
fn leaf_by_leaf() {
    let mut bad = Vec::new();
    for name in MODELS {
        let Some(model) = model(name) else { return };
        let (inputs, _) = model.tensors(&model.cases[0]);
        let (graph, inputs) = model.graph_for(&inputs).unwrap();
        let built = build(&graph, &BuildOptions::new(host())).unwrap_or_else(|e| panic!("{name}: {e}"));
        let program = &built.program;
        let (mut seen, mut checked) = (BTreeSet::new(), 0);
        let mut observe = |event: LeafEvent<'_>| {
            // The same operator on the same types has the same kernel.
            let types: Vec<_> = event.inputs.iter().map(|t| t.as_ref().map(|t| t.ty().to_string())).collect();
            if seen.insert(format!("{} {types:?}", event.leaf.op)) {
                checked += 1;
                if let Err(why) = check(program, &event) {
                    bad.push(format!("{name}: `{}` {}: {why}", event.leaf.op, event.leaf.loc));
                }
            }
        };
        eval_program_observed(program, &inputs, &mut observe).unwrap_or_else(|e| panic!("{name}: {e}"));
        eprintln!("{name}: {checked} leaves");
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Builds the leaf alone, runs it, compares.
fn check(program: &Program, event: &LeafEvent<'_>) -> Result<(), String> {
    let (alone, inputs) = alone(program, event);
    let artifact = Artifact::Planned(Box::new(alone.clone()));
    let package = finish(artifact, &BuildOptions::new(host()), &mut Trace::default()).map_err(|e| e.to_string())?;
    let built = Built { program: alone, plan: Plan::default(), notes: Vec::new(), package };
    let found = run(&built, &inputs).map_err(|e| e.to_string())?;
    let exactness = Exactness::of_kernel(&event.leaf.op);
    let magnitudes: Vec<Option<Tensor>> = event.inputs.iter().map(|t| t.as_ref().map(magnitude)).collect();
    let operands: Vec<Option<&Tensor>> = magnitudes.iter().map(Option::as_ref).collect();
    let upper = event.leaf.op.eval(&operands, &|name| event.symbols.get(name).copied()).ok();
    for (index, (found, expected)) in found.iter().zip(event.results).enumerate() {
        // What the sums would be if nothing cancelled.
        let scale = upper.as_ref().map_or(0.0, |all| largest(&all[index].to_f64()));
        if !exactness.holds(found, expected, terms(event), scale) {
            return Err(format!("result {index}: off by {:e} at {scale:e}, {exactness}", worst(found, expected)));
        }
    }
    Ok(())
}

/// Terms of the sum behind an element of a convolution or matrix product; 1 for what has no such sum, or a short one.
fn terms(event: &LeafEvent<'_>) -> usize {
    let op = match &event.leaf.op {
        Op::Fused(fused) => &fused.anchor().op,
        op => op,
    };
    let shape = |at: usize| event.inputs.get(at).and_then(Option::as_ref).map(Tensor::shape).unwrap_or_default();
    match op {
        Op::Conv(_) | Op::WinogradConv(_) => shape(1).iter().skip(1).product(),
        Op::MatMul(_) | Op::Gemm(_) => shape(0).last().copied().unwrap_or(1),
        _ => 1,
    }
}

/// `max|d|`; NaN equals NaN, an infinity only itself.
fn worst(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let difference = |(&a, &b): (&f64, &f64)| if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() };
    found.iter().zip(&expected).map(difference).map(|d| if d.is_nan() { f64::INFINITY } else { d }).fold(0.0, f64::max)
}

fn magnitude(tensor: &Tensor) -> Tensor {
    if !tensor.dtype().is_float() {
        return tensor.clone();
    }
    let values: Vec<f64> = tensor.to_f64().into_iter().map(f64::abs).collect();
    Tensor::from_f64(tensor.dtype(), tensor.shape(), &values)
}

/// A program of this leaf alone with its extents fixed. Whole constants stay constants, so that kernels pack them;
/// layouts stay too.
fn alone(program: &Program, event: &LeafEvent<'_>) -> (Program, Vec<Tensor>) {
    let lookup = |name: &str| event.symbols.get(name).copied();
    let mut alone = Program::new("leaf");
    alone.consts = program.consts.clone();
    let mut tensors = Vec::new();
    let mut views = Vec::new();
    for (view, tensor) in event.leaf.inputs.iter().zip(event.inputs) {
        let (Some(view), Some(tensor)) = (view, tensor) else {
            views.push(None);
            continue;
        };
        let old = &program.buffers[view.buffer];
        let mut buffer = Buffer::temp("operand", old.dtype, extents(tensor.shape()), memory::INPUT);
        buffer.layout = old.layout.clone();
        let constant = matches!(old.role, Role::Weight(_)) && view.is_whole(old);
        if constant {
            (buffer.role, buffer.memory) = (old.role.clone(), memory::WEIGHTS.into());
        } else {
            buffer.role = Role::Input(u32::try_from(tensors.len()).unwrap());
        }
        let id = alone.buffers.push(buffer);
        let whole = View::whole(id, &alone.buffers[id]);
        if !constant {
            alone.inputs.push(Binding { name: format!("in_{}", tensors.len()).into(), view: whole.clone() });
            tensors.push(tensor.clone());
        }
        views.push(Some(whole));
    }
    let mut outputs = Vec::new();
    for (index, (view, tensor)) in event.leaf.outputs.iter().zip(event.results).enumerate() {
        let old = &program.buffers[view.buffer];
        let mut buffer = Buffer::temp("result", old.dtype, extents(tensor.shape()), memory::OUTPUT);
        buffer.layout = old.layout.clone();
        buffer.role = Role::Output(u32::try_from(index).unwrap());
        let id = alone.buffers.push(buffer);
        let whole = View::whole(id, &alone.buffers[id]);
        alone.outputs.push(Binding { name: format!("out_{index}").into(), view: whole.clone() });
        outputs.push(whole);
    }
    let op = event.leaf.op.bind(&lookup).unwrap();
    let leaf = Leaf { op, inputs: views, outputs, schedule: None, loc: event.leaf.loc.clone() };
    alone.memories = BTreeMap::new();
    alone.body = vec![Stmt::Leaf(leaf)];
    (alone, tensors)
}

fn extents(shape: &[usize]) -> Vec<Extent> {
    shape.iter().map(|&dim| dim.into()).collect()
}
