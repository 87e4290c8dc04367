//! Tensors in the machine's memories: what a command's operand refers to.
//!
//! Simulator and dependency checker both look at commands through these, so that what is checked is what is done.

use super::isa::Prec;
use super::machine::{DDR_BASE, L2_BASE, L2_BYTES, LANE_BYTES, LANES, LOCAL_BASE, UNIT_BYTES};

/// A memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Local memory; offsets are those inside of a lane.
    Local,
    /// L2 memory.
    L2,
    /// DDR memory.
    Ddr,
}

/// A command that the machine would not run, or that the simulator cannot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A rule of the machine is broken.
    #[error("{operand}: {rule}")]
    Rule {
        /// The operand or field.
        operand: &'static str,
        /// What has to hold.
        rule: &'static str,
    },
    /// An operand leaves its memory.
    #[error("{operand}: ends at byte {end} of {space:?} memory, accepted: {limit}")]
    Range {
        /// The operand.
        operand: &'static str,
        /// The memory.
        space: Space,
        /// Where it ends.
        end: u64,
        /// Where it may end.
        limit: u64,
    },
    /// Valid for the machine, but not part of what adze emits and simulates.
    #[error("not simulated: {0}")]
    Unsupported(&'static str),
}

/// Fails with a rule unless it holds.
///
/// # Errors
/// [`Fault::Rule`].
pub fn rule(holds: bool, operand: &'static str, rule: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Rule { operand, rule }) }
}

/// A tensor of rank 4 in a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The memory.
    pub space: Space,
    /// First byte; in local memory inside of its lane.
    pub base: u64,
    /// Lane of channel 0; 0 outside of local memory.
    pub lane: u32,
    /// Element type.
    pub prec: Prec,
    /// Whether integers are signed.
    pub signed: bool,
    /// N, C, H, W.
    pub shape: [u32; 4],
    /// Strides in elements; in local memory that of C is between rows of channels.
    pub strides: [u64; 4],
}

/// Strides of the two dense layouts of local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dense {
    /// Every channel starts on [`UNIT_BYTES`].
    Aligned,
    /// Channels follow one another.
    Compact,
}

/// Rows of channels that a lane holds.
pub fn channel_rows(lane: u32, channels: u32) -> u32 {
    (lane + channels).div_ceil(LANES)
}

/// Strides of a dense tensor in local memory.
pub fn local_strides(layout: Dense, prec: Prec, lane: u32, shape: [u32; 4]) -> [u64; 4] {
    let [_, c, h, w] = shape.map(u64::from);
    let unit = match layout {
        Dense::Aligned => u64::from(UNIT_BYTES / prec.bytes()),
        Dense::Compact => 1,
    };
    let plane = (h * w).next_multiple_of(unit);
    let rows = (u64::from(lane) + c).div_ceil(u64::from(LANES));
    [rows * plane, plane, w, 1]
}

/// Strides of a contiguous tensor.
pub fn contiguous(shape: [u32; 4]) -> [u64; 4] {
    let [_, c, h, w] = shape.map(u64::from);
    [c * h * w, h * w, w, 1]
}

impl View {
    /// A tensor in local memory at an address as commands of the compute unit have it.
    ///
    /// # Errors
    /// [`Fault::Range`] for an address beyond local memory.
    pub fn local(
        operand: &'static str,
        address: u32,
        prec: Prec,
        signed: bool,
        shape: [u32; 4],
        strides: impl FnOnce(u32) -> [u64; 4],
    ) -> Result<View, Fault> {
        let (lane, base) = (address / LANE_BYTES, u64::from(address % LANE_BYTES));
        if lane >= LANES {
            let limit = u64::from(LANES * LANE_BYTES);
            return Err(Fault::Range { operand, space: Space::Local, end: address.into(), limit });
        }
        rule(base.is_multiple_of(prec.bytes().into()), operand, "starts on a whole element")?;
        Ok(View { space: Space::Local, base, lane, prec, signed, shape, strides: strides(lane) })
    }

    /// The same in one of the dense layouts.
    ///
    /// # Errors
    /// As [`View::local`], also for a tensor that does not start where the layout asks for.
    pub fn dense(
        operand: &'static str,
        address: u32,
        prec: Prec,
        signed: bool,
        shape: [u32; 4],
        layout: Dense,
    ) -> Result<View, Fault> {
        if layout == Dense::Aligned {
            rule(address.is_multiple_of(UNIT_BYTES), operand, "starts on 64 bytes")?;
        }
        View::local(operand, address, prec, signed, shape, |lane| local_strides(layout, prec, lane, shape))
    }

    /// Where an address of the copy engine points: memory, lane, offset.
    ///
    /// # Errors
    /// [`Fault::Rule`] for an address between memories.
    pub fn locate(operand: &'static str, address: u64) -> Result<(Space, u32, u64), Fault> {
        let local_end = LOCAL_BASE + u64::from(LANES * LANE_BYTES);
        if address >= DDR_BASE {
            return Ok((Space::Ddr, 0, address - DDR_BASE));
        }
        if (LOCAL_BASE..local_end).contains(&address) {
            let lane = (address - LOCAL_BASE) / u64::from(LANE_BYTES);
            return Ok((Space::Local, lane as u32, (address - LOCAL_BASE) % u64::from(LANE_BYTES)));
        }
        let l2 = (L2_BASE..L2_BASE + L2_BYTES).contains(&address);
        rule(l2, operand, "lies in local, L2 or DDR memory")?;
        Ok((Space::L2, 0, address - L2_BASE))
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }

    /// Lane and byte of an element; the lane is 0 outside of local memory.
    pub fn place(&self, [n, c, h, w]: [u32; 4]) -> (u32, u64) {
        let (lane, row) = match self.space {
            Space::Local => ((self.lane + c) % LANES, (self.lane + c) / LANES),
            _ => (0, c),
        };
        let [ns, cs, hs, ws] = self.strides;
        let elems = u64::from(n) * ns + u64::from(row) * cs + u64::from(h) * hs + u64::from(w) * ws;
        (lane, self.base + elems * u64::from(self.prec.bytes()))
    }

    /// First byte and the one behind the last, inside of a lane for local memory.
    pub fn span(&self) -> (u64, u64) {
        let [n, c, h, w] = self.shape;
        if self.elems() == 0 {
            return (self.base, self.base);
        }
        let rows = if self.space == Space::Local { channel_rows(self.lane, c) } else { c };
        let steps = [n, rows, h, w];
        let last: u64 = steps.iter().zip(self.strides).map(|(&d, stride)| u64::from(d - 1) * stride).sum();
        (self.base, self.base + (last + 1) * u64::from(self.prec.bytes()))
    }

    /// Whether two tensors may share a byte: by their spans, which is exact for dense ones that start in one lane.
    pub fn overlaps(&self, other: &View) -> bool {
        let ((a, b), (c, d)) = (self.span(), other.span());
        self.space == other.space && a < d && c < b && self.shares_lane(other)
    }

    fn shares_lane(&self, other: &View) -> bool {
        let lanes = |view: &View| {
            let count = view.shape[1].min(LANES);
            (0..count).fold(0u64, |mask, c| mask | 1 << ((view.lane + c) % LANES))
        };
        self.space != Space::Local || lanes(self) & lanes(other) != 0
    }
}
