"""Shared parameter types and helpers of the commands."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import Qwen2VLRSError, RunError
from ..known_datasets import all_datasets, known_name
from ..system.jsonl import to_json
from ..system.oserrors import Unwritable, folder_is_gone
from ..system.scopes import preserve_signals
from ..system.terminal import printable_json

FILE = click.Path(path_type=Path)


class Number(click.FloatRange):
    """A finite number within limits: ``nan`` and ``inf`` are refused."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a usage error where it is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class DatasetParam(click.ParamType[str]):
    """The name of a data set; the names are looked up lazily."""

    name = "dataset"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, from any spelling."""
        try:
            return known_name(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The names."""
        return f"[{'|'.join(all_datasets())}]"


def option(name: str, value: Path, default: str) -> str:
    """The option for the next command; empty where the value is the default."""
    return "" if str(value) == default else f" {name} {shlex.quote(str(value))}"


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON to print, without terminal control characters."""
    return printable_json(to_json(value, indent))


class Stopped(KeyboardInterrupt):
    """The process was stopped by a signal, as by a batch system or a closed terminal.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def interruptible(told: Callable[[], list[str]]) -> Iterator[None]:
    """Explain an interruption by Ctrl-C, SIGTERM or SIGHUP.

    Signals that are ignored (``&`` in a script, ``nohup``) stay ignored. With several processes
    the launcher stops them.

    Args:
        told: returns the lines that `main` prints; called only on an interruption.
    """
    names = [] if "TORCHELASTIC_RUN_ID" in os.environ else ["SIGTERM", "SIGHUP"]
    ends = {name: getattr(signal, name) for name in names if hasattr(signal, name)}  # Windows
    free = [name for name, n in ends.items() if signal.getsignal(n) is signal.SIG_DFL]
    try:
        with preserve_signals(free, _stop):
            yield
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":
            with contextlib.suppress(Qwen2VLRSError):  # it cannot be read just now
                for line in told():
                    error.add_note(line)
        raise
    except Unwritable as error:
        if error.mendable:
            error.hint = f"{error.hint}, then {_resuming(told)}"
        raise


def _resuming(told: Callable[[], list[str]]) -> str:
    """How a command resumes, from the lines of `interruptible`."""
    lines: list[str] = []
    with contextlib.suppress(Qwen2VLRSError, OSError):  # the disk may fail here as well
        lines = told()
    again = "run the same command again"
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    return hints[0].replace("the same command", f"{again}: it") if hints else again


def same_command(kept: str) -> Callable[[], list[str]]:
    """The lines for a command that resumes when it is run again.

    Args:
        kept: what is already done, e.g. ``all answers so far``.
    """
    return lambda: [f"kept: {kept}", "hint: the same command resumes"]


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


class _Device(click.ParamType[str]):
    """The name of a device, as torch spells it."""

    name = "DEVICE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).strip().lower()
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
            more = " (Apple's Metal is not used)" if name.startswith("mps") else ""
            near = f"; did you mean cuda:{name}?" if name.isdecimal() else ""
            self.fail(f"{value!r} is none of cpu, cuda, cuda:0, cuda:1, …{more}{near}", param, ctx)
        return name


device_option = click.option(
    "--device",
    type=_Device(),
    help="cpu, or a GPU by its number: cuda:1.  [default: the first GPU, else the CPU]",
)


whose_option = click.option(
    "--dataset",
    type=DatasetParam(),
    metavar="NAME",
    help="Data set of the questions, e.g. VRSBench.  [default: as the files say]",
)


checkpoint_option = click.option(
    "--checkpoint",
    metavar="NAME",
    help="best (by validation), last, or the name of a checkpoint.  [default: best, else last]",
)


# settings with an option of their own
_SETTINGS = {
    "model": "model",
    "data": "data.conversations",
    "train_file": "data.train",
    "test_file": "data.test",
    "val": "data.val",
    "val_fraction": "data.val_fraction",
    "split_by": "data.split_by",
    "output": "output",
    "max_eval": "eval.max_eval",
    "images": "data.images",
    "max_train": "data.max_train",
    "max_train_images": "data.max_train_images",
    "adapter": "lora.adapter",
    "dataset": "data.dataset",
}
_INPUTS = (
    click.option("--model", help="Base model.  [default: Qwen/Qwen2-VL-2B-Instruct]"),
    click.option("--data", help="Questions to split.  [default: data_vl.json]"),
    click.option("--train", "train_file", help="Training questions, instead of --data."),
    click.option("--test", "test_file", help="Test questions, instead of --data."),
    click.option("--val", help="Validation questions, answered at each checkpoint."),
    click.option(
        "--val-fraction",
        type=Number(0, 1, max_open=True),
        help="Or: share of the training images to hold out for validation.  [default: 0]",
    ),
    whose_option,
    click.option("--images", help="Folder to which the images were moved."),
    click.option("-o", "--output", help="Folder of the run.  [default: output/Qwen2-VL-2B]"),
    click.option(
        "--adapter", help="Run, checkpoint or PEFT folder of an adapter to continue from."
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="E.g. lora.r=16."),
)


def training_inputs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a training that `train` and `doctor` share."""
    for one in reversed(_INPUTS):
        command = one(command)
    return command


def given_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given by options of their own, by key."""
    return {key: options[name] for name, key in _SETTINGS.items() if options.get(name) is not None}


@contextlib.contextmanager
def needs_training(device: str | None = None) -> Iterator[None]:
    """Import torch and its libraries; what they print goes to stderr, because stdout is data.

    (transformers prints a line where ``WANDB_MODE=offline``.)

    Args:
        device: see `hardware.devices.use_device`.
    """
    if folder_is_gone():  # some libraries would end the process
        raise RunError("the current folder no longer exists")
    with contextlib.redirect_stdout(sys.stderr):
        if device:
            from ..hardware.devices import use_device

            use_device(device)
        yield
