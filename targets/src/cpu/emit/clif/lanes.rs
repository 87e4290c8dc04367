//! Values as rows of registers: constants, memory, moving lanes about.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, ConstantData, Endianness, InstBuilder, MemFlagsData, types};

use super::{Body, Val};
use crate::cpu::kernel::ir::{BinOp, Cmp};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::Arch;

/// How a type lies in registers.
///
/// A scalar is one scalar register; a scalar mask is an `i8` of 0 or 1. A vector is `count` vector registers of
/// `lanes` lanes each (a vector narrower than a register leaves the upper lanes undefined), its masks all ones or zeros;
/// on a machine without vectors it is one scalar register per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// CLIF type of a part.
    pub part: clif::Type,
    /// Number of parts.
    pub count: usize,
    /// Lanes of a part.
    pub lanes: u16,
}

/// CLIF type of a scalar.
pub(super) fn scalar_type(elem: Elem) -> clif::Type {
    match elem {
        Elem::I8 | Elem::M8 | Elem::M16 | Elem::M32 | Elem::M64 => types::I8,
        Elem::I16 => types::I16,
        Elem::I32 => types::I32,
        Elem::I64 => types::I64,
        Elem::F32 => types::F32,
        Elem::F64 => types::F64,
    }
}

fn int_type(elem: Elem) -> clif::Type {
    scalar_type(elem.int())
}

/// Signed or unsigned condition of a comparison.
pub(super) fn int_cc(cmp: Cmp) -> IntCC {
    match cmp {
        Cmp::Eq => IntCC::Equal,
        Cmp::Ne => IntCC::NotEqual,
        Cmp::Lt => IntCC::SignedLessThan,
        Cmp::Le => IntCC::SignedLessThanOrEqual,
        Cmp::Gt => IntCC::SignedGreaterThan,
        Cmp::Ge => IntCC::SignedGreaterThanOrEqual,
        Cmp::LtU => IntCC::UnsignedLessThan,
        Cmp::LeU => IntCC::UnsignedLessThanOrEqual,
        Cmp::GtU => IntCC::UnsignedGreaterThan,
        Cmp::GeU => IntCC::UnsignedGreaterThanOrEqual,
    }
}

