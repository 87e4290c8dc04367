//! Tile IR: loops over tiles, buffers in named memories, DMA, and leaves that are tensor operators on tile views.
//!
//! Between the graph and the targets. A leaf is any [`Op`] of the graph applied to [`View`]s; how it is computed is the
//! target's business. Everything with a size is an [`Extent`] over the named dimensions and the loop variables in scope.
//! The verifier ([`crate::verify::verify_program`]) lists what a program has to satisfy, [`crate::eval::eval_program`]
//! runs it.

mod address;
mod inplace;
mod prove;
mod recipe;
mod scope;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cranelift_entity::{PrimaryMap, entity_impl};

use crate::attrs::F64;
use crate::extent::{Dims, Extent, Sym};
use crate::graph::{ConstTable, State};
use crate::loc::Loc;
use crate::ops::{ConstId, Op};
use crate::propose::Schedule;
use crate::types::{DType, Layout, Shape, TensorType};

pub use address::{Addressing, AxisTerms, copy_bits, for_each_address, pack};
pub use inplace::{is_elementwise, may_overwrite, overwritable};
pub use prove::{Facts, Var};
pub use recipe::RecipeError;
pub use scope::{live_ranges, scopes};
pub use walk::{Access, LoopSpan, Walk};

/// A buffer of a [`Program`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(u32);
entity_impl!(BufferId, "%b");

/// A lowered model.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the model.
    pub name: Arc<str>,
    /// Declared ranges of named dimensions; loop variables are not among them.
    pub dims: Dims,
    /// The constants that recipes refer to.
    pub consts: ConstTable,
    /// Properties of memories, by name. A memory that is not listed is one byte-addressed space without limit.
    pub memories: BTreeMap<Arc<str>, Memory>,
    /// The buffers.
    pub buffers: PrimaryMap<BufferId, Buffer>,
    /// What is called `input` by the model, in order; states included.
    pub inputs: Vec<Binding>,
    /// What is called `output` by the model, in order; states included.
    pub outputs: Vec<Binding>,
    /// In-place states; positions are those of `inputs` and `outputs`.
    pub states: Vec<State>,
    /// The statements, in order.
    pub body: Vec<Stmt>,
}

/// An input or output of the model and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Its name in the model.
    pub name: Arc<str>,
    /// Its elements; `sizes` are the shape that callers see.
    pub view: View,
}

/// Properties of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes, per lane.
    pub capacity: Option<i64>,
    /// Alignment of buffers in bytes; a power of two.
    pub align: i64,
    /// Parallel copies of the address space (BM1684X: 64). Buffers here have a layout whose outermost dimension is a block of
    /// so many, and offsets count within a lane.
    pub lanes: u32,
    /// Equal slices of the capacity that can be used at the same time; 1 when there are none.
    pub banks: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self { capacity: None, align: 1, lanes: 1, banks: 1 }
    }
}

/// Names of the memories that lowering for a CPU uses.
pub mod memory {
    /// Graph inputs of the caller.
    pub const INPUT: &str = "input";
    /// Graph outputs of the caller.
    pub const OUTPUT: &str = "output";
    /// In-place states of the caller.
    pub const STATE: &str = "state";
    /// Constant data.
    pub const WEIGHTS: &str = "weights";
    /// Working memory.
    pub const ARENA: &str = "arena";
}

/// A tensor in a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// For readers; the ONNX tensor where there is one.
    pub name: Arc<str>,
    /// Element type.
    pub dtype: DType,
    /// Logical shape over the named dimensions.
    pub shape: Shape,
    /// How the elements lie in memory.
    pub layout: Layout,
    /// Name of the memory.
    pub memory: Arc<str>,
    /// What its contents are at the start and the end.
    pub role: Role,
    /// Byte offset in the memory (per lane), once planned. Over the named dimensions; constant for a static arena.
    pub offset: Option<Extent>,
    /// Only a part of one axis is held.
    pub window: Option<Window>,
    /// Shares the bytes of another buffer, which is no alias itself, from a byte offset on.
    pub alias: Option<(BufferId, Extent)>,
    /// Further properties a target needs, such as `bank`.
    pub attrs: BTreeMap<Arc<str>, i64>,
}

impl Buffer {
    /// A temporary buffer with a plain layout.
    pub fn temp(name: impl Into<Arc<str>>, dtype: DType, shape: Shape, memory: &str) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape,
            layout: Layout::PLAIN,
            memory: memory.into(),
            role: Role::Temp,
            offset: None,
            window: None,
            alias: None,
            attrs: BTreeMap::new(),
        }
    }

    /// The shape that is held in memory: the window's rows instead of the whole axis.
    pub fn held_shape(&self) -> Shape {
        let mut shape = self.shape.clone();
        if let Some(window) = &self.window
            && let Some(extent) = shape.get_mut(window.axis)
        {
            *extent = window.rows.clone();
        }
        shape
    }

    /// Bytes in memory, over all lanes.
    pub fn bytes(&self) -> Extent {
        TensorType::new(self.dtype, self.held_shape()).with_layout(self.layout.clone()).bytes()
    }

    /// Its type, seen as one tensor.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.clone()).with_layout(self.layout.clone())
    }
}

