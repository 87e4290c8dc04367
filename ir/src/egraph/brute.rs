//! Extraction against brute force over all choices of small random e-graphs, cycles, shared parts and layouts included.

use std::collections::BTreeMap;

use egg::Id;

use super::{Choice, EGraph, ENode, Goal, Known, add_op, extract};
use crate::attrs::F64;
use crate::fusion::{is_anchor, is_elementwise, is_sum};
use crate::layout::{Habit, habit, has_order};
use crate::ops::{AveragePool, Binary, BinaryFn, Choice as ChoiceOp, Clip, CumSum, Op, Softmax, Transpose};
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
        self.random(op).u64(1..30)
    }

    /// Where operands lie channels last. Little is gained by that, so that it is never worth copies on both sides.
    fn cycles_last(&self, op: &Op) -> u64 {
        let mut random = self.random(op);
        random.u64(1..30).saturating_sub(2).max(1) + random.u64(0..20)
    }

    /// Of a copy that is row-major, and of one that lies channels last.
    fn copy(&self, last: bool) -> u64 {
        fastrand::Rng::with_seed(self.seed + u64::from(last)).u64(20..50)
    }

    fn random(&self, op: &Op) -> fastrand::Rng {
        let key = match op {
            Op::Clip(clip) => clip.min.map_or(0, |bound| bound.get() as u64),
            Op::Binary(binary) => 1000 + binary.function as u64,
            Op::Softmax(softmax) => 2000 + softmax.axis as u64,
            Op::CumSum(sum) => 3000 + sum.axis as u64,
            Op::Transpose(_) => 4000,
            Op::AveragePool(pool) => 5000 + u64::from(pool.count_include_pad),
            _ => unreachable!("only these are drawn"),
        };
        fastrand::Rng::with_seed(self.seed.wrapping_mul(8191).wrapping_add(key))
    }
}

