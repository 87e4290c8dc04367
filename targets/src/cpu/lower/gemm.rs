//! Matrix products: `MatMul` and `Gemm`.
//!
//! Vectors run along the columns of the result. A constant right operand is packed at compile time; otherwise it is read
//! with its own strides, or, when it is stored column by column, as dot products along the sum.

use adze_ir::extent::Extent;
use adze_ir::ops::Op;
use adze_ir::propose::Schedule;
use adze_ir::tensor::Tensor;

use super::blocking::{Blocking, Shape};
use super::epilogue::Epilogue;
use super::leaf::{
    Anchor, Axis, Leaf, Stream, broadcast_strides, compute_elem, elem_dtype, input, join_axes, output, unsupported,
};
use super::micro::{Form, Sum, SumAxis};
use super::operand::{LeafCx, Lowered, Operand, Unsupported};
use super::pack::{Source, pack_panels};
use super::product::{Product, RIGHT, Right, Scale};
use crate::cpu::kernel::Elem;

/// Lowers a `MatMul` or `Gemm`, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for dtypes without kernels and epilogues that are not elementwise.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let (alpha, beta) = match anchor.op {
        Op::Gemm(op) => (op.alpha.get(), op.beta.get()),
        _ => (1.0, 1.0),
    };
    let (left_at, right_at) = (anchor.need(0)?, anchor.need(1)?);
    let (left, right) = matrices(cx, &anchor)?;
    let result = output(cx, 0)?;
    let shape = shape(&left, &right)?;
    let (elem, kind) = (shape.elem, shape.right);
    let blocking = Blocking::choose(cx, &shape)?;
    let mut leaf = Leaf::new(cx, &format!("matmul_{}x{}", blocking.mr, blocking.nr));

    let left_stream = leaf.input(left_at)?;
    let (right_stream, alpha) = match kind {
        Right::Packed => (right.pack(&mut leaf, elem, blocking.nr, alpha)?, 1.0),
        _ => (leaf.input(right_at)?, alpha),
    };
    let target = leaf.output(0)?;
    let bias = anchor.position(2).filter(|_| matches!(anchor.op, Op::Gemm(_)) && beta != 0.0);
    let mut strides = vec![result.strides.clone(), vec![Extent::ZERO; result.rank()]];
    let mut start = None;
    if let Some(index) = bias {
        strides[1] = broadcast_strides(input(cx, index)?, &result.shape)?;
        start = Some(leaf.input(index)?);
    }
    let beta = if start.is_some() { beta } else { 1.0 };
    let epilogue = Epilogue::of(&mut leaf, &anchor, left.operand.dtype, result)?;
    strides.extend(epilogue.streams.iter().map(|s| s.1.clone()));

    let Axes { outer, rows, cols } = axes(&left, &right, kind, blocking, result, &strides);
    let depth = left.sum();
    let right_step = if kind == Right::Packed { blocking.nr.into() } else { right.sum_stride() };
    let sum = match kind {
        Right::Dot => Sum::whole(depth.clone()),
        _ => Sum::nest(&[SumAxis::whole(depth.clone(), left.sum_stride(), right_step)]),
    };
    let product = Product {
        elem,
        lanes: blocking.lanes,
        at_once: blocking.at_once,
        mr: blocking.mr,
        nr: blocking.nr,
        streams: [left_stream, right_stream, target],
        right: kind,
        start,
        form: Form::Plain,
        start_times: None,
        scale: (alpha != 1.0 || beta != 1.0).then_some(Scale { alpha, beta }),
        chunk: Some(blocking.chunk(cx, elem, &depth)),
        order: blocking.order,
        outer,
        rows,
        cols,
        row_parts: Vec::new(),
        sum: &|_, _, _, _| sum.clone(),
        epilogue,
    };
    Ok(vec![product.emit(leaf)?])
}

