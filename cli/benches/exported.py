#!/usr/bin/env python3
"""What `adze quantize` exports, in ONNX Runtime and in compiled code: operator by operator, and the network as a whole.

    cli/benches/exported.py --adze target/release/adze [--models DIR] [--only NAME ...] [--digits] [--option WORD ...]

Every model of `quantize.py` (with --digits only the shipped one) is quantized on a few samples. Then the part of the exported model
between integers and the next integers is cut out, for every value that is rounded, and given the same bytes: those that ONNX
Runtime has there. It runs as compiled code, in ONNX Runtime as it comes (optimised: integer kernels), and without its optimiser
(plain: what the graph says in floats, whose sums round). Last the whole network runs on samples.

Written is a markdown table: values that are rounded, and per pair of engines the largest difference of one in units and the share
of numbers that differ; the largest difference of the first output of the whole network in 255ths of its range. Compiled code and the
optimised run differ by a unit at most in an operator, and by a step at most in a network (where softmax and normalisations lie between
integers, by what the two runs of ONNX Runtime differ at most), or the exit status is 1.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

import quantize as q

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Words that make quantizing fast: how weights are rounded is nothing to the arithmetic.
QUICK = ["--rounding", "nearest", "--method", "minmax"]


def run_ort(model, feeds, plain):
    return q.session_of(model, plain).run(None, feeds)


def run_adze(adze, model, arrays, folder):
    """All outputs of compiled code for one call."""
    ins, outs = folder / "in", folder / "out"
    for part in (ins, outs):
        shutil.rmtree(part, ignore_errors=True)
    ins.mkdir()
    for i, array in enumerate(arrays):
        (ins / f"input_{i}.pb").write_bytes(numpy_helper.from_array(np.ascontiguousarray(array)).SerializeToString())
    done = subprocess.run([adze, "run", model, "--inputs", ins, "--outputs", outs], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-400:])
    return numpy_helper.to_array(onnx.load_tensor(outs / "output_0.pb"))


def parts_of(graph):
    """Per rounded value: its name, the integers and inputs it is made of, and the nodes between."""
    makers = {output: node for node in graph.node for output in node.output}
    constants, inputs = {i.name for i in graph.initializer}, {i.name for i in graph.input}
    rounded = [node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    for target in rounded:
        seen, sources, nodes = set(), [], []

        def visit(value):
            if not value or value in seen or value in constants:
                return
            seen.add(value)
            if value in inputs or (value != target and value in rounded):
                sources.append(value)
                return
            node = makers[value]
            for operand in node.input:
                visit(operand)
            if node not in nodes:
                nodes.append(node)

        visit(target)
        yield target, sources, nodes


def operators(args, path, feeds, folder):
    """Per pair of engines, the largest difference in units and the numbers that differ; how many values and numbers there are."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    types = {v.name: v for v in [*graph.value_info, *graph.input, *graph.output]}
    constants = {i.name: i for i in graph.initializer}
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    rounded = [target for target, _, _ in parts_of(graph)]
    tapped.graph.output.extend(types[name] for name in rounded)
    all_taps = folder / "taps.onnx"
    onnx.save(tapped, all_taps)
    outputs = run_ort(all_taps, feeds, plain=True)[-len(rounded) :]
    values = {**feeds, **dict(zip(rounded, outputs))}
    worst, apart, numbers = np.zeros(3, int), np.zeros(3, int), 0
    part = folder / "part.onnx"
    for target, sources, nodes in parts_of(graph):
        used = [constants[name] for name in dict.fromkeys(i for n in nodes for i in n.input) if name in constants]
        cut = helper.make_graph(nodes, "part", [types[s] for s in sources], [types[target]], used)
        onnx.save(helper.make_model(cut, opset_imports=model.opset_import, ir_version=model.ir_version), part)
        given = {name: values[name] for name in sources}
        plain, optimised = (run_ort(part, given, plain)[0].astype(int) for plain in (True, False))
        ours = run_adze(args.adze, part, [values[name] for name in sources], folder).astype(int)
        differences = [np.abs(a - b) for a, b in ((ours, optimised), (ours, plain), (optimised, plain))]
        worst = np.maximum(worst, [d.max(initial=0) for d in differences])
        apart += [np.count_nonzero(d) for d in differences]
        numbers += ours.size
        if differences[0].max(initial=0) > 1:
            kinds = "+".join(n.op_type for n in nodes if not n.op_type.endswith("Linear"))
            print(f"`{target}` ({kinds}): {differences[0].max()} units", file=sys.stderr)
    return worst, apart, len(rounded), numbers


