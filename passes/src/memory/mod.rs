//! Static memory planning: every temporary buffer of every memory gets an offset.
//!
//! Sizes are taken at the upper ends of the declared ranges, so one plan serves all dimensions. Elementwise leaves may write
//! over an operand that dies. The bound that a plan is judged by is computed apart, in [`bound`](self::lower_bounds).

mod bound;
mod cascade;
mod limit;
mod live;
mod place;
mod rows;
mod strips;

use std::fmt;
use std::sync::Arc;

use adze_ir::tile::{BufferId, Program};

pub use bound::{alive_bytes, lower_bounds};
pub use cascade::{Depth, cascade};
pub use limit::{LimitError, plan_within};
pub use live::{Item, items};
pub use place::{Placement, place};

/// Why a program cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A memory is too small.
    #[error("memory `{memory}`: found {needed} bytes needed, accepted: up to {capacity}")]
    Capacity {
        /// The memory.
        memory: Arc<str>,
        /// Bytes (per lane) of the best plan found.
        needed: i64,
        /// Bytes there are.
        capacity: i64,
    },
}

/// A planned buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBuffer {
    /// The buffer.
    pub buffer: BufferId,
    /// Its name.
    pub name: Arc<str>,
    /// Byte offset.
    pub offset: i64,
    /// Bytes.
    pub size: i64,
    /// First position at which it is alive; of the first buffer when several share the place.
    pub first: u32,
    /// Last position at which it is alive; of the last buffer when several share the place.
    pub last: u32,
}

/// The plan of one memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The memory.
    pub memory: Arc<str>,
    /// Bytes that it takes.
    pub bytes: i64,
    /// Bytes that any plan takes: the most that is alive at one position.
    pub bound: i64,
    /// The buffers, by offset.
    pub buffers: Vec<PlannedBuffer>,
}

/// The plan of a program, by memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The memories with planned buffers, by name.
    pub memories: Vec<MemoryPlan>,
}

impl Plan {
    /// Bytes of a memory; 0 when nothing is planned there.
    pub fn bytes(&self, memory: &str) -> i64 {
        self.memories.iter().find(|m| &*m.memory == memory).map_or(0, |m| m.bytes)
    }
}

/// Gives every temporary buffer that has no offset yet one.
///
/// # Errors
/// [`PlanError::Capacity`] when a memory of limited capacity does not hold the plan.
pub fn plan(program: &mut Program) -> Result<Plan, PlanError> {
    let bounds = lower_bounds(program);
    let mut plan = Plan::default();
    for (memory, items) in items(program) {
        let properties = program.memories.get(&memory).copied().unwrap_or_default();
        let bound = bounds.get(&memory).copied().unwrap_or(0);
        let placement = place(&items, properties.align.max(1), bound);
        if let Some(capacity) = properties.capacity
            && placement.bytes > capacity
        {
            return Err(PlanError::Capacity { memory, needed: placement.bytes, capacity });
        }
        let mut buffers = Vec::new();
        for (item, &offset) in items.iter().zip(&placement.offsets) {
            for &buffer in &item.buffers {
                program.buffers[buffer].offset = Some(offset.into());
                let name = program.buffers[buffer].name.clone();
                buffers.push(PlannedBuffer {
                    buffer,
                    name,
                    offset,
                    size: item.size,
                    first: item.first,
                    last: item.last,
                });
            }
        }
        buffers.sort_by_key(|b| (b.offset, b.first, b.buffer));
        plan.memories.push(MemoryPlan { memory, bytes: placement.bytes, bound, buffers });
    }
    Ok(plan)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for memory in &self.memories {
            let bound = memory.bound;
            writeln!(f, "memory {}: {} bytes, live-range bound {bound} bytes", memory.memory, memory.bytes)?;
            for b in &memory.buffers {
                let (from, to) = (b.offset, b.offset + b.size);
                writeln!(f, "  {from:>9}..{to:<9} alive {:>4}..={:<4} {} {}", b.first, b.last, b.buffer, b.name)?;
            }
        }
        Ok(())
    }
}
