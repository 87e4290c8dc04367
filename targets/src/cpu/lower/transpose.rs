//! Copies that write along one axis and read along another: blocks are transposed in registers, so that both sides move whole
//! vectors.

use std::ops::Range;

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use super::nest::{Nest, NestDim, advance};
use crate::cpu::kernel::{KernelBuilder, Param, Value};
use crate::cpu::machine::{Arch, Machine};

/// Bytes of the vectors: shuffles across wider ones are slow or missing on most machines.
const VECTOR_BYTES: usize = 16;
/// Bytes of a cache line: what a unit takes of every row of the source.
const LINE_BYTES: i64 = 64;
/// Most streams that are interleaved, or taken apart, by shuffles that are no zips.
const MOST_STREAMS: i64 = 4;

/// A copy as loops: result first, source second, as in [`Nest`].
pub(super) struct Transposed {
    /// Loops around.
    outer: Vec<NestDim>,
    /// The axis along which the source has neighbours.
    reads: NestDim,
    /// The axis along which the result has neighbours.
    writes: NestDim,
    /// Lanes of a vector.
    lanes: i64,
    form: Form,
}

/// How vectors are made of vectors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Squares are transposed; so many vectors are read at a time.
    Tiles(i64),
    /// So many streams of the source, one element of each in turn.
    Interleave(i64),
    /// The reverse.
    TakeApart(i64),
}

impl Transposed {
    /// The nest as such a copy, where the machine has vectors whose lanes move freely.
    pub fn of(nest: &Nest, dtype: DType, machine: &Machine) -> Option<Self> {
        let bytes = dtype.bits() as usize / 8;
        let shuffles = !matches!(machine.arch, Arch::Riscv64) && machine.vector_bytes as usize >= VECTOR_BYTES;
        if !shuffles || dtype == DType::Bool || !matches!(bytes, 1 | 2 | 4) {
            return None;
        }
        let (writes, rest) = nest.dims.split_last()?;
        let at = rest.iter().position(|dim| dim.strides[1] == Extent::ONE)?;
        let along = writes.strides[0] == Extent::ONE && ![Extent::ZERO, Extent::ONE].contains(&writes.strides[1]);
        let (lanes, rows) = ((VECTOR_BYTES / bytes) as i64, if machine.vector_registers < 32 { 8 } else { 16 });
        let (reads, writes) = (rest[at].clone(), writes.clone());
        let few = |dim: &NestDim| dim.extent.as_const().filter(|n| (2..=MOST_STREAMS).contains(n));
        let least = |dim: &NestDim, least: i64| dim.extent.as_const().is_none_or(|n| n >= least);
        let form = match (few(&reads), few(&writes)) {
            (_, Some(n)) if reads.strides[0] == n.into() && least(&reads, lanes) => Form::Interleave(n),
            (Some(n), _) if writes.strides[1] == n.into() && least(&writes, lanes) => Form::TakeApart(n),
            _ => {
                let rows = lanes.min(rows);
                (least(&reads, rows.min(8)) && least(&writes, rows)).then_some(Form::Tiles(rows))?
            }
        };
        let outer = rest[..at].iter().chain(&rest[at + 1..]).cloned().collect();
        along.then_some(Self { outer, reads, writes, lanes, form })
    }

    /// Elements of the axis that is cut into units, and of a unit.
    fn unit(&self) -> (&NestDim, i64) {
        match self.form {
            Form::Tiles(_) => (&self.reads, LINE_BYTES / VECTOR_BYTES as i64 * self.lanes),
            Form::Interleave(_) => (&self.reads, 1024),
            Form::TakeApart(_) => (&self.writes, 1024),
        }
    }

    /// Number of units that the tile range counts.
    pub fn range(&self) -> Extent {
        let (axis, size) = self.unit();
        self.outer.first().map_or_else(|| axis.extent.ceildiv(&size.into()), |dim| dim.extent.clone())
    }

    /// Writes the loops; `start` are the places of the first element.
    pub fn emit(&self, b: &mut KernelBuilder, params: [Param; 2], start: &[Extent]) {
        let (lo, hi) = b.range();
        let mut copy = Copy { of: self, params };
        match self.outer.split_first() {
            None => b.loop_(lo, hi, 1, |b, unit| copy.unit(b, start, &unit)),
            Some((first, rest)) => {
                b.loop_(lo, hi, 1, |b, i| copy.outer(b, rest, &advance(start, &first.strides, &i)));
            }
        }
    }
}

