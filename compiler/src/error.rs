//! What can go wrong in a run of the compiler, and whose turn it is.

use std::path::PathBuf;

use adze_ir::eval::GraphError;
use adze_ir::text::ParseError;
use adze_ir::verify::GraphViolation;

use crate::data::DataError;
use crate::onnx::{ErrorKind, ImportError};
use crate::package::PackageError;

/// An error of the compiler.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A file could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A text file is not well-formed.
    #[error("`{}`:{error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The place and what is wrong.
        error: ParseError,
        /// The text, for the label.
        text: String,
    },
    /// A tensor file could not be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A graph breaks its invariants after a pass (or the import): a bug of adze.
    #[error("the graph is broken after `{after}`:\n{}", violations.iter().map(|v| format!("  {v}")).collect::<Vec<_>>().join("\n"))]
    Verify {
        /// The pass, or `import`.
        after: String,
        /// What is broken.
        violations: Vec<GraphViolation>,
    },
    /// The graph cannot be evaluated on these inputs.
    #[error(transparent)]
    Eval(#[from] GraphError),
    /// Inputs and options that do not go together.
    #[error("{0}")]
    Options(String),
    /// Values in the data that the model does not accept, such as an index out of range.
    #[error("{0}")]
    Values(String),
    /// The model needs something that is valid but has no code yet.
    #[error("{0}")]
    Unsupported(String),
    /// The system's linker is missing or failed.
    #[error("{0}")]
    Link(String),
    /// The package could not be written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A broken invariant of ours.
    #[error("bug of adze: {0}")]
    Bug(String),
}

impl Error {
    /// Whose turn it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Import(error) => error.kind(),
            Error::Unsupported(_) => ErrorKind::Unsupported,
            Error::Verify { .. } | Error::Bug(_) => ErrorKind::Bug,
            _ => ErrorKind::Model,
        }
    }

    /// What the command exits with: 2 for arguments, 1 for a broken model, data or I/O, 77 for what is not supported yet,
    /// 70 for a bug of ours.
    pub fn exit_code(&self) -> u8 {
        match (self, self.kind()) {
            (
                Error::Options(_) | Error::Import(ImportError::Options(_)) | Error::Data(DataError::Extension { .. }),
                _,
            ) => 2,
            (_, ErrorKind::Model) => 1,
            (_, ErrorKind::Unsupported) => 77,
            (_, ErrorKind::Bug) => 70,
        }
    }

    /// Where in the pipeline it happened, as a stable word for diagnostics: `import`, `read`, `verify`, ...
    pub fn stage(&self) -> &'static str {
        match self {
            Error::Import(ImportError::Wire(_)) => "wire",
            Error::Import(ImportError::Protobuf(_)) => "protobuf",
            Error::Import(_) => "import",
            Error::Read { .. } => "read",
            Error::Write { .. } => "write",
            Error::Parse { .. } => "parse",
            Error::Data(_) => "data",
            Error::Verify { .. } => "verify",
            Error::Eval(_) | Error::Values(_) => "eval",
            Error::Options(_) => "options",
            Error::Unsupported(_) => "codegen",
            Error::Link(_) => "link",
            Error::Package(_) => "package",
            Error::Bug(_) => "bug",
        }
    }
}
