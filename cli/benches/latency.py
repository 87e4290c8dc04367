#!/usr/bin/env python3
"""Single-thread latency of compiled models next to ONNX Runtime's, in one run on one pinned core.

    cli/benches/latency.py --adze target/release/adze --models DIR [--only NAME ...] [--core 1] [--rounds 5]

DIR holds `<model>.onnx` with recorded cases `<model>.<case>.npz` (default: $ADZE_SHARED/models, otherwise testdata/models). Per
model and its first case: outputs of `adze run` are compared with the recorded ones first, and a model that does not
agree gets no time. Then rounds of `adze bench` and of ONNX Runtime (default optimisation, 1 thread) alternate, so that
both see the same state of the machine; per side the median over rounds of the per-round median is taken. Writes a
markdown table; see docs/benchmarks.md.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ABSOLUTE = {"float16": 1e-2}  # of max|ref|; everything else 1e-4
RELATIVE = {"float16": 1e-2}  # of |ref|; everything else 1e-3


def ort_session(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ort_round(session, feeds, seconds):
    """Median microseconds of one run, over about `seconds`."""
    times, stop = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < stop:
        start = time.perf_counter_ns()
        session.run(None, feeds)
        times.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.median(times)


def adze_json(args, command):
    done = subprocess.run([args.adze, *map(str, command)], capture_output=True, text=True, timeout=args.timeout)
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        raise RuntimeError(f"exit {done.returncode}: {last[0].strip()[:90]}")
    return done.stdout


def adze_outputs(args, path, arrays, folder):
    """Runs the recorded case's inputs and returns the outputs, in order."""
    import onnx
    from onnx import numpy_helper

    ins, outs = folder / "in", folder / "out"
    for directory in (ins, outs):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    for i, value in enumerate(arrays["in"]):
        (ins / f"input_{i}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
    adze_json(args, ["run", path, "--inputs", ins, "--outputs", outs])
    return [numpy_helper.to_array(onnx.load_tensor(outs / f"output_{i}.pb")) for i in range(len(arrays["out"]))]


def disagreement(got, wanted, allowed):
    """None, or what is wrong with `got`; `allowed` is an absolute difference that is granted in any case."""
    for i, (a, b) in enumerate(zip(got, wanted)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {i} is {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        # A tie on either side of which two correct sums round apart.
        unit = 1.0 if b.dtype in (np.int8, np.uint8) else 0.0
        limit = ABSOLUTE.get(b.dtype.name, 1e-4) * np.abs(b64).max(initial=0) + RELATIVE.get(b.dtype.name, 1e-3) * np.abs(b64)
        if not (np.abs(a64 - b64) <= np.maximum(limit, max(allowed, unit))).all():
            return f"output {i} differs by {np.nanmax(np.abs(a64 - b64)):.3g}"
    return None


def load_case(path):
    with np.load(path) as data:
        part = lambda key: [data[f"{key}_{i}"] for i in range(sum(n.startswith(f"{key}_") for n in data.files))]
        return {"in": part("in"), "out": part("out")}


def allowed_differences(models):
    """file name of a case -> twice what ONNX Runtime's own optimised run differs by, where the manifest says."""
    manifest = models / "manifest.json"
    if not manifest.exists():
        return {}
    return {
        case["file"]: 2 * (case.get("max_abs_diff_ort_optimised") or 0.0)
        for model in json.loads(manifest.read_text())["models"]
        for case in model["cases"]
    }


def measure(args, path, case, allowed, folder):
    """(adze us, ONNX Runtime us) medians."""
    arrays = load_case(case)
    wrong = disagreement(adze_outputs(args, path, arrays, folder), arrays["out"], allowed.get(case.name, 0.0))
    if wrong:
        raise RuntimeError(wrong)
    session = ort_session(path)
    feeds = dict(zip([i.name for i in session.get_inputs()], arrays["in"]))
    session.run(None, feeds)
    once = ort_round(session, feeds, 0.05)
    seconds = min(2.0, max(0.2, 20 * once / 1e6))
    iterations = max(5, int(seconds * 1e6 / max(once, 1.0) / 2))
    ours, theirs = [], []
    for _ in range(args.rounds):
        bench = ["bench", path, "--json", "--iters", iterations, "--inputs", folder / "in"]
        ours.append(json.loads(adze_json(args, bench))["latency_us"]["median"])
        theirs.append(ort_round(session, feeds, seconds))
    return statistics.median(ours), statistics.median(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="target/release/adze")
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--core", type=int, default=os.cpu_count() - 1, help="the core everything runs on; -1: not pinned")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--json", type=pathlib.Path, help="also write the numbers here")
    args = parser.parse_args()

    if args.core >= 0:
        os.sched_setaffinity(0, {args.core})  # children inherit it
    shared = os.environ.get("ADZE_SHARED")
    models = args.models or (pathlib.Path(shared, "models") if shared else pathlib.Path("testdata/models"))
    allowed = allowed_differences(models)
    rows, left_out = [], []
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-latency-"))
    try:
        for path in sorted(models.glob("*.onnx")):
            cases = sorted(models.glob(f"{path.stem}.*.npz"))
            if not cases or (args.only and path.stem not in args.only):
                continue
            try:
                ours, theirs = measure(args, path, cases[0], allowed, folder)
                rows.append((path.stem, cases[0].name[len(path.stem) + 1 : -4], ours, theirs))
            except (RuntimeError, subprocess.TimeoutExpired, KeyError, ValueError, OSError) as error:
                left_out.append((path.stem, str(error).splitlines()[0][:120]))
            print(f"{path.stem}: {left_out[-1][1] if not rows or rows[-1][0] != path.stem else 'measured'}", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    print("| model | case | adze us | ONNX Runtime us | ratio |\n|---|---|---:|---:|---:|")
    for name, case, ours, theirs in rows:
        print(f"| {name} | {case} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")
    if rows:
        ratios = [ours / theirs for _, _, ours, theirs in rows]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"\n{len(rows)} models: geometric mean {mean:.2f}x, worst {max(ratios):.2f}x of ONNX Runtime's time")
    for name, why in left_out:
        print(f"- not measured: `{name}`: {why}")
    if args.json:
        keys = ("model", "case", "adze_us", "ort_us")
        args.json.write_text(json.dumps([dict(zip(keys, row)) for row in rows], indent=1) + "\n")
    sys.exit(0 if rows else 1)


if __name__ == "__main__":
    main()
