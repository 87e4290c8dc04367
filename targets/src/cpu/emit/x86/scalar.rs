//! Integers in general registers.

use iced_x86::Code;

use super::super::alloc::Reg;
use super::body::{Body, Code_, Part, int_cc};
use super::inst::{Cc, Class, Inst, Mem, Operand, Width};
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// A 64-bit integer: in a register that is never written again, or known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gp {
    Reg(Reg),
    Num(i64),
}

fn wide(reg: Reg) -> Operand {
    Operand::Reg(reg, Width::B8)
}

impl Code_ {
    /// In a register.
    pub fn gp_reg(&mut self, value: Gp) -> Reg {
        match value {
            Gp::Reg(reg) => reg,
            Gp::Num(_) => {
                let reg = self.reg(Class::Gpr);
                self.set(reg, value);
                reg
            }
        }
    }

    /// `to = value`.
    pub fn set(&mut self, to: Reg, value: Gp) {
        match value {
            Gp::Reg(from) => self.push(Inst::Copy { to, from, width: Width::B8 }),
            Gp::Num(number) => match (u32::try_from(number), i32::try_from(number)) {
                // Writing the low half clears the other one.
                (Ok(_), _) => self.op(Code::Mov_r32_imm32, vec![Operand::Reg(to, Width::B4), Operand::Imm32(number)]),
                (_, Ok(_)) => self.op(Code::Mov_rm64_imm32, vec![wide(to), Operand::Imm32(number)]),
                _ => self.op(Code::Mov_r64_imm64, vec![wide(to), Operand::Imm64(number)]),
            },
        }
    }

    /// `to = a + by`; `to` may be `a`.
    pub fn set_add(&mut self, to: Reg, a: Gp, by: i64) {
        if !matches!(a, Gp::Reg(reg) if reg == to) {
            self.set(to, a);
        }
        if by == 0 {
            return;
        }
        let by = match (i8::try_from(by), i32::try_from(by)) {
            (Ok(_), _) => return self.update(Code::Add_rm64_imm8, vec![wide(to), Operand::Imm8(by)]),
            (_, Ok(_)) => return self.update(Code::Add_rm64_imm32, vec![wide(to), Operand::Imm32(by)]),
            _ => self.gp_reg(Gp::Num(by)),
        };
        self.update(Code::Add_r64_rm64, vec![wide(to), wide(by)]);
    }

    /// `a op b` in a new register.
    pub fn alu(&mut self, code: Code, a: Reg, b: Reg) -> Gp {
        let to = self.reg(Class::Gpr);
        self.push(Inst::Copy { to, from: a, width: Width::B8 });
        self.update(code, vec![wide(to), wide(b)]);
        Gp::Reg(to)
    }

    /// `a * by` in a new register.
    pub fn times(&mut self, a: Reg, by: i64) -> Reg {
        if by > 0 && by & (by - 1) == 0 {
            return self.shift_imm(Code::Shl_rm64_imm8, a, i64::from(by.trailing_zeros()));
        }
        if i32::try_from(by).is_ok() {
            let to = self.reg(Class::Gpr);
            self.op(Code::Imul_r64_rm64_imm32, vec![wide(to), wide(a), Operand::Imm32(by)]);
            return to;
        }
        let by = self.gp_reg(Gp::Num(by));
        let product = self.alu(Code::Imul_r64_rm64, a, by);
        self.gp_reg(product)
    }

    /// A shift by a number in a new register.
    pub fn shift_imm(&mut self, code: Code, a: Reg, by: i64) -> Reg {
        let to = self.reg(Class::Gpr);
        self.push(Inst::Copy { to, from: a, width: Width::B8 });
        if by != 0 {
            self.update(code, vec![wide(to), Operand::Imm8(by)]);
        }
        to
    }

