//! Invariants 5 to 12 and 16: statements, in the scopes of their loops.

use std::collections::BTreeSet;

use super::TileViolation;
use crate::extent::{DimRange, Extent, LIMIT};
use crate::ops::TypeError;
use crate::tile::{
    Buffer, BufferId, Dma, Facts, For, Leaf, Program, Role, Stmt, Var, View, WindowPlace, may_overwrite,
};
use crate::types::TensorType;

/// The walk over the statements.
pub(super) struct Checker<'a> {
    program: &'a Program,
    facts: Facts,
    pub(super) under_way: Vec<UnderWay>,
    pub(super) found: Vec<TileViolation>,
}

/// A copy under way: the boxes it touches, as intervals per axis.
#[derive(Clone, PartialEq)]
pub(super) struct UnderWay {
    pub(super) tag: u32,
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

impl<'a> Checker<'a> {
    pub(super) fn new(program: &'a Program, found: Vec<TileViolation>) -> Self {
        let facts = Facts { ranges: program.dims.clone(), vars: Vec::new() };
        Self { program, facts, under_way: Vec::new(), found }
    }

    fn push(&mut self, violation: TileViolation) {
        if !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    pub(super) fn block(&mut self, body: &[Stmt]) {
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
    pub(super) fn view(&mut self, at: &str, view: &View, write: bool) -> bool {
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
        let broken = view.offsets.iter().chain(&view.sizes).filter(|e| !self.extent(at, e)).count();
        if broken > 0 {
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
        let may_pass = view.fill.is_some() || whole || empty;
        let proved = may_pass || (self.facts.nonneg(offset) && self.facts.le(&end, extent));
        if !proved {
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
        let inputs = leaf.inputs.iter().enumerate().filter_map(|(index, input)| Some((index, input.as_ref()?)));
        let pairs = inputs.flat_map(|(index, input)| leaf.outputs.iter().map(move |output| (index, input, output)));
        for (index, input, output) in pairs.collect::<Vec<_>>() {
            let same_box =
                input.buffer == output.buffer && input.offsets == output.offsets && input.sizes == output.sizes;
            let in_place = same_box && may_overwrite(&leaf.op, index);
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
