//! What stands between integers: a `quantize` with the float operators in front of it.
//!
//! Elementwise operators on one tensor of bytes are a table of 256 entries, which the reference evaluation itself fills in.
//! Two tensors have 65,536 pairs: of the ways in which the chip's floats add scaled values, the one is taken that gives the result
//! of the reference evaluation for every one of them. The model rounds a quotient twice, which can put single pairs on a tie that
//! no such way has: then the best one is taken, each such pair is one unit off, and a note says how many there are. Averages are sums of integers with one rounding, ties to even: the mean itself, where the
//! model adds up rounded floats. So they differ by at most one unit, and only where the mean is within rounding of a tie.

use std::collections::BTreeSet;

use adze_ir::graph::{Node, NodeId, ValueId};
use adze_ir::ops::{AveragePool, BinaryFn, Op, Quantize, ReduceFn};
use adze_ir::quant::Requantize;
use adze_ir::tensor::Tensor;
use adze_ir::tile;
use adze_ir::types::DType;

use super::super::isa::{Lookup, Prec, Requant};
use super::super::machine::{LANES, MAX_WINDOW, UNIT_BYTES};
use super::build::{Home, Image, Place};
use super::commands::{Constants, Scales, command_words};
use super::places::dense_parts;
use super::requant::{Contract, byte_range, neighbours};
use super::{Lowering, Refusal, pool, refuse, window_strides};

/// Float operators between integers.
pub(super) struct Cone {
    /// The operators, in order.
    nodes: Vec<NodeId>,
    /// The integers they start from.
    pub(super) leaves: Vec<ValueId>,
}

/// A scale and zero point that are the same for the whole tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) zero: i64,
}

/// Operators that compute each element from those at its position, and how it is stored.
pub fn is_elementwise(op: &Op) -> bool {
    let other = matches!(op, Op::Where(_) | Op::Fused(_));
    (tile::is_elementwise(op) && !other) || matches!(op, Op::Dequantize(_) | Op::Quantize(_) | Op::BatchNorm(_))
}

/// Whether every window of an average has all of its elements, in the tensor or in pads that commands have room for.
pub(super) fn is_mean_of_all(pool: &AveragePool) -> bool {
    let small = pool.pads.iter().all(|pad| (0..=MAX_WINDOW.into()).contains(pad));
    let counted = pool.count_include_pad || pool.pads.iter().all(|&pad| pad == 0);
    let dense = pool.dilations.iter().all(|&dilation| dilation == 1);
    small && counted && dense && pool.ceil_pads.iter().all(|&pad| pad == 0)
}

