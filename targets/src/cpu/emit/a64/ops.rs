//! What instructions of AArch64 are made of: arrangements of lanes, sizes, conditions, operations with their words.

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

    pub fn q(self) -> u32 {
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

    pub fn log(self) -> u32 {
        self as u32
    }

    /// Number of a lane as instructions that name one spell it.
    pub fn imm5(self, lane: u8) -> u32 {
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
    pub fn word(self, word: u32, arr: Arr) -> Result<u32, String> {
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

            pub fn word(self) -> u32 {
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

    pub fn right(self) -> bool {
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
