//! Every rule by evaluation: all members of every class that a rule touched agree on random data, to the rule's
//! exactness; and each condition is needed or at least refuses what it should.

use std::collections::{BTreeMap, BTreeSet};

use adze_ir::egraph::{EGraph, ENode, Region, Rule, saturate};
use adze_ir::exact::Exactness;
use adze_ir::graph::{Graph, ValueId};
use adze_ir::ops::ConstId;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use egg::Id;

use super::{integer_rules, rules};

mod quantized;

/// Rules by name with the graphs on which they apply.
type Cases = &'static [(&'static str, &'static [&'static str])];

/// Fills `$name:dtype[shape]` with a constant of random numbers and parses.
fn graph(text: &str, random: &mut fastrand::Rng) -> Graph {
    let mut out = String::new();
    for line in text.split(';') {
        let line = line.trim();
        if let Some((left, ty)) = line.split_once("= random ") {
            let (dtype, dims) = ty.trim().trim_end_matches(']').split_once('[').unwrap();
            let elems: usize = dims.split(',').filter(|d| !d.is_empty()).map(|d| d.parse::<usize>().unwrap()).product();
            let mut value = || match dtype {
                "i8" => random.i8(..).to_string(),
                "u8" => random.u8(..).to_string(),
                "i32" => random.i32(-3000..3000).to_string(),
                _ => format!("{:?}", random.f32() + 0.25),
            };
            let values: Vec<String> = (0..elems).map(|_| value()).collect();
            out += &format!("{left}= const \"\" [{}] : {ty}\n", values.join(", "));
        } else {
            out += &format!("{line}\n");
        }
    }
    parse_graph(&format!("graph @case {{\n{out}}}\n")).unwrap_or_else(|e| panic!("{e:?} in\n{out}"))
}

