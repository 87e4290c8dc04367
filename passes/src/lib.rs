//! How adze improves what it compiles.

pub mod layout;
pub mod lower;
pub mod memory;
