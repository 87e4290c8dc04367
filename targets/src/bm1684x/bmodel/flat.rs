//! FlatBuffers as far as a `.bmodel` uses them. Source: the FlatBuffers binary format (flatbuffers.dev, "Internals").
//!
//! Written front to back: a table, then what it refers to. Read with every access checked, and with a bound on the tables that are
//! visited: a table may be referred to from many places, so that a small file could stand for an endless model. (The maintained
//! crates read by unchecked pointers, which this workspace denies, and write structs by `unsafe` traits.)

use std::cell::Cell;

/// A value of a table's field.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// `uint32`, or the bits of `int32` and `float32`.
    Word(u32),
    /// `uint64`.
    Long(u64),
    /// A struct of `uint64`.
    Longs2([u64; 2]),
    /// A string.
    Text(String),
    /// A vector of `uint8`.
    Bytes(Vec<u8>),
    /// A vector of `uint32` or `int32`.
    Words(Vec<u32>),
    /// A vector of `uint64`.
    Longs(Vec<u64>),
    /// A table.
    Table(Table),
    /// A vector of tables.
    Tables(Vec<Table>),
}

impl Field {
    /// Bytes inside the table, which are also its alignment but for the struct's.
    fn size(&self) -> usize {
        match self {
            Self::Long(_) => 8,
            Self::Longs2(_) => 16,
            _ => 4,
        }
    }
}

/// A table: fields by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(Vec<(u16, Field)>);

impl Table {
    /// The table with another field; ids come in rising order.
    pub fn with(mut self, id: u16, field: Field) -> Self {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < id));
        self.0.push((id, field));
        self
    }

    /// The buffer whose root this table is.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        let root = self.write(&mut out);
        patch(&mut out, 0, root);
        pad(&mut out, 8, 0);
        out
    }

    /// Appends the table; returns where it starts.
    fn write(&self, out: &mut Vec<u8>) -> usize {
        let slots = self.0.last().map_or(0, |(id, _)| usize::from(*id) + 1);
        let mut offsets = vec![0u16; slots];
        // A signed offset to the table of offsets comes first.
        let mut inline = 4usize;
        for (id, field) in &self.0 {
            inline = inline.next_multiple_of(field.size().min(8));
            offsets[usize::from(*id)] = u16::try_from(inline).unwrap_or(u16::MAX);
            inline += field.size();
        }
        let head = 4 + 2 * slots;
        pad(out, 8, (8 - head % 8) % 8);
        let vtable = out.len();
        for entry in [head, inline].into_iter().chain(offsets.iter().map(|&o| usize::from(o))) {
            out.extend(u16::try_from(entry).unwrap_or(u16::MAX).to_le_bytes());
        }
        let start = out.len();
        out.resize(start + inline, 0);
        put(out, start, &word(start - vtable).to_le_bytes());
        for (id, field) in &self.0 {
            let at = start + usize::from(offsets[usize::from(*id)]);
            match field {
                Field::Word(value) => put(out, at, &value.to_le_bytes()),
                Field::Long(value) => put(out, at, &value.to_le_bytes()),
                Field::Longs2(values) => put(out, at, &values.map(u64::to_le_bytes).concat()),
                other => {
                    let to = other.append(out);
                    patch(out, at, to);
                }
            }
        }
        start
    }
}

impl Field {
    /// Appends what lies outside of the table; returns where it starts.
    fn append(&self, out: &mut Vec<u8>) -> usize {
        match self {
            Self::Text(text) => {
                let at = vector(out, text.len(), 4);
                out.extend(text.as_bytes());
                out.push(0);
                at
            }
            Self::Bytes(bytes) => {
                let at = vector(out, bytes.len(), 4);
                out.extend(bytes);
                at
            }
            Self::Words(words) => {
                let at = vector(out, words.len(), 4);
                words.iter().for_each(|word| out.extend(word.to_le_bytes()));
                at
            }
            Self::Longs(longs) => {
                let at = vector(out, longs.len(), 8);
                longs.iter().for_each(|long| out.extend(long.to_le_bytes()));
                at
            }
            Self::Tables(tables) => {
                let at = vector(out, tables.len(), 4);
                out.resize(at + 4 + 4 * tables.len(), 0);
                for (index, table) in tables.iter().enumerate() {
                    let to = table.write(out);
                    patch(out, at + 4 + 4 * index, to);
                }
                at
            }
            Self::Table(table) => table.write(out),
            Self::Word(_) | Self::Long(_) | Self::Longs2(_) => out.len(),
        }
    }
}

