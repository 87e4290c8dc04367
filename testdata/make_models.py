#!/usr/bin/env python3
"""Trains the shipped models on the digits that come inside scikit-learn and writes `testdata/models/`.

    python testdata/make_models.py

Needs numpy, scikit-learn, onnx and onnxruntime (versions in testdata/requirements.txt); no network, no GPU, ten
seconds of one core. Seeds are fixed, so the same versions on the same CPU give the same files; another BLAS may
round a weight differently, which is why the files are committed.

- `digits_cnn.onnx`: conv3x3 - batch norm - relu - conv3x3 - relu - maxpool - dense, input 1x1x8x8.
- `digits_mlp.onnx`: 64 - 64 - 32 - 10 with relu and softmax, input batch x 64 with a symbolic batch.
- `digit_<class>.npy`: images of the test half, f32 in 0..1, NCHW 1x1x8x8; none was seen in training.
- `digits_calib.npy` and `digits_labelled.npz`: images to quantize with, and others with labels to measure what it costs.
- `<model>.<case>.npz`: recorded inputs and ONNX Runtime's outputs.
- `README.md`: the accuracies, measured on the written files.
"""

import os
import pathlib

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: sums in one order

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from onnx_cases import PRODUCER, record, run_reference, save_model

OUT = pathlib.Path(__file__).resolve().parent / "models"
OPSET = 17
BN_EPSILON = 1e-5
SHOWN_DIGITS = (7, 3, 0)


def load():
    """(train images, train labels, test images, test labels); images f32[n, 1, 8, 8] in 0..1."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    x, tx, y, ty = train_test_split(images, digits.target, test_size=0.4, random_state=7, stratify=digits.target)
    return x, y, tx, ty


def columns(x):
    """3x3 patches with zero padding of 1: [n, c, h, w] -> [n, h * w, c * 9]."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return patches.transpose(0, 2, 3, 1, 4, 5).reshape(n, h * w, c * 9)


