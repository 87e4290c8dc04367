//! What each command reads and writes, as [`View`]s.

use super::isa::{
    Ar, Body, Conv, Dma, DmaGather, DmaTranspose, Lookup, MatMul, Pool, Prec, Requant, Select, Sfu, Trans,
};
use super::machine::{CONV_CHANNELS, CONV_CHANNELS_HALF, LANE_BYTES, LANES};
use super::view::{Dense, Fault, Space, View, contiguous, local_strides, rule};

/// An operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Its name in the command's fields.
    pub name: &'static str,
    /// Where it lies.
    pub view: View,
    /// Whether the command writes it.
    pub written: bool,
}

/// The operands of a command in the order of its fields, the result first where there is one.
pub type Operands = Vec<Operand>;

/// The operand of that name; commands keep to the rules of their form, so an absent one is an immediate.
pub fn find<'a>(operands: &'a [Operand], name: &str) -> Option<&'a View> {
    operands.iter().find(|operand| operand.name == name).map(|operand| &operand.view)
}

/// The element type of a code.
///
/// # Errors
/// [`Fault::Rule`] for codes without one.
pub fn prec(operand: &'static str, code: u32) -> Result<Prec, Fault> {
    Prec::from_code(code).ok_or(Fault::Rule { operand, rule: "has an element type of code 0 to 5" })
}

fn reads(name: &'static str, view: View) -> Operand {
    Operand { name, view, written: false }
}

fn writes(view: View) -> Operand {
    Operand { name: "res0", view, written: true }
}

/// What a command reads and writes.
///
/// # Errors
/// [`Fault`] where a field breaks a rule of the machine.
pub fn operands(body: &Body) -> Result<Operands, Fault> {
    let operands = match body {
        Body::Conv(conv) => conv_operands(conv)?,
        Body::Pool(pool) => pool_operands(pool)?,
        Body::MatMul(mm) => matmul_operands(mm)?,
        Body::Ar(ar) => ar_operands(ar)?,
        Body::Requant(rq) => requant_operands(rq)?,
        Body::Trans(trans) => trans_operands(trans)?,
        Body::Select(select) => select_operands(select)?,
        Body::Sfu(sfu) => sfu_operands(sfu)?,
        Body::Lookup(lookup) => lookup_operands(lookup)?,
        Body::Dma(dma) => dma_operands(dma)?,
        Body::DmaTranspose(dma) => dma_transpose_operands(dma)?,
        Body::DmaGather(dma) => dma_gather_operands(dma)?,
        Body::TiuEnd(_) | Body::DmaEnd(_) => Vec::new(),
    };
    for operand in &operands {
        rule(operand.view.shape.iter().all(|&d| d > 0), operand.name, "has no empty dimension")?;
    }
    Ok(operands)
}

fn same_lane(operands: &Operands) -> Result<(), Fault> {
    let lane = operands.first().map_or(0, |operand| operand.view.lane);
    operands.iter().try_for_each(|o| rule(o.view.lane == lane, o.name, "starts in the lane of the result"))
}

