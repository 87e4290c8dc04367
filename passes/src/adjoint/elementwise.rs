//! Functions of single elements, and rounding.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use adze_ir::graph::ValueId;
use adze_ir::ops::{BinaryFn, Cast, Clip, Dequantize, Gelu, HardSigmoid, LeakyRelu, Op, Swish, UnaryFn, Where};

use super::Products;
use super::step::{Made, Step};

const UNARY: &str = "a function with a derivative in adze";

pub(super) fn unary(s: &mut Step<'_>, function: UnaryFn) -> Products {
    use UnaryFn::*;
    // Constant almost everywhere.
    if matches!(function, Floor | Ceil | Round | Sign | Not | BitNot | IsNan) {
        return Ok(vec![None]);
    }
    let (g, x, y) = (s.g, s.x(0)?, s.y());
    let slope = match function {
        Identity => return Ok(vec![Some(g)]),
        Neg => return Ok(vec![Some(s.unary(Neg, g)?)]),
        Relu => return Ok(vec![Some(s.masked(g, x, BinaryFn::Greater, 0.0)?)]),
        Log => return Ok(vec![Some(s.binary(BinaryFn::Div, g, x)?)]),
        Sqrt => {
            let half = s.scaled(g, 0.5)?;
            return Ok(vec![Some(s.binary(BinaryFn::Div, half, y)?)]);
        }
        Abs => s.unary(Sign, x)?,
        Exp => y,
        Sigmoid => sigmoid_slope(s, y)?,
        Tanh => one_minus_square(s, y)?,
        Reciprocal => {
            let square = s.mul(y, y)?;
            s.unary(Neg, square)?
        }
        Erf => {
            let bell = bell(s, x, -1.0)?;
            s.scaled(bell, FRAC_2_SQRT_PI)?
        }
        Sin => s.unary(Cos, x)?,
        Cos => {
            let sin = s.unary(Sin, x)?;
            s.unary(Neg, sin)?
        }
        Softplus => s.unary(Sigmoid, x)?,
        Softsign => {
            let size = s.unary(Abs, x)?;
            let sum = s.plus(size, 1.0)?;
            let square = s.mul(sum, sum)?;
            s.unary(Reciprocal, square)?
        }
        HardSwish => hard_swish_slope(s, x)?,
        _ => return Err(s.unsupported(format!("{function:?}"), UNARY)),
    };
    Ok(vec![Some(s.mul(g, slope)?)])
}

/// `y · (1 - y)`.
fn sigmoid_slope(s: &mut Step<'_>, y: ValueId) -> Made {
    let square = s.mul(y, y)?;
    s.binary(BinaryFn::Sub, y, square)
}

/// `1 - y²`.
fn one_minus_square(s: &mut Step<'_>, y: ValueId) -> Made {
    let square = s.mul(y, y)?;
    let negated = s.unary(UnaryFn::Neg, square)?;
    s.plus(negated, 1.0)
}

/// `exp(factor · x²)`.
fn bell(s: &mut Step<'_>, x: ValueId, factor: f64) -> Made {
    let square = s.mul(x, x)?;
    let scaled = s.scaled(square, factor)?;
    s.unary(UnaryFn::Exp, scaled)
}

/// `x / 3 + 0.5` between -3 and 3, 0 below and 1 above.
fn hard_swish_slope(s: &mut Step<'_>, x: ValueId) -> Made {
    let scaled = s.scaled(x, 1.0 / 3.0)?;
    let line = s.plus(scaled, 0.5)?;
    let high = s.scalar(x, 3.0);
    let above = s.binary(BinaryFn::GreaterOrEqual, x, high)?;
    let one = s.scalar(x, 1.0);
    let capped = s.add(Where {}, &[above, one, line])?;
    s.masked(capped, x, BinaryFn::Greater, -3.0)
}