/// A graph on which each rule applies. Shapes are not square, so that axes cannot be mixed up.
const CASES: Cases = &[
    ("batch-norm-as-scale-and-bias", &[
        "input %0 \"x\" : f32[2,3,4,5]; %1 = random f32[3]; %2 = random f32[3]; %3 = random f32[3]; %4 = random f32[3];
         %5 = batch_norm %0, %1, %2, %3, %4 {epsilon=0.001} : f32[2,3,4,5]; output \"y\" = %5",
    ]),
    ("scale-into-conv", &[
        "input %0 \"x\" : f32[2,3,5,7]; %1 = random f32[4,3,3,2]; %2 = random f32[4,1,1];
         %3 = conv %0, %1 {strides=[2,1], pads=[1,0,2,1], dilations=[1,2], group=1} : f32[2,4,3,6];
         %4 = mul %3, %2 : f32[2,4,3,6]; output \"y\" = %4",
        "input %0 \"x\" : f32[1,4,5,3]; %1 = random f32[4,1,3,3]; %2 = random f32[4]; %3 = random f32[1];
         %4 = conv %0, %1, %2 {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=4} : f32[1,4,5,3];
         %5 = mul %3, %4 : f32[1,4,5,3]; output \"y\" = %5",
    ]),
    ("bias-into-conv", &[
        "input %0 \"x\" : f32[2,3,5,7]; %1 = random f32[4,3,1,1]; %2 = random f32[1,4,1,1];
         %3 = conv %0, %1 {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} : f32[2,4,5,7];
         %4 = add %3, %2 : f32[2,4,5,7]; output \"y\" = %4",
        "input %0 \"x\" : f32[2,3,5]; %1 = random f32[4,3,2]; %2 = random f32[4]; %3 = random f32[4,1];
         %4 = conv %0, %1, %2 {strides=[1], pads=[0,0], dilations=[1], group=1} : f32[2,4,4];
         %5 = add %3, %4 : f32[2,4,4]; output \"y\" = %5",
    ]),
    ("bias-into-gemm", &[
        "input %0 \"x\" : f32[3,5]; %1 = random f32[5,4]; %2 = random f32[4];
         %3 = matmul %0, %1 : f32[3,4]; %4 = add %3, %2 : f32[3,4]; output \"y\" = %4",
        "input %0 \"x\" : f32[3,5]; %1 = random f32[4,5]; %2 = random f32[1];
         %3 = gemm %0, %1 {alpha=0.5, beta=1.0, trans_b=true} : f32[3,4]; %4 = add %2, %3 : f32[3,4]; output \"y\" = %4",
    ]),
    ("scale-into-matmul", &[
        "input %0 \"x\" : f32[2,3,5]; %1 = random f32[5,4]; %2 = random f32[4];
         %3 = matmul %0, %1 : f32[2,3,4]; %4 = mul %3, %2 : f32[2,3,4]; output \"y\" = %4",
        "input %0 \"x\" : f32[3,5]; %1 = random f32[4,5]; %2 = random f32[1,4];
         %3 = matmul %0, %1 {trans_b=true} : f32[3,4]; %4 = mul %3, %2 : f32[3,4]; output \"y\" = %4",
    ]),
    ("silu", &["input %0 \"x\" : f32[3,7]; %1 = sigmoid %0 : f32[3,7]; %2 = mul %0, %1 : f32[3,7]; output \"y\" = %2"]),
    ("hard-swish", &[
        "input %0 \"x\" : f32[3,7]; %1 = hard_sigmoid %0 {alpha=0.16666666666666666, beta=0.5} : f32[3,7];
         %2 = mul %0, %1 : f32[3,7]; output \"y\" = %2",
    ]),
    ("hard-sigmoid", &[
        "input %0 \"x\" : f32[3,7]; %1 = const \"\" [3.0] : f32[]; %2 = const \"\" [6.0] : f32[];
         %3 = add %0, %1 : f32[3,7]; %4 = clip %3 {min=0.0, max=6.0} : f32[3,7]; %5 = div %4, %2 : f32[3,7];
         output \"y\" = %5",
    ]),
    ("gelu-erf", &[
        "input %0 \"x\" : f32[3,7]; %1 = const \"\" [1.4142135] : f32[]; %2 = const \"\" [1.0] : f32[];
         %3 = const \"\" [0.5] : f32[]; %4 = div %0, %1 : f32[3,7]; %5 = erf %4 : f32[3,7]; %6 = add %5, %2 : f32[3,7];
         %7 = mul %0, %6 : f32[3,7]; %8 = mul %7, %3 : f32[3,7]; output \"y\" = %8",
    ]),
    ("mish", &[
        "input %0 \"x\" : f32[3,7]; %1 = softplus %0 : f32[3,7]; %2 = tanh %1 : f32[3,7]; %3 = mul %0, %2 : f32[3,7];
         output \"y\" = %3",
    ]),
    ("transpose-of-transpose", &[
        "input %0 \"x\" : f32[2,3,5]; %1 = transpose %0 {perm=[1,2,0]} : f32[3,5,2];
         %2 = transpose %1 {perm=[0,2,1]} : f32[3,2,5]; output \"y\" = %2",
        "input %0 \"x\" : f32[2,3,5]; %1 = transpose %0 {perm=[1,2,0]} : f32[3,5,2];
         %2 = transpose %1 {perm=[2,0,1]} : f32[2,3,5]; output \"y\" = %2",
    ]),
    ("transpose-after-unary", &[
        "input %0 \"x\" : f32[2,3,5]; %1 = transpose %0 {perm=[1,2,0]} : f32[3,5,2]; %2 = relu %1 : f32[3,5,2];
         output \"y\" = %2",
    ]),
    ("transpose-after-binary", &[
        "input %0 \"x\" : f32[2,3,5]; input %1 \"z\" : f32[1,3,5]; %2 = transpose %0 {perm=[1,2,0]} : f32[3,5,2];
         %3 = transpose %1 {perm=[1,2,0]} : f32[3,5,1]; %4 = sub %2, %3 : f32[3,5,2]; output \"y\" = %4",
    ]),
    ("pad-into-conv", &[
        "input %0 \"x\" : f32[1,2,4,5]; %1 = random f32[3,2,2,3];
         %2 = pad %0 {mode=constant, before=[0,0,1,0], after=[0,0,2,1]} : f32[1,2,7,6];
         %3 = conv %2, %1 {strides=[2,1], pads=[0,1,0,0], dilations=[1,1], group=1} : f32[1,3,3,5]; output \"y\" = %3",
    ]),
    ("max-pool-along-fewer-axes", &[
        "input %0 \"x\" : f32[2,3,5,4,7];
         %1 = max_pool %0 {kernel=[1,2,3], strides=[1,1,2], pads=[0,1,0,0,0,1], dilations=[2,1,2]} : f32[2,3,5,4,2];
         output \"y\" = %1",
        "input %0 \"x\" : f32[2,3,5,4,7];
         %1 = max_pool %0 {kernel=[1,2,3], strides=[2,1,2], pads=[0,1,0,0,0,0], dilations=[1,1,1]} : f32[2,3,3,4,3];
         output \"y\" = %1",
        "input %0 \"x\" : f32[2,1,6,4,7];
         %1 = max_pool %0 {kernel=[1,2,3], strides=[4,1,1], pads=[0,0,0,0,0,0], dilations=[1,1,1]} : f32[2,1,2,3,5];
         output \"y\" = %1",
    ]),
];