fn conv_operands(conv: &Conv) -> Result<Operands, Fault> {
    let input_prec = prec("opd0", conv.opd0_prec)?;
    let res_prec = prec("res0", conv.res0_prec)?;
    let half = input_prec.is_half();
    if !(input_prec == Prec::Int8 || half) || conv.eu != 0 {
        return Err(Fault::Unsupported("convolution other than of 8-bit integers without shift, or of 16-bit floats"));
    }
    if half {
        rule(res_prec == input_prec || res_prec == Prec::Fp32, "res0", "is fp32 or of the type of the input")?;
    } else {
        rule(matches!(res_prec, Prec::Int32 | Prec::Int16), "res0", "is int32 or int16")?;
    }
    let res_shape = [conv.res0_n, conv.res0_c, conv.res0_h, conv.res0_w];
    let result = View::dense("res0", conv.res0_addr, res_prec, true, res_shape, Dense::Aligned)?;
    let in_shape = [conv.res0_n, conv.opd0_c, conv.opd0_h, conv.opd0_w];
    let signed = conv.opd0_sign == 1;
    let input = if conv.opd0_str == 3 {
        let strides = [conv.opd0_n_str, conv.opd0_c_str, conv.opd0_h_str, conv.opd0_w_str].map(u64::from);
        View::local("opd0", conv.opd0_addr, input_prec, signed, in_shape, |_| strides)?
    } else {
        rule(conv.opd0_str == 0, "opd0_str", "is 0 or 3")?;
        View::dense("opd0", conv.opd0_addr, input_prec, signed, in_shape, Dense::Aligned)?
    };
    rule(input.lane == 0, "opd0", "starts in lane 0")?;
    let mut operands = vec![writes(result), reads("opd0", input)];
    let lane = operands[0].view.lane;
    if conv.opd1_const == 0 {
        let taps = u64::from(conv.opd1_h) * u64::from(conv.opd1_w);
        let group = if half { CONV_CHANNELS_HALF } else { CONV_CHANNELS };
        let row = u64::from(conv.opd0_c.next_multiple_of(group)).saturating_mul(taps);
        let row = u32::try_from(row).ok().filter(|&row| row <= LANE_BYTES);
        let row = row.ok_or(Fault::Rule { operand: "opd1", rule: "fits into a lane" })?;
        let shape = [1, conv.res0_c, 1, row];
        let weights = View::dense("opd1", conv.opd1_addr, input_prec, conv.opd1_sign == 1, shape, Dense::Compact)?;
        rule(weights.base.is_multiple_of(64), "opd1", "starts on 64 bytes")?;
        rule(weights.lane == lane, "opd1", "starts in the lane of the result")?;
        operands.push(reads("opd1", weights));
    }
    if conv.opd2_const == 0 {
        let shape = [1, conv.res0_c, 1, 1];
        // The zero point of the weights, or the bias.
        let prec = if half { Prec::Fp32 } else { Prec::Int8 };
        let view = View::dense("opd2", conv.opd2_addr, prec, conv.opd2_sign == 1, shape, Dense::Compact)?;
        rule(view.lane == lane, "opd2", "starts in the lane of the result")?;
        operands.push(reads("opd2", view));
    }
    if half {
        rule(conv.opd3_const == 1, "opd3", "is an immediate for floats")?;
    } else if conv.opd3_const == 0 {
        let shape = [1, conv.opd0_c, 1, 2];
        let pads = View::dense("opd3", conv.opd3_addr, Prec::Int8, signed, shape, Dense::Compact)?;
        rule(pads.lane == 0 && pads.base.is_multiple_of(2), "opd3", "starts in lane 0 on a whole pair")?;
        operands.push(reads("opd3", pads));
    }
    Ok(operands)
}

fn pool_operands(pool: &Pool) -> Result<Operands, Fault> {
    let input_prec = prec("opd0", pool.opd0_prec)?;
    let res_prec = prec("res0", pool.res0_prec)?;
    let float = !input_prec.is_int();
    rule(!float || res_prec == input_prec, "res0", "is of the type of the input for floats")?;
    rule(!float || pool.opd3_const == 1, "opd3", "is an immediate for floats")?;
    if !float && input_prec != Prec::Int8 {
        return Err(Fault::Unsupported("windows of 16 or 32-bit integers"));
    }
    if float && (pool.eu == 2 || pool.opd0_x_ins0 + pool.opd0_y_ins0 > 0) {
        return Err(Fault::Unsupported("windows of floats with ReLU or insertion"));
    }
    let signed = pool.opd0_sign == 1;
    let depthwise = matches!(pool.eu, 0 | 2);
    let res_signed = match pool.eu {
        2 => res_prec == Prec::Int32,
        0 => true,
        _ => signed,
    };
    let res_shape = [pool.res0_n, pool.res0_c, pool.res0_h, pool.res0_w];
    let in_shape = [pool.res0_n, pool.res0_c, pool.opd0_h, pool.opd0_w];
    let mut operands = vec![
        writes(View::dense("res0", pool.res0_addr, res_prec, res_signed, res_shape, Dense::Aligned)?),
        reads("opd0", View::dense("opd0", pool.opd0_addr, input_prec, signed, in_shape, Dense::Aligned)?),
    ];
    if depthwise && pool.opd1_const == 0 {
        let shape = [1, pool.res0_c, pool.opd1_h, pool.opd1_w];
        let view = View::dense("opd1", pool.opd1_addr, input_prec, pool.opd1_sign == 1, shape, Dense::Compact)?;
        operands.push(reads("opd1", view));
    }
    if depthwise && pool.opd2_const == 0 {
        let shape = [1, pool.res0_c, 1, 1];
        let prec = if float { input_prec } else { Prec::Int32 };
        let bias = View::dense("opd2", pool.opd2_addr, prec, pool.opd2_sign == 1, shape, Dense::Compact)?;
        operands.push(reads("opd2", bias));
    }
    if pool.opd3_const == 0 {
        let shape = [1, pool.res0_c, 1, 2];
        operands.push(reads("opd3", View::dense("opd3", pool.opd3_addr, input_prec, signed, shape, Dense::Compact)?));
    }
    same_lane(&operands)?;
    Ok(operands)
}

