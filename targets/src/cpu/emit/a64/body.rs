//! Statements: loops, branches, memory; what every operation needs to get at its operands.

use adze_ir::extent::Extent;
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap};

use super::super::address::{Advance, Reach, Scopes};
use super::super::alloc::{Info, Reg};
use super::super::uses::Uses;
use super::code::{Code, reaches};
use super::inst::{Class, Inst, Mem};
use super::ops::{Arr, Cond, Size, V3, X3};
use super::scalar::{Gp, number_insts};
use super::{Cpu, Selected, VECTOR_BYTES, info, runs};
use crate::cpu::kernel::ir::{Addr, Block, Cmp, Cond as Condition, For, HI, Kernel, LO, Op, Stmt, Value};
use crate::cpu::kernel::types::{Elem, Type};
use crate::cpu::machine::CodegenError;

/// Consecutive lanes of a value, or a scalar.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// In a register.
    Reg(Reg),
    /// A number in a general register, or not in one yet.
    Int(i64),
    /// Constant lanes (16 bytes), or a constant float in all of them.
    Const([u8; 16]),
    /// A scalar in memory that nothing writes before its only use.
    Scalar(Mem),
    /// A lane of that size, as a scalar float.
    Lane(Reg, Size, u8),
    /// A lane of that size in every lane.
    Splat(Reg, Size, u8),
}

/// A value while it is computed.
#[derive(Clone, Debug)]
pub(super) struct Val {
    pub ty: Type,
    pub parts: Vec<Part>,
}

/// The kernel under selection.
pub(super) struct Body<'a> {
    pub kernel: &'a Kernel,
    pub cpu: Cpu,
    pub code: Selection,
    pub uses: Uses,
    scopes: Scopes<'a, Gp>,
    values: SecondaryMap<Value, Vec<Part>>,
}

/// Instructions so far.
pub(super) struct Selection {
    insts: Vec<(Inst, u32)>,
    regs: PrimaryMap<Reg, Info>,
    depth: u32,
    labels: u32,
    pool: Vec<u8>,
    /// The innermost loop under selection.
    hot: Option<Hot>,
    /// Bases moved nearer to what they are for, in this block.
    near: Vec<(Mem, Reg)>,
}

/// Constants of an innermost loop, which are made before it.
struct Hot {
    /// Position of the loop's label.
    at: usize,
    insts: Vec<Inst>,
    vectors: Vec<(Vec<u8>, Reg)>,
    numbers: Vec<(i64, Reg)>,
}

impl Selection {
    pub fn reg(&mut self, class: Class) -> Reg {
        self.regs.push(info(class))
    }

    pub fn push(&mut self, inst: Inst) {
        self.insts.push((inst, self.depth));
    }

    pub fn op(&mut self, code: Code, regs: &[Reg]) {
        debug_assert_eq!(code.roles().len(), regs.len(), "{code:?}");
        self.push(Inst::Op(code, regs.to_vec()));
    }

    /// A new vector register with the result of that instruction.
    pub fn new_v(&mut self, code: Code, from: &[Reg]) -> Reg {
        let to = self.reg(Class::Vec);
        let regs: Vec<Reg> = [to].into_iter().chain(from.iter().copied()).collect();
        self.op(code, &regs);
        to
    }

