//! Reductions, scans and selections along axes.

use std::cmp::Ordering;

use super::math::{Ring, by_ring};
use super::shape::{
    Around, attribute, broadcast_strides, concrete, mismatch, need_axis, need_dtype, need_number, walk,
};
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::extent::Extent;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::{word_attribute, word_enum};

word_enum! {
    /// What a [`Reduce`] computes.
    pub enum ReduceFn {
        /// Σ x.
        Sum = "sum",
        /// Arithmetic mean (integers: truncated quotient).
        Mean = "mean",
        /// Largest; NaN wins.
        Max = "max",
        /// Smallest; NaN wins.
        Min = "min",
        /// Π x.
        Prod = "prod",
        /// Σ |x|.
        L1 = "l1",
        /// √Σ x².
        L2 = "l2",
        /// ln Σ x.
        LogSum = "log_sum",
        /// ln Σ exp x, computed without overflow.
        LogSumExp = "log_sum_exp",
        /// Σ x².
        SumSquare = "sum_square",
    }
}
word_attribute!(ReduceFn);

op! {
    /// Reduction over axes. Source: ONNX `Reduce*`, and `GlobalAveragePool`/`GlobalMaxPool`, which are the same thing.
    pub struct Reduce = "reduce" (1..=1) {
        /// What is computed.
        function: ReduceFn,
        /// Sorted, non-negative; empty reduces nothing (the function is still applied to each element).
        axes: Vec<usize>,
        /// Reduced axes stay with extent 1.
        keep_dims: bool,
    }
}

op! {
    /// Position of the largest or smallest element along an axis: `i64`. Source: ONNX `ArgMax`, `ArgMin`.
    pub struct ArgReduce = "arg_reduce" (1..=1) {
        /// `max` or `min`.
        function: ReduceFn,
        /// Non-negative.
        axis: usize,
        /// The axis stays with extent 1.
        keep_dims: bool,
        /// The last of equals instead of the first.
        last: bool,
    }
}

op! {
    /// Running sum along an axis. Source: ONNX `CumSum` with a constant axis.
    pub struct CumSum = "cum_sum" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// The element itself does not count.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    }
}

op! {
    /// Running product along an axis. Source: ONNX `CumProd` with a constant axis.
    pub struct CumProd = "cum_prod" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// Each element is the product of those before it, itself left out.
        exclusive: bool,
        /// From the end instead of the start.
        reverse: bool,
    }
}

op! {
    /// The `k` largest (or smallest) elements along an axis and their `i64` positions, ties by lower position; two results.
    ///
    /// Source: ONNX `TopK`; the order is always sorted, which `sorted = 0` permits.
    pub struct TopK = "top_k" (1..=1) {
        /// How many.
        k: Extent,
        /// Non-negative.
        axis: usize,
        /// Smallest instead of largest.
        smallest: bool,
    }
}

impl ReduceFn {
    fn accepts(self, dtype: DType) -> bool {
        matches!(self, Self::Max | Self::Min) || dtype != DType::Bool
    }

    /// Whether the accumulated value of integers is a real number, truncated at the end.
    fn is_real(self) -> bool {
        matches!(self, Self::L2 | Self::LogSum | Self::LogSumExp)
    }
}

impl OpDef for Reduce {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_dtype(0, x, |d| self.function.accepts(d), "a floating-point or integer type")?;
        for (position, &axis) in self.axes.iter().enumerate() {
            need_axis("axes", axis, x)?;
            if position > 0 && self.axes[position - 1] >= axis {
                return Err(attribute("axes", format!("{:?}", self.axes), "sorted axes without repeats"));
            }
        }
        let keep = |axis: usize| match (self.axes.contains(&axis), self.keep_dims) {
            (false, _) => Some(x.shape[axis].clone()),
            (true, true) => Some(Extent::ONE),
            (true, false) => None,
        };
        Ok(vec![TensorType::new(x.dtype, (0..x.rank()).filter_map(keep).collect())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(&types[0])?);
        let dtype = x.dtype();
        let count = self.axes.iter().map(|&axis| x.shape()[axis]).product();
        Ok(vec![if dtype.is_float() {
            Tensor::from_f64(dtype, &out, &self.reduce_f64(&x.to_f64(), x.shape(), count))
        } else if self.function.is_real() {
            let values = self.reduce_f64(&x.to_f64(), x.shape(), count);
            Tensor::from_f64(dtype, &out, &values.into_iter().map(f64::trunc).collect::<Vec<_>>())
        } else {
            i128::store(dtype, &out, &self.reduce_int(dtype, &x.to_ints(), x.shape(), count))
        }])
    }
}

