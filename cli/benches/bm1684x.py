"""ResNet-18, MobileNetV2 and VGG-16 in bytes and in half floats on the BM1684X: estimated cycles beside the vendor compiler's,
and how long they take to compile.

    python3 cli/benches/bm1684x.py target/release/adze [FOLDER [TPU_MLIR_LIB]]

Weights are random; batch 1, 224 x 224. In bytes activations are symmetric (u8 behind a ReLU, i8 elsewhere, zero point 0), weights
per channel; in half floats inputs and outputs are such, too.
The vendor's figures are those that its compiler's profile gives for the same networks with the same kind of numbers, from the
vendor's estimator at 1 GHz. Ours come from the formulas in `targets/src/bm1684x/cost.rs` and, where `tpu_mlir/lib` of the
PyPI wheel is given, from the same estimator: every command of the package is handed to it
(`targets/tests/bm1684x/estimate.py`), and a command starts, as in its profile, when its engine is free and the command that
it waits for has ended. Needs `onnx` and `numpy`. Writes the models to FOLDER (default: a temporary one).

With ADZE_SHARED set, a table of those of the shared models that compile, in bytes or in half floats.
"""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The vendor's cycles in bytes and in half floats; of VGG-16 there are none.
VENDOR = {"resnet18": (283_222, 573_863), "mobilenet_v2": (161_336, 551_316), "vgg16": (None, None)}


