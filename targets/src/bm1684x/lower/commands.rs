//! Commands that several operators want: copies in and out, constants, requantization, arithmetic with one operand repeated.

use super::super::isa::{Ar, Dma, DmaTranspose, Prec, Requant, Trans};
use super::super::machine::{LANE_BYTES, LANES, MAX_EXTENT};
use super::super::view::{Dense, contiguous, local_strides};
use super::build::{BufferId, Draft, Home, Image, Piece, Place};
use super::requant::{FloatScale, IntScale, Way};

/// Layout code of free strides.
pub(super) const FREE: u32 = 3;

/// Whether a tensor has one element per channel of several.
fn is_column([_, c, h, w]: [u32; 4]) -> bool {
    c > 1 && h * w == 1
}

fn strides(values: [u64; 4]) -> [u32; 4] {
    values.map(|stride| u32::try_from(stride).unwrap_or(u32::MAX))
}

/// A copy between contiguous DDR memory and the aligned layout of local memory.
pub(super) fn copy(prec: Prec, shape: [u32; 4], to_local: bool) -> Dma {
    let (ddr, local) = (strides(contiguous(shape)), strides(local_strides(Dense::Aligned, prec, 0, shape)));
    let (src, dst) = if to_local { (ddr, local) } else { (local, ddr) };
    Dma {
        stride_enable: 1,
        nchw_copy: 1,
        src_data_format: prec.code(),
        src_nstride: src[0],
        src_cstride: src[1],
        src_hstride: src[2],
        src_wstride: src[3],
        dst_nstride: dst[0],
        dst_cstride: dst[1],
        dst_hstride: dst[2],
        dst_wstride: dst[3],
        src_nsize: shape[0],
        src_csize: shape[1],
        src_hsize: shape[2],
        src_wsize: shape[3],
        localmem_mask_lo: u32::MAX,
        localmem_mask_hi: u32::MAX,
        ..Dma::default()
    }
}

/// The load of an [`Image`] of so many lanes and bytes per lane.
pub fn image_load(lanes: u32, bytes: u32) -> Dma {
    // One run per lane; what is too long for a row becomes several rows of equal length.
    let rows = (1..=bytes).find(|&rows| bytes.is_multiple_of(rows) && bytes / rows <= MAX_EXTENT).unwrap_or(1);
    let width = bytes / rows;
    Dma {
        stride_enable: 1,
        nchw_copy: 1,
        src_data_format: Prec::Int8.code(),
        src_nstride: bytes * lanes,
        src_cstride: bytes,
        src_hstride: width,
        src_wstride: 1,
        dst_nstride: bytes,
        dst_cstride: bytes,
        dst_hstride: width,
        dst_wstride: 1,
        src_nsize: 1,
        src_csize: lanes,
        src_hsize: rows,
        src_wsize: width,
        localmem_mask_lo: u32::MAX,
        localmem_mask_hi: u32::MAX,
        ..Dma::default()
    }
}

/// A contiguous tensor in DDR memory.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Where.
    pub piece: Piece,
    /// N, C, H, W.
    pub shape: [u32; 4],
    /// Element type.
    pub prec: Prec,
    /// Whether integers are signed.
    pub signed: bool,
}

impl Stored {
    /// A position along N and H.
    fn place(&self, [n, h]: [u32; 2]) -> Place {
        let [ns, _, hs, _] = contiguous(self.shape);
        Place::Ddr(self.piece, (u64::from(n) * ns + u64::from(h) * hs) * u64::from(self.prec.bytes()))
    }
}

impl Draft {
    /// Loads a tensor from DDR memory.
    pub fn load(&mut self, piece: Piece, prec: Prec, signed: bool, shape: [u32; 4]) -> Home {
        if is_column(shape) {
            // A byte per lane would be a copy per byte.
            let row = self.load(piece, prec, signed, [shape[0], 1, 1, shape[1]]);
            return self.turn(row);
        }
        let home = self.tensor(prec, signed, shape);
        let places = vec![("src", Place::Ddr(piece, 0)), ("dst", Place::Local(home.buffer, 0))];
        self.push(copy(prec, shape, true), places);
        home
    }

    /// Loads part of a tensor in DDR memory, from some position along N and H on.
    pub fn load_part(&mut self, from: Stored, at: [u32; 2], shape: [u32; 4]) -> Home {
        if is_column(shape) && is_column(from.shape) {
            let whole = Stored { shape: [from.shape[0], 1, 1, from.shape[1]], ..from };
            let row = self.load_part(whole, at, [shape[0], 1, 1, shape[1]]);
            return self.turn(row);
        }
        let home = self.tensor(from.prec, from.signed, shape);
        let [n, c, h, w] = strides(contiguous(from.shape));
        let dma =
            Dma { src_nstride: n, src_cstride: c, src_hstride: h, src_wstride: w, ..copy(from.prec, shape, true) };
        self.push_early(dma, vec![("src", from.place(at)), ("dst", Place::Local(home.buffer, 0))]);
        home
    }

