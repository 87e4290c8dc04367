//! Places, order and dependencies: from steps to two streams.
//!
//! Steps keep their order but for loads of constants and of parts of tensors, which move up so that they run beside what comes
//! before ([`super::order`]; the best of several ways by the cost model is taken). Buffers get places by when they are alive in that order, with operands that
//! a command would take turns for in banks of their own where there is room. Then a command waits for the last one of the other
//! engine that it shares a written byte with: by the operands that it really has, so that whatever else went wrong, the streams
//! do what the steps in order do.

use std::sync::Arc;

use super::cost;
use super::isa::{Body, Command, DmaEnd, Engine, ID_LIMIT, TiuEnd};
use super::lower::Unsupported;
use super::lower::build::{Draft, Piece, Place, Step};
use super::machine::{BANK_BYTES, DDR_ALIGN, DDR_BASE, LANE_BYTES, LOCAL_BASE, UNIT_BYTES};
use super::operands::{Operand, operands};
use super::order::{Loads, lifetimes};
use super::view::Fault;

/// Ways of loading ahead: percent of local memory that is in use then at most, and steps before the first use.
const AHEAD: [(u64, usize); 11] = [
    (100, usize::MAX),
    (95, usize::MAX),
    (90, usize::MAX),
    (80, usize::MAX),
    (65, usize::MAX),
    (45, usize::MAX),
    (100, 64),
    (100, 32),
    (100, 16),
    (100, 8),
    (100, 0),
];
/// Percent of local memory that loads may fill which go where the copy engine has nothing else to do.
const IN_TIME: [u64; 4] = [100, 90, 75, 100];
/// Steps before and behind its use that memory which is copied from or to is left alone, where there is room.
const MARGIN: usize = 12;

/// Steps of which it is noted together what is alive then.
const SPAN: usize = 64;

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Local memory does not suffice.
    #[error("{error}")]
    Memory {
        /// Where, how much is wanted and how much there is.
        error: Unsupported,
        /// The unit ([`super::tile`]) at which it does not.
        unit: Option<usize>,
    },
    /// A command of ours breaks a rule.
    #[error("`{command}`: {fault}")]
    Command {
        /// The command.
        command: Box<Command>,
        /// The rule.
        fault: Fault,
    },
    /// More commands than IDs.
    #[error("{0} commands for an engine, accepted: less than 2^20")]
    Length(usize),
}

/// Where pieces of DDR memory are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ddr {
    /// First byte of every constant, from the first address on.
    pub constants: Vec<u64>,
    /// First byte of every input, as addresses.
    pub inputs: Vec<u64>,
    /// The same of outputs.
    pub outputs: Vec<u64>,
    /// The same of what does not fit into local memory.
    pub spills: Vec<u64>,
    /// First address of inputs, outputs and spills, and bytes of them.
    pub context: [u64; 2],
}

impl Ddr {
    /// Places inputs, outputs and spills of so many bytes behind the constants, which start where it is said and have so many
    /// bytes together.
    pub fn new(constants: (Vec<u64>, u64), inputs: &[u64], outputs: &[u64], spills: &[u64]) -> Self {
        let (constants, bytes) = constants;
        let mut top = DDR_BASE + bytes.next_multiple_of(DDR_ALIGN);
        let start = top;
        let mut place = |bytes: &[u64]| -> Vec<u64> {
            let one = |&bytes: &u64| {
                let at = top;
                top += bytes.next_multiple_of(DDR_ALIGN);
                at
            };
            bytes.iter().map(one).collect()
        };
        let [inputs, outputs, spills] = [inputs, outputs, spills].map(&mut place);
        Self { constants, inputs, outputs, spills, context: [start, top - start] }
    }

    fn address(&self, piece: Piece, offset: u64) -> u64 {
        let start = match piece {
            Piece::Constant(index) => DDR_BASE + self.constants.get(index).copied().unwrap_or(0),
            Piece::Input(index) => self.inputs.get(index).copied().unwrap_or(0),
            Piece::Output(index) => self.outputs.get(index).copied().unwrap_or(0),
            Piece::Spill(index) => self.spills.get(index).copied().unwrap_or(0),
        };
        start + offset
    }
}

