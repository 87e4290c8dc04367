//! Quantization end to end: the shipped network before and after, and data that cannot be used.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adze_compiler::Error;
use adze_compiler::build::BuildOptions;
use adze_compiler::data;
use adze_compiler::onnx::export::export;
use adze_compiler::onnx::{ImportOptions, import_bytes, import_file};
use adze_compiler::quantize::budget::Goal;
use adze_compiler::quantize::diagnose::diagnose;
use adze_compiler::quantize::distil::Distil;
use adze_compiler::quantize::equalize::Equalize;
use adze_compiler::quantize::metric::{Metric, Score};
use adze_compiler::quantize::ranges::Method;
use adze_compiler::quantize::samples::{Preprocess, Samples, read_samples};
use adze_compiler::quantize::table::{Activation, Table};
use adze_compiler::quantize::taps::Taps;
use adze_compiler::quantize::{Options, Quantized, Rounding, quantize};
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::eval::eval_graph;
use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::DType;
use adze_targets::cpu::Machine;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/models")
}

/// This machine; a machine without a code generator has nothing to test here.
fn here() -> Option<BuildOptions> {
    Machine::host().map(BuildOptions::new)
}

fn run(graph: &Graph, samples: &Samples, options: &Options) -> Result<Quantized, Error> {
    quantize(graph, samples, options, &here().unwrap(), &mut |_, _, _| {})
}

/// The images to quantize with.
fn calibration(graph: &Graph) -> Samples {
    read_samples(graph, &models().join("digits_calib.npy"), &"div=16".parse::<Preprocess>().unwrap()).unwrap()
}

/// The array of that name as a file of its own, which is what the loader reads.
fn samples_of(graph: &Graph, name: &str) -> Samples {
    let arrays: BTreeMap<String, Tensor> =
        data::read(&models().join("digits_labelled.npz")).unwrap().into_iter().collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("digits-{name}-{}.npy", std::process::id()));
    data::write(&path, &[(String::new(), arrays[name].clone())]).unwrap();
    let samples = read_samples(graph, &path, &"div=16".parse::<Preprocess>().unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    samples
}

/// The class that compiled code gives each sample.
fn classes(graph: &Graph, samples: &Samples) -> Vec<usize> {
    let outputs: Vec<_> = graph.outputs().iter().map(|o| o.value).collect();
    let mut classes = Vec::new();
    let taps = Taps::new(graph, &outputs, samples, &here().unwrap()).unwrap();
    taps.run(samples, &mut |_, tensors| {
        let scores = tensors[0].to_f64();
        classes.push((0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap());
        Ok(())
    })
    .unwrap();
    classes
}

fn digits() -> Graph {
    import_file(&models().join("digits_cnn.onnx"), &ImportOptions::default()).unwrap().graph
}

#[test]
fn digits_keep_their_accuracy() {
    if here().is_none() {
        return;
    }
    let float = digits();
    let (calib, test) = (calibration(&float), samples_of(&float, "x"));
    let arrays: BTreeMap<String, Tensor> =
        data::read(&models().join("digits_labelled.npz")).unwrap().into_iter().collect();
    let labels: Vec<usize> = arrays["y"].to_ints().into_iter().map(|y| usize::try_from(y).unwrap()).collect();
    let right = |classes: &[usize]| classes.iter().zip(&labels).filter(|(a, b)| a == b).count();
    let before = classes(&float, &test);
    assert_eq!((test.inputs.len(), right(&before)), (719, 713), "as testdata/models/README.md says");
    for (method, least) in
        [(Method::MinMax, 710), (Method::Percentile(99.9), 710), (Method::Entropy, 705), (Method::Best, 710)]
    {
        let found = run(&float, &calib, &Options { method, ..Options::default() }).unwrap();
        let after = classes(&found.graph, &test);
        let flips = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(right(&after) >= least && flips <= 719 - least, "{method:?}: {} right, {flips} flips", right(&after));
        assert_eq!(found.table.weights.len(), 3, "both convolutions and the dense layer");
    }
}

#[test]
fn what_is_exported_is_what_was_quantized() {
    if here().is_none() {
        return;
    }
    let float = digits();
    let calib = calibration(&float);
    let found = run(&float, &calib, &Options::default()).unwrap();
    assert_eq!(found.graph.to_string(), run(&float, &calib, &Options::default()).unwrap().graph.to_string());
    let bytes = export(&found.graph).unwrap();
    let again = import_bytes(&bytes.into(), None, "again", &ImportOptions::default()).unwrap().graph;
    for inputs in calib.inputs.iter().take(10) {
        assert_eq!(eval_graph(&found.graph, inputs).unwrap(), eval_graph(&again, inputs).unwrap());
    }
    // The table alone gives the same network up to the bias correction, which needs samples.
    let options = Options { table: Some(found.table.clone()), ..Options::default() };
    let from_table = run(&float, &Samples::default(), &options).unwrap();
    assert_eq!(from_table.table, found.table);
}

#[test]
fn everything_between_input_and_output_is_integers() {
    let Some(build) = here() else { return };
    let float = digits();
    let found = run(&float, &calibration(&float), &Options::default()).unwrap();
    let graph = Artifact::Graph(Box::new(found.graph), 0);
    let stage = Stage::from_name("integers").unwrap();
    let Artifact::Graph(graph, _) = graph.advance(stage, &build, &mut Trace::default()).unwrap() else { panic!() };
    let count = |wanted: fn(&Op) -> bool| graph.nodes().filter(|(_, node)| wanted(&node.op)).count();
    assert_eq!(count(|op| matches!(op, Op::QLinearConv(_))), 2);
    assert_eq!(count(|op| matches!(op, Op::MatMulInteger(_))), 1, "the last product has a float result");
    assert_eq!(count(|op| matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_))), 0);
    assert_eq!(count(|op| matches!(op, Op::Quantize(_))), 1, "of the input");
}

