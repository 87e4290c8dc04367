//! The e-graph over the same operators as the graph: e-nodes, facts, rules, extraction, and the way from and to a graph.
//!
//! An e-node is an operator's spelling, an attribute leaf that a pattern can bind, and its operands:
//! `(relu ?r (conv ?a ?x ?w))`. An e-class means *equal within its rules' exactness*. Nothing here is an artefact: dumps
//! are for reading, and their text parses back to an e-graph of the same hash.

mod alternatives;
mod exact;
mod extract;
mod facts;
mod greedy;
mod lie;
mod log;
mod node;
mod prints;
mod reads;
mod recipe;
mod region;
mod rule;
mod search;
mod text;

pub use alternatives::{Alternative, alternatives};
pub use extract::{Choice, Goal, extract, gap};
pub use facts::{Facts, Known, RuleBug};
pub use greedy::{apply_everywhere, take_everywhere};
pub use log::{History, Matched, Step, canonical};
pub use node::{ENode, Kind};
pub use prints::Fingerprint;
pub use reads::{Expr, Read, Test, ask, value};
pub use recipe::{Built, Part, Recipe, RegionError, Source};
pub use region::{Form, Region};
pub use rule::{Condition, Family, Match, Rule, RuleStats, add_const, add_op, saturate, unite};
pub use text::{Numbers, hash_egraph, parse_egraph, print_egraph, spell};

/// egg's e-graph over our e-nodes and facts.
pub type EGraph = egg::EGraph<ENode, Known>;

#[cfg(test)]
mod brute;
