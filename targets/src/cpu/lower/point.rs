//! Elementwise leaves and fusions of them: one nest, every operand read once per element.

use adze_ir::extent::Extent;
use adze_ir::ops::{BinaryFn, BodyRef, BodyStep, Op};
use adze_ir::types::DType;

use super::elementwise::{Lane, compute_elem, emit, is_number, is_vector_dtype, number};
use super::nest::{Nest, broadcast_strides};
use super::nibble::{self, is_nibble};
use super::operand::{LeafCx, Lowered, Operand, PtrRole, Unsupported};
use crate::cpu::kernel::{Access, Elem, KernelBuilder, Param, Type, Value};

/// Lowers an elementwise operator, or a fusion all of whose steps are elementwise.
///
/// # Errors
/// [`Unsupported`] for dtypes without code.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    let out = &cx.outputs[0];
    let inputs: Vec<(usize, &Operand)> = present(cx);
    let steps = steps(cx.op, cx.inputs.len());
    let mut shape = out.shape.clone();
    let mut strides = vec![out.strides.clone()];
    for (position, operand) in &inputs {
        strides.push(param_strides(&steps, *position, operand, out)?);
    }
    if let Some((axis, block)) = blocks(&steps, cx)? {
        split_axis(&mut shape, &mut strides, axis, block, cx)?;
    }
    let nest = Nest::new(&shape, &strides, cx.dims);
    let dtypes = inputs.iter().map(|(_, o)| o.dtype).chain([out.dtype]);
    let vector = nest.is_vector() && dtypes.into_iter().all(is_vector_dtype) && !steps.iter().any(is_scalar_step);
    let mut b = cx.builder(&format!("{}_{}", name(cx.op), out.dtype));
    let access = if is_nibble(out.dtype) { Access::InOut } else { Access::Out };
    let y = b.param("y", out.dtype, access);
    let params: Vec<Param> = inputs.iter().map(|(i, o)| b.param(&format!("x{i}"), o.dtype, Access::In)).collect();
    let mut failure = None;
    let body = |b: &mut KernelBuilder, offsets: &[Extent], lanes: u16| {
        let mut values = vec![None; cx.inputs.len()];
        for (k, (position, operand)) in inputs.iter().enumerate() {
            let moves = nest.inner_stride(k + 1) != Extent::ZERO;
            let place = at(offsets, k + 1) + operand.offset.clone();
            values[*position] = Some(load(b, params[k], operand, place, if moves { lanes } else { 1 }, lanes));
        }
        match eval_steps(b, &steps, &values, out.dtype) {
            Ok(lane) => store(b, y, at(offsets, 0) + out.offset.clone(), lane.value),
            Err(error) => failure = Some(error),
        }
    };
    let range = if is_nibble(out.dtype) {
        let (lo, hi) = b.range();
        // Neighbours share bytes: one thread writes them all.
        let start = vec![Extent::ZERO; strides.len()];
        b.loop_(lo, hi, 1, |b, _| nest.emit_all(b, &start, 1, body));
        Extent::ONE
    } else {
        nest.emit(&mut b, if vector { cx.machine.strip_lanes(DType::F32) } else { 1 }, body);
        nest.range()
    };
    if let Some(error) = failure {
        return Err(error);
    }
    let pointers = std::iter::once(PtrRole::Output(0)).chain(inputs.iter().map(|(i, _)| PtrRole::Input(*i))).collect();
    Ok(vec![Lowered { kernel: b.finish(), pointers, range }])
}

/// Whether a step has code for single lanes only: shifts by an amount per lane.
fn is_scalar_step(step: &BodyStep) -> bool {
    matches!(&step.op, Op::Binary(b) if matches!(b.function, BinaryFn::ShiftLeft | BinaryFn::ShiftRight))
}

