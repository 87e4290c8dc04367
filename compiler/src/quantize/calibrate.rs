//! Ranges of values: from a table where it has them, otherwise from what compiled code shows on samples.

use adze_ir::graph::{Graph, ValueId};

use super::plan::Plan;
use super::ranges::{Method, Seen};
use super::samples::Samples;
use super::table::Activation;
use super::taps::Taps;
use super::{Options, Progress};
use crate::build::BuildOptions;
use crate::error::Error;

fn name_of(graph: &Graph, value: ValueId) -> String {
    graph.value(value).name.as_deref().unwrap_or_default().to_owned()
}

/// An entry of the table for every point, in order; none where values stay in floats.
///
/// # Errors
/// [`Error::Options`] without samples for a range that the table lacks, [`Error::Values`] for numbers that are not finite,
/// and what compiling and running gives.
pub fn calibrate(
    graph: &Graph,
    plan: &Plan,
    samples: &Samples,
    options: &Options,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Activation>, Error> {
    let Some(dtype) = options.activations else { return Ok(Vec::new()) };
    let known = |value: ValueId| options.table.as_ref().and_then(|t| t.activation(&name_of(graph, value)));
    let open: Vec<ValueId> = plan.points.iter().copied().filter(|&v| known(v).is_none()).collect();
    let mut seen = observe(graph, &open, samples, options.method != Method::MinMax, build, progress)?.into_iter();
    let mut entries = Vec::new();
    for &value in &plan.points {
        let (dtype, range) = match known(value) {
            Some(known) => known,
            None => {
                let seen = seen.next().ok_or_else(|| Error::Bug("a point was not observed".into()))?;
                (dtype, seen.range(options.method, dtype, options.symmetric))
            }
        };
        let (name, dtype) = (name_of(graph, value), dtype.name().into());
        entries.push(Activation { name, dtype, lo: range.lo, hi: range.hi });
    }
    Ok(entries)
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
