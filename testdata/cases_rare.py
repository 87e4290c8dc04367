"""Graphs of `make_import.py`: operators made of others at import, and what operators said before opset 7."""

import numpy as np
from onnx import TensorProto, helper

from onnx_cases import BOOL, I64, Case

F64 = np.dtype(np.float64)


def losses():
    c = Case("nll_loss_weights_ignore", opset=13)
    c.n("NegativeLogLikelihoodLoss",
        [c.x("x", [3, 5, 2]), c.x("t", [3, 2], I64, data=[[0, 4], [-1, 2], [3, 3]]), c.w("w", (5,))],
        ignore_index=-1)
    c.out("y")

    c = Case("nll_loss_none_sum", opset=13)
    x, t = c.x("x", [3, 5]), c.x("t", [3], I64, data=[1, 4, 0])
    c.n("NegativeLogLikelihoodLoss", [x, t], "a", reduction="none")
    c.n("NegativeLogLikelihoodLoss", [x, t], "b", reduction="sum")
    c.out("a", "b")

    c = Case("softmax_cross_entropy_log_prob", opset=13)
    c.n("SoftmaxCrossEntropyLoss", [c.x("x", [3, 5, 2]), c.x("t", [3, 2], I64, data=[[0, 4], [1, 2], [3, 3]])],
        ["y", "p"])
    c.out("y", "p")


def normalisation():
    c = Case("layer_norm_statistics", opset=17)
    c.n("LayerNormalization", [c.x("x", [2, 3, 5]), c.w("s", (3, 5)), c.w("b", (3, 5))], ["y", "m", "d"], axis=1)
    c.out("y", "m", "d")

    c = Case("mean_variance_norm", opset=13)
    c.n("MeanVarianceNormalization", [c.x("x", [2, 3, 4, 5])])
    c.out("y")

    c = Case("dropout_mask", opset=13)
    c.n("Dropout", [c.x("x", [2, 3])], ["y", "m"])
    c.out("y").out("m", dtype=BOOL)


def signal():
    c = Case("dft_axis_padded", opset=17)
    c.n("DFT", [c.x("x", [2, 5, 3, 1]), c.w("n", 8, I64)], axis=1, onesided=1)
    c.out("y")

    c = Case("dft_inverse_complex", opset=20)
    c.n("DFT", [c.x("x", [2, 6, 2])], inverse=1)
    c.out("y")

    c = Case("stft_window", opset=17)
    c.n("STFT", [c.x("x", [2, 20, 1]), c.w("step", 3, I64), c.w("w", (7,))])
    c.out("y")

    c = Case("windows_mel", opset=17)
    x, size = c.x("x", [2, 9]), c.w("n", 9, I64)
    for name in ("Hann", "Hamming", "Blackman"):
        window = c.n(f"{name}Window", [size], f"{name}_window", periodic=int(name == "Hann"))
        c.n("Mul", [x, window], name.lower())
    c.n("MelWeightMatrix", [c.w("bands", 5, I64), c.w("points", 32, I64), c.w("rate", 8000, I64),
                            c.w("low", 100.0), c.w("high", 4000.0)], "mel")
    c.out("hann", "hamming", "blackman", "mel")


def sampling():
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            c = Case(f"grid_sample_{mode}_{padding}", opset=20)
            grid = np.random.default_rng(3).uniform(-1.6, 1.6, (2, 3, 5, 2))
            c.n("GridSample", [c.x("x", [2, 3, 4, 6]), c.x("g", [2, 3, 5, 2], data=grid)], mode=mode,
                padding_mode=padding, align_corners=int(mode == "cubic"))
            c.out("y")

    c = Case("grid_sample_volume", opset=20)
    grid = np.random.default_rng(4).uniform(-1.2, 1.2, (1, 2, 2, 3, 3))
    c.n("GridSample", [c.x("x", [1, 2, 3, 4, 5]), c.x("g", [1, 2, 2, 3, 3], data=grid)], padding_mode="border")
    c.out("y")

    c = Case("affine_grid", opset=20)
    c.n("AffineGrid", [c.x("t", [2, 2, 3]), c.w("s", [2, 3, 4, 5], I64)], align_corners=1)
    c.out("y")

    c = Case("roi_align_average", opset=16)
    rois = [[0.5, 0.3, 4.0, 3.5], [1.0, 2.0, 9.0, 8.0], [-3.0, -2.0, 1.0, 1.5]]
    c.n("RoiAlign", [c.x("x", [2, 3, 6, 7]), c.x("r", [3, 4], data=rois), c.x("b", [3], I64, data=[1, 0, 1])],
        output_height=2, output_width=3, sampling_ratio=2, spatial_scale=0.8)
    c.out("y")

    c = Case("deform_conv_groups", opset=19)
    offsets = np.random.default_rng(5).uniform(-1.5, 1.5, (1, 2 * 2 * 9, 4, 3))
    c.n("DeformConv", [c.x("x", [1, 4, 5, 6]), c.w("w", (6, 2, 3, 3)), c.x("o", [1, 36, 4, 3], data=offsets),
                       c.w("b", (6,)), c.x("m", [1, 18, 4, 3])],
        group=2, offset_group=2, pads=[1, 0, 0, 1], strides=[1, 2], kernel_shape=[3, 3])
    c.out("y")


