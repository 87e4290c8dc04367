//! Networks on the BM1684X: the simulator against the interpreter, and the vendor's against both.

use std::fmt::Write as _;

use adze_compiler::build::BuildOptions;
use adze_compiler::npu::{self, Float};
use adze_ir::eval::eval_graph;
use adze_ir::tensor::Tensor;
use adze_targets::bm1684x::Program;

use crate::shared::{like, model, skip};

/// Networks that compile.
const NETWORKS: &[&str] = &[
    "mlperf_ad_autoencoder_int8",
    "mlperf_kws_dscnn_int8",
    "mlperf_ic_resnet8_int8",
    "mlperf_vww_mobilenetv1_int8",
    "resnet20_cifar10_qoperator_int8",
];

/// Largest difference of tensors, and how many elements differ.
fn difference(a: &[Tensor], b: &[Tensor]) -> (f64, usize) {
    let values = |tensors: &[Tensor]| tensors.iter().flat_map(Tensor::to_f64).collect::<Vec<f64>>();
    let differences: Vec<f64> = values(a).into_iter().zip(values(b)).map(|(a, b)| (a - b).abs()).collect();
    (differences.iter().copied().fold(0.0, f64::max), differences.iter().filter(|&&d| d != 0.0).count())
}

/// The larger ones, with `ADZE_ALL=1`: minutes without optimisation.
const LARGE: &[&str] = &["mobilenet_v2_int8_qdq", "twinlitenet_int8_qdq"];

/// How a network fares.
struct Outcome {
    cycles: u64,
    /// To the interpreter on the graph of integers, over the recorded case and seeded inputs.
    interpreted: (f64, usize),
    /// To the recorded output.
    recorded: (f64, usize),
}

fn outcome(name: &str, vendor: bool) -> Option<Outcome> {
    let model = model(name)?;
    let (recorded, expected) = model.tensors(&model.cases[0]);
    let (graph, recorded) = model.graph_for(&recorded).unwrap();
    let program = npu::compile(&graph, None).unwrap();
    let integers = npu::lowered(&graph, None).unwrap();
    let seeded = like(&recorded, &mut fastrand::Rng::with_seed(7));
    let mut outcome = Outcome { cycles: program.cycles(), interpreted: (0.0, 0), recorded: (0.0, 0) };
    for (index, inputs) in [&recorded, &seeded].into_iter().enumerate() {
        let found = npu::run(&program, inputs).unwrap();
        let (most, count) = difference(&found, &eval_graph(&integers, inputs).unwrap());
        outcome.interpreted = (outcome.interpreted.0.max(most), outcome.interpreted.1 + count);
        if index == 0 {
            outcome.recorded = difference(&found, &expected);
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
        assert_eq!(found, Some((0.0, 0)), "{name}");
    }
}

/// Networks of floats that compile to 16-bit ones, and the types that are tried.
const FLOATS: &[(&str, &[Float])] = &[
    ("mlperf_ic_resnet8_f32", &[Float::F16, Float::Bf16]),
    ("mlperf_kws_dscnn_f32", &[Float::F16, Float::Bf16]),
    ("g1_humanoid_policy", &[Float::F16, Float::Bf16]),
    ("clinc_intent_bert_f32", &[Float::F16, Float::Bf16]),
];

/// The larger ones, with `ADZE_ALL=1`: minutes without optimisation.
const LARGE_FLOATS: &[(&str, &[Float])] = &[
    ("mlperf_ad_autoencoder_f32", &[Float::F16]),
    ("mlperf_vww_mobilenetv1_f32", &[Float::F16]),
    ("resnet20_cifar10_f32", &[Float::F16]),
    ("facemesh_landmark", &[Float::F16]),
    ("ultraface_rfb320", &[Float::F16]),
    ("super_resolution_espcn", &[Float::F16]),
    ("mobilenet_v2_f32", &[Float::F16]),
    ("lprnet_plate_ocr", &[Float::F16]),
    ("twinlitenet_f32", &[Float::F16]),
];

/// Power of a tensor over that of what differs, in dB: for all outputs, the least.
fn quality(found: &[Tensor], expected: &[Tensor]) -> f64 {
    let one = |(found, expected): (&Tensor, &Tensor)| {
        let (found, expected) = (found.to_f64(), expected.to_f64());
        let power: f64 = expected.iter().map(|v| v * v).sum();
        let error: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b) * (a - b)).sum();
        10.0 * (power / error.max(f64::MIN_POSITIVE)).log10()
    };
    found.iter().zip(expected).map(one).fold(f64::INFINITY, f64::min)
}

/// Networks of floats in types of 16 bits, against their recorded outputs.
#[test]
fn floats_on_the_bm1684x() {
    let vendor = npu::vendor_libraries().is_ok();
    if !vendor {
        skip("the vendor's libraries (`ADZE_TPU_MLIR`)");
    }
    let large = LARGE_FLOATS.iter().filter(|_| std::env::var_os("ADZE_ALL").is_some());
    for (name, types) in FLOATS.iter().chain(large) {
        let Some(model) = model(name) else { return };
        let (inputs, expected) = model.tensors(&model.cases[0]);
        let (graph, inputs) = model.graph_for(&inputs).unwrap();
        for &float in *types {
            let program = npu::compile(&graph, Some(float)).unwrap();
            let found = npu::run(&program, &inputs).unwrap();
            let quality = quality(&found, &expected);
            println!("{name:<28} {float:?}: {} cycles, {quality:.1} dB", program.cycles());
            assert!(quality >= 40.0, "{name}, {float:?}: {quality:.1} dB");
            if vendor {
                assert_eq!(npu::run_vendor(&program, &inputs).unwrap(), found, "{name}: the vendor's simulator");
            }
        }
    }
}

