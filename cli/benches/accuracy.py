#!/usr/bin/env python3
"""Task accuracy of quantized models beside ONNX Runtime's, on labelled data.

    cli/benches/accuracy.py --adze target/release/adze [--models DIR] [--only NAME ...]
    cli/benches/accuracy.py --differences testdata/ort_differences.json

DIR holds `<model>.onnx` and `data/` (default: $ADZE_SHARED/models). Each row of TASKS says how the images, sounds or texts of
a data set become a model's input; nothing of that is in the compiler. All samples go through `adze run` as one batch (one by one
where the model has no batch) and through ONNX Runtime's default optimisation, one thread. Written is a markdown table: the metric
of both, and how many predictions agree. They differ by a sample at most, or the exit status is 1.

`--differences` writes how far ONNX Runtime's optimised run is on average from the recorded cases of every quantized model, per output;
`compiler/tests/models/recorded.rs` reads it.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import quantize as q


def centred(data):
    """Pixels less 128, channels last."""
    return [(data["x"].astype(np.int16) - 128).astype(np.int8)]


def as_is(data):
    return [data["x"]]


def scales_of(path):
    """Scale and zero point of the first input and output of a model whose ends are integers."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    known = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    params = lambda node: [float(known[name].ravel()[0]) for name in node.input[1:3]]
    first = next(n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == graph.input[0].name)
    last = next(n for n in graph.node if graph.output[0].name in n.output)
    return params(first), params(last)


def integers(path, numbers):
    (scale, zero), _ = scales_of(path)
    return np.clip(np.rint(numbers / scale) + zero, -128, 127).astype(np.int8)


TASKS = [
    ("mlperf_ic_resnet8_int8", "cifar10_raw_200", centred),
    ("mlperf_ic_resnet8_int8", "cifar10_jpeg_500", centred),
    ("resnet20_cifar10_qoperator_int8", "cifar10_raw_200", q.normalised),
    ("resnet20_cifar10_qoperator_int8", "cifar10_jpeg_500", q.normalised),
    ("mlperf_vww_mobilenetv1_int8", "vww_96x96_240", centred),
    ("mlperf_kws_dscnn_int8", "speech_commands_mfcc_497", as_is),
    ("clinc_intent_bert_dynamic_int8", "clinc_intents_1500", q.tokens),
    ("mobilenet_v2_int8_qdq", "imagenet224_200", q.normalised),
]

STORIES = [f"stories260k_llama_{form}" for form in ("dynamic_int8", "int4_matmulnbits", "int4_dq_opset21")]


