#!/usr/bin/env bash
# Installs what PolarTrain needs to build and run: Debian packages, and on request CUDA's toolkit and cuDNN from their
# Python packages into the folder .cuda of this checkout, where CMake finds them. Idempotent: asks nothing, installs
# only what is missing, goes on where it was interrupted, works as root and through sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'MSG'
usage: tools/setup.sh [--check] [--cuda] [--cudnn]

Installs the missing Debian packages that PolarTrain builds with (as root, or through sudo).
  --cuda    also a CUDA 13.0 toolkit where there is none: nvcc, headers and libraries from PyPI into .cuda
            (0.9 GB to download, 1.3 GB on disk; needs no root but for python3-venv). CMake finds it by itself.
  --cudnn   also what attention.engine=cudnn is built with: cuDNN's header-only front end, and cuDNN 9 where the
            toolkit has none (0.5 GB to download, 0.7 GB on disk)
  --check   install nothing; list what is missing and exit 1 if anything is
Remove what came from PyPI with: rm -rf .cuda
Example: tools/setup.sh --cuda --cudnn && cmake --preset release
MSG
}

packages=(
  g++ cmake ninja-build ccache pkg-config git python3
  libyaml-cpp-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libgtest-dev libgmock-dev
  libsentencepiece-dev libopenblas-dev libzstd-dev libsimdjson-dev libxxhash-dev libicu-dev libgloo-dev
  gnuplot-nox
)
# CUDA 13.0, update 2. nvcc, its parts and the libraries must be of one minor version.
toolkit=(
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.0.3
  nvidia-cusolver==12.0.4.66 nvidia-cusparse==12.6.3.3 nvidia-nvjitlink==13.0.88
)
front_end=(nvidia-cudnn-frontend==1.18.0)
cudnn=(nvidia-cudnn-cu13==9.19.0.56 nvidia-cuda-nvrtc==13.0.88)

check_only=0 want_cuda=0 want_cudnn=0
for argument in "$@"; do
  case "$argument" in
    --check) check_only=1 ;;
    --cuda) want_cuda=1 ;;
    --cudnn) want_cudnn=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup: unknown option '$argument'" >&2; usage >&2; exit 2 ;;
  esac
done

