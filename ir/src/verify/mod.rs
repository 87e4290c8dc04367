//! Verifiers: what an IR has to satisfy, checked after every pass in tests.

mod graph;

pub use graph::{GraphViolation, verify_graph};
