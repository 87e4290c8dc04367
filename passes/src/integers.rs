//! Quantized networks that exporters write with floats in between (QDQ), as integer operators.

use std::collections::BTreeMap;

use adze_ir::exact::Exactness;
use adze_ir::graph::{ConstEntry, Graph, ValueId};
use adze_ir::ops::{Op, Quantize};
use adze_ir::propose::PlainMachine;
use adze_ir::tensor::Tensor;

use crate::pass::{Changed, Optimizer, Pass, PassCx, PassError};
use crate::rebuild::{Rewrite, Site, add, rebuild};
use crate::{rules, saturate};

/// See [`Pass::docs`].
pub struct Integers;

const NAME: &str = "integers";

impl Pass for Integers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Turns an operator between `dequantize` and `quantize` into its integer form, and moves `dequantize` down and \
         `quantize` up through what only moves elements, so that integers travel between operators. Products and recurrent cells \
         with quantized weights keep them as they are. Every requantize carries its contract (`f32_rne`). Stands before constants are folded, while weights are still integers."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Lsb(1)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let quantized = graph.nodes().any(|(_, node)| matches!(node.op, Op::Quantize(_) | Op::Dequantize(_)));
        if !quantized || cx.options.optimizer == Optimizer::Canonical {
            return Ok(Changed::No);
        }
        let (mut close, stored) = stored_cells(&beside_users(graph)?)?;
        let rules = rules::of_pass(NAME, cx);
        // Where kernels of integers want layouts and borders that are given out later, a machine would price others than run:
        // operators are priced by their arithmetic and bytes then, which integers always have fewer of.
        let mut own = PassCx::new(cx.options, if cx.costs.runs_as_chosen() { cx.costs } else { &PlainMachine });
        own.pass = NAME;
        let changed = saturate::rewrite_all(&mut close, &mut own, NAME, &rules)?;
        cx.missed.append(&mut own.missed);
        cx.solved.append(&mut own.solved);
        cx.validated.append(&mut own.validated);
        if stored == Changed::No && changed == Changed::No {
            return Ok(Changed::No);
        }
        *graph = close;
        Ok(Changed::Yes)
    }
}

/// The graph with a copy of each `dequantize` just before each of its users, so that no cut between regions separates
/// them, and with every zero point written out, so that rules know one form.
fn beside_users(graph: &Graph) -> Result<Graph, PassError> {
    let mut sources: BTreeMap<ValueId, (Op, Vec<Option<ValueId>>)> = BTreeMap::new();
    let mut next = rebuild(graph, NAME, |out, site| {
        let mut inputs = site.inputs.to_vec();
        let mut changed = false;
        for (input, old) in inputs.iter_mut().zip(&site.node.inputs) {
            if let Some((op, operands)) = old.and_then(|old| sources.get(&old)) {
                let loc = old.and_then(|old| graph.producer(old)).map(|(_, node)| node.loc.clone()).unwrap_or_default();
                *input = add(out, op.clone(), operands, loc, NAME)?.first().copied();
                changed = true;
            }
        }
        if matches!(site.op(), Op::Quantize(_) | Op::Dequantize(_)) && site.input(2).is_none() {
            inputs.truncate(2);
            inputs.push(zero_point(out, site, &inputs));
            changed = true;
        }
        if let Op::Dequantize(_) = site.op() {
            sources.insert(site.node.outputs[0], (site.op().clone(), inputs.clone()));
        }
        if !changed {
            return Ok(Rewrite::Keep);
        }
        let values = add(out, site.op().clone(), &inputs, site.loc(), NAME)?;
        for (&old, &new) in site.node.outputs.iter().zip(&values) {
            out.set_type(new, graph.ty(old).clone());
        }
        Ok(Rewrite::Replace(values))
    })?;
    next.remove_dead();
    Ok(next)
}

/// The graph with the weights of recurrent cells as they are stored. That is always smaller, and a cell has operands that are left out in
/// any number of ways, so that it is no rule.
fn stored_cells(graph: &Graph) -> Result<(Graph, Changed), PassError> {
    let mut changed = Changed::No;
    let mut next = rebuild(graph, NAME, |out, site| {
        let Some(mut cell) = site.op().cell_weights() else { return Ok(Rewrite::Keep) };
        let mut inputs = site.inputs.to_vec();
        let mut taken = false;
        for index in 0..2 {
            let found = site.input(1 + index).filter(|_| cell.blocks[index].is_none());
            let Some((weights, scales, block)) = found.and_then(|value| stored_rows(out, value)) else { continue };
            let loc = site.loc();
            let scales = out.consts.push(ConstEntry::new("", scales));
            inputs.resize(inputs.len().max(cell.scales + index + 1), None);
            inputs[cell.scales + index] = Some(out.add_const(scales, loc));
            inputs[1 + index] = Some(weights);
            cell.blocks[index] = Some(block);
            taken = true;
        }
        if !taken {
            return Ok(Rewrite::Keep);
        }
        changed = Changed::Yes;
        let values = add(out, site.op().clone().with_cell_blocks(cell.blocks), &inputs, site.loc(), NAME)?;
        for (&old, &new) in site.node.outputs.iter().zip(&values) {
            out.set_type(new, graph.ty(old).clone());
        }
        Ok(Rewrite::Replace(values))
    })?;
    next.remove_dead();
    Ok((next, changed))
}

/// The integers `[d, g, k]` that a value is made of, their scales `[d, g, k / block]` and the block; none where it is not made of constants
/// of at most a byte without zero points, or scales lie otherwise.
fn stored_rows(graph: &Graph, value: ValueId) -> Option<(ValueId, Tensor, usize)> {
    let (_, node) = graph.producer(value)?;
    let Op::Dequantize(op) = &node.op else { return None };
    let data = |index: usize| graph.constant(*node.inputs.get(index)?.as_ref()?)?.data();
    let (weights, scales) = (data(0)?, data(1)?);
    let symmetric = node.inputs.get(2).is_none_or(Option::is_none) || data(2)?.to_ints().iter().all(|&zero| zero == 0);
    let &[directions, rows, len] = weights.shape() else { return None };
    if weights.dtype().bits() > 8 || !symmetric || len == 0 {
        return None;
    }
    let shape = [directions, rows, 1];
    let spread = |place: &dyn Fn(usize) -> usize| {
        let values = scales.to_f64();
        let all: Vec<f64> = (0..directions * rows).map(|row| values[place(row)]).collect();
        Tensor::from_f64(scales.dtype(), &shape, &all)
    };
    let (scales, block) = match (scales.shape().len(), op.axis) {
        (3, 2) if op.block > 0 => (scales.clone(), op.block),
        (0 | 1, _) if scales.elems() == 1 => (spread(&|_| 0), len),
        (1, 0) => (spread(&|row| row / rows), len),
        (1, 1) => (spread(&|row| row % rows), len),
        _ => return None,
    };
    Some((node.inputs[0]?, scales, block))
}

/// Zeros in the shape of the scale, if that is known.
fn zero_point(out: &mut Graph, site: &Site<'_>, inputs: &[Option<ValueId>]) -> Option<ValueId> {
    let dtype = match site.op() {
        Op::Quantize(Quantize { to, .. }) => *to,
        _ => out.ty((*inputs.first()?)?).dtype,
    };
    let shape = out.ty((*inputs.get(1)?)?).fixed_shape()?;
    let id = out.consts.push(ConstEntry::new("", Tensor::zeros(dtype, &shape)));
    Some(out.add_const(id, site.loc()))
}
