//! Order of instructions in the straight lines of loops.
//!
//! Cores that start instructions in order wait where a result is not there yet. Here a line is played on a small model of
//! such a core, which starts in each cycle the first instructions in the kernel's order that have what they need; what it
//! does is the new order. So loads come among the arithmetic that does not need them. Only lines of one vector type and
//! length are put in order: others would set it more often.

use std::collections::BTreeMap;

use super::super::alloc::{Flow, Reg};
use super::super::registers::Instruction;
use super::inst::{Arg, Demand, Inst};
use super::isa::{Code, Field, File, Place};

/// Instructions of a line that is put in order; in longer ones the order stays.
const MOST: usize = 2000;
/// Instructions that start in a cycle.
const WIDTH: usize = 2;
/// Instructions past the first that has not started among which the next one is looked for.
const WINDOW: usize = 64;

/// Puts lines inside of loops in order; vector loads start at most `ahead` instructions before their turn.
pub(super) fn schedule(code: &mut [(Inst, u32)], ahead: usize) {
    let mut start = 0;
    while start < code.len() {
        let length = code[start..].iter().position(|(inst, _)| inst.flow() != Flow::Next);
        let end = length.map_or(code.len(), |n| start + n);
        let line = &mut code[start..end];
        if (3..=MOST).contains(&line.len()) && line[0].1 > 0 && is_of_one_type(line) {
            let order = order(&nodes(line), ahead);
            let moved: Vec<_> = order.into_iter().map(|at| line[at].clone()).collect();
            line.clone_from_slice(&moved);
        }
        start = end + 1;
    }
}

/// Whether all vector instructions do with one type and length.
fn is_of_one_type(line: &[(Inst, u32)]) -> bool {
    let mut exact = None;
    let mut count = None;
    line.iter().filter_map(|(inst, _)| inst.demand()).all(|demand| {
        let lanes = match demand {
            Demand::Exact { lanes, .. } if *exact.get_or_insert(demand) == demand => lanes,
            Demand::Memory { lanes, .. } | Demand::Lanes(lanes) => lanes,
            Demand::Exact { .. } | Demand::Element(_) => return false,
        };
        *count.get_or_insert(lanes) == lanes
    })
}

/// Parts of the core, each with the number of instructions it takes in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Vector,
    VectorMemory,
    Memory,
    Integer,
    /// A copy that the allocator is going to remove.
    None,
}

/// The unit, the cycles that it is taken and the cycles to the result: those of a SpacemiT X60, rounded
/// (RISCVSchedSpacemitX60.td of LLVM).
fn cost(inst: &Inst) -> (Unit, u32, u32) {
    let Inst::Op(op) = inst else {
        let copies = inst.copies();
        return if copies { (Unit::None, 0, 0) } else { (Unit::Integer, 1, 1) };
    };
    match op.code {
        Code::Vle8 | Code::Vle16 | Code::Vle32 | Code::Vle64 => (Unit::VectorMemory, 3, 5),
        Code::Vse8 | Code::Vse16 | Code::Vse32 | Code::Vse64 => (Unit::VectorMemory, 3, 1),
        Code::Flw | Code::Fld | Code::Lb | Code::Lbu | Code::Lhu | Code::Lw | Code::Ld => (Unit::Memory, 1, 4),
        Code::Sb | Code::Sh | Code::Sw | Code::Sd | Code::Fsw | Code::Fsd => (Unit::Memory, 1, 1),
        _ if op.demand.is_some() => (Unit::Vector, 1, 5),
        _ if op.code.fields().contains(&Field::Reg(File::F, Place::D)) => (Unit::Integer, 1, 5),
        _ => (Unit::Integer, 1, 1),
    }
}

/// An instruction, or a copy with what writes over it.
struct Node {
    /// Positions in the line.
    insts: Vec<usize>,
    /// Earlier nodes, with the cycles from their start to this one's.
    after: Vec<(usize, u32)>,
    unit: Unit,
    taken: u32,
    latency: u32,
}

