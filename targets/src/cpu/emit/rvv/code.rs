//! Instructions under selection: registers, constants that are made once, arithmetic of addresses.

use std::collections::BTreeMap;

use cranelift_entity::PrimaryMap;

use super::super::address::Scalars;
use super::super::alloc::{Info, Reg};
use super::inst::{Arg, Class, Demand, Inst, Op, ZERO, fits12};
use super::isa::Code;
use super::{Selected, info};

/// Constants that are kept in registers of each kind.
const KEPT: usize = 12;
/// The same of floats, which have registers of their own.
const KEPT_FLOATS: usize = 16;

/// A 64-bit integer: in a register that is never written again, or known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gp {
    Reg(Reg),
    Num(i64),
}

/// Instructions so far.
#[derive(Default)]
pub(super) struct Insts {
    insts: Vec<(Inst, u32)>,
    /// Where the kernel's statements start.
    first: usize,
    /// What is computed once, at the start.
    head: Vec<Inst>,
    pub regs: PrimaryMap<Reg, Info>,
    /// Loops around.
    pub depth: u32,
    labels: u32,
    pool: Vec<u8>,
    /// What is among the constants, with its place.
    pooled: Vec<(Vec<u8>, i32)>,
    numbers: BTreeMap<i64, Reg>,
    floats: BTreeMap<(u64, u8), Reg>,
}

impl Insts {
    pub fn reg(&mut self, class: Class) -> Reg {
        self.regs.push(info(class))
    }

    pub fn push(&mut self, inst: Inst) {
        self.insts.push((inst, self.depth));
    }

    /// An instruction that is none of vectors.
    pub fn op(&mut self, code: Code, regs: &[Arg], imm: i64) {
        self.push(Inst::Op(Op { code, regs: regs.to_vec(), imm, demand: None }));
    }

    /// One of vectors.
    pub fn vector(&mut self, code: Code, regs: &[Arg], imm: i64, demand: Demand) {
        self.push(Inst::Op(Op { code, regs: regs.to_vec(), imm, demand: Some(demand) }));
    }

    /// A copy in a new register.
    pub fn copy(&mut self, from: Reg, class: Class) -> Reg {
        let to = self.reg(class);
        self.push(Inst::Copy { to, from, class });
        to
    }

    /// What is computed once comes here.
    pub fn start(&mut self) {
        self.first = self.insts.len();
    }

    pub fn finish(mut self) -> Selected {
        let head = self.head.into_iter().map(|inst| (inst, 0));
        self.insts.splice(self.first..self.first, head);
        Selected { code: self.insts, regs: self.regs, labels: self.labels as usize, pool: self.pool }
    }

    pub fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels - 1
    }

    /// The place of a constant among the others.
    pub fn pool(&mut self, bytes: &[u8]) -> i32 {
        if let Some((_, at)) = self.pooled.iter().find(|(b, _)| b == bytes) {
            return *at;
        }
        self.pool.resize(self.pool.len().next_multiple_of(8), 0);
        let at = i32::try_from(self.pool.len()).expect("constants of a kernel are few");
        self.pool.extend_from_slice(bytes);
        self.pooled.push((bytes.to_vec(), at));
        at
    }

    /// A number in a register that is never written again.
    pub fn number_reg(&mut self, value: i64) -> Reg {
        if let Some(&reg) = self.numbers.get(&value) {
            return reg;
        }
        let to = self.reg(Class::Gpr);
        let inst = Inst::Number { to: Arg::Reg(to), value };
        if self.numbers.len() < KEPT {
            self.numbers.insert(value, to);
            self.head.push(inst);
        } else {
            self.push(inst);
        }
        to
    }

    /// A float of so many bytes in a register that is never written again.
    pub fn float_reg(&mut self, bits: u64, bytes: u8) -> Reg {
        if let Some(&reg) = self.floats.get(&(bits, bytes)) {
            return reg;
        }
        let to = self.reg(Class::Fpr);
        let value = if bytes == 4 { i64::from(bits as u32 as i32) } else { bits as i64 };
        let code = if bytes == 4 { Code::FmvWX } else { Code::FmvDX };
        let mut insts = Vec::new();
        let from = if value == 0 {
            ZERO
        } else {
            let from = Arg::Reg(self.reg(Class::Gpr));
            insts.push(Inst::Number { to: from, value });
            from
        };
        insts.push(Inst::Op(Op { code, regs: vec![Arg::Reg(to), from], imm: 0, demand: None }));
        if self.floats.len() < KEPT_FLOATS {
            self.floats.insert((bits, bytes), to);
            self.head.extend(insts);
        } else {
            insts.into_iter().for_each(|inst| self.push(inst));
        }
        to
    }
}

impl Insts {
    /// In a register.
    pub fn gp_reg(&mut self, value: Gp) -> Reg {
        match value {
            Gp::Reg(reg) => reg,
            Gp::Num(number) => self.number_reg(number),
        }
    }

    /// As an operand: zero has a register of its own.
    pub fn gp_arg(&mut self, value: Gp) -> Arg {
        match value {
            Gp::Num(0) => ZERO,
            value => Arg::Reg(self.gp_reg(value)),
        }
    }

