//! Cycles of commands, by the formulas that were fitted to the vendor's estimator (docs/targets/bm1684x.md), at 1 GHz.

use super::isa::{Body, Command, Engine, Prec};
use super::machine::{LANES, UNIT_BYTES};
use super::operands::operands;
use super::view::{Space, View};

/// Tenths of bytes that a copy moves per cycle, by direction.
const DDR_TO_LOCAL: u64 = 540;
const LOCAL_TO_DDR: u64 = 410;
const OTHERWISE: u64 = 261;
/// What a run of less than 64 bytes costs a copy, in bytes.
const SHORT_RUN: u64 = 1024;

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
            let taps = u64::from(conv.opd1_h) * u64::from(conv.opd1_w) * u64::from(conv.opd0_c.div_ceil(64));
            rows(result.shape) * plane.div_ceil(4) * taps
        }
        Body::Pool(pool) => {
            let taps = u64::from(pool.opd1_h) * u64::from(pool.opd1_w);
            let slow = if pool.res_op_x_str > 1 && pool.res_op_y_str > 1 { 3 } else { 1 };
            vector(result.shape, lanes_of(&precs[..precs.len().min(2)])) * taps * slow
        }
        Body::MatMul(mm) => {
            let inner = if mm.eu == 4 { mm.opd1_c } else { mm.opd1_w };
            u64::from(mm.res0_c.div_ceil(LANES)) * u64::from(mm.res0_w.div_ceil(4)) * u64::from(inner.div_ceil(64))
        }
        Body::Requant(_) => vector(result.shape, 16),
        Body::Lookup(lookup) => rows(result.shape) * u64::from(lookup.res0_w),
        Body::Ar(_) | Body::Trans(_) => vector(result.shape, lanes_of(&precs)),
        Body::Dma(_) | Body::DmaTranspose(_) => copy_cycles(result, operands.get(1).map(|source| &source.view)),
        Body::TiuEnd(_) | Body::DmaEnd(_) => 0,
    }
}

fn copy_cycles(result: &View, source: Option<&View>) -> u64 {
    let space = |view: &View| view.space == Space::Local;
    let rate = match (source.map(space), space(result)) {
        (Some(false), true) => DDR_TO_LOCAL,
        (Some(true), false) => LOCAL_TO_DDR,
        _ => OTHERWISE,
    };
    let run = |view: &View| u64::from(view.shape[2]) * u64::from(view.shape[3]) * u64::from(view.prec.bytes());
    let shortest = source.map_or(run(result), |source| run(source).min(run(result)));
    let runs = u64::from(result.shape[0]) * u64::from(result.shape[1]);
    let bytes = if shortest < UNIT_BYTES.into() { runs * SHORT_RUN } else { run(result) * runs };
    (bytes * 10).div_ceil(rate)
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