/// The schedules that make sense for a `MatMul` or `Gemm`.
///
/// # Errors
/// As [`lower`].
pub(super) fn schedules(cx: &LeafCx<'_>) -> Result<Vec<Schedule>, Unsupported> {
    let (left, right) = matrices(cx, &Anchor::of(cx)?)?;
    let shape = shape(&left, &right)?;
    Ok(Blocking::list(cx, &shape).iter().map(|block| block.schedule(shape.right)).collect())
}

fn matrices<'a>(cx: &LeafCx<'a>, anchor: &Anchor<'_>) -> Result<(Matrix<'a>, Matrix<'a>), Unsupported> {
    let (trans_a, trans_b) = match anchor.op {
        Op::MatMul(op) => (op.trans_a, op.trans_b),
        Op::Gemm(op) => (op.trans_a, op.trans_b),
        other => return Err(unsupported(format!("`{}`", other.name()), "`matmul` or `gemm`")),
    };
    let left = Matrix::new(input(cx, anchor.need(0)?)?, trans_a)?;
    Ok((left, Matrix::new(input(cx, anchor.need(1)?)?, !trans_b)?))
}

fn shape(left: &Matrix<'_>, right: &Matrix<'_>) -> Result<Shape, Unsupported> {
    let (rows, depth) = (all_rows(left, right), left.sum());
    Ok(Shape {
        elem: compute_elem(left.operand.dtype)?,
        left: rows.clone() * depth.clone(),
        rows,
        cols: right.free(),
        depth,
        right: right_kind(left, right),
        held: 1,
        column: 1,
    })
}

/// A matrix operand: which axis is summed over and which one makes rows or columns.
struct Matrix<'a> {
    operand: &'a Operand,
    free_axis: Option<usize>,
    sum_axis: usize,
}

impl<'a> Matrix<'a> {
    /// `sum_first`: the axes are `[.., sum, free]` instead of `[.., free, sum]`.
    fn new(operand: &'a Operand, sum_first: bool) -> Result<Self, Unsupported> {
        let (free_axis, sum_axis) = match (operand.rank(), sum_first) {
            (0, _) => return Err(unsupported("a scalar", "rank 1 or more")),
            (1, _) => (None, 0),
            (rank, false) => (Some(rank - 2), rank - 1),
            (rank, true) => (Some(rank - 1), rank - 2),
        };
        Ok(Self { operand, free_axis, sum_axis })
    }

    fn sum(&self) -> Extent {
        self.operand.shape[self.sum_axis].clone()
    }

    fn sum_stride(&self) -> Extent {
        self.operand.strides[self.sum_axis].clone()
    }

    fn free(&self) -> Extent {
        self.free_axis.map_or(Extent::ONE, |axis| self.operand.shape[axis].clone())
    }

    fn free_stride(&self) -> Extent {
        self.free_axis.map_or(Extent::ZERO, |axis| self.operand.strides[axis].clone())
    }

    fn batch_axes(&self) -> usize {
        self.operand.rank().saturating_sub(2)
    }

    /// The batch axis that is `from_end` axes before the last batch axis, unless it repeats.
    fn batch_axis(&self, from_end: usize) -> Option<usize> {
        self.batch_axes().checked_sub(from_end + 1).filter(|&axis| self.operand.shape[axis] != Extent::ONE)
    }

    fn batch_stride(&self, from_end: usize) -> Extent {
        self.batch_axis(from_end).map_or(Extent::ZERO, |axis| self.operand.strides[axis].clone())
    }

