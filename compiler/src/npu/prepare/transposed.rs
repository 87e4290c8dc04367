//! Transposed convolutions of bytes as ordinary ones.
//!
//! With a stride of `s`, every `s`-th element of the result along an axis is a convolution by every `s`-th tap of the kernel,
//! back to front. So a convolution by all of these smaller kernels makes `s · s` times the channels, which move into space, and
//! what pads take away is cut off. Its sums are the same, and it becomes one of integers like others do.

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{Conv, ConvTranspose, DepthToSpace, Dequantize, Op, Quantize, Slice};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::Rewrite;
use crate::error::Error;

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
        let taps = kernel.div_ceil(usize::try_from(block).ok()?);
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

impl Rewrite<'_> {
    /// A `quantize` of a transposed convolution.
    pub(super) fn phases(&mut self, node: &Node, op: &Quantize) -> Result<Option<ValueId>, Error> {
        let (Some((_, transposed)), Some(by)) = (self.producer(node.inputs[0]), self.scalars(node)) else {
            return Ok(None);
        };
        let transposed = transposed.clone();
        let Op::ConvTranspose(geometry) = &transposed.op else { return Ok(None) };
        let shape = |index: usize| transposed.inputs[index].and_then(|value| self.old.ty(value).fixed_shape());
        let (Some(&[_, _, height, width]), Some(&[inputs, results, kh, kw])) =
            (shape(0).as_deref(), shape(1).as_deref())
        else {
            return Ok(None);
        };
        let &[block, other] = &geometry.strides[..] else { return Ok(None) };
        let plain = geometry.group == 1 && geometry.dilations.iter().all(|&d| d == 1);
        let axis = |axis: usize, kernel: usize, extent: usize| Axis::of(geometry, axis, block, kernel, extent as i64);
        let (true, Some(rows), Some(columns)) = (plain && block == other, axis(0, kh, height), axis(1, kw, width))
        else {
            return Ok(None);
        };
        let step = block as usize;
        let Some(kernel) = self.kernel(&transposed, [inputs, results], step, [rows, columns])? else { return Ok(None) };
        let mut operands = vec![self.map[&transposed.inputs[0].expect("a convolution has an operand")], kernel];
        if let Some(bias) = transposed.inputs.get(2).copied().flatten() {
            let Some(bias) = self.constant_floats(bias) else { return Ok(None) };
            let each: Vec<f64> = bias.to_f64().iter().flat_map(|&v| std::iter::repeat_n(v, step * step)).collect();
            operands.push(self.constant(Tensor::from_f64(DType::F32, &[each.len()], &each)));
        }
        let [up, left] = [rows.taps, columns.taps].map(|taps| taps as i64 - 1);
        let pads = vec![up, left, rows.behind, columns.behind];
        let conv = Conv { strides: vec![1; 2], pads, dilations: vec![1; 2], group: 1 };
        let channels = self.add(&transposed, conv, &operands)?;
        let operands: Vec<ValueId> = [channels].into_iter().chain(by.iter().map(|v| self.map[v])).collect();
        let mut bytes = self.add(node, Quantize { axis: 0, ..op.clone() }, &operands)?;
        if block > 1 {
            bytes = self.add(&transposed, DepthToSpace { block, crd: true }, &[bytes])?;
        }
        let made = self.new.ty(bytes).fixed_shape().unwrap_or_default();
        if made[2..] == [rows.extent as usize, columns.extent as usize] {
            return Ok(Some(bytes));
        }
        let inside = Slice {
            axes: vec![2, 3],
            starts: [rows, columns].map(|axis| axis.first.into()).to_vec(),
            sizes: [rows, columns].map(|axis| axis.extent.into()).to_vec(),
            steps: vec![1; 2],
        };
        self.add(&transposed, inside, &[bytes]).map(Some)
    }

    /// Floats that are constant, or a `dequantize` of constants.
    fn constant_floats(&self, value: ValueId) -> Option<Tensor> {
        if let Some(entry) = self.old.constant(value) {
            return entry.data().cloned();
        }
        let (_, node) = self.old.producer(value).filter(|(_, node)| matches!(node.op, Op::Dequantize(_)))?;
        let operands: Option<Vec<Option<&Tensor>>> =
            node.inputs.iter().map(|v| v.map_or(Some(None), |v| self.old.constant(v)?.data().map(Some))).collect();
        node.op.eval(&operands?, &|_| None).ok()?.into_iter().next()
    }

    /// A `dequantize` of constant weights `[ci, co, kh, kw]` as one of `[co · s · s, ci, ..]`.
    fn kernel(
        &mut self,
        node: &Node,
        [inputs, results]: [usize; 2],
        block: usize,
        [rows, columns]: [Axis; 2],
    ) -> Result<Option<ValueId>, Error> {
        let Some((_, dequantize)) = self.producer(node.inputs[1]) else { return Ok(None) };
        let constant = |index: usize| {
            let value = dequantize.inputs.get(index).copied().flatten()?;
            self.old.constant(value)?.data().cloned()
        };
        let (Op::Dequantize(op), Some(tensor), Some(scale)) = (&dequantize.op, constant(0), constant(1)) else {
            return Ok(None);
        };
        let zero = constant(2).unwrap_or_else(|| Tensor::zeros(tensor.dtype(), scale.shape()));
        let by_result = op.axis == 1 && scale.shape() == [results];
        if op.block != 0 || !(by_result || scale.elems() == 1) || zero.shape() != scale.shape() {
            return Ok(None);
        }
        let (values, zeros) = (tensor.to_ints(), zero.to_ints());
        let mut turned = Vec::with_capacity(results * block * block * inputs * rows.taps * columns.taps);
        for channel in 0..results * block * block {
            let (result, phase) = (channel / (block * block), channel % (block * block));
            let none = zeros[if by_result { result } else { 0 }];
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
        let shape = [results * block * block, inputs, rows.taps, columns.taps];
        let kernel = Tensor::from_ints(tensor.dtype(), &shape, &turned);
        let (mut scales, mut zeros) = (scale.to_f64(), zeros);
        let mut extents = scale.shape().to_vec();
        if by_result {
            scales = scales.into_iter().flat_map(|v| std::iter::repeat_n(v, block * block)).collect();
            zeros = zeros.into_iter().flat_map(|v| std::iter::repeat_n(v, block * block)).collect();
            extents = vec![scales.len()];
        }
        let scale = self.constant(Tensor::from_f64(scale.dtype(), &extents, &scales));
        let zero = self.constant(Tensor::from_ints(zero.dtype(), &extents, &zeros));
        let kernel = self.constant(kernel);
        self.add(node, Dequantize { axis: 0, block: 0 }, &[kernel, scale, zero]).map(Some)
    }
}
