//! Quantization of float networks: `adze quantize`.
//!
//! - [`samples`]: calibration data, [`images`] among them. [`taps`]: compiled code with values to look at as outputs.
//! - [`mod@equalize`]: scales moved between neighbours. [`mod@plan`]: what becomes integers. [`mod@calibrate`], [`ranges`]: how large the numbers are. [`table`]: both, as a person
//!   may edit it.
//! - [`weights`], [`feedback`]: rounding of weights, judged by the [`mod@moments`] of what they meet; [`store`]: the constants
//!   that come of it, [`descent`]: learned ones, [`mod@distil`]: all of them end to end, from [`lessons`], [`mod@follow`]: one layer after the other on a [`trial`]. [`mod@values`]: which of them stay floats. [`budget`]: formats chosen for a goal, measured by a [`metric`] and by their [`size`]. [`mod@insert`]: the graph with `quantize` and `dequantize`, which the pass `integers` turns into integer operators and which exports as a QDQ model.
//! - [`diagnose`]: what each layer lost. [`resume`]: what an interrupted run had done.
//!
//! Everything is deterministic: sums run in one order and nothing depends on time.

mod adam;
pub mod budget;
pub mod calibrate;
pub mod descent;
pub mod diagnose;
pub mod distil;
pub mod equalize;
pub mod feedback;
pub mod follow;
pub mod images;
pub mod insert;
pub mod lessons;
pub mod metric;
pub mod moments;
pub mod plan;
pub mod ranges;
pub mod resume;
pub mod samples;
pub mod size;
pub mod store;
pub mod table;
pub mod taps;
pub mod trial;
pub mod values;
mod vectors;
pub mod weights;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use adze_ir::graph::{Graph, Node, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_ir::propose::PlainMachine;
use adze_ir::types::DType;
use adze_passes::pass::PassOptions;

use crate::build::BuildOptions;
use crate::error::Error;
use crate::stage::{Trace, run_pass};
use budget::Goal;
use calibrate::{calibrate, params_of};
use distil::{Distil, distil};
use equalize::{Equalize, equalize};
use follow::follow;
use insert::{Edits, insert};
use lessons::learners;
use moments::moments;
use plan::{Plan, name_of, plan, point_of};
use ranges::{Method, Params, Range};
use resume::State;
use samples::Samples;
use store::{Format, Maker};
use table::{Activation, TABLE_VERSION, Table};

/// How weights are rounded. All but the first need samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest integer.
    Nearest,
    /// One after the other, the rest of a channel making up for what each one costs.
    Feedback,
    /// From there on, integers and scales move as long as the layer's output comes closer.
    Learned,
    /// From there on, integers and scales of all products move as long as the network's output comes closer.
    Distilled(Distil),
}

impl Rounding {
    /// Whether it looks at operands.
    pub fn feeds_back(self) -> bool {
        self != Self::Nearest
    }

    /// Whether every layer learns.
    pub fn learns(self) -> bool {
        matches!(self, Self::Learned | Self::Distilled(_))
    }
}

/// Choices of a quantization.
#[derive(Clone, Debug)]
pub struct Options {
    /// Stored type of values; `None` leaves them in floats and stores weights only.
    pub activations: Option<DType>,
    /// Stored type of weights.
    pub weights: DType,
    /// Weights of a channel that share a scale; 0 for a scale per channel. Only with values in floats.
    pub block: usize,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// Weights of less than a byte are judged by the operands that the rounded layers before them make, not by those of the
    /// float network.
    pub follow: bool,
    /// How scales move between neighbours before.
    pub equalize: Equalize,
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
    /// Axis of the classes in the first output, where these are what counts.
    pub class_axis: Option<usize>,
    /// What an edited table says; ranges and types that it has are not looked for.
    pub table: Option<Table>,
    /// What the formats of weights that no table states are chosen for.
    pub goal: Option<Goal>,
    /// File that keeps what is done, and from which an interrupted run goes on.
    pub resume: Option<PathBuf>,
}

impl Options {
    /// What the table says about the weights of the product of that name: stored type and block.
    pub fn stored_as(&self, name: &str) -> Option<(DType, usize)> {
        self.table.as_ref().and_then(|table| table.weights_of(name))
    }

