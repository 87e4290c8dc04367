//! Strip tiling: a run of leaves becomes a loop over strips of rows of the last result.
//!
//! Between the leaves only the rows that one strip needs are held, in windowed buffers; rows at the seams are computed
//! again for each strip. Padding at the borders stays a read outside of the buffer, since views keep counting along the
//! whole axis. All sizes are constant; only offsets depend on the loop.

use std::collections::BTreeMap;

use adze_ir::extent::{Extent, Sym};
use adze_ir::tile::{BufferId, For, Leaf, Program, Role, Stmt, View, Window, WindowPlace};

use super::rows::{ROWS, RowRule, row_cost, row_rules};

/// A run of leaves at the top level of a program, first and last position in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) last: usize,
}

/// A run cut into strips.
#[derive(Clone)]
pub(super) struct Strips {
    stmt: Stmt,
    windows: Vec<(BufferId, Window)>,
    /// Work of all strips together, seams counted each time.
    pub(super) cost: i64,
    /// How many strips there are.
    pub(super) count: i64,
    /// Rows that each leaf of the run computes in one.
    pub(super) rows: Vec<i64>,
}

/// Who touches the bytes of each buffer, by position in the body; leaves inside loops count as their loop.
pub(super) struct Uses {
    readers: BTreeMap<BufferId, Vec<usize>>,
    writers: BTreeMap<BufferId, Vec<usize>>,
    /// Buffers that others are an alias of, or that the caller sees.
    shared: Vec<BufferId>,
}

impl Uses {
    pub(super) fn of(program: &Program) -> Self {
        let mut uses = Self { readers: BTreeMap::new(), writers: BTreeMap::new(), shared: Vec::new() };
        for (index, stmt) in program.body.iter().enumerate() {
            uses.stmt(program, index, stmt);
        }
        uses.shared.extend(program.buffers.values().filter_map(|b| b.alias.as_ref().map(|(base, _)| *base)));
        uses.shared.extend(program.inputs.iter().chain(&program.outputs).map(|b| program.root(b.view.buffer)));
        uses
    }

    fn stmt(&mut self, program: &Program, index: usize, stmt: &Stmt) {
        let mut reads = |view: &View| self.readers.entry(program.root(view.buffer)).or_default().push(index);
        match stmt {
            Stmt::For(inner) => inner.body.iter().for_each(|stmt| self.stmt(program, index, stmt)),
            Stmt::Leaf(leaf) => {
                leaf.inputs.iter().flatten().for_each(&mut reads);
                let mut writes = |view: &View| self.writers.entry(program.root(view.buffer)).or_default().push(index);
                leaf.outputs.iter().for_each(&mut writes);
            }
            Stmt::Dma(dma) => {
                reads(&dma.src);
                self.writers.entry(program.root(dma.dst.buffer)).or_default().push(index);
            }
            Stmt::Wait(_) => {}
        }
    }

    /// Whether a leaf's result is only needed by later leaves up to `last`, so that strips of it are enough.
    fn is_inner(&self, program: &Program, leaf: &Leaf, at: usize, last: usize) -> bool {
        let [view] = leaf.outputs.as_slice() else { return false };
        let id = view.buffer;
        let buffer = &program.buffers[id];
        let temp = buffer.role == Role::Temp && buffer.alias.is_none() && buffer.window.is_none();
        let readers = self.readers.get(&id).map_or(&[][..], Vec::as_slice);
        temp && buffer.layout.order(buffer.shape.len()).is_some()
            && view.is_whole(buffer)
            && !self.shared.contains(&id)
            && self.writers.get(&id).is_some_and(|w| *w == [at])
            && !readers.is_empty()
            && readers.iter().all(|r| (at + 1..=last).contains(r))
    }
}

/// The rows that a leaf computes for one strip.
struct Rows {
    start: Extent,
    count: i64,
}

