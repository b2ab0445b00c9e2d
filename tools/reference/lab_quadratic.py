#!/usr/bin/env python3
"""The quadratic of `polartrain lab` once more in PyTorch, with oracles of its own: the gap of PolarGrad, if not
asked otherwise with decay (4.75e-8, x0.99 every 25 steps), on draws of PyTorch and on those of the lab.

    lab_quadratic.py [--seeds 1 2 3] [--oracle qdwh|frobenius|exact] [--lr 4.75e-8] [--decay 0.99] [--steps 500]
    lab_quadratic.py --adam

Oracles: the authors' two-step QDWH; the same behind a division by the Frobenius norm; the exact factor.

The PolarGrad authors' scripts draw with torch.manual_seed(42), A, B, C, and with the same seed again X. On that
draw the reference has 3.1e1 at step 100. What the lab finds on its draws is found here on the same draws, which
are made by the formulas of src/base/random.h: the row's spread is that of the draws.

--adam: torch.optim.Adam with decay (0.05, x0.99 every 25 steps) on the authors' draw, its gradient by autograd, by
the formula, and by autograd from a start of which one element is moved by a unit in the last place: how much of a
cell is rounding, and how far the gap goes up and down around it.
"""

import argparse

import numpy
import torch

EPS = 2.0**-23
M, N, P, Q = 500, 100, 1000, 250
STEPS = (20, 50, 100, 200, 500, 1000, 2000, 4000)


def weights(steps, lower):
    result = []
    for _ in range(steps):
        square = lower * lower
        d = (4 * (1 / square - 1) / square) ** (1 / 3)
        root = (1 + d) ** 0.5
        a = root + (2 - d + 2 * (2 - square) / (square * root)) ** 0.5
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        lower = lower * (a + b * square) / (1 + c * square)
        result.append((a, b, c))
    return result


def exact(x):
    """By the eigenvectors of the square, in fp64: the gradients here are well conditioned."""
    values, vectors = torch.linalg.eigh(x.double().T @ x.double())
    return (x.double() @ (vectors / values**0.5) @ vectors.T).float()


def polar(x, oracle):
    """Two steps of QDWH from EPS, then one of Newton-Schulz."""
    if oracle == "exact":
        return exact(x)
    bound = (torch.linalg.norm(x, 1) * torch.linalg.norm(x, float("inf"))) ** 0.5
    u = x / (bound if oracle == "qdwh" else x.norm())
    rows, columns = x.shape
    for a, b, c in weights(2, EPS):
        if c > 100:
            q = torch.linalg.qr(torch.cat([c**0.5 * u, torch.eye(columns)]))[0]
            u = b / c * u + (a - b / c) / c**0.5 * (q[:rows] @ q[rows:].T)
        else:
            factor = torch.linalg.cholesky(c * u.T @ u + torch.eye(columns))
            u = b / c * u + (a - b / c) * torch.cholesky_solve(u.T, factor).T
    return 1.5 * u - 0.5 * u @ (u.T @ u)


def mixed(x):
    word = numpy.uint64
    x = x + word(0x9E3779B97F4A7C15)
    x = (x ^ (x >> word(30))) * word(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> word(27))) * word(0x94D049BB133111EB)
    return x ^ (x >> word(31))


def uniform(seed, stream, index):
    with numpy.errstate(over="ignore"):
        key = mixed(mixed(numpy.array([seed], dtype=numpy.uint64)) ^ numpy.uint64(stream))
        return (mixed(key ^ index) >> numpy.uint64(11)).astype(numpy.float64) * 2.0**-53


def normal(seed, stream, rows, columns):
    index = numpy.arange(rows * columns, dtype=numpy.uint64)
    u = 1 - uniform(seed, stream, numpy.uint64(2) * index)
    v = uniform(seed, stream, numpy.uint64(2) * index + numpy.uint64(1))
    values = numpy.sqrt(-2 * numpy.log(u)) * numpy.cos(2 * numpy.pi * v)
    return torch.from_numpy(values.reshape(rows, columns))


