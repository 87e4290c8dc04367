//! Tensor constants: typed fields, raw bytes and external files, all brought to [`Tensor`].
//!
//! Raw, packed floating-point and external data stay in the mapped file; only varints are decoded into new memory,
//! and never more of them than the shape has elements.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use onnx_protobuf::TensorProto;
use onnx_protobuf::tensor_proto::DataLocation;
use protobuf::Enum;

use super::wire::{Cursor, Payload, Piece, RAW_DATA, WireError};
use crate::data::{bytes_for, tensor_of};
use crate::mapped::Bytes;

/// Highest rank that is imported.
pub const MAX_RANK: usize = 32;

/// Why a `TensorProto` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The decoder refused the skeleton.
    #[error("not a tensor message: {0}")]
    Protobuf(String),
    /// An element type that adze does not have.
    #[error("unsupported element type `{}`", elem_type_name(*.0))]
    ElemType(i32),
    /// A dimension is negative, or the element count overflows.
    #[error("dimensions {0:?}")]
    Dims(Vec<i64>),
    /// More than [`MAX_RANK`] dimensions.
    #[error("rank {0}, over the supported {MAX_RANK}")]
    Rank(usize),
    /// The bytes do not fit the shape.
    #[error("shape needs {expected} bytes of data, found {found}")]
    Length {
        /// Bytes that shape and dtype ask for.
        expected: usize,
        /// Bytes in the field or file, once decoded.
        found: usize,
    },
    /// The data is in a field that does not belong to the element type.
    #[error("data of `{}` in field {field} of `TensorProto`", elem_type_name(*.elem_type))]
    Field {
        /// Raw element type.
        elem_type: i32,
        /// Field number.
        field: u32,
    },
    /// Broken varints.
    #[error("broken data: {0}")]
    Wire(#[from] WireError),
    /// The tensor is one segment of a larger one.
    #[error("segmented tensors are not supported")]
    Segment,
    /// External data where none can be: no model folder is known.
    #[error("external data in a tensor without a folder")]
    NoFolder,
    /// An external-data entry is missing or malformed.
    #[error("external data with bad `{0}`")]
    ExternalEntry(&'static str),
    /// The external file lies outside the model's folder.
    #[error("external data `{0}` is outside the model's folder")]
    Outside(String),
    /// The external file cannot be read.
    #[error("external data `{location}`: {source}")]
    ExternalIo {
        /// As the model spells it.
        location: String,
        /// What the system said.
        source: io::Error,
    },
    /// Offset and length reach past the end of the external file.
    #[error("external data `{location}` has {found} bytes, fewer than offset and length ask for")]
    ExternalRange {
        /// As the model spells it.
        location: String,
        /// Size of the file in bytes.
        found: usize,
    },
}

impl TensorError {
    /// Whether the tensor is valid but not supported yet.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::ElemType(code) => ELEM_TYPES.iter().any(|(known, ..)| known == code),
            Self::Segment | Self::Rank(_) => true,
            _ => false,
        }
    }
}

/// Raw element types: code, name in `onnx.proto`, our dtype, field of the typed form.
///
/// Source: `onnx.proto`, `TensorProto.DataType` of ONNX 1.21.
const ELEM_TYPES: &[(i32, &str, Option<DType>, u32)] = &[
    (1, "FLOAT", Some(DType::F32), 4),
    (2, "UINT8", Some(DType::U8), 5),
    (3, "INT8", Some(DType::I8), 5),
    (4, "UINT16", Some(DType::U16), 5),
    (5, "INT16", Some(DType::I16), 5),
    (6, "INT32", Some(DType::I32), 5),
    (7, "INT64", Some(DType::I64), 7),
    (8, "STRING", None, 6),
    (9, "BOOL", Some(DType::Bool), 5),
    (10, "FLOAT16", Some(DType::F16), 5),
    (11, "DOUBLE", Some(DType::F64), 10),
    (12, "UINT32", Some(DType::U32), 11),
    (13, "UINT64", Some(DType::U64), 11),
    (14, "COMPLEX64", None, 4),
    (15, "COMPLEX128", None, 10),
    (16, "BFLOAT16", Some(DType::Bf16), 5),
    (17, "FLOAT8E4M3FN", Some(DType::F8E4m3fn), 5),
    (18, "FLOAT8E4M3FNUZ", Some(DType::F8E4m3fnuz), 5),
    (19, "FLOAT8E5M2", Some(DType::F8E5m2), 5),
    (20, "FLOAT8E5M2FNUZ", Some(DType::F8E5m2fnuz), 5),
    (21, "UINT4", Some(DType::U4), 5),
    (22, "INT4", Some(DType::I4), 5),
    (23, "FLOAT4E2M1", None, 5),
    (24, "FLOAT8E8M0", None, 5),
    (25, "UINT2", Some(DType::U2), 5),
    (26, "INT2", Some(DType::I2), 5),
    (27, "FLOAT6E2M3", None, 5),
    (28, "FLOAT6E3M2", None, 5),
];

