#!/usr/bin/env bash
# The whole path on this machine: set-up, build, tokenizer, token shards, training, evaluation, sample, report.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'MSG'
usage: tools/demo.sh [key=value ...]

Trains the model of configs/demo.yaml on the text under data/austen and reports on it in runs/demo.
Finished parts are not done twice; a run that was interrupted continues. Overrides go to `polartrain train`.
Example: tools/demo.sh train.max_steps=50
MSG
}
case "${1:-}" in -h | --help) usage; exit 0 ;; esac

tools/setup.sh
echo "demo: building"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset release >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
grep -E '^-- CUDA:' "$log" || true
cmake --build --preset release --target polartrain
polartrain=build/release/tools/polartrain

if [ ! -f data/demo.model ]; then
  echo "demo: training a tokenizer of 4096 pieces on data/austen"
  "$polartrain" tokenizer train data/austen --output data/demo.model --vocab-size 4096
fi
if [ ! -f data/demo/manifest.json ]; then
  echo "demo: preparing token shards"
  "$polartrain" data prepare data/austen --output data/demo --tokenizer data/demo.model --validation-fraction 0.1
fi
echo "demo: training (configs/demo.yaml)"
"$polartrain" train configs/demo.yaml "$@"
