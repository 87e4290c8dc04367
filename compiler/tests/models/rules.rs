//! What each rule does to the shared models.

use std::collections::BTreeMap;
use std::path::Path;

use adze_compiler::build::BuildOptions;
use adze_compiler::catalog::{Counts, print_counts};
use adze_compiler::explain::counts::count;
use adze_compiler::stage::{Artifact, Stage, Trace};
use adze_ir::graph::Graph;
use adze_ir::sample;
use adze_targets::cpu::Machine;

use crate::shared::models;

/// The machine whose estimated cycles count.
const TARGET: &str = "x86_64-v3";

/// Writes `compiler/src/catalog.tsv`, of which `docs/rules.md` is made.
#[test]
#[ignore = "a campaign that writes a file of the sources; minutes"]
fn rule_counts() {
    let models = models();
    if models.is_empty() {
        return;
    }
    let options = BuildOptions::new(Machine::from_name(TARGET).unwrap());
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let mut read = 0;
    for model in &models {
        let counted = model
            .graph_for(&model.tensors(&model.cases[0]).0)
            .and_then(|(graph, _)| count(&graph, &options, &mut counts));
        match counted {
            Ok(()) => read += 1,
            Err(error) => eprintln!("left out: {}: {error}", model.name),
        }
    }
    let patterns = patterns();
    for (name, graph) in &patterns {
        count(graph, &options, &mut counts).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let about = format!(
        "{read} of the shared models in the shapes of their first case and {} graphs of testdata/patterns, estimated cycles of {TARGET}",
        patterns.len()
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/catalog.tsv");
    std::fs::write(path, print_counts(&about, &counts)).unwrap();
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
