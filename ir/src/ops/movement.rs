//! Operators that only move elements.

use super::elems::{Elems, Gathered, remap};
use super::shape::{
    Around, MAX_STEP, attribute, broadcast_strides, concrete, constant, mismatch, need_axis, need_broadcast_to,
    need_equal, need_extent, need_rank, need_rank_from, need_same_dtype, need_shape, show, strides, walk,
};
use super::{EvalError, OpDef, Operands, TypeError, op};

use crate::extent::{Dims, Extent};
use crate::tensor::Tensor;
use crate::types::{Layout, Shape, TensorType};
use crate::{word_attribute, word_enum};

op! {
    /// The same elements in row-major order under another shape of equal size.
    ///
    /// Source: ONNX `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`; 0 and -1 are resolved at import.
    pub struct Reshape = "reshape" (1..=1) {
        /// Shape of the result.
        shape: Vec<Extent>,
    }
}

op! {
    /// Result axis `i` is operand axis `perm[i]`. Source: ONNX `Transpose`.
    pub struct Transpose = "transpose" (1..=1) {
        /// A permutation of the axes.
        perm: Vec<usize>,
    }
}

op! {
    /// Along `axes[i]`, elements `starts[i] + j · steps[i]` for `j` in `0..sizes[i]`, all inside the operand.
    ///
    /// Source: ONNX `Slice`; negative and out-of-range bounds are resolved at import.
    pub struct Slice = "slice" (1..=1) {
        /// Distinct, non-negative.
        axes: Vec<usize>,
        /// First element per axis.
        starts: Vec<Extent>,
        /// Extent of the result per axis.
        sizes: Vec<Extent>,
        /// Non-zero, may be negative.
        steps: Vec<i64>,
    }
}

op! {
    /// Operands one after the other along an axis. Source: ONNX `Concat`.
    pub struct Concat = "concat" (1..=4096) {
        /// Non-negative.
        axis: usize,
    }
}

op! {
    /// Pieces along an axis, one result per size; the sizes sum up to the axis. Source: ONNX `Split`.
    pub struct Split = "split" (1..=1) {
        /// Non-negative.
        axis: usize,
        /// Extent of each piece.
        sizes: Vec<Extent>,
    }
}

word_enum! {
    /// What lies beyond the edge for [`Pad`].
    pub enum PadMode {
        /// The operand `value`, or 0.
        Constant = "constant",
        /// Mirrored without repeating the edge.
        Reflect = "reflect",
        /// The edge repeated.
        Edge = "edge",
        /// The tensor repeated.
        Wrap = "wrap",
    }
}
word_attribute!(PadMode);

op! {
    /// Adds elements at the edges (negative: removes them); operands `x, value?` with `value` a scalar. Source: ONNX `Pad`.
    pub struct Pad = "pad" (1..=2) {
        /// What is added.
        mode: PadMode,
        /// Per axis, at the start.
        before: Vec<Extent>,
        /// Per axis, at the end.
        after: Vec<Extent>,
    }
}

op! {
    /// Broadcasts to exactly this shape. Source: ONNX `Expand`, `ConstantOfShape` (of a scalar constant).
    pub struct Expand = "expand" (1..=1) {
        /// Shape of the result, the operand's shape already broadcast in.
        shape: Vec<Extent>,
    }
}

op! {
    /// Repeats the whole tensor along each axis. Source: ONNX `Tile`.
    pub struct Tile = "tile" (1..=1) {
        /// Per axis.
        repeats: Vec<Extent>,
    }
}

op! {
    /// The same logical tensor in another layout; the identity for the interpreter.
    pub struct Relayout = "relayout" (1..=1) {
        /// Layout of the result.
        layout: Layout,
    }
}

op! {
    /// Moves channels into blocks of space: `[n, c, h, w]` to `[n, c / b², h · b, w · b]`. Source: ONNX `DepthToSpace`.
    pub struct DepthToSpace = "depth_to_space" (1..=1) {
        /// `b`.
        block: i64,
        /// Channel order column-row-depth (`CRD`) instead of depth-column-row (`DCR`).
        crd: bool,
    }
}

op! {
    /// Moves blocks of space into channels: `[n, c, h, w]` to `[n, c · b², h / b, w / b]`. Source: ONNX `SpaceToDepth`.
    pub struct SpaceToDepth = "space_to_depth" (1..=1) {
        /// `b`.
        block: i64,
        /// Channel order column-row-depth (`CRD`) instead of depth-column-row (`DCR`).
        crd: bool,
    }
}

op! {
    /// Keeps the upper (or lower) triangle of the last two axes, zero elsewhere. Source: ONNX `Trilu`.
    pub struct Trilu = "trilu" (1..=1) {
        /// Diagonal: 0 the main one, positive above it.
        k: i64,
        /// Keep the lower triangle.
        lower: bool,
    }
}