impl CostModel for Drawn {
    fn cost(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Cost> {
        let last = facts.inputs.iter().flatten().any(|ty| !ty.layout.is_plain());
        let cycles = match op {
            Op::Relayout(to) => self.copy(!to.layout.is_plain()),
            op if last => self.cycles_last(op),
            op => self.cycles(op),
        };
        Some(Cost { cycles, ..Cost::default() })
    }

    fn epilogue(&self, op: &Op, _: &OpFacts<'_>) -> Option<Cost> {
        Some(Cost { cycles: self.in_kernel(op), ..Cost::default() })
    }
}

/// Operators over two inputs, of which some classes are then said to be equal. The root wants two values.
pub(super) fn draw(random: &mut fastrand::Rng) -> (EGraph, Id) {
    draw_of(random, &[4], |_| None)
}

/// The same, with operators on images that have habits about layouts.
fn draw_images(random: &mut fastrand::Rng) -> (EGraph, Id) {
    draw_of(random, &[1, 8, 2, 2], |random| {
        let pool = |count_include_pad| AveragePool {
            kernel: vec![1; 2],
            strides: vec![1; 2],
            pads: vec![0; 4],
            dilations: vec![1; 2],
            ceil_pads: vec![0; 2],
            count_include_pad,
        };
        Some(match random.u32(0..9) {
            0..3 => pool(random.bool()).into(),
            3 => Transpose { perm: vec![0, 1, 3, 2] }.into(),
            4 | 5 => Softmax { axis: random.usize(1..4), flatten: false }.into(),
            6 => CumSum { axis: random.usize(1..4), exclusive: false, reverse: false }.into(),
            _ => return None,
        })
    })
}

fn draw_of(
    random: &mut fastrand::Rng,
    shape: &[usize],
    more: impl Fn(&mut fastrand::Rng) -> Option<Op>,
) -> (EGraph, Id) {
    let mut known = Known::default();
    for input in 0..2 {
        known.inputs.insert(input, TensorType::fixed(DType::F32, shape));
    }
    if shape.len() > 2 {
        known.channels_last.insert(1);
    }
    let mut egraph = EGraph::new(known);
    let mut values: Vec<Id> = (0..2).map(|input| egraph.add(ENode::input(input))).collect();
    let functions = [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Max];
    for serial in 0..random.usize(4..15) {
        let (a, b) = (values[random.usize(..values.len())], values[random.usize(..values.len())]);
        let other = more(random);
        let made = match random.u32(0..10) {
            _ if other.is_some() => add_op(&mut egraph, other.expect("it is one"), &[a]),
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
    /// What is computed, if anything is.
    op: Option<Op>,
    /// Cycles and one for the node itself, or the error of an alternative.
    alone: u64,
    /// The same in the kernel of an operand.
    fused: u64,
    /// The same on operands that lie channels last.
    last: u64,
}

impl Way {
    fn habit(&self) -> Option<Habit> {
        self.op.as_ref().map(habit)
    }

    fn least(&self) -> u64 {
        self.alone.min(self.fused).min(self.last)
    }
}

/// What a class can be computed by.
fn ways(egraph: &EGraph, class: Id, costs: &Drawn) -> Vec<Way> {
    let mut ways = Vec::new();
    let free = |node: ENode, weight: u64| Way { node, op: None, alone: weight, fused: weight, last: weight };
    for node in &egraph[class].nodes {
        if !node.is_op() {
            ways.push(free(node.clone(), 0));
            continue;
        }
        let attr = egraph[node.children[0]].data.attr.expect("operators have attributes");
        match egraph.analysis.op(attr) {
            Op::Choice(choice) => {
                for (index, error) in choice.errors.iter().enumerate() {
                    let node = ENode::pick(index as u32, node.children[1 + index]);
                    ways.push(free(node, ERROR_WEIGHT * error.get() as u64));
                }
            }
            op => {
                let alone = costs.cycles(op) + 1;
                let fused = if is_elementwise(op) { costs.in_kernel(op) + 1 } else { alone };
                let last = if has_order(op) { costs.cycles_last(op) + 1 } else { alone };
                ways.push(Way { node: node.clone(), op: Some(op.clone()), alone, fused, last });
            }
        }
    }
    ways
}

/// A choice by class.
type Chosen = BTreeMap<Id, Way>;

/// The operand in whose kernel a class is computed: one that can have others in its kernel and that nothing else reads. Of two
/// the one with a sum.
fn host(egraph: &EGraph, chosen: &Chosen, class: Id) -> Option<Id> {
    let way = chosen.get(&class).filter(|way| way.fused < way.alone)?;
    let reads = |way: &Way, class: Id| way.node.children.iter().any(|&child| egraph.find(child) == class);
    let alone = |&child: &Id| chosen.values().filter(|way| reads(way, child)).count() == 1;
    let hosts = way.node.children[1..].iter().map(|&child| egraph.find(child));
    let hosts = hosts.filter(|child| chosen[child].op.as_ref().is_some_and(is_anchor)).filter(alone);
    hosts.max_by_key(|&child| (sums(egraph, chosen, child), child))
}

/// Whether a sum starts the kernel of a class.
fn sums(egraph: &EGraph, chosen: &Chosen, class: Id) -> bool {
    chosen[&class].op.as_ref().is_some_and(is_sum)
        || host(egraph, chosen, class).is_some_and(|host| sums(egraph, chosen, host))
}

/// Sum over a choice, with the layouts that make it least.
fn weigh(egraph: &EGraph, chosen: &Chosen, costs: &Drawn) -> u64 {
    let hosts: BTreeMap<Id, Id> = chosen.keys().filter_map(|&c| Some((c, host(egraph, chosen, c)?))).collect();
    let windows =
        !egraph.analysis.channels_last.is_empty() || chosen.values().any(|way| way.habit() == Some(Habit::Window));
    let either = |way: &Way| windows && matches!(way.habit(), Some(Habit::Keeps | Habit::Reads));
    let free: Vec<Id> = chosen.iter().filter(|(_, way)| either(way)).map(|(&class, _)| class).collect();
    let lies = (0..1usize << free.len()).map(|bits| {
        let last = |class: Id| match chosen[&class].habit() {
            Some(Habit::Window) => true,
            _ => free.iter().position(|&other| other == class).is_some_and(|at| bits >> at & 1 == 1),
        };
        weigh_as(egraph, chosen, costs, &hosts, &last)
    });
    lies.flatten().min().expect("what is computed in one kernel can lie as the kernel starts")
}

/// Sum over a choice where these operators read channels last; `None` where that is not one layout per kernel.
fn weigh_as(
    egraph: &EGraph,
    chosen: &Chosen,
    costs: &Drawn,
    hosts: &BTreeMap<Id, Id>,
    last: &dyn Fn(Id) -> bool,
) -> Option<u64> {
    // What an alternative gives is the value of the alternative.
    let source = |mut class: Id| {
        while chosen[&class].node.is("@pick") {
            class = egraph.find(chosen[&class].node.children[0]);
        }
        class
    };
    let made = |class: Id| match chosen[&class].habit() {
        None => chosen[&class]
            .node
            .is("@input")
            .then(|| egraph.analysis.channels_last.contains(&chosen[&class].node.payload)),
        Some(Habit::Reads | Habit::Plain) => Some(false),
        Some(Habit::Window | Habit::Keeps) => Some(last(class)),
    };
    let (mut sum, mut copies) = (0, BTreeMap::new());
    for (&class, way) in chosen {
        let host = hosts.get(&class);
        if host.is_some_and(|&host| made(host) != Some(last(class))) {
            return None;
        }
        sum += match host {
            Some(_) => way.fused,
            None if last(class) => way.last,
            None => way.alone,
        };
        if way.op.is_none() {
            continue;
        }
        for operand in way.node.children[1..].iter().map(|&child| source(egraph.find(child))) {
            if made(operand).is_some_and(|made| made != last(class)) {
                copies.insert(operand, last(class));
            }
        }
    }
    Some(sum + copies.values().map(|&last| costs.copy(last)).sum::<u64>())
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
            if acyclic(self.egraph, chosen) {
                let sum = weigh(self.egraph, chosen, self.costs);
                self.best = Some(self.best.map_or(sum, |best| best.min(sum)));
            }
            return;
        };
        let (class, rest) = (wanted[at], &wanted[at + 1..]);
        for way in ways(self.egraph, class, self.costs) {
            let mut next = rest.to_vec();
            next.extend(way.node.children.iter().map(|&child| self.egraph.find(child)));
            let own = way.least();
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
    assert_eq!(choice.weight, weigh(egraph, &chosen, costs));
}

/// Extraction against brute force: sound and optimal in every case.
///
/// The campaign of a hundred thousand cases is this test with `ADZE_EGRAPHS=100000`.
#[test]
fn choices_are_sound_and_optimal() {
    let cases = std::env::var("ADZE_EGRAPHS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000u32);
    compare(cases, draw);
}

/// The same where the layouts of operands cost something: some are windows, others row-major, most can be either.
#[test]
fn choices_of_forms_and_layouts_are_optimal_together() {
    let cases = std::env::var("ADZE_EGRAPHS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000u32);
    compare(cases, draw_images);
}

fn compare(wanted: u32, draw: fn(&mut fastrand::Rng) -> (EGraph, Id)) {
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
