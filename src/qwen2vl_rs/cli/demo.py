"""``demo``: the whole workflow on a laptop, as the commands that a user types."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from ..errors import Qwen2VLRSError, RunError
from ..system.disk import make_folder
from ..system.files import is_there
from ..system.named_files import copy_file, write_text
from ..system.oserrors import FORBIDDEN, explain_os_error, folder_is_gone
from ..system.terminal import printable
from .common import FILE, device_option, needs_training
from .help import Command

MARK = ".qwen2vl-rs-demo"
SETTINGS = """\
# Fine-tuning of the bundled base model on synthetic scenes: see base/README.md.
# Some three minutes on two CPU cores.
model = "base"
output = "output/demo"

[data]
train = "data_vl.json"
test = "held_out.json"

[eval]
max_new_tokens = 12

[training]
learning_rate = 2e-3
num_train_epochs = 2
lr_scheduler_type = "cosine"
bf16 = false  # the same precision on every processor
save_steps = 200
"""
#: The commands, run in the folder of the demo. Answers are balanced within each split: balanced
#: over both, what is frequent in training would be rare in the test.
STEPS = (
    "generate --synthetic 480 --balanced --questions 40 --split 0.875,0,0.125 --output data",
    "data2csv --folder data --split train",
    "csv2json",
    "data2csv --folder data --split test --output held_out.csv",
    "csv2json --input held_out.csv --output held_out.json",
    "train demo.toml",
    "compare --run output/demo --only fixed --limit 5",
    "compare --run output/demo --only broken --limit 2",
    "report output/demo",
)


@click.command(
    cls=Command,
    examples=[
        "",
        "--folder /tmp/demo",
    ],
)
@click.option(
    "--folder",
    type=FILE,
    default=Path("demo"),
    show_default=True,
    help="Folder of the demo; an earlier demo there is replaced.",
)
@device_option
def demo(folder: Path, device: str | None) -> None:
    """Run the whole workflow on synthetic scenes and a small bundled base model.

    Generate questions about scenes, prepare them, fine-tune with LoRA, evaluate before and after
    with all baselines, and write the report. No GPU, no download; about four minutes on two CPU
    cores.
    """
    with needs_training(device):
        from ..models.base import FOLDER

    prepare(folder, FOLDER)
    environment = {**os.environ, "SWANLAB_MODE": os.environ.get("SWANLAB_MODE", "offline")}
    for step in STEPS:
        click.echo(f"\n$ qwen2vl-rs {step}")
        program = [sys.executable, "-m", "qwen2vl_rs", *shlex.split(step)]
        done = subprocess.run(program, cwd=folder, env=environment, check=False)
        if done.returncode:
            raise RunError(
                f"qwen2vl-rs {step} ended with {done.returncode}",
                hint=f"see the error above; the files are in {folder}",
            )
    click.echo(f"\nThe report: {printable(folder / 'output/demo/report.html')}")
    click.echo("Next, with the real model: qwen2vl-rs load, then the same commands on your data.")


def prepare(folder: Path, base: Path) -> None:
    """Clear the folder of an earlier demo, and copy base model and settings into it.

    Args:
        folder: of the demo.
        base: the bundled base model.

    Raises:
        RunError: the folder holds something else, or cannot be written to.
    """
    mark = folder / MARK
    try:
        if is_there(mark):
            shutil.rmtree(folder)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"{folder} holds other files than a demo", hint="choose another: --folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
        make_folder(folder / "base")
        for path in sorted(base.iterdir()):
            if path.is_file() and path.suffix != ".py":
                copy_file(path, folder / "base" / path.name)
        write_text(folder / "demo.toml", SETTINGS)
    except FileExistsError as error:
        hint = "it is a broken link: remove it, or choose another: --folder"
        raise RunError(f"{folder} is in the way", hint=hint) from error
    except OSError as error:
        raise _unprepared(folder, error) from error


def _unprepared(folder: Path, error: OSError) -> Qwen2VLRSError:
    """The error for a folder that cannot be cleared or written."""
    if error.errno in FORBIDDEN:
        hint = "choose a folder you may write to: --folder"
        return RunError(f"cannot write to {folder}: {error.strerror}", hint=hint)
    if folder_is_gone() and not folder.is_absolute():
        return RunError(f"{folder} cannot be created: the current folder no longer exists")
    return explain_os_error(error)
