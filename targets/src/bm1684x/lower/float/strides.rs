//! Convolutions with strides that commands have no room for: what lies between two windows becomes channels.

use super::super::build::{Home, Place};
use super::super::places::Region;
use super::super::{Lowering, Refusal, extents};
use super::products::reshaping_part;

/// A convolution along an axis with a stride, as one without of so many times the channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded {
    /// H (0) or W (1).
    pub(super) axis: usize,
    pub(super) stride: u32,
    /// Elements of the kernel along the axis, before and after.
    pub(super) taps: [u32; 2],
}

impl Folded {
    /// That of a kernel.
    pub(super) fn new(axis: usize, stride: u32, taps: u32) -> Self {
        Self { axis, stride, taps: [taps, taps.div_ceil(stride)] }
    }

    /// Weights `[oc][ic][kh][kw]` as `[oc][ic · stride][kh][kw]`, zero where the kernel ends before.
    pub(super) fn weights(&self, weights: &[f32], kernel: [u32; 2]) -> Vec<f32> {
        let ([kh, kw], stride, taps) = (kernel.map(|k| k as usize), self.stride as usize, self.taps[1] as usize);
        let plane = |plane: &[f32]| -> Vec<f32> {
            let at = |h: usize, w: usize| if h < kh && w < kw { plane[h * kw + w] } else { 0.0 };
            let lines = |phase: usize| match self.axis {
                0 => (0..taps).flat_map(|tap| (0..kw).map(move |w| (tap * stride + phase, w))).collect::<Vec<_>>(),
                _ => (0..kh).flat_map(|h| (0..taps).map(move |tap| (h, tap * stride + phase))).collect(),
            };
            (0..stride).flat_map(lines).map(|(h, w)| at(h, w)).collect()
        };
        weights.chunks(kh * kw).flat_map(plane).collect()
    }
}

impl Lowering<'_> {
    /// The input of a folded convolution of which the result has so many elements along the axis: `stride` channels for each,
    /// with zeros where windows leave it.
    pub(super) fn folded(&mut self, x: Home, fold: Folded, pad: u32, count: u32) -> Result<Home, Refusal> {
        let (place, stride) = (fold.axis + 2, fold.stride);
        let windows = count.saturating_add(fold.taps[1] - 1);
        let length = windows.saturating_mul(stride);
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

#[cfg(test)]
mod tests {
    use super::Folded;

    #[test]
    fn kernels_are_folded() {
        let weights: Vec<f32> = (1..=6u8).map(f32::from).collect();
        let along_w = Folded::new(1, 2, 3);
        assert_eq!(along_w.weights(&weights, [2, 3]), [1.0, 3.0, 4.0, 6.0, 2.0, 0.0, 5.0, 0.0]);
        let along_h = Folded::new(0, 4, 2);
        let zeros = [0.0; 3];
        let expected = [&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0], &zeros, &zeros].concat();
        assert_eq!(along_h.weights(&weights, [2, 3]), expected);
    }
}
