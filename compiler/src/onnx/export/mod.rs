//! Export: a graph before fusion as an ONNX model that computes the same.
//!
//! Every operator becomes the ONNX operator that its documentation names (`ops`); integer forms that ONNX lacks become the
//! few nodes that define them. Shapes over named dimensions are computed by nodes of their own (`extents`). The opset is
//! the lowest from [`BASE_OPSET`] on that has all that is used.

mod cells;
mod extents;
mod ops;

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::extent::Extent;
use adze_ir::graph::{Graph, Node, ValueDef, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::types::{DType, TensorType};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::type_proto::{self, Tensor as TensorTypeProto};
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};

use super::tensor::elem_type_of;
use crate::error::Error;

/// Where integers of 4 and 16 bits and blocks of scales begin.
pub const BASE_OPSET: i64 = 21;

/// Where integers of 2 bits begin.
const TWO_BIT_OPSET: i64 = 25;

fn uses_two_bits(graph: &Graph) -> bool {
    let results = graph.nodes().flat_map(|(_, node)| &node.outputs).chain(graph.inputs());
    results.into_iter().any(|&v| matches!(graph.ty(v).dtype, DType::I2 | DType::U2))
}

/// The ONNX IR version that came with an opset.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=21 => 10,
        22..=23 => 11,
        24 => 12,
        _ => 13,
    }
}

/// Writes a graph as an ONNX model, the same bytes for the same graph.
///
/// # Errors
/// [`Error::Unsupported`] naming the node that ONNX has no operator for, [`Error::Options`] for a constant without bytes.
pub fn export(graph: &Graph) -> Result<Vec<u8>, Error> {
    let mut exporter = Exporter::new(graph);
    let inputs = graph.inputs().iter().map(|&v| info(&exporter.name(v), graph.ty(v))).collect();
    for (_, node) in graph.nodes() {
        exporter.node_of(node)?;
    }
    let mut outputs = Vec::new();
    for output in graph.outputs() {
        let name = exporter.name(output.value);
        if name != *output.name {
            exporter.emit("Identity", &[name], &[output.name.to_string()], Vec::new());
        }
        outputs.push(info(&output.name, graph.ty(output.value)));
    }
    let graph = GraphProto {
        name: graph.name.to_string(),
        node: exporter.nodes,
        initializer: exporter.initializers,
        input: inputs,
        output: outputs,
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: ir_version(exporter.opset),
        producer_name: "adze".into(),
        opset_import: vec![OperatorSetIdProto { version: exporter.opset, ..Default::default() }],
        graph: Some(graph).into(),
        ..Default::default()
    };
    model.write_to_bytes().map_err(|e| Error::Bug(e.to_string()))
}

/// The state of an export.
pub(super) struct Exporter<'a> {
    graph: &'a Graph,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    names: BTreeMap<ValueId, String>,
    taken: BTreeSet<String>,
    /// Initializers of ours, by content.
    constants: BTreeMap<(TensorType, Vec<u8>), String>,
    /// Expressions that nodes compute.
    extents: BTreeMap<Extent, String>,
    opset: i64,
    /// Name of the node at hand, from which those that it becomes are named.
    at: String,
}

impl<'a> Exporter<'a> {
    fn new(graph: &'a Graph) -> Self {
        let taken = graph.outputs().iter().map(|o| o.name.to_string()).collect();
        let mut exporter = Self {
            graph,
            nodes: Vec::new(),
            initializers: Vec::new(),
            names: BTreeMap::new(),
            taken,
            constants: BTreeMap::new(),
            extents: BTreeMap::new(),
            opset: if uses_two_bits(graph) { TWO_BIT_OPSET } else { BASE_OPSET },
            at: String::new(),
        };
        for &input in graph.inputs() {
            let name = graph.value(input).name.as_deref().unwrap_or("input");
            let name = exporter.fresh(name);
            exporter.names.insert(input, name);
        }
        // An output's own value has its name, so that no node only renames.
        for output in graph.outputs() {
            let named = graph.value(output.value).name.as_deref() == Some(&*output.name);
            if named && matches!(graph.value(output.value).def, ValueDef::Result(..)) {
                exporter.names.entry(output.value).or_insert_with(|| output.name.to_string());
            }
        }
        exporter
    }

