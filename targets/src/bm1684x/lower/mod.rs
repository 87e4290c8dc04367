//! A graph as steps: commands on buffers that have no place yet.
//!
//! The graph is one whose networks are integer already (pass `integers`). Activations stay in local memory from the command
//! that makes them to the last one that reads them; constants come from DDR memory, a copy per layer; only inputs and outputs
//! of the graph go there besides. Between integers, a `quantize` is lowered together with the float operators in front of it
//! (`quantize`); other values of floats have 16 bits, where the caller chose that (`float`).

mod apart;
mod axes;
mod blocks;
mod borders;
pub mod build;
pub mod commands;
mod conv;
mod float;
mod layers;
mod moves;
pub mod places;
mod pools;
mod products;
mod quantize;
mod reduce;
pub mod requant;
mod resize;
mod softmax;
mod sums;
mod tables;
mod weights;
mod window;

use pools::{pool, window_strides};
pub use quantize::is_elementwise;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use adze_ir::attrs::F64;
use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::{Op, Slice, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::isa::Prec;
use super::machine::MAX_EXTENT;
use super::tile::{Tiled, Whole};
use build::{Draft, Home, Piece};
use commands::Stored;
use places::Region;

/// What the chip has no commands for, or adze none yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, accepted on bm1684x: {accepted}")]
pub struct Unsupported {
    /// The node or output.
    pub place: String,
    /// Source nodes, if it is a node.
    pub names: Vec<Arc<str>>,
    /// The node of the graph without which the rest could do; `None` where there is no such node.
    pub node: Option<NodeId>,
    /// What is there.
    pub found: String,
    /// What could be.
    pub accepted: String,
}

impl Unsupported {
    /// Something about a graph as a whole.
    pub fn of_graph(found: String, accepted: impl Into<String>) -> Self {
        Self { place: "graph".into(), names: Vec::new(), node: None, found, accepted: accepted.into() }
    }
}

/// All of a graph that is [`Unsupported`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllUnsupported(pub Vec<Unsupported>);

impl std::error::Error for AllUnsupported {}

impl fmt::Display for AllUnsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl From<Unsupported> for AllUnsupported {
    fn from(one: Unsupported) -> Self {
        Self(vec![one])
    }
}

/// Why a node does not lower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An [`Unsupported`] whose node is known further up.
    Found {
        /// What is there.
        found: String,
        /// What could be.
        accepted: String,
    },
    /// It reads the result of a node that was refused already.
    Follows,
}

impl Refusal {
    /// What is to be said about a place, if it was not said before.
    fn at(self, place: String, names: &[Arc<str>], node: Option<NodeId>) -> Option<Unsupported> {
        match self {
            Refusal::Found { found, accepted } => {
                Some(Unsupported { place, names: names.to_vec(), node, found, accepted })
            }
            Refusal::Follows => None,
        }
    }
}

/// Refuses something.
fn refuse<T>(found: impl Into<String>, accepted: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Found { found: found.into(), accepted: accepted.into() })
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// In local memory.
    Local(Home),
    /// In DDR memory, contiguous.
    Ddr(Piece),
}

/// A sum of two tensors: its node by position, scale and zero point of both.
type SumKey = (usize, [(u32, i64); 2]);

/// What takes long to find and is the same however a graph is cut.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    ways: HashMap<Vec<[u64; 8]>, Option<requant::Way>>,
    /// By unit and terms: in parts their order may be another one.
    sums: HashMap<SumKey, (usize, sums::SumForm)>,
    weights: HashMap<layers::LayerKey, Arc<weights::Weights>>,
    packed: HashMap<layers::PartKey, layers::Packed>,
    wholes: HashMap<layers::LayerKey, Arc<[u8]>>,
}

/// A graph being lowered.
struct Lowering<'a> {
    memo: &'a mut Memo,
    graph: &'a Graph,
    draft: Draft,
    values: BTreeMap<ValueId, Where>,
    lane_bytes: u32,
    /// The type of floats that are made.
    real: Prec,
    /// Floats that are made.
    made: BTreeSet<ValueId>,
    /// Those that keep 32 bits.
    wide: BTreeSet<ValueId>,
    /// Results of nodes that do not lower.
    refused: BTreeSet<ValueId>,
    /// Values that are stored when they are made, with where.
    stored: BTreeMap<ValueId, (Stored, [u32; 2])>,
    /// Parts of values that are put together in local memory: of which value, its shape, where.
    joined: BTreeMap<ValueId, (ValueId, [u32; 4], Region)>,
    /// Values that lie in DDR memory once their parts are stored; `None` for what is there only as part of another.
    spilled: BTreeMap<ValueId, Option<Piece>>,
}

