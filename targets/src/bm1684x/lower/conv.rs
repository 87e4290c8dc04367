//! Quantized convolutions and matrix products.

use std::ops::Range;

use adze_ir::graph::Node;
use adze_ir::ops::{BinaryFn, QLinearConv, QLinearMatMul};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::isa::{Conv, Pool, Prec};
use super::super::machine::{CONV_CHANNELS, CONV_CHANNELS_HALF, LANES, MAX_EXTENT, MAX_WINDOW, UNIT_BYTES};
use super::super::sim::from_float;
use super::blocks::{RowBytes, channels};
use super::build::{Home, Image, Place, lane_bytes};
use super::commands::{Constants, Scales, table_rows};
use super::places::Region;
use super::requant::{Contract, Way, byte_range, choose};
use super::{Lowering, Refusal, pool, refuse};

/// Quantization parameters of an operator with one scale per result channel, as its operands 1 to 8 give them.
struct Parameters {
    x_zero: i64,
    /// `[oc][..]`, row-major.
    weights: Tensor,
    /// Per result channel.
    w_zero: Vec<i64>,
    /// Of the sums over that of the result, per channel.
    scales: Vec<f32>,
    zero: i64,
    signed: bool,
    bias: Vec<i64>,
}

/// Geometry of a convolution.
pub(super) struct Window {
    pub(super) strides: [u32; 2],
    /// Above, left, below, right.
    pub(super) pads: [u32; 4],
    pub(super) dilations: [u32; 2],
    /// Values between neighbours of the input along H and W.
    pub(super) inserted: [u32; 2],
}

impl Window {
    /// That of a product of matrices.
    pub(super) fn plain() -> Self {
        Self { strides: [1, 1], pads: [0; 4], dilations: [1, 1], inserted: [0; 2] }
    }

    /// The command of a convolution of one group, as far as the geometry says it; what stands in the pads is a constant, 0 as yet.
    pub(super) fn conv(&self, x: Home, result: Home, kernel: [u32; 2]) -> Conv {
        let [up, lf, dn, rt] = self.pads;
        Conv {
            res0_prec: result.prec.code(),
            opd3_const: 1,
            opd0_up_pad: up,
            opd0_dn_pad: dn,
            opd0_lf_pad: lf,
            opd0_rt_pad: rt,
            res_op_y_str: self.strides[0],
            res_op_x_str: self.strides[1],
            opd0_y_ins0: self.inserted[0],
            opd0_x_ins0: self.inserted[1],
            opd1_y_ins0: self.dilations[0] - 1,
            opd1_x_ins0: self.dilations[1] - 1,
            res0_n: result.shape[0],
            res0_c: result.shape[1],
            res0_h: result.shape[2],
            res0_w: result.shape[3],
            opd0_c: x.shape[1],
            opd0_h: x.shape[2],
            opd0_w: x.shape[3],
            opd1_h: kernel[0],
            opd1_w: kernel[1],
            ..Conv::default()
        }
    }

    /// The geometry along one or two axes. Pads and dilations may be ones that commands have no room for ([`Lowering::fitted`]).
    pub(super) fn new(strides: &[i64], pads: &[i64], dilations: &[i64]) -> Result<Self, Refusal> {
        let most = MAX_WINDOW.into();
        let pads = match numbers("pads", pads, 0, MAX_EXTENT.into())?[..] {
            [left, right] => [0, left, 0, right],
            [up, left, down, right] => [up, left, down, right],
            ref pads => return refuse(format!("pads of {} sides", pads.len()), "two or four sides"),
        };
        Ok(Self {
            strides: axes("strides", strides, 1, most)?,
            pads,
            dilations: axes("dilations", dilations, 1, MAX_EXTENT.into())?,
            inserted: [0; 2],
        })
    }

