//! Windows that slide over images channel by channel: depthwise convolution and pooling.
//!
//! Vectors run along the channels where those are neighbours; several outputs of an image row stay in registers, so that an
//! element of the input is read once per row of the window. Other layouts run the same code one channel at a time.

use adze_ir::extent::Extent;

use super::borders::{Borders, CLIPPED, INSIDE, Stretch};
use super::epilogue::Epilogue;
use super::leaf::{Axis, Leaf, Stream, bind, decode};
use super::micro::{load_lanes, multiply_add};
use super::operand::{Lowered, Unsupported};
use super::product::{EXTRA, LEFT, RESULT, RIGHT, START};
use super::store::{store_first, store_saturated};
use super::window::Window;
use crate::cpu::kernel::ir::Shift;
use crate::cpu::kernel::{BinOp, Cmp, Cvt, Elem, KernelBuilder, Type, Value, math};

/// Window rows up to this length are written out, so that neighbouring outputs share what is read.
const WRITTEN_OUT: i64 = 5;

/// What is done with an element of a window.
pub(super) enum Step {
    /// Multiplied by a weight and added.
    Weighted(Taps),
    /// The largest; of integers, signed or not.
    Max {
        /// Whether integers are signed.
        signed: bool,
    },
    /// Added.
    Sum,
    /// `|x|^p` added.
    Power(i64),
}

/// Weights of windows, `[tap][channel]`.
pub(super) struct Taps {
    /// Where they are.
    pub stream: Stream,
    /// Channels.
    pub channels: i64,
    /// Taps of a channel that share a byte, the first one in its lowest bits; 1 where none do.
    pub steps: i64,
}

/// What is done with the result of a window, before the epilogue.
pub(super) enum Finish {
    /// Nothing.
    None,
    /// Divided by the number of elements that these windows have.
    Average(Vec<Window>),
    /// The root of that degree.
    Root(i64),
    /// Multiplied by the scale of its channel; what it starts at comes in behind.
    Scaled(Stream),
}

/// A sliding window.
pub(super) struct Slide<'a> {
    /// Element computed in.
    pub elem: Elem,
    /// Lanes of a vector of channels.
    pub lanes: u16,
    /// Rows of a block.
    pub mr: usize,
    /// Registers for results and weights.
    pub registers: usize,
    /// Input, from element 0 of the first window.
    pub x: Stream,
    /// Result.
    pub y: Stream,
    /// What each result starts at.
    pub start: Option<Stream>,
    /// Image, then all spatial axes but the last, then further axes that have no windows; strides as in a product.
    pub outer: Vec<Axis>,
    /// The last spatial axis.
    pub rows: Axis,
    /// Channels.
    pub channels: Axis,
    /// Windows of all spatial axes.
    pub windows: Vec<Window>,
    /// Position in `outer` of the first spatial axis.
    pub first_spatial: usize,
    /// What is done with elements.
    pub step: Step,
    /// Whether some channels of a vector are read and written like all.
    pub masks: bool,
    /// Subtracted from every element of the input.
    pub zero: Option<i64>,
    /// What is done with the result.
    pub finish: Finish,
    /// Steps before the store.
    pub epilogue: Epilogue<'a>,
}

/// Weights of a channel that are in registers at once.
pub(super) fn held_weights(step: &Step, windows: &[Window]) -> usize {
    match (step, windows.last()) {
        (Step::Weighted(..), Some(window)) => weights_held(window),
        (Step::Weighted(..), None) => 1,
        _ => 0,
    }
}

/// [`held_weights`] of weighted windows whose last axis is this one.
pub(super) fn weights_held(window: &Window) -> usize {
    if window.kernel <= WRITTEN_OUT { usize::try_from(window.kernel).unwrap_or(1) } else { 1 }
}

/// A register block: rows by vectors of channels.
#[derive(Clone, Copy)]
struct Block {
    rows: usize,
    vecs: usize,
    lanes: u16,
    /// Lanes that are channels; fewer than all in a block of one vector only.
    valid: u16,
}

/// Where a block is: offsets of all streams, outer indices, first row, and how its windows lie.
struct Place<'a> {
    at: Vec<Extent>,
    outer: &'a [Extent],
    row: Extent,
    pattern: usize,
}

/// What the next element of a window reads: the input, and the weights of which tap.
#[derive(Clone)]
struct Reads {
    x: Extent,
    /// The weights of tap 0.
    weights: Extent,
    tap: Extent,
}