/// Two streams and what their commands are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streams {
    /// Commands of the compute unit, its end included.
    pub tiu: Vec<Command>,
    /// Commands of the copy engine, its end included.
    pub gdma: Vec<Command>,
    /// Source nodes of every command of the compute unit but the end.
    pub tiu_names: Vec<Vec<Arc<str>>>,
    /// Source nodes of every command of the copy engine but the end.
    pub gdma_names: Vec<Vec<Arc<str>>>,
    /// Most bytes of a lane in use at once.
    pub peak_bytes: u32,
}

/// Makes the streams that take the fewest cycles by the cost model, in so many bytes per lane.
///
/// # Errors
/// [`PlanError`].
pub fn plan(draft: &Draft, ddr: &Ddr, lane_bytes: u32) -> Result<Streams, PlanError> {
    let loads = Loads::of(draft);
    let mut best: Option<Planned> = None;
    let mut refused = None;
    let mut better = |next: Result<Planned, TooBig>, best: &mut Option<Planned>| match next {
        Ok(next) if best.as_ref().is_none_or(|best| next.cycles < best.cycles) => *best = Some(next),
        Ok(_) => {}
        Err(error) => refused = Some(error),
    };
    let room = |percent: u64| u64::from(lane_bytes) * percent / 100;
    // What is too much without any load ahead is too much in every order: the last one says where.
    let hopeless = loads.least() > u64::from(lane_bytes);
    let ways = if hopeless { &AHEAD[AHEAD.len() - 1..] } else { &AHEAD[..] };
    for &(percent, window) in ways {
        let order = loads.ahead(draft, room(percent), window);
        better(attempt(draft, ddr, lane_bytes, order)?, &mut best);
    }
    for percent in IN_TIME {
        let Some(known) = &best else { break };
        let order = loads.in_time(draft, room(percent), &known.durations(draft));
        better(attempt(draft, ddr, lane_bytes, order)?, &mut best);
    }
    match (best, refused) {
        (Some(best), _) => Ok(best.streams),
        (None, Some((error, unit))) => Err(PlanError::Memory { error, unit }),
        (None, None) => Ok(Streams::default()),
    }
}

/// Where memory does not suffice, and the unit.
type TooBig = (Unsupported, Option<usize>);

/// Streams for an order of steps.
struct Planned {
    cycles: u64,
    order: Vec<usize>,
    streams: Streams,
}

impl Planned {
    /// Cycles of every step.
    fn durations(&self, draft: &Draft) -> Vec<u64> {
        let mut durations = vec![0; draft.steps.len()];
        let mut commands = [self.streams.tiu.iter(), self.streams.gdma.iter()];
        for &step in &self.order {
            let engine = usize::from(draft.steps[step].body.form().engine == Engine::Gdma);
            let command = commands[engine].next();
            durations[step] = command.map_or(0, |command| cost::cycles(&command.body));
        }
        durations
    }
}

/// Streams with their cycles for an order of steps.
fn attempt(draft: &Draft, ddr: &Ddr, lane_bytes: u32, order: Vec<usize>) -> Result<Result<Planned, TooBig>, PlanError> {
    let steps: Vec<&Step> = order.iter().map(|&at| &draft.steps[at]).collect();
    let alive = lifetimes(&steps, draft.buffers.len());
    let apart = partners(&steps, draft.buffers.len());
    let roomy = with_margins(&steps, &alive);
    let found = allocate(&draft.buffers, &roomy, &apart, lane_bytes)
        .or_else(|_| allocate(&draft.buffers, &alive, &apart, lane_bytes))
        .or_else(|_| allocate(&draft.buffers, &alive, &[], lane_bytes));
    let (places, peak) = match found {
        Ok(found) => found,
        Err(at) => return Ok(Err(too_big(&steps, &draft.buffers, &alive, at, lane_bytes))),
    };
    let streams = emit(&steps, &places, ddr, peak)?;
    Ok(Ok(Planned { cycles: cost::total(&streams.tiu, &streams.gdma), order, streams }))
}

