//! Instructions and their words.
//!
//! A [`Code`] is everything of an instruction but its registers, which come beside it in the order of its text. Words are
//! those of the Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1 and C7.2.

use super::ops::{Arr, ByLane, Cond, Form, Size, V2, V3, VShift, X3};

/// An instruction without its registers. In comments: registers in order, results first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Code {
    /// d, n, m.
    V3(V3, Arr),
    /// d, n.
    V2(V2, Arr),
    /// d, n.
    Shift(VShift, Arr, u8),
    /// d, n, m.
    ByLane(ByLane, Arr, u8),
    /// d, n: a lane in every lane.
    Dup(Arr, u8),
    /// d, x: a general register in every lane.
    DupX(Arr),
    /// d, n: a lane as the first one, zeros behind.
    Lane(Size, u8),
    /// d, n: the second lane to the place of the first.
    Ins(Size, u8, u8),
    /// d, x: a general register to a lane.
    InsX(Size, u8),
    /// x, n: a lane, filled up with zeros.
    Umov(Size, u8),
    /// d, n, m: bytes from the given one on of both in a row.
    Ext(u8),
    /// d, table, indices: bytes of the table; zero beyond it.
    Tbl,
    /// The same, leaving what it was beyond it.
    Tbx,
    /// d: the number in every byte.
    Movi(u8),
    /// d: zero.
    Zero,
    /// n, m: sets flags.
    Fcmp(bool),
    /// d, n, m: the first where the condition holds.
    Fcsel(bool, Cond),
    /// x, n: towards zero, saturating.
    ToInt { signed: bool, double: bool, wide: bool },
    /// d, x.
    FromInt { signed: bool, double: bool },
    /// x, n: 32 or 64 bits.
    ToX(bool),
    /// d, x: 32 or 64 bits.
    FromX(bool),
    /// x, x, x.
    X3(X3),
    /// x, n, m, a: `a - n * m`.
    Msub,
    /// x, n: plus the number, times 4096 where that is said.
    AddImm(u16, bool),
    /// x, n.
    SubImm(u16, bool),
    /// n, m: sets flags.
    Cmp,
    /// n: sets flags by `n - imm`.
    CmpImm(u16),
    /// n: sets flags by `n + imm`.
    CmnImm(u16),
    /// x, n.
    LslImm(u8),
    /// x, n.
    LsrImm(u8),
    /// x, n.
    AsrImm(u8),
    /// x, n: that many low bits, with sign.
    Sbfx(u8),
    /// x, n: that many low bits.
    Ubfx(u8),
    /// x: 16 bits at a multiple of 16, zeros elsewhere.
    Movz(u16, u8),
    /// x: the complement of that.
    Movn(u16, u8),
    /// x: 16 bits, keeping the others.
    Movk(u16, u8),
    /// x, n, m: the first where the condition holds.
    Csel(Cond),
    /// x: 1 where the condition holds, else 0.
    Cset(Cond),
    /// v, base: bytes past it.
    LoadV(Size, i32),
    /// v, base.
    StoreV(Size, i32),
    /// x, base: up to 64 bits, filled up with zeros.
    LoadX(Size, i32),
    /// x, base.
    StoreX(Size, i32),
    /// v, v, base: two whole registers.
    LoadPair(i32),
    /// v, v, base.
    StorePair(i32),
    /// d, base: an element in every lane.
    LoadDup(Arr),
    /// d: so many bytes past this instruction.
    Literal(Size, i32),
    /// base: into the second cache.
    Prefetch(i32),
}

/// Whether one instruction reaches so many bytes past its base with an access of that size.
pub(super) fn reaches(disp: i32, size: Size) -> bool {
    let bytes = size.bytes() as i32;
    (-256..256).contains(&disp) || (disp >= 0 && disp % bytes == 0 && disp / bytes < 4096)
}

/// Whether a pair of whole registers is reached.
pub(super) fn pair_reaches(disp: i32) -> bool {
    disp % 16 == 0 && (-1024..1024).contains(&disp)
}

/// Number of the stack pointer where an address is meant, of zero elsewhere.
pub(super) const SP: u8 = 31;

/// A register's part in an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Role {
    Read,
    Write,
    Update,
}

