//! Reading the text of a stage back, with its weights.

use std::collections::BTreeMap;
use std::path::Path;

use adze_ir::minifloat::Minifloat;
use adze_ir::tensor::{Digest, Tensor};
use adze_ir::text::{Cursor, ParseError, Token, parse_graph, parse_program};
use adze_ir::types::DType;
use adze_ir::verify::{verify_graph, verify_program};
use adze_targets::cpu::Machine;
use adze_targets::cpu::module::parse_module;

use crate::data;
use crate::error::Error;
use crate::stage::{Artifact, is_planned, passes_done};

/// Reads a stage from its text: a graph, a tile program or a module, by its first word.
///
/// A graph that does not say which passes it went through counts as just imported.
///
/// # Errors
/// [`Error::Parse`], [`Error::Values`] for a text that breaks the invariants of its level.
pub fn read_stage(path: &Path, machine: &Machine) -> Result<Artifact, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let broken = |lines: Vec<String>| Error::Values(format!("`{}`: {}", path.display(), lines.join("\n")));
    let wrong = |error: ParseError| Error::Parse { path: path.into(), error, text: text.clone() };
    let cursor = Cursor::new(&text).map_err(wrong)?;
    match cursor.peek() {
        Token::Word(word) if word == "graph" => {
            let graph = parse_graph(&text).map_err(wrong)?;
            verify_graph(&graph).map_err(|v| broken(v.iter().map(ToString::to_string).collect()))?;
            Ok(Artifact::Graph(Box::new(graph), passes_done(&text)?.unwrap_or(0)))
        }
        Token::Word(word) if word == "program" => {
            let program = Box::new(parse_program(&text).map_err(wrong)?);
            verify_program(&program).map_err(|v| broken(v.iter().map(ToString::to_string).collect()))?;
            Ok(if is_planned(&program) { Artifact::Planned(program) } else { Artifact::Tile(program) })
        }
        Token::Word(word) if word == "module" => {
            let module = parse_module(&text).map_err(wrong)?;
            let violations = module.verify(machine);
            if violations.is_empty() { Ok(Artifact::Kernel(Box::new(module))) } else { Err(broken(violations)) }
        }
        _ => cursor.unexpected("`graph`, `program` or `module`").map_err(wrong),
    }
}

/// Gives constants that are known by digest the bytes of a file of tensors.
///
/// # Errors
/// [`Error::Data`] for an unreadable file, [`Error::Options`] naming the constants that stay without bytes.
pub fn supply(artifact: &mut Artifact, path: Option<&Path>) -> Result<(), Error> {
    let tensors = path.map(data::read).transpose()?.unwrap_or_default();
    let by_name: BTreeMap<String, Tensor> = tensors.iter().cloned().collect();
    let by_digest: BTreeMap<Digest, Tensor> = tensors.into_iter().map(|(_, t)| (t.digest(), t)).collect();
    let mut missing = Vec::new();
    for entry in artifact.constants_mut() {
        if entry.data().is_some() {
            continue;
        }
        let digest = entry.digest();
        let raw = || {
            let ty = entry.ty();
            let tensor = by_name.get(&digest.to_string()).filter(|t| t.dtype() == DType::U8)?;
            Tensor::new(ty.dtype, ty.fixed_shape()?, tensor.bytes().to_vec()).ok()
        };
        match by_digest.get(&digest).cloned().or_else(raw) {
            Some(tensor) if entry.supply(tensor.clone()) => {}
            _ => missing.push(format!("`{}` {digest}", entry.name)),
        }
    }
    match (missing.is_empty(), path) {
        (true, _) => Ok(()),
        (false, Some(path)) => {
            Err(Error::Options(format!("`{}` lacks the weights {}", path.display(), missing.join(", "))))
        }
        (false, None) => Err(Error::Options(format!("give the weights with --weights: {}", missing.join(", ")))),
    }
}

/// Writes the constants of a stage, by digest. Dtypes that NumPy does not have are written as bytes.
///
/// # Errors
/// [`Error::Data`] when the file cannot be written, [`Error::Options`] for a constant without bytes.
pub fn write_weights(artifact: &Artifact, path: &Path) -> Result<(), Error> {
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for entry in artifact.constants() {
        let digest = entry.digest().to_string();
        let Some(data) = entry.data() else {
            return Err(Error::Options(format!("constant `{}` {digest} has no bytes: give --weights", entry.name)));
        };
        let other = matches!(data.dtype(), DType::Bf16 | DType::I2 | DType::U2 | DType::I4 | DType::U4);
        let known = !other && Minifloat::of(data.dtype()).is_none();
        let tensor = if known {
            data.clone()
        } else {
            let bytes = data.bytes().to_vec();
            Tensor::new(DType::U8, vec![bytes.len()], bytes).map_err(|e| Error::Bug(e.to_string()))?
        };
        tensors.insert(digest, tensor);
    }
    let named: Vec<(String, Tensor)> = tensors.into_iter().collect();
    Ok(data::write(path, &named)?)
}
