//! Scales moved between neighbours before anything is rounded: the channels of a value are divided by factors, which the
//! weights of all products that read it make up for.
//!
//! What makes such a value is a product or the scale of a normalisation; up to the products that read it there are only operators
//! that a positive factor goes through. Factors come of the weights on both sides, so that both have ranges of the same width
//! (cross-layer equalisation, Nagel et al., 2019), or of the numbers that samples show and the weights that meet them (SmoothQuant,
//! Xiao et al., 2023). They are powers of two: the network computes the same floats as before, to the last bit.

use std::collections::BTreeMap;

use adze_ir::graph::{ConstEntry, Graph, Node, NodeId, ValueId};
use adze_ir::ops::{BinaryFn, Op, PadMode, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::Progress;
use super::plan::{Kind, Product, plan, users_of};
use super::ranges::floats;
use super::samples::Samples;
use super::taps::Taps;
use crate::build::BuildOptions;
use crate::error::Error;

/// What factors come of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Equalize {
    /// Nothing moves.
    #[default]
    None,
    /// The weights before and after a value.
    Weights,
    /// The largest numbers of a value, to this power, and the weights after it, to the rest of 1.
    Values(f64),
}

/// Times that all sites are visited for weights: a layer lies between two of them.
const ROUNDS: usize = 3;
/// Largest exponent of a factor: more says that a channel is as good as empty.
const MOST: f64 = 12.0;

/// A constant operand and the axis of its channels.
type At = (NodeId, usize, usize);

/// A value whose channels can be divided by factors.
#[derive(Clone, Debug, PartialEq)]
struct Site {
    value: ValueId,
    /// Axis of its channels.
    axis: usize,
    /// Constants that are divided, the one whose range counts first.
    makers: Vec<At>,
    /// Weights that are multiplied.
    users: Vec<At>,
    /// Values between, whose numbers change too.
    between: Vec<ValueId>,
}

