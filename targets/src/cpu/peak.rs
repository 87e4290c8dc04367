//! What a machine can do at best: loops of nothing but multiply-adds, dot products or loads, made by the same emitter as
//! the kernels and run here.

use std::time::Instant;

use adze_ir::types::DType;
use serde::Serialize;

use super::exec::{Buffer, ExecError, Loaded};
use super::kernel::{Access, Elem, Kernel, KernelBuilder, Type, Value};
use super::machine::{CodegenError, Machine};
use super::object::ObjectBuilder;

/// Loads in flight of the loop that reads memory.
const STREAMS: i64 = 8;
/// Trips of a loop of operations: short, so that some run is not interrupted.
const TRIPS: i64 = 10_000;
/// Times that a measurement is taken; the best counts.
const REPEATS: usize = 100;
/// Bytes read in one measurement.
const PART_BYTES: i64 = 1 << 20;
/// Name of the level that is no cache.
pub const MEMORY: &str = "DRAM";

/// A level of memory: its name, how much it holds, and how fast it is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Level {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub name: String,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes a second that one core reads of it.
    pub bytes_per_second: f64,
}

/// The most that one core does with the vectors the machine's code uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// `f32` operations a second, a multiply-add counting twice.
    pub flops: f64,
    /// Integer operations a second of dot products of bytes, eight for every 32-bit lane.
    pub int_ops: f64,
    /// Levels of memory, nearest first.
    pub levels: Vec<Level>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum PeakError {
    /// No code for the loops.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// The code does not run here.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// Measures a machine that this program runs on. `caches`: name and bytes of each level, nearest first; memory comes last.
///
/// # Errors
/// [`PeakError`] when there is no code for the machine or it does not run here.
pub fn measure(machine: &Machine, caches: &[(String, u64)]) -> Result<Peaks, PeakError> {
    let lanes = u16::try_from((machine.vector_bytes / 4).max(1)).unwrap_or(1);
    let chains = if machine.vector_registers > 16 { 24 } else { 12 };
    let kernels = [multiply_adds(lanes, chains), dot_products(lanes, chains), reads(lanes)];
    let mut object = ObjectBuilder::new(machine)?;
    for kernel in &kernels {
        object.add_kernel(kernel)?;
    }
    let loaded = Loaded::new(&object.finish()?)?;
    let mut registers = [Buffer::new(1 << 14)];
    let per_trip = |ops: u64| (ops * u64::from(lanes) * u64::from(chains) * TRIPS as u64) as f64;
    let mut best = |name: &str| best_seconds(REPEATS, |_| loaded.call_kernel(name, &mut registers, &[], 0, TRIPS));
    let flops = per_trip(2) / best(&kernels[0].name)?;
    let int_ops = per_trip(8) / best(&kernels[1].name)?;
    let step = STREAMS * i64::from(lanes);
    let levels: Result<Vec<Level>, ExecError> = caches
        .iter()
        .map(|(name, bytes)| {
            // Half of a cache stays in it; memory is more than the last one.
            let used = if name == MEMORY { *bytes } else { bytes / 2 };
            let bytes_per_second = read_speed(&loaded, &kernels[2].name, used, step)?;
            Ok(Level { name: name.clone(), bytes: *bytes, bytes_per_second })
        })
        .collect();
    Ok(Peaks { flops, int_ops, levels: levels? })
}

/// Bytes a second of reading that much memory again and again, a part at a time: parts are short, so that some are not
/// interrupted.
fn read_speed(loaded: &Loaded, name: &str, bytes: u64, step: i64) -> Result<f64, ExecError> {
    let elems = i64::try_from(bytes).unwrap_or(i64::MAX) / 4 / step * step;
    let part = elems.min(PART_BYTES / 4 / step * step);
    let (parts, times) = (elems / part, (PART_BYTES / 4 / part).max(1));
    let mut memory = Buffer::new(usize::try_from(elems * 4).unwrap_or(0));
    // Untouched pages are all the same one.
    memory.as_mut().fill(0);
    let mut buffers = [memory, Buffer::new(1 << 14)];
    let seconds = best_seconds(REPEATS.max(2 * usize::try_from(parts).unwrap_or(0)), |turn| {
        let lo = turn as i64 % parts * part;
        loaded.call_kernel(name, &mut buffers, &[times], lo, lo + part)
    })?;
    Ok((times * part * 4) as f64 / seconds)
}

/// The shortest of so many runs: what else runs on the machine only adds.
fn best_seconds(repeats: usize, mut f: impl FnMut(usize) -> Result<i64, ExecError>) -> Result<f64, ExecError> {
    let mut best = f64::INFINITY;
    for turn in 0..repeats {
        let start = Instant::now();
        f(turn)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Independent chains of multiply-adds.
fn multiply_adds(lanes: u16, chains: u16) -> Kernel {
    let mut b = KernelBuilder::new("adze_peak_f32");
    let memory = b.param("c", DType::F32, Access::InOut);
    let (lo, hi) = b.range();
    let x = b.load(memory, 0, lanes);
    let starts: Vec<Value> = (0..chains).map(|i| b.f32(f32::from(i), lanes)).collect();
    let sums = b.for_(lo, hi, 1, &starts, |b, _, sums| sums.iter().map(|&sum| b.muladd(x, x, sum)).collect());
    for (i, sum) in sums.into_iter().enumerate() {
        b.store(memory, (i as i64 + 1) * i64::from(lanes), sum);
    }
    b.finish()
}

/// Independent chains of dot products of bytes.
fn dot_products(lanes: u16, chains: u16) -> Kernel {
    let mut b = KernelBuilder::new("adze_peak_int8");
    let memory = b.param("c", DType::I32, Access::InOut);
    let (lo, hi) = b.range();
    let bytes = Type::vec(Elem::I8, 4 * lanes);
    let (x, y) = (b.load(memory, 0, lanes), b.load(memory, i64::from(lanes), lanes));
    let (x, y) = (b.bitcast(x, bytes), b.bitcast(y, bytes));
    let starts: Vec<Value> = (0..chains).map(|i| b.i32(i.into(), lanes)).collect();
    let sums = b.for_(lo, hi, 1, &starts, |b, _, sums| sums.iter().map(|&sum| b.dot4(false, sum, x, y)).collect());
    for (i, sum) in sums.into_iter().enumerate() {
        b.store(memory, (i as i64 + 2) * i64::from(lanes), sum);
    }
    b.finish()
}

/// Sums up memory, as often as its dimension says.
fn reads(lanes: u16) -> Kernel {
    let mut b = KernelBuilder::new("adze_peak_read");
    let memory = b.param("x", DType::F32, Access::In);
    let out = b.param("y", DType::F32, Access::Out);
    let times = b.dim("times", 0);
    let (lo, hi) = b.range();
    let starts: Vec<Value> = (0..STREAMS).map(|_| b.f32(0.0, lanes)).collect();
    let step = STREAMS * i64::from(lanes);
    let sums = b.for_(0, times, 1, &starts, |b, _, sums| {
        b.for_(lo, hi, step, sums, |b, i, sums| {
            let next = sums.iter().enumerate().map(|(stream, &sum)| {
                let x = b.load(memory, i.clone() + (stream as i64 * i64::from(lanes)).into(), lanes);
                b.add(sum, x)
            });
            next.collect()
        })
    });
    for (i, sum) in sums.into_iter().enumerate() {
        b.store(out, i as i64 * i64::from(lanes), sum);
    }
    b.finish()
}