    /// What the table says about the value of that name: stored type and range.
    pub fn value_as(&self, name: &str) -> Option<(DType, Range)> {
        self.table.as_ref().and_then(|table| table.activation(name))
    }

    /// Whether factors before products stay apart: weights of a block then differ less, and factors learn. Values that are rounded have
    /// one range for all channels and are better off without them.
    fn keeps_factors(&self) -> bool {
        self.activations.is_none()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            activations: Some(DType::U8),
            weights: DType::I8,
            block: 0,
            rounding: Rounding::Learned,
            follow: true,
            equalize: Equalize::None,
            method: Method::Best,
            symmetric: false,
            per_channel: true,
            search_scales: true,
            correct_bias: true,
            keep: Vec::new(),
            class_axis: None,
            table: None,
            goal: None,
            resume: None,
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
    /// What came of the goal.
    pub notes: Vec<String>,
}

/// Called with what is being done, the steps done and the steps there are.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Passes before weights are looked at: what exporters leave of normalisations goes into weights here.
const PREPARE: &[&str] = &["canonicalize", "fold-constants", "saturate", "fold-constants", "canonicalize"];

/// The rule that takes the factors of a normalisation into the products behind it.
const INTO_PRODUCTS: &str = "factor-before-product";

/// The graph whose values and weights are quantized. `apart`: factors before products stay on their own.
///
/// # Errors
/// [`Error::Bug`] for what a pass breaks.
pub fn prepare(graph: &Graph, apart: bool) -> Result<Graph, Error> {
    let mut graph = graph.clone();
    let options = PassOptions { without: apart.then_some(INTO_PRODUCTS), ..PassOptions::default() };
    for pass in PREPARE {
        graph = run_pass(&graph, pass, &options, &PlainMachine, &mut Trace::default())?;
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
    let goal = options.goal.as_ref();
    let mut parts = goal.map(|goal| Ok::<_, Error>((goal, budget::split(samples, goal)?))).transpose()?;
    let chosen_by = parts.as_ref().map(|(_, [chosen, _])| chosen.samples.clone());
    let samples = chosen_by.as_ref().unwrap_or(samples);
    progress("preparing", 0, 1);
    let (graph, scaled) =
        equalize(prepare(graph, options.keeps_factors())?, options.equalize, samples, build, progress)?;
    let named = |node: &Node, name: &String| node.loc.names().iter().any(|n| **n == **name);
    if let Some(name) = options.keep.iter().find(|name| !graph.nodes().any(|(_, node)| named(node, name))) {
        return Err(Error::Options(format!("--keep: the model has no node `{name}`")));
    }
    let keep = |node: &Node| {
        let is_float = options.stored_as(&node_name(node)).is_some_and(|(dtype, _)| dtype == DType::F32);
        options.keep.iter().any(|n| named(node, n)) || is_float
    };
    let mut plan = plan(&graph, &keep);
    let state = options.resume.as_ref().map(|path| State::open(path, &graph, samples, options, build)).transpose()?;
    let state = state.map(RefCell::new);
    let mut activations = ranges_of(&graph, &mut plan, samples, options, state.as_ref(), build, progress)?;
    let points = params_of(&plan.points, &activations, options.symmetric);
    let mut edits = Edits { points, ..Edits::default() };
    share_concat(&graph, &mut edits.points);
    let mut notes = Vec::new();
    if let Some((goal, parts)) = &mut parts {
        budget::teach(&graph, (goal, parts), build)?;
        let open = |value: ValueId| options.value_as(&name_of(&graph, value)).is_none();
        let floats = values::floats(&graph, &edits.points, &open, (goal, parts), build, progress)?;
        notes.extend(values::note(&graph, &floats, edits.points.len()));
        for value in floats {
            edits.points.remove(&value);
            let name = name_of(&graph, value);
            let entries = activations.iter_mut().filter(|entry| entry.name == name);
            entries.for_each(|entry| entry.dtype = DType::F32.name().into());
        }
    }
    let looks = (options.rounding.feeds_back() || options.correct_bias) && !samples.inputs.is_empty();
    let maker =
        Maker { graph: &graph, points: &edits.points, options, quick: false, formats: "", state: state.as_ref() };
    let learners = matches!(options.rounding, Rounding::Distilled(_)).then(|| learners(samples));
    let made_from = learners.as_ref().unwrap_or(samples);
    let moments = |made_from: &Samples, progress: &mut Progress<'_>| match looks {
        true => moments(&graph, &plan.products, made_from, build, options.rounding.feeds_back(), progress),
        false => Ok(BTreeMap::new()),
    };
    // As layers make them from samples, of which the name is a part of what weights are remembered by.
    let layers = |made_from: &Samples, name: &str, progress: &mut Progress<'_>| {
        let maker = Maker { formats: name, ..maker };
        let formats: Vec<Format> = plan.products.iter().map(|product| maker.stated(product)).collect();
        if !looks || !options.follow || formats.iter().all(|f| f.dtype.bits() >= 8) {
            return maker.all(&plan, moments(made_from, progress)?, progress);
        }
        let consts = follow(&maker, &plan, &formats, made_from, build, progress)?;
        let entries = plan.products.iter().zip(formats).map(|(product, format)| maker.entry(product, format));
        Ok::<_, Error>(entries.zip(consts).collect())
    };
    let (chosen, found) = match &parts {
        Some((goal, parts)) => {
            budget::choose(&maker, &plan, moments(made_from, progress)?, (goal, parts), build, progress)?
        }
        None => (layers(made_from, "", progress)?, Vec::new()),
    };
    notes.extend(found);
    let (weights, mut consts): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
    if let (Rounding::Distilled(how), None) = (options.rounding, &options.goal) {
        let (learned, note) = distil(&maker, &plan, &consts, how, samples, build, progress)?;
        consts = match learned {
            Some(learned) => learned,
            None => layers(samples, "all", progress)?.into_iter().map(|(_, consts)| consts).collect(),
        };
        notes.push(note);
    }
    edits.consts = consts.into_iter().flatten().collect();
    if options.equalize != Equalize::None {
        notes.push(format!("channels of {scaled} values scaled"));
    }
    let table = Table { version: TABLE_VERSION, model: graph.name.to_string(), activations, weights };
    let why =
        |(id, reason): &(NodeId, String)| format!("`{}` {}: {reason}", graph.node(*id).op.name(), graph.node(*id).loc);
    let left = plan.left.iter().map(why).collect();
    let products = table.weights.iter().filter(|w| w.dtype != DType::F32.name()).count();
    Ok(Quantized { graph: insert(&graph, &edits)?, table, left, products, notes })
}

