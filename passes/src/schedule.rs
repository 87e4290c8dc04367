//! States on every node how the machine computes it.

use std::collections::BTreeSet;

use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, NodeId};
use adze_ir::ops::{ConstId, Op};
use adze_ir::propose::OpFacts;
use adze_ir::types::TensorType;

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::turns::largest_constant;

/// See [`Pass::docs`].
pub struct ChooseSchedules;

impl Pass for ChooseSchedules {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn docs(&self) -> &'static str {
        "States on every node the schedule of the machine's cheapest proposal, where there is more than one. Last on the \
         graph: a schedule is chosen for operands as they lie. Of operators that read the same constant every second one \
         walks it backwards, since its end is still in the caches. Lowering hands schedules on to the leaves, and kernels \
         follow them."
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        let order: Vec<NodeId> = graph.order().to_vec();
        // Constants that were walked forwards by the last operator that reads them.
        let mut forwards: BTreeSet<ConstId> = BTreeSet::new();
        for id in order {
            let node = graph.node(id);
            if matches!(node.op, Op::Constant(_)) {
                continue;
            }
            let outputs: Vec<TensorType> = node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
            let ask = |facts: &OpFacts<'_>| cx.costs.schedule(&node.op, facts);
            let mut schedule = OpFacts::in_graph(graph, &node.inputs, &outputs, ask);
            let backwards = schedule.as_ref().and_then(|schedule| cx.costs.backwards(schedule));
            if let Some(((_, constant), backwards)) = largest_constant(graph, &node.inputs).zip(backwards) {
                if forwards.remove(&constant) {
                    schedule = Some(backwards);
                } else {
                    forwards.insert(constant);
                }
            }
            if schedule != node.schedule {
                graph.set_schedule(id, schedule);
                changed = Changed::Yes;
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use adze_ir::propose::{Proposal, Propose, Schedule};
    use adze_ir::text::parse_graph;

    use super::*;
    use crate::pass::PassOptions;

    /// Has one schedule, and knows it backwards.
    struct TwoWays;

    fn schedule(backwards: i64) -> Schedule {
        Schedule { id: "block".into(), params: [("backwards".into(), backwards)].into() }
    }

    impl Propose for TwoWays {
        fn propose(&self, _: &Op, _: &OpFacts<'_>) -> Vec<Proposal> {
            vec![Proposal { schedule: Some(schedule(0)), ..Proposal::default() }]
        }

        fn backwards(&self, _: &Schedule) -> Option<Schedule> {
            Some(schedule(1))
        }
    }

    /// Every second product by a matrix walks it backwards, others are not disturbed.
    #[test]
    fn readers_of_a_constant_take_turns() {
        let text = "graph @g {
            input %x \"x\" : f32[1,2]
            %w = const \"w\" [1.0, 2.0, 3.0, 4.0] : f32[2,2]
            %v = const \"v\" [1.0, 2.0, 3.0, 5.0] : f32[2,2]
            %a = matmul %x, %w : f32[1,2]
            %b = matmul %a, %v : f32[1,2]
            %c = matmul %b, %w : f32[1,2]
            %d = matmul %c, %w : f32[1,2]
            %e = matmul %x, %d {trans_a=true} : f32[2,2]
            output \"y\" = %e
        }";
        let mut graph = parse_graph(text).unwrap();
        let options = PassOptions::default();
        ChooseSchedules.run(&mut graph, &mut PassCx::new(&options, &TwoWays)).unwrap();
        let products = graph.nodes().filter(|(_, node)| matches!(node.op, Op::MatMul(_)));
        let backwards: Vec<i64> =
            products.map(|(_, node)| node.schedule.as_ref().unwrap().params["backwards"]).collect();
        assert_eq!(backwards, [0, 0, 1, 0, 0]);
    }
}