#[test]
fn layers_say_what_they_lose() {
    let Some(build) = here() else { return };
    let float = digits();
    let mut calib = calibration(&float);
    calib.thin(16);
    let rounding = Rounding::Nearest;
    let coarse = Options { weights: adze_ir::types::DType::I2, rounding, follow: false, ..Options::default() };
    let [fine, coarse] = [Options::default(), coarse].map(|options| {
        let found = run(&float, &calib, &options).unwrap();
        diagnose(&float, &found.graph, &calib, &build, &mut |_, _, _| {}).unwrap()
    });
    assert_eq!(fine.len(), coarse.len());
    for (fine, coarse) in fine.iter().zip(&coarse) {
        let (a, b) = (fine.isolated.sqnr(), coarse.isolated.sqnr());
        assert!(a > 25.0 && fine.isolated.cosine() > 0.99, "{}: {a} dB", fine.name);
        assert!(b <= a, "{}: {a} and {b} dB", fine.name);
        assert!(!fine.nodes.is_empty() && fine.saturated.is_none_or(|s| s < 0.05), "{}", fine.name);
    }
    let (fine, coarse) = (fine.last().unwrap(), coarse.last().unwrap());
    assert!(coarse.isolated.sqnr() < fine.isolated.sqnr() - 10.0, "{fine:?} {coarse:?}");
    assert!(coarse.accumulated.sqnr() < fine.accumulated.sqnr() - 10.0, "{fine:?} {coarse:?}");
    let other = parse_graph("graph @g { input %0 \"x\" : f32[1,1,8,8]\n output \"y\" = %0 }").unwrap();
    let error = diagnose(&float, &other, &calib, &build, &mut |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("in common"), "{error}");
}

const SMALL: &str = r#"graph @net {
  input %0 "x" : f32[1,2,4]
  %1 = const "w" [0.0, 0.0, 0.5, -0.25] : f32[2,2,1]
  %2 = conv %0, %1 {strides=[1], pads=[0, 0], dilations=[1], group=1} : f32[1,2,4] name("mid") loc("conv1")
  %3 = const "w2" [1.0, 0.0, 2.0, 0.0] : f32[1,2,2]
  %4 = conv %2, %3 {strides=[1], pads=[0, 1], dilations=[1], group=1} : f32[1,1,4] name("y") loc("conv2")
  output "y" = %4
}"#;

fn one_sample(values: &[f32]) -> Samples {
    Samples { inputs: vec![vec![Tensor::from_f32(&[1, 2, 4], values)]], names: vec!["a.npy".into()] }
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(SMALL).unwrap();
    let mut samples = one_sample(&[0.5; 8]);
    samples.inputs.push(vec![Tensor::from_f32(&[1, 2, 4], &[0.0, 1.0, f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0])]);
    samples.names.push("b.npy".into());
    let error = run(&graph, &samples, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("sample 1 `b.npy`, tensor `x`, element 2: found NaN"), "{error}");
    samples.inputs[1] = vec![Tensor::from_f32(&[1, 2, 4], &[f32::INFINITY; 8])];
    assert!(run(&graph, &samples, &Options::default()).unwrap_err().to_string().contains("found inf"));
}

#[test]
fn weights_that_are_not_finite_are_named() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(&SMALL.replace("0.5, -0.25", "0.5, inf")).unwrap();
    let error = run(&graph, &Samples::default(), &Options { activations: None, ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("weights of `conv1`: found inf"), "{error}");
}

#[test]
fn exported_two_bit_weights_come_back() {
    if here().is_none() {
        return;
    }
    let options = Options { activations: None, weights: adze_ir::types::DType::I2, ..Options::default() };
    let found = run(&digits(), &Samples::default(), &options).unwrap();
    let bytes = export(&found.graph).unwrap();
    let again = import_bytes(&bytes.into(), None, "again", &ImportOptions::default()).unwrap().graph;
    let inputs = [Tensor::from_f32(&[1, 1, 8, 8], &[0.25; 64])];
    assert_eq!(eval_graph(&found.graph, &inputs).unwrap(), eval_graph(&again, &inputs).unwrap());
}

