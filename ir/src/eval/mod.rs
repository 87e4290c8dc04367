//! The reference interpreter: plain, exact about rounding, the oracle of everything else.

mod graph;
mod tile;

pub use graph::{GraphError, bind_dims, eval_graph, eval_graph_observed};
pub use tile::{LeafEvent, LeafObserver, TileError, eval_program, eval_program_observed};
