#!/usr/bin/env python3
"""Writes tests/golden/checkpoint/*.safetensors with the safetensors Python package.

The C++ reader must find in them what PyTorch stored: every type, a scalar, an empty tensor, half-precision
bit patterns beside their float32 values, and float32 values beside PyTorch's rounding to bfloat16.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file


def types() -> dict[str, torch.Tensor]:
    steps = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    return {
        "f32": (steps * 0.37 - 1.5).to(torch.float32),
        "f64": steps / 7.0,
        "bf16": (steps * 0.37 - 1.5).to(torch.bfloat16),
        "f16": (steps * 0.37 - 1.5).to(torch.float16),
        "i32": torch.tensor([-(2**31), -1, 0, 1, 2**31 - 1], dtype=torch.int32),
        "i64": torch.tensor([-(2**31), 7, 2**31 - 1], dtype=torch.int64),
        "i64_large": torch.tensor([1, 2**31], dtype=torch.int64),
        "scalar": torch.tensor(3.25),
        "empty": torch.zeros(0, 5),
    }


def conversions() -> dict[str, torch.Tensor]:
    patterns = torch.arange(0, 65536, 13, dtype=torch.int32)  # 13 is odd: every exponent, sign and low bit
    half = patterns.to(torch.int16).view(torch.float16)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(500, generator=generator) * 10.0 ** torch.randint(-40, 38, (500,), generator=generator)
    ties = ((torch.arange(0x3F80, 0x3F90, dtype=torch.int32) << 16) | 0x8000).view(torch.float32)
    extremes = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 3.4e38, -3.4e38, 1e-45])
    floats = torch.cat([values, ties, extremes]).to(torch.float32)
    return {
        "half": half,
        "half_as_f32": half.to(torch.float32),
        "floats": floats,
        "floats_as_bf16": floats.to(torch.bfloat16),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--output", type=Path, default=root / "tests/golden/checkpoint")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    save_file(types(), output / "types.safetensors", metadata={"format": "pt", "made_by": "safetensors"})
    save_file(conversions(), output / "conversions.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
