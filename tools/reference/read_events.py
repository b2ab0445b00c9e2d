#!/usr/bin/env python3
"""Prints what TensorBoard itself reads from an event file or a folder of them: a check of our writer.

Example: tools/reference/read_events.py runs/demo/tensorboard
Needs the Python package `tensorboard`.
"""
import argparse

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="an event file, or a run's tensorboard folder")
    accumulator = EventAccumulator(parser.parse_args().path, size_guidance={"scalars": 0})
    accumulator.Reload()
    for tag in sorted(accumulator.Tags()["scalars"]):
        points = (f"{e.step}:{e.value:.6g}@{e.wall_time:.3f}" for e in accumulator.Scalars(tag))
        print(tag, *points)


if __name__ == "__main__":
    main()
