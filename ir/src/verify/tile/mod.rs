//! Verifier of the tile IR. The invariants:
//!
//! 1. ranges of dimensions are neither empty nor negative; memories have an alignment that is a power of two, at least one
//!    lane and bank, and a positive capacity;
//! 2. a buffer's layout fits its rank, its extents mention declared dimensions only and stay within `0..=LIMIT`, a window is
//!    on one of its axes, and in a memory of several lanes the outermost dimension of the layout is a block of so many;
//! 3. an alias lies inside another buffer that is no alias, in the same memory, neither of them windowed;
//! 4. a recipe gives the buffer's type;
//! 5. loop steps are positive; loop variables differ from dimensions and from enclosing variables;
//! 6. extents of statements mention dimensions and variables in scope only;
//! 7. a view names a buffer and has its rank; sizes are not negative;
//! 8. reads without a fill value and all writes are proved to lie inside of the buffer and of its window;
//! 9. operator, operand types and result types of a leaf agree;
//! 10. inputs and weights are not written;
//! 11. a copy goes between different memories, between boxes of the same dtype and sizes, without fill;
//! 12. while a copy is under way nothing else touches what it writes or writes what it reads; a wait names a tag under way;
//!     nothing is under way at the end;
//! 13. temporary and output buffers are written before they are read, and every output is written;
//! 14. planned offsets are aligned, not negative and, with the buffer, inside of the capacity;
//! 15. placed buffers that are alive at the same time do not overlap, unless one takes the place of the other in an
//!     elementwise leaf; an attribute `bank` names the bank that a placed buffer lies in;
//! 16. a leaf writes no bytes that it reads, unless it is elementwise and reads and writes the same box.

mod body;
mod placement;
mod violation;

use std::collections::BTreeSet;

use crate::extent::{Extent, LIMIT};
use crate::tile::{Buffer, BufferId, Facts, Program, Role};

use body::Checker;
use placement::{definedness, placement};
pub use violation::TileViolation;

/// All violations of a program.
///
/// # Errors
/// The violations, when there are any.
pub fn verify_program(program: &Program) -> Result<(), Vec<TileViolation>> {
    let mut found = Vec::new();
    declarations(program, &mut found);
    for (id, buffer) in program.buffers.iter() {
        check_buffer(program, id, buffer, &mut found);
    }
    let mut checker = Checker::new(program, found);
    for binding in program.inputs.iter().chain(&program.outputs) {
        checker.view(&format!("binding `{}`", binding.name), &binding.view, true);
    }
    checker.block(&program.body);
    let tags: BTreeSet<u32> = checker.under_way.iter().map(|c| c.tag).collect();
    checker.found.extend(tags.into_iter().map(|tag| TileViolation::NotAwaited { tag }));
    let mut found = checker.found;
    // What follows walks accesses and placements, which make no sense on broken buffers.
    if found.is_empty() {
        definedness(program, &mut found);
        placement(program, &mut found);
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn declarations(program: &Program, found: &mut Vec<TileViolation>) {
    for (name, range) in &program.dims {
        if range.lo < 0 || range.hi < range.lo || range.hi > LIMIT {
            found.push(TileViolation::Range { name: name.clone(), lo: range.lo, hi: range.hi });
        }
    }
    for (name, memory) in &program.memories {
        let aligned = memory.align > 0 && memory.align.count_ones() == 1;
        let capacity = memory.capacity.is_none_or(|c| (1..=LIMIT).contains(&c));
        if !aligned || !capacity || memory.lanes == 0 || memory.banks == 0 {
            found.push(TileViolation::Memory { name: name.clone() });
        }
    }
}

fn check_buffer(program: &Program, id: BufferId, buffer: &Buffer, found: &mut Vec<TileViolation>) {
    if let Some(reason) = buffer_violation(program, buffer) {
        found.push(TileViolation::Buffer { buffer: id, name: buffer.name.clone(), reason });
        return;
    }
    if let Some((base, offset)) = &buffer.alias
        && let Some(reason) = alias_violation(program, id, *base, offset)
    {
        found.push(TileViolation::Alias { buffer: id, base: *base, reason });
    }
    if let Role::Weight(recipe) = &buffer.role {
        let reason = match recipe.ty(&program.consts) {
            Ok(ty) if ty.dtype == buffer.dtype && ty.shape == buffer.shape => return,
            Ok(ty) => format!("the recipe gives {ty}, the buffer is {}", buffer.ty()),
            Err(error) => error.to_string(),
        };
        found.push(TileViolation::Weight { buffer: id, reason });
    }
}

fn buffer_violation(program: &Program, buffer: &Buffer) -> Option<String> {
    if !buffer.layout.fits(buffer.shape.len()) {
        return Some("the layout does not fit the rank".into());
    }
    if let Some(window) = &buffer.window
        && window.axis >= buffer.shape.len()
    {
        return Some(format!("a window on axis {}, which it does not have", window.axis));
    }
    let facts = Facts { ranges: program.dims.clone(), vars: Vec::new() };
    for extent in buffer.shape.iter().chain(&buffer.held_shape()).chain([&buffer.bytes()]) {
        let mut symbols = BTreeSet::new();
        extent.symbols(&mut symbols);
        if symbols.iter().any(|s| !program.dims.contains_key(s)) {
            return Some(format!("`{extent}` mentions an undeclared dimension"));
        }
        if !facts.nonneg(extent) || extent.upper(&program.dims) > LIMIT {
            return Some(format!("`{extent}` is not proved to lie in 0..={LIMIT}"));
        }
    }
    let lanes = program.memory_of(buffer).lanes;
    if lanes > 1 && buffer.layout.dims().first().map(|d| d.block) != Some(lanes) {
        return Some(format!(
            "memory `{}` needs a layout whose outermost dimension is a block of {lanes}",
            buffer.memory
        ));
    }
    None
}

fn alias_violation(program: &Program, id: BufferId, base: BufferId, offset: &Extent) -> Option<&'static str> {
    let Some(owner) = program.buffers.get(base) else { return Some("no such buffer") };
    let buffer = &program.buffers[id];
    if base == id || owner.alias.is_some() {
        return Some("the base is an alias itself");
    }
    if owner.memory != buffer.memory || program.memory_of(owner).lanes > 1 {
        return Some("the memories differ or have lanes");
    }
    if owner.window.is_some() || buffer.window.is_some() {
        return Some("one of them is windowed");
    }
    let facts = Facts { ranges: program.dims.clone(), vars: Vec::new() };
    let end = offset.clone() + buffer.bytes();
    if !facts.nonneg(offset) || !facts.le(&end, &owner.bytes()) {
        return Some("it is not proved to lie inside of its base");
    }
    None
}
