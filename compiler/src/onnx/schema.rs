//! The ONNX messages as data: which field numbers exist, and what the wire walker does with each.
//!
//! Source: `onnx.proto` of ONNX IR version 10, the newest that the decoder behind [`super::wire`] knows. A field that
//! is not listed (also one of a newer ONNX) is checked for well-formedness and left out of the skeleton.

use std::mem::size_of;

use onnx_protobuf as pb;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A varint: integers and enums. Repeated fields may come packed.
    Int,
    /// A 32-bit float. Repeated fields may come packed.
    Float,
    /// A string or byte string.
    Bytes,
    /// A nested message.
    Message(Msg),
    /// Payload of a tensor: stays in the mapped file; its range is recorded.
    Payload,
    /// Documentation and metadata: checked for well-formedness, not handed on.
    Skip,
}

/// The messages reachable from a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Msg {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    ElementType,
    MapType,
    Shape,
    Dimension,
    OperatorSet,
    Function,
    StringPair,
    Segment,
}

/// A field: number, name, kind.
pub(super) type Field = (u32, &'static str, Kind);

use Kind::{Bytes, Float, Int, Message, Payload, Skip};

const MODEL: &[Field] = &[
    (1, "ir_version", Int),
    (2, "producer_name", Bytes),
    (3, "producer_version", Bytes),
    (4, "domain", Bytes),
    (5, "model_version", Int),
    (6, "doc_string", Skip),
    (7, "graph", Message(Msg::Graph)),
    (8, "opset_import", Message(Msg::OperatorSet)),
    (14, "metadata_props", Skip),
    (25, "functions", Message(Msg::Function)),
];
const GRAPH: &[Field] = &[
    (1, "node", Message(Msg::Node)),
    (2, "name", Bytes),
    (5, "initializer", Message(Msg::Tensor)),
    (10, "doc_string", Skip),
    (11, "input", Message(Msg::ValueInfo)),
    (12, "output", Message(Msg::ValueInfo)),
    (13, "value_info", Message(Msg::ValueInfo)),
    (14, "quantization_annotation", Skip),
    (15, "sparse_initializer", Message(Msg::SparseTensor)),
    (16, "metadata_props", Skip),
];
const NODE: &[Field] = &[
    (1, "input", Bytes),
    (2, "output", Bytes),
    (3, "name", Bytes),
    (4, "op_type", Bytes),
    (5, "attribute", Message(Msg::Attribute)),
    (6, "doc_string", Skip),
    (7, "domain", Bytes),
    (8, "overload", Bytes),
    (9, "metadata_props", Skip),
];
const ATTRIBUTE: &[Field] = &[
    (1, "name", Bytes),
    (2, "f", Float),
    (3, "i", Int),
    (4, "s", Bytes),
    (5, "t", Message(Msg::Tensor)),
    (6, "g", Message(Msg::Graph)),
    (7, "floats", Float),
    (8, "ints", Int),
    (9, "strings", Bytes),
    (10, "tensors", Message(Msg::Tensor)),
    (11, "graphs", Message(Msg::Graph)),
    (13, "doc_string", Skip),
    (14, "tp", Message(Msg::Type)),
    (15, "type_protos", Message(Msg::Type)),
    (20, "type", Int),
    (21, "ref_attr_name", Bytes),
    (22, "sparse_tensor", Message(Msg::SparseTensor)),
    (23, "sparse_tensors", Message(Msg::SparseTensor)),
];
const TENSOR: &[Field] = &[
    (1, "dims", Int),
    (2, "data_type", Int),
    (3, "segment", Message(Msg::Segment)),
    (4, "float_data", Payload),
    (5, "int32_data", Payload),
    (6, "string_data", Payload),
    (7, "int64_data", Payload),
    (8, "name", Bytes),
    (9, "raw_data", Payload),
    (10, "double_data", Payload),
    (11, "uint64_data", Payload),
    (12, "doc_string", Skip),
    (13, "external_data", Message(Msg::StringPair)),
    (14, "data_location", Int),
    (16, "metadata_props", Skip),
];
const SPARSE_TENSOR: &[Field] =
    &[(1, "values", Message(Msg::Tensor)), (2, "indices", Message(Msg::Tensor)), (3, "dims", Int)];
const VALUE_INFO: &[Field] =
    &[(1, "name", Bytes), (2, "type", Message(Msg::Type)), (3, "doc_string", Skip), (4, "metadata_props", Skip)];
const TYPE: &[Field] = &[
    (1, "tensor_type", Message(Msg::TensorType)),
    (4, "sequence_type", Message(Msg::ElementType)),
    (5, "map_type", Message(Msg::MapType)),
    (6, "denotation", Skip),
    (8, "sparse_tensor_type", Message(Msg::TensorType)),
    (9, "optional_type", Message(Msg::ElementType)),
];
const TENSOR_TYPE: &[Field] = &[(1, "elem_type", Int), (2, "shape", Message(Msg::Shape))];
const ELEMENT_TYPE: &[Field] = &[(1, "elem_type", Message(Msg::Type))];
const MAP_TYPE: &[Field] = &[(1, "key_type", Int), (2, "value_type", Message(Msg::Type))];
const SHAPE: &[Field] = &[(1, "dim", Message(Msg::Dimension))];
const DIMENSION: &[Field] = &[(1, "dim_value", Int), (2, "dim_param", Bytes), (3, "denotation", Skip)];
const OPERATOR_SET: &[Field] = &[(1, "domain", Bytes), (2, "version", Int)];
const FUNCTION: &[Field] = &[
    (1, "name", Bytes),
    (4, "input", Bytes),
    (5, "output", Bytes),
    (6, "attribute", Bytes),
    (7, "node", Message(Msg::Node)),
    (8, "doc_string", Skip),
    (9, "opset_import", Message(Msg::OperatorSet)),
    (10, "domain", Bytes),
    (11, "attribute_proto", Message(Msg::Attribute)),
    (12, "value_info", Message(Msg::ValueInfo)),
    (13, "overload", Bytes),
    (14, "metadata_props", Skip),
];
const STRING_PAIR: &[Field] = &[(1, "key", Bytes), (2, "value", Bytes)];
const SEGMENT: &[Field] = &[(1, "begin", Int), (2, "end", Int)];

impl Msg {
    fn row(self) -> (&'static str, &'static [Field], usize) {
        match self {
            Msg::Model => ("ModelProto", MODEL, size_of::<pb::ModelProto>()),
            Msg::Graph => ("GraphProto", GRAPH, size_of::<pb::GraphProto>()),
            Msg::Node => ("NodeProto", NODE, size_of::<pb::NodeProto>()),
            Msg::Attribute => ("AttributeProto", ATTRIBUTE, size_of::<pb::AttributeProto>()),
            Msg::Tensor => ("TensorProto", TENSOR, size_of::<pb::TensorProto>()),
            Msg::SparseTensor => ("SparseTensorProto", SPARSE_TENSOR, size_of::<pb::SparseTensorProto>()),
            Msg::ValueInfo => ("ValueInfoProto", VALUE_INFO, size_of::<pb::ValueInfoProto>()),
            Msg::Type => ("TypeProto", TYPE, size_of::<pb::TypeProto>()),
            Msg::TensorType => ("TypeProto.Tensor", TENSOR_TYPE, size_of::<pb::type_proto::Tensor>()),
            Msg::ElementType => ("TypeProto.Sequence", ELEMENT_TYPE, size_of::<pb::type_proto::Sequence>()),
            Msg::MapType => ("TypeProto.Map", MAP_TYPE, size_of::<pb::type_proto::Map>()),
            Msg::Shape => ("TensorShapeProto", SHAPE, size_of::<pb::TensorShapeProto>()),
            Msg::Dimension => ("TensorShapeProto.Dimension", DIMENSION, size_of::<pb::tensor_shape_proto::Dimension>()),
            Msg::OperatorSet => ("OperatorSetIdProto", OPERATOR_SET, size_of::<pb::OperatorSetIdProto>()),
            Msg::Function => ("FunctionProto", FUNCTION, size_of::<pb::FunctionProto>()),
            Msg::StringPair => ("StringStringEntryProto", STRING_PAIR, size_of::<pb::StringStringEntryProto>()),
            Msg::Segment => ("TensorProto.Segment", SEGMENT, size_of::<pb::tensor_proto::Segment>()),
        }
    }

    /// The message's name in `onnx.proto`.
    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    /// Bytes that one decoded message takes, strings and lists aside.
    pub(super) fn decoded_bytes(self) -> usize {
        self.row().2
    }

    /// The field of that number, when it is known.
    pub(super) fn field(self, number: u32) -> Option<Field> {
        self.row().1.iter().copied().find(|field| field.0 == number)
    }
}
