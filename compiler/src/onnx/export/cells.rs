//! Recurrent cells. Weights that stay as they are stored are what `DequantizeLinear` makes of them.

use adze_ir::attrs::F64;
use adze_ir::ops::*;

use super::ops::{Attributes, flag, float, index};
use super::{Exporter, int, string, strings};
use crate::error::Error;

/// Adds the nodes of a cell.
pub(super) fn export(cx: &mut Exporter<'_>, op: &Op, mut inputs: Vec<String>, outputs: &[String]) -> Result<(), Error> {
    let wrong = || Error::Bug(format!("`{}` is no recurrent cell", op.name()));
    let (name, attributes) = named(op).ok_or_else(wrong)?;
    let cell = op.cell_weights().ok_or_else(wrong)?;
    for (which, block) in cell.blocks.into_iter().enumerate() {
        let Some(block) = block else { continue };
        let attributes = vec![int("axis", 2), int("block_size", index(block))];
        let operands = [inputs[1 + which].clone(), inputs[cell.scales + which].clone()];
        inputs[1 + which] = cx.value("DequantizeLinear", &operands, attributes);
    }
    inputs.truncate(cell.scales);
    cx.emit(name, &inputs, outputs, attributes);
    Ok(())
}

/// The operator of ONNX with its attributes.
fn named(op: &Op) -> Option<(&'static str, Attributes)> {
    Some(match op {
        Op::Lstm(op) => {
            let mut attributes = common(op.direction, op.hidden, &op.activations, op.clip);
            attributes.push(flag("input_forget", op.input_forget));
            ("LSTM", attributes)
        }
        Op::Gru(op) => {
            let mut attributes = common(op.direction, op.hidden, &op.activations, op.clip);
            attributes.push(flag("linear_before_reset", op.linear_before_reset));
            ("GRU", attributes)
        }
        Op::Rnn(op) => ("RNN", common(op.direction, op.hidden, &op.activations, op.clip)),
        _ => return None,
    })
}

fn common(direction: Direction, hidden: i64, activations: &[GateFn], clip: Option<F64>) -> Attributes {
    let name = |gate: &GateFn| match gate {
        GateFn::Sigmoid => "Sigmoid",
        GateFn::Tanh => "Tanh",
        GateFn::Relu => "Relu",
    };
    let names: Vec<&str> = activations.iter().map(name).collect();
    let mut attributes =
        vec![string("direction", direction.name()), int("hidden_size", hidden), strings("activations", &names)];
    attributes.extend(clip.map(|clip| float("clip", clip)));
    attributes
}