/// What a node is ordered by: registers, `v0`, memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Touched {
    Reg(Reg),
    V0,
    Memory,
}

fn nodes(line: &[(Inst, u32)]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(line.len());
    let mut written: BTreeMap<Touched, usize> = BTreeMap::new();
    let mut read: BTreeMap<Touched, Vec<usize>> = BTreeMap::new();
    let mut at = 0;
    while at < line.len() {
        let mut insts = vec![at];
        if writes_over(&line[at].0, line.get(at + 1).map(|next| &next.0)) {
            insts.push(at + 1);
        }
        at += insts.len();
        let (index, mut after) = (nodes.len(), Vec::new());
        let last = &line[at - 1].0;
        let (unit, taken, latency) = cost(last);
        let touched: Vec<(Touched, bool, bool)> = insts.iter().flat_map(|&i| places(&line[i].0)).collect();
        for &(place, reads, writes) in &touched {
            let before = written.get(&place).map(|&node| (node, if reads { nodes[node].latency } else { 1 }));
            after.extend(before.filter(|(node, _)| *node != index));
            if writes {
                let readers = read.get(&place).into_iter().flatten();
                after.extend(readers.filter(|node| **node != index).map(|&node| (node, 0)));
            }
        }
        for (place, reads, writes) in touched {
            if writes {
                written.insert(place, index);
                read.remove(&place);
            }
            if reads {
                read.entry(place).or_default().push(index);
            }
        }
        nodes.push(Node { insts, after, unit, taken, latency });
    }
    nodes
}

/// Whether the next instruction updates the copy: apart they would need two registers.
fn writes_over(inst: &Inst, next: Option<&Inst>) -> bool {
    match (inst, next) {
        (Inst::Copy { to, .. }, Some(Inst::Op(op))) => op.code.updates() && op.regs.first() == Some(&Arg::Reg(*to)),
        _ => false,
    }
}

/// What an instruction reads and writes.
fn places(inst: &Inst) -> Vec<(Touched, bool, bool)> {
    let mut all = Vec::new();
    inst.clone().for_each_reg(&mut |reg, reads, writes| all.push((Touched::Reg(*reg), reads, writes)));
    let Inst::Op(op) = inst else { return all };
    let fields = op.code.fields();
    if fields.contains(&Field::V0) {
        all.push((Touched::V0, true, false));
    }
    if fields.first() == Some(&Field::Reg(File::V, Place::D)) && op.regs.first() == Some(&Arg::Fixed(0)) {
        all.push((Touched::V0, false, true));
    }
    let accesses = fields.iter().any(|field| matches!(field, Field::Mem | Field::MemStore | Field::Addr));
    if accesses {
        all.push((Touched::Memory, op.code.writes(), !op.code.writes()));
    }
    all
}

/// Positions of the line in the order in which the core starts them.
fn order(nodes: &[Node], ahead: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(nodes.len());
    let mut started: Vec<Option<u32>> = vec![None; nodes.len()];
    let (mut first, mut cycle) = (0, 0u32);
    // The cycle in which each unit is free again: two of each that takes two instructions.
    let mut free = [[0u32; 2]; 4];
    while first < nodes.len() {
        let mut width = 0;
        let mut at = first;
        while at < nodes.len().min(first + WINDOW) && width < WIDTH {
            let node = &nodes[at];
            let ready = |&(before, cycles): &(usize, u32)| started[before].is_some_and(|s| s + cycles <= cycle);
            let early = node.unit == Unit::VectorMemory && at - first > ahead;
            let port = port(node.unit).map(|unit| {
                let ports = if unit < 2 { 1 } else { 2 };
                (unit, (0..ports).find(|&port| free[unit][port] <= cycle))
            });
            let blocked = started[at].is_some() || early || matches!(port, Some((_, None)));
            if blocked || !node.after.iter().all(ready) {
                at += 1;
                continue;
            }
            if let Some((unit, Some(port))) = port {
                free[unit][port] = cycle + node.taken;
                width += 1;
            }
            started[at] = Some(cycle);
            order.extend(&node.insts);
            while started.get(first).is_some_and(Option::is_some) {
                first += 1;
            }
            // What was passed over may have waited for this one.
            at = first;
        }
        cycle += 1;
    }
    order
}

