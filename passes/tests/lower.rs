//! Lowering and planning keep the meaning: graph and program are interpreted on the same inputs.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use adze_ir::eval::{eval_graph, eval_program};
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::propose::{Cache, Cost, CostModel, OpFacts, PlainMachine};
use adze_ir::tensor::Tensor;
use adze_ir::text::{parse_graph, parse_program};
use adze_ir::tile::{Program, Stmt};
use adze_ir::verify::{verify_graph, verify_program};
use adze_passes::lower::{LowerOptions, Lowered, lower};
use adze_passes::memory::{Depth, cascade, plan, plan_within};

fn inputs(graph: &Graph, dims: &[(&str, i64)]) -> Vec<Tensor> {
    let mut random = fastrand::Rng::with_seed(7);
    let lookup = |name: &str| dims.iter().find(|d| d.0 == name).map(|d| d.1);
    let tensor = |v: &adze_ir::graph::ValueId| {
        let ty = graph.ty(*v);
        let shape: Vec<usize> = ty.shape.iter().map(|e| e.eval(&lookup).unwrap() as usize).collect();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(random.i32(-8..8)) / 4.0).collect();
        Tensor::from_f64(ty.dtype, &shape, &values)
    };
    graph.inputs().iter().map(tensor).collect()
}

fn leaves(program: &Program) -> usize {
    let mut count = 0;
    program.for_each_leaf(&mut |_| count += 1);
    count
}

/// Lowers, plans, and compares both programs with the graph, also after printing and parsing.
fn check(text: &str, dims: &[(&str, i64)]) -> Lowered {
    let graph = parse_graph(text).unwrap();
    verify_graph(&graph).unwrap();
    let data = inputs(&graph, dims);
    let expected = eval_graph(&graph, &data).unwrap();
    for concat_in_place in [true, false] {
        let mut lowered = lower(&graph, LowerOptions { concat_in_place }).unwrap();
        verify_program(&lowered.program).unwrap_or_else(|v| panic!("{v:#?}\n{}", lowered.program));
        assert_eq!(eval_program(&lowered.program, &data).unwrap(), expected, "{}", lowered.program);
        let planned = plan(&mut lowered.program).unwrap();
        verify_program(&lowered.program).unwrap_or_else(|v| panic!("{v:#?}\n{}\n{planned}", lowered.program));
        assert_eq!(eval_program(&lowered.program, &data).unwrap(), expected, "{}", lowered.program);
        let text = lowered.program.to_string();
        assert_eq!(parse_program(&text).unwrap().to_string(), text);
    }
    lower(&graph, LowerOptions::default()).unwrap()
}

#[test]
fn padding_becomes_a_view() {
    let lowered = check(
        "graph @g {
          input %0 \"x\" : f32[1,2,5,7]
          %1 = const \"\" [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.5, 2.5, 3.5] : f32[1,2,2,3]
          %2 = conv %0, %1 {strides=[1, 2], pads=[1, 1, 0, 2], dilations=[1, 1], group=1} : f32[1,1,5,4]
          %3 = max_pool %2 {kernel=[2, 2], strides=[1, 1], pads=[0, 1, 1, 0], dilations=[1, 1]} : f32[1,1,5,4]
          %4 = fused %3, %2 { s0 = conv p0, p1 {strides=[5, 4], pads=[2, 2, 2, 2], dilations=[1, 1], group=1}; s1 = relu s0 } : f32[1,1,1,2]
          output \"y\" = %4
        }",
        &[],
    );
    let text = lowered.program.to_string();
    assert!(text.contains("[0:1, 0:2, -1:6, -1:10] fill 0.0"), "{text}");
    assert!(text.contains("fill -inf"), "{text}");
}

#[test]
fn renaming_nodes_are_aliases() {
    let lowered = check(
        "graph @g dims(s = 1..6) {
          input %0 \"x\" : f32[1,4,s]
          %1 = relu %0 : f32[1,4,s]
          %2, %3 = split %1 {axis=1, sizes=[1, 3]} : f32[1,1,s], f32[1,3,s]
          %4 = neg %2 : f32[1,1,s]
          %5 = reshape %4 {shape=[1, s]} : f32[1,s]
          %6 = reshape %3 {shape=[3, s]} : f32[3,s]
          %7 = concat %6, %5, %5 {axis=0} : f32[5,s]
          %8 = abs %7 : f32[5,s]
          output \"y\" = %8
          output \"z\" = %7
          output \"x\" = %0
        }",
        &[("s", 5)],
    );
    // relu, neg, copies of the first and third part, abs, copy of the input.
    assert_eq!(leaves(&lowered.program), 6, "{}", lowered.program);
}

