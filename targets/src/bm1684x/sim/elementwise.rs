//! Elementwise arithmetic, requantization, lookup and moves.

use super::float::quotient;
use super::memory::{Memory, from_float, saturate, to_float, to_int};
use super::round::{HALF_EVEN, shift, to_integer, to_whole};
use crate::bm1684x::isa::{Ar, Lookup, Prec, Requant, Select, Trans};
use crate::bm1684x::operands::{Operand, find, prec};
use crate::bm1684x::view::{Fault, View, rule};

fn operand<'a>(operands: &'a [Operand], name: &'static str) -> Result<&'a View, Fault> {
    find(operands, name).ok_or(Fault::Rule { operand: name, rule: "is stored" })
}

/// Bit patterns of an operand, stored or immediate, as many as the result has.
fn bits_of(memory: &Memory, operands: &[Operand], name: &str, constant: u32, count: usize) -> Vec<u32> {
    find(operands, name).map_or_else(|| vec![constant; count], |view| memory.load_bits(view))
}

/// Runs elementwise arithmetic.
///
/// # Errors
/// [`Fault`].
pub fn ar(memory: &mut Memory, ar: &Ar, operands: &[Operand]) -> Result<(), Fault> {
    let result = operand(operands, "res0")?;
    let count = result.elems();
    let a = bits_of(memory, operands, "opd0", ar.opd0_addr, count);
    let a_prec = prec("opd0", ar.opd0_prec)?;
    match ar.eu {
        19 => {
            rule(a_prec.bytes() == result.prec.bytes(), "opd0_prec", "has the width of the result")?;
            memory.store_bits(result, a);
            return Ok(());
        }
        14 => return convert(memory, ar, &a, a_prec, result),
        _ => {}
    }
    rule(ar.tsk_opd_num >= 2, "tsk_opd_num", "is 2 or 3")?;
    let b = bits_of(memory, operands, "opd1", ar.opd1_addr, count);
    let b_prec = prec("opd1", ar.opd1_prec)?;
    let values: Result<Vec<u32>, Fault> = if !result.prec.is_int() {
        let prec = result.prec;
        rule(a_prec == prec && b_prec == prec, "opd0_prec", "is that of the result for floats")?;
        let one =
            |(&a, &b): (&u32, &u32)| Ok(from_float(float_op(ar, prec, to_float(a, prec), to_float(b, prec))?, prec));
        a.iter().zip(&b).map(one).collect()
    } else {
        rule(a_prec.is_int() && b_prec.is_int(), "opd0_prec", "is of integers as the result")?;
        let (a_sign, b_sign) = (ar.opd0_sign == 1, ar.opd1_sign == 1);
        let shifts = shifts(memory, ar, operands);
        let plane = (ar.res0_h * ar.res0_w) as usize;
        let channels = ar.res0_c as usize;
        let values = a.iter().zip(&b).enumerate().map(|(index, (&a, &b))| {
            let (a, b) = (to_int(a, a_prec, a_sign), to_int(b, b_prec, b_sign));
            let shift = shifts.as_ref().map_or(0, |shifts| shifts[index / plane % channels]);
            int_op(ar, a.into(), b.into(), shift, result)
        });
        values.collect()
    };
    memory.store_bits(result, values?);
    Ok(())
}

/// Shift per channel, if there is one.
fn shifts(memory: &Memory, ar: &Ar, operands: &[Operand]) -> Option<Vec<i32>> {
    if ar.tsk_opd_num < 3 {
        return None;
    }
    Some(match find(operands, "opd2") {
        Some(view) => memory.load_ints(view).into_iter().map(|v| v as i32).collect(),
        None => vec![to_int(ar.opd2_addr, Prec::Int8, true) as i32; ar.res0_c as usize],
    })
}

fn int_op(ar: &Ar, a: i128, b: i128, by: i32, result: &View) -> Result<u32, Fault> {
    let exact = match ar.eu {
        0 | 20 => a * b,
        2 | 15 => a + b,
        3 | 16 => a - b,
        4 => a.max(b),
        5 => a.min(b),
        _ => return Err(Fault::Unsupported("this operation on integers")),
    };
    let shifted = shift(exact, by, ar.opd2_n_str)?;
    Ok(match ar.eu {
        15 | 16 | 20 => saturate(shifted, result.prec, result.signed) as u32,
        _ => shifted as u32,
    })
}

