//! Constants, memory, and moving lanes about.

use super::super::alloc::Reg;
use super::body::{Body, Mem, Part, Scalar, Val};
use super::code::Gp;
use super::inst::{Arg, Class, Demand, ZERO};
use super::isa::Code;
use crate::cpu::kernel::ir::BinOp;
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

impl Body<'_> {
    pub fn constant(&mut self, ty: Type, bits: &[u64]) -> Vec<Part> {
        let lane = |index: usize| if bits.len() == 1 { bits[0] } else { bits.get(index).copied().unwrap_or(0) };
        if ty.is_scalar() {
            let shift = 64 - ty.elem.bits();
            return vec![if ty.elem.is_float() {
                Part::Float(lane(0))
            } else if ty.elem.is_mask() {
                Part::Int(i64::from(lane(0) != 0))
            } else {
                Part::Int((lane(0) as i64) << shift >> shift)
            }];
        }
        let (shape, bytes) = (self.shape(ty), ty.elem.bytes() as usize);
        let part = |part: usize| {
            let lanes: Vec<u64> =
                (0..usize::from(shape.lanes)).map(|i| lane(part * usize::from(shape.lanes) + i)).collect();
            if ty.elem.is_mask() {
                let set = lanes.iter().enumerate().filter(|(_, bit)| **bit != 0);
                return Part::Mask(set.fold(0, |mask, (i, _)| mask | 1 << i));
            }
            match lanes.iter().all(|bits| *bits == lanes[0]) {
                true => self.splat_bits(ty, lanes[0]),
                false => Part::Lanes(lanes.iter().flat_map(|bits| bits.to_le_bytes()[..bytes].to_vec()).collect()),
            }
        };
        (0..shape.count).map(part).collect()
    }

    /// A scalar in every lane.
    pub fn splat(&mut self, ty: Type, a: &Val) -> Result<Vec<Part>, CodegenError> {
        if ty.is_scalar() || matches!(a.parts[0], Part::Bytes(_)) {
            return Ok(a.parts.clone());
        }
        let shape = self.shape(ty);
        if ty.elem.is_mask() {
            let flag = self.gp(&a.parts[0]);
            let all = self.code.alu(Code::Sub, Gp::Num(0), flag);
            let int = Type::vec(Elem::I64, 2);
            let reg = self.code.reg(Class::Vec);
            let all = Scalar::X(self.code.gp_reg(all));
            // One bit per lane, of which there are 64 at most.
            self.repeat(all, 8, int, reg);
            return Ok(vec![Part::Reg(reg); shape.count]);
        }
        let scalar = match &a.parts[0] {
            Part::Int(number) => return Ok(vec![self.splat_bits(ty, *number as u64); shape.count]),
            Part::Float(bits) => Scalar::Bits(*bits),
            Part::Reg(reg) if ty.elem.is_float() => Scalar::F(*reg),
            Part::Reg(reg) => Scalar::X(*reg),
            _ => return self.no("a splat of this form"),
        };
        Ok(vec![Part::Splat(scalar, ty.elem.bytes() as u8); shape.count])
    }

    pub fn load(&mut self, ty: Type, mem: Mem) -> Vec<Part> {
        if ty.is_scalar() {
            return vec![Part::Reg(self.load_scalar(ty.elem, mem))];
        }
        let shape = self.shape(ty);
        let bytes = i64::from(u32::from(shape.lanes) * ty.elem.bytes());
        (0..shape.count)
            .map(|part| {
                let address = self.code.far(mem.base, i64::from(mem.disp) + part as i64 * bytes);
                Part::Reg(self.load_part(ty, address))
            })
            .collect()
    }

    /// A part from an address.
    pub fn load_part(&mut self, ty: Type, address: Arg) -> Reg {
        self.load_part_of(ty, self.shape(ty).lanes, address)
    }

    /// So many first lanes of a part.
    fn load_part_of(&mut self, ty: Type, lanes: u16, address: Arg) -> Reg {
        let code = match ty.elem.bytes() {
            1 => Code::Vle8,
            2 => Code::Vle16,
            4 => Code::Vle32,
            _ => Code::Vle64,
        };
        let demand = Demand::Memory { bytes: ty.elem.bytes() as u8, lanes };
        self.vector_op(code, &[address], 0, demand)
    }

    /// Lanes of each part that are among the first `count`, and its address.
    fn parts_of_first(&mut self, ty: Type, mem: Mem, count: u16) -> Vec<(u16, Arg)> {
        let shape = self.shape(ty);
        let bytes = i64::from(u32::from(shape.lanes) * ty.elem.bytes());
        (0..shape.count as u16)
            .map(|part| (count.saturating_sub(part * shape.lanes).min(shape.lanes), i64::from(part)))
            .filter(|(lanes, _)| *lanes > 0)
            .map(|(lanes, part)| (lanes, self.code.far(mem.base, i64::from(mem.disp) + part * bytes)))
            .collect()
    }

    /// Some first lanes, and zeros.
    pub fn load_first(&mut self, ty: Type, mem: Mem, count: u16) -> Result<Vec<Part>, CodegenError> {
        let shape = self.shape(ty);
        let zeros = self.constant(ty, &[0]);
        let mut parts = Vec::with_capacity(shape.count);
        for (lanes, address) in self.parts_of_first(ty, mem, count) {
            let whole = self.load_part_of(ty, lanes, address);
            parts.push(match lanes == shape.lanes {
                true => Part::Reg(whole),
                false => self.merge(&Part::Mask((1 << lanes) - 1), ty, &Part::Reg(whole), &zeros[0])?,
            });
        }
        parts.resize(shape.count, zeros[0].clone());
        Ok(parts)
    }

    /// Writes some first lanes.
    pub fn store_first(&mut self, value: &Val, mem: Mem, count: u16) -> Result<(), CodegenError> {
        let (ty, code) = (value.ty, store_code(value.ty.elem));
        for (part, (lanes, address)) in value.parts.iter().zip(self.parts_of_first(ty, mem, count)) {
            let reg = Arg::Reg(self.reg(part, ty)?);
            let demand = Demand::Memory { bytes: ty.elem.bytes() as u8, lanes };
            self.code.vector(code, &[reg, address], 0, demand);
        }
        Ok(())
    }

    pub fn store(&mut self, value: &Val, mem: Mem) -> Result<(), CodegenError> {
        let ty = value.ty;
        if ty.is_scalar() {
            self.store_scalar(ty.elem, &value.parts[0], mem);
            return Ok(());
        }
        let (shape, code) = (self.shape(ty), store_code(ty.elem));
        let bytes = i64::from(u32::from(shape.lanes) * ty.elem.bytes());
        for (part, at) in value.parts.iter().zip(0..) {
            let reg = Arg::Reg(self.reg(part, ty)?);
            let address = self.code.far(mem.base, i64::from(mem.disp) + at * bytes);
            let demand = Demand::Memory { bytes: ty.elem.bytes() as u8, lanes: shape.lanes };
            self.code.vector(code, &[reg, address], 0, demand);
        }
        Ok(())
    }

    pub fn extract(&mut self, a: &Val, lane: u16) -> Result<Vec<Part>, CodegenError> {
        let (ty, elem) = (a.ty, a.ty.elem);
        if ty.is_scalar() {
            return Ok(a.parts.clone());
        }
        if elem.is_mask() {
            let ints = ty.with_elem(elem.int());
            let parts = self.mask_to_ints(a, ints)?;
            let lane = self.extract(&Val { ty: ints, parts }, lane)?;
            let lane = self.gp(&lane[0]);
            return Ok(vec![Self::part(self.code.alu_imm(Code::Andi, lane, 1))]);
        }
        let shape = self.shape(ty);
        let (part, lane) = (&a.parts[usize::from(lane / shape.lanes)], lane % shape.lanes);
        let reg = self.reg(part, ty)?;
        let first = self.chunk(reg, elem, lane, 1);
        Ok(vec![Part::Reg(self.first_lane(first, elem))])
    }

    pub fn insert(&mut self, a: &Val, lane: u16, scalar: &Part) -> Result<Vec<Part>, CodegenError> {
        let ty = a.ty;
        if ty.is_scalar() {
            return Ok(vec![scalar.clone()]);
        }
        if ty.elem.is_mask() {
            return self.no("insert into a mask");
        }
        let shape = self.shape(ty);
        let (part, lane) = (usize::from(lane / shape.lanes), lane % shape.lanes);
        let all = Val { ty: ty.with_lanes(1), parts: vec![scalar.clone()] };
        let repeated = self.splat(ty.with_lanes(shape.lanes), &all)?;
        let mut parts = a.parts.clone();
        parts[part] = self.merge(&Part::Mask(1 << lane), ty, &repeated[0], &a.parts[part])?;
        Ok(parts)
    }

    pub fn shuffle(&mut self, a: &Val, b: &Val, pick: &[u16]) -> Result<Vec<Part>, CodegenError> {
        let ty = a.ty.with_lanes(pick.len() as u16);
        if a.ty.elem.is_mask() {
            return self.no("shuffle of masks");
        }
        if ty.is_scalar() {
            let (from, lane) = if pick[0] < a.ty.lanes { (a, pick[0]) } else { (b, pick[0] - a.ty.lanes) };
            return self.extract(from, lane);
        }
        if a.ty.is_scalar() {
            let pair = a.ty.with_lanes(2);
            let mut wide = |of: &Val| Ok(Val { ty: pair, parts: self.splat(pair, of)? });
            let (a, b) = (wide(a)?, wide(b)?);
            let pick: Vec<u16> = pick.iter().map(|p| 2 * p).collect();
            return self.shuffle(&a, &b, &pick);
        }
        let (from, shape) = (self.shape(a.ty), self.shape(ty));
        let mut parts = Vec::with_capacity(shape.count);
        for chunk in pick.chunks(usize::from(shape.lanes)) {
            // Registers that lanes come from, and where.
            let mut sources: Vec<(bool, usize)> = Vec::new();
            let mut lanes: Vec<(usize, u16)> = Vec::with_capacity(chunk.len());
            for &p in chunk {
                let (second, lane) = if p < a.ty.lanes { (false, p) } else { (true, p - a.ty.lanes) };
                let key = (second, usize::from(lane / from.lanes));
                let at = sources.iter().position(|s| *s == key).unwrap_or_else(|| {
                    sources.push(key);
                    sources.len() - 1
                });
                lanes.push((at, lane % from.lanes));
            }
            let regs = sources
                .iter()
                .map(|&(second, part)| {
                    let val = if second { b } else { a };
                    self.reg(&val.parts[part], val.ty)
                })
                .collect::<Result<Vec<_>, _>>()?;
            parts.push(Part::Reg(self.shuffle_regs(&regs, ty.elem, &lanes)?));
        }
        Ok(parts)
    }

    /// Lanes (register, lane) of registers as the lanes of one.
    fn shuffle_regs(&mut self, regs: &[Reg], elem: Elem, lanes: &[(usize, u16)]) -> Result<Reg, CodegenError> {
        let count = lanes.len() as u16;
        let runs = |lanes: &[(usize, u16)]| lanes.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1);
        if regs.len() == 1 && runs(lanes) {
            return Ok(self.chunk(regs[0], elem, lanes[0].1, count));
        }
        let (low, high) = lanes.split_at(lanes.len() / 2);
        let apart = low.iter().all(|l| l.0 == 0) && high.iter().all(|l| l.0 == 1);
        if regs.len() == 2 && apart && runs(low) && runs(high) && high[0].1 == 0 {
            let low = self.chunk(regs[0], elem, low[0].1, count / 2);
            return Ok(self.join(&[low, regs[1]], elem, count / 2));
        }
        let mut result: Option<Reg> = None;
        for (at, &reg) in regs.iter().enumerate() {
            let gathered = self.gather(reg, elem, at, lanes)?;
            result = Some(match result {
                None => gathered,
                Some(others) => {
                    let mine = lanes.iter().enumerate().filter(|(_, l)| l.0 == at).fold(0u64, |m, (i, _)| m | 1 << i);
                    let ty = Type::vec(elem, count);
                    let merged = self.merge(&Part::Mask(mine), ty, &Part::Reg(gathered), &Part::Reg(others))?;
                    self.reg(&merged, ty)?
                }
            });
        }
        result.map_or_else(|| self.no("a shuffle of nothing"), Ok)
    }

    /// The lanes that come from one register in their places; anything in the others.
    fn gather(&mut self, reg: Reg, elem: Elem, at: usize, lanes: &[(usize, u16)]) -> Result<Reg, CodegenError> {
        let ty = Type::vec(elem.int(), lanes.len() as u16);
        let demand = self.whole(ty);
        let own: Vec<u16> = lanes.iter().filter(|l| l.0 == at).map(|l| l.1).collect();
        if own.iter().all(|lane| *lane == own[0]) && own[0] < 32 {
            return Ok(self.vector_op(Code::VrgatherVi, &[Arg::Reg(reg)], own[0].into(), demand));
        }
        let order: Vec<u64> = lanes.iter().map(|l| if l.0 == at { l.1.into() } else { 0 }).collect();
        let order = self.constant(ty, &order);
        let order = Arg::Reg(self.reg(&order[0], ty)?);
        Ok(self.vector_op(Code::VrgatherVv, &[Arg::Reg(reg), order], 0, demand))
    }

    /// Halves are combined until one lane is left: registers first, then the lanes of the last one; integers in any order.
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
        if val.ty.elem.is_mask() {
            return self.reduce_mask(op, &val);
        }
        let (elem, whole) = (val.ty.elem, val.ty);
        let reg = self.reg(&val.parts[0], whole)?;
        if elem.is_int()
            && let Some(code) = across(op)
        {
            return Ok(vec![Part::Reg(self.reduce_ints(op, code, reg, whole))]);
        }
        let mut reg = reg;
        let mut half = whole.lanes / 2;
        while half > 0 {
            // All lanes take part, so that the length stays; those past the half are of no value.
            let high = self.chunk(reg, elem, half, whole.lanes);
            let (low, high) = (vec![Part::Reg(reg)], vec![Part::Reg(high)]);
            let parts = self.bin(op, &Val { ty: whole, parts: low }, &Val { ty: whole, parts: high })?;
            reg = self.reg(&parts[0], whole)?;
            half /= 2;
        }
        Ok(vec![Part::Reg(self.first_lane(reg, elem))])
    }

    /// By the one instruction, which starts at a lane of another register.
    fn reduce_ints(&mut self, op: BinOp, code: Code, reg: Reg, ty: Type) -> Reg {
        let demand = self.whole(ty);
        // What does not change the result: zero, or for those that may take a lane twice, the first one.
        let start = match op {
            BinOp::Add | BinOp::Xor => self.vector_op(Code::VmvSX, &[ZERO], 0, demand),
            _ => reg,
        };
        let sum = self.vector_op(code, &[Arg::Reg(reg), Arg::Reg(start)], 0, demand);
        self.first_lane(sum, ty.elem)
    }

    fn reduce_mask(&mut self, op: BinOp, val: &Val) -> Result<Vec<Part>, CodegenError> {
        let reg = Arg::Reg(self.reg(&val.parts[0], val.ty)?);
        let (count, lanes) = (self.code.reg(Class::Gpr), val.ty.lanes);
        self.code.vector(Code::VcpopM, &[Arg::Reg(count), reg], 0, Demand::Lanes(lanes));
        let count = Gp::Reg(count);
        Ok(vec![Self::part(match op {
            BinOp::Or => self.code.alu(Code::Sltu, Gp::Num(0), count),
            BinOp::And => {
                let less = self.code.alu_imm(Code::Sltiu, count, lanes.into());
                self.code.alu_imm(Code::Xori, less, 1)
            }
            _ => return self.no(format!("reduction of masks by {op}")),
        })])
    }
}

fn across(op: BinOp) -> Option<Code> {
    Some(match op {
        BinOp::Add => Code::VredsumVs,
        BinOp::And => Code::VredandVs,
        BinOp::Or => Code::VredorVs,
        BinOp::Xor => Code::VredxorVs,
        BinOp::MinS => Code::VredminVs,
        BinOp::MaxS => Code::VredmaxVs,
        BinOp::MinU => Code::VredminuVs,
        BinOp::MaxU => Code::VredmaxuVs,
        _ => return None,
    })
}

/// The store of such elements.
fn store_code(elem: Elem) -> Code {
    match elem.bytes() {
        1 => Code::Vse8,
        2 => Code::Vse16,
        4 => Code::Vse32,
        _ => Code::Vse64,
    }
}
