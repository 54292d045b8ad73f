"""The answers of the base and of a checkpoint, sample by sample."""

from __future__ import annotations

from pathlib import Path

from ..config import Config, load_config
from ..datasets.image_paths import moved
from ..datasets.reading import read_samples
from ..datasets.split import limit_by_image
from ..errors import RunError
from ..models.loader import find_base, read_card, require_base
from ..questions.class_sets import require_one, settle
from ..run import TEST_FILE, TRAIN_FILE, newest_checkpoint, records_no_dataset, say_unfinished
from ..scoring.pairs import Pair, pairs
from ..system.files import run_lock, sha256
from ..system.oserrors import is_folder
from .evaluation import run_questions
from .local import Evaluator


def compare(
    run: Path,
    *,
    model: Path | None = None,
    checkpoint: Path | None = None,
    test: Path | None = None,
    images: Path | None = None,
) -> list[Pair]:
    """Every test question with both answers; asks only what the run has not asked yet.

    Args:
        run: the run folder.
        model: the base; None for the one the checkpoint was trained on.
        checkpoint: None for the newest of the run.
        test: the test questions; None for those of the run.
        images: folder to which the images were moved.

    Raises:
        RunError: no run, or no checkpoint in it.
        Qwen2VLRSError: test file, base or images cannot be used.
    """
    if not is_folder(run):
        raise RunError(f"no run folder {run}", hint="train first: qwen2vl-rs train")
    newest = checkpoint is None
    checkpoint = checkpoint or newest_checkpoint(run)
    if newest:
        say_unfinished(run)
    card = read_card(checkpoint)
    settings = run / "config.toml"
    config = load_config(settings) if settings.is_file() else Config()
    place = run / "eval"
    if test is None:
        samples = run_questions(run, TEST_FILE, "--test FILE")
        samples = limit_by_image(samples, config.eval.max_eval)
    else:
        samples = read_samples(test)
        require_one(test, samples, "or use: qwen2vl-rs eval RUN --test FILE --set data.dataset=LR")
        place = place / f"{test.stem}-{sha256(test)[:8]}"
    samples = moved(samples, images or config.data.images)
    folder = find_base(checkpoint, card, model)
    require_base(folder, checkpoint, card)
    closed = config.eval.answers == "closed"
    taught = run_questions(run, TRAIN_FILE, "--test FILE") if closed else []
    own = config.data.dataset
    dataset = (
        settle(samples, own, old=records_no_dataset(run))
        if test is None
        else settle(samples, otherwise=own)
    )
    asked = Evaluator(folder, card.view, config.eval, config.training, taught, dataset)
    copy = "copy the run to a folder you may write to: answers are missing"
    with run_lock(run, read_only=copy):
        before = asked.run(None, samples, place / "before")
        after = asked.run(checkpoint, samples, place / ("after" if newest else checkpoint.name))
    return pairs(before, after, dataset.name)
