//! What adze compiles to: machines as data, and code generation for each.

pub mod cpu;
