//! Where accuracy goes: every value that a quantized network shares with its float network, by the ONNX tensor's name.
//!
//! *Accumulated* errors are those of the network as it runs. *Isolated* ones are of a layer by itself: it is given the float
//! network's values, so that what earlier layers lost does not count. Both run on compiled code.

use std::collections::BTreeMap;
use std::sync::Arc;

use adze_ir::graph::{Graph, ValueDef, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::Progress;
use super::ranges::floats;
use super::samples::Samples;
use super::taps::Taps;
use crate::build::BuildOptions;
use crate::error::Error;

/// How far a value is from its reference, over all samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    signal: f64,
    noise: f64,
    product: f64,
    found: f64,
    /// Largest absolute difference.
    pub max_error: f64,
}

impl Distance {
    fn take(&mut self, reference: &Tensor, found: &Tensor) {
        for (a, b) in floats(reference).zip(floats(found)) {
            self.signal += a * a;
            self.found += b * b;
            self.product += a * b;
            self.noise += (a - b) * (a - b);
            self.max_error = self.max_error.max((a - b).abs());
        }
    }

    /// Signal to quantization noise ratio in dB; infinite where nothing differs.
    pub fn sqnr(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }

    /// Cosine of the angle between the two; 1 where both are zero.
    pub fn cosine(&self) -> f64 {
        let lengths = (self.signal * self.found).sqrt();
        if lengths > 0.0 { self.product / lengths } else { f64::from(u8::from(self.signal == self.found)) }
    }
}

/// Parts of a histogram.
const BINS: usize = 48;

/// How often a value lies in which part of its range in the float network, before and after quantization.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Smallest and largest number of the float network.
    pub ends: [f64; 2],
    /// Counts of the float network.
    pub before: Vec<u64>,
    /// Counts of the quantized network; what lies outside counts at the end.
    pub after: Vec<u64>,
}

impl Histogram {
    fn of(ends: [f64; 2]) -> Self {
        Self { ends, before: vec![0; BINS], after: vec![0; BINS] }
    }

    fn take(&mut self, reference: &Tensor, found: &Tensor) {
        let [low, high] = self.ends;
        let width = (high - low) / BINS as f64;
        // Saturates: what is below the range counts in the first part. A range without extent has one part.
        let bin = |v: f64| if width > 0.0 { (((v - low) / width).max(0.0) as usize).min(BINS - 1) } else { 0 };
        floats(reference).for_each(|v| self.before[bin(v)] += 1);
        floats(found).for_each(|v| self.after[bin(v)] += 1);
    }
}

/// What came of a value.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The ONNX tensor.
    pub name: Arc<str>,
    /// The ONNX nodes that make it.
    pub nodes: Vec<String>,
    /// The layer by itself.
    pub isolated: Distance,
    /// The network up to here.
    pub accumulated: Distance,
    /// Share of its integers at an end of their type that does not stand for zero; nothing for a value that is no integer.
    pub saturated: Option<f64>,
    /// Its numbers, accumulated.
    pub histogram: Histogram,
}

