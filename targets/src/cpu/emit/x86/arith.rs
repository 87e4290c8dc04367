//! Arithmetic, comparison, selection.

use iced_x86::Code;

use super::super::alloc::Reg;
use super::body::{Body, Part, Val};
use super::inst::{Class, Inst, Op as Machine, Operand, Width};
use super::table::{self, Codes};
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// The one of four for elements of 8, 16, 32 and 64 bits.
fn by_bits(elem: Elem, codes: [&Codes; 4]) -> &Codes {
    codes[(elem.bits().trailing_zeros() as usize).saturating_sub(3).min(3)]
}

/// The one of two for `f32` and `f64`.
fn by_float<'c>(elem: Elem, single: &'c Codes, double: &'c Codes) -> &'c Codes {
    if elem.bits() == 64 { double } else { single }
}

/// Predicates of `vcmpps` that raise nothing.
fn float_predicate(cmp: Cmp) -> i64 {
    match cmp {
        Cmp::Eq => 0x00,
        Cmp::Ne => 0x04,
        Cmp::Lt | Cmp::LtU => 0x11,
        Cmp::Le | Cmp::LeU => 0x12,
        Cmp::Gt | Cmp::GtU => 0x1e,
        Cmp::Ge | Cmp::GeU => 0x1d,
    }
}
const UNORDERED: i64 = 0x03;
const ORDERED: i64 = 0x07;

