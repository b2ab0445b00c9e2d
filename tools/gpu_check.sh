#!/usr/bin/env bash
# Everything that needs a GPU, in one call of less than ten minutes: tests, benchmarks against PyTorch, compute-sanitizer.
# What was done stays when it is cut off: every part writes its file as soon as it is through, and the summary is written
# anew after each.
set -uo pipefail
cd "$(dirname "$0")/.."

if [ $# -lt 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
  cat <<'MSG'
usage: tools/gpu_check.sh OUT [PACKAGE]

Runs the GPU tests, benchmarks of ours and of PyTorch, and compute-sanitizer over small tests, and writes JSON, logs and
summary.md into OUT. Every part has a time limit; all of them together have 9 minutes and 40 seconds.
PACKAGE is the folder or the .tar.xz that tools/package.sh made; without it the release build of this checkout is used.
The tests of the cuDNN attention engine run where it was compiled in (tools/setup.sh --cudnn) and cuDNN 9 is found: by
the system's loader, or in python3's packages. PYTHON names the interpreter with torch and yaml (python3).
Needs no network and no root. Exit code 0: everything passed; 1: see OUT/summary.md.
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
python=${PYTHON:-python3}
parts=$out/parts.txt
: >"$parts"
readonly seconds_in_all=580

# record NAME RESULT: a line of the summary, which is made of what there is so far.
record() {
  printf '%s\t%s\n' "$1" "$2" >>"$parts"
  echo "gpu_check: $1: $2"
  "$python" tools/bench/gpu_summary.py "$out" >"$out/summary.tmp" && mv "$out/summary.tmp" "$out/summary.md"
}

# part NAME SECONDS COMMAND...: runs it with a limit, its output in OUT/NAME.log.
part() {
  local name=$1 limit=$2 code=0 start=$SECONDS
  local left=$((seconds_in_all - SECONDS))
  shift 2
  if [ $left -lt 5 ]; then
    failed=1
    record "$name" "not run: no time left"
    return 1
  fi
  [ $limit -le $left ] || limit=$left
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
  case $code in
    0) record "$name" "passed, $((SECONDS - start)) s" ;;
    124) failed=1 && record "$name" "FAILED: over its limit of $limit s" ;;
    *) failed=1 && record "$name" "FAILED with exit code $code, $((SECONDS - start)) s" ;;
  esac
  return $code
}

# bench NAME SECONDS ARGUMENTS...: polartrain bench ..., its JSON in OUT/NAME.json.
bench() {
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" "$polartrain" bench "$@" --json && tail -1 "$out/$name.log" >"$out/$name.json" &&
    record "$name.json" written
}

# torch NAME SECONDS SCRIPT ARGUMENTS...: a script of tools/bench, which writes OUT/NAME.json itself.
has_torch=0
"$python" -c 'import torch, yaml; assert torch.cuda.is_available()' 2>/dev/null && has_torch=1
torch() {
  local name=$1 limit=$2 script=$3
  shift 3
  if [ $has_torch = 1 ]; then
    part "$name" "$limit" "$python" "tools/bench/$script" "$@" --device cuda --json "$out/$name.json"
  else
    record "$name" "not run: no PyTorch with CUDA and yaml ($python)"
  fi
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | head -1 >"$out/card.txt"
echo "gpu_check: $(cat "$out/card.txt")"
"$polartrain" --version >"$out/version.txt" 2>&1

part tests 150 "$tests" --gtest_output="json:$out/tests.json"

cuda=(--device cuda --gemm-cache "$out/gemm-cache.txt")
model=configs/models/qwen2.5-0.5b.yaml
bench kernels 40 kernels "${cuda[@]}"
bench attention 30 attention "${cuda[@]}"
torch torch-attention 45 torch_attention.py
bench step-0.5b 100 step "$model" run.device=cuda "run.gemm_cache=$out/gemm-cache.txt" --repeats 2
# What polartrain plan --simulate expects of this card, to be held against the step.
case "$(cat "$out/card.txt")" in
  *H100*HBM3*) hardware=configs/hardware/8xh100.yaml ;;
  *A100-SXM4-80GB*) hardware=configs/hardware/8xa100.yaml ;;
  *) hardware= ;;
esac
if [ -n "$hardware" ]; then
  part simulate-0.5b 20 "$polartrain" plan "$model" --simulate "$hardware" --ranks 1 --json &&
    tail -1 "$out/simulate-0.5b.log" >"$out/simulate-0.5b.json"
fi
torch torch-step-0.5b 170 torch_step.py "$model" --precision bf16 --optimizer torch_muon --mode compile --warmup 1 \
  --steps 2
bench polar 40 polar "${cuda[@]}"
torch torch-polar 60 torch_polar.py
bench gemm 30 gemm "${cuda[@]}"
if "$polartrain" bench attention --device cuda --engine cudnn --repeats 1 >"$out/cudnn.log" 2>&1; then
  bench attention-cudnn 30 attention "${cuda[@]}" --engine cudnn
else
  record attention-cudnn "not run: $(tail -1 "$out/cudnn.log")"
fi

small='*Flat*:*RmsNorm*:*Swiglu*:*Rope*:*Embedding*:*StepControl*'
if command -v compute-sanitizer >/dev/null; then
  part memcheck 90 compute-sanitizer --tool memcheck --error-exitcode 9 "$tests" --gtest_filter="$small"
  part racecheck 90 compute-sanitizer --tool racecheck --error-exitcode 9 "$tests" --gtest_filter="$small"
else
  record sanitizer "not run: no compute-sanitizer"
fi
cat "$out/summary.md"
exit $failed
