//! What happens to a result in registers before it is stored: the steps of a fusion behind their anchor.

use adze_ir::extent::Extent;
use adze_ir::ops::{BodyRef, Op};

use super::leaf::{Anchor, Leaf, Stream, broadcast_strides, input, unsupported};
use super::micro::load_lanes;
use super::operand::Unsupported;
use crate::cpu::kernel::{Elem, KernelBuilder, Value};

/// The steps behind an anchor, with their operands as streams over the result's axes.
#[derive(Clone, Debug, Default)]
pub(super) struct Epilogue<'a> {
    steps: Vec<(&'a Op, Vec<Arg>)>,
    /// Streams that the steps read and their strides, one per axis of the result.
    pub streams: Vec<(Stream, Vec<Extent>)>,
}

#[derive(Clone, Copy, Debug)]
enum Arg {
    Step(usize),
    Stream(usize),
}

impl<'a> Epilogue<'a> {
    /// Declares the parameters of the steps' operands.
    pub fn of(leaf: &mut Leaf<'_>, anchor: &Anchor<'a>, shape: &[Extent]) -> Result<Self, Unsupported> {
        let mut epilogue = Epilogue::default();
        let mut seen: Vec<usize> = Vec::new();
        for step in anchor.epilogues {
            let mut args = Vec::new();
            for arg in &step.inputs {
                args.push(match arg {
                    Some(BodyRef::Step(index)) => Arg::Step(*index as usize),
                    Some(BodyRef::Param(index)) => {
                        let index = *index as usize;
                        let known = seen.iter().position(|&s| s == index);
                        Arg::Stream(match known {
                            Some(position) => position,
                            None => {
                                let strides = broadcast_strides(input(leaf.cx, index)?, shape)?;
                                let stream = leaf.input(index)?;
                                epilogue.streams.push((stream, strides));
                                seen.push(index);
                                seen.len() - 1
                            }
                        })
                    }
                    None => return Err(unsupported(format!("`{}` with an operand left out", step.op.name()), "values")),
                });
            }
            epilogue.steps.push((&step.op, args));
        }
        Ok(epilogue)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Applies the steps to the anchor's value; `operands` are the streams' values at the same place.
    pub fn apply(&self, b: &mut KernelBuilder, value: Value, operands: &[Value]) -> Result<Value, Unsupported> {
        let mut results = vec![value];
        for (op, args) in &self.steps {
            let mut values = Vec::with_capacity(args.len());
            for arg in args {
                let found = match *arg {
                    Arg::Step(index) => results.get(index),
                    Arg::Stream(index) => operands.get(index),
                };
                values.push(*found.ok_or_else(|| unsupported("a step that is not computed yet", "an earlier step"))?);
            }
            results.push(emit_step(b, op, &values)?);
        }
        Ok(results.pop().unwrap_or(value))
    }

    /// Reads all operands at a place: `at` and `stride` per stream, vectors of `lanes` of which `valid` may be read.
    pub fn load(
        &self,
        b: &mut KernelBuilder,
        at: &dyn Fn(usize) -> (Extent, Extent),
        lanes: (u16, u16),
        elem: Elem,
    ) -> Vec<Value> {
        let mut values = Vec::with_capacity(self.streams.len());
        for (index, (stream, _)) in self.streams.iter().enumerate() {
            let (at, stride) = at(index);
            values.push(load_lanes(b, stream, at, &stride, lanes, elem));
        }
        values
    }
}

/// Until the elementwise family is here.
fn emit_step(b: &mut KernelBuilder, op: &Op, args: &[Value]) -> Result<Value, Unsupported> {
    use adze_ir::ops::{BinaryFn, UnaryFn};
    let ty = b.ty(args[0]);
    match op {
        Op::Unary(u) if u.function == UnaryFn::Relu => {
            let zero = b.zero(ty);
            Ok(b.bin(crate::cpu::kernel::BinOp::MaxSel, zero, args[0]))
        }
        Op::Binary(f) if f.function == BinaryFn::Add => Ok(b.add(args[0], args[1])),
        Op::Binary(f) if f.function == BinaryFn::Mul => Ok(b.mul(args[0], args[1])),
        other => Err(unsupported(format!("epilogue `{}`", other.name()), "relu, add, mul")),
    }
}
