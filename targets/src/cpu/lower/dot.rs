//! Sums of products of bytes with constant weights.
//!
//! Weights are packed as what they are less their zero points, by four along the sum, so that one instruction adds four
//! products per lane ([`Op::Dot4`](crate::cpu::kernel::ir::Op::Dot4)); activations are its left operand, weights its
//! right, signed one. Zero points of activations only move what the sums start at: `Σ (a - z) · w = Σ a · w - z · Σ w`.
//! x86-64 multiplies unsigned by signed bytes only, so there 128 is added to signed activations in registers, by
//! flipping their highest bit, and the start makes good for it too. AArch64 multiplies signed bytes only, unless it has the
//! extension `i8mm`, so there the same moves unsigned activations down.
//! Weights of 4 and 2 bits stay two and four steps to a byte, and are taken apart in registers.
//!
//! Depthwise convolutions have no sum along neighbours. Theirs is short enough to be exact in `f32`, so they run on the
//! vectors of [`super::slide`], operands and weights converted from bytes, or parts of them, as they are read.

use adze_ir::extent::Extent;
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::blocking::{Blocking, Shape};
use super::conv::Conv;
use super::epilogue::Epilogue;
use super::gemm::dense_steps;
use super::integer::IntegerSum;
use super::leaf::{Anchor, Axis, Leaf, Stream, input, join_axes, output};
use super::micro::{Form, Quads, Sum, SumAxis};
use super::operand::{LeafCx, Lowered, Operand, PackedWeight, Unsupported};
use super::pack::offsets;
use super::pool::{Parts, slide};
use super::product::{Product, RIGHT, Right};
use super::requantize::{Requantized, has_code};
use super::slide::{Finish, Step, Taps};
use super::window::{self, Geometry};
use crate::cpu::kernel::Elem;
use crate::cpu::machine::Arch;

/// Sums up to this are exact in `f32`.
const EXACT_F32: i64 = 1 << 24;
/// Multiples of this up to 2^31 are exact in `f32`.
const SMALL_BIAS: i64 = 1 << 8;

/// The kernel of an integer sum with constant weights, alone or with epilogues; nothing when its operands are others
/// than this file knows.
///
/// # Errors
/// [`Unsupported`] for epilogues that are not elementwise.
pub(super) fn lower(
    cx: &LeafCx<'_>,
    anchor: &Anchor<'_>,
    form: &IntegerSum<'_>,
) -> Result<Option<Lowered>, Unsupported> {
    let Some(parts) = Known::of(cx, anchor, form)? else { return Ok(None) };
    match &form.window {
        None => parts.product(cx, anchor),
        Some(window) => parts.convolution(cx, anchor, window),
    }
}

/// A product of words of four bytes with constant weights.
fn shape(cx: &LeafCx<'_>, quads: Quads, rows: Extent, cols: Extent, depth: Extent) -> Shape {
    let (held, column) = match cx.machine {
        machine if machine.has_dot => (1, 1),
        // The bytes of words of columns are taken apart.
        machine if machine.arch == Arch::Riscv64 && machine.vector_bytes > 0 => (2, 4),
        // Products of bytes take registers for their halves.
        _ => (5, 1),
    };
    // Where bits are flipped in registers, what flips them stays in one.
    let held = held + usize::from(quads.flipped && cx.machine.arch == Arch::Aarch64);
    Shape { elem: Elem::I32, left: rows.clone() * depth.clone(), rows, cols, depth, right: Right::Packed, held, column }
}

/// The zero point of the left operand.
enum LeftZero {
    Known(i64),
    /// One number, in the operand of that position.
    Computed(usize),
}

/// What is known about a sum at compile time.
struct Known<'a> {
    /// Left operand and its position.
    x: (&'a Operand, usize),
    zero: LeftZero,
    /// Weights less their zero points, dense in the order of their tensor.
    weights: Vec<i8>,
    /// Steps of the sum whose weights share a byte; see [`Quads`].
    steps: i64,
    shape: Vec<usize>,
    /// Bias by column or output channel.
    bias: Option<Vec<i64>>,
    stored: Option<Requantized>,
    /// Dtype of the sum or of what it is stored as.
    dtype: DType,
}

