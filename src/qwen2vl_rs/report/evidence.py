"""What a report is made from: the files of a run, or predictions of any origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Config, ImageRule, load_config
from ..errors import RunError
from ..records import Prediction
from ..runs import TRAIN_FILE, read_json, read_metrics, sha256
from ..scoring.compare import Comparison, compare_runs, match
from ..scoring.predictions import read_predictions, read_training
from ..scoring.score import Results, results


@dataclass(frozen=True, slots=True)
class Side:
    """One evaluation.

    Attributes:
        file: where the predictions were read from.
        predictions: the answered questions.
        results: as in ``results.json``.
        pace: seconds that a question took; None where it was not recorded.
    """

    file: Path
    predictions: list[Prediction]
    results: Results
    pace: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
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

    @property
    def image_rule(self) -> ImageRule:
        """How the model was shown the images."""
        return self.config.view.image if self.config else ImageRule()

    @property
    def both(self) -> tuple[list[Prediction], list[Prediction]] | None:
        """The answers before and after to the questions asked in both, in the order of after."""
        if self.before is None:
            return None
        _, left, right, _ = match(self.before.predictions, self.after.predictions)
        keys = [key for key in right if key in left]
        return [left[key] for key in keys], [right[key] for key in keys]


def from_run(run: Path, train_questions: Path | None = None) -> Evidence:
    """The evidence of a run folder.

    Args:
        run: the folder.
        train_questions: for the controls that see no image. None: as computed at the end of the
            run; or, where that is not there, with the run's own file in the current folder.

    Raises:
        RunError: it is no run folder, or holds no answers after training.
        DataError: predictions or training questions cannot be used.
    """
    if not run.is_dir():
        raise RunError(f"no run folder {run}", hint="train first: qwen2vl-rs train")
    places = {name: run / "eval" / name for name in ("before", "after", "shuffled")}
    if not (places["after"] / "predictions.jsonl").is_file():
        raise RunError(
            f"{run} holds no answers after training",
            hint=f"finish it: qwen2vl-rs train {run}/config.toml --resume",
        )
    manifest = read_json(run / "manifest.json") or {}
    train = train_questions or _own_questions(manifest)
    shuffled = places["shuffled"] / "predictions.jsonl"
    other = read_predictions(shuffled) if shuffled.is_file() else None
    after = _side(places["after"], train, other, anew=train_questions is not None)
    before = None
    if (places["before"] / "predictions.jsonl").is_file():
        before = _side(places["before"], train, None, anew=train_questions is not None)
    settings = run / "config.toml"
    return Evidence(
        name=run.resolve().name,
        after=after,
        before=before,
        comparison=compare_runs(before.predictions, after.predictions) if before else None,
        run=run,
        config=load_config(settings) if settings.is_file() else None,
        manifest=manifest,
        training=read_json(run / "train_results.json") or {},
        metrics=read_metrics(run / "metrics.jsonl"),
        checkpoint=(read_json(run / "compare.json") or {}).get("checkpoint", ""),
    )


def from_files(
    after: Path,
    before: Path | None = None,
    shuffled: Path | None = None,
    train_questions: Path | None = None,
) -> Evidence:
    """The evidence of predictions of any model.

    Args:
        after: predictions the report is about.
        before: predictions they are compared with.
        shuffled: answers to the same questions about other images.
        train_questions: for the controls that see no image.

    Raises:
        DataError: a file cannot be used, or the runs have no question in common.
    """
    other = read_predictions(shuffled) if shuffled else None
    new = _scored(after, train_questions, other)
    old = _scored(before, train_questions, None) if before else None
    return Evidence(
        name=place(after),
        after=new,
        before=old,
        comparison=compare_runs(old.predictions, new.predictions) if old else None,
    )


def place(file: Path) -> str:
    """A file with its folder: many are called ``predictions.jsonl``."""
    return "/".join(file.resolve().parts[-2:])


def _own_questions(manifest: dict[str, Any]) -> Path | None:
    """The training questions of the run, where the current folder holds them."""
    facts, path = manifest.get("data", {}).get(TRAIN_FILE, {}), Path(TRAIN_FILE)
    same = facts and path.is_file() and sha256(path) == facts["sha256"]
    return path if same else None


def _side(
    folder: Path, train: Path | None, shuffled: Sequence[Prediction] | None, anew: bool
) -> Side:
    """An evaluation of a run, as scored at its end unless that is missing or asked ``anew``."""
    file = folder / "predictions.jsonl"
    stored = read_json(folder / "results.json")
    timing = read_json(folder / "timing.json")
    pace = timing["seconds"] / timing["questions"] if timing else None
    if anew or not isinstance(stored, dict) or not Results.__required_keys__ <= stored.keys():
        return _scored(file, train, shuffled, pace)
    return Side(file, read_predictions(file), stored, pace)  # type: ignore[arg-type]


def _scored(
    file: Path,
    train: Path | None,
    shuffled: Sequence[Prediction] | None,
    pace: float | None = None,
) -> Side:
    predictions = read_predictions(file)
    questions = read_training(train) if train else None
    return Side(file, predictions, results(predictions, train=questions, shuffled=shuffled), pace)