def uncolumns(cols, shape):
    """Transpose of `columns`: sums patch gradients back into an image of `shape`."""
    n, c, h, w = shape
    cols = cols.reshape(n, h, w, c, 3, 3)
    padded = np.zeros((n, c, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            padded[:, :, i : i + h, j : j + w] += cols[:, :, :, :, i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1 : 1 + h, 1 : 1 + w]


class Cnn:
    """The convolutional network with its gradients, plain numpy."""

    def __init__(self, rng):
        he = lambda *shape, fan: (rng.standard_normal(shape) * np.sqrt(2.0 / fan)).astype(np.float32)
        self.params = {
            "w1": he(16, 1, 3, 3, fan=9),
            "gamma": np.ones(16, np.float32),
            "beta": np.zeros(16, np.float32),
            "w2": he(24, 16, 3, 3, fan=144),
            "b2": np.zeros(24, np.float32),
            "w3": he(384, 10, fan=384),
            "b3": np.zeros(10, np.float32),
        }
        self.mean = np.zeros(16, np.float32)
        self.var = np.ones(16, np.float32)

    def gradients(self, x, labels):
        """Cross-entropy gradients for one batch; also moves the running statistics of the batch norm."""
        p, n = self.params, len(x)
        cols1 = columns(x)
        conv1 = cols1 @ p["w1"].reshape(16, -1).T  # [n, 64, 16]
        mean, var = conv1.mean((0, 1)), conv1.var((0, 1))
        self.mean = 0.95 * self.mean + 0.05 * mean
        self.var = 0.95 * self.var + 0.05 * var
        inv = 1 / np.sqrt(var + BN_EPSILON)
        norm = (conv1 - mean) * inv
        act1 = np.maximum(norm * p["gamma"] + p["beta"], 0)
        image1 = act1.transpose(0, 2, 1).reshape(n, 16, 8, 8)
        cols2 = columns(image1)
        act2 = np.maximum(cols2 @ p["w2"].reshape(24, -1).T + p["b2"], 0)  # [n, 64, 24]
        windows = act2.reshape(n, 4, 2, 4, 2, 24).transpose(0, 5, 1, 3, 2, 4).reshape(n, 24, 4, 4, 4)
        pooled = windows.max(-1).reshape(n, -1)
        logits = pooled @ p["w3"] + p["b3"]
        exp = np.exp(logits - logits.max(1, keepdims=True))
        d_logits = exp / exp.sum(1, keepdims=True)
        d_logits[np.arange(n), labels] -= 1
        d_logits /= n

        grads = {"w3": pooled.T @ d_logits, "b3": d_logits.sum(0)}
        d_pooled = (d_logits @ p["w3"].T).reshape(n, 24, 4, 4)
        d_windows = np.zeros_like(windows)
        np.put_along_axis(d_windows, windows.argmax(-1)[..., None], d_pooled[..., None], -1)
        d_act2 = d_windows.reshape(n, 24, 4, 4, 2, 2).transpose(0, 2, 4, 3, 5, 1).reshape(n, 64, 24) * (act2 > 0)
        grads["w2"] = np.einsum("npo,npk->ok", d_act2, cols2, optimize=True).reshape(p["w2"].shape)
        grads["b2"] = d_act2.sum((0, 1))
        d_image1 = uncolumns(d_act2 @ p["w2"].reshape(24, -1), image1.shape)
        d_bn = d_image1.reshape(n, 16, 64).transpose(0, 2, 1) * (act1 > 0)
        grads["gamma"] = (d_bn * norm).sum((0, 1))
        grads["beta"] = d_bn.sum((0, 1))
        d_norm = d_bn * p["gamma"]
        d_conv1 = inv * (d_norm - d_norm.mean((0, 1)) - norm * (d_norm * norm).mean((0, 1)))
        grads["w1"] = np.einsum("npo,npk->ok", d_conv1, cols1, optimize=True).reshape(p["w1"].shape)
        return grads

    def train(self, x, labels, rng, epochs=30, batch=32):
        """Adam with a cosine step size."""
        m = {k: np.zeros_like(v) for k, v in self.params.items()}
        v = {k: np.zeros_like(p) for k, p in self.params.items()}
        step, total = 0, epochs * (len(x) // batch)
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(x) - batch + 1, batch):
                chosen = order[start : start + batch]
                rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / total))
                step += 1
                for k, g in self.gradients(x[chosen], labels[chosen]).items():
                    m[k] = 0.9 * m[k] + 0.1 * g
                    v[k] = 0.999 * v[k] + 0.001 * g * g
                    self.params[k] -= (
                        rate * (m[k] / (1 - 0.9**step)) / (np.sqrt(v[k] / (1 - 0.999**step)) + 1e-8)
                    ).astype(np.float32)

    def to_onnx(self):
        """The network for inference: the batch norm uses the running statistics."""
        p = self.params
        weights = {
            "conv1.weight": p["w1"], "bn1.scale": p["gamma"], "bn1.bias": p["beta"], "bn1.mean": self.mean,
            "bn1.var": self.var, "conv2.weight": p["w2"], "conv2.bias": p["b2"], "fc.weight": p["w3"].T.copy(),
            "fc.bias": p["b3"],
        }  # fmt: skip
        pad = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("Conv", ["image", "conv1.weight"], ["c1"], "conv1", **pad),
            helper.make_node(
                "BatchNormalization", ["c1", "bn1.scale", "bn1.bias", "bn1.mean", "bn1.var"], ["n1"], "bn1",
                epsilon=BN_EPSILON,
            ),
            helper.make_node("Relu", ["n1"], ["r1"], "relu1"),
            helper.make_node("Conv", ["r1", "conv2.weight", "conv2.bias"], ["c2"], "conv2", **pad),
            helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
            helper.make_node("MaxPool", ["r2"], ["p2"], "pool2", kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["p2"], ["f"], "flatten", axis=1),
            helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["logits"], "fc", transB=1),
        ]  # fmt: skip
        return model("digits_cnn", nodes, weights, ("image", [1, 1, 8, 8]), ("logits", [1, 10]))


