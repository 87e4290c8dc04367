//! Gather and scatter: addresses that come from data.

use super::elems::{Elems, Gathered, for_each_index};
use super::shape::{
    Around, attribute, concrete, mismatch, need_axis, need_dtype, need_equal, need_extent, need_rank, need_rank_from,
    need_shape, strides,
};
use super::{EvalError, OpDef, Operands, TypeError, op};

use crate::extent::{Dims, Extent};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};
use crate::{word_attribute, word_enum};

op! {
    /// Slices of `x` along an axis chosen by `indices` (integers, negative ones count from the end); operands `x, indices`.
    ///
    /// - result: `x.shape[..axis] + indices.shape + x.shape[axis + 1..]`. Source: ONNX `Gather`.
    pub struct Gather = "gather" (2..=2) {
        /// Non-negative.
        axis: usize,
    }
}

op! {
    /// `out[i][j][k] = x[indices[i][j][k]][j][k]` for axis 0; operands `x, indices`. Source: ONNX `GatherElements`.
    pub struct GatherElements = "gather_elements" (2..=2) {
        /// Non-negative.
        axis: usize,
    }
}

op! {
    /// Slices of `x` chosen by index tuples in the last axis of `indices`; operands `x, indices`. Source: ONNX `GatherND`.
    pub struct GatherNd = "gather_nd" (2..=2) {
        /// Leading axes that both operands share.
        batch_dims: usize,
    }
}

word_enum! {
    /// How an update meets what is there.
    pub enum ScatterFn {
        /// Replaces it.
        None = "none",
        /// Is added.
        Add = "add",
        /// Is multiplied.
        Mul = "mul",
        /// The larger stays.
        Max = "max",
        /// The smaller stays.
        Min = "min",
    }
}
word_attribute!(ScatterFn);

op! {
    /// `x` with `out[indices[i][j]][j] = updates[i][j]` for axis 0; operands `x, indices, updates`. Source: ONNX `ScatterElements`.
    pub struct ScatterElements = "scatter_elements" (3..=3) {
        /// Non-negative.
        axis: usize,
        /// How updates combine.
        function: ScatterFn,
    }
}

op! {
    /// `x` with slices at index tuples replaced; operands `x, indices, updates`. Source: ONNX `ScatterND`.
    pub struct ScatterNd = "scatter_nd" (3..=3) {
        /// How updates combine.
        function: ScatterFn,
    }
}

op! {
    /// `values[1]` at the index, `values[0]` elsewhere, along a new axis; operands `indices, values[2]`. Source: ONNX `OneHot`.
    pub struct OneHot = "one_hot" (2..=2) {
        /// Position of the new axis in the result.
        axis: usize,
        /// Its extent.
        depth: Extent,
    }
}

/// Refuses indices that are no integers.
fn need_indices(input: usize, ty: &TensorType) -> Result<(), TypeError> {
    need_dtype(input, ty, DType::is_int, "an integer type")
}

/// The position that an index names on an axis of `len` elements.
fn position(index: i64, len: usize, axis: usize) -> Result<usize, EvalError> {
    let len = len as i64;
    if (-len..len).contains(&index) {
        return Ok(if index < 0 { index + len } else { index } as usize);
    }
    Err(EvalError::Value(format!("index {index} is out of the range {}..={} of axis {axis}", -len, len - 1)))
}

