//! Registers for selected code: allocation in rounds, between which what found no place moves to the frame. There, every
//! read loads into a short-lived register and every write stores from one; a constant is made again instead.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::{PrimaryMap, SecondaryMap};

use super::alloc::{Facts, Flow, Info, Outcome, Reg, allocate};

/// Rounds of spilling before giving up; one or two are the rule.
const ROUNDS: usize = 12;

/// An instruction on virtual registers.
pub(super) trait Instruction: Clone {
    /// Calls `f` on every register with whether it is read and whether it is written.
    fn for_each_reg(&mut self, f: &mut dyn FnMut(&mut Reg, bool, bool));
    /// Where control goes.
    fn flow(&self) -> Flow;
    /// Whether it only copies one register to another.
    fn copies(&self) -> bool;
    /// Whether an innermost loop starts here.
    fn opens_hot_loop(&self) -> bool;
    /// Whether it makes a constant, and may be repeated wherever that is needed.
    fn repeats(&self) -> bool {
        false
    }
    /// Whether the registers that it writes must be none of those that it only reads.
    fn keeps_apart(&self) -> bool {
        false
    }
}

/// A machine's registers and frame.
pub(super) trait Registers {
    /// Its instructions.
    type Inst: Instruction;
    /// Registers of each class, in order of preference.
    fn files(&self) -> Vec<&[u8]>;
    /// Bytes of a register in the frame.
    fn slot_bytes(&self, class: usize) -> i32;
    /// Moves a register from (or to) so many bytes into the frame.
    fn transfer(&self, class: usize, reg: Reg, disp: i32, store: bool) -> Self::Inst;
}

/// A kernel with virtual registers; instructions with the number of loops around them.
pub(super) struct Selected<I> {
    pub code: Vec<(I, u32)>,
    pub regs: PrimaryMap<Reg, Info>,
    pub labels: usize,
    pub pool: Vec<u8>,
}

/// What became of a kernel, for tests and listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions inside innermost loops that move registers to or from the frame.
    pub hot_spills: usize,
    /// All such instructions.
    pub spills: usize,
}

/// The frame of a function.
pub(super) struct Frame {
    bytes: i32,
    pub stats: Stats,
}

impl<I: Instruction> Selected<I> {
    /// What the allocator has to know of every instruction: an entry for each, and one more that reads the same registers
    /// again where they are kept apart from those written.
    pub fn facts(&self) -> Vec<Facts> {
        self.code.iter().flat_map(|(inst, depth)| facts(inst, *depth)).collect()
    }
}

impl Frame {
    /// A frame that begins with so many bytes for something else.
    pub fn new(bytes: i32) -> Self {
        Self { bytes, stats: Stats::default() }
    }

    /// Bytes to reserve.
    pub fn bytes(&self) -> i32 {
        (self.bytes + 15) / 16 * 16
    }

    /// A machine register for every virtual one; `None` when some fit nowhere.
    pub fn give_out<R: Registers>(
        &mut self,
        machine: &R,
        selected: &mut Selected<R::Inst>,
    ) -> Option<SecondaryMap<Reg, u8>> {
        let files = machine.files();
        for _ in 0..ROUNDS {
            match allocate(&selected.facts(), &selected.regs, &files) {
                Outcome::Done(regs) => return Some(regs),
                Outcome::Spill(regs) => self.spill(machine, selected, &regs),
            }
        }
        None
    }

    /// Moves these registers to the frame.
    fn spill<R: Registers>(&mut self, machine: &R, selected: &mut Selected<R::Inst>, spilled: &BTreeSet<Reg>) {
        let hottest = hot_depths(&selected.code);
        let constants = constants(&selected.code, spilled);
        let mut slots: BTreeMap<Reg, i32> = BTreeMap::new();
        let code = std::mem::take(&mut selected.code);
        for (at, (mut inst, depth)) in code.into_iter().enumerate() {
            let (mut before, mut after) = (Vec::new(), Vec::new());
            let mut renamed: BTreeMap<Reg, Reg> = BTreeMap::new();
            let (mut moved, mut defines) = (0, false);
            inst.for_each_reg(&mut |reg, read, written| {
                if !spilled.contains(reg) {
                    return;
                }
                let constant = constants.get(reg);
                if written && constant.is_some() {
                    defines = true;
                    return;
                }
                let class = selected.regs[*reg].class;
                let short = *renamed
                    .entry(*reg)
                    .or_insert_with(|| selected.regs.push(Info { class, fixed: None, short: true }));
                if let Some(constant) = constant {
                    before.push(with_result(constant, short));
                } else {
                    let slot = *slots.entry(*reg).or_insert_with(|| {
                        let (bytes, slot) = (machine.slot_bytes(class), self.bytes);
                        self.bytes += bytes;
                        slot
                    });
                    moved += usize::from(read) + usize::from(written);
                    if read {
                        before.push(machine.transfer(class, short, slot, false));
                    }
                    if written {
                        after.push(machine.transfer(class, short, slot, true));
                    }
                }
                *reg = short;
            });
            self.stats.spills += moved;
            if hottest[at] {
                self.stats.hot_spills += moved;
            }
            // A constant that is made where it is used is not made here.
            let kept = (!defines).then_some(inst);
            selected.code.extend(before.into_iter().chain(kept).chain(after).map(|inst| (inst, depth)));
        }
    }
}

/// What makes each of these registers, where that is one instruction that may be repeated.
fn constants<I: Instruction>(code: &[(I, u32)], spilled: &BTreeSet<Reg>) -> BTreeMap<Reg, I> {
    let mut makers: BTreeMap<Reg, Option<I>> = BTreeMap::new();
    for (inst, _) in code {
        inst.clone().for_each_reg(&mut |reg, _, written| {
            if written && spilled.contains(reg) {
                let first = !makers.contains_key(reg);
                makers.insert(*reg, Some(inst.clone()).filter(|inst| first && inst.repeats()));
            }
        });
    }
    makers.into_iter().filter_map(|(reg, maker)| Some((reg, maker?))).collect()
}

/// The same into another register.
fn with_result<I: Instruction>(inst: &I, to: Reg) -> I {
    let mut inst = inst.clone();
    inst.for_each_reg(&mut |reg, _, written| {
        if written {
            *reg = to;
        }
    });
    inst
}

fn facts<I: Instruction>(inst: &I, depth: u32) -> impl Iterator<Item = Facts> {
    let (mut uses, mut defs) = (Vec::new(), Vec::new());
    inst.clone().for_each_reg(&mut |reg, read, written| {
        if read {
            uses.push(*reg);
        }
        if written {
            defs.push(*reg);
        }
    });
    let again = inst.keeps_apart().then(|| {
        let uses = uses.iter().copied().filter(|reg| !defs.contains(reg)).collect();
        Facts { uses, defs: Vec::new(), copies: false, flow: Flow::Next, depth }
    });
    std::iter::once(Facts { uses, defs, copies: inst.copies(), flow: inst.flow(), depth }).chain(again)
}

/// Which instructions are inside an innermost loop: between its label and the branch back.
pub(super) fn hot_depths<I: Instruction>(code: &[(I, u32)]) -> Vec<bool> {
    let mut hot = vec![false; code.len()];
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, (inst, _)) in code.iter().enumerate() {
        match inst.flow() {
            Flow::Label(label) if inst.opens_hot_loop() => {
                open.insert(label, at);
            }
            Flow::Branch(label) => {
                if let Some(&from) = open.get(&label) {
                    hot[from..=at].iter_mut().for_each(|h| *h = true);
                }
            }
            _ => {}
        }
    }
    hot
}
