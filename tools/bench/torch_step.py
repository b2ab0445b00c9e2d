#!/usr/bin/env python3
"""Measures PyTorch's training step on an experiment's model and batch: tokens a second, on random tokens.

A step is forward, backward, clipping and the optimizer's update of the whole global batch, in micro-batches whose gradients
add up where the experiment has them, in fp32 or under bf16 autocast. The model is read from the YAML file that polartrain reads. AdamW is PyTorch's fused one; `muon` is the rule of torch.optim.Muon with
Newton-Schulz in fp32 (as PolarTrain computes on the CPU), `torch_muon` is torch.optim.Muon itself (bf16).
The warm-up, compilation included, is not counted.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

# Large activations are kept by malloc instead of being mapped and cleared anew in every step, and idle OpenMP threads
# wait rather than sleep for a moment: both make PyTorch faster. They have to be there when the process starts.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592", "KMP_BLOCKTIME": "1"}


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected 1 or more")
    return value


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: .venv/bin/python tools/bench/torch_step.py configs/bench/3m.yaml --optimizer muon --mode best",
    )  # fmt: skip
    parser.add_argument("config", type=pathlib.Path, help="experiment in YAML (model, data, batch are read)")
    parser.add_argument("--optimizer", choices=["adamw", "muon", "torch_muon"], default="adamw")
    parser.add_argument("--mode", choices=["eager", "compile", "best"], default="best",
                        help="best: measure both and report the faster (default)")  # fmt: skip
    parser.add_argument("--compile", action="store_const", const="compile", dest="mode", help="same as --mode compile")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, default: OMP_NUM_THREADS, else all cores")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32",
                        help="bf16: autocast, parameters stay fp32")  # fmt: skip
    parser.add_argument("--micro-sequences", type=positive, metavar="N",
                        help="sequences of a micro-batch (default: batch.micro_sequences of the experiment)")  # fmt: skip
    parser.add_argument("--global-tokens", type=positive, metavar="N",
                        help="tokens of a step (default: batch.global_tokens)")  # fmt: skip
    parser.add_argument("--steps", type=positive, default=10, help="measured steps (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there, too")
    return parser.parse_args()


def with_environment(threads):
    """Starts this script anew with the settings that only count at the start of a process."""
    wanted = dict(ENVIRONMENT)
    if threads:
        wanted |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    missing = {key: value for key, value in wanted.items() if key not in os.environ or key.endswith("_THREADS")}
    missing = {key: value for key, value in missing.items() if os.environ.get(key) != value}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def merged(base, changes):
    """Mappings are merged key by key, everything else is replaced: polartrain's rule for `include`."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {key: merged(base.get(key), value) for key, value in changes.items()}


def load(path):
    """The YAML file on top of the files it includes."""
    import yaml

    own = yaml.safe_load(path.read_text())
    includes = own.pop("include", [])
    content = {}
    for name in [includes] if isinstance(includes, str) else includes:
        content = merged(content, load(path.parent / name))
    return merged(content, own)


def read_experiment(path, arguments):
    """The model's shape, the sequences of a micro-batch, how many of these a step has, the length of a sequence, and the norm
    to which gradients are clipped."""
    experiment = load(path)
    try:
        shape = {"rope_theta": 1.0e6, "rms_norm_eps": 1.0e-6, "tie_word_embeddings": False, **experiment["model"]}
        time_steps = int(experiment["data"]["sequence_length"])
        batch = experiment["batch"]
        sequences, rest = divmod(arguments.global_tokens or int(batch["global_tokens"]), time_steps)
    except KeyError as missing:
        sys.exit(f"{path}: no key {missing}; expected model, data.sequence_length and batch.global_tokens")
    shape.setdefault("architecture", "qwen3")
    if shape["architecture"] not in ("qwen2", "qwen3"):
        sys.exit(f"{path}: model.architecture is {shape['architecture']}; expected qwen2 or qwen3")
    micro = arguments.micro_sequences or batch.get("micro_sequences", 0) or sequences
    if rest or sequences % micro:
        sys.exit(f"{path}: batch.global_tokens must be whole micro-batches of {micro} sequences of {time_steps} tokens")
    shape["head_dim"] = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
    for key in ("rope_theta", "rms_norm_eps"):
        shape[key] = float(shape[key])  # YAML 1.1 reads 1e-6 as a string
    clip_norm = float(experiment.get("optimizer", {}).get("clip_norm", 1.0))
    return shape, micro, sequences // micro, time_steps, clip_norm


