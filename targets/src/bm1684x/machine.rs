//! The machine as data: memories, lanes, widths. Numbers are those of the public register and memory definitions.

/// Lanes; a channel lives in one of them.
pub const LANES: u32 = 64;
/// Local memory of a lane.
pub const LANE_BYTES: u32 = 1 << 18;
/// A bank of a lane's memory: what reads and writes the same one at once takes turns.
pub const BANK_BYTES: u32 = 1 << 14;
/// Width of the vector unit of a lane, also the alignment of tensors in local memory.
pub const UNIT_BYTES: u32 = 64;
/// L2 memory.
pub const L2_BYTES: u64 = 0x1f_b000;
/// Input channels that a convolution of 8-bit integers sums per cycle.
pub const CONV_CHANNELS: u32 = 64;
/// The same of 16-bit floats.
pub const CONV_CHANNELS_HALF: u32 = 32;

/// Address of local memory as the copy engine sees it.
pub const LOCAL_BASE: u64 = 0x0800_0000;
/// Address of L2 memory.
pub const L2_BASE: u64 = 0x1000_0000;
/// Address of DDR memory.
pub const DDR_BASE: u64 = 0x1_0000_0000;
/// Alignment of tensors in DDR memory, that of the vendor's packages.
pub const DDR_ALIGN: u64 = 4096;
/// Size of DDR memory that addresses of 40 bits leave room for.
pub const DDR_BYTES: u64 = (1 << 40) - DDR_BASE;

/// Most of what a tensor's dimension can be in a command.
pub const MAX_EXTENT: u32 = (1 << 16) - 1;
/// Most of a convolution's pads, strides and dilations.
pub const MAX_WINDOW: u32 = 15;