def measure(args, name, path, arrays, options, folder):
    """A row of the table; whether it keeps the bounds."""
    made = folder / "made.onnx"
    calib = folder / "calib"
    calib.mkdir()
    for index, inputs in enumerate(arrays):
        np.savez(calib / f"{index:03}.npz", **{f"in_{i}": a for i, a in enumerate(inputs)})
    subprocess.run([args.adze, "quantize", path, "--calib", calib, "-o", made, *QUICK, *options, *args.option],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    names = [i.name for i in q.session_of(made, plain=True).get_inputs()]
    worst, apart, values, numbers = operators(args, made, dict(zip(names, arrays[0])), folder)
    steps, most = np.zeros(3), 0.0
    for inputs in arrays[: args.whole]:
        feeds = dict(zip(names, inputs))
        ours = run_adze(args.adze, made, inputs, folder)
        optimised, plain = (run_ort(made, feeds, plain)[0] for plain in (False, True))
        most = max(most, float(np.ptp(plain)))
        found = [np.abs(a - b).max() for a, b in ((ours, optimised), (ours, plain), (optimised, plain))]
        steps = np.maximum(steps, found)
    steps *= 255 / max(most, 1e-30)
    cell = lambda k: f"{worst[k]}, {100 * apart[k] / numbers:.4f} %"
    whole = " | ".join(f"{s:.2g}" for s in steps)
    print(f"| {name} | {values} | {cell(0)} | {cell(1)} | {cell(2)} | {whole} |", flush=True)
    return worst[0] <= 1 and steps[0] <= max(1, steps[2])


def shared(args):
    """Name, file, samples (a list of inputs each) and options of every shared model."""
    for task in q.TASKS:
        source = args.models / "data" / task.data
        data = q.photographs(source) if source.is_dir() else dict(np.load(source.with_suffix(".npz")))
        arrays = task.prepare(data)
        if task.read is None:
            arrays = [a[:, 0] for a in arrays]
        pick = np.linspace(0, len(arrays[0]) - 1, args.samples).astype(int)
        yield task.model, args.models / f"{task.model}.onnx", [[a[i : i + 1] for a in arrays] for i in pick], task.options
    data = np.load(args.models / "data" / "text_lines_eng.npz")
    lines = [[data[f"line_{i}"].astype(np.float32) / 127.5 - 1] for i in range(args.samples)]
    yield q.LINES, args.models / f"{q.LINES}.onnx", lines, ["--dim", "W=36..1024"]
    ids = np.load(args.models / "data" / "stories_sampled.npz")["x"].astype(np.int64)
    stories = [q.story_feeds(ids[i : i + 1]) for i in range(min(args.samples, len(ids)))]
    yield q.STORIES, args.models / f"{q.STORIES}.onnx", stories, ["--dim", "past=0..256", "--dim", "seq=1..256"]


def shipped(args):
    images = np.load(ROOT / "testdata/models/digits_calib.npy")[: args.samples].astype(np.float32) / 16
    yield "digits_cnn", ROOT / "testdata/models/digits_cnn.onnx", [[i.reshape(1, 1, 8, 8)] for i in images], []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", type=pathlib.Path, default=ROOT / "target/release/adze")
    folder = os.environ.get("ADZE_SHARED", "../shared")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(folder, "models"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--digits", action="store_true", help="the shipped model instead of the shared ones")
    parser.add_argument("--samples", type=int, default=16, help="samples that calibrate")
    parser.add_argument("--whole", type=int, default=16, help="samples that the whole network runs")
    parser.add_argument("--option", action="append", default=[], help="a further word for `adze quantize`; repeatable")
    args = parser.parse_args()
    pairs = ["adze, optimised", "adze, plain", "optimised, plain"]
    heads = ["model", "rounded values", *(f"operators: {p}" for p in pairs), *(f"network: {p}" for p in pairs)]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    good = True
    for name, path, arrays, options in shipped(args) if args.digits else shared(args):
        if not args.only or name in args.only:
            with tempfile.TemporaryDirectory() as folder:
                good &= measure(args, name, path, arrays, options, pathlib.Path(folder))
    sys.exit(int(not good))


if __name__ == "__main__":
    main()
