"""Experiment trackers: never a prompt, never a word on stdout, never needed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..console import say, warn

_PACKAGES = {"swanlab": "swanlab", "tensorboard": "tensorboard", "wandb": "wandb"}


def usable(trackers: Sequence[str]) -> list[str]:
    """Those of the trackers that are installed; the others are named in a warning."""
    found = []
    for name in trackers:
        if importlib.util.find_spec(_PACKAGES.get(name, name)):
            found.append(name)
        else:
            warn(f"{name} is not installed: nothing is sent to it (pip install {name})")
    return found


@contextlib.contextmanager
def tracking(trackers: Sequence[str], run: Path) -> Iterator[None]:
    """Start SwanLab for a run and finish it afterwards; the others start by themselves.

    SwanLab goes online only with credentials (``swanlab login`` or ``SWANLAB_API_KEY``) or when
    ``SWANLAB_MODE`` says so; otherwise it writes to ``<run>/swanlog``, which ``swanlab sync``
    can send later. W&B likewise is offline without a key.
    """
    if "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")
    if "swanlab" not in trackers:
        yield
        return
    import swanlab

    mode = os.environ.get("SWANLAB_MODE") or ("online" if swanlab.Settings().api_key else "offline")
    folder = run / "swanlog"
    with _hushed(mode):
        swanlab.init(mode=mode, project="qwen2vl-rs", name=run.name, log_dir=str(folder))
    later = f", send later with: swanlab sync {folder}/run-*" if mode == "offline" else ""
    say(f"SwanLab: {mode}{later}")
    try:
        yield
    finally:
        with _hushed(mode):
            swanlab.finish()


@contextlib.contextmanager
def _hushed(mode: str) -> Iterator[None]:
    """Keep SwanLab off stdout; online its address is worth reading, else it is silent."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(sys.stderr if mode == "online" else nowhere),
    ):
        yield
