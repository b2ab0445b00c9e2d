#!/usr/bin/env python3
"""Writes tests/golden/lab/torch_draw.json: what PyTorch's CPU generator draws, and what the lab's problems are
when they are drawn in the order of the PolarGrad authors' scripts.

sequences    a seed and calls one after the other: randn, uniform_(-1, 1), rand < share, randint; of each the
             first and the last elements (all, where there are few) and the sum in float64
quadratic    f*, f(X_0) - f* and the nuclear norm of the gradient at X_0 in float64: the authors' sizes and seed
logistic     f(X_0), and the Frobenius norm of the gradients of mini-batches there: a small problem
completion   f(X_0, Y_0): the authors' sizes and seed

Needs torch. Example: tools/reference/torch_draw.py --out tests/golden/lab
"""

import argparse
import json
from pathlib import Path

import torch

ENDS = 20
# Sizes with and without a rest of sixteen, and below sixteen, where numbers are made in pairs one by one.
SEQUENCES = [
    (42, [("normal", 1000, 500), ("normal", 100, 250), ("normal", 1000, 250)]),
    (42, [("uniform", 500, 100)]),
    (42, [("normal", 500, 5), ("normal", 250, 5), ("chosen", 500, 250, 0.3)]),
    (7, [("normal", 4, 4), ("normal", 17, 1), ("normal", 5, 7), ("uniform", 3, 3), ("normal", 2, 20)]),
    (8, [("normal", 3, 1), ("normal", 9, 7), ("normal", 2, 2), ("uniform", 1, 5), ("normal", 1, 2)]),
    (3, [("uniform", 20, 6), ("indices", 50, 400), ("indices", 50, 400), ("indices", 50, 10000)]),
    (9, [("chosen", 13, 11, 0.7)]),
]
LOGISTIC = {"seed": 42, "rows": 400, "m": 20, "n": 6, "q": 30, "batch": 50, "steps": [0, 1, 7]}


def drawn(kind, rows, columns, share=None):
    if kind == "normal":
        return torch.randn(rows, columns)
    if kind == "uniform":
        return torch.empty(rows, columns).uniform_(-1, 1)
    if kind == "chosen":
        return (torch.rand(rows, columns) < share).float()
    return torch.randint(0, columns, (rows,))  # "indices": their number and limit


def sequence(seed, calls):
    torch.manual_seed(seed)
    found = []
    for call in calls:
        values = drawn(*call).flatten()
        found.append({
            "kind": call[0],
            "size": call[1:3],
            "first": values[:ENDS].tolist(),
            "last": values[-ENDS:].tolist(),
            "sum": values.double().sum().item(),
            "sum_of_squares": values.double().square().sum().item(),
        })  # fmt: skip
        if call[0] == "chosen":
            found[-1]["share"] = call[3]
    return {"seed": seed, "calls": found}


def quadratic():
    torch.manual_seed(42)
    a, b, c = torch.randn(1000, 500).double(), torch.randn(100, 250).double(), torch.randn(1000, 250).double()
    torch.manual_seed(42)
    x = torch.empty(500, 100).uniform_(-1, 1).double()
    best = torch.linalg.lstsq(b.T, torch.linalg.lstsq(a, c).solution.T).solution.T
    residual = a @ x @ b - c
    return {
        "seed": 42,
        "minimum": 0.5 * (a @ best @ b - c).square().sum().item(),
        "gap": 0.5 * (a @ (x - best) @ b).square().sum().item(),
        "gradient_nuclear_norm": torch.linalg.matrix_norm(a.T @ residual @ b.T, ord="nuc").item(),
    }


def logistic():
    p = LOGISTIC
    torch.manual_seed(p["seed"])
    a, b = torch.randn(p["rows"], p["m"]).double(), torch.randn(p["n"], p["q"]).double()
    c = 2.0 * (torch.randn(p["rows"], p["q"]) > 0.5).double() - 1.0
    torch.manual_seed(p["seed"])
    x = torch.empty(p["m"], p["n"]).uniform_(-1, 1).double()
    norms = []
    for step in range(max(p["steps"]) + 1):
        rows = torch.randint(0, p["rows"], (p["batch"],))
        slopes = -c[rows] * torch.sigmoid(-c[rows] * (a[rows] @ x @ b))
        if step in p["steps"]:
            norms.append(torch.linalg.matrix_norm(a[rows].T @ slopes @ b.T, ord="fro").item())
    value = torch.nn.functional.softplus(-c * (a @ x @ b)).sum().item()
    return p | {"value": value, "gradient_norms": norms}


def completion():
    torch.manual_seed(42)
    truth = torch.randn(500, 5).double() @ torch.randn(250, 5).double().T
    seen = torch.rand(500, 250) < 0.3
    torch.manual_seed(42)
    x, y = torch.empty(500, 5).uniform_(-1, 1).double(), torch.empty(250, 5).uniform_(-1, 1).double()
    value = (seen * (x @ y.T - truth)).square().sum() / seen.sum()
    return {"seed": 42, "value": value.item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tests/golden/lab"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "torch": torch.__version__.split("+")[0],
        "sequences": [sequence(seed, calls) for seed, calls in SEQUENCES],
        "quadratic": quadratic(),
        "logistic": logistic(),
        "completion": completion(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "torch_draw.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
