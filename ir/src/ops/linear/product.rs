//! Type rules and evaluation of matrix products.

use super::super::math::{Ring, by_ring};
use super::super::shape::{
    attribute, broadcast, broadcast_strides, concrete, need_broadcast_to, need_equal, need_number, need_rank,
    need_rank_from, need_same_dtype, walk,
};
use super::{Gemm, MatMul};
use crate::ops::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

impl OpDef for MatMul {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let dtype = need_same_dtype(inputs)?;
        need_number(0, a)?;
        Ok(vec![TensorType::new(dtype, infer_product(a, b, self.trans_a, self.trans_b)?)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let out = concrete(&types[0])?;
        Ok(vec![by_ring!(a.dtype(), matmul(self, a, b, &out))])
    }
}

/// Shape of a matrix product under NumPy's rules. Shared with the integer forms, which check dtypes themselves.
pub(in crate::ops) fn infer_product(
    a: &TensorType,
    b: &TensorType,
    trans_a: bool,
    trans_b: bool,
) -> Result<Shape, TypeError> {
    need_rank_from(0, a, if trans_a { 2 } else { 1 })?;
    need_rank_from(1, b, if trans_b { 2 } else { 1 })?;
    let (lead_a, m, k) = split(&a.shape, trans_a);
    let (lead_b, n, k_b) = split(&b.shape, !trans_b);
    need_equal("inner extents", &k_b, &k)?;
    let mut out = broadcast(lead_a, lead_b)?;
    out.extend(m);
    out.extend(n);
    Ok(out)
}

/// Leading axes, the axis that stays (none for vectors) and the summed axis of an operand.
fn split<T: Clone>(shape: &[T], summed_first: bool) -> (&[T], Option<T>, T) {
    let rank = shape.len();
    match shape {
        [only] => (&shape[..0], None, only.clone()),
        _ if summed_first => (&shape[..rank - 2], Some(shape[rank - 1].clone()), shape[rank - 2].clone()),
        _ => (&shape[..rank - 2], Some(shape[rank - 2].clone()), shape[rank - 1].clone()),
    }
}

fn matmul<T: Ring>(op: &MatMul, a: &Tensor, b: &Tensor, out: &[usize]) -> Tensor {
    let sums = multiply((&T::load(a), a.shape(), op.trans_a), (&T::load(b), b.shape(), op.trans_b));
    T::store(a.dtype(), out, &sums)
}

/// The matrix products of two operands (values, shape, transposed) whose shapes [`infer_product`] has accepted.
pub(in crate::ops) fn multiply<T: Ring>(a: (&[T], &[usize], bool), b: (&[T], &[usize], bool)) -> Vec<T> {
    let (lead_a, m, k) = split(a.1, a.2);
    let (lead_b, n, _) = split(b.1, !b.2);
    let (m, n) = (m.unwrap_or(1), n.unwrap_or(1));
    let left = straight(a.0, k, m, a.2);
    let right = straight(b.0, n, k, b.2);
    let lead = lead(lead_a, lead_b);
    let (strides_a, strides_b) = (broadcast_strides(lead_a, &lead), broadcast_strides(lead_b, &lead));
    let mut sums = vec![T::ZERO; lead.iter().product::<usize>() * m * n];
    let mut index = 0;
    walk(&lead, [&strides_a, &strides_b], |[i, j]| {
        let sums = &mut sums[index * m * n..][..m * n];
        product(&left[i * m * k..][..m * k], &right[j * k * n..][..k * n], [m, k, n], sums);
        index += 1;
    });
    sums
}

/// Concrete broadcasting of leading axes that are known to fit.
fn lead(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |index| shape[index]);
    (0..rank).map(|axis| if dim(a, axis) == 1 { dim(b, axis) } else { dim(a, axis) }).collect()
}

/// The matrices with rows of `columns` elements; transposed ones are turned round.
fn straight<T: Ring>(values: &[T], columns: usize, rows: usize, transposed: bool) -> Vec<T> {
    if !transposed || rows * columns == 0 {
        return values.to_vec();
    }
    let turn =
        |matrix: &[T]| -> Vec<T> { (0..rows * columns).map(|i| matrix[(i % columns) * rows + i / columns]).collect() };
    values.chunks_exact(rows * columns).flat_map(turn).collect()
}

/// `sums += a[m, k] · b[k, n]`, in the order of `k`.
fn product<T: Ring>(a: &[T], b: &[T], [_, k, n]: [usize; 3], sums: &mut [T]) {
    if k == 0 || n == 0 {
        return;
    }
    for (row, sums) in a.chunks_exact(k).zip(sums.chunks_exact_mut(n)) {
        for (&factor, b) in row.iter().zip(b.chunks_exact(n)) {
            sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum = sum.add_product(factor, b));
        }
    }
}

impl OpDef for Gemm {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let dtype = need_same_dtype(inputs)?;
        need_number(0, a)?;
        need_rank(0, a, 2)?;
        need_rank(1, b, 2)?;
        let out = infer_product(a, b, self.trans_a, self.trans_b)?;
        if let Some(c) = inputs.get(2) {
            need_broadcast_to("c", &c.shape, &out)?;
        }
        for (name, factor) in [("alpha", self.alpha.get()), ("beta", self.beta.get())] {
            if dtype.is_int() && (factor.trunc() != factor || factor.abs() > 2f64.powi(53)) {
                return Err(attribute(name, factor, "an integer, as the operands are"));
            }
        }
        Ok(vec![TensorType::new(dtype, out)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let out = concrete(&types[0])?;
        let (a, b, c) = (inputs.need(0)?, inputs.need(1)?, inputs.get(2));
        let factors = (self.alpha.get(), self.beta.get());
        Ok(vec![if a.dtype().is_float() {
            gemm::<f64>(self, (a, b, c), factors, &out)
        } else {
            gemm::<i128>(self, (a, b, c), (factors.0 as i128, factors.1 as i128), &out)
        }])
    }
}

fn gemm<T: Ring>(
    op: &Gemm,
    (a, b, c): (&Tensor, &Tensor, Option<&Tensor>),
    (alpha, beta): (T, T),
    out: &[usize],
) -> Tensor {
    let (left, right) = (T::load(a), T::load(b));
    let mut sums = multiply((&left, a.shape(), op.trans_a), (&right, b.shape(), op.trans_b));
    sums.iter_mut().for_each(|sum| *sum = sum.times(alpha));
    if let Some(c) = c {
        let (values, strides) = (T::load(c), broadcast_strides(c.shape(), out));
        let mut index = 0;
        walk(out, [&strides], |[offset]| {
            sums[index] = sums[index].add_product(beta, values[offset]);
            index += 1;
        });
    }
    T::store(a.dtype(), out, &sums)
}
