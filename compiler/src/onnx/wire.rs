//! A bounded walk over protobuf bytes, before any decoder sees them.
//!
//! The walk follows the known ONNX messages (`super::schema`) and writes a *skeleton*: the same model with unknown
//! fields and documentation left out and with every tensor's payload replaced by the index of its [`Payload`], the
//! ranges of the payload's bytes in the walked buffer. The skeleton is small, whatever the weights, and harmless to the
//! decoder of the `protobuf` crate, which recurses without bound into unknown groups.
//!
//! Limits: [`MAX_DEPTH`] nested messages, [`MAX_DECODED_BYTES`] for the decoded skeleton. Groups are rejected: ONNX has
//! none.

use std::ops::Range;

use super::schema::{Field, Kind, Msg};

/// Deepest nesting of messages, that of the C++ and Rust protobuf decoders.
pub const MAX_DEPTH: u32 = 100;

/// Bound of the memory that the decoded skeleton may take. A file of empty nodes would otherwise grow a hundredfold.
pub const MAX_DECODED_BYTES: usize = 512 << 20;

/// What is wrong with the bytes, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} in {message} at byte {offset}")]
pub struct WireError {
    /// Offset in the file.
    pub offset: usize,
    /// The message that was being read, by its name in `onnx.proto`.
    pub message: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

/// The ways in which bytes fail to be a protobuf message of ONNX.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end inside a field.
    #[error("truncated field")]
    Truncated,
    /// A varint of more than ten bytes or of more than 64 bits.
    #[error("overlong varint")]
    Varint,
    /// A group (wire type 3 or 4).
    #[error("group, which ONNX does not use,")]
    Group,
    /// Wire type 6 or 7.
    #[error("invalid wire type {0}")]
    WireType(u8),
    /// Field number 0 or above 2^29 - 1.
    #[error("invalid field number {0}")]
    FieldNumber(u64),
    /// A known field with the wire type of another kind.
    #[error("field `{field}` with wire type {found}")]
    Mismatch {
        /// Name of the field in `onnx.proto`.
        field: &'static str,
        /// Wire type found.
        found: u8,
    },
    /// More than [`MAX_DEPTH`] messages inside each other.
    #[error("messages nested over {MAX_DEPTH} deep")]
    Depth,
    /// More than [`MAX_DECODED_BYTES`] once decoded.
    #[error("more than {} MiB of structure", MAX_DECODED_BYTES >> 20)]
    TooLarge,
}

/// Where the elements of one tensor lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// In file order; normally one. Several pieces of one field follow each other in value order.
    pub pieces: Vec<Piece>,
}

/// A run of payload bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Field number within `TensorProto`.
    pub field: u32,
    /// Wire type of the piece: 2 for packed values and for bytes, else that of a single value.
    pub wire_type: u8,
    /// Bytes in the walked buffer, length prefix excluded.
    pub range: Range<usize>,
}

/// What `walk` found.
#[derive(Clone, Debug, Default)]
pub struct Skeleton {
    /// The message without payloads. `raw_data` of tensor `i` holds `i` as eight little-endian bytes.
    pub bytes: Vec<u8>,
    /// The payloads, by that index.
    pub payloads: Vec<Payload>,
}

/// Walks a `ModelProto`.
///
/// # Errors
/// [`WireError`] when the bytes are no well-formed model or exceed a limit.
pub fn walk_model(bytes: &[u8]) -> Result<Skeleton, WireError> {
    walk(bytes, Msg::Model)
}

/// Walks a stand-alone `TensorProto`, the content of an ONNX test-data `.pb` file.
///
/// # Errors
/// [`WireError`] when the bytes are no well-formed tensor or exceed a limit.
pub fn walk_tensor(bytes: &[u8]) -> Result<Skeleton, WireError> {
    walk(bytes, Msg::Tensor)
}

fn walk(bytes: &[u8], root: Msg) -> Result<Skeleton, WireError> {
    let mut walker = Walker { bytes, out: Skeleton::default(), decoded: 0 };
    walker.message(root, 0..bytes.len(), 1)?;
    Ok(walker.out)
}

