//! `adze check`.

use std::path::PathBuf;

use adze_compiler::build::BuildOptions;
use adze_compiler::compare::{Difference, Tolerance, compare};
use adze_compiler::nodes::check_nodes;
use adze_compiler::{Error, data};
use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use clap::Args;
use serde::Serialize;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::io::InputArgs;
use crate::layers::compare_layers;
use crate::quantize::SampleArgs;
use crate::run::{evaluate, load_bound, machine};

/// Arguments of `check`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze check model.onnx --case model.case0.npz           compiled code against recorded outputs
  adze check model.onnx --seed 7                         compiled code against the interpreter, random inputs
  adze check model.onnx --case c.npz --per-node          which node is the first to differ?
  adze check int8.onnx --quantized-vs-float model.onnx --calib data.npz --min-sqnr 10
                                                         which layers lose most by quantization, worst first

Exit code 3 says that something is beyond its tolerance.")]
pub struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Recorded case: an .npz with `in_0, in_1, ..` and `out_0, out_1, ..`; without one the interpreter is the reference
    #[arg(long = "case", value_name = "FILE", conflicts_with_all = ["files", "folder"])]
    cases: Vec<PathBuf>,
    /// Also compile every node of the optimised graph alone and compare it with the interpreter on the same operands
    #[arg(long)]
    per_node: bool,
    /// Accept twice this absolute difference whatever the dtype's tolerance says
    #[arg(long, value_name = "D", default_value_t = 0.0, value_parser = parse_difference)]
    accept_twice: f64,
    /// Hold the reference interpreter against the recorded case instead of compiled code
    #[arg(long, requires = "cases")]
    interpret: bool,
    /// Machine to make code for, of those that this one can run, or `c99` by way of its C compiler
    #[arg(long, value_name = "NAME", conflicts_with = "interpret")]
    target: Option<String>,
    /// Say per layer what quantization lost: the model is a quantized form of this float model
    #[arg(long, value_name = "FLOAT", requires = "calib", conflicts_with_all = ["cases", "files", "folder", "per_node", "interpret"])]
    quantized_vs_float: Option<PathBuf>,
    #[command(flatten)]
    samples: SampleArgs,
    /// With --quantized-vs-float: least signal to noise ratio of every layer, in dB
    #[arg(long, value_name = "DB", requires = "quantized_vs_float")]
    min_sqnr: Option<f64>,
    /// With --quantized-vs-float: also write a report with plots and histograms, one file that needs nothing else
    #[arg(long, value_name = "FILE", requires = "quantized_vs_float")]
    html: Option<PathBuf>,
    /// Print one JSON object per comparison
    #[arg(long)]
    json: bool,
}

/// A difference that can be compared with: NaN would accept everything.
fn parse_difference(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|d| *d >= 0.0 && d.is_finite());
    number.ok_or_else(|| format!("found `{text}`, accepted: zero or a positive number"))
}

/// A comparison, as it is printed.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    name: String,
    reference: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<String>,
    good: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_abs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rel: Option<f64>,
    /// Absent when there is no noise at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_beyond: Option<usize>,
    beyond: usize,
    elems: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Line {
    fn new(kind: &'static str, name: String, reference: &'static str, difference: Option<&Difference>) -> Self {
        Line {
            kind,
            name,
            reference,
            op: None,
            good: difference.is_some_and(|d| d.beyond == 0),
            max_abs: difference.map(|d| d.max_abs),
            max_rel: difference.map(|d| d.max_rel),
            sqnr_db: difference.map(|d| d.sqnr).filter(|s| s.is_finite()),
            first_beyond: difference.and_then(|d| d.first),
            beyond: difference.map_or(0, |d| d.beyond),
            elems: difference.map_or(0, |d| d.elems),
            problem: difference.is_none().then(|| "dtype or shape differ".to_owned()),
        }
    }

    fn print(&self, json: bool) -> Result<(), Error> {
        if json {
            println!("{}", serde_json::to_string(self).map_err(|e| Error::Bug(e.to_string()))?);
            return Ok(());
        }
        let op = self.op.as_deref().map(|op| format!(" ({op})")).unwrap_or_default();
        let verdict = if self.good { "ok" } else { "DIFFERS" };
        if let Some(problem) = &self.problem {
            println!("{}{op}: {verdict}: {problem}", self.name);
            return Ok(());
        }
        let sqnr = self.sqnr_db.map_or_else(|| "no noise".to_owned(), |s| format!("SQNR {s:.1} dB"));
        let first = self.first_beyond.map(|i| format!(", first at element {i}")).unwrap_or_default();
        println!(
            "{}{op}: {verdict}: max abs {:.3e}, max rel {:.3e}, {sqnr}, {} of {} elements beyond tolerance{first}",
            self.name,
            self.max_abs.unwrap_or_default(),
            self.max_rel.unwrap_or_default(),
            self.beyond,
            self.elems
        );
        Ok(())
    }
}

