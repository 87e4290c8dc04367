//! Every rule by evaluation, on the cases of `testdata/rules` (its README.md has their form).
//!
//! - Where a rule applies, all members of every class agree on random shapes, attributes and data, to its exactness.
//! - Where it must not, it does nothing; and every condition is what refuses some case, which without it goes wrong.
//! - Random small graphs under all rules together: all members of every class agree, and growth is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use adze_ir::egraph::{Condition, EGraph, ENode, Family, Goal, Match, Region, Rule, RuleStats, extract, saturate};
use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::ConstId;
use adze_ir::propose::PlainMachine;
use adze_ir::tensor::Tensor;
use egg::{Id, Pattern, Searcher};

use super::{FAMILIES, merge, rules};
use cases::{Case, Expect, cases};

mod cases;
mod random;

/// The longest sum in the cases has that many terms.
const TERMS: usize = 18;

/// Those of the machines too.
fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(adze_targets::families())
}

fn all() -> Vec<&'static Rule> {
    families().flat_map(|family| family.rules).collect()
}

/// Values of all classes that have one: by the first e-node whose operands have.
fn class_values(egraph: &EGraph, inputs: &BTreeMap<u32, Tensor>) -> Result<BTreeMap<Id, Vec<Tensor>>, String> {
    let mut values = BTreeMap::new();
    let mut classes: Vec<Id> = egraph.classes().map(|class| class.id).collect();
    classes.sort_unstable();
    loop {
        let before = values.len();
        for &class in &classes {
            if values.contains_key(&class) {
                continue;
            }
            for node in &egraph[class].nodes {
                if let Some(value) = node_value(egraph, inputs, &values, node)? {
                    values.insert(class, value);
                    break;
                }
            }
        }
        if values.len() == before {
            return Ok(values);
        }
    }
}

/// The results of an e-node; none for attributes, and while an operand has no value.
fn node_value(
    egraph: &EGraph,
    inputs: &BTreeMap<u32, Tensor>,
    values: &BTreeMap<Id, Vec<Tensor>>,
    node: &ENode,
) -> Result<Option<Vec<Tensor>>, String> {
    let of = |child: &Id| values.get(&egraph.find(*child));
    Ok(match node.kind.name() {
        "@attr" | "@tuple" => None,
        "@none" => Some(Vec::new()),
        "@const" => egraph.analysis.data(ConstId::from_u32(node.payload)).map(|data| vec![data.clone()]),
        "@input" => inputs.get(&node.payload).map(|value| vec![value.clone()]),
        "@get" => of(&node.children[0]).and_then(|v| v.get(node.payload as usize).cloned()).map(|v| vec![v]),
        _ => {
            let Some(attr) = egraph[node.children[0]].data.attr else { return Ok(None) };
            let operands: Option<Vec<&Vec<Tensor>>> = node.children[1..].iter().map(of).collect();
            let Some(operands) = operands else { return Ok(None) };
            let operands: Vec<Option<&Tensor>> = operands.iter().map(|results| results.first()).collect();
            let results = egraph.analysis.op(attr).eval(&operands, &|_| None);
            Some(results.map_err(|error| format!("{node}: {error}"))?)
        }
    })
}

/// Two members of a class that differ by more than that.
fn disagreement(egraph: &EGraph, inputs: &BTreeMap<u32, Tensor>, exactness: Exactness, scale: f64) -> Option<String> {
    let values = match class_values(egraph, inputs) {
        Ok(values) => values,
        Err(error) => return Some(error),
    };
    for class in egraph.classes() {
        let Some(expected) = values.get(&class.id) else { continue };
        for node in &class.nodes {
            let found = match node_value(egraph, inputs, &values, node) {
                Ok(None) => continue,
                Ok(Some(found)) => found,
                Err(error) => return Some(error),
            };
            let agree = found.iter().zip(expected).all(|(f, e)| exactness.holds(f, e, TERMS, scale));
            if !agree || found.len() != expected.len() {
                let names: Vec<String> = class.nodes.iter().map(ToString::to_string).collect();
                return Some(format!("{node} of {names:?} differs:\n{expected:?}\n{found:?}"));
            }
        }
    }
    None
}

