//! Compiled code against the interpreter on seeded inputs, and on a second batch where the models record one size only.

use std::fmt::Write as _;

use adze_compiler::compare::{Tolerance, compare};
use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;

use crate::shared::{Model, build_here, like, models, run, values_like};

/// Seeded inputs per model.
const SEEDS: u64 = 3;

/// Which models agree is a snapshot: where activations are quantized on the way, a sum on either side of a tie rounds
/// apart and later ones move with it, so that two correct implementations differ by more than any one operator does.
#[test]
fn seeded_inputs() {
    let models = models();
    if models.is_empty() {
        return;
    }
    let (mut agreed, mut bad) = (String::new(), Vec::new());
    for model in &models {
        let (inputs, _) = model.tensors(&model.cases[0]);
        let Ok((graph, inputs)) = model.graph_for(&inputs) else { continue };
        // What has no kernel yet is listed by the recorded cases.
        let Ok(built) = build_here(&graph) else { continue };
        let mut good = 0;
        for seed in 0..SEEDS {
            let inputs = like(&inputs, &mut fastrand::Rng::with_seed(seed));
            match (eval_graph(&graph, &inputs), run(&built, &inputs)) {
                (Ok(expected), Ok(found)) => {
                    let differences = differences(model, &graph, &found, &expected);
                    good += u64::from(differences.is_empty());
                    differences.iter().for_each(|d| eprintln!("{} seed {seed}: {d}", model.name));
                }
                (Err(_), Err(_)) => good += 1,
                (Ok(_), Err(e)) => bad.push(format!("{} seed {seed}: native: {e}", model.name)),
                (Err(e), Ok(_)) => bad.push(format!("{} seed {seed}: interpreter: {e}", model.name)),
            }
        }
        // Writing to a string cannot fail.
        let _ = writeln!(agreed, "{:<34} {good} of {SEEDS} seeds", model.name);
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("seeded", agreed);
    });
}

#[test]
fn second_batch() {
    let mut bad = Vec::new();
    for model in models().iter().filter(|m| m.dynamic) {
        let recorded: Vec<Vec<Tensor>> = model.cases.iter().map(|c| model.tensors(c).0).collect();
        let same = |other: &Vec<Tensor>| other.iter().zip(&recorded[0]).all(|(a, b)| a.shape() == b.shape());
        if !recorded.iter().all(same) {
            continue;
        }
        let mut random = fastrand::Rng::with_seed(7);
        let inputs: Vec<Tensor> = recorded[0]
            .iter()
            .map(|tensor| {
                let mut shape = tensor.shape().to_vec();
                shape.iter_mut().take(1).for_each(|batch| *batch += 1);
                values_like(tensor, &shape, &mut random)
            })
            .collect();
        let (graph, inputs) = model.graph_for(&inputs).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let Ok(built) = build_here(&graph) else { continue };
        let expected = eval_graph(&graph, &inputs).unwrap();
        let found = run(&built, &inputs).unwrap();
        let differences = differences(model, &graph, &found, &expected);
        bad.extend(differences.into_iter().map(|d| format!("{} at another batch: {d}", model.name)));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The outputs that are farther apart than their dtype's tolerance, or twice what ONNX Runtime's optimiser changes.
fn differences(model: &Model, graph: &Graph, found: &[Tensor], expected: &[Tensor]) -> Vec<String> {
    let twice = model.cases.iter().map(|c| c.max_abs_diff_ort_optimised).fold(0.0, f64::max);
    let mut bad = Vec::new();
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let tolerance = Tolerance::of_graph(graph, expected.dtype()).or_twice(twice).or_unit(expected.dtype());
        match compare(found, expected, tolerance) {
            None => bad.push(format!("output {index}: found {}, interpreter {}", found.ty(), expected.ty())),
            Some(d) if d.beyond > 0 => bad.push(format!("output {index}: {d:?}")),
            Some(_) => {}
        }
    }
    bad
}
