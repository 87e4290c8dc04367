//! Reductions and softmax.

use adze_ir::extent::Extent;
use adze_ir::graph::ValueId;
use adze_ir::ops::{BinaryFn, Cast, ExtentValue, LogSoftmax, Reduce, ReduceFn, Softmax, UnaryFn};
use adze_ir::types::DType;

use super::Products;
use super::step::{Made, Step};

fn row_axes(s: &Step<'_>, axis: usize, flatten: bool) -> Vec<usize> {
    let rank = s.graph.ty(s.y()).rank();
    if flatten { (axis..rank).collect() } else { vec![axis] }
}

/// `y · (g - Σ g · y)`.
pub(super) fn softmax(s: &mut Step<'_>, op: &Softmax) -> Products {
    let (g, y, axes) = (s.g, s.y(), row_axes(s, op.axis, op.flatten));
    let product = s.mul(g, y)?;
    let sum = s.summed(product, axes)?;
    let centred = s.binary(BinaryFn::Sub, g, sum)?;
    Ok(vec![Some(s.mul(y, centred)?)])
}

/// `g - exp(y) · Σ g`.
pub(super) fn log_softmax(s: &mut Step<'_>, op: &LogSoftmax) -> Products {
    let (g, y, axes) = (s.g, s.y(), row_axes(s, op.axis, op.flatten));
    let sum = s.summed(g, axes)?;
    let shares = s.unary(UnaryFn::Exp, y)?;
    let product = s.mul(shares, sum)?;
    Ok(vec![Some(s.binary(BinaryFn::Sub, g, product)?)])
}

pub(super) fn reduce(s: &mut Step<'_>, op: &Reduce) -> Products {
    let x = s.x(0)?;
    let shape = s.shape(x);
    let count = Extent::product(op.axes.iter().map(|&axis| &shape[axis]));
    let mut kept = shape.clone();
    op.axes.iter().for_each(|&axis| kept[axis] = Extent::ONE);
    let (g, y) = (s.reshaped(s.g, kept.clone())?, s.y());
    let product = match op.function {
        ReduceFn::Sum => s.expanded(g, shape)?,
        ReduceFn::Mean => {
            let share = divided(s, g, &count)?;
            s.expanded(share, shape)?
        }
        ReduceFn::SumSquare => {
            let twice = s.scaled(x, 2.0)?;
            s.mul(twice, g)?
        }
        ReduceFn::L1 => {
            let sign = s.unary(UnaryFn::Sign, x)?;
            s.mul(sign, g)?
        }
        ReduceFn::L2 => {
            let y = s.reshaped(y, kept)?;
            let share = s.binary(BinaryFn::Div, g, y)?;
            s.mul(x, share)?
        }
        ReduceFn::LogSumExp => {
            let y = s.reshaped(y, kept)?;
            let less = s.binary(BinaryFn::Sub, x, y)?;
            let shares = s.unary(UnaryFn::Exp, less)?;
            s.mul(shares, g)?
        }
        ReduceFn::Max | ReduceFn::Min => {
            let y = s.reshaped(y, kept)?;
            ends(s, op, [x, y, g])?
        }
        other => {
            return Err(s.unsupported(format!("{other:?}"), "sum, mean, max, min, sum_square, l1, l2, log_sum_exp"));
        }
    };
    Ok(vec![Some(product)])
}

/// `x / count`.
fn divided(s: &mut Step<'_>, x: ValueId, count: &Extent) -> Made {
    if let Some(count) = count.as_const() {
        return s.scaled(x, 1.0 / count as f64);
    }
    let value = ExtentValue { values: vec![count.clone()], scalar: true, dtype: DType::I64 };
    let value = s.add(value, &[])?;
    let value = s.add(Cast { to: s.graph.ty(x).dtype }, &[value])?;
    s.binary(BinaryFn::Div, x, value)
}

/// The gradient of the largest or smallest element, shared by equals.
fn ends(s: &mut Step<'_>, op: &Reduce, [x, y, g]: [ValueId; 3]) -> Made {
    let is_end = s.binary(BinaryFn::Equal, x, y)?;
    let is_end = s.add(Cast { to: s.graph.ty(x).dtype }, &[is_end])?;
    let count = s.summed(is_end, op.axes.clone())?;
    let share = s.binary(BinaryFn::Div, g, count)?;
    s.mul(is_end, share)
}
