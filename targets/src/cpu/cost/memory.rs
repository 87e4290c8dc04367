//! Which accesses of a kernel miss which caches: bytes by distance of reuse.
//!
//! Every access is followed through the loops around it. A loop that moves an access widens what it touches; a loop that
//! leaves it in place reads the same bytes again, at a distance of all that one iteration touches.

use std::collections::BTreeMap;

use super::tree::{Access, Child, Loop, Node};
use super::walk::{Symbols, holds};

/// Bytes that are read again, and how many different bytes are touched in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reuse {
    /// Bytes.
    pub bytes: f64,
    /// Distance, bytes.
    pub distance: f64,
}

/// Memory of one kernel over its range.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    /// Bytes that are read again.
    pub reuses: Vec<Reuse>,
    /// Bytes that come from memory once, and go back.
    pub once: f64,
    /// Different bytes.
    pub different: f64,
}

/// What one access touches: an interval of its parameter, and how much of it.
#[derive(Clone, Debug)]
struct Touch<'a> {
    access: &'a Access,
    /// Bytes from the parameter's start.
    lo: f64,
    hi: f64,
    /// Bytes in between that are touched, if no other access touches the same.
    bytes: f64,
}

/// The traffic of a kernel whose parameters have so many bytes.
pub(super) fn traffic(node: &Node, symbols: &mut Symbols, sizes: &[f64]) -> Traffic {
    let mut traffic = Traffic::default();
    let mut touches = block(node, symbols, &mut traffic, sizes);
    // What is written is read before and written back.
    let all = total(&touches, sizes);
    touches.retain(|touch| touch.access.writes);
    traffic.different = all;
    traffic.once = all + total(&touches, sizes);
    traffic
}

fn block<'a>(node: &'a Node, symbols: &mut Symbols, traffic: &mut Traffic, sizes: &[f64]) -> Vec<Touch<'a>> {
    let scope = symbols.0.len();
    let mut touches = Vec::new();
    for child in &node.children {
        match child {
            Child::Bind(sym, extent) => {
                let value = extent.as_ref().map_or(0, |e| symbols.eval(e));
                symbols.push(sym, value);
            }
            Child::If(cond, sides) => {
                let side = cond.as_ref().is_some_and(|cond| !holds(symbols, cond));
                touches.extend(block(&sides[usize::from(side)], symbols, traffic, sizes));
            }
            Child::Loop(inner) => touches.extend(loop_(inner, symbols, traffic, sizes)),
        }
    }
    // Last, when every symbol that they may read has its value.
    touches.extend(node.accesses.iter().map(|access| touch(access, symbols)));
    symbols.0.truncate(scope);
    touches
}

fn touch<'a>(access: &'a Access, symbols: &Symbols) -> Touch<'a> {
    let lo = symbols.eval(&access.offset) as f64 * access.elem_bytes as f64;
    let bytes = access.elems as f64 * access.elem_bytes as f64;
    Touch { access, lo, hi: lo + bytes, bytes }
}

fn loop_<'a>(inner: &'a Loop, symbols: &mut Symbols, traffic: &mut Traffic, sizes: &[f64]) -> Vec<Touch<'a>> {
    let (lo, turns) = inner.turns(symbols);
    if turns == 0 {
        return Vec::new();
    }
    let at = |turn: i64, symbols: &mut Symbols, traffic: &mut Traffic| {
        let scope = symbols.0.len();
        symbols.push(&inner.var, lo + turn * inner.step);
        let touches = block(&inner.body, symbols, traffic, sizes);
        symbols.0.truncate(scope);
        touches
    };
    // Of a long loop an iteration in the middle: borders are at the ends.
    let turn = (turns / 2).min(turns - 1);
    let mut inside = Traffic::default();
    let mut touches = at(turn, symbols, &mut inside);
    traffic.reuses.extend(inside.reuses.iter().map(|r| Reuse { bytes: r.bytes * turns as f64, ..*r }));
    if turns == 1 {
        return touches;
    }
    let distance = total(&touches, sizes);
    let next = at(if turn + 1 < turns { turn + 1 } else { turn - 1 }, symbols, &mut Traffic::default());
    let (mut again, mut wrapped) = (0.0, 0.0);
    for (index, touch) in touches.iter_mut().enumerate() {
        // Blocks at borders have other accesses; those do not line up and count as moving by their own size.
        let other = next.get(index).filter(|n| n.access.param == touch.access.param);
        let step = other.map_or(touch.bytes, |n| (n.lo - touch.lo).abs());
        if step == 0.0 {
            again += touch.bytes * (turns - 1) as f64 * if touch.access.writes { 2.0 } else { 1.0 };
            continue;
        }
        let size = sizes.get(touch.access.param).copied().unwrap_or(f64::MAX);
        let all = touch.bytes * turns as f64;
        wrapped += (all - size).max(0.0);
        touch.bytes = all.min(size);
        touch.hi += step * (turns - 1) as f64;
    }
    if again > 0.0 {
        traffic.reuses.push(Reuse { bytes: again, distance });
    }
    if wrapped > 0.0 {
        // It comes back to the same bytes when the whole is done.
        traffic.reuses.push(Reuse { bytes: wrapped, distance: total(&touches, sizes) });
    }
    touches
}

/// Different bytes of all touches: per parameter no more than the interval that they span.
fn total(touches: &[Touch<'_>], sizes: &[f64]) -> f64 {
    let mut params: BTreeMap<usize, (f64, f64, f64)> = BTreeMap::new();
    for touch in touches {
        let span = params.entry(touch.access.param).or_insert((touch.lo, touch.hi, 0.0));
        *span = (span.0.min(touch.lo), span.1.max(touch.hi), span.2 + touch.bytes);
    }
    params
        .iter()
        .map(|(&param, &(lo, hi, bytes))| bytes.min(hi - lo).min(sizes.get(param).copied().unwrap_or(f64::MAX)))
        .sum()
}
