//! Constants, memory, and moving lanes about.

use iced_x86::Code;

use super::super::alloc::Reg;
use super::body::{Body, Const, Part, Val};
use super::inst::{Class, Inst, Mem, Operand, Width};
use super::scalar::Gp;
use super::table;
use crate::cpu::kernel::ir::BinOp;
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

pub(super) fn moved(mem: Mem, bytes: u32) -> Mem {
    Mem { disp: mem.disp.wrapping_add(bytes as i32), ..mem }
}

impl Body<'_> {
    /// One of two codes, by encoding.
    fn by_encoding(&self, vex: Code, evex: Code) -> Code {
        if self.cpu.evex { evex } else { vex }
    }

    pub fn constant(&mut self, ty: Type, bits: &[u64]) -> Result<Vec<Part>, CodegenError> {
        let lane = |index: usize| if bits.len() == 1 { bits[0] } else { bits.get(index).copied().unwrap_or(0) };
        if Self::is_gpr(ty) {
            let shift = 64 - ty.elem.bits();
            let number = if ty.elem.is_mask() { i64::from(lane(0) != 0) } else { (lane(0) as i64) << shift >> shift };
            return Ok(vec![Part::Int(number)]);
        }
        let shape = self.shape(ty);
        let mut parts = Vec::with_capacity(shape.count);
        for part in 0..shape.count {
            let first = part * usize::from(shape.lanes);
            if ty.elem.is_mask() && self.cpu.evex {
                let set = (0..usize::from(shape.lanes)).filter(|i| lane(first + i) != 0).fold(0u64, |m, i| m | 1 << i);
                let number = self.code.gp_reg(Gp::Num(set as i64));
                parts.push(Part::Reg(self.mask_from_gpr(number)));
                continue;
            }
            let width = ty.elem.bytes() as usize;
            let mut bytes = Vec::with_capacity(64);
            let lanes = shape.width.bytes() as usize / width;
            for i in 0..lanes {
                // Lanes past the end repeat the first one, so that scalars are splats.
                let bits = lane(first + if i < usize::from(shape.lanes) { i } else { 0 });
                let bits = if ty.elem.is_mask() && bits != 0 { u64::MAX } else { bits };
                bytes.extend_from_slice(&bits.to_le_bytes()[..width]);
            }
            parts.push(Part::Const(constant_of(bytes, width)));
        }
        Ok(parts)
    }

    /// That number in every lane of one part.
    pub fn splat_bits(&self, ty: Type, bits: u64) -> Part {
        let width = ty.elem.bytes() as usize;
        let lanes = self.shape(ty).width.bytes() as usize / width;
        let bytes = bits.to_le_bytes()[..width].repeat(lanes);
        Part::Const(Const { bytes, splat: Some(width) })
    }

    pub fn put_const(&mut self, constant: &Const, width: Width, to: Reg) {
        if constant.bytes.iter().all(|&b| b == 0) {
            self.code.push(Inst::Zero(to));
            return;
        }
        match constant.splat {
            Some(bytes) => {
                let mem = self.code.pool(&constant.bytes[..bytes]);
                self.put_splat(mem, bytes as u32, width, to);
            }
            None => {
                let mem = self.code.pool(&constant.bytes);
                let code = self.pick(&table::MOVUPS, width);
                self.code.op(code, vec![Operand::Reg(to, width), Operand::Mem(mem)]);
            }
        }
    }

    pub fn put_splat(&mut self, mem: Mem, bytes: u32, width: Width, to: Reg) {
        let codes = match bytes {
            1 => &table::PBROADCASTB,
            2 => &table::PBROADCASTW,
            4 => &table::BROADCASTSS,
            _ => &table::PBROADCASTQ,
        };
        let code = self.pick(codes, width);
        self.code.op(code, vec![Operand::Reg(to, width), Operand::Mem(mem)]);
    }

    pub fn put_scalar(&mut self, mem: Mem, ty: Type, to: Reg) {
        let code = match ty.elem {
            Elem::F32 => self.by_encoding(Code::VEX_Vmovss_xmm_m32, Code::EVEX_Vmovss_xmm_k1z_m32),
            Elem::F64 => self.by_encoding(Code::VEX_Vmovsd_xmm_m64, Code::EVEX_Vmovsd_xmm_k1z_m64),
            elem => return self.load_scalar_int(elem, mem, to),
        };
        self.code.op(code, vec![Operand::Reg(to, Width::X), Operand::Mem(mem)]);
    }

    /// Less than 128 bits from memory.
    pub fn put_narrow(&mut self, mem: Mem, ty: Type, to: Reg) {
        let to = Operand::Reg(to, Width::X);
        let code = match ty.bits() {
            64 => self.by_encoding(Code::VEX_Vmovq_xmm_xmmm64, Code::EVEX_Vmovq_xmm_xmmm64),
            32 => self.by_encoding(Code::VEX_Vmovd_xmm_rm32, Code::EVEX_Vmovd_xmm_rm32),
            _ => {
                let bits = self.code.reg(Class::Gpr);
                self.load_scalar_int(Elem::I16, mem, bits);
                let code = self.by_encoding(Code::VEX_Vmovd_xmm_rm32, Code::EVEX_Vmovd_xmm_rm32);
                return self.code.op(code, vec![to, Operand::Reg(bits, Width::B4)]);
            }
        };
        self.code.op(code, vec![to, Operand::Mem(mem)]);
    }

    pub fn load(&mut self, ty: Type, mem: Mem, deferred: bool) -> Result<Vec<Part>, CodegenError> {
        if ty.is_scalar() {
            let part = Part::Scalar(mem);
            return Ok(vec![if deferred { part } else { Part::Reg(self.reg(&part, ty)) }]);
        }
        let shape = self.shape(ty);
        let parts: Vec<Part> =
            (0..shape.count).map(|i| Part::Load(moved(mem, i as u32 * shape.width.bytes()))).collect();
        if deferred {
            return Ok(parts);
        }
        Ok(parts.iter().map(|part| Part::Reg(self.reg(part, ty))).collect())
    }

    pub fn store(&mut self, value: &Val, mem: Mem) -> Result<(), CodegenError> {
        let ty = value.ty;
        if Self::is_gpr(ty) {
            return self.store_scalar_int(ty.elem, &value.parts[0], mem);
        }
        let shape = self.shape(ty);
        for (i, part) in value.parts.iter().enumerate() {
            let reg = self.reg(part, ty);
            self.store_part(ty, reg, moved(mem, i as u32 * shape.width.bytes()));
        }
        Ok(())
    }

    /// Stores a register of a vector of that type.
    pub fn store_part(&mut self, ty: Type, reg: Reg, mem: Mem) {
        let width = self.shape(ty).width;
        let (code, imm) = match ty.bits() {
            16 => (self.by_encoding(Code::VEX_Vpextrw_r32m16_xmm_imm8, Code::EVEX_Vpextrw_r32m16_xmm_imm8), true),
            32 => (self.by_encoding(Code::VEX_Vmovd_rm32_xmm, Code::EVEX_Vmovd_rm32_xmm), false),
            64 => (self.by_encoding(Code::VEX_Vmovq_xmmm64_xmm, Code::EVEX_Vmovq_xmmm64_xmm), false),
            _ => (self.pick(&table::MOVUPS_STORE, width), false),
        };
        let mut operands = vec![Operand::Mem(mem), Operand::Reg(reg, width)];
        if imm {
            operands.push(Operand::Imm8(0));
        }
        self.code.effect(code, operands);
    }

    pub fn splat(&mut self, ty: Type, a: &Part, deferred: bool) -> Result<Vec<Part>, CodegenError> {
        let shape = self.shape(ty);
        if ty.is_scalar() {
            return Ok(vec![a.clone()]);
        }
        if ty.elem.is_mask() {
            let ones = self.scalar_bmask(a);
            let ones = self.code.gp_reg(ones);
            let reg = if self.cpu.evex { self.mask_from_gpr(ones) } else { self.splat_gpr(ones, 8, shape.width) };
            return Ok(vec![Part::Reg(reg); shape.count]);
        }
        let bytes = ty.elem.bytes();
        let part = match a {
            Part::Int(number) => self.splat_bits(ty, *number as u64),
            Part::Const(constant) => {
                let element = &constant.bytes[..bytes as usize];
                Part::Const(Const {
                    bytes: element.repeat(shape.width.bytes() as usize / bytes as usize),
                    splat: Some(bytes as usize),
                })
            }
            Part::Scalar(mem) if deferred && self.cpu.evex && shape.count == 1 => Part::Splat(*mem, bytes),
            Part::Scalar(mem) => {
                let to = self.code.reg(Class::Vec);
                self.put_splat(*mem, bytes, shape.width, to);
                Part::Reg(to)
            }
            part if ty.elem.is_float() => {
                let from = self.reg(part, ty.with_lanes(1));
                let to = self.code.reg(Class::Vec);
                let codes = if bytes == 4 { &table::BROADCASTSS_REG } else { &table::PBROADCASTQ };
                let code = self.pick(codes, shape.width);
                self.code.op(code, vec![Operand::Reg(to, shape.width), Operand::Reg(from, Width::X)]);
                Part::Reg(to)
            }
            part => {
                let from = self.gp(part, ty.elem);
                let from = self.code.gp_reg(from);
                Part::Reg(self.splat_gpr(from, bytes, shape.width))
            }
        };
        Ok(vec![part; shape.count])
    }

    /// The low bytes of a general register in all lanes.
    fn splat_gpr(&mut self, from: Reg, bytes: u32, width: Width) -> Reg {
        let (direct, from_xmm) = match bytes {
            1 => (&table::PBROADCASTB_GPR, &table::PBROADCASTB),
            2 => (&table::PBROADCASTW_GPR, &table::PBROADCASTW),
            4 => (&table::PBROADCASTD_GPR, &table::PBROADCASTD),
            _ => (&table::PBROADCASTQ_GPR, &table::PBROADCASTQ),
        };
        let to = self.code.reg(Class::Vec);
        if self.cpu.evex {
            let from = Operand::Reg(from, if bytes == 8 { Width::B8 } else { Width::B4 });
            let code = self.pick(direct, width);
            self.code.op(code, vec![Operand::Reg(to, width), from]);
        } else {
            let low = self.xmm_from_gpr(from);
            let code = self.pick(from_xmm, width);
            self.code.op(code, vec![Operand::Reg(to, width), Operand::Reg(low, Width::X)]);
        }
        to
    }

    pub fn xmm_from_gpr(&mut self, from: Reg) -> Reg {
        let to = self.code.reg(Class::Vec);
        let code = self.by_encoding(Code::VEX_Vmovq_xmm_rm64, Code::EVEX_Vmovq_xmm_rm64);
        self.code.op(code, vec![Operand::Reg(to, Width::X), Operand::Reg(from, Width::B8)]);
        to
    }

    pub fn gpr_from_xmm(&mut self, from: Reg) -> Reg {
        let to = self.code.reg(Class::Gpr);
        let code = self.by_encoding(Code::VEX_Vmovq_rm64_xmm, Code::EVEX_Vmovq_rm64_xmm);
        self.code.op(code, vec![Operand::Reg(to, Width::B8), Operand::Reg(from, Width::X)]);
        to
    }

    pub fn mask_from_gpr(&mut self, from: Reg) -> Reg {
        let to = self.code.reg(Class::Mask);
        self.code.op(Code::VEX_Kmovq_kr_r64, vec![Operand::Reg(to, Width::K), Operand::Reg(from, Width::B8)]);
        to
    }

    pub fn gpr_from_mask(&mut self, from: Reg) -> Reg {
        let to = self.code.reg(Class::Gpr);
        self.code.op(Code::VEX_Kmovq_r64_kr, vec![Operand::Reg(to, Width::B8), Operand::Reg(from, Width::K)]);
        to
    }

    /// Bytes `at..at + bytes` of a register, at the start of one; `bytes` is 4, 8, 16 or 32 and divides `at`.
    pub fn chunk(&mut self, reg: Reg, width: Width, at: u32, bytes: u32) -> Reg {
        if at == 0 {
            return reg;
        }
        let to = self.code.reg(Class::Vec);
        if bytes == 32 {
            let operands = vec![Operand::Reg(to, Width::Y), Operand::Reg(reg, Width::Z), Operand::Imm8(1)];
            self.code.op(Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8, operands);
            return to;
        }
        let lane = self.chunk_lane(reg, width, at / 16);
        let inside = at % 16;
        if inside == 0 {
            return lane;
        }
        // Dwords from `inside` on come first.
        let first = i64::from(inside / 4);
        let order = (0..4).fold(0, |order, i| order | ((first + i) % 4) << (2 * i));
        let code = self.pick(&table::PSHUFD, Width::X);
        self.code.op(code, vec![Operand::Reg(to, Width::X), Operand::Reg(lane, Width::X), Operand::Imm8(order)]);
        to
    }

    /// 128 bits of a register.
    fn chunk_lane(&mut self, reg: Reg, width: Width, lane: u32) -> Reg {
        if lane == 0 {
            return reg;
        }
        let to = self.code.reg(Class::Vec);
        let code = match (self.cpu.evex, width) {
            (false, _) => Code::VEX_Vextracti128_xmmm128_ymm_imm8,
            (true, Width::Y) => Code::EVEX_Vextracti32x4_xmmm128_k1z_ymm_imm8,
            (true, _) => Code::EVEX_Vextracti32x4_xmmm128_k1z_zmm_imm8,
        };
        self.code.op(code, vec![Operand::Reg(to, Width::X), Operand::Reg(reg, width), Operand::Imm8(lane.into())]);
        to
    }

    /// Registers with `bytes` bytes each become one; `bytes` is 8, 16 or 32.
    pub fn combine(&mut self, pieces: &[Reg], bytes: u32) -> Result<Reg, CodegenError> {
        if let [one] = pieces {
            return Ok(*one);
        }
        if bytes == 8 {
            let mut joined = Vec::new();
            for pair in pieces.chunks(2) {
                let to = self.code.reg(Class::Vec);
                let code = self
                    .by_encoding(Code::VEX_Vpunpcklqdq_xmm_xmm_xmmm128, Code::EVEX_Vpunpcklqdq_xmm_k1z_xmm_xmmm128b64);
                let second = pair.last().copied().unwrap_or(pair[0]);
                self.code.op(code, [to, pair[0], second].map(|r| Operand::Reg(r, Width::X)).to_vec());
                joined.push(to);
            }
            return self.combine(&joined, 16);
        }
        if bytes < 8 {
            return self.no("pieces of less than 64 bits");
        }
        let total = Width::of_bytes(bytes * pieces.len() as u32);
        let mut whole = pieces[0];
        for (at, &piece) in pieces.iter().enumerate().skip(1) {
            let to = self.code.reg(Class::Vec);
            let (code, piece_width) = match (self.cpu.evex, total, bytes) {
                (false, Width::Y, 16) => (Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, Width::X),
                (true, Width::Y, 16) => (Code::EVEX_Vinserti32x4_ymm_k1z_ymm_xmmm128_imm8, Width::X),
                (true, Width::Z, 16) => (Code::EVEX_Vinserti32x4_zmm_k1z_zmm_xmmm128_imm8, Width::X),
                (true, Width::Z, 32) => (Code::EVEX_Vinserti64x4_zmm_k1z_zmm_ymmm256_imm8, Width::Y),
                _ => return self.no("registers that do not fit one"),
            };
            let operands = vec![
                Operand::Reg(to, total),
                Operand::Reg(whole, total),
                Operand::Reg(piece, piece_width),
                Operand::Imm8(at as i64),
            ];
            self.code.op(code, operands);
            whole = to;
        }
        Ok(whole)
    }

    pub fn extract(&mut self, a: &Val, lane: u16) -> Result<Vec<Part>, CodegenError> {
        if a.ty.is_scalar() {
            return Ok(a.parts.clone());
        }
        let shape = self.shape(a.ty);
        let (part, lane) = (usize::from(lane / shape.lanes), lane % shape.lanes);
        let reg = self.reg(&a.parts[part], a.ty);
        Ok(vec![Part::Reg(self.extract_lane(reg, a.ty, lane))])
    }

    /// One lane of a part as a scalar.
    fn extract_lane(&mut self, reg: Reg, ty: Type, lane: u16) -> Reg {
        if ty.elem.is_mask() && self.cpu.evex {
            let all = self.gpr_from_mask(reg);
            let shifted = self.code.shift_imm(Code::Shr_rm64_imm8, all, lane.into());
            return self.low_bit(shifted);
        }
        let shape = self.shape(ty);
        let bytes = ty.elem.bytes();
        let at = u32::from(lane) * bytes;
        if ty.elem.is_float() {
            return self.chunk(reg, shape.width, at, bytes);
        }
        let lane = self.chunk_lane(reg, shape.width, at / 16);
        let index = i64::from(at % 16 / bytes);
        let to = self.code.reg(Class::Gpr);
        let (code, width) = match bytes {
            1 => (self.by_encoding(Code::VEX_Vpextrb_r32m8_xmm_imm8, Code::EVEX_Vpextrb_r32m8_xmm_imm8), Width::B4),
            2 => (self.by_encoding(Code::VEX_Vpextrw_r32_xmm_imm8, Code::EVEX_Vpextrw_r32_xmm_imm8), Width::B4),
            4 => (self.by_encoding(Code::VEX_Vpextrd_rm32_xmm_imm8, Code::EVEX_Vpextrd_rm32_xmm_imm8), Width::B4),
            _ => (self.by_encoding(Code::VEX_Vpextrq_rm64_xmm_imm8, Code::EVEX_Vpextrq_rm64_xmm_imm8), Width::B8),
        };
        self.code.op(code, vec![Operand::Reg(to, width), Operand::Reg(lane, Width::X), Operand::Imm8(index)]);
        if ty.elem.is_mask() { self.low_bit(to) } else { to }
    }

    fn low_bit(&mut self, from: Reg) -> Reg {
        let one = self.code.gp_reg(Gp::Num(1));
        let bit = self.code.alu(Code::And_r64_rm64, from, one);
        self.code.gp_reg(bit)
    }

    pub fn insert(&mut self, a: &Val, lane: u16, scalar: &Part) -> Result<Vec<Part>, CodegenError> {
        if a.ty.is_scalar() {
            return Ok(vec![scalar.clone()]);
        }
        if a.ty.elem.is_mask() {
            return self.no("insert into a mask");
        }
        let shape = self.shape(a.ty);
        let (part, lane) = (usize::from(lane / shape.lanes), lane % shape.lanes);
        let whole = self.reg(&a.parts[part], a.ty);
        let at = u32::from(lane) * a.ty.elem.bytes();
        let old = self.chunk_lane(whole, shape.width, at / 16);
        let new = self.insert_lane(old, a.ty.elem, at % 16, scalar);
        let mut parts = a.parts.clone();
        parts[part] = Part::Reg(match (self.cpu.evex, shape.width) {
            (_, Width::X) => new,
            (evex, width) => {
                let code = match (evex, width) {
                    (false, _) => Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8,
                    (true, Width::Y) => Code::EVEX_Vinserti32x4_ymm_k1z_ymm_xmmm128_imm8,
                    (true, _) => Code::EVEX_Vinserti32x4_zmm_k1z_zmm_xmmm128_imm8,
                };
                let to = self.code.reg(Class::Vec);
                let operands = vec![
                    Operand::Reg(to, width),
                    Operand::Reg(whole, width),
                    Operand::Reg(new, Width::X),
                    Operand::Imm8((at / 16).into()),
                ];
                self.code.op(code, operands);
                to
            }
        });
        Ok(parts)
    }

    fn insert_lane(&mut self, old: Reg, elem: Elem, at: u32, scalar: &Part) -> Reg {
        let to = self.code.reg(Class::Vec);
        let (to_x, old) = (Operand::Reg(to, Width::X), Operand::Reg(old, Width::X));
        if elem == Elem::F32 {
            let code =
                self.by_encoding(Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8, Code::EVEX_Vinsertps_xmm_xmm_xmmm32_imm8);
            let from = match scalar {
                Part::Scalar(mem) => Operand::Mem(*mem),
                part => Operand::Reg(self.reg(part, Type::scalar(elem)), Width::X),
            };
            self.code.op(code, vec![to_x, old, from, Operand::Imm8(i64::from(at / 4) << 4)]);
            return to;
        }
        let from = if elem == Elem::F64 {
            let xmm = self.reg(scalar, Type::scalar(elem));
            self.gpr_from_xmm(xmm)
        } else {
            let value = self.gp(scalar, elem);
            self.code.gp_reg(value)
        };
        let (code, width) = match elem.bytes() {
            1 => (
                self.by_encoding(Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8, Code::EVEX_Vpinsrb_xmm_xmm_r32m8_imm8),
                Width::B4,
            ),
            2 => (
                self.by_encoding(Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, Code::EVEX_Vpinsrw_xmm_xmm_r32m16_imm8),
                Width::B4,
            ),
            4 => {
                (self.by_encoding(Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8, Code::EVEX_Vpinsrd_xmm_xmm_rm32_imm8), Width::B4)
            }
            _ => {
                (self.by_encoding(Code::VEX_Vpinsrq_xmm_xmm_rm64_imm8, Code::EVEX_Vpinsrq_xmm_xmm_rm64_imm8), Width::B8)
            }
        };
        let index = i64::from(at / elem.bytes());
        self.code.op(code, vec![to_x, old, Operand::Reg(from, width), Operand::Imm8(index)]);
        to
    }

    pub fn shuffle(&mut self, a: &Val, b: &Val, pick: &[u16]) -> Result<Vec<Part>, CodegenError> {
        let ty = a.ty.with_lanes(pick.len() as u16);
        if a.ty.elem.is_mask() || a.ty.is_scalar() {
            return self.no("shuffle of masks or scalars");
        }
        if ty.is_scalar() {
            let (from, lane) = if pick[0] < a.ty.lanes { (a, pick[0]) } else { (b, pick[0] - a.ty.lanes) };
            return self.extract(from, lane);
        }
        let (from, shape) = (self.shape(a.ty), self.shape(ty));
        let mut parts = Vec::with_capacity(shape.count);
        for chunk in pick.chunks(usize::from(shape.lanes)) {
            // Registers that lanes come from, at most two, and where.
            let mut regs: Vec<(bool, usize)> = Vec::new();
            let mut lanes = Vec::with_capacity(chunk.len());
            for &p in chunk {
                let (second, lane) = if p < a.ty.lanes { (false, p) } else { (true, p - a.ty.lanes) };
                let key = (second, usize::from(lane / from.lanes));
                let at = regs.iter().position(|r| *r == key).unwrap_or_else(|| {
                    regs.push(key);
                    regs.len() - 1
                });
                lanes.push((at, u32::from(lane % from.lanes)));
            }
            let sources: Vec<Reg> = regs
                .iter()
                .map(|&(second, part)| {
                    let val = if second { b } else { a };
                    self.reg(&val.parts[part], val.ty)
                })
                .collect();
            let width = from.width.max(shape.width);
            parts.push(Part::Reg(self.shuffle_regs(&sources, a.ty.elem, width, &lanes)?));
        }
        Ok(parts)
    }

    /// Lanes (register, lane) of up to two registers.
    fn shuffle_regs(
        &mut self,
        sources: &[Reg],
        elem: Elem,
        width: Width,
        lanes: &[(usize, u32)],
    ) -> Result<Reg, CodegenError> {
        if sources.len() == 1 && lanes.iter().enumerate().all(|(i, l)| l.1 as usize == i) {
            return Ok(sources[0]);
        }
        if sources.len() > 2 {
            return self.no("shuffle of more than two registers");
        }
        let bytes = elem.bytes();
        if let Some(reg) = self.part_or_whole(sources, bytes, width, lanes)? {
            return Ok(reg);
        }
        if let Some(codes) =
            Some(lanes).filter(|_| width == Width::X).and_then(|lanes| zip(sources.len(), bytes, lanes))
        {
            let (to, code) = (self.code.reg(Class::Vec), self.pick(codes, Width::X));
            let last = sources[sources.len() - 1];
            self.code.op(code, [to, sources[0], last].map(|r| Operand::Reg(r, Width::X)).to_vec());
            return Ok(to);
        }
        if width == Width::X && !(self.cpu.evex && sources.len() == 2 && bytes >= 2) {
            return Ok(self.shuffle_bytes(sources, bytes, lanes));
        }
        if self.cpu.evex {
            return self.permute(sources, bytes, width, lanes);
        }
        if bytes < 4 {
            return self.no("shuffle of narrow lanes across 256 bits");
        }
        self.shuffle_ymm(sources, bytes, lanes)
    }

    /// A stretch of one register, or two registers side by side.
    fn part_or_whole(
        &mut self,
        sources: &[Reg],
        bytes: u32,
        width: Width,
        lanes: &[(usize, u32)],
    ) -> Result<Option<Reg>, CodegenError> {
        let total = bytes * lanes.len() as u32;
        let start = lanes[0].1;
        let runs = |lanes: &[(usize, u32)], from: u32| lanes.iter().zip(from..).all(|(l, i)| l.1 == i);
        if sources.len() == 1 && runs(lanes, start) && (start * bytes).is_multiple_of(total) && total >= 4 {
            return Ok(Some(self.chunk(sources[0], width, start * bytes, total)));
        }
        let (low, high) = lanes.split_at(lanes.len() / 2);
        let apart = low.iter().all(|l| l.0 == 0) && high.iter().all(|l| l.0 == 1);
        if sources.len() == 2 && apart && runs(low, 0) && runs(high, 0) && matches!(total, 16 | 32 | 64) {
            return Ok(Some(self.combine(sources, total / 2)?));
        }
        Ok(None)
    }

    /// Within 128 bits, without AVX-512: one byte shuffle each, zeros where the other one goes.
    fn shuffle_bytes(&mut self, sources: &[Reg], bytes: u32, lanes: &[(usize, u32)]) -> Reg {
        let mut results = Vec::new();
        for (at, &source) in sources.iter().enumerate() {
            let mut order = vec![0x80u8; 16];
            for (i, &(_, lane)) in lanes.iter().enumerate().filter(|(_, l)| l.0 == at) {
                for byte in 0..bytes {
                    order[i * bytes as usize + byte as usize] = (lane * bytes + byte) as u8;
                }
            }
            let mem = self.code.pool(&order);
            let to = self.code.reg(Class::Vec);
            let code = self.pick(&table::PSHUFB, Width::X);
            let operands = vec![Operand::Reg(to, Width::X), Operand::Reg(source, Width::X), Operand::Mem(mem)];
            self.code.op(code, operands);
            results.push(to);
        }
        match results[..] {
            [first, second] => {
                let to = self.code.reg(Class::Vec);
                let code = self.pick(&table::PORD, Width::X);
                self.code.op(code, [to, first, second].map(|r| Operand::Reg(r, Width::X)).to_vec());
                to
            }
            _ => results[0],
        }
    }

    fn permute(
        &mut self,
        sources: &[Reg],
        bytes: u32,
        width: Width,
        lanes: &[(usize, u32)],
    ) -> Result<Reg, CodegenError> {
        let (codes, elem) = match bytes {
            2 => (&table::PERMT2W, Elem::I16),
            4 => (&table::PERMT2D, Elem::I32),
            8 => (&table::PERMT2Q, Elem::I64),
            _ => return self.no("shuffle of bytes across 128 bits"),
        };
        let count = width.bytes() / bytes;
        let mut order = Vec::with_capacity(64);
        for i in 0..count as usize {
            let (register, lane) = lanes.get(i).copied().unwrap_or(lanes[0]);
            let index = u64::from(lane) + if register == 1 { u64::from(count) } else { 0 };
            order.extend_from_slice(&index.to_le_bytes()[..bytes as usize]);
        }
        let order = Part::Const(Const { bytes: order, splat: None });
        let order = self.reg(&order, Type::vec(elem, count as u16));
        let to = self.copy(sources[0], Class::Vec, width);
        let second = sources.last().copied().unwrap_or(sources[0]);
        let code = self.pick(codes, width);
        self.code.update(code, [to, order, second].map(|r| Operand::Reg(r, width)).to_vec());
        Ok(to)
    }

    /// 32 and 64-bit lanes of 256-bit registers, without AVX-512: each permuted, then blended.
    fn shuffle_ymm(&mut self, sources: &[Reg], bytes: u32, lanes: &[(usize, u32)]) -> Result<Reg, CodegenError> {
        let words = bytes / 4;
        let (mut order, mut second) = (Vec::new(), Vec::new());
        for i in 0..8 {
            let (register, lane) = lanes.get((i / words) as usize).copied().unwrap_or(lanes[0]);
            order.extend_from_slice(&(lane * words + i % words).to_le_bytes());
            second.extend_from_slice(&if register == 1 { u32::MAX } else { 0 }.to_le_bytes());
        }
        let order = self.reg(&Part::Const(Const { bytes: order, splat: None }), Type::vec(Elem::I32, 8));
        let mut permuted = Vec::new();
        for &source in sources {
            let to = self.code.reg(Class::Vec);
            let code = self.pick(&table::PERMD, Width::Y);
            self.code.op(code, [to, order, source].map(|r| Operand::Reg(r, Width::Y)).to_vec());
            permuted.push(to);
        }
        let [first, other] = permuted[..] else { return Ok(permuted[0]) };
        let mask = self.reg(&Part::Const(Const { bytes: second, splat: None }), Type::vec(Elem::I32, 8));
        let to = self.code.reg(Class::Vec);
        let code = self.pick(&table::BLENDVPS, Width::Y);
        self.code.op(code, [to, first, other, mask].map(|r| Operand::Reg(r, Width::Y)).to_vec());
        Ok(to)
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
        if val.ty.elem.is_mask() && self.cpu.evex {
            return self.reduce_mask(op, &val);
        }
        while val.ty.lanes > 1 {
            let shape = self.shape(val.ty);
            let half = val.ty.bits() / 16;
            let reg = self.reg(&val.parts[0], val.ty);
            let high = if half >= 4 {
                self.chunk(reg, shape.width, half, half)
            } else {
                // Two bytes or four: shifted down within their dword.
                let to = self.code.reg(Class::Vec);
                let code = self.pick(&table::PSRLD_IMM, Width::X);
                let by = Operand::Imm8(i64::from(half) * 8);
                self.code.op(code, vec![Operand::Reg(to, Width::X), Operand::Reg(reg, Width::X), by]);
                to
            };
            // Two float lanes or more stay vectors; so do integers, until the last one is taken out.
            let ty = val.ty.with_lanes(val.ty.lanes / 2);
            let as_vector = ty.with_lanes(ty.lanes.max(2));
            let low = Val { ty: as_vector, parts: vec![Part::Reg(reg)] };
            let high = Val { ty: as_vector, parts: vec![Part::Reg(high)] };
            let parts = self.bin(op, &low, &high)?;
            val = Val { ty, parts };
        }
        let reg = self.reg(&val.parts[0], a.ty.with_lanes(2));
        if a.ty.elem.is_float() {
            return Ok(vec![Part::Reg(reg)]);
        }
        let scalar = self.gpr_from_xmm(reg);
        Ok(vec![Part::Reg(if a.ty.elem.is_mask() { self.low_bit(scalar) } else { scalar })])
    }

    fn reduce_mask(&mut self, op: BinOp, val: &Val) -> Result<Vec<Part>, CodegenError> {
        let reg = self.reg(&val.parts[0], val.ty);
        let all = self.gpr_from_mask(reg);
        let lanes = if val.ty.lanes == 64 { u64::MAX } else { (1u64 << val.ty.lanes) - 1 };
        let ones = self.code.gp_reg(Gp::Num(lanes as i64));
        let set = self.code.alu(Code::And_r64_rm64, all, ones);
        let (cc, with) = match op {
            BinOp::And => (super::inst::Cc::E, Gp::Reg(ones)),
            BinOp::Or => (super::inst::Cc::Ne, Gp::Num(0)),
            _ => return self.no(format!("reduction of masks by {op}")),
        };
        self.code.compare(set, with, Width::B8);
        Ok(vec![Part::Reg(self.code.flag(cc))])
    }
}

