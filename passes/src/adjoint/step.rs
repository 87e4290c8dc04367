//! One node on the way back, and how nodes are added for it.

use adze_ir::extent::Extent;
use adze_ir::graph::{ConstEntry, Graph, Node, ValueId};
use adze_ir::ops::{Binary, BinaryFn, Expand, Op, Reduce, ReduceFn, Reshape, Unary, UnaryFn, Where};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::AdjointError;

/// A value that was added.
pub(super) type Made = Result<ValueId, AdjointError>;

/// A node whose results have gradients and whose operands want some.
pub(super) struct Step<'a> {
    /// The graph, which grows.
    pub graph: &'a mut Graph,
    /// The node.
    pub node: &'a Node,
    /// Gradients of its results.
    pub of: &'a [Option<ValueId>],
    /// The gradient of its first result that has one.
    pub g: ValueId,
    /// Which operands want one.
    pub wanted: &'a [bool],
}

impl Step<'_> {
    /// An operand that the type rule has found present.
    pub fn x(&self, index: usize) -> Made {
        let operand = self.node.inputs.get(index).copied().flatten();
        operand.ok_or_else(|| self.unsupported(format!("no operand {index}"), "one"))
    }

    /// The first result.
    pub fn y(&self) -> ValueId {
        self.node.outputs[0]
    }

    /// What is said when there is no derivative.
    pub fn unsupported(&self, found: String, accepted: &'static str) -> AdjointError {
        AdjointError::Unsupported { loc: self.node.loc.clone(), op: self.node.op.name(), found, accepted }
    }

    /// The gradient of an operand if it wants one.
    pub fn when(
        &mut self,
        index: usize,
        make: impl FnOnce(&mut Self) -> Made,
    ) -> Result<Option<ValueId>, AdjointError> {
        if self.wanted.get(index) == Some(&true) { make(self).map(Some) } else { Ok(None) }
    }

    /// Adds a node of one result.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Made {
        let loc = self.node.loc.clone();
        self.graph.add1(op, inputs, loc.clone()).map_err(|error| AdjointError::Type { loc, error })
    }

    /// Applies a function to pairs.
    pub fn binary(&mut self, function: BinaryFn, a: ValueId, b: ValueId) -> Made {
        self.add(Binary { function }, &[a, b])
    }

    /// `a · b`.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Made {
        self.binary(BinaryFn::Mul, a, b)
    }

    /// Applies a function.
    pub fn unary(&mut self, function: UnaryFn, x: ValueId) -> Made {
        self.add(Unary { function }, &[x])
    }

    /// `x · factor`.
    pub fn scaled(&mut self, x: ValueId, factor: f64) -> Made {
        let factor = self.scalar(x, factor);
        self.mul(x, factor)
    }

    /// `x + term`.
    pub fn plus(&mut self, x: ValueId, term: f64) -> Made {
        let term = self.scalar(x, term);
        self.binary(BinaryFn::Add, x, term)
    }

    /// A scalar of the dtype of a value.
    pub fn scalar(&mut self, like: ValueId, number: f64) -> ValueId {
        let dtype: DType = self.graph.ty(like).dtype;
        let id = self.graph.consts.push(ConstEntry::new("", Tensor::from_f64(dtype, &[], &[number])));
        self.graph.add_const(id, self.node.loc.clone())
    }

    /// `x` where a comparison with a number holds, 0 elsewhere.
    pub fn masked(&mut self, x: ValueId, compared: ValueId, function: BinaryFn, number: f64) -> Made {
        let number = self.scalar(compared, number);
        let holds = self.binary(function, compared, number)?;
        let zero = self.scalar(x, 0.0);
        self.add(Where {}, &[holds, x, zero])
    }

    /// The shape of a value.
    pub fn shape(&self, value: ValueId) -> Vec<Extent> {
        self.graph.ty(value).shape.to_vec()
    }

    /// The same elements under another shape.
    pub fn reshaped(&mut self, x: ValueId, shape: Vec<Extent>) -> Made {
        if self.shape(x) == shape { Ok(x) } else { self.add(Reshape { shape }, &[x]) }
    }

    /// Broadcast to a shape.
    pub fn expanded(&mut self, x: ValueId, shape: Vec<Extent>) -> Made {
        if self.shape(x) == shape { Ok(x) } else { self.add(Expand { shape }, &[x]) }
    }

    /// Zeros in the shape of a value.
    pub fn zeros(&mut self, like: ValueId) -> Made {
        let zero = self.scalar(like, 0.0);
        let shape = self.shape(like);
        self.expanded(zero, shape)
    }

    /// Sums over axes, which stay with extent 1.
    pub fn summed(&mut self, x: ValueId, axes: Vec<usize>) -> Made {
        self.add(Reduce { function: ReduceFn::Sum, axes, keep_dims: true }, &[x])
    }

    /// The gradient of a value that was broadcast: summed over the axes that it lacks.
    pub fn summed_to(&mut self, g: ValueId, like: ValueId) -> Made {
        let (from, to) = (self.shape(g), self.shape(like));
        let lead = from.len().saturating_sub(to.len());
        let mut axes: Vec<usize> = (0..lead).collect();
        for (axis, extent) in to.iter().enumerate() {
            if *extent == from[lead + axis] {
                continue;
            }
            if *extent != Extent::ONE {
                let found = format!("an operand of {} in a result of {}", self.graph.ty(like), self.graph.ty(g));
                return Err(self.unsupported(found, "axes of the same extent, or of extent 1"));
            }
            axes.push(lead + axis);
        }
        let sum = if axes.is_empty() { g } else { self.summed(g, axes)? };
        self.reshaped(sum, to)
    }
}
