"""What a report is made from: the files of a run, or predictions of any origin."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..config import Config, RasterToRGB, load_config
from ..datasets.base import Dataset as Questions
from ..errors import RunError
from ..questions.class_sets import DatasetName, dataset_of_predictions
from ..run import TRAIN_FILE, NoQuestions, Run, listed, read_metrics, runs_below
from ..scoring.comparison import Comparison, compare_runs, match_runs
from ..scoring.predictions import read_predictions, read_questions, read_training
from ..scoring.results import Gain, Results, results, unreadable
from ..system.files import read_json
from ..types import Prediction

_OUTPUT = Path("output")


@dataclass(frozen=True, slots=True)
class Side:
    """One evaluation.

    Attributes:
        file: where the predictions were read from.
        predictions: the answered questions; beside another evaluation, those asked in both.
        results: as in ``results.json``.
        pace: seconds that a question took; None where it was not recorded.
    """

    file: Path
    predictions: list[Prediction]
    results: Results
    pace: float | None = None


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """All that is known; what a report has no file for is None or empty.

    Attributes:
        name: of the run, or of the predictions file.
        after: the evaluation the report is about.
        before: the one it is compared with.
        comparison: of the two.
        run: the run folder; None for predictions from files.
        config: settings of the run.
        manifest, training: ``manifest.json`` and ``train_results.json``.
        metrics: lines of ``metrics.jsonl``.
        checkpoint: name of the one that was asked; empty where unknown.
        newest: name of the newest of the run; empty where there is none.
        planned: steps that training was to have, where it is not finished; else None.
        images: folder of the images; None: where their paths say.
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
    newest: str = ""
    planned: int | None = None
    images: Path | None = None

    @property
    def image_rule(self) -> RasterToRGB:
        """How the model was shown the images."""
        return self.config.view.image if self.config else RasterToRGB()

    @property
    def both(self) -> tuple[list[Prediction], list[Prediction]] | None:
        """The answers before and after, question by question, in the order of after."""
        if self.before is None:
            return None
        _, left, right, _ = match_runs(self.before.predictions, self.after.predictions)
        return [left[key] for key in right], list(right.values())


def from_run(
    run: Path, train_questions: Path | None = None, dataset: str | None = None
) -> ReportInputs:
    """The evidence of a run folder.

    Args:
        run: the folder.
        train_questions: for the controls that see no image. None: as computed at the end of the
            run; or, where that is not there, from the run's own.
        dataset: ``LR``, ``HR`` or ``xBEN``, whose classes apply; None for what the predictions
            say, or what they were scored by.

    Raises:
        RunError: it is no run folder, or holds no answers after training.
        DataError: predictions or training questions cannot be used, or the runs have no question
            in common.
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
        newest=next((path.name for path in reversed(owner.checkpoints())), ""),
        planned=owner.planned_steps(),
    )


def _asked_checkpoint(run: Path) -> str:
    """The checkpoint that gave the answers after training; runs made before say it elsewhere."""
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
    """The evidence of predictions of any model.

    Args:
        after: predictions the report is about.
        before: predictions they are compared with.
        shuffled: answers to the same questions about other images.
        train_questions: for the controls that see no image.
        dataset: ``LR``, ``HR`` or ``xBEN``, whose classes apply; None for what the predictions
            say, or what they were scored by.
        questions: the test set, for predictions that do not name the questions.

    Raises:
        DataError: a file cannot be used, or the runs have no question in common.
    """
    asked = read_questions(questions)
    given = (after, before, shuffled, train_questions, dataset)
    new, old, comparison = _sides(*given, stored=False, questions=asked)
    return ReportInputs(name=place(after), after=new, before=old, comparison=comparison)


def place(file: Path) -> str:
    """A file with its folder: many are called ``predictions.jsonl``."""
    return "/".join(file.resolve().parts[-2:])


def _answers(run: Path, name: str) -> Path | None:
    """The answers of one of a run's evaluations, where they are there."""
    file = Run(run).evaluation(name) / "predictions.jsonl"
    return file if file.is_file() else None


def _require_answers(run: Path) -> Path:
    """The answers after training; what is no finished run is refused with what to type instead."""
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
        hint=f"runs with answers: {listed(found)}" if found else "train first: qwen2vl-rs train",
    )


def own_questions(run: Path, name: str) -> Path | None:
    """The file with the questions of a run; None where they are not there any more."""
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
    """Both evaluations and their comparison, on the same questions and in the same classes.

    What was ``stored`` beside the files is used where it was scored so.
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
        # figures of all questions of a run would not be those that are compared
        _, left, right, _ = match_runs(was, new)
        was = [p for key, p in left.items() if key in right]
        new = [p for key, p in right.items() if key in left]
        stored = False
    return side(after, new, other), side(before, was, None), comparison


def _stored(file: Path, predictions: list[Prediction], dataset: DatasetName) -> Results | None:
    """What was scored before; None where that is missing, incomplete or of something else."""
    found = read_json(file, damaged=None)  # scored again then
    if not isinstance(found, dict):
        return None
    if isinstance(n := found.get("unreadable"), int):  # as it was called before
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
    return replace(side, pace=timing["seconds"] / timing["questions"]) if timing else side
