//! Elementwise functions as kernel code: one value per operand in, one out. Also the epilogues of fused leaves.

use adze_ir::minifloat::Minifloat;
use adze_ir::ops::{BinaryFn, Op, UnaryFn};
use adze_ir::types::DType;

use super::functions;
use super::nibble::{self, is_nibble};
use super::operand::Unsupported;
use super::requantize::{Zero, saturate};
use crate::cpu::kernel::{BinOp, Cmp, Elem, KernelBuilder, Type, UnOp, Value, math};

/// A value with the tensor dtype it stands for. Half floats are computed in `f32`, `bool` is a mask, 8- and 16-bit
/// integers are in lanes of their own width.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// The kernel value.
    pub value: Value,
    /// What it stands for.
    pub dtype: DType,
    /// The number in every lane, when it is known at compile time.
    pub constant: Option<f64>,
}

/// The element in which a dtype is computed; `None` for sub-byte types.
pub fn compute_elem(dtype: DType) -> Option<Elem> {
    match dtype {
        DType::F16 | DType::Bf16 | DType::F32 => Some(Elem::F32),
        dtype if Minifloat::of(dtype).is_some() => Some(Elem::F32),
        DType::F64 => Some(Elem::F64),
        // As wide as the floats it is mostly used with.
        DType::Bool => Some(Elem::M32),
        dtype => Elem::of_memory(dtype),
    }
}

/// Whether values of that dtype are worth vectors.
pub fn is_vector_dtype(dtype: DType) -> bool {
    let bytes = matches!(dtype, DType::I8 | DType::U8 | DType::Bool);
    bytes || matches!(dtype, DType::F16 | DType::Bf16 | DType::F32 | DType::I32 | DType::U32)
}

/// Whether one constant of that dtype is part of the code wherever it is used.
pub fn is_number(dtype: DType) -> bool {
    dtype.is_float() || matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32)
}

/// A number in every lane; its dtype is one of [`is_number`].
pub fn number(b: &mut KernelBuilder, number: f64, dtype: DType, lanes: u16) -> Lane {
    let ty = Type::vec(compute_elem(dtype).unwrap_or(Elem::I8), lanes);
    let value = if ty.elem.is_float() { b.number(number, ty) } else { b.int(number as i64, ty) };
    Lane { value, dtype, constant: Some(number) }
}

