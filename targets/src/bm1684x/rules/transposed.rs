//! Transposed convolutions of bytes as ordinary ones.

use adze_ir::egraph::{Condition, EGraph, Match, add_const, add_op, value};
use adze_ir::ops::{Conv, ConvTranspose, DepthToSpace, Dequantize, Op, Quantize, Slice};
use adze_ir::tensor::Tensor;
use egg::{Id, Subst};

use super::ids;

/// When the rule applies.
pub(super) const CONDITIONS: &[Condition] = &[
    Condition { name: "images, without groups and gaps in windows", holds: is_plain },
    Condition {
        name: "one stride along both axes",
        holds: |m| matches!(m.op("a"), Op::ConvTranspose(a) if matches!(a.strides[..], [h, w] if h == w)),
    },
    Condition { name: "pads take something away, and leave something", holds: |m| axes(m).is_some() },
    Condition { name: "constant weights with one scale, or one per result channel", holds: |m| weights(m).is_some() },
    Condition { name: "a result with one scale", holds: |m| m.is_affine("ys", "yz") },
    Condition { name: "a constant bias", holds: |m| m.find("b").is_none_or(|b| value(m.egraph, b).is_some()) },
];

/// How an axis of a transposed convolution becomes one of a convolution.
#[derive(Clone, Copy, Debug)]
struct Axis {
    /// Taps of the kernel, and of each smaller one.
    kernel: usize,
    taps: usize,
    /// Rows behind the operand's last one.
    behind: i64,
    /// Where the result starts in what moved into space, and its extent.
    first: i64,
    extent: i64,
}

impl Axis {
    /// One of stride `block`, for an operand of some extent; `None` for pads that nothing is left of.
    fn of(op: &ConvTranspose, axis: usize, block: i64, kernel: usize, extent: i64) -> Option<Self> {
        let (before, after) = (*op.pads.get(axis)?, *op.pads.get(axis + 2)?);
        let taps = kernel.div_ceil(usize::try_from(block).ok().filter(|&block| block > 0)?);
        let all = (extent - 1) * block + kernel as i64 + *op.output_padding.get(axis)?;
        let (behind, left) = ((all + block - 1) / block - extent, all - before - after);
        let fits = before >= 0 && after >= 0 && behind >= 0 && left > 0;
        fits.then_some(Self { kernel, taps, behind, first: before, extent: left })
    }

    /// The kernel's tap that a tap of the smaller kernel for a phase is; `None` where there is none.
    fn tap(&self, block: usize, phase: usize, tap: usize) -> Option<usize> {
        let at = phase + block * (self.taps - 1 - tap);
        (at < self.kernel).then_some(at)
    }
}

fn is_plain(m: &Match<'_>) -> bool {
    let Op::ConvTranspose(op) = m.op("a") else { return false };
    m.ty("x").is_some_and(|x| x.rank() == 4) && op.group == 1 && op.dilations.iter().all(|&dilation| dilation == 1)
}

fn axes(m: &Match<'_>) -> Option<[Axis; 2]> {
    let Op::ConvTranspose(op) = m.op("a") else { return None };
    let (x, w) = (m.ty("x")?.fixed_shape()?, m.ty("w")?.fixed_shape()?);
    let axis = |axis: usize| {
        Axis::of(op, axis, *op.strides.first()?, *w.get(2 + axis)?, i64::try_from(*x.get(2 + axis)?).ok()?)
    };
    Some([axis(0)?, axis(1)?])
}

/// Weights, scales and zero points of a kernel `[ci, co, kh, kw]`.
fn weights<'a>(m: &Match<'a>) -> Option<[&'a Tensor; 3]> {
    let Op::Dequantize(by) = m.op("e") else { return None };
    let [w, scale, zero] = ["w", "ws", "wz"].map(|name| m.data(name));
    let (w, scale, zero) = (w?, scale?, zero?);
    let by_result = by.axis == 1 && Some(scale.shape()) == w.shape().get(1..2);
    let fits = by.block == 0 && (by_result || scale.shape().is_empty()) && zero.shape() == scale.shape();
    fits.then_some([w, scale, zero])
}