/// Whether a run can be cut at all, whatever the strips.
pub(super) fn is_run(program: &Program, uses: &Uses, run: Run) -> bool {
    let Some(leaves) = leaves_of(program, run) else { return false };
    let Some((last, inner)) = leaves.split_last() else { return false };
    let target = &last.outputs;
    let apart = target.len() == 1 && {
        let root = program.root(target[0].buffer);
        leaves.iter().flat_map(|l| l.inputs.iter().flatten()).all(|v| program.root(v.buffer) != root)
    };
    let whole = target.iter().all(|v| v.is_whole(&program.buffers[v.buffer]));
    apart
        && whole
        && inner.iter().enumerate().all(|(i, leaf)| uses.is_inner(program, leaf, run.first + i, run.last))
        && leaves.iter().all(|leaf| row_rules(leaf).is_some() && height(leaf).is_some())
}

/// The leaves of a run, unless something else is among its statements.
pub(super) fn leaves_of(program: &Program, run: Run) -> Option<Vec<&Leaf>> {
    program.body.get(run.first..=run.last)?.iter().map(|s| if let Stmt::Leaf(l) = s { Some(l) } else { None }).collect()
}

/// Rows of a leaf's result.
pub(super) fn height(leaf: &Leaf) -> Option<i64> {
    leaf.outputs.first()?.sizes.get(ROWS)?.as_const()
}

/// Rows of the run's last result.
pub(super) fn run_height(program: &Program, run: Run) -> Option<i64> {
    leaves_of(program, run)?.last().and_then(|l| height(l))
}

/// Work of the run as it is.
pub(super) fn run_cost(program: &Program, run: Run) -> i64 {
    let leaves = leaves_of(program, run).unwrap_or_default();
    leaves.iter().map(|l| row_cost(l).saturating_mul(height(l).unwrap_or(1))).sum()
}

/// Cuts a run (for which [`is_run`] holds) into strips of `strip` rows.
pub(super) fn cut(program: &Program, run: Run, strip: i64, var: &Sym) -> Option<Strips> {
    let leaves = leaves_of(program, run)?;
    let total = height(leaves.last()?)?;
    let i = Extent::sym(var.clone());
    let start = if total % strip == 0 { i } else { i.minimum(&(total - strip).into()) };
    let mut rows: Vec<Option<Rows>> = leaves.iter().map(|_| None).collect();
    *rows.last_mut()? = Some(Rows { start, count: strip });
    let positions: Vec<i64> = (0..total).step_by(usize::try_from(strip).ok()?).collect();
    let mut windows = Vec::new();
    for at in (0..leaves.len() - 1).rev() {
        let id = leaves[at].outputs[0].buffer;
        let needed = needs(&leaves, &rows, id)?;
        let found = cover(&needed, height(leaves[at])?, var, &positions)?;
        let place = WindowPlace::From(found.start.clone());
        windows.push((id, Window { axis: ROWS, rows: found.count.into(), place }));
        rows[at] = Some(found);
    }
    let rows: Vec<Rows> = rows.into_iter().collect::<Option<_>>()?;
    let count = i64::try_from(positions.len()).ok()?;
    let cost = leaves.iter().zip(&rows).map(|(l, r)| row_cost(l).saturating_mul(r.count).saturating_mul(count)).sum();
    let body = leaves.iter().zip(&rows).map(|(l, r)| strip_leaf(l, r).map(Stmt::Leaf)).collect::<Option<Vec<_>>>()?;
    let stmt = Stmt::For(For { var: var.clone(), lo: 0.into(), hi: total.into(), step: strip, parallel: false, body });
    let rows = rows.iter().map(|r| r.count).collect();
    Some(Strips { stmt, windows, cost, count, rows })
}

/// First row and past the last one that each read of a buffer needs, not yet clipped to the buffer.
fn needs(leaves: &[&Leaf], rows: &[Option<Rows>], id: BufferId) -> Option<Vec<(Extent, i64)>> {
    let mut needed = Vec::new();
    for (leaf, rows) in leaves.iter().zip(rows) {
        for (view, rule) in leaf.inputs.iter().zip(row_rules(leaf)?) {
            let Some(view) = view.as_ref().filter(|v| v.buffer == id) else { continue };
            let (axis, offset, size) = strip_rows(view, rule, rows.as_ref()?)?;
            if axis != ROWS {
                return None;
            }
            needed.push((offset, size));
        }
    }
    Some(needed)
}

