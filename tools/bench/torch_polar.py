#!/usr/bin/env python3
"""Measures PyTorch at what `polartrain bench polar` measures: the Muon step on the hidden matrices of a model.

Two opponents: torch.optim.Muon itself (bf16 Newton-Schulz, one matrix after the other), and the same rule batched over
equally shaped matrices in bf16, eager and compiled. FLOPs are counted as polartrain counts them, with symmetric products at
half the work, so that the rates can be compared although PyTorch does the full ones.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

from torch_step import load, positive

# A layer of Qwen2.5-0.5B, 24 times: what polartrain takes without a configuration on a GPU.
DEFAULT = {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
           "intermediate_size": 4864}  # fmt: skip
STEPS = 5


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/bench/torch_polar.py configs/models/qwen2.5-0.5b.yaml --device cuda --json polar.json",
    )  # fmt: skip
    parser.add_argument("config", type=pathlib.Path, nargs="?", help="experiment in YAML (default: Qwen2.5-0.5B)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=positive, default=10, help="measured steps (default: %(default)s)")
    parser.add_argument("--layers", type=positive, metavar="N", help="that many layers only")
    parser.add_argument("--skip-compile", action="store_true", help="leave out what torch.compile makes")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results there, too")
    return parser.parse_args()


def shapes_of(model, layers):
    """The hidden matrices of a model: [(rows, columns)], as in the model's order."""
    width, inner = int(model["hidden_size"]), int(model["intermediate_size"])
    head = int(model.get("head_dim") or width // int(model["num_attention_heads"]))
    q, kv = head * int(model["num_attention_heads"]), head * int(model["num_key_value_heads"])
    layer = [(q, width), (kv, width), (kv, width), (width, q), (inner, width), (inner, width), (width, inner)]
    return layer * (layers or int(model["num_hidden_layers"]))


def flops_of(rows, columns):
    """src/optim/oracle.cpp: Gram matrix, polynomial, product; long matrices in the Gram form."""
    short, long = min(rows, columns), max(rows, columns)
    if 2 * long < 5 * short:
        return STEPS * (3 * short * short * long + short**3)
    return 6 * short * short * long + 23 * short**3


def measure(torch, device, repeats, work):
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        work()
    seconds = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), (max(seconds) - min(seconds)) / statistics.median(seconds)


def opponents(torch, parameters, skip_compile):
    """(name, step) of each that this PyTorch has."""
    from torch_model import MuonFp32, newton_schulz_5

    def in_bf16(matrices):
        return newton_schulz_5(matrices.bfloat16())

    if hasattr(torch.optim, "Muon"):
        yield "torch.optim.Muon", torch.optim.Muon(parameters, lr=0.0).step
        if not skip_compile:
            yield "torch.optim.Muon, compiled", torch.compile(torch.optim.Muon(parameters, lr=0.0).step)
    yield "batched bf16, eager", MuonFp32(parameters, lr=0.0, newton_schulz=in_bf16).step
    if hasattr(torch, "compile") and not skip_compile:
        yield "batched bf16, compiled", MuonFp32(parameters, lr=0.0, newton_schulz=torch.compile(in_bf16)).step


def main():
    arguments = parse_arguments()
    import torch

    model = load(arguments.config)["model"] if arguments.config else DEFAULT
    shapes = shapes_of(model, arguments.layers)
    flops = sum(flops_of(*shape) for shape in shapes)
    parameters = [torch.nn.Parameter(torch.randn(shape, device=arguments.device)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    rows = []

    def write():
        if arguments.json:
            name = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
            arguments.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")

    print(f"torch {torch.__version__}, {arguments.device}, {len(shapes)} matrices, {1e-9 * flops:.1f} GFLOP a step")
    for name, step in opponents(torch, parameters, arguments.skip_compile):
        try:
            seconds, spread = measure(torch, arguments.device, arguments.repeats, step)
        except Exception as error:  # one that does not run must not hide the others
            print(f"{name:<28} failed: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        rows.append({"name": name, "ms": 1e3 * seconds, "spread": spread, "matrices": len(shapes), "flops": flops,
                     "flops_per_s": flops / seconds})  # fmt: skip
        print(f"{name:<28} {1e3 * seconds:10.3f} ms, spread {100 * spread:.0f} %, {1e-9 * flops / seconds:.1f} GFLOP/s")
        write()
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