/// Where a rule must do nothing.
const REFUSED: &[(&str, &str)] = &[
    ("max-pool-along-fewer-axes",
        "input %0 \"x\" : f32[2,3,5,4];
         %1 = max_pool %0 {kernel=[1,2], strides=[1,1], pads=[1,0,0,0], dilations=[1,1]} : f32[2,3,6,3]; output \"y\" = %1"),
    ("max-pool-along-fewer-axes",
        "input %0 \"x\" : f32[2,3,5]; %1 = max_pool %0 {kernel=[1], strides=[2], pads=[0,0], dilations=[1]} : f32[2,3,3];
         output \"y\" = %1"),
    ("batch-norm-as-scale-and-bias",
        "input %0 \"x\" : f32[2,2]; %1 = random f32[2]; %2 = random f32[2]; %3 = random f32[2]; %4 = const \"\" [-1.0, 1.0] : f32[2];
         %5 = batch_norm %0, %1, %2, %3, %4 {epsilon=0.001} : f32[2,2]; output \"y\" = %5"),
    ("scale-into-conv",
        "input %0 \"x\" : f32[1,1,4,4]; %1 = random f32[4,1,1,1]; %2 = random f32[4,1];
         %3 = conv %0, %1 {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} : f32[1,4,4,4];
         %4 = mul %3, %2 : f32[1,4,4,4]; output \"y\" = %4"),
    ("scale-into-matmul",
        "input %0 \"x\" : f32[4,5]; %1 = random f32[5,4]; %2 = random f32[4,1];
         %3 = matmul %0, %1 : f32[4,4]; %4 = mul %3, %2 : f32[4,4]; output \"y\" = %4"),
    ("scale-into-matmul",
        "input %0 \"x\" : f32[4,5]; %1 = random f32[5,4]; %2 = const \"\" [inf] : f32[1];
         %3 = matmul %0, %1 : f32[4,4]; %4 = mul %3, %2 : f32[4,4]; output \"y\" = %4"),
    ("bias-into-gemm",
        "input %0 \"x\" : f32[4,5]; %1 = random f32[5,4]; %2 = random f32[4,1];
         %3 = matmul %0, %1 : f32[4,4]; %4 = add %3, %2 : f32[4,4]; output \"y\" = %4"),
    ("hard-swish",
        "input %0 \"x\" : f32[3]; %1 = hard_sigmoid %0 {alpha=0.2, beta=0.5} : f32[3]; %2 = mul %0, %1 : f32[3]; output \"y\" = %2"),
    ("pad-into-conv",
        "input %0 \"x\" : f32[1,2,4,5]; %1 = random f32[3,2,2,3]; %9 = const \"\" [1.0] : f32[];
         %2 = pad %0, %9 {mode=constant, before=[0,0,1,0], after=[0,0,2,1]} : f32[1,2,7,6];
         %3 = conv %2, %1 {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} : f32[1,3,6,4]; output \"y\" = %3"),
    ("pad-into-conv",
        "input %0 \"x\" : f32[1,1,4,5]; %1 = random f32[3,2,2,3];
         %2 = pad %0 {mode=constant, before=[0,1,0,0], after=[0,0,0,0]} : f32[1,2,4,5];
         %3 = conv %2, %1 {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} : f32[1,3,3,3]; output \"y\" = %3"),
];

struct Evaluator<'a> {
    egraph: &'a EGraph,
    inputs: &'a BTreeMap<u32, Tensor>,
    open: BTreeSet<Id>,
}

impl Evaluator<'_> {
    /// The value of a class by its first e-node that does not need the class itself.
    fn class(&mut self, class: Id) -> Option<Tensor> {
        let class = self.egraph.find(class);
        if !self.open.insert(class) {
            return None;
        }
        let value = self.egraph[class].nodes.iter().find_map(|node| self.node(node));
        self.open.remove(&class);
        value
    }

    fn node(&mut self, node: &ENode) -> Option<Tensor> {
        if node.is("@const") {
            return self.egraph.analysis.data(ConstId::from_u32(node.payload)).cloned();
        }
        if node.is("@input") {
            return self.inputs.get(&node.payload).cloned();
        }
        let attr = self.egraph[*node.children.first()?].data.attr?;
        let op = self.egraph.analysis.op(attr).clone();
        let operands: Option<Vec<Tensor>> = node.children[1..].iter().map(|&c| self.class(c)).collect();
        let operands = operands?;
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Some).collect();
        op.eval(&operands, &|_| None).unwrap().pop()
    }
}

