#!/usr/bin/env python3
"""Writes `testdata/import/*.onnx`: hand-made valid graphs, one feature each.

    python testdata/make_import.py [NAME ...]

Each has `<name>.ort.npz` beside it: seeded inputs and what ONNX Runtime computes for them (a graph with named
dimensions also `<name>.ort2.npz`, other extents). Graphs that ONNX Runtime does not run have none and are listed at the
end of a run. Needs the versions in testdata/requirements.txt; the files are the same on every run.

Sizes are small, not square, and do not divide by common tiles.
"""

import pathlib
import sys

import onnx
from onnx import TensorProto

import cases_graph
import cases_nn
import cases_rare
from onnx_cases import CASES, record

IMPORT = pathlib.Path(__file__).resolve().parent / "import"


def write(case):
    """Writes one case; returns why it has no recorded outputs, or None."""
    path = IMPORT / f"{case.name}.onnx"
    made = case.model()
    if case.external:
        externalize(made, IMPORT / f"{case.name}.bin")
        onnx.save(made, path)
    else:
        path.write_bytes(made.SerializeToString(deterministic=True))
    for i, extents in enumerate(case.extents):
        try:
            inputs = case.values(extents)
            record(path, "ort" if i == 0 else f"ort{i + 1}", inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no base
            return str(error).splitlines()[0][:160]
    return None


def externalize(made, file):
    """Moves the initializers to `file`, each at its own 64-byte boundary."""
    blob = b""
    for tensor in made.graph.initializer:
        blob += b"\0" * (-len(blob) % 64)
        raw = tensor.raw_data
        for key, value in (("location", file.name), ("offset", len(blob)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        blob += raw
    file.write_bytes(blob)


def main(wanted):
    IMPORT.mkdir(exist_ok=True)
    cases_nn.define()
    cases_graph.define()
    cases_rare.define()
    unrecorded = []
    for name, case in CASES.items():
        if not wanted or name in wanted:
            why = write(case)
            if why is not None:
                unrecorded.append((name, why))
    for name, why in unrecorded:
        print(f"no recorded outputs: {name}: {why}")
    print(f"{len(CASES)} graphs")


if __name__ == "__main__":
    main(sys.argv[1:])
