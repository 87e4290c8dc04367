//! How values of a kernel are used, as far as the choice of instructions depends on it.

use cranelift_entity::SecondaryMap;

use super::super::kernel::ir::{BinOp, Cond, Cvt, Kernel, Op, Stmt, Value};

/// Uses of every value of a kernel.
pub(super) struct Uses {
    /// Uses that are still to come, per value.
    pub left: SecondaryMap<Value, u32>,
    /// Loads (and splats of loads) with one use, in the same block, before anything is stored or jumped over.
    pub deferred: SecondaryMap<Value, bool>,
    /// Values with a use other than as a factor.
    plain: SecondaryMap<Value, bool>,
}

impl Uses {
    /// Those of that kernel.
    pub fn of(kernel: &Kernel) -> Self {
        let mut uses = Self { left: SecondaryMap::new(), deferred: SecondaryMap::new(), plain: SecondaryMap::new() };
        uses.count(&kernel.body);
        uses.find_deferred(&kernel.body);
        uses.find_plain(&kernel.body);
        uses
    }

    /// Whether the value is nothing but a factor of products and multiply-adds.
    pub fn is_factor(&self, value: Value) -> bool {
        !self.plain[value]
    }

    fn count(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let { op, .. } => op.for_each_operand(|v| self.left[v] += 1),
                Stmt::Store { value, .. } | Stmt::StoreFirst { value, .. } | Stmt::Bind { value, .. } => {
                    self.left[*value] += 1;
                }
                Stmt::For(f) => {
                    f.inits.iter().chain(&f.body.yields).for_each(|&v| self.left[v] += 1);
                    self.count(&f.body.stmts);
                }
                Stmt::If { cond, then, other, .. } => {
                    self.count_cond(cond);
                    for block in [then, other] {
                        block.yields.iter().for_each(|&v| self.left[v] += 1);
                        self.count(&block.stmts);
                    }
                }
                Stmt::Guard { cond, .. } => self.count_cond(cond),
                Stmt::Prefetch { .. } => {}
            }
        }
    }

    fn count_cond(&mut self, cond: &Cond) {
        if let Cond::Value(value) = cond {
            self.left[*value] += 1;
        }
    }

    fn find_deferred(&mut self, stmts: &[Stmt]) {
        // Position since which memory has not changed.
        let mut since = 0;
        let mut made: SecondaryMap<Value, usize> = SecondaryMap::new();
        for (at, stmt) in stmts.iter().enumerate() {
            match stmt {
                Stmt::Let { result, op } => {
                    let mut oldest = at + 1;
                    op.for_each_operand(|v| {
                        if made[v] > since && self.left[v] == 1 {
                            self.deferred[v] = true;
                            oldest = oldest.min(made[v]);
                        }
                    });
                    match op {
                        Op::Load(_) => made[*result] = at + 1,
                        // As old as what it repeats, or reads as something else.
                        Op::Splat(a) | Op::Cvt(Cvt::Bits, a) if self.deferred[*a] => made[*result] = oldest,
                        _ => {}
                    }
                }
                Stmt::Store { .. } | Stmt::StoreFirst { .. } => since = at + 1,
                Stmt::For(f) => {
                    since = at + 1;
                    self.find_deferred(&f.body.stmts);
                }
                Stmt::If { then, other, .. } => {
                    since = at + 1;
                    self.find_deferred(&then.stmts);
                    self.find_deferred(&other.stmts);
                }
                Stmt::Bind { .. } | Stmt::Guard { .. } | Stmt::Prefetch { .. } => {}
            }
        }
    }

    /// Backwards, so that the uses of a value are known before it.
    fn find_plain(&mut self, stmts: &[Stmt]) {
        for stmt in stmts.iter().rev() {
            match stmt {
                Stmt::Let { result, op } => match op {
                    Op::MulAdd(_, _, sum) | Op::Fma(_, _, sum) | Op::Dot4 { acc: sum, .. } => self.plain[*sum] = true,
                    Op::Bin(BinOp::Mul, ..) => {}
                    Op::Cvt(Cvt::Bits, a) => self.plain[*a] |= self.plain[*result],
                    op => op.for_each_operand(|v| self.plain[v] = true),
                },
                Stmt::Store { value, .. } | Stmt::StoreFirst { value, .. } | Stmt::Bind { value, .. } => {
                    self.plain[*value] = true;
                }
                Stmt::For(f) => {
                    f.inits.iter().chain(&f.body.yields).for_each(|&v| self.plain[v] = true);
                    self.find_plain(&f.body.stmts);
                }
                Stmt::If { cond, then, other, .. } => {
                    for block in [then, other] {
                        block.yields.iter().for_each(|&v| self.plain[v] = true);
                        self.find_plain(&block.stmts);
                    }
                    self.plain_cond(cond);
                }
                Stmt::Guard { cond, .. } => self.plain_cond(cond),
                Stmt::Prefetch { .. } => {}
            }
        }
    }

    fn plain_cond(&mut self, cond: &Cond) {
        if let Cond::Value(value) = cond {
            self.plain[*value] = true;
        }
    }
}
