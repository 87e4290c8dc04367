//! Random operands for holding two forms of a value against each other, and graphs with numbers that do not matter.

use crate::extent::{Dims, Extent, Sym};
use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::text::{ParseError, parse_graph};
use crate::types::{DType, TensorType};

/// Value of a named dimension, where its range has it.
const DIM: i64 = 3;

/// The value that a named dimension has in samples: 3 or the nearest of its range.
pub fn dim(dims: &Dims, name: &Sym) -> i64 {
    dims.get(name).map_or(DIM, |range| DIM.clamp(range.lo, range.hi.max(range.lo)))
}

/// Random values: of both signs and not near zero, so that no difference cancels; integers that index something. `None` where
/// a shape is none with these dimensions.
pub fn draw(ty: &TensorType, dims: &dyn Fn(&str) -> Option<i64>, random: &mut fastrand::Rng) -> Option<Tensor> {
    let extent = |e: &Extent| usize::try_from(e.eval(dims)?).ok();
    let shape: Vec<usize> = ty.shape.iter().map(extent).collect::<Option<_>>()?;
    let count = shape.iter().product::<usize>();
    if ty.dtype.is_float() {
        let number = |_| (0.25 + random.f64()) * if random.bool() { 1.0 } else { -1.0 };
        return Some(Tensor::from_f64(ty.dtype, &shape, &(0..count).map(number).collect::<Vec<_>>()));
    }
    let range = match ty.dtype {
        DType::I8 => -128..=127,
        DType::U8 => 0..=255,
        _ => 0..=1,
    };
    let numbers: Vec<i128> = (0..count).map(|_| i128::from(random.i32(range.clone()))).collect();
    Some(Tensor::from_ints(ty.dtype, &shape, &numbers))
}

/// Parses a graph in whose text `random f32[2,3]` stands for a constant of small numbers, the same on every run.
///
/// # Errors
/// [`ParseError`], by the lines of the text.
pub fn graph(text: &str) -> Result<Graph, ParseError> {
    parse_graph(&text.lines().map(|line| constant(line).unwrap_or_else(|| line.to_owned()) + "\n").collect::<String>())
}

fn constant(line: &str) -> Option<String> {
    let (left, ty) = line.split_once("= random ")?;
    let (dtype, dims) = ty.trim().trim_end_matches(']').split_once('[')?;
    let count: usize = dims.split(',').map(|dim| dim.trim().parse().unwrap_or(1)).product();
    let step = |i: usize| i * 37 % 64;
    let number = |i| match dtype.starts_with(['i', 'u']) {
        true => step(i).to_string(),
        false => format!("{:?}", (step(i) as f64 - 31.5) / 256.0),
    };
    Some(format!("{left}= const \"\" [{}] : {ty}", (0..count).map(number).collect::<Vec<_>>().join(", ")))
}
