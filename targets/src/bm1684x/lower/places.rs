//! Parts of tensors, operands that repeat, and moves between lanes.

use super::super::isa::{Ar, Dma, Prec};
use super::super::machine::{LANE_BYTES, LANES, MAX_EXTENT, UNIT_BYTES};
use super::super::view::{Dense, local_strides};
use super::build::{Draft, Home, Piece, Place};
use super::commands::{FREE, copy, elementwise};

/// Most of a stride of N and C in elementwise arithmetic.
const MAX_STRIDE: u64 = MAX_EXTENT as u64;

/// An operand of arithmetic.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The same value everywhere, as a bit pattern.
    Value(u32),
    /// A tensor of the shape of the result.
    Dense(Home),
    /// Elements by strides, 0 along what repeats.
    Strided(Place, [u32; 4]),
}

impl Source {
    /// A tensor of the shape of the result.
    pub fn dense(home: Home) -> Self {
        Source::Dense(home)
    }
}

/// Part of a tensor that is dense itself: rows of channels, or some elements of one.
#[derive(Clone, Copy, Debug)]
pub struct DensePart {
    /// Its shape; elements of a single row of channels are W.
    pub shape: [u32; 4],
    /// Position along N, channel, element of the plane.
    pub at: [u32; 3],
}

/// Parts of tensors of a shape with at most so many elements per lane each.
pub fn dense_parts([n, c, h, w]: [u32; 4], most: u32) -> Vec<DensePart> {
    let (plane, rows) = (h.saturating_mul(w), c.div_ceil(LANES));
    if plane > LANE_BYTES {
        // No such tensor has a place.
        return vec![DensePart { shape: [n, c, h, w], at: [0; 3] }];
    }
    let padded = plane.next_multiple_of(UNIT_BYTES);
    let steps = |extent: u32, step: u32| (0..extent).step_by(step as usize).map(move |at| (at, step.min(extent - at)));
    if u64::from(padded) * u64::from(rows) <= most.into() {
        let parts = steps(n, most / (padded * rows));
        return parts.map(|(at, count)| DensePart { shape: [count, c, h, w], at: [at, 0, 0] }).collect();
    }
    let (channels, elements) = match most / padded {
        0 => (LANES, (most / UNIT_BYTES).max(1) * UNIT_BYTES),
        rows => (rows * LANES, plane),
    };
    let part = |n: u32, (first, channels): (u32, u32), (start, count): (u32, u32)| {
        let shape = if count == plane { [1, channels, h, w] } else { [1, channels, 1, count] };
        DensePart { shape, at: [n, first, start] }
    };
    let rows = move |n: u32| steps(c, channels).map(move |row| (n, row));
    (0..n).flat_map(rows).flat_map(|(n, row)| steps(plane, elements).map(move |range| part(n, row, range))).collect()
}

/// A tensor whose axes of extent 1 in `own` repeat to a shape; along C, lanes have copies already.
pub fn spread(home: Home, own: [u32; 4], shape: [u32; 4]) -> Source {
    if own == shape {
        return Source::Dense(home);
    }
    Source::Strided(Place::Local(home.buffer, 0), steps(home, own))
}

/// Strides of a tensor, 0 along axes of extent 1 in `own`, and along C where there is one row of channels whose stride a
/// command has no room for.
fn steps(home: Home, own: [u32; 4]) -> [u32; 4] {
    let all = local_strides(Dense::Aligned, home.prec, 0, home.shape);
    std::array::from_fn(|axis| match own[axis] {
        1 => 0,
        2..=LANES if axis == 1 && all[1] > MAX_STRIDE => 0,
        _ => u32::try_from(all[axis]).unwrap_or(u32::MAX),
    })
}

/// Where a part of a tensor starts, and the distance of its elements along H and W.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First element.
    pub at: [u32; 4],
    /// Distances; 1 along N and C.
    pub steps: [u32; 4],
}

impl Default for Region {
    fn default() -> Self {
        Self { at: [0; 4], steps: [1; 4] }
    }
}

