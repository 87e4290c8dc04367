"""Graphs of `make_import.py`: convolutions, pools, normalizations, products, recurrent layers, quantization."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from onnx_cases import BOOL, F16, I8, I32, I64, U8, Case


# ---------------------------------------------------------------- convolutions


def convolutions():
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        c = Case(f"conv_auto_pad_{mode.lower()}", opset=11)
        c.n("Conv", [c.x("x", [1, 3, 8, 7]), c.w("w", (4, 3, 3, 2))], auto_pad=mode, strides=[2, 3])
        c.out("y")

    c = Case("conv_bias_asymmetric_pads")
    c.n("Conv", [c.x("x", [2, 3, 7, 5]), c.w("w", (5, 3, 3, 3)), c.w("b", (5,))], pads=[0, 1, 2, 1], strides=[2, 1])
    c.out("y")

    c = Case("conv_1x1")
    c.n("Conv", [c.x("x", [1, 7, 5, 3]), c.w("w", (6, 7, 1, 1)), c.w("b", (6,))])
    c.out("y")

    c = Case("conv_grouped_dilated")
    c.n("Conv", [c.x("x", [1, 6, 9, 11]), c.w("w", (4, 3, 3, 2))], group=2, dilations=[2, 3], pads=[2, 0, 2, 0])
    c.out("y")

    c = Case("conv_depthwise")
    c.n("Conv", [c.x("x", [1, 5, 6, 7]), c.w("w", (5, 1, 3, 3)), c.w("b", (5,))], group=5, pads=[1, 1, 1, 1])
    c.out("y")

    c = Case("conv_depthwise_multiplier_stride")
    c.n("Conv", [c.x("x", [1, 3, 9, 7]), c.w("w", (6, 1, 5, 3))], group=3, strides=[2, 2], pads=[2, 1, 2, 1])
    c.out("y")

    c = Case("conv_1d_causal")
    c.n("Conv", [c.x("x", [2, 3, 13]), c.w("w", (5, 3, 3)), c.w("b", (5,))], dilations=[2], pads=[4, 0])
    c.out("y")

    c = Case("conv_3d", opset=22)
    c.ir_version = 10
    c.n("Conv", [c.x("x", [1, 2, 4, 5, 3]), c.w("w", (3, 2, 2, 3, 1))], pads=[1, 0, 0, 0, 1, 0])
    c.out("y")

    c = Case("conv_f16")
    c.n("Conv", [c.x("x", [1, 3, 7, 5], F16), c.w("w", (4, 3, 3, 3), F16), c.w("b", (4,), F16)], pads=[1, 1, 1, 1])
    c.out("y", dtype=F16)

    c = Case("conv_weight_is_input")
    c.n("Conv", [c.x("x", [1, 3, 5, 4]), c.x("w", [2, 3, 3, 3])], pads=[1, 1, 1, 1])
    c.out("y")

    c = Case("conv_transpose")
    c.n("ConvTranspose", [c.x("x", [1, 4, 4, 3]), c.w("w", (4, 3, 3, 2)), c.w("b", (3,))], strides=[2, 3],
        pads=[1, 0, 0, 1], output_padding=[1, 0])
    c.out("y")

    c = Case("conv_transpose_grouped_output_shape")
    c.n("ConvTranspose", [c.x("x", [1, 4, 3, 5]), c.w("w", (4, 2, 3, 3))], group=2, strides=[2, 2],
        output_shape=[7, 9], dilations=[1, 1])
    c.out("y")

    c = Case("conv_transpose_1d_same_upper", opset=11)
    c.n("ConvTranspose", [c.x("x", [1, 2, 6]), c.w("w", (2, 3, 4))], strides=[2], auto_pad="SAME_UPPER")
    c.out("y")

    c = Case("conv_bn_relu", opset=9)
    x = c.n("Conv", [c.x("x", [1, 3, 6, 5]), c.w("w", (4, 3, 3, 3))], "c", name="block/conv", pads=[1, 1, 1, 1])
    stats = [c.w("s", (4,)), c.w("t", (4,)), c.w("m", (4,)), c.w("v", [0.5, 1.0, 2.0, 0.25])]
    x = c.n("BatchNormalization", [x, *stats], "n", name="block/bn", epsilon=1e-3)
    c.n("Relu", [x], name="block/relu")
    c.out("y")


# ---------------------------------------------------------------- pooling and normalization


def pooling():
    c = Case("max_pool_ceil_mode")
    c.n("MaxPool", [c.x("x", [1, 2, 8, 7])], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    c.out("y")

    c = Case("max_pool_dilated_pads")
    c.n("MaxPool", [c.x("x", [1, 2, 9, 8])], kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 2])
    c.out("y")

    c = Case("max_pool_1d_same_lower", opset=8)
    c.n("MaxPool", [c.x("x", [2, 3, 10])], kernel_shape=[3], strides=[2], auto_pad="SAME_LOWER")
    c.out("y")

    c = Case("max_pool_all_negative_padding", opset=12)
    c.n("MaxPool", [c.x("x", [1, 1, 3, 3], data=-1.0 - np.arange(9).reshape(1, 1, 3, 3))], kernel_shape=[2, 2],
        pads=[1, 1, 1, 1])
    c.out("y")

    c = Case("average_pool_exclude_pad", opset=10)
    c.n("AveragePool", [c.x("x", [1, 2, 6, 5])], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c.out("y")

    c = Case("average_pool_include_pad_ceil", opset=19)
    c.n("AveragePool", [c.x("x", [1, 2, 7, 6])], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1,
        count_include_pad=1)
    c.out("y")

    c = Case("global_pools")
    x = c.x("x", [2, 3, 5, 4])
    c.n("GlobalAveragePool", [x], "a")
    c.n("GlobalMaxPool", [x], "b")
    c.n("Concat", ["a", "b"], axis=1)
    c.out("y")

    c = Case("batch_norm_alone", opset=15)
    stats = [c.w("s", (3,)), c.w("t", (3,)), c.w("m", (3,)), c.w("v", [0.5, 1.5, 3.0])]
    c.n("BatchNormalization", [c.x("x", [2, 3, 4, 5]), *stats])
    c.out("y")

    c = Case("batch_norm_opset7", opset=7)
    stats = [c.w("s", (3,)), c.w("t", (3,)), c.w("m", (3,)), c.w("v", [0.5, 1.5, 3.0])]
    c.n("BatchNormalization", [c.x("x", [2, 3, 7]), *stats], epsilon=1e-2)
    c.out("y")

    c = Case("instance_normalization")
    c.n("InstanceNormalization", [c.x("x", [2, 3, 5, 4]), c.w("s", (3,)), c.w("b", (3,))])
    c.out("y")

    c = Case("layer_normalization")
    c.n("LayerNormalization", [c.x("x", [2, 3, 7]), c.w("s", (7,)), c.w("b", (7,))], epsilon=1e-5)
    c.out("y")

    c = Case("layer_normalization_two_axes_no_bias")
    c.n("LayerNormalization", [c.x("x", [2, 3, 5]), c.w("s", (3, 5))], axis=1)
    c.out("y")

    c = Case("group_normalization", opset=21)
    c.n("GroupNormalization", [c.x("x", [2, 6, 3, 5]), c.w("s", (6,)), c.w("b", (6,))], num_groups=3)
    c.out("y")

    c = Case("group_normalization_opset18", opset=18)
    c.n("GroupNormalization", [c.x("x", [2, 6, 3, 5]), c.w("s", (3,)), c.w("b", (3,))], num_groups=3)
    c.out("y")

    c = Case("lp_normalization_lrn")
    x = c.n("LpNormalization", [c.x("x", [2, 5, 3, 4])], "l", axis=1, p=2)
    c.n("LRN", [x], size=3, alpha=0.01, bias=1.5)
    c.out("y")


# ---------------------------------------------------------------- linear algebra


def linear():
    c = Case("gemm_trans_alpha_beta")
    c.n("Gemm", [c.x("a", [5, 3]), c.w("b", (7, 5)), c.w("c", (7,))], transA=1, transB=1, alpha=0.5, beta=2.0)
    c.out("y")

    c = Case("gemm_column_bias_opset7", opset=7)
    c.n("Gemm", [c.x("a", [3, 5]), c.w("b", (5, 4)), c.w("c", (3, 1))])
    c.out("y")

    c = Case("gemm_no_bias", opset=13)
    c.n("Gemm", [c.x("a", [1, 9]), c.x("b", [9, 6])])
    c.out("y")

    c = Case("matmul_broadcast")
    c.n("MatMul", [c.x("a", [2, 1, 3, 5]), c.x("b", [4, 5, 7])])
    c.out("y")

    c = Case("matmul_vectors")
    x, m = c.x("v", [5]), c.x("m", [3, 5, 4])
    c.n("MatMul", [x, m], "y0")
    c.n("MatMul", [m, c.w("u", (4,))], "y1")
    c.n("MatMul", [x, c.w("t", (5,))], "y2")
    c.out("y0", "y1", "y2")

    c = Case("matmul_integer")
    c.n("MatMulInteger", [c.x("a", [3, 5], U8), c.w("b", (5, 4), I8), c.w("za", 3, U8), c.w("zb", 1, I8)])
    c.out("y", dtype=I32)

    c = Case("einsum_attention_scores")
    c.n("Einsum", [c.x("q", [2, 3, 4, 5]), c.x("k", [2, 3, 6, 5])], equation="bhqd,bhkd->bhqk")
    c.out("y")


# ---------------------------------------------------------------- sequences


def recurrent():
    def gates(c, kind, n, hidden, inputs, dirs):
        return [c.w("W", (dirs, n * hidden, inputs)), c.w("R", (dirs, n * hidden, hidden)), c.w("B", (dirs, 2 * n * hidden))]

    c = Case("lstm_forward_states")
    c.n("LSTM", [c.x("x", [5, 2, 3]), *gates(c, "LSTM", 4, 4, 3, 1), "", c.x("h", [1, 2, 4]), c.x("c", [1, 2, 4])],
        ["y", "yh", "yc"], hidden_size=4)
    c.out("y", "yh", "yc")

    c = Case("lstm_bidirectional_no_y", opset=14)
    c.n("LSTM", [c.x("x", [4, 2, 3]), *gates(c, "LSTM", 4, 5, 3, 2)], ["", "yh"], hidden_size=5, direction="bidirectional")
    c.out("yh")

    c = Case("lstm_peephole_sequence_lens", opset=7)
    c.n("LSTM", [c.x("x", [4, 2, 3]), *gates(c, "LSTM", 4, 2, 3, 1), c.w("len", [4, 2], I32), "", "", c.w("P", (1, 6))],
        ["y", "yh"], hidden_size=2, direction="reverse")
    c.out("y", "yh")

    c = Case("gru_linear_before_reset")
    c.n("GRU", [c.x("x", [5, 2, 3]), *gates(c, "GRU", 3, 4, 3, 1)], ["y", "yh"], hidden_size=4, linear_before_reset=1)
    c.out("y", "yh")

    c = Case("gru_bidirectional_initial")
    c.n("GRU", [c.x("x", [3, 1, 4]), *gates(c, "GRU", 3, 3, 4, 2), "", c.x("h", [2, 1, 3])], ["y"], hidden_size=3,
        direction="bidirectional")
    c.out("y")

    c = Case("rnn_tanh")
    c.n("RNN", [c.x("x", [4, 2, 3]), *gates(c, "RNN", 1, 5, 3, 1)], ["y", "yh"], hidden_size=5)
    c.out("y", "yh")

    c = Case("if_constant_condition", opset=13)
    branch = lambda op, out: helper.make_graph(
        [helper.make_node(op, ["x"], [out], op.lower())], op, [],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [2, 3])],
    )  # fmt: skip
    c.x("x", [2, 3])
    c.n("If", [c.w("yes", True, BOOL)], then_branch=branch("Neg", "p"), else_branch=branch("Exp", "q"))
    c.out("y")

    c = Case("scan_running_sum", opset=11)
    body = helper.make_graph(
        [helper.make_node("Add", ["acc", "row"], ["next"], "add"), helper.make_node("Identity", ["next"], ["o"], "id")],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("acc", "row")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("next", "o")],
    )
    c.n("Scan", [c.x("s", [3]), c.x("x", [4, 3])], ["y0", "y1"], body=body, num_scan_inputs=1)
    c.out("y0", "y1")

    c = Case("scan_reverse_axes", opset=16)
    c.n("Scan", [c.x("s", [3]), c.x("x", [3, 4])], ["y0", "y1"], body=body, num_scan_inputs=1, scan_input_axes=[1],
        scan_input_directions=[1], scan_output_axes=[-1], scan_output_directions=[1])
    c.out("y0", "y1")

    c = Case("loop_constant_trip_count", opset=16)
    info = lambda n, t, d: helper.make_tensor_value_info(n, t, d)
    body = helper.make_graph(
        [helper.make_node("Add", ["acc", "x"], ["next"], "add"), helper.make_node("Cast", ["i"], ["f"], "cast", to=1),
         helper.make_node("Mul", ["next", "f"], ["o"], "mul"), helper.make_node("Identity", ["go"], ["on"], "id")],
        "body", [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("acc", TensorProto.FLOAT, [3])],
        [info("on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, [3]), info("o", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    c.x("x", [3])
    c.n("Loop", [c.w("count", 4, I64), "", c.x("s", [3])], ["y0", "y1"], body=body)
    c.out("y0", "y1")


# ---------------------------------------------------------------- quantized


def quantized():
    c = Case("qdq_per_tensor", opset=13)
    s, z = c.w("s", 0.05), c.w("z", 3, I8)
    x = c.n("QuantizeLinear", [c.x("x", [2, 5]), s, z], "q")
    c.n("DequantizeLinear", [x, s, z])
    c.out("y")

    c = Case("qdq_conv", opset=13)
    xs, xz, ys, yz = c.w("xs", 0.04), c.w("xz", 120, U8), c.w("ys", 0.1), c.w("yz", 100, U8)
    x = c.n("QuantizeLinear", [c.x("x", [1, 3, 5, 4]), xs, xz], "xq")
    x = c.n("DequantizeLinear", [x, xs, xz], "xd")
    c.inits["wq"] = c.rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    w = c.n("DequantizeLinear", ["wq", c.w("ws", [0.01, 0.02, 0.015, 0.03]), c.w("wz", [0] * 4, I8)], "wd", axis=0)
    x = c.n("Conv", [x, w], "c", pads=[1, 1, 1, 1])
    x = c.n("QuantizeLinear", [x, ys, yz], "yq")
    c.n("DequantizeLinear", [x, ys, yz])
    c.out("y")

    c = Case("qlinear_add_pool_qgemm", opset=13)
    c.domains = {"com.microsoft": 1}
    ms = dict(domain="com.microsoft")
    s, z, t, u = c.w("s", 0.05), c.w("z", 3, I8), c.w("t", 0.07), c.w("u", -4, I8)
    c.inits["g"] = c.rng.integers(-127, 128, (6, 4)).astype(np.int8)
    a = c.n("QuantizeLinear", [c.x("x", [1, 6, 3, 4]), s, z], "a")
    b = c.n("QuantizeLinear", [c.x("w", [1, 6, 3, 4]), t, u], "b")
    a = c.n("QLinearAdd", [a, s, z, b, t, u, t, z], "q", **ms)
    a = c.n("QLinearGlobalAveragePool", [a, t, z, s, u], "p", channels_last=0, **ms)
    a = c.n("Flatten", [a], "f")
    a = c.n("QGemm", [a, s, u, "g", c.w("gs", 0.02), c.w("gz", 0, I8), c.w("gb", [30, -20, 0, 7], I32), t, z], "o", **ms)
    c.n("DequantizeLinear", [a, t, z])
    c.out("y")

    c = Case("qlinear_activations", opset=13)
    c.domains = {"com.microsoft": 1}
    s, z, t, u = c.w("s", 0.03), c.w("z", 3, I8), c.w("t", 0.01), c.w("u", -4, I8)
    a = c.n("QuantizeLinear", [c.x("x", [3, 7]), s, z], "a")
    b = c.n("QLinearSigmoid", [a, s, z, t, u], "b", **ms)
    d = c.n("QLinearLeakyRelu", [a, s, z, t, u], "d", alpha=0.2, **ms)
    e = c.n("QLinearConcat", [s, z, b, t, u, a, s, z, d, t, u], "e", axis=1, **ms)
    m = c.n("QLinearMul", [e, s, z, e, s, z, t, u], "m", **ms)
    c.n("DequantizeLinear", [m, t, u])
    c.out("y")

    c = Case("qlinear_pools", opset=13)
    c.domains = {"com.microsoft": 1}
    s, z, t, u = c.w("s", 0.03), c.w("z", 130, U8), c.w("t", 0.01), c.w("u", 120, U8)
    a = c.n("QuantizeLinear", [c.x("x", [1, 3, 6, 5]), s, z], "a")
    a = c.n("QLinearAveragePool", [a, s, z, t, u], "p", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], **ms)
    a = c.n("QLinearGlobalAveragePool", [a, t, u, s, z], "r", channels_last=0, **ms)
    c.n("DequantizeLinear", [a, s, z])
    c.out("y")

    c = Case("qlinear_softmax_where", opset=13)
    c.domains = {"com.microsoft": 1}
    s, z, t, u = c.w("s", 0.03), c.w("z", 130, U8), c.w("t", 0.00390625), c.w("u", 0, U8)
    a = c.n("QuantizeLinear", [c.x("x", [3, 7]), s, z], "a")
    p = c.n("QLinearSoftmax", [a, s, z, t, u], "p", axis=1, opset=13, **ms)
    a = c.n("QLinearWhere", [c.x("c", [3, 1], BOOL), a, s, z, p, t, u, s, z], "w", **ms)
    c.n("DequantizeLinear", [a, s, z])
    c.out("y")

    c = Case("dynamic_quantize_matmul_contrib", opset=13)
    c.domains = {"com.microsoft": 1}
    c.inits["w"] = c.rng.integers(0, 256, (8, 5)).astype(np.uint8)
    c.n("DynamicQuantizeMatMul", [c.x("x", [3, 8]), "w", c.w("s", [0.01]), c.w("z", [128], U8), c.w("b", (5,))], **ms)
    c.out("y")

    c = Case("matmul_integer_to_float", opset=13)
    c.domains = {"com.microsoft": 1}
    c.inits["w"] = c.rng.integers(-127, 128, (8, 5)).astype(np.int8)
    c.n("MatMulIntegerToFloat", [c.x("x", [3, 8], U8), "w", c.w("s", [0.02]), c.w("t", (5,)), c.w("z", [7], U8), c.w("u", [0] * 5, I8), c.w("b", (5,))], **ms)
    c.out("y")

    c = Case("matmul_nbits", opset=17)
    c.domains = {"com.microsoft": 1}
    c.inits["b"] = c.rng.integers(0, 256, (3, 2, 8)).astype(np.uint8)
    c.inits["z"] = c.rng.integers(0, 256, (3,)).astype(np.uint8)
    c.n("MatMulNBits", [c.x("x", [2, 28]), "b", c.w("s", (6,)), "z"], domain="com.microsoft", K=28, N=3, bits=4, block_size=16)
    c.out("y")

    c = Case("gather_block_quantized", opset=21)
    c.domains = {"com.microsoft": 1}
    c.inits["d"] = c.rng.integers(0, 256, (7, 20)).astype(np.uint8)
    c.inits["z"] = c.rng.integers(0, 256, (7, 2)).astype(np.uint8)
    c.data["i"] = np.array([[6, 0, 3], [2, 2, 5]])
    c.n("GatherBlockQuantized", ["d", c.x("i", [2, 3], I64), c.w("s", (7, 3)), "z"], bits=4, block_size=16, **ms)
    c.out("y")

    c = Case("gather_block_quantized_2bit", opset=21)
    c.domains = {"com.microsoft": 1}
    c.inits["d"] = c.rng.integers(0, 256, (4, 8)).astype(np.uint8)
    c.data["i"] = np.array([[3], [1]])
    c.n("GatherBlockQuantized", ["d", c.x("i", [2, 1], I64), c.w("s", (4, 2))], bits=2, block_size=16, **ms)
    c.out("y")

    c = Case("gather_block_quantized_int4", opset=21)
    c.domains = {"com.microsoft": 1}
    c.inits["d"] = c.rng.integers(-8, 8, (5, 32)).astype(ml_dtypes.int4)
    c.data["i"] = np.array([4, 0, 3])
    c.n("GatherBlockQuantized", ["d", c.x("i", [3], I64), c.w("s", (5, 2))], block_size=16, gather_axis=0, quantize_axis=1, **ms)
    c.out("y")

    for name, mask, past in [("lengths", [2], 0), ("shown", [2, 5], 0), ("past", None, 3)]:
        c = Case(f"qattention_{name}", opset=13)
        c.domains = {"com.microsoft": 1}
        c.inits["w"] = c.rng.integers(-127, 128, (6, 24)).astype(np.int8)
        parts = [c.x("x", [2, 5, 6], U8), "w", c.w("b", (24,)), c.w("s", 0.02), c.w("t", 0.01), "", c.w("z", 120, U8), c.w("u", 0, I8)]
        if mask:
            c.data["m"] = np.array([3, 5] if name == "lengths" else [[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], dtype=np.int32)
            parts[5] = c.x("m", mask, I32)
        if past:
            parts.append(c.x("p", [2, 2, 2, past, 4]))
        c.n("QAttention", parts, ["y", "present"] if past else ["y"], num_heads=2, unidirectional=int(name == "lengths"), **ms)
        c.out("y")
        if past:
            c.out("present")

    for name, directions, zero in [("forward", 1, None), ("bidirectional", 2, 3)]:
        c = Case(f"dynamic_quantize_lstm_{name}", opset=13)
        c.domains = {"com.microsoft": 1}
        h, n = 5, directions
        c.inits["w"] = c.rng.integers(-127, 128, (n, 3, 4 * h)).astype(np.int8)
        c.inits["r"] = c.rng.integers(-127, 128, (n, h, 4 * h)).astype(np.int8)
        peepholes = c.w("p", (n, 3 * h)) if n == 2 else ""
        shape = (n, 4 * h) if n == 2 else (n,)
        scale = lambda s: c.w(s, (0.005 + 0.005 * c.rng.random(shape)).astype(np.float32))
        parts = [c.x("x", [4, 2, 3]), "w", "r", c.w("b", (n, 8 * h)), "", c.x("h", [n, 2, h]) if n == 2 else "", "", peepholes]
        parts += [scale("ws"), c.w("wz", np.zeros(shape, I8), I8), scale("rs"), c.w("rz", np.zeros(shape, I8), I8)]
        c.n("DynamicQuantizeLSTM", parts, ["y", "yh", "yc"], hidden_size=h, direction=name, **ms)
        for out in ["y", "yh", "yc"]:
            c.out(out)

    c = Case("dequantize_int4_blocked", opset=21)
    w = ml_dtypes.int4
    c.inits["wq"] = c.rng.integers(-8, 8, (8, 6)).astype(w)
    d = c.n("DequantizeLinear", ["wq", c.w("ws", (2, 6))], "wd", axis=0, block_size=4)
    c.n("MatMul", [c.x("x", [3, 8]), d])
    c.out("y")

    def stored(c, name, shape, dtype, scales, **attributes):
        info = ml_dtypes.iinfo(dtype)
        c.inits[name] = c.rng.integers(info.min, int(info.max) + 1, shape).astype(dtype)
        scales = c.rng.uniform(0.2, 1.0, scales) / int(info.max)
        c.inits[name + "s"] = scales.astype(np.float32)
        return c.n("DequantizeLinear", [name, name + "s"], name + "d", **attributes)

    c = Case("lstm_stored_weights", opset=21)
    w = stored(c, "W", (2, 20, 6), ml_dtypes.int4, (2, 20, 2), axis=2, block_size=4)
    r = stored(c, "R", (2, 20, 5), np.int8, (20,), axis=1)
    c.n("LSTM", [c.x("x", [4, 2, 6]), w, r, c.w("B", (2, 40))], ["y", "yh", "yc"], hidden_size=5, direction="bidirectional")
    c.out("y", "yh", "yc")

    c = Case("gru_stored_state_weights", opset=21)
    r = stored(c, "R", (1, 12, 4), ml_dtypes.int4, (1, 12, 1), axis=2, block_size=4)
    c.n("GRU", [c.x("x", [5, 2, 3]), c.w("W", (1, 12, 3)), r, "", "", c.x("h", [1, 2, 4])], ["y"], hidden_size=4)
    c.out("y")

    c = Case("rnn_weights_are_inputs", opset=14)
    c.n("RNN", [c.x("x", [4, 2, 3]), c.x("W", [1, 5, 3]), c.x("R", [1, 5, 5]), c.w("B", (1, 10))], ["y", "yh"], hidden_size=5)
    c.out("y", "yh")

    c = Case("dynamic_quantize_matmul_integer", opset=13)
    q, s, z = c.n("DynamicQuantizeLinear", [c.x("x", [3, 8])], ["q", "s", "z"])
    m = c.n("MatMulInteger", [q, c.w("w", (8, 4), I8), z], "m")
    m = c.n("Cast", [m], "f", to=TensorProto.FLOAT)
    c.n("Mul", [m, s])
    c.out("y")

    c = Case("qlinear_conv", opset=13)
    c.inits["w"] = c.rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    c.n("QLinearConv", [c.x("x", [1, 3, 5, 4], U8), c.w("xs", 0.04), c.w("xz", 3, U8), "w", c.w("ws", [0.01, 0.02, 0.015, 0.03]),
                        c.w("wz", [0] * 4, I8), c.w("ys", 0.1), c.w("yz", 100, U8), c.w("b", (4,), I32)], pads=[1, 1, 1, 1])
    c.out("y", dtype=U8)

    c = Case("quantize_ties_and_saturation", opset=13)
    c.n("QuantizeLinear", [c.x("x", [8], data=[-1000, -128.5, -2.5, -1.5, 0.5, 1.5, 127.5, 1000]), c.w("s", 1.0), c.w("z", 0, I8)])
    c.out("y", dtype=I8)


def define():
    for family in (convolutions, pooling, linear, recurrent, quantized):
        family()
