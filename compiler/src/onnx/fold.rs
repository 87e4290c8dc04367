//! Evaluation at import: constants and shape arithmetic.
//!
//! Works on our operators, after the operator functions have made them, so that there is one rule per meaning and none
//! per ONNX spelling. Constants go through the reference interpreter. Integers that depend on dimensions go through it
//! too where an operator only moves elements: their positions are moved in their place.

use adze_ir::extent::{Dims, Extent};
use adze_ir::ops::{BinaryFn, Expand, Op, PadMode, ReduceFn, ScatterFn, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::value::{Content, MAX_EXTENTS, Value, content_of, is_small};

/// Most elements of a constant that is computed at import; larger ones are left to the constant-folding pass.
const MAX_ELEMS: usize = 4096;

/// The results of an operator whose operands are all known, when they are worth knowing.
pub(super) fn fold(op: &Op, inputs: &[Option<&Value>], types: &[TensorType], dims: &Dims) -> Option<Vec<Content>> {
    if !inputs.iter().flatten().all(|value| value.content().is_some() && is_little(&value.ty)) {
        return None;
    }
    if !types.iter().all(is_little) {
        return None;
    }
    if let Some(tensors) = all_tensors(inputs) {
        let results = is_cheap(op).then(|| op.eval(&tensors, &|_| None).ok())??;
        return Some(results.into_iter().map(Content::Tensor).collect());
    }
    if let Some(movers) = moved_operands(op) {
        return move_extents(op, inputs, types, movers);
    }
    let ty = types.first()?;
    let values = match op {
        Op::Unary(unary) => match unary.function {
            UnaryFn::Neg => extents(inputs, 0)?.iter().map(|v| -v.clone()).collect(),
            UnaryFn::Identity => extents(inputs, 0)?,
            _ => return None,
        },
        Op::Cast(cast) if cast.to.is_int() => extents(inputs, 0)?,
        Op::Cast(cast) if cast.to == DType::Bool => {
            let zero = Extent::ZERO;
            let truth = |v: &Extent| compare(BinaryFn::Equal, v, &zero, dims).map(|equal| i64::from(!equal).into());
            extents(inputs, 0)?.iter().map(truth).collect::<Option<Vec<Extent>>>()?
        }
        Op::Binary(binary) => {
            let shape = ty.fixed_shape()?;
            let (a, b) = (spread(inputs, 0, &shape)?, spread(inputs, 1, &shape)?);
            let pairs = a.iter().zip(&b);
            pairs.map(|(a, b)| binary_extent(binary.function, a, b, dims)).collect::<Option<Vec<Extent>>>()?
        }
        Op::Reduce(reduce) if reduce.axes.len() == inputs.first()?.as_ref()?.rank() => {
            let values = extents(inputs, 0)?;
            let total = match reduce.function {
                ReduceFn::Sum => values.into_iter().fold(Extent::ZERO, |sum, v| sum + v),
                ReduceFn::Prod => Extent::product(&values),
                _ => return None,
            };
            vec![total]
        }
        _ => return None,
    };
    finish(ty, values).map(|content| vec![content])
}

fn finish(ty: &TensorType, values: Vec<Extent>) -> Option<Content> {
    let shape = ty.fixed_shape()?;
    (values.iter().all(is_small) && values.len() == shape.iter().product::<usize>())
        .then(|| content_of(ty.dtype, &shape, values))
}

fn is_little(ty: &TensorType) -> bool {
    ty.fixed_shape().and_then(|shape| adze_ir::tensor::checked_elems(&shape)).is_some_and(|n| n <= MAX_ELEMS)
}

fn all_tensors<'a>(inputs: &[Option<&'a Value>]) -> Option<Vec<Option<&'a Tensor>>> {
    inputs
        .iter()
        .map(|input| match input {
            None => Some(None),
            Some(value) => value.as_tensor().map(Some),
        })
        .collect()
}

/// Operators that occur in shape arithmetic and cost no more than their results.
fn is_cheap(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Where(_)
            | Op::Cast(_)
            | Op::Clip(_)
            | Op::Reduce(_)
            | Op::CumSum(_)
            | Op::CumProd(_)
            | Op::BitCast(_)
            | Op::TopK(_)
            | Op::ArgReduce(_)
            | Op::OneHot(_)
            | Op::Iota(_)
            | Op::Trilu(_)
    ) || moved_operands(op).is_some()
}

/// The operands whose elements an operator moves unchanged; `None` when it does not only move.
fn moved_operands(op: &Op) -> Option<&'static [usize]> {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Split(_) | Op::Expand(_) | Op::Tile(_) => Some(&[0]),
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => Some(&[0]),
        Op::Pad(pad) if pad.mode == PadMode::Constant => Some(&[0, 1]),
        Op::Pad(_) => Some(&[0]),
        Op::Where(_) => Some(&[1, 2]),
        Op::ScatterElements(scatter) if scatter.function == ScatterFn::None => Some(&[0, 2]),
        Op::ScatterNd(scatter) if scatter.function == ScatterFn::None => Some(&[0, 2]),
        Op::Concat(_) => Some(&[]),
        _ => None,
    }
}

