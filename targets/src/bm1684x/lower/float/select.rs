//! Comparisons of floats, and choices by them. A truth value is a float here, 0 or 1.

use adze_ir::graph::Node;
use adze_ir::ops::BinaryFn;

use super::super::super::isa::{Prec, Select};
use super::super::build::{Home, Place};
use super::super::places::Source;
use super::super::{Lowering, Refusal, refuse};
use super::pointwise::{MAX, MUL, bits};

/// Codes of selections.
pub(super) const GREATER: u32 = 23;
pub(super) const EQUAL: u32 = 24;
pub(super) const LESS: u32 = 26;

impl Lowering<'_> {
    /// Lowers a comparison of floats, or logic on truth values.
    pub(in super::super) fn compare(&mut self, node: &Node, function: BinaryFn) -> Result<Home, Refusal> {
        self.need_half("a comparison")?;
        let shape = self.shape(node.outputs[0])?;
        let prec = self.real;
        let mut operands = || -> Result<[Source; 2], Refusal> {
            Ok([self.operand(node, 0, shape, prec, false)?, self.operand(node, 1, shape, prec, false)?])
        };
        let [a, b] = operands()?;
        let codes: &[u32] = match function {
            BinaryFn::Equal => &[EQUAL],
            BinaryFn::Greater => &[GREATER],
            BinaryFn::Less => &[LESS],
            // What is no number compares as false with everything.
            BinaryFn::GreaterOrEqual => &[GREATER, EQUAL],
            BinaryFn::LessOrEqual => &[LESS, EQUAL],
            BinaryFn::And | BinaryFn::Or => {
                let result = self.float(prec, shape);
                self.draft.arithmetic(if function == BinaryFn::And { MUL } else { MAX }, [a, b], result);
                return Ok(result);
            }
            other => return refuse(format!("`{other}` of floats"), "comparisons, and, or"),
        };
        let [a, b] = [a, b].map(|source| self.dense(source, prec, shape));
        let [yes, no] = [1.0, 0.0].map(|value| Source::Value(bits(value, prec)));
        let mut found: Option<Home> = None;
        for &code in codes {
            let one = self.float(prec, shape);
            self.select(code, [a, b, yes, no], one);
            match found {
                Some(found) => self.draft.binary(MAX, found, one, found),
                None => found = Some(one),
            }
        }
        found.map_or_else(|| refuse("no comparison", "one"), Ok)
    }

    /// Lowers `condition ? x : y`.
    pub(super) fn float_where(&mut self, node: &Node) -> Result<Home, Refusal> {
        self.need_half("a choice")?;
        let (shape, prec) = (self.shape(node.outputs[0])?, self.real);
        let mut operand = |index: usize| -> Result<Source, Refusal> {
            let source = self.operand(node, index, shape, prec, false)?;
            Ok(self.dense(source, prec, shape))
        };
        let [condition, x, y] = [operand(0)?, operand(1)?, operand(2)?];
        let result = self.float(prec, shape);
        self.select(EQUAL, [condition, Source::Value(0), y, x], result);
        Ok(result)
    }

    /// An operand as a value or a tensor of the shape of the result.
    fn dense(&mut self, source: Source, prec: Prec, shape: [u32; 4]) -> Source {
        match source {
            Source::Strided(..) => {
                let whole = self.float(prec, shape);
                self.draft.repeat(source, whole);
                Source::Dense(whole)
            }
            other => other,
        }
    }

    /// `a op b ? c : d` of values and tensors of the shape of the result.
    pub(super) fn select(&mut self, eu: u32, operands: [Source; 4], result: Home) {
        let [n, c, h, w] = result.shape;
        let prec = result.prec.code();
        let mut select = Select { eu, opd0_prec: prec, opd2_prec: prec, opd0_sign: 1, ..Select::default() };
        [select.res0_n, select.res0_c, select.res0_h, select.res0_w] = [n, c, h, w];
        let mut places = vec![("res0_addr", Place::Local(result.buffer, 0))];
        let fields = [
            ("opd0_addr", &mut select.opd0_const, &mut select.opd0_addr),
            ("opd1_addr", &mut select.opd1_const, &mut select.opd1_addr),
            ("opd2_addr", &mut select.opd2_const, &mut select.opd2_addr),
            ("opd3_addr", &mut select.opd3_const, &mut select.opd3_addr),
        ];
        for (source, (name, constant, address)) in operands.into_iter().zip(fields) {
            match source {
                Source::Value(bits) => (*constant, *address) = (1, bits),
                Source::Dense(home) => places.push((name, Place::Local(home.buffer, 0))),
                Source::Strided(place, _) => places.push((name, place)),
            }
        }
        self.draft.push(select, places);
    }
}
