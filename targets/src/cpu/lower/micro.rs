//! The inner loops of sums of products: a block of rows by vectors of columns stays in registers while the sum runs.

use std::ops::Range;

use adze_ir::extent::Extent;

use super::leaf::{Stream, bind};
use super::product::LINE_BYTES;
use crate::cpu::kernel::ir::Shift;
use crate::cpu::kernel::{BinOp, Elem, KernelBuilder, Type, Value};

/// The loops of a sum, outermost first. `a` and `b` are the elements that the operands move per index.
#[derive(Clone, Debug)]
pub(super) enum Sum {
    /// A loop around other loops.
    Loop {
        /// First index.
        lo: Extent,
        /// Indices stay below.
        hi: Extent,
        /// Movement of the left operand.
        a: Extent,
        /// Movement of the right operand.
        b: Extent,
        /// What is summed for each.
        body: Box<Sum>,
    },
    /// Parts in order.
    Seq(Vec<Part>),
    /// The innermost loop.
    Run {
        /// First index.
        lo: Extent,
        /// Indices stay below.
        hi: Extent,
        /// Movement of the left operand.
        a: Extent,
        /// Movement of the right operand.
        b: Extent,
    },
    /// One step of so many bytes of the left operand, at most four, and which of the steps of its vector of weights it
    /// is; see [`Quads`].
    Rest(u16, i64),
    /// Blocks, each summed by itself and then scaled; the right operand has the block's scales and zero points in front
    /// of its weights ([`Stored`]).
    Scaled {
        /// Number of blocks.
        count: i64,
        /// Movement of the left operand.
        a: Extent,
        /// Movement of the right operand.
        b: Extent,
        /// The sum of a block.
        body: Box<Sum>,
    },
}

/// A part of a sum that only some rows of the block take part in.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Elements the left operand starts at.
    pub a: Extent,
    /// Elements the right operand starts at.
    pub b: Extent,
    /// Rows that take part.
    pub rows: Range<usize>,
    /// The sum.
    pub body: Sum,
}

/// One axis of a sum.
#[derive(Clone, Debug)]
pub(super) struct SumAxis {
    /// First index.
    pub lo: Extent,
    /// Indices stay below.
    pub hi: Extent,
    /// Movement of the left operand.
    pub a: Extent,
    /// Movement of the right operand.
    pub b: Extent,
}

impl SumAxis {
    /// Indices `0..extent`.
    pub fn whole(extent: Extent, a: Extent, b: Extent) -> Self {
        Self { lo: Extent::ZERO, hi: extent, a, b }
    }
}

impl Sum {
    /// One loop along neighbouring elements of both operands.
    pub fn whole(extent: Extent) -> Sum {
        Sum::Run { lo: Extent::ZERO, hi: extent, a: Extent::ONE, b: Extent::ONE }
    }

    /// Nested loops, outermost first; neighbours that both operands walk as one are joined.
    pub fn nest(axes: &[SumAxis]) -> Sum {
        if axes.iter().any(|axis| axis.hi == axis.lo) {
            return Sum::Seq(Vec::new());
        }
        let mut joined: Vec<SumAxis> = Vec::new();
        for axis in axes {
            if axis.lo == Extent::ZERO && axis.hi == Extent::ONE {
                continue;
            }
            match joined.last_mut() {
                Some(outer) if axis.lo == Extent::ZERO && joins(outer, axis) => {
                    let times = |e: &Extent| e.clone() * axis.hi.clone();
                    *outer = SumAxis { lo: times(&outer.lo), hi: times(&outer.hi), ..axis.clone() };
                }
                _ => joined.push(axis.clone()),
            }
        }
        let last = joined.pop().unwrap_or_else(|| SumAxis::whole(Extent::ONE, Extent::ONE, Extent::ONE));
        let steps = (last.hi.clone() - last.lo.clone()).as_const().unwrap_or(i64::MAX);
        Sum::Run { lo: last.lo, hi: last.hi, a: last.a, b: last.b }.within(joined, steps)
    }

