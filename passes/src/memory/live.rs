//! What the allocator places: buffers with sizes and live ranges, in-place pairs made one.

use std::collections::BTreeMap;
use std::sync::Arc;

use adze_ir::tile::{Buffer, BufferId, Program, Role, Walk, live_ranges, overwritable};

/// A piece of memory to place: one buffer, or several that take each other's place in elementwise leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The buffers, in order of their live ranges.
    pub buffers: Vec<BufferId>,
    /// Bytes (per lane) at the upper ends of the declared ranges.
    pub size: i64,
    /// First position at which it is alive.
    pub first: u32,
    /// Last position at which it is alive.
    pub last: u32,
    /// Lowest offset it may have: the start of its bank.
    pub base: i64,
}

/// Bytes of a buffer in one lane, at the upper ends of the declared ranges.
pub(super) fn lane_bytes(program: &Program, buffer: &Buffer) -> i64 {
    let lanes = i64::from(program.memory_of(buffer).lanes.max(1));
    buffer.bytes().ceildiv(&lanes.into()).upper(&program.dims).max(0)
}

/// Whether the planner places a buffer: temporary, without a place so far, owner of its bytes.
pub(super) fn is_planned(buffer: &Buffer) -> bool {
    buffer.role == Role::Temp && buffer.alias.is_none() && buffer.offset.is_none()
}

/// The items of every memory.
pub fn items(program: &Program) -> BTreeMap<Arc<str>, Vec<Item>> {
    let walk = Walk::of(program);
    let ranges = live_ranges(program, &walk);
    let mut items: BTreeMap<BufferId, Item> = BTreeMap::new();
    for (id, buffer) in program.buffers.iter().filter(|(_, b)| is_planned(b)) {
        if let Some(&(first, last)) = ranges.get(&id) {
            let memory = program.memory_of(buffer);
            let bank = buffer.attrs.get("bank").copied().unwrap_or(0);
            let base = memory.capacity.map_or(0, |c| c / i64::from(memory.banks.max(1)) * bank);
            items.insert(id, Item { buffers: vec![id], size: lane_bytes(program, buffer), first, last, base });
        }
    }
    merge_handovers(program, &mut items);
    let mut by_memory: BTreeMap<Arc<str>, Vec<Item>> = BTreeMap::new();
    for (id, item) in items {
        by_memory.entry(program.buffers[id].memory.clone()).or_default().push(item);
    }
    by_memory
}

/// Where a leaf's result may take the place of an operand that dies there, both become one item.
fn merge_handovers(program: &Program, items: &mut BTreeMap<BufferId, Item>) {
    // The buffer under which a merged one is found.
    let mut owner: BTreeMap<BufferId, BufferId> = BTreeMap::new();
    program.for_each_leaf(&mut |leaf| {
        let Some(result) = leaf.outputs.first().map(|v| program.root(v.buffer)) else { return };
        for operand in overwritable(program, leaf) {
            let keeper = owner.get(&operand).copied().unwrap_or(operand);
            let same_memory = program.buffers[operand].memory == program.buffers[result].memory;
            let (Some(old), Some(new)) = (items.get(&keeper), items.get(&result)) else { continue };
            let hands_over = old.buffers.last() == Some(&operand) && old.last == new.first && new.buffers == [result];
            if keeper == result || !same_memory || !hands_over || (old.size, old.base) != (new.size, new.base) {
                continue;
            }
            let last = new.last;
            items.remove(&result);
            owner.insert(result, keeper);
            if let Some(old) = items.get_mut(&keeper) {
                old.buffers.push(result);
                old.last = last;
            }
            return;
        }
    });
}
