"""A run's folder: what lies where in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .errors import RunError
from .files import read_json
from .jsonl import read_jsonl

TRAIN_FILE, TEST_FILE = "data_vl_train.json", "data_vl_test.json"  # in the current folder


def checkpoints(run: Path) -> list[Path]:
    """The ``checkpoint-<step>`` folders of a run, oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", p.name), p) for p in run.glob("checkpoint-*")]
    return [p for _, p in sorted((int(m[1]), p) for m, p in found if m and p.is_dir())]


def newest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        RunError: there is none.
    """
    found = checkpoints(run)
    if not found:
        raise RunError(f"no checkpoint in {run}", hint="train first: qwen2vl-rs train")
    return found[-1]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl``; what a crash cut short is dropped."""
    return read_jsonl(path)[0]


def records_no_dataset(run: Path) -> bool:
    """Whether a run was made before runs recorded the data set of their questions."""
    manifest = read_json(run / "manifest.json")
    return isinstance(manifest, dict) and "dataset" not in manifest