folder=.cuda
# The toolkit that CMake takes before ours: the one on the PATH, or where it is usually installed.
system_nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
nvcc_version() { "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p'; }
toolkit_is_there() { [ -n "$system_nvcc" ] && [ "$(nvcc_version "$system_nvcc" | cut -d. -f1)" -ge 13 ] 2>/dev/null; }
cudnn_is_there() {
  local include
  for include in ${system_nvcc:+"$(dirname "$(readlink -f "$system_nvcc")")/../include"} /usr/include \
    "/usr/include/$(uname -m)-linux-gnu"; do
    [ ! -e "$include/cudnn.h" ] || return 0
  done
  return 1
}
brought() { [ -e "$folder/done/$1" ]; }  # NAME==VERSION

# Which of the Python packages are still to be brought.
wanted=()
[ $want_cuda -eq 0 ] || toolkit_is_there || wanted+=("${toolkit[@]}")
if [ $want_cudnn -eq 1 ]; then
  wanted+=("${front_end[@]}")
  cudnn_is_there || wanted+=("${cudnn[@]}")
fi
to_bring=()
for package in "${wanted[@]}"; do
  brought "$package" || to_bring+=("$package")
done
[ ${#to_bring[@]} -eq 0 ] || packages+=(python3-venv)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is not a Debian system; install the equivalents of: ${packages[*]}" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  # A package that was removed but not purged is known to dpkg too, with another status than "installed".
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done

# What is there of CUDA, for people to read.
describe_cuda() {
  if toolkit_is_there; then
    echo "setup: CUDA toolkit: $(nvcc_version "$system_nvcc") of the system; nothing to bring"
  elif [ -x "$folder/toolkit/bin/nvcc" ]; then
    echo "setup: CUDA toolkit: $(nvcc_version "$folder/toolkit/bin/nvcc") in $folder"
    [ -z "$system_nvcc" ] || echo "setup: the nvcc on the PATH is not of CUDA 13: configure with" \
      "-DCMAKE_CUDA_COMPILER=$PWD/$folder/toolkit/bin/nvcc"
  fi
  if [ -e "$folder/cudnn-frontend/cudnn_frontend.h" ]; then
    echo "setup: cuDNN: its front end in $folder, cuDNN $(cudnn_is_there && echo "of the system" || echo "in $folder")"
  fi
}

if [ ${#missing[@]} -eq 0 ] && [ ${#to_bring[@]} -eq 0 ]; then
  [ $((want_cuda + want_cudnn)) -eq 0 ] || describe_cuda
  echo "setup: everything is there"
  exit 0
fi
[ ${#missing[@]} -eq 0 ] || echo "setup: missing: ${missing[*]}"
[ ${#to_bring[@]} -eq 0 ] || echo "setup: missing in $folder: ${to_bring[*]}"
[ $check_only -eq 0 ] || exit 1

install_packages() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "setup: run this as root, or install sudo" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "setup: installing with apt-get"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null
}

# The wheels lie in a virtual environment of their own, one after the other: what is through stays when it is cut off.
bring() {
  local python=$folder/python package log
  mkdir -p "$folder/done"
  log=$folder/pip.log
  [ -e "$folder/done/python" ] || { rm -rf "$python"; python3 -m venv "$python"; touch "$folder/done/python"; }
  for package in "$@"; do
    echo "setup: bringing $package"
    if ! "$python/bin/python" -m pip install --disable-pip-version-check --no-deps --force-reinstall --quiet \
      "$package" >"$log" 2>&1; then
      echo "setup: pip could not bring $package:" >&2
      grep -iE 'error|could not|no matching' "$log" | tail -3 >&2
      echo "setup: is there a network, and enough room ($(df -h --output=avail "$folder" | tail -1 | tr -d ' ') free)?" \
        "Run the same command again: it goes on from here. All of pip's words: $log" >&2
      exit 1
    fi
    touch "$folder/done/$package"
  done
}

# The wheels' folder as the toolkit that CMake and nvcc expect: lib64, and libraries by the names that linkers use.
lay_out() {
  local site library
  site=$("$folder/python/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  site=$(realpath --relative-to="$folder" "$site")
  if [ -d "$folder/$site/nvidia/cu13" ]; then
    ln -sfn "$site/nvidia/cu13" "$folder/toolkit"
    ln -sfn lib "$folder/toolkit/lib64"
  fi
  [ ! -d "$folder/$site/nvidia/cudnn" ] || ln -sfn "$site/nvidia/cudnn" "$folder/cudnn"
  [ ! -e "$folder/$site/include/cudnn_frontend.h" ] || ln -sfn "$site/include" "$folder/cudnn-frontend"
  for library in "$folder"/toolkit/lib/lib*.so.* "$folder"/cudnn/lib/lib*.so.*; do
    [ ! -e "$library" ] || ln -sfn "$(basename "$library")" "${library%%.so.*}.so"
  done
}

# What the build uses, file by file: a wheel laid out otherwise is found here, not by a compiler.
check_toolkit() {
  local file
  for file in bin/nvcc bin/ptxas nvvm/bin/cicc include/cuda_runtime.h include/crt/host_config.h include/nv/target \
    include/cublasLt.h lib64/libcudart_static.a lib64/libcudadevrt.a lib64/libcublasLt.so lib64/libcusolver.so; do
    [ -e "$folder/toolkit/$file" ] || { echo "setup: the toolkit in $folder has no $file (rm -rf $folder, again)" >&2; exit 1; }
  done
}

[ ${#missing[@]} -eq 0 ] || install_packages
if [ ${#to_bring[@]} -gt 0 ]; then
  bring "${to_bring[@]}"
  lay_out
  [ $want_cuda -eq 0 ] || toolkit_is_there || check_toolkit
  describe_cuda
fi
echo "setup: done"