struct Copy<'a> {
    of: &'a Transposed,
    params: [Param; 2],
}

impl Copy<'_> {
    fn outer(&mut self, b: &mut KernelBuilder, dims: &[NestDim], at: &[Extent]) {
        if let Some((first, rest)) = dims.split_first() {
            b.loop_(0, first.extent.clone(), 1, |b, i| self.outer(b, rest, &advance(at, &first.strides, &i)));
            return;
        }
        let (axis, size) = self.of.unit();
        b.loop_(0, axis.extent.ceildiv(&size.into()), 1, |b, unit| self.unit(b, at, &unit));
    }

    /// Place of an element by its numbers along both axes: in the result and in the source.
    fn place(&self, at: &[Extent], read: &Extent, written: &Extent) -> [Extent; 2] {
        let moved = advance(&advance(at, &self.of.reads.strides, read), &self.of.writes.strides, written);
        [moved[0].clone(), moved[1].clone()]
    }

    fn element(&self, b: &mut KernelBuilder, at: &[Extent], read: &Extent, written: &Extent) {
        let [to, from] = self.place(at, read, written);
        let value = b.load(self.params[1], from, 1);
        b.store(self.params[0], to, value);
    }

    fn unit(&mut self, b: &mut KernelBuilder, at: &[Extent], unit: &Extent) {
        let (axis, size) = self.of.unit();
        let lo = unit.clone() * size.into();
        let hi = (unit.clone() + 1.into()) * size.into();
        let whole = axis.extent.as_const().is_some_and(|n| n % size == 0);
        let hi = if whole { hi } else { hi.minimum(&axis.extent) };
        match self.of.form {
            Form::Tiles(rows) => self.tiles(b, at, (lo, hi), rows),
            Form::Interleave(n) => self.streams(b, (lo, hi), |copy, b, i, lanes| copy.interleave(b, at, i, lanes, n)),
            Form::TakeApart(n) => self.streams(b, (lo, hi), |copy, b, i, lanes| copy.take_apart(b, at, i, lanes, n)),
        }
    }

    /// Elements `lo..hi` along the source by all along the result.
    fn tiles(&mut self, b: &mut KernelBuilder, at: &[Extent], (lo, hi): (Extent, Extent), rows: i64) {
        let extent = self.of.writes.extent.clone();
        let middle = extent.floordiv(&rows.into()) * rows.into();
        b.loop_(0, middle.clone(), rows, |b, w| {
            // Half vectors where whole ones do not fit: bytes of few channels.
            let widths: Vec<i64> = [self.of.lanes, 8].into_iter().take(if self.of.lanes > 8 { 2 } else { 1 }).collect();
            let mut from = lo.clone();
            for width in widths {
                let left = hi.clone() - from.clone();
                let to = from.clone() + left.floordiv(&width.into()) * width.into();
                let step = rows.min(width);
                b.loop_(from, to.clone(), width, |b, r| {
                    for part in 0..rows / step {
                        self.tile(b, at, &r, &(w.clone() + (part * step).into()), (width as u16, step));
                    }
                });
                from = to;
            }
            b.loop_(from, hi.clone(), 1, |b, r| {
                (0..rows).for_each(|row| self.element(b, at, &r, &(w.clone() + row.into())));
            });
        });
        b.loop_(middle, extent, 1, |b, w| {
            b.loop_(lo.clone(), hi.clone(), 1, |b, r| self.element(b, at, &r, &w));
        });
    }

    /// `rows` vectors of the source become as many of the result as they have lanes.
    fn tile(&self, b: &mut KernelBuilder, at: &[Extent], r: &Extent, w: &Extent, (lanes, rows): (u16, i64)) {
        let read = |row: i64| b.load(self.params[1], self.place(at, r, &(w.clone() + row.into()))[1].clone(), lanes);
        let vectors = (0..rows).map(read).collect();
        let all = interleaved(b, vectors);
        let each = u16::try_from(rows).unwrap_or(lanes);
        for row in 0..lanes {
            let (vector, first) = (all[usize::from(row * each / lanes)], row * each % lanes);
            let part = if each == lanes { vector } else { b.shuffle(vector, vector, (first..first + each).collect()) };
            b.store(self.params[0], self.place(at, &(r.clone() + i64::from(row).into()), w)[0].clone(), part);
        }
    }

    fn streams(
        &mut self,
        b: &mut KernelBuilder,
        (lo, hi): (Extent, Extent),
        mut body: impl FnMut(&mut Self, &mut KernelBuilder, &Extent, u16),
    ) {
        let lanes = u16::try_from(self.of.lanes).unwrap_or(1);
        let middle = lo.clone() + (hi.clone() - lo.clone()).floordiv(&self.of.lanes.into()) * self.of.lanes.into();
        b.loop_(lo, middle.clone(), self.of.lanes, |b, i| body(self, b, &i, lanes));
        b.loop_(middle, hi, 1, |b, i| body(self, b, &i, 1));
    }

    fn interleave(&self, b: &mut KernelBuilder, at: &[Extent], i: &Extent, lanes: u16, n: i64) {
        if lanes == 1 {
            (0..n).for_each(|stream| self.element(b, at, i, &stream.into()));
            return;
        }
        let read = |stream: i64| b.load(self.params[1], self.place(at, i, &stream.into())[1].clone(), lanes);
        let vectors: Vec<Value> = (0..n).map(read).collect();
        let to = self.place(at, i, &Extent::ZERO)[0].clone();
        for index in 0..n {
            let flat = |lane: u16| index * i64::from(lanes) + i64::from(lane);
            let made = collected(b, &vectors, (0..lanes).map(|lane| (flat(lane) % n, flat(lane) / n)));
            b.store(self.params[0], to.clone() + (index * i64::from(lanes)).into(), made);
        }
    }

    fn take_apart(&self, b: &mut KernelBuilder, at: &[Extent], i: &Extent, lanes: u16, n: i64) {
        if lanes == 1 {
            (0..n).for_each(|stream| self.element(b, at, &stream.into(), i));
            return;
        }
        let from = self.place(at, &Extent::ZERO, i)[1].clone();
        let read = |index: i64| b.load(self.params[1], from.clone() + (index * i64::from(lanes)).into(), lanes);
        let vectors: Vec<Value> = (0..n).map(read).collect();
        for stream in 0..n {
            let flat = |lane: u16| i64::from(lane) * n + stream;
            let width = i64::from(lanes);
            let made = collected(b, &vectors, (0..lanes).map(|lane| (flat(lane) / width, flat(lane) % width)));
            b.store(self.params[0], self.place(at, &stream.into(), i)[0].clone(), made);
        }
    }
}

