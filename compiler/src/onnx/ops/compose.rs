//! Short names for operators that an ONNX operator is made of.

use adze_ir::extent::Extent;
use adze_ir::ops::{
    Binary, BinaryFn, Concat, Expand, Gather, GatherNd, Iota, MatMul, Reduce, ReduceFn, Slice, Transpose, Unary,
    UnaryFn, Where,
};
use adze_ir::types::{DType, Shape};

use super::super::error::Fault;
use super::super::node::NodeCx;
use super::super::value::Value;

type Made = Result<Value, Fault>;

impl NodeCx<'_, '_> {
    pub(super) fn unary(&mut self, function: UnaryFn, x: &Value) -> Made {
        self.emit1(Unary { function }, &[x])
    }

    pub(super) fn binary(&mut self, function: BinaryFn, a: &Value, b: &Value) -> Made {
        self.emit1(Binary { function }, &[a, b])
    }

    /// The value combined with a number of its dtype.
    pub(super) fn with_number(&mut self, function: BinaryFn, a: &Value, number: f64) -> Made {
        let number = self.scalar(a.ty.dtype, number);
        self.binary(function, a, &number)
    }

    pub(super) fn add(&mut self, a: &Value, b: &Value) -> Made {
        self.binary(BinaryFn::Add, a, b)
    }

    pub(super) fn sub(&mut self, a: &Value, b: &Value) -> Made {
        self.binary(BinaryFn::Sub, a, b)
    }

    pub(super) fn mul(&mut self, a: &Value, b: &Value) -> Made {
        self.binary(BinaryFn::Mul, a, b)
    }

    pub(super) fn div(&mut self, a: &Value, b: &Value) -> Made {
        self.binary(BinaryFn::Div, a, b)
    }

    pub(super) fn where_(&mut self, condition: &Value, x: &Value, y: &Value) -> Made {
        self.emit1(Where {}, &[condition, x, y])
    }

    pub(super) fn reduce(&mut self, function: ReduceFn, x: &Value, axes: Vec<usize>, keep_dims: bool) -> Made {
        self.emit1(Reduce { function, axes, keep_dims }, &[x])
    }

    pub(super) fn matmul(&mut self, a: &Value, b: &Value, trans_b: bool) -> Made {
        self.emit1(MatMul { trans_a: false, trans_b }, &[a, b])
    }

    /// Result axis `i` is axis `perm[i]`; the value itself when nothing moves.
    pub(super) fn transpose(&mut self, x: &Value, perm: &[usize]) -> Made {
        if perm.iter().enumerate().all(|(index, &axis)| index == axis) {
            return Ok(x.clone());
        }
        self.emit1(Transpose { perm: perm.to_vec() }, &[x])
    }

    pub(super) fn concat(&mut self, axis: usize, parts: &[&Value]) -> Made {
        match parts {
            [only] => Ok((*only).clone()),
            parts => self.emit1(Concat { axis }, parts),
        }
    }

    /// The elements `start, start + 1, ...` along an axis.
    pub(super) fn cut(&mut self, x: &Value, axis: usize, start: Extent, size: Extent) -> Made {
        let op = Slice { axes: vec![axis], starts: vec![start], sizes: vec![size], steps: vec![1] };
        self.emit1(op, &[x])
    }

    /// One element along an axis, without that axis.
    pub(super) fn element(&mut self, x: &Value, axis: usize, position: i64) -> Made {
        let part = self.cut(x, axis, position.into(), Extent::ONE)?;
        let mut shape = x.ty.shape.clone();
        shape.remove(axis);
        self.reshape(&part, shape)
    }

    /// The value with an axis of 1 put in.
    pub(super) fn unsqueeze(&mut self, x: &Value, axis: usize) -> Made {
        let mut shape = x.ty.shape.clone();
        shape.insert(axis, Extent::ONE);
        self.reshape(x, shape)
    }

    /// The values along a new axis.
    pub(super) fn stack(&mut self, axis: usize, values: &[Value]) -> Made {
        let parts = values.iter().map(|value| self.unsqueeze(value, axis)).collect::<Result<Vec<_>, _>>()?;
        self.concat(axis, &parts.iter().collect::<Vec<_>>())
    }

    /// The value broadcast to a shape.
    pub(super) fn expand(&mut self, x: &Value, shape: &[Extent]) -> Made {
        if x.ty.shape == shape { Ok(x.clone()) } else { self.emit1(Expand { shape: shape.to_vec() }, &[x]) }
    }

    /// A number in every element of a shape.
    pub(super) fn filled(&mut self, dtype: DType, number: f64, shape: &[Extent]) -> Made {
        let number = self.scalar(dtype, number);
        self.expand(&number, shape)
    }

    /// `0, 1, ..` of `i64` along an axis of a shape of that rank, 1 elsewhere.
    pub(super) fn positions(&mut self, count: &Extent, axis: usize, rank: usize) -> Made {
        let op = Iota { start: Extent::ZERO, step: Extent::ONE, count: count.clone(), dtype: DType::I64 };
        let line = self.emit1(op, &[])?;
        let mut shape: Shape = vec![Extent::ONE; rank];
        shape[axis] = count.clone();
        self.reshape(&line, shape)
    }

    pub(super) fn gather(&mut self, x: &Value, indices: &Value, axis: usize) -> Made {
        self.emit1(Gather { axis }, &[x, indices])
    }

    pub(super) fn gather_nd(&mut self, x: &Value, indices: &Value, batch_dims: usize) -> Made {
        self.emit1(GatherNd { batch_dims }, &[x, indices])
    }
}
