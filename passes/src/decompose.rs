//! Composites that the machine has no kernel for, as their equal form in smaller operators.

use adze_ir::exact::{Exactness, NORM_TRANSCENDENTAL};
use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::Op;
use adze_ir::propose::OpFacts;

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
    let offered = || OpFacts::in_graph(graph, inputs, &outputs, |facts| costs.cost(op, facts).is_some());
    matches!(op, Op::Constant(_)) || offered()
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

    /// The graph before and after the pass, once both compute the same.
    fn after(text: &str, machine: Without) -> (Changed, Vec<&'static str>) {
        let before = parse_graph(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let mut graph = before.clone();
        let changed = Decompose.run(&mut graph, &mut PassCx::new(&PassOptions::default(), &machine)).unwrap();
        adze_ir::verify::verify_graph(&graph).unwrap();
        let tensor = |(index, &value): (usize, &ValueId)| {
            let shape = before.ty(value).fixed_shape().unwrap();
            let count: usize = shape.iter().product();
            // Positive behind the first: scales and variances are.
            let value = |i: usize| (i * i % 23) as f64 * 0.3 - if index == 0 { 2.5 } else { -0.25 };
            Tensor::from_f64(DType::F32, &shape, &(0..count).map(value).collect::<Vec<_>>())
        };
        let inputs: Vec<Tensor> = before.inputs().iter().enumerate().map(tensor).collect();
        let (expected, found) = (eval_graph(&before, &inputs).unwrap(), eval_graph(&graph, &inputs).unwrap());
        let largest = expected[0].to_f64().iter().fold(1.0f64, |max, v| max.max(v.abs()));
        assert!(Decompose.exactness().holds(&found[0], &expected[0], 64, largest), "{found:?} instead of {expected:?}");
        let names = graph.nodes().map(|(_, node)| node.op.name()).filter(|name| *name != "constant").collect();
        (changed, names)
    }

    /// A node of each composite on inputs of these shapes.
    fn composite(node: &str, shapes: &[&str], result: &str) -> String {
        let inputs = shapes.iter().enumerate().map(|(i, shape)| format!("input %{i} \"x{i}\" : f32[{shape}]\n"));
        let count = shapes.len();
        let operands: Vec<String> = (0..count).map(|i| format!("%{i}")).collect();
        let (name, attrs) = node.split_once(' ').unwrap_or((node, ""));
        format!(
            "graph @g {{ {} %{count} = {name} {} {attrs} : f32[{result}]\n output \"y\" = %{count} }}",
            inputs.collect::<String>(),
            operands.join(", ")
        )
    }

    #[test]
    fn every_equal_form_is_equal() {
        let conv = "{strides=[2, 1], pads=[1, 0, 0, 2], output_padding=[1, 0], dilations=[1, 2], group=2}";
        let cases = [
            composite("batch_norm {epsilon=0.01}", &["2,3,4", "3", "3", "3", "3"], "2,3,4"),
            composite("instance_norm {epsilon=0.01}", &["2,3,4", "3", "3"], "2,3,4"),
            composite("group_norm {epsilon=0.01, groups=2}", &["2,4,3", "4", "4"], "2,4,3"),
            composite("layer_norm {axis=1, epsilon=0.01}", &["3,5", "5", "5"], "3,5"),
            composite("rms_norm {axis=1, epsilon=0.01}", &["3,5", "5"], "3,5"),
            composite("lp_norm {axis=1, p=2}", &["3,5"], "3,5"),
            composite("lp_norm {axis=0, p=1}", &["3,5"], "3,5"),
            composite("log_softmax {axis=1}", &["3,5"], "3,5"),
            composite("winograd_conv {tile=4, pads=[1, 0, 0, 1]}", &["1,2,5,4", "3,2,3,3", "3"], "1,3,4,3"),
            composite(&format!("conv_transpose {conv}"), &["1,4,3,5", "4,2,3,2", "4"], "1,4,7,5"),
        ];
        for name in adze_ir::ops::DECOMPOSED {
            let mut of = cases.iter().filter(|text| text.contains(&format!("= {name} "))).peekable();
            assert!(of.peek().is_some(), "no case for `{name}`");
            for text in of {
                let (changed, names) = after(text, Without(adze_ir::ops::DECOMPOSED));
                assert!(changed == Changed::Yes && !names.contains(name), "{text}: {names:?}");
            }
        }
    }

    const LOG_SOFTMAX: &str = "graph @g { input %0 \"x\" : f32[2,3]
        %1 = log_softmax %0 {axis=1} : f32[2,3] loc(\"LogSoftmax_0\")
        output \"y\" = %1 }";

    #[test]
    fn what_has_a_kernel_or_no_smaller_form_stays() {
        assert_eq!(after(LOG_SOFTMAX, Without(&["softmax"])), (Changed::No, vec!["log_softmax"]));
        let relu = "graph @g { input %0 \"x\" : f32[2,3]
            %1 = relu %0 : f32[2,3]
            output \"y\" = %1 }";
        assert_eq!(after(relu, Without(&["unary"])), (Changed::No, vec!["unary"]));
    }
}
