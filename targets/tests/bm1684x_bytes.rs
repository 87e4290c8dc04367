//! Products, softmax, maxima and floats at the end of networks of bytes on the BM1684X: what attention is made of.

use adze_ir::eval::eval_graph;
use adze_ir::graph::Graph;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::DType;
use adze_targets::bm1684x::Program;
use fastrand::Rng;

/// Shapes of both factors and of the result.
const PRODUCTS: &[[&str; 3]] = &[
    ["3,70", "70,10", "3,10"],
    ["1,70,9", "1,9,130", "1,70,130"],
    ["3,9,70", "3,70,10", "3,9,10"],
    ["2,3,9,16", "2,3,16,7", "2,3,9,7"],
    ["1,3,9,16", "1,1,16,7", "1,3,9,7"],
    ["1,1,70,16", "1,2,16,7", "1,2,70,7"],
    ["1,200,5", "1,5,600", "1,200,600"],
    ["1,33,1600", "1,1600,33", "1,33,33"],
];

/// Shapes, axes and `flatten` of softmax.
const SOFTMAXES: &[(&str, usize, bool)] = &[
    ("10", 0, false),
    ("1,128", 1, false),
    ("70,20", 1, false),
    ("5,70", 0, false),
    ("1,130,1600", 2, false),
    ("2,70,33", 1, false),
    ("2,3,5,70", 3, false),
    ("2,70,5,6", 1, false),
    ("2,7,50,6", 2, false),
    ("2,3,5,70", 2, true),
    ("1,3,20000", 2, false),
];

fn shape(text: &str) -> Vec<usize> {
    text.split(',').map(|d| d.parse().expect("an extent")).collect()
}

fn dtype(rng: &mut Rng) -> DType {
    if rng.bool() { DType::I8 } else { DType::U8 }
}

fn bytes(rng: &mut Rng, dtype: DType, extents: &str) -> Tensor {
    let count = shape(extents).iter().product();
    Tensor::new(dtype, shape(extents), (0..count).map(|_| rng.u8(..)).collect()).expect("as many bytes")
}

/// A zero point, often one of the ends, or none.
fn zero(rng: &mut Rng, dtype: DType) -> i128 {
    let (lo, hi) = dtype.int_range().expect("bytes");
    [lo, hi, 0, rng.i128(lo..=hi)][rng.usize(..4)]
}

