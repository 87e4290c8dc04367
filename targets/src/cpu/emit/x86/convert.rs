//! Conversions between elements: registers double or halve in number as lanes widen or narrow.

use iced_x86::Code;

use super::super::alloc::Reg;
use super::body::{Body, Const, Part, Val};
use super::inst::{Cc, Class, Inst, Operand, Width};
use super::scalar::Gp;
use super::table::{self, Codes};
use crate::cpu::kernel::ir::{BinOp, Cmp, Cvt, Shift};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

impl Body<'_> {
    pub fn cvt(&mut self, cvt: Cvt, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        match cvt {
            Cvt::Bits => self.bits(a, to),
            Cvt::SExt | Cvt::UExt | Cvt::Wrap if a.ty.elem.is_mask() => self.resize_mask(cvt == Cvt::Wrap, a, to),
            Cvt::SExt | Cvt::UExt => self.extend(a, to, cvt == Cvt::SExt),
            Cvt::Wrap => self.wrap(a, to),
            Cvt::SatS | Cvt::SatU => self.saturate(cvt == Cvt::SatS, a, to),
            Cvt::Promote => self.widen(&table::CVTPS2PD, a, to),
            Cvt::Demote => self.narrow(&table::CVTPD2PS, None, a, to),
            Cvt::FromS | Cvt::FromU => self.int_to_float(a, to, cvt == Cvt::FromS),
            Cvt::ToS | Cvt::ToU => self.float_to_int(a, to, cvt == Cvt::ToS),
            Cvt::FromF16 => {
                let bits = self.vector_of(a);
                self.widen(&table::CVTPH2PS, &bits, to)
            }
            Cvt::ToF16 => {
                // Rounding control 0: to nearest even, whatever the environment says.
                let bits = self.narrow(&table::CVTPS2PH, Some(0), a, to)?;
                self.scalar_of(bits, to)
            }
            Cvt::FromBf16 => {
                let int = to.with_elem(Elem::I32);
                let bits = self.vector_of(a);
                let wide = self.widen(&table::PMOVZXWD, &bits, int)?;
                let wide = Val { ty: int.with_lanes(int.lanes.max(2)), parts: wide };
                self.shift(Shift::Left, &wide, &Part::Int(16))
            }
            Cvt::ToBf16 => self.float_to_bf16(a, to),
        }
    }

    /// A scalar integer as the first lane of a vector register; vectors stay.
    fn vector_of(&mut self, a: &Val) -> Val {
        if !Self::is_gpr(a.ty) {
            return a.clone();
        }
        let value = self.gp(&a.parts[0], a.ty.elem);
        let reg = self.code.gp_reg(value);
        // Type of more than one lane, so that it counts as a vector.
        let ty = a.ty.with_lanes(2);
        Val { ty, parts: vec![Part::Reg(self.xmm_from_gpr(reg))] }
    }

    /// The first lane in a general register when `to` is a scalar.
    fn scalar_of(&mut self, parts: Vec<Part>, to: Type) -> Result<Vec<Part>, CodegenError> {
        if !Self::is_gpr(to) {
            return Ok(parts);
        }
        let reg = self.reg(&parts[0], to.with_lanes(2));
        Ok(vec![Part::Reg(self.gpr_from_xmm(reg))])
    }

    /// One instruction per part of the result, each of which takes as many lanes from the source.
    fn widen(&mut self, codes: &Codes, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (from, shape) = (self.shape(a.ty), self.shape(to));
        let bytes = u32::from(shape.lanes) * a.ty.elem.bytes();
        let from_elem = a.ty.elem;
        let code = self.pick(codes, shape.width);
        let mut parts = Vec::with_capacity(shape.count);
        for part in 0..shape.count {
            let lane = part as u16 * shape.lanes;
            let source = &a.parts[usize::from(lane / from.lanes)];
            let at = u32::from(lane % from.lanes) * from_elem.bytes();
            let exact = bytes * 8 == shape.width.bytes() * 8 * from_elem.bits() / to.elem.bits();
            let operand = match source {
                Part::Load(mem) if exact && !a.ty.is_scalar() => {
                    Operand::Mem(super::inst::Mem { disp: mem.disp.wrapping_add(at as i32), ..*mem })
                }
                source => {
                    let reg = self.reg(source, a.ty);
                    let chunk = self.chunk(reg, from.width, at, bytes.max(4));
                    let width = Width::of_bytes(shape.width.bytes() * from_elem.bytes() / to.elem.bytes());
                    Operand::Reg(chunk, width)
                }
            };
            let reg = self.code.reg(Class::Vec);
            self.code.op(code, vec![Operand::Reg(reg, shape.width), operand]);
            parts.push(Part::Reg(reg));
        }
        Ok(parts)
    }

    /// One instruction per part of the source; what they leave is joined.
    fn narrow(&mut self, codes: &Codes, imm: Option<i64>, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let from = self.shape(a.ty);
        let bytes = u32::from(from.lanes) * to.elem.bytes();
        let code = self.pick(codes, from.width);
        let mut pieces = Vec::with_capacity(a.parts.len());
        for part in &a.parts {
            let source = self.reg(part, a.ty);
            let reg = self.code.reg(Class::Vec);
            let width = Width::of_bytes(from.width.bytes() * to.elem.bytes() / a.ty.elem.bytes());
            let mut operands = vec![Operand::Reg(reg, width), Operand::Reg(source, from.width)];
            operands.extend(imm.map(Operand::Imm8));
            self.code.op(code, operands);
            pieces.push(reg);
        }
        self.join(&pieces, bytes, to)
    }

    fn join(&mut self, pieces: &[Reg], bytes: u32, to: Type) -> Result<Vec<Part>, CodegenError> {
        let per_part = pieces.len().div_ceil(self.shape(to).count);
        pieces.chunks(per_part).map(|chunk| Ok(Part::Reg(self.combine(chunk, bytes)?))).collect()
    }

    fn extend(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        if Self::is_gpr(to) {
            let value = self.extended(&a.parts[0], a.ty.elem, signed);
            return Ok(vec![Self::part(value)]);
        }
        let codes = match (a.ty.elem.bits(), to.elem.bits(), signed) {
            (8, 16, true) => &table::PMOVSXBW,
            (8, 32, true) => &table::PMOVSXBD,
            (8, 64, true) => &table::PMOVSXBQ,
            (16, 32, true) => &table::PMOVSXWD,
            (16, 64, true) => &table::PMOVSXWQ,
            (32, 64, true) => &table::PMOVSXDQ,
            (8, 16, false) => &table::PMOVZXBW,
            (8, 32, false) => &table::PMOVZXBD,
            (8, 64, false) => &table::PMOVZXBQ,
            (16, 32, false) => &table::PMOVZXWD,
            (16, 64, false) => &table::PMOVZXWQ,
            (32, 64, false) => &table::PMOVZXDQ,
            _ => return Ok(a.parts.clone()),
        };
        self.widen(codes, a, to)
    }

    fn wrap(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        if Self::is_gpr(to) {
            return Ok(a.parts.clone());
        }
        if !self.cpu.evex {
            return self.wrap_by_halves(a, to);
        }
        let codes = match (a.ty.elem.bits(), to.elem.bits()) {
            (16, 8) => &table::PMOVWB,
            (32, 8) => &table::PMOVDB,
            (32, 16) => &table::PMOVDW,
            (64, 8) => &table::PMOVQB,
            (64, 16) => &table::PMOVQW,
            (64, 32) => &table::PMOVQD,
            _ => return Ok(a.parts.clone()),
        };
        self.narrow(codes, None, a, to)
    }

    /// Keeps the low half of every lane, again and again.
    fn wrap_by_halves(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let mut val = a.clone();
        while val.ty.elem.bits() > to.elem.bits() {
            let half = match val.ty.elem.bits() {
                64 => Elem::I32,
                32 => Elem::I16,
                _ => Elem::I8,
            };
            let ty = val.ty.with_elem(half);
            let shape = self.shape(val.ty);
            let mut pieces = Vec::new();
            for part in &val.parts {
                let reg = self.reg(part, val.ty);
                pieces.push(self.low_halves(reg, half.bytes(), shape.width));
            }
            val = Val { ty, parts: self.join(&pieces, u32::from(shape.lanes) * half.bytes(), ty)? };
        }
        Ok(val.parts)
    }

    /// The low `bytes` of every pair of as many, side by side at the start of a register.
    fn low_halves(&mut self, from: Reg, bytes: u32, width: Width) -> Reg {
        let to = self.code.reg(Class::Vec);
        if bytes == 4 && width == Width::Y {
            let order: Vec<u8> = [0u32, 2, 4, 6, 0, 2, 4, 6].iter().flat_map(|i| i.to_le_bytes()).collect();
            let order = self.reg(&Part::Const(Const { bytes: order, splat: None }), Type::vec(Elem::I32, 8));
            let code = self.pick(&table::PERMD, width);
            self.code.op(code, [to, order, from].map(|r| Operand::Reg(r, width)).to_vec());
            return to;
        }
        let lane: Vec<u8> =
            (0..16u8).map(|i| if i < 8 { i / bytes as u8 * 2 * bytes as u8 + i % bytes as u8 } else { 0x80 }).collect();
        let order = self.code.pool(&lane.repeat(width.bytes() as usize / 16));
        let code = self.pick(&table::PSHUFB, width);
        self.code.op(code, vec![Operand::Reg(to, width), Operand::Reg(from, width), Operand::Mem(order)]);
        self.close_lanes(to, width)
    }

    /// The low quadwords of both 128-bit lanes side by side.
    fn close_lanes(&mut self, from: Reg, width: Width) -> Reg {
        if width != Width::Y {
            return from;
        }
        let to = self.code.reg(Class::Vec);
        let code = self.pick(&table::PERMQ_IMM, width);
        self.code.op(code, vec![Operand::Reg(to, width), Operand::Reg(from, width), Operand::Imm8(0x08)]);
        to
    }

    fn saturate(&mut self, signed: bool, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (from, bits) = (a.ty.elem, to.elem.bits());
        if Self::is_gpr(to) {
            let (lo, hi) =
                if signed { (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
            let value = self.extended(&a.parts[0], from, true);
            let raised = self.code.choose(Code::Cmovl_r64_rm64, value, Gp::Num(lo));
            return Ok(vec![Self::part(self.code.choose(Code::Cmovg_r64_rm64, raised, Gp::Num(hi)))]);
        }
        if a.parts.len() > 1 && from == Elem::I32 {
            return Ok(self.pack(signed, a, to));
        }
        if !self.cpu.evex {
            return self.saturate_by_halves(signed, a, to);
        }
        let val = if signed {
            a.clone()
        } else {
            let zero = Val { ty: a.ty, parts: vec![self.splat_bits(a.ty, 0); a.parts.len()] };
            Val { ty: a.ty, parts: self.bin(BinOp::MaxS, a, &zero)? }
        };
        let codes = match (from.bits(), bits, signed) {
            (16, 8, true) => &table::PMOVSWB,
            (32, 8, true) => &table::PMOVSDB,
            (32, 16, true) => &table::PMOVSDW,
            (64, 8, true) => &table::PMOVSQB,
            (64, 16, true) => &table::PMOVSQW,
            (64, 32, true) => &table::PMOVSQD,
            (16, 8, false) => &table::PMOVUSWB,
            (32, 8, false) => &table::PMOVUSDB,
            (32, 16, false) => &table::PMOVUSDW,
            (64, 8, false) => &table::PMOVUSQB,
            (64, 16, false) => &table::PMOVUSQW,
            (64, 32, false) => &table::PMOVUSQD,
            _ => return self.no(format!("saturation of {from} to {}", to.elem)),
        };
        self.narrow(codes, None, &val, to)
    }

    /// Whole registers of 32-bit lanes, two to one for words and four to one for bytes. Packing works within 128 bits, so that
    /// doublewords are put in order at the end.
    fn pack(&mut self, signed: bool, a: &Val, to: Type) -> Vec<Part> {
        let width = self.shape(a.ty).width;
        let words = to.elem == Elem::I16;
        let step = |body: &mut Self, codes: &Codes, low: Reg, high: Reg| {
            let packed = body.code.reg(Class::Vec);
            let code = body.pick(codes, width);
            body.code.op(code, [packed, low, high].map(|r| Operand::Reg(r, width)).to_vec());
            packed
        };
        let to_words = if words && !signed { &table::PACKUSDW } else { &table::PACKSSDW };
        let to_bytes = if signed { &table::PACKSSWB } else { &table::PACKUSWB };
        let mut parts = Vec::new();
        for some in a.parts.chunks(if words { 2 } else { 4 }) {
            let regs: Vec<Reg> = some.iter().map(|part| self.reg(part, a.ty)).collect();
            let pairs: Vec<Reg> = regs.chunks(2).map(|two| step(self, to_words, two[0], two[two.len() - 1])).collect();
            let packed = if words { pairs[0] } else { step(self, to_bytes, pairs[0], pairs[pairs.len() - 1]) };
            parts.push(Part::Reg(self.lanes_in_order(packed, width, if words { 2 } else { 1 })));
        }
        parts
    }

    /// Puts registers that were packed within 128 bits one after the other: `each` doublewords of every 128 bits belong to
    /// the first register, as many to the next.
    fn lanes_in_order(&mut self, from: Reg, width: Width, each: u32) -> Reg {
        let lanes = width.bytes() / 16;
        let source = |i: u32| i % (each * lanes) / each * 4 + i / (each * lanes) * each + i % each;
        let order: Vec<u8> = (0..4 * lanes).flat_map(|i| source(i).to_le_bytes()).collect();
        let order = Part::Const(Const { bytes: order, splat: None });
        let order = self.reg(&order, Type::vec(Elem::I32, 4 * lanes as u16));
        let to = self.code.reg(Class::Vec);
        let code = self.pick(&table::PERMD, width);
        self.code.op(code, [to, order, from].map(|r| Operand::Reg(r, width)).to_vec());
        to
    }

    fn saturate_by_halves(&mut self, signed: bool, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (codes, middle) = match (a.ty.elem.bits(), to.elem.bits(), signed) {
            (32, 16, true) => (&table::PACKSSDW, None),
            (32, 16, false) => (&table::PACKUSDW, None),
            (16, 8, true) => (&table::PACKSSWB, None),
            (16, 8, false) => (&table::PACKUSWB, None),
            (32, 8, _) => (&table::PACKSSDW, Some(Elem::I16)),
            (from, ..) => return self.no(format!("saturation of {from} bits to {}", to.elem)),
        };
        if let Some(middle) = middle {
            let ty = a.ty.with_elem(middle);
            let parts = self.saturate_by_halves(true, a, ty)?;
            return self.saturate_by_halves(signed, &Val { ty, parts }, to);
        }
        let shape = self.shape(a.ty);
        let mut pieces = Vec::new();
        for part in &a.parts {
            let reg = self.reg(part, a.ty);
            let packed = self.code.reg(Class::Vec);
            let code = self.pick(codes, shape.width);
            self.code.op(code, [packed, reg, reg].map(|r| Operand::Reg(r, shape.width)).to_vec());
            pieces.push(self.close_lanes(packed, shape.width));
        }
        self.join(&pieces, u32::from(shape.lanes) * to.elem.bytes(), to)
    }

    fn int_to_float(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        let (from, float) = (a.ty.elem, to.elem);
        if to.is_scalar() {
            return self.scalar_to_float(a, to, signed);
        }
        let evex = self.cpu.evex;
        match (from, float, signed) {
            (Elem::I32, Elem::F32, true) => Ok(a.parts.iter().map(|p| self.unary(&table::CVTDQ2PS, to, p)).collect()),
            (Elem::I32, Elem::F32, false) if evex => {
                Ok(a.parts.iter().map(|p| self.unary(&table::CVTUDQ2PS, to, p)).collect())
            }
            (Elem::I32, Elem::F64, true) => self.widen(&table::CVTDQ2PD, a, to),
            (Elem::I32, Elem::F64, false) if evex => self.widen(&table::CVTUDQ2PD, a, to),
            (Elem::I64, Elem::F64, true) if evex => {
                Ok(a.parts.iter().map(|p| self.unary(&table::CVTQQ2PD, to, p)).collect())
            }
            (Elem::I64, Elem::F64, false) if evex => {
                Ok(a.parts.iter().map(|p| self.unary(&table::CVTUQQ2PD, to, p)).collect())
            }
            (Elem::I64, Elem::F32, true) if evex => self.narrow(&table::CVTQQ2PS, None, a, to),
            _ => self.no(format!("{from} lanes to {float}")),
        }
    }

    fn scalar_to_float(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        if !signed && a.ty.elem == Elem::I64 {
            return self.no("unsigned 64-bit integers to floats");
        }
        let value = self.extended(&a.parts[0], a.ty.elem, signed);
        let from = self.code.gp_reg(value);
        let (zero, reg) = (self.code.reg(Class::Vec), self.code.reg(Class::Vec));
        self.code.push(Inst::Zero(zero));
        let code = match (to.elem, self.cpu.evex) {
            (Elem::F32, false) => Code::VEX_Vcvtsi2ss_xmm_xmm_rm64,
            (Elem::F32, true) => Code::EVEX_Vcvtsi2ss_xmm_xmm_rm64_er,
            (_, false) => Code::VEX_Vcvtsi2sd_xmm_xmm_rm64,
            (_, true) => Code::EVEX_Vcvtsi2sd_xmm_xmm_rm64_er,
        };
        let operands = vec![Operand::Reg(reg, Width::X), Operand::Reg(zero, Width::X), Operand::Reg(from, Width::B8)];
        self.code.op(code, operands);
        Ok(vec![Part::Reg(reg)])
    }

    fn float_to_int(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        let from = a.ty;
        match (from.elem, to.elem, signed) {
            (Elem::F32, Elem::I32, true) => {
                let parts: Vec<Part> = a.parts.iter().map(|p| self.saturated_ints(from, p)).collect();
                self.scalar_of(parts, to)
            }
            (Elem::F32, Elem::I32, false) if self.cpu.evex && !to.is_scalar() => {
                let zero = Val { ty: from, parts: vec![self.splat_bits(from, 0); a.parts.len()] };
                let parts = self.bin(BinOp::MaxSel, a, &zero)?;
                Ok(parts.iter().map(|p| self.unary(&table::CVTTPS2UDQ, from, p)).collect())
            }
            (_, _, true) if to.is_scalar() => self.scalar_to_int(a, to),
            _ => self.no(format!("{from} to {to}")),
        }
    }

    /// 64 bits first; beyond them the instruction answers with the smallest number, for NaN too.
    fn scalar_to_int(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let double = a.ty.elem == Elem::F64;
        let x = self.reg(&a.parts[0], a.ty);
        let code = match (double, self.cpu.evex) {
            (false, false) => Code::VEX_Vcvttss2si_r64_xmmm32,
            (false, true) => Code::EVEX_Vcvttss2si_r64_xmmm32_sae,
            (true, false) => Code::VEX_Vcvttsd2si_r64_xmmm64,
            (true, true) => Code::EVEX_Vcvttsd2si_r64_xmmm64_sae,
        };
        let raw = self.code.reg(Class::Gpr);
        self.code.op(code, vec![Operand::Reg(raw, Width::B8), Operand::Reg(x, Width::X)]);
        let limit = if double { (2f64.powi(63)).to_bits() } else { u64::from(2f32.powi(63).to_bits()) };
        let limit = Val { ty: a.ty, parts: vec![self.splat_bits(a.ty, limit)] };
        let x = Val { ty: a.ty, parts: vec![Part::Reg(x)] };
        let above = self.cmp(Cmp::Ge, &x, &limit)?;
        let ordered = self.cmp(Cmp::Eq, &x, &x)?;
        let clamped = self.scalar_select(&above[0], Elem::I64, &Part::Int(i64::MAX), &Part::Reg(raw));
        let whole = self.scalar_select(&ordered[0], Elem::I64, &clamped, &Part::Int(0));
        if to.elem == Elem::I64 {
            return Ok(vec![whole]);
        }
        self.saturate(true, &Val { ty: Type::I64, parts: vec![whole] }, to)
    }

    fn float_to_bf16(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        // As vectors of two lanes or more, so that scalars take the same way.
        let ty = a.ty.with_lanes(a.ty.lanes.max(2));
        let int = ty.with_elem(Elem::I32);
        let float = Val { ty, parts: a.parts.iter().map(|p| Part::Reg(self.reg(p, ty))).collect() };
        let f = Val { ty: int, parts: float.parts.clone() };
        let number = |s: &Self, bits: u64| Val { ty: int, parts: vec![s.splat_bits(int, bits); f.parts.len()] };
        let val = |parts| Val { ty: int, parts };
        let high = val(self.shift(Shift::RightU, &f, &Part::Int(16))?);
        let odd = val(self.bin(BinOp::And, &high, &number(self, 1))?);
        let rounded = val(self.bin(BinOp::Add, &f, &number(self, 0x7fff))?);
        let rounded = val(self.bin(BinOp::Add, &rounded, &odd)?);
        let rounded = val(self.shift(Shift::RightU, &rounded, &Part::Int(16))?);
        let quiet = val(self.bin(BinOp::Or, &high, &number(self, 0x40))?);
        let nan = Val { ty: ty.mask(), parts: self.cmp(Cmp::Ne, &float, &float)? };
        let bits = val(self.select(&nan, &quiet, &rounded)?);
        let wrapped = self.wrap(&bits, to.with_lanes(ty.lanes))?;
        self.scalar_of(wrapped, to)
    }

    /// Lanes of masks stay; how many of them a part has changes with the width beside.
    fn resize_mask(&mut self, narrows: bool, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        if a.ty.is_scalar() {
            return Ok(a.parts.clone());
        }
        if !self.cpu.evex {
            let (from, int) = (a.ty.with_elem(a.ty.elem.int()), to.with_elem(to.elem.int()));
            let ints = Val { ty: from, parts: a.parts.clone() };
            return if narrows { self.wrap(&ints, int) } else { self.extend(&ints, int, true) };
        }
        let (from, shape) = (self.shape(a.ty), self.shape(to));
        let regs: Vec<Reg> = a.parts.iter().map(|p| self.reg(p, a.ty)).collect();
        let mut parts = Vec::with_capacity(shape.count);
        for part in 0..shape.count {
            let first = part as u16 * shape.lanes;
            let mut whole: Option<Reg> = None;
            for offset in (0..shape.lanes).step_by(usize::from(from.lanes.min(shape.lanes))) {
                let lane = first + offset;
                let source = regs[usize::from(lane / from.lanes)];
                let piece = self.shift_mask(Code::VEX_Kshiftrq_kr_kr_imm8, source, lane % from.lanes);
                whole = Some(match whole {
                    None => piece,
                    Some(low) => {
                        // Only the lanes below; what is above them may be anything.
                        let up = self.shift_mask(Code::VEX_Kshiftlq_kr_kr_imm8, low, 64 - offset);
                        let low = self.shift_mask(Code::VEX_Kshiftrq_kr_kr_imm8, up, 64 - offset);
                        let high = self.shift_mask(Code::VEX_Kshiftlq_kr_kr_imm8, piece, offset);
                        let both = self.code.reg(Class::Mask);
                        let operands = [both, low, high].map(|r| Operand::Reg(r, Width::K)).to_vec();
                        self.code.op(Code::VEX_Korq_kr_kr_kr, operands);
                        both
                    }
                });
            }
            parts.extend(whole.map(Part::Reg));
        }
        Ok(parts)
    }

    fn shift_mask(&mut self, code: Code, from: Reg, by: u16) -> Reg {
        if by == 0 {
            return from;
        }
        let to = self.code.reg(Class::Mask);
        let operands = vec![Operand::Reg(to, Width::K), Operand::Reg(from, Width::K), Operand::Imm8(by.into())];
        self.code.op(code, operands);
        to
    }

    fn bits(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (from_mask, to_mask) = (a.ty.elem.is_mask(), to.elem.is_mask());
        if a.ty.is_scalar() && to.is_scalar() && from_mask != to_mask {
            return self.scalar_mask_bits(a, to);
        }
        if from_mask && !to_mask && !a.ty.is_scalar() {
            let int = a.ty.with_elem(a.ty.elem.int());
            let ints = Val { ty: int, parts: self.mask_to_ints(a, int) };
            return self.bits(&ints, to);
        }
        if to_mask && !from_mask && !to.is_scalar() {
            let int = to.with_elem(to.elem.int());
            let ints = Val { ty: int, parts: self.bits(a, int)? };
            return self.ints_to_mask(&ints);
        }
        match (Self::is_gpr(a.ty), Self::is_gpr(to)) {
            (true, true) => Ok(a.parts.clone()),
            (false, false) => Ok(a.parts.iter().map(|part| self.retyped(part, a.ty)).collect()),
            (true, false) => {
                let value = self.gp(&a.parts[0], a.ty.elem);
                let reg = self.code.gp_reg(value);
                Ok(vec![Part::Reg(self.xmm_from_gpr(reg))])
            }
            (false, true) => {
                let reg = self.reg(&a.parts[0], a.ty);
                Ok(vec![Part::Reg(self.gpr_from_xmm(reg))])
            }
        }
    }

    /// A part of vector registers under another type: scalars in memory are loaded, the rest stays what it is.
    fn retyped(&mut self, part: &Part, ty: Type) -> Part {
        match part {
            Part::Scalar(..) | Part::Load(_) | Part::Splat(..) => Part::Reg(self.reg(part, ty)),
            part => part.clone(),
        }
    }

    fn scalar_mask_bits(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        if a.ty.elem.is_mask() {
            let ones = self.scalar_bmask(&a.parts[0]);
            let int = Val { ty: Type::scalar(to.elem.int()), parts: vec![Self::part(ones)] };
            return self.bits(&int, to);
        }
        let int = Type::scalar(a.ty.elem.int());
        let bits = self.bits(a, int)?;
        let value = self.extended(&bits[0], int.elem, true);
        self.code.compare(value, Gp::Num(0), Width::B8);
        Ok(vec![Part::Reg(self.code.flag(Cc::L))])
    }

    fn mask_to_ints(&mut self, a: &Val, int: Type) -> Vec<Part> {
        if !self.cpu.evex {
            return a.parts.clone();
        }
        let codes = match int.elem.bits() {
            8 => &table::PMOVM2B,
            16 => &table::PMOVM2W,
            32 => &table::PMOVM2D,
            _ => &table::PMOVM2Q,
        };
        let width = self.shape(int).width;
        let code = self.pick(codes, width);
        let mut parts = Vec::new();
        for part in &a.parts {
            let mask = self.reg(part, a.ty);
            let to = self.code.reg(Class::Vec);
            self.code.op(code, vec![Operand::Reg(to, width), Operand::Reg(mask, Width::K)]);
            parts.push(Part::Reg(to));
        }
        parts
    }

    /// True where the highest bit is set.
    fn ints_to_mask(&mut self, ints: &Val) -> Result<Vec<Part>, CodegenError> {
        if !self.cpu.evex {
            let zero = Val { ty: ints.ty, parts: vec![self.splat_bits(ints.ty, 0); ints.parts.len()] };
            return self.cmp(Cmp::Lt, ints, &zero);
        }
        let codes = match ints.ty.elem.bits() {
            8 => &table::PMOVB2M,
            16 => &table::PMOVW2M,
            32 => &table::PMOVD2M,
            _ => &table::PMOVQ2M,
        };
        let width = self.shape(ints.ty).width;
        let code = self.pick(codes, width);
        let mut parts = Vec::new();
        for part in &ints.parts {
            let reg = self.reg(part, ints.ty);
            let to = self.code.reg(Class::Mask);
            self.code.op(code, vec![Operand::Reg(to, Width::K), Operand::Reg(reg, width)]);
            parts.push(Part::Reg(to));
        }
        Ok(parts)
    }
}
