//! How what adze compiles is improved: passes on the graph, on the e-graph, and down to tile IR.
//!
//! The order is in [`pipeline`]; a pass sees a machine as a [`adze_ir::propose::CostModel`] only.

pub mod adjoint;
pub mod canonicalize;
mod contract;
pub mod dead;
pub mod decompose;
pub mod fold;
pub mod fuse;
mod greedy;
pub mod integers;
pub mod layout;
pub mod lower;
pub mod memory;
pub mod order;
pub mod pass;
pub mod pipeline;
mod rebuild;
mod regions;
pub mod registry;
pub mod rules;
pub mod saturate;
pub mod schedule;
pub mod solved;
mod turns;
pub mod validate;
