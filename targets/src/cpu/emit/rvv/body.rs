//! Statements: loops, branches, memory; what every operation needs to get at its operands.

use std::collections::BTreeMap;

use adze_ir::extent::Extent;
use cranelift_entity::{EntityRef, SecondaryMap};

use super::super::address::{Advance, Reach, Scopes};
use super::super::alloc::Reg;
use super::super::uses::Uses;
use super::code::{Gp, Insts};
use super::find::Found;
use super::inst::{Arg, Class, Demand, Inst, V0, ZERO};
use super::isa::Code;
use super::{Cpu, Selected, runs};
use crate::cpu::kernel::ir::{Addr, Block, Cmp, Cond, For, HI, Kernel, LO, Op, Stmt, Value};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// Loads and stores of scalars reach 2 KiB; half of it is left for the registers of wide values.
const REACH: Reach = Reach { bytes: 1024, moving: 16 };
/// A scalar that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Known bits.
    Bits(u64),
    /// In a general register; bits past the element are anything.
    X(Reg),
    /// In a floating-point register.
    F(Reg),
}

/// Consecutive lanes of a value, or a scalar.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// In a register.
    Reg(Reg),
    /// A known scalar integer or mask.
    Int(i64),
    /// Bits of a known scalar float.
    Float(u64),
    /// A scalar of so many bytes in every lane.
    Splat(Scalar, u8),
    /// Constant lanes.
    Lanes(Vec<u8>),
    /// A constant mask, one bit per lane.
    Mask(u64),
    /// A comparison that its only use, a selection, makes.
    Test(Box<Test>),
    /// Four bytes in every word, extended: what [`Op::Dot4`] multiplies by.
    Bytes([Gp; 4]),
}

/// A comparison of lanes.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub cmp: Cmp,
    pub ty: Type,
    pub a: Part,
    pub b: Part,
}

/// A value while it is computed.
#[derive(Clone, Debug)]
pub(super) struct Val {
    pub ty: Type,
    pub parts: Vec<Part>,
}

/// How a vector lies in registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Parts.
    pub count: usize,
    /// Lanes of a part.
    pub lanes: u16,
}

/// Memory of an access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mem {
    pub base: Arg,
    pub disp: i32,
}

/// The kernel under selection.
pub(super) struct Body<'a> {
    pub kernel: &'a Kernel,
    pub cpu: Cpu,
    pub code: Insts,
    pub found: Found,
    scopes: Scopes<'a, Gp>,
    values: SecondaryMap<Value, Vec<Part>>,
    /// Uses that are still to come, per value.
    left: SecondaryMap<Value, u32>,
    /// Block that defines a value, and the current one.
    home: SecondaryMap<Value, u32>,
    pub block: u32,
    blocks: u32,
    /// Extended bytes of right operands of [`Op::Dot4`] by block: of each part, the four of every word.
    pub quads: BTreeMap<(u32, Value), Vec<[Reg; 4]>>,
}

/// Instructions for a kernel.
pub(super) fn select(kernel: &Kernel, cpu: Cpu) -> Result<Selected, CodegenError> {
    let left = Uses::of(kernel).left;
    let found = Found::of(kernel, &left);
    let mut body = Body {
        kernel,
        cpu,
        code: Insts::default(),
        scopes: Scopes::new(kernel, REACH),
        values: SecondaryMap::new(),
        left,
        found,
        home: SecondaryMap::new(),
        block: 0,
        blocks: 0,
        quads: BTreeMap::new(),
    };
    body.entry();
    body.code.start();
    body.stmts(&kernel.body)?;
    body.code.push(Inst::Return(0));
    Ok(body.code.finish())
}

impl<'a> Body<'a> {
    /// The error for what has no code here.
    pub fn no<T>(&self, what: impl Into<String>) -> Result<T, CodegenError> {
        Err(super::unsupported(self.kernel, self.cpu, what.into()))
    }

