#!/usr/bin/env python3
"""What integers cost in accuracy: `adze quantize` beside ONNX Runtime's static quantization, on labelled data.

    cli/benches/quantize.py --adze target/release/adze [--models DIR] [--only NAME ...] [--option WORD ...] [--nncf PYTHON]
                            [--dreamt N]

DIR holds `<model>.onnx` and `data/` (default: $ADZE_SHARED/models). Each row of TASKS says how a data set becomes a model's
inputs and what is measured. Samples with an even index calibrate both tools, those with an odd one are measured; none is
used for both. ONNX Runtime quantizes with its own preparation (shapes, fusion), QDQ, u8 values, i8 weights per channel. With
--nncf, a Python that has `nncf`, `openvino` and `numpy`, OpenVINO's NNCF does too, with the same samples (`nncf_peer.py`).

Written is a markdown table: the metric of the float model, of both integer models and their difference to it with its 95 %
interval (paired: over the same samples); flips (share of predictions that are not those of the float model); KL (mean
relative entropy of the outputs to the float model's, in milli-nats). Ours is measured on compiled code; ONNX Runtime runs what
was exported too (as the graph says, without its optimiser), and `apart` is how many predictions differ between the two.
"""

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import typing

import numpy as np

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def pixels(data):
    """Pixels as they are, channels last."""
    return [data["x"].astype(np.float32)]


def unit_pixels(data):
    return [data["x"].astype(np.float32) / 255]


def normalised(data):
    """Pixels as ImageNet networks take them, channels first."""
    return [((data["x"].astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).copy()]


def mfcc(data):
    return [((data["x"].astype(np.float32) - 83) * 0.5847029)[..., None]]


def tokens(data):
    """Token ids, and a mask of those that are no padding."""
    ids = data["x"].astype(np.int64)
    return [ids, (ids != 0).astype(np.int64)]


def byte_tokens(data):
    return [data["x"].astype(np.int32)]


def plates(data):
    return [((data["x"].astype(np.float32) - 127.5) / 128).transpose(0, 3, 1, 2).copy()]


def windows(data):
    """Five frames each, hop one; a sample is a sound of 196 windows."""
    x = data["x"]
    return [np.stack([x[:, i : i + 5].reshape(len(x), -1) for i in range(196)], 1)]


def photographs(folder):
    from PIL import Image

    files = sorted(folder.iterdir())
    x = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
    return {"x": x, "y": np.array([int(f.stem) for f in files])}


def read_classes(outputs, data):
    return outputs.reshape(len(outputs), -1).argmax(1)


def read_plates(outputs, data):
    """Greedy decoding: repeats joined, blanks dropped."""
    blank = outputs.shape[1] - 1

    def text(row):
        path = row.argmax(0)
        kept = [c for i, c in enumerate(path) if c != blank and (i == 0 or c != path[i - 1])]
        return "".join(data["charset"][c] for c in kept)

    return np.array([text(row) for row in outputs])


def anomaly_scores(outputs, inputs):
    return ((outputs - inputs) ** 2).reshape(len(inputs), -1).mean(1)


def auc(scores, labels):
    """Share of pairs in the right order, ties by half."""
    a, b = scores[labels == 1], scores[labels == 0]
    return float(((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])).mean())


@dataclasses.dataclass
class Task:
    model: str
    data: str
    prepare: typing.Callable
    #: Predictions of outputs; None for anomalies.
    read: typing.Callable = read_classes
    #: Name of the labels in the data.
    labels: str = "y"
    #: Axis of the classes in the output; other axes are positions.
    axis: int = -1
    #: Further words for `adze quantize`.
    options: tuple = ()
    #: NNCF is told that it is a transformer.
    transformer: bool = False


TASKS = [
    Task("mlperf_ic_resnet8_f32", "cifar10_jpeg_500", pixels),
    Task("mlperf_kws_dscnn_f32", "speech_commands_mfcc_497", mfcc),
    Task("mlperf_vww_mobilenetv1_f32", "vww_96x96_240", unit_pixels),
    Task("mlperf_ad_autoencoder_f32", "toycar_anomaly_44", windows, None),
    Task("resnet20_cifar10_f32", "cifar10_jpeg_500", normalised),
    Task("mobilenet_v2_f32", "imagenet224_200", normalised),
    Task("clinc_intent_bert_f32", "clinc_intents_1500", tokens, options=("--dim", "seq=1..32"), transformer=True),
    Task("lprnet_plate_ocr", "plates_300", plates, read_plates, "text", 1),
    Task("magika_v3_3", "magika_files_152", byte_tokens),
]


