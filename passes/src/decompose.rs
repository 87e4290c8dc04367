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

#[cfg(test)]
mod tests {
    use adze_ir::eval::eval_graph;
    use adze_ir::propose::{Cost, CostModel};
    use adze_ir::tensor::Tensor;
    use adze_ir::text::parse_graph;
    use adze_ir::types::DType;

    use super::*;
    use crate::pass::PassOptions;

    /// A machine without kernels for some operators.
    struct Without(&'static [&'static str]);

    impl CostModel for Without {
        fn cost(&self, op: &Op, _: &OpFacts<'_>) -> Option<Cost> {
            (!self.0.contains(&op.name())).then(Cost::default)
        }
    }

    /// Operators after the pass, once it computes the same.
    fn after(text: &str, machine: Without) -> (Changed, Vec<&'static str>) {
        let before = parse_graph(text).unwrap();
        let mut graph = before.clone();
        let changed = Decompose.run(&mut graph, &mut PassCx::new(&PassOptions::default(), &machine)).unwrap();
        adze_ir::verify::verify_graph(&graph).unwrap();
        let values: Vec<f64> = (0..6).map(|i| f64::from(i * i) - 7.5).collect();
        let x = [Tensor::from_f64(DType::F32, &[2, 3], &values)];
        let (expected, found) = (eval_graph(&before, &x).unwrap(), eval_graph(&graph, &x).unwrap());
        assert!(Decompose.exactness().holds(&found[0], &expected[0], 3, 1.0), "{found:?} instead of {expected:?}");
        let names = graph.nodes().map(|(_, node)| node.op.name()).filter(|name| *name != "const").collect();
        (changed, names)
    }

    const LOG_SOFTMAX: &str = "graph @g { input %0 \"x\" : f32[2,3]
        %1 = log_softmax %0 {axis=1} : f32[2,3] loc(\"LogSoftmax_0\")
        output \"y\" = %1 }";

    #[test]
    fn what_has_no_kernel_becomes_smaller_operators() {
        let (changed, names) = after(LOG_SOFTMAX, Without(&["log_softmax"]));
        assert_eq!(changed, Changed::Yes);
        assert!(names.len() > 1 && !names.contains(&"log_softmax"), "{names:?}");
    }

    #[test]
    fn what_has_a_kernel_or_no_smaller_form_stays() {
        assert_eq!(after(LOG_SOFTMAX, Without(&["softmax"])), (Changed::No, vec!["log_softmax"]));
        let relu = "graph @g { input %0 \"x\" : f32[2,3]
            %1 = relu %0 : f32[2,3]
            output \"y\" = %1 }";
        assert_eq!(after(relu, Without(&["unary"])), (Changed::No, vec!["unary"]));
    }
}
