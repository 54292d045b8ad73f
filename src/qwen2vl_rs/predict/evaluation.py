"""Evaluation of a run or a model on test questions, with all baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, InputConfig
from ..config_file import load_config
from ..datasets.base import Dataset
from ..datasets.reading import read_samples
from ..datasets.split import limit_by_image
from ..datasets.stored import read_run
from ..hardware.launch import check_strategy
from ..models.location import ModelLocation
from ..questions.class_sets import require_one_dataset, resolve_dataset
from ..run import TEST_FILE, TRAIN_FILE, NoQuestions, Run
from ..scoring.comparison import Comparison, compare_runs
from ..scoring.results import Results
from ..system.console import say
from ..system.files import sha256, write_json
from ..types import Prediction, Sample
from .local import LocalBase, LocalPredictor
from .predictor import EvaluationSet, bare_samples, eval_samples, evaluate_into, evaluate_predictor
from .session import Session
from .settings import answer_settings, control_seed


@dataclass(frozen=True, slots=True)
class Outcome:
    """``results.json`` before and after fine-tuning, and ``compare.json``."""

    before: Results
    after: Results
    comparison: Comparison


def before_and_after(
    config: Config, run: Run, train: Sequence[Sample], test: Sequence[Sample]
) -> Outcome:
    """Evaluate the base model and the checkpoint (best or newest) on the same questions.

    Writes ``eval/before``, ``eval/after``, ``eval/shuffled`` and ``compare.json``. Predictions
    that are up to date are not computed again.

    Args:
        config: settings of the run.
        run: the run.
        train: the training questions, for the baselines.
        test: the test questions; ``config.eval.max_eval`` limits their number.

    Returns:
        The results.
    """
    train = bare_samples(train, config.view)
    test = bare_samples(limit_by_image(test, config.eval.max_eval), config.view)
    checkpoint = run.choose_checkpoint()
    dataset = resolve_dataset(test, config.data.dataset, old=run.records_no_dataset())
    base = LocalBase(Path(config.model), config.view, config, train, dataset)
    questions = EvaluationSet(test, train, dataset, control_seed(config))
    plain, tuned = LocalPredictor(base, None), LocalPredictor(base, checkpoint)
    old, before = evaluate_predictor(plain, questions, run.evaluation("before"))
    control = run.evaluation("shuffled")
    new, after = evaluate_predictor(tuned, questions, run.evaluation("after"), control)
    comparison = compare_runs(old, new, dataset=dataset.name)
    if tuned.team.is_main_process:
        write_json(run.folder / "compare.json", {"checkpoint": checkpoint.name, **comparison})
        _print_samples(old, new, config.eval.samples)
    return Outcome(before, after, comparison)


def evaluate(
    found: ModelLocation,
    settings: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    *,
    test: Path | Dataset | None = None,
    train: Path | Dataset | None = None,
    output: Path | None = None,
    opened: Callable[[], Session] | None = None,
) -> tuple[Results | None, Path]:
    """Evaluate one model with all its baselines.

    Writes ``predictions.jsonl``, ``results.json`` and the shuffled-image baseline. Resumes.

    Args:
        found: the model.
        settings: ``key=value``, override the settings of the run.
        values: settings by key, likewise.
        test: the questions, or their file; None for the test questions of the run.
        train: training questions, for baselines and candidate answers; None for the run's.
        output: the evaluation's folder; None for one in the run, or in ``output/``.
        opened: returns the model if it is loaded already; None to load it if needed.

    Returns:
        The content of ``results.json``, None in all processes but the first; the folder.

    Raises:
        Qwen2VLRSError: model, questions or images are not usable.
    """
    check_strategy()
    run, checkpoint = found.run, found.checkpoint
    config = run.config(settings, values)
    view = found.view if checkpoint else config.view
    found.require_matching_base()
    typed = load_config(None, settings, values).data.dataset
    every = _questions(test, run, TEST_FILE, "--test FILE", typed)
    samples = eval_samples(every, view, config)
    taught = _training_questions(train, run, view, typed)
    if test is None:
        dataset = resolve_dataset(samples, config.data.dataset, old=run.records_no_dataset())
    else:
        if not typed:
            where = test if isinstance(test, Path) else Path("the questions")
            require_one_dataset(where, samples, "or name one for all: --set data.dataset=LR")
        dataset = resolve_dataset(samples, typed, otherwise=config.data.dataset)
    name = _name(test, found, config)
    below = Path("output") / f"eval-{found.base.resolve().name}"
    output = output or (run.evaluation(name) if checkpoint else below / name)
    questions = EvaluationSet(samples, taught, dataset, control_seed(config))
    if opened and not _answers_alike(found, config, view):
        opened = None
    base = LocalBase(found.base, view, config, taught, dataset, opened)
    predictor = LocalPredictor(base, checkpoint)
    return evaluate_into(predictor, questions, output, config.eval.max_new_tokens), output


def _answers_alike(found: ModelLocation, config: Config, view: InputConfig) -> bool:
    """Return whether a loaded model has the same input and answer settings as ``config``."""
    own, wanted = answer_settings(found.run.config()), answer_settings(config)
    return found.view == view and (own.bf16, own.fp16) == (wanted.bf16, wanted.fp16)


def _name(test: Path | Dataset | None, found: ModelLocation, config: Config) -> str:
    """Return a folder name that is unique per checkpoint, questions file, limit and answer mode."""
    parts = ["test"]
    if isinstance(test, Path):
        parts = [f"{test.stem}-{sha256(test)[:8]}"]
    elif test is not None:
        parts = [f"questions-{test.digest()[:8]}"]
    parts.append(config.eval.answers)
    if config.eval.max_eval:
        parts.append(f"first-{config.eval.max_eval}")
    if found.checkpoint and not found.run.is_default(found.checkpoint):
        parts.append(found.checkpoint.name)
    return "-".join(parts)


def _training_questions(
    given: Path | Dataset | None, run: Run, view: InputConfig, dataset: str | None
) -> Sequence[Sample] | None:
    """Return the given training questions, or the run's; None, after a message, if missing."""
    try:
        train = _questions(given, run, TRAIN_FILE, "--train-questions FILE", dataset)
        return bare_samples(train, view)
    except NoQuestions as error:
        say(f"no question-only baseline: {error.message}; {error.hint}")
        return None


