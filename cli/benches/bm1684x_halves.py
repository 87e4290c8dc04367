"""How much of a network's error on the BM1684X is that of half floats as such.

    ADZE_SHARED=... python3 cli/benches/bm1684x_halves.py target/release/adze [NAME ...]

For each of the shared float networks two versions are compared with the recorded outputs of 32-bit floats: an ideal one, in which
every constant and every tensor between operators is rounded to half floats and everything else is exact to 32 bits (normalisations
folded into the convolutions in front of them, biases of convolutions and matrix products in 32 bits), computed by ONNX Runtime;
and adze's with `--float f16`, on its simulator of the chip. Of both: signal over noise of all outputs together, largest error
over the largest output of the same tensor, and how many values are off by more than 1 % of themselves. Needs `onnx`,
`onnxruntime` and `numpy`.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HALF = np.finfo(np.float16)


def rounded(array):
    return np.clip(array, HALF.min, HALF.max).astype(np.float16).astype(np.float32)


def fold_normalisations(graph, constants, readers):
    """Batch normalisations behind a convolution that nothing else reads become part of it."""
    producers = {output: node for node in graph.node for output in node.output}
    outputs = {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = producers.get(node.input[0])
        if conv is None or conv.op_type != "Conv" or readers[node.input[0]] > 1 or node.input[0] in outputs:
            continue
        if not all(name in constants for name in [conv.input[1], *conv.input[2:3], *node.input[1:5]]):
            continue
        scale, shift, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:5])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        weights = constants[conv.input[1]] * factor.reshape(-1, *[1] * (constants[conv.input[1]].ndim - 1))
        bias = constants[conv.input[2]] if len(conv.input) > 2 else 0
        own = [f"{conv.output[0]}.{part}" for part in ("weights", "bias")]
        constants[own[0]], constants[own[1]] = weights.astype(np.float32), ((bias - mean) * factor + shift).astype(np.float32)
        conv.input[:] = [conv.input[0], *own]
        conv.output[0] = node.output[0]
        graph.node.remove(node)


def ideal(path, shapes):
    """The network with every constant and every tensor between operators rounded to half floats."""
    model = onnx.load(path)
    graph = model.graph
    for value in graph.input:
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            for dim, extent in zip(dims, shapes[value.name]):
                dim.Clear()
                dim.dim_value = extent
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if tensor is not None:
            constants[node.output[0]] = numpy_helper.to_array(tensor)
            graph.node.remove(node)
    readers = collections.Counter(name for node in graph.node for name in node.input)
    fold_normalisations(graph, constants, readers)
    biases = {node.input[2] for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2}
    del graph.initializer[:]
    for name, array in constants.items():
        exact = array.dtype != np.float32 or name in biases
        graph.initializer.append(numpy_helper.from_array(array if exact else rounded(array), name))
    typed = [*graph.value_info, *graph.output]
    floats = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes, names = [], iter(range(10**9))

    def round_to(name):
        raw, half = f"{name}.raw{next(names)}", f"{name}.half{next(names)}"
        nodes.append(helper.make_node("Cast", [raw], [half], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        return raw

    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in constants:
            nodes.append(helper.make_node("Identity", [value.name], [f"{value.name}.raw"]))
            nodes.append(helper.make_node("Cast", [f"{value.name}.raw"], [f"{value.name}.half"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{value.name}.half"], [f"{value.name}.rounded"], to=TensorProto.FLOAT))
    inputs = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT} - set(constants)
    for node in list(graph.node):
        node.input[:] = [f"{name}.rounded" if name in inputs else name for name in node.input]
        at = len(nodes)
        for index, name in enumerate(node.output):
            if name in floats:
                node.output[index] = round_to(name)
        nodes.insert(at, node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def compared(found, expected):
    """Signal over noise in dB, largest error over the largest value, values off by more than 1 % of themselves, all values."""
    signal = noise = 0.0
    worst, off, count = 0.0, 0, 0
    for a, b in zip(found, expected):
        a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
        error = np.abs(a - b)
        signal, noise = signal + (b**2).sum(), noise + (error**2).sum()
        worst = max(worst, error.max() / max(np.abs(b).max(), 1e-30))
        off, count = off + int((error > 1e-2 * np.abs(b)).sum()), count + b.size
    return 10 * np.log10(signal / max(noise, 1e-300)), worst, off, count


def row(adze, folder, entry, case_path):
    case = np.load(case_path)
    names = [value["name"] for value in entry["inputs"]]
    arrays = {name: case[f"in_{index}"] for index, name in enumerate(names)}
    expected = [case[f"out_{index}"] for index in range(sum(key.startswith("out_") for key in case.files))]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    path = folder / entry["file"]
    model = ideal(path, {name: array.shape for name, array in arrays.items()})
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    best = compared(session.run(None, arrays), expected)
    with tempfile.TemporaryDirectory() as made:
        result = pathlib.Path(made) / "outputs.npz"
        command = [adze, "run", path, "--target", "bm1684x", "--float", "f16", "--input", case_path, "--output", result]
        for name, array in arrays.items():
            if array.shape:
                command += ["--shape", f"{name}={','.join(map(str, array.shape))}"]
        ask = subprocess.run(command, capture_output=True, text=True)
        if ask.returncode != 0:
            return f"| `{entry['name']}` | | {best[0]:.0f} dB | | {best[2]:,} of {best[3]:,} | {ask.stderr.strip()[:80]} |"
        stored = np.load(result)
        found = [stored[key] for key in stored.files]
    ours = compared(found, expected)
    return (
        f"| `{entry['name']}` | {ours[0]:.0f} dB | {best[0]:.0f} dB | {100 * ours[1]:.2f} %, {100 * best[1]:.2f} % | "
        f"{ours[2]:,} | {best[2]:,} | {best[3]:,} |"
    )


def main():
    if len(sys.argv) < 2 or "ADZE_SHARED" not in os.environ:
        sys.exit(__doc__)
    folder = pathlib.Path(os.environ["ADZE_SHARED"]) / "models"
    print("| network | adze | ideal | largest error over largest value, adze, ideal | off by more than 1 %, adze | ideal | values |")
    print("|---|---|---|---|---|---|---|")
    for entry in json.loads((folder / "manifest.json").read_text())["models"]:
        if entry["quantisation"] not in ("float32", "float") and not entry["quantisation"].startswith("float"):
            continue
        cases = sorted(folder.glob(f"{entry['name']}.*.npz"))
        if cases and (len(sys.argv) < 3 or entry["name"] in sys.argv[2:]):
            print(row(sys.argv[1], folder, entry, cases[0]), flush=True)


main()
