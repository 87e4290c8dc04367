#!/usr/bin/env python3
"""Writes `testdata/diag/*.onnx`: files that must end in a clear error.

    python testdata/make_diag.py

`unsupported_*` are valid ONNX that we do not take (exit 77), `broken_*` are not (exit 1).
"""

import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnx_cases import PRODUCER

DIAG = pathlib.Path(__file__).resolve().parent / "diag"


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
              coordinate_transformation_mode="tf_half_pixel_for_nn")],
        [("x", F, [1, 1, 4, 4])], [("y", F, [1, 1, 6, 6])],
        [constant("roi", np.float32([])), constant("sizes", np.int64([1, 1, 6, 6]))], opset=11,
    )  # fmt: skip
    yield "unsupported_opset", graph([node("Mish", ["x"], ["y"], "mish")], opset=17)
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
    yield "broken_output_named_twice", graph([node("Relu", ["x"], ["y"], "relu")], outputs=[("y", F, [2, 3])] * 2)
    yield "broken_input_named_twice", graph([node("Relu", ["x"], ["y"], "relu")], [("x", F, [2, 3])] * 2)
    yield "broken_extent_too_large", graph([node("Relu", ["x"], ["y"], "relu")], [("x", F, [2, (1 << 63) - 1])])
    yield "broken_pool_pads_too_large", graph(
        [node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2, 2], strides=[2, 2], pads=[(1 << 63) - 1] * 4, ceil_mode=1)],
        [("x", F, [1, 1, 4, 4])], [("y", F, None)],
    )  # fmt: skip
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


def main():
    DIAG.mkdir(exist_ok=True)
    for name, data in diagnostics():
        (DIAG / f"{name}.onnx").write_bytes(data)


if __name__ == "__main__":
    main()
