//! What a call of a kernel does, counted on its text: operations, bytes moved, bytes touched. For profiles.

use std::collections::BTreeSet;

use adze_ir::extent::{Extent, Sym};
use cranelift_entity::SecondaryMap;

use super::kernel::ir::{Addr, Block, Cond, For, HI, Kernel, LO, Op, Param, Stmt, Value};
use super::kernel::types::Elem;
use super::kernel::{BinOp, Cmp, UnOp};

/// Iterations that are looked at one by one before the rest of a loop is taken to be like its middle.
const MAX_VISITS: u64 = 1 << 20;
/// Values of a loop's variable that are looked at for the memory they reach, beside the first.
const SAMPLES: i64 = 32;

/// Sums over one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Floating-point additions, multiplications, divisions, roots and comparisons; a multiply-add counts twice.
    pub flops: u64,
    /// The same of integers, as far as they are arithmetic on vectors or products; a dot product of four counts eight.
    pub int_ops: u64,
    /// Bytes that loads and stores move.
    pub moved_bytes: u64,
    /// Bytes from the first to the last that is touched of every operand, but no more than are moved.
    pub touched_bytes: u64,
}

impl Work {
    fn add(&mut self, other: Work, times: u64) {
        self.flops = self.flops.saturating_add(other.flops.saturating_mul(times));
        self.int_ops = self.int_ops.saturating_add(other.int_ops.saturating_mul(times));
        self.moved_bytes = self.moved_bytes.saturating_add(other.moved_bytes.saturating_mul(times));
    }
}

/// Counts a call on `lo..hi` with these values of the dimensions by slot. Where loaded data decide (branches, indices),
/// the costlier side and everything in reach are counted.
pub fn work(kernel: &Kernel, dims: &[i64], (lo, hi): (i64, i64)) -> Work {
    let mut symbols: Vec<(Sym, i64)> = vec![(LO.into(), lo), (HI.into(), hi)];
    let value = |slot: u32| dims.get(slot as usize).copied().unwrap_or(0);
    symbols.extend(kernel.dims.iter().map(|dim| (dim.name.clone(), value(dim.slot))));
    let mut extents = SecondaryMap::new();
    find_extents(&kernel.body, &mut extents);
    let mut counter = Counter { kernel, extents, symbols, visits: 0 };
    let mut work = counter.stmts(&kernel.body);
    counter.symbols.truncate(2 + kernel.dims.len());
    let mut spans = Spans { counter, params: SecondaryMap::new() };
    spans.stmts(&kernel.body);
    work.touched_bytes =
        kernel.params.keys().map(|p| spans.bytes(p)).fold(0, u64::saturating_add).min(work.moved_bytes);
    work
}

/// Values that are the value of an extent: what they are bound to is known.
fn find_extents(stmts: &[Stmt], out: &mut SecondaryMap<Value, Option<Extent>>) {
    for stmt in stmts {
        match stmt {
            Stmt::Let { result, op: Op::Extent(extent) } => out[*result] = Some(extent.clone()),
            Stmt::For(f) => find_extents(&f.body.stmts, out),
            Stmt::If { then, other, .. } => [then, other].into_iter().for_each(|b| find_extents(&b.stmts, out)),
            _ => {}
        }
    }
}

struct Counter<'a> {
    kernel: &'a Kernel,
    extents: SecondaryMap<Value, Option<Extent>>,
    /// Known symbols, innermost last.
    symbols: Vec<(Sym, i64)>,
    visits: u64,
}