    /// `to = value`.
    pub fn set(&mut self, to: Reg, value: Gp) {
        match value {
            Gp::Reg(from) => self.push(Inst::Copy { to, from, class: Class::Gpr }),
            Gp::Num(value) => self.push(Inst::Number { to: Arg::Reg(to), value }),
        }
    }

    /// `to = a + by`; `to` may be `a`.
    pub fn set_add(&mut self, to: Reg, a: Gp, by: i64) {
        match a {
            Gp::Num(a) => self.set(to, Gp::Num(a.wrapping_add(by))),
            Gp::Reg(a) if a == to && by == 0 => {}
            Gp::Reg(a) => self.push(Inst::AddNumber { to: Arg::Reg(to), base: Arg::Reg(a), by }),
        }
    }

    /// `a op b` in a new register.
    pub fn alu(&mut self, code: Code, a: Gp, b: Gp) -> Gp {
        let (a, b) = (self.gp_arg(a), self.gp_arg(b));
        let to = self.reg(Class::Gpr);
        self.op(code, &[Arg::Reg(to), a, b], 0);
        Gp::Reg(to)
    }

    /// `a op imm` in a new register; the number fits.
    pub fn alu_imm(&mut self, code: Code, a: Gp, imm: i64) -> Gp {
        let a = self.gp_arg(a);
        let to = self.reg(Class::Gpr);
        self.op(code, &[Arg::Reg(to), a], imm);
        Gp::Reg(to)
    }

    /// `a`, or `b` where the flag is zero.
    pub fn choose(&mut self, flag: Gp, a: Reg, b: Reg, class: Class) -> Reg {
        let (flag, to) = (self.gp_reg(flag), self.reg(class));
        self.push(Inst::Choose { to, flag, a, b, class });
        to
    }

    /// An address that a displacement of 12 bits reaches.
    pub fn near(&mut self, base: Arg, disp: i64) -> (Arg, i64) {
        if fits12(disp) { (base, disp) } else { (self.far(base, disp), 0) }
    }

    /// The sum in a register.
    pub fn far(&mut self, base: Arg, disp: i64) -> Arg {
        if disp == 0 {
            return base;
        }
        let to = Arg::Reg(self.reg(Class::Gpr));
        self.push(Inst::AddNumber { to, base, by: disp });
        to
    }

    /// 1 if `a < b`, else 0.
    pub fn less(&mut self, a: Gp, b: Gp, signed: bool) -> Gp {
        self.alu(if signed { Code::Slt } else { Code::Sltu }, a, b)
    }

    /// The smaller or the larger one.
    pub fn limit(&mut self, a: Gp, b: Gp, larger: bool, signed: bool) -> Gp {
        let first = if larger { self.less(b, a, signed) } else { self.less(a, b, signed) };
        let (a, b) = (self.gp_reg(a), self.gp_reg(b));
        Gp::Reg(self.choose(first, a, b, Class::Gpr))
    }
}

/// Arithmetic of extents and addresses; what is known stays a number.
impl Scalars for Insts {
    type Value = Gp;

    fn number(&mut self, value: i64) -> Gp {
        Gp::Num(value)
    }

    fn add(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (a, Gp::Num(by)) | (Gp::Num(by), a) => self.add_number(a, by),
            (a, b) => self.alu(Code::Add, a, b),
        }
    }

    fn add_number(&mut self, a: Gp, by: i64) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a.wrapping_add(by)),
            a if by == 0 => a,
            a => {
                let to = self.reg(Class::Gpr);
                self.set_add(to, a, by);
                Gp::Reg(to)
            }
        }
    }

    fn mul(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (a, Gp::Num(by)) | (Gp::Num(by), a) => self.mul_number(a, by),
            (a, b) => self.alu(Code::Mul, a, b),
        }
    }

    fn mul_number(&mut self, a: Gp, by: i64) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a.wrapping_mul(by)),
            a if by > 0 && by & (by - 1) == 0 => self.alu_imm(Code::Slli, a, by.trailing_zeros().into()),
            a => self.alu(Code::Mul, a, Gp::Num(by)),
        }
    }

    fn shift_right(&mut self, a: Gp, by: u32) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a >> by),
            a if by == 0 => a,
            a => self.alu_imm(Code::Srai, a, by.into()),
        }
    }

    fn min(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (Gp::Num(a), Gp::Num(b)) => Gp::Num(a.min(b)),
            (a, b) => self.limit(a, b, false, true),
        }
    }

    fn max(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (Gp::Num(a), Gp::Num(b)) => Gp::Num(a.max(b)),
            (a, b) => self.limit(a, b, true, true),
        }
    }

    fn floor_div(&mut self, a: Gp, b: Gp) -> Gp {
        if let (Gp::Num(a), Gp::Num(b)) = (a, b) {
            return Gp::Num(a.div_euclid(b.max(1)));
        }
        let divisor = self.max(b, Gp::Num(1));
        let quotient = self.alu(Code::Div, a, divisor);
        // Down: one less where the product is above the dividend.
        let product = self.alu(Code::Mul, quotient, divisor);
        let above = self.less(a, product, true);
        self.alu(Code::Sub, quotient, above)
    }
}