    /// Runs as those of [`Sum::quads`], whose vectors of weights go on from one run to the next; nothing where there are too many steps to
    /// be written out.
    pub fn joined_quads(axes: &[SumAxis], bytes: i64, nr: usize, quads: Quads) -> Option<Sum> {
        let mut starts = vec![Extent::ZERO];
        for axis in axes {
            let turns = axis.hi.as_const().filter(|turns| axis.lo == Extent::ZERO && *turns <= STRAIGHT_STEPS)?;
            let next = |start: &Extent| {
                (0..turns).map(|turn| start.clone() + axis.a.clone() * turn.into()).collect::<Vec<_>>()
            };
            starts = starts.iter().flat_map(next).collect();
        }
        let words = (bytes + 3) / 4;
        if words * starts.len() as i64 > STRAIGHT_STEPS {
            return None;
        }
        let places = starts.iter().flat_map(|start| (0..words).map(move |word| (start, word)));
        let part = |(at, (start, word)): (i64, (&Extent, i64))| Part {
            a: start.clone() + (4 * word).into(),
            b: (4 * nr as i64 * (at / quads.steps)).into(),
            rows: 0..usize::MAX,
            body: Sum::Rest(u16::try_from((bytes - 4 * word).min(4)).unwrap_or(4), at % quads.steps),
        };
        Some(Sum::Seq((0..).zip(places).map(part).collect()))
    }

    /// This sum, of that many steps, in loops; outermost first.
    fn within(self, axes: Vec<SumAxis>, mut steps: i64) -> Sum {
        axes.into_iter().rev().fold(self, |sum, axis| {
            let turns = axis.hi.as_const().filter(|_| axis.lo == Extent::ZERO).unwrap_or(i64::MAX);
            steps = steps.saturating_mul(turns);
            if steps <= STRAIGHT_STEPS { axis.straight(turns, &sum) } else { axis.around(sum) }
        })
    }

    /// Runs of `bytes` neighbouring bytes of the left operand in loops, outermost first; the right operand has its
    /// `nr` columns interleaved by four, each run filled up to whole vectors.
    pub fn quads(axes: Vec<SumAxis>, bytes: i64, nr: usize, quads: Quads) -> Sum {
        let (whole, rest) = (bytes / 4, bytes % 4);
        let step = 4 * nr as i64 / quads.steps;
        let part = |at: i64, body: Sum| {
            let vector = at - at % quads.steps;
            Part { a: (4 * at).into(), b: (step * vector).into(), rows: 0..usize::MAX, body }
        };
        let mut parts = Vec::new();
        if whole > 0 {
            let run = Sum::Run { lo: Extent::ZERO, hi: whole.into(), a: 4.into(), b: step.into() };
            parts.push(part(0, run));
        }
        if rest > 0 {
            parts.push(part(whole, Sum::Rest(u16::try_from(rest).unwrap_or(0), whole % quads.steps)));
        }
        Sum::Seq(parts).within(axes, whole + i64::from(rest > 0))
    }
}

/// Most instructions of a loop that load whole lines of the right operand. The more there are, the less is foreseen by processors: AMD's
/// Zen 5 reads 16 streams of a matrix in the third cache at 137 GB/s and 32 at 127.
const LOADS: i64 = 16;
/// Sums of so few steps are written out.
const STRAIGHT_STEPS: i64 = 32;

impl SumAxis {
    pub(super) fn around(self, body: Sum) -> Sum {
        Sum::Loop { lo: self.lo, hi: self.hi, a: self.a, b: self.b, body: Box::new(body) }
    }

    fn straight(&self, turns: i64, body: &Sum) -> Sum {
        let part = |i: i64| Part {
            a: self.a.clone() * i.into(),
            b: self.b.clone() * i.into(),
            rows: 0..usize::MAX,
            body: body.clone(),
        };
        Sum::Seq((0..turns).map(part).collect())
    }
}

fn joins(outer: &SumAxis, inner: &SumAxis) -> bool {
    outer.a == inner.a.clone() * inner.hi.clone() && outer.b == inner.b.clone() * inner.hi.clone()
}

/// Where the operands of a block are.
pub(super) struct Operands<'a> {
    /// Element computed in.
    pub elem: Elem,
    /// Left operand, one scalar per row.
    pub a: &'a Stream,
    /// Right operand, vectors of columns.
    pub b: &'a Stream,
    /// Elements of the left operand from row to row.
    pub row_stride: Extent,
    /// Elements of the right operand from column to column.
    pub col_stride: Extent,
    /// How a step of the sum lies in them.
    pub form: Form,
    /// Neighbouring steps of a row that are read together, as a vector whose lanes are multiplied by; 1 for machines that
    /// repeat an element as they read it.
    pub at_once: u16,
    /// The panel that comes next, to be fetched meanwhile.
    pub ahead: Option<Ahead>,
}

