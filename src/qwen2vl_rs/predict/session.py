"""A model ready to be asked: a base, or a checkpoint on its base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Config, EvalConfig, InputConfig
from ..engine.candidates import Choice, choose_candidates
from ..engine.decoding import Answer, answer
from ..engine.memory import explained_shortage, token_budget
from ..engine.vision import encoded
from ..errors import ConfigError
from ..hardware.devices import choose_device
from ..hardware.precision import choose_precision
from ..models.adapter_files import ADAPTER
from ..models.images import ImageInput
from ..models.loader import Base, CheckpointMetadata, attach_adapter, load_base, read_config
from ..models.located import Located, locate
from ..question_tree.attention_check import Heads, choose_attention
from ..questions.grammar import question_type
from ..questions.registry import type_named
from ..system.console import warn
from ..system.files import sha256
from .settings import answer_settings

_REMEDY = "ask about a smaller image, or fewer questions at once"
_DEFAULT = answer_settings(Config())

# images with their questions; each with the texts it is answered from, None to write the answer
Groups = Sequence[tuple[ImageInput, Sequence[tuple[str, tuple[str, ...] | None]]]]


def load_to_answer(
    folder: Path, view: InputConfig, settings: EvalConfig, name: str | None = None
) -> tuple[Base, str]:
    """A base in the precision and with the attention of some settings, and which that is.

    Args:
        folder: of the base.
        view: what is shown with every question.
        settings: how answers are given.
        name: of the device, see `hardware.devices.choose_device`.

    Raises:
        ModelError: it cannot be used.
        ConfigError: the device has not what is set.
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
        text: as the model gave it.
        type: of the question, see `questions.grammar.question_type`.
        confidence: probability of ``text``, among ``shares`` where they are there.
        prompt_tokens: tokens of the prompt, the image's among them.
        ids: tokens of a written answer, without the end token.
        whole: whether it ended by itself, and not by the bound on its length.
        shares: probability of each word to choose from; None where the answer was written.
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
        base: the base.
        model: its network, with or without adapter.
        view: how images and questions are shown.
        card: of the checkpoint; None for a base, which has no adapter.
        name: of the model, for people.
        digest: tells models apart, and how they answer.
        settings: how answers are given.

    Attributes:
        budget: most tokens of one pass.
        max_new_tokens: longest written answer in tokens.
    """

    base: Base
    model: Any
    view: InputConfig
    card: CheckpointMetadata | None
    name: str
    digest: str
    settings: EvalConfig = _DEFAULT

    def __post_init__(self) -> None:
        self.budget = token_budget(self.model, self.settings.max_tokens_per_pack)
        self.max_new_tokens = self.settings.max_new_tokens

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter that can be taken off."""
        return self.card is not None

    @classmethod
    def open(cls, folder: Path, base_folder: Path | None = None, device: str | None = None) -> Self:
        """Load a model.

        Args:
            folder: a run (its newest checkpoint), a checkpoint, or a base.
            base_folder: the base of a checkpoint; None for where it was when it was trained on.
            device: ``cpu``, ``cuda`` or ``cuda:N``; None for the first GPU, else the CPU.

        Raises:
            ModelError: the folder holds no model of ours.
            RunError: the run has no checkpoint yet.
        """
        return cls.of(locate(folder, base_folder), device)

    @classmethod
    def of(cls, found: Located, device: str | None = None) -> Self:
        """Load a model that is found on disk; see `open`."""
        settings = answer_settings(found.run.config())
        if settings.attention is None:  # the other takes half a minute to be compiled and checked
            settings = settings.model_copy(update={"attention": "branches"})
        base, model = _loaded(found, settings, device)
        digest = base.fingerprint
        if found.checkpoint:
            digest = f"{digest} {sha256(found.checkpoint / ADAPTER)}"
        # as it was before there were such settings
        how = (settings.max_new_tokens, settings.bf16, settings.fp16)
        if how != (_DEFAULT.max_new_tokens, None, None):
            digest = f"{digest} {how}"
        return cls(base, model, found.view, found.card, found.name, digest, settings)

    @contextlib.contextmanager
    def shared(self, settings: EvalConfig, *, adapted: bool) -> Iterator[Self]:
        """The same model with other settings, with or without its adapter."""
        bare = self.model.disable_adapter() if self.has_adapter and not adapted else None
        with bare or contextlib.nullcontext():
            yield replace(self, settings=settings)

    def read(self, path: str | Path) -> ImageInput:
        """Read an image file.

        Raises:
            ImageError: it cannot be used.
        """
        return self.base.images.read(path)

    def preprocess(self, rgb: NDArray[np.uint8]) -> ImageInput:
        """An image of shape (height, width, 3), ready to be encoded; any thread may call this."""
        return self.base.images.preprocess(rgb)

    def shortened(self, reply: ModelAnswer, most: int) -> ModelAnswer:
        """An answer as it is where only so many tokens may be written: decoding is greedy."""
        if reply.shares or len(reply.ids) < most:
            return reply
        ids = reply.ids[:most]
        return replace(reply, text=self.base.prompts.decode(list(ids)), ids=ids, whole=False)

    @torch.inference_mode()
    def encode(self, pixels: ImageInput) -> ImageInput:
        """The image as the vision tower sees it, to be asked about again without its cost."""
        with explained_shortage(self.budget, _REMEDY):
            return encoded(self.model, [pixels])[0]

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
            closed: choose between yes and no, rural and urban, or the letters of a question's
                options, where the question asks for that, with exact probabilities.
            use_adapter: whether the fine-tuned model answers, or its base.

        Returns:
            For each image the replies in the order of its questions.
        """
        bare = self.model.disable_adapter() if self.has_adapter and not use_adapter else None
        kinds = [[question_type(self.view.bare(q)) for q in row] for _, row in groups]
        words = [
            [words_of(kind, q) if closed else None for kind, q in zip(row, qs, strict=True)]
            for row, (_, qs) in zip(kinds, groups, strict=True)
        ]
        each = zip(groups, words, strict=True)
        with bare or contextlib.nullcontext():
            found = self.answers([(px, list(zip(qs, w, strict=True))) for (px, qs), w in each])
        return [
            [self._told(px, *one) for one in zip(questions, row, said, strict=True)]
            for (px, questions), row, said in zip(groups, kinds, found, strict=True)
        ]

    @torch.inference_mode()
    def answers(self, groups: Groups, remedy: str = _REMEDY) -> list[list[Answer | Choice]]:
        """What the network gives: choices among texts, where there are some, else written answers.

        Args:
            groups: images with their questions.
            remedy: what to do where the memory does not suffice.
        """
        with explained_shortage(self.budget, remedy):
            images = encoded(self.model, [px for px, _ in groups])
            rows = [(px, row) for px, (_, row) in zip(images, groups, strict=True)]
            open_ = [(px, [q for q, texts in row if texts is None]) for px, row in rows]
            shut = [(px, [(q, t) for q, t in row if t is not None]) for px, row in rows]
            base, model, most = self.base, self.model, self.max_new_tokens
            given = answer(base, model, open_, max_new_tokens=most, budget=self.budget)
            chosen = chain(*choose_candidates(base, model, shut, budget=self.budget))
            written = chain(*given)
            return [[next(written) if t is None else next(chosen) for _, t in r] for _, r in rows]

    def _told(
        self, pixels: ImageInput, question: str, kind: str, said: Answer | Choice
    ) -> ModelAnswer:
        fed = self._fed(pixels, question)
        if isinstance(said, Answer):
            whole = len(said.ids) < self.max_new_tokens
            return ModelAnswer(said.text, kind, said.confidence, fed, said.ids, whole)
        by_word = dict(zip(words_of(kind, question) or (), said.shares.tolist(), strict=True))
        return ModelAnswer(said.text, kind, max(by_word.values()), fed, shares=by_word)

    def _fed(self, pixels: ImageInput, question: str) -> int:
        """Tokens of a prompt."""
        prompts = self.base.prompts
        text = len(prompts.head) + len(prompts.tail) + len(prompts.question_ids(question))
        return text + pixels.tokens


def _loaded(found: Located, settings: EvalConfig, name: str | None) -> tuple[Base, Any]:
    """A base, and its network with the checkpoint's adapter."""
    try:
        base, _ = load_to_answer(found.base, found.view, settings, name)
    except ConfigError as error:  # trained on another device
        warn(f"{error.message}: what suits this device is used")
        plain = settings.model_copy(update=dict.fromkeys(("attention", "bf16", "fp16")))
        base, _ = load_to_answer(found.base, found.view, plain, name)
    return base, attach_adapter(base, found.checkpoint) if found.checkpoint else base.model


def words_of(kind: str, question: str) -> tuple[str, ...] | None:
    """The words to choose from where everybody uses the same, or the question names them.

    None for other types: what a model was taught to write as numbers, or as other words, a
    checkpoint does not say.
    """
    return tuple(sorted(type_named(kind).of_question(question).choices)) or None