impl Draft {
    /// The place of an element.
    pub fn place_of(&self, home: Home, [n, c, h, w]: [u32; 4]) -> Place {
        let [ns, cs, hs, _] = local_strides(Dense::Aligned, home.prec, 0, home.shape);
        let elems = u64::from(n) * ns + u64::from(c / LANES) * cs + u64::from(h) * hs + u64::from(w);
        let bytes = elems * u64::from(home.prec.bytes()) + u64::from(c % LANES * LANE_BYTES);
        // What does not fit into 32 bits does not fit into memory, which the plan says.
        Place::Local(home.buffer, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// Makes steps from `start` on, which are about tensors of the shape of a part, be about that part of these ones.
    pub fn move_to(&mut self, start: usize, part: DensePart, wholes: &[Home]) {
        let [n, c, element] = part.at;
        for step in self.steps.get_mut(start..).unwrap_or_default() {
            for (_, place) in &mut step.places {
                let Place::Local(buffer, offset) = place else { continue };
                let Some(home) = wholes.iter().find(|home| home.buffer == *buffer) else { continue };
                let [ns, cs, ..] = local_strides(Dense::Aligned, home.prec, 0, home.shape);
                let elems = u64::from(n) * ns + u64::from(c / LANES) * cs + u64::from(element);
                *offset += u32::try_from(elems * u64::from(home.prec.bytes())).unwrap_or(u32::MAX);
            }
        }
    }

    /// `a op b` of the type of the result.
    pub fn arithmetic(&mut self, eu: u32, [a, b]: [Source; 2], result: Home) {
        let mut ar = elementwise(eu, result);
        let prec = result.prec.code();
        (ar.opd0_prec, ar.opd1_prec, ar.opd0_sign, ar.opd1_sign, ar.tsk_opd_num) = (prec, prec, 1, 1, 2);
        // Steps of the chip's division besides the first: the most there are.
        ar.opd2_n_str = if eu == 12 { 3 } else { 0 };
        let mut places = vec![("res0_addr", Place::Local(result.buffer, 0))];
        match a {
            Source::Value(bits) => (ar.opd0_const, ar.opd0_addr) = (1, bits),
            Source::Dense(home) => places.push(("opd0_addr", Place::Local(home.buffer, 0))),
            Source::Strided(place, strides) => {
                (ar.opd0_str, [ar.opd0_n_str, ar.opd0_c_str, ar.opd0_h_str, ar.opd0_w_str]) = (FREE, strides);
                places.push(("opd0_addr", place));
            }
        }
        match b {
            Source::Value(bits) => (ar.opd1_const, ar.opd1_addr) = (1, bits),
            Source::Dense(home) => places.push(("opd1_addr", Place::Local(home.buffer, 0))),
            Source::Strided(place, strides) => {
                (ar.opd1_str, [ar.opd1_n_str, ar.opd1_c_str, ar.opd1_h_str, ar.opd1_w_str]) = (FREE, strides);
                places.push(("opd1_addr", place));
            }
        }
        self.push(ar, places);
    }

    /// Copies an operand that repeats.
    pub fn repeat(&mut self, from: Source, result: Home) {
        let mut ar = copying(result);
        let mut places = vec![("res0_addr", Place::Local(result.buffer, 0))];
        match from {
            Source::Value(bits) => (ar.opd0_const, ar.opd0_addr) = (1, bits),
            Source::Dense(home) => places.push(("opd0_addr", Place::Local(home.buffer, 0))),
            Source::Strided(place, strides) => {
                (ar.opd0_str, [ar.opd0_n_str, ar.opd0_c_str, ar.opd0_h_str, ar.opd0_w_str]) = (FREE, strides);
                places.push(("opd0_addr", place));
            }
        }
        self.push(ar, places);
    }

    /// Rounds floats of 32 bits to whole numbers in place, by a rounding code.
    pub fn whole(&mut self, x: Home, code: u32) {
        let mut ar = elementwise(14, x);
        (ar.opd0_prec, ar.opd0_sign, ar.opd2_sign, ar.tsk_opd_num) = (x.prec.code(), 1, 1, 1);
        ar.opd2_n_str = code;
        self.push(ar, vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(x.buffer, 0))]);
    }

    /// `(a + value) · 2^shift` of integers, rounded by a code and saturated.
    pub fn add_and_shift(&mut self, a: Home, value: u32, shift: i8, code: u32, result: Home) {
        let mut ar = elementwise(15, result);
        (ar.opd0_prec, ar.opd1_prec, ar.opd0_sign, ar.opd1_sign) = (a.prec.code(), a.prec.code(), 1, 1);
        (ar.tsk_opd_num, ar.opd1_const, ar.opd1_addr) = (3, 1, value);
        (ar.opd2_const, ar.opd2_addr, ar.opd2_sign) = (1, u32::from(shift.cast_unsigned()), 1);
        ar.opd2_n_str = code;
        let places = [("opd0_addr", a), ("res0_addr", result)];
        self.push(ar, places.map(|(name, home)| (name, Place::Local(home.buffer, 0))).to_vec());
    }