/// Starts a vector whose elements are aligned.
fn vector(out: &mut Vec<u8>, count: usize, align: usize) -> usize {
    pad(out, align, align - 4);
    let at = out.len();
    out.extend(word(count).to_le_bytes());
    at
}

/// Fills up until the length is `rest` more than a multiple of `align`.
fn pad(out: &mut Vec<u8>, align: usize, rest: usize) {
    while out.len() % align != rest {
        out.push(0);
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Makes the word at `at` an offset to `to`.
fn patch(out: &mut [u8], at: usize, to: usize) {
    put(out, at, &word(to - at).to_le_bytes());
}

fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Tables that may be visited.
const TABLES: usize = 1 << 20;

/// A buffer that is read.
pub struct Reader<'a> {
    bytes: &'a [u8],
    left: Cell<usize>,
}

/// What a buffer lacks: where, and what should be there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the flatbuffer: found {found}, accepted: {accepted}")]
pub struct FlatError {
    /// Where in the flatbuffer.
    pub at: usize,
    /// What is there.
    pub found: String,
    /// What could be.
    pub accepted: &'static str,
}

type Read<T> = Result<T, FlatError>;

impl<'a> Reader<'a> {
    /// A buffer of which nothing has been read.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, left: Cell::new(TABLES) }
    }

    /// The root table.
    ///
    /// # Errors
    /// [`FlatError`], as for all that is read from it.
    pub fn root(&'a self) -> Read<View<'a>> {
        let at = self.follow(0)?;
        View::at(self, at)
    }

    fn array<const N: usize>(&self, at: usize) -> Read<[u8; N]> {
        let found = at.checked_add(N).and_then(|end| self.bytes.get(at..end)).and_then(|s| s.try_into().ok());
        let short = || FlatError { at, found: format!("{} bytes", self.bytes.len()), accepted: "a longer buffer" };
        found.ok_or_else(short)
    }

    fn u16(&self, at: usize) -> Read<usize> {
        Ok(usize::from(u16::from_le_bytes(self.array(at)?)))
    }

    fn u32(&self, at: usize) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    fn u64(&self, at: usize) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    fn count(&self, at: usize) -> Read<usize> {
        Ok(usize::try_from(self.u32(at)?).unwrap_or(usize::MAX))
    }

    /// Where the offset at `at` leads.
    fn follow(&self, at: usize) -> Read<usize> {
        Ok(at.saturating_add(self.count(at)?))
    }
}

/// A table that is read. A field that is left out reads as its default.
#[derive(Clone, Copy)]
pub struct View<'a> {
    reader: &'a Reader<'a>,
    start: usize,
    vtable: usize,
    /// Bytes of the table of offsets.
    head: usize,
}

impl<'a> View<'a> {
    fn at(reader: &'a Reader<'a>, start: usize) -> Read<Self> {
        let left = reader.left.get().checked_sub(1);
        let many = || FlatError { at: start, found: format!("more than {TABLES} tables"), accepted: "fewer" };
        reader.left.set(left.ok_or_else(many)?);
        let back = i64::from(i32::from_le_bytes(reader.array(start)?));
        let vtable = i64::try_from(start).ok().and_then(|s| s.checked_sub(back)).and_then(|v| usize::try_from(v).ok());
        let wrong = || FlatError { at: start, found: format!("offset {back}"), accepted: "one to a table of offsets" };
        let vtable = vtable.ok_or_else(wrong)?;
        let head = reader.u16(vtable)?;
        Ok(Self { reader, start, vtable, head })
    }

    /// Where a field lies, if it is there.
    fn field(&self, id: u16) -> Read<Option<usize>> {
        let entry = 4 + 2 * usize::from(id);
        if entry + 2 > self.head {
            return Ok(None);
        }
        let offset = self.reader.u16(self.vtable + entry)?;
        Ok((offset != 0).then_some(self.start + offset))
    }

    /// A `uint32`.
    pub fn word(&self, id: u16, default: u32) -> Read<u32> {
        self.field(id)?.map_or(Ok(default), |at| self.reader.u32(at))
    }

    /// A `uint64`.
    pub fn long(&self, id: u16, default: u64) -> Read<u64> {
        self.field(id)?.map_or(Ok(default), |at| self.reader.u64(at))
    }

    /// A struct of two `uint64`.
    pub fn longs2(&self, id: u16) -> Read<Option<[u64; 2]>> {
        let Some(at) = self.field(id)? else { return Ok(None) };
        Ok(Some([self.reader.u64(at)?, self.reader.u64(at + 8)?]))
    }

