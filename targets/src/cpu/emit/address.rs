//! Addresses: what a loop body needs is split into a part that never changes (computed before the loop), a pointer that
//! advances with the loop variable, and a constant displacement, so that inner loops multiply nothing.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::extent::{Atom, Extent, Sym};

use super::super::kernel::ir::{Addr, Block, Cond, For, Kernel, Op, Param, Stmt};
use super::super::machine::CodegenError;

/// What a machine's loads and stores and its registers allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Displacements are in `-bytes..bytes`; a power of two that is at least the largest element.
    pub bytes: i64,
    /// Most pointers that one loop advances; further ones are recomputed from the loop variable.
    pub moving: usize,
}

impl Default for Reach {
    /// Displacements of 32 bits.
    fn default() -> Self {
        Self { bytes: 1 << 30, moving: 10 }
    }
}

/// 64-bit arithmetic of an emitter; results are values that stay what they are.
pub(super) trait Scalars {
    /// A register with a 64-bit integer.
    type Value: Copy;
    /// A number.
    fn number(&mut self, value: i64) -> Self::Value;
    /// `a + b`.
    fn add(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a + by`.
    fn add_number(&mut self, a: Self::Value, by: i64) -> Self::Value;
    /// `a * b`.
    fn mul(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a * by`, where `by` is neither 0 nor 1.
    fn mul_number(&mut self, a: Self::Value, by: i64) -> Self::Value;
    /// `a >> by`, copying the sign.
    fn shift_right(&mut self, a: Self::Value, by: u32) -> Self::Value;
    /// The smaller one.
    fn min(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// The larger one.
    fn max(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a / b`, rounded down. Hoisting may evaluate a division whose loop never runs: a divisor below 1 must not trap.
    fn floor_div(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
}

/// A pointer: parameter and offset in elements without its constant.
type Key = (Param, Extent);

/// How far a pointer moves per iteration.
#[derive(Clone, Copy)]
pub(super) enum Advance<V> {
    /// A constant number of bytes.
    Bytes(i64),
    /// A computed number of bytes.
    Value(V),
}

/// The moving pointers of a loop.
pub(super) struct LoopPlan<V> {
    keys: Vec<Key>,
    /// Value of each pointer at the first iteration.
    pub starts: Vec<V>,
    /// Movement of each pointer.
    pub steps: Vec<Advance<V>>,
}

/// Symbols, computed extents and pointers that are in scope, innermost block last.
pub(super) struct Scopes<'a, V> {
    kernel: &'a Kernel,
    reach: Reach,
    bases: BTreeMap<Param, V>,
    open: Vec<Scope<V>>,
}

struct Scope<V> {
    symbols: BTreeMap<Sym, V>,
    extents: BTreeMap<Extent, V>,
    pointers: BTreeMap<Key, V>,
}

impl<V> Default for Scope<V> {
    fn default() -> Self {
        Self { symbols: BTreeMap::new(), extents: BTreeMap::new(), pointers: BTreeMap::new() }
    }
}

impl<'a, V: Copy> Scopes<'a, V> {
    /// Nothing is known yet; [`Scopes::open`] comes first.
    pub(super) fn new(kernel: &'a Kernel, reach: Reach) -> Self {
        Self { kernel, reach, bases: BTreeMap::new(), open: Vec::new() }
    }

    pub(super) fn open(&mut self) {
        self.open.push(Scope::default());
    }

    pub(super) fn close(&mut self) {
        self.open.pop();
    }

    fn top(&mut self) -> &mut Scope<V> {
        self.open.last_mut().expect("a scope is open while statements are emitted")
    }

    /// The address of a parameter.
    pub(super) fn define_base(&mut self, param: Param, value: V) {
        self.bases.insert(param, value);
    }

    pub(super) fn define(&mut self, sym: Sym, value: V) {
        self.top().symbols.insert(sym, value);
    }

    pub(super) fn define_pointers(&mut self, plan: &LoopPlan<V>, moving: &[V]) {
        for (key, &value) in plan.keys.iter().zip(moving) {
            self.top().pointers.insert(key.clone(), value);
        }
    }

    fn symbol(&self, name: &str) -> Option<V> {
        self.open.iter().rev().find_map(|scope| scope.symbols.get(name).copied())
    }

    fn knows(&self, extent: &Extent) -> bool {
        let mut symbols = BTreeSet::new();
        extent.symbols(&mut symbols);
        symbols.iter().all(|s| self.symbol(s).is_some())
    }

    fn known_pointer(&self, key: &Key) -> Option<V> {
        self.open.iter().rev().find_map(|scope| scope.pointers.get(key).copied())
    }

    /// The value of an extent.
    ///
    /// # Errors
    /// [`CodegenError::Malformed`] names a symbol that is not defined.
    pub(super) fn extent<C: Scalars<Value = V>>(&mut self, c: &mut C, extent: &Extent) -> Result<V, CodegenError> {
        if let Some(value) = extent.as_const() {
            return Ok(c.number(value));
        }
        if let Some(value) = self.open.iter().rev().find_map(|scope| scope.extents.get(extent).copied()) {
            return Ok(value);
        }
        let value = self.compute(c, extent)?;
        if extent.as_sym().is_none() {
            self.top().extents.insert(extent.clone(), value);
        }
        Ok(value)
    }

    fn compute<C: Scalars<Value = V>>(&mut self, c: &mut C, extent: &Extent) -> Result<V, CodegenError> {
        let (terms, constant) = extent.terms();
        let mut sum = None;
        for (atoms, coefficient) in terms {
            let mut product = None;
            for atom in atoms {
                let factor = self.atom(c, atom)?;
                product = Some(product.map_or(factor, |p| c.mul(p, factor)));
            }
            let product = match product {
                Some(product) if *coefficient == 1 => product,
                Some(product) => c.mul_number(product, *coefficient),
                None => c.number(*coefficient),
            };
            sum = Some(sum.map_or(product, |s| c.add(s, product)));
        }
        Ok(match sum {
            None => c.number(constant),
            Some(sum) if constant == 0 => sum,
            Some(sum) => c.add_number(sum, constant),
        })
    }

    fn atom<C: Scalars<Value = V>>(&mut self, c: &mut C, atom: &Atom) -> Result<V, CodegenError> {
        match atom {
            Atom::Sym(name) => self.symbol(name).ok_or_else(|| CodegenError::Malformed {
                kernel: self.kernel.name.clone(),
                problem: format!("symbol `{name}` is not defined"),
            }),
            Atom::Min(x, y) => {
                let (x, y) = (self.extent(c, x)?, self.extent(c, y)?);
                Ok(c.min(x, y))
            }
            Atom::Max(x, y) => {
                let (x, y) = (self.extent(c, x)?, self.extent(c, y)?);
                Ok(c.max(x, y))
            }
            Atom::FloorDiv(x, y) => {
                let dividend = self.extent(c, x)?;
                match y.as_const() {
                    Some(d) if d > 0 && d & (d - 1) == 0 => Ok(c.shift_right(dividend, d.trailing_zeros())),
                    _ => {
                        let divisor = self.extent(c, y)?;
                        Ok(c.floor_div(dividend, divisor))
                    }
                }
            }
        }
    }

    fn element_bytes(&self, param: Param) -> i64 {
        element_bytes(self.kernel, param)
    }

    /// An offset without the displacement in bytes that an access can hold.
    fn split(&self, param: Param, offset: &Extent) -> (Extent, i32) {
        split(self.kernel, self.reach, param, offset)
    }

    /// Base register and displacement in bytes of an access.
    pub(super) fn address<C: Scalars<Value = V>>(&mut self, c: &mut C, addr: &Addr) -> Result<(V, i32), CodegenError> {
        let (moving, disp) = self.split(addr.param, &addr.offset);
        Ok((self.pointer(c, addr.param, &moving)?, disp))
    }

    /// `base + offset`, remembered in the innermost scope.
    fn pointer<C: Scalars<Value = V>>(&mut self, c: &mut C, param: Param, offset: &Extent) -> Result<V, CodegenError> {
        let base = self.bases[&param];
        if *offset == Extent::ZERO {
            return Ok(base);
        }
        let key = (param, offset.clone());
        if let Some(pointer) = self.known_pointer(&key) {
            return Ok(pointer);
        }
        let bytes = offset.clone() * self.element_bytes(param).into();
        let bytes = self.extent(c, &bytes)?;
        let pointer = c.add(base, bytes);
        self.top().pointers.insert(key, pointer);
        Ok(pointer)
    }

    /// Prepares a loop, before its first iteration: computes what its body needs and does not change, and the start and
    /// step of what moves with the loop variable.
    pub(super) fn plan_loop<C: Scalars<Value = V>>(&mut self, c: &mut C, f: &For) -> Result<LoopPlan<V>, CodegenError> {
        let mut needs = Needs::new(self.kernel, self.reach);
        needs.block(&f.body);
        for extent in &needs.extents {
            if is_costly(extent) && !extent.mentions(&f.var) && self.knows(extent) {
                self.extent(c, extent)?;
            }
        }
        let mut plan = LoopPlan { keys: Vec::new(), starts: Vec::new(), steps: Vec::new() };
        for key in needs.pointers {
            let (param, offset) = &key;
            if !offset.mentions(&f.var) {
                if self.knows(offset) {
                    self.pointer(c, *param, offset)?;
                }
                continue;
            }
            let Some(slope) = slope(offset, &f.var) else { continue };
            let start = offset.subst(&|name| (*name == *f.var).then(|| f.lo.clone()));
            if !self.knows(&slope) || !self.knows(&start) || plan.keys.len() >= self.reach.moving {
                continue;
            }
            let step = slope * f.step.into() * self.element_bytes(*param).into();
            let start = self.start_pointer(c, *param, &start)?;
            plan.steps.push(match step.as_const() {
                Some(bytes) => Advance::Bytes(bytes),
                None => Advance::Value(self.extent(c, &step)?),
            });
            plan.starts.push(start);
            plan.keys.push(key);
        }
        Ok(plan)
    }

    fn start_pointer<C: Scalars<Value = V>>(
        &mut self,
        c: &mut C,
        param: Param,
        offset: &Extent,
    ) -> Result<V, CodegenError> {
        let (moving, bytes) = self.split(param, offset);
        let pointer = self.pointer(c, param, &moving)?;
        Ok(if bytes == 0 { pointer } else { c.add_number(pointer, bytes.into()) })
    }
}

fn element_bytes(kernel: &Kernel, param: Param) -> i64 {
    i64::from(kernel.params[param].dtype.bits().div_ceil(8))
}

/// An offset in elements without the displacement in bytes that an access can hold: accesses near each other share a
/// pointer.
fn split(kernel: &Kernel, reach: Reach, param: Param, offset: &Extent) -> (Extent, i32) {
    let (element, window) = (element_bytes(kernel, param), 2 * reach.bytes);
    let (_, constant) = offset.terms();
    let bytes = constant.saturating_mul(element);
    let far = bytes.saturating_add(reach.bytes).div_euclid(window) * (window / element);
    match i32::try_from(bytes.wrapping_sub(far.wrapping_mul(element))) {
        Ok(near) => (offset.clone() - constant.into() + far.into(), near),
        // An offset beyond all memory.
        Err(_) => (offset.clone(), 0),
    }
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
struct Needs<'a> {
    kernel: &'a Kernel,
    reach: Reach,
    pointers: Vec<Key>,
    seen: BTreeSet<Key>,
    extents: Vec<Extent>,
}

impl<'a> Needs<'a> {
    fn new(kernel: &'a Kernel, reach: Reach) -> Self {
        Self { kernel, reach, pointers: Vec::new(), seen: BTreeSet::new(), extents: Vec::new() }
    }

    fn pointer(&mut self, param: Param, offset: &Extent) {
        let key = (param, split(self.kernel, self.reach, param, offset).0);
        if self.seen.insert(key.clone()) {
            self.pointers.push(key);
        }
    }

    fn block(&mut self, block: &Block) {
        for stmt in &block.stmts {
            match stmt {
                Stmt::Let { op: Op::Load(addr) | Op::LoadFirst(addr, _), .. }
                | Stmt::Store { addr, .. }
                | Stmt::StoreFirst { addr, .. } => self.pointer(addr.param, &addr.offset),
                Stmt::Let { op: Op::Extent(extent), .. } => self.extents.push(extent.clone()),
                Stmt::Prefetch { addr } => self.pointer(addr.param, &addr.offset),
                Stmt::Let { .. } | Stmt::Bind { .. } => {}
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
        let mut inner = Needs::new(self.kernel, self.reach);
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
