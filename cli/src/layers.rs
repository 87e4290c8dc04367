//! `adze check --quantized-vs-float`: what each layer of a quantized model loses.

use std::path::Path;

use adze_compiler::Error;
use adze_compiler::build::BuildOptions;
use adze_compiler::load::{load, supply_weights};
use adze_compiler::quantize::diagnose::{Distance, Layer, diagnose};
use serde::Serialize;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::html::page;
use crate::quantize::{SampleArgs, with_progress};
use crate::run::machine;

/// A layer, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    nodes: &'a [String],
    isolated: Numbers,
    accumulated: Numbers,
    /// Share of integers at the ends of their type; absent where the value is no integer.
    #[serde(skip_serializing_if = "Option::is_none")]
    saturated: Option<f64>,
    good: bool,
}

#[derive(Serialize)]
struct Numbers {
    /// Absent when there is no noise at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
    cosine: f64,
    max_error: f64,
}

impl Numbers {
    fn of(distance: &Distance) -> Self {
        let sqnr_db = Some(distance.sqnr()).filter(|s| s.is_finite());
        Self { sqnr_db, cosine: distance.cosine(), max_error: distance.max_error }
    }

    fn show(&self) -> String {
        let sqnr = self.sqnr_db.map_or_else(|| "no noise".to_owned(), |s| format!("{s:.1} dB"));
        format!("{sqnr}, cosine {:.5}, max error {:.3e}", self.cosine, self.max_error)
    }
}

/// Compares the layers of a quantized model with those of its float model and prints them, worst first.
///
/// # Errors
/// What loading and running gives; [`Failure::Threshold`] when a layer is under the threshold.
pub fn compare_layers(
    model: &ModelArgs,
    float: &Path,
    samples: &SampleArgs,
    min_sqnr: Option<f64>,
    (json, html): (bool, Option<&Path>),
) -> Result<(), Failure> {
    let mut quantized = load(&model.model, &model.import_options())?.graph;
    supply_weights(&mut quantized, model.weights.as_deref())?;
    let float = load(float, &model.import_options())?.graph;
    let samples = samples.read(&float)?;
    let build = BuildOptions::new(machine(None)?);
    let mut layers = with_progress(|progress| diagnose(&float, &quantized, &samples, &build, progress))?;
    if let Some(path) = html {
        let title = format!("{} against its float model", model.model.display());
        let text = page(&title, samples.inputs.len(), &layers, min_sqnr);
        std::fs::write(path, text).map_err(|source| Error::Write { path: path.into(), source })?;
    }
    layers.sort_by(|a, b| a.isolated.sqnr().total_cmp(&b.isolated.sqnr()));
    let under = |layer: &Layer| min_sqnr.is_some_and(|least| layer.accumulated.sqnr() < least);
    for layer in &layers {
        let line = Line {
            name: &layer.name,
            nodes: &layer.nodes,
            isolated: Numbers::of(&layer.isolated),
            accumulated: Numbers::of(&layer.accumulated),
            saturated: layer.saturated,
            good: !under(layer),
        };
        print(&line, json)?;
    }
    if layers.iter().any(under) { Err(Failure::Threshold) } else { Ok(()) }
}

fn print(line: &Line<'_>, json: bool) -> Result<(), Error> {
    if json {
        println!("{}", serde_json::to_string(line).map_err(|e| Error::Bug(e.to_string()))?);
        return Ok(());
    }
    let verdict = if line.good { "" } else { " UNDER THE THRESHOLD" };
    println!("{}:{verdict}", line.name);
    println!("    alone        {}", line.isolated.show());
    println!("    accumulated  {}", line.accumulated.show());
    if let Some(share) = line.saturated {
        println!("    saturated    {:.3} %", 100.0 * share);
    }
    if !line.nodes.is_empty() {
        println!("    nodes        {}", line.nodes.join(", "));
    }
    Ok(())
}
