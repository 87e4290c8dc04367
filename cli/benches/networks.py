#!/usr/bin/env python3
"""Well-known networks with random weights as ONNX files with a recorded case each, for latency.py.

    cli/benches/networks.py DIR

Writes MobileNetV2 (1.0, 224), ResNet-18 (224) and DS-CNN-L (the large keyword-spotting network of "Hello Edge", 49x10
features) in the form that training frameworks export: convolution, BatchNormalization, activation as nodes of their own.
Weights are drawn so that activations keep their scale; the recorded outputs are ONNX Runtime's without optimisation.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """A graph under construction; every method appends nodes and returns the name of what they compute."""

    def __init__(self, name, shape, seed=7):
        self.name, self.shape = name, shape
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op, inputs, **attributes):
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x, ins, outs, kernel=(3, 3), stride=(1, 1), groups=1, pads=None):
        """Convolution and BatchNormalization."""
        fan = ins // groups * kernel[0] * kernel[1]
        weight = self.random.normal(0, (2 / fan) ** 0.5, (outs, ins // groups, *kernel))
        pads = pads or [k // 2 for k in kernel] * 2
        x = self.node("Conv", [x, self.weight(weight)], kernel_shape=kernel, strides=stride, group=groups, pads=pads)
        near_one = lambda: self.random.uniform(0.8, 1.2, outs)
        near_zero = lambda: self.random.uniform(-0.1, 0.1, outs)
        statistics = [self.weight(v) for v in (near_one(), near_zero(), near_zero(), near_one())]
        return self.node("BatchNormalization", [x, *statistics])

    def relu(self, x):
        return self.node("Relu", [x])

    def relu6(self, x):
        bounds = [self.weight(np.array(v)) for v in (0.0, 6.0)]
        return self.node("Clip", [x, *bounds])

    def classify(self, x, ins, classes):
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        weight = self.random.normal(0, ins**-0.5, (classes, ins))
        return self.node("Gemm", [x, self.weight(weight), self.weight(np.zeros(classes))], transB=1)

    def model(self, output, classes):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)
        scores = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, classes])
        graph = helper.make_graph(self.nodes, self.name, [image], [scores], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def mobilenet_v2():
    """Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2."""
    net = Network("mobilenet_v2_random", [1, 3, 224, 224])
    x, ins = net.relu6(net.conv("image", 3, 32, stride=(2, 2))), 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outs, count, first_stride in table:
        for index in range(count):
            stride, wide, start = first_stride if index == 0 else 1, ins * expansion, x
            if expansion > 1:
                x = net.relu6(net.conv(x, ins, wide, kernel=(1, 1)))
            x = net.relu6(net.conv(x, wide, wide, stride=(stride, stride), groups=wide))
            x = net.conv(x, wide, outs, kernel=(1, 1))
            if stride == 1 and ins == outs:
                x = net.node("Add", [start, x])
            ins = outs
    x = net.relu6(net.conv(x, ins, 1280, kernel=(1, 1)))
    return net.model(net.classify(x, 1280, 1000), 1000), net.shape


def resnet_18():
    """He et al., "Deep Residual Learning for Image Recognition", 2015, table 1."""
    net = Network("resnet_18_random", [1, 3, 224, 224])
    x = net.relu(net.conv("image", 3, 64, kernel=(7, 7), stride=(2, 2)))
    x, ins = net.node("MaxPool", [x], kernel_shape=(3, 3), strides=(2, 2), pads=[1, 1, 1, 1]), 64
    for outs in (64, 128, 256, 512):
        for index in range(2):
            stride, start = 2 if index == 0 and outs != 64 else 1, x
            x = net.relu(net.conv(x, ins, outs, stride=(stride, stride)))
            x = net.conv(x, outs, outs)
            if stride != 1 or ins != outs:
                start = net.conv(start, ins, outs, kernel=(1, 1), stride=(stride, stride))
            x, ins = net.relu(net.node("Add", [x, start])), outs
    return net.model(net.classify(x, 512, 1000), 1000), net.shape


def ds_cnn_l():
    """Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017, table 9."""
    net = Network("ds_cnn_l_random", [1, 1, 49, 10])
    x = net.relu(net.conv("image", 1, 276, kernel=(10, 4), stride=(2, 1), pads=[4, 1, 5, 2]))
    for stride in ((2, 2), (1, 1), (1, 1), (1, 1), (1, 1)):
        x = net.relu(net.conv(x, 276, 276, stride=stride, groups=276))
        x = net.relu(net.conv(x, 276, 276, kernel=(1, 1)))
    return net.model(net.classify(x, 276, 12), 12), net.shape


def write(folder, build):
    import onnxruntime as ort

    model, shape = build()
    onnx.checker.check_model(model)
    path = folder / f"{model.graph.name}.onnx"
    onnx.save(model, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    scores = ort.InferenceSession(str(path), options).run(None, {"image": image})[0]
    np.savez(folder / f"{model.graph.name}.random.npz", in_0=image, out_0=scores)
    print(path)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for build in (mobilenet_v2, resnet_18, ds_cnn_l):
        write(folder, build)


if __name__ == "__main__":
    main()