def session_of(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fitted(session, arrays):
    """The arrays under the shapes of the model's inputs, whose first axis is the batch."""
    fixed = lambda value: [n for n in value.shape[1:] if isinstance(n, int)]
    return [a.reshape(len(a), *fixed(i)) if len(fixed(i)) == len(i.shape) - 1 else a for i, a in zip(session.get_inputs(), arrays)]


def ours(adze, path, arrays):
    import onnx
    from onnx import numpy_helper

    with tempfile.TemporaryDirectory() as folder:
        ins, outs = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
        ins.mkdir()
        for i, array in enumerate(arrays):
            (ins / f"input_{i}.pb").write_bytes(numpy_helper.from_array(np.ascontiguousarray(array)).SerializeToString())
        subprocess.run([adze, "run", path, "--inputs", ins, "--outputs", outs], check=True, capture_output=True)
        return numpy_helper.to_array(onnx.load_tensor(outs / "output_0.pb"))


def classified(args, name, data_name, prepare):
    """Cells of a row, and whether both are right for as many samples, up to one."""
    path, source = args.models / f"{name}.onnx", args.models / "data" / data_name
    data = q.photographs(source) if source.is_dir() else dict(np.load(source.with_suffix(".npz")))
    labels, session = data["y"].astype(np.int64), session_of(path)
    arrays = prepare(data)
    if session.get_inputs()[0].type == "tensor(int8)" and arrays[0].dtype == np.float32:
        arrays = [integers(path, a) for a in arrays]
    theirs, found = (o.reshape(len(labels), -1).argmax(1) for o in both(args, path, session, fitted(session, arrays)))
    right = [int((p == labels).sum()) for p in (found, theirs)]
    share = [f"{100 * r / len(labels):.2f} %" for r in right]
    return [data_name, len(labels), *share, int((found == theirs).sum())], abs(right[0] - right[1]) <= 1


def both(args, path, session, arrays):
    """The first output by ONNX Runtime and by compiled code; sample by sample where the model has no batch."""
    whole = not isinstance(session.get_inputs()[0].shape[0], int)
    calls = [arrays] if whole else [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
    feeds = lambda call: {i.name: a for i, a in zip(session.get_inputs(), call)}
    theirs = np.concatenate([session.run(None, feeds(call))[0] for call in calls])
    return theirs, np.concatenate([ours(args.adze, path, call) for call in calls])


def anomalies(args, name, data_name):
    """The same of anomalies: the area under the curve; "same" counts sounds with scores that differ by less than a hundredth."""
    path = args.models / f"{name}.onnx"
    data = dict(np.load(args.models / "data" / f"{data_name}.npz"))
    sounds = q.windows(data)[0]
    _, (scale, zero) = scales_of(path)
    session = session_of(path)
    arrays = [integers(path, sounds.reshape(-1, sounds.shape[-1]))]
    scores = [
        q.anomaly_scores((o.astype(np.float32) - zero) * scale, sounds.reshape(o.shape)).reshape(len(sounds), -1).mean(1)
        for o in both(args, path, session, arrays)
    ]
    theirs, found = scores
    areas = [q.auc(s, data["y"]) for s in (found, theirs)]
    same = int((np.abs(found - theirs) <= 0.01 * theirs).sum())
    pair = 1 / ((data["y"] == 1).sum() * (data["y"] == 0).sum())
    return [data_name, len(sounds), *(f"{a:.4f}" for a in areas), same], abs(areas[0] - areas[1]) <= pair


def stories(args, name):
    """The same of texts: nats per token; "same" counts positions with the same likeliest token."""
    path = args.models / f"{name}.onnx"
    ids = np.load(args.models / "data" / "stories_sampled.npz")["x"].astype(np.int64)
    session = session_of(path)
    theirs, found = (
        q.log_probabilities(o, -1).reshape(*ids.shape, -1)[:, :-1]
        for o in both(args, path, session, q.story_feeds(ids))
    )
    nats = [-np.take_along_axis(rows, ids[:, 1:, None], 2).mean() for rows in (found, theirs)]
    same = int((found.argmax(-1) == theirs.argmax(-1)).sum())
    return ["stories_sampled", ids[:, 1:].size, *(f"{n:.4f} nats" for n in nats), same], abs(nats[0] - nats[1]) < 0.005


def differences(args):
    """ONNX Runtime's optimised run against the recorded cases: per model and case, the mean difference of every output."""
    listed = json.loads((args.models / "manifest.json").read_text())["models"]
    found = {}
    for model in listed:
        if not any(word in model["name"] for word in ("int8", "int4")):
            continue
        session = session_of(args.models / model["file"])
        for case in model["cases"]:
            with np.load(args.models / case["file"]) as data:
                feeds = {i.name: data[f"in_{k}"] for k, i in enumerate(session.get_inputs())}
                outputs = session.run(None, feeds)
                apart = [np.abs(o.astype(np.float64) - data[f"out_{k}"]) for k, o in enumerate(outputs)]
            found[f"{model['name']}.{case['case']}"] = [float(f"{d.mean():.3g}") for d in apart]
    return found


def main():
    parser = q.arguments(__doc__)
    parser.add_argument("--differences", type=pathlib.Path, help="write this file and nothing else")
    args = parser.parse_args()
    if args.differences:
        lines = [f" {json.dumps(case)}: {json.dumps(means)}" for case, means in differences(args).items()]
        args.differences.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    work = [(name, lambda row=row: classified(args, *row)) for row in TASKS for name in row[:1]]
    work.append(("mlperf_ad_autoencoder_int8", lambda: anomalies(args, "mlperf_ad_autoencoder_int8", "toycar_anomaly_44")))
    work += [(name, lambda name=name: stories(args, name)) for name in STORIES]
    print("| model | data | samples | adze | ONNX Runtime | same prediction |\n|---|---|---|---|---|---|")
    apart = False
    for name, row in work:
        if not args.only or name in args.only:
            cells, good = row()
            apart |= not good
            print(f"| {name} | " + " | ".join(map(str, cells)) + " |", flush=True)
    sys.exit(int(apart))


if __name__ == "__main__":
    main()