/// A panel of the right operand that comes next: the blocks of this one fetch it into the second cache, each its share.
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    /// Elements from a place in this panel to the same in the next one.
    pub distance: Extent,
    /// Which of the blocks of this panel it is.
    pub index: Extent,
    /// How many there are.
    pub blocks: i64,
    /// Elements of a cache line.
    pub line: i64,
}

/// How a step of a sum lies in its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An element of the left operand, a vector of columns of the right one.
    Plain,
    /// Both operands are bytes, summed four at a time in `i32`.
    Quads(Quads),
    /// The right operand is stored integers in blocks; see [`Sum::Scaled`].
    Stored(Stored),
}

/// Stored weights that are dequantized in registers: bytes, or parts of them, the earlier step in the lower bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Steps of the sum whose weights share a byte: 1, 2 for weights of 4 bits, 4 for those of 2.
    pub steps: i64,
    /// Whether parts of a byte have a sign; whole bytes do.
    pub signed: bool,
    /// Whether a block has zero points.
    pub zeros: bool,
    /// Columns of a panel.
    pub nr: usize,
}

impl Stored {
    /// Bytes before the weights of a block: scales of the panel's columns, then zero points, in `f32`.
    pub fn header_bytes(&self) -> usize {
        4 * self.nr * if self.zeros { 2 } else { 1 }
    }

    /// Bytes of a block of so many steps of the sum.
    pub fn block_bytes(&self, steps: usize) -> usize {
        self.header_bytes() + steps * self.nr / self.steps as usize
    }

    /// The integers of one of the steps that share bytes, of these widened to 32 bits.
    fn part(&self, b: &mut KernelBuilder, bytes: Value, part: i64) -> Value {
        if self.steps == 1 {
            return bytes;
        }
        let (bits, last) = ((8 / self.steps) as u32, part + 1 == self.steps);
        let lowest = bits * part as u32;
        if self.signed {
            // To the top and down again, which fills in the sign; the last part has it already.
            let top = if last { bytes } else { b.shift(Shift::Left, bytes, 32 - bits - lowest) };
            return b.shift(Shift::RightS, top, if last { lowest } else { 32 - bits });
        }
        let low = if part == 0 { bytes } else { b.shift(Shift::RightU, bytes, lowest) };
        if last {
            return low;
        }
        let mask = b.int((1 << bits) - 1, b.ty(low));
        b.bin(BinOp::And, low, mask)
    }
}

/// How four neighbouring bytes of the left operand meet those of the right one, which are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quads {
    /// Whether the left operand is signed.
    pub signed: bool,
    /// Whether the highest bit of each byte of the left operand is flipped first, which moves signed bytes up by 128 and
    /// unsigned ones down, and changes their sign; what the sums start at makes good for it.
    pub flipped: bool,
    /// Steps whose weights share a byte, the first one in its lowest bits, each more than it is by half of what fits:
    /// 1, 2 for weights of 4 bits, 4 for those of 2.
    pub steps: i64,
}

/// A register block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Rows.
    pub rows: usize,
    /// Vectors of columns.
    pub vecs: usize,
    /// Lanes of a vector.
    pub lanes: u16,
    /// Lanes of the last vector that are columns; the others hold anything.
    pub valid: u16,
    /// Lanes that are missing may not be read from the right operand.
    pub exact: bool,
}

impl Block {
    fn valid_lanes(&self, vec: usize) -> u16 {
        if vec + 1 == self.vecs { self.valid } else { self.lanes }
    }

    /// Number of columns.
    pub fn cols(&self) -> i64 {
        self.vecs as i64 * i64::from(self.lanes) - i64::from(self.lanes - self.valid)
    }

    /// Independent sums per element, so that enough are in flight: a multiply-add takes four cycles, two start per cycle.
    fn chains(&self) -> usize {
        match self.rows * self.vecs {
            0..=3 => 4,
            4..=5 => 2,
            _ => 1,
        }
    }
}

/// Column offset of a vector.
pub(super) fn vec_step(block: &Block, vec: usize, stride: &Extent) -> Extent {
    stride.clone() * (vec as i64 * i64::from(block.lanes)).into()
}

