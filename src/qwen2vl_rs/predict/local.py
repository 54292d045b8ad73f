"""Asking: all questions of a set put to a base or a checkpoint, and kept when interrupted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..config import EvalConfig, TrainingSettings, ViewConfig
from ..datasets.split import group_by_image
from ..engine.candidates import choose as choose_answers
from ..engine.candidates import pick_class
from ..engine.decoding import answer
from ..engine.memory import explained_shortage, token_budget
from ..engine.prefetch import ahead
from ..engine.vision import encoded
from ..hardware.devices import choose_device, processes, share_out
from ..hardware.precision import choose_precision
from ..models.adapter_files import ADAPTER
from ..models.family import family_of
from ..models.fingerprint import fingerprint
from ..models.images import Pixels
from ..models.loader import Base, attach_adapter, load_base, read_config
from ..question_tree.attention_check import Heads, choose
from ..questions.answer_sets import AnswerSet, answer_sets
from ..questions.class_sets import Dataset
from ..questions.grammar import type_of
from ..raster import image_size
from ..system.console import say
from ..system.files import sha256
from ..types import Prediction, Sample
from .job import Job, Reply, predict, with_other_images, with_own_images

QUESTIONS_AT_ONCE = 200  # asked between two writes to disk
_QUESTION_TOKENS = 16  # of a question with its answer, on average
Batch = list[list[Sample]]  # questions of some images, by image


class Evaluator:
    """Asks a base or a checkpoint a set of questions; keeps what was answered when interrupted.

    The network is loaded when the first question has to be asked, so that an evaluation that
    exists already costs nothing.

    Args:
        folder: of the base.
        view: what is shown with every question.
        settings: how answers are given.
        training: gives the most tokens of one pass and the seed of the shuffled control.
        taught: the training questions, from which answer sets take their candidates.
        dataset: whose classes apply.
    """

    def __init__(
        self,
        folder: Path,
        view: ViewConfig,
        settings: EvalConfig,
        training: TrainingSettings,
        taught: Iterable[Sample] = (),
        dataset: Dataset | None = None,
    ) -> None:
        self._folder, self._view = folder, view
        self._settings, self._training = settings, training
        self._taught = list(taught) if settings.answers == "closed" else []
        self._sets: Mapping[str, AnswerSet] = {}
        self._dataset = dataset or Dataset()
        config = read_config(folder)
        self._token_side = family_of(config).token_side(config)
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
        if self._settings.answers == "closed":
            self._sets = answer_sets(self._taught, self._dataset.name)
            _describe(self._sets, Counter(map(type_of, samples)))
        who = checkpoint.name if checkpoint else ""
        job = Job(samples, folder, self._made_by(checkpoint, salt), self._dataset.written, who)
        team = processes()
        if (found := job.ready()) is not None:
            team.wait_for_everyone()  # until all have read it
            if team.is_main_process:
                job.keep(found)
            return found
        batches = _batches(samples)
        shares = share_out([self._weight(b) for b in batches], team.num_processes)
        self._answer(checkpoint, [batches[i] for i in shares[team.process_index]], job)
        team.wait_for_everyone()
        predictions = job.collected(team.num_processes)
        team.wait_for_everyone()
        if team.is_main_process:
            job.finish(team.num_processes)
        team.wait_for_everyone()
        return predictions

    def _weight(self, batch: Batch) -> int:
        """About how many tokens a batch takes."""
        token = self._token_side**2  # pixels
        sizes = (image_size(group[0].image) for group in batch)
        images = sum(min(width * height, self._view.max_pixels) // token for width, height in sizes)
        return images + _QUESTION_TOKENS * sum(map(len, batch))

    def _answer(self, checkpoint: Path | None, batches: list[Batch], job: Job) -> None:
        """Ask batch after batch, writing down each."""
        process = processes().process_index
        total = sum(len(group) for groups in batches for group in groups)
        known = job.answered(process)
        # A batch is asked as a whole or not at all: packed otherwise, rounding differs.
        missing = [b for b in batches if not all(s.id in known for g in b for s in g)]
        if not missing:
            return
        with self._model(checkpoint) as (base, model), job.asking(total, process) as log:
            pixels = ahead(lambda batch: [base.images.read(g[0].image) for g in batch], missing)
            for groups, images in zip(missing, pixels, strict=True):
                log.add(self._ask(base, model, groups, images))

    def run_shuffled(
        self, checkpoint: Path | None, samples: Sequence[Sample], folder: Path
    ) -> list[Prediction] | None:
        """The same questions asked of other images; None where there is only one image.

        The predictions name the image the question belongs to, so that they pair with the others.
        """
        moved = with_other_images(samples, self._training.seed)
        if moved is None:
            return None
        return with_own_images(self.run(checkpoint, moved, folder, salt="shuffled"), samples)

    @contextlib.contextmanager
    def _model(self, checkpoint: Path | None) -> Iterator[tuple[Base, Any]]:
        """The base, with a checkpoint's adapter in place while the context lasts."""
        if self._base is None:
            device = choose_device()
            settings = self._training
            dtype = choose_precision(device, settings.bf16, settings.fp16).weights
            heads = Heads.of(read_config(self._folder))
            kind, why = choose(device, dtype, heads, settings.attention)
            say(f"attention: {kind} ({why})")
            self._base = load_base(self._folder, self._view, device, dtype, kind)
        if checkpoint is None:
            yield self._base, self._base.model
            return
        adapted = attach_adapter(self._base, checkpoint)
        try:
            yield self._base, adapted
        finally:
            adapted.unload()

    def _ask(
        self, base: Base, model: Any, groups: Batch, images: Sequence[Pixels]
    ) -> Iterator[Prediction]:
        """Answers to a batch: chosen where the type has an answer set, else written."""
        budget = token_budget(model, self._training.max_tokens_per_pack)
        with explained_shortage(budget):
            images = encoded(model, images)
            open_, shut = (
                [[s for s in group if (type_of(s) in self._sets) is closed] for group in groups]
                for closed in (False, True)
            )
            written = answer(
                base,
                model,
                [(px, [s.question for s in some]) for px, some in zip(images, open_, strict=True)],
                max_new_tokens=self._settings.max_new_tokens,
                budget=budget,
            )
            asked = [
                (px, [(s.question, self._sets[type_of(s)].texts) for s in some])
                for px, some in zip(images, shut, strict=True)
            ]
            chosen = choose_answers(base, model, asked, budget=budget)
        for sample, said in zip(chain(*open_), chain(*written), strict=True):
            cut = len(said.ids) >= self._settings.max_new_tokens
            yield predict(sample, Reply(said.text, cut, said.confidence))
        for sample, choice in zip(chain(*shut), chain(*chosen), strict=True):
            text, share = pick_class(choice, self._sets[type_of(sample)])
            yield predict(sample, Reply(text, confidence=share))

    def _made_by(self, checkpoint: Path | None, salt: str) -> list[str]:
        """All that decides the answers, beside questions and images."""
        adapter = sha256(checkpoint / ADAPTER) if checkpoint else "none"
        parts = [self._fingerprint, adapter, salt, self._view.model_dump_json()]
        parts += [str(self._settings.max_new_tokens), repr(sorted(self._sets.items()))]
        return [*parts, f"{self._training.bf16} {self._training.fp16}"]


def _describe(sets: Mapping[str, AnswerSet], types: Counter[str]) -> None:
    """Say what is not among the candidates, and which questions have none."""
    for kind in types:
        if kind not in sets:
            say(f"no answer set for {kind}: {types[kind]:,} questions are answered freely")
        elif sets[kind].covered < 1:
            one = sets[kind]
            say(f"{kind}: {len(one.texts):,} candidates, {one.covered:.1%} of the training answers")


def _batches(samples: Sequence[Sample]) -> list[list[list[Sample]]]:
    """Samples grouped by image, some images at a time."""
    batches: list[list[list[Sample]]] = [[]]
    for group in group_by_image(samples):
        batches[-1].append(group)
        if sum(map(len, batches[-1])) >= QUESTIONS_AT_ONCE:
            batches.append([])
    return [b for b in batches if b]
