"""Runs single commands in the vendor's simulator: a child process of the tests, and by hand a tool.

Usage: python3 run_commands.py LIBRARY < requests > answers

LIBRARY is `libcmodel_bm1684x.so` of the PyPI wheel `tpu_mlir`. A request is one byte and its arguments, integers
little-endian: `p` space u8, address u64, length u64, bytes (write); `g` space u8, address u64, length u64 (read, the answer
is the bytes); `x` engine u8, length u64, bytes (run a command). Spaces: 0 local memory, lane by lane, 1 DDR. The library
ends the process when a command breaks one of its rules, with a message on standard output that goes to standard error here.
"""

import ctypes
import os
import struct
import sys


def main():
    answers = os.dup(1)
    os.dup2(2, 1)
    library = ctypes.CDLL(sys.argv[1])
    library.get_global_memaddr.restype = ctypes.c_void_p
    library.get_local_mem.restype = ctypes.POINTER(ctypes.c_void_p)
    library.cmodel_init.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.execute_command.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    ddr_bytes = 1 << 28
    if library.cmodel_init(0, ddr_bytes) != 0:
        sys.exit("cmodel_init failed")
    spaces = [library.get_local_mem(0)[0], library.get_global_memaddr(0)]
    ctypes.memset(spaces[0], 0, 64 << 18)
    ctypes.memset(spaces[1], 0, 1 << 24)
    stream = sys.stdin.buffer
    while True:
        request = stream.read(1)
        if request == b"p":
            space, address, length = struct.unpack("<BQQ", stream.read(17))
            ctypes.memmove(spaces[space] + address, stream.read(length), length)
        elif request == b"g":
            space, address, length = struct.unpack("<BQQ", stream.read(17))
            data = ctypes.string_at(spaces[space] + address, length)
            while data:
                data = data[os.write(answers, data):]
        elif request == b"x":
            engine, length = struct.unpack("<BQ", stream.read(9))
            library.execute_command(0, stream.read(length) + bytes(128), engine)
        else:
            break
    os._exit(0)


main()
