//! One object for a range of extents, and states that the object changes in place.

use adze_compiler::build::{BuildOptions, Built};
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::execute::{Call, Executable};
use adze_compiler::load::load;
use adze_compiler::onnx::ImportOptions;
use adze_ir::eval::eval_graph;
use adze_ir::extent::DimRange;
use adze_ir::graph::{Append, Graph, State};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use crate::shared::{Model, build_with, host, like, model};

/// Loads a model with these ranges of its named dimensions.
fn with_dims(model: &Model, dims: &[(&str, i64, i64)]) -> Graph {
    let dims = dims.iter().map(|&(name, lo, hi)| (name.to_owned(), DimRange { lo, hi })).collect();
    load(&model.path(), &ImportOptions { dims, ..Default::default() }).unwrap().graph
}

fn build(graph: &Graph) -> Built {
    build_with(graph, &BuildOptions::new(host())).unwrap_or_else(|e| panic!("{e}"))
}

fn close(found: &Tensor, expected: &Tensor, what: &str) {
    let difference = compare(found, expected, Tolerance::of(expected.dtype()));
    let difference = difference.unwrap_or_else(|| panic!("{what}: found {}, expected {}", found.ty(), expected.ty()));
    assert_eq!(difference.beyond, 0, "{what}: {difference:?}");
}

fn all_close(found: &[Tensor], expected: &[Tensor], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).enumerate().for_each(|(i, (f, e))| close(f, e, &format!("{what}, output {i}")));
}

#[test]
fn one_object_for_all_lengths() {
    let Some(model) = model("clinc_intent_bert_f32") else { return };
    let graph = with_dims(&model, &[("batch", 1, 4), ("seq", 1, 32)]);
    let built = build(&graph);
    let executable = Executable::new(&built).unwrap();
    let run = |inputs: &[Tensor]| {
        let mut call = executable.prepare(inputs)?;
        executable.run(&mut call)?;
        executable.outputs(&mut call)
    };
    for case in &model.cases {
        let (inputs, recorded) = model.tensors(case);
        all_close(&run(&inputs).unwrap(), &recorded, &case.case);
    }
    let (recorded, _) = model.tensors(&model.cases[0]);
    let mut random = fastrand::Rng::with_seed(3);
    let ids = |batch, seq, random: &mut _| crate::shared::values_like(&recorded[0], &[batch, seq], random);
    for (batch, seq) in [(1, 1), (2, 7), (4, 32), (3, 16), (1, 31)] {
        let mask = Tensor::from_ints(DType::I64, &[batch, seq], &vec![1; batch * seq]);
        let inputs = [ids(batch, seq, &mut random), mask];
        let expected = eval_graph(&graph, &inputs).unwrap();
        all_close(&run(&inputs).unwrap(), &expected, &format!("batch {batch}, seq {seq}"));
    }
    let long = [ids(1, 33, &mut random), Tensor::from_ints(DType::I64, &[1, 33], &[1; 33])];
    let error = run(&long).expect_err("33 is past the declared range").to_string();
    assert!(error.contains("outside of its declared range"), "{error}");
}

#[test]
fn stream_state_in_place() {
    for (name, input) in [("dtln_stage1", 1), ("dtln_stage2", 1), ("silero_vad_v6", 1)] {
        let Some(model) = model(name) else { return };
        let (first, _) = model.tensors(&model.cases[0]);
        let (mut graph, first) = model.graph_for(&first).unwrap();
        graph.states.push(State { input, output: 1, append: None });
        let built = build(&graph);
        assert_no_copy(&built, name);
        let executable = Executable::new(&built).unwrap();
        let mut call = executable.prepare(&first).unwrap();
        let mut state = first[input].clone();
        let mut random = fastrand::Rng::with_seed(11);
        for frame in 0..6 {
            let mut inputs = if frame == 0 { first.clone() } else { like(&first, &mut random) };
            inputs[input] = state;
            let expected = eval_graph(&graph, &inputs).unwrap();
            // The state is only given before the first frame; then the object keeps it.
            for (index, tensor) in inputs.iter().enumerate().filter(|(index, _)| *index != input) {
                executable.feed(&mut call, index, tensor).unwrap();
            }
            executable.run(&mut call).unwrap();
            all_close(&executable.outputs(&mut call).unwrap(), &expected, &format!("{name}, frame {frame}"));
            state = expected[1].clone();
        }
    }
}

/// The state is one buffer of the caller's for input and output, and no step copies it as a whole.
fn assert_no_copy(built: &Built, name: &str) {
    let program = &built.program;
    for state in &program.states {
        let before = program.root(program.inputs[state.input].view.buffer);
        let after = program.root(program.outputs[state.output].view.buffer);
        assert_eq!(before, after, "{name}: the state has two buffers");
        program.for_each_leaf(&mut |leaf| {
            let copies = leaf.op.name() == "unary" && leaf.op.to_string().contains("identity");
            let writes = leaf.outputs.iter().any(|view| program.root(view.buffer) == after);
            assert!(!(copies && writes), "{name}: `{}` {} copies the state", leaf.op, leaf.loc);
        });
    }
    assert_eq!(built.package.manifest.states.len(), program.states.len(), "{name}");
    let copied: Vec<&String> = built.notes.iter().filter(|note| note.contains("is copied")).collect();
    assert!(copied.is_empty(), "{name}: {copied:?}");
}

/// Keys and values of past tokens, which grow in buffers of fixed capacity from nothing.
#[test]
fn growing_state() {
    const CAPACITY: i64 = 24;
    let Some(model) = model("stories260k_llama_f32") else { return };
    let mut graph = with_dims(&model, &[("batch", 1, 1), ("seq", 1, 1), ("past", 0, CAPACITY - 1)]);
    let states = graph.inputs().len() - 1;
    for index in 1..=states {
        let append = Some(Append { axis: 2, capacity: CAPACITY });
        graph.states.push(State { input: index, output: index, append });
    }
    let built = build(&graph);
    assert_no_copy(&built, &model.name);
    let executable = Executable::new(&built).unwrap();
    let (recorded, _) = model.tensors(&model.cases[0]);
    let tokens = recorded[0].to_i64();
    let token = |at: usize| Tensor::from_ints(DType::I64, &[1, 1], &[i128::from(tokens[at % tokens.len()])]);
    let mut inputs = vec![token(0)];
    inputs.extend((0..states).map(|_| Tensor::from_f32(&[1, 4, 0, 8], &[])));
    let mut call: Call = executable.prepare(&inputs).unwrap();
    for at in 0..usize::try_from(CAPACITY).unwrap() {
        inputs[0] = token(at);
        let expected = eval_graph(&graph, &inputs).unwrap();
        executable.set_dim(&mut call, "past", i64::try_from(at).unwrap()).unwrap();
        executable.feed(&mut call, 0, &inputs[0]).unwrap();
        executable.run(&mut call).unwrap_or_else(|e| panic!("token {at}: {e}"));
        all_close(&executable.outputs(&mut call).unwrap(), &expected, &format!("token {at}"));
        inputs.splice(1.., expected.into_iter().skip(1));
    }
    executable.set_dim(&mut call, "past", CAPACITY).unwrap();
    let error = executable.run(&mut call).expect_err("the state is full").to_string();
    assert!(error.contains("outside of its declared range"), "{error}");
}
