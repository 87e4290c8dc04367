//! NumPy's `.npz`: a zip archive of `.npy` arrays.

use std::io::{Cursor, Read, Write};

use adze_ir::tensor::Tensor;
use npyz::npz::{NpzArchive, NpzWriter, array_name_from_file_name, file_name_from_array_name};
use npyz::zip::{CompressionMethod, DateTime, write::FileOptions};

use super::{ContentError, bytes_for, npy};
use crate::mapped::Bytes;

/// Bound of one array when unpacked, so that a small archive cannot fill the memory.
const MAX_ARRAY_BYTES: usize = 4 << 30;

/// Reads every array, in the order of the archive.
///
/// # Errors
/// [`ContentError::Zip`] and those of [`npy::read`]; an array over 4 GiB is [`ContentError::Npy`].
pub fn read(bytes: &Bytes) -> Result<Vec<(String, Tensor)>, ContentError> {
    let zip = |error: npyz::zip::result::ZipError| ContentError::Zip(error.to_string());
    let mut archive =
        NpzArchive::new(Cursor::new(bytes.as_ref())).map_err(|error| ContentError::Zip(error.to_string()))?;
    let archive = archive.zip_archive();
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(zip)?;
        if let Some(name) = array_name_from_file_name(file.name()).map(str::to_string) {
            arrays.push((name, read_array(&mut file)?));
        }
    }
    Ok(arrays)
}

/// Reads header and data; never more than the header says, never more than there is.
fn read_array(file: &mut dyn Read) -> Result<Tensor, ContentError> {
    let mut head = Vec::new();
    file.take(12).read_to_end(&mut head)?;
    let (start, length) = npy::header_extent(&head)?;
    let missing = (start + length).saturating_sub(head.len());
    file.take(wide(missing)).read_to_end(&mut head)?;
    let header = npy::parse_header(&head)?;
    let length = bytes_for(header.dtype, &header.shape)
        .filter(|&length| length <= MAX_ARRAY_BYTES)
        .ok_or(ContentError::Npy("shape too large"))?;
    // A version 1 header of no bytes would end before the twelve that were read.
    let mut data = head.get(header.data_offset..).unwrap_or_default().to_vec();
    let missing = length.saturating_sub(data.len());
    file.take(wide(missing).saturating_add(1)).read_to_end(&mut data)?;
    if data.len() != length {
        return Err(ContentError::Npy("data does not fit the shape"));
    }
    npy::interpret(header, data.into())
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Writes an uncompressed archive, as `numpy.savez` does; no time stamp, so the same arrays give the same bytes.
///
/// # Errors
/// Those of [`npy::write`].
pub fn write(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, ContentError> {
    let zip = |error: npyz::zip::result::ZipError| ContentError::Zip(error.to_string());
    let options =
        FileOptions::default().compression_method(CompressionMethod::Stored).last_modified_time(DateTime::default());
    let mut writer = NpzWriter::new(Cursor::new(Vec::new()));
    let writer = writer.zip_writer();
    for (name, tensor) in tensors {
        let array = npy::write(tensor)?;
        let options = options.large_file(array.len() > 0xffff_0000);
        writer.start_file(file_name_from_array_name(name), options).map_err(zip)?;
        writer.write_all(&array)?;
    }
    Ok(writer.finish().map_err(zip)?.into_inner())
}

#[cfg(test)]
mod tests {
    use adze_ir::types::DType;
    use proptest::prelude::*;

    use super::super::tensor_of;
    use super::super::tests::any_tensor;
    use super::*;

    proptest! {
        #[test]
        fn round_trip(tensors in prop::collection::vec(any_tensor(), 0..4)) {
            let named: Vec<_> = tensors.into_iter().enumerate().map(|(i, t)| (format!("in_{i}"), t)).collect();
            if let Ok(bytes) = write(&named) {
                prop_assert_eq!(&bytes, &write(&named).unwrap());
                prop_assert_eq!(read(&bytes.into()).unwrap(), named);
            }
        }

        #[test]
        fn mutated(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let tensor = tensor_of(DType::F32, vec![2, 2], vec![7; 16].into()).unwrap();
            let mut bytes = write(&[("x".into(), tensor)]).unwrap();
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let _ = read(&bytes.into());
        }
    }
}
