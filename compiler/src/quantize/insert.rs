//! Writing the integers into the graph: `quantize` and `dequantize` around values, `dequantize` after stored weights.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::graph::{ConstEntry, Graph, NodeId, ValueDef, ValueId};
use adze_ir::loc::Loc;
use adze_ir::ops::{Dequantize, Op, Quantize, Where};
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, Shape, TensorType};

use super::plan::streams;
use super::ranges::Params;
use crate::error::Error;

/// A constant operand as integers, or as floats of other values.
#[derive(Clone, Debug)]
pub struct StoredConst {
    /// The integers, in the shape of the operand, or the floats.
    pub data: Tensor,
    /// Scales of integers: one, one per slice of `axis`, or one per block along it.
    pub scales: Tensor,
    /// Axis of the scales.
    pub axis: usize,
    /// Elements that share a scale along the axis; 0 when not blocked.
    pub block: usize,
}

impl StoredConst {
    /// The numbers that it stands for.
    ///
    /// # Errors
    /// [`Error::Bug`] when scales do not fit the integers.
    pub fn real(&self) -> Result<Tensor, Error> {
        if self.data.dtype().is_float() {
            return Ok(self.data.clone());
        }
        let op = Op::from(Dequantize { axis: self.axis, block: self.block });
        let found = op.eval(&[Some(&self.data), Some(&self.scales)], &|_| None);
        let found = found.map_err(|e| Error::Bug(e.to_string()))?;
        found.into_iter().next().ok_or_else(|| Error::Bug("dequantizing gives a value".into()))
    }

    /// Bytes of integers and scales.
    pub fn bytes(&self) -> usize {
        self.data.bytes().len() + self.scales.bytes().len()
    }
}

/// What is written into a graph.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Values that are rounded.
    pub points: BTreeMap<ValueId, Params>,
    /// Constant operands, by node and position.
    pub consts: BTreeMap<(NodeId, usize), StoredConst>,
    /// Constant operands that become inputs of the graph, in the order of the graph, behind its own.
    pub fed: BTreeSet<(NodeId, usize)>,
    /// Every value that is rounded has a flag that says whether it is: inputs of the graph `bool[]`, in the order of the values,
    /// behind its own.
    pub flagged: bool,
}

/// The graph with its edits.
///
/// # Errors
/// [`Error::Bug`] when an edited node does not type-check.
pub fn insert(graph: &Graph, edits: &Edits) -> Result<Graph, Error> {
    let (mut out, _) = insert_mapped(graph, edits)?;
    out.remove_dead();
    Ok(out.compact())
}

/// The graph with its edits, and what every value has become for its users; [`streams`] read it as it is made.
///
/// # Errors
/// As [`insert`].
pub fn insert_mapped(graph: &Graph, edits: &Edits) -> Result<(Graph, BTreeMap<ValueId, ValueId>), Error> {
    let mut out = Graph::new(graph.name.clone());
    out.dims = graph.dims.clone();
    out.states = graph.states.clone();
    out.consts = graph.consts.clone();
    let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let mut made: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let streams = streams(graph, &edits.points);
    for &input in graph.inputs() {
        let value = graph.value(input);
        made.insert(input, out.add_input(value.name.clone().unwrap_or_default(), value.ty.clone()));
    }
    for &input in graph.inputs() {
        map.insert(input, rounded(&mut out, graph, input, made[&input], edits)?);
    }
    for (id, node) in graph.nodes() {
        if let Op::Constant(constant) = &node.op {
            let value = out.add_const(constant.id, node.loc.clone());
            out.set_type(value, graph.ty(node.outputs[0]).clone());
            out.set_name(value, graph.value(node.outputs[0]).name.clone());
            map.insert(node.outputs[0], value);
            continue;
        }
        let known = |v: ValueId| made.get(&v).filter(|_| streams.contains(&id)).unwrap_or(&map[&v]);
        let mut inputs: Vec<Option<ValueId>> = node.inputs.iter().map(|v| v.map(|v| *known(v))).collect();
        for (index, input) in inputs.iter_mut().enumerate() {
            if edits.fed.contains(&(id, index)) {
                *input = node.inputs[index].map(|v| out.add_input(format!("{id}.{index}"), graph.ty(v).clone()));
            }
            if let Some(stored) = edits.consts.get(&(id, index)) {
                let name = node.inputs[index].and_then(|v| graph.constant(v)).map(|c| c.name.to_string());
                *input = Some(restored(&mut out, stored, &name.unwrap_or_default(), &node.loc)?);
            }
        }
        let outputs = out.add(node.op.clone(), &inputs, node.loc.clone()).map_err(|e| bug(&node.loc, &e))?;
        for (&old, new) in node.outputs.iter().zip(outputs) {
            out.set_type(new, graph.ty(old).clone());
            out.set_name(new, graph.value(old).name.clone());
            made.insert(old, new);
            map.insert(old, rounded(&mut out, graph, old, new, edits)?);
        }
    }
    for output in graph.outputs() {
        out.add_output(output.name.clone(), map[&output.value]);
    }
    Ok((out, map))
}