    pub fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels - 1
    }

    /// A number in a register; inside an innermost loop one that is set before it.
    pub fn number_reg(&mut self, number: i64) -> Reg {
        let reg = self.regs.push(info(Class::Gpr));
        let insts = number_insts(reg, number);
        let Some(hot) = &mut self.hot else {
            insts.into_iter().for_each(|inst| self.push(inst));
            return reg;
        };
        if let Some((_, known)) = hot.numbers.iter().find(|(n, _)| *n == number) {
            return *known;
        }
        hot.insts.extend(insts);
        hot.numbers.push((number, reg));
        reg
    }

    /// Constant bytes in a register; inside an innermost loop one that is loaded before it.
    pub fn constant_reg(&mut self, bytes: &[u8]) -> Reg {
        if let Some(hot) = &self.hot
            && let Some((_, known)) = hot.vectors.iter().find(|(b, _)| b == bytes)
        {
            return *known;
        }
        let reg = self.reg(Class::Vec);
        let inst = self.constant(bytes, reg);
        match &mut self.hot {
            None => self.push(inst),
            Some(hot) => {
                hot.insts.push(inst);
                hot.vectors.push((bytes.to_vec(), reg));
            }
        }
        reg
    }

    /// What puts constant bytes into that register.
    pub fn constant(&mut self, bytes: &[u8], to: Reg) -> Inst {
        match bytes[0] {
            0 if bytes.iter().all(|&b| b == 0) => Inst::Op(Code::Zero, vec![to]),
            byte if bytes.iter().all(|&b| b == byte) => Inst::Op(Code::Movi(byte), vec![to]),
            _ => {
                let bytes = &bytes[..bytes.len().max(4)];
                let align = bytes.len();
                let known = self.pool.chunks_exact(align).position(|b| b == bytes);
                let at = known.map_or_else(
                    || {
                        self.pool.resize(self.pool.len().next_multiple_of(align), 0);
                        self.pool.extend_from_slice(bytes);
                        self.pool.len() - align
                    },
                    |chunk| chunk * align,
                );
                Inst::Constant { to, size: Size::of_bytes(align as u32), at: at as u32 }
            }
        }
    }

    /// The same memory with a distance that an access of that size reaches.
    pub fn reach(&mut self, mem: Mem, size: Size) -> Mem {
        if reaches(mem.disp, size) {
            return mem;
        }
        // The larger part of the distance is shared by neighbours; it is one instruction to add.
        let high = [!4095, !255].map(|mask: i32| mem.disp & mask);
        let high = high.into_iter().find(|high| reaches(mem.disp - high, size)).unwrap_or(mem.disp);
        let key = Mem { base: mem.base, disp: high };
        let known = self.near.iter().find(|(near, _)| *near == key).map(|(_, reg)| *reg);
        let base = known.unwrap_or_else(|| {
            let to = self.reg(Class::Gpr);
            self.set_add(to, Gp::Reg(mem.base), high.into());
            self.near.push((key, to));
            to
        });
        Mem { base, disp: mem.disp - high }
    }

    /// Puts what a hot loop needs before it.
    fn close_hot_loop(&mut self, hot: Hot) {
        let depth = self.depth;
        self.insts.splice(hot.at..hot.at, hot.insts.into_iter().map(|inst| (inst, depth)));
    }
}

impl Selection {
    fn new() -> Self {
        Self {
            insts: Vec::new(),
            regs: PrimaryMap::new(),
            depth: 0,
            labels: 0,
            pool: Vec::new(),
            hot: None,
            near: Vec::new(),
        }
    }
}

/// What is left of a distance, and the instructions that make the rest of it; for tests.
#[cfg(test)]
pub(super) fn reached(disp: i32, size: Size) -> (i32, Vec<Code>) {
    let mut code = Selection::new();
    let base = code.reg(Class::Gpr);
    let near = code.reach(Mem { base, disp }, size);
    let op = |(inst, _): (Inst, u32)| if let Inst::Op(code, _) = inst { Some(code) } else { None };
    (near.disp, code.insts.into_iter().filter_map(op).collect())
}

/// Instructions for a kernel.
pub(super) fn select(kernel: &Kernel, cpu: Cpu) -> Result<Selected, CodegenError> {
    let code = Selection::new();
    let (uses, scopes) = (Uses::of(kernel), Scopes::new(kernel, Reach::default()));
    let mut body = Body { kernel, cpu, code, uses, scopes, values: SecondaryMap::new() };
    body.entry()?;
    body.stmts(&kernel.body)?;
    body.code.push(Inst::Return(0));
    let Selection { insts, regs, labels, pool, .. } = body.code;
    Ok(Selected { code: insts, regs, labels: labels as usize, pool })
}

/// What a condition is tested by.
enum Test {
    Flags(Cond),
    NonZero(Reg),
}

impl Test {
    fn branch(self, label: u32) -> Inst {
        match self {
            Test::Flags(cond) => Inst::Branch(cond, label),
            Test::NonZero(reg) => Inst::BranchNonZero(reg, label),
        }
    }
}

impl<'a> Body<'a> {
    /// The error for what has no code here.
    pub fn no<T>(&self, what: impl Into<String>) -> Result<T, CodegenError> {
        let kernel = self.kernel.name.clone();
        Err(CodegenError::Unsupported { kernel, op: what.into(), machine: "AArch64".into() })
    }

