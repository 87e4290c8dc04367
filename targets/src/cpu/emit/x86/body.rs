//! Statements: loops, branches, memory; what every operation needs to get at its operands.

use std::collections::BTreeMap;

use adze_ir::extent::Extent;
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap};
use iced_x86::Code;

use super::super::address::{Advance, Reach, Scalars, Scopes};
use super::super::alloc::{Info, Reg};
use super::super::uses::Uses;
use super::inst::{Base, Cc, Class, Inst, Mem, Op as Machine, Operand, Width};
use super::scalar::Gp;
use super::table::{self, Codes};
use super::{Cpu, Selected, info, runs};
use crate::cpu::kernel::ir::{Block, Cmp, Cond, Cvt, For, HI, Kernel, LO, Op, Stmt, Value};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// A constant: its bytes in memory, and its element when all lanes are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Const {
    pub bytes: Vec<u8>,
    /// Bytes of the element that repeats.
    pub splat: Option<usize>,
}

/// Consecutive lanes of a value, or a scalar.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// In a register.
    Reg(Reg),
    /// A number in a general register, or not in one yet.
    Int(i64),
    /// Constant lanes, or a constant float.
    Const(Const),
    /// A whole vector in memory that nothing writes before its only use.
    Load(Mem),
    /// A scalar in memory that nothing writes before its only use.
    Scalar(Mem),
    /// Such a scalar in all lanes.
    Splat(Mem, u32),
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
    /// Width of a part.
    pub width: Width,
    /// Parts.
    pub count: usize,
    /// Lanes of a part.
    pub lanes: u16,
}

/// The kernel under selection.
pub(super) struct Body<'a> {
    pub kernel: &'a Kernel,
    pub cpu: Cpu,
    pub code: Code_,
    scopes: Scopes<'a, Gp>,
    values: SecondaryMap<Value, Vec<Part>>,
    uses: Uses,
    /// Block that defines a value, and the current one.
    home: SecondaryMap<Value, u32>,
    block: u32,
    blocks: u32,
    /// Mask registers of the first lanes that some access is of; they are set on entry.
    pub first_lanes: BTreeMap<u16, Reg>,
}

/// Instructions so far.
pub(super) struct Code_ {
    pub insts: Vec<(Inst, u32)>,
    pub regs: PrimaryMap<Reg, Info>,
    depth: u32,
    labels: u32,
    pool: Vec<u8>,
    /// What is among the constants, with its place.
    pooled: Vec<(Vec<u8>, i32)>,
}

impl Code_ {
    pub fn reg(&mut self, class: Class) -> Reg {
        self.regs.push(info(class))
    }

    pub fn push(&mut self, inst: Inst) {
        self.insts.push((inst, self.depth));
    }

    /// An instruction that writes its first operand.
    pub fn op(&mut self, code: Code, operands: Vec<Operand>) {
        self.push(Inst::Op(Machine { code, operands, writes: true, reads: false, mask: None }));
    }

    /// One that reads and writes its first operand.
    pub fn update(&mut self, code: Code, operands: Vec<Operand>) {
        self.push(Inst::Op(Machine { code, operands, writes: true, reads: true, mask: None }));
    }

    /// One that writes no register.
    pub fn effect(&mut self, code: Code, operands: Vec<Operand>) {
        self.push(Inst::Op(Machine { code, operands, writes: false, reads: false, mask: None }));
    }

    pub fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels - 1
    }

    /// The place of a constant among the others.
    pub fn pool(&mut self, bytes: &[u8]) -> Mem {
        let known = self.pooled.iter().find(|(b, _)| b == bytes).map(|(_, at)| *at);
        let disp = known.unwrap_or_else(|| {
            let align = bytes.len().next_power_of_two();
            self.pool.resize(self.pool.len().next_multiple_of(align), 0);
            let at = i32::try_from(self.pool.len()).expect("constants of a kernel are few");
            self.pool.extend_from_slice(bytes);
            self.pooled.push((bytes.to_vec(), at));
            at
        });
        Mem { base: Base::Pool, disp, broadcast: false }
    }
}