/// One lane of each vector in turn, vector after vector: `n` vectors (a power of two) in log2 n rounds of zips.
fn interleaved(b: &mut KernelBuilder, mut vectors: Vec<Value>) -> Vec<Value> {
    let (n, lanes) = (vectors.len(), vectors.first().map_or(1, |&v| b.ty(v).lanes));
    for _ in 0..n.ilog2() {
        let zip = |b: &mut KernelBuilder, i: usize, lanes_of: Range<u16>| {
            let pick = lanes_of.flat_map(|lane| [lane, lanes + lane]).collect();
            b.shuffle(vectors[i], vectors[i + n / 2], pick)
        };
        vectors = (0..n / 2).flat_map(|i| [zip(b, i, 0..lanes / 2), zip(b, i, lanes / 2..lanes)]).collect();
    }
    vectors
}

/// The vector of lanes (vector, lane).
fn collected(b: &mut KernelBuilder, vectors: &[Value], picks: impl Iterator<Item = (i64, i64)>) -> Value {
    let picks: Vec<(usize, u16)> = picks.map(|(vector, lane)| (vector as usize, lane as u16)).collect();
    let lanes = b.ty(vectors[0]).lanes;
    (1..vectors.len()).fold(vectors[0], |made, next| {
        let pick = |(at, &(vector, lane)): (usize, &(usize, u16))| match vector {
            v if v == next => lanes + lane,
            // What is made has its lanes in place already, but for the first vector's.
            0 if next == 1 => lane,
            _ => at as u16,
        };
        b.shuffle(made, vectors[next], picks.iter().enumerate().map(pick).collect())
    })
}