/// With its repeating element, if there is one.
fn constant_of(bytes: Vec<u8>, width: usize) -> Const {
    let splat = bytes.chunks_exact(width).all(|lane| lane == &bytes[..width]).then_some(width);
    Const { bytes, splat }
}

/// The instruction that takes units of two 128-bit registers (or twice of one) in turn, from the low or the high half of each,
/// when that is where the lanes (register, lane) come from.
fn zip(sources: usize, bytes: u32, lanes: &[(usize, u32)]) -> Option<&'static table::Codes> {
    let found = |unit: u32, start: u32| {
        (0..).step_by(bytes as usize).zip(lanes).all(|(at, &(source, lane))| {
            let turn = at / unit;
            let from = start + turn / 2 * unit + at % unit;
            source == turn as usize % 2 % sources && lane * bytes == from
        })
    };
    let all: [(u32, [&'static table::Codes; 2]); 4] = [
        (1, [&table::PUNPCKLBW, &table::PUNPCKHBW]),
        (2, [&table::PUNPCKLWD, &table::PUNPCKHWD]),
        (4, [&table::PUNPCKLDQ, &table::PUNPCKHDQ]),
        (8, [&table::PUNPCKLQDQ, &table::PUNPCKHQDQ]),
    ];
    let mut choices = all.into_iter().filter(|(unit, _)| *unit >= bytes);
    choices.find_map(|(unit, [low, high])| found(unit, 0).then_some(low).or_else(|| found(unit, 8).then_some(high)))
}
