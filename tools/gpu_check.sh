#!/usr/bin/env bash
# Everything that needs a GPU, in one call of less than ten minutes: tests, compute-sanitizer, benchmarks against PyTorch.
# What was done stays when it is cut off: every part writes its file as soon as it is through.
set -uo pipefail
cd "$(dirname "$0")/.."

if [ $# -lt 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
  cat <<'MSG'
usage: tools/gpu_check.sh OUT [PACKAGE]

Runs the GPU tests, compute-sanitizer over small ones, and benchmarks, and writes JSON, logs and summary.md into OUT.
PACKAGE is the folder or the .tar.xz that tools/package.sh made; without it the release build of this checkout is used.
The tests of the cuDNN attention engine run where it was compiled in (tools/setup.sh --cudnn) and cuDNN 9 is found: by
the system's loader, or in python3's packages. Needs no network and no root. Exit code 0: everything passed; 1: see OUT/summary.md.
Example: tools/gpu_check.sh gpu-check build/package
MSG
  [ $# -ge 1 ] && exit 0 || exit 2
fi
out=$1
mkdir -p "$out"
if [ $# -ge 2 ]; then
  package=$2
  if [ -f "$package" ]; then
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    tar -C "$unpacked" -xJf "$package"
    package=$unpacked
  fi
  tests=$package/test_gpu polartrain=$package/polartrain
  export LD_LIBRARY_PATH=$package${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
else
  tests=build/release/tests/test_gpu polartrain=build/release/tools/polartrain
fi
# cuDNN, and CUDA's libraries where the system has none, lie in the packages that PyTorch comes with.
libraries=$(python3 - 2>/dev/null <<'PY' || true
import glob, importlib.util
nvidia = importlib.util.find_spec("nvidia")
for root in nvidia.submodule_search_locations if nvidia else []:
    for folder in sorted(glob.glob(root + "/cudnn/lib") + glob.glob(root + "/cu13/lib")):
        print(folder)
PY
)
for library in $libraries; do
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$library
done
for program in "$tests" "$polartrain"; do
  [ -x "$program" ] || { echo "gpu_check: no program $program; build it (tools/package.sh FOLDER)" >&2; exit 2; }
done

failed=0
summary=$out/summary.md
: >"$summary"

# part NAME SECONDS COMMAND...: runs it with a limit, its output in OUT/NAME.log, a line in the summary.
part() {
  local name=$1 limit=$2 code=0 start=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
  [ $code -eq 0 ] || failed=1
  echo "- $name: $([ $code -eq 0 ] && echo passed || echo "FAILED with exit code $code"), $((SECONDS - start)) s" |
    tee -a "$summary"
}

card=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | head -1)
printf '# GPU check\n\n%s\n\n' "$card" >"$summary"
echo "gpu_check: $card"
"$polartrain" --version >"$out/version.txt" 2>&1

part tests 240 "$tests" --gtest_output="json:$out/tests.json"
small='*Flat*:*RmsNorm*:*Swiglu*:*Rope*:*Embedding*:*StepControl*'
if command -v compute-sanitizer >/dev/null; then
  part memcheck 120 compute-sanitizer --tool memcheck --error-exitcode 9 "$tests" --gtest_filter="$small"
  part racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 9 "$tests" --gtest_filter="$small"
else
  echo "- compute-sanitizer: not there, not run" | tee -a "$summary"
fi

# bench NAME CONFIG OVERRIDES...: ours, then PyTorch's step of the same model, batch and precision.
bench() {
  local name=$1 config=$2
  shift 2
  part "step-$name" 90 sh -c '"$0" bench step "$@" --json' "$polartrain" "$config" run.device=cuda \
    precision.compute=bf16 "$@"
  tail -1 "$out/step-$name.log" >"$out/step-$name.json"
  if python3 -c 'import torch, yaml; assert torch.cuda.is_available()' 2>/dev/null; then
    part "torch-$name" 120 python3 tools/bench/torch_step.py "$config" --device cuda --precision bf16 \
      --optimizer torch_muon --mode compile --json "$out/torch-$name.json"
  else
    echo "- torch-$name: no PyTorch with CUDA and yaml here, not run" | tee -a "$summary"
  fi
}
bench 16m configs/bench/16m.yaml optimizer.groups.0.type=muon
bench 124m configs/models/124m.yaml batch.global_tokens=65536 batch.micro_sequences=16

python3 - "$out" <<'PY' | tee -a "$summary"
import glob, json, os, sys
out = sys.argv[1]
for path in sorted(glob.glob(os.path.join(out, "step-*.json"))):
    name = os.path.basename(path)[5:-5]
    try:
        ours = json.load(open(path))
        theirs = json.load(open(os.path.join(out, f"torch-{name}.json")))
    except (OSError, ValueError):
        continue
    rate = theirs.get("tokens_per_s") or theirs["modes"][0]["tokens_per_s"]
    print(f"- {name}: {ours['tokens_per_s']:.0f} tokens/s, PyTorch {rate:.0f}, ratio {ours['tokens_per_s'] / rate:.2f}")
PY
exit $failed