#[test]
fn states_are_written_after_the_last_read() {
    let lowered = check(
        "graph @g {
          input %0 \"x\" : f32[4]
          input %1 \"a\" : f32[4]
          input %2 \"b\" : f32[4]
          %3 = add %0, %0 : f32[4] name(\"a2\") loc(\"first\")
          %4 = mul %1, %0 : f32[4]
          %5 = add %2, %4 : f32[4] loc(\"in place\")
          input %6 \"c\" : f32[4]
          %7 = slice %6 {axes=[0], starts=[1], sizes=[3], steps=[1]} : f32[3]
          %8 = slice %5 {axes=[0], starts=[0], sizes=[1], steps=[1]} : f32[1]
          %9 = concat %7, %8 {axis=0} : f32[4] loc(\"reads itself\")
          output \"y\" = %4
          output \"a2\" = %3
          output \"b2\" = %5
          output \"c2\" = %9
          state 1 -> 1
          state 2 -> 2
          state 3 -> 3
        }",
        &[],
    );
    // `mul` reads `a` and comes before `add`, which writes it; `c` shifts over itself and is copied.
    let Stmt::Leaf(first) = &lowered.program.body[0] else { panic!() };
    assert_eq!(first.op.to_string(), "binary {function=mul}", "{}", lowered.program);
    assert_eq!(lowered.notes.len(), 1, "{:?}", lowered.notes);
    assert!(lowered.notes[0].contains("reads itself"));
}

#[test]
fn growing_states_append_in_place() {
    let text = "graph @g dims(past = 0..6, new = 1..2) {
          input %0 \"past\" : f32[2,past,3]
          input %1 \"new\" : f32[2,new,3]
          %2 = relu %1 : f32[2,new,3]
          %3 = concat %0, %2 {axis=1} : f32[2,(new + past),3]
          %4 = reduce %3 {function=sum, axes=[1], keep_dims=true} : f32[2,1,3]
          output \"y\" = %4
          output \"present\" = %3
          state 0 -> 1 append(axis=1, cap=8)
        }";
    for (past, new) in [(0, 1), (6, 2), (3, 1)] {
        let lowered = check(text, &[("past", past), ("new", new)]);
        assert_eq!(leaves(&lowered.program), 2, "{}", lowered.program);
    }
    let graph = parse_graph(&text.replace("cap=8", "cap=7")).unwrap();
    assert!(lower(&graph, LowerOptions::default()).is_err());
    let graph = parse_graph(&text.replace("concat %0, %2", "concat %2, %0")).unwrap();
    let error = lower(&graph, LowerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("starts with the state"), "{error}");
}

#[test]
fn elementwise_leaves_reuse_their_operand() {
    let graph = parse_graph(
        "graph @g {
          input %0 \"x\" : f32[1024]
          %1 = relu %0 : f32[1024]
          %2 = neg %1 : f32[1024]
          %3 = add %2, %1 : f32[1024]
          %4 = exp %3 : f32[1024]
          output \"y\" = %4
        }",
    )
    .unwrap();
    let mut program = lower(&graph, LowerOptions::default()).unwrap().program;
    let planned = plan(&mut program).unwrap();
    assert_eq!(planned.memories[0].bytes, 2 * 4096, "{planned}");
    assert_eq!(planned.memories[0].bound, 2 * 4096, "{planned}");
    verify_program(&program).unwrap();
}

