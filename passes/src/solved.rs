//! What is kept of a region of the e-graph stage for those who ask: explanations, dumps, counts per rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use adze_ir::egraph::{
    Alternative, Choice, EGraph, ENode, Goal, History, Region, RuleStats, alternatives, canonical, extract,
};
use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::loc::Loc;
use egg::Id;

/// A region with every form that was found, and the one that was taken.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The pass.
    pub pass: &'static str,
    /// Every form. Its log says how they came about.
    pub egraph: EGraph,
    /// The class that every result hangs under.
    pub root: Id,
    /// What was taken.
    pub choice: Choice,
    /// How rewriting went.
    pub stats: RuleStats,
    /// Weight of the form that was read.
    pub before: u64,
    /// The ways of every class of values, with weights.
    pub ways: BTreeMap<Id, Vec<Alternative>>,
    /// The nodes that were read, in order.
    pub sources: Vec<Source>,
    /// Names of values, by class.
    pub names: BTreeMap<Id, Arc<str>>,
}

/// A node of the form that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Nodes of the model.
    pub loc: Loc,
    /// Its e-node, in ids of now.
    pub node: ENode,
    /// The class of it.
    pub class: Id,
}

impl Solved {
    /// Keeps a region. `before` is its e-graph before rewriting.
    pub(crate) fn new(
        (graph, pass): (&Graph, &'static str),
        region: &Region<'_>,
        before: &EGraph,
        goal: &Goal<'_>,
        (choice, stats): (Choice, RuleStats),
    ) -> Self {
        let (root, egraph) = (region.root(), region.egraph.clone());
        let ways = alternatives(&egraph, root, goal, &choice);
        let weight = extract(before, root, goal).map_or(choice.weight, |choice| choice.weight);
        let source = |&id: &NodeId| {
            let node = canonical(&egraph, region.source(id)?);
            let class = egraph.lookup(node.clone())?;
            Some(Source { loc: graph.node(id).loc.clone(), node, class })
        };
        let sources = region.nodes().iter().filter_map(source).collect();
        let names = names(graph, region);
        Self { pass, egraph, root, choice, stats, before: weight, ways, sources, names }
    }

    /// How its e-nodes came about.
    pub fn history(&self) -> History<'_> {
        let sources: Vec<ENode> = self.sources.iter().map(|source| source.node.clone()).collect();
        History::new(&self.egraph, &sources)
    }

    /// The source nodes that an e-node is of.
    pub fn sources_of<'a>(&'a self, node: &'a ENode) -> impl Iterator<Item = &'a Source> {
        self.sources.iter().filter(move |source| source.node == *node)
    }

    /// What a class is called: the name of its value, or of its constant.
    pub fn name(&self, class: Id) -> Option<&str> {
        let class = self.egraph.find(class);
        self.names.get(&class).map(|name| &**name).filter(|name| !name.is_empty())
    }
}

/// Names of values by class: those of the source, which a class has from the first one that computes it.
fn names(graph: &Graph, region: &Region<'_>) -> BTreeMap<Id, Arc<str>> {
    let mut names: BTreeMap<Id, Arc<str>> = BTreeMap::new();
    let mut values: Vec<(ValueId, Id)> = region.values().collect();
    values.sort();
    for (value, class) in values {
        let own = graph.value(value).name.clone();
        let node = || graph.producer(value).and_then(|(_, node)| node.loc.names().first().cloned());
        let constant = || graph.constant(value).map(|entry| entry.name.clone());
        if let Some(name) = own.or_else(constant).or_else(node).filter(|name| !name.is_empty()) {
            names.entry(class).or_insert(name);
        }
    }
    names
}
