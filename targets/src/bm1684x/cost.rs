//! Cycles of commands at 1 GHz, by formulas that were fitted to the vendor's estimator.
//!
//! `targets/tests/bm1684x_nets.rs` holds them against it: equal for every command of the compute unit that random networks
//! take, close for copies (docs/targets/bm1684x.md).

use super::isa::{Ar, Body, Command, Engine, Prec};
use super::machine::{BANK_BYTES, CONV_CHANNELS, CONV_CHANNELS_HALF, LANES, UNIT_BYTES};
use super::operands::operands;
use super::view::{Space, View};

/// Thousandths of bytes that a copy moves per cycle, by direction.
const DDR_TO_LOCAL: u64 = 54_017;
const LOCAL_TO_DDR: u64 = 40_977;
const OTHERWISE: u64 = 26_077;
const TRANSPOSED: u64 = 64_000;
const TO_ALL_LANES: u64 = 58_000;
/// Bytes in a row that a copy wants; a shorter run takes as long.
const BURST: u64 = 256;
/// Bytes that a copy from or to DDR memory wants to have of these pages; fewer leave parts of the memory idle.
const PAGE: u64 = 4096;
const PAGES: u64 = 4;
/// Layout code of free strides.
const FREE: u32 = 3;

/// Vector operations that an inverse square root takes.
const ROOT_STEPS: u64 = 30;

/// Input channels that a product of elements of a type sums per cycle.
fn conv_channels(prec: u32) -> u32 {
    if prec == Prec::Int8.code() { CONV_CHANNELS } else { CONV_CHANNELS_HALF }
}

/// Rows of channels times batch.
fn rows([n, c, _, _]: [u32; 4]) -> u64 {
    u64::from(n) * u64::from(c.div_ceil(LANES))
}

/// Cycles for a vector operation of so many elements per cycle and lane.
fn vector(shape: [u32; 4], per_cycle: u64) -> u64 {
    rows(shape) * (u64::from(shape[2]) * u64::from(shape[3])).div_ceil(per_cycle)
}

/// Elements of a type that the vector unit takes per cycle and lane.
fn lanes_of(precs: &[Prec]) -> u64 {
    let widest = precs.iter().map(|p| p.bytes()).max().unwrap_or(1);
    u64::from(UNIT_BYTES / widest)
}

/// Cycles of a command.
pub fn cycles(body: &Body) -> u64 {
    let Ok(operands) = operands(body) else { return 0 };
    let Some(result) = operands.first().map(|operand| &operand.view) else { return 0 };
    let precs: Vec<Prec> = operands.iter().map(|operand| operand.view.prec).collect();
    let plane = u64::from(result.shape[2]) * u64::from(result.shape[3]);
    match body {
        Body::Conv(conv) => {
            let channels = u64::from(conv.opd0_c.div_ceil(conv_channels(conv.opd0_prec)));
            let taps = u64::from(conv.opd1_h) * u64::from(conv.opd1_w) * channels;
            rows(result.shape) * plane.div_ceil(4) * taps
        }
        Body::Pool(pool) => {
            let taps = u64::from(pool.opd1_h) * u64::from(pool.opd1_w);
            let slow = if pool.res_op_x_str > 1 && pool.res_op_y_str > 1 { 3 } else { 1 };
            let per_cycle = lanes_of(&precs[..precs.len().min(2)]);
            let [_, _, h, w] = result.shape.map(u64::from);
            // A kernel of one row goes through the result row by row.
            let plane = if pool.opd1_h == 1 { h * w.div_ceil(per_cycle) } else { plane.div_ceil(per_cycle) };
            rows(result.shape) * plane * taps * slow
        }
        Body::MatMul(mm) => {
            let inner = if mm.eu == 4 { mm.opd1_c } else { mm.opd1_w };
            u64::from(mm.res0_c.div_ceil(LANES))
                * u64::from(mm.res0_w.div_ceil(4))
                * u64::from(inner.div_ceil(conv_channels(mm.opd0_prec)))
        }
        Body::Requant(rq) => {
            let same = rq.res0_addr / BANK_BYTES == rq.opd0_addr / BANK_BYTES;
            vector(result.shape, 16) * if same { 2 } else { 1 }
        }
        Body::Lookup(lookup) => {
            let [a, b, c] = [lookup.res0_addr, lookup.opd0_addr, lookup.opd1_addr].map(|at| at / BANK_BYTES);
            let cycles = rows(result.shape) * u64::from(lookup.res0_w);
            if a == b || b == c || a == c { cycles * 3 / 2 } else { cycles }
        }
        Body::Select(_) => 2 * vector(result.shape, lanes_of(&precs)),
        Body::Sfu(sfu) => {
            let steps = if sfu.eu == 12 { u64::from(sfu.opd1_n) } else { ROOT_STEPS };
            vector(result.shape, lanes_of(&precs)) * steps
        }
        Body::Ar(ar) if ar.eu == 12 => vector(result.shape, lanes_of(&precs)) * u64::from(8 * (ar.opd2_n_str + 1) + 7),
        Body::Ar(ar) => {
            let h = u64::from(result.shape[2]);
            // Gaps between rows of the result are gone through as well.
            let gaps = if ar.res0_str == FREE { h * u64::from(ar.res0_h_str) } else { 0 };
            rows(result.shape) * plane.max(gaps).div_ceil(lanes_of(&precs)) * strided(ar) * in_place(ar)
        }
        Body::Trans(trans) => {
            let bytes = u64::from(result.prec.bytes());
            let [n, c, h, w] = result.shape.map(u64::from);
            match trans.eu {
                0 => n * h * (c * bytes).div_ceil(UNIT_BYTES.into()),
                1 => n * h * (w * bytes).div_ceil(UNIT_BYTES.into()),
                3 if trans.res0_addr / BANK_BYTES == trans.opd0_addr / BANK_BYTES => {
                    2 * vector(result.shape, lanes_of(&precs))
                }
                2 => n * c * plane.div_ceil(lanes_of(&precs)),
                _ => {
                    let same = trans.res0_addr / BANK_BYTES == trans.opd0_addr / BANK_BYTES;
                    vector(result.shape, lanes_of(&precs)) * if same { 2 } else { 1 }
                }
            }
        }
        Body::Dma(dma) if dma.cmd_special_function == 3 => {
            let source = operands.get(1).map_or(0, |source| source.view.elems() as u64);
            source * u64::from(result.prec.bytes()) * 1000 / TO_ALL_LANES
        }
        Body::Dma(_) | Body::DmaGather(_) => copy_cycles(result, operands.get(1).map(|source| &source.view)),
        Body::DmaTranspose(_) => result.elems() as u64 * u64::from(result.prec.bytes()) * 1000 / TRANSPOSED,
        Body::TiuEnd(_) | Body::DmaEnd(_) => 0,
    }
}

