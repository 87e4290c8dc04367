//! Tiles on their way in and out: transformed with padding, transformed back with bias and epilogue.
//!
//! Both ways go through a tile that is transformed along one axis only: a vector machine does not have the registers for a
//! tile in two dimensions, and the code is short.

use adze_ir::extent::{Dims, Extent};

use super::super::epilogue::Epilogue;
use super::super::leaf::{Stream, bind, decode};
use super::super::micro::{Block, load_lanes};
use super::super::operand::Unsupported;
use super::super::store::{Target, store_block};
use super::transform::Transform;
use super::{APART, Tiling, Winograd};
use crate::cpu::kernel::{Cmp, Cond, Elem, KernelBuilder, Value};

/// A block of tiles of one image.
pub(super) struct Place {
    pub image: Extent,
    /// Index of the block in its image.
    pub block: Extent,
    /// First tile.
    pub first: Extent,
    /// Number of tiles.
    pub rows: Extent,
}

/// What happens to tiles before and after the products.
pub(super) struct Stages<'a> {
    pub conv: &'a Winograd<'a>,
    pub tiling: Tiling,
    /// Panels of output channels.
    pub panels: i64,
    pub x: Stream,
    pub y: Stream,
    /// With the elements from channel to channel.
    pub bias: Option<(Stream, Extent)>,
    pub epilogue: Epilogue<'a>,
    /// Transformed tiles, `[element][tile][channel]`.
    pub tiles: Stream,
    /// Sums of a panel, `[element][tile][column]`.
    pub sums: Stream,
    /// A tile that is transformed along one axis, `[row][column]` of vectors.
    pub half: Stream,
    pub transform: Transform,
}

/// A tile of the operand.
struct Source {
    /// Index of its first row and column in the operand; negative in the padding.
    at: [Extent; 2],
    /// How far its columns stay inside of the operand on either side; none where all tiles do.
    room: Option<Extent>,
    /// Whether rows may lie outside.
    clips_rows: bool,
    /// Offset of its first element.
    base: Extent,
}

/// A tile of the result, in a panel.
struct Goal<'a> {
    place: &'a Place,
    panel: &'a Extent,
    /// Index of the tile in its block.
    row: &'a Extent,
    /// Row and column of tiles.
    tile: [Extent; 2],
}

