//! How often every block of a kernel runs.
//!
//! Loop bounds and conditions are evaluated, nothing else is. A loop whose body depends on its variable is sampled; any
//! other one is looked at once.

use adze_ir::extent::{Extent, Sym};

use super::tree::{Child, Loop, Node};
use crate::cpu::kernel::Cmp;

/// Samples of the tile range.
const RANGE_SAMPLES: i64 = 16;
/// Samples of a loop inside: its first, middle and last iteration.
const INNER_SAMPLES: i64 = 3;

/// Iterations after which a core no longer knows that a loop ends.
const PREDICTED_TURNS: f64 = 32.0;

/// The values of symbols, innermost last.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbols(pub Vec<(Sym, i64)>);

impl Symbols {
    /// The value of an extent; symbols that are not known are 0.
    pub fn eval(&self, extent: &Extent) -> i64 {
        if let Some(value) = extent.as_const() {
            return value;
        }
        let find = |name: &str| self.0.iter().rev().find(|(sym, _)| **sym == *name).map_or(0, |found| found.1);
        extent.eval(&|name| Some(find(name))).unwrap_or(0)
    }

    /// Gives a symbol a value.
    pub fn push(&mut self, sym: &Sym, value: i64) {
        self.0.push((sym.clone(), value));
    }
}

impl Loop {
    /// First value and number of iterations.
    pub fn turns(&self, symbols: &Symbols) -> (i64, i64) {
        let (lo, hi) = (symbols.eval(&self.lo), symbols.eval(&self.hi));
        (lo, hi.saturating_sub(lo).max(0).saturating_add(self.step - 1) / self.step.max(1))
    }
}

/// Whether a comparison of extents holds.
pub(super) fn holds(symbols: &Symbols, (a, cmp, b): &(Extent, Cmp, Extent)) -> bool {
    let (a, b) = (symbols.eval(a), symbols.eval(b));
    match cmp {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt | Cmp::LtU => a < b,
        Cmp::Le | Cmp::LeU => a <= b,
        Cmp::Gt | Cmp::GtU => a > b,
        Cmp::Ge | Cmp::GeU => a >= b,
    }
}

/// Fills in the number of executions of every block; `outer` is the number of loops around.
pub(super) fn count(node: &mut Node, times: f64, symbols: &mut Symbols, outer: u32) {
    node.times += times;
    let depth = symbols.0.len();
    for child in &mut node.children {
        match child {
            Child::Bind(sym, extent) => {
                let value = extent.as_ref().map_or(0, |e| symbols.eval(e));
                symbols.push(sym, value);
            }
            Child::If(cond, sides) => match cond {
                Some(cond) => {
                    let side = usize::from(!holds(symbols, cond));
                    count(&mut sides[side], times, symbols, outer);
                }
                None => sides.iter_mut().for_each(|side| count(side, times / 2.0, symbols, outer)),
            },
            Child::Loop(inner) => count_loop(inner, times, symbols, outer),
        }
    }
    symbols.0.truncate(depth);
}

fn count_loop(inner: &mut Loop, times: f64, symbols: &mut Symbols, outer: u32) {
    let (lo, turns) = inner.turns(symbols);
    if turns == 0 {
        return;
    }
    // Short loops are predicted to their end.
    inner.surprises += times * (turns as f64 / PREDICTED_TURNS).min(1.0);
    for (turn, weight) in samples(turns, inner.varies, outer == 0) {
        let depth = symbols.0.len();
        symbols.push(&inner.var, lo + turn * inner.step);
        inner.body.span += times * weight * turns as f64 * inner.body.ops.total();
        count(&mut inner.body, times * weight, symbols, outer + 1);
        symbols.0.truncate(depth);
    }
}

/// Iterations to look at and how many each stands for.
fn samples(turns: i64, varies: bool, range: bool) -> Vec<(i64, f64)> {
    let most = if range { RANGE_SAMPLES } else { INNER_SAMPLES };
    if !varies {
        return vec![(0, turns as f64)];
    }
    if turns <= most {
        return (0..turns).map(|turn| (turn, 1.0)).collect();
    }
    if !range {
        return vec![(0, 1.0), (turns / 2, (turns - 2) as f64), (turns - 1, 1.0)];
    }
    // Multiples of the golden ratio: whatever the period of what depends on the index, no class of it is missed for long.
    let step = 0.618_033_988_749_894_9;
    (1..=most).map(|i| (((i as f64 * step).fract() * turns as f64) as i64, turns as f64 / most as f64)).collect()
}
