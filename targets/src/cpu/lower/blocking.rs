//! Schedules of sums of products and of sliding windows: how large register blocks are and which loop comes first.
//!
//! What makes sense is listed here, once: proposals weigh every entry by the kernel that it gives, and lowering follows the
//! one that the leaf states. A leaf that states none takes the first entry.

use std::collections::BTreeMap;

use adze_ir::extent::Extent;
use adze_ir::propose::Schedule;

use super::leaf::{lanes_of, unsupported};
use super::operand::{LeafCx, Unsupported};
use super::product::Right;
use crate::cpu::kernel::Elem;
use crate::cpu::machine::Arch;

/// Bytes of the left operand that stay in the cache while panels pass by.
const CHUNK_BYTES: i64 = 64 << 10;
/// A left operand up to this size is walked once per panel, so that the weights are read once.
const PANELS_FIRST_BYTES: i64 = 700 << 10;
/// Blocks that are offered, each with both orders of loops where that matters.
const MAX_BLOCKS: usize = 4;

/// Larger extents cost alike.
const MOST: i64 = 1 << 20;
/// Most rows of a block.
const MAX_ROWS: usize = 28;
/// Largest parameter of a schedule: beyond, no machine has the registers.
const MAX_PARAM: i64 = 28;

/// Steps of the left operand that a machine reads together where they are neighbours: those of a vector, where it
/// multiplies by one lane of a register, otherwise one, which it repeats as it reads.
pub(super) fn at_once(cx: &LeafCx<'_>) -> u16 {
    if cx.machine.arch == Arch::Aarch64 { lanes_of(cx, Elem::F32) } else { 1 }
}

/// What blocks of a sum of products depend on.
pub(super) struct Shape {
    /// Element computed in.
    pub elem: Elem,
    /// Rows that are computed alike.
    pub rows: Extent,
    /// Columns.
    pub cols: Extent,
    /// Steps of the sum.
    pub depth: Extent,
    /// Elements of the left operand.
    pub left: Extent,
    /// How the right operand lies.
    pub right: Right,
    /// Registers that a step takes beside the sums and the vectors of columns, that of an element of a row included.
    pub held: usize,
    /// Registers that a vector of columns takes.
    pub column: usize,
}

/// A register block, and the order of the loops around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocking {
    /// Rows.
    pub mr: usize,
    /// Columns of a panel.
    pub nr: usize,
    /// Lanes of a vector.
    pub lanes: u16,
    /// Steps of the left operand that are read together; see [`at_once`].
    pub at_once: u16,
    /// How panels are walked.
    pub order: Order,
}

/// How panels of the right operand are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Before everything else, so that each is read once.
    pub panels_first: bool,
    /// From the last one to the first.
    pub backwards: bool,
}

/// Name of the schedules of sums of products.
const BLOCK: &str = "block";
/// Its parameter that may be left out.
const BACKWARDS: &str = "backwards";
/// Name of the schedules of sliding windows.
const WINDOW: &str = "window";

impl Blocking {
    /// The block that the leaf states, or the first one listed.
    ///
    /// # Errors
    /// [`Unsupported`] for a schedule that is none of a sum of products.
    pub fn choose(cx: &LeafCx<'_>, shape: &Shape) -> Result<Self, Unsupported> {
        let listed = Self::list(cx, shape);
        let Some(schedule) = cx.schedule else { return Ok(listed[0]) };
        let backwards = schedule.params.get(BACKWARDS) == Some(&1);
        let mut forwards = schedule.clone();
        if backwards {
            forwards.params.remove(BACKWARDS);
        }
        let [mr, vecs, panels] = params(&forwards, BLOCK, ["mr", "vecs", "panels_first"])?;
        let lanes = if shape.right == Right::Dot { 1 } else { listed[0].lanes };
        let nr = usize::try_from(vecs).unwrap_or(1) * usize::from(lanes);
        // A tile of the leaf may be smaller than what the schedule was chosen for.
        let rows = shape.rows.as_const().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX).max(1);
        let mr = usize::try_from(mr).unwrap_or(1).min(rows);
        Ok(Self { mr, nr, order: Order { panels_first: panels != 0, backwards }, ..listed[0] })
    }

    /// The schedule that gives this block again.
    pub fn schedule(&self, right: Right) -> Schedule {
        let lanes = if right == Right::Dot { 1 } else { usize::from(self.lanes) };
        let vecs = (self.nr / lanes) as i64;
        stated(BLOCK, [("mr", self.mr as i64), ("vecs", vecs), ("panels_first", self.order.panels_first.into())])
    }

    /// The blocks that make sense, most promising first; at least one.
    pub fn list(cx: &LeafCx<'_>, shape: &Shape) -> Vec<Self> {
        let bytes = shape.left.upper(cx.dims).max(1).saturating_mul(shape.elem.bytes().into());
        let first = bytes <= PANELS_FIRST_BYTES;
        let mut blocks = blocks(cx, shape);
        blocks.truncate(MAX_BLOCKS);
        let forwards = |panels_first| Order { panels_first, backwards: false };
        let orders = |block: &Self| {
            let one = |extent: &Extent, of: usize| extent.as_const().is_some_and(|n| n <= of as i64);
            let both = !one(&shape.rows, block.mr) && !one(&shape.cols, block.nr);
            let other = both.then_some(Self { order: forwards(!first), ..*block });
            std::iter::once(Self { order: forwards(first), ..*block }).chain(other)
        };
        let (firsts, others): (Vec<Self>, Vec<Self>) =
            blocks.iter().flat_map(orders).partition(|block| block.order == forwards(first));
        firsts.into_iter().chain(others).collect()
    }

    /// Rows of a unit of work, so that its part of the left operand stays close.
    pub fn chunk(&self, cx: &LeafCx<'_>, elem: Elem, depth: &Extent) -> i64 {
        let row_bytes = depth.upper(cx.dims).max(1).saturating_mul(elem.bytes().into());
        let mr = self.mr as i64;
        (CHUNK_BYTES / row_bytes / mr).max(4) * mr
    }
}