/// Sixteen numbers in blocks of six: exported, and compiled, the last one of four is what it was.
#[test]
fn short_last_blocks_come_back() {
    let Some(build) = here() else { return };
    let (graph, samples) = (two_layers("neg %7"), sixteens(8, 1));
    let options = Options { activations: None, weights: DType::I4, block: 6, ..Options::default() };
    let found = run(&graph, &samples, &options).unwrap();
    let scales = |graph: &Graph| {
        let blocked = |op: &Op| matches!(op, Op::Dequantize(op) if op.block == 6);
        let nodes: Vec<_> = graph.nodes().filter(|(_, node)| blocked(&node.op)).collect();
        nodes.iter().map(|(_, node)| graph.ty(node.inputs[1].unwrap()).to_string()).collect::<Vec<_>>()
    };
    assert_eq!(scales(&found.graph), ["f32[3,16]", "f32[3,4]"]);
    let again = import_bytes(&export(&found.graph).unwrap().into(), None, "again", &ImportOptions::default()).unwrap();
    assert_eq!(scales(&again.graph), scales(&found.graph));
    let outputs = [found.graph.outputs()[0].value];
    let taps = Taps::new(&found.graph, &outputs, &samples, &build).unwrap();
    taps.run(&samples, &mut |index, tensors| {
        let expected = eval_graph(&found.graph, &samples.inputs[index]).unwrap();
        assert_eq!(expected, eval_graph(&again.graph, &samples.inputs[index]).unwrap());
        let apart = expected[0].to_f64().into_iter().zip(tensors[0].to_f64()).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-5, "{expected:?} {tensors:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn constant_and_empty_data() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(SMALL).unwrap();
    let error = run(&graph, &Samples::default(), &Options::default()).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--calib"), "{error}");
    // Zeros throughout: scales that can be divided by, and zeros again.
    for value in [0.0, 3.0, -1e-30] {
        for method in [Method::MinMax, Method::Percentile(99.0), Method::Entropy, Method::Mse] {
            let samples = one_sample(&[value; 8]);
            let found = run(&graph, &samples, &Options { method, ..Options::default() }).unwrap();
            let (a, b) = (
                eval_graph(&graph, &samples.inputs[0]).unwrap(),
                eval_graph(&found.graph, &samples.inputs[0]).unwrap(),
            );
            let near = a[0].to_f64().iter().zip(b[0].to_f64()).all(|(a, b)| (a - b).abs() <= 0.02 * a.abs() + 1e-6);
            assert!(near, "{value} {method:?}: {a:?} {b:?}");
        }
    }
}

#[test]
fn weights_alone_need_no_samples() {
    if here().is_none() {
        return;
    }
    let found = run(&digits(), &Samples::default(), &Options { activations: None, ..Options::default() }).unwrap();
    assert!(!found.graph.nodes().any(|(_, node)| matches!(node.op, Op::Quantize(_))));
    assert_eq!(found.graph.nodes().filter(|(_, node)| matches!(node.op, Op::Dequantize(_))).count(), 3);
}

#[test]
fn kept_nodes_stay_in_floats() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(SMALL).unwrap();
    let keep = |name: &str| Options { keep: vec![name.into()], ..Options::default() };
    let found = run(&graph, &one_sample(&[0.5; 8]), &keep("conv1")).unwrap();
    assert_eq!(found.left.len(), 1);
    assert_eq!(found.table.weights.len(), 1);
    assert!(run(&graph, &one_sample(&[0.5; 8]), &keep("conv9")).unwrap_err().to_string().contains("`conv9`"));
}

/// The second channel of a value is a thousandth of the first, and what a product reads.
const NARROW: &str = r#"graph @net {
  input %0 "x" : f32[1,2,4]
  %1 = const "w" [50.0, 0.0, 0.0, 0.05] : f32[2,2,1]
  %2 = conv %0, %1 {strides=[1], pads=[0, 0], dilations=[1], group=1} : f32[1,2,4] name("whole") loc("conv1")
  %3 = slice %2 {axes=[1], starts=[1], sizes=[1], steps=[1]} : f32[1,1,4] name("part") loc("slice")
  %4 = const "w2" [2.0] : f32[1,1,1]
  %5 = conv %3, %4 {strides=[1], pads=[0, 0], dilations=[1], group=1} : f32[1,1,4] name("y") loc("conv2")
  output "whole" = %2
  output "y" = %5
}"#;

#[test]
fn parts_that_are_much_smaller_have_ranges_of_their_own() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(NARROW).unwrap();
    let samples = one_sample(&[1.0, -0.5, 0.25, 0.75, 1.0, 0.3, -0.9, 0.6]);
    let lost = |options: &Options| {
        let found = run(&graph, &samples, options).unwrap();
        let names: Vec<String> = found.table.activations.iter().map(|entry| entry.name.clone()).collect();
        let [before, after] = [&graph, &found.graph].map(|g| eval_graph(g, &samples.inputs[0]).unwrap()[1].to_f64());
        let worst = before.iter().zip(after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        (names, worst)
    };
    let (names, apart) = lost(&Options::default());
    assert_eq!(names, ["x", "part"]);
    let entry = |name: &str, most: f64| Activation { name: name.into(), dtype: "u8".into(), lo: -most, hi: most };
    let stated = |entry| Table { activations: vec![entry], ..Table::default() };
    let options = |entry| Options { table: Some(stated(entry)), ..Options::default() };
    let (names, whole) = lost(&options(entry("whole", 50.0)));
    assert_eq!(names, ["x", "whole"], "what a table says stays");
    assert!(apart < 0.002 && whole > 0.05, "{apart} {whole}");
    assert_eq!(lost(&options(entry("part", 0.05))).0, ["x", "part"]);
    let table = run(&graph, &samples, &Options::default()).unwrap().table;
    let from_table = Options { table: Some(table.clone()), ..Options::default() };
    assert_eq!(run(&graph, &Samples::default(), &from_table).unwrap().table, table);
}

/// A layer of a transformer without its attention: what it adds to is normalised before and after.
const STREAM: &str = r#"graph @net {
  input %0 "x" : f32[1,2,4]
  %1 = const "gain" [1.0, 0.5, -2.0, 1.5] : f32[4]
  %2 = layer_norm %0, %1 {axis=2, epsilon=0.001} : f32[1,2,4] name("n") loc("norm1")
  %3 = const "w1" [0.5, 0.25, -1.0, 0.75, 1.0, -0.5, 0.125, 0.3, -0.7, 0.9, 0.2, 0.1, 0.6, -0.4, 0.8, -0.9] : f32[4,4]
  %4 = matmul %2, %3 : f32[1,2,4] name("m") loc("fc1")
  %5 = add %2, %4 : f32[1,2,4] name("sum") loc("sum")
  %6 = layer_norm %5, %1 {axis=2, epsilon=0.001} : f32[1,2,4] name("n2") loc("norm2")
  %7 = const "w2" [0.5, 0.25, -1.0, 0.75, 1.0, -0.5, 0.125, 0.3] : f32[4,2]
  %8 = matmul %6, %7 : f32[1,2,2] name("y") loc("fc2")
  output "y" = %8
}"#;

