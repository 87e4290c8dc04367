//! The e-graph stage: regions of the graph, rules until nothing changes, the cheapest form back.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::egraph::{
    Built, Choice, EGraph, Form, Goal, Read, Recipe, Region, Rule, RuleStats, extract, gap, saturate,
};
use adze_ir::exact::{Exactness, NORM_LINEAR};
use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::Op;

use crate::greedy;
use crate::pass::{Changed, Optimizer, Pass, PassCx, PassError};
use crate::regions::{Part, regions};
use crate::rules::{self, merge, stack};
use crate::solved;
use crate::validate::{Pair, validate};

/// See [`Pass::docs`].
pub struct Saturate;

const NAME: &str = "saturate";

impl Pass for Saturate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Cuts the graph into regions, adds every equal form that the rules know to an e-graph per region, and takes the \
         cheapest one, shared parts counted once. A region of a form that was solved before takes its solution. Limits \
         are in iterations and e-nodes, never in time. A region whose rules disagree stays as it was."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Norm(NORM_LINEAR)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let rules = if cx.options.optimizer.is_canonical() { rules::canonical() } else { rules::of_pass(NAME, cx) };
        rewrite_all(graph, cx, NAME, &rules)
    }
}

/// Rewrites a graph with these rules, region by region, for the pass of that name; greedy goes through them in their order.
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
    if cx.options.optimizer == Optimizer::Greedy {
        return greedy::rewrite(graph, cx, pass, rules);
    }
    let validates = cx.options.validate;
    let (mut out, mut built) = start(graph);
    let rules: Vec<&'static Rule> =
        rules.iter().copied().filter(|rule| cx.options.without != Some(rule.name)).collect();
    let rules = &rules[..];
    let mut solver = Solver { cx, pass, rules, solved: BTreeMap::new(), counts: Counts::default() };
    let mut changed = Changed::No;
    for part in regions(graph) {
        let solution = solver.solve(graph, &part, &mut out, &mut built)?;
        let validated = if validates && !solution.stats.applied.is_empty() {
            let (nodes, outputs) = (&part.nodes[..], &part.outputs[..]);
            // What is no rule groups operators of one kind: sums in another order.
            let rule = |name: &String| rules.iter().find(|rule| rule.name == name);
            let bound = |name| rule(name).map_or(Exactness::Norm(NORM_LINEAR), |rule| rule.exactness);
            let bounds: Vec<Exactness> = solution.stats.applied.keys().map(bound).collect();
            let pair = Pair { pass, before: graph, nodes, outputs, after: &out, built: &built, bounds: &bounds };
            Some(validate(&pair).map_err(|what| PassError::Rule { pass, what })?)
        } else {
            None
        };
        let node = *part.nodes.first().expect("regions have nodes");
        let mut missed = Vec::new();
        if let Some(what) = &solution.bug {
            if cfg!(debug_assertions) {
                return Err(PassError::Rule { pass, what: what.clone() });
            }
            missed.push(format!("region left as it was: {what}"));
        }
        // A choice is made here, whether a rule applied or not.
        let chooses = part.nodes.iter().any(|&id| matches!(graph.node(id).op, Op::Choice(_)));
        if chooses || !solution.stats.applied.is_empty() {
            changed = Changed::Yes;
        }
        if !solution.stats.saturated {
            missed.push(format!("rewriting stopped at a limit with {} e-nodes", solution.stats.nodes));
        }
        solver.cx.validated.extend(validated);
        missed.into_iter().for_each(|reason| solver.cx.missed(graph, node, reason));
    }
    let detail = solver.counts.to_string();
    cx.detail = detail;
    finish(graph, &mut out, &built);
    if changed == Changed::Yes {
        *graph = out;
    }
    Ok(changed)
}

/// A graph with the inputs and constants of another one.
pub(crate) fn start(graph: &Graph) -> (Graph, Built) {
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
    (out, built)
}

/// Hands the outputs on, once every region is there.
pub(crate) fn finish(graph: &Graph, out: &mut Graph, built: &Built) {
    for output in graph.outputs() {
        out.add_output(output.name.clone(), built.values[output.value].expect("every region emits its outputs"));
    }
    out.remove_dead();
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

/// Of each region of a graph with other forms, the weight that extraction finds and the least one there is; `None` where `steps`
/// do not suffice to prove it. For measuring extraction.
pub fn gaps(graph: &Graph, cx: &PassCx<'_>, steps: usize) -> Vec<Option<(u64, u64)>> {
    let goal = Goal { costs: cx.costs, error_weight: cx.options.error_weight };
    let rules = rules::rules(NAME, cx.costs.families());
    let mut seen = BTreeSet::new();
    let mut gaps = Vec::new();
    for part in regions(graph) {
        let mut region = Region::new(graph, &part.nodes, &part.outputs);
        if seen.insert(region.form().clone()) {
            let egraph = std::mem::take(&mut region.egraph);
            let (egraph, stats) = saturate(egraph, &rules, cx.options.iterations, usize::MAX);
            if !stats.applied.is_empty() {
                gaps.push(gap(&egraph, region.root(), &goal, steps));
            }
        }
    }
    gaps
}

/// What became of a region.
struct Solution {
    recipe: Recipe,
    stats: RuleStats,
    /// Why it was left as it was.
    bug: Option<String>,
}

/// For people.
#[derive(Clone, Copy, Default)]
struct Counts {
    regions: usize,
    repeated: usize,
    nodes: usize,
    iterations: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { regions, repeated, nodes, iterations } = self;
        write!(f, "{regions} regions, {repeated} of them as before; {nodes} e-nodes, {iterations} iterations at most")
    }
}