def _questions(
    given: Path | Dataset | None, run: Run, name: str, option: str, dataset: str | None
) -> Dataset:
    if given is None:
        return run_questions(run, name, option)
    return read_samples(given, dataset=dataset) if isinstance(given, Path) else given


def run_questions(run: Run, name: str, option: str) -> Dataset:
    """Return the training or test questions of a run.

    Args:
        run: the run.
        name: ``data_vl_train.json`` or ``data_vl_test.json``.
        option: the option that names another file.

    Raises:
        NoQuestions: the file is missing, or is not the one the run was made with.
    """
    try:
        return read_run(run, name)
    except NoQuestions as error:
        hint = f"{error.hint}, or name the questions: {option}"
        raise NoQuestions(error.message, hint=hint) from error


def _print_samples(before: list[Prediction], after: list[Prediction], most: int) -> None:
    """Print some answers of different types, before and after fine-tuning."""
    by_type: dict[str, list[tuple[Prediction, Prediction]]] = {}
    for pair in zip(before, after, strict=True):
        by_type.setdefault(pair[0].type, []).append(pair)
    chosen = [pair for row in zip(*by_type.values(), strict=False) for pair in row][:most]
    if chosen:
        say()
        say("some answers (truth | before | after)")
    for old, new in chosen:
        say(f"  {old.question}  {old.answer} | {old.text[:40]!r} | {new.text[:40]!r}")
