//! Formats of weights chosen for a goal: the least bytes that keep a bound, or the least loss in so many bytes.
//!
//! The network is compiled with its weights as inputs. What one product loses in one format is measured by giving it
//! those weights and all others their own, while values are floats; losses of several products add up nearly enough to choose
//! by. For a price of a byte every product takes the format with the least loss and price. A bound is then tried with all weights as chosen,
//! for prices that are halved between one that is too high and one that is not, and last on samples that took no part.

use std::collections::BTreeMap;

use adze_ir::graph::{Graph, ValueId};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::distil::distil;
use super::follow::follow;
use super::insert::{Edits, insert};
use super::lessons::learners;
use super::metric::{Bound, Score, judged_by};
use super::moments::Moments;
use super::plan::{Kind, Plan, Product};
use super::samples::Samples;
use super::size::{Bytes, bytes, constant_bytes};
use super::store::{Consts, Format, Maker, Products};
use super::taps::Taps;
use super::trial::{At, Given, LoadedTrial, Trial};
use super::{Progress, Rounding};
use crate::build::{BuildOptions, build};
use crate::error::Error;

/// What formats are chosen for.
#[derive(Clone, Debug, Default)]
pub struct Goal {
    /// What the network may lose.
    pub bound: Option<Bound>,
    /// Most bytes of weights in the object (its constants, without what sums start with), as a share of those of the float
    /// network.
    pub size: Option<f64>,
    /// With a bound, the share of the bytes that is small enough: where it holds in so many, they are spent on the least loss.
    pub enough: Option<f64>,
    /// The class of every sample, for [`Metric::Top1`](super::metric::Metric::Top1).
    pub labels: Vec<i64>,
    /// Axis of the classes in the first output; the last one where it is none.
    pub class_axis: Option<usize>,
}

/// Formats that are tried, the most exact first.
const FORMATS: [DType; 4] = [DType::F32, DType::I8, DType::I4, DType::I2];
/// Samples that what a product loses is measured on: it is a mean over many numbers already.
pub(super) const PROBES: usize = 32;
/// Prices that are tried for a bound.
const TRIALS: usize = 14;
/// From a size that is tried with final weights to the next one, until one keeps a bound and its neighbour does not.
const STEP: f64 = 1.3;
/// Sizes that are tried between these two.
const BETWEEN: usize = 2;
/// Times what a bound allows from which on learning end to end does not make up for it: it takes losses down by up to four.
const FAR: f64 = 8.0;
/// Objects that are made until one has the size that was asked for.
const OBJECTS: usize = 4;

/// Samples and the labels of those that have one.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// The samples.
    pub samples: Samples,
    /// Their classes, or nothing.
    pub labels: Vec<i64>,
    /// What the float network makes of them.
    pub reference: Vec<Tensor>,
}

/// Those that formats are chosen by, and every third, which is held back where there is a bound to hold against it.
///
/// # Errors
/// [`Error::Options`] for too few samples, and missing labels.
pub fn split(samples: &Samples, goal: &Goal) -> Result<[Labelled; 2], Error> {
    let mut parts: [Labelled; 2] = Default::default();
    for (index, inputs) in samples.inputs.iter().enumerate() {
        let part = &mut parts[usize::from(goal.bound.is_some() && index % 3 == 2)];
        part.samples.inputs.push(inputs.clone());
        part.samples.names.push(samples.names.get(index).cloned().unwrap_or_default());
        part.labels.extend(goal.labels.get(index));
    }
    let used = if goal.bound.is_some() { 2 } else { 1 };
    for part in &parts[..used] {
        if part.samples.inputs.is_empty() || ![0, part.samples.inputs.len()].contains(&part.labels.len()) {
            let found = format!("{} samples with {} labels", part.samples.inputs.len(), part.labels.len());
            return Err(Error::Options(format!(
                "a budget: found {found}, accepted: three or more (one for a size alone), each with a label or none"
            )));
        }
    }
    Ok(parts)
}

