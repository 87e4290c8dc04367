#!/usr/bin/env python3
"""Runs a .bmodel in the vendor's runtime on the vendor's functional simulator.

    python3 run_bmodel.py LIB_FOLDER MODEL.bmodel NET IN0.bin:1x3x8x8 [IN1.bin:..] -- OUT0.bin:BYTES [OUT1.bin:..]

LIB_FOLDER is `tpu_mlir/lib` of the unpacked PyPI wheel `tpu_mlir` 1.30.2 (x86-64 Linux). Files are raw little-endian tensors.
Exit status: 0 done; 2 wrong arguments; 3 the libraries cannot be loaded; 4 the runtime refuses the model; 5 the run failed. A limit
of the chip that a command breaks ends the process with the simulator's own message.
"""

import ctypes
import os
import pathlib
import sys


class Shape(ctypes.Structure):
    """`bm_shape_t`."""

    _fields_ = [("num_dims", ctypes.c_int), ("dims", ctypes.c_int * 8)]


def fail(status, what):
    print(what, file=sys.stderr)
    sys.exit(status)


def libraries(folder):
    """The runtime and the device library, in the order in which they find each other's symbols."""
    try:
        device = ctypes.CDLL(str(folder / "libbmlib.so.0"), ctypes.RTLD_GLOBAL)
        runtime = ctypes.CDLL(str(folder / "libbmrt.so.1.0"), ctypes.RTLD_GLOBAL)
    except OSError as error:
        fail(3, f"vendor libraries: {error}")
    runtime.bmrt_create.restype = ctypes.c_void_p
    runtime.bmrt_create.argtypes = [ctypes.c_void_p]
    runtime.bmrt_load_bmodel.restype = ctypes.c_bool
    runtime.bmrt_load_bmodel.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    runtime.bmrt_launch_data.restype = ctypes.c_bool
    pointers = ctypes.POINTER(ctypes.c_void_p)
    launch = [ctypes.c_void_p, ctypes.c_char_p, pointers, ctypes.POINTER(Shape), ctypes.c_int]
    runtime.bmrt_launch_data.argtypes = [*launch, pointers, ctypes.POINTER(Shape), ctypes.c_int, ctypes.c_bool]
    return device, runtime


def main(arguments):
    if len(arguments) < 5 or "--" not in arguments:
        fail(2, __doc__)
    folder, model, net = pathlib.Path(arguments[0]), arguments[1], arguments[2]
    middle = arguments.index("--")
    inputs = [text.rsplit(":", 1) for text in arguments[3:middle]]
    outputs = [text.rsplit(":", 1) for text in arguments[middle + 1 :]]
    device, runtime = libraries(folder)
    handle = ctypes.c_void_p()
    if device.bm_dev_request(ctypes.byref(handle), 0) != 0:
        fail(3, "bm_dev_request: no simulated device")
    state = runtime.bmrt_create(handle)
    if not state or not runtime.bmrt_load_bmodel(state, model.encode()):
        fail(4, f"{model}: the runtime does not load it")
    given = [ctypes.create_string_buffer(pathlib.Path(path).read_bytes()) for path, _ in inputs]
    shapes = (Shape * len(inputs))()
    for shape, (_, text) in zip(shapes, inputs):
        extents = [int(extent) for extent in text.split("x")]
        shape.num_dims = len(extents)
        shape.dims[: len(extents)] = extents
    made = [ctypes.create_string_buffer(int(size)) for _, size in outputs]
    address = lambda buffers: (ctypes.c_void_p * len(buffers))(*[ctypes.addressof(b) for b in buffers])
    found = (Shape * len(outputs))()
    arguments = [net.encode(), address(given), shapes, len(given), address(made), found, len(made), True]
    if not runtime.bmrt_launch_data(state, *arguments):
        fail(5, f"{model}: the run failed")
    for (path, _), buffer, shape in zip(outputs, made, found):
        pathlib.Path(path).write_bytes(bytes(buffer.raw))
        print(path, "x".join(str(extent) for extent in shape.dims[: shape.num_dims]))
    sys.stdout.flush()
    # The simulator's threads do not end by themselves.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
