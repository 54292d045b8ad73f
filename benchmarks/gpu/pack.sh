#!/usr/bin/env bash
# Packs everything that benchmarks/gpu/run.sh needs on a machine without network into one archive.
#   pack.sh [--python 3.12|3.11] [--everything] [--wheels FOLDER] [-o KIT.tar.xz | --fetch]
# The machine must be x86-64 and have CPython, torch, accelerate, peft, safetensors, tokenizers,
# huggingface_hub, numpy, pillow and pyarrow with their dependencies; --everything packs all but torch.
# Wheels are cached in FOLDER; --fetch only downloads them.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
version=3.12 everything='' wheels='' fetch='' out=kit.tar.xz
while [ $# -gt 0 ]; do
  case "$1" in
    --python) version="$2"; shift 2 ;;
    --everything) everything=1; shift ;;
    --wheels) wheels="$2"; shift 2 ;;
    --fetch) fetch=1; shift ;;
    -o) out="$2"; shift 2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
done
python="${PYTHON:-$root/$(make -s -C "$root" --no-print-directory bin)/python}"
wanted=(transformers pydantic pydantic_core annotated-types typing-inspection typing_extensions
  click jinja2 markupsafe httpx httpcore anyio h11 idna certifi rasterio affine attrs cligj
  click-plugins pyparsing shapely peft pytest pytest-timeout iniconfig pluggy packaging Pygments
  rich markdown-it-py mdurl)
if [ -n "$everything" ]; then
  wanted+=(accelerate safetensors tokenizers huggingface_hub numpy pillow pyarrow psutil PyYAML regex
    tqdm filelock fsspec httpx2 httpcore2 truststore sniffio typer shellingham
    annotated-doc requests urllib3 charset-normalizer)
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
wheels="${wheels:-$work/wheels}"
if [ ! -e "$wheels/complete" ]; then
  platforms=()
  for glibc in 17 24 27 28 31 34; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
  # the tested versions, for packages in constraints.txt
  for name in "${wanted[@]}"; do
    pattern="^${name//[-_]/[-_]}=="
    grep -iE "$pattern" "$root/constraints.txt" || echo "$name"
  done >"$work/wanted.txt"
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
    --python-version "$version" "${platforms[@]}" --platform manylinux2014_x86_64 \
    -d "$wheels" -r "$work/wanted.txt"
  "$python" -m pip download --quiet --no-deps -d "$wheels/merges" \
    "$(grep -i '^dashscope==' "$root/constraints.txt")"
  touch "$wheels/complete"
fi
if [ -n "$fetch" ]; then exit; fi
if [ -n "$(git -C "$root" ls-files -u)" ]; then
  echo "a merge is not finished: $(git -C "$root" diff --name-only --diff-filter=U | tr '\n' ' ')" >&2
  exit 1
fi
"$python" "$here/unpack.py" "$wheels" "$wheels/merges" "$work/kit/site"
mkdir -p "$work/kit/project"
(cd "$root" && git ls-files -z -- src benchmarks recipes pyproject.toml README.md LICENSE \
  tests/conftest.py tests/support tests/question_tree/test_flex.py | xargs -0 cp --parents -t "$work/kit/project")
tar -C "$work/kit" -c site project | xz -T0 -6 >"$out"
echo "$out: $(($(stat -c %s "$out") / 1048576)) MiB for Python $version" >&2