#[test]
fn what_layers_add_to_stays_in_floats() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(STREAM).unwrap();
    let found = run(&graph, &one_sample(&[1.0, -0.5, 0.25, 0.75, 1.0, 0.3, -0.9, 0.6]), &Options::default()).unwrap();
    let read = |op: fn(&Op) -> bool| {
        let node = found.graph.nodes().find(|(_, node)| op(&node.op)).unwrap().1;
        let made = |v: &ValueId| found.graph.producer(*v).map(|(_, node)| node.op.name().to_owned());
        node.inputs.iter().flatten().filter_map(made).collect::<Vec<_>>()
    };
    assert_eq!(read(|op| matches!(op, Op::MatMul(_))), ["dequantize", "dequantize"]);
    assert_eq!(read(|op| matches!(op, Op::Binary(_))), ["layer_norm", "matmul"]);
}

/// Two layers of weights that four levels cost much of, between them what makes an error of the first one matter.
fn two_layers(tail: &str) -> Graph {
    parse_graph(&two_layers_text(tail)).unwrap()
}

fn two_layers_text(tail: &str) -> String {
    let mut random = fastrand::Rng::with_seed(5);
    let mut list = |count: usize| {
        let numbers: Vec<String> = (0..count).map(|_| format!("{:.3}", 2.0 * random.f64() - 1.0)).collect();
        numbers.join(", ")
    };
    let (first, second) = (list(16 * 16), list(16 * 4));
    format!(
        r#"graph @net {{
  input %0 "x" : f32[1,16]
  %1 = const "w1" [{first}] : f32[16,16]
  %2 = matmul %0, %1 : f32[1,16] loc("fc1")
  %3 = tanh %2 : f32[1,16]
  %4 = const "w2" [{second}] : f32[16,4]
  %5 = matmul %3, %4 : f32[1,4] loc("fc2")
  %6 = const "terms" [0.5, -0.25, 0.125, -1.0] : f32[4]
  %7 = add %5, %6 : f32[1,4] loc("terms")
  %8 = {tail} : f32[1,4] loc("tail")
  output "y" = %8
}}"#
    )
}

/// Random samples of sixteen numbers.
fn sixteens(count: usize, seed: u64) -> Samples {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sample = || vec![Tensor::from_f64(DType::F32, &[1, 16], &[(); 16].map(|()| 2.0 * random.f64() - 1.0))];
    Samples { inputs: (0..count).map(|_| sample()).collect(), names: (0..count).map(|i| i.to_string()).collect() }
}

/// What the classes of a quantized network lose.
fn entropy(graph: &Graph, found: &Quantized, samples: &Samples) -> f64 {
    let mut score = Score::default();
    for inputs in &samples.inputs {
        let [a, b] = [graph, &found.graph].map(|graph| eval_graph(graph, inputs).unwrap().remove(0));
        score.take(&a, &b, None, None);
    }
    score.loss(Metric::Flips)
}

#[test]
fn learning_end_to_end_beats_learning_by_layer() {
    if here().is_none() {
        return;
    }
    let (graph, samples, fresh) = (two_layers("softmax %7 {axis=1}"), sixteens(256, 1), sixteens(64, 2));
    let terms = |graph: &Graph| {
        let found = graph.consts.iter().find(|(_, c)| &*c.name == "terms").and_then(|(_, c)| c.data().cloned());
        found.unwrap().to_f64()
    };
    for activations in [None, Some(DType::U8)] {
        let options = |rounding| Options { activations, weights: DType::I2, rounding, ..Options::default() };
        let by_layer = run(&graph, &samples, &options(Rounding::Learned)).unwrap();
        let how = Rounding::Distilled(Distil { steps: 1000, class_axis: None });
        let end_to_end = run(&graph, &samples, &options(how)).unwrap();
        assert!(
            end_to_end.notes[0].starts_with("learned end to end in 1000 steps: relative entropy"),
            "{:?}",
            end_to_end.notes
        );
        let [before, after] = [&by_layer, &end_to_end].map(|found| entropy(&graph, found, &fresh));
        assert!(after < 0.9 * before, "{activations:?}: {after} after {before}");
        let bytes = |found: &Quantized| {
            found.graph.consts.iter().map(|(_, c)| c.data().map_or(0, |d| d.bytes().len())).sum::<usize>()
        };
        assert_eq!(bytes(&by_layer), bytes(&end_to_end));
        if activations.is_none() {
            assert_eq!(terms(&graph), terms(&by_layer.graph));
            assert_ne!(terms(&graph), terms(&end_to_end.graph), "a vector that stays floats learns along");
        }
        // Nothing depends on time.
        assert_eq!(end_to_end.graph.to_string(), run(&graph, &samples, &options(how)).unwrap().graph.to_string());
    }
}

/// Factors before a product of floats stay apart, and learn; where values are rounded they go into the weights.
#[test]
fn factors_before_products_stay_and_learn() {
    if here().is_none() {
        return;
    }
    let factors: Vec<f64> = (0..16).map(|k| [1.0, 3.0, 0.5, -2.0][k % 4]).collect();
    let before = format!(
        r#"  %80 = const "one" [1.0] : f32[1]
  %81 = rms_norm %0, %80 {{axis=1, epsilon=0.001}} : f32[1,16]
  %82 = const "gain" {factors:?} : f32[16]
  %83 = mul %81, %82 : f32[1,16]
  %1 ="#
    );
    let net = two_layers_text("softmax %7 {axis=1}").replacen("  %1 =", &before, 1);
    let (graph, samples) = (parse_graph(&net.replacen("matmul %0,", "matmul %83,", 1)).unwrap(), sixteens(64, 1));
    let gain = |activations, rounding| {
        let options = Options { activations, weights: DType::I4, rounding, ..Options::default() };
        let found = run(&graph, &samples, &options).unwrap().graph;
        let norm = found.nodes().find(|(_, node)| matches!(node.op, Op::RmsNorm(_))).unwrap().1.inputs[1].unwrap();
        found.constant(norm).unwrap().data().unwrap().to_f64()
    };
    let how = Rounding::Distilled(Distil { steps: 200, class_axis: None });
    let learned = gain(None, how);
    assert!(learned.iter().zip(&factors).all(|(a, b)| (a - b).abs() < 1.0), "{learned:?}");
    assert_ne!(learned, factors);
    assert_eq!(gain(None, Rounding::Learned), factors);
    let found = gain(Some(DType::U8), how);
    assert!(found.iter().all(|&v| v == 1.0), "{found:?}");
}