impl OpDef for Gather {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        need_axis("axis", self.axis, x)?;
        need_indices(1, indices)?;
        let (before, after) = (&x.shape[..self.axis], &x.shape[self.axis + 1..]);
        Ok(vec![TensorType::new(x.dtype, [before, &indices.shape, after].concat())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let elems = Elems::of(x);
        let Around { outer, len, inner } = Around::axis(x.shape(), self.axis);
        let positions: Result<Vec<usize>, EvalError> =
            indices.to_i64().into_iter().map(|index| position(index, len, self.axis)).collect();
        let positions = positions?;
        let mut result = Gathered::new(x.dtype());
        for row in 0..outer {
            for position in &positions {
                result.push(elems.run((row * len + position) * inner, inner));
            }
        }
        Ok(vec![result.finish(&concrete(&types[0])?)])
    }
}

/// Refuses indices that reach, outside `axis`, beyond the tensor they address.
fn need_inside(x: &TensorType, indices: &TensorType, axis: usize) -> Result<(), TypeError> {
    need_rank(1, indices, x.rank())?;
    for other in (0..x.rank()).filter(|&other| other != axis) {
        let room = x.shape[other].clone() - indices.shape[other].clone();
        if room.range(&Dims::new()).lo < 0 {
            let accepted = format!("at most {} on axis {other}", x.shape[other]);
            return Err(mismatch("indices", &indices.shape[other], accepted));
        }
    }
    Ok(())
}

/// For every index element, in row-major order: the element of `x` that it addresses.
fn addressed(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Vec<usize>, EvalError> {
    let (steps, values) = (strides(x.shape()), indices.to_i64());
    let mut found = Vec::with_capacity(values.len());
    for_each_index(indices.shape(), |at| {
        let index = values[found.len()];
        found.push(position(index, x.shape()[axis], axis).map(|position| {
            let elsewhere = at.iter().zip(&steps).map(|(at, step)| at * step).sum::<usize>() - at[axis] * steps[axis];
            elsewhere + position * steps[axis]
        }));
    });
    found.into_iter().collect()
}

impl OpDef for GatherElements {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        need_axis("axis", self.axis, x)?;
        need_indices(1, indices)?;
        need_inside(x, indices, self.axis)?;
        Ok(vec![TensorType::new(x.dtype, indices.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let elems = Elems::of(x);
        let mut result = Gathered::new(x.dtype());
        for at in addressed(x, indices, self.axis)? {
            result.push(elems.get(at));
        }
        Ok(vec![result.finish(&concrete(&types[0])?)])
    }
}

/// Length of the index tuples in the last axis of `indices`, which address axes of `x` after `batch` leading ones.
fn tuple_len(x: &TensorType, indices: &TensorType, batch: usize) -> Result<usize, TypeError> {
    need_indices(1, indices)?;
    need_rank_from(0, x, batch + 1)?;
    need_rank_from(1, indices, batch + 1)?;
    let last = &indices.shape[indices.rank() - 1];
    let most = x.rank() - batch;
    match last.as_const().and_then(|len| usize::try_from(len).ok()) {
        Some(len) if (1..=most).contains(&len) => Ok(len),
        _ => Err(mismatch("last axis of `indices`", last, format!("1 to {most}"))),
    }
}

/// For every index tuple, in row-major order: the first element of the slice of `x` that it addresses.
fn slices(x: &Tensor, indices: &Tensor, batch: usize) -> Result<Vec<usize>, EvalError> {
    let (steps, values) = (strides(x.shape()), indices.to_i64());
    let tuple = indices.shape()[indices.shape().len() - 1];
    let outer = &indices.shape()[..indices.shape().len() - 1];
    let mut starts = Vec::new();
    for_each_index(outer, |at| {
        let shared: usize = at[..batch].iter().zip(&steps).map(|(at, step)| at * step).sum();
        let indices = &values[starts.len() * tuple..][..tuple];
        let start = indices.iter().enumerate().try_fold(shared, |start, (i, &index)| {
            Ok(start + position(index, x.shape()[batch + i], batch + i)? * steps[batch + i])
        });
        starts.push(start);
    });
    starts.into_iter().collect()
}

impl OpDef for GatherNd {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        if self.batch_dims >= x.rank() {
            return Err(attribute("batch_dims", self.batch_dims, format!("below the rank {}", x.rank())));
        }
        let tuple = tuple_len(x, indices, self.batch_dims)?;
        for axis in 0..self.batch_dims {
            need_equal("batch axis", &indices.shape[axis], &x.shape[axis])?;
        }
        let shape = [&indices.shape[..indices.rank() - 1], &x.shape[self.batch_dims + tuple..]].concat();
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let elems = Elems::of(x);
        let tuple = indices.shape()[indices.shape().len() - 1];
        let len = x.shape()[self.batch_dims + tuple..].iter().product();
        let mut result = Gathered::new(x.dtype());
        for start in slices(x, indices, self.batch_dims)? {
            result.push(elems.run(start, len));
        }
        Ok(vec![result.finish(&concrete(&types[0])?)])
    }
}

/// Refuses updates of another dtype, and functions that the dtype does not have.
fn need_updates(inputs: Operands<'_, TensorType>, function: ScatterFn) -> Result<(), TypeError> {
    let (x, updates) = (inputs.need(0)?, inputs.need(2)?);
    need_dtype(2, updates, |d| d == x.dtype, x.dtype.name())?;
    let orders = function == ScatterFn::None || x.dtype != DType::Bool;
    need_dtype(0, x, |_| orders, "a floating-point or integer type")
}

/// `x` with update `i` combined into element `positions[i]`, in this order.
fn scatter(x: &Tensor, positions: &[usize], updates: &Tensor, function: ScatterFn) -> Tensor {
    let dtype = x.dtype();
    if function == ScatterFn::None {
        let (mut elems, updates) = (Elems::of(x), Elems::of(updates));
        for (i, &at) in positions.iter().enumerate() {
            elems.set(at, updates.get(i));
        }
        return elems.into_tensor(dtype, x.shape());
    }
    if dtype.is_float() {
        let (mut values, updates) = (x.to_f64(), updates.to_f64());
        for (&at, update) in positions.iter().zip(updates) {
            values[at] = combine_floats(function, values[at], update);
        }
        return Tensor::from_f64(dtype, x.shape(), &values);
    }
    let (mut values, updates) = (x.to_ints(), updates.to_ints());
    for (&at, update) in positions.iter().zip(updates) {
        values[at] = combine_ints(function, values[at], update, dtype);
    }
    Tensor::from_ints(dtype, x.shape(), &values)
}

fn combine_floats(function: ScatterFn, old: f64, update: f64) -> f64 {
    match function {
        ScatterFn::None => update,
        ScatterFn::Add => old + update,
        ScatterFn::Mul => old * update,
        ScatterFn::Max | ScatterFn::Min if old.is_nan() || update.is_nan() => f64::NAN,
        ScatterFn::Max => old.max(update),
        ScatterFn::Min => old.min(update),
    }
}

/// Wraps around at every step, so that no product leaves `i128`.
fn combine_ints(function: ScatterFn, old: i128, update: i128, dtype: DType) -> i128 {
    let combined = match function {
        ScatterFn::None => update,
        ScatterFn::Add => old + update,
        ScatterFn::Mul => old * update,
        ScatterFn::Max => old.max(update),
        ScatterFn::Min => old.min(update),
    };
    let (lo, _) = dtype.int_range().expect("`combine_ints` is for integers");
    (combined - lo).rem_euclid(1 << dtype.bits()) + lo
}

impl OpDef for ScatterElements {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        need_axis("axis", self.axis, x)?;
        need_indices(1, indices)?;
        need_inside(x, indices, self.axis)?;
        need_updates(inputs, self.function)?;
        need_shape("updates", inputs.need(2)?, &indices.shape)?;
        Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let positions = addressed(x, indices, self.axis)?;
        Ok(vec![scatter(x, &positions, inputs.need(2)?, self.function)])
    }
}

impl OpDef for ScatterNd {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let tuple = tuple_len(x, indices, 0)?;
        need_updates(inputs, self.function)?;
        let accepted = [&indices.shape[..indices.rank() - 1], &x.shape[tuple..]].concat();
        need_shape("updates", inputs.need(2)?, &accepted)?;
        Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let tuple = indices.shape()[indices.shape().len() - 1];
        let len: usize = x.shape()[tuple..].iter().product();
        let starts = slices(x, indices, 0)?;
        let positions: Vec<usize> = starts.into_iter().flat_map(|start| start..start + len).collect();
        Ok(vec![scatter(x, &positions, inputs.need(2)?, self.function)])
    }
}

impl OpDef for OneHot {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (indices, values) = (inputs.need(0)?, inputs.need(1)?);
        need_dtype(0, indices, |d| d != DType::Bool, "a floating-point or integer type")?;
        need_shape("values", values, &[2.into()])?;
        need_extent("depth", &self.depth)?;
        if self.axis > indices.rank() {
            return Err(attribute("axis", self.axis, format!("at most the rank {}", indices.rank())));
        }
        let mut shape: Shape = indices.shape.clone();
        shape.insert(self.axis, self.depth.clone());
        Ok(vec![TensorType::new(values.dtype, shape)])
    }

