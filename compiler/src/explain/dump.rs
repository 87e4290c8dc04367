//! A region with every form as text, JSON, dot, or a page to browse.
//!
//! Classes have the same numbers in all of them ([`Numbers`]).

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use adze_ir::egraph::{Alternative, ENode, Numbers, print_egraph};
use adze_ir::text::{brief_const, print_op};
use adze_passes::solved::Solved;
use egg::Id;
use serde_json::{Map, Value, json};

use super::region::step_text;
use crate::catalog::grouped;

/// The page, into which a region goes as JSON.
const PAGE: &str = include_str!("page.html");

/// Regions as a list: where they are, how many forms they have, what they cost.
pub fn list(regions: &[&Solved]) -> String {
    let mut out = String::from("region  pass       nodes  e-nodes  rewrites  cost\n");
    for (at, region) in regions.iter().enumerate() {
        let rewrites: usize = region.stats.applied.values().sum();
        let (before, after) = (grouped(region.before), grouped(region.choice.weight));
        let end = |names: &[std::sync::Arc<str>]| names.first().map_or_else(|| "?".to_owned(), |name| name.to_string());
        let [first, last] = [region.sources.first(), region.sources.last()]
            .map(|source| source.map_or_else(String::new, |source| end(source.loc.names())));
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{at:>6}  {:9} {:>6}  {:>7}  {rewrites:>8}  {before} -> {after}  from {first} to {last}",
            region.pass,
            region.sources.len(),
            region.egraph.total_number_of_nodes(),
        );
    }
    out
}

/// The text form, which parses back to an e-graph of the same hash; names, costs and what was taken as comments.
pub fn text(region: &Solved) -> String {
    print_egraph(&region.egraph, region.root, &|class, node| {
        let mut note: Vec<String> = Vec::new();
        if let Some(way) = way(region, class, node) {
            note.extend(way.chosen.then(|| "taken".to_owned()));
            if way.own > 0 {
                note.push(format!("cost {}", way.own));
            }
        }
        note.extend(region.name(class).map(|name| name.replace('\n', " ")));
        note.join(", ")
    })
}

/// What the crate `egraph-serialize` reads: nodes with classes and costs, the types and names of classes, the roots.
pub fn json(region: &Solved) -> String {
    let numbers = Numbers::new(&region.egraph);
    let mut nodes = Map::new();
    let mut absent = false;
    for (number, (class, members)) in numbers.classes.iter().enumerate() {
        for (at, node) in members.iter().enumerate() {
            let operands = operands(region, &numbers, node);
            absent |= operands.contains(&None);
            let child = |operand: &Option<usize>| operand.map_or("none".to_owned(), |number| format!("{number}.0"));
            let children: Vec<String> = operands.iter().map(child).collect();
            let cost = way(region, *class, node).map_or(0, |way| way.own);
            let value = json!({
                "op": label(region, node), "children": children, "eclass": number.to_string(), "cost": cost,
                "subsumed": false,
            });
            nodes.insert(format!("{number}.{at}"), value);
        }
    }
    if absent {
        let none = json!({ "op": "_", "children": [], "eclass": "none", "cost": 0, "subsumed": false });
        nodes.insert("none".to_owned(), none);
    }
    let data = numbers.classes.iter().enumerate().map(|(number, (class, _))| {
        let name = region.name(*class).unwrap_or_default();
        (number.to_string(), json!({ "type": types(region, *class), "name": name }))
    });
    let roots: Vec<String> = roots(region, &numbers).iter().map(ToString::to_string).collect();
    let all = json!({ "nodes": nodes, "root_eclasses": roots, "class_data": data.collect::<Map<_, _>>() });
    format!("{all:#}\n")
}

/// A graph for Graphviz: a box per class, what was taken filled.
pub fn dot(region: &Solved) -> String {
    let numbers = Numbers::new(&region.egraph);
    let mut out = String::from("digraph egraph {\n  compound=true\n  node [shape=box, fontname=monospace]\n");
    for (number, (class, members)) in numbers.classes.iter().enumerate() {
        let title = format!("%{number} {} {}", region.name(*class).unwrap_or_default(), types(region, *class));
        let _ = writeln!(out, "  subgraph cluster_{number} {{\n    style=dotted; label={}", quoted(&title));
        for (at, node) in members.iter().enumerate() {
            let taken = way(region, *class, node).is_some_and(|way| way.chosen);
            let style = if taken { ", style=filled, fillcolor=palegreen" } else { "" };
            let _ = writeln!(out, "    n{number}_{at} [label={}{style}]", quoted(&label(region, node)));
        }
        out.push_str("  }\n");
    }
    for (number, (_, members)) in numbers.classes.iter().enumerate() {
        for (at, node) in members.iter().enumerate() {
            for operand in operands(region, &numbers, node).into_iter().flatten() {
                // An edge into a class that an e-node belongs to would be drawn inside of it.
                let head = if operand == number { String::new() } else { format!(" [lhead=cluster_{operand}]") };
                let _ = writeln!(out, "  n{number}_{at} -> n{operand}_0{head}");
            }
        }
    }
    out + "}\n"
}