impl Reduce {
    /// Folds the elements that share a place in the result, in row-major order, each from `init`.
    fn fold<T: Copy>(&self, values: &[T], shape: &[usize], init: T, step: impl Fn(T, T) -> T) -> Vec<T> {
        self.fold_at(values, shape, init, |acc, v, _| step(acc, v))
    }

    /// [`Reduce::fold`] whose step also sees the place in the result.
    fn fold_at<T: Copy>(&self, values: &[T], shape: &[usize], init: T, step: impl Fn(T, T, usize) -> T) -> Vec<T> {
        let mut kept = shape.to_vec();
        self.axes.iter().for_each(|&axis| kept[axis] = 1);
        let places = broadcast_strides(&kept, shape);
        let mut results = vec![init; kept.iter().product()];
        let mut index = 0;
        walk(shape, [&places], |[place]| {
            results[place] = step(results[place], values[index], place);
            index += 1;
        });
        results
    }

    fn reduce_f64(&self, values: &[f64], shape: &[usize], count: usize) -> Vec<f64> {
        let fold = |init: f64, step: fn(f64, f64) -> f64| self.fold(values, shape, init, step);
        let then = |mut results: Vec<f64>, last: &dyn Fn(f64) -> f64| {
            results.iter_mut().for_each(|v| *v = last(*v));
            results
        };
        match self.function {
            ReduceFn::Sum => fold(0.0, |a, v| a + v),
            ReduceFn::Mean => then(fold(0.0, |a, v| a + v), &|sum| sum / count as f64),
            ReduceFn::Max => fold(f64::NEG_INFINITY, f64::larger),
            ReduceFn::Min => fold(f64::INFINITY, f64::smaller),
            ReduceFn::Prod => fold(1.0, |a, v| a * v),
            ReduceFn::L1 => fold(0.0, |a, v| a + v.abs()),
            ReduceFn::L2 => then(fold(0.0, |a, v| a + v * v), &f64::sqrt),
            ReduceFn::LogSum => then(fold(0.0, |a, v| a + v), &f64::ln),
            ReduceFn::SumSquare => fold(0.0, |a, v| a + v * v),
            ReduceFn::LogSumExp => {
                let largest = fold(f64::NEG_INFINITY, f64::larger);
                // An infinite shift would turn the sum into NaN; then the sum decides by itself.
                let shift = |place: usize| if largest[place].is_finite() { largest[place] } else { 0.0 };
                let sums = self.fold_at(values, shape, 0.0, |a, v, place| a + (v - shift(place)).exp());
                sums.into_iter().enumerate().map(|(place, sum)| sum.ln() + shift(place)).collect()
            }
        }
    }

    fn reduce_int(&self, dtype: DType, values: &[i128], shape: &[usize], count: usize) -> Vec<i128> {
        let (lowest, highest) = dtype.int_range().unwrap_or_default();
        let fold = |init: i128, step: fn(i128, i128) -> i128| self.fold(values, shape, init, step);
        match self.function {
            ReduceFn::Mean => {
                let sums = fold(0, |a, v| a + v);
                sums.into_iter().map(|sum| sum.checked_div(count as i128).unwrap_or(0)).collect()
            }
            ReduceFn::Max => fold(lowest, i128::max),
            ReduceFn::Min => fold(highest, i128::min),
            ReduceFn::Prod => fold(1, i128::wrapping_mul),
            ReduceFn::L1 => fold(0, |a, v| a + v.abs()),
            ReduceFn::SumSquare => fold(0, |a, v| a.add_product(v, v)),
            ReduceFn::Sum | ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp => fold(0, |a, v| a + v),
        }
    }
}

impl OpDef for ArgReduce {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_number(0, x)?;
        need_axis("axis", self.axis, x)?;
        if !matches!(self.function, ReduceFn::Max | ReduceFn::Min) {
            return Err(attribute("function", self.function, "`max` or `min`"));
        }
        if x.shape[self.axis] == Extent::ZERO {
            return Err(mismatch("reduced axis", 0, "1 or more"));
        }
        let mut shape = x.shape.clone();
        if self.keep_dims {
            shape[self.axis] = Extent::ONE;
        } else {
            shape.remove(self.axis);
        }
        Ok(vec![TensorType::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(&types[0])?);
        Ok(vec![by_ring!(x.dtype(), arg_reduce(self, x, &out))])
    }
}

