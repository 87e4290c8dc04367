//! Instructions and their words.
//!
//! A [`Code`] is everything of an instruction but its registers, which come beside it in the order of its text. Words are
//! those of the Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1 and C7.2.

/// Lanes of a vector register: so many of that many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Arr {
    B8,
    B16,
    H4,
    H8,
    S2,
    S4,
    D2,
}

impl Arr {
    #[cfg(test)]
    pub const ALL: [Arr; 7] = [Arr::B8, Arr::B16, Arr::H4, Arr::H8, Arr::S2, Arr::S4, Arr::D2];

    /// Lanes of so many bits in 128 or 64 bits; lanes of 64 bits always come in pairs.
    pub fn of(lane_bits: u32, whole: bool) -> Arr {
        match (lane_bits, whole) {
            (8, false) => Arr::B8,
            (8, true) => Arr::B16,
            (16, false) => Arr::H4,
            (16, true) => Arr::H8,
            (32, false) => Arr::S2,
            (32, true) => Arr::S4,
            _ => Arr::D2,
        }
    }

    /// Whether it is all 128 bits.
    pub fn whole(self) -> bool {
        matches!(self, Arr::B16 | Arr::H8 | Arr::S4 | Arr::D2)
    }

    pub fn lane_bits(self) -> u32 {
        8 << self.size()
    }

    /// Logarithm of the bytes of a lane.
    pub fn size(self) -> u32 {
        match self {
            Arr::B8 | Arr::B16 => 0,
            Arr::H4 | Arr::H8 => 1,
            Arr::S2 | Arr::S4 => 2,
            Arr::D2 => 3,
        }
    }

    fn q(self) -> u32 {
        u32::from(self.whole()) << 30
    }
}

/// How much of a register a memory access moves, or the width of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cpu::emit) enum Size {
    B,
    H,
    S,
    D,
    Q,
}

impl Size {
    pub fn of_bytes(bytes: u32) -> Size {
        match bytes {
            1 => Size::B,
            2 => Size::H,
            4 => Size::S,
            8 => Size::D,
            _ => Size::Q,
        }
    }

    pub fn bytes(self) -> u32 {
        1 << self.log()
    }

    fn log(self) -> u32 {
        self as u32
    }

    /// Number of a lane as instructions that name one spell it.
    fn imm5(self, lane: u8) -> u32 {
        (1 | u32::from(lane) << 1) << self.log()
    }
}

/// Conditions, by their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Cond {
    Eq = 0,
    Ne = 1,
    Hs = 2,
    Lo = 3,
    /// Less, of floats.
    Mi = 4,
    Hi = 8,
    /// Less or equal, of floats; not above.
    Ls = 9,
    Ge = 10,
    Lt = 11,
    Gt = 12,
    Le = 13,
}

impl Cond {
    #[cfg(test)]
    pub const ALL: [Cond; 11] =
        [Cond::Eq, Cond::Ne, Cond::Hs, Cond::Lo, Cond::Mi, Cond::Hi, Cond::Ls, Cond::Ge, Cond::Lt, Cond::Gt, Cond::Le];
}

/// Which arrangements an instruction on vectors has, and what it does with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum Form {
    /// Lanes of 8, 16 and 32 bits.
    Small,
    /// Lanes of 8 to 64 bits.
    Any,
    /// Whole registers of bytes.
    Bits,
    /// Floats of 32 and 64 bits.
    Float,
    /// Operands of that arrangement, results of lanes twice as wide; of the upper half of whole registers.
    Long,
    /// Results of that arrangement, operands of lanes twice as wide; whole ones keep their lower half.
    Narrow,
    /// [`Form::Long`] from halves and singles.
    FloatLong,
    /// [`Form::Narrow`] to halves and singles.
    FloatNarrow,
    /// Pairs of that arrangement are added to lanes twice as wide.
    Pairs,
    /// Four bytes each to lanes of 32 bits.
    Dot,
    /// Comparison with zero.
    Zero,
}

