//! The importer against recorded cases: small graphs of one feature each, broken and unsupported ones, and the shared
//! trained networks.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::data;
use adze_compiler::onnx::{self, ErrorKind, ImportOptions, Imported, InputValue};
use adze_ir::extent::{DimRange, Extent};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_ir::verify::verify_graph;
use proptest::prelude::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder with that extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

/// Inputs and outputs of a recorded case, by position.
fn case(path: &Path) -> (Vec<Tensor>, Vec<Tensor>) {
    let tensors: BTreeMap<String, Tensor> = data::read(path).unwrap().into_iter().collect();
    let list = |stem: &str| (0..).map_while(|index| tensors.get(&format!("{stem}_{index}")).cloned()).collect();
    (list("in"), list("out"))
}

/// The recorded cases of a model: `<stem>.<anything>.npz` beside it.
fn cases(model: &Path) -> Vec<PathBuf> {
    let stem = format!("{}.", model.file_stem().unwrap().to_str().unwrap());
    let of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&stem);
    files(model.parent().unwrap(), "npz").into_iter().filter(of).collect()
}

/// Names of the inputs, in order.
fn input_names(imported: &Imported) -> Vec<String> {
    let graph = &imported.graph;
    graph.inputs().iter().map(|&v| graph.value(v).name.as_deref().unwrap_or_default().to_string()).collect()
}

fn shape_of(tensor: &Tensor) -> Vec<Extent> {
    tensor.shape().iter().map(|&dim| dim.into()).collect()
}

/// The shapes that the graph computes for these inputs, or why it cannot.
fn output_shapes(imported: &Imported, inputs: &[Tensor]) -> Result<Vec<Vec<usize>>, String> {
    let dims = adze_ir::eval::bind_dims(&imported.graph, inputs).map_err(|error| error.to_string())?;
    let lookup = |name: &str| dims.get(name).copied();
    let shape = |output: &adze_ir::graph::Output| {
        let dims = imported.graph.ty(output.value).shape.iter();
        dims.map(|dim| dim.eval(&lookup).and_then(|d| usize::try_from(d).ok()).ok_or(format!("{dim} has no value")))
            .collect()
    };
    imported.graph.outputs().iter().map(shape).collect()
}

