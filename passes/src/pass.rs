//! What a pass is, and what it is given.

use std::fmt;

use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, NodeId};
use adze_ir::loc::Loc;
use adze_ir::ops::TypeError;
use adze_ir::propose::{CostModel, PlainMachine};
use adze_ir::quant::Requantize;
use adze_ir::verify::GraphViolation;

use crate::solved::Solved;
use crate::validate::Validation;

/// A rewrite of a graph.
pub trait Pass {
    /// Kebab-case name: in the CLI, in dumps, in `testdata/passes/`.
    fn name(&self) -> &'static str;
    /// What it does and why it stands where it does, one paragraph.
    fn docs(&self) -> &'static str;
    /// How far results may move.
    fn exactness(&self) -> Exactness;
    /// Rewrites the graph.
    ///
    /// # Errors
    /// [`PassError`] for a model that cannot be handled or a bug of ours.
    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError>;
}

/// Whether a pass did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The graph is another one.
    Yes,
    /// The graph is the same.
    No,
}

/// How the e-graph stage goes about its rules. All but the first are for measuring what it is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// All rules in one e-graph, and the cheapest form out of it; copies between layouts stand where they cost least.
    #[default]
    Joint,
    /// The same rules one after another in a fixed order, each applied wherever it matches; layouts follow what is read.
    Greedy,
    /// Only what takes batch normalisation, scales and biases into weights; quantized networks compute in floats.
    /// Layouts follow what is read.
    Canonical,
    /// The same, and operators between integers compute in integers.
    CanonicalIntegers,
}

impl Optimizer {
    /// Whether it stands for a compiler that neither chooses forms nor the order in which things run.
    pub fn is_canonical(self) -> bool {
        matches!(self, Self::Canonical | Self::CanonicalIntegers)
    }
}

/// What passes may be told.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// Largest result in bytes that folding makes when the operands together are smaller.
    pub fold_limit_bytes: usize,
    /// Iterations of rewriting per region of the e-graph.
    pub iterations: usize,
    /// E-nodes per node of a region before rewriting stops.
    pub growth_limit: usize,
    /// Cycles that one unit of the error of an alternative (`choice`) weighs.
    pub error_weight: f64,
    /// Keep every region of the e-graph stage with the log of its rewrites ([`Report::solved`](crate::pipeline::Report)).
    pub record: bool,
    /// Compare every rewritten region with what it was, on random inputs through the interpreter
    /// ([`Report::validated`](crate::pipeline::Report)).
    pub validate: bool,
    /// A rule that is left out: what it wins is what is lost without it.
    pub without: Option<&'static str>,
    /// How the e-graph stage works.
    pub optimizer: Optimizer,
    /// The requantize contract that integer operators get; `None` leaves them theirs.
    pub contract: Option<Requantize>,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self {
            fold_limit_bytes: 1 << 16,
            iterations: 12,
            growth_limit: 24,
            error_weight: 1e9,
            record: false,
            validate: false,
            without: None,
            optimizer: Optimizer::default(),
            contract: None,
        }
    }
}

/// A chance that a pass saw and did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The pass.
    pub pass: &'static str,
    /// Source nodes.
    pub loc: Loc,
    /// Spelling of the operator.
    pub op: &'static str,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` {}: {}", self.pass, self.op, self.loc, self.reason)
    }
}

/// Surroundings of a pass: options, costs, and a place for reports.
pub struct PassCx<'a> {
    /// Options.
    pub options: &'a PassOptions,
    /// Costs of the machine that is compiled for.
    pub costs: &'a dyn CostModel,
    pub(crate) pass: &'static str,
    pub(crate) missed: Vec<Missed>,
    pub(crate) solved: Vec<Solved>,
    pub(crate) validated: Vec<Validation>,
    /// What the pass says of its run.
    pub(crate) detail: String,
}

impl<'a> PassCx<'a> {
    /// Surroundings with these options and costs.
    pub fn new(options: &'a PassOptions, costs: &'a dyn CostModel) -> Self {
        let (missed, solved, validated) = (Vec::new(), Vec::new(), Vec::new());
        Self { options, costs, pass: "", missed, solved, validated, detail: String::new() }
    }

    /// The costs of [`PlainMachine`].
    pub fn plain(options: &'a PassOptions) -> Self {
        Self::new(options, &PlainMachine)
    }

    /// Reports a chance not taken.
    pub fn missed(&mut self, graph: &Graph, node: NodeId, reason: impl Into<String>) {
        let node = graph.node(node);
        let (loc, op) = (node.loc.clone(), node.op.name());
        self.missed.push(Missed { pass: self.pass, loc, op, reason: reason.into() });
    }
}

/// Why passes stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassError {
    /// No such pass.
    #[error("no pass `{found}`, accepted: {accepted}")]
    Unknown {
        /// Name given.
        found: String,
        /// Names there are.
        accepted: String,
    },
    /// A bug of ours: the pass left a graph that does not verify.
    #[error("bug: pass `{pass}` broke the graph: {}", show(violations))]
    Broken {
        /// The pass, or `input`.
        pass: &'static str,
        /// What does not hold.
        violations: Vec<GraphViolation>,
    },
    /// A bug of ours: the pass made a node that its type rule refuses.
    #[error("bug: pass `{pass}` at {loc}: {error}")]
    Type {
        /// The pass.
        pass: &'static str,
        /// Source nodes.
        loc: Loc,
        /// Why.
        error: TypeError,
    },
    /// A bug of ours: a rule united values that differ.
    #[error("bug: pass `{pass}`: {what}")]
    Rule {
        /// The pass.
        pass: &'static str,
        /// Rule and facts.
        what: String,
    },
}

fn show(violations: &[GraphViolation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
