//! Reverse-mode differentiation: behind its own nodes a graph gets those that compute gradients.
//!
//! Every operator has its vector-Jacobian products in one place, by family: `elementwise`, `rows`, `linear`, `movement`, `pool`. A
//! composite without any is differentiated by its equal form in smaller operators ([`adze_ir::ops::decompose`], `attention`). Rounding to
//! integers and back is differentiated straight through, as if it did nothing, inside the range of the integers; the gradient of
//! integers is meant in the unit of the numbers that they stand for. Gradients have the dtype of their values.

mod attention;
mod elementwise;
mod linear;
mod movement;
mod pool;
mod rows;
mod step;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{Binary, BinaryFn, Op, TypeError, decompose};
use cranelift_entity::SecondaryMap;
use step::Step;

/// Why a graph cannot be differentiated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdjointError {
    /// An operator has no derivative here.
    #[error("{loc}: no gradient of `{op}`: found {found}, accepted: {accepted}")]
    Unsupported {
        /// Source nodes.
        loc: Loc,
        /// The operator.
        op: &'static str,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A bug of ours: a derivative does not type-check.
    #[error("bug: gradient at {loc}: {error}")]
    Type {
        /// Source nodes.
        loc: Loc,
        /// Why.
        error: TypeError,
    },
}

/// Adds what computes the gradients of some values to a graph, given the gradients of others, which are values of it: for a
/// scalar loss a constant 1, for a network the derivative of a loss by its outputs. None for a value that nothing depends on.
///
/// # Errors
/// [`AdjointError::Unsupported`] names the first node on the way back that has no derivative.
pub fn gradients(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    of: &[ValueId],
) -> Result<Vec<Option<ValueId>>, AdjointError> {
    let mut walk = Walk { graph, found: SecondaryMap::new(), varies: SecondaryMap::new() };
    for &value in of {
        walk.varies[value] = true;
    }
    for &(value, gradient) in seeds {
        walk.take(value, gradient, &Loc::default())?;
    }
    let nodes = walk.graph.order().to_vec();
    walk.mark(&nodes);
    walk.back(&nodes)?;
    Ok(of.iter().map(|&value| walk.found[value]).collect())
}

struct Walk<'a> {
    graph: &'a mut Graph,
    /// The gradient of a value, as far as its users are through.
    found: SecondaryMap<ValueId, Option<ValueId>>,
    /// Values that depend on what gradients are asked for.
    varies: SecondaryMap<ValueId, bool>,
}

impl Walk<'_> {
    /// Marks the results of nodes that depend on marked values.
    fn mark(&mut self, nodes: &[NodeId]) {
        for &id in nodes {
            let node = self.graph.node(id);
            if node.inputs.iter().flatten().any(|&v| self.varies[v]) {
                node.outputs.iter().for_each(|&v| self.varies[v] = true);
            }
        }
    }

    /// Adds to the gradient of a value.
    fn take(&mut self, value: ValueId, gradient: ValueId, loc: &Loc) -> Result<(), AdjointError> {
        let sum = match self.found[value] {
            None => gradient,
            Some(other) => self
                .graph
                .add1(Binary { function: BinaryFn::Add }, &[other, gradient], loc.clone())
                .map_err(|error| AdjointError::Type { loc: loc.clone(), error })?,
        };
        self.found[value] = Some(sum);
        Ok(())
    }

    /// Goes through nodes from the last to the first.
    fn back(&mut self, nodes: &[NodeId]) -> Result<(), AdjointError> {
        for &id in nodes.iter().rev() {
            let node = self.graph.node(id).clone();
            let of: Vec<Option<ValueId>> = node.outputs.iter().map(|&v| self.found[v]).collect();
            let wanted: Vec<bool> = node.inputs.iter().map(|v| v.is_some_and(|v| self.varies[v])).collect();
            let Some(g) = of.iter().flatten().next().copied().filter(|_| wanted.contains(&true)) else { continue };
            let mut step = Step { graph: self.graph, node: &node, of: &of, g, wanted: &wanted };
            match products(&mut step)? {
                None => self.through(id, &of, g)?,
                Some(products) => {
                    for ((operand, product), wanted) in node.inputs.iter().zip(products).zip(&wanted) {
                        if let (Some(value), Some(product), true) = (operand, product, wanted) {
                            self.take(*value, product, &node.loc)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Differentiates a composite by its equal form, which is computed once more.
    fn through(&mut self, id: NodeId, of: &[Option<ValueId>], g: ValueId) -> Result<(), AdjointError> {
        let node = self.graph.node(id).clone();
        let before = self.graph.order().len();
        let mut step = Step { graph: self.graph, node: &node, of, g, wanted: &[] };
        let results = match &node.op {
            Op::Attention(op) => vec![attention::equal_form(&mut step, op)?],
            op => match decompose(step.graph, op, &node.inputs, &node.loc) {
                None => return Err(step.unsupported(op.to_string(), "an operator that docs/quantization.md lists")),
                Some(made) => made.map_err(|error| AdjointError::Type { loc: node.loc.clone(), error })?,
            },
        };
        for (result, gradient) in results.into_iter().zip(of) {
            if let Some(gradient) = gradient {
                self.take(result, *gradient, &node.loc)?;
            }
        }
        let nodes = self.graph.order()[before..].to_vec();
        self.mark(&nodes);
        self.back(&nodes)
    }
}

/// A gradient per operand, none where it is zero or not wanted.
type Products = Result<Vec<Option<ValueId>>, AdjointError>;

/// The vector-Jacobian products of a node; none for an operator without any.
fn products(s: &mut Step<'_>) -> Result<Option<Vec<Option<ValueId>>>, AdjointError> {
    let products = match &s.node.op {
        Op::Unary(op) => elementwise::unary(s, op.function),
        Op::Binary(op) => elementwise::binary(s, op.function),
        Op::Where(_) => elementwise::choose(s),
        Op::Cast(_) => elementwise::cast(s),
        Op::Clip(op) => elementwise::clip(s, op),
        Op::LeakyRelu(op) => elementwise::leaky_relu(s, op),
        Op::Gelu(op) => elementwise::gelu(s, op),
        Op::Swish(op) => elementwise::swish(s, op),
        Op::HardSigmoid(op) => elementwise::hard_sigmoid(s, op),
        Op::Quantize(_) => elementwise::quantize(s),
        Op::Dequantize(_) => Ok(vec![Some(s.g)]),
        Op::Softmax(op) => rows::softmax(s, op),
        Op::LogSoftmax(op) => rows::log_softmax(s, op),
        Op::Reduce(op) => rows::reduce(s, op),
        Op::MatMul(op) => linear::matmul(s, op),
        Op::Gemm(op) => linear::gemm(s, op),
        Op::Conv(op) => linear::conv(s, op),
        Op::AveragePool(op) => pool::average(s, op),
        Op::MaxPool(op) => pool::max(s, op),
        Op::Reshape(_) => movement::reshape(s),
        Op::Transpose(op) => movement::transpose(s, op),
        Op::Slice(op) => movement::slice(s, op),
        Op::Concat(op) => movement::concat(s, op),
        Op::Split(op) => movement::split(s, op),
        Op::Pad(op) => movement::pad(s, op),
        Op::Expand(_) => movement::expand(s),
        Op::Gather(op) => movement::gather(s, op),
        Op::RotaryEmbedding(op) => attention::rotary(s, op),
        _ => return Ok(None),
    };
    products.map(Some)
}

#[cfg(test)]
mod tests;
