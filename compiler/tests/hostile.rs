//! Models made to exhaust an importer: each is refused quickly, with the bound that it hits.

use std::time::{Duration, Instant};

use adze_compiler::onnx::{self, ErrorKind, ImportOptions};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::Dimension;
use onnx_protobuf::type_proto::Tensor;
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

fn node(domain: &str, op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    NodeProto {
        domain: domain.into(),
        op_type: op_type.into(),
        input: names(input),
        output: names(output),
        ..Default::default()
    }
}

fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| {
        let mut dim = Dimension::default();
        dim.set_dim_value(size);
        dim
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let mut ty = TypeProto::default();
    ty.set_tensor_type(Tensor { elem_type, shape: Some(shape).into(), ..Default::default() });
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..Default::default() }
}

fn opsets() -> Vec<OperatorSetIdProto> {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version, ..Default::default() };
    vec![opset("", 17), opset("local", 1)]
}

fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> ModelProto {
    ModelProto { ir_version: 8, graph: Some(graph).into(), functions, opset_import: opsets(), ..Default::default() }
}

/// A graph from `x` to `y` with these nodes.
fn graph(nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        input: vec![value("x", 1, &[2])],
        output: vec![value("y", 1, &[2])],
        ..Default::default()
    }
}

fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.into(),
        domain: "local".into(),
        input: vec!["a".into()],
        output: vec!["c".into()],
        node: nodes,
        opset_import: opsets(),
        ..Default::default()
    }
}

/// The message of a refusal that must be quick and of the kind "not supported".
fn refusal(model: &ModelProto) -> String {
    let bytes = model.write_to_bytes().expect("a message that was just made");
    let start = Instant::now();
    let error = onnx::import_bytes(&bytes.into(), None, "hostile", &ImportOptions::default()).expect_err("refused");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    error.to_string()
}

#[test]
fn functions_that_double() {
    // Each calls the next one twice: 2^40 nodes.
    let call = |depth: usize, from: &str, to: &str| match depth {
        39 => node("", "Relu", &[from], &[to]),
        _ => node("local", &format!("F{}", depth + 1), &[from], &[to]),
    };
    let functions =
        (0..40).map(|depth| function(&format!("F{depth}"), vec![call(depth, "a", "b"), call(depth, "b", "c")]));
    let text = refusal(&model(graph(vec![node("local", "F0", &["x"], &["y"])]), functions.collect()));
    assert!(text.contains("more nodes once functions and loops are written out"), "{text}");
}

#[test]
fn function_that_calls_itself() {
    let functions = vec![function("F", vec![node("local", "F", &["a"], &["c"])])];
    let text = refusal(&model(graph(vec![node("local", "F", &["x"], &["y"])]), functions));
    assert!(text.contains("nested deeper, accepted: 64 levels"), "{text}");
}

#[test]
fn loops_of_nothing() {
    // Four loops inside each other, 1000 turns each.
    let mut body = GraphProto {
        node: vec![node("", "Identity", &["go"], &["on"])],
        input: vec![value("i", 7, &[]), value("go", 9, &[])],
        output: vec![value("on", 9, &[])],
        ..Default::default()
    };
    for _ in 0..4 {
        let attribute = AttributeProto {
            name: "body".into(),
            type_: AttributeType::GRAPH.into(),
            g: Some(body.clone()).into(),
            ..Default::default()
        };
        let turns = NodeProto { attribute: vec![attribute], ..node("", "Loop", &["count", ""], &[]) };
        body.node = vec![turns, node("", "Identity", &["go"], &["on"])];
    }
    let mut graph = graph(vec![body.node[0].clone(), node("", "Relu", &["x"], &["y"])]);
    graph.initializer =
        vec![TensorProto { name: "count".into(), data_type: 7, int64_data: vec![1000], ..Default::default() }];
    let text = refusal(&model(graph, Vec::new()));
    assert!(text.contains("more nodes once functions and loops are written out"), "{text}");
}

#[test]
fn shapes_that_grow() {
    // x's batch squared a hundred times over: too long to keep, and then too large for a tensor.
    let mut nodes = vec![node("", "Shape", &["x"], &["s0"])];
    for index in 0..100 {
        let (from, to) = (format!("s{index}"), format!("s{}", index + 1));
        nodes.push(node("", "Mul", &[&from, &from], &[&to]));
    }
    nodes.push(node("", "ConstantOfShape", &["s100"], &["y"]));
    let mut graph = graph(nodes);
    graph.input = vec![value("x", 1, &[3])];
    let bytes = model(graph, Vec::new()).write_to_bytes().expect("a message that was just made");
    // 3 squared a hundred times wraps in `i64`: whatever is left is either refused or a shape within bounds.
    match onnx::import_bytes(&bytes.into(), None, "hostile", &ImportOptions::default()) {
        Ok(imported) => assert!(imported.graph.type_extents().all(|e| e.as_const().is_some_and(|e| e >= 0))),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Model, "{error}"),
    }
}
