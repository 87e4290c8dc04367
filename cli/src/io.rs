//! Inputs from files, folders or a seed; outputs to files and folders.

use std::path::{Path, PathBuf};

use adze_compiler::data::test_data;
use adze_compiler::{Error, data};
use adze_ir::extent::DimRange;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use clap::Args;

/// Where input values come from.
#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// Input tensor: a .npy, .npz or .pb file, or INPUT=FILE; in an .npz, `in_0, in_1, ..` or the inputs' names
    #[arg(long = "input", value_name = "[INPUT=]FILE")]
    pub files: Vec<String>,
    /// Folder in the layout of ONNX's backend tests: `input_0.pb`, `input_1.pb`, ..
    #[arg(long = "inputs", value_name = "DIR", conflicts_with = "files")]
    pub folder: Option<PathBuf>,
    /// Seed for random values of the inputs that no file gives
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// The tensors of the files: by input name, or by position.
#[derive(Debug, Default)]
pub struct Given {
    tensors: Vec<(Key, Tensor)>,
}

#[derive(Debug, PartialEq)]
enum Key {
    Name(String),
    Position(usize),
}

impl InputArgs {
    /// Reads every file.
    ///
    /// # Errors
    /// [`Error::Data`] for an unreadable file.
    pub fn read(&self) -> Result<Given, Error> {
        let mut given = Given::default();
        if let Some(folder) = &self.folder {
            std::fs::read_dir(folder).map_err(|source| Error::Read { path: folder.clone(), source })?;
            // A model without inputs has a folder without files.
            if folder.join("input_0.pb").exists() {
                for (index, (_, tensor)) in test_data::read_inputs(folder)?.into_iter().enumerate() {
                    given.add(Key::Position(index), tensor);
                }
            }
        }
        let mut next = 0;
        for argument in &self.files {
            let (name, path) = match argument.split_once('=') {
                Some((name, path)) if !Path::new(argument).exists() => (Some(name), Path::new(path)),
                _ => (None, Path::new(argument.as_str())),
            };
            let tensors = data::read(path)?;
            let single = tensors.len() == 1 && path.extension().is_none_or(|e| e != "npz");
            for (key, tensor) in tensors {
                let position = key.strip_prefix("in_").and_then(|n| n.parse().ok());
                let key = match (name, position) {
                    (Some(name), _) => Key::Name(name.to_owned()),
                    (None, Some(position)) => Key::Position(position),
                    (None, None) if single => Key::Position(next),
                    // Outputs beside inputs in a recorded case are not inputs.
                    (None, None) if key.starts_with("out_") => continue,
                    (None, None) => Key::Name(key),
                };
                next += 1;
                given.add(key, tensor);
            }
        }
        Ok(given)
    }
}

impl Given {
    fn add(&mut self, key: Key, tensor: Tensor) {
        self.tensors.retain(|(k, _)| *k != key);
        self.tensors.push((key, tensor));
    }

    /// The tensors by input name, given the names of the model's inputs in order.
    ///
    /// # Errors
    /// [`Error::Options`] for a name or position that the model does not have.
    pub fn by_name(self, names: &[String]) -> Result<Vec<(String, Tensor)>, Error> {
        let name = |key: Key| match key {
            Key::Name(name) if names.contains(&name) => Ok(name),
            Key::Position(index) if index < names.len() => Ok(names[index].clone()),
            Key::Name(name) => Err(Error::Options(format!("no input `{name}`, the model has: {}", names.join(", ")))),
            Key::Position(index) => {
                Err(Error::Options(format!("no input {index}, the model has {}: {}", names.len(), names.join(", "))))
            }
        };
        self.tensors.into_iter().map(|(key, tensor)| Ok((name(key)?, tensor))).collect()
    }
}

/// A value for every input of the graph: given ones, random ones for the rest.
///
/// # Errors
/// [`Error::Options`] when a random input's extent is not bound, or too large.
pub fn complete(graph: &Graph, given: &[(String, Tensor)], seed: u64) -> Result<Vec<Tensor>, Error> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut dims: std::collections::BTreeMap<String, i64> = Default::default();
    graph
        .inputs()
        .iter()
        .map(|&value| {
            let ty = graph.ty(value);
            let name = graph.value(value).name.as_deref().unwrap_or_default();
            if let Some((_, tensor)) = given.iter().find(|(n, _)| n == name) {
                return Ok(tensor.clone());
            }
            let extent = |e: &adze_ir::extent::Extent, dims: &mut std::collections::BTreeMap<String, i64>| {
                if let Some(sym) = e.as_sym() {
                    // Any value of the range will do; a small one keeps an open range cheap.
                    let DimRange { lo, hi } = graph.dims.get(sym).copied().unwrap_or(DimRange { lo: 1, hi: 1 });
                    dims.entry(sym.to_string()).or_insert(lo.max(hi.min(8)));
                }
                e.eval(&|n| dims.get(n).copied()).and_then(|v| usize::try_from(v).ok())
            };
            let shape: Option<Vec<usize>> = ty.shape.iter().map(|e| extent(e, &mut dims)).collect();
            let Some(shape) = shape else {
                return Err(Error::Options(format!(
                    "input `{name}` is {ty}: give it with --input, or bind it with --dim"
                )));
            };
            let bytes = shape.iter().try_fold(ty.dtype.bytes_for(1), |bytes, &dim| bytes.checked_mul(dim));
            if bytes.is_none_or(|bytes| bytes > MAX_RANDOM_BYTES) {
                return Err(Error::Options(format!(
                    "input `{name}` of {shape:?} elements without a file, accepted: up to {MAX_RANDOM_BYTES} random bytes"
                )));
            }
            Ok(random_tensor(&mut random, ty.dtype, &shape))
        })
        .collect()
}

/// Most bytes of an input that no file gives.
const MAX_RANDOM_BYTES: usize = 1 << 30;

/// Floats in -1..1, small integers, both truth values.
fn random_tensor(random: &mut fastrand::Rng, dtype: adze_ir::types::DType, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    if dtype.is_float() {
        let values: Vec<f64> = (0..count).map(|_| random.f64() * 2.0 - 1.0).collect();
        return Tensor::from_f64(dtype, shape, &values);
    }
    let high = if dtype == adze_ir::types::DType::Bool { 2 } else { 8 };
    let values: Vec<i128> = (0..count).map(|_| i128::from(random.u32(0..high))).collect();
    Tensor::from_ints(dtype, shape, &values)
}

/// Writes `output_0.pb`, `output_1.pb`, .. with the outputs' names.
///
/// # Errors
/// [`Error`] when the folder or a file cannot be written.
pub fn write_folder(folder: &Path, names: &[String], outputs: &[Tensor]) -> Result<(), Error> {
    let named: Vec<(String, Tensor)> = names.iter().cloned().zip(outputs.iter().cloned()).collect();
    Ok(test_data::write_outputs(folder, &named)?)
}

/// Writes to standard output; a reader that has seen enough ends the program quietly.
pub fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // A closed pipe (`| head`) is no error of ours.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
