//! Verifier of kernels. All violations are reported; code is only made of kernels without any.
//!
//! 1. Names of parameters, dimensions, loop variables and bound indices are identifiers; parameters differ from each
//!    other, symbols are not defined twice in one scope.
//! 2. Every value is defined once, before its uses, in the same block or one around it.
//! 3. Every symbol of an extent is a dimension, `lo`, `hi`, or a loop variable or bound index in scope.
//! 4. Lane counts are powers of two up to [`MAX_LANES`]; parameters have no sub-byte dtype.
//! 5. Operand and result types are those that [`super::ir`] states for the operation.
//! 6. Constants fit their element; a list has one entry per lane.
//! 7. Loads and stores move the memory form of the parameter's dtype; stores go to writable parameters.
//! 8. Steps are positive; carried values and yields agree in number and type; guards return another status than zero.

use std::collections::BTreeSet;

use adze_ir::extent::{Extent, Sym};
use adze_ir::types::DType;
use thiserror::Error;

use super::ir::*;
use super::text::print_stmt;
use super::types::{Elem, MAX_LANES, Type};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{stmt}`: {problem}")]
pub struct Violation {
    /// First line of the statement, or `kernel`.
    pub stmt: String,
    /// What is wrong.
    pub problem: String,
}

/// All broken invariants of a kernel.
pub fn verify(kernel: &Kernel) -> Vec<Violation> {
    let mut verifier =
        Verifier { kernel, found: Vec::new(), defined: Vec::new(), ever: BTreeSet::new(), symbols: vec![] };
    verifier.header();
    verifier.block(&kernel.body, &mut |_| {});
    verifier.found
}

/// Whether a name can be spelt in text.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && !name.contains("..")
        && !["floordiv", "min", "max"].contains(&name)
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    found: Vec<Violation>,
    /// Values in scope, innermost last.
    defined: Vec<Value>,
    /// Values defined anywhere so far.
    ever: BTreeSet<Value>,
    symbols: Vec<Sym>,
}

type Check = Result<(), String>;

fn need(holds: bool, problem: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(problem()) }
}

/// Whether so many lanes are some of a vector's and not all.
fn first(ty: Type, count: u16) -> Check {
    need(count > 0 && count < ty.lanes, || format!("the first {count} lanes of `{ty}`"))
}

impl Verifier<'_> {
    fn report(&mut self, stmt: Option<&Stmt>, result: Check) {
        if let Err(problem) = result {
            let stmt = stmt.map_or_else(|| "kernel".into(), |s| print_stmt(self.kernel, s));
            self.found.push(Violation { stmt, problem });
        }
    }

    fn header(&mut self) {
        let kernel = self.kernel;
        let mut names = BTreeSet::new();
        for param in kernel.params.values() {
            self.report(None, need(is_identifier(&param.name), || format!("`{}` is no identifier", param.name)));
            self.report(None, need(names.insert(&param.name), || format!("parameter `{}` twice", param.name)));
        }
        for name in [LO, HI] {
            self.symbols.push(name.into());
        }
        for dim in &kernel.dims {
            self.define_symbol(None, &dim.name);
        }
        for (value, ty) in &kernel.values {
            let fits = ty.lanes.is_power_of_two() && ty.lanes <= MAX_LANES;
            self.report(None, need(fits, || format!("{value} has type `{ty}`")));
        }
    }

    fn define_symbol(&mut self, stmt: Option<&Stmt>, name: &Sym) {
        self.report(stmt, need(is_identifier(name), || format!("`{name}` is no identifier")));
        let fresh = !self.symbols.contains(name);
        self.report(stmt, need(fresh, || format!("symbol `{name}` is already defined")));
        self.symbols.push(name.clone());
    }

    fn define(&mut self, stmt: &Stmt, value: Value) {
        let known = self.kernel.values.is_valid(value);
        self.report(Some(stmt), need(known, || format!("{value} has no type")));
        let fresh = self.ever.insert(value);
        self.report(Some(stmt), need(fresh, || format!("{value} is defined twice")));
        self.defined.push(value);
    }

    fn usable(&self, value: Value) -> Result<Type, String> {
        need(self.defined.contains(&value), || format!("{value} is not defined here"))?;
        self.kernel.values.get(value).copied().ok_or_else(|| format!("{value} has no type"))
    }

    fn extent(&self, extent: &Extent) -> Check {
        let mut symbols = BTreeSet::new();
        extent.symbols(&mut symbols);
        let unknown: Vec<&str> = symbols.iter().filter(|s| !self.symbols.contains(s)).map(|s| &**s).collect();
        need(unknown.is_empty(), || format!("unknown symbols {}", unknown.join(", ")))
    }

    /// Checks statements in a scope of their own; `last` runs while the scope is open.
    fn block(&mut self, stmts: &[Stmt], last: &mut dyn FnMut(&mut Self)) {
        let (values, symbols) = (self.defined.len(), self.symbols.len());
        for stmt in stmts {
            self.stmt(stmt);
        }
        last(self);
        self.defined.truncate(values);
        self.symbols.truncate(symbols);
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { result, op } => {
                let known = self.kernel.values.get(*result).copied();
                let check = known.map_or(Ok(()), |ty| self.op(ty, op));
                self.report(Some(stmt), check);
                self.define(stmt, *result);
            }
            Stmt::Store { addr, value } => {
                let check = self.store(addr, *value);
                self.report(Some(stmt), check);
            }
            Stmt::StoreFirst { addr, count, value } => {
                let check = self.store(addr, *value).and_then(|()| first(self.kernel.values[*value], *count));
                self.report(Some(stmt), check);
            }
            Stmt::Bind { sym, value } => {
                let check =
                    self.usable(*value).and_then(|ty| need(ty == Type::I64, || format!("index of type `{ty}`")));
                self.report(Some(stmt), check);
                self.define_symbol(Some(stmt), sym);
            }
            Stmt::For(f) => self.for_loop(stmt, f),
            Stmt::If { cond, then, other, results } => {
                let check = self.cond(cond);
                self.report(Some(stmt), check);
                for block in [then, other] {
                    self.block(&block.stmts, &mut |s| s.yields(stmt, &block.yields, results));
                }
                results.iter().for_each(|&r| self.define(stmt, r));
            }
            Stmt::Guard { cond, status } => {
                let check = self.cond(cond).and_then(|()| need(*status != STATUS_OK, || "guard with status 0".into()));
                self.report(Some(stmt), check);
            }
            Stmt::Prefetch { addr } => {
                let check = self.addr(addr).map(|_| ());
                self.report(Some(stmt), check);
            }
        }
    }

    fn yields(&mut self, stmt: &Stmt, yields: &[Value], results: &[Value]) {
        let count = need(yields.len() == results.len(), || format!("{} yields for {}", yields.len(), results.len()));
        self.report(Some(stmt), count);
        for (&y, &r) in yields.iter().zip(results) {
            let wanted = self.kernel.values.get(r).copied();
            let check =
                self.usable(y).and_then(|ty| need(Some(ty) == wanted, || format!("yields {y} of type `{ty}` for {r}")));
            self.report(Some(stmt), check);
        }
    }

    fn for_loop(&mut self, stmt: &Stmt, f: &For) {
        let bounds = self.extent(&f.lo).and(self.extent(&f.hi));
        self.report(Some(stmt), bounds);
        self.report(Some(stmt), need(f.step > 0, || format!("step {}", f.step)));
        let counts = f.inits.len() == f.args.len() && f.args.len() == f.results.len();
        self.report(Some(stmt), need(counts, || "carried values differ in number".into()));
        self.yields(stmt, &f.inits, &f.args);
        let (values, symbols) = (self.defined.len(), self.symbols.len());
        self.define_symbol(Some(stmt), &f.var);
        f.args.iter().for_each(|&a| self.define(stmt, a));
        self.block(&f.body.stmts, &mut |s| s.yields(stmt, &f.body.yields, &f.args));
        self.defined.truncate(values);
        self.symbols.truncate(symbols);
        self.yields(stmt, &f.inits, &f.results);
        f.results.iter().for_each(|&r| self.define(stmt, r));
    }

    fn cond(&self, cond: &Cond) -> Check {
        match cond {
            Cond::Extent(a, cmp, b) => {
                self.extent(a)?;
                self.extent(b)?;
                let signed = !matches!(cmp, Cmp::LtU | Cmp::LeU | Cmp::GtU | Cmp::GeU);
                need(signed, || "extents compare signed".into())
            }
            Cond::Value(value) => {
                let ty = self.usable(*value)?;
                need(ty.is_scalar() && ty.elem.is_mask(), || format!("condition of type `{ty}`"))
            }
        }
    }

    fn addr(&self, addr: &Addr) -> Result<&ParamDecl, String> {
        self.extent(&addr.offset)?;
        self.kernel.params.get(addr.param).ok_or_else(|| "unknown parameter".into())
    }

    fn store(&self, addr: &Addr, value: Value) -> Check {
        let decl = self.addr(addr)?;
        need(decl.access.writes(), || format!("`{}` is read only", decl.name))?;
        let ty = self.usable(value)?;
        need(memory_elem(decl.dtype) == ty.elem, || format!("`{ty}` into `{}`", decl.dtype))
    }

    fn same(&self, values: &[Value], ty: Type) -> Check {
        values.iter().try_for_each(|&v| {
            let found = self.usable(v)?;
            need(found == ty, || format!("{v} has type `{found}`, wanted `{ty}`"))
        })
    }

    fn op(&self, ty: Type, op: &Op) -> Check {
        let elem = ty.elem;
        match op {
            Op::Const(bits) => constant(ty, bits),
            Op::Extent(extent) => {
                self.extent(extent)?;
                need(ty == Type::I64, || "an extent is an `i64`".into())
            }
            Op::Splat(a) => self.same(&[*a], ty.with_lanes(1)),
            Op::Load(addr) => {
                let decl = self.addr(addr)?;
                need(memory_elem(decl.dtype) == elem, || format!("`{ty}` from `{}`", decl.dtype))
            }
            Op::LoadFirst(addr, count) => {
                let decl = self.addr(addr)?;
                need(memory_elem(decl.dtype) == elem, || format!("`{ty}` from `{}`", decl.dtype))?;
                first(ty, *count)
            }
            Op::Un(op, a) => {
                self.same(&[*a], ty)?;
                let fits = match op {
                    UnOp::Neg | UnOp::Abs => !elem.is_mask(),
                    UnOp::Not => !elem.is_float(),
                    _ => elem.is_float(),
                };
                need(fits, || format!("`{op}` of `{ty}`"))
            }
            Op::Bin(op, a, b) => {
                self.same(&[*a, *b], ty)?;
                need(bin_fits(*op, elem), || format!("`{op}` of `{ty}`"))
            }
            Op::Shift(op, a, by) => {
                self.same(&[*a], ty)?;
                self.same(&[*by], Type::I32)?;
                need(elem.is_int(), || format!("`{op}` of `{ty}`"))
            }
            Op::Fma(a, b, c) | Op::MulAdd(a, b, c) => {
                self.same(&[*a, *b, *c], ty)?;
                need(elem.is_float(), || format!("of `{ty}`"))
            }
            Op::Cmp(cmp, a, b) => {
                let of = self.usable(*a)?;
                self.same(&[*b], of)?;
                need(of.mask() == ty, || format!("comparison of `{of}` is `{}`", of.mask()))?;
                let unsigned = matches!(cmp, Cmp::LtU | Cmp::LeU | Cmp::GtU | Cmp::GeU);
                need(of.elem.is_int() || of.elem.is_float() && !unsigned, || format!("`{cmp}` of `{of}`"))
            }
            Op::Select(mask, a, b) => {
                self.same(&[*mask], ty.mask())?;
                self.same(&[*a, *b], ty)
            }
            Op::Cvt(cvt, a) => cvt_fits(*cvt, self.usable(*a)?, ty),
            Op::Reduce(op, a) => {
                let of = self.usable(*a)?;
                need(of.with_lanes(1) == ty && !of.is_scalar(), || format!("`{of}` to `{ty}`"))?;
                let fits =
                    !matches!(op, BinOp::Sub | BinOp::Div | BinOp::DivS | BinOp::DivU | BinOp::RemS | BinOp::RemU);
                need(fits && bin_fits(*op, elem) && !(elem.is_mask() && *op == BinOp::Xor), || {
                    format!("`{op}` of `{of}`")
                })
            }
            Op::Extract(a, lane) => {
                let of = self.usable(*a)?;
                need(of.with_lanes(1) == ty && *lane < of.lanes, || format!("lane {lane} of `{of}`"))
            }
            Op::Insert(a, lane, scalar) => {
                self.same(&[*a], ty)?;
                self.same(&[*scalar], ty.with_lanes(1))?;
                need(*lane < ty.lanes, || format!("lane {lane} of `{ty}`"))
            }
            Op::Shuffle(a, b, pick) => {
                let of = self.usable(*a)?;
                self.same(&[*b], of)?;
                need(of.with_lanes(ty.lanes) == ty && pick.len() == usize::from(ty.lanes), || {
                    format!("`{of}` to `{ty}`")
                })?;
                need(pick.iter().all(|&p| u32::from(p) < 2 * u32::from(of.lanes)), || "lane out of range".into())
            }
            Op::Dot4 { acc, a, b, .. } => {
                self.same(&[*acc], ty)?;
                need(elem == Elem::I32 && ty.lanes <= MAX_LANES / 4, || format!("sum of type `{ty}`"))?;
                self.same(&[*a, *b], Type::vec(Elem::I8, 4 * ty.lanes))
            }
        }
    }
}

fn constant(ty: Type, bits: &[u64]) -> Check {
    need(bits.len() == 1 || bits.len() == usize::from(ty.lanes), || format!("{} lanes for `{ty}`", bits.len()))?;
    let limit = if ty.elem.is_mask() { 1 } else { u64::MAX >> (64 - ty.elem.bits()) };
    need(bits.iter().all(|&b| b <= limit), || format!("constant too wide for `{ty}`"))
}

fn bin_fits(op: BinOp, elem: Elem) -> bool {
    match op {
        BinOp::Add | BinOp::Sub | BinOp::Mul => !elem.is_mask(),
        BinOp::Div | BinOp::Min | BinOp::Max | BinOp::MinSel | BinOp::MaxSel => elem.is_float(),
        BinOp::And | BinOp::Or | BinOp::Xor => !elem.is_float(),
        _ => elem.is_int(),
    }
}

fn cvt_fits(cvt: Cvt, from: Type, to: Type) -> Check {
    let (a, b) = (from.elem, to.elem);
    let same_kind = a.is_int() && b.is_int() || a.is_mask() && b.is_mask();
    let wide_int = |e: Elem| matches!(e, Elem::I32 | Elem::I64);
    let fits = match cvt {
        Cvt::SExt => same_kind && a.bits() < b.bits(),
        Cvt::UExt => a.is_int() && b.is_int() && a.bits() < b.bits(),
        Cvt::Wrap => same_kind && a.bits() > b.bits(),
        Cvt::SatS | Cvt::SatU => a.is_int() && b.is_int() && a.bits() > b.bits(),
        Cvt::Promote => (a, b) == (Elem::F32, Elem::F64),
        Cvt::Demote => (a, b) == (Elem::F64, Elem::F32),
        Cvt::FromS | Cvt::FromU => wide_int(a) && b.is_float(),
        Cvt::ToS | Cvt::ToU => a.is_float() && wide_int(b),
        Cvt::FromF16 | Cvt::FromBf16 => (a, b) == (Elem::I16, Elem::F32),
        Cvt::ToF16 | Cvt::ToBf16 => (a, b) == (Elem::F32, Elem::I16),
        Cvt::Bits => from.bits() == to.bits(),
    };
    let lanes = cvt == Cvt::Bits || from.lanes == to.lanes;
    need(fits && lanes, || format!("`{cvt}` from `{from}` to `{to}`"))
}

/// The element that loads and stores of a parameter have; parameters of 4-bit types are memory of whole bytes.
fn memory_elem(dtype: DType) -> Elem {
    Elem::of_memory(dtype).unwrap_or(Elem::I8)
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::verify;

    fn violations(body: &str) -> Vec<String> {
        let text = format!("kernel @k(x: f32 in, y: f32 out, h: f16 in) dims(n = 0) {{\n{body}\n}}\n");
        let kernel = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        verify(&kernel).into_iter().map(|v| v.problem).collect()
    }

    #[test]
    fn each_invariant_is_checked() {
        let cases = [
            ("for n in 0..4 step 1 {\n}", "symbol `n` is already defined"),
            ("bind min = %0\n%0 = extent n : i64", "`min` is no identifier"),
            ("store y[0], %0\n%0 = const 1.0 : f32", "%0 is not defined here"),
            ("if n < 1 {\n%0 = const 1.0 : f32\n}\nstore y[0], %0", "%0 is not defined here"),
            ("%0 = load x[m] : f32", "unknown symbols m"),
            ("%0 = const 1.0 : f32x3", "%0 has type `f32x3`"),
            ("%0 = const 1.0 : f32\n%1 = and %0, %0 : f32", "`and` of `f32`"),
            ("%0 = const 1.0 : f32\n%1 = splat %0 : f64x2", "%0 has type `f32`, wanted `f64`"),
            ("%0 = const 1.0 : f32\n%1 = cvt.sext %0 : f64", "`sext` from `f32` to `f64`"),
            ("%0 = const [1.0, 2.0] : f32x4", "2 lanes for `f32x4`"),
            ("%0 = load h[0] : f32", "`f32` from `f16`"),
            ("%0 = const 1.0 : f32\nstore x[0], %0", "`x` is read only"),
            ("for i in 0..n step 0 {\n}", "step 0"),
            ("guard n < 3 else 0", "guard with status 0"),
            ("%0 = const 1.0 : f32x4\n%1 = extract %0, [4] : f32", "lane 4 of `f32x4`"),
            ("%0 = const 1 : i32\nif %0 {\n}", "condition of type `i32`"),
        ];
        for (body, problem) in cases {
            let found = violations(body);
            assert!(found.iter().any(|f| f == problem), "{body}: {found:?}, wanted {problem}");
        }
    }

    #[test]
    fn all_violations_are_reported() {
        assert_eq!(violations("%0 = load x[m] : f32\nstore x[0], %0\nguard k < 1 else 0").len(), 3);
    }
}