/// Reads one vector whose lanes are `stride` elements apart, of which the first `valid` may be read.
pub(super) fn load_lanes(
    b: &mut KernelBuilder,
    stream: &Stream,
    at: Extent,
    stride: &Extent,
    (lanes, valid): (u16, u16),
    elem: Elem,
) -> Value {
    let ty = Type::vec(elem, lanes);
    if *stride == Extent::ZERO {
        return b.splat_as(stream.param, at, ty);
    }
    if lanes == 1 || (valid == lanes && *stride == Extent::ONE) {
        return b.load_as(stream.param, at, ty);
    }
    if *stride == Extent::ONE {
        return b.load_first_as(stream.param, at, ty, valid);
    }
    let mut vector = b.zero(ty);
    for lane in 0..valid {
        let offset = at.clone() + stride.clone() * i64::from(lane).into();
        let scalar = b.load_as(stream.param, offset, ty.with_lanes(1));
        vector = b.insert(vector, lane, scalar);
    }
    vector
}

/// Emits the sum for one block. `a` and `bb` are the offsets of its first row and column, `inits` one value per row and
/// vector, row by row. Returns the sums in that order.
pub(super) fn sum_block(
    b: &mut KernelBuilder,
    operands: &Operands<'_>,
    block: Block,
    sum: &Sum,
    (a, bb): (Extent, Extent),
    inits: Vec<Value>,
) -> Vec<Value> {
    let chains = block.chains();
    let ty = Type::vec(operands.elem, block.lanes);
    let mut sums = inits;
    let per_chain = sums.len();
    while sums.len() < chains * per_chain {
        sums.push(b.zero(ty));
    }
    let mut emit = Emit { operands, block, per_chain, zeros: Vec::new() };
    let sums = emit.sum(b, sum, &a, &bb, 0..block.rows, sums);
    fold_chains(b, sums, per_chain)
}

/// Adds the chains pairwise: 0+1, 2+3, then those.
fn fold_chains(b: &mut KernelBuilder, mut sums: Vec<Value>, per_chain: usize) -> Vec<Value> {
    while sums.len() > per_chain {
        let pairs = sums.len() / per_chain / 2;
        sums = (0..pairs * per_chain)
            .map(|i| {
                let (pair, at) = (i / per_chain, i % per_chain);
                b.add(sums[2 * pair * per_chain + at], sums[(2 * pair + 1) * per_chain + at])
            })
            .collect();
    }
    sums
}

struct Emit<'a> {
    operands: &'a Operands<'a>,
    block: Block,
    per_chain: usize,
    /// Zero points of the current block of [`Stored`] weights, per vector.
    zeros: Vec<Value>,
}

