//! Extraction: the cheapest choice of one e-node per class, shared sub-graphs counted once.
//!
//! Greedy over DAGs: each class keeps the set of ways that its best choice needs (a bit set over all e-nodes), classes are
//! worked on in topological order, and the result is walked from the root once more, for its true cost and for cycles.
//! What greedy misses are parts that only pay when several users share them; a local search then tries every other way of
//! every chosen class against the true cost. See `docs/egraph.md`.

use std::collections::BTreeMap;

use egg::Id;

use super::exact::cheapest;
use super::lie::{self, Habits, Lies};
use super::rule::operands;
use super::search::{as_tree, improve};
use super::{EGraph, ENode};
use crate::fusion;
use crate::ops::Op;
use crate::propose::{Cost, CostModel, OpFacts};
use crate::types::TensorType;

/// Weight of an operator that the machine has no schedule for: taken only where there is nothing else.
pub(super) const UNSUPPORTED: u64 = 1 << 40;

/// One e-node per class that the root needs.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// By canonical class. For a `choice`, the alternative taken ([`ENode::pick`]).
    pub nodes: BTreeMap<Id, ENode>,
    /// Sum over the chosen e-nodes, each counted once.
    pub weight: u64,
}

/// What extraction minimises.
pub struct Goal<'a> {
    /// Costs of the machine.
    pub costs: &'a dyn CostModel,
    /// Weight of one unit of the errors that `choice` states.
    pub error_weight: f64,
}

/// E-graphs with up to so many open classes are searched to the end.
const EXACT_CLASSES: usize = 16;
/// Steps of that search.
const EXACT_STEPS: usize = 1 << 16;

/// The cheapest way found to compute `root`; `None` when there is none without a cycle.
pub fn extract(egraph: &EGraph, root: Id, goal: &Goal<'_>) -> Option<Choice> {
    let (table, root, mut found) = search(egraph, root, goal)?;
    if table.open() <= EXACT_CLASSES {
        found = cheapest(&table, root, found, EXACT_STEPS).0;
    }
    Some(table.choice(&found))
}

/// The weight that [`extract`] finds and that of the cheapest choice, which takes exponential time; `None` where `steps` do not
/// suffice. For measuring the one by the other.
pub fn gap(egraph: &EGraph, root: Id, goal: &Goal<'_>, steps: usize) -> Option<(u64, u64)> {
    let usual = extract(egraph, root, goal)?;
    let (table, root, found) = search(egraph, root, goal)?;
    let (best, proved) = cheapest(&table, root, found, steps);
    proved.then_some((usual.weight, best.weight))
}

/// A good choice, without proof.
fn search(egraph: &EGraph, root: Id, goal: &Goal<'_>) -> Option<(Table, usize, Found)> {
    let mut table = Table::new(egraph, goal);
    let root = table.class(egraph.find(root));
    table.solve(root);
    let first: Vec<Option<usize>> = (0..table.range.len()).map(|class| table.first(class)).collect();
    // Greedy choices can form a cycle; those of the tree cannot, but count what is shared again at every use.
    let starts = [table.walk(root, &first), as_tree(&table, root)];
    let found = starts.into_iter().flatten().map(|start| improve(&table, root, start));
    let found = found.reduce(|a, b| if b.weight < a.weight { b } else { a })?;
    Some((table, root, found))
}

/// One way to compute a class: an e-node, or one alternative of a choice.
pub(super) struct Way {
    /// What the choice records.
    pub node: ENode,
    /// Classes it needs.
    pub children: Vec<usize>,
    /// Weight of its own, as far as it can be told without the rest of a choice.
    pub weight: u64,
    /// Weight where it is computed by a kernel of its own.
    pub alone: u64,
    /// Weight where it is computed in the kernel of one of `hosts`.
    pub fused: u64,
    /// Operands whose kernel it could be part of.
    hosts: Vec<usize>,
    /// Whether others can be part of its kernel.
    anchor: bool,
    /// What it does about layouts; `None` for what is no operator or is known when the code is made.
    pub habits: Option<Habits>,
}

impl Way {
    fn new(node: ENode, children: Vec<usize>, weight: u64) -> Self {
        Self { node, children, weight, alone: weight, fused: weight, hosts: Vec::new(), anchor: false, habits: None }
    }
}

struct Best {
    weight: u64,
    way: usize,
    set: Vec<u64>,
}

