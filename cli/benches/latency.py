#!/usr/bin/env python3
"""Single-thread latency of compiled models next to other engines', in one run on one pinned core.

    cli/benches/latency.py --adze target/release/adze --models DIR [DIR ...] [--only NAME ...] [--cap avx2] [--litert DIR] [--core 1] [--rounds 5]

DIR holds `<model>.onnx` with recorded cases `<model>.<case>.npz` (default: $ADZE_SHARED/models, otherwise testdata/models). Per
model and its first case: outputs of `adze run` and of every peer are compared with the recorded ones first, and what does
not agree gets no time. Then rounds of `adze bench` and of the peers alternate, so that all see the same state of the
machine; a round that got less than nine tenths of the core is repeated. Per side the median over rounds of the per-round
median is taken. Writes a markdown table; see docs/benchmarks.md.

Peers: ONNX Runtime (default optimisation) and, when they are installed, OpenVINO (f32 precision) and LiteRT (XNNPACK), one
thread each; LiteRT with the files that to_tflite.py made, `<model>.tflite` in the folder that `--litert` names.
`--cap avx2` compiles for x86-64-v3 and caps OpenVINO there; ONNX Runtime cannot be capped.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ABSOLUTE = {"float16": 1e-2}  # of max|ref|; everything else 1e-4
RELATIVE = {"float16": 1e-2}  # of |ref|; everything else 1e-3
# The part of the core's time that a round has to get, and how often a round is tried.
SHARE, TRIES = 0.9, 4


class OnnxRuntime:
    """Inputs and outputs bound once, so that a call does nothing but run."""

    name = "ONNX Runtime"

    def __init__(self, path, feeds):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        for port, value in zip(self.session.get_inputs(), feeds):
            self.binding.bind_cpu_input(port.name, np.ascontiguousarray(value))
        for port in self.session.get_outputs():
            self.binding.bind_output(port.name, "cpu")

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def outputs(self, wanted):
        return self.binding.copy_outputs_to_cpu()


class OpenVino:
    """Static shapes and shared input tensors: the best case of the engine."""

    name = "OpenVINO"

    def __init__(self, path, feeds):
        import openvino as ov

        core = ov.Core()
        model = core.read_model(str(path))
        model.reshape({port: list(value.shape) for port, value in zip(model.inputs, feeds)})
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self.request = core.compile_model(model, "CPU", config).create_infer_request()
        self.feeds = [np.ascontiguousarray(value) for value in feeds]
        for index, value in enumerate(self.feeds):
            self.request.set_input_tensor(index, ov.Tensor(value, shared_memory=value.size > 0))
        self.run = self.request.infer

    def outputs(self, wanted):
        return [tensor.data.copy() for tensor in self.request.output_tensors]


class LiteRt:
    """Inputs set once, images channels last as the converter leaves them."""

    name = "LiteRT"
    folder = None

    def __init__(self, path, feeds):
        import onnx
        from ai_edge_litert.interpreter import Interpreter

        file = self.folder / f"{path.stem}.tflite"
        if not file.exists():
            raise FileNotFoundError("not converted")
        self.interpreter = Interpreter(model_path=str(file), num_threads=1)
        self.interpreter.allocate_tensors()
        graph = onnx.load(path, load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        names = [port.name for port in graph.input if port.name not in constants]
        values = dict(zip(names, feeds))
        ports = self.interpreter.get_input_details()
        for port, value in zip(ports, feeds):
            name = port["name"].removeprefix("serving_default_").removesuffix(":0")
            value = values.get(name, value)
            shape = tuple(port["shape"])
            if value.shape != shape and value.ndim > 2:
                value = np.moveaxis(value, 1, -1)
            if value.shape != shape or value.dtype != port["dtype"]:
                raise ValueError(f"input {name} is {port['dtype'].__name__}{list(shape)} there")
            self.interpreter.set_tensor(port["index"], np.ascontiguousarray(value))
        self.run = self.interpreter.invoke

    def outputs(self, wanted):
        """In the layout and integer type of what is wanted."""
        results = [self.interpreter.get_tensor(port["index"]) for port in self.interpreter.get_output_details()]
        for i, (result, want) in enumerate(zip(results, wanted)):
            if result.shape != want.shape and result.ndim > 2:
                result = np.moveaxis(result, -1, 1)
            results[i] = result.astype(want.dtype) if want.dtype.kind == result.dtype.kind == "i" else result
        return results


def peers():
    """The engines that are there."""
    found = [OnnxRuntime] + ([OpenVino] if importlib.util.find_spec("openvino") else [])
    return found + ([LiteRt] if LiteRt.folder else [])


def undisturbed(action, cpu_seconds):
    """What `action` returns, from the try that got the largest part of the core."""
    best = (0.0, None)
    for _ in range(TRIES):
        wall, cpu = time.perf_counter(), cpu_seconds()
        result = action()
        share = (cpu_seconds() - cpu) / max(time.perf_counter() - wall, 1e-9)
        if share > best[0]:
            best = (share, result)
        if share >= SHARE:
            break
    return best[1]


def peer_round(peer, seconds):
    """Microseconds of one run, median and lower quartile, over about `seconds`."""

    def action():
        times, stop = [], time.perf_counter() + seconds
        while len(times) < 5 or time.perf_counter() < stop:
            start = time.perf_counter_ns()
            peer.run()
            times.append((time.perf_counter_ns() - start) / 1e3)
        return statistics.median(times), statistics.quantiles(times, n=4)[0]

    return undisturbed(action, time.process_time)


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    adze_json(args, ["run", path, "--inputs", ins, "--outputs", outs, *machine_options(args)])
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


def machine_options(args):
    return {"avx2": ["--target", "x86_64-v3"], None: []}[args.cap]


def measure(args, path, case, allowed, folder):
    """Median and lower quartile in microseconds by side, adze's first; a peer that does not run or agree is left out with a remark."""
    arrays = load_case(case)
    granted = allowed.get(case.name, 0.0)
    wrong = disagreement(adze_outputs(args, path, arrays, folder), arrays["out"], granted)
    if wrong:
        raise RuntimeError(wrong)
    sides, remarks = [], []
    for kind in peers():
        try:
            peer = kind(path, arrays["in"])
            peer.run()
            wrong = disagreement(peer.outputs(arrays["out"]), arrays["out"], granted)
        except Exception as error:  # each engine has errors of its own
            wrong = str(error).strip().splitlines()[0][:80]
        if wrong:
            remarks.append(f"{kind.name}: {wrong}")
        else:
            sides.append(peer)
    if not sides:
        raise RuntimeError("; ".join(remarks))
    once = min(peer_round(peer, 0.05)[0] for peer in sides)
    seconds = min(2.0, max(0.2, 20 * once / 1e6))
    iterations = max(5, int(seconds * 1e6 / max(once, 1.0) / 2))
    times = {"adze": [], **{peer.name: [] for peer in sides}}
    bench = ["bench", path, "--json", "--iters", iterations, "--inputs", folder / "in", *machine_options(args)]
    for _ in range(args.rounds):
        done = undisturbed(lambda: json.loads(adze_json(args, bench)), children_seconds)
        times["adze"].append((done["latency_us"]["median"], done["latency_us"]["p25"]))
        for peer in sides:
            times[peer.name].append(peer_round(peer, seconds))
    middle = lambda rounds: tuple(map(statistics.median, zip(*rounds)))
    return {name: middle(rounds) for name, rounds in times.items()}, remarks


