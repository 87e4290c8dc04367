//! Memory, and moving lanes about.

use super::super::alloc::Reg;
use super::body::{Body, Part, Val, arr, count, is_gpr, part_bytes, part_lanes};
use super::code::Code;
use super::inst::{Class, Inst, Mem};
use super::ops::{Arr, Size, V3};
use crate::cpu::kernel::ir::BinOp;
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// Where a lane of a shuffle comes from: register, and number in it.
type Place = (usize, u16);

impl Body<'_> {
    pub fn load(&mut self, ty: Type, mem: Mem, deferred: bool) -> Vec<Part> {
        if ty.is_scalar() {
            let part = Part::Scalar(mem);
            return vec![if deferred { part } else { Part::Reg(self.reg(&part, ty)) }];
        }
        let size = Size::of_bytes(part_bytes(ty) as u32);
        let mut parts = Vec::with_capacity(count(ty));
        for part in 0..count(ty) {
            let disp = mem.disp.wrapping_add((part * part_bytes(ty)) as i32);
            let Mem { base, disp } = self.code.reach(Mem { disp, ..mem }, size);
            parts.push(self.vector_op(Code::LoadV(size, disp), &[base]));
        }
        parts
    }

    pub fn store(&mut self, value: &Val, mem: Mem) {
        let ty = value.ty;
        if is_gpr(ty) {
            return self.store_scalar_int(ty.elem, &value.parts[0], mem);
        }
        let bytes = if ty.is_scalar() { ty.elem.bytes() as usize } else { part_bytes(ty) };
        let size = Size::of_bytes(bytes as u32);
        for (part, value) in value.parts.iter().enumerate() {
            let reg = self.reg(value, ty);
            let disp = mem.disp.wrapping_add((part * bytes) as i32);
            let Mem { base, disp } = self.code.reach(Mem { disp, ..mem }, size);
            self.code.op(Code::StoreV(size, disp), &[reg, base]);
        }
    }

    /// `factor`: every use takes a lane of a register as well.
    pub fn splat(&mut self, ty: Type, a: &Part, factor: bool) -> Vec<Part> {
        let scalar = ty.with_lanes(1);
        if ty.is_scalar() {
            return vec![a.clone()];
        }
        if ty.elem.is_mask() {
            let ones = self.scalar_bmask(a);
            return vec![self.vector_op(Code::DupX(arr(ty)), &[ones]); count(ty)];
        }
        let size = Size::of_bytes(ty.elem.bytes());
        let whole = Arr::of(ty.elem.bits(), true);
        let part = match *a {
            Part::Int(number) => {
                let bytes = &number.to_le_bytes()[..ty.elem.bytes() as usize];
                let mut all = [0; 16];
                all.chunks_exact_mut(bytes.len()).for_each(|chunk| chunk.copy_from_slice(bytes));
                Part::Const(all)
            }
            Part::Const(bytes) => Part::Const(bytes),
            Part::Lane(reg, size, lane) if factor => Part::Splat(reg, size, lane),
            Part::Lane(reg, _, lane) => self.vector_op(Code::Dup(whole, lane), &[reg]),
            Part::Scalar(mem) if !(factor && ty.elem.is_float()) => self.load_splat(ty, mem),
            _ if ty.elem.is_float() => {
                let reg = self.reg(a, scalar);
                if factor { Part::Splat(reg, size, 0) } else { self.vector_op(Code::Dup(whole, 0), &[reg]) }
            }
            _ => {
                let reg = self.gpr(a, ty.elem);
                self.vector_op(Code::DupX(whole), &[reg])
            }
        };
        vec![part; count(ty)]
    }

    /// An element of memory in every lane.
    fn load_splat(&mut self, ty: Type, mem: Mem) -> Part {
        let whole = Arr::of(ty.elem.bits(), true);
        if mem.disp == 0 {
            return self.vector_op(Code::LoadDup(whole), &[mem.base]);
        }
        let size = Size::of_bytes(ty.elem.bytes());
        let Mem { base, disp } = self.code.reach(mem, size);
        let first = self.code.new_v(Code::LoadV(size, disp), &[base]);
        self.vector_op(Code::Dup(whole, 0), &[first])
    }

    pub fn extract(&mut self, a: &Val, lane: u16) -> Vec<Part> {
        if a.ty.is_scalar() {
            return a.parts.clone();
        }
        let lanes = part_lanes(a.ty);
        let reg = self.reg(&a.parts[usize::from(lane / lanes)], a.ty);
        vec![self.extract_lane(reg, a.ty, (lane % lanes) as u8)]
    }

    /// One lane of a part as a scalar.
    fn extract_lane(&mut self, reg: Reg, ty: Type, lane: u8) -> Part {
        let size = Size::of_bytes(ty.elem.bytes());
        if ty.elem.is_float() {
            return if lane == 0 { Part::Reg(reg) } else { Part::Lane(reg, size, lane) };
        }
        let to = self.code.new_x(Code::Umov(size, lane), &[reg]);
        Part::Reg(if ty.elem.is_mask() { self.low_bit(to) } else { to })
    }

    pub fn insert(&mut self, a: &Val, lane: u16, scalar: &Part) -> Vec<Part> {
        if a.ty.is_scalar() {
            return vec![scalar.clone()];
        }
        let lanes = part_lanes(a.ty);
        let part = usize::from(lane / lanes);
        let whole = self.fresh(&a.parts[part], a.ty);
        self.insert_lane(whole, a.ty.elem, (lane % lanes) as u8, scalar);
        let mut parts = a.parts.clone();
        parts[part] = Part::Reg(whole);
        parts
    }

    /// Writes one lane of a register.
    fn insert_lane(&mut self, whole: Reg, elem: Elem, lane: u8, scalar: &Part) {
        let size = Size::of_bytes(elem.bytes());
        if elem.is_float() {
            let (from, at) = match *scalar {
                Part::Lane(reg, _, at) => (reg, at),
                _ => (self.reg(scalar, Type::scalar(elem)), 0),
            };
            return self.code.op(Code::Ins(size, lane, at), &[whole, from]);
        }
        let from = if elem.is_mask() { self.scalar_bmask(scalar) } else { self.gpr(scalar, elem) };
        self.code.op(Code::InsX(size, lane), &[whole, from]);
    }

    /// A vector of those scalars.
    pub fn gather(&mut self, ty: Type, scalars: &[Part]) -> Vec<Part> {
        if ty.is_scalar() {
            return scalars.to_vec();
        }
        let mut parts = Vec::with_capacity(count(ty));
        for chunk in scalars.chunks(usize::from(part_lanes(ty))) {
            let whole = self.code.reg(Class::Vec);
            self.code.op(Code::Zero, &[whole]);
            for (lane, scalar) in chunk.iter().enumerate() {
                self.insert_lane(whole, ty.elem, lane as u8, scalar);
            }
            parts.push(Part::Reg(whole));
        }
        parts
    }

    pub fn shuffle(&mut self, a: &Val, b: &Val, pick: &[u16]) -> Vec<Part> {
        let ty = a.ty.with_lanes(pick.len() as u16);
        let lanes = a.ty.lanes;
        let from = |p: u16| if p < lanes { (a, p) } else { (b, p - lanes) };
        if ty.is_scalar() {
            let (val, lane) = from(pick[0]);
            return self.extract(val, lane);
        }
        if a.ty.is_scalar() {
            let scalars: Vec<Part> = pick.iter().map(|&p| from(p).0.parts[0].clone()).collect();
            return self.gather(ty, &scalars);
        }
        let mut parts = Vec::with_capacity(count(ty));
        for chunk in pick.chunks(usize::from(part_lanes(ty))) {
            let mut sources: Vec<Reg> = Vec::new();
            let mut places: Vec<Place> = Vec::with_capacity(chunk.len());
            for &p in chunk {
                let (val, lane) = from(p);
                let reg = self.reg(&val.parts[usize::from(lane / part_lanes(a.ty))], a.ty);
                let at = sources.iter().position(|&s| s == reg).unwrap_or_else(|| {
                    sources.push(reg);
                    sources.len() - 1
                });
                places.push((at, lane % part_lanes(a.ty)));
            }
            parts.push(Part::Reg(self.shuffle_regs(&sources, a.ty.elem, &places)));
        }
        parts
    }

    fn shuffle_regs(&mut self, sources: &[Reg], elem: Elem, places: &[Place]) -> Reg {
        let (first, last) = (sources[0], sources[sources.len() - 1]);
        let whole = Arr::of(elem.bits(), true);
        if sources.len() == 1 {
            let start = places[0].1;
            if places.iter().zip(start..).all(|(place, lane)| place.1 == lane) {
                return self.moved_down(first, u32::from(start) * elem.bytes());
            }
            if places.iter().all(|place| place.1 == start) {
                return self.code.new_v(Code::Dup(whole, start as u8), &[first]);
            }
        }
        if sources.len() <= 2
            && let Some(op) = interleaving(sources.len(), elem.bytes(), places)
        {
            let (op, bytes) = op;
            return self.code.new_v(Code::V3(op, Arr::of(8 * bytes, true)), &[first, last]);
        }
        self.looked_up(sources, elem.bytes(), places)
    }

    /// The register's bytes from one on, first.
    pub fn moved_down(&mut self, reg: Reg, bytes: u32) -> Reg {
        if bytes == 0 { reg } else { self.code.new_v(Code::Ext(bytes as u8), &[reg, reg]) }
    }

    /// Bytes by their numbers, register by register.
    fn looked_up(&mut self, sources: &[Reg], bytes: u32, places: &[Place]) -> Reg {
        let mut found: Option<Reg> = None;
        for (at, &source) in sources.iter().enumerate() {
            // Numbers past the end leave the byte to the others.
            let mut order = [0xff; 16];
            for (i, &(_, lane)) in places.iter().enumerate().filter(|(_, place)| place.0 == at) {
                for byte in 0..bytes as usize {
                    order[i * bytes as usize + byte] = (u32::from(lane) * bytes) as u8 + byte as u8;
                }
            }
            let order = self.code.constant_reg(&order);
            found = Some(match found {
                None => self.code.new_v(Code::Tbl, &[source, order]),
                Some(others) => {
                    self.code.push(Inst::Op(Code::Tbx, vec![others, source, order]));
                    others
                }
            });
        }
        found.unwrap_or(sources[0])
    }

    /// Halves are combined until one lane is left: registers first, then the halves of the last one.
    pub fn reduce(&mut self, op: BinOp, a: &Val) -> Result<Vec<Part>, CodegenError> {
        if a.ty.is_scalar() {
            return Ok(a.parts.clone());
        }
        let mut val = a.clone();
        while val.parts.len() > 1 {
            let high = val.parts.split_off(val.parts.len() / 2);
            val.ty = val.ty.with_lanes(val.ty.lanes / 2);
            val.parts = self.bin(op, &val.clone(), &Val { ty: val.ty, parts: high })?;
        }
        while val.ty.lanes > 1 {
            let reg = self.reg(&val.parts[0], val.ty);
            let high = self.moved_down(reg, val.ty.bits() / 16);
            // Two lanes or more stay vectors, until the last one is taken out.
            let ty = val.ty.with_lanes(val.ty.lanes / 2);
            let as_vector = ty.with_lanes(ty.lanes.max(2));
            let of = |reg| Val { ty: as_vector, parts: vec![Part::Reg(reg)] };
            val = Val { ty, parts: self.bin(op, &of(reg), &of(high))? };
        }
        let reg = self.reg(&val.parts[0], a.ty);
        Ok(vec![self.extract_lane(reg, a.ty, 0)])
    }
}

