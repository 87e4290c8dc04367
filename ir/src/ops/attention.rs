//! Attention and rotary position embedding as whole operators.

use super::norm::softmax;
use super::shape::{
    attribute, broadcast_strides, concrete, mismatch, need_broadcast_to, need_dtype, need_equal, need_float, need_rank,
    need_shape,
};
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::attrs::F64;
use crate::extent::Extent;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

op! {
    /// `softmax(scale · Q·Kᵀ + mask) · V` over heads; operands `q[b, hq, s, d], k[b, hk, t, d], v[b, hk, t, dv], mask?`
    /// with `hk` dividing `hq`; result `[b, hq, s, dv]`.
    ///
    /// Source: ONNX `Attention` (opset 23) with rank-4 operands, without the KV-cache operands and extra results.
    pub struct Attention = "attention" (3..=4) {
        /// Factor of `Q·Kᵀ`.
        scale: F64,
        /// Position `s` sees only `t <= s`.
        causal: bool,
        /// `softcap · tanh(x / softcap)` on the scores; 0 for none.
        softcap: F64,
    }
}

op! {
    /// Rotates pairs of the last axis; operands `x[b, h, s, d], cos, sin, position_ids?`. Source: ONNX `RotaryEmbedding` (opset 23).
    pub struct RotaryEmbedding = "rotary_embedding" (3..=4) {
        /// Pairs are neighbours instead of halves.
        interleaved: bool,
        /// Leading elements of the last axis that are rotated; 0 for all.
        rotary_dim: i64,
    }
}

impl OpDef for Attention {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let [q, k, v] = [inputs.need(0)?, inputs.need(1)?, inputs.need(2)?];
        for (index, ty) in [q, k, v].into_iter().enumerate() {
            need_float(index, ty)?;
            need_dtype(index, ty, |d| d == q.dtype, q.dtype.name())?;
            need_rank(index, ty, 4)?;
        }
        need_equal("batch of k", &k.shape[0], &q.shape[0])?;
        need_equal("head size of k", &k.shape[3], &q.shape[3])?;
        for (axis, what) in ["batch of v", "heads of v", "length of v"].into_iter().enumerate() {
            need_equal(what, &v.shape[axis], &k.shape[axis])?;
        }
        let (hq, hk) = (&q.shape[1], &k.shape[1]);
        if hk.as_const() == Some(0) || hq.modulo(hk) != Extent::ZERO {
            return Err(mismatch("heads of k", hk, format!("a divisor of the {hq} heads of q")));
        }
        if let Some(mask) = inputs.get(3) {
            need_dtype(3, mask, |d| d == DType::Bool || d.is_float(), "bool or a floating-point type")?;
            let scores = [q.shape[0].clone(), hq.clone(), q.shape[2].clone(), k.shape[2].clone()];
            need_broadcast_to("mask", &mask.shape, &scores)?;
        }
        let shape = vec![q.shape[0].clone(), hq.clone(), q.shape[2].clone(), v.shape[3].clone()];
        Ok(vec![TensorType::new(q.dtype, shape)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let [q, k, v] = [inputs.need(0)?, inputs.need(1)?, inputs.need(2)?];
        let out = concrete(&types[0])?;
        let (&[b, hq, s, d], &[_, hk, t, _]) = (q.shape(), k.shape()) else {
            return Err(EvalError::Value("operands are not of rank 4".into()));
        };
        let dv = out[3];
        let [qs, ks, vs] = [q, k, v].map(Tensor::to_f64);
        let mask = inputs.get(3).map(|m| Mask::new(m, &[b, hq, s, t]));
        let mut result = vec![0.0; b * hq * s * dv];
        let mut scores = vec![0.0; t];
        for row in 0..b * hq * s {
            let (head, position) = (row / s, row % s);
            let (batch, head) = (head / hq, head % hq);
            let other = (batch * hk + head / (hq / hk)) * t;
            for (j, score) in scores.iter_mut().enumerate() {
                let dot: f64 = qs[row * d..][..d].iter().zip(&ks[(other + j) * d..][..d]).map(|(q, k)| q * k).sum();
                let masked = mask.as_ref().map_or(0.0, |m| m.at([batch, head, position, j]));
                *score = self.score(dot, masked, position, j);
            }
            attend(&mut scores);
            let sums = &mut result[row * dv..][..dv];
            for (j, score) in scores.iter().enumerate() {
                sums.iter_mut().zip(&vs[(other + j) * dv..][..dv]).for_each(|(sum, v)| *sum += score * v);
            }
        }
        Ok(vec![Tensor::from_f64(q.dtype(), &out, &result)])
    }
}

impl Attention {
    /// What enters the softmax for query `s` and key `t`; the mask is added behind the soft cap, as ONNX does.
    fn score(&self, dot: f64, mask: f64, s: usize, t: usize) -> f64 {
        if self.causal && t > s {
            return f64::NEG_INFINITY;
        }
        let (scaled, cap) = (self.scale.get() * dot, self.softcap.get());
        mask + if cap > 0.0 { cap * (scaled / cap).tanh() } else { scaled }
    }
}

/// Softmax in place; a row that is masked throughout attends to nothing instead of becoming NaN.
fn attend(scores: &mut [f64]) {
    if scores.iter().all(|&score| score == f64::NEG_INFINITY) {
        scores.fill(0.0);
    } else {
        softmax(scores);
    }
}

/// An additive mask; false is minus infinity.
struct Mask {
    values: Vec<f64>,
    strides: Vec<usize>,
}

impl Mask {
    fn new(mask: &Tensor, shape: &[usize]) -> Self {
        let boolean = mask.dtype() == DType::Bool;
        let value = |v: f64| match (boolean, v) {
            (true, 0.0) => f64::NEG_INFINITY,
            (true, _) => 0.0,
            (false, v) => v,
        };
        let values = mask.to_f64().into_iter().map(value).collect();
        Self { values, strides: broadcast_strides(mask.shape(), shape) }
    }

