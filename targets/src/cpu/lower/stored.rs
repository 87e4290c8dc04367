//! Products and convolutions whose constant weights stay as they are stored: 2, 4 or 8 bits, with scales per tensor, column or
//! block.
//!
//! The sum of a block runs over whole numbers, `Σ a · (w - z)`, and is scaled once at its end, so that a step costs a
//! conversion and, where zero points differ, a subtraction. Everything that a panel of columns needs lies in one stream: per
//! block its scales, its zero points, its weights.

use std::ops::Range;

use adze_ir::extent::Extent;
use adze_ir::ops::{MatMulStored, Op};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::blocking::{Blocking, Shape};
use super::dot::{fits, shifted};
use super::epilogue::Epilogue;
use super::gemm::dense_steps;
use super::leaf::{Anchor, Axis, Leaf, compute_elem, input, join_axes, output, unsupported};
use super::micro::{Form, Part, Stored, Sum};
use super::operand::{LeafCx, Lowered, PackedWeight, Unsupported};
use super::pack::offsets;
use super::product::{Product, Right};
use crate::cpu::kernel::Elem;

/// Lowers a product of stored weights, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for weights or scales that are computed, blocks across the sum, dtypes without kernels and epilogues that
/// are not elementwise.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let Op::MatMulStored(op) = anchor.op else {
        return Err(unsupported(format!("`{}`", anchor.op.name()), "`matmul_stored`"));
    };
    let (at, y) = (anchor.need(0)?, output(cx, 0)?);
    let x = input(cx, at)?;
    let (elem, rank) = (compute_elem(x.dtype)?, x.rank());
    if elem != Elem::F32 || rank < 2 {
        return Err(unsupported(format!("{} of rank {rank}", x.dtype), "f16, bf16 or f32 of rank 2 or more"));
    }
    let weights = Weights::of(cx, &anchor, op)?;
    let (all_rows, depth) = (Extent::product(&x.shape[..rank - 1]), Extent::from(weights.depth));
    let blocking = Blocking::choose(
        cx,
        &Shape {
            elem,
            left: all_rows.clone() * depth.clone(),
            rows: all_rows,
            cols: weights.columns.into(),
            depth: depth.clone(),
            right: Right::Packed,
            // The broadcast, and weights on their way to numbers.
            held: 4,
            column: 1,
        },
    )?;
    let mut leaf = Leaf::new(cx, &format!("matmul_stored_{}x{}", blocking.mr, blocking.nr));
    let left = leaf.input(at)?;
    let stored = weights.form(blocking.nr);
    let right = leaf.packed(weights.pack(&stored));
    let target = leaf.output(0)?;
    let epilogue = Epilogue::of(&mut leaf, &anchor, x.dtype, y)?;
    let none = vec![Extent::ZERO; rank];
    let others: Vec<&[Extent]> =
        [y.strides.as_slice(), &none].into_iter().chain(epilogue.streams.iter().map(|s| s.1.as_slice())).collect();
    let axis = |at: usize, left: Extent, right: Extent| {
        let strides = [left, right].into_iter().chain(others.iter().map(|s| s[at].clone())).collect();
        Axis { extent: y.shape[at].clone(), strides }
    };
    let cols = axis(rank - 1, Extent::ZERO, (weights.panel_bytes(&stored) / stored.nr).into());
    let outer = (0..rank - 1).map(|a| {
        let stride = if x.shape[a] == Extent::ONE { Extent::ZERO } else { x.strides[a].clone() };
        axis(a, stride, Extent::ZERO)
    });
    let mut outer = join_axes(outer.collect());
    let one = || Axis { extent: Extent::ONE, strides: vec![Extent::ZERO; cols.strides.len()] };
    let rows = outer.pop().unwrap_or_else(one);
    let sum = weights.sum(&stored, &x.strides[rank - 1]);
    let product = Product {
        elem,
        lanes: blocking.lanes,
        at_once: blocking.at_once,
        mr: blocking.mr,
        nr: blocking.nr,
        streams: [left, right, target],
        right: Right::Packed,
        start: None,
        scale: None,
        form: Form::Stored(stored),
        start_times: None,
        chunk: Some(blocking.chunk(cx, elem, &depth)),
        order: blocking.order,
        outer,
        rows,
        cols,
        row_parts: Vec::new(),
        sum: &|_, _, _, _| sum.clone(),
        epilogue,
    };
    Ok(vec![product.emit(leaf)?])
}

