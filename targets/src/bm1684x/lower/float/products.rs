//! Convolutions and matrix products of 16-bit floats.

use std::cell::LazyCell;
use std::ops::Range;

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{Conv as ConvOp, ConvTranspose, Gemm, MatMul as MatMulOp};
use adze_ir::tensor::Tensor;

use super::super::super::isa::{Conv, Dma, MatMul, Prec};
use super::super::super::machine::{CONV_CHANNELS_HALF, MAX_EXTENT, MAX_WINDOW};
use super::super::apart::Gather;
use super::super::blocks::{RowBytes, channels};
use super::super::build::{Home, Image, Place, lane_bytes};
use super::super::commands::copy;
use super::super::layers::LayerKey;
use super::super::weights::turned;
use super::super::window::{Fitted, Window, axes, depthwise, numbers, stretched};
use super::super::{Lowering, Refusal, refuse};
use super::pointwise::{bits, bytes};
use super::strides::Folded;

/// The type of sums of depthwise convolutions.
const DEPTHWISE: Prec = Prec::Fp32;

/// Weights of a layer, made only where its constants are not known yet.
type Lazy<'a> = LazyCell<Vec<f32>, Box<dyn FnOnce() -> Vec<f32> + 'a>>;

/// Values of a constant.
fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f64().into_iter().map(|v| v as f32).collect()
}

fn lazy<'a>(make: impl FnOnce() -> Vec<f32> + 'a) -> Lazy<'a> {
    LazyCell::new(Box::new(make))
}

