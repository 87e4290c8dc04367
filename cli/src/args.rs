//! Command-line arguments shared by the subcommands.

use std::path::PathBuf;

use adze_compiler::onnx::{ImportOptions, InputValue};
use adze_ir::extent::{DimRange, Extent};
use adze_ir::graph::Append;
use clap::Args;

/// The model and what the command line says about its inputs.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// Model: an ONNX file, or a graph in adze's text form (.graph)
    pub model: PathBuf,
    /// Bind a named dimension: `batch=1`, or a range `seq=1..32` for code that serves all of it
    #[arg(long = "dim", value_name = "NAME=N|LO..HI", value_parser = parse_dim)]
    pub dims: Vec<(String, DimRange)>,
    /// Bind the shape of an input: `input=1x3x224x224`; extents are integers, names of dimensions or expressions of them,
    /// separated by `x`, or by `,` where a name has an `x` in it: `audio=batch,2*hop_x`
    #[arg(long = "shape", value_name = "INPUT=AxBx..", value_parser = parse_shape)]
    pub shapes: Vec<(String, Vec<Extent>)>,
    /// Make an input a constant: `sr=16000` puts the number into every element
    #[arg(long = "value", value_name = "INPUT=NUMBER", value_parser = parse_value)]
    pub values: Vec<(String, f64)>,
    /// Declare an output the in-place successor of an input: `h=h_out`, `past=present,append=2,cap=512`
    #[arg(long = "state", value_name = "IN=OUT[,append=AXIS,cap=N]", value_parser = parse_state)]
    pub states: Vec<StateArg>,
    /// Tensors for weights that a graph text names by digest (.npz)
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}

/// `--state`.
#[derive(Clone, Debug)]
pub struct StateArg {
    /// Name of the input.
    pub input: String,
    /// Name of the output.
    pub output: String,
    /// How it grows.
    pub append: Option<Append>,
}

impl ModelArgs {
    /// The import options.
    pub fn import_options(&self) -> ImportOptions {
        ImportOptions {
            dims: self.dims.iter().cloned().collect(),
            shapes: self.shapes.iter().cloned().collect(),
            values: self.values.iter().map(|(name, v)| (name.clone(), InputValue::Splat(*v))).collect(),
        }
    }
}

fn split(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("found `{text}`, accepted: NAME=VALUE"))
}

fn parse_dim(text: &str) -> Result<(String, DimRange), String> {
    let (name, value) = split(text)?;
    let number = |part: &str| part.parse::<i64>().map_err(|_| format!("found `{part}`, accepted: an integer"));
    let range = match value.split_once("..") {
        Some((lo, hi)) => DimRange { lo: number(lo)?, hi: number(hi)? },
        None => {
            let fixed = number(value)?;
            DimRange { lo: fixed, hi: fixed }
        }
    };
    Ok((name.to_owned(), range))
}

fn parse_shape(text: &str) -> Result<(String, Vec<Extent>), String> {
    let (name, value) = split(text)?;
    let shape = if value == "scalar" { Ok(Vec::new()) } else { parse_extents(value) };
    Ok((name.to_owned(), shape?))
}

/// Extents separated by `,`, or by `x` where what stands between are extents: an `x` in a name (`max`) is none.
fn parse_extents(text: &str) -> Result<Vec<Extent>, String> {
    let extent = |part: &str| {
        let extent = part.parse::<Extent>().ok().filter(|e| e.as_const().is_none_or(|n| n >= 0));
        extent.ok_or_else(|| format!("found extent `{part}`, accepted: an integer, a name or an expression of names"))
    };
    if text.contains(',') {
        return text.split(',').map(extent).collect();
    }
    let mut extents = Vec::new();
    let mut start = 0;
    // The shortest piece that is an extent, as long as the next one can start with what follows the `x`.
    for (at, _) in text.match_indices('x') {
        let next = text[at + 1..].chars().next();
        if extent(&text[start..at]).is_ok() && next.is_some_and(|c| c.is_ascii_alphanumeric() || "_(-".contains(c)) {
            extents.push(extent(&text[start..at])?);
            start = at + 1;
        }
    }
    extents.push(extent(&text[start..])?);
    Ok(extents)
}

fn parse_value(text: &str) -> Result<(String, f64), String> {
    let (name, value) = split(text)?;
    Ok((name.to_owned(), value.parse().map_err(|_| format!("found `{value}`, accepted: a number"))?))
}

fn parse_state(text: &str) -> Result<StateArg, String> {
    let mut parts = text.split(',');
    let (input, output) = split(parts.next().unwrap_or_default())?;
    let (mut axis, mut capacity) = (None, None);
    for part in parts {
        let (key, value) = split(part)?;
        match key {
            "append" => axis = value.parse::<usize>().ok(),
            "cap" => capacity = value.parse::<i64>().ok().filter(|v| *v > 0),
            _ => return Err(format!("found `{part}`, accepted: append=AXIS,cap=N")),
        }
    }
    let append = match (axis, capacity) {
        (Some(axis), Some(capacity)) => Some(Append { axis, capacity }),
        (None, None) => None,
        _ => return Err(format!("found `{text}`, accepted: both append=AXIS and cap=N, or neither")),
    };
    Ok(StateArg { input: input.to_owned(), output: output.to_owned(), append })
}