/// The values of a graph that are in memory at some time: integers, and floats that are not lowered together with a `quantize`.
pub fn made(graph: &Graph, half: Option<Prec>) -> BTreeSet<ValueId> {
    let mut memo = Memo::default();
    let lowering = Lowering::new(graph, half, 0, &mut memo);
    let computed = graph.nodes().filter(|(_, node)| !matches!(node.op, Op::Constant(_)));
    let integers = computed.flat_map(|(_, node)| &node.outputs).filter(|&&value| !graph.ty(value).dtype.is_float());
    lowering.made.iter().chain(integers).copied().collect()
}

/// Lowers a graph; `half` is the type of 16 bits that floats get, `lane_bytes` the local memory that there is per lane.
///
/// # Errors
/// [`Unsupported`] for every node that does not lower, but for those that only follow another.
pub fn lower(tiled: &Tiled, half: Option<Prec>, lane_bytes: u32, memo: &mut Memo) -> Result<Draft, AllUnsupported> {
    let graph = &tiled.graph;
    let mut lowering = Lowering::new(graph, half, lane_bytes, memo);
    if let Some((name, _)) = graph.dims.iter().next() {
        let found = format!("named dimension `{name}`");
        return Err(Unsupported::of_graph(found, "fixed shapes (--dim)").into());
    }
    let mut unsupported = Vec::new();
    if let Err(refusal) = tiled.wholes.iter().try_for_each(|whole| lowering.assemble(whole)) {
        unsupported.extend(refusal.at("graph".into(), &[], None));
    }
    for (id, node) in graph.nodes() {
        lowering.draft.loc = node.loc.clone();
        lowering.draft.unit = tiled.units.get(&id).copied();
        lowering.draft.keep_constants(tiled.resident.get(&id).copied());
        if let Err(refusal) = lowering.node(node) {
            let names = node.loc.names().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            unsupported.extend(refusal.at(format!("node {names} ({})", node.op.name()), node.loc.names(), Some(id)));
            lowering.refused.extend(&node.outputs);
        }
    }
    for (index, output) in graph.outputs().iter().enumerate() {
        if matches!(lowering.values.get(&output.value), Some(Where::Ddr(piece)) if *piece == Piece::Output(index)) {
            continue;
        }
        if let Err(refusal) = lowering.store(output.value, Piece::Output(index)) {
            let node = graph.producer(output.value).map(|(id, _)| id);
            unsupported.extend(refusal.at(format!("output `{}`", output.name), &[], node));
        }
    }
    if unsupported.is_empty() { Ok(lowering.draft) } else { Err(AllUnsupported(unsupported)) }
}

/// Element type of integers that stay as they are.
fn byte_type(ty: &TensorType) -> Result<(Prec, bool), Refusal> {
    match ty.dtype {
        DType::I8 => Ok((Prec::Int8, true)),
        DType::U8 => Ok((Prec::Int8, false)),
        other => {
            refuse(format!("a tensor of {other}"), "i8 or u8 (quantize the model, with integer inputs and outputs)")
        }
    }
}

/// A shape as N, C, H, W.
///
/// # Errors
/// [`Refusal`] for other ranks and extents.
pub fn extents(shape: &[usize]) -> Result<[u32; 4], Refusal> {
    let shape4 = match *shape {
        [] => [1, 1, 1, 1],
        [c] => [1, c, 1, 1],
        [n, c] => [n, c, 1, 1],
        [n, c, w] => [n, c, 1, w],
        [n, c, h, w] => [n, c, h, w],
        _ => return refuse(format!("rank {}", shape.len()), "rank 0 to 4"),
    };
    let fits = shape4.iter().all(|d| (1..=MAX_EXTENT as usize).contains(d));
    if fits {
        Ok(shape4.map(|d| d as u32))
    } else {
        refuse(format!("shape {shape:?}"), format!("extents of 1 to {MAX_EXTENT}"))
    }
}