/// Fills in what the float network makes of both parts, where there is a bound to hold against it.
///
/// # Errors
/// What compiling and running gives.
pub fn teach(graph: &Graph, (goal, parts): (&Goal, &mut [Labelled; 2]), build: &BuildOptions) -> Result<(), Error> {
    let output = first_output(graph)?;
    for part in parts.iter_mut().filter(|_| goal.bound.is_some()) {
        let taps = Taps::new(graph, &output, &part.samples, build)?;
        taps.run(&part.samples, &mut |_, tensors| {
            part.reference.extend(tensors.iter().take(1).cloned());
            Ok(())
        })?;
    }
    Ok(())
}

/// What a product may be stored as.
struct Choice {
    format: Format,
    consts: Consts,
    bytes: Bytes,
    /// What the network loses by it.
    loss: f64,
}

/// Chooses the format of every product's weights, and says what that gives.
///
/// # Errors
/// [`Error::Options`] for a bound or a size that no formats keep; what compiling and running gives.
pub fn choose(
    maker: &Maker<'_>,
    plan: &Plan,
    mut moments: BTreeMap<At, Moments>,
    (goal, parts): (&Goal, &[Labelled; 2]),
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<(Products, Vec<String>), Error> {
    let asked = goal.bound.map(|bound| bound.metric);
    let output = first_output(maker.graph)?;
    let trial = Trial::new(maker, plan, &output, &parts[0].samples, build)?;
    let trial = trial.load()?;
    let mut probes = parts[0].samples.clone();
    probes.thin(PROBES);
    // Among values that are rounded, the least change of a weight moves some to another integer, which hides what it loses itself.
    let exact = Trial::new(&Maker { points: &BTreeMap::new(), ..*maker }, plan, &output, &probes, build)?;
    let exact = exact.load()?;
    let base = run(&exact, &probes, &[])?;
    let metric = asked.unwrap_or_else(|| judged_by(&base, goal.class_axis));
    let quick = Maker { quick: maker.options.follow, ..*maker };
    let mut choices: Vec<Vec<Choice>> = Vec::new();
    for (index, product) in plan.products.iter().enumerate() {
        progress("what each product loses", index, plan.products.len());
        let seen = maker.seen(product, moments.remove(&product.place()));
        let mut own: Vec<Choice> = Vec::new();
        for format in offered(maker, product) {
            let consts = quick.make(product, format, seen.as_ref())?;
            let loss = if consts.is_empty() {
                0.0
            } else {
                score(goal, &base, &run(&exact, &probes, &[&consts])?, &[]).loss(metric)
            };
            // A coarser format that seems to lose less does so by chance.
            let finer = own.last().map_or(0.0, |finer| finer.loss);
            let bytes = bytes(maker.graph, product, &consts);
            own.push(Choice { format, consts, bytes, loss: loss.max(finer) });
        }
        choices.push(own);
    }
    let search = Search { maker, plan, goal, choices: &choices, trial: &trial, parts, build };
    let made = search.find(progress)?;
    let mut notes = search.sizes(&made.picked)?;
    notes.extend(search.kinds(&made.picked));
    notes.extend(made.note.clone());
    notes.extend(search.judge(&made)?);
    let formats = search.formats(&made.picked);
    let entries = plan.products.iter().zip(formats).map(|(product, format)| maker.entry(product, format));
    Ok((entries.zip(made.consts).collect(), notes))
}

/// The formats that machines have kernels for, the most exact first; the one that a table states.
fn offered(maker: &Maker<'_>, product: &Product) -> Vec<Format> {
    if maker.options.stored_as(&product.name(maker.graph)).is_some() {
        return vec![maker.stated(product)];
    }
    let has_kernel = |dtype: DType| match dtype {
        DType::F32 => true,
        DType::I2 => product.kind != Kind::Table,
        _ => true,
    };
    let format = |dtype| maker.fitting(product, Format { dtype, block: maker.options.block });
    FORMATS.into_iter().filter(|d| has_kernel(*d)).map(format).collect()
}

/// Outputs against those of a reference.
pub(super) fn score(goal: &Goal, reference: &[Tensor], found: &[Tensor], labels: &[i64]) -> Score {
    let mut score = Score::default();
    for (index, (a, b)) in reference.iter().zip(found).enumerate() {
        score.take(a, b, goal.class_axis, labels.get(index).copied());
    }
    score
}

pub(super) fn first_output(graph: &Graph) -> Result<Vec<ValueId>, Error> {
    match graph.outputs().first() {
        Some(output) => Ok(vec![output.value]),
        None => Err(Error::Options("a budget: found a network without outputs, accepted: one or more".into())),
    }
}

/// The first output for every sample, with these weights and all others their own.
fn run(trial: &LoadedTrial<'_>, samples: &Samples, consts: &[&Consts]) -> Result<Vec<Tensor>, Error> {
    let mut given = Given::default();
    consts.iter().try_for_each(|consts| given.add(consts))?;
    let one = |inputs: &Vec<Tensor>| Ok(trial.values(inputs, &given)?.swap_remove(0));
    samples.inputs.iter().map(one).collect()
}

/// How both parts of the samples fare, as text.
fn shown(bound: &Bound, scores: &[Score; 2]) -> [String; 2] {
    [0, 1].map(|part: usize| bound.show(scores[part].value(bound.metric)))
}

fn broken(bound: &Bound, scores: &[Score; 2], with: &str) -> Error {
    let [chosen, held] = shown(bound, scores);
    Error::Options(format!(
        "a budget: found {chosen} and, on samples that were held back, {held}{with}, accepted: {bound}"
    ))
}

/// A search among the choices of all products.
struct Search<'a> {
    maker: &'a Maker<'a>,
    plan: &'a Plan,
    goal: &'a Goal,
    choices: &'a [Vec<Choice>],
    trial: &'a LoadedTrial<'a>,
    parts: &'a [Labelled; 2],
    build: &'a BuildOptions,
}

