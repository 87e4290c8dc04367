//! Registers that found no place live in the frame: every read loads into a short-lived one, every write stores from one.

use std::collections::{BTreeMap, BTreeSet};

use super::super::alloc::{Info, Reg};
use super::inst::{Arg, Class, Demand, Inst, Op, SP, TEMP, fits12};
use super::isa::Code;
use super::{Cpu, Selected, Stats};

/// The frame of a function, without the registers that it saves.
pub(super) struct Frame {
    cpu: Cpu,
    pub bytes: i64,
    pub stats: Stats,
}

impl Frame {
    pub fn new(cpu: Cpu) -> Self {
        Self { cpu, bytes: 0, stats: Stats::default() }
    }

    /// Moves these registers to the frame.
    pub fn spill(&mut self, selected: &mut Selected, spilled: &BTreeSet<Reg>) {
        let hot = in_innermost_loops(&selected.code);
        let mut slots: BTreeMap<Reg, i64> = BTreeMap::new();
        let code = std::mem::take(&mut selected.code);
        for (at, (mut inst, depth)) in code.into_iter().enumerate() {
            let (mut before, mut after, mut transfers) = (Vec::new(), Vec::new(), 0);
            let mut renamed: BTreeMap<Reg, Reg> = BTreeMap::new();
            inst.for_each_reg(|reg, read, written| {
                if !spilled.contains(reg) {
                    return;
                }
                let class = selected.regs[*reg].class;
                let slot = *slots.entry(*reg).or_insert_with(|| {
                    let slot = self.bytes;
                    self.bytes += if class == Class::Vec as usize { i64::from(self.cpu.vector_bytes) } else { 8 };
                    slot
                });
                let short = *renamed
                    .entry(*reg)
                    .or_insert_with(|| selected.regs.push(Info { class, fixed: None, short: true }));
                if read {
                    before.extend(self.transfer(class, short, slot, false));
                }
                if written {
                    after.extend(self.transfer(class, short, slot, true));
                }
                transfers += usize::from(read) + usize::from(written);
                *reg = short;
            });
            self.stats.spills += transfers;
            if hot[at] {
                self.stats.hot_spills += transfers;
            }
            selected.code.extend(before.into_iter().map(|inst| (inst, depth)));
            selected.code.push((inst, depth));
            selected.code.extend(after.into_iter().map(|inst| (inst, depth)));
        }
    }

    fn transfer(&self, class: usize, reg: Reg, slot: i64, store: bool) -> Vec<Inst> {
        let code = match (class, store) {
            (0, false) => Code::Ld,
            (0, true) => Code::Sd,
            (1, false) => Code::Fld,
            (1, true) => Code::Fsd,
            (_, false) => Code::Vle64,
            (_, true) => Code::Vse64,
        };
        // What lies beyond the length that the code is made for is of no value.
        let vector = class == Class::Vec as usize;
        let words = u16::try_from(self.cpu.vector_bytes / 8).unwrap_or(u16::MAX);
        let demand = vector.then_some(Demand::Memory { bytes: 8, lanes: words });
        let op = |base: Arg, imm: i64| Inst::Op(Op { code, regs: vec![Arg::Reg(reg), base], imm, demand });
        if !vector && fits12(slot) {
            return vec![op(SP, slot)];
        }
        vec![Inst::AddNumber { to: TEMP, base: SP, by: slot }, op(TEMP, 0)]
    }
}

/// Which instructions are inside an innermost loop: between its label and the branch back.
fn in_innermost_loops(code: &[(Inst, u32)]) -> Vec<bool> {
    let mut hot = vec![false; code.len()];
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, (inst, _)) in code.iter().enumerate() {
        match inst {
            Inst::Label { label, hot: true } => {
                open.insert(*label, at);
            }
            Inst::Branch { label, .. } => {
                if let Some(&from) = open.get(label) {
                    hot[from..=at].iter_mut().for_each(|h| *h = true);
                }
            }
            _ => {}
        }
    }
    hot
}
