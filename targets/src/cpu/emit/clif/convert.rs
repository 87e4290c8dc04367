//! Conversions between elements: registers double or halve in number as lanes widen or narrow.

use cranelift_codegen::ir::{self as clif, InstBuilder, types};

use super::lanes::scalar_type;
use super::{Body, Val};
use crate::cpu::kernel::ir::{BinOp, Cmp, Cvt, Shift};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::Arch;

impl Body<'_, '_> {
    pub(super) fn cvt(&mut self, cvt: Cvt, a: &Val, to: Type) -> Val {
        match cvt {
            Cvt::SExt => self.extend(a, to, true),
            Cvt::UExt => self.extend(a, to, false),
            Cvt::Wrap => self.wrap(a, to),
            Cvt::SatS | Cvt::SatU => self.saturate(cvt == Cvt::SatS, a, to),
            Cvt::Promote => self.promote(a, to),
            Cvt::Demote => self.demote(a, to),
            Cvt::FromS => self.int_to_float(a, to, true),
            Cvt::FromU => self.int_to_float(a, to, false),
            Cvt::ToS => self.float_to_int(a, to, true),
            Cvt::ToU => self.float_to_int(a, to, false),
            Cvt::FromF16 => self.f16_to_f32(a, to),
            Cvt::ToF16 => self.f32_to_f16(a, to),
            Cvt::FromBf16 => {
                let wide = self.extend(a, to.with_elem(Elem::I32), false);
                let bits = self.shift_by(Shift::Left, &wide, 16);
                self.bitcast(&bits, to)
            }
            Cvt::ToBf16 => self.f32_to_bf16(a, to),
            Cvt::Bits => self.bitcast(a, to),
        }
    }

    fn extend(&mut self, a: &Val, to: Type, signed: bool) -> Val {
        let (from, wide) = (a.ty.elem, to.elem);
        if from.is_mask() && !self.is_vector(a.ty) {
            // Scalar masks are 0 or 1 whatever their width.
            return Val { ty: to, parts: a.parts.clone() };
        }
        if !self.is_vector(to) {
            let ty = scalar_type(wide);
            return self.partwise(to, &[a], |s, x| {
                if signed { s.b.ins().sextend(ty, x[0]) } else { s.b.ins().uextend(ty, x[0]) }
            });
        }
        let mut bits = from.bits();
        let mut parts = a.parts.clone();
        while bits < wide.bits() {
            bits *= 2;
            let count = (usize::from(to.lanes) * bits as usize).div_ceil(128);
            let mut wider = Vec::with_capacity(count);
            for &part in &parts {
                wider.push(if signed { self.b.ins().swiden_low(part) } else { self.b.ins().uwiden_low(part) });
                if wider.len() < count {
                    wider.push(if signed { self.b.ins().swiden_high(part) } else { self.b.ins().uwiden_high(part) });
                }
            }
            parts = wider;
        }
        Val { ty: to, parts }
    }

    fn wrap(&mut self, a: &Val, to: Type) -> Val {
        if a.ty.elem.is_mask() && !self.is_vector(a.ty) {
            return Val { ty: to, parts: a.parts.clone() };
        }
        if !self.is_vector(a.ty) {
            let ty = scalar_type(to.elem);
            return self.partwise(to, &[a], |s, x| s.b.ins().ireduce(ty, x[0]));
        }
        let mut bits = a.ty.elem.bits();
        let mut parts = a.parts.clone();
        while bits > to.elem.bits() {
            bits /= 2;
            let half = (bits / 8) as u8;
            let mask: Vec<u8> = (0..16 / half).flat_map(|lane| (lane * 2 * half)..(lane * 2 * half + half)).collect();
            let ty = types::I8.by(16).expect("i8x16 exists");
            parts = self.in_pairs(&parts, |s, x, y| s.byte_shuffle(ty, x, y, mask.clone()));
        }
        let part = self.shape(to).part;
        let parts = parts.into_iter().map(|p| self.cast(part, p)).collect();
        Val { ty: to, parts }
    }

    /// Combines registers two by two; a last single one with itself.
    fn in_pairs(
        &mut self,
        parts: &[clif::Value],
        mut f: impl FnMut(&mut Self, clif::Value, clif::Value) -> clif::Value,
    ) -> Vec<clif::Value> {
        parts.chunks(2).map(|pair| f(self, pair[0], *pair.last().expect("chunks are not empty"))).collect()
    }

