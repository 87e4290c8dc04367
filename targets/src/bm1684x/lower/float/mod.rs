//! Values of floats on the chip: which are made, how they come in and go out, and operators on them.
//!
//! A float between integers is not made where a `quantize` is lowered together with what is in front of it. What is made has one
//! type: fp16 or bf16 where the caller chose one, otherwise fp32 - for what stands at the border of a network of integers, and
//! with elementwise operators only.

mod functions;
mod norm;
mod pointwise;
mod products;
mod rows;
mod select;
mod strides;
mod wide;
mod windows;

pub(super) use pointwise::{ADD, MUL, SUB, bits, bytes};

use std::collections::BTreeSet;

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{Op, ReduceFn};
use adze_ir::types::DType;

use super::super::isa::{DmaTranspose, Prec};
use super::super::machine::MAX_EXTENT;
use super::build::{Draft, Home, Piece, Place, lane_bytes};
use super::commands::Stored;
use super::places::Region;
use super::quantize::{Affine, is_mean_of_all};
use super::{Lowering, Refusal, Where, refuse};

/// Bytes per lane above which a tensor is converted in parts on its way in and out.
const WHOLE_BYTES: u64 = 1 << 15;

/// What to do about floats that have no type on the chip.
const CHOOSE: &str = "8-bit integers, or floats of 16 bits instead (--float f16, --float bf16)";

/// The type of floats in memory.
fn stored(dtype: DType) -> Result<Prec, Refusal> {
    match dtype {
        DType::F32 => Ok(Prec::Fp32),
        DType::F16 => Ok(Prec::Fp16),
        DType::Bf16 => Ok(Prec::Bf16),
        other => refuse(format!("a tensor of {other}"), "i8, u8, f32, f16 or bf16"),
    }
}