    /// Sets flags by `a - b`.
    pub fn compare(&mut self, a: Gp, b: Gp, width: Width) {
        let a = self.gp_reg(a);
        match b {
            Gp::Num(b) if i8::try_from(b).is_ok() && width == Width::B8 => {
                self.effect(Code::Cmp_rm64_imm8, vec![wide(a), Operand::Imm8(b)]);
            }
            Gp::Num(b) if i32::try_from(b).is_ok() && width == Width::B8 => {
                self.effect(Code::Cmp_rm64_imm32, vec![wide(a), Operand::Imm32(b)]);
            }
            b => {
                let b = self.gp_reg(b);
                let code = if width == Width::B8 { Code::Cmp_r64_rm64 } else { Code::Cmp_r32_rm32 };
                self.effect(code, vec![Operand::Reg(a, width), Operand::Reg(b, width)]);
            }
        }
    }

    /// `a`, or `b` where the conditional move after comparing them says so.
    pub fn choose(&mut self, code: Code, a: Gp, b: Gp) -> Gp {
        if let (Gp::Num(x), Gp::Num(y)) = (a, b) {
            return Gp::Num(if code == Code::Cmovg_r64_rm64 { x.min(y) } else { x.max(y) });
        }
        let (a, b) = (self.gp_reg(a), self.gp_reg(b));
        let to = self.reg(Class::Gpr);
        self.push(Inst::Copy { to, from: a, width: Width::B8 });
        self.effect(Code::Cmp_r64_rm64, vec![wide(a), wide(b)]);
        self.update(code, vec![wide(to), wide(b)]);
        Gp::Reg(to)
    }

    /// 1 in a new register where the flags say so, else 0.
    pub fn flag(&mut self, cc: Cc) -> Reg {
        let code = match cc {
            Cc::B => Code::Setb_rm8,
            Cc::Ae => Code::Setae_rm8,
            Cc::E => Code::Sete_rm8,
            Cc::Ne => Code::Setne_rm8,
            Cc::Be => Code::Setbe_rm8,
            Cc::A => Code::Seta_rm8,
            Cc::L => Code::Setl_rm8,
            Cc::Ge => Code::Setge_rm8,
            Cc::Le => Code::Setle_rm8,
            Cc::G => Code::Setg_rm8,
        };
        let byte = self.reg(Class::Gpr);
        self.op(code, vec![Operand::Reg(byte, Width::B1)]);
        let to = self.reg(Class::Gpr);
        self.op(Code::Movzx_r32_rm8, vec![Operand::Reg(to, Width::B4), Operand::Reg(byte, Width::B1)]);
        to
    }
}