    /// Converts a tensor into a part of another.
    pub fn convert_into(&mut self, from: Home, to: Home, at: [u32; 4]) {
        let mut ar = converting(from, Home { shape: from.shape, ..to });
        (ar.res0_str, [ar.res0_n_str, ar.res0_c_str, ar.res0_h_str, ar.res0_w_str]) = (FREE, inside(to, from.shape));
        let place = self.place_of(to, at);
        self.push(ar, vec![("opd0_addr", Place::Local(from.buffer, 0)), ("res0_addr", place)]);
    }

    /// Converts a part of a tensor into another.
    pub fn convert_from(&mut self, from: Home, to: Home, at: [u32; 4]) {
        let mut ar = converting(from, to);
        (ar.opd0_str, [ar.opd0_n_str, ar.opd0_c_str, ar.opd0_h_str, ar.opd0_w_str]) = (FREE, inside(from, to.shape));
        let place = self.place_of(from, at);
        self.push(ar, vec![("opd0_addr", place), ("res0_addr", Place::Local(to.buffer, 0))]);
    }

    /// Loads a constant tensor, contiguous in `bytes`.
    pub fn load_constant(&mut self, bytes: &[u8], prec: Prec, shape: [u32; 4]) -> Home {
        let source = self.constant(bytes);
        self.load_from(source, prec, shape)
    }

    /// The same from where it lies.
    pub fn load_from(&mut self, source: Place, prec: Prec, shape: [u32; 4]) -> Home {
        let home = self.tensor(prec, true, shape);
        self.push_early(copy(prec, shape, true), vec![("src", source), ("dst", Place::Local(home.buffer, 0))]);
        home
    }

    /// Loads a tensor whose elements are `step` apart in DDR memory.
    pub fn load_apart(&mut self, piece: Piece, prec: Prec, shape: [u32; 4], step: u32) -> Home {
        let [n, c, h, w] = shape;
        if c > 1 && h * w == 1 {
            let row = self.load_apart(piece, prec, [n, 1, 1, c], step);
            return self.turn(row);
        }
        let home = self.tensor(prec, true, shape);
        let mut dma = copy(prec, shape, true);
        for stride in [&mut dma.src_nstride, &mut dma.src_cstride, &mut dma.src_hstride, &mut dma.src_wstride] {
            *stride = stride.saturating_mul(step);
        }
        self.push(dma, vec![("src", Place::Ddr(piece, 0)), ("dst", Place::Local(home.buffer, 0))]);
        home
    }

    /// Stores integers of 32 bits as those of 64: each with its sign behind it.
    pub fn store_pairs(&mut self, home: Home, piece: Piece) {
        let [_, c, h, w] = home.shape;
        let home = if c > 1 && h * w == 1 { self.turn(home) } else { home };
        let [n, c, h, w] = home.shape;
        let signs = self.tensor(Prec::Int32, true, home.shape);
        for (operation, from, bound) in [(5, home, 0), (4, signs, u32::MAX)] {
            self.with_constant(operation, from, Prec::Int32, bound, signs);
        }
        let pairs = self.tensor(Prec::Int32, true, [n, c, h, 2 * w]);
        for (at, half) in [(0, home), (1, signs)] {
            let to = Region { at: [0, 0, 0, at], steps: [1, 1, 1, 2] };
            self.copy_region(half, Region::default(), pairs, to, home.shape);
        }
        self.store(pairs, piece);
    }

    /// Copies a part of a tensor to a part of another: inside of lanes by the compute unit, else by the copy engine.
    pub fn copy_region(&mut self, x: Home, from: Region, result: Home, to: Region, shape: [u32; 4]) {
        let [src, dst] = [(x, from), (result, to)].map(|(home, region)| {
            let all = local_strides(Dense::Aligned, home.prec, 0, home.shape);
            let lane = region.at[1] % LANES;
            let strides: [u64; 4] = std::array::from_fn(|axis| match shape[axis] {
                // A stride of W cannot be 0 for the copy engine.
                1 => u64::from(axis == 3),
                _ => all[axis] * u64::from(region.steps[axis]),
            });
            (self.place_of(home, region.at), strides, lane)
        });
        let small = |strides: [u64; 4]| strides[0] <= MAX_STRIDE && strides[1] <= MAX_STRIDE;
        let narrow = |strides: [u64; 4]| strides.map(|stride| u32::try_from(stride).unwrap_or(u32::MAX));
        // One row of channels has no distance to another, where a command has no room for it.
        let one_row = src.2.max(dst.2) + shape[1] <= LANES;
        let in_lanes = |[n, c, h, w]: [u64; 4]| [n, if one_row && c > MAX_STRIDE { 0 } else { c }, h, w];
        if src.2 == dst.2 && small(in_lanes(src.1)) && small(in_lanes(dst.1)) {
            let [src, dst] = [src, dst].map(|(place, strides, lane)| (place, in_lanes(strides), lane));
            let mut ar = copying(Home { shape, ..result });
            (ar.res0_str, [ar.res0_n_str, ar.res0_c_str, ar.res0_h_str, ar.res0_w_str]) = (FREE, narrow(dst.1));
            (ar.opd0_str, [ar.opd0_n_str, ar.opd0_c_str, ar.opd0_h_str, ar.opd0_w_str]) = (FREE, narrow(src.1));
            self.push(ar, vec![("opd0_addr", src.0), ("res0_addr", dst.0)]);
            return;
        }
        let mut dma: Dma = copy(x.prec, shape, false);
        [dma.src_nstride, dma.src_cstride, dma.src_hstride, dma.src_wstride] = narrow(src.1);
        [dma.dst_nstride, dma.dst_cstride, dma.dst_hstride, dma.dst_wstride] = narrow(dst.1);
        self.push(dma, vec![("src", src.0), ("dst", dst.0)]);
    }

