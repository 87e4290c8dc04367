//! Extraction: the cheapest choice of one e-node per class, shared sub-graphs counted once.
//!
//! Greedy over DAGs: each class keeps the set of e-nodes that its best choice needs (a bit set over all e-nodes), classes
//! are worked on in topological order, and the result is walked from the root once more, for its true cost and for cycles.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use super::rule::operands;
use super::{EGraph, ENode};
use crate::ops::Op;
use crate::propose::{Cost, CostModel, OpFacts};
use crate::types::TensorType;

/// Weight of an operator that the machine has no schedule for: taken only where there is nothing else.
const UNSUPPORTED: u64 = 1 << 40;

/// One e-node per class that the root needs.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// By canonical class.
    pub nodes: BTreeMap<Id, ENode>,
    /// Sum over the chosen e-nodes, each counted once.
    pub weight: u64,
}

/// The cheapest way found to compute `root`, or `None` when greedy choices form a cycle (the caller keeps its source).
pub fn extract(egraph: &EGraph, root: Id, costs: &dyn CostModel) -> Option<Choice> {
    let mut table = Table::new(egraph, costs);
    table.solve(egraph.find(root));
    table.walk(egraph.find(root))
}

struct Best {
    weight: u64,
    node: usize,
    set: Vec<u64>,
}

struct Table<'a> {
    egraph: &'a EGraph,
    /// E-nodes, those of one class next to each other.
    nodes: Vec<(Id, ENode)>,
    weights: Vec<u64>,
    range: BTreeMap<Id, (usize, usize)>,
    parents: BTreeMap<Id, BTreeSet<Id>>,
    best: BTreeMap<Id, Best>,
}

impl<'a> Table<'a> {
    fn new(egraph: &'a EGraph, costs: &dyn CostModel) -> Self {
        let mut classes: Vec<Id> = egraph.classes().map(|c| c.id).collect();
        classes.sort_unstable();
        let mut table = Self {
            egraph,
            nodes: Vec::new(),
            weights: Vec::new(),
            range: BTreeMap::new(),
            parents: BTreeMap::new(),
            best: BTreeMap::new(),
        };
        for class in classes {
            let mut nodes: Vec<ENode> = egraph[class].nodes.clone();
            nodes.sort_unstable();
            let start = table.nodes.len();
            for node in nodes {
                for &child in &node.children {
                    table.parents.entry(egraph.find(child)).or_default().insert(class);
                }
                table.weights.push(weight(egraph, class, &node, costs));
                table.nodes.push((class, node));
            }
            table.range.insert(class, (start, table.nodes.len()));
        }
        table
    }

    /// Classes below `root` in post-order; edges back into the path are skipped.
    fn topological(&self, root: Id) -> BTreeMap<Id, usize> {
        let mut order = BTreeMap::new();
        let mut open = BTreeSet::new();
        let mut stack = vec![(root, false)];
        while let Some((class, expanded)) = stack.pop() {
            if expanded {
                let next = order.len();
                order.entry(class).or_insert(next);
            } else if open.insert(class) {
                stack.push((class, true));
                let (start, end) = self.range[&class];
                let children = self.nodes[start..end].iter().flat_map(|(_, node)| node.children.iter());
                stack.extend(children.map(|&c| (self.egraph.find(c), false)));
            }
        }
        order
    }

    fn solve(&mut self, root: Id) {
        let order = self.topological(root);
        let mut work: BTreeSet<(usize, Id)> = order.iter().map(|(&class, &at)| (at, class)).collect();
        // Weights only fall, so this ends; the bound is for safety.
        let mut left = 64 * (self.nodes.len() + 1);
        while let Some((_, class)) = work.pop_first() {
            left -= 1;
            if left == 0 {
                break;
            }
            if self.improve(class) {
                let parents = self.parents.get(&class).into_iter().flatten();
                work.extend(parents.filter_map(|&p| order.get(&p).map(|&at| (at, p))));
            }
        }
    }

    /// Chooses anew for a class; `true` when it got cheaper.
    fn improve(&mut self, class: Id) -> bool {
        let (start, end) = self.range[&class];
        let mut improved = false;
        for node in start..end {
            let Some((weight, set)) = self.weigh(node, (start, end)) else { continue };
            if self.best.get(&class).is_none_or(|best| weight < best.weight) {
                self.best.insert(class, Best { weight, node, set });
                improved = true;
            }
        }
        improved
    }

    /// Weight of an e-node with all it needs; `None` while a child has no choice, or when it needs its own class.
    fn weigh(&self, node: usize, (start, end): (usize, usize)) -> Option<(u64, Vec<u64>)> {
        let (class, enode) = &self.nodes[node];
        let mut set = vec![0u64; self.nodes.len().div_ceil(64)];
        set[node / 64] |= 1 << (node % 64);
        let children: Option<Vec<&Best>> =
            enode.children.iter().map(|&c| self.best.get(&self.egraph.find(c))).collect();
        let children = children?;
        if self.egraph[*class].data.fixed {
            // Evaluated at compile time: only what it gives is stored. The length of the expression breaks ties, and
            // makes choices among constants well-founded.
            let size = children.iter().fold(1u64, |sum, best| sum.saturating_add(best.weight));
            let own = self.weights[node];
            return Some((if enode.is_op() { own.saturating_add(size) } else { own }, set));
        }
        for best in children {
            set.iter_mut().zip(&best.set).for_each(|(word, other)| *word |= other);
        }
        if (start..end).any(|other| other != node && set[other / 64] >> (other % 64) & 1 == 1) {
            return None;
        }
        Some((self.sum(&set), set))
    }

    fn sum(&self, set: &[u64]) -> u64 {
        let mut sum = 0u64;
        for (index, &word) in set.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                sum = sum.saturating_add(self.weights[index * 64 + word.trailing_zeros() as usize]);
                word &= word - 1;
            }
        }
        sum
    }

    /// Follows the choices from the root; `None` on a cycle or a class without a choice.
    fn walk(&self, root: Id) -> Option<Choice> {
        let mut choice = Choice::default();
        let mut open: BTreeSet<Id> = BTreeSet::new();
        let mut stack = vec![(root, false)];
        while let Some((class, expanded)) = stack.pop() {
            if expanded {
                let node = self.best.get(&class)?.node;
                choice.nodes.insert(class, self.nodes[node].1.clone());
                choice.weight = choice.weight.saturating_add(self.weights[node]);
                continue;
            }
            if choice.nodes.contains_key(&class) {
                continue;
            }
            if !open.insert(class) {
                return None;
            }
            stack.push((class, true));
            let node = &self.nodes[self.best.get(&class)?.node].1;
            let mut children: Vec<Id> = node.children.iter().map(|&c| self.egraph.find(c)).collect();
            children.sort_unstable();
            children.dedup();
            // A class that is open and not done is on the path: that is the cycle. One that waits on the stack is not open.
            stack.extend(children.into_iter().filter(|c| !choice.nodes.contains_key(c)).map(|c| (c, false)));
        }
        Some(choice)
    }
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
    let facts = OpFacts { inputs: &inputs, outputs: &facts.types, dims: &egraph.analysis.dims };
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
