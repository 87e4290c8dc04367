//! `step` on several threads: the same bits whatever their number.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::path::{Path, PathBuf};

use adze_compiler::build::{BuildOptions, build};
use adze_compiler::data;
use adze_compiler::execute::Executable;
use adze_compiler::load::{load, shapes_of};
use adze_compiler::onnx::{ImportOptions, input_names};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_targets::cpu::Machine;

/// Most threads of a call.
const THREADS: u32 = 4;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

/// The inputs `in_0`, `in_1`, .. of a recorded case.
fn inputs(case: &Path) -> Vec<Tensor> {
    let tensors = data::read(case).unwrap();
    let named = |index: usize| tensors.iter().find(|(name, _)| *name == format!("in_{index}")).map(|(_, t)| t.clone());
    (0..).map_while(named).collect()
}

/// One object, entered by 1 to 4 threads.
fn same_bits(model: &Path, case: &Path) {
    let name = model.display();
    let inputs = inputs(case);
    let named: Vec<(String, Tensor)> = input_names(model).unwrap().into_iter().zip(inputs.iter().cloned()).collect();
    let options = ImportOptions { shapes: shapes_of(&named), ..ImportOptions::default() };
    let graph = load(model, &options).unwrap_or_else(|e| panic!("{name}: {e}")).graph;
    let options = BuildOptions { max_threads: THREADS, ..BuildOptions::new(Machine::host().unwrap()) };
    let built = build(&graph, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let executable = Executable::new(&built).unwrap();
    let mut call = executable.prepare(&inputs).unwrap();
    executable.run(&mut call).unwrap();
    let expected = executable.outputs(&mut call).unwrap();
    for threads in 1..=THREADS {
        let mut call = executable.prepare(&inputs).unwrap();
        executable.run_on(&mut call, threads).unwrap_or_else(|e| panic!("{name} on {threads} threads: {e}"));
        let found = executable.outputs(&mut call).unwrap();
        let same = expected.iter().zip(&found).all(|(a, b)| a.bytes() == b.bytes());
        assert!(same, "{name}: other bits on {threads} threads");
    }
    let mut call = executable.prepare(&inputs).unwrap();
    assert!(executable.run_on(&mut call, THREADS + 1).is_err(), "{name}: more threads than it was made for");
}

#[test]
fn trained_networks() {
    same_bits(&testdata("models/digits_cnn.onnx"), &testdata("models/digits_cnn.digit_3.npz"));
    same_bits(&testdata("models/digits_mlp.onnx"), &testdata("models/digits_mlp.b5.npz"));
}

/// The others do not wait for ever for a thread whose part fails.
#[test]
fn a_failure_on_one_thread_ends_the_call() {
    let graph = load(&testdata("import/gather_embedding_runtime_index.onnx"), &ImportOptions::default()).unwrap().graph;
    let options = BuildOptions { max_threads: THREADS, ..BuildOptions::new(Machine::host().unwrap()) };
    let built = build(&graph, &options).unwrap();
    let executable = Executable::new(&built).unwrap();
    // The table has 11 rows.
    let indices = Tensor::from_ints(DType::I64, &[2, 3], &[0, 1, 2, 3, 4, 11]);
    for threads in 1..=THREADS {
        let mut call = executable.prepare(std::slice::from_ref(&indices)).unwrap();
        let error = executable.run_on(&mut call, threads).unwrap_err().to_string();
        assert!(error.contains("index is out of range"), "{threads} threads: {error}");
    }
}

/// Recurrent cells, attention, fused chains, reductions, products, movement, integers.
#[test]
fn every_imported_graph_with_a_recorded_case() {
    let mut models: Vec<PathBuf> = std::fs::read_dir(testdata("import")).unwrap().map(|e| e.unwrap().path()).collect();
    models.sort();
    let mut count = 0;
    for model in models.iter().filter(|path| path.extension().is_some_and(|e| e == "onnx")) {
        let case = model.with_extension("ort.npz");
        if case.exists() {
            same_bits(model, &case);
            count += 1;
        }
    }
    assert!(count > 100, "{count} graphs");
}