impl Lowering<'_> {
    /// Lowers a convolution.
    pub(super) fn float_conv(&mut self, node: &Node, op: &ConvOp) -> Result<Home, Refusal> {
        self.need_half("a convolution")?;
        let mut window = Window::new(&op.strides, &op.pads, &op.dilations, MAX_EXTENT)?;
        let mut x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let weights = self.constant(node, 1)?;
        let [oc, mut ic, kh, kw] = super::super::extents(weights.shape())?;
        let bias = self.bias(node, oc)?;
        let groups = x.shape[1] / ic.max(1);
        let mut kernel = [kh, kw];
        // Strides that commands have no room for.
        let mut folds = Vec::new();
        for axis in 0..2 {
            let stride = window.strides[axis];
            if stride <= MAX_WINDOW {
                continue;
            }
            if kernel[axis] > 1 && window.dilations[axis] > 1 {
                return refuse(format!("stride {stride} with dilation {}", window.dilations[axis]), "one of them 1");
            }
            let fold = Folded::new(axis, stride, kernel[axis]);
            x = self.folded(x, fold, window.pads[axis], shape[2 + axis])?;
            (window.strides[axis], window.pads[axis], window.pads[2 + axis]) = (1, 0, 0);
            (kernel[axis], ic) = (fold.taps[1], ic * stride);
            folds.push(fold);
        }
        let plain = kernel;
        let Fitted { x, window, kernel, by } = self.fitted(x, window, plain, 0)?;
        let fold_of: Vec<u32> = folds.iter().flat_map(|fold| [fold.axis as u32, fold.stride]).collect();
        let fitted = move || {
            let (mut weights, mut kernel) = (values(weights), [kh, kw]);
            for fold in &folds {
                weights = fold.weights(&weights, kernel);
                kernel[fold.axis] = fold.taps[1];
            }
            if by == [1, 1] { weights } else { stretched(&weights, plain, by) }
        };
        if groups > 1 && ic == 1 && oc == groups {
            return Ok(self.depthwise_floats(x, shape, &window, kernel, &fitted(), &bias));
        }
        let taps = kernel[0] * kernel[1];
        let weights = move || dense(fitted(), [oc, ic, taps], groups);
        let key = self.layer(node, &[by[0], by[1], groups]).with(&fold_of);
        if let Some(gather) = Gather::best(x, shape, &window, kernel) {
            let (columns, rest) = (gather.columns, gather.rest(&window));
            let x = self.taken_apart(x, shape, &window, kernel, &gather, 0);
            let kernel_of_rest = [1, gather.taps];
            let weights = lazy(move || {
                let rows: Vec<Vec<f32>> =
                    weights().chunks((ic * groups * taps) as usize).map(<[f32]>::to_vec).collect();
                gather.weights(&rows, kernel).concat()
            });
            return Ok(self.conv_floats(x, shape, &rest, kernel_of_rest, (key.with(&[columns]), weights), &bias));
        }
        Ok(self.conv_floats(x, shape, &window, kernel, (key, lazy(weights)), &bias))
    }

    /// Lowers a transposed convolution: one with the kernel turned round, of the input with zeros between its elements.
    pub(super) fn float_conv_transpose(&mut self, node: &Node, op: &ConvTranspose) -> Result<Home, Refusal> {
        self.need_half("a transposed convolution")?;
        let strides = axes("strides", &op.strides, 1, MAX_WINDOW.into())?;
        let dilations = axes("dilations", &op.dilations, 1, MAX_WINDOW.into())?;
        let x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let weights = self.constant(node, 1)?;
        let [ic, oc, kh, kw] = super::super::extents(weights.shape())?;
        let (kernel, groups) = ([kh, kw], u32::try_from(op.group).unwrap_or(1).max(1));
        let bias = self.bias(node, oc * groups)?;
        let rank = op.strides.len();
        let mut pads = [0i64; 4];
        for axis in 0..rank {
            let place = axis + 2 - rank;
            let reach = i64::from(dilations[place] * (kernel[place] - 1));
            pads[place] = reach - op.pads[axis];
            pads[place + 2] = reach - op.pads[rank + axis] + op.output_padding[axis];
        }
        let pads = numbers("rows and columns around", &pads, 0, MAX_WINDOW.into())?;
        let pads = [pads[0], pads[1], pads[2], pads[3]];
        let inserted = strides.map(|stride| stride - 1);
        let window = Window { strides: [1, 1], pads, dilations, inserted };
        let key = self.layer(node, &[groups]);
        let weights = lazy(move || mirrored(&values(weights), [ic, oc, kh * kw], groups));
        Ok(self.conv_floats(x, shape, &window, kernel, (key, weights), &bias))
    }

    /// The constant bias of a layer with so many result channels, its operand 2.
    fn bias(&self, node: &Node, channels: u32) -> Result<Vec<f32>, Refusal> {
        match node.inputs.get(2).copied().flatten() {
            Some(_) => Ok(values(self.constant(node, 2)?)),
            None => Ok(vec![0.0; channels as usize]),
        }
    }

    /// The commands of a convolution of one group.
    fn conv_floats(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        (key, weights): (LayerKey, Lazy<'_>),
        bias: &[f32],
    ) -> Home {
        let result = self.float(x.prec, shape);
        let taps = (kernel[0] * kernel[1]) as usize;
        let inner = self.inner(x.shape[1], u64::from(x.prec.bytes()) * taps as u64);
        let row_length = x.shape[1] as usize * taps;
        let section = |image: &mut Image, own: &Range<usize>, inner: &Range<u32>| {
            let columns = inner.start as usize * taps..inner.end as usize * taps;
            let rows = weights.chunks(row_length.max(1)).skip(own.start).take(own.len());
            let rows = packed(rows.map(|row| &row[columns.clone()]), inner.len(), taps, x.prec);
            image.section(&rows, rows.first().map_or(0, Vec::len), 64)
        };
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let part = (key.clone(), own.clone(), None);
            let (buffer, [bias, at, _]) = lowering.packed(part, range.len() as u32, |image| {
                let biased = bias[own.clone()].iter().any(|&b| b != 0.0);
                let words: Vec<Vec<u8>> = bias[own.clone()].iter().map(|b| b.to_le_bytes().to_vec()).collect();
                let bias = biased.then(|| image.section(&words, 4, 4));
                [bias, (inner.len() == 1).then(|| section(image, &own, &inner[0])), None]
            });
            let [bias, at] = [bias, at].map(|offset| Some(Place::Local(buffer?, offset?)));
            (own, bias, at)
        };
        let widest = inner.first().map_or(0, |range| range.len().next_multiple_of(CONV_CHANNELS_HALF as usize) * taps);
        let row = RowBytes { constants: widest as u64 * u64::from(x.prec.bytes()) + 4, sums: 0 };
        self.in_blocks(x, result, row, false, load, |lowering, (own, bias, at), x, result| {
            // What is added up by several commands has 32 bits in between.
            let sums = if inner.len() == 1 { result } else { lowering.float(Prec::Fp32, result.shape) };
            for range in &inner {
                let weights = at.unwrap_or_else(|| {
                    let part = (key.clone(), own.clone(), Some(range.clone()));
                    let (buffer, [at, ..]) =
                        lowering.packed(part, own.len() as u32, |image| [Some(section(image, own, range)), None, None]);
                    let (buffer, at) = buffer.zip(at).expect("weights have bytes");
                    Place::Local(buffer, at)
                });
                let (x, place) = channels(x, range);
                let bias = bias.filter(|_| range.start == 0);
                let conv = Conv {
                    opd0_prec: x.prec.code(),
                    opd2_const: u32::from(bias.is_none()),
                    res_add: u32::from(range.start > 0),
                    ..window.conv(x, sums, kernel)
                };
                let to = Place::Local(sums.buffer, 0);
                let mut places = vec![("opd0_addr", place), ("opd1_addr", weights), ("res0_addr", to)];
                places.extend(bias.map(|bias| ("opd2_addr", bias)));
                lowering.draft.push(conv, places);
            }
            if sums != result {
                lowering.draft.convert(sums, result);
            }
        });
        result
    }

    /// A depthwise convolution. Its sums have the type of its operands: that of 16 bits is too coarse.
    fn depthwise_floats(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        weights: &[f32],
        bias: &[f32],
    ) -> Home {
        let prec = DEPTHWISE;
        let taps = (kernel[0] * kernel[1]) as usize;
        let es = prec.bytes() as usize;
        let rows = |values: &[f32], length: usize| -> Vec<Vec<u8>> {
            values.chunks(length).map(|row| bytes(row, prec)).collect()
        };
        let (weights, bias) = (rows(weights, taps), rows(bias, 1));
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let mut image = Image::new(range.len() as u32);
            let bias = image.section(&bias[own.clone()], es, es);
            let at = image.section(&weights[own], taps * es, es);
            let constants = lowering.draft.constants(&image);
            [at, bias].map(|offset| Place::Local(constants, offset))
        };
        let result = self.float(x.prec, shape);
        let row = RowBytes { constants: 64, sums: lane_bytes(prec, [1, 1, shape[2], shape[3]]) };
        self.in_blocks(x, result, row, true, load, |lowering, [at, bias], x, result| {
            let from = lowering.as_float(x, prec);
            let sums = if result.prec == prec { result } else { lowering.float(prec, result.shape) };
            let places = vec![
                ("opd0_addr", Place::Local(from.buffer, 0)),
                ("opd1_addr", *at),
                ("opd2_addr", *bias),
                ("res0_addr", Place::Local(sums.buffer, 0)),
            ];
            lowering.draft.push(depthwise(from, sums, window, kernel, 0), places);
            if sums != result {
                lowering.draft.convert(sums, result);
            }
        });
        result
    }

    /// Lowers `alpha · A·B + beta · C` with constant B and C.
    pub(super) fn float_gemm(&mut self, node: &Node, op: &Gemm) -> Result<Home, Refusal> {
        self.need_half("a matrix product")?;
        if op.trans_a {
            return refuse("a transposed left matrix", "one as it is");
        }
        let weights = self.right(node, op.trans_b)?;
        let n = weights.shape[1];
        let bias = match node.inputs.get(2).copied().flatten() {
            None => vec![0.0; n],
            Some(_) => {
                let tensor = self.constant(node, 2)?;
                let one_row = tensor.shape().iter().rev().skip(1).all(|&d| d == 1);
                match (&values(tensor)[..], one_row) {
                    (&[value], _) => vec![value; n],
                    (values, true) if values.len() == n => values.to_vec(),
                    _ => return refuse(format!("a summand of shape {:?}", tensor.shape()), "one row"),
                }
            }
        };
        let scaled =
            |values: Vec<f32>, by: f64| values.into_iter().map(|v| (f64::from(v) * by) as f32).collect::<Vec<_>>();
        let (alpha, beta) = (op.alpha.get(), op.beta.get());
        let key = self.layer(node, &[alpha, beta].map(|v| v as f32).map(f32::to_bits));
        let columns = lazy(move || scaled(weights.columns(), alpha));
        let x = self.input(node, 0)?;
        Ok(self.rows_by(x, n, (key, columns), &scaled(bias, beta)))
    }

    /// Lowers a matrix product.
    pub(super) fn float_matmul(&mut self, node: &Node, op: &MatMulOp) -> Result<Home, Refusal> {
        self.need_half("a matrix product")?;
        let (Some(a), Some(b)) = (node.inputs[0], node.inputs[1]) else { return refuse("no operand", "two") };
        if op.trans_a {
            return refuse("a transposed left matrix", "one as it is");
        }
        if self.graph.constant(b).is_some() && self.graph.ty(b).rank() == 2 {
            let weights = self.right(node, op.trans_b)?;
            let x = self.input(node, 0)?;
            let result = self.shape(node.outputs[0])?;
            let key = self.layer(node, &[]);
            return Ok(self.matrix_by(x, result, weights, key));
        }
        self.float_batch(node, [a, b], op.trans_b)
    }

    /// A matrix in local memory by a constant one.
    fn matrix_by(&mut self, x: Home, result: [u32; 4], weights: Right<'_>, key: LayerKey) -> Home {
        let [k, n] = weights.shape;
        if x.shape[0] == 1 && x.shape[2] == 1 && x.shape[1] > 1 && x.shape[3] == k as u32 {
            let bytes = self.constant_bytes(key, || bytes(&weights.rows(), x.prec));
            let source = self.draft.shared(&bytes);
            let right = self.draft.load_from(source, x.prec, [1, k as u32, 1, n as u32]);
            return self.matrices(x, right, false);
        }
        let rows = x.shape.iter().product::<u32>() / k as u32;
        let x = self.draft.reshape(x, [rows, k as u32, 1, 1]);
        let product = self.rows_by(x, n, (key, lazy(move || weights.columns())), &vec![0.0; n]);
        self.draft.reshape(product, result)
    }

    /// Rows `(m, k, 1, 1)` by a constant matrix of which columns are given one after the other: a convolution of 1 by 1, rows
    /// as N.
    fn rows_by(&mut self, x: Home, n: usize, columns: (LayerKey, Lazy<'_>), bias: &[f32]) -> Home {
        self.conv_floats(x, [x.shape[0], n as u32, 1, 1], &Window::plain(), [1, 1], columns, bias)
    }

    /// Products of matrices in local memory, one for each of the leading axes.
    fn float_batch(&mut self, node: &Node, [a, b]: [ValueId; 2], trans_b: bool) -> Result<Home, Refusal> {
        let (ranks, shape) = ([a, b].map(|value| self.graph.ty(value).rank()), self.shape(node.outputs[0])?);
        let (a, b) = (self.home(a)?, self.home(b)?);
        if ranks == [3, 3] && a.shape[0] == 1 && b.shape[0] == 1 {
            return Ok(self.matrices(a, b, trans_b));
        }
        if ranks != [4, 4] || a.shape[..2] != b.shape[..2] {
            return refuse(
                format!("products of ranks {ranks:?}"),
                "rank 4 with the same leading axes, or one constant",
            );
        }
        let result = self.float(a.prec, shape);
        for n in 0..shape[0] {
            for c in 0..shape[1] {
                let left = self.plane(a, n, c);
                let right = self.plane(b, n, c);
                let product = self.matrices(left, right, trans_b);
                let (src, dst) = (product.shape, [1, 1, shape[2], shape[3]]);
                let dma = reshaping(a.prec, src, dst);
                let to = self.draft.place_of(result, [n, c, 0, 0]);
                self.draft.push(dma, vec![("src", Place::Local(product.buffer, 0)), ("dst", to)]);
            }
        }
        Ok(result)
    }

    /// A plane of a tensor as a matrix with rows over lanes.
    fn plane(&mut self, x: Home, n: u32, c: u32) -> Home {
        let [_, _, h, w] = x.shape;
        let result = self.float(x.prec, [1, h, 1, w]);
        let dma = reshaping(x.prec, [1, 1, h, w], result.shape);
        let from = self.draft.place_of(x, [n, c, 0, 0]);
        self.draft.push(dma, vec![("src", from), ("dst", Place::Local(result.buffer, 0))]);
        result
    }

    /// A product of matrices `(1, rows, 1, columns)`.
    fn matrices(&mut self, left: Home, right: Home, trans_b: bool) -> Home {
        let columns = if trans_b { right.shape[1] } else { right.shape[3] };
        let result = self.float(left.prec, [1, left.shape[1], 1, columns]);
        let mm = MatMul {
            eu: if trans_b { 5 } else { 4 },
            res0_prec: result.prec.code(),
            opd0_prec: left.prec.code(),
            opd2_const: 1,
            res0_c: result.shape[1],
            res0_w: result.shape[3],
            opd1_c: right.shape[1],
            opd1_w: right.shape[3],
            ..MatMul::default()
        };
        let places = [("opd0_addr", left), ("opd1_addr", right), ("res0_addr", result)];
        self.draft.push(mm, places.map(|(name, home)| (name, Place::Local(home.buffer, 0))).to_vec());
        result
    }
}

