//! Elementwise leaves and fusions of them: one nest, every operand read once per element.

use adze_ir::extent::Extent;
use adze_ir::ops::{BodyRef, BodyStep, Op};
use adze_ir::types::DType;

use super::elementwise::{Lane, compute_elem, emit, is_vector_dtype};
use super::nest::{Nest, broadcast_strides};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::kernel::{Access, KernelBuilder, Param, Type};

/// Lanes of a strip: two registers of `f32`, which hides the latency of chains.
const LANES: u16 = 8;

/// Lowers an elementwise operator, or a fusion all of whose steps are elementwise.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let out = &cx.outputs[0];
    let inputs: Vec<(usize, &Operand)> = present(cx);
    let steps = steps(cx.op, cx.inputs.len());
    let mut strides = vec![out.strides.clone()];
    for (position, operand) in &inputs {
        strides.push(operand_strides(cx.op, *position, operand, out));
    }
    let nest = Nest::new(&out.shape, &strides, cx.dims);
    let dtypes = inputs.iter().map(|(_, o)| o.dtype).chain([out.dtype]);
    let vector = nest.is_vector() && dtypes.into_iter().all(is_vector_dtype);
    let mut b = cx.builder(&format!("{}_{}", name(cx.op), out.dtype));
    let y = b.param("y", out.dtype, Access::Out);
    let params: Vec<Param> = inputs.iter().map(|(i, o)| b.param(&format!("x{i}"), o.dtype, Access::In)).collect();
    let mut failure = None;
    nest.emit(&mut b, if vector { LANES } else { 1 }, |b, offsets, lanes| {
        let mut values = vec![None; cx.inputs.len()];
        for (k, (position, operand)) in inputs.iter().enumerate() {
            let moves = nest.inner_stride(k + 1) != Extent::ZERO;
            values[*position] =
                Some(load(b, params[k], operand, at(offsets, k + 1), if moves { lanes } else { 1 }, lanes));
        }
        match eval_steps(b, &steps, &values, out.dtype) {
            Ok(lane) => b.store_as(y, at(offsets, 0), lane.value),
            Err(error) => failure = Some(error),
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let pointers = std::iter::once(PtrRole::Output(0)).chain(inputs.iter().map(|(i, _)| PtrRole::Input(*i))).collect();
    Ok(vec![Lowered { kernel: b.finish(), pointers, range: nest.range() }])
}

fn at(offsets: &[Extent], index: usize) -> Extent {
    offsets.get(index).cloned().unwrap_or(Extent::ZERO)
}

/// The operands that are there, with their positions.
pub fn present<'a>(cx: &LeafCx<'a>) -> Vec<(usize, &'a Operand)> {
    cx.inputs.iter().enumerate().filter_map(|(i, o)| o.as_ref().map(|o| (i, o))).collect()
}

fn name(op: &Op) -> String {
    use adze_ir::text::Spelling as _;
    match op {
        Op::Fused(fused) => fused.steps.iter().map(|s| s.op.spelling()).collect::<Vec<_>>().join("_"),
        op => op.spelling().to_owned(),
    }
}

/// The steps of a fusion, or the operator alone as one step.
fn steps(op: &Op, inputs: usize) -> Vec<BodyStep> {
    match op {
        Op::Fused(fused) => fused.steps.to_vec(),
        op => {
            let inputs = (0..inputs).map(|i| u32::try_from(i).ok().map(BodyRef::Param)).collect();
            vec![BodyStep { op: op.clone(), inputs }]
        }
    }
}

/// How an operand moves along the result's axes: per-channel parameters move along their axis only.
pub(super) fn operand_strides(op: &Op, position: usize, operand: &Operand, out: &Operand) -> Vec<Extent> {
    let along = |axis: usize| {
        let mut strides = vec![Extent::ZERO; out.rank()];
        if operand.rank() == 1 && axis < strides.len() && operand.shape[0] != Extent::ONE {
            strides[axis] = operand.strides[0].clone();
        }
        strides
    };
    match op {
        Op::BatchNorm(_) if position > 0 => along(1),
        Op::Quantize(q) if position > 0 && operand.rank() == 1 => along(q.axis),
        Op::Dequantize(q) if position > 0 && operand.rank() == 1 => along(q.axis),
        _ => broadcast_strides(operand, out.rank()),
    }
}

/// Reads `read` elements and spreads them over `lanes`; a known scalar becomes a constant.
pub fn load(b: &mut KernelBuilder, param: Param, operand: &Operand, offset: Extent, read: u16, lanes: u16) -> Lane {
    let dtype = operand.dtype;
    let elem = compute_elem(dtype).expect("sub-byte operands are refused before");
    let scalar = operand.constant.as_ref().filter(|c| c.elems() == 1).map(|c| c.to_f64()[0]);
    let ty = Type::vec(elem, lanes);
    if let Some(number) = scalar.filter(|_| elem.is_float()) {
        return Lane { value: b.number(number, ty), dtype, constant: scalar };
    }
    let value = b.load_as(param, offset, Type::vec(elem, read));
    let value = if read == lanes { value } else { b.splat(value, lanes) };
    Lane { value, dtype, constant: scalar }
}

/// Values of the steps in order; the last is the result.
pub fn eval_steps(
    b: &mut KernelBuilder,
    steps: &[BodyStep],
    params: &[Option<Lane>],
    result: DType,
) -> Result<Lane, Unsupported> {
    let mut done: Vec<Lane> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let args: Vec<Lane> = step
            .inputs
            .iter()
            .filter_map(|r| match (*r)? {
                BodyRef::Param(p) => params.get(p as usize).copied().flatten(),
                BodyRef::Step(s) => done.get(s as usize).copied(),
            })
            .collect();
        let last = index + 1 == steps.len();
        let dtype = if last { result } else { step_dtype(&step.op, &args) };
        done.push(emit(b, &step.op, &args, dtype)?);
    }
    done.pop().ok_or_else(|| Unsupported { found: "an empty body".into(), accepted: "a step".into() })
}

/// Dtype of an elementwise step inside a body.
pub(super) fn step_dtype(op: &Op, args: &[Lane]) -> DType {
    match op {
        Op::Cast(cast) => cast.to,
        Op::Quantize(quantize) => quantize.to,
        Op::Dequantize(_) | Op::Where(_) => args[1].dtype,
        Op::IsInf(_) => DType::Bool,
        Op::Unary(u) if u.function == adze_ir::ops::UnaryFn::IsNan => DType::Bool,
        Op::Binary(binary) if binary.function.is_comparison() => DType::Bool,
        _ => args[0].dtype,
    }
}