#[test]
fn convolutions_and_biases_learn_end_to_end() {
    let Some(build) = here() else { return };
    let graph = digits();
    let (samples, fresh) = (calibration(&graph), samples_of(&graph, "x"));
    let options = |rounding| Options { weights: DType::I2, rounding, class_axis: Some(1), ..Options::default() };
    let how = Rounding::Distilled(Distil { steps: 40, class_axis: Some(1) });
    let [before, after] = [Rounding::Learned, how].map(|rounding| run(&graph, &samples, &options(rounding)).unwrap());
    let said = "learned end to end in 40 steps: relative entropy";
    assert!(after.notes[0].starts_with(said), "{:?}", after.notes);
    assert!(entropy(&graph, &after, &fresh) < 2.0 * entropy(&graph, &before, &fresh) + 0.01);
    // The unit of a bias is still that of the operand times that of the weights: otherwise it would not become integers.
    let stage = Stage::from_name("integers").unwrap();
    let graph = Artifact::Graph(Box::new(after.graph), 0);
    let Artifact::Graph(graph, _) = graph.advance(stage, &build, &mut Trace::default()).unwrap() else { panic!() };
    let count = |wanted: fn(&Op) -> bool| graph.nodes().filter(|(_, node)| wanted(&node.op)).count();
    assert_eq!(count(|op| matches!(op, Op::QLinearConv(_))), 2);
    assert_eq!(count(|op| matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_))), 0);
    let goal = Some(Goal { size: Some(1.0 / 9.0), class_axis: Some(1), ..Goal::default() });
    let sized = run(&digits(), &samples, &Options { goal, ..options(how) }).unwrap();
    assert!(sized.notes.iter().any(|note| note.starts_with(said)), "{:?}", sized.notes);
}

#[test]
fn what_cannot_learn_end_to_end_stays_and_says_so() {
    if here().is_none() {
        return;
    }
    let (graph, samples) = (two_layers("cum_sum %7 {axis=1}"), sixteens(16, 1));
    let how = Rounding::Distilled(Distil { steps: 10, class_axis: None });
    let options = |rounding| Options { activations: None, weights: DType::I4, rounding, ..Options::default() };
    let found = run(&graph, &samples, &options(how)).unwrap();
    assert!(found.notes[0].contains("no gradient of `cum_sum`"), "{:?}", found.notes);
    let by_layer = run(&graph, &samples, &options(Rounding::Learned)).unwrap();
    assert_eq!(found.graph.to_string(), by_layer.graph.to_string());
}

/// Bytes beyond what is small enough are saved for no bound, and what no formats reach is no reason to stop.
#[test]
fn bytes_that_are_few_enough_go_to_the_least_loss() {
    if here().is_none() {
        return;
    }
    let graph = digits();
    let samples = calibration(&graph);
    let shares = |bound: &str, enough: Option<f64>| {
        let goal = Goal { bound: Some(bound.parse().unwrap()), enough, class_axis: Some(1), ..Goal::default() };
        let found = run(&graph, &samples, &Options { goal: Some(goal), ..Options::default() }).unwrap();
        let line = found.notes.iter().find_map(|note| note.strip_prefix("weights ")).unwrap();
        let [bytes, _, all] = [0, 1, 2].map(|word| line.split(' ').nth(word).unwrap());
        bytes.parse::<f64>().unwrap() / all.parse::<f64>().unwrap()
    };
    let least = shares("top1=40%", None);
    let few = shares("top1=40%", Some(1.0 / 4.0));
    assert!(least < few && few <= 1.0 / 4.0, "{least} {few}");
    assert_eq!(shares("top1=40%", Some(0.001)), least);
    // A bound that so few bytes do not keep takes more.
    let tight = shares("sqnr=40dB", Some(least));
    assert!(tight > least, "{tight}");
}

/// Runs up to that call of the progress, where it stops as on a machine that goes off; says whether it did, and the calls.
fn interrupted(graph: &Graph, samples: &Samples, options: &Options, after: usize) -> (bool, usize) {
    let mut calls = 0;
    let mut progress = |_: &str, _: usize, _: usize| {
        calls += 1;
        if calls > after {
            std::panic::panic_any("interrupted");
        }
    };
    let mut run = || quantize(graph, samples, options, &here().unwrap(), &mut progress).map(|_| ()).unwrap();
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut run)).is_err();
    (stopped, calls)
}

#[test]
fn interrupted_runs_go_on_where_they_stopped() {
    if here().is_none() {
        return;
    }
    let graph = digits();
    let mut samples = calibration(&graph);
    samples.thin(4);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("resume-{}.state", std::process::id()));
    let goal = Goal { size: Some(1.0 / 6.0), ..Goal::default() };
    let follow = Options { weights: adze_ir::types::DType::I4, ..Options::default() };
    for plain in [Options { goal: Some(goal), ..Options::default() }, follow] {
        let whole = run(&graph, &samples, &plain).unwrap();
        let (_, calls) = interrupted(&graph, &samples, &plain, usize::MAX);
        let options = Options { resume: Some(path.clone()), ..plain };
        // Behind the ranges, which are kept when all are found.
        let (stopped, _) = interrupted(&graph, &samples, &options, calls * 3 / 4);
        assert!(stopped && path.exists());
        let resumed = run(&graph, &samples, &options).unwrap();
        assert_eq!(export(&resumed.graph).unwrap(), export(&whole.graph).unwrap());
        assert_eq!((resumed.table, resumed.notes), (whole.table, whole.notes));
        let (_, left) = interrupted(&graph, &samples, &options, usize::MAX);
        assert!(left < calls, "what is done is not done again: {left} of {calls}");
        let other = Options { symmetric: true, ..options.clone() };
        let error = run(&graph, &samples, &other).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        std::fs::write(&path, b"\xff\xff").unwrap();
        assert!(run(&graph, &samples, &options).unwrap_err().to_string().contains("no state"));
        std::fs::remove_file(&path).unwrap();
    }
}

