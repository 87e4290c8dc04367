//! Registers that found no place live in the frame: every read loads into a short-lived one, every write stores from one.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::Code;

use super::super::alloc::{Info, Reg};
use super::inst::{Base, Class, Inst, Mem, Op, Operand, Width};
use super::{Cpu, Selected, Stats, encode, table};

/// The frame of a function.
pub(super) struct Frame {
    cpu: Cpu,
    bytes: i32,
    pub stats: Stats,
}

impl Frame {
    pub fn new(cpu: Cpu, code: &[(Inst, u32)]) -> Self {
        let divides = code.iter().any(|(inst, _)| matches!(inst, Inst::Div { .. }));
        Self { cpu, bytes: if divides { encode::DIV_BYTES } else { 0 }, stats: Stats::default() }
    }

    /// Bytes to reserve.
    pub fn bytes(&self) -> i32 {
        (self.bytes + 15) / 16 * 16
    }

    /// Moves these registers to the frame.
    pub fn spill(&mut self, selected: &mut Selected, spilled: &BTreeSet<Reg>) {
        let hottest = hot_depths(&selected.code);
        let mut slots: BTreeMap<Reg, i32> = BTreeMap::new();
        let code = std::mem::take(&mut selected.code);
        for (at, (mut inst, depth)) in code.into_iter().enumerate() {
            let (mut before, mut after) = (Vec::new(), Vec::new());
            let mut renamed: BTreeMap<Reg, Reg> = BTreeMap::new();
            inst.for_each_reg(|reg, read, written| {
                if !spilled.contains(reg) {
                    return;
                }
                let class = selected.regs[*reg].class;
                let slot = *slots.entry(*reg).or_insert_with(|| {
                    let slot = self.bytes;
                    self.bytes += if class == Class::Vec as usize { self.cpu.vector_bytes() as i32 } else { 8 };
                    slot
                });
                let short = *renamed
                    .entry(*reg)
                    .or_insert_with(|| selected.regs.push(Info { class, fixed: None, short: true }));
                if read {
                    before.push(self.transfer(class, short, slot, false));
                }
                if written {
                    after.push(self.transfer(class, short, slot, true));
                }
                *reg = short;
            });
            self.stats.spills += before.len() + after.len();
            if hottest[at] {
                self.stats.hot_spills += before.len() + after.len();
            }
            selected.code.extend(before.into_iter().map(|inst| (inst, depth)));
            selected.code.push((inst, depth));
            selected.code.extend(after.into_iter().map(|inst| (inst, depth)));
        }
    }

    fn transfer(&self, class: usize, reg: Reg, disp: i32, store: bool) -> Inst {
        let mem = Operand::Mem(Mem { base: Base::Frame, disp, broadcast: false });
        let (load_code, store_code, width) = if class == Class::Gpr as usize {
            (Code::Mov_r64_rm64, Code::Mov_rm64_r64, Width::B8)
        } else if class == Class::Mask as usize {
            (Code::VEX_Kmovq_kr_km64, Code::VEX_Kmovq_m64_kr, Width::K)
        } else if self.cpu.evex {
            (table::MOVUPS.evex[2], table::MOVUPS_STORE.evex[2], Width::Z)
        } else {
            (table::MOVUPS.vex[1], table::MOVUPS_STORE.vex[1], Width::Y)
        };
        let reg = Operand::Reg(reg, width);
        let (code, operands) = if store { (store_code, vec![mem, reg]) } else { (load_code, vec![reg, mem]) };
        Inst::Op(Op { code, operands, writes: !store, reads: false, mask: None })
    }
}

/// Which instructions are inside an innermost loop: between its label and the branch back.
fn hot_depths(code: &[(Inst, u32)]) -> Vec<bool> {
    let mut hot = vec![false; code.len()];
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, (inst, _)) in code.iter().enumerate() {
        match inst {
            Inst::Label { label, hot: true } => {
                open.insert(*label, at);
            }
            Inst::Branch(_, label) => {
                if let Some(&from) = open.get(label) {
                    hot[from..=at].iter_mut().for_each(|h| *h = true);
                }
            }
            _ => {}
        }
    }
    hot
}
