//! Sophgo BM1684X: a neural processor of 64 lanes with a compute unit and a copy engine, each fed by a stream of commands.
//!
//! ```text
//! Graph → parts that fit (search, tile) → steps on buffers (lower) → places, order, waits (plan) → commands (isa)
//!       → streams, .bmodel (program, bmodel)
//! ```
//!
//! [`isa`] has the commands as data, bytes and text; [`operands`] says what each reads and writes; [`sim`] runs decoded
//! streams and [`hazard`] proves that no two commands race; [`cost`] estimates cycles. What passes see of the chip before all that
//! are prices ([`propose`]) and rules ([`rules`]). See `docs/targets/bm1684x.md`.

pub mod bmodel;
pub mod cost;
pub mod hazard;
pub mod isa;
pub mod lower;
pub mod machine;
pub mod merge;
pub mod operands;
pub mod order;
pub mod plan;
pub mod profile;
pub mod program;
pub mod propose;
pub mod reach;
pub mod rules;
pub mod search;
pub mod sim;
pub mod tile;
pub mod view;

pub use program::{CompileError, Program, RunError};
pub use propose::ChipModel;
pub use rules::FAMILIES;
