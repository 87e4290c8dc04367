//! What adze compiles to: machines as data, and code generation for each.

pub mod bm1684x;
pub mod cpu;
