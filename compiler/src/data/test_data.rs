//! The layout of ONNX's test data: a folder with `input_0.pb`, `input_1.pb`, ... and `output_0.pb`, ...
//!
//! Inputs are those of the graph that are no initializers, in order.

use std::path::Path;

use adze_ir::tensor::Tensor;

use super::{DataError, read, write};

/// Most files of one kind that are looked for.
const MAX_FILES: usize = 4096;

/// Reads `input_0.pb` and so on, up to the first that is missing; each with the name in the file.
///
/// # Errors
/// [`DataError`], naming the file; also when there is no `input_0.pb`.
pub fn read_inputs(folder: &Path) -> Result<Vec<(String, Tensor)>, DataError> {
    read_numbered(folder, "input")
}

/// Reads `output_0.pb` and so on, up to the first that is missing; each with the name in the file.
///
/// # Errors
/// [`DataError`], naming the file; also when there is no `output_0.pb`.
pub fn read_outputs(folder: &Path) -> Result<Vec<(String, Tensor)>, DataError> {
    read_numbered(folder, "output")
}

fn read_numbered(folder: &Path, stem: &str) -> Result<Vec<(String, Tensor)>, DataError> {
    let mut tensors = Vec::new();
    for index in 0..MAX_FILES {
        let path = folder.join(format!("{stem}_{index}.pb"));
        // The first one must be there: its error names what was looked for.
        if index > 0 && !path.exists() {
            break;
        }
        tensors.extend(read(&path)?);
    }
    Ok(tensors)
}

/// Writes `output_0.pb` and so on; the folder is made when it is missing.
///
/// # Errors
/// [`DataError`], naming the file or folder.
pub fn write_outputs(folder: &Path, tensors: &[(String, Tensor)]) -> Result<(), DataError> {
    std::fs::create_dir_all(folder).map_err(|source| DataError::Io { path: folder.into(), source })?;
    for (index, tensor) in tensors.iter().enumerate() {
        write(&folder.join(format!("output_{index}.pb")), std::slice::from_ref(tensor))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = std::env::temp_dir().join(format!("adze-test-data-{}", std::process::id()));
        let tensors =
            vec![("a".to_string(), Tensor::from_f32(&[2], &[1.0, 2.0])), ("b".to_string(), Tensor::vec_i64(&[3]))];
        write_outputs(&folder, &tensors).unwrap();
        assert_eq!(read_outputs(&folder).unwrap(), tensors);
        assert!(read_inputs(&folder).unwrap_err().to_string().contains("input_0.pb"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