/// Where an axis of a tensor of some rank is among N, C, H and W.
fn place_of(rank: usize, axis: usize) -> usize {
    match (rank, axis) {
        (1, _) => 1,
        (3, 2) => 3,
        (_, axis) => axis.min(3),
    }
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, half: Option<Prec>, lane_bytes: u32, memo: &'a mut Memo) -> Self {
        let values = graph.inputs().iter().enumerate().map(|(index, &value)| (value, Where::Ddr(Piece::Input(index))));
        let mut lowering = Lowering {
            memo,
            graph,
            draft: Draft::default(),
            values: values.collect(),
            lane_bytes,
            real: half.unwrap_or(Prec::Fp32),
            made: BTreeSet::new(),
            wide: BTreeSet::new(),
            refused: BTreeSet::new(),
            stored: BTreeMap::new(),
            joined: BTreeMap::new(),
            spilled: BTreeMap::new(),
        };
        lowering.made = lowering.wanted_floats();
        lowering.wide = lowering.wide_values();
        lowering
    }

    /// Constant operand of a node.
    fn constant(&self, node: &Node, index: usize) -> Result<&'a Tensor, Refusal> {
        let value = node.inputs.get(index).copied().flatten();
        match value.and_then(|value| self.graph.constant(value)?.data()) {
            Some(tensor) => Ok(tensor),
            None => refuse(format!("operand {index} that is computed"), "a constant"),
        }
    }
}

