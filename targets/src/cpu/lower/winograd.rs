//! Convolution of 3x3 windows by minimal filtering, in one kernel: tiles are transformed, multiplied and transformed back.
//!
//! A unit of work is a block of tiles times a panel of output channels. The tiles of a block are transformed once, into working
//! memory `[element][tile][channel]`; then, panel by panel, each of the `n x n` elements is a small matrix product by the
//! register blocks of [`super::micro`], and the sums `[element][tile][column]` are transformed back, with bias and epilogue. Blocks
//! are so large that a panel of weights is read for many tiles, and so small that tiles stay in the second cache.
//!
//! Padding and what tiles at the right and lower end reach beyond the operand are zeros that are never read.

mod tiles;
mod transform;

use adze_ir::extent::Extent;
use adze_ir::ops::{Op, WinogradConv};
use adze_ir::propose::Schedule;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::blocking::{Blocking, Shape, at_once, stated};
use super::epilogue::Epilogue;
use super::leaf::{Anchor, Leaf, Stream, bind, decode, input, lanes_of, output, unsupported};
use super::micro::{Ahead, Block, Form, Operands, Sum, sum_block};
use super::operand::{LeafCx, Lowered, Operand, PackedWeight, Unsupported};
use super::product::{AHEAD_BYTES, LINE_BYTES, Right, fetches_ahead};
use super::window::{Geometry, Window, check_bounds};
use crate::cpu::kernel::{Cmp, Cond, Elem, KernelBuilder, Type, Value};
use tiles::{Place, Stages};
use transform::Transform;

/// Working memory of a thread that is offered, at most.
const SCRATCH_BYTES: [i64; 3] = [128 << 10, 320 << 10, 1 << 20];
/// Register blocks that are offered.
const MAX_BLOCKS: usize = 2;
/// Floats between the elements of transformed tiles beside them: powers of two would share a few sets of the cache.
const APART: i64 = 16;

/// Lowers a `winograd_conv`, alone or with epilogues.
///
/// # Errors
/// [`Unsupported`] for weights that are computed, images of unknown size, channels that are no neighbours in memory, padding that
/// is not zero, and epilogues that are not elementwise.
pub(super) fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let anchor = Anchor::of(cx)?;
    let conv = Winograd::new(cx, &anchor)?;
    let tiling = match cx.schedule {
        None => conv.tilings(cx)[0],
        Some(schedule) => conv.stated(cx, schedule)?,
    };
    Ok(vec![conv.emit(cx, &anchor, tiling)?])
}

/// The schedules that make sense for a `winograd_conv`.
///
/// # Errors
/// As [`lower`].
pub(super) fn schedules(cx: &LeafCx<'_>) -> Result<Vec<Schedule>, Unsupported> {
    let conv = Winograd::new(cx, &Anchor::of(cx)?)?;
    Ok(conv.tilings(cx).iter().map(Tiling::schedule).collect())
}

/// A register block, and how many tiles are worked on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiling {
    /// Tiles of a register block.
    mr: usize,
    /// Vectors of output channels.
    vecs: usize,
    /// Tiles of a block: a multiple of `mr`, or all.
    tiles: i64,
}

/// Name of the schedules.
const TILES: &str = "tiles";

impl Tiling {
    fn schedule(&self) -> Schedule {
        stated(TILES, [("mr", self.mr as i64), ("vecs", self.vecs as i64), ("tiles", self.tiles)])
    }
}

/// A convolution taken apart.
struct Winograd<'a> {
    op: &'a WinogradConv,
    x: &'a Operand,
    y: &'a Operand,
    weights: Tensor,
    /// Rows and columns.
    windows: [Window; 2],
    /// Rows and columns of the result.
    outputs: [i64; 2],
    /// Input and output channels.
    channels: [i64; 2],
    lanes: u16,
}

