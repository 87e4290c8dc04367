//! Commands in the making: steps on buffers that have no place yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use adze_ir::loc::Loc;

use super::super::isa::{Body, Prec};
use super::super::machine::{LANES, UNIT_BYTES};
use super::super::view::{Dense, channel_rows, local_strides};

/// A buffer in local memory: the same bytes of every lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub usize);

/// A tensor in DDR memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// A constant, by position.
    Constant(usize),
    /// An input, by position.
    Input(usize),
    /// An output, by position.
    Output(usize),
    /// What does not fit into local memory, by position.
    Spill(usize),
}

/// What an address field is to hold once memory is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Local memory, from lane 0 on.
    Local(BufferId, u32),
    /// DDR memory.
    Ddr(Piece, u64),
}

/// A command without addresses and ID.
#[derive(Clone, Debug)]
pub struct Step {
    /// The command; fields that places name are 0.
    pub body: Body,
    /// Address fields: for copies `src` and `dst`, otherwise the field's name.
    pub places: Vec<(&'static str, Place)>,
    /// A load that can be done at any time before its first use, once what it loads is stored.
    pub early: bool,
    /// Nodes that it is for.
    pub loc: Loc,
    /// The unit of the network that it is for ([`super::super::tile`]).
    pub unit: Option<usize>,
}

/// A tensor in local memory in the aligned layout, from lane 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Where.
    pub buffer: BufferId,
    /// N, C, H, W.
    pub shape: [u32; 4],
    /// Element type.
    pub prec: Prec,
    /// Whether integers are signed.
    pub signed: bool,
}

/// Steps and what they are about.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The steps, in an order in which they may run.
    pub steps: Vec<Step>,
    /// Bytes per lane of every buffer.
    pub buffers: Vec<u32>,
    /// The bytes of every [`Piece::Constant`].
    pub constants: Vec<Arc<[u8]>>,
    /// Where results are not the model's bit for bit.
    pub notes: Vec<String>,
    /// Bytes of every [`Piece::Spill`].
    pub spills: Vec<u64>,
    /// Nodes that steps are made for now.
    pub loc: Loc,
    /// The unit that steps are made for now.
    pub unit: Option<usize>,
    /// Positions of constants: the parts of a layer have the same ones.
    known: HashMap<Arc<[u8]>, usize>,
    /// The same of constants that are shared, by address.
    shared: HashMap<usize, usize>,
    /// Constants that stay in local memory for now, by position.
    resident: Option<(usize, BTreeMap<usize, BufferId>)>,
}

/// Bytes per lane of a dense tensor in local memory.
pub fn lane_bytes(prec: Prec, shape: [u32; 4]) -> u64 {
    let [ns, ..] = local_strides(Dense::Aligned, prec, 0, shape);
    u64::from(shape[0]) * ns * u64::from(prec.bytes())
}

impl Draft {
    /// A buffer of so many bytes per lane.
    pub fn buffer(&mut self, bytes: u64) -> BufferId {
        // What does not fit is refused when memory is planned, with all that is alive at that time.
        self.buffers.push(u32::try_from(bytes).unwrap_or(u32::MAX).max(1));
        BufferId(self.buffers.len() - 1)
    }

    /// A tensor without contents.
    pub fn tensor(&mut self, prec: Prec, signed: bool, shape: [u32; 4]) -> Home {
        Home { buffer: self.buffer(lane_bytes(prec, shape)), shape, prec, signed }
    }

