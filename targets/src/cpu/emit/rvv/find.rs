//! What is worth knowing of a kernel before its instructions are selected.

use cranelift_entity::SecondaryMap;

use crate::cpu::kernel::ir::{Access, Addr, Cvt, Kernel, Op, Stmt, Value};
use crate::cpu::kernel::types::Elem;

/// Findings.
#[derive(Default)]
pub(super) struct Found {
    /// Comparisons whose only use is to select, in the block that makes them.
    pub selects: SecondaryMap<Value, bool>,
    /// Values that are nothing but four bytes for all words of left operands of dot products, and whether those are signed:
    /// the operand itself, and from what it is made if that is a load.
    pub bytes: SecondaryMap<Value, Option<bool>>,
    /// Loads of weights that are nothing but right operands of dot products: words, packed as such and so aligned.
    pub words: SecondaryMap<Value, bool>,
}

/// How left operands of dot products are used.
#[derive(Clone, Copy, Default)]
struct Left {
    signed: u32,
    unsigned: u32,
}

impl Found {
    /// Those of that kernel, whose values have so many uses.
    pub fn of(kernel: &Kernel, uses: &SecondaryMap<Value, u32>) -> Self {
        let mut found = Found::default();
        let mut ops: SecondaryMap<Value, Option<&Op>> = SecondaryMap::new();
        let mut lefts: SecondaryMap<Value, Left> = SecondaryMap::new();
        let mut rights: SecondaryMap<Value, u32> = SecondaryMap::new();
        visit(&kernel.body, &mut |stmt| {
            if let Stmt::Let { result, op } = stmt {
                ops[*result] = Some(op);
                if let Op::Dot4 { a_signed, a, b, .. } = op {
                    rights[*b] += 1;
                    let count = if *a_signed { &mut lefts[*a].signed } else { &mut lefts[*a].unsigned };
                    *count += 1;
                }
            }
        });
        for value in kernel.values.keys() {
            let (left, count) = (lefts[value], uses[value]);
            let only = left.signed == count || left.unsigned == count;
            if count > 0 && only && kernel.values[value].lanes > 4 {
                found.chain(kernel, &ops, uses, (value, left.signed > 0));
            }
            let weights = |addr: &Addr| kernel.params[addr.param].access == Access::Weight;
            let loaded = matches!(ops[value], Some(Op::Load(addr)) if weights(addr));
            found.words[value] = count > 0 && rights[value] == count && loaded;
        }
        found.find_selects(&kernel.body, uses);
        found
    }

    /// A left operand that repeats a word: `bits(splat(...))`. When the word is nothing but a load of four bytes, that is
    /// four loads of a byte.
    fn chain(
        &mut self,
        kernel: &Kernel,
        ops: &SecondaryMap<Value, Option<&Op>>,
        uses: &SecondaryMap<Value, u32>,
        (value, signed): (Value, bool),
    ) {
        let Some(Op::Cvt(Cvt::Bits, splat)) = ops[value] else { return };
        let Some(Op::Splat(word)) = ops[*splat] else { return };
        if kernel.values[*splat].elem.bits() != 32 {
            return;
        }
        self.bytes[value] = Some(signed);
        let Some(Op::Cvt(Cvt::Bits, four)) = ops[*word] else { return };
        let loads = matches!(ops[*four], Some(Op::Load(_))) && kernel.values[*four].elem == Elem::I8;
        if loads && kernel.values[*four].lanes == 4 && [*splat, *word, *four].iter().all(|v| uses[*v] == 1) {
            [*splat, *word, *four].into_iter().for_each(|v| self.bytes[v] = Some(signed));
        }
    }

    fn find_selects(&mut self, stmts: &[Stmt], uses: &SecondaryMap<Value, u32>) {
        let mut made: SecondaryMap<Value, bool> = SecondaryMap::new();
        for stmt in stmts {
            match stmt {
                Stmt::Let { result, op: Op::Cmp(..) } => made[*result] = true,
                Stmt::Let { op: Op::Select(mask, ..), .. } => {
                    self.selects[*mask] = made[*mask] && uses[*mask] == 1;
                }
                Stmt::For(f) => self.find_selects(&f.body.stmts, uses),
                Stmt::If { then, other, .. } => {
                    self.find_selects(&then.stmts, uses);
                    self.find_selects(&other.stmts, uses);
                }
                _ => {}
            }
        }
    }
}

fn visit<'k>(stmts: &'k [Stmt], f: &mut impl FnMut(&'k Stmt)) {
    for stmt in stmts {
        f(stmt);
        match stmt {
            Stmt::For(inner) => visit(&inner.body.stmts, f),
            Stmt::If { then, other, .. } => {
                visit(&then.stmts, f);
                visit(&other.stmts, f);
            }
            _ => {}
        }
    }
}

/// Whether there is a loop among the statements.
pub(super) fn has_loop(stmts: &[Stmt]) -> bool {
    let mut found = false;
    visit(stmts, &mut |stmt| found |= matches!(stmt, Stmt::For(_)));
    found
}

/// How many of the statements, from the first one on, are dot products of one left operand whose sums do not depend on each
/// other: their additions take turns.
pub(super) fn quads_together(stmts: &[Stmt]) -> usize {
    let Some(Stmt::Let { op: Op::Dot4 { a: first, a_signed: signed, .. }, .. }) = stmts.first() else { return 0 };
    let mut made: Vec<Value> = Vec::new();
    for stmt in stmts {
        match stmt {
            Stmt::Let { result, op: Op::Dot4 { a, b, acc, a_signed } }
                if a == first && a_signed == signed && ![a, b, acc].into_iter().any(|v| made.contains(v)) =>
            {
                made.push(*result);
            }
            _ => break,
        }
    }
    made.len()
}