impl Slide<'_> {
    /// Writes the kernel.
    pub fn emit(self, mut leaf: Leaf<'_>) -> Result<Lowered, Unsupported> {
        let counts: Vec<Extent> = self.outer.iter().map(|axis| axis.extent.clone()).collect();
        let range = Extent::product(&counts);
        let (lo, hi) = leaf.b.range();
        let mut result = Ok(());
        let last = self.windows.len() - 1;
        let borders = Borders::of(&self.windows[last], self.mr);
        leaf.b.loop_(lo, hi, 1, |b, unit| {
            let outer = decode(b, unit, &counts);
            let ranges: Vec<(Extent, Extent)> =
                (0..last).map(|i| self.windows[i].present(b, &outer[self.first_spatial + i])).collect();
            let mut at = self.bases();
            for (axis, index) in self.outer.iter().zip(&outer) {
                at = moved(&at, axis, index);
            }
            for part in &borders.parts {
                b.loop_(part.lo.clone(), part.hi.clone(), part.rows as i64, |b, row| {
                    let at = moved(&at, &self.rows, &row);
                    let done = self.channels(b, part.rows, |b, channel, block| {
                        let at = moved(&at, &self.channels, &channel);
                        let place = Place { at, outer: &outer, row: row.clone(), pattern: part.pattern };
                        self.block(b, block, &place, &ranges, &borders)
                    });
                    if result.is_ok() {
                        result = done;
                    }
                });
            }
        });
        result?;
        Ok(leaf.finish(range))
    }

    fn bases(&self) -> Vec<Extent> {
        let weights = match &self.step {
            Step::Weighted(taps) => taps.stream.base.clone(),
            _ => Extent::ZERO,
        };
        let start = self.start.as_ref().map_or(Extent::ZERO, |s| s.base.clone());
        let fixed = [self.x.base.clone(), weights, self.y.base.clone(), start];
        fixed.into_iter().chain(self.epilogue.streams.iter().map(|(s, _)| s.base.clone())).collect()
    }

    /// All channels: several vectors at once where rows are few, then vectors, then narrower ones, then one at a time.
    fn channels(
        &self,
        b: &mut KernelBuilder,
        rows: usize,
        mut body: impl FnMut(&mut KernelBuilder, Extent, Block) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        let mut result = Ok(());
        let extent = &self.channels.extent;
        let mut blocks = Vec::new();
        let vecs = (self.registers / (rows + held_weights(&self.step, &self.windows))).min(4);
        if rows < 4 && self.lanes > 1 && vecs > 1 {
            blocks.push(Block { rows, vecs, lanes: self.lanes, valid: self.lanes });
        }
        let mut lanes = self.lanes;
        if let Some(rest) = self.masked_rest() {
            blocks.push(Block { rows, vecs: 1, lanes, valid: lanes });
            blocks.push(Block { rows, vecs: 1, lanes, valid: rest });
            lanes = 1;
        }
        while lanes > 1 {
            blocks.push(Block { rows, vecs: 1, lanes, valid: lanes });
            // Down to four; a number of channels known at run time only gets whole vectors, then single ones.
            lanes = if lanes > 4 && extent.as_const().is_some() { lanes / 2 } else { 1 };
        }
        blocks.push(Block { rows, vecs: 1, lanes: 1, valid: 1 });
        let mut lo = Extent::ZERO;
        for block in blocks {
            let step = block.vecs as i64 * i64::from(block.valid);
            let hi = lo.clone() + (extent.clone() - lo.clone()).floordiv(&step.into()) * step.into();
            if lo == hi {
                continue;
            }
            b.loop_(lo.clone(), hi.clone(), step, |b, channel| {
                let done = body(b, channel, block);
                if result.is_ok() {
                    result = done;
                }
            });
            lo = hi;
        }
        result
    }

    /// The channels of the last vector, where a masked access takes fewer than all lanes.
    fn masked_rest(&self) -> Option<u16> {
        let rest = self.channels.extent.as_const()? % i64::from(self.lanes);
        (self.masks && rest > 0).then(|| u16::try_from(rest).unwrap_or(1))
    }

    fn block(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        place: &Place<'_>,
        ranges: &[(Extent, Extent)],
        borders: &Borders,
    ) -> Result<(), Unsupported> {
        let inits = self.inits(b, block, &place.at);
        let reads = Reads { x: place.at[LEFT].clone(), weights: place.at[RIGHT].clone(), tap: Extent::ZERO };
        let values = self.walk(b, block, place, ranges, borders, reads, inits);
        let values = self.finish(b, block, place, values)?;
        self.store(b, block, place, values)
    }

    fn inits(&self, b: &mut KernelBuilder, block: Block, at: &[Extent]) -> Vec<Value> {
        let ty = Type::vec(self.elem, block.lanes);
        let starts = self.start.as_ref().filter(|_| !matches!(self.finish, Finish::Scaled(_)));
        let first: Vec<Value> = match (&self.step, starts) {
            (Step::Max { signed }, _) => vec![lowest(b, ty, *signed); block.vecs],
            (_, Some(start)) => self.per_channel(b, block, start, at[START].clone(), START),
            _ => vec![b.zero(ty); block.vecs],
        };
        first.repeat(block.rows)
    }

    /// A number for each channel of a block, from a place in a stream whose elements lie apart like those of another one.
    fn per_channel(&self, b: &mut KernelBuilder, block: Block, stream: &Stream, at: Extent, like: usize) -> Vec<Value> {
        let stride = &self.channels.strides[like];
        let mut load = |vec: usize| {
            let at = at.clone() + vec_offset(block, vec, stride);
            load_lanes(b, stream, at, stride, (block.lanes, block.valid), self.elem)
        };
        (0..block.vecs).map(&mut load).collect()
    }

    /// Loops over the window's axes but the last, then the last one.
    #[expect(clippy::too_many_arguments, reason = "the state of a walk over axes")]
    fn walk(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        place: &Place<'_>,
        ranges: &[(Extent, Extent)],
        borders: &Borders,
        reads: Reads,
        values: Vec<Value>,
    ) -> Vec<Value> {
        let axis = self.windows.len() - 1 - ranges.len();
        let Some(((lo, hi), inner)) = ranges.split_first() else {
            return self.window_row(b, block, place, borders, reads, values);
        };
        b.for_(lo.clone(), hi.clone(), 1, &values, |b, k, values| {
            self.walk(b, block, place, inner, borders, self.tap(&reads, axis, k), values.to_vec())
        })
    }

    /// Elements of the input from element to element of a window.
    fn x_step(&self, axis: usize) -> Extent {
        self.windows[axis].step.clone() * self.windows[axis].dilation.into()
    }

    /// Element `k` along an axis.
    fn tap(&self, reads: &Reads, axis: usize, k: Extent) -> Reads {
        let inner: i64 = self.windows[axis + 1..].iter().map(|window| window.kernel).product();
        Reads {
            x: reads.x.clone() + self.x_step(axis) * k.clone(),
            weights: reads.weights.clone(),
            tap: reads.tap.clone() + k * inner.into(),
        }
    }

    /// One row of the window.
    fn window_row(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        place: &Place<'_>,
        borders: &Borders,
        at: Reads,
        values: Vec<Value>,
    ) -> Vec<Value> {
        let last = self.windows.len() - 1;
        let window = &self.windows[last];
        let all = [Stretch { from: 0, to: window.kernel, rows: 0..block.rows }];
        let stretches = match place.pattern {
            CLIPPED => {
                let (lo, hi) = window.present(b, &place.row);
                return self.window_loop(b, block, (lo, hi), 0..block.rows, at, values);
            }
            INSIDE => &all[..],
            pattern => borders.pattern(pattern),
        };
        if window.kernel <= WRITTEN_OUT {
            return self.written_out(b, block, stretches, at, values);
        }
        stretches.iter().fold(values, |values, s| {
            self.window_loop(b, block, (s.from.into(), s.to.into()), s.rows.clone(), at.clone(), values)
        })
    }

    /// A row of the window as a loop.
    fn window_loop(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        (lo, hi): (Extent, Extent),
        rows: std::ops::Range<usize>,
        reads: Reads,
        values: Vec<Value>,
    ) -> Vec<Value> {
        let last = self.windows.len() - 1;
        b.for_(lo, hi, 1, &values, |b, k, values| {
            let reads = self.tap(&reads, last, k);
            let weights = self.weights(b, block, &reads);
            let mut values = values.to_vec();
            for row in rows {
                let at = reads.x.clone() + self.rows.strides[LEFT].clone() * row.into();
                for vec in 0..block.vecs {
                    let element = self.element(b, block, vec, &at);
                    let slot = &mut values[row * block.vecs + vec];
                    *slot = self.accumulate(b, *slot, element, weights.get(vec).copied());
                }
            }
            values
        })
    }

    /// A row of the window element by element: what several outputs need is read once.
    fn written_out(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        stretches: &[Stretch],
        reads: Reads,
        mut values: Vec<Value>,
    ) -> Vec<Value> {
        let last = self.windows.len() - 1;
        let window = &self.windows[last];
        let mut weights: Vec<Vec<Value>> = Vec::new();
        for k in 0..window.kernel {
            weights.push(self.weights(b, block, &self.tap(&reads, last, k.into())));
        }
        // (element of the input, element of the window, row)
        let mut uses: Vec<(i64, i64, usize)> = Vec::new();
        for stretch in stretches {
            for k in stretch.from..stretch.to {
                let column = |row: usize| row as i64 * window.stride + k * window.dilation;
                uses.extend(stretch.rows.clone().map(|row| (column(row), k, row)));
            }
        }
        uses.sort_unstable();
        for vec in 0..block.vecs {
            let mut read: Option<(i64, Value)> = None;
            for &(column, k, row) in &uses {
                let element = match read {
                    Some((at, value)) if at == column => value,
                    _ => self.element(b, block, vec, &(reads.x.clone() + window.step.clone() * column.into())),
                };
                read = Some((column, element));
                let weight = weights[usize::try_from(k).unwrap_or(0)].get(vec).copied();
                let slot = &mut values[row * block.vecs + vec];
                *slot = self.accumulate(b, *slot, element, weight);
            }
        }
        values
    }

    /// The weights of a tap, those that share bytes taken apart.
    fn weights(&self, b: &mut KernelBuilder, block: Block, reads: &Reads) -> Vec<Value> {
        let Step::Weighted(taps) = &self.step else { return Vec::new() };
        let (stride, steps) = (&self.channels.strides[RIGHT], Extent::from(taps.steps));
        let shared = taps.steps > 1;
        let byte = if shared { bind(b, reads.tap.floordiv(&steps)) } else { reads.tap.clone() };
        let at = reads.weights.clone() + byte * taps.channels.into();
        let elem = if shared { Elem::I32 } else { self.elem };
        let load = |b: &mut KernelBuilder, vec| {
            let at = at.clone() + vec_offset(block, vec, stride);
            load_lanes(b, &taps.stream, at, stride, (block.lanes, block.valid), elem)
        };
        let mut weights: Vec<Value> = (0..block.vecs).map(|vec| load(b, vec)).collect();
        if shared {
            // The wanted part goes to the top, then down with its sign.
            let bits = 8 / taps.steps;
            let room = Extent::from(32 - bits) - reads.tap.modulo(&steps) * bits.into();
            let room = b.extent(room);
            let room = b.convert(room, true, Elem::I32);
            for weight in &mut weights {
                let top = b.shift_by(Shift::Left, *weight, room);
                let int = b.shift(Shift::RightS, top, u32::try_from(32 - bits).unwrap_or(0));
                *weight = b.convert(int, true, self.elem);
            }
        }
        weights
    }

    fn element(&self, b: &mut KernelBuilder, block: Block, vec: usize, at: &Extent) -> Value {
        let stride = &self.channels.strides[LEFT];
        let at = at.clone() + vec_offset(block, vec, stride);
        let element = load_lanes(b, &self.x, at, stride, (block.lanes, block.valid), self.elem);
        let Some(zero) = self.zero else { return element };
        let zero = b.number(zero as f64, b.ty(element));
        b.sub(element, zero)
    }

    fn accumulate(&self, b: &mut KernelBuilder, value: Value, element: Value, weight: Option<Value>) -> Value {
        match (&self.step, weight) {
            (Step::Weighted(..), Some(weight)) => multiply_add(b, element, weight, value),
            (Step::Weighted(..) | Step::Sum, _) => b.add(value, element),
            (Step::Max { signed }, _) => larger(b, value, element, *signed),
            (Step::Power(p), _) => {
                let magnitude = b.un(crate::cpu::kernel::UnOp::Abs, element);
                let power = (1..*p).fold(magnitude, |power, _| b.mul(power, magnitude));
                b.add(value, power)
            }
        }
    }

    fn finish(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        place: &Place<'_>,
        mut values: Vec<Value>,
    ) -> Result<Vec<Value>, Unsupported> {
        match &self.finish {
            Finish::None => {}
            Finish::Root(degree) => {
                for value in &mut values {
                    *value = root(b, *value, *degree);
                }
            }
            Finish::Scaled(scales) => {
                let Step::Weighted(taps) = &self.step else { return Ok(values) };
                let at = scales.base.clone() + place.at[RIGHT].clone() - taps.stream.base.clone();
                let scales = self.per_channel(b, block, scales, at, RIGHT);
                let starts = match &self.start {
                    Some(start) => self.per_channel(b, block, start, place.at[START].clone(), START),
                    None => vec![b.zero(Type::vec(self.elem, block.lanes)); block.vecs],
                };
                for (index, value) in values.iter_mut().enumerate() {
                    *value = b.muladd(*value, scales[index % block.vecs], starts[index % block.vecs]);
                }
            }
            Finish::Average(windows) => {
                let last = windows.len() - 1;
                let mut outer = Extent::ONE;
                for (index, window) in windows[..last].iter().enumerate() {
                    let (lo, hi) = window.present(b, &place.outer[self.first_spatial + index]);
                    outer = outer * (hi - lo);
                }
                for row in 0..block.rows {
                    let count = match place.pattern {
                        INSIDE => windows[last].kernel.into(),
                        _ => {
                            let (lo, hi) = windows[last].present(b, &(place.row.clone() + row.into()));
                            hi - lo
                        }
                    };
                    let divisor = self.count(b, outer.clone() * count, block.lanes);
                    for value in &mut values[row * block.vecs..][..block.vecs] {
                        *value = b.div(*value, divisor);
                    }
                }
            }
        }
        Ok(values)
    }

    fn count(&self, b: &mut KernelBuilder, count: Extent, lanes: u16) -> Value {
        let ty = Type::vec(self.elem, lanes);
        if let Some(count) = count.as_const() {
            return b.number(count as f64, ty);
        }
        let count = b.extent(count);
        let scalar = b.cvt(Cvt::FromS, count, self.elem);
        b.splat(scalar, lanes)
    }

    fn store(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        place: &Place<'_>,
        values: Vec<Value>,
    ) -> Result<(), Unsupported> {
        let lanes = (block.lanes, block.valid);
        let whole = block.valid == block.lanes;
        let mut saturated = Vec::new();
        for (index, mut value) in values.into_iter().enumerate() {
            let (row, vec) = (index / block.vecs, index % block.vecs);
            let at = |stream: usize| {
                let stride = &self.channels.strides[stream];
                let row = self.rows.strides[stream].clone() * row.into();
                (place.at[stream].clone() + row + vec_offset(block, vec, stride), stride.clone())
            };
            if !self.epilogue.is_empty() {
                let operands = self.epilogue.load(b, &|stream| at(EXTRA + stream), lanes);
                value = self.epilogue.apply(b, value, &operands)?;
            }
            match self.epilogue.saturates() {
                saturates if !whole => {
                    let count = (block.valid, saturates.is_some());
                    store_first(b, self.y.param, at(RESULT).0, value, count);
                }
                Some(_) => saturated.push((at(RESULT).0, value)),
                None => b.store_as(self.y.param, at(RESULT).0, value),
            }
        }
        if let Some(bytes) = self.epilogue.saturates() {
            store_saturated(b, self.y.param, bytes, &saturated);
        }
        Ok(())
    }
}

