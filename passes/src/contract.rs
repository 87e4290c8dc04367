//! Another requantize contract for integer operators: opted in, with a stated error.

use adze_ir::exact::Exactness;
use adze_ir::graph::Graph;
use adze_ir::ops::{Op, QLinearConv, QLinearMatMul};
use adze_ir::quant::Requantize;

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rebuild::{Rewrite, add, rebuild};

/// See [`Pass::docs`].
pub struct ChangeContract;

const NAME: &str = "contract";

impl Pass for ChangeContract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Gives every integer product and convolution the requantize contract that was asked for; does nothing unless one was. \
         A contract in integers (`mulshift_half_up`, `mulshift_tflite`) is for machines without floats: it moves a result \
         by at most one unit, because `f32_rne` rounds the same product, of which 24 bits are exact, and results have at \
         most 16."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Lsb(1)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let Some(wanted) = cx.options.contract else { return Ok(Changed::No) };
        let differs = |op: &Op| stated(op).is_some_and(|contract| contract != wanted);
        if !graph.nodes().any(|(_, node)| differs(&node.op)) {
            return Ok(Changed::No);
        }
        *graph = rebuild(graph, NAME, |out, site| {
            if !differs(site.op()) {
                return Ok(Rewrite::Keep);
            }
            let changed = with_contract(site.op(), wanted);
            add(out, changed, site.inputs, site.loc(), NAME).map(Rewrite::Replace)
        })?;
        Ok(Changed::Yes)
    }
}

/// The contract of an operator that requantizes.
fn stated(op: &Op) -> Option<Requantize> {
    match op {
        Op::QLinearConv(op) => Some(op.contract),
        Op::QLinearMatMul(op) => Some(op.contract),
        _ => None,
    }
}

fn with_contract(op: &Op, contract: Requantize) -> Op {
    match op {
        Op::QLinearConv(op) => QLinearConv { contract, ..op.clone() }.into(),
        Op::QLinearMatMul(_) => QLinearMatMul { contract }.into(),
        other => other.clone(),
    }
}
