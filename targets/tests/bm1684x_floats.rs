//! Float operators on the BM1684X in fp16 and bf16: compiled, run on the simulator, near the interpreter's results.

use adze_ir::eval::eval_graph;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::DType;
use adze_targets::bm1684x::Program;
use adze_targets::bm1684x::isa::Prec;
use fastrand::Rng;
use half::bf16;

/// Type of `x`, operators on it, type of the result `%9`.
const OPERATORS: &[(&str, &str, &str)] = &[
    // What stands for whole classes of commands first.
    ("2,70,5,6", "%9 = relu %0", "2,70,5,6"),
    ("2,70,5,6", "%9 = clip %0 {min=-0.5, max=0.75}", "2,70,5,6"),
    ("2,70,5,6", "%9 = leaky_relu %0 {alpha=0.1}", "2,70,5,6"),
    ("2,70,5,6", "%9 = sigmoid %0", "2,70,5,6"),
    ("1,70,40,40", "%9 = sigmoid %0", "1,70,40,40"),
    ("2,3,5,6", "%9 = tanh %0", "2,3,5,6"),
    ("2,3,5,6", "%9 = exp %0", "2,3,5,6"),
    ("2,3,5,6", "%9 = erf %0", "2,3,5,6"),
    ("2,3,5,6", "%9 = hard_swish %0", "2,3,5,6"),
    ("2,3,5,6", "%9 = hard_sigmoid %0 {alpha=0.2, beta=0.5}", "2,3,5,6"),
    ("2,3,5,6", "%9 = swish %0 {alpha=1.0}", "2,3,5,6"),
    ("2,3,5,6", "%9 = gelu %0 {tanh=false}", "2,3,5,6"),
    ("2,3,5,6", "%9 = gelu %0 {tanh=true}", "2,3,5,6"),
    ("2,3,5,6", "%1 = abs %0 : f32[2,3,5,6]\n%9 = sqrt %1", "2,3,5,6"),
    ("2,3,5,6", "%1 = exp %0 : f32[2,3,5,6]\n%9 = reciprocal %1", "2,3,5,6"),
    ("2,3,5,6", "%9 = neg %0", "2,3,5,6"),
    ("2,3,5,6", "%9 = floor %0", "2,3,5,6"),
    ("2,3,5,6", "%9 = ceil %0", "2,3,5,6"),
    // Broadcasts.
    (
        "2,70,5,6",
        "%1 = reduce %0 {function=mean, axes=[2, 3], keep_dims=true} : f32[2,70,1,1]\n%9 = mul %0, %1",
        "2,70,5,6",
    ),
    (
        "2,70,5,6",
        "%1 = reduce %0 {function=max, axes=[3], keep_dims=true} : f32[2,70,5,1]\n%9 = sub %0, %1",
        "2,70,5,6",
    ),
    (
        "2,70,5,6",
        "%1 = slice %0 {axes=[1], starts=[3], sizes=[1], steps=[1]} : f32[2,1,5,6]\n%9 = add %1, %0",
        "2,70,5,6",
    ),
    (
        "2,70,5,6",
        "%1 = slice %0 {axes=[0], starts=[1], sizes=[1], steps=[1]} : f32[1,70,5,6]\n%9 = max %1, %0",
        "2,70,5,6",
    ),
    ("2,3,5,6", "%1 = exp %0 : f32[2,3,5,6]\n%9 = div %0, %1", "2,3,5,6"),
    ("2,3,5,6", "%1 = const \"\" [0.5, -2, 3] : f32[3,1,1]\n%9 = mul %0, %1", "2,3,5,6"),
    ("2,3,5,6", "%1 = const \"\" [0.5, -2, 3, 4, 5, -6] : f32[6]\n%9 = div %0, %1", "2,3,5,6"),
    ("2,7", "%1 = const \"\" [0.5, -2, 3, 4, 5, -6, 7] : f32[7]\n%9 = add %0, %1", "2,7"),
    ("1,4,7", "%1 = const \"\" [0.5, -2, 3, 4, 5, -6, 7] : f32[7]\n%9 = add %0, %1", "1,4,7"),
    ("2,3,5,6", "%1 = const \"\" [2] : f32[1]\n%9 = pow %0, %1", "2,3,5,6"),
    ("2,3,5,6", "%1 = const \"\" [0.25, 0.5, -1] : f32[3,1,1]\n%9 = prelu %0, %1", "2,3,5,6"),
    // A mask of numbers that half floats do not have.
    (
        "2,3,5,6",
        "%1 = clip %0 {min=0.0, max=0.0} : f32[2,3,5,6]\n%2 = const \"\" [-1000000000.0] : f32[]\n\
         %3 = mul %1, %2 : f32[2,3,5,6]\n%9 = add %0, %3",
        "2,3,5,6",
    ),
    // Windows and reductions.
    ("1,70,9,8", "%9 = max_pool %0 {kernel=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], dilations=[1, 1]}", "1,70,5,8"),
    (
        "1,70,9,8",
        "%9 = average_pool %0 {kernel=[3, 2], strides=[2, 2], pads=[0, 0, 0, 0], dilations=[1, 1], ceil_pads=[0, 0]}",
        "1,70,4,4",
    ),
    (
        "1,3,25,5",
        "%9 = average_pool %0 {kernel=[24, 5], strides=[24, 5], pads=[0, 0, 0, 0], dilations=[1, 1], ceil_pads=[0, 0]}",
        "1,3,1,1",
    ),
    ("2,70", "%9 = reduce %0 {function=sum, axes=[1], keep_dims=false}", "2"),
    ("2,5,70", "%9 = reduce %0 {function=mean, axes=[2], keep_dims=true}", "2,5,1"),
    ("2,70", "%9 = softmax %0 {axis=1}", "2,70"),
    ("2,5,70", "%9 = softmax %0 {axis=2}", "2,5,70"),
    ("2,5,3,7", "%9 = softmax %0 {axis=3}", "2,5,3,7"),
    ("2,5,3,7", "%9 = softmax %0 {axis=1}", "2,5,3,7"),
    ("2,5,3,7", "%9 = softmax %0 {axis=2}", "2,5,3,7"),
    ("2,70,3", "%9 = softmax %0 {axis=0}", "2,70,3"),
    ("2,5,3,7", "%9 = softmax %0 {axis=2, flatten=true}", "2,5,3,7"),
    ("2,70,5,6", "%9 = reduce %0 {function=mean, axes=[1], keep_dims=true}", "2,1,5,6"),
    ("2,70,5,6", "%9 = reduce %0 {function=max, axes=[1], keep_dims=false}", "2,5,6"),
    ("2,7,5,6", "%9 = reduce %0 {function=sum, axes=[0, 1, 3], keep_dims=false}", "5"),
    ("2,7,5,6", "%9 = reduce %0 {function=mean, axes=[0, 1, 2, 3], keep_dims=false}", ""),
    ("2,70,3", "%1 = const \"\" [0.5, -2, 3] : f32[3]\n%9 = layer_norm %0, %1 {axis=2, epsilon=0.001}", "2,70,3"),
    (
        "2,7,5,3",
        "%1 = const \"\" [0.5, -2, 3] : f32[3]\n%2 = const \"\" [1, 0, -1] : f32[3]\n\
         %9 = layer_norm %0, %1, %2 {axis=3, epsilon=0.00001}",
        "2,7,5,3",
    ),
    ("9,3", "%1 = const \"\" [0.5, -2, 3] : f32[3]\n%9 = layer_norm %0, %1 {axis=1, epsilon=0.00001}", "9,3"),
    (
        "2,70,5,6",
        "%1 = arg_reduce %0 {function=max, axis=1, keep_dims=false} : i64[2,5,6]\n%9 = cast %1 {to=f32}",
        "2,5,6",
    ),
    (
        "2,70,5,6",
        "%1 = arg_reduce %0 {function=min, axis=3, keep_dims=true} : i64[2,70,5,1]\n%9 = cast %1 {to=f32}",
        "2,70,5,1",
    ),
    ("9,70", "%1 = arg_reduce %0 {function=max, axis=1, keep_dims=false} : i64[9]\n%9 = cast %1 {to=f32}", "9"),
    ("2,7,5,6", "%9 = reduce %0 {function=min, axes=[1, 3], keep_dims=true}", "2,1,5,1"),
    ("2,7,5,6", "%9 = reduce %0 {function=sum_square, axes=[2], keep_dims=false}", "2,7,6"),
    // Logarithms, of numbers that halves have no room for as well.
    (
        "2,70,5",
        "%1 = mul %0, %0 : f32[2,70,5]\n%2 = const \"\" [0.01] : f32[]\n%3 = add %1, %2 : f32[2,70,5]\n%9 = log %3",
        "2,70,5",
    ),
    (
        "2,70,5",
        "%1 = const \"\" [0.0001] : f32[]\n%2 = mul %0, %1 : f32[2,70,5]\n\
         %3 = reduce %2 {function=sum_square, axes=[2], keep_dims=false} : f32[2,70]\n\
         %4 = transpose %3 {perm=[1, 0]} : f32[70,2]\n%5 = const \"\" [0.0000000001] : f32[]\n\
         %6 = add %4, %5 : f32[70,2]\n%9 = log %6",
        "70,2",
    ),
    // Choices, also of what is no number.
    (
        "2,70,5",
        "%1 = const \"\" [0.5, -1, 0, 2, 9] : f32[5]\n%2 = greater %0, %1 : bool[2,70,5]\n\
         %3 = less_or_equal %0, %1 : bool[2,70,5]\n%4 = or %2, %3 : bool[2,70,5]\n%5 = and %2, %4 : bool[2,70,5]\n\
         %6 = neg %0 : f32[2,70,5]\n%9 = where %5, %0, %6",
        "2,70,5",
    ),
    (
        "2,70,5",
        "%1 = relu %0 : f32[2,70,5]\n%2 = div %1, %1 : f32[2,70,5]\n%3 = const \"\" [0] : f32[]\n\
         %4 = equal %1, %3 : bool[2,70,5]\n%9 = where %4, %3, %2",
        "2,70,5",
    ),
    // Borders.
    ("2,70,5,6", "%9 = pad %0 {mode=reflect, before=[0, 0, 2, 3], after=[0, 0, 3, 5]}", "2,70,10,14"),
    ("1,1,40", "%9 = pad %0 {mode=reflect, before=[0, 0, 39], after=[0, 0, 8]}", "1,1,87"),
    ("1,40,1", "%9 = pad %0 {mode=reflect, before=[0, 8, 0], after=[0, 39, 0]}", "1,87,1"),
    ("1,9000,1", "%9 = pad %0 {mode=constant, before=[0, 127, 0], after=[0, 3, 0]}", "1,9130,1"),
    ("2,70,5,6", "%9 = pad %0 {mode=edge, before=[0, 0, 0, 2], after=[0, 0, 1, 0]}", "2,70,6,8"),
    // Pools along one and three axes.
    ("2,70,9", "%9 = max_pool %0 {kernel=[3], strides=[2], pads=[1, 0], dilations=[1]}", "2,70,4"),
    (
        "2,12,5,6",
        "%1 = reshape %0 {shape=[2, 3, 4, 5, 6]} : f32[2,3,4,5,6]\n\
         %2 = max_pool %1 {kernel=[2, 3, 3], strides=[1, 2, 1], pads=[1, 0, 0, 0, 0, 1], dilations=[1, 1, 1]} : \
         f32[2,3,4,2,5]\n%9 = reshape %2 {shape=[2, 12, 2, 5]}",
        "2,12,2,5",
    ),
    (
        "1,128,5,6",
        "%1 = reshape %0 {shape=[1, 1, 128, 5, 6]} : f32[1,1,128,5,6]\n\
         %2 = max_pool %1 {kernel=[1, 3, 3], strides=[2, 1, 2], pads=[0, 0, 0, 0, 0, 0], dilations=[1, 1, 1]} : \
         f32[1,1,64,3,2]\n%9 = reshape %2 {shape=[1, 64, 3, 2]}",
        "1,64,3,2",
    ),
    // Resampling.
    (
        "2,70,5,6",
        "%9 = resize %0 {mode=nearest, coords=asymmetric, nearest=floor, cubic_a=-0.75, sizes=[2, 70, 10, 18], scales=[1.0, 1.0, 2.0, 3.0]}",
        "2,70,10,18",
    ),
    (
        "1,3,9,10",
        "%9 = resize %0 {mode=nearest, coords=half_pixel, nearest=round_prefer_ceil, cubic_a=-0.75, sizes=[1, 3, 4, 17], \
         scales=[1.0, 1.0, 0.5, 1.7]}",
        "1,3,4,17",
    ),
    (
        "2,70,5,6",
        "%9 = resize %0 {mode=linear, coords=half_pixel, nearest=floor, cubic_a=-0.75, sizes=[2, 70, 10, 9], scales=[1.0, 1.0, 2.0, 1.5]}",
        "2,70,10,9",
    ),
    (
        "1,3,5,6",
        "%9 = resize %0 {mode=linear, coords=align_corners, nearest=floor, cubic_a=-0.75, sizes=[1, 3, 9, 6], scales=[1.0, 1.0, 1.8, 1.0]}",
        "1,3,9,6",
    ),
    (
        "1,3,6",
        "%9 = resize %0 {mode=cubic, coords=half_pixel, nearest=floor, cubic_a=-0.75, sizes=[1, 3, 12], scales=[1.0, 1.0, 2.0]}",
        "1,3,12",
    ),
    // Moves.
    ("2,70,5,6", "%9 = transpose %0 {perm=[0, 2, 3, 1]}", "2,5,6,70"),
    ("2,70,5,6", "%9 = transpose %0 {perm=[3, 1, 0, 2]}", "6,70,2,5"),
    ("2,70,5,6", "%1 = relu %0 : f32[2,70,5,6]\n%9 = transpose %1 {perm=[2, 0, 1, 3]}", "5,2,70,6"),
    ("2,70,6", "%9 = transpose %0 {perm=[2, 0, 1]}", "6,2,70"),
    ("70,6", "%9 = transpose %0 {perm=[1, 0]}", "6,70"),
    ("2,70,5,6", "%9 = reshape %0 {shape=[7, 20, 30]}", "7,20,30"),
    ("2,70,5,6", "%9 = slice %0 {axes=[1, 2, 3], starts=[3, 1, 0], sizes=[40, 2, 3], steps=[1, 2, 2]}", "2,40,2,3"),
    ("2,70,5,6", "%9 = slice %0 {axes=[1, 3], starts=[64, 1], sizes=[6, 2], steps=[1, 3]}", "2,6,5,2"),
    ("2,70,5,6", "%1 = relu %0 : f32[2,70,5,6]\n%9 = concat %0, %1 {axis=1}", "2,140,5,6"),
    ("2,70,5,6", "%1 = relu %0 : f32[2,70,5,6]\n%9 = concat %0, %1 {axis=3}", "2,70,5,12"),
    ("2,70,5,6", "%1 = relu %0 : f32[2,70,5,6]\n%9 = concat %0, %1 {axis=0}", "4,70,5,6"),
    ("1,5,6", "%1 = relu %0 : f32[1,5,6]\n%9 = concat %0, %1 {axis=2}", "1,5,12"),
    ("2,7,5,6", "%9 = pad %0 {mode=constant, before=[0, 3, 1, 2], after=[0, 70, 0, 1]}", "2,80,6,9"),
    ("2,5,70", "%1 = const \"\" [3, -1, 0] : i64[3]\n%9 = gather %0, %1 {axis=1}", "2,3,70"),
    ("70,6", "%1 = const \"\" [69] : i64[]\n%9 = gather %0, %1 {axis=0}", "6"),
    ("2,1,5,1", "%9 = expand %0 {shape=[2, 70, 5, 6]}", "2,70,5,6"),
    // More than four axes.
    (
        "1,9,5,6",
        "%1 = reshape %0 {shape=[1, 1, 3, 3, 5, 6]} : f32[1,1,3,3,5,6]\n\
         %2 = transpose %1 {perm=[0, 1, 4, 2, 5, 3]} : f32[1,1,5,3,6,3]\n%9 = reshape %2 {shape=[1, 1, 15, 18]}",
        "1,1,15,18",
    ),
    (
        "2,12,5,6",
        "%1 = relu %0 : f32[2,12,5,6]\n%2 = reshape %1 {shape=[2, 3, 2, 2, 5, 6]} : f32[2,3,2,2,5,6]\n\
         %3 = transpose %2 {perm=[0, 1, 4, 2, 5, 3]} : f32[2,3,5,2,6,2]\n%9 = reshape %3 {shape=[2, 3, 10, 12]}",
        "2,3,10,12",
    ),
    (
        "1,12,5,6",
        "%1 = reshape %0 {shape=[1, 6, 2, 5, 6]} : f32[1,6,2,5,6]\n%2 = transpose %1 {perm=[2, 0, 1, 3, 4]} : \
         f32[2,1,6,5,6]\n%3 = const \"\" [-1] : i64[]\n%9 = gather %2, %3 {axis=0}",
        "1,6,5,6",
    ),
    ("2,12,5,6", "%9 = depth_to_space %0 {block=2, crd=false}", "2,3,10,12"),
    ("2,12,5,6", "%9 = depth_to_space %0 {block=2, crd=true}", "2,3,10,12"),
    ("1,3,10,12", "%9 = space_to_depth %0 {block=2, crd=false}", "1,12,5,6"),
];

