"""Write docs/dependencies.md from what is installed; ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).with_name("dependencies.md")
GPU = ("nvidia-", "cuda-", "triton")  # what torch needs on a GPU; its CPU build does not
PARTS = {
    "the light part": "",
    "`[train]`": "train",
    "`[serve]`": "serve",
    "`[notebook]`": "notebook",
    "`[tables]`": "tables",
}

TEXT = """\
# Dependencies

<!-- Written by `python docs/make_dependencies.py` from what is installed. -->

What `pyproject.toml` allows begins at the oldest versions tested: `make test-oldest` installs the
oldest of every range at once and runs the tests. The newest are those of `constraints.txt`, which
`make test` uses. One bound is not tested: torch from 2.6 on is allowed, for machines whose driver
is older than today's torch, but no version before 2.13 was at hand.

There is an upper bound where the next version is known to change something here, and nowhere else:
bounds keep people from updates that mend things.

- transformers < 6. It announces that 6 drops `is_gradient_checkpointing`, which PEFT (0.21) reads:
  without it every model counts as one that checkpoints its activations.

What it announces for 5.40, that `past_key_values` is only called `cache`, needs none: the name is
taken from the version that is installed. The tests pass with 5.23 and with 5.24.

pyarrow holds the questions of a data set as columns, and maps those of a run from its file.

## Licences

What `pip install '.[train,serve,notebook,tables]'` installs on Linux without a GPU, by what the
packages say of
themselves. For a GPU torch brings Triton (MIT) and NVIDIA's libraries, under NVIDIA's own terms.

| package | licence | needed by |
|---|---|---|
{rows}
"""


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name: str, extra: str, found: dict[str, metadata.Distribution]) -> None:
    """Add a distribution and all that it requires here."""
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
    """What a package says of its licence: by SPDX, by classifier, or in words."""
    facts = package.metadata
    if said := facts.get("License-Expression"):
        return said
    classes = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier", []) if "License" in c]
    return ", ".join(classes) or facts.get("License", "?").splitlines()[0]


def page() -> str:
    """The whole page."""
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
    """Write the page, or check it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit("docs/dependencies.md is out of date: python docs/make_dependencies.py")


if __name__ == "__main__":
    main()
