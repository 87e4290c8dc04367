//! Writing a register block: along its columns, along its rows after a transpose, or lane by lane; what is requantized is
//! narrowed by several registers at once.

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use super::leaf::Stream;
use super::micro::{Block, vec_step};
use crate::cpu::kernel::first::pieces;
use crate::cpu::kernel::{Cvt, Elem, KernelBuilder, Param, Value};
use crate::cpu::machine::{Arch, Machine};

/// Where a block goes.
pub(super) struct Target<'a> {
    /// The tensor.
    pub stream: &'a Stream,
    /// Offset of the first row and column.
    pub at: Extent,
    /// Elements from row to row.
    pub row_stride: Extent,
    /// Elements from column to column.
    pub col_stride: Extent,
    /// What is stored has to be saturated, see [`together`].
    pub saturates: Option<u16>,
}

/// Bytes that are narrowed at once: those of a register, where instructions narrow several registers to one.
pub(super) fn together(machine: &Machine) -> u16 {
    match (machine.arch, machine.vector_bytes) {
        (Arch::X86_64, bytes @ 32..) => bytes as u16,
        (Arch::Aarch64, bytes) => bytes as u16,
        _ => 0,
    }
}

/// An `i32` value in the memory form of a smaller integer, saturated.
fn saturated(b: &mut KernelBuilder, dtype: DType, value: Value) -> Value {
    let signed = matches!(dtype, DType::I8 | DType::I16);
    let elem = Elem::of_memory(dtype).unwrap_or(Elem::I8);
    b.cvt(if signed { Cvt::SatS } else { Cvt::SatU }, value, elem)
}

/// Stores vectors of `i32` lanes, all of the same number, saturated: as many as fill a register of so many bytes are narrowed
/// at once, and neighbours are stored at once.
pub(super) fn store_saturated(b: &mut KernelBuilder, param: Param, bytes: u16, values: &[(Extent, Value)]) {
    let Some((_, first)) = values.first() else { return };
    let (dtype, lanes) = (b.dtype(param), b.ty(*first).lanes);
    let most = if lanes == 1 { 1 } else { bytes / (dtype.bits() / 8) as u16 / lanes };
    for all in values.chunks(usize::from(most.max(1))) {
        for (from, count) in pieces(all.len() as u16) {
            let some = &all[usize::from(from)..][..usize::from(count)];
            let wide = joined(b, some);
            let narrow = saturated(b, dtype, wide);
            let mut at = 0;
            while at < some.len() {
                let size = neighbours(some, at, lanes);
                let lane = |i: usize| i as u16 * lanes;
                let value = match size {
                    _ if size == some.len() => narrow,
                    size => b.shuffle(narrow, narrow, (lane(at)..lane(at + size)).collect()),
                };
                b.store(param, some[at].0.clone(), value);
                at += size;
            }
        }
    }
}

/// Stores the first lanes, saturated where that is asked for.
pub(super) fn store_first(
    b: &mut KernelBuilder,
    param: Param,
    at: Extent,
    value: Value,
    (count, saturates): (u16, bool),
) {
    let dtype = b.dtype(param);
    let raw = if saturates { saturated(b, dtype, value) } else { b.to_memory(value, dtype) };
    b.store_first(param, at, raw, count);
}

/// A power of two of vectors side by side.
fn joined(b: &mut KernelBuilder, values: &[(Extent, Value)]) -> Value {
    if let [(_, value)] = values {
        return *value;
    }
    let (low, high) = values.split_at(values.len() / 2);
    let (low, high) = (joined(b, low), joined(b, high));
    b.shuffle(low, high, (0..2 * b.ty(low).lanes).collect())
}

/// How many vectors from that one on go to neighbouring places: a power of two that divides what comes before.
fn neighbours(values: &[(Extent, Value)], at: usize, lanes: u16) -> usize {
    let follows = |i: usize| values[i].0 == values[i - 1].0.clone() + i64::from(lanes).into();
    let mut size = 1;
    while at.is_multiple_of(2 * size) && at + 2 * size <= values.len() && (at + size..at + 2 * size).all(follows) {
        size *= 2;
    }
    size
}

