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
         `quantize` up through what only moves elements, so that integers travel between operators. Products with \
         quantized weights keep them as they are. Every requantize carries its contract (`f32_rne`). Stands before constants are folded, while weights are still integers."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Lsb(1)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let quantized = graph.nodes().any(|(_, node)| matches!(node.op, Op::Quantize(_) | Op::Dequantize(_)));
        if !quantized || cx.options.optimizer == Optimizer::Canonical {
            return Ok(Changed::No);
        }
        let mut close = beside_users(graph)?;
        let rules = rules::of_pass(NAME, cx);
        // Where kernels of integers want layouts and borders that are given out later, a machine would price others than run:
        // operators are priced by their arithmetic and bytes then, which integers always have fewer of.
        let mut own = PassCx::new(cx.options, if cx.costs.runs_as_chosen() { cx.costs } else { &PlainMachine });
        own.pass = NAME;
        let changed = saturate::rewrite_all(&mut close, &mut own, NAME, &rules)?;
        cx.missed.append(&mut own.missed);
        cx.solved.append(&mut own.solved);
        cx.validated.append(&mut own.validated);
        if changed == Changed::Yes {
            *graph = close;
        }
        Ok(changed)
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