    /// Stores a tensor as part of one in DDR memory.
    pub fn store_part(&mut self, home: Home, to: Stored, at: [u32; 2]) {
        if is_column(home.shape) && is_column(to.shape) {
            let row = self.turn(home);
            let whole = Stored { shape: [to.shape[0], 1, 1, to.shape[1]], ..to };
            return self.store_part(row, whole, at);
        }
        let [n, c, h, w] = strides(contiguous(to.shape));
        let base = copy(home.prec, home.shape, false);
        let dma = Dma { dst_nstride: n, dst_cstride: c, dst_hstride: h, dst_wstride: w, ..base };
        self.push(dma, vec![("src", Place::Local(home.buffer, 0)), ("dst", to.place(at))]);
    }

    /// Stores a tensor whose channels have their rows over so many lanes as part of one in DDR memory of its type.
    pub fn store_over_lanes(&mut self, home: Home, lanes: u32, to: Stored, [n, h]: [u32; 2]) {
        let [batch, channels, rows, width] = home.shape;
        let [_, c_stride, h_stride, _] = strides(contiguous(to.shape));
        for own in 0..batch {
            let dma = Dma {
                nchw_copy: 0,
                dst_nstride: c_stride,
                dst_cstride: rows * h_stride,
                dst_hstride: h_stride,
                dst_wstride: 1,
                dst_nsize: channels / lanes,
                dst_csize: lanes,
                dst_hsize: rows,
                dst_wsize: width,
                ..copy(home.prec, [1, channels, rows, width], false)
            };
            let from = self.place_of(home, [own, 0, 0, 0]);
            self.push(dma, vec![("src", from), ("dst", to.place([n + own, h]))]);
        }
    }

    /// Exchanges C and W of a tensor of height 1.
    pub fn turn(&mut self, home: Home) -> Home {
        let [n, c, h, w] = home.shape;
        let result = self.tensor(home.prec, home.signed, [n, w, h, c]);
        let trans = Trans {
            eu: 1,
            res0_prec: home.prec.code(),
            res0_n: n,
            res0_c: w,
            res0_h: h,
            res0_w: c,
            opd0_c: c,
            opd0_w: w,
            ..Trans::default()
        };
        let places = vec![("opd0_addr", Place::Local(home.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))];
        self.push(trans, places);
        result
    }

    /// Copies each channel of a tensor to `count` lanes one after the other.
    pub fn spread(&mut self, home: Home, count: u32) -> Home {
        let [n, c, h, w] = home.shape;
        let result = self.tensor(home.prec, home.signed, [n, c * count, h, w]);
        for channel in 0..c {
            let trans = Trans {
                eu: 3,
                res0_prec: home.prec.code(),
                res0_n: n,
                res0_c: count,
                res0_h: h,
                res0_w: w,
                opd0_c: 1,
                opd0_w: w,
                ..Trans::default()
            };
            let [from, to] = [channel, channel * count].map(|lane| lane * LANE_BYTES);
            let places =
                vec![("opd0_addr", Place::Local(home.buffer, from)), ("res0_addr", Place::Local(result.buffer, to))];
            self.push(trans, places);
        }
        result
    }

    /// Loads a tensor that lies in DDR memory as `(n, h, w, c)`.
    pub fn load_channels_last(&mut self, piece: Piece, prec: Prec, signed: bool, shape: [u32; 4]) -> Home {
        let [n, c, h, w] = shape;
        let home = self.tensor(prec, signed, shape);
        // C and W are exchanged with all of the plane as C; a plane of the result is contiguous.
        let dma = DmaTranspose {
            nchw_copy: 1,
            src_data_format: prec.code(),
            src_nsize: n,
            src_csize: h * w,
            src_hsize: 1,
            src_wsize: c,
            localmem_mask_lo: u32::MAX,
            localmem_mask_hi: u32::MAX,
            ..DmaTranspose::default()
        };
        self.push(dma, vec![("src", Place::Ddr(piece, 0)), ("dst", Place::Local(home.buffer, 0))]);
        home
    }

