//! Loading a model: ONNX is imported, a graph text is parsed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adze_ir::extent::{Extent, Sym};
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::verify::verify_graph;

use crate::data;
use crate::error::Error;
use crate::onnx::{ImportOptions, import_file};

/// A model ready for the passes.
#[derive(Debug)]
pub struct Loaded {
    /// Verified graph.
    pub graph: Graph,
    /// Every file that was read, the model first.
    pub files: Vec<PathBuf>,
    /// Named dimensions that nobody bound.
    pub undeclared: Vec<Sym>,
}

/// Loads a model by its extension: `.onnx`, or a graph text (`.graph`, `.txt`).
///
/// # Errors
/// [`Error`] when the file is unreadable, not well-formed, or uses what is not supported.
pub fn load(path: &Path, options: &ImportOptions) -> Result<Loaded, Error> {
    let is_text = path.extension().is_some_and(|e| e == "graph" || e == "txt");
    let loaded = if is_text { load_text(path)? } else { load_onnx(path, options)? };
    verify_graph(&loaded.graph).map_err(|violations| Error::Verify { after: "import".into(), violations })?;
    Ok(loaded)
}

fn load_onnx(path: &Path, options: &ImportOptions) -> Result<Loaded, Error> {
    let imported = import_file(path, options)?;
    let files = std::iter::once(path.to_owned()).chain(imported.files).collect();
    Ok(Loaded { graph: imported.graph, files, undeclared: imported.undeclared })
}

fn load_text(path: &Path) -> Result<Loaded, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let graph = parse_graph(&text).map_err(|error| Error::Parse { path: path.into(), error, text })?;
    Ok(Loaded { graph, files: vec![path.to_owned()], undeclared: Vec::new() })
}

/// Gives constants known by digest the bytes of a file of tensors; without a file there may be none of them.
///
/// # Errors
/// [`Error::Data`] for an unreadable file, [`Error::Options`] naming the constants that stay without bytes.
pub fn supply_weights(graph: &mut Graph, path: Option<&Path>) -> Result<(), Error> {
    let given = path.map(data::read).transpose()?.unwrap_or_default();
    let by_digest: BTreeMap<_, Tensor> = given.into_iter().map(|(_, tensor)| (tensor.digest(), tensor)).collect();
    let missing: Vec<_> = graph.consts.iter().filter(|(_, c)| c.data().is_none()).map(|(id, _)| id).collect();
    let mut unknown = Vec::new();
    for id in missing {
        let entry = graph.consts.get_mut(id).expect("the id is the table's");
        match by_digest.get(&entry.digest()) {
            Some(tensor) if entry.supply(tensor.clone()) => {}
            _ => unknown.push(format!("`{}` {}", entry.name, entry.digest())),
        }
    }
    let unknown = (!unknown.is_empty()).then(|| unknown.join(", "));
    match (unknown, path) {
        (None, _) => Ok(()),
        (Some(unknown), Some(path)) => Err(Error::Options(format!("`{}` lacks the weights {unknown}", path.display()))),
        (Some(unknown), None) => Err(Error::Options(format!("give the weights with --weights: {unknown}"))),
    }
}

/// The shapes of given inputs as import options, so that symbolic dimensions are taken from the inputs.
pub fn shapes_of(named: &[(String, Tensor)]) -> BTreeMap<String, Vec<Extent>> {
    named.iter().map(|(name, t)| (name.clone(), t.shape().iter().map(|&d| d.into()).collect())).collect()
}
