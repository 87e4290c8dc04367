//! The order of steps: when loads are done that can be done ahead of their use.

use std::collections::BTreeMap;

use super::isa::Engine;
use super::lower::build::{Draft, Piece, Place, Step};

/// First and last step of every buffer.
pub fn lifetimes(order: &[&Step], buffers: usize) -> Vec<Option<(usize, usize)>> {
    let mut alive: Vec<Option<(usize, usize)>> = vec![None; buffers];
    for (position, step) in order.iter().enumerate() {
        for (_, place) in &step.places {
            if let Place::Local(buffer, _) = place {
                let (first, _) = alive[buffer.0].unwrap_or((position, position));
                alive[buffer.0] = Some((first, position));
            }
        }
    }
    alive
}

/// A load that can be done ahead of its use. Positions are those among the other steps.
#[derive(Clone, Copy, Debug)]
struct Load {
    step: usize,
    /// Its buffer, with its bytes per lane.
    buffer: Option<usize>,
    bytes: u64,
    /// Where it may be done at the earliest: behind the loads of inputs in front and the stores of what it loads.
    least: usize,
    /// Where it is needed.
    first: usize,
}

/// Steps that keep their order, and loads that may be done earlier.
#[derive(Clone, Debug)]
pub struct Loads {
    others: Vec<usize>,
    loads: Vec<Load>,
    /// Bytes per lane in use at each of the others, with loads done where they are needed.
    live: Vec<u64>,
}

impl Loads {
    /// Those of a draft.
    pub fn of(draft: &Draft) -> Self {
        let others: Vec<usize> = (0..draft.steps.len()).filter(|&at| !draft.steps[at].early).collect();
        let steps: Vec<&Step> = others.iter().map(|&at| &draft.steps[at]).collect();
        let leading = steps.iter().take_while(|step| step.body.form().engine == Engine::Gdma).count();
        let alive = lifetimes(&steps, draft.buffers.len());
        let mut live = vec![0u64; others.len()];
        for (index, life) in alive.iter().enumerate() {
            let Some((first, last)) = *life else { continue };
            live[first..=last].iter_mut().for_each(|bytes| *bytes += u64::from(draft.buffers[index]));
        }
        let mut stored: BTreeMap<Piece, usize> = BTreeMap::new();
        let (mut loads, mut position) = (Vec::new(), 0);
        for (at, step) in draft.steps.iter().enumerate() {
            let place = |wanted: &str| step.places.iter().find(|(name, _)| *name == wanted).map(|(_, place)| *place);
            if !step.early {
                position += 1;
                if let Some(Place::Ddr(piece, _)) = place("dst") {
                    stored.insert(piece, position);
                }
                continue;
            }
            let behind = match place("src") {
                Some(Place::Ddr(piece, _)) => stored.get(&piece).copied().unwrap_or(0),
                _ => 0,
            };
            let buffer = match place("dst") {
                Some(Place::Local(buffer, _)) => Some(buffer.0),
                _ => None,
            };
            let first = buffer.and_then(|buffer| Some(alive[buffer]?.0)).unwrap_or(position);
            let bytes = buffer.map_or(0, |buffer| draft.buffers[buffer].into());
            loads.push(Load { step: at, buffer, bytes, least: leading.max(behind).min(first), first });
        }
        Self { others, loads, live }
    }

    /// Bytes per lane that are in use at once however late loads are done.
    pub fn least(&self) -> u64 {
        self.live.iter().copied().max().unwrap_or(0)
    }

    /// Loads up to `window` steps before their first use, as far as no more than `room` bytes per lane are in use.
    pub fn ahead(&self, draft: &Draft, room: u64, window: usize) -> Vec<usize> {
        self.order(draft, room, |_, load| load.first.saturating_sub(window))
    }

    /// Loads where the copy engine has nothing else to do, by the cycles of all steps, as far as no more than `room` bytes per
    /// lane are in use.
    pub fn in_time(&self, draft: &Draft, room: u64, durations: &[u64]) -> Vec<usize> {
        let idle = self.idle(draft, durations);
        self.order(draft, room, |index, _| idle[index])
    }

    fn order(&self, draft: &Draft, room: u64, wanted: impl Fn(usize, &Load) -> usize) -> Vec<usize> {
        let mut live = self.live.clone();
        let mut at: Vec<(usize, usize)> = Vec::new();
        for (index, load) in self.loads.iter().enumerate() {
            let least = wanted(index, load).max(load.least).min(load.first);
            let free = live[least..load.first].iter().rev().take_while(|&&used| used + load.bytes <= room).count();
            live[load.first - free..load.first].iter_mut().for_each(|used| *used += load.bytes);
            at.push((load.first - free, load.step));
        }
        // Stable: those that go to one place keep the order of their uses.
        at.sort_by_key(|(position, _)| *position);
        let mut order = Vec::with_capacity(draft.steps.len());
        let mut at = at.into_iter().peekable();
        for (position, &step) in self.others.iter().enumerate() {
            while let Some((_, early)) = at.next_if(|(before, _)| *before <= position) {
                order.push(early);
            }
            order.push(step);
        }
        order.extend(at.map(|(_, early)| early));
        order
    }

    /// For every load the position at which the copy engine is free for it, if memory does not matter: copies that keep their
    /// order come first once they can run, and a load begins when it is needed at the latest.
    fn idle(&self, draft: &Draft, durations: &[u64]) -> Vec<usize> {
        let mut positions = vec![0; self.loads.len()];
        let mut clocks = [0u64; 2];
        // When all that touched a buffer has ended.
        let mut ends = vec![0u64; draft.buffers.len()];
        let mut next = 0;
        for (position, &at) in self.others.iter().enumerate() {
            let step = &draft.steps[at];
            let engine = usize::from(step.body.form().engine == Engine::Gdma);
            let buffers = step.places.iter().filter_map(|(_, place)| match place {
                Place::Local(buffer, _) => Some(buffer.0),
                Place::Ddr(..) => None,
            });
            let buffers: Vec<usize> = buffers.collect();
            loop {
                let ready = buffers.iter().map(|&buffer| ends[buffer]).max().unwrap_or(0);
                let start = ready.max(clocks[engine]);
                let Some(load) = self.loads.get(next) else { break };
                // A copy waits for a load in progress: not for long.
                let ends_at = clocks[1] + if engine == 1 { durations[load.step] / 2 } else { 0 };
                if load.first > position && (ends_at > start || engine == 1 && ready <= clocks[1]) {
                    break;
                }
                positions[next] = position;
                clocks[1] += durations[load.step];
                if let Some(buffer) = load.buffer {
                    ends[buffer] = clocks[1];
                }
                next += 1;
            }
            let ready = buffers.iter().map(|&buffer| ends[buffer]).max().unwrap_or(0);
            clocks[engine] = clocks[engine].max(ready) + durations[at];
            buffers.iter().for_each(|&buffer| ends[buffer] = clocks[engine]);
        }
        positions
    }
}
