//! How large register blocks are: the schedule parameters of sums of products.

use adze_ir::extent::Extent;

use super::leaf::lanes_of;
use super::operand::LeafCx;
use super::product::Right;
use crate::cpu::kernel::Elem;

/// Bytes of the left operand that stay in the cache while panels pass by.
const CHUNK_BYTES: i64 = 64 << 10;
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
    pub fn choose(cx: &LeafCx<'_>, elem: Elem, rows: &Extent, cols: &Extent, right: Right) -> Self {
        let many = cx.machine.vector_registers >= 32;
        let lanes = lanes_of(cx, elem);
        if right == Right::Dot {
            let (mr, nr) = if many { (4, 4) } else { (2, 4) };
            let mr = if *rows == Extent::ONE { 1 } else { mr };
            return Self { mr, nr: small(cols, nr), lanes };
        }
        let narrow = cols.as_const().filter(|n| right == Right::Strided && *n < i64::from(lanes)).is_some();
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

    /// Rows of a unit of work, so that its part of the left operand stays close.
    pub fn chunk(&self, cx: &LeafCx<'_>, elem: Elem, depth: &Extent) -> i64 {
        let row_bytes = depth.upper(cx.dims).max(1).saturating_mul(elem.bytes().into());
        let mr = self.mr as i64;
        (CHUNK_BYTES / row_bytes / mr).max(4) * mr
    }
}

/// Whether panels come before rows: when the left operand is small enough to be walked many times.
pub(super) fn panels_first(cx: &LeafCx<'_>, elem: Elem, rows: &Extent, depth: &Extent) -> bool {
    let bytes = rows.upper(cx.dims).max(1).saturating_mul(depth.upper(cx.dims).max(1));
    bytes.saturating_mul(elem.bytes().into()) <= PANELS_FIRST_BYTES
}

fn small(extent: &Extent, most: usize) -> usize {
    extent.as_const().map_or(most, |n| usize::try_from(n).unwrap_or(1).clamp(1, most))
}
