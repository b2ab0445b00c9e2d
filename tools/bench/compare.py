#!/usr/bin/env python3
"""Compares the training step of polartrain with PyTorch's, turn by turn on one machine, and prints a table.

Every round runs, for each model and optimizer, first polartrain, then each PyTorch (torch_step.py), with the same
number of threads; the figures are medians over the rounds and the ratios' range is that of the single rounds, so a
machine that is busy for a while disturbs both sides alike. PyTorch runs eager and compiled in every round and its
faster one counts.
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
# Name in the table -> the override that selects it in polartrain, and the name torch_step.py gives it.
# Muon-bf16 sets torch.optim.Muon, whose Newton-Schulz steps are in bf16, against our fp32.
OPTIMIZERS = {
    "AdamW": ("optimizer.groups.0.type=adamw", "adamw"),
    "Muon": ("optimizer.groups.0.type=muon", "muon"),
    "Muon-bf16": ("optimizer.groups.0.type=muon", "torch_muon"),
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


def measure_polartrain(arguments, config, override):
    return json.loads(run([arguments.binary, "bench", "step", config, override, "--json",
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
    override, torch_name = OPTIMIZERS[optimizer]
    ours = measure_polartrain(arguments, MODELS[model], override)
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
        if optimizer == "Muon-bf16" and not torch["has_muon"]:
            continue
        record = {"round": round_index + 1, **measure_pair(arguments, model, optimizer, torch)}
        records.append(record)
        print(f"round {record['round']}, {model}, {optimizer}, torch {torch['version']}: "
              f"{record['polartrain']['tokens_per_s']:.0f} against {record['pytorch']['tokens_per_s']:.0f} tokens/s "
              f"({record['pytorch']['mode']})", file=sys.stderr)  # fmt: skip
    return records


def table(records):
    lines = [
        "| model | optimizer | PyTorch | polartrain tokens/s | PyTorch tokens/s | mode | ratio | range | GEMM peak share |",
        "|---|---|---|---:|---:|---|---:|---|---:|",
    ]
    keys = dict.fromkeys((r["model"], r["optimizer"], r["torch"]) for r in records)
    for model, optimizer, torch in keys:
        rows = [r for r in records if (r["model"], r["optimizer"], r["torch"]) == (model, optimizer, torch)]
        ours = statistics.median(r["polartrain"]["tokens_per_s"] for r in rows)
        theirs = statistics.median(r["pytorch"]["tokens_per_s"] for r in rows)
        ratios = [r["polartrain"]["tokens_per_s"] / r["pytorch"]["tokens_per_s"] for r in rows]
        mode = statistics.mode(r["pytorch"]["mode"] for r in rows)
        share = statistics.median(r["polartrain"]["share_of_peak"] for r in rows)
        lines.append(f"| {model} | {optimizer} | {torch} | {ours:,.0f} | {theirs:,.0f} | {mode} | {ours / theirs:.2f} "
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