/// The e-graph as numbers: classes and ways in a fixed order.
pub(super) struct Table {
    pub ids: Vec<Id>,
    index: BTreeMap<Id, usize>,
    /// Those of one class next to each other.
    pub ways: Vec<Way>,
    /// Of each class.
    pub range: Vec<(usize, usize)>,
    /// Evaluated at compile time: only the value is stored.
    pub fixed: Vec<bool>,
    /// What copies between row-major and channels last weigh, where those differ and a window could want it.
    pub copy: Vec<Option<[u64; 2]>>,
    /// Classes with a way that reads it.
    pub parents: Vec<Vec<usize>>,
    best: Vec<Option<Best>>,
}

/// Choices that are complete and without cycles.
#[derive(Clone)]
pub(super) struct Found {
    /// Way of each class.
    pub chosen: Vec<Option<usize>>,
    /// Classes that the root needs, operands first.
    pub classes: Vec<usize>,
    /// True weight.
    pub weight: u64,
}

impl Table {
    pub fn new(egraph: &EGraph, goal: &Goal<'_>) -> Self {
        let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
        ids.sort_unstable();
        let index: BTreeMap<Id, usize> = ids.iter().enumerate().map(|(at, &id)| (id, at)).collect();
        let (mut ways, mut range) = (Vec::new(), Vec::new());
        for &id in &ids {
            let start = ways.len();
            let mut nodes: Vec<&ENode> = egraph[id].nodes.iter().collect();
            nodes.sort_unstable();
            for node in nodes {
                add_ways(egraph, id, node, goal, &index, &mut ways);
            }
            range.push((start, ways.len()));
        }
        let mut parents = vec![Vec::new(); ids.len()];
        for (class, &(start, end)) in range.iter().enumerate() {
            for &child in ways[start..end].iter().flat_map(|way| &way.children) {
                if parents[child].last() != Some(&class) {
                    parents[child].push(class);
                }
            }
        }
        // Until a choice says what else reads a value, what only one class reads at all is fused.
        let anchors: Vec<bool> =
            range.iter().map(|&(start, end)| ways[start..end].iter().any(|w: &Way| w.anchor)).collect();
        for way in &mut ways {
            if way.hosts.iter().any(|&host| anchors[host] && parents[host].len() == 1) {
                way.weight = way.fused;
            }
        }
        let fixed = ids.iter().map(|&id| egraph[id].data.fixed).collect();
        let copy = vec![None; ids.len()];
        let best = ids.iter().map(|_| None).collect();
        let mut table = Self { ids, index, ways, range, fixed, copy, parents, best };
        lie::price(egraph, &mut table, goal.costs);
        table
    }

    pub fn class(&self, id: Id) -> usize {
        self.index[&id]
    }

    fn choice(&self, found: &Found) -> Choice {
        let taken = |&class: &usize| Some((self.ids[class], self.ways[found.chosen[class]?].node.clone()));
        Choice { nodes: found.classes.iter().filter_map(taken).collect(), weight: found.weight }
    }

    /// The way that greedy choice takes for a class.
    pub fn first(&self, class: usize) -> Option<usize> {
        self.best[class].as_ref().map(|best| best.way)
    }

    /// The ways of a class.
    pub fn ways_of(&self, class: usize) -> std::ops::Range<usize> {
        let (start, end) = self.range[class];
        start..end
    }

    /// The least that a way can weigh.
    pub fn least(&self, way: usize) -> u64 {
        let way = &self.ways[way];
        let last = way.habits.as_ref().and_then(|habits| habits.last);
        way.alone.min(way.fused).min(last.unwrap_or(u64::MAX))
    }

    /// Classes with a choice that is not about constants.
    fn open(&self) -> usize {
        (0..self.range.len()).filter(|&class| !self.fixed[class] && self.ways_of(class).len() > 1).count()
    }

    /// Place of each class below `root` in post-order; edges back into the path are skipped.
    fn topological(&self, root: usize) -> Vec<Option<usize>> {
        let mut order = vec![None; self.ids.len()];
        let mut open = vec![false; self.ids.len()];
        let (mut stack, mut next) = (vec![(root, false)], 0);
        while let Some((class, expanded)) = stack.pop() {
            if expanded {
                order[class].get_or_insert(next);
                next += 1;
            } else if !std::mem::replace(&mut open[class], true) {
                stack.push((class, true));
                let (start, end) = self.range[class];
                stack.extend(self.ways[start..end].iter().flat_map(|way| &way.children).map(|&c| (c, false)));
            }
        }
        order
    }

