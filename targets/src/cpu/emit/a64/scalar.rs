//! Integers in general registers.

use super::super::address::Scalars;
use super::super::alloc::Reg;
use super::body::{Body, Part, Selection, int_cond};
use super::code::Code;
use super::inst::{Class, Inst, Mem};
use super::ops::{Cond, Size, X3};
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// A 64-bit integer: in a register that is never written again, or known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gp {
    Reg(Reg),
    Num(i64),
}

impl Selection {
    /// In a register.
    pub fn gp_reg(&mut self, value: Gp) -> Reg {
        match value {
            Gp::Reg(reg) => reg,
            Gp::Num(number) => self.number_reg(number),
        }
    }

    /// `to = value`.
    pub fn set(&mut self, to: Reg, value: Gp) {
        match value {
            Gp::Reg(from) => self.push(Inst::Copy { to, from, class: Class::Gpr }),
            Gp::Num(number) => number_insts(to, number).into_iter().for_each(|inst| self.push(inst)),
        }
    }

    /// `to = a + by`; `to` may be `a`.
    pub fn set_add(&mut self, to: Reg, a: Gp, by: i64) {
        let a = match a {
            Gp::Num(a) => return self.set(to, Gp::Num(a.wrapping_add(by))),
            Gp::Reg(a) => a,
        };
        let code = |part: u64, high| {
            let part = part as u16;
            if by < 0 { Code::SubImm(part, high) } else { Code::AddImm(part, high) }
        };
        match by.unsigned_abs() {
            0 if to == a => {}
            0 => self.push(Inst::Copy { to, from: a, class: Class::Gpr }),
            far if far < 1 << 12 => self.op(code(far, false), &[to, a]),
            far if far < 1 << 24 => {
                self.op(code(far >> 12, true), &[to, a]);
                if far & 4095 != 0 {
                    self.op(code(far & 4095, false), &[to, to]);
                }
            }
            _ => {
                let by = self.gp_reg(Gp::Num(by));
                self.op(Code::X3(X3::Add), &[to, a, by]);
            }
        }
    }

    /// `a op b` in a new register.
    pub fn alu(&mut self, op: X3, a: Reg, b: Reg) -> Reg {
        self.new_x(Code::X3(op), &[a, b])
    }

    /// A new general register with the result of that instruction.
    pub fn new_x(&mut self, code: Code, from: &[Reg]) -> Reg {
        let to = self.reg(Class::Gpr);
        let regs: Vec<Reg> = [to].into_iter().chain(from.iter().copied()).collect();
        self.op(code, &regs);
        to
    }

    /// `a * by` in a new register.
    pub fn times(&mut self, a: Reg, by: i64) -> Reg {
        if by > 1 && by & (by - 1) == 0 {
            return self.new_x(Code::LslImm(by.trailing_zeros() as u8), &[a]);
        }
        let by = self.gp_reg(Gp::Num(by));
        self.alu(X3::Mul, a, by)
    }

    /// Sets flags by `a - b`.
    pub fn compare(&mut self, a: Gp, b: Gp) {
        let a = self.gp_reg(a);
        match b {
            Gp::Num(b @ 0..4096) => self.op(Code::CmpImm(b as u16), &[a]),
            Gp::Num(b @ -4095..0) => self.op(Code::CmnImm(b.unsigned_abs() as u16), &[a]),
            b => {
                let b = self.gp_reg(b);
                self.op(Code::Cmp, &[a, b]);
            }
        }
    }

    /// `a` where the condition holds between it and `b`, else `b`.
    pub fn choose(&mut self, cond: Cond, a: Gp, b: Gp) -> Gp {
        if let (Gp::Num(x), Gp::Num(y)) = (a, b) {
            return Gp::Num(if cond == Cond::Lt { x.min(y) } else { x.max(y) });
        }
        let (a, b) = (self.gp_reg(a), self.gp_reg(b));
        self.op(Code::Cmp, &[a, b]);
        Gp::Reg(self.new_x(Code::Csel(cond), &[a, b]))
    }

    /// 1 in a new register where the flags say so, else 0.
    pub fn flag(&mut self, cond: Cond) -> Reg {
        self.new_x(Code::Cset(cond), &[])
    }
}

/// What sets a register to a number.
pub(super) fn number_insts(to: Reg, number: i64) -> Vec<Inst> {
    let quarter = |value: i64, at: u8| (value >> (16 * u32::from(at))) as u16;
    let places = |value: i64| (0..4u8).filter(move |&at| quarter(value, at) != 0);
    let negative = places(!number).count() < places(number).count();
    // The complement has fewer quarters to set.
    let shown = if negative { !number } else { number };
    let first = places(shown).next().unwrap_or(0);
    let start =
        if negative { Code::Movn(quarter(shown, first), first) } else { Code::Movz(quarter(shown, first), first) };
    let mut insts = vec![Inst::Op(start, vec![to])];
    for at in places(shown).filter(|&at| at != first) {
        insts.push(Inst::Op(Code::Movk(quarter(number, at), at), vec![to]));
    }
    insts
}

