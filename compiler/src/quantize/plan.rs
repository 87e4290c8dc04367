//! What of a network becomes integers: products with constant weights, their operands, and what lies between two of them.
//!
//! A *product* is a convolution or matrix product with constant weights, or one of the two products of a recurrent cell. But for a cell's,
//! whose values stay floats, its data operand is rounded to integers at a
//! *point*: the value itself or, where that only moves elements of another one, the other one. Results of convolutions and
//! pools become points too when a product reads them in the end. What is elementwise between two points is one kernel
//! that computes in floats; everything else stays in floats, [`streams`] even where a product reads the same value rounded.
//! So do the outputs of the network: the sums of the last product are exact, and its result is worth more than a byte.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::attrs::F64;
use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::{BinaryFn, Op, PadMode, ReduceFn, ResizeMode, UnaryFn};
use adze_ir::types::DType;

use super::node_name;
use super::trial::At;

/// What a product is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A convolution or matrix product, whose values may be rounded too.
    Sum,
    /// A table whose rows are looked up.
    Table,
    /// A recurrent cell's sum over its input (operand 1) or state (operand 2), whose values stay floats.
    Cell,
}

/// A node and the constant operand of it that becomes integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The node.
    pub node: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Which of its operands the weights are: 1, 0 for a table, 2 for those over a cell's state.
    pub at: usize,
    /// Its weights, a constant.
    pub weights: ValueId,
    /// Axis of the output channels in the weights.
    pub axis: usize,
    /// A constant added per output channel, and the node that adds it.
    pub bias: Option<(NodeId, usize)>,
}

impl Product {
    /// Where its weights are.
    pub fn place(&self) -> At {
        (self.node, self.at)
    }

    /// The value that weights are multiplied with; none for a table. States are what a cell gives as its first result; those that a GRU's
    /// candidate meets are like them, times its gates.
    pub fn data(&self, graph: &Graph) -> Option<ValueId> {
        let node = graph.node(self.node);
        match self.kind {
            Kind::Table => None,
            Kind::Cell if self.at == 2 => node.outputs.first().copied(),
            _ => node.inputs.first().copied().flatten(),
        }
    }

    /// The point at which the value that weights are multiplied with is rounded, if it is.
    pub fn point<T>(&self, graph: &Graph, points: &BTreeMap<ValueId, T>) -> Option<ValueId> {
        point_of(graph, points, self.data(graph).filter(|_| self.kind == Kind::Sum)?)
    }

    /// Its name: that of the first ONNX node, and which of a cell's weights it is of.
    pub fn name(&self, graph: &Graph) -> String {
        let name = node_name(graph.node(self.node));
        match (self.kind, self.at) {
            (Kind::Cell, 1) => format!("{name}.W"),
            (Kind::Cell, _) => format!("{name}.R"),
            _ => name,
        }
    }

    /// Weights that are summed over for one number.
    pub fn len(&self, graph: &Graph) -> usize {
        let shape = graph.ty(self.weights).fixed_shape().unwrap_or_default();
        match self.kind {
            Kind::Cell => shape.last().copied().unwrap_or(0),
            _ => shape.iter().product::<usize>() / shape.get(self.axis).copied().unwrap_or(1).max(1),
        }
    }
}

/// Numbers of a table, and of its rows, that are worth a scale per row: angles of a few numbers lose more than they save.
const LEAST_TABLE: [usize; 2] = [1024, 16];

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

/// Plans which values and weights become integers; nodes that `keep` names stay in floats.
pub fn plan(graph: &Graph, keep: &dyn Fn(&Node) -> bool) -> Plan {
    let users = users_of(graph);
    let mut plan = Plan::default();
    for (id, node) in graph.nodes() {
        match products_of(graph, id, node, &users) {
            Ok(products) if !products.is_empty() && keep(node) => plan.left.push((id, "asked for".into())),
            Ok(products) => plan.products.extend(products),
            Err(reason) => plan.left.push((id, reason)),
        }
    }
    plan.points = Points::new(graph, &plan.products, users).list();
    plan
}

