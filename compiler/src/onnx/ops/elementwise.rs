//! Functions of single elements, with broadcasting.

use adze_ir::attrs::F64;
use adze_ir::minifloat::Minifloat;
use adze_ir::ops::{
    Binary, BinaryFn, BitCast, Cast, Celu, Clip, Elu, Gelu, HardSigmoid, IsInf, LeakyRelu, Op, PRelu, Selu, Shrink,
    Swish, ThresholdedRelu, Unary, UnaryFn, Where,
};
use adze_ir::types::DType;

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs};
use super::super::tensor::{dtype_of, elem_type_of_name};
use super::super::value::Value;
use super::{NEWEST, OLDEST, Row, legacy};

pub(super) const ROWS: &[Row] = &[
    ("Abs", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Abs)),
    ("Acos", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Acos)),
    ("Acosh", 9..=NEWEST, |cx| unary(cx, UnaryFn::Acosh)),
    ("Add", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Add)),
    ("And", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::And)),
    ("Asin", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Asin)),
    ("Asinh", 9..=NEWEST, |cx| unary(cx, UnaryFn::Asinh)),
    ("Atan", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Atan)),
    ("Atanh", 9..=NEWEST, |cx| unary(cx, UnaryFn::Atanh)),
    ("BitCast", 26..=NEWEST, bit_cast),
    ("BitShift", 11..=NEWEST, bit_shift),
    ("BitwiseAnd", 18..=NEWEST, |cx| binary(cx, BinaryFn::BitAnd)),
    ("BitwiseNot", 18..=NEWEST, |cx| unary(cx, UnaryFn::BitNot)),
    ("BitwiseOr", 18..=NEWEST, |cx| binary(cx, BinaryFn::BitOr)),
    ("BitwiseXor", 18..=NEWEST, |cx| binary(cx, BinaryFn::BitXor)),
    ("Cast", OLDEST..=NEWEST, cast),
    ("CastLike", 15..=NEWEST, cast_like),
    ("Ceil", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Ceil)),
    ("Celu", 12..=NEWEST, |cx| with_alpha(cx, 1.0, |alpha| Celu { alpha }.into())),
    ("Clip", OLDEST..=10, clip_attributes),
    ("Clip", 11..=NEWEST, clip_inputs),
    ("Cos", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Cos)),
    ("Cosh", 9..=NEWEST, |cx| unary(cx, UnaryFn::Cosh)),
    ("Div", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Div)),
    ("Dropout", OLDEST..=11, dropout),
    ("Dropout", 12..=NEWEST, dropout_inputs),
    ("Elu", OLDEST..=NEWEST, |cx| with_alpha(cx, 1.0, |alpha| Elu { alpha }.into())),
    ("Equal", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Equal)),
    ("Erf", 9..=NEWEST, |cx| unary(cx, UnaryFn::Erf)),
    ("Exp", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Exp)),
    ("Floor", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Floor)),
    ("Gelu", 20..=NEWEST, gelu),
    ("Greater", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Greater)),
    ("GreaterOrEqual", 12..=NEWEST, |cx| binary(cx, BinaryFn::GreaterOrEqual)),
    ("HardSigmoid", OLDEST..=NEWEST, hard_sigmoid),
    ("HardSwish", 14..=NEWEST, |cx| unary(cx, UnaryFn::HardSwish)),
    ("Identity", OLDEST..=NEWEST, identity),
    ("IsInf", 10..=NEWEST, is_inf),
    ("IsNaN", 9..=NEWEST, |cx| unary(cx, UnaryFn::IsNan)),
    ("LeakyRelu", OLDEST..=NEWEST, |cx| with_alpha(cx, 0.01, |alpha| LeakyRelu { alpha }.into())),
    ("Less", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Less)),
    ("LessOrEqual", 12..=NEWEST, |cx| binary(cx, BinaryFn::LessOrEqual)),
    ("Log", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Log)),
    ("Max", OLDEST..=NEWEST, |cx| variadic(cx, BinaryFn::Max)),
    ("Mean", OLDEST..=NEWEST, mean),
    ("Min", OLDEST..=NEWEST, |cx| variadic(cx, BinaryFn::Min)),
    ("Mish", 18..=NEWEST, |cx| unary(cx, UnaryFn::Mish)),
    ("Mod", 10..=NEWEST, modulo),
    ("Mul", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Mul)),
    ("Neg", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Neg)),
    ("Not", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Not)),
    ("Or", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Or)),
    ("PRelu", OLDEST..=NEWEST, prelu),
    ("Pow", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Pow)),
    ("Reciprocal", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Reciprocal)),
    ("Relu", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Relu)),
    ("Round", 11..=NEWEST, |cx| unary(cx, UnaryFn::Round)),
    ("Selu", OLDEST..=NEWEST, selu),
    ("Shrink", 9..=NEWEST, shrink),
    ("Sigmoid", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Sigmoid)),
    ("Sign", 9..=NEWEST, |cx| unary(cx, UnaryFn::Sign)),
    ("Sin", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Sin)),
    ("Sinh", 9..=NEWEST, |cx| unary(cx, UnaryFn::Sinh)),
    ("Softplus", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Softplus)),
    ("Softsign", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Softsign)),
    ("Sqrt", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Sqrt)),
    ("Sub", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Sub)),
    ("Sum", OLDEST..=NEWEST, |cx| variadic(cx, BinaryFn::Add)),
    ("SwiGLU", 28..=NEWEST, swiglu),
    ("Swish", 24..=NEWEST, |cx| with_alpha(cx, 1.0, |alpha| Swish { alpha }.into())),
    ("Tan", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Tan)),
    ("Tanh", OLDEST..=NEWEST, |cx| unary(cx, UnaryFn::Tanh)),
    ("ThresholdedRelu", 10..=NEWEST, |cx| with_alpha(cx, 1.0, |alpha| ThresholdedRelu { alpha }.into())),
    ("Where", 9..=NEWEST, where_),
    ("Xor", OLDEST..=NEWEST, |cx| binary(cx, BinaryFn::Xor)),
];

