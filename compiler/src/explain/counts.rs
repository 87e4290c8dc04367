//! What each rule does to a corpus: how often it applies, how often the chosen form rests on it, and what it wins.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::graph::Graph;
use adze_ir::propose::CostModel;
use adze_passes::pass::PassOptions;
use adze_passes::solved::Solved;

use crate::catalog::{Counts, find};
use crate::error::Error;
use crate::stage::{Trace, run_pass};

/// Weights beyond this are no cycles: the machine has no code for an operator, which weighs twice as much.
const NO_CODE: u64 = 1 << 39;

/// Adds what the rules do to a graph, as it comes from import, when these passes run at the prices of a machine. What comes behind
/// the last of `integers` and `saturate` runs no rules.
///
/// What a rule wins is found by doing each pass again without it.
///
/// # Errors
/// Those of the passes.
pub fn count(
    graph: &Graph,
    (costs, passes, options): (&dyn CostModel, &[&str], &PassOptions),
    counts: &mut BTreeMap<String, Counts>,
) -> Result<(), Error> {
    let recorded = PassOptions { record: true, ..options.clone() };
    let last = passes.iter().rposition(|pass| matches!(*pass, "integers" | "saturate")).unwrap_or_default();
    let mut graph = graph.clone();
    let mut in_model: BTreeSet<&'static str> = BTreeSet::new();
    for pass in &passes[..=last] {
        let mut trace = Trace::default();
        let next = run_pass(&graph, pass, &recorded, costs, &mut trace)?;
        let with = weight(&trace.report.solved);
        let mut taken: BTreeSet<&'static str> = BTreeSet::new();
        for region in &trace.report.solved {
            let history = region.history();
            history.steps().iter().for_each(|step| counts.entry(step.rule.name.into()).or_default().fired += 1);
            for at in history.behind(&region.choice) {
                let name = history.steps()[at].rule.name;
                counts.entry(name.into()).or_default().taken += 1;
                taken.insert(name);
            }
        }
        for &name in &taken {
            let mut trace = Trace::default();
            let without = PassOptions { without: Some(name), record: true, ..options.clone() };
            run_pass(&graph, pass, &without, costs, &mut trace)?;
            let lost = weight(&trace.report.solved).saturating_sub(with);
            if lost < NO_CODE {
                counts.entry(name.into()).or_default().won += lost;
            }
        }
        in_model.extend(taken);
        graph = next;
    }
    in_model.iter().for_each(|&name| counts.entry(name.into()).or_default().models += 1);
    debug_assert!(in_model.iter().all(|name| find(name).is_some()));
    Ok(())
}

fn weight(regions: &[Solved]) -> u64 {
    regions.iter().fold(0, |sum, region| sum.saturating_add(region.choice.weight))
}
