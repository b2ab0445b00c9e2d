#!/usr/bin/env python3
"""Compares the training step of polartrain with PyTorch's, turn by turn on one machine, and prints a table.

Every round runs, for each model and optimizer, first polartrain, then each PyTorch (torch_step.py), with the same
number of threads; the figures are medians over the rounds and the ratios' range is that of the single rounds, so a
machine that is busy for a while disturbs both sides alike. PyTorch runs eager and compiled in every round.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"3.15M": "configs/bench/3m.yaml", "15.7M": "configs/bench/16m.yaml"}
# Name in the table -> the overrides that select it in polartrain, and the name torch_step.py gives it. "Muon" is fp32
# on both sides. In the last two polartrain's products keep 16 significant bits; PyTorch's are fp32, and in torch.optim.Muon
# bf16 (8 bits).
REDUCED = ["optimizer.groups.0.type=muon", "optimizer.groups.0.oracle.products=reduced"]
OPTIMIZERS = {
    "AdamW": (["optimizer.groups.0.type=adamw"], "adamw"),
    "Muon": (["optimizer.groups.0.type=muon"], "muon"),
    "Muon, reduced / fp32": (REDUCED, "muon"),
    "Muon, reduced / bf16": (REDUCED, "torch_muon"),
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/bench/compare.py --python .venv/bin/python --threads 2 --rounds 5 --output compare.json",
    )  # fmt: skip
    parser.add_argument("--python", action="append", metavar="PATH",
                        help="interpreter with torch and yaml; may be given several times (default: this one)")  # fmt: skip
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/tools/polartrain",
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores (%(default)s here)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    parser.add_argument("--mode", choices=["eager", "compile", "best"], default="best", help="of torch_step.py")
    parser.add_argument("--torch-env", action="append", default=[], metavar="KEY=VALUE",
                        help="environment of the PyTorch runs, e.g. OMP_WAIT_POLICY=passive (faster with OpenBLAS)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=10, help="measured steps of a PyTorch run (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="write all single results as JSON")
    return parser.parse_args()


def run(command, environment=None):
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                              env={**os.environ, **(environment or {})})  # fmt: skip
    if finished.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {finished.returncode}\n{finished.stdout}{finished.stderr}")
    return finished.stdout


def describe_torch(python):
    """The interpreter's torch version and whether it has torch.optim.Muon."""
    program = "import json, torch; print(json.dumps([torch.__version__, hasattr(torch.optim, 'Muon')]))"
    version, has_muon = json.loads(run([python, "-c", program]))
    return {"python": python, "version": version, "has_muon": has_muon}


def measure_polartrain(arguments, config, overrides):
    return json.loads(run([arguments.binary, "bench", "step", config, *overrides, "--json",
                           "--threads", str(arguments.threads)]))  # fmt: skip


def measure_torch(arguments, torch, config, optimizer):
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        run([torch["python"], ROOT / "tools/bench/torch_step.py", config, "--optimizer", optimizer, "--mode",
             arguments.mode, "--threads", str(arguments.threads), "--steps", str(arguments.steps),
             "--json", result.name],
            dict(setting.split("=", 1) for setting in arguments.torch_env))  # fmt: skip
        return json.loads(pathlib.Path(result.name).read_text())


def measure_pair(arguments, model, optimizer, torch):
    """Both results, polartrain's first."""
    overrides, torch_name = OPTIMIZERS[optimizer]
    ours = measure_polartrain(arguments, MODELS[model], overrides)
    theirs = measure_torch(arguments, torch, MODELS[model], torch_name)
    if ours["parameters"] != theirs["parameters"]:
        sys.exit(f"{model}: not the same model: {ours['parameters']} parameters in polartrain, "
                 f"{theirs['parameters']} in torch_step.py")  # fmt: skip
    return {"model": model, "optimizer": optimizer, "torch": torch["version"], "polartrain": ours, "pytorch": theirs}


def measure_all(arguments, torches):
    """One record per round, model, optimizer and PyTorch."""
    records = []
    cases = itertools.product(range(arguments.rounds), arguments.models, arguments.optimizers, torches)
    for round_index, model, optimizer, torch in cases:
        if OPTIMIZERS[optimizer][1] == "torch_muon" and not torch["has_muon"]:
            continue
        record = {"round": round_index + 1, **measure_pair(arguments, model, optimizer, torch)}
        records.append(record)
        print(f"round {record['round']}, {model}, {optimizer}, torch {torch['version']}: "
              f"{record['polartrain']['tokens_per_s']:.0f} against {record['pytorch']['tokens_per_s']:.0f} tokens/s "
              f"({record['pytorch']['mode']})", file=sys.stderr)  # fmt: skip
    return records


def table(records):
    """A line for each mode of PyTorch: eager, and compiled where it was measured."""
    lines = [
        "| model | optimizer | PyTorch | mode | polartrain tokens/s | PyTorch tokens/s | ratio | range | GEMM peak share |",
        "|---|---|---|---|---:|---:|---:|---|---:|",
    ]
    cells = {}
    for r in records:
        for mode in r["pytorch"].get("modes") or [r["pytorch"]]:
            cells.setdefault((r["model"], r["optimizer"], r["torch"], mode["mode"]), []).append(
                (r["polartrain"]["tokens_per_s"], mode["tokens_per_s"], r["polartrain"]["share_of_peak"]))  # fmt: skip
    for (model, optimizer, torch, mode), rows in cells.items():
        ours, theirs, share = (statistics.median(column) for column in zip(*rows))
        ratios = [row[0] / row[1] for row in rows]
        lines.append(f"| {model} | {optimizer} | {torch} | {mode} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} "
                     f"| {min(ratios):.2f} to {max(ratios):.2f} | {100 * share:.0f} % |")  # fmt: skip
    return "\n".join(lines)


def main():
    arguments = parse_arguments()
    arguments.binary = arguments.binary.resolve()
    if not arguments.binary.exists():
        sys.exit(f"{arguments.binary}: no such program; build it or name it with --binary")
    torches = [describe_torch(python) for python in arguments.python or [sys.executable]]
    records = measure_all(arguments, torches)
    if arguments.output:
        summary = {"threads": arguments.threads, "rounds": arguments.rounds, "records": records}
        arguments.output.write_text(json.dumps(summary, indent=2) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
