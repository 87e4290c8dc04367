//! Sums of two tensors of bytes.
//!
//! Two tensors have 65,536 pairs: of the ways in which the chip's floats add scaled values, the one is taken that gives the result
//! of the reference evaluation for every one of them. The model rounds a quotient twice, which can put single pairs on a tie that
//! no such way has: then the best one is taken, each such pair is one unit off, and a note says how many there are.

use adze_ir::graph::{Node, ValueId};
use adze_ir::ops::{BinaryFn, Op};
use adze_ir::types::DType;

use super::super::isa::Prec;
use super::build::Home;
use super::places::dense_parts;
use super::quantize::{Affine, Cone};
use super::requant::{byte_range, neighbours};
use super::{Lowering, Refusal, refuse};

impl Lowering<'_> {
    /// A sum or difference of two tensors, each with its scale.
    pub(super) fn sum(
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
        let expected = self.results(node, cone, None)?.to_i64();
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
