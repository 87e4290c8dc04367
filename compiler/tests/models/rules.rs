//! What every rule wins on the shared models: how much heavier the extracted choice is without it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use adze_ir::egraph::{Goal, Region, Rule, extract, saturate};
use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_passes::pass::PassOptions;
use adze_passes::pipeline::Runner;
use adze_passes::rules::rules;
use adze_targets::cpu::{CpuModel, Machine};

use crate::shared;

/// The table: a rule, a model, and by how much the choice is heavier without the rule.
fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/rules/won.txt")
}

/// Weight of what is extracted under these rules, and those that applied.
fn weigh(graph: &Graph, rules: &[&'static Rule], model: &CpuModel) -> Option<(u64, BTreeSet<String>)> {
    let options = PassOptions::default();
    let nodes: Vec<NodeId> =
        graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_))).map(|(id, _)| id).collect();
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    let mut region = Region::new(graph, &nodes, &outputs, graph.consts.clone());
    let limit = options.growth_limit * nodes.len();
    let (egraph, stats) = saturate(std::mem::take(&mut region.egraph), rules, options.iterations, limit);
    assert_eq!(egraph.analysis.bugs, []);
    let goal = Goal { costs: model, error_weight: options.error_weight };
    let choice = extract(&egraph, region.root(), &goal)?;
    Some((choice.weight, stats.applied.into_keys().collect()))
}

/// By how many millionths every rule that applies makes the choice lighter.
fn won(mut graph: Graph, model: &CpuModel) -> BTreeMap<String, u64> {
    let options = PassOptions::default();
    let runner = Runner { options: &options, costs: model, verify: false, stop_after: None };
    runner.run(&mut graph, &["canonicalize", "integers", "fold-constants"], &mut |_, _| {}).unwrap();
    let all = rules();
    let Some((weight, applied)) = weigh(&graph, &all, model) else { return BTreeMap::new() };
    let mut gains = BTreeMap::new();
    for name in applied {
        let others: Vec<&'static Rule> = all.iter().copied().filter(|rule| rule.name != name).collect();
        let (without, _) = weigh(&graph, &others, model).expect("less to choose from");
        if without > weight {
            gains.insert(name, (without - weight).saturating_mul(1_000_000) / weight.max(1));
        }
    }
    gains
}

/// Writes the table anew.
#[test]
#[ignore = "minutes; run it when rules or costs have changed"]
fn what_rules_win() {
    let model = CpuModel::new(Machine::from_name("x86_64-v3").unwrap());
    let only = std::env::var("ADZE_MODEL").unwrap_or_default();
    let mut lines = BTreeSet::new();
    for shared in shared::models().iter().filter(|model| model.name.contains(&only)) {
        let (inputs, _) = shared.tensors(&shared.cases[0]);
        let Ok((graph, _)) = shared.graph_for(&inputs) else { continue };
        for (rule, gain) in won(graph, &model) {
            let share = gain as f64 / 1e4;
            println!("{rule} {} {share:.4}", shared.name);
            lines.insert(format!("{rule} {} {share:.4}\n", shared.name));
        }
    }
    if only.is_empty() && !lines.is_empty() {
        let head = "# Per cent by which what is extracted is heavier without the rule (x86_64-v3), by rule and model.\n\
                    # Made by: cargo test -p adze-compiler --test models what_rules_win -- --ignored\n";
        std::fs::write(table(), head.to_owned() + &lines.into_iter().collect::<String>()).unwrap();
    }
}
