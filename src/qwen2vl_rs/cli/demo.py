"""``demo``: the whole story on a laptop, the commands a user types one after another."""

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
# Fine-tuning of the embedded base on drawn scenes: see its model card in base/README.md.
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
gradient_checkpointing = false
save_steps = 200
"""
#: What is run, in the folder of the demo. Answers are levelled within each split: levelled over
#: both, what a table has too much of in training it would have too little of in the test.
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
    help="Where everything is put; the last demo there is replaced.",
)
@device_option
def demo(folder: Path, device: str | None) -> None:
    """Run the main job on drawn scenes and a small embedded base.

    Generates questions about scenes, prepares them, fine-tunes with LoRA, evaluates before and
    after with all controls, and writes the report. No GPU, no download; some four minutes on two
    CPU cores.
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
                hint=f"it said why above; the files so far are in {folder}",
            )
    click.echo(f"\nThe report: {printable(folder / 'output/demo/report.html')}")
    click.echo("Now with the real model: qwen2vl-rs load, then the same commands on your own data.")


def prepare(folder: Path, base: Path) -> None:
    """Empty the folder of the last demo, and put base and settings there.

    Args:
        folder: of the demo.
        base: the embedded base.

    Raises:
        RunError: the folder holds something else, or cannot be written to.
    """
    mark = folder / MARK
    try:
        if is_there(mark):
            shutil.rmtree(folder)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"{folder} holds something that is no demo", hint="choose another: --folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
        make_folder(folder / "base")
        for path in sorted(base.iterdir()):
            if path.is_file() and path.suffix != ".py":
                copy_file(path, folder / "base" / path.name)
        write_text(folder / "demo.toml", SETTINGS)
    except FileExistsError as error:
        hint = "a link that leads nowhere: remove it, or choose another: --folder"
        raise RunError(f"{folder} is in the way", hint=hint) from error
    except OSError as error:
        raise _unprepared(folder, error) from error


def _unprepared(folder: Path, error: OSError) -> Qwen2VLRSError:
    """The error for a folder that cannot be emptied or filled."""
    if error.errno in FORBIDDEN:
        hint = "choose a folder you may write to: --folder"
        return RunError(f"cannot write to {folder}: {error.strerror}", hint=hint)
    if folder_is_gone() and not folder.is_absolute():
        return RunError(f"there is no place for {folder}")
    return explain_os_error(error)
