"""What the model-making scripts share: describing and writing a graph, recording what ONNX Runtime makes of it.

A recorded case is `<model>.<case>.npz` with `in_0, in_1, ...` and `out_0, out_1, ...` in the order of the graph's
inputs that are no initializers and of its outputs. It is computed by ONNX Runtime on one CPU thread with graph
optimisations off: what the graph says, not what a fused kernel makes of it.
"""

import io
import zipfile
import zlib

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

PRODUCER = "adze testdata"

F32, F16, BF16 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
I64, I32, BOOL, U8, I8 = np.dtype(np.int64), np.dtype(np.int32), np.dtype(bool), np.dtype(np.uint8), np.dtype(np.int8)


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


CASES = {}


class Case:
    """One graph: nodes, inputs (name -> (dtype, shape)), initializers, output names."""

    def __init__(self, name, opset=17):
        assert name not in CASES, name
        CASES[name] = self
        self.name, self.opset, self.ir_version = name, opset, 8 if opset < 19 else 10
        self.nodes, self.inputs, self.inits, self.outputs = [], {}, {}, []
        self.functions, self.domains, self.data = [], {}, {}
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.extents, self.external = [{}], False
        self.output_types = {}
        self.also_inputs = []  # initializers that are listed as graph inputs too: defaults
        self.typed_fields = False  # `float_data` instead of `raw_data`

    def x(self, name, shape, dtype=F32, data=None):
        """A graph input; `data` fixes the values of its recorded case."""
        self.inputs[name] = (np.dtype(dtype), list(shape))
        if data is not None:
            self.data[name] = np.asarray(data, dtype)
        return name

    def w(self, name, value, dtype=F32):
        """An initializer: values, or a shape tuple for seeded ones."""
        self.inits[name] = self.random(dtype, value) if isinstance(value, tuple) else np.asarray(value, dtype)
        return name

    def n(self, op, inputs, outputs=("y",), name=None, domain="", **attrs):
        """A node; named after its op and place unless told otherwise."""
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        name = f"{op.lower()}_{len(self.nodes)}" if name is None else name
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name, domain=domain, **attrs))
        return outputs[0] if len(outputs) == 1 else outputs

    def out(self, *names, dtype=None):
        self.outputs += names
        if dtype is not None:
            self.output_types |= {n: np.dtype(dtype) for n in names}
        return self

    def random(self, dtype, shape):
        dtype = np.dtype(dtype)
        if dtype == BOOL:
            return self.rng.random(shape) < 0.5
        if dtype.kind in "iu":
            return self.rng.integers(0 if dtype.kind == "u" else -5, 6, shape).astype(dtype)
        return self.rng.standard_normal(shape).astype(np.float32).astype(dtype)

    def values(self, extents):
        """One recorded case's inputs, named dimensions bound by `extents`."""
        shape = lambda dims: [extents.get(d, d) for d in dims]
        return [self.data[k] if k in self.data else self.random(t, shape(dims)) for k, (t, dims) in self.inputs.items()]

    def tensor(self, name, value):
        made = numpy_helper.from_array(value, name)
        if self.typed_fields:
            made = helper.make_tensor(name, made.data_type, made.dims, value.ravel())
        return made

    def model(self):
        elem = helper.np_dtype_to_tensor_dtype
        defaults = [(k, (self.inits[k].dtype, self.inits[k].shape)) for k in self.also_inputs]
        inputs = [*self.inputs.items(), *defaults]
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(k, elem(t), dims) for k, (t, dims) in inputs],
            [helper.make_tensor_value_info(n, elem(self.output_types.get(n, F32)), None) for n in self.outputs],
            [self.tensor(k, v) for k, v in self.inits.items()],
        )
        imports = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        made = helper.make_model(graph, opset_imports=imports, producer_name=PRODUCER, functions=self.functions)
        made.ir_version = self.ir_version
        if any(n.domain for n in self.nodes):
            return made
        # The checker wants a shape on each output; where inference finds none, the rank stays open (no `shape` field).
        inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
        for mine, theirs in zip(made.graph.output, inferred.graph.output):
            if theirs.type.tensor_type.HasField("shape"):
                mine.CopyFrom(theirs)
        return made