    fn entry(&mut self) -> Result<(), CodegenError> {
        let args: [Reg; 4] = std::array::from_fn(|_| self.code.reg(Class::Gpr));
        for (reg, machine) in args.into_iter().zip(0..) {
            self.code.regs[reg].fixed = Some(machine);
        }
        self.code.push(Inst::Args(args));
        let [lo, hi] = [args[2], args[3]].map(|arg| self.copy(arg, Class::Gpr));
        for param in self.kernel.params.keys() {
            let base = self.load_x(args[0], param.index())?;
            self.scopes.define_base(param, Gp::Reg(base));
        }
        self.scopes.open();
        for dim in &self.kernel.dims {
            let value = self.load_x(args[1], dim.slot as usize)?;
            self.scopes.define(dim.name.clone(), Gp::Reg(value));
        }
        self.scopes.define(LO.into(), Gp::Reg(lo));
        self.scopes.define(HI.into(), Gp::Reg(hi));
        Ok(())
    }

    /// A word of an array.
    fn load_x(&mut self, base: Reg, index: usize) -> Result<Reg, CodegenError> {
        match i32::try_from(8 * index).ok().filter(|&disp| reaches(disp, Size::D)) {
            Some(disp) => Ok(self.code.new_x(Code::LoadX(Size::D, disp), &[base])),
            None => self.no("a dimension slot that large"),
        }
    }

    /// A copy in a new register.
    pub fn copy(&mut self, from: Reg, class: Class) -> Reg {
        let to = self.code.reg(class);
        self.code.push(Inst::Copy { to, from, class });
        to
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Result<(), CodegenError> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), CodegenError> {
        match stmt {
            Stmt::Let { result, op } => {
                let parts = self.op(*result, op)?;
                self.values[*result] = parts;
            }
            Stmt::Store { addr, value } => {
                let mem = self.mem(addr)?;
                let value = self.val(*value);
                self.store(&value, mem);
            }
            Stmt::StoreFirst { .. } => return Err(super::super::unsplit(self.kernel)),
            Stmt::Bind { sym, value } => {
                let value = self.val(*value);
                let scalar = self.gp(&value.parts[0], Elem::I64);
                self.scopes.define(sym.clone(), scalar);
            }
            Stmt::For(f) => self.for_loop(f)?,
            Stmt::If { cond, then, other, results } => self.branch(cond, then, other, results)?,
            Stmt::Guard { cond, status } => {
                let test = self.test(cond)?;
                let go_on = self.code.label();
                self.code.push(test.branch(go_on));
                self.code.push(Inst::Return(*status));
                self.code.push(Inst::Label { label: go_on, hot: false });
            }
            Stmt::Prefetch { addr } => {
                let mem = self.mem(addr)?;
                let mem = self.code.reach(mem, Size::D);
                self.code.op(Code::Prefetch(mem.disp), &[mem.base]);
            }
        }
        Ok(())
    }

    pub fn val(&self, value: Value) -> Val {
        Val { ty: self.kernel.values[value], parts: self.values[value].clone() }
    }

    /// Memory of an access.
    pub fn mem(&mut self, addr: &Addr) -> Result<Mem, CodegenError> {
        let (base, disp) = self.scopes.address(&mut self.code, addr)?;
        Ok(Mem { base: self.code.gp_reg(base), disp })
    }

    pub fn extent(&mut self, extent: &Extent) -> Result<Gp, CodegenError> {
        self.scopes.extent(&mut self.code, extent)
    }

    fn test(&mut self, cond: &Condition) -> Result<Test, CodegenError> {
        match cond {
            Condition::Extent(a, cmp, b) => {
                let (a, b) = (self.extent(a)?, self.extent(b)?);
                self.code.compare(a, b);
                Ok(Test::Flags(int_cond(*cmp)))
            }
            Condition::Value(mask) => {
                let mask = self.val(*mask);
                Ok(Test::NonZero(self.gpr(&mask.parts[0], Elem::M64)))
            }
        }
    }