/// Moves the positions of the elements in a pool, then looks them up. Position 0 is the zero that `Pad` fills in.
fn move_extents(op: &Op, inputs: &[Option<&Value>], types: &[TensorType], moved: &[usize]) -> Option<Vec<Content>> {
    let mut pool = vec![Extent::ZERO];
    let mut tensors = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        // Concat moves every operand.
        let moves = moved.is_empty() || moved.contains(&index);
        tensors.push(match input {
            None => None,
            Some(value) if moves => {
                let start = pool.len();
                pool.extend(value.as_extents()?);
                let positions: Vec<i128> = (start..pool.len()).map(|p| i128::try_from(p).unwrap_or(0)).collect();
                Some(Tensor::from_ints(DType::I64, &value.ty.fixed_shape()?, &positions))
            }
            Some(value) => Some(value.as_tensor()?.clone()),
        });
    }
    let operands: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    let results = op.eval(&operands, &|_| None).ok()?;
    let look_up = |tensor: &Tensor, ty: &TensorType| {
        let values = tensor.to_i64().into_iter().map(|p| pool.get(usize::try_from(p).ok()?).cloned());
        finish(ty, values.collect::<Option<Vec<Extent>>>()?)
    };
    results.iter().zip(types).map(|(tensor, ty)| look_up(tensor, ty)).collect()
}

fn extents(inputs: &[Option<&Value>], index: usize) -> Option<Vec<Extent>> {
    inputs.get(index).copied().flatten()?.as_extents()
}

/// The elements of an operand broadcast to a shape.
fn spread(inputs: &[Option<&Value>], index: usize, shape: &[usize]) -> Option<Vec<Extent>> {
    let value = inputs.get(index).copied().flatten()?;
    let values = value.as_extents()?;
    if value.ty.fixed_shape()? == shape {
        return Some(values);
    }
    if let [one] = values.as_slice() {
        let count = shape.iter().product::<usize>();
        return (count <= MAX_EXTENTS).then(|| vec![one.clone(); count]);
    }
    let positions: Vec<i128> = (0..values.len()).map(|p| i128::try_from(p).unwrap_or(0)).collect();
    let positions = Tensor::from_ints(DType::I64, &value.ty.fixed_shape()?, &positions);
    let op = Op::from(Expand { shape: shape.iter().map(|&d| d.into()).collect() });
    let spread = op.eval(&[Some(&positions)], &|_| None).ok()?;
    spread.first()?.to_i64().into_iter().map(|p| values.get(usize::try_from(p).ok()?).cloned()).collect()
}

fn binary_extent(function: BinaryFn, a: &Extent, b: &Extent, dims: &Dims) -> Option<Extent> {
    // Truncation and flooring agree where nothing is negative.
    let divides = || a.range(dims).lo >= 0 && b.range(dims).lo >= 1;
    Some(match function {
        BinaryFn::Add => a.clone() + b.clone(),
        BinaryFn::Sub => a.clone() - b.clone(),
        BinaryFn::Mul => a.clone() * b.clone(),
        BinaryFn::Div if divides() => a.floordiv(b),
        BinaryFn::Mod | BinaryFn::Fmod if divides() => a.modulo(b),
        BinaryFn::Min => smaller(a, b, dims),
        BinaryFn::Max => larger(a, b, dims),
        _ if function.is_comparison() => i64::from(compare(function, a, b, dims)?).into(),
        _ => return None,
    })
}

/// The smaller of two, decided by the declared ranges where they allow it.
pub(super) fn smaller(a: &Extent, b: &Extent, dims: &Dims) -> Extent {
    let range = (a.clone() - b.clone()).range(dims);
    if range.hi <= 0 {
        return a.clone();
    }
    if range.lo >= 0 { b.clone() } else { a.minimum(b) }
}

/// The larger of two, decided by the declared ranges where they allow it.
pub(super) fn larger(a: &Extent, b: &Extent, dims: &Dims) -> Extent {
    let range = (a.clone() - b.clone()).range(dims);
    if range.lo >= 0 {
        return a.clone();
    }
    if range.hi <= 0 { b.clone() } else { a.maximum(b) }
}

/// Decides a comparison for every value of the dimensions, if that is possible.
pub(super) fn compare(function: BinaryFn, a: &Extent, b: &Extent, dims: &Dims) -> Option<bool> {
    let range = (a.clone() - b.clone()).range(dims);
    let (lo, hi) = (range.lo, range.hi);
    let decide = |always: bool, never: bool| if always { Some(true) } else { never.then_some(false) };
    match function {
        BinaryFn::Equal => decide(lo == 0 && hi == 0, lo > 0 || hi < 0),
        BinaryFn::Less => decide(hi < 0, lo >= 0),
        BinaryFn::LessOrEqual => decide(hi <= 0, lo > 0),
        BinaryFn::Greater => decide(lo > 0, hi <= 0),
        BinaryFn::GreaterOrEqual => decide(lo >= 0, hi < 0),
        _ => None,
    }
}