    /// Elements along H or W, by index: as few copies as there are progressions among every so many of them.
    pub fn taken(&mut self, x: Home, axis: usize, indices: &[u32]) -> Home {
        let mut shape = x.shape;
        shape[axis] = u32::try_from(indices.len()).unwrap_or(u32::MAX);
        let result = self.tensor(x.prec, x.signed, shape);
        let every = |from: usize, period: usize| indices.iter().skip(from).step_by(period).copied().collect::<Vec<_>>();
        let even = |all: Vec<u32>| {
            let step = |pair: &[u32]| pair[1].checked_sub(pair[0]);
            let first = all.get(..2).map_or(Some(1), step);
            first.filter(|_| all.windows(2).all(|pair| step(pair) == first))
        };
        let fits = |period: &usize| (0..*period).all(|from| even(every(from, *period)).is_some());
        let period = (1..=indices.len()).find(fits).unwrap_or(1);
        for from in 0..period.min(indices.len()) {
            let own = every(from, period);
            let [mut source, mut target] = [Region::default(); 2];
            (source.at[axis], source.steps[axis]) = (own[0], even(own.clone()).unwrap_or(1));
            (target.at[axis], target.steps[axis]) = (from as u32, period as u32);
            shape[axis] = own.len() as u32;
            self.copy_region(x, source, result, target, shape);
        }
        result
    }

    /// Exchanges two axes: N and C, C and W, or H and W.
    pub fn exchange(&mut self, x: Home, swap: (usize, usize)) -> Home {
        let mut shape = x.shape;
        shape.swap(swap.0, swap.1);
        if swap == (1, 3) {
            return self.turn(x);
        }
        let result = self.tensor(x.prec, x.signed, shape);
        let places = [x, result].map(|home| Place::Local(home.buffer, 0));
        if swap == (0, 1) {
            let (src, dst) = (copy(x.prec, x.shape, false), copy(x.prec, shape, true));
            let dma = Dma {
                nchw_copy: 0,
                cmd_special_function: 1,
                dst_nstride: dst.dst_nstride,
                dst_cstride: dst.dst_cstride,
                dst_hstride: dst.dst_hstride,
                dst_wstride: dst.dst_wstride,
                dst_nsize: shape[0],
                dst_csize: shape[1],
                dst_hsize: shape[2],
                dst_wsize: shape[3],
                ..src
            };
            self.push(dma, vec![("src", places[0]), ("dst", places[1])]);
            return result;
        }
        let mut ar = copying(result);
        let [n, c, h, w] = steps(x, x.shape);
        (ar.opd0_str, [ar.opd0_n_str, ar.opd0_c_str, ar.opd0_h_str, ar.opd0_w_str]) = (FREE, [n, c, w, h]);
        self.push(ar, vec![("opd0_addr", places[0]), ("res0_addr", places[1])]);
        result
    }
}

/// A copy inside of lanes.
fn copying(result: Home) -> Ar {
    let mut ar = elementwise(19, result);
    (ar.opd0_prec, ar.opd0_sign, ar.tsk_opd_num) = (result.prec.code(), result.signed.into(), 1);
    ar
}

/// A conversion between floats: a copy where both have one type, since the command rounds to whole numbers then.
fn converting(from: Home, result: Home) -> Ar {
    if from.prec == result.prec {
        return copying(result);
    }
    let mut ar = elementwise(14, result);
    (ar.opd0_prec, ar.opd0_sign, ar.opd2_sign, ar.tsk_opd_num) = (from.prec.code(), 1, 1, 1);
    ar
}

/// Strides of a part of a tensor, 0 along axes that the part has one element of.
fn inside(home: Home, part: [u32; 4]) -> [u32; 4] {
    let [n, c, h, w] = steps(home, part);
    [n, c, h, w.max(1)]
}
