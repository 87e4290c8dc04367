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

/// The recorded case, and seeded inputs beside it.
#[test]
fn on_the_bm1684x() {
    let mut table = String::new();
    let vendor = npu::vendor_libraries().is_ok();
    if !vendor {
        skip("the vendor's libraries (`ADZE_TPU_MLIR`)");
    }
    for name in NETWORKS {
        let Some(model) = model(name) else { return };
        let (recorded, expected) = model.tensors(&model.cases[0]);
        let (graph, recorded) = model.graph_for(&recorded).unwrap();
        let program = npu::compile(&graph).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let seeded = like(&recorded, &mut random);
        let mut worst = (0, 0);
        for inputs in [&recorded, &seeded] {
            let found = npu::run(&program, inputs).unwrap();
            let interpreted = eval_graph(&graph, inputs).unwrap();
            let (most, count) = difference(&found[0], &interpreted[0]);
            worst = (worst.0.max(most), worst.1 + count);
            if vendor {
                assert_eq!(npu::run_vendor(&program, inputs).unwrap(), found, "{name}: the vendor's simulator");
            }
        }
        let found = npu::run(&program, &recorded).unwrap();
        let to_recorded = difference(&found[0], &expected[0]);
        let _ = writeln!(
            table,
            "{name:<34} {:>7} cycles; to the interpreter at most {} in {} elements, to the recorded output {} in {}",
            program.cycles(),
            worst.0,
            worst.1,
            to_recorded.0,
            to_recorded.1
        );
    }
    eprintln!("{table}");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("bm1684x", table);
    });
}
