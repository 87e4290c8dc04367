//! Elementwise operators on one tensor of bytes as tables of 256 entries, which the reference evaluation itself fills in: of bytes in
//! front of a `quantize`, of floats where a network of bytes ends in floats that are more than its arithmetic has.

use std::collections::BTreeMap;

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{BinaryFn, Op, UnaryFn};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::isa::{Lookup, Prec};
use super::super::machine::{LANES, UNIT_BYTES};
use super::build::{Home, Image, Place};
use super::quantize::{Cone, is_elementwise};
use super::{Lowering, Refusal, refuse};

impl Lowering<'_> {
    /// The results of a cone and the node behind it for all values of its leaves: the first leaf's bytes run fastest. Constants with a
    /// value per channel have that of `channel`.
    pub(super) fn results(&self, node: &Node, cone: &Cone, channel: Option<usize>) -> Result<Tensor, Refusal> {
        let count = 1 << (8 * cone.leaves.len());
        let mut values: BTreeMap<ValueId, Tensor> = BTreeMap::new();
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
        values.remove(&node.outputs[0]).map_or_else(|| refuse("no result", "one"), Ok)
    }

    /// A constant, or what it has for a channel: the only one of its values that an element there meets.
    fn of_channel(&self, value: ValueId, channel: Option<usize>) -> Option<Tensor> {
        let tensor = self.graph.constant(value)?.data()?;
        let Some(channel) = channel.filter(|_| tensor.elems() > 1) else { return Some(tensor.clone()) };
        let values = tensor.to_f64();
        Some(Tensor::from_f64(tensor.dtype(), &[1], &[*values.get(channel)?]))
    }

    /// Whether a cone and the node behind it have constants with a value for each of so many channels, and no others of several
    /// values.
    fn by_channel(&self, node: &Node, cone: &Cone, rank: usize, channels: u32) -> bool {
        let shape = |value: &ValueId| self.graph.constant(*value).and_then(|entry| entry.ty().fixed_shape());
        let along_channels = |shape: &Vec<usize>| {
            let place = (shape.len() + 1).checked_sub(rank);
            let wanted = |axis: usize| if Some(axis) == place { channels as usize } else { 1 };
            shape.iter().enumerate().all(|(axis, &extent)| extent == wanted(axis))
        };
        let mut found = false;
        for node in cone.nodes.iter().map(|&id| self.graph.node(id)).chain([node]) {
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
    pub(super) fn table(&mut self, node: &Node, cone: &Cone, leaf: ValueId) -> Result<Home, Refusal> {
        let x = self.home(leaf)?;
        let ty = self.graph.ty(node.outputs[0]);
        let (prec, signed) = if ty.dtype.is_float() { (Prec::Fp32, true) } else { super::byte_type(ty)? };
        let (rank, channels) = (self.graph.ty(leaf).rank(), x.shape[1]);
        let x = if prec == Prec::Fp32 && self.only_leaves(node.outputs[0]) { self.over_lanes(x) } else { x };
        if self.by_channel(node, cone, rank, channels) {
            let rows = (0..channels as usize).map(|c| Ok(self.results(node, cone, Some(c))?.bytes().to_vec()));
            let rows: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
            let lanes = (x.shape[1] / channels) as usize;
            let rows: Vec<Vec<u8>> = rows.into_iter().flat_map(|row| std::iter::repeat_n(row, lanes)).collect();
            let result = self.draft.tensor(prec, signed, x.shape);
            self.lookup_by_channel(x, &rows, result);
            return Ok(result);
        }
        let results = self.results(node, cone, None)?;
        let bytes = results.bytes();
        if prec == Prec::Int8 && bytes.iter().enumerate().all(|(at, &byte)| at == usize::from(byte)) {
            return Ok(Home { signed, ..x });
        }
        let result = self.draft.tensor(prec, signed, x.shape);
        self.lookup(x, prec, bytes, result);
        Ok(result)
    }

    /// Whether a value is an output, or part of one, that nothing reads.
    fn only_leaves(&self, value: ValueId) -> bool {
        let mut readers = self.graph.nodes().filter(|(_, node)| node.inputs.contains(&Some(value)));
        !self.joined.contains_key(&value) && readers.all(|(_, node)| self.spilled.contains_key(&node.outputs[0]))
    }

    /// A tensor of few channels with rows of a channel over lanes: the same elements in the same order, so that stores know what to do.
    fn over_lanes(&mut self, x: Home) -> Home {
        let [n, c, h, w] = x.shape;
        let lanes = (1..=LANES / c.max(1)).rev().find(|&lanes| h.is_multiple_of(lanes)).unwrap_or(1);
        if lanes == 1 { x } else { self.draft.reshape(x, [n, c * lanes, h / lanes, w]) }
    }

    /// The cone of floats that a table gives: those of 32 bits that are a function of one tensor of bytes, where that is more than
    /// arithmetic on 32 bits is for.
    pub(super) fn float_table(&self, node: &Node) -> Option<Cone> {
        let single = self.graph.ty(node.outputs[0]).dtype == DType::F32 && self.real == Prec::Fp32;
        if !single || !is_elementwise(&node.op) || matches!(node.op, Op::Dequantize(_)) {
            return None;
        }
        let cone = self.cone(node).ok().filter(|cone| cone.leaves.len() == 1)?;
        let mut nodes = cone.nodes.iter().map(|&id| self.graph.node(id)).chain([node]);
        (!nodes.all(|node| is_arithmetic(&node.op))).then_some(cone)
    }

    /// Looks bytes up in tables, one for each channel: lanes have different ones, and rows of channels a command each.
    fn lookup_by_channel(&mut self, index: Home, rows: &[Vec<u8>], result: Home) {
        let mut image = Image::new(index.shape[1]);
        let at = image.section(rows, rows[0].len(), UNIT_BYTES as usize);
        let tables = self.draft.constants(&image);
        let [n, c, h, w] = index.shape;
        let (batches, each) = if c > LANES { (n, 1) } else { (1, n) };
        for batch in 0..batches {
            for first in (0..c).step_by(LANES as usize) {
                let entries = rows[0].len() as u32 / result.prec.bytes();
                let part = |home: Home| Home { shape: [each, (c - first).min(LANES), h, w], ..home };
                let table = Place::Local(tables, at + first / LANES * rows[0].len() as u32);
                let places = [result, index].map(|home| self.draft.place_of(home, [batch, first, 0, 0]));
                self.look_up(part(index), part(result), entries, [places[0], table, places[1]]);
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
}

/// Operators that commands on floats of 32 bits are the same as.
fn is_arithmetic(op: &Op) -> bool {
    match op {
        Op::Dequantize(_) | Op::Clip(_) => true,
        Op::Binary(op) => {
            matches!(op.function, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul | BinaryFn::Min | BinaryFn::Max)
        }
        Op::Unary(op) => matches!(op.function, UnaryFn::Relu | UnaryFn::Identity | UnaryFn::Neg | UnaryFn::Abs),
        _ => false,
    }
}
