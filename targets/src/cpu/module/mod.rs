//! A model as vector kernels and the steps that call them: the last stage that is text.
//!
//! [`super::backend::select`] makes a module of a planned tile program, [`super::backend::emit`] makes an object of it.
//! Everything that a package says about a model is in here, so a module read back from its text gives the same package.
//!
//! ```text
//! module @net for "x86_64-v3" dims(n = 1..32) threads=1 weights=inside subnormals=flush arena=192 pointers(1, 1, 0) slots(n, i0) {
//!   input "x" : f32[n,4] = input 0
//!   output "y" : f32[n,4] = output 0
//!   data 0 "00112233445566778899aabbccddeeff" : f32[4]
//!   call @scale(input 0 + 0, weights + 0, output 0 + 0) in 0..n loc("Mul_0")
//!   for i0 in 0..n step 4 {
//!     call @other(arena + 64 + i0 * 4, arena + 128 each 64) in 0..1 loc("Add_1")
//!   }
//! }
//! kernel @scale(x: f32 in, w: f32 weight, y: f32 out) dims(n = 0) { .. }
//! kernel @other(..) { .. }
//! ```

mod parse;
mod print;
mod verify;

use std::fmt;
use std::sync::Arc;

use adze_ir::extent::Dims;
use adze_ir::graph::{ConstEntry, State};
use adze_ir::loc::Loc;
use adze_ir::types::TensorType;

use super::driver::{Base, Driver};
use super::kernel::Kernel;

pub use parse::parse_module;

/// A model as kernels and steps.
#[derive(Clone, Debug)]
pub struct Module {
    /// Name of the model.
    pub name: Arc<str>,
    /// Machine that the kernels were chosen for: a name of [`super::Machine::NAMES`].
    pub machine: String,
    /// What is called `input` by the model, in order; states included.
    pub inputs: Vec<Port>,
    /// What is called `output` by the model, in order; states included.
    pub outputs: Vec<Port>,
    /// In-place states and the bytes of each.
    pub states: Vec<(State, i64)>,
    /// Constant data by offset in bytes.
    pub constants: Vec<(i64, ConstEntry)>,
    /// Bytes of working memory, driver's header and scratch included.
    pub arena_bytes: i64,
    /// The kernels; names differ.
    pub kernels: Vec<Kernel>,
    /// The steps and what they need. Calls are numbered in order.
    pub driver: Driver,
    /// Source nodes of each call, in order.
    pub locs: Vec<Loc>,
}

/// A tensor at the border of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name in the model.
    pub name: Arc<str>,
    /// Its type.
    pub ty: TensorType,
    /// The caller's pointer that leads to it.
    pub place: Base,
}

impl Module {
    /// Declared ranges of the named dimensions.
    pub fn dims(&self) -> Dims {
        self.driver.dims.iter().cloned().collect()
    }

    /// Bytes of constant data.
    pub fn weights_bytes(&self) -> i64 {
        self.constants.last().map_or(0, |(offset, entry)| offset + entry.ty().max_bytes(&Dims::new()))
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::print_module(self, f)
    }
}