/// Convolutions: shapes of `x`, weights and result, attributes.
const CONVOLUTIONS: &[(&str, &str, &str, &str)] = &[
    ("2,40,9,8", "70,40,3,3", "2,70,5,8", "strides=[2, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1"),
    ("1,3,16,16", "8,3,5,3", "1,8,8,6", "strides=[1, 2], pads=[0, 0, 0, 0], dilations=[2, 2], group=1"),
    ("1,70,9,8", "70,1,3,3", "1,70,9,8", "strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=70"),
    ("1,6,9,8", "12,1,3,3", "1,12,7,6", "strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=6"),
    ("1,8,9,8", "12,4,1,1", "1,12,9,8", "strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=2"),
    ("1,8,20", "12,8,5", "1,12,10", "strides=[2], pads=[2, 2], dilations=[1], group=1"),
    ("1,3,9,8", "8,3,3,3", "1,8,41,8", "strides=[1, 1], pads=[17, 1, 17, 1], dilations=[1, 1], group=1"),
    ("1,3,40,41", "8,3,3,3", "1,8,40,41", "strides=[1, 1], pads=[16, 17, 16, 17], dilations=[16, 17], group=1"),
    ("1,6,40,8", "6,1,3,3", "1,6,40,8", "strides=[1, 1], pads=[18, 1, 18, 1], dilations=[18, 1], group=6"),
    ("1,1,1,300", "12,1,1,40", "1,12,1,9", "strides=[1, 32], pads=[0, 7, 0, 9], dilations=[1, 1], group=1"),
    ("2,4,40,6", "6,2,18,3", "2,6,2,4", "strides=[16, 1], pads=[3, 0, 0, 0], dilations=[1, 1], group=2"),
    ("1,1,1,3000", "2,1,1,40", "1,2,1,186", "strides=[1, 16], pads=[0, 5, 0, 0], dilations=[1, 1], group=1"),
    ("1,3,5,70", "8,3,2,1", "1,8,4,4", "strides=[1, 20], pads=[0, 0, 0, 0], dilations=[1, 1], group=1"),
];

