//! What an interrupted quantization had done: ranges of values and finished weights, in a file from which the next run goes on.
//!
//! The file belongs to one model, one set of samples and one choice of options, whose digest it starts with. It is replaced as a whole
//! after every step, so that a run that stops anywhere leaves a whole one. What is in it is what would be computed again: the result is
//! the same, byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adze_ir::graph::{Graph, NodeId};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use prost::Message as _;

use super::Options;
use super::insert::StoredConst;
use super::samples::Samples;
use super::store::Consts;
use super::table::Activation;
use crate::build::BuildOptions;
use crate::error::Error;

/// Version of the schema below.
const VERSION: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// Digest of what the run is asked for.
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    /// Whether the ranges below are all there are.
    #[prost(bool, tag = "3")]
    calibrated: bool,
    #[prost(message, repeated, tag = "4")]
    activations: Vec<Activation>,
    #[prost(message, repeated, tag = "5")]
    made: Vec<Made>,
}

/// The constants of a product.
#[derive(Clone, PartialEq, prost::Message)]
struct Made {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, repeated, tag = "2")]
    consts: Vec<Const>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Const {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(message, tag = "3")]
    data: Option<Array>,
    #[prost(message, tag = "4")]
    scales: Option<Array>,
    #[prost(uint64, tag = "5")]
    axis: u64,
    #[prost(uint64, tag = "6")]
    block: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Array {
    #[prost(string, tag = "1")]
    dtype: String,
    #[prost(uint64, repeated, tag = "2")]
    shape: Vec<u64>,
    #[prost(bytes = "vec", tag = "3")]
    bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    file: File,
    /// Constants by what they are of.
    made: BTreeMap<String, Consts>,
}

impl State {
    /// Reads the file where there is one.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Values`] for a broken file, [`Error::Options`] for that of another run.
    pub fn open(
        path: &Path,
        graph: &Graph,
        samples: &Samples,
        options: &Options,
        build: &BuildOptions,
    ) -> Result<Self, Error> {
        let digest = digest_of(graph, samples, options, build);
        let mut state = Self { path: path.into(), file: File::default(), made: BTreeMap::new() };
        if !path.exists() {
            state.file = File { version: VERSION, digest, ..File::default() };
            return Ok(state);
        }
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let broken = || {
            Error::Values(format!("`{}`: found no state of a quantization, accepted: one or no file", path.display()))
        };
        state.file = File::decode(bytes.as_slice()).map_err(|_| broken())?;
        if state.file.version != VERSION || state.file.digest != digest {
            let accepted = "the same model, samples and options, or no file";
            return Err(Error::Options(format!("`{}`: found another run, accepted: {accepted}", path.display())));
        }
        for made in &state.file.made {
            let consts = made.consts.iter().map(constant).collect::<Option<Consts>>().ok_or_else(broken)?;
            state.made.insert(made.key.clone(), consts);
        }
        Ok(state)
    }

    /// The ranges of values, once they are known.
    pub fn activations(&self) -> Option<&[Activation]> {
        self.file.calibrated.then_some(&self.file.activations)
    }

    /// Keeps the ranges of values.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn keep_activations(&mut self, activations: &[Activation]) -> Result<(), Error> {
        (self.file.calibrated, self.file.activations) = (true, activations.to_vec());
        self.write()
    }

    /// Constants that were made.
    pub fn made(&self, key: &str) -> Option<&Consts> {
        self.made.get(key)
    }

    /// Keeps constants.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn keep(&mut self, key: String, consts: &Consts) -> Result<(), Error> {
        self.file.made.push(Made { key: key.clone(), consts: consts.iter().map(message).collect() });
        self.made.insert(key, consts.clone());
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let mut part = self.path.clone().into_os_string();
        part.push(".part");
        let write = |source| Error::Write { path: self.path.clone(), source };
        std::fs::write(&part, self.file.encode_to_vec()).map_err(write)?;
        std::fs::rename(&part, &self.path).map_err(write)
    }
}

/// A digest of everything that a result depends on.
fn digest_of(graph: &Graph, samples: &Samples, options: &Options, build: &BuildOptions) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    let mut take = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    take(env!("CARGO_PKG_VERSION").as_bytes());
    take(graph.to_string().as_bytes());
    for (_, entry) in graph.consts.iter() {
        take(&entry.digest().0);
    }
    take(format!("{:?}", Options { resume: None, ..options.clone() }).as_bytes());
    take(build.machine.name.as_bytes());
    for tensor in samples.inputs.iter().flatten() {
        take(tensor.ty().to_string().as_bytes());
        take(tensor.bytes());
    }
    hasher.finalize().as_bytes().to_vec()
}

fn message((at, stored): &((NodeId, usize), StoredConst)) -> Const {
    let array = |tensor: &Tensor| Array {
        dtype: tensor.dtype().name().into(),
        shape: tensor.shape().iter().map(|&n| n as u64).collect(),
        bytes: tensor.bytes().to_vec(),
    };
    Const {
        node: at.0.as_u32(),
        index: at.1 as u64,
        data: Some(array(&stored.data)),
        scales: Some(array(&stored.scales)),
        axis: stored.axis as u64,
        block: stored.block as u64,
    }
}

fn constant(message: &Const) -> Option<((NodeId, usize), StoredConst)> {
    let number = |n: u64| usize::try_from(n).ok();
    let array = |array: &Option<Array>| {
        let array = array.as_ref()?;
        let shape = array.shape.iter().map(|&n| number(n)).collect::<Option<Vec<_>>>()?;
        Tensor::new(DType::from_name(&array.dtype)?, shape, array.bytes.clone()).ok()
    };
    let (data, scales) = (array(&message.data)?, array(&message.scales)?);
    let stored = StoredConst { data, scales, axis: number(message.axis)?, block: number(message.block)? };
    Some(((NodeId::from_u32(message.node), number(message.index)?), stored))
}
