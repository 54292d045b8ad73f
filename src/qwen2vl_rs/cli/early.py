"""Wrong names, found before the seconds that torch and transformers take to be imported."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError, RunError
from ..files import is_there
from ..run import checkpoints, holds_run

if TYPE_CHECKING:
    from ..config import Config


def require_model(folder: Path, base: Path | None = None) -> None:
    """Make sure that a model's folder is there, and its base's where one is named.

    Raises:
        ModelError: it is not.
    """
    from ..data.places import near

    for path, what in ((folder, "model"), (base, "base")):
        if path is None or path.is_dir():
            continue
        hint = "fetch one: qwen2vl-rs load"
        if alike := near(path):
            hint = f"check the name{alike}"
        elif path.parts[:1] == ("output",):
            hint = f"train first: qwen2vl-rs train --output {shlex.quote(str(path))}"
        elif what == "base":
            hint = "say where the base is: --base FOLDER"
        elif len(path.parts) == 2 and not path.is_absolute():
            hint = f"fetch it: qwen2vl-rs load {shlex.quote(str(path))}"
        problem = "it is a file, not a folder" if is_there(path) else "it does not exist"
        raise ModelError(f"{path} is no model: {problem}", hint=hint)


def require_run(run: Path) -> None:
    """Make sure that a run's folder is there.

    Raises:
        RunError: it is not.
    """
    from ..data.places import near

    if not run.is_dir():
        hint = near(run).removeprefix(", ") or "train first: qwen2vl-rs train"
        raise RunError(f"no run folder {run}", hint=hint)


def require_questions(path: Path | None, images: str | Path | None = None) -> None:
    """Make sure that a file begins with a question about an image that is there.

    Args:
        path: the file; None for none.
        images: folder to which the images were moved.

    Raises:
        DataError: the file is missing or of no known kind, or the first image is not there.
    """
    from ..data.places import moved, require_folder, require_image
    from ..data.sources import read_samples

    if images is not None:
        require_folder(Path(images))
    if path is not None:
        for sample in moved(itertools.islice(read_samples(path), 1), images):
            require_image(sample.image)


def require_training(config: Config, resume: bool) -> None:
    """Make sure that what a training reads is there, and its output free.

    Raises:
        Qwen2VLRSError: it is not.
    """
    run, data = Path(config.output), config.data
    if resume:
        if not is_there(run / "config.toml"):
            raise RunError(f"nothing to resume in {run}", hint="start without --resume")
        return
    if holds_run(run) and checkpoints(run):
        raise RunError(
            f"{run} already holds a run",
            hint="go on with it: --resume; or choose another folder: --output",
        )
    ready = [Path(name) for name in (data.train, data.test) if name is not None]
    for path in ready or [Path(data.conversations)]:
        require_questions(path, data.images)
    require_model(Path(config.model))