impl<'a> Winograd<'a> {
    fn new(cx: &LeafCx<'a>, anchor: &Anchor<'a>) -> Result<Self, Unsupported> {
        let Op::WinogradConv(op) = anchor.op else {
            return Err(unsupported(format!("`{}`", anchor.op.name()), "`winograd_conv`"));
        };
        let (x, w, y) = (input(cx, anchor.need(0)?)?, input(cx, anchor.need(1)?)?, output(cx, 0)?);
        let weights = w.constant.clone().ok_or_else(|| unsupported("weights that are computed", "constants"))?;
        let &[columns, depth, 3, 3] = weights.shape() else {
            return Err(unsupported(format!("weights of shape {:?}", weights.shape()), "a window of 3 x 3"));
        };
        if x.dtype != DType::F32 || x.rank() != 4 || y.rank() != 4 {
            return Err(unsupported(format!("{} of rank {}", x.dtype, x.rank()), "images of f32"));
        }
        if x.strides[1] != Extent::ONE || y.strides[1] != Extent::ONE {
            return Err(unsupported("channels that are apart in memory", "channels last"));
        }
        check_bounds(x, cx.dims, Some(0.0))?;
        let geometry = Geometry { kernel: &[3; 2], strides: &[1; 2], pads: &op.pads, dilations: &[1; 2] };
        let windows = Window::all(x, &y.shape[2..], &geometry, cx.dims)?;
        let Ok(windows) = <[Window; 2]>::try_from(windows) else {
            return Err(unsupported("other than two spatial axes", "two"));
        };
        let [Some(rows), Some(cols)] = [&y.shape[2], &y.shape[3]].map(Extent::as_const) else {
            return Err(unsupported("images of unknown size", "a fixed size"));
        };
        if rows.min(cols) < 1 || depth.min(columns) < 1 {
            return Err(unsupported("an empty tensor", "one element or more"));
        }
        let channels = [depth as i64, columns as i64];
        Ok(Self { op, x, y, weights, windows, outputs: [rows, cols], channels, lanes: lanes_of(cx, Elem::F32) })
    }

    /// Outputs of a tile along an axis.
    fn m(&self) -> i64 {
        self.op.tile
    }

    /// Elements of a transformed tile along an axis.
    fn n(&self) -> i64 {
        self.op.tile + 2
    }

    /// Tiles along both axes.
    fn grid(&self) -> [i64; 2] {
        self.outputs.map(|len| (len + self.m() - 1) / self.m())
    }

    /// Tiles of an image.
    fn count(&self) -> i64 {
        self.grid().iter().product()
    }

    /// Columns of a panel.
    fn nr(&self, tiling: Tiling) -> i64 {
        tiling.vecs as i64 * i64::from(self.lanes)
    }

    /// Floats of working memory: transformed tiles, sums, and a tile half transformed.
    fn scratch(&self, tiling: Tiling) -> [i64; 3] {
        let elements = self.n() * self.n();
        let all = |width: i64| elements * (tiling.tiles * width + APART);
        [all(self.channels[0]), all(self.nr(tiling)), elements * i64::from(self.lanes)]
    }

    /// The blocks that make sense, most promising first; at least one.
    fn tilings(&self, cx: &LeafCx<'_>) -> Vec<Tiling> {
        let shape = Shape {
            elem: Elem::F32,
            rows: self.count().into(),
            cols: self.channels[1].into(),
            depth: self.channels[0].into(),
            left: (self.count() * self.channels[0]).into(),
            right: Right::Packed,
            held: 1,
            column: 1,
        };
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for block in Blocking::list(cx, &shape) {
            let pair = (block.mr, block.nr / usize::from(self.lanes));
            if !blocks.contains(&pair) && blocks.len() < MAX_BLOCKS {
                blocks.push(pair);
            }
        }
        let mut tilings = Vec::new();
        for most in SCRATCH_BYTES.into_iter().rev() {
            for &(mr, vecs) in &blocks {
                let tiling = self.fitted(mr, vecs, most);
                if !tilings.contains(&tiling) {
                    tilings.push(tiling);
                }
            }
        }
        tilings
    }

    /// Even blocks of tiles whose working memory is about that at most.
    fn fitted(&self, mr: usize, vecs: usize, bytes: i64) -> Tiling {
        let one = Tiling { mr, vecs, tiles: 1 };
        let each: i64 = 4 * self.n() * self.n() * (self.channels[0] + self.nr(one));
        let rows = mr as i64;
        let most = (bytes / each / rows).max(1) * rows;
        let blocks = (self.count() + most - 1) / most;
        let even = (self.count() + blocks - 1) / blocks;
        let tiles = ((even + rows - 1) / rows * rows).min(self.count());
        Tiling { tiles, ..one }
    }

