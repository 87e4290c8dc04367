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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cranelift_entity::EntityRef;

use crate::extent::{DimRange, Extent, LIMIT, Sym};
use crate::ops::TypeError;
use crate::tile::{
    Buffer, BufferId, Dma, Facts, For, Leaf, Program, Role, Stmt, Var, View, Walk, WindowPlace, is_elementwise,
    live_ranges, overwritable,
};
use crate::types::TensorType;

/// One violated invariant of a program.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TileViolation {
    /// Invariant 1.
    #[error("dimension `{name}`: range {lo}..{hi} is empty or negative")]
    Range {
        /// The dimension.
        name: Sym,
        /// Smallest value.
        lo: i64,
        /// Largest value.
        hi: i64,
    },
    /// Invariant 1.
    #[error("memory `{name}`: alignment, lanes, banks or capacity make no sense")]
    Memory {
        /// The memory.
        name: Arc<str>,
    },
    /// Invariant 2.
    #[error("{buffer} `{name}`: {reason}")]
    Buffer {
        /// The buffer.
        buffer: BufferId,
        /// Its name.
        name: Arc<str>,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 3.
    #[error("{buffer} is an alias of {base}: {reason}")]
    Alias {
        /// The buffer.
        buffer: BufferId,
        /// What it shares the bytes of.
        base: BufferId,
        /// What is wrong.
        reason: &'static str,
    },
    /// Invariant 4.
    #[error("weight {buffer}: {reason}")]
    Weight {
        /// The buffer.
        buffer: BufferId,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 5.
    #[error("loop `{var}`: {reason}")]
    Loop {
        /// Its variable.
        var: Sym,
        /// What is wrong.
        reason: &'static str,
    },
    /// Invariant 6.
    #[error("{at}: `{extent}` mentions what is not in scope, or leaves what is allowed")]
    Extent {
        /// The statement.
        at: String,
        /// The extent.
        extent: Extent,
    },
    /// Invariant 7.
    #[error("{at}: view of {buffer}: {reason}")]
    View {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 8.
    #[error("{at}: axis {axis} of {buffer}, {offset} : {size}, is not proved to lie inside of {what}")]
    Outside {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
        /// The axis.
        axis: usize,
        /// First index.
        offset: Extent,
        /// Number of indices.
        size: Extent,
        /// Extent of the buffer or its window.
        what: String,
    },
    /// Invariant 9: the rule refuses.
    #[error("{at}: {error}")]
    Type {
        /// The statement.
        at: String,
        /// Why.
        error: TypeError,
    },
    /// Invariant 9: the rule gives something else.
    #[error("{at}: result {result} is {found}, the type rule gives {expected}")]
    ResultType {
        /// The statement.
        at: String,
        /// Position of the result.
        result: usize,
        /// Type of the view.
        found: String,
        /// Type of the rule.
        expected: String,
    },
    /// Invariant 10.
    #[error("{at} writes {buffer}, an input or weight")]
    ReadOnly {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
    },
    /// Invariant 11.
    #[error("{at}: {reason}")]
    Copy {
        /// The statement.
        at: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Invariant 12.
    #[error("{at} touches {buffer} while the copy of tag {tag} is under way")]
    UnderWay {
        /// The statement.
        at: String,
        /// The buffer.
        buffer: BufferId,
        /// Tag of the copy.
        tag: u32,
    },
    /// Invariant 12.
    #[error("wait for tag {tag}: no such copy is under way")]
    Wait {
        /// The tag.
        tag: u32,
    },
    /// Invariant 12.
    #[error("the copy of tag {tag} is never waited for")]
    NotAwaited {
        /// The tag.
        tag: u32,
    },
    /// Invariant 13.
    #[error("{buffer} `{name}` is {what}")]
    Undefined {
        /// The buffer.
        buffer: BufferId,
        /// Its name.
        name: Arc<str>,
        /// `read before it is written` or `never written`.
        what: &'static str,
    },
    /// Invariant 14.
    #[error("{buffer} at {offset}: {reason}")]
    Offset {
        /// The buffer.
        buffer: BufferId,
        /// Its offset.
        offset: Extent,
        /// What is wrong.
        reason: String,
    },
    /// Invariant 15.
    #[error("{a} and {b} overlap in `{memory}` while both are alive (positions {from} to {to})")]
    Overlap {
        /// One buffer.
        a: BufferId,
        /// The other.
        b: BufferId,
        /// Their memory.
        memory: Arc<str>,
        /// First common position.
        from: u32,
        /// Last common position.
        to: u32,
    },
    /// Invariant 16.
    #[error("{at} writes bytes of {buffer} that it reads")]
    Overwrite {
        /// The statement.
        at: String,
        /// The buffer that is read.
        buffer: BufferId,
    },
}

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
    let mut checker = Checker {
        program,
        facts: Facts { ranges: program.dims.clone(), vars: Vec::new() },
        under_way: Vec::new(),
        found,
    };
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

struct Checker<'a> {
    program: &'a Program,
    facts: Facts,
    under_way: Vec<UnderWay>,
    found: Vec<TileViolation>,
}

/// A copy under way: the boxes it touches, as intervals per axis.
#[derive(Clone, PartialEq)]
struct UnderWay {
    tag: u32,
    dst: Region,
    src: Region,
}

#[derive(Clone, PartialEq)]
struct Region {
    buffer: BufferId,
    axes: Vec<DimRange>,
    /// The view itself, as long as the loop variables still have the values it was evaluated with.
    view: Option<View>,
}

impl Checker<'_> {
    fn push(&mut self, violation: TileViolation) {
        if !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For(inner) => self.for_loop(inner),
                Stmt::Leaf(leaf) => self.leaf(leaf),
                Stmt::Dma(dma) => self.dma(dma),
                Stmt::Wait(tag) => self.wait(*tag),
            }
        }
    }

    fn for_loop(&mut self, inner: &For) {
        if inner.step <= 0 {
            self.push(TileViolation::Loop { var: inner.var.clone(), reason: "its step is not positive" });
            return;
        }
        if self.facts.ranges.contains_key(&inner.var) {
            self.push(TileViolation::Loop { var: inner.var.clone(), reason: "its variable is taken" });
            return;
        }
        let at = format!("loop `{}`", inner.var);
        if !self.extent(&at, &inner.lo) | !self.extent(&at, &inner.hi) {
            return;
        }
        let last = inner.lo.clone()
            + (inner.hi.clone() - inner.lo.clone() - 1.into()).floordiv(&inner.step.into()) * inner.step.into();
        let (lo, hi) = (inner.lo.range(&self.facts.ranges).lo, last.range(&self.facts.ranges).hi);
        self.facts.ranges.insert(inner.var.clone(), DimRange { lo, hi: hi.max(lo) });
        let (name, first) = (inner.var.clone(), inner.lo.clone());
        self.facts.vars.push(Var { name, first, last, step: inner.step });
        let before = self.under_way.clone();
        self.block(&inner.body);
        if self.under_way != before {
            // Copies that were started in one iteration and go on in the next.
            self.forget_views();
            self.block(&inner.body);
            self.forget_views();
        }
        self.facts.vars.pop();
        self.facts.ranges.remove(&inner.var);
    }

    /// Whether everything that an extent mentions is in scope and its range is sane.
    fn extent(&mut self, at: &str, extent: &Extent) -> bool {
        let mut symbols = BTreeSet::new();
        extent.symbols(&mut symbols);
        let range = extent.range(&self.facts.ranges);
        let fine = symbols.iter().all(|s| self.facts.ranges.contains_key(s)) && range.lo >= -LIMIT && range.hi <= LIMIT;
        if !fine {
            self.push(TileViolation::Extent { at: at.into(), extent: extent.clone() });
        }
        fine
    }

    /// Checks a view and says whether its buffer, rank and extents make sense.
    fn view(&mut self, at: &str, view: &View, write: bool) -> bool {
        let Some(buffer) = self.program.buffers.get(view.buffer) else {
            let reason = "no such buffer".to_owned();
            self.push(TileViolation::View { at: at.into(), buffer: view.buffer, reason });
            return false;
        };
        let rank = buffer.shape.len();
        if view.offsets.len() != rank || view.sizes.len() != rank {
            let reason = format!("rank {} on a buffer of rank {rank}", view.sizes.len());
            self.push(TileViolation::View { at: at.into(), buffer: view.buffer, reason });
            return false;
        }
        let fine = view.offsets.iter().chain(&view.sizes).fold(true, |fine, e| self.extent(at, e) && fine);
        if !fine {
            return false;
        }
        if view.sizes.iter().any(|size| !self.facts.nonneg(size)) {
            let reason = "a size is not proved to be 0 or more".to_owned();
            self.push(TileViolation::View { at: at.into(), buffer: view.buffer, reason });
        }
        if write && view.fill.is_some() {
            let reason = "what is written has no fill value".to_owned();
            self.push(TileViolation::View { at: at.into(), buffer: view.buffer, reason });
        }
        for axis in 0..rank {
            self.inside(at, view, buffer, axis);
        }
        true
    }

    fn inside(&mut self, at: &str, view: &View, buffer: &Buffer, axis: usize) {
        let (offset, size, extent) = (&view.offsets[axis], &view.sizes[axis], &buffer.shape[axis]);
        let end = offset.clone() + size.clone();
        let empty = size.as_const() == Some(0);
        let whole = *offset == Extent::ZERO && size == extent;
        let mut what = None;
        if view.fill.is_none() && !whole && !empty && !(self.facts.nonneg(offset) && self.facts.le(&end, extent)) {
            what = Some(extent.to_string());
        }
        if let Some(window) = buffer.window.as_ref().filter(|w| w.axis == axis) {
            let fits = match &window.place {
                WindowPlace::Rolling => self.facts.le(size, &window.rows) || self.facts.le(extent, &window.rows),
                WindowPlace::From(origin) => {
                    let first = offset.maximum(&Extent::ZERO) - origin.clone();
                    let past = end.minimum(extent) - origin.clone();
                    self.facts.nonneg(&first) && self.facts.le(&past, &window.rows)
                }
            };
            if !fits {
                what = Some(format!("the window of {} indices", window.rows));
            }
        }
        if let Some(what) = what {
            let (offset, size) = (offset.clone(), size.clone());
            self.push(TileViolation::Outside { at: at.into(), buffer: view.buffer, axis, offset, size, what });
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        let at = describe(leaf);
        let mut fine = true;
        for view in leaf.inputs.iter().flatten() {
            fine &= self.view(&at, view, false);
            self.touch(&at, view, false);
        }
        for view in &leaf.outputs {
            fine &= self.view(&at, view, true);
            self.touch(&at, view, true);
            self.writable(&at, view);
        }
        let op = leaf.op.map_extents(&mut |e| {
            let in_scope = self.extent(&at, e);
            if in_scope { Ok(e.clone()) } else { Err(()) }
        });
        if fine && op.is_ok() {
            self.types(&at, leaf);
            self.overwrites(&at, leaf);
        }
    }

    fn overwrites(&mut self, at: &str, leaf: &Leaf) {
        let pairs = leaf.inputs.iter().flatten().flat_map(|i| leaf.outputs.iter().map(move |o| (i, o)));
        for (input, output) in pairs.collect::<Vec<_>>() {
            let same_box =
                input.buffer == output.buffer && input.offsets == output.offsets && input.sizes == output.sizes;
            let in_place = same_box && is_elementwise(&leaf.op);
            if self.program.root(input.buffer) == self.program.root(output.buffer)
                && !in_place
                && !self.disjoint(input, output)
            {
                self.push(TileViolation::Overwrite { at: at.into(), buffer: input.buffer });
            }
        }
    }

    /// Whether two views of the same bytes are proved to be apart.
    fn disjoint(&self, a: &View, b: &View) -> bool {
        if a.buffer == b.buffer {
            let rolls = self.program.buffers[a.buffer].window.is_some();
            let apart = |axis: usize| {
                let ends = |v: &View| v.offsets[axis].clone() + v.sizes[axis].clone();
                self.facts.le(&ends(a), &b.offsets[axis]) || self.facts.le(&ends(b), &a.offsets[axis])
            };
            return !rolls && (0..a.offsets.len()).any(apart);
        }
        let bytes = |v: &View| {
            let buffer = &self.program.buffers[v.buffer];
            let start = buffer.alias.as_ref().map_or(Extent::ZERO, |(_, offset)| offset.clone());
            (start.clone(), start + buffer.bytes())
        };
        let (a, b) = (bytes(a), bytes(b));
        self.facts.le(&a.1, &b.0) || self.facts.le(&b.1, &a.0)
    }

    fn types(&mut self, at: &str, leaf: &Leaf) {
        let ty = |view: &View| view.ty(&self.program.buffers[view.buffer]);
        let inputs: Vec<Option<TensorType>> = leaf.inputs.iter().map(|v| v.as_ref().map(ty)).collect();
        let refs: Vec<Option<&TensorType>> = inputs.iter().map(Option::as_ref).collect();
        let outputs: Vec<TensorType> = leaf.outputs.iter().map(ty).collect();
        match leaf.op.infer(&refs) {
            Err(error) => self.push(TileViolation::Type { at: at.into(), error }),
            Ok(expected) if expected.len() != outputs.len() => {
                let error = TypeError::Arity {
                    found: format!("{} results", outputs.len()),
                    accepted: format!("{} results", expected.len()),
                };
                self.push(TileViolation::Type { at: at.into(), error });
            }
            Ok(expected) => {
                for (result, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
                    if (found.dtype, &found.shape) != (expected.dtype, &expected.shape) {
                        let (found, expected) = (found.to_string(), expected.to_string());
                        self.push(TileViolation::ResultType { at: at.into(), result, found, expected });
                    }
                }
            }
        }
    }

    fn writable(&mut self, at: &str, view: &View) {
        let Some(buffer) = self.program.buffers.get(view.buffer) else { return };
        let root = buffer.alias.as_ref().and_then(|(base, _)| self.program.buffers.get(*base)).unwrap_or(buffer);
        if matches!(root.role, Role::Input(_) | Role::Weight(_)) {
            self.push(TileViolation::ReadOnly { at: at.into(), buffer: view.buffer });
        }
    }

    fn dma(&mut self, dma: &Dma) {
        let at = format!("copy to {} from {} of tag {}", dma.dst.buffer, dma.src.buffer, dma.tag);
        let fine = self.view(&at, &dma.src, false) & self.view(&at, &dma.dst, true);
        if !fine {
            return;
        }
        let (dst, src) = (&self.program.buffers[dma.dst.buffer], &self.program.buffers[dma.src.buffer]);
        if dst.memory == src.memory {
            self.push(TileViolation::Copy { at: at.clone(), reason: "both sides are in the same memory" });
        }
        if dst.dtype != src.dtype || dma.dst.sizes != dma.src.sizes {
            self.push(TileViolation::Copy { at: at.clone(), reason: "the sides differ in dtype or sizes" });
        }
        if dma.src.fill.is_some() {
            self.push(TileViolation::Copy { at: at.clone(), reason: "a copy has no fill value" });
        }
        self.writable(&at, &dma.dst);
        self.touch(&at, &dma.src, false);
        self.touch(&at, &dma.dst, true);
        let copy = UnderWay { tag: dma.tag, dst: self.region(&dma.dst), src: self.region(&dma.src) };
        if !self.under_way.contains(&copy) {
            self.under_way.push(copy);
        }
    }

    fn wait(&mut self, tag: u32) {
        let before = self.under_way.len();
        self.under_way.retain(|copy| copy.tag != tag);
        if self.under_way.len() == before {
            self.push(TileViolation::Wait { tag });
        }
    }

    fn region(&self, view: &View) -> Region {
        let buffer = &self.program.buffers[view.buffer];
        let ranges = &self.facts.ranges;
        let axes = view.offsets.iter().zip(&view.sizes).enumerate().map(|(axis, (offset, size))| {
            let (first, past) = (offset.range(ranges).lo, (offset.clone() + size.clone()).range(ranges).hi);
            let rolls = buffer.window.as_ref().is_some_and(|w| w.axis == axis);
            if rolls { DimRange { lo: i64::MIN, hi: i64::MAX } } else { DimRange { lo: first, hi: past - 1 } }
        });
        Region { buffer: view.buffer, axes: axes.collect(), view: Some(view.clone()) }
    }

    /// The loop variables change: only intervals are known of the copies under way.
    fn forget_views(&mut self) {
        for copy in &mut self.under_way {
            (copy.dst.view, copy.src.view) = (None, None);
        }
    }

    /// An access: it must not meet a copy under way.
    fn touch(&mut self, at: &str, view: &View, write: bool) {
        let Some(buffer) = self.program.buffers.get(view.buffer) else { return };
        if view.offsets.len() != buffer.shape.len() || view.sizes.len() != buffer.shape.len() {
            return;
        }
        let region = self.region(view);
        let meets = |other: &Region| {
            if other.buffer != region.buffer {
                return self.program.root(other.buffer) == self.program.root(region.buffer);
            }
            let apart = other.view.as_ref().is_some_and(|v| self.disjoint(v, view));
            !apart && other.axes.iter().zip(&region.axes).all(|(a, b)| a.lo <= b.hi && b.lo <= a.hi)
        };
        let met: Vec<u32> =
            self.under_way.iter().filter(|c| meets(&c.dst) || (write && meets(&c.src))).map(|c| c.tag).collect();
        for tag in met {
            self.push(TileViolation::UnderWay { at: at.into(), buffer: view.buffer, tag });
        }
    }
}

