#!/usr/bin/env python3
"""Measures PyTorch's scaled_dot_product_attention, forward and backward, backend by backend (cuDNN, flash; on the CPU
flash and the plain one), at the shapes of `polartrain bench attention`. FLOPs are 4 D forward and 10 D backward for every
query, key that it sees, and head; polartrain's rows count 14 D backward, so compare times.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

from torch_step import positive

# Batch, time, query heads, key heads, width: what polartrain takes without a configuration on a GPU.
DEFAULT = ["32,1024,14,2,64", "32,1024,6,2,128", "8,4096,6,2,128"]


def shape_of(text):
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 5 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"found '{text}', expected batch,time,query heads,key heads,width")
    return shape


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/bench/torch_attention.py --device cuda --json attention.json")  # fmt: skip
    parser.add_argument("--shapes", type=shape_of, nargs="+", metavar="B,T,HQ,HKV,D", default=None)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=positive, default=10, help="measurements (default: %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results there, too")
    return parser.parse_args()


def measure(torch, device, repeats, work):
    """Seconds of `work`, several at a time between two waits on a GPU."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = 10 if device == "cuda" else 1
    for _ in range(3):
        work()
    seconds = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        for _ in range(times):
            work()
        synchronize()
        seconds.append((time.perf_counter() - start) / times)
    return statistics.median(seconds)


def run_case(torch, arguments, shape, backend):
    """Rows of one shape: forward, and backward as forward and backward less forward."""
    batch, length, heads_q, heads_kv, width = shape
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32

    def heads(count):  # as a projection leaves them: (B, T, H, D), seen as (B, H, T, D)
        data = torch.randn(batch, length, count, width, device=arguments.device, dtype=dtype)
        return data.transpose(1, 2).requires_grad_()

    q, k, v = heads(heads_q), heads(heads_kv), heads(heads_kv)
    gradient = torch.randn_like(q)
    attention = torch.nn.functional.scaled_dot_product_attention
    gqa = {"enable_gqa": True} if heads_q != heads_kv else {}
    with torch.nn.attention.sdpa_kernel(backend):
        out = attention(q, k, v, is_causal=True, **gqa)

        def forward():
            with torch.no_grad():
                attention(q, k, v, is_causal=True, **gqa)

        def backward():
            torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)

        times = {"forward": measure(torch, arguments.device, arguments.repeats, forward),
                 "backward": measure(torch, arguments.device, arguments.repeats, backward)}  # fmt: skip
    pairs = batch * heads_q * length * (length + 1) / 2
    name = f"{batch} x {length}, heads {heads_q}/{heads_kv} x {width}"
    return [{"name": f"{part} {name}", "backend": backend.name, "ms": 1e3 * seconds,
             "flops_per_s": {"forward": 4, "backward": 10}[part] * width * pairs / seconds}
            for part, seconds in times.items()]  # fmt: skip


def main():
    arguments = parse_arguments()
    import torch
    from torch.nn.attention import SDPBackend

    names = ["CUDNN_ATTENTION", "FLASH_ATTENTION"] if arguments.device == "cuda" else ["FLASH_ATTENTION", "MATH"]
    backends = [getattr(SDPBackend, name) for name in names if hasattr(SDPBackend, name)]
    rows = []
    for shape in arguments.shapes or [shape_of(text) for text in DEFAULT]:
        for backend in backends:
            try:
                found = run_case(torch, arguments, shape, backend)
            except RuntimeError as error:  # not every backend takes every shape
                print(f"{backend.name} {shape}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            rows += found
            for row in found:
                print(f"{row['backend']:<16} {row['name']:<40} {row['ms']:9.3f} ms {1e-9 * row['flops_per_s']:9.1f} GFLOP/s")
            if arguments.json:
                name = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
                arguments.json.write_text(
                    json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")  # fmt: skip
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