    /// Stores a tensor to DDR memory.
    pub fn store(&mut self, home: Home, piece: Piece) {
        let home = if is_column(home.shape) { self.turn(home) } else { home };
        let places = vec![("src", Place::Local(home.buffer, 0)), ("dst", Place::Ddr(piece, 0))];
        self.push(copy(home.prec, home.shape, false), places);
    }

    /// The same elements in row-major order under another shape, copied where they lie otherwise.
    pub fn reshape(&mut self, home: Home, shape: [u32; 4]) -> Home {
        let [a, b] = [home.shape, shape];
        if a[0] == b[0] && a[1] == b[1] && a[2] * a[3] == b[2] * b[3] {
            return Home { shape, ..home };
        }
        if a[2] == 1 && b == [a[0], a[3], 1, a[1]] && (a[1] == 1 || a[3] == 1) {
            return self.turn(home);
        }
        let result = self.tensor(home.prec, home.signed, shape);
        let (src, dst) = (copy(home.prec, a, false), copy(home.prec, b, true));
        let dma = Dma {
            nchw_copy: 0,
            dst_nstride: dst.dst_nstride,
            dst_cstride: dst.dst_cstride,
            dst_hstride: dst.dst_hstride,
            dst_wstride: dst.dst_wstride,
            dst_nsize: b[0],
            dst_csize: b[1],
            dst_hsize: b[2],
            dst_wsize: b[3],
            ..src
        };
        self.push(dma, vec![("src", Place::Local(home.buffer, 0)), ("dst", Place::Local(result.buffer, 0))]);
        result
    }

    /// Loads the constants of a layer; gives their buffer.
    pub fn constants(&mut self, image: &Image) -> BufferId {
        let source = self.constant(&image.concat());
        self.image(source, image.lanes(), image.bytes() as u32)
    }

    /// Loads an image from where it lies, so many bytes for each of so many lanes; gives its buffer.
    pub fn image(&mut self, source: Place, lanes: u32, total: u32) -> BufferId {
        if let Some(buffer) = self.kept(source) {
            return buffer;
        }
        let buffer = self.buffer(total.into());
        self.keep(source, buffer);
        let dma = image_load(lanes, total);
        self.push_early(dma, vec![("src", source), ("dst", Place::Local(buffer, 0))]);
        buffer
    }

    /// Loads a table of which every lane gets a copy.
    pub fn table(&mut self, prec: Prec, bytes: &[u8]) -> BufferId {
        let width = bytes.len() as u32 / prec.bytes();
        let source = self.constant(bytes);
        if let Some(buffer) = self.kept(source) {
            return buffer;
        }
        let buffer = self.buffer((bytes.len() as u64).next_multiple_of(64));
        self.keep(source, buffer);
        let dma = Dma {
            cmd_special_function: 3,
            src_data_format: prec.code(),
            src_nsize: 1,
            src_csize: 1,
            src_hsize: 1,
            src_wsize: width,
            dst_nsize: 1,
            dst_csize: LANES,
            dst_hsize: 1,
            dst_wsize: width,
            localmem_mask_lo: u32::MAX,
            localmem_mask_hi: u32::MAX,
            ..Dma::default()
        };
        self.push_early(dma, vec![("src", source), ("dst", Place::Local(buffer, 0))]);
        buffer
    }

    /// `a op b` with both of one shape; the result may be one of them.
    pub fn binary(&mut self, eu: u32, a: Home, b: Home, result: Home) {
        let mut ar = elementwise(eu, result);
        (ar.opd0_prec, ar.opd0_sign) = (a.prec.code(), a.signed.into());
        (ar.opd1_prec, ar.opd1_sign, ar.tsk_opd_num) = (b.prec.code(), b.signed.into(), 2);
        let places = [("opd0_addr", a), ("opd1_addr", b), ("res0_addr", result)];
        self.push(ar, places.map(|(name, home)| (name, Place::Local(home.buffer, 0))).to_vec());
    }

    /// `a op value` with a constant of the given type.
    pub fn with_constant(&mut self, eu: u32, a: Home, prec: Prec, bits: u32, result: Home) {
        let mut ar = elementwise(eu, result);
        (ar.opd0_prec, ar.opd0_sign) = (a.prec.code(), a.signed.into());
        (ar.opd1_prec, ar.opd1_sign, ar.tsk_opd_num) = (prec.code(), a.signed.into(), 2);
        (ar.opd1_const, ar.opd1_addr) = (1, bits);
        let places = [("opd0_addr", a), ("res0_addr", result)];
        self.push(ar, places.map(|(name, home)| (name, Place::Local(home.buffer, 0))).to_vec());
    }