/// Adds the convolution and what moves its channels into space.
pub(super) fn make(egraph: &mut EGraph, subst: &Subst) -> Option<Id> {
    let m = Match { egraph, subst };
    let (Op::ConvTranspose(op), Op::Quantize(quantize)) = (m.op("a"), m.op("q")) else { return None };
    let (block, quantize) = (*op.strides.first()?, Quantize { axis: 0, ..quantize.clone() });
    let ([rows, columns], step) = (axes(&m)?, usize::try_from(block).ok()?);
    let phases = step * step;
    let [kernel, scale, zero] = by_phases(weights(&m)?, step, [rows, columns])?;
    let bias = match m.find("b") {
        Some(bias) => Some(repeated(&value(egraph, bias)?, phases)),
        None => None,
    };
    let kernel = [kernel, scale, zero].map(|tensor| add_const(egraph, tensor));
    let mut operands = vec![ids(egraph, subst, ["x"])[0], add_op(egraph, Dequantize { axis: 0, block: 0 }, &kernel)?];
    operands.extend(bias.map(|bias| add_const(egraph, bias)));
    let [up, left] = [rows.taps, columns.taps].map(|taps| taps as i64 - 1);
    let pads = vec![up, left, rows.behind, columns.behind];
    let conv = Conv { strides: vec![1; 2], pads, dilations: vec![1; 2], group: 1 };
    let channels = add_op(egraph, conv, &operands)?;
    let [scale, zero] = ids(egraph, subst, ["ys", "yz"]);
    let mut bytes = add_op(egraph, quantize, &[channels, scale, zero])?;
    if block > 1 {
        bytes = add_op(egraph, DepthToSpace { block, crd: true }, &[bytes])?;
    }
    let made = egraph[bytes].data.ty()?.fixed_shape()?;
    if made.get(2..)? == [rows.extent as usize, columns.extent as usize] {
        return Some(bytes);
    }
    let inside = Slice {
        axes: vec![2, 3],
        starts: [rows, columns].map(|axis| axis.first.into()).to_vec(),
        sizes: [rows, columns].map(|axis| axis.extent.into()).to_vec(),
        steps: vec![1; 2],
    };
    add_op(egraph, inside, &[bytes])
}

/// A vector with every element so many times in a row.
fn repeated(vector: &Tensor, times: usize) -> Tensor {
    let each = |v: f64| std::iter::repeat_n(v, times);
    let values: Vec<f64> = vector.to_f64().into_iter().flat_map(each).collect();
    match vector.dtype() {
        dtype if dtype.is_float() => Tensor::from_f64(dtype, &[values.len()], &values),
        dtype => Tensor::from_ints(dtype, &[values.len()], &values.iter().map(|&v| v as i128).collect::<Vec<_>>()),
    }
}

/// A kernel `[ci, co, kh, kw]` as one of `[co · s · s, ci, ..]`, with its scales and zero points.
fn by_phases([w, scale, zero]: [&Tensor; 3], block: usize, [rows, columns]: [Axis; 2]) -> Option<[Tensor; 3]> {
    let &[inputs, results, _, _] = w.shape() else { return None };
    let by_result = !scale.shape().is_empty();
    let (values, zeros, phases) = (w.to_ints(), zero.to_ints(), block * block);
    let mut turned = Vec::with_capacity(results * phases * inputs * rows.taps * columns.taps);
    for channel in 0..results * phases {
        let (result, phase) = (channel / phases, channel % phases);
        let none = *zeros.get(if by_result { result } else { 0 })?;
        for input in 0..inputs {
            for tap in 0..rows.taps * columns.taps {
                let row = rows.tap(block, phase / block, tap / columns.taps);
                let column = columns.tap(block, phase % block, tap % columns.taps);
                let at = |row: usize, column: usize| {
                    ((input * results + result) * rows.kernel + row) * columns.kernel + column
                };
                turned.push(row.zip(column).map_or(none, |(row, column)| values[at(row, column)]));
            }
        }
    }
    let kernel = Tensor::from_ints(w.dtype(), &[results * phases, inputs, rows.taps, columns.taps], &turned);
    let each = |tensor: &Tensor| if by_result { repeated(tensor, phases) } else { tensor.clone() };
    Some([kernel, each(scale), each(zero)])
}
