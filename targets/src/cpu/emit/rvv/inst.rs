//! Instructions before registers are given out.

use super::super::alloc::{Facts, Flow, Reg};
use super::isa::Code;

/// Register files: positions in the list that the allocator is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// General purpose.
    Gpr = 0,
    /// Floating point.
    Fpr = 1,
    /// Vector.
    Vec = 2,
}

/// A register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// One that the allocator chooses.
    Reg(Reg),
    /// That one of its file: `x0`, the stack pointer, the encoder's own, `v0`.
    Fixed(u8),
}

/// `x0`.
pub(super) const ZERO: Arg = Arg::Fixed(0);
/// The stack pointer.
pub(super) const SP: Arg = Arg::Fixed(2);
/// `t6`: free between any two instructions, so never given out.
pub(super) const TEMP: Arg = Arg::Fixed(31);
/// The vector register that selects lanes: free between any two operations of the kernel, so never given out.
pub(super) const V0: Arg = Arg::Fixed(0);

/// What an instruction needs of the vector type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
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
pub(super) struct Op {
    pub code: Code,
    /// In the order of its text.
    pub regs: Vec<Arg>,
    pub imm: i64,
    pub demand: Option<Demand>,
}

/// An instruction or what becomes some.
#[derive(Clone, Debug)]
pub(super) enum Inst {
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
    /// Calls `f` on every register that the allocator chooses, with whether it is read and whether it is written.
    pub fn for_each_reg(&mut self, mut f: impl FnMut(&mut Reg, bool, bool)) {
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
            Inst::Label { .. } | Inst::Jump(_) | Inst::SetType { .. } | Inst::Return(_) => {}
        }
    }

    /// Where control goes.
    pub fn flow(&self) -> Flow {
        match self {
            Inst::Label { label, .. } => Flow::Label(*label),
            Inst::Jump(label) => Flow::Jump(*label),
            Inst::Branch { label, .. } => Flow::Branch(*label),
            Inst::Return(_) => Flow::Return,
            _ => Flow::Next,
        }
    }

    /// What the allocator has to know: one entry, or a second one that reads the same registers again when the written one
    /// must be none of them.
    pub fn facts(&self, depth: u32, out: &mut Vec<Facts>) {
        let (mut uses, mut defs) = (Vec::new(), Vec::new());
        self.clone().for_each_reg(|reg, read, written| {
            if read {
                uses.push(*reg);
            }
            if written {
                defs.push(*reg);
            }
        });
        let apart = matches!(self, Inst::Op(op) if op.code.apart());
        let again: Vec<Reg> = uses.iter().copied().filter(|reg| apart && !defs.contains(reg)).collect();
        out.push(Facts { uses, defs, copies: matches!(self, Inst::Copy { .. }), flow: self.flow(), depth });
        if apart {
            out.push(Facts { uses: again, defs: Vec::new(), copies: false, flow: Flow::Next, depth });
        }
    }
}

/// Whether a number fits the immediates of 12 bits.
pub(super) fn fits12(value: i64) -> bool {
    (-2048..2048).contains(&value)
}
