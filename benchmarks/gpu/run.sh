#!/usr/bin/env bash
# Runs all measurements that need a GPU; see docs/gpu.md.
#   run.sh [--archive KIT.tar.xz] [--python PYTHON] [--torch SITE_PACKAGES] [-o FOLDER] [KIT OPTIONS]
# Runs from an unpacked archive, or with --archive from a checkout (unpacks it first). --torch uses
# torch, and nothing else, from a folder of packages. KIT OPTIONS are passed to kit.py:
#   --device cuda|cpu  --model 2b|tiny  --only STEP…  --seconds N
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python=python3 archive='' torch='' out=gpu-results rest=()
while [ $# -gt 0 ]; do
  case "$1" in
    --archive) archive="$2"; shift 2 ;;
    --python) python="$2"; shift 2 ;;
    --torch) torch="$2"; shift 2 ;;
    -o) out="$2"; shift 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done
if [ -n "$archive" ]; then
  here="$(mktemp -d)"
  tar -xJf "$archive" -C "$here"
  here="$here/project/benchmarks/gpu"
fi
root="$(cd "$here/../../.." && pwd)"
path="$root/site:$root/project/src"
if [ -n "$torch" ]; then
  mkdir -p "$root/torch"
  for name in torch torchgen functorch triton nvidia sympy mpmath networkx; do
    for found in "$torch/$name" "$torch/$name"-*.dist-info; do
      if [ -e "$found" ]; then ln -sfn "$found" "$root/torch/"; fi
    done
  done
  path="$path:$root/torch"
fi
export PYTHONPATH="$path" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false SWANLAB_MODE=disabled
mkdir -p "$out"
exec "$python" "$here/kit.py" --json "$out/gpu.json" --log "$out/gpu.log" "${rest[@]}"
