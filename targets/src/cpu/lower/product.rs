//! Sums of products over loops: what matrix products and convolutions have in common.
//!
//! A [`Product`] walks units of work (outer axes, chunks of rows, panels of columns) in a fixed order; `lo..hi` of the
//! kernel is a range of units, so threads share rows and panels and never a sum. Within a unit, blocks of rows by vectors
//! of columns stay in registers ([`super::micro`]).

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use super::blocking::Order;
use super::epilogue::Epilogue;
use super::leaf::{Axis, Leaf, Stream, bind, decode};
use super::micro::{Ahead, Block, Form, Operands, Sum, dot_block, load_lanes, multiply_add, sum_block, vec_step};
use super::operand::{Lowered, Unsupported};
use crate::cpu::kernel::{Cmp, Cond, Elem, KernelBuilder, Type, UnOp, Value};
use crate::cpu::machine::{Arch, Machine};

/// Positions of the fixed streams among an axis' strides; the bias and the epilogue's operands follow.
pub(super) const LEFT: usize = 0;
/// Right operand.
pub(super) const RIGHT: usize = 1;
/// Result.
pub(super) const RESULT: usize = 2;
/// Start of the sums; its strides are zero when there is none.
pub(super) const START: usize = 3;
/// First of the epilogue's operands.
pub(super) const EXTRA: usize = 4;

/// How the right operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Panels of `nr` columns, padded; the column stride in [`Product::cols`] counts from panel to panel.
    Packed,
    /// Any column stride.
    Strided,
    /// Both operands have neighbouring elements along the sum, which is a single axis.
    Dot,
}

/// Rows that are computed alike.
#[derive(Clone, Debug)]
pub(super) struct RowPart {
    /// First row.
    pub lo: Extent,
    /// Rows stay below; a multiple of `rows` away from `lo`.
    pub hi: Extent,
    /// Rows of a block.
    pub rows: usize,
    /// Handed to [`Product::sum`].
    pub pattern: usize,
}

/// The sum of a block: from the unit's outer indices, the block's first row and the pattern of its [`RowPart`].
pub(super) type SumOf<'a> = dyn Fn(&mut KernelBuilder, &[Extent], &Extent, usize) -> Sum + 'a;

/// `alpha · sums + beta · start`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Factor of the sums.
    pub alpha: f64,
    /// Factor of the start.
    pub beta: f64,
}

/// A sum of products.
pub(super) struct Product<'a> {
    /// Element computed in.
    pub elem: Elem,
    /// Lanes of a vector.
    pub lanes: u16,
    /// Rows of a full block.
    pub mr: usize,
    /// Columns of a panel.
    pub nr: usize,
    /// Steps of the left operand that are read together; see [`Operands::at_once`].
    pub at_once: u16,
    /// Left operand, right operand, result.
    pub streams: [Stream; 3],
    /// How the right operand lies.
    pub right: Right,
    /// What the sums start at.
    pub start: Option<Stream>,
    /// Factors of the sums and of what they start at, which is then added at the end.
    pub scale: Option<Scale>,
    /// How steps of the sum lie in the operands.
    pub form: Form,
    /// A stored number by which the start is multiplied, after so much is added to it, and negated.
    pub start_times: Option<(Stream, i64)>,
    /// Outer axes.
    pub outer: Vec<Axis>,
    /// Rows of blocks.
    pub rows: Axis,
    /// Columns.
    pub cols: Axis,
    /// Rows of a unit, when rows are shared among units.
    pub chunk: Option<i64>,
    /// Rows that need special care; empty when all are alike.
    pub row_parts: Vec<RowPart>,
    /// How panels are walked.
    pub order: Order,
    /// The sum.
    pub sum: &'a SumOf<'a>,
    /// Steps before the store.
    pub epilogue: Epilogue<'a>,
}

/// Offsets of all streams at one place.
type Place = Vec<Extent>;

/// From so many bytes on, panels come from beyond the second cache.
pub(super) const AHEAD_BYTES: i64 = 1 << 20;
pub(super) const LINE_BYTES: i64 = 64;

