//! Order of instructions in the straight lines of loops.
//!
//! Cores that start instructions in order wait where a result is not there yet; so loads come early and among arithmetic,
//! and whatever else is ready fills the time. The model is the smallest of such cores: two instructions start in a cycle,
//! one of them on vectors, one on memory; a whole vector takes the load unit two cycles, as kernels written for Cortex-A55
//! have it (see `NARROW_LOADS` in machine.rs). Instructions that make registers wait while there are few of them.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::EntityRef;

use super::super::alloc::{Flow, Ranges, Reg, live_ranges, point};
use super::super::registers::{Instruction, hot_depths};
use super::code::{Code, pair_reaches, reaches};
use super::inst::{Class, Inst};
use super::ops::Size;
use super::{Selected, info};

/// Registers of each class that may be in use.
const MOST_LIVE: [usize; 2] = [26, 31];
/// Instructions that are looked at from the first one on that has not started.
const WINDOW: usize = 200;
/// Instructions of a line that is put in order; in longer ones the order stays.
const MOST: usize = 4000;
/// Cycles to wait for registers before more than there are get used.
const PATIENCE: u32 = 8;
/// Cycles of distance to the end of a line up to which instructions are alike, and keep their order.
const NEAR: u32 = 16;
/// Instructions that start in a cycle.
const WIDTH: u32 = 2;

/// Puts the straight lines inside of loops in an order for cores that start instructions in order.
pub(super) fn schedule(selected: &mut Selected) {
    let live = live_ranges(&selected.facts(), selected.regs.len());
    let mut at = 0;
    while at < selected.code.len() {
        let end = line_end(&selected.code, at);
        if end - at > 2 && end - at <= MOST && selected.code[at].1 > 0 {
            let line: Vec<(Inst, u32)> = selected.code[at..end].to_vec();
            let order = Line::new(&line, (point(at), point(end)), &live, selected).order();
            let moved = order.into_iter().map(|index| line[index].clone());
            selected.code.splice(at..end, moved);
        }
        at = end + 1;
    }
}

/// The end of the straight line that starts there.
fn line_end(code: &[(Inst, u32)], at: usize) -> usize {
    let ends = |(inst, _): &(Inst, u32)| inst.flow() != Flow::Next || matches!(inst, Inst::Args(_));
    code[at..].iter().position(ends).map_or(code.len(), |n| at + n)
}

/// Vector operations for each load of a whole register from which on it is worth to take it apart.
const OPS_PER_LOAD: usize = 3;

/// Takes loads of whole vectors apart in hot lines that compute much: halves, one of them by way of a general register, start
/// beside other instructions, where a whole load stops everything for two cycles on narrow cores.
pub(super) fn split_loads(selected: &mut Selected) {
    let mut at = 0;
    let hot = hot_depths(&selected.code);
    let code = std::mem::take(&mut selected.code);
    while at < code.len() {
        let end = line_end(&code, at).max(at + 1);
        let line = &code[at..end];
        let whole = |inst: &Inst| matches!(inst, Inst::Op(Code::LoadV(Size::Q, disp), _) if reaches(disp + 8, Size::D));
        let loads = line.iter().filter(|(inst, _)| whole(inst)).count();
        let ops = line.iter().filter(|(inst, _)| timing(inst).0 == Unit::Vector).count();
        for (inst, depth) in line {
            match inst {
                Inst::Op(Code::LoadV(Size::Q, disp), regs) if hot[at] && whole(inst) && ops >= OPS_PER_LOAD * loads => {
                    let [to, base] = [regs[0], regs[1]];
                    let upper = selected.regs.push(info(Class::Gpr));
                    let parts = [
                        Inst::Op(Code::LoadV(Size::D, *disp), vec![to, base]),
                        Inst::Op(Code::LoadX(Size::D, disp + 8), vec![upper, base]),
                        Inst::Op(Code::InsX(Size::D, 1), vec![to, upper]),
                    ];
                    selected.code.extend(parts.into_iter().map(|inst| (inst, *depth)));
                }
                inst => selected.code.push((inst.clone(), *depth)),
            }
        }
        at = end;
    }
}

/// Makes one instruction of two neighbouring ones that read or write neighbouring whole vectors.
pub(super) fn pair_accesses(selected: &mut Selected) {
    let code = std::mem::take(&mut selected.code);
    for (inst, depth) in code {
        let pair = selected.code.last().and_then(|(before, _)| paired(before, &inst));
        match pair {
            Some(pair) => {
                selected.code.pop();
                selected.code.push((pair, depth));
            }
            None => selected.code.push((inst, depth)),
        }
    }
}

