#!/usr/bin/env python3
"""Task accuracy of quantized models beside ONNX Runtime's, on labelled data.

    cli/benches/accuracy.py --adze target/release/adze [--models DIR] [--only NAME ...]

DIR holds `<model>.onnx` and `data/` (default: $ADZE_SHARED/models). Each row of TASKS says how the images, sounds or texts of
a data set become a model's input; nothing of that is in the compiler. All samples go through `adze run` as one batch and
through ONNX Runtime's default optimisation, one thread. Written is a markdown table: the metric of both, and how many
predictions agree. They differ by a sample at most, or the exit status is 1.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def centred(data):
    """Pixels less 128, channels last."""
    return [(data["x"].astype(np.int16) - 128).astype(np.int8)]


def normalised(data):
    """Pixels as ImageNet networks take them, channels first."""
    return [((data["x"].astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).copy()]


def as_is(data):
    return [data["x"]]


def tokens(data):
    """Token ids, and a mask of those that are no padding."""
    ids = data["x"].astype(np.int64)
    return [ids, (ids != 0).astype(np.int64)]


TASKS = [
    ("mlperf_ic_resnet8_int8", "cifar10_raw_200", centred),
    ("mlperf_ic_resnet8_int8", "cifar10_jpeg_500", centred),
    ("resnet20_cifar10_qoperator_int8", "cifar10_raw_200", normalised),
    ("resnet20_cifar10_qoperator_int8", "cifar10_jpeg_500", normalised),
    ("mlperf_vww_mobilenetv1_int8", "vww_96x96_240", centred),
    ("mlperf_kws_dscnn_int8", "speech_commands_mfcc_497", as_is),
    ("clinc_intent_bert_dynamic_int8", "clinc_intents_1500", tokens),
]


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="target/release/adze")
    shared = os.environ.get("ADZE_SHARED", "../shared")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(shared, "models"))
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    print("| model | data | samples | adze | ONNX Runtime | same prediction |\n|---|---|---|---|---|---|")
    apart = False
    for name, data_name, prepare in TASKS:
        if args.only and name not in args.only:
            continue
        with np.load(args.models / "data" / f"{data_name}.npz") as data:
            path, labels = args.models / f"{name}.onnx", data["y"].astype(np.int64)
            session = session_of(path)
            arrays = fitted(session, prepare(data))
        feeds = {i.name: a for i, a in zip(session.get_inputs(), arrays)}
        theirs = session.run(None, feeds)[0].reshape(len(labels), -1).argmax(1)
        found = ours(args.adze, path, arrays).reshape(len(labels), -1).argmax(1)
        right = [int((p == labels).sum()) for p in (found, theirs)]
        apart |= abs(right[0] - right[1]) > 1
        share = [f"{100 * r / len(labels):.2f} %" for r in right]
        print(f"| {name} | {data_name} | {len(labels)} | {share[0]} | {share[1]} | {int((found == theirs).sum())} |", flush=True)
    sys.exit(int(apart))


if __name__ == "__main__":
    main()
