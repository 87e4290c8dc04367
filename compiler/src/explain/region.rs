//! What the e-graph stage did around one source node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use adze_ir::egraph::{Alternative, EGraph, ENode, History, Step, spell};
use adze_ir::ops::ConstId;
use adze_ir::text::brief_const;
use adze_passes::solved::Solved;
use egg::{ENodeOrVar, Id, Language as _};

use crate::catalog::grouped;

/// Rewrites that are written out; what else there is, is counted.
const MAX_STEPS: usize = 12;
/// Depth of operators without a name that an alternative is spelt with.
const MAX_DEPTH: usize = 4;

/// The rewrites around a node and what extraction chose among; empty where no rule looked at it.
pub fn explain(region: &Solved, name: &str) -> String {
    let own: Vec<_> = region.sources.iter().filter(|source| source.loc.names().iter().any(|n| **n == *name)).collect();
    let history = region.history();
    let touching = history.touching(own.iter().map(|source| source.node.clone()));
    if touching.is_empty() {
        return String::new();
    }
    let behind = history.behind(&region.choice);
    let taken: Vec<usize> = touching.iter().copied().filter(|at| behind.contains(at)).collect();
    let mut out = summary(region, touching.len(), taken.len());
    for (number, &at) in taken.iter().take(MAX_STEPS).enumerate() {
        let _ = write!(out, "\n{}. {}", number + 1, step_text(region, &history.steps()[at]));
    }
    if taken.len() > MAX_STEPS {
        let _ = writeln!(out, "\n{} more rewrites are left out here", taken.len() - MAX_STEPS);
    }
    out.push_str(&untaken(&history, &touching, &behind));
    let mut classes: Vec<Id> = own.iter().map(|source| source.class).collect();
    classes.extend(taken.iter().map(|&at| region.egraph.find(history.steps()[at].class)));
    let mut seen = BTreeSet::new();
    classes.retain(|class| seen.insert(*class));
    for class in classes {
        out.push_str(&choice(region, &history, class));
    }
    out
}

fn summary(region: &Solved, touching: usize, taken: usize) -> String {
    let after = region.choice.weight;
    let (nodes, e_nodes) = (region.sources.len(), region.egraph.total_number_of_nodes());
    let found = match (touching, taken) {
        (1, 1) => "one rewrite touches it, and was taken".to_owned(),
        (1, _) => "one rewrite touches it, and was not taken".to_owned(),
        (n, taken) if n == taken => format!("{n} rewrites touch it, and all are in what was taken"),
        (n, 0) => format!("{n} rewrites touch it, none of them in what was taken"),
        (n, taken) => format!("{n} rewrites touch it, {taken} of them in what was taken"),
    };
    let change = 100.0 - 100.0 * after as f64 / region.before.max(1) as f64;
    format!(
        "{found}; its region of {nodes} nodes ({e_nodes} e-nodes) costs {} instead of {}, {change:.1} % less\n",
        grouped(after),
        grouped(region.before)
    )
}

/// One rewrite: rule, both sides, conditions and reasons.
pub fn step_text(region: &Solved, step: &Step) -> String {
    let rule = step.rule;
    let mut side = Side { region, numbers: BTreeMap::new(), leaves: Vec::new(), next: 0 };
    let (before, root) = side.before(step);
    let after = side.after(step, root);
    let mut out = format!("{} ({})\n", rule.name, rule.exactness);
    let mut block = |label: &str, lines: &[String]| {
        for (at, line) in lines.iter().enumerate() {
            let _ = writeln!(out, "   {:9} {line}", if at == 0 { label } else { "" });
        }
    };
    block("given", &side.leaves);
    block("before", &before);
    block("after", &after);
    for condition in rule.conditions {
        block("holds", &[condition.name.to_owned()]);
    }
    block("sound", &[rule.sound.to_owned()]);
    block("helps", &[rule.helps.to_owned()]);
    out
}

