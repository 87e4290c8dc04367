use adze_ir::eval::eval_graph;
use adze_ir::sample::draw;
use adze_ir::tensor::Tensor;
use adze_ir::text::parse_graph;
use adze_ir::types::DType;

use super::*;

/// Nodes, the shapes of their inputs, and whether these have to be positive. The last value is looked at. Numbers are `f64`, so
/// that differences of them are exact enough.
const CASES: &[(&str, &[&str], bool)] = &[
    ("%1 = identity %0 : f64[2,3]", &["2,3"], false),
    ("%1 = neg %0 : f64[2,3]", &["2,3"], false),
    ("%1 = abs %0 : f64[2,3]", &["2,3"], false),
    ("%1 = relu %0 : f64[2,3]", &["2,3"], false),
    ("%1 = sigmoid %0 : f64[2,3]", &["2,3"], false),
    ("%1 = tanh %0 : f64[2,3]", &["2,3"], false),
    ("%1 = exp %0 : f64[2,3]", &["2,3"], false),
    ("%1 = log %0 : f64[2,3]", &["2,3"], true),
    ("%1 = sqrt %0 : f64[2,3]", &["2,3"], true),
    ("%1 = reciprocal %0 : f64[2,3]", &["2,3"], false),
    ("%1 = erf %0 : f64[2,3]", &["2,3"], false),
    ("%1 = sin %0 : f64[2,3]", &["2,3"], false),
    ("%1 = cos %0 : f64[2,3]", &["2,3"], false),
    ("%1 = softplus %0 : f64[2,3]", &["2,3"], false),
    ("%1 = softsign %0 : f64[2,3]", &["2,3"], false),
    ("%1 = hard_swish %0 : f64[2,3]", &["2,3"], false),
    ("%1 = leaky_relu %0 {alpha=0.1} : f64[2,3]", &["2,3"], false),
    ("%1 = gelu %0 : f64[2,3]", &["2,3"], false),
    ("%1 = gelu %0 {tanh=true} : f64[2,3]", &["2,3"], false),
    ("%1 = swish %0 {alpha=1.5} : f64[2,3]", &["2,3"], false),
    ("%1 = hard_sigmoid %0 {alpha=0.6, beta=0.5} : f64[2,3]", &["2,3"], false),
    ("%1 = clip %0 {min=-0.7, max=0.8} : f64[2,3]", &["2,3"], false),
    ("%2 = add %0, %1 : f64[2,3]", &["2,3", "3"], false),
    ("%2 = sub %0, %1 : f64[2,3]", &["2,1", "1,3"], false),
    ("%2 = mul %0, %1 : f64[2,3]", &["2,3", ""], false),
    ("%2 = div %0, %1 : f64[4,2,3]", &["2,3", "4,1,1"], false),
    ("%2 = pow %0, %1 : f64[2,3]", &["2,3", "3"], true),
    ("%2 = min %0, %1 : f64[2,3]", &["2,3", "2,3"], false),
    ("%2 = max %0, %1 : f64[2,3]", &["2,3", "3"], false),
    ("%2 = less %0, %1 : bool[2,3]\n %3 = where %2, %0, %1 : f64[2,3]", &["2,3", "3"], false),
    ("%1 = softmax %0 {axis=1} : f64[2,3,2]", &["2,3,2"], false),
    ("%1 = softmax %0 {axis=1, flatten=true} : f64[2,3,2]", &["2,3,2"], false),
    ("%1 = log_softmax %0 {axis=2} : f64[2,3,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=sum, axes=[0, 2]} : f64[3]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=mean, axes=[1], keep_dims=true} : f64[2,1,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=max, axes=[1]} : f64[2,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=min, axes=[1]} : f64[2,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=sum_square, axes=[1]} : f64[2,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=l1, axes=[1]} : f64[2,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=l2, axes=[1]} : f64[2,2]", &["2,3,2"], false),
    ("%1 = reduce %0 {function=log_sum_exp, axes=[1]} : f64[2,2]", &["2,3,2"], false),
    ("%2 = matmul %0, %1 : f64[2,4]", &["2,3", "3,4"], false),
    ("%2 = matmul %0, %1 {trans_a=true} : f64[2,4]", &["3,2", "3,4"], false),
    ("%2 = matmul %0, %1 {trans_b=true} : f64[2,4]", &["2,3", "4,3"], false),
    ("%2 = matmul %0, %1 {trans_a=true, trans_b=true} : f64[2,4]", &["3,2", "4,3"], false),
    ("%2 = matmul %0, %1 : f64[5,2,4]", &["5,2,3", "3,4"], false),
    ("%2 = matmul %0, %1 {trans_b=true} : f64[5,2,4]", &["5,2,3", "4,3"], false),
    ("%2 = matmul %0, %1 : f64[5,2,4]", &["1,2,3", "5,3,4"], false),
    ("%2 = matmul %0, %1 {trans_a=true} : f64[5,2,4]", &["5,3,2", "3,4"], false),
    ("%3 = gemm %0, %1, %2 {alpha=0.5, beta=2.0} : f64[2,4]", &["2,3", "3,4", "4"], false),
    ("%2 = gemm %0, %1 {alpha=1.0, beta=1.0, trans_a=true, trans_b=true} : f64[2,4]", &["3,2", "4,3"], false),
    ("%1 = reshape %0 {shape=[3, 2]} : f64[3,2]", &["2,3"], false),
    ("%1 = transpose %0 {perm=[1, 2, 0]} : f64[3,4,2]", &["2,3,4"], false),
    ("%1 = slice %0 {axes=[1], starts=[1], sizes=[2], steps=[1]} : f64[2,2]", &["2,4"], false),
    ("%1 = slice %0 {axes=[1], starts=[1], sizes=[2], steps=[2]} : f64[2,2]", &["2,4"], false),
    ("%1 = slice %0 {axes=[1], starts=[0], sizes=[2], steps=[3]} : f64[2,2]", &["2,6"], false),
    ("%2 = concat %0, %1 {axis=1} : f64[2,5]", &["2,2", "2,3"], false),
    ("%1, %2 = split %0 {axis=1, sizes=[2, 3]} : f64[2,2], f64[2,3]", &["2,5"], false),
    ("%1, %2 = split %0 {axis=1, sizes=[2, 2]} : f64[2,2], f64[2,2]\n %3 = mul %1, %2 : f64[2,2]", &["2,4"], false),
    ("%1 = pad %0 {mode=constant, before=[1, 0], after=[0, 2]} : f64[3,5]", &["2,3"], false),
    ("%1 = pad %0 {mode=constant, before=[-1, 0], after=[0, 2]} : f64[1,5]", &["2,3"], false),
    ("%1 = expand %0 {shape=[4, 2, 3]} : f64[4,2,3]", &["2,1"], false),
    ("%2 = gather %0, %1 {axis=0} : f64[2,2,4]", &["3,4", "i64:2,2"], false),
    ("%2 = gather %0, %1 {axis=1} : f64[4,2,2,2]", &["4,3,2", "i64:2,2"], false),
    ("%2 = gather %0, %1 {axis=1} : f64[4,2]", &["4,3,2", "i64:"], false),
    (
        "%2 = conv %0, %1 {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1} : f64[2,4,5,4]",
        &["2,3,5,4", "4,3,3,3"],
        false,
    ),
    (
        "%3 = conv %0, %1, %2 {strides=[2, 1], pads=[0, 1, 1, 0], dilations=[1, 2], group=2} : f64[2,4,3,3]",
        &["2,6,5,4", "4,3,2,2", "4"],
        false,
    ),
    (
        "%2 = conv %0, %1 {strides=[2, 2], pads=[1, 1, 0, 0], dilations=[1, 1], group=4} : f64[1,4,3,3]",
        &["1,4,6,6", "4,1,3,3"],
        false,
    ),
    (
        "%1 = average_pool %0 {kernel=[2, 3], strides=[2, 1], pads=[0, 0, 0, 0], dilations=[1, 1], ceil_pads=[0, 0], count_include_pad=false} : f64[2,3,2,3]",
        &["2,3,5,5"],
        false,
    ),
    (
        "%1 = average_pool %0 {kernel=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1], dilations=[1, 1], ceil_pads=[1, 0], count_include_pad=false} : f64[2,3,3,5]",
        &["2,3,4,5"],
        false,
    ),
    (
        "%1 = average_pool %0 {kernel=[2, 2], strides=[1, 2], pads=[1, 1, 1, 1], dilations=[1, 1], ceil_pads=[0, 0], count_include_pad=true} : f64[1,2,4,3]",
        &["1,2,3,4"],
        false,
    ),
    (
        "%1 = max_pool %0 {kernel=[2, 3], strides=[1, 2], pads=[1, 0, 0, 1], dilations=[1, 1]} : f64[2,3,4,3]",
        &["2,3,4,6"],
        false,
    ),
    (
        "%1 = max_pool %0 {kernel=[1, 2, 2], strides=[2, 1, 2], pads=[0, 0, 0, 0, 0, 0], dilations=[1, 1, 1]} : f64[1,1,2,3,2]",
        &["1,1,4,4,4"],
        false,
    ),
    ("%3 = attention %0, %1, %2 {scale=0.6, softcap=0.0} : f64[1,4,2,5]", &["1,4,2,3", "1,2,3,3", "1,2,3,5"], false),
    (
        "%4 = attention %0, %1, %2, %3 {scale=0.6, causal=true, softcap=1.5} : f64[2,2,3,4]",
        &["2,2,3,2", "2,2,3,2", "2,2,3,4", "3,3"],
        false,
    ),
    (
        "%1 = const \"\" [0.5, 0.2] : f64[1,2,1]\n %2 = const \"\" [0.8, -0.3] : f64[1,2,1]
         %3 = rotary_embedding %0, %1, %2 {interleaved=false, rotary_dim=2} : f64[1,2,2,4]",
        &["1,2,2,4"],
        false,
    ),
    ("%2 = rms_norm %0, %1 {axis=1, epsilon=0.01} : f64[3,5]", &["3,5", "5"], false),
    ("%3 = layer_norm %0, %1, %2 {axis=1, epsilon=0.01} : f64[3,5]", &["3,5", "5", "5"], false),
];

