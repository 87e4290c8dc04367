//! Extraction against brute force over all choices of small random e-graphs, cycles and shared parts included.

use std::collections::BTreeMap;

use egg::Id;

use super::{Choice, EGraph, ENode, Goal, Known, add_op, extract};
use crate::attrs::F64;
use crate::ops::{Binary, BinaryFn, Choice as ChoiceOp, Clip, Op};
use crate::propose::{Cost, CostModel, OpFacts};
use crate::types::{DType, TensorType};

/// Each operator has a number of cycles of its own.
struct Drawn {
    seed: u64,
    /// Whether operators cost less in the kernel of an operand.
    fuses: bool,
}

impl Drawn {
    fn in_kernel(&self, op: &Op) -> u64 {
        if self.fuses { self.cycles(op) / 4 } else { self.cycles(op) }
    }

    fn cycles(&self, op: &Op) -> u64 {
        let key = match op {
            Op::Clip(clip) => clip.min.map_or(0, |bound| bound.get() as u64),
            Op::Binary(binary) => 1000 + binary.function as u64,
            _ => unreachable!("only these are drawn"),
        };
        fastrand::Rng::with_seed(self.seed.wrapping_mul(8191).wrapping_add(key)).u64(1..30)
    }
}

impl CostModel for Drawn {
    fn cost(&self, op: &Op, _: &OpFacts<'_>) -> Option<Cost> {
        Some(Cost { cycles: self.cycles(op), ..Cost::default() })
    }

    fn epilogue(&self, op: &Op, _: &OpFacts<'_>) -> Option<Cost> {
        Some(Cost { cycles: self.in_kernel(op), ..Cost::default() })
    }
}

/// Operators over two inputs, of which some classes are then said to be equal. The root wants two values.
pub(super) fn draw(random: &mut fastrand::Rng) -> (EGraph, Id) {
    let mut known = Known::default();
    for input in 0..2 {
        known.inputs.insert(input, TensorType::fixed(DType::F32, &[4]));
    }
    let mut egraph = EGraph::new(known);
    let mut values: Vec<Id> = (0..2).map(|input| egraph.add(ENode::input(input))).collect();
    let functions = [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Max];
    for serial in 0..random.usize(4..15) {
        let (a, b) = (values[random.usize(..values.len())], values[random.usize(..values.len())]);
        let made = match random.u32(0..10) {
            0..5 => add_op(&mut egraph, Clip { min: Some(F64::new(serial as f64)), max: None }, &[a]),
            5..9 => add_op(&mut egraph, Binary { function: functions[random.usize(..functions.len())] }, &[a, b]),
            _ => {
                let errors = (0..2).map(|_| F64::new(random.u32(0..8).into())).collect();
                add_op(&mut egraph, ChoiceOp { errors }, &[a, b])
            }
        };
        values.push(made.expect("the types fit"));
    }
    for _ in 0..random.usize(1..8) {
        let (a, b) = (random.usize(2..values.len()), random.usize(2..values.len()));
        egraph.union(values[a], values[b]);
    }
    let wanted = vec![values[values.len() - 1], values[random.usize(2..values.len())]];
    let root = egraph.add(ENode::tuple(wanted));
    egraph.rebuild();
    (egraph, root)
}

/// Weight of a unit of error.
const ERROR_WEIGHT: u64 = 3;

/// A way to compute a class.
#[derive(Clone)]
struct Way {
    node: ENode,
    /// Cycles and one for the node itself, or the error of an alternative.
    alone: u64,
    /// The same in the kernel of an operand.
    fused: u64,
}

/// What a class can be computed by.
fn ways(egraph: &EGraph, class: Id, costs: &Drawn) -> Vec<Way> {
    let mut ways = Vec::new();
    for node in &egraph[class].nodes {
        if !node.is_op() {
            ways.push(Way { node: node.clone(), alone: 0, fused: 0 });
            continue;
        }
        let attr = egraph[node.children[0]].data.attr.expect("operators have attributes");
        match egraph.analysis.op(attr) {
            Op::Choice(choice) => {
                for (index, error) in choice.errors.iter().enumerate() {
                    let weight = ERROR_WEIGHT * error.get() as u64;
                    let node = ENode::pick(index as u32, node.children[1 + index]);
                    ways.push(Way { node, alone: weight, fused: weight });
                }
            }
            op => {
                ways.push(Way { node: node.clone(), alone: costs.cycles(op) + 1, fused: costs.in_kernel(op) + 1 });
            }
        }
    }
    ways
}

