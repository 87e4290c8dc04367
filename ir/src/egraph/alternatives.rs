//! What extraction could have taken instead, and what that would have cost.

use std::collections::BTreeMap;

use egg::Id;

use super::extract::{Table, UNSUPPORTED};
use super::search::{LIMIT, complete};
use super::{Choice, EGraph, ENode, Goal};

/// One way to compute a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The e-node, or one alternative of a `choice`.
    pub node: ENode,
    /// Weight of its own.
    pub own: u64,
    /// Whether the machine has code for it.
    pub supported: bool,
    /// Whether extraction took it.
    pub chosen: bool,
    /// Weight of everything with this way taken and the rest left as it is, as far as it can be; `None` where that has
    /// a cycle, or where nothing needs the class.
    pub total: Option<u64>,
}

/// The ways of every class of values, in a fixed order; none where the choice is not one of this e-graph.
pub fn alternatives(egraph: &EGraph, root: Id, goal: &Goal<'_>, choice: &Choice) -> BTreeMap<Id, Vec<Alternative>> {
    let table = Table::new(egraph, goal);
    let root = table.class(egraph.find(root));
    let mut chosen = vec![None; table.range.len()];
    for (&id, node) in &choice.nodes {
        let class = table.class(egraph.find(id));
        let (start, end) = table.range[class];
        chosen[class] = (start..end).filter(|&way| table.ways[way].node == *node).min_by_key(|&w| table.ways[w].weight);
    }
    let Some(found) = table.walk(root, &chosen) else { return BTreeMap::new() };
    let mut left = LIMIT;
    let mut all = BTreeMap::new();
    for (class, &(start, end)) in table.range.iter().enumerate() {
        if egraph[table.ids[class]].data.types.is_empty() {
            continue;
        }
        let mut ways = Vec::new();
        for at in start..end {
            let way = &table.ways[at];
            let taken = found.chosen[class] == Some(at);
            let trial = |left: &mut usize| {
                let chosen = complete(&table, &found, class, at, left)?;
                Some(table.walk(root, &chosen)?.weight)
            };
            let total = match found.chosen[class] {
                None => None,
                Some(_) if taken => Some(found.weight),
                Some(_) => trial(&mut left),
            };
            let supported = way.weight < UNSUPPORTED;
            ways.push(Alternative { node: way.node.clone(), own: way.weight, supported, chosen: taken, total });
        }
        all.insert(table.ids[class], ways);
    }
    all
}
