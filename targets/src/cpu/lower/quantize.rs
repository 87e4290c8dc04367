//! Quantization by the range of the values.

use adze_ir::extent::Extent;
use adze_ir::types::DType;

use super::leaf::Leaf;
use super::nest::Nest;
use super::operand::{LeafCx, Lowered, Operand, Unsupported};
use super::requantize::{Zero, saturate};
use super::walk::{Source, fold};
use crate::cpu::kernel::{Access, BinOp, Cmp, Elem, KernelBuilder, Type, UnOp, Value};

/// Lowers `dynamic_quantize` to two kernels: one finds scale and zero point, the other quantizes.
///
/// # Errors
/// [`Unsupported`] never for operands that the type rule accepts.
pub fn lower(cx: &LeafCx<'_>) -> Result<Vec<Lowered>, Unsupported> {
    Ok(vec![parameters(cx)?, values(cx)?])
}

/// Least and largest element (0 counts), in one unit of work.
fn parameters(cx: &LeafCx<'_>) -> Result<Lowered, Unsupported> {
    let mut leaf = Leaf::new(cx, "dynamic_quantize_range");
    let x = Source::input(&mut leaf, 0)?;
    let (scale, zero) = (Source::output(&mut leaf, 1)?, Source::output(&mut leaf, 2)?);
    let nest = dense(x.operand, cx);
    let shape: Vec<Extent> = nest.dims.iter().map(|d| d.extent.clone()).collect();
    let strides: Vec<Extent> = nest.dims.iter().map(|d| d.strides[0].clone()).collect();
    let ty = Type::scalar(Elem::F32);
    let b = &mut leaf.b;
    let (lo, hi) = b.range();
    b.loop_(lo, hi, 1, |b, _| {
        let start = b.zero(ty);
        let ends = fold(b, &shape, &[start, start], &mut |b, index, accs| {
            let v = x.load(b, x.by(&strides, index), Elem::F32);
            // A NaN is never less or more.
            vec![b.bin(BinOp::MinSel, v, accs[0]), b.bin(BinOp::MaxSel, v, accs[1])]
        });
        let width = b.sub(ends[1], ends[0]);
        let (most, one, none) = (b.number(255.0, ty), b.number(1.0, ty), b.zero(ty));
        let step = b.div(width, most);
        let flat = b.cmp(Cmp::Eq, ends[0], ends[1]);
        let step = b.select(flat, one, step);
        scale.store(b, scale.stream.base.clone(), step);
        let below = b.un(UnOp::Neg, ends[0]);
        let place = b.div(below, step);
        let place = b.bin(BinOp::MaxSel, place, none);
        let place = b.bin(BinOp::MinSel, place, most);
        let place = saturate(b, place, Zero::Known(0), (0, 255));
        zero.store(b, zero.stream.base.clone(), place);
    });
    Ok(leaf.finish(Extent::ONE))
}

fn dense(x: &Operand, cx: &LeafCx<'_>) -> Nest {
    Nest::new(&x.shape, std::slice::from_ref(&x.strides), cx.dims)
}

fn values(cx: &LeafCx<'_>) -> Result<Lowered, Unsupported> {
    use super::operand::PtrRole;
    let x = super::leaf::input(cx, 0)?;
    let [y, scale, zero] = [0, 1, 2].map(|i| &cx.outputs[i]);
    let nest = Nest::new(&y.shape, &[y.strides.clone(), x.strides.clone()], cx.dims);
    let mut b = cx.builder("dynamic_quantize");
    let target = b.param("y", y.dtype, Access::Out);
    let source = b.param("x", x.dtype, Access::In);
    let step = b.param("scale", scale.dtype, Access::In);
    let offset = b.param("zero", zero.dtype, Access::In);
    let lanes = if nest.is_vector() { cx.machine.strip_lanes(DType::F32) } else { 1 };
    nest.emit(&mut b, lanes, |b: &mut KernelBuilder, offsets, lanes| {
        let at = |i: usize| offsets.get(i).cloned().unwrap_or(Extent::ZERO);
        let v = b.load_as(source, x.offset.clone() + at(1), Type::vec(Elem::F32, lanes));
        let scalar = |b: &mut KernelBuilder, value: Value| if lanes > 1 { b.splat(value, lanes) } else { value };
        let step = b.load_as(step, scale.offset.clone(), Type::scalar(Elem::F32));
        let zero = b.load_as(offset, zero.offset.clone(), Type::scalar(Elem::I32));
        let (step, zero) = (scalar(b, step), scalar(b, zero));
        let ratio = b.div(v, step);
        let value = saturate(b, ratio, Zero::Computed(zero), (0, 255));
        b.store_as(target, y.offset.clone() + at(0), value);
    });
    let pointers = vec![PtrRole::Output(0), PtrRole::Input(0), PtrRole::Output(1), PtrRole::Output(2)];
    Ok(Lowered { kernel: b.finish(), pointers, range: nest.range() })
}
