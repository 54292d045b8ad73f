"""What comes before the first step of training: guards of the run's folder, and its questions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Config, load_config
from ..datasets.base import Dataset
from ..datasets.image_paths import find_in_folder, relocate_images, require_image
from ..datasets.reading import read_samples
from ..datasets.split import count_shared_images, limit_by_image, split_by_image, split_by_question
from ..datasets.stored import store
from ..datasets.tables import write_conversations
from ..errors import DataError, RunError
from ..models.fingerprint import same_base
from ..models.images import changed
from ..raster import image_digest, image_size
from ..run import TEST_FILE, TRAIN_FILE, Run, read_metrics
from ..system.console import Progress, counted, say, warn
from ..system.files import (
    atomic_write,
    folders,
    is_there,
    read_json,
    set_aside,
    verify_checksums,
    write_json,
)
from ..system.named import open_named

IMAGES = "images.json"
# settings that may be others when a run is resumed
_FREE = {"attention", "max_tokens_per_pack", "report_to", "save_total_limit", "vision_cache_gb"}


def check_run(run: Run, config: Config, resume: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        RunError: the folder holds a run and is not to be resumed, or holds none, or one with
            other settings or another base.
    """
    started = [*run.checkpoints(), *run.damaged_checkpoints()]
    if not resume:
        if started or is_there(run.folder / "train_results.json"):
            raise RunError(
                f"{run} already holds a run",
                hint="go on with it: --resume; or choose another folder: --output",
            )
        return
    if not is_there(run.folder / "config.toml"):
        raise RunError(f"nothing to resume in {run}", hint="start without --resume")
    before = load_config(run.folder / "config.toml")
    known = run.manifest()
    # those it was started with: its config.toml may have been edited since
    own = known.get("settings") or what_matters(before)
    others = _differences(own, what_matters(config))
    hint = f"resume with its own: {run.resume_command()}"
    if edited := _differences(own, what_matters(before)):
        hint = (
            f"put back in {run}/config.toml what it was started with ({'; '.join(edited)}), or "
            "train anew in another folder: --output"
        )
    base = known.get("base", {})
    if (digest := base.get("fingerprint")) and not same_base(Path(config.model), digest):
        first = Path(base.get("folder") or before.model)
        if first.exists() and first.resolve() != Path(config.model).resolve():
            others.append(f"the base is not the one it was started with ({first})")
        else:
            others.append(f"the base in {config.model} is no longer what it was then")
            hint = (
                "put the base back as it was, or name a copy of it: --model FOLDER; or train anew "
                "in another folder: --output"
            )
    if others:
        raise RunError(
            f"{run} was started with other settings: {'; '.join(others)}",
            hint=hint,
        )


def record_settings(run: Run, config: Config, resume: bool) -> None:
    """Write down the settings that decide the result, before anything is made by them.

    The manifest is written whole when training begins; what `check_run` compares is there from
    the start, and no edit of ``config.toml`` changes it.
    """
    if not (resume and run.manifest()):
        write_json(run.folder / "manifest.json", {"settings": what_matters(config)})


def what_matters(config: Config) -> dict[str, Any]:
    """The settings that decide the result of training."""
    tree = config.model_dump(mode="json", include={"data", "view", "lora", "training"})
    del tree["data"]["dataset"]  # of scoring
    del tree["data"]["images"]  # their content is compared
    tree["training"] = {k: v for k, v in tree["training"].items() if k not in _FREE}
    return tree


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in old.items():
        if isinstance(value, dict):
            found += _differences(value, new.get(key) or {}, f"{prefix}{key}.")
        elif value != new.get(key):
            found.append(f"{prefix}{key} was {value}, is {new.get(key)}")
    return found