/// Flags of bit casts between vectors of different lanes.
pub(super) fn cast_flags() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// Memory is there but need not be aligned.
fn memory_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Body<'_, '_> {
    pub(super) fn shape(&self, ty: Type) -> Shape {
        if ty.is_scalar() || self.machine.vector_bytes == 0 {
            return Shape { part: scalar_type(ty.elem), count: usize::from(ty.lanes), lanes: 1 };
        }
        let lanes = self.machine.vector_bytes * 8 / ty.elem.bits();
        let elem = if ty.elem.is_mask() { int_type(ty.elem) } else { scalar_type(ty.elem) };
        let part = elem.by(lanes).expect("128-bit vectors of every element exist");
        let count = usize::from(ty.lanes).div_ceil(lanes as usize);
        Shape { part, count, lanes: u16::try_from(lanes).expect("at most 16 lanes") }
    }

    /// Whether values of that type are in vector registers.
    pub(super) fn is_vector(&self, ty: Type) -> bool {
        self.shape(ty).lanes > 1
    }

    pub(super) fn cast(&mut self, to: clif::Type, value: clif::Value) -> clif::Value {
        if self.b.func.dfg.value_type(value) == to { value } else { self.b.ins().bitcast(to, cast_flags(), value) }
    }

    pub(super) fn constant(&mut self, ty: Type, bits: &[u64]) -> Val {
        let shape = self.shape(ty);
        let lane = |index: usize| bits.get(index).or(bits.first()).copied().unwrap_or(0);
        let lane = |index: usize| if bits.len() == 1 { lane(0) } else { lane(index) };
        if shape.lanes == 1 {
            let parts = (0..shape.count).map(|i| self.scalar_constant(ty.elem, lane(i))).collect();
            return Val { ty, parts };
        }
        let bytes = ty.elem.bytes() as usize;
        let mut parts: Vec<clif::Value> = Vec::new();
        for part in 0..shape.count {
            if bits.len() == 1 && part > 0 {
                parts.push(parts[0]);
                continue;
            }
            let mut data = Vec::with_capacity(16);
            for i in 0..usize::from(shape.lanes) {
                let bits = lane(part * usize::from(shape.lanes) + i);
                let bits = if ty.elem.is_mask() && bits != 0 { u64::MAX } else { bits };
                data.extend_from_slice(&bits.to_le_bytes()[..bytes]);
            }
            let handle = self.b.func.dfg.constants.insert(ConstantData::from(data));
            parts.push(self.b.ins().vconst(shape.part, handle));
        }
        Val { ty, parts }
    }

    pub(super) fn scalar_constant(&mut self, elem: Elem, bits: u64) -> clif::Value {
        match elem {
            Elem::F32 => self.b.ins().f32const(clif::immediates::Ieee32::with_bits(bits as u32)),
            Elem::F64 => self.b.ins().f64const(clif::immediates::Ieee64::with_bits(bits)),
            _ if elem.is_mask() => self.b.ins().iconst(types::I8, i64::from(bits != 0)),
            _ => {
                let shift = 64 - elem.bits();
                let unsigned = (bits << shift) >> shift;
                self.b.ins().iconst(scalar_type(elem), unsigned as i64)
            }
        }
    }

    /// A constant in every lane, of a number of that element.
    pub(super) fn splat_bits(&mut self, ty: Type, bits: u64) -> Val {
        self.constant(ty, &[bits])
    }

    pub(super) fn splat(&mut self, ty: Type, scalar: clif::Value) -> Val {
        let shape = self.shape(ty);
        if shape.lanes == 1 {
            return Val { ty, parts: vec![scalar; shape.count] };
        }
        let scalar = self.lane_from_scalar(ty.elem, scalar);
        let part = self.b.ins().splat(shape.part, scalar);
        Val { ty, parts: vec![part; shape.count] }
    }

    /// Scalar masks are 0 or 1, lanes of vector masks all zeros or ones.
    fn lane_from_scalar(&mut self, elem: Elem, scalar: clif::Value) -> clif::Value {
        if elem.is_mask() { self.b.ins().bmask(int_type(elem), scalar) } else { scalar }
    }

    fn scalar_from_lane(&mut self, elem: Elem, lane: clif::Value) -> clif::Value {
        if elem.is_mask() { self.b.ins().icmp_imm_s(IntCC::NotEqual, lane, 0) } else { lane }
    }

    pub(super) fn load(&mut self, ty: Type, base: clif::Value, disp: i32) -> Val {
        let shape = self.shape(ty);
        let flags = memory_flags();
        if shape.lanes > 1 && ty.bits() < 128 {
            let int = narrow_int(ty.bits());
            let bits = self.b.ins().load(int, flags, base, disp);
            let wide = if ty.bits() < 32 { self.b.ins().uextend(types::I32, bits) } else { bits };
            let wide_type = if ty.bits() == 64 { types::I64X2 } else { types::I32X4 };
            let vector = self.b.ins().scalar_to_vector(wide_type, wide);
            return Val { ty, parts: vec![self.cast(shape.part, vector)] };
        }
        let bytes = shape.part.bytes() as i32;
        // Cranelift 0.135 makes operands of comparisons of SSE, which have to be aligned, of loads that are not: not of bytes.
        let sse = self.machine.arch == Arch::X86_64 && ty.elem.is_float() && shape.lanes > 1;
        let read = if sse { types::I8X16 } else { shape.part };
        let parts = (0..shape.count)
            .map(|i| {
                let value = self.b.ins().load(read, flags, base, disp.wrapping_add(i as i32 * bytes));
                self.cast(shape.part, value)
            })
            .collect();
        Val { ty, parts }
    }

    pub(super) fn store(&mut self, value: &Val, base: clif::Value, disp: i32) {
        let shape = self.shape(value.ty);
        let flags = memory_flags();
        if shape.lanes > 1 && value.ty.bits() < 128 {
            let int = narrow_int(value.ty.bits());
            let lanes = int.by(128 / int.bits()).expect("128-bit integer vectors exist");
            let vector = self.cast(lanes, value.parts[0]);
            let bits = self.b.ins().extractlane(vector, 0);
            self.b.ins().store(flags, bits, base, disp);
            return;
        }
        let bytes = shape.part.bytes() as i32;
        for (i, &part) in value.parts.iter().enumerate() {
            self.b.ins().store(flags, part, base, disp.wrapping_add(i as i32 * bytes));
        }
    }

    /// One lane as a scalar.
    pub(super) fn extract(&mut self, a: &Val, lane: u16) -> clif::Value {
        let shape = self.shape(a.ty);
        let part = a.parts[usize::from(lane / shape.lanes)];
        if shape.lanes == 1 {
            return part;
        }
        let lane = self.b.ins().extractlane(part, (lane % shape.lanes) as u8);
        self.scalar_from_lane(a.ty.elem, lane)
    }

    /// All lanes as scalars.
    pub(super) fn scalars(&mut self, a: &Val) -> Vec<clif::Value> {
        (0..a.ty.lanes).map(|lane| self.extract(a, lane)).collect()
    }

    /// A value of scalars, one per lane.
    pub(super) fn gather(&mut self, ty: Type, scalars: &[clif::Value]) -> Val {
        let shape = self.shape(ty);
        if shape.lanes == 1 {
            return Val { ty, parts: scalars.to_vec() };
        }
        let mut parts = Vec::with_capacity(shape.count);
        for chunk in scalars.chunks(usize::from(shape.lanes)) {
            let first = self.lane_from_scalar(ty.elem, chunk[0]);
            let mut part = self.b.ins().scalar_to_vector_or_splat(shape.part, first);
            for (lane, &scalar) in chunk.iter().enumerate().skip(1) {
                let scalar = self.lane_from_scalar(ty.elem, scalar);
                part = self.b.ins().insertlane(part, scalar, lane as u8);
            }
            parts.push(part);
        }
        Val { ty, parts }
    }

    pub(super) fn insert(&mut self, a: &Val, lane: u16, scalar: clif::Value) -> Val {
        let shape = self.shape(a.ty);
        let index = usize::from(lane / shape.lanes);
        let mut parts = a.parts.clone();
        parts[index] = if shape.lanes == 1 {
            scalar
        } else {
            let scalar = self.lane_from_scalar(a.ty.elem, scalar);
            self.b.ins().insertlane(parts[index], scalar, (lane % shape.lanes) as u8)
        };
        Val { ty: a.ty, parts }
    }

    pub(super) fn shuffle(&mut self, a: &Val, b: &Val, pick: &[u16]) -> Val {
        let ty = a.ty.with_lanes(pick.len() as u16);
        let lane_of = |index: u16| if index < a.ty.lanes { (a, index) } else { (b, index - a.ty.lanes) };
        if !self.is_vector(ty) || !self.is_vector(a.ty) {
            let scalars: Vec<_> = pick
                .iter()
                .map(|&p| {
                    let (source, lane) = lane_of(p);
                    self.extract(source, lane)
                })
                .collect();
            return self.gather(ty, &scalars);
        }
        let shape = self.shape(ty);
        let mut parts = Vec::with_capacity(shape.count);
        for chunk in pick.chunks(usize::from(shape.lanes)) {
            let sources: Vec<(clif::Value, u16)> = chunk
                .iter()
                .map(|&p| {
                    let (source, lane) = lane_of(p);
                    (source.parts[usize::from(lane / shape.lanes)], lane % shape.lanes)
                })
                .collect();
            parts.push(self.shuffle_part(shape, ty.elem, &sources));
        }
        Val { ty, parts }
    }

    /// One register whose lanes come from (register, lane).
    fn shuffle_part(&mut self, shape: Shape, elem: Elem, sources: &[(clif::Value, u16)]) -> clif::Value {
        let mut registers: Vec<clif::Value> = Vec::new();
        for (register, _) in sources {
            if !registers.contains(register) {
                registers.push(*register);
            }
        }
        let whole = sources.iter().enumerate().all(|(i, (_, lane))| usize::from(*lane) == i);
        if registers.len() == 1 && whole {
            return registers[0];
        }
        if let [first, ..] = *registers.as_slice()
            && registers.len() <= 2
        {
            let second = registers.get(1).copied().unwrap_or(first);
            let lanes = |i: usize| sources.get(i).copied().unwrap_or(sources[0]);
            let (width, mut mask) = (elem.bytes() as u8, Vec::with_capacity(16));
            for i in 0..usize::from(shape.lanes) {
                let (register, lane) = lanes(i);
                let start = if register == first { 0 } else { 16 } + lane as u8 * width;
                mask.extend(start..start + width);
            }
            return self.byte_shuffle(shape.part, first, second, mask);
        }
        let lanes: Vec<_> =
            sources.iter().map(|&(register, lane)| self.b.ins().extractlane(register, lane as u8)).collect();
        let mut part = self.b.ins().scalar_to_vector_or_splat(shape.part, lanes[0]);
        for (i, &lane) in lanes.iter().enumerate().skip(1) {
            part = self.b.ins().insertlane(part, lane, i as u8);
        }
        part
    }

    /// Bytes `mask[i]` of two registers in a row.
    pub(super) fn byte_shuffle(
        &mut self,
        ty: clif::Type,
        first: clif::Value,
        second: clif::Value,
        mask: Vec<u8>,
    ) -> clif::Value {
        let (first, second) = (self.cast(types::I8X16, first), self.cast(types::I8X16, second));
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(mask));
        let bytes = self.b.ins().shuffle(first, second, mask);
        self.cast(ty, bytes)
    }

    /// Halves are combined until one lane is left; registers first, then the lanes of the last one.
    pub(super) fn reduce(&mut self, op: BinOp, a: &Val) -> Val {
        let shape = self.shape(a.ty);
        let mut parts = a.parts.clone();
        while parts.len() > 1 {
            let half = parts.len() / 2;
            let ty = a.ty.with_lanes(shape.lanes * half as u16);
            let (low, high) = (Val { ty, parts: parts[..half].to_vec() }, Val { ty, parts: parts[half..].to_vec() });
            parts = self.bin(op, &low, &high).parts;
        }
        let scalar = a.ty.with_lanes(1);
        let rest = Val { ty: a.ty.with_lanes(shape.lanes.min(a.ty.lanes)), parts };
        let mut lanes = self.scalars(&rest);
        while lanes.len() > 1 {
            let high = lanes.split_off(lanes.len() / 2);
            for (low, high) in lanes.iter_mut().zip(high) {
                let (x, y) = (Val { ty: scalar, parts: vec![*low] }, Val { ty: scalar, parts: vec![high] });
                *low = self.bin(op, &x, &y).parts[0];
            }
        }
        Val { ty: scalar, parts: lanes }
    }

    /// Does something lane by lane on scalars.
    pub(super) fn lanewise(
        &mut self,
        ty: Type,
        operands: &[&Val],
        mut f: impl FnMut(&mut Self, &[clif::Value]) -> clif::Value,
    ) -> Val {
        let columns: Vec<Vec<clif::Value>> = operands.iter().map(|v| self.scalars(v)).collect();
        let results: Vec<clif::Value> = (0..usize::from(ty.lanes))
            .map(|lane| {
                let args: Vec<clif::Value> = columns.iter().map(|c| c[lane]).collect();
                f(self, &args)
            })
            .collect();
        self.gather(ty, &results)
    }

    /// Does something register by register.
    pub(super) fn partwise(
        &mut self,
        ty: Type,
        operands: &[&Val],
        mut f: impl FnMut(&mut Self, &[clif::Value]) -> clif::Value,
    ) -> Val {
        let parts = (0..self.shape(ty).count)
            .map(|part| {
                let args: Vec<clif::Value> = operands.iter().map(|v| v.parts[part]).collect();
                f(self, &args)
            })
            .collect();
        Val { ty, parts }
    }
}

fn narrow_int(bits: u32) -> clif::Type {
    match bits {
        8 => types::I8,
        16 => types::I16,
        32 => types::I32,
        _ => types::I64,
    }
}

/// `scalar_to_vector` exists for elements of 32 and 64 bits on every machine; narrower ones are splatted.
trait FirstLane<'f>: InstBuilder<'f> {
    fn scalar_to_vector_or_splat(self, ty: clif::Type, scalar: clif::Value) -> clif::Value {
        if ty.lane_bits() >= 32 { self.scalar_to_vector(ty, scalar) } else { self.splat(ty, scalar) }
    }
}

impl<'f, T: InstBuilder<'f>> FirstLane<'f> for T {}
