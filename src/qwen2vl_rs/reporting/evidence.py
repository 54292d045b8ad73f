"""Inputs of a report: the files of a run, or predictions of any model."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..config import Config, RasterToRGB
from ..config_file import load_config
from ..datasets.base import Dataset as Questions
from ..errors import RunError
from ..questions.class_sets import DatasetName, dataset_of_predictions
from ..run import TRAIN_FILE, NoQuestions, Run, read_metrics, run_names, runs_below
from ..scoring.comparison import Comparison, compare_runs, match_runs
from ..scoring.predictions import read_predictions, read_questions, read_training
from ..scoring.results import Gain, Results, results, unreadable
from ..system.files import read_json
from ..types import Prediction
from ..validation_record import ValidationRecord

_OUTPUT = Path("output")


@dataclass(frozen=True, slots=True)
class Side:
    """One evaluation.

    Attributes:
        file: the file of the predictions.
        predictions: the predictions; beside another evaluation, those of the common questions.
        results: as in ``results.json``.
        seconds: time per question, if recorded.
    """

    file: Path
    predictions: list[Prediction]
    results: Results
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """The inputs of a report; what is not available is None or empty.

    Attributes:
        name: of the run, or of the predictions file.
        after: the evaluation that the report is about.
        before: the one it is compared with.
        comparison: of the two.
        run: the run folder; None for predictions from files.
        config: settings of the run.
        manifest, training: ``manifest.json`` and ``train_results.json``.
        metrics: lines of ``metrics.jsonl``.
        checkpoint: name of the evaluated checkpoint; empty if unknown.
        used: name of the checkpoint that commands use: the best, else the newest; empty without
            one.
        validation: the validations of the run; None without any.
        planned: steps of an unfinished training; else None.
        images: folder of the images; None if their paths are right.
    """

    name: str
    after: Side
    before: Side | None = None
    comparison: Comparison | None = None
    run: Path | None = None
    config: Config | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    checkpoint: str = ""
    used: str = ""
    validation: ValidationRecord | None = None
    planned: int | None = None
    images: Path | None = None

    @property
    def image_rule(self) -> RasterToRGB:
        """The conversion of images to RGB for the model."""
        return self.config.view.image if self.config else RasterToRGB()

    @property
    def both(self) -> tuple[list[Prediction], list[Prediction]] | None:
        """The predictions before and after, in the order of after."""
        if self.before is None:
            return None
        _, left, right, _ = match_runs(self.before.predictions, self.after.predictions)
        return [left[key] for key in right], list(right.values())


def from_run(
    run: Path, train_questions: Path | None = None, dataset: str | None = None
) -> ReportInputs:
    """Read the inputs of a report on a run.

    Args:
        run: the folder.
        train_questions: for the question-only baseline. None: as computed at the end of the run;
            if that is missing, from the run's own.
        dataset: the name of a dataset for its label sets, such as ``LR``; None for the dataset in
            the predictions or in their results.

    Raises:
        RunError: it is not a run folder, or has no predictions after training.
        DataError: predictions or training questions are not usable, or there are no common
            questions.
    """
    asked, owner = _require_answers(run), Run(run)
    train = train_questions or own_questions(run, TRAIN_FILE)
    others = (_answers(run, "before"), _answers(run, "shuffled"))
    stored, old = train_questions is None, owner.records_no_dataset()
    after, before, comparison = _sides(asked, *others, train, dataset, stored=stored, old=old)
    settings = run / "config.toml"
    return ReportInputs(
        name=run.resolve().name,
        after=_timed(after),
        before=before and _timed(before),
        comparison=comparison,
        run=run,
        config=load_config(settings) if settings.is_file() else None,
        manifest=owner.manifest(),
        training=read_json(run / "train_results.json") or {},
        metrics=read_metrics(run / "metrics.jsonl"),
        checkpoint=_asked_checkpoint(run),
        used=next((one.name for one in owner.checkpoints() if owner.is_default(one)), ""),
        validation=owner.validation(),
        planned=owner.planned_steps(),
    )


def _asked_checkpoint(run: Path) -> str:
    """Return the evaluated checkpoint's name; older versions recorded it elsewhere."""
    for file in (Run(run).evaluation("after") / "inputs.json", run / "compare.json"):
        if name := (read_json(file, damaged=None) or {}).get("checkpoint"):
            return str(name)
    return ""


