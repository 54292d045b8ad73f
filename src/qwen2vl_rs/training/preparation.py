"""Checks before training: the run's folder, its settings, its checkpoints, questions and images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checking.check import quick_check
from ..config import Config
from ..config_file import load_config
from ..datasets.base import Dataset
from ..datasets.image_paths import find_in_folder, relocate_images, require_image
from ..datasets.parts import TEST, TRAIN, VAL, make_parts
from ..datasets.reading import read_samples
from ..datasets.stored import store
from ..datasets.tables import write_conversations
from ..errors import DataError, RunError
from ..models.fingerprint import same_base
from ..models.images import image_changed_error
from ..raster import image_digest, image_size
from ..run import TEST_FILE, TRAIN_FILE, VAL_FILE, Run, read_metrics, step_of
from ..system.console import Progress, counted, say, warn
from ..system.files import (
    atomic_write,
    is_there,
    matching_folders,
    read_json,
    set_aside,
    verify_checksums,
    write_json,
)
from ..system.named_files import open_named

IMAGES = "images.json"
_FILES = {TRAIN: TRAIN_FILE, VAL: VAL_FILE, TEST: TEST_FILE}
# settings that may change when a run is resumed
_FREE = {
    *("attention", "gradient_checkpointing", "max_tokens_per_pack", "report_to"),
    *("save_total_limit", "vision_cache_gb"),
}


def extensions(manifest: dict[str, Any], config: Config) -> list[str]:
    """Describe how a run is to be trained for longer than its manifest says; usually empty."""
    before, now = manifest.get("settings") or {}, decisive_settings(config)
    return [] if _differences(before, now, longer=False) else _differences(before, now)


def check_run(run: Run, config: Config, resume: bool) -> None:
    """Refuse to mix two runs in one folder.

    A run may be trained for longer: more epochs, steps or patience.

    Raises:
        RunError: the folder holds a run and ``resume`` is false; or it holds no run, or one with
            other settings or another base model.
    """
    started = [*run.checkpoints(), *run.damaged_checkpoints()]
    if not resume:
        if started or is_there(run.folder / "train_results.json"):
            raise RunError(
                f"{run} already holds a run",
                hint="continue it: --resume; or choose another folder: --output",
            )
        return
    if not is_there(run.folder / "config.toml"):
        raise RunError(f"nothing to resume in {run}", hint="start without --resume")
    before = load_config(run.folder / "config.toml")
    known = run.manifest()
    # the recorded settings of the start: config.toml may have been edited since
    own = _with_defaults(known.get("settings")) or decisive_settings(before)
    others = _differences(own, decisive_settings(config), longer=False)
    hint = f"resume with its own: {run.resume_command()}"
    if edited := _differences(own, decisive_settings(before), longer=False):
        hint = (
            f"restore the settings of the start in {run}/config.toml ({'; '.join(edited)}), or "
            "train in another folder: --output"
        )
    base = known.get("base", {})
    if (digest := base.get("fingerprint")) and not same_base(Path(config.model), digest):
        first = Path(base.get("folder") or before.model)
        if first.exists() and first.resolve() != Path(config.model).resolve():
            others.append(f"the base model is not the one of the start ({first})")
        else:
            others.append(f"the base model in {config.model} has changed since")
            hint = (
                "restore the base model, or name a copy of it: --model FOLDER; or train in another "
                "folder: --output"
            )
    if others:
        raise RunError(
            f"{run} was started with other settings: {'; '.join(others)}",
            hint=hint,
        )


def record_settings(run: Run, config: Config, resume: bool) -> None:
    """Record the settings that determine the result, before any output.

    The complete manifest is written when training begins. `check_run` needs these values from the
    start, and independent of edits to ``config.toml``.
    """
    if not (resume and run.manifest()):
        write_json(run.folder / "manifest.json", {"settings": decisive_settings(config)})


def decisive_settings(config: Config) -> dict[str, Any]:
    """Return the settings that determine the result of training."""
    tree = config.model_dump(mode="json", include={"data", "view", "lora", "training"})
    if config.data.has_validation:  # its scores choose the checkpoint
        tree["eval"] = config.eval.model_dump(include={"answers", "max_new_tokens"})
    else:
        del tree["data"]["dataset"]
    del tree["data"]["images"]  # the images' content is compared instead
    tree["training"] = {k: v for k, v in tree["training"].items() if k not in _FREE}
    return tree


def _with_defaults(known: dict[str, Any] | None) -> dict[str, Any]:
    """Return recorded settings with the defaults of those that did not exist at the time."""
    usual, known = decisive_settings(Config()) if known else {}, known or {}
    return known | {name: {**values, **known.get(name, {})} for name, values in usual.items()}


def _differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "", *, longer: bool = True
) -> list[str]:
    """Describe the settings that differ; with ``longer``, also those that only train for longer."""
    found = []
    for key, value in old.items():
        if key in _FREE:  # older versions recorded some
            continue
        if isinstance(value, dict):  # a missing section depends on settings that differ, too
            found += _differences(value, new.get(key) or value, f"{prefix}{key}.", longer=longer)
        elif value != new.get(key) and (longer or not _is_longer(key, value, new.get(key))):
            found.append(f"{prefix}{key} was {_shown(value)}, is {_shown(new.get(key))}")
    return found


def _shown(value: Any) -> str:
    """Return the value of a setting as users write it."""
    return (
        "not set"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _is_longer(key: str, old: Any, new: Any) -> bool:
    """Whether a setting has grown that only decides when training ends."""
    if key == "early_stopping_patience":
        return old is not None and (new is None or new > old)
    return key in ("num_train_epochs", "max_steps") and None not in (old, new) and new > old


def choose_checkpoint(run: Run, save_steps: int) -> None:
    """Set damaged checkpoints aside, so that only valid ones are resumed from.

    Args:
        run: the run.
        save_steps: steps between checkpoints.

    Raises:
        RunError: a checkpoint is not readable, or all are damaged or gone: training does not
            start from the beginning without being asked to.
    """
    for _, hidden in matching_folders(run.folder, r"\.checkpoint-\d+\.tmp"):  # of a killed process
        shutil.rmtree(hidden, ignore_errors=True)
    for checkpoint in reversed(run.checkpoints()):
        if (problem := verify_checksums(checkpoint)) is None:
            if (last := run.trained_steps()) > step_of(checkpoint):
                warn(
                    f"the last checkpoint, checkpoint-{last}, is gone or damaged: its steps are "
                    "repeated"
                )
            say(f"resuming from {checkpoint}")
            # training is not finished until its steps are
            (run.folder / "train_results.json").unlink(missing_ok=True)
            return
        aside = set_aside(checkpoint)
        warn(f"{checkpoint} is not used, and set aside as {aside.name}: {problem}")
    hint = (
        "restore a copy of one under its name (checkpoint-STEP) and resume; or train in another "
        "folder: --output"
    )
    if aside_now := run.damaged_checkpoints():
        names = ", ".join(path.name for path in aside_now)
        raise RunError(f"no checkpoint in {run} is valid ({names})", hint=hint)
    last = run.trained_steps()
    done = max((line["step"] for line in read_metrics(run.folder / "metrics.jsonl")), default=last)
    if done > save_steps:
        raise RunError(f"{run} had reached step {done:,}, but its checkpoints are gone", hint=hint)
    say("no checkpoint yet: starting from the beginning")


def prepare_questions(config: Config, run: Run, resume: bool, copies: Path | None = Path()) -> None:
    """Make sure that the run has its own copies of its questions.

    Args:
        config: its settings.
        run: the run.
        resume: whether it is resumed.
        copies: folder of ``data_vl_train.json`` and ``data_vl_test.json``; None for none.

    Raises:
        NoQuestions: it is resumed, and they are not those of the start.
        DataError: see `make_split`.
    """
    if not (resume and _has_questions(run, part_names(config))):
        make_split(config, run, copies)


def part_names(config: Config) -> list[str]:
    """Return the files of the parts: training, test and, if there is one, validation."""
    return [TRAIN_FILE, TEST_FILE, *([VAL_FILE] if config.data.has_validation else [])]


def _has_questions(run: Run, names: Sequence[str]) -> bool:
    """Return whether a run has its questions yet.

    A run of a version that kept no copies gets them now.
    """
    if not run.manifest().get("data") and not all(is_there(run.questions_copy(n)) for n in names):
        return False
    for name in names:
        path = run.questions_file(name)
        if path != run.questions_copy(name):
            _copy(path, run.questions_copy(name))
    return True


def _copy(source: Path, path: Path) -> None:
    """Copy a file atomically."""
    with open_named(source, "rb") as read, atomic_write(path, "wb") as file:
        shutil.copyfileobj(read, file, 1 << 20)


def make_split(config: Config, run: Run, copies: Path | None = Path()) -> None:
    """Read the questions, split them, and write them to the run, and copies to a folder.

    A copy never replaces a file that the questions are read from.

    Image paths become absolute, so that the run can be used from any folder.

    Raises:
        DataError: a file is missing or malformed, or too small to split.
    """
    data = config.data
    given = [Path(path) for path in (data.train, data.test) if path]
    whole = [] if given else [Path(data.conversations)]
    inputs = [*given, *whole, *([Path(data.val)] if data.val else [])]
    names = part_names(config)
    kept = [name for name in names if copies and _is_one_of(copies / name, inputs)]
    if copies and any(_is_one_of(copies / name, whole) for name in names):
        raise DataError(
            f"{whole[0]} would be replaced by a part of itself",
            hint=f"rename it; a split that exists is used by: --train {TRAIN_FILE} "
            f"--test {TEST_FILE}",
        )
    parts, how = _split(config)
    parts = {name: relocate_images(part, data.images) for name, part in parts.items()}
    for fault in quick_check(parts[TRAIN_FILE], parts[TEST_FILE], parts.get(VAL_FILE)):
        warn(fault.text, fault.hint)
    for name, part in parts.items():
        own = run.questions_copy(name)
        placed = part.changed("image", os.path.abspath)
        write_conversations(own, placed)
        if copies is not None and name not in kept:
            _copy(own, copies / name)
        store(own, placed)
        images = counted(len(part.distinct("image")), "image")
        say(f"{name}: {counted(len(part), 'question')} about {images}")
    say(f"split {how}")


def _split(config: Config) -> tuple[dict[str, Dataset], str]:
    """Return the parts by file name, and how they were split; warn about faults in them."""
    data, seed = config.data, config.training.seed
    files = {"train": data.train, "test": data.test, "val": data.val}
    files |= {} if data.train else {"whole": data.conversations}
    given: dict[str, Dataset] = {
        name: read_samples(Path(path), dataset=data.dataset) for name, path in files.items() if path
    }
    parts = make_parts(data, seed, **given)
    for name, part in parts.items():
        if not part:
            hint = f"check the file given as {name} questions"
            raise DataError(f"no {name} questions", hint=hint)
    how = "as given" if data.train else f"at random by {data.split_by}, seed {seed}"
    return {_FILES[name]: part for name, part in parts.items()}, how


def _is_one_of(path: Path, others: Sequence[Path]) -> bool:
    return is_there(path) and any(is_there(one) and path.samefile(one) for one in others)


def check_images(
    images: Sequence[str], known: Path, resume: bool, folder: str | None = None
) -> None:
    """Check every image before the long work starts, and record or compare its checksum.

    Raises:
        ImageError: one is not usable, or has changed since the run was started.
    """
    digests = {}
    with Progress("checking images", len(images), "images") as progress:
        for image in images:
            require_image(image)
            image_size(Path(image))
            digests[image] = image_digest(image)
            progress.advance()
    before = (read_json(known) if resume else None) or {}
    if folder is not None:
        before = {find_in_folder(Path(folder), image): digest for image, digest in before.items()}
    other = [image for image in images if before.get(image, digests[image]) != digests[image]]
    if other:
        raise image_changed_error(other)
    write_json(known, digests)