/// Both sides of a rewrite as lines of graph text, on shared numbers.
struct Side<'a> {
    region: &'a Solved,
    numbers: BTreeMap<Id, usize>,
    leaves: Vec<String>,
    next: usize,
}

impl Side<'_> {
    fn fresh(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// The number of a value that the rewrite reads.
    fn leaf(&mut self, id: Id) -> usize {
        if let Some(&number) = self.numbers.get(&id) {
            return number;
        }
        let number = self.fresh();
        self.numbers.insert(id, number);
        self.leaves.push(format!("%{number} = {}{}", leaf(self.region, id), types(&self.region.egraph, id)));
        number
    }

    /// The left side, and the number of its root.
    fn before(&mut self, step: &Step) -> (Vec<String>, usize) {
        let egraph = &self.region.egraph;
        let pattern = step.pattern();
        let is_attr = |id: Id| egraph[egraph.find(id)].data.attr.is_some();
        for (_, id) in step.bindings.iter().filter(|(_, id)| !is_attr(*id)) {
            self.leaf(*id);
        }
        let mut matched = step.matched(egraph).into_iter();
        let mut at: Vec<usize> = Vec::new();
        let (mut lines, mut root) = (Vec::new(), 0);
        for node in pattern.as_ref() {
            match node {
                ENodeOrVar::Var(var) => {
                    let bound = step.binding(var.to_string().trim_start_matches('?'));
                    at.push(bound.and_then(|id| self.numbers.get(&id).copied()).unwrap_or(usize::MAX));
                }
                ENodeOrVar::ENode(written) => {
                    let Some((class, node)) = matched.next() else { break };
                    let operands: Vec<usize> = written.children().iter().map(|&c| at[usize::from(c)]).collect();
                    root = self.fresh();
                    at.push(root);
                    lines.push(self.line(root, class, &node, &operands));
                }
            }
        }
        (lines, root)
    }

    /// The right side, whose root has the number of the left one's.
    fn after(&mut self, step: &Step, root: usize) -> Vec<String> {
        if step.is_bare() {
            return vec![format!("%{root} is %{}", self.leaf(step.made))];
        }
        let mut lines = Vec::new();
        let mut done = BTreeSet::new();
        for (id, node) in step.added.iter().filter(|(id, _)| done.insert(*id)) {
            let operands: Vec<usize> = node.children().iter().map(|&c| self.operand(c)).collect();
            let number = match (*id == step.made, self.numbers.get(id)) {
                (true, _) => root,
                // What it asked for was there already.
                (false, Some(_)) => continue,
                (false, None) => self.fresh(),
            };
            self.numbers.insert(*id, number);
            lines.push(self.line(number, *id, node, &operands));
        }
        lines
    }

    fn operand(&mut self, id: Id) -> usize {
        let data = &self.region.egraph[id].data;
        if data.types.is_empty() { usize::MAX } else { self.leaf(id) }
    }

    fn line(&self, number: usize, class: Id, node: &ENode, operands: &[usize]) -> String {
        let egraph = &self.region.egraph;
        let mut names = operands[usize::from(node.is_op()).min(operands.len())..].iter();
        let spelt = if node.is("@const") {
            leaf_text(egraph, node).unwrap_or_default()
        } else {
            spell(egraph, node, &mut |_| {
                names.next().filter(|n| **n != usize::MAX).map_or("_".to_owned(), |n| format!("%{n}"))
            })
        };
        format!("%{number} = {spelt}{}", types(egraph, class))
    }
}

fn types(egraph: &EGraph, id: Id) -> String {
    let types: Vec<String> = egraph[egraph.find(id)].data.types.iter().map(ToString::to_string).collect();
    if types.is_empty() { String::new() } else { format!(" : {}", types.join(", ")) }
}

/// A value that a rewrite reads: a constant, or whatever its name is.
fn leaf(region: &Solved, id: Id) -> String {
    let class = region.egraph.find(id);
    let constant = region.egraph[class].nodes.iter().find_map(|node| leaf_text(&region.egraph, node));
    match (constant, region.name(class)) {
        (Some(constant), _) => constant,
        (None, Some(name)) => format!("{name:?}"),
        (None, None) => term(region, class, MAX_DEPTH),
    }
}