fn verify(imported: &Imported) -> Result<(), String> {
    verify_graph(&imported.graph)
        .map_err(|violations| violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Whether any value is in half precision.
fn uses_half(imported: &Imported) -> bool {
    let graph = &imported.graph;
    let values = graph.nodes().flat_map(|(_, node)| &node.outputs);
    values.into_iter().any(|&value| matches!(graph.ty(value).dtype, DType::F16 | DType::Bf16))
}

/// What is beyond the tolerance of `f32`, or of half precision.
fn difference(found: &Tensor, expected: &Tensor, half: bool) -> Option<String> {
    let tolerance = if half { Tolerance::F16 } else { Tolerance::F32 }.or_zero();
    let Some(difference) = compare(found, expected, tolerance) else {
        return Some(format!("{} instead of {}", found.ty(), expected.ty()));
    };
    let index = difference.first?;
    Some(format!("element {index}: {} instead of {}", found.to_f64()[index], expected.to_f64()[index]))
}

#[test]
fn feature_cases_compute_what_onnx_runtime_does() {
    let mut failures = Vec::new();
    let mut run = 0;
    for model in files(&root().join("testdata/import"), "onnx") {
        let name = model.file_stem().unwrap().to_string_lossy().into_owned();
        let imported = match onnx::import_file(&model, &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        if let Err(violations) = verify(&imported) {
            failures.push(format!("{name}: {violations}"));
            continue;
        }
        for path in cases(&model) {
            let (inputs, expected) = case(&path);
            run += 1;
            match adze_ir::eval::eval_graph(&imported.graph, &inputs) {
                Err(error) => failures.push(format!("{name}: {error}")),
                Ok(outputs) => {
                    assert_eq!(outputs.len(), expected.len(), "{name}");
                    for (index, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
                        if let Some(text) = difference(found, expected, uses_half(&imported)) {
                            failures.push(format!("{name}: output {index}: {text}"));
                        }
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {run} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn broken_and_unsupported_models_are_told_apart() {
    let mut failures = Vec::new();
    for model in files(&root().join("testdata/diag"), "onnx") {
        let name = model.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = if name.starts_with("unsupported_") { ErrorKind::Unsupported } else { ErrorKind::Model };
        match onnx::import_file(&model, &ImportOptions::default()) {
            Ok(_) => failures.push(format!("{name}: imported")),
            Err(error) if error.kind() != expected => failures.push(format!("{name}: {:?}: {error}", error.kind())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The folder of the shared models, or nothing, said aloud.
fn shared_models() -> Option<PathBuf> {
    let shared = std::env::var_os("ADZE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let models = shared.join("models");
    if models.is_dir() {
        return Some(models);
    }
    assert!(
        std::env::var_os("ADZE_REQUIRE").is_none(),
        "ADZE_REQUIRE is set and this is missing: {}",
        models.display()
    );
    eprintln!("skipped: {}", models.display());
    None
}

/// Models with a loop whose number of turns is known only at run time: (model, operator at fault).
const LOOPS: &[(&str, &str)] = &[("stories260k_greedy_loop", "Loop")];

/// Options for a case: inputs of rank 0 become constants, the others get their shape; `names` are the model's inputs.
fn options_for(names: &[String], inputs: &[Tensor], shapes: bool) -> ImportOptions {
    let mut options = ImportOptions::default();
    for (name, tensor) in names.iter().zip(inputs) {
        if tensor.shape().is_empty() {
            options.values.insert(name.clone(), InputValue::Tensor(tensor.clone()));
        } else if shapes {
            options.shapes.insert(name.clone(), shape_of(tensor));
        }
    }
    options
}

#[test]
fn shared_models_have_the_recorded_shapes() {
    let Some(folder) = shared_models() else { return };
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut failures = Vec::new();
    for entry in manifest["models"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let model = folder.join(entry["file"].as_str().unwrap());
        let strings = |key: &str| -> Vec<String> {
            entry[key].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
        };
        for entry in entry["cases"].as_array().unwrap() {
            let (inputs, expected) = case(&folder.join(entry["file"].as_str().unwrap()));
            let label = format!("{name}, {}", entry["case"].as_str().unwrap());
            let imported = onnx::import_file(&model, &options_for(&strings("input_names"), &inputs, true));
            if let Some((_, op)) = LOOPS.iter().find(|(looping, _)| *looping == name) {
                match imported {
                    Ok(_) => failures.push(format!("{label}: imported")),
                    Err(error) => {
                        let named =
                            error.kind() == ErrorKind::Unsupported && error.to_string().contains(&format!("`{op}`"));
                        if !named {
                            failures.push(format!("{label}: {error}"));
                        }
                    }
                }
                continue;
            }
            match imported {
                Err(error) => failures.push(format!("{label}: {error}")),
                Ok(imported) => {
                    let names = input_names(&imported);
                    let given: Vec<Tensor> = strings("input_names")
                        .iter()
                        .zip(&inputs)
                        .filter(|(name, _)| names.contains(name))
                        .map(|(_, tensor)| tensor.clone())
                        .collect();
                    let expected: Vec<Vec<usize>> = expected.iter().map(|tensor| tensor.shape().to_vec()).collect();
                    let checked = verify(&imported).and_then(|()| output_shapes(&imported, &given));
                    match checked {
                        Ok(shapes) if shapes == expected => {}
                        Ok(shapes) => failures.push(format!("{label}: {shapes:?} instead of {expected:?}")),
                        Err(error) => failures.push(format!("{label}: {error}")),
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The first recorded case of every shared model, interpreted: exact up to the tolerance that the manifest allows.
#[test]
fn shared_models_compute_the_recorded_outputs() {
    let Some(folder) = shared_models() else { return };
    let only = std::env::var("ADZE_MODEL").unwrap_or_default();
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut failures = Vec::new();
    for entry in manifest["models"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        if LOOPS.iter().any(|(looping, _)| *looping == name) || !name.contains(&only) {
            continue;
        }
        let names: Vec<String> =
            entry["input_names"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect();
        let first = &entry["cases"][0];
        let (inputs, expected) = case(&folder.join(first["file"].as_str().unwrap()));
        let model = folder.join(entry["file"].as_str().unwrap());
        let imported = match onnx::import_file(&model, &options_for(&names, &inputs, true)) {
            Ok(imported) => imported,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let kept = input_names(&imported);
        let given: Vec<Tensor> = names
            .iter()
            .zip(&inputs)
            .filter(|(name, _)| kept.contains(name))
            .map(|(_, tensor)| tensor.clone())
            .collect();
        let start = std::time::Instant::now();
        match adze_ir::eval::eval_graph(&imported.graph, &given) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(outputs) => {
                let allowed = 2.0 * first["max_abs_diff_ort_optimised"].as_f64().unwrap_or(0.0);
                for (index, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
                    let worst =
                        found.to_f64().iter().zip(expected.to_f64()).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                    if let Some(text) = difference(found, expected, uses_half(&imported))
                        && worst > allowed
                    {
                        failures.push(format!("{name}: output {index}: {text}, worst {worst}, allowed {allowed}"));
                    }
                }
            }
        }
        eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// With dimensions left open, one graph serves every recorded case.
#[test]
fn shared_models_keep_their_dimensions_symbolic() {
    let Some(folder) = shared_models() else { return };
    let models = [
        // It has 64 positions.
        ("clinc_intent_bert_f32", "seq", 1, 64),
        ("clinc_intent_bert_dynamic_int8", "seq", 1, 64),
        // The first call has no past.
        ("stories260k_llama_f32", "past", 0, 512),
        ("mlperf_ic_resnet8_f32", "", 0, 0),
        ("magika_v3_3", "", 0, 0),
        // Its lengths are even.
        ("nnsplit_en_bilstm", "half", 1, 200),
        ("tesseract_eng_lstm", "", 0, 0),
    ];
    for (name, dim, lo, hi) in models {
        let model = folder.join(format!("{name}.onnx"));
        let mut options = ImportOptions::default();
        if !dim.is_empty() {
            options.dims.insert(dim.into(), DimRange { lo, hi });
        }
        if dim == "half" {
            let even = Extent::sym("half") * 2.into();
            options.shapes.insert("input".into(), vec![Extent::sym("batch"), even]);
        }
        let imported = onnx::import_file(&model, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        verify(&imported).unwrap_or_else(|error| panic!("{name}: {error}"));
        for path in cases(&model) {
            let (inputs, expected) = case(&path);
            let shapes: Vec<Vec<usize>> = expected.iter().map(|tensor| tensor.shape().to_vec()).collect();
            assert_eq!(output_shapes(&imported, &inputs), Ok(shapes), "{}", path.display());
            // Dynamic quantization amplifies rounding differences, and magika takes seconds.
            if name.ends_with("int8") || name.starts_with("magika") {
                continue;
            }
            let outputs = adze_ir::eval::eval_graph(&imported.graph, &inputs).unwrap();
            for (found, expected) in outputs.iter().zip(&expected) {
                assert_eq!(difference(found, expected, false), None, "{}", path.display());
            }
        }
    }
}

/// A model of the feature cases, by position.
fn seed_model(position: prop::sample::Index) -> Vec<u8> {
    let models = files(&root().join("testdata/import"), "onnx");
    std::fs::read(&models[position.index(models.len())]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
    ))]

    /// Whatever happens to the bytes, the importer returns; what it accepts verifies.
    #[test]
    fn mutated_models_are_refused_or_sound(
        position in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        moved in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..64)),
    ) {
        let mut bytes = seed_model(position);
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Some((from, to, length)) = moved {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from..bytes.len().min(from + length)].to_vec();
            bytes.splice(to..to, piece);
        }
        if let Ok(imported) = onnx::import_bytes(&bytes.into(), None, "mutant", &ImportOptions::default()) {
            prop_assert_eq!(verify(&imported), Ok(()));
        }
    }
}

/// Imports a feature case with options; the input type, or the error.
fn input_type(name: &str, options: &ImportOptions) -> Result<String, String> {
    let path = root().join(format!("testdata/import/{name}.onnx"));
    let imported = onnx::import_file(&path, options).map_err(|error| error.to_string())?;
    let graph = &imported.graph;
    let dims: Vec<String> =
        graph.dims.iter().map(|(name, range)| format!(" {name}={}..{}", range.lo, range.hi)).collect();
    Ok(format!("{}{}", graph.ty(graph.inputs()[0]), dims.concat()))
}

fn dims(list: &[(&str, i64, i64)]) -> ImportOptions {
    let dims = list.iter().map(|&(name, lo, hi)| (name.to_string(), DimRange { lo, hi })).collect();
    ImportOptions { dims, ..Default::default() }
}

fn shapes(input: &str, shape: &[&str]) -> ImportOptions {
    let dim = |dim: &&str| dim.parse::<i64>().map_or_else(|_| Extent::sym(*dim), Extent::from);
    let shapes = BTreeMap::from([(input.to_string(), shape.iter().map(dim).collect())]);
    ImportOptions { shapes, ..Default::default() }
}

#[test]
fn dimensions_are_bound_by_options() {
    let named = |options: &ImportOptions| input_type("symbolic_dims_conv", options);
    assert_eq!(named(&dims(&[])).unwrap(), "f32[n,3,h,w] h=1..65536 n=1..65536 w=1..65536");
    assert_eq!(named(&dims(&[("n", 1, 1), ("h", 4, 32), ("w", 7, 7)])).unwrap(), "f32[1,3,h,7] h=4..32");
    assert_eq!(named(&shapes("x", &["2", "3", "9", "w"])).unwrap(), "f32[2,3,9,w] w=1..65536");
    let unnamed = |options: &ImportOptions| input_type("unnamed_dims", options);
    assert_eq!(unnamed(&dims(&[])).unwrap(), "f32[x_0,4] x_0=1..65536");
    assert_eq!(unnamed(&shapes("x", &["rows", "4"])).unwrap(), "f32[rows,4] rows=1..65536");
    let mut both = shapes("x", &["rows", "4"]);
    both.dims.insert("rows".into(), DimRange { lo: 2, hi: 3 });
    assert_eq!(unnamed(&both).unwrap(), "f32[rows,4] rows=2..3");
}

#[test]
fn options_that_do_not_fit_are_named() {
    let fault = |options: &ImportOptions| input_type("symbolic_dims_conv", options).unwrap_err();
    assert_eq!(fault(&dims(&[("batch", 1, 1)])), "no dimension `batch`, the model has: `n`, `h`, `w`");
    assert!(fault(&dims(&[("n", 2, 1)])).starts_with("range of dimension `n`: found 2..1, accepted: `lo..hi`"));
    assert_eq!(fault(&shapes("y", &["1"])), "no input `y`, the model has: `x`");
    let wrong = "shape of input `x`: found 1x4x8x8, accepted: nx3xhxw";
    assert_eq!(fault(&shapes("x", &["1", "4", "8", "8"])), wrong);
    let mut both = shapes("x", &["5", "3", "8", "8"]);
    both.dims.insert("n".into(), DimRange { lo: 1, hi: 4 });
    assert_eq!(fault(&both), "shape of input `x`: found 5x3x8x8, accepted: nx3xhxw");
}
