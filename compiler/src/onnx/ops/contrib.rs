//! Operators of the domain `com.microsoft` that quantization tools write, spelt with ours: their definitions are these
//! compositions, with one rounding at the end.

use adze_ir::ops::{
    Binary, BinaryFn, Cast, Dequantize, Gelu, MatMul, MatMulInteger, Quantize, Reduce, ReduceFn, Slice, Transpose,
};
use adze_ir::tensor::Tensor;
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, axis_in};
use super::super::value::Value;
use super::Row;
use super::elementwise::cast_to;
use super::linear::operands;
use super::quantize::per_tensor;

pub(super) const ROWS: &[Row] = &[
    ("DequantizeLinear", 1..=1, dequantize),
    ("GatherBlockQuantized", 1..=1, gather_block_quantized),
    ("Gelu", 1..=1, gelu),
    ("MatMulNBits", 1..=1, matmul_nbits),
    ("QGemm", 1..=1, qgemm),
    ("QLinearAdd", 1..=1, |cx| qlinear_binary(cx, BinaryFn::Add)),
    ("QLinearGlobalAveragePool", 1..=1, qlinear_global_average_pool),
    ("QLinearMul", 1..=1, |cx| qlinear_binary(cx, BinaryFn::Mul)),
    ("QuantizeLinear", 1..=1, quantize),
];

fn gelu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    Ok(vec![cx.emit1(Gelu { tanh: false }, &[&x])?])
}

/// An operand and its scale and zero point, which follow it.
pub(super) fn real(cx: &mut NodeCx<'_, '_>, index: usize) -> Result<Value, Fault> {
    let x = cx.input(index)?;
    let scale = cx.input(index + 1)?;
    let scale = scalar(cx, scale)?;
    let zero = zero_point(cx, index + 2)?;
    let mut results = cx.emit(Dequantize { axis: 0, block: 0 }, &operands(&[&x, &scale], zero.as_ref()))?;
    results.pop().ok_or_else(|| Fault::bug("dequantize without a result"))
}

pub(super) fn zero_point(cx: &mut NodeCx<'_, '_>, index: usize) -> Result<Option<Value>, Fault> {
    match cx.opt(index).cloned() {
        None => Ok(None),
        Some(zero) => scalar(cx, zero).map(Some),
    }
}

/// Only one scale per tensor is read here.
pub(super) fn scalar(cx: &mut NodeCx<'_, '_>, value: Value) -> Result<Value, Fault> {
    let value = per_tensor(cx, value)?;
    if value.rank() == 0 { Ok(value) } else { Err(Fault::unsupported(format!("parameter {}", value.ty), "a scalar")) }
}

pub(super) fn stored(cx: &mut NodeCx<'_, '_>, x: &Value, scale: usize, zero: usize, default: DType) -> Outputs {
    let scale = cx.input(scale)?;
    let scale = scalar(cx, scale)?;
    let zero = zero_point(cx, zero)?;
    let to = zero.as_ref().map_or(default, |zero| zero.ty.dtype);
    cx.emit(Quantize { axis: 0, block: 0, to }, &operands(&[x, &scale], zero.as_ref()))
}

fn quantize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.ignore("axis");
    cx.at_most(3)?;
    let x = cx.input(0)?;
    stored(cx, &x, 1, 2, DType::U8)
}

fn dequantize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.ignore("axis");
    cx.at_most(3)?;
    Ok(vec![real(cx, 0)?])
}

fn qlinear_binary(cx: &mut NodeCx<'_, '_>, function: BinaryFn) -> Outputs {
    cx.at_most(8)?;
    let (a, b) = (real(cx, 0)?, real(cx, 3)?);
    let dtype = cx.input(0)?.ty.dtype;
    let result = cx.emit1(Binary { function }, &[&a, &b])?;
    stored(cx, &result, 6, 7, dtype)
}

fn qlinear_global_average_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(5)?;
    let channels_last = cx.attrs.flag("channels_last", false)?;
    let x = real(cx, 0)?;
    let dtype = cx.input(0)?.ty.dtype;
    let spatial = if channels_last { 1..x.rank().saturating_sub(1) } else { 2..x.rank() };
    let op = Reduce { function: ReduceFn::Mean, axes: spatial.collect(), keep_dims: true };
    let mean = cx.emit1(op, &[&x])?;
    stored(cx, &mean, 3, 4, dtype)
}