/// Runs the command.
///
/// # Errors
/// What stopped it; [`Failure::Threshold`] when a difference is over the tolerance.
pub fn check(args: &CheckArgs) -> Result<(), Failure> {
    if let Some(float) = &args.quantized_vs_float {
        return compare_layers(&args.model, float, &args.samples, args.min_sqnr, (args.json, args.html.as_deref()));
    }
    let mut good = true;
    let code = (!args.interpret).then(|| machine(args.target.as_deref())).transpose()?;
    if args.cases.is_empty() {
        let (graph, inputs) = load_bound(&args.model, &args.input)?;
        let (found, expected) = (evaluate(&graph, &inputs, code.as_ref())?, eval_graph(&graph, &inputs)?);
        let expected: Vec<Option<&Tensor>> = expected.iter().map(Some).collect();
        good &= outputs(args, &graph, &found, &expected, "interpreter")?;
        good &= !args.per_node || nodes(args, &graph, &inputs)?;
    }
    for case in &args.cases {
        let input = InputArgs { files: vec![case.to_string_lossy().into_owned()], ..InputArgs::default() };
        let (graph, inputs) = load_bound(&args.model, &input)?;
        let found = evaluate(&graph, &inputs, code.as_ref())?;
        let recorded = data::read(case).map_err(Error::from)?;
        let find = |index: usize| recorded.iter().find(|(name, _)| *name == format!("out_{index}")).map(|(_, t)| t);
        let expected: Vec<Option<&Tensor>> = (0..found.len()).map(find).collect();
        if expected.iter().all(Option::is_none) {
            return Err(Error::Options(format!("`{}` records no `out_0`, `out_1`, ..", case.display())).into());
        }
        good &= outputs(args, &graph, &found, &expected, "recorded")?;
        good &= !args.per_node || nodes(args, &graph, &inputs)?;
    }
    if good { Ok(()) } else { Err(Failure::Threshold) }
}

/// Compares the outputs of a model; those without a reference are left out.
fn outputs(
    args: &CheckArgs,
    graph: &Graph,
    found: &[Tensor],
    expected: &[Option<&Tensor>],
    reference: &'static str,
) -> Result<bool, Error> {
    let mut good = true;
    for ((output, found), expected) in graph.outputs().iter().zip(found).zip(expected) {
        let Some(expected) = expected else { continue };
        let difference = compare(found, expected, Tolerance::of(expected.dtype()).or_twice(args.accept_twice));
        let mut line = Line::new("output", output.name.to_string(), reference, difference.as_ref());
        if difference.is_none() {
            line.problem = Some(format!("found {}, {reference} {}", found.ty(), expected.ty()));
        }
        line.print(args.json)?;
        good &= line.good;
    }
    Ok(good)
}

/// Compares every node, then names the first one that differs.
fn nodes(args: &CheckArgs, graph: &Graph, inputs: &[Tensor]) -> Result<bool, Error> {
    let checks = check_nodes(graph, inputs, &BuildOptions::new(machine(args.target.as_deref())?))?;
    for check in &checks {
        let mut line = Line::new("node", check.source.join(", "), "interpreter", check.difference.as_ref());
        line.op = Some(check.op.clone());
        line.print(args.json)?;
    }
    let first = checks.iter().find(|c| !c.good());
    if let (Some(first), false) = (first, args.json) {
        println!("first divergence: `{}` at {}", first.op, first.source.join(", "));
    }
    Ok(first.is_none())
}
