//! Recurrent cells: `Lstm`, `Gru`, `Rnn`.
//!
//! One kernel per direction; a unit of work is one or two rows of the batch over the whole sequence. The weights over the
//! input are multiplied with some steps at once, into working memory. What depends on the state follows step by step: all
//! gates of a block of hidden units are summed together in registers, for all rows of the unit, so that the cell's update
//! needs no memory but the states, which live in working memory padded to whole blocks.

mod matrix;

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::ops::{Direction, GateFn, Op};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::blocking::at_once;
use super::leaf::{Anchor, Leaf, Stream, bind, compute_elem, elem_dtype, input, lanes_of, unsupported};
use super::micro::{Block, Operands, multiply_add, sum_block};
use super::operand::{LeafCx, Lowered, Operand, PackedWeight, Unsupported};
use super::pack::pack_vectors;
use crate::cpu::driver::status;
use crate::cpu::kernel::{BinOp, Cmp, Cond, Elem, KernelBuilder, Type, Value, math};
use matrix::{Columns, Matrix, known};

/// Lowers a recurrent cell.
///
/// # Errors
/// [`Unsupported`] for biases and stored weights that are not known at compile time, and dtypes without kernels.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    if !anchor.epilogues.is_empty() {
        return Err(unsupported("epilogues behind a recurrent cell", "none"));
    }
    let cell = Cell::of(anchor.op)?;
    let directions = if cell.direction == Direction::Bidirectional { 2 } else { 1 };
    (0..directions).map(|d| Walk::new(cx, &anchor, &cell, d)?.emit()).collect()
}

/// What kind of cell it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lstm { input_forget: bool },
    Gru { linear_before_reset: bool },
    Rnn,
}

struct Cell<'a> {
    kind: Kind,
    direction: Direction,
    hidden: usize,
    activations: &'a [GateFn],
    clip: Option<F64>,
}

impl<'a> Cell<'a> {
    fn of(op: &'a Op) -> Result<Self, Unsupported> {
        let (kind, direction, hidden, activations, clip) = match op {
            Op::Lstm(op) => {
                let kind = Kind::Lstm { input_forget: op.input_forget };
                (kind, op.direction, op.hidden, &op.activations, op.clip)
            }
            Op::Gru(op) => {
                let kind = Kind::Gru { linear_before_reset: op.linear_before_reset };
                (kind, op.direction, op.hidden, &op.activations, op.clip)
            }
            Op::Rnn(op) => (Kind::Rnn, op.direction, op.hidden, &op.activations, op.clip),
            other => return Err(unsupported(format!("`{}`", other.name()), "a recurrent cell")),
        };
        let hidden = usize::try_from(hidden).map_err(|_| unsupported("a negative size", "zero or more"))?;
        Ok(Self { kind, direction, hidden, activations, clip })
    }

    fn gates(&self) -> usize {
        match self.kind {
            Kind::Lstm { .. } => 4,
            Kind::Gru { .. } => 3,
            Kind::Rnn => 1,
        }
    }

    /// Gates whose sum over the state is taken together with that over the input.
    fn joint_gates(&self) -> usize {
        if matches!(self.kind, Kind::Gru { .. }) { 2 } else { self.gates() }
    }
}

