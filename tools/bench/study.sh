#!/usr/bin/env bash
# The optimizer study: AdamW, Muon, PolarGrad, Muon + PolarSGDM and SOAP at equal tokens on Jane Austen's six
# novels, each with its own grid of learning rates and several seeds (configs/study).
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'MSG'
usage: tools/bench/study.sh [flags of polartrain sweep] [key=value ...]

Writes the novels (needs the Debian package r-cran-janeaustenr), trains a tokenizer of 2048 pieces, prepares
the shards, runs a sweep per optimizer (5 rates x 3 seeds; together 15 to 20 minutes on two idle cores) in
runs/study/<optimizer>, Muon again over the rate of everything else (muon-embedding, against which Muon +
PolarSGDM must be held), and prints one table, which is also in runs/study/comparison.md and .json. Called
again it goes on where it was cut. STUDY_OPTIMIZERS chooses some of them. Tune --jobs and --threads to the
machine (2 and 1).
Example: STUDY_OPTIMIZERS="adamw muon" tools/bench/study.sh --jobs 8
MSG
}
case "${1:-}" in -h | --help) usage; exit 0 ;; esac

polartrain=${POLARTRAIN:-build/release/tools/polartrain}
[ -x "$polartrain" ] || { echo "study: build first (tools/demo.sh or tools/test.sh does)" >&2; exit 1; }
if [ ! -f data/austen-study/manifest.json ]; then
  Rscript data/austen/extract.R build/austen-text all
  "$polartrain" tokenizer train build/austen-text --output data/austen-study.model --vocab-size 2048
  "$polartrain" data prepare build/austen-text --output data/austen-study --tokenizer data/austen-study.model
fi

rates_of() {
  case "$1" in
    adamw) echo optimizer.groups.0.lr=2.5e-4,5e-4,1e-3,2e-3,4e-3 ;;
    muon | soap) echo optimizer.groups.0.lr=5e-4,1e-3,2e-3,4e-3,8e-3 ;;
    polargrad) echo optimizer.groups.0.lr=0.0075,0.015,0.03,0.06,0.12 ;;
    muon-polarsgdm) echo optimizer.groups.1.lr=0.25,0.5,1,2,4 ;;
    muon-embedding) echo optimizer.groups.1.lr=5e-3,1e-2,2e-2,4e-2,8e-2 ;; # AdamW on the rest
    *) echo "study: there is no optimizer '$1'" >&2; return 1 ;;
  esac
}

failed=0
sweeps=()
for optimizer in ${STUDY_OPTIMIZERS:-adamw muon polargrad muon-polarsgdm soap muon-embedding}; do
  rates=$(rates_of "$optimizer")
  code=0
  config=configs/study/${optimizer/muon-embedding/muon}.yaml
  "$polartrain" sweep "$config" --grid "$rates" --seeds 3 --jobs 2 --threads 1 \
    --output "runs/study/$optimizer" "$@" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi # 1: a run has failed, which the table says
  if [ "$code" -ne 0 ]; then failed=1; fi
  sweeps+=("runs/study/$optimizer")
done
"$polartrain" sweep --compare "${sweeps[@]}" --output runs/study
exit $failed
