#!/usr/bin/env python3
"""Ten steps of the optimizers that PolarTrain's are compared with, and polar factors, by other people's code.

shampoo.safetensors  pytorch_optimizer's Shampoo and ScalableShampoo
soap.safetensors     pytorch_optimizer's SOAP, its QR in float64 instead of float32
lion.safetensors     pytorch_optimizer's Lion
sign.safetensors     pytorch_optimizer's SignSGD; with the norm of the paper of PolarGrad from the formula (numpy)
sgd.safetensors      torch.optim.SGD with momentum
polar.safetensors    scipy.linalg.polar

Start values and gradients as in optimizers.py. Where the conventions differ from PolarTrain's:

* Both Shampoos begin L and R with eps I, PolarTrain adds eps I when it takes the root. For sums (Shampoo) that is
  the same. Averages (ScalableShampoo) forget it, L_t has eps b2^t, and PolarTrain's do not: "average" has an eps
  of 1e-20, where that does not matter; "momentum" makes the root once, and PolarTrain's eps is b2 times as large.
* Both make roots at the steps, counted from 1, that `preconditioning_compute_steps` divides, PolarTrain at the
  first and then every so many: the count here begins so that the first step is one.
* ScalableShampoo averages the preconditioned gradients, PolarTrain preconditions the averaged ones. With roots
  that are made once ("momentum") both are the same. Else it is compared without momentum.
* SOAP adds eps to sqrt(v) before v's bias is corrected, PolarTrain after: eps is 1e-30. It decays weights after the
  step, PolarTrain before: there is no decay.
* A first gradient without full rank leaves SOAP's first eigenvectors open (L's, where the matrix is tall):
  "both" says which were chosen, for the test to begin with: q_l and q_r, rows the vectors.

Needs numpy, scipy, torch, pytorch_optimizer and safetensors.

Example: tools/reference/baselines.py --out tests/golden/optim
"""

from importlib.metadata import version

import numpy as np
import pytorch_optimizer
import scipy.linalg
import torch
from pytorch_optimizer.optimizer import soap as soap_module
from pytorch_optimizer.optimizer.utils.graft import LayerWiseGrafting

from optimizers import MATRICES, STEPS, inputs, run_torch, with_inputs, write_all

# name: (weight decay, roots every so many steps)
SHAMPOO_SUMS = {"sum": (0.1, 1), "sum_every_3": (0.0, 3)}
# name: (momentum, roots every so many steps, eps)
SHAMPOO_AVERAGES = {"average": (0.0, 1, 1e-20), "momentum": (0.9, 1000, 1e-2)}
# name: (longest side, bases every so many steps)
SOAP_CASES = {"one_sided": (8, 3), "both": (10000, 3)}
# name: (betas, weight decay)
LION_CASES = {"plain": ((0.9, 0.99), 0.0), "decay": ((0.95, 0.98), 0.1)}
SIGN_CASES = {"plain": (0.0, 0.1), "momentum": (0.9, 0.0)}  # name: (momentum, weight decay)
SGD_CASES = {"plain": (0.9, False), "nesterov": (0.9, True)}  # name: (momentum, nesterov)


def shampoo():
    start, gradients = inputs(MATRICES, 0.1, seed=4)
    out = with_inputs(start, gradients)

    def add(case, make_optimizer, left, right):
        parameters, optimizer = run_torch(make_optimizer, start, gradients)
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            state = optimizer.state[parameter]
            out[f"{case}.l:{name}"], out[f"{case}.r:{name}"] = left(state).numpy(), right(state).numpy()

    def counted_from(optimizer, first):
        optimizer.param_groups[0]["step"] = first - 1
        return optimizer

    for case, (decay, every) in SHAMPOO_SUMS.items():
        add(
            case,
            lambda p: counted_from(
                pytorch_optimizer.Shampoo(
                    p,
                    lr=0.05,
                    weight_decay=decay,
                    weight_decouple=True,
                    preconditioning_compute_steps=every,
                    matrix_eps=1e-3,
                ),
                every,
            ),
            lambda s: s["pre_cond_0"],
            lambda s: s["pre_cond_1"],
        )
    for case, (momentum, every, eps) in SHAMPOO_AVERAGES.items():
        add(
            case,
            lambda p: counted_from(
                pytorch_optimizer.ScalableShampoo(
                    p,
                    lr=0.05,
                    betas=(momentum, 0.95),
                    moving_average_for_momentum=True,
                    decoupled_weight_decay=True,
                    start_preconditioning_step=1,
                    preconditioning_compute_steps=every,
                    shape_interpretation=False,
                    graft_type=LayerWiseGrafting.NONE,
                    nesterov=False,
                    matrix_eps=eps,
                    use_svd=True,
                ),
                every,
            ),
            lambda s: s["pre_conditioner"].statistics[0],
            lambda s: s["pre_conditioner"].statistics[1],
        )
    return out


