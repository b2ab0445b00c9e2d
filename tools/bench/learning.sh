#!/usr/bin/env bash
# The learning benchmark: AdamW, Muon and PolarGrad at equal tokens on Jane Austen's six novels (configs/learning).
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'MSG'
usage: tools/bench/learning.sh [key=value ...]

Writes the novels (needs the Debian package r-cran-janeaustenr), trains a tokenizer of 4096 pieces, prepares the
shards, trains configs/learning/{adamw,muon,polargrad}.yaml (300 steps of 4x256 tokens each, some minutes) and prints
the validation losses. Reference: AdamW 5.24, Muon 4.80 nats a token. Overrides go to every run.
Example: tools/bench/learning.sh run.seed=2
MSG
}
case "${1:-}" in -h | --help) usage; exit 0 ;; esac

polartrain=build/release/tools/polartrain
[ -x "$polartrain" ] || { echo "learning: build first (tools/demo.sh or tools/test.sh does)" >&2; exit 1; }
if [ ! -f data/austen-full/manifest.json ]; then
  Rscript data/austen/extract.R build/austen-text all
  "$polartrain" tokenizer train build/austen-text --output data/austen-full.model --vocab-size 4096
  "$polartrain" data prepare build/austen-text --output data/austen-full --tokenizer data/austen-full.model
fi
for optimizer in adamw muon polargrad; do
  "$polartrain" train "configs/learning/$optimizer.yaml" --fresh "$@"
done
echo
printf '%-12s %12s %14s\n' optimizer 'val. loss' 'bits a byte'
for optimizer in adamw muon polargrad; do
  "$polartrain" eval "runs/learning-$optimizer" --json |
    python3 -c "import json, sys; e = json.load(sys.stdin); print(f'$optimizer'.ljust(12), f\"{e['loss']:12.4f} {e['bits_per_byte']:14.4f}\")"
done