impl Stages<'_> {
    /// Offset of an element of a block's transformed tile.
    pub fn tile_at(&self, element: &Extent, row: &Extent) -> Extent {
        let depth = self.conv.channels[0];
        element.clone() * (self.tiling.tiles * depth + APART).into() + row.clone() * depth.into()
    }

    /// Offset of an element of a block's sums.
    pub fn sum_at(&self, element: &Extent, row: &Extent) -> Extent {
        let nr = self.conv.nr(self.tiling);
        element.clone() * (self.tiling.tiles * nr + APART).into() + row.clone() * nr.into()
    }

    fn half_at(&self, row: &Extent, column: &Extent) -> Extent {
        (row.clone() * self.conv.n().into() + column.clone()) * i64::from(self.conv.lanes).into()
    }

    /// Transforms the tiles of a block.
    pub fn forward(&self, b: &mut KernelBuilder, place: &Place, dims: &Dims) {
        let lanes = i64::from(self.conv.lanes);
        let depth = self.conv.channels[0];
        let whole = depth / lanes * lanes;
        b.loop_(0, place.rows.clone(), 1, |b, row| {
            let source = self.source(b, place, &row, dims);
            if whole > 0 {
                b.loop_(0, whole, lanes, |b, channel| self.forward_one(b, &source, &row, &channel, self.conv.lanes));
            }
            if let Ok(rest @ 1..) = u16::try_from(depth - whole) {
                self.forward_one(b, &source, &row, &whole.into(), rest);
            }
        });
    }

    fn source(&self, b: &mut KernelBuilder, place: &Place, row: &Extent, dims: &Dims) -> Source {
        let (conv, x) = (self.conv, self.conv.x);
        let tile = self.tile(b, place, row);
        let [top, left] = [0, 1].map(|axis| {
            let at = tile[axis].clone() * conv.m().into() - conv.windows[axis].pad.into();
            bind(b, at)
        });
        let clips = [0, 1].map(|axis| {
            let (window, last) = (&conv.windows[axis], (conv.grid()[axis] - 1) * conv.m());
            let before = Extent::from(-window.pad) - window.lo.clone();
            let after = window.hi.clone() - (last - window.pad + conv.n()).into();
            before.range(dims).lo < 0 || after.range(dims).lo < 0
        });
        let columns = &conv.windows[1];
        let room = clips[1].then(|| {
            let after = columns.hi.clone() - left.clone() - conv.n().into();
            bind(b, (left.clone() - columns.lo.clone()).minimum(&after))
        });
        let base = self.x.base.clone()
            + place.image.clone() * x.strides[0].clone()
            + top.clone() * x.strides[2].clone()
            + left.clone() * x.strides[3].clone();
        Source { base: bind(b, base), at: [top, left], room, clips_rows: clips[0] }
    }

    /// Row and column of a block's tile.
    fn tile(&self, b: &mut KernelBuilder, place: &Place, row: &Extent) -> [Extent; 2] {
        let tile = decode(b, place.first.clone() + row.clone(), &self.conv.grid().map(Extent::from));
        [tile[0].clone(), tile[1].clone()]
    }

    /// Transforms a tile of so many channels.
    fn forward_one(&self, b: &mut KernelBuilder, source: &Source, row: &Extent, channel: &Extent, valid: u16) {
        let (n, param) = (self.conv.n(), self.half.param);
        b.loop_(0, n, 1, |b, i| {
            let values = self.source_row(b, source, &i, channel, valid);
            for (j, value) in (0i64..).zip(self.transform.forward(b, &values)) {
                b.store(param, self.half_at(&i, &j.into()), value);
            }
        });
        b.loop_(0, n, 1, |b, j| {
            let column: Vec<Value> =
                (0..n).map(|i| b.load_as(param, self.half_at(&i.into(), &j), self.transform.ty())).collect();
            for (i, value) in (0i64..).zip(self.transform.forward(b, &column)) {
                let element = j.clone() + (i * n).into();
                b.store_first(self.tiles.param, self.tile_at(&element, row) + channel.clone(), value, valid);
            }
        });
    }

    /// A row of a tile; what lies outside of the operand is zero.
    fn source_row(
        &self,
        b: &mut KernelBuilder,
        source: &Source,
        i: &Extent,
        channel: &Extent,
        valid: u16,
    ) -> Vec<Value> {
        let (ty, n) = (self.transform.ty(), self.conv.n());
        let [rows, columns] = &self.conv.windows;
        let first = source.base.clone() + i.clone() * rows.step.clone() + channel.clone();
        let load = |b: &mut KernelBuilder, j: i64| {
            b.load_first_as(self.x.param, first.clone() + columns.step.clone() * j.into(), ty, valid)
        };
        let all = |b: &mut KernelBuilder| match &source.room {
            None => (0..n).map(|j| load(b, j)).collect(),
            Some(room) => b.if_else(
                Cond::Extent(room.clone(), Cmp::Ge, Extent::ZERO),
                |b| (0..n).map(|j| load(b, j)).collect(),
                |b| {
                    let inside = |b: &mut KernelBuilder, j: i64| {
                        let room = room_of(&columns.lo, &columns.hi, source.at[1].clone() + j.into());
                        let value = b.if_else(
                            Cond::Extent(room, Cmp::Ge, Extent::ZERO),
                            |b| vec![load(b, j)],
                            |b| vec![b.zero(ty)],
                        );
                        value[0]
                    };
                    (0..n).map(|j| inside(b, j)).collect()
                },
            ),
        };
        if !source.clips_rows {
            return all(b);
        }
        let room = room_of(&rows.lo, &rows.hi, source.at[0].clone() + i.clone());
        b.if_else(Cond::Extent(room, Cmp::Ge, Extent::ZERO), all, |b| {
            let zero = b.zero(ty);
            (0..n).map(|_| zero).collect()
        })
    }

    /// Transforms the sums of a panel back and stores them.
    ///
    /// # Errors
    /// [`Unsupported`] for epilogues without code.
    pub fn back(&self, b: &mut KernelBuilder, place: &Place, panel: &Extent) -> Result<(), Unsupported> {
        let (lanes, vecs) = (i64::from(self.conv.lanes), self.tiling.vecs as i64);
        let (whole, rest) = (self.conv.channels[1] / lanes, self.conv.channels[1] % lanes);
        let count = if whole == self.panels * vecs {
            vecs.into()
        } else {
            bind(b, (Extent::from(whole) - panel.clone() * vecs.into()).minimum(&vecs.into()))
        };
        let mut results = [Ok(()), Ok(())];
        b.loop_(0, place.rows.clone(), 1, |b, row| {
            let tile = self.tile(b, place, &row);
            let goal = Goal { place, panel, row: &row, tile };
            if whole > 0 {
                b.loop_(0, count, 1, |b, vec| results[0] = self.back_one(b, &goal, &vec, self.conv.lanes));
            }
            let Ok(rest @ 1..) = u16::try_from(rest) else { return };
            let last = self.panels - 1;
            let vec = Extent::from(whole - last * vecs);
            b.if_(Cond::Extent(panel.clone(), Cmp::Eq, last.into()), |b| {
                results[1] = self.back_one(b, &goal, &vec, rest);
            });
        });
        let [whole, rest] = results;
        whole.and(rest)
    }

    /// Transforms a vector of columns of a tile back and stores it.
    fn back_one(&self, b: &mut KernelBuilder, goal: &Goal<'_>, vec: &Extent, valid: u16) -> Result<(), Unsupported> {
        let (conv, n, m) = (self.conv, self.conv.n(), self.conv.m());
        let (ty, half) = (self.transform.ty(), self.half.param);
        let lanes = Extent::from(i64::from(conv.lanes));
        b.loop_(0, n, 1, |b, j| {
            let sum = |b: &mut KernelBuilder, i: i64| {
                let element = j.clone() + (i * n).into();
                b.load_as(self.sums.param, self.sum_at(&element, goal.row) + vec.clone() * lanes.clone(), ty)
            };
            let column: Vec<Value> = (0..n).map(|i| sum(b, i)).collect();
            for (i, value) in (0i64..).zip(self.transform.back(b, &column)) {
                b.store(half, self.half_at(&i.into(), &j), value);
            }
        });
        let channel = goal.panel.clone() * conv.nr(self.tiling).into() + vec.clone() * lanes;
        let channel = bind(b, channel);
        let bias = self.bias.as_ref().map(|(stream, stride)| {
            let at = stream.base.clone() + channel.clone() * stride.clone();
            load_lanes(b, stream, at, stride, (conv.lanes, valid), Elem::F32)
        });
        let [height, width] = conv.outputs;
        let rows = match height % m {
            0 => m.into(),
            _ => bind(b, (Extent::from(height) - goal.tile[0].clone() * m.into()).minimum(&m.into())),
        };
        let mut results = [Ok(()), Ok(())];
        b.loop_(0, rows, 1, |b, i| {
            let row: Vec<Value> = (0..n).map(|j| b.load_as(half, self.half_at(&i, &j.into()), ty)).collect();
            let mut values = self.transform.back(b, &row);
            if let Some(bias) = bias {
                values.iter_mut().for_each(|value| *value = b.add(*value, bias));
            }
            let at = [
                goal.place.image.clone(),
                channel.clone(),
                goal.tile[0].clone() * m.into() + i,
                goal.tile[1].clone() * m.into(),
            ];
            let whole = |b: &mut KernelBuilder| self.finish(b, &at, &values, valid);
            let rest = |b: &mut KernelBuilder| self.finish(b, &at, &values[..(width % m) as usize], valid);
            match (width % m, conv.grid()[1]) {
                (0, _) => results[0] = whole(b),
                (_, 1) => results[0] = rest(b),
                (_, columns) => {
                    let last = Cond::Extent(goal.tile[1].clone(), Cmp::Eq, (columns - 1).into());
                    let [first, second] = &mut results;
                    b.if_else(
                        last,
                        |b| {
                            *first = rest(b);
                            Vec::new()
                        },
                        |b| {
                            *second = whole(b);
                            Vec::new()
                        },
                    );
                }
            }
        });
        let [first, second] = results;
        first.and(second)
    }

    /// Epilogue and store of neighbouring outputs of a row, from index `at` of the result on.
    fn finish(&self, b: &mut KernelBuilder, at: &[Extent; 4], values: &[Value], valid: u16) -> Result<(), Unsupported> {
        let lanes = self.conv.lanes;
        let offset = |stream: &Stream, strides: &[Extent], j: usize| {
            let sum = at.iter().zip(strides).fold(stream.base.clone(), |sum, (i, s)| sum + i.clone() * s.clone());
            sum + strides[3].clone() * j.into()
        };
        for (j, &value) in values.iter().enumerate() {
            let mut value = value;
            if !self.epilogue.is_empty() {
                let place = |stream: usize| {
                    let (stream, strides) = &self.epilogue.streams[stream];
                    (offset(stream, strides, j), strides[1].clone())
                };
                let operands = self.epilogue.load(b, &place, (lanes, valid));
                value = self.epilogue.apply(b, value, &operands)?;
            }
            let target = Target {
                stream: &self.y,
                at: offset(&self.y, &self.conv.y.strides, j),
                row_stride: Extent::ZERO,
                col_stride: Extent::ONE,
                saturates: self.epilogue.saturates(),
            };
            store_block(b, Block { rows: 1, vecs: 1, lanes, valid, exact: false }, &target, &[value]);
        }
        Ok(())
    }
}

/// How far an index stays inside of `lo..hi`; negative outside.
fn room_of(lo: &Extent, hi: &Extent, at: Extent) -> Extent {
    (at.clone() - lo.clone()).minimum(&(hi.clone() - at - Extent::ONE))
}
