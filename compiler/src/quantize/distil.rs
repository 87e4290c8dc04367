//! Rounding learned end to end: the integers and scales of all products move so that the network's output comes back to that of
//! the float network, which teaches it (distillation; straight-through gradients and scales as in LSQ, Esser et al., 2020).
//!
//! The network is compiled once, with its weights as inputs and the gradients of the loss by them as outputs
//! ([`adze_passes::adjoint`]). Behind every integer stands a number, at first the float weight, that the gradient moves, in Adam's steps that are shares of a
//! scale; integers are what it rounds to. Vectors that stay floats (gains of normalisations, biases) move along: they take no
//! more bytes for it. Every eighth sample is held back and says which state is kept: the first one if none is clearly better.

use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::{Binary, BinaryFn, Op, Softmax};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;
use adze_passes::adjoint::{AdjointError, gradients};

use super::Progress;
use super::adam::{Pace, Past};
use super::insert::{Edits, StoredConst, insert_mapped};
use super::lessons::{BATCH, Lesson, Lessons, halves};
use super::metric::{Metric, Score, clearly_least};
use super::plan::{Plan, Product};
use super::ranges::{floats, usable};
use super::samples::{Samples, thin};
use super::store::{Consts, Maker};
use super::taps::{LoadedTaps, Taps, narrow};
use super::trial::{At, fed};
use super::vectors::vectors;
use crate::build::BuildOptions;
use crate::error::Error;

/// How long and by what it is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distil {
    /// Steps of 8 samples.
    pub steps: usize,
    /// Axis of the classes in the first output, where these are what counts; otherwise its numbers do, unless it is a softmax.
    pub class_axis: Option<usize>,
}

/// Most samples that are held back.
const MOST_HELD: usize = 32;
/// Times that the held-back samples are looked at.
const LOOKS: usize = 8;
/// Standard errors that learning has to gain on them. One: it costs no bytes, so that to miss a gain is as bad as to take chance for
/// one.
const ERRORS: f64 = 1.0;
/// Scale by which a bias steps, in units of its sums: about what the operand of a weight is worth.
const BIAS_STEP: f64 = 32.0;
/// First step of the logarithm of a scale, in first steps of a number.
const SCALE_SHARE: f64 = 0.25;
/// The same of a number of a vector, in means of the vector's magnitudes.
const VECTOR_SHARE: f64 = 0.125;

