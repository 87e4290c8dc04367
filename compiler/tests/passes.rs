//! The default pipeline on whole models: verified after each pass, and the interpreter agrees before and after.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::load::load;
use adze_compiler::onnx::ImportOptions;
use adze_ir::egraph::{Region, saturate};
use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::propose::{CostModel, OpFacts, PlainMachine};
use adze_ir::sample;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};
use adze_passes::pass::{Optimizer, PassCx, PassOptions};
use adze_passes::pipeline::{DEFAULT, Report, Runner};
use adze_passes::rules::rules;
use adze_passes::saturate::gaps;
use adze_targets::cpu::{CpuModel, Machine};

fn optimise(graph: &mut Graph) -> Report {
    let options = PassOptions::default();
    let model = CpuModel::new(Machine::from_name("x86_64-v3").unwrap());
    let runner = Runner { options: &options, costs: &model, verify: true, stop_after: None };
    runner.run(graph, DEFAULT, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", graph.name))
}

/// Numbers from a linear congruence: the same on every run.
fn inputs(graph: &Graph) -> Option<Vec<Tensor>> {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / f64::from(1u32 << 24) * 2.0 - 1.0
    };
    let make = |&value| {
        let ty = graph.ty(value);
        let least = |name: &str| graph.dims.get(name).map(|range| range.lo);
        let shape: Option<Vec<usize>> =
            ty.shape.iter().map(|e| e.eval(&least).and_then(|v| usize::try_from(v).ok())).collect();
        let shape = shape?;
        let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| next()).collect();
        (ty.dtype == DType::F32).then(|| Tensor::from_f64(ty.dtype, &shape, &values))
    };
    graph.inputs().iter().map(make).collect()
}

/// `None` when the importer refuses the model: that is another test's matter.
fn check(path: &Path, evaluate: bool) -> Option<Report> {
    let graph = load(path, &ImportOptions::default()).inspect_err(|e| println!("{}: {e}", path.display())).ok()?.graph;
    let mut after = graph.clone();
    let report = optimise(&mut after);
    let mut again = graph.clone();
    optimise(&mut again);
    assert_eq!(after.to_string(), again.to_string(), "the same input gives the same graph");
    println!("{}: {} -> {} nodes", path.display(), graph.order().len(), after.order().len());
    for run in &report.runs {
        println!("  {:16} {:?} {:?} {:?}", run.name, run.changed, run.nodes, run.time);
    }
    if evaluate && let Some(inputs) = inputs(&graph) {
        let (expected, found) = (eval_graph(&graph, &inputs).unwrap(), eval_graph(&after, &inputs).unwrap());
        for (e, f) in expected.iter().zip(&found) {
            let difference = compare(f, e, Tolerance::of(e.dtype())).expect("the same type");
            println!("  {difference:?}");
            assert_eq!(difference.beyond, 0, "{}: {difference:?}", path.display());
        }
    }
    Some(report)
}

#[test]
fn shipped_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/models");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "onnx") {
            assert!(check(&path, true).is_some());
            seen += 1;
        }
    }
    assert!(seen >= 2, "the models are there");
}

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("ADZE_SHARED").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let there = folder.join("models").is_dir();
    assert!(there || std::env::var_os("CI").is_none(), "CI has the shared models");
    there.then(|| folder.join("models"))
}

/// The models of a folder; those that `ADZE_MODEL` names, if it is set.
fn models(folder: &Path) -> Vec<PathBuf> {
    let only = std::env::var("ADZE_MODEL").unwrap_or_default();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx") && p.to_string_lossy().contains(&only))
        .collect();
    paths.sort();
    paths
}

#[test]
fn shared_models() {
    let Some(folder) = shared() else { return };
    for path in models(&folder) {
        // Evaluation in the interpreter takes seconds per model: small ones only.
        let small = std::fs::metadata(&path).unwrap().len() < 1_000_000;
        check(&path, small);
    }
}

/// Extraction against the cheapest choice there is, on the regions of the shared models for which that can be proved.
#[test]
fn extraction_is_near_the_optimum_on_shared_models() {
    let Some(folder) = shared() else { return };
    let options = PassOptions::default();
    let model = CpuModel::new(Machine::from_name("x86_64-v3").unwrap());
    let (mut proved, mut open, mut sum, mut worst) = (0u32, 0u32, 0.0f64, 0.0f64);
    for path in models(&folder) {
        let Ok(loaded) = load(&path, &ImportOptions::default()) else { continue };
        let mut graph = loaded.graph;
        let runner = Runner { options: &options, costs: &model, verify: false, stop_after: None };
        runner.run(&mut graph, &["canonicalize", "integers", "fold-constants"], &mut |_, _| {}).unwrap();
        for gap in gaps(&graph, &PassCx::new(&options, &model), 1 << 18) {
            let Some((found, least)) = gap else {
                open += 1;
                continue;
            };
            assert!(least <= found, "{}: {least} is said to be under {found}", path.display());
            let gap = (found - least) as f64 / least.max(1) as f64;
            (proved, sum, worst) = (proved + 1, sum + gap, worst.max(gap));
        }
    }
    let mean = sum / f64::from(proved.max(1));
    println!("{proved} regions proved, {open} not; mean gap {:.4} %, worst {:.4} %", 100.0 * mean, 100.0 * worst);
    assert!(proved >= 10 && mean <= 0.01, "mean gap {mean} on {proved} regions");
}

