//! Graph to tile IR, for one memory of one processor: a leaf per node, no loops yet.
//!
//! Nodes that only rename bytes (reshapes, dense slices and splits, concatenations whose parts can be made where they belong)
//! become aliases of buffers. Weights become recipes, padding of convolutions and pools becomes reads outside of a buffer,
//! graph inputs, outputs and states are bound where the caller keeps them. Sizes stay symbolic.

pub(crate) mod alias;
mod builder;
mod padding;
mod states;

use adze_ir::graph::Graph;
use adze_ir::loc::Loc;
use adze_ir::tile::Program;

/// Choices of lowering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerOptions {
    /// Parts of a concatenation are made inside of its result. Saves copies; the result's bytes live longer.
    pub concat_in_place: bool,
}

impl Default for LowerOptions {
    fn default() -> Self {
        Self { concat_in_place: true }
    }
}

/// A lowered graph.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The program; nothing in it is placed yet.
    pub program: Program,
    /// Missed chances, each with the node: a state that has to be copied, for instance.
    pub notes: Vec<String>,
}

/// Why a graph cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// A state that grows by appending is not made by appending.
    #[error("state `{state}` {loc}: found {found}, accepted: {accepted}")]
    State {
        /// Name of the output.
        state: String,
        /// The node that makes it.
        loc: Loc,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
}

/// Lowers a graph.
///
/// # Errors
/// [`LowerError`].
pub fn lower(graph: &Graph, options: LowerOptions) -> Result<Lowered, LowerError> {
    builder::Lowering::new(graph, options)?.run()
}