def mlp_to_onnx(mlp):
    """The multi-layer perceptron of scikit-learn, with a symbolic batch."""
    weights, nodes, value = {}, [], "pixels"
    for i, (w, b) in enumerate(zip(mlp.coefs_, mlp.intercepts_)):
        weights[f"fc{i}.weight"], weights[f"fc{i}.bias"] = w.astype(np.float32), b.astype(np.float32)
        nodes.append(helper.make_node("Gemm", [value, f"fc{i}.weight", f"fc{i}.bias"], [f"g{i}"], f"fc{i}"))
        value = f"g{i}"
        if i + 1 < len(mlp.coefs_):
            nodes.append(helper.make_node("Relu", [value], [f"r{i}"], f"relu{i}"))
            value = f"r{i}"
    nodes.append(helper.make_node("Softmax", [value], ["probabilities"], "softmax", axis=-1))
    return model("digits_mlp", nodes, weights, ("pixels", ["batch", 64]), ("probabilities", ["batch", 10]))


def model(name, nodes, weights, x, y):
    """A checked f32 model with one input and one output, each (name, shape)."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
        [helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name=PRODUCER)
    made.ir_version = 8
    return made


def accuracy(path, images, labels):
    """Correct images of the written model, one run per image."""
    predicted = [int(run_reference(path, [x])[0].argmax()) for x in images]
    return sum(int(a == b) for a, b in zip(predicted, labels)), predicted


def write_labelled(x, tx, ty):
    """Images of both halves as bytes of 0..16, for quantization: 128 to calibrate with, all those of the test half with labels."""
    pixels = lambda images: (images[:, 0] * 16).round().astype(np.uint8)
    np.save(OUT / "digits_calib.npy", pixels(x[:128]))
    np.savez_compressed(OUT / "digits_labelled.npz", x=pixels(tx), y=ty.astype(np.uint8))


def write_readme(rows, digits):
    lines = [
        "# Shipped models",
        "",
        "Written by `testdata/make_models.py`; do not edit. Trained on the digits inside scikit-learn (1,797 images of",
        "8x8), 60% for training; accuracy is of the other 40%, measured on the files here with ONNX Runtime.",
        "",
        "| model | parameters | test accuracy |",
        "|---|---|---|",
    ]
    for name, params, right, total in rows:
        lines.append(f"| `{name}.onnx` | {params:,} | {100 * right / total:.2f}% ({right} of {total}) |")
    lines += [
        "",
        "`digit_<class>.npy` are test images (f32 in 0..1, 1x1x8x8), classified rightly by both models: "
        + ", ".join(f"`digit_{d}.npy`" for d in digits)
        + ".",
        "",
        "`digits_calib.npy` has 128 images of the training half, `digits_labelled.npz` `x` and `y` of the test half; bytes of 0..16.",
        "",
        "`<model>.<case>.npz` holds `in_0` and `out_0`: inputs and what ONNX Runtime computes for them (one thread, no",
        "graph optimisation).",
        "",
    ]
    (OUT / "README.md").write_text("\n".join(lines))


def main():
    OUT.mkdir(exist_ok=True)
    x, y, tx, ty = load()

    cnn = Cnn(np.random.default_rng(1))
    cnn.train(x, y, np.random.default_rng(2))
    mlp = MLPClassifier((64, 32), random_state=1, max_iter=400, alpha=1e-3)
    mlp.fit(x.reshape(len(x), 64), y)

    rows, right = [], np.ones(len(tx), bool)
    for made, shape in ((cnn.to_onnx(), (1, 1, 8, 8)), (mlp_to_onnx(mlp), (1, 64))):
        path = OUT / f"{made.graph.name}.onnx"
        save_model(made, path)
        count, predicted = accuracy(path, [i.reshape(shape) for i in tx], ty)
        params = sum(int(np.prod(t.dims)) for t in made.graph.initializer)
        rows.append((made.graph.name, params, count, len(tx)))
        right &= np.array(predicted) == ty

    for digit in SHOWN_DIGITS:
        image = tx[np.flatnonzero(right & (ty == digit))[0]][None]
        np.save(OUT / f"digit_{digit}.npy", image)
        record(OUT / "digits_cnn.onnx", f"digit_{digit}", [image])
    record(OUT / "digits_mlp.onnx", "b1", [tx[:1].reshape(1, 64)])
    record(OUT / "digits_mlp.onnx", "b5", [tx[1:6].reshape(5, 64)])
    write_labelled(x, tx, ty)
    write_readme(rows, SHOWN_DIGITS)
    for row in rows:
        print("%s: %d parameters, %d of %d right" % row)


if __name__ == "__main__":
    main()