impl Lowering<'_> {
    /// Lowers a `quantize` and what is in front of it.
    pub(super) fn quantize(&mut self, node: &Node, op: &Quantize) -> Result<Home, Refusal> {
        let to = self.affine(node)?;
        if node.inputs[0].is_some_and(|value| self.values.contains_key(&value)) && !self.is_one(node) {
            return self.quantize_floats(node, to, op.to);
        }
        let producer = node.inputs[0].and_then(|value| self.graph.producer(value)).map(|(_, node)| node.clone());
        if let Some(anchor) = producer {
            match &anchor.op {
                Op::AveragePool(pool) if is_mean_of_all(pool) => {
                    let [kernel, strides] = [&pool.kernel, &pool.strides].map(|v| <[i64; 2]>::try_from(v.as_slice()));
                    let (Ok(kernel), Ok(strides), &[up, lf, dn, rt]) = (kernel, strides, &pool.pads[..]) else {
                        return refuse(format!("an average over {} axes", pool.kernel.len()), "2");
                    };
                    let pads = [up, lf, dn, rt].map(|pad| pad as u32);
                    return self.average(node, &anchor, kernel, strides, pads, to, op.to);
                }
                Op::Reduce(mean) if mean.function == ReduceFn::Mean && mean.axes == [2, 3] => {
                    let value = anchor.inputs[0].expect("a reduction has an operand");
                    let [_, _, h, w] = self.shape(value)?.map(i64::from);
                    return self.average(node, &anchor, [h, w], [1, 1], [0; 4], to, op.to);
                }
                Op::Softmax(softmax) => return self.softmax(node, &anchor, softmax.axis, to, op.to),
                _ => {}
            }
        }
        let cone = self.cone(node)?;
        match cone.leaves[..] {
            [leaf] => self.table(node, &cone, leaf),
            [a, b] => self.sum(node, &cone, [a, b], to, op.to),
            _ => refuse(format!("{} tensors of integers", cone.leaves.len()), "one or two"),
        }
    }

    /// Scale and zero point of a `quantize` or `dequantize`.
    pub(super) fn affine(&self, node: &Node) -> Result<Affine, Refusal> {
        let scale = self.constant(node, 1)?.to_f64();
        let zero = match node.inputs.get(2).copied().flatten() {
            Some(_) => self.constant(node, 2)?.to_i64(),
            None => vec![0],
        };
        match (&scale[..], &zero[..]) {
            (&[scale], &[zero]) => Ok(Affine { scale: scale as f32, zero }),
            _ => refuse("a scale per channel between integers", "a scale per tensor"),
        }
    }

    /// The integers behind a value of floats, if a `dequantize` gives it.
    pub(super) fn dequantized(&self, value: Option<ValueId>) -> Result<(ValueId, Affine), Refusal> {
        let producer = value.and_then(|value| self.graph.producer(value)).map(|(_, node)| node);
        match producer {
            Some(node) if matches!(node.op, Op::Dequantize(_)) => {
                let x = node.inputs[0].expect("a dequantize has an operand");
                Ok((x, self.affine(node)?))
            }
            Some(node) => refuse(format!("floats of a `{}`", node.op.name()), "those of a `dequantize`"),
            None => refuse("floats from outside", "those of a `dequantize`"),
        }
    }

    /// An average over windows, whose pads count as zeros.
    #[expect(clippy::too_many_arguments, reason = "operand, geometry and numbers of one average")]
    fn average(
        &mut self,
        node: &Node,
        anchor: &Node,
        kernel: [i64; 2],
        strides: [i64; 2],
        pads: [u32; 4],
        to: Affine,
        dtype: DType,
    ) -> Result<Home, Refusal> {
        let (value, from) = self.dequantized(anchor.inputs[0])?;
        let x = self.home(value)?;
        let shape = self.shape(node.outputs[0])?;
        let count = kernel[0] * kernel[1];
        let kernel = kernel.map(|k| k as u32);
        let padded = [x.shape[2] + pads[0] + pads[2], x.shape[3] + pads[1] + pads[3]];
        let strides = window_strides(padded, shape, kernel, strides)?;
        let signed = dtype == DType::I8;
        let (lo, hi) = byte_range(x.signed);
        let contract = Contract {
            contract: Requantize::F32Rne,
            scale: (f64::from(from.scale) / (count as f64 * f64::from(to.scale))) as f32,
            bias: -count * from.zero,
            zero: to.zero,
            range: byte_range(signed),
            sums: (lo * count, hi * count),
        };
        let way = self.way(std::slice::from_ref(&contract))?;
        let sums = self.draft.tensor(Prec::Int32, true, shape);
        let mut pool = pool(x, sums, kernel, strides);
        (pool.eu, pool.opd1_const, pool.opd1_addr) = (1, 1, 1);
        [pool.opd0_up_pad, pool.opd0_lf_pad, pool.opd0_dn_pad, pool.opd0_rt_pad] = pads;
        pool.opd3_addr = from.zero as u32 & 0xff;
        let places = vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(sums.buffer, 0))];
        self.draft.push(pool, places);
        if way.adds_bias() && contract.bias != 0 {
            self.draft.with_constant(2, sums, Prec::Int32, contract.bias as u32, sums);
        }
        let constants = Constants { table: Scales::Words(command_words(&way)), bias: None };
        let result = self.draft.tensor(Prec::Int8, signed, shape);
        self.draft.requantize(sums, &way, constants, to.zero, result);
        Ok(result)
    }

    /// The elementwise operators in front of a `quantize`, down to integers.
    pub(super) fn cone(&self, node: &Node) -> Result<Cone, Refusal> {
        let mut nodes = BTreeSet::new();
        let mut leaves = Vec::new();
        let mut open: Vec<ValueId> = node.inputs.first().copied().flatten().into_iter().collect();
        while let Some(value) = open.pop() {
            let Some((id, node)) = self.graph.producer(value) else {
                let found = format!(
                    "`{}` of {}",
                    self.graph.value(value).name.as_deref().unwrap_or("input"),
                    self.graph.ty(value).dtype
                );
                return refuse(found, "inputs of i8 or u8 (quantize outside of the model)");
            };
            if matches!(node.op, Op::Constant(_)) {
                continue;
            }
            if !is_elementwise(&node.op) {
                return refuse(format!("floats of a `{}`", node.op.name()), "elementwise operators, averages, softmax");
            }
            nodes.insert(id);
            let operands = node.inputs.iter().flatten().copied();
            match (&node.op, node.inputs[0]) {
                (Op::Dequantize(_), Some(x)) if self.graph.constant(x).is_none() => {
                    self.affine(node)?;
                    if !leaves.contains(&x) {
                        leaves.push(x);
                    }
                }
                _ => open.extend(operands),
            }
        }
        let order = self.graph.order().iter().copied().filter(|id| nodes.contains(id));
        let shape = self.graph.ty(node.outputs[0]).fixed_shape();
        if leaves.iter().any(|&leaf| self.graph.ty(leaf).fixed_shape() != shape) {
            return refuse("operands of different shapes", "operands of the shape of the result");
        }
        leaves.sort();
        Ok(Cone { nodes: order.collect(), leaves })
    }

    /// The results of a cone and its `quantize` for all values of its leaves: the first leaf's bytes run fastest. Constants with a
    /// value per channel have that of `channel`.
    fn results(&self, node: &Node, cone: &Cone, channel: Option<usize>) -> Result<Vec<i64>, Refusal> {
        let count = 1 << (8 * cone.leaves.len());
        let mut values: std::collections::BTreeMap<ValueId, Tensor> = std::collections::BTreeMap::new();
        for (index, &leaf) in cone.leaves.iter().enumerate() {
            super::byte_type(self.graph.ty(leaf))?;
            let bytes = (0..count).map(|at: usize| (at >> (8 * index)) as u8).collect();
            // With one channel, as operators want it that have some.
            let shape = if channel.is_some() { vec![count, 1] } else { vec![count] };
            let tensor = Tensor::new(self.graph.ty(leaf).dtype, shape, bytes);
            values.insert(leaf, tensor.or_else(|error| refuse(error.to_string(), "bytes"))?);
        }
        let nodes = cone.nodes.iter().map(|&id| self.graph.node(id));
        for node in nodes.chain([node]) {
            let one = |value: ValueId| self.of_channel(value, channel);
            let constants: Vec<Option<Tensor>> = node.inputs.iter().map(|v| v.and_then(one)).collect();
            let known = node.inputs.iter().zip(&constants);
            let operands: Vec<Option<&Tensor>> =
                known.map(|(v, constant)| v.and_then(|v| values.get(&v)).or(constant.as_ref())).collect();
            let spread = operands.iter().flatten().any(|t| t.elems() != 1 && t.elems() != count);
            if spread {
                return refuse("a constant per channel between integers", "one per tensor");
            }
            let results = node.op.eval(&operands, &|_| None);
            let mut results = results.or_else(|error| refuse(error.to_string(), "operators that can be evaluated"))?;
            values.insert(node.outputs[0], results.swap_remove(0));
        }
        Ok(values.get(&node.outputs[0]).map_or_else(Vec::new, Tensor::to_i64))
    }

    /// A constant, or what it has for a channel: the only one of its values that an element there meets.
    fn of_channel(&self, value: ValueId, channel: Option<usize>) -> Option<Tensor> {
        let tensor = self.graph.constant(value)?.data()?;
        let Some(channel) = channel.filter(|_| tensor.elems() > 1) else { return Some(tensor.clone()) };
        let values = tensor.to_f64();
        Some(Tensor::from_f64(tensor.dtype(), &[1], &[*values.get(channel)?]))
    }

    /// Whether a cone has constants with a value for each of so many channels, and no others of several values.
    fn by_channel(&self, cone: &Cone, rank: usize, channels: u32) -> bool {
        let shape = |value: &ValueId| self.graph.constant(*value).and_then(|entry| entry.ty().fixed_shape());
        let along_channels = |shape: &Vec<usize>| {
            let place = (shape.len() + 1).checked_sub(rank);
            let wanted = |axis: usize| if Some(axis) == place { channels as usize } else { 1 };
            shape.iter().enumerate().all(|(axis, &extent)| extent == wanted(axis))
        };
        let mut found = false;
        for node in cone.nodes.iter().map(|&id| self.graph.node(id)) {
            // Those of a normalisation are lists of channels, whatever the rank.
            let listed = matches!(node.op, Op::BatchNorm(_));
            let many = node.inputs.iter().flatten().filter_map(shape);
            let mut many = many.filter(|shape| listed || shape.iter().product::<usize>() != 1).peekable();
            found |= many.peek().is_some();
            if !many.all(|shape| if listed { shape == [channels as usize] } else { along_channels(&shape) }) {
                return false;
            }
        }
        found
    }

    /// A table of 256 entries, or one for each channel.
    fn table(&mut self, node: &Node, cone: &Cone, leaf: ValueId) -> Result<Home, Refusal> {
        let x = self.home(leaf)?;
        let (prec, signed) = super::byte_type(self.graph.ty(node.outputs[0]))?;
        let rank = self.graph.ty(leaf).rank();
        if self.by_channel(cone, rank, x.shape[1]) {
            let bytes = |results: Vec<i64>| results.iter().map(|&v| v as u8).collect();
            let rows = (0..x.shape[1] as usize).map(|c| self.results(node, cone, Some(c)).map(bytes));
            let rows: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
            let result = self.draft.tensor(prec, signed, x.shape);
            self.lookup_by_channel(x, &rows, result);
            return Ok(result);
        }
        let results = self.results(node, cone, None)?;
        let bytes: Vec<u8> = results.iter().map(|&v| v as u8).collect();
        if bytes.iter().enumerate().all(|(at, &byte)| at == usize::from(byte)) {
            return Ok(Home { signed, ..x });
        }
        let result = self.draft.tensor(prec, signed, x.shape);
        self.lookup(x, prec, &bytes, result);
        Ok(result)
    }

    /// Looks bytes up in tables of bytes, one for each channel: lanes have different ones, and rows of channels a command each.
    fn lookup_by_channel(&mut self, index: Home, rows: &[Vec<u8>], result: Home) {
        let mut image = Image::new(index.shape[1]);
        let at = image.section(rows, rows[0].len(), UNIT_BYTES as usize);
        let tables = self.draft.constants(&image);
        let [n, c, h, w] = index.shape;
        let (batches, each) = if c > LANES { (n, 1) } else { (1, n) };
        for batch in 0..batches {
            for first in (0..c).step_by(LANES as usize) {
                let part = |home: Home| Home { shape: [each, (c - first).min(LANES), h, w], ..home };
                let table = Place::Local(tables, at + first / LANES * rows[0].len() as u32);
                let places = [result, index].map(|home| self.draft.place_of(home, [batch, first, 0, 0]));
                self.look_up(part(index), part(result), rows[0].len() as u32, [places[0], table, places[1]]);
            }
        }
    }

    /// Looks bytes up in a table.
    pub(super) fn lookup(&mut self, index: Home, prec: Prec, table: &[u8], result: Home) {
        let entries = table.len() as u32 / prec.bytes();
        let buffer = self.draft.table(prec, table);
        let [result_at, table_at, index_at] = [result.buffer, buffer, index.buffer].map(|b| Place::Local(b, 0));
        self.look_up(index, Home { prec, ..result }, entries, [result_at, table_at, index_at]);
    }

    /// The command of a look-up; places of result, table and index.
    fn look_up(&mut self, index: Home, result: Home, entries: u32, [to, table, from]: [Place; 3]) {
        let prec = result.prec;
        let [n, c, h, w] = index.shape;
        let lookup = Lookup {
            eu: 5,
            opd0_str: 4,
            res0_n: n,
            res0_c: c,
            res0_h: 1,
            res0_w: h * w,
            opd0_h: 1,
            opd0_w: entries,
            opd1_c: c,
            opd1_w: h * w,
            res0_prec: prec.code(),
            opd0_prec: prec.code(),
            opd1_prec: index.prec.code(),
            ..Lookup::default()
        };
        self.draft.push(lookup, vec![("res0_addr", to), ("opd0_addr", table), ("opd1_addr", from)]);
    }

    /// A sum or difference of two tensors, each with its scale.
    fn sum(
        &mut self,
        node: &Node,
        cone: &Cone,
        leaves: [ValueId; 2],
        to: Affine,
        dtype: DType,
    ) -> Result<Home, Refusal> {
        let accepted = "sums of two tensors that the chip's floats give within one unit";
        let Some(terms) = self.terms(cone, leaves) else {
            return refuse("operators on two tensors of integers", accepted);
        };
        let words = terms.map(|by| (by.scale.to_bits(), by.zero));
        let key = self.draft.unit.map(|unit| (unit, words));
        let known = key.and_then(|key| self.memo.sums.get(&key).copied());
        let (count, form) = match known {
            Some(known) => known,
            None => match self.best_sum(node, cone, leaves, terms, to, dtype)? {
                Some(found) => found,
                None => return refuse("operators on two tensors of integers", accepted),
            },
        };
        self.memo.sums.extend(key.map(|key| (key, (count, form))));
        if count != 0 {
            let names = node.loc.names().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let note = format!("{names}: a sum differs from the model's by 1 for {count} of 65536 pairs");
            if !self.draft.notes.contains(&note) {
                self.draft.notes.push(note);
            }
        }
        let homes = [self.home(leaves[0])?, self.home(leaves[1])?];
        // Part by part: in 32 bits the whole takes a lot of memory.
        let result = self.draft.tensor(Prec::Int8, dtype == DType::I8, homes[0].shape);
        for part in dense_parts(homes[0].shape, SUM_PART) {
            let start = self.draft.steps.len();
            let [a, b, to_part] = [homes[0], homes[1], result].map(|home| Home { shape: part.shape, ..home });
            self.sum_part([a, b], form, to.zero, to_part);
            self.draft.move_to(start, part, &[homes[0], homes[1], result]);
        }
        Ok(result)
    }

    /// A sum of two tensors of one shape in the given form.
    fn sum_part(&mut self, homes: [Home; 2], form: SumForm, zero: i64, result: Home) {
        let floats = [0, 1].map(|side| self.dequantize(homes[side], form.terms[side]));
        let mut sum = self.draft.tensor(Prec::Fp32, true, result.shape);
        self.draft.binary(2, floats[0], floats[1], sum);
        if let Some(factor) = form.factor {
            let scaled = self.draft.tensor(Prec::Fp32, true, result.shape);
            self.draft.with_constant(0, sum, Prec::Fp32, factor.to_bits(), scaled);
            sum = scaled;
        }
        if zero == 0 {
            return self.draft.convert(sum, result);
        }
        let wide = self.draft.tensor(Prec::Int16, true, result.shape);
        self.draft.convert(sum, wide);
        self.draft.add_zero(wide, zero, result);
    }

    /// The sum in the chip's floats that is the model's for most pairs of bytes, with the number of those for which it is not;
    /// `None` if these are too many.
    fn best_sum(
        &self,
        node: &Node,
        cone: &Cone,
        leaves: [ValueId; 2],
        [a, b]: [Affine; 2],
        to: Affine,
        dtype: DType,
    ) -> Result<Option<(usize, SumForm)>, Refusal> {
        let expected = self.results(node, cone, None)?;
        let signs = leaves.map(|leaf| self.graph.ty(leaf).dtype == DType::I8);
        let range = byte_range(dtype == DType::I8);
        let read = |byte: usize, signed: bool| if signed { i64::from(byte as u8 as i8) } else { byte as i64 };
        // Pairs with another result than the model's; nothing when there are too many, or one is further away than a unit.
        let wrong = |form: &SumForm| -> Option<usize> {
            let mut count = 0;
            for (at, &value) in expected.iter().enumerate() {
                let [x, y] = [read(at & 0xff, signs[0]), read(at >> 8, signs[1])];
                let distance = ((form.apply(x, y) + to.zero).clamp(range.0, range.1) - value).abs();
                count += usize::from(distance != 0);
                if distance > 1 || count > MAX_WRONG_PAIRS {
                    return None;
                }
            }
            Some(count)
        };
        let mut best: Option<(usize, SumForm)> = None;
        for form in sum_forms([a, b], to.scale) {
            let Some(count) = wrong(&form) else { continue };
            if best.as_ref().is_none_or(|(least, _)| count < *least) {
                best = Some((count, form));
            }
            if count == 0 {
                break;
            }
        }
        Ok(best)
    }

    /// Scale (negative where it is subtracted) and zero point of both leaves in a sum or difference.
    fn terms(&self, cone: &Cone, leaves: [ValueId; 2]) -> Option<[Affine; 2]> {
        let nodes = cone.nodes.iter().map(|&id| self.graph.node(id));
        let of = |leaf: ValueId| {
            let reads = |node: &&Node| matches!(node.op, Op::Dequantize(_)) && node.inputs[0] == Some(leaf);
            let node = nodes.clone().find(reads)?;
            Some((node.outputs[0], self.affine(node).ok()?))
        };
        let [(a, mut a_by), (b, mut b_by)] = [of(leaves[0])?, of(leaves[1])?];
        let adds =
            |node: &&Node| matches!(&node.op, Op::Binary(op) if matches!(op.function, BinaryFn::Add | BinaryFn::Sub));
        let node = nodes.clone().find(adds)?;
        let operands = [node.inputs[0]?, node.inputs[1]?];
        if operands != [a, b] && operands != [b, a] {
            return None;
        }
        if matches!(&node.op, Op::Binary(op) if op.function == BinaryFn::Sub) {
            let second = if operands[1] == b { &mut b_by } else { &mut a_by };
            second.scale = -second.scale;
        }
        Some([a_by, b_by])
    }

    /// `(x - zero) · scale` as floats.
    pub(super) fn dequantize(&mut self, x: Home, by: Affine) -> Home {
        let result = self.draft.tensor(Prec::Fp32, true, x.shape);
        let [n, c, h, w] = x.shape;
        let rq = Requant {
            eu: 3,
            opd0_sign: x.signed.into(),
            opd2_sign: 1,
            res0_prec: Prec::Fp32.code(),
            opd1_const: 1,
            opd0_prec: x.prec.code(),
            res0_n: n,
            res0_c: c,
            res0_h: h,
            res0_w: w,
            opd1_addr: u32::from(by.zero as u16),
            opd2_addr: by.scale.to_bits(),
            ..Requant::default()
        };
        self.draft
            .push(rq, vec![("opd0_addr", Place::Local(x.buffer, 0)), ("res0_addr", Place::Local(result.buffer, 0))]);
        result
    }
}

