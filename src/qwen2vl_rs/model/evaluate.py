"""Evaluation: every test question put to the base and to the fine-tuned model."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..config import Config, EvalConfig, TrainingSettings, ViewConfig
from ..console import Progress, say
from ..records import Prediction, Sample
from ..runs import atomic_write, newest_checkpoint, read_json, sha256, write_json
from ..scoring.answers import normalise
from ..scoring.compare import Comparison, compare_runs
from ..scoring.controls import shuffle_images
from ..scoring.grammar import type_of
from ..scoring.predictions import read_predictions, write_predictions
from ..scoring.score import Results, results
from .answer import answer
from .loader import (
    ADAPTER,
    Base,
    attach_adapter,
    choose_device,
    fingerprint,
    load_base,
    processes,
    read_config,
    weights_dtype,
)
from .packing import BUDGETS
from .trainer import group_by_image

QUESTIONS_AT_ONCE = 200  # asked between two writes to disk


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
        test: the test questions; ``config.eval.max_eval`` limits them by whole images.

    Returns:
        What was measured.
    """
    test = limit_by_image(test, config.eval.max_eval)
    checkpoint = newest_checkpoint(run)
    asked = Evaluator(Path(config.model), config.view, config.eval, config.training)
    before = asked.run(None, test, run / "eval" / "before")
    after = asked.run(checkpoint, test, run / "eval" / "after")
    shuffled = asked.run_shuffled(checkpoint, test, run / "eval" / "shuffled")
    scored = Outcome(
        before=results(before, train=train),
        after=results(after, train=train, shuffled=shuffled),
        comparison=compare_runs(before, after),
    )
    if processes().is_main_process:
        write_json(run / "eval" / "before" / "results.json", scored.before)
        write_json(run / "eval" / "after" / "results.json", scored.after)
        write_json(run / "compare.json", {"checkpoint": checkpoint.name, **scored.comparison})
        _print_samples(before, after, config.eval.samples)
    return scored


def limit_by_image(samples: Sequence[Sample], most: int | None) -> list[Sample]:
    """The first images whose questions are at most ``most`` together (at least one image)."""
    if most is None or len(samples) <= most:
        return list(samples)
    taken: list[Sample] = []
    for group in group_by_image(samples):
        if taken and len(taken) + len(group) > most:
            break
        taken += group
    images = len({s.image for s in taken})
    say(f"evaluating {len(taken):,} of {len(samples):,} test questions ({images:,} whole images)")
    return taken