/// How an operand moves along the result's axes, the same for all steps that read it.
fn param_strides(
    steps: &[BodyStep],
    param: usize,
    operand: &Operand,
    out: &Operand,
) -> Result<Vec<Extent>, Unsupported> {
    let mut found: Option<Vec<Extent>> = None;
    for step in steps {
        for (position, reference) in step.inputs.iter().enumerate() {
            if !matches!(reference, Some(BodyRef::Param(p)) if *p as usize == param) {
                continue;
            }
            let strides = operand_strides(&step.op, position, operand, out);
            if found.as_ref().is_some_and(|f| *f != strides) {
                let found = format!("operand {param} read in two ways");
                return Err(Unsupported { found, accepted: "one way for all steps".into() });
            }
            found = Some(strides);
        }
    }
    Ok(found.unwrap_or_else(|| vec![Extent::ZERO; out.rank()]))
}

/// Axis and block of a step whose scales are blocked; fusions with one are refused when the axis cannot be split.
fn blocks(steps: &[BodyStep], cx: &LeafCx<'_>) -> Result<Option<(usize, usize)>, Unsupported> {
    let mut found = None;
    for step in steps {
        let (axis, block) = match &step.op {
            Op::Quantize(q) => (q.axis, q.block),
            Op::Dequantize(q) => (q.axis, q.block),
            _ => continue,
        };
        let Some(Some(BodyRef::Param(scale))) = step.inputs.get(1) else { continue };
        let many = cx.inputs.get(*scale as usize).and_then(Option::as_ref).is_some_and(|s| s.rank() > 1);
        if block == 0 || !many {
            continue;
        }
        if found.is_some_and(|f| f != (axis, block)) {
            return Err(Unsupported { found: "two blockings in a fusion".into(), accepted: "one".into() });
        }
        found = Some((axis, block));
    }
    Ok(found)
}

/// Splits an axis into whole blocks and what is inside: blocked operands, which have as many elements along it as there
/// are blocks, move with the former only.
fn split_axis(
    shape: &mut Vec<Extent>,
    strides: &mut [Vec<Extent>],
    axis: usize,
    block: usize,
    cx: &LeafCx<'_>,
) -> Result<(), Unsupported> {
    let (extent, block) = (shape[axis].clone(), Extent::from(block));
    let (count, inside) = match extent.as_const().zip(block.as_const()) {
        // One block, perhaps not a whole one.
        Some((extent, block)) if extent <= block => (Extent::ONE, Extent::from(extent)),
        _ if extent.modulo(&block) == Extent::ZERO => (extent.floordiv(&block), block.clone()),
        _ => {
            let accepted = format!("a multiple of the block {block}");
            return Err(Unsupported { found: format!("extent {extent} of a blocked axis"), accepted });
        }
    };
    let whole = extent.clone();
    shape.splice(axis..=axis, [count.clone(), inside.clone()]);
    let operands = std::iter::once(&cx.outputs[0]).chain(present(cx).into_iter().map(|(_, o)| o));
    for (steps, operand) in strides.iter_mut().zip(operands) {
        let step = steps[axis].clone();
        let own = (axis + operand.rank()).checked_sub(steps.len()).map(|a| operand.shape[a].clone());
        let blocked = own.is_some_and(|own| own == count && own != whole);
        let pair = if blocked { [step, Extent::ZERO] } else { [step.clone() * inside.clone(), step] };
        steps.splice(axis..=axis, pair);
    }
    Ok(())
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
    let elem = lane_elem(dtype);
    let scalar = operand.constant.as_ref().filter(|c| c.elems() == 1).map(|c| c.to_f64()[0]);
    if let Some(known) = scalar.filter(|_| is_number(dtype)) {
        return number(b, known, dtype, lanes);
    }
    let value = if is_nibble(dtype) {
        nibble::load(b, param, offset, read)
    } else {
        b.load_as(param, offset, Type::vec(elem, read))
    };
    let value = if read == lanes { value } else { b.splat(value, lanes) };
    Lane { value, dtype, constant: scalar }
}

/// The element in which lanes of a dtype are computed; 4-bit integers take a byte.
fn lane_elem(dtype: DType) -> Elem {
    compute_elem(dtype).unwrap_or(Elem::I8)
}

fn store(b: &mut KernelBuilder, param: Param, offset: Extent, value: Value) {
    if is_nibble(b.dtype(param)) { nibble::store(b, param, offset, value) } else { b.store_as(param, offset, value) }
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
