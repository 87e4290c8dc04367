//! The package manifest: a versioned protobuf (schema: `docs/manifest.proto`) with a JSON view.

use serde::Serialize;

/// Version of the schema below; raised when a reader of the old one would misread the new one.
pub const MANIFEST_VERSION: u32 = 1;

/// What a package holds and how it is called.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Name of the model, as in the symbols.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Target, such as `x86_64-linux`.
    #[prost(string, tag = "3")]
    pub target: String,
    /// CPU the code needs, such as `x86-64-v3`.
    #[prost(string, tag = "4")]
    pub cpu: String,
    /// Named dimensions in the order of `adze_call.dims`.
    #[prost(message, repeated, tag = "5")]
    pub dims: Vec<Dim>,
    /// Tensors in the order of `adze_call.inputs`.
    #[prost(message, repeated, tag = "6")]
    pub inputs: Vec<TensorInfo>,
    /// Tensors in the order of `adze_call.outputs`.
    #[prost(message, repeated, tag = "7")]
    pub outputs: Vec<TensorInfo>,
    /// Tensors in the order of `adze_call.states`.
    #[prost(message, repeated, tag = "8")]
    pub states: Vec<StateInfo>,
    /// Bytes of working memory at `adze_call.arena`.
    #[prost(uint64, tag = "9")]
    pub arena_bytes: u64,
    /// Bytes of constant data, in the object or in the weights file.
    #[prost(uint64, tag = "10")]
    pub weights_bytes: u64,
    /// File with the constant data, next to the object; empty when it is inside the object.
    #[prost(string, tag = "11")]
    pub weights_file: String,
    /// What a call walks through, in order.
    #[prost(message, repeated, tag = "12")]
    pub phases: Vec<Phase>,
    /// The steps of all phases, for reports and profiles; positions are the node ids of a failed status.
    #[prost(message, repeated, tag = "13")]
    pub nodes: Vec<NodeInfo>,
    /// What phases hand on, the model's inputs first; empty for a model of one phase.
    #[prost(message, repeated, tag = "14")]
    pub tensors: Vec<TensorInfo>,
}

/// A named dimension.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Dim {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Smallest value that is accepted.
    #[prost(int64, tag = "2")]
    pub lo: i64,
    /// Largest value that is accepted.
    #[prost(int64, tag = "3")]
    pub hi: i64,
}

/// A tensor at the border of the model.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct TensorInfo {
    /// Name in the model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Element type, as in the text format.
    #[prost(string, tag = "2")]
    pub dtype: String,
    /// Extents: integers or expressions over the named dimensions.
    #[prost(string, repeated, tag = "3")]
    pub shape: Vec<String>,
    /// Bytes at the largest extents.
    #[prost(uint64, tag = "4")]
    pub max_bytes: u64,
    /// Quantization as in the text format; empty when there is none.
    #[prost(string, tag = "5")]
    pub quantization: String,
}

/// A tensor that one call leaves for the next.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct StateInfo {
    /// Before the call.
    #[prost(message, optional, tag = "1")]
    pub before: Option<TensorInfo>,
    /// Name of the output that succeeds it.
    #[prost(string, tag = "2")]
    pub after: String,
    /// Whether it grows along an axis.
    #[prost(bool, tag = "3")]
    pub appends: bool,
    /// The axis it grows along.
    #[prost(uint32, tag = "4")]
    pub axis: u32,
    /// Capacity along that axis.
    #[prost(int64, tag = "5")]
    pub capacity: i64,
    /// Bytes of the buffer.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
}

/// A part of a call that runs on one device.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct Phase {
    /// `cpu`, or the name of an accelerator.
    #[prost(string, tag = "1")]
    pub device: String,
    /// Symbol or command stream that runs it.
    #[prost(string, tag = "2")]
    pub entry: String,
    /// What it reads, as positions in `tensors`.
    #[prost(uint32, repeated, tag = "3")]
    pub inputs: Vec<u32>,
    /// What it makes, as positions in `tensors`.
    #[prost(uint32, repeated, tag = "4")]
    pub outputs: Vec<u32>,
}

/// A step of the compiled program and the source nodes it came from.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct NodeInfo {
    /// Kernel it runs.
    #[prost(string, tag = "1")]
    pub kernel: String,
    /// Source nodes.
    #[prost(string, repeated, tag = "2")]
    pub source: Vec<String>,
}
