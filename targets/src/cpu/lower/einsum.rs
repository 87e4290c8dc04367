//! Einstein sums: loops over the result's axes outside, over the summed ones inside.

use adze_ir::extent::Extent;
use adze_ir::ops::{Einsum, Op};

use super::leaf::{Leaf, compute_elem, unsupported};
use super::operand::{LeafCx, Lowered, Unsupported};
use super::walk::{Source, each, fold};
use crate::cpu::kernel::Type;

/// Lowers `einsum`.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let Op::Einsum(op) = cx.op else { return Err(unsupported(format!("`{}`", cx.op), "`einsum`")) };
    Ok(vec![sum(cx, op)?])
}

fn sum(cx: &LeafCx<'_>, op: &Einsum) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, &format!("einsum_{}", cx.outputs[0].dtype));
    let y = Source::output(&mut leaf, 0)?;
    let operands: Vec<Source<'_>> =
        (0..cx.inputs.len()).map(|i| Source::input(&mut leaf, i)).collect::<Result<_, _>>()?;
    let ranks: Vec<usize> = operands.iter().map(|o| o.operand.rank()).collect();
    let axes = op.axes(&ranks).map_err(|e| unsupported(e.to_string(), "an equation for these ranks"))?;
    let ty = Type::scalar(compute_elem(y.dtype())?);
    // Per operand, elements per index of the result's axes and of the summed ones.
    let strides = |operand: &Source<'_>, labels: &[usize], wanted: &dyn Fn(usize) -> bool, count: usize, at: usize| {
        let mut steps = vec![Extent::ZERO; count];
        for (axis, &label) in labels.iter().enumerate() {
            // A label twice in one operand walks its diagonal.
            if wanted(label) && operand.operand.shape[axis] != Extent::ONE {
                steps[label - at] = steps[label - at].clone() + operand.operand.strides[axis].clone();
            }
        }
        steps
    };
    let (kept, summed) = (axes.result, axes.labels - axes.result);
    let outer: Vec<Vec<Extent>> =
        operands.iter().zip(&axes.operands).map(|(o, l)| strides(o, l, &|label| label < kept, kept, 0)).collect();
    let inner: Vec<Vec<Extent>> =
        operands.iter().zip(&axes.operands).map(|(o, l)| strides(o, l, &|label| label >= kept, summed, kept)).collect();
    let mut extents = vec![Extent::ONE; summed];
    for (operand, labels) in operands.iter().zip(&axes.operands) {
        for (axis, &label) in labels.iter().enumerate().filter(|(_, l)| **l >= kept) {
            if operand.operand.shape[axis] != Extent::ONE {
                extents[label - kept] = operand.operand.shape[axis].clone();
            }
        }
    }
    let b = &mut leaf.b;
    let range = each(b, &y.operand.shape, |b, index| {
        let zero = b.zero(ty);
        let total = fold(b, &extents, &[zero], &mut |b, at, accs| {
            let mut product = None;
            for (k, operand) in operands.iter().enumerate() {
                let place = operand.by(&inner[k], at) - operand.stream.base.clone() + operand.by(&outer[k], index);
                let value = operand.load(b, place, ty.elem);
                product = Some(product.map_or(value, |p| b.mul(p, value)));
            }
            vec![product.map_or(accs[0], |p| b.add(accs[0], p))]
        })[0];
        y.store(b, y.at(index), total);
    });
    Ok(leaf.finish(range))
}