/// Register blocks, those first that should take the fewest cycles.
///
/// Sums, the vectors of columns and a broadcast have to fit the registers; Cranelift's multiply-add on x86-64 overwrites a
/// factor and so needs a copy.
fn blocks(cx: &LeafCx<'_>, shape: &Shape) -> Vec<Blocking> {
    let registers = cx.machine.vector_registers as usize;
    let lanes = lanes_of(cx, shape.elem);
    let together = at_once(cx);
    let block = |mr: usize, vecs: usize, lanes: u16| {
        let nr = vecs * usize::from(lanes);
        let order = Order { panels_first: false, backwards: false };
        Blocking { mr: small(&shape.rows, mr), nr, lanes, at_once: together, order }
    };
    if shape.right == Right::Dot {
        let mr = if registers > 16 { 4 } else { 2 };
        return vec![Blocking { lanes, ..block(mr, small(&shape.cols, 4), 1) }];
    }
    let few = shape.cols.as_const().is_some_and(|n| n < i64::from(lanes));
    let narrow = shape.right == Right::Strided && few && !cx.machine.has_masks();
    let lanes = if narrow { 1 } else { lanes };
    let wanted = shape.cols.as_const().map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(1));
    let wanted = wanted.div_ceil(usize::from(lanes)).max(1);
    let copy = cx.machine.arch == Arch::X86_64 && cx.machine.vector_bytes <= 16;
    // RISC-V multiplies vectors by scalars in registers of their own.
    let repeats = cx.machine.arch != Arch::Riscv64 || cx.machine.vector_bytes == 0;
    let spare = shape.held - usize::from(!repeats) + if copy || together > 1 { 2 } else { 0 };
    let most_vecs = match shape.rows == Extent::ONE {
        // Columns of a step beside their sums; where no operand is in memory, both and the next columns.
        true if together > 1 => registers / 8 * 3,
        true => registers / (1 + shape.column),
        false => 6,
    };
    // Where rows are read as vectors, each keeps a register beside its sums.
    let held_by_row = usize::from(together > 1);
    let mut blocks: Vec<(i64, Blocking)> = Vec::new();
    for vecs in 1..=wanted.min(most_vecs) {
        let left = (registers - spare).saturating_sub(vecs * shape.column);
        let most = small(&shape.rows, (left / (vecs + held_by_row)).clamp(1, MAX_ROWS));
        let candidates = (1..=most).rev().map(|mr| block(mr, vecs, lanes));
        // The best one of every width: others of the same width are much alike.
        blocks.extend(candidates.map(|block| (all_cycles(cx, shape, &block), block)).min_by_key(|(cycles, _)| *cycles));
    }
    blocks.sort_by_key(|(cycles, _)| *cycles);
    blocks.into_iter().map(|(_, block)| block).collect()
}

