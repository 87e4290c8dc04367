#!/usr/bin/env python3
"""Turns a recorded case into something a program without a file system can hold: case.py CASE.npz FOLDER

Writes in_<i>.bin, out_<i>.bin (raw elements), case.S (includes them, with tables of pointers) and case.h (counts, sizes).
Needs nothing but Python.
"""

import ast
import pathlib
import struct
import sys
import zipfile

DTYPES = {"<f4": "CASE_F32", "<f2": "CASE_F16"}  # compared with a tolerance; all others byte by byte


def read_npy(data):
    """(numpy's dtype string, elements, raw bytes) of an .npy file in C order."""
    assert data[:6] == b"\x93NUMPY", "not an .npy file"
    start, width = (10, "<H") if data[6] == 1 else (12, "<I")
    end = start + struct.unpack_from(width, data, 8)[0]
    head = ast.literal_eval(data[start:end].decode())
    elements = 1
    for extent in head["shape"]:
        elements *= extent
    assert not head["fortran_order"] or len(head["shape"]) < 2, "Fortran order"
    return head["descr"], elements, data[end:]


def main(case, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = ["/* Generated from a recorded case; do not edit. */"]
    source += ["#if __SIZEOF_POINTER__ == 4", "#define POINTER .long", "#else", "#define POINTER .quad", "#endif"]
    source += ['.section .rodata, "a"']
    header = ["/* Generated from a recorded case; do not edit. */"]
    tables = []
    with zipfile.ZipFile(case) as archive:
        for kind, word in (("in", "INPUT"), ("out", "OUTPUT")):
            count = sum(n.startswith(f"{kind}_") for n in archive.namelist())
            header.append(f"#define CASE_{word}S {count}")
            tables += [".balign 8", f".globl case_{word.lower()}s", f"case_{word.lower()}s:"]
            kinds = []
            for i in range(count):
                descr, elements, raw = read_npy(archive.read(f"{kind}_{i}.npy"))
                (folder / f"{kind}_{i}.bin").write_bytes(raw)
                source += [".balign 64", f"case_{kind}_{i}:", f'.incbin "{kind}_{i}.bin"']
                tables.append(f"POINTER case_{kind}_{i}")
                header.append(f"#define CASE_{word}_{i}_BYTES {len(raw)}ull")
                kinds.append(f"{{{len(raw)}u, {DTYPES.get(descr, 'CASE_BYTES')}}}")
            header.append(f"#define CASE_{word}_LIST {{{', '.join(kinds)}}}")
    # Pointers are relocated in a position-independent program: not in .rodata.
    source += ['.section .data.rel.ro, "aw"', *tables, '.section .note.GNU-stack, "", %progbits', ""]
    (folder / "case.S").write_text("\n".join(source))
    (folder / "case.h").write_text("\n".join(header) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
