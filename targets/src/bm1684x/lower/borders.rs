//! Borders: of a constant, or such that repeat a tensor's edge or mirror it.

use adze_ir::graph::Node;
use adze_ir::ops::{Pad, PadMode};

use super::build::{Draft, Home};
use super::moves::fixed;
use super::places::Region;
use super::{Lowering, Refusal, extents, place_of, refuse};

/// What a border is made of.
#[derive(Clone, Copy, Debug)]
enum Border {
    /// The bits of a constant.
    Constant(u32),
    Edge,
    Mirrored,
}

impl Lowering<'_> {
    /// Adds a border.
    pub(super) fn pad(&mut self, node: &Node, op: &Pad) -> Result<Home, Refusal> {
        let rank = self.rank(node);
        let (before, after) = (fixed(&op.before)?, fixed(&op.after)?);
        let mut sides = [[0u32; 2]; 4];
        before.iter().zip(&after).enumerate().for_each(|(axis, (&b, &a))| sides[place_of(rank, axis)] = [b, a]);
        let x = self.input(node, 0)?;
        let border = match op.mode {
            PadMode::Constant => Border::Constant(self.border_bits(node, x)?),
            PadMode::Edge => Border::Edge,
            PadMode::Reflect => Border::Mirrored,
            PadMode::Wrap => return refuse("`wrap` pads", "a constant, the edge, or the tensor mirrored"),
        };
        let column = x.shape[1] > 1 && x.shape[2] * x.shape[3] == 1;
        if column && sides[1] != [0, 0] && [0, 2, 3].iter().all(|&axis| sides[axis] == [0, 0]) {
            // Along W a border is a run, along C an element for each lane.
            sides.swap(1, 3);
            let row = self.draft.turn(x);
            let row = self.bordered(row, sides, border)?;
            return Ok(self.draft.turn(row));
        }
        self.bordered(x, sides, border)
    }

    /// The bits of the constant that a border is made of.
    fn border_bits(&self, node: &Node, x: Home) -> Result<u32, Refusal> {
        Ok(match node.inputs.get(1).copied().flatten() {
            Some(_) if x.prec.is_int() => self.constant(node, 1)?.to_i64().first().copied().unwrap_or(0) as u32 & 0xff,
            Some(_) => {
                let value = self.constant(node, 1)?.to_f64().first().copied().unwrap_or(0.0);
                super::float::bits(value as f32, x.prec)
            }
            None => 0,
        })
    }

    /// A tensor with so many elements in front and behind along each axis.
    fn bordered(&mut self, mut x: Home, sides: [[u32; 2]; 4], border: Border) -> Result<Home, Refusal> {
        if let Border::Constant(bits) = border {
            let sized =
                |axis: usize| (u64::from(x.shape[axis]) + sides[axis].map(u64::from).iter().sum::<u64>()) as usize;
            let result = self.draft.tensor(x.prec, x.signed, extents(&[0, 1, 2, 3].map(sized))?);
            self.draft.fill(result, bits);
            let to = Region { at: sides.map(|[before, _]| before), ..Region::default() };
            self.draft.copy_region(x, Region::default(), result, to, x.shape);
            return Ok(result);
        }
        let mirrored = matches!(border, Border::Mirrored);
        let fits = |axis: usize| !mirrored || sides[axis].iter().all(|&side| side < x.shape[axis]);
        if sides[..2] != [[0, 0]; 2] || !(fits(2) && fits(3)) {
            let found = format!("a border of {sides:?} of the tensor itself around N, C, H and W {:?}", x.shape);
            return refuse(found, "one along H and W, mirrored less than the tensor");
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