/// Transposed convolutions: shapes of `x`, weights and result, attributes.
const TRANSPOSED: &[(&str, &str, &str, &str)] = &[
    (
        "1,40,5,6",
        "40,7,2,2",
        "1,7,10,12",
        "strides=[2, 2], pads=[0, 0, 0, 0], output_padding=[0, 0], dilations=[1, 1], group=1",
    ),
    (
        "2,3,5,6",
        "3,7,3,4",
        "2,7,10,11",
        "strides=[2, 2], pads=[1, 1, 1, 2], output_padding=[1, 0], dilations=[1, 1], group=1",
    ),
    (
        "1,6,5,6",
        "6,2,3,3",
        "1,4,9,17",
        "strides=[1, 3], pads=[0, 1, 0, 1], output_padding=[0, 1], dilations=[2, 1], group=2",
    ),
    ("1,8,9", "8,5,4", "1,5,18", "strides=[2], pads=[1, 1], output_padding=[0], dilations=[1], group=1"),
];

/// Matrix products: shapes of both operands and the result, and whether the second is a constant.
const PRODUCTS: &[(&str, &str, &str, bool)] = &[
    ("3,70", "70,10", "3,10", true),
    ("1,9,70", "70,10", "1,9,10", true),
    ("2,9,70", "70,10", "2,9,10", true),
    ("1,9,70", "1,70,10", "1,9,10", false),
    ("2,3,9,16", "2,3,16,7", "2,3,9,7", false),
];

