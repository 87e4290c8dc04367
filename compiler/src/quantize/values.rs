//! Which values stay floats where rounding all of them would take too much of a bound.
//!
//! The network is compiled once, its weights in floats, with a flag per value that says whether it is rounded. What each loses by
//! itself is measured, and those that lose most stay floats, as few as will do for the others to keep to their share of the bound.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, ValueId};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::Progress;
use super::budget::{Goal, Labelled, PROBES, first_output, score};
use super::insert::{Edits, insert_mapped};
use super::metric::Score;
use super::plan::name_of;
use super::ranges::Params;
use super::samples::Samples;
use super::taps::{LoadedTaps, Taps};
use crate::build::BuildOptions;
use crate::error::Error;

/// Share of a bound that rounded values may lose; the rest is left to the weights.
const SHARE: f64 = 0.5;

/// The values of `points` that stay floats, those that lose most first, so that the others keep to their share of the bound of
/// `goal` on both parts of the samples, whose references are known; none where there is no bound. Only values for which `open`
/// holds may stay floats: where that does not do, all of them.
///
/// # Errors
/// What compiling and running gives.
pub fn floats(
    graph: &Graph,
    points: &BTreeMap<ValueId, Params>,
    open: &dyn Fn(ValueId) -> bool,
    (goal, parts): (&Goal, &[Labelled; 2]),
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<ValueId>, Error> {
    let Some(bound) = goal.bound.filter(|_| !points.is_empty()).map(|bound| bound.share(SHARE)) else {
        return Ok(Vec::new());
    };
    let output = first_output(graph)?;
    let flagged = Flagged::new(graph, points, &output, &parts[0].samples, build)?;
    let network = flagged.taps.load()?;
    let holds = |floats: &[ValueId]| {
        let mut scores = [Score::default(), Score::default()];
        for (found, part) in scores.iter_mut().zip(parts) {
            let outputs = flagged.run(&network, &part.samples, &|value| !floats.contains(&value))?;
            *found = score(goal, &part.reference, &outputs, &part.labels);
        }
        Ok::<_, Error>(bound.kept_by(&scores))
    };
    if holds(&[])? {
        return Ok(Vec::new());
    }
    let mut probes = parts[0].samples.clone();
    probes.thin(PROBES);
    let exact = flagged.run(&network, &probes, &|_| false)?;
    let mut losses: Vec<(f64, ValueId)> = Vec::new();
    for (index, &value) in flagged.order.iter().enumerate() {
        progress("what each value loses", index, flagged.order.len());
        if open(value) {
            let found = flagged.run(&network, &probes, &|other| other == value)?;
            losses.push((score(goal, &exact, &found, &[]).loss(bound.metric), value));
        }
    }
    losses.sort_by(|a, b| b.0.total_cmp(&a.0));
    let worst: Vec<ValueId> = losses.into_iter().map(|(_, value)| value).collect();
    let (mut few, mut enough) = (0, worst.len());
    while few + 1 < enough {
        progress("values that stay floats", worst.len() - (enough - few), worst.len());
        let middle = (few + enough) / 2;
        if holds(&worst[..middle])? { enough = middle } else { few = middle }
    }
    Ok(worst[..enough].to_vec())
}

/// A line about them.
pub fn note(graph: &Graph, floats: &[ValueId], points: usize) -> Option<String> {
    /// Names that are listed.
    const LISTED: usize = 8;
    let names: Vec<String> = floats.iter().take(LISTED).map(|&value| format!("`{}`", name_of(graph, value))).collect();
    let more = if floats.len() > LISTED { ", .." } else { "" };
    let count = floats.len();
    (count > 0).then(|| format!("{count} of {points} values stay floats, which lose most: {}{more}", names.join(", ")))
}

/// The network with a flag for every value that may be rounded.
struct Flagged {
    taps: Taps,
    /// The values, in the order of their flags.
    order: Vec<ValueId>,
}

impl Flagged {
    fn new(
        graph: &Graph,
        points: &BTreeMap<ValueId, Params>,
        output: &[ValueId],
        samples: &Samples,
        build: &BuildOptions,
    ) -> Result<Self, Error> {
        let results = graph.nodes().flat_map(|(_, node)| node.outputs.iter().copied());
        let order: Vec<ValueId> =
            graph.inputs().iter().copied().chain(results).filter(|value| points.contains_key(value)).collect();
        let edits = Edits { points: points.clone(), flagged: true, ..Edits::default() };
        let (flagged, map) = insert_mapped(graph, &edits)?;
        let output: Vec<ValueId> = output.iter().map(|value| map[value]).collect();
        let inputs = samples.inputs.iter().map(|inputs| feed(inputs, &order, &|_| false)).collect();
        let samples = Samples { inputs, names: samples.names.clone() };
        Ok(Self { taps: Taps::new(&flagged, &output, &samples, build)?, order })
    }

    /// The first output for every sample.
    fn run(
        &self,
        network: &LoadedTaps<'_>,
        samples: &Samples,
        is_rounded: &dyn Fn(ValueId) -> bool,
    ) -> Result<Vec<Tensor>, Error> {
        let one = |inputs: &Vec<Tensor>| Ok(network.values(&feed(inputs, &self.order, is_rounded))?.swap_remove(0));
        samples.inputs.iter().map(one).collect()
    }
}

fn feed(inputs: &[Tensor], order: &[ValueId], is_rounded: &dyn Fn(ValueId) -> bool) -> Vec<Tensor> {
    let flags = order.iter().map(|&value| Tensor::from_ints(DType::Bool, &[], &[is_rounded(value).into()]));
    inputs.iter().cloned().chain(flags).collect()
}