fn unary(cx: &mut NodeCx<'_, '_>, function: UnaryFn) -> Outputs {
    one_operand(cx, Unary { function }.into())
}

/// Applies an operator to the only operand.
fn one_operand(cx: &mut NodeCx<'_, '_>, op: Op) -> Outputs {
    cx.at_most(1)?;
    let x = cx.input(0)?;
    Ok(vec![cx.emit1(op, &[&x])?])
}

fn with_alpha(cx: &mut NodeCx<'_, '_>, default: f32, op: fn(F64) -> Op) -> Outputs {
    let alpha = cx.f64("alpha", default)?;
    one_operand(cx, op(alpha))
}

fn binary(cx: &mut NodeCx<'_, '_>, function: BinaryFn) -> Outputs {
    cx.at_most(2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let b = legacy::aligned(cx, &a, b)?;
    Ok(vec![cx.emit1(Binary { function }, &[&a, &b])?])
}

/// One or more operands, combined from the left.
fn variadic(cx: &mut NodeCx<'_, '_>, function: BinaryFn) -> Outputs {
    let mut total = cx.input(0)?;
    for index in 1..cx.inputs.len() {
        let next = cx.input(index)?;
        total = cx.emit1(Binary { function }, &[&total, &next])?;
    }
    Ok(vec![total])
}

fn mean(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let count = cx.inputs.len();
    let total = variadic(cx, BinaryFn::Add)?;
    let Some(total) = total.first() else { return Err(Fault::bug("a sum without a result")) };
    let divisor = cx.scalar(total.ty.dtype, f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    Ok(vec![cx.emit1(Binary { function: BinaryFn::Div }, &[total, &divisor])?])
}

fn modulo(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let function = if cx.attrs.flag("fmod", false)? { BinaryFn::Fmod } else { BinaryFn::Mod };
    binary(cx, function)
}

fn bit_shift(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let words = &[("LEFT", BinaryFn::ShiftLeft), ("RIGHT", BinaryFn::ShiftRight)];
    let function = cx.attrs.word("direction", "", words)?;
    binary(cx, function)
}

fn identity(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(1)?;
    Ok(vec![cx.input(0)?])
}

fn dropout(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.attrs.ignore("ratio");
    legacy::expect_inference(cx)?;
    cx.at_most(1)?;
    kept(cx)
}

fn dropout_inputs(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    cx.attrs.ignore("seed");
    if cx.opt_number(2)?.unwrap_or(0.0) != 0.0 && cx.opt_number(1)?.unwrap_or(0.5) != 0.0 {
        return Err(Fault::unsupported("training mode", "inference mode, or a ratio of 0"));
    }
    kept(cx)
}

/// The operand, and the mask that says that nothing of it was dropped.
fn kept(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    if !cx.wants(1) {
        return Ok(vec![x]);
    }
    // The mask had the operand's dtype before it became a truth value.
    let dtype = if cx.opset >= 10 { DType::Bool } else { x.ty.dtype };
    let mask = cx.filled(dtype, 1.0, &x.ty.shape)?;
    Ok(vec![x, mask])
}

fn swiglu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (gate, x) = (cx.input(0)?, cx.input(1)?);
    let alpha = cx.f64("alpha", 1.0)?;
    let gate = cx.emit1(Swish { alpha }, &[&gate])?;
    Ok(vec![cx.mul(&gate, &x)?])
}

fn cast(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let missing = || Fault::model("no attribute `to`", "an element type");
    let code = if cx.opset < 6 {
        let name = cx.attrs.string("to")?.ok_or_else(missing)?;
        elem_type_of_name(name).ok_or_else(|| Fault::model(format!("attribute `to` = `{name}`"), "an element type"))?
    } else {
        i32::try_from(cx.attrs.int("to")?.ok_or_else(missing)?).unwrap_or(-1)
    };
    let to = dtype_of(code)?;
    cx.at_most(1)?;
    let x = cx.input(0)?;
    Ok(vec![cast_as_asked(cx, x, to)?])
}

/// [`cast_to`], or for an 8-bit float without `saturate` infinity or NaN where a number rounds beyond the largest.
fn cast_as_asked(cx: &mut NodeCx<'_, '_>, x: Value, to: DType) -> Result<Value, Fault> {
    // Of the dtypes that are read, only these have the choice; none has that of a rounding mode.
    let saturate = cx.attrs.flag("saturate", true)?;
    cx.attrs.ignore("round_mode");
    let nearest = cast_to(cx, x.clone(), to)?;
    let format = match Minifloat::of(to) {
        Some(format) if !saturate && x.ty.dtype.is_float() => format,
        _ => return Ok(nearest),
    };
    // Half a step beyond the largest, a tie that goes to it only if its code is even.
    let (largest, below) = (format.decode(format.largest), format.decode(format.largest - 1));
    let tie = largest + (largest - below) / 2.0;
    let function = if format.largest % 2 == 0 { BinaryFn::Greater } else { BinaryFn::GreaterOrEqual };
    let size = cx.unary(UnaryFn::Abs, &x)?;
    let beyond = cx.with_number(function, &size, tie)?;
    let outside = match format.infinity {
        None => cx.scalar(to, f64::NAN),
        Some(_) => {
            let negative = cx.with_number(BinaryFn::Less, &x, 0.0)?;
            let (low, high) = (cx.scalar(to, f64::NEG_INFINITY), cx.scalar(to, f64::INFINITY));
            cx.where_(&negative, &low, &high)?
        }
    };
    cx.where_(&beyond, &outside, &nearest)
}

fn bit_cast(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let code = cx.attrs.int("to")?.ok_or_else(|| Fault::model("no attribute `to`", "an element type"))?;
    let to = dtype_of(i32::try_from(code).unwrap_or(-1))?;
    one_operand(cx, BitCast { to }.into())
}

fn cast_like(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![cast_as_asked(cx, x, like.ty.dtype)?])
}

