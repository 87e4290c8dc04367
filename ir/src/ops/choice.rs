//! Alternatives of which one is taken.

use super::shape::attribute;
use super::{EvalError, OpDef, Operands, TypeError, op};
use crate::attrs::F64;
use crate::tensor::Tensor;
use crate::types::TensorType;

op! {
    /// The same value computed in several numeric formats, of which extraction takes one: alternatives are operands of a
    /// choice and never equal to one another. All operands have the result's type; the first one is the source's own form,
    /// which is what the interpreter gives.
    pub struct Choice = "choice" (1..=8) {
        /// Estimated error of each alternative, not negative, in the unit that the options of extraction weigh.
        errors: Vec<F64>,
    }
}

impl OpDef for Choice {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let first = inputs.need(0)?;
        for index in 0..inputs.len() {
            let ty = inputs.need(index)?;
            if ty.dtype != first.dtype {
                return Err(TypeError::DType { input: index, found: ty.dtype, accepted: first.dtype.to_string() });
            }
            if ty.shape != first.shape {
                let (found, accepted) = (ty.to_string(), first.to_string());
                return Err(TypeError::Shape { what: "alternatives", found, accepted });
            }
        }
        let sound = |error: &F64| error.get() >= 0.0 && error.get().is_finite();
        if self.errors.len() != inputs.len() || !self.errors.iter().all(sound) {
            let found: Vec<String> = self.errors.iter().map(|e| e.get().to_string()).collect();
            let accepted = format!("{} numbers from 0 on", inputs.len());
            return Err(attribute("errors", format!("[{}]", found.join(", ")), accepted));
        }
        Ok(vec![TensorType::new(first.dtype, first.shape.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![inputs.need(0)?.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::types::DType;

    #[test]
    fn alternatives_have_one_type_and_an_error_each() {
        let choice = |errors: &[f64]| Op::from(Choice { errors: errors.iter().map(|&e| F64::new(e)).collect() });
        let (a, b) = (TensorType::fixed(DType::F32, &[2, 3]), TensorType::fixed(DType::F32, &[3, 2]));
        assert_eq!(choice(&[0.0, 0.5]).infer(&[Some(&a), Some(&a)]), Ok(vec![a.clone()]));
        for (errors, other) in [(vec![0.0, 0.5], &b), (vec![0.0], &a), (vec![0.0, -1.0], &a), (vec![0.0, f64::NAN], &a)]
        {
            assert!(choice(&errors).infer(&[Some(&a), Some(other)]).is_err(), "{errors:?}");
        }
        assert!(choice(&[0.0, 0.0]).infer(&[Some(&a), None]).is_err());
    }

    #[test]
    fn the_first_alternative_is_the_meaning() {
        let (a, b) = (Tensor::from_f32(&[2], &[1.0, 2.0]), Tensor::from_f32(&[2], &[1.5, 2.0]));
        let choice = Op::from(Choice { errors: vec![F64::new(0.0), F64::new(1.0)] });
        assert_eq!(choice.eval(&[Some(&a), Some(&b)], &|_| None).unwrap()[0], a);
    }
}