fn matmul_operands(mm: &MatMul) -> Result<Operands, Fault> {
    let (input_prec, res_prec) = (prec("opd0", mm.opd0_prec)?, prec("res0", mm.res0_prec)?);
    let half = input_prec.is_half();
    let fits = if half { res_prec == input_prec || res_prec == Prec::Fp32 } else { res_prec == Prec::Int32 };
    if !fits || !(half || input_prec == Prec::Int8) || mm.opd0_const + mm.opd1_const > 0 {
        return Err(Fault::Unsupported(
            "matrix products other than of stored 8-bit integers to int32, or of 16-bit floats to those or fp32",
        ));
    }
    rule(!half || mm.opd2_const == 1 && mm.opd2_addr == 0, "opd2", "is 0 for floats")?;
    rule(mm.res_add == 0 || matches!(res_prec, Prec::Int32 | Prec::Fp32), "res_add", "adds to int32 or fp32")?;
    let (rows, cols) = (mm.res0_c, mm.res0_w);
    let inner = if mm.eu == 4 { mm.opd1_c } else { mm.opd1_w };
    let (left, right) = match mm.eu {
        4 => ([1, rows, 1, inner], [1, inner, 1, cols]),
        5 => ([1, rows, 1, inner], [1, cols, 1, inner]),
        _ => ([1, inner, 1, cols], [1, rows, 1, inner]),
    };
    rule(right == [1, mm.opd1_c, 1, mm.opd1_w], "opd1", "has the shape that the result asks for")?;
    let left = View::dense("opd0", mm.opd0_addr, input_prec, mm.opd0_sign == 1, left, Dense::Aligned)?;
    let right = View::dense("opd1", mm.opd1_addr, input_prec, mm.opd1_sign == 1, right, Dense::Aligned)?;
    let result = View::dense("res0", mm.res0_addr, res_prec, true, [1, rows, 1, cols], Dense::Aligned)?;
    let mut operands = vec![writes(result), reads("opd0", left), reads("opd1", right)];
    if mm.opd2_const == 0 {
        let (shape, layout) = match mm.eu {
            6 => ([1, rows, 1, 1], Dense::Compact),
            _ => ([1, LANES, 1, cols], Dense::Aligned),
        };
        operands.push(reads("opd2", View::dense("opd2", mm.opd2_addr, Prec::Int8, mm.opd1_sign == 1, shape, layout)?));
    }
    operands.iter().try_for_each(|o| rule(o.view.lane == 0, o.name, "starts in lane 0"))?;
    Ok(operands)
}

fn ar_operands(ar: &Ar) -> Result<Operands, Fault> {
    let shape = [ar.res0_n, ar.res0_c, ar.res0_h, ar.res0_w];
    let view = |name, addr, prec: Prec, signed, code, free: [u32; 4]| match code {
        0 => View::dense(name, addr, prec, signed, shape, Dense::Aligned),
        1 => View::dense(name, addr, prec, signed, shape, Dense::Compact),
        3 => View::local(name, addr, prec, signed, shape, |_| free.map(u64::from)),
        _ => Err(Fault::Rule { operand: name, rule: "has layout 0, 1 or 3" }),
    };
    let (res_prec, a, b) = (prec("res0", ar.res0_prec)?, prec("opd0", ar.opd0_prec)?, prec("opd1", ar.opd1_prec)?);
    let signs = (ar.opd0_sign == 1, ar.opd1_sign == 1);
    let res_signed = match ar.eu {
        14 => ar.opd2_sign == 1,
        3 | 16 => true,
        19 => signs.0,
        _ => signs.0 || signs.1,
    };
    let strides = [ar.res0_n_str, ar.res0_c_str, ar.res0_h_str, ar.res0_w_str];
    let mut operands = vec![writes(view("res0", ar.res0_addr, res_prec, res_signed, ar.res0_str, strides)?)];
    if ar.opd0_const == 0 {
        let strides = [ar.opd0_n_str, ar.opd0_c_str, ar.opd0_h_str, ar.opd0_w_str];
        operands.push(reads("opd0", view("opd0", ar.opd0_addr, a, signs.0, ar.opd0_str, strides)?));
    }
    if ar.tsk_opd_num >= 2 && ar.opd1_const == 0 {
        let strides = [ar.opd1_n_str, ar.opd1_c_str, ar.opd1_h_str, ar.opd1_w_str];
        operands.push(reads("opd1", view("opd1", ar.opd1_addr, b, signs.1, ar.opd1_str, strides)?));
    }
    if ar.tsk_opd_num == 3 && ar.opd2_const == 0 {
        let shifts = View::dense("opd2", ar.opd2_addr, Prec::Int8, true, [1, ar.res0_c, 1, 1], Dense::Compact)?;
        operands.push(reads("opd2", shifts));
    }
    same_lane(&operands)?;
    Ok(operands)
}

