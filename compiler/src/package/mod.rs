//! Packages: what `adze compile` leaves in its output folder.

mod archive;
mod header;
mod manifest;
mod write;

use adze_targets::cpu::backend::Code;

pub use archive::static_library;
pub use header::{c_identifier, header};
pub use manifest::{Dim, MANIFEST_VERSION, Manifest, NodeInfo, Phase, StateInfo, TensorInfo};
pub use write::{NamedFile, PackageError, WriteOptions, write_folder, write_package};

/// Alignment of the arena and of a separate weights file, bytes.
pub const ARENA_ALIGN: u64 = 64;

/// Everything that is written to the output folder.
#[derive(Clone, Debug)]
pub struct Package {
    /// How it is called and what it holds.
    pub manifest: Manifest,
    /// The model as an object or as source.
    pub code: Code,
    /// Constant data when it is not in the object.
    pub weights: Option<Vec<u8>>,
}
