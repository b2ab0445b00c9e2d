#!/usr/bin/env bash
# Makes a folder with everything that a machine with a GPU needs for tools/gpu_check.sh: the command, the GPU tests, and
# the libraries that are neither the C++ runtime's nor CUDA's.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
  cat <<'MSG'
usage: tools/package.sh FOLDER

Builds the release preset and test_gpu, puts the programs and their libraries into FOLDER (made new), and packs it as
FOLDER.tar.xz to be carried elsewhere.
Example: tools/package.sh build/package && tools/gpu_check.sh build/gpu-check build/package.tar.xz
MSG
  [ $# -eq 1 ] && exit 0 || exit 2
fi
folder=$1

cmake --preset release >/dev/null
cmake --build --preset release --target polartrain test_gpu
rm -rf "$folder"
mkdir -p "$folder"
cp build/release/tools/polartrain build/release/tests/test_gpu "$folder/"
strip "$folder/polartrain" "$folder/test_gpu"
# Of the C library, the compiler's and CUDA's own libraries every such machine has its own; cuDNN (1 GB) is loaded only
# where attention.engine asks for it: tools/gpu_check.sh looks for the one that PyTorch brings.
ldd "$folder/polartrain" "$folder/test_gpu" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libcu[a-zA-Z]*|libnv[a-zA-Z]*)\.so' |
  while read -r library; do cp -L "$library" "$folder/"; done
cp -r configs tools/bench "$folder/"
tar -C "$folder" -c . | xz -T0 -3 >"$folder.tar.xz"
du -sh "$folder" "$folder.tar.xz" | awk '{print "package: " $1 " in " $2}'
