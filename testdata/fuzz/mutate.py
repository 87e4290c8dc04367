#!/usr/bin/env python3
"""Runs a command on mutated ONNX files and fails on anything but a clean end.

    mutate.py [--count 10000] [--seed 1] [--seeds DIR ...] [--jobs N] -- COMMAND...

The path of the mutated file is appended to COMMAND (or put where it says `{}`). Seeds are the `.onnx` files in the DIRs
(default: testdata/import). Mutant i depends on --seed and i alone. Even ones change fields of the decoded message, odd ones
bytes of the file. Each child runs with 1 GiB of address space and 5 s of CPU.

Clean: exit 0, 1, 2 or 77 without a panic message. Not clean: a signal (SIGABRT on a refused allocation among them), exit
70 or any other, a panic message, the time limit. Such files are kept in --keep. The reached stage is read from the `code` of
the JSON diagnostics: codes that match --parse-code count as the protobuf parser's, all others and exit 0 as past it.
"""

import argparse
import collections
import json
import math
import multiprocessing
import os
import pathlib
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

import onnx
from google.protobuf.descriptor import FieldDescriptor as Field

CLEAN_EXITS = (0, 1, 2, 77)  # 2: a mutated dimension may need an argument that was not given
ADDRESS_SPACE_BYTES = 1 << 30
CPU_SECONDS = 5
WALL_SECONDS = 60  # only for a child that sleeps: the CPU limit catches the others on a busy machine
INTEGERS = [0, 1, -1, 2, 3, 7, 16, 255, 1 << 16, (1 << 31) - 1, -(1 << 31), 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-38, 3e38, math.inf, -math.inf, math.nan]
INT32 = (Field.TYPE_INT32, Field.TYPE_SINT32, Field.TYPE_SFIXED32)
UNSIGNED = (Field.TYPE_UINT32, Field.TYPE_UINT64, Field.TYPE_FIXED32, Field.TYPE_FIXED64)


# ---------------------------------------------------------------- fields


def messages(root):
    """`root` and every message below it, with a bound on depth."""
    found, open_ = [], [(root, 0)]
    while open_:
        message, depth = open_.pop()
        found.append(message)
        if depth > 20:
            continue
        for field, value in message.ListFields():
            if field.type == Field.TYPE_MESSAGE:
                open_ += [(m, depth + 1) for m in (value if repeated(field) else [value])]
    return found


def repeated(field):
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == Field.LABEL_REPEATED


