//! Rewriting by building anew: linear in the size of the graph, because no use has to be looked for.

use adze_ir::graph::{Graph, Node, NodeId, ValueDef, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::Op;
use cranelift_entity::SecondaryMap;

use crate::pass::PassError;

/// A removed node's names go to its operand's producer up to this many: chains of thousands stay linear.
const MAX_NAMES: usize = 32;

/// A node under rewriting: its operands are values of the new graph.
pub(crate) struct Site<'a> {
    /// Id in the old graph.
    pub id: NodeId,
    /// The node in the old graph.
    pub node: &'a Node,
    /// Operands in the new graph.
    pub inputs: &'a [Option<ValueId>],
}

impl Site<'_> {
    /// The operator.
    pub fn op(&self) -> &Op {
        &self.node.op
    }

    /// The source nodes.
    pub fn loc(&self) -> Loc {
        self.node.loc.clone()
    }

    /// An operand that is there.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }
}

/// What becomes of a node.
pub(crate) enum Rewrite {
    /// It stays as it is.
    Keep,
    /// Values of the new graph take the place of its results.
    Replace(Vec<ValueId>),
}

/// Copies a graph node by node; `rewrite` may put something else in a node's place.
///
/// # Errors
/// [`PassError::Type`] when a copied node does not type-check on its new operands: a bug of the pass.
pub(crate) fn rebuild(
    graph: &Graph,
    pass: &'static str,
    mut rewrite: impl FnMut(&mut Graph, &Site<'_>) -> Result<Rewrite, PassError>,
) -> Result<Graph, PassError> {
    let mut out = Graph::new(graph.name.clone());
    out.dims = graph.dims.clone();
    out.states = graph.states.clone();
    out.consts = graph.consts.clone();
    let mut map: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::new();
    for &input in graph.inputs() {
        let value = graph.value(input);
        map[input] = Some(out.add_input(value.name.clone().unwrap_or_default(), value.ty.clone()));
    }
    for (id, node) in graph.nodes() {
        let inputs: Vec<Option<ValueId>> = node.inputs.iter().map(|v| v.and_then(|v| map[v])).collect();
        let site = Site { id, node, inputs: &inputs };
        let results = match rewrite(&mut out, &site)? {
            Rewrite::Keep => copy(&mut out, graph, &site, pass)?,
            Rewrite::Replace(values) => {
                values.iter().for_each(|&value| credit(&mut out, value, &node.loc));
                values
            }
        };
        for (&old, new) in node.outputs.iter().zip(results) {
            map[old] = Some(new);
            if out.value(new).name.is_none() {
                out.set_name(new, graph.value(old).name.clone());
            }
        }
    }
    for output in graph.outputs() {
        out.add_output(output.name.clone(), map[output.value].expect("operands come before users"));
    }
    Ok(out)
}

/// Copies the node; layouts and quantization that the type rule does not know come along.
fn copy(out: &mut Graph, graph: &Graph, site: &Site<'_>, pass: &'static str) -> Result<Vec<ValueId>, PassError> {
    if let Op::Constant(constant) = site.op() {
        let value = out.add_const(constant.id, site.loc());
        out.set_type(value, graph.ty(site.node.outputs[0]).clone());
        return Ok(vec![value]);
    }
    let values = add(out, site.op().clone(), site.inputs, site.loc(), pass)?;
    for (&old, &new) in site.node.outputs.iter().zip(&values) {
        out.set_type(new, graph.ty(old).clone());
    }
    Ok(values)
}

/// Adds a node; a type error is a bug of the pass.
pub(crate) fn add(
    out: &mut Graph,
    op: impl Into<Op>,
    inputs: &[Option<ValueId>],
    loc: Loc,
    pass: &'static str,
) -> Result<Vec<ValueId>, PassError> {
    out.add(op, inputs, loc.clone()).map_err(|error| PassError::Type { pass, loc, error })
}

/// [`add`] for one result and no operand left out.
pub(crate) fn add1(
    out: &mut Graph,
    op: impl Into<Op>,
    inputs: &[ValueId],
    loc: Loc,
    pass: &'static str,
) -> Result<ValueId, PassError> {
    out.add1(op, inputs, loc.clone()).map_err(|error| PassError::Type { pass, loc, error })
}

/// Records that a value stands for these source nodes too.
pub(crate) fn credit(out: &mut Graph, value: ValueId, loc: &Loc) {
    if let ValueDef::Result(node, _) = out.value(value).def {
        let have = &out.node(node).loc;
        if !matches!(out.node(node).op, Op::Constant(_))
            && have.names().len() < MAX_NAMES
            && loc.names().iter().any(|name| !have.names().contains(name))
        {
            out.add_loc(node, loc);
        }
    }
}
