//! Equal forms of composites in smaller operators, for machines without a kernel of their own.

use super::{
    BatchNorm, Binary, BinaryFn, GroupNorm, InstanceNorm, LogSoftmax, LpNorm, Op, Reduce, ReduceFn, Reshape, RmsNorm,
    Softmax, TypeError, Unary, UnaryFn,
};
use crate::extent::Extent;
use crate::graph::{ConstEntry, Graph, ValueId};
use crate::loc::Loc;
use crate::tensor::Tensor;
use crate::types::DType;

/// Spellings of the operators that [`decompose`] knows.
pub const DECOMPOSED: &[&str] = &["batch_norm", "instance_norm", "group_norm", "rms_norm", "lp_norm", "log_softmax"];

/// Adds the equal form of a composite to the graph and gives its results; `None` when it has no such form here.
///
/// The forms are equal within [`NORM_TRANSCENDENTAL`](crate::exact::NORM_TRANSCENDENTAL): every step rounds.
pub fn decompose(
    graph: &mut Graph,
    op: &Op,
    inputs: &[Option<ValueId>],
    loc: &Loc,
) -> Option<Result<Vec<ValueId>, TypeError>> {
    let operand = |index: usize| inputs.get(index).copied().flatten();
    let x = operand(0)?;
    let mut b = Builder { graph, loc: loc.clone() };
    let value = match op {
        Op::BatchNorm(op) => b.batch_norm(op, [x, operand(1)?, operand(2)?, operand(3)?, operand(4)?]),
        Op::InstanceNorm(op) => b.instance_norm(op, x, operand(1)?, operand(2)?),
        Op::GroupNorm(op) => b.group_norm(op, x, operand(1)?, operand(2)?),
        Op::RmsNorm(op) => b.rms_norm(op, x, operand(1)?),
        Op::LpNorm(op) => b.lp_norm(op, x),
        Op::LogSoftmax(op) => b.log_softmax(op, x),
        _ => return None,
    };
    Some(value.map(|value| vec![value]))
}

struct Builder<'a> {
    graph: &'a mut Graph,
    loc: Loc,
}

type Made = Result<ValueId, TypeError>;