/// The dtype of a raw element type.
///
/// # Errors
/// [`TensorError::ElemType`] when there is none.
pub fn dtype_of(elem_type: i32) -> Result<DType, TensorError> {
    let row = ELEM_TYPES.iter().find(|(code, ..)| *code == elem_type);
    row.and_then(|(_, _, dtype, _)| *dtype).ok_or(TensorError::ElemType(elem_type))
}

/// The raw element type of a dtype.
pub fn elem_type_of(dtype: DType) -> i32 {
    ELEM_TYPES.iter().find(|(_, _, ours, _)| *ours == Some(dtype)).map_or(0, |(code, ..)| *code)
}

/// The name in `onnx.proto`, also of element types that adze does not have.
pub fn elem_type_name(elem_type: i32) -> Cow<'static, str> {
    match ELEM_TYPES.iter().find(|(code, ..)| *code == elem_type) {
        Some((_, name, ..)) => Cow::Borrowed(*name),
        None => Cow::Owned(format!("number {elem_type}")),
    }
}

/// The raw element type of a name in `onnx.proto`, as operators before opset 6 spell it.
pub fn elem_type_of_name(name: &str) -> Option<i32> {
    ELEM_TYPES.iter().find(|(_, known, ..)| *known == name).map(|(code, ..)| *code)
}

/// Reads the tensors of one skeleton.
#[derive(Debug)]
pub struct TensorReader {
    file: Bytes,
    payloads: Vec<Payload>,
    /// Folder of the model, where external data may lie.
    folder: Option<PathBuf>,
    external: BTreeMap<String, Bytes>,
}

impl TensorReader {
    /// A reader over the walked file.
    pub fn new(file: Bytes, payloads: Vec<Payload>, folder: Option<PathBuf>) -> Self {
        Self { file, payloads, folder, external: BTreeMap::new() }
    }

    /// Files that were read for external data, in order of name.
    pub fn external_files(&self) -> impl Iterator<Item = &str> {
        self.external.keys().map(String::as_str)
    }

    /// The content of a tensor of the skeleton.
    ///
    /// # Errors
    /// [`TensorError`].
    pub fn read(&mut self, proto: &TensorProto) -> Result<Tensor, TensorError> {
        if proto.segment.is_some() {
            return Err(TensorError::Segment);
        }
        let dtype = dtype_of(proto.data_type)?;
        if proto.dims.len() > MAX_RANK {
            return Err(TensorError::Rank(proto.dims.len()));
        }
        let shape: Result<Vec<usize>, _> = proto.dims.iter().map(|&dim| usize::try_from(dim)).collect();
        let wrong = || TensorError::Dims(proto.dims.clone());
        let shape = shape.map_err(|_| wrong())?;
        let expected = bytes_for(dtype, &shape).ok_or_else(wrong)?;
        let bytes = if proto.data_location.value() == DataLocation::EXTERNAL.value() {
            self.external_bytes(proto, expected)?
        } else {
            self.inline_bytes(proto, dtype, expected)?
        };
        if bytes.len() != expected {
            return Err(TensorError::Length { expected, found: bytes.len() });
        }
        tensor_of(dtype, shape, canonical_bool(dtype, bytes)).ok_or_else(wrong)
    }

    fn inline_bytes(&self, proto: &TensorProto, dtype: DType, expected: usize) -> Result<Bytes, TensorError> {
        let none = Payload::default();
        // The walker put the payload's index there; a tensor made elsewhere has none.
        let index = proto.raw_data.as_slice().try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
        let payload = usize::try_from(index).ok().and_then(|i| self.payloads.get(i)).unwrap_or(&none);
        let pieces: Vec<&Piece> = payload.pieces.iter().filter(|piece| !piece.range.is_empty()).collect();
        let Some(first) = pieces.first() else { return Ok(Bytes::default()) };
        let typed = ELEM_TYPES.iter().find(|row| row.0 == proto.data_type).map_or(0, |row| row.3);
        let wrong = |field| TensorError::Field { elem_type: proto.data_type, field };
        if let Some(other) = pieces.iter().find(|piece| piece.field != first.field) {
            return Err(wrong(other.field));
        }
        let single = match first.field {
            RAW_DATA => 2,
            4 if typed == 4 => 5,
            10 if typed == 10 => 1,
            field @ (5 | 7 | 11) if typed == field => 0,
            field => return Err(wrong(field)),
        };
        if pieces.iter().any(|piece| piece.wire_type != 2 && piece.wire_type != single) {
            return Err(wrong(first.field));
        }
        match (first.field, single) {
            // Of a field that is not repeated, the last occurrence counts.
            (RAW_DATA, _) => Ok(self.piece(pieces[pieces.len() - 1])),
            (_, 0) => self.varints(&pieces, dtype, expected),
            _ if pieces.len() == 1 => Ok(self.piece(first)),
            _ => Ok(pieces
                .iter()
                .flat_map(|piece| self.file[piece.range.clone()].iter().copied())
                .collect::<Vec<_>>()
                .into()),
        }
    }