def scalar(rng, field, old, pool):
    """A new value for a scalar field, near `old` or extreme; `pool` has the strings of the model."""
    kind = field.type
    if kind == Field.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if kind == Field.TYPE_BOOL:
        return not old
    if kind in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return rng.choice(FLOATS + [old * 2 if old else 1.0])
    if kind == Field.TYPE_STRING:
        return rng.choice([rng.choice(pool), rng.choice(pool), "", "x" * 5000, old + "\u0000", "../" * 9 + old])
    if kind == Field.TYPE_BYTES:
        return byte_string(rng, old)
    value = rng.choice(INTEGERS + [old + 1, old - 1, old * 2, rng.randrange(64), rng.randrange(64)])
    if kind in UNSIGNED:
        return value % (1 << (32 if kind in (Field.TYPE_UINT32, Field.TYPE_FIXED32) else 64))
    bits = 32 if kind in INT32 else 64
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def byte_string(rng, old):
    how = rng.randrange(5)
    if how == 0:
        return b""
    if how == 1:
        return old[: rng.randrange(len(old) + 1)]
    if how == 2:
        return old + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
    if how == 3 and len(old) >= 8:
        at = rng.randrange(len(old) // 8) * 8
        return old[:at] + struct.pack("<q", rng.choice(INTEGERS)) + old[at + 8 :]
    return bytes(rng.randrange(256) for _ in range(len(old)))


def mutate_list(rng, field, values, pool):
    """Changes a repeated field in place: drop, double, swap, clear, extend, or a new value for one element."""
    how = rng.randrange(7)
    at = rng.randrange(len(values))
    is_message = field.type == Field.TYPE_MESSAGE
    if how == 0:
        del values[at]
    elif how == 1 and is_message:
        values.add().CopyFrom(values[at])
    elif how == 1:
        values.append(values[at])
    elif how == 2:
        other = rng.randrange(len(values))
        if is_message:
            kept = type(values[at])()
            kept.CopyFrom(values[at])
            values[at].CopyFrom(values[other])
            values[other].CopyFrom(kept)
        else:
            values[at], values[other] = values[other], values[at]
    elif how == 3 and rng.random() < 0.3:
        del values[:]
    elif how == 4 and not is_message:
        values.extend([scalar(rng, field, values[at], pool)] * rng.choice([1, 1, 2, 70]))
    elif not is_message:
        values[at] = scalar(rng, field, values[at], pool)


def mutate_message(rng, root, pool):
    """One change to one field of one message under `root`."""
    message = rng.choice(messages(root))
    present = message.ListFields()
    if not present or rng.random() < 0.1:
        # A field that was absent. Sub-messages of a random kind are set empty.
        field = rng.choice(message.DESCRIPTOR.fields)
        if not repeated(field) and field.type != Field.TYPE_MESSAGE:
            empty = {Field.TYPE_STRING: "", Field.TYPE_BYTES: b""}.get(field.type, 0)
            setattr(message, field.name, scalar(rng, field, empty, pool))
        elif repeated(field) and field.type == Field.TYPE_MESSAGE:
            getattr(message, field.name).add()
        elif field.type == Field.TYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
        return
    field, value = rng.choice(present)
    if repeated(field):
        mutate_list(rng, field, value, pool)
    elif field.type == Field.TYPE_MESSAGE or rng.random() < 0.15:
        if rng.random() < 0.3:
            message.ClearField(field.name)
    else:
        setattr(message, field.name, scalar(rng, field, value, pool))


def strings(root):
    """Every string in the model, and some that mean something to ONNX."""
    found = {"", "com.microsoft", "ai.onnx", "location", "offset", "length", "NOTSET", "SAME_UPPER", "Loop", "If", "Conv"}
    for message in messages(root):
        for field, value in message.ListFields():
            if field.type == Field.TYPE_STRING:
                found.update(value if repeated(field) else [value])
    return sorted(found)


def nest(rng, model):
    """Puts the graph into an attribute of itself, many levels deep."""
    for _ in range(rng.choice([2, 20, 60, 99, 150])):
        inner = onnx.GraphProto()
        inner.CopyFrom(model.graph)
        if inner.ByteSize() > 200_000:
            return
        del model.graph.node[:]
        node = model.graph.node.add(op_type=rng.choice(["If", "Loop", "Scan", "Relu"]), name="outer")
        node.output.append("y")
        attribute = node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
        attribute.g.CopyFrom(inner)


def by_fields(rng, data):
    model = onnx.ModelProto()
    model.ParseFromString(data)
    pool = strings(model)
    if rng.random() < 0.01:
        nest(rng, model)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        try:
            mutate_message(rng, model, pool)
        except (ValueError, TypeError, UnicodeError):
            continue  # a value that this protobuf does not let us set
    try:
        return model.SerializeToString(deterministic=True)
    except Exception:  # over-deep or over-long
        return data[:-1]


# ---------------------------------------------------------------- bytes


def by_bytes(rng, data, other):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at = rng.randrange(len(data) + 1)
        span = min(rng.choice([1, 1, 2, 4, 8, 64]), len(data) - at)
        how = rng.randrange(10)
        if how <= 3 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 4 and at < len(data):
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif how == 5:
            del data[at : at + span]
        elif how == 6:
            data[at:at] = bytes(rng.randrange(256) for _ in range(max(span, 1)))
        elif how == 7:
            data[at:at] = data[at : at + span] * rng.choice([1, 2, 300])
        elif how == 8 and rng.random() < 0.3:
            del data[at:]
        elif other:
            start = rng.randrange(len(other))
            data[at : at + span] = other[start : start + rng.choice([4, 16, 200])]
        if not data:
            data = bytearray(b"\0")
    if rng.random() < 0.005:
        depth = rng.choice([50, 99, 101, 5000, 100_000])
        data += b"\x9b\x06" * depth + b"\x9c\x06" * depth  # field 99 as nested groups
    return bytes(data)


# ---------------------------------------------------------------- running


def mutant(seeds, seed, index):
    rng = random.Random(f"{seed}/{index}")
    name = rng.choice(sorted(seeds))
    if index % 2 == 0:
        return by_fields(rng, seeds[name])
    return by_bytes(rng, seeds[name], seeds[rng.choice(sorted(seeds))])


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def codes_in(text):
    """Every `"code": ...` in the JSON documents or JSON lines of `text`."""
    found, open_ = [], []
    for chunk in [text] + text.splitlines():
        try:
            open_.append(json.loads(chunk))
        except ValueError:
            continue
        if chunk is text:
            break
    while open_:
        value = open_.pop()
        if isinstance(value, dict):
            if isinstance(value.get("code"), str):
                found.append(value["code"])
            open_ += value.values()
        elif isinstance(value, list):
            open_ += value
    return found


def run_one(task):
    """(index, verdict, exit, first code, peak KiB of this worker's children) of one mutant; verdict None is clean."""
    index, (seeds, seed, command, folder, keep) = task, CONTEXT
    path = pathlib.Path(folder) / f"mutant_{os.getpid()}.onnx"
    data = mutant(seeds, seed, index)
    path.write_bytes(data)
    line = [a.replace("{}", str(path)) for a in command] if any("{}" in a for a in command) else [*command, str(path)]
    verdict, exit_, text = None, None, ""
    try:
        # The children's core dumps and environment noise are of no use here.
        done = subprocess.run(line, capture_output=True, timeout=WALL_SECONDS, preexec_fn=limits, stdin=subprocess.DEVNULL,
                              env=os.environ | {"RUST_BACKTRACE": "0"})  # fmt: skip
        exit_, text = done.returncode, done.stderr.decode(errors="replace") + "\n" + done.stdout.decode(errors="replace")
        if re.search(r"panicked at|has overflowed its stack|memory allocation of", text):
            verdict = "panic"
        elif exit_ < 0:
            verdict = "cpu time" if -exit_ in (24, 9) else f"signal {-exit_}"
        elif exit_ not in CLEAN_EXITS:
            verdict = f"exit {exit_}"
    except subprocess.TimeoutExpired:
        verdict = "hang"
    if verdict:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{seed}_{index}.onnx").write_bytes(data)
        (keep / f"{seed}_{index}.txt").write_text(f"{verdict}\n{' '.join(line)}\n{text[-4000:]}\n")
    codes = codes_in(text)
    return index, verdict, exit_, codes[0] if codes else "", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


CONTEXT = None


def start_worker(context):
    global CONTEXT
    CONTEXT = context


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", action="append", type=pathlib.Path, help="folder with .onnx files; repeatable")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("target/fuzz"))
    parser.add_argument("--parse-code", default=r"wire|protobuf|decode|malformed", help="codes of the protobuf parser")
    parser.add_argument("--min-past-parse", type=float, default=1 / 3)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()

    here = pathlib.Path(__file__).resolve().parent
    seeds, folder = {}, tempfile.mkdtemp(prefix="mutants-")
    for directory in args.seeds or [here.parent / "import"]:
        for path in sorted(directory.glob("*.onnx")):
            seeds[path.stem] = path.read_bytes()
        for path in directory.glob("*.bin"):
            shutil.copy(path, folder)  # external data
    assert seeds, "no seeds"

    context = (seeds, args.seed, args.command, folder, args.keep)
    stages, bad, peak = collections.Counter(), [], 0
    try:
        with multiprocessing.Pool(args.jobs, start_worker, (context,)) as pool:
            for index, verdict, exit_, code, used in pool.imap_unordered(run_one, range(args.count), chunksize=8):
                peak = max(peak, used)
                if verdict:
                    bad.append((index, verdict))
                    stages[("NOT CLEAN", verdict)] += 1
                elif exit_ == 0:
                    stages[("accepted", "exit 0")] += 1
                elif re.search(args.parse_code, code):
                    stages[("parse", f"exit {exit_} {code}")] += 1
                else:
                    stages[("past parse", f"exit {exit_} {code or 'without a code'}")] += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    print("| stage | outcome | files |\n|---|---|---:|")
    for (stage, what), count in sorted(stages.items(), key=lambda item: (item[0][0], -item[1], item[0][1])):
        print(f"| {stage} | {what} | {count} |")
    past = sum(n for (stage, _), n in stages.items() if stage in ("accepted", "past parse"))
    print(f"\n{args.count} files from {len(seeds)} seeds; {past} ({100 * past / args.count:.1f}%) past the protobuf parser;")
    print(f"{len(bad)} not clean; peak memory of a child at most {peak // 1024} MiB")
    for index, verdict in sorted(bad)[:20]:
        print(f"  {args.keep}/{args.seed}_{index}.onnx: {verdict}")
    silent = sum(n for (_, what), n in stages.items() if what.endswith("without a code"))
    if silent:
        print(f"{silent} errors without a diagnostic code: their stage is not known")
    sys.exit(1 if bad or silent or past < args.min_past_parse * args.count else 0)


if __name__ == "__main__":
    main()
