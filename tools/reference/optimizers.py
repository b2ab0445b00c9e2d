#!/usr/bin/env python3
"""Writes the reference values of tests/optim into tests/golden/optim.

adamw.safetensors      ten steps of torch.optim.AdamW
muon.safetensors       ten steps of torch.optim.Muon, its Newton-Schulz iteration in float64 instead of bfloat16
polargrad.safetensors  the momentum forms of PolarGrad with the exact polar factor, from their formulas (numpy)

Start values and gradients are float32 numbers; everything is computed in float64, so that one file serves the
tests of both types. Needs numpy, torch (2.9 or later, which has Muon) and safetensors.

Example: tools/reference/optimizers.py --out tests/golden/optim
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

STEPS = 10
VECTORS = {"a.weight": (7, 5), "b.weight": (11,), "c.weight": (3, 70)}
MATRICES = {"tall.weight": (12, 6), "wide.0.weight": (6, 12), "wide.1.weight": (6, 12), "square.weight": (8, 8)}

# name: (lr, betas, eps, weight decay)
ADAMW_CASES = {
    "plain": (3e-3, (0.9, 0.95), 1e-8, 0.0),
    "decay": (1e-2, (0.8, 0.999), 1e-6, 0.1),
}
# name: (adjust_lr_fn, nesterov, weight decay)
MUON_CASES = {
    "jordan_nesterov": ("original", True, 0.1),
    "jordan": ("original", False, 0.0),
    "rms_match_nesterov": ("match_rms_adamw", True, 0.0),
    "rms_match": ("match_rms_adamw", False, 0.1),
    "spectral_nesterov": ("spectral_unclamped", True, 0.1),
}
# name: (momentum, nesterov, alpha)
POLARGRAD_CASES = {
    "first": ("first", False, 1.0),
    "first_nesterov": ("first", True, 1.0),
    "first_half": ("first", False, 0.5),
    "polar_first": ("polar_first", False, 1.0),
    "polar_first_nesterov": ("polar_first", True, 1.0),
    "heavy_ball": ("heavy_ball", False, 1.0),
    "heavy_ball_nesterov": ("heavy_ball", True, 0.5),
    "none": ("none", False, 1.0),
}
POLARGRAD_LR, POLARGRAD_BETA, POLARGRAD_DECAY = 0.02, 0.9, 0.1


def inputs(shapes, gradient_scale, seed):
    """Start values and gradients: name -> (m, n), name -> (steps, m, n)."""
    rng = np.random.default_rng(seed)
    start = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    gradients = {
        k: (gradient_scale * rng.standard_normal((STEPS, *s))).astype(np.float32) for k, s in shapes.items()
    }
    return start, gradients


def run_torch(make_optimizer, start, gradients):
    """Ten steps in float64. Returns the parameters and the optimizer, whose state is keyed by them."""
    parameters = {k: torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for k, v in start.items()}
    optimizer = make_optimizer(list(parameters.values()))
    for step in range(STEPS):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[name][step], dtype=torch.float64)
        optimizer.step()
    return parameters, optimizer


def with_inputs(start, gradients):
    return {f"start:{k}": v for k, v in start.items()} | {f"gradient:{k}": v for k, v in gradients.items()}


def adamw():
    start, gradients = inputs(VECTORS, 1.0, seed=1)
    out = with_inputs(start, gradients)
    for case, (lr, betas, eps, decay) in ADAMW_CASES.items():
        parameters, optimizer = run_torch(
            lambda p: torch.optim.AdamW(p, lr=lr, betas=betas, eps=eps, weight_decay=decay), start, gradients
        )
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            out[f"{case}.m:{name}"] = optimizer.state[parameter]["exp_avg"].numpy()
            out[f"{case}.v:{name}"] = optimizer.state[parameter]["exp_avg_sq"].numpy()
    return out


def newton_schulz_in_full_precision(grad, ns_coefficients, ns_steps, eps):
    """torch.optim._muon._zeropower_via_newtonschulz without its cast to bfloat16."""
    a, b, c = ns_coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


def muon():
    torch.optim._muon._zeropower_via_newtonschulz = newton_schulz_in_full_precision
    # Large gradients: torch clamps the norm from below, we add 1e-7 to it; far above both are the same.
    start, gradients = inputs(MATRICES, 1e4, seed=2)
    out = with_inputs(start, gradients)
    for case, (adjust, nesterov, decay) in MUON_CASES.items():
        parameters, optimizer = run_torch(
            lambda p: torch.optim.Muon(
                p, lr=0.02, weight_decay=decay, momentum=0.95, nesterov=nesterov, adjust_lr_fn=adjust
            ),
            start,
            gradients,
        )
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            out[f"{case}.momentum:{name}"] = optimizer.state[parameter]["momentum_buffer"].numpy()
    return out


def polar_factor(matrix):
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def polargrad_run(x, gradients, kind, nesterov, alpha):
    """One matrix under one form. Returns the matrix and its momentum."""
    b, m = POLARGRAD_BETA, np.zeros_like(x)
    for g in gradients:
        if kind == "polar_first":
            u = polar_factor(g)
            m = b * m + (1 - b) * u
            direction = b * m + (1 - b) * u if nesterov else m
            nuclear = np.sum(u * g)
        else:
            gain = {"first": 1 - b, "heavy_ball": 1.0, "none": 1.0}[kind]
            m = g if kind == "none" else b * m + gain * g
            seen = b * m + gain * g if nesterov else m
            direction = polar_factor(seen)
            nuclear = np.sum(direction * seen)
        x = (1 - POLARGRAD_LR * POLARGRAD_DECAY) * x - POLARGRAD_LR * nuclear**alpha * direction
    return x, m


def polargrad():
    start, gradients = inputs(MATRICES, 0.1, seed=3)
    out = with_inputs(start, gradients)
    for case, (kind, nesterov, alpha) in POLARGRAD_CASES.items():
        for name, x in start.items():
            x, m = polargrad_run(
                x.astype(np.float64), gradients[name].astype(np.float64), kind, nesterov, alpha
            )
            out[f"{case}:{name}"] = x
            if kind != "none":
                out[f"{case}.momentum:{name}"] = m
    return out


def write_all(description, makers, metadata=None):
    """What every maker returns, into a file of its name in the folder that the command line says."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the .safetensors files")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for make in makers:
        tensors = {k: np.ascontiguousarray(v) for k, v in make().items()}
        path = folder / f"{make.__name__}.safetensors"
        save_file(tensors, path, metadata)
        print(f"{path}: {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    write_all(__doc__, (adamw, muon, polargrad))