/// The weights as numbers `[block][step][column]`, with scales and zero points `[block][column]`.
pub(super) struct Weights {
    columns: usize,
    /// Steps of the sum.
    depth: usize,
    /// Steps of a block; the last one may be shorter.
    len: usize,
    values: Vec<i32>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    /// Steps that share a byte.
    steps: i64,
    /// Whether parts of a byte have a sign.
    signed: bool,
}

/// A matrix of integers as its numbers are found: by the step of the sum and the column, scales and zero points by the block and
/// the column.
struct Found<'a> {
    dtype: DType,
    columns: usize,
    depth: usize,
    len: usize,
    /// Neighbouring steps that lie evenly apart in the left operand: those of a byte do.
    run: usize,
    value: &'a dyn Fn(usize, usize) -> i128,
    scale: &'a dyn Fn(usize, usize) -> f64,
    zero: &'a dyn Fn(usize, usize) -> i128,
}

/// The kernel of a convolution as it is stored.
pub(super) struct Kernel {
    /// Integers `[co, ci / group, window..]`.
    pub ints: Tensor,
    /// Scale of every output channel, or of all.
    pub scales: Vec<f32>,
    /// The same of zero points.
    pub zeros: Vec<i128>,
}

impl Kernel {
    /// The kernel of a `ConvStored`.
    ///
    /// # Errors
    /// [`Unsupported`] for operands that are computed and integers of more than 8 bits.
    pub fn of(cx: &LeafCx<'_>, anchor: &Anchor<'_>) -> Result<Self, Unsupported> {
        let (ints, scales, zeros) = constants(cx, anchor)?;
        if ints.dtype().bits() > 8 {
            return Err(unsupported(format!("weights of {}", ints.dtype()), "at most 8 bits"));
        }
        let scales = scales.to_f64().into_iter().map(|scale| scale as f32).collect();
        Ok(Self { ints: ints.clone(), scales, zeros: zeros.map_or_else(|| vec![0], Tensor::to_ints) })
    }

    /// Integers less their zero points, where they fit bytes.
    pub fn shifted(&self) -> Option<Vec<i8>> {
        shifted(&self.ints, &self.zeros, 0)
    }
}

/// Operands 1 to 3 of stored weights: integers, scales and, where there are some, zero points.
fn constants<'a>(
    cx: &LeafCx<'a>,
    anchor: &Anchor<'_>,
) -> Result<(&'a Tensor, &'a Tensor, Option<&'a Tensor>), Unsupported> {
    let constant = |index: usize| {
        let operand = input(cx, anchor.need(index)?)?;
        let known = operand.constant.as_ref().filter(|tensor| fits(tensor, operand));
        known.ok_or_else(|| unsupported("weights that are computed", "constants"))
    };
    let zeros = if anchor.position(3).is_some() { Some(constant(3)?) } else { None };
    Ok((constant(1)?, constant(2)?, zeros))
}

impl Weights {
    fn of(cx: &LeafCx<'_>, anchor: &Anchor<'_>, op: &MatMulStored) -> Result<Self, Unsupported> {
        let (w, scale, zero) = constants(cx, anchor)?;
        let (depth, columns) = if op.trans_b { (w.shape()[1], w.shape()[0]) } else { (w.shape()[0], w.shape()[1]) };
        let blocked = scale.shape().len() == 2;
        let len = if blocked { op.block } else { depth };
        if w.dtype().bits() > 8 || len == 0 || (blocked && op.axis != usize::from(op.trans_b)) {
            let found = format!("{} in blocks of {len} along axis {} of {:?}", w.dtype(), op.axis, w.shape());
            return Err(unsupported(found, "at most 8 bits in blocks along the sum"));
        }
        if scale.shape().len() == 1 && scale.elems() != 1 && op.axis == usize::from(op.trans_b) {
            return Err(unsupported("scales per step of the sum", "scales per column"));
        }
        let blocks = depth.div_ceil(len);
        let at = |block: usize, column: usize| match scale.shape().len() {
            2 if op.trans_b => column * blocks + block,
            2 => block * columns + column,
            1 if scale.elems() > 1 => column,
            _ => 0,
        };
        let (ints, scales, zeros) = (w.to_ints(), scale.to_f64(), zero.map(Tensor::to_ints));
        let place =
            |step: usize, column: usize| if op.trans_b { column * depth + step } else { step * columns + column };
        Ok(Self::new(&Found {
            dtype: w.dtype(),
            columns,
            depth,
            len,
            run: depth,
            value: &|step, column| ints[place(step, column)],
            scale: &|block, column| scales[at(block, column)],
            zero: &|block, column| zeros.as_ref().map_or(0, |zeros| zeros[at(block, column)]),
        }))
    }