/// A depthwise-separable stack, small, with a residual block and borders that do not divide.
const STACK: &str = "graph @g {
  input %0 \"x\" : f32[1,3,26,11]
  input %1 \"w1\" : f32[8,3,3,3]
  input %2 \"wd\" : f32[8,1,3,3]
  input %3 \"wp\" : f32[8,8,1,1]
  input %4 \"ws\" : f32[8,1,5,5]
  %5 = conv %0, %1 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1} : f32[1,8,26,11] loc(\"conv\")
  %6 = relu %5 : f32[1,8,26,11]
  %7 = conv %6, %2 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=8} : f32[1,8,26,11] loc(\"dw\")
  %8 = conv %7, %3 {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1} : f32[1,8,26,11] loc(\"pw\")
  %9 = add %8, %6 : f32[1,8,26,11] loc(\"residual\")
  %10 = max_pool %9 {kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], dilations=[1, 1]} : f32[1,8,13,6] loc(\"pool\")
  %11 = conv %10, %4 {strides=[2, 2], pads=[2, 2, 2, 2], dilations=[1, 1], group=8} : f32[1,8,7,3] loc(\"strided\")
  %12 = clip %11 {max=6.0} : f32[1,8,7,3]
  output \"y\" = %12
}";

#[test]
fn strips_keep_the_result_under_a_limit() {
    let graph = parse_graph(STACK).unwrap();
    let data = inputs(&graph, &[]);
    let expected = eval_graph(&graph, &data).unwrap();
    let base = lower(&graph, LowerOptions::default()).unwrap().program;
    let untiled = plan(&mut base.clone()).unwrap().bytes("arena");
    let mut loops = 0;
    for percent in [80, 60, 40, 30] {
        let mut program = base.clone();
        let limit = untiled * percent / 100;
        let planned = plan_within(&mut program, limit).unwrap_or_else(|e| panic!("{percent} %: {e}"));
        assert!(planned.bytes("arena") <= limit, "{planned}");
        verify_program(&program).unwrap_or_else(|v| panic!("{v:#?}\n{program}"));
        assert_eq!(eval_program(&program, &data).unwrap(), expected, "{program}");
        loops += program.body.iter().filter(|s| matches!(s, Stmt::For(_))).count();
        let text = program.to_string();
        assert_eq!(parse_program(&text).unwrap().to_string(), text);
    }
    assert!(loops >= 4);
}

/// A machine with a small cache: what touches more than it holds waits for all of it.
struct Near(u64);

impl CostModel for Near {
    fn cost(&self, op: &Op, facts: &OpFacts<'_>) -> Option<Cost> {
        let mut cost = PlainMachine.cost(op, facts)?;
        // What is written goes back too.
        let types = facts.inputs.iter().flatten().copied().chain(facts.outputs).chain(facts.outputs);
        let touched: u64 = types.map(|ty| ty.max_bytes(facts.dims) as u64).sum();
        if touched > self.0 {
            cost.cycles += touched / 2;
        }
        Some(cost)
    }

    fn cache(&self) -> Option<Cache> {
        Some(Cache { bytes: self.0, beyond: 512 })
    }
}

#[test]
fn cascades_keep_the_result_and_what_is_near_has_none() {
    let graph = parse_graph(STACK).unwrap();
    let data = inputs(&graph, &[]);
    let expected = eval_graph(&graph, &data).unwrap();
    let base = lower(&graph, LowerOptions::default()).unwrap().program;
    let loops = |program: &Program| program.body.iter().filter(|s| matches!(s, Stmt::For(_))).count();
    let run = |near: u64, depth: Depth| {
        let mut program = base.clone();
        let cuts = cascade(&mut program, &Near(near), depth);
        assert_eq!(cuts, loops(&program));
        let arena = plan(&mut program).unwrap().bytes("arena");
        verify_program(&program).unwrap_or_else(|v| panic!("{v:#?}\n{program}"));
        assert_eq!(eval_program(&program, &data).unwrap(), expected, "{program}");
        (cuts, arena)
    };
    let (none, whole) = run(1 << 20, Depth::Priced);
    assert_eq!(none, 0);
    let (deep, held) = run(12 << 10, Depth::Priced);
    assert!(deep > 0 && held < whole, "{deep} chains, {held} of {whole} bytes");
    assert!(run(12 << 10, Depth::Longest).0 > 0);
    assert_eq!(cascade(&mut base.clone(), &PlainMachine, Depth::Priced), 0, "memory that is all alike");
}

/// Rows of a layer with a window of many rows would be computed again for every strip: a chain over it is not worth it.
#[test]
fn chains_end_where_seams_cost_too_much() {
    let graph = parse_graph(
        "graph @g {
          input %0 \"x\" : f32[1,8,32,16]
          input %1 \"w\" : f32[8,8,1,1]
          input %2 \"tall\" : f32[8,8,11,1]
          %3 = conv %0, %1 {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1} : f32[1,8,32,16]
          %4 = conv %3, %1 {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1} : f32[1,8,32,16]
          %5 = conv %4, %2 {strides=[1, 1], pads=[5, 0, 5, 0], dilations=[1, 1], group=1} : f32[1,8,32,16]
          output \"y\" = %5
        }",
    )
    .unwrap();
    let base = lower(&graph, LowerOptions::default()).unwrap().program;
    let first = |depth| {
        let mut program = base.clone();
        cascade(&mut program, &Near(24 << 10), depth);
        let Some(Stmt::For(chain)) = program.body.first() else { return 0 };
        chain.body.len()
    };
    assert_eq!([first(Depth::Priced), first(Depth::Longest)], [2, 3]);
}

#[test]
fn a_limit_that_cannot_be_kept_names_the_layer() {
    let graph = parse_graph(
        "graph @g {
          input %0 \"x\" : f32[64,64]
          %1 = transpose %0 {perm=[1, 0]} : f32[64,64] loc(\"first\")
          %2 = matmul %1, %0 : f32[64,64] loc(\"second\")
          %3 = softmax %2 {axis=1} : f32[64,64] loc(\"third\")
          output \"y\" = %3
        }",
    )
    .unwrap();
    let mut program = lower(&graph, LowerOptions::default()).unwrap().program;
    let error = plan_within(&mut program, 20_000).unwrap_err().to_string();
    assert!(error.contains("second") && error.contains("32768") && error.contains("20000"), "{error}");
    assert!(plan_within(&mut program, 32_768).is_ok());
}
