//! Instructions before registers are given out.

use super::super::alloc::{Flow, Reg};
use super::super::registers::Instruction;
use super::code::{Code, Role};
use super::ops::{Cond, Size};

/// Register files: positions in the list that the allocator is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Class {
    /// General purpose.
    Gpr = 0,
    /// Vector.
    Vec = 1,
}

/// Memory: bytes past a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mem {
    pub base: Reg,
    pub disp: i32,
}

/// An instruction or what becomes some.
#[derive(Clone, Debug)]
pub(in crate::cpu::emit) enum Inst {
    /// With its registers in order.
    Op(Code, Vec<Reg>),
    /// Reads a constant from so many bytes into the pool behind the code.
    Constant {
        to: Reg,
        size: Size,
        at: u32,
    },
    /// Moves a register to or from the frame.
    Frame {
        reg: Reg,
        class: Class,
        disp: i32,
        store: bool,
    },
    /// One register to another of its class.
    Copy {
        to: Reg,
        from: Reg,
        class: Class,
    },
    /// The function's arguments arrive.
    Args([Reg; 4]),
    /// A place to jump to; `hot` ones are aligned.
    Label {
        label: u32,
        hot: bool,
    },
    Jump(u32),
    Branch(Cond, u32),
    /// Where the register is not zero.
    BranchNonZero(Reg, u32),
    /// Leaves the function with that status.
    Return(i64),
}

impl Inst {
    /// Whether it sets the flags that conditions read.
    pub fn sets_flags(&self) -> bool {
        matches!(self, Inst::Op(Code::Fcmp(_) | Code::Cmp | Code::CmpImm(_) | Code::CmnImm(_), _))
    }

    /// Whether it depends on flags.
    pub fn reads_flags(&self) -> bool {
        matches!(self, Inst::Op(Code::Fcsel(..) | Code::Csel(_) | Code::Cset(_), _) | Inst::Branch(..))
    }
}

impl Instruction for Inst {
    fn for_each_reg(&mut self, f: &mut dyn FnMut(&mut Reg, bool, bool)) {
        match self {
            Inst::Op(code, regs) => {
                for (reg, role) in regs.iter_mut().zip(code.roles()) {
                    f(reg, *role != Role::Write, *role != Role::Read);
                }
            }
            Inst::Constant { to, .. } => f(to, false, true),
            Inst::Frame { reg, store, .. } => f(reg, *store, !*store),
            Inst::Copy { to, from, .. } => {
                f(from, true, false);
                f(to, false, true);
            }
            Inst::Args(regs) => regs.iter_mut().for_each(|reg| f(reg, false, true)),
            Inst::BranchNonZero(reg, _) => f(reg, true, false),
            Inst::Label { .. } | Inst::Jump(_) | Inst::Branch(..) | Inst::Return(_) => {}
        }
    }

    fn flow(&self) -> Flow {
        match self {
            Inst::Label { label, .. } => Flow::Label(*label),
            Inst::Jump(label) => Flow::Jump(*label),
            Inst::Branch(_, label) | Inst::BranchNonZero(_, label) => Flow::Branch(*label),
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
        matches!(
            self,
            Inst::Constant { .. } | Inst::Op(Code::Movi(_) | Code::Zero | Code::Movz(..) | Code::Movn(..), _)
        )
    }
}
