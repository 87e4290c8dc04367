//! Tensors in files: `.npy`, `.npz` and ONNX's `.pb`, read and written.
//!
//! Used for inputs and outputs of `run` and `check` and, through [`TensorData`], for the constants of a model. Reading
//! is bounded by the file: no size that a header claims is allocated before the bytes are seen.

pub mod npy;
pub mod npz;
pub mod pb;

use std::io;
use std::path::{Path, PathBuf};

use adze_ir::types::DType;

use crate::mapped::Bytes;
use crate::onnx::tensor::TensorError;
use crate::onnx::wire::WireError;

/// A tensor's content: row-major, little-endian, 4-bit elements two per byte with the first in the low nibble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorData {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Exactly [`TensorData::bytes_for`] bytes.
    bytes: Bytes,
}

impl TensorData {
    /// Checks that the length fits; `None` when it does not, or when the shape holds too many elements to count.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Option<Self> {
        (Self::bytes_for(dtype, &shape)? == bytes.len()).then_some(Self { dtype, shape, bytes })
    }

    /// The content.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that a tensor takes; `None` when they cannot be counted.
    pub fn bytes_for(dtype: DType, shape: &[usize]) -> Option<usize> {
        // Zeros first, so that `[huge, huge, 0]` is empty and not an overflow.
        if shape.contains(&0) {
            return Some(0);
        }
        let elems = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
        elems.checked_mul(usize::try_from(dtype.bits()).ok()?).map(|bits| bits.div_ceil(8))
    }
}

/// Why a tensor file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Opening, reading or writing failed.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends in none of the known extensions.
    #[error("`{}` is not a tensor file (known: .npy, .npz, .pb)", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The content is not what the extension says.
    #[error("`{}`: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: ContentError,
    },
}

/// What is wrong with the content of a tensor file.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Not an npy array.
    #[error("not an npy array: {0}")]
    Npy(&'static str),
    /// An element type without a counterpart.
    #[error("unsupported npy element type `{0}`")]
    NpyType(String),
    /// An element type that the file format cannot express.
    #[error("{format} files cannot hold `{dtype}`")]
    NoSuchType {
        /// The format, as an extension.
        format: &'static str,
        /// The dtype to be written.
        dtype: DType,
    },
    /// Not a zip archive.
    #[error("not an npz archive: {0}")]
    Zip(String),
    /// Not a protobuf message.
    #[error("not an ONNX tensor: {0}")]
    Wire(#[from] WireError),
    /// An ONNX tensor that does not hold together.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Reading from the archive failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads every tensor of a file, with its name: that in the archive or protobuf, or the empty name in a `.npy`.
///
/// # Errors
/// [`DataError`], naming the file.
pub fn read(path: &Path) -> Result<Vec<(String, TensorData)>, DataError> {
    let content = |fault| DataError::Content { path: path.into(), fault };
    let extension = known_extension(path)?;
    let bytes = Bytes::map(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    match extension {
        "npy" => Ok(vec![(String::new(), npy::read(&bytes).map_err(content)?)]),
        "npz" => npz::read(&bytes).map_err(content),
        _ => Ok(vec![pb::read(&bytes).map_err(content)?]),
    }
}

/// Writes tensors to a file; `.npy` and `.pb` hold exactly one.
///
/// # Errors
/// [`DataError`], naming the file; [`io::ErrorKind::InvalidInput`] for more than one tensor in a `.npy` or `.pb`.
pub fn write(path: &Path, tensors: &[(String, TensorData)]) -> Result<(), DataError> {
    let content = |fault| DataError::Content { path: path.into(), fault };
    let io = |source| DataError::Io { path: path.into(), source };
    let one = || match tensors {
        [one] => Ok(one),
        _ => Err(io(io::Error::new(io::ErrorKind::InvalidInput, "this format holds exactly one tensor"))),
    };
    let bytes = match known_extension(path)? {
        "npy" => npy::write(&one()?.1).map_err(content)?,
        "npz" => npz::write(tensors).map_err(content)?,
        _ => {
            let (name, tensor) = one()?;
            pb::write(name, tensor).map_err(content)?
        }
    };
    std::fs::write(path, bytes).map_err(io)
}

fn known_extension(path: &Path) -> Result<&'static str, DataError> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    ["npy", "npz", "pb"]
        .into_iter()
        .find(|known| extension.eq_ignore_ascii_case(known))
        .ok_or_else(|| DataError::Extension { path: path.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tensors of any dtype and small shape.
    pub(crate) fn any_tensor() -> impl Strategy<Value = TensorData> {
        let dtype = prop::sample::select(DType::ALL);
        (dtype, prop::collection::vec(0usize..4, 0..4), any::<u64>()).prop_map(|(dtype, shape, seed)| {
            let length = TensorData::bytes_for(dtype, &shape).unwrap();
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> =
                (0..length).map(|_| if dtype == DType::Bool { random.u8(0..2) } else { random.u8(..) }).collect();
            TensorData::new(dtype, shape, bytes.into()).unwrap()
        })
    }

    #[test]
    fn lengths() {
        assert_eq!(TensorData::bytes_for(DType::I4, &[3]), Some(2));
        assert_eq!(TensorData::bytes_for(DType::F32, &[]), Some(4));
        assert_eq!(TensorData::bytes_for(DType::F32, &[usize::MAX, usize::MAX, 0]), Some(0));
        assert_eq!(TensorData::bytes_for(DType::F32, &[usize::MAX / 4 + 1]), None);
        assert!(TensorData::new(DType::F32, vec![2], vec![0; 7].into()).is_none());
    }

    #[test]
    fn unknown_extensions_are_named() {
        let error = read(Path::new("input.txt")).unwrap_err().to_string();
        assert_eq!(error, "`input.txt` is not a tensor file (known: .npy, .npz, .pb)");
    }
}
