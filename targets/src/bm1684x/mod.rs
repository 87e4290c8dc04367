//! Sophgo BM1684X: a neural processor of 64 lanes with a compute unit and a copy engine, each fed by a stream of commands.
//!
//! [`isa`] has the commands as data, bytes and text; [`operands`] says what each reads and writes; [`sim`] runs decoded
//! streams. See `docs/targets/bm1684x.md`.

pub mod bmodel;
pub mod isa;
pub mod machine;
pub mod operands;
pub mod sim;
pub mod view;