impl Builder<'_> {
    fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Made {
        self.graph.add1(op, inputs, self.loc.clone())
    }

    fn binary(&mut self, function: BinaryFn, a: ValueId, b: ValueId) -> Made {
        self.add(Binary { function }, &[a, b])
    }

    fn unary(&mut self, function: UnaryFn, x: ValueId) -> Made {
        self.add(Unary { function }, &[x])
    }

    fn reduce(&mut self, function: ReduceFn, x: ValueId, axes: Vec<usize>) -> Made {
        self.add(Reduce { function, axes, keep_dims: true }, &[x])
    }

    fn scalar(&mut self, value: f64, dtype: DType) -> ValueId {
        let id = self.graph.consts.push(ConstEntry::new("", Tensor::from_f64(dtype, &[], &[value])));
        self.graph.add_const(id, self.loc.clone())
    }

    /// A vector along axis 1 of `x`, shaped so that it broadcasts with `x`.
    fn per_channel(&mut self, vector: ValueId, x: ValueId) -> Made {
        let rank = self.graph.ty(x).rank();
        let mut shape = vec![Extent::ONE; rank.max(2) - 1];
        shape[0] = self.graph.ty(vector).shape.first().cloned().unwrap_or(Extent::ONE);
        self.add(Reshape { shape }, &[vector])
    }

    /// `sqrt(x + epsilon)`.
    fn root(&mut self, x: ValueId, epsilon: f64) -> Made {
        let epsilon = self.scalar(epsilon, self.graph.ty(x).dtype);
        let sum = self.binary(BinaryFn::Add, x, epsilon)?;
        self.unary(UnaryFn::Sqrt, sum)
    }

    fn batch_norm(&mut self, op: &BatchNorm, [x, scale, bias, mean, var]: [ValueId; 5]) -> Made {
        let root = self.root(var, op.epsilon.get())?;
        let [root, scale, bias, mean] = [
            self.per_channel(root, x)?,
            self.per_channel(scale, x)?,
            self.per_channel(bias, x)?,
            self.per_channel(mean, x)?,
        ];
        let centred = self.binary(BinaryFn::Sub, x, mean)?;
        let factor = self.binary(BinaryFn::Div, scale, root)?;
        let scaled = self.binary(BinaryFn::Mul, centred, factor)?;
        self.binary(BinaryFn::Add, scaled, bias)
    }

    /// `(x - mean) / sqrt(var + epsilon)` over axes.
    fn normalise(&mut self, x: ValueId, axes: Vec<usize>, epsilon: f64) -> Made {
        let mean = self.reduce(ReduceFn::Mean, x, axes.clone())?;
        let centred = self.binary(BinaryFn::Sub, x, mean)?;
        let square = self.binary(BinaryFn::Mul, centred, centred)?;
        let variance = self.reduce(ReduceFn::Mean, square, axes)?;
        let root = self.root(variance, epsilon)?;
        self.binary(BinaryFn::Div, centred, root)
    }

    fn affine(&mut self, x: ValueId, scale: ValueId, bias: ValueId) -> Made {
        let [scale, bias] = [self.per_channel(scale, x)?, self.per_channel(bias, x)?];
        let scaled = self.binary(BinaryFn::Mul, x, scale)?;
        self.binary(BinaryFn::Add, scaled, bias)
    }

    fn instance_norm(&mut self, op: &InstanceNorm, x: ValueId, scale: ValueId, bias: ValueId) -> Made {
        let axes = (2..self.graph.ty(x).rank()).collect();
        let normal = self.normalise(x, axes, op.epsilon.get())?;
        self.affine(normal, scale, bias)
    }

    fn group_norm(&mut self, op: &GroupNorm, x: ValueId, scale: ValueId, bias: ValueId) -> Made {
        let shape = self.graph.ty(x).shape.clone();
        let groups: Extent = op.groups.into();
        let mut split = vec![shape[0].clone(), groups.clone(), shape[1].floordiv(&groups)];
        split.extend_from_slice(&shape[2..]);
        let axes = (2..split.len()).collect();
        let grouped = self.add(Reshape { shape: split }, &[x])?;
        let normal = self.normalise(grouped, axes, op.epsilon.get())?;
        let back = self.add(Reshape { shape }, &[normal])?;
        self.affine(back, scale, bias)
    }

    fn rms_norm(&mut self, op: &RmsNorm, x: ValueId, scale: ValueId) -> Made {
        let axes = (op.axis..self.graph.ty(x).rank()).collect();
        let square = self.binary(BinaryFn::Mul, x, x)?;
        let mean = self.reduce(ReduceFn::Mean, square, axes)?;
        let root = self.root(mean, op.epsilon.get())?;
        let normal = self.binary(BinaryFn::Div, x, root)?;
        self.binary(BinaryFn::Mul, normal, scale)
    }

    /// Zero where the norm is zero: the smallest normal number keeps the quotient at 0 there.
    fn lp_norm(&mut self, op: &LpNorm, x: ValueId) -> Made {
        let function = if op.p == 1 { ReduceFn::L1 } else { ReduceFn::L2 };
        let norm = self.reduce(function, x, vec![op.axis])?;
        let tiny = self.scalar(f64::from(f32::MIN_POSITIVE), self.graph.ty(x).dtype);
        let norm = self.binary(BinaryFn::Max, norm, tiny)?;
        self.binary(BinaryFn::Div, x, norm)
    }

    /// `x - max - ln Σ exp(x - max)`.
    fn log_softmax(&mut self, op: &LogSoftmax, x: ValueId) -> Made {
        let Softmax { axis, flatten } = Softmax { axis: op.axis, flatten: op.flatten };
        let axes: Vec<usize> = if flatten { (axis..self.graph.ty(x).rank()).collect() } else { vec![axis] };
        let max = self.reduce(ReduceFn::Max, x, axes.clone())?;
        let shifted = self.binary(BinaryFn::Sub, x, max)?;
        let exp = self.unary(UnaryFn::Exp, shifted)?;
        let sum = self.reduce(ReduceFn::Sum, exp, axes)?;
        let log = self.unary(UnaryFn::Log, sum)?;
        self.binary(BinaryFn::Sub, shifted, log)
    }
}
