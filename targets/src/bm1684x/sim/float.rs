//! Floats: convolutions, windows, matrix products and functions, to the last bit of the vendor's simulator.
//!
//! Products of 16-bit floats are summed in groups of 32: aligned to the largest of them, cut to 25 bits, summed exactly, rounded
//! to fp32; groups are added one after the other in fp32. Windows round every product and sum to the type of the input, in
//! two sums (taps of even and of odd position) that are added at the end. Inverses start from the well-known integer
//! estimate of the inverse square root and go on by Newton's steps.

use super::memory::{Memory, rounded, to_float};
use super::window::{Tap, seen};
use crate::bm1684x::isa::{Conv, MatMul, Pool, Sfu};
use crate::bm1684x::machine::CONV_CHANNELS_HALF;
use crate::bm1684x::operands::{Operand, find};
use crate::bm1684x::view::{Fault, View, rule};

const GROUP: usize = CONV_CHANNELS_HALF as usize;

fn operand<'a>(operands: &'a [Operand], name: &'static str) -> Result<&'a View, Fault> {
    find(operands, name).ok_or(Fault::Rule { operand: name, rule: "is stored" })
}

/// The sum of a group of products.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Products of 16-bit floats are exact in 64 bits, and so are the sums of what is cut to 25.
    let mut products = [0f64; GROUP];
    let mut most = 0f64;
    for (product, (&a, &b)) in products.iter_mut().zip(a.iter().zip(b)) {
        *product = f64::from(a) * f64::from(b);
        most = most.max(product.abs());
    }
    if most == 0.0 || !most.is_finite() {
        return products.iter().sum::<f64>() as f32;
    }
    let power = |exponent: u64| f64::from_bits(exponent << 52);
    let exponent = most.to_bits() >> 52;
    // 2^24 over the largest power of two in `most`, and the inverse.
    let (up, down) = (power(2 * 1023 + 24 - exponent), power(exponent - 24));
    (products.iter().map(|product| (product * up).trunc()).sum::<f64>() * down) as f32
}

/// Sums of groups, from `start` on.
fn chain(start: f32, a: &[f32], b: &[f32]) -> f32 {
    a.chunks(GROUP).zip(b.chunks(GROUP)).fold(start, |sum, (a, b)| sum + dot(a, b))
}

/// Runs a convolution; the taps are those of one plane.
///
/// # Errors
/// [`Fault`].
pub fn conv(memory: &mut Memory, conv: &Conv, operands: &[Operand], taps: &[[Tap; 2]]) -> Result<(), Fault> {
    let (input, result) = (operand(operands, "opd0")?, operand(operands, "res0")?);
    rule(conv.res_add == 0 || result.prec != input.prec, "res_add", "adds to fp32")?;
    let pads = [conv.opd3_addr, conv.res1_addr].map(|bits| to_float(bits, input.prec));
    let x = memory.load_floats(input);
    let (ic, oc) = (conv.opd0_c as usize, conv.res0_c as usize);
    let kernel = (conv.opd1_h * conv.opd1_w) as usize;
    let (plane, outs) = ((conv.opd0_h * conv.opd0_w) as usize, taps.len() / kernel);
    let row = ic.div_ceil(GROUP) * kernel * GROUP;
    let mut weights = match find(operands, "opd1") {
        Some(view) => memory.load_floats(view),
        None => vec![to_float(conv.opd1_addr, input.prec); oc * row],
    };
    if conv.kernel_rotate == 1 {
        // Sums go by what the taps see, whatever the order of the weights.
        weights.chunks_mut(kernel * GROUP).for_each(|taps| {
            let turned: Vec<f32> = taps.rchunks(GROUP).flatten().copied().collect();
            taps.copy_from_slice(&turned);
        });
    }
    let bias = match find(operands, "opd2") {
        Some(view) => memory.load_floats(view),
        None => vec![f32::from_bits(conv.opd2_addr); oc],
    };
    let old = if conv.res_add == 1 { memory.load_floats(result) } else { vec![0.0; result.elems()] };
    let mut y = vec![0f32; result.elems()];
    let mut column = vec![0f32; row];
    for n in 0..conv.res0_n as usize {
        for position in 0..outs {
            for (channel, plane) in x[n * ic * plane..][..ic * plane].chunks(plane).enumerate() {
                for (tap, &at) in taps[position * kernel..][..kernel].iter().enumerate() {
                    let cell = (channel / GROUP * kernel + tap) * GROUP + channel % GROUP;
                    column[cell] = seen(plane, conv.opd0_w, at, pads);
                }
            }
            for (o, weights) in weights.chunks(row).enumerate() {
                let at = (n * oc + o) * outs + position;
                y[at] = chain(if conv.res_add == 1 { old[at] + bias[o] } else { bias[o] }, &column, weights);
            }
        }
    }
    memory.store_floats(result, y);
    Ok(())
}

