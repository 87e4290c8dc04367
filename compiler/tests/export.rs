//! Export: every graph of `testdata/import` that ONNX can express comes back from ONNX computing the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adze_compiler::Error;
use adze_compiler::compare::{Tolerance, compare};
use adze_compiler::data;
use adze_compiler::onnx::export::export;
use adze_compiler::onnx::{ImportOptions, import_bytes, import_file};
use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;

fn import_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/import")
}

/// A graph through ONNX and back.
fn there_and_back(graph: &Graph) -> Result<Graph, Error> {
    let bytes = export(graph)?;
    assert_eq!(bytes, export(graph)?, "the same graph gives the same bytes");
    Ok(import_bytes(&bytes.into(), None, &graph.name, &ImportOptions::default())?.graph)
}

#[test]
fn imported_graphs_come_back() {
    let mut models: Vec<PathBuf> = std::fs::read_dir(import_folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    models.sort();
    let (mut same, mut without) = (0, Vec::new());
    for path in &models {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let Ok(tensors) = data::read(&path.with_extension("ort.npz")) else { continue };
        let graph = import_file(path, &ImportOptions::default()).unwrap().graph;
        let again = match there_and_back(&graph) {
            Ok(again) => again,
            Err(error @ (Error::Unsupported(_) | Error::Import(_))) => {
                without.push(format!("{name}: {error}"));
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let names = |graph: &Graph| graph.outputs().iter().map(|o| o.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&graph), names(&again), "{name}");
        let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let inputs: Vec<Tensor> = (0..).map_while(|i| tensors.get(&format!("in_{i}")).cloned()).collect();
        let (before, after) = (eval_graph(&graph, &inputs).unwrap(), eval_graph(&again, &inputs).unwrap());
        for (before, after) in before.iter().zip(&after) {
            // Attributes are 32 bits wide in ONNX.
            let difference = compare(after, before, Tolerance::of_graph(&graph, before.dtype()).or_zero()).unwrap();
            assert_eq!(difference.beyond, 0, "{name}: {difference:?}");
        }
        same += 1;
    }
    assert!(same > 0);
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("not_exported", without.join("\n"));
    });
}

#[test]
fn shapes_over_dimensions_are_computed() {
    let text = r#"graph @g dims(n = 1..9, m = 2..8) {
      input %0 "x" : f32[n,m,4]
      %1 = reshape %0 {shape=[n*m, 4]} : f32[n*m,4]
      %2 = slice %0 {axes=[1], starts=[m - 1], sizes=[1], steps=[1]} : f32[n,1,4]
      %3 = pad %2 {mode=constant, before=[0, 0, 0], after=[0, floordiv(m, 2), 0]} : f32[n,floordiv(m,2)+1,4]
      %4 = extents {values=[n*m + 1, min(n, m)], dtype=i32} : i32[2]
      output "a" = %1
      output "b" = %3
      output "c" = %4
    }"#;
    let graph = parse_graph(text).unwrap();
    let again = there_and_back(&graph).unwrap();
    let values: Vec<f32> = (0..60u8).map(f32::from).collect();
    let x = Tensor::from_f32(&[3, 5, 4], &values);
    assert_eq!(eval_graph(&graph, std::slice::from_ref(&x)).unwrap(), eval_graph(&again, &[x]).unwrap());
}

#[test]
fn fused_graphs_are_refused_by_name() {
    let text = r#"graph @g {
      input %0 "x" : f32[2]
      %1 = fused %0 { s0 = relu p0; s1 = neg s0 } : f32[2] loc("Relu_7")
      output "y" = %1
    }"#;
    let error = export(&parse_graph(text).unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(text) if text.contains("Relu_7")), "{error}");
}

/// The standard lets a mask of attention broadcast over queries and keys, ONNX Runtime does not.
#[test]
fn masks_of_attention_are_written_in_full() {
    for (mask, full) in [("1,1,1,4", false), ("1,1,3,1", false), ("1,1,3,4", true), ("3,4", true), ("4", false)] {
        let text = format!(
            "graph @g {{
              input %0 \"q\" : f32[1,2,3,4]
              input %1 \"k\" : f32[1,2,4,4]
              input %2 \"v\" : f32[1,2,4,5]
              input %3 \"mask\" : f32[{mask}]
              %4 = attention %0, %1, %2, %3 {{scale=0.5, softcap=0.0}} : f32[1,2,3,5]
              output \"y\" = %4
            }}"
        );
        let graph = parse_graph(&text).unwrap();
        let again = there_and_back(&graph).unwrap();
        let inputs: Vec<Tensor> = graph
            .inputs()
            .iter()
            .map(|&v| {
                let shape = graph.ty(v).fixed_shape().unwrap();
                let elems: usize = shape.iter().product();
                Tensor::from_f32(&shape, &(0..elems).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(eval_graph(&graph, &inputs).unwrap(), eval_graph(&again, &inputs).unwrap(), "{mask}");
        let expands = again.nodes().filter(|(_, node)| matches!(node.op, Op::Expand(_))).count();
        assert_eq!(expands, usize::from(!full), "{mask}: {again}");
    }
}
