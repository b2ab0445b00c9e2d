#!/usr/bin/env python3
"""Makes the golden files of the byte-level BPE tokenizer (tests/golden/data) with Hugging Face's tokenizers.

Trains two small tokenizers on data/austen, one with GPT-2's pre-tokenizer and one with Qwen's, and writes
their tokenizer.json and the ids they give for texts that are hard to cut.

Example: python tools/reference/tokenizers_bpe.py
"""

import argparse
import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "",
    "It is a truth universally acknowledged.",
    "I'm sure you'll say they've DON'T we'd SHE'S",
    "two  spaces, three   and trailing  ",
    "line\n\nparagraph \n  indented\r\n\tCRLF and tab\n\n\n",
    " \n \n x",
    "1234567890 3.14159 ½ ② Ⅷ ٣٤",
    "Crème brûlée; decomposed: e\u0301 A\u030a",
    "Съешь же ещё этих мягких французских булок",
    "日本語のテキスト、漢字とかな。",
    "שלום עולם مرحبا بالعالم हिन्दी ไทย",
    "🙂👩‍👩‍👧‍👦🇨🇭 emoji!!! ...—„quotes“",
    "no\u00a0break\u2003em\u3000wide\u0085nel\u2028line\u180emongolian\u000bvt\u000cff",
    "x=42;y_z+=f(a,b)->c // code\n\treturn\t{};",
    "a" * 50 + "  " * 20 + "\n" * 9 + "é" * 30,
]


def make(pattern):
    tokenizer = Tokenizer(models.BPE())
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train([str(ROOT / "data/austen/pride_and_prejudice.txt")], trainer)
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "tests/golden/data", help="folder to write into")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for name, pattern in [("gpt2", None), ("qwen", QWEN_PATTERN)]:
        tokenizer = make(pattern)
        tokenizer.save(str(output / f"{name}.json"), pretty=False)
        cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS]
        (output / f"{name}_ids.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")


if __name__ == "__main__":
    main()