    /// Rotated: one test before, unless it is known to run, and one at the end of each iteration.
    fn for_loop(&mut self, f: &For) -> Result<(), CodegenError> {
        let (lo, hi) = (self.extent(&f.lo)?, self.extent(&f.hi)?);
        let plan = self.scopes.plan_loop(&mut self.code, f)?;
        let mut args: Vec<(Reg, Class)> = Vec::new();
        for (&init, &arg) in f.inits.iter().zip(&f.args) {
            let init = self.val(init);
            let class = class_of(init.ty);
            let regs: Vec<Reg> = init.parts.iter().map(|part| self.put_new(part, init.ty)).collect();
            args.extend(regs.iter().map(|&reg| (reg, class)));
            self.values[arg] = regs.into_iter().map(Part::Reg).collect();
        }
        let mut set = |value: Gp| {
            let reg = self.code.reg(Class::Gpr);
            self.code.set(reg, value);
            reg
        };
        let var = set(lo);
        let moving: Vec<Reg> = plan.starts.iter().map(|&start| set(start)).collect();
        let (again, exit) = (self.code.label(), self.code.label());
        if runs(&f.lo, &f.hi) != Some(true) {
            self.code.compare(Gp::Reg(var), hi);
            self.code.push(Inst::Branch(Cond::Ge, exit));
        }
        let hot = !has_loop(&f.body.stmts);
        // Bounds that are numbers are compared with as they are, or set before.
        let hot_start = Hot { at: self.code.insts.len(), insts: vec![], vectors: vec![], numbers: vec![] };
        let around = hot.then(|| self.code.hot.replace(hot_start)).flatten();
        self.code.depth += 1;
        self.code.push(Inst::Label { label: again, hot });
        self.enter();
        self.scopes.define(f.var.clone(), Gp::Reg(var));
        let pointers: Vec<Gp> = moving.iter().map(|&reg| Gp::Reg(reg)).collect();
        self.scopes.define_pointers(&plan, &pointers);
        self.stmts(&f.body.stmts)?;
        self.yields(&f.body, &args);
        self.code.set_add(var, Gp::Reg(var), f.step);
        for (&pointer, step) in moving.iter().zip(&plan.steps) {
            match *step {
                Advance::Bytes(bytes) | Advance::Value(Gp::Num(bytes)) => {
                    self.code.set_add(pointer, Gp::Reg(pointer), bytes);
                }
                Advance::Value(Gp::Reg(by)) => self.code.op(Code::X3(X3::Add), &[pointer, pointer, by]),
            }
        }
        self.code.compare(Gp::Reg(var), hi);
        self.code.push(Inst::Branch(Cond::Lt, again));
        self.leave();
        self.code.depth -= 1;
        if hot {
            let done = std::mem::replace(&mut self.code.hot, around);
            done.into_iter().for_each(|hot| self.code.close_hot_loop(hot));
        }
        self.code.push(Inst::Label { label: exit, hot: false });
        for (&result, &arg) in f.results.iter().zip(&f.args) {
            self.values[result] = self.values[arg].clone();
        }
        Ok(())
    }

    fn enter(&mut self) {
        self.scopes.open();
        self.code.near.clear();
    }

    fn leave(&mut self) {
        self.scopes.close();
        self.code.near.clear();
    }

    /// Moves what a block yields to registers at once: none is overwritten before it is read.
    fn yields(&mut self, block: &Block, to: &[(Reg, Class)]) {
        let vals: Vec<Val> = block.yields.iter().map(|&value| self.val(value)).collect();
        let from = vals.into_iter().flat_map(|val| val.parts.into_iter().map(move |part| (part, val.ty)));
        let mut staged = Vec::new();
        for ((part, ty), (own, class)) in from.zip(to) {
            let overwritten = |reg: Reg| reg != *own && to.iter().any(|t| t.0 == reg);
            staged.push(match part {
                Part::Reg(reg) if overwritten(reg) => (Part::Reg(self.copy(reg, *class)), ty),
                Part::Lane(reg, ..) | Part::Splat(reg, ..) if to.iter().any(|t| t.0 == reg) => {
                    (Part::Reg(self.put_new(&part, ty)), ty)
                }
                part => (part, ty),
            });
        }
        for ((reg, _), (part, ty)) in to.iter().zip(staged) {
            if !matches!(part, Part::Reg(from) if from == *reg) {
                self.put(&part, ty, *reg);
            }
        }
    }