    fn solve(&mut self, root: usize) {
        let order = self.topological(root);
        let mut work: std::collections::BTreeSet<(usize, usize)> =
            order.iter().enumerate().filter_map(|(class, at)| Some(((*at)?, class))).collect();
        // Weights only fall, so this ends; the bound is for safety.
        let mut left = 64 * (self.ways.len() + 1);
        while let Some((_, class)) = work.pop_first() {
            left -= 1;
            if left == 0 {
                break;
            }
            if self.improve(class) {
                work.extend(self.parents[class].iter().filter_map(|&p| Some((order[p]?, p))));
            }
        }
    }

    /// Chooses anew for a class; `true` when it got cheaper.
    fn improve(&mut self, class: usize) -> bool {
        let (start, end) = self.range[class];
        let mut improved = false;
        for way in start..end {
            let Some((weight, set)) = self.weigh(class, way) else { continue };
            if self.best[class].as_ref().is_none_or(|best| weight < best.weight) {
                self.best[class] = Some(Best { weight, way, set });
                improved = true;
            }
        }
        improved
    }

    /// Weight of a way with all it needs; `None` while a child has no choice, or when it needs its own class.
    fn weigh(&self, class: usize, at: usize) -> Option<(u64, Vec<u64>)> {
        let way = &self.ways[at];
        let children: Option<Vec<&Best>> = way.children.iter().map(|&c| self.best[c].as_ref()).collect();
        let children = children?;
        let mut set = vec![0u64; self.ways.len().div_ceil(64)];
        set[at / 64] |= 1 << (at % 64);
        if self.fixed[class] {
            // Evaluated at compile time: only what it gives is stored. The length of the expression breaks ties, and
            // makes choices among constants well-founded.
            let size = children.iter().fold(1u64, |sum, best| sum.saturating_add(best.weight));
            return Some((if way.node.is_op() { way.weight.saturating_add(size) } else { way.weight }, set));
        }
        for best in children {
            set.iter_mut().zip(&best.set).for_each(|(word, other)| *word |= other);
        }
        let (start, end) = self.range[class];
        if (start..end).any(|other| other != at && set[other / 64] >> (other % 64) & 1 == 1) {
            return None;
        }
        Some((self.sum(&set), set))
    }

    fn sum(&self, set: &[u64]) -> u64 {
        let mut sum = 0u64;
        for (index, &word) in set.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                sum = sum.saturating_add(self.ways[index * 64 + word.trailing_zeros() as usize].weight);
                word &= word - 1;
            }
        }
        sum
    }

    /// Follows choices from the root; `None` on a cycle or a class without a choice.
    pub fn walk(&self, root: usize, chosen: &[Option<usize>]) -> Option<Found> {
        let mut found = Found { chosen: vec![None; chosen.len()], classes: Vec::new(), weight: 0 };
        let mut open = vec![false; chosen.len()];
        let mut stack = vec![(root, false)];
        while let Some((class, expanded)) = stack.pop() {
            if found.chosen[class].is_some() {
                continue;
            }
            let at = chosen[class]?;
            let way = &self.ways[at];
            if expanded {
                found.chosen[class] = Some(at);
                found.classes.push(class);
                continue;
            }
            // A class that is open and not done is on the path: that is the cycle. One that waits on the stack is not open.
            if std::mem::replace(&mut open[class], true) {
                return None;
            }
            stack.push((class, true));
            let mut children = way.children.clone();
            children.sort_unstable();
            children.dedup();
            stack.extend(children.into_iter().filter(|&c| found.chosen[c].is_none()).map(|c| (c, false)));
        }
        found.weight = self.true_weight(&found);
        Some(found)
    }

    /// Every way once; of what is evaluated at compile time only what is read at run time; elementwise operators as part of
    /// the kernel that makes their operand, where nothing else reads that; copies between layouts at their cheapest places.
    fn true_weight(&self, found: &Found) -> u64 {
        let mut readers = vec![0u32; found.chosen.len()];
        let mut sum = 0u64;
        let anchor = |host: usize| found.chosen[host].is_some_and(|at| self.ways[at].anchor);
        let chosen = || found.classes.iter().filter_map(|&class| Some((class, &self.ways[found.chosen[class]?])));
        for (_, way) in chosen().filter(|(class, _)| !self.fixed[*class]) {
            let mut seen: Vec<usize> = Vec::with_capacity(way.children.len());
            for &child in &way.children {
                if !seen.contains(&child) {
                    seen.push(child);
                    readers[child] += 1;
                }
            }
        }
        let mut lies = Lies::new(self);
        for (class, way) in chosen() {
            if self.fixed[class] && readers[class] == 0 {
                continue;
            }
            let hosts = way.hosts.iter().copied().filter(|&host| readers[host] == 1 && anchor(host));
            sum = sum.saturating_add(lies.add(class, way, hosts));
        }
        sum.saturating_add(lies.weight())
    }
}