/// Sum over a choice: an operator is in the kernel of an operand that is an operator and that nothing else reads.
fn weigh(egraph: &EGraph, chosen: &BTreeMap<Id, Way>) -> u64 {
    let reads = |way: &Way, class: Id| way.node.children.iter().any(|&child| egraph.find(child) == class);
    let hosts = |&child: &Id| {
        let class = egraph.find(child);
        chosen[&class].node.is_op() && chosen.values().filter(|way| reads(way, class)).count() == 1
    };
    let fused = |way: &Way| way.node.is_op() && way.node.children[1..].iter().any(hosts);
    chosen.values().map(|way| if fused(way) { way.fused } else { way.alone }).sum()
}

/// The cheapest choice without cycles: every e-node of every class that is needed is tried.
struct Brute<'a> {
    egraph: &'a EGraph,
    costs: &'a Drawn,
    best: Option<u64>,
}

impl Brute<'_> {
    /// `least` is what is chosen at the least.
    fn search(&mut self, chosen: &mut BTreeMap<Id, Way>, wanted: &[Id], least: u64) {
        if self.best.is_some_and(|best| least >= best) {
            return;
        }
        let Some(at) = wanted.iter().position(|class| !chosen.contains_key(class)) else {
            let sum = weigh(self.egraph, chosen);
            if self.best.is_none_or(|best| sum < best) && acyclic(self.egraph, chosen) {
                self.best = Some(sum);
            }
            return;
        };
        let (class, rest) = (wanted[at], &wanted[at + 1..]);
        for way in ways(self.egraph, class, self.costs) {
            let mut next = rest.to_vec();
            next.extend(way.node.children.iter().map(|&child| self.egraph.find(child)));
            let own = way.fused;
            chosen.insert(class, way);
            self.search(chosen, &next, least + own);
            chosen.remove(&class);
        }
    }
}

/// Whether classes can be taken away one after another, each after all that it reads.
fn acyclic(egraph: &EGraph, chosen: &BTreeMap<Id, Way>) -> bool {
    let mut left: Vec<Id> = chosen.keys().copied().collect();
    loop {
        let ready = |class: &Id| !chosen[class].node.children.iter().any(|&child| left.contains(&egraph.find(child)));
        let before = left.len();
        let next: Vec<Id> = left.iter().copied().filter(|class| !ready(class)).collect();
        left = next;
        if left.is_empty() || left.len() == before {
            return left.is_empty();
        }
    }
}

/// What is chosen is complete, of the classes it stands for, without cycles, and weighs what it says.
fn check(egraph: &EGraph, root: Id, choice: &Choice, costs: &Drawn) {
    assert!(choice.nodes.contains_key(&egraph.find(root)));
    let mut chosen = BTreeMap::new();
    for (class, node) in &choice.nodes {
        // Two choices may have an alternative in common, at another error.
        let same = ways(egraph, *class, costs).into_iter().filter(|way| way.node == *node);
        let way = same.min_by_key(|way| way.alone).unwrap_or_else(|| panic!("{node} is not of its class"));
        assert!(node.children.iter().all(|&child| choice.nodes.contains_key(&egraph.find(child))));
        chosen.insert(*class, way);
    }
    assert!(acyclic(egraph, &chosen));
    assert_eq!(choice.weight, weigh(egraph, &chosen));
}

/// Extraction against brute force: sound and optimal in every case.
///
/// The campaign of a hundred thousand cases is this test with `ADZE_EGRAPHS=100000`.
#[test]
fn choices_are_sound_and_optimal() {
    let wanted = std::env::var("ADZE_EGRAPHS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000u32);
    let mut random = fastrand::Rng::with_seed(23);
    let (mut cases, mut optimal, mut found, mut least, mut worst) = (0u32, 0u32, 0u64, 0u64, 1.0f64);
    while cases < wanted {
        let (egraph, root) = draw(&mut random);
        if egraph.classes().filter(|class| class.data.attr.is_none()).count() > 11 {
            continue;
        }
        cases += 1;
        let costs = Drawn { seed: u64::from(cases), fuses: cases % 2 == 0 };
        let mut brute = Brute { egraph: &egraph, costs: &costs, best: None };
        brute.search(&mut BTreeMap::new(), &[egraph.find(root)], 0);
        let best = brute.best.expect("the graph before the unions is a choice");
        let goal = Goal { costs: &costs, error_weight: ERROR_WEIGHT as f64 };
        let choice = extract(&egraph, root, &goal).unwrap_or_else(|| panic!("case {cases}: no choice"));
        check(&egraph, root, &choice, &costs);
        assert!(choice.weight >= best, "case {cases}: brute force missed {}", choice.weight);
        optimal += u32::from(choice.weight == best);
        (found, least) = (found + choice.weight, least + best);
        worst = worst.max(choice.weight as f64 / best.max(1) as f64);
    }
    println!("{optimal} of {cases} optimal, weights {found} to {least}, worst {worst:.2}");
    assert_eq!((optimal, found), (cases, least), "extraction is optimal on e-graphs of this size");
}
