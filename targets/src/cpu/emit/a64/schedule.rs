//! Order of instructions in the straight lines of loops.
//!
//! Cores that start instructions in order wait where a result is not there yet; so loads come early and among arithmetic,
//! and whatever else is ready fills the time. The model is the smallest of such cores: two instructions start in a cycle,
//! one of them on vectors, one on memory; a whole vector takes the load unit two cycles (Arm Cortex-A55 Software
//! Optimization Guide, 3.7 and 3.16). Instructions that make registers wait while there are few of them.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::EntityRef;

use super::super::alloc::{Flow, Reg};
use super::super::registers::Instruction;
use super::Selected;
use super::code::{Code, Size};
use super::inst::{Class, Inst};

/// Vector registers that may be in use.
const MOST_LIVE: usize = 31;
/// Instructions of a line that is put in order; in longer ones the order stays.
const MOST: usize = 4000;
/// Instructions that start in a cycle.
const WIDTH: u32 = 2;

/// Puts the straight lines inside of loops in an order for cores that start instructions in order.
pub(super) fn schedule(selected: &mut Selected) {
    let spans = Spans::of(selected);
    let mut at = 0;
    while at < selected.code.len() {
        let end = selected.code[at..].iter().position(|(inst, _)| ends_line(inst)).map_or(selected.code.len(), |n| at + n);
        if end - at > 2 && end - at <= MOST && selected.code[at].1 > 0 {
            let line: Vec<(Inst, u32)> = selected.code[at..end].to_vec();
            let order = Line::new(&line, at, &spans, selected).order();
            let moved = order.into_iter().map(|index| line[index].clone());
            selected.code.splice(at..end, moved);
        }
        at = end + 1;
    }
}

fn ends_line(inst: &Inst) -> bool {
    inst.flow() != Flow::Next || matches!(inst, Inst::Args(_))
}

/// Where each register occurs, loops that it lives through included.
struct Spans(Vec<(usize, usize)>);

impl Spans {
    fn of(selected: &Selected) -> Self {
        let mut spans = vec![(usize::MAX, 0); selected.regs.len()];
        for (at, (inst, _)) in selected.code.iter().enumerate() {
            inst.clone().for_each_reg(&mut |reg, _, _| {
                let span = &mut spans[reg.index()];
                *span = (span.0.min(at), span.1.max(at));
            });
        }
        Self(spans)
    }
}

/// What an instruction waits for and how long.
struct Node {
    /// Positions of the instructions in the line: one, or a copy with what writes over it.
    insts: Vec<usize>,
    /// Earlier nodes, with the cycles from their start to this one's.
    after: Vec<(usize, u32)>,
    unit: Unit,
    /// Cycles that the unit is taken.
    taken: u32,
    /// Cycles from here to the end of the line.
    height: u32,
    /// Groups of registers read and written.
    groups: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Vector,
    Memory,
    Integer,
    /// A copy that the allocator will remove.
    None,
}

struct Line {
    nodes: Vec<Node>,
    /// Nodes that read or write each group of vector registers that lives in this line only.
    local: BTreeMap<usize, usize>,
    /// Vector registers in use all along.
    through: usize,
}