    fn branch(&mut self, cond: &Condition, then: &Block, other: &Block, results: &[Value]) -> Result<(), CodegenError> {
        let test = self.test(cond)?;
        let (yes, join) = (self.code.label(), self.code.label());
        let mut joined: Vec<(Reg, Class)> = Vec::new();
        for &result in results {
            let ty = self.kernel.values[result];
            let class = class_of(ty);
            let regs: Vec<Reg> = (0..count(ty)).map(|_| self.code.reg(class)).collect();
            joined.extend(regs.iter().map(|&reg| (reg, class)));
            self.values[result] = regs.into_iter().map(Part::Reg).collect();
        }
        self.code.push(test.branch(yes));
        for (block, label) in [(other, None), (then, Some(yes))] {
            if let Some(label) = label {
                self.code.push(Inst::Jump(join));
                self.code.push(Inst::Label { label, hot: false });
            }
            self.enter();
            self.stmts(&block.stmts)?;
            self.yields(block, &joined);
            self.leave();
        }
        self.code.push(Inst::Label { label: join, hot: false });
        Ok(())
    }

    fn op(&mut self, result: Value, op: &Op) -> Result<Vec<Part>, CodegenError> {
        let ty = self.kernel.values[result];
        Ok(match op {
            Op::Const(bits) => constant(ty, bits),
            Op::Extent(extent) => vec![Self::part(self.extent(extent)?)],
            Op::Splat(a) => {
                let a = self.val(*a);
                self.splat(ty, &a.parts[0], self.uses.is_factor(result))
            }
            Op::LoadFirst(..) => return Err(super::super::unsplit(self.kernel)),
            Op::Load(addr) => {
                let mem = self.mem(addr)?;
                self.load(ty, mem, self.uses.deferred[result])
            }
            Op::Un(op, a) => self.un(*op, &self.val(*a))?,
            Op::Bin(op, a, b) => self.bin(*op, &self.val(*a), &self.val(*b))?,
            Op::Shift(op, a, by) => {
                let by = self.val(*by);
                self.shift(*op, &self.val(*a), &by.parts[0])?
            }
            Op::Fma(a, b, c) | Op::MulAdd(a, b, c) => {
                let vals = [*a, *b, *c].map(|v| self.val(v));
                self.muladd(ty, &vals)
            }
            Op::Cmp(cmp, a, b) => self.cmp(*cmp, &self.val(*a), &self.val(*b))?,
            Op::Select(mask, a, b) => self.select(&self.val(*mask), &self.val(*a), &self.val(*b)),
            Op::Cvt(cvt, a) => self.cvt(*cvt, &self.val(*a), ty)?,
            Op::Reduce(op, a) => self.reduce(*op, &self.val(*a))?,
            Op::Extract(a, lane) => self.extract(&self.val(*a), *lane),
            Op::Insert(a, lane, scalar) => {
                let scalar = self.val(*scalar);
                self.insert(&self.val(*a), *lane, &scalar.parts[0])
            }
            Op::Shuffle(a, b, pick) => self.shuffle(&self.val(*a), &self.val(*b), pick),
            Op::Dot4 { a_signed, acc, a, b } => {
                let vals = [*acc, *a, *b].map(|v| self.val(v));
                self.dot4(*a_signed, ty, &vals)?
            }
        })
    }

    /// A part in a register that must not be written.
    pub fn reg(&mut self, part: &Part, ty: Type) -> Reg {
        match part {
            Part::Reg(reg) => *reg,
            Part::Int(number) => self.code.number_reg(*number),
            Part::Const(bytes) => self.code.constant_reg(&bytes[..part_bytes(ty)]),
            part => self.put_new(part, ty),
        }
    }

    /// A part in a new register, which may be written.
    pub fn put_new(&mut self, part: &Part, ty: Type) -> Reg {
        let to = self.code.reg(class_of(ty));
        self.put(part, ty, to);
        to
    }

