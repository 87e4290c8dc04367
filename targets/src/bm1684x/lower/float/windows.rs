//! Averages and reductions of floats.

use adze_ir::graph::Node;
use adze_ir::ops::{AveragePool, Reduce, ReduceFn};

use super::super::super::isa::{Pool, Prec};
use super::super::super::machine::MAX_WINDOW;
use super::super::build::{Home, Place};
use super::super::{Lowering, Refusal, pool, refuse, window_strides};
use super::pointwise::{MUL, bits, lowest};

/// Most elements whose sum is taken in 16 bits: rounding errors grow with the number.
const MAX_HALF_TAPS: u32 = 9;

impl Lowering<'_> {
    /// Lowers an average over windows.
    pub(super) fn float_average(&mut self, node: &Node, op: &AveragePool) -> Result<Home, Refusal> {
        self.need_half("an average")?;
        let x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let small = |values: &[i64], least: i64| values.iter().all(|v| (least..=MAX_WINDOW.into()).contains(v));
        let padded = op.pads.iter().any(|&p| p != 0);
        let plain = op.dilations.iter().all(|&d| d == 1)
            && small(&op.pads, 0)
            && op.ceil_pads.iter().all(|&p| p == 0)
            && (op.count_include_pad || !padded);
        let ([kh, kw], [sh, sw], [up, lf, dn, rt], true) = (&op.kernel[..], &op.strides[..], &op.pads[..], plain)
        else {
            let found = format!("pads {:?} and {:?} of {} axes", op.pads, op.ceil_pads, op.kernel.len());
            return refuse(found, format!("two axes, pads up to {MAX_WINDOW} that count in the mean"));
        };
        let kernel = [*kh as u32, *kw as u32];
        let pads = [up, lf, dn, rt].map(|&p| p as u32);
        let padded = [x.shape[2] + pads[0] + pads[2], x.shape[3] + pads[1] + pads[3]];
        let strides = window_strides(padded, shape, kernel, [*sh, *sw])?;
        Ok(self.windows(1, x, shape, kernel, strides, pads, 1.0 / (kernel[0] * kernel[1]) as f32))
    }

    /// Averages (operation 1, of products with `scale`) or maxima (4) of windows.
    #[expect(clippy::too_many_arguments, reason = "operand and geometry of one command")]
    pub(super) fn windows(
        &mut self,
        eu: u32,
        x: Home,
        shape: [u32; 4],
        kernel: [u32; 2],
        strides: [u32; 2],
        pads: [u32; 4],
        scale: f32,
    ) -> Home {
        let wide = eu == 1 && (kernel[0] * kernel[1] > MAX_HALF_TAPS || x.prec == Prec::Bf16);
        let from = if wide { self.as_float(x, Prec::Fp32) } else { x };
        let result = self.float(from.prec, shape);
        let mut pool = Pool { eu, ..pool(from, result, kernel, strides) };
        [pool.opd0_up_pad, pool.opd0_lf_pad, pool.opd0_dn_pad, pool.opd0_rt_pad] = pads;
        pool.opd0_sign = 0;
        pool.opd1_const = 1;
        if eu == 1 {
            pool.opd1_addr = bits(scale, from.prec);
        } else {
            pool.opd3_addr = lowest(from.prec);
        }
        let places = vec![("opd0_addr", Place::Local(from.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))];
        self.draft.push(pool, places);
        self.as_float(result, x.prec)
    }

    /// Lowers a reduction over axes that are H and W here.
    pub(super) fn float_reduce(&mut self, node: &Node, op: &Reduce) -> Result<Home, Refusal> {
        self.need_half("a reduction")?;
        let (eu, mean) = match op.function {
            ReduceFn::Mean => (1, true),
            ReduceFn::Sum | ReduceFn::SumSquare => (1, false),
            ReduceFn::Max | ReduceFn::Min => (4, false),
            other => return refuse(format!("a reduction by `{other}`"), "mean, sum, sum of squares, max, min"),
        };
        let mut x = self.input(node, 0)?;
        match op.function {
            ReduceFn::Min => x = self.with(MUL, x, -1.0),
            ReduceFn::SumSquare => {
                x = self.as_float(x, self.type_of(node.outputs[0]));
                let square = self.float(x.prec, x.shape);
                self.draft.binary(MUL, x, x, square);
                x = square;
            }
            _ => {}
        }
        let value = node.inputs[0].expect("a reduction has an operand");
        let rank = self.graph.ty(value).rank();
        let mut axes: Vec<usize> = op.axes.iter().map(|&axis| super::super::place_of(rank, axis)).collect();
        let [n, c, h, w] = x.shape;
        if axes == [1] && h * w == 1 {
            (x, axes) = (self.draft.reshape(x, [n, 1, 1, c]), vec![3]);
        }
        // N and C one after the other, from where the last axis is.
        for axis in axes.iter().copied().filter(|&axis| axis < 2 && x.shape[axis] > 1).collect::<Vec<_>>() {
            let turned = self.with_last(x, axis);
            let [n, c, h, w] = turned.shape;
            let scale = if mean { 1.0 / w as f32 } else { 1.0 };
            let reduced = self.windows(eu, turned, [n, c, h, 1], [1, w], [1, 1], [0; 4], scale);
            x = self.with_last(reduced, axis);
        }
        let over = |axis: usize| axes.contains(&axis) || x.shape[axis] == 1;
        let kernel = [if over(2) { x.shape[2] } else { 1 }, if over(3) { x.shape[3] } else { 1 }];
        let shape = [x.shape[0], x.shape[1], x.shape[2] / kernel[0], x.shape[3] / kernel[1]];
        let scale = if mean { 1.0 / (kernel[0] * kernel[1]) as f32 } else { 1.0 };
        let result = self.windows(eu, x, shape, kernel, [1, 1], [0; 4], scale);
        let result = if op.function == ReduceFn::Min { self.with(MUL, result, -1.0) } else { result };
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(result, shape))
    }
}
