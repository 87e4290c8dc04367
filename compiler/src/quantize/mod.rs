//! Quantization of float networks: `adze quantize`.
//!
//! - [`samples`]: calibration data. [`taps`]: compiled code with values to look at as outputs.
//! - [`mod@plan`]: what becomes integers. [`mod@calibrate`], [`ranges`]: how large the numbers are. [`table`]: both, as a person
//!   may edit it.
//! - [`weights`], [`feedback`]: rounding of weights, judged by the [`mod@moments`] of what they meet. [`mod@insert`]: the graph
//!   with `quantize` and `dequantize`, which the pass `integers` turns into integer operators and which exports as a QDQ model.
//! - [`diagnose`]: what each layer lost.
//!
//! Everything is deterministic: sums run in one order and nothing depends on time.

pub mod calibrate;
pub mod diagnose;
pub mod feedback;
pub mod insert;
pub mod moments;
pub mod plan;
pub mod ranges;
pub mod samples;
pub mod table;
pub mod taps;
pub mod weights;

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_ir::propose::PlainMachine;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_passes::pass::PassOptions;

use crate::build::BuildOptions;
use crate::error::Error;
use crate::stage::{Trace, run_pass};
use calibrate::calibrate;
use feedback::round_feedback;
use insert::{Edits, StoredConst, insert};
use moments::{Moments, moments};
use plan::{Plan, Product, plan, root};
use ranges::{Method, Params, Range, floats};
use samples::Samples;
use table::{TABLE_VERSION, Table, Weights};
use weights::{Rows, Scaling, Stored, round_nearest, scales_of};

/// Choices of a quantization.
#[derive(Clone, Debug)]
pub struct Options {
    /// Stored type of values; `None` leaves them in floats and stores weights only.
    pub activations: Option<DType>,
    /// Stored type of weights.
    pub weights: DType,
    /// Weights of a channel that share a scale; 0 for a scale per channel. Only with values in floats.
    pub block: usize,
    /// Weights are rounded with error feedback, which needs samples.
    pub feedback: bool,
    /// How ranges of values are found.
    pub method: Method,
    /// Zero lies in the middle of the stored type of values.
    pub symmetric: bool,
    /// A scale per output channel instead of one per tensor of weights.
    pub per_channel: bool,
    /// Scales of weights are searched for the least squared error instead of fitted to the largest weight.
    pub search_scales: bool,
    /// Biases make up for the mean error of rounded weights.
    pub correct_bias: bool,
    /// Names of ONNX nodes that stay in floats.
    pub keep: Vec<String>,
    /// What an edited table says; ranges and types that it has are not looked for.
    pub table: Option<Table>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            activations: Some(DType::U8),
            weights: DType::I8,
            block: 0,
            feedback: true,
            method: Method::Mse,
            symmetric: false,
            per_channel: true,
            search_scales: true,
            correct_bias: true,
            keep: Vec::new(),
            table: None,
        }
    }
}

/// A quantized network.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The graph, with `quantize` and `dequantize`.
    pub graph: Graph,
    /// What was found, to be edited and fed back.
    pub table: Table,
    /// Products that stay in floats, and why.
    pub left: Vec<String>,
    /// Products with integer weights.
    pub products: usize,
}

/// Called with what is being done, the steps done and the steps there are.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Passes before weights are looked at: what exporters leave of normalisations goes into weights here.
const PREPARE: &[&str] = &["canonicalize", "fold-constants", "saturate", "fold-constants", "canonicalize"];

/// The graph whose values and weights are quantized.
///
/// # Errors
/// [`Error::Bug`] for what a pass breaks.
pub fn prepare(graph: &Graph) -> Result<Graph, Error> {
    let mut graph = graph.clone();
    for pass in PREPARE {
        graph = run_pass(&graph, pass, &PassOptions::default(), &PlainMachine, &mut Trace::default())?;
    }
    Ok(name_values(graph.compact()))
}

