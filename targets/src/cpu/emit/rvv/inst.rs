//! Instructions before registers are given out.

use super::super::alloc::{Flow, Reg};
use super::super::registers::Instruction;
use super::isa::Code;

/// Register files: positions in the list that the allocator is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Class {
    /// General purpose.
    Gpr = 0,
    /// Floating point.
    Fpr = 1,
    /// Vector.
    Vec = 2,
}

/// A register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Arg {
    /// One that the allocator chooses.
    Reg(Reg),
    /// That one of its file: `x0`, the stack pointer, the encoder's own, `v0`.
    Fixed(u8),
}

/// `x0`.
pub(super) const ZERO: Arg = Arg::Fixed(0);
/// The vector register that selects lanes: free between any two operations of the kernel, so never given out.
pub(super) const V0: Arg = Arg::Fixed(0);

/// What an instruction needs of the vector type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Demand {
    /// Elements of so many bytes in the `1 / 2^eighths`th part of a register, and so many lanes.
    Exact { bytes: u8, eighths: u8, lanes: u16 },
    /// A load or store of so many lanes of so many bytes: its element may differ from that of the type.
    Memory { bytes: u8, lanes: u16 },
    /// So many lanes of whatever element: masks.
    Lanes(u16),
    /// One element of so many bytes; the lanes do not matter.
    Element(u8),
}

/// An instruction of the machine.
#[derive(Clone, Debug)]
pub(in crate::cpu::emit) struct Op {
    pub code: Code,
    /// In the order of its text.
    pub regs: Vec<Arg>,
    pub imm: i64,
    pub demand: Option<Demand>,
}

/// An instruction or what becomes some.
#[derive(Clone, Debug)]
pub(in crate::cpu::emit) enum Inst {
    Op(Op),
    /// One register to another of its class.
    Copy {
        to: Reg,
        from: Reg,
        class: Class,
    },
    /// The function's arguments arrive.
    Args([Reg; 4]),
    /// A place to jump to; `hot` ones head innermost loops and are aligned.
    Label {
        label: u32,
        hot: bool,
    },
    Jump(u32),
    /// There if the comparison (one of the conditional branches) holds.
    Branch {
        code: Code,
        a: Arg,
        b: Arg,
        label: u32,
    },
    /// A number.
    Number {
        to: Arg,
        value: i64,
    },
    /// `to = base + by`, whatever fits no instruction included.
    AddNumber {
        to: Arg,
        base: Arg,
        by: i64,
    },
    /// The address of a constant behind the code.
    Pool {
        to: Arg,
        offset: i32,
    },
    /// `to = a` if `flag` is not zero, else `b`; all of one class but the flag.
    Choose {
        to: Reg,
        flag: Reg,
        a: Reg,
        b: Reg,
        class: Class,
    },
    /// Moves a register to or from the frame; `words` of a vector register, 0 of others.
    Frame {
        reg: Reg,
        class: Class,
        disp: i32,
        words: u16,
        store: bool,
    },
    /// The vector type and length from here on.
    SetType {
        bytes: u8,
        eighths: u8,
        lanes: u16,
    },
    /// Leaves the function with that status.
    Return(i64),
}

impl Inst {
    /// What it needs of the vector type and length.
    pub fn demand(&self) -> Option<Demand> {
        match self {
            Inst::Op(op) => op.demand,
            // What lies beyond the length that the code is made for is of no value.
            Inst::Frame { words: lanes @ 1.., .. } => Some(Demand::Memory { bytes: 8, lanes: *lanes }),
            _ => None,
        }
    }
}

impl Instruction for Inst {
    fn for_each_reg(&mut self, f: &mut dyn FnMut(&mut Reg, bool, bool)) {
        let mut arg = |arg: &mut Arg, read: bool, written: bool| {
            if let Arg::Reg(reg) = arg {
                f(reg, read, written);
            }
        };
        match self {
            Inst::Op(op) => {
                let (writes, updates) = (op.code.writes(), op.code.updates());
                for (at, operand) in op.regs.iter_mut().enumerate() {
                    if at == 0 && writes { arg(operand, updates, true) } else { arg(operand, true, false) }
                }
            }
            Inst::Copy { to, from, .. } => {
                f(from, true, false);
                f(to, false, true);
            }
            Inst::Args(regs) => regs.iter_mut().for_each(|reg| f(reg, false, true)),
            Inst::Branch { a, b, .. } => {
                arg(a, true, false);
                arg(b, true, false);
            }
            Inst::Number { to, .. } | Inst::Pool { to, .. } => arg(to, false, true),
            Inst::AddNumber { to, base, .. } => {
                arg(base, true, false);
                arg(to, false, true);
            }
            Inst::Choose { to, flag, a, b, .. } => {
                [flag, a, b].into_iter().for_each(|reg| f(reg, true, false));
                f(to, false, true);
            }
            Inst::Frame { reg, store, .. } => f(reg, *store, !*store),
            Inst::Label { .. } | Inst::Jump(_) | Inst::SetType { .. } | Inst::Return(_) => {}
        }
    }

    fn flow(&self) -> Flow {
        match self {
            Inst::Label { label, .. } => Flow::Label(*label),
            Inst::Jump(label) => Flow::Jump(*label),
            Inst::Branch { label, .. } => Flow::Branch(*label),
            Inst::Return(_) => Flow::Return,
            _ => Flow::Next,
        }
    }

    fn copies(&self) -> bool {
        matches!(self, Inst::Copy { .. })
    }

    fn opens_hot_loop(&self) -> bool {
        matches!(self, Inst::Label { hot: true, .. })
    }

    fn repeats(&self) -> bool {
        matches!(self, Inst::Number { .. } | Inst::Pool { .. })
    }

    fn keeps_apart(&self) -> bool {
        matches!(self, Inst::Op(op) if op.code.apart())
    }
}

/// Whether a number fits the immediates of 12 bits.
pub(super) fn fits12(value: i64) -> bool {
    (-2048..2048).contains(&value)
}