impl<'a> Known<'a> {
    fn of(cx: &LeafCx<'a>, anchor: &Anchor<'_>, form: &IntegerSum<'_>) -> Result<Option<Self>, Unsupported> {
        let at = anchor.need(form.operands[0])?;
        let x = input(cx, at)?;
        let w = input(cx, anchor.need(form.operands[1])?)?;
        let optional = |index: usize| anchor.position(index).and_then(|at| cx.inputs.get(at)?.as_ref());
        let Some(tensor) = w.constant.as_ref().filter(|t| fits(t, w)) else { return Ok(None) };
        // The output channel, or the column, of a weight.
        let axis = if form.window.is_some() { 0 } else { 1 };
        if tensor.shape().len() < 2 || (axis == 1 && (tensor.shape().len() != 2 || x.rank() < 2)) {
            return Ok(None);
        }
        let columns = tensor.shape()[axis];
        let w_zero = optional(form.zeros[1]);
        let w_zeros = match w_zero {
            None => Some(vec![0]),
            Some(zero) => zero.constant.as_ref().map(Tensor::to_ints).filter(|z| z.len() == 1 || z.len() == columns),
        };
        let Some(weights) = w_zeros.and_then(|zeros| shifted(tensor, &zeros, axis)) else { return Ok(None) };
        let zero = match (optional(form.zeros[0]), anchor.position(form.zeros[0])) {
            (Some(zero), Some(at)) if zero.rank() == 0 || zero.shape == [Extent::ONE] => match &zero.constant {
                Some(zero) => LeftZero::Known(first(zero)),
                None => LeftZero::Computed(at),
            },
            (Some(_), _) => return Ok(None),
            (None, _) => LeftZero::Known(0),
        };
        let (mut bias, mut stored) = (None, None);
        if let Some(contract) = form.contract {
            let Some(requantized) = requantized(contract, columns, [1, 4, 6, 7].map(optional)) else { return Ok(None) };
            stored = Some(requantized);
            if let Some(given) = optional(8) {
                let Some(given) = &given.constant else { return Ok(None) };
                bias = Some(given.to_i64());
            }
        }
        let (shape, dtype) = (tensor.shape().to_vec(), form.dtype(cx, anchor)?);
        let steps = sharing(tensor.dtype(), &weights);
        let mut known = Self { x: (x, at), zero, weights, steps, shape, bias, stored, dtype };
        let largest = known.largest(axis);
        if let Some(stored) = &mut known.stored {
            stored.largest = largest;
        }
        Ok(Some(known))
    }

    /// What no sum exceeds in magnitude, scaled as it is stored.
    fn largest(&self, axis: usize) -> f64 {
        let Some(stored) = &self.stored else { return f64::INFINITY };
        let factor = self.largest_factor() as f64;
        let sums = self.column_sums(axis, i64::abs);
        let scaled = |(column, sum): (usize, &i64)| {
            let bias = self.bias.as_ref().map_or(0, |bias| bias[column]);
            let scale = stored.scales[column % stored.scales.len()];
            // Beyond, sums wrap.
            (*sum as f64 * factor + bias.abs() as f64).min(2f64.powi(31)) * f64::from(scale.abs())
        };
        let all = sums.iter().enumerate().map(scaled);
        all.fold(0.0, |largest, scaled| if scaled.is_nan() { f64::INFINITY } else { scaled.max(largest) })
    }

    /// The largest magnitude of an activation less its zero point.
    fn largest_factor(&self) -> i64 {
        let (lo, hi) = self.x.0.dtype.int_range().map_or((0, 0), |(lo, hi)| (lo as i64, hi as i64));
        match self.zero {
            LeftZero::Known(zero) => (lo - zero).abs().max((hi - zero).abs()),
            LeftZero::Computed(_) => hi - lo,
        }
    }

    fn quads(&self, cx: &LeafCx<'_>) -> Quads {
        let signed = self.x.0.dtype == DType::I8;
        let flipped = match cx.machine.arch {
            Arch::X86_64 => signed,
            Arch::Aarch64 => !signed && !cx.machine.has_mixed_dot,
            _ => false,
        };
        Quads { signed, flipped, steps: self.steps }
    }