/// Instructions for a kernel.
pub(super) fn select(kernel: &Kernel, cpu: Cpu) -> Result<Selected, CodegenError> {
    let code =
        Code_ { insts: Vec::new(), regs: PrimaryMap::new(), depth: 0, labels: 0, pool: Vec::new(), pooled: Vec::new() };
    let mut body = Body {
        kernel,
        cpu,
        code,
        scopes: Scopes::new(kernel, Reach::default()),
        values: SecondaryMap::new(),
        uses: Uses::of(kernel),
        home: SecondaryMap::new(),
        block: 0,
        blocks: 0,
        first_lanes: BTreeMap::new(),
    };
    body.entry()?;
    let entered = body.code.insts.len();
    body.stmts(&kernel.body)?;
    body.code.push(Inst::Return(0));
    body.set_first_lanes(entered);
    let Code_ { insts, regs, labels, pool, .. } = body.code;
    Ok(Selected { code: insts, regs, labels: labels as usize, pool })
}

impl<'a> Body<'a> {
    /// The error for what has no code here.
    pub fn no<T>(&self, what: impl Into<String>) -> Result<T, CodegenError> {
        let machine = if self.cpu.evex { "AVX-512" } else { "AVX2" };
        Err(CodegenError::Unsupported { kernel: self.kernel.name.clone(), op: what.into(), machine: machine.into() })
    }

    fn entry(&mut self) -> Result<(), CodegenError> {
        let args: [Reg; 4] = std::array::from_fn(|_| self.code.reg(Class::Gpr));
        // rdi, rsi, rdx, rcx: System V.
        for (reg, machine) in args.into_iter().zip([7, 6, 2, 1]) {
            self.code.regs[reg].fixed = Some(machine);
        }
        self.code.push(Inst::Args(args));
        let [lo, hi] = [args[2], args[3]].map(|arg| self.copy(arg, Class::Gpr, Width::B8));
        for param in self.kernel.params.keys() {
            let disp = i32::try_from(param.index() * 8).expect("few parameters");
            let base = self.load_gpr(args[0], disp);
            self.scopes.define_base(param, Gp::Reg(base));
        }
        self.scopes.open();
        for dim in &self.kernel.dims {
            let Ok(disp) = i32::try_from(u64::from(dim.slot) * 8) else {
                return self.no("a dimension slot that large");
            };
            let value = self.load_gpr(args[1], disp);
            self.scopes.define(dim.name.clone(), Gp::Reg(value));
        }
        self.scopes.define(LO.into(), Gp::Reg(lo));
        self.scopes.define(HI.into(), Gp::Reg(hi));
        Ok(())
    }

    fn load_gpr(&mut self, base: Reg, disp: i32) -> Reg {
        let to = self.code.reg(Class::Gpr);
        let mem = Operand::Mem(Mem { base: Base::Reg(base), disp, broadcast: false });
        self.code.op(Code::Mov_r64_rm64, vec![Operand::Reg(to, Width::B8), mem]);
        to
    }

