"""Write docs/dependencies.md from the installed packages; ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).with_name("dependencies.md")
GPU = ("nvidia-", "cuda-", "triton")  # what torch needs on a GPU; its CPU build does not
PARTS = {
    "the base install": "",
    "`[train]`": "train",
    "`[serve]`": "serve",
    "`[notebook]`": "notebook",
    "`[tables]`": "tables",
}

TEXT = """\
# Dependencies

<!-- Written by `python docs/make_dependencies.py` from the installed packages. -->

The lower bounds in `pyproject.toml` are the oldest tested versions: `make test-oldest` installs the
oldest version of every range and runs the tests. `make test` uses the newest versions, those of
`constraints.txt`. One lower bound is not tested: torch 2.6 and later is allowed, for machines with
older drivers, but no version before 2.13 was available for testing.

There is an upper bound only if the next version is known to break something: other bounds would
keep fixes away.

- transformers < 6. Version 6 is announced to drop `is_gradient_checkpointing`, which PEFT (0.21)
  reads: without it PEFT treats every model as one that checkpoints its activations.

The change announced for 5.40, that `past_key_values` is only called `cache`, needs no bound: the
name is taken from the installed version. The tests pass with 5.23 and with 5.24.

## Licences

All packages that `pip install '.[train,serve,notebook,tables]'` installs on Linux without a GPU, with the licence
from their metadata. For a GPU, torch also installs Triton (MIT) and NVIDIA's libraries, under
NVIDIA's own terms.

| package | licence | needed by |
|---|---|---|
{rows}
"""


def normal(name: str) -> str:
    """Return a distribution's name in the normal form of PyPI."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name: str, extra: str, found: dict[str, metadata.Distribution]) -> None:
    """Add a distribution and everything that it requires on this machine."""
    known = normal(name) in found
    found[normal(name)] = metadata.distribution(name)
    if known and not extra:
        return
    for line in found[normal(name)].requires or []:
        needed = Requirement(line)
        if normal(name) == "torch" and normal(needed.name).startswith(GPU):
            continue
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            for one in needed.extras or {""}:
                closure(needed.name, one, found)


def licence(package: metadata.Distribution) -> str:
    """Return the licence from a package's metadata: SPDX, classifier, or text."""
    facts = package.metadata
    if spdx := facts.get("License-Expression"):
        return spdx
    classes = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier", []) if "License" in c]
    return ", ".join(classes) or facts.get("License", "?").splitlines()[0]


def page() -> str:
    """Return the page."""
    found: dict[str, metadata.Distribution] = {}
    part_of: dict[str, str] = {}
    for part, extra in PARTS.items():
        closure("qwen2vl-rs", extra, found)
        part_of |= {name: part for name in found if name not in part_of}
    rows = [
        f"| {name} | {licence(package)} | {part_of[name]} |"
        for name, package in sorted(found.items())
        if name != "qwen2vl-rs"
    ]
    return TEXT.format(rows="\n".join(rows))


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/dependencies.md is out of date: python docs/make_dependencies.py")


if __name__ == "__main__":
    main()
