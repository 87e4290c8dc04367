//! Import of ONNX: bytes → skeleton ([`wire`]) → messages (onnx-protobuf) → [`Graph`].
//!
//! - [`wire`], `schema`: bounded walk over the bytes; weights stay in the mapped file.
//! - [`tensor`]: constants, external data.
//! - `inputs`: types of the graph's inputs, bindings of dimensions.
//! - `import`, `node`, `attrs`: the walk over the nodes; `ops`: one table of rows per family.
//! - `value`, `fold`: what is known at import: constants and the integers of shape arithmetic.
//!
//! A named ONNX operator becomes the operator of ours of that name; only functions that the model itself defines are
//! inlined, and branches whose condition is known are taken. No input may cause a panic or unbounded work.

// A conversion that cuts off bits silently is how a hostile size becomes an accepted one.
#![cfg_attr(not(test), deny(clippy::as_conversions))]

mod attrs;
mod error;
pub mod export;
mod fold;
mod import;
mod inputs;
mod node;
mod ops;
mod options;
mod schema;
pub mod tensor;
mod value;
pub mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use adze_ir::extent::Sym;
use adze_ir::graph::Graph;
use adze_ir::types::TensorType;
use adze_ir::verify::verify_graph;
use onnx_protobuf::{GraphProto, Message, ModelProto, ValueInfoProto};

pub use error::{ErrorKind, ImportError, Issue, OptionError, Place};
pub use ops::{supported, supported_page};
pub use options::{DEFAULT_RANGE, ImportOptions, InputValue};

use crate::mapped::Bytes;
use error::Fault;
use import::{Importer, Slot, domain_of};
use tensor::{TensorReader, dtype_of};

/// An imported model.
#[derive(Debug)]
pub struct Imported {
    /// The graph, verified.
    pub graph: Graph,
    /// Files besides the model that were read, in order of name.
    pub files: Vec<PathBuf>,
    /// Named dimensions whose range nobody declared; they have [`DEFAULT_RANGE`].
    pub undeclared: Vec<Sym>,
}

/// Imports a model file; external data is looked for in its folder.
///
/// # Errors
/// [`ImportError`].
pub fn import_file(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let bytes = Bytes::map(path).map_err(|source| ImportError::Io { path: path.into(), source })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model");
    import_bytes(&bytes, Some(folder), name, options)
}

/// Imports a model from memory; external data is refused without a folder.
///
/// # Errors
/// [`ImportError`].
pub fn import_bytes(
    bytes: &Bytes,
    folder: Option<PathBuf>,
    name: &str,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let skeleton = wire::walk_model(bytes)?;
    let model =
        ModelProto::parse_from_bytes(&skeleton.bytes).map_err(|error| ImportError::Protobuf(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or(ImportError::Structure("no graph"))?;
    if model.opset_import.is_empty() {
        return Err(ImportError::Structure("no opset import"));
    }
    let opsets: BTreeMap<String, i64> =
        model.opset_import.iter().map(|opset| (domain_of(&opset.domain).to_string(), opset.version)).collect();
    let reader = TensorReader::new(bytes.clone(), skeleton.payloads, folder.clone());
    let mut importer = Importer::new(name, reader, Rc::new(opsets), &model.functions);
    importer.initializers(graph);
    let undeclared = inputs::define_inputs(&mut importer, graph, options)?;
    importer.nodes(&graph.node);
    define_outputs(&mut importer, graph);
    if !importer.issues.is_empty() {
        return Err(ImportError::Issues(importer.issues));
    }
    importer.graph.remove_dead();
    if let Err(violations) = verify_graph(&importer.graph) {
        return Err(ImportError::Bug(violations.iter().map(ToString::to_string).collect()));
    }
    let folder = folder.unwrap_or_default();
    let files = importer.reader.external_files().map(|file| folder.join(file)).collect();
    Ok(Imported { graph: importer.graph, files, undeclared })
}

/// Names of the inputs that a model file declares, in order; initializers are none.
///
/// # Errors
/// [`ImportError`] when the file is no model.
pub fn input_names(path: &Path) -> Result<Vec<String>, ImportError> {
    let bytes = Bytes::map(path).map_err(|source| ImportError::Io { path: path.into(), source })?;
    let skeleton = wire::walk_model(&bytes)?;
    let model =
        ModelProto::parse_from_bytes(&skeleton.bytes).map_err(|error| ImportError::Protobuf(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or(ImportError::Structure("no graph"))?;
    let is_initializer = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    Ok(graph.input.iter().map(|input| input.name.clone()).filter(|name| !is_initializer(name)).collect())
}

fn define_outputs(importer: &mut Importer<'_>, graph: &GraphProto) {
    for output in &graph.output {
        let place = Place::Output(output.name.clone());
        let value = match importer.look_up(&output.name) {
            Some(Slot::Value(value)) => value,
            Some(Slot::Missing) => continue,
            None if importer.exhausted => continue,
            Some(Slot::Absent) | None => {
                importer.note(Fault::model("a name that nothing defines", "a value of the graph").at(place));
                continue;
            }
        };
        if let Some(fault) = contradiction(output, &value.ty) {
            importer.note(fault.at(place));
            continue;
        }
        if importer.graph.outputs().iter().any(|other| *other.name == *output.name) {
            importer.note(Fault::model("another output of that name", "distinct names").at(place));
            continue;
        }
        match importer.materialise(&value) {
            Ok(id) => importer.graph.add_output(output.name.as_str(), id),
            Err(fault) => importer.note(fault.at(place)),
        }
    }
    if graph.output.is_empty() {
        let place = Place::Output(String::new());
        importer.note(Fault::model("no output", "a graph with outputs").at(place));
    }
}

/// A declared type of another dtype or rank than the computed one.
///
/// Other extents than declared are let pass, as ONNX Runtime does: batch sizes are often edited at the inputs only, and
/// ONNX's own shape inference is wrong for poolings with `ceil_mode`.
fn contradiction(output: &ValueInfoProto, ty: &TensorType) -> Option<Fault> {
    let declared = output.type_.as_ref()?;
    if !declared.has_tensor_type() {
        return Some(Fault::model(format!("{ty}"), "the declared sequence, map or optional"));
    }
    let declared = declared.tensor_type();
    if declared.elem_type != 0 && dtype_of(declared.elem_type).ok() != Some(ty.dtype) {
        return Some(Fault::model(
            format!("{ty}"),
            format!("the declared {}", tensor::elem_type_name(declared.elem_type)),
        ));
    }
    let rank = declared.shape.as_ref()?.dim.len();
    (rank != ty.rank()).then(|| Fault::model(format!("{ty}"), format!("the declared rank {rank}")))
}
