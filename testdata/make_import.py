#!/usr/bin/env python3
"""Writes the hand-made graphs: `testdata/import/*.onnx` (valid, one feature each) and `testdata/diag/*.onnx` (not).

    python testdata/make_import.py [NAME ...]

Each graph in `import/` has `<name>.ort.npz` beside it: seeded inputs and what ONNX Runtime computes for them (a graph
with named dimensions also `<name>.ort2.npz`, other extents). Graphs that ONNX Runtime does not run have none and are
listed at the end of a run. Needs the versions in testdata/requirements.txt; the files are the same on every run.

Sizes are small, not square, and do not divide by common tiles.
"""

import pathlib
import sys
import zlib

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_cases import PRODUCER, record

HERE = pathlib.Path(__file__).resolve().parent
IMPORT = HERE / "import"
DIAG = HERE / "diag"

F32, F16, BF16 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
I64, I32, BOOL, U8, I8 = np.dtype(np.int64), np.dtype(np.int32), np.dtype(bool), np.dtype(np.uint8), np.dtype(np.int8)

CASES = {}


class Case:
    """One graph: nodes, inputs (name -> (dtype, shape)), initializers, output names."""

    def __init__(self, name, opset=17):
        assert name not in CASES, name
        CASES[name] = self
        self.name, self.opset, self.ir_version = name, opset, 8 if opset < 19 else 10
        self.nodes, self.inputs, self.inits, self.outputs = [], {}, {}, []
        self.functions, self.domains, self.doc, self.data, self.sparse = [], {}, "", {}, []
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.extents, self.external, self.run = [{}], False, True
        self.output_types = {}

    def x(self, name, shape, dtype=F32, data=None):
        """A graph input; `data` fixes the values of its recorded case."""
        self.inputs[name] = (np.dtype(dtype), list(shape))
        if data is not None:
            self.data[name] = np.asarray(data, dtype)
        return name

    def w(self, name, value, dtype=F32):
        """An initializer: values, or a shape tuple for seeded ones."""
        self.inits[name] = self.random(dtype, value) if isinstance(value, tuple) else np.asarray(value, dtype)
        return name

    def n(self, op, inputs, outputs=("y",), name=None, domain="", **attrs):
        """A node; named after its op and place unless told otherwise."""
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        name = f"{op.lower()}_{len(self.nodes)}" if name is None else name
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name, domain=domain, **attrs))
        return outputs[0] if len(outputs) == 1 else outputs

    def out(self, *names, dtype=None):
        self.outputs += names
        if dtype is not None:
            self.output_types |= {n: np.dtype(dtype) for n in names}
        return self

    def random(self, dtype, shape):
        dtype = np.dtype(dtype)
        if dtype == BOOL:
            return self.rng.random(shape) < 0.5
        if dtype.kind in "iu":
            return self.rng.integers(0 if dtype.kind == "u" else -5, 6, shape).astype(dtype)
        return self.rng.standard_normal(shape).astype(np.float32).astype(dtype)

    def values(self, extents):
        """One recorded case's inputs, named dimensions bound by `extents`."""
        shape = lambda dims: [extents.get(d, d) for d in dims]
        return [self.data[k] if k in self.data else self.random(t, shape(dims)) for k, (t, dims) in self.inputs.items()]

    def model(self):
        elem = helper.np_dtype_to_tensor_dtype
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(k, elem(t), dims) for k, (t, dims) in self.inputs.items()],
            [helper.make_tensor_value_info(n, elem(self.output_types.get(n, F32)), None) for n in self.outputs],
            [numpy_helper.from_array(v, k) for k, v in self.inits.items()],
            doc_string=self.doc,
        )
        imports = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        made = helper.make_model(graph, opset_imports=imports, producer_name=PRODUCER, functions=self.functions)
        made.ir_version = self.ir_version
        if any(n.domain for n in self.nodes):
            return made
        # The checker wants a shape on each output; where inference finds none, the rank stays open (no `shape` field).
        inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
        for mine, theirs in zip(made.graph.output, inferred.graph.output):
            if theirs.type.tensor_type.HasField("shape"):
                mine.CopyFrom(theirs)
        return made


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

    c = Case("dequantize_int4_blocked", opset=21)
    w = ml_dtypes.int4
    c.inits["wq"] = c.rng.integers(-8, 8, (8, 6)).astype(w)
    d = c.n("DequantizeLinear", ["wq", c.w("ws", (2, 6))], "wd", axis=0, block_size=4)
    c.n("MatMul", [c.x("x", [3, 8]), d])
    c.out("y")

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
    c.ir_version = 3  # initializers are graph inputs too
    c.n("Add", [c.x("x", [2, 3]), c.w("b", (3,))], name="kept")
    c.n("Exp", ["x"], "dead", name="dropped")
    c.out("y")

    c = Case("initializer_overridable", opset=13)
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