pub(super) fn binary(s: &mut Step<'_>, function: BinaryFn) -> Products {
    use BinaryFn::*;
    let (g, a, b, y) = (s.g, s.x(0)?, s.x(1)?, s.y());
    let by_a: &dyn Fn(&mut Step<'_>) -> Made = match function {
        Add | Sub => &|_| Ok(g),
        Mul => &|s| s.mul(g, b),
        Div => &|s| s.binary(Div, g, b),
        Pow => &|s| power_by_base(s, [g, a, b]),
        Min | Max => &|s| chosen(s, function, [a, b], true),
        Equal | Less | LessOrEqual | Greater | GreaterOrEqual | And | Or | Xor => return Ok(vec![None, None]),
        _ => return Err(s.unsupported(format!("{function:?}"), "add, sub, mul, div, pow, min or max")),
    };
    let by_b: &dyn Fn(&mut Step<'_>) -> Made = match function {
        Sub => &|s| s.unary(UnaryFn::Neg, g),
        Mul => &|s| s.mul(g, a),
        Div => &|s| {
            let product = s.mul(g, y)?;
            let quotient = s.binary(Div, product, b)?;
            s.unary(UnaryFn::Neg, quotient)
        },
        Pow => &|s| {
            let log = s.unary(UnaryFn::Log, a)?;
            let slope = s.mul(y, log)?;
            s.mul(g, slope)
        },
        Min | Max => &|s| chosen(s, function, [a, b], false),
        _ => &|_| Ok(g),
    };
    let mut each = |index: usize, operand: ValueId, make: &dyn Fn(&mut Step<'_>) -> Made| {
        s.when(index, |s| {
            let made = make(s)?;
            s.summed_to(made, operand)
        })
    };
    Ok(vec![each(0, a, by_a)?, each(1, b, by_b)?])
}

/// `g · b · a^(b - 1)`.
fn power_by_base(s: &mut Step<'_>, [g, a, b]: [ValueId; 3]) -> Made {
    let to = s.graph.ty(a).dtype;
    let b = if s.graph.ty(b).dtype == to { b } else { s.add(Cast { to }, &[b])? };
    let less = s.plus(b, -1.0)?;
    let power = s.binary(BinaryFn::Pow, a, less)?;
    let slope = s.mul(power, b)?;
    s.mul(g, slope)
}

/// The gradient where an operand is what `min` or `max` takes; the first one of equals.
fn chosen(s: &mut Step<'_>, function: BinaryFn, [a, b]: [ValueId; 2], first: bool) -> Made {
    let order = if function == BinaryFn::Min { BinaryFn::LessOrEqual } else { BinaryFn::GreaterOrEqual };
    let is_first = s.binary(order, a, b)?;
    let (g, zero) = (s.g, s.scalar(s.g, 0.0));
    let [x, y] = if first { [g, zero] } else { [zero, g] };
    s.add(Where {}, &[is_first, x, y])
}

pub(super) fn choose(s: &mut Step<'_>) -> Products {
    let (g, holds) = (s.g, s.x(0)?);
    let mut products = vec![None];
    for index in [1, 2] {
        products.push(s.when(index, |s| {
            let zero = s.scalar(g, 0.0);
            let [x, y] = if index == 1 { [g, zero] } else { [zero, g] };
            let made = s.add(Where {}, &[holds, x, y])?;
            let operand = s.x(index)?;
            s.summed_to(made, operand)
        })?);
    }
    Ok(products)
}

/// Back to the operand's dtype; integers have no gradient.
pub(super) fn cast(s: &mut Step<'_>) -> Products {
    let (g, to, from) = (s.g, s.graph.ty(s.x(0)?).dtype, s.graph.ty(s.y()).dtype);
    if !to.is_float() || !from.is_float() {
        return Ok(vec![None]);
    }
    Ok(vec![Some(s.add(Cast { to }, &[g])?)])
}

pub(super) fn clip(s: &mut Step<'_>, op: &Clip) -> Products {
    let (mut g, x) = (s.g, s.x(0)?);
    for (bound, function) in [(op.min, BinaryFn::GreaterOrEqual), (op.max, BinaryFn::LessOrEqual)] {
        if let Some(bound) = bound {
            g = s.masked(g, x, function, bound.get())?;
        }
    }
    Ok(vec![Some(g)])
}

pub(super) fn leaky_relu(s: &mut Step<'_>, op: &LeakyRelu) -> Products {
    let (g, x) = (s.g, s.x(0)?);
    let below = s.scaled(g, op.alpha.get())?;
    let zero = s.scalar(x, 0.0);
    let is_below = s.binary(BinaryFn::Less, x, zero)?;
    Ok(vec![Some(s.add(Where {}, &[is_below, below, g])?)])
}