/// Random operands. Special numbers are for rules that are exact.
fn inputs(graph: &Graph, special: bool, random: &mut fastrand::Rng) -> BTreeMap<u32, Tensor> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::from(f32::MIN_POSITIVE)];
    let nodes: Vec<_> = graph.order().to_vec();
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
    let region = Region::new(graph, &nodes, &outputs);
    let mut tensor = |(at, value): (u32, &ValueId)| {
        let ty = graph.ty(*value);
        let shape = ty.fixed_shape().unwrap();
        let count = 0..shape.iter().product::<usize>();
        if let Some((lo, hi)) = ty.dtype.int_range() {
            // Indices and labels are small; of bytes every value comes.
            let narrow = ty.dtype.bits() <= 8;
            let range = if narrow { i32::try_from(lo).unwrap()..=i32::try_from(hi).unwrap() } else { -2..=5 };
            let values = count.map(|_| i128::from(random.i32(range.clone())));
            return (at, Tensor::from_ints(ty.dtype, &shape, &values.collect::<Vec<_>>()));
        }
        let mut number =
            || if special && random.u8(..4) == 0 { odd[random.usize(..odd.len())] } else { random.f64() * 8.0 - 4.0 };
        let values: Vec<f64> = count.map(|_| number()).collect();
        (at, Tensor::from_f64(ty.dtype, &shape, &values))
    };
    (0..).zip(region.inputs()).map(&mut tensor).collect()
}

