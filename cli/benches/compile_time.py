#!/usr/bin/env python3
"""Compile time and peak memory: chains of growing length, and a model with weights in an external file.

    cli/benches/compile_time.py [--adze target/release/adze] [--weights-gb 2.5] [--no-weights] [--model FILE ...]

- Chains of 10 to 3,000 nodes (Conv 3x3 - Relu - Add in turn, few channels): a straight line through the times in log-log
  must have a slope near 1 over the larger half; the script fails over --max-slope.
- Models named with --model (default: mobilenet_v2_f32 of the shared ones, where present): seconds, best of three.
- A chain of MatMuls whose weights are 2.5 GB of seeded noise in an external file, written to a temporary folder: peak
  resident memory must stay under 1.3x of the weights + 200 MB, and the package must have a weights file.
"""

import argparse
import math
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from onnx import TensorProto, helper, numpy_helper

LENGTHS = (10, 30, 100, 300, 1000, 3000)
CHANNELS = 8


def chain(length):
    """Conv - Relu - Add with the value before the Conv, until there are `length` nodes."""
    rng, nodes, weights, value = np.random.default_rng(length), [], [], "x"
    before = value
    for i in range(length):
        kind, out = i % 3, f"v{i}"
        if kind == 0:
            before = value
            noise = (rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 9).astype(np.float32)
            weights.append(numpy_helper.from_array(noise, f"w{i}"))
            nodes.append(helper.make_node("Conv", [value, f"w{i}"], [out], f"conv{i}", pads=[1, 1, 1, 1]))
        elif kind == 1:
            nodes.append(helper.make_node("Relu", [value], [out], f"relu{i}"))
        else:
            nodes.append(helper.make_node("Add", [value, before], [out], f"add{i}"))
        value = out
    return model(f"chain{length}", nodes, ("x", [1, CHANNELS, 12, 10]), (value, [1, CHANNELS, 12, 10]), weights)


def model(name, nodes, x, y, weights):
    info = lambda tensor: helper.make_tensor_value_info(tensor[0], TensorProto.FLOAT, tensor[1])
    graph = helper.make_graph(nodes, name, [info(x)], [info(y)], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made


def write_heavy(folder, gigabytes):
    """MatMuls of 4096x4096 (64 MiB each) with external weights; returns the model's path and the bytes of weights."""
    side = 4096
    each = side * side * 4
    count = max(1, round(gigabytes * 1e9 / each))
    rng, nodes, weights, value = np.random.default_rng(1), [], [], "x"
    with open(folder / "heavy.bin", "wb") as data:
        for i in range(count):
            data.write((rng.random((side, side), np.float32) - 0.5).tobytes())
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[side, side])
            tensor.data_location = TensorProto.EXTERNAL
            for key, entry in (("location", "heavy.bin"), ("offset", i * each), ("length", each)):
                tensor.external_data.add(key=key, value=str(entry))
            weights.append(tensor)
            nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"v{i}"], f"matmul{i}"))
            value = f"v{i}"
    path = folder / "heavy.onnx"
    path.write_bytes(model("heavy", nodes, ("x", [1, side]), (value, [1, side]), weights).SerializeToString())
    return path, count * each


def elsewhere(function, *arguments):
    """Calls in a process of its own: what a child inherits in `ru_maxrss` is this process's peak, which must stay small."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def write_chain(path, length):
    path.write_bytes(chain(length).SerializeToString())


def compile_model(args, path, out):
    """(seconds, peak bytes) of one `adze compile`, from wait4; a peak under this script's own (about 50 MB) shows as that."""
    shutil.rmtree(out, ignore_errors=True)
    line = [args.adze, "compile", str(path), "--target", args.target, "-o", str(out), *args.option]
    start = time.perf_counter()
    child = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if child.returncode != 0:
        sys.exit(f"{' '.join(line)}: exit {child.returncode}\n{errors.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss * 1024


def chains(args, folder):
    """Times the chains; True when growth is linear."""
    print("| nodes | seconds | ms per node | peak MB |\n|---:|---:|---:|---:|")
    times = {}
    for length in LENGTHS:
        path = folder / f"chain{length}.onnx"
        elsewhere(write_chain, path, length)
        best = min(compile_model(args, path, folder / "out") for _ in range(3 if length < 1000 else 1))
        times[length] = best[0]
        print(f"| {length} | {best[0]:.3f} | {1e3 * best[0] / length:.2f} | {best[1] / 1e6:.0f} |", flush=True)
    # The start of the process is a constant: take the shortest chain's time off before the slope.
    larger = [n for n in LENGTHS if n >= 100]
    points = [(math.log(n), math.log(max(times[n] - times[LENGTHS[0]], 1e-3))) for n in larger]
    slope = np.polyfit(*zip(*points), 1)[0]
    print(f"\nslope in log-log from {larger[0]} nodes on: {slope:.2f} (limit {args.max_slope})\n")
    return slope <= args.max_slope


def named_models(args, folder):
    shared = pathlib.Path(os.environ.get("ADZE_SHARED", "")) / "models/mobilenet_v2_f32.onnx"
    for path in args.model or ([shared] if shared.exists() else []):
        seconds = min(compile_model(args, path, folder / "out")[0] for _ in range(3))
        print(f"{path.stem}: {seconds:.2f} s")


def heavy(args, folder):
    """Compiles the model with external weights; True when memory stayed under the limit."""
    path, weight_bytes = elsewhere(write_heavy, folder, args.weights_gb)
    seconds, peak = compile_model(args, path, folder / "out")
    limit = 1.3 * weight_bytes + 200e6
    largest = max((folder / "out").iterdir(), key=lambda f: f.stat().st_size)
    print(f"{weight_bytes / 1e9:.2f} GB of weights: {seconds:.1f} s, peak {peak / 1e9:.2f} GB (limit {limit / 1e9:.2f} GB)")
    print(f"largest file of the package: {largest.name}, {largest.stat().st_size / 1e9:.2f} GB")
    return peak <= limit and largest.suffix not in (".o", ".a")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="target/release/adze")
    parser.add_argument("--target", default="x86_64-linux")
    parser.add_argument("--option", action="append", default=[], help="a further word for `adze compile`; repeatable")
    parser.add_argument("--model", action="append", type=pathlib.Path)
    parser.add_argument("--max-slope", type=float, default=1.2)
    parser.add_argument("--weights-gb", type=float, default=2.5)
    parser.add_argument("--no-weights", action="store_true")
    parser.add_argument("--no-chains", action="store_true")
    parser.add_argument("--dir", type=pathlib.Path, help="where to make the temporary folder (needs 2x of the weights)")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-compile-", dir=args.dir))
    good = True
    try:
        if not args.no_chains:
            good &= chains(args, folder)
        named_models(args, folder)
        if not args.no_weights:
            good &= heavy(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
