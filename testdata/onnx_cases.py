"""What the two model-making scripts share: writing a graph, and recording what ONNX Runtime makes of it.

A recorded case is `<model>.<case>.npz` with `in_0, in_1, ...` and `out_0, out_1, ...` in the order of the graph's
inputs that are no initializers and of its outputs. It is computed by ONNX Runtime on one CPU thread with graph
optimisations off: what the graph says, not what a fused kernel makes of it.
"""

import io
import zipfile

import numpy as np
import onnx
import onnxruntime as ort

PRODUCER = "adze testdata"


def save_npz(path, arrays):
    """Writes an .npz whose bytes depend on the arrays alone (fixed dates, fixed order)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            # `ascontiguousarray` would turn a scalar into a vector.
            np.lib.format.write_array(data, np.asarray(array, order="C"), version=(1, 0))
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())


def run_reference(path, inputs):
    """Outputs of the model at `path`, one array each, for `inputs` in graph order."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    assert len(names) == len(inputs), f"{path}: {len(names)} inputs, {len(inputs)} given"
    return session.run(None, dict(zip(names, inputs)))


def record(path, case, inputs):
    """Runs the model at `path` and writes `<path stem>.<case>.npz` beside it; returns the outputs."""
    outputs = run_reference(path, inputs)
    arrays = {f"in_{i}": a for i, a in enumerate(inputs)} | {f"out_{i}": a for i, a in enumerate(outputs)}
    save_npz(path.with_suffix(f".{case}.npz"), arrays)
    return outputs


def save_model(model, path):
    """Checks and writes a model; protobuf's deterministic form, so that the same graph gives the same bytes."""
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