impl Body<'_> {
    /// A scalar integer or mask; bits past its element are anything.
    pub fn gp(&mut self, part: &Part, elem: Elem) -> Gp {
        match part {
            Part::Int(number) => Gp::Num(*number),
            part => Gp::Reg(self.reg(part, Type::scalar(elem))),
        }
    }

    /// The same in a register.
    pub fn gpr(&mut self, part: &Part, elem: Elem) -> Reg {
        let value = self.gp(part, elem);
        self.code.gp_reg(value)
    }

    /// A scalar integer, extended to 64 bits.
    pub fn extended(&mut self, part: &Part, elem: Elem, signed: bool) -> Gp {
        let bits = elem.bits();
        match self.gp(part, elem) {
            Gp::Num(number) => {
                let shift = 64 - bits;
                Gp::Num(if signed { number << shift >> shift } else { ((number as u64) << shift >> shift) as i64 })
            }
            value if bits == 64 => value,
            Gp::Reg(from) => {
                let code = if signed { Code::Sbfx(bits as u8) } else { Code::Ubfx(bits as u8) };
                Gp::Reg(self.code.new_x(code, &[from]))
            }
        }
    }

    pub fn part(value: Gp) -> Part {
        match value {
            Gp::Reg(reg) => Part::Reg(reg),
            Gp::Num(number) => Part::Int(number),
        }
    }

    pub fn store_scalar_int(&mut self, elem: Elem, part: &Part, mem: Mem) {
        let reg = self.gpr(part, elem);
        let size = Size::of_bytes(elem.bytes());
        let Mem { base, disp } = self.code.reach(mem, size);
        self.code.op(Code::StoreX(size, disp), &[reg, base]);
    }

    pub fn scalar_un(&mut self, op: UnOp, elem: Elem, a: &Part) -> Result<Part, CodegenError> {
        if elem.is_mask() {
            let (a, one) = (self.gpr(a, elem), self.code.gp_reg(Gp::Num(1)));
            return Ok(Part::Reg(self.code.alu(X3::Eor, a, one)));
        }
        let zero = |s: &mut Self| s.code.gp_reg(Gp::Num(0));
        Ok(Part::Reg(match op {
            UnOp::Neg => {
                let (zero, a) = (zero(self), self.gpr(a, elem));
                self.code.alu(X3::Sub, zero, a)
            }
            UnOp::Not => {
                let (ones, a) = (self.code.gp_reg(Gp::Num(-1)), self.gpr(a, elem));
                self.code.alu(X3::Eor, a, ones)
            }
            UnOp::Abs => {
                let a = self.extended(a, elem, true);
                let (zero, a) = (zero(self), self.code.gp_reg(a));
                let negated = self.code.alu(X3::Sub, zero, a);
                // Wraps for the smallest value of 64 bits; of fewer, the upper bits do not count.
                self.code.op(Code::CmpImm(0), &[a]);
                self.code.new_x(Code::Csel(Cond::Lt), &[negated, a])
            }
            _ => return self.no(format!("scalar {op}")),
        }))
    }

    pub fn scalar_bin(&mut self, op: BinOp, elem: Elem, a: &Part, b: &Part) -> Result<Part, CodegenError> {
        let plain = match op {
            BinOp::Add => Some(X3::Add),
            BinOp::Sub => Some(X3::Sub),
            BinOp::Mul => Some(X3::Mul),
            BinOp::And => Some(X3::And),
            BinOp::Or => Some(X3::Orr),
            BinOp::Xor => Some(X3::Eor),
            _ => None,
        };
        if let Some(op) = plain {
            let (a, b) = (self.gpr(a, elem), self.gpr(b, elem));
            return Ok(Part::Reg(self.code.alu(op, a, b)));
        }
        let signed = matches!(op, BinOp::MinS | BinOp::MaxS | BinOp::DivS | BinOp::RemS);
        let (a, b) = (self.extended(a, elem, signed), self.extended(b, elem, signed));
        let (a, b) = (self.code.gp_reg(a), self.code.gp_reg(b));
        let cond = match op {
            BinOp::MinS => Cond::Lt,
            BinOp::MaxS => Cond::Gt,
            BinOp::MinU => Cond::Lo,
            BinOp::MaxU => Cond::Hi,
            BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU => return Ok(Part::Reg(self.divide(op, a, b))),
            _ => return self.no(format!("scalar {op}")),
        };
        self.code.op(Code::Cmp, &[a, b]);
        Ok(Part::Reg(self.code.new_x(Code::Csel(cond), &[a, b])))
    }

    /// The instructions give 0 for a zero divisor, and wrap.
    fn divide(&mut self, op: BinOp, a: Reg, b: Reg) -> Reg {
        let signed = matches!(op, BinOp::DivS | BinOp::RemS);
        let quotient = self.code.alu(if signed { X3::Sdiv } else { X3::Udiv }, a, b);
        if matches!(op, BinOp::DivS | BinOp::DivU) {
            return quotient;
        }
        let rest = self.code.new_x(Code::Msub, &[quotient, b, a]);
        // The rest of a division by zero is zero here.
        self.code.op(Code::CmpImm(0), &[b]);
        self.code.new_x(Code::Csel(Cond::Eq), &[b, rest])
    }

    pub fn scalar_shift(&mut self, op: Shift, elem: Elem, a: &Part, by: &Part) -> Part {
        let bits = elem.bits();
        let a = match op {
            Shift::Left => self.gp(a, elem),
            Shift::RightS => self.extended(a, elem, true),
            Shift::RightU => self.extended(a, elem, false),
        };
        let a = self.code.gp_reg(a);
        if let Part::Int(by) = by {
            let by = by.rem_euclid(bits.into()) as u8;
            let code = match op {
                _ if by == 0 => return Part::Reg(a),
                Shift::Left => Code::LslImm(by),
                Shift::RightS => Code::AsrImm(by),
                Shift::RightU => Code::LsrImm(by),
            };
            return Part::Reg(self.code.new_x(code, &[a]));
        }
        let by = self.shift_count(by, elem);
        let op = match op {
            Shift::Left => X3::Lsl,
            Shift::RightS => X3::Asr,
            Shift::RightU => X3::Lsr,
        };
        Part::Reg(self.code.alu(op, a, by))
    }

    /// A shift's distance below the width of that element.
    pub fn shift_count(&mut self, by: &Part, elem: Elem) -> Reg {
        let by = self.gpr(by, Elem::I32);
        self.code.new_x(Code::Ubfx(elem.bits().trailing_zeros() as u8), &[by])
    }

    /// The comparison as 0 or 1.
    pub fn scalar_cmp(&mut self, cmp: Cmp, elem: Elem, a: &Part, b: &Part) -> Part {
        let unsigned = matches!(cmp, Cmp::LtU | Cmp::LeU | Cmp::GtU | Cmp::GeU);
        let (a, b) = (self.extended(a, elem, !unsigned), self.extended(b, elem, !unsigned));
        self.code.compare(a, b);
        Part::Reg(self.code.flag(int_cond(cmp)))
    }

    pub fn scalar_select(&mut self, mask: &Part, elem: Elem, a: &Part, b: &Part) -> Part {
        let mask = self.gpr(mask, Elem::M64);
        let (a, b) = (self.gpr(a, elem), self.gpr(b, elem));
        self.code.op(Code::CmpImm(0), &[mask]);
        Part::Reg(self.code.new_x(Code::Csel(Cond::Ne), &[a, b]))
    }

    /// 0 or 1 becomes all zeros or all ones.
    pub fn scalar_bmask(&mut self, mask: &Part) -> Reg {
        let (zero, mask) = (self.code.gp_reg(Gp::Num(0)), self.gpr(mask, Elem::M64));
        self.code.alu(X3::Sub, zero, mask)
    }

    /// The lowest bit.
    pub fn low_bit(&mut self, from: Reg) -> Reg {
        self.code.new_x(Code::Ubfx(1), &[from])
    }
}