    /// A copy in a new register.
    pub fn copy(&mut self, from: Reg, class: Class, width: Width) -> Reg {
        let to = self.code.reg(class);
        self.code.push(Inst::Copy { to, from, width });
        to
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Result<(), CodegenError> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
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
                self.store_first(&value, mem, *count);
            }
            Stmt::Bind { sym, value } => {
                let value = self.take(*value);
                let scalar = self.gp(&value.parts[0], Elem::I64);
                self.scopes.define(sym.clone(), scalar);
            }
            Stmt::For(f) => self.for_loop(f)?,
            Stmt::If { cond, then, other, results } => self.branch(cond, then, other, results)?,
            Stmt::Guard { cond, status } => {
                let cc = self.cond(cond)?;
                let go_on = self.code.label();
                self.code.push(Inst::Branch(cc, go_on));
                self.code.push(Inst::Return(*status));
                self.code.push(Inst::Label { label: go_on, hot: false });
            }
            Stmt::Prefetch { addr } => {
                let mem = self.mem(addr)?;
                self.code.effect(Code::Prefetcht1_m8, vec![Operand::Mem(mem)]);
            }
        }
        Ok(())
    }

    fn define(&mut self, value: Value, parts: Vec<Part>) {
        self.values[value] = parts;
        self.home[value] = self.block;
    }

    /// A value, one use of which is over with this.
    pub fn take(&mut self, value: Value) -> Val {
        self.uses.left[value] = self.uses.left[value].saturating_sub(1);
        Val { ty: self.kernel.values[value], parts: self.values[value].clone() }
    }

    /// Whether the last use of a value was taken: its registers are free to be written.
    pub fn is_over(&self, value: Value) -> bool {
        self.uses.left[value] == 0 && self.home[value] == self.block
    }

    /// Memory of an access.
    pub fn mem(&mut self, addr: &crate::cpu::kernel::ir::Addr) -> Result<Mem, CodegenError> {
        let (base, disp) = self.scopes.address(&mut self.code, addr)?;
        let base = self.code.gp_reg(base);
        Ok(Mem { base: Base::Reg(base), disp, broadcast: false })
    }

    pub fn extent(&mut self, extent: &Extent) -> Result<Gp, CodegenError> {
        self.scopes.extent(&mut self.code, extent)
    }

    /// Sets flags; the condition holds when the answer does.
    fn cond(&mut self, cond: &Cond) -> Result<Cc, CodegenError> {
        match cond {
            Cond::Extent(a, cmp, b) => {
                let (a, b) = (self.extent(a)?, self.extent(b)?);
                self.code.compare(a, b, Width::B8);
                Ok(int_cc(*cmp))
            }
            Cond::Value(mask) => {
                let mask = self.take(*mask);
                let flag = self.gp(&mask.parts[0], Elem::I8);
                let flag = Operand::Reg(self.code.gp_reg(flag), Width::B1);
                self.code.effect(Code::Test_rm8_r8, vec![flag, flag]);
                Ok(Cc::Ne)
            }
        }
    }

    /// Rotated: one test before, unless it is known to run, and one at the end of each iteration.
    fn for_loop(&mut self, f: &For) -> Result<(), CodegenError> {
        let (lo, hi) = (self.extent(&f.lo)?, self.extent(&f.hi)?);
        let plan = self.scopes.plan_loop(&mut self.code, f)?;
        let mut args: Vec<(Reg, Class, Width)> = Vec::new();
        for (&init, &arg) in f.inits.iter().zip(&f.args) {
            let init = self.take(init);
            let mut regs = Vec::new();
            for part in &init.parts {
                let (class, width) = self.class_of(init.ty);
                let reg = self.code.reg(class);
                self.put(part, init.ty, reg);
                args.push((reg, class, width));
                regs.push(Part::Reg(reg));
            }
            self.values[arg] = regs;
        }
        let var = self.code.reg(Class::Gpr);
        self.code.set(var, lo);
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
            self.code.compare(Gp::Reg(var), hi, Width::B8);
            self.code.push(Inst::Branch(Cc::Ge, exit));
        }
        self.code.depth += 1;
        let hot = !f.body.stmts.iter().any(|s| matches!(s, Stmt::For(_)));
        self.code.push(Inst::Label { label: again, hot });
        let outside = self.enter();
        self.scopes.define(f.var.clone(), Gp::Reg(var));
        let pointers: Vec<Gp> = moving.iter().map(|&reg| Gp::Reg(reg)).collect();
        self.scopes.define_pointers(&plan, &pointers);
        for &arg in &f.args {
            self.home[arg] = self.block;
        }
        self.stmts(&f.body.stmts)?;
        let mut next = Vec::new();
        for &yielded in &f.body.yields {
            let value = self.take(yielded);
            next.extend(value.parts.into_iter().map(|part| (part, value.ty)));
        }
        self.move_all(&args, next);
        self.code.set_add(var, Gp::Reg(var), f.step);
        for (&pointer, step) in moving.iter().zip(&plan.steps) {
            match *step {
                Advance::Bytes(bytes) => self.code.set_add(pointer, Gp::Reg(pointer), bytes),
                Advance::Value(Gp::Num(bytes)) => self.code.set_add(pointer, Gp::Reg(pointer), bytes),
                Advance::Value(Gp::Reg(by)) => {
                    let operands = vec![Operand::Reg(pointer, Width::B8), Operand::Reg(by, Width::B8)];
                    self.code.update(Code::Add_r64_rm64, operands);
                }
            }
        }
        self.code.compare(Gp::Reg(var), hi, Width::B8);
        self.code.push(Inst::Branch(Cc::L, again));
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

    /// Moves values to registers at once: none is overwritten before it is read.
    fn move_all(&mut self, to: &[(Reg, Class, Width)], from: Vec<(Part, Type)>) {
        let mut staged = Vec::new();
        for (index, (part, ty)) in from.into_iter().enumerate() {
            let part = match part {
                Part::Reg(reg) if reg != to[index].0 && to.iter().any(|t| t.0 == reg) => {
                    Part::Reg(self.copy(reg, to[index].1, to[index].2))
                }
                part => part,
            };
            staged.push((part, ty));
        }
        for ((reg, ..), (part, ty)) in to.iter().zip(staged) {
            if !matches!(part, Part::Reg(from) if from == *reg) {
                self.put(&part, ty, *reg);
            }
        }
    }

    fn branch(&mut self, cond: &Cond, then: &Block, other: &Block, results: &[Value]) -> Result<(), CodegenError> {
        let cc = self.cond(cond)?;
        let (yes, join) = (self.code.label(), self.code.label());
        let mut joined: Vec<(Reg, Class, Width)> = Vec::new();
        for &result in results {
            let ty = self.kernel.values[result];
            let (class, width) = self.class_of(ty);
            let regs: Vec<Part> = (0..self.count(ty))
                .map(|_| {
                    let reg = self.code.reg(class);
                    joined.push((reg, class, width));
                    Part::Reg(reg)
                })
                .collect();
            self.define(result, regs);
        }
        self.code.push(Inst::Branch(cc, yes));
        for (block, label) in [(other, None), (then, Some(yes))] {
            if let Some(label) = label {
                self.code.push(Inst::Jump(join));
                self.code.push(Inst::Label { label, hot: false });
            }
            let outside = self.enter();
            self.stmts(&block.stmts)?;
            let mut values = Vec::new();
            for &yielded in &block.yields {
                let value = self.take(yielded);
                values.extend(value.parts.into_iter().map(|part| (part, value.ty)));
            }
            self.move_all(&joined, values);
            self.leave(outside);
        }
        self.code.push(Inst::Label { label: join, hot: false });
        Ok(())
    }

    fn op(&mut self, result: Value, op: &Op) -> Result<Vec<Part>, CodegenError> {
        let ty = self.kernel.values[result];
        Ok(match op {
            Op::Const(bits) => self.constant(ty, bits)?,
            Op::Extent(extent) => match self.extent(extent)? {
                Gp::Num(number) => vec![Part::Int(number)],
                Gp::Reg(reg) => vec![Part::Reg(reg)],
            },
            Op::Splat(a) => {
                let deferred = self.uses.deferred[result];
                let a = self.take(*a);
                self.splat(ty, &a.parts[0], deferred)?
            }
            Op::Load(addr) => {
                let mem = self.mem(addr)?;
                self.load(ty, mem, self.uses.deferred[result])?
            }
            Op::LoadFirst(addr, count) => {
                let mem = self.mem(addr)?;
                self.load_first(ty, mem, *count)
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
                self.cmp(*cmp, &a, &b)?
            }
            Op::Select(mask, a, b) => {
                let (mask, a, b) = (self.take(*mask), self.take(*a), self.take(*b));
                self.select(&mask, &a, &b)?
            }
            Op::Cvt(cvt, a) => {
                let a = self.take(*a);
                // Some bytes in memory as a float there.
                let float = *cvt == Cvt::Bits && ty.is_scalar() && ty.elem.is_float() && !a.ty.elem.is_mask();
                if let [Part::Load(mem)] = a.parts[..]
                    && float
                    && self.uses.deferred[result]
                {
                    return Ok(vec![Part::Scalar(mem)]);
                }
                self.cvt(*cvt, &a, ty)?
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
            Op::Dot4 { a_signed, acc, a, b } => {
                let vals = [*acc, *a, *b].map(|v| self.take(v));
                self.dot4(*a_signed, ty, &vals)?
            }
        })
    }

    /// How a vector type lies in registers.
    pub fn shape(&self, ty: Type) -> Shape {
        let bytes = ty.bits() / 8;
        let most = self.cpu.vector_bytes();
        let lanes = u16::try_from(most / ty.elem.bytes()).expect("at most 64 lanes").min(ty.lanes);
        let width = Width::of_bytes(bytes.min(most));
        Shape { width, count: bytes.div_ceil(most).max(1) as usize, lanes }
    }

    /// Whether the value is in general registers: scalars but floats.
    pub fn is_gpr(ty: Type) -> bool {
        ty.is_scalar() && !ty.elem.is_float()
    }

    /// Where parts of a type are.
    pub fn class_of(&self, ty: Type) -> (Class, Width) {
        if Self::is_gpr(ty) {
            (Class::Gpr, Width::B8)
        } else if ty.elem.is_mask() && self.cpu.evex {
            (Class::Mask, Width::K)
        } else {
            (Class::Vec, self.shape(ty).width)
        }
    }

    fn count(&self, ty: Type) -> usize {
        if ty.is_scalar() { 1 } else { self.shape(ty).count }
    }

    /// The instruction for that width.
    pub fn pick(&self, codes: &Codes, width: Width) -> Code {
        if self.cpu.evex {
            codes.evex[width.index()]
        } else {
            codes.vex.get(width.index()).copied().unwrap_or(Code::INVALID)
        }
    }

    /// A part in a register that must not be written.
    pub fn reg(&mut self, part: &Part, ty: Type) -> Reg {
        match part {
            Part::Reg(reg) => *reg,
            part => {
                let (class, _) = self.class_of(ty);
                let reg = self.code.reg(class);
                self.put(part, ty, reg);
                reg
            }
        }
    }

    /// Puts a part into that register.
    fn put(&mut self, part: &Part, ty: Type, to: Reg) {
        let (_, width) = self.class_of(ty);
        match part {
            Part::Reg(from) => self.code.push(Inst::Copy { to, from: *from, width }),
            Part::Int(number) => self.code.set(to, Gp::Num(*number)),
            Part::Const(constant) => self.put_const(constant, width, to),
            Part::Load(mem) if ty.bits() < 128 => self.put_narrow(*mem, ty, to),
            Part::Load(mem) => {
                let code = self.pick(&table::MOVUPS, width);
                self.code.op(code, vec![Operand::Reg(to, width), Operand::Mem(*mem)]);
            }
            Part::Scalar(mem) => self.put_scalar(*mem, ty, to),
            Part::Splat(mem, bytes) => self.put_splat(*mem, *bytes, width, to),
        }
    }

    /// The last operand of an instruction: from memory where it can be.
    pub fn operand(&mut self, part: &Part, ty: Type, codes: &Codes) -> Operand {
        let (_, width) = self.class_of(ty);
        let repeats = |bytes: usize| self.cpu.evex && codes.broadcast as usize == bytes * 8;
        match part {
            Part::Load(mem) if ty.bits() >= 128 => Operand::Mem(*mem),
            Part::Splat(mem, bytes) if repeats(*bytes as usize) => Operand::Mem(Mem { broadcast: true, ..*mem }),
            Part::Const(constant) => match constant.splat {
                Some(bytes) if repeats(bytes) => {
                    let mem = self.code.pool(&constant.bytes[..bytes]);
                    Operand::Mem(Mem { broadcast: true, ..mem })
                }
                _ => Operand::Mem(self.code.pool(&constant.bytes)),
            },
            part => Operand::Reg(self.reg(part, ty), width),
        }
    }

    /// `op a, b` in a new register.
    pub fn binary(&mut self, codes: &Codes, ty: Type, a: &Part, b: &Part) -> Part {
        let (_, width) = self.class_of(ty);
        let a = self.reg(a, ty);
        let b = self.operand(b, ty, codes);
        let to = self.code.reg(Class::Vec);
        let code = self.pick(codes, width);
        self.code.op(code, vec![Operand::Reg(to, width), Operand::Reg(a, width), b]);
        Part::Reg(to)
    }

    /// [`Body::binary`] of operands that may change places.
    pub fn commutative(&mut self, codes: &Codes, ty: Type, a: &Part, b: &Part) -> Part {
        let first_in_memory = !matches!(a, Part::Reg(_));
        if first_in_memory { self.binary(codes, ty, b, a) } else { self.binary(codes, ty, a, b) }
    }

    /// `op a` in a new register.
    pub fn unary(&mut self, codes: &Codes, ty: Type, a: &Part) -> Part {
        let (_, width) = self.class_of(ty);
        let a = self.operand(a, ty, codes);
        let to = self.code.reg(Class::Vec);
        let code = self.pick(codes, width);
        self.code.op(code, vec![Operand::Reg(to, width), a]);
        Part::Reg(to)
    }

    /// `op a, imm` in a new register.
    pub fn unary_imm(&mut self, codes: &Codes, ty: Type, a: &Part, imm: i64) -> Part {
        let (_, width) = self.class_of(ty);
        let a = Operand::Reg(self.reg(a, ty), width);
        let to = self.code.reg(Class::Vec);
        let code = self.pick(codes, width);
        self.code.op(code, vec![Operand::Reg(to, width), a, Operand::Imm8(imm)]);
        Part::Reg(to)
    }
}