/// Gives every value a name: that of the ONNX tensor it equals, otherwise one made from its node.
fn name_values(mut graph: Graph) -> Graph {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let nodes: Vec<NodeId> = graph.order().to_vec();
    let given = |graph: &Graph, v: ValueId| graph.value(v).name.as_deref().filter(|n| !n.is_empty()).map(str::to_owned);
    for &value in graph.inputs().iter().chain(nodes.iter().flat_map(|&id| &graph.node(id).outputs)) {
        given(&graph, value).into_iter().for_each(|name| *taken.entry(name).or_default() += 1);
    }
    for id in nodes {
        for value in graph.node(id).outputs.clone() {
            if given(&graph, value).is_some() || matches!(graph.node(id).op, Op::Constant(_)) {
                continue;
            }
            let stem = node_name(graph.node(id));
            let count = taken.entry(stem.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { stem } else { format!("{stem}#{count}") };
            graph.set_name(value, Some(name.into()));
        }
    }
    graph
}

/// The first ONNX node that a node stands for.
pub fn node_name(node: &Node) -> String {
    node.loc.names().first().map_or_else(|| node.op.name().to_owned(), |name| name.to_string())
}

/// Quantizes a network as it comes from import.
///
/// # Errors
/// [`Error::Options`] for options and data that do not go together, [`Error::Values`] naming the sample and the tensor
/// whose numbers are not finite, and what compiling and running gives.
pub fn quantize(
    graph: &Graph,
    samples: &Samples,
    options: &Options,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Quantized, Error> {
    if options.block > 0 && options.activations.is_some() {
        return Err(Error::Options(
            "scales per block: accepted with values in floats (--activation-dtype none)".into(),
        ));
    }
    progress("preparing", 0, 1);
    let graph = prepare(graph)?;
    let named = |node: &Node, name: &String| node.loc.names().iter().any(|n| **n == **name);
    if let Some(name) = options.keep.iter().find(|name| !graph.nodes().any(|(_, node)| named(node, name))) {
        return Err(Error::Options(format!("--keep: the model has no node `{name}`")));
    }
    let keep = |node: &Node| {
        let is_float = stored_as(options, node).is_some_and(|(dtype, _)| dtype == DType::F32);
        options.keep.iter().any(|n| named(node, n)) || is_float
    };
    let plan = plan(&graph, &keep);
    let activations = calibrate(&graph, &plan, samples, options, build, progress)?;
    let mut edits = Edits::default();
    for (&value, entry) in plan.points.iter().zip(&activations) {
        if let Some(dtype) = DType::from_name(&entry.dtype).filter(|d| *d != DType::F32) {
            edits.points.insert(value, Range::new(entry.lo, entry.hi).params(dtype, options.symmetric));
        }
    }
    share_concat(&graph, &mut edits.points);
    let moments = match (options.feedback || options.correct_bias) && !samples.inputs.is_empty() {
        true => moments(&graph, &plan.products, samples, build, options.feedback, progress)?,
        false => BTreeMap::new(),
    };
    let weights = store_all(&graph, &plan, moments, options, &mut edits, progress)?;
    let table = Table { version: TABLE_VERSION, model: graph.name.to_string(), activations, weights };
    let why =
        |(id, reason): &(NodeId, String)| format!("`{}` {}: {reason}", graph.node(*id).op.name(), graph.node(*id).loc);
    let left = plan.left.iter().map(why).collect();
    Ok(Quantized { graph: insert(&graph, &edits)?, table, left, products: plan.products.len() })
}

/// What the table says about the weights of a product.
fn stored_as(options: &Options, node: &Node) -> Option<(DType, usize)> {
    options.table.as_ref().and_then(|table| table.weights_of(&node_name(node)))
}

/// Adds the weights and biases of all products as integers; their entries in the table.
fn store_all(
    graph: &Graph,
    plan: &Plan,
    mut moments: BTreeMap<NodeId, Moments>,
    options: &Options,
    edits: &mut Edits,
    progress: &mut Progress<'_>,
) -> Result<Vec<Weights>, Error> {
    let mut weights = Vec::new();
    for (index, product) in plan.products.iter().enumerate() {
        progress("rounding weights", index, plan.products.len());
        let node = graph.node(product.node);
        let (dtype, block) = stored_as(options, node).unwrap_or((options.weights, options.block));
        let block = block_of(graph, product, block);
        let (name, count) = (node_name(node), u32::try_from(block).unwrap_or(0));
        weights.push(Weights { name, dtype: dtype.name().into(), block: count });
        store(graph, product, Format { dtype, block, moments: moments.remove(&product.node) }, options, edits)?;
    }
    Ok(weights)
}

/// Parts of a concatenation get the parameters of the whole where they lose less than a bit by it: then they are not touched.
fn share_concat(graph: &Graph, points: &mut BTreeMap<ValueId, Params>) {
    for (_, node) in graph.nodes().collect::<Vec<_>>().into_iter().rev() {
        let (Op::Concat(_), Some(&whole)) = (&node.op, points.get(&node.outputs[0])) else { continue };
        for &part in node.inputs.iter().flatten() {
            if let Some(params) = points.get_mut(&root(graph, part))
                && params.dtype == whole.dtype
                && params.scale * 2.0 >= whole.scale
                && params.scale <= whole.scale
            {
                *params = whole;
            }
        }
    }
}

/// The block that the rows of a product come apart into; 0 where they do not.
fn block_of(graph: &Graph, product: &Product, block: usize) -> usize {
    let matrix = !matches!(graph.node(product.node).op, Op::Conv(_));
    let shape = graph.ty(product.weights).fixed_shape().unwrap_or_default();
    let len = shape.iter().product::<usize>() / shape.get(product.axis).copied().unwrap_or(1).max(1);
    if matrix && block > 0 && block < len && len.is_multiple_of(block) { block } else { 0 }
}

/// How the weights of a product are stored, and what is known of its operand.
struct Format {
    dtype: DType,
    block: usize,
    moments: Option<Moments>,
}

/// Adds a product's weights and bias as integers.
fn store(
    graph: &Graph,
    product: &Product,
    mut format: Format,
    options: &Options,
    edits: &mut Edits,
) -> Result<(), Error> {
    let node = graph.node(product.node);
    let constant = |value: ValueId| {
        let data = graph.constant(value).and_then(|entry| entry.data());
        let data = data.ok_or_else(|| Error::Bug(format!("{}: a planned operand is no constant", node.loc)))?;
        match floats(data).find(|v| !v.is_finite()) {
            Some(found) => {
                Err(Error::Values(format!("weights of `{}`: found {found}, accepted: finite numbers", node_name(node))))
            }
            None => Ok(data),
        }
    };
    let data = constant(product.weights)?;
    let rows = Rows::of(data, product.axis);
    let input = node.inputs[0].and_then(|v| edits.points.get(&root(graph, v))).copied();
    let bias = match product.bias {
        Some((id, index)) => graph.node(id).inputs[index].map(constant).transpose()?,
        None => None,
    };
    let mut values = bias.map(Tensor::to_f64).unwrap_or_default();
    let floor = floor_of(input, &values);
    let block = if format.block == 0 { rows.len.max(1) } else { format.block };
    let corrected = options.correct_bias && input.is_some() && bias.is_some();
    if let Some(moments) = format.moments.as_mut().filter(|_| corrected) {
        moments.centre();
    }
    let importance = format.moments.as_ref().and_then(Moments::diagonals);
    let scaling = Scaling { search: options.search_scales, floor: &floor, importance: importance.as_deref() };
    let stored = round(&rows, &format, block, scaling, options.per_channel);
    edits.consts.insert((product.node, 1), stored_weights(data, &stored, product.axis, format.block));
    let (Some(input), Some((id, index)), Some(bias)) = (input, product.bias, bias) else { return Ok(()) };
    if let Some(moments) = format.moments.as_ref().filter(|_| corrected) {
        moments.correct_bias(&mut values, &rows, &stored.real(rows.len));
    }
    let unit = |i: usize| f64::from(input.scale) * f64::from(stored.scales[i.min(stored.scales.len() - 1)]);
    let units: Vec<i128> = values.iter().enumerate().map(|(i, v)| (v / unit(i)).round_ties_even() as i128).collect();
    let scales: Vec<f32> = (0..values.len()).map(|i| unit(i) as f32).collect();
    let data = Tensor::from_ints(DType::I32, bias.shape(), &units);
    let axis = bias.shape().len().saturating_sub(1);
    let scales = Tensor::from_f32(&[scales.len()], &scales);
    edits.consts.insert((id, index), StoredConst { data, scales, axis, block: 0 });
    Ok(())
}

/// Rounds the weights of a product.
fn round(rows: &Rows, format: &Format, block: usize, scaling: Scaling<'_>, per_channel: bool) -> Stored {
    let mut scales = scales_of(rows, format.dtype, block, scaling);
    if !per_channel {
        let most = scales.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        scales.iter_mut().for_each(|scale| *scale = most);
    }
    match &format.moments {
        Some(moments) if !moments.matrices.is_empty() => round_feedback(rows, moments, scales, format.dtype, block),
        _ => round_nearest(rows, scales, format.dtype, block),
    }
}

/// Smallest scales of weights for which biases fit 32 bits, with room for the sums.
fn floor_of(input: Option<Params>, bias: &[f64]) -> Vec<f64> {
    let Some(input) = input else { return Vec::new() };
    let room = f64::from(1 << 30);
    bias.iter().map(|b| b.abs() / (f64::from(input.scale) * room)).collect()
}

/// Rows of integers in the shape of the weights they were made of.
fn stored_weights(data: &Tensor, stored: &Stored, axis: usize, block: usize) -> StoredConst {
    let ints = Rows::lay(&stored.ints, data.shape(), axis);
    let integers = Tensor::from_ints(stored.dtype, data.shape(), &ints);
    if block == 0 {
        let scales = Tensor::from_f32(&[stored.scales.len()], &stored.scales);
        return StoredConst { data: integers, scales, axis, block };
    }
    // A matrix: blocks lie along the axis that is summed over.
    let mut shape = data.shape().to_vec();
    shape[1 - axis] /= block;
    let scales = Tensor::from_f32(&shape, &Rows::lay(&stored.scales, &shape, axis));
    StoredConst { data: integers, scales, axis: 1 - axis, block }
}