    /// An index outside `-depth..depth` switches nothing on.
    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (indices, values, shape) = (inputs.need(0)?.to_i64(), Elems::of(inputs.need(1)?), concrete(&types[0])?);
        let Around { len, inner, .. } = Around::axis(&shape, self.axis);
        let mut result = Gathered::new(types[0].dtype);
        for at in 0..shape.iter().product::<usize>() {
            let index = indices[at / inner / len * inner + at % inner];
            let on = position(index, len, self.axis).is_ok_and(|position| position == at / inner % len);
            result.push(values.get(usize::from(on)));
        }
        Ok(vec![result.finish(&shape)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use proptest::prelude::*;

    fn run(op: impl Into<Op>, inputs: &[&Tensor]) -> Result<Tensor, EvalError> {
        op.into().eval(&inputs.iter().copied().map(Some).collect::<Vec<_>>(), &|_| None).map(|mut r| r.remove(0))
    }

    fn ints(dtype: DType, shape: &[usize], values: &[i128]) -> Tensor {
        Tensor::from_ints(dtype, shape, values)
    }

    fn idx(shape: &[usize], values: &[i128]) -> Tensor {
        ints(DType::I64, shape, values)
    }

    #[test]
    fn gather_table() {
        let x = ints(DType::U4, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let cases: &[(usize, Tensor, &[usize], &[i64])] = &[
            (0, idx(&[], &[-1]), &[3], &[4, 5, 6]),
            (1, idx(&[1, 2], &[2, -3]), &[2, 1, 2], &[3, 1, 6, 4]),
            (1, idx(&[0], &[]), &[2, 0], &[]),
        ];
        for (axis, indices, shape, expected) in cases {
            let y = run(Gather { axis: *axis }, &[&x, indices]).unwrap();
            assert_eq!((y.shape(), y.to_i64().as_slice()), (*shape, *expected), "{axis} {indices:?}");
        }
        let error = run(Gather { axis: 1 }, &[&x, &idx(&[], &[3])]).unwrap_err();
        assert_eq!(error, EvalError::Value("index 3 is out of the range -3..=2 of axis 1".into()));
        assert!(run(Gather { axis: 1 }, &[&x, &idx(&[], &[-4])]).is_err());
        assert!(run(Gather { axis: 2 }, &[&x, &idx(&[], &[0])]).is_err());
        let empty = Tensor::zeros(DType::F32, &[0]);
        assert!(run(Gather { axis: 0 }, &[&empty, &idx(&[1], &[0])]).is_err());
    }

    #[test]
    fn elements_and_tuples() {
        let x = ints(DType::I16, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let y = run(GatherElements { axis: 1 }, &[&x, &idx(&[2, 2], &[2, 0, -1, 1])]).unwrap();
        assert_eq!(y.to_i64(), [3, 1, 6, 5]);
        let y = run(GatherElements { axis: 0 }, &[&x, &idx(&[1, 3], &[1, 0, 1])]).unwrap();
        assert_eq!(y.to_i64(), [4, 2, 6]);
        assert!(run(GatherElements { axis: 1 }, &[&x, &idx(&[3, 1], &[0, 0, 0])]).is_err());
        let y = run(GatherNd { batch_dims: 0 }, &[&x, &idx(&[2, 2], &[0, -1, 1, 0])]).unwrap();
        assert_eq!(y.to_i64(), [3, 4]);
        let y = run(GatherNd { batch_dims: 0 }, &[&x, &idx(&[1, 1], &[1])]).unwrap();
        assert_eq!((y.shape(), y.to_i64()), (&[1, 3][..], vec![4, 5, 6]));
        let y = run(GatherNd { batch_dims: 1 }, &[&x, &idx(&[2, 1], &[2, 1])]).unwrap();
        assert_eq!(y.to_i64(), [3, 5]);
        assert!(run(GatherNd { batch_dims: 0 }, &[&x, &idx(&[1, 3], &[0, 0, 0])]).is_err());
        assert!(run(GatherNd { batch_dims: 0 }, &[&x, &idx(&[1, 2], &[0, 3])]).is_err());
        assert!(run(GatherNd { batch_dims: usize::MAX }, &[&x, &idx(&[1, 2], &[0, 0])]).is_err());
    }

    #[test]
    fn scatter_table() {
        let x = ints(DType::I8, &[4], &[1, 2, 3, 127]);
        let (indices, updates) = (idx(&[3], &[3, 1, -1]), ints(DType::I8, &[3], &[2, 5, -1]));
        let cases: &[(ScatterFn, [i64; 4])] = &[
            (ScatterFn::None, [1, 5, 3, -1]),
            (ScatterFn::Add, [1, 7, 3, -128]),
            (ScatterFn::Mul, [1, 10, 3, 2]),
            (ScatterFn::Max, [1, 5, 3, 127]),
            (ScatterFn::Min, [1, 2, 3, -1]),
        ];
        for &(function, expected) in cases {
            let y = run(ScatterElements { axis: 0, function }, &[&x, &indices, &updates]).unwrap();
            assert_eq!(y.to_i64(), expected, "{function}");
            let tuples = indices.reshaped(&[3, 1]);
            assert_eq!(run(ScatterNd { function }, &[&x, &tuples, &updates]), Ok(y), "{function}");
        }
        let rows = Tensor::from_f32(&[2, 2], &[0.0, f32::NAN, -0.0, 1.0]);
        let update = Tensor::from_f32(&[1, 2], &[f32::NAN, 7.0]);
        let y = run(ScatterNd { function: ScatterFn::None }, &[&rows, &idx(&[1, 1], &[0]), &update]).unwrap();
        assert_eq!(y, Tensor::from_f32(&[2, 2], &[f32::NAN, 7.0, -0.0, 1.0]));
        let y = run(ScatterNd { function: ScatterFn::Max }, &[&rows, &idx(&[1, 1], &[1]), &update]).unwrap();
        assert!(y.to_f64()[2].is_nan() && y.to_f64()[3] == 7.0);
        let outside = run(
            ScatterElements { axis: 0, function: ScatterFn::None },
            &[&x, &idx(&[1], &[4]), &ints(DType::I8, &[1], &[0])],
        );
        assert!(matches!(outside, Err(EvalError::Value(text)) if text.contains("-4..=3")));
    }

    #[test]
    fn one_hot_table() {
        let (indices, values) = (idx(&[3], &[1, -1, 5]), Tensor::from_f32(&[2], &[-1.0, 9.0]));
        let y = run(OneHot { axis: 0, depth: 2.into() }, &[&indices, &values]).unwrap();
        assert_eq!((y.shape(), y.to_i64()), (&[2, 3][..], vec![-1, -1, -1, 9, 9, -1]));
        let y = run(OneHot { axis: 1, depth: 2.into() }, &[&indices, &values]).unwrap();
        assert_eq!((y.shape(), y.to_i64()), (&[3, 2][..], vec![-1, 9, -1, 9, -1, -1]));
        assert_eq!(run(OneHot { axis: 1, depth: 0.into() }, &[&indices, &values]).unwrap().shape(), [3, 0]);
        assert!(run(OneHot { axis: 2, depth: 2.into() }, &[&indices, &values]).is_err());
    }

    #[test]
    fn symbolic_shapes() {
        let ty = |dtype, dims: &[&str]| {
            TensorType::new(
                dtype,
                dims.iter().map(|d| d.parse::<i64>().map_or_else(|_| Extent::sym(*d), Extent::from)).collect(),
            )
        };
        let x = ty(DType::F32, &["n", "4"]);
        let infer = |op: Op, indices: &TensorType| op.infer(&[Some(&x), Some(indices)]).map(|t| t[0].to_string()).ok();
        assert_eq!(infer(Gather { axis: 0 }.into(), &ty(DType::I32, &["m", "2"])).as_deref(), Some("f32[m,2,4]"));
        assert_eq!(infer(Gather { axis: 0 }.into(), &ty(DType::F32, &["m"])), None);
        assert_eq!(infer(GatherElements { axis: 0 }.into(), &ty(DType::I64, &["m", "3"])).as_deref(), Some("f32[m,3]"));
        assert_eq!(infer(GatherElements { axis: 1 }.into(), &ty(DType::I64, &["m", "3"])), None);
        assert_eq!(infer(GatherNd { batch_dims: 0 }.into(), &ty(DType::I64, &["m", "k"])), None);
        assert_eq!(
            infer(GatherNd { batch_dims: 1 }.into(), &ty(DType::I64, &["n", "7", "1"])).as_deref(),
            Some("f32[n,7]")
        );
    }

    proptest! {
        #[test]
        fn gathering_what_was_scattered(len in 1usize..6, seed: u64) {
            let mut order: Vec<i128> = (0..len as i128).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut order);
            let updates = ints(DType::U8, &[len], &(10..10 + len as i128).collect::<Vec<_>>());
            let (indices, zeros) = (idx(&[len], &order), Tensor::zeros(DType::U8, &[len]));
            let there = run(ScatterElements { axis: 0, function: ScatterFn::None }, &[&zeros, &indices, &updates]).unwrap();
            prop_assert_eq!(run(Gather { axis: 0 }, &[&there, &indices]).unwrap(), updates);
        }
    }
}
