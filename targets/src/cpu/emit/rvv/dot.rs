//! Dot products of bytes: multiply-adds of words, one per byte of them.

use super::super::alloc::Reg;
use super::body::{Body, Mem, Part, Val};
use super::code::Gp;
use super::inst::{Arg, Class, Demand};
use super::isa::Code;
use crate::cpu::kernel::ir::{Cvt, Op, Stmt, Value};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// One of four bytes of the words of a left operand.
#[derive(Clone, Copy)]
enum Scalar4 {
    /// The same for all words.
    Scalar(Gp),
    Vector(Reg),
}

impl Body<'_> {
    /// Dot products of one left operand: the additions of one after the other take turns, as each waits for its sum.
    pub fn dot4s(&mut self, stmts: &[Stmt]) -> Result<(), CodegenError> {
        let mut sums: Vec<(Value, Vec<Reg>)> = Vec::new();
        let mut columns: Vec<Vec<[Reg; 4]>> = Vec::new();
        let mut left: Vec<[Scalar4; 4]> = Vec::new();
        for stmt in stmts {
            let Stmt::Let { result, op: Op::Dot4 { a_signed, acc, a, b } } = stmt else { continue };
            let ty = self.kernel.values[*result];
            let (acc, a_val) = (self.take(*acc), self.take(*a));
            if left.is_empty() {
                left = self.left_bytes(&a_val, *a_signed)?;
            }
            columns.push(self.right_bytes(*b)?);
            let lanes = ty.with_lanes(ty.lanes.max(2));
            let parts = if ty.is_scalar() { self.splat(lanes, &acc)? } else { acc.parts };
            let regs = parts.iter().map(|part| self.fresh(part, lanes)).collect::<Result<_, _>>()?;
            sums.push((*result, regs));
        }
        for byte in 0..4 {
            for ((result, regs), columns) in sums.iter().zip(&columns) {
                let lanes = self.shape(self.kernel.values[*result]).lanes;
                let demand = Demand::Exact { bytes: 4, eighths: 0, lanes };
                for (part, &sum) in regs.iter().enumerate() {
                    let (sum, column) = (Arg::Reg(sum), Arg::Reg(columns[part][byte]));
                    let (code, first) = match left[part.min(left.len() - 1)][byte] {
                        Scalar4::Scalar(value) => (Code::VmaccVx, self.code.gp_arg(value)),
                        Scalar4::Vector(reg) => (Code::VmaccVv, Arg::Reg(reg)),
                    };
                    self.code.vector(code, &[sum, first, column], 0, demand);
                }
            }
        }
        for (result, regs) in sums {
            let scalar = self.kernel.values[result].is_scalar();
            let regs = if scalar { vec![self.first_lane(regs[0], Elem::I32)] } else { regs };
            self.define(result, regs.into_iter().map(Part::Reg).collect());
        }
        Ok(())
    }

    /// The four bytes of every word of a left operand.
    fn left_bytes(&mut self, a: &Val, signed: bool) -> Result<Vec<[Scalar4; 4]>, CodegenError> {
        if let [Part::Bytes(bytes)] = &a.parts[..] {
            return Ok(vec![bytes.map(Scalar4::Scalar)]);
        }
        let ty = a.ty;
        let regs = a.parts.iter().map(|part| self.reg(part, ty)).collect::<Result<Vec<_>, _>>()?;
        Ok(regs.into_iter().map(|reg| self.words(reg, ty, signed).map(Scalar4::Vector)).collect())
    }

    /// Those of a right operand, made once per value.
    fn right_bytes(&mut self, b: Value) -> Result<Vec<[Reg; 4]>, CodegenError> {
        let b_val = self.take(b);
        // What another block made may not have been made on the way here.
        let key = (self.block, b);
        if let Some(known) = self.quads.get(&key) {
            return Ok(known.clone());
        }
        let mut all = Vec::new();
        for part in &b_val.parts {
            let reg = self.reg(part, b_val.ty)?;
            all.push(self.words(reg, b_val.ty, true));
        }
        self.quads.insert(key, all.clone());
        Ok(all)
    }

    /// The four bytes of every word of a register, each extended to a word.
    fn words(&mut self, reg: Reg, ty: Type, signed: bool) -> [Reg; 4] {
        let lanes = self.shape(ty).lanes / 4;
        let demand = Demand::Exact { bytes: 4, eighths: 0, lanes };
        let down = if signed { Code::VsraVi } else { Code::VsrlVi };
        [24, 16, 8, 0].map(|up| {
            let high = if up == 0 { reg } else { self.vector_op(Code::VsllVi, &[Arg::Reg(reg)], up, demand) };
            self.vector_op(down, &[Arg::Reg(high)], 24, demand)
        })
    }

    /// Four bytes at an address, extended.
    pub fn load_bytes(&mut self, mem: Mem, signed: bool) -> Vec<Part> {
        let code = if signed { Code::Lb } else { Code::Lbu };
        let bytes = [0, 1, 2, 3].map(|byte| {
            let to = self.code.reg(Class::Gpr);
            let (base, disp) = self.code.near(mem.base, i64::from(mem.disp) + byte);
            self.code.op(code, &[Arg::Reg(to), base], disp);
            Gp::Reg(to)
        });
        vec![Part::Bytes(bytes)]
    }

    /// The four bytes of a repeated word, extended.
    pub fn split_bytes(&mut self, a: &Val, signed: bool) -> Result<Vec<Part>, CodegenError> {
        let Some(scalar) = Self::scalar_of(&a.parts[0], Elem::I32) else {
            return self.cvt(Cvt::Bits, a, Type::vec(Elem::I8, a.ty.lanes * 4));
        };
        let word = self.scalar_arg(scalar, Elem::I32);
        let down = if signed { Code::Srai } else { Code::Srli };
        let bytes = [56, 48, 40, 32].map(|up| {
            let (high, to) = (self.code.reg(Class::Gpr), self.code.reg(Class::Gpr));
            self.code.op(Code::Slli, &[Arg::Reg(high), word], up);
            self.code.op(down, &[Arg::Reg(to), Arg::Reg(high)], 56);
            Gp::Reg(to)
        });
        Ok(vec![Part::Bytes(bytes)])
    }
}