/// Arithmetic of extents and addresses; what is known stays a number.
impl Scalars for Selection {
    type Value = Gp;

    fn number(&mut self, value: i64) -> Gp {
        Gp::Num(value)
    }

    fn add(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (Gp::Num(a), Gp::Num(b)) => Gp::Num(a.wrapping_add(b)),
            (a, Gp::Num(by)) | (Gp::Num(by), a) => self.add_number(a, by),
            (Gp::Reg(a), Gp::Reg(b)) => Gp::Reg(self.alu(X3::Add, a, b)),
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
            (Gp::Reg(a), Gp::Reg(b)) => Gp::Reg(self.alu(X3::Mul, a, b)),
        }
    }

    fn mul_number(&mut self, a: Gp, by: i64) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a.wrapping_mul(by)),
            Gp::Reg(a) => Gp::Reg(self.times(a, by)),
        }
    }

    fn shift_right(&mut self, a: Gp, by: u32) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a >> by),
            a if by == 0 => a,
            Gp::Reg(a) => Gp::Reg(self.new_x(Code::AsrImm(by as u8), &[a])),
        }
    }

    fn min(&mut self, a: Gp, b: Gp) -> Gp {
        self.choose(Cond::Lt, a, b)
    }

    fn max(&mut self, a: Gp, b: Gp) -> Gp {
        self.choose(Cond::Gt, a, b)
    }

    fn floor_div(&mut self, a: Gp, b: Gp) -> Gp {
        if let (Gp::Num(a), Gp::Num(b)) = (a, b) {
            return Gp::Num(a.div_euclid(b.max(1)));
        }
        let divisor = self.max(b, Gp::Num(1));
        let (a, b) = (self.gp_reg(a), self.gp_reg(divisor));
        let quotient = self.alu(X3::Sdiv, a, b);
        // Down: one less where something negative is left.
        let rest = self.new_x(Code::Msub, &[quotient, b, a]);
        let less = self.new_x(Code::LsrImm(63), &[rest]);
        Gp::Reg(self.alu(X3::Sub, quotient, less))
    }
}
