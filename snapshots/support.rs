//! What the golden tests share: seeded inputs, the oracle's comparison, and where snapshots lie.

use std::fmt::Display;
use std::path::Path;

use adze_ir::exact::Exactness;
use adze_ir::graph::Graph;
use adze_ir::propose::{CostModel, OpFacts, PlainMachine};
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::TensorType;
use adze_ir::verify::verify_graph;

/// Reads a graph text that has to verify.
pub fn graph(text: &str) -> Result<Graph, String> {
    let graph = parse_graph(text).map_err(|error| error.to_string())?;
    verify_graph(&graph).map_err(|violations| lines(&violations))?;
    Ok(graph)
}

/// One line per item.
pub fn lines<T: Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

/// Numbers in -2..2 that differ everywhere, the same on every run; a named dimension gets the middle of its range.
pub fn inputs(graph: &Graph) -> Result<Vec<Tensor>, String> {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / f64::from(1u32 << 22) - 2.0
    };
    let middle = |name: &str| graph.dims.get(name).map(|range| range.lo + (range.hi - range.lo) / 2);
    let tensor = |&value| {
        let ty = graph.ty(value);
        let shape = ty.shape.iter().map(|e| e.eval(&middle).and_then(|n| usize::try_from(n).ok()));
        let shape: Vec<usize> = shape.collect::<Option<_>>().ok_or("a dimension without a value")?;
        let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| next()).collect();
        Ok(Tensor::from_f64(ty.dtype, &shape, &values))
    };
    graph.inputs().iter().map(tensor).collect()
}

/// An upper bound of the number of terms in any sum that the graph computes: operations per element of a result.
pub fn terms(graph: &Graph) -> usize {
    let of = |node: &adze_ir::graph::Node| {
        let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
        let cost = OpFacts::in_graph(graph, &node.inputs, &outputs, |facts| PlainMachine.cost(&node.op, facts));
        let cycles = cost.map_or(0, |cost| cost.cycles);
        let elems = outputs.iter().map(|ty| ty.elems().upper(&graph.dims)).max().unwrap_or(1).max(1);
        usize::try_from(cycles).unwrap_or(usize::MAX) / usize::try_from(elems).unwrap_or(1)
    };
    graph.nodes().map(|(_, node)| of(node)).max().unwrap_or(1).max(1)
}

/// Panics unless the results agree within the exactness.
pub fn agree(what: &str, exactness: Exactness, graph: &Graph, expected: &[Tensor], found: &[Tensor]) {
    assert_eq!(expected.len(), found.len(), "{what}: the number of outputs");
    let terms = terms(graph);
    for (expected, found) in expected.iter().zip(found) {
        let holds = exactness.holds(found, expected, terms, 1.0);
        assert!(holds, "{what} changes the result beyond {exactness} of {terms} terms: {expected:?} became {found:?}");
    }
}

/// Compares with the snapshot of that file in the folder that mirrors its own.
pub fn snapshot(path: &Path, output: &str) {
    let folder = path.parent().and_then(|folder| folder.to_str()).unwrap_or_default();
    snapshot_in(folder.split("testdata/").nth(1).unwrap_or_default(), path, output);
}

/// Compares with the snapshot of that file in a folder of its own: another view of the same input.
pub fn snapshot_in(folder: &str, path: &Path, output: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root.join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, output));
}