    /// Columns that are rows of `w[.., depth]`, flattened; zeros where there is none. `scale[.., blocks]` has a row for each of `w`'s.
    pub fn of_rows(w: &Tensor, scale: &Tensor, len: usize, columns: &[Option<usize>]) -> Self {
        let depth = w.shape().last().copied().unwrap_or(0);
        let (ints, scales) = (w.to_ints(), scale.to_f64());
        let blocks = depth.div_ceil(len.max(1));
        Self::new(&Found {
            dtype: w.dtype(),
            columns: columns.len(),
            depth,
            len: len.clamp(1, depth.max(1)),
            run: depth,
            value: &|step, column| columns[column].map_or(0, |row| ints[row * depth + step]),
            scale: &|block, column| columns[column].map_or(0.0, |row| scales[row * blocks + block]),
            zero: &|_, _| 0,
        })
    }

    /// Those of a convolution in the order of its sum, window and then channels: the columns of each group are filled up to whole
    /// panels of `nr`.
    pub fn of_kernel(kernel: &Kernel, groups: usize, nr: usize) -> Self {
        let (shape, steps) = (kernel.ints.shape(), dense_steps(kernel.ints.shape()));
        let columns = shape[0] / groups;
        let padded = columns.next_multiple_of(nr);
        let along: Vec<(usize, usize)> = (2..shape.len()).chain([1]).map(|axis| (shape[axis], steps[axis])).collect();
        let (places, ints) = (offsets(&along), kernel.ints.to_ints());
        let row = |column: usize| {
            let (group, at) = (column / padded, column % padded);
            (at < columns).then_some(group * columns + at)
        };
        let zero = |row: usize| kernel.zeros[row % kernel.zeros.len()];
        // A run of one byte would leave its loop, and with it how far apart steps are.
        let run = if shape[1] > (8 / kernel.ints.dtype().bits()) as usize { shape[1] } else { 1 };
        Self::new(&Found {
            dtype: kernel.ints.dtype(),
            columns: groups * padded,
            depth: places.len(),
            len: places.len().max(1),
            run,
            value: &|step, column| row(column).map_or(0, |row| ints[row * steps[0] + places[step]]),
            scale: &|_, column| row(column).map_or(0.0, |row| kernel.scales[row % kernel.scales.len()].into()),
            zero: &|_, column| row(column).map_or(0, zero),
        })
    }

    fn new(found: &Found<'_>) -> Self {
        let &Found { dtype, columns, depth, len, .. } = found;
        // A byte has steps of one block.
        let sharing = (8 / dtype.bits()).max(1) as usize;
        let fits = [len, depth, found.run].iter().all(|steps| steps.is_multiple_of(sharing));
        let steps = if fits { sharing as i64 } else { 1 };
        let mut weights = Weights {
            columns,
            depth,
            len,
            values: Vec::new(),
            scales: Vec::new(),
            zeros: Vec::new(),
            steps,
            signed: true,
        };
        let number = |v: i128| i32::try_from(v).unwrap_or(0);
        for (block, steps) in weights.blocks().enumerate() {
            weights.scales.extend((0..columns).map(|column| (found.scale)(block, column) as f32));
            weights.zeros.extend((0..columns).map(|column| number((found.zero)(block, column))));
            for step in steps {
                weights.values.extend((0..columns).map(|column| number((found.value)(step, column))));
            }
        }
        if steps == 1 {
            weights.shift();
        } else {
            let below_zero = dtype.int_range().is_some_and(|(low, _)| low < 0);
            weights.signed = below_zero && weights.zeros.iter().all(|zero| *zero == 0);
            if below_zero && !weights.signed {
                // From 0 on, so that parts of bytes need no sign where they have zero points anyway.
                let half = 1 << (dtype.bits() - 1);
                weights.values.iter_mut().chain(&mut weights.zeros).for_each(|v| *v += half);
            }
        }
        weights
    }

