#!/usr/bin/env python3
"""What the e-graph stage takes and what it is worth.

    cli/benches/egraph.py [--adze target/release/adze] [--nets DIR] [--only NAME ...] [--no-search] [--run] [--rounds 3] [--core 1]

DIR holds what shapes.py wrote (default: /var/tmp/adze-shapes, written when it is not there).

- Search: per graph, nodes, milliseconds of the e-graph stage (the passes `integers` and `saturate`, one thread, fastest of three)
  and peak resident memory of the whole command, beside the times that TENSAT and TASO published for their graphs of that name.
  Bounds: 1 s up to 1,000 nodes, 5 s and 1 GB (without weights, which are mapped) for 5,000.
- With --run: time of a call as ratios, on these graphs and on the shared models ($ADZE_SHARED/models), code by `--optimizer
  canonical`, `canonical-integers` (quantized forms too), `greedy` and `joint` in alternating rounds, the fastest call of each;
  modes that make the same program have the same time.
  Bounds: geometric mean of canonical / joint at least 1.25, nas_rnn 1.7; of greedy / joint 1.05, and no model under 0.97, which
  is what rounds differ by.
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import shapes

# Seconds of the search alone, table 1 of Yang et al., "Equality Saturation for Tensor Graph Superoptimization", 2021.
TENSAT = {"bert_base": 1.4, "resnext_50": 0.7, "nasnet_a": 10.6, "nas_rnn": 0.5, "squeezenet": 0.3}
TASO = {"bert_base": 13.6, "resnext_50": 25.3, "nasnet_a": 1226, "nas_rnn": 177, "squeezenet": 16.4}
LIMITS = {"mixed_5000": 5.0, "distinct_5000": 5.0}
MODES = ("canonical", "canonical-integers", "greedy", "joint")
STAGES = ("integers", "saturate")


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def command(args, *words):
    prefix = ["taskset", "-c", str(args.core)] if args.core is not None else []
    return [*prefix, args.adze, *map(str, words)]


def search(args, path):
    """(milliseconds of the stage, peak bytes, nodes before it, what the stage says of its run)"""
    line = command(args, "compile", path, "--target", args.target, "--stop-after", "schedule", "--times", "-o", os.devnull)
    child = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(line)}\n{said}")
    runs = re.findall(r"^([a-z-]+): \w+, (\d+) nodes -> \d+, ([\d.]+) ms(?: \((.*)\))?$", said, re.MULTILINE)
    runs = [(int(nodes), float(ms), detail) for name, nodes, ms, detail in runs if name in STAGES]
    return sum(ms for _, ms, _ in runs), usage.ru_maxrss * 1024, runs[0][0], runs[-1][2]


def searches(args, nets):
    good = True
    print("| graph | nodes | stage ms | peak MB | weights MB | TENSAT ms | TASO ms | |\n|---|---:|---:|---:|---:|---:|---:|---|")
    for path in nets:
        weights = path.stat().st_size
        # Nothing large is loaded here: what a child has at its peak counts what it was forked from.
        ms, peak, nodes, detail = min(search(args, path) for _ in range(3))
        published = [f"{1000 * table[path.stem]:.0f}" if path.stem in table else "" for table in (TENSAT, TASO)]
        print(f"| {path.stem} | {nodes} | {ms:.0f} | {peak / 1e6:.0f} | {weights / 1e6:.0f} | {' | '.join(published)} | {detail} |", flush=True)
        if ms > 1000 * LIMITS.get(path.stem, 1.0) or peak - weights > 1e9:
            print(f"{path.stem}: over its bound", file=sys.stderr)
            good = False
    return good


def bench(args, path, case, mode):
    given = ["--input", case] if case else []
    iterations = args.iters.get(path, 5)
    line = command(args, "bench", path, "--json", "--iters", iterations, "--warmup", 2, "--optimizer", mode, *given)
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError([line for line in done.stderr.splitlines() if line.strip()][-1].strip()[:100])
    found = json.loads(done.stdout)["latency_us"]
    # About a quarter of a second a round.
    args.iters[path] = max(5, min(2000, int(0.25e6 / max(found["median"], 1))))
    return found["min"]


def program(args, path, mode):
    """The planned program: where two modes have the same one, so do they the same code."""
    line = command(args, "compile", path, "--target", args.target, "--stop-after", "planned", "--optimizer", mode)
    done = subprocess.run(line, capture_output=True)
    return hashlib.sha256(done.stdout).hexdigest() if done.stdout else mode


def runs(args, paths):
    good, ratios = True, {}
    print(f"\n| model | {' | '.join(f'{mode} us' for mode in MODES)} | {' | '.join(f'{mode} / joint' for mode in MODES[:-1])} |")
    print(f"|---{'|---:' * (2 * len(MODES) - 1)}|")
    for path, case in paths:
        try:
            bench(args, path, case, "joint")
            rounds = [{mode: bench(args, path, case, mode) for mode in MODES} for _ in range(args.rounds)]
        except RuntimeError as error:
            print(f"| {path.stem} | {error} {'| ' * (2 * len(MODES) - 1)}|", flush=True)
            continue
        best = {mode: min(r[mode] for r in rounds) for mode in MODES}
        programs = {mode: program(args, path, mode) for mode in MODES}
        # Equal programs differ by the machine's mood only.
        best = {mode: min(best[other] for other in MODES if programs[other] == programs[mode]) for mode in MODES}
        ratios[path.stem] = {mode: best[mode] / best["joint"] for mode in MODES[:-1]}
        cells = [f"{best[mode]:.1f}" for mode in MODES] + [f"{ratio:.3f}" for ratio in ratios[path.stem].values()]
        print(f"| {path.stem} | {' | '.join(cells)} |", flush=True)
    means = {mode: geomean([ratio[mode] for ratio in ratios.values()]) for mode in MODES[:-1]}
    print(f"\n{len(ratios)} models, geometric means: {', '.join(f'{mode} / joint {mean:.3f}' for mode, mean in means.items())}")
    slower = [name for name, ratio in ratios.items() if min(ratio.values()) < 0.97]
    bounds = [
        (means["canonical"] >= 1.25, "canonical / joint is under 1.25"),
        (means["greedy"] >= 1.05, "greedy / joint is under 1.05"),
        (ratios.get("nas_rnn", {"canonical": 2})["canonical"] >= 1.7, "nas_rnn is under 1.7"),
        (not slower, f"slower: {', '.join(slower)}"),
    ]
    for holds, what in bounds:
        if not holds:
            print(what, file=sys.stderr)
            good = False
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="target/release/adze")
    parser.add_argument("--target", default="x86_64-linux")
    parser.add_argument("--nets", type=pathlib.Path, default=pathlib.Path("/var/tmp/adze-shapes"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--no-search", action="store_true")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int)
    args = parser.parse_args()
    args.iters = {}
    wanted = lambda name: not args.only or any(word in name for word in args.only)
    nets = []
    for build in shapes.PUBLISHED + shapes.LARGE:
        path = args.nets / f"{build.__name__}.onnx"
        if wanted(path.stem):
            if not path.exists():
                subprocess.run([sys.executable, shapes.__file__, args.nets, path.stem], check=True)
            nets.append(path)
    good = args.no_search or searches(args, nets)
    if args.run:
        paths = [(path, None) for path in nets if path.stem not in LIMITS]
        folder = pathlib.Path(os.environ.get("ADZE_SHARED", "")) / "models"
        for path in sorted(folder.glob("*.onnx")):
            cases = sorted(folder.glob(f"{path.stem}.*.npz"))
            if wanted(path.stem) and cases:
                paths.append((path, cases[0]))
        good &= runs(args, paths)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
