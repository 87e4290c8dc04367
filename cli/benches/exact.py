#!/usr/bin/env python3
"""Who is nearer to what a quantized model says: compiled code and ONNX Runtime beside the QDQ graph in 64-bit floats.

    cli/benches/exact.py --adze target/release/adze [--models DIR] [--samples N]

`mobilenet_v2_int8_qdq` on the photographs of `accuracy.py`. Integers times 32-bit scales and sums of them lose nothing that matters in 64
bits, so that every quantized value has the rounding that its real number asks for. Written is a markdown table: right predictions,
predictions that are those of the exact run, and the mean and largest difference of the outputs to it, in units.
"""

import pathlib

import numpy as np

import accuracy as a
import quantize as q

MODEL, DATA = "mobilenet_v2_int8_qdq", "imagenet224_200"


def conv(x, w, b, strides, group):
    """No padding: `Pad` stands before it."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[2:], w.shape[2:], strides))
    out = np.zeros((x.shape[0], w.shape[0], rows, columns))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            part = x[:, :, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]]
            if group == 1:
                out += (w[:, :, i, j] @ part.reshape(*part.shape[:2], -1)).reshape(out.shape)
            else:
                assert w.shape[1] == 1 and group == x.shape[1] == w.shape[0]
                out += part * w[:, 0, i, j, None, None]
    return out + b[:, None, None]


def rounded(x, scale, zero):
    low, high = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
    return np.clip(np.rint(x / float(scale)) + float(zero), low, high).astype(zero.dtype)


def real(x, scale, zero, axis):
    shape = [-1 if k == axis % x.ndim and scale.size > 1 else 1 for k in range(x.ndim)]
    return (x.astype(np.float64) - zero.astype(np.float64).reshape(shape)) * scale.astype(np.float64).reshape(shape)


class Exact:
    """A QDQ graph of a convolutional network."""

    def __init__(self, path):
        import onnx
        from onnx import numpy_helper

        self.graph = onnx.load(path).graph
        self.known = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        self.attributes = lambda node: {k.name: onnx.helper.get_attribute_value(k) for k in node.attribute}

    def run(self, x):
        """The output for a sample."""
        values = {**self.known, self.graph.input[0].name: x}
        for node in self.graph.node:
            args, more = [values[name] for name in node.input if name], self.attributes(node)
            values[node.output[0]] = self.apply(node.op_type, args, more)
        return values[self.graph.output[0].name]

    def apply(self, kind, args, more):
        match kind:
            case "QuantizeLinear":
                return rounded(*args)
            case "DequantizeLinear":
                return real(*args, more.get("axis", 1))
            case "Pad":
                half = len(args[1]) // 2
                return np.pad(args[0], [(args[1][k], args[1][half + k]) for k in range(half)])
            case "Conv":
                assert not any(more.get("pads", [])) and set(more.get("dilations", [1])) == {1}
                return conv(*args, more["strides"], more["group"])
            case "Clip":
                return np.clip(args[0], float(args[1]), float(args[2]))
            case "Add":
                return args[0] + args[1]
            case "GlobalAveragePool":
                return args[0].mean((2, 3), keepdims=True)
            case "Reshape":
                return args[0].reshape(args[1])
            case "Gemm":
                assert not more.get("transA") and not more.get("transB")
                return args[0] @ args[1] + args[2]
        raise ValueError(f"found {kind}, which this network had not")


def main():
    parser = q.arguments(__doc__)
    parser.add_argument("--samples", type=int, default=200)
    args = parser.parse_args()
    path = args.models / f"{MODEL}.onnx"
    data = q.photographs(args.models / "data" / DATA)
    inputs, labels = a.integers(path, q.normalised(data)[0])[: args.samples], data["y"][: args.samples]
    exact = Exact(path)
    made = np.concatenate([exact.run(x[None]) for x in inputs])
    tools = {"exact": made, "adze": np.concatenate([a.ours(args.adze, path, [x[None]]) for x in inputs])}
    for name, plain in (("ONNX Runtime", False), ("ONNX Runtime, without its optimiser", True)):
        session = q.session_of(path, plain)
        tools[name] = np.concatenate([session.run(None, {session.get_inputs()[0].name: x[None]})[0] for x in inputs])
    print("| tool | right | as exact | mean difference | largest |\n|---|---:|---:|---:|---:|")
    for name, found in tools.items():
        best, apart = found.argmax(1), np.abs(found.astype(float) - made)
        right, same = (best == labels).sum(), (best == made.argmax(1)).sum()
        print(f"| {name} | {right} of {len(labels)} | {same} | {apart.mean():.3f} | {apart.max():.0f} |", flush=True)


if __name__ == "__main__":
    main()