/// The network with scales moved, and how many values have other channels than before. Those are renamed.
///
/// # Errors
/// What compiling and running gives, and [`Error::Options`] without samples for [`Equalize::Values`].
pub fn equalize(
    graph: Graph,
    how: Equalize,
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<(Graph, usize), Error> {
    let sites = if how == Equalize::None { Vec::new() } else { sites(&graph) };
    let (power, rounds) = match how {
        Equalize::None => return Ok((graph, 0)),
        Equalize::Weights => (0.5, ROUNDS),
        Equalize::Values(power) => (power, 1),
    };
    let seen = match how {
        Equalize::Values(_) => largest_seen(&graph, &sites, samples, build, progress)?,
        _ => Vec::new(),
    };
    let mut out = graph;
    let mut moved = vec![false; sites.len()];
    for _ in 0..rounds {
        for (index, site) in sites.iter().enumerate() {
            let before = seen.get(index).cloned().unwrap_or_else(|| largest(&out, &site.makers[..1]));
            let after = largest(&out, &site.users);
            let factor = |(a, b): (&f64, &f64)| {
                let exponent = power * a.log2() - (1.0 - power) * b.log2();
                if exponent.is_finite() { exponent.round().clamp(-MOST, MOST).exp2() } else { 1.0 }
            };
            let factors: Vec<f64> = before.iter().zip(&after).map(factor).collect();
            moved[index] |= factors.iter().any(|f| *f != 1.0) && scale(&mut out, site, &factors);
        }
    }
    for (site, _) in sites.iter().zip(&moved).filter(|(_, moved)| **moved) {
        for &value in [site.value].iter().chain(&site.between) {
            let name = out.value(value).name.as_deref().unwrap_or_default();
            let name = format!("{name}/equalized");
            out.set_name(value, Some(name.into()));
        }
    }
    out.sort().map_err(|_| Error::Bug("constants close a cycle".into()))?;
    Ok((out.compact(), moved.iter().filter(|m| **m).count()))
}

/// Divides what makes a value and multiplies what uses it. Nothing happens where a number would lose bits.
fn scale(graph: &mut Graph, site: &Site, factors: &[f64]) -> bool {
    let mut made = Vec::new();
    for (list, divides) in [(&site.makers, true), (&site.users, false)] {
        for &(node, index, axis) in list {
            let Some(data) = graph.node(node).inputs[index].and_then(|v| graph.constant(v)?.data()) else {
                return false;
            };
            let Some(scaled) = scaled(data, axis, factors, divides) else { return false };
            made.push((node, index, scaled));
        }
    }
    for (node, index, tensor) in made {
        let old = graph.node(node).inputs[index].and_then(|v| graph.constant(v)).map(|c| c.name.to_string());
        let loc = graph.node(node).loc.clone();
        let id = graph.consts.push(ConstEntry::new(old.unwrap_or_default(), tensor));
        let value = graph.add_const(id, loc);
        graph.set_input(node, index, Some(value));
    }
    true
}

/// A tensor whose slices along an axis are multiplied or divided; nothing when a number does not come back.
fn scaled(data: &Tensor, axis: usize, factors: &[f64], divides: bool) -> Option<Tensor> {
    let inner: usize = data.shape()[axis + 1..].iter().product();
    let number = |(at, v): (usize, f64)| {
        let factor = factors[at / inner % factors.len()];
        let new = if divides { v / factor } else { v * factor };
        let kept = new == 0.0 && v == 0.0 || (new as f32).is_normal() && f64::from(new as f32) == new;
        kept.then_some(new)
    };
    let values = data.to_f64().into_iter().enumerate().map(number).collect::<Option<Vec<f64>>>()?;
    Some(Tensor::from_f64(data.dtype(), data.shape(), &values))
}

/// The largest magnitude of each channel over several constants.
fn largest(graph: &Graph, list: &[At]) -> Vec<f64> {
    let mut most: Vec<f64> = Vec::new();
    for &(node, index, axis) in list {
        let Some(data) = graph.node(node).inputs[index].and_then(|v| graph.constant(v)?.data()) else { continue };
        take_largest(&mut most, data, axis);
    }
    most
}

fn take_largest(most: &mut Vec<f64>, data: &Tensor, axis: usize) {
    let channels = data.shape()[axis].max(1);
    let inner: usize = data.shape()[axis + 1..].iter().product();
    most.resize(channels, 0.0);
    floats(data).enumerate().for_each(|(at, v)| {
        let channel = &mut most[at / inner.max(1) % channels];
        *channel = channel.max(v.abs());
    });
}

/// The largest magnitude of each channel that samples show.
fn largest_seen(
    graph: &Graph,
    sites: &[Site],
    samples: &Samples,
    build: &BuildOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Vec<f64>>, Error> {
    if samples.inputs.is_empty() {
        return Err(Error::Options("--equalize values: found no samples, accepted: --calib with at least one".into()));
    }
    let values: Vec<ValueId> = sites.iter().map(|site| site.value).collect();
    let mut most = vec![Vec::new(); sites.len()];
    Taps::new(graph, &values, samples, build)?.run(samples, &mut |index, tensors| {
        progress("looking for large channels", index, samples.inputs.len());
        most.iter_mut()
            .zip(tensors)
            .zip(sites)
            .for_each(|((most, tensor), site)| take_largest(most, tensor, site.axis));
        Ok(())
    })?;
    Ok(most)
}

/// All values whose channels can be divided.
fn sites(graph: &Graph) -> Vec<Site> {
    let products: BTreeMap<NodeId, Product> =
        plan(graph, &|_| false).products.into_iter().filter(|p| p.kind == Kind::Sum).map(|p| (p.node, p)).collect();
    let walk = Walk { graph, users: users_of(graph), products };
    let site = |(id, node): (NodeId, &Node)| {
        let (value, axis, makers) = walk.makers(id, node)?;
        let mut site = Site { value, axis, makers, users: Vec::new(), between: Vec::new() };
        (walk.follow(&mut site, value) && !site.users.is_empty()).then_some(site)
    };
    graph.nodes().filter_map(site).collect()
}

struct Walk<'a> {
    graph: &'a Graph,
    users: BTreeMap<ValueId, Vec<NodeId>>,
    products: BTreeMap<NodeId, Product>,
}

impl Walk<'_> {
    /// What a node makes that is linear in constants per channel: the value, the axis of its channels, and the constants.
    fn makers(&self, id: NodeId, node: &Node) -> Option<(ValueId, usize, Vec<At>)> {
        let out = node.outputs[0];
        let last = self.graph.ty(out).rank().checked_sub(1)?;
        if let Some(product) = self.products.get(&id) {
            let axis = if matches!(node.op, Op::Conv(_)) { 1 } else { last };
            let mut makers = vec![(id, 1, product.axis)];
            let mut value = out;
            if let Some((add, index)) = product.bias {
                makers.push((add, index, self.rank(add, index)?.checked_sub(1)?));
                value = self.graph.node(add).outputs[0];
            }
            return Some((value, axis, makers));
        }
        match &node.op {
            Op::LayerNorm(op) if op.axis == last => {
                let bias = node.inputs.get(2).copied().flatten().map(|_| (id, 2, 0));
                let makers: Vec<At> = [(id, 1, 0)].into_iter().chain(bias).collect();
                let constant = makers.iter().all(|at| self.constant_row(at.0, at.1));
                constant.then_some((out, last, makers))
            }
            Op::RmsNorm(op) if op.axis == last && self.constant_row(id, 1) => Some((out, last, vec![(id, 1, 0)])),
            Op::Binary(op) if op.function == BinaryFn::Mul => {
                let scale = (0..2).find(|&index| self.constant_row(id, index))?;
                let mut makers = vec![(id, scale, self.rank(id, scale)? - 1)];
                let mut value = out;
                if let Some([user]) = self.users.get(&out).map(Vec::as_slice)
                    && matches!(&self.graph.node(*user).op, Op::Binary(op) if op.function == BinaryFn::Add)
                    && let Some(bias) = (0..2).find(|&index| self.constant_row(*user, index))
                {
                    makers.push((*user, bias, self.rank(*user, bias)? - 1));
                    value = self.graph.node(*user).outputs[0];
                }
                Some((value, last, makers))
            }
            _ => None,
        }
    }

    /// Finds the products that read a value; `false` where something else does.
    fn follow(&self, site: &mut Site, value: ValueId) -> bool {
        let is_output = self.graph.outputs().iter().any(|o| o.value == value);
        let Some(users) = self.users.get(&value).filter(|_| !is_output) else { return false };
        users.iter().all(|&id| {
            let node = self.graph.node(id);
            if let Some(product) = self.products.get(&id) {
                let axis = self.channels_of(product, value, site.axis);
                site.users.extend(axis.map(|axis| (id, 1, axis)));
                return axis.is_some();
            }
            if !self.lets_through(node, site.axis) {
                return false;
            }
            site.between.push(node.outputs[0]);
            self.follow(site, node.outputs[0])
        })
    }

    /// Axis of the weights along which the channels of the data operand lie.
    fn channels_of(&self, product: &Product, value: ValueId, axis: usize) -> Option<usize> {
        let node = self.graph.node(product.node);
        let reads =
            product.data(self.graph) == Some(value) && node.inputs.iter().filter(|v| **v == Some(value)).count() == 1;
        let shape = self.graph.ty(product.weights).fixed_shape()?;
        match &node.op {
            Op::Conv(conv) if conv.group == 1 => (reads && axis == 1).then_some(1),
            Op::Conv(conv) => {
                let depthwise = i64::try_from(shape[0]) == Ok(conv.group) && shape[1] == 1;
                (reads && axis == 1 && depthwise).then_some(0)
            }
            _ => (reads && axis + 1 == self.graph.ty(value).rank()).then_some(1 - product.axis),
        }
    }

    /// Whether a factor per channel before an operator is the same factor after it.
    fn lets_through(&self, node: &Node, axis: usize) -> bool {
        match &node.op {
            Op::Unary(op) => op.function == UnaryFn::Relu,
            Op::LeakyRelu(_) => true,
            Op::MaxPool(_) | Op::AveragePool(_) => axis == 1,
            Op::Pad(op) => {
                let fill = node.inputs.get(1).copied().flatten().and_then(|v| self.graph.constant(v)?.data());
                op.mode == PadMode::Constant && fill.map_or(node.inputs.len() < 2, |fill| fill.to_f64() == [0.0])
            }
            _ => false,
        }
    }

    fn rank(&self, id: NodeId, index: usize) -> Option<usize> {
        Some(self.graph.ty((*self.graph.node(id).inputs.get(index)?)?).rank())
    }

    /// Whether an operand is a constant of a number per channel, along the last axis of the result.
    fn constant_row(&self, id: NodeId, index: usize) -> bool {
        let node = self.graph.node(id);
        let Some(operand) = node.inputs.get(index).copied().flatten() else { return false };
        let last = |v| self.graph.ty(v).shape.last().and_then(|e| e.as_const());
        let elems = self.graph.constant(operand).and_then(|c| c.data()).map(Tensor::elems);
        let row = self.graph.ty(operand).dtype == DType::F32
            && last(operand).is_some()
            && last(operand) == last(node.outputs[0]);
        row && elems.and_then(|n| i64::try_from(n).ok()) == last(operand)
    }
}