impl Code {
    /// What is done with each register.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Read, Update, Write};
        let updates = match self {
            Code::V3(op, _) => op.updates(),
            Code::V2(op, arr) => op.updates() || (matches!(op.form(), Form::Narrow | Form::FloatNarrow) && arr.whole()),
            Code::ByLane(op, ..) => op != ByLane::Fmul,
            Code::Ins(..) | Code::InsX(..) | Code::Tbx | Code::Movk(..) => true,
            _ => false,
        };
        match self {
            Code::V3(..) | Code::ByLane(..) | Code::Tbx if updates => &[Update, Read, Read],
            Code::V3(..) | Code::ByLane(..) | Code::Ext(_) | Code::Tbl | Code::Tbx => &[Write, Read, Read],
            Code::Fcsel(..) | Code::X3(_) | Code::Csel(_) => &[Write, Read, Read],
            Code::Msub => &[Write, Read, Read, Read],
            Code::V2(..) | Code::Ins(..) | Code::InsX(..) if updates => &[Update, Read],
            Code::Movk(..) => &[Update],
            Code::Movi(_) | Code::Zero | Code::Movz(..) | Code::Movn(..) | Code::Cset(_) | Code::Literal(..) => {
                &[Write]
            }
            Code::Fcmp(_) | Code::Cmp | Code::StoreV(..) | Code::StoreX(..) => &[Read, Read],
            Code::CmpImm(_) | Code::CmnImm(_) | Code::Prefetch(_) => &[Read],
            Code::LoadPair(_) => &[Write, Write, Read],
            Code::StorePair(_) => &[Read, Read, Read],
            _ => &[Write, Read],
        }
    }

    /// Whether the register at that place is a general one.
    pub fn is_general(self, at: usize) -> bool {
        match self {
            Code::DupX(_) | Code::InsX(..) | Code::FromInt { .. } | Code::FromX(_) => at == 1,
            Code::Umov(..) | Code::ToInt { .. } | Code::ToX(_) => at == 0,
            Code::LoadV(..) | Code::StoreV(..) | Code::LoadDup(_) => at == 1,
            Code::LoadPair(_) | Code::StorePair(_) => at == 2,
            Code::X3(_) | Code::Msub | Code::AddImm(..) | Code::SubImm(..) | Code::Cmp | Code::CmpImm(_) => true,
            Code::CmnImm(_) | Code::LslImm(_) | Code::LsrImm(_) | Code::AsrImm(_) | Code::Sbfx(_) => true,
            Code::Ubfx(_) | Code::Movz(..) | Code::Movn(..) | Code::Movk(..) | Code::Csel(_) | Code::Cset(_) => true,
            Code::LoadX(..) | Code::StoreX(..) | Code::Prefetch(_) => true,
            _ => false,
        }
    }

    /// The instruction word with those registers.
    ///
    /// # Errors
    /// Says what the instruction does not have: an arrangement, a lane, a number, a distance.
    pub fn word(self, regs: &[u8]) -> Result<u32, String> {
        let reg = |at: usize| u32::from(regs.get(at).copied().unwrap_or(0)) & 31;
        let [d, n, m] = [reg(0), reg(1), reg(2)];
        let dn = d | n << 5;
        let dnm = dn | m << 16;
        let check = |fits: bool, word: u32| if fits { Ok(word) } else { Err(format!("no {self:?}")) };
        let lanes = |size: Size| if size == Size::Q { 0 } else { 16 / size.bytes() };
        let last = |bits: u8| u32::from(bits).wrapping_sub(1) & 63;
        match self {
            Code::V3(op, arr) => op.form().word(op.word(), arr).map(|word| word | dnm),
            Code::V2(op, arr) => op.form().word(op.word(), arr).map(|word| word | dn),
            Code::Shift(op, arr, by) => shift_word(op, arr, by.into()).map(|word| word | dn),
            Code::ByLane(op, arr, lane) => by_lane_word(op, arr, lane.into()).map(|word| word | dnm),
            Code::Dup(arr, lane) => {
                let size = Size::of_bytes(arr.lane_bits() / 8);
                check(u32::from(lane) < lanes(size), 0x0e00_0400 | arr.q() | size.imm5(lane) << 16 | dn)
            }
            Code::DupX(arr) => Ok(0x0e00_0c00 | arr.q() | Size::of_bytes(arr.lane_bits() / 8).imm5(0) << 16 | dn),
            Code::Lane(size, lane) => check(u32::from(lane) < lanes(size), 0x5e00_0400 | size.imm5(lane) << 16 | dn),
            Code::Ins(size, to, from) => {
                let fits = u32::from(to.max(from)) < lanes(size);
                let from = u32::from(from) << size.log();
                check(fits, 0x6e00_0400 | size.imm5(to) << 16 | from << 11 | dn)
            }
            Code::InsX(size, lane) => check(u32::from(lane) < lanes(size), 0x4e00_1c00 | size.imm5(lane) << 16 | dn),
            Code::Umov(size, lane) => {
                let wide = u32::from(size == Size::D) << 30;
                check(u32::from(lane) < lanes(size), 0x0e00_3c00 | wide | size.imm5(lane) << 16 | dn)
            }
            Code::Ext(at) => check(at < 16, 0x6e00_0000 | u32::from(at) << 11 | dnm),
            Code::Tbl => Ok(0x4e00_0000 | dnm),
            Code::Tbx => Ok(0x4e00_1000 | dnm),
            Code::Movi(byte) => Ok(0x4f00_e400 | u32::from(byte >> 5) << 16 | u32::from(byte & 31) << 5 | d),
            Code::Zero => Ok(0x6f00_e400 | d),
            Code::Fcmp(double) => Ok(0x1e20_2000 | u32::from(double) << 22 | d << 5 | n << 16),
            Code::Fcsel(double, cond) => Ok(0x1e20_0c00 | u32::from(double) << 22 | (cond as u32) << 12 | dnm),
            Code::ToInt { signed, double, wide } => {
                Ok(0x1e38_0000 | u32::from(!signed) << 16 | u32::from(double) << 22 | u32::from(wide) << 31 | dn)
            }
            Code::FromInt { signed, double } => {
                Ok(0x9e22_0000 | u32::from(!signed) << 16 | u32::from(double) << 22 | dn)
            }
            Code::ToX(wide) => Ok(if wide { 0x9e66_0000 } else { 0x1e26_0000 } | dn),
            Code::FromX(wide) => Ok(if wide { 0x9e67_0000 } else { 0x1e27_0000 } | dn),
            Code::X3(op) => Ok(x3_word(op) | dnm),
            Code::Msub => Ok(0x9b00_8000 | reg(3) << 10 | dnm),
            Code::AddImm(by, high) => imm12(0x9100_0000, by, high).map(|word| word | dn),
            Code::SubImm(by, high) => imm12(0xd100_0000, by, high).map(|word| word | dn),
            Code::Cmp => Ok(0xeb00_001f | d << 5 | n << 16),
            Code::CmpImm(by) => imm12(0xf100_001f, by, false).map(|word| word | d << 5),
            Code::CmnImm(by) => imm12(0xb100_001f, by, false).map(|word| word | d << 5),
            Code::LslImm(by) => {
                let by = u32::from(by);
                // By nothing it would be a shift to the right.
                check(
                    (1..64).contains(&by),
                    0xd340_0000 | (64u32.wrapping_sub(by) & 63) << 16 | (63u32.wrapping_sub(by) & 63) << 10 | dn,
                )
            }
            Code::LsrImm(by) => check((1..64).contains(&by), 0xd340_fc00 | u32::from(by) << 16 | dn),
            Code::AsrImm(by) => check((1..64).contains(&by), 0x9340_fc00 | u32::from(by) << 16 | dn),
            Code::Sbfx(bits) => check((1..64).contains(&bits), 0x9340_0000 | last(bits) << 10 | dn),
            Code::Ubfx(bits) => check((1..64).contains(&bits), 0xd340_0000 | last(bits) << 10 | dn),
            Code::Movz(imm, at) => check(at < 4, 0xd280_0000 | u32::from(at) << 21 | u32::from(imm) << 5 | d),
            Code::Movn(imm, at) => check(at < 4, 0x9280_0000 | u32::from(at) << 21 | u32::from(imm) << 5 | d),
            Code::Movk(imm, at) => check(at < 4, 0xf280_0000 | u32::from(at) << 21 | u32::from(imm) << 5 | d),
            Code::Csel(cond) => Ok(0x9a80_0000 | (cond as u32) << 12 | dnm),
            // An increment of zero where the opposite holds.
            Code::Cset(cond) => Ok(0x9a9f_07e0 | ((cond as u32) ^ 1) << 12 | d),
            Code::LoadV(size, disp) => access(vector_access(size) | 0x0040_0000, size, disp).map(|word| word | dn),
            Code::StoreV(size, disp) => access(vector_access(size), size, disp).map(|word| word | dn),
            Code::LoadX(size, disp) => {
                check(size != Size::Q, 0)?;
                access(0x3940_0000 | size.log() << 30, size, disp).map(|word| word | dn)
            }
            Code::StoreX(size, disp) => {
                check(size != Size::Q, 0)?;
                access(0x3900_0000 | size.log() << 30, size, disp).map(|word| word | dn)
            }
            Code::LoadPair(disp) => pair(0xad40_0000, disp).map(|word| word | d | n << 10 | m << 5),
            Code::StorePair(disp) => pair(0xad00_0000, disp).map(|word| word | d | n << 10 | m << 5),
            Code::LoadDup(arr) => Ok(0x0d40_c000 | arr.q() | arr.size() << 10 | dn),
            Code::Literal(size, disp) => {
                let fits = disp % 4 == 0 && (-0x10_0000..0x10_0000).contains(&disp) && size >= Size::S;
                let far = (disp / 4) as u32 & 0x7_ffff;
                check(fits, 0x1c00_0000 | size.log().saturating_sub(2) << 30 | far << 5 | d)
            }
            Code::Prefetch(disp) => {
                let scaled = disp % 8 == 0 && (0..32768).contains(&disp);
                // The shorter distance has an instruction of its own.
                let word = if scaled { 0xf980_0002 } else { 0xf880_0002 };
                let far = if scaled { (disp as u32 / 8) << 10 } else { (disp as u32 & 0x1ff) << 12 };
                check(scaled || (-256..256).contains(&disp), word | far | d << 5)
            }
        }
    }
}

