//! Evaluation of weight recipes, shared by the package writer and the interpreter.

use super::Recipe;
use crate::graph::ConstTable;
use crate::ops::EvalError;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Why a recipe cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The constant is not in the program's table.
    #[error("constant {0} is not in the table")]
    NoConstant(u32),
    /// The constant is known by digest only.
    #[error("constant `{0}` is known by digest only: its bytes are needed")]
    MissingConstant(String),
    /// A step fails or has several results.
    #[error("step `{op}` of the recipe of `{constant}`: {error}")]
    Step {
        /// The constant.
        constant: String,
        /// The step.
        op: String,
        /// What is wrong.
        error: EvalError,
    },
}

impl Recipe {
    /// The constant as it is, without a step.
    pub fn plain(constant: crate::ops::ConstId) -> Self {
        Self { constant, steps: Vec::new() }
    }

    /// The logical tensor, before the buffer's layout is applied.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn eval(&self, consts: &ConstTable) -> Result<Tensor, RecipeError> {
        let entry = consts.get(self.constant).ok_or(RecipeError::NoConstant(self.constant.as_u32()))?;
        let data = entry.data().ok_or_else(|| RecipeError::MissingConstant(entry.name.to_string()))?;
        self.steps.iter().try_fold(data.clone(), |tensor, op| {
            let fail = |error| RecipeError::Step { constant: entry.name.to_string(), op: op.to_string(), error };
            let mut results = op.eval(&[Some(&tensor)], &|_| None).map_err(fail)?;
            match (results.pop(), results.is_empty()) {
                (Some(result), true) => Ok(result),
                _ => Err(fail(EvalError::Value("one result is needed".into()))),
            }
        })
    }

    /// The type of the logical tensor.
    ///
    /// # Errors
    /// [`RecipeError`], except for bytes that are missing.
    pub fn ty(&self, consts: &ConstTable) -> Result<TensorType, RecipeError> {
        let entry = consts.get(self.constant).ok_or(RecipeError::NoConstant(self.constant.as_u32()))?;
        self.steps.iter().try_fold(entry.ty(), |ty, op| {
            let fail = |error| RecipeError::Step { constant: entry.name.to_string(), op: op.to_string(), error };
            let mut results = op.infer(&[Some(&ty)]).map_err(|error| fail(error.into()))?;
            match (results.pop(), results.is_empty()) {
                (Some(result), true) => Ok(result),
                _ => Err(fail(EvalError::Value("one result is needed".into()))),
            }
        })
    }
}