impl Form {
    /// Whether it has that arrangement.
    pub fn has(self, arr: Arr) -> bool {
        match self {
            Form::Small | Form::Long | Form::Narrow | Form::Pairs => arr != Arr::D2,
            Form::Any | Form::Zero => true,
            Form::Bits => matches!(arr, Arr::B8 | Arr::B16),
            Form::Float => arr.size() >= 2,
            Form::FloatLong | Form::FloatNarrow => matches!(arr, Arr::H4 | Arr::H8 | Arr::S2 | Arr::S4),
            Form::Dot => matches!(arr, Arr::S2 | Arr::S4),
        }
    }

    /// The word with the bits that the arrangement decides.
    fn word(self, word: u32, arr: Arr) -> Result<u32, String> {
        if !self.has(arr) {
            return Err(format!("no {word:#x} of {arr:?}"));
        }
        let size = match self {
            Form::Bits | Form::Dot => 0,
            Form::Float => arr.size() - 2,
            Form::FloatLong | Form::FloatNarrow => arr.size() - 1,
            _ => arr.size(),
        };
        Ok(word | arr.q() | size << 22)
    }
}

macro_rules! vector_ops {
    ($(#[$doc:meta])* $name:ident { $($op:ident $text:literal $word:literal $form:ident $updates:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::cpu::emit) enum $name {
            $($op,)*
        }

        impl $name {
            #[cfg(test)]
            pub const ALL: &'static [$name] = &[$($name::$op,)*];

            #[cfg(test)]
            pub fn text(self) -> &'static str {
                match self { $($name::$op => $text,)* }
            }

            fn word(self) -> u32 {
                match self { $($name::$op => $word,)* }
            }

            pub fn form(self) -> Form {
                match self { $($name::$op => Form::$form,)* }
            }

            /// Whether it reads its result register.
            pub fn updates(self) -> bool {
                match self { $($name::$op => $updates,)* }
            }
        }
    };
}

vector_ops! {
    /// Two vector operands. Name, text, word, arrangements, whether the result is read.
    V3 {
        Add "add" 0x0e20_8400 Any false,
        Sub "sub" 0x2e20_8400 Any false,
        Mul "mul" 0x0e20_9c00 Small false,
        Smax "smax" 0x0e20_6400 Small false,
        Smin "smin" 0x0e20_6c00 Small false,
        Umax "umax" 0x2e20_6400 Small false,
        Umin "umin" 0x2e20_6c00 Small false,
        Sshl "sshl" 0x0e20_4400 Any false,
        Ushl "ushl" 0x2e20_4400 Any false,
        Addp "addp" 0x0e20_bc00 Any false,
        Cmeq "cmeq" 0x2e20_8c00 Any false,
        Cmgt "cmgt" 0x0e20_3400 Any false,
        Cmge "cmge" 0x0e20_3c00 Any false,
        Cmhi "cmhi" 0x2e20_3400 Any false,
        Cmhs "cmhs" 0x2e20_3c00 Any false,
        And "and" 0x0e20_1c00 Bits false,
        Orr "orr" 0x0ea0_1c00 Bits false,
        Eor "eor" 0x2e20_1c00 Bits false,
        // Where the result's bits are set the first operand, elsewhere the second.
        Bsl "bsl" 0x2e60_1c00 Bits true,
        Fadd "fadd" 0x0e20_d400 Float false,
        Fsub "fsub" 0x0ea0_d400 Float false,
        Fmul "fmul" 0x2e20_dc00 Float false,
        Fdiv "fdiv" 0x2e20_fc00 Float false,
        Fmax "fmax" 0x0e20_f400 Float false,
        Fmin "fmin" 0x0ea0_f400 Float false,
        Fmla "fmla" 0x0e20_cc00 Float true,
        Fcmeq "fcmeq" 0x0e20_e400 Float false,
        Fcmge "fcmge" 0x2e20_e400 Float false,
        Fcmgt "fcmgt" 0x2ea0_e400 Float false,
        Smull "smull" 0x0e20_c000 Long false,
        Sdot "sdot" 0x0e80_9400 Dot true,
        // Unsigned bytes of the first operand, signed ones of the second.
        Usdot "usdot" 0x0e80_9c00 Dot true,
        Zip1 "zip1" 0x0e00_3800 Any false,
        Zip2 "zip2" 0x0e00_7800 Any false,
        Uzp1 "uzp1" 0x0e00_1800 Any false,
        Uzp2 "uzp2" 0x0e00_5800 Any false,
        Trn1 "trn1" 0x0e00_2800 Any false,
        Trn2 "trn2" 0x0e00_6800 Any false,
    }
}