    /// The steps of every block.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (depth, len) = (self.depth, self.len);
        (0..depth).step_by(len).map(move |first| first..(first + len).min(depth))
    }

    /// Takes the zero points out where bytes still hold the rest; otherwise only moves both into the range of bytes.
    fn shift(&mut self) {
        let zero = |me: &Self, at: usize| me.zeros[at / (me.len * me.columns) * me.columns + at % me.columns];
        let rest: Vec<i32> = (0..self.values.len()).map(|at| self.values[at] - zero(self, at)).collect();
        if rest.iter().all(|v| i8::try_from(*v).is_ok()) {
            self.values = rest;
            self.zeros.fill(0);
        } else if self.values.iter().any(|v| *v > 127) {
            self.values.iter_mut().chain(&mut self.zeros).for_each(|v| *v -= 128);
        }
    }

    /// How kernels read panels of `nr` columns.
    pub fn form(&self, nr: usize) -> Stored {
        Stored { steps: self.steps, signed: self.signed, zeros: self.zeros.iter().any(|zero| *zero != 0), nr }
    }

    /// Bytes of a panel.
    pub fn panel_bytes(&self, stored: &Stored) -> usize {
        self.blocks().map(|steps| stored.block_bytes(steps.len())).sum()
    }

    /// The sum over all blocks; elements of the left operand along it are `stride` apart.
    pub fn sum(&self, stored: &Stored, stride: &Extent) -> Sum {
        let scaled = |count: usize, len: usize| Sum::Scaled {
            count: count as i64,
            a: stride.clone() * len.into(),
            b: stored.block_bytes(len).into(),
            body: Box::new(Sum::Run {
                lo: Extent::ZERO,
                hi: (len / stored.steps as usize).into(),
                a: stride.clone() * stored.steps.into(),
                b: stored.nr.into(),
            }),
        };
        let (whole, rest) = (self.depth / self.len, self.depth % self.len);
        if rest == 0 {
            return scaled(whole, self.len);
        }
        let part = |from: usize, count: usize, len: usize| Part {
            a: stride.clone() * (from * self.len).into(),
            b: (from * stored.block_bytes(self.len)).into(),
            rows: 0..usize::MAX,
            body: scaled(count, len),
        };
        Sum::Seq(vec![part(0, whole, self.len), part(whole, 1, rest)])
    }

    /// Packs to `[column / nr][block]` of scales, zero points and weights `[step][nr]`, filled up with zeros.
    pub fn pack(&self, stored: &Stored) -> PackedWeight {
        let nr = stored.nr;
        let mut bytes = Vec::new();
        for panel in 0..self.columns.div_ceil(nr) {
            let lanes = |row: &[i32]| -> Vec<i32> {
                let from = panel * nr;
                let mut lanes = row[from..(from + nr).min(self.columns)].to_vec();
                lanes.resize(nr, 0);
                lanes
            };
            for (block, steps) in self.blocks().enumerate() {
                let header = block * self.columns..(block + 1) * self.columns;
                let scales = &self.scales[header.clone()][panel * nr..];
                (0..nr).for_each(|lane| bytes.extend(scales.get(lane).copied().unwrap_or(0.0).to_le_bytes()));
                if stored.zeros {
                    lanes(&self.zeros[header]).iter().for_each(|zero| bytes.extend((*zero as f32).to_le_bytes()));
                }
                let sharing = stored.steps as usize;
                let bits = 8 / sharing;
                for first in steps.step_by(sharing) {
                    let mut shared = vec![0u8; nr];
                    for part in 0..sharing {
                        let row = (first + part) * self.columns;
                        let values = lanes(&self.values[row..row + self.columns]);
                        let part = |v: i32| ((v as u32) << (32 - bits) >> (32 - bits - bits * part)) as u8;
                        shared.iter_mut().zip(values).for_each(|(byte, v)| *byte |= part(v));
                    }
                    bytes.extend(shared);
                }
            }
        }
        let shape = vec![bytes.len()];
        let data = Tensor::new(DType::I8, shape, bytes).unwrap_or_else(|_| Tensor::zeros(DType::I8, &[0]));
        PackedWeight { transform: format!("pack_blocks{}n{nr}", 8 / stored.steps), data }
    }
}