/// Stores a block of values, row by row.
pub(super) fn store_block(b: &mut KernelBuilder, block: Block, target: &Target<'_>, values: &[Value]) {
    let transposes = block.lanes == 4 && target.col_stride != Extent::ONE && target.row_stride == Extent::ONE;
    if let Some(bytes) = target.saturates.filter(|_| target.col_stride == Extent::ONE && block.valid == block.lanes) {
        let place = |i: usize| offset(&block, target, (i / block.vecs, i % block.vecs));
        let places: Vec<_> = values.iter().enumerate().map(|(i, &value)| (place(i), value)).collect();
        return store_saturated(b, target.stream.param, bytes, &places);
    }
    let mut row = 0;
    while row < block.rows {
        if transposes && row + 4 <= block.rows {
            for vec in 0..block.vecs {
                let quad = [0, 1, 2, 3].map(|r| values[(row + r) * block.vecs + vec]);
                store_transposed(b, block, target, (row, vec), quad);
            }
            row += 4;
            continue;
        }
        for vec in 0..block.vecs {
            store_lanes(b, block, target, (row, vec), values[row * block.vecs + vec]);
        }
        row += 1;
    }
}

fn valid_lanes(block: &Block, vec: usize) -> u16 {
    if vec + 1 == block.vecs { block.valid } else { block.lanes }
}

fn offset(block: &Block, target: &Target<'_>, (row, vec): (usize, usize)) -> Extent {
    target.at.clone() + target.row_stride.clone() * row.into() + vec_step(block, vec, &target.col_stride)
}

/// Stores a vector in one piece.
fn put(b: &mut KernelBuilder, target: &Target<'_>, at: Extent, value: Value) {
    match target.saturates {
        Some(_) => store_saturated(b, target.stream.param, 0, &[(at, value)]),
        None => b.store_as(target.stream.param, at, value),
    }
}

fn store_lanes(b: &mut KernelBuilder, block: Block, target: &Target<'_>, at: (usize, usize), value: Value) {
    let valid = valid_lanes(&block, at.1);
    let offset = offset(&block, target, at);
    if block.lanes == 1 || (valid == block.lanes && target.col_stride == Extent::ONE) {
        put(b, target, offset, value);
        return;
    }
    if target.col_stride == Extent::ONE {
        store_first(b, target.stream.param, offset, value, (valid, target.saturates.is_some()));
        return;
    }
    for lane in 0..valid {
        let scalar = b.extract(value, lane);
        let to = offset.clone() + target.col_stride.clone() * i64::from(lane).into();
        put(b, target, to, scalar);
    }
}

/// Four rows of four columns, stored as up to four columns of four rows.
fn store_transposed(b: &mut KernelBuilder, block: Block, target: &Target<'_>, at: (usize, usize), rows: [Value; 4]) {
    let columns = transpose(b, rows);
    for lane in 0..valid_lanes(&block, at.1) {
        let to = offset(&block, target, at) + target.col_stride.clone() * i64::from(lane).into();
        put(b, target, to, columns[usize::from(lane)]);
    }
}

/// The transpose of a four by four block.
pub(super) fn transpose(b: &mut KernelBuilder, [r0, r1, r2, r3]: [Value; 4]) -> [Value; 4] {
    let low01 = b.shuffle(r0, r1, vec![0, 4, 1, 5]);
    let low23 = b.shuffle(r2, r3, vec![0, 4, 1, 5]);
    let high01 = b.shuffle(r0, r1, vec![2, 6, 3, 7]);
    let high23 = b.shuffle(r2, r3, vec![2, 6, 3, 7]);
    [
        b.shuffle(low01, low23, vec![0, 1, 4, 5]),
        b.shuffle(low01, low23, vec![2, 3, 6, 7]),
        b.shuffle(high01, high23, vec![0, 1, 4, 5]),
        b.shuffle(high01, high23, vec![2, 3, 6, 7]),
    ]
}
