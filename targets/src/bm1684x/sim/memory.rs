//! The simulated memories, read and written through views.

use half::{bf16, f16};

use crate::bm1684x::isa::Prec;
use crate::bm1684x::machine::{L2_BYTES, LANE_BYTES, LANES};
use crate::bm1684x::view::{Fault, Space, View};

/// Contents of the memories.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Local memory, lane by lane.
    pub local: Vec<u8>,
    /// L2 memory.
    pub l2: Vec<u8>,
    /// DDR memory, as much of it as there is.
    pub ddr: Vec<u8>,
}

/// Most elements of an operand: bounds what a stream can make the simulator do.
const MAX_ELEMS: usize = 1 << 28;

impl Memory {
    /// Memories filled with a byte, with so much DDR.
    pub fn new(ddr_bytes: usize, fill: u8) -> Self {
        let local = vec![fill; (LANES * LANE_BYTES) as usize];
        Self { local, l2: vec![fill; L2_BYTES as usize], ddr: vec![fill; ddr_bytes] }
    }

    /// The bytes of a memory.
    pub fn bytes(&self, space: Space) -> &[u8] {
        match space {
            Space::Local => &self.local,
            Space::L2 => &self.l2,
            Space::Ddr => &self.ddr,
        }
    }

    fn bytes_mut(&mut self, space: Space) -> &mut [u8] {
        match space {
            Space::Local => &mut self.local,
            Space::L2 => &mut self.l2,
            Space::Ddr => &mut self.ddr,
        }
    }

    /// Fails unless a view lies in its memory and is of a size that can be simulated.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn check(&self, operand: &'static str, view: &View) -> Result<(), Fault> {
        let (_, end) = view.span();
        let limit = if view.space == Space::Local { LANE_BYTES.into() } else { self.bytes(view.space).len() as u64 };
        if end > limit {
            return Err(Fault::Range { operand, space: view.space, end, limit });
        }
        if view.elems() > MAX_ELEMS {
            return Err(Fault::Unsupported("operands of more than 2^28 elements"));
        }
        Ok(())
    }

    /// Position of every element in its memory, in row-major order of the shape.
    fn positions(view: &View) -> impl Iterator<Item = usize> {
        let [n, c, h, w] = view.shape;
        let step = view.strides[3] as usize * view.prec.bytes() as usize;
        let lane_bytes = if view.space == Space::Local { LANE_BYTES as usize } else { 0 };
        let lines = (0..n).flat_map(move |n| (0..c).flat_map(move |c| (0..h).map(move |h| [n, c, h, 0])));
        lines.flat_map(move |at| {
            let (lane, byte) = view.place(at);
            let first = lane as usize * lane_bytes + byte as usize;
            (0..w as usize).map(move |w| first + w * step)
        })
    }

    /// The bit patterns of a checked view.
    pub fn load_bits(&self, view: &View) -> Vec<u32> {
        let bytes = self.bytes(view.space);
        let width = view.prec.bytes() as usize;
        let read = |at: usize| (0..width).rev().fold(0, |bits, i| bits << 8 | u32::from(bytes[at + i]));
        Self::positions(view).map(read).collect()
    }

    /// The integers of a checked view.
    pub fn load_ints(&self, view: &View) -> Vec<i64> {
        self.load_bits(view).into_iter().map(|bits| to_int(bits, view.prec, view.signed)).collect()
    }

    /// The floats of a checked view.
    pub fn load_floats(&self, view: &View) -> Vec<f32> {
        self.load_bits(view).into_iter().map(|bits| to_float(bits, view.prec)).collect()
    }

    /// Writes floats, rounded to the type, to a checked view.
    pub fn store_floats(&mut self, view: &View, values: impl IntoIterator<Item = f32>) {
        self.store_bits(view, values.into_iter().map(|v| from_float(v, view.prec)));
    }

    /// Writes bit patterns, the low bits of each, to a checked view.
    pub fn store_bits(&mut self, view: &View, values: impl IntoIterator<Item = u32>) {
        let width = view.prec.bytes() as usize;
        let bytes = self.bytes_mut(view.space);
        for (at, value) in Self::positions(view).zip(values) {
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }

    /// Writes integers, wrapped to the width, to a checked view.
    pub fn store_ints(&mut self, view: &View, values: impl IntoIterator<Item = i64>) {
        self.store_bits(view, values.into_iter().map(|v| v as u32));
    }
}

/// The integer that a bit pattern stands for.
pub fn to_int(bits: u32, prec: Prec, signed: bool) -> i64 {
    match (prec.bytes(), signed) {
        (1, true) => i64::from(bits as u8 as i8),
        (1, false) => i64::from(bits as u8),
        (2, true) => i64::from(bits as u16 as i16),
        (2, false) => i64::from(bits as u16),
        (_, true) => i64::from(bits as i32),
        (_, false) => i64::from(bits),
    }
}

/// The float that a bit pattern stands for; integers are none.
pub fn to_float(bits: u32, prec: Prec) -> f32 {
    match prec {
        Prec::Fp16 => f16::from_bits(bits as u16).to_f32(),
        Prec::Bf16 => bf16::from_bits(bits as u16).to_f32(),
        _ => f32::from_bits(bits),
    }
}

/// The bit pattern of the nearest float of a type, ties to even.
pub fn from_float(value: f32, prec: Prec) -> u32 {
    match prec {
        Prec::Fp16 => f16::from_f32(value).to_bits().into(),
        Prec::Bf16 => bf16::from_f32(value).to_bits().into(),
        _ => value.to_bits(),
    }
}

/// The nearest float of a type.
pub fn rounded(value: f32, prec: Prec) -> f32 {
    if prec == Prec::Fp32 { value } else { to_float(from_float(value, prec), prec) }
}

/// The nearest integer that a type holds.
pub fn saturate(value: i128, prec: Prec, signed: bool) -> i64 {
    let bits = prec.bytes() * 8;
    let (lo, hi) = if signed { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
    value.clamp(lo, hi) as i64
}
