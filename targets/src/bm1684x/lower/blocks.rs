//! Layers block by block: some rows of result channels at a time, so that neither their constants nor their sums fill local
//! memory, and, where the weights of a single row would, some input channels at a time.

use std::ops::Range;

use super::super::machine::LANES;
use super::super::view::{Dense, local_strides};
use super::Lowering;
use super::build::{Home, Place};
use super::places::DensePart;

/// Bytes per lane that a row of result channels wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowBytes {
    pub(super) constants: u64,
    pub(super) sums: u64,
}

impl Lowering<'_> {
    /// Does a layer on blocks of result channels: `load` gives the constants of some channels, `run` makes the result for them. A block
    /// is of one batch element unless it is the whole. Channels of the operand are those of the result where it is
    /// `depthwise`.
    pub(super) fn in_blocks<C>(
        &mut self,
        x: Home,
        result: Home,
        row: RowBytes,
        depthwise: bool,
        mut load: impl FnMut(&mut Self, Range<u32>) -> C,
        mut run: impl FnMut(&mut Self, &C, Home, Home),
    ) {
        let [n, c, h, w] = result.shape;
        let (rows, lane) = (u64::from(c.div_ceil(LANES)), u64::from(self.lane_bytes));
        let at_once = (lane / BLOCK_SHARE / row.constants.max(row.sums).max(1)).max(1);
        // A block of several batch elements would not be dense: they are worth taking apart for constants only.
        if at_once >= rows || n > 1 && row.constants * rows <= lane / 2 {
            let constants = load(self, 0..c);
            return run(self, &constants, x, result);
        }
        for first in (0..c).step_by((at_once as u32 * LANES) as usize) {
            let channels = first..c.min(first + at_once as u32 * LANES);
            let count = channels.len() as u32;
            let constants = load(self, channels);
            for batch in 0..n {
                let to = DensePart { shape: [1, count, h, w], at: [batch, first, 0] };
                let [_, all, height, width] = x.shape;
                let (from, channels) = if depthwise { (first, count) } else { (0, all) };
                let from = DensePart { shape: [1, channels, height, width], at: [batch, from, 0] };
                let start = self.draft.steps.len();
                run(self, &constants, Home { shape: from.shape, ..x }, Home { shape: to.shape, ..result });
                self.draft.move_to(start, from, &[x]);
                self.draft.move_to(start, to, &[result]);
            }
        }
    }

    /// Ranges of input channels whose weights, so many bytes per channel and lane, fit for a row of result channels.
    pub(super) fn inner(&self, channels: u32, bytes: u64) -> Vec<Range<u32>> {
        let most = u64::from(self.lane_bytes) / INNER_SHARE / (bytes * u64::from(LANES)).max(1);
        let step = u32::try_from(most).unwrap_or(u32::MAX).max(1).saturating_mul(LANES);
        (0..channels).step_by(step as usize).map(|first| first..channels.min(first.saturating_add(step))).collect()
    }
}

/// Blocks take at most this share of local memory where they can.
const BLOCK_SHARE: u64 = 8;
/// The same of weights of some input channels.
const INNER_SHARE: u64 = 4;

/// Some channels of a tensor of one batch element, from a multiple of the lanes on.
pub(super) fn channels(x: Home, range: &Range<u32>) -> (Home, Place) {
    let [n, _, h, w] = x.shape;
    let [_, row, ..] = local_strides(Dense::Aligned, x.prec, 0, x.shape);
    let bytes = u64::from(range.start / LANES) * row * u64::from(x.prec.bytes());
    let place = Place::Local(x.buffer, u32::try_from(bytes).unwrap_or(u32::MAX));
    (Home { shape: [n, range.len() as u32, h, w], ..x }, place)
}
