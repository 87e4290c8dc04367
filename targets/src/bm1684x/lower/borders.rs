//! Borders that repeat a tensor's edge or mirror it.

use adze_ir::graph::Node;
use adze_ir::ops::{Pad, PadMode};

use super::build::{Draft, Home};
use super::moves::fixed;
use super::places::Region;
use super::{Lowering, Refusal, place_of, refuse};

impl Lowering<'_> {
    /// Adds a border of the tensor itself along H and W.
    pub(super) fn bordered(&mut self, node: &Node, op: &Pad) -> Result<Home, Refusal> {
        let rank = self.rank(node);
        let (before, after) = (fixed(&op.before)?, fixed(&op.after)?);
        let mut sides = [[0u32; 2]; 4];
        before.iter().zip(&after).enumerate().for_each(|(axis, (&b, &a))| sides[place_of(rank, axis)] = [b, a]);
        let mut x = self.input(node, 0)?;
        let mirrored = op.mode == PadMode::Reflect;
        let fits = |axis: usize| !mirrored || sides[axis].iter().all(|&side| side < x.shape[axis]);
        let plain = sides[..2].iter().flatten().all(|&side| side == 0) && fits(2) && fits(3);
        if !plain || !(mirrored || op.mode == PadMode::Edge) {
            let found = format!("`{}` pads, {:?} in front and {:?} behind", op.mode, op.before, op.after);
            return refuse(found, "a constant, or along H and W the edge or less than the tensor mirrored");
        }
        for axis in [3, 2] {
            if sides[axis] != [0, 0] {
                x = self.with_sides(x, axis, sides[axis], mirrored)?;
            }
        }
        Ok(x)
    }

    /// The tensor with a border along an axis.
    fn with_sides(&mut self, x: Home, axis: usize, sides: [u32; 2], mirrored: bool) -> Result<Home, Refusal> {
        let extent = x.shape[axis];
        let along = |size: u32| {
            let mut shape = x.shape;
            shape[axis] = size;
            shape
        };
        let at = |start: u32| {
            let mut region = Region::default();
            region.at[axis] = start;
            region
        };
        let result = self.draft.tensor(x.prec, x.signed, along(sides[0] + extent + sides[1]));
        self.draft.copy_region(x, Region::default(), result, at(sides[0]), x.shape);
        let last = extent - 1;
        for (size, first, edge, to) in
            [(sides[0], 1, 0, 0), (sides[1], last.saturating_sub(sides[1]), last, sides[0] + extent)]
        {
            if size == 0 {
                continue;
            }
            let shape = along(if mirrored { size } else { 1 });
            let part = self.draft.tensor(x.prec, x.signed, shape);
            self.draft.copy_region(x, at(if mirrored { first } else { edge }), part, Region::default(), shape);
            let border = if mirrored {
                self.draft.reversed(part, axis)
            } else {
                let whole = self.draft.tensor(x.prec, x.signed, along(size));
                let source = self.spread(part, whole.shape)?;
                self.draft.repeat(source, whole);
                whole
            };
            self.draft.copy_region(border, Region::default(), result, at(to), border.shape);
        }
        Ok(result)
    }
}

impl Draft {
    /// The elements along H or W back to front.
    fn reversed(&mut self, x: Home, axis: usize) -> Home {
        let [n, c, h, w] = x.shape;
        if axis == 2 {
            return self.rows_reversed(x);
        }
        if h == 1 {
            let turned = self.rows_reversed(Home { shape: [n, c, w, 1], ..x });
            return Home { shape: x.shape, ..turned };
        }
        let turned = self.exchange(x, (2, 3));
        let reversed = self.rows_reversed(turned);
        self.exchange(reversed, (2, 3))
    }

    /// Rows back to front, runs of powers of two at a time: in each of them neighbours change places, then pairs of two, of four
    /// and so on.
    fn rows_reversed(&mut self, x: Home) -> Home {
        let [n, c, h, w] = x.shape;
        let result = self.tensor(x.prec, x.signed, x.shape);
        let at = |row: u32| Region { at: [0, 0, row, 0], ..Region::default() };
        let every_other = |row: u32| Region { steps: [1, 1, 2, 1], ..at(row) };
        let mut start = 0;
        while start < h {
            let size = 1 << (h - start).ilog2();
            let shape = [n, c, size, w];
            let mut run = self.tensor(x.prec, x.signed, shape);
            self.copy_region(x, at(start), run, Region::default(), shape);
            let mut block = 1;
            while block < size {
                let next = self.tensor(x.prec, x.signed, shape);
                let blocks = |home: Home| Home { shape: [n, c, size / block, block * w], ..home };
                for side in [0, 1] {
                    let half = [n, c, size / block / 2, block * w];
                    self.copy_region(blocks(run), every_other(side), blocks(next), every_other(1 - side), half);
                }
                (run, block) = (next, block * 2);
            }
            self.copy_region(run, Region::default(), result, at(h - start - size), shape);
            start += size;
        }
        result
    }
}