    /// What sums start at, given the sum of the weights of every column: a stream, and whether the zero point of the
    /// left operand still has to be multiplied in.
    fn start(
        &self,
        leaf: &mut Leaf<'_>,
        quads: Quads,
        sums: &[i64],
    ) -> Result<(Stream, Option<(Stream, i64)>), Unsupported> {
        let raise = match (quads.flipped, quads.signed) {
            (false, _) => 0,
            (true, true) => 128,
            (true, false) => -128,
        };
        let bias = |column: usize| self.bias.as_ref().map_or(0, |bias| bias[column]);
        let (values, times): (Vec<i64>, _) = match self.zero {
            LeftZero::Known(zero) => {
                (sums.iter().enumerate().map(|(i, sum)| bias(i) - (zero + raise) * sum).collect(), None)
            }
            LeftZero::Computed(at) => (sums.to_vec(), Some((leaf.input(at)?, raise))),
        };
        let wrapped: Vec<i128> = values.into_iter().map(|v| i128::from(v as i32)).collect();
        let data = Tensor::from_ints(DType::I32, &[wrapped.len()], &wrapped);
        Ok((leaf.packed(PackedWeight { transform: "sum_starts".into(), data }), times))
    }

    /// The epilogue, which requantizes first where the form does; scales lie along `axis` of the result.
    fn epilogue<'e>(
        &self,
        leaf: &mut Leaf<'_>,
        anchor: &Anchor<'e>,
        y: &Operand,
        axis: usize,
    ) -> Result<Epilogue<'e>, Unsupported> {
        match &self.stored {
            Some(stored) => Epilogue::requantizing(leaf, anchor, y, axis, stored),
            None => Epilogue::of(leaf, anchor, self.dtype, y),
        }
    }

    /// Sums over the weights of every column or output channel.
    fn column_sums(&self, axis: usize, of: impl Fn(i64) -> i64) -> Vec<i64> {
        let inner: usize = self.shape[axis + 1..].iter().product();
        let mut sums = vec![0i64; self.shape[axis]];
        for (at, weight) in self.weights.iter().enumerate() {
            sums[at / inner.max(1) % self.shape[axis]] += of(i64::from(*weight));
        }
        sums
    }

    fn product(&self, cx: &LeafCx<'_>, anchor: &Anchor<'_>) -> Result<Option<Lowered>, Unsupported> {
        let (x, at) = self.x;
        let (rank, y) = (x.rank(), output(cx, 0)?);
        let [depth, columns] = [self.shape[0], self.shape[1]];
        // A computed zero point and a bias would both be what sums start at.
        let two_starts = self.bias.is_some() && matches!(self.zero, LeftZero::Computed(_));
        if x.strides[rank - 1] != Extent::ONE || y.rank() != rank || two_starts {
            return Ok(None);
        }
        let quads = self.quads(cx);
        let (all_rows, words) = (Extent::product(&x.shape[..rank - 1]), Extent::from(depth.div_ceil(4)));
        let blocking = Blocking::choose(cx, &shape(cx, quads, all_rows, columns.into(), words.clone()))?;
        let mut leaf = Leaf::new(cx, &format!("{}_{}x{}", anchor.op.name(), blocking.mr, blocking.nr));
        let left = leaf.input(at)?;
        let (outer, run) = (Vec::new(), vec![(depth, columns)]);
        let run = Runs { groups: (1, 0), cols: (columns, 1), outer, run, steps: self.steps as usize, joined: false };
        let right = leaf.packed(run.pack(&self.weights, blocking.nr));
        let target = leaf.output(0)?;
        let (start, start_times) = self.start(&mut leaf, quads, &self.column_sums(1, |weight| weight))?;
        let epilogue = self.epilogue(&mut leaf, anchor, y, rank - 1)?;
        let mut start_strides = vec![Extent::ZERO; rank];
        start_strides[rank - 1] = Extent::ONE;
        let others: Vec<&[Extent]> = [y.strides.as_slice(), &start_strides]
            .into_iter()
            .chain(epilogue.streams.iter().map(|s| s.1.as_slice()))
            .collect();
        let axis = |at: usize, left: Extent, right: Extent| {
            let strides = [left, right].into_iter().chain(others.iter().map(|s| s[at].clone())).collect();
            Axis { extent: y.shape[at].clone(), strides }
        };
        let cols = axis(rank - 1, Extent::ZERO, run.bytes().into());
        let outer = (0..rank - 1).map(|a| {
            let stride = if x.shape[a] == Extent::ONE { Extent::ZERO } else { x.strides[a].clone() };
            axis(a, stride, Extent::ZERO)
        });
        let mut outer = join_axes(outer.collect());
        let one = || Axis { extent: Extent::ONE, strides: vec![Extent::ZERO; cols.strides.len()] };
        let rows = outer.pop().unwrap_or_else(one);
        let sum = Sum::quads(Vec::new(), depth as i64, blocking.nr, quads);
        let product = Product {
            elem: Elem::I32,
            lanes: blocking.lanes,
            at_once: blocking.at_once,
            mr: blocking.mr,
            nr: blocking.nr,
            streams: [left, right, target],
            right: Right::Packed,
            start: Some(start),
            scale: None,
            form: Form::Quads(quads),
            start_times,
            chunk: Some(blocking.chunk(cx, Elem::I32, &words)),
            order: blocking.order,
            outer,
            rows,
            cols,
            row_parts: Vec::new(),
            sum: &|_, _, _, _| sum.clone(),
            epilogue,
        };
        product.emit(leaf).map(Some)
    }

    fn convolution(
        &self,
        cx: &LeafCx<'_>,
        anchor: &Anchor<'_>,
        moves: &super::integer::Window<'_>,
    ) -> Result<Option<Lowered>, Unsupported> {
        let (x, y) = (self.x.0, output(cx, 0)?);
        let LeftZero::Known(zero) = self.zero else { return Ok(None) };
        let kernel: Vec<i64> = self.shape[2..].iter().map(|&n| n as i64).collect();
        let (strides, pads, dilations) = (moves.strides, moves.pads, moves.dilations);
        window::check_bounds(x, cx.dims, Some(zero as f64))?;
        let geometry = Geometry { kernel: &kernel, strides, pads, dilations };
        let windows = window::Window::all(x, y.shape.get(2..).unwrap_or_default(), &geometry, cx.dims)?;
        let (groups, depth) = (moves.group.max(1), self.shape[1] as i64);
        let conv = Conv {
            x,
            // The weights' strides are not read: they are packed.
            w: x,
            constant: None,
            stored: None,
            y: y.clone(),
            elem: Elem::I32,
            windows,
            groups,
            depth,
            columns: self.shape[0] as i64 / groups,
            phases: Vec::new(),
        };
        let neighbours = |operand: &Operand| operand.strides[1] == Extent::ONE || operand.shape[1] == Extent::ONE;
        let channels_last = neighbours(x) && neighbours(y);
        if conv.windows.is_empty() || !channels_last {
            return Ok(None);
        }
        if depth == 1 && conv.columns == 1 {
            return self.depthwise(cx, anchor, conv, zero);
        }
        if conv.windows.iter().any(|w| w.clipped) {
            return Ok(None);
        }
        self.dense(cx, anchor, &conv).map(Some)
    }

    fn dense(&self, cx: &LeafCx<'_>, anchor: &Anchor<'_>, conv: &Conv<'_>) -> Result<Lowered, Unsupported> {
        let quads = self.quads(cx);
        // A quarter of the elements are words.
        let words = Extent::product(&conv.x.shape).ceildiv(&4.into());
        let depth = self.shape[1..].iter().product::<usize>().div_ceil(4);
        let rows = Extent::product(&conv.y.shape[2..]);
        let shape = Shape { left: words, ..shape(cx, quads, rows, conv.columns.into(), depth.into()) };
        let blocking = Blocking::choose(cx, &shape)?;
        let mut leaf = Leaf::new(cx, "conv_integer");
        let left = leaf.input(self.x.1)?;
        let left = Stream { base: left.base - conv.padding_offset(), ..left };
        let (mut runs, loops) = self.runs(conv, blocking.nr);
        let bytes = runs.run_steps() as i64;
        // Short runs leave parts of bytes empty, unless the next run goes on there.
        let joined = (!runs.outer.is_empty() && !runs.run_words().is_multiple_of(runs.steps))
            .then(|| Sum::joined_quads(&loops, bytes, blocking.nr, quads))
            .flatten();
        runs.joined = joined.is_some();
        let right = leaf.packed(runs.pack(&self.weights, blocking.nr));
        let target = leaf.output(0)?;
        let target = Stream { base: conv.y.offset.clone(), ..target };
        let (start, start_times) = self.start(&mut leaf, quads, &self.column_sums(0, |weight| weight))?;
        let epilogue = self.epilogue(&mut leaf, anchor, &conv.y, 1)?;
        let mut strides = vec![conv.y.strides.clone(), vec![Extent::ZERO; conv.y.rank()]];
        strides[1][1] = Extent::ONE;
        strides.extend(epilogue.streams.iter().map(|s| s.1.clone()));
        let (mut outer, rows, cols) = conv.axes(Right::Packed, blocking.nr, runs.bytes() as i64, &strides);
        outer.push(rows);
        let mut outer = join_axes(outer);
        let one = || Axis { extent: Extent::ONE, strides: vec![Extent::ZERO; cols.strides.len()] };
        let rows = match outer.pop() {
            Some(axis) if axis.strides[RIGHT] == Extent::ZERO => axis,
            other => {
                outer.extend(other);
                one()
            }
        };
        let sum = joined.unwrap_or_else(|| Sum::quads(loops, bytes, blocking.nr, quads));
        let words: Extent = runs.bytes().div_ceil(4).into();
        let product = Product {
            elem: Elem::I32,
            lanes: blocking.lanes,
            at_once: blocking.at_once,
            mr: blocking.mr,
            nr: blocking.nr,
            streams: [left, right, target],
            right: Right::Packed,
            start: Some(start),
            scale: None,
            form: Form::Quads(quads),
            start_times,
            chunk: Some(blocking.chunk(cx, Elem::I32, &words)),
            order: blocking.order,
            outer,
            rows,
            cols,
            row_parts: Vec::new(),
            sum: &|_, _, _, _| sum.clone(),
            epilogue,
        };
        product.emit(leaf)
    }

    /// How the weights lie along the sum: runs of neighbours in the input, and the loops around them.
    fn runs(&self, conv: &Conv<'_>, nr: usize) -> (Runs, Vec<SumAxis>) {
        let steps = dense_steps(&self.shape);
        let count = |n: i64| usize::try_from(n).unwrap_or(0);
        let mut run = vec![(self.shape[1], steps[1])];
        let mut bytes = conv.depth;
        let mut around: Vec<usize> = (0..conv.windows.len()).collect();
        while let Some(&axis) = around.last() {
            let w = &conv.windows[axis];
            if w.step.clone() * w.dilation.into() != bytes.into() && w.kernel != 1 {
                break;
            }
            run.insert(0, (self.shape[axis + 2], steps[axis + 2]));
            bytes *= w.kernel;
            around.pop();
        }
        let runs = Runs {
            groups: (count(conv.groups), count(conv.columns) * steps[0]),
            cols: (count(conv.columns), steps[0]),
            outer: around.iter().map(|&axis| (self.shape[axis + 2], steps[axis + 2])).collect(),
            run,
            steps: self.steps as usize,
            joined: false,
        };
        let mut right = (runs.run_vectors() * 4 * nr) as i64;
        let mut loops = Vec::new();
        for &axis in around.iter().rev() {
            let w = &conv.windows[axis];
            loops.insert(0, SumAxis::whole(w.kernel.into(), w.step.clone() * w.dilation.into(), right.into()));
            right *= w.kernel;
        }
        (runs, loops)
    }

    fn depthwise(
        &self,
        cx: &LeafCx<'_>,
        anchor: &Anchor<'_>,
        conv: Conv<'_>,
        zero: i64,
    ) -> Result<Option<Lowered>, Unsupported> {
        let Some(stored) = &self.stored else { return Ok(None) };
        let channels = self.shape[0];
        let largest = self.largest_factor();
        let sums: Vec<i64> = self.column_sums(0, |weight| weight.abs() * largest);
        let bias = |channel: usize| self.bias.as_ref().map_or(0, |bias| bias[channel]);
        let wraps = |(channel, sum): (usize, &i64)| sum + bias(channel).abs() > i64::from(i32::MAX);
        if sums.iter().any(|sum| sum + SMALL_BIAS > EXACT_F32) || sums.iter().enumerate().any(wraps) {
            return Ok(None);
        }
        // A large bias in two parts: a small one, and multiples that `f32` holds.
        let large = sums.iter().enumerate().any(|(channel, sum)| sum + bias(channel).abs() > EXACT_F32);
        let mut stored = stored.clone();
        let parts =
            |bias: i64| if large { (bias.rem_euclid(SMALL_BIAS), bias.div_euclid(SMALL_BIAS)) } else { (bias, 0) };
        let starts: Option<Vec<f32>> = self.bias.as_ref().map(|b| b.iter().map(|&v| parts(v).0 as f32).collect());
        if large {
            stored.bias = self.bias.as_ref().map(|b| b.iter().map(|&v| (parts(v).1 * SMALL_BIAS) as f32).collect());
        }
        let mut leaf = Leaf::new(cx, "depthwise_integer");
        let stream = leaf.input(self.x.1)?;
        let weights = leaf.packed(pack_taps(&self.weights, channels, self.steps));
        let start = starts.map(|starts| {
            let data = Tensor::from_f32(&[channels], &starts);
            (leaf.packed(PackedWeight { transform: "bias_f32".into(), data }), Extent::ONE)
        });
        let parts = Parts {
            x: conv.x,
            y: &conv.y,
            stream,
            elem: Elem::F32,
            windows: conv.windows,
            step: Step::Weighted(Taps { stream: weights, channels: channels as i64, steps: self.steps }),
            start,
            finish: Finish::None,
            stored: Some((zero, stored)),
        };
        slide(leaf, anchor, parts).map(Some)
    }
}

