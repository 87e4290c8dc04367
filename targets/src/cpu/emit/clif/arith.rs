//! Arithmetic, comparison, selection.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self as clif, InstBuilder, types};

use super::lanes::{int_cc, scalar_type};
use super::{Body, Val};
use crate::cpu::kernel::ir::{BinOp, Cmp, Shift, UnOp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::{Arch, CodegenError};

fn float_cc(cmp: Cmp) -> FloatCC {
    match cmp {
        Cmp::Eq => FloatCC::Equal,
        Cmp::Ne => FloatCC::NotEqual,
        Cmp::Lt | Cmp::LtU => FloatCC::LessThan,
        Cmp::Le | Cmp::LeU => FloatCC::LessThanOrEqual,
        Cmp::Gt | Cmp::GtU => FloatCC::GreaterThan,
        Cmp::Ge | Cmp::GeU => FloatCC::GreaterThanOrEqual,
    }
}

impl Body<'_, '_> {
    pub(super) fn un(&mut self, op: UnOp, a: &Val) -> Val {
        let elem = a.ty.elem;
        let scalar_mask = elem.is_mask() && !self.is_vector(a.ty);
        self.partwise(a.ty, &[a], |s, x| {
            let ins = s.b.ins();
            match op {
                UnOp::Neg if elem.is_float() => ins.fneg(x[0]),
                UnOp::Neg => ins.ineg(x[0]),
                UnOp::Abs if elem.is_float() => ins.fabs(x[0]),
                UnOp::Abs => ins.iabs(x[0]),
                UnOp::Sqrt => ins.sqrt(x[0]),
                UnOp::Floor => ins.floor(x[0]),
                UnOp::Ceil => ins.ceil(x[0]),
                UnOp::Trunc => ins.trunc(x[0]),
                UnOp::Nearest => ins.nearest(x[0]),
                UnOp::Not if scalar_mask => ins.bxor_imm_s(x[0], 1),
                UnOp::Not => ins.bnot(x[0]),
            }
        })
    }

    pub(super) fn bin(&mut self, op: BinOp, a: &Val, b: &Val) -> Val {
        let elem = a.ty.elem;
        match op {
            BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU => {
                self.lanewise(a.ty, &[a, b], |s, x| s.int_div(op, elem, x[0], x[1]))
            }
            BinOp::Mul if elem == Elem::I8 && self.is_vector(a.ty) && self.machine.arch == Arch::X86_64 => {
                self.lanewise(a.ty, &[a, b], |s, x| s.b.ins().imul(x[0], x[1]))
            }
            BinOp::MinSel => self.pick(Cmp::Lt, a, b),
            BinOp::MaxSel => self.pick(Cmp::Gt, a, b),
            BinOp::MinS => self.pick(Cmp::Lt, a, b),
            BinOp::MaxS => self.pick(Cmp::Gt, a, b),
            BinOp::MinU => self.pick(Cmp::LtU, a, b),
            BinOp::MaxU => self.pick(Cmp::GtU, a, b),
            _ => self.partwise(a.ty, &[a, b], |s, x| s.bin_part(op, elem.is_float(), x[0], x[1])),
        }
    }

    fn bin_part(&mut self, op: BinOp, float: bool, x: clif::Value, y: clif::Value) -> clif::Value {
        let ins = self.b.ins();
        match (op, float) {
            (BinOp::Add, true) => ins.fadd(x, y),
            (BinOp::Sub, true) => ins.fsub(x, y),
            (BinOp::Mul, true) => ins.fmul(x, y),
            (BinOp::Div, _) => ins.fdiv(x, y),
            (BinOp::Min, _) => ins.fmin(x, y),
            (BinOp::Max, _) => ins.fmax(x, y),
            (BinOp::Add, false) => ins.iadd(x, y),
            (BinOp::Sub, false) => ins.isub(x, y),
            (BinOp::Mul, false) => ins.imul(x, y),
            (BinOp::And, _) => ins.band(x, y),
            (BinOp::Or, _) => ins.bor(x, y),
            _ => ins.bxor(x, y),
        }
    }

    /// `if a cmp b { a } else { b }`; the integer forms have instructions of their own up to 32 bits.
    fn pick(&mut self, cmp: Cmp, a: &Val, b: &Val) -> Val {
        let elem = a.ty.elem;
        if self.is_vector(a.ty) && elem.is_int() && elem.bits() < 64 {
            return self.partwise(a.ty, &[a, b], |s, x| match cmp {
                Cmp::Lt => s.b.ins().smin(x[0], x[1]),
                Cmp::Gt => s.b.ins().smax(x[0], x[1]),
                Cmp::LtU => s.b.ins().umin(x[0], x[1]),
                _ => s.b.ins().umax(x[0], x[1]),
            });
        }
        // x86 `minps` and `maxps` are matched from exactly this: less-than in both cases.
        let mask = match cmp {
            Cmp::Gt => self.cmp(Cmp::Lt, b, a),
            Cmp::GtU => self.cmp(Cmp::LtU, b, a),
            _ => self.cmp(cmp, a, b),
        };
        self.select(&mask, a, b)
    }

    /// Division that never traps: 0 for a zero divisor, wrapping for the smallest value by -1.
    fn int_div(&mut self, op: BinOp, elem: Elem, x: clif::Value, y: clif::Value) -> clif::Value {
        let signed = matches!(op, BinOp::DivS | BinOp::RemS);
        let narrow = elem.bits() < 32;
        let ty = if narrow { types::I32 } else { scalar_type(elem) };
        let (x, y) = match (narrow, signed) {
            (true, true) => (self.b.ins().sextend(ty, x), self.b.ins().sextend(ty, y)),
            (true, false) => (self.b.ins().uextend(ty, x), self.b.ins().uextend(ty, y)),
            _ => (x, y),
        };
        let zero = self.b.ins().iconst(ty, 0);
        let one = self.b.ins().iconst(ty, 1);
        let by_zero = self.b.ins().icmp(IntCC::Equal, y, zero);
        let mut divisor = self.b.ins().select(by_zero, one, y);
        let negated = signed.then(|| {
            let by_minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, y, -1);
            divisor = self.b.ins().select(by_minus_one, one, divisor);
            (by_minus_one, self.b.ins().ineg(x))
        });
        let quotient = if signed { self.b.ins().sdiv(x, divisor) } else { self.b.ins().udiv(x, divisor) };
        let quotient = match negated {
            Some((by_minus_one, negated)) => self.b.ins().select(by_minus_one, negated, quotient),
            None => quotient,
        };
        let result = if matches!(op, BinOp::DivS | BinOp::DivU) {
            quotient
        } else {
            let product = self.b.ins().imul(quotient, y);
            self.b.ins().isub(x, product)
        };
        let result = self.b.ins().select(by_zero, zero, result);
        if narrow { self.b.ins().ireduce(scalar_type(elem), result) } else { result }
    }

    pub(super) fn shift(&mut self, op: Shift, a: &Val, by: clif::Value) -> Val {
        self.partwise(a.ty, &[a], |s, x| match op {
            Shift::Left => s.b.ins().ishl(x[0], by),
            Shift::RightS => s.b.ins().sshr(x[0], by),
            Shift::RightU => s.b.ins().ushr(x[0], by),
        })
    }

    pub(super) fn shift_by(&mut self, op: Shift, a: &Val, by: i64) -> Val {
        let by = self.b.ins().iconst(types::I32, by);
        self.shift(op, a, by)
    }

    pub(super) fn muladd(&mut self, a: &Val, b: &Val, c: &Val) -> Val {
        let fused = self.machine.has_fma;
        self.partwise(a.ty, &[a, b, c], |s, x| {
            if fused {
                return s.b.ins().fma(x[0], x[1], x[2]);
            }
            let product = s.b.ins().fmul(x[0], x[1]);
            s.b.ins().fadd(product, x[2])
        })
    }

    pub(super) fn fma(&mut self, a: &Val, b: &Val, c: &Val) -> Result<Val, CodegenError> {
        if self.machine.has_fma {
            return Ok(self.partwise(a.ty, &[a, b, c], |s, x| s.b.ins().fma(x[0], x[1], x[2])));
        }
        if a.ty.elem == Elem::F64 {
            return Err(self.unsupported("strict f64 fma"));
        }
        Ok(self.lanewise(a.ty, &[a, b, c], |s, x| s.fma_by_f64(x[0], x[1], x[2])))
    }

    /// The product is exact in `f64`; the sum is rounded to odd there, so that the second rounding is the only one that
    /// shows.
    fn fma_by_f64(&mut self, a: clif::Value, b: clif::Value, c: clif::Value) -> clif::Value {
        let [a, b, c] = [a, b, c].map(|x| self.b.ins().fpromote(types::F64, x));
        let p = self.b.ins().fmul(a, b);
        let sum = self.b.ins().fadd(p, c);
        // TwoSum: the error of the sum, exactly.
        let c_part = self.b.ins().fsub(sum, p);
        let p_part = self.b.ins().fsub(sum, c_part);
        let c_left = self.b.ins().fsub(c, c_part);
        let p_left = self.b.ins().fsub(p, p_part);
        let error = self.b.ins().fadd(p_left, c_left);
        let zero = self.b.ins().f64const(0.0);
        let bits = self.b.ins().bitcast(types::I64, super::lanes::cast_flags(), sum);
        let inexact = self.b.ins().fcmp(FloatCC::OrderedNotEqual, error, zero);
        let odd = self.b.ins().band_imm_s(bits, 1);
        let even = self.b.ins().icmp_imm_s(IntCC::Equal, odd, 0);
        let adjust = self.b.ins().band(inexact, even);
        let error_up = self.b.ins().fcmp(FloatCC::GreaterThan, error, zero);
        let sum_up = self.b.ins().fcmp(FloatCC::GreaterThan, sum, zero);
        let outwards = self.b.ins().icmp(IntCC::Equal, error_up, sum_up);
        let out = self.b.ins().iadd_imm_s(bits, 1);
        let inward = self.b.ins().iadd_imm_s(bits, -1);
        let moved = self.b.ins().select(outwards, out, inward);
        let bits = self.b.ins().select(adjust, moved, bits);
        let odd = self.b.ins().bitcast(types::F64, super::lanes::cast_flags(), bits);
        self.b.ins().fdemote(types::F32, odd)
    }

    pub(super) fn cmp(&mut self, cmp: Cmp, a: &Val, b: &Val) -> Val {
        let float = a.ty.elem.is_float();
        self.partwise(a.ty.mask(), &[a, b], |s, x| {
            if float { s.b.ins().fcmp(float_cc(cmp), x[0], x[1]) } else { s.b.ins().icmp(int_cc(cmp), x[0], x[1]) }
        })
    }

    pub(super) fn select(&mut self, mask: &Val, a: &Val, b: &Val) -> Val {
        let vector = self.is_vector(a.ty);
        let part = self.shape(a.ty).part;
        self.partwise(a.ty, &[mask, a, b], |s, x| {
            if !vector {
                return s.b.ins().select(x[0], x[1], x[2]);
            }
            let mask = s.cast(part, x[0]);
            s.b.ins().bitselect(mask, x[1], x[2])
        })
    }

    /// In the exact shape that the back ends turn into `vpdpbusd`, `sdot` and `usdot`.
    pub(super) fn dot4(&mut self, a_signed: bool, acc: &Val, a: &Val, b: &Val) -> Val {
        if !self.is_vector(a.ty) || !self.is_vector(acc.ty) || a.ty.bits() < 128 {
            return self.dot4_lanes(a_signed, acc, a, b);
        }
        // x86 wants the signed operand first, AArch64 the unsigned one.
        let signed_first = self.machine.arch == Arch::X86_64;
        self.partwise(acc.ty, &[acc, a, b], |s, x| {
            let (a, b) = (x[1], x[2]);
            let (u, v) = if signed_first { ((b, true), (a, a_signed)) } else { ((a, a_signed), (b, true)) };
            let half = |s: &mut Self, (value, signed): (clif::Value, bool), high: bool| match (signed, high) {
                (true, false) => s.b.ins().swiden_low(value),
                (true, true) => s.b.ins().swiden_high(value),
                (false, false) => s.b.ins().uwiden_low(value),
                (false, true) => s.b.ins().uwiden_high(value),
            };
            let mut sums = [a; 2];
            for (sum, high) in sums.iter_mut().zip([false, true]) {
                let (x, y) = (half(s, u, high), half(s, v, high));
                let product = s.b.ins().imul(x, y);
                let (low, high) = (s.b.ins().swiden_low(product), s.b.ins().swiden_high(product));
                *sum = s.b.ins().iadd_pairwise(low, high);
            }
            let quad = s.b.ins().iadd_pairwise(sums[0], sums[1]);
            s.b.ins().iadd(quad, x[0])
        })
    }

    fn dot4_lanes(&mut self, a_signed: bool, acc: &Val, a: &Val, b: &Val) -> Val {
        let (xs, ys) = (self.scalars(a), self.scalars(b));
        let mut sums = self.scalars(acc);
        for (i, sum) in sums.iter_mut().enumerate() {
            for j in 4 * i..4 * i + 4 {
                let x = if a_signed {
                    self.b.ins().sextend(types::I32, xs[j])
                } else {
                    self.b.ins().uextend(types::I32, xs[j])
                };
                let y = self.b.ins().sextend(types::I32, ys[j]);
                let product = self.b.ins().imul(x, y);
                *sum = self.b.ins().iadd(*sum, product);
            }
        }
        self.gather(acc.ty, &sums)
    }

    /// A number in every lane, as the type's bits.
    pub(super) fn bits_of(&mut self, ty: Type, bits: u64) -> Val {
        self.splat_bits(ty, bits)
    }
}
