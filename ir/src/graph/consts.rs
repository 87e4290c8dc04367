//! The constants of a graph, held out of line and named by content digest.

use std::ops::Index;
use std::sync::{Arc, OnceLock};

use cranelift_entity::PrimaryMap;

use crate::ops::ConstId;
use crate::tensor::{Digest, Tensor};
use crate::types::{DType, TensorType};

/// A constant: its bytes, or only its type and digest when read from text without weights.
#[derive(Clone, Debug)]
pub struct ConstEntry {
    /// Name in the model; may be empty.
    pub name: Arc<str>,
    dtype: DType,
    shape: Vec<usize>,
    digest: OnceLock<Digest>,
    data: Option<Tensor>,
}

impl ConstEntry {
    /// A constant whose bytes are at hand.
    pub fn new(name: impl Into<Arc<str>>, data: Tensor) -> Self {
        Self {
            name: name.into(),
            dtype: data.dtype(),
            shape: data.shape().to_vec(),
            digest: OnceLock::new(),
            data: Some(data),
        }
    }

    /// A constant known by digest only.
    pub fn by_digest(name: impl Into<Arc<str>>, dtype: DType, shape: Vec<usize>, digest: Digest) -> Self {
        Self { name: name.into(), dtype, shape, digest: OnceLock::from(digest), data: None }
    }

    /// Its type: static, plain.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.shape)
    }

    /// Its bytes, unless only the digest is known.
    pub fn data(&self) -> Option<&Tensor> {
        self.data.as_ref()
    }

    /// Its digest; computed from the bytes the first time.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| self.data.as_ref().expect("a constant has bytes or a digest").digest())
    }

    /// Supplies the bytes of a constant known by digest; `false` when they have another type or digest.
    pub fn supply(&mut self, data: Tensor) -> bool {
        let fits = data.dtype() == self.dtype && data.shape() == self.shape && data.digest() == self.digest();
        if fits {
            self.data = Some(data);
        }
        fits
    }
}

/// The constants of a graph.
#[derive(Clone, Debug, Default)]
pub struct ConstTable(PrimaryMap<ConstId, ConstEntry>);

impl ConstTable {
    /// Adds a constant.
    pub fn push(&mut self, entry: ConstEntry) -> ConstId {
        self.0.push(entry)
    }

    /// The constant, if the id is one of this table's.
    pub fn get(&self, id: ConstId) -> Option<&ConstEntry> {
        self.0.get(id)
    }

    /// The constant for a change.
    pub fn get_mut(&mut self, id: ConstId) -> Option<&mut ConstEntry> {
        self.0.get_mut(id)
    }

    /// All constants, to supply their bytes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ConstEntry> {
        self.0.values_mut()
    }

    /// All constants.
    pub fn iter(&self) -> impl Iterator<Item = (ConstId, &ConstEntry)> {
        self.0.iter()
    }
}

impl Index<ConstId> for ConstTable {
    type Output = ConstEntry;
    fn index(&self, id: ConstId) -> &ConstEntry {
        &self.0[id]
    }
}