/// Sources with free strides are read one after the other, and elements that do not lie side by side one by one.
fn strided(ar: &Ar) -> u64 {
    let turns = |layout: u32, stride: u32| if layout == FREE { stride.max(1) } else { 0 };
    let second = if ar.tsk_opd_num > 1 && ar.opd1_const == 0 { turns(ar.opd1_str, ar.opd1_w_str) } else { 0 };
    let sources = turns(ar.opd0_str, ar.opd0_w_str) + second;
    sources.max(turns(ar.res0_str, ar.res0_w_str)).max(1).into()
}

/// An operation whose result takes the place of an operand takes two turns.
fn in_place(ar: &Ar) -> u64 {
    let first = ar.opd0_const == 0 && ar.opd0_addr == ar.res0_addr;
    let second = ar.tsk_opd_num > 1 && ar.opd1_const == 0 && ar.opd1_addr == ar.res0_addr;
    if first || second { 2 } else { 1 }
}

/// Bytes that lie in a row of H and W.
fn run(view: &View) -> u64 {
    let [_, _, h, w] = view.shape.map(u64::from);
    let elems = match view.strides {
        [_, _, rows, 1] if rows == w || h == 1 => h * w,
        [_, _, _, 1] => w,
        _ => 1,
    };
    elems * u64::from(view.prec.bytes())
}

/// Pages of DDR memory from the first run of a tensor to the last, as far as more of them are of use.
fn pages(view: &View) -> u64 {
    let bytes = u64::from(view.prec.bytes());
    let [n, c, h, _] = view.shape.map(|extent| u64::from(extent.max(1)) - 1);
    let [ns, cs, hs, _] = view.strides.map(|stride| stride * bytes);
    let inside = if run(view) >= hs { 0 } else { h * hs };
    let touched = (n * ns + c * cs + inside) / PAGE + run(view).div_ceil(PAGE);
    // With gaps between channels some of the parts may stay idle: page `i` lies in part `i % PAGES`.
    let long = (run(view) / PAGE).max(1);
    let part = |part: &u64| (0..PAGES).any(|i| (0..long.min(PAGES)).any(|at| (i * (cs / PAGE) + at) % PAGES == *part));
    let parts = if c > 0 && cs > run(view) && cs >= PAGE { (0..PAGES).filter(part).count() as u64 } else { PAGES };
    touched.clamp(1, parts.max(1))
}

fn copy_cycles(result: &View, source: Option<&View>) -> u64 {
    let local = |view: &View| view.space == Space::Local;
    let (rate, touched) = match source {
        Some(source) if local(result) && !local(source) => (DDR_TO_LOCAL, pages(source)),
        Some(source) if local(source) && !local(result) => (LOCAL_TO_DDR, pages(result)),
        _ => (OTHERWISE, PAGES),
    };
    let shortest = source.map_or(run(result), |source| run(source).min(run(result))).clamp(1, BURST);
    let bytes = result.elems() as u64 * u64::from(result.prec.bytes());
    bytes * BURST * PAGES * 1000 / (shortest * touched * rate)
}

/// When a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First cycle.
    pub start: u64,
    /// The cycle behind the last one.
    pub end: u64,
}

/// When every command of both streams runs: once its engine is free and what it waits for has ended.
pub fn timeline(tiu: &[Command], gdma: &[Command]) -> [Vec<Span>; 2] {
    let streams = [tiu, gdma];
    let mut spans = [Vec::new(), Vec::new()];
    loop {
        let next = |spans: &[Vec<Span>; 2], engine: usize| -> Option<Span> {
            let command = streams[engine].get(spans[engine].len())?;
            let waits = match command.dep as usize {
                0 => 0,
                dep => spans[1 - engine].get(dep - 1)?.end,
            };
            let start = spans[engine].last().map_or(0, |span| span.end).max(waits);
            Some(Span { start, end: start + cycles(&command.body) })
        };
        let Some((engine, span)) = [0, 1].into_iter().find_map(|engine| Some((engine, next(&spans, engine)?))) else {
            return spans;
        };
        spans[engine].push(span);
    }
}

/// Cycles of both streams together.
pub fn total(tiu: &[Command], gdma: &[Command]) -> u64 {
    timeline(tiu, gdma).iter().flatten().map(|span| span.end).max().unwrap_or(0)
}

/// Cycles that an engine works.
pub fn busy(engine: Engine, commands: &[Command]) -> u64 {
    commands.iter().filter(|command| command.engine() == engine).map(|command| cycles(&command.body)).sum()
}
