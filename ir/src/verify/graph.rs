//! Verifier of graphs. The invariants:
//!
//! 1. every operand is defined by a graph input or a node earlier in the order;
//! 2. every node's results have the dtype and shape of its operator's type rule;
//! 3. every layout fits the rank of its type;
//! 4. every extent mentions declared dimensions only, and stays within `0..=LIMIT` over their ranges;
//! 5. declared ranges are not empty and not negative;
//! 6. outputs are defined; names of inputs and of outputs do not repeat;
//! 7. a state links an input and an output of one dtype and rank, equal in shape except along the axis that grows;
//! 8. what is computed may state a schedule, constants do not.

use std::collections::BTreeSet;

use cranelift_entity::EntitySet;

use crate::extent::{Extent, LIMIT};
use crate::graph::{Graph, Node, NodeId, State, ValueId};
use crate::loc::Loc;
use crate::ops::{Op, TypeError};

/// One violated invariant.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphViolation {
    /// Invariant 1.
    #[error("{node} `{op}` {loc}: operand {input} is not defined before it")]
    Undefined {
        /// The node.
        node: NodeId,
        /// Its operator.
        op: String,
        /// Its source nodes.
        loc: Loc,
        /// Position of the operand.
        input: usize,
    },
    /// Invariant 2: the rule refuses.
    #[error("{node} `{op}` {loc}: {error}")]
    Type {
        /// The node.
        node: NodeId,
        /// Its operator.
        op: String,
        /// Its source nodes.
        loc: Loc,
        /// Why.
        error: TypeError,
    },
    /// Invariant 2: the rule gives something else.
    #[error("{node} `{op}` {loc}: result {result} is {found}, the type rule gives {expected}")]
    ResultType {
        /// The node.
        node: NodeId,
        /// Its operator.
        op: String,
        /// Its source nodes.
        loc: Loc,
        /// Position of the result.
        result: usize,
        /// Type of the value.
        found: String,
        /// Type of the rule.
        expected: String,
    },
    /// Invariant 3.
    #[error("{value}: the layout of {ty} does not fit its rank")]
    Layout {
        /// The value.
        value: ValueId,
        /// Its type.
        ty: String,
    },
    /// Invariant 4.
    #[error("{value}: extent `{extent}` of {ty} mentions an undeclared dimension or leaves 0..={LIMIT}")]
    Extent {
        /// The value.
        value: ValueId,
        /// Its type.
        ty: String,
        /// The extent.
        extent: Extent,
    },
    /// Invariant 5.
    #[error("dimension `{name}`: range {lo}..{hi} is empty or negative")]
    Range {
        /// The dimension.
        name: String,
        /// Smallest value.
        lo: i64,
        /// Largest value.
        hi: i64,
    },
    /// Invariant 6.
    #[error("output `{name}` is not defined")]
    Output {
        /// The output.
        name: String,
    },
    /// Invariant 6.
    #[error("{kind} name `{name}` is used twice")]
    Name {
        /// `input` or `output`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Invariant 7.
    #[error("state {input} -> {output}: {reason}")]
    State {
        /// Position of the input.
        input: usize,
        /// Position of the output.
        output: usize,
        /// What does not fit.
        reason: String,
    },
    /// Invariant 8.
    #[error("{value}: a constant with schedule {schedule}")]
    Schedule {
        /// The constant.
        value: ValueId,
        /// What it states.
        schedule: String,
    },
}

