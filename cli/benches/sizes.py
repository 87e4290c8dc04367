#!/usr/bin/env python3
"""How small `adze quantize --size` makes networks, and what they lose, on labelled data.

    cli/benches/sizes.py --adze target/release/adze [--models DIR] [--only NAME ...] [--size 1/7 1/4] [--option WORD ...]

Models, data and their halves are those of `quantize.py`. Every model is quantized with the first size that it can be made in. Written is
a markdown table: bytes of the constants in the objects of the float network (its normalisations in its weights) and of the integer
one, the metric of both on the half that took no part, the share of it that is kept (of errors and nats: what the inverse is), and the
products in every format, with the one that would have lost most by fewer bits.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

import quantize as q


def quantized(args, path, calib, out, words):
    """The size that was kept, the bytes before and after, and what is said of formats; nothing where no size can be."""
    for size in args.size:
        line = [args.adze, "quantize", path, "--calib", calib, "-o", out, "--size", size, *words, *args.option]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode == 0:
            after, before = map(float, re.search(r"constants (\d+) of (\d+) bytes", done.stdout).groups())
            kinds = [m.group(0) for m in re.finditer(r"^(f32|i8|i4|i2): .*$", done.stdout, re.MULTILINE)]
            return size, before, after, "; ".join(kinds).replace(" products", "")
        why = [text.strip() for text in done.stderr.splitlines() if "found" in text]
        print(f"{path.stem}, {size}: {' '.join(why)[:200]}", file=sys.stderr)
    return None


def tasks(args):
    """Per model: its name, file, calibration data, words for the command, and the metric of a model as text and as a share."""
    for task in q.TASKS:
        source = args.models / "data" / task.data
        data = q.photographs(source) if source.is_dir() else dict(np.load(source.with_suffix(".npz")))
        arrays = task.prepare(data)
        even, odd = np.arange(0, len(arrays[0]), 2), np.arange(1, len(arrays[0]), 2)
        flat = (lambda a: a) if task.read else (lambda a: a.reshape(-1, a.shape[-1]))
        calib, evaluated = [flat(a[even]) for a in arrays], [flat(a[odd]) for a in arrays]
        if task.read is None:
            calib = [a[::8] for a in calib]

        def share(path, task=task, data=data, odd=odd, evaluated=evaluated):
            found = q.run_ort(path, evaluated, plain=True)
            if task.read:
                return float((task.read(found, data) == data[task.labels][odd]).mean())
            inputs, found = (a.reshape(len(odd), -1) for a in (evaluated[0], found))
            return q.auc(q.anomaly_scores(found, inputs), data["y"][odd])

        yield task.model, {f"in_{i}": a for i, a in enumerate(calib)}, task.options, share
    ids = np.load(args.models / "data" / "stories_sampled.npz")["x"].astype(np.int64)
    calib = {f"in_{i}": a for i, a in enumerate(q.story_feeds(ids[::2]))}
    # Perplexity: a smaller one is better.
    perplexity = lambda path: 1 / float(np.exp(q.told(path, ids[1::2])[1].mean()))
    words = ["--dim", "past=0..256", "--dim", "seq=1..256", "--activation-dtype", "none", "--block", "32"]
    yield q.STORIES, calib, words, perplexity


def main():
    parser = q.arguments(__doc__)
    parser.add_argument("--size", nargs="*", default=["1/7", "1/4"])
    parser.add_argument("--option", action="append", default=[], help="a further word for `adze quantize`; repeatable")
    args = parser.parse_args()
    print("| model | size | float bytes | bytes | ratio | float | integers | kept | formats |\n" + "|---" * 9 + "|")
    for name, calib, words, share in tasks(args):
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, out, file = args.models / f"{name}.onnx", pathlib.Path(folder, "out.onnx"), pathlib.Path(folder, "calib.npz")
            np.savez(file, **calib)
            made = quantized(args, path, file, out, words)
            if made is None:
                print(f"| {name} | none | | | | | | | |", flush=True)
                continue
            size, before, after, kinds = made
            base, found = share(path), share(out)
            numbers = f"{before:.0f} | {after:.0f} | 1/{before / after:.2f} | {base:.4f} | {found:.4f} | {100 * found / base:.1f} %"
            print(f"| {name} | {size} | {numbers} | {kinds} |", flush=True)


if __name__ == "__main__":
    main()