fn inputs(graph: &Graph, special: bool, random: &mut fastrand::Rng) -> BTreeMap<u32, Tensor> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::from(f32::MIN_POSITIVE)];
    let nodes: Vec<_> = graph.order().to_vec();
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
    let region = Region::new(graph, &nodes, &outputs);
    let mut tensor = |(at, value): (u32, &ValueId)| {
        let ty = graph.ty(*value);
        let shape = ty.fixed_shape().unwrap();
        if let Some((lo, hi)) = ty.dtype.int_range() {
            let range = i32::try_from(lo).unwrap()..=i32::try_from(hi).unwrap();
            let values = (0..shape.iter().product::<usize>()).map(|_| i128::from(random.i32(range.clone())));
            return (at, Tensor::from_ints(ty.dtype, &shape, &values.collect::<Vec<_>>()));
        }
        let mut number =
            || if special && random.u8(..4) == 0 { odd[random.usize(..odd.len())] } else { random.f64() * 8.0 - 4.0 };
        let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|_| number()).collect();
        (at, Tensor::from_f64(ty.dtype, &shape, &values))
    };
    (0..).zip(region.inputs()).map(&mut tensor).collect()
}

/// The longest sum in the cases has that many terms.
const TERMS: usize = 18;

fn with_rule(graph: &Graph, rule: &'static Rule) -> (EGraph, usize) {
    let nodes: Vec<_> = graph.order().to_vec();
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
    let mut region = Region::new(graph, &nodes, &outputs);
    let (egraph, stats) = saturate(std::mem::take(&mut region.egraph), &[rule], 8, 10_000);
    assert_eq!(egraph.analysis.bugs, [], "rule {}", rule.name);
    assert!(stats.saturated, "rule {} goes on for ever", rule.name);
    (egraph, stats.applied.values().sum())
}

fn all() -> Vec<&'static Rule> {
    rules().into_iter().chain(integer_rules()).collect()
}

fn named(name: &str) -> &'static Rule {
    all().into_iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no rule {name}"))
}

#[test]
fn members_of_a_class_agree() {
    let mut random = fastrand::Rng::with_seed(7);
    for (name, texts) in CASES.iter().chain(quantized::CASES) {
        let rule = named(name);
        for text in *texts {
            for round in 0..8 {
                let graph = graph(text, &mut random);
                let (egraph, applied) = with_rule(&graph, rule);
                assert!(applied > 0, "rule {name} never matched in its test");
                let values = inputs(&graph, rule.exactness == Exactness::Exact && round % 2 == 1, &mut random);
                check(&egraph, &values, rule);
            }
        }
    }
}

fn check(egraph: &EGraph, values: &BTreeMap<u32, Tensor>, rule: &Rule) {
    for class in egraph.classes() {
        let mut eval = Evaluator { egraph, inputs: values, open: BTreeSet::from([class.id]) };
        let members: Vec<(&ENode, Tensor)> =
            class.nodes.iter().filter_map(|node| Some((node, eval.node(node)?))).collect();
        for (node, value) in members.iter().skip(1) {
            let (first, expected) = &members[0];
            assert!(
                rule.exactness.holds(value, expected, TERMS, 1.0),
                "rule {}: {first} and {node} differ:\n{expected:?}\n{value:?}",
                rule.name
            );
        }
    }
}

#[test]
fn conditions_refuse() {
    let mut random = fastrand::Rng::with_seed(11);
    for (name, text) in REFUSED.iter().chain(quantized::REFUSED) {
        let graph = graph(text, &mut random);
        assert_eq!(with_rule(&graph, named(name)).1, 0, "rule {name} must not apply to\n{graph}");
    }
}

#[test]
fn every_rule_has_a_case_and_a_name_of_its_own() {
    let mut names: Vec<&str> = all().iter().map(|r| r.name).collect();
    names.sort_unstable();
    let cases: BTreeSet<&str> = CASES.iter().chain(quantized::CASES).map(|(name, _)| *name).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), cases);
}
