//! Hand-written programs for machines to come: they verify, print and parse, and compute what the untiled graph does.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::path::PathBuf;

use adze_ir::eval::{TileError, eval_graph, eval_program};
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_ir::text::{parse_graph, parse_program};
use adze_ir::tile::Program;
use adze_ir::types::DType;
use adze_ir::verify::{TileViolation, verify_program};

fn text(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/tile").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn program(text: &str) -> Program {
    let program = parse_program(text).unwrap_or_else(|e| panic!("{e}"));
    let printed = program.to_string();
    let again = parse_program(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.body, program.body);
    assert_eq!(again.buffers, program.buffers);
    program
}

/// Small integers: sums are exact in any order and any floating type that holds them.
fn data(graph: &Graph) -> Vec<Tensor> {
    let mut random = fastrand::Rng::with_seed(11);
    let tensor = |v: &adze_ir::graph::ValueId| {
        let ty = graph.ty(*v);
        let shape = ty.fixed_shape().unwrap();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(random.i32(-2..3))).collect();
        Tensor::from_f64(ty.dtype, &shape, &values)
    };
    graph.inputs().iter().map(tensor).collect()
}

fn same_as_graph(name: &str, graph: &str) {
    let program = program(&text(name));
    verify_program(&program).unwrap_or_else(|v| panic!("{v:#?}"));
    let graph = parse_graph(graph).unwrap_or_else(|e| panic!("{e}"));
    let inputs = data(&graph);
    assert_eq!(eval_program(&program, &inputs).unwrap(), eval_graph(&graph, &inputs).unwrap());
}

const CONV: &str = "dilations=[1, 1], group=1}";

#[test]
fn bm1684x_convolution() {
    same_as_graph(
        "bm1684x_conv.tile",
        &format!(
            "graph @g {{
              input %0 \"x\" : f32[1,70,32,16]
              input %1 \"w\" : f32[96,70,3,3]
              %2 = conv %0, %1 {{strides=[1, 1], pads=[1, 1, 1, 1], {CONV} : f32[1,96,32,16]
              output \"y\" = %2
            }}"
        ),
    );
}

