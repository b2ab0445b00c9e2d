#!/usr/bin/env python3
"""Reads an event file (or a folder of them) with TensorBoard's own reader and prints its scalars.

The outside check of our event writer: TensorBoard verifies the checksums of every record.
"""

import argparse
import pathlib
import sys

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util


def event_files(path):
    return sorted(path.rglob("*tfevents*")) if path.is_dir() else [path]


def scalars(path):
    """Yields (tag, step, wall time, value). The loader turns old simple_value summaries into tensors."""
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            yield value.tag, event.step, event.wall_time, tensor_util.make_ndarray(value.tensor).item()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: .venv/bin/python tools/reference/tensorboard_check.py runs/demo/tensorboard",
    )  # fmt: skip
    parser.add_argument("file", type=pathlib.Path, help="an event file, or a folder searched for them")
    arguments = parser.parse_args()
    if not arguments.file.exists():
        parser.error(f"{arguments.file}: no such file or folder")
    count = 0
    for path in event_files(arguments.file):
        print(path)
        for tag, step, wall_time, value in scalars(path):
            print(f"  {wall_time:.3f}  step {step:>8}  {tag:<28} {value:.9g}")
            count += 1
    print(f"{count} scalars")
    sys.exit(0 if count else 1)


if __name__ == "__main__":
    main()