/// Condition of a signed or unsigned comparison.
pub(super) fn int_cc(cmp: Cmp) -> Cc {
    match cmp {
        Cmp::Eq => Cc::E,
        Cmp::Ne => Cc::Ne,
        Cmp::Lt => Cc::L,
        Cmp::Le => Cc::Le,
        Cmp::Gt => Cc::G,
        Cmp::Ge => Cc::Ge,
        Cmp::LtU => Cc::B,
        Cmp::LeU => Cc::Be,
        Cmp::GtU => Cc::A,
        Cmp::GeU => Cc::Ae,
    }
}

/// Arithmetic of extents and addresses; what is known stays a number.
impl Scalars for Code_ {
    type Value = Gp;

    fn number(&mut self, value: i64) -> Gp {
        Gp::Num(value)
    }

    fn add(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (Gp::Num(a), Gp::Num(b)) => Gp::Num(a.wrapping_add(b)),
            (a, Gp::Num(by)) | (Gp::Num(by), a) => self.add_number(a, by),
            (Gp::Reg(a), Gp::Reg(b)) => self.alu(Code::Add_r64_rm64, a, b),
        }
    }

    fn add_number(&mut self, a: Gp, by: i64) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a.wrapping_add(by)),
            a if by == 0 => a,
            a => {
                let to = self.reg(Class::Gpr);
                self.set_add(to, a, by);
                Gp::Reg(to)
            }
        }
    }

    fn mul(&mut self, a: Gp, b: Gp) -> Gp {
        match (a, b) {
            (a, Gp::Num(by)) | (Gp::Num(by), a) => self.mul_number(a, by),
            (Gp::Reg(a), Gp::Reg(b)) => self.alu(Code::Imul_r64_rm64, a, b),
        }
    }

    fn mul_number(&mut self, a: Gp, by: i64) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a.wrapping_mul(by)),
            Gp::Reg(a) => Gp::Reg(self.times(a, by)),
        }
    }

    fn shift_right(&mut self, a: Gp, by: u32) -> Gp {
        match a {
            Gp::Num(a) => Gp::Num(a >> by),
            a if by == 0 => a,
            Gp::Reg(a) => Gp::Reg(self.shift_imm(Code::Sar_rm64_imm8, a, i64::from(by))),
        }
    }

    fn min(&mut self, a: Gp, b: Gp) -> Gp {
        self.choose(Code::Cmovg_r64_rm64, a, b)
    }

    fn max(&mut self, a: Gp, b: Gp) -> Gp {
        self.choose(Code::Cmovl_r64_rm64, a, b)
    }

    fn floor_div(&mut self, a: Gp, b: Gp) -> Gp {
        if let (Gp::Num(a), Gp::Num(b)) = (a, b) {
            return Gp::Num(a.div_euclid(b.max(1)));
        }
        let one = Gp::Num(1);
        let divisor = self.max(b, one);
        let (a, b) = (self.gp_reg(a), self.gp_reg(divisor));
        let quotient = self.reg(Class::Gpr);
        self.push(Inst::Div { to: quotient, a, b });
        // Down: one less where the product is above the dividend.
        let product = self.mul(Gp::Reg(quotient), Gp::Reg(b));
        let less = self.reg(Class::Gpr);
        self.set(less, Gp::Num(0));
        self.compare(Gp::Reg(a), product, Width::B8);
        self.update(Code::Setl_rm8, vec![Operand::Reg(less, Width::B1)]);
        self.alu(Code::Sub_r64_rm64, quotient, less)
    }
}
