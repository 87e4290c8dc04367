//! Operators whose type rule and evaluation are still to be written; shrinks to nothing.

use super::{EvalError, OpDef, Operands, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

macro_rules! pending {
    ($($Name:ident),* $(,)?) => { $(
        impl OpDef for super::$Name {
            fn infer(&self, _: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
                Err(TypeError::Arity { found: stringify!($Name).into(), accepted: "an operator that is written".into() })
            }
            fn eval(&self, _: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
                Err(EvalError::Value(concat!(stringify!($Name), " is not written yet").into()))
            }
        }
    )* };
}

pending! {
    MatMulInteger,
    ConvInteger,
    QLinearConv,
    QLinearMatMul,
}