fn paired(first: &Inst, second: &Inst) -> Option<Inst> {
    let (Inst::Op(a, x), Inst::Op(b, y)) = (first, second) else { return None };
    let (code, low, high): (fn(i32) -> Code, i32, i32) = match (*a, *b) {
        (Code::LoadV(Size::Q, low), Code::LoadV(Size::Q, high)) => (Code::LoadPair, low, high),
        (Code::StoreV(Size::Q, low), Code::StoreV(Size::Q, high)) => (Code::StorePair, low, high),
        _ => return None,
    };
    let neighbours = x[1] == y[1] && x[0] != y[0] && high == low + 16 && pair_reaches(low);
    neighbours.then(|| Inst::Op(code(low), vec![x[0], y[0], x[1]]))
}

/// What an instruction waits for and how long.
struct Node {
    /// Positions of the instructions in the line: one, or a copy with what writes over it.
    insts: Vec<usize>,
    /// Earlier nodes, with the cycles from their start to this one's.
    after: Vec<(usize, u32)>,
    /// Later nodes that wait for this one, with the same.
    before: Vec<(usize, u32)>,
    unit: Unit,
    /// Cycles that the unit is taken.
    taken: u32,
    /// Cycles from here to the end of the line.
    height: u32,
    /// Class and group of registers read and written.
    groups: BTreeSet<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Vector,
    Memory,
    Integer,
    /// A copy that the allocator will remove.
    None,
}

/// How far the order of a line has come.
#[derive(Default)]
struct Now {
    /// Number of the nodes that each node waits for and that have not started.
    waiting: Vec<usize>,
    /// The first cycle in which each node can start, as far as those that have started say.
    earliest: Vec<u32>,
    /// Nodes that wait for none.
    available: BTreeSet<usize>,
    cycle: u32,
    /// Nodes that started in this cycle.
    begun: u32,
    /// Cycles in which none did.
    stalled: u32,
    /// When each unit is free again.
    free: [u32; 3],
    /// Groups of registers in use, and how many of each class.
    live: BTreeSet<(usize, usize)>,
    used: [usize; 2],
}

struct Line {
    nodes: Vec<Node>,
    /// Nodes that read or write each group of registers that lives in this line only.
    local: BTreeMap<(usize, usize), usize>,
    /// Registers of each class in use all along.
    through: [usize; 2],
}

impl Line {
    /// The line between two points.
    fn new(line: &[(Inst, u32)], (start, end): (u32, u32), live: &[Ranges], selected: &Selected) -> Self {
        let mut groups = Groups::default();
        for (inst, _) in line {
            if let Inst::Copy { to, from, .. } = inst {
                groups.join(to.index(), from.index());
            }
        }
        let mut nodes = Vec::new();
        let mut last = Last::default();
        let mut at = 0;
        while at < line.len() {
            let mut insts = vec![at];
            if writes_over(&line[at].0, line.get(at + 1).map(|next| &next.0)) {
                insts.push(at + 1);
            }
            at += insts.len();
            nodes.push(last.node(line, insts, &groups, selected));
        }
        measure(&mut nodes);
        // Live on at least one side of the line.
        let outside =
            |ranges: &Ranges| ranges.iter().any(|&(from, to)| from < end && to > start && (from <= start || to > end));
        let outside = live.iter().enumerate().filter(|(_, ranges)| outside(ranges));
        let class = |reg: usize| selected.regs[Reg::new(reg)].class;
        let outside: BTreeSet<(usize, usize)> = outside.map(|(reg, _)| (class(reg), groups.root(reg))).collect();
        let mut local: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for node in &nodes {
            for group in node.groups.iter().filter(|group| !outside.contains(group)) {
                *local.entry(*group).or_default() += 1;
            }
        }
        let through = [0, 1].map(|class| outside.iter().filter(|group| group.0 == class).count());
        Self { nodes, local, through }
    }

    /// Positions of the line in their new order.
    fn order(mut self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut now = Now {
            waiting: self.nodes.iter().map(|node| node.after.len()).collect(),
            earliest: vec![0; self.nodes.len()],
            used: self.through,
            ..Now::default()
        };
        now.available.extend((0..self.nodes.len()).filter(|&at| self.nodes[at].after.is_empty()));
        while !now.available.is_empty() {
            let Some(at) = self.next(&now) else {
                (now.cycle, now.begun, now.stalled) = (now.cycle + 1, 0, now.stalled + 1);
                continue;
            };
            order.extend(&self.nodes[at].insts);
            self.start(at, &mut now);
        }
        order
    }

