//! Convolutions along an axis with strides that commands have no room for, or long kernels over few channels: what lies between two
//! windows becomes channels, and where it takes fewer cycles so do several neighbours of the result.

use super::super::super::machine::{CONV_CHANNELS_HALF, LANES, MAX_EXTENT, MAX_WINDOW};
use super::super::build::{Home, Place};
use super::super::places::Region;
use super::super::window::Window;
use super::super::{Lowering, Refusal, extents};
use super::products::reshaping_part;

/// Thousandths of bytes that a copy inside of local memory moves per cycle, and bytes in a row that it wants.
const COPIED: u64 = 26_077;
const BURST: u64 = 256;
/// Most neighbours of the result that become channels.
const MOST: u32 = 64;

/// A convolution along an axis as one with more channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded {
    /// H (0) or W (1).
    pub(super) axis: usize,
    /// Neighbours of the result that become channels.
    pub(super) outputs: u32,
    step: u32,
    /// Elements of the input that become channels: `outputs` steps.
    pub(super) stride: u32,
    /// Elements of the kernel along the axis, before and after.
    pub(super) taps: [u32; 2],
}

impl Folded {
    /// That of a kernel which moves by `step`.
    pub(super) fn new(axis: usize, step: u32, outputs: u32, taps: u32) -> Self {
        let stride = step * outputs;
        Self { axis, outputs, step, stride, taps: [taps, (taps + (outputs - 1) * step).div_ceil(stride)] }
    }

    /// The one with the fewest cycles for a convolution along W of one row and one group, if it takes fewer than `least`.
    pub(super) fn best(x: Home, shape: [u32; 4], window: &Window, kernel: [u32; 2], least: u64) -> Option<Self> {
        let plain = x.shape[2] == 1 && kernel[0] == 1 && shape[2] == 1 && window.dilations[1] == 1 && kernel[1] > 1;
        let all = (0..=MOST.ilog2()).map(|power| Folded::new(1, window.strides[1], 1 << power, kernel[1]));
        let fits = |fold: &Folded| x.shape[1].saturating_mul(fold.stride) <= MAX_EXTENT;
        let ways = all.filter(|fold| plain && fits(fold)).map(|fold| (fold.cycles(x, shape), fold));
        ways.min_by_key(|(cycles, _)| *cycles).filter(|(cycles, _)| *cycles < least).map(|(_, fold)| fold)
    }

    /// Estimated cycles, of both engines.
    fn cycles(&self, x: Home, shape: [u32; 4]) -> u64 {
        let [n, c, _, _] = x.shape.map(u64::from);
        let count = shape[3].div_ceil(self.outputs);
        let channels = shape[1] * self.outputs;
        let taps = u64::from(self.taps[1]) * u64::from((x.shape[1] * self.stride).div_ceil(CONV_CHANNELS_HALF));
        let product = n * u64::from(channels.div_ceil(LANES)) * u64::from(count.div_ceil(4)) * taps;
        let copied = |elements: u64, run: u32| {
            let bytes = u64::from(x.prec.bytes());
            elements * bytes * BURST * 1000 / (COPIED * (u64::from(run) * bytes).min(BURST))
        };
        let input = u64::from((count + self.taps[1] - 1) * self.stride);
        let taken = n * c * input / 32 + copied(n * c * input, self.stride);
        let result = n * u64::from(channels) * u64::from(count);
        product + taken + if self.outputs > 1 { 2 * copied(result, self.outputs) } else { 0 }
    }

    /// Weights `[oc][ic][kh][kw]` as `[oc · outputs][ic · stride][kh][kw]`, zero where the kernel has no such element.
    pub(super) fn weights(&self, weights: &[f32], ic: usize, [kh, kw]: [u32; 2]) -> Vec<f32> {
        let [kh, kw, stride, taps] = [kh, kw, self.stride, self.taps[1]].map(|v| v as usize);
        let (kernel, other) = if self.axis == 0 { (kh, kw) } else { (kw, kh) };
        let mut result =
            Vec::with_capacity(weights.len() * (self.outputs * self.stride) as usize * taps / kernel.max(1));
        for row in weights.chunks(ic * kh * kw) {
            for first in (0..self.outputs).map(|output| (output * self.step) as usize) {
                for plane in row.chunks(kh * kw) {
                    let element = |tap: usize, phase: usize, beside: usize| {
                        let at = (tap * stride + phase).checked_sub(first).filter(|&at| at < kernel);
                        at.map_or(0.0, |at| plane[if self.axis == 0 { at * kw + beside } else { beside * kw + at }])
                    };
                    for phase in 0..stride {
                        // Along H the taps are rows, along W columns.
                        let (rows, columns) = if self.axis == 0 { (taps, other) } else { (other, taps) };
                        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                            let (tap, beside) = if self.axis == 0 { (row, column) } else { (column, row) };
                            result.push(element(tap, phase, beside));
                        }
                    }
                }
            }
        }
        result
    }
}

