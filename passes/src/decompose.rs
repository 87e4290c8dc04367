//! Composites that the machine has no kernel for, as their equal form in smaller operators.

use adze_ir::exact::{Exactness, NORM_TRANSCENDENTAL};
use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::Op;
use adze_ir::propose::OpFacts;
use adze_ir::types::TensorType;

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rebuild::{Rewrite, rebuild};

/// See [`Pass::docs`].
pub struct Decompose;

const NAME: &str = "decompose";

impl Pass for Decompose {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        "Replaces a composite that the machine offers no schedule for by its equal form in smaller operators. What has \
         no such form stays, for lowering to name it."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Norm(NORM_TRANSCENDENTAL)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        let costs = cx.costs;
        let next = rebuild(graph, NAME, |out, site| {
            if supported(out, costs, site.op(), site.inputs) {
                return Ok(Rewrite::Keep);
            }
            let made = adze_ir::ops::decompose(out, site.op(), site.inputs, &site.node.loc);
            Ok(match made {
                None => Rewrite::Keep,
                Some(Err(error)) => return Err(PassError::Type { pass: NAME, loc: site.loc(), error }),
                Some(Ok(values)) => {
                    changed = Changed::Yes;
                    Rewrite::Replace(values)
                }
            })
        })?;
        *graph = next;
        Ok(changed)
    }
}

fn supported(graph: &Graph, costs: &dyn adze_ir::propose::CostModel, op: &Op, inputs: &[Option<ValueId>]) -> bool {
    let Ok(outputs) = graph.infer(op, inputs) else { return true };
    let inputs: Vec<Option<&TensorType>> = inputs.iter().map(|v| v.map(|v| graph.ty(v))).collect();
    let facts = OpFacts { inputs: &inputs, outputs: &outputs, dims: &graph.dims };
    matches!(op, Op::Constant(_)) || costs.cost(op, &facts).is_some()
}
