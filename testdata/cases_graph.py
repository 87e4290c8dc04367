"""Graphs of `make_import.py`: data movement, element-wise operators, reductions, and features of the graph itself."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_cases import BF16, F16, I32, I64, Case


# ---------------------------------------------------------------- shapes and movement


def movement():
    c = Case("slice_opset9_attributes", opset=9)
    c.n("Slice", [c.x("x", [5, 7, 3])], starts=[1, -4], ends=[9223372036854775807, -1], axes=[0, 1])
    c.out("y")

    c = Case("slice_opset13_negative_step", opset=13)
    c.n("Slice", [c.x("x", [5, 7, 3]), c.w("s", [-1, 5], I64), c.w("e", [-9223372036854775808, 0], I64),
                  c.w("a", [0, -2], I64), c.w("t", [-2, -3], I64)])
    c.out("y")

    c = Case("slice_opset10_defaults_empty", opset=10)
    c.n("Slice", [c.x("x", [3, 4]), c.w("s", [1, 4], I32), c.w("e", [3, 9], I32)])
    c.out("y")

    c = Case("squeeze_unsqueeze_opset11", opset=11)
    x = c.n("Squeeze", [c.x("x", [1, 3, 1, 2])], "s", axes=[0, 2])
    c.n("Unsqueeze", [x], axes=[1, 3])
    c.out("y")

    c = Case("squeeze_unsqueeze_opset13", opset=13)
    x = c.n("Squeeze", [c.x("x", [1, 3, 1, 2]), c.w("sa", [-2], I64)], "s")
    c.n("Unsqueeze", [x, c.w("ua", [-1, 0], I64)])
    c.out("y")

    c = Case("squeeze_all_ones", opset=13)
    c.n("Squeeze", [c.x("x", [1, 3, 1, 1])])
    c.out("y")

    c = Case("reshape_zero_minus_one", opset=13)
    c.n("Reshape", [c.x("x", [2, 3, 4, 5]), c.w("s", [0, -1, 5], I64)])
    c.out("y")

    c = Case("reshape_allowzero_empty", opset=14)
    c.n("Reshape", [c.x("x", [0, 3]), c.w("s", [3, 0], I64)], allowzero=1)
    c.out("y")

    c = Case("flatten_axes")
    x = c.x("x", [2, 3, 4])
    c.n("Flatten", [x], "y0", axis=0)
    c.n("Flatten", [x], "y1", axis=-1)
    c.out("y0", "y1")

    c = Case("transpose")
    x = c.n("Transpose", [c.x("x", [2, 3, 5])], "t", perm=[1, 2, 0])
    c.n("Transpose", [x])
    c.out("y")

    c = Case("depth_to_space_modes", opset=13)
    x = c.x("x", [1, 8, 2, 3])
    c.n("DepthToSpace", [x], "a", blocksize=2, mode="DCR")
    c.n("DepthToSpace", [x], "b", blocksize=2, mode="CRD")
    c.n("Sub", ["a", "b"], "d")
    c.n("SpaceToDepth", ["d"], blocksize=2)
    c.out("y")

    c = Case("concat_negative_axis")
    c.n("Concat", [c.x("a", [2, 3, 1]), c.x("b", [2, 3, 4]), c.w("c", (2, 3, 2))], axis=-1)
    c.out("y")

    c = Case("split_opset11_attribute", opset=11)
    c.n("Split", [c.x("x", [2, 7])], ["y0", "y1", "y2"], axis=1, split=[2, 4, 1])
    c.out("y0", "y1", "y2")

    c = Case("split_opset13_input", opset=13)
    c.n("Split", [c.x("x", [5, 3]), c.w("s", [2, 0, 3], I64)], ["y0", "y1", "y2"])
    c.out("y0", "y1", "y2")

    c = Case("split_opset18_num_outputs", opset=18)
    c.n("Split", [c.x("x", [2, 7])], ["y0", "y1", "y2"], axis=-1, num_outputs=3)
    c.out("y0", "y1", "y2")

    c = Case("expand_broadcast")
    c.n("Expand", [c.x("x", [3, 1]), c.w("s", [2, 1, 4], I64)])
    c.out("y")

    c = Case("tile_repeats")
    c.n("Tile", [c.x("x", [2, 3]), c.w("r", [2, 3], I64)])
    c.out("y")

    c = Case("gather_axis_negative_index")
    c.n("Gather", [c.x("x", [4, 3, 5]), c.w("i", [[0, -1], [2, 2]], I64)], axis=1)
    c.out("y")

    c = Case("gather_embedding_runtime_index")
    c.n("Gather", [c.w("table", (11, 6)), c.x("ids", [2, 3], I64, data=[[0, 10, 4], [7, 1, 1]])])
    c.out("y")

    c = Case("gather_elements")
    c.n("GatherElements", [c.x("x", [3, 4]), c.x("i", [2, 4], I64, data=[[0, 2, -1, 1], [1, 0, 2, -3]])], axis=0)
    c.out("y")

    c = Case("gather_nd_batch_dims", opset=13)
    c.n("GatherND", [c.x("x", [2, 3, 4]), c.x("i", [2, 2, 1], I64, data=[[[0], [2]], [[1], [-1]]])], batch_dims=1)
    c.out("y")

    c = Case("scatter_nd", opset=13)
    c.n("ScatterND", [c.x("x", [4, 3]), c.w("i", [[3], [0]], I64), c.x("u", [2, 3])])
    c.out("y")

    c = Case("scatter_elements_add", opset=16)
    c.n("ScatterElements", [c.x("x", [3, 3]), c.w("i", [[0, 1, 2], [0, 2, 2]], I64), c.x("u", [2, 3])], axis=0,
        reduction="add")
    c.out("y")

    c = Case("pad_modes", opset=18)
    x, p = c.x("x", [2, 3, 4]), c.w("p", [0, 1, 2, 0, 1, 1], I64)
    c.n("Pad", [x, p, c.w("v", 1.5)], "y0")
    c.n("Pad", [x, p], "y1", mode="reflect")
    c.n("Pad", [x, p], "y2", mode="edge")
    c.out("y0", "y1", "y2")

    c = Case("pad_opset10_negative", opset=10)
    c.n("Pad", [c.x("x", [1, 2, 5, 4])], pads=[0, 0, 1, -1, 0, 0, -2, 1], value=0.5)
    c.out("y")

    c = Case("pad_wrap_axes", opset=19)
    c.n("Pad", [c.x("x", [2, 5]), c.w("p", [2, 1], I64), "", c.w("a", [1], I64)], mode="wrap")
    c.out("y")

    c = Case("resize_nearest_scales", opset=13)
    c.n("Resize", [c.x("x", [1, 2, 3, 4]), "", c.w("s", [1, 1, 2, 1.5])], mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    c.out("y")

    c = Case("resize_linear_sizes_half_pixel", opset=13)
    c.n("Resize", [c.x("x", [1, 2, 3, 4]), "", "", c.w("s", [1, 2, 7, 6], I64)], mode="linear",
        coordinate_transformation_mode="half_pixel")
    c.out("y")

    c = Case("resize_linear_align_corners", opset=11)
    c.n("Resize", [c.x("x", [1, 2, 3, 4]), c.w("r", []), c.w("s", [1, 1, 2, 2])], mode="linear",
        coordinate_transformation_mode="align_corners")
    c.out("y")

    c = Case("resize_cubic", opset=18)
    c.n("Resize", [c.x("x", [1, 1, 4, 5]), "", c.w("s", [1, 1, 2, 2])], mode="cubic", cubic_coeff_a=-0.5,
        exclude_outside=1)
    c.out("y")

    c = Case("resize_nearest_round_prefer_ceil_down", opset=19)
    c.n("Resize", [c.x("x", [1, 1, 7, 5]), "", "", c.w("s", [3, 4], I64)], mode="nearest", axes=[2, 3],
        nearest_mode="round_prefer_ceil")
    c.out("y")

    c = Case("resize_opset10", opset=10)
    c.n("Resize", [c.x("x", [1, 2, 3, 4]), c.w("s", [1, 1, 2, 2])], mode="nearest")
    c.out("y")

    c = Case("upsample_opset9", opset=9)
    c.n("Upsample", [c.x("x", [1, 2, 3, 4]), c.w("s", [1, 1, 2, 3])], mode="nearest")
    c.out("y")

    c = Case("trilu_cumsum")
    x = c.n("Trilu", [c.x("x", [2, 4, 5]), c.w("k", 1, I64)], "t", upper=0)
    c.n("CumSum", [x, c.w("a", 2, I64)], exclusive=1, reverse=1)
    c.out("y")


# ---------------------------------------------------------------- element-wise, reductions, activations


def elementwise():
    c = Case("binary_broadcast")
    x = c.n("Add", [c.x("a", [2, 1, 4]), c.x("b", [3, 1])], "s")
    x = c.n("Mul", [x, c.w("k", (4,))], "m")
    x = c.n("Sub", [c.w("one", 1.0), x], "d")
    x = c.n("Div", [x, c.w("half", 0.5)], "q")
    x = c.n("Max", [x, c.w("lo", -3.0), "a"], "mx")
    c.n("Min", [x, c.w("hi", 3.0)])
    c.out("y")

    c = Case("integer_div_mod_floor")
    a, b = c.x("a", [6], I32, data=[-7, 7, -7, 7, 6, 0]), c.w("b", [2, -2, -2, 2, 4, 3], I32)
    c.n("Div", [a, b], "y0")
    c.n("Mod", [a, b], "y1")
    c.n("Mod", [a, b], "y2", fmod=1)
    c.out("y0", "y1", "y2", dtype=I32)

    c = Case("pow_sqrt_reciprocal_abs")
    x = c.n("Abs", [c.x("x", [3, 5])], "a")
    x = c.n("Pow", [x, c.w("e", 1.5)], "p")
    x = c.n("Add", [x, c.w("eps", 0.1)], "s")
    x = c.n("Sqrt", [x], "q")
    c.n("Reciprocal", [x])
    c.out("y")

    c = Case("transcendental")
    x = c.x("x", [4, 7])
    for i, op in enumerate(("Exp", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Softplus")):
        c.n(op, [x], f"y{i}")
    c.n("Abs", [x], "a")
    c.n("Log", ["a"], "y7")
    c.out(*(f"y{i}" for i in range(8)))

    c = Case("activations")
    x = c.x("x", [3, 8])
    nodes = [("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Elu", {"alpha": 0.5}), ("Selu", {}),
             ("HardSigmoid", {"alpha": 0.3}), ("HardSwish", {}), ("Softsign", {}), ("ThresholdedRelu", {"alpha": 0.7}),
             ("Celu", {"alpha": 1.3}), ("Mish", {})]  # fmt: skip
    c.opset = 18
    for i, (op, attrs) in enumerate(nodes):
        c.n(op, [x], f"y{i}", **attrs)
    c.out(*(f"y{i}" for i in range(len(nodes))))

    c = Case("gelu_both", opset=20)
    x = c.x("x", [2, 9])
    c.n("Gelu", [x], "y0")
    c.n("Gelu", [x], "y1", approximate="tanh")
    c.out("y0", "y1")

    c = Case("gelu_by_hand", opset=13)
    x = c.x("x", [2, 9])
    e = c.n("Div", [x, c.w("sqrt2", np.sqrt(2.0))], "d")
    e = c.n("Erf", [e], "e")
    e = c.n("Add", [e, c.w("one", 1.0)], "s")
    e = c.n("Mul", [x, e], "m")
    c.n("Mul", [e, c.w("half", 0.5)])
    c.out("y")

    c = Case("prelu_channel_slope")
    c.n("PRelu", [c.x("x", [2, 3, 4, 2]), c.w("s", (3, 1, 1))])
    c.out("y")

    c = Case("clip_opset6_attributes", opset=7)
    c.n("Clip", [c.x("x", [3, 5])], min=0.0, max=0.8)
    c.out("y")

    c = Case("clip_opset11_missing_min", opset=11)
    c.n("Clip", [c.x("x", [3, 5]), "", c.w("hi", 0.3)])
    c.out("y")

    c = Case("clip_opset13_runtime_bounds", opset=13)
    c.n("Clip", [c.x("x", [3, 5]), c.x("lo", [], data=-0.25), c.x("hi", [], data=0.75)])
    c.out("y")

    c = Case("softmax_opset11_flattens", opset=11)
    c.n("Softmax", [c.x("x", [2, 3, 4])], axis=1)
    c.out("y")

    c = Case("softmax_opset13_axis", opset=13)
    c.n("Softmax", [c.x("x", [2, 3, 4])], axis=1)
    c.out("y")

    c = Case("log_softmax_extreme", opset=13)
    c.n("LogSoftmax", [c.x("x", [2, 4], data=[[100, -100, 0, 88], [-1e4, -1e4, -1e4, 1e-3]])])
    c.out("y")

    c = Case("reduce_axes_attribute", opset=12)
    x = c.x("x", [2, 3, 4, 5])
    c.n("ReduceMean", [x], "y0", axes=[1, -1], keepdims=0)
    c.n("ReduceSum", [x], "y1", axes=[2])
    c.n("ReduceMax", [x], "y2", keepdims=0)
    c.out("y0", "y1", "y2")

    c = Case("reduce_axes_input", opset=18)
    x = c.x("x", [2, 3, 4, 5])
    c.n("ReduceMean", [x, c.w("a", [2, 3], I64)], "y0")
    c.n("ReduceSum", [x, c.w("none", [], I64)], "y1", noop_with_empty_axes=1)
    c.n("ReduceMin", [x, c.w("b", [0], I64)], "y2", keepdims=0)
    c.out("y0", "y1", "y2")

    c = Case("reduce_others", opset=18)
    x, a = c.x("x", [3, 4, 2]), c.w("a", [1], I64)
    ops = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare", "ReduceProd")
    for i, op in enumerate(ops):
        c.n(op, [x, a], f"y{i}")
    c.out(*(f"y{i}" for i in range(len(ops))))

    c = Case("arg_max_last_index_topk")
    x = c.x("x", [3, 6], data=[[1, 5, 5, 2, 5, 0], [0, 0, 0, 0, 0, 0], [-1, -2, -3, -1, -5, -6]])
    c.n("ArgMax", [x], "y0", axis=1, keepdims=0, select_last_index=1)
    c.n("ArgMin", [x], "y1", axis=-1)
    c.n("TopK", [x, c.w("k", [3], I64)], ["y2", "y3"], axis=-1)
    c.out("y0", "y1", "y3", dtype=I64).out("y2")

    c = Case("where_compare_logic")
    a, b = c.x("a", [2, 1, 3]), c.x("b", [4, 3])
    g = c.n("Greater", [a, b], "g")
    e = c.n("LessOrEqual", [a, c.w("z", 0.0)], "l")
    o = c.n("Or", [g, e], "o")
    o = c.n("Not", [o], "nt")
    c.n("Where", [o, a, b])
    c.out("y")

    c = Case("round_sign_ceil_floor", opset=11)
    x = c.x("x", [8], data=[-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 3.49])
    for i, op in enumerate(("Round", "Sign", "Ceil", "Floor")):
        c.n(op, [x], f"y{i}")
    c.out(*(f"y{i}" for i in range(4)))

    c = Case("cast_chain", opset=13)
    x = c.n("Cast", [c.x("x", [7], data=[-1.9, -0.5, 0.0, 0.5, 1.9, 200.7, 3.0])], "i", to=TensorProto.INT32)
    x = c.n("Cast", [x], "h", to=TensorProto.FLOAT16)
    x = c.n("Cast", [x], "b", to=TensorProto.BOOL)
    x = c.n("Cast", [x], "u", to=TensorProto.UINT8)
    c.n("Cast", [x], to=TensorProto.FLOAT)
    c.out("y")

    c = Case("cast_like_is_nan", opset=20)
    x = c.x("x", [4], data=[1.0, np.nan, np.inf, -np.inf])
    n = c.n("IsNaN", [x], "n")
    i = c.n("IsInf", [x], "i", detect_negative=0)
    o = c.n("Xor", [n, i], "o")
    c.n("CastLike", [o, c.w("like", [1.0])])
    c.out("y")

    c = Case("float16_elementwise", opset=14)
    x = c.n("Add", [c.x("a", [3, 5], F16), c.x("b", [5], F16)], "s")
    x = c.n("Sigmoid", [x], "g")
    c.n("Mul", [x, "a"])
    c.out("y", dtype=F16)

    c = Case("float64_matmul", opset=13)
    c.n("MatMul", [c.x("a", [3, 4], np.float64), c.w("b", (4, 2), np.float64)])
    c.out("y", dtype=np.float64)

    c = Case("bfloat16_gemm", opset=13)
    x = c.n("Cast", [c.x("a", [3, 4])], "h", to=TensorProto.BFLOAT16)
    x = c.n("Gemm", [x, c.w("b", (4, 2), BF16)], "g")
    c.n("Cast", [x], to=TensorProto.FLOAT)
    c.out("y")


# ---------------------------------------------------------------- graph features


def features():
    c = Case("shape_arithmetic")
    x = c.x("x", ["batch", 3, "h", 4])
    s = c.n("Shape", [x], "s")
    b = c.n("Gather", [s, c.w("zero", 0, I64)], "b", name="batch")
    h = c.n("Gather", [s, c.w("two", 2, I64)], "h0", name="height")
    h = c.n("Mul", [h, c.w("four", 4, I64)], "h1")
    b = c.n("Unsqueeze", [b, c.w("ax", [0], I64)], "bu")
    h = c.n("Unsqueeze", [h, "ax"], "hu")
    s = c.n("Concat", [b, c.w("three", [3], I64), h], "ns", axis=0)
    c.n("Reshape", [x, s])
    c.extents = [{"batch": 2, "h": 5}, {"batch": 1, "h": 3}]
    c.out("y")

    c = Case("symbolic_dims_conv")
    c.n("Conv", [c.x("x", ["n", 3, "h", "w"]), c.w("w0", (4, 3, 3, 3))], "c", pads=[1, 1, 1, 1], strides=[2, 2])
    c.n("GlobalAveragePool", ["c"])
    c.extents = [{"n": 1, "h": 8, "w": 7}, {"n": 3, "h": 5, "w": 6}]
    c.out("y")

    c = Case("unnamed_dims", opset=13)
    c.x("x", [None, 4])
    c.n("Softmax", ["x"], axis=-1)
    c.extents = [{None: 3}, {None: 1}]
    c.out("y")

    c = Case("unused_initializer_input_and_dead_node", opset=8)
    c.ir_version = 3
    c.also_inputs = ["b"]
    c.n("Add", [c.x("x", [2, 3]), c.w("b", (3,))], name="kept")
    c.n("Exp", ["x"], "dead", name="dropped")
    c.out("y")

    c = Case("initializer_overridable", opset=13)
    c.also_inputs = ["scale"]
    c.n("Mul", [c.x("x", [4]), c.w("scale", [2.0])])
    c.out("y")

    c = Case("output_is_input_and_constant", opset=13)
    c.x("x", [2, 2])
    c.n("Constant", [], "k", value=numpy_helper.from_array(np.float32([1, 2, 3])))
    c.n("Identity", ["x"], "y")
    c.out("y", "k")

    c = Case("constant_forms", opset=13)
    c.n("Constant", [], "a", value_float=2.0)
    c.n("Constant", [], "b", value_floats=[1.0, 2.0, 3.0])
    c.n("Constant", [], "s", value_ints=[2, 3])
    k = c.n("ConstantOfShape", ["s"], "z", value=numpy_helper.from_array(np.float32([0.5])))
    x = c.n("Add", [c.x("x", [2, 3]), k], "p")
    x = c.n("Mul", [x, "a"], "q")
    c.n("Sub", [x, "b"])
    c.out("y")

    c = Case("range_one_hot", opset=13)
    r = c.n("Range", [c.w("r0", 0, I64), c.w("r1", 5, I64), c.w("r2", 2, I64)], "r")
    h = c.n("OneHot", [r, c.w("d", 5, I64), c.w("v", [0.0, 1.0])], "h", axis=-1)
    c.n("MatMul", [h, c.x("x", [5, 3])])
    c.out("y")

    c = Case("dropout_identity_inference", opset=13)
    x = c.n("Dropout", [c.x("x", [2, 3]), c.w("ratio", 0.5)], "d")
    c.n("Identity", [x])
    c.out("y")

    c = Case("names_missing_and_repeated")
    x = c.n("Relu", [c.x("x", [2, 3])], "a", name="")
    x = c.n("Neg", [x], "b", name="same")
    c.n("Exp", [x], name="same")
    c.out("y")

    c = Case("function_proto", opset=17)
    c.domains = {"local": 1}
    body = [
        helper.make_node("Constant", [], ["k"], "k", value_float=0.25),
        helper.make_node("Mul", ["X", "k"], ["m"], "scale"),
        helper.make_node("LeakyRelu", ["m"], ["Y"], "act"),
    ]
    body[2].attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    made = helper.make_function("local", "ScaledAct", ["X"], ["Y"], body, [helper.make_opsetid("", 17)], ["slope"])
    outer = helper.make_function(
        "local", "Twice", ["X"], ["Y"],
        [helper.make_node("ScaledAct", ["X"], ["t"], "first", domain="local", slope=0.1),
         helper.make_node("ScaledAct", ["t"], ["Y"], "second", domain="local", slope=0.3)],
        [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)], [],
    )  # fmt: skip
    c.functions = [made, outer]
    c.n("Twice", [c.x("x", [2, 3])], "t", name="outer", domain="local")
    c.n("ScaledAct", ["t"], name="inner", domain="local", slope=0.5)
    c.out("y")

    c = Case("external_data")
    c.external = True
    c.n("Gemm", [c.x("x", [2, 6]), c.w("w", (6, 4)), c.w("b", (4,))])
    c.out("y")

    c = Case("typed_fields_not_raw")
    c.typed_fields = True
    c.n("Add", [c.x("x", [3]), c.w("b", [1.0, 2.0, 3.0])])
    c.out("y")

    c = Case("attention_by_hand", opset=13)
    q, k, v = c.x("q", [2, 4, 8]), c.x("k", [2, 5, 8]), c.x("v", [2, 5, 8])
    k = c.n("Transpose", [k], "kt", perm=[0, 2, 1])
    s = c.n("MatMul", [q, k], "s")
    s = c.n("Mul", [s, c.w("scale", 8**-0.5)], "ss")
    p = c.n("Softmax", [s], "p")
    c.n("MatMul", [p, v])
    c.out("y")

    c = Case("attention_opset23", opset=23)
    c.ir_version = 11
    c.n("Attention", [c.x("q", [1, 2, 4, 8]), c.x("k", [1, 2, 5, 8]), c.x("v", [1, 2, 5, 8])])
    c.out("y")

    c = Case("attention_rank3_causal_past", opset=23)
    c.ir_version = 11
    c.n("Attention", [c.x("q", [1, 3, 12]), c.x("k", [1, 3, 6]), c.x("v", [1, 3, 6]), "", c.x("pk", [1, 1, 2, 6]),
                      c.x("pv", [1, 1, 2, 6])],
        ["y", "yk", "yv"], q_num_heads=2, kv_num_heads=1, is_causal=1)
    c.out("y", "yk", "yv")

    c = Case("attention_mask_softcap", opset=23)
    c.ir_version = 11
    c.n("Attention", [c.x("q", [2, 2, 3, 4]), c.x("k", [2, 2, 5, 4]), c.x("v", [2, 2, 5, 3]), c.x("m", [3, 5])],
        softcap=2.0, scale=0.7)
    c.out("y")

    c = Case("rotary_embedding_rank3", opset=23)
    c.ir_version = 11
    c.n("RotaryEmbedding", [c.x("x", [2, 3, 8]), c.w("cos", (5, 2)), c.w("sin", (5, 2)),
                            c.w("p", [[0, 2, 4], [1, 1, 3]], I64)], num_heads=2)
    c.out("y")

    c = Case("residual_block", opset=13)
    x = c.x("x", [1, 4, 5, 5])
    a = c.n("Conv", [x, c.w("w1", (4, 4, 3, 3)), c.w("b1", (4,))], "a", name="res/conv1", pads=[1, 1, 1, 1])
    a = c.n("Relu", [a], "ar", name="res/relu1")
    a = c.n("Conv", [a, c.w("w2", (4, 4, 3, 3))], "b", name="res/conv2", pads=[1, 1, 1, 1])
    a = c.n("Add", [a, x], "s", name="res/add")
    c.n("Relu", [a], name="res/relu2")
    c.out("y")

    c = Case("squeeze_excite", opset=13)
    x = c.x("x", [1, 6, 4, 3])
    p = c.n("ReduceMean", [x], "p", axes=[2, 3])
    p = c.n("Conv", [p, c.w("w1", (2, 6, 1, 1)), c.w("b1", (2,))], "e")
    p = c.n("Relu", [p], "r")
    p = c.n("Conv", [p, c.w("w2", (6, 2, 1, 1))], "g")
    p = c.n("HardSigmoid", [p], "h")
    c.n("Mul", [x, p])
    c.out("y")


def define():
    for family in (movement, elementwise, features):
        family()
