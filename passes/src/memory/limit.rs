//! `--arena-limit`: cuts runs of leaves at the peak into strips until the plan fits.

use adze_ir::extent::Sym;
use adze_ir::loc::Loc;
use adze_ir::tile::{Program, Stmt, memory};

use super::bound::alive_bytes;
use super::strips::{Run, Strips, Uses, apply, cut, is_run, run_cost, run_height};
use super::{Plan, PlanError, plan};

/// Longest run of leaves that is cut as one.
pub(super) const MAX_RUN: usize = 16;
/// Numbers of strips that are tried.
const STRIP_COUNTS: [i64; 14] = [2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 56, 112];

/// Why a program cannot be planned under a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A layer needs more than the limit, and no run of leaves around it can be cut into small enough strips.
    #[error("`{op}` {loc} blocks the arena limit: found {needed} bytes alive at once, accepted: up to {limit}")]
    Blocked {
        /// Its operator.
        op: String,
        /// Its source nodes.
        loc: Loc,
        /// Bytes alive there.
        needed: i64,
        /// The limit.
        limit: i64,
    },
    /// The plan itself failed.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Plans a program so that the arena takes at most `limit` bytes, cutting runs of leaves into strips where it has to.
///
/// # Errors
/// [`LimitError::Blocked`] names the layer that stays over the limit.
pub fn plan_within(program: &mut Program, limit: i64) -> Result<Plan, LimitError> {
    // Alignment and fragmentation can cost more than what is alive: then the goal is lowered a little and tried again.
    let mut goal = limit;
    loop {
        let mut trial = shrink(program, goal, limit)?;
        let planned = plan(&mut trial)?;
        let bytes = planned.bytes(memory::ARENA);
        if bytes <= limit {
            *program = trial;
            return Ok(planned);
        }
        goal = (goal - (bytes - limit)).min(goal - goal / 50);
        if goal < limit / 2 {
            let (position, _) = peak(&trial);
            return Err(blocked(&trial, position, bytes, limit));
        }
    }
}

/// A run of the program as it was given, and how it is cut.
#[derive(Clone)]
struct Cut {
    run: Run,
    strips: Strips,
}

/// The program with runs cut until no position has more than `goal` bytes alive.
fn shrink(program: &Program, goal: i64, limit: i64) -> Result<Program, LimitError> {
    let uses = Uses::of(program);
    // Cuts do not overlap; a later one may swallow earlier ones.
    let mut cuts: Vec<Cut> = Vec::new();
    // Each round settles the peak it finds, so there are no more rounds than leaves.
    for round in 0..=program.body.len() {
        let now = with_cuts(program, &cuts);
        let (position, needed) = peak(&now);
        if needed <= goal {
            return Ok(now);
        }
        let at = body_index(&now, &cuts, position);
        match best_cut(program, &uses, &cuts, at, goal, &fresh_var(program, round)) {
            Some(cut) => {
                cuts.retain(|c| c.run.last < cut.run.first || cut.run.last < c.run.first);
                cuts.push(cut);
                cuts.sort_by_key(|c| c.run.first);
            }
            None => return Err(blocked(&now, position, needed, limit)),
        }
    }
    let now = with_cuts(program, &cuts);
    let (position, needed) = peak(&now);
    Err(blocked(&now, position, needed, limit))
}

/// The program with all cuts (in order of their runs) made.
fn with_cuts(program: &Program, cuts: &[Cut]) -> Program {
    let mut program = program.clone();
    for cut in cuts.iter().rev() {
        apply(&mut program, cut.run, cut.strips.clone());
    }
    program
}

/// The statement of the uncut body that a position of the cut program belongs to; the last one of a run for a cut.
fn body_index(now: &Program, cuts: &[Cut], position: u32) -> usize {
    let starts = positions(now);
    let mut at = starts.iter().rposition(|s| *s <= position).unwrap_or(0);
    for cut in cuts {
        if cut.run.first <= at {
            at += cut.run.last - cut.run.first;
        }
    }
    at
}

/// The position with most bytes alive in the arena, and how many.
fn peak(program: &Program) -> (u32, i64) {
    let alive = alive_bytes(program).remove(memory::ARENA).unwrap_or_default();
    let top = alive.iter().copied().max().unwrap_or(0);
    let at = alive.iter().position(|b| *b == top).unwrap_or(0);
    (u32::try_from(at).unwrap_or(u32::MAX), top)
}

/// A name for the loop variable of a cut.
pub(super) fn fresh_var(program: &Program, round: usize) -> Sym {
    let mut name = format!("row{round}");
    while program.dims.contains_key(name.as_str()) || has_var(&program.body, &name) {
        name.push('_');
    }
    name.into()
}