/// Half cycles of all blocks of the result, what is left over of rows and columns included.
fn all_cycles(cx: &LeafCx<'_>, shape: &Shape, block: &Blocking) -> i64 {
    let [rows, cols, depth] = [&shape.rows, &shape.cols, &shape.depth].map(|e| e.upper(cx.dims).clamp(1, MOST));
    let (mr, nr, lanes) = (block.mr as i64, block.nr as i64, i64::from(block.lanes));
    let panels = [(cols / nr, nr / lanes), (1, (cols % nr + lanes - 1) / lanes)];
    let blocks = [(rows / mr, mr), (1, rows % mr)];
    let each = panels.iter().flat_map(|p| blocks.iter().map(move |b| (p.0 * b.0, b.1, p.1)));
    each.map(|(count, mr, vecs)| count * block_cycles(mr, vecs, depth, i64::from(block.at_once))).sum()
}

/// Half cycles of a block: per step of the sum two multiply-adds or two loads start each cycle, and a sum waits four for its
/// last addition; then what comes before and after. Rows that are read `at_once` steps at a time are so for cores of two
/// instructions a cycle, which loads take from the others.
fn block_cycles(mr: i64, vecs: i64, depth: i64, at_once: i64) -> i64 {
    if mr == 0 || vecs == 0 {
        return 0;
    }
    let around = 50 + 3 * mr * vecs;
    if at_once > 1 {
        return depth * (at_once * (mr * vecs + vecs) + mr).max(8 * at_once) / at_once + around;
    }
    depth * (mr * vecs).max(mr + vecs).max(8) + around
}

/// The same schedule with panels walked from the last one to the first, for a right operand that was just read by another
/// kernel: its end is still in the cache.
pub(in crate::cpu) fn backwards(schedule: &Schedule) -> Option<Schedule> {
    let mut backwards = schedule.clone();
    (&*schedule.id == BLOCK && backwards.params.insert(BACKWARDS.into(), 1).is_none()).then_some(backwards)
}

/// Registers that a sliding window's results and weights may take: one for the element read, one more to compute with.
pub(super) fn window_registers(cx: &LeafCx<'_>) -> usize {
    cx.machine.vector_registers as usize - 2
}

/// Rows of a sliding window's block beside so many weights, most promising first.
pub(super) fn window_rows(cx: &LeafCx<'_>, rows: &Extent, held: usize) -> Vec<usize> {
    // Longer blocks were never faster: their code is long, and what they save is little.
    let most = window_registers(cx).saturating_sub(held).clamp(1, 8);
    let divides = |mr: &usize| rows.as_const().is_some_and(|n| n % *mr as i64 == 0);
    let even = (5..=most).rev().find(divides);
    let listed = even.into_iter().chain([most, 4]).map(|mr| small(rows, mr.min(most)));
    let mut list = Vec::new();
    for mr in listed {
        if !list.contains(&mr) {
            list.push(mr);
        }
    }
    list
}

/// The rows that the leaf states, or the first ones listed.
///
/// # Errors
/// [`Unsupported`] for a schedule that is none of a sliding window.
pub(super) fn choose_window(cx: &LeafCx<'_>, rows: &Extent, held: usize) -> Result<usize, Unsupported> {
    let Some(schedule) = cx.schedule else { return Ok(window_rows(cx, rows, held)[0]) };
    let [mr] = params(schedule, WINDOW, ["mr"])?;
    let most = window_registers(cx).saturating_sub(held).max(1);
    Ok(small(rows, usize::try_from(mr).unwrap_or(1).min(most)))
}

/// The schedule of a block of so many rows.
pub(super) fn window_schedule(mr: usize) -> Schedule {
    stated(WINDOW, [("mr", mr as i64)])
}

/// A schedule of that name and these parameters.
pub(super) fn stated<const N: usize>(id: &str, params: [(&str, i64); N]) -> Schedule {
    let params: BTreeMap<_, _> = params.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Schedule { id: id.into(), params }
}

/// The parameters of a schedule: exactly these, small and not negative.
fn params<const N: usize>(schedule: &Schedule, id: &str, names: [&str; N]) -> Result<[i64; N], Unsupported> {
    let value = |name: &str| schedule.params.get(name).copied().filter(|v| (0..=MAX_PARAM).contains(v));
    let known = &*schedule.id == id && schedule.params.len() == N && names.iter().all(|name| value(name).is_some());
    if !known || names.iter().any(|name| *name != "panels_first" && value(name) == Some(0)) {
        let accepted = format!("`{id}` with {}", names.join(", "));
        return Err(unsupported(format!("schedule {schedule}"), accepted));
    }
    Ok(names.map(|name| value(name).unwrap_or(1)))
}

fn small(extent: &Extent, most: usize) -> usize {
    extent.as_const().map_or(most, |n| usize::try_from(n).unwrap_or(1).clamp(1, most))
}