/// One page that needs nothing else: classes with a search, their e-nodes with costs, the log of rewrites.
pub fn html(region: &Solved, title: &str) -> String {
    // `<` could end the element that the data stands in.
    let data = page_data(region, title).to_string().replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    PAGE.replacen("{{title}}", &title, 1).replacen("{{data}}", &data, 1)
}

fn page_data(region: &Solved, title: &str) -> Value {
    let (numbers, history) = (Numbers::new(&region.egraph), region.history());
    let behind = history.behind(&region.choice);
    let classes = numbers.classes.iter().map(|(class, members)| {
        let nodes = members.iter().map(|node| {
            let way = way(region, *class, node);
            let sources: BTreeSet<&str> =
                region.sources_of(node).flat_map(|source| source.loc.names()).map(|name| &**name).collect();
            json!({
                "op": label(region, node),
                "operands": operands(region, &numbers, node),
                "cost": way.filter(|way| way.supported).map(|way| way.own),
                "more": way.and_then(|way| way.total).map(|total| total.saturating_sub(region.choice.weight)),
                "taken": way.is_some_and(|way| way.chosen),
                "by": history.maker(node),
                "sources": sources,
            })
        });
        json!({
            "name": region.name(*class).unwrap_or_default(), "type": types(region, *class),
            "nodes": nodes.collect::<Vec<_>>(),
        })
    });
    let steps = history.steps().iter().enumerate().map(|(at, step)| {
        json!({
            "rule": step.rule.name, "class": numbers.of.get(&region.egraph.find(step.class)), "taken": behind.contains(&at),
            "text": step_text(region, step),
        })
    });
    json!({
        "title": title,
        "summary": format!("{} nodes, {} e-nodes in {} classes; cost {} -> {}", region.sources.len(),
            region.egraph.total_number_of_nodes(), numbers.classes.len(), grouped(region.before),
            grouped(region.choice.weight)),
        "classes": classes.collect::<Vec<_>>(), "steps": steps.collect::<Vec<_>>(), "roots": roots(region, &numbers),
    })
}

/// An operator with its attributes, or a leaf; without operands.
fn label(region: &Solved, node: &ENode) -> String {
    let analysis = &region.egraph.analysis;
    let constant = || analysis.constant_entry(adze_ir::ops::ConstId::from_u32(node.payload)).map(brief_const);
    match node.kind.name() {
        "@const" => constant().unwrap_or_else(|| "const".to_owned()),
        "@input" => format!("input {}", node.payload),
        "@get" => format!("get {}", node.payload),
        _ => match node.children.first().and_then(|&attr| region.egraph[attr].data.attr) {
            Some(attr) => fmt::from_fn(|f| print_op(f, analysis.op(attr), &[])).to_string(),
            None => node.to_string(),
        },
    }
}

/// The operands by number; `None` for one that is left out.
fn operands(region: &Solved, numbers: &Numbers, node: &ENode) -> Vec<Option<usize>> {
    let children = &node.children[usize::from(node.is_op()).min(node.children.len())..];
    children.iter().map(|&id| numbers.of.get(&region.egraph.find(id)).copied()).collect()
}

fn roots(region: &Solved, numbers: &Numbers) -> Vec<usize> {
    let tuples = region.egraph[region.root].nodes.iter().filter(|node| node.is("@tuple"));
    tuples.flat_map(|node| operands(region, numbers, node)).flatten().collect()
}

fn types(region: &Solved, class: Id) -> String {
    region.egraph[class].data.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The way that an e-node is; a `choice` is several, of which the one that was taken.
fn way<'a>(region: &'a Solved, class: Id, node: &ENode) -> Option<&'a Alternative> {
    region.ways.get(&class)?.iter().find(|way| way.node == *node)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
