//! Kernel to text.

use std::fmt::Write;

use super::super::ir::{Addr, Block, Cmp, Cond, For, Kernel, Op, Stmt, Value};
use super::super::types::{Elem, Type};

/// The text of a kernel; ends with a line break.
pub fn print(kernel: &Kernel) -> String {
    let mut printer = Printer { kernel, out: String::new(), depth: 1 };
    printer.header();
    printer.stmts(&kernel.body);
    printer.out.push_str("}\n");
    printer.out
}

/// The first line of a statement, for messages.
pub fn print_stmt(kernel: &Kernel, stmt: &Stmt) -> String {
    let mut printer = Printer { kernel, out: String::new(), depth: 0 };
    printer.stmt(stmt);
    printer.out.lines().next().unwrap_or_default().to_owned()
}

/// One bit pattern as text: finite floats in decimal, integers signed, masks 0 and 1, the rest as `x` and
/// hexadecimal digits.
fn lane(bits: u64, elem: Elem) -> String {
    match elem {
        Elem::F32 if f32::from_bits(bits as u32).is_finite() => format!("{:?}", f32::from_bits(bits as u32)),
        Elem::F64 if f64::from_bits(bits).is_finite() => format!("{:?}", f64::from_bits(bits)),
        Elem::F32 | Elem::F64 => format!("x{bits:x}"),
        _ if elem.is_mask() => bits.to_string(),
        Elem::I64 if bits == 1 << 63 => format!("x{bits:x}"),
        _ => {
            let unused = 64 - elem.bits();
            (((bits << unused) as i64) >> unused).to_string()
        }
    }
}

/// Spelling of a comparison of extents.
pub(super) const SIGNS: &[(Cmp, &str)] =
    &[(Cmp::Eq, "=="), (Cmp::Ne, "!="), (Cmp::Le, "<="), (Cmp::Lt, "<"), (Cmp::Ge, ">="), (Cmp::Gt, ">")];

struct Printer<'a> {
    kernel: &'a Kernel,
    out: String,
    depth: usize,
}

impl Printer<'_> {
    fn header(&mut self) {
        let params: Vec<String> =
            self.kernel.params.values().map(|p| format!("{}: {} {}", p.name, p.dtype, p.access)).collect();
        let plain = super::super::verify::is_identifier(&self.kernel.name);
        let name = if plain { self.kernel.name.clone() } else { format!("{:?}", self.kernel.name) };
        let _ = write!(self.out, "kernel @{name}({})", params.join(", "));
        if !self.kernel.dims.is_empty() {
            let dims: Vec<String> = self.kernel.dims.iter().map(|d| format!("{} = {}", d.name, d.slot)).collect();
            let _ = write!(self.out, " dims({})", dims.join(", "));
        }
        self.out.push_str(" {\n");
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = 2 * self.depth);
    }

    fn addr(&self, addr: &Addr) -> String {
        let name = self.kernel.params.get(addr.param).map_or("?", |p| &p.name);
        format!("{name}[{}]", addr.offset)
    }

    fn cond(&self, cond: &Cond) -> String {
        match cond {
            Cond::Extent(a, cmp, b) => {
                let sign = SIGNS.iter().find(|(c, _)| c == cmp).map_or("?", |(_, sign)| sign);
                format!("{a} {sign} {b}")
            }
            Cond::Value(value) => value.to_string(),
        }
    }

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    fn block(&mut self, block: &Block) {
        self.depth += 1;
        self.stmts(&block.stmts);
        if !block.yields.is_empty() {
            self.line(&format!("yield {}", list(&block.yields)));
        }
        self.depth -= 1;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { result, op } => {
                let ty = self.kernel.values.get(*result).copied().unwrap_or(Type::I8);
                let text = format!("{result} = {} : {ty}", self.op(op, ty));
                self.line(&text);
            }
            Stmt::Store { addr, value } => self.line(&format!("store {}, {value}", self.addr(addr))),
            Stmt::StoreFirst { addr, count, value } => {
                self.line(&format!("store_first {}, {count}, {value}", self.addr(addr)));
            }
            Stmt::Bind { sym, value } => self.line(&format!("bind {sym} = {value}")),
            Stmt::For(f) => self.for_loop(f),
            Stmt::If { cond, then, other, results } => {
                self.line(&format!("if {}{} {{", self.cond(cond), arrow(results)));
                self.block(then);
                if !other.stmts.is_empty() || !other.yields.is_empty() {
                    self.line("} else {");
                    self.block(other);
                }
                self.line("}");
            }
            Stmt::Guard { cond, status } => self.line(&format!("guard {} else {status}", self.cond(cond))),
            Stmt::Prefetch { addr } => self.line(&format!("prefetch {}", self.addr(addr))),
        }
    }

    fn for_loop(&mut self, f: &For) {
        let carry: Vec<String> = f.args.iter().zip(&f.inits).map(|(arg, init)| format!("{arg} = {init}")).collect();
        let carry = if carry.is_empty() { String::new() } else { format!(" carry({})", carry.join(", ")) };
        self.line(&format!("for {} in {}..{} step {}{carry}{} {{", f.var, f.lo, f.hi, f.step, arrow(&f.results)));
        self.block(&f.body);
        self.line("}");
    }

    fn op(&self, op: &Op, ty: Type) -> String {
        match op {
            Op::Const(bits) if bits.len() == 1 => format!("const {}", lane(bits[0], ty.elem)),
            Op::Const(bits) => {
                let lanes: Vec<String> = bits.iter().map(|&b| lane(b, ty.elem)).collect();
                format!("const [{}]", lanes.join(", "))
            }
            Op::Extent(extent) => format!("extent {extent}"),
            Op::Splat(a) => format!("splat {a}"),
            Op::Load(addr) => format!("load {}", self.addr(addr)),
            Op::LoadFirst(addr, count) => format!("load_first {}, {count}", self.addr(addr)),
            Op::Un(op, a) => format!("{op} {a}"),
            Op::Bin(op, a, b) => format!("{op} {a}, {b}"),
            Op::Shift(op, a, by) => format!("{op} {a}, {by}"),
            Op::Fma(a, b, c) => format!("fma {a}, {b}, {c}"),
            Op::MulAdd(a, b, c) => format!("muladd {a}, {b}, {c}"),
            Op::Cmp(cmp, a, b) => format!("cmp.{cmp} {a}, {b}"),
            Op::Select(mask, a, b) => format!("select {mask}, {a}, {b}"),
            Op::Cvt(cvt, a) => format!("cvt.{cvt} {a}"),
            Op::Reduce(op, a) => format!("reduce.{op} {a}"),
            Op::Extract(a, lane) => format!("extract {a}, [{lane}]"),
            Op::Insert(a, lane, scalar) => format!("insert {a}, {scalar}, [{lane}]"),
            Op::Shuffle(a, b, pick) => {
                let pick: Vec<String> = pick.iter().map(u16::to_string).collect();
                format!("shuffle {a}, {b}, [{}]", pick.join(", "))
            }
            Op::Dot4 { a_signed, acc, a, b } => {
                format!("{} {acc}, {a}, {b}", if *a_signed { "dot4_s" } else { "dot4_u" })
            }
        }
    }
}

fn list(values: &[Value]) -> String {
    let values: Vec<String> = values.iter().map(Value::to_string).collect();
    values.join(", ")
}

fn arrow(results: &[Value]) -> String {
    if results.is_empty() { String::new() } else { format!(" -> ({})", list(results)) }
}
