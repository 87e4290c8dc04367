//! The reference interpreter: plain, exact about rounding, the oracle of everything else.

mod graph;

pub use graph::{GraphError, bind_dims, eval_graph, eval_graph_observed};
