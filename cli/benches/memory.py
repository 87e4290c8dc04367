#!/usr/bin/env python3
"""ONNX Runtime's peak memory per model, the number that our arenas stand beside.

    cli/benches/memory.py [--models DIR] [--json FILE] [--adze target/release/adze]

Per model and its first recorded case, in a process of its own: one thread, default graph optimisation, and the CPU
arena told to grow by exactly what is asked for (`arena_extend_strategy = kSameAsRequested`; the default doubles its
regions and would measure the doubling). Two numbers are read from the arena's own log:

- `arena`: bytes by which it grew during a first run with memory patterns off: intermediates, scratch and outputs, after
  its reuse of freed chunks, without weights and inputs. This is the one that we compare with.
- `pattern`: the block which its memory-pattern planner asks for in the second run (static shapes only, without
  outputs); 0 where it made none.

With --adze, `adze report --message-format json` is asked for our arena. See docs/benchmarks.md.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np

MARK = "@@run"


def child(model, case, pattern):
    """Runs the model three times with the arena's log on standard error, a mark before each run."""
    import onnxruntime as ort

    ort.set_default_logger_severity(0)
    ort.set_default_logger_verbosity(5)
    same_as_requested = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 256, "max_dead_bytes_per_chunk": 1}
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(same_as_requested))
    options = ort.SessionOptions()
    options.log_severity_level = 0
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = pattern
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(case) as data:
        feeds = {i.name: data[f"in_{k}"] for k, i in enumerate(session.get_inputs())}
    for _ in range(3):
        os.write(2, f"\n{MARK}\n".encode())
        session.run(None, feeds)


def log_of(model, case, pattern):
    """The arena's log: before the first run, and of each run."""
    line = [sys.executable, __file__, "--child", str(model), str(case), str(int(pattern))]
    done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:120])
    return done.stderr.split(MARK)


def measure(model, case):
    runs = log_of(model, case, pattern=False)
    grew = sum(map(int, re.findall(r"Extended allocation by (\d+) bytes", runs[1])))
    if not grew:
        raise RuntimeError("the arena's log says nothing: another version of ONNX Runtime?")
    second = log_of(model, case, pattern=True)[2]
    return grew, max(map(int, re.findall(r"num_bytes: (\d+)", second)), default=0)


def find(value, key):
    """The first value under `key` anywhere in a JSON document."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        value = list(value.values())
    for inner in value if isinstance(value, list) else []:
        found = find(inner, key)
        if found is not None:
            return found
    return None


def our_arena(adze, model, case):
    """Arena bytes of the compiled model, with its inputs' shapes fixed to the case's; None when it does not compile."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    names = [i.name for i in graph.input if i.name not in weights]
    with np.load(case) as data:
        shapes = [f"{name}={'x'.join(map(str, data[f'in_{i}'].shape))}" for i, name in enumerate(names) if data[f"in_{i}"].ndim]
    line = [adze, "report", str(model), "--message-format", "json", *(a for s in shapes for a in ("--shape", s))]
    done = subprocess.run(line, capture_output=True, text=True)
    return find(json.loads(done.stdout), "arena_bytes") if done.returncode == 0 else None


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], sys.argv[3], sys.argv[4] == "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--adze")
    parser.add_argument("--json", type=pathlib.Path, help="write the numbers here")
    args = parser.parse_args()
    shared = os.environ.get("ADZE_SHARED")
    models = args.models or (pathlib.Path(shared, "models") if shared else pathlib.Path("testdata/models"))

    numbers = {}
    kib = lambda n: "-" if n is None else f"{n / 1024:.1f}"
    print("| model | case | adze KiB | ONNX Runtime KiB | of which pattern block KiB |\n|---|---|---:|---:|---:|")
    for model in sorted(models.glob("*.onnx")):
        cases = sorted(models.glob(f"{model.stem}.*.npz"))
        if not cases:
            continue
        try:
            arena, pattern = measure(model, cases[0])
        except RuntimeError as error:
            print(f"{model.stem}: {error}", file=sys.stderr)
            continue
        case = cases[0].name[len(model.stem) + 1 : -4]
        numbers[model.stem] = {"case": case, "arena_bytes": arena, "pattern_bytes": pattern}
        ours = our_arena(args.adze, model, cases[0]) if args.adze else None
        print(f"| {model.stem} | {case} | {kib(ours)} | {kib(arena)} | {kib(pattern)} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
