//! Native code for CPUs: vector kernel IR, its emitters, objects, in-process execution.

pub mod backend;
pub mod c99;
pub mod cost;
pub mod driver;
pub mod emit;
pub mod exec;
pub mod kernel;
pub mod lower;
pub mod machine;
pub mod module;
pub mod object;
pub mod peak;
pub mod propose;
mod rules;
pub mod work;

pub use machine::{Arch, CodegenError, Machine};
pub use propose::CpuModel;
pub use rules::FAMILIES;
