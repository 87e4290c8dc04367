//! What can go wrong at import, in three kinds that are never mixed: the model (or the options) are wrong, the model
//! needs what is not supported yet, or adze has a bug.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::tensor::TensorError;
use super::wire::WireError;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The model, its files or the options are wrong.
    Model,
    /// Valid, but not supported yet.
    Unsupported,
    /// A bug of adze.
    Bug,
}

/// Why a model could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The model file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no protobuf message of a model.
    #[error("not an ONNX model: {0}")]
    Wire(#[from] WireError),
    /// The decoder refused what the wire walk had accepted (such as text that is not UTF-8).
    #[error("not an ONNX model: {0}")]
    Protobuf(String),
    /// There is no graph, or no opset.
    #[error("not an ONNX model: {0}")]
    Structure(&'static str),
    /// The options do not go with the model.
    #[error("{0}")]
    Options(OptionError),
    /// All nodes, inputs and constants that are at fault.
    #[error("{}", list(.0))]
    Issues(Vec<Issue>),
    /// The importer made a graph that does not verify.
    #[error("bug of adze, please report this model:\n{}", .0.join("\n"))]
    Bug(Vec<String>),
}

/// Options that do not go with the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A dimension that no input has.
    #[error("no dimension `{name}`, the model has: {}", names(.known))]
    Dim {
        /// As given.
        name: String,
        /// The dimensions of the model's inputs.
        known: Vec<String>,
    },
    /// An input that does not exist.
    #[error("no input `{name}`, the model has: {}", names(.known))]
    Input {
        /// As given.
        name: String,
        /// The inputs of the model.
        known: Vec<String>,
    },
    /// A shape that does not go with the declared one.
    #[error("shape of input `{input}`: found {found}, accepted: {accepted}")]
    Shape {
        /// Name of the input.
        input: String,
        /// The shape that was given.
        found: String,
        /// What goes with the model.
        accepted: String,
    },
    /// An empty or negative range.
    #[error(
        "range of dimension `{name}`: found {found}, accepted: `lo..hi` with 0 <= lo <= hi <= {}",
        adze_ir::extent::LIMIT
    )]
    Range {
        /// The dimension.
        name: String,
        /// The range that was given.
        found: String,
    },
    /// A constant that does not go with the input's type.
    #[error("value of input `{input}`: found {found}, accepted: {accepted}")]
    Value {
        /// Name of the input.
        input: String,
        /// The constant's type.
        found: String,
        /// The input's type.
        accepted: String,
    },
}

/// One node, input or constant at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Whose turn it is.
    pub kind: ErrorKind,
    /// Where.
    pub place: Place,
    /// What was found.
    pub found: String,
    /// What would be accepted.
    pub accepted: String,
}

/// What an issue is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A node.
    Node {
        /// Its name; that of its first result where it has none.
        name: String,
        /// Position in its graph or function.
        index: usize,
        /// Operator type.
        op_type: String,
        /// Operator domain, empty for ONNX's own.
        domain: String,
        /// Version of the domain that the model imports.
        opset: i64,
    },
    /// A graph input.
    Input(String),
    /// A graph output.
    Output(String),
    /// An initializer.
    Initializer(String),
}

/// The fault of a node, before it is known which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) found: String,
    pub(super) accepted: String,
}

impl Fault {
    pub(super) fn unsupported(found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unsupported, found: found.into(), accepted: accepted.into() }
    }

    pub(super) fn model(found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Model, found: found.into(), accepted: accepted.into() }
    }

    pub(super) fn bug(found: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Bug, found: found.into(), accepted: "a report of this model".into() }
    }

    pub(super) fn at(self, place: Place) -> Issue {
        Issue { kind: self.kind, place, found: self.found, accepted: self.accepted }
    }
}

impl From<TensorError> for Fault {
    fn from(error: TensorError) -> Self {
        let accepted = match &error {
            TensorError::ElemType(_) => "floats of 8 to 64 bits, integers of 2 to 64 bits, bool",
            TensorError::Length { .. } => "as many bytes as dtype and shape ask for",
            TensorError::Dims(_) => "non-negative dimensions whose product can be counted",
            TensorError::ExternalIo { .. } => "a readable file beside the model",
            TensorError::ExternalRange { .. } => "offset and length inside the file",
            TensorError::Outside(_) => "a path inside the model's folder",
            _ => "a well-formed tensor",
        };
        let kind = if error.is_unsupported() { ErrorKind::Unsupported } else { ErrorKind::Model };
        Self { kind, found: error.to_string(), accepted: accepted.into() }
    }
}

impl ImportError {
    /// Whose turn it is: a wrong model weighs more than an unsupported one, a bug most.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Issues(issues) => {
                let has = |kind| issues.iter().any(|issue| issue.kind == kind);
                if has(ErrorKind::Bug) {
                    ErrorKind::Bug
                } else if has(ErrorKind::Model) {
                    ErrorKind::Model
                } else {
                    ErrorKind::Unsupported
                }
            }
            Self::Bug(_) => ErrorKind::Bug,
            _ => ErrorKind::Model,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name, index, op_type, domain, opset } => {
                let dot = if domain.is_empty() { "" } else { "." };
                write!(f, "`{domain}{dot}{op_type}` at node `{name}` (graph node {index}, opset {opset})")
            }
            Self::Input(name) => write!(f, "input `{name}`"),
            Self::Output(name) => write!(f, "output `{name}`"),
            Self::Initializer(name) => write!(f, "initializer `{name}`"),
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ErrorKind::Model => "wrong",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Bug => "bug of adze",
        };
        write!(f, "{kind}: {}: found {}, accepted: {}", self.place, self.found, self.accepted)
    }
}

fn list(issues: &[Issue]) -> String {
    issues.iter().map(Issue::to_string).collect::<Vec<_>>().join("\n")
}

fn names(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
