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
    let mut touches = block(node, symbols, &mut traffic, sizes, true);
    // What is written is read before and written back.
    let all = total(&touches, sizes);
    touches.retain(|touch| touch.access.writes);
    traffic.different = all;
    traffic.once = all + total(&touches, sizes);
    traffic
}

/// `outermost`: around the kernel's range of units, which counts through several axes.
fn block<'a>(
    node: &'a Node,
    symbols: &mut Symbols,
    traffic: &mut Traffic,
    sizes: &[f64],
    outermost: bool,
) -> Vec<Touch<'a>> {
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
                touches.extend(block(&sides[usize::from(side)], symbols, traffic, sizes, outermost));
            }
            Child::Loop(inner) => touches.extend(loop_(inner, symbols, traffic, sizes, outermost)),
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

fn loop_<'a>(
    inner: &'a Loop,
    symbols: &mut Symbols,
    traffic: &mut Traffic,
    sizes: &[f64],
    outermost: bool,
) -> Vec<Touch<'a>> {
    let (lo, turns) = inner.turns(symbols);
    if turns == 0 {
        return Vec::new();
    }
    let at = |turn: i64, symbols: &mut Symbols, traffic: &mut Traffic| {
        let scope = symbols.0.len();
        symbols.push(&inner.var, lo + turn * inner.step);
        let touches = block(&inner.body, symbols, traffic, sizes, false);
        symbols.0.truncate(scope);
        touches
    };
    // Of a long loop an iteration off the ends and off the middle: borders are at the ends, also of inner axes.
    let turn = (turns * 5 / 8).min(turns - 1);
    let mut inside = Traffic::default();
    let mut touches = at(turn, symbols, &mut inside);
    traffic.reuses.extend(inside.reuses.iter().map(|r| Reuse { bytes: r.bytes * turns as f64, ..*r }));
    if turns == 1 {
        return touches;
    }
    let distance = total(&touches, sizes);
    let mut neighbours = vec![if turn + 1 < turns { turn + 1 } else { turn - 1 }];
    if outermost && turns > 2 {
        // One of them may lie beyond the end of an inner axis.
        neighbours.push(turn - 1);
    }
    let neighbours: Vec<_> = neighbours.iter().map(|&t| at(t, symbols, &mut Traffic::default())).collect();
    let (mut again, mut wrapped) = (0.0, 0.0);
    for (index, touch) in touches.iter_mut().enumerate() {
        // Blocks at borders have other accesses; those do not line up and count as moving by their own size.
        let others = neighbours.iter().filter_map(|n| n.get(index)).filter(|n| n.access.param == touch.access.param);
        let step = others.map(|n| (n.lo - touch.lo).abs()).reduce(f64::min).unwrap_or(touch.bytes);
        if step == 0.0 {
            again += touch.bytes * (turns - 1) as f64 * if touch.access.writes { 2.0 } else { 1.0 };
            continue;
        }
        // Steps that lead past the end of the parameter lead back to its start.
        let size = sizes.get(touch.access.param).copied().unwrap_or(f64::MAX);
        let all = touch.bytes * turns as f64;
        touch.hi += step * (turns - 1) as f64;
        let new = (size / (touch.hi - touch.lo)).min(1.0);
        wrapped += all * (1.0 - new);
        touch.bytes = all * new;
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
