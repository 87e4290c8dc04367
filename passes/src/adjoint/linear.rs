//! Convolutions and matrix products.

use adze_ir::extent::Extent;
use adze_ir::graph::ValueId;
use adze_ir::ops::{Concat, Conv, ConvTranspose, Gemm, MatMul, Pad, PadMode, Slice, Transpose};

use super::Products;
use super::step::{Made, Step};

/// A product of matrices whose operands may be transposed, and so may its gradients.
fn product(s: &mut Step<'_>, a: (ValueId, bool), b: (ValueId, bool)) -> Made {
    s.add(MatMul { trans_a: a.1, trans_b: b.1 }, &[a.0, b.0])
}

/// Of `A · B` with gradient `G`: `G · Bᵀ`, transposed if `A` is.
fn by_left(s: &mut Step<'_>, g: ValueId, b: ValueId, [trans_a, trans_b]: [bool; 2]) -> Made {
    if trans_a { product(s, (b, trans_b), (g, true)) } else { product(s, (g, false), (b, !trans_b)) }
}

/// Of `A · B` with gradient `G`: `Aᵀ · G`, transposed if `B` is.
fn by_right(s: &mut Step<'_>, g: ValueId, a: ValueId, [trans_a, trans_b]: [bool; 2]) -> Made {
    if trans_b { product(s, (g, true), (a, trans_a)) } else { product(s, (a, !trans_a), (g, false)) }
}

pub(super) fn matmul(s: &mut Step<'_>, op: &MatMul) -> Products {
    let (g, a, b) = (s.g, s.x(0)?, s.x(1)?);
    let ranks = [a, b].map(|v| s.graph.ty(v).rank());
    if ranks.contains(&1) {
        return Err(s.unsupported("an operand of rank 1".into(), "matrices"));
    }
    let flags = [op.trans_a, op.trans_b];
    let left = s.when(0, |s| {
        let made = by_left(s, g, b, flags)?;
        s.summed_to(made, a)
    })?;
    let right = s.when(1, |s| {
        if ranks[0] > 2 && ranks[1] == 2 && !op.trans_a {
            // One long sum instead of a matrix per batch.
            let (a, g) = (flat(s, a)?, flat(s, g)?);
            return by_right(s, g, a, flags);
        }
        let made = by_right(s, g, a, flags)?;
        s.summed_to(made, b)
    })?;
    Ok(vec![left, right])
}

/// All rows below one another.
fn flat(s: &mut Step<'_>, x: ValueId) -> Made {
    let mut shape = s.shape(x);
    let columns = shape.pop().unwrap_or(Extent::ONE);
    s.reshaped(x, vec![Extent::product(&shape), columns])
}

pub(super) fn gemm(s: &mut Step<'_>, op: &Gemm) -> Products {
    let (a, b) = (s.x(0)?, s.x(1)?);
    let flags = [op.trans_a, op.trans_b];
    let scaled = |s: &mut Step<'_>, factor: f64| if factor == 1.0 { Ok(s.g) } else { s.scaled(s.g, factor) };
    let g = scaled(s, op.alpha.get())?;
    let left = s.when(0, |s| by_left(s, g, b, flags))?;
    let right = s.when(1, |s| by_right(s, g, a, flags))?;
    let term = s.when(2, |s| {
        let (c, g) = (s.x(2)?, scaled(s, op.beta.get())?);
        s.summed_to(g, c)
    })?;
    Ok(vec![left, right, term])
}

pub(super) fn conv(s: &mut Step<'_>, op: &Conv) -> Products {
    let (g, x, w) = (s.g, s.x(0)?, s.x(1)?);
    let data = s.when(0, |s| by_data(s, op, [g, x, w]))?;
    let kernel = s.when(1, |s| by_kernel(s, op, [g, x, w]))?;
    let bias = s.when(2, |s| {
        let rank = s.graph.ty(g).rank();
        let sum = s.summed(g, (0..rank).filter(|&axis| axis != 1).collect())?;
        let shape = s.shape(s.x(2)?);
        s.reshaped(sum, shape)
    })?;
    Ok(vec![data, kernel, bias])
}

/// The transposed convolution; elements that no window reaches get zeros from its `output_padding`.
pub(super) fn by_data(s: &mut Step<'_>, op: &Conv, [g, x, w]: [ValueId; 3]) -> Made {
    let (from, to, kernel) = (s.shape(g), s.shape(x), s.shape(w));
    let rank = op.strides.len();
    let mut output_padding = Vec::new();
    for axis in 0..rank {
        let reach = (kernel[axis + 2].clone() - Extent::ONE) * op.dilations[axis].into() + Extent::ONE;
        let made = (from[axis + 2].clone() - Extent::ONE) * op.strides[axis].into() + reach;
        let rest = to[axis + 2].clone() - made + (op.pads[axis] + op.pads[rank + axis]).into();
        let Some(rest) = rest.as_const() else {
            return Err(s.unsupported(format!("an axis of {}", to[axis + 2]), "windows that end at the end"));
        };
        output_padding.push(rest);
    }
    let (strides, pads, dilations) = (op.strides.clone(), op.pads.clone(), op.dilations.clone());
    s.add(ConvTranspose { strides, pads, output_padding, dilations, group: op.group }, &[g, w])
}

/// For every place of the kernel a product of the gradient with the data that it meets there, over all positions of all samples.
fn by_kernel(s: &mut Step<'_>, op: &Conv, [g, x, w]: [ValueId; 3]) -> Made {
    let (from, kernel, group) = (s.shape(g), s.shape(w), Extent::from(op.group));
    let rank = op.strides.len();
    let extents: Option<Vec<i64>> = kernel.iter().map(Extent::as_const).collect();
    let Some([outputs, inputs, extents @ ..]) = extents.as_deref() else {
        return Err(s.unsupported(format!("a kernel of {}", s.graph.ty(w)), "one of known extents"));
    };
    let pads = |pads: &[i64]| [0, 0].iter().chain(pads).map(|&pad| pad.into()).collect();
    let (before, after) = (pads(&op.pads[..rank]), pads(&op.pads[rank..]));
    let padded = s.add(Pad { mode: PadMode::Constant, before, after }, &[x])?;
    let positions = Extent::product(&from[2..]) * from[0].clone();
    // `[n, group · c, ..]` to `[group, c, n · ..]`.
    let rows = |s: &mut Step<'_>, value: ValueId, each: i64| {
        let perm = [1, 0].into_iter().chain(2..2 + rank).collect();
        let channels = s.add(Transpose { perm }, &[value])?;
        s.reshaped(channels, vec![group.clone(), each.into(), positions.clone()])
    };
    let errors = rows(s, g, outputs / op.group)?;
    let mut places = Vec::new();
    for index in 0..extents.iter().product::<i64>() {
        let (mut rest, mut starts) = (index, vec![Extent::ZERO; rank]);
        for axis in (0..rank).rev() {
            starts[axis] = (rest % extents[axis] * op.dilations[axis]).into();
            rest /= extents[axis];
        }
        let (axes, sizes, steps) = ((2..2 + rank).collect(), from[2..].to_vec(), op.strides.clone());
        let met = s.add(Slice { axes, starts, sizes, steps }, &[padded])?;
        let met = rows(s, met, *inputs)?;
        let sums = s.add(MatMul { trans_a: false, trans_b: true }, &[errors, met])?;
        places.push(s.reshaped(sums, vec![kernel[0].clone(), kernel[1].clone(), Extent::ONE])?);
    }
    let sums = if let [sums] = places[..] { sums } else { s.add(Concat { axis: 2 }, &places)? };
    s.reshaped(sums, kernel)
}
