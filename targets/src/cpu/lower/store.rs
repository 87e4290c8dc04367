//! Writing a register block: along its columns, along its rows after a transpose, or lane by lane.

use adze_ir::extent::Extent;

use super::leaf::Stream;
use super::micro::{Block, pieces, vec_step};
use crate::cpu::kernel::{KernelBuilder, Value};

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
}

/// Stores a block of values, row by row.
pub(super) fn store_block(b: &mut KernelBuilder, block: Block, target: &Target<'_>, values: &[Value]) {
    let transposes = block.lanes == 4 && target.col_stride != Extent::ONE && target.row_stride == Extent::ONE;
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

fn store_lanes(b: &mut KernelBuilder, block: Block, target: &Target<'_>, at: (usize, usize), value: Value) {
    let valid = valid_lanes(&block, at.1);
    let offset = offset(&block, target, at);
    if block.lanes == 1 || (valid == block.lanes && target.col_stride == Extent::ONE) {
        b.store_as(target.stream.param, offset, value);
        return;
    }
    if target.col_stride == Extent::ONE {
        for (from, count) in pieces(valid) {
            let piece = match count {
                1 => b.extract(value, from),
                _ => b.shuffle(value, value, (from..from + count).collect()),
            };
            b.store_as(target.stream.param, offset.clone() + i64::from(from).into(), piece);
        }
        return;
    }
    for lane in 0..valid {
        let scalar = b.extract(value, lane);
        let to = offset.clone() + target.col_stride.clone() * i64::from(lane).into();
        b.store_as(target.stream.param, to, scalar);
    }
}

/// Four rows of four columns, stored as up to four columns of four rows.
fn store_transposed(b: &mut KernelBuilder, block: Block, target: &Target<'_>, at: (usize, usize), rows: [Value; 4]) {
    let columns = transpose(b, rows);
    for lane in 0..valid_lanes(&block, at.1) {
        let to = offset(&block, target, at) + target.col_stride.clone() * i64::from(lane).into();
        b.store_as(target.stream.param, to, columns[usize::from(lane)]);
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
