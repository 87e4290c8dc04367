//! Tensors in files: `.npy`, `.npz` and ONNX's `.pb`, read and written.
//!
//! Used for inputs and outputs of `run` and `check`. Reading is bounded by the file: no size that a header claims is
//! allocated before the bytes are seen.

// A conversion that cuts off bits silently is how a hostile size becomes an accepted one.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

pub mod npy;
pub mod npz;
pub mod pb;
pub mod test_data;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adze_ir::tensor::{Tensor, checked_elems};
use adze_ir::types::DType;

use crate::mapped::Bytes;
use crate::onnx::tensor::TensorError;
use crate::onnx::wire::WireError;

/// Bytes that a tensor takes; `None` when they cannot be counted.
pub fn bytes_for(dtype: DType, shape: &[usize]) -> Option<usize> {
    let bits = checked_elems(shape)?.checked_mul(usize::try_from(dtype.bits()).ok()?)?;
    i64::try_from(bits).ok().map(|_| bits.div_ceil(8))
}

/// A tensor over mapped or owned bytes; `None` when their number is not what dtype and shape ask for.
pub fn tensor_of(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Option<Tensor> {
    let length = bytes.len();
    Tensor::shared(dtype, shape, Arc::new(bytes), 0, length).ok()
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
    /// An image that does not decode.
    #[error("`{}`: {problem}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        problem: String,
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
    /// A shape that the file format cannot express.
    #[error("{format} files cannot hold this shape")]
    NoSuchShape {
        /// The format, as an extension.
        format: &'static str,
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
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>, DataError> {
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
pub fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), DataError> {
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
    pub(crate) fn any_tensor() -> impl Strategy<Value = Tensor> {
        let dtype = prop::sample::select(DType::ALL);
        (dtype, prop::collection::vec(0usize..4, 0..4), any::<u64>()).prop_map(|(dtype, shape, seed)| {
            let length = bytes_for(dtype, &shape).unwrap();
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> =
                (0..length).map(|_| if dtype == DType::Bool { random.u8(0..2) } else { random.u8(..) }).collect();
            Tensor::new(dtype, shape, bytes).unwrap()
        })
    }

    #[test]
    fn lengths() {
        assert_eq!(bytes_for(DType::I4, &[3]), Some(2));
        assert_eq!(bytes_for(DType::F32, &[]), Some(4));
        assert_eq!(bytes_for(DType::F32, &[3, 0]), Some(0));
        assert_eq!(bytes_for(DType::F32, &[usize::MAX, usize::MAX, 0]), None);
        assert_eq!(bytes_for(DType::F32, &[usize::MAX / 4 + 1]), None);
        assert!(tensor_of(DType::F32, vec![2], vec![0; 7].into()).is_none());
    }

    #[test]
    fn unknown_extensions_are_named() {
        let error = read(Path::new("input.txt")).unwrap_err().to_string();
        assert_eq!(error, "`input.txt` is not a tensor file (known: .npy, .npz, .pb)");
    }
}