    /// Converts a tensor to another type, with ties to even and saturation.
    pub fn convert(&mut self, a: Home, result: Home) {
        let mut ar = elementwise(14, result);
        (ar.opd0_prec, ar.opd0_sign, ar.tsk_opd_num) = (a.prec.code(), a.signed.into(), 1);
        ar.opd2_sign = result.signed.into();
        let places = [("opd0_addr", a), ("res0_addr", result)];
        self.push(ar, places.map(|(name, home)| (name, Place::Local(home.buffer, 0))).to_vec());
    }

    /// `a op b` where `b` has one value per channel, compact.
    pub fn with_channels(&mut self, eu: u32, a: Home, b: Place, prec: Prec, result: Home) {
        let mut ar = elementwise(eu, result);
        (ar.opd0_prec, ar.opd0_sign) = (a.prec.code(), a.signed.into());
        (ar.opd1_prec, ar.opd1_sign, ar.tsk_opd_num) = (prec.code(), 1, 2);
        (ar.opd1_str, ar.opd1_c_str) = (FREE, 1);
        let [a, result] = [a, result].map(|home| Place::Local(home.buffer, 0));
        self.push(ar, vec![("opd0_addr", a), ("opd1_addr", b), ("res0_addr", result)]);
    }

    /// `row op value` along W of one row of channels, where the second operand has width 1.
    pub fn with_first(&mut self, eu: u32, a: Home, b: Home, swap: bool, result: Home) {
        let mut ar = elementwise(eu, result);
        let pitch = 64 / b.prec.bytes();
        (ar.tsk_opd_num, ar.opd0_prec, ar.opd1_prec) = (2, a.prec.code(), b.prec.code());
        (ar.opd0_sign, ar.opd1_sign) = (a.signed.into(), b.signed.into());
        let mut places = vec![("res0_addr", Place::Local(result.buffer, 0))];
        let [a, b] = [a, b].map(|home| Place::Local(home.buffer, 0));
        if swap {
            (ar.opd0_str, ar.opd0_n_str, ar.opd0_c_str) = (FREE, pitch, pitch);
            places.extend([("opd0_addr", b), ("opd1_addr", a)]);
        } else {
            (ar.opd1_str, ar.opd1_n_str, ar.opd1_c_str) = (FREE, pitch, pitch);
            places.extend([("opd0_addr", a), ("opd1_addr", b)]);
        }
        self.push(ar, places);
    }

    /// Writes one value everywhere.
    pub fn fill(&mut self, result: Home, bits: u32) {
        let mut ar = elementwise(19, result);
        (ar.opd0_prec, ar.opd0_const, ar.opd0_addr, ar.tsk_opd_num) = (result.prec.code(), 1, bits, 1);
        ar.opd0_sign = result.signed.into();
        self.push(ar, vec![("res0_addr", Place::Local(result.buffer, 0))]);
    }

    /// Adds up a row of `home` (one channel row, height 1) in halves, in place: element 0 is the sum.
    pub fn sum_row(&mut self, home: Home) {
        let mut left = home.shape[3];
        let pitch = local_strides(Dense::Aligned, home.prec, 0, home.shape)[1] as u32;
        while left > 1 {
            let half = left / 2;
            let mut ar = elementwise(2, Home { shape: [home.shape[0], home.shape[1], 1, half], ..home });
            (ar.tsk_opd_num, ar.opd0_prec, ar.opd1_prec) = (2, home.prec.code(), home.prec.code());
            (ar.opd0_sign, ar.opd1_sign) = (home.signed.into(), home.signed.into());
            (ar.res0_str, ar.opd0_str, ar.opd1_str) = (FREE, FREE, FREE);
            (ar.res0_n_str, ar.opd0_n_str, ar.opd1_n_str) = (pitch, pitch, pitch);
            (ar.res0_c_str, ar.opd0_c_str, ar.opd1_c_str) = (pitch, pitch, pitch);
            (ar.res0_h_str, ar.opd0_h_str, ar.opd1_h_str) = (half, half, half);
            (ar.res0_w_str, ar.opd0_w_str, ar.opd1_w_str) = (1, 1, 1);
            let tail = Place::Local(home.buffer, (left - half) * home.prec.bytes());
            let head = Place::Local(home.buffer, 0);
            self.push(ar, vec![("opd0_addr", head), ("opd1_addr", tail), ("res0_addr", head)]);
            left -= half;
        }
    }