/// Lifetimes of which those of buffers that are copied from or to begin earlier and end later, so that what takes their place
/// does not wait for the other engine.
fn with_margins(steps: &[&Step], alive: &[Option<(usize, usize)>]) -> Vec<Option<(usize, usize)>> {
    let mut roomy = alive.to_vec();
    for step in steps.iter().filter(|step| step.body.form().engine == Engine::Gdma) {
        for (_, place) in &step.places {
            if let Place::Local(buffer, _) = place {
                roomy[buffer.0] = alive[buffer.0].map(|(from, to)| (from.saturating_sub(MARGIN), to + MARGIN));
            }
        }
    }
    roomy
}

/// For every buffer those that want to start in another bank: the other operands of requantizations, look-ups and copies to lanes.
fn partners(order: &[&Step], buffers: usize) -> Vec<Vec<usize>> {
    let mut partners = vec![Vec::new(); buffers];
    for step in order.iter().filter(|step| matches!(step.body, Body::Requant(_) | Body::Lookup(_) | Body::Trans(_))) {
        let wanted = |name: &str| name != "opd1_addr" || matches!(step.body, Body::Lookup(_));
        let operands = step.places.iter().filter_map(|(name, place)| match place {
            Place::Local(buffer, _) if wanted(name) => Some(buffer.0),
            _ => None,
        });
        let operands: Vec<usize> = operands.collect();
        for &a in &operands {
            partners[a].extend(operands.iter().filter(|&&b| b != a));
        }
    }
    partners
}

/// Offsets in a lane, largest buffers first, each at the lowest place that is free while it is alive and, with `apart`, in no
/// bank in which one of those starts that it names. Fails with a step at which memory does not suffice.
fn allocate(
    buffers: &[u32],
    alive: &[Option<(usize, usize)>],
    apart: &[Vec<usize>],
    lane_bytes: u32,
) -> Result<(Vec<u32>, u32), usize> {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|&index| alive[index].is_some()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(buffers[index]), index));
    let mut places: Vec<Option<u32>> = vec![None; buffers.len()];
    // Those that are placed, by spans of steps in which they are alive.
    let steps = alive.iter().flatten().map(|(_, last)| last + 1).max().unwrap_or(0);
    let mut placed: Vec<Vec<usize>> = vec![Vec::new(); steps.div_ceil(SPAN)];
    let mut peak = 0;
    for index in order {
        let Some((first, last)) = alive[index] else { continue };
        let beside = |&other: &usize| alive[other].is_some_and(|(a, b)| a <= last && first <= b);
        let span = |other: usize| places[other].map(|at| (at, at + buffers[other]));
        let spans = first / SPAN..=last / SPAN;
        let near = placed[spans.clone()].iter().flatten().copied();
        // Twice the same is the same.
        let mut taken: Vec<(u32, u32)> = near.filter(beside).filter_map(span).collect();
        taken.sort_unstable();
        let partners = apart.get(index).map_or(&[][..], Vec::as_slice);
        let banks: Vec<u32> = partners.iter().filter_map(|&other| Some(places[other]? / BANK_BYTES)).collect();
        let at = gap(&taken, buffers[index], &banks, lane_bytes).ok_or(first)?;
        places[index] = Some(at);
        peak = peak.max(at + buffers[index]);
        placed[spans].iter_mut().for_each(|placed| placed.push(index));
    }
    Ok((places.into_iter().map(|at| at.unwrap_or(0)).collect(), peak))
}

/// The lowest place for so many bytes between sorted ones that are taken, not starting in some banks.
fn gap(taken: &[(u32, u32)], size: u32, banks: &[u32], lane_bytes: u32) -> Option<u32> {
    let elsewhere = |mut at: u32| {
        while banks.contains(&(at / BANK_BYTES)) {
            at = (at + 1).next_multiple_of(BANK_BYTES);
        }
        at
    };
    let mut at = elsewhere(0);
    for &(from, to) in taken {
        if at.saturating_add(size) <= from {
            break;
        }
        at = elsewhere(at.max(to.next_multiple_of(UNIT_BYTES)));
    }
    at.checked_add(size).filter(|&end| end <= lane_bytes).map(|_| at)
}