def from_files(
    after: Path,
    before: Path | None = None,
    shuffled: Path | None = None,
    train_questions: Path | None = None,
    dataset: str | None = None,
    questions: Path | None = None,
) -> ReportInputs:
    """Read the inputs of a report on predictions of any model.

    Args:
        after: the predictions that the report is about.
        before: predictions to compare with.
        shuffled: predictions for shuffled images.
        train_questions: for the question-only baseline.
        dataset: the name of a dataset for its label sets, such as ``LR``; None for the dataset in
            the predictions or in their results.
        questions: the test set, for predictions without the questions' texts.

    Raises:
        DataError: a file is not usable, or there are no common questions.
    """
    asked = read_questions(questions)
    given = (after, before, shuffled, train_questions, dataset)
    new, old, comparison = _sides(*given, stored=False, questions=asked)
    return ReportInputs(name=short_path(after), after=new, before=old, comparison=comparison)


def short_path(file: Path) -> str:
    """Return a file's name with its folder, as many are called ``predictions.jsonl``."""
    return "/".join(file.resolve().parts[-2:])


def _answers(run: Path, name: str) -> Path | None:
    """Return the file of a run's evaluation, if it exists."""
    file = Run(run).evaluation(name) / "predictions.jsonl"
    return file if file.is_file() else None


def _require_answers(run: Path) -> Path:
    """Return the predictions after training; the error's hint fits what the folder is."""
    if run.is_file():
        raise RunError(
            f"{run} is a file, not the folder of a run",
            hint=f"a report of predictions: qwen2vl-rs report --after {shlex.quote(str(run))}",
        )
    if file := _answers(run, "after"):
        return file
    if (run / "config.toml").is_file():
        hint = f"finish it: {Run(run).resume_command()}"
        raise RunError(f"{run} holds no answers after training", hint=hint)
    known = runs_below(run) or _OUTPUT.glob("*")
    found = sorted(one for one in known if _answers(one, "after"))
    raise RunError(
        f"{run} is not the folder of a run" if run.is_dir() else f"no run folder {run}",
        hint=f"runs with answers: {run_names(found)}" if found else "train first: qwen2vl-rs train",
    )


def own_questions(run: Path, name: str) -> Path | None:
    """Return a run's file of questions, if it still exists."""
    try:
        return Run(run).questions_file(name)
    except NoQuestions:
        return None


def _sides(
    after: Path,
    before: Path | None,
    shuffled: Path | None,
    train: Path | None,
    dataset: str | None,
    *,
    stored: bool,
    old: bool = False,
    questions: Questions | None = None,
) -> tuple[Side, Side | None, Comparison | None]:
    """Return both evaluations and their comparison, for the same questions and label sets.

    ``stored`` results are reused if they are of the same questions and label sets.
    """
    new = read_predictions(after, questions)
    other = read_predictions(shuffled, questions) if shuffled else None
    known = dataset_of_predictions(after, new, dataset, old=old)

    def side(file: Path, asked: list[Prediction], wrong: list[Prediction] | None) -> Side:
        if stored and (found := _stored(file.with_name("results.json"), asked, known)):
            return Side(file, asked, found)
        fitted_on = read_training(train, dataset) if train else None
        return Side(file, asked, results(asked, train=fitted_on, shuffled=wrong, dataset=known))

    if before is None:
        return side(after, new, other), None, None
    was = read_predictions(before, questions)
    comparison = compare_runs(was, new, dataset=known.name)
    if comparison["n"] < max(len(was), len(new)):
        # results for all questions of a run would not be those of the common questions
        _, left, right, _ = match_runs(was, new)
        was = [p for key, p in left.items() if key in right]
        new = [p for key, p in right.items() if key in left]
        stored = False
    return side(after, new, other), side(before, was, None), comparison


def _stored(file: Path, predictions: list[Prediction], dataset: DatasetName) -> Results | None:
    """Return the stored results; None if missing, incomplete or of other predictions."""
    found = read_json(file, damaged=None)  # a damaged file is computed again
    if not isinstance(found, dict):
        return None
    if isinstance(n := found.get("unreadable"), int):  # the format of older versions
        counted = unreadable(predictions, dataset.name)
        found |= {"unreadable": counted, "unreadable_truth": n, "dataset_from": dataset.how}
    if not Results.__required_keys__ <= found.keys():
        return None
    gains = [*found["visual_gain"].values(), *found["shuffled_cost"].values()]
    if (found["n"], found["dataset"]) != (len(predictions), dataset.name):
        return None
    if not all(Gain.__required_keys__ <= g.keys() for g in gains):
        return None
    return cast(Results, found)


def _timed(side: Side) -> Side:
    timing = read_json(side.file.with_name("timing.json"))
    return replace(side, seconds=timing["seconds"] / timing["questions"]) if timing else side