    /// By how much a kernel is stretched for dilations that commands have room for: with as few zeros as can be.
    fn stretch(&self, kernel: [u32; 2]) -> [u32; 2] {
        std::array::from_fn(|axis| {
            let dilation = if kernel[axis] == 1 { 1 } else { self.dilations[axis] };
            let by = (1..=dilation).find(|by| dilation.is_multiple_of(*by) && dilation / by <= MAX_WINDOW);
            by.unwrap_or(dilation)
        })
    }
}

/// Attributes in a range.
pub(super) fn numbers(name: &'static str, values: &[i64], least: i64, most: i64) -> Result<Vec<u32>, Refusal> {
    if values.iter().all(|v| (least..=most).contains(v)) {
        Ok(values.iter().map(|&v| v as u32).collect())
    } else {
        refuse(format!("{name} {values:?}"), format!("{least} to {most}"))
    }
}

/// Attributes along one or two axes, in a range.
pub(super) fn axes(name: &'static str, values: &[i64], least: i64, most: i64) -> Result<[u32; 2], Refusal> {
    match numbers(name, values, least, most)?[..] {
        [w] => Ok([1, w]),
        [h, w] => Ok([h, w]),
        _ => refuse(format!("{name} along {} axes", values.len()), "one or two axes"),
    }
}

/// Planes of a kernel with zeros between its elements.
fn stretched<T: Copy + Default>(values: &[T], [kh, kw]: [u32; 2], by: [u32; 2]) -> Vec<T> {
    let [kh, kw, by_h, by_w] = [kh, kw, by[0], by[1]].map(|v| v as usize);
    let width = (kw - 1) * by_w + 1;
    let plane = |plane: &[T]| {
        let mut wide = vec![T::default(); ((kh - 1) * by_h + 1) * width];
        for (at, &value) in plane.iter().enumerate() {
            wide[at / kw * by_h * width + at % kw * by_w] = value;
        }
        wide
    };
    values.chunks(kh * kw).flat_map(plane).collect()
}

/// A convolution whose geometry commands have room for.
pub(super) struct Fitted<T> {
    pub(super) x: Home,
    pub(super) window: Window,
    pub(super) kernel: [u32; 2],
    /// Weights of every result channel.
    pub(super) weights: Vec<Vec<T>>,
}

impl Lowering<'_> {
    /// Brings pads that commands have no room for into the input, and dilations into the kernel. `border` are the bits of what
    /// stands in the pads.
    pub(super) fn fitted<T: Copy + Default>(
        &mut self,
        mut x: Home,
        mut window: Window,
        mut kernel: [u32; 2],
        mut weights: Vec<Vec<T>>,
        border: u32,
    ) -> Result<Fitted<T>, Refusal> {
        let by = window.stretch(kernel);
        if by != [1, 1] {
            weights.iter_mut().for_each(|row| *row = stretched(row, kernel, by));
        }
        for axis in 0..2 {
            window.dilations[axis] = if kernel[axis] == 1 { 1 } else { window.dilations[axis] / by[axis] };
            kernel[axis] = (kernel[axis] - 1) * by[axis] + 1;
        }
        if window.pads.iter().any(|&pad| pad > MAX_WINDOW) {
            let [up, lf, dn, rt] = window.pads;
            if window.inserted != [0, 0] {
                return refuse(
                    format!("pads {:?} of a transposed convolution", window.pads),
                    format!("0 to {MAX_WINDOW}"),
                );
            }
            let [n, c, h, w] = x.shape;
            let shape = super::extents(&[n, c, up + h + dn, lf + w + rt].map(|d| d as usize))?;
            let padded = self.draft.tensor(x.prec, x.signed, shape);
            self.draft.fill(padded, border);
            let to = Region { at: [0, 0, up, lf], ..Region::default() };
            self.draft.copy_region(x, Region::default(), padded, to, x.shape);
            (x, window.pads) = (padded, [0; 4]);
        }
        Ok(Fitted { x, window, kernel, weights })
    }
}

