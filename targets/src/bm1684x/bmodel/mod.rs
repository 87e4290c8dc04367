//! The container `.bmodel`: a header, a flatbuffer that describes networks, and the bytes that it points to.
//!
//! Source: `bmodel.fbs` of the tpu-mlir project, and what its runtime was seen to need (docs/targets/bm1684x.md).

mod flat;

use adze_ir::types::DType;
use flat::{Field, FlatError, Reader, Table, View};
use sha2::{Digest, Sha256};

/// A model: what a `.bmodel` holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The chip's name, `BM1684X`.
    pub chip: String,
    /// Networks by name.
    pub nets: Vec<Net>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Net {
    /// The name that the runtime is called with.
    pub name: String,
    /// One for each set of shapes.
    pub stages: Vec<Stage>,
}

/// A network for certain shapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Inputs in order.
    pub inputs: Vec<Tensor>,
    /// Outputs in order.
    pub outputs: Vec<Tensor>,
    /// Where inputs, outputs and intermediates lie: first address and bytes.
    pub context: [u64; 2],
    /// Address of the coefficients.
    pub coefficients_at: u64,
    /// Constants in memory.
    pub coefficients: Vec<u8>,
    /// Commands, run one group after the other.
    pub groups: Vec<Group>,
    /// What commands are for, as the compiler that wrote the file notes it; the runtime does not read it.
    pub notes: Vec<u8>,
}

/// Commands of both engines, with an end on each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Commands of the compute engine.
    pub tiu: Stream,
    /// Commands of the copy engine.
    pub gdma: Stream,
}

/// Commands of one engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// How many, the end included.
    pub count: u32,
    /// Their words, padding at the end included.
    pub bytes: Vec<u8>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Address inside the stage's context.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// Extents.
    pub shape: Vec<u64>,
    /// `real = scale · (stored - zero_point)`.
    pub scale: f32,
    /// See `scale`.
    pub zero_point: i32,
}

/// Why a file is no `.bmodel`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The flatbuffer.
    #[error(transparent)]
    Flat(#[from] FlatError),
    /// The rest.
    #[error("{what}: found {found}, accepted: {accepted}")]
    Other {
        /// Where.
        what: &'static str,
        /// What is there.
        found: String,
        /// What could be.
        accepted: &'static str,
    },
}

const MAGIC: u32 = 0xFF55_AAEE;
const HEADER: usize = 64;
/// Pieces of the blob start at multiples of it.
const PIECE: usize = 4096;
/// A field of our own, far behind those that the vendor's schema has: readers skip what they do not know.
const NOTES: u16 = 40;
/// Element types by code.
const DTYPES: [DType; 11] = [
    DType::F32,
    DType::F16,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::Bf16,
    DType::I4,
    DType::U4,
];

/// Bytes behind the flatbuffer.
#[derive(Default)]
struct Blob(Vec<u8>);

impl Blob {
    fn add(&mut self, bytes: &[u8]) -> Field {
        self.0.resize(self.0.len().next_multiple_of(PIECE), 0);
        let start = self.0.len();
        self.0.extend(bytes);
        Field::Longs2([start as u64, bytes.len() as u64])
    }
}