/// One direction of a cell while its kernel is written.
struct Walk<'a> {
    cell: &'a Cell<'a>,
    leaf: Leaf<'a>,
    direction: usize,
    elem: Elem,
    lanes: u16,
    /// Vectors of a block of hidden units.
    vecs: usize,
    /// Hidden units, whole blocks.
    padded: usize,
    /// Rows of the batch in a unit of work.
    unit: usize,
    x: Stream,
    w: Matrix,
    /// Register block of the product over the input: steps and columns.
    tile: Block,
    /// Steps whose product over the input is there at once.
    chunk: usize,
    r: Matrix,
    /// The candidate's weights over the state of a GRU.
    candidate: Option<Matrix>,
    /// `[gates][padded]`: sums over the input; a GRU's candidate over the state follows.
    bias: Stream,
    peephole: Option<Stream>,
    lens: Option<(Stream, Extent)>,
    initial: [Option<(Stream, &'a Operand)>; 2],
    results: [Option<(Stream, &'a Operand)>; 3],
    /// Working memory `[unit][AREAS][padded]`, see the constants below.
    memory: Stream,
    /// Working memory `[chunk][unit][gates][padded]`: biases and sums over the input.
    projected: Stream,
}

/// Most steps whose product over the input is kept: whole register blocks, and still in the cache when read.
const CHUNK: usize = 16;

/// The state that is read.
const STATE: usize = 0;
/// The state that is written, or `r · h`.
const NEXT: usize = 1;
/// The cell of an LSTM, or a GRU's update gate.
const CELL: usize = 2;
/// A GRU's candidate over the input.
const CANDIDATE: usize = 3;
const AREAS: usize = 4;

impl<'a> Walk<'a> {
    fn new(cx: &'a LeafCx<'a>, anchor: &Anchor<'_>, cell: &'a Cell<'a>, direction: usize) -> Result<Self, Unsupported> {
        let x = input(cx, anchor.need(0)?)?;
        let elem = compute_elem(x.dtype)?;
        if !elem.is_float() {
            return Err(unsupported(format!("dtype {}", x.dtype), "a floating-point dtype"));
        }
        let lanes = lanes_of(cx, elem);
        let [steps, batch, _] = x.shape.as_slice() else {
            return Err(unsupported(format!("an input of rank {}", x.rank()), "rank 3"));
        };
        // Two rows read the weights once. Rows of different lengths go one by one.
        let unit = if anchor.position(4).is_some() || *batch == Extent::ONE { 1 } else { 2 };
        // Eight sums in flight: with four gates and one row two vectors of hidden units.
        let vecs = (8 / (cell.gates() * unit)).clamp(1, cell.hidden.div_ceil(usize::from(lanes)).max(1));
        let width = vecs * usize::from(lanes);
        let padded = cell.hidden.next_multiple_of(width);
        let (gates, joint, dtype) = (cell.gates(), cell.joint_gates(), elem_dtype(elem));
        let constant = |index: usize| known(cx, anchor.need(index)?);
        let mut leaf = Leaf::new(cx, anchor.op.name());
        let stream = leaf.input(anchor.need(0)?)?;
        let chunk = steps.as_const().and_then(|n| usize::try_from(n).ok()).unwrap_or(CHUNK).clamp(1, CHUNK);
        let tile = tile(chunk, gates * padded, lanes);
        let panel = tile.vecs * usize::from(lanes);
        let mut matrix = |index: usize, gates: std::ops::Range<usize>, run: usize, nr: usize| {
            let columns = Columns { gates: gates.collect(), hidden: cell.hidden, padded, run, nr };
            Matrix::new(&mut leaf, anchor, index, (cell.gates(), direction), columns, dtype)
        };
        let w = matrix(1, 0..gates, padded, panel)?;
        // All gates of a block of hidden units together.
        let r = matrix(2, 0..joint, width, joint * width)?;
        let candidate = (joint < gates).then(|| matrix(2, joint..gates, width, width)).transpose()?;
        let bias = bias(cell, anchor.position(3).map(|_| constant(3)).transpose()?, direction, padded, dtype);
        let bias = leaf.packed(bias);
        let mut peephole = None;
        if anchor.position(7).is_some() {
            let rows: Vec<Vec<f64>> = vectors(constant(7)?, direction, cell.hidden);
            peephole = Some(leaf.packed(pack_vectors(&rows, padded, dtype)));
        }
        let mut lens = None;
        if let Some(index) = anchor.position(4) {
            lens = Some((leaf.input(index)?, input(cx, index)?.strides[0].clone()));
        }
        let mut initial = [None, None];
        for (slot, index) in initial.iter_mut().zip([5, 6]) {
            if let Some(index) = anchor.position(index) {
                *slot = Some((leaf.input(index)?, input(cx, index)?));
            }
        }
        let mut results = [None, None, None];
        for (index, slot) in results.iter_mut().enumerate() {
            if let Some(operand) = cx.outputs.get(index) {
                *slot = Some((leaf.output(index)?, operand));
            }
        }
        let memory = leaf.scratch(dtype, (unit * AREAS * padded).into());
        let projected = leaf.scratch(dtype, (chunk * unit * gates * padded).into());
        Ok(Self {
            cell,
            leaf,
            direction,
            elem,
            lanes,
            vecs,
            padded,
            unit,
            x: stream,
            w,
            tile,
            chunk,
            r,
            candidate,
            bias,
            peephole,
            lens,
            initial,
            results,
            memory,
            projected,
        })
    }

    fn emit(mut self) -> Result<Lowered, Unsupported> {
        let x = input(self.leaf.cx, self.input_position())?;
        let batch = x.shape[1].clone();
        let mut b = std::mem::replace(&mut self.leaf.b, KernelBuilder::new("taken"));
        let (lo, hi) = b.range();
        for matrix in [Some(&self.w), Some(&self.r), self.candidate.as_ref()].into_iter().flatten() {
            matrix.fill(&mut b, self.elem);
        }
        let whole = batch.as_const().is_some_and(|n| n % self.unit as i64 == 0);
        b.loop_(lo, hi, 1, |b, unit| {
            let first = unit * self.unit.into();
            if self.unit == 1 || whole {
                return self.rows(b, x, &Rows { first, count: self.unit });
            }
            let last = first.clone() + (self.unit - 1).into();
            let full = Rows { first: first.clone(), count: self.unit };
            b.if_(Cond::Extent(last.clone(), Cmp::Lt, batch.clone()), |b| self.rows(b, x, &full));
            // A unit has two rows at most, so one is left.
            b.if_(Cond::Extent(last, Cmp::Ge, batch.clone()), |b| self.rows(b, x, &Rows { first, count: 1 }));
        });
        self.leaf.b = b;
        Ok(self.leaf.finish(batch.ceildiv(&self.unit.into())))
    }

    fn input_position(&self) -> usize {
        // Recurrent cells are never inside of a fusion with other operands in front.
        match self.leaf.cx.op {
            Op::Fused(fused) => match fused.anchor().inputs.first() {
                Some(Some(adze_ir::ops::BodyRef::Param(index))) => *index as usize,
                _ => 0,
            },
            _ => 0,
        }
    }

    fn width(&self) -> usize {
        self.vecs * usize::from(self.lanes)
    }

    /// Columns of the product over the input.
    fn columns(&self) -> usize {
        self.cell.gates() * self.padded
    }

    fn area(&self, row: usize, area: usize, index: &Extent) -> Extent {
        Extent::from((row * AREAS + area) * self.padded) + index.clone()
    }

    /// The rows of a unit over the whole sequence.
    fn rows(&self, b: &mut KernelBuilder, x: &Operand, rows: &Rows) {
        let steps = x.shape[0].clone();
        self.start(b, rows);
        let length = self.length(b, &steps, &rows.first);
        let reversed = self.cell.direction == Direction::Reverse || self.direction == 1;
        b.loop_(Extent::ZERO, length.clone(), self.chunk as i64, |b, base| {
            let (first, forward) = match reversed {
                true => (length.clone() - Extent::ONE - base.clone(), -1),
                false => (base.clone(), 1),
            };
            let count = bind(b, (length.clone() - base).minimum(&self.chunk.into()));
            self.project(b, x, rows, (&first, forward), &count);
            b.loop_(Extent::ZERO, count, 1, |b, step| {
                let time = bind(b, first.clone() + step.clone() * forward.into());
                let projected = bind(b, step * (self.unit * self.columns()).into());
                self.step(b, rows.count, &projected);
                self.write(b, rows, (0, STATE), |y| {
                    let offset = y.strides[1].clone() * self.direction.into() + y.strides[0].clone() * time;
                    (offset, y.strides[2].clone(), y.strides[3].clone())
                });
            });
        });
        self.clear(b, rows, (&length, &steps));
        for (result, area) in [(1, STATE), (2, CELL)] {
            self.write(b, rows, (result, area), |y| {
                let offset = y.strides[0].clone() * self.direction.into();
                (offset, y.strides[1].clone(), y.strides[2].clone())
            });
        }
    }

    /// The number of steps of a row.
    fn length(&self, b: &mut KernelBuilder, steps: &Extent, row: &Extent) -> Extent {
        let Some((stream, stride)) = &self.lens else { return steps.clone() };
        let at = stream.base.clone() + stride.clone() * row.clone();
        let length = b.load_as(stream.param, at, Type::I64);
        let length = b.index(length);
        b.guard(Cond::Extent(length.clone(), Cmp::Ge, Extent::ZERO), status::INDEX_RANGE);
        b.guard(Cond::Extent(length.clone(), Cmp::Le, steps.clone()), status::INDEX_RANGE);
        length
    }

    /// Sets the results behind the end of a row to zero.
    fn clear(&self, b: &mut KernelBuilder, rows: &Rows, (length, steps): (&Extent, &Extent)) {
        let (Some(_), Some((stream, y))) = (&self.lens, &self.results[0]) else { return };
        b.loop_(length.clone(), steps.clone(), 1, |b, time| {
            let at = stream.base.clone() + y.strides[0].clone() * time + y.strides[1].clone() * self.direction.into();
            let at = at + y.strides[2].clone() * rows.first.clone();
            b.loop_(0, self.cell.hidden, 1, |b, j| {
                let zero = b.zero(Type::scalar(self.elem));
                b.store_as(stream.param, at + y.strides[3].clone() * j, zero);
            });
        });
    }

    /// Biases and sums over the input of `count` steps from time `first` on, `forward` per step.
    fn project(
        &self,
        b: &mut KernelBuilder,
        x: &Operand,
        rows: &Rows,
        (first, forward): (&Extent, i64),
        count: &Extent,
    ) {
        let along = x.strides[0].clone() * forward.into();
        let blocks = bind(b, count.floordiv(&self.tile.rows.into()) * self.tile.rows.into());
        let start = bind(b, self.x.base.clone() + x.strides[0].clone() * first.clone());
        b.loop_(0, self.columns(), self.tile.cols(), |b, column| {
            let panel = bind(b, self.w.place(column.clone()));
            b.loop_(0, rows.count, 1, |b, row| {
                let at = start.clone() + x.strides[1].clone() * (rows.first.clone() + row.clone());
                let at = bind(b, at);
                let block = |b: &mut KernelBuilder, step: Extent, tile: Block| {
                    let from = bind(b, at.clone() + along.clone() * step.clone());
                    let to = (step * self.unit.into() + row.clone()) * self.columns().into() + column.clone();
                    let to = bind(b, to);
                    self.project_block(b, tile, (&along, x), (from, panel.clone()), &column, &to);
                };
                b.loop_(0, blocks.clone(), self.tile.rows as i64, |b, step| block(b, step, self.tile));
                if self.tile.rows > 1 {
                    b.loop_(blocks.clone(), count.clone(), 1, |b, step| block(b, step, Block { rows: 1, ..self.tile }));
                }
            });
        });
    }

    fn project_block(
        &self,
        b: &mut KernelBuilder,
        tile: Block,
        (along, x): (&Extent, &Operand),
        (from, panel): (Extent, Extent),
        column: &Extent,
        to: &Extent,
    ) {
        let operands = Operands {
            elem: self.elem,
            a: &self.x,
            b: &self.w.stream,
            row_stride: along.clone(),
            col_stride: Extent::ONE,
            form: self.w.form,
            at_once: at_once(self.leaf.cx),
            ahead: None,
        };
        let step = |vec: usize| Extent::from(vec * usize::from(self.lanes));
        let biases: Vec<Value> =
            (0..tile.vecs).map(|vec| b.load(self.bias.param, column.clone() + step(vec), self.lanes)).collect();
        let inits = biases.repeat(tile.rows);
        let sum = self.w.sum(x.strides[2].clone());
        let sums = sum_block(b, &operands, tile, &sum, (from, panel), inits);
        for (row, sums) in sums.chunks(tile.vecs).enumerate() {
            for (vec, &sum) in sums.iter().enumerate() {
                let at = to.clone() + (row * self.unit * self.columns()).into() + step(vec);
                b.store(self.projected.param, at, sum);
            }
        }
    }

    /// Sets the states to their initial values.
    fn start(&self, b: &mut KernelBuilder, rows: &Rows) {
        let width = i64::from(self.lanes);
        b.loop_(0, rows.count * AREAS * self.padded, width, |b, j| {
            let zero = b.zero(Type::vec(self.elem, self.lanes));
            b.store(self.memory.param, j, zero);
        });
        for (initial, area) in self.initial.iter().zip([STATE, CELL]) {
            let Some((stream, operand)) = initial else { continue };
            let lanes = if operand.strides[2] == Extent::ONE { self.lanes } else { 1 };
            for row in 0..rows.count {
                let at = stream.base.clone()
                    + operand.strides[0].clone() * self.direction.into()
                    + operand.strides[1].clone() * rows.at(row);
                b.strips(0, self.cell.hidden, lanes, |b, j, lanes| {
                    let from = at.clone() + operand.strides[2].clone() * j.clone();
                    let value = b.load_as(stream.param, from, Type::vec(self.elem, lanes));
                    b.store(self.memory.param, self.area(row, area, &j), value);
                });
            }
        }
    }

    /// Writes an area of the working memory to a result, if there is one; `place` gives its offset and its strides from row
    /// to row and from unit to unit.
    fn write(
        &self,
        b: &mut KernelBuilder,
        rows: &Rows,
        (result, area): (usize, usize),
        place: impl FnOnce(&Operand) -> (Extent, Extent, Extent),
    ) {
        let Some((stream, operand)) = &self.results[result] else { return };
        let (at, row_stride, stride) = place(operand);
        let lanes = if stride == Extent::ONE { self.lanes } else { 1 };
        for row in 0..rows.count {
            let at = bind(b, stream.base.clone() + at.clone() + row_stride.clone() * rows.at(row));
            b.strips(0, self.cell.hidden, lanes, |b, j, lanes| {
                let value = b.load(self.memory.param, self.area(row, area, &j), lanes);
                b.store_as(stream.param, at.clone() + stride.clone() * j, value);
            });
        }
    }

    /// One step of the sequence: the new states replace the old ones. The step's sums over the input lie at `projected`.
    fn step(&self, b: &mut KernelBuilder, rows: usize, projected: &Extent) {
        let width = self.width();
        let (gates, joint) = (self.cell.gates(), self.cell.joint_gates());
        b.loop_(0, self.padded, width as i64, |b, j| {
            let over_input = |b: &mut KernelBuilder, gates: std::ops::Range<usize>| {
                let mut values = Vec::with_capacity(rows * gates.len() * self.vecs);
                for row in 0..rows {
                    values.extend(self.over_input(b, row, gates.clone(), projected, &j));
                }
                values
            };
            let inits = over_input(b, 0..joint);
            let sums = self.sum(b, rows, STATE, (&self.r, joint), &j, inits);
            let rest = over_input(b, joint..gates);
            let over_state = match self.cell.kind {
                Kind::Gru { linear_before_reset: true } => self.candidate_sum(b, rows, &j, STATE),
                _ => Vec::new(),
            };
            for row in 0..rows {
                let mut own = sums[row * joint * self.vecs..][..joint * self.vecs].to_vec();
                let rest_len = (gates - joint) * self.vecs;
                own.extend_from_slice(&rest[row * rest_len..][..rest_len]);
                match self.cell.kind {
                    Kind::Lstm { input_forget } => self.lstm(b, row, &j, &own, input_forget),
                    Kind::Gru { linear_before_reset: true } => {
                        self.gru(b, row, &j, &own, &over_state[row * self.vecs..][..self.vecs]);
                    }
                    Kind::Gru { .. } => self.gru_gates(b, row, &j, &own),
                    Kind::Rnn => {
                        for (vec, &sum) in own.iter().enumerate() {
                            let value = self.gate(b, 0, sum);
                            self.put(b, (row, NEXT), &j, vec, value);
                        }
                    }
                }
            }
        });
        if self.cell.kind == (Kind::Gru { linear_before_reset: false }) {
            b.loop_(0, self.padded, width as i64, |b, j| self.gru_candidate(b, rows, &j));
            return;
        }
        for row in 0..rows {
            b.loop_(0, self.padded, i64::from(self.lanes), |b, j| {
                let value = b.load(self.memory.param, self.area(row, NEXT, &j), self.lanes);
                b.store(self.memory.param, self.area(row, STATE, &j), value);
            });
        }
    }

    /// A row's sums over the input of some gates for the block at `j`.
    fn over_input(
        &self,
        b: &mut KernelBuilder,
        row: usize,
        gates: std::ops::Range<usize>,
        projected: &Extent,
        j: &Extent,
    ) -> Vec<Value> {
        let mut values = Vec::with_capacity(gates.len() * self.vecs);
        for gate in gates {
            for vec in 0..self.vecs {
                let fixed = row * self.columns() + gate * self.padded + vec * usize::from(self.lanes);
                values.push(b.load(self.projected.param, projected.clone() + j.clone() + fixed.into(), self.lanes));
            }
        }
        values
    }

    /// Biases of one gate.
    fn biases(&self, b: &mut KernelBuilder, j: &Extent, gate: usize) -> Vec<Value> {
        let at = |vec: usize| Extent::from(gate * self.padded + vec * usize::from(self.lanes)) + j.clone();
        (0..self.vecs).map(|vec| b.load(self.bias.param, at(vec), self.lanes)).collect()
    }

    /// Adds weights times an area of each row, for all gates of the block at `j`.
    fn sum(
        &self,
        b: &mut KernelBuilder,
        rows: usize,
        area: usize,
        (weights, gates): (&Matrix, usize),
        j: &Extent,
        inits: Vec<Value>,
    ) -> Vec<Value> {
        let block = Block { rows, vecs: gates * self.vecs, lanes: self.lanes, valid: self.lanes, exact: false };
        let operands = Operands {
            elem: self.elem,
            a: &self.memory,
            b: &weights.stream,
            row_stride: (AREAS * self.padded).into(),
            col_stride: Extent::ONE,
            form: weights.form,
            at_once: at_once(self.leaf.cx),
            ahead: None,
        };
        let sum = weights.sum(Extent::ONE);
        // Blocks lie one after the other, each of all gates.
        let from = bind(b, weights.place(j.clone() * gates.into()));
        sum_block(b, &operands, block, &sum, (self.area(0, area, &Extent::ZERO), from), inits)
    }

    fn get(&self, b: &mut KernelBuilder, (row, area): (usize, usize), j: &Extent, vec: usize) -> Value {
        let at = self.area(row, area, j) + (vec * usize::from(self.lanes)).into();
        b.load(self.memory.param, at, self.lanes)
    }

    fn put(&self, b: &mut KernelBuilder, (row, area): (usize, usize), j: &Extent, vec: usize, value: Value) {
        let at = self.area(row, area, j) + (vec * usize::from(self.lanes)).into();
        b.store(self.memory.param, at, value);
    }

    /// Function `index` of this direction, without the clip.
    fn function(&self, b: &mut KernelBuilder, index: usize, x: Value) -> Value {
        let per_direction = match self.cell.kind {
            Kind::Lstm { .. } => 3,
            Kind::Gru { .. } => 2,
            Kind::Rnn => 1,
        };
        match self.cell.activations[self.direction * per_direction + index] {
            GateFn::Sigmoid => math::sigmoid(b, x),
            GateFn::Tanh => math::tanh(b, x),
            GateFn::Relu => {
                let zero = b.zero(b.ty(x));
                b.bin(BinOp::MaxSel, zero, x)
            }
        }
    }

    fn gate(&self, b: &mut KernelBuilder, index: usize, mut x: Value) -> Value {
        if let Some(clip) = self.cell.clip {
            let ty = b.ty(x);
            let (low, high) = (b.number(-clip.get(), ty), b.number(clip.get(), ty));
            x = b.bin(BinOp::MaxSel, low, x);
            x = b.bin(BinOp::MinSel, high, x);
        }
        self.function(b, index, x)
    }

    /// Adds a peephole's weight times the cell.
    fn peep(&self, b: &mut KernelBuilder, row: usize, j: &Extent, vec: usize, (sum, cell): (Value, Value)) -> Value {
        let Some(peephole) = &self.peephole else { return sum };
        let at = Extent::from(row * self.padded + vec * usize::from(self.lanes)) + j.clone();
        let weight = b.load(peephole.param, at, self.lanes);
        multiply_add(b, weight, cell, sum)
    }

    fn lstm(&self, b: &mut KernelBuilder, row: usize, j: &Extent, gates: &[Value], input_forget: bool) {
        for vec in 0..self.vecs {
            let [gi, go, gf, gc] = [0, 1, 2, 3].map(|gate| gates[gate * self.vecs + vec]);
            let before = self.get(b, (row, CELL), j, vec);
            let i = self.peep(b, 0, j, vec, (gi, before));
            let i = self.gate(b, 0, i);
            let f = if input_forget {
                let one = b.number(1.0, b.ty(i));
                b.sub(one, i)
            } else {
                let f = self.peep(b, 2, j, vec, (gf, before));
                self.gate(b, 0, f)
            };
            let candidate = self.gate(b, 1, gc);
            let kept = b.mul(f, before);
            let now = multiply_add(b, i, candidate, kept);
            self.put(b, (row, CELL), j, vec, now);
            let o = self.peep(b, 1, j, vec, (go, now));
            let o = self.gate(b, 0, o);
            let shown = self.function(b, 2, now);
            let state = b.mul(o, shown);
            self.put(b, (row, NEXT), j, vec, state);
        }
    }

    /// The candidate's sum over an area of each row, with its bias.
    fn candidate_sum(&self, b: &mut KernelBuilder, rows: usize, j: &Extent, area: usize) -> Vec<Value> {
        let biases = self.biases(b, j, 3).repeat(rows);
        let Some(weights) = &self.candidate else { return biases };
        self.sum(b, rows, area, (weights, 1), j, biases)
    }

    fn gru(&self, b: &mut KernelBuilder, row: usize, j: &Extent, gates: &[Value], over_state: &[Value]) {
        for vec in 0..self.vecs {
            let z = self.gate(b, 0, gates[vec]);
            let r = self.gate(b, 0, gates[self.vecs + vec]);
            let sum = multiply_add(b, r, over_state[vec], gates[2 * self.vecs + vec]);
            self.gru_update(b, (row, NEXT), j, vec, (z, sum));
        }
    }

    /// `(1 - z) · candidate + z · h`.
    fn gru_update(
        &self,
        b: &mut KernelBuilder,
        (row, to): (usize, usize),
        j: &Extent,
        vec: usize,
        (z, sum): (Value, Value),
    ) {
        let candidate = self.gate(b, 1, sum);
        let state = self.get(b, (row, STATE), j, vec);
        let difference = b.sub(state, candidate);
        let value = multiply_add(b, z, difference, candidate);
        self.put(b, (row, to), j, vec, value);
    }

    fn gru_gates(&self, b: &mut KernelBuilder, row: usize, j: &Extent, gates: &[Value]) {
        for vec in 0..self.vecs {
            let z = self.gate(b, 0, gates[vec]);
            self.put(b, (row, CELL), j, vec, z);
            let r = self.gate(b, 0, gates[self.vecs + vec]);
            let state = self.get(b, (row, STATE), j, vec);
            let reset = b.mul(r, state);
            self.put(b, (row, NEXT), j, vec, reset);
            self.put(b, (row, CANDIDATE), j, vec, gates[2 * self.vecs + vec]);
        }
    }

    fn gru_candidate(&self, b: &mut KernelBuilder, rows: usize, j: &Extent) {
        let over_state = self.candidate_sum(b, rows, j, NEXT);
        for (index, over_state) in over_state.into_iter().enumerate() {
            let (row, vec) = (index / self.vecs, index % self.vecs);
            let over_input = self.get(b, (row, CANDIDATE), j, vec);
            let sum = b.add(over_state, over_input);
            let z = self.get(b, (row, CELL), j, vec);
            self.gru_update(b, (row, STATE), j, vec, (z, sum));
        }
    }
}

/// Rows of the batch that go through the sequence together.
struct Rows {
    first: Extent,
    count: usize,
}

impl Rows {
    fn at(&self, row: usize) -> Extent {
        self.first.clone() + row.into()
    }
}

/// Register block of the product over the input: whole blocks of `columns` elements.
fn tile(chunk: usize, columns: usize, lanes: u16) -> Block {
    let vectors = columns / usize::from(lanes);
    // Few steps: wide blocks, since there are no rows to keep as many sums in flight.
    let (rows, wanted) = if chunk < 4 { (1, 8) } else { (4, 2) };
    let vecs = (1..=wanted).rev().find(|vecs| vectors.is_multiple_of(*vecs)).unwrap_or(1);
    Block { rows, vecs, lanes, valid: lanes, exact: false }
}

/// The rows of `hidden` elements that a direction has.
fn vectors(tensor: &Tensor, direction: usize, hidden: usize) -> Vec<Vec<f64>> {
    let per_direction = tensor.elems() / tensor.shape().first().copied().unwrap_or(1).max(1);
    let values = tensor.to_f64();
    let own = values.get(direction * per_direction..(direction + 1) * per_direction).unwrap_or_default();
    own.chunks(hidden.max(1)).map(<[f64]>::to_vec).collect()
}

/// Rows of what the sums start at: the biases over input and state added, except for a GRU's candidate.
fn bias(cell: &Cell<'_>, tensor: Option<&Tensor>, direction: usize, padded: usize, dtype: DType) -> PackedWeight {
    let gates = cell.gates();
    let rows = match tensor {
        Some(tensor) => vectors(tensor, direction, cell.hidden),
        None => vec![vec![0.0; cell.hidden]; 2 * gates],
    };
    let joint = cell.joint_gates();
    let mut sums: Vec<Vec<f64>> = (0..gates)
        .map(|gate| match gate < joint {
            true => rows[gate].iter().zip(&rows[gates + gate]).map(|(a, b)| a + b).collect(),
            false => rows[gate].clone(),
        })
        .collect();
    sums.extend((joint..gates).map(|gate| rows[gates + gate].clone()));
    pack_vectors(&sums, padded, dtype)
}
