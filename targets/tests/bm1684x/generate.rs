//! Random commands that the machine accepts, with operands that do not overlap.

use adze_targets::bm1684x::isa::{
    Ar, Body, Conv, Dma, DmaGather, DmaTranspose, Lookup, MatMul, Pool, Prec, Requant, Select, Sfu, Trans,
};
use adze_targets::bm1684x::machine::{DDR_BASE, LANE_BYTES, LANES, LOCAL_BASE};
use adze_targets::bm1684x::operands::Operand;
use fastrand::Rng;
use half::{bf16, f16};

/// A case in the making: places for operands that do not overlap, and data that a form wants.
pub struct Draft<'a> {
    rng: &'a mut Rng,
    top: u32,
    ddr_top: u32,
}

impl<'a> Draft<'a> {
    /// An empty case.
    pub fn new(rng: &'a mut Rng) -> Self {
        Self { rng, top: 0, ddr_top: 0 }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    fn upto(&mut self, most: u32) -> u32 {
        self.rng.u32(1..=most)
    }

    fn flag(&mut self) -> u32 {
        self.rng.u32(..2)
    }

    /// A place for a dense tensor that starts in a lane.
    fn place(&mut self, prec: Prec, lane: u32, [n, c, h, w]: [u32; 4]) -> u32 {
        let plane = (h * w * prec.bytes()).next_multiple_of(64);
        let at = self.top + 64 * self.rng.u32(..3);
        self.top = at + n * (lane + c).div_ceil(LANES) * plane;
        assert!(self.top <= LANE_BYTES, "the case is too big");
        lane * LANE_BYTES + at
    }

    fn ddr_place(&mut self, bytes: u32) -> u64 {
        let at = self.ddr_top + 4 * self.rng.u32(..50);
        self.ddr_top = (at + bytes).next_multiple_of(4);
        DDR_BASE + u64::from(at)
    }

    fn lane(&mut self) -> u32 {
        if self.rng.bool() { 0 } else { self.rng.u32(..LANES) }
    }
}

/// The extent of a convolution's result, if there is one.
fn extent(size: u32, ins: u32, pads: u32, kernel: u32, dilation: u32, stride: u32) -> Option<u32> {
    let padded = (size - 1) * (ins + 1) + 1 + pads;
    Some(padded.checked_sub((kernel - 1) * dilation + 1)? / stride + 1)
}

fn conv(d: &mut Draft<'_>) -> Option<Body> {
    convolution(d, Prec::Int8)
}

fn float_conv(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&HALVES);
    convolution(d, prec)
}

fn convolution(d: &mut Draft<'_>, prec: Prec) -> Option<Body> {
    let half = prec != Prec::Int8;
    // Floats are slow in the vendor's simulator.
    let (n, ic, oc) = (d.upto(2), d.upto(80), d.upto(if half { 80 } else { 140 }));
    let (h, w, kh, kw) = (d.upto(9), d.upto(if half { 5 } else { 11 }), d.upto(5), d.upto(if half { 3 } else { 4 }));
    let small = |d: &mut Draft<'_>, most: u32| if d.rng.u32(..3) == 0 { d.rng.u32(..=most) } else { 0 };
    let pads: [u32; 4] = std::array::from_fn(|_| small(d, 4));
    let (dy, dx, iy, ix) = (small(d, 2), small(d, 2), small(d, 2), small(d, 2));
    let (sy, sx) = (1 + small(d, 3), 1 + small(d, 3));
    let pad_mode = if d.rng.u32(..4) == 0 { d.rng.u32(..4) } else { 0 };
    if pad_mode != 0 && (pads[0].max(pads[1]) >= h || pads[2].max(pads[3]) >= w || iy + ix > 0) {
        return None;
    }
    let oh = extent(h, iy, pads[0] + pads[1], kh, dy + 1, sy)?;
    let ow = extent(w, ix, pads[2] + pads[3], kw, dx + 1, sx)?;
    let lane = d.lane();
    let res_add = u32::from(d.rng.u32(..4) == 0);
    let narrow = res_add == 0 && d.rng.bool();
    let res0_prec = match (half, narrow) {
        (true, true) => prec,
        (true, false) => Prec::Fp32,
        (false, true) => Prec::Int16,
        (false, false) => Prec::Int32,
    };
    let (opd1_const, opd2_const, opd3_const) = (u32::from(d.rng.u32(..8) == 0), d.flag(), d.flag() | u32::from(half));
    let group = if half { 32 } else { 64 };
    let row = ic.div_ceil(group) * kh * kw * group;
    let opd0_addr = d.place(prec, 0, [n, ic, h, w]);
    let res0_addr = d.place(res0_prec, lane, [n, oc, oh, ow]);
    let stored = |d: &mut Draft<'_>, prec: Prec, constant: u32, lane: u32, shape: [u32; 4]| match (constant, prec) {
        (0, _) => d.place(prec, lane, shape),
        (_, Prec::Int8) => d.rng.u32(..256),
        _ => float(d.rng, prec),
    };
    let bias = if half { Prec::Fp32 } else { Prec::Int8 };
    Some(
        Conv {
            opd0_sign: d.flag(),
            opd1_sign: d.flag(),
            opd2_sign: d.flag(),
            pad_mode,
            res_add,
            kernel_rotate: d.flag(),
            res0_prec: res0_prec.code(),
            opd0_prec: prec.code(),
            opd1_const,
            opd2_const,
            opd0_up_pad: pads[0],
            opd0_dn_pad: pads[1],
            opd0_lf_pad: pads[2],
            opd0_rt_pad: pads[3],
            res_op_x_str: sx,
            res_op_y_str: sy,
            opd3_const,
            res0_addr,
            opd0_x_ins0: ix,
            opd0_y_ins0: iy,
            opd1_x_ins0: dx,
            opd1_y_ins0: dy,
            res0_n: n,
            res0_c: oc,
            res0_h: oh,
            res0_w: ow,
            opd0_c: ic,
            opd0_h: h,
            opd0_w: w,
            opd1_h: kh,
            opd1_w: kw,
            opd0_addr,
            opd1_addr: stored(d, prec, opd1_const, lane, [1, oc, 1, row]),
            opd2_addr: stored(d, bias, opd2_const, lane, [1, oc, 1, 1]),
            opd3_addr: stored(d, prec, opd3_const, 0, [1, ic, 1, 2]),
            res1_addr: match (opd3_const, half) {
                (0, _) => 0,
                (_, false) => d.rng.u32(..256),
                _ => float(d.rng, prec),
            },
            ..Conv::default()
        }
        .into(),
    )
}

