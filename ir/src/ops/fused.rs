//! A fusion: one node with a body of ordered steps.
//!
//! The first step is the anchor (a convolution, a matrix product, an elementwise function, ...); the others are epilogues
//! that a target applies while the anchor's result is in registers.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{AttrMap, EvalError, Op, OpAttrs, OpDef, Operands, TypeError};
use crate::attrs::AttrValue;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// An operand inside a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BodyRef {
    /// The fused node's operand of that position.
    Param(u32),
    /// The (first) result of an earlier step.
    Step(u32),
}

/// One operator of a body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyStep {
    /// The operator; never another fusion, never one with several results.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<Option<BodyRef>>,
}

/// A group of operators that runs as one; the last step is the result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fused {
    /// Anchor first, then the epilogues in order; at least one.
    pub steps: Arc<[BodyStep]>,
}

impl Fused {
    /// The first step.
    pub fn anchor(&self) -> &BodyStep {
        &self.steps[0]
    }

    /// The steps after the anchor.
    pub fn epilogues(&self) -> &[BodyStep] {
        &self.steps[1..]
    }

    /// The same body with every operator mapped.
    ///
    /// # Errors
    /// What `map` returns.
    pub fn map_ops<E>(&self, map: &mut dyn FnMut(&Op) -> Result<Op, E>) -> Result<Fused, E> {
        let steps: Result<Vec<BodyStep>, E> =
            self.steps.iter().map(|s| Ok(BodyStep { op: map(&s.op)?, inputs: s.inputs.clone() })).collect();
        Ok(Fused { steps: steps?.into() })
    }

    /// The type of every step.
    ///
    /// # Errors
    /// [`TypeError`] of the first step that does not fit, or for a reference that does not exist.
    pub fn step_types(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let mut types: Vec<TensorType> = Vec::with_capacity(self.steps.len());
        for step in self.steps.iter() {
            let operands: Vec<Option<&TensorType>> = self.operands(step, inputs, &types)?;
            let mut results = step.op.infer(&operands)?;
            if results.len() != 1 || matches!(step.op, Op::Fused(_)) {
                let found = format!("`{}` with {} results", step.op.name(), results.len());
                return Err(TypeError::Arity { found, accepted: "steps with one result, no nested fusion".into() });
            }
            types.append(&mut results);
        }
        if types.is_empty() {
            return Err(TypeError::Arity { found: "an empty body".into(), accepted: "one step or more".into() });
        }
        Ok(types)
    }

    fn operands<'a, T>(
        &self,
        step: &BodyStep,
        inputs: Operands<'a, T>,
        done: &'a [T],
    ) -> Result<Vec<Option<&'a T>>, TypeError> {
        let find = |r: &BodyRef| match *r {
            BodyRef::Param(index) => inputs.need(index as usize),
            BodyRef::Step(index) => done.get(index as usize).ok_or_else(|| TypeError::Arity {
                found: format!("step s{index} before it is computed"),
                accepted: "an earlier step".into(),
            }),
        };
        step.inputs.iter().map(|r| r.as_ref().map(find).transpose()).collect()
    }
}

impl OpAttrs for Fused {
    const NAME: &'static str = "fused";
    const INPUTS: RangeInclusive<usize> = 0..=4096;

    /// None: the body has a syntax of its own.
    fn attrs(&self) -> Vec<(&'static str, AttrValue)> {
        Vec::new()
    }

    fn from_attrs(_: &mut AttrMap) -> Result<Self, TypeError> {
        Err(TypeError::Attribute { name: "body", found: "nothing".into(), accepted: "`fused (..) { steps }`".into() })
    }
}

impl OpDef for Fused {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        self.step_types(inputs)?.pop().map(|ty| vec![ty]).ok_or_else(unreachable_body)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let mut values: Vec<Tensor> = Vec::with_capacity(self.steps.len());
        for step in self.steps.iter() {
            let operands = self.operands(step, inputs, &values)?;
            let mut results = step.op.eval(&operands, &|_| None)?;
            values.append(&mut results);
        }
        Ok(values.pop().into_iter().collect())
    }
}

fn unreachable_body() -> TypeError {
    TypeError::Arity { found: "an empty body".into(), accepted: "one step or more".into() }
}

impl fmt::Display for BodyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyRef::Param(index) => write!(f, "p{index}"),
            BodyRef::Step(index) => write!(f, "s{index}"),
        }
    }
}
