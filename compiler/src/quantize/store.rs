//! The weights and biases of products as integers.

use std::cell::RefCell;
use std::collections::BTreeMap;

use adze_ir::graph::{Graph, NodeId, ValueId};
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::feedback::{aims, round_feedback};
use super::insert::StoredConst;
use super::moments::Moments;
use super::plan::{Kind, Plan, Product};
use super::ranges::{Params, floats};
use super::resume::State;
use super::table::Weights;
use super::trial::At;
use super::weights::{Rows, Scaling, Stored, round_nearest, scales_of};
use super::{Options, Progress};
use crate::error::Error;

/// Constant operands as integers, by node and position: weights, and a bias where there is one.
pub type Consts = Vec<((NodeId, usize), StoredConst)>;

/// All products: what the table says about their weights, and the constants.
pub type Products = Vec<(Weights, Consts)>;

/// How the weights of a product are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Stored type; `f32` leaves them as they are.
    pub dtype: DType,
    /// Weights of a channel that share a scale; 0 when all of them do.
    pub block: usize,
}

/// Makes integers of the weights of products.
pub struct Maker<'a> {
    /// The float network.
    pub graph: &'a Graph,
    /// Values that are rounded.
    pub points: &'a BTreeMap<ValueId, Params>,
    /// Choices.
    pub options: &'a Options,
    /// Rounding is not learned: what comes of it is looked at only.
    pub quick: bool,
    /// Formats of all products as text, where some are being tried: weights follow those before them.
    pub formats: &'a str,
    /// What an interrupted run had made, and where what is made is kept.
    pub state: Option<&'a RefCell<State>>,
}

impl Maker<'_> {
    /// The weights of all products in the formats that table and options say, with their entries in the table.
    ///
    /// # Errors
    /// [`Error::Values`] for weights that are not finite.
    pub fn all(
        &self,
        plan: &Plan,
        mut moments: BTreeMap<At, Moments>,
        progress: &mut Progress<'_>,
    ) -> Result<Products, Error> {
        let mut all = Vec::new();
        for (index, product) in plan.products.iter().enumerate() {
            progress("rounding weights", index, plan.products.len());
            let format = self.stated(product);
            let moments = self.seen(product, moments.remove(&product.place()));
            all.push((self.entry(product, format), self.make(product, format, moments.as_ref())?));
        }
        Ok(all)
    }

    /// The format that table and options say.
    pub fn stated(&self, product: &Product) -> Format {
        let found = self.options.stored_as(&product.name(self.graph));
        // A row that is looked up is not judged by what it meets, and all that follows sees what it loses.
        let own = if product.kind == Kind::Table { DType::I8 } else { self.options.weights };
        let (dtype, block) = found.unwrap_or((own, self.options.block));
        self.fitting(product, Format { dtype, block })
    }

    /// The format with a block where the product takes one and its rows are longer; 0 elsewhere. The last block of a row may
    /// be shorter.
    pub fn fitting(&self, product: &Product, format: Format) -> Format {
        let matrix = product.kind != Kind::Table && !matches!(self.graph.node(product.node).op, Op::Conv(_));
        let fits = matrix && format.block > 0 && format.block < product.len(self.graph);
        Format { block: if fits { format.block } else { 0 }, ..format }
    }

    /// The entry of the table.
    pub fn entry(&self, product: &Product, format: Format) -> Weights {
        let block = u32::try_from(format.block).unwrap_or(0);
        Weights { name: product.name(self.graph), dtype: format.dtype.name().into(), block }
    }

    /// Moments as the weights of a product are judged by: without the means where a bias makes up for them.
    pub fn seen(&self, product: &Product, moments: Option<Moments>) -> Option<Moments> {
        let mut moments = moments?;
        if self.corrects(product) {
            moments.centre();
        }
        Some(moments)
    }

    fn input(&self, product: &Product) -> Option<Params> {
        self.points.get(&product.point(self.graph, self.points)?).copied()
    }

    /// A bias of a product anew, for the scales that its weights have; none for a product without integers of values.
    pub fn bias(&self, product: &Product, shape: &[usize], values: &[f64], scales: &Tensor) -> Option<StoredConst> {
        let scales: Vec<f32> = floats(scales).map(|scale| scale as f32).collect();
        Some(stored_bias(shape, values, self.input(product)?, &scales))
    }

    fn corrects(&self, product: &Product) -> bool {
        self.options.correct_bias && self.input(product).is_some() && product.bias.is_some()
    }

    /// The weights and the bias of a product as integers; nothing for `f32`. The moments are those that [`Maker::seen`] gives.
    ///
    /// # Errors
    /// [`Error::Values`] for weights that are not finite.
    pub fn make(&self, product: &Product, format: Format, moments: Option<&Moments>) -> Result<Consts, Error> {
        if format.dtype == DType::F32 {
            return Ok(Vec::new());
        }
        if let Some(made) = self.made(product, format) {
            return Ok(made);
        }
        let consts = self.compute(product, format, moments)?;
        if let Some(state) = self.state {
            state.borrow_mut().keep(self.key(product, format), &consts)?;
        }
        Ok(consts)
    }

    /// What an interrupted run had made of a product.
    pub fn made(&self, product: &Product, format: Format) -> Option<Consts> {
        self.state?.borrow().made(&self.key(product, format)).cloned()
    }

    fn key(&self, product: &Product, format: Format) -> String {
        let kind = if self.quick { "quick" } else { "final" };
        format!("{}.{} {} {} {kind} {}", product.node, product.at, format.dtype, format.block, self.formats)
    }

    fn compute(&self, product: &Product, format: Format, moments: Option<&Moments>) -> Result<Consts, Error> {
        let data = self.constant(product, product.weights)?;
        let rows = match product.kind {
            // Of every direction and gate.
            Kind::Cell => Rows { values: data.to_f64(), len: product.len(self.graph) },
            _ => Rows::of(data, product.axis),
        };
        let input = self.input(product);
        let bias = match product.bias {
            Some((id, index)) => self.graph.node(id).inputs[index].map(|v| self.constant(product, v)).transpose()?,
            None => None,
        };
        let mut values = bias.map(Tensor::to_f64).unwrap_or_default();
        let floor = floor_of(input, &values);
        let block = if format.block == 0 { rows.len.max(1) } else { format.block };
        // Bytes are so exact that what earlier layers lost is mostly noise to them.
        let aims = moments.filter(|_| format.dtype.bits() < 8).and_then(|moments| aims(&rows, moments));
        let importance = moments.and_then(Moments::diagonals);
        let search = self.options.search_scales;
        let scaling = Scaling { search, floor: &floor, importance: importance.as_deref() };
        let stored = self.round(aims.as_ref().unwrap_or(&rows), format.dtype, block, scaling, moments);
        let weights = match product.kind {
            Kind::Cell => stored_rows(data.shape(), &stored),
            _ => stored_weights(data, &stored, product.axis, format.block),
        };
        let mut consts = vec![(product.place(), weights)];
        let (Some(input), Some((id, index)), Some(bias)) = (input, product.bias, bias) else { return Ok(consts) };
        if let Some(moments) = moments.filter(|_| self.corrects(product)) {
            moments.correct_bias(&mut values, &rows, &stored.real(rows.len));
        }
        let stored = stored_bias(bias.shape(), &values, input, &stored.scales);
        consts.push(((id, index), stored));
        Ok(consts)
    }

    /// A constant operand of a product, whose numbers are finite.
    fn constant(&self, product: &Product, value: ValueId) -> Result<&Tensor, Error> {
        let name = product.name(self.graph);
        let data = self.graph.constant(value).and_then(|entry| entry.data());
        let data = data.ok_or_else(|| Error::Bug(format!("`{name}`: a planned operand is no constant")))?;
        match floats(data).find(|v| !v.is_finite()) {
            Some(found) => Err(Error::Values(format!("weights of `{name}`: found {found}, accepted: finite numbers"))),
            None => Ok(data),
        }
    }

    fn round(
        &self,
        rows: &Rows,
        dtype: DType,
        block: usize,
        scaling: Scaling<'_>,
        moments: Option<&Moments>,
    ) -> Stored {
        let mut scales = scales_of(rows, dtype, block, scaling);
        if !self.options.per_channel {
            let most = scales.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            scales.iter_mut().for_each(|scale| *scale = most);
        }
        match moments {
            Some(moments) if !moments.matrices.is_empty() => {
                let learn = self.options.rounding.learns() && self.options.per_channel && !self.quick;
                round_feedback(rows, moments, scales, (dtype, block), learn.then_some(scaling.floor))
            }
            _ => round_nearest(rows, scales, dtype, block),
        }
    }
}

