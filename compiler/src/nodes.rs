//! Checking node by node: every node of the optimised graph is compiled alone and run on the interpreter's operands.
//!
//! Errors of earlier nodes do not spoil later ones, so the first node beyond its tolerance is the one at fault.

use std::collections::BTreeMap;

use adze_ir::eval::eval_graph_observed;
use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::text::Spelling as _;
use adze_passes::pipeline;

use crate::build::{BuildOptions, Built, finish};
use crate::compare::{Difference, Tolerance, compare};
use crate::error::Error;
use crate::execute::Executable;
use crate::stage::{Artifact, Stage, Trace};

/// What came of a node.
#[derive(Clone, Debug)]
pub struct NodeCheck {
    /// Source nodes.
    pub source: Vec<String>,
    /// Operator.
    pub op: String,
    /// Position of the result among the node's.
    pub result: usize,
    /// Native code against the interpreter; `None` when dtype or shape differ.
    pub difference: Option<Difference>,
}

impl NodeCheck {
    /// Within the tolerance.
    pub fn good(&self) -> bool {
        self.difference.as_ref().is_some_and(|d| d.beyond == 0)
    }
}

/// Checks every node of a graph (as it comes from import) on these inputs, in order.
///
/// # Errors
/// [`Error`] when the graph cannot be evaluated or a node not be compiled.
pub fn check_nodes(graph: &Graph, inputs: &[Tensor], options: &BuildOptions) -> Result<Vec<NodeCheck>, Error> {
    // Layouts are chosen for the node alone: what is compared is row-major.
    let last = pipeline::DEFAULT.iter().position(|p| *p == "layout").unwrap_or(pipeline::DEFAULT.len());
    let imported = Artifact::Graph(Box::new(graph.clone()), 0);
    let Artifact::Graph(graph, done) = imported.advance(Stage::Graph(last), options, &mut Trace::default())? else {
        return Err(Error::Bug("a stage of graphs holds a graph".into()));
    };
    let mut values: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    eval_graph_observed(&graph, inputs, &mut |value, tensor| {
        values.insert(value, tensor.clone());
    })?;
    for (&value, tensor) in graph.inputs().iter().zip(inputs) {
        values.entry(value).or_insert_with(|| tensor.clone());
    }
    let mut checks = Vec::new();
    for (id, node) in graph.nodes() {
        if matches!(node.op, Op::Constant(_)) {
            continue;
        }
        let (cut, operands) = cut_out(&graph, id, &values)?;
        let found = run(cut, &operands, done, options)?;
        for (result, (value, found)) in node.outputs.iter().zip(&found).enumerate() {
            let Some(expected) = values.get(value) else { continue };
            let difference = compare(found, expected, Tolerance::of(expected.dtype()));
            let source = node.loc.names().iter().map(|n| n.to_string()).collect();
            checks.push(NodeCheck { source, op: node.op.spelling().to_owned(), result, difference });
        }
    }
    Ok(checks)
}

/// A graph of one node with its constants; its other operands are inputs, whose values come with it.
fn cut_out(graph: &Graph, id: NodeId, values: &BTreeMap<ValueId, Tensor>) -> Result<(Graph, Vec<Tensor>), Error> {
    let node = graph.node(id);
    let mut cut = Graph::new("node");
    let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let mut operands = Vec::new();
    for &value in node.inputs.iter().flatten() {
        if map.contains_key(&value) {
            continue;
        }
        let new = match graph.constant(value) {
            Some(entry) => {
                let constant = cut.consts.push(entry.clone());
                cut.add_const(constant, Default::default())
            }
            None => {
                let known = values.get(&value).ok_or_else(|| Error::Bug("an operand was not evaluated".into()))?;
                operands.push(known.clone());
                let mut ty = known.ty();
                ty.quant = graph.ty(value).quant.clone();
                cut.add_input(format!("in{}", operands.len() - 1), ty)
            }
        };
        map.insert(value, new);
    }
    let inputs: Vec<Option<ValueId>> = node.inputs.iter().map(|v| v.map(|v| map[&v])).collect();
    // Extents among the attributes may mention dimensions that are not bound.
    cut.dims = graph.dims.clone();
    let outputs =
        cut.add(node.op.clone(), &inputs, node.loc.clone()).map_err(|e| Error::Bug(format!("{}: {e}", node.loc)))?;
    for (index, value) in outputs.into_iter().enumerate() {
        cut.add_output(format!("out{index}"), value);
    }
    Ok((cut, operands))
}

fn run(cut: Graph, operands: &[Tensor], done: usize, options: &BuildOptions) -> Result<Vec<Tensor>, Error> {
    let mut trace = Trace::default();
    let planned = Artifact::Graph(Box::new(cut), done).advance(Stage::Planned, options, &mut trace)?;
    let Artifact::Planned(program) = &planned else {
        return Err(Error::Bug("planning gives a planned program".into()));
    };
    let program = (**program).clone();
    let package = finish(planned, options, &mut trace)?;
    let built = Built { program, plan: trace.plan, notes: Vec::new(), package };
    let executable = Executable::new(&built)?;
    let mut call = executable.prepare(operands)?;
    executable.run(&mut call)?;
    executable.outputs(&mut call)
}