    /// Adds a command.
    pub fn push(&mut self, body: impl Into<Body>, places: Vec<(&'static str, Place)>) {
        self.steps.push(Step { body: body.into(), places, early: false, loc: self.loc.clone(), unit: self.unit });
    }

    /// Adds a load that may be done earlier.
    pub fn push_early(&mut self, body: impl Into<Body>, places: Vec<(&'static str, Place)>) {
        self.steps.push(Step { body: body.into(), places, early: true, loc: self.loc.clone(), unit: self.unit });
    }

    /// Constants that are loaded from now on stay in local memory while this is called with the same group.
    pub fn keep_constants(&mut self, group: Option<usize>) {
        if self.resident.as_ref().map(|(current, _)| *current) != group {
            self.resident = group.map(|group| (group, BTreeMap::new()));
        }
    }

    /// The buffer of constants that stay, if they are there.
    pub fn kept(&self, source: Place) -> Option<BufferId> {
        let Place::Ddr(Piece::Constant(index), _) = source else { return None };
        self.resident.as_ref()?.1.get(&index).copied()
    }

    /// Keeps constants.
    pub fn keep(&mut self, source: Place, buffer: BufferId) {
        if let (Some((_, kept)), Place::Ddr(Piece::Constant(index), _)) = (&mut self.resident, source) {
            kept.insert(index, buffer);
        }
    }

    /// Room for a tensor in DDR memory.
    pub fn room(&mut self, shape: [u32; 4], prec: Prec) -> Piece {
        let elems: u64 = shape.iter().copied().map(u64::from).product();
        self.spills.push(elems * u64::from(prec.bytes()));
        Piece::Spill(self.spills.len() - 1)
    }

    /// A constant in DDR memory; gives where.
    pub fn constant(&mut self, bytes: &[u8]) -> Place {
        let next = self.constants.len();
        let index = self.known.get(bytes).copied().unwrap_or_else(|| {
            let bytes: Arc<[u8]> = bytes.into();
            self.constants.push(bytes.clone());
            self.known.insert(bytes, next);
            next
        });
        Place::Ddr(Piece::Constant(index), 0)
    }

    /// A constant in DDR memory that others have too: it is the same where it lies at the same place. Gives where.
    pub fn shared(&mut self, bytes: &Arc<[u8]>) -> Place {
        let next = self.constants.len();
        let index = *self.shared.entry(bytes.as_ptr().addr()).or_insert(next);
        if index == next {
            self.constants.push(bytes.clone());
        }
        Place::Ddr(Piece::Constant(index), 0)
    }

    /// Where the constants that steps read lie in DDR memory: the first byte of each, and how many bytes they take together.
    pub fn layout(&self) -> (Vec<u64>, u64) {
        let (mut starts, mut end) = (vec![0; self.constants.len()], 0u64);
        for index in self.read_constants() {
            starts[index] = end.next_multiple_of(UNIT_BYTES.into());
            end = starts[index] + self.constants[index].len() as u64;
        }
        (starts, end)
    }

    /// The constants that steps read as they lie in DDR memory.
    pub fn coefficients(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for index in self.read_constants() {
            bytes.resize(bytes.len().next_multiple_of(UNIT_BYTES as usize), 0);
            bytes.extend_from_slice(&self.constants[index]);
        }
        bytes
    }

    fn read_constants(&self) -> BTreeSet<usize> {
        let places = self.steps.iter().flat_map(|step| &step.places);
        let read = places.filter_map(|(_, place)| match place {
            Place::Ddr(Piece::Constant(index), _) => Some(*index),
            _ => None,
        });
        read.collect()
    }
}

/// Constants of one layer as they lie in the lanes: what each lane holds is contiguous in DDR memory, so that one copy loads
/// all of them in long runs. Sections fill the gaps that rows of others leave.
#[derive(Clone, Debug)]
pub struct Image {
    lanes: Vec<Vec<u8>>,
    /// Bytes of a lane that hold something: the same for all.
    used: Vec<bool>,
}

impl Image {
    /// An image of so many channels.
    pub fn new(channels: u32) -> Self {
        Self { lanes: vec![Vec::new(); channels.min(LANES) as usize], used: Vec::new() }
    }

    /// Adds a row of bytes per channel, all of one length and `pitch` bytes apart in a lane, at the first place that is free
    /// and aligned; gives its offset.
    pub fn section(&mut self, rows: &[Vec<u8>], pitch: usize, align: usize) -> u32 {
        let channels = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let (count, length) = (channel_rows(0, channels) as usize, rows.first().map_or(0, Vec::len));
        let bytes = |start: usize| (0..count).flat_map(move |row| start + row * pitch..start + row * pitch + length);
        let free = |start: &usize| bytes(*start).all(|at| !self.used.get(at).copied().unwrap_or(false));
        let start = (0..).step_by(align).find(free).expect("behind the last section everything is free");
        let end = start + count.saturating_sub(1) * pitch + length;
        if self.used.len() < end {
            self.used.resize(end, false);
            self.lanes.iter_mut().for_each(|lane| lane.resize(end, 0));
        }
        bytes(start).for_each(|at| self.used[at] = true);
        for (lane, bytes) in self.lanes.iter_mut().enumerate() {
            for (index, row) in rows.iter().skip(lane).step_by(LANES as usize).enumerate() {
                bytes[start + index * pitch..][..length].copy_from_slice(row);
            }
        }
        u32::try_from(start).unwrap_or(u32::MAX)
    }

    /// Bytes per lane, a multiple of 64.
    pub fn bytes(&self) -> usize {
        self.used.len().next_multiple_of(UNIT_BYTES as usize)
    }

    /// The lanes one after the other.
    pub fn concat(&self) -> Vec<u8> {
        let padding = vec![0; self.bytes() - self.used.len()];
        self.lanes.iter().flat_map(|lane| [lane.as_slice(), &padding]).flatten().copied().collect()
    }

    /// Number of lanes that hold something.
    pub fn lanes(&self) -> u32 {
        self.lanes.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_fill_gaps() {
        let mut image = Image::new(70);
        let row = |bytes: usize| (0..70).map(|channel| vec![channel; bytes]).collect::<Vec<_>>();
        assert_eq!(image.section(&row(8), 64, 64), 0);
        assert_eq!(image.section(&row(4), 4, 4), 8);
        assert_eq!(image.section(&row(9), 9, 1), 16);
        assert_eq!(image.section(&row(64), 64, 64), 128);
        assert_eq!(image.section(&row(40), 40, 4), 256, "two rows of 40 fit into no gap");
        assert_eq!((image.bytes(), image.lanes()), (384, 64));
        let lanes = image.concat();
        let lane5 = &lanes[5 * 384..6 * 384];
        assert_eq!((lane5[0], lane5[64], lane5[8], lane5[12], lane5[24]), (5, 69, 5, 69, 5));
        assert_eq!((lane5[25], lane5[192]), (69, 69));
        // Lane 6 has one channel only.
        assert_eq!((lanes[6 * 384], lanes[6 * 384 + 64]), (6, 0));
    }
}
