//! Addresses: what a loop body needs is split into a part that never changes (computed before the loop), a pointer that
//! advances with the loop variable, and a constant displacement, so that inner loops multiply nothing.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::extent::{Atom, Extent, Sym};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use cranelift_frontend::FunctionBuilder;

use super::super::kernel::ir::{Addr, Block, Cond, For, Op, Param, Stmt};
use super::super::machine::CodegenError;
use super::Body;

/// Most pointers that one loop advances; further ones are recomputed from the loop variable.
const MAX_MOVING: usize = 10;

/// A pointer: parameter and offset in elements without its constant.
type Key = (Param, Extent);

/// How far a pointer moves per iteration.
pub(super) enum Advance {
    /// A constant number of bytes.
    Bytes(i64),
    /// A computed number of bytes.
    Value(clif::Value),
}

/// The moving pointers of a loop.
#[derive(Default)]
pub(super) struct LoopPlan {
    keys: Vec<Key>,
    /// Value of each pointer at the first iteration.
    pub starts: Vec<clif::Value>,
    /// Movement of each pointer.
    pub steps: Vec<Advance>,
}

/// Symbols, computed extents and pointers that are in scope, innermost block last.
#[derive(Default)]
pub(super) struct Scopes(Vec<Scope>);

#[derive(Default)]
struct Scope {
    symbols: BTreeMap<Sym, clif::Value>,
    extents: BTreeMap<Extent, clif::Value>,
    pointers: BTreeMap<Key, clif::Value>,
}

impl Scopes {
    pub(super) fn open(&mut self) {
        self.0.push(Scope::default());
    }

    pub(super) fn close(&mut self) {
        self.0.pop();
    }

    fn top(&mut self) -> &mut Scope {
        self.0.last_mut().expect("a scope is open while statements are emitted")
    }

    pub(super) fn define(&mut self, sym: Sym, value: clif::Value) {
        self.top().symbols.insert(sym, value);
    }

    pub(super) fn define_pointers(&mut self, plan: &LoopPlan, moving: &[clif::Value]) {
        for (key, &value) in plan.keys.iter().zip(moving) {
            self.top().pointers.insert(key.clone(), value);
        }
    }

    fn symbol(&self, name: &str) -> Option<clif::Value> {
        self.0.iter().rev().find_map(|scope| scope.symbols.get(name).copied())
    }

    fn knows(&self, extent: &Extent) -> bool {
        let mut symbols = BTreeSet::new();
        extent.symbols(&mut symbols);
        symbols.iter().all(|s| self.symbol(s).is_some())
    }

    fn pointer(&self, key: &Key) -> Option<clif::Value> {
        self.0.iter().rev().find_map(|scope| scope.pointers.get(key).copied())
    }

    /// The value of an extent; `Err` names a symbol that is not defined.
    pub(super) fn extent(&mut self, b: &mut FunctionBuilder<'_>, extent: &Extent) -> Result<clif::Value, Sym> {
        if let Some(value) = extent.as_const() {
            return Ok(b.ins().iconst(types::I64, value));
        }
        if let Some(value) = self.0.iter().rev().find_map(|scope| scope.extents.get(extent).copied()) {
            return Ok(value);
        }
        let value = self.compute(b, extent)?;
        if extent.as_sym().is_none() {
            self.top().extents.insert(extent.clone(), value);
        }
        Ok(value)
    }

    fn compute(&mut self, b: &mut FunctionBuilder<'_>, extent: &Extent) -> Result<clif::Value, Sym> {
        let (terms, constant) = extent.terms();
        let mut sum = None;
        for (atoms, coefficient) in terms {
            let mut product = None;
            for atom in atoms {
                let factor = self.atom(b, atom)?;
                product = Some(product.map_or(factor, |p| b.ins().imul(p, factor)));
            }
            let product = match product {
                Some(product) => scale(b, product, *coefficient),
                None => b.ins().iconst(types::I64, *coefficient),
            };
            sum = Some(sum.map_or(product, |s| b.ins().iadd(s, product)));
        }
        let sum = sum.unwrap_or_else(|| b.ins().iconst(types::I64, 0));
        Ok(if constant == 0 { sum } else { b.ins().iadd_imm_s(sum, constant) })
    }

