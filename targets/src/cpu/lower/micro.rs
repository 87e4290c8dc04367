//! The inner loops of sums of products: a block of rows by vectors of columns stays in registers while the sum runs.

use std::ops::Range;

use adze_ir::extent::Extent;

use super::leaf::{Stream, bind};
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
    /// One step of so many bytes of the left operand, fewer than four; see [`Quads`].
    Rest(u16),
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

    /// This sum, of that many steps, in loops; outermost first.
    fn within(self, axes: Vec<SumAxis>, mut steps: i64) -> Sum {
        axes.into_iter().rev().fold(self, |sum, axis| {
            let turns = axis.hi.as_const().filter(|_| axis.lo == Extent::ZERO).unwrap_or(i64::MAX);
            steps = steps.saturating_mul(turns);
            if steps <= STRAIGHT_STEPS { axis.straight(turns, &sum) } else { axis.around(sum) }
        })
    }

    /// Runs of `bytes` neighbouring bytes of the left operand in loops, outermost first; the right operand has its
    /// `nr` columns interleaved by four, each run filled up.
    pub fn quads(axes: Vec<SumAxis>, bytes: i64, nr: usize) -> Sum {
        let (whole, rest) = (bytes / 4, bytes % 4);
        let step = 4 * nr as i64;
        let part = |at: i64, body: Sum| Part { a: (4 * at).into(), b: (step * at).into(), rows: 0..usize::MAX, body };
        let mut parts = Vec::new();
        if whole > 0 {
            let run = Sum::Run { lo: Extent::ZERO, hi: whole.into(), a: 4.into(), b: step.into() };
            parts.push(part(0, run));
        }
        if rest > 0 {
            parts.push(part(whole, Sum::Rest(u16::try_from(rest).unwrap_or(0))));
        }
        Sum::Seq(parts).within(axes, whole + i64::from(rest > 0))
    }
}

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
    /// Both operands are bytes, summed four at a time in `i32`.
    pub quads: Option<Quads>,
}

/// How four neighbouring bytes of the left operand meet those of the right one, which are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quads {
    /// Whether the left operand is signed.
    pub signed: bool,
    /// Whether 128 is added to each byte of the left operand first, which makes it unsigned; what the sums start at
    /// makes good for it.
    pub raised: bool,
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
        return load_part(b, stream, &at, (lanes, valid), elem);
    }
    let mut vector = b.zero(ty);
    for lane in 0..valid {
        let offset = at.clone() + stride.clone() * i64::from(lane).into();
        let scalar = b.load_as(stream.param, offset, ty.with_lanes(1));
        vector = b.insert(vector, lane, scalar);
    }
    vector
}

/// Reads the first `valid` of `lanes` neighbours: halves that are there, joined; what is missing holds anything.
fn load_part(b: &mut KernelBuilder, stream: &Stream, at: &Extent, (lanes, valid): (u16, u16), elem: Elem) -> Value {
    let ty = Type::vec(elem, lanes);
    if valid == lanes {
        return b.load_as(stream.param, at.clone(), ty);
    }
    let half = lanes / 2;
    let low = load_part(b, stream, at, (half, valid.min(half)), elem);
    if half == 1 {
        return b.splat(low, 2);
    }
    if valid <= half {
        return b.shuffle(low, low, (0..half).chain(0..half).collect());
    }
    let high = load_part(b, stream, &(at.clone() + i64::from(half).into()), (half, valid - half), elem);
    b.shuffle(low, high, (0..lanes).collect())
}

/// The powers of two that make up `valid` lanes, largest first, each with its first lane.
pub(super) fn pieces(valid: u16) -> impl Iterator<Item = (u16, u16)> {
    let mut from = 0;
    (0..16).rev().map(|bit| 1u16 << bit).filter(move |size| valid & size != 0).map(move |size| {
        from += size;
        (from - size, size)
    })
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
    let mut emit = Emit { operands, block, per_chain };
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
            Sum::Rest(bytes) => {
                let run = Run { a: &Extent::ZERO, b: &Extent::ZERO, at_a, at_b, rows, bytes: *bytes };
                self.step(b, &run, Extent::ZERO, 0, sums)
            }
        }
    }

    fn run(&self, b: &mut KernelBuilder, lo: &Extent, hi: &Extent, run: &Run<'_>, sums: Vec<Value>) -> Vec<Value> {
        let unroll = self.unroll();
        let length = hi.clone() - lo.clone();
        if length.as_const().is_some_and(|n| n <= 2 * unroll) {
            let count = length.as_const().unwrap_or(0);
            return (0..count).fold(sums, |sums, i| self.step(b, run, lo.clone() + i.into(), self.chain(i), sums));
        }
        let middle = lo.clone() + length.floordiv(&unroll.into()) * unroll.into();
        let middle = bind(b, middle);
        let sums = b.for_(lo.clone(), middle.clone(), unroll, &sums, |b, i, sums| {
            (0..unroll).fold(sums.to_vec(), |sums, u| self.step(b, run, i.clone() + u.into(), self.chain(u), sums))
        });
        match length.as_const() {
            Some(n) => {
                (0..n % unroll).fold(sums, |sums, i| self.step(b, run, middle.clone() + i.into(), self.chain(i), sums))
            }
            None => b.for_(middle, hi.clone(), 1, &sums, |b, i, sums| self.step(b, run, i, 0, sums.to_vec())),
        }
    }

    fn unroll(&self) -> i64 {
        if self.block.rows * self.block.vecs >= 16 { 2 } else { 4 }
    }

    fn chain(&self, step: i64) -> usize {
        step as usize % self.block.chains()
    }

    /// One step of the sum: every row times every vector of columns.
    fn step(&self, b: &mut KernelBuilder, run: &Run<'_>, k: Extent, chain: usize, mut sums: Vec<Value>) -> Vec<Value> {
        let (operands, block) = (self.operands, self.block);
        if run.rows.is_empty() {
            return sums;
        }
        let at_b = run.at_b.clone() + run.b.clone() * k.clone();
        let columns: Vec<Value> = (0..block.vecs)
            .map(|vec| {
                let at = at_b.clone() + vec_step(&block, vec, &operands.col_stride);
                if operands.quads.is_some() {
                    return b.load(operands.b.param, at, 4 * block.lanes);
                }
                let valid = if block.exact { block.valid_lanes(vec) } else { block.lanes };
                load_lanes(b, operands.b, at, &operands.col_stride, (block.lanes, valid), operands.elem)
            })
            .collect();
        for row in run.rows.clone() {
            let at = run.at_a.clone() + run.a.clone() * k.clone() + operands.row_stride.clone() * row.into();
            if let Some(quads) = operands.quads {
                let left = load_quad(b, operands.a, at, (run.bytes, block.lanes), quads);
                for (vec, &column) in columns.iter().enumerate() {
                    let slot = &mut sums[chain * self.per_chain + row * block.vecs + vec];
                    *slot = b.dot4(quads.signed && !quads.raised, *slot, left, column);
                }
                continue;
            }
            let left = b.splat_as(operands.a.param, at, Type::vec(operands.elem, block.lanes));
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
    if !quads.raised {
        return all;
    }
    let sign = b.bits(0x80, ty.with_lanes(4 * lanes));
    b.bin(BinOp::Xor, all, sign)
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