fn shift_word(op: VShift, arr: Arr, by: u32) -> Result<u32, String> {
    let bits = arr.lane_bits();
    let fits = if op.right() { (1..=bits).contains(&by) } else { by < bits };
    if !fits || (op.long() && arr == Arr::D2) {
        return Err(format!("no {op:?} of {arr:?} by {by}"));
    }
    let word = match op {
        VShift::Shl => 0x0f00_5400,
        VShift::Sshr => 0x0f00_0400,
        VShift::Ushr => 0x2f00_0400,
        VShift::Sshll => 0x0f00_a400,
        VShift::Ushll => 0x2f00_a400,
    };
    let imm = if op.right() { 2 * bits - by } else { bits + by };
    Ok(word | arr.q() | imm << 16)
}

fn by_lane_word(op: ByLane, arr: Arr, lane: u32) -> Result<u32, String> {
    let double = arr == Arr::D2;
    let fits = arr.size() >= 2 && !(double && op.dot()) && lane < if double { 2 } else { 4 };
    if !fits {
        return Err(format!("no {op:?} of {arr:?} by lane {lane}"));
    }
    let word = match op {
        ByLane::Fmla => 0x0f80_1000,
        ByLane::Fmul => 0x0f80_9000,
        ByLane::Sdot => 0x0f80_e000,
        ByLane::Sudot => 0x0f00_f000,
    };
    // The lane's bits are called H and L.
    let lane = if double { lane << 11 } else { (lane >> 1) << 11 | (lane & 1) << 21 };
    Ok(word | arr.q() | u32::from(double) << 22 | lane)
}