fn pool(d: &mut Draft<'_>) -> Option<Body> {
    let eu = d.pick(&[0, 1, 2, 4]);
    let (n, c, h, w, kh, kw) = (d.upto(2), d.upto(140), d.upto(9), d.upto(11), d.upto(4), d.upto(4));
    let small = |d: &mut Draft<'_>, most: u32| if d.rng.bool() { d.rng.u32(..=most) } else { 0 };
    let pads: [u32; 4] = std::array::from_fn(|_| small(d, 3));
    let (dy, dx) = if matches!(eu, 0 | 2) { (small(d, 2), small(d, 2)) } else { (0, 0) };
    let (sy, sx) = (1 + small(d, 3), 1 + small(d, 3));
    let oh = extent(h, 0, pads[0] + pads[1], kh, dy + 1, sy)?;
    let ow = extent(w, 0, pads[2] + pads[3], kw, dx + 1, sx)?;
    let lane = d.lane();
    let depthwise = matches!(eu, 0 | 2);
    let res0_prec = match eu {
        4 => Prec::Int8,
        1 => d.pick(&[Prec::Int8, Prec::Int32]),
        _ => d.pick(&[Prec::Int8, Prec::Int16, Prec::Int32]),
    };
    let narrow = res0_prec != Prec::Int32;
    let opd0_addr = d.place(Prec::Int8, lane, [n, c, h, w]);
    let res0_addr = d.place(res0_prec, lane, [n, c, oh, ow]);
    let opd1_const = u32::from(eu == 1 || eu == 4 && d.rng.bool());
    let opd2_const = u32::from(depthwise && d.rng.bool());
    let opd3_const = u32::from(!depthwise || d.rng.bool());
    let shift = if narrow { d.rng.u32(..16) } else { 0 };
    let opd1_addr = match eu {
        1 => d.rng.u32(1..256),
        4 => 0,
        _ => d.place(Prec::Int8, lane, [1, c, kh, kw]),
    };
    let opd2_addr = match (eu, opd2_const) {
        (1, _) => shift,
        (4, _) => 0,
        (_, 1) => d.rng.u32(..1 << 12),
        _ => d.place(Prec::Int32, lane, [1, c, 1, 1]),
    };
    let opd3_addr = if opd3_const == 1 { d.rng.u32(..256) } else { d.place(Prec::Int8, lane, [1, c, 1, 2]) };
    Some(
        Pool {
            eu,
            kernel_rotate: if depthwise { d.flag() } else { 0 },
            opd0_sign: d.flag(),
            opd1_sign: if depthwise { d.flag() } else { 0 },
            opd1_const,
            opd2_const,
            opd3_const,
            res0_prec: res0_prec.code(),
            opd1_x_ins0: dx,
            opd1_y_ins0: dy,
            opd0_up_pad: pads[0],
            opd0_dn_pad: pads[1],
            opd0_lf_pad: pads[2],
            opd0_rt_pad: pads[3],
            res_op_x_str: sx,
            res_op_y_str: sy,
            opd2_n_str: if depthwise { d.rng.u32(..7) } else { 0 },
            opd2_sign: u32::from(depthwise),
            res0_n: n,
            res0_c: c,
            res0_h: oh,
            res0_w: ow,
            opd0_h: h,
            opd0_w: w,
            opd1_h: kh,
            opd1_w: kw,
            res0_addr,
            opd0_addr,
            opd1_addr,
            opd2_addr,
            res1_addr: if depthwise && narrow { shift << 8 } else { 0 },
            opd3_addr,
            ..Pool::default()
        }
        .into(),
    )
}