impl Lowering<'_> {
    /// The values of floats that have to be made: those that outputs and operators want which are not lowered as one.
    pub(super) fn wanted_floats(&self) -> BTreeSet<ValueId> {
        let float = |value: &ValueId| self.graph.ty(*value).dtype.is_float() && self.graph.constant(*value).is_none();
        let mut wanted: BTreeSet<ValueId> =
            self.graph.outputs().iter().map(|output| output.value).filter(float).collect();
        for (_, node) in self.graph.nodes().rev() {
            let made = node.outputs.iter().any(|value| wanted.contains(value) || !float(value));
            if made && !self.is_one(node) {
                wanted.extend(node.inputs.iter().flatten().copied().filter(float));
            }
        }
        wanted
    }

    /// Whether a node is lowered together with the floats in front of it: a `quantize`, or floats that a table gives.
    pub(super) fn is_one(&self, node: &Node) -> bool {
        let Op::Quantize(_) = node.op else { return self.float_table(node).is_some() };
        let anchor = node.inputs[0].and_then(|value| self.graph.producer(value)).map(|(_, node)| node);
        let Some(anchor) = anchor else { return false };
        let window = match &anchor.op {
            Op::AveragePool(pool) => is_mean_of_all(pool),
            Op::Reduce(mean) => mean.function == ReduceFn::Mean && mean.axes == [2, 3],
            Op::Softmax(_) => true,
            _ => false,
        };
        if window {
            return self.dequantized(anchor.inputs[0]).is_ok();
        }
        // What fails for another reason than where its floats come from is refused later, with that reason.
        self.cone(node).is_ok_and(|cone| (1..=2).contains(&cone.leaves.len()))
    }

    /// Lowers an operator on floats, but for those that any type has.
    pub(super) fn float_node(&mut self, node: &Node) -> Result<Home, Refusal> {
        if let Some(cone) = self.float_table(node) {
            return self.table(node, &cone, cone.leaves[0]);
        }
        match &node.op {
            Op::Dequantize(_) => self.dequantize_node(node),
            Op::Cast(_) => self.cast(node),
            Op::Conv(conv) => self.float_conv(node, conv),
            Op::ConvTranspose(op) => self.float_conv_transpose(node, op),
            Op::LayerNorm(op) => self.layer_norm(node, op),
            Op::MatMul(op) => self.float_matmul(node, op),
            Op::Gemm(op) => self.float_gemm(node, op),
            Op::AveragePool(op) => self.float_average(node, op),
            Op::Reduce(op) => self.float_reduce(node, op),
            Op::Softmax(op) => self.float_softmax(node, op),
            Op::Binary(op) => self.float_binary(node, op.function),
            Op::Where(_) => self.float_where(node),
            _ => self.float_unary(node),
        }
    }

    /// Refuses what fp32 is not for.
    fn need_half(&self, what: &str) -> Result<(), Refusal> {
        if self.real.is_half() { Ok(()) } else { refuse(format!("{what} of floats of 32 bits"), CHOOSE) }
    }

    /// A new tensor of floats.
    fn float(&mut self, prec: Prec, shape: [u32; 4]) -> Home {
        self.draft.tensor(prec, true, shape)
    }

    /// The tensor in another type.
    pub(super) fn as_float(&mut self, x: Home, prec: Prec) -> Home {
        if x.prec == prec {
            return x;
        }
        if x.prec.is_half() && prec.is_half() {
            // There is no conversion between the two.
            let wide = self.as_float(x, Prec::Fp32);
            return self.as_float(wide, prec);
        }
        let result = self.float(prec, x.shape);
        self.draft.convert(x, result);
        result
    }

    /// Loads part of a tensor of floats, from some position along N and H on, in the type that they have on the chip.
    pub(super) fn load_floats_part(&mut self, from: Stored, at: [u32; 2], shape: [u32; 4]) -> Home {
        let part = |draft: &mut Draft, at: [u32; 2], shape: [u32; 4]| match (at, shape) {
            ([0, 0], shape) if shape == from.shape => draft.load(from.piece, from.prec, true, shape),
            _ => draft.load_part(from, at, shape),
        };
        let whole = lane_bytes(from.prec, shape) <= WHOLE_BYTES || shape[2] * shape[3] == 1;
        if from.prec.is_half() || from.prec == self.real || whole {
            let home = part(&mut self.draft, at, shape);
            return self.as_float(home, self.real);
        }
        let result = self.float(self.real, shape);
        let [_, c, _, w] = shape;
        for [n, top, rows] in parts(from.prec, shape) {
            let home = self.draft.load_part(from, [at[0] + n, at[1] + top], [1, c, rows, w]);
            self.draft.convert_into(home, result, [n, 0, top, 0]);
        }
        result
    }

    /// The same where the tensor lies in memory as `(n, h, w, c)`.
    pub(super) fn load_floats_last(&mut self, piece: Piece, from: Prec, shape: [u32; 4]) -> Result<Home, Refusal> {
        if from.is_half() || from == self.real || lane_bytes(from, shape) <= WHOLE_BYTES {
            let home = self.draft.load_channels_last(piece, from, true, shape);
            return Ok(self.as_float(home, self.real));
        }
        let result = self.float(self.real, shape);
        for [n, top, rows] in parts(from, shape) {
            let [_, c, h, w] = shape;
            let part = self.float(from, [1, c, rows, w]);
            let dma = DmaTranspose {
                nchw_copy: 1,
                src_data_format: from.code(),
                src_nsize: 1,
                src_csize: rows * w,
                src_hsize: 1,
                src_wsize: c,
                localmem_mask_lo: u32::MAX,
                localmem_mask_hi: u32::MAX,
                ..DmaTranspose::default()
            };
            let offset = u64::from((n * h + top) * w * c) * u64::from(from.bytes());
            self.draft.push_early(dma, vec![("src", Place::Ddr(piece, offset)), ("dst", Place::Local(part.buffer, 0))]);
            self.draft.convert_into(part, result, [n, 0, top, 0]);
        }
        Ok(result)
    }

    /// Stores an output of floats.
    pub(super) fn store_floats(&mut self, home: Home, piece: Piece, dtype: DType) -> Result<(), Refusal> {
        let prec = self.float_in(Some(piece), dtype)?;
        self.store_floats_part(home, Stored { piece, shape: home.shape, prec, signed: true }, [0, 0]);
        Ok(())
    }

    /// Stores floats as part of a tensor, in the type that they have there.
    pub(super) fn store_floats_part(&mut self, home: Home, to: Stored, at: [u32; 2]) {
        let shape = home.shape;
        let whole = lane_bytes(to.prec, shape) <= WHOLE_BYTES || shape[2] * shape[3] == 1;
        if to.prec.is_half() || to.prec == home.prec || whole {
            let home = self.as_float(home, to.prec);
            return self.draft.store_part(home, to, at);
        }
        let [_, c, _, w] = shape;
        for [n, top, rows] in parts(to.prec, shape) {
            let part = self.float(to.prec, [1, c, rows, w]);
            self.draft.convert_from(home, part, [n, 0, top, 0]);
            self.draft.store_part(part, to, [at[0] + n, at[1] + top]);
        }
    }

    /// The type that floats have in a place, if it goes with the one on the chip; without a place that of what is stored for a
    /// while.
    pub(super) fn float_in(&self, piece: Option<Piece>, dtype: DType) -> Result<Prec, Refusal> {
        if let None | Some(Piece::Spill(_)) = piece {
            return Ok(self.real);
        }
        let prec = stored(dtype)?;
        if prec == Prec::Fp32 || self.real.is_half() { Ok(prec) } else { refuse(format!("floats of {dtype}"), CHOOSE) }
    }

    /// `dequantize` of bytes.
    fn dequantize_node(&mut self, node: &Node) -> Result<Home, Refusal> {
        let by = self.affine(node)?;
        let x = self.input(node, 0)?;
        if x.prec != Prec::Int8 {
            return refuse(format!("integers of {} bits", x.prec.bytes() * 8), "i8 or u8");
        }
        let floats = self.dequantize(x, by);
        Ok(self.as_float(floats, self.real))
    }

    /// A cast from integers of 32 bits, or between floats, which have one type here.
    fn cast(&mut self, node: &Node) -> Result<Home, Refusal> {
        let x = self.input(node, 0)?;
        let float = node.inputs[0].is_some_and(|value| self.graph.ty(value).dtype.is_float());
        if float {
            return Ok(x);
        }
        let floats = self.as_float(x, Prec::Fp32);
        Ok(self.as_float(floats, self.real))
    }

    /// `quantize` of a tensor of floats: `round(x · (1 / scale)) + zero`, where the model divides. So what is within rounding
    /// of a tie can be one unit off, unless the scale is a power of two.
    pub(super) fn quantize_floats(&mut self, node: &Node, to: Affine, dtype: DType) -> Result<Home, Refusal> {
        let value = node.inputs[0].expect("a quantize has an operand");
        if let Some(&Where::Ddr(piece)) = self.values.get(&value)
            && self.float_in(Some(piece), self.graph.ty(value).dtype)? == Prec::Fp32
            && lane_bytes(Prec::Fp32, self.shape(value)?) > WHOLE_BYTES
        {
            // Only the bytes have to be there as a whole.
            let shape = self.shape(value)?;
            let from = Stored { piece, shape, prec: Prec::Fp32, signed: true };
            let result = self.draft.tensor(Prec::Int8, dtype == DType::I8, shape);
            for [n, top, rows] in parts(Prec::Fp32, shape) {
                let floats = self.draft.load_part(from, [n, top], [1, shape[1], rows, shape[3]]);
                let bytes = self.rounded(floats, to, dtype);
                let at = Region { at: [n, 0, top, 0], ..Region::default() };
                self.draft.copy_region(bytes, Region::default(), result, at, bytes.shape);
            }
            return Ok(result);
        }
        let x = self.input(node, 0)?;
        Ok(self.rounded(x, to, dtype))
    }

    /// Floats as bytes.
    fn rounded(&mut self, x: Home, to: Affine, dtype: DType) -> Home {
        let floats = self.float(Prec::Fp32, x.shape);
        let x = self.as_float(x, Prec::Fp32);
        self.draft.with_constant(0, x, Prec::Fp32, (1.0 / to.scale).to_bits(), floats);
        let result = self.draft.tensor(Prec::Int8, dtype == DType::I8, x.shape);
        if to.zero == 0 {
            self.draft.convert(floats, result);
        } else {
            let wide = self.draft.tensor(Prec::Int16, true, x.shape);
            self.draft.convert(floats, wide);
            self.draft.add_zero(wide, to.zero, result);
        }
        result
    }
}

/// Parts of a tensor along H as batch, first row, rows: at most [`WHOLE_BYTES`] per lane each, or a row.
fn parts(prec: Prec, [n, c, h, w]: [u32; 4]) -> Vec<[u32; 3]> {
    let fits = |rows: &u32| lane_bytes(prec, [1, c, *rows, w]) <= WHOLE_BYTES && rows * w <= MAX_EXTENT;
    let rows = (1..=h).rev().find(fits).unwrap_or(1);
    let tops = move |n| (0..h).step_by(rows as usize).map(move |top| [n, top, rows.min(h - top)]);
    (0..n).flat_map(tops).collect()
}
