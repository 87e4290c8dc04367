//! Loads and stores of the first lanes, for machines whose instructions access whole vectors only.

use std::borrow::Cow;

use cranelift_entity::PrimaryMap;

use super::ir::{Addr, Block, Kernel, Op, Stmt, Value};
use super::types::Type;

/// A kernel with [`Op::LoadFirst`] and [`Stmt::StoreFirst`] left only where `native` says so, of the vector and whether it is
/// stored: others become accesses of the powers of two that the lanes consist of.
pub(in crate::cpu) fn split(kernel: &Kernel, native: impl Fn(Type, bool) -> bool) -> Cow<'_, Kernel> {
    if !any(&kernel.body, &|ty, store| !native(ty, store), &kernel.values) {
        return Cow::Borrowed(kernel);
    }
    let mut split = Split { values: kernel.values.clone(), native: &native };
    let body = split.stmts(&kernel.body);
    Cow::Owned(Kernel { body, values: split.values, ..kernel.clone() })
}

/// The powers of two that make up `count` lanes, largest first, each with its first lane.
pub(in crate::cpu) fn pieces(count: u16) -> impl Iterator<Item = (u16, u16)> {
    let mut from = 0;
    (0..16).rev().map(|bit| 1u16 << bit).filter(move |size| count & size != 0).map(move |size| {
        from += size;
        (from - size, size)
    })
}

fn any(stmts: &[Stmt], wanted: &dyn Fn(Type, bool) -> bool, values: &PrimaryMap<Value, Type>) -> bool {
    stmts.iter().any(|stmt| match stmt {
        Stmt::Let { result, op: Op::LoadFirst(..) } => wanted(values[*result], false),
        Stmt::StoreFirst { value, .. } => wanted(values[*value], true),
        Stmt::For(f) => any(&f.body.stmts, wanted, values),
        Stmt::If { then, other, .. } => any(&then.stmts, wanted, values) || any(&other.stmts, wanted, values),
        _ => false,
    })
}

struct Split<'a> {
    values: PrimaryMap<Value, Type>,
    native: &'a dyn Fn(Type, bool) -> bool,
}

impl Split<'_> {
    fn stmts(&mut self, stmts: &[Stmt]) -> Vec<Stmt> {
        let mut out = Vec::with_capacity(stmts.len());
        for stmt in stmts {
            self.stmt(stmt, &mut out);
        }
        out
    }

    fn block(&mut self, block: &Block) -> Block {
        Block { stmts: self.stmts(&block.stmts), yields: block.yields.clone() }
    }

    fn stmt(&mut self, stmt: &Stmt, out: &mut Vec<Stmt>) {
        match stmt {
            Stmt::Let { result, op: Op::LoadFirst(addr, count) } if !(self.native)(self.values[*result], false) => {
                let op = self.load(addr, self.values[*result], *count, out);
                out.push(Stmt::Let { result: *result, op });
            }
            Stmt::StoreFirst { addr, count, value } if !(self.native)(self.values[*value], true) => {
                let ty = self.values[*value];
                for (from, lanes) in pieces(*count) {
                    let op = match lanes {
                        1 => Op::Extract(*value, from),
                        _ => Op::Shuffle(*value, *value, (from..from + lanes).collect()),
                    };
                    let value = self.define(ty.with_lanes(lanes), op, out);
                    out.push(Stmt::Store { addr: further(addr, from), value });
                }
            }
            Stmt::For(f) => {
                let body = self.block(&f.body);
                out.push(Stmt::For(Box::new(super::ir::For { body, ..(**f).clone() })));
            }
            Stmt::If { cond, then, other, results } => {
                let (then, other) = (self.block(then), self.block(other));
                out.push(Stmt::If { cond: cond.clone(), then, other, results: results.clone() });
            }
            stmt => out.push(stmt.clone()),
        }
    }

    fn define(&mut self, ty: Type, op: Op, out: &mut Vec<Stmt>) -> Value {
        let result = self.values.push(ty);
        out.push(Stmt::Let { result, op });
        result
    }

    /// The last operation of a load of `count` lanes: halves that are there, joined; zeros for what is missing.
    fn load(&mut self, addr: &Addr, ty: Type, count: u16, out: &mut Vec<Stmt>) -> Op {
        if count == ty.lanes {
            return Op::Load(addr.clone());
        }
        let half = ty.with_lanes(ty.lanes / 2);
        let low = self.load(addr, half, count.min(half.lanes), out);
        let low = self.define(half, low, out);
        if half.is_scalar() {
            let zeros = self.define(ty, Op::Const(vec![0]), out);
            return Op::Insert(zeros, 0, low);
        }
        let high = match count.checked_sub(half.lanes) {
            Some(count) if count > 0 => self.load(&further(addr, half.lanes), half, count, out),
            _ => Op::Const(vec![0]),
        };
        let high = self.define(half, high, out);
        Op::Shuffle(low, high, (0..ty.lanes).collect())
    }
}

fn further(addr: &Addr, lanes: u16) -> Addr {
    Addr { param: addr.param, offset: addr.offset.clone() + i64::from(lanes).into() }
}
