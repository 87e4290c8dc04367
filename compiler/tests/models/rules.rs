//! What each rule does to the shared models.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use adze_compiler::build::BuildOptions;
use adze_compiler::catalog::{Counts, families, parse_counts, print_counts};
use adze_compiler::explain::counts::count;
use adze_compiler::npu;
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::propose::CostModel;
use adze_ir::sample;
use adze_passes::pass::PassOptions;
use adze_passes::pipeline;
use adze_targets::bm1684x::ChipModel;
use adze_targets::cpu::{CpuModel, Machine};

use crate::shared::models;

/// The machine whose estimated cycles count.
const TARGET: &str = "x86_64-v3";

/// The neural processor, whose own rules are counted by its prices.
const NPU: &str = "bm1684x";

/// Writes the rows of `compiler/src/catalog.tsv`, of which `docs/rules.md` is made, that CPUs say.
#[test]
#[ignore = "a campaign that writes a file of the sources; minutes"]
fn rule_counts() {
    let options = BuildOptions::new(Machine::from_name(TARGET).unwrap());
    let model = CpuModel::new(options.machine.clone());
    let Some((counts, [models, patterns])) = counted(&|_| true, (&model, pipeline::DEFAULT, &options.passes)) else {
        return;
    };
    let about = format!(
        "{models} of the shared models in the shapes of their first case and {patterns} graphs of testdata/patterns, estimated \
         cycles of {TARGET}"
    );
    write_counts(&counts, false, &about);
}

/// Writes the rows of the neural processor's rules.
#[test]
#[ignore = "a campaign that writes a file of the sources; a minute"]
fn rule_counts_of_the_bm1684x() {
    let (model, passes) = (ChipModel::new(None), npu::passes(None));
    let quantized = |graph: &Graph| graph.nodes().any(|(_, node)| matches!(node.op, Op::Quantize(_)));
    let Some((counts, [models, patterns])) = counted(&quantized, (&model, &passes, &PassOptions::default())) else {
        return;
    };
    write_counts(
        &counts,
        true,
        &format!("of the rules of {NPU} its own on the {} of them that are quantized", models + patterns),
    );
}

/// What rules do to the shared models and patterns that are asked for, and how many there are.
fn counted(
    wanted: &dyn Fn(&Graph) -> bool,
    with: (&dyn CostModel, &[&str], &PassOptions),
) -> Option<(BTreeMap<String, Counts>, [usize; 2])> {
    let models = models();
    if models.is_empty() {
        return None;
    }
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let mut read = 0;
    for model in &models {
        let graph = model.graph_for(&model.tensors(&model.cases[0]).0);
        match graph
            .and_then(|(graph, _)| if wanted(&graph) { count(&graph, with, &mut counts).map(|()| 1) } else { Ok(0) })
        {
            Ok(one) => read += one,
            Err(error) => eprintln!("left out: {}: {error}", model.name),
        }
    }
    let patterns: Vec<(String, Graph)> = patterns().into_iter().filter(|(_, graph)| wanted(graph)).collect();
    for (name, graph) in &patterns {
        count(graph, with, &mut counts).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    Some((counts, [read, patterns.len()]))
}

/// Puts counts of the neural processor's rules, or of all others, in the place of those that the file has.
fn write_counts(counts: &BTreeMap<String, Counts>, of_npu: bool, about: &str) {
    static FILE: Mutex<()> = Mutex::new(());
    let _alone = FILE.lock().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/catalog.tsv");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut all = parse_counts(&text);
    for family in families().filter(|family| (family.machine == Some(NPU)) == of_npu) {
        for rule in family.rules {
            all.insert(rule.name.to_owned(), counts.get(rule.name).copied().unwrap_or_default());
        }
    }
    let first = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    let (cpu, npu) = first.split_once("; ").unwrap_or((first, ""));
    let about = if of_npu { format!("{cpu}; {about}") } else { format!("{about}; {npu}") };
    std::fs::write(path, print_counts(&about, &all)).unwrap();
}

/// What frameworks export and the shared models have none of.
fn patterns() -> Vec<(String, Graph)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/patterns");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: std::path::PathBuf| {
        let graph = sample::graph(&std::fs::read_to_string(&path).unwrap());
        (path.display().to_string(), graph.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    paths.into_iter().map(read).collect()
}

/// Every region that rules rewrite computes what it did, on random inputs. Networks of convolutions are left to
/// `ADZE_ALL=1`: the interpreter takes its time.
#[test]
fn regions_are_validated() {
    let all = std::env::var_os("ADZE_ALL").is_some();
    let mut compared = 0;
    for model in models() {
        if !all && model.cases[0].macs.is_none_or(|macs| macs > 8_000_000) {
            continue;
        }
        let Ok((graph, _)) = model.graph_for(&model.tensors(&model.cases[0]).0) else { continue };
        let mut options = BuildOptions::new(Machine::from_name(TARGET).unwrap());
        options.passes.validate = true;
        let mut trace = Trace::default();
        let imported = Artifact::Graph(Box::new(graph), 0);
        imported.advance(Stage::OPTIMISED, &options, &mut trace).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        for region in &trace.report.validated {
            println!("{}: {region}", model.name);
            compared += region.compared.as_ref().copied().unwrap_or_default();
        }
    }
    assert!(compared > 100 || models().is_empty(), "{compared} values were compared");
}