/// The value with another dtype; itself when it has it.
pub(super) fn cast_to(cx: &mut NodeCx<'_, '_>, x: Value, to: DType) -> Result<Value, Fault> {
    if x.ty.dtype == to { Ok(x) } else { cx.emit1(Cast { to }, &[&x]) }
}

fn clip_attributes(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let bound = |value: Option<f32>| value.map(F64::from);
    let op = Clip { min: bound(cx.attrs.float("min")?), max: bound(cx.attrs.float("max")?) };
    one_operand(cx, op.into())
}

fn clip_inputs(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let mut x = cx.input(0)?;
    let constant = |index: usize| cx.opt(index).is_none_or(|value| value.as_tensor().is_some());
    if constant(1) && constant(2) {
        let bound = |value: Option<f64>| value.map(F64::from);
        let op = Clip { min: bound(cx.opt_number(1)?), max: bound(cx.opt_number(2)?) };
        // 64-bit integers beyond 2^53 are not exact as attributes.
        let exact = |bound: Option<F64>| bound.is_none_or(|v| v.get().abs() <= 9_007_199_254_740_992.0);
        if x.ty.dtype.is_float() || (exact(op.min) && exact(op.max)) {
            return Ok(vec![cx.emit1(op, &[&x])?]);
        }
    }
    // Lower bound first: the upper one wins when they cross.
    for (index, function) in [(1, BinaryFn::Max), (2, BinaryFn::Min)] {
        if let Some(bound) = cx.opt(index).cloned() {
            x = cx.emit1(Binary { function }, &[&x, &bound])?;
        }
    }
    Ok(vec![x])
}

fn gelu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let tanh = cx.attrs.word("approximate", "none", &[("none", false), ("tanh", true)])?;
    one_operand(cx, Gelu { tanh }.into())
}

fn hard_sigmoid(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let op = HardSigmoid { alpha: cx.f64("alpha", 0.2)?, beta: cx.f64("beta", 0.5)? };
    one_operand(cx, op.into())
}

fn selu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let (alpha, gamma) = if cx.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let op = Selu { alpha: cx.f64("alpha", alpha)?, gamma: cx.f64("gamma", gamma)? };
    one_operand(cx, op.into())
}

fn shrink(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let op = Shrink { bias: cx.f64("bias", 0.0)?, lambd: cx.f64("lambd", 0.5)? };
    one_operand(cx, op.into())
}

fn is_inf(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let op = IsInf {
        ignore_positive: !cx.attrs.flag("detect_positive", true)?,
        ignore_negative: !cx.attrs.flag("detect_negative", true)?,
    };
    one_operand(cx, op.into())
}

fn prelu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(2)?;
    let (x, slope) = (cx.input(0)?, cx.input(1)?);
    let slope = legacy::slope(cx, &x, slope)?;
    Ok(vec![cx.emit1(PRelu {}, &[&x, &slope])?])
}

fn where_(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(3)?;
    let (condition, x, y) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    Ok(vec![cx.emit1(Where {}, &[&condition, &x, &y])?])
}