# ---------------------------------------------------------------- writing


def write(case):
    """Writes one case; returns why it has no recorded outputs, or None."""
    path = IMPORT / f"{case.name}.onnx"
    made = case.model()
    if case.name == "typed_fields_not_raw":
        made.graph.initializer[0].ClearField("raw_data")
        made.graph.initializer[0].float_data.extend([1.0, 2.0, 3.0])
    if case.name == "unused_initializer_input_and_dead_node":
        made.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]))
    if case.name == "initializer_overridable":
        made.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    if case.external:
        externalize(made, IMPORT / f"{case.name}.bin")
        onnx.save(made, path)
    else:
        path.write_bytes(made.SerializeToString(deterministic=True))
    for i, extents in enumerate(case.extents):
        try:
            inputs = case.values(extents)
            if case.name == "initializer_overridable":
                record_without_defaults(path, inputs)
            else:
                record(path, "ort" if i == 0 else f"ort{i + 1}", inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no base
            return str(error).splitlines()[0][:160]
    return None


def record_without_defaults(path, inputs):
    """As `record`, for a graph whose last inputs have initializers as defaults: they are not inputs of the case."""
    from onnx_cases import save_npz
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs)))
    save_npz(path.with_suffix(".ort.npz"), {f"in_{i}": a for i, a in enumerate(inputs)} | {f"out_{i}": a for i, a in enumerate(outputs)})