fn requant_operands(rq: &Requant) -> Result<Operands, Fault> {
    let shape = [rq.res0_n, rq.res0_c, rq.res0_h, rq.res0_w];
    let (from, to) = (prec("opd0", rq.opd0_prec)?, prec("res0", rq.res0_prec)?);
    let (small, wide) = ([Prec::Int8, Prec::Int16], [Prec::Int16, Prec::Int32]);
    let fits = match rq.eu {
        0 | 1 => wide.contains(&from) && small.contains(&to),
        3 => small.contains(&from) && to == Prec::Fp32,
        _ => small.contains(&from) && wide.contains(&to),
    };
    rule(fits, "opd0_prec", "is one that the operation takes to the type of the result")?;
    rule(from != Prec::Int32 || rq.opd0_sign == 1, "opd0_sign", "is 1 for int32")?;
    let res_signed = rq.opd2_sign == 1 || to == Prec::Int32;
    let mut operands = vec![
        writes(View::dense("res0", rq.res0_addr, to, res_signed, shape, Dense::Aligned)?),
        reads("opd0", View::dense("opd0", rq.opd0_addr, from, rq.opd0_sign == 1, shape, Dense::Aligned)?),
    ];
    if rq.opd1_const == 0 {
        let words = if matches!(rq.eu, 0 | 3) { 2 } else { 3 };
        let table = [1, rq.res0_c, 1, words];
        operands.push(reads("opd1", View::dense("opd1", rq.opd1_addr, Prec::Int32, true, table, Dense::Aligned)?));
    }
    same_lane(&operands)?;
    Ok(operands)
}

fn trans_operands(trans: &Trans) -> Result<Operands, Fault> {
    let prec = prec("res0", trans.res0_prec)?;
    let [n, c, h, w] = [trans.res0_n, trans.res0_c, trans.res0_h, trans.res0_w];
    let source = match trans.eu {
        0 | 1 => [n, w, h, c],
        2 => [n, c, h, w],
        _ => [n, 1, h, w],
    };
    rule((trans.opd0_c, trans.opd0_w) == (source[1], source[3]), "opd0", "has the shape that the result asks for")?;
    let opd0 = View::dense("opd0", trans.opd0_addr, prec, true, source, Dense::Aligned)?;
    let shape = [n, c, h, w];
    let result = if trans.eu == 0 {
        let lines = |lane: u32| {
            let line = u64::from(w).next_multiple_of(u64::from(64 / prec.bytes()));
            let plane = u64::from(h) * line;
            [u64::from((lane + c).div_ceil(LANES)) * plane, plane, line, 1]
        };
        View::local("res0", trans.res0_addr, prec, true, shape, lines)?
    } else {
        View::dense("res0", trans.res0_addr, prec, true, shape, Dense::Aligned)?
    };
    rule(trans.eu != 0 || opd0.lane == 0, "opd0", "starts in lane 0")?;
    rule(trans.eu != 1 || result.lane == 0, "res0", "starts in lane 0")?;
    rule(trans.eu != 3 || result.lane + c <= LANES, "res0", "ends in the last lane")?;
    let operands = vec![writes(result), reads("opd0", opd0)];
    rule(!operands[0].view.overlaps(&operands[1].view), "res0", "does not overlap the source")?;
    Ok(operands)
}