/// What [`calibrate()`] finds, or what an interrupted run had found.
fn ranges_of(
    graph: &Graph,
    plan: &mut Plan,
    samples: &Samples,
    options: &Options,
    state: Option<&RefCell<State>>,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Activation>, Error> {
    let Some(state) = state else { return calibrate(graph, plan, samples, options, build, progress) };
    let known = state.borrow().activations().map(<[Activation]>::to_vec);
    if let Some(activations) = known {
        let table = Table { activations, ..options.table.clone().unwrap_or_default() };
        let options = Options { table: Some(table), ..options.clone() };
        return calibrate(graph, plan, samples, &options, build, progress);
    }
    let activations = calibrate(graph, plan, samples, options, build, progress)?;
    state.borrow_mut().keep_activations(&activations)?;
    Ok(activations)
}

/// Parts of a concatenation get the parameters of the whole where they lose less than a bit by it: then they are not touched.
fn share_concat(graph: &Graph, points: &mut BTreeMap<ValueId, Params>) {
    for (_, node) in graph.nodes().collect::<Vec<_>>().into_iter().rev() {
        let (Op::Concat(_), Some(&whole)) = (&node.op, points.get(&node.outputs[0])) else { continue };
        for &part in node.inputs.iter().flatten() {
            if let Some(params) = point_of(graph, points, part).and_then(|point| points.get_mut(&point))
                && params.dtype == whole.dtype
                && params.scale * 2.0 >= whole.scale
                && params.scale <= whole.scale
            {
                *params = whole;
            }
        }
    }
}