fn describe(leaf: &Leaf) -> String {
    let loc = if leaf.loc.is_empty() { String::new() } else { format!(" {}", leaf.loc) };
    let outputs: Vec<String> = leaf.outputs.iter().map(|v| v.buffer.to_string()).collect();
    format!("leaf `{}` to {}{loc}", leaf.op.name(), outputs.join(", "))
}

/// Invariant 13, in the order of the text: the first access to bytes that nobody gave must be a write.
fn definedness(program: &Program, found: &mut Vec<TileViolation>) {
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

/// Invariants 14 and 15.
fn placement(program: &Program, found: &mut Vec<TileViolation>) {
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
    let mut placed: BTreeMap<&str, Vec<(BufferId, i64, i64, (u32, u32))>> = BTreeMap::new();
    for (id, buffer) in program.buffers.iter().filter(|(_, b)| b.alias.is_none()) {
        let (Some(offset), Some(&range)) = (&buffer.offset, live.get(&id)) else { continue };
        let start = offset.range(&program.dims).lo;
        let end = offset.upper(&program.dims) + lane_bytes(program, buffer).upper(&program.dims);
        placed.entry(&buffer.memory).or_default().push((id, start, end, live_of(program, id, range, walk.len)));
    }
    for (memory, mut buffers) in placed {
        buffers.sort_by_key(|b| (b.1, b.0.index()));
        for (index, a) in buffers.iter().enumerate() {
            for b in buffers[index + 1..].iter().take_while(|b| b.1 < a.2) {
                let (from, to) = (a.3.0.max(b.3.0), a.3.1.min(b.3.1));
                let swaps = from == to && (a.1, a.2) == (b.1, b.2) && {
                    let (first, second) = if a.3.1 == from && b.3.0 == from { (a.0, b.0) } else { (b.0, a.0) };
                    handovers.contains(&(first, second))
                };
                if from <= to && !swaps {
                    found.push(TileViolation::Overlap { a: a.0, b: b.0, memory: memory.into(), from, to });
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
