//! NumPy's `.npy`: one array, a one-line Python dictionary as header.
//!
//! The header is parsed here, not with the `npyz` crate, because that one recurses into nested brackets and multiplies
//! dimensions unchecked. Source: `numpy.lib.format`, versions 1.0 to 3.0.

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::{ContentError, bytes_for, tensor_of};
use crate::mapped::Bytes;

const MAGIC: &[u8] = b"\x93NUMPY";
/// A longer header than this describes no tensor.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    big_endian: bool,
    fortran_order: bool,
    /// Bytes from the start of the file to the data.
    pub(super) data_offset: usize,
}

/// Reads an array; the result shares the bytes where their order allows it.
///
/// # Errors
/// [`ContentError::Npy`] and [`ContentError::NpyType`].
pub fn read(bytes: &Bytes) -> Result<Tensor, ContentError> {
    let header = parse_header(bytes)?;
    let length = bytes_for(header.dtype, &header.shape).ok_or(ContentError::Npy("shape too large"))?;
    let end = header.data_offset.checked_add(length).ok_or(ContentError::Npy("shape too large"))?;
    let data = bytes.slice(header.data_offset..end).ok_or(ContentError::Npy("data shorter than the shape"))?;
    if end != bytes.len() {
        return Err(ContentError::Npy("data longer than the shape"));
    }
    interpret(header, data)
}

/// Brings data into row-major little-endian order.
pub(super) fn interpret(header: Header, data: Bytes) -> Result<Tensor, ContentError> {
    let elem_bytes = header.dtype.bytes_for(1);
    let swap = header.big_endian && elem_bytes > 1;
    let fortran = header.fortran_order && header.shape.len() > 1;
    let bool_fix = header.dtype == DType::Bool && data.iter().any(|&b| b > 1);
    let mut data = data;
    if swap || fortran || bool_fix {
        let mut owned = if fortran { row_major(&data, &header.shape, elem_bytes) } else { data.to_vec() };
        if swap {
            owned.chunks_exact_mut(elem_bytes).for_each(<[u8]>::reverse);
        }
        if bool_fix {
            owned.iter_mut().for_each(|b| *b = u8::from(*b != 0));
        }
        data = owned.into();
    }
    tensor_of(header.dtype, header.shape, data).ok_or(ContentError::Npy("data does not fit the shape"))
}

