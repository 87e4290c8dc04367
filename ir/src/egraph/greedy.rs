//! One rule applied wherever it matches, for good: what a compiler without an e-graph does. For comparisons.

use std::collections::BTreeMap;

use egg::{Id, Pattern, Searcher};

use super::extract::op_of;
use super::rule::Match;
use super::{Choice, EGraph, ENode, Rule};
use crate::ops::Op;

/// Puts the right side of a rule in the place of its left side wherever that stands among what `root` needs. The choice has no
/// weight, and says nothing about alternatives: of each `choice` the first is taken. `false` when nothing changed.
///
/// # Panics
/// If a left side does not parse: a bug that any use of the rule shows.
pub fn apply_everywhere(egraph: &mut EGraph, root: Id, rule: &'static Rule) -> (Choice, bool) {
    let source = egraph.clone();
    let bugs = egraph.analysis.bugs.len();
    let replaced = replace(egraph, rule);
    if !replaced.is_empty()
        && egraph.analysis.bugs.len() == bugs
        && let Some(choice) = walk(egraph, root, &replaced)
    {
        // A match among what nothing needs is none.
        let used = replaced.keys().any(|class| choice.nodes.contains_key(class));
        return (choice, used);
    }
    *egraph = source;
    (walk(egraph, root, &BTreeMap::new()).unwrap_or_default(), false)
}

/// What `root` needs where every class that has such an e-node takes it; `None` when that has a cycle.
pub fn take_everywhere(egraph: &EGraph, root: Id, wanted: impl Fn(&ENode) -> bool) -> Option<Choice> {
    let of = |class: &egg::EClass<ENode, super::Facts>| {
        let node = class.nodes.iter().find(|node| wanted(node)).filter(|_| class.nodes.len() > 1)?;
        Some((class.id, node.clone()))
    };
    walk(egraph, root, &egraph.classes().filter_map(of).collect())
}

/// Applies the rule to the matches that stand now; gives the e-node that takes the place of each class.
fn replace(egraph: &mut EGraph, rule: &'static Rule) -> BTreeMap<Id, ENode> {
    let mut matches: Vec<(Id, egg::Subst)> = Vec::new();
    for left in rule.left {
        let pattern: Pattern<ENode> = left.parse().expect("left sides are patterns");
        for found in pattern.search(egraph) {
            matches.extend(found.substs.into_iter().map(|subst| (found.eclass, subst)));
        }
    }
    // Operands before users; of one class the first left side.
    matches.sort_by_key(|(class, _)| *class);
    let mut made: Vec<(Id, Id, ENode)> = Vec::new();
    for (class, subst) in matches {
        let holds = rule.conditions.iter().all(|condition| (condition.holds)(&Match { egraph, subst: &subst }));
        if !holds || made.last().is_some_and(|(last, ..)| *last == class) {
            continue;
        }
        let Some(id) = (rule.make)(egraph, &subst).filter(|&id| id != class) else { continue };
        if egraph[id].data.types == egraph[class].data.types {
            made.push((class, id, egraph[id].nodes[0].clone()));
        }
    }
    for (class, id, _) in &made {
        egraph.union(*class, *id);
    }
    egraph.rebuild();
    made.into_iter().map(|(class, _, node)| (egraph.find(class), node)).collect()
}

/// What the root needs, with what replaces it; `None` where a replacement needs itself.
fn walk(egraph: &EGraph, root: Id, replaced: &BTreeMap<Id, ENode>) -> Option<Choice> {
    let mut choice = Choice::default();
    let mut open: BTreeMap<Id, bool> = BTreeMap::new();
    let mut stack = vec![(egraph.find(root), false)];
    while let Some((class, done)) = stack.pop() {
        if done {
            open.insert(class, false);
            continue;
        }
        match open.get(&class) {
            Some(true) => return None,
            Some(false) => continue,
            None => {}
        }
        open.insert(class, true);
        stack.push((class, true));
        let node = replaced.get(&class).unwrap_or(&egraph[class].nodes[0]);
        let node = match op_of(egraph, node) {
            Some(Op::Choice(_)) => ENode::pick(0, node.children[1]),
            _ => node.clone(),
        };
        stack.extend(
            node.children.iter().map(|&child| (egraph.find(child), false)).filter(|(c, _)| open.get(c) != Some(&false)),
        );
        choice.nodes.insert(class, node);
    }
    Some(choice)
}
