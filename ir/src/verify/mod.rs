//! Verifiers: what an IR has to satisfy, checked after every pass in tests.

mod graph;
mod tile;

pub use graph::{GraphViolation, verify_graph};
pub use tile::{TileViolation, verify_program};