/// All violations of a graph, in order of the nodes.
///
/// # Errors
/// The violations, when there are any.
pub fn verify_graph(graph: &Graph) -> Result<(), Vec<GraphViolation>> {
    let mut found = Vec::new();
    for (name, range) in &graph.dims {
        if range.lo < 0 || range.hi < range.lo || range.hi > LIMIT {
            found.push(GraphViolation::Range { name: name.to_string(), lo: range.lo, hi: range.hi });
        }
    }
    let mut defined: EntitySet<ValueId> = EntitySet::new();
    for &input in graph.inputs() {
        check_value(graph, input, &mut found);
        defined.insert(input);
    }
    for (id, node) in graph.nodes() {
        check_node(graph, id, node, &mut defined, &mut found);
    }
    for output in graph.outputs() {
        if !graph.has_value(output.value) || !defined.contains(output.value) {
            found.push(GraphViolation::Output { name: output.name.to_string() });
        }
    }
    check_names("input", graph.inputs().iter().filter_map(|&v| graph.value(v).name.as_deref()), &mut found);
    check_names("output", graph.outputs().iter().map(|o| &*o.name), &mut found);
    for state in &graph.states {
        if let Some(reason) = state_violation(graph, state) {
            found.push(GraphViolation::State { input: state.input, output: state.output, reason });
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn check_node(
    graph: &Graph,
    id: NodeId,
    node: &Node,
    defined: &mut EntitySet<ValueId>,
    found: &mut Vec<GraphViolation>,
) {
    let before = found.len();
    for (input, value) in node.inputs.iter().enumerate() {
        if value.is_some_and(|v| !graph.has_value(v) || !defined.contains(v)) {
            let (op, loc) = (node.op.to_string(), node.loc.clone());
            found.push(GraphViolation::Undefined { node: id, op, loc, input });
        }
    }
    if found.len() == before {
        check_types(graph, id, node, found);
    }
    if let (Op::Constant(_), Some(schedule), &[value]) = (&node.op, &node.schedule, node.outputs.as_slice()) {
        found.push(GraphViolation::Schedule { value, schedule: schedule.to_string() });
    }
    for &output in &node.outputs {
        check_value(graph, output, found);
        defined.insert(output);
    }
}

fn check_types(graph: &Graph, id: NodeId, node: &Node, found: &mut Vec<GraphViolation>) {
    let (op, loc) = (node.op.to_string(), node.loc.clone());
    let expected = match graph.infer(&node.op, &node.inputs) {
        Ok(types) if types.len() == node.outputs.len() => types,
        Ok(types) => {
            let error = TypeError::Arity {
                found: format!("{} results", node.outputs.len()),
                accepted: format!("{} results", types.len()),
            };
            return found.push(GraphViolation::Type { node: id, op, loc, error });
        }
        Err(error) => return found.push(GraphViolation::Type { node: id, op, loc, error }),
    };
    for (result, (&value, expected)) in node.outputs.iter().zip(expected).enumerate() {
        let ty = graph.ty(value);
        if (ty.dtype, &ty.shape) != (expected.dtype, &expected.shape) {
            found.push(GraphViolation::ResultType {
                node: id,
                op: op.clone(),
                loc: loc.clone(),
                result,
                found: ty.to_string(),
                expected: expected.to_string(),
            });
        }
    }
}

fn check_value(graph: &Graph, value: ValueId, found: &mut Vec<GraphViolation>) {
    let ty = graph.ty(value);
    if !ty.layout.fits(ty.rank()) {
        found.push(GraphViolation::Layout { value, ty: ty.to_string() });
    }
    for extent in &ty.shape {
        let mut symbols = BTreeSet::new();
        extent.symbols(&mut symbols);
        let declared = symbols.iter().all(|s| graph.dims.contains_key(s));
        let range = extent.range(&graph.dims);
        if !declared || range.hi < 0 || range.hi > LIMIT {
            found.push(GraphViolation::Extent { value, ty: ty.to_string(), extent: extent.clone() });
        }
    }
}

fn check_names<'a>(kind: &'static str, names: impl Iterator<Item = &'a str>, found: &mut Vec<GraphViolation>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            found.push(GraphViolation::Name { kind, name: name.to_owned() });
        }
    }
}

fn state_violation(graph: &Graph, state: &State) -> Option<String> {
    let Some(&input) = graph.inputs().get(state.input) else { return Some("no such input".into()) };
    let Some(output) = graph.outputs().get(state.output) else { return Some("no such output".into()) };
    let (before, after) = (graph.ty(input), graph.ty(output.value));
    if before.dtype != after.dtype || before.rank() != after.rank() {
        return Some(format!("{before} becomes {after}"));
    }
    let grows = state.append.map(|append| append.axis);
    if grows.is_some_and(|axis| axis >= before.rank()) {
        return Some(format!("{before} has no axis {}", grows.unwrap_or_default()));
    }
    let fixed = (0..before.rank()).filter(|&axis| grows != Some(axis));
    fixed
        .filter(|&axis| before.shape[axis] != after.shape[axis])
        .map(|axis| format!("axis {axis} changes from {} to {}", before.shape[axis], after.shape[axis]))
        .next()
}
