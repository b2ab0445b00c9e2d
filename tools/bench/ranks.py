#!/usr/bin/env python3
"""What sharing a training step between two ranks on this machine's CPU comes to.

A rank is one thread. For each model, in the same run: the matrix optimizer's step of each of two ranks as a share of that of
one (polartrain bench polar --world-size 2); the time of a training step with one and with two ranks; and the share of a step in
which rank 0 waits for what travels: communication that nothing hides, imbalance included. And what a step takes with
distributed.reduction=invariant (the same bits on any number of ranks), over what it takes without.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from simulate_check import BATCH, MODELS, ROOT, Polartrain, prepare_data


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/bench/ranks.py --models 3.15M --output ranks.json",
    )  # fmt: skip
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/tools/polartrain",
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--steps", type=int, default=15, help="steps of a training run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of the benchmark (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="write the results as JSON")
    return parser.parse_args()


def polar_shares(polartrain, config, repeats):
    """The polar step of each rank, as a share of that of one rank."""
    report = json.loads(polartrain.run("bench", "polar", config, "--device", "cpu", "--threads", 1, "--repeats", repeats,
                                       "--world-size", 2, "--json"))  # fmt: skip
    return [row["share_of_all"] for row in report["rows"] if row["name"].startswith("rank ")]


def measure(polartrain, model, data, folder, arguments):
    config = MODELS[model]
    seconds, invariant, waits = {}, {}, []
    for ranks in (1, 2):
        lines = polartrain.train(config, data, folder, ranks, arguments.steps)
        seconds[ranks] = step_seconds(lines)
        invariant[ranks] = step_seconds(polartrain.train(config, data, folder, ranks, arguments.steps,
                                                         "distributed.reduction=invariant"))  # fmt: skip
        if ranks == 2:
            waits = [line["wait_share"] for line in lines if "wait_share" in line]
    return {
        "model": model, "polar_shares": polar_shares(polartrain, config, arguments.repeats),
        "step_s": seconds, "speed_up": seconds[1] / seconds[2],
        "wait_share": statistics.median(waits) if waits else None,
        "invariant": {ranks: invariant[ranks] / seconds[ranks] for ranks in seconds},
    }  # fmt: skip


def step_seconds(lines):
    return 2048 / statistics.median(line["tokens_per_s"] for line in lines)


def table(records):
    lines = ["| model | polar step of a rank / of one | step, 1 rank | 2 ranks | speed-up | waiting for what travels "
             "| invariant / fast, 1 rank | 2 ranks |", "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for r in records:
        shares = ", ".join(f"{share:.2f}" for share in r["polar_shares"])
        waits = "-" if r["wait_share"] is None else f"{100 * r['wait_share']:.1f} % of the step"
        lines.append(f"| {r['model']} | {shares} | {1e3 * r['step_s'][1]:.0f} ms | {1e3 * r['step_s'][2]:.0f} ms "
                     f"| {r['speed_up']:.2f} | {waits} | {r['invariant'][1]:.2f} | {r['invariant'][2]:.2f} |")  # fmt: skip
    return "\n".join(lines)


def main():
    arguments = parse_arguments()
    if not arguments.binary.exists():
        sys.exit(f"{arguments.binary}: no such program; build it or name it with --binary")
    polartrain = Polartrain(arguments.binary)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = prepare_data(polartrain, folder)
        records = [measure(polartrain, model, data, folder, arguments) for model in arguments.models]
    if arguments.output:
        arguments.output.write_text(json.dumps({"steps": arguments.steps, "records": records}, indent=2) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