/// The weights of depthwise windows, `[tap / steps][channel]`.
pub(super) fn pack_taps(weights: &[i8], channels: usize, steps: i64) -> PackedWeight {
    let (taps, steps) = (weights.len() / channels.max(1), steps as usize);
    let (bits, rows) = (8 / steps, taps.div_ceil(steps));
    let mut bytes = vec![0u8; rows * channels];
    for (at, &weight) in weights.iter().enumerate() {
        let (channel, tap) = (at / taps.max(1), at % taps.max(1));
        let part = weight.cast_unsigned() & (0xff >> (8 - bits));
        bytes[tap / steps * channels + channel] |= part << (bits * (tap % steps));
    }
    let data = Tensor::new(DType::I8, vec![rows, channels], bytes);
    let data = data.unwrap_or_else(|_| Tensor::zeros(DType::I8, &[0]));
    let transform = if steps == 1 { "pack_kn".into() } else { format!("pack_kn_x{steps}") };
    PackedWeight { transform, data }
}

/// Whether a constant is what an operand reads, all of it.
pub(super) fn fits(tensor: &Tensor, operand: &Operand) -> bool {
    let same = |(&n, e): (&usize, &Extent)| *e == Extent::from(n);
    tensor.shape().len() == operand.rank() && tensor.shape().iter().zip(&operand.shape).all(same)
}