impl Lowering<'_> {
    /// Lowers a node.
    fn node(&mut self, node: &Node) -> Result<(), Refusal> {
        let float = |value: &ValueId| self.graph.ty(*value).dtype.is_float();
        let unused = node.outputs.iter().all(|value| float(value) && !self.made.contains(value));
        if matches!(node.op, Op::Constant(_)) || unused {
            return Ok(());
        }
        let ranks = node.inputs.iter().flatten().map(|&value| self.graph.ty(value).rank());
        let any = matches!(node.op, Op::Reshape(_) | Op::Transpose(_) | Op::Gather(_) | Op::MaxPool(_));
        if let (Some(rank @ 5..), false) = (ranks.max(), any) {
            return refuse(
                format!("an operand of rank {rank}"),
                "rank 0 to 4, but for reshapes, transposes, gathers, max pools",
            );
        }
        let home = match &node.op {
            // Of parts that are stored already; a concatenation of the model's is stored itself.
            Op::Concat(_)
                if self.spilled.contains_key(&node.outputs[0]) && !self.stored.contains_key(&node.outputs[0]) =>
            {
                self.now_in_ddr(node.outputs[0]);
                return Ok(());
            }
            Op::QLinearConv(conv) => self.qlinear_conv(node, conv)?,
            Op::QLinearMatMul(op) if self.is_computed(node, 3) => self.byte_product(node, op)?,
            Op::QLinearMatMul(op) => self.qlinear_matmul(node, op)?,
            Op::MatMulInteger(_) => self.matmul_integer(node)?,
            Op::Quantize(op) => self.quantize(node, op)?,
            Op::MaxPool(op) => self.max_pool(node, op)?,
            Op::Reduce(op) if self.is_bytes(node) => self.largest(node, op)?,
            Op::Clip(op) if self.is_bytes(node) => {
                let [low, high] = [op.min, op.max].map(|bound| bound.map(F64::get));
                self.clip(node, low, high)?
            }
            Op::Unary(op) if op.function == UnaryFn::Relu && self.is_bytes(node) => self.clip(node, Some(0.0), None)?,
            Op::Binary(op) if self.graph.ty(node.outputs[0]).dtype == DType::Bool => self.compare(node, op.function)?,
            Op::Binary(op) if self.is_sum(node) => self.add_constant(node, op.function)?,
            Op::Pad(op) => self.pad(node, op)?,
            Op::Reshape(_) => match self.reshape(node)? {
                Some(home) => home,
                None => return Ok(()),
            },
            Op::Transpose(op) => self.transpose(node, &op.perm)?,
            Op::Slice(op) => match self.slice_of_ddr(node, op)? {
                Some(part) => part,
                None => self.slice(node, op)?,
            },
            Op::Concat(op) => self.concat(node, op)?,
            Op::Split(op) => return self.split(node, op),
            Op::Expand(op) => self.expand(node, op)?,
            Op::Gather(op) => self.gather(node, op)?,
            Op::Resize(op) => self.resize(node, op)?,
            Op::ArgReduce(op) => self.arg_reduce(node, op)?,
            Op::DepthToSpace(op) => self.depth_to_space(node, op)?,
            Op::SpaceToDepth(op) => self.space_to_depth(node, op)?,
            _ if node.outputs.iter().all(float) => self.float_node(node)?,
            op => {
                let accepted = "quantized convolutions and matrix products, max pools, reshapes, and what stands between \
                                `dequantize` and `quantize`";
                return refuse(format!("`{}`", op.name()), accepted);
            }
        };
        self.keep(node.outputs[0], home);
        Ok(())
    }

    /// Remembers where a value is, and stores it when it is to be in DDR memory or part of another value.
    fn keep(&mut self, value: ValueId, home: Home) {
        self.values.insert(value, Where::Local(home));
        if let Some(&(whole, shape, to)) = self.joined.get(&value) {
            let result = match self.values.get(&whole) {
                Some(&Where::Local(result)) if whole != value => result,
                _ => self.draft.tensor(home.prec, home.signed, shape),
            };
            self.values.insert(whole, Where::Local(result));
            self.draft.copy_region(home, Region::default(), result, to, home.shape);
        }
        if let Some(&(to, at)) = self.stored.get(&value) {
            let [n, c, h, w] = self.shape(value).unwrap_or(home.shape);
            let lanes = home.shape[1] / c;
            if lanes > 1 && home.shape == [n, c * lanes, h / lanes, w] && h.is_multiple_of(lanes) {
                self.draft.store_over_lanes(home, lanes, to, at);
            } else if home.prec.is_int() {
                self.draft.store_part(home, to, at);
            } else {
                self.store_floats_part(home, to, at);
            }
            self.now_in_ddr(value);
        }
    }

    /// Makes room for a tensor in DDR memory, where an output's is that of the output, or notes how it is put together.
    fn assemble(&mut self, whole: &Whole) -> Result<(), Refusal> {
        let ty = self.graph.ty(whole.value);
        let shape = self.shape(whole.value)?;
        if whole.local {
            let at = |[n, h]: [usize; 2]| Region { at: [n as u32, 0, h as u32, 0], ..Region::default() };
            let parts = whole.parts.iter().filter(|(part, _)| *part != whole.value);
            self.joined.extend(parts.map(|&(part, to)| (part, (whole.value, shape, at(to)))));
            self.spilled.extend(whole.inner.iter().chain([&whole.value]).map(|&value| (value, None)));
            return Ok(());
        }
        let output = self.graph.outputs().iter().position(|output| output.value == whole.value).map(Piece::Output);
        let (prec, signed) = match ty.dtype {
            _ if output.is_none() && self.is_real(whole.value) => (self.type_of(whole.value), true),
            dtype if dtype.is_float() => (self.float_in(output, dtype)?, true),
            DType::I32 if output.is_none() => (Prec::Int32, true),
            _ => byte_type(ty)?,
        };
        let piece = output.unwrap_or_else(|| self.draft.room(shape, prec));
        let to = Stored { piece, shape, prec, signed };
        for &(value, at) in &whole.parts {
            self.stored.insert(value, (to, at.map(|at| at as u32)));
        }
        self.spilled.insert(whole.value, Some(piece));
        self.spilled.extend(whole.inner.iter().map(|&value| (value, None)));
        Ok(())
    }

    /// Forgets that a value was in local memory: who reads it loads it again.
    fn now_in_ddr(&mut self, value: ValueId) {
        if let Some(&Some(piece)) = self.spilled.get(&value) {
            self.values.insert(value, Where::Ddr(piece));
        }
    }

    /// Loads part of a tensor in DDR memory along N and H; `None` for other parts and places.
    fn slice_of_ddr(&mut self, node: &Node, op: &Slice) -> Result<Option<Home>, Refusal> {
        let Some(value) = node.inputs[0] else { return refuse("no operand", "one") };
        let Some(&Where::Ddr(piece)) = self.values.get(&value) else { return Ok(None) };
        let ty = self.graph.ty(value);
        let (prec, signed) = match ty.dtype {
            _ if matches!(piece, Piece::Spill(_)) && self.is_real(value) => (self.type_of(value), true),
            dtype if dtype.is_float() => (self.float_in(Some(piece), dtype)?, true),
            DType::I32 => (Prec::Int32, true),
            DType::I8 | DType::U8 => byte_type(ty)?,
            _ => return Ok(None),
        };
        let (from, shape) = (self.shape(value)?, self.shape(node.outputs[0])?);
        let mut at = [0; 2];
        for (axis, start) in op.axes.iter().zip(&op.starts) {
            let start = start.as_const().and_then(|start| u32::try_from(start).ok());
            let rank = self.graph.ty(value).rank();
            match (axis, start) {
                (0, Some(start)) if rank > 1 => at[0] = start,
                (2, Some(start)) if rank == 4 => at[1] = start,
                _ => return Ok(None),
            }
        }
        if op.steps.iter().any(|&step| step != 1) {
            return Ok(None);
        }
        let from = Stored { piece, shape: from, prec, signed };
        Ok(Some(if prec.is_int() || self.wide.contains(&value) {
            self.draft.load_part(from, at, shape)
        } else {
            self.load_floats_part(from, at, shape)
        }))
    }

    /// Whether a value is of floats on the chip, as truth values are.
    fn is_real(&self, value: ValueId) -> bool {
        let dtype = self.graph.ty(value).dtype;
        dtype.is_float() || dtype == DType::Bool
    }

    /// Extents of a value.
    fn shape(&self, value: ValueId) -> Result<[u32; 4], Refusal> {
        let ty = self.graph.ty(value);
        match ty.fixed_shape() {
            Some(shape) => extents(&shape),
            None => refuse(format!("{ty}"), "fixed shapes"),
        }
    }

    /// A value in local memory, loaded when it is not there.
    fn home(&mut self, value: ValueId) -> Result<Home, Refusal> {
        match self.values.get(&value).copied() {
            Some(Where::Local(home)) => Ok(home),
            Some(Where::Ddr(piece)) => {
                let (ty, shape) = (self.graph.ty(value), self.shape(value)?);
                let home = if matches!(piece, Piece::Spill(_)) && self.is_real(value) {
                    self.draft.load(piece, self.type_of(value), true, shape)
                } else if ty.dtype.is_float() {
                    let (prec, signed) = (self.float_in(Some(piece), ty.dtype)?, true);
                    self.load_floats_part(Stored { piece, shape, prec, signed }, [0, 0], shape)
                } else if matches!(ty.dtype, DType::I32 | DType::I64) {
                    self.load_words(piece, ty.dtype, shape)
                } else {
                    let (prec, signed) = byte_type(ty)?;
                    self.draft.load(piece, prec, signed, shape)
                };
                self.values.insert(value, Where::Local(home));
                Ok(home)
            }
            None if self.refused.contains(&value) => Err(Refusal::Follows),
            None => refuse("a constant", "a value that depends on the inputs"),
        }
    }

    /// Loads integers as those of 32 bits.
    fn load_words(&mut self, piece: Piece, dtype: DType, shape: [u32; 4]) -> Home {
        if dtype == DType::I64 {
            self.draft.notes.push(format!("integers of 64 bits {} are read as 32 bits", self.draft.loc));
        }
        let step = if dtype == DType::I64 { 2 } else { 1 };
        self.draft.load_apart(piece, Prec::Int32, shape, step)
    }

    /// Stores an output.
    fn store(&mut self, value: ValueId, piece: Piece) -> Result<(), Refusal> {
        let dtype = self.graph.ty(value).dtype;
        let home = self.home(value)?;
        if dtype.is_float() {
            return self.store_floats(home, piece, dtype);
        }
        match dtype {
            DType::I32 if home.prec == Prec::Int32 => self.draft.store(home, piece),
            DType::I64 if self.is_counted(value) && home.shape[1].max(home.shape[3]) <= MAX_EXTENT / 2 => {
                self.draft.store_pairs(home, piece);
            }
            _ => {
                byte_type(self.graph.ty(value))?;
                self.draft.store(home, piece);
            }
        }
        Ok(())
    }

    /// Whether integers of 64 bits are positions that were counted here, so that they have 32 bits.
    fn is_counted(&self, value: ValueId) -> bool {
        match self.graph.producer(value).map(|(_, node)| node) {
            Some(Node { op: Op::ArgReduce(_), .. }) => true,
            Some(Node { op: Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_), inputs, .. }) => {
                inputs[0].is_some_and(|value| self.is_counted(value))
            }
            _ => false,
        }
    }

    /// Whether the first result is of 8-bit integers.
    fn is_bytes(&self, node: &Node) -> bool {
        byte_type(self.graph.ty(node.outputs[0])).is_ok()
    }

    /// Operand of a node in local memory.
    fn input(&mut self, node: &Node, index: usize) -> Result<Home, Refusal> {
        match node.inputs.get(index).copied().flatten() {
            Some(value) => self.home(value),
            None => refuse(format!("no operand {index}"), "one"),
        }
    }

    /// Whether an operand of a node is no constant.
    fn is_computed(&self, node: &Node, index: usize) -> bool {
        node.inputs.get(index).copied().flatten().is_some_and(|value| self.graph.constant(value).is_none())
    }

    /// The same bytes in another shape; `None` where they stay in DDR memory, or are floats.
    fn reshape(&mut self, node: &Node) -> Result<Option<Home>, Refusal> {
        let (Some(value), result) = (node.inputs[0], node.outputs[0]) else { return refuse("no operand", "one") };
        if self.graph.ty(result).rank() > 4 {
            // Its elements lie as they did; only operators that go by axes see more of them.
            return Ok(Some(self.home(value)?));
        }
        let shape = self.shape(result)?;
        if let (Some(&Where::Ddr(piece)), false) = (self.values.get(&value), self.stored.contains_key(&result)) {
            self.values.insert(result, Where::Ddr(piece));
            return Ok(None);
        }
        let home = self.home(value)?;
        let read = self.graph.nodes().any(|(_, reader)| reader.inputs.contains(&Some(result)));
        if !read && !self.stored.contains_key(&result) {
            // What only leaves lies in memory the same.
            return Ok(Some(home));
        }
        Ok(Some(self.draft.reshape(home, shape)))
    }

    fn transpose(&mut self, node: &Node, perm: &[usize]) -> Result<Home, Refusal> {
        let (Some(value), result) = (node.inputs[0], node.outputs[0]) else { return refuse("no operand", "one") };
        let there = self.values.get(&value).copied();
        if self.refused.contains(&value) {
            return Err(Refusal::Follows);
        }
        let ty = self.graph.ty(result);
        if perm.len() > 4 {
            let x = self.home(value)?;
            let dims = self.dims(Some(value));
            return self.permuted_axes(x, &dims, perm);
        }
        let shape = self.shape(result)?;
        if let ([0, 3, 1, 2], Some(Where::Ddr(piece))) = (perm, there)
            && shape[2] * shape[3] <= MAX_EXTENT
        {
            if ty.dtype.is_float() {
                return self.load_floats_last(piece, self.float_in(Some(piece), ty.dtype)?, shape);
            }
            let (prec, signed) = byte_type(ty)?;
            return Ok(self.draft.load_channels_last(piece, prec, signed, shape));
        }
        let x = self.home(value)?;
        let mut axes = [0, 1, 2, 3];
        for (to, &from) in perm.iter().enumerate() {
            axes[place_of(perm.len(), to)] = place_of(perm.len(), from);
        }
        Ok(self.permuted(x, axes, shape))
    }

    /// Bounds integers.
    fn clip(&mut self, node: &Node, low: Option<f64>, high: Option<f64>) -> Result<Home, Refusal> {
        let mut x = self.input(node, 0)?;
        let (least, most) = requant::byte_range(x.signed);
        // What is no integer bounds like the next one inside; a cast saturates.
        let low = low.map_or(least, |v| v.ceil() as i64).clamp(least, most);
        let high = high.map_or(most, |v| v.floor() as i64).clamp(least, most);
        for (operation, bound, needed) in [(4, low, low > least), (5, high, high < most)] {
            if needed {
                let result = self.draft.tensor(Prec::Int8, x.signed, x.shape);
                self.draft.with_constant(operation, x, Prec::Int8, bound as u32 & 0xff, result);
                x = result;
            }
        }
        Ok(x)
    }
}