/// The same dtype under another shape, plain and unquantized.
fn like(x: &TensorType, shape: Shape) -> Result<Vec<TensorType>, TypeError> {
    Ok(vec![TensorType::new(x.dtype, shape)])
}

/// Refuses a list with an entry per axis that has another length.
fn need_per_axis(name: &'static str, found: usize, x: &TensorType) -> Result<(), TypeError> {
    if found == x.rank() {
        return Ok(());
    }
    Err(attribute(name, format!("{found} entries"), format!("{}, one per axis", x.rank())))
}

/// Tables for [`remap`] that read every axis as it is.
fn whole(shape: &[usize]) -> Vec<Vec<Option<usize>>> {
    shape.iter().map(|&len| (0..len).map(Some).collect()).collect()
}

impl OpDef for Reshape {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        for extent in &self.shape {
            need_extent("shape", extent)?;
        }
        need_equal("number of elements", &Extent::product(&self.shape), &x.elems())?;
        like(x, self.shape.clone())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![inputs.need(0)?.reshaped(&concrete(&types[0])?)])
    }
}

impl OpDef for Transpose {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.rank()) {
            return Err(attribute("perm", format!("{:?}", self.perm), format!("a permutation of 0..{}", x.rank())));
        }
        like(x, self.perm.iter().map(|&axis| x.shape[axis].clone()).collect())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![transposed(inputs.need(0)?, &self.perm, &concrete(&types[0])?)])
    }
}

fn transposed(x: &Tensor, perm: &[usize], shape: &[usize]) -> Tensor {
    let (elems, dense) = (Elems::of(x), strides(x.shape()));
    let steps: Vec<usize> = perm.iter().map(|&axis| dense[axis]).collect();
    let mut result = Gathered::new(x.dtype());
    walk(shape, [&steps], |[at]| result.push(elems.get(at)));
    result.finish(shape)
}

impl OpDef for Slice {
    /// Bounds are checked where they are constant; [`super::Op::eval`] asks again when every extent is.
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        let lens = [self.starts.len(), self.sizes.len(), self.steps.len()];
        if lens.iter().any(|&len| len != self.axes.len()) {
            let found = format!("{lens:?} entries in `starts`, `sizes` and `steps`");
            return Err(attribute("axes", found, format!("{}, one per axis", self.axes.len())));
        }
        let mut shape = x.shape.clone();
        for (position, &axis) in self.axes.iter().enumerate() {
            need_axis("axes", axis, x)?;
            if self.axes[..position].contains(&axis) {
                return Err(attribute("axes", format!("{axis} twice"), "each axis once"));
            }
            let (start, size, step) = (&self.starts[position], &self.sizes[position], self.steps[position]);
            need_slice(&x.shape[axis], start, size, step)?;
            shape[axis] = size.clone();
        }
        like(x, shape)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let mut tables = whole(x.shape());
        for (position, &axis) in self.axes.iter().enumerate() {
            let (start, size) = (constant(&self.starts[position])?, constant(&self.sizes[position])?);
            let at = |j: i64| usize::try_from(start + j * self.steps[position]).ok();
            tables[axis] = (0..size).map(at).collect();
        }
        Ok(vec![remap(x, &tables, &[])])
    }
}

/// Refuses a slice of an axis that certainly leaves it.
fn need_slice(len: &Extent, start: &Extent, size: &Extent, step: i64) -> Result<(), TypeError> {
    if step == 0 || step.unsigned_abs() > MAX_STEP.unsigned_abs() {
        return Err(attribute("steps", step, format!("non-zero, at most {MAX_STEP} in magnitude")));
    }
    need_extent("sizes", size)?;
    let last = start.clone() + (size.clone() - Extent::ONE) * step.into();
    let (low, high) = if step > 0 { (start, &last) } else { (&last, start) };
    let room = len.clone() - Extent::ONE - high.clone();
    let outside = |distance: &Extent| distance.upper(&Dims::new()) < 0;
    if size.as_const() == Some(0) || !outside(low) && !outside(&room) {
        return Ok(());
    }
    Err(mismatch("slice", format!("elements {low} to {high}"), format!("elements inside 0..{len}")))
}

