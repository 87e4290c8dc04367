//! What of a network becomes integers: products with constant weights, their operands, and what lies between two of them.
//!
//! A *product* is a convolution or matrix product with constant weights. Its data operand is rounded to integers at a
//! *point*: the value itself or, where that only moves elements of another one, the other one. Results become points when
//! a product reads them through operators that have a form on integers; everything else stays in floats, and so do the
//! outputs of the network: the sums of the last product are exact, and its result is worth more than a byte.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::attrs::F64;
use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::{BinaryFn, Op, PadMode, ReduceFn, ResizeMode, UnaryFn};
use adze_ir::types::DType;

/// A convolution or matrix product whose weights become integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The node.
    pub node: NodeId,
    /// Its weights, a constant.
    pub weights: ValueId,
    /// Axis of the output channels in the weights.
    pub axis: usize,
    /// A constant added per output channel, and the node that adds it.
    pub bias: Option<(NodeId, usize)>,
}

/// What becomes integers.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The products, in order.
    pub products: Vec<Product>,
    /// Values that are rounded to integers, in order.
    pub points: Vec<ValueId>,
    /// Products that stay in floats, and why.
    pub left: Vec<(NodeId, String)>,
}

/// Plans which values and weights become integers; nodes named in `keep` stay in floats.
pub fn plan(graph: &Graph, keep: &dyn Fn(&Node) -> bool) -> Plan {
    let users = users_of(graph);
    let mut plan = Plan::default();
    for (id, node) in graph.nodes() {
        match product(graph, id, node, &users) {
            Some(Ok(_)) if keep(node) => plan.left.push((id, "asked for".into())),
            Some(Ok(product)) => plan.products.push(product),
            Some(Err(reason)) => plan.left.push((id, reason)),
            None => {}
        }
    }
    let nodes: BTreeSet<NodeId> = plan.products.iter().map(|p| p.node).collect();
    let mut wanted: BTreeSet<ValueId> = BTreeSet::new();
    // Users come after producers, so that walking backwards knows of each value whether its users want integers.
    for (id, node) in graph.nodes().collect::<Vec<_>>().into_iter().rev() {
        let wants = nodes.contains(&id) || (takes_part(graph, node) && node.outputs.iter().any(|v| wanted.contains(v)));
        if moves(graph, node) {
            if node.outputs.iter().any(|v| wanted.contains(v)) {
                wanted.extend(node.inputs.first().copied().flatten());
            }
        } else if wants {
            let data = if nodes.contains(&id) { &node.inputs[..1] } else { &node.inputs[..] };
            wanted.extend(data.iter().flatten().filter(|&&v| is_data(graph, v)));
        }
    }
    let inputs = graph.inputs().iter().copied();
    let results = graph.nodes().flat_map(|(_, node)| node.outputs.iter().copied());
    plan.points = inputs.chain(results).filter(|v| wanted.contains(v) && is_point(graph, *v, &users)).collect();
    plan
}

/// The nodes that use each value.
fn users_of(graph: &Graph) -> BTreeMap<ValueId, Vec<NodeId>> {
    let mut users: BTreeMap<ValueId, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        node.inputs.iter().flatten().for_each(|&v| users.entry(v).or_default().push(id));
    }
    users
}

fn is_data(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).dtype == DType::F32 && graph.constant(value).is_none()
}

/// Whether a wanted value is rounded, instead of the value that it moves or that is computed from it in the same kernel.
fn is_point(graph: &Graph, value: ValueId, users: &BTreeMap<ValueId, Vec<NodeId>>) -> bool {
    if graph.producer(value).is_some_and(|(_, node)| moves(graph, node)) {
        return false;
    }
    let only = match users.get(&value).map(Vec::as_slice) {
        Some([only]) if !graph.outputs().iter().any(|o| o.value == value) => graph.node(*only),
        _ => return true,
    };
    let Some((_, node)) = graph.producer(value) else { return true };
    let sums = matches!(node.op, Op::MatMul(_) | Op::Gemm(_));
    // A product and the bias added to it are one; a bound joins that of the stored type; what follows the sums of a matrix
    // product is computed on them.
    let bias = sums && is_add_of_constant(graph, only);
    let biased = is_add_of_constant(graph, node)
        && node
            .inputs
            .iter()
            .flatten()
            .any(|&v| matches!(graph.producer(v), Some((_, n)) if matches!(n.op, Op::MatMul(_))));
    let bound = matches!(&only.op, Op::Clip(_)) || is_unary(&only.op, &[UnaryFn::Relu]);
    !(bias || bound || ((sums || biased) && is_activation(&only.op)))
}

fn is_add_of_constant(graph: &Graph, node: &Node) -> bool {
    matches!(&node.op, Op::Binary(op) if op.function == BinaryFn::Add)
        && node.inputs.iter().flatten().any(|&v| graph.constant(v).is_some())
}

fn is_unary(op: &Op, functions: &[UnaryFn]) -> bool {
    matches!(op, Op::Unary(unary) if functions.contains(&unary.function))
}

