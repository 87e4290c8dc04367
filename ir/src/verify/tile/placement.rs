//! Invariants 13 to 15: what is defined when, and the plan.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::EntityRef;

use super::TileViolation;
use crate::extent::Extent;
use crate::tile::{Buffer, BufferId, Facts, Program, Role, Walk, live_ranges, overwritable};

/// Invariant 13, in the order of the text: the first access to bytes that nobody gave must be a write.
pub(super) fn definedness(program: &Program, found: &mut Vec<TileViolation>) {
    let mut written: BTreeSet<BufferId> = BTreeSet::new();
    let mut reported: BTreeSet<BufferId> = BTreeSet::new();
    let given = |id: BufferId| matches!(program.buffers[id].role, Role::Input(_) | Role::Weight(_) | Role::State(_));
    let mut report = |id: BufferId, what| {
        if reported.insert(id) {
            found.push(TileViolation::Undefined { buffer: id, name: program.buffers[id].name.clone(), what });
        }
    };
    for access in &Walk::of(program).accesses {
        let root = program.root(access.buffer);
        if access.write {
            written.insert(root);
        } else if !given(root) && !written.contains(&root) {
            report(root, "read before it is written");
        }
    }
    for output in &program.outputs {
        let root = program.root(output.view.buffer);
        let empty = output.view.sizes.iter().any(|s| s.as_const() == Some(0));
        if !given(root) && !written.contains(&root) && !empty {
            report(root, "never written");
        }
    }
}

/// A buffer in its memory: bytes and the positions at which it is alive.
struct Placed {
    id: BufferId,
    start: i64,
    end: i64,
    live: (u32, u32),
}

/// Invariants 14 and 15.
pub(super) fn placement(program: &Program, found: &mut Vec<TileViolation>) {
    for (id, buffer) in program.buffers.iter() {
        if let Some(offset) = &buffer.offset
            && let Some(reason) = offset_violation(program, buffer, offset)
        {
            found.push(TileViolation::Offset { buffer: id, offset: offset.clone(), reason });
        }
    }
    let walk = Walk::of(program);
    let live = live_ranges(program, &walk);
    let handovers = handovers(program);
    let mut placed: BTreeMap<&str, Vec<Placed>> = BTreeMap::new();
    for (id, buffer) in program.buffers.iter().filter(|(_, b)| b.alias.is_none()) {
        let (Some(offset), Some(&range)) = (&buffer.offset, live.get(&id)) else { continue };
        let start = offset.range(&program.dims).lo;
        let end = offset.upper(&program.dims) + lane_bytes(program, buffer).upper(&program.dims);
        // An empty buffer has no bytes to share.
        if start >= end {
            continue;
        }
        let live = live_of(program, id, range, walk.len);
        placed.entry(&buffer.memory).or_default().push(Placed { id, start, end, live });
    }
    for (memory, mut buffers) in placed {
        buffers.sort_by_key(|b| (b.start, b.id.index()));
        for (index, a) in buffers.iter().enumerate() {
            for b in buffers[index + 1..].iter().take_while(|b| b.start < a.end) {
                let (from, to) = (a.live.0.max(b.live.0), a.live.1.min(b.live.1));
                let swaps = from == to && (a.start, a.end) == (b.start, b.end) && {
                    let (first, second) =
                        if a.live.1 == from && b.live.0 == from { (a.id, b.id) } else { (b.id, a.id) };
                    handovers.contains(&(first, second))
                };
                if from <= to && !swaps {
                    found.push(TileViolation::Overlap { a: a.id, b: b.id, memory: memory.into(), from, to });
                }
            }
        }
    }
}

/// What the caller gives or reads is alive from the start or to the end.
fn live_of(program: &Program, id: BufferId, range: (u32, u32), len: u32) -> (u32, u32) {
    let bound = |bindings: &[crate::tile::Binding]| bindings.iter().any(|b| program.root(b.view.buffer) == id);
    let given = bound(&program.inputs) || matches!(program.buffers[id].role, Role::Weight(_));
    (if given { 0 } else { range.0 }, if bound(&program.outputs) || given { len } else { range.1 })
}

/// Pairs of buffers of which the second may take the place of the first in some elementwise leaf.
fn handovers(program: &Program) -> BTreeSet<(BufferId, BufferId)> {
    let mut pairs = BTreeSet::new();
    program.for_each_leaf(&mut |leaf| {
        for root in overwritable(program, leaf) {
            pairs.insert((root, program.root(leaf.outputs[0].buffer)));
        }
    });
    pairs
}

fn lane_bytes(program: &Program, buffer: &Buffer) -> Extent {
    buffer.bytes().ceildiv(&i64::from(program.memory_of(buffer).lanes).into())
}

fn offset_violation(program: &Program, buffer: &Buffer, offset: &Extent) -> Option<String> {
    let memory = program.memory_of(buffer);
    let facts = Facts { ranges: program.dims.clone(), vars: Vec::new() };
    let mut symbols = BTreeSet::new();
    offset.symbols(&mut symbols);
    if symbols.iter().any(|s| !program.dims.contains_key(s)) || !facts.nonneg(offset) {
        return Some("it mentions an undeclared dimension or may be negative".into());
    }
    if buffer.alias.is_some() {
        return Some("an alias has the place of its base".into());
    }
    if offset.modulo(&memory.align.into()) != Extent::ZERO {
        return Some(format!("it is not a multiple of {}", memory.align));
    }
    let end = offset.clone() + lane_bytes(program, buffer);
    if let Some(capacity) = memory.capacity {
        let end = end.upper(&program.dims);
        if end > capacity {
            return Some(format!("it ends at {end} of {capacity} bytes"));
        }
        if let Some(&bank) = buffer.attrs.get("bank") {
            let size = capacity / i64::from(memory.banks);
            if offset.range(&program.dims).lo < bank * size || end > (bank + 1) * size {
                return Some(format!("it leaves bank {bank} of {size} bytes"));
            }
        }
    }
    None
}