/// Channels of very different sizes all the way: a depthwise convolution between two others, and a product behind a normalisation.
const UNEVEN: &str = r#"graph @net {
  input %0 "x" : f32[1,2,4]
  %1 = const "w" [4.0, -0.5, 0.0625, 0.03] : f32[2,2,1]
  %2 = const "b" [0.5, -0.01] : f32[2]
  %3 = conv %0, %1, %2 {strides=[1], pads=[0, 0], dilations=[1], group=1} : f32[1,2,4] name("a") loc("conv1")
  %4 = relu %3 : f32[1,2,4] name("r") loc("relu")
  %5 = const "dw" [0.7, 0.9, 0.3, 3.0] : f32[2,1,2]
  %6 = conv %4, %5 {strides=[1], pads=[0, 1], dilations=[1], group=2} : f32[1,2,4] name("d") loc("conv2")
  %7 = const "w2" [0.1, 7.0, 0.2, -3.0] : f32[2,2,1]
  %8 = conv %6, %7 {strides=[1], pads=[0, 0], dilations=[1], group=1} : f32[1,2,4] name("c") loc("conv3")
  %9 = const "scale" [1.0, 30.0, 0.1, 2.0] : f32[4]
  %10 = const "shift" [0.3, -4.0, 0.02, 0.0] : f32[4]
  %11 = layer_norm %8, %9, %10 {axis=2, epsilon=0.001} : f32[1,2,4] name("n") loc("norm")
  %12 = const "w3" [1.0, 0.01, -3.0, 0.4, 0.2, -0.03, 5.0, 0.1] : f32[4,2]
  %13 = matmul %11, %12 : f32[1,2,2] name("y") loc("fc")
  output "y" = %13
}"#;

#[test]
fn scales_move_without_changing_a_float() {
    if here().is_none() {
        return;
    }
    let graph = parse_graph(UNEVEN).unwrap();
    let samples = one_sample(&[1.0, -0.5, 0.25, 0.75, 1.0, 0.3, -0.9, 0.6]);
    let build = here().unwrap();
    let before = eval_graph(&graph, &samples.inputs[0]).unwrap();
    let lost = |equalize| {
        let method = Method::MinMax;
        let found =
            run(&graph, &samples, &Options { equalize, method, per_channel: false, ..Options::default() }).unwrap();
        let after = eval_graph(&found.graph, &samples.inputs[0]).unwrap()[0].to_f64();
        before[0].to_f64().iter().zip(after).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    for (how, count) in [(Equalize::Weights, 3), (Equalize::Values(0.5), 3), (Equalize::None, 0)] {
        let prepared = adze_compiler::quantize::prepare(&graph, false).unwrap();
        let move_scales = adze_compiler::quantize::equalize::equalize;
        let (scaled, found) = move_scales(prepared.clone(), how, &samples, &build, &mut |_, _, _| {}).unwrap();
        assert_eq!(found, count, "{how:?}: {scaled}");
        assert_eq!(scaled.to_string() == prepared.to_string(), count == 0);
        assert_eq!(eval_graph(&scaled, &samples.inputs[0]).unwrap(), before, "{how:?}");
        assert!(how == Equalize::None || lost(how) < lost(Equalize::None), "{how:?}");
    }
    let none = Samples::default();
    let error = adze_compiler::quantize::equalize::equalize(
        graph.clone(),
        Equalize::Values(0.5),
        &none,
        &build,
        &mut |_, _, _| {},
    );
    assert!(error.unwrap_err().to_string().contains("--calib"));
}

#[test]
fn images_are_samples() {
    let graph = parse_graph("graph @g { input %0 \"x\" : f32[1,3,16,20]\n output \"y\" = %0 }").unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/images");
    let copied = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("images-{}", std::process::id()));
    std::fs::create_dir_all(&copied).unwrap();
    for name in ["picture.png", "picture.jpg", "gray.png"] {
        std::fs::copy(folder.join(name), copied.join(name)).unwrap();
    }
    let read = |steps: &str| read_samples(&graph, &copied, &steps.parse::<Preprocess>().unwrap());
    let samples = read("crop=16x20,div=255,chw").unwrap();
    std::fs::remove_dir_all(&copied).unwrap();
    assert_eq!(samples.names, ["gray.png", "picture.jpg", "picture.png"]);
    let pixels: BTreeMap<String, Tensor> = data::read(&folder.join("pixels.npz")).unwrap().into_iter().collect();
    let (crop, found) = (pixels["crop"].to_f64(), samples.inputs[2][0].to_f64());
    assert_eq!(samples.inputs[2][0].shape(), [1, 3, 16, 20]);
    let at = |c: usize, y: usize, x: usize| crop[(y * 20 + x) * 3 + c] / 255.0;
    let all = (0..3).flat_map(|c| (0..16).flat_map(move |y| (0..20).map(move |x| (c, y, x))));
    assert!(found.iter().zip(all).all(|(v, (c, y, x))| (v - at(c, y, x)).abs() < 1e-7));
}

