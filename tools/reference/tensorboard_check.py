#!/usr/bin/env python3
"""Reads an event file (or a folder of them) with TensorBoard's own reader and prints its scalars.

The outside check of our event writer. TensorBoard verifies the checksums of every record, but takes a damaged one for
the end of the file; so the records are counted as well, and the exit code is 1 if it did not read them all.
"""

import argparse
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util


def event_files(path):
    return sorted(path.rglob("*tfevents*")) if path.is_dir() else [path]


def record_count(path):
    """Records by their framing alone: u64 length, u32 checksum, `length` bytes, u32 checksum."""
    content = path.read_bytes()
    count, position = 0, 0
    while position + 8 <= len(content):
        position += 12 + struct.unpack_from("<Q", content, position)[0] + 4
        count += 1
    return count if position == len(content) else -1


def print_scalars(path):
    """Prints the scalars of one file; returns their number and whether every record was read."""
    scalars, events = 0, 0
    for event in EventFileLoader(str(path)).Load():
        events += 1
        for value in event.summary.value:  # the loader has turned simple_value into a tensor
            number = tensor_util.make_ndarray(value.tensor).item()
            print(f"  {event.wall_time:.3f}  step {event.step:>8}  {value.tag:<28} {number:.9g}")
            scalars += 1
    return scalars, events == record_count(path)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: .venv/bin/python tools/reference/tensorboard_check.py runs/demo/tensorboard",
    )  # fmt: skip
    parser.add_argument("file", type=pathlib.Path, help="an event file, or a folder searched for them")
    arguments = parser.parse_args()
    if not arguments.file.exists():
        parser.error(f"{arguments.file}: no such file or folder")
    count, whole = 0, True
    for path in event_files(arguments.file):
        print(path)
        scalars, all_read = print_scalars(path)
        if not all_read:
            print(f"  {path}: TensorBoard stopped at a damaged record")
        count, whole = count + scalars, whole and all_read
    print(f"{count} scalars")
    sys.exit(0 if count and whole else 1)


if __name__ == "__main__":
    main()