/// Solutions by the form of the region, each with what rules read of its constants.
type Solved = BTreeMap<Form, Vec<(Vec<Read>, Solution)>>;

struct Solver<'a, 'c> {
    cx: &'a mut PassCx<'c>,
    pass: &'static str,
    rules: &'a [&'static Rule],
    solved: Solved,
    counts: Counts,
}

impl Solver<'_, '_> {
    /// Solves a region, or takes the solution of an equal one, and adds its nodes.
    fn solve(
        &mut self,
        graph: &Graph,
        part: &Part,
        out: &mut Graph,
        built: &mut Built,
    ) -> Result<&Solution, PassError> {
        let mut region = Region::new(graph, &part.nodes, &part.outputs);
        let known = self.solved.get(region.form());
        // A region that is kept for readers is solved by itself.
        let known = known.filter(|_| !self.cx.options.record);
        let same = known.and_then(|list| list.iter().position(|(reads, _)| region.answers(reads)));
        self.counts.regions += 1;
        let at = match same {
            Some(at) => {
                self.counts.repeated += 1;
                at
            }
            None => {
                let solution = self.fresh(graph, &mut region)?;
                self.counts.nodes += solution.stats.nodes;
                self.counts.iterations = self.counts.iterations.max(solution.stats.iterations);
                let list = self.solved.entry(region.form().clone()).or_default();
                list.push((region.reads(), solution));
                list.len() - 1
            }
        };
        let solution = &self.solved[region.form()][at].1;
        let broken = |error: adze_ir::egraph::RegionError| PassError::Rule { pass: self.pass, what: error.to_string() };
        solution.recipe.emit(region.part(), out, built).map_err(broken)?;
        Ok(solution)
    }

    fn fresh(&mut self, graph: &Graph, region: &mut Region<'_>) -> Result<Solution, PassError> {
        let options = self.cx.options;
        let source = region.egraph.clone();
        let limit = options.growth_limit.saturating_mul(region.len()).max(1000);
        region.egraph.analysis.log = options.record.then(Vec::new);
        let offered = self.offer(&mut region.egraph);
        let (egraph, mut stats) = saturate(std::mem::take(&mut region.egraph), self.rules, options.iterations, limit);
        region.egraph = egraph;
        stats.applied.extend(offered);
        let bug = region.egraph.analysis.bugs.first().map(|bug| format!("rule `{}` {}", bug.rule, bug.what));
        if bug.is_none()
            && let Some(choice) = self.extract(&region.egraph, region)
        {
            let recipe = region.recipe(&choice);
            if options.record {
                let goal = Goal { costs: self.cx.costs, error_weight: options.error_weight };
                let solved = solved::Solved::new((graph, self.pass), region, &source, &goal, (choice, stats.clone()));
                self.cx.solved.push(solved);
            }
            return Ok(Solution { recipe, stats, bug: None });
        }
        let bug = bug.or_else(|| Some("the choice has a cycle".to_owned()));
        region.egraph = source;
        let choice = self.extract(&region.egraph, region);
        let choice =
            choice.ok_or_else(|| PassError::Rule { pass: self.pass, what: "a source region has a cycle".into() })?;
        Ok(Solution { recipe: region.recipe(&choice), stats: RuleStats::default(), bug })
    }

    /// Adds groups of operators as one; how many of each kind.
    fn offer(&self, egraph: &mut EGraph) -> BTreeMap<String, usize> {
        let offers = self.pass == NAME && self.cx.options.optimizer == Optimizer::Joint;
        if !offers {
            return BTreeMap::new();
        }
        let offered = [(merge::NAME, merge::offer(egraph, self.cx.costs)), (stack::NAME, stack::offer(egraph))];
        offered.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)).collect()
    }

    fn extract(&self, egraph: &EGraph, region: &Region<'_>) -> Option<Choice> {
        let goal = Goal { costs: self.cx.costs, error_weight: self.cx.options.error_weight };
        extract(egraph, region.root(), &goal)
    }
}

#[cfg(test)]
mod tests {
    use adze_ir::egraph::Match;
    use adze_ir::text::parse_graph;

    use super::*;
    use crate::pass::PassOptions;

    /// `x` for `x + |x|`.
    const WRONG: Rule = Rule {
        name: "sum-with-magnitude",
        left: &["(add ?s ?x (abs ?a ?x))"],
        right: "?x",
        conditions: &[],
        exactness: Exactness::Exact,
        sound: "it is not",
        helps: "nobody",
        make: |egraph, subst| Some(Match { egraph, subst }.id("x")),
    };

    #[test]
    #[cfg(debug_assertions)]
    fn a_wrong_rule_is_caught_and_named() {
        let text = "graph @g { input %0 \"x\" : f32[2,3]\n %1 = abs %0 : f32[2,3]\n %2 = add %0, %1 : f32[2,3]\n output \"y\" = %2 }";
        let mut graph = parse_graph(text).unwrap();
        let options = PassOptions::default();
        let mut rules = rules::rules(NAME, &[]);
        rules.push(&WRONG);
        let found = rewrite_all(&mut graph, &mut PassCx::plain(&options), NAME, &rules);
        let said = found.map_err(|error| error.to_string());
        assert!(said.as_ref().is_err_and(|what| what.contains("rule `sum-with-magnitude` unites values")), "{said:?}");
    }
}
