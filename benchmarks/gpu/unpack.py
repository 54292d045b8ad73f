"""Unpack wheels into one folder, without the files that the kit does not use.

python unpack.py WHEELS MERGES SITE
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

# The models of transformers that the three families, the trainer and PEFT import.
MODELS = {
    "auto", "bloom", "encoder_decoder", "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_vl",
}  # fmt: skip
UNUSED = (
    "rasterio/rio/",
    "numpy/f2py/",
    "numpy/_core/include/",
)
HEADERS = (".pyi", ".h", ".a")


def wanted(name: str) -> bool:
    """Return whether a file of a wheel is used."""
    parts = name.split("/")
    if parts[:2] == ["transformers", "models"] and len(parts) > 3:
        # AutoTokenizer reads the configuration of every model
        return parts[2] in MODELS or parts[3].startswith(("__init__", "configuration_"))
    return not ("tests" in parts[:-1] or name.startswith(UNUSED) or name.endswith(HEADERS))


def main(wheels: Path, merges: Path, site: Path) -> None:
    """Unpack everything."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site, [n for n in archive.namelist() if wanted(n)])
    for wheel in merges.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extract("dashscope/resources/qwen.tiktoken", site)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