/// Finds the values to be rounded.
struct Points<'a> {
    graph: &'a Graph,
    users: BTreeMap<ValueId, Vec<NodeId>>,
    products: BTreeSet<NodeId>,
    /// Values that a product reads, in the end through operators that take part.
    wanted: BTreeSet<ValueId>,
    /// Values that a product or a gathering operator reads itself, possibly moved.
    read: BTreeSet<ValueId>,
}

impl<'a> Points<'a> {
    fn new(graph: &'a Graph, products: &[Product], users: BTreeMap<ValueId, Vec<NodeId>>) -> Self {
        let products = products.iter().filter(|p| p.kind == Kind::Sum).map(|p| p.node).collect();
        let mut points = Self { graph, users, products, wanted: BTreeSet::new(), read: BTreeSet::new() };
        // Users come after producers, so that walking backwards knows of each value whether its users want integers.
        for (id, node) in graph.nodes().collect::<Vec<_>>().into_iter().rev() {
            points.visit(id, node);
        }
        points
    }

    fn visit(&mut self, id: NodeId, node: &Node) {
        let any = |set: &BTreeSet<ValueId>| node.outputs.iter().any(|v| set.contains(v));
        let data = |v: &&ValueId| is_data(self.graph, **v);
        let operands: Vec<ValueId> = node.inputs.iter().flatten().filter(data).copied().collect();
        if self.products.contains(&id) {
            let operand = node.inputs.first().copied().flatten();
            self.wanted.extend(operand);
            self.read.extend(operand);
        } else if moves(self.graph, node) {
            let (wanted, read) = (any(&self.wanted), any(&self.read));
            let operand = node.inputs.first().copied().flatten();
            self.wanted.extend(operand.filter(|_| wanted));
            self.read.extend(operand.filter(|_| read));
        } else if gathers(node) && any(if is_mean(node) { &self.read } else { &self.wanted }) {
            self.wanted.extend(&operands);
            self.read.extend(&operands);
        } else if is_elementwise(self.graph, node) && any(&self.wanted) {
            self.wanted.extend(&operands);
        }
    }

    fn list(&self) -> Vec<ValueId> {
        let inputs = self.graph.inputs().iter().copied();
        let results = self.graph.nodes().flat_map(|(_, node)| node.outputs.iter().copied());
        inputs.chain(results).filter(|v| self.wanted.contains(v) && self.is_point(*v)).collect()
    }

    /// Whether a wanted value is rounded itself. What is elementwise between two roundings is one kernel and stays in floats.
    fn is_point(&self, value: ValueId) -> bool {
        let Some((id, node)) = self.graph.producer(value) else { return self.read.contains(&value) };
        if moves(self.graph, node) {
            return false;
        }
        self.read.contains(&value)
            || (gathers(node) && !is_mean(node))
            || (self.ends_conv(id, node) && !self.is_bounded(value))
    }

    /// Whether a node is a convolution of integers, up to its bound.
    fn ends_conv(&self, id: NodeId, node: &Node) -> bool {
        if !is_bound(&node.op) {
            return self.products.contains(&id) && matches!(node.op, Op::Conv(_));
        }
        let Some(operand) = node.inputs.first().copied().flatten() else { return false };
        self.is_bounded(operand) && self.graph.producer(operand).is_some_and(|(id, node)| self.ends_conv(id, node))
    }

    /// Whether the only user of a value is a bound, which joins that of the stored type.
    fn is_bounded(&self, value: ValueId) -> bool {
        let only =
            matches!(self.users.get(&value).map(Vec::as_slice), Some([only]) if is_bound(&self.graph.node(*only).op));
        only && !self.graph.outputs().iter().any(|o| o.value == value)
    }
}

/// The name of a value; all have one here.
pub fn name_of(graph: &Graph, value: ValueId) -> String {
    graph.value(value).name.as_deref().unwrap_or_default().to_owned()
}

