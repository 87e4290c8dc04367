//! The log of rewriting: which rule matched where, under which bindings, and what it added.
//!
//! egg's own explanations know neither conditions nor right sides that are made by code, so rules are logged as they are
//! applied. A step is numbers only; what it matched is looked up when someone asks, since e-nodes never go away.

use std::collections::{BTreeMap, BTreeSet};

use egg::{ENodeOrVar, Id, Language, PatternAst, RecExpr};

use super::{Choice, EGraph, ENode, Rule};

/// One application of a rule that changed something. Ids are those of the moment before.
#[derive(Clone, Debug)]
pub struct Step {
    /// The rule; its conditions held.
    pub rule: &'static Rule,
    /// Which of its left sides matched.
    pub left: usize,
    /// The class that it matched.
    pub class: Id,
    /// The variables of the left side, without `?`.
    pub bindings: Vec<(String, Id)>,
    /// Operators and constants of the right side that it asked for, operands first.
    pub added: Vec<(Id, ENode)>,
    /// The class that it was united with.
    pub made: Id,
}

/// A matched operator: which class, and the e-node.
pub type Matched = (Id, ENode);

impl Step {
    /// The pattern that matched.
    ///
    /// # Panics
    /// If it does not parse, which running the rule has shown.
    pub fn pattern(&self) -> PatternAst<ENode> {
        self.rule.left[self.left].parse().expect("left sides are patterns")
    }

    /// The class of a variable.
    pub fn binding(&self, name: &str) -> Option<Id> {
        self.bindings.iter().find(|(bound, _)| bound == name).map(|(_, id)| *id)
    }

    /// The operators that the left side matched, operands first, the one on top last; in ids of now.
    pub fn matched(&self, egraph: &EGraph) -> Vec<Matched> {
        let pattern = self.pattern();
        let mut ids: Vec<Id> = Vec::with_capacity(pattern.len());
        let mut matched = Vec::new();
        for node in pattern.as_ref() {
            match node {
                ENodeOrVar::Var(var) => {
                    let name = var.to_string();
                    let id = self.binding(name.trim_start_matches('?')).unwrap_or(self.class);
                    ids.push(egraph.find(id));
                }
                ENodeOrVar::ENode(node) => {
                    let node = node.clone().map_children(|child| ids[usize::from(child)]);
                    let id = egraph.lookup(node.clone()).unwrap_or_else(|| egraph.find(self.class));
                    matched.push((id, node));
                    ids.push(id);
                }
            }
        }
        matched
    }

    /// Whether the right side is a value that was there: one of the variables, or part of what matched.
    pub fn is_bare(&self) -> bool {
        self.added.iter().all(|(id, _)| *id != self.made)
    }
}

/// The variables of a pattern and what they are bound to.
pub(super) fn bindings(pattern: &RecExpr<ENodeOrVar<ENode>>, subst: &egg::Subst) -> Vec<(String, Id)> {
    let mut bound: Vec<(String, Id)> = Vec::new();
    for node in pattern.as_ref() {
        let ENodeOrVar::Var(var) = node else { continue };
        let name = var.to_string();
        let name = name.trim_start_matches('?');
        if let Some(&id) = subst.get(*var)
            && bound.iter().all(|(known, _)| known != name)
        {
            bound.push((name.to_owned(), id));
        }
    }
    bound
}

/// How the e-nodes of an e-graph came about, once rewriting is over.
pub struct History<'a> {
    egraph: &'a EGraph,
    steps: &'a [Step],
    /// The step that first asked for an e-node; those of the source are not here.
    made_by: BTreeMap<ENode, usize>,
}

impl<'a> History<'a> {
    /// The history that the log of an e-graph tells; `sources` are the e-nodes that were there before.
    pub fn new(egraph: &'a EGraph, sources: &[ENode]) -> Self {
        let steps = egraph.analysis.log.as_deref().unwrap_or_default();
        let sources: BTreeSet<ENode> = sources.iter().map(|node| canonical(egraph, node)).collect();
        let mut made_by = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            for (_, node) in &step.added {
                let node = canonical(egraph, node);
                if !sources.contains(&node) {
                    made_by.entry(node).or_insert(at);
                }
            }
        }
        Self { egraph, steps, made_by }
    }

    /// The steps.
    pub fn steps(&self) -> &'a [Step] {
        self.steps
    }

    /// The step that made an e-node; `None` for one of the source.
    pub fn maker(&self, node: &ENode) -> Option<usize> {
        self.made_by.get(&canonical(self.egraph, node)).copied()
    }

    /// The steps that matched one of these e-nodes or what was made of them, in order.
    pub fn touching(&self, nodes: impl IntoIterator<Item = ENode>) -> Vec<usize> {
        let mut derived: BTreeSet<ENode> = nodes.into_iter().map(|node| canonical(self.egraph, &node)).collect();
        let mut touching = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            if step.matched(self.egraph).iter().any(|(_, node)| derived.contains(node)) {
                touching.push(at);
                let made = step.added.iter().map(|(_, node)| canonical(self.egraph, node));
                derived.extend(made.filter(|node| self.made_by.get(node) == Some(&at)));
            }
        }
        touching
    }

    /// The steps that a choice rests on: those that made its e-nodes, and those that made what these were made of.
    pub fn behind(&self, choice: &Choice) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut work: Vec<usize> = Vec::new();
        for (class, node) in &choice.nodes {
            match self.maker(node) {
                Some(step) => {
                    work.push(step);
                    work.extend(self.brought(node, step));
                }
                // An e-node of the source stands for another one: some right side was a value that was there.
                None => work.extend(self.unions(*class, node)),
            }
        }
        while let Some(at) = work.pop() {
            if needed.insert(at) {
                let matched = self.steps[at].matched(self.egraph);
                for (_, node) in &matched {
                    let Some(maker) = self.maker(node) else { continue };
                    work.extend(std::iter::once(maker).chain(self.brought(node, maker)).filter(|&before| before < at));
                }
            }
        }
        needed
    }

    /// Steps that took the class in which a step made an e-node into another one, where users of that see it.
    fn brought(&self, node: &ENode, maker: usize) -> Vec<usize> {
        let node = canonical(self.egraph, node);
        let added = &self.steps[maker].added;
        let ids: Vec<Id> =
            added.iter().filter(|(_, made)| canonical(self.egraph, made) == node).map(|(id, _)| *id).collect();
        (0..self.steps.len()).filter(|&at| self.steps[at].is_bare() && ids.contains(&self.steps[at].made)).collect()
    }

    /// Steps by which a class took in a value that was there, and in whose place `chosen` stands.
    fn unions(&self, class: Id, chosen: &ENode) -> Vec<usize> {
        let chosen = canonical(self.egraph, chosen);
        let joins = |step: &Step| {
            step.is_bare()
                && self.egraph.find(step.class) == class
                && step.matched(self.egraph).last().is_some_and(|(_, root)| *root != chosen)
        };
        (0..self.steps.len()).filter(|&at| joins(&self.steps[at])).collect()
    }
}

/// An e-node with the ids of now.
pub fn canonical(egraph: &EGraph, node: &ENode) -> ENode {
    node.clone().map_children(|child| egraph.find(child))
}
