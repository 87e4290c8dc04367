//! Geometry of convolutions, and what commands have no room for.

use super::super::isa::{Conv, Pool};
use super::super::machine::{MAX_EXTENT, MAX_WINDOW};
use super::build::Home;
use super::places::Region;
use super::{Lowering, Refusal, pool, refuse};

/// Geometry of a convolution.
pub(super) struct Window {
    pub(super) strides: [u32; 2],
    /// Above, left, below, right.
    pub(super) pads: [u32; 4],
    pub(super) dilations: [u32; 2],
    /// Values between neighbours of the input along H and W.
    pub(super) inserted: [u32; 2],
}

impl Window {
    /// That of a product of matrices.
    pub(super) fn plain() -> Self {
        Self { strides: [1, 1], pads: [0; 4], dilations: [1, 1], inserted: [0; 2] }
    }

    /// The command of a convolution of one group, as far as the geometry says it; what stands in the pads is a constant, 0 as yet.
    pub(super) fn conv(&self, x: Home, result: Home, kernel: [u32; 2]) -> Conv {
        let [up, lf, dn, rt] = self.pads;
        Conv {
            res0_prec: result.prec.code(),
            opd3_const: 1,
            opd0_up_pad: up,
            opd0_dn_pad: dn,
            opd0_lf_pad: lf,
            opd0_rt_pad: rt,
            res_op_y_str: self.strides[0],
            res_op_x_str: self.strides[1],
            opd0_y_ins0: self.inserted[0],
            opd0_x_ins0: self.inserted[1],
            opd1_y_ins0: self.dilations[0] - 1,
            opd1_x_ins0: self.dilations[1] - 1,
            res0_n: result.shape[0],
            res0_c: result.shape[1],
            res0_h: result.shape[2],
            res0_w: result.shape[3],
            opd0_c: x.shape[1],
            opd0_h: x.shape[2],
            opd0_w: x.shape[3],
            opd1_h: kernel[0],
            opd1_w: kernel[1],
            ..Conv::default()
        }
    }

    /// The geometry along one or two axes, with strides up to `most_stride`. Pads and dilations may be ones that commands have no room for ([`Lowering::fitted`]).
    pub(super) fn new(strides: &[i64], pads: &[i64], dilations: &[i64], most_stride: u32) -> Result<Self, Refusal> {
        let pads = match numbers("pads", pads, 0, MAX_EXTENT.into())?[..] {
            [left, right] => [0, left, 0, right],
            [up, left, down, right] => [up, left, down, right],
            ref pads => return refuse(format!("pads of {} sides", pads.len()), "two or four sides"),
        };
        Ok(Self {
            strides: axes("strides", strides, 1, most_stride.into())?,
            pads,
            dilations: axes("dilations", dilations, 1, MAX_EXTENT.into())?,
            inserted: [0; 2],
        })
    }

    /// By how much a kernel is stretched for dilations that commands have room for: with as few zeros as can be.
    fn stretch(&self, kernel: [u32; 2]) -> [u32; 2] {
        std::array::from_fn(|axis| {
            let dilation = if kernel[axis] == 1 { 1 } else { self.dilations[axis] };
            let by = (1..=dilation).find(|by| dilation.is_multiple_of(*by) && dilation / by <= MAX_WINDOW);
            by.unwrap_or(dilation)
        })
    }
}

/// Attributes in a range.
pub(super) fn numbers(name: &'static str, values: &[i64], least: i64, most: i64) -> Result<Vec<u32>, Refusal> {
    if values.iter().all(|v| (least..=most).contains(v)) {
        Ok(values.iter().map(|&v| v as u32).collect())
    } else {
        refuse(format!("{name} {values:?}"), format!("{least} to {most}"))
    }
}

/// Attributes along one or two axes, in a range.
pub(super) fn axes(name: &'static str, values: &[i64], least: i64, most: i64) -> Result<[u32; 2], Refusal> {
    match numbers(name, values, least, most)?[..] {
        [w] => Ok([1, w]),
        [h, w] => Ok([h, w]),
        _ => refuse(format!("{name} along {} axes", values.len()), "one or two axes"),
    }
}

/// Planes of a kernel with zeros between its elements.
pub(super) fn stretched<T: Copy + Default>(values: &[T], [kh, kw]: [u32; 2], by: [u32; 2]) -> Vec<T> {
    let [kh, kw, by_h, by_w] = [kh, kw, by[0], by[1]].map(|v| v as usize);
    let width = (kw - 1) * by_w + 1;
    let plane = |plane: &[T]| {
        let mut wide = vec![T::default(); ((kh - 1) * by_h + 1) * width];
        for (at, &value) in plane.iter().enumerate() {
            wide[at / kw * by_h * width + at % kw * by_w] = value;
        }
        wide
    };
    values.chunks(kh * kw).flat_map(plane).collect()
}

/// A convolution whose geometry commands have room for.
pub(super) struct Fitted {
    pub(super) x: Home,
    pub(super) window: Window,
    pub(super) kernel: [u32; 2],
    /// By how much the kernel is stretched ([`stretched`]).
    pub(super) by: [u32; 2],
}

impl Lowering<'_> {
    /// Brings pads that commands have no room for into the input, and dilations into the kernel. `border` are the bits of what
    /// stands in the pads.
    pub(super) fn fitted(
        &mut self,
        mut x: Home,
        mut window: Window,
        mut kernel: [u32; 2],
        border: u32,
    ) -> Result<Fitted, Refusal> {
        let by = window.stretch(kernel);
        for axis in 0..2 {
            window.dilations[axis] = if kernel[axis] == 1 { 1 } else { window.dilations[axis] / by[axis] };
            kernel[axis] = (kernel[axis] - 1) * by[axis] + 1;
        }
        if window.pads.iter().any(|&pad| pad > MAX_WINDOW) {
            let [up, lf, dn, rt] = window.pads;
            if window.inserted != [0, 0] {
                return refuse(
                    format!("pads {:?} of a transposed convolution", window.pads),
                    format!("0 to {MAX_WINDOW}"),
                );
            }
            let [n, c, h, w] = x.shape;
            let shape = super::extents(&[n, c, up + h + dn, lf + w + rt].map(|d| d as usize))?;
            let padded = self.draft.tensor(x.prec, x.signed, shape);
            self.draft.fill(padded, border);
            let to = Region { at: [0, 0, up, lf], ..Region::default() };
            self.draft.copy_region(x, Region::default(), padded, to, x.shape);
            (x, window.pads) = (padded, [0; 4]);
        }
        Ok(Fitted { x, window, kernel, by })
    }
}

/// The geometry of a depthwise convolution.
pub(super) fn depthwise(x: Home, result: Home, window: &Window, kernel: [u32; 2], zero: i64) -> Pool {
    let [up, lf, dn, rt] = window.pads;
    Pool {
        opd3_addr: zero as u32 & 0xff,
        opd0_up_pad: up,
        opd0_dn_pad: dn,
        opd0_lf_pad: lf,
        opd0_rt_pad: rt,
        opd1_y_ins0: window.dilations[0] - 1,
        opd1_x_ins0: window.dilations[1] - 1,
        ..pool(x, result, kernel, window.strides)
    }
}