/// Whether kernels of a machine fetch panels before they are used.
pub(super) fn fetches_ahead(machine: &Machine) -> bool {
    match machine.arch {
        Arch::X86_64 => machine.vector_bytes > 16,
        Arch::Aarch64 => true,
        Arch::Riscv64 | Arch::C99 => false,
    }
}

/// Panels that are fetched before they are used.
#[derive(Clone, Copy, Debug)]
struct PanelAhead {
    /// Elements from a panel to the next one.
    step: i64,
    /// Blocks that a panel is used for.
    blocks: i64,
    /// Of these in a unit of the outer axes.
    each: i64,
    /// Elements of a cache line.
    line: i64,
}

struct Columns {
    lo: Extent,
    hi: Extent,
    block: Block,
}

impl Product<'_> {
    /// Writes the kernel.
    pub fn emit(self, mut leaf: Leaf<'_>) -> Result<Lowered, Unsupported> {
        let panels = self.cols.extent.ceildiv(&self.nr.into());
        let chunks = match self.chunk {
            Some(chunk) if self.row_parts.is_empty() => self.rows.extent.ceildiv(&chunk.into()),
            _ => Extent::ONE,
        };
        let outer: Vec<Extent> = self.outer.iter().map(|axis| axis.extent.clone()).collect();
        let count = outer.len();
        let mut counts = outer;
        counts.push(chunks.clone());
        let at = if self.order.panels_first { 0 } else { count + 1 };
        counts.insert(at, panels.clone());
        let range = Extent::product(&counts);
        let ahead = self.ahead(leaf.cx.machine, leaf.b.dtype(self.streams[RIGHT].param), &chunks);
        let (lo, hi) = leaf.b.range();
        let mut result = Ok(());
        leaf.b.loop_(lo, hi, 1, |b, unit| {
            let mut indices = decode(b, unit, &counts);
            let mut panel = indices.remove(at);
            if self.order.backwards {
                panel = bind(b, panels.clone() - 1.into() - panel);
            }
            let chunk = indices.pop().unwrap_or(Extent::ZERO);
            result = self.unit(b, &indices, (&chunk, chunks != Extent::ONE), &panel, ahead);
        });
        result?;
        Ok(leaf.finish(range))
    }

    fn bases(&self) -> Place {
        let start = self.start.as_ref().map_or(Extent::ZERO, |s| s.base.clone());
        let fixed = self.streams.iter().map(|s| s.base.clone()).chain([start]);
        fixed.chain(self.epilogue.streams.iter().map(|(s, _)| s.base.clone())).collect()
    }

    fn unit(
        &self,
        b: &mut KernelBuilder,
        outer: &[Extent],
        (chunk, chunked): (&Extent, bool),
        panel: &Extent,
        ahead: Option<PanelAhead>,
    ) -> Result<(), Unsupported> {
        let mut place = self.bases();
        for (axis, index) in self.outer.iter().zip(outer) {
            place = moved(&place, axis, index);
        }
        let first = panel.clone() * self.nr.into();
        place = moved(&place, &self.cols, &first).into_iter().map(|offset| bind(b, offset)).collect();
        let rows = self.row_parts_of(b, chunk, chunked);
        let whole = self.full_block();
        let blocks =
            |b: &mut KernelBuilder, columns: &[Columns]| self.blocks(b, outer, &place, (&rows, columns), ahead);
        match self.cols.extent.as_const() {
            Some(n) => {
                let tail = self.tail_columns(n % self.nr as i64);
                let full_panels = n / self.nr as i64;
                if full_panels == 0 {
                    return blocks(b, &tail);
                }
                if tail.is_empty() {
                    return blocks(b, &[whole]);
                }
                let mut results = (Ok(()), Ok(()));
                b.if_else(
                    Cond::Extent(panel.clone(), Cmp::Lt, full_panels.into()),
                    |b| {
                        results.0 = blocks(b, &[whole]);
                        Vec::new()
                    },
                    |b| {
                        results.1 = blocks(b, &tail);
                        Vec::new()
                    },
                );
                results.0.and(results.1)
            }
            None => {
                let left = bind(b, (self.cols.extent.clone() - first).minimum(&self.nr.into()));
                let columns = self.dynamic_columns(b, left);
                blocks(b, &columns)
            }
        }
    }

    fn full_block(&self) -> Columns {
        let lanes = if self.right == Right::Dot { 1 } else { self.lanes };
        let vecs = self.nr / usize::from(lanes);
        let block = Block { rows: self.mr, vecs, lanes, valid: lanes, exact: self.right != Right::Packed };
        Columns { lo: Extent::ZERO, hi: self.nr.into(), block }
    }

    /// The last panel, when it has `tail` columns.
    fn tail_columns(&self, tail: i64) -> Vec<Columns> {
        let full = self.full_block();
        let lanes = i64::from(full.block.lanes);
        let tail_usize = usize::try_from(tail).unwrap_or(0);
        if tail == 0 || self.right == Right::Dot {
            let block = Block { vecs: tail_usize, ..full.block };
            return if tail == 0 { Vec::new() } else { vec![Columns { lo: Extent::ZERO, hi: tail.into(), block }] };
        }
        let valid = u16::try_from((tail - 1) % lanes + 1).unwrap_or(1);
        let block = Block { vecs: tail_usize.div_ceil(usize::from(full.block.lanes)), valid, ..full.block };
        vec![Columns { lo: Extent::ZERO, hi: tail.into(), block }]
    }

    /// A panel of `left` columns, known at run time only: whole panels, then vectors, then single columns.
    fn dynamic_columns(&self, b: &mut KernelBuilder, left: Extent) -> Vec<Columns> {
        let full = self.full_block();
        let mut parts = Vec::new();
        let mut lo = Extent::ZERO;
        let single = Block { vecs: 1, lanes: 1, valid: 1, exact: true, ..full.block };
        let vector = Block { vecs: 1, ..full.block };
        for block in [full.block, vector, single] {
            if parts.last().is_some_and(|last: &Columns| last.block == block) {
                continue;
            }
            let step: Extent = block.cols().into();
            let hi = lo.clone() + (left.clone() - lo.clone()).floordiv(&step) * step;
            let hi = bind(b, hi);
            parts.push(Columns { lo, hi: hi.clone(), block });
            lo = hi;
        }
        parts
    }

    fn row_parts_of(&self, b: &mut KernelBuilder, chunk: &Extent, chunked: bool) -> Vec<RowPart> {
        if !self.row_parts.is_empty() {
            return self.row_parts.clone();
        }
        let extent = &self.rows.extent;
        let (lo, hi) = match self.chunk {
            Some(rows) if chunked => {
                let lo = chunk.clone() * rows.into();
                let hi = extent.minimum(&(lo.clone() + rows.into()));
                (bind(b, lo), bind(b, hi))
            }
            _ => (Extent::ZERO, extent.clone()),
        };
        let step: Extent = self.mr.into();
        let middle = lo.clone() + (hi.clone() - lo.clone()).floordiv(&step) * step.clone();
        let middle = bind(b, middle);
        let part = |lo: &Extent, hi: &Extent, rows| RowPart { lo: lo.clone(), hi: hi.clone(), rows, pattern: 0 };
        let mut parts = vec![part(&lo, &middle, self.mr)];
        match extent.as_const() {
            Some(n) => match usize::try_from(n).unwrap_or(0) % self.mr {
                0 => {}
                rest => parts.push(part(&middle, &hi, rest)),
            },
            None => {
                let mut lo = middle;
                let mut rows = self.mr.next_power_of_two() / 2;
                while rows > 0 {
                    let step: Extent = rows.into();
                    let end = lo.clone() + (hi.clone() - lo.clone()).floordiv(&step) * step;
                    let end = bind(b, end);
                    parts.push(part(&lo, &end, rows));
                    (lo, rows) = (end, rows / 2);
                }
            }
        }
        parts
    }

    fn blocks(
        &self,
        b: &mut KernelBuilder,
        outer: &[Extent],
        place: &Place,
        (rows, columns): (&[RowPart], &[Columns]),
        ahead: Option<PanelAhead>,
    ) -> Result<(), Unsupported> {
        let mut result = Ok(());
        for columns in columns {
            let step = columns.block.cols();
            each(b, &columns.lo, &columns.hi, step, |b, col| {
                let place = moved(place, &self.cols, &col);
                for part in rows {
                    let block = Block { rows: part.rows, ..columns.block };
                    each(b, &part.lo, &part.hi, part.rows as i64, |b, row| {
                        let place = moved(&place, &self.rows, &row);
                        let sum = (self.sum)(b, outer, &row, part.pattern);
                        let ahead = ahead.map(|ahead| self.block_ahead(b, ahead, outer, &row));
                        let done = self.block(b, block, &sum, &place, ahead);
                        if result.is_ok() {
                            result = done;
                        }
                    });
                }
            });
        }
        result
    }

    /// Whether panels that are walked one after the other are too many for the second cache, so that each has to be
    /// fetched while the one before it is in use.
    fn ahead(&self, machine: &Machine, right: DType, chunks: &Extent) -> Option<PanelAhead> {
        let bytes = i64::from(right.bits() / 8);
        if !fetches_ahead(machine) || !self.order.panels_first || self.right != Right::Packed || bytes == 0 {
            return None;
        }
        let units = self.outer.iter().map(|axis| axis.extent.as_const()).product::<Option<i64>>()?;
        let rows = self.rows.extent.as_const()?;
        let each = rows.div_euclid(self.mr as i64) + i64::from(rows % self.mr as i64 > 0);
        let panel = self.cols.strides[RIGHT].as_const()? * self.nr as i64;
        let step = if self.order.backwards { -panel } else { panel };
        let panels = self.cols.extent.ceildiv(&self.nr.into()).as_const()?;
        let blocks = units.checked_mul(each)?;
        let much = panel.checked_mul(panels * bytes).is_some_and(|all| all >= AHEAD_BYTES);
        let wanted = much && panels > 1 && blocks > 1 && chunks.as_const().is_some();
        wanted.then_some(PanelAhead { step, blocks, each, line: LINE_BYTES / bytes })
    }

    fn block_ahead(&self, b: &mut KernelBuilder, ahead: PanelAhead, outer: &[Extent], row: &Extent) -> Ahead {
        let unit = self
            .outer
            .iter()
            .zip(outer)
            .fold(Extent::ZERO, |unit, (axis, index)| unit * axis.extent.clone() + index.clone());
        let index = bind(b, unit * ahead.each.into() + row.floordiv(&self.mr.into()));
        Ahead { distance: ahead.step.into(), index, blocks: ahead.blocks, line: ahead.line }
    }

    fn block(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        sum: &Sum,
        place: &Place,
        ahead: Option<Ahead>,
    ) -> Result<(), Unsupported> {
        let right_stride = match self.right {
            Right::Packed if matches!(self.form, Form::Quads(_)) => 4.into(),
            Right::Packed => Extent::ONE,
            Right::Strided | Right::Dot => self.cols.strides[RIGHT].clone(),
        };
        let operands = Operands {
            elem: self.elem,
            a: &self.streams[LEFT],
            b: &self.streams[RIGHT],
            row_stride: self.rows.strides[LEFT].clone(),
            col_stride: right_stride,
            form: self.form,
            at_once: self.at_once,
            ahead,
        };
        let ty = Type::vec(self.elem, block.lanes);
        let starts = match (&self.start, self.scale) {
            (Some(start), None) => self.starts(b, block, start, place),
            _ => {
                let zero = b.zero(ty);
                vec![zero; block.rows * block.vecs]
            }
        };
        let at = (place[LEFT].clone(), place[RIGHT].clone());
        let mut sums = match (self.right, sum) {
            (Right::Dot, Sum::Run { hi, .. }) => dot_block(b, &operands, block, (hi, self.lanes), at, starts),
            _ => sum_block(b, &operands, block, sum, at, starts),
        };
        if let Some(scale) = self.scale {
            self.scale(b, block, scale, place, &mut sums);
        }
        self.finish_block(b, block, place, sums)
    }

    fn starts(&self, b: &mut KernelBuilder, block: Block, start: &Stream, place: &Place) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::with_capacity(block.rows * block.vecs);
        let (row_stride, col_stride) = (&self.rows.strides[START], &self.cols.strides[START]);
        for row in 0..block.rows {
            for vec in 0..block.vecs {
                if row > 0 && *row_stride == Extent::ZERO {
                    values.push(values[vec]);
                    continue;
                }
                let at = place[START].clone() + row_stride.clone() * row.into() + vec_step(&block, vec, col_stride);
                let valid = if vec + 1 == block.vecs { block.valid } else { block.lanes };
                let value = load_lanes(b, start, at, col_stride, (block.lanes, valid), self.elem);
                values.push(self.times(b, value));
            }
        }
        values
    }

    /// What the sums start at, when it depends on a zero point that is not known before.
    fn times(&self, b: &mut KernelBuilder, start: Value) -> Value {
        let Some((zero, raise)) = &self.start_times else { return start };
        let ty = b.ty(start);
        let zero = b.load_as(zero.param, zero.base.clone(), ty.with_lanes(1));
        let zero = b.splat(zero, ty.lanes);
        let raise = b.int(*raise, ty);
        let factor = b.add(zero, raise);
        let product = b.mul(start, factor);
        b.un(UnOp::Neg, product)
    }

    fn scale(&self, b: &mut KernelBuilder, block: Block, scale: Scale, place: &Place, sums: &mut [Value]) {
        let ty = Type::vec(self.elem, block.lanes);
        let (alpha, beta) = (b.number(scale.alpha, ty), b.number(scale.beta, ty));
        let starts = self.start.as_ref().map(|start| self.starts(b, block, start, place));
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = b.mul(*sum, alpha);
            if let Some(starts) = &starts {
                *sum = multiply_add(b, starts[index], beta, *sum);
            }
        }
    }

    /// Epilogue and store.
    fn finish_block(
        &self,
        b: &mut KernelBuilder,
        block: Block,
        place: &Place,
        mut sums: Vec<Value>,
    ) -> Result<(), Unsupported> {
        if !self.epilogue.is_empty() {
            for (index, sum) in sums.iter_mut().enumerate() {
                let (row, vec) = (index / block.vecs, index % block.vecs);
                let valid = if vec + 1 == block.vecs { block.valid } else { block.lanes };
                let at = |stream: usize| {
                    let stride = &self.cols.strides[EXTRA + stream];
                    let rows = self.rows.strides[EXTRA + stream].clone() * row.into();
                    (place[EXTRA + stream].clone() + rows + vec_step(&block, vec, stride), stride.clone())
                };
                let operands = self.epilogue.load(b, &at, (block.lanes, valid));
                *sum = self.epilogue.apply(b, *sum, &operands)?;
            }
        }
        let target = super::store::Target {
            stream: &self.streams[RESULT],
            at: place[RESULT].clone(),
            row_stride: self.rows.strides[RESULT].clone(),
            col_stride: self.cols.strides[RESULT].clone(),
            saturates: self.epilogue.saturates(),
        };
        super::store::store_block(b, block, &target, &sums);
        Ok(())
    }
}

fn moved(place: &Place, axis: &Axis, index: &Extent) -> Place {
    place.iter().zip(&axis.strides).map(|(at, stride)| at.clone() + stride.clone() * index.clone()).collect()
}

/// A loop, left out when it runs once.
fn each(b: &mut KernelBuilder, lo: &Extent, hi: &Extent, step: i64, body: impl FnOnce(&mut KernelBuilder, Extent)) {
    match (hi.clone() - lo.clone()).as_const() {
        Some(n) if n <= 0 => {}
        Some(n) if n <= step => body(b, lo.clone()),
        _ => b.loop_(lo.clone(), hi.clone(), step, body),
    }
}
