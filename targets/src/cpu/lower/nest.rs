//! Loop nests over strided operands: ordered as the result lies in memory, collapsed where operands allow it.

use adze_ir::extent::{Dims, Extent};

use super::operand::Operand;
use crate::cpu::kernel::{KernelBuilder, widths};

/// Elements of a one-dimensional nest that are one unit of the tile range.
const CHUNK: i64 = 1024;

/// One loop of a nest: how often, and how far each operand moves per turn (elements).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NestDim {
    /// Number of turns.
    pub extent: Extent,
    /// Per operand.
    pub strides: Vec<Extent>,
}

/// Loops from outermost to innermost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nest {
    /// The loops; none for a single element.
    pub dims: Vec<NestDim>,
}

/// Strides of a view along the axes of a shape that it broadcasts to (right-aligned, 0 where it repeats).
pub fn broadcast_strides(operand: &Operand, rank: usize) -> Vec<Extent> {
    let skip = rank.saturating_sub(operand.rank());
    (0..rank)
        .map(|axis| match axis.checked_sub(skip) {
            Some(own) if operand.shape[own] != Extent::ONE => operand.strides[own].clone(),
            _ => Extent::ZERO,
        })
        .collect()
}

impl Nest {
    /// Loops over a shape; `strides[o][axis]` for each operand. The first operand is the one written: its memory order
    /// becomes the order of the loops. Unit extents vanish and neighbours that every operand walks evenly are merged.
    pub fn new(shape: &[Extent], strides: &[Vec<Extent>], dims: &Dims) -> Nest {
        let mut order: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != Extent::ONE).collect();
        if let Some(written) = strides.first() {
            // Stable: axes of equal stride keep their logical order.
            order.sort_by_key(|&axis| std::cmp::Reverse(written[axis].upper(dims).unsigned_abs()));
        }
        let mut nest = Nest::default();
        for axis in order {
            let strides: Vec<Extent> = strides.iter().map(|s| s[axis].clone()).collect();
            nest.push(NestDim { extent: shape[axis].clone(), strides });
        }
        nest
    }

    /// Adds a loop inside, merged into the one around it when every operand walks both evenly.
    fn push(&mut self, dim: NestDim) {
        if let Some(outer) = self.dims.last_mut() {
            let even = outer.strides.iter().zip(&dim.strides).all(|(o, i)| *o == i.clone() * dim.extent.clone());
            if even {
                outer.extent = outer.extent.clone() * dim.extent;
                outer.strides = dim.strides;
                return;
            }
        }
        self.dims.push(dim);
    }

    /// Whether strips of the innermost loop can be vectors: every operand moves by one element or stays.
    pub fn is_vector(&self) -> bool {
        self.dims.last().is_some_and(|dim| {
            dim.strides.first() == Some(&Extent::ONE)
                && dim.strides.iter().all(|s| *s == Extent::ONE || *s == Extent::ZERO)
        })
    }

    /// How an operand moves in the innermost loop.
    pub fn inner_stride(&self, operand: usize) -> Extent {
        self.dims.last().map_or(Extent::ZERO, |dim| dim.strides[operand].clone())
    }

    /// Number of units that the tile range counts.
    pub fn range(&self) -> Extent {
        match self.dims.as_slice() {
            [] => Extent::ONE,
            [only] => only.extent.ceildiv(&CHUNK.into()),
            [outer, ..] => outer.extent.clone(),
        }
    }

    /// Emits the loops; the body gets each operand's offset and the number of lanes (`lanes`, or 1 in the remainder).
    pub fn emit(&self, b: &mut KernelBuilder, lanes: u16, mut body: impl FnMut(&mut KernelBuilder, &[Extent], u16)) {
        let operands = self.dims.first().map_or(0, |d| d.strides.len());
        let start = vec![Extent::ZERO; operands];
        let (lo, hi) = b.range();
        match self.dims.as_slice() {
            [] => b.loop_(lo, hi, 1, |b, _| body(b, &[], 1)),
            [only] => b.loop_(lo, hi, 1, |b, chunk| {
                let first = chunk.clone() * CHUNK.into();
                let last = ((chunk + 1.into()) * CHUNK.into()).minimum(&only.extent);
                // A chunk is whole strips, so what is left over is what the last one leaves.
                let widths = widths(&only.extent, lanes);
                b.strips_of(first, last, &widths, |b, i, lanes| body(b, &advance(&start, &only.strides, &i), lanes));
            }),
            [outer, inner @ ..] => b.loop_(lo, hi, 1, |b, i| {
                emit_inner(b, inner, &advance(&start, &outer.strides, &i), lanes, &mut body);
            }),
        }
    }

    /// Emits the loops without a tile range: all of them, from `start` on.
    pub fn emit_all(
        &self,
        b: &mut KernelBuilder,
        start: &[Extent],
        lanes: u16,
        mut body: impl FnMut(&mut KernelBuilder, &[Extent], u16),
    ) {
        emit_inner(b, &self.dims, start, lanes, &mut body);
    }
}

fn emit_inner(
    b: &mut KernelBuilder,
    dims: &[NestDim],
    offsets: &[Extent],
    lanes: u16,
    body: &mut dyn FnMut(&mut KernelBuilder, &[Extent], u16),
) {
    match dims {
        [] => body(b, offsets, 1),
        [last] => b.strips(0, last.extent.clone(), lanes, |b, i, lanes| {
            body(b, &advance(offsets, &last.strides, &i), lanes);
        }),
        [outer, inner @ ..] => b.loop_(0, outer.extent.clone(), 1, |b, i| {
            emit_inner(b, inner, &advance(offsets, &outer.strides, &i), lanes, body);
        }),
    }
}

/// Offsets after `i` turns of a loop.
pub fn advance(offsets: &[Extent], strides: &[Extent], i: &Extent) -> Vec<Extent> {
    offsets.iter().zip(strides).map(|(offset, stride)| offset.clone() + stride.clone() * i.clone()).collect()
}