impl Line {
    fn new(line: &[(Inst, u32)], start: usize, spans: &Spans, selected: &Selected) -> Self {
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
            nodes.push(last.node(line, insts, nodes.len(), &mut groups, selected));
        }
        measure(&mut nodes);
        let is_vector = |reg: usize| selected.regs[Reg::new(reg)].class == Class::Vec as usize;
        let inside = |reg: usize| spans.0[reg].0 >= start && spans.0[reg].1 < start + line.len();
        let mut outside = BTreeSet::new();
        let mut local: BTreeMap<usize, usize> = BTreeMap::new();
        for (reg, span) in spans.0.iter().enumerate().filter(|(reg, _)| is_vector(*reg)) {
            if !inside(reg) && span.0 < start + line.len() && span.1 >= start {
                outside.insert(groups.root(reg));
            }
        }
        for node in &nodes {
            for group in node.groups.iter().filter(|group| !outside.contains(group)) {
                *local.entry(*group).or_default() += 1;
            }
        }
        Self { nodes, local, through: outside.len() }
    }

    /// Positions of the line in their new order.
    fn order(mut self) -> Vec<usize> {
        let mut starts: Vec<Option<u32>> = vec![None; self.nodes.len()];
        let (mut order, mut left) = (Vec::new(), self.nodes.len());
        let (mut cycle, mut begun) = (0, 0);
        let mut free = [0; 3];
        let mut live: BTreeSet<usize> = BTreeSet::new();
        let mut first = 0;
        let mut stalled = 0;
        while left > 0 {
            let ready = |node: &Node| {
                node.after.iter().all(|&(other, cycles)| starts[other].is_some_and(|start| start + cycles <= cycle))
            };
            let fits = |node: &Node| match node.unit {
                Unit::None => true,
                unit => begun < WIDTH && free[unit as usize] <= cycle,
            };
            while starts[first].is_some() {
                first += 1;
            }
            let full = self.through + live.len() >= MOST_LIVE;
            let mut candidates: Vec<usize> = (first..self.nodes.len())
                .filter(|&at| starts[at].is_none() && ready(&self.nodes[at]) && fits(&self.nodes[at]))
                .collect();
            if full && stalled < 8 {
                candidates.retain(|&at| self.growth(at, &live) <= 0);
            }
            let best = candidates.into_iter().min_by_key(|&at| {
                let node = &self.nodes[at];
                (node.unit != Unit::None, std::cmp::Reverse(node.height), at)
            });
            let Some(at) = best else {
                (cycle, begun, stalled) = (cycle + 1, 0, stalled + 1);
                continue;
            };
            let node = &self.nodes[at];
            starts[at] = Some(cycle);
            if node.unit != Unit::None {
                free[node.unit as usize] = cycle + node.taken;
                begun += 1;
                stalled = 0;
            }
            order.extend(&node.insts);
            left -= 1;
            for group in node.groups.clone() {
                if let Some(uses) = self.local.get_mut(&group) {
                    *uses -= 1;
                    if *uses == 0 { live.remove(&group) } else { live.insert(group) };
                }
            }
        }
        order
    }

    /// Registers more in use after the node than before.
    fn growth(&self, at: usize, live: &BTreeSet<usize>) -> i32 {
        let change = |group: &usize| match (self.local.get(group), live.contains(group)) {
            (Some(1), true) => -1,
            (Some(2..), false) => 1,
            _ => 0,
        };
        self.nodes[at].groups.iter().map(change).sum()
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
    flags: Option<usize>,
    tested: Vec<usize>,
    stores: Vec<usize>,
    loads: Vec<usize>,
    latency: Vec<u32>,
}

impl Last {
    fn node(
        &mut self,
        line: &[(Inst, u32)],
        insts: Vec<usize>,
        index: usize,
        groups: &mut Groups,
        selected: &Selected,
    ) -> Node {
        let mut after: BTreeMap<usize, u32> = BTreeMap::new();
        let mut wait = |on: usize, cycles: u32| {
            let known = after.entry(on).or_default();
            *known = (*known).max(cycles);
        };
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
        for reg in &reads {
            if let Some(&maker) = self.written.get(reg) {
                wait(maker, self.latency[maker]);
            }
        }
        for reg in &writes {
            self.written.get(reg).iter().for_each(|&&maker| wait(maker, 1));
            self.read.get(reg).into_iter().flatten().for_each(|&reader| wait(reader, 0));
        }
        let main = &line[insts[insts.len() - 1]].0;
        if main.reads_flags() {
            self.flags.iter().for_each(|&setter| wait(setter, 1));
            self.tested.push(index);
        }
        if main.sets_flags() {
            self.flags.iter().chain(&self.tested).for_each(|&other| wait(other, 0));
            (self.flags, self.tested) = (Some(index), Vec::new());
        }
        match memory(main) {
            Some(Access::Load) => {
                self.stores.iter().for_each(|&store| wait(store, 1));
                self.loads.push(index);
            }
            Some(Access::Store) => {
                self.stores.iter().chain(&self.loads).for_each(|&other| wait(other, 0));
                (self.stores, self.loads) = (vec![index], Vec::new());
            }
            None => {}
        }
        for reg in &reads {
            self.read.entry(*reg).or_default().push(index);
        }
        for reg in &writes {
            self.written.insert(*reg, index);
            self.read.remove(reg);
        }
        let (unit, taken, latency) = timing(main);
        self.latency.push(latency);
        let vector = |reg: &&Reg| selected.regs[**reg].class == Class::Vec as usize;
        let groups = reads.iter().chain(&writes).filter(vector).map(|reg| groups.root(reg.index())).collect();
        // The end of the line is as far away as the result.
        Node { insts, after: after.into_iter().collect(), unit, taken, height: latency, groups }
    }
}

fn measure(nodes: &mut [Node]) {
    for at in (0..nodes.len()).rev() {
        let height = nodes[at].height;
        for (other, cycles) in nodes[at].after.clone() {
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
