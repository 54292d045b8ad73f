"""Checks of names and files before torch and transformers are imported, which takes seconds."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError, RunError
from ..run import Run, run_names, runs_below
from ..system.files import is_there
from ..system.oserrors import is_folder

if TYPE_CHECKING:
    from ..config import Config

_SMALL = "; without a network, qwen2vl-rs demo writes a small one: demo/base"
_FETCH = f"download one: qwen2vl-rs load{_SMALL}"
MODEL_FILES = ("config.json", "config.toml", "adapter_config.json", "qwen2vl_rs.json")


def require_model(folder: Path, base: Path | None = None) -> None:
    """Check that the folder of a model exists, and that of its base model.

    Raises:
        ModelError: it is not.
    """
    from ..datasets.image_paths import suggestion

    for path, what in ((folder, "model"), (base, "base")):
        if path is None:
            continue
        if is_folder(path):
            _refuse_above(path)
            continue
        hint = _FETCH
        if alike := suggestion(path):
            hint = f"check the name{alike}"
        elif path.parts[:1] == ("output",):
            hint = f"train first: qwen2vl-rs train --output {shlex.quote(str(path))}"
        elif what == "base":
            hint = "name the folder of the base model: --base FOLDER"
        elif path.name == "base":  # no hub has one of this name
            hint = "qwen2vl-rs demo writes demo/base; give its path relative to the current folder"
        elif len(path.parts) == 2 and not path.is_absolute() and ".." not in path.parts:
            what_it_is = "download it" if path.parts[0] == "Qwen" else "if it is a name on a hub"
            hint = f"{what_it_is}: qwen2vl-rs load {shlex.quote(str(path))}{_SMALL}"
        problem = "it is a file, not a folder" if is_there(path) else "it does not exist"
        raise ModelError(f"{path} is not a model: {problem}", hint=hint)


def _refuse_above(folder: Path) -> None:
    """Refuse a folder that only holds other folders with models.

    Raises:
        ModelError: naming them.
    """
    if any(is_there(folder / name) for name in MODEL_FILES):
        return
    bases = sorted(file.parent for file in folder.glob("*/config.json"))
    bases += sorted(file.parent for file in folder.glob("*/*/config.json"))
    runs = runs_below(folder)
    if found := [*runs, *bases]:
        what = "runs in it" if runs and not bases else "models in it"
        raise ModelError(
            f"{folder} is not a model, but holds some", hint=f"{what}: {run_names(found)}"
        )


def require_run(run: Path) -> None:
    """Check that the folder of a run exists.

    Raises:
        RunError: it is not.
    """
    from ..datasets.image_paths import suggestion

    if not is_folder(run):
        hint = suggestion(run).removeprefix(", ") or "train first: qwen2vl-rs train"
        raise RunError(f"no run folder {run}", hint=hint)
    if found := runs_below(run):
        raise RunError(f"{run} is not the folder of a run", hint=f"runs in it: {run_names(found)}")


def require_questions(
    path: Path | None, images: str | Path | None = None, dataset: str | None = None
) -> None:
    """Check that the first question of a file can be read and its image exists.

    Args:
        path: the file; None for none.
        images: folder to which the images were moved.
        dataset: whose file it is, where it does not tell itself.

    Raises:
        DataError: the file is missing or of no known kind, or the first image is not there.
    """
    from ..datasets.image_paths import relocate_images, require_folder, require_image
    from ..datasets.reading import first_sample

    if images is not None:
        require_folder(Path(images))
    if path is not None:
        for sample in relocate_images(first_sample(path, dataset), images):
            require_image(sample.image)


def require_free(run: Path, resume: bool) -> None:
    """Check that a folder holds no run, or, to resume, that it holds one.

    Raises:
        RunError: otherwise.
    """
    if resume and not is_there(run / "config.toml"):
        raise RunError(f"nothing to resume in {run}", hint="start without --resume")
    if not resume and Run(run).holds_run() and Run(run).checkpoints():
        raise RunError(
            f"{run} already holds a run",
            hint="resume it: --resume; or choose another folder: --output",
        )


def require_training(config: Config, resume: bool) -> None:
    """Check that the inputs of a training exist and its output folder is free.

    Raises:
        Qwen2VLRSError: it is not.
    """
    data = config.data
    require_free(Path(config.output), resume)
    if resume:
        return
    ready = [Path(name) for name in (data.train, data.test) if name is not None]
    ready = ready or [Path(data.conversations)]
    for path in [*ready, *([Path(data.val)] if data.val else [])]:
        require_questions(path, data.images, data.dataset)
    require_model(Path(config.model))