def peak(args, path, inputs):
    """Multiply-adds a second of one core as `adze bench` measures them, for the machine's line."""
    profile = json.loads(adze_json(args, ["bench", path, "--profile", "--json", "--iters", 5, "--inputs", inputs, *machine_options(args)]))
    return profile["target"], profile["peaks"]["flops"] / 1e9


def table(rows, remarks):
    """Prints what was measured; a ratio is adze's time over a peer's."""
    names = [kind.name for kind in peers()]
    print("| model | case | adze us | " + " | ".join(f"{name} us | ratio" for name in names) + " | to the best |")
    print("|---|---|---:|" + "---:|---:|" * len(names) + "---:|")
    ratios = {name: [] for name in [*names, "the best peer"]}
    for model, case, times in rows:
        times = {name: median for name, (median, _) in times.items()}
        ours, cells = times["adze"], []
        for name in names:
            theirs = times.get(name)
            cells += [f"{theirs:.1f}", f"{ours / theirs:.2f}"] if theirs else ["", ""]
            if theirs:
                ratios[name].append((ours / theirs, model))
        best = ours / min(time for name, time in times.items() if name != "adze")
        ratios["the best peer"].append((best, model))
        print(f"| {model} | {case} | {ours:.1f} | {' | '.join(cells)} | {best:.2f} |")
    print()
    for name, found in ratios.items():
        if found:
            mean = math.exp(statistics.fmean(math.log(ratio) for ratio, _ in found))
            slower = [f"{model} {ratio:.2f}x" for ratio, model in sorted(found, reverse=True) if ratio > 1.05]
            listed = f"; over 1.05x: {', '.join(slower)}" if slower else "; none over 1.05x"
            print(f"{len(found)} models beside {name}: geometric mean {mean:.2f}x{listed}")
    for remark in remarks:
        print(f"- {remark}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="target/release/adze")
    parser.add_argument("--models", type=pathlib.Path, nargs="+")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--cap", choices=["avx2"], help="cap adze and the peers that can be capped")
    parser.add_argument("--litert", type=pathlib.Path, metavar="DIR", help="run `<model>.tflite` of this folder in LiteRT too")
    parser.add_argument("--core", type=int, default=os.cpu_count() - 1, help="the core everything runs on; -1: not pinned")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--json", type=pathlib.Path, help="also write the numbers here")
    args = parser.parse_args()
    LiteRt.folder = args.litert

    if args.core >= 0:
        os.sched_setaffinity(0, {args.core})  # children inherit it
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # as root: other work on the core has to wait
    except PermissionError:
        pass
    if args.cap:
        os.environ["ONEDNN_MAX_CPU_ISA"] = args.cap.upper()
    shared = os.environ.get("ADZE_SHARED")
    folders = args.models or [pathlib.Path(shared, "models") if shared else pathlib.Path("testdata/models")]
    rows, remarks, machine = [], [], None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-latency-"))
    try:
        for models in folders:
            allowed = allowed_differences(models)
            for path in sorted(models.glob("*.onnx")):
                cases = sorted(models.glob(f"{path.stem}.*.npz"))
                if not cases or (args.only and path.stem not in args.only):
                    continue
                try:
                    times, about = measure(args, path, cases[0], allowed, folder)
                    machine = machine or peak(args, path, folder / "in")
                    rows.append((path.stem, cases[0].name[len(path.stem) + 1 : -4], times))
                    remarks += [f"`{path.stem}`: not beside {text}" for text in about]
                    print(f"{path.stem}: measured", file=sys.stderr)
                except (RuntimeError, subprocess.TimeoutExpired, KeyError, ValueError, OSError) as error:
                    remarks.append(f"not measured: `{path.stem}`: {str(error).splitlines()[0][:120]}")
                    print(f"{path.stem}: {remarks[-1]}", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    if machine:
        print(f"{machine[0]}, {machine[1]:.0f} GFLOP/s f32 peak of one core in this run\n")
    table(rows, remarks)
    if args.json:
        args.json.write_text(json.dumps([{"model": m, "case": c, "median_and_p25_us": t} for m, c, t in rows], indent=1) + "\n")
    sys.exit(0 if rows else 1)


if __name__ == "__main__":
    main()
