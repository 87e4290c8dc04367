//! States on every node how the machine computes it.

use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, NodeId};
use adze_ir::ops::Op;
use adze_ir::propose::OpFacts;
use adze_ir::types::TensorType;

use crate::pass::{Changed, Pass, PassCx, PassError};

/// See [`Pass::docs`].
pub struct ChooseSchedules;

impl Pass for ChooseSchedules {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn docs(&self) -> &'static str {
        "States on every node the schedule of the machine's cheapest proposal, where there is more than one. Last on the \
         graph: a schedule is chosen for operands as they lie. Lowering hands it on to the leaf, and kernels follow it."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        let order: Vec<NodeId> = graph.order().to_vec();
        for id in order {
            let node = graph.node(id);
            if matches!(node.op, Op::Constant(_)) {
                continue;
            }
            let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
            let ask = |facts: &OpFacts<'_>| cx.costs.schedule(&node.op, facts);
            let schedule = OpFacts::in_graph(graph, &node.inputs, &outputs, ask);
            if schedule != node.schedule {
                graph.set_schedule(id, schedule);
                changed = Changed::Yes;
            }
        }
        Ok(changed)
    }
}
