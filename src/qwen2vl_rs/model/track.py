"""Experiment trackers: never a prompt, never a word on stdout, never needed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
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

    SwanLab goes online only with credentials (``swanlab login`` or ``SWANLAB_API_KEY``);
    otherwise, or where that fails, it writes to ``<run>/swanlog``, which ``swanlab sync``
    can send later. W&B is offline without ``WANDB_API_KEY``.
    """
    if "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")
    if "swanlab" not in trackers:
        yield
        return
    import swanlab

    folder = run / "swanlog"
    mode = os.environ.get("SWANLAB_MODE", "online")
    if mode not in ("disabled", "local", "offline"):
        mode = "online" if swanlab.Settings().api_key else "offline"
    try:
        _start(mode, run, folder)
    except Exception as error:  # a refused key, no network: whatever its client raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warn(f"SwanLab cannot go online ({reason}): it records offline")
        mode = "offline"
        _start(mode, run, folder)
    later = f", send later: swanlab sync {shlex.quote(str(folder))}/run-*"
    say(f"SwanLab: {mode}{later if mode == 'offline' else ''}")
    try:
        yield
    finally:
        with _hushed(mode):
            swanlab.finish()


def _start(mode: str, run: Path, folder: Path) -> None:
    import swanlab

    with _hushed(mode):
        swanlab.init(
            mode=mode, project="qwen2vl-rs", name=run.name, log_dir=str(folder), reinit=True
        )


@contextlib.contextmanager
def _hushed(mode: str) -> Iterator[None]:
    """Keep SwanLab off stdout; online its address is worth reading, else it is silent."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(sys.stderr if mode == "online" else nowhere),
    ):
        yield