impl Lowering<'_> {
    /// Lowers a quantized convolution.
    pub(super) fn qlinear_conv(&mut self, node: &Node, conv: &QLinearConv) -> Result<Home, Refusal> {
        let window = Window::new(&conv.strides, &conv.pads, &conv.dilations)?;
        let x = self.input(node, 0)?;
        let weights = self.constant(node, 3)?.clone();
        let parameters = self.parameters(node, weights)?;
        let [oc, ic, kh, kw] = super::extents(parameters.weights.shape())?;
        let groups = x.shape[1] / ic;
        let shape = self.shape(node.outputs[0])?;
        let weights = Weights::of(&parameters.weights, &parameters.w_zero)?;
        let border = parameters.x_zero as u32 & 0xff;
        let Fitted { x, window, kernel, weights: values } = self.fitted(x, window, [kh, kw], weights.values, border)?;
        let weights = Weights { values, signed: weights.signed };
        if groups > 1 && ic == 1 && oc == groups {
            return self.depthwise(x, shape, &window, kernel, &parameters, weights, conv.contract);
        }
        self.convolution(x, shape, &window, kernel, &parameters, weights, conv.contract)
    }

    /// Lowers a quantized matrix product with constant weights: a convolution of 1 by 1 with rows as N.
    pub(super) fn qlinear_matmul(&mut self, node: &Node, op: &QLinearMatMul) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let turned = columns(self.constant(node, 3)?)?;
        let parameters = self.parameters(node, turned)?;
        let window = Window::plain();
        let shape = self.shape(node.outputs[0])?;
        let weights = Weights::of(&parameters.weights, &parameters.w_zero)?;
        self.convolution(x, shape, &window, [1, 1], &parameters, weights, op.contract)
    }

    /// Lowers a matrix product with constant weights to 32 bits.
    pub(super) fn matmul_integer(&mut self, node: &Node) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let weights = columns(self.constant(node, 1)?)?;
        let channels = weights.shape()[0];
        let zeros = |index: usize| match node.inputs.get(index).copied().flatten() {
            Some(_) => Ok(self.constant(node, index)?.to_i64()),
            None => Ok(vec![0]),
        };
        let (x_zero, w_zero) = (zeros(2)?, zeros(3)?);
        let (&[x_zero], true) = (&x_zero[..], w_zero.len() == 1 || w_zero.len() == channels) else {
            return refuse(format!("{} and {} zero points", x_zero.len(), w_zero.len()), "one of the input");
        };
        let each = |values: Vec<i64>| if values.len() == 1 { vec![values[0]; channels] } else { values };
        let weights = Weights::of(&weights, &each(w_zero))?;
        // Sums of what is less the input's zero point.
        let bias: Vec<i64> = weights.values.iter().map(|row| -x_zero * row.iter().sum::<i64>()).collect();
        let shape = self.shape(node.outputs[0])?;
        let biased = bias.iter().any(|&b| b != 0);
        let bias = words(bias.into_iter());
        let result = self.draft.tensor(Prec::Int32, true, shape);
        let parts = Products { kernel: [1, 1], zero: x_zero, signed: weights.signed, rows: &weights.values };
        let inner = self.inner(x.shape[1], parts.taps());
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let mut image = Image::new(range.len() as u32);
            let bias = biased.then(|| image.section(&bias[own.clone()], 4, 4));
            let at = (inner.len() == 1).then(|| parts.section(&mut image, &own, &inner[0]));
            let constants = (image.bytes() > 0).then(|| lowering.draft.constants(&image));
            let place =
                |offset: Option<u32>| constants.zip(offset).map(|(constants, offset)| Place::Local(constants, offset));
            (own, place(bias), place(at))
        };
        let row = RowBytes { constants: parts.row_bytes(&inner), sums: 0 };
        self.in_blocks(x, result, row, false, load, |lowering, (own, bias, at), x, result| {
            lowering.sums(x, result, &Window::plain(), &parts, own, (&inner, *at));
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

    /// Reads the parameters; `weights` have result channels first.
    fn parameters(&self, node: &Node, weights: Tensor) -> Result<Parameters, Refusal> {
        let channels = weights.shape()[0];
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
            weights,
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
        weights: Weights,
        contract: Requantize,
    ) -> Result<Home, Refusal> {
        let taps = (kernel[0] * kernel[1]) as usize;
        let weights = weights.of_one_group(x.shape[1] as usize * taps);
        let contracts = weights.contracts(parameters, x.signed, contract);
        let way = self.way(&contracts)?;
        if let Some(gather) = Gather::best(x, shape, window, kernel) {
            let x = self.taken_apart(x, shape, window, kernel, &gather, parameters.x_zero);
            let weights = Weights { values: gather.weights(&weights.values, kernel), ..weights };
            let window = gather.rest(window);
            let kernel = [1, gather.taps];
            return Ok(self.products(x, shape, &window, kernel, parameters, &weights, &contracts, &way));
        }
        Ok(self.products(x, shape, window, kernel, parameters, &weights, &contracts, &way))
    }

    /// Does the first part of a [`Gather`]; `zero` is what stands in pads.
    pub(super) fn taken_apart(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        gather: &Gather,
        zero: i64,
    ) -> Home {
        let taps = kernel[0] * gather.columns;
        let spread = self.draft.spread(x, taps);
        let channels = spread.shape[1];
        let int = x.prec.is_int();
        let es = x.prec.bytes() as usize;
        let bits = |value: bool| if int { value.into() } else { from_float(f32::from(value), x.prec) };
        let one = |tap: u32| (0..taps).flat_map(|at| bits(at == tap).to_le_bytes().into_iter().take(es)).collect();
        let rows: Vec<Vec<u8>> = (0..channels).map(|channel| one(channel % taps)).collect();
        let mut image = Image::new(channels);
        let at = image.section(&rows, taps as usize * es, es);
        let constants = self.draft.constants(&image);
        let result = self.draft.tensor(x.prec, x.signed, [shape[0], channels, shape[2], gather.width]);
        let [up, lf, dn, _] = window.pads;
        let first = Window {
            strides: [window.strides[0], gather.stride],
            pads: [up, lf, dn, gather.right],
            dilations: window.dilations,
            inserted: [0; 2],
        };
        let pool = Pool {
            // The result is unsigned with the ReLU, which does nothing to what is.
            eu: if x.signed { 0 } else { 2 },
            opd1_sign: int.into(),
            opd2_sign: int.into(),
            opd2_const: 1,
            ..depthwise(spread, result, &first, [kernel[0], gather.columns], zero)
        };
        let places = vec![
            ("opd0_addr", Place::Local(spread.buffer, 0)),
            ("opd1_addr", Place::Local(constants, at)),
            ("res0_addr", Place::Local(result.buffer, 0)),
        ];
        self.draft.push(pool, places);
        result
    }

    /// The commands of a convolution and what makes bytes of its sums.
    #[expect(clippy::too_many_arguments, reason = "operands, geometry and numbers of one convolution")]
    fn products(
        &mut self,
        x: Home,
        shape: [u32; 4],
        window: &Window,
        kernel: [u32; 2],
        parameters: &Parameters,
        weights: &Weights,
        contracts: &[Contract],
        way: &Way,
    ) -> Home {
        let (table, biased) = (table_rows(way), adds_bias(contracts, way));
        let result = self.draft.tensor(Prec::Int8, parameters.signed, shape);
        let parts = Products { kernel, zero: parameters.x_zero, signed: weights.signed, rows: &weights.values };
        let inner = self.inner(x.shape[1], parts.taps());
        let load = |lowering: &mut Self, range: Range<u32>| {
            let own = range.start as usize..range.end as usize;
            let mut image = Image::new(range.len() as u32);
            let table = image.section(&table[own.clone()], 64, 64);
            let bias = biased.then(|| image.section(&words(contracts[own.clone()].iter().map(|c| c.bias)), 4, 4));
            let at = (inner.len() == 1).then(|| parts.section(&mut image, &own, &inner[0]));
            let constants = lowering.draft.constants(&image);
            let place = |offset| Place::Local(constants, offset);
            (own, Constants { table: Scales::Table(place(table)), bias: bias.map(place) }, at.map(place))
        };
        let row =
            RowBytes { constants: parts.row_bytes(&inner), sums: lane_bytes(Prec::Int32, [1, 1, shape[2], shape[3]]) };
        self.in_blocks(x, result, row, false, load, |lowering, (own, constants, at), x, result| {
            let sums = lowering.draft.tensor(Prec::Int32, true, result.shape);
            lowering.sums(x, sums, window, &parts, own, (&inner, *at));
            lowering.draft.requantize(sums, way, *constants, parameters.zero, result);
        });
        result
    }

    /// The commands of a convolution for result channels `own`, whose weights are at a place if they are loaded already.
    fn sums(
        &mut self,
        x: Home,
        sums: Home,
        window: &Window,
        parts: &Products<'_>,
        own: &Range<usize>,
        (inner, at): (&[Range<u32>], Option<Place>),
    ) {
        for range in inner {
            let weights = at.unwrap_or_else(|| {
                let mut image = Image::new(own.len() as u32);
                let at = parts.section(&mut image, own, range);
                Place::Local(self.draft.constants(&image), at)
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
        weights: Weights,
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

/// The geometry of a depthwise convolution.
pub(super) fn depthwise(x: Home, result: Home, window: &Window, kernel: [u32; 2], zero: i64) -> Pool {
    let [up, lf, dn, rt] = window.pads;
    Pool {
        opd3_addr: zero as u32 & 0xff,
        opd0_up_pad: up,
        opd0_dn_pad: dn,
        opd0_lf_pad: lf,
        opd0_rt_pad: rt,
        opd1_y_ins0: window.dilations[0] - 1,
        opd1_x_ins0: window.dilations[1] - 1,
        ..pool(x, result, kernel, window.strides)
    }
}

/// A convolution of few channels in two parts, where most of the 64 products per cycle would be idle. Each channel is copied to
/// as many lanes as the kernel has rows, times `columns`; a depthwise convolution with a single 1 per lane takes what one row
/// and one of the first columns of the kernel see; a convolution of height 1 sums that over the other columns.
pub(super) struct Gather {
    /// Columns of the kernel that get lanes of their own.
    columns: u32,
    /// Columns that the second part has: every `columns`-th of the kernel.
    pub(super) taps: u32,
    /// Stride along W of the first part; the second has the rest.
    stride: u32,
    /// Width of what is in between.
    width: u32,
    /// Pad on the right of the first part.
    right: u32,
}

impl Gather {
    /// The one with the fewest cycles, by the formulas of `cost`; none where the convolution as it is takes fewer.
    pub(super) fn best(x: Home, shape: [u32; 4], window: &Window, kernel: [u32; 2]) -> Option<Gather> {
        let per_cycle = u64::from(UNIT_BYTES / x.prec.bytes());
        let summed = if x.prec.is_int() { CONV_CHANNELS } else { CONV_CHANNELS_HALF };
        let x = x.shape;
        let plane = |h: u32, w: u32| u64::from(h) * u64::from(w);
        let product = u64::from(shape[1].div_ceil(LANES)) * plane(shape[2], shape[3]).div_ceil(4);
        let taps = u64::from(kernel[0]) * u64::from(kernel[1]);
        let direct = product * taps * u64::from(x[1].div_ceil(summed));
        let lanes = |columns: u32| x[1].saturating_mul(kernel[0]).saturating_mul(columns);
        let cycles = |gather: &Gather| {
            let slow = if window.strides[0] > 1 && gather.stride > 1 { 3 } else { 1 };
            let select =
                u64::from(kernel[0] * gather.columns) * slow * plane(shape[2], gather.width).div_ceil(per_cycle);
            let groups = u64::from(lanes(gather.columns).div_ceil(summed));
            u64::from(x[1]) * plane(x[2], x[3]).div_ceil(per_cycle) + select + product * u64::from(gather.taps) * groups
        };
        let ways = (1..=kernel[1]).filter(|&columns| taps > 1 && lanes(columns) <= LANES);
        let ways = ways.filter_map(|columns| Gather::of(x, shape, window, kernel, columns));
        ways.min_by_key(cycles).filter(|gather| cycles(gather) < direct)
    }

    /// The one with so many columns, if its pads and dilations are ones that commands have.
    fn of(x: [u32; 4], shape: [u32; 4], window: &Window, kernel: [u32; 2], columns: u32) -> Option<Gather> {
        let ([_, dilation], [_, left, _, right]) = (window.dilations, window.pads);
        if columns == kernel[1] {
            return Some(Gather { columns, taps: 1, stride: window.strides[1], width: shape[3], right });
        }
        let taps = kernel[1].div_ceil(columns);
        let width = (shape[3] - 1) * window.strides[1] + (taps - 1) * columns * dilation + 1;
        let right = (width + (columns - 1) * dilation).checked_sub(x[3] + left)?;
        let fits = right <= MAX_WINDOW && columns * dilation <= MAX_WINDOW && width <= MAX_EXTENT;
        fits.then_some(Gather { columns, taps, stride: 1, width, right })
    }

    /// Geometry of the second part.
    pub(super) fn rest(&self, window: &Window) -> Window {
        let (stride, dilation) = match self.taps {
            1 => (1, 1),
            _ => (window.strides[1], window.dilations[1] * self.columns),
        };
        Window { strides: [1, stride], dilations: [1, dilation], ..Window::plain() }
    }

    /// Weights of the second part: `[oc][ic · kh · columns][1][taps]`, zero where the kernel has no such column.
    pub(super) fn weights<T: Copy + Default>(&self, rows: &[Vec<T>], kernel: [u32; 2]) -> Vec<Vec<T>> {
        let (kw, columns, taps) = (kernel[1] as usize, self.columns as usize, self.taps as usize);
        let line = |line: &[T]| -> Vec<T> {
            let at = (0..columns).flat_map(|column| (0..taps).map(move |tap| column + tap * columns));
            at.map(|at| line.get(at).copied().unwrap_or_default()).collect()
        };
        rows.iter().map(|row| row.chunks(kw).flat_map(line).collect()).collect()
    }
}

/// Whether the way wants the bias of every channel.
fn adds_bias(contracts: &[Contract], way: &Way) -> bool {
    way.adds_bias() && contracts.iter().any(|c| c.bias != 0)
}

/// Integers as rows of 32 bits.
fn words(values: impl Iterator<Item = i64>) -> Vec<Vec<u8>> {
    values.map(|value| (value as i32).to_le_bytes().to_vec()).collect()
}

/// What commands of a convolution have in common.
struct Products<'a> {
    kernel: [u32; 2],
    /// What stands in pads.
    zero: i64,
    /// Whether weights are signed.
    signed: bool,
    /// Weights of every result channel.
    rows: &'a [Vec<i64>],
}

impl Products<'_> {
    fn taps(&self) -> u64 {
        u64::from(self.kernel[0]) * u64::from(self.kernel[1])
    }

    /// Bytes of a row of result channels in a lane, with what goes with it.
    fn row_bytes(&self, inner: &[Range<u32>]) -> u64 {
        let widest = inner.first().map_or(0, |range| range.len().next_multiple_of(CONV_CHANNELS as usize));
        widest as u64 * self.taps() + 64
    }

    /// Weights of result channels `own` and input channels `inner` in an image.
    fn section(&self, image: &mut Image, own: &Range<usize>, inner: &Range<u32>) -> u32 {
        let taps = self.taps() as usize;
        let columns = inner.start as usize * taps..inner.end as usize * taps;
        let rows = self.rows[own.clone()].iter().map(|row| &row[columns.clone()]);
        let rows = packed(rows, inner.len(), taps);
        image.section(&rows, rows.first().map_or(0, Vec::len), 64)
    }
}

/// A constant matrix `[k, n]` as weights of a convolution of 1 by 1.
fn columns(matrix: &Tensor) -> Result<Tensor, Refusal> {
    let &[k, n] = matrix.shape() else {
        return refuse(format!("weights of rank {}", matrix.shape().len()), "rank 2");
    };
    let values = matrix.to_ints();
    let turned: Vec<i128> = (0..n).flat_map(|o| values.iter().skip(o).step_by(n).copied()).collect();
    Ok(Tensor::from_ints(matrix.dtype(), &[n, k, 1, 1], &turned))
}

/// Weights of every result channel without zero points.
struct Weights {
    values: Vec<Vec<i64>>,
    signed: bool,
}

impl Weights {
    /// Weights less their zero points, if they have 8 bits then.
    fn of(weights: &Tensor, zeros: &[i64]) -> Result<Self, Refusal> {
        let stored = weights.to_i64();
        let row = stored.len() / zeros.len().max(1);
        let rows = stored.chunks(row.max(1)).zip(zeros);
        let values: Vec<Vec<i64>> = rows.map(|(row, zero)| row.iter().map(|w| w - zero).collect()).collect();
        let all = |(lo, hi): (i64, i64)| values.iter().flatten().all(|w| (lo..=hi).contains(w));
        let signed = all(byte_range(true));
        if !signed && !all(byte_range(false)) {
            return refuse("weights that leave 8 bits without their zero points", "-128 to 127, or 0 to 255");
        }
        Ok(Self { values, signed })
    }

    /// The same with rows of so many weights: groups become one, with zeros for the channels of the others.
    fn of_one_group(self, length: usize) -> Self {
        let channels = self.values.len();
        let row = self.values.first().map_or(1, Vec::len).max(1);
        let each = (channels * row).div_ceil(length.max(1)).max(1);
        let spread = |(channel, row): (usize, &Vec<i64>)| {
            let mut values = vec![0; length];
            let start = channel / each * row.len();
            values[start..start + row.len()].copy_from_slice(row);
            values
        };
        let values = self.values.iter().enumerate().map(spread).collect();
        Self { values, signed: self.signed }
    }

    /// What sums of every channel are to become. The zero point of the input is in the bias; padding is that zero point.
    fn contracts(&self, parameters: &Parameters, x_signed: bool, contract: Requantize) -> Vec<Contract> {
        let (lo, hi) = byte_range(x_signed);
        let one = |(channel, row): (usize, &Vec<i64>)| {
            let end =
                |at_plus: i64, at_minus: i64| row.iter().map(|&w| w * if w > 0 { at_plus } else { at_minus }).sum();
            Contract {
                contract,
                scale: parameters.scales[channel],
                bias: parameters.bias[channel] - parameters.x_zero * row.iter().sum::<i64>(),
                zero: parameters.zero,
                range: byte_range(parameters.signed),
                sums: (end(lo, hi), end(hi, lo)),
            }
        };
        self.values.iter().enumerate().map(one).collect()
    }
}

/// Weights `[oc][ic][kh][kw]` as `[oc][ic / 64][kh][kw][64]`, missing channels zero.
fn packed<'a>(rows: impl Iterator<Item = &'a [i64]>, ic: usize, taps: usize) -> Vec<Vec<u8>> {
    let group = CONV_CHANNELS as usize;
    let pack = |row: &[i64]| {
        let mut bytes = vec![0; ic.div_ceil(group) * taps * group];
        for (index, &weight) in row.iter().enumerate() {
            let (channel, tap) = (index / taps, index % taps);
            bytes[(channel / group * taps + tap) * group + channel % group] = weight as u8;
        }
        bytes
    };
    rows.map(pack).collect()
}
