//! Conversions and selection.

use super::elems::{Elems, Gathered};
use super::shape::{attribute, broadcast_all, broadcast_strides, concrete, need_dtype, walk};
use super::{EvalError, OpDef, Operands, TypeError, op};

use crate::minifloat::Minifloat;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

op! {
    /// Converts elements: float to integer truncates (out of range saturates, or wraps to four bits; NaN gives 0), integer to
    /// narrower integer wraps, anything to `bool` is `x != 0`, to a float rounds to nearest even (to one of 8 bits, what is
    /// out of range becomes the largest). Source: ONNX `Cast`.
    pub struct Cast = "cast" (1..=1) {
        /// Dtype of the result.
        to: DType,
    }
}

op! {
    /// The bits of the elements as another dtype of their width. Source: ONNX `BitCast`.
    pub struct BitCast = "bit_cast" (1..=1) {
        /// Dtype of the result.
        to: DType,
    }
}

op! {
    /// `condition ? x : y` with broadcasting of all three. Source: ONNX `Where`.
    pub struct Where = "where" (3..=3) {}
}

impl OpDef for Cast {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Ok(vec![TensorType::new(self.to, inputs.need(0)?.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![cast(inputs.need(0)?, self.to)])
    }
}

/// See [`Cast`].
pub(super) fn cast(x: &Tensor, to: DType) -> Tensor {
    let (from, shape) = (x.dtype(), x.shape());
    if from == to {
        return x.clone();
    }
    match (from.is_float(), to.is_float()) {
        // By way of a number that holds all of theirs.
        _ if Minifloat::of(from).is_some() => cast(&Tensor::from_f64(DType::F32, shape, &x.to_f64()), to),
        _ if Minifloat::of(to).is_some() => {
            let finite: Vec<f64> = x.to_f64().into_iter().map(|v| v.clamp(f64::MIN, f64::MAX)).collect();
            Tensor::from_f64(to, shape, &finite)
        }
        (true, true) => Tensor::from_f64(to, shape, &x.to_f64()),
        (true, false) if to == DType::Bool => Tensor::from_f64(to, shape, &x.to_f64()),
        // Four bits wrap, as the operator's specification says; wider integers saturate.
        (true, false) if to.bits() < 8 => {
            let limit = |v: i128| v.clamp(i32::MIN.into(), i32::MAX.into());
            Tensor::from_ints_wrapping(to, shape, &x.to_ints().into_iter().map(limit).collect::<Vec<_>>())
        }
        (true, false) => Tensor::from_ints(to, shape, &x.to_ints()),
        // One rounding: by way of `f64` a 64-bit integer would be rounded twice.
        (false, true) if to == DType::F32 => {
            Tensor::from_f32(shape, &x.to_ints().into_iter().map(|v| v as f32).collect::<Vec<_>>())
        }
        (false, true) => Tensor::from_ints(to, shape, &x.to_ints()),
        (false, false) => Tensor::from_ints_wrapping(to, shape, &x.to_ints()),
    }
}

impl OpDef for BitCast {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        if x.dtype.bits() != self.to.bits() {
            return Err(attribute("to", self.to.name(), format!("a dtype of {} bits", x.dtype.bits())));
        }
        Ok(vec![TensorType::new(self.to, x.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let cast = Tensor::new(self.to, x.shape().to_vec(), x.bytes().to_vec());
        Ok(vec![cast.map_err(|error| EvalError::Value(error.to_string()))?])
    }
}

impl OpDef for Where {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, y) = (inputs.need(1)?, inputs.need(2)?);
        need_dtype(0, inputs.need(0)?, |d| d == DType::Bool, "bool")?;
        need_dtype(2, y, |d| d == x.dtype, x.dtype.name())?;
        Ok(vec![TensorType::new(x.dtype, broadcast_all(inputs)?)])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (condition, x, y) = (inputs.need(0)?, inputs.need(1)?, inputs.need(2)?);
        let shape = concrete(&types[0])?;
        let steps = [condition, x, y].map(|t| broadcast_strides(t.shape(), &shape));
        let (xs, ys) = (Elems::of(x), Elems::of(y));
        let mut result = Gathered::new(x.dtype());
        walk(&shape, [&steps[0], &steps[1], &steps[2]], |[c, x, y]| {
            result.push(if condition.bytes()[c] != 0 { xs.get(x) } else { ys.get(y) });
        });
        Ok(vec![result.finish(&shape)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;

    #[test]
    fn cast_table() {
        let floats = Tensor::from_f32(&[8], &[1.9, -1.9, f32::NAN, f32::INFINITY, -1e30, -0.0, 300.0, 0.4]);
        let cases: &[(DType, [i128; 8])] = &[
            (DType::I8, [1, -1, 0, 127, -128, 0, 127, 0]),
            (DType::U8, [1, 0, 0, 255, 0, 0, 255, 0]),
            (DType::I4, [1, -1, 0, -1, 0, 0, -4, 0]),
            (DType::I64, [1, -1, 0, i64::MAX as i128, i64::MIN as i128, 0, 300, 0]),
            (DType::Bool, [1, 1, 1, 1, 1, 0, 1, 1]),
        ];
        for (to, expected) in cases {
            assert_eq!(cast(&floats, *to).to_ints(), expected, "{to}");
        }
        let ints = Tensor::from_ints(DType::I32, &[4], &[-1, 256, 511, -129]);
        assert_eq!(cast(&ints, DType::U8).to_ints(), [255, 0, 255, 127]);
        assert_eq!(cast(&ints, DType::I8).to_ints(), [-1, 0, -1, 127]);
        assert_eq!(cast(&ints, DType::U4).to_ints(), [15, 0, 15, 15]);
        assert_eq!(cast(&ints, DType::Bool).to_ints(), [1, 1, 1, 1]);
        assert_eq!(cast(&ints, DType::U64).to_ints()[0], u64::MAX as i128);
        let truth = Tensor::from_ints(DType::Bool, &[2], &[0, 1]);
        assert_eq!(cast(&truth, DType::F16).to_f64(), [0.0, 1.0]);
    }

    #[test]
    fn casts_round_once() {
        // Halfway between two `f32` once rounded to `f64`, above it before.
        let value = (1i64 << 60) + (1 << 36) + 1;
        let x = Tensor::from_ints(DType::I64, &[1], &[value.into()]);
        assert_eq!(cast(&x, DType::F32).to_f64(), [f64::from(value as f32)]);
        assert_ne!(value as f32, value as f64 as f32);
        let nan = cast(&Tensor::from_f32(&[2], &[f32::NAN, -0.0]), DType::F16).to_f64();
        assert!(nan[0].is_nan() && nan[1].is_sign_negative());
        assert_eq!(cast(&Tensor::from_f32(&[1], &[65520.0]), DType::F16).to_f64(), [f64::INFINITY]);
    }

    #[test]
    fn where_broadcasts_and_moves_bits() {
        let condition = Tensor::from_ints(DType::Bool, &[2, 1], &[1, 0]);
        let x = Tensor::from_f32(&[], &[-0.0]);
        let y = Tensor::from_f32(&[3], &[f32::NAN, 1.0, 2.0]);
        let op = Op::from(Where {});
        let result = op.eval(&[Some(&condition), Some(&x), Some(&y)], &|_| None).unwrap();
        assert_eq!(result[0], Tensor::from_f32(&[2, 3], &[-0.0, -0.0, -0.0, f32::NAN, 1.0, 2.0]));
        assert!(op.eval(&[Some(&x), Some(&x), Some(&y)], &|_| None).is_err());
        let empty = Tensor::zeros(DType::F32, &[0]);
        let result = op.eval(&[Some(&condition), Some(&x), Some(&empty)], &|_| None).unwrap();
        assert_eq!(result[0].shape(), [2, 0]);
    }
}
