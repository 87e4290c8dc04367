//! Commands of the BM1684X: typed, as bytes, and as text.
//!
//! A command is its ID, the ID of the other engine's command that it waits for, and a body of one of the forms of
//! `forms`. [`Command::encode`] writes bits by the form's table; [`decode()`] finds the form from the bytes alone and refuses
//! every bit that the form does not name, so that what it gives encodes to the same bytes.

mod decode;
mod encode;
mod forms;
mod text;

pub use decode::{DecodeError, decode, decode_stream};
pub use encode::EncodeError;
pub use forms::{
    Ar, Body, Conv, Dma, DmaEnd, DmaGather, DmaTranspose, Engine, FORMS, Field, Form, Lookup, MatMul, Pool, Requant,
    Select, Sfu, TiuEnd, Trans,
};
pub use text::TextError;

/// IDs are below this.
pub const ID_LIMIT: u32 = 1 << 20;

/// A command in its place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Own ID: the commands of an engine count from 1.
    pub id: u32,
    /// ID of the other engine's command that has to have ended; 0 for none.
    pub dep: u32,
    /// What it does.
    pub body: Body,
}

impl Command {
    /// The engine that runs it.
    pub fn engine(&self) -> Engine {
        self.body.form().engine
    }
}

/// Element types by their code in commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prec {
    /// 8 bits.
    Int8,
    /// Half floats.
    Fp16,
    /// Floats.
    Fp32,
    /// 16 bits.
    Int16,
    /// 32 bits.
    Int32,
    /// Brain floats.
    Bf16,
}

impl Prec {
    /// All types, by code.
    pub const ALL: [Prec; 6] = [Prec::Int8, Prec::Fp16, Prec::Fp32, Prec::Int16, Prec::Int32, Prec::Bf16];

    /// The code.
    pub fn code(self) -> u32 {
        match self {
            Prec::Int8 => 0,
            Prec::Fp16 => 1,
            Prec::Fp32 => 2,
            Prec::Int16 => 3,
            Prec::Int32 => 4,
            Prec::Bf16 => 5,
        }
    }

    /// The type of a code.
    pub fn from_code(code: u32) -> Option<Prec> {
        Prec::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// Bytes of an element.
    pub fn bytes(self) -> u32 {
        match self {
            Prec::Int8 => 1,
            Prec::Fp16 | Prec::Int16 | Prec::Bf16 => 2,
            Prec::Fp32 | Prec::Int32 => 4,
        }
    }

    /// Whether it is an integer type.
    pub fn is_int(self) -> bool {
        matches!(self, Prec::Int8 | Prec::Int16 | Prec::Int32)
    }

    /// Whether it is one of the floats of 16 bits.
    pub fn is_half(self) -> bool {
        matches!(self, Prec::Fp16 | Prec::Bf16)
    }
}
