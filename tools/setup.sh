#!/usr/bin/env bash
# Installs what PolarTrain needs to build and run, from Debian packages only. Idempotent: asks nothing, installs
# only what is missing, works as root and through sudo.
set -euo pipefail

usage() {
  cat <<'MSG'
usage: tools/setup.sh [--check]

Installs the missing Debian packages that PolarTrain builds with (as root, or through sudo).
  --check   install nothing; list what is missing and exit 1 if anything is
Example: tools/setup.sh
MSG
}

packages=(
  g++ cmake ninja-build ccache pkg-config git python3
  libyaml-cpp-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libgtest-dev libgmock-dev
  libsentencepiece-dev libopenblas-dev libzstd-dev libsimdjson-dev libxxhash-dev libicu-dev
  gnuplot-nox
)

check_only=0
for argument in "$@"; do
  case "$argument" in
    --check) check_only=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup: unknown option '$argument'" >&2; usage >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is not a Debian system; install the equivalents of: ${packages[*]}" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  # A package that was removed but not purged is known to dpkg too, with another status than "installed".
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: everything is there"
  exit 0
fi
echo "setup: missing: ${missing[*]}"
[ $check_only -eq 0 ] || exit 1

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: run this as root, or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing with apt-get"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
