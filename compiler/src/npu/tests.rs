//! What the chip's rules make means the same.

use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::ops::Op;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::DType;
use adze_targets::bm1684x::Program;

use super::{compile, lowered};

fn random(rng: &mut fastrand::Rng, shape: &[usize]) -> Tensor {
    let bytes = (0..shape.iter().product()).map(|_| rng.u8(..)).collect();
    Tensor::new(DType::I8, shape.to_vec(), bytes).unwrap()
}

fn run(graph: &Graph, input: &Tensor) -> Tensor {
    let program: Program = compile(graph, None).unwrap();
    program.run(std::slice::from_ref(input)).unwrap().swap_remove(0)
}

fn is_left(graph: &Graph, is: impl Fn(&Op) -> bool) -> bool {
    graph.nodes().any(|(_, node)| is(&node.op))
}

/// Kernel, stride, pads, output padding and the shape of the result.
type Transposed = ([usize; 2], i64, [i64; 4], [i64; 2], [usize; 2]);

const TRANSPOSED: &[Transposed] = &[
    ([2, 2], 2, [0; 4], [0; 2], [10, 14]),
    ([3, 3], 2, [1; 4], [1; 2], [10, 14]),
    ([4, 4], 2, [1; 4], [0; 2], [10, 14]),
    ([4, 3], 2, [0, 1, 2, 0], [0; 2], [10, 14]),
    ([3, 5], 1, [1, 2, 1, 2], [0; 2], [5, 7]),
    ([2, 3], 3, [0; 4], [1, 0], [15, 21]),
    ([5, 7], 3, [1, 2, 3, 0], [0, 2], [13, 25]),
];

/// Sums of transposed convolutions are whole numbers below 2^24 times a power of two here, so that floats are exact.
#[test]
fn transposed_convolutions_are_convolutions() {
    let mut rng = fastrand::Rng::with_seed(3);
    for &([kh, kw], stride, pads, output, [h, w]) in TRANSPOSED {
        for by_channel in [false, true] {
            let listed = |rng: &mut fastrand::Rng, count: usize| {
                (0..count).map(|_| rng.i8(..).to_string()).collect::<Vec<_>>().join(", ")
            };
            let (weights, bias) = (listed(&mut rng, 3 * 4 * kh * kw), listed(&mut rng, 4));
            let (scale, zero, extents) = match by_channel {
                true => ("0.5, 0.25, 1, 2", "0, 0, 0, 0", "4"),
                false => ("0.5", "0", ""),
            };
            let graph = parse_graph(&format!(
                "graph @g {{ input %0 \"x\" : i8[2,3,5,7]\n%1 = const \"\" [0.5] : f32[]\n%2 = const \"\" [-5] : i8[]\n\
                 %3 = const \"\" [{weights}] : i8[3,4,{kh},{kw}]\n%4 = const \"\" [{scale}] : f32[{extents}]\n\
                 %5 = const \"\" [{zero}] : i8[{extents}]\n%6 = const \"\" [{bias}] : f32[4]\n\
                 %7 = const \"\" [256] : f32[]\n%8 = const \"\" [3] : i8[]\n\
                 %9 = dequantize %0, %1, %2 {{axis=0, block=0}} : f32[2,3,5,7]\n\
                 %10 = dequantize %3, %4, %5 {{axis=1, block=0}} : f32[3,4,{kh},{kw}]\n\
                 %11 = conv_transpose %9, %10, %6 {{strides=[{stride}, {stride}], pads={pads:?}, \
                 output_padding={output:?}, dilations=[1, 1], group=1}} : f32[2,4,{h},{w}]\n\
                 %12 = quantize %11, %7, %8 {{axis=0, block=0, to=i8}} : i8[2,4,{h},{w}]\noutput \"y\" = %12 }}"
            ));
            let graph = graph.unwrap_or_else(|error| panic!("{error}"));
            let lowered = lowered(&graph, None).unwrap();
            assert!(!is_left(&lowered, |op| op.name() == "conv_transpose"), "{lowered}");
            let input = random(&mut rng, &[2, 3, 5, 7]);
            let expected = eval_graph(&graph, std::slice::from_ref(&input)).unwrap();
            assert_eq!(run(&graph, &input), expected[0], "{graph}");
        }
    }
}

/// Attention in bytes has no floats left but softmax; its scales are powers of two, so that floats are exact in the model, too.
#[test]
fn attention_is_of_bytes() {
    let graph = parse_graph(
        "graph @g { input %0 \"x\" : i8[1,8,6,5]\n%1 = const \"\" [0.125] : f32[]\n%2 = const \"\" [-3] : i8[]\n\
         %3 = const \"\" [4] : f32[]\n%4 = const \"\" [0.00390625] : f32[]\n%5 = const \"\" [-128] : i8[]\n\
         %6 = dequantize %0, %1, %2 {axis=0, block=0} : f32[1,8,6,5]\n%7 = reshape %6 {shape=[1, 8, 30]} : f32[1,8,30]\n\
         %8 = transpose %7 {perm=[0, 2, 1]} : f32[1,30,8]\n%9 = matmul %8, %7 : f32[1,30,30]\n\
         %10 = quantize %9, %3, %2 {axis=0, block=0, to=i8} : i8[1,30,30]\n\
         %11 = dequantize %10, %3, %2 {axis=0, block=0} : f32[1,30,30]\n\
         %12 = reduce %11 {function=max, axes=[2], keep_dims=true} : f32[1,30,1]\n\
         %13 = expand %12 {shape=[1, 30, 30]} : f32[1,30,30]\n%14 = sub %13, %11 : f32[1,30,30]\n\
         %15 = quantize %14, %3, %5 {axis=0, block=0, to=i8} : i8[1,30,30]\n\
         %16 = dequantize %15, %3, %5 {axis=0, block=0} : f32[1,30,30]\n%17 = softmax %16 {axis=2} : f32[1,30,30]\n\
         %18 = quantize %17, %4, %5 {axis=0, block=0, to=i8} : i8[1,30,30]\n\
         %19 = dequantize %18, %4, %5 {axis=0, block=0} : f32[1,30,30]\n\
         %20 = matmul %7, %19 {trans_b=true} : f32[1,8,30]\n\
         %21 = quantize %20, %1, %2 {axis=0, block=0, to=i8} : i8[1,8,30]\noutput \"y\" = %21 }",
    );
    let graph = graph.unwrap_or_else(|error| panic!("{error}"));
    let lowered = lowered(&graph, None).unwrap();
    assert!(!is_left(&lowered, |op| matches!(op, Op::MatMul(_))), "{lowered}");
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..4 {
        let input = random(&mut rng, &[1, 8, 6, 5]);
        let expected = eval_graph(&graph, std::slice::from_ref(&input)).unwrap();
        assert_eq!(run(&graph, &input), expected[0]);
    }
}
