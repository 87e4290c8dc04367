//! A kernel as a C function: values are variables, vectors are small arrays, operations on them loops over the lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use adze_ir::extent::{Extent, Sym};
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap};

use super::super::kernel::ir::{Addr, Block, Cond, Cvt, For, HI, Kernel, LO, Op, Param, Stmt, Value};
use super::super::kernel::types::{Elem, Type};
use super::super::machine::CodegenError;
use super::names::Names;
use super::{extent, ops};

/// Where a value is.
#[derive(Clone, Debug)]
enum Place {
    /// An array with one element per lane.
    Lanes(String),
    /// An expression that is the same for all lanes: a variable or a constant.
    Same(String),
}

impl Place {
    fn at(&self, lane: &str) -> String {
        match self {
            Self::Lanes(name) => format!("{name}[{lane}]"),
            Self::Same(text) => text.clone(),
        }
    }

    fn text(&self) -> &str {
        let (Self::Lanes(text) | Self::Same(text)) = self;
        text
    }
}

/// What of a kernel has an effect.
#[derive(Default)]
struct Live {
    values: BTreeSet<Value>,
    /// Dimensions and the range; while walking back also what is bound further up.
    symbols: BTreeSet<Sym>,
    /// Values bound to a symbol that is used.
    bound: BTreeSet<(Value, Sym)>,
    params: BTreeSet<Param>,
}

impl Live {
    fn extent(&mut self, extent: &Extent) {
        extent.symbols(&mut self.symbols);
    }

    fn addr(&mut self, addr: &Addr) {
        self.params.insert(addr.param);
        self.extent(&addr.offset);
    }

    fn cond(&mut self, cond: &Cond) {
        match cond {
            Cond::Extent(a, _, b) => [a, b].into_iter().for_each(|e| self.extent(e)),
            Cond::Value(value) => {
                self.values.insert(*value);
            }
        }
    }

    /// Definitions stand before their uses, so walking back finds uses first; what a loop yields counts as used.
    fn block(&mut self, stmts: &[Stmt], yields: &[Value]) {
        self.values.extend(yields);
        for stmt in stmts.iter().rev() {
            match stmt {
                Stmt::Let { result, op } if self.values.contains(result) => {
                    op.for_each_operand(|v| {
                        self.values.insert(v);
                    });
                    match op {
                        Op::Load(addr) | Op::LoadFirst(addr, _) => self.addr(addr),
                        Op::Extent(extent) => self.extent(extent),
                        _ => {}
                    }
                }
                Stmt::Let { .. } => {}
                Stmt::Store { addr, value } | Stmt::StoreFirst { addr, value, .. } => {
                    self.values.insert(*value);
                    self.addr(addr);
                }
                Stmt::Bind { sym, value } => {
                    if self.symbols.remove(sym) {
                        self.values.insert(*value);
                        self.bound.insert((*value, sym.clone()));
                    }
                }
                Stmt::For(f) => {
                    self.values.extend(&f.inits);
                    if !never_runs(f) {
                        self.block(&f.body.stmts, &f.body.yields);
                        [&f.lo, &f.hi].into_iter().for_each(|e| self.extent(e));
                    }
                }
                Stmt::If { cond, then, other, .. } => {
                    [then, other].into_iter().for_each(|b| self.block(&b.stmts, &b.yields));
                    self.cond(cond);
                }
                Stmt::Guard { cond, .. } => self.cond(cond),
                Stmt::Prefetch { addr } => self.addr(addr),
            }
        }
    }
}

fn never_runs(f: &For) -> bool {
    f.lo.as_const().zip(f.hi.as_const()).is_some_and(|(lo, hi)| lo >= hi)
}

/// A C function of that name: `int32_t name(<a pointer per parameter>, [dims,] lo, hi)`.
///
/// # Errors
/// [`CodegenError::Unsupported`] for a strict `fma` of `f64`.
pub(super) fn function(kernel: &Kernel, name: &str) -> Result<String, CodegenError> {
    let mut live = Live::default();
    live.block(&kernel.body, &[]);
    let mut names = Names::default();
    let params: PrimaryMap<Param, String> = kernel.params.values().map(|p| names.fresh(&p.name)).collect();
    let mut printer = Printer {
        kernel,
        live,
        names,
        params,
        symbols: BTreeMap::new(),
        places: SecondaryMap::new(),
        out: String::new(),
        depth: 1,
    };
    printer.header(name);
    printer.stmts(&kernel.body)?;
    printer.line("return 0;");
    printer.out.push_str("}\n");
    Ok(printer.out)
}