/// A buffer that holds only some indices of one axis; views keep counting along the whole axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The axis.
    pub axis: usize,
    /// How many of its indices are held.
    pub rows: Extent,
    /// Where index `i` lies.
    pub place: WindowPlace,
}

/// Where an index of a windowed axis lies.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowPlace {
    /// At `i mod rows`: a ring that keeps what was computed before.
    Rolling,
    /// At `i - origin`, with the origin over loop variables in scope at each use.
    From(Extent),
}

/// What a buffer's contents are at the start and the end.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Given by the caller: graph input of that position. Never written.
    Input(u32),
    /// Read by the caller: graph output of that position.
    Output(u32),
    /// Given, kept and read by the caller: state of that position.
    State(u32),
    /// Constant data. Never written.
    Weight(Recipe),
    /// Undefined at the start.
    Temp,
}

/// How constant data are made: a constant, through operators of one operand, laid out as the buffer says.
///
/// Evaluated once, by [`Recipe::eval`], for the package and for the interpreter alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The constant in the program's table.
    pub constant: ConstId,
    /// Operators of one operand and one result, applied in order.
    pub steps: Vec<Op>,
}

/// Part of a buffer: a box along its logical axes.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// First index per axis. May lie outside when there is a fill value.
    pub offsets: Vec<Extent>,
    /// Number of indices per axis.
    pub sizes: Vec<Extent>,
    /// What is read outside of the buffer: how padding of convolutions works at the borders of tiles. Rounded to the dtype.
    pub fill: Option<F64>,
}

impl View {
    /// All of a buffer.
    pub fn whole(id: BufferId, buffer: &Buffer) -> Self {
        Self { buffer: id, offsets: vec![Extent::ZERO; buffer.shape.len()], sizes: buffer.shape.clone(), fill: None }
    }

    /// Whether it is all of the buffer, in place.
    pub fn is_whole(&self, buffer: &Buffer) -> bool {
        self.sizes == buffer.shape && self.offsets.iter().all(|o| *o == Extent::ZERO)
    }

    /// The type of what is seen: plain, for type rules.
    pub fn ty(&self, buffer: &Buffer) -> TensorType {
        TensorType::new(buffer.dtype, self.sizes.clone())
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// A loop.
    For(For),
    /// A tensor operator on views.
    Leaf(Leaf),
    /// Starts a copy between memories; what it writes is undefined until the [`Stmt::Wait`] for its tag.
    Dma(Dma),
    /// Waits until every copy of that tag has landed.
    Wait(u32),
}

/// A loop over tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct For {
    /// Loop variable; differs from all dimensions and enclosing variables.
    pub var: Sym,
    /// First value.
    pub lo: Extent,
    /// Values stay below.
    pub hi: Extent,
    /// Distance of values; positive.
    pub step: i64,
    /// Iterations do not depend on one another.
    pub parallel: bool,
    /// What is done for each.
    pub body: Vec<Stmt>,
}

/// A tensor operator on views.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The operator; extents among its attributes may mention dimensions and loop variables.
    pub op: Op,
    /// Its operands; `None` where an optional one is left out.
    pub inputs: Vec<Option<View>>,
    /// Its results.
    pub outputs: Vec<View>,
    /// How the target computes it, once chosen.
    pub schedule: Option<Schedule>,
    /// The source nodes it stands for.
    pub loc: Loc,
}

/// A copy between memories.
#[derive(Clone, Debug, PartialEq)]
pub struct Dma {
    /// What is written.
    pub dst: View,
    /// What is read; no fill.
    pub src: View,
    /// Which [`Stmt::Wait`] makes it visible.
    pub tag: u32,
}

impl Program {
    /// A program without statements.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            dims: Dims::new(),
            consts: ConstTable::default(),
            memories: BTreeMap::new(),
            buffers: PrimaryMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            states: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The buffer that owns the bytes of a buffer: itself unless it is an alias.
    pub fn root(&self, id: BufferId) -> BufferId {
        self.buffers[id].alias.as_ref().map_or(id, |(base, _)| *base)
    }

    /// Calls `visit` on every leaf, in order.
    pub fn for_each_leaf<'a>(&'a self, visit: &mut dyn FnMut(&'a Leaf)) {
        fn block<'a>(body: &'a [Stmt], visit: &mut dyn FnMut(&'a Leaf)) {
            for stmt in body {
                match stmt {
                    Stmt::For(inner) => block(&inner.body, visit),
                    Stmt::Leaf(leaf) => visit(leaf),
                    Stmt::Dma(_) | Stmt::Wait(_) => {}
                }
            }
        }
        block(&self.body, visit);
    }

    /// Properties of a buffer's memory.
    pub fn memory_of(&self, buffer: &Buffer) -> Memory {
        self.memories.get(&buffer.memory).copied().unwrap_or_default()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::text::print_program(self, f)
    }
}