def resampling():
    c = Case("resize_antialias", opset=18)
    x = c.x("x", [1, 2, 7, 9])
    s = c.w("s", [3, 4], I64)
    c.n("Resize", [x, "", "", s], "linear", mode="linear", antialias=1, axes=[2, 3])
    c.n("Resize", [x, "", "", s], "cubic", mode="cubic", antialias=1, axes=[2, 3])
    c.out("linear", "cubic")

    c = Case("resize_crop", opset=18)
    c.n("Resize", [c.x("x", [1, 2, 5, 6]), c.w("r", [0.1, -0.2, 0.8, 0.9]), "", c.w("s", [4, 3], I64)], mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.5, axes=[2, 3])
    c.out("y")

    c = Case("resize_keep_aspect", opset=18)
    x, s = c.x("x", [1, 2, 4, 6]), c.w("s", [7, 8], I64)
    c.n("Resize", [x, "", "", s], "a", mode="nearest", keep_aspect_ratio_policy="not_larger", axes=[2, 3])
    c.n("Resize", [x, "", "", s], "b", mode="linear", keep_aspect_ratio_policy="not_smaller", axes=[2, 3])
    c.out("a", "b")


def control():
    branch = lambda name, op: helper.make_graph(
        [helper.make_node(op, ["x"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])]
    )
    c = Case("if_runtime_condition", opset=17)
    c.x("x", [2, 3])
    c.n("If", [c.x("c", [], BOOL, data=True)], then_branch=branch("t", "Exp"), else_branch=branch("e", "Neg"))
    c.out("y")


def attention():
    c = Case("attention_filled_causal_scores", opset=24)
    c.ir_version = 12
    c.n("Attention", [c.x("q", [2, 4, 2, 4]), c.x("k", [2, 2, 6, 4]), c.x("v", [2, 2, 6, 3]), "", "", "",
                      c.x("n", [2], I64, data=[5, 3])],
        ["y", "", "", "s"], is_causal=1, qk_matmul_output_mode=3)
    c.out("y", "s")

    c = Case("attention_scores_capped", opset=23)
    c.ir_version = 11
    c.n("Attention", [c.x("q", [1, 2, 3, 4]), c.x("k", [1, 2, 5, 4]), c.x("v", [1, 2, 5, 4]),
                      c.x("m", [3, 5], BOOL, data=np.arange(15).reshape(3, 5) % 4 != 1)],
        ["y", "", "", "s"], softcap=1.5, qk_matmul_output_mode=0)
    c.out("y", "s")