    fn entry(&mut self) {
        let args: [Reg; 4] = std::array::from_fn(|_| self.code.reg(Class::Gpr));
        for (reg, machine) in args.into_iter().zip(10..) {
            self.code.regs[reg].fixed = Some(machine);
        }
        self.code.push(Inst::Args(args));
        let [lo, hi] = [args[2], args[3]].map(|arg| self.code.copy(arg, Class::Gpr));
        for param in self.kernel.params.keys() {
            let base = self.load_entry(args[0], param.index() as i64);
            self.scopes.define_base(param, Gp::Reg(base));
        }
        self.scopes.open();
        for dim in &self.kernel.dims {
            let value = self.load_entry(args[1], dim.slot.into());
            self.scopes.define(dim.name.clone(), Gp::Reg(value));
        }
        self.scopes.define(LO.into(), Gp::Reg(lo));
        self.scopes.define(HI.into(), Gp::Reg(hi));
    }

    /// An entry of an array of 64-bit words.
    fn load_entry(&mut self, base: Reg, index: i64) -> Reg {
        let to = self.code.reg(Class::Gpr);
        let (base, disp) = self.code.near(Arg::Reg(base), index * 8);
        self.code.op(Code::Ld, &[Arg::Reg(to), base], disp);
        to
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Result<(), CodegenError> {
        let mut at = 0;
        while let Some(stmt) = stmts.get(at) {
            let together = super::find::quads_together(&stmts[at..]);
            if together > 0 {
                self.dot4s(&stmts[at..at + together])?;
                at += together;
                continue;
            }
            self.stmt(stmt)?;
            at += 1;
        }
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), CodegenError> {
        match stmt {
            Stmt::Let { result, op } => {
                let parts = self.op(*result, op)?;
                self.define(*result, parts);
            }
            Stmt::Store { addr, value } => {
                let mem = self.mem(addr)?;
                let value = self.take(*value);
                self.store(&value, mem)?;
            }
            Stmt::StoreFirst { addr, count, value } => {
                let mem = self.mem(addr)?;
                let value = self.take(*value);
                self.store_first(&value, mem, *count)?;
            }
            Stmt::Bind { sym, value } => {
                let value = self.take(*value);
                let scalar = self.gp(&value.parts[0]);
                self.scopes.define(sym.clone(), scalar);
            }
            Stmt::For(f) => self.for_loop(f)?,
            Stmt::If { cond, then, other, results } => self.branch(cond, then, other, results)?,
            Stmt::Guard { cond, status } => {
                let go_on = self.code.label();
                self.branch_if(cond, go_on)?;
                self.code.push(Inst::Return(*status));
                self.code.push(Inst::Label { label: go_on, hot: false });
            }
            // RV64GCV has no prefetch instruction.
            Stmt::Prefetch { .. } => {}
        }
        Ok(())
    }

    pub fn define(&mut self, value: Value, parts: Vec<Part>) {
        self.values[value] = parts;
        self.home[value] = self.block;
    }

    /// A value, one use of which is over with this.
    pub fn take(&mut self, value: Value) -> Val {
        self.left[value] = self.left[value].saturating_sub(1);
        Val { ty: self.kernel.values[value], parts: self.values[value].clone() }
    }

    /// Whether the last use of a value was taken: its registers are free to be written.
    pub fn is_over(&self, value: Value) -> bool {
        self.left[value] == 0 && self.home[value] == self.block
    }

    /// Memory of an access.
    pub fn mem(&mut self, addr: &Addr) -> Result<Mem, CodegenError> {
        let (base, disp) = self.scopes.address(&mut self.code, addr)?;
        let base = Arg::Reg(self.code.gp_reg(base));
        Ok(Mem { base, disp })
    }

    pub fn extent(&mut self, extent: &Extent) -> Result<Gp, CodegenError> {
        self.scopes.extent(&mut self.code, extent)
    }

    /// Goes there if the condition holds.
    fn branch_if(&mut self, cond: &Cond, label: u32) -> Result<(), CodegenError> {
        let (code, a, b) = match cond {
            Cond::Extent(a, cmp, b) => {
                let (a, b) = (self.extent(a)?, self.extent(b)?);
                let (a, b) = (self.code.gp_arg(a), self.code.gp_arg(b));
                match cmp {
                    Cmp::Eq => (Code::Beq, a, b),
                    Cmp::Ne => (Code::Bne, a, b),
                    Cmp::Lt => (Code::Blt, a, b),
                    Cmp::Ge => (Code::Bge, a, b),
                    Cmp::Gt => (Code::Blt, b, a),
                    Cmp::Le => (Code::Bge, b, a),
                    Cmp::LtU => (Code::Bltu, a, b),
                    Cmp::GeU => (Code::Bgeu, a, b),
                    Cmp::GtU => (Code::Bltu, b, a),
                    Cmp::LeU => (Code::Bgeu, b, a),
                }
            }
            Cond::Value(mask) => {
                let mask = self.take(*mask);
                let flag = self.gp(&mask.parts[0]);
                (Code::Bne, self.code.gp_arg(flag), ZERO)
            }
        };
        self.code.push(Inst::Branch { code, a, b, label });
        Ok(())
    }

    /// Rotated: one test before, unless it is known to run, and one at the end of each iteration.
    fn for_loop(&mut self, f: &For) -> Result<(), CodegenError> {
        let (lo, hi) = (self.extent(&f.lo)?, self.extent(&f.hi)?);
        let plan = self.scopes.plan_loop(&mut self.code, f)?;
        let mut args: Vec<(Reg, Class)> = Vec::new();
        for (&init, &arg) in f.inits.iter().zip(&f.args) {
            let init = self.take(init);
            let class = self.class_of(init.ty);
            let mut regs = Vec::new();
            for part in &init.parts {
                let from = self.reg(part, init.ty)?;
                let reg = self.code.copy(from, class);
                args.push((reg, class));
                regs.push(Part::Reg(reg));
            }
            self.values[arg] = regs;
        }
        let var = self.code.reg(Class::Gpr);
        self.code.set(var, lo);
        let hi = self.code.gp_arg(hi);
        let moving: Vec<Reg> = plan
            .starts
            .iter()
            .map(|&start| {
                let reg = self.code.reg(Class::Gpr);
                self.code.set(reg, start);
                reg
            })
            .collect();
        let (again, exit) = (self.code.label(), self.code.label());
        if runs(&f.lo, &f.hi) != Some(true) {
            self.code.push(Inst::Branch { code: Code::Bge, a: Arg::Reg(var), b: hi, label: exit });
        }
        self.code.depth += 1;
        let hot = !super::find::has_loop(&f.body.stmts);
        self.code.push(Inst::Label { label: again, hot });
        let outside = self.enter();
        self.scopes.define(f.var.clone(), Gp::Reg(var));
        let pointers: Vec<Gp> = moving.iter().map(|&reg| Gp::Reg(reg)).collect();
        self.scopes.define_pointers(&plan, &pointers);
        for &arg in &f.args {
            self.home[arg] = self.block;
        }
        self.stmts(&f.body.stmts)?;
        let next = self.yields(&f.body)?;
        self.move_all(&args, next);
        self.code.set_add(var, Gp::Reg(var), f.step);
        for (&pointer, step) in moving.iter().zip(&plan.steps) {
            match *step {
                Advance::Bytes(bytes) => self.code.set_add(pointer, Gp::Reg(pointer), bytes),
                Advance::Value(Gp::Num(bytes)) => self.code.set_add(pointer, Gp::Reg(pointer), bytes),
                Advance::Value(Gp::Reg(by)) => {
                    self.code.op(Code::Add, &[Arg::Reg(pointer), Arg::Reg(pointer), Arg::Reg(by)], 0);
                }
            }
        }
        self.code.push(Inst::Branch { code: Code::Blt, a: Arg::Reg(var), b: hi, label: again });
        self.leave(outside);
        self.code.depth -= 1;
        self.code.push(Inst::Label { label: exit, hot: false });
        for (&result, &arg) in f.results.iter().zip(&f.args) {
            let parts = self.values[arg].clone();
            self.define(result, parts);
        }
        Ok(())
    }

    fn enter(&mut self) -> u32 {
        self.scopes.open();
        self.blocks += 1;
        std::mem::replace(&mut self.block, self.blocks)
    }

    fn leave(&mut self, outside: u32) {
        self.scopes.close();
        self.block = outside;
    }

    /// What a block yields, in registers.
    fn yields(&mut self, block: &Block) -> Result<Vec<Reg>, CodegenError> {
        let mut regs = Vec::new();
        for &yielded in &block.yields {
            let value = self.take(yielded);
            for part in &value.parts {
                regs.push(self.reg(part, value.ty)?);
            }
        }
        Ok(regs)
    }

    /// Moves values to registers at once: none is overwritten before it is read.
    fn move_all(&mut self, to: &[(Reg, Class)], from: Vec<Reg>) {
        let stage = |s: &mut Self, (index, reg): (usize, Reg)| {
            let overwritten = reg != to[index].0 && to.iter().any(|t| t.0 == reg);
            if overwritten { s.code.copy(reg, to[index].1) } else { reg }
        };
        let staged: Vec<Reg> = from.into_iter().enumerate().map(|item| stage(self, item)).collect();
        for (&(to, class), from) in to.iter().zip(staged) {
            if to != from {
                self.code.push(Inst::Copy { to, from, class });
            }
        }
    }

    fn branch(&mut self, cond: &Cond, then: &Block, other: &Block, results: &[Value]) -> Result<(), CodegenError> {
        let (yes, join) = (self.code.label(), self.code.label());
        self.branch_if(cond, yes)?;
        let mut joined: Vec<(Reg, Class)> = Vec::new();
        for &result in results {
            let ty = self.kernel.values[result];
            let class = self.class_of(ty);
            let regs: Vec<Reg> = (0..self.shape(ty).count).map(|_| self.code.reg(class)).collect();
            joined.extend(regs.iter().map(|&reg| (reg, class)));
            self.define(result, regs.into_iter().map(Part::Reg).collect());
        }
        for (block, label) in [(other, None), (then, Some(yes))] {
            if let Some(label) = label {
                self.code.push(Inst::Jump(join));
                self.code.push(Inst::Label { label, hot: false });
            }
            let outside = self.enter();
            self.stmts(&block.stmts)?;
            let values = self.yields(block)?;
            self.move_all(&joined, values);
            self.leave(outside);
        }
        self.code.push(Inst::Label { label: join, hot: false });
        Ok(())
    }

    fn op(&mut self, result: Value, op: &Op) -> Result<Vec<Part>, CodegenError> {
        let ty = self.kernel.values[result];
        Ok(match op {
            Op::Const(bits) => self.constant(ty, bits),
            Op::Extent(extent) => vec![Self::part(self.extent(extent)?)],
            Op::Splat(a) => {
                let a = self.take(*a);
                self.splat(ty, &a)?
            }
            Op::Load(addr) => {
                let mem = self.mem(addr)?;
                match self.found.bytes[result] {
                    Some(signed) => self.load_bytes(mem, signed),
                    // As words, so that the length is that of the sums.
                    None if self.found.words[result] && ty.lanes > 4 => {
                        self.load(Type::vec(Elem::I32, ty.lanes / 4), mem)
                    }
                    None => self.load(ty, mem),
                }
            }
            Op::LoadFirst(addr, count) => {
                let mem = self.mem(addr)?;
                self.load_first(ty, mem, *count)?
            }
            Op::Un(op, a) => {
                let a = self.take(*a);
                self.un(*op, &a)?
            }
            Op::Bin(op, a, b) => {
                let (a, b) = (self.take(*a), self.take(*b));
                self.bin(*op, &a, &b)?
            }
            Op::Shift(op, a, by) => {
                let (a, by) = (self.take(*a), self.take(*by));
                self.shift(*op, &a, &by.parts[0])?
            }
            Op::Fma(a, b, c) | Op::MulAdd(a, b, c) => {
                let vals = [*a, *b, *c].map(|v| self.take(v));
                let over = [*a, *b, *c].map(|v| self.is_over(v));
                self.muladd(ty, &vals, over)?
            }
            Op::Cmp(cmp, a, b) => {
                let (a, b) = (self.take(*a), self.take(*b));
                self.cmp(*cmp, &a, &b, self.found.selects[result])?
            }
            Op::Select(mask, a, b) => {
                let (mask, a, b) = (self.take(*mask), self.take(*a), self.take(*b));
                self.select(&mask, &a, &b)?
            }
            Op::Cvt(cvt, a) => {
                let bytes = self.found.bytes[result];
                let a = self.take(*a);
                match (&a.parts[..], bytes) {
                    ([Part::Bytes(_)], _) => a.parts,
                    (_, Some(signed)) if ty.lanes > 1 => self.split_bytes(&a, signed)?,
                    _ => self.cvt(*cvt, &a, ty)?,
                }
            }
            Op::Reduce(op, a) => {
                let a = self.take(*a);
                self.reduce(*op, &a)?
            }
            Op::Extract(a, lane) => {
                let a = self.take(*a);
                self.extract(&a, *lane)?
            }
            Op::Insert(a, lane, scalar) => {
                let (a, scalar) = (self.take(*a), self.take(*scalar));
                self.insert(&a, *lane, &scalar.parts[0])?
            }
            Op::Shuffle(a, b, pick) => {
                let (a, b) = (self.take(*a), self.take(*b));
                self.shuffle(&a, &b, pick)?
            }
            Op::Dot4 { .. } => return self.no("a dot product by itself"),
        })
    }

    /// How a type lies in registers.
    pub fn shape(&self, ty: Type) -> Shape {
        if ty.is_scalar() {
            return Shape { count: 1, lanes: 1 };
        }
        let most = self.cpu.vector_bytes / ty.elem.bytes();
        let lanes = u16::try_from(most).unwrap_or(ty.lanes).min(ty.lanes);
        Shape { count: usize::from(ty.lanes / lanes), lanes }
    }

    /// Where parts of a type are.
    pub fn class_of(&self, ty: Type) -> Class {
        match (ty.is_scalar(), ty.elem.is_float()) {
            (true, true) => Class::Fpr,
            (true, false) => Class::Gpr,
            (false, _) => Class::Vec,
        }
    }

    /// All lanes of a part, of elements of that type's width.
    pub fn whole(&self, ty: Type) -> Demand {
        Demand::Exact { bytes: ty.elem.bytes() as u8, eighths: 0, lanes: self.shape(ty).lanes }
    }

    /// A part in a register that must not be written.
    pub fn reg(&mut self, part: &Part, ty: Type) -> Result<Reg, CodegenError> {
        Ok(match part {
            Part::Reg(reg) => *reg,
            Part::Int(number) => self.code.number_reg(*number),
            Part::Float(bits) => self.code.float_reg(*bits, ty.elem.bytes() as u8),
            Part::Splat(scalar, bytes) => {
                let to = self.code.reg(Class::Vec);
                self.repeat(*scalar, *bytes, ty, to);
                to
            }
            Part::Lanes(bytes) => {
                let (address, offset) = (self.code.reg(Class::Gpr), self.code.pool(bytes));
                self.code.push(Inst::Pool { to: Arg::Reg(address), offset });
                self.load_part(ty, Arg::Reg(address))
            }
            Part::Mask(_) | Part::Test(_) => {
                let to = self.code.reg(Class::Vec);
                self.put_mask(part, Arg::Reg(to))?;
                to
            }
            Part::Bytes(_) => return self.no("bytes as a vector"),
        })
    }

    /// A register with that part which may be written.
    pub fn fresh(&mut self, part: &Part, ty: Type) -> Result<Reg, CodegenError> {
        match part {
            Part::Reg(reg) => Ok(self.code.copy(*reg, self.class_of(ty))),
            Part::Int(_) | Part::Float(_) => {
                let reg = self.reg(part, ty)?;
                Ok(self.code.copy(reg, self.class_of(ty)))
            }
            part => self.reg(part, ty),
        }
    }

    /// A mask in that register.
    pub fn put_mask(&mut self, part: &Part, to: Arg) -> Result<(), CodegenError> {
        match part {
            Part::Reg(reg) => match to {
                Arg::Reg(to) => self.code.push(Inst::Copy { to, from: *reg, class: Class::Vec }),
                to => self.code.op(Code::Vmv1r, &[to, Arg::Reg(*reg)], 0),
            },
            Part::Mask(bits) => {
                let bits = self.code.gp_arg(Gp::Num(*bits as i64));
                self.code.vector(Code::VmvSX, &[to, bits], 0, Demand::Element(8));
            }
            Part::Test(test) => self.test(test, to)?,
            _ => return self.no("a mask of this form"),
        }
        Ok(())
    }

    /// Makes `v0` that mask.
    pub fn select_by(&mut self, mask: &Part) -> Result<(), CodegenError> {
        self.put_mask(mask, V0)
    }
}