/// Networks of which the chip runs a part.
const IN_PHASES: &[(&str, Float)] = &[("dtln_stage1", Float::F16)];

/// With phases on the CPU, the outputs are near those of the interpreter, and the vendor's simulator makes the same as ours.
#[test]
fn in_phases_on_the_bm1684x() {
    let Some(machine) = adze_targets::cpu::Machine::host() else { return skip("a code generator for this machine") };
    for &(name, float) in IN_PHASES {
        let Some(model) = model(name) else { return };
        let (inputs, _) = model.tensors(&model.cases[0]);
        let (graph, inputs) = model.graph_for(&inputs).unwrap();
        let phased = npu::phased::compile(&graph, Some(float), &BuildOptions::new(machine.clone())).unwrap();
        assert!(phased.parts.len() > 1, "{name} has phases");
        let found = phased.run(&inputs, false).unwrap();
        let quality = quality(&found, &eval_graph(&graph, &inputs).unwrap());
        println!("{name}: {} phases, {quality:.1} dB", phased.parts.len());
        assert!(quality >= 40.0, "{name}: {quality:.1} dB");
        if npu::vendor_libraries().is_ok() {
            assert_eq!(phased.run(&inputs, true).unwrap(), found, "{name}: the vendor's simulator");
        }
    }
}

/// Without a type for them, floats are refused with what to do about it.
#[test]
fn floats_want_a_type() {
    let Some(model) = model("mlperf_ic_resnet8_f32") else { return };
    let (inputs, _) = model.tensors(&model.cases[0]);
    let (graph, _) = model.graph_for(&inputs).unwrap();
    let refused = npu::compile(&graph, None).unwrap_err().to_string();
    assert!(refused.contains("--float f16") && refused.contains("a convolution of floats of 32 bits"), "{refused}");
}

/// Networks and less local memory than they want, in bytes per lane.
const IN_PARTS: &[(&str, u32)] = &[("mlperf_ic_resnet8_int8", 4096), ("mlperf_vww_mobilenetv1_int8", 12288)];

/// In too little local memory networks are done in parts, with the same results here and in the vendor's runtime.
#[test]
fn on_the_bm1684x_in_parts() {
    for &(name, lane_bytes) in IN_PARTS {
        let Some(model) = model(name) else { return };
        let (inputs, _) = model.tensors(&model.cases[0]);
        let (graph, inputs) = model.graph_for(&inputs).unwrap();
        let (whole, parts) =
            (npu::compile(&graph, None).unwrap(), npu::compile_within(&graph, None, lane_bytes).unwrap());
        assert!(parts.streams.peak_bytes <= lane_bytes && parts.context[1] > whole.context[1], "{name} is in parts");
        let found = npu::run(&parts, &inputs).unwrap();
        assert_eq!(found, npu::run(&whole, &inputs).unwrap(), "{name}");
        if npu::vendor_libraries().is_ok() {
            assert_eq!(npu::run_vendor(&parts, &inputs).unwrap(), found, "{name}: the vendor's simulator");
        }
        println!("{name}: {} cycles as a whole, {} in parts", whole.cycles(), parts.cycles());
    }
}

/// Reports and timelines are about all of a program, also of one that was read from its package.
#[test]
fn reports_on_the_bm1684x() {
    let Some(model) = model("mlperf_ic_resnet8_int8") else { return };
    let (inputs, _) = model.tensors(&model.cases[0]);
    let (graph, _) = model.graph_for(&inputs).unwrap();
    let phased = npu::phased::alone(&graph, None).unwrap();
    let program = phased.programs().next().unwrap();
    let read = Program::from_bmodel(&phased.bmodel().unwrap()).unwrap();
    let (report, again) = (npu::report::report(&phased), npu::report::command_lines(&read, 0));
    assert_eq!(
        report.lines.iter().map(|line| &line.nodes).collect::<Vec<_>>(),
        again.iter().map(|line| &line.nodes).collect::<Vec<_>>()
    );
    assert_eq!((report.phases.len(), report.crossing_bytes), (1, 0));
    assert!(report.lines.iter().all(|line| !line.nodes.is_empty()), "every command is for a node");
    let products: f64 = report.lines.iter().map(|line| line.utilisation * line.compute as f64 * 16384.0).sum();
    assert!(
        (12.4e6..13.4e6).contains(&products),
        "{products} products: the network has 12.5 million, and its first layer is gathered"
    );
    let trace: serde_json::Value = serde_json::from_str(&npu::timeline::timeline(&[&read])).unwrap();
    let mut ends: std::collections::BTreeMap<(u64, u64), f64> = std::collections::BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X") {
        let number = |name: &str| event[name].as_f64().unwrap();
        let end = ends.entry((event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap())).or_insert(0.0);
        assert!(number("ts") >= *end - 1e-9, "events of a track follow one another: {event}");
        *end = number("ts") + number("dur");
    }
    let last = ends.values().copied().fold(0.0, f64::max);
    assert!((last - program.cycles() as f64 / 1000.0).abs() < 1e-9, "{last} microseconds");
    assert!(ends.keys().filter(|(process, _)| *process == 2).count() > 2, "banks have tracks");
}
