//! Losses, as evaluation graphs have them.

use adze_ir::ops::{BinaryFn, GatherElements, LogSoftmax, ReduceFn, UnaryFn};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs};
use super::super::value::Value;
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] = &[
    ("NegativeLogLikelihoodLoss", 12..=NEWEST, |cx| {
        let (x, target) = (cx.input(0)?, cx.input(1)?);
        Ok(vec![likelihood_loss(cx, &x, &target)?])
    }),
    ("SoftmaxCrossEntropyLoss", 12..=NEWEST, cross_entropy),
];

/// What is done with the loss of every position.
#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

/// `-x[n, target[n, ..], ..]`, weighted by class; operand 2 are the weights.
fn likelihood_loss(cx: &mut NodeCx<'_, '_>, x: &Value, target: &Value) -> Result<Value, Fault> {
    cx.at_most(3)?;
    if x.rank() < 2 || x.rank() != target.rank() + 1 {
        let found = format!("scores of rank {} for targets of rank {}", x.rank(), target.rank());
        return Err(Fault::model(found, "scores with one axis more, of two at least"));
    }
    let words = &[("none", Reduction::None), ("sum", Reduction::Sum), ("mean", Reduction::Mean)];
    let reduction = cx.attrs.word("reduction", "mean", words)?;
    let ignored = match cx.attrs.int("ignore_index")? {
        None => None,
        Some(index) => {
            let tensor = adze_ir::tensor::Tensor::from_ints_wrapping(target.ty.dtype, &[], &[index.into()]);
            let index = Value::tensor(tensor, "", cx.loc.clone());
            Some(cx.binary(BinaryFn::Equal, target, &index)?)
        }
    };
    // An ignored target need not be a class: class 0 stands in.
    let class = match &ignored {
        None => target.clone(),
        Some(ignored) => {
            let first = cx.scalar(target.ty.dtype, 0.0);
            cx.where_(ignored, &first, target)?
        }
    };
    let weights = cx.opt(2).cloned();
    let weight = match (&weights, &ignored) {
        (None, None) => None,
        (Some(weights), _) => Some(cx.gather(weights, &class, 0)?),
        (None, Some(_)) => Some(cx.scalar(x.ty.dtype, 1.0)),
    };
    let weight = match (weight, &ignored) {
        (Some(weight), Some(ignored)) => {
            let none = cx.scalar(x.ty.dtype, 0.0);
            Some(cx.where_(ignored, &none, &weight)?)
        }
        (weight, _) => weight,
    };
    let column = cx.unsqueeze(&class, 1)?;
    let picked = cx.emit1(GatherElements { axis: 1 }, &[x, &column])?;
    let picked = cx.reshape(&picked, target.ty.shape.clone())?;
    let mut loss = cx.unary(UnaryFn::Neg, &picked)?;
    if let Some(weight) = &weight {
        loss = cx.mul(&loss, weight)?;
    }
    let axes: Vec<usize> = (0..loss.rank()).collect();
    match (reduction, weight) {
        (Reduction::None, _) => Ok(loss),
        (Reduction::Sum, _) => cx.reduce(ReduceFn::Sum, &loss, axes, false),
        (Reduction::Mean, None) => cx.reduce(ReduceFn::Mean, &loss, axes, false),
        (Reduction::Mean, Some(weight)) => {
            let (sum, total) = (
                cx.reduce(ReduceFn::Sum, &loss, axes.clone(), false)?,
                cx.reduce(ReduceFn::Sum, &weight, axes, false)?,
            );
            cx.div(&sum, &total)
        }
    }
}

fn cross_entropy(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let (x, target) = (cx.input(0)?, cx.input(1)?);
    let scores = cx.emit1(LogSoftmax { axis: 1, flatten: false }, &[&x])?;
    let loss = likelihood_loss(cx, &scores, &target)?;
    Ok(vec![loss, scores])
}