class Net:
    """A network in the making; a value is a name, in QDQ form with its scale and whether it is unsigned."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count, self.channels = [], [], 0, {"x": 3}

    def name(self, stem):
        self.count += 1
        return f"{stem}_{self.count}"

    def constant(self, array):
        name = self.name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, kind, inputs, **attributes):
        result = self.name(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [result], name=result, **attributes))
        return result

    def finish(self, x, features):
        flat = self.node("Flatten", [self.pool("GlobalAveragePool", x)[0]])
        return self.layer((flat, *x[1:]), 1000, 1, relu=False, features=features)[0]


class Bytes(Net):
    """In QDQ form."""

    kind, x = TensorProto.INT8, ("x", 0.02, False)

    def real(self, value):
        name, scale, unsigned = value
        zero = self.constant(np.array(0, np.uint8 if unsigned else np.int8))
        return self.node("DequantizeLinear", [name, self.constant(np.float32(scale)), zero])

    def stored(self, name, scale, unsigned):
        zero = self.constant(np.array(0, np.uint8 if unsigned else np.int8))
        return self.node("QuantizeLinear", [name, self.constant(np.float32(scale)), zero]), scale, unsigned

    def layer(self, x, channels, kernel, stride=1, group=1, relu=True, features=None):
        """A convolution, or with `features` a matrix product, with its bias and ReLU."""
        inputs = features if features else self.channels[x[0]]
        shape = (channels, inputs // group, kernel, kernel)
        weights = self.random.integers(-127, 128, shape).astype(np.int8)
        scales = (0.01 + 0.01 * self.random.random(channels)).astype(np.float32)
        bias = self.random.integers(-5000, 5000, channels).astype(np.int32)
        zeros = self.constant(np.zeros(channels, np.int8))
        bias_scales = self.constant((np.float32(x[1]) * scales).astype(np.float32))
        bias_zeros = self.constant(np.zeros(channels, np.int32))
        if features:
            weights = weights.reshape(channels, inputs)
        w = self.node("DequantizeLinear", [self.constant(weights), self.constant(scales), zeros], axis=0)
        b = self.node("DequantizeLinear", [self.constant(bias), bias_scales, bias_zeros], axis=0)
        if features:
            y = self.node("Gemm", [self.real(x), w, b], transB=1)
        else:
            pads = [kernel // 2] * 4
            y = self.node("Conv", [self.real(x), w, b], strides=[stride] * 2, pads=pads, group=group)
        if relu:
            y = self.node("Relu", [y])
        spread = 0.02 * np.sqrt(weights[0].size) * 60 * x[1]
        value = self.stored(y, np.float32(spread / 40), relu)
        self.channels[value[0]] = channels
        return value

    def add(self, a, b, relu):
        y = self.node("Add", [self.real(a), self.real(b)])
        if relu:
            y = self.node("Relu", [y])
        # A power of two, so that the quotient by it is exact and the sum the model's for every pair of bytes.
        value = self.stored(y, np.float32(2 ** np.ceil(np.log2(1.2 * max(a[1], b[1])))), relu)
        self.channels[value[0]] = self.channels[a[0]]
        return value

    def pool(self, kind, x, **attributes):
        value = self.stored(self.node(kind, [self.real(x)], **attributes), x[1], x[2])
        self.channels[value[0]] = self.channels[x[0]]
        return value


class Halves(Net):
    """In half floats; a ReLU that ends at 6 takes as long whatever it ends at."""

    kind, x = TensorProto.FLOAT16, ("x",)

    def layer(self, x, channels, kernel, stride=1, group=1, relu=True, features=None):
        inputs = features if features else self.channels[x[0]]
        shape = (channels, inputs // group, kernel, kernel)
        weights = (self.random.standard_normal(shape) / np.sqrt(inputs // group * kernel * kernel)).astype(np.float16)
        bias = self.constant(self.random.standard_normal(channels).astype(np.float16))
        if features:
            y = self.node("Gemm", [x[0], self.constant(weights.reshape(channels, inputs)), bias], transB=1)
        else:
            operands = [x[0], self.constant(weights), bias]
            y = self.node("Conv", operands, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group)
        value = (self.bounded(y) if relu else y,)
        self.channels[value[0]] = channels
        return value

    def bounded(self, y):
        if not self.six:
            return self.node("Relu", [y])
        return self.node("Clip", [y, *(self.constant(np.float16(bound)) for bound in (0, 6))])

    def add(self, a, b, relu):
        y = self.node("Add", [a[0], b[0]])
        value = (self.bounded(y) if relu else y,)
        self.channels[value[0]] = self.channels[a[0]]
        return value

    def pool(self, kind, x, **attributes):
        value = (self.node(kind, [x[0]], **attributes),)
        self.channels[value[0]] = self.channels[x[0]]
        return value


def resnet18(net, x):
    net.six = False
    x = net.layer(x, 64, 7, 2)
    x = net.pool("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for width, first in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        for stride in (first, 1):
            y = net.layer(net.layer(x, width, 3, stride), width, 3, relu=False)
            short = x if stride == 1 and net.channels[x[0]] == width else net.layer(x, width, 1, stride, relu=False)
            x = net.add(short, y, True)
    return net.finish(x, 512)


def mobilenet_v2(net, x):
    net.six = True
    x = net.layer(x, 32, 3, 2)
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, width, repeat, first in blocks:
        for index in range(repeat):
            stride = first if index == 0 else 1
            channels = net.channels[x[0]]
            wide = channels * expand
            y = net.layer(x, wide, 1) if expand != 1 else x
            y = net.layer(net.layer(y, wide, 3, stride, group=wide), width, 1, relu=False)
            x = net.add(x, y, False) if stride == 1 and channels == width else y
    return net.finish(net.layer(x, 1280, 1), 1280)


def vgg16(net, x):
    net.six = False
    for width, layers in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
        for _ in range(layers):
            x = net.layer(x, width, 3)
        x = net.pool("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    flat = (net.node("Flatten", [x[0]]), *x[1:])
    for features, width in [(25088, 4096), (4096, 4096), (4096, 1000)]:
        flat = net.layer(flat, width, 1, relu=width == 4096, features=features)
    return flat[0]


def build(name, kind, folder):
    net = kind(18)
    output = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2, "vgg16": vgg16}[name](net, net.x)
    x = helper.make_tensor_value_info("x", net.kind, [1, 3, 224, 224])
    y = helper.make_tensor_value_info(output, net.kind, [1, 1000])
    graph = helper.make_graph(net.nodes, name, [x], [y], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / f"{name}_{kind.__name__.lower()}.onnx"
    onnx.save(model, path)
    return path


ESTIMATE = pathlib.Path(__file__).parents[2] / "targets/tests/bm1684x/estimate.py"


def vendor_cycles(adze, package, library):
    """Cycles of a package by the vendor's estimator: of both engines together, of each."""
    listed = subprocess.run([adze, "disasm", package], check=True, capture_output=True, text=True).stdout
    lines = [line.split(maxsplit=2)[2] for line in listed.splitlines() if line[:1] == " "]
    ask = subprocess.run(["python3", ESTIMATE, library], input="\n".join(lines) + "\n", capture_output=True, text=True)
    answers = ask.stdout.split()
    if len(answers) != len(lines) or "-" in answers:
        sys.exit(f"the vendor's estimator refuses a command of {package}: {ask.stderr}")
    streams = [{}, {}]
    for line, cycles in zip(lines, answers):
        form, number, *rest = line.split()
        wait = int(rest[1]) if rest[:1] == ["wait"] else 0
        streams[form.startswith("dma")][int(number)] = (wait, int(cycles))
    ends = [[0], [0]]
    while any(len(ends[e]) <= len(streams[e]) for e in (0, 1)):
        for e in (0, 1):
            wait, cycles = streams[e].get(len(ends[e]), (len(streams[1 - e]) + 1, 0))
            if wait < len(ends[1 - e]):
                ends[e].append(max(ends[e][-1], ends[1 - e][wait] if wait else 0) + cycles)
    return max(ends[0][-1], ends[1][-1]), [sum(cycles for _, cycles in stream.values()) for stream in streams]


