//! `adze quantize`.

use std::path::{Path, PathBuf};

use adze_compiler::build::BuildOptions;
use adze_compiler::load::{load, supply_weights};
use adze_compiler::onnx::export::export;
use adze_compiler::quantize::budget::Goal;
use adze_compiler::quantize::distil::Distil;
use adze_compiler::quantize::equalize::Equalize;
use adze_compiler::quantize::metric::Bound;
use adze_compiler::quantize::ranges::Method;
use adze_compiler::quantize::samples::{Preprocess, Samples, read_samples, thin};
use adze_compiler::quantize::table::{ACTIVATIONS, Table, WEIGHTS, names};
use adze_compiler::quantize::{Options, Progress, Quantized, Rounding, quantize as quantize_graph};
use adze_compiler::replay::write_weights;
use adze_compiler::stage::Artifact;
use adze_compiler::{Error, data};
use adze_ir::graph::Graph;
use adze_ir::types::DType;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use crate::args::ModelArgs;
use crate::diag::Failure;
use crate::run::machine;

/// Samples of a model's inputs.
#[derive(Args, Clone, Debug)]
pub struct SampleArgs {
    /// Samples: an .npz with an array per input (by name, or `in_0, in_1, ..`), an .npy or an image (.png, .jpg) for a model of one
    /// input, or a folder of them. Many samples lie along a leading axis; an image is one sample, red, green and blue last
    #[arg(long, value_name = "FILE|DIR")]
    pub calib: Option<PathBuf>,
    /// Steps from the numbers of a file to those of the input, in order: `resize=N` (of images, the shorter side) or `resize=HxW`,
    /// `crop=N` or `crop=HxW` (the middle), `gray`, `chw` (last axis first), `reverse` (channels), `sub=A[;B;C]`, `mul=..`, `div=..`
    /// (one number, or one per channel on the last axis)
    #[arg(long, value_name = "STEP,..", default_value = "", value_parser = parse_preprocess, hide_default_value = true)]
    pub preprocess: Preprocess,
    /// Most samples that are used, evenly spread over those there are
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub samples: usize,
}

impl SampleArgs {
    /// Reads the samples of a graph's inputs; none where no file is given.
    ///
    /// # Errors
    /// As [`read_samples`].
    pub fn read(&self, graph: &Graph) -> Result<Samples, Error> {
        let mut samples = match &self.calib {
            Some(path) => read_samples(graph, path, &self.preprocess)?,
            None => Samples::default(),
        };
        let (found, most) = (samples.inputs.len(), self.samples.max(1));
        if found > most {
            eprintln!("note: {most} of {found} samples are used (--samples)");
        }
        samples.thin(most);
        Ok(samples)
    }
}

/// Arguments of `quantize`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  adze quantize model.onnx --calib data.npz -o model_int8.onnx       integers all through, from samples of the inputs
  adze quantize model.onnx --calib images.npy --preprocess chw,div=255 -o model_int8.onnx
  adze quantize model.onnx --calib photos/ --preprocess resize=256,crop=224,div=255,chw -o model_int8.onnx
  adze quantize model.onnx --activation-dtype none --weight-dtype i4 --block 32 --calib d.npz -o small.onnx   weights only
  adze quantize model.onnx --calib d.npz --budget flips=1% -o small.onnx    least bytes that keep a bound
  adze quantize model.onnx --calib d.npz --size 1/7 -o small.onnx           least loss in so many bytes
  adze quantize model.onnx --calib d.npz --budget flips=1% --enough 1/7 -o small.onnx   no fewer than that
  adze quantize model.onnx --calib d.npz --table-out net.table -o a.onnx    see and edit what was found, then
  adze quantize model.onnx --table net.table -o b.onnx                      use it instead of samples

What is written runs in ONNX Runtime (QuantizeLinear and DequantizeLinear, opset 21 or later) and compiles as it is:
  adze compile model_int8.onnx --target x86_64-linux -o out/")]