class Evaluator:
    """Asks a base or a checkpoint a set of questions; keeps what was answered when interrupted.

    The network is loaded when the first question has to be asked, so that an evaluation that
    exists already costs nothing.

    Args:
        folder: of the base.
        view: what is shown with every question.
        settings: length of answers.
        training: gives the most tokens of one pass and the seed of the shuffled control.
    """

    def __init__(
        self, folder: Path, view: ViewConfig, settings: EvalConfig, training: TrainingSettings
    ) -> None:
        self._folder, self._view = folder, view
        self._settings, self._training = settings, training
        read_config(folder)
        self._fingerprint = fingerprint(folder)
        self._base: Base | None = None

    def run(
        self, checkpoint: Path | None, samples: Sequence[Sample], folder: Path, salt: str = ""
    ) -> list[Prediction]:
        """Answers to all samples, from ``folder/predictions.jsonl`` where they are there.

        Args:
            checkpoint: whose adapter is put on; None asks the untouched base.
            samples: the questions.
            folder: of this evaluation.
            salt: further text that identifies the evaluation.
        """
        key = self._key(checkpoint, samples, salt)
        done = folder / "predictions.jsonl"
        if done.is_file() and read_json(folder / "inputs.json") == _inputs(key, done):
            say(f"{folder.name}: {done} is up to date")
            return read_predictions(done)
        team = processes()
        folder.mkdir(parents=True, exist_ok=True)
        mine = _batches(samples)[team.process_index :: team.num_processes]
        self._answer(checkpoint, mine, _partial(folder, team.process_index), key)
        team.wait_for_everyone()
        partials = [_partial(folder, rank) for rank in range(team.num_processes)]
        known = {p.id: p for path in partials for p in _read_partial(path, key)}
        predictions = [known[s.id] for s in samples]
        team.wait_for_everyone()
        if team.is_main_process:
            write_predictions(done, predictions)
            write_json(folder / "inputs.json", _inputs(key, done))
            for path in folder.glob("predictions.partial-*.jsonl"):
                path.unlink()
        team.wait_for_everyone()
        return predictions

    def _answer(
        self, checkpoint: Path | None, batches: list[list[list[Sample]]], partial: Path, key: str
    ) -> None:
        """Ask batch after batch, writing down each; what ``partial`` holds is not asked again."""
        known = {p.id: p for p in _read_partial(partial, key)}
        with atomic_write(partial) as file:  # without what was cut short
            file.write(json.dumps({"key": key}) + "\n")
            file.writelines(_line(p) for p in known.values())
        total = sum(len(group) for groups in batches for group in groups)
        with (
            self._model(checkpoint) as (base, model),
            partial.open("a", encoding="utf-8") as file,
            Progress(f"asking ({partial.parent.name})", total, "questions", len(known)) as bar,
        ):
            for groups in batches:
                # A batch is asked as a whole or not at all: packed otherwise, rounding differs.
                if all(s.id in known for group in groups for s in group):
                    continue
                found = [p for p in self._ask(base, model, groups) if p.id not in known]
                file.writelines(map(_line, found))
                file.flush()
                bar.advance(len(found))

    def run_shuffled(
        self, checkpoint: Path, samples: Sequence[Sample], folder: Path
    ) -> list[Prediction] | None:
        """The same questions asked of other images; None where there is only one image.

        The predictions name the image the question belongs to, so that they pair with the others.
        """
        images = list(dict.fromkeys(s.image for s in samples))
        if len(images) < 2:
            return None
        other = shuffle_images(images, self._training.seed)
        own = {s.id: s.image for s in samples}
        moved = [replace(s, image=other[s.image]) for s in samples]
        found = self.run(checkpoint, moved, folder, salt="shuffled")
        return [replace(p, image=own[p.id]) for p in found]

    @contextlib.contextmanager
    def _model(self, checkpoint: Path | None) -> Iterator[tuple[Base, Any]]:
        """The base, with a checkpoint's adapter in place while the context lasts."""
        if self._base is None:
            device = choose_device()
            dtype = weights_dtype(device, self._training.bf16)
            self._base = load_base(self._folder, self._view, device, dtype)
        if checkpoint is None:
            yield self._base, self._base.model
            return
        adapted = attach_adapter(self._base, checkpoint)
        try:
            yield self._base, adapted
        finally:
            adapted.unload()

    def _ask(self, base: Base, model: Any, groups: list[list[Sample]]) -> list[Prediction]:
        answers = answer(
            base,
            model,
            [(base.images.read(g[0].image), [s.question for s in g]) for g in groups],
            max_new_tokens=self._settings.max_new_tokens,
            budget=self._training.max_tokens_per_pack or BUDGETS[model.device.type],
        )
        return [
            _predict(sample, one.text, one.confidence)
            for group, found in zip(groups, answers, strict=True)
            for sample, one in zip(group, found, strict=True)
        ]

    def _key(self, checkpoint: Path | None, samples: Sequence[Sample], salt: str) -> str:
        """Digest of all that decides the answers."""
        adapter = sha256(checkpoint / ADAPTER) if checkpoint else "none"
        parts = [self._fingerprint, adapter, salt, self._view.model_dump_json()]
        parts.append(str(self._settings.max_new_tokens))
        digest = hashlib.sha256()
        for part in (*parts, *map(repr, samples)):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


def _inputs(key: str, predictions: Path) -> dict[str, str]:
    """What tells whether predictions are there, whole, and from the same inputs."""
    return {"key": key, "sha256": sha256(predictions)}


def _partial(folder: Path, rank: int) -> Path:
    """Where a process writes its answers until the evaluation is complete."""
    return folder / f"predictions.partial-{rank}.jsonl"


def _line(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction), ensure_ascii=False) + "\n"


def _batches(samples: Sequence[Sample]) -> list[list[list[Sample]]]:
    """Samples grouped by image, some images at a time."""
    batches: list[list[list[Sample]]] = [[]]
    for group in group_by_image(samples):
        batches[-1].append(group)
        if sum(map(len, batches[-1])) >= QUESTIONS_AT_ONCE:
            batches.append([])
    return [b for b in batches if b]


def _predict(sample: Sample, text: str, confidence: float) -> Prediction:
    kind = type_of(sample)
    found = normalise(text, kind)
    return Prediction(
        id=sample.id,
        image=sample.image,
        question=sample.question,
        type=kind,
        answer=sample.answer,
        prediction=text if found is None else found,
        text=text,
        confidence=round(confidence, 6),
    )


def _read_partial(path: Path, key: str) -> list[Prediction]:
    """What an interrupted evaluation with the same inputs had answered; a torn line ends it."""
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    first, *lines = whole.split("\n")
    if first != json.dumps({"key": key}):
        return []
    return [Prediction(**json.loads(line)) for line in lines]


def _print_samples(before: list[Prediction], after: list[Prediction], most: int) -> None:
    """Some answers of different types, before and after."""
    by_type: dict[str, list[tuple[Prediction, Prediction]]] = {}
    for pair in zip(before, after, strict=True):
        by_type.setdefault(pair[0].type, []).append(pair)
    chosen = [pair for row in zip(*by_type.values(), strict=False) for pair in row][:most]
    if chosen:
        say("\nsome answers (truth | before | after)")
    for old, new in chosen:
        say(f"  {old.question}  {old.answer} | {old.text[:40]!r} | {new.text[:40]!r}")