struct Walker<'a> {
    bytes: &'a [u8],
    out: Skeleton,
    /// Estimate of the decoded skeleton, in bytes.
    decoded: usize,
}

/// The tag of a field and where its value starts.
struct Tag {
    number: u32,
    wire_type: u8,
    offset: usize,
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;
/// Field `TensorProto.raw_data`.
pub(super) const RAW_DATA: u32 = 9;

impl Walker<'_> {
    /// Walks one message whose content is `range` and appends its skeleton.
    fn message(&mut self, msg: Msg, range: Range<usize>, depth: u32) -> Result<(), WireError> {
        let mut at = Cursor { bytes: &self.bytes[..range.end], offset: range.start, message: msg.name() };
        self.charge(msg.decoded_bytes(), &at)?;
        let mut payload = Payload::default();
        while at.offset < range.end {
            let tag = at.tag()?;
            let value = at.value(&tag)?;
            let Some(field) = msg.field(tag.number) else { continue };
            let (_, name, kind) = field;
            if !accepts(kind, tag.wire_type) {
                return Err(at.error(tag.offset, Fault::Mismatch { field: name, found: tag.wire_type }));
            }
            match kind {
                Kind::Skip => {}
                Kind::Payload => {
                    self.charge(size_of::<Piece>(), &at)?;
                    payload.pieces.push(Piece { field: tag.number, wire_type: tag.wire_type, range: value });
                }
                Kind::Message(inner) => self.nested(&at, &tag, inner, value, depth)?,
                Kind::Int | Kind::Float | Kind::Bytes => self.copy(&at, &tag, field, value)?,
            }
        }
        if msg == Msg::Tensor {
            self.charge(size_of::<Payload>(), &at)?;
            self.put_tag(RAW_DATA, LEN);
            self.put_varint(8);
            let index = wide(self.out.payloads.len());
            self.out.bytes.extend_from_slice(&index.to_le_bytes());
            self.out.payloads.push(payload);
        }
        Ok(())
    }

    fn nested(
        &mut self,
        at: &Cursor<'_>,
        tag: &Tag,
        inner: Msg,
        value: Range<usize>,
        depth: u32,
    ) -> Result<(), WireError> {
        if depth >= MAX_DEPTH {
            return Err(at.error(tag.offset, Fault::Depth));
        }
        self.put_tag(tag.number, LEN);
        // The length is known only afterwards: five bytes are set aside, a padded varint, which decoders accept.
        let length_at = self.out.bytes.len();
        self.out.bytes.extend_from_slice(&[0; 5]);
        self.message(inner, value, depth + 1)?;
        let length = self.out.bytes.len() - length_at - 5;
        for (index, byte) in self.out.bytes[length_at..length_at + 5].iter_mut().enumerate() {
            let continued = if index < 4 { 0x80 } else { 0 };
            *byte = low_bits(wide(length >> (7 * index))) | continued;
        }
        Ok(())
    }

    fn copy(&mut self, at: &Cursor<'_>, tag: &Tag, field: Field, value: Range<usize>) -> Result<(), WireError> {
        let (number, _, kind) = field;
        let packed = tag.wire_type == LEN && kind != Kind::Bytes;
        if packed && kind == Kind::Int {
            let mut inner = Cursor { bytes: &at.bytes[..value.end], offset: value.start, message: at.message };
            while inner.offset < value.end {
                inner.varint()?;
            }
        }
        if packed && kind == Kind::Float && !value.len().is_multiple_of(4) {
            return Err(at.error(value.start, Fault::Truncated));
        }
        // A packed varint of one byte decodes to eight; a string has a header.
        let cost = if packed { value.len() * 8 } else { value.len() + size_of::<String>() };
        self.charge(cost, at)?;
        self.put_tag(number, tag.wire_type);
        if tag.wire_type == LEN {
            self.put_varint(wide(value.len()));
        }
        self.out.bytes.extend_from_slice(&self.bytes[value]);
        Ok(())
    }

