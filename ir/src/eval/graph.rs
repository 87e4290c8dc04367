//! Evaluation of a graph, node by node.

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;

use crate::extent::{Atom, Extent, Sym};
use crate::graph::{Graph, ValueId};
use crate::loc::Loc;
use crate::ops::{EvalError, Op};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Why a graph cannot be evaluated on these inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// The number of inputs differs.
    #[error("{found} inputs given, the graph takes {expected}")]
    Inputs {
        /// Inputs given.
        found: usize,
        /// Inputs of the graph.
        expected: usize,
    },
    /// An input has another type.
    #[error("input {index} `{name}`: found {dtype}{shape:?}, accepted: {accepted}")]
    Input {
        /// Position.
        index: usize,
        /// Name.
        name: String,
        /// Dtype found.
        dtype: DType,
        /// Shape found.
        shape: Vec<usize>,
        /// Type declared.
        accepted: String,
    },
    /// A constant is known by digest only.
    #[error("constant `{name}` is known by digest only: its bytes are needed")]
    MissingConstant {
        /// Its name.
        name: String,
    },
    /// A node cannot be evaluated.
    #[error("node `{op}` {loc}: {error}")]
    Node {
        /// The operator.
        op: String,
        /// The source nodes.
        loc: Loc,
        /// What is wrong.
        error: EvalError,
    },
}

/// Called for every value as soon as it is known.
pub type Observer<'a> = dyn FnMut(ValueId, &Tensor) + 'a;

/// The values of the named dimensions that these inputs imply, each within its declared range.
///
/// A dimension is read off inputs whose extent is the symbol or linear in it (`2*half + 1`); then every input is checked against its type.
///
/// # Errors
/// [`GraphError::Inputs`] and [`GraphError::Input`].
pub fn bind_dims(graph: &Graph, inputs: &[Tensor]) -> Result<BTreeMap<Sym, i64>, GraphError> {
    if inputs.len() != graph.inputs().len() {
        return Err(GraphError::Inputs { found: inputs.len(), expected: graph.inputs().len() });
    }
    let mut dims: BTreeMap<Sym, i64> = BTreeMap::new();
    for (&value, tensor) in graph.inputs().iter().zip(inputs) {
        for (extent, &found) in graph.ty(value).shape.iter().zip(tensor.shape()) {
            if let Some((sym, value)) = i64::try_from(found).ok().and_then(|found| solve(extent, found)) {
                dims.entry(sym).or_insert(value);
            }
        }
    }
    for (index, (&value, tensor)) in graph.inputs().iter().zip(inputs).enumerate() {
        let ty = graph.ty(value);
        let fits = ty.dtype == tensor.dtype()
            && ty.rank() == tensor.shape().len()
            && ty
                .shape
                .iter()
                .zip(tensor.shape())
                .all(|(extent, &found)| extent.eval(&|name| dims.get(name).copied()) == i64::try_from(found).ok());
        let mut symbols = std::collections::BTreeSet::new();
        ty.shape.iter().for_each(|extent| extent.symbols(&mut symbols));
        let in_range = symbols.iter().all(|sym| {
            graph.dims.get(sym).is_none_or(|range| dims.get(sym).is_some_and(|v| (range.lo..=range.hi).contains(v)))
        });
        if !fits || !in_range {
            return Err(GraphError::Input {
                index,
                name: graph.value(value).name.as_deref().unwrap_or_default().to_owned(),
                dtype: tensor.dtype(),
                shape: tensor.shape().to_vec(),
                accepted: accepted(graph, ty),
            });
        }
    }
    Ok(dims)
}

/// The value of the only symbol of a linear expression that makes it equal to `found`.
fn solve(extent: &Extent, found: i64) -> Option<(Sym, i64)> {
    let ([(atoms, factor)], constant) = extent.terms() else { return None };
    let [Atom::Sym(sym)] = atoms.as_slice() else { return None };
    let rest = found.checked_sub(constant)?;
    (rest.checked_rem(*factor)? == 0).then(|| (sym.clone(), rest / factor))
}

/// The type and the ranges of the dimensions it mentions.
fn accepted(graph: &Graph, ty: &TensorType) -> String {
    let mut symbols = std::collections::BTreeSet::new();
    ty.shape.iter().for_each(|extent| extent.symbols(&mut symbols));
    let ranges = symbols.iter().filter_map(|s| graph.dims.get(s).map(|r| format!(", {s} in {}..{}", r.lo, r.hi)));
    format!("{ty}{}", ranges.collect::<String>())
}

/// The outputs of a graph on these inputs.
///
/// # Errors
/// [`GraphError`] for inputs that do not fit and values outside an operator's domain.
pub fn eval_graph(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, GraphError> {
    eval_graph_observed(graph, inputs, &mut |_, _| {})
}

/// [`eval_graph`], showing every value to an observer (calibration, per-node checks).
///
/// Values are dropped after their last use, so memory stays near the live-range bound.
///
/// # Errors
/// As for [`eval_graph`].
pub fn eval_graph_observed(
    graph: &Graph,
    inputs: &[Tensor],
    observe: &mut Observer<'_>,
) -> Result<Vec<Tensor>, GraphError> {
    let dims = bind_dims(graph, inputs)?;
    let mut left = graph.use_counts();
    let mut values: SecondaryMap<ValueId, Option<Tensor>> = SecondaryMap::new();
    for (&value, tensor) in graph.inputs().iter().zip(inputs) {
        observe(value, tensor);
        values[value] = Some(tensor.clone());
    }
    for (_, node) in graph.nodes() {
        let results = match &node.op {
            Op::Constant(constant) => {
                let entry = &graph.consts[constant.id];
                let data = entry.data().ok_or_else(|| GraphError::MissingConstant { name: entry.name.to_string() })?;
                vec![data.clone()]
            }
            op => {
                let operands: Vec<Option<&Tensor>> =
                    node.inputs.iter().map(|v| v.and_then(|v| values[v].as_ref())).collect();
                op.eval(&operands, &|name| dims.get(name).copied()).map_err(|error| GraphError::Node {
                    op: op.to_string(),
                    loc: node.loc.clone(),
                    error,
                })?
            }
        };
        for (&value, tensor) in node.outputs.iter().zip(results) {
            observe(value, &tensor);
            values[value] = (left[value] > 0).then_some(tensor);
        }
        for &value in node.inputs.iter().flatten() {
            left[value] -= 1;
            if left[value] == 0 {
                values[value] = None;
            }
        }
    }
    Ok(graph.outputs().iter().map(|o| values[o.value].clone().expect("outputs count as uses")).collect())
}