    fn at(&self, index: [usize; 4]) -> f64 {
        self.values[index.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<usize>()]
    }
}

impl OpDef for RotaryEmbedding {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let [x, cos, sin] = [inputs.need(0)?, inputs.need(1)?, inputs.need(2)?];
        for (index, ty) in [x, cos, sin].into_iter().enumerate() {
            need_float(index, ty)?;
            need_dtype(index, ty, |d| d == x.dtype, x.dtype.name())?;
        }
        need_rank(0, x, 4)?;
        let d = x.shape[3].as_const().ok_or_else(|| mismatch("head size", &x.shape[3], "a constant"))?;
        let rotated = if self.rotary_dim == 0 { d } else { self.rotary_dim };
        if rotated < 0 || rotated > d || rotated % 2 != 0 {
            return Err(attribute("rotary_dim", rotated, format!("an even number up to the head size {d}")));
        }
        let (b, s, half) = (x.shape[0].clone(), x.shape[2].clone(), Extent::from(rotated / 2));
        match inputs.get(3) {
            None => need_shape("cos", cos, &[b, s, half])?,
            Some(ids) => {
                need_dtype(3, ids, |d| d == DType::I64, "i64")?;
                need_shape("position ids", ids, &[b, s])?;
                need_rank(1, cos, 2)?;
                need_equal("columns of cos", &cos.shape[1], &half)?;
            }
        }
        need_shape("sin", sin, &cos.shape)?;
        Ok(vec![TensorType::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let [x, cos, sin] = [inputs.need(0)?, inputs.need(1)?, inputs.need(2)?];
        let &[b, h, s, d] = x.shape() else { return Err(EvalError::Value("operand is not of rank 4".into())) };
        let rows = positions(inputs.get(3), b * s, cos.shape()[0])?;
        let (cos, sin, half) = (cos.to_f64(), sin.to_f64(), cos.shape()[cos.shape().len() - 1]);
        let mut values = x.to_f64();
        for (row, head) in values.chunks_exact_mut(d.max(1)).enumerate() {
            let at = rows[row / (h * s) * s + row % s] * half;
            for i in 0..half {
                let (first, second) = if self.interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
                let (a, b) = (head[first], head[second]);
                head[first] = a * cos[at + i] - b * sin[at + i];
                head[second] = a * sin[at + i] + b * cos[at + i];
            }
        }
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &values)])
    }
}

