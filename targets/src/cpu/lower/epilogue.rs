//! What happens to a result in registers before it is stored: the steps of a fusion behind their anchor.

use adze_ir::extent::Extent;
use adze_ir::ops::{BodyRef, Op};
use adze_ir::types::DType;

use super::conv::Phase;
use super::elementwise::{self, Lane, is_elementwise, is_number};
use super::leaf::{Anchor, Leaf, Stream, input, unsupported};
use super::micro::load_lanes;
use super::operand::{Operand, PackedWeight, Unsupported};
use super::point::{operand_strides, step_dtype};
use super::requantize::Requantized;
use super::store;
use crate::cpu::kernel::{KernelBuilder, Value};

/// The steps behind an anchor, with their operands as streams over the result's axes.
#[derive(Clone, Debug)]
pub(super) struct Epilogue<'a> {
    steps: Vec<(&'a Op, Vec<Arg>)>,
    /// Streams that the steps read and their strides, one per axis of the result.
    pub streams: Vec<(Stream, Vec<Extent>)>,
    dtypes: Vec<DType>,
    /// What comes first: the streams of the parameters, and how sums are stored.
    stored: Option<(Vec<usize>, Requantized)>,
    /// Bytes that are narrowed at once.
    together: u16,
    /// Dtype of the anchor's result and of the last step's.
    results: (DType, DType),
}

#[derive(Clone, Copy, Debug)]
enum Arg {
    Step(usize),
    Stream(usize),
    Number(f64, DType),
}

impl<'a> Epilogue<'a> {
    /// Declares the parameters of the steps' operands; `anchored` is the dtype of the anchor's result, `y` the leaf's.
    pub fn of(leaf: &mut Leaf<'_>, anchor: &Anchor<'a>, anchored: DType, y: &Operand) -> Result<Self, Unsupported> {
        let mut epilogue = Epilogue {
            steps: Vec::new(),
            streams: Vec::new(),
            dtypes: Vec::new(),
            stored: None,
            together: store::together(leaf.cx.machine),
            results: (anchored, y.dtype),
        };
        let mut seen: Vec<(usize, Vec<Extent>)> = Vec::new();
        for step in anchor.epilogues {
            if !is_elementwise(&step.op) {
                return Err(unsupported(format!("epilogue `{}`", step.op.name()), "elementwise operators"));
            }
            let mut args = Vec::new();
            for (position, arg) in step.inputs.iter().enumerate() {
                match arg {
                    Some(BodyRef::Step(index)) => args.push(Arg::Step(*index as usize)),
                    Some(BodyRef::Param(index)) => {
                        args.push(epilogue.operand(leaf, &step.op, position, *index as usize, y, &mut seen)?);
                    }
                    // Left out at the end.
                    None => {}
                }
            }
            epilogue.steps.push((&step.op, args));
        }
        Ok(epilogue)
    }

    /// The same for sums that are first requantized; their scales lie along an axis of the result.
    pub fn requantizing(
        leaf: &mut Leaf<'_>,
        anchor: &Anchor<'a>,
        y: &Operand,
        axis: usize,
        stored: &Requantized,
    ) -> Result<Self, Unsupported> {
        let mut epilogue = Self::of(leaf, anchor, stored.dtype, y)?;
        let mut parameters = Vec::new();
        for (transform, data) in stored.parameters() {
            let mut strides = vec![Extent::ZERO; y.rank()];
            if data.elems() > 1 {
                strides[axis] = Extent::ONE;
            }
            epilogue.dtypes.push(data.dtype());
            parameters.push(epilogue.streams.len());
            epilogue.streams.push((leaf.packed(PackedWeight { transform: transform.into(), data }), strides));
        }
        epilogue.stored = Some((parameters, stored.clone()));
        Ok(epilogue)
    }

    fn operand(
        &mut self,
        leaf: &mut Leaf<'_>,
        op: &Op,
        position: usize,
        index: usize,
        y: &Operand,
        seen: &mut Vec<(usize, Vec<Extent>)>,
    ) -> Result<Arg, Unsupported> {
        let operand = input(leaf.cx, index)?;
        if let Some(number) = operand.constant.as_ref().filter(|c| c.elems() == 1 && is_number(c.dtype())) {
            return Ok(Arg::Number(number.to_f64()[0], operand.dtype));
        }
        if elementwise::compute_elem(operand.dtype).is_none() {
            return Err(unsupported(format!("an epilogue on {}", operand.dtype), "dtypes of 8 bits or more"));
        }
        let key = (index, operand_strides(op, position, operand, y));
        if let Some(known) = seen.iter().position(|s| *s == key) {
            return Ok(Arg::Stream(known));
        }
        let stream = leaf.input(index)?;
        self.streams.push((stream, key.1.clone()));
        self.dtypes.push(operand.dtype);
        seen.push(key);
        Ok(Arg::Stream(seen.len() - 1))
    }

    /// Keeps only some outputs of the spatial axes.
    pub fn thin(&mut self, phases: &[Phase]) {
        for (stream, strides) in &mut self.streams {
            for (axis, phase) in phases.iter().enumerate() {
                let stride = &mut strides[axis + 2];
                stream.base = stream.base.clone() + stride.clone() * phase.first.clone();
                *stride = stride.clone() * phase.step.into();
            }
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.stored.is_none()
    }

    /// Whether values have to be saturated to the result's dtype as they are stored, and how; see [`store::together`].
    pub fn saturates(&self) -> Option<u16> {
        (self.steps.is_empty() && self.stored.is_some()).then_some(self.together)
    }

    /// Applies the steps to the anchor's value; `operands` are the streams' values at the same place.
    pub fn apply(&self, b: &mut KernelBuilder, value: Value, operands: &[Lane]) -> Result<Value, Unsupported> {
        let value = match &self.stored {
            None => value,
            Some((parameters, stored)) => {
                let parameters: Vec<Value> = parameters.iter().map(|&stream| operands[stream].value).collect();
                stored.emit(b, value, &parameters, self.saturates().is_some())
            }
        };
        let ty = b.ty(value);
        let mut results = vec![Lane { value, dtype: self.results.0, constant: None }];
        for (index, (op, args)) in self.steps.iter().enumerate() {
            let mut values: Vec<Lane> = Vec::with_capacity(args.len());
            for arg in args {
                values.push(match *arg {
                    Arg::Step(index) => *results
                        .get(index)
                        .ok_or_else(|| unsupported("a step that is not computed yet", "an earlier step"))?,
                    Arg::Stream(index) => operands[index],
                    Arg::Number(number, dtype) => elementwise::number(b, number, dtype, ty.lanes),
                });
            }
            let last = index + 1 == self.steps.len();
            let dtype = if last { self.results.1 } else { step_dtype(op, &values) };
            results.push(elementwise::emit(b, op, &values, dtype)?);
        }
        Ok(results.last().map_or(value, |lane| lane.value))
    }

    /// Reads all operands at a place: `at` and `stride` per stream, vectors of `lanes` of which `valid` may be read.
    pub fn load(&self, b: &mut KernelBuilder, at: &dyn Fn(usize) -> (Extent, Extent), lanes: (u16, u16)) -> Vec<Lane> {
        let mut values = Vec::with_capacity(self.streams.len());
        for (index, (stream, _)) in self.streams.iter().enumerate() {
            let dtype = self.dtypes[index];
            let elem = elementwise::compute_elem(dtype).expect("sub-byte operands are refused before");
            let (at, stride) = at(index);
            values.push(Lane { value: load_lanes(b, stream, at, &stride, lanes, elem), dtype, constant: None });
        }
        values
    }
}