    /// A name that nothing has yet.
    fn fresh(&mut self, stem: &str) -> String {
        let stem = if stem.is_empty() { "value" } else { stem };
        let name = (0..)
            .map(|n: usize| if n == 0 { stem.to_owned() } else { format!("{stem}_{n}") })
            .find(|name| !self.taken.contains(name))
            .expect("some suffix is free");
        self.taken.insert(name.clone());
        name
    }

    /// The name of a value.
    fn name(&mut self, value: ValueId) -> String {
        if let Some(name) = self.names.get(&value) {
            return name.clone();
        }
        let stem = match (self.graph.value(value).name.as_deref(), self.graph.producer(value)) {
            (Some(name), _) => name.to_owned(),
            (None, Some((_, node))) => {
                let source = node.loc.names().first().map_or("", |name| name);
                format!("{source}/{}", node.op.name())
            }
            (None, None) => String::new(),
        };
        let name = self.fresh(&stem);
        self.names.insert(value, name.clone());
        name
    }

    fn node_of(&mut self, node: &Node) -> Result<(), Error> {
        self.at = node.loc.names().first().map_or_else(|| node.op.name().to_owned(), |name| name.to_string());
        if let Op::Constant(constant) = &node.op {
            let entry = &self.graph.consts[constant.id];
            let data = entry.data().ok_or_else(|| {
                Error::Options(format!("constant `{}` is known by digest only: give --weights", entry.name))
            })?;
            let stem = if entry.name.is_empty() { format!("{}/constant", self.at) } else { entry.name.to_string() };
            let value = node.outputs[0];
            let name = if self.names.contains_key(&value) { self.name(value) } else { self.fresh(&stem) };
            self.names.insert(value, name.clone());
            self.initializers.push(tensor_proto(name, data));
            return Ok(());
        }
        ops::export(self, node)
    }

    /// A node with these attributes.
    fn emit(&mut self, op: &str, inputs: &[String], outputs: &[String], attributes: Vec<AttributeProto>) {
        let mut inputs = inputs.to_vec();
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        self.nodes.push(NodeProto {
            name: format!("{}/{op}_{}", self.at, self.nodes.len()),
            op_type: op.into(),
            input: inputs,
            output: outputs.to_vec(),
            attribute: attributes,
            ..Default::default()
        });
    }

    /// [`Exporter::emit`] with one result under a new name.
    fn value(&mut self, op: &str, inputs: &[String], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(&format!("{}/{op}", self.at));
        self.emit(op, inputs, std::slice::from_ref(&name), attributes);
        name
    }

    /// An initializer.
    fn constant(&mut self, tensor: &Tensor) -> String {
        let key = (tensor.ty(), tensor.bytes().to_vec());
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh("constant");
        self.initializers.push(tensor_proto(name.clone(), tensor));
        self.constants.insert(key, name.clone());
        name
    }

    /// An initializer of `i64`.
    fn ints(&mut self, values: &[i64]) -> String {
        self.constant(&Tensor::vec_i64(values))
    }
}

fn tensor_proto(name: String, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name,
        dims: tensor.shape().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        data_type: elem_type_of(tensor.dtype()),
        raw_data: tensor.bytes().to_vec(),
        ..Default::default()
    }
}

/// Name and type of an input or output; expressions over dimensions are spelt out as the name of the axis.
fn info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = |extent: &Extent| {
        let value = match extent.as_const() {
            Some(known) => dimension::Value::DimValue(known),
            None => dimension::Value::DimParam(extent.to_string()),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = TensorShapeProto { dim: ty.shape.iter().map(dim).collect(), ..Default::default() };
    let tensor = TensorTypeProto { elem_type: elem_type_of(ty.dtype), shape: Some(shape).into(), ..Default::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..Default::default() }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: kind.into(), ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::INT) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::INTS) }
}

fn string(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: text.into(), ..attribute(name, AttributeType::STRING) }
}

fn strings(name: &str, texts: &[&str]) -> AttributeProto {
    AttributeProto {
        strings: texts.iter().map(|t| t.as_bytes().to_vec()).collect(),
        ..attribute(name, AttributeType::STRINGS)
    }
}