/// The instruction that interleaves lanes like that, and the bytes of its lanes: zips, unzips and transposes of whole
/// registers, among them two halves side by side.
fn interleaving(sources: usize, bytes: u32, places: &[Place]) -> Option<(V3, u32)> {
    const OPS: [V3; 6] = [V3::Zip1, V3::Zip2, V3::Uzp1, V3::Uzp2, V3::Trn1, V3::Trn2];
    let count = 16 / bytes as usize;
    if places.len() != count {
        return None;
    }
    let flat = |(register, lane): Place| register * count + usize::from(lane);
    for lane_bytes in [bytes, 8].into_iter().filter(|&b| b >= bytes) {
        let (lanes, each) = (16 / lane_bytes as usize, (lane_bytes / bytes) as usize);
        for op in OPS {
            let matches = places.iter().enumerate().all(|(at, &place)| {
                let from = interleaved(op, lanes, at / each) * each + at % each;
                let from = if sources == 1 { from % count } else { from };
                from == flat(place)
            });
            if matches {
                return Some((op, lane_bytes));
            }
        }
    }
    None
}

/// The lane of both operands in a row that comes to that place.
fn interleaved(op: V3, lanes: usize, at: usize) -> usize {
    let (half, odd) = (lanes / 2, at % 2);
    match op {
        V3::Zip1 => at / 2 + odd * lanes,
        V3::Zip2 => at / 2 + half + odd * lanes,
        V3::Uzp1 => 2 * at,
        V3::Uzp2 => 2 * at + 1,
        V3::Trn1 => at - odd + odd * lanes,
        _ => at - odd + 1 + odd * lanes,
    }
}
