"""A loaded model that answers questions: a base model, possibly with a checkpoint's adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Config, EvalConfig, InputConfig
from ..engine.candidates import Choice, choose_candidates
from ..engine.decoding import Answer, answer
from ..engine.memory import memory_hint, token_budget
from ..engine.vision import with_features
from ..errors import ConfigError
from ..hardware.devices import choose_device
from ..hardware.precision import choose_precision
from ..models.adapter_files import ADAPTER
from ..models.adapter_weights import adapts_vision
from ..models.images import ImageInput
from ..models.loader import Base, CheckpointMetadata, attach_adapter, load_base, read_config
from ..models.location import ModelLocation, locate
from ..question_tree.attention_check import Heads, choose_attention
from ..questions.grammar import question_type
from ..questions.registry import type_named
from ..system.console import warn
from ..system.files import sha256
from .settings import answer_settings

_REMEDY = "ask about a smaller image, or fewer questions at once"
_DEFAULT = answer_settings(Config())

# images with their questions; each question with its candidate answers, None to generate
Groups = Sequence[tuple[ImageInput, Sequence[tuple[str, tuple[str, ...] | None]]]]


def load_to_answer(
    folder: Path, view: InputConfig, settings: EvalConfig, name: str | None = None
) -> tuple[Base, str]:
    """Load a base model for inference, and describe its attention.

    Args:
        folder: the base model's folder.
        view: the input settings: image conversion and prompt.
        settings: the settings of evaluation.
        name: the device, see `hardware.devices.choose_device`.

    Raises:
        ModelError: it is not usable.
        ConfigError: the device does not support a setting.
    """
    device = choose_device(name)
    dtype = choose_precision(device, settings.bf16, settings.fp16, "eval").weights
    heads = Heads.of(read_config(folder))
    kind, why = choose_attention(device, dtype, heads, settings.attention, "eval")
    return load_base(folder, view, device, dtype, kind), f"attention: {kind} ({why})"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """An answer.

    Attributes:
        text: the model's text.
        type: the question's type, see `questions.grammar.question_type`.
        confidence: probability of ``text``; among ``shares``, if given.
        prompt_tokens: tokens of the prompt, image included.
        ids: token ids of a generated answer, without the end token.
        whole: whether it ended by itself, not at the maximum number of tokens.
        shares: probability of each candidate; None for a generated answer.
    """

    text: str
    type: str
    confidence: float
    prompt_tokens: int
    ids: tuple[int, ...] = ()
    whole: bool = True
    shares: Mapping[str, float] | None = None


@dataclass(eq=False, repr=False)
class Session:
    """Answers questions about images, each image encoded once.

    Args:
        base: the base model.
        model: its network, with or without adapter.
        view: the input settings: image conversion and prompt.
        card: metadata of the checkpoint; None for a base model, which has no adapter.
        name: name of the model, for display.
        digest: identifies model and answer settings.
        settings: the settings of evaluation.

    Attributes:
        budget: maximum tokens of a pass.
        max_new_tokens: maximum tokens of a generated answer.
    """

    base: Base
    model: Any
    view: InputConfig
    metadata: CheckpointMetadata | None
    name: str
    digest: str
    settings: EvalConfig = _DEFAULT

    def __post_init__(self) -> None:
        self.budget = token_budget(self.model, self.settings.max_tokens_per_pack)
        self.max_new_tokens = self.settings.max_new_tokens

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter."""
        return self.metadata is not None

    @classmethod
    def open(
        cls,
        folder: Path,
        base_folder: Path | None = None,
        device: str | None = None,
        checkpoint: str | None = None,
    ) -> Self:
        """Load a model.

        Args:
            folder: a run, a checkpoint, or a base model.
            base_folder: the base model of a checkpoint; None for the one that it records.
            device: ``cpu``, ``cuda`` or ``cuda:N``; None for the first GPU, else the CPU.
            checkpoint: the checkpoint of a run, see `Run.choose_checkpoint`.

        Raises:
            ModelError: the folder does not hold a usable model.
            RunError: the run has no checkpoint yet.
        """
        return cls.of(locate(folder, base_folder, checkpoint), device)

    @classmethod
    def of(cls, found: ModelLocation, device: str | None = None) -> Self:
        """Load a located model; see `open`."""
        settings = answer_settings(found.run.config())
        if settings.attention is None:  # FlexAttention takes half a minute to compile and check
            settings = settings.model_copy(update={"attention": "branches"})
        base, model = _loaded(found, settings, device)
        digest = base.fingerprint
        if found.checkpoint:
            digest = f"{digest} {sha256(found.checkpoint / ADAPTER)}"
        # without them the digest is that of versions before these settings
        how = (settings.max_new_tokens, settings.bf16, settings.fp16)
        if how != (_DEFAULT.max_new_tokens, None, None):
            digest = f"{digest} {how}"
        return cls(base, model, found.view, found.metadata, found.name, digest, settings)

    @contextlib.contextmanager
    def shared(self, settings: EvalConfig, *, adapted: bool) -> Iterator[Self]:
        """Provide the same model with other settings, with or without its adapter."""
        with self._chosen(adapted):
            yield replace(self, settings=settings)

    def read(self, path: str | Path) -> ImageInput:
        """Read an image file.

        Raises:
            ImageError: it is not usable.
        """
        return self.base.images.read(path)

    def preprocess(self, rgb: NDArray[np.uint8]) -> ImageInput:
        """Preprocess an image of shape (height, width, 3); thread-safe."""
        return self.base.images.preprocess(rgb)

    def shortened(self, reply: ModelAnswer, most: int) -> ModelAnswer:
        """Truncate an answer to ``most`` tokens, as decoding is greedy."""
        if reply.shares or len(reply.ids) < most:
            return reply
        ids = reply.ids[:most]
        return replace(reply, text=self.base.prompts.decode(list(ids)), ids=ids, whole=False)

    @cached_property
    def adapts_vision(self) -> bool:
        """Whether an image has other features with the adapter than without."""
        return adapts_vision(self.model)

    @torch.inference_mode()
    def encode(self, pixels: ImageInput, *, use_adapter: bool = True) -> ImageInput:
        """Return the image with its features, so that further questions need no encoding.

        Where the adapter changes the vision tower or merger, the features are for questions with
        the same ``use_adapter``.
        """
        with memory_hint(self.budget, _REMEDY), self._chosen(use_adapter):
            return with_features(self.model, [pixels])[0]

    def _chosen(self, use_adapter: bool) -> AbstractContextManager[None]:
        """Switch the adapter off inside the context, if there is one and it is not wanted."""
        if self.has_adapter and not use_adapter:
            off: AbstractContextManager[None] = self.model.disable_adapter()
            return off
        return contextlib.nullcontext()

    def ask(
        self,
        groups: Sequence[tuple[ImageInput, Sequence[str]]],
        *,
        closed: bool = False,
        use_adapter: bool = True,
    ) -> list[list[ModelAnswer]]:
        """Ask questions about some images.

        Args:
            groups: images with their questions.
            closed: rank the candidates of yes/no, rural/urban and multiple-choice questions, with
                exact probabilities.
            use_adapter: whether the adapter is used, if there is one.

        Returns:
            For each image the answers in the order of its questions.
        """
        kinds = [[question_type(self.view.bare(q)) for q in row] for _, row in groups]
        words = [
            [candidates_of(kind, q) if closed else None for kind, q in zip(row, qs, strict=True)]
            for row, (_, qs) in zip(kinds, groups, strict=True)
        ]
        each = zip(groups, words, strict=True)
        with self._chosen(use_adapter):
            found = self.answers([(px, list(zip(qs, w, strict=True))) for (px, qs), w in each])
        return [
            [self._to_answer(px, *one) for one in zip(questions, row, said, strict=True)]
            for (px, questions), row, said in zip(groups, kinds, found, strict=True)
        ]

    @torch.inference_mode()
    def answers(self, groups: Groups, remedy: str = _REMEDY) -> list[list[Answer | Choice]]:
        """Return choices for questions with candidates, generated answers for others.

        Args:
            groups: images with their questions.
            remedy: the hint for an out-of-memory error.
        """
        with memory_hint(self.budget, remedy):
            images = with_features(self.model, [px for px, _ in groups])
            rows = [(px, row) for px, (_, row) in zip(images, groups, strict=True)]
            open_ = [(px, [q for q, texts in row if texts is None]) for px, row in rows]
            shut = [(px, [(q, t) for q, t in row if t is not None]) for px, row in rows]
            base, model, most = self.base, self.model, self.max_new_tokens
            given = answer(base, model, open_, max_new_tokens=most, budget=self.budget)
            chosen = chain(*choose_candidates(base, model, shut, budget=self.budget))
            written = chain(*given)
            return [[next(written) if t is None else next(chosen) for _, t in r] for _, r in rows]

    def _to_answer(
        self, pixels: ImageInput, question: str, kind: str, said: Answer | Choice
    ) -> ModelAnswer:
        fed = self._fed(pixels, question)
        if isinstance(said, Answer):
            whole = len(said.ids) < self.max_new_tokens
            return ModelAnswer(said.text, kind, said.confidence, fed, said.ids, whole)
        by_word = dict(zip(candidates_of(kind, question) or (), said.shares.tolist(), strict=True))
        return ModelAnswer(said.text, kind, max(by_word.values()), fed, shares=by_word)

    def _fed(self, pixels: ImageInput, question: str) -> int:
        """Return the number of prompt tokens."""
        prompts = self.base.prompts
        text = len(prompts.head) + len(prompts.tail) + len(prompts.question_ids(question))
        return text + pixels.tokens


def _loaded(found: ModelLocation, settings: EvalConfig, name: str | None) -> tuple[Base, Any]:
    """Load a base model, and its network with the checkpoint's adapter."""
    try:
        base, _ = load_to_answer(found.base, found.view, settings, name)
    except ConfigError as error:  # trained on another kind of device
        warn(f"{error.message}; using the default of this device")
        plain = settings.model_copy(update=dict.fromkeys(("attention", "bf16", "fp16")))
        base, _ = load_to_answer(found.base, found.view, plain, name)
    return base, attach_adapter(base, found.checkpoint) if found.checkpoint else base.model


def candidates_of(kind: str, question: str) -> tuple[str, ...] | None:
    """Return the candidates of a question whose type or text fixes them, else None.

    Other types depend on the training answers, which a checkpoint does not contain.
    """
    return tuple(sorted(type_named(kind).of_question(question).choices)) or None
