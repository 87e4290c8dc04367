#!/usr/bin/env python3
"""How small `adze quantize --size` or `--budget` makes networks, and what they lose, on labelled data.

    cli/benches/sizes.py --adze target/release/adze [--models DIR] [--only NAME ...] [--size 1/7 1/4 | --budget [--enough 1/7]]
                         [--option WORD ...] [--dreamt N]

Models, data and their halves are those of `quantize.py`. Every model is quantized with the first size that it can be made in, or, with
--budget, to the least bytes that keep the bound of its kind (BOUNDS); --enough says which bytes are few enough. Written is a markdown
table: bytes of the weights of the float network (its normalisations in them) and of those in the object of the integer one (all
constants but biases), their ratio, and that with biases; the metric of both on the half that took no part, the share of it that is kept (of errors and nats: what the inverse
is), seconds, and the products in every format, with the one that would have lost most by fewer bits.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

import quantize as q

#: What a network may lose: of the right classes, by its own shares of them; of the numbers.
BOUNDS = {"classes": "top1=0.7%", "numbers": "sqnr=33dB"}


def quantized(args, path, goals, words, out):
    """The goal that was kept, bytes, and what is said of formats; nothing where none can be."""
    for goal in goals:
        line = [args.adze, "quantize", path, "-o", out, *goal, *words, *args.option]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode == 0:
            numbers = re.search(r"weights (\d+) of (\d+) bytes, (\S+); with biases .* bytes, (\S+)", done.stdout)
            kinds = [m.group(0) for m in re.finditer(r"^(f32|i8|i4|i2): .*$", done.stdout, re.MULTILINE)]
            learned = [m.group(0) for m in re.finditer(r"^.*(stay floats|learned end to end|held back).*$", done.stdout, re.MULTILINE)]
            return goal[1], numbers.groups(), "; ".join([*kinds, *learned]).replace(" products", "")
        why = [text.strip() for text in done.stderr.splitlines() if "found" in text]
        print(f"{path.stem}, {goal[1]}: {' '.join(why)[:200]}", file=sys.stderr)
    return None


def tasks(args):
    """Per model: its name, calibration data (arrays by name, or a list of samples of any shape), words for the command, its kind of bound,
    and the metric of a model as a share."""
    for task in q.TASKS:
        source = args.models / "data" / task.data
        data = q.photographs(source) if source.is_dir() else dict(np.load(source.with_suffix(".npz")))
        arrays = task.prepare(data)
        even, odd = np.arange(0, len(arrays[0]), 2), np.arange(1, len(arrays[0]), 2)
        flat = (lambda a: a) if task.read else (lambda a: a.reshape(-1, a.shape[-1]))
        calib, evaluated = [flat(a[even]) for a in arrays], [flat(a[odd]) for a in arrays]

        def share(path, task=task, data=data, odd=odd, evaluated=evaluated):
            found = q.run_ort(path, evaluated, plain=True)
            if task.read:
                return float((task.read(found, data) == data[task.labels][odd]).mean())
            inputs, found = (a.reshape(len(odd), -1) for a in (evaluated[0], found))
            return q.auc(q.anomaly_scores(found, inputs), data["y"][odd])

        kind = "classes" if task.read else "numbers"
        axis = axis_of(task) if task.read else []
        yield task.model, {f"in_{i}": a for i, a in enumerate(calib)}, [*task.options, *axis], kind, share
    data, images = q.text_lines(args.models)
    truth = [str(text) for text in data["text"][1::2]]
    read = lambda path: 1 - q.character_errors(q.read_texts(q.run_lines(path, images[1::2], plain=True), data), truth).mean()
    yield q.LINES, images[::2], ["--dim", "W=36..1024", "--class-axis", "2"], "classes", read
    ids = np.load(args.models / "data" / "stories_sampled.npz")["x"].astype(np.int64)
    even, path = ids[::2], args.models / f"{q.STORIES}.onnx"
    more = [q.dreamt(path, args.dreamt, ids.shape[1], even[0, 0])] if args.dreamt else []
    calib = {f"in_{i}": a for i, a in enumerate(q.story_feeds(np.concatenate([even, *more])))}
    # Perplexity: a smaller one is better.
    perplexity = lambda path: 1 / float(np.exp(q.told(path, ids[1::2])[1].mean()))
    words = ["--dim", "past=0..256", "--dim", "seq=1..256", "--activation-dtype", "none", "--block", "32", "--class-axis", "2"]
    yield q.STORIES, calib, words, "classes", perplexity


def axis_of(task):
    """Words that say where the classes are: behind the batch where nothing lies behind them."""
    return ["--class-axis", str(task.axis if task.axis >= 0 else 1)]


def main():
    parser = q.arguments(__doc__)
    parser.add_argument("--size", nargs="*", default=["1/7", "1/4"])
    parser.add_argument("--budget", action="store_true", help="least bytes that keep a bound, instead of a size")
    parser.add_argument("--enough", help="with --budget: the share of the bytes that is small enough")
    parser.add_argument("--dreamt", type=int, default=0, help="sequences that the stories model makes to calibrate and learn from too")
    parser.add_argument("--option", action="append", default=[], help="a further word for `adze quantize`; repeatable")
    args = parser.parse_args()
    print("| model | goal | float bytes | bytes | ratio | with biases | float | integers | kept | s | formats |\n" + "|---" * 11 + "|")
    for name, calib, words, kind, share in tasks(args):
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, out, file = args.models / f"{name}.onnx", pathlib.Path(folder, "out.onnx"), pathlib.Path(folder, "calib.npz")
            if isinstance(calib, list):
                file = file.with_suffix("")
                q.save_lines(calib, file)
            else:
                np.savez(file, **calib)
            count = len(calib if isinstance(calib, list) else calib["in_0"])
            words = ["--calib", file, "--samples", str(count), *words]
            goals = [("--budget", BOUNDS[kind])] if args.budget else [("--size", size) for size in args.size]
            if args.budget and args.enough:
                words += ["--enough", args.enough]
            start = time.monotonic()
            made = quantized(args, path, goals, words, out)
            took = time.monotonic() - start
            if made is None:
                print(f"| {name} | none | | | | | | | | | |", flush=True)
                continue
            goal, (after, before, ratio, biases), kinds = made
            base, found = share(path), share(out)
            numbers = f"{before} | {after} | {ratio} | {biases} | {base:.4f} | {found:.4f} | {100 * found / base:.1f} % | {took:.0f}"
            print(f"| {name} | {goal} | {numbers} | {kinds} |", flush=True)


if __name__ == "__main__":
    main()