pub struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    samples: SampleArgs,
    /// How the range of a value is read off what was seen
    #[arg(long, value_enum, default_value_t = MethodArg::Best)]
    method: MethodArg,
    /// Share of what was seen that lies in the range, for `--method percentile`
    #[arg(long, value_name = "PERCENT", default_value_t = 99.99, value_parser = parse_percent)]
    percentile: f64,
    /// Stored type of values: u8, i8, u16, i16, or `none` to leave them in floats
    #[arg(long, value_name = "DTYPE", default_value = "u8", value_parser = parse_activations)]
    activation_dtype: Stored,
    /// Stored type of weights: i8, i4 or i2
    #[arg(long, value_name = "DTYPE", default_value = "i8", value_parser = parse_weights)]
    weight_dtype: DType,
    /// Weights of a channel of a matrix product that share a scale, with `--activation-dtype none`; 0 for all of
    /// them. The last block of a channel may be shorter
    #[arg(long, value_name = "N", default_value_t = 0)]
    block: usize,
    /// How weights are rounded
    #[arg(long, value_enum, default_value_t = RoundingArg::Learned)]
    rounding: RoundingArg,
    /// Steps of 8 samples that `--rounding distilled` takes
    #[arg(long, value_name = "N", default_value_t = 1000)]
    distil_steps: usize,
    /// Judge weights of less than a byte by the operands of the float model too, not by those that the rounded layers before them
    /// make
    #[arg(long)]
    alone: bool,
    /// Move scales between neighbours first, by powers of two and so without changing what the float network computes: `weights`
    /// (the weights before and after a value get ranges of one width), `values` or `values=0.5` (large numbers of a value to this
    /// power go to the weights after it, as in SmoothQuant)
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = parse_equalize, hide_default_value = true)]
    equalize: Equalize,
    /// Zero in the middle of the stored type of values
    #[arg(long)]
    symmetric: bool,
    /// One scale for all weights of a product instead of one per output channel
    #[arg(long)]
    per_tensor: bool,
    /// Leave biases as they are
    #[arg(long)]
    no_bias_correction: bool,
    /// Choose the type of every product's weights (f32, i8, i4, i2) so that the object is smallest and a bound on what the first
    /// output loses holds, also on every third sample, which is held back: `top1=0.5%` (of the right classes: counted with --labels,
    /// otherwise by the float model's own shares of the classes), `flips=1%` (positions with another largest class than the float
    /// model's), `sqnr=30dB`. Values stay floats where rounding them would take more than half of it, as few as that takes
    #[arg(long, value_name = "METRIC=BOUND", conflicts_with = "weight_dtype")]
    budget: Option<Bound>,
    /// Choose the type of every product's weights so that the weights in the object (its constants without biases) take at most this
    /// share of the bytes of the float network's and the first output loses least: `1/7`. With --budget, whose bound is then checked
    #[arg(long, value_name = "SHARE", conflicts_with = "weight_dtype", value_parser = parse_share)]
    size: Option<f64>,
    /// With --budget, the share of the bytes that is small enough: `1/7`. Where the bound holds in so many, they are spent on the
    /// least loss; otherwise the least bytes beyond are found
    #[arg(long, value_name = "SHARE", requires = "budget", conflicts_with = "size", value_parser = parse_share)]
    enough: Option<f64>,
    /// The class of every sample: an .npy, or an .npz with `y`
    #[arg(long, value_name = "FILE", requires = "budget")]
    labels: Option<PathBuf>,
    /// Axis of the classes in the first output, the last one unless given. `--rounding distilled`, `--method best` and `--size` mind
    /// the classes where it is given or the output is their shares, the numbers of the output otherwise
    #[arg(long, value_name = "AXIS")]
    class_axis: Option<usize>,
    /// Machine whose object --size and --budget measure, one that this machine can run; this machine unless given
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// ONNX node that stays in floats; repeatable
    #[arg(long, value_name = "NODE")]
    keep: Vec<String>,
    /// Ranges and types from a table, in its text form or as .pb; what it lacks is taken from the samples
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Keep what is done in this file; the same command goes on from there after it was interrupted. Removed at the end
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Also write the table of what was found
    #[arg(long, value_name = "FILE")]
    table_out: Option<PathBuf>,
    /// Model to write: .onnx, or .graph for adze's text; repeatable
    #[arg(short, long, value_name = "FILE", required = true)]
    output: Vec<PathBuf>,
    /// With a .graph: the constants that the text names by digest (.npz)
    #[arg(long, value_name = "FILE")]
    weights_out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MethodArg {
    /// Everything that was seen
    Minmax,
    /// All but the outermost part, see --percentile
    Percentile,
    /// The range that keeps most of the distribution (relative entropy)
    Entropy,
    /// The range of the least mean squared error
    Mse,
    /// The mean of the ends of each sample
    Mean,
    /// `mse`, unless the network's first output clearly loses less by another one (`entropy` is not tried)
    Best,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoundingArg {
    /// To the nearest integer
    Nearest,
    /// One after the other, the rest of a channel making up for what each one costs (GPTQ)
    Feedback,
    /// From there on, integers and scales move as long as the layer's output comes closer
    Learned,
    /// From there on, those of all layers move as long as the network's first output comes closer to the float model's: minutes,
    /// and many samples
    Distilled,
}

/// A stored type, or none.
#[derive(Clone, Copy, Debug)]
struct Stored(Option<DType>);

fn parse_preprocess(text: &str) -> Result<Preprocess, String> {
    if text.is_empty() { Ok(Preprocess::default()) } else { text.parse() }
}

fn parse_equalize(text: &str) -> Result<Equalize, String> {
    let wrong = || format!("found `{text}`, accepted: none, weights, values, or values= and a number from 0 to 1");
    match text.split_once('=') {
        None if text == "none" => Ok(Equalize::None),
        None if text == "weights" => Ok(Equalize::Weights),
        None if text == "values" => Ok(Equalize::Values(0.5)),
        Some(("values", power)) => {
            let power = power.parse().ok().filter(|p| (0.0..=1.0).contains(p));
            power.map(Equalize::Values).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|p| *p > 0.0 && *p <= 100.0);
    number.ok_or_else(|| format!("found `{text}`, accepted: over 0, up to 100"))
}

fn parse_share(text: &str) -> Result<f64, String> {
    let (part, whole) = text.split_once('/').unwrap_or((text, "1"));
    let share = part.trim().parse::<f64>().ok().zip(whole.trim().parse::<f64>().ok()).map(|(a, b)| a / b);
    share
        .filter(|s| *s > 0.0 && *s <= 1.0)
        .ok_or_else(|| format!("found `{text}`, accepted: `1/7`, or a number up to 1"))
}

fn parse_activations(text: &str) -> Result<Stored, String> {
    if text == "none" {
        return Ok(Stored(None));
    }
    let dtype = DType::from_name(text).filter(|d| ACTIVATIONS.contains(d));
    dtype.map(|d| Stored(Some(d))).ok_or_else(|| format!("found `{text}`, accepted: {} or none", names(ACTIVATIONS)))
}

fn parse_weights(text: &str) -> Result<DType, String> {
    let dtype = DType::from_name(text).filter(|d| WEIGHTS.contains(d));
    dtype.ok_or_else(|| format!("found `{text}`, accepted: {}", names(WEIGHTS)))
}

impl QuantizeArgs {
    /// What the formats are chosen for.
    fn goal(&self, count: usize) -> Result<Option<Goal>, Error> {
        if self.budget.is_none() && self.size.is_none() {
            return Ok(None);
        }
        let mut labels = self.labels.as_deref().map(read_labels).transpose()?.unwrap_or_default();
        let most = self.samples.samples.max(1);
        if labels.len() > most {
            thin(&mut labels, most);
        }
        if self.labels.is_some() && labels.len() != count {
            let found = format!("{} labels for {count} samples", labels.len());
            return Err(Error::Options(format!("--labels: found {found}, accepted: one for each")));
        }
        Ok(Some(Goal { bound: self.budget, size: self.size, enough: self.enough, labels, class_axis: self.class_axis }))
    }

    fn options(&self) -> Result<Options, Error> {
        let method = match self.method {
            MethodArg::Minmax => Method::MinMax,
            MethodArg::Percentile => Method::Percentile(self.percentile),
            MethodArg::Entropy => Method::Entropy,
            MethodArg::Mse => Method::Mse,
            MethodArg::Mean => Method::Mean,
            MethodArg::Best => Method::Best,
        };
        Ok(Options {
            activations: self.activation_dtype.0,
            weights: self.weight_dtype,
            block: self.block,
            rounding: match self.rounding {
                RoundingArg::Nearest => Rounding::Nearest,
                RoundingArg::Feedback => Rounding::Feedback,
                RoundingArg::Learned => Rounding::Learned,
                RoundingArg::Distilled => {
                    Rounding::Distilled(Distil { steps: self.distil_steps, class_axis: self.class_axis })
                }
            },
            follow: !self.alone,
            method,
            symmetric: self.symmetric,
            per_channel: !self.per_tensor,
            correct_bias: !self.no_bias_correction,
            keep: self.keep.clone(),
            equalize: self.equalize,
            class_axis: self.class_axis,
            resume: self.resume.clone(),
            table: self.table.as_deref().map(Table::read).transpose()?,
            ..Options::default()
        })
    }
}

/// The class of every sample: the array `y`, or the only one.
fn read_labels(path: &Path) -> Result<Vec<i64>, Error> {
    let arrays = data::read(path)?;
    let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    let found = arrays.iter().find(|(name, _)| name == "y" || arrays.len() == 1);
    let labels = found.filter(|(_, y)| !y.dtype().is_float()).map(|(_, y)| y.to_i64());
    labels.ok_or_else(|| {
        let found = names.join(", ");
        Error::Options(format!("`{}`: found {found}, accepted: an array `y` of integers", path.display()))
    })
}

/// Runs the command.
///
/// # Errors
/// What stopped it; nothing is written then.
pub fn quantize(args: &QuantizeArgs) -> Result<(), Failure> {
    let mut options = args.options()?;
    for output in &args.output {
        check_output(output, args.weights_out.as_deref())?;
    }
    let mut loaded = load(&args.model.model, &args.model.import_options())?;
    supply_weights(&mut loaded.graph, args.model.weights.as_deref())?;
    let samples = args.samples.read(&loaded.graph)?;
    options.goal = args.goal(samples.inputs.len())?;
    let build = BuildOptions::new(machine(args.target.as_deref())?);
    let quantized = with_progress(|progress| quantize_graph(&loaded.graph, &samples, &options, &build, progress))?;
    let models = args.output.iter().map(|output| Ok((output, encode(&quantized, output)?)));
    for (output, bytes) in models.collect::<Result<Vec<_>, Error>>()? {
        std::fs::write(output, bytes).map_err(|source| Error::Write { path: output.clone(), source })?;
    }
    if let Some(path) = &args.weights_out {
        write_weights(&Artifact::Graph(Box::new(quantized.graph.clone()), 0), path)?;
    }
    if let Some(path) = &args.table_out {
        quantized.table.write(path)?;
    }
    if let Some(path) = args.resume.as_ref().filter(|path| path.exists()) {
        std::fs::remove_file(path).map_err(|source| Error::Write { path: path.clone(), source })?;
    }
    match options.goal {
        Some(_) => println!("{} products with weights of integers", quantized.products),
        None => println!("{} products with {} weights", quantized.products, options.weights),
    }
    quantized.notes.iter().for_each(|line| println!("{line}"));
    quantized.left.iter().for_each(|line| println!("left in floats: {line}"));
    Ok(())
}

/// Says on a terminal how far something is. Silent when standard error is none.
///
/// # Errors
/// What `work` returns.
pub fn with_progress<T>(work: impl FnOnce(&mut Progress<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let bar = ProgressBar::new_spinner();
    let result = work(&mut |what, done, all| {
        bar.set_message(format!("{what} {done}/{all}"));
        bar.tick();
    });
    bar.finish_and_clear();
    result
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "graph")
}

fn check_output(path: &Path, weights: Option<&Path>) -> Result<(), Error> {
    if is_text(path) && weights.is_none() {
        return Err(Error::Options(
            "a .graph names its weights by digest: say where they go with --weights-out".into(),
        ));
    }
    if is_text(path) || path.extension().is_some_and(|e| e == "onnx") {
        return Ok(());
    }
    Err(Error::Options(format!("--output: found `{}`, accepted: a file named .onnx or .graph", path.display())))
}

fn encode(quantized: &Quantized, path: &Path) -> Result<Vec<u8>, Error> {
    if !is_text(path) {
        return export(&quantized.graph);
    }
    Ok(Artifact::Graph(Box::new(quantized.graph.clone()), 0).to_string().into_bytes())
}