    fn saturate(&mut self, signed: bool, a: &Val, to: Type) -> Val {
        let (from, bits) = (a.ty.elem, to.elem.bits());
        let narrow = self.is_vector(a.ty) && from.bits() == 2 * bits && from.bits() < 64;
        if narrow {
            let parts = self.in_pairs(
                &a.parts,
                |s, x, y| {
                    if signed { s.b.ins().snarrow(x, y) } else { s.b.ins().unarrow(x, y) }
                },
            );
            return Val { ty: to, parts };
        }
        if self.is_vector(a.ty) && from == Elem::I32 && bits == 8 {
            let middle = self.saturate(true, a, to.with_elem(Elem::I16));
            return self.saturate(signed, &middle, to);
        }
        let (lo, hi) = if signed { (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
        let (lo, hi) = (self.bits_of(a.ty, lo as u64), self.bits_of(a.ty, hi as u64));
        let raised = self.bin(BinOp::MaxS, a, &lo);
        let clamped = self.bin(BinOp::MinS, &raised, &hi);
        self.wrap(&clamped, to)
    }

    fn promote(&mut self, a: &Val, to: Type) -> Val {
        if !self.is_vector(to) {
            return self.lanewise(to, &[a], |s, x| s.b.ins().fpromote(types::F64, x[0]));
        }
        let count = self.shape(to).count;
        let mut parts = Vec::with_capacity(count);
        for &part in &a.parts {
            parts.push(self.b.ins().fvpromote_low(part));
            if parts.len() < count {
                let high = self.byte_shuffle(types::F32X4, part, part, (8..16).chain(8..16).collect());
                parts.push(self.b.ins().fvpromote_low(high));
            }
        }
        Val { ty: to, parts }
    }

    fn demote(&mut self, a: &Val, to: Type) -> Val {
        if !self.is_vector(to) {
            return self.lanewise(to, &[a], |s, x| s.b.ins().fdemote(types::F32, x[0]));
        }
        let halves: Vec<clif::Value> = a.parts.iter().map(|&part| self.b.ins().fvdemote(part)).collect();
        if halves.len() == 1 {
            return Val { ty: to, parts: halves };
        }
        let parts =
            self.in_pairs(&halves, |s, x, y| s.byte_shuffle(types::F32X4, x, y, (0..8).chain(16..24).collect()));
        Val { ty: to, parts }
    }

    fn int_to_float(&mut self, a: &Val, to: Type, signed: bool) -> Val {
        let same = a.ty.elem.bits() == to.elem.bits();
        let native = self.is_vector(to) && same && (to.elem == Elem::F32 || self.machine.arch != Arch::X86_64);
        let ty = if native { self.shape(to).part } else { scalar_type(to.elem) };
        let convert = |s: &mut Self, x: &[clif::Value]| {
            if signed { s.b.ins().fcvt_from_sint(ty, x[0]) } else { s.b.ins().fcvt_from_uint(ty, x[0]) }
        };
        if native { self.partwise(to, &[a], convert) } else { self.lanewise(to, &[a], convert) }
    }

    fn float_to_int(&mut self, a: &Val, to: Type, signed: bool) -> Val {
        let native = self.is_vector(to) && a.ty.elem == Elem::F32 && to.elem == Elem::I32;
        let ty = if native { self.shape(to).part } else { scalar_type(to.elem) };
        let convert = |s: &mut Self, x: &[clif::Value]| {
            if signed { s.b.ins().fcvt_to_sint_sat(ty, x[0]) } else { s.b.ins().fcvt_to_uint_sat(ty, x[0]) }
        };
        if native { self.partwise(to, &[a], convert) } else { self.lanewise(to, &[a], convert) }
    }

    pub(super) fn bitcast(&mut self, a: &Val, to: Type) -> Val {
        if self.is_vector(a.ty) && self.is_vector(to) {
            let ty = self.shape(to).part;
            if to.elem.is_mask() && !a.ty.elem.is_mask() {
                return self.sign_mask(a, to);
            }
            return self.partwise(to, &[a], |s, x| s.cast(ty, x[0]));
        }
        if a.ty.lanes == to.lanes {
            return self.lanewise(to, &[a], |s, x| s.cast_scalar(x[0], a.ty.elem, to.elem));
        }
        if self.is_vector(a.ty) && to.is_scalar() && !a.ty.elem.is_mask() && !to.elem.is_mask() {
            // The lowest lane of a register that is seen as lanes of the result.
            let vector = self.cast(self.shape(to.with_lanes(2)).part, a.parts[0]);
            let lane = self.b.ins().extractlane(vector, 0);
            return Val { ty: to, parts: vec![lane] };
        }
        self.cast_lanes(a, to)
    }

    /// A mask is true where the highest bit is set.
    fn sign_mask(&mut self, a: &Val, to: Type) -> Val {
        let int = to.with_elem(to.elem.int());
        let bits = self.bitcast(a, int);
        let zero = self.bits_of(int, 0);
        self.cmp(Cmp::Lt, &bits, &zero)
    }

    fn cast_scalar(&mut self, x: clif::Value, from: Elem, to: Elem) -> clif::Value {
        match (from.is_mask(), to.is_mask()) {
            (true, true) => x,
            (true, false) => {
                let bits = self.b.ins().bmask(scalar_type(to.int()), x);
                self.cast(scalar_type(to), bits)
            }
            (false, true) => {
                let bits = self.cast(scalar_type(from.int()), x);
                self.b.ins().icmp_imm_s(cranelift_codegen::ir::condcodes::IntCC::SignedLessThan, bits, 0)
            }
            (false, false) => self.cast(scalar_type(to), x),
        }
    }

    /// Between scalars and vectors, or lanes of different width without vectors: through the bytes of integers.
    fn cast_lanes(&mut self, a: &Val, to: Type) -> Val {
        let ints: Vec<clif::Value> = {
            let scalars = self.scalars(a);
            scalars.into_iter().map(|x| self.cast_scalar(x, a.ty.elem, a.ty.elem.int())).collect()
        };
        let (from_bits, to_bits) = (a.ty.elem.bits(), to.elem.bits());
        let ty = scalar_type(to.elem.int());
        let mut lanes = Vec::with_capacity(usize::from(to.lanes));
        if from_bits >= to_bits {
            for x in ints {
                for piece in 0..from_bits / to_bits {
                    let shifted = self.b.ins().ushr_imm_s(x, i64::from(piece * to_bits));
                    lanes.push(if from_bits == to_bits { x } else { self.b.ins().ireduce(ty, shifted) });
                }
            }
        } else {
            for group in ints.chunks((to_bits / from_bits) as usize) {
                let mut whole = self.b.ins().iconst(ty, 0);
                for (i, &x) in group.iter().enumerate() {
                    let wide = self.b.ins().uextend(ty, x);
                    let placed = self.b.ins().ishl_imm_s(wide, i64::from(i as u32 * from_bits));
                    whole = self.b.ins().bor(whole, placed);
                }
                lanes.push(whole);
            }
        }
        let lanes: Vec<clif::Value> = lanes.into_iter().map(|x| self.cast_scalar(x, to.elem.int(), to.elem)).collect();
        self.gather(to, &lanes)
    }

    /// Exponent and mantissa move into place and the exponent is put right; subnormal numbers become the distance of normal
    /// ones, because the machine may take subnormal `f32` for zeros. Infinities and NaN get the largest exponent.
    fn f16_to_f32(&mut self, a: &Val, to: Type) -> Val {
        let int = to.with_elem(Elem::I32);
        let h = self.extend(a, int, false);
        let magnitude_mask = self.bits_of(int, 0x7fff);
        let magnitude = self.bin(BinOp::And, &h, &magnitude_mask);
        let moved = self.shift_by(Shift::Left, &magnitude, 13);
        let rebias = self.bits_of(int, 112 << 23);
        let normal = self.bin(BinOp::Add, &moved, &rebias);
        // 2^-14 and above by as much as the number is.
        let least_bits = self.bits_of(int, 113 << 23);
        let above = self.bin(BinOp::Add, &moved, &least_bits);
        let (above, least) = (self.bitcast(&above, to), self.bitcast(&least_bits, to));
        let small = self.partwise(to, &[&above, &least], |s, x| s.b.ins().fsub(x[0], x[1]));
        let small = self.bitcast(&small, int);
        let first_normal = self.bits_of(int, 0x400);
        let is_small = self.cmp(Cmp::Lt, &magnitude, &first_normal);
        let bits = self.select(&is_small, &small, &normal);
        let top = self.bits_of(int, 0x7bff);
        let special = self.cmp(Cmp::Gt, &magnitude, &top);
        let largest = self.bits_of(int, 0x7f80_0000);
        let with_exponent = self.bin(BinOp::Or, &bits, &largest);
        let bits = self.select(&special, &with_exponent, &bits);
        let sign = self.bin(BinOp::Xor, &h, &magnitude);
        let sign = self.shift_by(Shift::Left, &sign, 16);
        let bits = self.bin(BinOp::Or, &bits, &sign);
        self.bitcast(&bits, to)
    }

    /// Rounds to nearest even: normal numbers by adding half an ulp to the bits, subnormal ones by the addition of a
    /// number whose ulp is the smallest subnormal.
    fn f32_to_f16(&mut self, a: &Val, to: Type) -> Val {
        let int = a.ty.with_elem(Elem::I32);
        let f = self.bitcast(a, int);
        let sign_mask = self.bits_of(int, 0x8000_0000);
        let sign = self.bin(BinOp::And, &f, &sign_mask);
        let f = self.bin(BinOp::Xor, &f, &sign);
        // Infinity and NaN, and what rounds to them.
        let (inf32, quiet, inf16) =
            (self.bits_of(int, 0x7f80_0000), self.bits_of(int, 0x7e00), self.bits_of(int, 0x7c00));
        let nan = self.cmp(Cmp::Gt, &f, &inf32);
        let special = self.select(&nan, &quiet, &inf16);
        // Subnormal results.
        let magic = self.bits_of(int, 126 << 23);
        let (f_value, magic_value) = (self.bitcast(&f, a.ty), self.bitcast(&magic, a.ty));
        let sum = self.partwise(a.ty, &[&f_value, &magic_value], |s, x| s.b.ins().fadd(x[0], x[1]));
        let sum = self.bitcast(&sum, int);
        let small = self.bin(BinOp::Sub, &sum, &magic);
        // Normal results.
        let shifted = self.shift_by(Shift::RightU, &f, 13);
        let one = self.bits_of(int, 1);
        let odd = self.bin(BinOp::And, &shifted, &one);
        let rebias = self.bits_of(int, (0xc800_0000u32 + 0xfff).into());
        let normal = self.bin(BinOp::Add, &f, &rebias);
        let normal = self.bin(BinOp::Add, &normal, &odd);
        let normal = self.shift_by(Shift::RightU, &normal, 13);
        let (min_normal, too_large) = (self.bits_of(int, 113 << 23), self.bits_of(int, 143 << 23));
        let is_small = self.cmp(Cmp::Lt, &f, &min_normal);
        let is_large = self.cmp(Cmp::Ge, &f, &too_large);
        let bits = self.select(&is_small, &small, &normal);
        let bits = self.select(&is_large, &special, &bits);
        let sign = self.shift_by(Shift::RightU, &sign, 16);
        let bits = self.bin(BinOp::Or, &bits, &sign);
        self.wrap(&bits, to)
    }

    fn f32_to_bf16(&mut self, a: &Val, to: Type) -> Val {
        let int = a.ty.with_elem(Elem::I32);
        let f = self.bitcast(a, int);
        let high = self.shift_by(Shift::RightU, &f, 16);
        let one = self.bits_of(int, 1);
        let odd = self.bin(BinOp::And, &high, &one);
        let half = self.bits_of(int, 0x7fff);
        let rounded = self.bin(BinOp::Add, &f, &half);
        let rounded = self.bin(BinOp::Add, &rounded, &odd);
        let rounded = self.shift_by(Shift::RightU, &rounded, 16);
        let quiet_bit = self.bits_of(int, 0x40);
        let quiet = self.bin(BinOp::Or, &high, &quiet_bit);
        let nan = self.cmp(Cmp::Ne, a, a);
        let bits = self.select(&nan, &quiet, &rounded);
        self.wrap(&bits, to)
    }
}