fn port(unit: Unit) -> Option<usize> {
    match unit {
        Unit::Vector => Some(0),
        Unit::VectorMemory => Some(1),
        Unit::Memory => Some(2),
        Unit::Integer => Some(3),
        Unit::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::inst::Op;
    use super::*;
    use cranelift_entity::EntityRef;

    const WORDS: Demand = Demand::Exact { bytes: 4, eighths: 0, lanes: 4 };
    const MEMORY: Demand = Demand::Memory { bytes: 4, lanes: 4 };

    fn op(code: Code, regs: &[usize], demand: Option<Demand>) -> (Inst, u32) {
        let regs = regs.iter().map(|&reg| Arg::Reg(Reg::new(reg))).collect();
        (Inst::Op(Op { code, regs, imm: 0, demand }), 1)
    }

    fn load(to: usize) -> (Inst, u32) {
        op(Code::Vle32, &[to, 100], Some(MEMORY))
    }

    fn multiply_add(sum: usize, scalar: usize, column: usize) -> (Inst, u32) {
        op(Code::VfmaccVf, &[sum, scalar, column], Some(WORDS))
    }

    /// The instructions by name and first register.
    fn show(mut code: Vec<(Inst, u32)>, ahead: usize) -> String {
        schedule(&mut code, ahead);
        let word = |(inst, _): &(Inst, u32)| match inst {
            Inst::Op(op) => match op.regs[0] {
                Arg::Reg(reg) => format!("{}{}", &op.code.name()[..3], reg.index()),
                Arg::Fixed(_) => op.code.name()[..3].to_owned(),
            },
            _ => "?".into(),
        };
        code.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn loads_come_among_arithmetic_that_does_not_need_them() {
        let step = |column: usize| (1..=4).map(move |row| multiply_add(row, 50, column));
        let code: Vec<_> = [load(20)].into_iter().chain(step(20)).chain([load(21)]).chain(step(21)).collect();
        assert_eq!(show(code.clone(), 8), "vle20 vle21 vfm1 vfm2 vfm3 vfm4 vfm1 vfm2 vfm3 vfm4");
        assert_eq!(show(code, 0), "vle20 vfm1 vfm2 vfm3 vfm4 vle21 vfm1 vfm2 vfm3 vfm4");
    }

    #[test]
    fn stores_masks_and_types_hold_an_order() {
        let store = op(Code::Vse32, &[1, 101], Some(MEMORY));
        let code = vec![multiply_add(1, 50, 20), store.clone(), load(21), multiply_add(2, 50, 21)];
        assert_eq!(show(code, 8), "vfm1 vse1 vle21 vfm2", "what is stored may be what is loaded");
        let test = |of: usize| {
            let regs = vec![Arg::Fixed(0), Arg::Reg(Reg::new(of)), Arg::Reg(Reg::new(of))];
            (Inst::Op(Op { code: Code::VmseqVv, regs, imm: 0, demand: Some(WORDS) }), 1)
        };
        let merge = |to: usize| op(Code::VmergeVvm, &[to, 30, 31], Some(WORDS));
        assert_eq!(show(vec![test(10), merge(1), test(11), merge(2)], 8), "vms vme1 vms vme2");
        let other = op(Code::VaddVv, &[40, 41, 42], Some(Demand::Exact { bytes: 1, eighths: 0, lanes: 4 }));
        let code = vec![load(20), multiply_add(1, 50, 20), other];
        assert_eq!(show(code, 8), "vle20 vfm1 vad40", "two types: left as it is");
    }
}