def lab_draw(seed):
    index = numpy.arange(M * N, dtype=numpy.uint64)
    start = torch.from_numpy(2 * uniform(seed, 4, index) - 1).reshape(M, N)
    return normal(seed, 1, P, M), normal(seed, 2, N, Q), normal(seed, 3, P, Q), start


def torch_draw(seed):
    torch.manual_seed(seed)
    a, b, c = torch.randn(P, M), torch.randn(N, Q), torch.randn(P, Q)
    torch.manual_seed(seed)
    return a.double(), b.double(), c.double(), torch.empty(M, N).uniform_(-1, 1).double()


def gaps(draw, oracle, lr, decay, steps):
    a64, b64, c64, start = draw
    minimum = torch.linalg.lstsq(b64.T, torch.linalg.lstsq(a64, c64).solution.T).solution.T
    a, b, c, x = a64.float(), b64.float(), c64.float(), start.float()
    found = []
    for step in range(steps + 1):
        if step in STEPS:
            found.append(0.5 * (a64 @ (x.double() - minimum) @ b64).norm() ** 2)
        gradient = a.T @ (a @ x @ b - c) @ b.T
        u = polar(gradient, oracle)
        x = x - lr * decay ** (step // 25) * (u * gradient).sum() * u
    return found


def adam_gaps(way):
    """step -> gap at every tenth step."""
    a64, b64, c64, start = torch_draw(42)
    minimum = torch.linalg.lstsq(b64.T, torch.linalg.lstsq(a64, c64).solution.T).solution.T
    a, b, c, x = a64.float(), b64.float(), c64.float(), torch.nn.Parameter(start.float())
    if way == "moved":
        x.data[0, 0] *= 1 + EPS
    optimizer = torch.optim.Adam([x], lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=25, gamma=0.99)
    found = {}
    for step in range(4001):
        if step % 10 == 0:
            found[step] = float(0.5 * (a64 @ (x.detach().double() - minimum) @ b64).norm() ** 2)
        optimizer.zero_grad()
        if way == "formula":
            x.grad = a.T @ (a @ x.detach() @ b - c) @ b.T
        else:
            (0.5 * torch.linalg.matrix_norm(a @ x @ b - c) ** 2).backward()
        optimizer.step()
        schedule.step()
    return found


def show_adam():
    for way in ("autograd", "formula", "moved"):
        found = adam_gaps(way)
        print(f"{way:10s}" + "  ".join(f"{step}: {found[step]:.1e}" for step in (100, 500, 1000, 2000, 4000)))
        for first, last in ((750, 1250), (1500, 2500), (3000, 4000)):
            near = sorted(gap for step, gap in found.items() if first <= step <= last)
            least, middle, most = near[0], near[len(near) // 2], near[-1]
            print(f"{'':10s}steps {first} to {last}: {least:.1e} to {most:.1e}, median {middle:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="the lab's")
    parser.add_argument("--oracle", choices=("qdwh", "frobenius", "exact"), default="qdwh")
    parser.add_argument("--lr", type=float, default=4.75e-8)
    parser.add_argument("--decay", type=float, default=0.99)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--adam", action="store_true", help="Adam with decay on the authors' draw, three times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.adam:
        return show_adam()
    print("gap after steps " + ", ".join(str(step) for step in STEPS if step <= options.steps))
    draws = [("authors' draw, torch seed 42", torch_draw(42)), ("torch seed 1", torch_draw(1))]
    draws += [(f"lab seed {seed}", lab_draw(seed)) for seed in options.seeds]
    for name, draw in draws:
        row = gaps(draw, options.oracle, options.lr, options.decay, options.steps)
        print(f"{name:30s}" + "  ".join(f"{gap:.1e}" for gap in row), flush=True)


if __name__ == "__main__":
    main()
