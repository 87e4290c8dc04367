//! A graph as steps: commands on buffers that have no place yet.
//!
//! The graph is one whose networks are integer already (pass `integers`). Activations stay in local memory from the command
//! that makes them to the last one that reads them; constants come from DDR memory, a copy per layer; only inputs and outputs
//! of the graph go there besides. Values of floats are never made: a `quantize` is lowered together with the float operators
//! in front of it (`quantize`).

pub mod build;
pub mod commands;
mod conv;
mod quantize;
pub mod requant;
mod softmax;

pub use quantize::is_elementwise;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::ops::{MaxPool, Op, Pad, PadMode, Slice, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::isa::{Pool, Prec};
use super::machine::{MAX_EXTENT, MAX_WINDOW};
use super::tile::{Spill, Tiled};
use build::{Draft, Home, Piece, Place};
use commands::Stored;

/// What the chip has no commands for, or adze none yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, accepted on bm1684x: {accepted}")]
pub struct Unsupported {
    /// The node or output.
    pub place: String,
    /// Source nodes, if it is a node.
    pub names: Vec<Arc<str>>,
    /// What is there.
    pub found: String,
    /// What could be.
    pub accepted: String,
}

impl Unsupported {
    /// Something about a graph as a whole.
    pub fn of_graph(found: String, accepted: impl Into<String>) -> Self {
        Self { place: "graph".into(), names: Vec::new(), found, accepted: accepted.into() }
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
    fn at(self, place: String, names: &[Arc<str>]) -> Option<Unsupported> {
        match self {
            Refusal::Found { found, accepted } => Some(Unsupported { place, names: names.to_vec(), found, accepted }),
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

/// Bits of the scale, and zero point, of both terms of a sum.
type Terms = [(u32, i64); 2];

/// What takes long to find and is the same however a graph is cut.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    ways: HashMap<Vec<[u64; 8]>, Option<requant::Way>>,
    /// By unit and terms: in parts their order may be another one.
    sums: HashMap<(usize, Terms), (usize, quantize::SumForm)>,
}

/// A graph being lowered.
struct Lowering<'a> {
    memo: &'a mut Memo,
    graph: &'a Graph,
    draft: Draft,
    values: BTreeMap<ValueId, Where>,
    /// Results of nodes that do not lower.
    refused: BTreeSet<ValueId>,
    /// Values that are stored when they are made, with where.
    stored: BTreeMap<ValueId, (Stored, [u32; 2])>,
    /// Values that lie in DDR memory once their parts are stored; `None` for what is there only as part of another.
    spilled: BTreeMap<ValueId, Option<Piece>>,
}

/// Lowers a graph.
///
/// # Errors
/// [`Unsupported`] for every node that does not lower, but for those that only follow another.
pub fn lower(tiled: &Tiled, memo: &mut Memo) -> Result<Draft, AllUnsupported> {
    let graph = &tiled.graph;
    let values = graph.inputs().iter().enumerate().map(|(index, &value)| (value, Where::Ddr(Piece::Input(index))));
    let mut lowering = Lowering {
        memo,
        graph,
        draft: Draft::default(),
        values: values.collect(),
        refused: BTreeSet::new(),
        stored: BTreeMap::new(),
        spilled: BTreeMap::new(),
    };
    if let Some((name, _)) = graph.dims.iter().next() {
        let found = format!("named dimension `{name}`");
        return Err(Unsupported::of_graph(found, "fixed shapes (--dim)").into());
    }
    let mut unsupported = Vec::new();
    if let Err(refusal) = tiled.spills.iter().try_for_each(|spill| lowering.spill(spill)) {
        unsupported.extend(refusal.at("graph".into(), &[]));
    }
    for (id, node) in graph.nodes() {
        lowering.draft.loc = node.loc.clone();
        lowering.draft.unit = tiled.units.get(&id).copied();
        lowering.draft.keep_constants(tiled.resident.get(&id).copied());
        if let Err(refusal) = lowering.node(node) {
            let names = node.loc.names().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            unsupported.extend(refusal.at(format!("node {names} ({})", node.op.name()), node.loc.names()));
            lowering.refused.extend(&node.outputs);
        }
    }
    for (index, output) in graph.outputs().iter().enumerate() {
        if matches!(lowering.values.get(&output.value), Some(Where::Ddr(piece)) if *piece == Piece::Output(index)) {
            continue;
        }
        match lowering.home(output.value) {
            Ok(home) => lowering.draft.store(home, Piece::Output(index)),
            Err(refusal) => unsupported.extend(refusal.at(format!("output `{}`", output.name), &[])),
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

impl Lowering<'_> {
    fn node(&mut self, node: &Node) -> Result<(), Refusal> {
        let home = match &node.op {
            Op::Constant(_) => return Ok(()),
            Op::Concat(_) if self.spilled.contains_key(&node.outputs[0]) => {
                self.now_in_ddr(node.outputs[0]);
                return Ok(());
            }
            Op::Slice(op) => self.slice(node, op)?,
            Op::QLinearConv(conv) => self.qlinear_conv(node, conv)?,
            Op::QLinearMatMul(op) => self.qlinear_matmul(node, op)?,
            Op::Quantize(op) => self.quantize(node, op)?,
            Op::MaxPool(op) => self.max_pool(node, op)?,
            Op::Clip(op) if self.is_bytes(node) => {
                let [low, high] = [op.min, op.max].map(|bound| bound.map(F64::get));
                self.clip(node, low, high)?
            }
            Op::Unary(op) if op.function == UnaryFn::Relu && self.is_bytes(node) => self.clip(node, Some(0.0), None)?,
            Op::Pad(op) if self.is_bytes(node) => self.pad(node, op)?,
            Op::Reshape(_) => match self.reshape(node)? {
                Some(home) => home,
                None => return Ok(()),
            },
            Op::Transpose(op) => self.transpose(node, &op.perm)?,
            op => {
                let floats = node.outputs.iter().all(|&value| self.graph.ty(value).dtype.is_float());
                let accepted = "quantized convolutions and matrix products, max pools, reshapes, and what stands between \
                                `dequantize` and `quantize`";
                return if floats { Ok(()) } else { refuse(format!("`{}`", op.name()), accepted) };
            }
        };
        let value = node.outputs[0];
        self.values.insert(value, Where::Local(home));
        if let Some(&(to, at)) = self.stored.get(&value) {
            self.draft.store_part(home, to, at);
            self.now_in_ddr(value);
        }
        Ok(())
    }

    /// Makes room for a tensor in DDR memory; an output's is that of the output.
    fn spill(&mut self, spill: &Spill) -> Result<(), Refusal> {
        let (prec, signed) = byte_type(self.graph.ty(spill.value))?;
        let shape = self.shape(spill.value)?;
        let output = self.graph.outputs().iter().position(|output| output.value == spill.value);
        let piece = output.map_or_else(|| self.draft.room(shape, prec), Piece::Output);
        let to = Stored { piece, shape, prec, signed };
        for &(value, at) in &spill.parts {
            self.stored.insert(value, (to, at.map(|at| at as u32)));
        }
        self.spilled.insert(spill.value, Some(piece));
        self.spilled.extend(spill.inner.iter().map(|&value| (value, None)));
        Ok(())
    }

    /// Forgets that a value was in local memory: who reads it loads it again.
    fn now_in_ddr(&mut self, value: ValueId) {
        if let Some(&Some(piece)) = self.spilled.get(&value) {
            self.values.insert(value, Where::Ddr(piece));
        }
    }

    /// Part of a tensor along N and H.
    fn slice(&mut self, node: &Node, op: &Slice) -> Result<Home, Refusal> {
        let accepted = "one along N and H, without steps";
        let Some(value) = node.inputs[0] else { return refuse("no operand", "one") };
        let (prec, signed) = byte_type(self.graph.ty(node.outputs[0]))?;
        let (from, shape) = (self.shape(value)?, self.shape(node.outputs[0])?);
        let mut at = [0; 2];
        for (axis, start) in op.axes.iter().zip(&op.starts) {
            let start = start.as_const().and_then(|start| u32::try_from(start).ok());
            let rank = self.graph.ty(value).rank();
            match (axis, start) {
                (0, Some(start)) if rank > 1 => at[0] = start,
                (2, Some(start)) if rank == 4 => at[1] = start,
                _ => return refuse(format!("a slice along axis {axis}"), accepted),
            }
        }
        if op.steps.iter().any(|&step| step != 1) {
            return refuse(format!("a slice with steps {:?}", op.steps), accepted);
        }
        if let Some(&Where::Ddr(piece)) = self.values.get(&value) {
            return Ok(self.draft.load_part(Stored { piece, shape: from, prec, signed }, at, shape));
        }
        let home = self.home(value)?;
        match self.draft.part(home, at, shape) {
            Some(part) => Ok(part),
            None => refuse(format!("a slice of {from:?}"), "planes of less than 65536 bytes"),
        }
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
                let (prec, signed) = byte_type(self.graph.ty(value))?;
                let home = self.draft.load(piece, prec, signed, self.shape(value)?);
                self.values.insert(value, Where::Local(home));
                Ok(home)
            }
            None if self.refused.contains(&value) => Err(Refusal::Follows),
            None => {
                byte_type(self.graph.ty(value))?;
                refuse("a constant", "a value that depends on the inputs")
            }
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

    /// Constant operand of a node.
    fn constant(&self, node: &Node, index: usize) -> Result<&Tensor, Refusal> {
        let value = node.inputs.get(index).copied().flatten();
        match value.and_then(|value| self.graph.constant(value)?.data()) {
            Some(tensor) => Ok(tensor),
            None => refuse(format!("operand {index} that is computed"), "a constant"),
        }
    }

    /// The same bytes in another shape; `None` where they stay in DDR memory, or are floats.
    fn reshape(&mut self, node: &Node) -> Result<Option<Home>, Refusal> {
        let (Some(value), result) = (node.inputs[0], node.outputs[0]) else { return refuse("no operand", "one") };
        if self.graph.ty(result).dtype.is_float() {
            return Ok(None);
        }
        let shape = self.shape(result)?;
        if let (Some(&Where::Ddr(piece)), false) = (self.values.get(&value), self.stored.contains_key(&result)) {
            self.values.insert(result, Where::Ddr(piece));
            return Ok(None);
        }
        let home = self.home(value)?;
        Ok(Some(self.draft.reshape(home, shape)))
    }

    fn transpose(&mut self, node: &Node, perm: &[usize]) -> Result<Home, Refusal> {
        let (Some(value), result) = (node.inputs[0], node.outputs[0]) else { return refuse("no operand", "one") };
        let (prec, signed) = byte_type(self.graph.ty(result))?;
        let shape = self.shape(result)?;
        let there = self.values.get(&value).copied();
        if self.refused.contains(&value) {
            return Err(Refusal::Follows);
        }
        match (perm, there) {
            ([0, 3, 1, 2], Some(Where::Ddr(piece))) if shape[2] * shape[3] <= MAX_EXTENT => {
                Ok(self.draft.load_channels_last(piece, prec, signed, shape))
            }
            _ => refuse(format!("permutation {perm:?}"), "[0, 3, 1, 2] of an input of the model"),
        }
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

    /// Adds a border of a constant along H and W.
    fn pad(&mut self, node: &Node, op: &Pad) -> Result<Home, Refusal> {
        let accepted = "a constant border of H and W";
        let extent = |e: &Extent| e.as_const().and_then(|v| u32::try_from(v).ok());
        let sides = |sides: &[Extent]| sides.iter().map(extent).collect::<Option<Vec<u32>>>();
        let (Some(before), Some(after)) = (sides(&op.before), sides(&op.after)) else {
            return refuse(format!("pads {:?} and {:?}", op.before, op.after), accepted);
        };
        let (&[0, 0, top, left], &[0, 0, _, _], PadMode::Constant) = (&before[..], &after[..], op.mode) else {
            return refuse(format!("`{}` pads {before:?} and {after:?}", op.mode), accepted);
        };
        let value = match node.inputs.get(1).copied().flatten() {
            Some(_) => self.constant(node, 1)?.to_i64().first().copied().unwrap_or(0),
            None => 0,
        };
        let x = self.input(node, 0)?;
        let result = self.draft.tensor(Prec::Int8, x.signed, self.shape(node.outputs[0])?);
        self.draft.fill(result, value as u32 & 0xff);
        self.draft.place_inside(x, result, top, left);
        Ok(result)
    }

    fn max_pool(&mut self, node: &Node, op: &MaxPool) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let result = self.draft.tensor(Prec::Int8, x.signed, shape);
        let small = |values: &[i64], least: i64| values.iter().all(|v| (least..=MAX_WINDOW.into()).contains(v));
        let plain = op.dilations.iter().all(|&d| d == 1) && small(&op.pads, 0) && small(&op.strides, 1);
        let ([kh, kw], [sh, sw], [up, lf, dn, rt]) = (&op.kernel[..], &op.strides[..], &op.pads[..]) else {
            return refuse(format!("{} axes", op.kernel.len()), "2");
        };
        if !plain {
            let found = format!("pads {:?}, strides {:?}, dilations {:?}", op.pads, op.strides, op.dilations);
            return refuse(found, format!("pads and strides up to {MAX_WINDOW}, no dilation"));
        }
        let pool = Pool {
            eu: 4,
            opd3_addr: if x.signed { 0x80 } else { 0 },
            opd0_up_pad: *up as u32,
            opd0_dn_pad: *dn as u32,
            opd0_lf_pad: *lf as u32,
            opd0_rt_pad: *rt as u32,
            ..pool(x, result, [*kh as u32, *kw as u32], [*sh as u32, *sw as u32])
        };
        let places = vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))];
        self.draft.push(pool, places);
        Ok(result)
    }
}

/// What pools have in common; pads of a constant.
fn pool(x: Home, result: Home, kernel: [u32; 2], strides: [u32; 2]) -> Pool {
    Pool {
        opd0_sign: x.signed.into(),
        opd0_prec: x.prec.code(),
        opd3_const: 1,
        res0_prec: result.prec.code(),
        res_op_y_str: strides[0],
        res_op_x_str: strides[1],
        res0_n: result.shape[0],
        res0_c: result.shape[1],
        res0_h: result.shape[2],
        res0_w: result.shape[3],
        opd0_h: x.shape[2],
        opd0_w: x.shape[3],
        opd1_h: kernel[0],
        opd1_w: kernel[1],
        ..Pool::default()
    }
}