impl Body<'_> {
    /// A scalar integer or mask; bits past its element are anything.
    pub fn gp(&mut self, part: &Part, elem: Elem) -> Gp {
        match part {
            Part::Int(number) => Gp::Num(*number),
            part => Gp::Reg(self.reg(part, Type::scalar(elem))),
        }
    }

    /// A scalar integer, extended to 64 bits.
    pub fn extended(&mut self, part: &Part, elem: Elem, signed: bool) -> Gp {
        let value = self.gp(part, elem);
        let Gp::Reg(from) = value else {
            let Gp::Num(number) = value else { return value };
            let shift = 64 - elem.bits();
            return Gp::Num(if signed { number << shift >> shift } else { ((number as u64) << shift >> shift) as i64 });
        };
        let to = self.code.reg(Class::Gpr);
        let (code, to_width, from_width) = match (elem.bits(), signed) {
            (8, true) => (Code::Movsx_r64_rm8, Width::B8, Width::B1),
            (8, false) => (Code::Movzx_r32_rm8, Width::B4, Width::B1),
            (16, true) => (Code::Movsx_r64_rm16, Width::B8, Width::B2),
            (16, false) => (Code::Movzx_r32_rm16, Width::B4, Width::B2),
            (32, true) => (Code::Movsxd_r64_rm32, Width::B8, Width::B4),
            (32, false) => (Code::Mov_r32_rm32, Width::B4, Width::B4),
            _ => return value,
        };
        self.code.op(code, vec![Operand::Reg(to, to_width), Operand::Reg(from, from_width)]);
        Gp::Reg(to)
    }

    pub fn part(value: Gp) -> Part {
        match value {
            Gp::Reg(reg) => Part::Reg(reg),
            Gp::Num(number) => Part::Int(number),
        }
    }

    pub fn load_scalar_int(&mut self, elem: Elem, mem: Mem, to: Reg) {
        let (code, width) = match elem.bits() {
            8 => (Code::Movzx_r32_rm8, Width::B4),
            16 => (Code::Movzx_r32_rm16, Width::B4),
            32 => (Code::Mov_r32_rm32, Width::B4),
            _ => (Code::Mov_r64_rm64, Width::B8),
        };
        self.code.op(code, vec![Operand::Reg(to, width), Operand::Mem(mem)]);
    }

    pub fn store_scalar_int(&mut self, elem: Elem, part: &Part, mem: Mem) -> Result<(), CodegenError> {
        let value = self.gp(part, elem);
        let reg = self.code.gp_reg(value);
        let (code, width) = match elem.bits() {
            8 => (Code::Mov_rm8_r8, Width::B1),
            32 => (Code::Mov_rm32_r32, Width::B4),
            64 => (Code::Mov_rm64_r64, Width::B8),
            _ => (Code::Mov_rm16_r16, Width::B2),
        };
        self.code.effect(code, vec![Operand::Mem(mem), Operand::Reg(reg, width)]);
        Ok(())
    }

    pub fn scalar_un(&mut self, op: UnOp, elem: Elem, a: &Part) -> Result<Part, CodegenError> {
        if elem.is_mask() {
            let a = self.gp(a, elem);
            let one = self.code.gp_reg(Gp::Num(1));
            let a = self.code.gp_reg(a);
            return Ok(Self::part(self.code.alu(Code::Xor_r64_rm64, a, one)));
        }
        Ok(match op {
            UnOp::Neg => {
                let a = self.gp(a, elem);
                let (zero, a) = (self.code.gp_reg(Gp::Num(0)), self.code.gp_reg(a));
                Self::part(self.code.alu(Code::Sub_r64_rm64, zero, a))
            }
            UnOp::Not => {
                let a = self.gp(a, elem);
                let (ones, a) = (self.code.gp_reg(Gp::Num(-1)), self.code.gp_reg(a));
                Self::part(self.code.alu(Code::Xor_r64_rm64, a, ones))
            }
            UnOp::Abs => {
                let a = self.extended(a, elem, true);
                let (zero, a) = (self.code.gp_reg(Gp::Num(0)), self.code.gp_reg(a));
                let negated = self.code.alu(Code::Sub_r64_rm64, zero, a);
                // Wraps for the smallest value of 64 bits; of fewer, the upper bits do not count.
                Self::part(self.code.choose(Code::Cmovl_r64_rm64, Gp::Reg(a), negated))
            }
            _ => return self.no(format!("scalar {op}")),
        })
    }

    pub fn scalar_bin(&mut self, op: BinOp, elem: Elem, a: &Part, b: &Part) -> Result<Part, CodegenError> {
        let plain = match op {
            BinOp::Add => Some(Code::Add_r64_rm64),
            BinOp::Sub => Some(Code::Sub_r64_rm64),
            BinOp::Mul => Some(Code::Imul_r64_rm64),
            BinOp::And => Some(Code::And_r64_rm64),
            BinOp::Or => Some(Code::Or_r64_rm64),
            BinOp::Xor => Some(Code::Xor_r64_rm64),
            _ => None,
        };
        if let Some(code) = plain {
            let (a, b) = (self.gp(a, elem), self.gp(b, elem));
            let (a, b) = (self.code.gp_reg(a), self.code.gp_reg(b));
            return Ok(Self::part(self.code.alu(code, a, b)));
        }
        let (code, signed) = match op {
            BinOp::MinS => (Code::Cmovg_r64_rm64, true),
            BinOp::MaxS => (Code::Cmovl_r64_rm64, true),
            BinOp::MinU => (Code::Cmova_r64_rm64, false),
            BinOp::MaxU => (Code::Cmovb_r64_rm64, false),
            _ => return self.no(format!("scalar {op}")),
        };
        let (a, b) = (self.extended(a, elem, signed), self.extended(b, elem, signed));
        let (a, b) = (self.code.gp_reg(a), self.code.gp_reg(b));
        Ok(Self::part(self.code.choose(code, Gp::Reg(a), Gp::Reg(b))))
    }

    pub fn scalar_shift(&mut self, op: Shift, elem: Elem, a: &Part, by: &Part) -> Result<Part, CodegenError> {
        let bits = i64::from(elem.bits());
        let a = match op {
            Shift::Left => self.gp(a, elem),
            Shift::RightS => self.extended(a, elem, true),
            Shift::RightU => self.extended(a, elem, false),
        };
        let a = self.code.gp_reg(a);
        if let Part::Int(by) = by {
            let code = match op {
                Shift::Left => Code::Shl_rm64_imm8,
                Shift::RightS => Code::Sar_rm64_imm8,
                Shift::RightU => Code::Shr_rm64_imm8,
            };
            return Ok(Part::Reg(self.code.shift_imm(code, a, by.rem_euclid(bits))));
        }
        let by = self.gp(by, Elem::I32);
        let (by, most) = (self.code.gp_reg(by), self.code.gp_reg(Gp::Num(bits - 1)));
        let by = self.code.alu(Code::And_r64_rm64, by, most);
        let by = self.code.gp_reg(by);
        let code = match op {
            Shift::Left => Code::VEX_Shlx_r64_rm64_r64,
            Shift::RightS => Code::VEX_Sarx_r64_rm64_r64,
            Shift::RightU => Code::VEX_Shrx_r64_rm64_r64,
        };
        let to = self.code.reg(Class::Gpr);
        self.code.op(code, vec![wide(to), wide(a), wide(by)]);
        Ok(Part::Reg(to))
    }

    /// The comparison as 0 or 1.
    pub fn scalar_cmp(&mut self, cmp: Cmp, elem: Elem, a: &Part, b: &Part) -> Part {
        let unsigned = matches!(cmp, Cmp::LtU | Cmp::LeU | Cmp::GtU | Cmp::GeU);
        let (a, b) = (self.extended(a, elem, !unsigned), self.extended(b, elem, !unsigned));
        self.code.compare(a, b, Width::B8);
        Part::Reg(self.code.flag(int_cc(cmp)))
    }

    pub fn scalar_select(&mut self, mask: &Part, elem: Elem, a: &Part, b: &Part) -> Part {
        let mask = self.gp(mask, Elem::I8);
        let (a, b) = (self.gp(a, elem), self.gp(b, elem));
        let (a, b) = (self.code.gp_reg(a), self.code.gp_reg(b));
        let flag = Operand::Reg(self.code.gp_reg(mask), Width::B1);
        let to = self.code.reg(Class::Gpr);
        self.code.push(Inst::Copy { to, from: b, width: Width::B8 });
        self.code.effect(Code::Test_rm8_r8, vec![flag, flag]);
        self.code.update(Code::Cmovne_r64_rm64, vec![wide(to), wide(a)]);
        Part::Reg(to)
    }

    /// 0 or 1 becomes all zeros or all ones.
    pub fn scalar_bmask(&mut self, mask: &Part) -> Gp {
        let mask = self.gp(mask, Elem::I8);
        let zero = Gp::Num(0);
        let (zero, mask) = (self.code.gp_reg(zero), self.code.gp_reg(mask));
        self.code.alu(Code::Sub_r64_rm64, zero, mask)
    }
}