    /// Requantizes sums in the chosen way. The scales' table and the bias lie in `constants` at the given offsets.
    pub fn requantize(&mut self, sums: Home, way: &Way, constants: Constants, zero: i64, result: Home) {
        let mut sums = sums;
        if let Some(bias) = constants.bias.filter(|_| way.adds_bias()) {
            let biased = self.tensor(Prec::Int32, true, sums.shape);
            self.with_channels(2, sums, bias, Prec::Int32, biased);
            sums = biased;
        }
        let table = constants.table;
        match way {
            Way::Folded(_) | Way::Biased(_) => self.rq(0, sums, table, result),
            Way::Integer(_) => self.rq(1, sums, table, result),
            Way::Wide(_) if zero == 0 => self.rq(0, sums, table, result),
            Way::Wide(_) => {
                let wide = self.tensor(Prec::Int16, true, sums.shape);
                self.rq(0, sums, table, wide);
                self.add_zero(wide, zero, result);
            }
        }
    }

    /// `sat(x + zero)` from 16 bits to 8: an integer requantization by 1.
    pub fn add_zero(&mut self, wide: Home, zero: i64, result: Home) {
        let mut rq = requant(1, wide, result);
        (rq.opd1_const, rq.opd1_addr) = (1, 1);
        rq.opd2_addr = u32::from(zero as u16) << 16;
        let places = [("opd0_addr", wide), ("res0_addr", result)];
        self.push(rq, places.map(|(name, home)| (name, Place::Local(home.buffer, 0))).to_vec());
    }

    /// A requantization by a table or by constants in the command.
    fn rq(&mut self, eu: u32, from: Home, table: Scales, to: Home) {
        let mut rq = requant(eu, from, to);
        let mut places = vec![("opd0_addr", Place::Local(from.buffer, 0)), ("res0_addr", Place::Local(to.buffer, 0))];
        match table {
            Scales::Table(place) => places.push(("opd1_addr", place)),
            Scales::Words([first, second]) => (rq.opd1_const, rq.opd1_addr, rq.opd2_addr) = (1, first, second),
        }
        // The integer form rounds ties up; the float one to even, twice.
        rq.opd2_n_str = if eu == 1 { 5 } else { 0 };
        self.push(rq, places);
    }
}

/// Where the numbers of a requantization are.
#[derive(Clone, Copy, Debug)]
pub enum Scales {
    /// One row per channel.
    Table(Place),
    /// The same for all channels, in the command.
    Words([u32; 2]),
}

/// Where the constants of a requantization are.
#[derive(Clone, Copy, Debug)]
pub struct Constants {
    /// Scales.
    pub table: Scales,
    /// Bias per channel, compact; `None` where it is zero or in the sums already.
    pub bias: Option<Place>,
}

/// The words of a way's table, a row per channel.
pub fn table_rows(way: &Way) -> Vec<Vec<u8>> {
    let float = |by: &FloatScale| [by.scale.to_bits(), by.offset.to_bits()].map(u32::to_le_bytes).concat();
    let int = |by: &IntScale| {
        let words = [by.multiplier, by.shift.into(), by.zero.into()];
        words.map(i32::to_le_bytes).concat()
    };
    match way {
        Way::Folded(by) | Way::Biased(by) => by.iter().map(float).collect(),
        Way::Integer(by) => by.iter().map(int).collect(),
        Way::Wide(by) => by.iter().map(|&scale| float(&FloatScale { scale, offset: 0.0 })).collect(),
    }
}

/// The words of a way that is the same for all channels.
pub fn command_words(way: &Way) -> [u32; 2] {
    match way {
        Way::Folded(by) | Way::Biased(by) => by.first().map_or([0, 0], |by| [by.scale.to_bits(), by.offset.to_bits()]),
        Way::Integer(by) => by.first().map_or([0, 0], |by| {
            let low = u32::from(by.shift as u8);
            [by.multiplier as u32, low | u32::from(by.zero as u16) << 16]
        }),
        Way::Wide(by) => by.first().map_or([0, 0], |scale| [scale.to_bits(), 0]),
    }
}

pub(super) fn elementwise(eu: u32, result: Home) -> Ar {
    let [n, c, h, w] = result.shape;
    Ar { eu, res0_prec: result.prec.code(), res0_n: n, res0_c: c, res0_h: h, res0_w: w, ..Ar::default() }
}

fn requant(eu: u32, from: Home, to: Home) -> Requant {
    let [n, c, h, w] = to.shape;
    Requant {
        eu,
        opd0_sign: from.signed.into(),
        opd2_sign: to.signed.into(),
        res0_prec: to.prec.code(),
        opd0_prec: from.prec.code(),
        res0_n: n,
        res0_c: c,
        res0_h: h,
        res0_w: w,
        ..Requant::default()
    }
}