/// The nodes that use each value.
pub fn users_of(graph: &Graph) -> BTreeMap<ValueId, Vec<NodeId>> {
    let mut users: BTreeMap<ValueId, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        node.inputs.iter().flatten().for_each(|&v| users.entry(v).or_default().push(id));
    }
    users
}

fn is_data(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).dtype == DType::F32 && graph.constant(value).is_none()
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

fn is_bound(op: &Op) -> bool {
    matches!(op, Op::Clip(_)) || is_unary(op, &[UnaryFn::Relu])
}

/// Operators that make numbers of many others and keep them in the range they were in.
fn gathers(node: &Node) -> bool {
    match &node.op {
        Op::AveragePool(_) | Op::Concat(_) => true,
        Op::Resize(op) => op.mode == ResizeMode::Linear,
        _ => is_mean(node),
    }
}

/// A mean is of integers where a product reads it (a pool), and a step of a normalisation elsewhere.
fn is_mean(node: &Node) -> bool {
    matches!(&node.op, Op::Reduce(op) if op.function == ReduceFn::Mean)
}

/// Operators of one element each that one kernel computes with the others around it.
fn is_elementwise(graph: &Graph, node: &Node) -> bool {
    let arithmetic = |f| matches!(f, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul);
    let known = matches!(&node.op, Op::Binary(op) if arithmetic(op.function)) || is_activation(&node.op);
    known && node.outputs.iter().all(|&v| graph.ty(v).dtype == DType::F32)
}

/// The products of a node; an error when they stay in floats.
fn products_of(
    graph: &Graph,
    id: NodeId,
    node: &Node,
    users: &BTreeMap<ValueId, Vec<NodeId>>,
) -> Result<Vec<Product>, String> {
    if node.op.cell_weights().is_some() {
        return cell(graph, id, node);
    }
    Ok(product(graph, id, node, users).transpose()?.into_iter().collect())
}

/// The products of a recurrent cell.
fn cell(graph: &Graph, id: NodeId, node: &Node) -> Result<Vec<Product>, String> {
    let mut products = Vec::new();
    for at in [1, 2] {
        let weights = node.inputs.get(at).copied().flatten();
        let weights = weights
            .filter(|&w| graph.ty(w).dtype == DType::F32 && graph.constant(w).is_some_and(|c| c.data().is_some()));
        let weights = weights.ok_or("its weights are no constants of floats")?;
        products.push(Product { node: id, kind: Kind::Cell, at, weights, axis: 1, bias: None });
    }
    Ok(products)
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
        Op::Gather(op) => return table(graph, id, node, op.axis).map(Ok),
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
    Some(Ok(Product { node: id, kind: Kind::Sum, at: 1, weights, axis, bias }))
}

