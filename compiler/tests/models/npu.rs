//! Networks of bytes on the BM1684X: the simulator against the interpreter, and the vendor's against both.

use std::fmt::Write as _;

use adze_compiler::npu;
use adze_ir::eval::eval_graph;
use adze_ir::tensor::Tensor;

use crate::shared::{like, model, skip};

/// Networks that compile.
const NETWORKS: &[&str] =
    &["mlperf_ad_autoencoder_int8", "mlperf_kws_dscnn_int8", "mlperf_ic_resnet8_int8", "mlperf_vww_mobilenetv1_int8"];

/// Largest difference of two tensors, and how many elements differ.
fn difference(a: &Tensor, b: &Tensor) -> (i64, usize) {
    let differences = a.to_i64().into_iter().zip(b.to_i64()).map(|(a, b)| (a - b).abs());
    let differences: Vec<i64> = differences.collect();
    (differences.iter().copied().max().unwrap_or(0), differences.iter().filter(|&&d| d != 0).count())
}

/// The larger one, with `ADZE_ALL=1`: a minute and a half without optimisation.
const LARGE: &[&str] = &["mobilenet_v2_int8_qdq"];

/// How a network fares.
struct Outcome {
    cycles: u64,
    /// To the interpreter, over the recorded case and seeded inputs.
    interpreted: (i64, usize),
    /// To the recorded output.
    recorded: (i64, usize),
}

fn outcome(name: &str, vendor: bool) -> Option<Outcome> {
    let model = model(name)?;
    let (recorded, expected) = model.tensors(&model.cases[0]);
    let (graph, recorded) = model.graph_for(&recorded).unwrap();
    let program = npu::compile(&graph).unwrap();
    let seeded = like(&recorded, &mut fastrand::Rng::with_seed(7));
    let mut outcome = Outcome { cycles: program.cycles(), interpreted: (0, 0), recorded: (0, 0) };
    for (index, inputs) in [&recorded, &seeded].into_iter().enumerate() {
        let found = npu::run(&program, inputs).unwrap();
        let (most, count) = difference(&found[0], &eval_graph(&graph, inputs).unwrap()[0]);
        outcome.interpreted = (outcome.interpreted.0.max(most), outcome.interpreted.1 + count);
        if index == 0 {
            outcome.recorded = difference(&found[0], &expected[0]);
        }
        if vendor {
            assert_eq!(npu::run_vendor(&program, inputs).unwrap(), found, "{name}: the vendor's simulator");
        }
    }
    Some(outcome)
}

/// The recorded case, and seeded inputs beside it.
#[test]
fn on_the_bm1684x() {
    let vendor = npu::vendor_libraries().is_ok();
    if !vendor {
        skip("the vendor's libraries (`ADZE_TPU_MLIR`)");
    }
    let mut table = String::new();
    for name in NETWORKS {
        let Some(Outcome { cycles, interpreted, recorded }) = outcome(name, vendor) else { return };
        let _ = writeln!(
            table,
            "{name:<34} {cycles:>7} cycles; to the interpreter at most {} in {} elements, to the recorded output {} in {}",
            interpreted.0, interpreted.1, recorded.0, recorded.1
        );
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("bm1684x", table);
    });
    for name in LARGE.iter().filter(|_| std::env::var_os("ADZE_ALL").is_some()) {
        let found = outcome(name, vendor).map(|outcome| outcome.interpreted);
        assert_eq!(found, Some((0, 0)), "{name}");
    }
}