fn shape(text: &str) -> Vec<usize> {
    text.split(',').map(|d| d.parse().expect("an extent")).collect()
}

/// Values that both types have, so that functions with jumps see the same ones.
fn values(rng: &mut Rng, shape: &[usize], size: f32) -> Vec<f32> {
    (0..shape.iter().product()).map(|_| bf16::from_f32((rng.f32() * 2.0 - 1.0) * size).to_f32()).collect()
}

fn listed(values: &[f32]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks a graph on random inputs of these shapes.
fn check(rng: &mut Rng, text: &str, inputs: &[&str]) {
    let tensors: Vec<Tensor> =
        inputs.iter().map(|x| Tensor::from_f32(&shape(x), &values(rng, &shape(x), 3.0))).collect();
    near(text, &tensors);
}

/// Compiles and runs a graph of one result; the largest error is in units of the largest result.
fn near(text: &str, tensors: &[Tensor]) {
    let graph = parse_graph(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let expected = eval_graph(&graph, tensors).unwrap_or_else(|error| panic!("{error}\n{text}"))[0].to_f64();
    let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
    for (prec, tolerance) in [(Prec::Fp16, 4e-3), (Prec::Bf16, 3e-2)] {
        let program = Program::compile(&graph, Some(prec)).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let found = program.run(tensors).unwrap_or_else(|error| panic!("{error}\n{text}"))[0].to_f64();
        assert_eq!(found.len(), expected.len());
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * largest;
        let wrong = found.iter().zip(&expected).position(|pair| !near(pair));
        if let Some(at) = wrong {
            panic!("{prec:?}, element {at}: found {}, expected {}\n{text}", found[at], expected[at]);
        }
    }
}

#[test]
fn operators_are_near_the_interpreter() {
    let mut rng = Rng::with_seed(16);
    for (x, operators, result) in OPERATORS {
        let text = format!("graph @g {{ input %0 \"x\" : f32[{x}]\n{operators} : f32[{result}]\noutput \"y\" = %9 }}");
        check(&mut rng, &text, &[x]);
    }
}

/// Indices of 64 bits, negative ones too, and the same as factors.
#[test]
fn embeddings_are_near_the_interpreter() {
    let mut rng = Rng::with_seed(18);
    let table = listed(&values(&mut rng, &[40, 6], 3.0));
    let text = format!(
        "graph @g {{ input %0 \"ids\" : i64[2,9]\n%1 = const \"\" [{table}] : f32[40,6]\n\
         %2 = gather %1, %0 {{axis=0}} : f32[2,9,6]\n%3 = cast %0 {{to=f32}} : f32[2,9]\n\
         %4 = reshape %3 {{shape=[2, 9, 1]}} : f32[2,9,1]\n%9 = mul %2, %4 : f32[2,9,6]\noutput \"y\" = %9 }}"
    );
    let indices: Vec<i128> = (0..18).map(|_| rng.i128(-40..40)).collect();
    near(&text, &[Tensor::from_ints(DType::I64, &[2, 9], &indices)]);
}

#[test]
fn products_are_near_the_interpreter() {
    let mut rng = Rng::with_seed(17);
    for (x, w, result, attributes) in CONVOLUTIONS {
        let (weights, bias) = (values(&mut rng, &shape(w), 0.5), values(&mut rng, &shape(w)[..1], 0.5));
        let (rows, channels) = (listed(&weights), shape(w)[0]);
        let text = format!(
            "graph @g {{ input %0 \"x\" : f32[{x}]\n%1 = const \"\" [{rows}] : f32[{w}]\n%2 = const \"\" [{}] : \
             f32[{channels}]\n%9 = conv %0, %1, %2 {{{attributes}}} : f32[{result}]\noutput \"y\" = %9 }}",
            listed(&bias)
        );
        check(&mut rng, &text, &[x]);
    }
    for (x, w, result, attributes) in TRANSPOSED {
        let weights = listed(&values(&mut rng, &shape(w), 0.5));
        let text = format!(
            "graph @g {{ input %0 \"x\" : f32[{x}]\n%1 = const \"\" [{weights}] : f32[{w}]\n\
             %9 = conv_transpose %0, %1 {{{attributes}}} : f32[{result}]\noutput \"y\" = %9 }}"
        );
        check(&mut rng, &text, &[x]);
    }
    for (a, b, result, constant) in PRODUCTS {
        let second = match constant {
            true => format!("%1 = const \"\" [{}] : f32[{b}]", listed(&values(&mut rng, &shape(b), 0.5))),
            false => format!("input %1 \"w\" : f32[{b}]"),
        };
        let text = format!(
            "graph @g {{ input %0 \"x\" : f32[{a}]\n{second}\n%9 = matmul %0, %1 : f32[{result}]\noutput \"y\" = %9 }}"
        );
        let inputs = if *constant { vec![*a] } else { vec![*a, *b] };
        check(&mut rng, &text, &inputs);
    }
}

/// Networks for little memory: type of `x`, operators with `values(..)` for random constants, type of the result `%9`.
const NETWORKS: &[(&str, &str, &str)] = &[
    (
        "2,24,10,8",
        "%1 = values(70,24,3,3)\n%2 = values(70)\n%3 = values(70,1,3,3)\n%4 = values(70,70,1,1)\n\
         %10 = conv %0, %1, %2 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1} : f32[2,70,10,8]\n\
         %11 = clip %10 {min=0.0, max=6.0} : f32[2,70,10,8]\n\
         %12 = conv %11, %3, %2 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=70} : f32[2,70,10,8]\n\
         %13 = conv %12, %4 {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1} : f32[2,70,10,8]\n\
         %14 = add %13, %11 : f32[2,70,10,8]\n%15 = relu %14 : f32[2,70,10,8]\n\
         %16 = max_pool %15 {kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], dilations=[1, 1]} : f32[2,70,5,4]\n\
         %9 = reduce %16 {function=mean, axes=[2, 3], keep_dims=true}",
        "2,70,1,1",
    ),
    (
        "1,150,5,4",
        "%1 = values(100,150,3,3)\n%2 = values(100)\n\
         %10 = conv %0, %1, %2 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1} : f32[1,100,5,4]\n\
         %11 = concat %10, %0 {axis=1} : f32[1,250,5,4]\n\
         %12 = sigmoid %11 : f32[1,250,5,4]\n\
         %13 = const \"\" [0] : f32[]\n\
         %14 = pad %12, %13 {mode=constant, before=[0, 0, 2, 1], after=[0, 0, 1, 0]} : f32[1,250,8,5]\n\
         %15 = slice %14 {axes=[2], starts=[1], sizes=[3], steps=[2]} : f32[1,250,3,5]\n\
         %9 = softmax %15 {axis=3}",
        "1,250,3,5",
    ),
    (
        "1,4,32,16",
        "%10 = transpose %0 {perm=[0, 1, 3, 2]} : f32[1,4,16,32]\n%11 = matmul %0, %10 : f32[1,4,32,32]\n\
         %12 = softmax %11 {axis=3} : f32[1,4,32,32]\n%9 = matmul %12, %0",
        "1,4,32,16",
    ),
    ("1,1280,96", "%1 = relu %0 : f32[1,1280,96]\n%9 = softmax %1 {axis=2}", "1,1280,96"),
    (
        "2,8,12,10",
        "%1 = values(8,6,3,3)\n%2 = values(6)\n%3 = values(6,1,1)\n%4 = values(6,70,4,1)\n\
         %10 = conv_transpose %0, %1, %2 {strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], dilations=[1, 1], \
         group=1} : f32[2,6,24,20]\n%11 = mul %10, %3 : f32[2,6,24,20]\n%12 = prelu %11, %3 : f32[2,6,24,20]\n\
         %13 = conv_transpose %12, %4 {strides=[3, 1], pads=[1, 0, 2, 0], output_padding=[1, 0], dilations=[1, 1], group=1} : f32[2,70,71,20]\n\
         %9 = max_pool %13 {kernel=[4, 4], strides=[4, 4], pads=[0, 0, 1, 0], dilations=[1, 1]}",
        "2,70,18,5",
    ),
];

/// In local memory that is too small networks are done in parts and layers in blocks, with the same results.
#[test]
fn parts_are_the_same() {
    let mut rng = Rng::with_seed(19);
    for (x, operators, result) in NETWORKS {
        let mut text =
            format!("graph @g {{ input %0 \"x\" : f32[{x}]\n{operators} : f32[{result}]\noutput \"y\" = %9 }}");
        while let Some((front, (extents, rest))) =
            text.split_once("values(").and_then(|(front, rest)| Some((front, rest.split_once(')')?)))
        {
            let listed = listed(&values(&mut rng, &shape(extents), 0.2));
            text = format!("{front}const \"\" [{listed}] : f32[{extents}]{rest}");
        }
        let graph = parse_graph(&text).unwrap_or_else(|error| panic!("{error}"));
        let inputs = [Tensor::from_f32(&shape(x), &values(&mut rng, &shape(x), 1.0))];
        let whole = Program::compile(&graph, Some(Prec::Fp16)).expect("compiles");
        let expected = whole.run(&inputs).expect("runs");
        let mut cut = 0;
        for share in [2, 3, 5] {
            let limit = whole.streams.peak_bytes / share / 64 * 64;
            let program = match Program::compile_within(&graph, Some(Prec::Fp16), limit) {
                Ok(program) => program,
                Err(error) => {
                    assert!(error.to_string().contains(&format!("{limit} bytes of local memory per lane")), "{error}");
                    continue;
                }
            };
            assert!(program.streams.peak_bytes <= limit, "{} of {limit} bytes", program.streams.peak_bytes);
            assert_eq!(program.run(&inputs).as_ref(), Ok(&expected), "{limit} bytes of {operators}");
            if cut == 0 {
                let again = Program::compile_within(&graph, Some(Prec::Fp16), limit).expect("compiles");
                assert_eq!(again.to_bmodel(), program.to_bmodel(), "the same bytes again");
            }
            cut += 1;
        }
        println!("{cut} of 3 sizes of memory, {} bytes per lane for the whole", whole.streams.peak_bytes);
        assert!(cut >= 2, "{cut} sizes of memory sufficed for {operators}");
    }
}