/// Axis, offset and size of what is read of a view for some rows of the result.
fn strip_rows(view: &View, rule: RowRule, rows: &Rows) -> Option<(usize, Extent, i64)> {
    match rule {
        RowRule::All => None,
        RowRule::Same(axis) => Some((axis, view.offsets[axis].clone() + rows.start.clone(), rows.count)),
        RowRule::Window { stride, span } => {
            let offset = view.offsets[ROWS].clone() + rows.start.clone() * stride.into();
            Some((ROWS, offset, (rows.count - 1) * stride + span))
        }
    }
}

/// The fewest rows of a buffer of `height` rows that hold all that is needed, for every strip.
fn cover(needed: &[(Extent, i64)], height: i64, var: &Sym, positions: &[i64]) -> Option<Rows> {
    let value = |e: &Extent, at: i64| e.eval(&|name| (*name == **var).then_some(at));
    let mut count = 1;
    let mut spans = Vec::with_capacity(positions.len());
    for &at in positions {
        let (mut lo, mut hi) = (height, 0);
        for (offset, size) in needed {
            let offset = value(offset, at)?;
            lo = lo.min(offset.max(0));
            hi = hi.max((offset + size).min(height));
        }
        count = count.max(hi - lo);
        spans.push((at, lo, hi));
    }
    let first = needed.iter().map(|(offset, _)| offset.clone()).reduce(|a, b| a.minimum(&b))?;
    let start = first.minimum(&(height - count).into()).maximum(&Extent::ZERO);
    let mut starts = Vec::with_capacity(spans.len());
    for (at, lo, hi) in spans {
        let start = value(&start, at)?;
        if lo < hi && (start > lo || start + count < hi) {
            return None;
        }
        starts.push((at, start));
    }
    Some(Rows { start: simplest(&starts, var).unwrap_or(start), count })
}

/// A clamped multiple of the loop variable that has these values, if there is one: shorter than clamps inside of clamps.
fn simplest(values: &[(i64, i64)], var: &Sym) -> Option<Extent> {
    let (&(_, low), &(_, high)) = (values.first()?, values.last()?);
    if low == high {
        return values.iter().all(|v| v.1 == low).then(|| low.into());
    }
    for pair in values.windows(2) {
        let slope = (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0).max(1);
        let shift = pair[0].1 - slope * pair[0].0;
        let line = |at: i64| slope * at + shift;
        if slope <= 0 || !values.iter().all(|&(at, value)| line(at).clamp(low.min(high), high) == value) {
            continue;
        }
        let mut expr = Extent::sym(var.clone()) * slope.into() + shift.into();
        if values.iter().any(|&(at, _)| line(at) > high) {
            expr = expr.minimum(&high.into());
        }
        if values.iter().any(|&(at, _)| line(at) < low) {
            expr = expr.maximum(&low.into());
        }
        return Some(expr);
    }
    None
}

fn strip_leaf(leaf: &Leaf, rows: &Rows) -> Option<Leaf> {
    let mut strip = leaf.clone();
    for (view, rule) in strip.inputs.iter_mut().zip(row_rules(leaf)?) {
        let Some(view) = view else { continue };
        if let Some((axis, offset, size)) = strip_rows(view, rule, rows) {
            view.offsets[axis] = offset;
            view.sizes[axis] = size.into();
        }
    }
    let output = strip.outputs.first_mut()?;
    output.offsets[ROWS] = output.offsets[ROWS].clone() + rows.start.clone();
    output.sizes[ROWS] = rows.count.into();
    Some(strip)
}

/// A leaf that computes the first rows of its result only.
pub(super) fn first_rows(leaf: &Leaf, rows: i64) -> Option<Leaf> {
    strip_leaf(leaf, &Rows { start: Extent::ZERO, count: rows })
}

/// Puts the strips in the place of the run.
pub(super) fn apply(program: &mut Program, run: Run, strips: Strips) {
    for (id, window) in strips.windows {
        program.buffers[id].window = Some(window);
    }
    program.body.splice(run.first..=run.last, [strips.stmt]);
}