def movement():
    c = Case("center_crop_pad", opset=18)
    c.n("CenterCropPad", [c.x("x", [7, 2, 6]), c.w("s", [4, 9], I64)], axes=[0, 2])
    c.out("y")

    c = Case("col2im_strided", opset=18)
    c.n("Col2Im", [c.x("x", [2, 3 * 6, 12]), c.w("i", [5, 6], I64), c.w("b", [2, 3], I64)], strides=[1, 2],
        pads=[0, 1, 0, 1])
    c.out("y")

    c = Case("reverse_sequence", opset=13)
    c.n("ReverseSequence", [c.x("x", [4, 3, 2]), c.x("n", [3], I64, data=[2, 4, 1])])
    c.out("y")

    c = Case("eye_like", opset=13)
    c.n("EyeLike", [c.x("x", [3, 5])], k=-1)
    c.out("y")

    c = Case("tensor_scatter_circular", opset=24)
    c.ir_version = 12
    c.n("TensorScatter", [c.x("x", [2, 5, 3]), c.x("u", [2, 2, 3]), c.x("i", [2], I64, data=[4, 1])], mode="circular")
    c.out("y")

    c = Case("split_empty_part", opset=13)
    x = c.n("Split", [c.x("x", [2, 4, 3]), c.w("s", [3, 0], I64)], ["a", "b"], axis=2)
    a = c.n("Relu", ["a"], "r")
    b = c.n("Exp", ["a"], "e")
    a = c.n("Mul", [a, b], "m")
    c.n("Concat", [a, "b"], axis=2)
    c.out("y")

    c = Case("reduce_bool", opset=20)
    x = c.x("x", [3, 4], BOOL)
    a = c.w("a", [1], I64)
    c.n("ReduceMax", [x, a], "any", keepdims=0)
    c.n("ReduceMin", [x, a], "all")
    c.out("any", "all", dtype=BOOL)


def convolution():
    c = Case("conv_transpose_output_larger", opset=11)
    c.n("ConvTranspose", [c.x("x", [1, 2, 3, 3]), c.w("w", (2, 3, 3, 3))], strides=[3, 2], output_shape=[10, 8])
    c.out("y")


def double():
    c = Case("double_functions", opset=17)
    x = c.x("x", [3, 7], F64, data=np.random.default_rng(8).uniform(0.1, 4.0, (3, 7)))
    for op in ("Exp", "Log", "Tanh", "Sigmoid", "Sin", "Cos", "Softmax"):
        c.n(op, [x], f"{op}_64")
    c.n("Pow", [x, c.w("p", -1.7, F64)], "Pow_64")
    names = ("Exp", "Log", "Tanh", "Sigmoid", "Sin", "Cos", "Softmax", "Pow")
    for name in names:
        c.n("Cast", [f"{name}_64"], name.lower(), to=1)
    c.out(*(name.lower() for name in names))


def float8():
    c = Case("cast_float8", opset=19)
    x = c.x("x", [6, 9], data=np.random.default_rng(6).standard_normal((6, 9)) * 10.0 ** np.arange(-3, 6).reshape(1, 9))
    for code, name in ((17, "e4m3fn"), (18, "e4m3fnuz"), (19, "e5m2"), (20, "e5m2fnuz")):
        c.n("Cast", [c.n("Cast", [x], f"{name}_8", to=code)], name, to=1)
    c.out("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")


def recurrent():
    c = Case("gru_batch_first", opset=14)
    c.n("GRU", [c.x("x", [2, 4, 3]), c.w("w", (1, 15, 3)), c.w("r", (1, 15, 5)), "", "", c.x("h", [2, 1, 5])],
        ["y", "yh"], hidden_size=5, layout=1)
    c.out("y", "yh")


def before_opset_7():
    c = Case("legacy_broadcast", opset=6)
    x = c.x("x", [2, 3, 4])
    c.n("Add", [x, c.w("b", (3,))], "s", broadcast=1, axis=1)
    c.n("Mul", ["s", c.w("f", (4,))], broadcast=1)
    c.out("y")

    c = Case("legacy_network", opset=6)
    x = c.n("Conv", [c.x("x", [1, 3, 6, 5]), c.w("w", (4, 3, 3, 3))], "c", pads=[1, 1, 1, 1])
    x = c.n("BatchNormalization", [x, c.w("s", (4,)), c.w("b", (4,)), c.w("m", (4,)), c.w("v", [0.5, 1.0, 2.0, 0.7])],
            "n", is_test=1)
    x = c.n("PRelu", [x, c.w("slope", (4,))], "p")
    x = c.n("Dropout", [x], "d", is_test=1)
    x = c.n("MaxPool", [x], "q", kernel_shape=[2, 2], strides=[2, 2])
    x = c.n("Flatten", [x], "f")
    c.n("Gemm", [x, c.w("g", (7, 24)), c.w("gb", (7,))], transB=1, broadcast=1)
    c.out("y")


def define():
    for family in (losses, normalisation, signal, sampling, resampling, control, attention, movement, convolution, double, float8, recurrent, before_opset_7):
        family()
