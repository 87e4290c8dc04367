//! Recurrent cells.

use adze_ir::attrs::F64;
use adze_ir::ops::{Direction, GateFn, Gru, Lstm, Op, Rnn};

use super::super::error::Fault;
use super::super::node::{NodeCx, Outputs};
use super::{NEWEST, Row};

pub(super) const ROWS: &[Row] = &[("GRU", 7..=NEWEST, gru), ("LSTM", 7..=NEWEST, lstm), ("RNN", 7..=NEWEST, rnn)];

const DIRECTIONS: &[(&str, Direction)] =
    &[("forward", Direction::Forward), ("reverse", Direction::Reverse), ("bidirectional", Direction::Bidirectional)];

/// What the three cells share.
pub(super) struct Cell {
    pub(super) direction: Direction,
    pub(super) hidden: i64,
    pub(super) activations: Vec<GateFn>,
    pub(super) clip: Option<F64>,
}

pub(super) fn cell(cx: &NodeCx<'_, '_>, default: &[GateFn]) -> Result<Cell, Fault> {
    // Parameters of activations other than the three that are read.
    for name in ["activation_alpha", "activation_beta"] {
        if cx.attrs.floats(name)?.is_some_and(|values| !values.is_empty()) {
            return Err(Fault::unsupported(format!("attribute `{name}`"), "activations without parameters"));
        }
    }
    let direction = cx.attrs.word("direction", "forward", DIRECTIONS)?;
    let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
    let activations = match cx.attrs.strings("activations")? {
        None => default.repeat(directions),
        Some(names) => {
            let parsed = names.iter().map(|name| gate(name)).collect::<Result<Vec<_>, _>>()?;
            if parsed.len() != default.len() * directions {
                let accepted = format!("{}", default.len() * directions);
                return Err(Fault::model(format!("{} activations", parsed.len()), accepted));
            }
            parsed
        }
    };
    let hidden = match cx.attrs.int("hidden_size")? {
        Some(hidden) => hidden,
        // It is the last extent of the recurrence weights.
        None => {
            let weights = cx.input(2)?;
            let last = weights.rank().checked_sub(1).ok_or_else(|| Fault::model("weights of rank 0", "rank 3"))?;
            super::super::node::fixed_dim(&weights.ty, last)?
        }
    };
    Ok(Cell { direction, hidden, activations, clip: cx.attrs.float("clip")?.map(F64::from) })
}

/// Names are compared without case, as ONNX Runtime does.
fn gate(name: &str) -> Result<GateFn, Fault> {
    match name.to_ascii_lowercase().as_str() {
        "sigmoid" => Ok(GateFn::Sigmoid),
        "tanh" => Ok(GateFn::Tanh),
        "relu" => Ok(GateFn::Relu),
        _ => Err(Fault::unsupported(format!("activation `{name}`"), "`Sigmoid`, `Tanh`, `Relu`")),
    }
}

fn emit(cx: &mut NodeCx<'_, '_>, op: Op, operands: usize) -> Outputs {
    cx.at_most(operands)?;
    let batch_first = cx.opset >= 14 && cx.attrs.flag("layout", false)?;
    let mut values = cx.inputs.clone();
    if batch_first {
        // The operand and the initial states; lengths and weights are the same either way.
        for index in [0, 5, 6] {
            if let Some(value) = values.get_mut(index).and_then(Option::as_mut) {
                *value = cx.transpose(value, &[1, 0, 2])?;
            }
        }
    }
    let mut inputs: Vec<_> = values.iter().map(Option::as_ref).collect();
    inputs.truncate(operands);
    while inputs.last().is_some_and(Option::is_none) {
        inputs.pop();
    }
    if inputs.len() < 3 || inputs[..3].iter().any(Option::is_none) {
        return Err(Fault::model(format!("{} inputs", inputs.len()), "operand, weights and recurrence weights"));
    }
    let mut results = cx.emit(op, &inputs)?;
    if batch_first {
        for result in &mut results {
            let perm: &[usize] = if result.rank() == 4 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
            *result = cx.transpose(result, perm)?;
        }
    }
    Ok(results)
}

fn lstm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let Cell { direction, hidden, activations, clip } = cell(cx, &[GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh])?;
    let input_forget = cx.attrs.flag("input_forget", false)?;
    emit(cx, Lstm { direction, hidden, activations, clip, input_forget, w_block: None, r_block: None }.into(), 8)
}

fn gru(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let Cell { direction, hidden, activations, clip } = cell(cx, &[GateFn::Sigmoid, GateFn::Tanh])?;
    let linear_before_reset = cx.attrs.flag("linear_before_reset", false)?;
    emit(cx, Gru { direction, hidden, activations, clip, linear_before_reset, w_block: None, r_block: None }.into(), 6)
}

fn rnn(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let Cell { direction, hidden, activations, clip } = cell(cx, &[GateFn::Tanh])?;
    emit(cx, Rnn { direction, hidden, activations, clip, w_block: None, r_block: None }.into(), 6)
}