    /// A vector: its elements' bytes, or none where it is left out.
    fn elements(&self, id: u16, size: usize) -> Read<(usize, &'a [u8])> {
        let Some(field) = self.field(id)? else { return Ok((0, &[])) };
        let at = self.reader.follow(field)?;
        let count = self.reader.count(at)?;
        let end = count.checked_mul(size).and_then(|bytes| bytes.checked_add(at + 4));
        let found = end.and_then(|end| self.reader.bytes.get(at + 4..end));
        let long = || FlatError { at, found: format!("{count} elements"), accepted: "as many as the buffer has" };
        Ok((at + 4, found.ok_or_else(long)?))
    }

    /// A string; empty where it is left out.
    pub fn text(&self, id: u16) -> Read<&'a str> {
        let (at, bytes) = self.elements(id, 1)?;
        let wrong = |_| FlatError { at, found: "bytes".into(), accepted: "UTF-8" };
        std::str::from_utf8(bytes).map_err(wrong)
    }

    /// A vector of `uint8`.
    #[cfg(test)]
    pub fn bytes(&self, id: u16) -> Read<&'a [u8]> {
        Ok(self.elements(id, 1)?.1)
    }

    /// A vector of `uint64`.
    pub fn longs(&self, id: u16) -> Read<Vec<u64>> {
        let (_, bytes) = self.elements(id, 8)?;
        Ok(bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
    }

    /// A table, if it is there.
    pub fn table(&self, id: u16) -> Read<Option<View<'a>>> {
        let Some(field) = self.field(id)? else { return Ok(None) };
        let at = self.reader.follow(field)?;
        View::at(self.reader, at).map(Some)
    }

    /// A vector of tables.
    pub fn tables(&self, id: u16) -> Read<Vec<View<'a>>> {
        let (first, bytes) = self.elements(id, 4)?;
        (0..bytes.len() / 4).map(|index| View::at(self.reader, self.reader.follow(first + 4 * index)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(depth: u32) -> BoxedStrategy<Field> {
        let leaf = prop_oneof![
            any::<u32>().prop_map(Field::Word),
            any::<u64>().prop_map(Field::Long),
            any::<[u64; 2]>().prop_map(Field::Longs2),
            ".{0,9}".prop_map(Field::Text),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Field::Bytes),
            prop::collection::vec(any::<u64>(), 0..5).prop_map(Field::Longs),
        ];
        if depth == 0 {
            return leaf.boxed();
        }
        let tables = prop::collection::vec(table(depth - 1), 0..4);
        prop_oneof![3 => leaf, 1 => table(depth - 1).prop_map(Field::Table), 1 => tables.prop_map(Field::Tables)]
            .boxed()
    }

    fn table(depth: u32) -> BoxedStrategy<Table> {
        prop::collection::btree_map(0u16..20, field(depth), 0..7)
            .prop_map(|map| Table(map.into_iter().collect()))
            .boxed()
    }

    fn same(view: &View<'_>, table: &Table) {
        for id in 0..22 {
            match table.0.iter().find(|(at, _)| *at == id).map(|(_, field)| field) {
                None => assert_eq!((view.word(id, 7), view.longs2(id)), (Ok(7), Ok(None))),
                Some(Field::Word(word)) => assert_eq!(view.word(id, 0), Ok(*word)),
                Some(Field::Long(long)) => assert_eq!(view.long(id, 0), Ok(*long)),
                Some(Field::Longs2(longs)) => assert_eq!(view.longs2(id), Ok(Some(*longs))),
                Some(Field::Text(text)) => assert_eq!(view.text(id), Ok(text.as_str())),
                Some(Field::Bytes(bytes)) => assert_eq!(view.bytes(id), Ok(bytes.as_slice())),
                Some(Field::Longs(longs)) => assert_eq!(view.longs(id).as_ref(), Ok(longs)),
                Some(Field::Table(table)) => same(&view.table(id).unwrap().unwrap(), table),
                Some(Field::Tables(tables)) => {
                    let views = view.tables(id).unwrap();
                    assert_eq!(views.len(), tables.len());
                    views.iter().zip(tables).for_each(|(view, table)| same(view, table));
                }
                Some(Field::Words(_)) => unreachable!(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(table in table(3)) {
            let bytes = table.finish();
            let reader = Reader::new(&bytes);
            same(&reader.root().unwrap(), &table);
        }
    }
}
