//! The pass manager and the order of passes.

use std::time::{Duration, Instant};

use adze_ir::exact::Exactness;
use adze_ir::graph::Graph;
use adze_ir::propose::CostModel;
use adze_ir::verify::verify_graph;

use crate::pass::{Changed, Missed, PassCx, PassError, PassOptions};
use crate::registry;
use crate::solved::Solved;
use crate::validate::Validation;

/// The passes of `compile`, in order.
pub const DEFAULT: &[&str] = &[
    // First, so that every later pass sees one form of each thing.
    "canonicalize",
    // While weights are still integers.
    "integers",
    // Only when asked for.
    "contract",
    // Before rules look at constants: shape arithmetic and weight preparation of the exporter end here.
    "fold-constants",
    // Algebra on whole operators, while composites are still whole.
    "saturate",
    // Evaluates the symbolic weights that rules built.
    "fold-constants",
    "decompose",
    "canonicalize",
    // Use counts are final now.
    "fuse",
    "dead-code",
    // It sees what runs together.
    "layout",
    // While it is still open what runs first.
    "turns",
    // It knows what takes memory.
    "order",
    // Last on the graph: it sees operands as they lie.
    "schedule",
];

/// What one pass did.
#[derive(Clone, Debug)]
pub struct PassRun {
    /// The pass.
    pub name: &'static str,
    /// Whether it did something.
    pub changed: Changed,
    /// Its bound.
    pub exactness: Exactness,
    /// Nodes before and after.
    pub nodes: [usize; 2],
    /// What it says of its run, for people.
    pub detail: String,
    /// Wall clock; for people, never written into outputs.
    pub time: Duration,
}

/// What the passes did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One entry per pass run.
    pub runs: Vec<PassRun>,
    /// Chances not taken.
    pub missed: Vec<Missed>,
    /// The regions of the e-graph stage, where [`PassOptions::record`] asks for them.
    pub solved: Vec<Solved>,
    /// What came of validating them, where [`PassOptions::validate`] asks for it.
    pub validated: Vec<Validation>,
}

/// Called with the graph after each pass.
pub type Dump<'a> = dyn FnMut(&'static str, &Graph) + 'a;

/// How a list of passes is run.
pub struct Runner<'a> {
    /// Options of the passes.
    pub options: &'a PassOptions,
    /// Costs.
    pub costs: &'a dyn CostModel,
    /// Verify after each pass.
    pub verify: bool,
    /// Stop after the first run of this pass.
    pub stop_after: Option<&'a str>,
}

impl Runner<'_> {
    /// Runs passes by name on a graph that verifies.
    ///
    /// # Errors
    /// [`PassError`]: an unknown name (before anything runs), or what a pass or the verifier says.
    pub fn run(&self, graph: &mut Graph, names: &[&str], dump: &mut Dump<'_>) -> Result<Report, PassError> {
        let passes = names.iter().map(|name| registry::find(name)).collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = self.stop_after {
            registry::find(name)?;
        }
        let mut report = Report::default();
        let mut cx = PassCx::new(self.options, self.costs);
        for pass in passes {
            let (before, start) = (graph.order().len(), Instant::now());
            cx.pass = pass.name();
            let changed = pass.run(graph, &mut cx)?;
            let time = start.elapsed();
            if self.verify {
                verify_graph(graph).map_err(|violations| PassError::Broken { pass: pass.name(), violations })?;
            }
            let nodes = [before, graph.order().len()];
            let (name, exactness, detail) = (pass.name(), pass.exactness(), std::mem::take(&mut cx.detail));
            report.runs.push(PassRun { name, changed, exactness, nodes, detail, time });
            dump(pass.name(), graph);
            if self.stop_after == Some(pass.name()) {
                break;
            }
        }
        report.missed = cx.missed;
        report.solved = cx.solved;
        report.validated = cx.validated;
        Ok(report)
    }
}

/// The bound of several passes in sequence.
///
/// # Errors
/// [`PassError::Unknown`].
pub fn exactness_of(names: &[&str]) -> Result<Exactness, PassError> {
    names.iter().try_fold(Exactness::Exact, |sum, name| Ok(sum.then(registry::find(name)?.exactness())))
}