/// Half the distance over which a slope is measured.
const STEP: f64 = 1e-6;

fn case(nodes: &str, shapes: &[&str]) -> Graph {
    let input = |(i, shape): (usize, &&str)| match shape.strip_prefix("i64:") {
        Some(shape) => format!("input %{i} \"x{i}\" : i64[{shape}]\n"),
        None => format!("input %{i} \"x{i}\" : f64[{shape}]\n"),
    };
    let inputs: String = shapes.iter().enumerate().map(input).collect();
    let last = nodes.lines().last().and_then(|line| line.split_once(" =")).map_or("", |(names, _)| names);
    let last = last.rsplit(", ").next().unwrap_or_default().trim();
    let text = format!("graph @g {{ {inputs} {nodes}\n output \"y\" = {last} }}");
    parse_graph(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn values(graph: &Graph, positive: bool, random: &mut fastrand::Rng) -> Vec<Tensor> {
    let value = |&v: &ValueId| {
        let drawn = draw(graph.ty(v), &|_| None, random).unwrap();
        if !drawn.dtype().is_float() {
            // From the end too.
            let ints: Vec<i128> = drawn.to_ints().iter().map(|v| v - 2 * i128::from(random.bool())).collect();
            return Tensor::from_ints(drawn.dtype(), drawn.shape(), &ints);
        }
        let numbers = drawn.to_f64().into_iter().map(|v| if positive { v.abs() } else { v }).collect::<Vec<_>>();
        Tensor::from_f64(DType::F64, drawn.shape(), &numbers)
    };
    graph.inputs().iter().map(value).collect()
}

/// `Σ c · y` with one element of an input moved.
fn loss(graph: &Graph, inputs: &[Tensor], c: &Tensor, (input, at, by): (usize, usize, f64)) -> f64 {
    let mut inputs = inputs.to_vec();
    let mut numbers = inputs[input].to_f64();
    numbers[at] += by;
    inputs[input] = Tensor::from_f64(DType::F64, inputs[input].shape(), &numbers);
    let y = eval_graph(graph, &inputs).unwrap().remove(0);
    y.to_f64().iter().zip(c.to_f64()).map(|(y, c)| y * c).sum()
}

fn holds(nodes: &str, graph: &Graph, positive: bool, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let inputs = values(graph, positive, &mut random);
    let y = graph.outputs()[0].value;
    let c = draw(graph.ty(y), &|_| None, &mut random).unwrap();
    let of: Vec<ValueId> = graph.inputs().iter().copied().filter(|&v| graph.ty(v).dtype.is_float()).collect();
    let mut with = graph.clone();
    let seed = with.add_input("c", graph.ty(y).clone());
    let found = gradients(&mut with, &[(y, seed)], &of).unwrap_or_else(|error| panic!("{nodes}: {error}"));
    let outputs = found.iter().enumerate().map(|(i, g)| adze_ir::graph::Output {
        name: format!("g{i}").into(),
        value: g.unwrap_or_else(|| panic!("{nodes}: no gradient {i}")),
    });
    with.set_outputs(outputs.collect());
    with.remove_dead();
    adze_ir::verify::verify_graph(&with).unwrap_or_else(|error| panic!("{nodes}: {error:?}"));
    let all: Vec<Tensor> = inputs.iter().cloned().chain([c.clone()]).collect();
    for (index, gradient) in eval_graph(&with, &all).unwrap().iter().enumerate() {
        for (at, slope) in gradient.to_f64().into_iter().enumerate() {
            let [high, low] = [STEP, -STEP].map(|by| loss(graph, &inputs, &c, (index, at, by)));
            let wanted = (high - low) / (2.0 * STEP);
            assert!(
                (slope - wanted).abs() < 1e-6 * (1.0 + wanted.abs()),
                "{nodes}: {slope} instead of {wanted} at {at} of {index}"
            );
        }
    }
}

#[test]
fn gradients_are_slopes() {
    for (nodes, shapes, positive) in CASES {
        let graph = case(nodes, shapes);
        (0..4).for_each(|seed| holds(nodes, &graph, *positive, seed));
    }
}

#[test]
fn a_value_with_several_users_has_the_sum() {
    let nodes = "%1 = tanh %0 : f64[2,2]\n %2 = mul %1, %0 : f64[2,2]\n %3 = matmul %2, %1 : f64[2,2]\n %4 = add %3, %1 : f64[2,2]";
    holds(nodes, &case(nodes, &["2,2"]), false, 7);
}

#[test]
fn rounding_is_straight_through_inside_its_range() {
    let mut graph = parse_graph(
        "graph @g { input %0 \"x\" : f32[4]
        %1 = const \"\" [0.5] : f32[]
        %2 = const \"\" [3] : i8[]
        %3 = quantize %0, %1, %2 {axis=0, block=0, to=i8} : i8[4]
        %4 = dequantize %3, %1, %2 {axis=0, block=0} : f32[4]
        output \"y\" = %4 }",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let (x, y) = (graph.inputs()[0], graph.outputs()[0].value);
    let found = gradients(&mut graph, &[(y, y)], &[x]).unwrap()[0].unwrap();
    graph.set_output(0, found);
    let x = Tensor::from_f32(&[4], &[-70.0, 0.3, 62.0, 63.0]);
    assert_eq!(eval_graph(&graph, &[x]).unwrap()[0].to_f64(), [0.0, 0.5, 62.0, 0.0]);
}

#[test]
fn what_has_no_derivative_is_named() {
    let nodes = "%1 = cum_sum %0 {axis=0} : f64[2,3]";
    let mut graph = case(nodes, &["2,3"]);
    let (x, y) = (graph.inputs()[0], graph.outputs()[0].value);
    let error = gradients(&mut graph, &[(y, y)], &[x]).unwrap_err().to_string();
    assert!(error.contains("no gradient of `cum_sum`"), "{error}");
    // Nothing is asked of what does not depend on it.
    let mut graph = case("%2 = cum_sum %0 {axis=0} : f64[2,3]", &["2,3", "2,3"]);
    let (other, y) = (graph.inputs()[1], graph.outputs()[0].value);
    assert_eq!(gradients(&mut graph, &[(y, y)], &[other]), Ok(vec![None]));
}
