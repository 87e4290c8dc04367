//! Ranges of values: from a table where it has them, otherwise from what compiled code shows on samples.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, ValueId};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::insert::{Edits, insert_mapped};
use super::metric::{Score, clearly_least, judged_by};
use super::plan::{Plan, name_of, parts};
use super::ranges::{Method, Params, Range, Seen};
use super::samples::Samples;
use super::table::Activation;
use super::taps::Taps;
use super::{Options, Progress};
use crate::build::BuildOptions;
use crate::error::Error;

/// Part of a point's range below which what a product reads of it is rounded by itself.
const NARROW: f64 = 0.25;

/// Most samples that ranges are compared on.
const PROBES: usize = 256;
/// Methods that [`Method::Best`] tries: the first one, unless another is clearly better.
const METHODS: [Method; 4] = [Method::Mse, Method::Mean, Method::MinMax, Method::Percentile(99.99)];

/// An entry of the table for every point, in order; none where values stay in floats. Where a product reads a part of a point
/// whose numbers are much smaller, that part takes the place of the point.
///
/// # Errors
/// [`Error::Options`] without samples for a range that the table lacks, [`Error::Values`] for numbers that are not finite,
/// and what compiling and running gives.
pub fn calibrate(
    graph: &Graph,
    plan: &mut Plan,
    samples: &Samples,
    options: &Options,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Activation>, Error> {
    let Some(dtype) = options.activations else { return Ok(Vec::new()) };
    let known = |value: ValueId| options.value_as(&name_of(graph, value));
    let mut parts = parts(graph, plan);
    // What the table states, a point or its parts, is what is rounded.
    let stated = |parts: &[ValueId]| parts.iter().any(|&part| known(part).is_some());
    parts.retain(|&point, parts| known(point).is_none() || stated(parts));
    let all = plan.points.iter().flat_map(|point| {
        let parts = parts.get(point).map_or(&[][..], Vec::as_slice);
        (!stated(parts)).then_some(point).into_iter().chain(parts)
    });
    let open: Vec<ValueId> = all.copied().filter(|&v| known(v).is_none()).collect();
    let seen = observe(graph, &open, samples, options.method != Method::MinMax, build, progress)?;
    let seen: BTreeMap<ValueId, Seen> = open.into_iter().zip(seen).collect();
    let methods =
        if options.method == Method::Best && !seen.is_empty() { METHODS.to_vec() } else { vec![options.method] };
    let mut found: Vec<(Vec<ValueId>, Vec<Activation>)> = Vec::new();
    for method in methods {
        let range = |value: ValueId| {
            known(value).unwrap_or_else(|| (dtype, seen[&value].range(method, dtype, options.symmetric)))
        };
        let points = points_of(plan, &parts, &known, &range);
        let entry = |&value: &ValueId| {
            let (dtype, range) = range(value);
            Activation { name: name_of(graph, value), dtype: dtype.name().into(), lo: range.lo, hi: range.hi }
        };
        let entries = points.iter().map(entry).collect();
        found.push((points, entries));
    }
    let best = if found.len() > 1 { least_loss(graph, &found, samples, options, build, progress)? } else { 0 };
    let (points, entries) = found.swap_remove(best);
    plan.points = points;
    Ok(entries)
}

/// A stored type and a range.
type Entry = (DType, Range);

/// The planned points, with parts in the place of those that they are much smaller than.
fn points_of(
    plan: &Plan,
    parts: &BTreeMap<ValueId, Vec<ValueId>>,
    known: &dyn Fn(ValueId) -> Option<Entry>,
    range: &dyn Fn(ValueId) -> Entry,
) -> Vec<ValueId> {
    let is_narrow = |point: ValueId, part: ValueId| range(part).1.width() < NARROW * range(point).1.width();
    let is_apart = |point: ValueId, parts: &[ValueId]| {
        parts.iter().any(|&part| known(part).is_some()) || parts.iter().any(|&part| is_narrow(point, part))
    };
    let apart = |point: &ValueId| parts.get(point).filter(|parts| is_apart(*point, parts));
    plan.points.iter().flat_map(|point| apart(point).cloned().unwrap_or_else(|| vec![*point])).collect()
}

/// Scale and zero point of every point that is rounded.
pub fn params_of(points: &[ValueId], entries: &[Activation], symmetric: bool) -> BTreeMap<ValueId, Params> {
    let params = |(&value, entry): (&ValueId, &Activation)| {
        let dtype = DType::from_name(&entry.dtype).filter(|d| *d != DType::F32)?;
        Some((value, Range::new(entry.lo, entry.hi).params(dtype, symmetric)))
    };
    points.iter().zip(entries).filter_map(params).collect()
}

/// Which of the ranges the first output of the network, with weights of floats, loses clearly least by.
fn least_loss(
    graph: &Graph,
    found: &[(Vec<ValueId>, Vec<Activation>)],
    samples: &Samples,
    options: &Options,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<usize, Error> {
    let Some(output) = graph.outputs().first().map(|o| o.value) else { return Ok(0) };
    let mut probes = samples.clone();
    probes.thin(PROBES);
    let run = |graph: &Graph, value: ValueId| {
        let mut outputs = Vec::new();
        Taps::new(graph, &[value], &probes, build)?.run(&probes, &mut |_, tensors| {
            outputs.extend(tensors.iter().cloned());
            Ok(())
        })?;
        Ok::<_, Error>(outputs)
    };
    let reference = run(graph, output)?;
    let metric = judged_by(&reference, options.class_axis);
    let mut losses: Vec<Vec<f64>> = Vec::new();
    for (index, (points, entries)) in found.iter().enumerate() {
        progress("comparing ranges", index, found.len());
        let edits = Edits { points: params_of(points, entries, options.symmetric), ..Edits::default() };
        let (rounded, map) = insert_mapped(graph, &edits)?;
        let loss = |(a, b): (&Tensor, Tensor)| {
            let mut score = Score::default();
            score.take(a, &b, options.class_axis, None);
            score.loss(metric)
        };
        losses.push(reference.iter().zip(run(&rounded, map[&output])?).map(loss).collect());
    }
    Ok(clearly_least(&losses, 2.0))
}

/// What the samples show of values: their ends and, if asked for, how often which part between them.
fn observe(
    graph: &Graph,
    values: &[ValueId],
    samples: &Samples,
    count: bool,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Seen>, Error> {
    let mut seen = vec![Seen::default(); values.len()];
    if values.is_empty() {
        return Ok(seen);
    }
    if samples.inputs.is_empty() {
        return Err(Error::Options("ranges of values: found no samples, accepted: --calib with at least one".into()));
    }
    let taps = Taps::new(graph, values, samples, build)?;
    taps.run(samples, &mut |index, tensors| {
        progress("looking for the ends of ranges", index, samples.inputs.len());
        for ((seen, tensor), &value) in seen.iter_mut().zip(tensors).zip(values) {
            seen.ends_of(tensor).map_err(|(at, found)| {
                let sample = samples.names.get(index).map_or("", String::as_str);
                let what = format!("sample {index} `{sample}`, tensor `{}`, element {at}", name_of(graph, value));
                Error::Values(format!("{what}: found {found}, accepted: finite numbers"))
            })?;
        }
        Ok(())
    })?;
    if count {
        taps.run(samples, &mut |index, tensors| {
            progress("counting", index, samples.inputs.len());
            seen.iter_mut().zip(tensors).for_each(|(seen, tensor)| seen.count_of(tensor));
            Ok(())
        })?;
    }
    Ok(seen)
}