impl Lowering<'_> {
    /// The input of a folded convolution of which the result has so many elements along the axis: `stride` channels for each,
    /// with zeros where windows leave it.
    pub(super) fn folded(&mut self, x: Home, fold: Folded, pad: u32, count: u32) -> Result<Home, Refusal> {
        let (place, stride) = (fold.axis + 2, fold.stride);
        let windows = count.saturating_add(fold.taps[1] - 1);
        let length = windows.saturating_mul(stride);
        if fold.axis == 1 && x.shape[..3] == [1, 1, 1] {
            let lanes = self.row_apart(x, pad, [windows, stride])?;
            return Ok(self.draft.turn(lanes));
        }
        let mut x = x;
        if pad > 0 || x.shape[place] < length {
            let mut shape = x.shape;
            shape[place] = length;
            let shape = extents(&shape.map(|d| d as usize))?;
            let padded = self.draft.tensor(x.prec, x.signed, shape);
            self.draft.fill(padded, 0);
            let mut to = Region::default();
            to.at[place] = pad;
            let mut part = x.shape;
            part[place] = part[place].min(length.saturating_sub(pad));
            self.draft.copy_region(x, Region::default(), padded, to, part);
            x = padded;
        }
        let [n, c, h, w] = x.shape;
        let (part, apart) = if fold.axis == 1 {
            ([n, c, h, length], [n * c * h, windows, 1, stride])
        } else {
            ([n, c, length, w], [n * c, windows, stride, w])
        };
        // Elements of a stride lie side by side; windows become lanes first, so that the exchange is one inside of lanes.
        let apart = extents(&apart.map(|d| d as usize))?;
        let lanes = self.float(x.prec, apart);
        let dma = reshaping_part(x, part, apart);
        self.draft.push(dma, vec![("src", Place::Local(x.buffer, 0)), ("dst", Place::Local(lanes.buffer, 0))]);
        if fold.axis == 1 {
            let turned = self.draft.turn(lanes);
            let moved = match h {
                1 => turned,
                _ => self.permuted_axes(turned, &[n * c, h, stride, windows], &[0, 2, 1, 3])?,
            };
            return Ok(self.draft.reshape(moved, [n, c * stride, h, windows]));
        }
        let moved = self.permuted_axes(lanes, &[n * c, windows, stride, w], &[0, 2, 1, 3])?;
        Ok(self.draft.reshape(moved, [n, c * stride, windows, w]))
    }
}

impl Lowering<'_> {
    /// A row, `pad` elements from the start, as windows over lanes; zeros where it does not reach. So large a row is not there twice.
    fn row_apart(&mut self, x: Home, pad: u32, [windows, stride]: [u32; 2]) -> Result<Home, Refusal> {
        let lanes = self.float(x.prec, extents(&[1, windows, 1, stride].map(|d| d as usize))?);
        let used = x.shape[3].min((windows * stride).saturating_sub(pad));
        if pad > 0 || used < windows * stride {
            self.draft.fill(lanes, 0);
        }
        let mut at = 0;
        while at < used {
            let (window, inside) = ((pad + at) / stride, (pad + at) % stride);
            // Whole windows at once, else what is left of one.
            let (rows, count) = match (used - at) / stride {
                rows if inside == 0 && rows > 0 => (rows, stride),
                _ => (1, (stride - inside).min(used - at)),
            };
            let dma = reshaping_part(x, [1, 1, 1, rows * count], [1, rows, 1, count]);
            let [from, to] = [(x, [0, 0, 0, at]), (lanes, [0, window, 0, inside])];
            let [from, to] = [from, to].map(|(home, at)| self.draft.place_of(home, at));
            self.draft.push(dma, vec![("src", from), ("dst", to)]);
            at += rows * count;
        }
        Ok(lanes)
    }

    /// The result of a folded convolution, whose neighbours are channels, as it is to be.
    pub(super) fn unfolded(&mut self, x: Home, fold: Folded, shape: [u32; 4]) -> Home {
        if fold.outputs == 1 {
            return x;
        }
        let [n, c, h, w] = x.shape;
        let rows = self.draft.reshape(x, [n * shape[1], c / shape[1], h, w]);
        let turned = self.draft.turn(rows);
        let whole = self.draft.reshape(turned, [n, shape[1], h, w * fold.outputs]);
        if whole.shape == shape {
            return whole;
        }
        let result = self.float(x.prec, shape);
        self.draft.copy_region(whole, Region::default(), result, Region::default(), shape);
        result
    }
}

/// Whether commands have no room for a stride.
pub(super) fn is_far(stride: u32) -> bool {
    stride > MAX_WINDOW
}

#[cfg(test)]
mod tests {
    use super::Folded;

    #[test]
    fn kernels_are_folded() {
        let weights: Vec<f32> = (1..=6u8).map(f32::from).collect();
        let along_w = Folded::new(1, 2, 1, 3);
        assert_eq!(along_w.weights(&weights, 1, [2, 3]), [1.0, 3.0, 4.0, 6.0, 2.0, 0.0, 5.0, 0.0]);
        let along_h = Folded::new(0, 4, 1, 2);
        let zeros = [0.0; 3];
        let expected = [&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0], &zeros, &zeros].concat();
        assert_eq!(along_h.weights(&weights, 1, [2, 3]), expected);
        // Two neighbours of the result, a step apart: phases 0 to 1 of two taps for each.
        let twice = Folded::new(1, 1, 2, 3);
        assert_eq!(twice.weights(&weights[..3], 1, [1, 3]), [1.0, 3.0, 2.0, 0.0, 0.0, 2.0, 1.0, 3.0]);
    }
}
