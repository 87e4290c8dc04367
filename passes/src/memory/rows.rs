//! Which rows of its operands a leaf needs for some rows of its result.

use adze_ir::extent::Extent;
use adze_ir::ops::{BodyRef, Conv, ConvStored, Dequantize, Op, Quantize, WINOGRAD_WINDOW};
use adze_ir::tile::{Leaf, View, is_elementwise};

/// The axis of a result that strips cut: the rows of `[n, c, h, w]`.
pub(super) const ROWS: usize = 2;

/// What a leaf reads of one operand for result rows `r..r + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowRule {
    /// All of it, whatever the rows.
    All,
    /// The same rows, on that axis of the operand.
    Same(usize),
    /// Rows `r · stride..(r + n - 1) · stride + span`, counted from the start of the view, on the axis [`ROWS`].
    Window {
        /// Rows from one result row to the next.
        stride: i64,
        /// Rows for one result row.
        span: i64,
    },
}

/// The rule of each operand; nothing when the leaf cannot be cut into strips of rows.
pub(super) fn row_rules(leaf: &Leaf) -> Option<Vec<RowRule>> {
    let [output] = leaf.outputs.as_slice() else { return None };
    if output.sizes.len() != 4 {
        return None;
    }
    let rows = &output.sizes[ROWS];
    let rules = match &leaf.op {
        Op::Fused(fused) => {
            let mut rules: Vec<Option<RowRule>> = vec![None; leaf.inputs.len()];
            let views = |r: &Option<BodyRef>| match r {
                Some(BodyRef::Param(index)) => leaf.inputs.get(*index as usize).cloned().flatten(),
                _ => None,
            };
            for (index, step) in fused.steps.iter().enumerate() {
                let operands: Vec<Option<View>> = step.inputs.iter().map(views).collect();
                // Later steps see rows of the result; only the anchor may look at others.
                if index > 0 && !is_elementwise(&step.op) {
                    return None;
                }
                let found = step_rules(&step.op, &operands, rows)?;
                for (reference, rule) in step.inputs.iter().zip(found) {
                    let Some(BodyRef::Param(param)) = reference else { continue };
                    let known = rules.get_mut(*param as usize)?;
                    if known.is_some_and(|k| k != rule) {
                        return None;
                    }
                    *known = Some(rule);
                }
            }
            rules.into_iter().map(|r| r.unwrap_or(RowRule::All)).collect()
        }
        op => step_rules(op, &leaf.inputs, rows)?,
    };
    Some(rules)
}

fn step_rules(op: &Op, inputs: &[Option<View>], rows: &Extent) -> Option<Vec<RowRule>> {
    let window = |stride: i64, span: i64| {
        let mut rules = vec![RowRule::All; inputs.len()];
        *rules.first_mut()? = RowRule::Window { stride, span };
        Some(rules)
    };
    match op {
        Op::Conv(Conv { strides, pads, dilations, .. })
        | Op::ConvStored(ConvStored { strides, pads, dilations, .. })
            if strides.len() == 2 && pads[0] == 0 && pads[2] == 0 =>
        {
            let kernel = inputs.get(1)?.as_ref()?.sizes.get(2)?.as_const()?;
            window(strides[0], dilations[0] * (kernel - 1) + 1)
        }
        Op::WinogradConv(conv) if conv.pads[0] == 0 && conv.pads[2] == 0 => window(1, WINOGRAD_WINDOW as i64),
        Op::MaxPool(pool) if pool.strides.len() == 2 && pool.pads[0] == 0 && pool.pads[2] == 0 => {
            window(pool.strides[0], pool.dilations[0] * (pool.kernel[0] - 1) + 1)
        }
        Op::AveragePool(pool)
            if pool.strides.len() == 2 && pool.pads[0] == 0 && pool.pads[2] == 0 && pool.ceil_pads[0] == 0 =>
        {
            window(pool.strides[0], pool.dilations[0] * (pool.kernel[0] - 1) + 1)
        }
        Op::BatchNorm(_) => {
            let mut rules = vec![RowRule::All; inputs.len()];
            *rules.first_mut()? = RowRule::Same(ROWS);
            Some(rules)
        }
        Op::Quantize(Quantize { axis, block, .. }) | Op::Dequantize(Dequantize { axis, block }) => {
            // One scale, or scales along another axis.
            let scale = inputs.get(1)?.as_ref()?;
            let apart = scale.sizes.iter().all(|e| *e == Extent::ONE) || (*block == 0 && *axis != ROWS);
            let mut rules = vec![RowRule::All; inputs.len()];
            *rules.first_mut()? = RowRule::Same(ROWS);
            apart.then_some(rules)
        }
        Op::Transpose(op) if inputs.len() == 1 => Some(vec![RowRule::Same(*op.perm.get(ROWS)?)]),
        op if is_elementwise(op) => inputs
            .iter()
            .map(|view| match view {
                None => Some(RowRule::All),
                Some(view) => match view.sizes.len().checked_sub(2) {
                    None => Some(RowRule::All),
                    Some(axis) if view.sizes[axis] == *rows => Some(RowRule::Same(axis)),
                    Some(axis) if view.sizes[axis] == Extent::ONE => Some(RowRule::All),
                    Some(_) => None,
                },
            })
            .collect(),
        _ => None,
    }
}

/// Multiplications (or element visits) for one row of the result, for comparing how much is computed twice.
pub(super) fn row_cost(leaf: &Leaf) -> i64 {
    let output = &leaf.outputs[0];
    let per_row: i64 = (0..4).filter(|&a| a != ROWS).map(|a| output.sizes[a].as_const().unwrap_or(1)).product();
    let anchor = match &leaf.op {
        Op::Fused(fused) => &fused.anchor().op,
        op => op,
    };
    let taps = match anchor {
        Op::Conv(_) | Op::ConvStored(_) | Op::WinogradConv(_) => leaf
            .inputs
            .get(1)
            .and_then(Option::as_ref)
            .map_or(1, |w| w.sizes.iter().skip(1).map(|e| e.as_const().unwrap_or(1)).product::<i64>()),
        _ => 1,
    };
    per_row.saturating_mul(taps)
}
