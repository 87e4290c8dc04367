//! The e-graph stage: regions of the graph, rules until nothing changes, the cheapest form back.

use adze_ir::egraph::{Built, Goal, Region, Rule, RuleStats, extract, saturate};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::Op;
use cranelift_entity::SecondaryMap;

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rules::{self, merge};

/// See [`Pass::docs`].
pub struct Saturate;

const NAME: &str = "saturate";
/// Nodes of a region, constants not counted.
const REGION_NODES: usize = 240;
/// How far a cut may move to find a good place.
const CUT_SLACK: usize = 80;

impl Pass for Saturate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Cuts the graph into regions, adds every equal form that the rules know to an e-graph per region, and takes the \
         cheapest one, shared parts counted once. Limits are in iterations and e-nodes, never in time. A region whose \
         rules disagree stays as it was."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Norm(NORM_LINEAR)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite_all(graph, cx, NAME, &rules::rules())
    }
}

/// Rewrites a graph with these rules, region by region, for the pass of that name.
pub(crate) fn rewrite_all(
    graph: &mut Graph,
    cx: &mut PassCx<'_>,
    pass: &'static str,
    rules: &[&'static Rule],
) -> Result<Changed, PassError> {
    let plain = |v: &ValueId| graph.ty(*v).layout.is_plain() && graph.ty(*v).quant.is_none();
    if !graph.nodes().all(|(_, node)| node.outputs.iter().all(plain)) {
        // Rules reason about plain types; layouts are assigned later.
        return Ok(Changed::No);
    }
    let mut out = Graph::new(graph.name.clone());
    out.dims = graph.dims.clone();
    out.states = graph.states.clone();
    out.consts = graph.consts.clone();
    let mut built = Built::default();
    for &input in graph.inputs() {
        let value = graph.value(input);
        let new = out.add_input(value.name.clone().unwrap_or_default(), value.ty.clone());
        built.values[input] = Some(new);
    }
    keep_constants(graph, &mut out, &mut built);
    let mut changed = Changed::No;
    for part in regions(graph) {
        let (report, bug) = rewrite(graph, &part, &mut out, &mut built, cx, (pass, rules))?;
        if let Some(what) = bug {
            if cfg!(debug_assertions) {
                return Err(PassError::Rule { pass, what });
            }
            let node = *part.nodes.first().expect("regions have nodes");
            cx.missed(graph, node, format!("region left as it was: {what}"));
        }
        // A choice is made here, whether a rule applied or not.
        let chooses = part.nodes.iter().any(|&id| matches!(graph.node(id).op, Op::Choice(_)));
        if chooses || !report.applied.is_empty() {
            changed = Changed::Yes;
        }
        if !report.saturated {
            let node = *part.nodes.first().expect("regions have nodes");
            cx.missed(graph, node, format!("rewriting stopped at a limit with {} e-nodes", report.nodes));
        }
    }
    for output in graph.outputs() {
        out.add_output(output.name.clone(), built.values[output.value].expect("every region emits its outputs"));
    }
    out.remove_dead();
    if changed == Changed::Yes {
        *graph = out;
    }
    Ok(changed)
}

/// Constants keep their names and places in front.
fn keep_constants(graph: &Graph, out: &mut Graph, built: &mut Built) {
    for (_, node) in graph.nodes() {
        if let Op::Constant(constant) = &node.op {
            let old = node.outputs[0];
            let value = *built.constants.entry(constant.id).or_insert_with(|| {
                let value = out.add_const(constant.id, node.loc.clone());
                out.set_name(value, graph.value(old).name.clone());
                value
            });
            built.values[old] = Some(value);
        }
    }
}

/// A stretch of the order and those of its values that are used elsewhere.
pub(crate) struct Part {
    pub nodes: Vec<NodeId>,
    pub outputs: Vec<ValueId>,
}

type Rewritten = (RuleStats, Option<String>);

fn rewrite(
    graph: &Graph,
    part: &Part,
    out: &mut Graph,
    built: &mut Built,
    cx: &PassCx<'_>,
    (pass, rules): (&'static str, &[&'static Rule]),
) -> Result<Rewritten, PassError> {
    let (options, costs) = (cx.options, cx.costs);
    let broken = |error: adze_ir::egraph::RegionError| PassError::Rule { pass, what: error.to_string() };
    let source = || Region::new(graph, &part.nodes, &part.outputs, out.consts.clone());
    let goal = Goal { costs, error_weight: options.error_weight };
    let mut region = source();
    let limit = options.growth_limit.saturating_mul(part.nodes.len()).max(1000);
    let mut egraph = std::mem::take(&mut region.egraph);
    let merged = if pass == NAME { merge::offer(&mut egraph, costs) } else { 0 };
    let (egraph, mut stats) = saturate(egraph, rules, options.iterations, limit);
    if merged > 0 {
        stats.applied.insert(merge::NAME.to_owned(), merged);
    }
    region.egraph = egraph;
    let bug = region.egraph.analysis.bugs.first().map(|bug| format!("rule `{}` {}", bug.rule, bug.what));
    if bug.is_none()
        && let Some(choice) = extract(&region.egraph, region.root(), &goal)
    {
        region.emit(&choice, out, built).map_err(broken)?;
        return Ok((stats, None));
    }
    let bug = bug.or_else(|| Some("the choice has a cycle".to_owned()));
    let region = source();
    let choice = extract(&region.egraph, region.root(), &goal);
    let choice = choice.ok_or_else(|| PassError::Rule { pass, what: "a source region has a cycle".into() })?;
    region.emit(&choice, out, built).map_err(broken)?;
    Ok((RuleStats::default(), bug))
}