/// Depthwise convolutions, averages and maxima of floats.
fn float_pool(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&FLOATS);
    let eu = d.pick(&[0, 1, 4]);
    let depthwise = eu == 0;
    let (n, c, h, w) = (d.upto(2), d.upto(140), d.upto(9), d.upto(20));
    let (kh, kw) = (d.upto(h), d.upto(w.min(8)));
    let small = |d: &mut Draft<'_>, most: u32| if d.rng.bool() { d.rng.u32(..=most) } else { 0 };
    let pads: [u32; 4] = std::array::from_fn(|_| small(d, 3));
    let (dy, dx) = if depthwise { (small(d, 2), small(d, 2)) } else { (0, 0) };
    let (sy, sx) = (1 + small(d, 3), 1 + small(d, 3));
    let oh = extent(h, 0, pads[0] + pads[1], kh, dy + 1, sy)?;
    let ow = extent(w, 0, pads[2] + pads[3], kw, dx + 1, sx)?;
    let lane = d.lane();
    let (opd1_const, opd2_const) = (u32::from(!depthwise || d.rng.bool()), u32::from(depthwise && d.rng.bool()));
    let opd1_addr = match (eu, opd1_const) {
        (4, _) => 0,
        (_, 1) => float(d.rng, prec),
        _ => d.place(prec, lane, [1, c, kh, kw]),
    };
    let opd2_addr = match (depthwise, opd2_const) {
        (false, _) => 0,
        (_, 1) => float(d.rng, prec),
        _ => d.place(prec, lane, [1, c, 1, 1]),
    };
    Some(
        Pool {
            eu,
            kernel_rotate: if depthwise { d.flag() } else { 0 },
            opd1_const,
            opd2_const,
            opd3_const: 1,
            res0_prec: prec.code(),
            opd0_prec: prec.code(),
            opd1_x_ins0: dx,
            opd1_y_ins0: dy,
            opd0_up_pad: pads[0],
            opd0_dn_pad: pads[1],
            opd0_lf_pad: pads[2],
            opd0_rt_pad: pads[3],
            res_op_x_str: sx,
            res_op_y_str: sy,
            res0_n: n,
            res0_c: c,
            res0_h: oh,
            res0_w: ow,
            opd0_h: h,
            opd0_w: w,
            opd1_h: kh,
            opd1_w: kw,
            res0_addr: d.place(prec, lane, [n, c, oh, ow]),
            opd0_addr: d.place(prec, lane, [n, c, h, w]),
            opd1_addr,
            opd2_addr,
            opd3_addr: float(d.rng, prec),
            ..Pool::default()
        }
        .into(),
    )
}

/// Polynomials and inverse square roots.
fn sfu(d: &mut Draft<'_>) -> Option<Body> {
    let eu = d.pick(&[12, 17]);
    let prec = if eu == 12 { d.pick(&FLOATS) } else { Prec::Fp32 };
    let shape = [d.upto(2), d.upto(140), d.upto(5), d.upto(20)];
    let terms = if eu == 12 { d.rng.u32(2..12) } else { 0 };
    let lane = d.lane();
    Some(
        Sfu {
            eu,
            res0_prec: prec.code(),
            opd0_prec: prec.code(),
            opd2_n_str: if eu == 17 { d.rng.u32(..4) } else { 0 },
            res0_n: shape[0],
            res0_c: shape[1],
            res0_h: shape[2],
            res0_w: shape[3],
            opd1_n: terms,
            res0_addr: d.place(prec, lane, shape),
            opd0_addr: d.place(prec, lane, shape),
            opd1_addr: if eu == 12 { d.place(prec, 0, [1, LANES, 1, terms]) } else { 0 },
        }
        .into(),
    )
}