    /// The block that a schedule states; one that was chosen for a larger leaf is cut to this one.
    fn stated(&self, cx: &LeafCx<'_>, schedule: &Schedule) -> Result<Tiling, Unsupported> {
        let get = |name: &str, most: i64| schedule.params.get(name).copied().filter(|v| (1..=most).contains(v));
        let most = cx.machine.vector_registers.into();
        let known = *schedule.id == *TILES && schedule.params.len() == 3;
        let (Some(mr), Some(vecs), Some(tiles)) = (get("mr", most), get("vecs", most), get("tiles", i64::MAX)) else {
            return Err(unsupported(format!("schedule {schedule}"), format!("`{TILES}` with mr, vecs, tiles")));
        };
        if !known || (mr + 1) * vecs > most.max(2) {
            return Err(unsupported(format!("schedule {schedule}"), format!("`{TILES}` that fits {most} registers")));
        }
        let mr = mr.min(self.count());
        let tiles = if tiles >= self.count() { self.count() } else { (tiles / mr).max(1) * mr };
        Ok(Tiling { mr: usize::try_from(mr).unwrap_or(1), vecs: usize::try_from(vecs).unwrap_or(1), tiles })
    }
}

/// The kernel of a convolution while it is written.
struct Writer<'a> {
    conv: &'a Winograd<'a>,
    tiling: Tiling,
    at_once: u16,
    /// Whether the weights of an element are fetched while those of the one before are in use: all together are too many for
    /// the second cache.
    ahead: bool,
    /// Transformed weights `[panel][element][channel][column]`.
    weights: Stream,
    /// Transformed tiles and sums.
    stages: Stages<'a>,
}

impl Winograd<'_> {
    fn emit(&self, cx: &LeafCx<'_>, anchor: &Anchor<'_>, tiling: Tiling) -> Result<Lowered, Unsupported> {
        let nr = self.nr(tiling);
        let mut leaf = Leaf::new(cx, &format!("winograd{}_{}x{nr}", self.op.tile, tiling.mr));
        let x = leaf.input(anchor.need(0)?)?;
        let weights = leaf.packed(self.pack(nr));
        let y = leaf.output(0)?;
        let bias = match anchor.position(2) {
            None => None,
            Some(at) => {
                let stride = input(cx, at)?.strides.first().cloned().unwrap_or(Extent::ZERO);
                Some((leaf.input(at)?, stride))
            }
        };
        let epilogue = Epilogue::of(&mut leaf, anchor, DType::F32, self.y)?;
        let [tiles, sums, half] = self.scratch(tiling).map(|elems| leaf.scratch(DType::F32, elems.into()));
        let (blocks, panels) = self.units(tiling);
        let transform = Transform::new(self.op.tile, Type::vec(Elem::F32, self.lanes));
        let stages = Stages { conv: self, tiling, panels, x, y, bias, epilogue, tiles, sums, half, transform };
        let bytes = 4 * self.n() * self.n() * self.channels[0] * nr * panels;
        let ahead = fetches_ahead(cx.machine) && bytes >= AHEAD_BYTES;
        let writer = Writer { conv: self, tiling, at_once: at_once(cx), ahead, weights, stages };
        let images = self.y.shape[0].clone();
        let (lo, hi) = leaf.b.range();
        let each: Extent = panels.into();
        let (first, end) = (bind(&mut leaf.b, lo.floordiv(&each)), bind(&mut leaf.b, hi.ceildiv(&each)));
        let mut result = Ok(());
        leaf.b.loop_(first, end, 1, |b, unit| {
            let at = decode(b, unit.clone(), &[images.clone(), blocks.into()]);
            let place = writer.place(b, &at);
            writer.stages.forward(b, &place, cx.dims);
            let start = unit * each.clone();
            let from = bind(b, (lo - start.clone()).maximum(&Extent::ZERO));
            let to = bind(b, (hi - start).minimum(&each));
            b.loop_(from, to, 1, |b, panel| {
                writer.products(b, &place, &panel);
                result = writer.stages.back(b, &place, &panel);
            });
        });
        result?;
        Ok(leaf.finish(images * (blocks * panels).into()))
    }

    /// Blocks of tiles of an image, panels of output channels.
    fn units(&self, tiling: Tiling) -> (i64, i64) {
        let nr = self.nr(tiling);
        ((self.count() + tiling.tiles - 1) / tiling.tiles, (self.channels[1] + nr - 1) / nr)
    }

    /// Transforms weights and packs them to `[panel][element][channel][nr]`, columns filled up with zeros.
    fn pack(&self, nr: i64) -> PackedWeight {
        let count = |n: i64| usize::try_from(n).unwrap_or(0);
        let ([depth, columns], nr) = (self.channels.map(count), count(nr));
        let (elements, panels) = (count(self.n() * self.n()), columns.div_ceil(nr));
        let (op, weights) = (self.op.clone(), self.weights.clone());
        let data = Tensor::lazy(DType::F32, &[panels, elements, depth, nr], move || {
            // Refused before, where the window is another one.
            let all = op.transformed(&weights).unwrap_or_default();
            let mut bytes = vec![0u8; panels * elements * depth * nr * 4];
            for (row, values) in all.chunks_exact(columns).enumerate() {
                for (panel, part) in values.chunks(nr).enumerate() {
                    let to = (panel * elements * depth + row) * nr * 4;
                    let lanes = bytes[to..].chunks_exact_mut(4);
                    lanes.zip(part).for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
                }
            }
            bytes
        });
        PackedWeight { transform: format!("winograd{}_kn{nr}", self.op.tile), data }
    }
}

