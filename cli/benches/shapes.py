#!/usr/bin/env python3
"""The graphs that TASO and TENSAT report on, and larger ones, with random weights as ONNX files.

    cli/benches/shapes.py DIR [NAME ...]

BERT-base, ResNeXt-50, NasNet-A, NasRNN, SqueezeNet, VGG-19 and Inception-v3 have the layers of their papers, in the form that
training frameworks export: normalisations, GELU and attention written out, BatchNormalization as a node of its own.
`mixed_5000` draws 5,000 nodes of blocks from those networks in a few widths, as large networks repeat their blocks;
`distinct_5000` gives every block a width of its own. Weights are drawn so that activations keep their scale.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

import networks


class Network(networks.Network):
    """A graph under construction, see networks.py."""

    def constant(self, values, dtype=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def shaped(self, op, x, values, **attributes):
        return self.node(op, [x, self.constant(values, np.int64)], **attributes)

    def number(self, op, x, value):
        return self.node(op, [x, self.constant(value)])

    def window(self, op, x, kernel, stride=1, pad=0, **attributes):
        return self.node(op, [x], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, **attributes)

    def biased(self, x, ins, outs, kernel=3, stride=1, pad=None):
        """Convolution with a bias, without BatchNormalization, and Relu."""
        weight = self.random.normal(0, (2 / (ins * kernel * kernel)) ** 0.5, (outs, ins, kernel, kernel))
        bias = self.weight(self.random.uniform(-0.1, 0.1, outs))
        pads = [kernel // 2 if pad is None else pad] * 4
        made = self.node("Conv", [x, self.weight(weight), bias], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        return self.relu(made)

    def matrix(self, ins, outs):
        # float32 from the start: these are large.
        return self.weight(self.random.standard_normal((ins, outs), np.float32) / np.float32(ins**0.5))

    def linear(self, x, ins, outs):
        return self.node("Add", [self.node("MatMul", [x, self.matrix(ins, outs)]), self.weight(self.random.uniform(-0.1, 0.1, outs))])

    def layer_norm(self, x, width):
        centred = self.node("Sub", [x, self.node("ReduceMean", [x], axes=[-1])])
        variance = self.node("ReduceMean", [self.number("Pow", centred, 2.0)], axes=[-1])
        scaled = self.node("Div", [centred, self.node("Sqrt", [self.number("Add", variance, 1e-5)])])
        gain = self.node("Mul", [scaled, self.weight(self.random.uniform(0.8, 1.2, width))])
        return self.node("Add", [gain, self.weight(self.random.uniform(-0.1, 0.1, width))])

    def gelu(self, x):
        one = self.number("Add", self.node("Erf", [self.number("Div", x, 2**0.5)]), 1.0)
        return self.number("Mul", self.node("Mul", [x, one]), 0.5)

    def transformer(self, x, mask, length, width, heads):
        """An encoder layer, normalised after each half."""
        split = [1, length, heads, width // heads]
        part = lambda perm: self.node("Transpose", [self.shaped("Reshape", self.linear(x, width, width), split)], perm=perm)
        queries, keys, values = part([0, 2, 1, 3]), part([0, 2, 3, 1]), part([0, 2, 1, 3])
        scores = self.number("Div", self.node("MatMul", [queries, keys]), (width // heads) ** 0.5)
        if mask:
            scores = self.node("Add", [scores, mask])
        mixed = self.node("MatMul", [self.node("Softmax", [scores], axis=-1), values])
        mixed = self.shaped("Reshape", self.node("Transpose", [mixed], perm=[0, 2, 1, 3]), [1, length, width])
        x = self.layer_norm(self.node("Add", [self.linear(mixed, width, width), x]), width)
        inner = self.linear(self.gelu(self.linear(x, width, 4 * width)), 4 * width, width)
        return self.layer_norm(self.node("Add", [inner, x]), width)

    def resnext(self, x, ins, inner, outs, stride, groups=32):
        """A block of aggregated transformations."""
        start = x
        x = self.relu(self.conv(x, ins, inner, kernel=(1, 1)))
        x = self.relu(self.conv(x, inner, inner, stride=(stride, stride), groups=groups))
        x = self.conv(x, inner, outs, kernel=(1, 1))
        if stride != 1 or ins != outs:
            start = self.conv(start, ins, outs, kernel=(1, 1), stride=(stride, stride))
        return self.relu(self.node("Add", [x, start]))

    def separable(self, x, ins, outs, kernel, stride=1):
        """Twice Relu, depthwise, pointwise, as in NasNet."""
        for step, width in ((stride, ins), (1, outs)):
            weight = self.weight(self.random.normal(0, 1 / kernel, (width, 1, kernel, kernel)))
            x = self.node("Conv", [self.relu(x), weight], kernel_shape=[kernel] * 2, strides=[step] * 2, group=width, pads=[kernel // 2] * 4)
            x = self.conv(x, width, outs, kernel=(1, 1))
        return x

    def squeeze(self, x, ins, outs, stride=1):
        return self.conv(self.relu(x), ins, outs, kernel=(1, 1), stride=(stride, stride))

    def nas_normal(self, before, now, outs):
        """Figure 4 of the paper, left: both operands have `outs` channels."""
        sep = lambda x, kernel: self.separable(x, outs, outs, kernel)
        average = lambda x: self.window("AveragePool", x, 3, pad=1)
        pairs = [(sep(now, 3), now), (sep(before, 3), sep(now, 5)), (average(now), before)]
        pairs += [(average(before), average(before)), (sep(before, 5), sep(before, 3))]
        return self.node("Concat", [before, *(self.node("Add", list(pair)) for pair in pairs)], axis=1)

    def nas_reduction(self, before, now, outs):
        """Figure 4, right."""
        sep = lambda x, kernel: self.separable(x, outs, outs, kernel, stride=2)
        add = lambda a, b: self.node("Add", [a, b])
        first = add(sep(now, 5), sep(before, 7))
        second = add(self.window("MaxPool", now, 3, 2, 1), sep(before, 7))
        third = add(self.window("AveragePool", now, 3, 2, 1), sep(before, 5))
        fourth = add(self.window("MaxPool", now, 3, 2, 1), self.separable(first, outs, outs, 3))
        return self.node("Concat", [second, third, fourth, add(self.window("AveragePool", first, 3, pad=1), second)], axis=1)

    def finish(self, inputs, outputs):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        given, made = [value(*i) for i in inputs], [value(*o) for o in outputs]
        graph = helper.make_graph(self.nodes, self.name, given, made, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def scores(self, x, ins):
        return self.finish([("image", self.shape)], [(self.classify(x, ins, 1000), [1, 1000])])


def bert_base(layers=12, length=64, width=768, heads=12):
    """Devlin et al., 2018; from embeddings on."""
    net = Network("bert_base", None)
    x = net.layer_norm("embedded", width)
    for _ in range(layers):
        x = net.transformer(x, "mask", length, width, heads)
    return net.finish([("embedded", [1, length, width]), ("mask", [1, 1, 1, length])], [(x, [1, length, width])])


def resnext_50():
    """Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", 2016, 32x4d."""
    net = Network("resnext_50", [1, 3, 224, 224])
    x = net.relu(net.conv("image", 3, 64, kernel=(7, 7), stride=(2, 2)))
    x, ins = net.window("MaxPool", x, 3, 2, 1), 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for index in range(blocks):
            outs = 256 << stage
            x = net.resnext(x, ins, outs // 2, outs, 2 if stage and index == 0 else 1)
            ins = outs
    return net.scores(x, ins)


def nasnet_a(repeats=5, filters=44):
    """Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition", 2017: NASNet-A, the mobile one."""
    net = Network("nasnet_a", [1, 3, 112, 112])
    now = net.conv("image", 3, 32, stride=(2, 2))
    before, now_outs, before_outs, shrinks = now, 32, 32, False

    def fit(before, now, outs):
        stride = 2 if shrinks else 1
        return net.squeeze(before, before_outs, outs, stride), net.squeeze(now, now_outs, outs)

    for stage in range(3):
        outs = filters << stage
        if stage:
            a, b = fit(before, now, outs)
            before, before_outs, now, now_outs, shrinks = now, now_outs, net.nas_reduction(a, b, outs), 4 * outs, True
        for _ in range(repeats):
            a, b = fit(before, now, outs)
            before, before_outs, now, now_outs, shrinks = now, now_outs, net.nas_normal(a, b, outs), 6 * outs, False
    return net.scores(net.relu(now), now_outs)


def nas_rnn(steps=5, width=512):
    """Zoph and Le, "Neural Architecture Search with Reinforcement Learning", 2016, figure 8, as TASO unrolls it."""
    net = Network("nas_rnn", None)
    weights = [(net.matrix(width, width), net.matrix(width, width)) for _ in range(8)]
    state, inputs = "state", [("state", [1, width])]
    for step in range(steps):
        x = f"x{step}"
        inputs.append((x, [1, width]))
        add = lambda a, b: net.node("Add", [a, b])
        mul = lambda a, b: net.node("Mul", [a, b])
        relu, sigmoid, tanh = (lambda a, op=op: net.node(op, [a]) for op in ("Relu", "Sigmoid", "Tanh"))
        t = [add(net.node("MatMul", [x, of_x]), net.node("MatMul", [state, of_state])) for of_x, of_state in weights]
        m = [add(relu(t[0]), sigmoid(t[3])), add(sigmoid(t[1]), tanh(t[2]))]
        m += [mul(sigmoid(t[4]), tanh(t[5])), mul(sigmoid(t[6]), relu(t[7]))]
        m += [add(sigmoid(m[1]), tanh(m[2])), mul(tanh(m[0]), tanh(m[3]))]
        state = tanh(mul(tanh(m[4]), tanh(m[5])))
    return net.finish(inputs, [(state, [1, width])])


def squeezenet():
    """Iandola et al., "SqueezeNet", 2016, table 1."""
    net = Network("squeezenet", [1, 3, 224, 224])
    x, ins = net.window("MaxPool", net.biased("image", 3, 96, 7, 2), 3, 2), 96
    for index, inner in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        s = net.biased(x, ins, inner, 1)
        x, ins = net.node("Concat", [net.biased(s, inner, 4 * inner, 1), net.biased(s, inner, 4 * inner, 3)], axis=1), 8 * inner
        if index in (2, 6):
            x = net.window("MaxPool", x, 3, 2)
    x = net.node("GlobalAveragePool", [net.biased(x, ins, 1000, 1)])
    return net.finish([("image", net.shape)], [(net.node("Flatten", [x]), [1, 1000])])


def vgg_19():
    """Simonyan and Zisserman, 2014, configuration E."""
    net = Network("vgg_19", [1, 3, 224, 224])
    x, ins = "image", 3
    for outs, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            x, ins = net.biased(x, ins, outs), outs
        x = net.window("MaxPool", x, 2, 2)
    x = net.node("Flatten", [x])
    for ins, outs in ((512 * 49, 4096), (4096, 4096)):
        x = net.relu(net.linear(x, ins, outs))
    return net.finish([("image", net.shape)], [(net.linear(x, 4096, 1000), [1, 1000])])


def inception_v3():
    """Szegedy et al., "Rethinking the Inception Architecture", 2015, as torchvision has it."""
    net = Network("inception_v3", [1, 3, 299, 299])

    def conv(x, ins, outs, kernel=(1, 1), stride=1, pads=None):
        return net.relu(net.conv(x, ins, outs, kernel=kernel, stride=(stride, stride), pads=pads))

    def chain(x, ins, *layers):
        for outs, kernel in layers:
            x, ins = conv(x, ins, outs, kernel), outs
        return x

    def average(x, ins, outs):
        return conv(net.window("AveragePool", x, 3, 1, 1, count_include_pad=1), ins, outs)

    concat = lambda *parts: net.node("Concat", list(parts), axis=1)
    one, three, five, wide, high = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
    valid = [0] * 4
    x = conv("image", 3, 32, three, 2, valid)
    x = conv(conv(x, 32, 32, three, 1, valid), 32, 64, three)
    x = net.window("MaxPool", x, 3, 2)
    x = conv(conv(x, 64, 80), 80, 192, three, 1, valid)
    x, ins = net.window("MaxPool", x, 3, 2), 192
    for pooled in (32, 64, 64):
        double = chain(x, ins, (64, one), (96, three), (96, three))
        x = concat(conv(x, ins, 64), chain(x, ins, (48, one), (64, five)), double, average(x, ins, pooled))
        ins = 224 + pooled
    double = conv(chain(x, ins, (64, one), (96, three)), 96, 96, three, 2, valid)
    x, ins = concat(conv(x, ins, 384, three, 2, valid), double, net.window("MaxPool", x, 3, 2)), 768
    for c in (128, 160, 160, 192):
        double = chain(x, ins, (c, one), (c, high), (c, wide), (c, high), (192, wide))
        x = concat(conv(x, ins, 192), chain(x, ins, (c, one), (c, wide), (192, high)), double, average(x, ins, 192))
    first = conv(conv(x, ins, 192), 192, 320, three, 2, valid)
    second = conv(chain(x, ins, (192, one), (192, wide), (192, high)), 192, 192, three, 2, valid)
    x, ins = concat(first, second, net.window("MaxPool", x, 3, 2)), 1280
    for _ in range(2):
        single, double = conv(x, ins, 384), chain(x, ins, (448, one), (384, three))
        parts = [conv(y, 384, 384, kernel) for y in (single, double) for kernel in ((1, 3), (3, 1))]
        x, ins = concat(conv(x, ins, 320), *parts, average(x, ins, 192)), 2048
    return net.scores(x, ins)


def many(name, nodes, widths):
    """Blocks at 14x14 or 16 tokens in turn until there are that many nodes; the two kinds of values meet at the end."""
    net, serial = Network(name, None, seed=11), 0
    image, tokens, ins, width = "image", "tokens", 32, 64
    while len(net.nodes) < nodes:
        outs = widths(serial)
        kind = int(net.random.integers(3))
        if kind == 0:
            image, ins = net.resnext(image, ins, outs, outs, 1, groups=outs // 4), outs
        elif kind == 1:
            image = net.nas_normal(net.squeeze(image, ins, outs), net.squeeze(image, ins, outs), outs)
            ins = 6 * outs
        else:
            tokens = net.transformer(net.linear(tokens, width, 2 * outs), None, 16, 2 * outs, 2)
            width = 2 * outs
        serial += 1
    image = net.node("Flatten", [net.node("GlobalAveragePool", [image])])
    return net.finish([("image", [1, 32, 14, 14]), ("tokens", [1, 16, 64])], [(image, [1, ins]), (tokens, [1, 16, width])])


def mixed_5000():
    return many("mixed_5000", 5000, lambda serial: (16, 24, 32)[serial % 3])


def distinct_5000():
    return many("distinct_5000", 5000, lambda serial: 16 + 4 * (serial % 31))


PUBLISHED = [bert_base, resnext_50, nasnet_a, nas_rnn, squeezenet, vgg_19, inception_v3]
LARGE = [mixed_5000, distinct_5000]


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for build in PUBLISHED + LARGE:
        if len(sys.argv) == 2 or build.__name__ in sys.argv[2:]:
            model = build()
            onnx.checker.check_model(model)
            path = folder / f"{build.__name__}.onnx"
            onnx.save(model, path)
            print(f"{path}: {len(model.graph.node)} nodes", flush=True)


if __name__ == "__main__":
    main()
