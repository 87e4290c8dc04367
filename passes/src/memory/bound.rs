//! The least any placement can do: the most bytes that are alive at one position.
//!
//! Walks the accesses itself and knows nothing of items or offsets, so that it can judge the allocator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adze_ir::tile::{BufferId, LoopSpan, Program, Role, Stmt, Walk, overwritable, scopes};

/// The lower bound of every memory in bytes (per lane), without alignment.
pub fn lower_bounds(program: &Program) -> BTreeMap<Arc<str>, i64> {
    alive_bytes(program).into_iter().map(|(memory, alive)| (memory, alive.into_iter().max().unwrap_or(0))).collect()
}

/// By memory, the bytes (per lane) that are alive at each position.
pub fn alive_bytes(program: &Program) -> BTreeMap<Arc<str>, Vec<i64>> {
    let walk = Walk::of(program);
    let scoped = scopes(program, &walk);
    let mut births: BTreeMap<u32, Vec<BufferId>> = BTreeMap::new();
    let mut deaths: BTreeMap<u32, Vec<BufferId>> = BTreeMap::new();
    let mut seen: BTreeMap<BufferId, LoopSpan> = BTreeMap::new();
    for access in &walk.accesses {
        let root = program.root(access.buffer);
        // Inside of the loop that the buffer is scoped to, a deeper loop keeps it alive all through.
        let inside = scoped.get(&root).and_then(|l| access.loops.iter().position(|x| x == l));
        let outermost = access.loops.get(inside.map_or(0, |at| at + 1)).map(|&l| walk.loops[l]);
        let span = outermost.unwrap_or(LoopSpan { first: access.position, last: access.position });
        let known = seen.entry(root).or_insert(span);
        *known = LoopSpan { first: known.first.min(span.first), last: known.last.max(span.last) };
    }
    for (&root, span) in &seen {
        let buffer = &program.buffers[root];
        if buffer.role == Role::Temp && buffer.alias.is_none() {
            births.entry(span.first).or_default().push(root);
            deaths.entry(span.last).or_default().push(root);
        }
    }
    let shared = shared_at(program);
    let mut alive: BTreeMap<Arc<str>, i64> = BTreeMap::new();
    let mut at: BTreeMap<Arc<str>, Vec<i64>> = BTreeMap::new();
    for position in 0..walk.len {
        let dying: BTreeSet<BufferId> = deaths.get(&position).into_iter().flatten().copied().collect();
        for &root in births.get(&position).into_iter().flatten() {
            *alive.entry(program.buffers[root].memory.clone()).or_default() += bytes(program, root);
        }
        for (memory, now) in &alive {
            let saved = shared.get(&position).map_or(0, |(operands, result)| {
                let born = births.get(&position).is_some_and(|b| b.contains(result));
                let taken =
                    operands.iter().filter(|o| dying.contains(o) && bytes(program, **o) == bytes(program, *result));
                let fits = born && *program.buffers[*result].memory == **memory;
                taken.filter(|_| fits).map(|o| bytes(program, *o)).max().unwrap_or(0)
            });
            let at = at.entry(memory.clone()).or_insert_with(|| vec![0; walk.len as usize]);
            at[position as usize] = now - saved;
        }
        for root in dying {
            *alive.entry(program.buffers[root].memory.clone()).or_default() -= bytes(program, root);
        }
    }
    at
}

fn bytes(program: &Program, root: BufferId) -> i64 {
    let buffer = &program.buffers[root];
    let lanes = i64::from(program.memory_of(buffer).lanes.max(1));
    (buffer.bytes().upper(&program.dims) + lanes - 1) / lanes
}

/// By position: the operands whose place the result of an elementwise leaf may take, and the result.
fn shared_at(program: &Program) -> BTreeMap<u32, (Vec<BufferId>, BufferId)> {
    fn block(program: &Program, body: &[Stmt], at: &mut u32, found: &mut BTreeMap<u32, (Vec<BufferId>, BufferId)>) {
        for stmt in body {
            let position = *at;
            *at += 1;
            match stmt {
                Stmt::For(inner) => block(program, &inner.body, at, found),
                Stmt::Leaf(leaf) => {
                    let operands = overwritable(program, leaf);
                    if let (false, Some(result)) = (operands.is_empty(), leaf.outputs.first()) {
                        found.insert(position, (operands, program.root(result.buffer)));
                    }
                }
                Stmt::Dma(_) | Stmt::Wait(_) => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    block(program, &program.body, &mut 0, &mut found);
    found
}