    /// The value, when its shape is that of the view.
    fn constant(&self) -> Option<&'a Tensor> {
        let same = |t: &&Tensor| {
            t.shape().len() == self.operand.rank()
                && t.shape().iter().zip(&self.operand.shape).all(|(&n, e)| *e == Extent::from(n))
        };
        self.operand.constant.as_ref().filter(same)
    }

    fn pack(&self, leaf: &mut Leaf<'_>, elem: Elem, nr: usize, scale: f64) -> Result<Stream, Unsupported> {
        let tensor = self.constant().ok_or_else(|| unsupported("no constant", "a constant"))?;
        let steps = dense_steps(tensor.shape());
        let pair = |axis: usize| (tensor.shape()[axis], steps[axis]);
        let source = Source {
            tensor,
            batch: (0..self.batch_axes()).map(pair).collect(),
            cols: self.free_axis.map_or((1, 0), pair),
            steps: vec![pair(self.sum_axis)],
            scale,
        };
        Ok(leaf.packed(pack_panels(&source, elem_dtype(elem), nr)))
    }

    /// Elements of the packed form from one index of a batch axis to the next.
    fn packed_batch_stride(&self, from_end: usize, nr: usize) -> Extent {
        let Some(axis) = self.batch_axis(from_end) else { return Extent::ZERO };
        let inner = &self.operand.shape[axis + 1..self.batch_axes()];
        Extent::product(inner) * self.free().ceildiv(&nr.into()) * self.sum() * nr.into()
    }
}

/// Elements from one index to the next of a dense row-major tensor.
pub(super) fn dense_steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1usize; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        steps[axis] = steps[axis + 1] * shape[axis + 1];
    }
    steps
}

fn right_kind(left: &Matrix<'_>, right: &Matrix<'_>) -> Right {
    let along_sum = right.sum_stride() == Extent::ONE && left.sum_stride() == Extent::ONE;
    let one_column = right.free() == Extent::ONE;
    if along_sum && (one_column || (right.constant().is_none() && right.free_stride() != Extent::ONE)) {
        return Right::Dot;
    }
    if right.constant().is_some() { Right::Packed } else { Right::Strided }
}

/// Rows that share the right operand, as far as the choice of a block needs to know.
fn all_rows(left: &Matrix<'_>, right: &Matrix<'_>) -> Extent {
    let shared = (0..left.batch_axes()).all(|from_end| right.batch_axis(from_end).is_none());
    if shared { Extent::product(&left.operand.shape[..left.batch_axes()]) * left.free() } else { left.free() }
}

struct Axes {
    outer: Vec<Axis>,
    rows: Axis,
    cols: Axis,
}

/// The axes of the result with the strides of every stream; `others` are those of result, start and epilogue.
fn axes(
    left: &Matrix<'_>,
    right: &Matrix<'_>,
    kind: Right,
    blocking: Blocking,
    result: &Operand,
    others: &[Vec<Extent>],
) -> Axes {
    let axis_at = |axis: Option<usize>, extent: Extent, left: Extent, right: Extent| {
        let rest = others.iter().map(|s| axis.map_or(Extent::ZERO, |a| s[a].clone()));
        Axis { extent, strides: [left, right].into_iter().chain(rest).collect() }
    };
    let free_axes = usize::from(left.free_axis.is_some()) + usize::from(right.free_axis.is_some());
    let batch_rank = result.rank().saturating_sub(free_axes);
    let mut outer: Vec<Axis> = (0..batch_rank)
        .map(|axis| {
            let from_end = batch_rank - 1 - axis;
            let right = match kind {
                Right::Packed => right.packed_batch_stride(from_end, blocking.nr),
                _ => right.batch_stride(from_end),
            };
            axis_at(Some(axis), result.shape[axis].clone(), left.batch_stride(from_end), right)
        })
        .collect();
    outer.push(axis_at(left.free_axis.map(|_| batch_rank), left.free(), left.free_stride(), Extent::ZERO));
    let right_stride = if kind == Right::Packed { left.sum() } else { right.free_stride() };
    let col_axis = right.free_axis.map(|_| result.rank() - 1);
    let cols = axis_at(col_axis, right.free(), Extent::ZERO, right_stride);
    let one_row = Axis { extent: Extent::ONE, strides: vec![Extent::ZERO; cols.strides.len()] };
    let mut outer = join_axes(outer);
    // Rows are the innermost axis, if the right operand stays where it is.
    let rows = match outer.pop() {
        Some(axis) if axis.strides[RIGHT] == Extent::ZERO => axis,
        Some(axis) => {
            outer.push(axis);
            one_row
        }
        None => one_row,
    };
    Axes { outer, rows, cols }
}