/// Runs a selection of floats.
///
/// # Errors
/// [`Fault`].
pub fn select(memory: &mut Memory, select: &Select, operands: &[Operand]) -> Result<(), Fault> {
    let result = operand(operands, "res0")?;
    let count = result.elems();
    let all = [
        ("opd0", select.opd0_addr),
        ("opd1", select.opd1_addr),
        ("opd2", select.opd2_addr),
        ("opd3", select.opd3_addr),
    ];
    let [a, b, c, d] = all.map(|(name, constant)| bits_of(memory, operands, name, constant, count));
    let holds = |a: u32, b: u32| {
        let (a, b) = (to_float(a, result.prec), to_float(b, result.prec));
        match select.eu {
            23 => a > b,
            24 => a == b,
            _ => a < b,
        }
    };
    let values: Vec<u32> = (0..count).map(|at| if holds(a[at], b[at]) { c[at] } else { d[at] }).collect();
    memory.store_bits(result, values);
    Ok(())
}

/// The result in 32 bits: rounding that to 16 bits is rounding the exact one.
fn float_op(ar: &Ar, prec: Prec, a: f32, b: f32) -> Result<f32, Fault> {
    Ok(match ar.eu {
        0 => a * b,
        2 => a + b,
        3 => a - b,
        4 => a.max(b),
        5 => a.min(b),
        12 if prec == Prec::Fp32 => quotient(a, b, ar.opd2_n_str + 1),
        _ => return Err(Fault::Unsupported("this operation on floats")),
    })
}

fn convert(memory: &mut Memory, ar: &Ar, bits: &[u32], from: Prec, result: &View) -> Result<(), Fault> {
    let signed = ar.opd0_sign == 1;
    let code = ar.opd2_n_str;
    let halves = from.is_half() && result.prec.is_half() && from != result.prec;
    rule(!halves, "opd0_prec", "is not the other one of the 16-bit floats")?;
    let one = |&bits: &u32| -> Result<u32, Fault> {
        let float = match from {
            Prec::Fp32 | Prec::Fp16 | Prec::Bf16 => to_float(bits, from),
            _ if result.prec.is_int() => {
                return Ok(saturate(to_int(bits, from, signed).into(), result.prec, result.signed) as u32);
            }
            _ => {
                rule(code == HALF_EVEN, "opd2_n_str", "is 0 from integers to floats")?;
                to_int(bits, from, signed) as f32
            }
        };
        match result.prec {
            to if to == from => Ok(from_float(to_whole(float, code)?, to)),
            Prec::Fp32 | Prec::Fp16 | Prec::Bf16 => {
                rule(code == HALF_EVEN, "opd2_n_str", "is 0 to floats")?;
                Ok(from_float(float, result.prec))
            }
            _ => Ok(saturate(to_integer(float, code)?, result.prec, result.signed) as u32),
        }
    };
    let values: Result<Vec<u32>, Fault> = bits.iter().map(one).collect();
    memory.store_bits(result, values?);
    Ok(())
}

/// Parameters of a requantization of one channel.
#[derive(Clone, Copy)]
enum Scale {
    /// Multiplier, offset.
    Float(f32, f32),
    /// Multiplier, shift, zero point.
    Int(i128, i32, i128),
}

/// Runs a requantization or dequantization.
///
/// # Errors
/// [`Fault`].
pub fn requant(memory: &mut Memory, rq: &Requant, operands: &[Operand]) -> Result<(), Fault> {
    let (result, input) = (operand(operands, "res0")?, operand(operands, "opd0")?);
    let table = find(operands, "opd1").map(|view| memory.load_bits(view));
    let words = if matches!(rq.eu, 0 | 3) { 2 } else { 3 };
    let constant = immediate(rq);
    let scale = |channel: usize| {
        let words = table.as_ref().map_or(&constant[..], |table| &table[channel * words..][..words]);
        scale_of(rq, words, input.signed, result.signed)
    };
    let scales: Vec<Scale> = (0..rq.res0_c as usize).map(scale).collect();
    let plane = (rq.res0_h * rq.res0_w) as usize;
    let x = memory.load_ints(input);
    let values: Result<Vec<u32>, Fault> =
        x.iter().enumerate().map(|(i, &x)| requantize(rq, x, scales[i / plane % scales.len()], result)).collect();
    memory.store_bits(result, values?);
    Ok(())
}

