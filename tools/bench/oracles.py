#!/usr/bin/env python3
"""The matrix optimizer's step with each oracle on this machine's CPU, and PyTorch's Muon beside it, in the same run.

For the hidden matrices of each model: momentum, factor and update by PolarTrain with five steps of newton_schulz and of
polar_express, and with qdwh; by torch.optim.Muon (bf16, one matrix after the other) and by the same rule in fp32, batched over
equally shaped matrices. Rounds of all of them follow each other, and the median of a round's ratios counts. Last, matrices of
4:1, whose Gram form does fewer FLOPs, against squares of the same short side: time a matrix over what the plain form's FLOPs
at the squares' rate would take.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# And how many of its layers: equal ones cost the same.
MODELS = {"15.7M": (ROOT / "configs/bench/16m.yaml", 8), "124M": (ROOT / "configs/models/124m.yaml", 3)}
ORACLES = {
    "newton_schulz": ["optimizer.groups.0.oracle.kind=newton_schulz"],
    "polar_express": ["optimizer.groups.0.oracle.kind=polar_express"],
    "qdwh": ["optimizer.groups.0.oracle.kind=qdwh", "optimizer.groups.0.oracle.steps=0"],
}
PRODUCTS = "optimizer.groups.0.oracle.products"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: OMP_NUM_THREADS=2 tools/bench/oracles.py --models 15.7M --output oracles.json",
    )  # fmt: skip
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/tools/polartrain",
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="write the results as JSON")
    return parser.parse_args()


def rows_of(arguments, config, *overrides):
    """The rows of `bench polar` by name."""
    words = [arguments.binary.resolve(), "bench", "polar", config, "optimizer.groups.0.type=muon", *overrides, "--device", "cpu",
             "--threads", arguments.threads, "--repeats", 3, "--json"]  # fmt: skip
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return {row["name"]: row for row in json.loads(done.stdout)["rows"]}


def all_ms(rows):
    return next(row["ms"] for name, row in rows.items() if name.startswith("all"))


def torch_steps(config, layers):
    """(name, step) of PyTorch's."""
    import torch
    from torch_model import MuonFp32
    from torch_polar import shapes_of
    from torch_step import load

    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes_of(load(config)["model"], layers)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    steps = {"batched fp32": MuonFp32(parameters, lr=0.0).step}
    if hasattr(torch.optim, "Muon"):
        steps["torch.optim.Muon"] = torch.optim.Muon(parameters, lr=0.0).step
    return steps


def torch_ms(step):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def compare(arguments, model):
    (config, layers), rounds = MODELS[model], []
    peers = torch_steps(config, layers)
    same = f"model.num_hidden_layers={layers}"
    for _ in range(arguments.rounds):
        times = {f"{name}, {products}": all_ms(rows_of(arguments, config, same, *ORACLES[name], f"{PRODUCTS}={products}"))
                 for name in ("newton_schulz", "polar_express") for products in ("full", "reduced")}  # fmt: skip
        times["qdwh"] = all_ms(rows_of(arguments, config, same, *ORACLES["qdwh"]))
        times |= {name: torch_ms(step) for name, step in peers.items()}
        rounds.append(times)
    median = {name: statistics.median(times[name] for times in rounds) for name in rounds[0]}
    ratios = {f"{peer} / {own}": statistics.median(times[peer] / times[own] for times in rounds)
              for peer in peers for own in median if own not in peers and own != "qdwh"}  # fmt: skip
    ratios["qdwh / newton_schulz, full"] = statistics.median(times["qdwh"] / times["newton_schulz, full"] for times in rounds)
    return {"model": model, "layers": layers, "ms": median, "ratios": ratios}


def gram_form(arguments, short=384):
    """Time of 4:1 matrices over what the plain form would take at the rate of squares."""
    overrides = [f"model.hidden_size={short}", f"model.intermediate_size={4 * short}", "model.num_attention_heads=6",
                 "model.num_key_value_heads=6", "model.head_dim=64", f"{PRODUCTS}=full"]  # fmt: skip
    ratios = []
    for _ in range(arguments.rounds):
        rows = rows_of(arguments, MODELS["15.7M"][0], *overrides)
        square, tall = rows[f"{short} x {short}"], rows[f"{4 * short} x {short}"]
        # Gram matrix, polynomial and product of five steps, with symmetric products at half the work.
        plain = 5 * (3 * 4 + 1) * short**3
        rate = 5 * (3 + 1) * short**3 / (square["ms"] / square["matrices"])
        ratios.append(tall["ms"] / tall["matrices"] / (plain / rate))
    flops = (6 * 4 + 23) / (5 * (3 * 4 + 1))
    return {"time_of_plain": statistics.median(ratios), "flops_of_plain": flops}


def main():
    arguments = parse_arguments()
    import torch

    torch.set_num_threads(arguments.threads)
    result = {"torch": torch.__version__, "threads": arguments.threads, "models": []}
    for model in arguments.models:
        record = compare(arguments, model)
        result["models"].append(record)
        print(f"{model}:")
        for name, ms in record["ms"].items():
            print(f"  {name:<28} {ms:10.2f} ms")
        for name, ratio in record["ratios"].items():
            print(f"  {name:<48} {ratio:6.2f}")
    result["gram_form"] = gram_form(arguments)
    print(f"Gram form, 4:1: {result['gram_form']['time_of_plain']:.2f} of the plain form's time, "
          f"{result['gram_form']['flops_of_plain']:.2f} of its FLOPs")  # fmt: skip
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
