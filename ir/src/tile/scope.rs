//! In which loop a temporary buffer lives.
//!
//! A temporary buffer whose accesses all lie in one loop, the first of them a write, and which is no rolling window,
//! carries nothing from one iteration to the next: it is *scoped* to the innermost such loop and undefined at the start of
//! each iteration. Verifier, interpreter and planner go by this rule.

use std::collections::BTreeMap;

use super::walk::{Access, Walk};
use super::{BufferId, Program, Role, WindowPlace};

/// The loop (index into [`Walk::loops`]) of each scoped buffer; buffers that own their bytes only.
pub fn scopes(program: &Program, walk: &Walk) -> BTreeMap<BufferId, usize> {
    let mut by_root: BTreeMap<BufferId, Vec<&Access>> = BTreeMap::new();
    for access in &walk.accesses {
        by_root.entry(program.root(access.buffer)).or_default().push(access);
    }
    let rolling =
        |id: BufferId| matches!(program.buffers[id].window.as_ref().map(|w| &w.place), Some(WindowPlace::Rolling));
    let bound: Vec<BufferId> =
        program.inputs.iter().chain(&program.outputs).map(|b| program.root(b.view.buffer)).collect();
    let mut found = BTreeMap::new();
    for (root, accesses) in by_root {
        let temp = program.buffers[root].role == Role::Temp && !bound.contains(&root);
        if !temp || !accesses[0].write || accesses.iter().any(|a| rolling(a.buffer)) {
            continue;
        }
        let common = accesses.iter().skip(1).fold(accesses[0].loops.clone(), |common, access| {
            common.iter().zip(&access.loops).take_while(|(a, b)| a == b).map(|(a, _)| *a).collect()
        });
        if let Some(&innermost) = common.last() {
            found.insert(root, innermost);
        }
    }
    found
}

/// The positions during which the bytes of each buffer hold something that is still read: first and last position,
/// widened to whole loops where a value outlives an iteration.
pub fn live_ranges(program: &Program, walk: &Walk) -> BTreeMap<BufferId, (u32, u32)> {
    let scopes = scopes(program, walk);
    let mut ranges: BTreeMap<BufferId, (u32, u32)> = BTreeMap::new();
    for access in &walk.accesses {
        let root = program.root(access.buffer);
        let depth = match scopes.get(&root) {
            Some(scope) => access.loops.iter().position(|l| l == scope).map_or(0, |at| at + 1),
            None => 0,
        };
        let (first, last) = match access.loops.get(depth) {
            Some(&inner) => (walk.loops[inner].first, walk.loops[inner].last),
            None => (access.position, access.position),
        };
        let range = ranges.entry(root).or_insert((first, last));
        *range = (range.0.min(first), range.1.max(last));
    }
    ranges
}
