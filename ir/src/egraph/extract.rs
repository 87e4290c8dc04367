//! Extraction: the cheapest choice of one e-node per class, shared sub-graphs counted once.
//!
//! Greedy over DAGs: each class keeps the set of ways that its best choice needs (a bit set over all e-nodes), classes are
//! worked on in topological order, and the result is walked from the root once more, for its true cost and for cycles.
//! What greedy misses are parts that only pay when several users share them; a local search then tries every other way of
//! every chosen class against the true cost. See `docs/egraph.md`.

use std::collections::BTreeMap;

use egg::Id;

use super::rule::operands;
use super::search::{as_tree, improve};
use super::{EGraph, ENode};
use crate::ops::Op;
use crate::propose::{Cost, CostModel, OpFacts};
use crate::types::TensorType;

/// Weight of an operator that the machine has no schedule for: taken only where there is nothing else.
const UNSUPPORTED: u64 = 1 << 40;

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

/// The cheapest way found to compute `root`; `None` when there is none without a cycle.
pub fn extract(egraph: &EGraph, root: Id, goal: &Goal<'_>) -> Option<Choice> {
    let mut table = Table::new(egraph, goal);
    let root = table.class(egraph.find(root));
    table.solve(root);
    let first: Vec<Option<usize>> = table.best.iter().map(|best| best.as_ref().map(|b| b.way)).collect();
    // Greedy choices can form a cycle; those of the tree cannot, but count what is shared again at every use.
    let starts = [table.walk(root, &first), as_tree(&table, root)];
    let found = starts.into_iter().flatten().map(|start| improve(&table, root, start));
    let found = found.reduce(|a, b| if b.weight < a.weight { b } else { a })?;
    let mut choice = Choice { nodes: BTreeMap::new(), weight: found.weight };
    for &class in &found.classes {
        let way = &table.ways[found.chosen[class]?];
        choice.nodes.insert(table.ids[class], way.node.clone());
    }
    Some(choice)
}

/// One way to compute a class: an e-node, or one alternative of a choice.
pub(super) struct Way {
    /// What the choice records.
    node: ENode,
    /// Classes it needs.
    pub children: Vec<usize>,
    /// Weight of its own.
    pub weight: u64,
}

struct Best {
    weight: u64,
    way: usize,
    set: Vec<u64>,
}

/// The e-graph as numbers: classes and ways in a fixed order.
pub(super) struct Table {
    ids: Vec<Id>,
    index: BTreeMap<Id, usize>,
    /// Those of one class next to each other.
    pub ways: Vec<Way>,
    /// Of each class.
    pub range: Vec<(usize, usize)>,
    /// Evaluated at compile time: only the value is stored.
    fixed: Vec<bool>,
    /// For every operator with several results that there is an alternative to: its class, and the classes and ways
    /// that take one of them.
    pub results: Vec<(usize, Vec<(usize, usize)>)>,
    parents: Vec<Vec<usize>>,
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
    fn new(egraph: &EGraph, goal: &Goal<'_>) -> Self {
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
        let fixed = ids.iter().map(|&id| egraph[id].data.fixed).collect();
        let mut results: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for (class, &(start, end)) in range.iter().enumerate().filter(|(_, (start, end))| end - start > 1) {
            for way in (start..end).filter(|&way| ways[way].node.is("@get")) {
                results.entry(ways[way].children[0]).or_default().push((class, way));
            }
        }
        let results = results.into_iter().filter(|(_, takers)| takers.len() > 1).collect();
        let best = ids.iter().map(|_| None).collect();
        Self { ids, index, ways, range, fixed, results, parents, best }
    }

    fn class(&self, id: Id) -> usize {
        self.index[&id]
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

    /// Every way once; of what is evaluated at compile time only what is read at run time.
    fn true_weight(&self, found: &Found) -> u64 {
        let mut stored = vec![false; found.chosen.len()];
        let mut sum = 0u64;
        // Users come later.
        for &class in found.classes.iter().rev() {
            let Some(at) = found.chosen[class] else { continue };
            if !self.fixed[class] || stored[class] {
                sum = sum.saturating_add(self.ways[at].weight);
            }
            if !self.fixed[class] {
                self.ways[at].children.iter().for_each(|&child| stored[child] = true);
            }
        }
        sum
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
            ways.push(Way { node: ENode::pick(alternative, child), children: vec![place(&child)], weight });
        }
        return;
    }
    let weight = weight(egraph, class, node, goal.costs);
    ways.push(Way { node: node.clone(), children: node.children.iter().map(place).collect(), weight });
}

/// Weight of one e-node alone.
fn weight(egraph: &EGraph, class: Id, node: &ENode, costs: &dyn CostModel) -> u64 {
    let facts = &egraph[class].data;
    let rodata = || {
        let bytes = facts.types.iter().map(|ty| u64::try_from(ty.max_bytes(&egraph.analysis.dims)).unwrap_or(u64::MAX));
        Cost { rodata: bytes.fold(0, u64::saturating_add), ..Cost::default() }.weight()
    };
    if facts.fixed {
        return rodata();
    }
    let Some(op) = op_of(egraph, node) else { return 0 };
    let inputs: Vec<Option<&TensorType>> = operands(node).iter().map(|&id| egraph[id].data.ty()).collect();
    let fixed: Vec<bool> = operands(node).iter().map(|&id| egraph[id].data.fixed).collect();
    let facts = OpFacts { inputs: &inputs, fixed: &fixed, outputs: &facts.types, dims: &egraph.analysis.dims };
    // One more than the model says: of two free forms the one with fewer nodes.
    costs.cost(op, &facts).map_or(UNSUPPORTED, Cost::weight).saturating_add(1)
}

/// The operator of an e-node.
pub(super) fn op_of<'a>(egraph: &'a EGraph, node: &ENode) -> Option<&'a Op> {
    if !node.is_op() {
        return None;
    }
    let attr = egraph[*node.children.first()?].data.attr?;
    Some(egraph.analysis.op(attr))
}
