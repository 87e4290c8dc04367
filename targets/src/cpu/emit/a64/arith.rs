//! Arithmetic, comparison, selection.

use super::super::alloc::Reg;
use super::body::{Body, Part, Val, arr, is_gpr};
use super::code::Code;
use super::inst::{Class, Inst};
use super::ops::{Arr, ByLane, Cond, Form, Size, V2, V3, VShift};
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

impl Body<'_> {
    /// `op a` in a new register.
    pub fn unary(&mut self, op: V2, ty: Type, a: &Part) -> Part {
        let a = self.reg(a, ty);
        let arr = if op.form() == Form::Bits { Arr::B16 } else { arr(ty) };
        Part::Reg(self.code.new_v(Code::V2(op, arr), &[a]))
    }

    fn each(&mut self, a: &Val, mut f: impl FnMut(&mut Self, &Part) -> Part) -> Vec<Part> {
        a.parts.iter().map(|part| f(self, part)).collect()
    }

    fn pairs(&mut self, a: &Val, b: &Val, mut f: impl FnMut(&mut Self, &Part, &Part) -> Part) -> Vec<Part> {
        a.parts.iter().zip(&b.parts).map(|(a, b)| f(self, a, b)).collect()
    }

    pub fn un(&mut self, op: UnOp, a: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, float) = (a.ty, a.ty.elem.is_float());
        if is_gpr(ty) {
            return Ok(vec![self.scalar_un(op, ty.elem, &a.parts[0])?]);
        }
        let op = match op {
            UnOp::Neg if float => V2::Fneg,
            UnOp::Neg => V2::Neg,
            UnOp::Abs if float => V2::Fabs,
            UnOp::Abs => V2::Abs,
            UnOp::Sqrt => V2::Fsqrt,
            UnOp::Floor => V2::Frintm,
            UnOp::Ceil => V2::Frintp,
            UnOp::Trunc => V2::Frintz,
            UnOp::Nearest => V2::Frintn,
            UnOp::Not => V2::Not,
        };
        Ok(self.each(a, |s, part| s.unary(op, ty, part)))
    }

    pub fn bin(&mut self, op: BinOp, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, float) = (a.ty, a.ty.elem.is_float());
        if is_gpr(ty) {
            return Ok(vec![self.scalar_bin(op, ty.elem, &a.parts[0], &b.parts[0])?]);
        }
        let wide = ty.elem.bits() == 64;
        let op = match op {
            BinOp::Add => {
                if float {
                    V3::Fadd
                } else {
                    V3::Add
                }
            }
            BinOp::Sub => {
                if float {
                    V3::Fsub
                } else {
                    V3::Sub
                }
            }
            BinOp::Mul if float => return Ok(self.pairs(a, b, |s, x, y| s.product(ty, x, y))),
            BinOp::Mul if wide => return self.by_lanes(op, a, b),
            BinOp::Mul => V3::Mul,
            BinOp::Div => V3::Fdiv,
            // A NaN of either, and the negative zero below the positive one.
            BinOp::Min => V3::Fmin,
            BinOp::Max => V3::Fmax,
            BinOp::MinSel => return Ok(self.pairs(a, b, |s, x, y| s.chosen(V3::Fcmgt, ty, [y, x], [x, y]))),
            BinOp::MaxSel => return Ok(self.pairs(a, b, |s, x, y| s.chosen(V3::Fcmgt, ty, [x, y], [x, y]))),
            BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU => return self.by_lanes(op, a, b),
            BinOp::MinS if wide => return Ok(self.pairs(a, b, |s, x, y| s.chosen(V3::Cmgt, ty, [y, x], [x, y]))),
            BinOp::MaxS if wide => return Ok(self.pairs(a, b, |s, x, y| s.chosen(V3::Cmgt, ty, [x, y], [x, y]))),
            BinOp::MinU if wide => return Ok(self.pairs(a, b, |s, x, y| s.chosen(V3::Cmhi, ty, [y, x], [x, y]))),
            BinOp::MaxU if wide => return Ok(self.pairs(a, b, |s, x, y| s.chosen(V3::Cmhi, ty, [x, y], [x, y]))),
            BinOp::MinS => V3::Smin,
            BinOp::MaxS => V3::Smax,
            BinOp::MinU => V3::Umin,
            BinOp::MaxU => V3::Umax,
            BinOp::And => V3::And,
            BinOp::Or => V3::Orr,
            BinOp::Xor => V3::Eor,
        };
        Ok(self.pairs(a, b, |s, x, y| s.binary(op, ty, x, y)))
    }

    /// The first of `from` where the comparison holds, else the second.
    fn chosen(&mut self, compare: V3, ty: Type, of: [&Part; 2], from: [&Part; 2]) -> Part {
        let mask = self.binary(compare, ty, of[0], of[1]);
        self.blend(&mask, ty, from[0], from[1])
    }

    fn product(&mut self, ty: Type, x: &Part, y: &Part) -> Part {
        let (x, y) = if lane_of(x, ty).is_some() { (y, x) } else { (x, y) };
        let Some((lanes, lane)) = lane_of(y, ty) else { return self.binary(V3::Fmul, ty, x, y) };
        let x = self.reg(x, ty);
        Part::Reg(self.code.new_v(Code::ByLane(ByLane::Fmul, arr(ty), lane), &[x, lanes]))
    }

    /// What vectors have no instruction for.
    fn by_lanes(&mut self, op: BinOp, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let ty = a.ty;
        let mut scalars = Vec::with_capacity(usize::from(ty.lanes));
        for lane in 0..ty.lanes {
            let (x, y) = (self.extract(a, lane), self.extract(b, lane));
            scalars.push(self.scalar_bin(op, ty.elem, &x[0], &y[0])?);
        }
        Ok(self.gather(ty, &scalars))
    }

    /// `a` where the mask is set, else `b`.
    pub fn blend(&mut self, mask: &Part, ty: Type, a: &Part, b: &Part) -> Part {
        let (a, b) = (self.reg(a, ty), self.reg(b, ty));
        let to = self.fresh(mask, ty.mask());
        self.code.op(Code::V3(V3::Bsl, Arr::B16), &[to, a, b]);
        Part::Reg(to)
    }

    pub fn shift(&mut self, op: Shift, a: &Val, by: &Part) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if is_gpr(ty) {
            return Ok(vec![self.scalar_shift(op, elem, &a.parts[0], by)]);
        }
        if let Part::Int(by) = by {
            let by = by.rem_euclid(elem.bits().into()) as u8;
            return Ok(self.each(a, |s, part| s.shift_imm(op, ty, part, by)));
        }
        let count = self.shift_count(by, elem);
        let whole = Arr::of(elem.bits(), true);
        let count = self.code.new_v(Code::DupX(whole), &[count]);
        // To the right is to the left by less than nothing.
        let count = if op == Shift::Left { count } else { self.code.new_v(Code::V2(V2::Neg, whole), &[count]) };
        let op = if op == Shift::RightS { V3::Sshl } else { V3::Ushl };
        Ok(self.each(a, |s, part| s.binary(op, ty, part, &Part::Reg(count))))
    }

    pub fn shift_imm(&mut self, op: Shift, ty: Type, a: &Part, by: u8) -> Part {
        let from = self.reg(a, ty);
        let op = match op {
            _ if by == 0 => return Part::Reg(from),
            Shift::Left => VShift::Shl,
            Shift::RightS => VShift::Sshr,
            Shift::RightU => VShift::Ushr,
        };
        Part::Reg(self.code.new_v(Code::Shift(op, arr(ty), by), &[from]))
    }

    /// A register with that part which may be written.
    pub fn fresh(&mut self, part: &Part, ty: Type) -> Reg {
        match part {
            Part::Reg(reg) => self.copy(*reg, Class::Vec),
            part => self.put_new(part, ty),
        }
    }

    pub fn muladd(&mut self, ty: Type, vals: &[Val; 3]) -> Vec<Part> {
        let [a, b, c] = vals;
        let mut parts = Vec::with_capacity(c.parts.len());
        for ((x, y), z) in a.parts.iter().zip(&b.parts).zip(&c.parts) {
            let (x, y) = if lane_of(x, ty).is_some() { (y, x) } else { (x, y) };
            let x = self.reg(x, ty);
            let (code, y) = match lane_of(y, ty) {
                Some((lanes, lane)) => (Code::ByLane(ByLane::Fmla, arr(ty), lane), lanes),
                None => (Code::V3(V3::Fmla, arr(ty)), self.reg(y, ty)),
            };
            let sum = self.fresh(z, ty);
            self.code.op(code, &[sum, x, y]);
            parts.push(Part::Reg(sum));
        }
        parts
    }

    pub fn cmp(&mut self, cmp: Cmp, a: &Val, b: &Val) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if is_gpr(ty) {
            return Ok(vec![self.scalar_cmp(cmp, elem, &a.parts[0], &b.parts[0])]);
        }
        if elem.is_mask() {
            return self.no("comparison of masks");
        }
        if ty.is_scalar() {
            let [x, y] = [a, b].map(|val| self.reg(&val.parts[0], ty));
            self.code.op(Code::Fcmp(elem == Elem::F64), &[x, y]);
            return Ok(vec![Part::Reg(self.code.flag(float_cond(cmp)))]);
        }
        let float = elem.is_float();
        let (op, swapped) = match cmp {
            Cmp::Eq | Cmp::Ne if float => (V3::Fcmeq, false),
            Cmp::Eq | Cmp::Ne => (V3::Cmeq, false),
            Cmp::Gt | Cmp::GtU if float => (V3::Fcmgt, false),
            Cmp::Ge | Cmp::GeU if float => (V3::Fcmge, false),
            Cmp::Lt | Cmp::LtU if float => (V3::Fcmgt, true),
            Cmp::Le | Cmp::LeU if float => (V3::Fcmge, true),
            Cmp::Gt => (V3::Cmgt, false),
            Cmp::Ge => (V3::Cmge, false),
            Cmp::Lt => (V3::Cmgt, true),
            Cmp::Le => (V3::Cmge, true),
            Cmp::GtU => (V3::Cmhi, false),
            Cmp::GeU => (V3::Cmhs, false),
            Cmp::LtU => (V3::Cmhi, true),
            Cmp::LeU => (V3::Cmhs, true),
        };
        Ok(self.pairs(a, b, |s, x, y| {
            let (x, y) = if swapped { (y, x) } else { (x, y) };
            let mask = s.binary(op, ty, x, y);
            if cmp == Cmp::Ne { s.unary(V2::Not, ty.mask(), &mask) } else { mask }
        }))
    }

    pub fn select(&mut self, mask: &Val, a: &Val, b: &Val) -> Vec<Part> {
        let ty = a.ty;
        if is_gpr(ty) {
            return vec![self.scalar_select(&mask.parts[0], ty.elem, &a.parts[0], &b.parts[0])];
        }
        if ty.is_scalar() {
            let [x, y] = [a, b].map(|val| self.reg(&val.parts[0], ty));
            let mask = self.gpr(&mask.parts[0], mask.ty.elem);
            self.code.op(Code::CmpImm(0), &[mask]);
            return vec![Part::Reg(self.code.new_v(Code::Fcsel(ty.elem == Elem::F64, Cond::Ne), &[x, y]))];
        }
        let parts = mask.parts.iter().zip(&a.parts).zip(&b.parts);
        parts.map(|((m, x), y)| self.blend(m, ty, x, y)).collect()
    }

    /// Four products of bytes added to each sum. Where the instructions multiply signed bytes only, unsigned ones are moved
    /// down by 128, and 128 times the other factors added again.
    pub fn dot4(&mut self, a_signed: bool, ty: Type, vals: &[Val; 3]) -> Result<Vec<Part>, CodegenError> {
        let [acc, a, b] = vals;
        if ty.is_scalar() {
            return self.scalar_dot4(a_signed, vals);
        }
        let mut parts = Vec::with_capacity(acc.parts.len());
        for ((sum, x), y) in acc.parts.iter().zip(&a.parts).zip(&b.parts) {
            parts.push(match (a_signed, self.cpu.dot, self.cpu.mixed_dot) {
                (false, _, true) => self.mixed_dot(ty, sum, x, y),
                (true, true, _) => self.signed_dot(ty, sum, x, y),
                (false, true, _) => {
                    let half = Part::Const([0x80; 16]);
                    let down = self.binary(V3::Eor, a.ty, x, &half);
                    let total = self.signed_dot(ty, sum, &down, y);
                    let less = self.signed_dot(ty, &Part::Const([0; 16]), &half, y);
                    self.binary(V3::Sub, ty, &total, &less)
                }
                (_, false, _) => self.dot_by_products(a_signed, ty, [sum, x, y]),
            });
        }
        Ok(parts)
    }

    fn signed_dot(&mut self, ty: Type, sum: &Part, x: &Part, y: &Part) -> Part {
        let bytes = ty.with_elem(Elem::I8).with_lanes(4 * ty.lanes);
        let (x, y) = if word_of(x).is_some() { (y, x) } else { (x, y) };
        let x = self.reg(x, bytes);
        let (code, y) = match word_of(y) {
            Some((words, lane)) => (Code::ByLane(ByLane::Sdot, arr(ty), lane), words),
            None => (Code::V3(V3::Sdot, arr(ty)), self.reg(y, bytes)),
        };
        let to = self.fresh(sum, ty);
        self.code.op(code, &[to, x, y]);
        Part::Reg(to)
    }

    /// Unsigned bytes of `x` by signed ones of `y`.
    fn mixed_dot(&mut self, ty: Type, sum: &Part, x: &Part, y: &Part) -> Part {
        let bytes = ty.with_elem(Elem::I8).with_lanes(4 * ty.lanes);
        let y = self.reg(y, bytes);
        let (code, regs) = match word_of(x) {
            Some((words, lane)) => (Code::ByLane(ByLane::Sudot, arr(ty), lane), [y, words]),
            None => (Code::V3(V3::Usdot, arr(ty)), [self.reg(x, bytes), y]),
        };
        let to = self.fresh(sum, ty);
        self.code.op(code, &[to, regs[0], regs[1]]);
        Part::Reg(to)
    }

    /// Without dot products: products as 16 bits, which hold each of them, added in pairs twice.
    fn dot_by_products(&mut self, a_signed: bool, ty: Type, [sum, x, y]: [&Part; 3]) -> Part {
        let bytes = ty.with_elem(Elem::I8).with_lanes(4 * ty.lanes);
        let whole = arr(ty) == Arr::S4;
        let [mut x, y] = [x, y].map(|part| self.reg(part, bytes));
        if !a_signed {
            let half = self.code.constant_reg(&[0x80; 16]);
            x = self.code.new_v(Code::V3(V3::Eor, Arr::B16), &[x, half]);
        }
        let halves = if whole { &[Arr::B8, Arr::B16][..] } else { &[Arr::B8] };
        let mut quads = Vec::new();
        for &half in halves {
            let mut products = self.code.new_v(Code::V3(V3::Smull, half), &[x, y]);
            if !a_signed {
                // What was taken off: 128 times the other factor.
                let more = self.code.new_v(Code::Shift(VShift::Sshll, half, 7), &[y]);
                products = self.code.new_v(Code::V3(V3::Add, Arr::H8), &[products, more]);
            }
            quads.push(self.code.new_v(Code::V2(V2::Saddlp, Arr::H8), &[products]));
        }
        let quads = self.code.new_v(Code::V3(V3::Addp, Arr::S4), &[quads[0], quads[quads.len() - 1]]);
        self.binary(V3::Add, ty, sum, &Part::Reg(quads))
    }

    fn scalar_dot4(&mut self, a_signed: bool, [acc, a, b]: &[Val; 3]) -> Result<Vec<Part>, CodegenError> {
        // One sum is the first lane of two.
        let ty = Type::vec(Elem::I32, 2);
        let start = self.gpr(&acc.parts[0], Elem::I32);
        let start = Val { ty, parts: vec![Part::Reg(self.code.new_v(Code::FromX(false), &[start]))] };
        let wide = |val: &Val| Val { ty: val.ty.with_lanes(8), parts: val.parts.clone() };
        let sums = self.dot4(a_signed, ty, &[start, wide(a), wide(b)])?;
        let sum = self.reg(&sums[0], ty);
        Ok(vec![Part::Reg(self.code.new_x(Code::ToX(false), &[sum]))])
    }

    /// Register and constants: an instruction on its own for what is not a value of the kernel.
    pub fn vector_op(&mut self, code: Code, from: &[Reg]) -> Part {
        Part::Reg(self.code.new_v(code, from))
    }

    /// Updates a copy of a register.
    pub fn updated(&mut self, code: Code, whole: Reg, from: &[Reg]) -> Reg {
        let to = self.copy(whole, Class::Vec);
        let regs: Vec<Reg> = [to].into_iter().chain(from.iter().copied()).collect();
        self.code.push(Inst::Op(code, regs));
        to
    }
}

/// A factor that is one lane of a register, repeated; its lanes are those of the type.
fn lane_of(part: &Part, ty: Type) -> Option<(Reg, u8)> {
    match *part {
        Part::Splat(reg, size, lane) if size.bytes() == ty.elem.bytes() => Some((reg, lane)),
        _ => None,
    }
}

/// The same of four bytes.
fn word_of(part: &Part) -> Option<(Reg, u8)> {
    match *part {
        Part::Splat(reg, Size::S, lane) => Some((reg, lane)),
        _ => None,
    }
}

/// Only the negation of equality holds for NaN.
fn float_cond(cmp: Cmp) -> Cond {
    match cmp {
        Cmp::Eq => Cond::Eq,
        Cmp::Ne => Cond::Ne,
        Cmp::Lt | Cmp::LtU => Cond::Mi,
        Cmp::Le | Cmp::LeU => Cond::Ls,
        Cmp::Gt | Cmp::GtU => Cond::Gt,
        Cmp::Ge | Cmp::GeU => Cond::Ge,
    }
}