def choose_checkpoint(run: Run, save_steps: int) -> None:
    """Leave only sound checkpoints to resume from; what is damaged is set aside.

    Args:
        run: the folder.
        save_steps: how often a checkpoint is written.

    Raises:
        RunError: a checkpoint cannot be read, or all that stood there are damaged or gone:
            training does not start from the beginning by itself then.
    """
    for _, hidden in folders(run.folder, r"\.checkpoint-\d+\.tmp"):  # of a process that was killed
        shutil.rmtree(hidden, ignore_errors=True)
    for checkpoint in reversed(run.checkpoints()):
        if (problem := verify_checksums(checkpoint)) is None:
            if last := run.trained_steps():
                warn(
                    f"the last checkpoint, checkpoint-{last}, is gone or damaged: its steps are "
                    "done again"
                )
            say(f"resuming from {checkpoint}")
            # until they are done, training is not finished
            (run.folder / "train_results.json").unlink(missing_ok=True)
            return
        aside = set_aside(checkpoint)
        warn(f"{checkpoint} is not used, and set aside as {aside.name}: {problem}")
    hint = (
        "put back a copy of one under its name (checkpoint-STEP) and resume; or train again in "
        "another folder: --output"
    )
    if aside_now := run.damaged_checkpoints():
        names = ", ".join(path.name for path in aside_now)
        raise RunError(f"no checkpoint in {run} is sound ({names})", hint=hint)
    last = run.trained_steps()
    done = max((line["step"] for line in read_metrics(run.folder / "metrics.jsonl")), default=last)
    if done > save_steps:
        raise RunError(f"{run} had come to step {done:,}, but its checkpoints are gone", hint=hint)
    say("no checkpoint yet: starting from the beginning")


def prepare_questions(config: Config, run: Run, resume: bool) -> None:
    """See to it that the run has its own copies of its questions.

    Raises:
        NoQuestions: it is resumed, and they are not those it was started with.
        DataError: see `make_split`.
    """
    if not (resume and _has_questions(run)):
        make_split(config, run)


def _has_questions(run: Run) -> bool:
    """Whether a run has its questions; False where it has not got so far.

    A run made before it kept copies gets them now.
    """
    names = (TRAIN_FILE, TEST_FILE)
    if not run.manifest().get("data") and not all(is_there(run.own_file(n)) for n in names):
        return False
    for name in names:
        path = run.questions_file(name)
        if path != run.own_file(name):
            _copy(path, run.own_file(name))
    return True


def _copy(source: Path, path: Path) -> None:
    """Write the bytes of a file to another, which appears whole or not at all."""
    with open_named(source, "rb") as read, atomic_write(path, "wb") as file:
        shutil.copyfileobj(read, file, 1 << 20)


def make_split(config: Config, run: Run) -> None:
    """Read the questions, split them, and write them into the run and the current folder.

    Image paths become absolute: the run may be used from elsewhere.

    Raises:
        DataError: a file is missing or malformed, or too small to split.
    """
    data, seed = config.data, config.training.seed
    train_set: Dataset
    if data.train and data.test:
        train_set, test_set = (
            read_samples(Path(path), dataset=data.dataset) for path in (data.train, data.test)
        )
        how = "as given"
    else:
        whole = read_samples(Path(data.conversations), dataset=data.dataset)
        by = split_by_image if data.split_by == "image" else split_by_question
        train_set, test_set = by(whole, data.test_fraction, seed)
        how = f"at random by {data.split_by}, seed {seed}"
    train_set = limit_by_image(train_set, data.max_train, "training")
    if not train_set or not test_set:
        raise DataError(
            "no questions to " + ("train on" if not train_set else "test on"),
            hint="check the files given as training and test data",
        )
    if leaked := count_shared_images(train_set, test_set):
        stand = "1 image stands" if leaked == 1 else f"{leaked:,} images stand"
        warn(f"{stand} on both sides of the split: the test will look too good")
    train_set, test_set = (
        relocate_images(train_set, data.images),
        relocate_images(test_set, data.images),
    )
    for name, part in ((TRAIN_FILE, train_set), (TEST_FILE, test_set)):
        own = run.own_file(name)
        placed = part.changed("image", os.path.abspath)
        write_conversations(own, placed)
        _copy(own, Path(name))
        store(own, placed)
        images = counted(len(part.distinct("image")), "image")
        say(f"{name}: {counted(len(part), 'question')} about {images}")
    say(f"split {how}")


def check_images(
    images: Sequence[str], known: Path, resume: bool, folder: str | None = None
) -> None:
    """Look at every image before the long work starts, and write down or compare its digest.

    Raises:
        ImageError: one cannot be used, or is not what it was when the run was started.
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
        raise changed(other)
    write_json(known, digests)