fn sfu_operands(sfu: &Sfu) -> Result<Operands, Fault> {
    let shape = [sfu.res0_n, sfu.res0_c, sfu.res0_h, sfu.res0_w];
    let prec = prec("res0", sfu.res0_prec)?;
    rule(sfu.opd0_prec == sfu.res0_prec, "opd0_prec", "is that of the result")?;
    rule(!prec.is_int() && (sfu.eu == 12 || prec == Prec::Fp32), "res0", "is of floats, fp32 for roots")?;
    let view = |name, address| View::dense(name, address, prec, true, shape, Dense::Aligned);
    let mut operands = vec![writes(view("res0", sfu.res0_addr)?), reads("opd0", view("opd0", sfu.opd0_addr)?)];
    same_lane(&operands)?;
    if sfu.eu == 12 {
        rule(sfu.opd1_n >= 2, "opd1_n", "is at least 2")?;
        let table = [1, LANES, 1, sfu.opd1_n];
        let table = View::dense("opd1", sfu.opd1_addr, prec, true, table, Dense::Aligned)?;
        rule(table.lane == 0, "opd1", "starts in lane 0")?;
        operands.push(reads("opd1", table));
    }
    Ok(operands)
}

fn select_operands(select: &Select) -> Result<Operands, Fault> {
    let shape = [select.res0_n, select.res0_c, select.res0_h, select.res0_w];
    let (compared, chosen) = (prec("opd0", select.opd0_prec)?, prec("opd2", select.opd2_prec)?);
    rule(!compared.is_int() && compared == chosen, "opd0_prec", "is that of the result, of floats")?;
    rule((select.opd0_str, select.opd1_str) == (0, 0), "opd0_str", "is 0")?;
    let view = |name, address| View::dense(name, address, chosen, true, shape, Dense::Aligned);
    let mut operands = vec![writes(view("res0", select.res0_addr)?)];
    for (name, constant, address) in [
        ("opd0", select.opd0_const, select.opd0_addr),
        ("opd1", select.opd1_const, select.opd1_addr),
        ("opd2", select.opd2_const, select.opd2_addr),
        ("opd3", select.opd3_const, select.opd3_addr),
    ] {
        if constant == 0 {
            operands.push(reads(name, view(name, address)?));
        }
    }
    same_lane(&operands)?;
    Ok(operands)
}

fn lookup_operands(lookup: &Lookup) -> Result<Operands, Fault> {
    let (prec_table, prec_index) = (prec("opd0", lookup.opd0_prec)?, prec("opd1", lookup.opd1_prec)?);
    let shape = [lookup.res0_n, lookup.res0_c, 1, lookup.res0_w];
    rule(lookup.opd0_str == 4 && lookup.res0_h == 1 && lookup.opd0_h == 1, "opd0", "is one table of height 1")?;
    rule((lookup.opd1_c, lookup.opd1_w) == (shape[1], shape[3]), "opd1", "has the shape of the result")?;
    rule(lookup.res0_prec == lookup.opd0_prec, "res0", "has the type of the table")?;
    rule(matches!(prec_index, Prec::Int8 | Prec::Int16), "opd1", "is uint8 or uint16")?;
    let result = View::dense("res0", lookup.res0_addr, prec_table, true, shape, Dense::Aligned)?;
    let index = View::dense("opd1", lookup.opd1_addr, prec_index, false, shape, Dense::Aligned)?;
    let table = [1, LANES, 1, lookup.opd0_w];
    let table = View::dense("opd0", lookup.opd0_addr, prec_table, true, table, Dense::Aligned)?;
    rule(result.lane == index.lane, "opd1", "starts in the lane of the result")?;
    rule(table.lane == 0, "opd0", "starts in lane 0")?;
    Ok(vec![writes(result), reads("opd0", table), reads("opd1", index)])
}

/// One side of a copy.
fn side(
    name: &'static str,
    address: u64,
    prec: Prec,
    shape: [u32; 4],
    strides: Option<[u32; 4]>,
) -> Result<View, Fault> {
    let (space, lane, base) = View::locate(name, address)?;
    let strides = match strides {
        Some(strides) => {
            rule((1..=128 / prec.bytes()).contains(&strides[3]), name, "has a W stride of 1 to 128 bytes")?;
            strides.map(u64::from)
        }
        None if space == Space::Local => local_strides(Dense::Aligned, prec, lane, shape),
        None => contiguous(shape),
    };
    Ok(View { space, base, lane, prec, signed: true, shape, strides })
}