fn arg_reduce<T: Ring>(op: &ArgReduce, x: &Tensor, out: &[usize]) -> Tensor {
    let values = T::load(x);
    let around = Around::axis(x.shape(), op.axis);
    let best = |row: usize| {
        (1..around.len).fold(0, |best, i| {
            let at = |i: usize| values[row + i * around.inner];
            let order = rank(at(i), at(best), op.function == ReduceFn::Min);
            if order.is_lt() || (order.is_eq() && op.last) { i } else { best }
        })
    };
    let places: Vec<i128> = around.rows().map(|row| best(row) as i128).collect();
    Tensor::from_ints(DType::I64, out, &places)
}

/// `Less` when `a` comes before `b`: the larger (or smaller) first, NaN before all.
fn rank<T: Ring>(a: T, b: T, smallest: bool) -> Ordering {
    let order = if smallest { a.partial_cmp(&b) } else { b.partial_cmp(&a) };
    // Only NaN is unordered, also with itself.
    let is_nan = |v: &T| v.partial_cmp(v).is_none();
    order.unwrap_or_else(|| is_nan(&b).cmp(&is_nan(&a)))
}

/// Operators whose element is a function of those before it along an axis.
macro_rules! running_op {
    ($($Name:ident: $start:ident, $step:ident;)*) => { $(
        impl OpDef for $Name {
            fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
                let x = inputs.need(0)?;
                need_number(0, x)?;
                need_axis("axis", self.axis, x)?;
                Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
            }

            fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
                fn apply<T: Ring>(op: &$Name, x: &Tensor) -> Tensor {
                    running(x, op.axis, op.exclusive, op.reverse, T::$start, T::$step)
                }
                let x = inputs.need(0)?;
                Ok(vec![by_ring!(x.dtype(), apply(self, x))])
            }
        }
    )* };
}

running_op! {
    CumSum: ZERO, plus;
    CumProd: ONE, times;
}

fn running<T: Ring>(x: &Tensor, axis: usize, exclusive: bool, reverse: bool, start: T, step: fn(T, T) -> T) -> Tensor {
    let mut values = T::load(x);
    let around = Around::axis(x.shape(), axis);
    for row in around.rows() {
        let mut total = start;
        for position in 0..around.len {
            let index = row + around.inner * if reverse { around.len - 1 - position } else { position };
            let before = total;
            total = step(total, values[index]);
            values[index] = if exclusive { before } else { total };
        }
    }
    T::store(x.dtype(), x.shape(), &values)
}

impl OpDef for TopK {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_number(0, x)?;
        need_axis("axis", self.axis, x)?;
        let room = (x.shape[self.axis].clone() - self.k.clone()).as_const();
        if room.is_some_and(|room| room < 0) || self.k.as_const().is_some_and(|k| k < 0) {
            return Err(attribute("k", &self.k, format!("0 to {}", x.shape[self.axis])));
        }
        let mut shape = x.shape.clone();
        shape[self.axis] = self.k.clone();
        Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, out) = (inputs.need(0)?, concrete(&types[0])?);
        Ok(by_ring!(x.dtype(), top_k(self, x, &out)))
    }
}