/// A constant matrix whose rows are looked up, large enough to be worth it.
fn table(graph: &Graph, id: NodeId, node: &Node, axis: usize) -> Option<Product> {
    let weights = (*node.inputs.first()?)?;
    let (data, ty) = (graph.constant(weights)?.data()?, graph.ty(weights));
    let large = ty.rank() == 2 && data.elems() >= LEAST_TABLE[0] && data.shape()[1] >= LEAST_TABLE[1];
    let looked_up = node.inputs.get(1).copied().flatten().is_some_and(|i| graph.constant(i).is_none());
    let fits = axis == 0 && large && looked_up && ty.dtype == DType::F32;
    fits.then_some(Product { node: id, kind: Kind::Table, at: 0, weights, axis: 0, bias: None })
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

/// The value whose elements a value moves; none where it is made of something else.
fn moved_from(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let (_, node) = graph.producer(value).filter(|(_, node)| moves(graph, node))?;
    node.inputs.first().copied().flatten()
}

/// The value itself, those whose elements it moves, and the one that they are made as.
fn chain(graph: &Graph, value: ValueId) -> impl Iterator<Item = ValueId> {
    std::iter::successors(Some(value), |&value| moved_from(graph, value))
}

/// The point whose elements a value moves, which may be itself.
pub fn point_of<T>(graph: &Graph, points: &BTreeMap<ValueId, T>, value: ValueId) -> Option<ValueId> {
    chain(graph, value).find(|value| points.contains_key(value))
}

/// Sums of two values that are normalised and not rounded: the stream that layers of a transformer add to. They are floats before
/// and after, and reading rounded terms would only carry the error of one layer on to the next.
pub fn streams<T>(graph: &Graph, points: &BTreeMap<ValueId, T>) -> BTreeSet<NodeId> {
    let users = users_of(graph);
    let normalised = |v: &ValueId| {
        let mut ops = users.get(v).into_iter().flatten().map(|&id| &graph.node(id).op);
        ops.any(|op| matches!(op, Op::LayerNorm(_) | Op::RmsNorm(_))) && !points.contains_key(v)
    };
    let is_stream = |(id, node): (NodeId, &Node)| {
        let adds = matches!(&node.op, Op::Binary(op) if op.function == BinaryFn::Add);
        let of_two = node.inputs.iter().flatten().all(|&v| is_data(graph, v));
        (adds && of_two && node.outputs.iter().all(normalised)).then_some(id)
    };
    graph.nodes().filter_map(is_stream).collect()
}

/// Operands of products that are made of a part of a point's elements, by that point; none where a product reads all of it.
pub fn parts(graph: &Graph, plan: &Plan) -> BTreeMap<ValueId, Vec<ValueId>> {
    let drops = |v: ValueId| {
        let op = graph.producer(v).map(|(_, node)| &node.op);
        matches!(op, Some(Op::Slice(_) | Op::Split(_) | Op::MaxPool(_)))
    };
    let mut parts: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for operand in plan.products.iter().filter(|p| p.kind == Kind::Sum).filter_map(|product| product.data(graph)) {
        let read = parts.entry(chain(graph, operand).last().unwrap_or(operand)).or_default();
        if !read.contains(&operand) {
            read.push(operand);
        }
    }
    let is_part = |point: ValueId, v: ValueId| chain(graph, v).take_while(|&v| v != point).any(drops);
    parts.retain(|&point, read| plan.points.contains(&point) && read.iter().all(|&v| is_part(point, v)));
    parts
}

#[cfg(test)]
mod tests {
    use adze_ir::text::parse_graph;

    use super::*;

    #[test]
    fn streams_are_sums_of_values_that_are_normalised_and_not_rounded() {
        let graph = parse_graph(
            r#"graph @g {
              input %0 "x" : f32[2,3]
              %1 = const "gain" [1.0, 2.0, 3.0] : f32[3]
              %2 = add %0, %0 : f32[2,3] name("stream")
              %3 = layer_norm %2, %1 {axis=1, epsilon=1e-5} : f32[2,3]
              %4 = add %2, %3 : f32[2,3] name("not normalised")
              %5 = add %2, %1 : f32[2,3] name("of a constant")
              %6 = rms_norm %5, %1 {axis=1, epsilon=1e-5} : f32[2,3]
              %7 = mul %2, %4 : f32[2,3] name("no sum")
              %8 = rms_norm %7, %1 {axis=1, epsilon=1e-5} : f32[2,3]
              %9 = add %6, %8 : f32[2,3] name("rounded")
              %10 = rms_norm %9, %1 {axis=1, epsilon=1e-5} : f32[2,3]
              output "y" = %10
            }"#,
        )
        .unwrap();
        let name = |v: ValueId| graph.value(v).name.as_deref().unwrap_or_default();
        let named = |wanted: &str| graph.nodes().map(|(_, node)| node.outputs[0]).find(|&v| name(v) == wanted).unwrap();
        let found = |points: &[&str]| {
            let points: BTreeMap<ValueId, ()> = points.iter().map(|point| (named(point), ())).collect();
            streams(&graph, &points).into_iter().map(|id| name(graph.node(id).outputs[0])).collect::<Vec<_>>()
        };
        assert_eq!(found(&["rounded"]), ["stream"]);
        assert_eq!(found(&["stream"]), ["rounded"]);
    }
}
