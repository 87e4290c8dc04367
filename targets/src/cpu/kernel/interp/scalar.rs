//! One lane of every operation, on bit patterns (zero-extended to 64 bits; masks are 0 or 1).

use half::{bf16, f16};

use super::super::ir::{BinOp, Cmp, Cvt, Shift, UnOp};
use super::super::types::Elem;

fn keep(bits: u64, width: u32) -> u64 {
    if width == 64 { bits } else { bits & ((1 << width) - 1) }
}

fn signed(bits: u64, width: u32) -> i64 {
    ((bits << (64 - width)) as i64) >> (64 - width)
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

pub(super) fn un(op: UnOp, elem: Elem, x: u64) -> u64 {
    match elem {
        Elem::F32 => u64::from(un_f32(op, single(x)).to_bits()),
        Elem::F64 => un_f64(op, double(x)).to_bits(),
        _ if elem.is_mask() => u64::from(x == 0),
        _ => {
            let value = signed(x, elem.bits());
            let result = match op {
                UnOp::Neg => value.wrapping_neg(),
                UnOp::Abs => value.wrapping_abs(),
                _ => !value,
            };
            keep(result as u64, elem.bits())
        }
    }
}

fn un_f32(op: UnOp, x: f32) -> f32 {
    match op {
        UnOp::Neg => -x,
        UnOp::Abs => x.abs(),
        UnOp::Sqrt => x.sqrt(),
        UnOp::Floor => x.floor(),
        UnOp::Ceil => x.ceil(),
        UnOp::Trunc => x.trunc(),
        UnOp::Nearest | UnOp::Not => x.round_ties_even(),
    }
}

fn un_f64(op: UnOp, x: f64) -> f64 {
    match op {
        UnOp::Neg => -x,
        UnOp::Abs => x.abs(),
        UnOp::Sqrt => x.sqrt(),
        UnOp::Floor => x.floor(),
        UnOp::Ceil => x.ceil(),
        UnOp::Trunc => x.trunc(),
        UnOp::Nearest | UnOp::Not => x.round_ties_even(),
    }
}

pub(super) fn bin(op: BinOp, elem: Elem, x: u64, y: u64) -> u64 {
    match elem {
        Elem::F32 => {
            let (a, b) = (single(x), single(y));
            let rounded = match op {
                BinOp::Add => a + b,
                BinOp::Sub => a - b,
                BinOp::Mul => a * b,
                BinOp::Div => a / b,
                // The order of two floats of one width does not change in f64.
                _ => return if first_wins(op, a.into(), b.into()) { x } else { y },
            };
            u64::from(rounded.to_bits())
        }
        Elem::F64 => {
            let (a, b) = (double(x), double(y));
            let rounded = match op {
                BinOp::Add => a + b,
                BinOp::Sub => a - b,
                BinOp::Mul => a * b,
                BinOp::Div => a / b,
                _ => return if first_wins(op, a, b) { x } else { y },
            };
            rounded.to_bits()
        }
        _ => bin_int(op, elem.bits(), x, y),
    }
}

/// Whether a selection among two floats takes the first.
fn first_wins(op: BinOp, a: f64, b: f64) -> bool {
    let both_zero = a == 0.0 && b == 0.0;
    match op {
        BinOp::MinSel => a < b,
        BinOp::MaxSel => a > b,
        _ if a.is_nan() => true,
        _ if b.is_nan() => false,
        BinOp::Min if both_zero => a.is_sign_negative(),
        BinOp::Max if both_zero => a.is_sign_positive(),
        BinOp::Min => a < b,
        _ => a > b,
    }
}

fn bin_int(op: BinOp, width: u32, x: u64, y: u64) -> u64 {
    let (a, b) = (signed(x, width), signed(y, width));
    let result = match op {
        BinOp::Add => x.wrapping_add(y),
        BinOp::Sub => x.wrapping_sub(y),
        BinOp::Mul => x.wrapping_mul(y),
        BinOp::DivS => a.checked_div(b).unwrap_or(if b == 0 { 0 } else { a }) as u64,
        BinOp::RemS if b == 0 => 0,
        BinOp::RemS => a.wrapping_rem(b) as u64,
        BinOp::DivU => x.checked_div(y).unwrap_or(0),
        BinOp::RemU => x.checked_rem(y).unwrap_or(0),
        BinOp::MinS => a.min(b) as u64,
        BinOp::MaxS => a.max(b) as u64,
        BinOp::MinU => x.min(y),
        BinOp::MaxU => x.max(y),
        BinOp::And => x & y,
        BinOp::Or => x | y,
        _ => x ^ y,
    };
    keep(result, width)
}

pub(super) fn shift(op: Shift, elem: Elem, x: u64, by: u32) -> u64 {
    let result = match op {
        Shift::Left => x << by,
        Shift::RightS => (signed(x, elem.bits()) >> by) as u64,
        Shift::RightU => x >> by,
    };
    keep(result, elem.bits())
}

pub(super) fn fma(elem: Elem, a: u64, b: u64, c: u64) -> u64 {
    match elem {
        Elem::F32 => u64::from(single(a).mul_add(single(b), single(c)).to_bits()),
        _ => double(a).mul_add(double(b), double(c)).to_bits(),
    }
}

pub(super) fn compare(cmp: Cmp, elem: Elem, x: u64, y: u64) -> bool {
    let (a, b) = match elem {
        Elem::F32 => (f64::from(single(x)), f64::from(single(y))),
        Elem::F64 => (double(x), double(y)),
        _ => return compare_ints(cmp, x, y, elem.bits()),
    };
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt | Cmp::LtU => a < b,
        Cmp::Le | Cmp::LeU => a <= b,
        Cmp::Gt | Cmp::GtU => a > b,
        Cmp::Ge | Cmp::GeU => a >= b,
    }
}