/// Whether the operator is elementwise, so that [`emit`] has code for it.
pub fn is_elementwise(op: &Op) -> bool {
    let plain = !matches!(op, Op::Fused(_)) && adze_ir::tile::is_elementwise(op);
    plain || matches!(op, Op::Cast(_) | Op::IsInf(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::BatchNorm(_))
}

fn signed(dtype: DType) -> bool {
    matches!(dtype, DType::I2 | DType::I4 | DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

/// Whether the operator means the same on 4-bit integers held in bytes.
fn takes_nibbles(op: &Op) -> bool {
    match op {
        Op::Cast(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::Where(_) => true,
        Op::Unary(unary) => unary.function == UnaryFn::Identity,
        _ => false,
    }
}

fn unsupported<T>(op: &Op, dtype: DType) -> Result<T, Unsupported> {
    Err(Unsupported { found: format!("`{op}` on {dtype}"), accepted: "another dtype".into() })
}

/// Code for an elementwise operator.
///
/// # Errors
/// [`Unsupported`] for a function and dtype without code.
pub fn emit(b: &mut KernelBuilder, op: &Op, args: &[Lane], result: DType) -> Result<Lane, Unsupported> {
    let x = args[0];
    let ty = b.ty(x.value);
    let narrow = args.iter().map(|a| a.dtype).chain([result]).find(|d| is_nibble(*d));
    if let Some(narrow) = narrow.filter(|_| !takes_nibbles(op)) {
        return unsupported(op, narrow);
    }
    let value = match op {
        Op::Unary(unary) => emit_unary(b, op, unary.function, x)?,
        Op::Binary(binary) => emit_binary(b, op, binary.function, x, args[1])?,
        Op::PRelu(_) => {
            let scaled = b.mul(x.value, args[1].value);
            select_positive(b, x.value, scaled)
        }
        Op::Where(_) => {
            let (y, n) = (args[1].value, args[2].value);
            let mask = b.mask_to(x.value, b.ty(y).elem.mask());
            b.select(mask, y, n)
        }
        Op::Cast(_) => cast(b, x, result),
        Op::Clip(clip) => {
            let (lo, hi) = (clip.min.map(|v| v.get()), clip.max.map(|v| v.get()));
            clamp(b, x, lo, hi)
        }
        Op::IsInf(is_inf) => {
            let infinity = b.number(f64::INFINITY, ty);
            let minus = b.number(f64::NEG_INFINITY, ty);
            let positive = b.cmp(Cmp::Eq, x.value, infinity);
            let negative = b.cmp(Cmp::Eq, x.value, minus);
            match (is_inf.ignore_positive, is_inf.ignore_negative) {
                (false, false) => b.bin(BinOp::Or, positive, negative),
                (true, false) => negative,
                (false, true) => positive,
                (true, true) => b.bin(BinOp::And, positive, negative),
            }
        }
        Op::Quantize(_) => quantize(b, x, args[1], args.get(2).copied(), result),
        Op::Dequantize(_) => dequantize(b, x, args[1], args.get(2).copied(), result),
        Op::BatchNorm(norm) => batch_norm(b, args, norm.epsilon.get()),
        _ if !ty.elem.is_float() => return unsupported(op, x.dtype),
        _ => activation(b, op, x.value)?,
    };
    Ok(Lane { value, dtype: result, constant: None })
}

/// `x` where `x >= 0` (or NaN), else `other`.
fn select_positive(b: &mut KernelBuilder, x: Value, other: Value) -> Value {
    let zero = b.zero(b.ty(x));
    let negative = b.cmp(Cmp::Lt, x, zero);
    b.select(negative, other, x)
}

fn activation(b: &mut KernelBuilder, op: &Op, x: Value) -> Result<Value, Unsupported> {
    let ty = b.ty(x);
    let constant = |b: &mut KernelBuilder, v: f64| b.number(v, ty);
    // exp(x) - 1 without cancellation: tanh(x / 2) · (exp(x) + 1).
    let expm1 = |b: &mut KernelBuilder, x: Value| {
        let half = b.number(0.5, ty);
        let half_x = b.mul(x, half);
        let t = math::tanh(b, half_x);
        let e = math::exp(b, x);
        let one = b.number(1.0, ty);
        let e1 = b.add(e, one);
        b.mul(t, e1)
    };
    Ok(match op {
        Op::LeakyRelu(a) => {
            let alpha = constant(b, a.alpha.get());
            let scaled = b.mul(x, alpha);
            select_positive(b, x, scaled)
        }
        Op::Elu(a) => {
            let alpha = constant(b, a.alpha.get());
            let e = expm1(b, x);
            let scaled = b.mul(e, alpha);
            select_positive(b, x, scaled)
        }
        Op::Celu(a) => {
            let (alpha, inverse) = (constant(b, a.alpha.get()), constant(b, 1.0 / a.alpha.get()));
            let scaled = b.mul(x, inverse);
            let e = expm1(b, scaled);
            let scaled = b.mul(e, alpha);
            select_positive(b, x, scaled)
        }
        Op::Selu(a) => {
            let (alpha, gamma) = (constant(b, a.alpha.get() * a.gamma.get()), constant(b, a.gamma.get()));
            let e = expm1(b, x);
            let below = b.mul(e, alpha);
            let above = b.mul(x, gamma);
            let zero = b.zero(ty);
            let positive = b.cmp(Cmp::Gt, x, zero);
            b.select(positive, above, below)
        }
        Op::HardSigmoid(a) => hard_sigmoid(b, x, a.alpha.get(), a.beta.get()),
        Op::Gelu(a) if a.tanh => {
            let (c, k) = (constant(b, (2.0 / std::f64::consts::PI).sqrt()), constant(b, 0.044715));
            let square = b.mul(x, x);
            let cube = b.mul(square, x);
            let sum = b.muladd(cube, k, x);
            let inner = b.mul(sum, c);
            let t = math::tanh(b, inner);
            half_one_plus(b, x, t)
        }
        Op::Gelu(_) => {
            let scale = constant(b, std::f64::consts::FRAC_1_SQRT_2);
            let inner = b.mul(x, scale);
            let e = math::erf(b, inner);
            half_one_plus(b, x, e)
        }
        Op::Swish(a) => {
            let alpha = constant(b, a.alpha.get());
            let inner = b.mul(x, alpha);
            let s = math::sigmoid(b, inner);
            b.mul(x, s)
        }
        Op::ThresholdedRelu(a) => {
            let alpha = constant(b, a.alpha.get());
            let above = b.cmp(Cmp::Gt, x, alpha);
            let zero = b.zero(ty);
            b.select(above, x, zero)
        }
        Op::Shrink(a) => {
            let (bias, lambd, minus) =
                (constant(b, a.bias.get()), constant(b, a.lambd.get()), constant(b, -a.lambd.get()));
            let (low, high) = (b.add(x, bias), b.sub(x, bias));
            let (below, above) = (b.cmp(Cmp::Lt, x, minus), b.cmp(Cmp::Gt, x, lambd));
            let zero = b.zero(ty);
            let rest = b.select(above, high, zero);
            b.select(below, low, rest)
        }
        _ => return Err(Unsupported { found: format!("`{op}`"), accepted: "an elementwise operator".into() }),
    })
}

/// `x / 2 · (1 + t)`.
fn half_one_plus(b: &mut KernelBuilder, x: Value, t: Value) -> Value {
    let ty = b.ty(x);
    let (half, one) = (b.number(0.5, ty), b.number(1.0, ty));
    let sum = b.add(t, one);
    let halved = b.mul(x, half);
    b.mul(halved, sum)
}

fn hard_sigmoid(b: &mut KernelBuilder, x: Value, alpha: f64, beta: f64) -> Value {
    let ty = b.ty(x);
    let (alpha, beta, zero, one) = (b.number(alpha, ty), b.number(beta, ty), b.zero(ty), b.number(1.0, ty));
    let line = b.muladd(x, alpha, beta);
    let low = b.bin(BinOp::MaxSel, zero, line);
    b.bin(BinOp::MinSel, one, low)
}

/// `min(max(x, lo), hi)`, keeping NaN; bounds beyond an integer's range do nothing.
fn clamp(b: &mut KernelBuilder, x: Lane, lo: Option<f64>, hi: Option<f64>) -> Value {
    let ty = b.ty(x.value);
    let mut value = x.value;
    let (low_op, high_op) = match (ty.elem.is_float(), signed(x.dtype)) {
        (true, _) => (BinOp::MaxSel, BinOp::MinSel),
        (false, true) => (BinOp::MaxS, BinOp::MinS),
        (false, false) => (BinOp::MaxU, BinOp::MinU),
    };
    let bound = |b: &mut KernelBuilder, v: f64| match x.dtype.int_range() {
        Some((low, high)) => b.int((v as i128).clamp(low, high) as i64, ty),
        None => b.number(v, ty),
    };
    if let Some(lo) = lo {
        let lo = bound(b, lo);
        value = b.bin(low_op, lo, value);
    }
    if let Some(hi) = hi {
        let hi = bound(b, hi);
        value = b.bin(high_op, hi, value);
    }
    value
}

fn emit_unary(b: &mut KernelBuilder, op: &Op, function: UnaryFn, x: Lane) -> Result<Value, Unsupported> {
    use UnaryFn as F;
    let ty = b.ty(x.value);
    let v = x.value;
    match function {
        F::Identity => return Ok(v),
        F::Not => return Ok(b.un(UnOp::Not, v)),
        F::BitNot if ty.elem.is_int() => return Ok(b.un(UnOp::Not, v)),
        F::Neg => return Ok(b.un(UnOp::Neg, v)),
        F::Abs if ty.elem.is_float() || signed(x.dtype) => return Ok(b.un(UnOp::Abs, v)),
        F::Abs => return Ok(v),
        F::Sign => return Ok(sign(b, x)),
        F::Relu => return Ok(clamp(b, x, Some(0.0), None)),
        _ if !ty.elem.is_float() => return unsupported(op, x.dtype),
        _ => {}
    }
    let one = |b: &mut KernelBuilder| b.number(1.0, ty);
    Ok(match function {
        F::Sigmoid => math::sigmoid(b, v),
        F::Tanh => math::tanh(b, v),
        F::Exp => math::exp(b, v),
        F::Log => math::log(b, v),
        F::Sqrt => b.un(UnOp::Sqrt, v),
        F::Reciprocal => {
            let one = one(b);
            b.div(one, v)
        }
        F::Erf => math::erf(b, v),
        F::Floor => b.un(UnOp::Floor, v),
        F::Ceil => b.un(UnOp::Ceil, v),
        F::Round => b.un(UnOp::Nearest, v),
        F::Sin => math::sin(b, v),
        F::Cos => math::cos(b, v),
        F::Tan => {
            let (s, c) = (math::sin(b, v), math::cos(b, v));
            b.div(s, c)
        }
        F::Softplus => softplus(b, v),
        F::Softsign => {
            let magnitude = b.un(UnOp::Abs, v);
            let one = one(b);
            let below = b.add(magnitude, one);
            b.div(v, below)
        }
        F::HardSwish => {
            let h = hard_sigmoid(b, v, 1.0 / 6.0, 0.5);
            b.mul(v, h)
        }
        F::Mish => {
            let s = softplus(b, v);
            let t = math::tanh(b, s);
            b.mul(v, t)
        }
        F::IsNan => b.cmp(Cmp::Ne, v, v),
        other => match functions::inverse_or_hyperbolic(b, other, v) {
            Some(value) => value,
            None => return unsupported(op, x.dtype),
        },
    })
}

/// `max(x, 0) + log1p(exp(-|x|))`.
fn softplus(b: &mut KernelBuilder, x: Value) -> Value {
    let zero = b.zero(b.ty(x));
    let magnitude = b.un(UnOp::Abs, x);
    let minus = b.un(UnOp::Neg, magnitude);
    let e = math::exp(b, minus);
    let l = math::log1p(b, e);
    let positive = b.bin(BinOp::MaxSel, zero, x);
    b.add(positive, l)
}

fn sign(b: &mut KernelBuilder, x: Lane) -> Value {
    let ty = b.ty(x.value);
    let zero = b.zero(ty);
    let (one, minus) = match ty.elem.is_float() {
        true => (b.number(1.0, ty), b.number(-1.0, ty)),
        false => (b.int(1, ty), b.int(-1, ty)),
    };
    let greater = if ty.elem.is_float() || signed(x.dtype) { Cmp::Gt } else { Cmp::GtU };
    let above = b.cmp(greater, x.value, zero);
    let up = b.select(above, one, x.value);
    if !ty.elem.is_float() && !signed(x.dtype) {
        return up;
    }
    let below = b.cmp(Cmp::Lt, x.value, zero);
    b.select(below, minus, up)
}

fn emit_binary(b: &mut KernelBuilder, op: &Op, function: BinaryFn, x: Lane, y: Lane) -> Result<Value, Unsupported> {
    use BinaryFn as F;
    let elem = b.ty(x.value).elem;
    if function == F::Pow {
        return pow(b, op, x, y);
    }
    if elem.is_mask() {
        let other = b.mask_to(y.value, elem);
        return match function {
            F::And => Ok(b.bin(BinOp::And, x.value, other)),
            F::Or => Ok(b.bin(BinOp::Or, x.value, other)),
            F::Xor => Ok(b.bin(BinOp::Xor, x.value, other)),
            F::Equal => {
                let differ = b.bin(BinOp::Xor, x.value, other);
                Ok(b.un(UnOp::Not, differ))
            }
            _ => unsupported(op, x.dtype),
        };
    }
    let (float, is_signed) = (elem.is_float(), signed(x.dtype));
    let pick = |f: BinOp, s: BinOp, u: BinOp| {
        if float {
            f
        } else if is_signed {
            s
        } else {
            u
        }
    };
    let compare = |s: Cmp, u: Cmp| if float || is_signed { s } else { u };
    let (v, w) = (x.value, y.value);
    Ok(match function {
        F::Add => b.add(v, w),
        F::Sub => b.sub(v, w),
        F::Mul => b.mul(v, w),
        F::Div => b.bin(pick(BinOp::Div, BinOp::DivS, BinOp::DivU), v, w),
        F::Min => b.bin(pick(BinOp::Min, BinOp::MinS, BinOp::MinU), v, w),
        F::Max => b.bin(pick(BinOp::Max, BinOp::MaxS, BinOp::MaxU), v, w),
        F::Equal => b.cmp(Cmp::Eq, v, w),
        F::Less => b.cmp(compare(Cmp::Lt, Cmp::LtU), v, w),
        F::LessOrEqual => b.cmp(compare(Cmp::Le, Cmp::LeU), v, w),
        F::Greater => b.cmp(compare(Cmp::Gt, Cmp::GtU), v, w),
        F::GreaterOrEqual => b.cmp(compare(Cmp::Ge, Cmp::GeU), v, w),
        F::Mod if !float => modulo(b, v, w, is_signed),
        F::Fmod if !float => b.bin(if is_signed { BinOp::RemS } else { BinOp::RemU }, v, w),
        F::BitAnd if !float => b.bin(BinOp::And, v, w),
        F::BitOr if !float => b.bin(BinOp::Or, v, w),
        F::BitXor if !float => b.bin(BinOp::Xor, v, w),
        F::ShiftLeft | F::ShiftRight if b.ty(v).is_scalar() => {
            functions::shift(b, v, w, function == F::ShiftLeft, is_signed)
        }
        F::Mod if elem == Elem::F32 => functions::floor_rem(b, v, w),
        F::Fmod if elem == Elem::F32 => functions::fmod(b, v, w),
        _ => return unsupported(op, x.dtype),
    })
}

/// Remainder with the divisor's sign.
fn modulo(b: &mut KernelBuilder, x: Value, y: Value, is_signed: bool) -> Value {
    if !is_signed {
        return b.bin(BinOp::RemU, x, y);
    }
    let rest = b.bin(BinOp::RemS, x, y);
    let zero = b.zero(b.ty(x));
    let mixed = b.bin(BinOp::Xor, rest, y);
    let opposite = b.cmp(Cmp::Lt, mixed, zero);
    let some = b.cmp(Cmp::Ne, rest, zero);
    let wrong = b.bin(BinOp::And, opposite, some);
    let fixed = b.add(rest, y);
    b.select(wrong, fixed, rest)
}

/// Constant small exponents are products; the rest goes through the general function.
fn pow(b: &mut KernelBuilder, op: &Op, x: Lane, y: Lane) -> Result<Value, Unsupported> {
    let ty = b.ty(x.value);
    match y.constant {
        Some(1.0) => return Ok(x.value),
        Some(2.0) => return Ok(b.mul(x.value, x.value)),
        Some(3.0) => {
            let square = b.mul(x.value, x.value);
            return Ok(b.mul(square, x.value));
        }
        _ => {}
    }
    let float = b.ty(y.value).elem.is_float();
    match (ty.elem.is_float(), float) {
        (true, _) => {
            let exponent = b.convert(y.value, signed(y.dtype), ty.elem);
            Ok(math::pow(b, x.value, exponent))
        }
        (false, false) => Ok(functions::int_pow(b, x.value, y.value, (signed(x.dtype), signed(y.dtype)))),
        // Exact up to 2^24, where the power itself is; 64-bit results are not.
        (false, true) if ty.elem != Elem::I64 => {
            let (base, exponent) =
                (b.convert(x.value, signed(x.dtype), Elem::F32), b.convert(y.value, true, Elem::F32));
            let power = math::pow(b, base, exponent);
            Ok(cast(b, Lane { value: power, dtype: DType::F32, constant: None }, x.dtype))
        }
        _ => unsupported(op, x.dtype),
    }
}

/// Conversion by value, as `cast` means it.
pub fn cast(b: &mut KernelBuilder, x: Lane, to: DType) -> Value {
    let from = b.ty(x.value);
    let elem = compute_elem(to).unwrap_or(Elem::I8);
    if to == DType::Bool {
        if from.elem.is_mask() {
            return x.value;
        }
        let zero = b.zero(from);
        return b.cmp(Cmp::Ne, x.value, zero);
    }
    if from.elem.is_mask() {
        let mask = b.mask_to(x.value, elem.mask());
        let ty = Type::vec(elem, from.lanes);
        let (one, zero) = if elem.is_float() { (b.number(1.0, ty), b.zero(ty)) } else { (b.int(1, ty), b.zero(ty)) };
        return b.select(mask, one, zero);
    }
    if let Some(format) = Minifloat::of(to) {
        let value = b.convert(x.value, signed(x.dtype), if from.elem == Elem::F64 { Elem::F64 } else { Elem::F32 });
        // Infinity saturates as finite numbers do; a dtype that has it keeps it when it only moves.
        let largest = format.decode(format.largest);
        return clamp(b, Lane { value, dtype: DType::F32, constant: None }, Some(-largest), Some(largest));
    }
    if from.elem.is_float() && is_nibble(to) {
        let wide = b.convert(x.value, true, Elem::I32);
        let low = b.convert(wide, true, elem);
        return nibble::wrap(b, low, to);
    }
    if from.elem.is_float()
        && let Some((lo, hi)) = to.int_range().filter(|_| elem.bits() < 32)
    {
        let clamped = clamp(b, x, Some(lo as f64), Some(hi as f64));
        return b.convert(clamped, signed(to), elem);
    }
    let is_signed = if from.elem.is_float() { signed(to) } else { signed(x.dtype) };
    let value = b.convert(x.value, is_signed, elem);
    nibble::wrap(b, value, to)
}

/// `sat(round_half_even(x / scale) + zero)`.
fn quantize(b: &mut KernelBuilder, x: Lane, scale: Lane, zero: Option<Lane>, to: DType) -> Value {
    let wide = b.convert(x.value, signed(x.dtype), Elem::F32);
    let ratio = b.div(wide, scale.value);
    let zero = match zero {
        None => Zero::Known(0),
        Some(Lane { constant: Some(number), .. }) => Zero::Known(number as i64),
        Some(zero) => Zero::Computed(b.convert(zero.value, signed(zero.dtype), Elem::I32)),
    };
    let fit = saturate(b, ratio, zero, to.int_range().unwrap_or((0, 0)));
    b.convert(fit, true, compute_elem(to).unwrap_or(Elem::I8))
}

/// `(x - zero) · scale`.
fn dequantize(b: &mut KernelBuilder, x: Lane, scale: Lane, zero: Option<Lane>, to: DType) -> Value {
    let mut int = b.convert(x.value, signed(x.dtype), Elem::I32);
    if let Some(zero) = zero.filter(|zero| zero.constant != Some(0.0)) {
        let zero = b.convert(zero.value, signed(zero.dtype), Elem::I32);
        int = b.sub(int, zero);
    }
    let elem = compute_elem(to).unwrap_or(Elem::F32);
    let float = b.convert(int, true, elem);
    let scale = b.convert(scale.value, true, elem);
    b.mul(float, scale)
}

/// Operands `x, scale, bias, mean, var`.
fn batch_norm(b: &mut KernelBuilder, args: &[Lane], epsilon: f64) -> Value {
    let ty = b.ty(args[0].value);
    let epsilon = b.number(epsilon, ty);
    let centred = b.sub(args[0].value, args[3].value);
    let variance = b.add(args[4].value, epsilon);
    let deviation = b.un(UnOp::Sqrt, variance);
    let factor = b.div(args[1].value, deviation);
    b.muladd(centred, factor, args[2].value)
}