/// Transposes from column-major to row-major order.
fn row_major(data: &[u8], shape: &[usize], elem_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0usize; shape.len()];
    while out.len() < data.len() {
        let mut offset = 0;
        for (&i, &dim) in index.iter().zip(shape).rev() {
            offset = offset * dim + i;
        }
        out.extend_from_slice(&data[offset * elem_bytes..(offset + 1) * elem_bytes]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

/// Parses magic, version and dictionary; `bytes` may go on after the header.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Header, ContentError> {
    let (start, length) = header_extent(bytes)?;
    let text = bytes.get(start..start + length).ok_or(ContentError::Npy("truncated header"))?;
    let text = std::str::from_utf8(text).map_err(|_| ContentError::Npy("header is not text"))?;
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    let mut rest = text.trim().strip_prefix('{').ok_or(ContentError::Npy("header is no dictionary"))?.trim_start();
    while !rest.starts_with('}') {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':').ok_or(ContentError::Npy("header without `:`"))?.trim_start();
        rest = match key {
            "descr" if value.starts_with('[') => return Err(ContentError::NpyType("record".into())),
            "descr" => {
                let (text, after) = quoted(value)?;
                descr = Some(text);
                after
            }
            "fortran_order" => {
                let word = value.strip_prefix("True").map(|after| (true, after));
                let (flag, after) = word
                    .or_else(|| value.strip_prefix("False").map(|after| (false, after)))
                    .ok_or(ContentError::Npy("`fortran_order` is not a truth value"))?;
                fortran_order = Some(flag);
                after
            }
            "shape" => {
                let (dims, after) = tuple(value)?;
                shape = Some(dims);
                after
            }
            _ => return Err(ContentError::Npy("unknown key in the header")),
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    let (dtype, big_endian) = parse_descr(descr.ok_or(ContentError::Npy("header without `descr`"))?)?;
    Ok(Header {
        dtype,
        shape: shape.ok_or(ContentError::Npy("header without `shape`"))?,
        big_endian,
        fortran_order: fortran_order.ok_or(ContentError::Npy("header without `fortran_order`"))?,
        data_offset: start + length,
    })
}

/// Start and length of the dictionary.
pub(super) fn header_extent(bytes: &[u8]) -> Result<(usize, usize), ContentError> {
    let truncated = ContentError::Npy("truncated header");
    if !bytes.starts_with(MAGIC) {
        return Err(ContentError::Npy("magic number missing"));
    }
    let (start, length) = match bytes.get(6) {
        Some(1) => match bytes.get(8..10) {
            Some(&[a, b]) => (10, usize::from(u16::from_le_bytes([a, b]))),
            _ => return Err(truncated),
        },
        Some(2 | 3) => match bytes.get(8..12) {
            Some(&[a, b, c, d]) => (12, usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX)),
            _ => return Err(truncated),
        },
        Some(_) => return Err(ContentError::Npy("unknown version")),
        None => return Err(truncated),
    };
    if length > MAX_HEADER_BYTES { Err(ContentError::Npy("header too long")) } else { Ok((start, length)) }
}

fn quoted(text: &str) -> Result<(&str, &str), ContentError> {
    let fault = ContentError::Npy("string expected in the header");
    let Some(quote @ ('\'' | '"')) = text.chars().next() else { return Err(fault) };
    text[1..].split_once(quote).ok_or(fault)
}

fn tuple(text: &str) -> Result<(Vec<usize>, &str), ContentError> {
    let fault = || ContentError::Npy("`shape` is not a tuple of integers");
    let (inside, after) = text.strip_prefix('(').and_then(|t| t.split_once(')')).ok_or_else(fault)?;
    let parts = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
    let dims = parts.map(|part| part.trim_end_matches('L').parse().map_err(|_| fault())).collect::<Result<_, _>>()?;
    Ok((dims, after))
}

/// `<f4` and the like: dtype and whether it is big-endian.
fn parse_descr(descr: &str) -> Result<(DType, bool), ContentError> {
    let unknown = || ContentError::NpyType(descr.chars().take(32).collect());
    let (big_endian, name) = match descr.chars().next() {
        Some('<' | '|' | '=') => (false, &descr[1..]),
        Some('>') => (true, &descr[1..]),
        _ => (false, descr),
    };
    let dtype = NAMES.iter().find(|(_, n)| *n == name).map(|(dtype, _)| *dtype).ok_or_else(unknown)?;
    Ok((dtype, big_endian))
}

const NAMES: &[(DType, &str)] = &[
    (DType::F16, "f2"),
    (DType::F32, "f4"),
    (DType::F64, "f8"),
    (DType::I8, "i1"),
    (DType::I16, "i2"),
    (DType::I32, "i4"),
    (DType::I64, "i8"),
    (DType::U8, "u1"),
    (DType::U16, "u2"),
    (DType::U32, "u4"),
    (DType::U64, "u8"),
    (DType::Bool, "b1"),
];

/// Writes an array, version 1.0, data aligned to 64 bytes.
///
/// # Errors
/// [`ContentError::NoSuchType`] for `bf16` and 4-bit integers, which NumPy does not have.
pub fn write(tensor: &Tensor) -> Result<Vec<u8>, ContentError> {
    let name = NAMES.iter().find(|(dtype, _)| *dtype == tensor.dtype()).map(|(_, name)| *name);
    let name = name.ok_or(ContentError::NoSuchType { format: ".npy", dtype: tensor.dtype() })?;
    let order = if tensor.dtype().bits() > 8 { '<' } else { '|' };
    let dims: String = tensor.shape().iter().map(|dim| format!("{dim}, ")).collect();
    let dims = if tensor.shape().len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{order}{name}', 'fortran_order': False, 'shape': ({dims}), }}");
    let padding = (10 + text.len() + 1).next_multiple_of(64) - (10 + text.len() + 1);
    text.push_str(&" ".repeat(padding));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| ContentError::Npy("rank too high"))?;
    let mut out = [MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat();
    out.extend_from_slice(tensor.bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_tensor;
    use super::*;

    fn array(header: &str, data: &[u8]) -> Bytes {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat().into()
    }

    #[test]
    fn header_as_numpy_writes_it() {
        let tensor = tensor_of(DType::F32, vec![3], vec![0; 12].into()).unwrap();
        let bytes = write(&tensor).unwrap();
        assert!(bytes[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } "));
        assert_eq!(bytes.len(), 128 + 12);
        assert_eq!(bytes[127], b'\n');
    }

    #[test]
    fn column_major_and_big_endian() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        // Columns (1,4), (2,5), (3,6).
        let tensor = read(&array(header, &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6])).unwrap();
        assert_eq!(tensor.bytes(), &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    }

    #[test]
    fn faults() {
        let fault = |header: &str, data: &[u8]| read(&array(header, data)).unwrap_err().to_string();
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(fault(good, &[0; 7]), "not an npy array: data shorter than the shape");
        assert_eq!(fault(good, &[0; 9]), "not an npy array: data longer than the shape");
        assert_eq!(fault(&good.replace("<f4", "<c8"), &[]), "unsupported npy element type `<c8`");
        assert_eq!(fault(&good.replace("(2,)", "(-1,)"), &[]), "not an npy array: `shape` is not a tuple of integers");
        let huge = good.replace("(2,)", "(9999999999, 9999999999)");
        assert_eq!(fault(&huge, &[]), "not an npy array: shape too large");
        let tensor = tensor_of(DType::I4, vec![1], vec![0].into()).unwrap();
        assert_eq!(write(&tensor).unwrap_err().to_string(), ".npy files cannot hold `i4`");
    }

    proptest! {
        #[test]
        fn round_trip(tensor in any_tensor()) {
            if let Ok(bytes) = write(&tensor) {
                prop_assert_eq!(read(&bytes.into()).unwrap(), tensor);
            }
        }

        #[test]
        fn any_text(header in "[{}'(), :a-z0-9<>|TF]{0,80}", data in prop::collection::vec(any::<u8>(), 0..16)) {
            let _ = read(&array(&header, &data));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes.into());
        }
    }
}