pub(super) fn compare_ints(cmp: Cmp, x: u64, y: u64, width: u32) -> bool {
    let (a, b) = (signed(x, width), signed(y, width));
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::LtU => x < y,
        Cmp::LeU => x <= y,
        Cmp::GtU => x > y,
        Cmp::GeU => x >= y,
    }
}

pub(super) fn convert(cvt: Cvt, from: Elem, to: Elem, x: u64) -> u64 {
    let width = to.bits();
    match cvt {
        _ if from.is_mask() => x,
        Cvt::SExt => keep(signed(x, from.bits()) as u64, width),
        Cvt::UExt | Cvt::Bits => x,
        Cvt::Wrap => keep(x, width),
        Cvt::SatS => keep(signed(x, from.bits()).clamp(-(1 << (width - 1)), (1 << (width - 1)) - 1) as u64, width),
        Cvt::SatU => signed(x, from.bits()).clamp(0, (1 << width) - 1) as u64,
        Cvt::Promote => f64::from(single(x)).to_bits(),
        Cvt::Demote => u64::from((double(x) as f32).to_bits()),
        Cvt::FromS if to == Elem::F32 => u64::from((signed(x, from.bits()) as f32).to_bits()),
        Cvt::FromS => (signed(x, from.bits()) as f64).to_bits(),
        Cvt::FromU if to == Elem::F32 => u64::from((x as f32).to_bits()),
        Cvt::FromU => (x as f64).to_bits(),
        Cvt::ToS | Cvt::ToU => {
            let value = if from == Elem::F32 { f64::from(single(x)) } else { double(x) };
            match (cvt, width) {
                (Cvt::ToS, 32) => u64::from((value as i32) as u32),
                (Cvt::ToS, _) => value as i64 as u64,
                (_, 32) => u64::from(value as u32),
                _ => value as u64,
            }
        }
        Cvt::FromF16 => u64::from(f16::from_bits(x as u16).to_f32().to_bits()),
        Cvt::ToF16 => f16::from_f32(single(x)).to_bits().into(),
        Cvt::FromBf16 => u64::from(bf16::from_bits(x as u16).to_f32().to_bits()),
        Cvt::ToBf16 => bf16::from_f32(single(x)).to_bits().into(),
    }
}

/// The same bytes as lanes of another width.
pub(super) fn bitcast(lanes: &[u64], from: Elem, to: Elem) -> Vec<u64> {
    let mut bytes = Vec::new();
    for &lane in lanes {
        let lane = if from.is_mask() && lane != 0 { u64::MAX } else { lane };
        bytes.extend_from_slice(&lane.to_le_bytes()[..from.bytes() as usize]);
    }
    let read = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let lanes = bytes.chunks(to.bytes() as usize).map(read);
    lanes.map(|bits| if to.is_mask() { bits >> (to.bits() - 1) } else { bits }).collect()
}