impl OpDef for Concat {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let first = inputs.need(0)?;
        need_axis("axis", self.axis, first)?;
        need_same_dtype(inputs)?;
        let mut shape = first.shape.clone();
        for input in 1..inputs.len() {
            let ty = inputs.need(input)?;
            need_rank(input, ty, first.rank())?;
            let mut accepted = first.shape.clone();
            accepted[self.axis] = ty.shape[self.axis].clone();
            need_shape("operand of `concat`", ty, &accepted)?;
            shape[self.axis] = shape[self.axis].clone() + ty.shape[self.axis].clone();
        }
        like(first, shape)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let shape = concrete(&types[0])?;
        let Around { outer, inner, .. } = Around::axis(&shape, self.axis);
        let parts: Vec<(Elems<'_>, usize)> =
            inputs.present().map(|x| (Elems::of(x), x.shape()[self.axis] * inner)).collect();
        let mut result = Gathered::new(types[0].dtype);
        for row in 0..outer {
            for (elems, len) in &parts {
                result.push(elems.run(row * len, *len));
            }
        }
        Ok(vec![result.finish(&shape)])
    }
}

impl OpDef for Split {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_axis("axis", self.axis, x)?;
        for size in &self.sizes {
            need_extent("sizes", size)?;
        }
        let sum = self.sizes.iter().fold(Extent::ZERO, |sum, size| sum + size.clone());
        need_equal("sum of `sizes`", &sum, &x.shape[self.axis])?;
        let piece = |size: &Extent| {
            let mut shape = x.shape.clone();
            shape[self.axis] = size.clone();
            TensorType::new(x.dtype, shape)
        };
        Ok(self.sizes.iter().map(piece).collect())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let mut start = 0;
        let mut pieces = Vec::with_capacity(types.len());
        for ty in types {
            let end = start + concrete(ty)?[self.axis];
            let mut tables = whole(x.shape());
            tables[self.axis] = (start..end).map(Some).collect();
            pieces.push(remap(x, &tables, &[]));
            start = end;
        }
        Ok(pieces)
    }
}

impl OpDef for Pad {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_per_axis("before", self.before.len(), x)?;
        need_per_axis("after", self.after.len(), x)?;
        need_same_dtype(inputs)?;
        if let Some(value) = inputs.get(1)
            && value.elems() != Extent::ONE
        {
            return Err(mismatch("`value`", show(&value.shape), "one element"));
        }
        let mut shape = Shape::new();
        for ((len, before), after) in x.shape.iter().zip(&self.before).zip(&self.after) {
            shape.push(len.clone() + before.clone() + after.clone());
            need_extent("after", &shape[shape.len() - 1])?;
            if let (Some(len), Some(before), Some(after)) = (len.as_const(), before.as_const(), after.as_const()) {
                self.need_source(len, before, after)?;
            }
        }
        like(x, shape)
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let zero = Tensor::zeros(x.dtype(), &[1]);
        let fill = Elems::of(inputs.get(1).unwrap_or(&zero));
        let mut tables = Vec::new();
        for ((&len, before), after) in x.shape().iter().zip(&self.before).zip(&self.after) {
            tables.push(self.table(len as i64, constant(before)?, constant(after)?));
        }
        Ok(vec![remap(x, &tables, fill.get(0))])
    }
}

impl Pad {
    /// Refuses an axis that is cropped beyond its end, or whose padding has nothing to be made of.
    fn need_source(&self, len: i64, before: i64, after: i64) -> Result<(), TypeError> {
        let kept = len.saturating_add(before.min(0)).saturating_add(after.min(0));
        let most = before.max(after);
        let fits = match self.mode {
            PadMode::Constant => true,
            PadMode::Edge | PadMode::Wrap => most <= 0 || kept > 0,
            PadMode::Reflect => most <= 0 || most < kept,
        };
        if kept >= 0 && fits {
            return Ok(());
        }
        let found = format!("{before} and {after} around {len} elements");
        let accepted = match self.mode {
            PadMode::Reflect => "cropping inside the axis, padding below what is kept of it",
            _ => "cropping inside the axis, padding made of at least one element",
        };
        Err(mismatch("padding", found, accepted))
    }

    /// What each position of the padded axis shows. Cropping comes first: the edge is that of what is kept.
    fn table(&self, len: i64, before: i64, after: i64) -> Vec<Option<usize>> {
        let first = (-before).max(0);
        let kept = len - first - (-after).max(0);
        let source = |position: i64| {
            let inside = match self.mode {
                PadMode::Constant => position,
                PadMode::Edge => position.clamp(0, kept - 1),
                PadMode::Wrap => position.rem_euclid(kept),
                PadMode::Reflect if position < 0 => -position,
                PadMode::Reflect if position >= kept => 2 * (kept - 1) - position,
                PadMode::Reflect => position,
            };
            (0..kept).contains(&inside).then_some((inside + first) as usize)
        };
        (-before.max(0)..kept + after.max(0)).map(source).collect()
    }
}