    fn charge(&mut self, bytes: usize, at: &Cursor<'_>) -> Result<(), WireError> {
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > MAX_DECODED_BYTES { Err(at.error(at.offset, Fault::TooLarge)) } else { Ok(()) }
    }

    fn put_tag(&mut self, number: u32, wire_type: u8) {
        self.put_varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.bytes.push(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.out.bytes.push(low_bits(value));
    }
}

/// The low seven bits.
fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// A length or index; `usize` is never wider than 64 bits.
fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Whether a field of that kind may come with that wire type.
fn accepts(kind: Kind, wire_type: u8) -> bool {
    match kind {
        Kind::Int => wire_type == VARINT || wire_type == LEN,
        Kind::Float => wire_type == FIXED32 || wire_type == LEN,
        Kind::Bytes | Kind::Message(_) => wire_type == LEN,
        // Checked against the field where the payload is decoded.
        Kind::Payload | Kind::Skip => true,
    }
}

/// A position in a buffer; every read is checked.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
    pub(super) message: &'static str,
}

impl Cursor<'_> {
    fn error(&self, offset: usize, fault: Fault) -> WireError {
        WireError { offset, message: self.message, fault }
    }

    fn tag(&mut self) -> Result<Tag, WireError> {
        let offset = self.offset;
        let key = self.varint()?;
        let wire_type = low_bits(key & 7);
        match u32::try_from(key >> 3) {
            Ok(number @ 1..=0x1fff_ffff) => Ok(Tag { number, wire_type, offset }),
            _ => Err(self.error(offset, Fault::FieldNumber(key >> 3))),
        }
    }

    /// Steps over the value of a field; returns its bytes, for [`LEN`] without the length.
    fn value(&mut self, tag: &Tag) -> Result<Range<usize>, WireError> {
        let start = self.offset;
        let length = match tag.wire_type {
            VARINT => {
                self.varint()?;
                return Ok(start..self.offset);
            }
            FIXED64 => 8,
            FIXED32 => 4,
            LEN => self.varint()?,
            3 | 4 => return Err(self.error(tag.offset, Fault::Group)),
            other => return Err(self.error(tag.offset, Fault::WireType(other))),
        };
        let start = self.offset;
        let left = self.bytes.len() - start;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                self.offset += length;
                Ok(start..self.offset)
            }
            _ => Err(self.error(start, Fault::Truncated)),
        }
    }

    /// Reads a varint of at most ten bytes.
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let start = self.offset;
        let mut value = 0u64;
        for index in 0..10 {
            let Some(&byte) = self.bytes.get(self.offset) else {
                return Err(self.error(start, Fault::Truncated));
            };
            self.offset += 1;
            // The tenth byte holds the last bit only.
            if index == 9 && byte > 1 {
                return Err(self.error(start, Fault::Varint));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(start, Fault::Varint))
    }
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, TensorProto};
    use proptest::prelude::*;

    use super::*;

    fn model() -> ModelProto {
        let weight = TensorProto {
            name: "w".into(),
            dims: vec![2],
            data_type: 1,
            raw_data: vec![1, 2, 3, 4, 5, 6, 7, 8],
            ..Default::default()
        };
        let typed =
            TensorProto { name: "v".into(), dims: vec![1], data_type: 1, float_data: vec![1.5], ..Default::default() };
        let node = NodeProto { op_type: "Relu".into(), input: vec!["x".into()], ..Default::default() };
        let graph = GraphProto { node: vec![node], initializer: vec![weight, typed], ..Default::default() };
        ModelProto { ir_version: 8, graph: Some(graph).into(), ..Default::default() }
    }

    #[test]
    fn payloads_stay_where_they_are() {
        let bytes = model().write_to_bytes().unwrap();
        let skeleton = walk_model(&bytes).unwrap();
        let decoded = ModelProto::parse_from_bytes(&skeleton.bytes).unwrap();
        assert_eq!(decoded.ir_version, 8);
        assert_eq!(decoded.graph.node[0].op_type, "Relu");
        assert_eq!(decoded.graph.initializer[1].raw_data, 1u64.to_le_bytes());
        assert!(decoded.graph.initializer[1].float_data.is_empty());
        let piece = &skeleton.payloads[0].pieces[0];
        assert_eq!((piece.field, &bytes[piece.range.clone()]), (RAW_DATA, &[1u8, 2, 3, 4, 5, 6, 7, 8][..]));
        let piece = &skeleton.payloads[1].pieces[0];
        assert_eq!((piece.field, &bytes[piece.range.clone()]), (4, &1.5f32.to_le_bytes()[..]));
    }

    #[test]
    fn unknown_fields_are_left_out() {
        let mut bytes = model().write_to_bytes().unwrap();
        let clean = walk_model(&bytes).unwrap();
        bytes.extend_from_slice(&[0xd2, 0x01, 0x02, 8, 1]); // field 26, two bytes
        assert_eq!(walk_model(&bytes).unwrap().bytes, clean.bytes);
    }

    fn fault(bytes: &[u8]) -> Fault {
        walk_model(bytes).unwrap_err().fault
    }

    #[test]
    fn faults() {
        assert_eq!(fault(&[0x0b]), Fault::Group);
        assert_eq!(fault(&[0xd3, 0x01]), Fault::Group);
        assert_eq!(fault(&[0x0f]), Fault::WireType(7));
        assert_eq!(fault(&[0x00, 0x00]), Fault::FieldNumber(0));
        assert_eq!(fault(&[0x08]), Fault::Truncated);
        assert_eq!(fault(&[0x3a, 0x05, 0x00]), Fault::Truncated);
        assert_eq!(fault(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Fault::Truncated);
        assert_eq!(fault(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), Fault::Varint);
        assert_eq!(fault(&[0x38, 0x01]), Fault::Mismatch { field: "graph", found: VARINT });
    }

    #[test]
    fn deep_nesting_is_refused() {
        // An attribute's graph holds a node with an attribute with a graph: three levels a round.
        let mut inner = Vec::new();
        for _ in 0..40 {
            for field in [6u8, 5, 1] {
                let mut outer = vec![field << 3 | LEN];
                let mut length = inner.len();
                while length >= 0x80 {
                    outer.push((length & 0x7f) as u8 | 0x80);
                    length >>= 7;
                }
                outer.push(length as u8);
                outer.append(&mut inner);
                inner = outer;
            }
        }
        let mut bytes = vec![7 << 3 | LEN, (inner.len() & 0x7f) as u8 | 0x80, (inner.len() >> 7) as u8];
        bytes.append(&mut inner);
        assert_eq!(fault(&bytes), Fault::Depth);
    }

    #[test]
    fn empty_nodes_cannot_fill_memory() {
        let count = MAX_DECODED_BYTES / Msg::Node.decoded_bytes() + 1;
        let body = [0x0a, 0x00].repeat(count);
        let mut bytes = vec![7 << 3 | LEN];
        let mut length = body.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(body);
        assert_eq!(fault(&bytes), Fault::TooLarge);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(skeleton) = walk_model(&bytes) {
                let _ = ModelProto::parse_from_bytes(&skeleton.bytes);
            }
            if let Ok(skeleton) = walk_tensor(&bytes) {
                let _ = TensorProto::parse_from_bytes(&skeleton.bytes);
            }
        }

        #[test]
        fn mutated_model(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
            let mut bytes = model().write_to_bytes().unwrap();
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(1 + cut.index(bytes.len()));
            if let Ok(skeleton) = walk_model(&bytes) {
                for payload in &skeleton.payloads {
                    for piece in &payload.pieces {
                        prop_assert!(piece.range.end <= bytes.len());
                    }
                }
                let _ = ModelProto::parse_from_bytes(&skeleton.bytes);
            }
        }
    }
}