fn leaf_text(egraph: &EGraph, node: &ENode) -> Option<String> {
    if !node.is("@const") {
        return None;
    }
    egraph.analysis.constant_entry(ConstId::from_u32(node.payload)).map(brief_const)
}

/// A class as a term: its name, or what was taken for it.
fn term(region: &Solved, class: Id, depth: usize) -> String {
    let class = region.egraph.find(class);
    if let Some(name) = region.name(class) {
        return format!("{name:?}");
    }
    let nodes = &region.egraph[class].nodes;
    let Some(node) = region.choice.nodes.get(&class).or_else(|| nodes.iter().min()) else { return "_".to_owned() };
    match (leaf_text(&region.egraph, node), depth) {
        (Some(constant), _) => constant,
        _ if node.is("@none") => "_".to_owned(),
        (None, 0) => "..".to_owned(),
        (None, _) => format!("({})", spell(&region.egraph, node, &mut |id| term(region, id, depth - 1))),
    }
}

/// Rewrites that were found and lead to nothing that was taken.
fn untaken(history: &History<'_>, touching: &[usize], behind: &BTreeSet<usize>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for at in touching.iter().filter(|at| !behind.contains(at)) {
        *counts.entry(history.steps()[*at].rule.name).or_default() += 1;
    }
    if counts.is_empty() {
        return String::new();
    }
    let times = |n: usize| if n == 1 { String::new() } else { format!(" ({n} times)") };
    let list: Vec<String> = counts.iter().map(|(name, &n)| format!("{name}{}", times(n))).collect();
    format!("\nfound and not taken: {}\n", list.join(", "))
}

/// What a value could be computed by, with costs, and what was taken.
fn choice(region: &Solved, history: &History<'_>, class: Id) -> String {
    let class = region.egraph.find(class);
    let Some(ways) = region.ways.get(&class).filter(|ways| ways.len() > 1) else { return String::new() };
    let name = term(region, class, MAX_DEPTH);
    if ways.iter().all(|way| !way.chosen) {
        return format!("\n{name} is computed no more: what read it was rewritten\n");
    }
    let mut out = format!("\n{} ways to compute {name}:\n", ways.len());
    let mut ways: Vec<&Alternative> = ways.iter().collect();
    ways.sort_by_key(|way| (!way.chosen, way.total.unwrap_or(u64::MAX)));
    for way in ways {
        let origin = match history.maker(&way.node) {
            Some(at) => format!("by {}", history.steps()[at].rule.name),
            None if region.sources_of(&way.node).next().is_some() || !way.node.is_op() => "as read".to_owned(),
            // Groups of operators are offered as one by code that is no rule.
            None => "offered for a group of operators".to_owned(),
        };
        let spelt = spell(&region.egraph, &way.node, &mut |id| term(region, id, MAX_DEPTH - 1));
        let verdict = verdict(region, way);
        let _ = writeln!(out, "   {:5} {spelt}\n         {origin}; {verdict}", if way.chosen { "taken" } else { "" });
    }
    out
}

fn verdict(region: &Solved, way: &Alternative) -> String {
    let own =
        if way.supported { format!("costs {}", grouped(way.own)) } else { "the machine has no code for it".into() };
    if way.chosen {
        return own;
    }
    let all = region.choice.weight;
    match way.total {
        None => format!("{own}; it needs its own result, as everything else was taken"),
        Some(_) if !way.supported => own,
        Some(total) if total == all => format!("{own}; the same in all: a tie"),
        Some(total) => {
            let more = total.saturating_sub(all);
            let share = 100.0 * more as f64 / all.max(1) as f64;
            format!("{own}; with all that it needs {} more in the region ({share:.1} %)", grouped(more))
        }
    }
}