def session_of(path, plain=False):
    """`plain`: as the graph says; the optimiser makes operators of 2-bit weights that the runtime then refuses."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_ort(path, arrays, plain=False):
    """The first output for every sample; a sample of a model without a batch is a call."""
    session = session_of(path, plain)
    inputs = session.get_inputs()
    if isinstance(inputs[0].shape[0], int):
        calls = [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    else:
        calls = [[a[i : i + 64] for a in arrays] for i in range(0, len(arrays[0]), 64)]
    return np.concatenate([session.run(None, {i.name: a for i, a in zip(inputs, call)})[0] for call in calls])


def run_adze(adze, path, arrays, folder):
    import onnx
    from onnx import numpy_helper

    ins, outs = folder / "in", folder / "out"
    ins.mkdir(exist_ok=True)
    for i, array in enumerate(arrays):
        (ins / f"input_{i}.pb").write_bytes(numpy_helper.from_array(np.ascontiguousarray(array)).SerializeToString())
    subprocess.run([adze, "run", path, "--inputs", ins, "--outputs", outs], check=True, capture_output=True)
    return numpy_helper.to_array(onnx.load_tensor(outs / "output_0.pb"))


def quantize_ort(path, arrays, out, folder, slice_of=None):
    """ONNX Runtime's static quantization; calibrated with single samples, which `slice_of` cuts out."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    names = [i.name for i in session_of(path).get_inputs()]
    count = len(arrays) if slice_of else len(arrays[0])
    slice_of = slice_of or (lambda index: [a[index : index + 1] for a in arrays])

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.next_sample = iter(range(count))

        def get_next(self):
            index = next(self.next_sample, None)
            return None if index is None else dict(zip(names, slice_of(index)))

    quantize_static(
        str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def nncf_outputs(args, path, calib, evaluated, folder, transformer=False):
    """The first output for every sample, of NNCF's quantization; `calib` and `evaluated` are lists of lists of inputs."""
    files = [folder / "nncf_calib.npz", folder / "nncf_eval.npz", folder / "nncf_out.npz"]
    for file, samples in zip(files, (calib, evaluated)):
        np.savez(file, **{f"s{s}_{i}": a for s, inputs in enumerate(samples) for i, a in enumerate(inputs)})
    words = ["--transformer"] if transformer else []
    peer = pathlib.Path(__file__).with_name("nncf_peer.py")
    done = subprocess.run([args.nncf, peer, path, *files, *words], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(lines[-1][:200] if lines else "NNCF")
    made = np.load(files[2])
    return [made[f"o{s}"] for s in range(len(evaluated))]


def peer(args, name, row):
    """Prints the row of another tool: what it cannot do is a row of the table."""
    try:
        print(f"| | | | {name} | {' | '.join(row())} |", flush=True)
    except Exception as error:
        print(f"| | | | {name} | failed: {type(error).__name__}: {str(error)[:120]} | | | |", flush=True)


def quantize_adze(adze, path, arrays, out, folder, options):
    calib = folder / "calib.npz"
    np.savez(calib, **{f"in_{i}": a for i, a in enumerate(arrays)})
    said = subprocess.run([adze, "quantize", path, "--calib", calib, "-o", out, *options], check=True, stdout=subprocess.PIPE)
    lines = said.stdout.decode().splitlines()
    sizes = [line.rsplit(" ", 1)[1] for line in lines if line.startswith("constants ")]
    for line in lines:
        if line.startswith("learned "):
            print(line, file=sys.stderr)
    return "".join(f", {size} of the bytes" for size in sizes)


def log_probabilities(outputs, axis):
    """Of logits or probabilities, classes last, positions in rows."""
    rows = np.moveaxis(outputs.astype(np.float64), axis, -1).reshape(-1, outputs.shape[axis])
    # A byte for a probability has steps of 1/256: less than half a step counts as half a step, for every tool alike.
    if rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() < 0.05:
        rows = np.maximum(rows, 1 / 512)
        return np.log(rows / rows.sum(1, keepdims=True))
    rows = rows - rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def divergence(reference, outputs, axis):
    """Mean KL in milli-nats."""
    p, q = log_probabilities(reference, axis), log_probabilities(outputs, axis)
    return float((np.exp(p) * (p - q)).sum(1).mean() * 1e3)


def classified(task, data, odd, reference, found):
    """Cells of one tool: metric, difference with interval, flips, KL."""
    theirs, ours = task.read(reference, data), task.read(found, data)
    d = (ours == data[task.labels][odd]).astype(float) - (theirs == data[task.labels][odd])
    width = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
    right, kl = (ours == data[task.labels][odd]).mean(), divergence(reference, found, task.axis)
    flips = (ours != theirs).mean()
    return [f"{100 * right:.2f} %", f"{100 * d.mean():+.2f} ± {100 * width:.2f}", f"{100 * flips:.2f} %", f"{kl:.3f}"]


def detected(data, odd, inputs, reference, found):
    """The same for anomalies: AUC, its bootstrapped difference, no flips, mean squared change of the output."""
    labels, rng = data["y"][odd], np.random.default_rng(1)
    a, b = anomaly_scores(reference, inputs), anomaly_scores(found, inputs)
    drawn = []
    for _ in range(2000):
        pick = rng.integers(0, len(labels), len(labels))
        if 0 < labels[pick].sum() < len(labels):
            drawn.append(auc(b[pick], labels[pick]) - auc(a[pick], labels[pick]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    change = ((found - reference) ** 2).mean() / (reference**2).mean()
    difference = auc(b, labels) - auc(a, labels)
    return [f"{auc(b, labels):.4f}", f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]", "-", f"nmse {change:.2e}"]


def measure(task, args, folder):
    path = args.models / f"{task.model}.onnx"
    source = args.models / "data" / task.data
    data = photographs(source) if source.is_dir() else dict(np.load(source.with_suffix(".npz")))
    arrays = task.prepare(data)
    count = len(arrays[0])
    even, odd = np.arange(0, count, 2), np.arange(1, count, 2)
    flat = (lambda a: a) if task.read else (lambda a: a.reshape(-1, a.shape[-1]))
    calib, evaluated = [flat(a[even]) for a in arrays], [flat(a[odd]) for a in arrays]
    if task.read is None:
        calib = [a[::8] for a in calib]
    reference = run_ort(path, evaluated)
    cells = lambda found: (
        classified(task, data, odd, reference, found) if task.read
        else detected(data, odd, *(o.reshape(len(odd), -1) for o in (evaluated[0], reference, found)))
    )  # fmt: skip
    base = (
        f"{100 * (task.read(reference, data) == data[task.labels][odd]).mean():.2f} %" if task.read
        else f"{auc(anomaly_scores(reference, evaluated[0]).reshape(len(odd), -1).mean(1), data['y'][odd]):.4f}"
    )  # fmt: skip
    ours, theirs = folder / "ours.onnx", folder / "theirs.onnx"
    words = list(args.option)
    if any("top1" in word for word in words):
        np.save(folder / "labels.npy", data[task.labels][even])
        words += ["--labels", folder / "labels.npy"]
    if task.axis >= 0 and any("=" in word and "%" in word for word in words):
        words += ["--class-axis", str(task.axis)]
    notes = quantize_adze(args.adze, path, calib, ours, folder, [*task.options, *words])
    in_ort = run_ort(ours, evaluated, plain=True)
    batch = not isinstance(session_of(path).get_inputs()[0].shape[0], int)
    found = run_adze(args.adze, ours, evaluated, folder) if batch else in_ort
    print(f"| {task.model} | {len(odd)} | {base} | adze{notes} | {' | '.join(cells(found))} |", flush=True)
    if batch:
        apart = int((read_classes(found, data) != read_classes(in_ort, data)).sum())
        # A step is what a byte over the range of the output would have.
        steps = 255 * np.abs(found - in_ort).max() / max(np.ptp(reference), 1e-30)
        label = f"adze, in ONNX Runtime ({apart} apart, at most {steps:.2f} steps)"
        print(f"| | | | {label} | {' | '.join(cells(in_ort))} |", flush=True)
    if not args.alone:

        def ort():
            quantize_ort(path, calib, theirs, folder)
            return cells(run_ort(theirs, evaluated))

        peer(args, "ONNX Runtime", ort)
    if args.nncf:
        single = lambda arrays: [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
        made = lambda: nncf_outputs(args, path, single(calib), single(evaluated), folder, task.transformer)
        peer(args, "NNCF", lambda: cells(np.concatenate(made())))


STORIES = "stories260k_llama_f32"


def story_feeds(ids):
    """Token ids, and caches without a position."""
    cache = np.zeros((len(ids), 4, 0, 8), np.float32)
    return [ids, *[cache] * 10]


def told(path, ids):
    """Log probabilities of the next token at every position but the last, and the mean nats of each sequence."""
    session = session_of(path)
    inputs = {i.name: a for i, a in zip(session.get_inputs(), story_feeds(ids))}
    rows = log_probabilities(session.run(["logits"], inputs)[0], -1).reshape(*ids.shape, -1)[:, :-1]
    return rows, -np.take_along_axis(rows, ids[:, 1:, None], 2)[..., 0].mean(1)


def dreamt(path, count, length, first, seed=1):
    """Token ids that the float model makes by itself, each drawn with the probability that the model gives it."""
    session, random = session_of(path), np.random.default_rng(seed)
    names = [i.name for i in session.get_inputs()]
    last, *cache = story_feeds(np.full((count, 1), first, np.int64))
    ids = [last]
    while len(ids) < length:
        logits, *cache = session.run(None, dict(zip(names, [last, *cache])))
        # The largest of numbers with Gumbel noise on them is drawn by the softmax of the numbers.
        noisy = logits[:, -1].astype(np.float64) + random.gumbel(size=(count, logits.shape[-1]))
        last = noisy.argmax(1)[:, None]
        ids.append(last)
    return np.concatenate(ids, 1)


#: Sequences that nothing learns from, which the float model makes to measure by: enough for the mean to say something.
OTHERS = 256


def measure_stories(args, folder):
    """Nats per token of sequences that the float model made; also weights alone, in blocks of 32. What is learned end to end has
    sequences that the float model makes here beside those that calibrate, and others that it makes here measure too."""
    path = args.models / f"{STORIES}.onnx"
    ids = np.load(args.models / "data" / "stories_sampled.npz")["x"].astype(np.int64)
    even, ids = ids[::2], ids[1::2]
    calib = story_feeds(even)
    sets = [(STORIES, ids, *told(path, ids))]
    if args.dreamt:
        others = dreamt(path, OTHERS, ids.shape[1], even[0, 0], seed=2)
        sets.append((f"{STORIES}, others", others, *told(path, others)))

    def row(tool, made):
        for own in sets:
            show(own, tool, *told(made, own[1]))

    def show(own, tool, rows, found):
        name, ids, base, nats = own
        d = found - nats
        width = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
        flips = (rows.argmax(-1) != base.argmax(-1)).mean()
        kl = (np.exp(base) * (base - rows)).sum(-1).mean() * 1e3
        numbers = f"{found.mean():.4f} nats | {d.mean():+.4f} ± {width:.4f} | {100 * flips:.2f} % | {kl:.3f}"
        print(f"| {name} | {len(ids)} | {nats.mean():.4f} nats | {tool} | {numbers} |", flush=True)

    made = folder / "made.onnx"
    dims = ["--dim", "past=0..256", "--dim", "seq=1..256"]
    alone = ["--activation-dtype", "none", "--block", "32"]
    four = [*alone, "--weight-dtype", "i4"]
    ours = [
        ("adze", [], calib), ("adze, i8 weights alone", alone, calib), ("adze, i4 weights alone", four, calib),
        ("the same, to nearest", [*four, "--rounding", "nearest"], calib),
    ]  # fmt: skip
    if args.dreamt:
        more = story_feeds(np.concatenate([even, dreamt(path, args.dreamt, ids.shape[1], even[0, 0])]))
        words = [*four, "--rounding", "distilled", "--class-axis", "2", "--distil-steps", "3000", "--samples", str(len(more[0]))]
        ours.append((f"the same, learned end to end from {args.dreamt} more sequences", words, more))
    for tool, words, samples in ours:
        start = time.monotonic()
        quantize_adze(args.adze, path, samples, made, folder, [*dims, *words, *args.option])
        print(f"{tool}: {time.monotonic() - start:.0f} s, {made.stat().st_size} bytes of ONNX", file=sys.stderr)
        row(tool, made)
    for name in ("dynamic_int8", "int4_matmulnbits"):
        row(f"ONNX Runtime, {name}", args.models / f"{STORIES[:-4]}_{name}.onnx")
    if args.nncf:
        try:
            single = lambda arrays: [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
            made = nncf_outputs(args, path, single(calib), single(story_feeds(ids)), folder, transformer=True)
            rows = log_probabilities(np.concatenate(made), -1).reshape(*ids.shape, -1)[:, :-1]
            show(sets[0], "NNCF", rows, -np.take_along_axis(rows, ids[:, 1:, None], 2)[..., 0].mean(1))
        except Exception as error:
            print(f"| | | | NNCF | failed: {type(error).__name__}: {str(error)[:120]} | | | |", flush=True)


LINES = "tesseract_eng_lstm"


def edits(a, b):
    """Insertions, deletions and replacements between two texts."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, row = row, [i + 1] + [0] * len(b)
        for j, y in enumerate(b):
            row[j + 1] = min(row[j] + 1, last[j + 1] + 1, last[j] + (x != y))
    return row[-1]


def text_lines(models):
    """Data of text lines, and their images as the network takes them."""
    data = dict(np.load(models / "data" / "text_lines_eng.npz"))
    return data, [data[f"line_{i}"].astype(np.float32) / 127.5 - 1 for i in range(len(data["text"]))]


def save_lines(images, folder):
    """A file for every image: they have any width."""
    folder.mkdir()
    for i, image in enumerate(images):
        np.save(folder / f"{i:02}.npy", image)


def read_texts(rows, data):
    """The text of every line, of its classes' probabilities."""
    blank = int(data["blank"])
    kept = lambda p: [c for t, c in enumerate(p) if c != blank and (t == 0 or c != p[t - 1])]
    character = lambda c: " " if data["codes"][c] == "NULL" else str(data["codes"][c])
    return ["".join(map(character, kept(row.argmax(1)))) for row in rows]


def run_lines(path, images, plain=False):
    """The probabilities of every line."""
    session = session_of(path, plain)
    name = session.get_inputs()[0].name
    return [session.run(None, {name: image})[0][:, 0] for image in images]


def character_errors(texts, truth):
    return np.array([edits(a, b) / len(b) for a, b in zip(texts, truth)])


def measure_lines(args, folder):
    """Character errors of text lines of any width; its recurrent cells have values of floats."""
    path = args.models / f"{LINES}.onnx"
    data, images = text_lines(args.models)
    calib = folder / "lines"
    save_lines(images[::2], calib)
    ours, theirs = folder / "ours.onnx", folder / "theirs.onnx"
    subprocess.run([args.adze, "quantize", path, "--calib", calib, "--dim", "W=36..1024", "-o", ours, *args.option],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    texts_of = lambda rows: (rows, read_texts(rows, data))
    read = lambda model: texts_of(run_lines(model, images[1::2]))
    base, before = read(path)
    truth = [str(t) for t in data["text"][1::2]]
    errors = lambda texts: character_errors(texts, truth)

    def cells(rows, texts):
        d = errors(texts) - errors(before)
        width = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
        flips = np.mean([a != b for a, b in zip(texts, before)])
        kl = divergence(np.concatenate(base), np.concatenate(rows), -1)
        right = f"{100 * errors(texts).mean():.2f} % | {100 * d.mean():+.2f} ± {100 * width:.2f}"
        return [right, f"{100 * flips:.2f} %", f"{kl:.3f}"]

    numbers = " | ".join(cells(*read(ours)))
    print(f"| {LINES} (errors) | {len(truth)} | {100 * errors(before).mean():.2f} % | adze | {numbers} |", flush=True)
    if not args.alone:

        def ort():
            quantize_ort(path, images[::2], theirs, folder, slice_of=lambda i: [images[2 * i]])
            return cells(*read(theirs))

        peer(args, "ONNX Runtime", ort)
    if args.nncf:

        def nncf():
            single = lambda some: [[image] for image in some]
            made = nncf_outputs(args, path, single(images[::2]), single(images[1::2]), folder)
            return cells(*texts_of([rows[:, 0] for rows in made]))

        peer(args, "NNCF", nncf)


def arguments(about):
    """The parser of what the benches of quantized models have in common."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="target/release/adze")
    shared = os.environ.get("ADZE_SHARED", "../shared")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(shared, "models"))
    parser.add_argument("--only", nargs="*")
    return parser


def main():
    parser = arguments(__doc__)
    parser.add_argument("--option", action="append", default=[], help="a further word for `adze quantize`; repeatable")
    parser.add_argument("--dreamt", type=int, default=4000, help="sequences that the stories model makes to learn from; 0 for none")
    parser.add_argument("--nncf", help="Python with nncf and openvino: its quantization is a row too")
    parser.add_argument("--alone", action="store_true", help="leave ONNX Runtime's quantization out")
    args = parser.parse_args()
    print("| model | samples | float | tool | int8 | difference | flips | KL |\n|---|---|---|---|---|---|---|---|")
    failed = 0
    work = [(task.model, lambda args, folder, task=task: measure(task, args, folder)) for task in TASKS]
    work += [(LINES, measure_lines), (STORIES, measure_stories)]
    for name, step in work:
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                step(args, pathlib.Path(folder))
            except subprocess.CalledProcessError as error:
                failed += 1
                print(f"| {name} | | | failed: exit {error.returncode} of {error.cmd[1]} | | | | |", flush=True)
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