#[test]
fn ethos_u_cascade() {
    same_as_graph(
        "ethos_u_cascade.tile",
        &format!(
            "graph @g {{
              input %0 \"x\" : f32[1,4,12,10]
              input %1 \"w1\" : f32[8,4,3,3]
              input %2 \"w2\" : f32[6,8,3,3]
              %3 = conv %0, %1 {{strides=[1, 1], pads=[1, 1, 1, 1], {CONV} : f32[1,8,12,10]
              %4 = conv %3, %2 {{strides=[1, 1], pads=[1, 1, 1, 1], {CONV} : f32[1,6,12,10]
              output \"y\" = %4
            }}"
        ),
    );
}

#[test]
fn rk3588_row_split() {
    same_as_graph(
        "rk3588_rows.tile",
        &format!(
            "graph @g {{
              input %0 \"x\" : f16[1,32,176,64]
              input %1 \"w\" : f16[24,32,3,3]
              %2 = conv %0, %1 {{strides=[2, 2], pads=[1, 1, 0, 0], {CONV} : f16[1,24,88,32]
              output \"y\" = %2
            }}"
        ),
    );
}

/// Violations of a text with one place changed; the unchanged text has none.
fn violations(name: &str, from: &str, to: &str) -> Vec<TileViolation> {
    let source = text(name);
    assert!(source.contains(from), "`{from}` stands in {name}");
    verify_program(&program(&source.replacen(from, to, 1))).expect_err("something is wrong")
}

#[test]
fn a_missing_wait_is_seen_by_verifier_and_interpreter() {
    let name = "bm1684x_conv.tile";
    let found = violations(name, "    wait 0\n", "");
    assert!(found.iter().any(|v| matches!(v, TileViolation::UnderWay { tag: 0, .. })), "{found:#?}");
    let broken = program(&text(name).replacen("    wait 0\n", "", 1));
    let inputs = [Tensor::zeros(DType::F32, &[1, 70, 32, 16]), Tensor::zeros(DType::F32, &[96, 70, 3, 3])];
    assert!(matches!(eval_program(&broken, &inputs), Err(TileError::Undefined { .. })));
    let found = violations(name, "    wait 3\n", "");
    assert!(found.iter().any(|v| matches!(v, TileViolation::NotAwaited { tag: 3 })), "{found:#?}");
    let found = violations(name, "wait 9", "wait 8");
    assert!(found.iter().any(|v| matches!(v, TileViolation::Wait { tag: 8 })), "{found:#?}");
}

#[test]
fn a_short_rolling_buffer_is_seen() {
    let name = "ethos_u_cascade.tile";
    let found = violations(name, "window(axis=2, rows=3)", "window(axis=2, rows=2)");
    assert!(found.iter().any(|v| matches!(v, TileViolation::Outside { axis: 2, .. })), "{found:#?}");
    let broken = program(&text(name).replacen("window(axis=2, rows=3)", "window(axis=2, rows=2)", 1));
    let inputs = [[1, 4, 12, 10], [8, 4, 3, 3], [6, 8, 3, 3]].map(|s| Tensor::zeros(DType::F32, &s));
    assert!(matches!(eval_program(&broken, &inputs), Err(TileError::Undefined { .. })));
}

#[test]
fn each_invariant_has_its_violation() {
    use TileViolation as V;
    let (bm, eu, rk) = ("bm1684x_conv.tile", "ethos_u_cascade.tile", "rk3588_rows.tile");
    type Case<'a> = (&'a str, &'a str, &'a str, fn(&V) -> bool);
    let cases: &[Case<'_>] = &[
        (eu, "@ethos_u_cascade", "@ethos_u_cascade dims(n = 4..2)", |v| matches!(v, V::Range { .. })),
        (eu, "align=16}", "align=24}", |v| matches!(v, V::Memory { .. })),
        (bm, "layout(\"0:64,0,1,2,3\")", "layout(\"0,1,2,3\")", |v| matches!(v, V::Buffer { .. })),
        (eu, "%s2 : f32[6,8,3,3] in sram at 1152", "%s2 : f32[6,8,3,3] in sram alias(%s1, 64)", |v| {
            matches!(v, V::Alias { .. })
        }),
        (rk, "step 43", "step 0", |v| matches!(v, V::Loop { .. })),
        (rk, "fill 0.0, %k", "fill 0.0, %k[0:24, 0:32, q:3, 0:3]", |v| matches!(v, V::Extent { .. })),
        (rk, "fill 0.0, %k", "fill 0.0, %k[0:24]", |v| matches!(v, V::View { .. })),
        (eu, "-1:3, -1:12] fill 0.0", "-1:3, -1:12]", |v| matches!(v, V::Outside { axis: 2, .. })),
        (rk, "o:min(43, 88 - o)", "o:43", |v| matches!(v, V::Outside { axis: 2, .. })),
        (eu, "group=1} loc(\"conv1\")", "group=3} loc(\"conv1\")", |v| matches!(v, V::Type { .. })),
        (rk, "2*min(43, 88 - o) + 1, -1:65", "2*min(43, 88 - o) + 1, -1:63", |v| matches!(v, V::ResultType { .. })),
        (eu, "dma %s1 <- %w1 tag 0", "dma %w1 <- %s1 tag 0", |v| matches!(v, V::ReadOnly { .. })),
        (eu, "dma %s1 <- %w1 tag 0", "dma %s2[0:6, 0:4, 0:3, 0:3] <- %s1[0:6, 0:4, 0:3, 0:3] tag 0", |v| {
            matches!(v, V::Copy { .. })
        }),
        (eu, "  dma %s1 <- %w1 tag 0\n  dma %s2 <- %w2 tag 1\n  wait 0\n", "  dma %s2 <- %w2 tag 1\n", |v| {
            matches!(v, V::Undefined { .. })
        }),
        (eu, "at 1152", "at 1160", |v| matches!(v, V::Offset { .. })),
        (eu, "capacity=32768", "capacity=3000", |v| matches!(v, V::Offset { .. })),
        (bm, "{bank=5}", "{bank=6}", |v| matches!(v, V::Offset { .. })),
        (eu, "at 1152", "at 1136", |v| matches!(v, V::Overlap { .. })),
        (eu, "conv %x[0:1, 0:4, -1:3, -1:12] fill 0.0, %s1", "conv %t[0:1, 0:4, 0:3, 0:12] fill 0.0, %s1", |v| {
            matches!(v, V::Overwrite { .. })
        }),
    ];
    for (name, from, to, expected) in cases {
        let found = violations(name, from, to);
        assert!(found.iter().any(expected), "{from} -> {to}: {found:#?}");
    }
}