def make_adamw(torch, parameters, device):
    options = {"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    fused_on_cpu = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
    if device == "cuda" or fused_on_cpu:
        return torch.optim.AdamW(parameters, fused=True, **options)
    return torch.optim.AdamW(parameters, **options)


def make_optimizers(torch, model, kind, device, compiled):
    from torch_model import MuonFp32, is_hidden_matrix, newton_schulz_5

    parameters = dict(model.named_parameters())
    if kind == "adamw":
        return [make_adamw(torch, list(parameters.values()), device)]
    matrices = [p for name, p in parameters.items() if is_hidden_matrix(name)]
    others = [p for name, p in parameters.items() if not is_hidden_matrix(name)]
    if kind == "torch_muon":
        if not hasattr(torch.optim, "Muon"):
            sys.exit(f"PyTorch {torch.__version__} has no torch.optim.Muon; use --optimizer muon")
        muon = torch.optim.Muon(matrices, lr=0.02)
    else:
        muon = MuonFp32(matrices, newton_schulz=torch.compile(newton_schulz_5) if compiled else None)
    return [muon, make_adamw(torch, others, device)]


def measure(torch, arguments, experiment, mode):
    """Seconds of each measured step, and the number of parameters."""
    from torch_model import Model

    shape, micro, micro_steps, time_steps, clip_norm = experiment
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    model = Model(shape, time_steps).to(device)
    optimizers = make_optimizers(torch, model, arguments.optimizer, arguments.device, mode == "compile")
    forward = torch.compile(model) if mode == "compile" else model
    tokens = torch.randint(0, shape["vocab_size"], (micro, time_steps + 1), device=device)
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    seconds = []
    for _ in range(arguments.warmup + arguments.steps):
        start = time.perf_counter()
        for _ in range(micro_steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
                loss = forward(ids, targets)
            (loss / micro_steps).backward()
        if clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if not loss.item() < float("inf"):  # also waits for the device
            sys.exit(f"the loss became {loss.item()}")
        seconds.append(time.perf_counter() - start)
    return seconds[arguments.warmup :], sum(parameter.numel() for parameter in model.parameters())


def summarize(torch, arguments, seconds, tokens, parameters, mode):
    rates = sorted(tokens / value for value in seconds)
    return {
        "tokens_per_s": statistics.median(rates),
        "spread": (rates[-1] - rates[0]) / statistics.median(rates),
        "best_tokens_per_s": rates[-1],
        "step_ms": 1e3 * statistics.median(seconds),
        "parameters": parameters, "optimizer": arguments.optimizer, "mode": mode, "device": arguments.device, "precision": arguments.precision,
        "threads": torch.get_num_threads(), "torch": torch.__version__, "steps": len(seconds),
    }  # fmt: skip


def main():
    arguments = parse_arguments()
    with_environment(arguments.threads)
    experiment = read_experiment(arguments.config, arguments)
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    modes = ["eager", "compile"] if arguments.mode == "best" else [arguments.mode]
    if not hasattr(torch, "compile"):
        if arguments.mode == "compile":
            sys.exit(f"PyTorch {torch.__version__} has no torch.compile")
        modes = ["eager"]
    results = []
    for mode in modes:
        seconds, parameters = measure(torch, arguments, experiment, mode)
        result = summarize(torch, arguments, seconds, experiment[1] * experiment[2] * experiment[3], parameters, mode)
        print(f"torch {result['torch']} {mode:<7} {arguments.optimizer:<10} {result['threads']} threads: "
              f"{result['tokens_per_s']:9.1f} tokens/s, spread {100 * result['spread']:.0f} %, "
              f"{result['step_ms']:.1f} ms a step")  # fmt: skip
        results.append(result)
    best = max(results, key=lambda result: result["tokens_per_s"])
    if arguments.json:
        arguments.json.write_text(json.dumps({**best, "modes": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