/// `alpha · a_scale · b_scale · ((A - a_zero)(B - b_zero) + C)`, quantized when there is a result scale.
fn qgemm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(9)?;
    let (mut a, mut b) = (cx.input(0)?, cx.input(3)?);
    for (name, value) in [("transA", &mut a), ("transB", &mut b)] {
        if cx.attrs.flag(name, false)? {
            *value = cx.emit1(Transpose { perm: vec![1, 0] }, &[&*value])?;
        }
    }
    let (a_zero, b_zero) = (zero_point(cx, 2)?, cx.opt(5).cloned());
    let b_zero = b_zero.map(|zero| per_tensor(cx, zero)).transpose()?;
    let product = cx.emit(MatMulInteger {}, &[Some(&a), Some(&b), a_zero.as_ref(), b_zero.as_ref()])?;
    let mut total = product.into_iter().next().ok_or_else(|| Fault::bug("a product without a result"))?;
    if let Some(c) = cx.opt(6).cloned() {
        total = cx.emit1(Binary { function: BinaryFn::Add }, &[&total, &c])?;
    }
    let mul = Binary { function: BinaryFn::Mul };
    let (a_scale, b_scale) = (cx.input(1)?, cx.input(4)?);
    let (a_scale, b_scale) = (scalar(cx, a_scale)?, per_tensor(cx, b_scale)?);
    let mut scale = cx.emit1(mul.clone(), &[&a_scale, &b_scale])?;
    let alpha = cx.attrs.float("alpha")?.unwrap_or(1.0);
    if alpha != 1.0 {
        let alpha = cx.scalar(DType::F32, alpha.into());
        scale = cx.emit1(mul.clone(), &[&scale, &alpha])?;
    }
    let total = cx.emit1(Cast { to: DType::F32 }, &[&total])?;
    let real = cx.emit1(mul, &[&total, &scale])?;
    if cx.opt(7).is_none() {
        return Ok(vec![real]);
    }
    let dtype = cx.input(0)?.ty.dtype;
    stored(cx, &real, 7, 8, dtype)
}

/// Weights of 4 or 8 bits in blocks along `K`: `B[N, K / block, block · bits / 8]`, which is
/// `u4[N, K]` or `u8[N, K]` as it lies in memory; scales `[N · K / block]`; zero points packed like the weights, by default half the range.
fn matmul_nbits(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(6)?;
    cx.attrs.ignore("accuracy_level");
    if cx.opt(4).is_some() {
        return Err(Fault::unsupported("group indices", "weights in order"));
    }
    let size = |name: &'static str| match cx.attrs.int(name)? {
        Some(value @ 1..=0x7fff_ffff) => Ok(usize::try_from(value).unwrap_or(usize::MAX)),
        other => Err(Fault::model(format!("attribute `{name}` = {other:?}"), "a positive integer")),
    };
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    let dtype = match cx.attrs.int("bits")?.unwrap_or(4) {
        4 => DType::U4,
        8 => DType::U8,
        other => return Err(Fault::unsupported(format!("attribute `bits` = {other}"), "4, 8")),
    };
    let blocks = k.div_ceil(block);
    // The last block is filled up.
    let stored = blocks * block;
    let weights = constant(cx, 1)?;
    let weights = repacked(cx, 1, &weights, dtype, &[n, stored])?;
    let scales = constant(cx, 2)?;
    if scales.elems() != n * blocks {
        return Err(Fault::model(format!("{} scales", scales.elems()), format!("{}", n * blocks)));
    }
    let scales = Value::tensor(scales.reshaped(&[n, blocks]), "", cx.loc.clone());
    let zeros = match cx.opt_tensor(3)? {
        None => Tensor::from_ints(dtype, &[n, blocks], &vec![if dtype == DType::U4 { 8 } else { 128 }; n * blocks]),
        Some(packed) if packed.dtype() == DType::U8 => unpack_zeros(&packed, dtype, n, blocks)?,
        Some(other) => return Err(Fault::unsupported(format!("zero points {}", other.ty()), "packed u8")),
    };
    let zeros = Value::tensor(zeros, "", cx.loc.clone());
    let real = cx.emit(Dequantize { axis: 1, block }, &[Some(&weights), Some(&scales), Some(&zeros)])?;
    let mut real = real.into_iter().next().ok_or_else(|| Fault::bug("dequantize without a result"))?;
    if stored != k {
        let op = Slice { axes: vec![1], starts: vec![0.into()], sizes: vec![k.into()], steps: vec![1] };
        real = cx.emit1(op, &[&real])?;
    }
    let a = cx.input(0)?;
    let mut result = cx.emit1(MatMul { trans_a: false, trans_b: true }, &[&a, &real])?;
    if let Some(bias) = cx.opt(5).cloned() {
        result = cx.emit1(Binary { function: BinaryFn::Add }, &[&result, &bias])?;
    }
    Ok(vec![result])
}

