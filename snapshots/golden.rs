//! Golden tests: one per file of `testdata/`, output in the mirrored folder here. The oracle runs before the snapshot.

use std::path::Path;

use adze_ir::eval::eval_graph;
use adze_ir::exact::Exactness;
use adze_ir::graph::Graph;
use adze_ir::propose::PlainMachine;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::verify::verify_graph;
use adze_passes::pass::PassOptions;
use adze_passes::pipeline::{Runner, exactness_of};

type Outcome = datatest_stable::Result<()>;

fn parse(text: &str) -> Result<Graph, String> {
    parse_graph(text).map_err(|error| format!("{error:?}"))
}

/// Numbers that differ everywhere, the same on every run.
fn inputs(graph: &Graph) -> Result<Vec<Tensor>, String> {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / f64::from(1u32 << 22) - 2.0
    };
    let tensor = |&value| {
        let ty = graph.ty(value);
        let shape = ty.fixed_shape().ok_or("golden inputs are static")?;
        let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| next()).collect();
        Ok(Tensor::from_f64(ty.dtype, &shape, &values))
    };
    graph.inputs().iter().map(tensor).collect()
}

fn agree(exactness: Exactness, before: &Tensor, after: &Tensor) -> bool {
    if exactness == Exactness::Exact {
        return before == after;
    }
    let (a, b) = (before.to_f64(), after.to_f64());
    let largest = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}

fn passes(path: &Path) -> Outcome {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().next().unwrap_or_default();
    let names = line.strip_prefix("// run: opt --passes=").ok_or("the first line is `// run: opt --passes=...`")?;
    let names: Vec<&str> = names.split(',').collect();
    let before = parse(&text)?;
    verify_graph(&before).map_err(|v| format!("{v:?}"))?;
    let mut after = before.clone();
    let options = PassOptions::default();
    let runner = Runner { options: &options, costs: &PlainMachine, verify: true, stop_after: None };
    let report = runner.run(&mut after, &names, &mut |_, _| {})?;
    let inputs = inputs(&before)?;
    let exactness = exactness_of(&names)?;
    for (a, b) in eval_graph(&before, &inputs)?.iter().zip(&eval_graph(&after, &inputs)?) {
        assert!(agree(exactness, a, b), "the passes change the result ({exactness}): {a:?} became {b:?}");
    }
    let missed: String = report.missed.iter().map(|m| format!("// missed: {m}\n")).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root.join("passes").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, format!("{missed}{after}")));
    Ok(())
}

datatest_stable::harness! {
    { test = passes, root = "../testdata/passes", pattern = r"\.graph$" },
}
