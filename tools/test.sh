#!/usr/bin/env bash
# Sets up what is missing, builds everything, runs all tests. The command of the README and of the CI.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'MSG'
usage: tools/test.sh [--quick | --preset debug|asan] [-- CTEST OPTIONS]

Sets up (tools/setup.sh), configures, builds and runs all tests. Then once more under the address and
undefined-behaviour sanitizers those of what reads files, with the CPU backend, and, where CUDA's headers are found,
those of the emulator and of the CUDA backend; and the kernels under the thread sanitizer. Exit code 0: all passed.
  --quick         without the second part
  --preset NAME   all tests in another preset (asan: everything under the sanitizers), without the second part
Example: tools/test.sh --quick -- -R optim
MSG
}

preset=release
sanitized=1
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) sanitized=0; shift ;;
    --preset) preset=${2:?--preset needs a name}; sanitized=0; shift 2 ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
done

# configure PRESET: quiet unless it fails, but for the line about CUDA.
configure() {
  local log
  log=$(mktemp)
  if ! cmake --preset "$1" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
  grep -E '^-- CUDA:' "$log" || true
  rm -f "$log"
}

tools/setup.sh
echo "test: building (preset $preset)"
configure "$preset"
cmake --build --preset "$preset"
echo "test: running"
# A test has up to two threads of its own, but many wait for processes or have one.
jobs=$(nproc)
run=(ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --parallel $((jobs < 4 ? jobs : 4)))
"${run[@]}" "$@"

[ $sanitized -eq 1 ] || exit 0
echo "test: building for the sanitizers"
cmake --build --preset sanitized
echo "test: running under the sanitizers"
"${run[@]}" -C sanitized -L sanitized