/// Smallest scales of weights for which biases fit 32 bits, with room for the sums.
fn floor_of(input: Option<Params>, bias: &[f64]) -> Vec<f64> {
    let Some(input) = input else { return Vec::new() };
    let room = f64::from(1 << 30);
    bias.iter().map(|b| b.abs() / (f64::from(input.scale) * room)).collect()
}

/// Numbers as integers in the unit of the sums: the scale of the operand times that of the channel's weights.
fn stored_bias(shape: &[usize], values: &[f64], input: Params, scales: &[f32]) -> StoredConst {
    let unit = |i: usize| f64::from(input.scale) * f64::from(scales[i.min(scales.len() - 1)]);
    let units: Vec<i128> = values.iter().enumerate().map(|(i, v)| (v / unit(i)).round_ties_even() as i128).collect();
    let scales: Vec<f32> = (0..values.len()).map(|i| unit(i) as f32).collect();
    let data = Tensor::from_ints(DType::I32, shape, &units);
    let axis = shape.len().saturating_sub(1);
    StoredConst { data, scales: Tensor::from_f32(&[scales.len()], &scales), axis, block: 0 }
}

/// Rows of integers `[d, g, k]` of a recurrent cell, whose scales always lie in blocks of `k`.
fn stored_rows(shape: &[usize], stored: &Stored) -> StoredConst {
    let len = shape.last().copied().unwrap_or(0);
    let block = stored.block.clamp(1, len.max(1));
    let mut scales = shape.to_vec();
    if let Some(last) = scales.last_mut() {
        *last = len.div_ceil(block);
    }
    let data = Tensor::from_ints(stored.dtype, shape, &stored.ints);
    StoredConst { data, scales: Tensor::from_f32(&scales, &stored.scales), axis: shape.len() - 1, block }
}

/// Rows of integers in the shape of the weights they were made of.
fn stored_weights(data: &Tensor, stored: &Stored, axis: usize, block: usize) -> StoredConst {
    let ints = Rows::lay(&stored.ints, data.shape(), axis);
    let integers = Tensor::from_ints(stored.dtype, data.shape(), &ints);
    if block == 0 {
        let scales = Tensor::from_f32(&[stored.scales.len()], &stored.scales);
        return StoredConst { data: integers, scales, axis, block };
    }
    // A matrix: blocks lie along the axis that is summed over.
    let mut shape = data.shape().to_vec();
    shape[1 - axis] = shape[1 - axis].div_ceil(block);
    let scales = Tensor::from_f32(&shape, &Rows::lay(&stored.scales, &shape, axis));
    StoredConst { data: integers, scales, axis: 1 - axis, block }
}
