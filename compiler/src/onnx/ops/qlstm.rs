//! `DynamicQuantizeLSTM` of the domain `com.microsoft`: an LSTM whose products are of bytes. The operand is quantized by its range
//! once, the state in every step, so the steps are written out.

use adze_ir::ops::{Clip, Direction, DynamicQuantize, GateFn, Unary, UnaryFn};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs, fixed_dim};
use super::super::value::Value;
use super::Row;
use super::qlinear::scaled_product;
use super::recurrent::{Cell, cell};

pub(super) const ROWS: &[Row] = &[("DynamicQuantizeLSTM", 1..=1, lstm)];

/// Steps that are written out at most.
const STEPS: i64 = 256;

/// Quantized weights of a direction: `[i, 4 · h]` in the order input, output, forget, cell.
struct Weights {
    values: Value,
    scale: Value,
    zero: Value,
}

/// One direction.
struct Side {
    input: Weights,
    recurrence: Weights,
    /// Sum of both biases, `[4 · h]`.
    bias: Option<Value>,
    /// Peepholes of input, output and forget gate, each `[h]`.
    peepholes: Option<[Value; 3]>,
    gates: [GateFn; 3],
    clip: Option<f64>,
    hidden: i64,
}

/// Operands `x[s, b, i], w[n, i, 4 · h], r[n, h, 4 · h], bias?[n, 8 · h], lengths?, h?[n, b, h], c?[n, b, h], peepholes?[n, 3 · h],
/// w_scale, w_zero, r_scale, r_zero`, the scales and zero points `[n]` or `[n, 4 · h]`.
fn lstm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.at_most(12)?;
    let Cell { direction, hidden, activations, clip } = cell(cx, &[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh])?;
    if cx.attrs.flag("input_forget", false)? {
        return Err(Fault::unsupported("attribute `input_forget` = 1", "0"));
    }
    if cx.opt(4).is_some() {
        return Err(Fault::unsupported("lengths of sequences", "sequences of one length"));
    }
    let x = cx.input(0)?;
    if x.rank() != 3 {
        return Err(Fault::model(format!("operand {}", x.ty), "rank 3"));
    }
    let steps = fixed_dim(&x.ty, 0)?;
    if !(1..=STEPS).contains(&steps) {
        return Err(Fault::unsupported(format!("{steps} steps"), format!("1 to {STEPS} steps, which are written out")));
    }
    // Hidden states of all steps, the last hidden states and the last cell states: one each per direction.
    let mut results = [Vec::new(), Vec::new(), Vec::new()];
    let reversed: &[bool] = match direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    for (index, &reverse) in reversed.iter().enumerate() {
        let gates = [activations[3 * index], activations[3 * index + 1], activations[3 * index + 2]];
        let side = side(cx, index, gates, clip.map(|clip| clip.get()), hidden)?;
        let made = run(cx, &side, &x, (index, steps, reverse))?;
        results.iter_mut().zip(made).for_each(|(list, value)| list.push(value));
    }
    let [all, last, cells] = results;
    Ok(vec![cx.stack(1, &all)?, cx.stack(0, &last)?, cx.stack(0, &cells)?])
}

fn side(
    cx: &mut NodeCx<'_, '_>,
    index: usize,
    gates: [GateFn; 3],
    clip: Option<f64>,
    hidden: i64,
) -> Result<Side, Fault> {
    let at = i64::try_from(index).unwrap_or(i64::MAX);
    let mut weights = |values: usize, scale: usize, zero: usize| {
        let mut of = |operand: usize| {
            let value = cx.input(operand)?;
            cx.element(&value, 0, at)
        };
        Ok::<_, Fault>(Weights { values: of(values)?, scale: of(scale)?, zero: of(zero)? })
    };
    let (input, recurrence) = (weights(1, 8, 9)?, weights(2, 10, 11)?);
    let bias = match cx.opt(3).cloned() {
        None => None,
        Some(bias) => {
            let bias = cx.element(&bias, 0, at)?;
            let (w, r) = (
                cx.cut(&bias, 0, 0.into(), (4 * hidden).into())?,
                cx.cut(&bias, 0, (4 * hidden).into(), (4 * hidden).into())?,
            );
            Some(cx.add(&w, &r)?)
        }
    };
    let peepholes = match cx.opt(7).cloned() {
        None => None,
        Some(given) => {
            let given = cx.element(&given, 0, at)?;
            let mut part = |at: i64| cx.cut(&given, 0, (at * hidden).into(), hidden.into());
            Some([part(0)?, part(1)?, part(2)?])
        }
    };
    Ok(Side { input, recurrence, bias, peepholes, gates, clip, hidden })
}

