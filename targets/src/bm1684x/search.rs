//! Which runs of a network are done in parts, and in how many: by trying, with the cost model as the judge.
//!
//! What fits is done as a whole. Otherwise the unit at which local memory does not suffice is cut into parts, more of them
//! until it fits, and what is alive beside it goes to DDR memory. Then neighbouring cuts are joined, so that parts stay in
//! local memory from one unit to the next, and numbers of parts are varied, as long as cycles go down.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adze_ir::graph::{Graph, NodeId, ValueId};

use super::cost;
use super::isa::Prec;
use super::lower::build::{Draft, lane_bytes};
use super::lower::{Memo, Unsupported, extents, lower, made};
use super::machine::{DDR_BASE, DDR_BYTES};
use super::merge::merged;
use super::plan::{Ddr, PlanError, Streams, plan};
use super::program::CompileError;
use super::reach::extents as batch_and_rows;
use super::tile::{Cut, Tiled, rewrite, units};

/// Most ways of cutting that are tried for fewer cycles, and steps that are planned for that in all: of long programs fewer ways.
const TRIES: usize = 48;
const TRIED_STEPS: usize = 1 << 18;
/// Bytes of loads that small constants are merged to: ways that are tried.
const MERGED: [u32; 2] = [1 << 14, 1 << 16];
/// Most parts of a cut whose result is put together in local memory at first.
const KEPT_PARTS: usize = 16;
/// What is less than this share of local memory may stay there while a cut runs.
const SMALL: u64 = 16;

/// A network with its commands.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was lowered.
    pub draft: Draft,
    /// Places in DDR memory.
    pub ddr: Ddr,
    /// Commands.
    pub streams: Streams,
}

/// Cycles of all commands.
fn cycles(found: &Found) -> u64 {
    cost::total(&found.streams.tiu, &found.streams.gdma)
}

/// Why a way of cutting does not do.
enum Failure {
    /// Local memory does not suffice, at a unit.
    Memory(Unsupported, Option<usize>),
    /// Some unit cannot be cut.
    Rigid,
    /// No way would do.
    Error(CompileError),
}

/// A way of cutting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Way {
    cuts: Vec<Cut>,
    /// Values that are stored besides.
    spilled: BTreeSet<ValueId>,
    /// Values that stay in local memory nevertheless.
    kept: BTreeSet<ValueId>,
}

/// What is looked for.
struct Search<'a> {
    graph: &'a Graph,
    half: Option<Prec>,
    ports: [Vec<u64>; 2],
    lane_bytes: u32,
    /// Values that are in memory at some time.
    made: BTreeSet<ValueId>,
    units: Vec<NodeId>,
    /// First and last unit that makes or reads a value of a unit, in order of units.
    alive: Vec<(usize, usize)>,
    memo: RefCell<Memo>,
    /// Steps that were planned so far.
    planned: Cell<usize>,
}

/// Commands for a graph whose inputs and outputs have so many bytes, its floats in a type of 16 bits, in so many bytes of local memory per lane.
///
/// # Errors
/// [`CompileError`].
pub fn search(graph: &Graph, half: Option<Prec>, ports: [Vec<u64>; 2], lane_bytes: u32) -> Result<Found, CompileError> {
    let made = made(graph, half);
    let units = units(graph, &made);
    let alive = alive(graph, &units);
    let (memo, planned) = (RefCell::default(), Cell::new(0));
    let search = Search { graph, half, ports, lane_bytes, made, units, alive, memo, planned };
    let (mut way, mut best) = search.first()?;
    if way.cuts.is_empty() {
        return Ok(best);
    }
    search.improve(&mut way, &mut best);
    Ok(best)
}

/// From which unit to which one the result of a unit is wanted; an output is wanted to the end.
fn alive(graph: &Graph, units: &[NodeId]) -> Vec<(usize, usize)> {
    // What a value of floats was computed from is wanted where that value is.
    let position: BTreeMap<NodeId, usize> = units.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (id, node) in graph.nodes().rev() {
        let unit = position.get(&id).copied();
        let wanted = unit.or_else(|| node.outputs.iter().filter_map(|value| last.get(value).copied()).max());
        let Some(wanted) = wanted else { continue };
        for value in node.inputs.iter().flatten() {
            let entry = last.entry(*value).or_insert(wanted);
            *entry = wanted.max(*entry);
        }
    }
    let end = |at: usize, id: NodeId| last.get(&graph.node(id).outputs[0]).copied().unwrap_or(at);
    units.iter().enumerate().map(|(at, &id)| (at, end(at, id))).collect()
}