fn vec_offset(block: Block, vec: usize, stride: &Extent) -> Extent {
    stride.clone() * (vec as i64 * i64::from(block.lanes)).into()
}

fn moved(place: &[Extent], axis: &Axis, index: &Extent) -> Vec<Extent> {
    place.iter().zip(&axis.strides).map(|(at, stride)| at.clone() + stride.clone() * index.clone()).collect()
}

/// What every element is at least.
fn lowest(b: &mut KernelBuilder, ty: Type, signed: bool) -> Value {
    match (ty.elem.is_float(), signed) {
        (true, _) => b.number(f64::NEG_INFINITY, ty),
        (false, true) => b.bits(1 << (ty.elem.bits() - 1), ty),
        (false, false) => b.zero(ty),
    }
}

/// The larger of two; NaN when either is.
fn larger(b: &mut KernelBuilder, best: Value, element: Value, signed: bool) -> Value {
    let ty = b.ty(best);
    if !ty.elem.is_float() {
        return b.bin(if signed { BinOp::MaxS } else { BinOp::MaxU }, best, element);
    }
    // A NaN element passes through `maxsel`; one that was there before is put back.
    let larger = b.bin(BinOp::MaxSel, best, element);
    let was_nan = b.cmp(Cmp::Ne, best, best);
    b.select(was_nan, best, larger)
}

/// The root of a magnitude, by a constant degree.
fn root(b: &mut KernelBuilder, x: Value, degree: i64) -> Value {
    if degree == 2 {
        return b.un(crate::cpu::kernel::UnOp::Sqrt, x);
    }
    let exponent = b.number(1.0 / degree as f64, b.ty(x));
    math::pow(b, x, exponent)
}