fn saturated(graph: &Graph, rules: &[&'static Rule]) -> (EGraph, RuleStats, usize) {
    let nodes: Vec<_> = graph.order().to_vec();
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
    let mut region = Region::new(graph, &nodes, &outputs);
    let source = region.egraph.total_size();
    if rules.len() > 1 {
        merge::offer(&mut region.egraph, &PlainMachine);
    }
    let (egraph, stats) = saturate(std::mem::take(&mut region.egraph), rules, 8, 10_000);
    (egraph, stats, source)
}

/// The e-graph under one rule, and how often it applied.
fn with_rule(graph: &Graph, rule: &'static Rule) -> (EGraph, usize) {
    let (egraph, stats, _) = saturated(graph, &[rule]);
    assert!(stats.saturated, "rule {} goes on for ever", rule.name);
    (egraph, stats.applied.values().sum())
}

/// What is wrong with a rule on a case that it applies to.
fn fault(case: &Case, rule: &'static Rule, random: &mut fastrand::Rng) -> Option<String> {
    let exact = rule.exactness == Exactness::Exact;
    for round in 0..12 {
        // Empty tensors may be no match; what is evaluated must agree.
        let empty = round == 11;
        let graph = case.draw(empty, random);
        let (egraph, applied) = with_rule(&graph, rule);
        let fault = if !egraph.analysis.bugs.is_empty() {
            Some(format!("{:?}", egraph.analysis.bugs))
        } else if applied == 0 && !empty {
            Some("it never matched".to_owned())
        } else {
            disagreement(&egraph, &inputs(&graph, exact && round % 2 == 1, random), rule.exactness, 1.0)
        };
        if let Some(fault) = fault {
            return Some(format!("{case}: {fault}\n{graph}"));
        }
    }
    None
}

#[test]
fn members_of_a_class_agree() {
    let mut random = fastrand::Rng::with_seed(7);
    let (rules, cases) = (all(), cases());
    let named = |case: &Case| rules.iter().copied().find(|rule| rule.name == case.rule).unwrap();
    let applied = cases.iter().filter(|case| case.expect == Expect::Applies);
    let faults: Vec<String> = applied.filter_map(|case| fault(case, named(case), &mut random)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The rule with all its conditions but one.
fn without(rule: &'static Rule, dropped: usize) -> &'static Rule {
    let kept: Vec<Condition> =
        rule.conditions.iter().enumerate().filter(|(at, _)| *at != dropped).map(|(_, condition)| *condition).collect();
    Box::leak(Box::new(Rule { conditions: Box::leak(kept.into_boxed_slice()), ..*rule }))
}

/// What a rule does to a case that it should leave alone.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Nothing.
    Refused,
    /// The result is right all the same.
    Harmless,
    /// A wrong number, a bug that the e-graph records, or a panic.
    Wrong,
}

fn outcome(case: &Case, rule: &'static Rule, random: &mut fastrand::Rng) -> Outcome {
    let mut seen = Outcome::Refused;
    for _ in 0..8 {
        let graph = case.draw(false, random);
        let Ok((egraph, applied)) = catch_unwind(AssertUnwindSafe(|| with_rule(&graph, rule))) else {
            return Outcome::Wrong;
        };
        let exactness = rule.exactness;
        let wrong = |random: &mut fastrand::Rng, special| {
            disagreement(&egraph, &inputs(&graph, special, random), exactness, 1.0).is_some()
        };
        let exact = exactness == Exactness::Exact;
        if !egraph.analysis.bugs.is_empty() || (applied > 0 && (wrong(random, false) || (exact && wrong(random, true))))
        {
            return Outcome::Wrong;
        }
        if applied > 0 {
            seen = Outcome::Harmless;
        }
    }
    seen
}

/// Whether there is a match on the case that all conditions but this one accept.
fn fails_alone(case: &Case, rule: &'static Rule, index: usize, random: &mut fastrand::Rng) -> bool {
    let graph = case.draw(false, random);
    let (egraph, _, _) = saturated(&graph, &[]);
    rule.left.iter().any(|left| {
        let pattern: Pattern<ENode> = left.parse().unwrap();
        let found = pattern.search(&egraph);
        found.iter().flat_map(|matches| &matches.substs).any(|subst| {
            let matched = Match { egraph: &egraph, subst };
            let refusing = |at: &usize| !(rule.conditions[*at].holds)(&matched);
            (0..rule.conditions.len()).filter(refusing).eq([index])
        })
    })
}

/// Cases that a rule takes though it should not, or for the wrong reason, and conditions that no case needs.
fn loose_ends(rule: &'static Rule, refused: &[&Case], random: &mut fastrand::Rng) -> Vec<String> {
    let mut ends = Vec::new();
    let mut decided = BTreeSet::new();
    for case in refused {
        if outcome(case, rule, random) != Outcome::Refused {
            ends.push(format!("{case}: it applies"));
        }
    }
    for (dropped, condition) in rule.conditions.iter().enumerate() {
        let weaker = without(rule, dropped);
        let mut needed = false;
        for (at, case) in refused.iter().enumerate() {
            let found = outcome(case, weaker, random);
            if found == Outcome::Refused
                && !(case.expect == Expect::Nothing && fails_alone(case, rule, dropped, random))
            {
                continue;
            }
            needed = true;
            decided.insert(at);
            if !matches!(
                (case.expect, &found),
                (Expect::Wrong, Outcome::Wrong)
                    | (Expect::Idle, Outcome::Harmless)
                    | (Expect::Nothing, Outcome::Refused)
            ) {
                ends.push(format!("{case}: without `{}` it is {found:?}", condition.name));
            }
        }
        if !needed {
            ends.push(format!("{}: no case needs `{}`", rule.name, condition.name));
        }
    }
    let by_chance = |at: &usize| !decided.contains(at);
    ends.extend(
        (0..refused.len()).filter(by_chance).map(|at| format!("{}: no condition alone refuses it", refused[at])),
    );
    ends
}

#[test]
fn every_condition_refuses_what_would_go_wrong() {
    let mut random = fastrand::Rng::with_seed(11);
    let all_cases = cases();
    let mut ends = Vec::new();
    for rule in all() {
        let refused = all_cases.iter().filter(|case| case.rule == rule.name && case.expect.refuses());
        ends.extend(loose_ends(rule, &refused.collect::<Vec<_>>(), &mut random));
    }
    assert!(ends.is_empty(), "{}", ends.join("\n"));
}

/// The weight of what is extracted on a machine of arithmetic and traffic only.
fn weight(graph: &Graph, rules: &[&'static Rule]) -> u64 {
    let (egraph, _, _) = saturated(graph, rules);
    let root = egraph.classes().find(|class| class.nodes.iter().any(|node| node.is("@tuple"))).unwrap().id;
    extract(&egraph, root, &Goal { costs: &PlainMachine, error_weight: 1.0 }).unwrap().weight
}

#[test]
fn rules_win_where_cases_say_so() {
    let mut random = fastrand::Rng::with_seed(29);
    let mut lost = Vec::new();
    for case in cases().iter().filter(|case| case.expect == Expect::Wins) {
        let graph = case.draw(false, &mut random);
        let family = families().find(|family| family.rules.iter().any(|rule| rule.name == case.rule)).unwrap();
        let all = rules(family.pass, &[]);
        let others: Vec<&'static Rule> = all.iter().copied().filter(|rule| rule.name != case.rule).collect();
        let (with, without) = (weight(&graph, &all), weight(&graph, &others));
        if with >= without {
            lost.push(format!("{case}: {with} with it and {without} without it"));
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

#[test]
fn every_rule_has_a_case_and_a_name_of_its_own() {
    let mut names: Vec<&str> = all().iter().map(|r| r.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    let all_cases = cases();
    let shown = |expect: Expect| {
        let of = all_cases.iter().filter(|case| case.expect == expect);
        of.map(|case| case.rule.as_str()).collect::<BTreeSet<_>>()
    };
    let applied = shown(Expect::Applies);
    let known: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(known.difference(&applied).collect::<Vec<_>>(), Vec::<&&str>::new(), "rules without a case");
    let cased: BTreeSet<&str> = all_cases.iter().map(|case| case.rule.as_str()).collect();
    assert_eq!(cased.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "cases of no rule");
}
