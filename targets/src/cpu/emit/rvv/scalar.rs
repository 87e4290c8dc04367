//! Scalars: integers and masks in general registers, floats in theirs.

use super::super::alloc::Reg;
use super::body::{Body, Mem, Part};
use super::code::Gp;
use super::inst::{Arg, Class, Demand, fits12};
use super::isa::{Code, ROUND_DYNAMIC, ROUND_TO_ZERO};
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::Elem;
use crate::cpu::machine::CodegenError;

/// The one for `f32` or `f64`.
fn by_float(elem: Elem, single: Code, double: Code) -> Code {
    if elem == Elem::F64 { double } else { single }
}

impl Body<'_> {
    /// A scalar integer or mask; bits past its element are anything.
    pub fn gp(&mut self, part: &Part) -> Gp {
        match part {
            Part::Int(number) => Gp::Num(*number),
            Part::Reg(reg) => Gp::Reg(*reg),
            other => unreachable!("scalars are in registers or known, found {other:?}"),
        }
    }

    /// A scalar float in a register.
    pub fn fp(&mut self, part: &Part, elem: Elem) -> Reg {
        match part {
            Part::Reg(reg) => *reg,
            Part::Float(bits) => self.code.float_reg(*bits, elem.bytes() as u8),
            other => unreachable!("scalars are in registers or known, found {other:?}"),
        }
    }

    pub fn part(value: Gp) -> Part {
        match value {
            Gp::Reg(reg) => Part::Reg(reg),
            Gp::Num(number) => Part::Int(number),
        }
    }

    /// A scalar integer, extended to 64 bits.
    pub fn extended(&mut self, part: &Part, elem: Elem, signed: bool) -> Gp {
        let shift = i64::from(64 - elem.bits());
        match self.gp(part) {
            value if shift == 0 => value,
            Gp::Num(n) if signed => Gp::Num(n << shift >> shift),
            Gp::Num(n) => Gp::Num(((n as u64) << shift >> shift) as i64),
            value if shift == 32 && signed => self.code.alu_imm(Code::Addiw, value, 0),
            value if shift == 56 && !signed => self.code.alu_imm(Code::Andi, value, 255),
            value => {
                let high = self.code.alu_imm(Code::Slli, value, shift);
                self.code.alu_imm(if signed { Code::Srai } else { Code::Srli }, high, shift)
            }
        }
    }

    pub fn load_scalar(&mut self, elem: Elem, mem: Mem) -> Reg {
        let (code, class) = match elem {
            Elem::F32 => (Code::Flw, Class::Fpr),
            Elem::F64 => (Code::Fld, Class::Fpr),
            elem => {
                let code = match elem.bits() {
                    8 => Code::Lbu,
                    16 => Code::Lhu,
                    32 => Code::Lw,
                    _ => Code::Ld,
                };
                (code, Class::Gpr)
            }
        };
        let to = self.code.reg(class);
        let (base, disp) = self.code.near(mem.base, mem.disp.into());
        self.code.op(code, &[Arg::Reg(to), base], disp);
        to
    }

    pub fn store_scalar(&mut self, elem: Elem, part: &Part, mem: Mem) {
        let (code, value) = match elem {
            Elem::F32 => (Code::Fsw, Arg::Reg(self.fp(part, elem))),
            Elem::F64 => (Code::Fsd, Arg::Reg(self.fp(part, elem))),
            elem => {
                let value = self.gp(part);
                let code = match elem.bits() {
                    8 => Code::Sb,
                    16 => Code::Sh,
                    32 => Code::Sw,
                    _ => Code::Sd,
                };
                (code, self.code.gp_arg(value))
            }
        };
        let (base, disp) = self.code.near(mem.base, mem.disp.into());
        self.code.op(code, &[value, base], disp);
    }

    /// What is no float and no mask.
    pub fn scalar_un(&mut self, op: UnOp, elem: Elem, a: &Part) -> Result<Part, CodegenError> {
        let value = self.gp(a);
        Ok(Self::part(match op {
            UnOp::Not if elem.is_mask() => self.code.alu_imm(Code::Xori, value, 1),
            UnOp::Not => self.code.alu_imm(Code::Xori, value, -1),
            UnOp::Neg => self.code.alu(Code::Sub, Gp::Num(0), value),
            UnOp::Abs => {
                let a = self.extended(a, elem, true);
                let sign = self.code.alu_imm(Code::Srai, a, 63);
                let flipped = self.code.alu(Code::Xor, a, sign);
                self.code.alu(Code::Sub, flipped, sign)
            }
            _ => return self.no(format!("scalar {op}")),
        }))
    }

    pub fn scalar_bin(&mut self, op: BinOp, elem: Elem, a: &Part, b: &Part) -> Result<Part, CodegenError> {
        let plain = match op {
            BinOp::Add => Some(Code::Add),
            BinOp::Sub => Some(Code::Sub),
            BinOp::Mul => Some(Code::Mul),
            BinOp::And => Some(Code::And),
            BinOp::Or => Some(Code::Or),
            BinOp::Xor => Some(Code::Xor),
            _ => None,
        };
        if let Some(code) = plain {
            let (a, b) = (self.gp(a), self.gp(b));
            return Ok(Self::part(match (code, b) {
                (Code::Add, Gp::Num(by)) if fits12(by) => self.code.alu_imm(Code::Addi, a, by),
                (Code::And, Gp::Num(by)) if fits12(by) => self.code.alu_imm(Code::Andi, a, by),
                _ => self.code.alu(code, a, b),
            }));
        }
        let signed = matches!(op, BinOp::MinS | BinOp::MaxS | BinOp::DivS | BinOp::RemS);
        let (a, b) = (self.extended(a, elem, signed), self.extended(b, elem, signed));
        let divide = match op {
            BinOp::MinS | BinOp::MinU => return Ok(Self::part(self.code.limit(a, b, false, signed))),
            BinOp::MaxS | BinOp::MaxU => return Ok(Self::part(self.code.limit(a, b, true, signed))),
            BinOp::DivS => Code::Div,
            BinOp::DivU => Code::Divu,
            BinOp::RemS => Code::Rem,
            BinOp::RemU => Code::Remu,
            _ => return self.no(format!("scalar {op}")),
        };
        // By zero the machine gives something else, which is not zero; what wraps, wraps.
        let quotient = self.code.alu(divide, a, b);
        let some = self.code.less(Gp::Num(0), b, false);
        let all = self.code.alu(Code::Sub, Gp::Num(0), some);
        Ok(Self::part(self.code.alu(Code::And, quotient, all)))
    }

    pub fn scalar_shift(&mut self, op: Shift, elem: Elem, a: &Part, by: &Part) -> Part {
        let bits = i64::from(elem.bits());
        let a = match op {
            Shift::Left => self.gp(a),
            Shift::RightS => self.extended(a, elem, true),
            Shift::RightU => self.extended(a, elem, false),
        };
        Self::part(match self.gp(by) {
            Gp::Num(by) => {
                let code = match op {
                    Shift::Left => Code::Slli,
                    Shift::RightS => Code::Srai,
                    Shift::RightU => Code::Srli,
                };
                self.code.alu_imm(code, a, by.rem_euclid(bits))
            }
            by => {
                let by = self.code.alu_imm(Code::Andi, by, bits - 1);
                let code = match op {
                    Shift::Left => Code::Sll,
                    Shift::RightS => Code::Sra,
                    Shift::RightU => Code::Srl,
                };
                self.code.alu(code, a, by)
            }
        })
    }

    /// The comparison as 0 or 1.
    pub fn scalar_cmp(&mut self, cmp: Cmp, elem: Elem, a: &Part, b: &Part) -> Part {
        if elem.is_float() {
            return self.float_cmp(cmp, elem, a, b);
        }
        let signed = !matches!(cmp, Cmp::LtU | Cmp::LeU | Cmp::GtU | Cmp::GeU);
        let (a, b) = (self.extended(a, elem, signed), self.extended(b, elem, signed));
        let not = |s: &mut Self, flag: Gp| s.code.alu_imm(Code::Xori, flag, 1);
        Self::part(match cmp {
            Cmp::Lt | Cmp::LtU => self.code.less(a, b, signed),
            Cmp::Gt | Cmp::GtU => self.code.less(b, a, signed),
            Cmp::Ge | Cmp::GeU => {
                let less = self.code.less(a, b, signed);
                not(self, less)
            }
            Cmp::Le | Cmp::LeU => {
                let more = self.code.less(b, a, signed);
                not(self, more)
            }
            Cmp::Eq | Cmp::Ne => {
                let apart = self.code.alu(Code::Xor, a, b);
                let differ = self.code.less(Gp::Num(0), apart, false);
                if cmp == Cmp::Ne { differ } else { not(self, differ) }
            }
        })
    }

    fn float_cmp(&mut self, cmp: Cmp, elem: Elem, a: &Part, b: &Part) -> Part {
        let (a, b) = (self.fp(a, elem), self.fp(b, elem));
        let (code, a, b) = match cmp {
            Cmp::Eq | Cmp::Ne => (by_float(elem, Code::FeqS, Code::FeqD), a, b),
            Cmp::Lt | Cmp::LtU => (by_float(elem, Code::FltS, Code::FltD), a, b),
            Cmp::Le | Cmp::LeU => (by_float(elem, Code::FleS, Code::FleD), a, b),
            Cmp::Gt | Cmp::GtU => (by_float(elem, Code::FltS, Code::FltD), b, a),
            Cmp::Ge | Cmp::GeU => (by_float(elem, Code::FleS, Code::FleD), b, a),
        };
        let to = self.code.reg(Class::Gpr);
        self.code.op(code, &[to, a, b].map(Arg::Reg), 0);
        let flag = Gp::Reg(to);
        Self::part(if cmp == Cmp::Ne { self.code.alu_imm(Code::Xori, flag, 1) } else { flag })
    }

    pub fn scalar_select(&mut self, mask: &Part, elem: Elem, a: &Part, b: &Part) -> Part {
        let flag = self.gp(mask);
        if elem.is_float() {
            let (a, b) = (self.fp(a, elem), self.fp(b, elem));
            return Part::Reg(self.code.choose(flag, a, b, Class::Fpr));
        }
        let (a, b) = (self.gp(a), self.gp(b));
        let (a, b) = (self.code.gp_reg(a), self.code.gp_reg(b));
        Part::Reg(self.code.choose(flag, a, b, Class::Gpr))
    }

    pub fn float_op(&mut self, code: Code, regs: &[Reg], imm: i64) -> Reg {
        let to = self.code.reg(Class::Fpr);
        let all: Vec<Arg> = std::iter::once(to).chain(regs.iter().copied()).map(Arg::Reg).collect();
        self.code.op(code, &all, imm);
        to
    }

    /// Operations on a scalar float that have an instruction; `None` for the others.
    pub fn float_un(&mut self, op: UnOp, elem: Elem, a: &Part) -> Option<Part> {
        let x = self.fp(a, elem);
        Some(Part::Reg(match op {
            UnOp::Neg => self.float_op(by_float(elem, Code::FsgnjnS, Code::FsgnjnD), &[x, x], 0),
            UnOp::Abs => self.float_op(by_float(elem, Code::FsgnjxS, Code::FsgnjxD), &[x, x], 0),
            UnOp::Sqrt => self.float_op(by_float(elem, Code::FsqrtS, Code::FsqrtD), &[x], ROUND_DYNAMIC),
            _ => return None,
        }))
    }

    pub fn float_bin(&mut self, op: BinOp, elem: Elem, a: &Part, b: &Part) -> Result<Part, CodegenError> {
        let (x, y) = (self.fp(a, elem), self.fp(b, elem));
        let code = match op {
            BinOp::Add => by_float(elem, Code::FaddS, Code::FaddD),
            BinOp::Sub => by_float(elem, Code::FsubS, Code::FsubD),
            BinOp::Mul => by_float(elem, Code::FmulS, Code::FmulD),
            BinOp::Div => by_float(elem, Code::FdivS, Code::FdivD),
            BinOp::MinSel | BinOp::MaxSel => {
                let cmp = if op == BinOp::MinSel { Cmp::Lt } else { Cmp::Gt };
                let first = self.float_cmp(cmp, elem, a, b);
                let first = self.gp(&first);
                return Ok(Part::Reg(self.code.choose(first, x, y, Class::Fpr)));
            }
            BinOp::Min | BinOp::Max => {
                let code = match op {
                    BinOp::Min => by_float(elem, Code::FminS, Code::FminD),
                    _ => by_float(elem, Code::FmaxS, Code::FmaxD),
                };
                // The instruction prefers numbers to NaN; the operation does not. A sum with NaN is one.
                let best = self.float_op(code, &[x, y], 0);
                let nan = self.float_op(by_float(elem, Code::FaddS, Code::FaddD), &[x, y], ROUND_DYNAMIC);
                let [x_ordered, y_ordered] =
                    [a, b].map(|part| self.float_cmp(Cmp::Eq, elem, part, part)).map(|part| self.gp(&part));
                let ordered = self.code.alu(Code::And, x_ordered, y_ordered);
                return Ok(Part::Reg(self.code.choose(ordered, best, nan, Class::Fpr)));
            }
            op => return self.no(format!("{op} of floats")),
        };
        Ok(Part::Reg(self.float_op(code, &[x, y], ROUND_DYNAMIC)))
    }

    pub fn float_muladd(&mut self, elem: Elem, parts: [&Part; 3]) -> Part {
        let regs = parts.map(|part| self.fp(part, elem));
        Part::Reg(self.float_op(by_float(elem, Code::FmaddS, Code::FmaddD), &regs, ROUND_DYNAMIC))
    }

    pub fn scalar_to_float(&mut self, a: &Part, from: Elem, to: Elem, signed: bool) -> Part {
        let code = match (to, from.bits(), signed) {
            (Elem::F32, 32, true) => Code::FcvtSW,
            (Elem::F32, 32, false) => Code::FcvtSWu,
            (Elem::F32, _, true) => Code::FcvtSL,
            (Elem::F32, _, false) => Code::FcvtSLu,
            (_, 32, true) => Code::FcvtDW,
            (_, 32, false) => Code::FcvtDWu,
            (_, _, true) => Code::FcvtDL,
            (_, _, false) => Code::FcvtDLu,
        };
        let value = self.gp(a);
        let (value, reg) = (self.code.gp_arg(value), self.code.reg(Class::Fpr));
        // Exact ones have no rounding mode.
        let rounding = if matches!(code, Code::FcvtDW | Code::FcvtDWu) { 0 } else { ROUND_DYNAMIC };
        self.code.op(code, &[Arg::Reg(reg), value], rounding);
        Part::Reg(reg)
    }

    /// Saturating, and zero for NaN.
    pub fn scalar_to_int(&mut self, a: &Part, from: Elem, to: Elem, signed: bool) -> Part {
        let code = match (from, to.bits(), signed) {
            (Elem::F32, 32, true) => Code::FcvtWS,
            (Elem::F32, 32, false) => Code::FcvtWuS,
            (Elem::F32, _, true) => Code::FcvtLS,
            (Elem::F32, _, false) => Code::FcvtLuS,
            (_, 32, true) => Code::FcvtWD,
            (_, 32, false) => Code::FcvtWuD,
            (_, _, true) => Code::FcvtLD,
            (_, _, false) => Code::FcvtLuD,
        };
        let (x, reg) = (self.fp(a, from), self.code.reg(Class::Gpr));
        self.code.op(code, &[reg, x].map(Arg::Reg), ROUND_TO_ZERO);
        let ordered = self.float_cmp(Cmp::Eq, from, a, a);
        let ordered = self.gp(&ordered);
        let all = self.code.alu(Code::Sub, Gp::Num(0), ordered);
        Self::part(self.code.alu(Code::And, Gp::Reg(reg), all))
    }

    pub fn scalar_resize_float(&mut self, a: &Part, from: Elem) -> Part {
        let x = self.fp(a, from);
        Part::Reg(match from {
            Elem::F32 => self.float_op(Code::FcvtDS, &[x], 0),
            _ => self.float_op(Code::FcvtSD, &[x], ROUND_DYNAMIC),
        })
    }

    /// The bits of a scalar float.
    pub fn bits_of_float(&mut self, a: &Part, elem: Elem) -> Gp {
        if let Part::Float(bits) = a {
            return Gp::Num(*bits as i64);
        }
        let (x, to) = (self.fp(a, elem), self.code.reg(Class::Gpr));
        self.code.op(by_float(elem, Code::FmvXW, Code::FmvXD), &[to, x].map(Arg::Reg), 0);
        Gp::Reg(to)
    }

    /// A scalar float of such bits.
    pub fn float_of_bits(&mut self, value: Gp, elem: Elem) -> Part {
        let Gp::Reg(from) = value else {
            let Gp::Num(bits) = value else { return Part::Float(0) };
            let keep = if elem.bits() == 64 { u64::MAX } else { u64::from(u32::MAX) };
            return Part::Float(bits as u64 & keep);
        };
        let to = self.code.reg(Class::Fpr);
        self.code.op(by_float(elem, Code::FmvWX, Code::FmvDX), &[to, from].map(Arg::Reg), 0);
        Part::Reg(to)
    }

    /// The first lane of a register of such elements as a scalar.
    pub fn first_lane(&mut self, from: Reg, elem: Elem) -> Reg {
        let (code, class) = if elem.is_float() { (Code::VfmvFS, Class::Fpr) } else { (Code::VmvXS, Class::Gpr) };
        let to = self.code.reg(class);
        self.code.vector(code, &[to, from].map(Arg::Reg), 0, Demand::Element(elem.bytes() as u8));
        to
    }
}