vector_ops! {
    /// One vector operand. Name, text, word, arrangements, whether the result is read.
    V2 {
        Abs "abs" 0x0e20_b800 Any false,
        Neg "neg" 0x2e20_b800 Any false,
        Not "mvn" 0x2e20_5800 Bits false,
        Cmlt0 "cmlt" 0x0e20_a800 Zero false,
        Saddlp "saddlp" 0x0e20_2800 Pairs false,
        Xtn "xtn" 0x0e21_2800 Narrow false,
        Sqxtn "sqxtn" 0x0e21_4800 Narrow false,
        Sqxtun "sqxtun" 0x2e21_2800 Narrow false,
        Uqxtn "uqxtn" 0x2e21_4800 Narrow false,
        Fabs "fabs" 0x0ea0_f800 Float false,
        Fneg "fneg" 0x2ea0_f800 Float false,
        Fsqrt "fsqrt" 0x2ea1_f800 Float false,
        Frintn "frintn" 0x0e21_8800 Float false,
        Frintm "frintm" 0x0e21_9800 Float false,
        Frintp "frintp" 0x0ea1_8800 Float false,
        Frintz "frintz" 0x0ea1_9800 Float false,
        Fcvtzs "fcvtzs" 0x0ea1_b800 Float false,
        Fcvtzu "fcvtzu" 0x2ea1_b800 Float false,
        Scvtf "scvtf" 0x0e21_d800 Float false,
        Ucvtf "ucvtf" 0x2e21_d800 Float false,
        Fcvtl "fcvtl" 0x0e21_7800 FloatLong false,
        Fcvtn "fcvtn" 0x0e21_6800 FloatNarrow false,
    }
}

/// Shifts of lanes by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum VShift {
    Shl,
    Sshr,
    Ushr,
    /// Widens and shifts left.
    Sshll,
    /// Widens without sign and shifts left.
    Ushll,
}

impl VShift {
    #[cfg(test)]
    pub const ALL: [VShift; 5] = [VShift::Shl, VShift::Sshr, VShift::Ushr, VShift::Sshll, VShift::Ushll];

    /// Whether results are twice as wide.
    pub fn long(self) -> bool {
        matches!(self, VShift::Sshll | VShift::Ushll)
    }

    fn right(self) -> bool {
        matches!(self, VShift::Sshr | VShift::Ushr)
    }
}

/// Operations with one lane of their last operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum ByLane {
    Fmla,
    Fmul,
    /// Lanes of four bytes.
    Sdot,
    /// Signed bytes of the first operand, unsigned ones of the lane.
    Sudot,
}

impl ByLane {
    #[cfg(test)]
    pub const ALL: [ByLane; 4] = [ByLane::Fmla, ByLane::Fmul, ByLane::Sdot, ByLane::Sudot];

    /// Whether it is a dot product of bytes.
    pub fn dot(self) -> bool {
        matches!(self, ByLane::Sdot | ByLane::Sudot)
    }
}

/// Operations on two general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu::emit) enum X3 {
    Add,
    Sub,
    And,
    Orr,
    Eor,
    Mul,
    Sdiv,
    Udiv,
    /// Shifts by the low six bits.
    Lsl,
    Lsr,
    Asr,
}

impl X3 {
    #[cfg(test)]
    pub const ALL: [X3; 11] =
        [X3::Add, X3::Sub, X3::And, X3::Orr, X3::Eor, X3::Mul, X3::Sdiv, X3::Udiv, X3::Lsl, X3::Lsr, X3::Asr];
}

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