impl Writer<'_> {
    fn place(&self, b: &mut KernelBuilder, at: &[Extent]) -> Place {
        let (count, tiles) = (self.conv.count(), self.tiling.tiles);
        let [image, block] = [at[0].clone(), at[1].clone()];
        let first = bind(b, block.clone() * tiles.into());
        let rows = if count == tiles {
            count.into()
        } else {
            bind(b, (Extent::from(count) - first.clone()).minimum(&tiles.into()))
        };
        Place { image, block, first, rows }
    }

    /// The sums of a panel: a matrix product for each element of the transformed tiles.
    fn products(&self, b: &mut KernelBuilder, place: &Place, panel: &Extent) {
        let (conv, mr) = (self.conv, self.tiling.mr as i64);
        let (elements, depth, nr) = (conv.n() * conv.n(), conv.channels[0], conv.nr(self.tiling));
        let (blocks, _) = conv.units(self.tiling);
        let whole = bind(b, place.rows.floordiv(&mr.into()) * mr.into());
        let rest = usize::try_from(conv.count() % mr).unwrap_or(0);
        b.loop_(0, elements, 1, |b, element| {
            let right = (panel.clone() * elements.into() + element.clone()) * (depth * nr).into();
            b.loop_(0, whole.clone(), mr, |b, row| {
                self.register_block(b, self.tiling.mr, &element, &row, &right);
            });
            if rest == 0 {
                return;
            }
            if blocks == 1 {
                return self.register_block(b, rest, &element, &whole, &right);
            }
            // The last block alone is not whole.
            b.if_(Cond::Extent(place.block.clone(), Cmp::Eq, (blocks - 1).into()), |b| {
                self.register_block(b, rest, &element, &whole, &right);
            });
        });
    }

    fn register_block(&self, b: &mut KernelBuilder, rows: usize, element: &Extent, row: &Extent, right: &Extent) {
        let (conv, vecs, lanes) = (self.conv, self.tiling.vecs, self.conv.lanes);
        let (depth, nr) = (conv.channels[0], conv.nr(self.tiling));
        let blocks = (self.tiling.tiles + self.tiling.mr as i64 - 1) / self.tiling.mr as i64;
        let ahead = self.ahead.then(|| Ahead {
            distance: (depth * nr).into(),
            index: row.floordiv(&self.tiling.mr.into()),
            blocks,
            line: LINE_BYTES / 4,
        });
        let operands = Operands {
            elem: Elem::F32,
            a: &self.stages.tiles,
            b: &self.weights,
            row_stride: depth.into(),
            col_stride: Extent::ONE,
            form: Form::Plain,
            at_once: self.at_once,
            ahead,
        };
        let block = Block { rows, vecs, lanes, valid: lanes, exact: false };
        let sum = Sum::Run { lo: Extent::ZERO, hi: depth.into(), a: Extent::ONE, b: nr.into() };
        let zero: Value = b.zero(Type::vec(Elem::F32, lanes));
        let left = self.stages.tile_at(element, row);
        let sums = sum_block(b, &operands, block, &sum, (left, right.clone()), vec![zero; rows * vecs]);
        let at = self.stages.sum_at(element, row);
        for (index, value) in sums.into_iter().enumerate() {
            let (row, vec) = (index / vecs, index % vecs);
            let to = at.clone() + (row as i64 * nr + vec as i64 * i64::from(lanes)).into();
            b.store(self.stages.sums.param, to, value);
        }
    }
}