/// The constants of products after learning, none where nothing was learned that is better, and what came of it. They start as layers
/// made them from [`learners`](super::lessons::learners).
///
/// # Errors
/// What compiling and running gives. A network that has no gradient is no error: nothing is learned.
pub fn distil(
    maker: &Maker<'_>,
    plan: &Plan,
    start: &[Consts],
    how: Distil,
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<(Option<Vec<Consts>>, String), Error> {
    let kept = |why: String| Ok((None, format!("not learned end to end: {why}")));
    if samples.inputs.len() < 2 {
        return kept("found fewer than two samples, accepted: one to learn from and one that is held back".into());
    }
    let output = maker.graph.outputs().first().map(|output| output.value);
    let output = output.ok_or_else(|| Error::Options("the network has no output".into()))?;
    let network = match Network::new(maker, start, how, samples, output) {
        Ok(network) => network,
        Err(Problem::NoGradient(error)) => return kept(error.to_string()),
        Err(Problem::Other(error)) => return Err(error),
    };
    progress("compiling gradients", 0, 1);
    let teacher = Taps::new(maker.graph, &[output], samples, build)?;
    let taps = Taps::new(&network.graph, &network.values, &Samples::default(), build)?;
    let school = School { taps: taps.load()?, teacher: teacher.load()?, samples, how, network: &network };
    let (weights, before, after) = school.learn(progress)?;
    let unit = if network.loss == Loss::Numbers { "relative noise" } else { "relative entropy" };
    let found = format!("in {} steps: {unit} {before:.2e} -> {after:.2e} on held-back samples", how.steps);
    if weights.is_empty() {
        return Ok((None, format!("not learned end to end, whose gain may be chance {found}")));
    }
    let consts =
        plan.products.iter().zip(start).map(|(product, consts)| taken(maker, product, consts.clone(), &weights));
    let vectors = weights.iter().filter(|weights| weights.kind == Kind::Vector);
    let consts = consts.chain([vectors.map(|weights| Ok((weights.at, weights.stored()?))).collect()]);
    Ok((Some(consts.collect::<Result<_, _>>()?), format!("learned end to end {found}")))
}

/// The constants of a product with what was learned of them.
fn taken(maker: &Maker<'_>, product: &Product, mut consts: Consts, weights: &[Learned]) -> Result<Consts, Error> {
    let mut scales = None;
    for (at, stored) in &mut consts {
        let Some(found) = weights.iter().find(|w| w.at == *at) else { continue };
        match &scales {
            // Its unit is that of the weights, which come first.
            Some(scales) if found.kind == Kind::Bias => {
                *stored =
                    maker.bias(product, stored.data.shape(), &found.numbers, scales).unwrap_or(found.form.clone());
            }
            _ => *stored = found.stored()?,
        }
        scales = Some(stored.scales.clone());
    }
    Ok(consts)
}

enum Problem {
    NoGradient(AdjointError),
    Other(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// The network with gradients.
struct Network {
    graph: Graph,
    /// Its first output, then the gradient of each weight.
    values: Vec<ValueId>,
    learned: Vec<Learned>,
    loss: Loss,
}

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The relative entropy of the shares along an axis.
    Classes(usize),
    /// The squared difference.
    Numbers,
}

impl Network {
    fn new(
        maker: &Maker<'_>,
        start: &[Consts],
        how: Distil,
        samples: &Samples,
        output: ValueId,
    ) -> Result<Self, Problem> {
        let mut edits = Edits { points: maker.points.clone(), ..Edits::default() };
        edits.fed.extend(start.iter().flatten().map(|(at, _)| *at));
        // What formats are judged by takes constants of products only.
        if maker.options.goal.is_none() {
            edits.fed.extend(vectors(maker.graph));
        }
        let mut learned = Vec::new();
        for (at, own) in fed(maker.graph, &edits) {
            let stored = start.iter().flatten().find(|(place, _)| *place == at).map(|(_, stored)| stored);
            learned.push(match stored {
                Some(stored) => Learned::new(at, stored, &own, maker.points.is_empty())?,
                None => Learned::vector(at, &own),
            });
        }
        let mut float = maker.graph.clone();
        narrow(&mut float, samples)?;
        let (mut graph, map) = insert_mapped(&float, &edits)?;
        let inputs = graph.inputs()[maker.graph.inputs().len()..].to_vec();
        let output = map[&output];
        let target = graph.add_input("target", graph.ty(output).clone());
        let (seed, loss) = seed(&mut graph, output, target, how.class_axis)?;
        let found = gradients(&mut graph, &[seed], &inputs).map_err(Problem::NoGradient)?;
        let mut values = vec![output];
        // What the output does not depend on stays as it is.
        let moved = |gradient: &Option<ValueId>| gradient.is_some();
        values.extend(found.iter().flatten());
        let mut has = found.iter().map(moved);
        learned.iter_mut().for_each(|weights| weights.moves = has.next() == Some(true));
        Ok(Self { graph, values, learned, loss })
    }
}

/// A value and the derivative of the loss by it; and the loss.
fn seed(
    graph: &mut Graph,
    output: ValueId,
    target: ValueId,
    class_axis: Option<usize>,
) -> Result<((ValueId, ValueId), Loss), Error> {
    let softmax = graph.producer(output).and_then(|(_, node)| match &node.op {
        Op::Softmax(op) if !op.flatten => node.inputs[0].map(|x| (x, op.axis)),
        _ => None,
    });
    let mut add = |op: Op, inputs: &[ValueId]| {
        graph.add1(op, inputs, Default::default()).map_err(|error| Error::Options(format!("--class-axis: {error}")))
    };
    let mut shares = |v: ValueId, axis: usize| add(Softmax { axis, flatten: false }.into(), &[v]);
    let (value, from, to, loss) = match (softmax, class_axis) {
        (Some((x, axis)), _) => (x, output, target, Loss::Classes(axis)),
        (None, Some(axis)) => (output, shares(output, axis)?, shares(target, axis)?, Loss::Classes(axis)),
        (None, None) => (output, output, target, Loss::Numbers),
    };
    let derivative = add(Binary { function: BinaryFn::Sub }.into(), &[from, to])?;
    Ok(((value, derivative), loss))
}

fn feed(inputs: &[Tensor], weights: &[Tensor], target: &[Tensor]) -> Vec<Tensor> {
    inputs.iter().chain(weights).chain(target).cloned().collect()
}

/// What learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Numbers that are rounded to integers.
    Rounded,
    /// Integers so fine that the numbers are not rounded on the way.
    Bias,
    /// Floats, whose one scale is the mean of their magnitudes.
    Vector,
}

/// Weights that learn.
#[derive(Clone, Debug)]
struct Learned {
    at: At,
    /// Where they started; type, shape and place of scales stay.
    form: StoredConst,
    /// The scale of every number.
    group: Vec<usize>,
    /// What is rounded, in the unit of the weights.
    numbers: Vec<f64>,
    scales: Vec<f64>,
    low: f64,
    high: f64,
    kind: Kind,
    /// Whether there is a gradient.
    moves: bool,
    past: [Past; 2],
}

impl Learned {
    /// `open`: values are floats. The lowest integer is used too, which kernels of integers keep free.
    fn new(at: At, stored: &StoredConst, own: &Tensor, open: bool) -> Result<Self, Error> {
        let (kind, step) =
            if stored.data.dtype() == DType::I32 { (Kind::Bias, BIAS_STEP) } else { (Kind::Rounded, 1.0) };
        let scales: Vec<f64> = stored.scales.to_f64().into_iter().map(|scale| scale * step).collect();
        let group = groups(stored);
        let high = super::weights::largest(stored.data.dtype());
        // Few samples know the layers' integers better than they could find them again. Many do not: those are right together only, and
        // the first steps part them.
        let numbers = if open { own.to_f64() } else { stored.real()?.to_f64() };
        let past = [Past::new(numbers.len()), Past::new(scales.len())];
        let low = if open { -high - 1.0 } else { -high };
        Ok(Self { at, form: stored.clone(), group, numbers, scales, low, high, kind, moves: true, past })
    }

    fn vector(at: At, own: &Tensor) -> Self {
        let numbers = own.to_f64();
        let mean = numbers.iter().map(|v| v.abs()).sum::<f64>() / numbers.len().max(1) as f64;
        let (group, past) = (vec![0; numbers.len()], [Past::new(numbers.len()), Past::new(1)]);
        let (low, high, kind) = (f64::NEG_INFINITY, f64::INFINITY, Kind::Vector);
        let form = floating(own.clone());
        Self { at, form, group, numbers, scales: vec![mean], low, high, kind, moves: true, past }
    }

    fn int(&self, index: usize) -> f64 {
        (self.numbers[index] / self.scales[self.group[index]]).round_ties_even().clamp(self.low, self.high)
    }

    /// What the integers stand for.
    fn real(&self) -> Tensor {
        let number = |(index, &group): (usize, &usize)| match self.kind {
            Kind::Rounded => self.int(index) as f32 * usable(self.scales[group]),
            Kind::Bias | Kind::Vector => self.numbers[index] as f32,
        };
        let numbers: Vec<f32> = self.group.iter().enumerate().map(number).collect();
        Tensor::from_f32(self.form.data.shape(), &numbers)
    }

    fn stored(&self) -> Result<StoredConst, Error> {
        if self.kind == Kind::Vector {
            return Ok(floating(self.real()));
        }
        let ints: Vec<i128> = (0..self.numbers.len()).map(|index| self.int(index) as i128).collect();
        let scales: Vec<f32> = self.scales.iter().map(|&scale| usable(scale)).collect();
        let data = Tensor::from_ints(self.form.data.dtype(), self.form.data.shape(), &ints);
        let scales = Tensor::from_f32(self.form.scales.shape(), &scales);
        Ok(StoredConst { data, scales, ..self.form.clone() })
    }

    /// Goes against a gradient.
    fn step(&mut self, gradient: &[f64], pace: &Pace) {
        let rate = pace.rate * if self.kind == Kind::Vector { VECTOR_SHARE } else { 1.0 };
        let exact = self.kind != Kind::Rounded;
        let mut by_scale = vec![0.0; self.scales.len()];
        for (index, (&g, &group)) in gradient.iter().zip(&self.group).enumerate() {
            let (at, scale) = (self.numbers[index] / self.scales[group], self.scales[group]);
            let inside = exact || (at >= self.low && at <= self.high);
            if !exact {
                // By the logarithm of the scale: what rounding adds, or the whole integer where it is at an end.
                by_scale[group] += g * scale * (self.int(index) - if inside { at } else { 0.0 });
            }
            let moved = self.past[0].step(index, if inside { g } else { 0.0 }, pace);
            let pull = if exact { 0.0 } else { pace.pull * (at.clamp(self.low, self.high) - self.int(index)) };
            self.numbers[index] -= rate * scale * (moved + pull);
        }
        for (group, g) in by_scale.into_iter().enumerate().filter(|_| !exact) {
            self.scales[group] *= (-pace.rate * SCALE_SHARE * self.past[1].step(group, g, pace)).exp();
        }
    }
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// A vector as it is.
fn floating(data: Tensor) -> StoredConst {
    StoredConst { data, scales: Tensor::zeros(DType::F32, &[0]), axis: 0, block: 0 }
}

fn real(weights: &[Learned]) -> Result<Vec<Tensor>, Error> {
    dealt_out(weights.iter().collect(), |weights| weights.numbers.len(), Learned::real)
}

/// What is made of every item, in order. Items are dealt out to all processors, each to the one that has least.
fn dealt_out<T: Send, R: Send>(
    items: Vec<T>,
    size: impl Fn(&T) -> usize,
    make: impl Fn(T) -> R + Sync,
) -> Result<Vec<R>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut hands: Vec<(usize, Vec<(usize, T)>)> = (0..threads).map(|_| (0, Vec::new())).collect();
    for (at, item) in items.into_iter().enumerate() {
        if let Some((load, hand)) = hands.iter_mut().min_by_key(|(load, _)| *load) {
            *load += size(&item);
            hand.push((at, item));
        }
    }
    let make = &make;
    let mut all: Vec<(usize, R)> = Vec::new();
    std::thread::scope(|scope| {
        let one = |hand: Vec<(usize, T)>| hand.into_iter().map(|(at, item)| (at, make(item))).collect::<Vec<_>>();
        let threads: Vec<_> = hands.into_iter().map(|(_, hand)| scope.spawn(move || one(hand))).collect();
        for thread in threads {
            all.extend(thread.join().map_err(|_| Error::Bug("a part of learning ended early".into()))?);
        }
        Ok::<_, Error>(())
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

/// The scale of every element.
fn groups(stored: &StoredConst) -> Vec<usize> {
    let (shape, axis) = (stored.data.shape(), stored.axis);
    let inner: usize = shape.iter().skip(axis + 1).product();
    let extent = shape.get(axis).copied().unwrap_or(1).max(1);
    let group = |index: usize| {
        let (outer, at, rest) = (index / inner / extent, index / inner % extent, index % inner);
        match stored.block {
            _ if stored.scales.elems() == 1 => 0,
            0 => at,
            block => (outer * extent.div_ceil(block) + at / block) * inner + rest,
        }
    };
    (0..stored.data.elems()).map(group).collect()
}

/// The compiled network, its teacher and what that says of the samples.
struct School<'a> {
    taps: LoadedTaps<'a>,
    teacher: LoadedTaps<'a>,
    samples: &'a Samples,
    how: Distil,
    network: &'a Network,
}

impl School<'_> {
    /// Learns, and gives the weights that lose least on held-back samples, none where those do not clearly lose less than the first
    /// ones; what they lost before, and lose after.
    fn learn(&self, progress: &mut Progress<'_>) -> Result<(Vec<Learned>, f64, f64), Error> {
        let [train, mut held] = halves(self.samples.inputs.len());
        thin(&mut held, MOST_HELD);
        let mut weights = self.network.learned.clone();
        let start = weights.iter().map(|weights| weights.form.real()).collect::<Result<Vec<Tensor>, Error>>()?;
        let before = self.lost(&start, &held)?;
        let (mut best, mut kept) = (before.clone(), Vec::new());
        let mut lessons = Lessons::new(self.samples, train);
        for t in 1..=self.how.steps {
            progress("learning end to end", t, self.how.steps);
            self.step(&mut weights, &lessons.draw(), &Pace::of(t, self.how.steps))?;
            if t % self.how.steps.div_ceil(LOOKS) == 0 || t == self.how.steps {
                let lost = self.lost(&real(&weights)?, &held)?;
                if mean(&lost) < mean(&best) {
                    (best, kept) = (lost, weights.clone());
                }
            }
        }
        let (first, least) = (mean(&before), mean(&best));
        if clearly_least(&[before, best], ERRORS) == 0 {
            kept.clear();
        }
        Ok((kept, first, least))
    }

    fn step(&self, weights: &mut [Learned], batch: &[Lesson], pace: &Pace) -> Result<(), Error> {
        let found = self.run_all(batch, &real(weights)?)?;
        let moving = weights.iter_mut().filter(|weights| weights.moves).enumerate().collect();
        dealt_out(
            moving,
            |(_, weights)| weights.numbers.len(),
            |(index, weights)| {
                let mut sum = vec![0.0; weights.numbers.len()];
                for (_, values) in &found {
                    sum.iter_mut().zip(floats(&values[1 + index])).for_each(|(sum, g)| *sum += g);
                }
                weights.step(&sum, pace);
            },
        )?;
        Ok(())
    }

    /// The loss on each of some samples.
    fn lost(&self, real: &[Tensor], samples: &[usize]) -> Result<Vec<f64>, Error> {
        let (axis, metric) = match self.network.loss {
            Loss::Classes(axis) => (Some(axis), Metric::Flips),
            Loss::Numbers => (None, Metric::Sqnr),
        };
        let lessons: Vec<Lesson> = samples.iter().copied().map(Lesson::plain).collect();
        let mut lost = Vec::new();
        for part in lessons.chunks(BATCH) {
            for (taught, values) in self.run_all(part, real)? {
                let mut score = Score::default();
                score.take(&taught, &values[0], axis, None);
                lost.push(score.loss(metric));
            }
        }
        Ok(lost)
    }

    /// The values for samples, some on each processor.
    fn run_all(&self, lessons: &[Lesson], real: &[Tensor]) -> Result<Vec<(Tensor, Vec<Tensor>)>, Error> {
        dealt_out(lessons.iter().collect(), |_| 1, |lesson| self.run(lesson, real))?.into_iter().collect()
    }

    fn run(&self, lesson: &Lesson, real: &[Tensor]) -> Result<(Tensor, Vec<Tensor>), Error> {
        let inputs = lesson.inputs(self.samples);
        let mut taught = self.teacher.values(&inputs)?;
        let values = self.taps.values(&feed(&inputs, real, &taught))?;
        Ok((taught.swap_remove(0), values))
    }
}

#[cfg(test)]
mod tests {
    use adze_ir::text::parse_graph;

    use super::*;

    /// A gradient that changes its mind leaves a number where it is but for the pull; a vector knows none.
    #[test]
    fn numbers_between_integers_settle() {
        let graph =
            parse_graph("graph @g {\n  input %0 \"x\" : f32[1]\n  %1 = relu %0 : f32[1]\n  output \"y\" = %1\n}")
                .unwrap();
        let at = (graph.nodes().next().unwrap().0, 0);
        let stored = StoredConst {
            data: Tensor::from_ints(DType::I4, &[1], &[0]),
            scales: Tensor::from_f32(&[1], &[1.0]),
            axis: 0,
            block: 0,
        };
        let own = Tensor::from_f32(&[1], &[0.4]);
        let mut all = [Learned::new(at, &stored, &own, true).unwrap(), Learned::vector(at, &own)];
        for t in 1..=2000 {
            let side = if t % 2 == 0 { 1.0 } else { -1.0 };
            all.iter_mut().for_each(|learned| learned.step(&[side], &Pace::of(t, 2000)));
        }
        let [number, vector] = all.map(|learned| learned.numbers[0]);
        assert!((0.1..0.2).contains(&number), "{number}");
        assert!((vector - 0.4).abs() < 0.02, "{vector}");
    }
}