impl Counter<'_> {
    fn extent(&self, extent: &Extent) -> Option<i64> {
        extent.eval(&|name| self.symbols.iter().rev().find(|(known, _)| &**known == name).map(|(_, v)| *v))
    }

    fn stmts(&mut self, stmts: &[Stmt]) -> Work {
        let mut work = Work::default();
        for stmt in stmts {
            match stmt {
                Stmt::Let { result, op } => work.add(self.op(*result, op), 1),
                Stmt::Store { value, .. } => work.moved_bytes += u64::from(self.kernel.values[*value].bits() / 8),
                Stmt::StoreFirst { count, value, .. } => {
                    work.moved_bytes += u64::from(u32::from(*count) * self.kernel.values[*value].elem.bytes());
                }
                Stmt::Bind { sym, value } => self.bind(sym, *value),
                Stmt::For(f) => work.add(self.for_loop(f), 1),
                Stmt::If { cond, then, other, .. } => work.add(self.branch(cond, then, other), 1),
                Stmt::Guard { .. } | Stmt::Prefetch { .. } => {}
            }
        }
        work
    }

    fn scope(&mut self, block: &Block) -> Work {
        let depth = self.symbols.len();
        let work = self.stmts(&block.stmts);
        self.symbols.truncate(depth);
        work
    }

    /// Makes a symbol known, if its value is.
    fn bind(&mut self, sym: &Sym, value: Value) {
        if let Some(value) = self.extents[value].as_ref().and_then(|e| self.extent(e)) {
            self.symbols.push((sym.clone(), value));
        }
    }

    fn cond(&self, cond: &Cond) -> Option<bool> {
        match cond {
            Cond::Extent(a, cmp, b) => self.extent(a).zip(self.extent(b)).map(|(a, b)| holds(*cmp, a, b)),
            Cond::Value(_) => None,
        }
    }

    fn branch(&mut self, cond: &Cond, then: &Block, other: &Block) -> Work {
        match self.cond(cond) {
            Some(true) => self.scope(then),
            Some(false) => self.scope(other),
            None => {
                let (then, other) = (self.scope(then), self.scope(other));
                if then.moved_bytes + then.flops >= other.moved_bytes + other.flops { then } else { other }
            }
        }
    }

    fn for_loop(&mut self, f: &For) -> Work {
        let (Some(lo), Some(hi)) = (self.extent(&f.lo), self.extent(&f.hi)) else {
            return self.scope(&f.body);
        };
        let trips = u64::try_from((hi - lo).max(0)).unwrap_or(0).div_ceil(f.step.unsigned_abs());
        let mut work = Work::default();
        if trips == 0 {
            return work;
        }
        let at = |trip: u64| lo + i64::try_from(trip).unwrap_or(0) * f.step;
        if !decides(f) || self.visits > MAX_VISITS {
            work.add(self.iteration(f, at(trips / 2)), trips);
            return work;
        }
        for trip in 0..trips {
            self.visits += 1;
            if self.visits > MAX_VISITS {
                work.add(self.iteration(f, at((trip + trips) / 2)), trips - trip);
                break;
            }
            work.add(self.iteration(f, at(trip)), 1);
        }
        work
    }

    fn iteration(&mut self, f: &For, at: i64) -> Work {
        self.symbols.push((f.var.clone(), at));
        let work = self.scope(&f.body);
        self.symbols.pop();
        work
    }

    fn op(&self, result: Value, op: &Op) -> Work {
        let mut work = Work::default();
        let ty = self.kernel.values[result];
        let lanes = u64::from(ty.lanes);
        let (float, vector) = (ty.elem.is_float(), !ty.is_scalar() && ty.elem.is_int());
        let count = match op {
            Op::Load(_) => {
                work.moved_bytes = u64::from(ty.bits() / 8);
                0
            }
            Op::LoadFirst(_, first) => {
                work.moved_bytes = u64::from(u32::from(*first) * ty.elem.bytes());
                0
            }
            Op::Fma(..) | Op::MulAdd(..) => 2 * lanes,
            Op::Dot4 { .. } => 8 * lanes,
            Op::Un(UnOp::Neg | UnOp::Abs | UnOp::Not, _) => 0,
            Op::Un(..) => lanes,
            Op::Bin(BinOp::And | BinOp::Or | BinOp::Xor, ..) => 0,
            Op::Bin(..) if float || vector => lanes,
            Op::Bin(BinOp::Mul | BinOp::Add, ..) if ty.elem == Elem::I32 => lanes,
            Op::Reduce(_, a) => u64::from(self.kernel.values[*a].lanes) - 1,
            _ => 0,
        };
        if float {
            work.flops = count;
        } else {
            work.int_ops = count;
        }
        work
    }
}

/// Conditions on extents compare signed.
fn holds(cmp: Cmp, a: i64, b: i64) -> bool {
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt | Cmp::LtU => a < b,
        Cmp::Le | Cmp::LeU => a <= b,
        Cmp::Gt | Cmp::GtU => a > b,
        Cmp::Ge | Cmp::GeU => a >= b,
    }
}

/// Whether a loop's variable, or what is bound in its body, decides how often something inside runs.
fn decides(f: &For) -> bool {
    let mut deciding = BTreeSet::from([f.var.clone()]);
    decides_block(&f.body.stmts, &mut deciding)
}

