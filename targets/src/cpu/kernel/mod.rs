//! The vector kernel IR: one leaf of the tile IR as loops over SSA vectors.
//!
//! A [`Kernel`] is a structured program (loops, branches, straight-line SSA) over scalars and vectors of explicit lane
//! count, reading and writing memory through its parameters. It says *what* is computed per lane and in which order;
//! emitters choose instructions. Any power-of-two lane count is legal on any machine: an emitter splits what is wider
//! than its registers and scalarises what its machine cannot do, so kernels are written once.
//!
//! See [`ir`] for the meaning of every statement and operation and [`build`] for the way to write kernels.

pub mod build;
pub(in crate::cpu) mod first;
pub mod interp;
pub mod ir;
pub mod math;
pub mod math64;
pub mod minifloat;
pub mod text;
pub mod types;
pub mod verify;

pub use build::{KernelBuilder, widths};
pub use ir::{Access, BinOp, Cmp, Cond, Cvt, Kernel, Op, Param, Stmt, UnOp, Value};
pub use types::{Elem, MAX_LANES, Type};
pub use verify::{Violation, verify};
