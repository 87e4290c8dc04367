//! Equal forms of composites in smaller operators, for machines without a kernel of their own.

use super::{
    BatchNorm, Binary, BinaryFn, Conv, ConvTranspose, GroupNorm, InstanceNorm, LayerNorm, LogSoftmax, LpNorm, Op, Pad,
    PadMode, Reduce, ReduceFn, Reshape, RmsNorm, Slice, Softmax, Transpose, TypeError, Unary, UnaryFn,
};
use crate::extent::Extent;
use crate::graph::{ConstEntry, Graph, ValueId};
use crate::loc::Loc;
use crate::tensor::Tensor;
use crate::types::DType;

/// Spellings of the operators that [`decompose`] knows.
pub const DECOMPOSED: &[&str] = &[
    "batch_norm",
    "instance_norm",
    "group_norm",
    "layer_norm",
    "rms_norm",
    "lp_norm",
    "log_softmax",
    "conv_transpose",
    "winograd_conv",
];

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
        Op::LayerNorm(op) => b.layer_norm(op, x, operand(1)?, operand(2)),
        Op::RmsNorm(op) => b.rms_norm(op, x, operand(1)?),
        Op::LpNorm(op) => b.lp_norm(op, x),
        Op::LogSoftmax(op) => b.log_softmax(op, x),
        Op::WinogradConv(op) => {
            let operands: Vec<ValueId> = inputs.iter().copied().flatten().collect();
            b.add(op.conv(), &operands)
        }
        Op::ConvTranspose(op) => b.conv_transpose(op, x, operand(1)?, operand(2)),
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

    fn layer_norm(&mut self, op: &LayerNorm, x: ValueId, scale: ValueId, bias: Option<ValueId>) -> Made {
        let axes = (op.axis..self.graph.ty(x).rank()).collect();
        let normal = self.normalise(x, axes, op.epsilon.get())?;
        let scaled = self.binary(BinaryFn::Mul, normal, scale)?;
        bias.map_or(Ok(scaled), |bias| self.binary(BinaryFn::Add, scaled, bias))
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
    /// A convolution with the mirrored kernel of the input with zeros between its elements.
    fn conv_transpose(&mut self, op: &ConvTranspose, x: ValueId, w: ValueId, bias: Option<ValueId>) -> Made {
        let rank = op.strides.len();
        let kernel: Vec<Extent> = self.graph.ty(w).shape.iter().skip(2).cloned().collect();
        let mut shape = self.graph.ty(x).shape.clone();
        // Every element is followed by `stride - 1` zeros.
        let (mut split, mut zeros) = (shape[..2].to_vec(), vec![Extent::ZERO; 2]);
        for (axis, &stride) in op.strides.iter().enumerate() {
            split.extend([shape[axis + 2].clone(), Extent::ONE]);
            zeros.extend([Extent::ZERO, (stride - 1).into()]);
            shape[axis + 2] = shape[axis + 2].clone() * stride.into();
        }
        let spread = self.add(Reshape { shape: split }, &[x])?;
        let before = vec![Extent::ZERO; zeros.len()];
        let spread = self.add(Pad { mode: PadMode::Constant, before, after: zeros }, &[spread])?;
        let spread = self.add(Reshape { shape }, &[spread])?;
        let (mut before, mut after) = (vec![Extent::ZERO; 2], vec![Extent::ZERO; 2]);
        for (axis, k) in kernel.iter().enumerate() {
            let reach = (k.clone() - Extent::ONE) * op.dilations[axis].into();
            before.push(reach.clone() - op.pads[axis].into());
            let gap = op.pads[rank + axis] + op.strides[axis] - 1 - op.output_padding[axis];
            after.push(reach - gap.into());
        }
        let padded = self.add(Pad { mode: PadMode::Constant, before, after }, &[spread])?;
        let mirrored = self.mirrored(op, w)?;
        let conv =
            Conv { strides: vec![1; rank], pads: vec![0; 2 * rank], dilations: op.dilations.clone(), group: op.group };
        let operands: Vec<ValueId> = [padded, mirrored].into_iter().chain(bias).collect();
        self.add(conv, &operands)
    }

    /// `[ci, co / group, kernel..]` as `[co, ci / group, kernel..]`, the kernel back to front.
    fn mirrored(&mut self, op: &ConvTranspose, w: ValueId) -> Made {
        let shape = self.graph.ty(w).shape.clone();
        let (group, kernel) = (Extent::from(op.group), shape[2..].to_vec());
        let slice = Slice {
            axes: (2..shape.len()).collect(),
            starts: kernel.iter().map(|k| k.clone() - Extent::ONE).collect(),
            sizes: kernel.clone(),
            steps: vec![-1; kernel.len()],
        };
        let flipped = self.add(slice, &[w])?;
        let depth = shape[0].floordiv(&group);
        let mut split = vec![group.clone(), depth.clone(), shape[1].clone()];
        split.extend(kernel.iter().cloned());
        let mut perm: Vec<usize> = (0..split.len()).collect();
        perm.swap(1, 2);
        let split = self.add(Reshape { shape: split }, &[flipped])?;
        let swapped = self.add(Transpose { perm }, &[split])?;
        let mut shape = vec![group * shape[1].clone(), depth];
        shape.extend(kernel);
        self.add(Reshape { shape }, &[swapped])
    }
}
