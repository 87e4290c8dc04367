//! Convolutions, windows and matrix products.

use super::float;
use super::memory::{Memory, saturate, to_int};
use super::round::{HALF_UP, shift_right};
use crate::bm1684x::isa::{Conv, MatMul, Pool, Prec};
use crate::bm1684x::machine::CONV_CHANNELS;
use crate::bm1684x::operands::{Operand, find};
use crate::bm1684x::view::{Fault, View, rule};

/// What convolutions and pools have in common along one axis.
#[derive(Clone, Copy)]
struct Axis {
    size: u32,
    inserted: u32,
    before: u32,
    after: u32,
    kernel: u32,
    dilation: u32,
    stride: u32,
}

/// Both axes of a convolution or pool: their forms name the same fields.
macro_rules! axes {
    ($form:expr) => {
        [
            Axis {
                size: $form.opd0_h,
                inserted: $form.opd0_y_ins0,
                before: $form.opd0_up_pad,
                after: $form.opd0_dn_pad,
                kernel: $form.opd1_h,
                dilation: $form.opd1_y_ins0 + 1,
                stride: $form.res_op_y_str,
            },
            Axis {
                size: $form.opd0_w,
                inserted: $form.opd0_x_ins0,
                before: $form.opd0_lf_pad,
                after: $form.opd0_rt_pad,
                kernel: $form.opd1_w,
                dilation: $form.opd1_x_ins0 + 1,
                stride: $form.res_op_x_str,
            },
        ]
    };
}

/// What stands at a position of the padded axis.
#[derive(Clone, Copy)]
pub(super) enum Tap {
    Pad,
    Inserted,
    At(usize),
}

impl Axis {
    fn spread(&self) -> i64 {
        (i64::from(self.size) - 1) * (i64::from(self.inserted) + 1) + 1
    }

    /// Extent of the result.
    fn result(&self) -> Result<u32, Fault> {
        rule(self.stride > 0 && self.kernel > 0, "res_op_str", "strides and kernel are positive")?;
        let reach = (i64::from(self.kernel) - 1) * i64::from(self.dilation) + 1;
        let room = self.spread() + i64::from(self.before) + i64::from(self.after) - reach;
        rule(room >= 0, "opd1", "kernel fits into the padded input")?;
        u32::try_from(room / i64::from(self.stride) + 1).map_err(|_| Fault::Unsupported("results of this size"))
    }

    /// What tap `k` of result `out` sees.
    fn tap(&self, out: u32, k: u32, mode: u32) -> Tap {
        let (spread, step) = (self.spread(), i64::from(self.inserted) + 1);
        let position = i64::from(out) * i64::from(self.stride) + i64::from(k) * i64::from(self.dilation);
        let mut position = position - i64::from(self.before);
        if !(0..spread).contains(&position) {
            position = match mode {
                1 if position < 0 => -position,
                1 => 2 * (spread - 1) - position,
                2 => position.clamp(0, spread - 1),
                3 => position.rem_euclid(spread),
                _ => return Tap::Pad,
            };
        }
        match position {
            p if !(0..spread).contains(&p) => Tap::Pad,
            p if p % step != 0 => Tap::Inserted,
            p => Tap::At((p / step) as usize),
        }
    }
}

/// The windows of a plane: for every result and tap in row-major order, what it sees.
fn taps(rows: Axis, columns: Axis, mode: u32, out: [u32; 2]) -> Vec<[Tap; 2]> {
    let (kh, kw) = (rows.kernel, columns.kernel);
    let outs = (0..out[0]).flat_map(|y| (0..out[1]).map(move |x| (y, x)));
    let kernel = move || (0..kh).flat_map(move |j| (0..kw).map(move |i| (j, i)));
    outs.flat_map(|(y, x)| kernel().map(move |(j, i)| [rows.tap(y, j, mode), columns.tap(x, i, mode)])).collect()
}

/// Gives what a tap sees: an element of the plane, the pad value or the inserted one.
pub(super) fn seen<T: Copy>(plane: &[T], width: u32, [row, column]: [Tap; 2], [pad, inserted]: [T; 2]) -> T {
    match (row, column) {
        (Tap::Pad, _) | (_, Tap::Pad) => pad,
        (Tap::Inserted, _) | (_, Tap::Inserted) => inserted,
        (Tap::At(y), Tap::At(x)) => plane[y * width as usize + x],
    }
}

/// Pad and inserted value of every channel.
fn pads(memory: &Memory, table: Option<&View>, channels: u32, constant: [u32; 2], signed: bool) -> Vec<[i64; 2]> {
    match table {
        Some(view) => memory.load_ints(view).chunks(2).map(|pair| [pair[0], pair[1]]).collect(),
        None => vec![constant.map(|bits| to_int(bits, Prec::Int8, signed)); channels as usize],
    }
}

fn operand<'a>(operands: &'a [Operand], name: &'static str) -> Result<&'a View, Fault> {
    find(operands, name).ok_or(Fault::Rule { operand: name, rule: "is stored" })
}