/// Compares a quantized network with its float network on samples, in the order of the graph.
///
/// # Errors
/// [`Error::Options`] when they have no tensor in common, and what compiling and running gives.
pub fn diagnose(
    float: &Graph,
    quantized: &Graph,
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Layer>, Error> {
    let pairs = shared(float, quantized);
    if pairs.is_empty() {
        return Err(Error::Options(
            "the two networks have no computed tensor of the same name and type in common".into(),
        ));
    }
    let (originals, values): (Vec<ValueId>, Vec<ValueId>) = pairs.iter().copied().unzip();
    let stored: Vec<Option<(ValueId, i128)>> = values.iter().map(|&v| stored_form(quantized, v)).collect();
    let watched: Vec<ValueId> = values.iter().copied().chain(stored.iter().flatten().map(|s| s.0)).collect();
    let reference = Taps::new(float, &originals, samples, build)?;
    let network = Taps::new(quantized, &watched, samples, build)?;
    let mut layers: Vec<Layer> = values.iter().map(|&v| layer(quantized, v)).collect();
    let mut forced = Samples { inputs: Vec::new(), names: samples.names.clone() };
    let total = 3 * samples.inputs.len();
    reference.run(samples, &mut |index, tensors| {
        progress("the float network", index, total);
        forced.inputs.push(samples.inputs[index].iter().cloned().chain(tensors.iter().cloned()).collect());
        Ok(())
    })?;
    let given = samples.inputs.first().map_or(0, Vec::len);
    for (at, layer) in layers.iter_mut().enumerate() {
        let numbers = forced.inputs.iter().flat_map(|inputs| floats(&inputs[given + at]));
        let ends = numbers.fold([f64::INFINITY, f64::NEG_INFINITY], |[lo, hi], v| [lo.min(v), hi.max(v)]);
        layer.histogram = Histogram::of(ends);
    }
    let mut ends = vec![(0u64, 0u64); stored.len()];
    network.run(samples, &mut |index, tensors| {
        progress("the quantized network", samples.inputs.len() + index, total);
        let references = &forced.inputs[index][given..];
        for ((layer, reference), found) in layers.iter_mut().zip(references).zip(tensors) {
            layer.accumulated.take(reference, found);
            layer.histogram.take(reference, found);
        }
        let mut integers = tensors[values.len()..].iter();
        for (zero, ends) in stored.iter().zip(&mut ends).filter_map(|(stored, ends)| Some((&stored.as_ref()?.1, ends)))
        {
            if let Some(tensor) = integers.next() {
                let (low, high) = tensor.dtype().int_range().unwrap_or((0, 0));
                let ints = tensor.to_ints();
                // An end that stands for zero is where a bounded value rests, and loses nothing.
                let lost = |q: i128| (q == low || q == high) && q != *zero;
                ends.0 += ints.iter().filter(|&&q| lost(q)).count() as u64;
                ends.1 += ints.len() as u64;
            }
        }
        Ok(())
    })?;
    let alone = Taps::new(&fed(quantized, &values), &values, &forced, build)?;
    alone.run(&forced, &mut |index, tensors| {
        progress("layer by layer", 2 * samples.inputs.len() + index, total);
        let references = &forced.inputs[index][given..];
        layers.iter_mut().zip(references).zip(tensors).for_each(|((l, a), b)| l.isolated.take(a, b));
        Ok(())
    })?;
    for ((layer, stored), (at_ends, all)) in layers.iter_mut().zip(&stored).zip(ends) {
        layer.saturated = stored.map(|_| at_ends as f64 / all.max(1) as f64);
    }
    Ok(layers)
}

/// Computed values of floats with the same name and shape, in the order of the quantized graph.
fn shared(float: &Graph, quantized: &Graph) -> Vec<(ValueId, ValueId)> {
    let named = |graph: &Graph| -> BTreeMap<Arc<str>, ValueId> {
        let results =
            graph.nodes().filter(|(_, n)| !matches!(n.op, Op::Constant(_))).flat_map(|(_, n)| n.outputs.clone());
        let named = results.filter(|&v| graph.ty(v).dtype == DType::F32);
        named.filter_map(|v| Some((graph.value(v).name.clone()?, v))).collect()
    };
    let originals = named(float);
    let mut pairs: Vec<(ValueId, ValueId)> = Vec::new();
    for (name, value) in named(quantized) {
        if let Some(&original) = originals.get(&name)
            && float.ty(original).shape == quantized.ty(value).shape
        {
            pairs.push((original, value));
        }
    }
    pairs.sort_by_key(|&(_, value)| value);
    pairs
}

/// The integers that a value is read from, and the one that stands for zero.
fn stored_form(graph: &Graph, value: ValueId) -> Option<(ValueId, i128)> {
    let (_, node) = graph.producer(value).filter(|(_, node)| matches!(node.op, Op::Dequantize(_)))?;
    let zero = match node.inputs.get(2).copied().flatten() {
        Some(zero) => *graph.constant(zero)?.data()?.to_ints().first()?,
        None => 0,
    };
    Some((node.inputs.first().copied().flatten()?, zero))
}

fn layer(graph: &Graph, value: ValueId) -> Layer {
    let nodes = graph.producer(value).map(|(_, node)| node.loc.names().iter().map(|n| n.to_string()).collect());
    Layer {
        name: graph.value(value).name.clone().unwrap_or_default(),
        nodes: nodes.unwrap_or_default(),
        isolated: Distance::default(),
        accumulated: Distance::default(),
        saturated: None,
        histogram: Histogram::default(),
    }
}

/// The graph whose nodes read inputs of the graph instead of these values.
fn fed(graph: &Graph, values: &[ValueId]) -> Graph {
    let mut out = graph.clone();
    let mut inputs = BTreeMap::new();
    for (index, &value) in values.iter().enumerate() {
        debug_assert!(matches!(graph.value(value).def, ValueDef::Result(..)));
        inputs.insert(value, out.add_input(format!("fed{index}"), graph.ty(value).clone()));
    }
    for (id, node) in graph.nodes() {
        for (index, input) in node.inputs.iter().enumerate() {
            if let Some(fed) = input.and_then(|v| inputs.get(&v)) {
                out.set_input(id, index, Some(*fed));
            }
        }
    }
    out
}
