//! Pools: largest elements of windows, and what all pools have in common.

use adze_ir::graph::Node;
use adze_ir::ops::MaxPool;

use super::super::isa::{Pool, Prec};
use super::super::machine::MAX_WINDOW;
use super::super::sim::from_float;
use super::build::{Draft, Home, Place};
use super::places::Region;
use super::{Lowering, Refusal, extents, refuse};

/// Elementwise maximum.
const MAX: u32 = 4;

impl Lowering<'_> {
    /// Lowers a max pool along one, two or three axes.
    pub(super) fn max_pool(&mut self, node: &Node, op: &MaxPool) -> Result<Home, Refusal> {
        let most = i64::from(MAX_WINDOW);
        let within = |values: &[i64], least: i64, most: i64| values.iter().all(|v| (least..=most).contains(v));
        let axes = op.kernel.len();
        let plain = within(&op.dilations, 1, 1)
            && within(&op.pads, 0, most)
            && within(&op.strides, 1, most)
            && within(&op.kernel, 1, i64::from(u16::MAX));
        if !plain {
            let found = format!("pads {:?}, strides {:?}, dilations {:?}", op.pads, op.strides, op.dilations);
            return refuse(found, format!("pads and strides up to {MAX_WINDOW}, no dilation"));
        }
        // Kernel, stride, pads of the innermost axes, as H and W.
        let of = |axis: usize| match (axis + axes).checked_sub(2) {
            Some(own) => [op.kernel[own], op.strides[own], op.pads[own], op.pads[axes + own]].map(|v| v as u32),
            None => [1, 1, 0, 0],
        };
        let ([kh, sh, up, dn], [kw, sw, lf, rt]) = (of(0), of(1));
        let x = self.input(node, 0)?;
        let (x, shape) = match axes {
            1 | 2 => (x, self.shape(node.outputs[0])?),
            3 => {
                // Depth lies in channels; they are taken together afterwards.
                let (from, to) = (self.dims(node.inputs[0]), self.dims(Some(node.outputs[0])));
                let (&[n, c, d, h, w], &[.., rows, columns]) = (&from[..], &to[..]) else {
                    return refuse(format!("three axes of rank {}", from.len()), "rank 5");
                };
                let planes = extents(&[n, c.saturating_mul(d), h, w].map(|v| v as usize))?;
                (self.draft.reshape(x, planes), [planes[0], planes[1], rows, columns])
            }
            _ => return refuse(format!("{axes} axes"), "1 to 3"),
        };
        let result = self.draft.tensor(x.prec, x.signed, shape);
        let pool = Pool {
            eu: 4,
            opd3_addr: match (x.prec, x.signed) {
                (Prec::Int8, true) => 0x80,
                (Prec::Int8, false) => 0,
                (prec, _) => from_float(f32::NEG_INFINITY, prec),
            },
            opd0_up_pad: up,
            opd0_dn_pad: dn,
            opd0_lf_pad: lf,
            opd0_rt_pad: rt,
            ..pool(x, result, [kh, kw], [sh, sw])
        };
        let places = vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))];
        self.draft.push(pool, places);
        if axes == 3 { self.deepest(node, op, result) } else { Ok(result) }
    }

    /// Largest elements along the first of three axes, which lies in channels together with the channels proper.
    fn deepest(&mut self, node: &Node, op: &MaxPool, x: Home) -> Result<Home, Refusal> {
        let (from, to) = (self.dims(node.inputs[0]), self.dims(Some(node.outputs[0])));
        let (c, depth, count) = (i64::from(from[1]), i64::from(from[2]), i64::from(to[2]));
        let (kernel, stride, pad) = (op.kernel[0], op.strides[0], op.pads[0]);
        let window = |at: i64| (at * stride - pad).max(0)..(at * stride - pad + kernel).min(depth);
        if (0..count).any(|at| window(at).is_empty()) {
            return refuse("windows in pads alone", "windows with an element of the tensor");
        }
        let mut result: Option<Home> = None;
        for tap in 0..kernel {
            // What a window does not have is its last element once more.
            let element = |at: i64| (window(at).start + tap).min(window(at).end - 1);
            let all = (0..c).flat_map(|channel| (0..count).map(move |at| (channel, at)));
            let taken: Vec<u32> = all.map(|(channel, at)| (channel * depth + element(at)) as u32).collect();
            if taken.iter().copied().eq(0..x.shape[1]) && kernel == 1 {
                return Ok(x);
            }
            let part = self.draft.channels_taken(x, &taken);
            match result {
                Some(result) => self.draft.binary(MAX, result, part, result),
                None => result = Some(part),
            }
        }
        result.map_or_else(|| refuse("a kernel of no elements", "some"), Ok)
    }
}

impl Draft {
    /// Channels by index, runs of neighbours at once.
    fn channels_taken(&mut self, x: Home, indices: &[u32]) -> Home {
        let [n, _, h, w] = x.shape;
        let result = self.tensor(x.prec, x.signed, [n, indices.len() as u32, h, w]);
        let mut at = 0;
        for run in indices.chunk_by(|a, b| a + 1 == *b) {
            let [from, to] = [run[0], at].map(|channel| Region { at: [0, channel, 0, 0], ..Region::default() });
            self.copy_region(x, from, result, to, [n, run.len() as u32, h, w]);
            at += run.len() as u32;
        }
        result
    }
}

/// Strides of windows as a command has them: where an axis has a single window, the least that leaves no second one.
pub(super) fn window_strides(
    padded: [u32; 2],
    shape: [u32; 4],
    kernel: [u32; 2],
    strides: [i64; 2],
) -> Result<[u32; 2], Refusal> {
    let stride = |axis: usize| match (shape[2 + axis], strides[axis]) {
        (1, stride) => i64::from(padded[axis].saturating_sub(kernel[axis]) + 1).min(stride),
        (_, stride) => stride,
    };
    let least = [stride(0), stride(1)];
    if least.iter().all(|s| (1..=MAX_WINDOW.into()).contains(s)) {
        Ok(least.map(|s| s as u32))
    } else {
        refuse(format!("strides {strides:?}"), format!("1 to {MAX_WINDOW}"))
    }
}

/// What pools have in common; pads of a constant.
pub(super) fn pool(x: Home, result: Home, kernel: [u32; 2], strides: [u32; 2]) -> Pool {
    Pool {
        opd0_sign: (x.signed && x.prec.is_int()).into(),
        opd0_prec: x.prec.code(),
        opd3_const: 1,
        res0_prec: result.prec.code(),
        res_op_y_str: strides[0],
        res_op_x_str: strides[1],
        res0_n: result.shape[0],
        res0_c: result.shape[1],
        res0_h: result.shape[2],
        res0_w: result.shape[3],
        opd0_h: x.shape[2],
        opd0_w: x.shape[3],
        opd1_h: kernel[0],
        opd1_w: kernel[1],
        ..Pool::default()
    }
}