fn length(bytes: &[u8]) -> Field {
    Field::Word(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

impl Model {
    /// The file. The same model gives the same bytes: there is no date in it.
    pub fn write(&self) -> Vec<u8> {
        let mut blob = Blob::default();
        let nets = self.nets.iter().map(|net| net.table(&mut blob)).collect();
        let neurons = self.nets.iter().flat_map(|net| &net.stages).map(|stage| stage.context[1]).max();
        let flat = Table::default()
            .with(0, Field::Text("B".into()))
            .with(1, Field::Text(concat!("adze ", env!("CARGO_PKG_VERSION")).into()))
            .with(2, Field::Text("-".into()))
            .with(3, Field::Text(self.chip.clone()))
            .with(4, Field::Tables(nets))
            .with(5, Field::Long(neurons.unwrap_or(0)))
            .with(7, Field::Word(1))
            .finish();
        let mut out = Vec::with_capacity(HEADER + flat.len() + blob.0.len());
        out.extend(MAGIC.to_le_bytes());
        out.extend(u32::try_from(HEADER).unwrap_or(0).to_le_bytes());
        out.extend(u32::try_from(flat.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend((blob.0.len() as u64).to_le_bytes());
        out.resize(HEADER, 0);
        out.extend(flat);
        out.extend(blob.0);
        out
    }

    /// Reads a file, of this compiler or of the vendor's.
    ///
    /// # Errors
    /// [`ReadError`] names the place, what is there and what could be.
    pub fn read(file: &[u8]) -> Result<Self, ReadError> {
        let short =
            || other("file", format!("{} bytes", file.len()), "a header of 64 bytes, its flatbuffer and its data");
        let word = |at: usize| file.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let (Some(magic), Some(header), Some(flat)) = (word(0), word(4), word(8)) else { return Err(short()) };
        if magic != MAGIC {
            return Err(other("file", format!("0x{magic:08x} in front"), "0xff55aaee, as a .bmodel has"));
        }
        let start = usize::try_from(header).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(flat).unwrap_or(usize::MAX));
        let (flat, blob) = (file.get(start..end).ok_or_else(short)?, file.get(end..).ok_or_else(short)?);
        let reader = Reader::new(flat);
        let root = reader.root()?;
        let nets = root.tables(4)?.iter().map(|net| Net::read(net, blob)).collect::<Result<_, _>>()?;
        Ok(Self { chip: root.text(3)?.to_owned(), nets })
    }
}

fn other(what: &'static str, found: String, accepted: &'static str) -> ReadError {
    ReadError::Other { what, found, accepted }
}

/// What a `Binary` points to; empty where it is left out.
fn piece<'b>(view: &View<'_>, id: u16, blob: &'b [u8]) -> Result<&'b [u8], ReadError> {
    let Some([start, size]) = view.longs2(id)? else { return Ok(&[]) };
    let end = start.checked_add(size).and_then(|end| usize::try_from(end).ok());
    let found = end.and_then(|end| blob.get(usize::try_from(start).ok()?..end));
    found.ok_or_else(|| other("piece of data", format!("{size} bytes at {start}"), "one inside of the file"))
}

impl Net {
    fn table(&self, blob: &mut Blob) -> Table {
        let stages = self.stages.iter().map(|stage| stage.table(blob)).collect();
        Table::default().with(0, Field::Text(self.name.clone())).with(3, Field::Tables(stages)).with(5, Field::Word(0))
    }

    fn read(view: &View<'_>, blob: &[u8]) -> Result<Self, ReadError> {
        let stages = view.tables(3)?.iter().map(|stage| Stage::read(stage, blob)).collect::<Result<_, _>>()?;
        Ok(Self { name: view.text(0)?.to_owned(), stages })
    }
}

impl Stage {
    fn table(&self, blob: &mut Blob) -> Table {
        let tensors = |list: &[Tensor], role: u32| {
            let one = |(index, tensor): (usize, &Tensor)| tensor.table(role, u32::try_from(index).unwrap_or(0));
            Field::Tables(list.iter().enumerate().map(one).collect())
        };
        let (inputs, outputs) = (tensors(&self.inputs, 1), tensors(&self.outputs, 2));
        let groups = Field::Tables(self.groups.iter().map(|group| group.table(blob)).collect());
        let digest = Sha256::digest(&self.coefficients).to_vec();
        let coefficients = Table::default()
            .with(0, Field::Long(self.coefficients_at))
            .with(1, Field::Bytes(digest))
            .with(2, blob.add(&self.coefficients));
        // The runtime walks subnets; all run on the chip here, so there is one, with no other after it.
        let subnet = Table::default()
            .with(0, Field::Word(0))
            .with(1, groups.clone())
            .with(3, inputs.clone())
            .with(4, outputs.clone())
            .with(5, Field::Word(0))
            .with(10, Field::Word(0))
            .with(11, Field::Words(vec![u32::MAX]))
            .with(15, Field::Word(1));
        let [at, size] = self.context;
        Table::default()
            .with(0, inputs)
            .with(1, outputs)
            .with(2, Field::Long(at))
            .with(3, Field::Long(size))
            .with(4, Field::Table(coefficients))
            .with(5, Field::Word(0))
            .with(8, groups)
            .with(12, Field::Tables(vec![subnet]))
            .with(14, Field::Longs(vec![size]))
            .with(16, Field::Word(1))
            .with(NOTES, blob.add(&self.notes))
    }

    fn read(view: &View<'_>, blob: &[u8]) -> Result<Self, ReadError> {
        let tensors = |id| view.tables(id)?.iter().map(Tensor::read).collect::<Result<Vec<_>, ReadError>>();
        let (coefficients_at, coefficients) = match view.table(4)? {
            Some(memory) => (memory.long(0, 0)?, piece(&memory, 2, blob)?.to_vec()),
            None => (0, Vec::new()),
        };
        let groups = view.tables(8)?.iter().map(|group| Group::read(group, blob)).collect::<Result<_, _>>()?;
        let sizes = view.longs(14)?;
        let size = if sizes.is_empty() {
            view.long(3, 0)?
        } else {
            sizes.iter().fold(0, |sum, &s| u64::saturating_add(sum, s))
        };
        Ok(Self {
            inputs: tensors(0)?,
            outputs: tensors(1)?,
            context: [view.long(2, 0)?, size],
            coefficients_at,
            coefficients,
            groups,
            notes: piece(view, NOTES, blob)?.to_vec(),
        })
    }
}

impl Group {
    fn table(&self, blob: &mut Blob) -> Table {
        Table::default()
            .with(0, Field::Word(self.tiu.count))
            .with(1, Field::Word(self.gdma.count))
            .with(2, blob.add(&self.tiu.bytes))
            .with(3, blob.add(&self.gdma.bytes))
            .with(4, length(&self.tiu.bytes))
            .with(5, length(&self.gdma.bytes))
    }

    fn read(view: &View<'_>, blob: &[u8]) -> Result<Self, ReadError> {
        let stream = |count: u16, bytes: u16| {
            Ok::<_, ReadError>(Stream { count: view.word(count, 0)?, bytes: piece(view, bytes, blob)?.to_vec() })
        };
        Ok(Self { tiu: stream(0, 2)?, gdma: stream(1, 3)? })
    }
}

impl Tensor {
    /// `role` is 1 for inputs and 2 for outputs.
    fn table(&self, role: u32, index: u32) -> Table {
        let code = DTYPES.iter().position(|dtype| *dtype == self.dtype).unwrap_or(DTYPES.len());
        let shape = Table::default().with(0, Field::Longs(self.shape.clone()));
        Table::default()
            .with(0, Field::Text(self.name.clone()))
            .with(1, Field::Word(u32::try_from(code).unwrap_or(u32::MAX)))
            .with(2, Field::Word(0))
            .with(3, Field::Long(self.address))
            .with(4, Field::Long(self.bytes))
            .with(5, Field::Tables(vec![shape]))
            .with(6, Field::Word(1))
            .with(7, Field::Word(self.scale.to_bits()))
            .with(10, Field::Word(self.zero_point.cast_unsigned()))
            .with(11, Field::Word(role))
            .with(12, Field::Word(index))
    }

    fn read(view: &View<'_>) -> Result<Self, ReadError> {
        let code = view.word(1, 0)?;
        let dtype = usize::try_from(code).ok().and_then(|code| DTYPES.get(code)).copied();
        let shape = view.tables(5)?.first().map_or(Ok(Vec::new()), |shape| shape.longs(0))?;
        Ok(Self {
            name: view.text(0)?.to_owned(),
            dtype: dtype.ok_or_else(|| other("tensor", format!("element type {code}"), "0 to 10"))?,
            address: view.long(3, 0)?,
            bytes: view.long(4, 0)?,
            shape,
            scale: f32::from_bits(view.word(7, 1.0f32.to_bits())?),
            zero_point: view.word(10, 0)?.cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model() -> Model {
        let tensor = |name: &str, dtype, address| Tensor {
            name: name.into(),
            dtype,
            address,
            bytes: 24,
            shape: vec![1, 2, 3, 4],
            scale: 0.5,
            zero_point: -3,
        };
        let stage = Stage {
            inputs: vec![tensor("x", DType::I8, 0x1_0000_1000)],
            outputs: vec![tensor("y", DType::U8, 0x1_0000_2000), tensor("z", DType::F32, 0x1_0000_3000)],
            context: [0x1_0000_1000, 0x5000],
            coefficients_at: 0x1_0000_0000,
            coefficients: (0..100).collect(),
            groups: vec![Group {
                tiu: Stream { count: 2, bytes: vec![1; 48] },
                gdma: Stream { count: 3, bytes: vec![2; 200] },
            }],
            notes: b"notes".to_vec(),
        };
        Model { chip: "BM1684X".into(), nets: vec![Net { name: "net".into(), stages: vec![stage] }] }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Model::read(&model().write()), Ok(model()));
        assert_eq!(model().write(), model().write());
    }

    proptest! {
        /// A file that was tampered with is refused or read, without a panic.
        #[test]
        fn tampered_files_are_refused_or_read(edits in prop::collection::vec((0usize..2000, any::<u8>()), 1..6), cut in 0usize..9000) {
            let mut file = model().write();
            for (at, byte) in edits {
                file[at] = byte;
            }
            file.truncate(file.len() - cut.min(file.len()));
            let _ = Model::read(&file);
        }
    }
}
