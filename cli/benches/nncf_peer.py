#!/usr/bin/env python3
"""Quantizes an ONNX model by NNCF's post-training quantization for OpenVINO and runs the result. Called by `quantize.py`.

    nncf_peer.py MODEL.onnx CALIB.npz EVAL.npz OUT.npz [--transformer]

Both .npz hold `s<sample>_<input>`, in the order of the model's inputs; written is `o<sample>`, the first output. Defaults of NNCF
except that all calibration samples are used; sums in f32, so that nothing but the quantization is measured.
"""

import argparse

import numpy as np


def samples_of(path):
    arrays = np.load(path)
    count = 1 + max(int(name[1:].split("_")[0]) for name in arrays)
    inputs = sum(name.startswith("s0_") for name in arrays)
    return [[arrays[f"s{s}_{i}"] for i in range(inputs)] for s in range(count)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "calib", "eval", "out"):
        parser.add_argument(name)
    parser.add_argument("--transformer", action="store_true")
    args = parser.parse_args()
    import nncf
    import openvino as ov

    model = ov.Core().read_model(args.model)
    calib = samples_of(args.calib)
    kind = nncf.ModelType.TRANSFORMER if args.transformer else None
    made = nncf.quantize(model, nncf.Dataset(calib), subset_size=len(calib), model_type=kind)
    compiled = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    outputs = {f"o{s}": compiled(inputs)[0] for s, inputs in enumerate(samples_of(args.eval))}
    np.savez(args.out, **outputs)


if __name__ == "__main__":
    main()