impl Emit<'_> {
    fn sum(
        &mut self,
        b: &mut KernelBuilder,
        sum: &Sum,
        at_a: &Extent,
        at_b: &Extent,
        rows: Range<usize>,
        sums: Vec<Value>,
    ) -> Vec<Value> {
        match sum {
            Sum::Seq(parts) => parts.iter().fold(sums, |sums, part| {
                let (from, to) = (rows.start.max(part.rows.start), rows.end.min(part.rows.end));
                let (a, bb) = (at_a.clone() + part.a.clone(), at_b.clone() + part.b.clone());
                self.sum(b, &part.body, &a, &bb, from..to, sums)
            }),
            Sum::Loop { lo, hi, a, b: step_b, body } => b.for_(lo.clone(), hi.clone(), 1, &sums, |b, i, sums| {
                let at_a = at_a.clone() + a.clone() * i.clone();
                let at_b = at_b.clone() + step_b.clone() * i;
                self.sum(b, body, &at_a, &at_b, rows, sums.to_vec())
            }),
            Sum::Run { lo, hi, a, b: step_b } => {
                let run = Run { a, b: step_b, at_a, at_b, rows, bytes: 4 };
                self.run(b, lo, hi, &run, sums)
            }
            Sum::Rest(bytes, part) => {
                let run = Run { a: &Extent::ZERO, b: &Extent::ZERO, at_a, at_b, rows, bytes: *bytes };
                self.step(b, &run, Extent::ZERO, (0, *part), sums)
            }
            Sum::Scaled { count, a, b: step_b, body } => b.for_(0, *count, 1, &sums, |b, i, sums| {
                let at_a = at_a.clone() + a.clone() * i.clone();
                let at_b = at_b.clone() + step_b.clone() * i;
                self.scaled(b, body, (&at_a, &at_b), rows, sums.to_vec())
            }),
        }
    }

    /// One block of stored weights, added to the sums of the first chain.
    fn scaled(
        &mut self,
        b: &mut KernelBuilder,
        body: &Sum,
        (at_a, at_b): (&Extent, &Extent),
        rows: Range<usize>,
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let Form::Stored(stored) = self.operands.form else { return sums };
        let ty = Type::vec(self.operands.elem, self.block.lanes);
        let (vecs, lanes) = (self.block.vecs, self.block.lanes);
        let param = self.operands.b.param;
        let mut header = |at: usize| -> Vec<Value> {
            let place = |vec: usize| at_b.clone() + Extent::from(4 * (at + vec * usize::from(lanes)));
            let load = |vec: usize| {
                let bytes = b.load(param, place(vec), 4 * lanes);
                b.bitcast(bytes, ty)
            };
            (0..vecs).map(load).collect()
        };
        let scales = header(0);
        self.zeros = if stored.zeros { header(stored.nr) } else { Vec::new() };
        let zero = b.zero(ty);
        let weights = at_b.clone() + stored.header_bytes().into();
        let block = self.sum(b, body, at_a, &weights, rows, vec![zero; sums.len()]);
        let block = fold_chains(b, block, self.per_chain);
        for (index, value) in block.into_iter().enumerate() {
            sums[index] = b.muladd(value, scales[index % vecs], sums[index]);
        }
        sums
    }

    /// A step of stored weights, or as many as share a byte. What there is less of stays in registers meanwhile: elements of the rows,
    /// or columns.
    fn stored_step(
        &self,
        b: &mut KernelBuilder,
        stored: Stored,
        run: &Run<'_>,
        (at_b, k): (&Extent, &Extent),
        chain: usize,
        sums: &mut [Value],
    ) {
        let (operands, block) = (self.operands, self.block);
        let at_a = run.at_a.clone() + run.a.clone() * k.clone();
        let apart = run.a.floordiv(&stored.steps.into());
        let left = |b: &mut KernelBuilder, row: usize, part: i64| {
            let at = at_a.clone() + apart.clone() * part.into() + operands.row_stride.clone() * row.into();
            let scalar = b.load_as(operands.a.param, at, Type::scalar(operands.elem));
            b.splat(scalar, block.lanes)
        };
        let bytes = |b: &mut KernelBuilder, vec: usize| {
            let at = at_b.clone() + vec_step(&block, vec, &Extent::ONE);
            let raw = b.load(operands.b.param, at, block.lanes);
            b.convert(raw, stored.signed, Elem::I32)
        };
        let column = |b: &mut KernelBuilder, bytes: Value, vec: usize, part: i64| {
            let int = stored.part(b, bytes, part);
            let float = b.convert(int, true, operands.elem);
            self.zeros.get(vec).map_or(float, |&zero| b.sub(float, zero))
        };
        let slot = |row: usize, vec: usize| chain * self.per_chain + row * block.vecs + vec;
        if block.vecs > run.rows.len() {
            let mut lefts = Vec::new();
            for part in 0..stored.steps {
                lefts.extend(run.rows.clone().map(|row| left(b, row, part)));
            }
            for vec in 0..block.vecs {
                let bytes = bytes(b, vec);
                for part in 0..stored.steps {
                    let column = column(b, bytes, vec, part);
                    for (at, row) in run.rows.clone().enumerate() {
                        let left = lefts[part as usize * run.rows.len() + at];
                        sums[slot(row, vec)] = multiply_add(b, left, column, sums[slot(row, vec)]);
                    }
                }
            }
            return;
        }
        let all: Vec<Value> = (0..block.vecs).map(|vec| bytes(b, vec)).collect();
        for part in 0..stored.steps {
            let columns: Vec<Value> = all.iter().enumerate().map(|(vec, &bytes)| column(b, bytes, vec, part)).collect();
            for row in run.rows.clone() {
                let left = left(b, row, part);
                for (vec, &column) in columns.iter().enumerate() {
                    sums[slot(row, vec)] = multiply_add(b, left, column, sums[slot(row, vec)]);
                }
            }
        }
    }

    fn run(&self, b: &mut KernelBuilder, lo: &Extent, hi: &Extent, run: &Run<'_>, sums: Vec<Value>) -> Vec<Value> {
        let unroll = self.unroll(run);
        let length = hi.clone() - lo.clone();
        if length.as_const().is_some_and(|n| n <= 2 * unroll) {
            return self.steps(b, run, lo, length.as_const().unwrap_or(0), sums);
        }
        let middle = lo.clone() + length.floordiv(&unroll.into()) * unroll.into();
        let middle = bind(b, middle);
        let lines = self.lines_ahead(b, run, unroll);
        let sums = b.for_(lo.clone(), middle.clone(), unroll, &sums, |b, i, sums| {
            for line in &lines {
                b.prefetch(self.operands.b.param, line.clone() + run.b.clone() * i.clone());
            }
            self.steps(b, run, &i, unroll, sums.to_vec())
        });
        match length.as_const() {
            Some(n) => self.steps(b, run, &middle, n % unroll, sums),
            None => b.for_(middle, hi.clone(), 1, &sums, |b, i, sums| self.step(b, run, i, (0, 0), sums.to_vec())),
        }
    }

    /// Places of the next panel that this block fetches for every `unroll` steps, less what the steps move: where all blocks
    /// have had their turn, all lines beside those of the steps were fetched.
    fn lines_ahead(&self, b: &mut KernelBuilder, run: &Run<'_>, unroll: i64) -> Vec<Extent> {
        let Some((ahead, step)) = self.operands.ahead.as_ref().zip(run.b.as_const()) else { return Vec::new() };
        let lines = (unroll * step + ahead.line - 1) / ahead.line;
        let share = (lines + ahead.blocks - 1) / ahead.blocks;
        let first = bind(b, (ahead.index.clone() * share.into()).modulo(&lines.into()) * ahead.line.into());
        let start = run.at_b.clone() + ahead.distance.clone() + first;
        (0..share).map(|line| start.clone() + (line * ahead.line).into()).collect()
    }

    /// So many steps from that one on, rows read together as far as they go.
    fn steps(
        &self,
        b: &mut KernelBuilder,
        run: &Run<'_>,
        from: &Extent,
        count: i64,
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let together = if run.rows.is_empty() { 1 } else { self.together(run) };
        let mut done = 0;
        while together > 1 && count - done >= together {
            let first = from.clone() + done.into();
            // Before the rows, of which the first one can be used at once then.
            let mut columns = Some(self.columns(b, run, &first, done));
            let rows = self.rows_together(b, run, first);
            for lane in 0..together {
                let at = from.clone() + (done + lane).into();
                let columns = columns.take().unwrap_or_else(|| self.columns(b, run, &at, done + lane));
                let left = (rows.as_slice(), u16::try_from(lane).unwrap_or(0));
                sums = self.multiply(b, run, (&at, self.chain(done + lane)), columns, Some(left), sums);
            }
            done += together;
        }
        (done..count).fold(sums, |sums, i| self.step(b, run, from.clone() + i.into(), (self.chain(i), i), sums))
    }

    /// Steps whose elements of a row are neighbours and read together; 1 for none.
    fn together(&self, run: &Run<'_>) -> i64 {
        let neighbours = match self.operands.form {
            Form::Plain => self.operands.elem == Elem::F32 && *run.a == Extent::ONE,
            Form::Quads(_) => run.bytes == 4 && *run.a == Extent::from(4),
            Form::Stored(_) => false,
        };
        if neighbours && self.block.lanes > 1 { self.operands.at_once.into() } else { 1 }
    }

    /// Steps of all rows as vectors of that many floats, or words of four bytes.
    fn rows_together(&self, b: &mut KernelBuilder, run: &Run<'_>, k: Extent) -> Vec<Value> {
        let operands = self.operands;
        let ty = Type::vec(Elem::F32, operands.at_once);
        let row = |row: usize| {
            let at = run.at_a.clone() + run.a.clone() * k.clone() + operands.row_stride.clone() * row.into();
            let Form::Quads(quads) = operands.form else { return b.load_as(operands.a.param, at, ty) };
            let bytes = b.load(operands.a.param, at, 4 * ty.lanes);
            let bytes = flipped(b, bytes, quads);
            b.bitcast(bytes, ty)
        };
        // Rows that take no part have no vector.
        let first = run.rows.start;
        let rows: Vec<Value> = run.rows.clone().map(row).collect();
        let missing = rows.first().copied().into_iter().cycle().take(first);
        missing.chain(rows.iter().copied()).collect()
    }

    fn unroll(&self, run: &Run<'_>) -> i64 {
        let few = if self.block.rows * self.block.vecs >= 16 { 2 } else { 4 };
        let lines = i64::from(self.block.lanes) * 4 >= LINE_BYTES;
        let few = if lines { few.min(LOADS / self.block.vecs as i64).max(1) } else { few };
        // Rows whose bits are flipped take long until the first product.
        let flips = matches!(self.operands.form, Form::Quads(Quads { flipped: true, .. }));
        let sharing = if let Form::Quads(quads) = self.operands.form { quads.steps } else { 1 };
        few.max(self.together(run) * if flips { 2 } else { 1 }).max(sharing)
    }

    fn chain(&self, step: i64) -> usize {
        step as usize % self.block.chains()
    }

    /// One step of the sum: every row times every vector of columns. `part` counts steps from one that starts a vector of
    /// weights.
    fn step(
        &self,
        b: &mut KernelBuilder,
        run: &Run<'_>,
        k: Extent,
        (chain, part): (usize, i64),
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let operands = self.operands;
        if run.rows.is_empty() {
            return sums;
        }
        let at_b = run.at_b.clone() + run.b.clone() * k.clone();
        if let Form::Stored(stored) = operands.form {
            self.stored_step(b, stored, run, (&at_b, &k), chain, &mut sums);
            return sums;
        }
        let columns = self.columns(b, run, &k, part);
        self.multiply(b, run, (&k, chain), columns, None, sums)
    }

    /// The vectors of columns of a step; `part` as in [`Emit::step`].
    fn columns(&self, b: &mut KernelBuilder, run: &Run<'_>, k: &Extent, part: i64) -> Vec<Value> {
        let (operands, block) = (self.operands, self.block);
        let at_b = run.at_b.clone() + run.b.clone() * k.clone();
        let column = |vec: usize| {
            let at = at_b.clone() + vec_step(&block, vec, &operands.col_stride);
            if let Form::Quads(quads) = operands.form {
                let part = part % quads.steps;
                let raw = b.load(operands.b.param, at - run.b.clone() * part.into(), 4 * block.lanes);
                return unpacked(b, raw, quads.steps, part);
            }
            let valid = if block.exact { block.valid_lanes(vec) } else { block.lanes };
            load_lanes(b, operands.b, at, &operands.col_stride, (block.lanes, valid), operands.elem)
        };
        (0..block.vecs).map(column).collect()
    }

    /// Every row times every vector of columns. `left`: vectors with elements of the rows, and the lane that is this
    /// step's, where they were read together.
    fn multiply(
        &self,
        b: &mut KernelBuilder,
        run: &Run<'_>,
        (k, chain): (&Extent, usize),
        columns: Vec<Value>,
        left: Option<(&[Value], u16)>,
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let (operands, block) = (self.operands, self.block);
        for row in run.rows.clone() {
            let at = run.at_a.clone() + run.a.clone() * k.clone() + operands.row_stride.clone() * row.into();
            let lane = left.map(|(rows, lane)| {
                let scalar = b.extract(rows[row], lane);
                b.splat(scalar, block.lanes)
            });
            if let Form::Quads(quads) = operands.form {
                let left = match lane {
                    Some(words) => b.bitcast(words, Type::vec(Elem::I8, 4 * block.lanes)),
                    None => load_quad(b, operands.a, at, (run.bytes, block.lanes), quads),
                };
                for (vec, &column) in columns.iter().enumerate() {
                    let slot = &mut sums[chain * self.per_chain + row * block.vecs + vec];
                    *slot = b.dot4(quads.signed != quads.flipped, *slot, left, column);
                }
                continue;
            }
            let ty = Type::vec(operands.elem, block.lanes);
            let left = lane.unwrap_or_else(|| b.splat_as(operands.a.param, at, ty));
            for (vec, &column) in columns.iter().enumerate() {
                let slot = &mut sums[chain * self.per_chain + row * block.vecs + vec];
                *slot = multiply_add(b, left, column, *slot);
            }
        }
        sums
    }
}

