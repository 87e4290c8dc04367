//! Instructions before registers are given out.

use iced_x86::Code;

use super::super::alloc::{Flow, Reg};
use super::super::registers::Instruction;

/// Register files: positions in the list that the allocator is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Class {
    /// General purpose.
    Gpr = 0,
    /// Vector.
    Vec = 1,
    /// Mask (`k1..k7`).
    Mask = 2,
}

/// How much of a register an operand means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cpu::emit) enum Width {
    /// 8 bits of a general register.
    B1,
    /// 16 bits of a general register.
    B2,
    /// 32 bits of a general register.
    B4,
    /// A general register.
    B8,
    /// 128 bits of a vector register.
    X,
    /// 256 bits of a vector register.
    Y,
    /// A 512-bit vector register.
    Z,
    /// A mask register.
    K,
}

impl Width {
    /// The narrowest vector width with room for so many bytes, which are at most 64.
    pub fn of_bytes(bytes: u32) -> Width {
        match bytes {
            0..=16 => Width::X,
            17..=32 => Width::Y,
            _ => Width::Z,
        }
    }

    /// Position in [`super::table::Codes`].
    pub fn index(self) -> usize {
        match self {
            Width::Y => 1,
            Width::Z => 2,
            _ => 0,
        }
    }

    /// Bytes of it.
    pub fn bytes(self) -> u32 {
        match self {
            Width::B1 => 1,
            Width::B2 => 2,
            Width::B4 => 4,
            Width::B8 | Width::K => 8,
            Width::X => 16,
            Width::Y => 32,
            Width::Z => 64,
        }
    }
}

/// Where memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Base {
    /// At a register.
    Reg(Reg),
    /// In this call's frame.
    Frame,
    /// Among the constants behind the code.
    Pool,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) struct Mem {
    pub base: Base,
    pub disp: i32,
    /// Whether one element is taken for all lanes by the instruction itself.
    pub broadcast: bool,
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Operand {
    Reg(Reg, Width),
    Mem(Mem),
    /// An immediate of 8 bits.
    Imm8(i64),
    /// An immediate of 32 bits, extended to 64.
    Imm32(i64),
    /// An immediate of 64 bits.
    Imm64(i64),
}

/// Conditions of branches, moves and sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Cc {
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    L,
    Ge,
    Le,
    G,
}

/// An instruction of the machine.
#[derive(Clone, Debug)]
pub(in crate::cpu::emit) struct Op {
    pub code: Code,
    pub operands: Vec<Operand>,
    /// Whether the first operand is written.
    pub writes: bool,
    /// Whether a written first operand is also read.
    pub reads: bool,
    /// Lanes that are written; the others stay, or become zero.
    pub mask: Option<(Reg, bool)>,
}

/// An instruction or what becomes some.
#[derive(Clone, Debug)]
pub(in crate::cpu::emit) enum Inst {
    Op(Op),
    /// One register to another of its class.
    Copy {
        to: Reg,
        from: Reg,
        width: Width,
    },
    /// Zeroes a vector register.
    Zero(Reg),
    /// The function's arguments arrive.
    Args([Reg; 4]),
    /// A place to jump to; `hot` ones are aligned.
    Label {
        label: u32,
        hot: bool,
    },
    Jump(u32),
    Branch(Cc, u32),
    /// `to = a / b`, signed, towards zero; `b` is positive.
    Div {
        to: Reg,
        a: Reg,
        b: Reg,
    },
    /// Leaves the function with that status.
    Return(i64),
}

impl Instruction for Inst {
    fn for_each_reg(&mut self, f: &mut dyn FnMut(&mut Reg, bool, bool)) {
        match self {
            Inst::Op(op) => {
                let (writes, reads) = (op.writes, op.reads);
                for (at, operand) in op.operands.iter_mut().enumerate() {
                    match operand {
                        Operand::Reg(reg, _) if at == 0 && writes => f(reg, reads, true),
                        Operand::Reg(reg, _) | Operand::Mem(Mem { base: Base::Reg(reg), .. }) => f(reg, true, false),
                        _ => {}
                    }
                }
                if let Some((mask, _)) = &mut op.mask {
                    f(mask, true, false);
                }
            }
            Inst::Copy { to, from, .. } => {
                f(from, true, false);
                f(to, false, true);
            }
            Inst::Zero(to) => f(to, false, true),
            Inst::Args(regs) => regs.iter_mut().for_each(|reg| f(reg, false, true)),
            Inst::Div { to, a, b } => {
                f(a, true, false);
                f(b, true, false);
                f(to, false, true);
            }
            Inst::Label { .. } | Inst::Jump(_) | Inst::Branch(..) | Inst::Return(_) => {}
        }
    }

    fn flow(&self) -> Flow {
        match self {
            Inst::Label { label, .. } => Flow::Label(*label),
            Inst::Jump(label) => Flow::Jump(*label),
            Inst::Branch(_, label) => Flow::Branch(*label),
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
}