/// Runs a convolution.
///
/// # Errors
/// [`Fault`].
pub fn conv(memory: &mut Memory, conv: &Conv, operands: &[Operand]) -> Result<(), Fault> {
    let [rows, columns] = axes!(conv);
    let out = [rows.result()?, columns.result()?];
    rule(out == [conv.res0_h, conv.res0_w], "res0", "has the extents that input, kernel and pads give")?;
    let (input, result) = (operand(operands, "opd0")?, operand(operands, "res0")?);
    if !input.prec.is_int() {
        return float::conv(memory, conv, operands, &taps(rows, columns, conv.pad_mode, out));
    }
    let x = memory.load_ints(input);
    let weights = conv_weights(memory, conv, operands);
    let values = pads(memory, find(operands, "opd3"), conv.opd0_c, [conv.opd3_addr, conv.res1_addr], input.signed);
    let taps = taps(rows, columns, conv.pad_mode, out);
    let kernel = (conv.opd1_h * conv.opd1_w) as usize;
    let plane = (conv.opd0_h * conv.opd0_w) as usize;
    let outs = (out[0] * out[1]) as usize;
    let (ic, oc) = (conv.opd0_c as usize, conv.res0_c as usize);
    let old = if conv.res_add == 1 { memory.load_ints(result) } else { Vec::new() };
    rule(conv.res_add == 0 || result.prec == Prec::Int32, "res_add", "adds to int32")?;
    let mut y = Vec::with_capacity(result.elems());
    let mut column = vec![0i32; ic * kernel];
    for n in 0..conv.res0_n as usize {
        let mut sums = vec![0i64; oc * outs];
        for position in 0..outs {
            for (channel, cells) in column.chunks_mut(kernel).enumerate() {
                let plane = &x[(n * ic + channel) * plane..][..plane];
                let taps = &taps[position * kernel..][..kernel];
                for (cell, &tap) in cells.iter_mut().zip(taps) {
                    *cell = seen(plane, conv.opd0_w, tap, values[channel]) as i32;
                }
            }
            for (o, weights) in weights.chunks(ic * kernel).enumerate() {
                let sum = column.iter().zip(weights).fold(0i32, |sum, (&a, &w)| sum.wrapping_add(a.wrapping_mul(w)));
                sums[o * outs + position] = sum.into();
            }
        }
        y.extend(sums);
    }
    let add = |(index, sum): (usize, i64)| sum + old.get(index).copied().unwrap_or(0);
    let y = y.into_iter().enumerate().map(add);
    match result.prec {
        Prec::Int16 => memory.store_ints(result, y.map(|v| saturate(v.into(), Prec::Int16, true))),
        _ => memory.store_ints(result, y),
    }
    Ok(())
}

/// Weights minus their zero points as `[oc][ic][kh][kw]`.
fn conv_weights(memory: &Memory, conv: &Conv, operands: &[Operand]) -> Vec<i32> {
    let (kh, kw) = (conv.opd1_h as usize, conv.opd1_w as usize);
    let (ic, oc, group) = (conv.opd0_c as usize, conv.res0_c as usize, CONV_CHANNELS as usize);
    let zero = match find(operands, "opd2") {
        Some(view) => memory.load_ints(view),
        None => vec![to_int(conv.opd2_addr, Prec::Int8, conv.opd2_sign == 1); oc],
    };
    let stored = find(operands, "opd1").map(|view| memory.load_ints(view));
    let constant = to_int(conv.opd1_addr, Prec::Int8, conv.opd1_sign == 1);
    let row = ic.div_ceil(group) * kh * kw * group;
    let mut weights = Vec::with_capacity(oc * ic * kh * kw);
    for (o, zero) in zero.iter().enumerate() {
        for i in 0..ic {
            for tap in 0..kh * kw {
                let tap = if conv.kernel_rotate == 1 { kh * kw - 1 - tap } else { tap };
                let at = o * row + (i / group * kh * kw + tap) * group + i % group;
                let weight = stored.as_ref().map_or(constant, |stored| stored[at]);
                weights.push((weight - zero) as i32);
            }
        }
    }
    weights
}