fn x3_word(op: X3) -> u32 {
    match op {
        X3::Add => 0x8b00_0000,
        X3::Sub => 0xcb00_0000,
        X3::And => 0x8a00_0000,
        X3::Orr => 0xaa00_0000,
        X3::Eor => 0xca00_0000,
        // Plus zero.
        X3::Mul => 0x9b00_7c00,
        X3::Sdiv => 0x9ac0_0c00,
        X3::Udiv => 0x9ac0_0800,
        X3::Lsl => 0x9ac0_2000,
        X3::Lsr => 0x9ac0_2400,
        X3::Asr => 0x9ac0_2800,
    }
}

fn imm12(word: u32, by: u16, high: bool) -> Result<u32, String> {
    if by < 4096 { Ok(word | u32::from(high) << 22 | u32::from(by) << 10) } else { Err(format!("no number {by}")) }
}

/// The scaled store of a vector register.
fn vector_access(size: Size) -> u32 {
    if size == Size::Q { 0x3d80_0000 } else { 0x3d00_0000 | size.log() << 30 }
}

/// Scaled where it can be; `word` is the scaled form.
fn access(word: u32, size: Size, disp: i32) -> Result<u32, String> {
    if !reaches(disp, size) {
        return Err(format!("no access {disp} bytes away"));
    }
    let bytes = size.bytes() as i32;
    if disp >= 0 && disp % bytes == 0 {
        return Ok(word | ((disp / bytes) as u32) << 10);
    }
    Ok((word & !0x0100_0000) | (disp as u32 & 0x1ff) << 12)
}

fn pair(word: u32, disp: i32) -> Result<u32, String> {
    let far = (disp / 16) as u32 & 0x7f;
    if pair_reaches(disp) { Ok(word | far << 15) } else { Err(format!("no pair {disp} bytes away")) }
}
