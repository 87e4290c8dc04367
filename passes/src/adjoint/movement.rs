//! Operators that only move elements: the gradient moves back.

use adze_ir::extent::Extent;
use adze_ir::ops::{Concat, Gather, Pad, PadMode, ScatterFn, ScatterNd, Slice, Split, Transpose};

use super::Products;
use super::step::Step;
use crate::rules::support::inverse;

pub(super) fn reshape(s: &mut Step<'_>) -> Products {
    let shape = s.shape(s.x(0)?);
    Ok(vec![Some(s.reshaped(s.g, shape)?)])
}

pub(super) fn transpose(s: &mut Step<'_>, op: &Transpose) -> Products {
    Ok(vec![Some(s.add(Transpose { perm: inverse(&op.perm) }, &[s.g])?)])
}

/// Zeros around; between elements where the slice takes steps.
pub(super) fn slice(s: &mut Step<'_>, op: &Slice) -> Products {
    let (mut g, whole) = (s.g, s.shape(s.x(0)?));
    if let Some(step) = op.steps.iter().find(|&&step| step < 1) {
        return Err(s.unsupported(format!("a step of {step}"), "steps forward"));
    }
    let (mut before, mut after) = (vec![Extent::ZERO; whole.len()], vec![Extent::ZERO; whole.len()]);
    for (i, &axis) in op.axes.iter().enumerate() {
        let (size, step) = (&op.sizes[i], Extent::from(op.steps[i]));
        if op.steps[i] > 1 {
            g = spread(s, g, axis, op.steps[i])?;
        }
        before[axis] = op.starts[i].clone();
        // With steps, zeros follow the last element too; those that do not fit are cut off.
        after[axis] = whole[axis].clone() - op.starts[i].clone() - size.clone() * step;
    }
    Ok(vec![Some(s.add(Pad { mode: PadMode::Constant, before, after }, &[g])?)])
}

/// Every element followed by zeros along an axis.
fn spread(s: &mut Step<'_>, g: adze_ir::graph::ValueId, axis: usize, step: i64) -> super::step::Made {
    let mut shape = s.shape(g);
    let mut split = shape.clone();
    split.insert(axis + 1, Extent::ONE);
    let mut after = vec![Extent::ZERO; split.len()];
    after[axis + 1] = (step - 1).into();
    shape[axis] = shape[axis].clone() * step.into();
    let split = s.reshaped(g, split)?;
    let before = vec![Extent::ZERO; after.len()];
    let spread = s.add(Pad { mode: PadMode::Constant, before, after }, &[split])?;
    s.reshaped(spread, shape)
}

pub(super) fn concat(s: &mut Step<'_>, op: &Concat) -> Products {
    let (g, mut start, mut products) = (s.g, Extent::ZERO, Vec::new());
    for index in 0..s.node.inputs.len() {
        let size = s.shape(s.x(index)?)[op.axis].clone();
        let slice =
            Slice { axes: vec![op.axis], starts: vec![start.clone()], sizes: vec![size.clone()], steps: vec![1] };
        products.push(s.when(index, |s| s.add(slice, &[g]))?);
        start = start + size;
    }
    Ok(products)
}

pub(super) fn split(s: &mut Step<'_>, op: &Split) -> Products {
    let mut parts = Vec::new();
    for (index, &output) in s.node.outputs.iter().enumerate() {
        parts.push(match s.of[index] {
            Some(g) => g,
            None => s.zeros(output)?,
        });
    }
    Ok(vec![Some(s.add(Concat { axis: op.axis }, &parts)?)])
}

pub(super) fn pad(s: &mut Step<'_>, op: &Pad) -> Products {
    if op.mode != PadMode::Constant || s.wanted.get(1) == Some(&true) {
        return Err(s.unsupported(format!("{:?}", op.mode), "constant"));
    }
    // What was added is cut off, what was cut off is zero.
    let negated = |extents: &[Extent]| extents.iter().map(|e| -e.clone()).collect();
    let back = Pad { mode: PadMode::Constant, before: negated(&op.before), after: negated(&op.after) };
    Ok(vec![Some(s.add(back, &[s.g])?), None])
}

pub(super) fn expand(s: &mut Step<'_>) -> Products {
    let x = s.x(0)?;
    Ok(vec![Some(s.summed_to(s.g, x)?)])
}

/// Slices are added where they were taken from: with the axis first, at index tuples of one.
pub(super) fn gather(s: &mut Step<'_>, op: &Gather) -> Products {
    let (g, x, indices) = (s.g, s.x(0)?, s.x(1)?);
    let (rank, picks) = (s.graph.ty(x).rank(), s.graph.ty(indices).rank());
    let first: Vec<usize> = std::iter::once(op.axis).chain((0..rank).filter(|&axis| axis != op.axis)).collect();
    // The axes of the indices first, then those of `x` without the axis.
    let perm: Vec<usize> =
        (op.axis..op.axis + picks).chain(0..op.axis).chain(op.axis + picks..rank + picks - 1).collect();
    let updates = s.add(Transpose { perm }, &[g])?;
    let mut tuples = s.shape(indices);
    tuples.push(Extent::ONE);
    let tuples = s.reshaped(indices, tuples)?;
    let shape = s.shape(x);
    let zero = s.scalar(g, 0.0);
    let zeros = s.expanded(zero, first.iter().map(|&axis| shape[axis].clone()).collect())?;
    let sums = s.add(ScatterNd { function: ScatterFn::Add }, &[zeros, tuples, updates])?;
    Ok(vec![Some(s.add(Transpose { perm: inverse(&first) }, &[sums])?), None])
}