impl Body<'_> {
    fn each(
        &mut self,
        a: &Val,
        mut f: impl FnMut(&mut Self, &Part) -> Result<Part, CodegenError>,
    ) -> Result<Vec<Part>, CodegenError> {
        a.parts.iter().map(|part| f(self, part)).collect()
    }

    fn pairs(
        &mut self,
        a: &Val,
        b: &Val,
        mut f: impl FnMut(&mut Self, &Part, &Part) -> Result<Part, CodegenError>,
    ) -> Result<Vec<Part>, CodegenError> {
        a.parts.iter().zip(&b.parts).map(|(a, b)| f(self, a, b)).collect()
    }

    pub fn un(&mut self, op: UnOp, a: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if Self::is_gpr(ty) {
            return Ok(vec![self.scalar_un(op, elem, &a.parts[0])?]);
        }
        if elem.is_mask() && self.cpu.evex {
            return self.each(a, |s, part| {
                let from = s.reg(part, ty);
                let to = s.code.reg(Class::Mask);
                s.code.op(Code::VEX_Knotq_kr_kr, [to, from].map(|r| Operand::Reg(r, Width::K)).to_vec());
                Ok(Part::Reg(to))
            });
        }
        let sign = 1u64 << (elem.bits() - 1);
        let round = |op| match op {
            UnOp::Floor => Some(0x09),
            UnOp::Ceil => Some(0x0a),
            UnOp::Trunc => Some(0x0b),
            UnOp::Nearest => Some(0x08),
            _ => None,
        };
        self.each(a, |s, part| {
            Ok(match op {
                UnOp::Neg if elem.is_float() => {
                    let sign = s.splat_bits(ty, sign);
                    s.binary(&table::PXORD, ty, part, &sign)
                }
                UnOp::Abs if elem.is_float() => {
                    let rest = s.splat_bits(ty, sign - 1);
                    s.binary(&table::PANDD, ty, part, &rest)
                }
                UnOp::Neg => {
                    let zero = s.splat_bits(ty, 0);
                    s.binary(by_bits(elem, SUB), ty, &zero, part)
                }
                UnOp::Abs if elem.bits() == 64 && !s.cpu.evex => return s.no("abs of 64-bit lanes"),
                UnOp::Abs => s.unary(by_bits(elem, ABS), ty, part),
                UnOp::Not => {
                    let ones = s.splat_bits(ty, u64::MAX);
                    s.binary(&table::PXORD, ty, part, &ones)
                }
                UnOp::Sqrt => s.unary(by_float(elem, &table::SQRTPS, &table::SQRTPD), ty, part),
                op => {
                    let Some(imm) = round(op) else { return s.no(format!("{op}")) };
                    s.unary_imm(by_float(elem, &table::ROUNDPS, &table::ROUNDPD), ty, part, imm)
                }
            })
        })
    }

    pub fn bin(&mut self, op: BinOp, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if Self::is_gpr(ty) {
            return Ok(vec![self.scalar_bin(op, elem, &a.parts[0], &b.parts[0])?]);
        }
        if elem.is_mask() && self.cpu.evex {
            let code = match op {
                BinOp::And => Code::VEX_Kandq_kr_kr_kr,
                BinOp::Or => Code::VEX_Korq_kr_kr_kr,
                BinOp::Xor => Code::VEX_Kxorq_kr_kr_kr,
                op => return self.no(format!("{op} of masks")),
            };
            return self.pairs(a, b, |s, x, y| {
                let (x, y) = (s.reg(x, ty), s.reg(y, ty));
                Ok(Part::Reg(s.masks(code, x, y)))
            });
        }
        if elem.is_float() {
            return self.pairs(a, b, |s, x, y| s.float_bin(op, ty, x, y));
        }
        let wide_only = elem.bits() == 64 && !self.cpu.evex;
        let (codes, swaps) = match op {
            BinOp::Add => (by_bits(elem, ADD), true),
            BinOp::Sub => (by_bits(elem, SUB), false),
            BinOp::Mul if elem.bits() == 8 || wide_only => return self.no(format!("mul of {elem} lanes")),
            BinOp::Mul => (by_bits(elem, [&table::PMULLW, &table::PMULLW, &table::PMULLD, &table::PMULLQ]), true),
            BinOp::And => (&table::PANDD, true),
            BinOp::Or => (&table::PORD, true),
            BinOp::Xor => (&table::PXORD, true),
            BinOp::MinS | BinOp::MaxS | BinOp::MinU | BinOp::MaxU if wide_only => {
                return self.no(format!("{op} of {elem} lanes"));
            }
            BinOp::MinS => (by_bits(elem, MINS), true),
            BinOp::MaxS => (by_bits(elem, MAXS), true),
            BinOp::MinU => (by_bits(elem, MINU), true),
            BinOp::MaxU => (by_bits(elem, MAXU), true),
            op => return self.no(format!("{op} of vectors")),
        };
        self.pairs(a, b, |s, x, y| Ok(if swaps { s.commutative(codes, ty, x, y) } else { s.binary(codes, ty, x, y) }))
    }

    fn masks(&mut self, code: Code, x: Reg, y: Reg) -> Reg {
        let to = self.code.reg(Class::Mask);
        self.code.op(code, [to, x, y].map(|r| Operand::Reg(r, Width::K)).to_vec());
        to
    }

    fn float_bin(&mut self, op: BinOp, ty: Type, x: &Part, y: &Part) -> Result<Part, CodegenError> {
        let elem = ty.elem;
        let min = by_float(elem, &table::MINPS, &table::MINPD);
        let max = by_float(elem, &table::MAXPS, &table::MAXPD);
        Ok(match op {
            BinOp::Add => self.commutative(by_float(elem, &table::ADDPS, &table::ADDPD), ty, x, y),
            BinOp::Sub => self.binary(by_float(elem, &table::SUBPS, &table::SUBPD), ty, x, y),
            BinOp::Mul => self.commutative(by_float(elem, &table::MULPS, &table::MULPD), ty, x, y),
            BinOp::Div => self.binary(by_float(elem, &table::DIVPS, &table::DIVPD), ty, x, y),
            // Both give their second operand for NaN and for two zeros.
            BinOp::MinSel => self.binary(min, ty, x, y),
            BinOp::MaxSel => self.binary(max, ty, x, y),
            BinOp::Min | BinOp::Max => {
                let codes = if op == BinOp::Min { min } else { max };
                let [x, y] = [x, y].map(|part| Part::Reg(self.reg(part, ty)));
                let (one, two) = (self.binary(codes, ty, &x, &y), self.binary(codes, ty, &y, &x));
                if op == BinOp::Min {
                    // A set sign or a NaN of either stays.
                    return Ok(self.binary(&table::PORD, ty, &one, &two));
                }
                let both = self.binary(&table::PANDD, ty, &one, &two);
                let ones = self.splat_bits(ty, u64::MAX);
                let unordered = self.float_mask(UNORDERED, ty, &x, &y);
                self.blend(unordered, ty, &ones, &both)
            }
            op => return self.no(format!("{op} of floats")),
        })
    }

    /// The comparison with that predicate, as a mask of this CPU.
    fn float_mask(&mut self, predicate: i64, ty: Type, x: &Part, y: &Part) -> Reg {
        let codes = by_float(ty.elem, &table::CMPPS, &table::CMPPD);
        self.compare_lanes(codes, predicate, ty, x, y)
    }

    fn compare_lanes(&mut self, codes: &Codes, predicate: i64, ty: Type, x: &Part, y: &Part) -> Reg {
        let width = self.shape(ty).width;
        let x = Operand::Reg(self.reg(x, ty), width);
        let y = self.operand(y, ty, codes);
        let code = self.pick(codes, width);
        let (class, to_width) = if self.cpu.evex { (Class::Mask, Width::K) } else { (Class::Vec, width) };
        let to = self.code.reg(class);
        self.code.op(code, vec![Operand::Reg(to, to_width), x, y, Operand::Imm8(predicate)]);
        to
    }

    /// `a` where the mask is set, else `b`.
    fn blend(&mut self, mask: Reg, ty: Type, a: &Part, b: &Part) -> Part {
        let width = self.shape(ty).width;
        let to = self.code.reg(Class::Vec);
        let codes = match (self.cpu.evex, ty.elem.bits()) {
            (true, _) => by_bits(ty.elem, [&table::PBLENDMB, &table::PBLENDMW, &table::PBLENDMD, &table::PBLENDMQ]),
            (false, 64) => &table::BLENDVPD,
            (false, 32) => &table::BLENDVPS,
            (false, _) => &table::PBLENDVB,
        };
        let b = Operand::Reg(self.reg(b, ty), width);
        let a = self.operand(a, ty, codes);
        let code = self.pick(codes, width);
        let mut operands = vec![Operand::Reg(to, width), b, a];
        let by = if self.cpu.evex {
            Some((mask, false))
        } else {
            operands.push(Operand::Reg(mask, width));
            None
        };
        self.code.push(Inst::Op(Machine { code, operands, writes: true, reads: false, mask: by }));
        Part::Reg(to)
    }

    pub fn shift(&mut self, op: Shift, a: &Val, by: &Part) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if Self::is_gpr(ty) {
            return Ok(vec![self.scalar_shift(op, elem, &a.parts[0], by)?]);
        }
        let (imm, variable) = match (op, elem.bits()) {
            (Shift::Left, 16) => (&table::PSLLW_IMM, &table::PSLLW),
            (Shift::Left, 32) => (&table::PSLLD_IMM, &table::PSLLD),
            (Shift::Left, 64) => (&table::PSLLQ_IMM, &table::PSLLQ),
            (Shift::RightU, 16) => (&table::PSRLW_IMM, &table::PSRLW),
            (Shift::RightU, 32) => (&table::PSRLD_IMM, &table::PSRLD),
            (Shift::RightU, 64) => (&table::PSRLQ_IMM, &table::PSRLQ),
            (Shift::RightS, 16) => (&table::PSRAW_IMM, &table::PSRAW),
            (Shift::RightS, 32) => (&table::PSRAD_IMM, &table::PSRAD),
            (Shift::RightS, 64) if self.cpu.evex => (&table::PSRAQ_IMM, &table::PSRAQ),
            _ => return self.no(format!("{op} of {elem} lanes")),
        };
        let bits = i64::from(elem.bits());
        if let Part::Int(by) = by {
            let by = by.rem_euclid(bits);
            return self.each(a, |s, part| Ok(s.unary_imm(imm, ty, part, by)));
        }
        let by = self.scalar_bin(BinOp::And, Elem::I32, by, &Part::Int(bits - 1))?;
        let by = self.gp(&by, Elem::I64);
        let by = self.code.gp_reg(by);
        // The count is all of the low 64 bits.
        let low = self.code.reg(Class::Gpr);
        self.code.op(Code::Mov_r32_rm32, [low, by].map(|r| Operand::Reg(r, Width::B4)).to_vec());
        let by = self.xmm_from_gpr(low);
        let width = self.shape(ty).width;
        self.each(a, |s, part| {
            let from = s.reg(part, ty);
            let to = s.code.reg(Class::Vec);
            let code = s.pick(variable, width);
            let operands = vec![Operand::Reg(to, width), Operand::Reg(from, width), Operand::Reg(by, Width::X)];
            s.code.op(code, operands);
            Ok(Part::Reg(to))
        })
    }

    /// `over` says which operands are not needed any more: one of them becomes the result.
    pub fn muladd(&mut self, ty: Type, vals: &[Val; 3], over: [bool; 3]) -> Result<Vec<Part>, CodegenError> {
        let add = by_float(ty.elem, &table::FMADD231PS, &table::FMADD231PD);
        let mul = by_float(ty.elem, &table::FMADD213PS, &table::FMADD213PD);
        let width = self.shape(ty).width;
        let [a, b, c] = vals;
        let mut parts = Vec::with_capacity(c.parts.len());
        let is_reg = |part: &Part| matches!(part, Part::Reg(_));
        for ((x, y), z) in a.parts.iter().zip(&b.parts).zip(&c.parts) {
            // The factor in a register first, and of two such the one that may be overwritten.
            let rank = |(part, over): &(&Part, bool)| (!is_reg(part), !over);
            let mut factors = [(x, over[0]), (y, over[1])];
            factors.sort_by_key(rank);
            let [(x, x_over), (y, _)] = factors;
            let into_factor = !is_reg(z) || (!over[2] && x_over && is_reg(x));
            let (to, operands, codes) = if into_factor {
                let y = Operand::Reg(self.reg(y, ty), width);
                (self.fresh(x, ty), [y, self.operand(z, ty, mul)], mul)
            } else {
                let x = Operand::Reg(self.reg(x, ty), width);
                let y = self.operand(y, ty, add);
                (self.fresh(z, ty), [x, y], add)
            };
            let code = self.pick(codes, width);
            self.code.update(code, [Operand::Reg(to, width)].into_iter().chain(operands).collect());
            parts.push(Part::Reg(to));
        }
        Ok(parts)
    }

    /// A register with that part which may be written.
    fn fresh(&mut self, part: &Part, ty: Type) -> Reg {
        match part {
            Part::Reg(reg) => self.copy(*reg, Class::Vec, self.shape(ty).width),
            part => self.reg(part, ty),
        }
    }

    pub fn cmp(&mut self, cmp: Cmp, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if Self::is_gpr(ty) {
            return Ok(vec![self.scalar_cmp(cmp, elem, &a.parts[0], &b.parts[0])]);
        }
        if elem.is_mask() {
            return self.no("comparison of masks");
        }
        if elem.is_float() {
            let predicate = float_predicate(cmp);
            return self.pairs(a, b, |s, x, y| {
                let mask = s.float_mask(predicate, ty, x, y);
                Ok(Part::Reg(if ty.is_scalar() { s.scalar_mask(mask) } else { mask }))
            });
        }
        let (unsigned, cmp) = match cmp {
            Cmp::LtU => (true, Cmp::Lt),
            Cmp::LeU => (true, Cmp::Le),
            Cmp::GtU => (true, Cmp::Gt),
            Cmp::GeU => (true, Cmp::Ge),
            cmp => (false, cmp),
        };
        if self.cpu.evex {
            let codes = match unsigned {
                true => by_bits(elem, [&table::PCMPUB, &table::PCMPUW, &table::PCMPUD, &table::PCMPUQ]),
                false => by_bits(elem, [&table::PCMPB, &table::PCMPW, &table::PCMPD, &table::PCMPQ]),
            };
            let predicate = match cmp {
                Cmp::Eq => 0,
                Cmp::Lt => 1,
                Cmp::Le => 2,
                Cmp::Ne => 4,
                Cmp::Ge => 5,
                _ => 6,
            };
            return self.pairs(a, b, |s, x, y| Ok(Part::Reg(s.compare_lanes(codes, predicate, ty, x, y))));
        }
        let equal = by_bits(elem, [&table::PCMPEQB, &table::PCMPEQW, &table::PCMPEQD, &table::PCMPEQQ]);
        let greater = by_bits(elem, [&table::PCMPGTB, &table::PCMPGTW, &table::PCMPGTD, &table::PCMPGTQ]);
        let flip = self.splat_bits(ty, 1 << (elem.bits() - 1));
        self.pairs(a, b, |s, x, y| {
            let ordered = !matches!(cmp, Cmp::Eq | Cmp::Ne);
            let [x, y] = [x, y].map(|part| {
                if unsigned && ordered { s.commutative(&table::PXORD, ty, part, &flip) } else { part.clone() }
            });
            let (mask, negate) = match cmp {
                Cmp::Eq | Cmp::Ne => (s.commutative(equal, ty, &x, &y), cmp == Cmp::Ne),
                Cmp::Gt | Cmp::Le => (s.binary(greater, ty, &x, &y), cmp == Cmp::Le),
                _ => (s.binary(greater, ty, &y, &x), cmp == Cmp::Ge),
            };
            if !negate {
                return Ok(mask);
            }
            let ones = s.splat_bits(ty, u64::MAX);
            Ok(s.binary(&table::PXORD, ty, &mask, &ones))
        })
    }

    /// The first lane of a vector mask as 0 or 1.
    fn scalar_mask(&mut self, mask: Reg) -> Reg {
        let bits = if self.cpu.evex { self.gpr_from_mask(mask) } else { self.gpr_from_xmm(mask) };
        let one = self.code.gp_reg(super::scalar::Gp::Num(1));
        let bit = self.code.alu(Code::And_r64_rm64, bits, one);
        self.code.gp_reg(bit)
    }

    pub fn select(&mut self, mask: &Val, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let ty = a.ty;
        if Self::is_gpr(ty) {
            return Ok(vec![self.scalar_select(&mask.parts[0], ty.elem, &a.parts[0], &b.parts[0])]);
        }
        if ty.elem.is_mask() && self.cpu.evex {
            let masks = mask.parts.iter().zip(&a.parts).zip(&b.parts);
            return masks
                .map(|((m, x), y)| {
                    let [m, x, y] = [m, x, y].map(|part| self.reg(part, ty));
                    let (yes, no) =
                        (self.masks(Code::VEX_Kandq_kr_kr_kr, m, x), self.masks(Code::VEX_Kandnq_kr_kr_kr, m, y));
                    Ok(Part::Reg(self.masks(Code::VEX_Korq_kr_kr_kr, yes, no)))
                })
                .collect();
        }
        if ty.is_scalar() {
            let ones = self.scalar_bmask(&mask.parts[0]);
            let ones = self.code.gp_reg(ones);
            let mask = if self.cpu.evex { self.mask_from_gpr(ones) } else { self.xmm_from_gpr(ones) };
            return Ok(vec![self.blend(mask, ty, &a.parts[0], &b.parts[0])]);
        }
        let parts = mask.parts.iter().zip(&a.parts).zip(&b.parts);
        parts
            .map(|((m, x), y)| {
                let m = self.reg(m, mask.ty);
                Ok(self.blend(m, ty, x, y))
            })
            .collect()
    }

    /// `f32` to `i32`, where nothing is left to saturate but what `vcvttps2dq` answers with the smallest integer.
    pub fn saturated_ints(&mut self, ty: Type, x: &Part) -> Part {
        // Of two lanes or more: scalar integers are elsewhere.
        let int = Type::vec(Elem::I32, ty.lanes.max(2));
        let x = Part::Reg(self.reg(x, ty));
        let raw = self.unary(&table::CVTTPS2DQ, ty, &x);
        let limit = self.splat_bits(ty, u64::from(2147483648f32.to_bits()));
        let above = self.float_mask(float_predicate(Cmp::Ge), ty, &x, &limit);
        let most = self.splat_bits(int, 0x7fff_ffff);
        let clamped = self.blend(above, int, &most, &raw);
        let ordered = self.float_mask(ORDERED, ty, &x, &x);
        let zero = self.splat_bits(int, 0);
        let zero = Part::Reg(self.reg(&zero, int));
        self.blend(ordered, int, &clamped, &zero)
    }

    /// Four products of bytes added to each sum. `vpdpbusd` takes the first factors as unsigned: signed ones are moved up
    /// by 128, which adds 128 times the other factors to the sum.
    pub fn dot4(&mut self, a_signed: bool, ty: Type, vals: &[Val; 3]) -> Result<Vec<Part>, CodegenError> {
        let [acc, a, b] = vals;
        if ty.is_scalar() || a.ty.bits() < 128 {
            return self.no("dot products of less than 128 bits");
        }
        let width = self.shape(ty).width;
        let mut parts = Vec::with_capacity(acc.parts.len());
        for ((sum, x), y) in acc.parts.iter().zip(&a.parts).zip(&b.parts) {
            if !self.cpu.dot {
                parts.push(self.dot4_by_words(a_signed, (ty, a.ty), [sum, x, y]));
                continue;
            }
            let half = self.splat_bits(a.ty, 0x80);
            let code = self.pick(&table::PDPBUSD, width);
            if !a_signed {
                let to = self.fresh(sum, ty);
                let x = Operand::Reg(self.reg(x, a.ty), width);
                let y = self.operand_lanes(y, b.ty);
                self.code.update(code, vec![Operand::Reg(to, width), x, y]);
                parts.push(Part::Reg(to));
                continue;
            }
            let y = Operand::Reg(self.reg(y, b.ty), width);
            let moved = self.binary(&table::PXORD, a.ty, x, &half);
            let (total, too_much) = (self.fresh(sum, ty), self.code.reg(Class::Vec));
            self.code.push(Inst::Zero(too_much));
            for (to, factor) in [(total, &moved), (too_much, &half)] {
                let factor = Operand::Reg(self.reg(factor, a.ty), width);
                self.code.update(code, vec![Operand::Reg(to, width), factor, y]);
            }
            parts.push(self.binary(&table::PSUBD, ty, &Part::Reg(total), &Part::Reg(too_much)));
        }
        Ok(parts)
    }

    /// From memory when it is there as a whole.
    fn operand_lanes(&mut self, part: &Part, ty: Type) -> Operand {
        match part {
            Part::Load(mem) => Operand::Mem(*mem),
            part => Operand::Reg(self.reg(part, ty), self.shape(ty).width),
        }
    }

    /// Without dot products: even and odd bytes as words, whose products of pairs are added exactly.
    fn dot4_by_words(&mut self, a_signed: bool, (ty, bytes): (Type, Type), [sum, x, y]: [&Part; 3]) -> Part {
        let words = bytes.with_elem(Elem::I16).with_lanes(bytes.lanes / 2);
        let [x, y] = [x, y].map(|part| Part::Reg(self.reg(part, bytes)));
        let mut total = sum.clone();
        for odd in [false, true] {
            let halves = [(&x, a_signed), (&y, true)].map(|(part, signed)| match (odd, signed) {
                (false, true) => {
                    let up = self.unary_imm(&table::PSLLW_IMM, words, part, 8);
                    self.unary_imm(&table::PSRAW_IMM, words, &up, 8)
                }
                (false, false) => {
                    let low = self.splat_bits(words, 0xff);
                    self.binary(&table::PANDD, words, part, &low)
                }
                (true, true) => self.unary_imm(&table::PSRAW_IMM, words, part, 8),
                (true, false) => self.unary_imm(&table::PSRLW_IMM, words, part, 8),
            });
            let products = self.binary(&table::PMADDWD, words, &halves[0], &halves[1]);
            total = self.commutative(&table::PADDD, ty, &total, &products);
        }
        total
    }
}

const ADD: [&Codes; 4] = [&table::PADDB, &table::PADDW, &table::PADDD, &table::PADDQ];
const SUB: [&Codes; 4] = [&table::PSUBB, &table::PSUBW, &table::PSUBD, &table::PSUBQ];
const ABS: [&Codes; 4] = [&table::PABSB, &table::PABSW, &table::PABSD, &table::PABSQ];
const MINS: [&Codes; 4] = [&table::PMINSB, &table::PMINSW, &table::PMINSD, &table::PMINSQ];
const MAXS: [&Codes; 4] = [&table::PMAXSB, &table::PMAXSW, &table::PMAXSD, &table::PMAXSQ];
const MINU: [&Codes; 4] = [&table::PMINUB, &table::PMINUW, &table::PMINUD, &table::PMINUQ];
const MAXU: [&Codes; 4] = [&table::PMAXUB, &table::PMAXUW, &table::PMAXUD, &table::PMAXUQ];
