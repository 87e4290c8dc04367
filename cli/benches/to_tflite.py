#!/usr/bin/env python3
"""Converts ONNX models to LiteRT's format, so that `latency.py --litert DIR` can run them beside adze.

    tf/bin/python cli/benches/to_tflite.py --models DIR [DIR ...] --out DIR [--only NAME ...]

Wants an environment of its own (`pip install -r cli/benches/converter.txt`), since onnx2tf asks for certain versions of
TensorFlow and ONNX. Extents that a model leaves open are those of its first recorded case `<model>.<case>.npz`. The results
compute in f32 and have images channels last, which LiteRT wants. Prints what was not converted and why; whether a result
computes the same is what latency.py finds out.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx


def extents(path):
    """`name:1,2,3` for every input, from the first recorded case."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [port.name for port in graph.input if port.name not in constants]
    with np.load(sorted(path.parent.glob(f"{path.stem}.*.npz"))[0]) as case:
        return [f"{name}:{','.join(map(str, case[f'in_{i}'].shape))}" for i, name in enumerate(names)]


def convert(path, out, timeout):
    """None, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="adze-tflite-") as folder:
        # Beside this interpreter, which may not be the one that PATH finds.
        command = [str(pathlib.Path(sys.executable).parent / "onnx2tf"), "-i", str(path.resolve()), "-o", folder, "-n"]
        command += ["-ois", *extents(path)]
        # Pictures that onnx2tf compares itself on, and fetches unless they are there; what they show does not matter.
        pictures = np.random.default_rng(1).random((20, 128, 128, 3), np.float32)
        np.save(pathlib.Path(folder, "calibration_image_sample_data_20x128x128x3_float32.npy"), pictures)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=folder)
        except subprocess.TimeoutExpired:
            return f"took more than {timeout} s"
        made = sorted(pathlib.Path(folder).glob("*_float32.tflite"))
        if not made:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line]
            return (lines or [f"exit {done.returncode}"])[-1].strip()[:150]
        shutil.copy(made[0], out / f"{path.stem}.tflite")
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--timeout", type=float, default=300)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for path in (path for folder in args.models for path in sorted(folder.glob("*.onnx"))):
        if (args.only and path.stem not in args.only) or not list(path.parent.glob(f"{path.stem}.*.npz")):
            continue
        wrong = convert(path, args.out, args.timeout)
        count += not wrong
        print(f"{path.stem}: {wrong or 'converted'}", flush=True)
    sys.exit(0 if count else 1)


if __name__ == "__main__":
    main()
