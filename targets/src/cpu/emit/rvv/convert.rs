//! Conversions between elements: registers double or halve in number as lanes widen or narrow.

use super::super::alloc::Reg;
use super::body::{Body, Part, Scalar, Test, Val};
use super::code::Gp;
use super::inst::{Arg, Class, Demand};
use super::isa::Code;
use crate::cpu::kernel::ir::{BinOp, Cmp, Cvt, Shift};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// The integer of half the width.
fn half(elem: Elem) -> Elem {
    match elem.bits() {
        64 => Elem::I32,
        32 => Elem::I16,
        _ => Elem::I8,
    }
}

impl Body<'_> {
    pub fn cvt(&mut self, cvt: Cvt, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let scalar = to.is_scalar() && a.ty.is_scalar();
        match cvt {
            Cvt::Bits => self.bits(a, to),
            Cvt::SExt | Cvt::UExt | Cvt::Wrap if a.ty.elem.is_mask() => self.resize_mask(cvt, a, to),
            Cvt::SExt | Cvt::UExt if scalar => {
                Ok(vec![Self::part(self.extended(&a.parts[0], a.ty.elem, cvt == Cvt::SExt))])
            }
            Cvt::SExt | Cvt::UExt => self.extend(a, to, cvt == Cvt::SExt),
            Cvt::Wrap if scalar => Ok(a.parts.clone()),
            Cvt::Wrap => self.halve(Code::VnsrlWi, a, to),
            Cvt::SatS | Cvt::SatU => self.saturate(cvt == Cvt::SatS, a, to),
            Cvt::Promote | Cvt::Demote if scalar => Ok(vec![self.scalar_resize_float(&a.parts[0], a.ty.elem)]),
            Cvt::Promote => self.widen(Code::VfwcvtFFV, a, to),
            Cvt::Demote => self.narrow(Code::VfncvtFFW, a, to),
            Cvt::FromS | Cvt::FromU if scalar => {
                Ok(vec![self.scalar_to_float(&a.parts[0], a.ty.elem, to.elem, cvt == Cvt::FromS)])
            }
            Cvt::FromS | Cvt::FromU => self.int_to_float(a, to, cvt == Cvt::FromS),
            Cvt::ToS | Cvt::ToU if scalar => {
                Ok(vec![self.scalar_to_int(&a.parts[0], a.ty.elem, to.elem, cvt == Cvt::ToS)])
            }
            Cvt::ToS | Cvt::ToU => self.float_to_int(a, to, cvt == Cvt::ToS),
            Cvt::FromF16 | Cvt::ToF16 | Cvt::FromBf16 | Cvt::ToBf16 => self.half_float(cvt, a, to),
        }
    }

    /// Lanes from there on, first in a register.
    pub fn chunk(&mut self, reg: Reg, elem: Elem, at: u16, lanes: u16) -> Reg {
        if at == 0 {
            return reg;
        }
        let demand = Demand::Exact { bytes: elem.bytes() as u8, eighths: 0, lanes };
        if at < 32 {
            return self.vector_op(Code::VslidedownVi, &[Arg::Reg(reg)], at.into(), demand);
        }
        let by = self.code.gp_arg(Gp::Num(at.into()));
        self.vector_op(Code::VslidedownVx, &[Arg::Reg(reg), by], 0, demand)
    }

    /// One instruction per part of the result, each of which takes as many lanes from the source. The type is that of the
    /// source, in a part of a register, or the result's for extensions.
    fn widen(&mut self, code: Code, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (from, shape) = (self.shape(a.ty), self.shape(to));
        let lanes = shape.lanes;
        let extends = !code.name().starts_with("vfw");
        let demand = if extends {
            Demand::Exact { bytes: to.elem.bytes() as u8, eighths: 0, lanes }
        } else {
            Demand::Exact { bytes: a.ty.elem.bytes() as u8, eighths: 1, lanes }
        };
        let mut parts = Vec::with_capacity(shape.count);
        for part in 0..shape.count {
            let lane = part as u16 * lanes;
            let source = self.reg(&a.parts[usize::from(lane / from.lanes)], a.ty)?;
            let source = self.chunk(source, a.ty.elem, lane % from.lanes, lanes);
            parts.push(Part::Reg(self.vector_op(code, &[Arg::Reg(source)], 0, demand)));
        }
        Ok(parts)
    }

    /// One instruction per part of the source, to elements of half the width; what they leave is joined.
    fn narrow(&mut self, code: Code, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let lanes = self.shape(a.ty).lanes;
        let demand = Demand::Exact { bytes: to.elem.bytes() as u8, eighths: 1, lanes };
        let mut pieces = Vec::with_capacity(a.parts.len());
        for part in &a.parts {
            let source = Arg::Reg(self.reg(part, a.ty)?);
            pieces.push(self.vector_op(code, &[source], 0, demand));
        }
        let per_part = pieces.len().div_ceil(self.shape(to).count);
        Ok(pieces.chunks(per_part).map(|chunk| Part::Reg(self.join(chunk, to.elem, lanes))).collect())
    }

    /// Registers of so many lanes each, side by side in one.
    pub fn join(&mut self, pieces: &[Reg], elem: Elem, lanes: u16) -> Reg {
        let [first, others @ ..] = pieces else { return self.code.reg(Class::Vec) };
        if others.is_empty() {
            return *first;
        }
        let to = self.code.copy(*first, Class::Vec);
        for (&piece, at) in others.iter().zip(1..) {
            let at = at * lanes;
            let demand = Demand::Exact { bytes: elem.bytes() as u8, eighths: 0, lanes: at + lanes };
            if at < 32 {
                self.code.vector(Code::VslideupVi, &[to, piece].map(Arg::Reg), at.into(), demand);
                continue;
            }
            let by = self.code.gp_arg(Gp::Num(at.into()));
            self.code.vector(Code::VslideupVx, &[Arg::Reg(to), Arg::Reg(piece), by], 0, demand);
        }
        to
    }

    fn extend(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        let code = match (to.elem.bits() / a.ty.elem.bits(), signed) {
            (2, true) => Code::VsextVf2,
            (4, true) => Code::VsextVf4,
            (8, true) => Code::VsextVf8,
            (2, false) => Code::VzextVf2,
            (4, false) => Code::VzextVf4,
            (8, false) => Code::VzextVf8,
            _ => return Ok(a.parts.clone()),
        };
        self.widen(code, a, to)
    }

    /// Halves the width of integers, again and again.
    fn halve(&mut self, code: Code, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let mut val = a.clone();
        while val.ty.elem.bits() > to.elem.bits() {
            let ty = val.ty.with_elem(half(val.ty.elem));
            val = Val { ty, parts: self.narrow(code, &val, ty)? };
        }
        Ok(val.parts)
    }

    /// Narrowing with saturation, again and again, is that of the last one.
    fn saturate(&mut self, signed: bool, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let bits = to.elem.bits();
        if to.is_scalar() {
            let (lo, hi) =
                if signed { (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
            let raised = self.scalar_bin(BinOp::MaxS, a.ty.elem, &a.parts[0], &Part::Int(lo))?;
            return Ok(vec![self.scalar_bin(BinOp::MinS, a.ty.elem, &raised, &Part::Int(hi))?]);
        }
        if signed {
            return self.halve(Code::VnclipWi, a, to);
        }
        let zero = Val { ty: a.ty, parts: vec![self.splat_bits(a.ty, 0); a.parts.len()] };
        let raised = Val { ty: a.ty, parts: self.bin(BinOp::MaxS, a, &zero)? };
        self.halve(Code::VnclipuWi, &raised, to)
    }

    fn int_to_float(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        let by_sign = |with: Code, without: Code| if signed { with } else { without };
        match (a.ty.elem.bits(), to.elem.bits()) {
            (32, 64) => self.widen(by_sign(Code::VfwcvtFXV, Code::VfwcvtFXuV), a, to),
            (64, 32) => self.narrow(by_sign(Code::VfncvtFXW, Code::VfncvtFXuW), a, to),
            _ => {
                let (code, demand) = (by_sign(Code::VfcvtFXV, Code::VfcvtFXuV), self.whole(to));
                self.each(a, |s, part| {
                    let from = Arg::Reg(s.reg(part, a.ty)?);
                    Ok(Part::Reg(s.vector_op(code, &[from], 0, demand)))
                })
            }
        }
    }

    /// The machine saturates, but takes NaN for the largest number: it is made zero before. Conversions to another width go
    /// through that of the wider one.
    fn float_to_int(&mut self, a: &Val, to: Type, signed: bool) -> Result<Vec<Part>, CodegenError> {
        if to.elem.bits() > a.ty.elem.bits() {
            let wide = a.ty.with_elem(Elem::F64);
            let parts = self.widen(Code::VfwcvtFFV, a, wide)?;
            return self.float_to_int(&Val { ty: wide, parts }, to, signed);
        }
        let (ty, demand) = (a.ty, self.whole(a.ty));
        let (convert, clip) = match signed {
            true => (Code::VfcvtRtzXFV, Code::VnclipWi),
            false => (Code::VfcvtRtzXuFV, Code::VnclipuWi),
        };
        let zero = self.splat_bits(ty, 0);
        // One part after the other: QEMU before 8.0 stops at a conversion of static rounding mode that follows no other
        // floating-point instruction.
        let parts = self.each(a, |s, part| {
            let part = Part::Reg(s.reg(part, ty)?);
            let nan = Test { cmp: Cmp::Ne, ty, a: part.clone(), b: part.clone() };
            let number = s.merge(&Part::Test(Box::new(nan)), ty, &zero, &part)?;
            let number = Arg::Reg(s.reg(&number, ty)?);
            Ok(Part::Reg(s.vector_op(convert, &[number], 0, demand)))
        })?;
        self.halve(clip, &Val { ty: ty.with_elem(ty.elem.int()), parts }, to)
    }

    /// The same truth values beside lanes of another width: through integers, where registers differ in number.
    fn resize_mask(&mut self, cvt: Cvt, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        if to.is_scalar() || self.shape(to).count == self.shape(a.ty).count {
            return Ok(a.parts.clone());
        }
        let (from, int) = (a.ty.with_elem(a.ty.elem.int()), to.with_elem(to.elem.int()));
        let ints = Val { ty: from, parts: self.mask_to_ints(a, from)? };
        let cvt = if cvt == Cvt::Wrap { Cvt::Wrap } else { Cvt::SExt };
        let resized = Val { ty: int, parts: self.cvt(cvt, &ints, int)? };
        self.ints_to_mask(&resized)
    }

    /// All ones where true.
    pub fn mask_to_ints(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (zero, ones) = (self.splat_bits(to, 0), self.splat_bits(to, u64::MAX));
        self.each(a, |s, part| s.merge(part, to, &ones, &zero))
    }

    /// True where negative.
    fn ints_to_mask(&mut self, a: &Val) -> Result<Vec<Part>, CodegenError> {
        let zero = self.splat_bits(a.ty, 0);
        self.each(a, |s, part| {
            let test = Test { cmp: Cmp::Lt, ty: a.ty, a: part.clone(), b: zero.clone() };
            Ok(Part::Reg(s.reg(&Part::Test(Box::new(test)), a.ty.mask())?))
        })
    }

    fn bits(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let (from, scalar) = (a.ty, a.ty.is_scalar());
        if from.elem.is_mask() {
            let ints = from.with_elem(from.elem.int());
            let parts = if scalar {
                let flag = self.gp(&a.parts[0]);
                vec![Self::part(self.code.alu(Code::Sub, Gp::Num(0), flag))]
            } else {
                self.mask_to_ints(a, ints)?
            };
            return self.bits(&Val { ty: ints, parts }, to);
        }
        if to.elem.is_mask() {
            let ints = to.with_elem(to.elem.int());
            let parts = self.bits(a, ints)?;
            if !to.is_scalar() {
                return self.ints_to_mask(&Val { ty: ints, parts });
            }
            let value = self.extended(&parts[0], ints.elem, true);
            return Ok(vec![Self::part(self.code.alu_imm(Code::Srli, value, 63))]);
        }
        match (scalar, to.is_scalar()) {
            (false, false) => Ok(a.parts.clone()),
            (true, true) => Ok(vec![match (from.elem.is_float(), to.elem.is_float()) {
                (true, false) => Self::part(self.bits_of_float(&a.parts[0], from.elem)),
                (false, true) => {
                    let value = self.gp(&a.parts[0]);
                    self.float_of_bits(value, to.elem)
                }
                _ => a.parts[0].clone(),
            }]),
            (false, true) => {
                let reg = self.reg(&a.parts[0], from)?;
                Ok(vec![Part::Reg(self.first_lane(reg, to.elem))])
            }
            (true, false) => {
                let parts = self.splat(from.with_lanes(2), a)?;
                Ok(vec![Part::Reg(self.reg(&parts[0], from.with_lanes(2))?)])
            }
        }
    }

    /// Half floats are bits in integers: their fields are moved by integer operations.
    fn half_float(&mut self, cvt: Cvt, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        if !to.is_scalar() {
            return match cvt {
                Cvt::FromF16 => self.f16_to_f32(a, to),
                Cvt::FromBf16 => {
                    let int = to.with_elem(Elem::I32);
                    let wide = Val { ty: int, parts: self.extend(a, int, false)? };
                    self.shift(Shift::Left, &wide, &Part::Int(16))
                }
                Cvt::ToF16 => self.f32_to_f16(a, to),
                _ => self.f32_to_bf16(a, to),
            };
        }
        let (pair, result) = (a.ty.with_lanes(2), to.with_lanes(2));
        let parts = self.splat(pair, a)?;
        let parts = vec![Part::Reg(self.reg(&parts[0], pair)?)];
        let done = self.half_float(cvt, &Val { ty: pair, parts }, result)?;
        let reg = self.reg(&done[0], result)?;
        Ok(vec![Part::Reg(self.first_lane(reg, to.elem))])
    }

    fn number(&self, ty: Type, bits: u64) -> Val {
        Val { ty, parts: vec![self.splat_bits(ty, bits); self.shape(ty).count] }
    }

    fn bin_val(&mut self, op: BinOp, a: &Val, b: &Val) -> Result<Val, CodegenError> {
        Ok(Val { ty: a.ty, parts: self.bin(op, a, b)? })
    }

    fn bin_number(&mut self, op: BinOp, a: &Val, bits: u64) -> Result<Val, CodegenError> {
        let b = self.number(a.ty, bits);
        self.bin_val(op, a, &b)
    }

    fn shift_by(&mut self, op: Shift, a: &Val, by: i64) -> Result<Val, CodegenError> {
        Ok(Val { ty: a.ty, parts: self.shift(op, a, &Part::Int(by))? })
    }

    /// `a` where the comparison with that number holds, else `b`.
    fn where_(&mut self, cmp: Cmp, of: &Val, bits: u64, a: &Val, b: &Val) -> Result<Val, CodegenError> {
        let with = self.number(of.ty, bits);
        let mask = Val { ty: of.ty.mask(), parts: self.cmp(cmp, of, &with, true)? };
        Ok(Val { ty: a.ty, parts: self.select(&mask, a, b)? })
    }

    fn seen_as(val: Val, elem: Elem) -> Val {
        Val { ty: val.ty.with_elem(elem), ..val }
    }

    /// Exponent and mantissa move into place, a product with 2^112 corrects the bias (exact, also for subnormal numbers);
    /// infinities and NaN get the largest exponent.
    fn f16_to_f32(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let int = to.with_elem(Elem::I32);
        let h = Val { ty: int, parts: self.extend(a, int, false)? };
        let magnitude = self.bin_number(BinOp::And, &h, 0x7fff)?;
        let moved = Self::seen_as(self.shift_by(Shift::Left, &magnitude, 13)?, Elem::F32);
        let scaled = Self::seen_as(self.bin_number(BinOp::Mul, &moved, 0x7780_0000)?, Elem::I32);
        let largest = self.bin_number(BinOp::Or, &scaled, 0x7f80_0000)?;
        let bits = self.where_(Cmp::Gt, &magnitude, 0x7bff, &largest, &scaled)?;
        let sign = self.bin_val(BinOp::Xor, &h, &magnitude)?;
        let sign = self.shift_by(Shift::Left, &sign, 16)?;
        Ok(self.bin_val(BinOp::Or, &bits, &sign)?.parts)
    }

    /// To nearest, ties to even: normal numbers by adding half a unit to the bits, subnormal ones by adding a number whose
    /// unit is the smallest subnormal.
    fn f32_to_f16(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        const MAGIC: u64 = 126 << 23;
        let f = Self::seen_as(a.clone(), Elem::I32);
        let sign = self.bin_number(BinOp::And, &f, 0x8000_0000)?;
        let f = self.bin_val(BinOp::Xor, &f, &sign)?;
        let (quiet, infinity) = (self.number(f.ty, 0x7e00), self.number(f.ty, 0x7c00));
        let special = self.where_(Cmp::Gt, &f, 0x7f80_0000, &quiet, &infinity)?;
        let sum = self.bin_number(BinOp::Add, &Self::seen_as(f.clone(), Elem::F32), MAGIC)?;
        let small = self.bin_number(BinOp::Sub, &Self::seen_as(sum, Elem::I32), MAGIC)?;
        let shifted = self.shift_by(Shift::RightU, &f, 13)?;
        let odd = self.bin_number(BinOp::And, &shifted, 1)?;
        let normal = self.bin_number(BinOp::Add, &f, 0xc800_0fff)?;
        let normal = self.bin_val(BinOp::Add, &normal, &odd)?;
        let normal = self.shift_by(Shift::RightU, &normal, 13)?;
        let bits = self.where_(Cmp::Lt, &f, 113 << 23, &small, &normal)?;
        let bits = self.where_(Cmp::Ge, &f, 143 << 23, &special, &bits)?;
        let sign = self.shift_by(Shift::RightU, &sign, 16)?;
        let bits = self.bin_val(BinOp::Or, &bits, &sign)?;
        self.halve(Code::VnsrlWi, &bits, to)
    }

    fn f32_to_bf16(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let f = Self::seen_as(a.clone(), Elem::I32);
        let high = self.shift_by(Shift::RightU, &f, 16)?;
        let odd = self.bin_number(BinOp::And, &high, 1)?;
        let rounded = self.bin_number(BinOp::Add, &f, 0x7fff)?;
        let rounded = self.bin_val(BinOp::Add, &rounded, &odd)?;
        let rounded = self.shift_by(Shift::RightU, &rounded, 16)?;
        let quiet = self.bin_number(BinOp::Or, &high, 0x40)?;
        let size = self.bin_number(BinOp::And, &f, 0x7fff_ffff)?;
        let bits = self.where_(Cmp::Gt, &size, 0x7f80_0000, &quiet, &rounded)?;
        self.halve(Code::VnsrlWi, &bits, to)
    }

    /// That number in every lane of a part.
    pub fn splat_bits(&self, ty: Type, bits: u64) -> Part {
        let bytes = ty.elem.bytes() as u8;
        let keep = if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
        Part::Splat(Scalar::Bits(bits & keep), bytes)
    }
}