    fn piece(&self, piece: &Piece) -> Bytes {
        self.file.slice(piece.range.clone()).unwrap_or_default()
    }

    /// Decodes varints into elements of `dtype`; each byte of 2- or 4-bit elements is one value.
    fn varints(&self, pieces: &[&Piece], dtype: DType, expected: usize) -> Result<Bytes, TensorError> {
        let width = dtype.bytes_for(1);
        let available: usize = pieces.iter().map(|piece| piece.range.len()).sum();
        let mut out = Vec::with_capacity(expected.min(available.saturating_mul(width)));
        for piece in pieces {
            let mut at =
                Cursor { bytes: &self.file[..piece.range.end], offset: piece.range.start, message: "TensorProto" };
            while at.offset < piece.range.end {
                let value = at.varint()?;
                if out.len() >= expected {
                    return Err(TensorError::Length { expected, found: out.len() + width });
                }
                out.extend_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        Ok(out.into())
    }

    fn external_bytes(&mut self, proto: &TensorProto, expected: usize) -> Result<Bytes, TensorError> {
        let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &'static str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| TensorError::ExternalEntry(key)),
        };
        let location = entry("location").ok_or(TensorError::ExternalEntry("location"))?.to_string();
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let file = self.external_file(&location)?;
        let short = || TensorError::ExternalRange { location: location.clone(), found: file.len() };
        let end = match length {
            Some(length) => offset.checked_add(length).ok_or_else(short)?,
            // Without a length the data goes to the end of the file, but a shared file has other tensors behind.
            None => offset.checked_add(expected).ok_or_else(short)?,
        };
        file.slice(offset..end).ok_or_else(short)
    }

    fn external_file(&mut self, location: &str) -> Result<Bytes, TensorError> {
        if let Some(bytes) = self.external.get(location) {
            return Ok(bytes.clone());
        }
        let folder = self.folder.as_deref().ok_or(TensorError::NoFolder)?;
        let io = |source| TensorError::ExternalIo { location: location.to_string(), source };
        let path = resolve(folder, location)?.map_err(io)?;
        let bytes = Bytes::map(&path).map_err(io)?;
        self.external.insert(location.to_string(), bytes.clone());
        Ok(bytes)
    }
}

/// The path of an external file, refused when it leaves the folder by its spelling or by a link.
fn resolve(folder: &Path, location: &str) -> Result<io::Result<PathBuf>, TensorError> {
    let outside = || TensorError::Outside(location.to_string());
    let relative = Path::new(location);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    // A backslash or drive is an ordinary character here and a separator elsewhere: refused everywhere.
    if location.is_empty() || !plain || location.contains(['\\', ':', '\0']) {
        return Err(outside());
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let resolved = folder.canonicalize().and_then(|root| Ok((folder.join(relative).canonicalize()?, root)));
    match resolved {
        Ok((path, root)) if path.starts_with(&root) => Ok(Ok(path)),
        Ok(_) => Err(outside()),
        Err(error) => Ok(Err(error)),
    }
}

/// Any non-zero byte is true.
fn canonical_bool(dtype: DType, bytes: Bytes) -> Bytes {
    if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
        return bytes.iter().map(|&b| u8::from(b != 0)).collect::<Vec<_>>().into();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::{Message, StringStringEntryProto};

    use super::super::wire;
    use super::*;

    fn read_in(proto: &TensorProto, folder: Option<PathBuf>) -> Result<Tensor, TensorError> {
        let bytes = Bytes::from(proto.write_to_bytes().unwrap());
        let skeleton = wire::walk_tensor(&bytes).unwrap();
        let decoded = TensorProto::parse_from_bytes(&skeleton.bytes).unwrap();
        TensorReader::new(bytes, skeleton.payloads, folder).read(&decoded)
    }

    fn read(proto: &TensorProto) -> Result<Tensor, TensorError> {
        read_in(proto, None)
    }

    fn tensor(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type, dims: dims.to_vec(), ..Default::default() }
    }

    #[test]
    fn typed_fields() {
        let floats = TensorProto { float_data: vec![1.0, -2.0], ..tensor(1, &[2]) };
        assert_eq!(read(&floats).unwrap().bytes(), [1f32.to_le_bytes(), (-2f32).to_le_bytes()].concat());
        let bytes = TensorProto { int32_data: vec![-1, 2], ..tensor(3, &[2]) };
        assert_eq!(read(&bytes).unwrap().bytes(), &[255, 2]);
        let halves = TensorProto { int32_data: vec![0x3c00], ..tensor(10, &[1]) };
        assert_eq!(read(&halves).unwrap().bytes(), &[0, 0x3c]);
        let longs = TensorProto { int64_data: vec![-3], ..tensor(7, &[]) };
        assert_eq!(read(&longs).unwrap().bytes(), (-3i64).to_le_bytes());
        let words = TensorProto { uint64_data: vec![7], ..tensor(12, &[1]) };
        assert_eq!(read(&words).unwrap().bytes(), 7u32.to_le_bytes());
        let nibbles = TensorProto { int32_data: vec![0x21, 0x03], ..tensor(22, &[3]) };
        assert_eq!(read(&nibbles).unwrap().bytes(), &[0x21, 0x03]);
        let bools = TensorProto { raw_data: vec![0, 5], ..tensor(9, &[2]) };
        assert_eq!(read(&bools).unwrap().bytes(), &[0, 1]);
    }

    #[test]
    fn faults() {
        let fault = |proto: &TensorProto| read(proto).unwrap_err().to_string();
        let short = TensorProto { raw_data: vec![0; 3], ..tensor(1, &[2]) };
        assert_eq!(fault(&short), "shape needs 8 bytes of data, found 3");
        let long = TensorProto { int64_data: vec![1, 2, 3], ..tensor(7, &[2]) };
        assert_eq!(fault(&long), "shape needs 16 bytes of data, found 24");
        let none = tensor(1, &[1 << 40]);
        assert_eq!(fault(&none), "shape needs 4398046511104 bytes of data, found 0");
        assert_eq!(fault(&tensor(1, &[-1])), "dimensions [-1]");
        assert_eq!(fault(&tensor(1, &[i64::MAX, 2])), "dimensions [9223372036854775807, 2]");
        assert_eq!(fault(&tensor(23, &[])), "unsupported element type `FLOAT4E2M1`");
        assert_eq!(fault(&tensor(99, &[])), "unsupported element type `number 99`");
        let misplaced = TensorProto { int64_data: vec![1], ..tensor(1, &[1]) };
        assert_eq!(fault(&misplaced), "data of `FLOAT` in field 7 of `TensorProto`");
    }

    fn external(location: &str, offset: &str, length: &str) -> TensorProto {
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        TensorProto {
            data_location: DataLocation::EXTERNAL.into(),
            external_data: vec![entry("location", location), entry("offset", offset), entry("length", length)],
            ..tensor(2, &[2])
        }
    }

    #[test]
    fn external_files() {
        let folder = std::env::temp_dir().join(format!("adze-external-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("model")).unwrap();
        std::fs::write(folder.join("secret"), [9; 8]).unwrap();
        std::fs::write(folder.join("model/w.bin"), [1, 2, 3, 4]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.join("secret"), folder.join("model/link")).unwrap();
        let model = Some(folder.join("model"));
        let read = |location: &str, offset: &str, length: &str| {
            read_in(&external(location, offset, length), model.clone()).map_err(|error| error.to_string())
        };
        assert_eq!(read("w.bin", "1", "2").unwrap().bytes(), &[2, 3]);
        assert_eq!(read("./w.bin", "0", "2").unwrap().bytes(), &[1, 2]);
        let outside = |location: &str| format!("external data `{location}` is outside the model's folder");
        assert_eq!(read("../secret", "0", "2").unwrap_err(), outside("../secret"));
        assert_eq!(read("/etc/passwd", "0", "2").unwrap_err(), outside("/etc/passwd"));
        #[cfg(unix)]
        assert_eq!(read("link", "0", "2").unwrap_err(), outside("link"));
        assert!(read("w.bin", "3", "2").unwrap_err().contains("has 4 bytes"));
        assert!(read("w.bin", "18446744073709551615", "2").unwrap_err().contains("has 4 bytes"));
        assert_eq!(read("w.bin", "-1", "2").unwrap_err(), "external data with bad `offset`");
        assert!(read_in(&external("w.bin", "0", "2"), None).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