/// The ways that an e-node offers: one, or for a `choice` one per alternative.
fn add_ways(
    egraph: &EGraph,
    class: Id,
    node: &ENode,
    goal: &Goal<'_>,
    index: &BTreeMap<Id, usize>,
    ways: &mut Vec<Way>,
) {
    let place = |&child: &Id| index[&egraph.find(child)];
    if let Some(Op::Choice(choice)) = op_of(egraph, node) {
        for (at, (&child, error)) in node.children[1..].iter().zip(&choice.errors).enumerate() {
            let weight = (error.get() * goal.error_weight).round() as u64;
            let alternative = u32::try_from(at).expect("few alternatives");
            ways.push(Way::new(ENode::pick(alternative, child), vec![place(&child)], weight));
        }
        return;
    }
    let mut way = Way::new(node.clone(), node.children.iter().map(place).collect(), 0);
    if !goal.costs.runs_as_chosen() {
        way.habits = Habits::of(egraph, node, class, place);
    }
    let (alone, fused) = weights(egraph, class, node, goal.costs);
    (way.weight, way.alone, way.fused) = (alone, alone, fused);
    if let Some(op) = op_of(egraph, node)
        && !egraph[class].data.fixed
    {
        way.anchor = fusion::is_anchor(op);
        if fused < alone {
            let shape = egraph[class].data.ty().map(|ty| &ty.shape);
            let hosts = operands(node).iter().filter(|&&id| {
                let facts = &egraph[id].data;
                !facts.fixed && facts.ty().map(|ty| &ty.shape) == shape
            });
            way.hosts = hosts.map(place).collect();
        }
    }
    ways.push(way);
}

/// Weight of one e-node in a kernel of its own, and in that of an operand.
fn weights(egraph: &EGraph, class: Id, node: &ENode, costs: &dyn CostModel) -> (u64, u64) {
    let facts = &egraph[class].data;
    if facts.fixed {
        let bytes = facts.types.iter().map(|ty| u64::try_from(ty.max_bytes(&egraph.analysis.dims)).unwrap_or(u64::MAX));
        let rodata = Cost { rodata: bytes.fold(0, u64::saturating_add), ..Cost::default() }.weight();
        return (rodata, rodata);
    }
    let Some(op) = op_of(egraph, node) else { return (0, 0) };
    // One more than the model says: of two free forms the one with fewer nodes.
    let weight = |cost: Option<Cost>| cost.map_or(UNSUPPORTED, Cost::weight).saturating_add(1);
    asked(egraph, class, node, |asked| {
        let alone = weight(costs.cost(op, asked));
        let joins = !costs.runs_as_chosen() && facts.ty().is_some_and(|ty| fusion::is_epilogue(op, asked.inputs, ty));
        (alone, if joins { weight(costs.epilogue(op, asked)) } else { alone })
    })
}

/// Hands what is known about operands and results of an e-node to `ask`.
pub(super) fn asked<R>(egraph: &EGraph, class: Id, node: &ENode, ask: impl FnOnce(&OpFacts<'_>) -> R) -> R {
    let inputs: Vec<Option<&TensorType>> = operands(node).iter().map(|&id| egraph[id].data.ty()).collect();
    let fixed: Vec<bool> = operands(node).iter().map(|&id| egraph[id].data.fixed).collect();
    ask(&OpFacts { inputs: &inputs, fixed: &fixed, outputs: &egraph[class].data.types, dims: &egraph.analysis.dims })
}

/// The operator of an e-node.
pub(super) fn op_of<'a>(egraph: &'a EGraph, node: &ENode) -> Option<&'a Op> {
    if !node.is_op() {
        return None;
    }
    let attr = egraph[*node.children.first()?].data.attr?;
    Some(egraph.analysis.op(attr))
}