/// The innermost loop with the offsets of its operands.
struct Run<'a> {
    a: &'a Extent,
    b: &'a Extent,
    at_a: &'a Extent,
    at_b: &'a Extent,
    rows: Range<usize>,
    /// Bytes of a step that are read, of [`Quads`].
    bytes: u16,
}

/// Up to four neighbouring bytes, the same for every lane of 32 bits.
fn load_quad(b: &mut KernelBuilder, a: &Stream, at: Extent, (bytes, lanes): (u16, u16), quads: Quads) -> Value {
    let ty = Type::vec(Elem::I8, 4);
    let four = if bytes == 4 {
        b.load(a.param, at, 4)
    } else {
        let mut four = b.zero(ty);
        for byte in 0..bytes {
            let scalar = b.load(a.param, at.clone() + i64::from(byte).into(), 1);
            four = b.insert(four, byte, scalar);
        }
        four
    };
    // A number in every lane is what machines repeat best, straight from memory.
    let all = if lanes == 1 {
        four
    } else {
        let scalar = b.bitcast(four, Type::scalar(Elem::F32));
        let numbers = b.splat(scalar, lanes);
        b.bitcast(numbers, ty.with_lanes(4 * lanes))
    };
    flipped(b, all, quads)
}

/// The weights of one of the steps that share bytes, as signed bytes.
fn unpacked(b: &mut KernelBuilder, raw: Value, steps: i64, part: i64) -> Value {
    if steps == 1 {
        return raw;
    }
    // Machines shift no bytes, but words of them; what comes in from a neighbour is masked.
    let (bits, ty) = (8 / steps, b.ty(raw));
    let mut words = b.bitcast(raw, Type::vec(Elem::I32, ty.lanes / 4));
    if part > 0 {
        words = b.shift(Shift::RightU, words, u32::try_from(bits * part).unwrap_or(0));
    }
    let mask = b.bits(0x0101_0101 * ((1 << bits) - 1), b.ty(words));
    let words = b.bin(BinOp::And, words, mask);
    let bytes = b.bitcast(words, ty);
    let half = b.bits(1 << (bits - 1), ty);
    b.sub(bytes, half)
}