def shared_row(adze, model, kind, arguments):
    """A row of the table, from the report of `adze`; nothing for what does not compile or does not run on the chip at all."""
    command = [adze, "report", model, "--target", "bm1684x", "--json", *arguments]
    ask = subprocess.run(command, capture_output=True, text=True)
    if ask.returncode != 0:
        return None
    report = json.loads(ask.stdout)
    lines = [line for line in report["lines"] if line["device"] == report["target"]]
    compute, copies = (sum(line[engine] for line in lines) for engine in ("compute", "copies"))
    full = sum(line["utilisation"] * line["compute"] for line in lines)
    floor, cycles = max(compute, copies), report["cycles"]
    if not floor:
        return None
    moved = sum(line["ddr_bytes"] for line in lines)
    elsewhere = sum(phase["device"] != report["target"] for phase in report["phases"])
    over = f"+{100 * (cycles / floor - 1):.1f} %"
    return (
        f"| `{model.stem}` | {kind} | {cycles:,} | {compute:,} | {copies:,} | {over} | {100 * full / cycles:.1f} % | "
        f"{moved / 1e6:.2f} MB | {elsewhere} | {report['crossing_bytes']:,} |"
    )


def shared_table(adze, folder):
    """What the shared models take, those with recorded inputs in the shapes of the first case."""
    print("| network | type | cycles | compute alone | copies alone | over the larger | MACs | DDR | CPU phases | bytes crossing |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for entry in json.loads((folder / "manifest.json").read_text())["models"]:
        model = folder / entry["file"]
        cases = sorted(folder.glob(f"{entry['name']}.*.npz"))
        case = np.load(cases[0]) if cases else {}
        arguments = []
        for index, value in enumerate(entry.get("inputs", [])):
            extents = case[f"in_{index}"].shape if f"in_{index}" in case else ()
            if extents:
                arguments += ["--shape", f"{value['name']}={','.join(map(str, extents))}"]
        floats = entry["quantisation"].startswith("float")
        arguments += ["--float", "f16"] if floats else []
        row = shared_row(adze, model, "f16" if floats else "int8", arguments)
        if row:
            print(row, flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    adze = sys.argv[1]
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for (name, cycles), (kind, index) in itertools.product(VENDOR.items(), ((Bytes, 0), (Halves, 1))):
        vendor, path = cycles[index], build(name, kind, folder)
        package = path.with_suffix(".bmodel")
        command = [adze, "compile", path, "--target", "bm1684x", "-o", package, "-v"]
        command += ["--float", "f16"] if kind is Halves else []
        start = time.monotonic()
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds = time.monotonic() - start
        print(text, end="")
        cycles = int(re.search(r"(\d+) estimated cycles", text)[1])
        print(f"{path.stem}: {cycles} cycles, compiled in {seconds:.1f} s")
        if vendor is None:
            continue
        print(f"{path.stem}: vendor's compiler {vendor}: {100 * (cycles / vendor - 1):+.1f} %")
        if len(sys.argv) > 3:
            total, (compute, copies) = vendor_cycles(adze, package, sys.argv[3])
            change = f"{100 * (total / vendor - 1):+.1f} %"
            print(f"{path.stem}: {total} by the vendor's estimator, {change}; compute {compute}, copies {copies}")
    if "ADZE_SHARED" in os.environ:
        shared_table(adze, pathlib.Path(os.environ["ADZE_SHARED"]) / "models")


main()
