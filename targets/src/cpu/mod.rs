//! Native code for CPUs: vector kernel IR, its emitters, objects, in-process execution.

pub mod kernel;
