//! The rules of the e-graph stage as a compiler without an e-graph would run them: one after another in the order they are
//! documented, each wherever it matches, its right side in the place of its left side for good. For measuring what choosing
//! among all forms together is worth. Groups of operators become one first, always.

use adze_ir::egraph::{EGraph, Region, RegionError, Rule, apply_everywhere, take_everywhere};
use adze_ir::graph::Graph;

use crate::pass::{Changed, PassCx, PassError};
use crate::regions::regions;
use crate::rules::{merge, stack};
use crate::saturate::{finish, start};

/// Most times that one rule is run before the next one: rules that undo each other must end.
const ROUNDS: usize = 16;
/// Most times that the list is gone through.
const SWEEPS: usize = 3;

/// Rewrites a graph with these rules.
pub(crate) fn rewrite(
    graph: &mut Graph,
    cx: &mut PassCx<'_>,
    pass: &'static str,
    rules: &[&'static Rule],
) -> Result<Changed, PassError> {
    let broken = |error: RegionError| PassError::Rule { pass, what: error.to_string() };
    let mut steps = 0;
    let costs = cx.costs;
    let offers: [&Offer<'_>; 2] = [&|egraph| merge::offer(egraph, costs), &stack::offer];
    for offer in offers.into_iter().filter(|_| pass == "saturate") {
        if let Some(next) = group(graph, offer).map_err(broken)? {
            *graph = next;
            steps += 1;
        }
    }
    for _ in 0..SWEEPS {
        let before = steps;
        for rule in rules {
            for _ in 0..ROUNDS {
                match step(graph, rule).map_err(broken)? {
                    Some(next) => *graph = next,
                    None => break,
                }
                steps += 1;
            }
        }
        if steps == before {
            break;
        }
    }
    cx.detail = format!("{steps} steps");
    Ok(if steps == 0 { Changed::No } else { Changed::Yes })
}

/// Adds groups of operators as one; how many.
type Offer<'a> = dyn Fn(&mut EGraph) -> usize + 'a;

/// The graph with every group that is offered as one; `None` where there is none.
fn group(graph: &Graph, offer: &Offer<'_>) -> Result<Option<Graph>, RegionError> {
    let (mut out, mut built) = start(graph);
    let mut any = false;
    for part in regions(graph) {
        let mut region = Region::new(graph, &part.nodes, &part.outputs);
        let source = region.egraph.clone();
        let offered = offer(&mut region.egraph) > 0;
        let taken = take_everywhere(&region.egraph, region.root(), |node| node.is("@get")).filter(|_| offered);
        any |= taken.is_some();
        let choice = taken.or_else(|| {
            region.egraph = source;
            take_everywhere(&region.egraph, region.root(), |_| false)
        });
        region.recipe(&choice.unwrap_or_default()).emit(region.part(), &mut out, &mut built)?;
    }
    finish(graph, &mut out, &built);
    Ok(any.then_some(out))
}

/// The graph with one rule applied wherever it matches; `None` where it does nowhere.
fn step(graph: &Graph, rule: &'static Rule) -> Result<Option<Graph>, RegionError> {
    let (mut out, mut built) = start(graph);
    let mut any = false;
    for part in regions(graph) {
        let mut region = Region::new(graph, &part.nodes, &part.outputs);
        let root = region.root();
        let (choice, applied) = apply_everywhere(&mut region.egraph, root, rule);
        any |= applied;
        region.recipe(&choice).emit(region.part(), &mut out, &mut built)?;
    }
    finish(graph, &mut out, &built);
    Ok(any.then_some(out))
}