/// Runs a depthwise convolution or pool.
///
/// # Errors
/// [`Fault`].
pub fn pool(memory: &mut Memory, pool: &Pool, operands: &[Operand]) -> Result<(), Fault> {
    let [rows, columns] = axes!(pool);
    let out = [rows.result()?, columns.result()?];
    rule(out == [pool.res0_h, pool.res0_w], "res0", "has the extents that input, kernel and pads give")?;
    let (input, result) = (operand(operands, "opd0")?, operand(operands, "res0")?);
    let taps = taps(rows, columns, pool.pad_mode, out);
    if !input.prec.is_int() {
        return float::pool(memory, pool, operands, &taps);
    }
    let values = [pool.opd3_addr, pool.res1_addr & 0xff];
    let pads = pads(memory, find(operands, "opd3"), pool.res0_c, values, input.signed);
    let x = memory.load_ints(input);
    let work =
        Window { pool, weights: window_weights(memory, pool, operands), bias: window_bias(memory, pool, operands) };
    let kernel = (pool.opd1_h * pool.opd1_w) as usize;
    let plane = (pool.opd0_h * pool.opd0_w) as usize;
    let mut y = Vec::with_capacity(result.elems());
    for (index, plane) in x.chunks(plane).enumerate() {
        let channel = index % pool.res0_c as usize;
        for taps in taps.chunks(kernel) {
            let window: Vec<i64> = taps.iter().map(|&tap| seen(plane, pool.opd0_w, tap, pads[channel])).collect();
            y.push(work.apply(channel, &window, result)?);
        }
    }
    memory.store_ints(result, y);
    Ok(())
}

/// What a window becomes.
struct Window<'a> {
    pool: &'a Pool,
    weights: Vec<i64>,
    bias: Vec<i64>,
}

impl Window<'_> {
    fn apply(&self, channel: usize, window: &[i64], result: &View) -> Result<i64, Fault> {
        let kernel = window.len();
        let narrow = result.prec != Prec::Int32;
        match self.pool.eu {
            4 => return Ok(window.iter().copied().max().unwrap_or(0)),
            1 => {
                let scale = to_int(self.pool.opd1_addr, Prec::Int8, false);
                let sum = i128::from(window.iter().sum::<i64>() * scale);
                let sum = shift_right(sum, self.pool.opd2_addr & 0xff, HALF_UP)?;
                return Ok(saturate(sum, result.prec, result.signed || !narrow));
            }
            _ => {}
        }
        let weights = &self.weights[channel * kernel..][..kernel];
        let sum = window.iter().zip(weights).map(|(x, w)| x * w).sum::<i64>() + self.bias[channel];
        let sum = i64::from(sum as i32);
        if narrow {
            let shifted = shift_right(sum.into(), self.pool.res1_addr >> 8 & 0xff, self.pool.opd2_n_str)?;
            let shifted = if self.pool.eu == 2 { shifted.max(0) } else { shifted };
            return Ok(saturate(shifted, result.prec, self.pool.eu == 0));
        }
        Ok(if self.pool.eu == 2 { sum.max(0) } else { sum })
    }
}

fn window_weights(memory: &Memory, pool: &Pool, operands: &[Operand]) -> Vec<i64> {
    let kernel = (pool.opd1_h * pool.opd1_w) as usize;
    let count = pool.res0_c as usize * kernel;
    let stored = find(operands, "opd1").map(|view| memory.load_ints(view));
    let mut weights = stored.unwrap_or_else(|| vec![to_int(pool.opd1_addr, Prec::Int8, pool.opd1_sign == 1); count]);
    if pool.kernel_rotate == 1 {
        weights.chunks_mut(kernel).for_each(|kernel| kernel.reverse());
    }
    weights
}

fn window_bias(memory: &Memory, pool: &Pool, operands: &[Operand]) -> Vec<i64> {
    match find(operands, "opd2") {
        Some(view) => memory.load_ints(view),
        None => vec![to_int(pool.opd2_addr, Prec::Int32, true); pool.res0_c as usize],
    }
}

/// Runs a matrix product.
///
/// # Errors
/// [`Fault`].
pub fn matmul(memory: &mut Memory, mm: &MatMul, operands: &[Operand]) -> Result<(), Fault> {
    let (left, right, result) = (operand(operands, "opd0")?, operand(operands, "opd1")?, operand(operands, "res0")?);
    rule(mm.res_add == 0 || mm.eu != 5, "res_add", "is 0 for the form NT")?;
    if !left.prec.is_int() {
        return float::matmul(memory, mm, operands);
    }
    let (l, r) = (memory.load_ints(left), memory.load_ints(right));
    let (rows, cols) = (mm.res0_c as usize, mm.res0_w as usize);
    let inner = if mm.eu == 4 { mm.opd1_c } else { mm.opd1_w } as usize;
    let zero = match find(operands, "opd2") {
        Some(view) => memory.load_ints(view),
        None => vec![to_int(mm.opd2_addr, Prec::Int8, mm.opd1_sign == 1); rows.max(cols)],
    };
    let old = if mm.res_add == 1 { memory.load_ints(result) } else { vec![0; rows * cols] };
    let mut y = Vec::with_capacity(rows * cols);
    for i in 0..rows {
        for j in 0..cols {
            let term = |k: usize| match mm.eu {
                4 => l[i * inner + k] * (r[k * cols + j] - zero[j]),
                5 => l[i * inner + k] * (r[j * inner + k] - zero[j]),
                _ => l[k * cols + j] * (r[i * inner + k] - zero[i]),
            };
            y.push((0..inner).map(term).sum::<i64>() + old[i * cols + j]);
        }
    }
    memory.store_ints(result, y);
    Ok(())
}