impl OpDef for Expand {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        for extent in &self.shape {
            need_extent("shape", extent)?;
        }
        need_broadcast_to("operand", &x.shape, &self.shape)?;
        like(x, self.shape.clone())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, shape) = (inputs.need(0)?, concrete(&types[0])?);
        let elems = Elems::of(x);
        let mut result = Gathered::new(x.dtype());
        walk(&shape, [&broadcast_strides(x.shape(), &shape)], |[at]| result.push(elems.get(at)));
        Ok(vec![result.finish(&shape)])
    }
}

impl OpDef for Tile {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_per_axis("repeats", self.repeats.len(), x)?;
        for repeat in &self.repeats {
            need_extent("repeats", repeat)?;
        }
        like(x, x.shape.iter().zip(&self.repeats).map(|(len, repeat)| len.clone() * repeat.clone()).collect())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let table = |(&len, tiled): (&usize, usize)| (0..tiled).map(|at| Some(at % len)).collect();
        let tables: Vec<_> = x.shape().iter().zip(concrete(&types[0])?).map(table).collect();
        Ok(vec![remap(x, &tables, &[])])
    }
}

impl OpDef for Relayout {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        if !self.layout.fits(x.rank()) {
            return Err(attribute("layout", format!("\"{}\"", self.layout), format!("a layout of rank {}", x.rank())));
        }
        Ok(vec![x.clone().with_layout(self.layout.clone())])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![inputs.need(0)?.clone()])
    }
}

/// `block²`, for a block size that makes sense.
fn block_area(block: i64) -> Result<Extent, TypeError> {
    if (1..=1 << 15).contains(&block) {
        return Ok((block * block).into());
    }
    Err(attribute("block", block, "1 to 32768"))
}

/// `len / by`, refused unless the division provably leaves no rest.
fn exact_part(what: &'static str, len: &Extent, by: &Extent) -> Result<Extent, TypeError> {
    let part = len.floordiv(by);
    if part.clone() * by.clone() == *len {
        return Ok(part);
    }
    Err(mismatch(what, len, format!("a multiple of {by}")))
}

impl OpDef for DepthToSpace {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_rank(0, x, 4)?;
        let channels = exact_part("channels", &x.shape[1], &block_area(self.block)?)?;
        let side = |axis: usize| x.shape[axis].clone() * self.block.into();
        like(x, vec![x.shape[0].clone(), channels, side(2), side(3)])
    }

    /// As the standard spells it out: reshape, transpose, reshape.
    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, shape, block) = (inputs.need(0)?, concrete(&types[0])?, self.block as usize);
        let [n, c, h, w] = [shape[0], shape[1], x.shape()[2], x.shape()[3]];
        let y = if self.crd {
            transposed(&x.reshaped(&[n, c, block, block, h, w]), &[0, 1, 4, 2, 5, 3], &[n, c, h, block, w, block])
        } else {
            transposed(&x.reshaped(&[n, block, block, c, h, w]), &[0, 3, 4, 1, 5, 2], &[n, c, h, block, w, block])
        };
        Ok(vec![y.reshaped(&shape)])
    }
}

impl OpDef for SpaceToDepth {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_rank(0, x, 4)?;
        let channels = x.shape[1].clone() * block_area(self.block)?;
        let side = |axis: usize| exact_part("space", &x.shape[axis], &self.block.into());
        like(x, vec![x.shape[0].clone(), channels, side(2)?, side(3)?])
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let (x, shape, block) = (inputs.need(0)?, concrete(&types[0])?, self.block as usize);
        let [n, c, h, w] = [shape[0], x.shape()[1], shape[2], shape[3]];
        let split = x.reshaped(&[n, c, h, block, w, block]);
        let y = if self.crd {
            transposed(&split, &[0, 1, 3, 5, 2, 4], &[n, c, block, block, h, w])
        } else {
            transposed(&split, &[0, 3, 5, 1, 2, 4], &[n, block, block, c, h, w])
        };
        Ok(vec![y.reshaped(&shape)])
    }
}

impl OpDef for Trilu {
    fn infer(&self, inputs: Operands<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.need(0)?;
        need_rank_from(0, x, 2)?;
        like(x, x.shape.clone())
    }

    fn eval(&self, inputs: Operands<'_, Tensor>, _: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.need(0)?;
        let (elems, zero) = (Elems::of(x), [0; 8]);
        let (rows, columns) = (x.shape()[x.shape().len() - 2], x.shape()[x.shape().len() - 1]);
        let mut result = Gathered::new(x.dtype());
        for at in 0..x.elems() {
            let (row, column) = ((at / columns % rows) as i64, (at % columns) as i64);
            let above = column.saturating_sub(row.saturating_add(self.k));
            let keep = if self.lower { above <= 0 } else { above >= 0 };
            let bytes = elems.get(at);
            result.push(if keep { bytes } else { &zero[..bytes.len()] });
        }
        Ok(vec![result.finish(x.shape())])
    }
}

#[cfg(test)]
mod tests;
