//! Graphs on which every order of always applying or never applying the rules loses: choosing among all forms together wins.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use adze_ir::eval::eval_graph;
use adze_ir::exact::{Exactness, NORM_TRANSCENDENTAL};
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::propose::{CostModel, OpFacts, PlainMachine};
use adze_ir::sample;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};
use adze_passes::pass::{Optimizer, PassOptions};
use adze_passes::pipeline::{DEFAULT, Runner};

fn optimised(source: &Graph, optimizer: Optimizer) -> Graph {
    let (options, mut graph) = (PassOptions { optimizer, ..PassOptions::default() }, source.clone());
    let runner = Runner { options: &options, costs: &PlainMachine, verify: true, stop_after: None };
    runner.run(&mut graph, DEFAULT, &mut |_, _| {}).unwrap();
    graph
}

/// Weight of all kernels.
fn weight(graph: &Graph) -> u64 {
    let nodes = graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_)));
    let cost = |node: &adze_ir::graph::Node| {
        let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
        let ask = |facts: &OpFacts<'_>| PlainMachine.cost(&node.op, facts).unwrap().weight();
        OpFacts::in_graph(graph, &node.inputs, &outputs, ask)
    };
    nodes.map(|(_, node)| cost(node)).sum()
}

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let tensor = |&value: &adze_ir::graph::ValueId| {
        let shape = graph.ty(value).fixed_shape().unwrap();
        let values: Vec<f64> =
            (0..shape.iter().product::<usize>()).map(|i| (i * 29 % 101) as f64 / 25.0 - 2.0).collect();
        let dtype = graph.ty(value).dtype;
        if dtype.is_float() {
            return Tensor::from_f64(dtype, &shape, &values);
        }
        let bytes: Vec<i128> = (0..values.len()).map(|i| i as i128 * 29 % 256).collect();
        Tensor::from_ints(dtype, &shape, &bytes)
    };
    graph.inputs().iter().map(tensor).collect()
}

#[test]
fn joint_choice_wins_where_every_order_loses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/joint");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    assert!(paths.len() >= 6);
    for path in paths {
        let source = sample::graph(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let inputs = inputs(&source);
        let expected = eval_graph(&source, &inputs).unwrap();
        let weigh = |optimizer: Optimizer| {
            let graph = optimised(&source, optimizer);
            let found = eval_graph(&graph, &inputs).unwrap();
            let bound = |of: &Tensor| match of.dtype() {
                DType::F32 => Exactness::Norm(NORM_TRANSCENDENTAL),
                // One rounding instead of two, twice.
                _ => Exactness::Lsb(2),
            };
            let near = |(f, e): (&Tensor, &Tensor)| bound(e).holds(f, e, 256, 8.0);
            assert!(found.iter().zip(&expected).all(near), "{name}: {optimizer:?} computes something else\n{graph}");
            weight(&graph)
        };
        let [joint, greedy, never] = [Optimizer::Joint, Optimizer::Greedy, Optimizer::Canonical].map(weigh);
        println!("{name}: joint {joint}, greedy {greedy}, canonical {never}");
        // Quantized forms are chosen jointly where only few rules run, too.
        let more = never > joint || (name == "quantized" && never == joint);
        assert!(joint < greedy && more, "{name}: joint {joint}, greedy {greedy}, canonical {never}");
    }
}