/// Runs a depthwise convolution or pool; the taps are those of one plane.
///
/// # Errors
/// [`Fault`].
pub fn pool(memory: &mut Memory, pool: &Pool, operands: &[Operand], taps: &[[Tap; 2]]) -> Result<(), Fault> {
    let (input, result) = (operand(operands, "opd0")?, operand(operands, "res0")?);
    let prec = input.prec;
    let pads = [pool.opd3_addr, pool.res1_addr].map(|bits| to_float(bits, prec));
    let x = memory.load_floats(input);
    let (kernel, channels) = ((pool.opd1_h * pool.opd1_w) as usize, pool.res0_c as usize);
    let mut weights = match find(operands, "opd1") {
        Some(view) => memory.load_floats(view),
        None => vec![to_float(pool.opd1_addr, prec); channels * kernel],
    };
    if pool.kernel_rotate == 1 {
        weights.chunks_mut(kernel).for_each(|kernel| kernel.reverse());
    }
    let bias = match find(operands, "opd2") {
        Some(view) => memory.load_floats(view),
        None if pool.eu == 1 => vec![0.0; channels],
        None => vec![to_float(pool.opd2_addr, prec); channels],
    };
    let plane = (pool.opd0_h * pool.opd0_w) as usize;
    let mut y = Vec::with_capacity(result.elems());
    for (index, plane) in x.chunks(plane).enumerate() {
        let channel = index % channels;
        let weights = &weights[channel * kernel..][..kernel];
        for taps in taps.chunks(kernel) {
            let window = taps.iter().map(|&tap| seen(plane, pool.opd0_w, tap, pads));
            if pool.eu == 4 {
                y.push(window.fold(f32::NEG_INFINITY, f32::max));
                continue;
            }
            let mut sums = [0.0, bias[channel]];
            for (at, (x, w)) in window.zip(weights).enumerate() {
                sums[at % 2] = rounded(sums[at % 2] + rounded(x * w, prec), prec);
            }
            y.push(rounded(sums[0] + sums[1], prec));
        }
    }
    memory.store_floats(result, y);
    Ok(())
}

/// Runs a matrix product.
///
/// # Errors
/// [`Fault`].
pub fn matmul(memory: &mut Memory, mm: &MatMul, operands: &[Operand]) -> Result<(), Fault> {
    let (left, right, result) = (operand(operands, "opd0")?, operand(operands, "opd1")?, operand(operands, "res0")?);
    let (rows, cols) = (mm.res0_c as usize, mm.res0_w as usize);
    let inner = if mm.eu == 4 { mm.opd1_c } else { mm.opd1_w } as usize;
    let turned = |values: Vec<f32>, rows: usize| -> Vec<f32> {
        let columns = values.len() / rows;
        (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns).copied()).collect()
    };
    // Rows of both have the sums' terms side by side.
    let (left, right) = (memory.load_floats(left), memory.load_floats(right));
    let (left, right) = match mm.eu {
        4 => (left, turned(right, inner)),
        5 => (left, right),
        _ => (right, turned(left, inner)),
    };
    let old = if mm.res_add == 1 { memory.load_floats(result) } else { vec![0.0; rows * cols] };
    let one = |at: usize| chain(old[at], &left[at / cols * inner..][..inner], &right[at % cols * inner..][..inner]);
    let y: Vec<f32> = (0..rows * cols).map(one).collect();
    memory.store_floats(result, y);
    Ok(())
}

/// Runs a function.
///
/// # Errors
/// [`Fault`].
pub fn sfu(memory: &mut Memory, sfu: &Sfu, operands: &[Operand]) -> Result<(), Fault> {
    let (result, input) = (operand(operands, "res0")?, operand(operands, "opd0")?);
    let prec = input.prec;
    let x = memory.load_floats(input);
    if sfu.eu == 17 {
        memory.store_floats(result, x.into_iter().map(|x| inverse_root(x, sfu.opd2_n_str + 1)));
        return Ok(());
    }
    let tables = memory.load_floats(operand(operands, "opd1")?);
    let (terms, plane, channels) = (sfu.opd1_n as usize, (sfu.res0_h * sfu.res0_w) as usize, sfu.res0_c as usize);
    let polynomial = |(at, &x): (usize, &f32)| {
        let lane = (result.lane as usize + at / plane % channels) % 64;
        let table = &tables[lane * terms..][..terms];
        let fold = |sum: f32, term: &f32| rounded(rounded(sum * x, prec) + term, prec);
        table.iter().rev().copied().reduce(|sum, term| fold(sum, &term)).unwrap_or(0.0)
    };
    let y: Vec<f32> = x.iter().enumerate().map(polynomial).collect();
    memory.store_floats(result, y);
    Ok(())
}

/// `1 / sqrt(x)` by so many of Newton's steps.
fn inverse_root(x: f32, steps: u32) -> f32 {
    let estimate = 0x5f37_59df_u32.wrapping_sub((x.to_bits() as i32 >> 1) as u32);
    let half = 0.5 * x;
    (0..steps).fold(f32::from_bits(estimate), |y, _| y * (1.5 - half * y * y))
}

/// `a / b` as the machine divides: `a` times the square of the inverse root of `b`.
pub fn quotient(a: f32, b: f32, steps: u32) -> f32 {
    let root = inverse_root(b.abs(), steps);
    a * (root * root).copysign(b)
}