def externalize(made, file):
    """Moves the initializers to `file`, each at its own 64-byte boundary."""
    blob = b""
    for tensor in made.graph.initializer:
        blob += b"\0" * (-len(blob) % 64)
        raw = tensor.raw_data
        for key, value in (("location", file.name), ("offset", len(blob)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        blob += raw
    file.write_bytes(blob)


# ---------------------------------------------------------------- broken and unsupported


def diagnostics():
    """Graphs that must end in a clear error: (file name, bytes)."""
    F = TensorProto.FLOAT
    info = helper.make_tensor_value_info

    def graph(nodes, inputs=(("x", F, [2, 3]),), outputs=(("y", F, [2, 3]),), inits=(), opset=17, domains=()):
        made = helper.make_graph(nodes, "diag", [info(*i) for i in inputs], [info(*o) for o in outputs], list(inits))
        imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
        model = helper.make_model(made, opset_imports=imports, producer_name=PRODUCER)
        model.ir_version = 8
        return model.SerializeToString(deterministic=True)

    node = helper.make_node
    constant = lambda name, value: numpy_helper.from_array(np.asarray(value), name)
    relu = graph([node("Relu", ["x"], ["y"], "relu")])

    yield "unsupported_two_ops", graph(
        [
            node("Frobnicate", ["x"], ["a"], "block/frob", domain="com.example"),
            node("Relu", ["a"], ["b"], "block/relu"),
            node("StringNormalizer", ["b"], ["y"], "block/strings"),
        ],
        domains=["com.example"],
    )
    yield "unsupported_resize_mode", graph(
        [node("Resize", ["x", "roi", "", "sizes"], ["y"], "head/up", mode="linear",
              coordinate_transformation_mode="tf_crop_and_resize")],
        [("x", F, [1, 1, 4, 4])], [("y", F, [1, 1, 6, 6])],
        [constant("roi", np.float32([0, 0, 0, 0, 1, 1, 1, 1])), constant("sizes", np.int64([1, 1, 6, 6]))],
    )  # fmt: skip
    yield "unsupported_opset", graph([node("Relu", ["x"], ["y"], "relu")], opset=4)
    yield "unsupported_domain_opset_missing", graph([node("Gelu", ["x"], ["y"], "g", domain="com.microsoft")])
    yield "unsupported_dtype_string", graph([node("Identity", ["x"], ["y"], "id")], [("x", TensorProto.STRING, [2])],
                                            [("y", TensorProto.STRING, [2])])
    yield "unsupported_training_batch_norm", graph(
        [node("BatchNormalization", ["x", "s", "s", "s", "s"], ["y", "m", "v"], "bn", training_mode=1)],
        inits=[constant("s", np.ones(3, np.float32))],
    )
    yield "broken_unknown_attribute", graph([node("Conv", ["x", "w"], ["y"], "conv", kernel_shape=[1, 1], sparkle=3)],
                                            [("x", F, [1, 1, 4, 4])], [("y", F, [1, 1, 4, 4])],
                                            [constant("w", np.ones((1, 1, 1, 1), np.float32))])
    yield "broken_attribute_type", graph([node("Softmax", ["x"], ["y"], "softmax", axis=1.5)])
    yield "broken_undefined_value", graph([node("Add", ["x", "ghost"], ["y"], "add")])
    yield "broken_cycle", graph([node("Add", ["x", "b"], ["a"], "first"), node("Relu", ["a"], ["b"], "second"),
                                 node("Neg", ["b"], ["y"], "third")])
    yield "broken_defined_twice", graph([node("Relu", ["x"], ["y"], "one"), node("Neg", ["x"], ["y"], "two")])
    yield "broken_output_missing", graph([node("Relu", ["x"], ["z"], "relu")])
    yield "broken_shape_mismatch", graph([node("MatMul", ["x", "w"], ["y"], "mm")], inits=[constant("w", np.ones((4, 2), np.float32))])
    yield "broken_declared_output_shape", graph([node("Relu", ["x"], ["y"], "relu")], outputs=[("y", F, [6])])
    yield "broken_dtype_mismatch", graph([node("Add", ["x", "k"], ["y"], "add")], inits=[constant("k", np.int64([1]))])
    yield "broken_too_few_inputs", graph([node("Conv", ["x"], ["y"], "conv")], [("x", F, [1, 1, 4, 4])], [("y", F, [1, 1, 4, 4])])
    yield "broken_groups_do_not_divide", graph([node("Conv", ["x", "w"], ["y"], "conv", group=2)], [("x", F, [1, 3, 4, 4])],
                                               [("y", F, [1, 2, 4, 4])], [constant("w", np.ones((2, 1, 1, 1), np.float32))])
    yield "broken_reshape_two_unknown", graph([node("Reshape", ["x", "s"], ["y"], "reshape")], inits=[constant("s", np.int64([-1, -1]))])
    yield "broken_zero_stride", graph([node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2, 2], strides=[0, 1])],
                                      [("x", F, [1, 1, 4, 4])], [("y", F, [1, 1, 3, 3])])
    short = TensorProto(name="w", data_type=F, dims=[2, 3], raw_data=b"\0" * 20)
    yield "broken_tensor_too_short", graph([node("Add", ["x", "w"], ["y"], "add")], inits=[short])
    huge = TensorProto(name="w", data_type=F, dims=[1 << 40, 1 << 40], raw_data=b"")
    yield "broken_tensor_extent_overflow", graph([node("Add", ["x", "w"], ["y"], "add")], inits=[huge])
    negative = TensorProto(name="w", data_type=F, dims=[-2, 3], raw_data=b"\0" * 24)
    yield "broken_tensor_negative_extent", graph([node("Add", ["x", "w"], ["y"], "add")], inits=[negative])
    for name, location in (("missing", "not_there.bin"), ("outside", "../../secret.bin")):
        tensor = TensorProto(name="w", data_type=F, dims=[2, 3], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        yield f"broken_external_data_{name}", graph([node("Add", ["x", "w"], ["y"], "add")], inits=[tensor])
    yield "broken_truncated", relu[: len(relu) - 9]
    yield "broken_not_protobuf", b"GGUF\x03\0\0\0 this is no ONNX file\n"
    yield "broken_empty", b""
    # Field 99 as a group, nested 200 deep: the generated decoder would recurse.
    yield "broken_nested_groups", relu + b"\x9b\x06" * 200 + b"\x9c\x06" * 200
    yield "broken_varint_overlong", b"\x08" + b"\xff" * 11
    yield "broken_length_past_end", b"\x3a\xff\xff\xff\xff\x0f" + relu[:10]


def main(wanted):
    IMPORT.mkdir(exist_ok=True)
    DIAG.mkdir(exist_ok=True)
    for family in (convolutions, pooling, linear, movement, elementwise, recurrent, quantized, features):
        family()
    unrecorded = []
    for name, case in CASES.items():
        if not wanted or name in wanted:
            why = write(case)
            if why is not None:
                unrecorded.append((name, why))
    for name, data in diagnostics():
        if not wanted or name in wanted:
            (DIAG / f"{name}.onnx").write_bytes(data)
    for name, why in unrecorded:
        print(f"no recorded outputs: {name}: {why}")
    print(f"{len(CASES)} graphs")


if __name__ == "__main__":
    main(sys.argv[1:])
