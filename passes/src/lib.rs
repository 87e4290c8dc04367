//! How adze improves what it compiles.

pub mod lower;
pub mod memory;