/// How many weights share a byte: as many as their dtype says, if they still fit after their zero points were taken out.
pub(super) fn sharing(dtype: DType, weights: &[i8]) -> i64 {
    let bits = dtype.bits();
    let half = 1i8 << (bits.min(7) - 1);
    if bits < 8 && weights.iter().all(|w| (-half..half).contains(w)) { i64::from(8 / bits) } else { 1 }
}

fn first(tensor: &Tensor) -> i64 {
    tensor.to_i64().first().copied().unwrap_or(0)
}

/// Weights less their zero points, one or one per slice of `axis`; nothing when one does not fit a signed byte.
pub(super) fn shifted(tensor: &Tensor, zeros: &[i128], axis: usize) -> Option<Vec<i8>> {
    let inner: usize = tensor.shape()[axis + 1..].iter().product();
    let len = tensor.shape()[axis];
    let zero = |at: usize| if zeros.len() == 1 { zeros[0] } else { zeros[at / inner.max(1) % len] };
    tensor.to_ints().into_iter().enumerate().map(|(at, w)| i8::try_from(w - zero(at)).ok()).collect()
}

/// The requantization with these scales of both operands, scale and zero point of the result; nothing when one is not
/// known, or lies along something else than the columns.
pub(super) fn requantized(
    contract: Requantize,
    columns: usize,
    parameters: [Option<&Operand>; 4],
) -> Option<Requantized> {
    let values = |index: usize| -> Option<Vec<f32>> {
        let tensor = parameters[index]?.constant.as_ref()?;
        Some(tensor.to_f64().into_iter().map(|v| v as f32).collect())
    };
    let (x, w, y) = (values(0)?, values(1)?, values(2)?);
    let zero = parameters[3]?;
    let [x] = x[..] else { return None };
    let [y] = y[..] else { return None };
    if w.len() != 1 && w.len() != columns {
        return None;
    }
    let scales: Vec<f32> = w.into_iter().map(|w| x * w / y).collect();
    if !scales.iter().all(|&scale| has_code(contract, scale)) {
        return None;
    }
    let zero = (first(zero.constant.as_ref()?), zero.dtype);
    Some(Requantized { contract, scales, bias: None, zero: zero.0, dtype: zero.1, largest: f64::INFINITY })
}