/// Selections, of which some operands are equal.
fn select(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&FLOATS);
    let shape = [d.upto(2), d.upto(140), d.upto(5), d.upto(20)];
    let lane = d.lane();
    let same = d.rng.u8(..4) == 0;
    let constants: [u32; 4] = std::array::from_fn(|_| u32::from(d.rng.u8(..3) == 0));
    let mut place = |constant: u32| match constant {
        1 => float(d.rng, prec),
        _ => d.place(prec, lane, shape),
    };
    let [opd0_addr, opd1_addr, opd2_addr, opd3_addr] = constants.map(&mut place);
    let res0_addr = place(0);
    Some(
        Select {
            eu: d.pick(&[23, 24, 26]),
            opd0_const: constants[0],
            opd1_const: if same { constants[0] } else { constants[1] },
            opd2_const: constants[2],
            opd3_const: constants[3],
            opd0_prec: prec.code(),
            opd2_prec: prec.code(),
            opd0_sign: 1,
            res0_n: shape[0],
            res0_c: shape[1],
            res0_h: shape[2],
            res0_w: shape[3],
            res0_addr,
            opd0_addr,
            opd1_addr: if same { opd0_addr } else { opd1_addr },
            opd2_addr,
            opd3_addr,
            ..Select::default()
        }
        .into(),
    )
}

fn matmul(d: &mut Draft<'_>) -> Option<Body> {
    product(d, Prec::Int8)
}

fn float_matmul(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&HALVES);
    product(d, prec)
}

fn product(d: &mut Draft<'_>, prec: Prec) -> Option<Body> {
    let half = prec != Prec::Int8;
    let eu = d.pick(&[4, 5, 6]);
    let (rows, cols, inner) = (d.upto(140), d.upto(40), d.upto(140));
    let (left, right) = match eu {
        4 => ([1, rows, 1, inner], [1, inner, 1, cols]),
        5 => ([1, rows, 1, inner], [1, cols, 1, inner]),
        _ => ([1, inner, 1, cols], [1, rows, 1, inner]),
    };
    let opd2_const = d.flag() | u32::from(half);
    let zero = match (opd2_const, eu) {
        (1, _) if half => 0,
        (1, _) => d.rng.u32(..256),
        (_, 6) => d.place(Prec::Int8, 0, [1, rows, 1, 1]),
        _ => d.place(Prec::Int8, 0, [1, LANES, 1, cols]),
    };
    let result = if half { d.pick(&[prec, Prec::Fp32]) } else { Prec::Int32 };
    Some(
        MatMul {
            eu,
            opd0_sign: d.flag(),
            opd1_sign: d.flag(),
            res0_prec: result.code(),
            opd0_prec: prec.code(),
            opd2_const,
            res0_c: rows,
            res0_w: cols,
            opd1_c: right[1],
            opd1_w: right[3],
            res_add: if eu == 5 || result == prec { 0 } else { d.flag() },
            res0_addr: d.place(result, 0, [1, rows, 1, cols]),
            opd0_addr: d.place(prec, 0, left),
            opd1_addr: d.place(prec, 0, right),
            opd2_addr: zero,
            ..MatMul::default()
        }
        .into(),
    )
}

/// A place and layout of an elementwise operand: code, address, strides where free.
fn layout(d: &mut Draft<'_>, prec: Prec, lane: u32, shape: [u32; 4], broadcast: bool) -> (u32, u32, [u32; 4]) {
    let [n, c, h, w] = shape;
    match d.rng.u32(..4) {
        0 => (1, d.place(prec, lane, [n, c, h, w]), [0; 4]),
        1 => {
            let ws = if broadcast && d.rng.bool() { 0 } else { d.upto(2) };
            let hs = if broadcast && d.rng.bool() { 0 } else { ws.max(1) * w };
            let cs = (h * w * 2).next_multiple_of(64);
            let cs = if broadcast && d.rng.u32(..4) == 0 { 0 } else { cs };
            let ns = (lane + c).div_ceil(LANES) * cs;
            (3, d.place(prec, lane, [n, c, 2 * h, w + 32]), [ns, cs, hs, ws])
        }
        _ => (0, d.place(prec, lane, shape), [0; 4]),
    }
}