/// Parameters from a table's words, or from the command's two; zero points have 16 bits and the sign of their side.
fn scale_of(rq: &Requant, words: &[u32], input_signed: bool, result_signed: bool) -> Scale {
    let multiplier = |bits: u32| i128::from(bits as i32);
    let half = |bits: u32, signed: bool| to_int(bits & 0xffff, Prec::Int16, signed);
    match (rq.eu, words) {
        (0, [scale, offset]) => Scale::Float(f32::from_bits(*scale), f32::from_bits(*offset)),
        (1, [by, shift, zero]) => {
            Scale::Int(multiplier(*by), i32::from(*shift as i8), half(*zero, result_signed).into())
        }
        (3, [zero, scale]) => Scale::Float(f32::from_bits(*scale), half(*zero, input_signed) as f32),
        (4, [zero, by, shift]) => {
            Scale::Int(multiplier(*by), i32::from(*shift as i8), half(*zero, input_signed).into())
        }
        _ => Scale::Int(0, 0, 0),
    }
}

/// The words that a table would have, packed into the command.
fn immediate(rq: &Requant) -> Vec<u32> {
    let (first, second) = (rq.opd1_addr, rq.opd2_addr);
    match rq.eu {
        1 => vec![first, second & 0xff, second >> 16],
        4 => vec![first & 0xffff, second, first >> 16],
        _ => vec![first, second],
    }
}

fn requantize(rq: &Requant, x: i64, scale: Scale, result: &View) -> Result<u32, Fault> {
    let code = rq.opd2_n_str;
    let fit = |value: i128| saturate(value, result.prec, result.signed) as u32;
    Ok(match (rq.eu, scale) {
        (0, Scale::Float(scale, offset)) => {
            rule(code & 7 == HALF_EVEN, "opd2_n_str", "rounds from integers to floats by 0")?;
            fit(to_integer(x as f32 * scale + offset, code >> 3)?)
        }
        (3, Scale::Float(scale, zero)) => ((x as f32 - zero) * scale).to_bits(),
        (1, Scale::Int(multiplier, by, zero)) => fit(shift(i128::from(x) * multiplier, by, code)? + zero),
        (4, Scale::Int(multiplier, by, zero)) => fit(shift((i128::from(x) - zero) * multiplier, by, code)?),
        _ => return Err(Fault::Unsupported("this requantization")),
    })
}

/// Runs a lookup.
///
/// # Errors
/// [`Fault`].
pub fn lookup(memory: &mut Memory, lookup: &Lookup, operands: &[Operand]) -> Result<(), Fault> {
    let (result, table, index) = (operand(operands, "res0")?, operand(operands, "opd0")?, operand(operands, "opd1")?);
    let tables = memory.load_bits(table);
    let length = lookup.opd0_w as usize;
    let row = lookup.res0_w as usize;
    let indices = memory.load_ints(index);
    let channels = lookup.res0_c as usize;
    let one = |(position, index): (usize, &i64)| {
        let channel = position / row % channels;
        let lane = (result.lane as usize + channel) % 64;
        let found = usize::try_from(*index).ok().filter(|&index| index < length);
        found
            .map(|index| tables[lane * length + index])
            .ok_or(Fault::Rule { operand: "opd1", rule: "lies in the table" })
    };
    let values: Result<Vec<u32>, Fault> = indices.iter().enumerate().map(one).collect();
    memory.store_bits(result, values?);
    Ok(())
}

/// Runs a move across lanes.
///
/// # Errors
/// [`Fault`].
pub fn trans(memory: &mut Memory, trans: &Trans, operands: &[Operand]) -> Result<(), Fault> {
    let (result, source) = (operand(operands, "res0")?, operand(operands, "opd0")?);
    let x = memory.load_bits(source);
    let [n, c, h, w] = result.shape.map(|d| d as usize);
    let mut y = Vec::with_capacity(x.len());
    for index in 0..n * c * h * w {
        let (w_at, h_at, c_at, n_at) = (index % w, index / w % h, index / w / h % c, index / w / h / c);
        let at = match trans.eu {
            0 | 1 => ((n_at * w + w_at) * h + h_at) * c + c_at,
            2 => index,
            _ => (n_at * h + h_at) * w + w_at,
        };
        y.push(x[at]);
    }
    memory.store_bits(result, y);
    Ok(())
}
