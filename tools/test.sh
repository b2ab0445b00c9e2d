#!/usr/bin/env bash
# Sets up what is missing, builds everything, runs all tests. The command of the README and of the CI.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'MSG'
usage: tools/test.sh [--preset release|debug|asan] [-- CTEST OPTIONS]

Sets up (tools/setup.sh), configures, builds and runs all tests. Exit code 0: all passed.
Example: tools/test.sh -- -R optim
MSG
}

preset=release
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
done

tools/setup.sh
echo "test: building (preset $preset)"
cmake --preset "$preset" >build-configure.log 2>&1 || { cat build-configure.log >&2; rm -f build-configure.log; exit 1; }
grep -E '^-- CUDA:' build-configure.log || true
rm -f build-configure.log
cmake --build --preset "$preset"
echo "test: running"
# Two tests at a time would share two cores with their own threads: one after the other is as fast and steadier.
ctest --test-dir "build/$preset" --output-on-failure --no-tests=error "$@"