/// A constant right matrix.
#[derive(Clone, Copy)]
struct Right<'a> {
    /// Rows, columns.
    shape: [usize; 2],
    tensor: &'a Tensor,
    /// Whether what is stored are the columns.
    transposed: bool,
}

impl Right<'_> {
    /// Row after row.
    fn rows(&self) -> Vec<f32> {
        let [rows, columns] = self.shape;
        if self.transposed { turned(&values(self.tensor), [columns, rows]) } else { values(self.tensor) }
    }

    /// Column after column.
    fn columns(&self) -> Vec<f32> {
        if self.transposed { values(self.tensor) } else { turned(&values(self.tensor), self.shape) }
    }
}

impl<'a> Lowering<'a> {
    /// The constant right matrix of a product.
    fn right(&self, node: &Node, transposed: bool) -> Result<Right<'a>, Refusal> {
        let tensor = self.constant(node, 1)?;
        let &[rows, columns] = tensor.shape() else {
            return refuse(format!("a constant of rank {}", tensor.shape().len()), "rank 2");
        };
        let shape = if transposed { [columns, rows] } else { [rows, columns] };
        Ok(Right { shape, tensor, transposed })
    }
}

/// A copy inside of local memory of the first elements along each axis of a tensor to another shape.
pub(super) fn reshaping_part(x: Home, part: [u32; 4], to: [u32; 4]) -> Dma {
    let whole = copy(x.prec, x.shape, false);
    Dma {
        src_nsize: part[0],
        src_csize: part[1],
        src_hsize: part[2],
        src_wsize: part[3],
        ..Dma {
            src_nstride: whole.src_nstride,
            src_cstride: whole.src_cstride,
            src_hstride: whole.src_hstride,
            src_wstride: whole.src_wstride,
            ..reshaping(x.prec, part, to)
        }
    }
}