fn ar(d: &mut Draft<'_>) -> Option<Body> {
    let shape = [d.upto(2), d.upto(140), d.upto(5), d.upto(9)];
    let lane = d.lane();
    let is_float = d.rng.bool();
    let ints = [Prec::Int8, Prec::Int16, Prec::Int32];
    let eu = if is_float { d.pick(&[0, 2, 3, 4, 5, 12, 14, 19]) } else { d.pick(&[0, 2, 3, 4, 5, 14, 15, 16, 19, 20]) };
    let (mut a, mut b, mut r) = (d.pick(&ints), d.pick(&ints), d.pick(&ints));
    let (mut signs, mut rounding, mut res_sign) = ([d.flag(), d.flag()], 0, d.flag());
    match eu {
        4 | 5 | 19 => (b, r, signs[1]) = (a, a, signs[0]),
        12 => rounding = d.rng.u32(..4),
        _ => {
            // Results at least as wide as the operands, as they are emitted.
            r = *[a, b, r].iter().max_by_key(|p| p.bytes()).expect("three");
        }
    }
    if is_float {
        let prec = if eu == 12 { Prec::Fp32 } else { d.pick(&FLOATS) };
        (a, b, r, signs) = (prec, prec, prec, [1, 1]);
        if eu == 14 {
            r = d.pick(&[Prec::Int8, Prec::Int16, Prec::Int32, Prec::Fp32, Prec::Fp16, Prec::Bf16]);
            if r != prec && r.is_half() && prec.is_half() {
                return None;
            }
            res_sign |= u32::from(r == Prec::Int32);
            let rounds = r.is_int() || a == r;
            rounding = if rounds { d.rng.u32(..5) } else { 0 };
        }
    } else if eu == 14 && d.rng.bool() {
        (r, res_sign, rounding) = (d.pick(&FLOATS), 1, 0);
    }
    let operands = if matches!(eu, 14 | 19) { 1 } else { 2 };
    let shifted = !is_float && matches!(eu, 0 | 2 | 3 | 15 | 16 | 20) && d.rng.bool();
    if shifted {
        rounding = d.rng.u32(..7);
    }
    let (res0_str, res0_addr, rs) = layout(d, r, lane, shape, false);
    let (opd0_str, opd0_addr, s0) = layout(d, a, lane, shape, true);
    let constant = operands == 2 && d.rng.bool();
    let value = if is_float { float(d.rng, b) } else { d.rng.u32(..) >> (32 - 8 * b.bytes()) };
    let (opd1_str, opd1_addr, s1) = if constant { (0, value, [0; 4]) } else { layout(d, b, lane, shape, true) };
    let opd2_const = u32::from(shifted && d.rng.bool());
    let opd2_addr = match (shifted, opd2_const) {
        (false, _) => 0,
        (_, 1) => d.rng.u8(..).wrapping_rem(20).into(),
        _ => d.place(Prec::Int8, lane, [1, shape[1], 1, 1]),
    };
    let opd2_addr = if opd2_const == 1 { (0u32.wrapping_sub(opd2_addr)) & 0xff } else { opd2_addr };
    Some(
        Ar {
            eu,
            opd1_const: u32::from(constant),
            opd2_const,
            tsk_opd_num: if shifted { 3 } else { operands },
            res0_prec: r.code(),
            opd0_prec: a.code(),
            opd1_prec: if operands == 1 { 0 } else { b.code() },
            opd0_sign: signs[0],
            opd1_sign: signs[1],
            res0_str,
            opd0_str,
            opd1_str,
            opd2_n_str: rounding,
            res0_n: shape[0],
            res0_c: shape[1],
            res0_h: shape[2],
            res0_w: shape[3],
            res0_addr,
            opd0_addr,
            opd1_addr: if operands == 1 { 0 } else { opd1_addr },
            opd2_addr,
            res0_n_str: rs[0],
            res0_c_str: rs[1],
            opd0_n_str: s0[0],
            opd0_c_str: s0[1],
            opd1_n_str: if operands == 1 { 0 } else { s1[0] },
            opd1_c_str: if operands == 1 { 0 } else { s1[1] },
            res0_h_str: rs[2],
            res0_w_str: rs[3],
            opd0_h_str: s0[2],
            opd2_sign: if shifted { 1 } else { res_sign },
            opd0_w_str: s0[3],
            opd1_h_str: if operands == 1 { 0 } else { s1[2] },
            opd1_w_str: if operands == 1 { 0 } else { s1[3] },
            ..Ar::default()
        }
        .into(),
    )
}