/// Cuts the order where few values cross and no rule would look across.
pub(crate) fn regions(graph: &Graph) -> Vec<Part> {
    let nodes: Vec<NodeId> =
        graph.nodes().filter(|(_, n)| !matches!(n.op, Op::Constant(_))).map(|(id, _)| id).collect();
    let mut last_use: SecondaryMap<ValueId, usize> = SecondaryMap::new();
    for (at, &id) in nodes.iter().enumerate() {
        graph.node(id).inputs.iter().flatten().for_each(|&v| last_use[v] = at);
    }
    graph.outputs().iter().for_each(|o| last_use[o.value] = usize::MAX);
    let crossing = crossing(graph, &nodes, &last_use);
    let mut parts = Vec::new();
    let mut start = 0;
    while start < nodes.len() {
        let end = if nodes.len() - start <= REGION_NODES + CUT_SLACK {
            nodes.len()
        } else {
            (start + REGION_NODES - CUT_SLACK..=start + REGION_NODES)
                .min_by_key(|&at| (cut_cost(graph, nodes[at]), crossing[at], usize::MAX - at))
                .unwrap_or(nodes.len())
        };
        let results = nodes[start..end].iter().flat_map(|&id| graph.node(id).outputs.iter().copied());
        let outputs = results.filter(|&v| last_use[v] >= end).collect();
        parts.push(Part { nodes: nodes[start..end].to_vec(), outputs });
        start = end;
    }
    parts
}

/// Values alive just before each node of the list.
fn crossing(graph: &Graph, nodes: &[NodeId], last_use: &SecondaryMap<ValueId, usize>) -> Vec<usize> {
    let mut ends: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    let mut alive = 0;
    let mut crossing = Vec::with_capacity(nodes.len());
    for (at, &id) in nodes.iter().enumerate() {
        crossing.push(alive);
        for &value in &graph.node(id).outputs {
            if last_use[value] > at {
                *ends.entry(last_use[value]).or_default() += 1;
                alive += 1;
            }
        }
        alive -= ends.remove(&at).unwrap_or(0);
    }
    crossing
}

/// 0 before an operator that starts a pattern and reads no result of one that would move into it.
fn cut_cost(graph: &Graph, id: NodeId) -> u8 {
    let node = graph.node(id);
    let starts = matches!(node.op, Op::Conv(_) | Op::MatMul(_) | Op::Gemm(_) | Op::Reduce(_) | Op::MaxPool(_));
    let is_moved = |op: &Op| matches!(op, Op::Pad(_) | Op::Transpose(_) | Op::Dequantize(_));
    let moves = |v: &ValueId| graph.producer(*v).is_some_and(|(_, n)| is_moved(&n.op));
    if !starts {
        2
    } else if node.inputs.iter().flatten().any(moves) {
        1
    } else {
        0
    }
}