    fn atom(&mut self, b: &mut FunctionBuilder<'_>, atom: &Atom) -> Result<clif::Value, Sym> {
        match atom {
            Atom::Sym(name) => self.symbol(name).ok_or_else(|| name.clone()),
            Atom::Min(x, y) => {
                let (x, y) = (self.extent(b, x)?, self.extent(b, y)?);
                let less = b.ins().icmp(IntCC::SignedLessThan, x, y);
                Ok(b.ins().select(less, x, y))
            }
            Atom::Max(x, y) => {
                let (x, y) = (self.extent(b, x)?, self.extent(b, y)?);
                let more = b.ins().icmp(IntCC::SignedGreaterThan, x, y);
                Ok(b.ins().select(more, x, y))
            }
            Atom::FloorDiv(x, y) => {
                let dividend = self.extent(b, x)?;
                match y.as_const() {
                    Some(d) if d > 0 && d & (d - 1) == 0 => {
                        Ok(b.ins().sshr_imm_s(dividend, i64::from(d.trailing_zeros())))
                    }
                    _ => {
                        let divisor = self.extent(b, y)?;
                        Ok(floor_div(b, dividend, divisor))
                    }
                }
            }
        }
    }
}

/// Hoisting may evaluate a division whose loop never runs, so the divisor is kept positive.
fn floor_div(b: &mut FunctionBuilder<'_>, dividend: clif::Value, divisor: clif::Value) -> clif::Value {
    let one = b.ins().iconst(types::I64, 1);
    let positive = b.ins().icmp(IntCC::SignedGreaterThan, divisor, one);
    let divisor = b.ins().select(positive, divisor, one);
    let quotient = b.ins().sdiv(dividend, divisor);
    let product = b.ins().imul(quotient, divisor);
    let down = b.ins().icmp(IntCC::SignedLessThan, dividend, product);
    let down = b.ins().uextend(types::I64, down);
    b.ins().isub(quotient, down)
}

fn scale(b: &mut FunctionBuilder<'_>, value: clif::Value, by: i64) -> clif::Value {
    match by {
        1 => value,
        -1 => b.ins().ineg(value),
        _ if by > 0 && by & (by - 1) == 0 => b.ins().ishl_imm_s(value, i64::from(by.trailing_zeros())),
        _ => b.ins().imul_imm_s(value, by),
    }
}

impl Body<'_, '_> {
    fn element_bytes(&self, param: Param) -> i64 {
        i64::from(self.kernel.params[param].dtype.bits().div_ceil(8))
    }

    /// Base register and displacement in bytes of an access.
    pub(super) fn address(&mut self, addr: &Addr) -> Result<(clif::Value, i32), CodegenError> {
        let (moving, constant) = split(&addr.offset);
        let bytes = constant.saturating_mul(self.element_bytes(addr.param));
        match i32::try_from(bytes) {
            Ok(disp) if disp.unsigned_abs() < 1 << 30 => Ok((self.pointer(addr.param, &moving)?, disp)),
            _ => Ok((self.pointer(addr.param, &addr.offset)?, 0)),
        }
    }

    /// `base + offset`, remembered in the innermost scope.
    fn pointer(&mut self, param: Param, offset: &Extent) -> Result<clif::Value, CodegenError> {
        if *offset == Extent::ZERO {
            return Ok(self.bases[param]);
        }
        let key = (param, offset.clone());
        if let Some(pointer) = self.scopes.pointer(&key) {
            return Ok(pointer);
        }
        let bytes = offset.clone() * self.element_bytes(param).into();
        let bytes = self.extent(&bytes)?;
        let pointer = self.b.ins().iadd(self.bases[param], bytes);
        self.scopes.top().pointers.insert(key, pointer);
        Ok(pointer)
    }

    /// Prepares a loop, before its first iteration: computes what its body needs and does not change, and the start and
    /// step of what moves with the loop variable.
    pub(super) fn plan_loop(&mut self, f: &For) -> Result<LoopPlan, CodegenError> {
        let mut needs = Needs::default();
        needs.block(&f.body);
        for extent in &needs.extents {
            if is_costly(extent) && !extent.mentions(&f.var) && self.scopes.knows(extent) {
                self.extent(extent)?;
            }
        }
        let mut plan = LoopPlan::default();
        for key in needs.pointers {
            let (param, offset) = &key;
            if !offset.mentions(&f.var) {
                if self.scopes.knows(offset) {
                    self.pointer(*param, offset)?;
                }
                continue;
            }
            let Some(slope) = slope(offset, &f.var) else { continue };
            let start = offset.subst(&|name| (*name == *f.var).then(|| f.lo.clone()));
            if !self.scopes.knows(&slope) || !self.scopes.knows(&start) || plan.keys.len() >= MAX_MOVING {
                continue;
            }
            let step = slope * f.step.into() * self.element_bytes(*param).into();
            let start = self.start_pointer(*param, &start)?;
            plan.steps.push(match step.as_const() {
                Some(bytes) => Advance::Bytes(bytes),
                None => Advance::Value(self.extent(&step)?),
            });
            plan.starts.push(start);
            plan.keys.push(key);
        }
        Ok(plan)
    }

