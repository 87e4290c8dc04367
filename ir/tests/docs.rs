//! The page that documents the IR holds: its examples parse, verify and print, and no operator is missing.
#![allow(clippy::unwrap_used)]

use adze_ir::ops::{BinaryFn, Op, UnaryFn};
use adze_ir::text::parse_graph;
use adze_ir::verify::verify_graph;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ir.md")).unwrap()
}

#[test]
fn examples_parse_and_verify() {
    let page = page();
    let examples: Vec<&str> = page.split("```graph\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let graph = parse_graph(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        verify_graph(&graph).unwrap_or_else(|violations| panic!("{violations:?}\n{example}"));
        let printed = graph.to_string();
        assert_eq!(parse_graph(&printed).unwrap().to_string(), printed);
    }
}

#[test]
fn every_operator_is_listed() {
    let page = page();
    let functions = UnaryFn::ALL.iter().map(|f| f.name()).chain(BinaryFn::ALL.iter().map(|f| f.name()));
    let missing: Vec<&str> =
        Op::NAMES.iter().copied().chain(functions).filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/ir.md does not list {missing:?}");
}