fn requant(d: &mut Draft<'_>) -> Option<Body> {
    let eu = d.pick(&[0, 1, 3, 4]);
    let shape = [d.upto(2), d.upto(140), d.upto(6), d.upto(9)];
    let lane = d.lane();
    let (small, wide) = ([Prec::Int8, Prec::Int16], [Prec::Int16, Prec::Int32]);
    let (from, to) = match eu {
        0 | 1 => (d.pick(&wide), d.pick(&small)),
        3 => (d.pick(&small), Prec::Fp32),
        _ => (d.pick(&small), d.pick(&wide)),
    };
    let opd1_const = d.flag();
    let words = if matches!(eu, 0 | 3) { 2 } else { 3 };
    let half = |d: &mut Draft<'_>| d.rng.u32(..1 << 16);
    let scale = |d: &mut Draft<'_>| (d.rng.f32() * 2f32.powi(d.rng.i32(-24..-2))).to_bits();
    let shift = |d: &mut Draft<'_>| 0u32.wrapping_sub(d.rng.u32(..40));
    let (opd1_addr, opd2_addr) = match (opd1_const, eu) {
        (0, _) => (d.place(Prec::Int32, lane, [1, shape[1], 1, words]), 0),
        (_, 0) => (scale(d), (d.rng.f32() * 200.0 - 100.0).to_bits()),
        (_, 1) => (d.rng.u32(..), shift(d) & 0xff | half(d) << 16),
        (_, 3) => (half(d), d.rng.f32().to_bits()),
        _ => (half(d) | shift(d) << 16, d.rng.u32(..)),
    };
    let opd2_n_str = match eu {
        0 => d.rng.u32(..5) << 3,
        3 => 0,
        _ => d.rng.u32(..7),
    };
    Some(
        Requant {
            eu,
            opd0_sign: if from == Prec::Int32 { 1 } else { d.flag() },
            opd2_sign: if to == Prec::Int32 || eu == 3 { 1 } else { d.flag() },
            res0_prec: to.code(),
            opd1_const,
            opd0_prec: from.code(),
            opd2_n_str,
            res0_addr: d.place(to, lane, shape),
            opd0_addr: d.place(from, lane, shape),
            res0_n: shape[0],
            res0_c: shape[1],
            res0_h: shape[2],
            res0_w: shape[3],
            opd1_addr,
            opd2_addr,
        }
        .into(),
    )
}

fn trans(d: &mut Draft<'_>) -> Option<Body> {
    let eu = d.pick(&[0, 1, 2, 3]);
    let prec = d.pick(&Prec::ALL);
    let [n, mut c, h, w] = [d.upto(2), d.upto(90), d.upto(4), d.upto(90)];
    let (mut from, mut to) = (d.lane(), d.lane());
    match eu {
        0 => (from, to) = (0, 0),
        1 => (from, to) = (0, 0),
        3 => c = c.min(LANES - to),
        _ => {}
    }
    let source = match eu {
        0 | 1 => [n, w, h, c],
        2 => [n, c, h, w],
        _ => [n, 1, h, w],
    };
    let lines = w.next_multiple_of(64 / prec.bytes());
    Some(
        Trans {
            eu,
            res0_prec: prec.code(),
            res0_n: n,
            res0_c: c,
            res0_h: h,
            res0_w: w,
            opd0_c: source[1],
            opd0_w: source[3],
            res0_addr: d.place(prec, to, [n, c, h, if eu == 0 { lines } else { w }]),
            opd0_addr: d.place(prec, from, source),
        }
        .into(),
    )
}

fn lookup(d: &mut Draft<'_>) -> Option<Body> {
    let shape = [d.upto(2), d.upto(140), 1, d.upto(60)];
    let lane = d.lane();
    let table = d.pick(&[Prec::Int8, Prec::Int16, Prec::Int32]);
    Some(
        Lookup {
            eu: 5,
            opd0_str: 4,
            res0_n: shape[0],
            res0_c: shape[1],
            res0_h: 1,
            res0_w: shape[3],
            opd0_h: 1,
            opd0_w: 256,
            opd1_c: shape[1],
            opd1_w: shape[3],
            res0_prec: table.code(),
            res0_addr: d.place(table, lane, shape),
            opd0_prec: table.code(),
            opd0_addr: d.place(table, 0, [1, LANES, 1, 256]),
            opd1_prec: Prec::Int8.code(),
            opd1_addr: d.place(Prec::Int8, lane, shape),
            ..Lookup::default()
        }
        .into(),
    )
}

/// An address of the copy engine for a tensor, in local or DDR memory.
fn anywhere(d: &mut Draft<'_>, local: bool, prec: Prec, lane: u32, shape: [u32; 4]) -> u64 {
    match local {
        true => LOCAL_BASE + u64::from(d.place(prec, lane, shape)),
        false => d.ddr_place(shape.iter().product::<u32>() * prec.bytes()),
    }
}

