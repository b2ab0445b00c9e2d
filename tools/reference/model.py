#!/usr/bin/env python3
"""Makes the reference values of the model tests with Hugging Face transformers.

Each case is a directory: config.json and model.safetensors as save_pretrained writes them, and
reference.safetensors with

    ids               i32 (B, T)     token ids
    targets           i32 (B, T)     next tokens, -1: ignored
    document_starts   i32 (B, T)     first position of the token's document (only in the documents case)
    logits            f32 (B, T, V)
    loss              f32 (1)        mean cross-entropy over the valid targets, nats
    grad.<parameter>  f32            gradient of that mean loss
    adamw_losses      f64 (10)       losses before each of ten AdamW steps on the same batch

The weights are fp32. Everything is computed in fp64 from them and rounded once when it is stored, so the values
are the truth to fp32's last digit; the largest differences of transformers' own fp32 run to them stand in the
file's metadata and say what rounding alone costs.
"""

import argparse
import contextlib
import json
import math
import pathlib
import platform
from unittest import mock

import safetensors.torch
import torch
import torch.nn.functional as F
import transformers

BATCH, TIME = 2, 33
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
ADAMW_STEPS = 10
DOCUMENT_BORDERS = [[0, 5, 6, 19], [0, 16, 32]]  # where documents begin, per sequence

QWEN2 = {
    "vocab_size": 151, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 72, "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "tie_word_embeddings": True,
}  # fmt: skip
QWEN3 = {
    "vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 56, "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "tie_word_embeddings": False,
}  # fmt: skip
SMALLER_QWEN3 = QWEN3 | {"intermediate_size": 40}  # keeps the committed files small
WINDOW = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0}


def cases():
    """Name -> (configuration, whether documents are packed)."""
    return {
        "qwen2": (transformers.Qwen2Config(**QWEN2), False),
        "qwen3": (transformers.Qwen3Config(**QWEN3), False),
        "qwen3_window": (transformers.Qwen3Config(**SMALLER_QWEN3, **WINDOW), False),
        "qwen3_documents": (transformers.Qwen3Config(**SMALLER_QWEN3), True),
    }


@contextlib.contextmanager
def all_in_double():
    """transformers computes norms, softmax and rotary angles in fp32 whatever the model's dtype: here in fp64."""
    with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(torch, "float", torch.float64):
        yield


def build(config, dtype):
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype)
    return model.eval()  # no dropout in these models; eval() only makes that certain


def randomize(model, seed):
    """No parameter keeps a value (0 or 1) that could hide its being forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1.0 + 0.2 * noise)
            elif name.endswith(".bias"):
                parameter.copy_(0.2 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise / math.sqrt(parameter.shape[1]))


def make_batch(vocabulary, documents, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocabulary, (BATCH, TIME + 1), generator=generator)
    ids, targets = tokens[:, :-1].clone(), tokens[:, 1:].clone()
    targets[0, 3] = targets[0, 20] = targets[1, 0] = -1
    targets[1, -4:] = -1
    starts = torch.zeros(BATCH, TIME, dtype=torch.int64)
    if documents:
        for row, borders in enumerate(DOCUMENT_BORDERS):
            for border in borders:
                starts[row, border:] = border
                if border > 0:
                    targets[row, border - 1] = -1  # no document predicts the next one's first token
    return ids, targets, starts


def document_mask(starts, dtype):
    """(B, 1, T, T), 0 where query i sees key j: starts[i] <= j <= i; elsewhere the most negative number."""
    position = torch.arange(TIME)
    visible = (position[None, None, :] <= position[None, :, None]) & (position[None, None, :] >= starts[:, :, None])
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[:, None]


def logits_and_loss(model, batch, documents):
    ids, targets, starts = batch
    mask = document_mask(starts, model.dtype) if documents else None
    positions = torch.arange(TIME)[None].expand(BATCH, TIME)  # positions go on across documents
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    return logits, loss


def run(model, batch, documents):
    """Logits, loss and gradients by name, then the losses of ten AdamW steps, which change the model."""
    logits, loss = logits_and_loss(model, batch, documents)
    loss.backward()
    values = {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    values |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    losses = []
    for _ in range(ADAMW_STEPS):
        optimizer.zero_grad()
        _, loss = logits_and_loss(model, batch, documents)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    values["adamw_losses"] = torch.tensor(losses, dtype=torch.float64)
    return values


def relative_difference(value, truth):
    return ((value.double() - truth.double()).abs().max() / truth.double().abs().max()).item()


def rounding_of_single(single, double):
    """Largest |fp32 - fp64| over the tensor's largest magnitude."""
    differences = {name: relative_difference(single[name], double[name]) for name in double}
    gradients = {name: value for name, value in differences.items() if name.startswith("grad.")}
    worst = max(gradients, key=gradients.get)
    return {
        "logits": differences["logits"], "loss": differences["loss"], "adamw_losses": differences["adamw_losses"],
        "gradients": gradients[worst], "worst_gradient": worst,
    }  # fmt: skip


def make_case(directory, config, documents, seed):
    model = build(config, torch.float32)
    randomize(model, seed)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    (directory / "model.safetensors").chmod(0o644)
    weights = {name: value.clone() for name, value in model.state_dict().items()}

    batch = make_batch(config.vocab_size, documents, seed + 1)
    single = run(model, batch, documents)
    with all_in_double():
        model = build(config, torch.float64)
        model.load_state_dict(weights)
        double = run(model, batch, documents)
    if not all(t.dtype == torch.float64 for t in [double["logits"], model.model.rotary_emb.inv_freq]):
        raise RuntimeError("the fp64 run was not in fp64")

    rounding = rounding_of_single(single, double)
    tensors = {name: value if name == "adamw_losses" else value.to(torch.float32) for name, value in double.items()}
    tensors |= {"ids": batch[0].to(torch.int32), "targets": batch[1].to(torch.int32)}
    if documents:
        tensors["document_starts"] = batch[2].to(torch.int32)
    provenance = {
        "made_by": "tools/reference/model.py", "seed": seed, "computed_in": "fp64 from fp32 weights",
        "adamw": {**ADAMW, "decayed": "all parameters", "clipping": "none"},
        "fp32_rounding": rounding, "torch": torch.__version__, "transformers": transformers.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    # One metadata entry only: safetensors writes several in no fixed order, and the files shall be reproducible.
    metadata = {"provenance": json.dumps(provenance)}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(tensors, directory / "reference.safetensors", metadata=metadata)
    (directory / "reference.safetensors").chmod(0o644)
    return double["loss"].item(), rounding


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: .venv/bin/python tools/reference/model.py",
    )  # fmt: skip
    parser.add_argument("--output", type=pathlib.Path, default=root / "tests/golden/model",
                        help="folder of the cases (default: tests/golden/model)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=20260501, help="of weights and tokens (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of fp32 sums, and so the metadata, shall not depend on the machine's cores
    for index, (name, (config, documents)) in enumerate(cases().items()):
        loss, rounding = make_case(arguments.output / name, config, documents, arguments.seed + 100 * index)
        single = ", ".join(f"{key} {value:.1e}" for key, value in rounding.items() if key != "worst_gradient")
        print(f"{name}: loss {loss:.7f}; transformers in fp32 differs by {single} ({rounding['worst_gradient']})")


if __name__ == "__main__":
    main()
