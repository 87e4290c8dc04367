//! Quantized convolutions and matrix products.

use std::ops::Range;

use adze_ir::graph::Node;
use adze_ir::ops::{BinaryFn, QLinearConv, QLinearMatMul};
use adze_ir::quant::Requantize;
use adze_ir::types::DType;

use super::super::isa::{Conv, Pool, Prec};
use super::super::machine::MAX_WINDOW;
use super::apart::Gather;
use super::blocks::{RowBytes, channels};
use super::build::{Home, Image, Place, lane_bytes};
use super::commands::{Constants, Scales, table_rows};
use super::layers::LayerKey;
use super::requant::{Contract, Way, choose};
use super::weights::{Products, Weights};
use super::window::{Fitted, Window, depthwise};
use super::{Lowering, Refusal, refuse};

/// Quantization parameters of an operator with one scale per result channel, as its operands 1 to 8 give them.
pub(super) struct Parameters {
    pub(super) x_zero: i64,
    /// Per result channel.
    w_zero: Vec<i64>,
    /// Of the sums over that of the result, per channel.
    pub(super) scales: Vec<f32>,
    pub(super) zero: i64,
    pub(super) signed: bool,
    pub(super) bias: Vec<i64>,
}

impl Lowering<'_> {
    /// Lowers a quantized convolution.
    pub(super) fn qlinear_conv(&mut self, node: &Node, conv: &QLinearConv) -> Result<Home, Refusal> {
        let window = Window::new(&conv.strides, &conv.pads, &conv.dilations, MAX_WINDOW)?;
        let x = self.input(node, 0)?;
        let [oc, ic, kh, kw] = super::extents(self.constant(node, 3)?.shape())?;
        let parameters = self.parameters(node, oc)?;
        let groups = x.shape[1] / ic;
        let shape = self.shape(node.outputs[0])?;
        let border = parameters.x_zero as u32 & 0xff;
        let Fitted { x, window, kernel, by } = self.fitted(x, window, [kh, kw], border)?;
        let alone = groups > 1 && ic == 1 && oc == groups;
        let row = if alone { 1 } else { x.shape[1] as usize } * (kernel[0] * kernel[1]) as usize;
        let key = self.layer(node, &[by[0], by[1], row as u32]);
        let weights = self.weights(&key, |lowering| {
            let weights = Weights::of(lowering.constant(node, 3)?, &parameters.w_zero)?;
            Ok(weights.stretched([kh, kw], by).of_one_group(row))
        })?;
        if alone {
            return self.depthwise(x, shape, &window, kernel, &parameters, &weights, conv.contract);
        }
        self.convolution(x, shape, &window, kernel, &parameters, (&key, &weights), conv.contract)
    }

    /// Lowers a quantized matrix product with constant weights: a convolution of 1 by 1 with rows as N.
    pub(super) fn qlinear_matmul(&mut self, node: &Node, op: &QLinearMatMul) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let parameters = self.parameters(node, shape[1])?;
        let key = self.layer(node, &[]);
        let columns = |lowering: &Self| Weights::of_columns(lowering.constant(node, 3)?, &parameters.w_zero);
        let weights = self.weights(&key, columns)?;
        self.convolution(x, shape, &Window::plain(), [1, 1], &parameters, (&key, &weights), op.contract)
    }

    /// Lowers a matrix product with constant weights to 32 bits.
    pub(super) fn matmul_integer(&mut self, node: &Node) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let shape = self.shape(node.outputs[0])?;
        let channels = shape[1] as usize;
        let zeros = |index: usize| match node.inputs.get(index).copied().flatten() {
            Some(_) => Ok(self.constant(node, index)?.to_i64()),
            None => Ok(vec![0]),
        };
        let (x_zero, w_zero) = (zeros(2)?, zeros(3)?);
        let (&[x_zero], true) = (&x_zero[..], w_zero.len() == 1 || w_zero.len() == channels) else {
            return refuse(format!("{} and {} zero points", x_zero.len(), w_zero.len()), "one of the input");
        };
        let each = |values: Vec<i64>| if values.len() == 1 { vec![values[0]; channels] } else { values };
        let key = self.layer(node, &[]);
        let weights = self.weights(&key, |s| Weights::of_columns(s.constant(node, 1)?, &each(w_zero)))?;
        // Sums of what is less the input's zero point.
        let bias: Vec<i64> = weights.totals().map(|total| -x_zero * total).collect();
        let biased = bias.iter().any(|&b| b != 0);
        let bias = words(bias.into_iter());
        let result = self.draft.tensor(Prec::Int32, true, shape);
        let parts = Products { kernel: [1, 1], zero: x_zero, signed: weights.signed, rows: &weights.values };
        let inner = self.inner(x.shape[1], parts.taps());
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let (buffer, [bias, at, _]) =
                lowering.packed((key.clone(), own.clone(), None), range.len() as u32, |image| {
                    let bias = biased.then(|| image.section(&bias[own.clone()], 4, 4));
                    [bias, (inner.len() == 1).then(|| parts.section(image, &own, &inner[0])), None]
                });
            let [bias, at] = [bias, at].map(|offset| Some(Place::Local(buffer?, offset?)));
            (own, bias, at)
        };
        let row = RowBytes { constants: parts.row_bytes(&inner), sums: 0 };
        self.in_blocks(x, result, row, false, load, |lowering, (own, bias, at), x, result| {
            lowering.sums(x, result, &Window::plain(), &parts, &key, own, (&inner, *at));
            if let Some(bias) = *bias {
                lowering.draft.with_channels(2, result, bias, Prec::Int32, result);
            }
        });
        Ok(result)
    }

    /// Whether a node is arithmetic on integers of 32 bits.
    pub(super) fn is_sum(&self, node: &Node) -> bool {
        self.graph.ty(node.outputs[0]).dtype == DType::I32
    }

    /// Adds a constant to integers of 32 bits.
    pub(super) fn add_constant(&mut self, node: &Node, function: BinaryFn) -> Result<Home, Refusal> {
        let accepted = "a sum with one value per result channel";
        let constant = |index: usize| node.inputs[index].is_some_and(|value| self.graph.constant(value).is_some());
        let (x, by) = if constant(0) { (1, 0) } else { (0, 1) };
        if function != BinaryFn::Add || !constant(by) {
            return refuse(format!("`{function}` of integers of 32 bits"), accepted);
        }
        let (x, values) = (self.input(node, x)?, self.constant(node, by)?.clone());
        let rank = self.graph.ty(node.outputs[0]).rank();
        let own =
            super::extents(&[vec![1; rank.saturating_sub(values.shape().len())], values.shape().to_vec()].concat())?;
        if own != [1, x.shape[1], 1, 1] {
            return refuse(format!("a summand of shape {:?}", values.shape()), accepted);
        }
        let mut image = Image::new(x.shape[1]);
        let words: Vec<Vec<u8>> = values.to_i64().iter().map(|&b| (b as i32).to_le_bytes().to_vec()).collect();
        let at = image.section(&words, 4, 4);
        let constants = self.draft.constants(&image);
        let result = self.draft.tensor(Prec::Int32, true, x.shape);
        self.draft.with_channels(2, x, Place::Local(constants, at), Prec::Int32, result);
        Ok(result)
    }

    /// Reads the parameters of an operator with so many result channels.
    fn parameters(&self, node: &Node, channels: u32) -> Result<Parameters, Refusal> {
        let channels = channels as usize;
        let one = |index: usize| -> Result<f32, Refusal> {
            let tensor = self.constant(node, index)?;
            match *tensor.to_f64() {
                [value] => Ok(value as f32),
                ref many => refuse(format!("{} values in operand {index}", many.len()), "one"),
            }
        };
        let each = |values: Vec<f64>, index: usize| match values.len() {
            1 => Ok(vec![values[0]; channels]),
            n if n == channels => Ok(values),
            n => refuse(format!("{n} values in operand {index}"), format!("1 or {channels}")),
        };
        let (x_scale, y_scale) = (one(1)?, one(6)?);
        let w_scale = each(self.constant(node, 4)?.to_f64(), 4)?;
        let w_zero = each(self.constant(node, 5)?.to_f64(), 5)?;
        let zero = self.constant(node, 7)?;
        let bias = match node.inputs.get(8).copied().flatten() {
            Some(_) => self.constant(node, 8)?.to_i64(),
            None => vec![0; channels],
        };
        Ok(Parameters {
            x_zero: one(2)? as i64,
            w_zero: w_zero.into_iter().map(|v| v as i64).collect(),
            scales: w_scale.into_iter().map(|w| x_scale * w as f32 / y_scale).collect(),
            zero: zero.to_i64()[0],
            signed: zero.dtype() == DType::I8,
            bias,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "operands, geometry and numbers of one convolution")]
    fn convolution(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        parameters: &Parameters,
        (key, weights): (&LayerKey, &Weights),
        contract: Requantize,
    ) -> Result<Home, Refusal> {
        let contracts = weights.contracts(parameters, x.signed, contract);
        let way = self.way(&contracts)?;
        let numbers = Numbers { parameters, contracts: &contracts, way: &way };
        let key = &key.with(&[x.signed.into(), contract as u32]);
        if let Some(gather) = Gather::best(x, shape, window, kernel) {
            let x = self.taken_apart(x, shape, window, kernel, &gather, parameters.x_zero);
            let (window, rows) = (gather.rest(window), gather.weights(&weights.values, kernel));
            let (zero, signed) = (parameters.x_zero, weights.signed);
            let parts = Products { kernel: [1, gather.taps], zero, signed, rows: &rows };
            let key = key.with(&[gather.columns]);
            return Ok(self.products(x, shape, &window, &numbers, &key, &parts));
        }
        let parts = Products { kernel, zero: parameters.x_zero, signed: weights.signed, rows: &weights.values };
        Ok(self.products(x, shape, window, &numbers, key, &parts))
    }

    /// The commands of a convolution and what makes bytes of its sums.
    fn products(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        numbers: &Numbers<'_>,
        key: &LayerKey,
        parts: &Products<'_>,
    ) -> Home {
        let Numbers { parameters, contracts, way } = *numbers;
        let (table, biased) = (table_rows(way), adds_bias(contracts, way));
        let result = self.draft.tensor(Prec::Int8, parameters.signed, shape);
        let inner = self.inner(x.shape[1], parts.taps());
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let (buffer, [table, bias, at]) =
                lowering.packed((key.clone(), own.clone(), None), range.len() as u32, |image| {
                    let table = image.section(&table[own.clone()], 64, 64);
                    let bias =
                        biased.then(|| image.section(&words(contracts[own.clone()].iter().map(|c| c.bias)), 4, 4));
                    [Some(table), bias, (inner.len() == 1).then(|| parts.section(image, &own, &inner[0]))]
                });
            let place = |offset: Option<u32>| Some(Place::Local(buffer?, offset?));
            (own, place(table), place(bias), place(at))
        };
        let row =
            RowBytes { constants: parts.row_bytes(&inner), sums: lane_bytes(Prec::Int32, [1, 1, shape[2], shape[3]]) };
        self.in_blocks(x, result, row, false, load, |lowering, (own, table, bias, at), x, result| {
            let sums = lowering.draft.tensor(Prec::Int32, true, result.shape);
            lowering.sums(x, sums, window, parts, key, own, (&inner, *at));
            let table = Scales::Table(table.expect("every channel has a row of the table"));
            lowering.draft.requantize(sums, way, Constants { table, bias: *bias }, parameters.zero, result);
        });
        result
    }

    /// The commands of a convolution for result channels `own`, whose weights are at a place if they are loaded already.
    #[expect(clippy::too_many_arguments, reason = "operands, geometry and constants of one convolution")]
    fn sums(
        &mut self,
        x: Home,
        sums: Home,
        window: &Window,
        parts: &Products<'_>,
        key: &LayerKey,
        own: &Range<usize>,
        (inner, at): (&[Range<u32>], Option<Place>),
    ) {
        for range in inner {
            let weights = at.unwrap_or_else(|| {
                let key = (key.clone(), own.clone(), Some(range.clone()));
                let (buffer, [at, ..]) =
                    self.packed(key, own.len() as u32, |image| [Some(parts.section(image, own, range)), None, None]);
                let (buffer, at) = buffer.zip(at).expect("weights have bytes");
                Place::Local(buffer, at)
            });
            let (x, place) = channels(x, range);
            let conv = Conv {
                opd0_sign: x.signed.into(),
                opd1_sign: parts.signed.into(),
                opd2_const: 1,
                opd3_addr: parts.zero as u32 & 0xff,
                res_add: u32::from(range.start > 0),
                ..window.conv(x, sums, parts.kernel)
            };
            let to = Place::Local(sums.buffer, 0);
            self.draft.push(conv, vec![("opd0_addr", place), ("opd1_addr", weights), ("res0_addr", to)]);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "operands, geometry and numbers of one convolution")]
    fn depthwise(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        parameters: &Parameters,
        weights: &Weights,
        contract: Requantize,
    ) -> Result<Home, Refusal> {
        // The bias is an operand of the command here, so the sums have it already.
        let mut contracts = weights.contracts(parameters, x.signed, contract);
        let bias = words(contracts.iter().map(|c| c.bias));
        for contract in &mut contracts {
            let (lo, hi) = contract.sums;
            contract.sums = (lo + contract.bias, hi + contract.bias);
            contract.bias = 0;
        }
        let way = self.way(&contracts)?;
        let table = table_rows(&way);
        let taps = (kernel[0] * kernel[1]) as usize;
        let rows: Vec<Vec<u8>> = weights.values.iter().map(|row| row.iter().map(|&w| w as u8).collect()).collect();
        let result = self.draft.tensor(Prec::Int8, parameters.signed, shape);
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let mut image = Image::new(range.len() as u32);
            let table = image.section(&table[own.clone()], 64, 64);
            let bias = image.section(&bias[own.clone()], 4, 4);
            let at = image.section(&rows[own.clone()], taps, 1);
            let constants = lowering.draft.constants(&image);
            [table, bias, at].map(|offset| Place::Local(constants, offset))
        };
        let row = RowBytes { constants: 64, sums: lane_bytes(Prec::Int32, [1, 1, shape[2], shape[3]]) };
        self.in_blocks(x, result, row, true, load, |lowering, [table, bias, at], x, result| {
            let sums = lowering.draft.tensor(Prec::Int32, true, result.shape);
            let pool = Pool {
                opd1_sign: weights.signed.into(),
                opd2_sign: 1,
                ..depthwise(x, sums, window, kernel, parameters.x_zero)
            };
            let places = vec![
                ("opd0_addr", Place::Local(x.buffer, 0)),
                ("opd1_addr", *at),
                ("opd2_addr", *bias),
                ("res0_addr", Place::Local(sums.buffer, 0)),
            ];
            lowering.draft.push(pool, places);
            let constants = Constants { table: Scales::Table(*table), bias: None };
            lowering.draft.requantize(sums, &way, constants, parameters.zero, result);
        });
        Ok(result)
    }

    /// The commands for a requantization.
    pub(super) fn way(&mut self, contracts: &[Contract]) -> Result<Way, Refusal> {
        let found = || {
            let first = contracts.first().map_or_else(String::new, |c| format!("{} by {}", c.contract, c.scale));
            format!("a requantization that the chip cannot do exactly ({first})")
        };
        let key = contracts.iter().map(Contract::key).collect();
        let way = self.memo.ways.entry(key).or_insert_with(|| choose(contracts));
        way.clone().map_or_else(|| refuse(found(), "`f32_rne`, or another that its integer form equals"), Ok)
    }
}

/// What makes bytes of the sums of a convolution.
struct Numbers<'a> {
    parameters: &'a Parameters,
    contracts: &'a [Contract],
    way: &'a Way,
}

/// Whether the way wants the bias of every channel.
fn adds_bias(contracts: &[Contract], way: &Way) -> bool {
    way.adds_bias() && contracts.iter().any(|c| c.bias != 0)
}

/// Integers as rows of 32 bits.
fn words(values: impl Iterator<Item = i64>) -> Vec<Vec<u8>> {
    values.map(|value| (value as i32).to_le_bytes().to_vec()).collect()
}
