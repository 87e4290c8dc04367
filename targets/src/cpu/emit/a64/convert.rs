//! Conversions between elements: registers double or halve in number as lanes widen or narrow.

use super::body::{Body, Part, Val, count, is_gpr, part_bytes};
use super::code::Code;
use super::ops::{Arr, Cond, V2, V3, VShift};
use super::scalar::Gp;
use crate::cpu::kernel::ir::{Cvt, Shift};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

impl Body<'_> {
    pub fn cvt(&mut self, cvt: Cvt, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        let mask = a.ty.elem.is_mask();
        Ok(match cvt {
            Cvt::Bits => self.bits(a, to),
            // Scalar masks are 0 or 1 whatever their width.
            Cvt::SExt | Cvt::UExt | Cvt::Wrap if mask && a.ty.is_scalar() => a.parts.clone(),
            Cvt::SExt | Cvt::UExt => self.extend(a, to, cvt == Cvt::SExt || mask),
            Cvt::Wrap => self.wrap(a, to),
            Cvt::SatS | Cvt::SatU => self.saturate(cvt == Cvt::SatS, a, to),
            Cvt::Promote => self.widen(|_, half| Code::V2(V2::Fcvtl, half), a, to),
            Cvt::Demote => self.narrow(V2::Fcvtn, a, to),
            Cvt::FromS | Cvt::FromU => self.int_to_float(a, to, cvt == Cvt::FromS),
            Cvt::ToS | Cvt::ToU => self.float_to_int(a, to, cvt == Cvt::ToS),
            Cvt::FromF16 => {
                let bits = self.vector_of(a);
                self.widen(|_, half| Code::V2(V2::Fcvtl, half), &bits, to)
            }
            Cvt::ToF16 => {
                let bits = self.narrow(V2::Fcvtn, a, to);
                self.scalar_of(bits, to)
            }
            Cvt::FromBf16 => {
                let bits = self.vector_of(a);
                let int = to.with_elem(Elem::I32).with_lanes(to.lanes.max(2));
                let wide = self.widen(|_, half| Code::Shift(VShift::Ushll, half, 0), &bits, int);
                wide.iter().map(|part| self.shift_imm(Shift::Left, int, part, 16)).collect()
            }
            Cvt::ToBf16 => self.float_to_bf16(a, to)?,
        })
    }

    /// A scalar integer as the first lane of a vector register; vectors stay.
    fn vector_of(&mut self, a: &Val) -> Val {
        if !is_gpr(a.ty) {
            return a.clone();
        }
        let reg = self.gpr(&a.parts[0], a.ty.elem);
        // Type of more than one lane, so that it counts as a vector.
        let ty = a.ty.with_lanes(2);
        Val { ty, parts: vec![self.vector_op(Code::FromX(a.ty.elem.bits() == 64), &[reg])] }
    }

    /// The first lane in a general register when `to` is a scalar.
    fn scalar_of(&mut self, parts: Vec<Part>, to: Type) -> Vec<Part> {
        if !is_gpr(to) {
            return parts;
        }
        let reg = self.reg(&parts[0], to.with_lanes(2));
        vec![Part::Reg(self.code.new_x(Code::ToX(to.elem.bits() == 64), &[reg]))]
    }

    /// Lanes twice as wide: the lower half of a register, then the upper one.
    fn widen(&mut self, code: impl Fn(Type, Arr) -> Code, a: &Val, to: Type) -> Vec<Part> {
        let mut parts = Vec::with_capacity(count(to));
        for part in &a.parts {
            let from = self.reg(part, a.ty);
            for whole in [false, true] {
                if parts.len() < count(to) {
                    parts.push(self.vector_op(code(a.ty, Arr::of(a.ty.elem.bits(), whole)), &[from]));
                }
            }
        }
        parts
    }

    /// Lanes half as wide: two registers to one.
    fn narrow(&mut self, op: V2, a: &Val, to: Type) -> Vec<Part> {
        let mut parts = Vec::with_capacity(count(to));
        for pair in a.parts.chunks(2) {
            let low = self.reg(&pair[0], a.ty);
            let low = self.code.new_v(Code::V2(op, Arr::of(to.elem.bits(), false)), &[low]);
            parts.push(Part::Reg(match pair.get(1) {
                None => low,
                Some(high) => {
                    let high = self.reg(high, a.ty);
                    self.updated(Code::V2(op, Arr::of(to.elem.bits(), true)), low, &[high])
                }
            }));
        }
        parts
    }

    fn extend(&mut self, a: &Val, to: Type, signed: bool) -> Vec<Part> {
        if is_gpr(to) {
            return vec![Self::part(self.extended(&a.parts[0], a.ty.elem, signed))];
        }
        let op = if signed { VShift::Sshll } else { VShift::Ushll };
        let mut val = a.clone();
        while val.ty.elem.bits() < to.elem.bits() {
            let ty = val.ty.with_elem(int_of(2 * val.ty.elem.bits()));
            val = Val { ty, parts: self.widen(|_, half| Code::Shift(op, half, 0), &val, ty) };
        }
        val.parts
    }

    fn wrap(&mut self, a: &Val, to: Type) -> Vec<Part> {
        if is_gpr(to) {
            return a.parts.clone();
        }
        let mut val = a.clone();
        while val.ty.elem.bits() > to.elem.bits() {
            let ty = val.ty.with_elem(int_of(val.ty.elem.bits() / 2));
            val = Val { ty, parts: self.narrow(V2::Xtn, &val, ty) };
        }
        val.parts
    }

    /// Signed all the way, but for the last step of unsigned results.
    fn saturate(&mut self, signed: bool, a: &Val, to: Type) -> Vec<Part> {
        if is_gpr(to) {
            let value = self.extended(&a.parts[0], a.ty.elem, true);
            return vec![self.clamped(value, to.elem, signed)];
        }
        let mut val = a.clone();
        while val.ty.elem.bits() > to.elem.bits() {
            let bits = val.ty.elem.bits() / 2;
            let ty = val.ty.with_elem(int_of(bits));
            let op = if signed || bits > to.elem.bits() { V2::Sqxtn } else { V2::Sqxtun };
            val = Val { ty, parts: self.narrow(op, &val, ty) };
        }
        val.parts
    }

    fn clamped(&mut self, value: Gp, to: Elem, signed: bool) -> Part {
        let bits = to.bits();
        let (lo, hi) = if signed { (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
        let raised = self.code.choose(Cond::Gt, value, Gp::Num(lo));
        Self::part(self.code.choose(Cond::Lt, raised, Gp::Num(hi)))
    }

    fn int_to_float(&mut self, a: &Val, to: Type, signed: bool) -> Vec<Part> {
        let (from, double) = (a.ty.elem, to.elem == Elem::F64);
        let op = if signed { V2::Scvtf } else { V2::Ucvtf };
        if to.is_scalar() || (from == Elem::I64 && !double) {
            // By way of 64-bit floats lanes would be rounded twice.
            let scalars: Vec<Part> = (0..a.ty.lanes)
                .map(|lane| {
                    let scalar = self.extract(a, lane);
                    let value = self.extended(&scalar[0], from, signed);
                    let reg = self.code.gp_reg(value);
                    self.vector_op(Code::FromInt { signed, double }, &[reg])
                })
                .collect();
            return self.gather(to, &scalars);
        }
        let ints = if from == Elem::I32 && double {
            let ty = a.ty.with_elem(Elem::I64);
            Val { ty, parts: self.extend(a, ty, signed) }
        } else {
            a.clone()
        };
        ints.parts.iter().map(|part| self.unary(op, to, part)).collect()
    }

    fn float_to_int(&mut self, a: &Val, to: Type, signed: bool) -> Vec<Part> {
        let (double, wide) = (a.ty.elem == Elem::F64, to.elem == Elem::I64);
        if to.is_scalar() {
            let from = self.reg(&a.parts[0], a.ty);
            return vec![Part::Reg(self.code.new_x(Code::ToInt { signed, double, wide }, &[from]))];
        }
        let op = if signed { V2::Fcvtzs } else { V2::Fcvtzu };
        let floats = if wide && !double {
            let ty = a.ty.with_elem(Elem::F64);
            Val { ty, parts: self.widen(|_, half| Code::V2(V2::Fcvtl, half), a, ty) }
        } else {
            a.clone()
        };
        let ty = floats.ty.with_elem(floats.ty.elem.int());
        let parts = floats.parts.iter().map(|part| self.unary(op, floats.ty, part)).collect();
        if !double || wide {
            return parts;
        }
        // Saturated to 64 bits, then to 32.
        self.narrow(if signed { V2::Sqxtn } else { V2::Uqxtn }, &Val { ty, parts }, to)
    }

    fn float_to_bf16(&mut self, a: &Val, to: Type) -> Result<Vec<Part>, CodegenError> {
        // As vectors of two lanes or more, so that scalars take the same way.
        let ty = a.ty.with_lanes(a.ty.lanes.max(2));
        let int = ty.with_elem(Elem::I32);
        let splat = |bits: u32| Part::Const(std::array::from_fn(|byte| bits.to_le_bytes()[byte % 4]));
        let mut parts = Vec::with_capacity(a.parts.len());
        for part in &a.parts {
            let float = Part::Reg(self.reg(part, a.ty));
            let high = self.shift_imm(Shift::RightU, int, &float, 16);
            let odd = self.binary(V3::And, int, &high, &splat(1));
            let rounded = self.binary(V3::Add, int, &float, &splat(0x7fff));
            let rounded = self.binary(V3::Add, int, &rounded, &odd);
            let rounded = self.shift_imm(Shift::RightU, int, &rounded, 16);
            let quiet = self.binary(V3::Orr, int, &high, &splat(0x40));
            let number = self.binary(V3::Fcmeq, ty, &float, &float);
            parts.push(self.blend(&number, int, &rounded, &quiet));
        }
        let wrapped = self.wrap(&Val { ty: int, parts }, to.with_lanes(ty.lanes));
        Ok(self.scalar_of(wrapped, to))
    }

    fn bits(&mut self, a: &Val, to: Type) -> Vec<Part> {
        let (from_mask, to_mask) = (a.ty.elem.is_mask(), to.elem.is_mask());
        if a.ty.is_scalar() && from_mask && !(to.is_scalar() && to_mask) {
            let ones =
                Val { ty: Type::scalar(a.ty.elem.int()), parts: vec![Part::Reg(self.scalar_bmask(&a.parts[0]))] };
            return self.bits(&ones, to);
        }
        if to.is_scalar() && to_mask && !(a.ty.is_scalar() && from_mask) {
            let int = Type::scalar(to.elem.int());
            let bits = self.bits(a, int);
            let value = self.extended(&bits[0], int.elem, true);
            let reg = self.code.gp_reg(value);
            return vec![Part::Reg(self.code.new_x(Code::LsrImm(63), &[reg]))];
        }
        if to_mask && !from_mask {
            // True where the highest bit is set.
            let int = to.with_elem(to.elem.int());
            let ints = self.bits(a, int);
            return ints.iter().map(|part| self.unary(V2::Cmlt0, int, part)).collect();
        }
        match (is_gpr(a.ty), is_gpr(to)) {
            (true, true) => a.parts.clone(),
            (true, false) => self.vector_of(a).parts,
            (false, true) => {
                let reg = self.reg(&a.parts[0], a.ty);
                vec![Part::Reg(self.code.new_x(Code::ToX(to.elem.bits() == 64), &[reg]))]
            }
            (false, false) => a.parts.iter().map(|part| self.retyped(part, a.ty, to)).collect(),
        }
    }

    /// A part of vector registers under another type: what is in no register yet is loaded, the rest stays what it is.
    fn retyped(&mut self, part: &Part, from: Type, to: Type) -> Part {
        match part {
            // Bytes of a scalar constant repeat as far as they mean something.
            Part::Const(_) if part_bytes(from) == part_bytes(to) => part.clone(),
            // A lane is taken by dot products only where there are such.
            Part::Splat(..) if self.cpu.dot => part.clone(),
            part => Part::Reg(self.reg(part, from)),
        }
    }
}

/// The integer of so many bits.
fn int_of(bits: u32) -> Elem {
    match bits {
        8 => Elem::I8,
        16 => Elem::I16,
        32 => Elem::I32,
        _ => Elem::I64,
    }
}
