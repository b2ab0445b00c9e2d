"""A Qwen2- or Qwen3-style model as a good PyTorch user writes it: the opponent of tools/bench/torch_step.py.

Runs on PyTorch 1.13 and later; where a newer version has a fused function, that one is used.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

HAS_SDPA = hasattr(F, "scaled_dot_product_attention")
HAS_GQA = HAS_SDPA and "enable_gqa" in (F.scaled_dot_product_attention.__doc__ or "")
HAS_RMS_NORM = hasattr(F, "rms_norm")


def rms_norm(x, weight, eps):
    if HAS_RMS_NORM:
        return F.rms_norm(x, (x.shape[-1],), weight, eps)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def causal_attention(q, k, v, mask):
    """q (B, Hq, T, D), k and v (B, Hkv, T, D). `mask` (T, T) is used only where SDPA is missing."""
    if HAS_GQA:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] < q.shape[1])
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if HAS_SDPA:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.masked_fill(mask, -math.inf).softmax(-1) @ v


def rotate(x, cos, sin):
    """Half-split rotary embedding of x (B, T, H, D); cos and sin (T, 1, D/2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        width, head, eps = shape["hidden_size"], shape["head_dim"], shape["rms_norm_eps"]
        queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
        self.head_dim = head
        qwen2 = shape["architecture"] == "qwen2"
        self.q_proj = nn.Linear(width, queries, bias=qwen2)
        self.k_proj = nn.Linear(width, keys, bias=qwen2)
        self.v_proj = nn.Linear(width, keys, bias=qwen2)
        self.o_proj = nn.Linear(queries, width, bias=False)
        self.q_norm, self.k_norm = (nn.Identity(), nn.Identity()) if qwen2 else (RMSNorm(head, eps), RMSNorm(head, eps))

    def forward(self, x, cos, sin, mask):
        batch, time, _ = x.shape
        heads = (batch, time, -1, self.head_dim)
        q = rotate(self.q_norm(self.q_proj(x).view(heads)), cos, sin).transpose(1, 2)
        k = rotate(self.k_norm(self.k_proj(x).view(heads)), cos, sin).transpose(1, 2)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        return self.o_proj(causal_attention(q, k, v, mask).transpose(1, 2).reshape(batch, time, -1))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        width, inner, eps = shape["hidden_size"], shape["intermediate_size"], shape["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width, eps), RMSNorm(width, eps)
        self.self_attn = Attention(shape)
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Model(nn.Module):
    """`shape`: the model section of an experiment, with head_dim, rope_theta and rms_norm_eps filled in."""

    def __init__(self, shape, time):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape["vocab_size"], shape["hidden_size"])
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape["num_hidden_layers"])])
        self.norm = RMSNorm(shape["hidden_size"], shape["rms_norm_eps"])
        self.lm_head = nn.Linear(shape["hidden_size"], shape["vocab_size"], bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        if shape["tie_word_embeddings"]:
            self.lm_head.weight = self.embed_tokens.weight
        half = shape["head_dim"] // 2
        frequencies = shape["rope_theta"] ** (-torch.arange(half).double() / half)
        angles = torch.outer(torch.arange(time).double(), frequencies)[:, None, :]
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        mask = None if HAS_SDPA else torch.ones(time, time, dtype=torch.bool).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids, targets):
        """ids and targets (B, T) -> mean loss."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        logits = self.lm_head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def is_hidden_matrix(name):
    return name.endswith("_proj.weight")


class MuonFp32(torch.optim.Optimizer):
    """torch.optim.Muon's rule (EMA momentum, Nesterov, five quintic Newton-Schulz steps, sqrt(max(1, m/n))) in fp32.

    torch.optim.Muon does the Newton-Schulz steps in bf16; this is the same arithmetic as PolarTrain's CPU backend.
    """

    def __init__(self, parameters, lr=0.02, weight_decay=0.1, momentum=0.95, newton_schulz=None):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.newton_schulz = newton_schulz or newton_schulz_5

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameters in same_shaped(group["params"]):
                self.update(parameters, group)

    def update(self, parameters, group):
        """Newton-Schulz on all matrices of one shape at once: measured up to 2.5 times as fast as one by one."""
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            buffer = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            updates.append(parameter.grad.lerp(buffer, group["momentum"]))
        rows, columns = parameters[0].shape
        step = group["lr"] * math.sqrt(max(1.0, rows / columns))
        for parameter, update in zip(parameters, self.newton_schulz(torch.stack(updates))):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-step)


def same_shaped(parameters):
    by_shape = {}
    for parameter in parameters:
        by_shape.setdefault(parameter.shape, []).append(parameter)
    return by_shape.values()


def newton_schulz_5(matrices):
    """Five steps of Jordan's quintic on a batch (count, m, n)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return x.transpose(1, 2) if tall else x
