//! Softmax between integers.
//!
//! Differences to the largest value are bytes again, so that their exponentials are a table. The rest is arithmetic on floats
//! that is defined to the last bit: sums by halves, and the inverse of the sum by Newton's method from a table (the chip's own
//! division is not). The quotient is within some twenty units of the last place of the true one, so the result is that of the
//! model but for values that are about 3e-4 units from a tie.

use adze_ir::graph::Node;
use adze_ir::ops::Softmax;
use adze_ir::types::DType;

use super::super::isa::Prec;
use super::super::machine::LANES;
use super::build::{Home, lane_bytes};
use super::places::{DensePart, Region, Source};
use super::quantize::Affine;
use super::{Lowering, Refusal, place_of, refuse};

/// Exponentials take at most this share of local memory where they can.
const ROWS_SHARE: u64 = 16;
/// What Newton's method leaves is below rounding.
const TO_ROUNDING: f64 = 1.5e-8;

/// Where a sum of 1 to so many exponentials is looked up, and what an entry is off by.
struct Start {
    /// Entries per unit.
    steps: f32,
    /// The sums that an entry stands for.
    ends: Box<dyn Fn(u32) -> [f64; 2]>,
    /// Newton's steps.
    count: u32,
}

impl Start {
    fn of(classes: u32) -> Self {
        let steps = 255.0 / classes as f32;
        let most = f64::from(classes);
        let ends = move |index: u32| {
            // The position was rounded once before it was made whole.
            let end = |by: f64| ((f64::from(index) + by * 0.500_1) / f64::from(steps)).clamp(1.0, most);
            [end(-1.0), end(1.0)]
        };
        let off = (0..256).map(&ends).map(|[lo, hi]| (hi - lo) / (hi + lo)).fold(0.0, f64::max);
        // Each step squares it.
        let count = (1..12).find(|&count| off.powi(1 << count) < TO_ROUNDING).unwrap_or(12);
        Self { steps, ends: Box::new(ends), count }
    }
}

impl Lowering<'_> {
    /// Lowers `quantize(softmax(dequantize(x)))`.
    pub(super) fn softmax(
        &mut self,
        node: &Node,
        anchor: &Node,
        op: &Softmax,
        to: Affine,
        dtype: DType,
    ) -> Result<Home, Refusal> {
        let (value, from) = self.dequantized(anchor.inputs[0])?;
        if !(from.scale > 0.0 && from.scale.is_finite()) {
            return refuse(format!("a softmax of values of scale {}", from.scale), "a positive scale");
        }
        let Some(dims) = self.graph.ty(value).fixed_shape() else { return refuse("no fixed shape", "fixed shapes") };
        let classes: usize = dims[op.axis..].iter().take(if op.flatten { dims.len() } else { 1 }).product();
        let inner = if op.flatten { 1 } else { dims[op.axis + 1..].iter().product() };
        let rows = dims.iter().product::<usize>() / classes.max(1);
        let rows = super::extents(&[1, rows, 1, classes])?;
        let mut x = self.home(value)?;
        let axis = place_of(dims.len(), op.axis);
        if inner > 1 {
            x = self.with_last(x, axis);
        }
        let turned = x.shape;
        let x = self.draft.reshape(x, rows);
        let result = self.draft.tensor(Prec::Int8, dtype == DType::I8, rows);
        let row = lane_bytes(Prec::Fp32, [1, 1, 1, rows[3]]);
        let at_once = (u64::from(self.lane_bytes) / ROWS_SHARE / row).clamp(1, rows[1].div_ceil(LANES).into());
        let step = at_once as u32 * LANES;
        for first in (0..rows[1]).step_by(step as usize) {
            let shape = [1, step.min(rows[1] - first), 1, rows[3]];
            let start = self.draft.steps.len();
            self.softmax_part([x, result].map(|home| Home { shape, ..home }), from, to);
            self.draft.move_to(start, DensePart { shape, at: [0, first, 0] }, &[x, result]);
        }
        let shape = self.shape(node.outputs[0])?;
        if inner > 1 {
            let result = self.draft.reshape(result, turned);
            return Ok(self.with_last(result, axis));
        }
        Ok(self.draft.reshape(result, shape))
    }

    /// Some rows: one in each lane, or several.
    fn softmax_part(&mut self, [x, result]: [Home; 2], from: Affine, to: Affine) {
        let values = self.exponentials(x, from.scale);
        let inverse = self.negative_inverse(values);
        self.draft.with_first(0, values, inverse, false, values);
        self.draft.with_constant(0, values, Prec::Fp32, (-1.0 / to.scale).to_bits(), values);
        let wide = self.draft.tensor(Prec::Int16, true, x.shape);
        self.draft.convert(values, wide);
        self.draft.add_zero(wide, to.zero, result);
    }

    /// `exp((x - max) · scale)` of rows.
    fn exponentials(&mut self, rows: Home, scale: f32) -> Home {
        let largest = self.largest_of(rows, [1, rows.shape[3]]);
        let below = self.draft.tensor(Prec::Int8, false, rows.shape);
        self.draft.with_first(3, rows, largest, true, below);
        let entry = |distance: u32| ((-f64::from(distance) * f64::from(scale)).exp() as f32).to_le_bytes();
        let table: Vec<u8> = (0..256).flat_map(entry).collect();
        let result = self.draft.tensor(Prec::Fp32, true, rows.shape);
        self.lookup(below, Prec::Fp32, &table, result);
        result
    }

    /// `-1 / sum` of rows of exponentials, one of which is 1.
    fn negative_inverse(&mut self, values: Home) -> Home {
        let addends = self.draft.tensor(Prec::Fp32, true, values.shape);
        self.draft.repeat(Source::dense(values), addends);
        self.draft.sum_row(addends);
        let [n, c, _, classes] = values.shape;
        let sum = self.draft.tensor(Prec::Fp32, true, [n, c, 1, 1]);
        self.draft.copy_region(addends, Region::default(), sum, Region::default(), sum.shape);
        let start = Start::of(classes);
        let scaled = self.draft.tensor(Prec::Fp32, true, sum.shape);
        self.draft.with_constant(0, sum, Prec::Fp32, start.steps.to_bits(), scaled);
        let index = self.draft.tensor(Prec::Int8, false, sum.shape);
        self.draft.convert(scaled, index);
        let entry = |index: u32| (-2.0 / (start.ends)(index).iter().sum::<f64>()) as f32;
        let table: Vec<u8> = (0..256).flat_map(|index| entry(index).to_le_bytes()).collect();
        let inverse = self.draft.tensor(Prec::Fp32, true, sum.shape);
        self.lookup(index, Prec::Fp32, &table, inverse);
        for _ in 0..start.count {
            self.draft.binary(0, sum, inverse, scaled);
            self.draft.with_constant(2, scaled, Prec::Fp32, 2f32.to_bits(), scaled);
            self.draft.binary(0, inverse, scaled, inverse);
        }
        inverse
    }
}