fn dma(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&Prec::ALL);
    let shape = [d.upto(3), d.upto(130), d.upto(5), d.upto(20)];
    let function = d.pick(&[0, 0, 0, 1, 3]);
    let (from_local, to_local) = (d.rng.bool(), d.rng.bool());
    let [n, c, h, w] = shape;
    let to_lane = d.lane();
    let from = if function == 3 { [n, 1, h, w] } else { shape };
    let reshape = function == 0 && d.rng.bool();
    let to = match function {
        1 => [c, n, h, w],
        3 => [n, d.upto(LANES - to_lane), h, w],
        _ if reshape => [n, h * w, c, 1],
        _ => shape,
    };
    if function == 3 && !to_local {
        return None;
    }
    let fill = function == 0 && !reshape && d.rng.u32(..4) == 0;
    let from_lane = d.lane();
    let stride_enable = d.flag();
    // Elements along W that are apart, on one side or both: other functions do as if they were not.
    let apart =
        |d: &mut Draft<'_>| if function == 0 && stride_enable == 1 && d.rng.u32(..4) == 0 { d.upto(3) } else { 1 };
    let (src_step, dst_step) = (apart(d), apart(d));
    // In DDR memory part of a wider tensor.
    let beside = |d: &mut Draft<'_>, local: bool| {
        if !local && function == 0 && stride_enable == 1 && d.rng.bool() { d.upto(5) } else { 0 }
    };
    let (src_gap, dst_gap) = (beside(d, from_local), beside(d, to_local));
    let wide = |[n, c, h, w]: [u32; 4], step: u32, gap: u32| [n, c, h, w * step + gap];
    let (src_shape, dst_shape) = (wide(from, src_step, src_gap), wide(to, dst_step, dst_gap));
    let src = anywhere(d, from_local, prec, from_lane, src_shape);
    let dst = anywhere(d, to_local, prec, to_lane, dst_shape);
    let strides = |local: bool, lane: u32, [_, c, h, w]: [u32; 4]| match local {
        true => {
            let plane = (h * w).next_multiple_of(64 / prec.bytes());
            [(lane + c).div_ceil(LANES) * plane, plane, w, 1]
        }
        false => [c * h * w, h * w, w, 1],
    };
    let mut s = strides(from_local, from_lane, src_shape);
    let mut t = strides(to_local, to_lane, dst_shape);
    (s[3], t[3]) = (src_step, dst_step);
    if stride_enable == 0 {
        (s, t) = ([0; 4], [0; 4]);
    }
    let (src_size, dst_size) = match (fill, reshape || function != 0) {
        (true, _) => ([0; 4], to),
        (_, true) => (from, to),
        _ => (from, [0; 4]),
    };
    let (src, s) = if fill { (0, [0; 4]) } else { (src, s) };
    Some(
        Dma {
            stride_enable,
            nchw_copy: u32::from(!fill && !reshape && function == 0),
            cmd_special_function: function,
            fill_constant_en: u32::from(fill),
            src_data_format: prec.code(),
            constant_value: if fill { d.rng.u32(..) } else { 0 },
            src_nstride: s[0],
            src_cstride: s[1],
            src_hstride: s[2],
            src_wstride: s[3],
            dst_nstride: t[0],
            dst_cstride: t[1],
            dst_hstride: t[2],
            dst_wstride: t[3],
            src_nsize: src_size[0],
            src_csize: src_size[1],
            src_hsize: src_size[2],
            src_wsize: src_size[3],
            dst_nsize: dst_size[0],
            dst_csize: dst_size[1],
            dst_hsize: dst_size[2],
            dst_wsize: dst_size[3],
            src_addr_lo: src as u32,
            src_addr_hi: (src >> 32) as u32,
            dst_addr_lo: dst as u32,
            dst_addr_hi: (dst >> 32) as u32,
            localmem_mask_lo: u32::MAX,
            localmem_mask_hi: u32::MAX,
        }
        .into(),
    )
}

fn dma_transpose(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&Prec::ALL);
    let [n, c, h, w] = [d.upto(2), d.upto(100), d.upto(4), d.upto(100)];
    let to_local = d.rng.bool();
    let (src, dst) = (anywhere(d, !to_local, prec, 0, [n, c, h, w]), anywhere(d, to_local, prec, 0, [n, w, h, c]));
    Some(
        DmaTranspose {
            nchw_copy: 1,
            src_data_format: prec.code(),
            src_nsize: n,
            src_csize: c,
            src_hsize: h,
            src_wsize: w,
            src_addr_lo: src as u32,
            src_addr_hi: (src >> 32) as u32,
            dst_addr_lo: dst as u32,
            dst_addr_hi: (dst >> 32) as u32,
            localmem_mask_lo: u32::MAX,
            localmem_mask_hi: u32::MAX,
            ..DmaTranspose::default()
        }
        .into(),
    )
}