impl Search<'_> {
    fn result(&self, unit: usize) -> ValueId {
        self.graph.node(self.units[unit]).outputs[0]
    }

    /// Commands for a way of cutting.
    fn attempt(&self, way: &Way) -> Result<Found, Failure> {
        let tiled = match (&way.cuts[..], way.spilled.is_empty()) {
            ([], true) => Tiled::whole(self.graph, &self.made),
            _ => rewrite(self.graph, &self.made, &way.cuts, &self.spilled(way)).ok_or(Failure::Rigid)?,
        };
        let lowered = lower(&tiled, self.half, self.lane_bytes, &mut self.memo.borrow_mut());
        let draft = lowered.map_err(|mut error| {
            if !way.cuts.is_empty() {
                // Nodes of parts are not those of the graph.
                error.0.iter_mut().for_each(|one| one.node = self.named(&one.names));
            }
            Failure::Error(error.into())
        })?;
        let others = MERGED.map(|most| merged(&draft, most));
        let plain = self.planned(draft)?;
        let others = others.into_iter().flatten().filter_map(|draft| self.planned(draft).ok());
        Ok(others.fold(plain, |best, found| if cycles(&found) < cycles(&best) { found } else { best }))
    }

    /// Places and commands for a draft.
    fn planned(&self, draft: Draft) -> Result<Found, Failure> {
        self.planned.set(self.planned.get() + draft.steps.len());
        let [inputs, outputs] = &self.ports;
        let ddr = Ddr::new(draft.layout(), inputs, outputs, &draft.spills);
        if ddr.context[0] + ddr.context[1] - DDR_BASE > DDR_BYTES {
            let found =
                format!("{} bytes of constants and what goes in and out", ddr.context[0] + ddr.context[1] - DDR_BASE);
            let accepted = format!("what fits into {DDR_BYTES} bytes of DDR memory");
            return Err(Failure::Error(Unsupported::of_graph(found, accepted).into()));
        }
        match plan(&draft, &ddr, self.lane_bytes) {
            Ok(streams) => Ok(Found { draft, ddr, streams }),
            Err(PlanError::Memory { error, unit }) => {
                let node = unit.map(|unit| self.units[unit]).or_else(|| self.named(&error.names));
                Err(Failure::Memory(Unsupported { node, ..error }, unit))
            }
            Err(other) => Err(Failure::Error(CompileError::Bug(other.to_string()))),
        }
    }

    /// The node of source nodes, other than a constant.
    fn named(&self, names: &[Arc<str>]) -> Option<NodeId> {
        let computed = self.graph.nodes().filter(|(_, node)| !node.inputs.is_empty());
        let mut all = computed.filter(|(_, node)| node.loc.names() == names && !names.is_empty());
        all.next_back().map(|(id, _)| id)
    }

    /// Values that go to DDR memory: results of cuts, what cuts read, and what is alive beside them, unless small.
    fn spilled(&self, way: &Way) -> BTreeSet<ValueId> {
        let cut = |unit: usize| way.cuts.iter().any(|cut| cut.units.contains(&unit));
        let over =
            |&(from, to): &(usize, usize)| way.cuts.iter().any(|cut| from < cut.units.start && cut.units.start <= to);
        let large = |unit: usize| self.bytes(self.result(unit)) > u64::from(self.lane_bytes) / SMALL;
        let all = (0..self.units.len()).filter(|&unit| cut(unit) || large(unit) && over(&self.alive[unit]));
        let all = all.map(|unit| self.result(unit)).filter(|value| !way.kept.contains(value));
        all.chain(way.spilled.iter().copied()).collect()
    }

    /// Bytes per lane of a tensor.
    fn bytes(&self, value: ValueId) -> u64 {
        let ty = self.graph.ty(value);
        let prec = match ty.dtype.is_float() {
            true => self.half.unwrap_or(Prec::Fp32),
            false => Prec::Int8,
        };
        let shape = ty.fixed_shape().and_then(|shape| extents(&shape).ok());
        shape.map_or(0, |shape| lane_bytes(prec, shape))
    }

    /// The first way that fits.
    fn first(&self) -> Result<(Way, Found), CompileError> {
        let mut way = Way::default();
        let mut refused = None;
        loop {
            match self.attempt(&way) {
                Ok(found) => return Ok((way, found)),
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::Rigid) => {
                    // The cut that was made or grown last.
                    return Err(
                        refused.map_or_else(|| CompileError::Bug("a cut without cause".into()), CompileError::from)
                    );
                }
                Err(Failure::Memory(error, unit)) => {
                    let next = unit.and_then(|unit| self.finer(&way, unit));
                    let Some(next) = next else { return Err(error.into()) };
                    refused = Some(error);
                    way = next;
                }
            }
        }
    }

    /// The way with smaller parts at a unit.
    fn finer(&self, way: &Way, unit: usize) -> Option<Way> {
        let mut next = way.clone();
        let at = next.cuts.iter().position(|cut| cut.units.contains(&unit));
        let at = at.unwrap_or_else(|| {
            next.cuts.push(Cut { units: unit..unit + 1, batch: 1, rows: 1, resident: true });
            next.kept.insert(self.result(unit));
            next.cuts.len() - 1
        });
        let results: Vec<ValueId> = next.cuts[at].units.clone().map(|unit| self.result(unit)).collect();
        let mut grown = self.grow(&mut next.cuts[at]);
        let many = next.cuts[at].batch * next.cuts[at].rows > KEPT_PARTS;
        if results.iter().any(|value| next.kept.contains(value)) && (many || !grown) {
            next.kept.retain(|value| !results.contains(value));
            (next.cuts[at].batch, next.cuts[at].rows, next.cuts[at].resident) = (1, 1, true);
            grown = self.grow(&mut next.cuts[at]);
        }
        if grown {
            next.cuts.sort_by_key(|cut| cut.units.start);
            if self.can(&next) {
                return Some(next);
            }
        }
        // It cannot be cut, or no further: what is alive beside it makes room.
        let mut next = way.clone();
        next.cuts.retain(|cut| !cut.units.contains(&unit) || cut.units.len() > 1 || cut.batch * cut.rows > 1);
        let beside = self.alive.iter().enumerate().filter(|(_, (from, to))| *from < unit && unit <= *to);
        let beside =
            beside.map(|(other, _)| other).filter(|other| !way.cuts.iter().any(|cut| cut.units.contains(other)));
        next.spilled.extend(beside.map(|other| self.result(other)));
        (next != *way).then_some(next)
    }

    fn can(&self, way: &Way) -> bool {
        rewrite(self.graph, &self.made, &way.cuts, &BTreeSet::new()).is_some()
    }

    /// More parts, or constants that do not stay; `false` when there are no more.
    fn grow(&self, cut: &mut Cut) -> bool {
        let sizes = cut.units.clone().filter_map(|unit| batch_and_rows(self.graph, self.result(unit)));
        let [batch, rows] = sizes.reduce(|[a, b], [c, d]| [a.min(c), b.min(d)]).unwrap_or([1, 1]);
        if cut.batch < batch {
            cut.batch = (cut.batch * 2).min(batch);
        } else if cut.rows < rows {
            cut.rows = (cut.rows * 2).min(rows);
        } else if cut.resident {
            (cut.batch, cut.rows, cut.resident) = (1, 1, false);
            return self.grow(cut);
        } else {
            return false;
        }
        true
    }

    /// Looks for fewer cycles in ways near by.
    fn improve(&self, way: &mut Way, best: &mut Found) {
        let mut tries = 0;
        let end = self.planned.get() + TRIED_STEPS;
        let left = |tries: usize| tries < TRIES && self.planned.get() < end;
        let mut least = cycles(best);
        let mut accept =
            |way: &mut Way, best: &mut Found, next: Way, found: Option<Found>, tries: &mut usize| -> bool {
                *tries += 1;
                let Some(found) = found.or_else(|| self.attempt(&next).ok()) else { return false };
                let total = cycles(&found);
                if total >= least {
                    return false;
                }
                (least, *best, *way) = (total, found, next);
                true
            };
        let mut at = 0;
        while at + 1 < way.cuts.len() && left(tries) {
            let joined = self.joined(way, at);
            let better = joined.is_some_and(|(next, found)| accept(way, best, next, Some(found), &mut tries));
            at += usize::from(!better);
        }
        let candidates: Vec<ValueId> = self.spilled(way).union(&way.kept).copied().collect();
        for value in candidates {
            if !left(tries) {
                return;
            }
            let mut next = way.clone();
            if !next.kept.remove(&value) {
                next.spilled.remove(&value);
                next.kept.insert(value);
            }
            if self.spilled(&next) != self.spilled(way) {
                accept(way, best, next, None, &mut tries);
            }
        }
        for at in 0..way.cuts.len() {
            for change in [|rows: usize| rows * 3 / 4, |rows: usize| rows * 3 / 2, |rows: usize| rows * 2] {
                if !left(tries) {
                    return;
                }
                let mut next = way.clone();
                next.cuts[at].rows = change(next.cuts[at].rows).max(1);
                if next != *way {
                    accept(way, best, next, None, &mut tries);
                }
            }
        }
    }

    /// Two neighbouring cuts as one, in as many parts as it takes.
    fn joined(&self, way: &Way, at: usize) -> Option<(Way, Found)> {
        let mut next = way.clone();
        let second = next.cuts.remove(at + 1);
        let first = &mut next.cuts[at];
        if first.units.end != second.units.start {
            return None;
        }
        first.units.end = second.units.end;
        (first.batch, first.rows) = (first.batch.max(second.batch), first.rows.max(second.rows));
        first.resident &= second.resident;
        loop {
            match self.attempt(&next) {
                Ok(found) => return Some((next, found)),
                Err(Failure::Memory(_, Some(unit))) if next.cuts[at].units.contains(&unit) => {
                    let resident = next.cuts[at].resident;
                    if !self.grow(&mut next.cuts[at]) || next.cuts[at].resident != resident {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
    }
}
