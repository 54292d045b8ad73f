"""Answers of base model and checkpoint, side by side for every question."""

from __future__ import annotations

from pathlib import Path

from ..datasets.image_paths import relocate_images
from ..datasets.reading import read_samples
from ..errors import RunError
from ..models.location import locate_checkpoint
from ..questions.class_sets import require_one_dataset, resolve_dataset
from ..run import TEST_FILE, TRAIN_FILE, Run
from ..scoring.pairs import Pair, pairs
from ..system.files import run_lock, sha256
from ..system.oserrors import is_folder
from .evaluation import run_questions
from .local import LocalBase, LocalPredictor
from .predictor import bare_samples, eval_samples, predict_samples


def compare(
    folder: Path,
    *,
    model: Path | None = None,
    checkpoint: str | Path | None = None,
    test: Path | None = None,
    images: Path | None = None,
    dataset: str | None = None,
) -> list[Pair]:
    """Return every test question with both answers; only missing predictions are computed.

    Args:
        folder: the run's folder.
        model: the base model; None for the one the checkpoint was trained on.
        checkpoint: see `Run.choose_checkpoint`.
        test: the test questions; None for those of the run.
        images: folder to which the images were moved.
        dataset: the dataset of ``test``, if the file does not state it.

    Raises:
        RunError: there is no run, or no checkpoint in it.
        Qwen2VLRSError: test file, base model or images are not usable.
    """
    run = Run(folder)
    if not is_folder(folder):
        raise RunError(f"no run folder {folder}", hint="train first: qwen2vl-rs train")
    if checkpoint is None:
        run.warn_unfinished()
    checkpoint = run.choose_checkpoint(checkpoint)
    found, config, place = locate_checkpoint(checkpoint, model), run.config(), run.folder / "eval"
    own = config.data.dataset
    if test is None:
        samples = run_questions(run, TEST_FILE, "--test FILE")
        samples = eval_samples(samples, found.view, config, images)
        whose = resolve_dataset(samples, own, old=run.records_no_dataset())
    else:
        samples = read_samples(test, dataset=dataset)
        if not dataset:
            require_one_dataset(
                test, samples, "or use: qwen2vl-rs eval RUN --test FILE --set data.dataset=LR"
            )
        place = place / f"{test.stem}-{sha256(test)[:8]}"
        samples = bare_samples(relocate_images(samples, images or config.data.images), found.view)
        whose = resolve_dataset(samples, dataset, otherwise=own)
    found.require_matching_base()
    closed = config.eval.answers == "closed"
    taught = run_questions(run, TRAIN_FILE, "--test FILE") if closed else []
    taught = bare_samples(taught, found.view)
    base = LocalBase(found.base, found.view, config, taught, whose)
    copy = "copy the run to a writable folder: some answers are missing"
    with run_lock(run.folder, read_only=copy):
        before = predict_samples(LocalPredictor(base, None), samples, place / "before", whose)
        name = "after" if run.is_default(checkpoint) else checkpoint.name
        tuned = LocalPredictor(base, checkpoint)
        after = predict_samples(tuned, samples, place / name, whose)
    return pairs(before, after, whose.name)