/// The row of the tables for every position of every image.
fn positions(ids: Option<&Tensor>, count: usize, rows: usize) -> Result<Vec<usize>, EvalError> {
    let Some(ids) = ids else { return Ok((0..count).collect()) };
    let row = |id: i64| {
        let found = usize::try_from(id).ok().filter(|&id| id < rows);
        found.ok_or_else(|| EvalError::Value(format!("position id {id} is outside the {rows} rows of `cos`")))
    };
    ids.to_i64().into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    fn eval(op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|t| Some(*t)).collect();
        op.into().eval(&inputs, &|_| None).unwrap().pop().unwrap()
    }

    #[test]
    fn attention_with_groups_and_masks() {
        // Two query heads share one key head; scores are 0 or ln 3, so weights are quarters.
        let q = Tensor::from_f64(DType::F64, &[1, 2, 2, 1], &[0.0, 1.0, 1.0, 0.0]);
        let k = Tensor::from_f64(DType::F64, &[1, 1, 2, 1], &[0.0, 3f64.ln()]);
        let v = Tensor::from_f64(DType::F64, &[1, 1, 2, 1], &[4.0, 8.0]);
        let op = |causal, softcap: f64| Attention { scale: 1.0.into(), causal, softcap: softcap.into() };
        let near =
            |t: Tensor, e: &[f64]| assert!(t.to_f64().iter().zip(e).all(|(a, b)| (a - b).abs() < 1e-12), "{t:?}");
        near(eval(op(false, 0.0), &[&q, &k, &v]), &[6.0, 7.0, 7.0, 6.0]);
        near(eval(op(true, 0.0), &[&q, &k, &v]), &[4.0, 7.0, 4.0, 6.0]);
        let mask = Tensor::from_ints(DType::Bool, &[2, 2], &[0, 1, 0, 0]);
        near(eval(op(false, 0.0), &[&q, &k, &v, &mask]), &[8.0, 0.0, 8.0, 0.0]);
        let shift = Tensor::from_f64(DType::F64, &[2], &[3f64.ln(), 0.0]);
        near(eval(op(false, 0.0), &[&q, &k, &v, &shift]), &[5.0, 6.0, 6.0, 5.0]);
        let capped = 4.0 + 4.0 / (1.0 + (-(3f64.ln().tanh())).exp());
        near(eval(op(false, 1.0), &[&q, &k, &v]), &[6.0, capped, capped, 6.0]);
    }

    #[test]
    fn rotary_halves_and_neighbours() {
        let x = Tensor::from_f32(&[1, 1, 1, 6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (cos, sin) = (Tensor::from_f32(&[1, 1, 2], &[0.0, 1.0]), Tensor::from_f32(&[1, 1, 2], &[1.0, 0.0]));
        let op = |interleaved| RotaryEmbedding { interleaved, rotary_dim: 4 };
        assert_eq!(eval(op(false), &[&x, &cos, &sin]).to_f64(), [-3.0, 2.0, 1.0, 4.0, 5.0, 6.0]);
        assert_eq!(eval(op(true), &[&x, &cos, &sin]).to_f64(), [-2.0, 1.0, 3.0, 4.0, 5.0, 6.0]);
        let (cos, sin) = (cos.reshaped(&[1, 2]), sin.reshaped(&[1, 2]));
        let ids = |id| Tensor::from_ints(DType::I64, &[1, 1], &[id]);
        assert_eq!(eval(op(true), &[&x, &cos, &sin, &ids(0)]).to_f64()[0], -2.0);
        let outside = Op::from(op(true)).eval(&[Some(&x), Some(&cos), Some(&sin), Some(&ids(1))], &|_| None);
        assert!(matches!(outside, Err(EvalError::Value(_))));
    }
}
