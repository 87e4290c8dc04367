//! Products of two tensors of bytes: sums of 32 bits for some rows at a time, and what makes bytes of them.
//!
//! Commands take the right factor's zero point. The left one's is that often taken off, for every sum, as the right factor's column
//! has in it: a product with a matrix of one value, whose rows are the same in all lanes.

use adze_ir::graph::Node;
use adze_ir::ops::QLinearMatMul;
use adze_ir::types::DType;

use super::super::isa::{MatMul, Prec};
use super::super::machine::{LANES, MAX_EXTENT};
use super::build::{Home, Place, lane_bytes};
use super::commands::{Constants, Scales, command_words};
use super::float::{ADD, SUB};
use super::places::{DensePart, Source};
use super::requant::{Contract, Way, byte_range};
use super::{Lowering, Refusal, refuse};

/// Sums take at most this share of local memory where they can.
const SUMS_SHARE: u64 = 16;

/// Numbers of a product.
struct Numbers {
    /// Zero points of both factors.
    zeros: [i64; 2],
    way: Way,
    zero: i64,
}

impl Lowering<'_> {
    /// Lowers a product of two tensors that are computed.
    pub(super) fn byte_product(&mut self, node: &Node, op: &QLinearMatMul) -> Result<Home, Refusal> {
        let shapes = [0, 3].map(|index| node.inputs[index].and_then(|value| self.graph.ty(value).fixed_shape()));
        let [Some(left), Some(right)] = shapes else { return refuse("an operand of no fixed shape", "fixed shapes") };
        let [(a, left), (b, right)] = [batches(&left)?, batches(&right)?];
        if a != b && left[0].min(right[0]) > 1 {
            return refuse(format!("leading axes {a:?} and {b:?}"), "the same ones, or none of one factor");
        }
        let [x, y] = [self.input(node, 0)?, self.input(node, 3)?];
        let numbers = self.product_numbers(node, op, [x, y], left[3])?;
        let (x, y) = (self.draft.reshape(x, left), self.draft.reshape(y, right));
        let signed = self.graph.ty(node.outputs[0]).dtype == DType::I8;
        let result = self.draft.tensor(Prec::Int8, signed, [left[0].max(right[0]), left[1], 1, right[3]]);
        let mut taken = None;
        for batch in 0..result.shape[0] {
            let (own, other) = (batch.min(left[0] - 1), batch.min(right[0] - 1));
            if batch == 0 || right[0] > 1 {
                taken = self.left_zero((x, y), other, &numbers);
            }
            self.product_rows([(x, own), (y, other)], taken, &numbers, (result, batch));
        }
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(result, shape))
    }

    fn product_numbers(
        &mut self,
        node: &Node,
        op: &QLinearMatMul,
        [x, y]: [Home; 2],
        inner: u32,
    ) -> Result<Numbers, Refusal> {
        if node.inputs.get(8).copied().flatten().is_some() {
            return refuse("a bias", "a product of two tensors without one");
        }
        let one = |index: usize| match self.constant(node, index)?.to_f64()[..] {
            [value] => Ok(value),
            ref many => refuse(format!("{} values in operand {index}", many.len()), "one"),
        };
        let [x_scale, y_scale, scale] = [one(1)?, one(4)?, one(6)?].map(|scale| scale as f32);
        let [x_zero, y_zero, zero] = [one(2)?, one(5)?, one(7)?].map(|zero| zero as i64);
        let ends = |home: Home, zero: i64| [byte_range(home.signed).0 - zero, byte_range(home.signed).1 - zero];
        let products = ends(x, x_zero).into_iter().flat_map(|a| ends(y, y_zero).map(|b| a * b * i64::from(inner)));
        let (lo, hi) = products.fold((0, 0), |(lo, hi), product| (lo.min(product), hi.max(product)));
        if lo < i32::MIN.into() || hi > i32::MAX.into() {
            return refuse(format!("sums of {inner} products"), "sums of 32 bits");
        }
        let contract = Contract {
            contract: op.contract,
            scale: x_scale * y_scale / scale,
            bias: 0,
            zero,
            range: byte_range(self.graph.ty(node.outputs[0]).dtype == DType::I8),
            sums: (lo, hi),
        };
        Ok(Numbers { zeros: [x_zero, y_zero], way: self.way(std::slice::from_ref(&contract))?, zero })
    }

    /// What is to be taken off of every row of sums, in all lanes, with the operation that does it.
    fn left_zero(&mut self, (left, right): (Home, Home), batch: u32, by: &Numbers) -> Option<(u32, Home)> {
        let zero = by.zeros[0];
        if zero == 0 {
            return None;
        }
        let ones = self.draft.tensor(Prec::Int8, false, [1, LANES, 1, left.shape[3]]);
        self.draft.fill(ones, zero.unsigned_abs() as u32);
        let columns = self.draft.tensor(Prec::Int32, true, [1, LANES, 1, right.shape[3]]);
        let place = Place::Local(ones.buffer, 0);
        self.byte_matrices((ones, place), (right, batch), by.zeros[1], columns);
        Some((if zero > 0 { SUB } else { ADD }, columns))
    }

    /// A product of matrices, some rows at a time.
    fn product_rows(
        &mut self,
        [(left, own), right]: [(Home, u32); 2],
        taken: Option<(u32, Home)>,
        by: &Numbers,
        (result, batch): (Home, u32),
    ) {
        let [_, rows, _, columns] = result.shape;
        let row = lane_bytes(Prec::Int32, [1, 1, 1, columns]);
        let at_once = (u64::from(self.lane_bytes) / SUMS_SHARE / row).max(1);
        let step = u32::try_from(at_once).unwrap_or(MAX_EXTENT).min(rows.div_ceil(LANES)) * LANES;
        for first in (0..rows).step_by(step as usize) {
            let shape = [1, step.min(rows - first), 1, columns];
            let mut sums = self.draft.tensor(Prec::Int32, true, shape);
            let part = Home { shape: [1, shape[1], 1, left.shape[3]], ..left };
            let place = self.draft.place_of(left, [own, first, 0, 0]);
            self.byte_matrices((part, place), right, by.zeros[1], sums);
            if let Some((operation, columns)) = taken {
                let less = self.draft.tensor(Prec::Int32, true, shape);
                let repeated = Source::Strided(Place::Local(columns.buffer, 0), [0, 0, 0, 1]);
                self.draft.arithmetic(operation, [Source::dense(sums), repeated], less);
                sums = less;
            }
            let start = self.draft.steps.len();
            let constants = Constants { table: Scales::Words(command_words(&by.way)), bias: None };
            self.draft.requantize(sums, &by.way, constants, by.zero, Home { shape, ..result });
            self.draft.move_to(start, DensePart { shape, at: [batch, first, 0] }, &[result]);
        }
    }

    /// The command of a product of matrices whose rows are over lanes; `zero` is that of the right one.
    fn byte_matrices(&mut self, (left, place): (Home, Place), (right, batch): (Home, u32), zero: i64, sums: Home) {
        let mm = MatMul {
            eu: 4,
            opd0_sign: left.signed.into(),
            opd1_sign: right.signed.into(),
            res0_prec: Prec::Int32.code(),
            opd0_prec: Prec::Int8.code(),
            opd2_const: 1,
            opd2_addr: zero as u32 & 0xff,
            res0_c: sums.shape[1],
            res0_w: sums.shape[3],
            opd1_c: right.shape[1],
            opd1_w: right.shape[3],
            ..MatMul::default()
        };
        let right = self.draft.place_of(right, [batch, 0, 0, 0]);
        let result = Place::Local(sums.buffer, 0);
        self.draft.push(mm, vec![("opd0_addr", place), ("opd1_addr", right), ("res0_addr", result)]);
    }
}

/// The leading axes of a tensor, and its shape as so many matrices with rows over lanes.
fn batches(shape: &[usize]) -> Result<(&[usize], [u32; 4]), Refusal> {
    let [leading @ .., rows, columns] = shape else { return refuse(format!("rank {}", shape.len()), "rank 2 to 4") };
    let shape4 = super::extents(&[leading.iter().product(), *rows, 1, *columns])?;
    Ok((leading, shape4))
}