    /// The node to start now, if there is one.
    fn next(&self, now: &Now) -> Option<usize> {
        let first = now.available.first().copied().unwrap_or(0);
        let fits =
            |node: &Node| node.unit == Unit::None || (now.begun < WIDTH && now.free[node.unit as usize] <= now.cycle);
        let full = |class: usize| now.used[class] >= MOST_LIVE[class] && now.stalled < PATIENCE;
        let affords = |at: usize| (0..2).all(|class| !full(class) || self.growth(at, class, &now.live) <= 0);
        let window = now.available.range(..first + WINDOW).copied();
        let candidates = window.filter(|&at| now.earliest[at] <= now.cycle && fits(&self.nodes[at]) && affords(at));
        candidates.min_by_key(|&at| {
            let node = &self.nodes[at];
            (node.unit != Unit::None, std::cmp::Reverse(node.height / NEAR), at)
        })
    }

    fn start(&mut self, at: usize, now: &mut Now) {
        let node = &self.nodes[at];
        now.available.remove(&at);
        if node.unit != Unit::None {
            now.free[node.unit as usize] = now.cycle + node.taken;
            (now.begun, now.stalled) = (now.begun + 1, 0);
        }
        for &(next, cycles) in &node.before {
            now.earliest[next] = now.earliest[next].max(now.cycle + cycles);
            now.waiting[next] -= 1;
            if now.waiting[next] == 0 {
                now.available.insert(next);
            }
        }
        for group in &node.groups {
            let Some(uses) = self.local.get_mut(group) else { continue };
            *uses -= 1;
            if *uses == 0 {
                now.used[group.0] -= usize::from(now.live.remove(group));
            } else {
                now.used[group.0] += usize::from(now.live.insert(*group));
            }
        }
    }

    /// Registers of a class more in use after the node than before.
    fn growth(&self, at: usize, class: usize, live: &BTreeSet<(usize, usize)>) -> i32 {
        let change = |group: &(usize, usize)| match (self.local.get(group), live.contains(group)) {
            (Some(1), true) => -1,
            (Some(2..), false) => 1,
            _ => 0,
        };
        self.nodes[at].groups.iter().filter(|group| group.0 == class).map(change).sum()
    }
}

/// Whether the first instruction is a copy for the next one to write over.
fn writes_over(inst: &Inst, next: Option<&Inst>) -> bool {
    let (Inst::Copy { to, .. }, Some(next)) = (inst, next) else { return false };
    let mut updates = false;
    next.clone().for_each_reg(&mut |reg, read, written| updates |= read && written && reg == to);
    updates
}

/// Last accesses of registers, flags and memory.
#[derive(Default)]
struct Last {
    written: BTreeMap<Reg, usize>,
    read: BTreeMap<Reg, Vec<usize>>,
    /// What set the flags, and what has read them since.
    set: Option<usize>,
    tested: Vec<usize>,
    /// The last store, and the loads since.
    store: Option<usize>,
    loads: Vec<usize>,
    latency: Vec<u32>,
}

/// Earlier nodes, with the cycles from their start on that have to pass.
#[derive(Default)]
struct Waits(BTreeMap<usize, u32>);

impl Waits {
    fn on(&mut self, node: usize, cycles: u32) {
        let known = self.0.entry(node).or_default();
        *known = (*known).max(cycles);
    }
}

impl Last {
    /// The node of these instructions, which is the next one.
    fn node(&mut self, line: &[(Inst, u32)], insts: Vec<usize>, groups: &Groups, selected: &Selected) -> Node {
        let main = &line[insts[insts.len() - 1]].0;
        let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
        for &at in &insts {
            line[at].0.clone().for_each_reg(&mut |reg, read, written| {
                if read && !writes.contains(reg) {
                    reads.insert(*reg);
                }
                if written {
                    writes.insert(*reg);
                }
            });
        }
        let mut waits = Waits::default();
        self.registers(&mut waits, &reads, &writes);
        self.flags(&mut waits, main);
        self.memory(&mut waits, main);
        let (unit, taken, latency) = timing(main);
        self.latency.push(latency);
        let group = |reg: &Reg| (selected.regs[*reg].class, groups.root(reg.index()));
        let groups = reads.iter().chain(&writes).map(group).collect();
        // The end of the line is as far away as the result.
        let after = waits.0.into_iter().collect();
        Node { insts, after, before: Vec::new(), unit, taken, height: latency, groups }
    }

