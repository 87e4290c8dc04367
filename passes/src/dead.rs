//! Removal of what no output needs.

use adze_ir::exact::Exactness;
use adze_ir::graph::Graph;

use crate::pass::{Changed, Pass, PassCx, PassError};

/// See [`Pass::docs`].
pub struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead-code"
    }

    fn docs(&self) -> &'static str {
        "Drops nodes and constants that no output needs, and counts ids anew in topological order, so that a graph has \
         the same text and the same hash however it was reached."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, _: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let before = graph.order().len();
        *graph = graph.compact();
        Ok(if graph.order().len() == before { Changed::No } else { Changed::Yes })
    }
}