/// Forms that are near a sum of two scaled values over a scale: with that scale in the terms, then as a factor. Quotients that
/// round to a tie want a neighbour.
fn sum_forms(terms: [Affine; 2], scale: f32) -> impl Iterator<Item = SumForm> {
    let near = |by: Affine| -> Vec<Affine> {
        neighbours(by.scale / scale, SUM_NEIGHBOURS).map(|scale| Affine { scale, ..by }).collect()
    };
    let [first, second] = terms.map(near);
    let folded = first.into_iter().flat_map(move |a| {
        let seconds = second.clone();
        seconds.into_iter().map(move |b| SumForm { terms: [a, b], factor: None })
    });
    let scaled = neighbours(1.0 / scale, SUM_NEIGHBOURS).map(move |factor| SumForm { terms, factor: Some(factor) });
    folded.chain(scaled)
}

/// Most pairs of bytes for which a sum may differ from the model's, by one: 0.1 %.
const MAX_WRONG_PAIRS: usize = 64;
/// Elements per lane that a sum works on at once.
const SUM_PART: u32 = 1 << 11;
/// Neighbours that are tried on each side of a scale.
const SUM_NEIGHBOURS: i32 = 4;

/// `round(factor · ((x - zero) · scale + (y - zero) · scale))` in floats, ties to even.
#[derive(Clone, Copy, Debug)]
pub(super) struct SumForm {
    terms: [Affine; 2],
    factor: Option<f32>,
}

impl SumForm {
    /// The rounded sum, saturated at 16 bits.
    fn apply(&self, x: i64, y: i64) -> i64 {
        let term = |value: i64, by: Affine| (value - by.zero) as f32 * by.scale;
        let sum = term(x, self.terms[0]) + term(y, self.terms[1]);
        let scaled = self.factor.map_or(sum, |factor| sum * factor);
        (scaled.round_ties_even() as i64).clamp(-32768, 32767)
    }
}