    /// Puts a part into that register.
    fn put(&mut self, part: &Part, ty: Type, to: Reg) {
        match *part {
            Part::Reg(from) => self.code.push(Inst::Copy { to, from, class: class_of(ty) }),
            Part::Int(number) => self.code.set(to, Gp::Num(number)),
            Part::Const(bytes) => {
                let inst = self.code.constant(&bytes[..part_bytes(ty)], to);
                self.code.push(inst);
            }
            Part::Scalar(mem) => {
                let size = Size::of_bytes(ty.elem.bytes());
                let Mem { base, disp } = self.code.reach(mem, size);
                let code = if is_gpr(ty) { Code::LoadX(size, disp) } else { Code::LoadV(size, disp) };
                self.code.op(code, &[to, base]);
            }
            Part::Lane(from, size, lane) => self.code.op(Code::Lane(size, lane), &[to, from]),
            Part::Splat(from, size, lane) => {
                self.code.op(Code::Dup(Arr::of(8 * size.bytes(), true), lane), &[to, from])
            }
        }
    }

    /// `op a, b` in a new register.
    pub fn binary(&mut self, op: V3, ty: Type, a: &Part, b: &Part) -> Part {
        let (a, b) = (self.reg(a, ty), self.reg(b, ty));
        Part::Reg(self.code.new_v(Code::V3(op, arr_for(op, ty)), &[a, b]))
    }
}

fn has_loop(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| match stmt {
        Stmt::For(_) => true,
        Stmt::If { then, other, .. } => has_loop(&then.stmts) || has_loop(&other.stmts),
        _ => false,
    })
}

/// Lanes of a part.
pub(super) fn part_lanes(ty: Type) -> u16 {
    ty.lanes.min((VECTOR_BYTES / ty.elem.bytes()) as u16)
}

/// Bytes of a part that mean something.
pub(super) fn part_bytes(ty: Type) -> usize {
    usize::from(part_lanes(ty)) * ty.elem.bytes() as usize
}

/// Parts of a type.
pub(super) fn count(ty: Type) -> usize {
    usize::from(ty.lanes / part_lanes(ty))
}

/// Whether the value is in general registers: scalars but floats.
pub(super) fn is_gpr(ty: Type) -> bool {
    ty.is_scalar() && !ty.elem.is_float()
}

/// Where parts of a type are.
pub(super) fn class_of(ty: Type) -> Class {
    if is_gpr(ty) { Class::Gpr } else { Class::Vec }
}

/// The lanes of a part.
pub(super) fn arr(ty: Type) -> Arr {
    Arr::of(ty.elem.bits(), part_bytes(ty) > 8)
}

/// The lanes that an operation works on.
pub(super) fn arr_for(op: V3, ty: Type) -> Arr {
    if op.form() == super::ops::Form::Bits { Arr::B16 } else { arr(ty) }
}

/// Condition of a signed or unsigned comparison.
pub(super) fn int_cond(cmp: Cmp) -> Cond {
    match cmp {
        Cmp::Eq => Cond::Eq,
        Cmp::Ne => Cond::Ne,
        Cmp::Lt => Cond::Lt,
        Cmp::Le => Cond::Le,
        Cmp::Gt => Cond::Gt,
        Cmp::Ge => Cond::Ge,
        Cmp::LtU => Cond::Lo,
        Cmp::LeU => Cond::Ls,
        Cmp::GtU => Cond::Hi,
        Cmp::GeU => Cond::Hs,
    }
}

/// A constant's parts.
fn constant(ty: Type, bits: &[u64]) -> Vec<Part> {
    let lane = |index: usize| if bits.len() == 1 { bits[0] } else { bits.get(index).copied().unwrap_or(0) };
    if is_gpr(ty) {
        let shift = 64 - ty.elem.bits();
        let number = if ty.elem.is_mask() { i64::from(lane(0) != 0) } else { (lane(0) as i64) << shift >> shift };
        return vec![Part::Int(number)];
    }
    let (lanes, width) = (usize::from(part_lanes(ty)), ty.elem.bytes() as usize);
    let part = |part: usize| {
        let mut bytes = [0; VECTOR_BYTES as usize];
        for (at, chunk) in bytes.chunks_exact_mut(width).enumerate() {
            // Lanes past the end repeat the others, so that scalars are splats.
            let bits = lane(part * lanes + at % lanes);
            let bits = if ty.elem.is_mask() && bits != 0 { u64::MAX } else { bits };
            chunk.copy_from_slice(&bits.to_le_bytes()[..width]);
        }
        Part::Const(bytes)
    };
    (0..count(ty)).map(part).collect()
}