/// Channels whose weights have the scale zero: nothing but their bias, in compiled code too.
#[test]
fn scales_of_zero_leave_the_bias() {
    if here().is_none() {
        return;
    }
    let text = r#"graph @net {
      input %0 "x" : u8[1,2,4]
      %1 = const "c1" [0.05] : f32[]
      %2 = const "c2" [128] : u8[]
      %3 = const "c3" [3, -4, 5, 6] : i8[2,2,1]
      %4 = const "c4" [0.0, 0.02] : f32[2]
      %5 = const "c5" [0, 0] : i8[2]
      %6 = const "c6" [0.25] : f32[]
      %7 = const "c7" [7] : u8[]
      %8 = const "c8" [1000, -2000] : i32[2]
      %9 = qlinear_conv %0, %1, %2, %3, %4, %5, %6, %7, %8 {strides=[1], pads=[0, 0], dilations=[1], group=1, contract=f32_rne} : u8[1,2,4]
      output "y" = %9
    }"#;
    let graph = parse_graph(text).unwrap();
    let input = Tensor::from_ints(adze_ir::types::DType::U8, &[1, 2, 4], &[0, 255, 128, 1, 9, 200, 77, 31]);
    let samples = Samples { inputs: vec![vec![input.clone()]], names: vec!["a".into()] };
    let outputs: Vec<_> = graph.outputs().iter().map(|o| o.value).collect();
    let expected = eval_graph(&graph, &[input]).unwrap();
    assert_eq!(expected[0].to_f64()[..4], [7.0; 4], "a scale of zero gives the zero point");
    let taps = Taps::new(&graph, &outputs, &samples, &here().unwrap()).unwrap();
    taps.run(&samples, &mut |_, found| {
        assert_eq!(found, expected.as_slice());
        Ok(())
    })
    .unwrap();
}

/// A cell that walks both ways, and a product behind it.
fn cell_and_head() -> (Graph, Samples) {
    let mut random = fastrand::Rng::with_seed(9);
    let mut list = |count: usize| {
        let numbers: Vec<String> = (0..count).map(|_| format!("{:.3}", random.f64() - 0.5)).collect();
        numbers.join(", ")
    };
    let (w, r, b, head) = (list(2 * 64 * 12), list(2 * 64 * 16), list(2 * 128), list(32 * 5));
    let graph = parse_graph(&format!(
        r#"graph @net {{
  input %0 "x" : f32[7,1,12]
  %1 = const "w" [{w}] : f32[2,64,12]
  %2 = const "r" [{r}] : f32[2,64,16]
  %3 = const "b" [{b}] : f32[2,128]
  %4, %5, %6 = lstm %0, %1, %2, %3 {{direction=bidirectional, hidden=16, activations=[sigmoid, tanh, tanh, sigmoid, tanh, tanh]}} : f32[7,2,1,16], f32[2,1,16], f32[2,1,16] loc("cell")
  %7 = transpose %4 {{perm=[0, 2, 1, 3]}} : f32[7,1,2,16] loc("turn")
  %8 = reshape %7 {{shape=[7, 32]}} : f32[7,32] loc("join")
  %9 = const "head" [{head}] : f32[32,5]
  %10 = matmul %8, %9 : f32[7,5] loc("head")
  output "y" = %10
}}"#
    ));
    let mut sample = || {
        let numbers: Vec<f64> = (0..84).map(|_| 4.0 * random.f64() - 2.0).collect();
        vec![Tensor::from_f64(DType::F32, &[7, 1, 12], &numbers)]
    };
    let samples =
        Samples { inputs: (0..24).map(|_| sample()).collect(), names: (0..24).map(|i| i.to_string()).collect() };
    (graph.unwrap(), samples)
}

/// The operators of a network once integers have been made.
fn integers(graph: &Graph, build: &BuildOptions) -> Graph {
    let stored = Artifact::Graph(Box::new(graph.clone()), 0);
    let stage = Stage::from_name("integers").unwrap();
    let Artifact::Graph(stored, _) = stored.advance(stage, build, &mut Trace::default()).unwrap() else { panic!() };
    *stored
}

/// The largest difference of compiled code to the interpreter.
fn apart(graph: &Graph, samples: &Samples, build: &BuildOptions) -> f64 {
    let mut most: f64 = 0.0;
    let taps = Taps::new(graph, &[graph.outputs()[0].value], samples, build).unwrap();
    taps.run(samples, &mut |index, tensors| {
        let expected = eval_graph(graph, &samples.inputs[index]).unwrap().remove(0).to_f64();
        most = expected.into_iter().zip(tensors[0].to_f64()).map(|(a, b)| (a - b).abs()).fold(most, f64::max);
        Ok(())
    })
    .unwrap();
    most
}

/// Where values are floats, convolutions have the integers of their weights in the object.
#[test]
fn convolutions_of_floats_have_small_weights() {
    let Some(build) = here() else { return };
    let (graph, mut samples) = (digits(), calibration(&digits()));
    samples.thin(8);
    let bytes = |weights| {
        let options = Options { activations: None, weights, ..Options::default() };
        let found = run(&graph, &samples, &options).unwrap().graph;
        let convs = |graph: &Graph, is: fn(&Op) -> bool| graph.nodes().filter(|(_, node)| is(&node.op)).count();
        let kept = integers(&found, &build);
        let all = convs(&graph, |op| matches!(op, Op::Conv(_)));
        assert_eq!(convs(&kept, |op| matches!(op, Op::ConvStored(_))), all);
        assert!(apart(&found, &samples, &build) < 1e-4);
        adze_compiler::build::build(&found, &build).unwrap().package.manifest.weights_bytes as f64
    };
    let [eight, four] = [DType::I8, DType::I4].map(bytes);
    let float = adze_compiler::build::build(&graph, &build).unwrap().package.manifest.weights_bytes as f64;
    assert!(eight < 0.32 * float && four < 0.6 * eight, "{float} {eight} {four}");
}