/// Says what is alive where memory does not suffice.
fn too_big(
    order: &[&Step],
    buffers: &[u32],
    alive: &[Option<(usize, usize)>],
    at: usize,
    lane_bytes: u32,
) -> (Unsupported, Option<usize>) {
    let there = |(index, life): (usize, &Option<(usize, usize)>)| {
        life.filter(|(first, last)| (*first..=*last).contains(&at)).map(|_| u64::from(buffers[index]))
    };
    let bytes: u64 = alive.iter().enumerate().filter_map(there).sum();
    let names = order.get(at).map_or(&[][..], |step| step.loc.names());
    let error = Unsupported {
        place: format!("node {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        names: names.to_vec(),
        node: None,
        found: format!("{bytes} bytes per lane in use at once"),
        accepted: format!("{lane_bytes} bytes of local memory per lane, in gaps between buffers that fit"),
    };
    (error, order.get(at).and_then(|step| step.unit))
}

/// Cycles that the compute unit and the copy engine work for a draft, its buffers in banks of their own.
pub fn busy(draft: &Draft) -> [u64; 2] {
    let banks = LANE_BYTES / BANK_BYTES;
    let places: Vec<u32> = (0..draft.buffers.len()).map(|index| index as u32 % banks * BANK_BYTES).collect();
    let ddr = Ddr::default();
    let mut cycles = [0; 2];
    for step in &draft.steps {
        let engine = usize::from(step.body.form().engine == Engine::Gdma);
        cycles[engine] += cost::cycles(&placed(step, &places, &ddr));
    }
    cycles
}

/// A body with its addresses.
fn placed(step: &Step, places: &[u32], ddr: &Ddr) -> Body {
    let form = step.body.form();
    let mut values = step.body.values();
    let mut set = |name: &str, value: u64| {
        if let Some(index) = form.fields.iter().position(|field| field.name == name) {
            values[index] = value as u32;
        }
    };
    for (name, place) in &step.places {
        let address = match place {
            Place::Local(buffer, offset) if form.engine == Engine::Gdma => {
                LOCAL_BASE + u64::from(places[buffer.0] + offset)
            }
            Place::Local(buffer, offset) => u64::from(places[buffer.0] + offset),
            Place::Ddr(piece, offset) => ddr.address(*piece, *offset),
        };
        if form.engine == Engine::Gdma {
            set(&format!("{name}_addr_lo"), address & 0xffff_ffff);
            set(&format!("{name}_addr_hi"), address >> 32);
        } else {
            set(name, address);
        }
    }
    Body::from_values(form, &values).expect("a value for every field")
}

/// Whether two commands share a byte that one of them writes.
fn conflict(a: &[Operand], b: &[Operand]) -> bool {
    a.iter().any(|x| b.iter().any(|y| (x.written || y.written) && x.view.overlaps(&y.view)))
}

fn emit(order: &[&Step], places: &[u32], ddr: &Ddr, peak_bytes: u32) -> Result<Streams, PlanError> {
    let mut streams = Streams { peak_bytes, ..Streams::default() };
    let mut done: [Vec<Vec<Operand>>; 2] = [Vec::new(), Vec::new()];
    let mut known = [0usize; 2];
    for step in order {
        let body = placed(step, places, ddr);
        let engine = usize::from(step.body.form().engine == Engine::Gdma);
        let id = done[engine].len() + 1;
        let mut command = Command { id: id as u32, dep: 0, body };
        let operands = operands(&command.body)
            .map_err(|fault| PlanError::Command { command: Box::new(command.clone()), fault })?;
        let others = &done[1 - engine][known[engine]..];
        if let Some(last) = others.iter().rposition(|other| conflict(&operands, other)) {
            known[engine] += last + 1;
            command.dep = known[engine] as u32;
        }
        done[engine].push(operands);
        let names = step.loc.names().to_vec();
        let (commands, all_names) = if engine == 0 {
            (&mut streams.tiu, &mut streams.tiu_names)
        } else {
            (&mut streams.gdma, &mut streams.gdma_names)
        };
        commands.push(command);
        all_names.push(names);
    }
    let longest = streams.tiu.len().max(streams.gdma.len()) + 1;
    if longest >= ID_LIMIT as usize {
        return Err(PlanError::Length(longest));
    }
    let end = |commands: &[Command]| commands.len() as u32 + 1;
    streams.tiu.push(Command { id: end(&streams.tiu), dep: 0, body: TiuEnd { eu: 31 }.into() });
    streams.gdma.push(Command { id: end(&streams.gdma), dep: 0, body: DmaEnd::default().into() });
    Ok(streams)
}
