//! How large register blocks are: the schedule parameters of sums of products.

use adze_ir::extent::Extent;

use super::leaf::lanes_of;
use super::operand::LeafCx;
use super::product::Right;
use crate::cpu::kernel::Elem;

/// Bytes of the left operand that stay in the cache while panels pass by.
const CHUNK_BYTES: i64 = 64 << 10;
/// Larger extents cost alike.
const MOST: i64 = 1 << 20;
/// A left operand up to this size is walked once per panel, so that the weights are read once.
const PANELS_FIRST_BYTES: i64 = 700 << 10;

/// A register block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocking {
    /// Rows.
    pub mr: usize,
    /// Columns of a panel.
    pub nr: usize,
    /// Lanes of a vector.
    pub lanes: u16,
}

impl Blocking {
    /// The block for a product of that many rows and columns.
    ///
    /// Sums, the vectors of columns and one broadcast have to fit the registers: 4x8 `f32` on x86-64, whose multiply-add
    /// overwrites a factor and so needs a copy, 8x8 where there are 32 registers. One row alone takes more columns
    /// instead, and narrow results more rows, to keep eight sums in flight.
    pub fn choose(cx: &LeafCx<'_>, elem: Elem, [rows, cols, depth]: [&Extent; 3], right: Right) -> Self {
        let many = cx.machine.vector_registers >= 32;
        let lanes = lanes_of(cx, elem);
        let broad = cx.machine.vector_bytes > 16 && right != Right::Dot && *rows != Extent::ONE;
        let narrow = cols.as_const().is_some_and(|n| right == Right::Strided && n < i64::from(lanes));
        if broad && !narrow {
            // Products of bytes without an instruction of their own take registers for their halves.
            let held = if elem.is_int() && !cx.machine.has_dot { 5 } else { 1 };
            return Self::cheapest(cx, (lanes, held), [rows, cols, depth].map(|e| e.upper(cx.dims).clamp(1, MOST)));
        }
        if right == Right::Dot {
            let (mr, nr) = if many { (4, 4) } else { (2, 4) };
            let mr = if *rows == Extent::ONE { 1 } else { mr };
            return Self { mr, nr: small(cols, nr), lanes };
        }
        let lanes = if narrow { 1 } else { lanes };
        let vecs = |most: usize| {
            let wanted = cols.as_const().map_or(most, |n| usize::try_from(n).unwrap_or(1).div_ceil(usize::from(lanes)));
            wanted.clamp(1, most)
        };
        let (mr, vecs) = match rows.as_const() {
            Some(1) => (1, vecs(if many { 16 } else { 8 })),
            _ if lanes == 1 && !narrow => (4, vecs(4)),
            _ => match (vecs(2), many) {
                (1, _) => (8, 1),
                (_, true) => (8, 2),
                (_, false) => (4, 2),
            },
        };
        Self { mr: small(rows, mr), nr: vecs * usize::from(lanes), lanes }
    }

    /// The block with the least cycles over all blocks of the result, for machines whose multiply-add leaves its factors
    /// alone: sums, the vectors of columns and one broadcast share the registers.
    fn cheapest(cx: &LeafCx<'_>, (lanes, held): (u16, i64), [rows, cols, depth]: [i64; 3]) -> Self {
        let registers = i64::from(cx.machine.vector_registers);
        let candidates = (1..=6).flat_map(|vecs| {
            let most = ((registers - vecs - held) / vecs).min(28);
            (1..=most).rev().map(move |mr| (mr, vecs))
        });
        let cost = |&(mr, vecs): &(i64, i64)| {
            let nr = vecs * i64::from(lanes);
            let panels = [(cols / nr, vecs), (1, (cols % nr + i64::from(lanes) - 1) / i64::from(lanes))];
            let blocks = [(rows / mr, mr), (1, rows % mr)];
            let each = panels.iter().flat_map(|p| blocks.iter().map(move |b| (p.0 * b.0, b.1, p.1)));
            each.map(|(count, mr, vecs)| count * block_cycles(mr, vecs, depth)).sum::<i64>()
        };
        let (mr, vecs) = candidates.min_by_key(cost).unwrap_or((1, 1));
        Self { mr: mr as usize, nr: vecs as usize * usize::from(lanes), lanes }
    }

    /// Rows of a unit of work, so that its part of the left operand stays close.
    pub fn chunk(&self, cx: &LeafCx<'_>, elem: Elem, depth: &Extent) -> i64 {
        let row_bytes = depth.upper(cx.dims).max(1).saturating_mul(elem.bytes().into());
        let mr = self.mr as i64;
        (CHUNK_BYTES / row_bytes / mr).max(4) * mr
    }
}

/// Half cycles of a block: per step of the sum two multiply-adds or two loads start each cycle, and a sum waits four for its
/// last addition; then what comes before and after.
fn block_cycles(mr: i64, vecs: i64, depth: i64) -> i64 {
    if mr == 0 || vecs == 0 {
        return 0;
    }
    let step = (mr * vecs).max(mr + vecs).max(8);
    depth * step + 50 + 3 * mr * vecs
}

/// Whether panels come before rows: when the left operand is small enough to be walked many times.
pub(super) fn panels_first(cx: &LeafCx<'_>, elem: Elem, rows: &Extent, depth: &Extent) -> bool {
    let bytes = rows.upper(cx.dims).max(1).saturating_mul(depth.upper(cx.dims).max(1));
    bytes.saturating_mul(elem.bytes().into()) <= PANELS_FIRST_BYTES
}

fn small(extent: &Extent, most: usize) -> usize {
    extent.as_const().map_or(most, |n| usize::try_from(n).unwrap_or(1).clamp(1, most))
}
