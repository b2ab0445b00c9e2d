#!/usr/bin/env python3
"""Compares the logits of a model directory in transformers with those that polartrain computed.

    polartrain export CHECKPOINT --output DIR
    polartrain eval CHECKPOINT --logits logits.safetensors
    python tools/reference/check_export.py DIR --logits logits.safetensors

DIR is an export or a checkpoint (which loads as it is). The logits file holds "ids" (int32, [T] or [B, T]) and
"logits" (float32, the same with a vocabulary dimension). Both sides compute in float32. Printed is the largest
difference relative to the largest logit; exit code 1 above the tolerance.

With --text FILE, the tokenizer is checked too: every line must have the same ids in transformers and in
sentencepiece (DIR/tokenizer.model). It is loaded by AutoTokenizer, but for qwen2 by PreTrainedTokenizerFast,
because AutoTokenizer of transformers 5 takes Qwen2Tokenizer there whatever tokenizer_config.json says.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast


def check_logits(directory: Path, logits_file: Path, tolerance: float) -> bool:
    ours = load_file(logits_file)
    ids = ours["ids"].long()
    ids = ids.reshape(-1, ids.shape[-1])
    model, loading = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    complaints = {kind: names for kind, names in loading.items() if names}
    if complaints:
        print(f"transformers reports {complaints}")
        return False
    with torch.no_grad():
        theirs = model.eval()(input_ids=ids).logits
    logits = ours["logits"].reshape(theirs.shape)
    difference = ((logits - theirs).abs().max() / theirs.abs().max()).item()
    print(
        f"{type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters, "
        f"{ids.numel()} tokens: max relative difference of logits {difference:.3g} (allowed {tolerance:g})"
    )
    return difference <= tolerance


def check_tokenizer(directory: Path, text: Path) -> bool:
    import sentencepiece

    reference = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    qwen2 = json.loads((directory / "config.json").read_text())["model_type"] == "qwen2"
    tokenizer = (PreTrainedTokenizerFast if qwen2 else AutoTokenizer).from_pretrained(directory)
    lines = text.read_text(encoding="utf-8").split("\n")
    different = [line for line in lines if tokenizer(line)["input_ids"] != reference.encode(line)]
    print(f"{type(tokenizer).__name__}: {len(different)} of {len(lines)} lines with different ids")
    for line in different[:5]:
        print(f"  {line!r}: {tokenizer(line)['input_ids']} instead of {reference.encode(line)}")
    return not different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="export, checkpoint or Hugging Face directory")
    parser.add_argument("--logits", type=Path, help="file written by `polartrain eval --logits`")
    parser.add_argument("--text", type=Path, help="text file to compare the tokenizers on")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args()
    if options.logits is None and options.text is None:
        parser.error("nothing to check: give --logits, --text or both")
    good = True
    if options.logits is not None:
        good &= check_logits(options.directory, options.logits, options.tolerance)
    if options.text is not None:
        good &= check_tokenizer(options.directory, options.text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