fn is_activation(op: &Op) -> bool {
    let own = matches!(
        op,
        Op::Clip(_) | Op::LeakyRelu(_) | Op::Elu(_) | Op::HardSigmoid(_) | Op::Gelu(_) | Op::Swish(_) | Op::PRelu(_)
    );
    own || is_unary(op, &[UnaryFn::Relu, UnaryFn::Sigmoid, UnaryFn::Tanh, UnaryFn::HardSwish, UnaryFn::Mish])
}

/// Operators whose result has no number that the operand has not, or zero.
pub fn moves(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Split(_) | Op::Expand(_) | Op::Tile(_) => true,
        Op::DepthToSpace(_) | Op::SpaceToDepth(_) | Op::MaxPool(_) => true,
        Op::Resize(op) => op.mode == ResizeMode::Nearest,
        Op::Pad(op) => {
            let fill = node.inputs.get(1).copied().flatten().and_then(|v| graph.constant(v)?.data());
            let zero = fill.map_or(node.inputs.len() < 2, |fill| fill.to_f64() == [0.0]);
            op.mode != PadMode::Constant || zero
        }
        _ => false,
    }
}

/// Operators that read bytes and write bytes when they stand between two that do.
fn takes_part(graph: &Graph, node: &Node) -> bool {
    if !node.outputs.iter().all(|&v| graph.ty(v).dtype == DType::F32) {
        return false;
    }
    match &node.op {
        Op::Binary(op) => matches!(op.function, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul),
        Op::Reduce(op) => matches!(op.function, ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min),
        Op::AveragePool(_) | Op::Concat(_) => true,
        Op::Resize(op) => op.mode == ResizeMode::Linear,
        op => is_activation(op),
    }
}

/// The product that a node is; an error when it is one that stays in floats; nothing when it is none.
fn product(
    graph: &Graph,
    id: NodeId,
    node: &Node,
    users: &BTreeMap<ValueId, Vec<NodeId>>,
) -> Option<Result<Product, String>> {
    let one = F64::new(1.0);
    let (axis, plain) = match &node.op {
        Op::Conv(_) => (0, true),
        Op::MatMul(op) => (usize::from(!op.trans_b), !op.trans_a),
        Op::Gemm(op) => (usize::from(!op.trans_b), !op.trans_a && op.alpha == one && op.beta == one),
        Op::ConvTranspose(_) => return Some(Err("a transposed convolution has no form on integers".into())),
        Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_) => return Some(Err("a recurrent cell has no form on integers".into())),
        _ => return None,
    };
    let weights = (*node.inputs.get(1)?)?;
    let ty = graph.ty(weights);
    if graph.constant(weights).is_none_or(|w| w.data().is_none()) || ty.dtype != DType::F32 {
        return Some(Err("its right operand is no constant of floats".into()));
    }
    if !plain || (!matches!(node.op, Op::Conv(_)) && ty.rank() != 2) {
        return Some(Err("its operands are scaled, transposed or of a rank that has no form on integers".into()));
    }
    let bias = match node.inputs.get(2).copied().flatten() {
        Some(bias) if !is_row(graph, bias, ty.shape[axis].as_const()) => {
            return Some(Err("its bias is no constant per channel".into()));
        }
        Some(_) => Some((id, 2)),
        None => added_bias(graph, node, ty.shape[axis].as_const(), users),
    };
    Some(Ok(Product { node: id, weights, axis, bias }))
}

/// A constant per output channel that the only user of a matrix product adds.
fn added_bias(
    graph: &Graph,
    node: &Node,
    channels: Option<i64>,
    users: &BTreeMap<ValueId, Vec<NodeId>>,
) -> Option<(NodeId, usize)> {
    let (Op::MatMul(_), [user]) = (&node.op, users.get(&node.outputs[0])?.as_slice()) else { return None };
    let add = graph.node(*user);
    if !is_add_of_constant(graph, add) || graph.outputs().iter().any(|o| o.value == node.outputs[0]) {
        return None;
    }
    let at = add.inputs.iter().position(|v| v.is_some_and(|v| graph.constant(v).is_some()))?;
    is_row(graph, add.inputs[at]?, channels).then_some((*user, at))
}

/// A constant of one number per channel, along the last axis.
fn is_row(graph: &Graph, value: ValueId, channels: Option<i64>) -> bool {
    let ty = graph.ty(value);
    let (Some(shape), Some(channels)) = (ty.fixed_shape(), channels) else { return false };
    let elems: usize = shape.iter().product();
    let row = shape.last().is_some_and(|&n| n == elems) && i64::try_from(elems) == Ok(channels);
    row && ty.dtype == DType::F32 && graph.constant(value).is_some_and(|c| c.data().is_some())
}

/// The value whose elements a value moves, which may be itself.
pub fn root(graph: &Graph, mut value: ValueId) -> ValueId {
    while let Some((_, node)) = graph.producer(value) {
        match node.inputs.first().copied().flatten() {
            Some(source) if moves(graph, node) => value = source,
            _ => break,
        }
    }
    value
}