fn bug(loc: &Loc, error: &dyn std::fmt::Display) -> Error {
    Error::Bug(format!("{loc}: {error}"))
}

/// A value as its users see it: rounded to integers and back where it is a point. The ONNX tensor's name goes along.
fn rounded(out: &mut Graph, graph: &Graph, old: ValueId, new: ValueId, edits: &Edits) -> Result<ValueId, Error> {
    let Some(params) = edits.points.get(&old) else { return Ok(new) };
    let loc = graph.producer(old).map(|(_, node)| node.loc.clone()).unwrap_or_default();
    let scale = constant(out, "", Tensor::from_f32(&[], &[params.scale]), &loc);
    let zero = constant(out, "", Tensor::from_ints(params.dtype, &[], &[params.zero.into()]), &loc);
    let quantize = Quantize { axis: 0, block: 0, to: params.dtype };
    let stored = out.add1(quantize, &[new, scale, zero], loc.clone()).map_err(|e| bug(&loc, &e))?;
    let back = Dequantize { axis: 0, block: 0 };
    let real = out.add1(back, &[stored, scale, zero], loc.clone()).map_err(|e| bug(&loc, &e))?;
    if matches!(graph.value(old).def, ValueDef::Result(..)) {
        out.set_name(real, graph.value(old).name.clone());
        out.set_name(new, None);
    }
    if edits.flagged {
        let flag = out.add_input(format!("{old} is rounded"), TensorType::new(DType::Bool, Shape::new()));
        return out.add1(Where {}, &[flag, real, new], loc.clone()).map_err(|e| bug(&loc, &e));
    }
    Ok(real)
}

fn constant(out: &mut Graph, name: &str, tensor: Tensor, loc: &Loc) -> ValueId {
    let id = out.consts.push(ConstEntry::new(name, tensor));
    out.add_const(id, loc.clone())
}

/// A constant operand, read back from integers.
fn restored(out: &mut Graph, stored: &StoredConst, name: &str, loc: &Loc) -> Result<ValueId, Error> {
    let data = constant(out, name, stored.data.clone(), loc);
    if stored.data.dtype().is_float() {
        return Ok(data);
    }
    let scales = constant(out, "", stored.scales.clone(), loc);
    let mut inputs = vec![data, scales];
    // Rules and runtimes know weights with a zero point; a bias has none.
    if stored.data.dtype() != DType::I32 {
        let zeros = Tensor::zeros(stored.data.dtype(), stored.scales.shape());
        inputs.push(constant(out, "", zeros, loc));
    }
    let op = Dequantize { axis: stored.axis, block: stored.block };
    out.add1(op, &inputs, loc.clone()).map_err(|e| bug(loc, &e))
}