/// `alpha` between the bounds.
pub(super) fn hard_sigmoid(s: &mut Step<'_>, op: &HardSigmoid) -> Products {
    let (g, y) = (s.g, s.y());
    let g = s.scaled(g, op.alpha.get())?;
    let g = s.masked(g, y, BinaryFn::Greater, 0.0)?;
    Ok(vec![Some(s.masked(g, y, BinaryFn::Less, 1.0)?)])
}

/// With `t = sigmoid(alpha · x)`: `t + alpha · y · (1 - t)`.
pub(super) fn swish(s: &mut Step<'_>, op: &Swish) -> Products {
    let (g, x, y) = (s.g, s.x(0)?, s.y());
    let inner = s.scaled(x, op.alpha.get())?;
    let t = s.unary(UnaryFn::Sigmoid, inner)?;
    let rest = s.unary(UnaryFn::Neg, t)?;
    let rest = s.plus(rest, 1.0)?;
    let rest = s.mul(rest, y)?;
    let rest = s.scaled(rest, op.alpha.get())?;
    let slope = s.binary(BinaryFn::Add, t, rest)?;
    Ok(vec![Some(s.mul(g, slope)?)])
}

pub(super) fn gelu(s: &mut Step<'_>, op: &Gelu) -> Products {
    let (g, x) = (s.g, s.x(0)?);
    let slope = if op.tanh { gelu_tanh_slope(s, x)? } else { gelu_slope(s, x)? };
    Ok(vec![Some(s.mul(g, slope)?)])
}

/// `(1 + erf(x / √2)) / 2 + x · exp(-x² / 2) / √(2π)`.
fn gelu_slope(s: &mut Step<'_>, x: ValueId) -> Made {
    let inner = s.scaled(x, FRAC_1_SQRT_2)?;
    let erf = s.unary(UnaryFn::Erf, inner)?;
    let half = s.scaled(erf, 0.5)?;
    let share = s.plus(half, 0.5)?;
    let bell = bell(s, x, -0.5)?;
    let density = s.scaled(bell, 1.0 / (2.0 * PI).sqrt())?;
    let rest = s.mul(x, density)?;
    s.binary(BinaryFn::Add, share, rest)
}

/// With `t = tanh(c · (x + 0.044715 x³))`, `c = √(2/π)`: `(1 + t) / 2 + x / 2 · (1 - t²) · c · (1 + 0.134145 x²)`.
fn gelu_tanh_slope(s: &mut Step<'_>, x: ValueId) -> Made {
    let factor = (2.0 / PI).sqrt();
    let square = s.mul(x, x)?;
    let inner = s.scaled(square, 0.044715 * factor)?;
    let inner = s.plus(inner, factor)?;
    let inner = s.mul(inner, x)?;
    let t = s.unary(UnaryFn::Tanh, inner)?;
    let share = s.scaled(t, 0.5)?;
    let share = s.plus(share, 0.5)?;
    let bend = s.scaled(square, 3.0 * 0.044715 * factor)?;
    let bend = s.plus(bend, factor)?;
    let rest = one_minus_square(s, t)?;
    let rest = s.mul(rest, bend)?;
    let rest = s.mul(rest, x)?;
    let rest = s.scaled(rest, 0.5)?;
    s.binary(BinaryFn::Add, share, rest)
}

/// Straight through where nothing is cut off: there the integers stand for a number that is at most a step away.
pub(super) fn quantize(s: &mut Step<'_>) -> Products {
    let (g, x, scale, y) = (s.g, s.x(0)?, s.x(1)?, s.y());
    let Op::Quantize(op) = &s.node.op else { return Ok(Vec::new()) };
    if s.graph.ty(scale).rank() > 0 || s.wanted.iter().skip(1).any(|&w| w) {
        let found = format!("a scale {}", s.graph.ty(scale));
        return Err(s.unsupported(found, "one constant scale for the tensor"));
    }
    let back = Dequantize { axis: op.axis, block: op.block };
    let operands: Vec<ValueId> =
        [Some(y), Some(scale), s.node.inputs.get(2).copied().flatten()].into_iter().flatten().collect();
    let real = s.add(back, &operands)?;
    let error = s.binary(BinaryFn::Sub, x, real)?;
    let size = s.unary(UnaryFn::Abs, error)?;
    let near = s.binary(BinaryFn::Less, size, scale)?;
    let zero = s.scalar(g, 0.0);
    Ok(vec![Some(s.add(Where {}, &[near, g, zero])?), None, None])
}