fn has_var(body: &[Stmt], name: &str) -> bool {
    body.iter().any(|stmt| matches!(stmt, Stmt::For(inner) if *inner.var == *name || has_var(&inner.body, name)))
}

/// Position of each statement of the body, and past the last.
fn positions(program: &Program) -> Vec<u32> {
    fn count(stmt: &Stmt) -> u32 {
        match stmt {
            Stmt::For(inner) => 1 + inner.body.iter().map(count).sum::<u32>(),
            _ => 1,
        }
    }
    let mut at = 0;
    let mut positions = vec![0];
    for stmt in &program.body {
        at += count(stmt);
        positions.push(at);
    }
    positions
}

/// The cut over a statement of the body that brings it under the goal with the least work done twice.
fn best_cut(program: &Program, uses: &Uses, cuts: &[Cut], at: usize, goal: i64, var: &Sym) -> Option<Cut> {
    let mut best: Option<(i64, Cut)> = None;
    for first in at.saturating_sub(MAX_RUN - 1)..=at {
        for last in at.max(first + 1)..(first + MAX_RUN).min(program.body.len()) {
            let run = Run { first, last };
            let crosses = |c: &Cut| {
                let apart = c.run.last < first || last < c.run.first;
                let inside = first <= c.run.first && c.run.last <= last;
                !(apart || inside)
            };
            if cuts.iter().any(crosses) {
                continue;
            }
            let Some(height) = is_run(program, uses, run).then(|| run_height(program, run)).flatten() else { continue };
            // What the cuts that it swallows did twice is no longer done.
            let swallowed = cuts.iter().filter(|c| first <= c.run.first && c.run.last <= last);
            let plain =
                run_cost(program, run) + swallowed.map(|c| c.strips.cost - run_cost(program, c.run)).sum::<i64>();
            for strips in strip_sizes(height).filter_map(|strip| cut(program, run, strip, var)) {
                let extra = strips.cost - plain;
                if best.as_ref().is_some_and(|b| b.0 <= extra) {
                    continue;
                }
                let cut = Cut { run, strips };
                if local_peak(program, cuts, &cut) <= goal {
                    best = Some((extra, cut));
                }
            }
        }
    }
    best.map(|(_, cut)| cut)
}

/// Strip heights from tall to short.
pub(super) fn strip_sizes(height: i64) -> impl Iterator<Item = i64> {
    let mut sizes: Vec<i64> = STRIP_COUNTS.iter().map(|n| (height + n - 1) / n).filter(|s| *s < height).collect();
    sizes.dedup();
    sizes.into_iter()
}

/// Most bytes alive at a position of the run once it is cut.
fn local_peak(program: &Program, cuts: &[Cut], cut: &Cut) -> i64 {
    let run = cut.run;
    let (mut others, mut before) = (Vec::new(), 0);
    for other in cuts.iter().filter(|c| c.run.last < run.first || run.last < c.run.first) {
        // A cut adds one position, the loop's head.
        before += usize::from(other.run.last < run.first);
        others.push(other.clone());
    }
    others.push(cut.clone());
    others.sort_by_key(|c| c.run.first);
    let alive = alive_bytes(&with_cuts(program, &others)).remove(memory::ARENA).unwrap_or_default();
    alive.iter().skip(run.first + before).take(run.last - run.first + 2).copied().max().unwrap_or(0)
}

fn blocked(program: &Program, position: u32, needed: i64, limit: i64) -> LimitError {
    let leaf = leaf_at(&program.body, position);
    let (op, loc) =
        leaf.map_or_else(|| ("loop".to_owned(), Loc::default()), |l| (l.op.name().to_owned(), l.loc.clone()));
    LimitError::Blocked { op, loc, needed, limit }
}

/// The leaf at a position, or the first one inside of the loop there.
fn leaf_at(body: &[Stmt], position: u32) -> Option<&adze_ir::tile::Leaf> {
    fn find<'a>(body: &'a [Stmt], at: &mut u32, position: u32) -> Option<&'a adze_ir::tile::Leaf> {
        for stmt in body {
            let here = *at;
            *at += 1;
            match stmt {
                Stmt::For(inner) => {
                    let found = find(&inner.body, at, position);
                    if found.is_some() {
                        return found;
                    }
                }
                Stmt::Leaf(leaf) if here >= position => return Some(leaf),
                _ => {}
            }
        }
        None
    }
    find(body, &mut 0, position)
}