/// A copy inside of local memory from one shape to another.
fn reshaping(prec: Prec, from: [u32; 4], to: [u32; 4]) -> Dma {
    let (src, dst) = (copy(prec, from, false), copy(prec, to, true));
    Dma {
        nchw_copy: 0,
        dst_nstride: dst.dst_nstride,
        dst_cstride: dst.dst_cstride,
        dst_hstride: dst.dst_hstride,
        dst_wstride: dst.dst_wstride,
        dst_nsize: to[0],
        dst_csize: to[1],
        dst_hsize: to[2],
        dst_wsize: to[3],
        ..src
    }
}

/// Weights `[oc][ic / groups][taps]` as those of one group, zero where there were none.
fn dense(weights: Vec<f32>, [oc, ic, taps]: [u32; 3], groups: u32) -> Vec<f32> {
    if groups <= 1 {
        return weights;
    }
    let (row, each) = ((ic * taps) as usize, (oc / groups) as usize);
    let mut values = vec![0.0; oc as usize * row * groups as usize];
    for (o, weights) in weights.chunks(row).enumerate() {
        let group = o / each.max(1);
        values[(o * groups as usize + group) * row..][..row].copy_from_slice(weights);
    }
    values
}

/// Weights `[ic][oc / groups][taps]` of a transposed convolution as `[oc][ic][taps]` of one group, taps back to front.
fn mirrored(weights: &[f32], [ic, oc, taps]: [u32; 3], groups: u32) -> Vec<f32> {
    let [ic, oc, taps, groups] = [ic, oc, taps, groups].map(|v| v as usize);
    let each = (ic / groups).max(1);
    let mut values = vec![0.0; groups * oc * ic * taps];
    for (at, kernel) in weights.chunks(taps).enumerate() {
        let (from, to) = (at / oc, at / oc / each * oc + at % oc);
        let row = &mut values[(to * ic + from) * taps..][..taps];
        row.iter_mut().zip(kernel.iter().rev()).for_each(|(to, &from)| *to = from);
    }
    values
}

/// Weights `[oc][ic][kh][kw]` as rows `[ic / 32][kh][kw][32]`, missing channels zero.
fn packed<'a>(rows: impl Iterator<Item = &'a [f32]>, ic: usize, taps: usize, prec: Prec) -> Vec<Vec<u8>> {
    let group = CONV_CHANNELS_HALF as usize;
    let pack = |row: &[f32]| {
        let mut words = vec![0u16; ic.div_ceil(group) * taps * group];
        for (channel, weights) in row.chunks(taps).enumerate() {
            let start = channel / group * taps * group + channel % group;
            for (tap, &weight) in weights.iter().enumerate() {
                words[start + tap * group] = bits(weight, prec) as u16;
            }
        }
        words.into_iter().flat_map(u16::to_le_bytes).collect()
    };
    rows.map(pack).collect()
}
