//! The weights of a cell as its products read them, in panels of columns: floats, packed when the network is compiled or, where they
//! are computed, into working memory before the first step; or integers as they are stored.

use adze_ir::extent::Extent;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::leaf::{Anchor, Leaf, Stream, bind, input, unsupported};
use super::super::micro::{Form, Sum};
use super::super::operand::{PackedWeight, Unsupported};
use super::super::pack::pack_rows_in_panels;
use super::super::stored::Weights;
use super::super::{LeafCx, Operand};
use crate::cpu::kernel::{Elem, KernelBuilder, Type};

/// Columns of a product: hidden units of some gates, each filled up to whole blocks.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// Which of the cell's gates.
    pub gates: Vec<usize>,
    /// Hidden units.
    pub hidden: usize,
    /// Hidden units, whole blocks.
    pub padded: usize,
    /// Hidden units that lie side by side before the next gate comes: a block, or all.
    pub run: usize,
    /// Columns of a panel.
    pub nr: usize,
}

impl Columns {
    fn count(&self) -> usize {
        self.gates.len() * self.padded
    }

    /// Gate and hidden unit of every column.
    fn units(&self) -> impl Iterator<Item = (usize, usize)> {
        let part = move |column: usize| {
            let (run, place) = (column / self.run, column % self.run);
            (self.gates[run % self.gates.len()], run / self.gates.len() * self.run + place)
        };
        (0..self.count()).map(part)
    }

    /// The row of `w[d, g, ..]`, flattened, that every column is; none where it fills up.
    fn rows(&self, all_gates: usize, direction: usize) -> Vec<Option<usize>> {
        let row = |(gate, unit)| (unit < self.hidden).then_some((direction * all_gates + gate) * self.hidden + unit);
        self.units().map(row).collect()
    }
}

/// See the module.
pub(super) struct Matrix {
    /// The panels.
    pub stream: Stream,
    /// How a step lies in them.
    pub form: Form,
    columns: Columns,
    depth: Extent,
    stored: Option<Weights>,
    /// The operand that panels are filled from by the kernel, and elements from its start to those of the direction.
    computed: Option<(Stream, [Extent; 3])>,
}

impl Matrix {
    /// Operand 1 (over the input) or 2 (over the state) of one direction of a cell.
    pub fn new(
        leaf: &mut Leaf<'_>,
        anchor: &Anchor<'_>,
        index: usize,
        (all_gates, direction): (usize, usize),
        columns: Columns,
        dtype: DType,
    ) -> Result<Self, Unsupported> {
        let position = anchor.need(index)?;
        let operand = input(leaf.cx, position)?;
        let depth = operand.shape[2].clone();
        let cell = anchor.op.cell_weights();
        let rows = columns.rows(all_gates, direction);
        if let Some((cell, block)) = cell.and_then(|cell| Some((cell, cell.blocks[index - 1]?))) {
            if dtype != DType::F32 {
                return Err(unsupported(format!("stored weights in {dtype}"), "f16, bf16 or f32"));
            }
            let (w, scale) = (known(leaf.cx, position)?, known(leaf.cx, anchor.need(cell.scales + index - 1)?)?);
            let weights = Weights::of_rows(w, scale, block, &rows);
            let stored = weights.form(columns.nr);
            let stream = leaf.packed(weights.pack(&stored));
            let form = Form::Stored(stored);
            return Ok(Self { stream, form, columns, depth, stored: Some(weights), computed: None });
        }
        let form = Form::Plain;
        if let Some(w) = &operand.constant {
            let packed: PackedWeight = pack_rows_in_panels(w, rows, columns.nr, dtype);
            return Ok(Self { stream: leaf.packed(packed), form, columns, depth, stored: None, computed: None });
        }
        let strides = [0, 1, 2].map(|axis: usize| operand.strides[axis].clone());
        let mut from = leaf.input(position)?;
        from.base = from.base + strides[0].clone() * direction.into();
        let stream = leaf.scratch(dtype, depth.clone() * columns.count().into());
        Ok(Self { stream, form, columns, depth, stored: None, computed: Some((from, strides)) })
    }

    /// Elements of the panels before those of a column that starts one.
    pub fn place(&self, column: Extent) -> Extent {
        match (&self.stored, self.form) {
            (Some(weights), Form::Stored(stored)) => column * (weights.panel_bytes(&stored) / stored.nr).into(),
            _ => column * self.depth.clone(),
        }
    }

    /// The sum over all steps; elements of the left operand along it are `stride` apart.
    pub fn sum(&self, stride: Extent) -> Sum {
        match (&self.stored, self.form) {
            (Some(weights), Form::Stored(stored)) => weights.sum(&stored, &stride),
            _ => Sum::Run { lo: Extent::ZERO, hi: self.depth.clone(), a: stride, b: self.columns.nr.into() },
        }
    }

    /// Fills the panels where weights are computed.
    pub fn fill(&self, b: &mut KernelBuilder, elem: Elem) {
        let Some((from, strides)) = &self.computed else { return };
        let Columns { gates, hidden, padded, run, nr } = &self.columns;
        if padded > hidden {
            b.loop_(Extent::ZERO, self.depth.clone() * self.columns.count().into(), 1, |b, at| {
                let zero = b.zero(Type::scalar(elem));
                b.store(self.stream.param, at, zero);
            });
        }
        for (position, &gate) in gates.iter().enumerate() {
            b.loop_(0, *hidden, 1, |b, unit| {
                let block = unit.floordiv(&(*run).into());
                let column = (block.clone() * gates.len().into() + position.into()) * (*run).into() + unit.clone()
                    - block * (*run).into();
                let column = bind(b, column);
                let panel = column.floordiv(&(*nr).into());
                let to = panel.clone() * self.depth.clone() * (*nr).into() + column - panel * (*nr).into();
                let row = from.base.clone() + strides[1].clone() * (Extent::from(gate * hidden) + unit);
                let (to, row) = (bind(b, to), bind(b, row));
                b.loop_(Extent::ZERO, self.depth.clone(), 1, |b, step| {
                    let weight =
                        b.load_as(from.param, row.clone() + strides[2].clone() * step.clone(), Type::scalar(elem));
                    b.store(self.stream.param, to.clone() + step * (*nr).into(), weight);
                });
            });
        }
    }
}

/// An operand that has to be known when the network is compiled.
pub(super) fn known<'a>(cx: &LeafCx<'a>, position: usize) -> Result<&'a Tensor, Unsupported> {
    let operand: &Operand = input(cx, position)?;
    operand.constant.as_ref().ok_or_else(|| {
        unsupported(format!("operand {position} of a recurrent cell that is computed"), "one known at compile time")
    })
}