/// Rows of a table that is quantized in blocks along one axis. Numbers of 2 or 4 bits may come packed in bytes along the last
/// axis, low bits first.
fn gather_block_quantized(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(4)?;
    let (data, indices, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let bits = cx.attrs.int("bits")?.unwrap_or(4);
    let gather_axis = axis_in(cx.attrs.int("gather_axis")?.unwrap_or(0), data.rank())?;
    let axis = axis_in(cx.attrs.int("quantize_axis")?.unwrap_or(1), data.rank())?;
    let block = match cx.attrs.int("block_size")?.unwrap_or(128) {
        size @ 16..=0x7fff_ffff => usize::try_from(size).unwrap_or(usize::MAX),
        other => return Err(Fault::unsupported(format!("attribute `block_size` = {other}"), "16 or more")),
    };
    let zeros = cx.opt(3).cloned();
    let (data, zeros) = if data.ty.dtype == DType::U8 {
        let dtype = match bits {
            2 => DType::U2,
            4 => DType::U4,
            8 => DType::U8,
            other => return Err(Fault::unsupported(format!("attribute `bits` = {other}"), "2, 4, 8")),
        };
        let middle = cx.made(DType::F32, &[], &[f64::from(1 << (bits - 1))])?;
        let zeros = match zeros {
            Some(_) => unpacked_zeros(cx, dtype, &scales)?,
            None => {
                let middle = cast_to(cx, middle, dtype)?;
                cx.expand(&middle, &scales.ty.shape.clone())?
            }
        };
        (unpacked(cx, 0, dtype)?, Some(zeros))
    } else {
        (data, zeros)
    };
    let real = cx.emit(Dequantize { axis, block }, &operands(&[&data, &scales], zeros.as_ref()))?;
    let real = real.into_iter().next().ok_or_else(|| Fault::bug("dequantize without a result"))?;
    Ok(vec![cx.gather(&real, &indices, gather_axis)?])
}

/// An operand that must be a constant.
fn constant(cx: &NodeCx<'_, '_>, index: usize) -> Result<Tensor, Fault> {
    cx.opt_tensor(index)?.ok_or_else(|| Fault::model(format!("input {index} left out"), "a constant"))
}

/// A constant of bytes as the numbers that are packed in them along the last axis.
fn unpacked(cx: &NodeCx<'_, '_>, index: usize, dtype: DType) -> Result<Value, Fault> {
    let packed = constant(cx, index)?;
    let mut shape = packed.shape().to_vec();
    shape.iter_mut().last().into_iter().for_each(|last| *last *= per_byte(dtype));
    repacked(cx, index, &packed, dtype, &shape)
}

/// Zero points of bytes, one for each of these scales.
fn unpacked_zeros(cx: &NodeCx<'_, '_>, dtype: DType, scales: &Value) -> Result<Value, Fault> {
    let packed = constant(cx, 3)?;
    let shape =
        scales.ty.fixed_shape().ok_or_else(|| Fault::unsupported(format!("scales {}", scales.ty), "a constant"))?;
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / columns.max(1);
    if packed.dtype() != DType::U8 {
        return Err(Fault::model(format!("zero points {}", packed.ty()), "packed u8"));
    }
    let zeros = unpack_zeros(&packed, dtype, rows, columns)?;
    Ok(Value::tensor(zeros.reshaped(&shape), "", cx.loc.clone()))
}

/// Numbers of that type in a byte.
fn per_byte(dtype: DType) -> usize {
    match dtype {
        DType::U2 => 4,
        DType::U4 => 2,
        _ => 1,
    }
}

/// The bytes of an operand under another dtype and shape.
fn repacked(cx: &NodeCx<'_, '_>, index: usize, tensor: &Tensor, dtype: DType, shape: &[usize]) -> Result<Value, Fault> {
    let wrong = || Fault::model(format!("packed numbers {}", tensor.ty()), format!("{dtype}{shape:?} in bytes"));
    if tensor.dtype() != DType::U8 {
        return Err(wrong());
    }
    let name = cx.node.input.get(index).map_or("", String::as_str);
    let tensor = Tensor::new(dtype, shape.to_vec(), tensor.bytes().to_vec()).map_err(|_| wrong())?;
    Ok(Value::tensor(tensor, name, cx.loc.clone()))
}

/// Zero points, whose rows are padded to whole bytes.
fn unpack_zeros(packed: &Tensor, dtype: DType, rows: usize, columns: usize) -> Result<Tensor, Fault> {
    let row_bytes = dtype.bytes_for(columns);
    if packed.elems() != rows * row_bytes {
        return Err(Fault::model(format!("zero points {}", packed.ty()), format!("{} bytes", rows * row_bytes)));
    }
    let mut values = Vec::with_capacity(rows * columns);
    let per = per_byte(dtype);
    let bits = 8 / per;
    for row in packed.bytes().chunks_exact(row_bytes.max(1)) {
        values.extend((0..columns).map(|at| i128::from(row[at / per] >> (bits * (at % per))) & ((1 << bits) - 1)));
    }
    Ok(Tensor::from_ints(dtype, &[rows, columns], &values))
}