    fn start_pointer(&mut self, param: Param, offset: &Extent) -> Result<clif::Value, CodegenError> {
        let (moving, constant) = split(offset);
        let pointer = self.pointer(param, &moving)?;
        let bytes = constant.saturating_mul(self.element_bytes(param));
        Ok(if bytes == 0 { pointer } else { self.b.ins().iadd_imm_s(pointer, bytes) })
    }
}

/// Offset without its constant, and the constant.
fn split(offset: &Extent) -> (Extent, i64) {
    let (_, constant) = offset.terms();
    (offset.clone() - constant.into(), constant)
}

/// The factor of `var` when the extent is affine in it and the factor does not mention it.
fn slope(extent: &Extent, var: &Sym) -> Option<Extent> {
    let mut slope = Extent::ZERO;
    for (atoms, coefficient) in extent.terms().0 {
        let is_var = |atom: &Atom| matches!(atom, Atom::Sym(name) if name == var);
        let mut factors = atoms.iter();
        let found = atoms.iter().filter(|a| is_var(a)).count();
        let rest = factors.by_ref().filter(|a| !is_var(a)).fold(Extent::from(*coefficient), |p, a| p * of_atom(a));
        if rest.mentions(var) || found > 1 {
            return None;
        }
        if found == 1 {
            slope = slope + rest;
        }
    }
    Some(slope)
}

fn of_atom(atom: &Atom) -> Extent {
    match atom {
        Atom::Sym(name) => Extent::sym(name.clone()),
        Atom::FloorDiv(a, b) => a.floordiv(b),
        Atom::Min(a, b) => a.minimum(b),
        Atom::Max(a, b) => a.maximum(b),
    }
}

/// Worth a register outside of a loop: more than sums.
fn is_costly(extent: &Extent) -> bool {
    extent.terms().0.iter().any(|(atoms, _)| atoms.len() > 1 || !matches!(atoms[0], Atom::Sym(_)))
}

/// Pointers and extents that a block needs, as far as they can be told at its start. Ordered by first use.
#[derive(Default)]
struct Needs {
    pointers: Vec<Key>,
    seen: BTreeSet<Key>,
    extents: Vec<Extent>,
}

impl Needs {
    fn pointer(&mut self, param: Param, offset: &Extent) {
        let key = (param, split(offset).0);
        if self.seen.insert(key.clone()) {
            self.pointers.push(key);
        }
    }

    fn block(&mut self, block: &Block) {
        for stmt in &block.stmts {
            match stmt {
                Stmt::Let { op: Op::Load(addr), .. } | Stmt::Store { addr, .. } => {
                    self.pointer(addr.param, &addr.offset)
                }
                Stmt::Let { op: Op::Extent(extent), .. } => self.extents.push(extent.clone()),
                Stmt::Let { .. } | Stmt::Bind { .. } | Stmt::Prefetch { .. } => {}
                Stmt::For(f) => self.inner_loop(f),
                Stmt::If { cond, then, other, .. } => {
                    self.cond(cond);
                    self.block(then);
                    self.block(other);
                }
                Stmt::Guard { cond, .. } => self.cond(cond),
            }
        }
    }

    fn cond(&mut self, cond: &Cond) {
        if let Cond::Extent(a, _, b) = cond {
            self.extents.extend([a.clone(), b.clone()]);
        }
    }

    /// What an inner loop needs at its start.
    fn inner_loop(&mut self, f: &For) {
        self.extents.extend([f.lo.clone(), f.hi.clone()]);
        let mut inner = Needs::default();
        inner.block(&f.body);
        self.extents.extend(inner.extents.into_iter().filter(|e| !e.mentions(&f.var)));
        for (param, offset) in inner.pointers {
            if !offset.mentions(&f.var) {
                self.pointer(param, &offset);
            } else if slope(&offset, &f.var).is_some() {
                self.pointer(param, &offset.subst(&|name| (*name == *f.var).then(|| f.lo.clone())));
            }
        }
    }
}