/// Choices with their final weights.
#[derive(Clone)]
struct Made {
    picked: Vec<usize>,
    consts: Vec<Consts>,
    /// What came of learning.
    note: Option<String>,
    /// How both parts of the samples fare, where there is a bound.
    scores: Option<[Score; 2]>,
}

impl Search<'_> {
    /// The choice of every product and what comes of it.
    fn find(&self, progress: &mut Progress<'_>) -> Result<Made, Error> {
        progress("choosing formats", 0, 1);
        match (self.goal.size, &self.goal.bound) {
            (Some(share), _) => self.learn(self.finish(self.of_size(share)?, progress)?, progress),
            (None, Some(bound)) => self.smallest(bound, progress),
            (None, None) => self.finish(vec![0; self.choices.len()], progress),
        }
    }

    fn formats(&self, picked: &[usize]) -> Vec<Format> {
        self.choices.iter().zip(picked).map(|(own, &pick)| own[pick].format).collect()
    }

    /// The final weights of some formats, but for what they learn end to end.
    fn finish(&self, picked: Vec<usize>, progress: &mut Progress<'_>) -> Result<Made, Error> {
        let samples = &self.parts[0].samples;
        match self.maker.options.rounding {
            Rounding::Distilled(_) => self.layers(picked, (&learners(samples), "learners"), progress),
            _ => self.layers(picked, (samples, "all"), progress),
        }
    }

    /// Weights as layers make them from samples, of which the name is a part of what they are remembered by.
    fn layers(
        &self,
        picked: Vec<usize>,
        (samples, name): (&Samples, &str),
        progress: &mut Progress<'_>,
    ) -> Result<Made, Error> {
        let formats = self.formats(&picked);
        let key: String = picked.iter().map(ToString::to_string).collect::<String>() + name;
        let maker = Maker { formats: &key, ..*self.maker };
        let mut consts: Vec<Consts> = self.consts(&picked).into_iter().cloned().collect();
        if maker.options.follow {
            consts = follow(&maker, self.plan, &formats, samples, self.build, progress)?;
        }
        let scores = self.scores(&consts.iter().collect::<Vec<_>>())?;
        Ok(Made { picked, consts, note: None, scores })
    }

    /// The same formats with weights that have learned end to end, where that is asked for; with those that layers make from all samples
    /// where nothing was learned.
    fn learn(&self, made: Made, progress: &mut Progress<'_>) -> Result<Made, Error> {
        let Rounding::Distilled(how) = self.maker.options.rounding else { return Ok(made) };
        let samples = &self.parts[0].samples;
        let (learned, note) = distil(self.maker, self.plan, &made.consts, how, samples, self.build, progress)?;
        let made = match learned {
            Some(consts) => Made { scores: self.scores(&consts.iter().collect::<Vec<_>>())?, consts, ..made },
            None => self.layers(made.picked, (samples, "all"), progress)?,
        };
        Ok(Made { note: Some(note), ..made })
    }

    /// The least bytes whose final weights keep a bound, or those that are enough. It is searched by what layers learn, which takes less
    /// time than what is learned end to end.
    fn smallest(&self, bound: &Bound, progress: &mut Progress<'_>) -> Result<Made, Error> {
        let holds = |made: &Made| made.scores.as_ref().is_none_or(|scores| bound.kept_by(scores));
        self.holds_exactly(bound)?;
        let ends = [usize::MAX, 0].map(|pick| self.choices.iter().map(|own| pick.min(own.len() - 1)).collect());
        let [mut low, mut high] = ends.clone().map(|picked: Vec<usize>| self.bytes(&picked));
        // What no formats reach is no end of the search.
        let enough = self.goal.enough.and_then(|share| self.of_size(share).ok());
        let mut is_broken = enough.is_some();
        let mut limit = if let Some(picked) = enough {
            let made = self.finish(picked, progress)?;
            low = self.bytes(&made.picked);
            let is_near = made.scores.as_ref().is_none_or(|scores| bound.share(FAR).kept_by(scores));
            let learned = if is_near { self.learn(made.clone(), progress)? } else { made.clone() };
            if let Some(made) = [learned, made].into_iter().find(holds) {
                return Ok(made);
            }
            low * STEP
        } else {
            let quick = self.bytes(&self.within(bound, progress)?);
            if quick > low { quick } else { (low + high) / 2.0 }
        };
        let mut best: Option<Made> = None;
        let mut trial = |limit: f64, best: Option<&Made>| {
            let picked = self.of_bytes(limit);
            match best.filter(|best| best.picked == picked) {
                Some(known) => Ok::<_, Error>(Some(known.clone())),
                None => Ok(Some(self.finish(picked, progress)?).filter(holds)),
            }
        };
        // Upwards from what breaks the bound, which few samples may break by chance in more bytes too; downwards from what keeps it.
        while best.is_none() || !is_broken {
            if let Some(made) = trial(limit, best.as_ref())? {
                (high, best) = (limit, Some(made));
                if limit <= low {
                    break;
                }
                limit = (limit / STEP).max(low);
            } else {
                (low, is_broken) = (limit, true);
                limit *= STEP;
                if limit >= high {
                    break;
                }
            }
        }
        for _ in 0..if best.is_some() && low < high { BETWEEN } else { 0 } {
            let middle = (low * high).sqrt();
            match trial(middle, best.as_ref())? {
                Some(made) => (high, best) = (middle, Some(made)),
                None => low = middle,
            }
        }
        let [_, exact] = ends;
        let best = best.map_or_else(|| self.finish(exact, progress), Ok)?;
        let learned = self.learn(best.clone(), progress)?;
        Ok(if holds(&learned) { learned } else { best })
    }

    /// A line about bytes.
    fn sizes(&self, picked: &[usize]) -> Result<Vec<String>, Error> {
        let (float, found) = (self.float_bytes(), self.object_bytes(picked)?);
        let share = |bytes: f64, float: f64| format!("{bytes} of {float} bytes, 1/{:.2}", float / bytes.max(1.0));
        let all = share(found.all(), float.all());
        Ok(vec![format!("weights {}; with biases {all}", share(found.weights, float.weights))])
    }

    /// Holds the final weights against the bound, and says what the metric is.
    fn judge(&self, made: &Made) -> Result<Option<String>, Error> {
        let (Some(bound), Some(scores)) = (&self.goal.bound, &made.scores) else { return Ok(None) };
        if !bound.kept_by(scores) {
            return Err(broken(bound, scores, ""));
        }
        let counts = [0, 1].map(|part: usize| self.parts[part].samples.inputs.len());
        let [chosen, held] = shown(bound, scores);
        Ok(Some(format!("{chosen} on {} samples, {held} on {} that were held back", counts[0], counts[1])))
    }

    /// A line per format that was taken: how many products, their bytes, and the one that would lose most by the next smaller
    /// format.
    fn kinds(&self, picked: &[usize]) -> Vec<String> {
        let line = |dtype: DType| {
            let taken = |index: &usize| self.choices[*index][picked[*index]].format.dtype == dtype;
            let own: Vec<usize> = (0..picked.len()).filter(taken).collect();
            let bytes: f64 = own.iter().map(|&i| self.choices[i][picked[i]].bytes.weights).sum();
            let more = |i: usize| Some(self.choices[i].get(picked[i] + 1)?.loss - self.choices[i][picked[i]].loss);
            let most = own.iter().filter_map(|&i| Some((more(i)?, i))).max_by(|a, b| a.0.total_cmp(&b.0));
            let why = most.map_or(String::new(), |(loss, index)| {
                let name = self.plan.products[index].name(self.maker.graph);
                format!(", `{name}` would lose {loss:.1e} by less")
            });
            (!own.is_empty()).then(|| format!("{}: {} products, {bytes} bytes{why}", dtype.name(), own.len()))
        };
        FORMATS.into_iter().filter_map(line).collect()
    }

    fn consts(&self, picked: &[usize]) -> Vec<&Consts> {
        self.choices.iter().zip(picked).map(|(own, &pick)| &own[pick].consts).collect()
    }

    /// Every product takes the format with the least loss and price.
    fn at_price(&self, price: f64) -> Vec<usize> {
        let cost = |choice: &Choice| choice.loss + price * choice.bytes.weights;
        let best =
            |own: &Vec<Choice>| (0..own.len()).min_by(|&a, &b| cost(&own[a]).total_cmp(&cost(&own[b]))).unwrap_or(0);
        self.choices.iter().map(best).collect()
    }

    /// Bytes of the weights of all products.
    fn bytes(&self, picked: &[usize]) -> f64 {
        self.choices.iter().zip(picked).map(|(own, &pick)| own[pick].bytes.weights).sum()
    }

    /// Bytes of constants, of which those of biases are told apart.
    fn apart(&self, all: f64, picked: &[usize]) -> Bytes {
        let bias = self.choices.iter().zip(picked).map(|(own, &pick)| own[pick].bytes.bias).sum();
        Bytes { weights: all - bias, bias }
    }

    /// Bytes of the constants of the float network.
    fn float_bytes(&self) -> Bytes {
        self.apart(constant_bytes(self.maker.graph), &vec![0; self.choices.len()])
    }

    /// Prices at which choices change, as logarithms: the least and the greatest.
    fn prices(&self) -> [f64; 2] {
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
        for own in self.choices {
            for (a, b) in own.iter().enumerate().flat_map(|(i, a)| own[i + 1..].iter().map(move |b| (a, b))) {
                let price = ((b.loss - a.loss).max(1e-300) / (a.bytes.weights - b.bytes.weights).max(1.0)).ln();
                ends = [ends[0].min(price - 1.0), ends[1].max(price + 1.0)];
            }
        }
        if ends[0] > ends[1] { [0.0, 0.0] } else { ends }
    }

    /// The least loss in this share of the bytes of the float network's weights.
    fn of_size(&self, share: f64) -> Result<Vec<usize>, Error> {
        let float = self.float_bytes().weights;
        let limit = share * float;
        let all: f64 = self.choices.iter().map(|own| own.iter().map(|c| c.bytes.weights).fold(0.0, f64::max)).sum();
        // What is in the object beside what is known of products: known better with every object.
        let mut rest = (float - all).max(0.0);
        let (mut best, mut least) = (None, f64::INFINITY);
        for _ in 0..OBJECTS {
            let picked = self.of_bytes((limit - rest).max(0.0));
            let found = self.object_bytes(&picked)?.weights;
            least = least.min(found);
            rest = found - self.bytes(&picked) + if found > limit { (found - limit) / 4.0 } else { 0.0 };
            let loss = self.loss(&picked);
            if found <= limit && best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, picked));
            }
        }
        let accepted = format!("at most {limit:.0} of {float}");
        let wrong = || Error::Options(format!("a size: found {least} bytes of weights at least, accepted: {accepted}"));
        best.map(|(_, picked)| picked).ok_or_else(wrong)
    }

    fn loss(&self, picked: &[usize]) -> f64 {
        self.choices.iter().zip(picked).map(|(own, &pick)| own[pick].loss).sum()
    }

    /// The least loss in so many bytes of weights, or the smallest formats.
    fn of_bytes(&self, limit: f64) -> Vec<usize> {
        let [mut low, mut high] = self.prices();
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if self.bytes(&self.at_price(middle.exp())) <= limit { high = middle } else { low = middle }
        }
        let mut picked = self.at_price(high.exp());
        // What is left goes to whom it helps most.
        loop {
            let room = limit - self.bytes(&picked);
            let better = |index: usize| {
                let (own, now) = (&self.choices[index], picked[index]);
                let fits = (0..now).find(|&pick| own[pick].bytes.weights - own[now].bytes.weights <= room)?;
                Some((own[now].loss - own[fits].loss, index, fits))
            };
            let best = (0..picked.len()).filter_map(better).max_by(|a, b| a.0.total_cmp(&b.0));
            match best.filter(|(gain, ..)| *gain > 0.0) {
                Some((_, index, pick)) => picked[index] = pick,
                None => return picked,
            }
        }
    }

    /// An error where a bound does not hold with the weights of the lowest price: then it holds with none.
    fn holds_exactly(&self, bound: &Bound) -> Result<(), Error> {
        let exact = self.at_price(self.prices()[0].exp());
        match self.scores(&self.consts(&exact))?.filter(|scores| !bound.kept_by(scores)) {
            Some(scores) => Err(broken(bound, &scores, " with exact weights")),
            None => Ok(()),
        }
    }

    /// The least bytes that keep a bound on both parts of the samples, before weights follow one another.
    fn within(&self, bound: &Bound, progress: &mut Progress<'_>) -> Result<Vec<usize>, Error> {
        let [mut low, mut high] = self.prices();
        let mut best = self.at_price(low.exp());
        for trial in 0..TRIALS {
            progress("trying formats", trial, TRIALS);
            let middle = (low + high) / 2.0;
            let picked = self.at_price(middle.exp());
            let keeps =
                || Ok::<_, Error>(self.scores(&self.consts(&picked))?.is_none_or(|scores| bound.kept_by(&scores)));
            if picked == best || keeps()? {
                (best, low) = (picked, middle);
            } else {
                high = middle;
            }
        }
        Ok(best)
    }

    /// How both parts of the samples fare with these weights, where there is a bound.
    fn scores(&self, consts: &[&Consts]) -> Result<Option<[Score; 2]>, Error> {
        if self.goal.bound.is_none() {
            return Ok(None);
        }
        let mut scores = [Score::default(), Score::default()];
        for (found, part) in scores.iter_mut().zip(self.parts) {
            let outputs = run(self.trial, &part.samples, consts)?;
            *found = score(self.goal, &part.reference, &outputs, &part.labels);
        }
        Ok(Some(scores))
    }

    /// Bytes of the constants in the object of the network with these formats.
    fn object_bytes(&self, picked: &[usize]) -> Result<Bytes, Error> {
        let mut edits = Edits { points: self.maker.points.clone(), ..Edits::default() };
        for (own, &pick) in self.choices.iter().zip(picked) {
            edits.consts.extend(own[pick].consts.iter().cloned());
        }
        let built = build(&insert(self.maker.graph, &edits)?, self.build)?;
        Ok(self.apart(built.package.manifest.weights_bytes as f64, picked))
    }
}
