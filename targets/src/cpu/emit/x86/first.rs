//! Accesses of the first lanes of a vector.

use iced_x86::Code;

use super::super::alloc::Reg;
use super::body::{Body, Const, Part, Val};
use super::inst::{Class, Inst, Mem, Op, Operand, Width};
use super::lanes::moved;
use super::scalar::Gp;
use super::table::{self, Codes};
use crate::cpu::kernel::types::{Elem, Type};

impl Body<'_> {
    /// Lanes of each part that are among the first `count`, and where the part is.
    fn parts_of_first(&self, ty: Type, mem: Mem, count: u16) -> Vec<(u16, Mem)> {
        let shape = self.shape(ty);
        let part = |i: u16| {
            let lanes = count.saturating_sub(i * shape.lanes).min(shape.lanes);
            (lanes, moved(mem, u32::from(i) * shape.width.bytes()))
        };
        (0..shape.count as u16).map(part).collect()
    }

    /// The type of bytes that a plain access of so many lanes moves, where there is one.
    fn plain(&self, ty: Type, lanes: u16) -> Option<Type> {
        let bytes = u32::from(lanes) * ty.elem.bytes();
        (bytes >= 4 && bytes.is_power_of_two()).then(|| Type::vec(Elem::I8, bytes as u16))
    }

    /// Registers with the first lanes; a narrow load leaves zeros in the others.
    pub fn load_first(&mut self, ty: Type, mem: Mem, count: u16) -> Vec<Part> {
        let width = self.shape(ty).width;
        let parts = self.parts_of_first(ty, mem, count);
        let load = |(lanes, mem): (u16, Mem)| {
            if lanes == 0 {
                return self.splat_bits(ty, 0);
            }
            if let Some(plain) = self.plain(ty, lanes) {
                return Part::Reg(self.reg(&Part::Load(mem), plain));
            }
            let to = self.code.reg(Class::Vec);
            let (to_reg, from) = (Operand::Reg(to, width), Operand::Mem(mem));
            if self.cpu.evex {
                let codes = by_elem(ty.elem, [&table::MOVDQU8, &table::MOVDQU16, &table::MOVUPS, &table::MOVUPD]);
                let (code, mask) = (self.pick(codes, width), Some((self.first_lanes(lanes), true)));
                let op = Op { code, operands: vec![to_reg, from], writes: true, reads: false, mask };
                self.code.push(Inst::Op(op));
            } else {
                let codes = if ty.elem.bytes() == 4 { &table::MASKMOVPS } else { &table::MASKMOVPD };
                let set = usize::from(lanes) * ty.elem.bytes() as usize;
                let bytes = (0..width.bytes() as usize).map(|byte| if byte < set { 0xff } else { 0 }).collect();
                let mask = self.reg(&Part::Const(Const { bytes, splat: None }), ty);
                let code = self.pick(codes, width);
                self.code.op(code, vec![to_reg, Operand::Reg(mask, width), from]);
            }
            Part::Reg(to)
        };
        parts.into_iter().map(load).collect()
    }

    /// Writes the first lanes (AVX-512).
    pub fn store_first(&mut self, value: &Val, mem: Mem, count: u16) {
        let ty = value.ty;
        let width = self.shape(ty).width;
        for (part, (lanes, mem)) in value.parts.iter().zip(self.parts_of_first(ty, mem, count)) {
            if lanes == 0 {
                break;
            }
            let from = self.reg(part, ty);
            if let Some(plain) = self.plain(ty, lanes) {
                self.store_part(plain, from, mem);
                continue;
            }
            let stores = [&table::MOVDQU8_STORE, &table::MOVDQU16_STORE, &table::MOVUPS_STORE, &table::MOVUPD_STORE];
            let (code, mask) = (self.pick(by_elem(ty.elem, stores), width), Some((self.first_lanes(lanes), false)));
            let operands = vec![Operand::Mem(mem), Operand::Reg(from, width)];
            self.code.push(Inst::Op(Op { code, operands, writes: false, reads: false, mask }));
        }
    }

    /// The mask register of so many first lanes.
    fn first_lanes(&mut self, lanes: u16) -> Reg {
        let code = &mut self.code;
        *self.first_lanes.entry(lanes).or_insert_with(|| code.reg(Class::Mask))
    }

    /// Sets the mask registers in use, before the instruction of that number.
    pub fn set_first_lanes(&mut self, at: usize) {
        let rest = self.code.insts.split_off(at);
        for (lanes, mask) in std::mem::take(&mut self.first_lanes) {
            let ones = self.code.gp_reg(Gp::Num(i64::MAX >> (63 - lanes)));
            let operands = vec![Operand::Reg(mask, Width::K), Operand::Reg(ones, Width::B8)];
            self.code.op(Code::VEX_Kmovq_kr_r64, operands);
        }
        self.code.insts.extend(rest);
    }
}

/// By bytes of the element: 1, 2, 4, 8.
fn by_elem(elem: Elem, codes: [&'static Codes; 4]) -> &'static Codes {
    codes[elem.bytes().trailing_zeros() as usize]
}