/// Bytes of the left operand as they are multiplied.
fn flipped(b: &mut KernelBuilder, bytes: Value, quads: Quads) -> Value {
    if !quads.flipped {
        return bytes;
    }
    let sign = b.bits(0x80, b.ty(bytes));
    b.bin(BinOp::Xor, bytes, sign)
}

/// `x * y + sum`: in one instruction where the machine has it, wrapping for integers.
pub(super) fn multiply_add(b: &mut KernelBuilder, x: Value, y: Value, sum: Value) -> Value {
    if b.ty(x).elem.is_float() {
        return b.muladd(x, y, sum);
    }
    let product = b.mul(x, y);
    b.add(product, sum)
}

/// Emits dot products for one block when both operands have neighbouring elements along the sum: vectors run along the
/// sum and are added across at the end. `block.lanes` is 1. Returns one scalar per row and column.
pub(super) fn dot_block(
    b: &mut KernelBuilder,
    operands: &Operands<'_>,
    block: Block,
    (length, lanes): (&Extent, u16),
    (a, bb): (Extent, Extent),
    inits: Vec<Value>,
) -> Vec<Value> {
    let ty = Type::vec(operands.elem, lanes);
    let cell = |b: &mut KernelBuilder, ty: Type, k: &Extent, sums: &[Value]| {
        let at = |base: &Extent, stride: &Extent, i: usize| base.clone() + stride.clone() * i.into() + k.clone();
        let load = |b: &mut KernelBuilder, stream: &Stream, at: Extent| b.load_as(stream.param, at, ty);
        let right: Vec<Value> =
            (0..block.vecs).map(|c| load(b, operands.b, at(&bb, &operands.col_stride, c))).collect();
        let mut sums = sums.to_vec();
        for row in 0..block.rows {
            let left = load(b, operands.a, at(&a, &operands.row_stride, row));
            for (c, &right) in right.iter().enumerate() {
                let slot = &mut sums[row * block.vecs + c];
                *slot = multiply_add(b, left, right, *slot);
            }
        }
        sums
    };
    let middle = bind(b, length.floordiv(&i64::from(lanes).into()) * i64::from(lanes).into());
    let zeros: Vec<Value> = inits.iter().map(|_| b.zero(ty)).collect();
    let wide = b.for_(0, middle.clone(), i64::from(lanes), &zeros, |b, k, sums| cell(b, ty, &k, sums));
    let sums: Vec<Value> = wide
        .iter()
        .zip(inits)
        .map(|(&vector, init)| {
            let sum = b.reduce(BinOp::Add, vector);
            b.add(sum, init)
        })
        .collect();
    if middle == *length {
        return sums;
    }
    b.for_(middle, length.clone(), 1, &sums, |b, k, sums| cell(b, ty.with_lanes(1), &k, sums))
}
