"""Evaluation: every test question put to a model, scored beside its controls."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, ViewConfig, load_config
from ..datasets.base import Dataset
from ..datasets.image_paths import moved
from ..datasets.reading import read_samples
from ..datasets.split import limit_by_image
from ..datasets.stored import read_run
from ..errors import RunError
from ..hardware.devices import processes
from ..hardware.launch import check_strategy
from ..models.loader import find_base, find_checkpoint, read_card, require_base
from ..questions.class_sets import require_one, settle
from ..run import (
    TEST_FILE,
    TRAIN_FILE,
    NoQuestions,
    checkpoints,
    damaged_checkpoints,
    newest_checkpoint,
    records_no_dataset,
)
from ..scoring.comparison import Comparison, compare_runs
from ..scoring.results import Results, results
from ..system.console import say
from ..system.files import run_lock, sha256, write_json
from ..types import Prediction, Sample
from .job import bare_samples, say_cut_off
from .local import Evaluator


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured: ``results.json`` before and after, and ``compare.json``."""

    before: Results
    after: Results
    comparison: Comparison


def before_and_after(
    config: Config, run: Path, train: Sequence[Sample], test: Sequence[Sample]
) -> Outcome:
    """Evaluate the untouched base and the newest checkpoint on the same questions.

    Writes ``eval/before``, ``eval/after``, ``eval/shuffled`` and ``compare.json``; what is there
    already from the same model and questions is not asked again.

    Args:
        config: settings of the run.
        run: its folder.
        train: the training questions, for the controls.
        test: the test questions; ``config.eval.max_eval`` limits them.

    Returns:
        What was measured.
    """
    train = bare_samples(train, config.view)
    test = bare_samples(limit_by_image(test, config.eval.max_eval), config.view)
    checkpoint = newest_checkpoint(run)
    dataset = settle(test, config.data.dataset, old=records_no_dataset(run))
    asked = Evaluator(Path(config.model), config.view, config.eval, config.training, train, dataset)
    before = asked.run(None, test, run / "eval" / "before")
    after = asked.run(checkpoint, test, run / "eval" / "after")
    shuffled = asked.run_shuffled(checkpoint, test, run / "eval" / "shuffled")
    scored = Outcome(
        before=results(before, train=train, dataset=dataset),
        after=results(after, train=train, shuffled=shuffled, dataset=dataset),
        comparison=compare_runs(before, after, dataset=dataset.name),
    )
    if processes().is_main_process:
        write_json(run / "eval" / "before" / "results.json", scored.before)
        write_json(run / "eval" / "after" / "results.json", scored.after)
        write_json(run / "compare.json", {"checkpoint": checkpoint.name, **scored.comparison})
        _print_samples(before, after, config.eval.samples)
    return scored


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be evaluated.

    Attributes:
        model: a run (its newest checkpoint), a checkpoint, or a base.
        base: of a checkpoint; None for where it was when it was trained on.
        test: the questions; None for the test questions of the run.
        train: training questions, for controls and answer sets; None for those of the run.
        output: folder of the evaluation; None for one below the run, or below ``output/``.
    """

    model: Path
    base: Path | None = None
    test: Path | None = None
    train: Path | None = None
    output: Path | None = None


def evaluate(asked: Asked, settings: Sequence[str], values: Mapping[str, Any]) -> Results | None:
    """Evaluate one model with all its controls.

    Writes ``predictions.jsonl``, ``results.json`` and the shuffled-image control; goes on where
    it was interrupted.

    Args:
        asked: which model and questions.
        settings: ``key=value`` over the settings of the run.
        values: settings by key, likewise.

    Returns:
        What ``results.json`` holds; None in all processes but the first.

    Raises:
        Qwen2VLRSError: model, questions or images cannot be used.
    """
    check_strategy()
    checkpoint = find_checkpoint(asked.model)
    run = asked.model if checkpoint is None else checkpoint.parent
    known = run / "config.toml"
    if checkpoint is None and known.is_file():
        if damaged_checkpoints(run):
            newest_checkpoint(run)  # says so
        raise RunError(f"no checkpoint in {run} yet", hint="train first: qwen2vl-rs train")
    config = load_config(known if known.is_file() else None, settings, values)
    folder, view = _base_and_view(asked, checkpoint, config)
    test = _questions(asked.test, run, TEST_FILE, "--test FILE")
    test = moved(limit_by_image(test, config.eval.max_eval), config.data.images)
    test = bare_samples(test, view)
    train = _training_questions(asked, run, view)
    below = run / "eval" if checkpoint else Path("output") / f"eval-{folder.resolve().name}"
    output = asked.output or below / _name(asked, checkpoint, config)
    if asked.test is None:
        dataset = settle(test, config.data.dataset, old=records_no_dataset(run))
    else:
        typed = load_config(None, settings, values).data.dataset
        if not typed:
            require_one(asked.test, test, "or name one for all: --set data.dataset=LR")
        dataset = settle(test, typed, otherwise=config.data.dataset)
    evaluator = Evaluator(folder, view, config.eval, config.training, train or (), dataset)
    team = processes()
    lock = run_lock(output, read_only="choose another folder: --output")
    with lock if team.is_main_process else contextlib.nullcontext():
        predictions = evaluator.run(checkpoint, test, output)
        shuffled = evaluator.run_shuffled(checkpoint, test, output / "shuffled")
        found = results(predictions, train=train, shuffled=shuffled, dataset=dataset)
        if team.is_main_process:
            write_json(output / "results.json", found, changed=True)
    say(f"predictions and all protocols: {output}/")
    say_cut_off(found, config.eval.max_new_tokens)
    return found if team.is_main_process else None


def _name(asked: Asked, checkpoint: Path | None, config: Config) -> str:
    """A folder of its own for each checkpoint, file and number of questions, and way to answer."""
    parts = [f"{asked.test.stem}-{sha256(asked.test)[:8]}" if asked.test else "test"]
    parts.append(config.eval.answers)
    if config.eval.max_eval:
        parts.append(f"first-{config.eval.max_eval}")
    if checkpoint and checkpoints(checkpoint.parent)[-1:] != [checkpoint]:
        parts.append(checkpoint.name)
    return "-".join(parts)


def _base_and_view(
    asked: Asked, checkpoint: Path | None, config: Config
) -> tuple[Path, ViewConfig]:
    if checkpoint is None:
        return asked.model, config.view
    card = read_card(checkpoint)
    folder = find_base(checkpoint, card, asked.base)
    require_base(folder, checkpoint, card)
    return folder, card.view


def _training_questions(asked: Asked, run: Path, view: ViewConfig) -> Sequence[Sample] | None:
    """The training questions that are named, or the run's; None, and said, where there are none."""
    try:
        train = _questions(asked.train, run, TRAIN_FILE, "--train-questions FILE")
        return bare_samples(train, view)
    except NoQuestions as error:
        say(f"no control that never sees the image: {error.message}; {error.hint}")
        return None


def _questions(given: Path | None, run: Path, name: str, option: str) -> Dataset:
    return read_samples(given) if given else run_questions(run, name, option)


def run_questions(run: Path, name: str, option: str) -> Dataset:
    """The training or test questions of a run.

    Args:
        run: its folder.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.
        option: what to type in order to name them.

    Raises:
        NoQuestions: they are not there, or not those of the run, which may have trained on them.
    """
    try:
        return read_run(run, name)
    except NoQuestions as error:
        hint = f"{error.hint}, or name the questions: {option}"
        raise NoQuestions(error.message, hint=hint) from error


def _print_samples(before: list[Prediction], after: list[Prediction], most: int) -> None:
    """Some answers of different types, before and after."""
    by_type: dict[str, list[tuple[Prediction, Prediction]]] = {}
    for pair in zip(before, after, strict=True):
        by_type.setdefault(pair[0].type, []).append(pair)
    chosen = [pair for row in zip(*by_type.values(), strict=False) for pair in row][:most]
    if chosen:
        say()
        say("some answers (truth | before | after)")
    for old, new in chosen:
        say(f"  {old.question}  {old.answer} | {old.text[:40]!r} | {new.text[:40]!r}")