/// Hidden states `[s, b, h]`, the last one and the last cell state `[b, h]`.
fn run(
    cx: &mut NodeCx<'_, '_>,
    side: &Side,
    x: &Value,
    (index, steps, reverse): (usize, i64, bool),
) -> Result<[Value; 3], Fault> {
    let projected = product(cx, x, &side.input)?;
    let state = vec![x.ty.shape[1].clone(), side.hidden.into()];
    let mut initial = |operand: usize| match cx.opt(operand).cloned() {
        Some(given) => cx.element(&given, 0, i64::try_from(index).unwrap_or(i64::MAX)),
        None => cx.filled(x.ty.dtype, 0.0, &state),
    };
    let (mut h, mut c) = (initial(5)?, initial(6)?);
    let mut all = Vec::new();
    for step in 0..steps {
        let at = if reverse { steps - 1 - step } else { step };
        let own = cx.element(&projected, 0, at)?;
        let recurrent = product(cx, &h, &side.recurrence)?;
        let sum = cx.add(&own, &recurrent)?;
        (h, c) = gates(cx, side, &sum, &c)?;
        all.push(h.clone());
    }
    if reverse {
        all.reverse();
    }
    Ok([cx.stack(0, &all)?, h, c])
}

/// A product with the left operand quantized by its range.
fn product(cx: &mut NodeCx<'_, '_>, x: &Value, weights: &Weights) -> Result<Value, Fault> {
    let quantized = cx.emit(DynamicQuantize {}, &[Some(x)])?;
    let [bytes, scale, zero] = quantized.as_slice() else { return Err(Fault::bug("three results")) };
    let zeros = [Some(zero), Some(&weights.zero)];
    let mut made = scaled_product(cx, [bytes, &weights.values], [scale, &weights.scale], zeros, None)?;
    made.pop().ok_or_else(|| Fault::bug("a product without a result"))
}

/// The next hidden and cell state of the gates' sums `[b, 4 · h]`.
fn gates(cx: &mut NodeCx<'_, '_>, side: &Side, sum: &Value, c: &Value) -> Result<(Value, Value), Fault> {
    let sum = match &side.bias {
        Some(bias) => cx.add(sum, bias)?,
        None => sum.clone(),
    };
    let mut part = |at: i64| cx.cut(&sum, 1, (at * side.hidden).into(), side.hidden.into());
    let [input, output, forget, cell] = [part(0)?, part(1)?, part(2)?, part(3)?];
    let [f, g, h] = side.gates;
    let input = activate(cx, side, f, &input, 0, c)?;
    let forget = activate(cx, side, f, &forget, 2, c)?;
    let cell = cx.clipped(&cell, side.clip)?;
    let cell = apply(cx, g, &cell)?;
    let (kept, added) = (cx.mul(&forget, c)?, cx.mul(&input, &cell)?);
    let c = cx.add(&kept, &added)?;
    let output = activate(cx, side, f, &output, 1, &c)?;
    let shown = apply(cx, h, &c)?;
    Ok((cx.mul(&output, &shown)?, c))
}

/// A gate: its sum, the peephole on the cell state, the bound, the activation.
fn activate(
    cx: &mut NodeCx<'_, '_>,
    side: &Side,
    function: GateFn,
    sum: &Value,
    peephole: usize,
    c: &Value,
) -> Result<Value, Fault> {
    let sum = match &side.peepholes {
        Some(weights) => {
            let seen = cx.mul(&weights[peephole], c)?;
            cx.add(sum, &seen)?
        }
        None => sum.clone(),
    };
    let sum = cx.clipped(&sum, side.clip)?;
    apply(cx, function, &sum)
}

fn apply(cx: &mut NodeCx<'_, '_>, function: GateFn, x: &Value) -> Result<Value, Fault> {
    let function = match function {
        GateFn::Sigmoid => UnaryFn::Sigmoid,
        GateFn::Tanh => UnaryFn::Tanh,
        GateFn::Relu => UnaryFn::Relu,
    };
    cx.emit1(Unary { function }, &[x])
}

impl NodeCx<'_, '_> {
    /// The value between `-bound` and `bound`, where there is one.
    fn clipped(&mut self, x: &Value, bound: Option<f64>) -> Result<Value, Fault> {
        match bound {
            None => Ok(x.clone()),
            Some(bound) => self.emit1(Clip { min: Some((-bound).into()), max: Some(bound.into()) }, &[x]),
        }
    }
}