/// Weights along their sum: number and elements from one to the next, per axis.
struct Runs {
    groups: (usize, usize),
    cols: (usize, usize),
    /// Axes around a run, outermost first.
    outer: Vec<(usize, usize)>,
    /// Axes of a run, outermost first.
    run: Vec<(usize, usize)>,
    /// Words that share a word of bytes.
    steps: usize,
    /// Whether words of one run share bytes with those of the next.
    joined: bool,
}

impl Runs {
    fn run_steps(&self) -> usize {
        self.run.iter().map(|axis| axis.0).product()
    }

    /// Words of a run.
    fn run_words(&self) -> usize {
        self.run_steps().div_ceil(4)
    }

    /// Words of a column that a run is packed to.
    fn run_vectors(&self) -> usize {
        self.run_words().div_ceil(self.steps)
    }

    /// Words of a column that all runs are packed to.
    fn vectors(&self) -> usize {
        let runs = self.outer.iter().map(|axis| axis.0).product::<usize>();
        if self.joined { (runs * self.run_words()).div_ceil(self.steps) } else { runs * self.run_vectors() }
    }

    /// Bytes of a column, every run filled up to whole words.
    fn bytes(&self) -> usize {
        self.vectors() * 4
    }

    /// Packs to `[group][column / nr][outer..][run / 4 / steps][nr][4]`, filled up with zeros; of joined runs to
    /// `[group][column / nr][outer.. · run / 4 / steps][nr][4]`.
    fn pack(&self, weights: &[i8], nr: usize) -> PackedWeight {
        let (count, stride) = self.cols;
        let panels = count.div_ceil(nr);
        // Where steps share bytes, half of what fits is added to each: its highest bit is flipped.
        let (bits, zero) = (8 / self.steps, [0, 0, 0x88, 0, 0xaa][self.steps]);
        let part_of = |w: i8, part: usize| (w.cast_unsigned() & (0xff >> (8 - bits))) << (bits * part);
        let (outer, run) = (offsets(&self.outer), offsets(&self.run));
        let each = if self.joined { self.run_words() } else { self.run_vectors() * self.steps };
        let mut bytes = vec![zero; self.groups.0 * panels * self.vectors() * nr * 4];
        let mut panels_of = bytes.chunks_exact_mut((self.vectors() * nr * 4).max(1));
        for group in 0..self.groups.0 {
            for panel in 0..panels {
                let Some(to) = panels_of.next() else { continue };
                for (index, around) in outer.iter().enumerate() {
                    for lane in 0..nr.min(count - panel * nr) {
                        let from = group * self.groups.1 + (panel * nr + lane) * stride + around;
                        for (k, inner) in run.iter().enumerate() {
                            let word = index * each + k / 4;
                            let (vector, part) = (word / self.steps, word % self.steps);
                            to[(vector * nr + lane) * 4 + k % 4] ^= part_of(weights[from + inner], part);
                        }
                    }
                }
            }
        }
        let shape = vec![bytes.len()];
        let data = Tensor::new(DType::I8, shape, bytes).unwrap_or_else(|_| Tensor::zeros(DType::I8, &[0]));
        let transform = if self.steps == 1 { format!("pack_k4n{nr}") } else { format!("pack_k4x{}n{nr}", self.steps) };
        PackedWeight { transform, data }
    }
}