fn parsed(text: &str) -> Graph {
    parse_graph(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Results as a whole, and in less local memory where that suffices.
fn run(graph: &Graph, inputs: &[Tensor]) -> Tensor {
    let whole = Program::compile(graph, None).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let found = whole.run(inputs).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let file = whole.to_bmodel().expect("encodes");
    assert_eq!(Program::from_bmodel(&file).expect("reads what it wrote").run(inputs).as_ref(), Ok(&found), "{graph}");
    for share in [2, 4] {
        let limit = whole.streams.peak_bytes / share / 64 * 64;
        if let Ok(parts) = Program::compile_within(graph, None, limit) {
            assert!(parts.streams.peak_bytes <= limit, "{} of {limit} bytes", parts.streams.peak_bytes);
            assert_eq!(parts.run(inputs).as_ref(), Ok(&found), "{limit} bytes per lane\n{graph}");
        }
    }
    found.into_iter().next().expect("one result")
}

#[test]
fn products_equal_the_interpreter() {
    let mut rng = Rng::with_seed(41);
    for round in 0..3 {
        for [left, right, result] in PRODUCTS {
            let types = [dtype(&mut rng), dtype(&mut rng), dtype(&mut rng)];
            let zeros = types.map(|dtype| zero(&mut rng, dtype));
            // Powers of two have ties.
            let scale = if round == 0 { 0.125 } else { 0.01 + 0.1 * rng.f32() };
            let inner = *shape(left).last().expect("an axis") as f32;
            let [a, b, y] = types;
            let graph = parsed(&format!(
                "graph @g {{ input %0 \"a\" : {a}[{left}]\ninput %1 \"b\" : {b}[{right}]\n\
                 %2 = const \"\" [{scale}] : f32[]\n%3 = const \"\" [{}] : {a}[]\n%4 = const \"\" [{}] : {b}[]\n\
                 %5 = const \"\" [{}] : f32[]\n%6 = const \"\" [{}] : {y}[]\n\
                 %9 = qlinear_matmul %0, %2, %3, %1, %2, %4, %5, %6 {{contract=f32_rne}} : {y}[{result}]\n\
                 output \"y\" = %9 }}",
                zeros[0],
                zeros[1],
                scale * scale * (inner.sqrt() * 64.0).log2().round().exp2(),
                zeros[2],
            ));
            let inputs = [bytes(&mut rng, a, left), bytes(&mut rng, b, right)];
            let expected = eval_graph(&graph, &inputs).expect("evaluates");
            assert_eq!(run(&graph, &inputs), expected[0], "{graph}");
        }
    }
}

/// A tensor times its own transpose, and the maxima of what comes out.
#[test]
fn a_tensor_by_itself() {
    let mut rng = Rng::with_seed(42);
    for axes in ["1", "2", "1, 2", "0, 1"] {
        let graph = parsed(&format!(
            "graph @g {{ input %0 \"x\" : i8[2,70,20]\n%1 = const \"\" [0.5] : f32[]\n%2 = const \"\" [-7] : i8[]\n\
             %3 = const \"\" [512] : f32[]\n%4 = transpose %0 {{perm=[0, 2, 1]}} : i8[2,20,70]\n\
             %5 = qlinear_matmul %0, %1, %2, %4, %1, %2, %3, %2 {{contract=f32_rne}} : i8[2,70,70]\n\
             %9 = reduce %5 {{function=max, axes=[{axes}], keep_dims=false}} : i8[{}]\noutput \"y\" = %9 }}",
            match axes {
                "1, 2" => "2",
                "0, 1" => "70",
                _ => "2,70",
            }
        ));
        let inputs = [bytes(&mut rng, DType::I8, "2,70,20")];
        assert_eq!(run(&graph, &inputs), eval_graph(&graph, &inputs).expect("evaluates")[0], "{graph}");
    }
}

/// Softmax is that of real numbers but for what is within rounding of a tie.
#[test]
fn softmax_is_near_the_true_one() {
    const ROUNDING: f64 = 4e-4;
    let mut rng = Rng::with_seed(43);
    for &(extents, axis, flatten) in SOFTMAXES {
        let (x, y) = (dtype(&mut rng), dtype(&mut rng));
        let (scale, to) = ([0.01, 0.1, 1.0][rng.usize(..3)], if rng.bool() { 1.0 / 256.0 } else { 0.001 });
        let zeros = [x, y].map(|dtype| zero(&mut rng, dtype));
        let graph = parsed(&format!(
            "graph @g {{ input %0 \"x\" : {x}[{extents}]\n%1 = const \"\" [{scale}] : f32[]\n\
             %2 = const \"\" [{}] : {x}[]\n%3 = const \"\" [{to}] : f32[]\n%4 = const \"\" [{}] : {y}[]\n\
             %5 = dequantize %0, %1, %2 {{axis=0, block=0}} : f32[{extents}]\n\
             %6 = softmax %5 {{axis={axis}, flatten={flatten}}} : f32[{extents}]\n\
             %9 = quantize %6, %3, %4 {{axis=0, block=0, to={y}}} : {y}[{extents}]\noutput \"y\" = %9 }}",
            zeros[0], zeros[1]
        ));
        let mut input = bytes(&mut rng, x, extents);
        if rng.bool() {
            // Many equals: the sum is large.
            let (lo, _) = x.int_range().expect("bytes");
            let few: Vec<i128> = input.to_ints().iter().map(|v| lo + (v - lo) % 3).collect();
            input = Tensor::from_ints(x, &shape(extents), &few);
        }
        let found = run(&graph, &[input.clone()]).to_i64();
        let real: Vec<f64> = input.to_f64().iter().map(|v| (v * f64::from(scale as f32)).exp()).collect();
        let dims = shape(extents);
        let end = if flatten { dims.len() } else { axis + 1 };
        let (classes, inner) = (dims[axis..end].iter().product::<usize>(), dims[end..].iter().product::<usize>());
        let (lo, hi) = y.int_range().expect("bytes");
        for (at, &found) in found.iter().enumerate() {
            let first = at / (classes * inner) * classes * inner + at % inner;
            let sum: f64 = (0..classes).map(|class| real[first + class * inner]).sum();
            let exact = (real[at] / sum / f64::from(to as f32) + zeros[1] as f64).clamp(lo as f64, hi as f64);
            assert!((found as f64 - exact).abs() <= 0.5 + ROUNDING, "element {at}: {found} for {exact}\n{graph}");
        }
    }
}

/// Floats that end a network of bytes are the interpreter's to the last bit.
#[test]
fn floats_at_the_end_equal_the_interpreter() {
    let ends = [
        "%9 = sigmoid %4",
        "%5 = const \"\" [0.5, -2, 3, 0.1, 0.7] : f32[5,1,1]\n%9 = prelu %4, %5",
        "%5 = const \"\" [0.5, -2, 3, 0.1, 0.7] : f32[5]\n%6 = const \"\" [0.5, 2, 3, 0.1, 0.7] : f32[5]\n\
         %7 = batch_norm %4, %5, %5, %5, %6 {epsilon=0.001} : f32[2,5,40,30]\n\
         %8 = const \"\" [0.25] : f32[]\n%9 = prelu %7, %8",
    ];
    let mut rng = Rng::with_seed(44);
    for end in ends {
        for x in [DType::I8, DType::U8] {
            let graph = parsed(&format!(
                "graph @g {{ input %0 \"x\" : {x}[2,5,40,30]\n%1 = max_pool %0 {{kernel=[3, 3], strides=[1, 1], \
                 pads=[1, 1, 1, 1], dilations=[1, 1]}} : {x}[2,5,40,30]\n%2 = const \"\" [0.0371] : f32[]\n\
                 %3 = const \"\" [{}] : {x}[]\n%4 = dequantize %1, %2, %3 {{axis=0, block=0}} : f32[2,5,40,30]\n\
                 {end} : f32[2,5,40,30]\noutput \"y\" = %9 }}",
                zero(&mut rng, x)
            ));
            let inputs = [bytes(&mut rng, x, "2,5,40,30")];
            assert_eq!(run(&graph, &inputs), eval_graph(&graph, &inputs).expect("evaluates")[0], "{graph}");
        }
    }
}

/// Channels that move into space and back, cut where blocks begin.
#[test]
fn blocks_in_parts_equal_the_interpreter() {
    let mut rng = Rng::with_seed(45);
    for crd in [false, true] {
        let graph = parsed(&format!(
            "graph @g {{ input %0 \"x\" : i8[1,12,32,30]\n%1 = max_pool %0 {{kernel=[3, 3], strides=[1, 1], \
             pads=[1, 1, 1, 1], dilations=[1, 1]}} : i8[1,12,32,30]\n\
             %2 = depth_to_space %1 {{block=2, crd={crd}}} : i8[1,3,64,60]\n%3 = relu %2 : i8[1,3,64,60]\n\
             %9 = space_to_depth %3 {{block=4, crd={crd}}} : i8[1,48,16,15]\noutput \"y\" = %9 }}"
        ));
        let inputs = [bytes(&mut rng, DType::I8, "1,12,32,30")];
        assert_eq!(run(&graph, &inputs), eval_graph(&graph, &inputs).expect("evaluates")[0], "{graph}");
        let whole = Program::compile(&graph, None).expect("compiles").streams.peak_bytes;
        let parts = Program::compile_within(&graph, None, whole / 2 / 64 * 64).expect("is done in parts");
        assert_eq!(parts.run(&inputs).expect("runs"), eval_graph(&graph, &inputs).expect("evaluates"), "{graph}");
    }
}
