//! What adze compiles: graph, e-graph and tile IR, their text form, verifier and reference interpreter.
//!
//! No I/O, no pass, no concrete target. See `docs/ir.md` for syntax and meaning.

pub mod attrs;
pub mod egraph;
pub mod eval;
pub mod exact;
pub mod extent;
pub mod fusion;
pub mod graph;
pub mod layout;
pub mod loc;
pub mod minifloat;
pub mod ops;
pub mod propose;
pub mod quant;
pub mod sample;
pub mod tensor;
pub mod text;
pub mod tile;
pub mod types;
pub mod verify;
