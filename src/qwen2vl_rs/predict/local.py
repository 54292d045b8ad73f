"""Inference on this machine: a base model, or a checkpoint of it, in all processes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from ..config import Config, InputConfig
from ..datasets.split import group_by_image
from ..engine.candidates import Choice, pick_class
from ..engine.prefetch import prefetch
from ..hardware.devices import processes, split_work
from ..models.adapter_files import ADAPTER
from ..models.adapter_weights import remove_adapter
from ..models.family import family_of
from ..models.fingerprint import fingerprint
from ..models.images import ImageInput
from ..models.loader import Base, attach_adapter, read_config
from ..questions.answer_sets import AnswerSet, answer_sets, question_answer_set
from ..questions.class_sets import DatasetName
from ..questions.grammar import type_of
from ..raster import image_size
from ..system.console import counted, say
from ..system.files import sha256
from ..types import Sample
from .job import batched
from .predictor import Batch, Replies, Reply
from .session import Session, load_to_answer
from .settings import answer_settings

_QUESTION_TOKENS = 16  # average of a question with its answer


class LocalBase:
    """A base model that answers with and without adapters.

    It is loaded for the first missing prediction, so an evaluation that is up to date loads
    nothing.

    Args:
        folder: the base model's folder.
        view: the input settings: image conversion and prompt.
        config: the settings of evaluation.
        taught: the training questions, the source of the candidate answers.
        dataset: the dataset that gives the label sets.
        opened: returns the model if it is loaded already.
    """

    def __init__(
        self,
        folder: Path,
        view: InputConfig,
        config: Config,
        taught: Iterable[Sample] | None = None,
        dataset: DatasetName | None = None,
        opened: Callable[[], Session] | None = None,
    ) -> None:
        self.folder, self.view, self.settings = folder, view, answer_settings(config)
        self.sets: Mapping[str, AnswerSet] = {}
        if self.settings.answers == "closed":
            self.sets = answer_sets(list(taught or ()), (dataset or DatasetName()).name)
        network = read_config(folder)
        self.token_side = family_of(network).token_side(network)
        self.fingerprint = fingerprint(folder)
        self._base: Base | None = None
        self._opened = opened

    @contextlib.contextmanager
    def session(self, checkpoint: Path | None) -> Iterator[Session]:
        """Provide the model with a checkpoint's adapter for the duration of the context."""
        if self._opened:
            with self._opened().shared(self.settings, adapted=checkpoint is not None) as session:
                yield session
            return
        if self._base is None:
            self._base, how = load_to_answer(self.folder, self.view, self.settings)
            say(how)
        base = self._base
        model = attach_adapter(base, checkpoint) if checkpoint else base.model
        try:
            yield Session(base, model, self.view, None, "", "", self.settings)
        finally:
            if checkpoint:
                remove_adapter(model)


class LocalPredictor:
    """A `Predictor` on this machine.

    Args:
        base: the base.
        checkpoint: the checkpoint with the adapter; None for the base model.
    """

    def __init__(self, base: LocalBase, checkpoint: Path | None) -> None:
        self._of, self._path = base, checkpoint
        self.checkpoint = checkpoint.name if checkpoint else ""
        self.team = processes()

    def key_parts(self, shuffled: bool) -> list[str]:
        """Return the fingerprints of base model, adapter, input and answer settings."""
        of, settings = self._of, self._of.settings
        adapter = sha256(self._path / ADAPTER) if self._path else "none"
        parts = [of.fingerprint, adapter, "shuffled" if shuffled else ""]
        parts += [of.view.model_dump_json(), str(settings.max_new_tokens)]
        return [*parts, repr(sorted(of.sets.items())), f"{settings.bf16} {settings.fp16}"]

    def batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """Return this process's share of the questions, as batches of whole images."""
        if self._of.settings.answers == "closed":
            _describe(self._of.sets, Counter(type_of(s) for s in samples if not _own(s)))
        every = [list(chain(*groups)) for groups in batched(group_by_image(samples))]
        shares = split_work(list(map(self._weight, every)), self.team.num_processes)
        return [every[i] for i in shares[self.team.process_index]]

    def _weight(self, batch: Batch) -> int:
        """Estimate the tokens of a batch."""
        token, most = self._of.token_side**2, self._of.view.max_pixels
        sizes = map(image_size, dict.fromkeys(sample.image for sample in batch))
        images = sum(min(width * height, most) // token for width, height in sizes)
        return images + _QUESTION_TOKENS * len(batch)

    @contextlib.contextmanager
    def answer_batches(self, batches: Sequence[Batch]) -> Iterator[Replies]:
        """Yield the replies, batch by batch."""
        groups = [group_by_image(batch) for batch in batches]
        with self._of.session(self._path) as session:
            pixels = prefetch(lambda some: [session.read(g[0].image) for g in some], groups)
            yield (self._ask(session, *one) for one in zip(groups, pixels, strict=True))

    def _ask(
        self, session: Session, groups: Sequence[Batch], images: Sequence[ImageInput]
    ) -> list[tuple[Sample, Reply]]:
        """Return the replies to a batch: ranked if the type has candidates, else generated."""
        sets = [list(map(self._set, group)) for group in groups]
        asked = [
            (px, [(s.question, a.texts if a else None) for s, a in zip(group, own, strict=True)])
            for px, group, own in zip(images, groups, sets, strict=True)
        ]
        lower = f"eval.max_tokens_per_pack={max(64, session.budget // 2)}"
        found = session.answers(
            asked, f"use smaller packs, the results are the same: --set {lower}"
        )
        replies = []
        for sample, own, said in zip(chain(*groups), chain(*sets), chain(*found), strict=True):
            if isinstance(said, Choice) and own:
                text, share = pick_class(said, own)
                replies.append((sample, Reply(text, confidence=share)))
            elif not isinstance(said, Choice):
                cut = len(said.ids) >= session.max_new_tokens
                replies.append((sample, Reply(said.text, cut, said.confidence)))
        return replies

    def _set(self, sample: Sample) -> AnswerSet | None:
        """Return the candidate answers of a question; None for a generated answer."""
        if self._of.settings.answers != "closed":
            return None
        return _own(sample) or self._of.sets.get(type_of(sample))


def _own(sample: Sample) -> AnswerSet | None:
    return question_answer_set(type_of(sample), sample.question)


def _describe(sets: Mapping[str, AnswerSet], types: Counter[str]) -> None:
    """Print which candidate answers were left out, and which questions have none."""
    for kind in types:
        if kind not in sets:
            say(f"no candidates for {kind}: {counted(types[kind], 'question')}, generated answers")
        elif sets[kind].covered < 1:
            one = sets[kind]
            say(f"{kind}: {len(one.texts):,} candidates, {one.covered:.1%} of the training answers")
