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

use std::collections::BTreeMap;

use adze_ir::attrs::F64;
use adze_ir::extent::Extent;
use adze_ir::graph::{Graph, Node, ValueId};
use adze_ir::ops::{MaxPool, Op, Pad, PadMode, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};

use super::isa::{Pool, Prec};
use super::machine::{MAX_EXTENT, MAX_WINDOW};
use build::{Draft, Home, Piece, Place};

/// What the chip has no commands for, or adze none yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: found {found}, accepted on bm1684x: {accepted}")]
pub struct Unsupported {
    /// The node or output.
    pub place: String,
    /// What is there.
    pub found: String,
    /// What could be.
    pub accepted: String,
}

/// An [`Unsupported`] whose node is known further up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    found: String,
    accepted: String,
}

/// Refuses something.
fn refuse<T>(found: impl Into<String>, accepted: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { found: found.into(), accepted: accepted.into() })
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// In local memory.
    Local(Home),
    /// In DDR memory, contiguous.
    Ddr(Piece),
}

/// A graph being lowered.
struct Lowering<'a> {
    graph: &'a Graph,
    draft: Draft,
    values: BTreeMap<ValueId, Where>,
}

/// Lowers a graph.
///
/// # Errors
/// [`Unsupported`] for the first node that does not lower.
pub fn lower(graph: &Graph) -> Result<Draft, Unsupported> {
    let values = graph.inputs().iter().enumerate().map(|(index, &value)| (value, Where::Ddr(Piece::Input(index))));
    let mut lowering = Lowering { graph, draft: Draft::default(), values: values.collect() };
    if let Some((name, _)) = graph.dims.iter().next() {
        let found = format!("named dimension `{name}`");
        return Err(Unsupported { place: "graph".into(), found, accepted: "fixed shapes (--dim)".into() });
    }
    for (_, node) in graph.nodes() {
        lowering.draft.loc = node.loc.clone();
        lowering.node(node).map_err(|refusal| {
            let names = node.loc.names().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let place = format!("node {names} ({})", node.op.name());
            Unsupported { place, found: refusal.found, accepted: refusal.accepted }
        })?;
    }
    for (index, output) in graph.outputs().iter().enumerate() {
        let refused = |refusal: Refusal| Unsupported {
            place: format!("output `{}`", output.name),
            found: refusal.found,
            accepted: refusal.accepted,
        };
        let home = lowering.home(output.value).map_err(refused)?;
        lowering.draft.store(home, Piece::Output(index));
    }
    Ok(lowering.draft)
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
fn extents(shape: &[usize]) -> Result<[u32; 4], Refusal> {
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
            Op::Reshape(_) => return self.reshape(node),
            Op::Transpose(op) => self.transpose(node, &op.perm)?,
            op => {
                let floats = node.outputs.iter().all(|&value| self.graph.ty(value).dtype.is_float());
                let accepted = "quantized convolutions and matrix products, max pools, reshapes, and what stands between \
                                `dequantize` and `quantize`";
                return if floats { Ok(()) } else { refuse(format!("`{}`", op.name()), accepted) };
            }
        };
        self.values.insert(node.outputs[0], Where::Local(home));
        Ok(())
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

    fn reshape(&mut self, node: &Node) -> Result<(), Refusal> {
        let (Some(value), result) = (node.inputs[0], node.outputs[0]) else { return refuse("no operand", "one") };
        if self.graph.ty(result).dtype.is_float() {
            return Ok(());
        }
        let shape = self.shape(result)?;
        let there = match self.values.get(&value).copied() {
            Some(Where::Ddr(piece)) => Where::Ddr(piece),
            _ => {
                let home = self.home(value)?;
                Where::Local(self.draft.reshape(home, shape))
            }
        };
        self.values.insert(result, there);
        Ok(())
    }

    fn transpose(&mut self, node: &Node, perm: &[usize]) -> Result<Home, Refusal> {
        let (Some(value), result) = (node.inputs[0], node.outputs[0]) else { return refuse("no operand", "one") };
        let (prec, signed) = byte_type(self.graph.ty(result))?;
        let shape = self.shape(result)?;
        let there = self.values.get(&value).copied();
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