class InDouble:
    """torch, where float32 is float64: SOAP rounds what it hands to its QR."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def soap():
    soap_module.torch = InDouble()
    start, gradients = inputs(MATRICES, 1.0, seed=5)
    out = with_inputs(start, gradients)
    for case, (longest, every) in SOAP_CASES.items():
        first_bases = {}

        class Recorded(pytorch_optimizer.SOAP):
            def step(self, closure=None):
                super().step(closure)
                for parameter, state in self.state.items():
                    first_bases.setdefault(parameter, [q if len(q) == 0 else q.clone() for q in state["Q"]])

        parameters, optimizer = run_torch(
            lambda p: Recorded(
                p,
                lr=0.05,
                betas=(0.9, 0.95),
                weight_decay=0.0,
                precondition_frequency=every,
                max_precondition_dim=longest,
                eps=1e-30,
            ),
            start,
            gradients,
        )
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            for side, squares, basis in zip("lr", optimizer.state[parameter]["GG"], first_bases[parameter]):
                if len(squares) > 0:
                    out[f"{case}.{side}:{name}"] = squares.numpy()
                    out[f"{case}.q_{side}:{name}"] = basis.numpy().T
    return out


def lion():
    start, gradients = inputs(MATRICES, 1.0, seed=6)
    out = with_inputs(start, gradients)
    for case, (betas, decay) in LION_CASES.items():
        parameters, optimizer = run_torch(
            lambda p: pytorch_optimizer.Lion(p, lr=0.01, betas=betas, weight_decay=decay, weight_decouple=True),
            start,
            gradients,
        )
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            out[f"{case}.momentum:{name}"] = optimizer.state[parameter]["exp_avg"].numpy()
    return out


def sign():
    start, gradients = inputs(MATRICES, 1.0, seed=7)
    out = with_inputs(start, gradients)
    for case, (momentum, decay) in SIGN_CASES.items():
        parameters, optimizer = run_torch(
            lambda p: pytorch_optimizer.SignSGD(p, lr=0.01, momentum=momentum, weight_decay=decay), start, gradients
        )
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            if momentum > 0.0:
                out[f"{case}.momentum:{name}"] = optimizer.state[parameter]["momentum_buffer"].numpy()
    for name, x in start.items():  # x - gamma ||g||_1 sgn(g)
        x = x.astype(np.float64)
        for g in gradients[name].astype(np.float64):
            x = x - 0.001 * np.sum(np.abs(g)) * np.sign(g)
        out[f"norm:{name}"] = x
    return out


def sgd():
    start, gradients = inputs(MATRICES, 1.0, seed=8)
    out = with_inputs(start, gradients)
    for case, (momentum, nesterov) in SGD_CASES.items():
        parameters, optimizer = run_torch(
            lambda p: torch.optim.SGD(p, lr=0.01, momentum=momentum, nesterov=nesterov), start, gradients
        )
        for name, parameter in parameters.items():
            out[f"{case}:{name}"] = parameter.detach().numpy()
            out[f"{case}.momentum:{name}"] = optimizer.state[parameter]["momentum_buffer"].numpy()
    return out


def with_values(rows, cols, values, rng):
    """A matrix of these singular values and random vectors."""
    left, _ = np.linalg.qr(rng.standard_normal((rows, len(values))))
    right, _ = np.linalg.qr(rng.standard_normal((cols, len(values))))
    return left * values @ right.T


def polar():
    rng = np.random.default_rng(9)
    matrices = {
        "square": rng.standard_normal((24, 24)),
        "tall": rng.standard_normal((60, 12)),
        "wide": rng.standard_normal((9, 40)),
        "condition_1e6": with_values(20, 30, np.logspace(0, -6, 20), rng),
        "repeated": with_values(32, 16, np.repeat([3.0, 1.0], 8), rng),
        "small": 1e-30 * rng.standard_normal((10, 14)),
    }
    out = {}
    for name, a in matrices.items():
        tall = a if a.shape[0] >= a.shape[1] else a.T  # U of a wide matrix is that of its transpose, transposed
        u, h = scipy.linalg.polar(tall)
        out[f"a:{name}"], out[f"u:{name}"], out[f"h:{name}"] = a, (u if tall is a else u.T), h
    return out


if __name__ == "__main__":
    versions = {package: version(package) for package in ("numpy", "scipy", "torch", "pytorch_optimizer")}
    write_all(__doc__, (shampoo, soap, lion, sign, sgd, polar), {"steps": str(STEPS), **versions})