/// Choosing forms first, by arithmetic and traffic, and their tiles afterwards loses against choosing forms by the tiles that they
/// have.
#[test]
fn forms_are_chosen_by_their_tiles() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/joint/cpu/tiling.graph");
    let source = sample::graph(&std::fs::read_to_string(path).unwrap()).unwrap();
    let model = CpuModel::new(Machine::from_name("x86_64-v3").unwrap());
    let weigh = |optimizer: Optimizer, costs: &dyn CostModel| {
        let (options, mut graph) = (PassOptions { optimizer, ..PassOptions::default() }, source.clone());
        let runner = Runner { options: &options, costs, verify: true, stop_after: None };
        runner.run(&mut graph, DEFAULT, &mut |_, _| {}).unwrap();
        let nodes = graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_)));
        let cost = |node: &adze_ir::graph::Node| {
            let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
            OpFacts::in_graph(&graph, &node.inputs, &outputs, |facts| model.cost(&node.op, facts).unwrap().weight())
        };
        nodes.map(|(_, node)| cost(node)).sum::<u64>()
    };
    let [joint, greedy, never] =
        [Optimizer::Joint, Optimizer::Greedy, Optimizer::Canonical].map(|optimizer| weigh(optimizer, &model));
    let forms_first = weigh(Optimizer::Joint, &PlainMachine);
    println!("joint {joint}, forms first {forms_first}, greedy {greedy}, canonical {never}");
    assert!(joint < forms_first && joint < never && joint <= greedy);
}

/// Under an arena limit a convolution gives up the form that is cheaper but wants scratch memory.
#[test]
fn a_limit_is_kept_by_forms_that_hold_less() {
    let text = "graph @two {
        input %x \"x\" : f32[1,64,32,32]
        %v = random f32[64,64,3,3]
        %w = random f32[64,64,3,3]
        %a = conv %x, %v {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} : f32[1,64,32,32]
        %r = relu %a : f32[1,64,32,32]
        %y = conv %r, %w {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} : f32[1,64,32,32]
        output \"y\" = %y
    }";
    let graph = sample::graph(text).unwrap();
    let built = |arena_limit: Option<u64>| {
        let machine = Machine::from_name("x86_64-v3").unwrap();
        let built = build(&graph, &BuildOptions { arena_limit, ..BuildOptions::new(machine) }).unwrap();
        (built.package.manifest.arena_bytes, built.program.to_string().matches("winograd_conv").count())
    };
    let (whole, by_tiles) = built(None);
    // Two activations, channels last, and the header.
    let limit = 2 * 4 * 64 * 32 * 32 + 4096;
    let (least, still_by_tiles) = built(Some(limit));
    println!("{whole} bytes with {by_tiles} convolutions by tiles, {least} with {still_by_tiles}");
    assert!(whole > limit && by_tiles > 0 && least <= limit && still_by_tiles < by_tiles);
}

/// How much the rules add to the digits models: a rule that starts to multiply forms is seen here.
#[test]
fn the_rules_stay_small_on_the_shipped_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/models");
    for name in ["digits_cnn.onnx", "digits_mlp.onnx"] {
        let graph = load(&folder.join(name), &ImportOptions::default()).unwrap().graph;
        let nodes: Vec<_> = graph.nodes().filter(|(_, n)| !matches!(n.op, Op::Constant(_))).map(|(id, _)| id).collect();
        let outputs: Vec<_> = graph.outputs().iter().map(|output| output.value).collect();
        let mut region = Region::new(&graph, &nodes, &outputs);
        let source = region.egraph.total_size();
        let (_, stats) =
            saturate(std::mem::take(&mut region.egraph), &rules("saturate", adze_targets::cpu::FAMILIES), 12, 100_000);
        println!("{name}: {source} e-nodes, {stats:?}");
        assert!(stats.saturated, "{name}: {stats:?}");
        assert!(stats.nodes <= 3 * source, "{name}: {source} e-nodes became {}", stats.nodes);
    }
}