struct Printer<'a> {
    kernel: &'a Kernel,
    live: Live,
    names: Names,
    params: PrimaryMap<Param, String>,
    symbols: BTreeMap<Sym, String>,
    places: SecondaryMap<Value, Option<Place>>,
    out: String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = 2 * self.depth);
    }

    fn header(&mut self, name: &str) {
        let mut params: Vec<String> = Vec::new();
        for (param, decl) in &self.kernel.params {
            let const_ = if decl.access.writes() { "" } else { "const " };
            params.push(format!("{const_}void *{}", self.params[param]));
        }
        if !self.kernel.dims.is_empty() {
            params.push("const int64_t *dims".into());
        }
        params.extend(["int64_t lo".into(), "int64_t hi".into()]);
        let _ = writeln!(self.out, "static int32_t {name}({}) {{", params.join(", "));
        for param in self.kernel.params.keys() {
            if !self.live.params.contains(&param) {
                self.line(&format!("(void){};", self.params[param]));
            }
        }
        if !self.kernel.dims.is_empty() && !self.kernel.dims.iter().any(|d| self.live.symbols.contains(&d.name)) {
            self.line("(void)dims;");
        }
        for range in [LO, HI] {
            self.symbols.insert(range.into(), range.into());
            if !self.live.symbols.contains(range) {
                self.line(&format!("(void){range};"));
            }
        }
        for dim in &self.kernel.dims {
            if self.live.symbols.contains(&dim.name) {
                self.symbol(&dim.name, &format!("dims[{}]", dim.slot));
            }
        }
    }

    fn symbol(&mut self, name: &Sym, value: &str) {
        let own = self.names.fresh(name);
        self.line(&format!("const int64_t {own} = {value};"));
        self.symbols.insert(name.clone(), own);
    }

    fn extent(&self, e: &Extent) -> String {
        extent::extent(e, &|name| self.symbols.get(name).cloned().unwrap_or_default())
    }

    fn place(&self, value: Value) -> Place {
        // The verifier saw every value defined before its uses.
        self.places[value].clone().unwrap_or_else(|| Place::Same("0".into()))
    }

    fn at(&self, value: Value, lane: &str) -> String {
        self.place(value).at(lane)
    }

    /// Element number `lane` from an address on.
    fn element(&self, addr: &Addr, lane: Option<&str>) -> String {
        let offset = self.extent(&addr.offset);
        let index = match lane {
            None => offset,
            Some(lane) if offset == "0" => lane.to_owned(),
            Some(lane) => format!("{offset} + {lane}"),
        };
        format!("{}, {index}", self.params[addr.param])
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Result<(), CodegenError> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), CodegenError> {
        match stmt {
            Stmt::Let { result, op } if self.live.values.contains(result) => self.define(*result, op)?,
            Stmt::Let { .. } => {}
            Stmt::Store { addr, value } => {
                let ty = self.kernel.values[*value];
                let lane = (!ty.is_scalar()).then_some("l");
                let (element, lanes) = (self.element(addr, lane), lanes(ty));
                let value = self.at(*value, "l");
                self.line(&format!("{lanes}adze_st_{}({element}, {value});", ty.elem));
            }
            Stmt::StoreFirst { addr, count, value } => {
                let ty = self.kernel.values[*value].with_lanes(*count);
                let element = self.element(addr, Some("l"));
                let value = self.at(*value, "l");
                self.line(&format!("LANES({count}) adze_st_{}({element}, {value});", ty.elem));
            }
            Stmt::Bind { sym, value } if !self.live.bound.contains(&(*value, sym.clone())) => {}
            Stmt::Bind { sym, value } => {
                let value = self.at(*value, "0");
                let extent = value.strip_prefix("(uint64_t)(").and_then(|rest| rest.strip_suffix(')'));
                let value = extent.map_or_else(|| format!("(int64_t){value}"), str::to_owned);
                self.symbol(sym, &value);
            }
            Stmt::For(f) => self.for_loop(f)?,
            Stmt::If { cond, then, other, results } => self.branch(cond, then, other, results)?,
            Stmt::Guard { cond, status } => {
                let cond = self.cond(cond);
                self.line(&format!("if (!({cond})) return {status};"));
            }
            Stmt::Prefetch { addr } => {
                let bytes = self.kernel.params[addr.param].dtype.bits().div_ceil(8);
                let element = self.element(addr, None);
                let (base, index) = element.split_once(", ").unwrap_or((&element, "0"));
                self.line(&format!("ADZE_PREFETCH({base}, {index}, {bytes});"));
            }
        }
        Ok(())
    }

    fn cond(&self, cond: &Cond) -> String {
        match cond {
            Cond::Extent(a, cmp, b) => format!("{} {} {}", self.extent(a), ops::sign(*cmp).0, self.extent(b)),
            Cond::Value(value) => self.at(*value, "0"),
        }
    }

    /// Declares the variable of a value, without a value yet.
    fn declare(&mut self, value: Value, ty: Type) -> Place {
        self.variable(format!("v{}", value.index()), ty, None)
    }

    /// Declares a variable, as a copy of another or without a value yet.
    fn variable(&mut self, name: String, ty: Type, from: Option<&Place>) -> Place {
        let c_type = ops::c_type(ty.elem);
        if ty.is_scalar() {
            let value = from.map_or_else(String::new, |place| format!(" = {}", place.text()));
            self.line(&format!("{c_type} {name}{value};"));
            return Place::Same(name);
        }
        self.line(&format!("{c_type} {name}[{}];", ty.lanes));
        let place = Place::Lanes(name);
        if let Some(from) = from {
            self.assign(&place, ty, from);
        }
        place
    }

    fn assign(&mut self, to: &Place, ty: Type, from: &Place) {
        self.line(&format!("{}{} = {};", lanes(ty), to.at("l"), from.at("l")));
    }

    /// Carried values are variables from before the loop to the end of the block around it.
    fn for_loop(&mut self, f: &For) -> Result<(), CodegenError> {
        if never_runs(f) {
            for (&init, &result) in f.inits.iter().zip(&f.results) {
                self.places[result] = Some(self.place(init));
            }
            return Ok(());
        }
        for ((&init, &arg), &result) in f.inits.iter().zip(&f.args).zip(&f.results) {
            let ty = self.kernel.values[arg];
            let place = self.variable(format!("v{}", arg.index()), ty, Some(&self.place(init)));
            if !self.live.values.contains(&arg) && !self.live.values.contains(&result) {
                self.line(&format!("(void){};", place.text()));
            }
            (self.places[arg], self.places[result]) = (Some(place.clone()), Some(place));
        }
        let mut hi = self.extent(&f.hi);
        if f.hi.as_const().is_none() && f.hi.as_sym().is_none() {
            let end = self.names.fresh(&format!("{}_end", f.var));
            self.line(&format!("const int64_t {end} = {hi};"));
            hi = end;
        }
        let (var, lo) = (self.names.fresh(&f.var), self.extent(&f.lo));
        self.symbols.insert(f.var.clone(), var.clone());
        let step = if f.step == 1 { format!("{var}++") } else { format!("{var} += {}", f.step) };
        self.line(&format!("for (int64_t {var} = {lo}; {var} < {hi}; {step}) {{"));
        self.depth += 1;
        self.stmts(&f.body.stmts)?;
        self.carry(f);
        self.depth -= 1;
        self.line("}");
        Ok(())
    }

    /// Hands what the body yields to the next iteration: all at once, so by way of copies when one is another's.
    fn carry(&mut self, f: &For) {
        let places: Vec<(Place, Type)> = f.args.iter().map(|&a| (self.place(a), self.kernel.values[a])).collect();
        let mut yields: Vec<Place> = f.body.yields.iter().map(|&y| self.place(y)).collect();
        let same = |a: &Place, b: &Place| a.text() == b.text();
        let crossed = yields
            .iter()
            .enumerate()
            .any(|(i, y)| places.iter().enumerate().any(|(j, (arg, _))| i != j && same(y, arg)));
        if crossed {
            for (next, (_, ty)) in yields.iter_mut().zip(&places) {
                let name = self.names.fresh("next");
                *next = self.variable(name, *ty, Some(next));
            }
        }
        for (next, (arg, ty)) in yields.iter().zip(&places) {
            if !same(next, arg) {
                self.assign(arg, *ty, next);
            }
        }
    }

    fn branch(&mut self, cond: &Cond, then: &Block, other: &Block, results: &[Value]) -> Result<(), CodegenError> {
        let places: Vec<(Place, Type)> =
            results.iter().map(|&r| (self.declare(r, self.kernel.values[r]), self.kernel.values[r])).collect();
        let cond = self.cond(cond);
        self.line(&format!("if ({cond}) {{"));
        self.side(then, &places)?;
        if !other.stmts.is_empty() || !other.yields.is_empty() {
            self.line("} else {");
            self.side(other, &places)?;
        }
        self.line("}");
        for (&result, (place, _)) in results.iter().zip(&places) {
            if !self.live.values.contains(&result) {
                self.line(&format!("(void){};", place.text()));
            }
            self.places[result] = Some(place.clone());
        }
        Ok(())
    }

    fn side(&mut self, block: &Block, results: &[(Place, Type)]) -> Result<(), CodegenError> {
        self.depth += 1;
        self.stmts(&block.stmts)?;
        for (&value, (place, ty)) in block.yields.iter().zip(results) {
            self.assign(place, *ty, &self.place(value));
        }
        self.depth -= 1;
        Ok(())
    }

    /// `result = op`.
    fn define(&mut self, result: Value, op: &Op) -> Result<(), CodegenError> {
        let ty = self.kernel.values[result];
        let place = match op {
            Op::Const(bits) if bits.iter().all(|b| *b == bits[0]) => Place::Same(ops::literal(ty.elem, bits[0])),
            Op::Const(bits) => {
                let lanes: Vec<String> = bits.iter().map(|b| ops::literal(ty.elem, *b)).collect();
                let (name, c_type) = (format!("v{}", result.index()), ops::c_type(ty.elem));
                self.line(&format!("const {c_type} {name}[{}] = {{{}}};", ty.lanes, lanes.join(", ")));
                Place::Lanes(name)
            }
            Op::Extent(e) => Place::Same(format!("(uint64_t)({})", self.extent(e))),
            Op::Splat(a) => self.place(*a),
            Op::Reduce(op, a) => {
                let a = (self.place(*a), self.kernel.values[*a]);
                self.reduce(result, |x, y| ops::bin(*op, ty.elem, x, y), &a)
            }
            Op::Shuffle(a, b, pick) if !ty.is_scalar() => self.shuffle(result, *a, *b, pick),
            Op::Insert(a, lane, scalar) if !ty.is_scalar() => {
                let place = self.variable(format!("v{}", result.index()), ty, Some(&self.place(*a)));
                self.line(&format!("{} = {};", place.at(&lane.to_string()), self.at(*scalar, "0")));
                place
            }
            Op::Dot4 { a_signed, acc, a, b } => self.dot4(result, *a_signed, [*acc, *a, *b]),
            Op::Fma(..) if ty.elem == Elem::F64 => {
                let (kernel, machine) = (self.kernel.name.clone(), "c99".into());
                return Err(CodegenError::Unsupported { kernel, op: format!("fma : {ty}"), machine });
            }
            _ => self.lane_by_lane(result, op),
        };
        self.places[result] = Some(place);
        Ok(())
    }

    fn lane_by_lane(&mut self, result: Value, op: &Op) -> Place {
        let ty = self.kernel.values[result];
        let name = format!("v{}", result.index());
        if ty.is_scalar() {
            let value = self.lane(ty, op, "0");
            self.line(&format!("const {} {name} = {value};", ops::c_type(ty.elem)));
            return Place::Same(name);
        }
        let place = self.declare(result, ty);
        let value = self.lane(ty, op, "l");
        self.line(&format!("LANES({}) {name}[l] = {value};", ty.lanes));
        place
    }

    /// One lane of an operation that works lane by lane.
    fn lane(&self, ty: Type, op: &Op, i: &str) -> String {
        let (elem, at) = (ty.elem, |v: &Value| self.at(*v, i));
        let of = |v: &Value| self.kernel.values[*v].elem;
        match op {
            Op::Load(addr) => format!("adze_ld_{elem}({})", self.element(addr, (!ty.is_scalar()).then_some(i))),
            Op::LoadFirst(addr, count) => {
                format!("{i} < {count} ? adze_ld_{elem}({}) : 0", self.element(addr, Some(i)))
            }
            Op::Un(op, a) => ops::un(*op, elem, &at(a)),
            Op::Bin(op, a, b) => ops::bin(*op, elem, &at(a), &at(b)),
            Op::Shift(op, a, by) => ops::shift(*op, elem, &at(a), &self.at(*by, "0")),
            Op::Fma(a, b, c) => format!("adze_fma_{elem}({}, {}, {})", at(a), at(b), at(c)),
            Op::MulAdd(a, b, c) => format!("adze_muladd_{elem}({}, {}, {})", at(a), at(b), at(c)),
            Op::Cmp(cmp, a, b) => ops::compare(*cmp, of(a), &at(a), &at(b)),
            Op::Select(mask, a, b) => ops::select(elem, &at(mask), &at(a), &at(b)),
            Op::Cvt(Cvt::Bits, a) => ops::bits(of(a), elem, i, &|lane| self.at(*a, lane)),
            Op::Cvt(cvt, a) => ops::convert(*cvt, of(a), elem, &at(a)),
            Op::Extract(a, lane) => self.at(*a, &lane.to_string()),
            Op::Insert(_, _, scalar) => self.at(*scalar, "0"),
            Op::Shuffle(a, b, pick) => {
                let lanes = self.kernel.values[*a].lanes;
                let (from, lane) = if pick[0] < lanes { (a, pick[0]) } else { (b, pick[0] - lanes) };
                self.at(*from, &lane.to_string())
            }
            Op::Const(_) | Op::Extent(_) | Op::Splat(_) | Op::Reduce(..) | Op::Dot4 { .. } => {
                unreachable!("`define` takes these operations")
            }
        }
    }

    /// Upper half with lower half until one lane is left.
    fn reduce(&mut self, result: Value, op: impl Fn(&str, &str) -> String, (a, ty): &(Place, Type)) -> Place {
        let (name, c_type) = (format!("v{}", result.index()), ops::c_type(ty.elem));
        let mut half = ty.lanes / 2;
        let mut from = a.clone();
        if half > 1 {
            let rest = Place::Lanes(format!("{name}_part"));
            self.line(&format!("{c_type} {}[{half}];", rest.text()));
            while half > 1 {
                let value = op(&from.at("l"), &from.at(&format!("l + {half}")));
                self.line(&format!("LANES({half}) {} = {value};", rest.at("l")));
                from = rest.clone();
                half /= 2;
            }
        }
        self.line(&format!("const {c_type} {name} = {};", op(&from.at("0"), &from.at("1"))));
        Place::Same(name)
    }

    fn shuffle(&mut self, result: Value, a: Value, b: Value, pick: &[u16]) -> Place {
        let (ty, lanes) = (self.kernel.values[result], self.kernel.values[a].lanes);
        let place = self.declare(result, ty);
        let run = pick.windows(2).all(|w| w[1] == w[0] + 1);
        let last = pick[pick.len() - 1];
        if run && (last < lanes || pick[0] >= lanes) {
            let (from, start) = if last < lanes { (a, pick[0]) } else { (b, pick[0] - lanes) };
            let value = self.at(from, &if start == 0 { "l".into() } else { format!("l + {start}") });
            self.line(&format!("LANES({}) {} = {value};", ty.lanes, place.at("l")));
            return place;
        }
        let moves = pick.iter().enumerate().map(|(i, &p)| {
            let (from, lane) = if p < lanes { (a, p) } else { (b, p - lanes) };
            format!("{} = {};", place.at(&i.to_string()), self.at(from, &lane.to_string()))
        });
        let moves = moves.collect::<Vec<_>>().join(" ");
        self.line(&moves);
        place
    }

    fn dot4(&mut self, result: Value, a_signed: bool, [acc, a, b]: [Value; 3]) -> Place {
        let ty = self.kernel.values[result];
        let function = if a_signed { "adze_dot4_s" } else { "adze_dot4_u" };
        let operands = [a, b].map(|v| self.array(v, result));
        let [a, b] = if ty.is_scalar() { operands } else { operands.map(|name| format!("{name} + 4 * l")) };
        let value = format!("{function}({}, {a}, {b})", self.at(acc, "l"));
        if ty.is_scalar() {
            let name = format!("v{}", result.index());
            self.line(&format!("const uint32_t {name} = {value};"));
            return Place::Same(name);
        }
        let place = self.declare(result, ty);
        self.line(&format!("LANES({}) {} = {value};", ty.lanes, place.at("l")));
        place
    }

    /// The array of a vector; one is made for a vector whose lanes are the same.
    fn array(&mut self, value: Value, user: Value) -> String {
        match self.place(value) {
            Place::Lanes(name) => name,
            Place::Same(text) => {
                let ty = self.kernel.values[value];
                let name = self.names.fresh(&format!("bytes_{}_{}", user.index(), value.index()));
                self.line(&format!("{} {name}[{}];", ops::c_type(ty.elem), ty.lanes));
                self.line(&format!("LANES({}) {name}[l] = {text};", ty.lanes));
                name
            }
        }
    }
}

/// What repeats a statement for every lane.
fn lanes(ty: Type) -> String {
    if ty.is_scalar() { String::new() } else { format!("LANES({}) ", ty.lanes) }
}
