//! Softmax between integers.
//!
//! Differences to the largest value are bytes again, so that their exponentials are a table. The rest is arithmetic on floats
//! that is defined to the last bit: sums by halves, and the inverse of the sum by Newton's method from a table (the chip's own
//! division is not). The quotient is within a few units of the last place of the true one, so the result is that of the
//! model but for values that are about 1e-4 units from a tie.

use adze_ir::graph::Node;
use adze_ir::types::DType;

use super::super::isa::Prec;
use super::build::{Home, Place};
use super::quantize::Affine;
use super::{Lowering, Refusal, pool, refuse};

/// Most classes: with more the table's start is too far off for the fixed number of Newton's steps.
const MAX_CLASSES: u32 = 128;
/// Newton's steps: from 25% to below rounding.
const STEPS: usize = 4;

impl Lowering<'_> {
    /// Lowers `quantize(softmax(dequantize(x)))`.
    pub(super) fn softmax(
        &mut self,
        node: &Node,
        anchor: &Node,
        axis: usize,
        to: Affine,
        dtype: DType,
    ) -> Result<Home, Refusal> {
        let (value, from) = self.dequantized(anchor.inputs[0])?;
        let rank = self.graph.ty(value).rank();
        let shape = self.shape(value)?;
        let [n, classes, h, w] = shape;
        let fits = rank == 2 && axis == 1 && h * w == 1 && classes <= MAX_CLASSES && (n == 1 || classes <= 16);
        if !(fits && from.scale > 0.0 && from.scale.is_finite()) {
            let found = format!("a softmax over axis {axis} of shape {:?}", &shape[..rank.min(4)]);
            return refuse(found, format!("the last axis of rank 2, at most {MAX_CLASSES} classes (16 in a batch)"));
        }
        let x = self.home(value)?;
        let row = self.draft.reshape(x, [n, 1, 1, classes]);
        let exponentials = self.exponentials(row, from.scale);
        let [values, addends] = exponentials;
        self.draft.sum_row(addends);
        let sum = Home { shape: [n, 1, 1, 1], ..addends };
        let inverse = self.negative_inverse(sum, classes);
        self.draft.with_first(0, values, inverse, false, values);
        self.draft.with_constant(0, values, Prec::Fp32, (-1.0 / to.scale).to_bits(), values);
        let wide = self.draft.tensor(Prec::Int16, true, row.shape);
        self.draft.convert(values, wide);
        let result = self.draft.tensor(Prec::Int8, dtype == DType::I8, row.shape);
        self.draft.add_zero(wide, to.zero, result);
        let shape = self.shape(node.outputs[0])?;
        Ok(self.draft.reshape(result, shape))
    }

    /// `exp((x - max) · scale)` of a row, twice.
    fn exponentials(&mut self, row: Home, scale: f32) -> [Home; 2] {
        let [n, _, _, classes] = row.shape;
        let largest = self.draft.tensor(Prec::Int8, row.signed, [n, 1, 1, 1]);
        let mut pool = pool(row, largest, [1, classes], [1, 1]);
        pool.eu = 4;
        let places = vec![("opd0_addr", Place::Local(row.buffer, 0)), ("res0_addr", Place::Local(largest.buffer, 0))];
        self.draft.push(pool, places);
        let below = self.draft.tensor(Prec::Int8, false, row.shape);
        self.draft.with_first(3, row, largest, true, below);
        let entry = |distance: u32| ((-f64::from(distance) * f64::from(scale)).exp() as f32).to_le_bytes();
        let table: Vec<u8> = (0..256).flat_map(entry).collect();
        [(); 2].map(|()| {
            let result = self.draft.tensor(Prec::Fp32, true, row.shape);
            self.lookup(below, Prec::Fp32, &table, result);
            result
        })
    }

    /// `-1 / sum` for sums of 1 to `classes`.
    fn negative_inverse(&mut self, sum: Home, classes: u32) -> Home {
        let scaled = self.draft.tensor(Prec::Fp32, true, sum.shape);
        let steps = 255.0 / classes as f32;
        self.draft.with_constant(0, sum, Prec::Fp32, steps.to_bits(), scaled);
        let index = self.draft.tensor(Prec::Int8, false, sum.shape);
        self.draft.convert(scaled, index);
        let entry = |index: u32| (-1.0 / (index as f32 / steps).max(1.0)).to_le_bytes();
        let table: Vec<u8> = (0..256).flat_map(entry).collect();
        let inverse = self.draft.tensor(Prec::Fp32, true, sum.shape);
        self.lookup(index, Prec::Fp32, &table, inverse);
        for _ in 0..STEPS {
            self.draft.binary(0, sum, inverse, scaled);
            self.draft.with_constant(2, scaled, Prec::Fp32, 2f32.to_bits(), scaled);
            self.draft.binary(0, inverse, scaled, inverse);
        }
        inverse
    }
}