/// Values stay floats where rounding them all would take more than half of a bound, as few as will do.
#[test]
fn values_that_lose_most_stay_floats() {
    let Some(build) = here() else { return };
    let (graph, samples) = (digits(), calibration(&digits()));
    let run = |bound: &str, table: Option<Table>| {
        let goal = Goal { bound: Some(bound.parse().unwrap()), ..Goal::default() };
        run(&graph, &samples, &Options { goal: Some(goal), table, ..Options::default() })
    };
    let floats = |found: &Quantized| found.table.activations.iter().filter(|entry| entry.dtype == "f32").count();
    let says = |found: &Quantized| found.notes.iter().any(|note| note.contains("values stay floats, which lose most"));
    let [loose, tight, tighter] = [20, 47, 90].map(|db| run(&format!("sqnr={db}dB"), None).unwrap());
    let all = loose.table.activations.len();
    let counts = [&loose, &tight, &tighter].map(floats);
    assert!(counts[0] == 0 && (1..all).contains(&counts[1]) && counts[2] == all, "{counts:?} of {all}");
    assert!(!says(&loose) && says(&tight) && says(&tighter));
    assert!(apart(&tight.graph, &samples, &build) < 1e-2);
    // What the table states is not looked for.
    let stated = run("sqnr=90dB", Some(Table { weights: Vec::new(), ..loose.table.clone() }));
    let refused = stated.map(|found| found.notes).unwrap_err().to_string();
    assert!(refused.contains("with exact weights"), "{refused}");
    let again = run("sqnr=47dB", Some(tight.table.clone())).unwrap();
    assert_eq!(again.graph.to_string(), tight.graph.to_string());
}

/// Flags of values lie behind all inputs of the network.
#[test]
fn values_of_several_inputs_may_stay_floats() {
    if here().is_none() {
        return;
    }
    let numbers: Vec<f64> = (0..32).map(|k| f64::from(k * 7 % 13) - 6.0).collect();
    let graph = parse_graph(&format!(
        r#"graph @net {{
  input %0 "a" : f32[1,8]
  input %1 "b" : f32[1,8]
  %2 = const "w" {numbers:?} : f32[8,4]
  %3 = matmul %0, %2 : f32[1,4] loc("left")
  %4 = matmul %1, %2 : f32[1,4] loc("right")
  %5 = mul %3, %4 : f32[1,4] loc("both")
  output "y" = %5
}}"#
    ));
    let mut random = fastrand::Rng::with_seed(1);
    let mut numbers = || Tensor::from_f64(DType::F32, &[1, 8], &[(); 8].map(|()| random.f64()));
    let inputs = (0..12).map(|_| vec![numbers(), numbers()]).collect();
    let samples = Samples { inputs, names: (0..12).map(|i| i.to_string()).collect() };
    let goal = Goal { bound: Some("sqnr=70dB".parse().unwrap()), ..Goal::default() };
    let found = run(&graph.unwrap(), &samples, &Options { goal: Some(goal), ..Options::default() }).unwrap();
    let floats = found.table.activations.iter().filter(|entry| entry.dtype == "f32").count();
    assert_eq!((floats, found.table.activations.len()), (2, 2));
}

/// Both products of a cell have small weights, each in a format of its own; compiled code, the graph and the exported model agree.
#[test]
fn recurrent_cells_have_small_weights() {
    let Some(build) = here() else { return };
    let (graph, samples) = cell_and_head();
    let sized = Options { goal: Some(Goal { size: Some(0.3), ..Goal::default() }), ..Options::default() };
    let four =
        |rounding, block| Options { activations: None, weights: DType::I4, rounding, block, ..Options::default() };
    let loss = |found: &Quantized| entropy(&graph, found, &samples);
    let learned = run(&graph, &samples, &four(Rounding::Learned, 4)).unwrap();
    let nearest = run(&graph, &samples, &four(Rounding::Nearest, 4)).unwrap();
    assert!(loss(&learned) < 0.7 * loss(&nearest), "{} and {}", loss(&learned), loss(&nearest));
    for found in
        [run(&graph, &samples, &sized).unwrap(), learned, run(&graph, &samples, &four(Rounding::Nearest, 0)).unwrap()]
    {
        assert_eq!(found.left, Vec::<String>::new());
        let names: Vec<&str> = found.table.weights.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["cell.W", "cell.R", "head"]);
        let stage = Stage::from_name("integers").unwrap();
        let stored = Artifact::Graph(Box::new(found.graph.clone()), 0);
        let Artifact::Graph(stored, _) = stored.advance(stage, &build, &mut Trace::default()).unwrap() else {
            panic!()
        };
        let cell = stored.nodes().find_map(|(_, node)| node.op.cell_weights()).unwrap();
        assert!(cell.blocks.iter().all(Option::is_some), "{cell:?}");
        let again = import_bytes(&export(&found.graph).unwrap().into(), None, "again", &ImportOptions::default())
            .unwrap()
            .graph;
        let taps = Taps::new(&found.graph, &[found.graph.outputs()[0].value], &samples, &build).unwrap();
        taps.run(&samples, &mut |index, tensors| {
            let [expected, back] =
                [&found.graph, &again].map(|g| eval_graph(g, &samples.inputs[index]).unwrap().remove(0));
            assert_eq!(expected, back);
            let apart = expected.to_f64().into_iter().zip(tensors[0].to_f64()).map(|(a, b)| (a - b).abs());
            let limit = if found.table.activations.is_empty() { 1e-5 } else { 1e-2 };
            assert!(apart.fold(0.0, f64::max) < limit, "{expected:?} {tensors:?}");
            Ok(())
        })
        .unwrap();
    }
}
