#!/usr/bin/env python3
"""Prints the Markdown summary of what tools/gpu_check.sh has written into a folder so far: parts, steps and polar factors
against PyTorch, attention against its backends, kernels against the copy bandwidth. Needs Python alone."""

import argparse
import json
import pathlib


def read(folder, name):
    """The JSON of one part, or None: not there yet, or cut off."""
    try:
        return json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None


def text_of(path):
    return path.read_text().strip() if path.exists() else ""


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def parts_of(folder):
    lines = [line.split("\t") for line in text_of(folder / "parts.txt").splitlines()]
    return [f"- {name}: {result}" for name, result in lines if not name.endswith(".json")]


def steps_of(folder):
    """Tokens a second of ours, of PyTorch, and as `polartrain plan --simulate` predicts, for each step-NAME there is."""
    rows = []
    for path in sorted(folder.glob("step-*.json")):
        ours, theirs = read(folder, path.stem), read(folder, "torch-" + path.stem)
        if ours is None:
            continue
        rate = theirs["tokens_per_s"] if theirs else None
        predicted = read(folder, path.stem.replace("step-", "simulate-", 1))
        # A simulation may have refused the configuration.
        predicted = predicted["rows"][0].get("configured", {}).get("tokens_per_s") if predicted else None
        rows.append([path.stem.removeprefix("step-"), f"{ours['tokens_per_s']:.0f}",
                     f"{rate:.0f}" if rate else "", f"{ours['tokens_per_s'] / rate:.2f}" if rate else "",
                     f"{100 * ours['mfu']:.1f} %" if "mfu" in ours else "",
                     f"{predicted:.0f} ({predicted / ours['tokens_per_s']:.2f}x)" if predicted else ""])  # fmt: skip
    if not rows:
        return []
    header = ["model", "tokens/s", "PyTorch", "ratio", "MFU", "predicted"]
    return ["## Training step", "", *table(header, rows), ""]


def polar_of(folder):
    ours, theirs = read(folder, "polar"), read(folder, "torch-polar")
    if ours is None:
        return []
    rows = [[row["name"], f"{row['matrices']}", f"{row['ms']:.3f}", f"{1e-12 * row['flops_per_s']:.1f}",
             f"{100 * row['share']:.0f} %", str(row.get("launches", "")), ""] for row in ours["rows"]]  # fmt: skip
    all_ms = ours["rows"][-1]["ms"]
    for row in theirs["rows"] if theirs else []:
        rows.append([row["name"], f"{row['matrices']}", f"{row['ms']:.3f}", f"{1e-12 * row['flops_per_s']:.1f}", "", "",
                     f"{row['ms'] / all_ms:.2f}"])  # fmt: skip
    return ["## Polar factors", "", "A whole step of the matrix optimizer; TFLOP/s with symmetric products at half the work.",
            "", *table(["matrices", "number", "ms", "TFLOP/s", "of the GEMM peak", "launches", "ours is faster by"], rows),
            ""]  # fmt: skip


def attention_of(folder):
    ours, cudnn, theirs = read(folder, "attention"), read(folder, "attention-cudnn"), read(folder, "torch-attention")
    if ours is None:
        return []
    engine = {row["name"]: row["ms"] for row in cudnn["rows"]} if cudnn else {}
    torch = {(row["name"], row["backend"]): row["ms"] for row in theirs["rows"]} if theirs else {}
    rows = []
    for row in ours["rows"]:
        others = [engine.get(row["name"])] + [torch.get((row["name"], backend))
                                              for backend in ("CUDNN_ATTENTION", "FLASH_ATTENTION")]  # fmt: skip
        cells = [f"{ms:.3f} ({ms / row['ms']:.2f}x)" if ms else "" for ms in others]
        rows.append([row["name"], f"{row['ms']:.3f}", f"{100 * row['share']:.0f} %", *cells])
    header = ["", "native, ms", "of the GEMM peak", "cuDNN engine", "PyTorch cuDNN", "PyTorch flash"]
    return ["## Attention", "", "In brackets: how much faster the native engine is.", "", *table(header, rows), ""]


def rates_of(folder, name, title, work, unit):
    data = read(folder, name)
    if data is None:
        return []
    peak, of = ("copy_bytes_per_s", "the copy") if work == "bytes" else ("gemm_peak_flops_per_s", "the GEMM peak")
    rows = [[row["name"], f"{row['ms']:.4f}", f"{100 * row['spread']:.0f} %", f"{unit[1] * row[work + '_per_s']:.1f}",
             f"{100 * row['share']:.0f} %"] for row in data["rows"]]  # fmt: skip
    return [f"## {title}", "", f"{data['sizes']}, {data['precision']}; {of}: {unit[1] * data[peak]:.1f} {unit[0]}", "",
            *table(["", "ms", "spread", unit[0], f"of {of}"], rows), ""]  # fmt: skip


def summary(folder):
    lines = ["# GPU check", "", text_of(folder / "card.txt") or "no card", "", *parts_of(folder), ""]
    lines += steps_of(folder) + polar_of(folder) + attention_of(folder)
    lines += rates_of(folder, "kernels", "Kernels bound by memory", "bytes", ("GB/s", 1e-9))
    lines += rates_of(folder, "gemm", "Matrix products", "flops", ("TFLOP/s", 1e-12))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: tools/bench/gpu_summary.py gpu-check")
    parser.add_argument("folder", type=pathlib.Path, help="what tools/gpu_check.sh wrote")
    print(summary(parser.parse_args().folder))


if __name__ == "__main__":
    main()