    fn index(&self) -> usize {
        self.latency.len()
    }

    fn registers(&mut self, waits: &mut Waits, reads: &BTreeSet<Reg>, writes: &BTreeSet<Reg>) {
        let index = self.index();
        for reg in reads {
            self.written.get(reg).iter().for_each(|&&maker| waits.on(maker, self.latency[maker]));
        }
        for reg in writes {
            self.written.get(reg).iter().for_each(|&&maker| waits.on(maker, 1));
            self.read.get(reg).into_iter().flatten().for_each(|&reader| waits.on(reader, 0));
        }
        for reg in reads {
            self.read.entry(*reg).or_default().push(index);
        }
        for reg in writes {
            self.written.insert(*reg, index);
            self.read.remove(reg);
        }
    }

    fn flags(&mut self, waits: &mut Waits, inst: &Inst) {
        if inst.reads_flags() {
            self.set.iter().for_each(|&setter| waits.on(setter, 1));
            self.tested.push(self.index());
        }
        if inst.sets_flags() {
            self.set.iter().chain(&self.tested).for_each(|&other| waits.on(other, 0));
            (self.set, self.tested) = (Some(self.index()), Vec::new());
        }
    }

    /// Any two accesses may meet unless both are loads.
    fn memory(&mut self, waits: &mut Waits, inst: &Inst) {
        match memory(inst) {
            Some(Access::Load) => {
                self.store.iter().for_each(|&store| waits.on(store, 1));
                self.loads.push(self.index());
            }
            Some(Access::Store) => {
                self.store.iter().chain(&self.loads).for_each(|&other| waits.on(other, 0));
                (self.store, self.loads) = (Some(self.index()), Vec::new());
            }
            None => {}
        }
    }
}

/// Fills in what waits for each node, and how far away the end is.
fn measure(nodes: &mut [Node]) {
    for at in (0..nodes.len()).rev() {
        let height = nodes[at].height;
        for (other, cycles) in nodes[at].after.clone() {
            nodes[other].before.push((at, cycles));
            nodes[other].height = nodes[other].height.max(height + cycles);
        }
    }
}

enum Access {
    Load,
    Store,
}

/// What the instruction does to memory that others may write; constants are nobody's.
fn memory(inst: &Inst) -> Option<Access> {
    match inst {
        Inst::Op(Code::LoadV(..) | Code::LoadX(..) | Code::LoadPair(_) | Code::LoadDup(_), _) => Some(Access::Load),
        Inst::Op(Code::StoreV(..) | Code::StoreX(..) | Code::StorePair(_), _) => Some(Access::Store),
        _ => None,
    }
}

/// The unit, the cycles that it is taken, and those until the result is there.
fn timing(inst: &Inst) -> (Unit, u32, u32) {
    match inst {
        Inst::Copy { .. } => (Unit::None, 0, 0),
        Inst::Constant { .. } => (Unit::Memory, 2, 4),
        Inst::Op(code, _) => match code {
            Code::LoadV(Size::Q, _) | Code::StoreV(Size::Q, _) => (Unit::Memory, 2, 4),
            Code::LoadPair(_) | Code::StorePair(_) => (Unit::Memory, 4, 5),
            Code::LoadV(..) | Code::LoadDup(_) | Code::LoadX(..) => (Unit::Memory, 1, 4),
            Code::StoreV(..) | Code::StoreX(..) | Code::Prefetch(_) => (Unit::Memory, 1, 1),
            // Starts beside arithmetic.
            Code::InsX(..) => (Unit::Integer, 1, 3),
            code if (0..code.roles().len()).all(|at| code.is_general(at)) => (Unit::Integer, 1, 1),
            _ => (Unit::Vector, 1, 4),
        },
        _ => (Unit::Integer, 1, 1),
    }
}

/// Registers that copies will make one.
#[derive(Default)]
struct Groups(BTreeMap<usize, usize>);

impl Groups {
    fn root(&self, mut reg: usize) -> usize {
        while let Some(&parent) = self.0.get(&reg) {
            reg = parent;
        }
        reg
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.0.insert(a.max(b), a.min(b));
        }
    }
}
