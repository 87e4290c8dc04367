//! Values that keep 32 bits between operators: what a logarithm is taken of, back to the products that make it. A power or a small
//! number added to it so that it is not 0 has no place in half floats, and the logarithm of 0 none at all.

use std::collections::BTreeSet;

use adze_ir::graph::ValueId;
use adze_ir::ops::{BinaryFn, Op, ReduceFn, UnaryFn};

use super::super::super::isa::Prec;
use super::super::Lowering;

/// Whether an operator makes a value of 32 bits where one is wanted, and whether it wants its operands so.
fn widens(op: &Op) -> Option<bool> {
    match op {
        Op::Binary(op) if matches!(op.function, BinaryFn::Add | BinaryFn::Sub) => Some(true),
        Op::Binary(op) if matches!(op.function, BinaryFn::Mul | BinaryFn::Pow) => Some(false),
        Op::Reduce(op) if op.function == ReduceFn::SumSquare => Some(false),
        Op::Reduce(op) if matches!(op.function, ReduceFn::Sum | ReduceFn::Mean) => Some(true),
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Concat(_) => Some(true),
        _ => None,
    }
}

impl Lowering<'_> {
    /// The values that keep 32 bits.
    pub(in super::super) fn wide_values(&self) -> BTreeSet<ValueId> {
        let (mut wide, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        if !self.real.is_half() {
            return wide;
        }
        // Values that somebody wants in 16 bits.
        let mut narrow: BTreeSet<ValueId> = self.graph.outputs().iter().map(|output| output.value).collect();
        // Who reads a value is seen before who makes it.
        for (_, node) in self.graph.nodes().rev() {
            let keeps = |value: &ValueId| {
                let float = self.graph.ty(*value).dtype.is_float();
                float && wanted.contains(value) && !narrow.contains(value)
            };
            let kept = node.outputs.first().copied().filter(keeps).zip(widens(&node.op));
            wide.extend(kept.map(|(value, _)| value));
            let log = matches!(&node.op, Op::Unary(op) if op.function == UnaryFn::Log);
            let operands = if log || kept.is_some_and(|(_, operands)| operands) { &mut wanted } else { &mut narrow };
            operands.extend(node.inputs.iter().flatten().copied());
        }
        wide
    }

    /// The type that a value of floats has while it is in local memory.
    pub(in super::super) fn type_of(&self, value: ValueId) -> Prec {
        if self.wide.contains(&value) { Prec::Fp32 } else { self.real }
    }
}
