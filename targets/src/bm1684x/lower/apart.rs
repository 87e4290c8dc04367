//! Convolutions of few channels, in two parts.

use super::super::isa::Pool;
use super::super::machine::{CONV_CHANNELS, CONV_CHANNELS_HALF, LANES, MAX_EXTENT, MAX_WINDOW, UNIT_BYTES};
use super::super::sim::from_float;
use super::Lowering;
use super::build::{Home, Image, Place};
use super::window::{Window, depthwise};

/// A convolution of few channels in two parts, where most of the 64 products per cycle would be idle. Each channel is copied to
/// as many lanes as the kernel has rows, times `columns`; a depthwise convolution with a single 1 per lane takes what one row
/// and one of the first columns of the kernel see; a convolution of height 1 sums that over the other columns.
pub(super) struct Gather {
    /// Columns of the kernel that get lanes of their own.
    pub(super) columns: u32,
    /// Columns that the second part has: every `columns`-th of the kernel.
    pub(super) taps: u32,
    /// Stride along W of the first part; the second has the rest.
    stride: u32,
    /// Width of what is in between.
    width: u32,
    /// Pad on the right of the first part.
    right: u32,
}

impl Gather {
    /// The one with the fewest cycles, by the formulas of `cost`; none where the convolution as it is takes fewer.
    pub(super) fn best(x: Home, shape: [u32; 4], window: &Window, kernel: [u32; 2]) -> Option<Gather> {
        let per_cycle = u64::from(UNIT_BYTES / x.prec.bytes());
        let summed = if x.prec.is_int() { CONV_CHANNELS } else { CONV_CHANNELS_HALF };
        let x = x.shape;
        let plane = |h: u32, w: u32| u64::from(h) * u64::from(w);
        let product = u64::from(shape[1].div_ceil(LANES)) * plane(shape[2], shape[3]).div_ceil(4);
        let taps = u64::from(kernel[0]) * u64::from(kernel[1]);
        let direct = product * taps * u64::from(x[1].div_ceil(summed));
        let lanes = |columns: u32| x[1].saturating_mul(kernel[0]).saturating_mul(columns);
        let cycles = |gather: &Gather| {
            let slow = if window.strides[0] > 1 && gather.stride > 1 { 3 } else { 1 };
            let select =
                u64::from(kernel[0] * gather.columns) * slow * plane(shape[2], gather.width).div_ceil(per_cycle);
            let groups = u64::from(lanes(gather.columns).div_ceil(summed));
            u64::from(x[1]) * plane(x[2], x[3]).div_ceil(per_cycle) + select + product * u64::from(gather.taps) * groups
        };
        let ways = (1..=kernel[1]).filter(|&columns| taps > 1 && lanes(columns) <= LANES);
        let ways = ways.filter_map(|columns| Gather::of(x, shape, window, kernel, columns));
        ways.min_by_key(cycles).filter(|gather| cycles(gather) < direct)
    }

    /// The one with so many columns, if its pads and dilations are ones that commands have.
    fn of(x: [u32; 4], shape: [u32; 4], window: &Window, kernel: [u32; 2], columns: u32) -> Option<Gather> {
        let ([_, dilation], [_, left, _, right]) = (window.dilations, window.pads);
        if columns == kernel[1] {
            return Some(Gather { columns, taps: 1, stride: window.strides[1], width: shape[3], right });
        }
        let taps = kernel[1].div_ceil(columns);
        let width = (shape[3] - 1) * window.strides[1] + (taps - 1) * columns * dilation + 1;
        let right = (width + (columns - 1) * dilation).checked_sub(x[3] + left)?;
        let fits = right <= MAX_WINDOW && columns * dilation <= MAX_WINDOW && width <= MAX_EXTENT;
        fits.then_some(Gather { columns, taps, stride: 1, width, right })
    }

    /// Geometry of the second part.
    pub(super) fn rest(&self, window: &Window) -> Window {
        let (stride, dilation) = match self.taps {
            1 => (1, 1),
            _ => (window.strides[1], window.dilations[1] * self.columns),
        };
        Window { strides: [1, stride], dilations: [1, dilation], ..Window::plain() }
    }

    /// Weights of the second part: `[oc][ic · kh · columns][1][taps]`, zero where the kernel has no such column.
    pub(super) fn weights<T: Copy + Default>(&self, rows: &[Vec<T>], kernel: [u32; 2]) -> Vec<Vec<T>> {
        let (kw, columns, taps) = (kernel[1] as usize, self.columns as usize, self.taps as usize);
        let line = |line: &[T]| -> Vec<T> {
            let at = (0..columns).flat_map(|column| (0..taps).map(move |tap| column + tap * columns));
            at.map(|at| line.get(at).copied().unwrap_or_default()).collect()
        };
        rows.iter().map(|row| row.chunks(kw).flat_map(line).collect()).collect()
    }
}

impl Lowering<'_> {
    /// Does the first part of a [`Gather`]; `zero` is what stands in pads.
    pub(super) fn taken_apart(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        gather: &Gather,
        zero: i64,
    ) -> Home {
        let taps = kernel[0] * gather.columns;
        let spread = self.draft.spread(x, taps);
        let channels = spread.shape[1];
        let int = x.prec.is_int();
        let es = x.prec.bytes() as usize;
        let bits = |value: bool| if int { value.into() } else { from_float(f32::from(value), x.prec) };
        let one = |tap: u32| (0..taps).flat_map(|at| bits(at == tap).to_le_bytes().into_iter().take(es)).collect();
        let rows: Vec<Vec<u8>> = (0..channels).map(|channel| one(channel % taps)).collect();
        let mut image = Image::new(channels);
        let at = image.section(&rows, taps as usize * es, es);
        let constants = self.draft.constants(&image);
        let result = self.draft.tensor(x.prec, x.signed, [shape[0], channels, shape[2], gather.width]);
        let [up, lf, dn, _] = window.pads;
        let first = Window {
            strides: [window.strides[0], gather.stride],
            pads: [up, lf, dn, gather.right],
            dilations: window.dilations,
            inserted: [0; 2],
        };
        let pool = Pool {
            // The result is unsigned with the ReLU, which does nothing to what is.
            eu: if x.signed { 0 } else { 2 },
            opd1_sign: int.into(),
            opd2_sign: int.into(),
            opd2_const: 1,
            ..depthwise(spread, result, &first, [kernel[0], gather.columns], zero)
        };
        let places = vec![
            ("opd0_addr", Place::Local(spread.buffer, 0)),
            ("opd1_addr", Place::Local(constants, at)),
            ("res0_addr", Place::Local(result.buffer, 0)),
        ];
        self.draft.push(pool, places);
        result
    }
}
