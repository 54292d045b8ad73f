"""What the commands share."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, Qwen2VLRSError

FILE = click.Path(path_type=Path)


class Number(click.FloatRange):
    """A number within limits; ``nan`` and ``inf``, which Python reads as numbers, are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a usage error where it is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Commands(click.Group):
    """A group that names the nearest command, and lists commands in the order of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command; for an unknown name, a usage error that names the nearest."""
        if self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            also = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{also}")
        return super().resolve_command(ctx, args)


def option(name: str, value: Path, default: str) -> str:
    """The option to type in the next command, where the value is not its default."""
    return "" if str(value) == default else f" {name} {shlex.quote(str(value))}"


class Stopped(KeyboardInterrupt):
    """The process was told to end, as by a batch system or a closed terminal.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def interruptible(told: Callable[[], list[str]]) -> Iterator[None]:
    """Say something when a command is interrupted: by Ctrl-C, SIGTERM or SIGHUP.

    A signal that is ignored (``&`` in a script, ``nohup``) stays so. Of several processes it is
    their launcher that stops them.

    Args:
        told: gives the lines, which `main` prints; asked only then.
    """
    alone = "TORCHELASTIC_RUN_ID" not in os.environ
    stop = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    try:
        if alone:
            for number in stop:
                signal.signal(number, _stop)
        yield
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":
            with contextlib.suppress(Qwen2VLRSError):  # it cannot be read just now
                for line in told():
                    error.add_note(line)
        raise
    finally:
        if alone:
            for number in stop:
                signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


_SERVING = {"fastapi", "prometheus_client", "starlette", "uvicorn"}


class needs_training:
    """Turns a missing torch, or what serving needs, into the command that installs it.

    What libraries print while they are imported (transformers, where ``WANDB_MODE=offline``) goes
    to stderr: stdout is data.
    """

    def __enter__(self) -> None:
        self._printed = contextlib.redirect_stdout(sys.stderr)
        self._printed.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, tb: Any) -> None:
        self._printed.__exit__(kind, error, tb)
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("qwen2vl"):
            extra = "train,serve" if error.name in _SERVING else "train"
            raise ConfigError(
                f"this command needs {error.name}, which is not installed",
                hint=f"pip install 'qwen2vl-rs[{extra}]'",
            ) from error