fn dma_operands(dma: &Dma) -> Result<Operands, Fault> {
    let prec = prec("src", dma.src_data_format)?;
    rule(dma.localmem_mask_lo == u32::MAX && dma.localmem_mask_hi == u32::MAX, "localmem_mask", "is all ones")?;
    let src_shape = [dma.src_nsize, dma.src_csize, dma.src_hsize, dma.src_wsize];
    let dst_sizes = [dma.dst_nsize, dma.dst_csize, dma.dst_hsize, dma.dst_wsize];
    let free = |strides| (dma.stride_enable == 1).then_some(strides);
    let dst_strides = free([dma.dst_nstride, dma.dst_cstride, dma.dst_hstride, dma.dst_wstride]);
    let dst_addr = u64::from(dma.dst_addr_hi) << 32 | u64::from(dma.dst_addr_lo);
    let destination = |shape| side("dst", dst_addr, prec, shape, dst_strides);
    if dma.fill_constant_en == 1 {
        return Ok(vec![writes(destination(dst_sizes)?)]);
    }
    let src_addr = u64::from(dma.src_addr_hi) << 32 | u64::from(dma.src_addr_lo);
    let src_strides = free([dma.src_nstride, dma.src_cstride, dma.src_hstride, dma.src_wstride]);
    // The vendor's simulator does not look at the others.
    let dense = dma.stride_enable == 0 || (dma.src_wstride, dma.dst_wstride) == (1, 1);
    rule(dense || dma.cmd_special_function == 0, "wstride", "is 1 for other functions than 0")?;
    let source = side("src", src_addr, prec, src_shape, src_strides)?;
    let [n, c, h, w] = src_shape;
    let shape = match (dma.cmd_special_function, dma.nchw_copy) {
        (0, 1) => src_shape,
        (0, _) => dst_sizes,
        (1, _) => [c, n, h, w],
        (3, _) => {
            rule(c == 1, "src_csize", "is 1")?;
            [n, dma.dst_csize, h, w]
        }
        _ => return Err(Fault::Unsupported("copies of other functions than 0, 1 and 3")),
    };
    let result = destination(shape)?;
    let broadcast = dma.cmd_special_function == 3;
    rule(broadcast || result.elems() == source.elems(), "dst", "has as many elements as the source")?;
    rule(!broadcast || result.lane + shape[1] <= LANES, "dst", "ends in the last lane")?;
    Ok(vec![writes(result), reads("src", source)])
}

fn dma_transpose_operands(dma: &DmaTranspose) -> Result<Operands, Fault> {
    let prec = prec("src", dma.src_data_format)?;
    let plain = dma.stride_enable == 0 && dma.nchw_copy == 1 && dma.fill_constant_en == 0;
    if !plain || dma.cmd_special_function != 0 {
        return Err(Fault::Unsupported("transposing copies with strides"));
    }
    let [n, c, h, w] = [dma.src_nsize, dma.src_csize, dma.src_hsize, dma.src_wsize];
    let src_addr = u64::from(dma.src_addr_hi) << 32 | u64::from(dma.src_addr_lo);
    let dst_addr = u64::from(dma.dst_addr_hi) << 32 | u64::from(dma.dst_addr_lo);
    let source = side("src", src_addr, prec, [n, c, h, w], None)?;
    Ok(vec![writes(side("dst", dst_addr, prec, [n, w, h, c], None)?), reads("src", source)])
}

fn dma_gather_operands(dma: &DmaGather) -> Result<Operands, Fault> {
    let prec = prec("src", dma.src_data_format)?;
    rule(dma.localmem_mask_lo == u32::MAX && dma.localmem_mask_hi == u32::MAX, "localmem_mask", "is all ones")?;
    let plain = dma.stride_enable == 0 && dma.nchw_copy == 0 && dma.fill_constant_en == 0;
    let one = (dma.src_csize, dma.dst_csize, dma.index_csize) == (1, 1, 1);
    if !plain || dma.cmd_special_function != 0 || !one {
        return Err(Fault::Unsupported("gathering copies with strides, or of several channels"));
    }
    rule(dma.dst_hsize == dma.index_hsize, "dst_hsize", "is the number of indices")?;
    rule(dma.dst_wsize == dma.src_wsize, "dst_wsize", "is that of the source")?;
    let address = |lo: u32, hi: u32| u64::from(hi) << 32 | u64::from(lo);
    let view = |name, address, prec, rows, columns| side(name, address, prec, [1, 1, rows, columns], None);
    let source = view("src", address(dma.src_addr_lo, dma.src_addr_hi), prec, dma.src_hsize, dma.src_wsize)?;
    let result = view("dst", address(dma.dst_addr_lo, dma.dst_addr_hi), prec, dma.dst_hsize, dma.dst_wsize)?;
    let index = view("index", address(dma.index_addr_lo, dma.index_addr_hi), Prec::Int32, dma.index_hsize, 1)?;
    Ok(vec![writes(result), reads("src", source), reads("index", View { signed: false, ..index })])
}