fn decides_block(stmts: &[Stmt], deciding: &mut BTreeSet<Sym>) -> bool {
    stmts.iter().any(|stmt| {
        let mut used = BTreeSet::new();
        match stmt {
            Stmt::Bind { sym, .. } => {
                deciding.insert(sym.clone());
                return false;
            }
            Stmt::For(f) => [&f.lo, &f.hi].into_iter().for_each(|e| e.symbols(&mut used)),
            Stmt::If { cond: Cond::Extent(a, _, b), .. } => [a, b].into_iter().for_each(|e| e.symbols(&mut used)),
            _ => {}
        }
        !used.is_disjoint(deciding)
            || match stmt {
                Stmt::For(f) => decides_block(&f.body.stmts, deciding),
                Stmt::If { then, other, .. } => [then, other].into_iter().any(|b| decides_block(&b.stmts, deciding)),
                _ => false,
            }
    })
}

/// First and last element of every parameter that is reached.
struct Spans<'a> {
    counter: Counter<'a>,
    params: SecondaryMap<Param, Option<(i64, i64)>>,
}

impl Spans<'_> {
    fn bytes(&self, param: Param) -> u64 {
        let bytes = i64::from(self.counter.kernel.params[param].dtype.bits().div_ceil(8));
        let elems = self.params[param].map_or(0, |(first, end)| end.saturating_sub(first));
        u64::try_from(elems.saturating_mul(bytes)).unwrap_or(u64::MAX)
    }

    fn access(&mut self, addr: &Addr, lanes: u16) {
        let span = match self.counter.extent(&addr.offset) {
            Some(first) => (first, first.saturating_add(lanes.into())),
            // A loaded index: as far as the bytes moved say.
            None => (0, i64::MAX),
        };
        let known = self.params[addr.param].unwrap_or(span);
        self.params[addr.param] = Some((known.0.min(span.0), known.1.max(span.1)));
    }

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let { result, op: Op::Load(addr) } => {
                    self.access(addr, self.counter.kernel.values[*result].lanes);
                }
                Stmt::Store { addr, value } => self.access(addr, self.counter.kernel.values[*value].lanes),
                Stmt::Let { op: Op::LoadFirst(addr, count), .. } | Stmt::StoreFirst { addr, count, .. } => {
                    self.access(addr, *count);
                }
                Stmt::Bind { sym, value } => self.counter.bind(sym, *value),
                Stmt::For(f) => self.for_loop(f),
                Stmt::If { cond, then, other, .. } => {
                    let known = self.counter.cond(cond);
                    [(then, true), (other, false)]
                        .into_iter()
                        .filter(|(_, side)| known.is_none_or(|known| known == *side))
                        .for_each(|(block, _)| self.scope(&block.stmts));
                }
                _ => {}
            }
        }
    }

    fn scope(&mut self, stmts: &[Stmt]) {
        let depth = self.counter.symbols.len();
        self.stmts(stmts);
        self.counter.symbols.truncate(depth);
    }

    /// Offsets grow or shrink with a variable, so its ends tell; where something is bound in between or the variable decides
    /// what runs, some values are looked at.
    fn for_loop(&mut self, f: &For) {
        let bounds = self.counter.extent(&f.lo).zip(self.counter.extent(&f.hi));
        let Some((lo, hi)) = bounds.filter(|(lo, hi)| lo < hi) else { return };
        let last = (hi - 1 - lo) / f.step;
        let binds = f.body.stmts.iter().any(|stmt| matches!(stmt, Stmt::Bind { .. }));
        let samples = if binds || decides(f) { last.min(SAMPLES) } else { last.min(1) };
        for sample in 0..=samples {
            let trip = if samples == 0 { 0 } else { last * sample / samples };
            self.counter.symbols.push((f.var.clone(), lo + trip * f.step));
            self.scope(&f.body.stmts);
            self.counter.symbols.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::text;
    use super::{Work, work};

    #[test]
    fn loops_and_triangles_are_counted() {
        let kernel = text::parse(
            "kernel @k(x: f32 in, y: f32 out) dims(n = 0) {\n  for i in lo..hi step 1 {\n    for j in 0..i step 4 {\n      \
             %0 = load x[(n*i + j)] : f32x4\n      %1 = muladd %0, %0, %0 : f32x4\n      store y[j], %1\n    }\n  }\n}\n",
        )
        .unwrap();
        // i = 0, 1 .. 7: 0, 1, 1, 1, 1, 2, 2, 2 vectors; x from 8 to 7 * 8 + 4 + 4, y to 4 + 4.
        let expected = Work { flops: 10 * 8, int_ops: 0, moved_bytes: 10 * 32, touched_bytes: 4 * (56 + 8) };
        assert_eq!(work(&kernel, &[8], (0, 8)), expected);
    }
}
