"""Experiment trackers (SwanLab, W&B, TensorBoard): no prompts, nothing on stdout, optional."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..system.console import say, warn
from ..system.scopes import preserve_signals


def installed(trackers: Sequence[str]) -> list[str]:
    """Return the installed trackers; warn about the others."""
    found = []
    for name in trackers:
        if importlib.util.find_spec(name):
            found.append(name)
        else:
            warn(f"{name} is not installed: nothing is sent to it (pip install {name})")
    return found


@contextlib.contextmanager
def tracking(trackers: Sequence[str], run: Path) -> Iterator[None]:
    """Start SwanLab for a run and finish it afterwards; the other trackers need no start.

    SwanLab goes online only with credentials (``swanlab login`` or ``SWANLAB_API_KEY``). Without
    them, or if that fails, it writes to ``<run>/swanlog``, which ``swanlab sync`` can send later.
    W&B is offline without ``WANDB_API_KEY``.
    """
    if "wandb" in trackers and "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")
    if "swanlab" not in trackers:
        yield
        return
    import swanlab

    folder = run / "swanlog"
    mode = os.environ.get("SWANLAB_MODE", "online")
    if mode not in ("disabled", "local", "offline"):
        mode = "online" if swanlab.Settings().api_key else "offline"
    mode = _started(run, folder, mode, "offline", "disabled")
    later = f", send later: swanlab sync {shlex.quote(str(folder))}/run-*"
    say(f"SwanLab: {mode}{later if mode == 'offline' else ''}")
    state: Literal["success", "crashed", "aborted"] = "crashed"
    try:
        yield
        state = "success"
    except KeyboardInterrupt:
        state = "aborted"
        raise
    finally:
        with _hushed(mode), contextlib.suppress(Exception):  # it may be finished already
            swanlab.finish(state=state)


def isolate_errors(callbacks: list[Any]) -> list[Any]:
    """Return the callbacks, with trackers wrapped so that their errors do not stop training."""
    names = {kind: name for name, kind in INTEGRATION_TO_CALLBACK.items()}
    return [_Harmless(c, names[type(c)]) if type(c) in names else c for c in callbacks]


class _Harmless:
    """A tracker's callback that is disabled, with a warning, after its first error."""

    def __init__(self, callback: Any, name: str) -> None:
        self._callback, self._name = callback, name
        self._off = False

    def __getattr__(self, event: str) -> Callable[..., Any]:
        method = getattr(self._callback, event)

        def call(*args: Any, **more: Any) -> Any:
            if self._off:
                return None
            try:
                return method(*args, **more)
            except Exception as error:  # of any kind, from the tracker's client
                self._off = True
                warn(f"{self._name} is disabled ({_reason(error)}): training continues")
                return None

        return call


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _started(run: Path, folder: Path, mode: str, *others: str) -> str:
    """Start SwanLab in the first mode that works; the last mode sends and writes nothing."""
    import swanlab

    place = {"project": "qwen2vl-rs", "name": run.name, "log_dir": str(folder)}
    try:
        # SwanLab's handlers close its run at an interrupt, even an ignored one (a script started
        # with ``&`` ignores interrupts); later metrics would be lost
        with _hushed(mode), preserve_signals(("SIGINT", "SIGTERM", "SIGHUP")):
            swanlab.init(mode=mode, reinit=True, **place)
        return mode
    except Exception as error:  # a refused key, no network, …
        if not others:
            raise
        warn(f"SwanLab cannot go {mode} ({_reason(error)})")
    return _started(run, folder, *others)


def _hushed(mode: str) -> contextlib.AbstractContextManager[Any]:
    """Keep SwanLab off stdout; online, its URL is shown on stderr, else it is silent."""
    return contextlib.redirect_stdout(sys.stderr if mode == "online" else io.StringIO())
