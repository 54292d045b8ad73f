"""Wrong names, found before the seconds that torch and transformers take to be imported."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError, RunError
from ..run import Run, listed, runs_below
from ..system.files import is_there
from ..system.oserrors import is_folder

if TYPE_CHECKING:
    from ..config import Config

_SMALL = "; without a network, qwen2vl-rs demo writes a small one: demo/base"
_FETCH = f"fetch one: qwen2vl-rs load{_SMALL}"
_OWN = ("config.json", "config.toml", "adapter_config.json", "qwen2vl_rs.json")


def require_model(folder: Path, base: Path | None = None) -> None:
    """Make sure that a model's folder is there, and its base's where one is named.

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
            hint = "say where the base is: --base FOLDER"
        elif path.name == "base":  # no hub has one of this name
            hint = "qwen2vl-rs demo writes demo/base; name it as it lies from the current folder"
        elif len(path.parts) == 2 and not path.is_absolute() and ".." not in path.parts:
            what_it_is = "fetch it" if path.parts[0] == "Qwen" else "if that is its name on a hub"
            hint = f"{what_it_is}: qwen2vl-rs load {shlex.quote(str(path))}{_SMALL}"
        problem = "it is a file, not a folder" if is_there(path) else "it does not exist"
        raise ModelError(f"{path} is no model: {problem}", hint=hint)


def _refuse_above(folder: Path) -> None:
    """Refuse a folder that only holds models in folders of their own.

    Raises:
        ModelError: naming them.
    """
    if any(is_there(folder / name) for name in _OWN):
        return
    bases = sorted(file.parent for file in folder.glob("*/config.json"))
    bases += sorted(file.parent for file in folder.glob("*/*/config.json"))
    runs = runs_below(folder)
    if found := [*runs, *bases]:
        what = "runs in it" if runs and not bases else "models in it"
        raise ModelError(
            f"{folder} is not a model, but a folder above", hint=f"{what}: {listed(found)}"
        )


def require_run(run: Path) -> None:
    """Make sure that a run's folder is there.

    Raises:
        RunError: it is not.
    """
    from ..datasets.image_paths import suggestion

    if not is_folder(run):
        hint = suggestion(run).removeprefix(", ") or "train first: qwen2vl-rs train"
        raise RunError(f"no run folder {run}", hint=hint)
    if found := runs_below(run):
        raise RunError(f"{run} is not the folder of a run", hint=f"runs in it: {listed(found)}")


def require_questions(
    path: Path | None, images: str | Path | None = None, dataset: str | None = None
) -> None:
    """Make sure that a file begins with a question about an image that is there.

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
    if Run(run).holds_run() and Run(run).checkpoints():
        raise RunError(
            f"{run} already holds a run",
            hint="go on with it: --resume; or choose another folder: --output",
        )
    ready = [Path(name) for name in (data.train, data.test) if name is not None]
    for path in ready or [Path(data.conversations)]:
        require_questions(path, data.images, data.dataset)
    require_model(Path(config.model))
