//! Operators that only move elements, of any type.

use adze_ir::extent::Extent;
use adze_ir::graph::Node;
use adze_ir::ops::{Concat, Expand, Gather, Pad, PadMode, Slice, Split};

use super::super::isa::{DmaGather, Prec};
use super::super::machine::MAX_EXTENT;
use super::axes::around;
use super::build::{Home, Place};
use super::places::Region;
use super::{Lowering, Refusal, place_of, refuse};

/// Constant extents.
pub(super) fn fixed(extents: &[Extent]) -> Result<Vec<u32>, Refusal> {
    let one = |e: &Extent| e.as_const().and_then(|v| u32::try_from(v).ok());
    let all = extents.iter().map(one).collect::<Option<Vec<u32>>>();
    all.map_or_else(|| refuse(format!("extents {extents:?}"), "numbers that are not negative"), Ok)
}

impl Lowering<'_> {
    /// Rank of an operand.
    pub(super) fn rank(&self, node: &Node) -> usize {
        node.inputs[0].map_or(0, |value| self.graph.ty(value).rank())
    }

    /// Lowers a slice.
    pub(super) fn slice(&mut self, node: &Node, op: &Slice) -> Result<Home, Refusal> {
        let (rank, starts) = (self.rank(node), fixed(&op.starts)?);
        let mut from = Region::default();
        for ((&axis, start), &step) in op.axes.iter().zip(starts).zip(&op.steps) {
            let axis = place_of(rank, axis);
            from.at[axis] = start;
            from.steps[axis] = match u32::try_from(step) {
                Ok(step) if step > 0 && (axis > 1 || step == 1) => step,
                _ => return refuse(format!("steps {:?}", op.steps), "positive ones, along H and W"),
            };
        }
        let x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        Ok(self.part(x, from, shape))
    }

    /// A part of a tensor.
    fn part(&mut self, x: Home, from: Region, shape: [u32; 4]) -> Home {
        let result = self.draft.tensor(x.prec, x.signed, shape);
        self.draft.copy_region(x, from, result, Region::default(), shape);
        result
    }

    /// Lowers a split.
    pub(super) fn split(&mut self, node: &Node, op: &Split) -> Result<(), Refusal> {
        let (rank, sizes) = (self.rank(node), fixed(&op.sizes)?);
        let x = self.input(node, 0)?;
        let mut from = Region::default();
        for (&value, size) in node.outputs.iter().zip(sizes) {
            let shape = self.shape(value)?;
            let piece = self.part(x, from, shape);
            self.keep(value, piece);
            from.at[place_of(rank, op.axis)] += size;
        }
        Ok(())
    }

    /// Lowers a concatenation.
    pub(super) fn concat(&mut self, node: &Node, op: &Concat) -> Result<Home, Refusal> {
        let axis = place_of(self.rank(node), op.axis);
        let shape = self.shape(node.outputs[0])?;
        let mut result: Option<Home> = None;
        let mut to = Region::default();
        for index in 0..node.inputs.len() {
            let x = self.input(node, index)?;
            let x = if x.prec.is_int() { x } else { self.as_float(x, self.type_of(node.outputs[0])) };
            let result = *result.get_or_insert_with(|| self.draft.tensor(x.prec, x.signed, shape));
            self.draft.copy_region(x, Region::default(), result, to, x.shape);
            to.at[axis] += x.shape[axis];
        }
        result.map_or_else(|| refuse("no operand", "one"), Ok)
    }

    /// Adds a border of a constant.
    pub(super) fn pad(&mut self, node: &Node, op: &Pad) -> Result<Home, Refusal> {
        let rank = self.rank(node);
        let (before, _) = (fixed(&op.before)?, fixed(&op.after)?);
        if op.mode != PadMode::Constant {
            return self.bordered(node, op);
        }
        let x = self.input(node, 0)?;
        let bits = match node.inputs.get(1).copied().flatten() {
            Some(_) if x.prec.is_int() => self.constant(node, 1)?.to_i64().first().copied().unwrap_or(0) as u32 & 0xff,
            Some(_) => {
                let value = self.constant(node, 1)?.to_f64().first().copied().unwrap_or(0.0);
                super::float::bits(value as f32, x.prec)
            }
            None => 0,
        };
        let result = self.draft.tensor(x.prec, x.signed, self.shape(node.outputs[0])?);
        self.draft.fill(result, bits);
        let mut to = Region::default();
        before.iter().enumerate().for_each(|(axis, &start)| to.at[place_of(rank, axis)] = start);
        self.draft.copy_region(x, Region::default(), result, to, x.shape);
        Ok(result)
    }

    /// Repeats a tensor to a shape.
    pub(super) fn expand(&mut self, node: &Node, _: &Expand) -> Result<Home, Refusal> {
        let (x, shape) = (self.input(node, 0)?, self.shape(node.outputs[0])?);
        let ones = self.graph.ty(node.outputs[0]).rank().saturating_sub(self.rank(node));
        let own = self.graph.ty(node.inputs[0].expect("an operand")).fixed_shape().unwrap_or_default();
        let own = super::extents(&[vec![1; ones], own].concat())?;
        let x = if x.shape == own { x } else { self.draft.reshape(x, own) };
        let source = self.spread(x, shape)?;
        let result = self.draft.tensor(x.prec, x.signed, shape);
        self.draft.repeat(source, result);
        Ok(result)
    }

    /// Lowers a gather: parts of a tensor by constant indices, or rows of a constant.
    pub(super) fn gather(&mut self, node: &Node, op: &Gather) -> Result<Home, Refusal> {
        let constant = |index: usize| node.inputs[index].is_some_and(|value| self.graph.constant(value).is_some());
        if constant(0) || !constant(1) {
            return self.gather_rows(node, op);
        }
        let indices = self.constant(node, 1)?.to_i64();
        let mut axis = place_of(self.rank(node), op.axis);
        let mut x = self.input(node, 0)?;
        if self.rank(node) > 4 {
            let dims = self.dims(node.inputs[0]);
            (x, axis) = (self.draft.reshape(x, around(&dims, op.axis)?), 1);
        }
        let count = u32::try_from(indices.len()).unwrap_or(u32::MAX);
        let mut shape = x.shape;
        shape[axis] = count;
        let result = self.draft.tensor(x.prec, x.signed, shape);
        shape[axis] = 1;
        for (position, index) in (0..count).zip(indices) {
            let extent = i64::from(x.shape[axis]);
            let index = if index < 0 { index + extent } else { index };
            if !(0..extent).contains(&index) {
                return refuse(format!("index {index}"), format!("0 to {}", extent - 1));
            }
            let [mut from, mut to] = [Region::default(); 2];
            (from.at[axis], to.at[axis]) = (index as u32, position);
            self.draft.copy_region(x, from, result, to, shape);
        }
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(result, shape))
    }

    /// Rows of a constant matrix of floats by indices: an embedding.
    fn gather_rows(&mut self, node: &Node, op: &Gather) -> Result<Home, Refusal> {
        let accepted = "rows of a constant matrix of floats (--float)";
        let table = self.constant(node, 0)?.clone();
        let &[rows, columns] = table.shape() else {
            return refuse(format!("a table of rank {}", table.shape().len()), accepted);
        };
        let fits = rows <= i32::MAX as usize && (1..=MAX_EXTENT as usize).contains(&columns);
        if op.axis != 0 || !table.dtype().is_float() || !self.real.is_half() || !fits {
            return refuse(format!("axis {} of {}", op.axis, table.ty()), accepted);
        }
        let index = self.input(node, 1)?;
        let count = index.shape.iter().product();
        if index.prec != Prec::Int32 || count > MAX_EXTENT {
            return refuse(
                format!("{count} indices of {:?}", index.prec),
                format!("at most {MAX_EXTENT} of i32 or i64"),
            );
        }
        let index = self.draft.reshape(index, [1, 1, 1, count]);
        let from_start = self.draft.tensor(Prec::Int32, true, index.shape);
        // Negative ones count from the end: they get as many rows more.
        for (operation, value) in [(5, 0), (4, u32::MAX), (0, (rows as u32).wrapping_neg())] {
            let from = if operation == 5 { index } else { from_start };
            self.draft.with_constant(operation, from, Prec::Int32, value, from_start);
        }
        self.draft.binary(2, index, from_start, from_start);
        let values: Vec<f32> = table.to_f64().into_iter().map(|v| v as f32).collect();
        let source = self.draft.constant(&super::float::bytes(&values, self.real));
        let result = self.draft.tensor(self.real, true, [1, 1, count, columns as u32]);
        let dma = DmaGather {
            src_data_format: self.real.code(),
            src_csize: 1,
            src_hsize: rows as u32,
            src_wsize: columns as u32,
            dst_csize: 1,
            dst_hsize: count,
            dst_wsize: columns as u32,
            index_csize: 1,
            index_hsize: count,
            localmem_mask_lo: u32::MAX,
            localmem_mask_hi: u32::MAX,
            ..DmaGather::default()
        };
        let index = Place::Local(from_start.buffer, 0);
        self.draft.push(dma, vec![("src", source), ("index", index), ("dst", Place::Local(result.buffer, 0))]);
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(result, shape))
    }

    /// Lowers a transposition by exchanging two axes at a time.
    pub(super) fn permuted(&mut self, x: Home, perm: [usize; 4], shape: [u32; 4]) -> Home {
        let order = |perm: &[usize; 4]| perm.iter().copied().filter(|&axis| x.shape[axis] > 1).collect::<Vec<_>>();
        if order(&perm) == order(&[0, 1, 2, 3]) {
            return self.draft.reshape(x, shape);
        }
        let swapped = swaps(perm).into_iter().fold(x, |x, swap| self.draft.exchange(x, swap));
        self.draft.reshape(swapped, shape)
    }
}

/// Pairs of axes that commands exchange.
const SWAPS: [(usize, usize); 3] = [(2, 3), (1, 3), (0, 1)];

/// The fewest exchanges that make a permutation.
fn swaps(perm: [usize; 4]) -> Vec<(usize, usize)> {
    let mut open = vec![([0, 1, 2, 3], Vec::new())];
    let mut seen = std::collections::BTreeSet::from([[0, 1, 2, 3]]);
    let mut next = 0;
    while let Some((order, path)) = open.get(next).cloned() {
        if order == perm {
            return path;
        }
        for swap in SWAPS {
            let mut order = order;
            order.swap(swap.0, swap.1);
            if seen.insert(order) {
                open.push((order, [path.clone(), vec![swap]].concat()));
            }
        }
        next += 1;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::swaps;

    #[test]
    fn exchanges_make_every_permutation() {
        let axes = [0usize, 1, 2, 3];
        for index in 0..256 {
            let perm = [0, 1, 2, 3].map(|i| index >> (2 * i) & 3);
            if axes.iter().any(|axis| !perm.contains(axis)) {
                continue;
            }
            let mut order = axes;
            swaps(perm).into_iter().for_each(|(a, b)| order.swap(a, b));
            assert_eq!(order, perm);
        }
    }
}