fn top_k<T: Ring>(op: &TopK, x: &Tensor, out: &[usize]) -> Vec<Tensor> {
    let values = T::load(x);
    let (from, to) = (Around::axis(x.shape(), op.axis), Around::axis(out, op.axis));
    let elems = out.iter().product();
    let (mut best, mut places) = (vec![T::ZERO; elems], vec![0i128; elems]);
    for (source, target) in from.rows().zip(to.rows()) {
        let at = |i: usize| values[source + i * from.inner];
        let mut order: Vec<usize> = (0..from.len).collect();
        order.sort_by(|&i, &j| rank(at(i), at(j), op.smallest)); // stable: ties by lower position
        for (position, &i) in order.iter().take(to.len).enumerate() {
            best[target + position * to.inner] = at(i);
            places[target + position * to.inner] = i as i128;
        }
    }
    vec![T::store(x.dtype(), out, &best), Tensor::from_ints(DType::I64, out, &places)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn eval(op: impl Into<Op>, x: &Tensor) -> Vec<Tensor> {
        op.into().eval(&[Some(x)], &|_| None).unwrap()
    }

    fn reduce(function: ReduceFn, axes: &[usize], x: &Tensor) -> Tensor {
        eval(Reduce { function, axes: axes.to_vec(), keep_dims: false }, x).remove(0)
    }

    #[test]
    fn reductions_of_floats() {
        use ReduceFn::*;
        let x = Tensor::from_f32(&[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, 6.0]);
        let cases: &[(ReduceFn, [f64; 2])] = &[
            (Sum, [2.0, 15.0]),
            (Mean, [f64::from(2.0f32 / 3.0), 5.0]),
            (Max, [3.0, 6.0]),
            (Min, [-2.0, 4.0]),
            (Prod, [-6.0, 120.0]),
            (L1, [6.0, 15.0]),
            (SumSquare, [14.0, 77.0]),
            (L2, [f64::from(14f64.sqrt() as f32), f64::from(77f64.sqrt() as f32)]),
        ];
        for (function, expected) in cases {
            assert_eq!(reduce(*function, &[1], &x).to_f64(), expected, "{function}");
        }
        assert_eq!(reduce(Sum, &[0], &x).to_f64(), [5.0, 3.0, 9.0]);
        assert_eq!(reduce(Sum, &[0, 1], &x).to_f64(), [17.0]);
        assert_eq!(reduce(L1, &[], &x).to_f64()[1], 2.0);
    }

    #[test]
    fn reductions_at_the_edges() {
        use ReduceFn::*;
        let empty = Tensor::from_f32(&[2, 0], &[]);
        assert_eq!(reduce(Sum, &[1], &empty).to_f64(), [0.0; 2]);
        assert_eq!(reduce(Max, &[1], &empty).to_f64(), [f64::NEG_INFINITY; 2]);
        assert_eq!(reduce(LogSumExp, &[1], &empty).to_f64(), [f64::NEG_INFINITY; 2]);
        let big = Tensor::from_f32(&[2], &[1000.0, 1000.0]);
        assert_eq!(reduce(LogSumExp, &[0], &big).to_f64(), [f64::from((1000.0 + 2f64.ln()) as f32)]);
        let x = Tensor::from_f32(&[2], &[f32::NAN, 1.0]);
        assert!(reduce(Max, &[0], &x).to_f64()[0].is_nan() && reduce(Min, &[0], &x).to_f64()[0].is_nan());
        let bytes = Tensor::from_ints(DType::I8, &[3], &[100, 100, -7]);
        assert_eq!(reduce(Sum, &[0], &bytes).to_ints(), [-63]);
        assert_eq!(reduce(Mean, &[0], &bytes).to_ints(), [64]);
        assert_eq!(reduce(Max, &[0], &Tensor::from_ints(DType::Bool, &[2], &[0, 1])).to_ints(), [1]);
        let axes = |axes: &[usize]| Op::from(Reduce { function: Sum, axes: axes.to_vec(), keep_dims: true });
        assert!(axes(&[1]).infer(&[Some(&x.ty())]).is_err() && axes(&[0, 0]).infer(&[Some(&x.ty())]).is_err());
    }

    #[test]
    fn positions() {
        let x = Tensor::from_f32(&[2, 4], &[3.0, 9.0, 9.0, 1.0, 5.0, f32::NAN, 7.0, f32::NAN]);
        let arg = |function, last| ArgReduce { function, axis: 1, keep_dims: false, last };
        assert_eq!(eval(arg(ReduceFn::Max, false), &x)[0].to_ints(), [1, 1]);
        assert_eq!(eval(arg(ReduceFn::Max, true), &x)[0].to_ints(), [2, 3]);
        assert_eq!(eval(arg(ReduceFn::Min, false), &x)[0].to_ints(), [3, 1]);
        let top = eval(TopK { k: 2.into(), axis: 1, smallest: false }, &x);
        assert_eq!(top[1].to_ints(), [1, 2, 1, 3]);
        assert_eq!(top[0].to_f64()[..2], [9.0, 9.0]);
        let low =
            eval(TopK { k: 1.into(), axis: 0, smallest: true }, &Tensor::from_ints(DType::I32, &[3], &[2, -5, 4]));
        assert_eq!((low[0].to_ints(), low[1].to_ints()), (vec![-5], vec![1]));
        assert!(Op::from(TopK { k: 5.into(), axis: 1, smallest: false }).infer(&[Some(&x.ty())]).is_err());
    }

    #[test]
    fn running_sums() {
        let x = Tensor::from_ints(DType::I32, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let sum = |axis, exclusive, reverse| eval(CumSum { axis, exclusive, reverse }, &x)[0].to_ints();
        assert_eq!(sum(1, false, false), [1, 3, 6, 4, 9, 15]);
        assert_eq!(sum(1, true, true), [5, 3, 0, 11, 6, 0]);
        assert_eq!(sum(0, false, false), [1, 2, 3, 5, 7, 9]);
    }
}
