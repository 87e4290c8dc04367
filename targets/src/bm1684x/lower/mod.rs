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
mod refusal;
pub mod requant;
mod resize;
mod softmax;
mod sums;
mod tables;
mod values;
mod weights;
mod window;

use pools::{pool, window_strides};
pub use quantize::is_elementwise;
use refusal::refuse;
pub use refusal::{AllUnsupported, Refusal, Unsupported};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use adze_ir::attrs::F64;
use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::ops::{Op, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::isa::Prec;
use super::machine::{LANE_BYTES, MAX_EXTENT};
use super::tile::Tiled;
use build::{Draft, Home, Piece};
use commands::Stored;
use places::Region;

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

/// Lowers a few nodes between tensors that are in local memory, and results that stay there; `None` where one does not lower. For
/// what they cost.
pub fn lower_alone(graph: &Graph, half: Option<Prec>) -> Option<Draft> {
    let mut memo = Memo::default();
    let mut lowering = Lowering::new(graph, half, LANE_BYTES, &mut memo);
    let read: BTreeSet<ValueId> = graph.nodes().flat_map(|(_, node)| node.inputs.iter().flatten().copied()).collect();
    let ends = graph.nodes().flat_map(|(_, node)| &node.outputs).filter(|value| !read.contains(value));
    lowering.made.extend(ends.filter(|&&value| graph.ty(value).dtype.is_float()));
    for &value in graph.inputs() {
        let home = lowering.local(value)?;
        lowering.values.insert(value, Where::Local(home));
    }
    graph.nodes().try_for_each(|(_, node)| lowering.node(node)).ok()?;
    Some(lowering.draft)
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

    /// Whether the first result is of 8-bit integers.
    fn is_bytes(&self, node: &Node) -> bool {
        byte_type(self.graph.ty(node.outputs[0])).is_ok()
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
        Ok(Some(if self.leaves(result) { home } else { self.draft.reshape(home, shape) }))
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