fn dma_gather(d: &mut Draft<'_>) -> Option<Body> {
    let prec = d.pick(&Prec::ALL);
    let (rows, columns, count) = (d.upto(100), d.upto(60), d.upto(40));
    let (from_local, to_local, index_local) = (d.rng.bool(), d.rng.bool(), d.rng.bool());
    let src = anywhere(d, from_local, prec, 0, [1, 1, rows, columns]);
    let dst = anywhere(d, to_local, prec, 0, [1, 1, count, columns]);
    let index = anywhere(d, index_local, Prec::Int32, 0, [1, 1, count, 1]);
    Some(
        DmaGather {
            src_data_format: prec.code(),
            constant_value: d.rng.u32(..),
            src_csize: 1,
            src_hsize: rows,
            src_wsize: columns,
            dst_csize: 1,
            dst_hsize: count,
            dst_wsize: columns,
            index_csize: 1,
            index_hsize: count,
            src_addr_lo: src as u32,
            src_addr_hi: (src >> 32) as u32,
            dst_addr_lo: dst as u32,
            dst_addr_hi: (dst >> 32) as u32,
            index_addr_lo: index as u32,
            index_addr_hi: (index >> 32) as u32,
            localmem_mask_lo: u32::MAX,
            localmem_mask_hi: u32::MAX,
            ..DmaGather::default()
        }
        .into(),
    )
}

/// Values that a form wants in an operand; others are any bytes.
pub fn wanted(rng: &mut Rng, body: &Body, operand: &Operand) -> Option<Vec<u32>> {
    let count = operand.view.elems();
    let float32 = |rng: &mut Rng| float(rng, Prec::Fp32);
    let down = |rng: &mut Rng| 0u32.wrapping_sub(rng.u32(..40));
    match (body, operand.name) {
        (Body::Ar(_), "opd2") => Some((0..count).map(|_| down(rng).wrapping_add(20)).collect()),
        (Body::Requant(rq), "opd1") => Some(match rq.eu {
            0 => (0..count).map(|i| if i % 2 == 0 { (rng.f32() * 0.01).to_bits() } else { float32(rng) }).collect(),
            1 => {
                let word = |i: usize, rng: &mut Rng| match i % 3 {
                    0 => rng.u32(..),
                    1 => down(rng),
                    _ => rng.i32(-32768..32768) as u32,
                };
                (0..count).map(|i| word(i, rng)).collect()
            }
            3 => (0..count).map(|i| if i % 2 == 0 { rng.i32(-200..200) as u32 } else { float32(rng) }).collect(),
            _ => {
                let word = |i: usize, rng: &mut Rng| match i % 3 {
                    0 => rng.i32(-32768..32768) as u32,
                    1 => rng.u32(..),
                    _ => down(rng),
                };
                (0..count).map(|i| word(i, rng)).collect()
            }
        }),
        // Most rows are there.
        (Body::DmaGather(dma), "index") => Some((0..count).map(|_| rng.u32(..dma.src_hsize + 2)).collect()),
        // Roots and divisors: what is negative under a root means nothing.
        (Body::Sfu(Sfu { eu: 17, .. }), _) => Some((0..count).map(|_| float32(rng) & 0x7fff_ffff).collect()),
        // Tables that every lane has a copy of.
        (Body::Sfu(_), "opd1") => {
            let table: Vec<u32> = (0..count / 64).map(|_| float(rng, operand.view.prec)).collect();
            Some(table.repeat(64))
        }
        (Body::Lookup(_), "opd0") | (Body::MatMul(MatMul { eu: 4 | 5, .. }), "opd2") => {
            let table: Vec<u32> = (0..count / 64).map(|_| rng.u32(..)).collect();
            Some(table.repeat(64))
        }
        (Body::Pool(Pool { opd0_prec: 0, .. }), "opd2") => {
            Some((0..count).map(|_| rng.i32(-100_000..100_000) as u32).collect())
        }
        _ if !operand.view.prec.is_int() => Some((0..count).map(|_| float(rng, operand.view.prec)).collect()),
        _ => None,
    }
}

/// Types of floats.
const FLOATS: [Prec; 3] = [Prec::Fp32, Prec::Fp16, Prec::Bf16];
const HALVES: [Prec; 2] = [Prec::Fp16, Prec::Bf16];

/// A finite float of a type, of a size at which sums of many stay finite.
fn float(rng: &mut Rng, prec: Prec) -> u32 {
    let value = (rng.f32() - 0.5) * 2f32.powi(rng.i32(-6..6));
    match prec {
        Prec::Fp16 => f16::from_f32(value).to_bits().into(),
        Prec::Bf16 => bf16::from_f32(value).to_bits().into(),
        _ => value.to_bits(),
    }
}

/// A generator of commands of one form.
pub type Generator = fn(&mut Draft<'_>) -> Option<Body>;

/// The generators by form.
pub const GENERATORS: &[(&str, Generator)] = &[
    ("conv", conv),
    ("float_conv", float_conv),
    ("pool", pool),
    ("float_pool", float_pool),
    ("mm2", matmul),
    ("float_mm2", float_matmul),
    ("cmp", select),
    ("sfu", sfu),
    ("ar", ar),
    ("rq", requant),
    ("trans", trans),
    ("lookup", lookup),
    ("dma", dma),
    ("dma_cw", dma_transpose),
    ("dma_gather", dma_gather),
];
